"""Close-ups: they read where the eyes are, mirror images alike, and learn what pixels show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import close_up, decoding, expressions  # noqa: E402
from tddfa_ros.training.close_up import EYES, OF_EYE, SIDE, CloseUp  # noqa: E402
from tddfa_ros.training.crops import CROP  # noqa: E402
from tddfa_ros.training.mirror import fit_in_mirror  # noqa: E402
from tddfa_ros.training.networks import RegressorNet  # noqa: E402
from tddfa_ros.training.sight import rotation_from_angles  # noqa: E402

EXPRESSIONS = 16
KNOWN = decoding.POSE_OUTPUTS + 40 + EXPRESSIONS


def outputs_of(rotations, log_scale=0.0):
    """Outputs of upright mean faces in the middle of the crop, turned so."""
    outputs = torch.zeros(len(rotations), KNOWN + 1)
    outputs[:, :6] = torch.from_numpy(np.stack(rotations)[:, :2].reshape(-1, 6)).float()
    outputs[:, 6] = log_scale
    return outputs


def fit_of(outputs):
    return decoding.decode(outputs, 40, EXPRESSIONS)


@pytest.fixture(scope="module")
def close(rig):
    torch.manual_seed(3)
    close = CloseUp(rig, EXPRESSIONS)
    torch.nn.init.normal_(close.change.weight)
    return close.eval()


@settings(deadline=None, max_examples=30)
@given(
    yaw=st.floats(-1.4, 1.4),
    roll=st.floats(-2, 2),
    log_scale=st.floats(-0.4, 0.4),
    middles=st.tuples(*4 * [st.floats(30, 90)]),
)
def test_patches_are_upright_of_one_size_and_mirrored(close, yaw, roll, log_scale, middles):
    """However the face is turned about its own axis; pixel centres of the crop count from 0."""
    fit = fit_of(outputs_of([rotation_from_angles(yaw, 0, roll)], log_scale))
    at_eyes = torch.tensor(middles).reshape(1, 2, 2)
    places = close.places(at_eyes, fit)
    assert places.shape == (1, len(EYES) * SIDE, SIDE, 2)
    at = ((places + 1) * (CROP - 1) / 2).reshape(len(EYES), SIDE, SIDE, 2).numpy()
    scale = float(fit.scale)
    right = scale * np.array([np.cos(roll), -np.sin(roll)])
    up = scale * np.array([-np.sin(roll), -np.cos(roll)])
    away = (np.arange(SIDE) - (SIDE - 1) / 2) * 0.002
    for (_, _, way), middle, found in zip(EYES, at_eyes[0].numpy(), at, strict=True):
        x, y = np.meshgrid(way * away, 0.008 - away)
        wanted = middle + x[..., None] * right + y[..., None] * up
        np.testing.assert_allclose(found, wanted, atol=0.01)


def test_middles_are_those_of_the_lids(rig):
    model = close_up.point_model(rig, EXPRESSIONS)
    lids = rig.landmarks.of(rig.mean)
    np.testing.assert_allclose(model.mean[0], lids[42:48].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(model.mean[1], lids[36:42].mean(axis=0), atol=1e-6)
    assert model.mean[0, 0] > 0 > model.mean[1, 0]  # The subject's left is at x above 0.


def test_a_fit_in_the_mirror_is_that_of_the_mirrored_face(rig):
    rng = np.random.default_rng(5)
    rotation = np.stack([rotation_from_angles(*rng.uniform(-0.8, 0.8, 3)) for _ in range(4)])
    outputs = outputs_of(rotation)
    outputs[:, 6:] = torch.from_numpy(rng.normal(0, 0.3, (4, KNOWN - 5))).float()
    order, signs = fit_in_mirror(rig, EXPRESSIONS)
    mirrored = outputs.clone()
    mirrored[:, :-1] = outputs[:, order] * signs
    fit, other = fit_of(outputs), fit_of(mirrored)
    model = decoding.PointModel(rig, EXPRESSIONS, lambda field: field)
    face = model(fit)
    seen = model(other)[:, rig.mirror]
    torch.testing.assert_close(seen[..., 0], CROP - face[..., 0], atol=0.05, rtol=0)
    torch.testing.assert_close(seen[..., 1:], face[..., 1:], atol=0.05, rtol=0)


def test_both_eyes_are_seen_alike(close, crops):
    """In the mirror the right eye has the answers that the left one had, and vice versa."""
    rng = np.random.default_rng(6)
    turned = [rotation_from_angles(*rng.uniform(-0.6, 0.6, 3)) for _ in crops]
    outputs = outputs_of(turned)
    outputs[:, 9:] = torch.from_numpy(rng.normal(0, 1, (len(crops), KNOWN - 8))).float()
    known = outputs[:, :-1]
    other = known[:, close.mirror_order] * close.mirror_signs
    mirrored = torch.cat([other, outputs[:, -1:]], dim=1)
    pixels = crops.permute(0, 3, 1, 2).float() / 64 - 2
    middles = torch.from_numpy(rng.uniform(30, 90, (len(crops), 2, 2))).float()
    in_mirror = middles.flip(1) * torch.tensor([-1.0, 1]) + torch.tensor([CROP - 1.0, 0])
    with torch.no_grad():
        seen = close(pixels, close.places(middles, fit_of(outputs)), known)
        again = close(pixels.flip(3), close.places(in_mirror, fit_of(mirrored)), other)
    for found, swapped in zip(seen, again, strict=True):
        found, swapped = (value @ close.belongs.T for value in (found, swapped))
        assert found.std(dim=0).min() > 1e-3
        found, swapped = (value.reshape(-1, len(EYES), len(OF_EYE)) for value in (found, swapped))
        torch.testing.assert_close(swapped.flip(1), found, atol=1e-3, rtol=1e-3)


def test_answers_are_the_expressions_of_the_eyes(rig, crops):
    net = RegressorNet(rig, EXPRESSIONS).eval()
    with torch.no_grad():
        *_, fit, answered, weighed = net.stages(crops)
    first = decoding.POSE_OUTPUTS + 40
    names = {f"{name}_{side}" for name in OF_EYE for side in ("left", "right")}
    changed = (answered != fit).any(dim=0).nonzero().flatten() - first
    assert {expressions.REGRESSED[k] for k in changed} == names
    assert torch.equal(weighed, fit)  # A new one has no weight yet.


def test_what_the_pixels_show_is_learned_for_each_eye(rig):
    """Lids that cover the patches from above by as much as the truth says."""
    torch.manual_seed(7)
    net = RegressorNet(rig, EXPRESSIONS)
    close = net.close_ups[0]
    outputs = outputs_of([np.eye(3)])
    places = close.places(net.patch_points(fit_of(outputs))[..., :2], fit_of(outputs))
    columns = [
        decoding.POSE_OUTPUTS + 40 + expressions.REGRESSED.index(f"blink_{side}")
        for side, _, _ in EYES
    ]
    at = ((places[0] + 1) * (CROP - 1) / 2).reshape(len(EYES), -1, 2).round().long()

    def answers(count):
        truth = torch.rand(count, len(EYES))
        pixels = 0.2 * torch.randn(count, 3, CROP, CROP)
        for k, eye in enumerate(at):
            low, high = eye.amin(dim=0), eye.amax(dim=0) + 1
            rows = torch.arange(low[1], high[1])
            lid = rows < low[1] + truth[:, k, None] * (high - low)[1]
            pixels[:, :, low[1] : high[1], low[0] : high[0]] += lid[:, None, :, None].float()
        known = outputs[:, :-1].expand(count, -1)
        answer, _ = close(pixels, places.expand(count, -1, -1, -1), known)
        return answer[:, columns], truth

    optimizer = torch.optim.AdamW(close.parameters(), 3e-3)
    for step in range(80):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 80)
        optimizer.zero_grad()
        answer, truth = answers(32)
        (answer - truth).square().mean().backward()
        optimizer.step()
    close.eval()
    with torch.no_grad():
        answer, truth = answers(200)
    assert (answer - truth).std() < 0.1
    assert abs(np.corrcoef((answer - truth).T)[0, 1]) < 0.5


def test_places_are_read_as_exactly_where_products_are_of_half_precision(rig, monkeypatch):
    torch.manual_seed(4)
    net = RegressorNet(rig, EXPRESSIONS).eval()
    given_places = []
    forward = CloseUp.forward
    monkeypatch.setattr(
        CloseUp,
        "forward",
        lambda close, pixels, places, known: (
            given_places.append(places) or forward(close, pixels, places, known)
        ),
    )
    crops = torch.randint(0, 256, (3, CROP, CROP, 3), dtype=torch.uint8)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        fit = fit_of(net.stages(crops)[2])
    exact = net.close_ups[0].places(net.patch_points(fit)[..., :2], fit)
    torch.testing.assert_close(given_places[0], exact, atol=1e-4, rtol=0)
