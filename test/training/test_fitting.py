"""The regressor's outputs decoded, and the loss, against a face of known parameters."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import decoding, expressions, fitting  # noqa: E402
from tddfa_ros.training.crops import CROP  # noqa: E402
from tddfa_ros.training.decoding import POSE_OUTPUTS  # noqa: E402
from tddfa_ros.training.landmark_head import LandmarkRegularised, landmark_loss  # noqa: E402
from tddfa_ros.training.networks import RegressorNet  # noqa: E402
from tddfa_ros.training.sight import rotation_from_angles, spread_points  # noqa: E402

SHAPES, EXPRESSIONS = 40, 16


@given(st.lists(st.floats(-10, 10), min_size=6, max_size=6))
def test_six_numbers_give_a_rotation(six):
    six = np.array(six)
    if min(np.linalg.norm(six[:3]), np.linalg.norm(np.cross(six[:3], six[3:]))) < 1e-2:
        return
    rotation = decoding.rotation_from_six(torch.tensor(six[None])).numpy()[0]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert rotation[0] @ six[:3] > 0


@pytest.fixture(scope="module")
def points(rig):
    return decoding.PointModel.at_truth(rig, spread_points(rig, 30), EXPRESSIONS)


def outputs_for(rotation, scale, centre, shape, expression):
    """The outputs that mean these parameters."""
    share = np.asarray(centre) / (CROP / 2) - 1
    pose = [*rotation[:2].ravel(), np.log(scale / decoding.USUAL_SCALE), *(2 * np.arctanh(share))]
    return torch.tensor(np.concatenate([pose, shape, expression, [3.0]])[None], dtype=torch.float32)


def known_face(rng):
    rotation = rotation_from_angles(0.6, -0.3, 0.2)
    shape = rng.normal(size=SHAPES).astype(np.float32)
    expression = rng.uniform(0, 0.6, EXPRESSIONS).astype(np.float32)
    return rotation, 480.0, (64.0, 57.0), shape, expression


def seen(rig, rotation, scale, centre, shape, expression):
    """(98, 3) points by numpy, from the rig."""
    rig_shape = np.zeros(len(rig.shape_basis), np.float32)
    rig_expression = np.zeros(len(rig.expression_basis), np.float32)
    rig_shape[:SHAPES], rig_expression[:EXPRESSIONS] = shape, expression
    head = rig.pose(rig_shape, rig_expression)
    face = np.concatenate([rig.landmarks.of(head), head[spread_points(rig, 30)]])
    turned = scale * face @ rotation.T
    return np.column_stack([turned[:, :2] * [1, -1] + centre, turned[:, 2]]).astype(np.float32)


def test_decoded_points_are_those_of_the_rig(rig, points, rng):
    face = known_face(rng)
    fit = decoding.decode(outputs_for(*face), SHAPES, EXPRESSIONS)
    np.testing.assert_allclose(fit.rotation[0], face[0], atol=1e-5)
    assert float(fit.scale) == pytest.approx(480, rel=1e-5)
    np.testing.assert_allclose(fit.centre[0], face[2], atol=1e-3)
    np.testing.assert_allclose(points(fit)[0], seen(rig, *face), atol=0.01)


def loss_of(rig, points, outputs, face, is_face=1.0):
    fit = decoding.decode(outputs, SHAPES, EXPRESSIONS)
    truth = {
        "points": torch.tensor(seen(rig, *face))[None],
        "shape": torch.tensor(face[3])[None],
        "expression": torch.tensor(face[4])[None],
        "is_face": torch.tensor([is_face]),
    }
    return fitting.FitLoss(98)(fit, points(fit), truth)


def test_loss_of_the_truth_is_nothing_and_that_of_a_shift_is_its_length(rig, points, rng):
    face = known_face(rng)
    right = loss_of(rig, points, outputs_for(*face), face)
    assert float(right.nme) < 0.01
    assert float(right.points) < 0.002
    assert float(right.expression) < 1e-6
    moved = (*face[:2], (67.0, 61.0), *face[3:])
    flat = seen(rig, *face)[:68, :2]
    size = np.sqrt(np.prod(np.ptp(flat, axis=0)))
    wrong = loss_of(rig, points, outputs_for(*moved), face)
    assert float(wrong.nme) == pytest.approx(100 * 5 / size, rel=1e-3)
    assert float(wrong.points) == pytest.approx(5 / size, rel=2e-3)


def test_of_faces_that_look_alike_the_mean_expression_costs_least(rig, points, rng):
    """Three of four do not blink; the answer that costs least says a quarter, not none."""
    face = known_face(rng)
    blink = expressions.REGRESSED.index("blink_left")

    def expression(value):
        return np.where(np.arange(EXPRESSIONS) == blink, np.float32(value), np.float32(0))

    def cost(value):
        outputs = outputs_for(*face[:4], expression(value))
        truths = [(*face[:4], expression(known)) for known in (0, 0, 0, 1)]
        return sum(float(loss_of(rig, points, outputs, truth).expression) for truth in truths)

    values = np.linspace(0, 1, 21)
    assert values[np.argmin([cost(value) for value in values])] == pytest.approx(0.25)


def test_closure_sees_lids_and_lips_but_no_shift(rig, points, rng):
    face = known_face(rng)
    moved = (*face[:2], (67.0, 61.0), *face[3:])
    shifted = loss_of(rig, points, outputs_for(*moved), face)
    floor = loss_of(rig, points, outputs_for(*face), face)
    assert float(shifted.closure) == pytest.approx(float(floor.closure), abs=1e-5)
    for name in ("jaw_open", "blink_left", "blink_right"):
        other = face[4].copy()
        other[expressions.REGRESSED.index(name)] += 0.5
        wrong = loss_of(rig, points, outputs_for(*face[:4], other), face)
        assert float(wrong.closure) > 2 * float(floor.closure)


def test_distance_with_the_true_coefficients_sees_the_pose_alone(rig, points, rng):
    face = known_face(rng)
    truth = {"points": torch.tensor(seen(rig, *face))[None], "is_face": torch.ones(1)}
    true = {"shape": torch.tensor(face[3])[None], "expression": torch.tensor(face[4])[None]}

    def distance(rotation, shape, expression):
        outputs = outputs_for(rotation, *face[1:3], shape, expression)
        fit = replace(decoding.decode(outputs, SHAPES, EXPRESSIONS), **true)
        return float(fitting.FitLoss(98).distance(points(fit), truth))

    floor = distance(face[0], *face[3:])
    assert distance(face[0], -face[3], 0.6 - face[4]) == pytest.approx(floor, rel=1e-3)
    # A turn by 0.1 about the face's origin moves a point by a tenth of its distance from there.
    turned = rotation_from_angles(0.7, -0.3, 0.2)
    assert distance(turned, *face[3:]) > 10 * floor


def test_crops_without_a_face_teach_only_the_confidence(rig, points, rng):
    face = known_face(rng)
    outputs = outputs_for(*face).requires_grad_()
    loss_of(rig, points, outputs, (*face[:2], (40.0, 40.0), *face[3:]), 0.0).total.backward()
    assert float(outputs.grad[0, :-1].abs().max()) == 0
    assert float(outputs.grad[0, -1]) > 0


def test_network_starts_at_the_mean_face_looking_ahead(rig):
    net = RegressorNet(rig, EXPRESSIONS).eval()
    crops = torch.randint(0, 256, (3, CROP, CROP, 3), dtype=torch.uint8)
    outputs = net(crops)
    assert outputs.shape == (3, POSE_OUTPUTS + SHAPES + EXPRESSIONS + 1)
    fit = decoding.decode(outputs, SHAPES, EXPRESSIONS)
    angle = torch.arccos(((fit.rotation.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
    assert float(angle.max()) < 0.6
    assert float((fit.centre - CROP / 2).abs().max()) < 20


def test_landmark_head_trains_the_shared_features_and_is_not_exported(rig):
    net = RegressorNet(rig, EXPRESSIONS, looks=0)
    whole = LandmarkRegularised(net).eval()
    crops = torch.randint(0, 256, (2, CROP, CROP, 3), dtype=torch.uint8)
    outputs, landmarks = whole(crops)
    assert torch.equal(outputs, net(crops))
    points = torch.cat([landmarks.detach(), torch.zeros(2, 68, 1)], dim=2)
    assert landmark_loss(landmarks, points, torch.ones(2)).item() == 0
    shifted = points + torch.tensor([CROP / 2, 0.0, 5.0])
    loss = landmark_loss(landmarks, shifted, torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(1)
    loss.backward()
    assert net.body[0].weight.grad.abs().max() > 0
    assert net.head.weight.grad is None
    assert not any(name.startswith("landmarks") for name in net.state_dict())
