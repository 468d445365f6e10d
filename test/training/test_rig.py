import dataclasses

import numpy as np
import pytest

from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.training import expressions, makehuman
from tddfa_ros.training import rig as rig_file
from tddfa_ros.training.adults import AdultSampler, align
from tddfa_ros.training.makehuman import EYE


def rotation(rng):
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def test_alignment_undoes_a_similarity(rng):
    points = rng.normal(size=(40, 3))
    moved = 1.7 * points @ rotation(rng).T + [3, -2, 5]
    np.testing.assert_allclose(align(moved, points, np.arange(40)), points, atol=1e-5)


def test_principal_components_recover_what_samples_were_made_of(rng):
    true = np.zeros((2, 30, 3))
    true[0, :, 0], true[1, :, 1] = 3.0, 0.5
    amounts = rng.choice([-1, 1], (800, 2)) * 1.0
    deviations = np.einsum("sk,knd->snd", amounts, true).astype(np.float32)
    found = rig_file.principal_components(deviations, np.ones(30, np.float32), 2)
    np.testing.assert_allclose(np.abs(found), true, atol=0.1)


def test_the_mean_adult_is_symmetric_and_of_true_size(rig):
    np.testing.assert_allclose(rig.mean[rig.mirror] * [-1, 1, 1], rig.mean, atol=2e-6)
    eyes = np.unique(rig.quads[rig.material == EYE])
    left = eyes[rig.mean[eyes, 0] > 0]
    assert 2 * rig.mean[left, 0].mean() == pytest.approx(rig_file.EYE_DISTANCE_M, abs=1e-4)
    assert 0.14 < np.ptp(rig.mean[:, 0]) < 0.2


def test_shape_components_hold_no_pose(rig):
    """No component moves, turns or grows the face as a whole by more than a hint."""
    at = rig.landmarks.of(rig.mean)
    at = at - at.mean(axis=0)
    turns = [np.cross(axis, at) for axis in np.eye(3)]
    for direction in [*(np.tile(axis, (68, 1)) for axis in np.eye(3)), *turns, at]:
        direction = direction / np.linalg.norm(direction)
        for component in rig.shape_basis[: rig_file.MODEL_SHAPES]:
            moved = rig.landmarks.of(component)
            assert abs((moved * direction).sum()) < 0.02


def test_file_keeps_the_rig(rig, tmp_path):
    rig_file.save(rig, tmp_path / "rig.npz")
    again = rig_file.load(tmp_path / "rig.npz")
    np.testing.assert_array_equal(again.quads, rig.quads)
    np.testing.assert_array_equal(again.mean, rig.mean)
    step = np.abs(rig.shape_basis).max(axis=(1, 2), keepdims=True) / 127
    assert (np.abs(again.shape_basis - rig.shape_basis) <= 0.51 * step).all()
    assert [p.name for p in tmp_path.iterdir()] == ["rig.npz"]


def test_damaged_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(ModelSetError, match="cannot read"):
        rig_file.load(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ModelSetError, match="cannot read"):
        rig_file.load(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    with pytest.raises(ModelSetError, match="lacks"):
        rig_file.load(tmp_path / "other.npz")


def posed(rig, **weights):
    shape = np.zeros(len(rig.shape_basis), np.float32)
    return rig.landmarks.of(rig.pose(shape, rig.expression_vector(weights)))


def test_blinks_close_one_eye_and_leave_the_other(rig):
    rest, left = posed(rig), posed(rig, blink_left=1.0)

    def opening(points, eye):
        return (points[eye][[1, 2], 1] - points[eye][[5, 4], 1]).mean()

    right_eye, left_eye = slice(36, 42), slice(42, 48)
    assert opening(rest, left_eye) > 0.006
    assert opening(left, left_eye) < 0.15 * opening(rest, left_eye)
    assert opening(left, right_eye) == pytest.approx(opening(rest, right_eye), rel=0.02)


def test_components_do_what_their_names_say(rig):
    rest = posed(rig)
    assert posed(rig, jaw_open=1.0)[66, 1] < rest[66, 1] - 0.02
    assert posed(rig, jaw_open=1.0)[8, 1] < rest[8, 1] - 0.01
    smile = posed(rig, smile=1.0)
    assert smile[54, 0] - smile[48, 0] > rest[54, 0] - rest[48, 0] + 0.005
    assert smile[[48, 54], 1].min() > rest[[48, 54], 1].max() + 0.003
    assert posed(rig, frown=1.0)[48, 1] < rest[48, 1] - 0.003
    pucker = posed(rig, pucker=1.0)
    assert pucker[54, 0] - pucker[48, 0] < rest[54, 0] - rest[48, 0] - 0.01
    assert posed(rig, brow_raise_left=1.0)[24, 1] > rest[24, 1] + 0.003
    assert posed(rig, brow_raise_left=1.0)[19, 1] == pytest.approx(rest[19, 1], abs=1e-3)
    assert posed(rig, brow_lower_right=1.0)[21, 1] < rest[21, 1] - 0.002


def test_left_and_right_components_are_mirror_images(rig):
    index = {str(n): k for k, n in enumerate(rig.expression_names)}
    for name, k in index.items():
        if name.endswith("_left"):
            other = rig.expression_basis[index[name.replace("_left", "_right")]]
            mirrored = other[rig.mirror] * [-1, 1, 1]
            np.testing.assert_allclose(rig.expression_basis[k], mirrored, atol=1.2e-4)


def test_unknown_expression_is_named(rig):
    with pytest.raises(KeyError, match="wink"):
        rig.expression_vector({"wink": 1.0})


def test_drawn_expressions_are_known_and_rest_is_among_them(rig, rng):
    drawn = [expressions.draw(rng) for _ in range(300)]
    known = set(expressions.REGRESSED + expressions.EXTRA)
    assert set().union(*drawn) <= known
    assert 0.08 < np.mean([not weights for weights in drawn]) < 0.35
    assert any(w.get("blink_left", 0) >= 1 and w.get("blink_right", 0) >= 1 for w in drawn)


def test_head_is_read_with_its_parts_and_mirror(head):
    assert set(np.unique(head.material)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(head.mirror[head.mirror], np.arange(len(head.mirror)))
    corners = {tuple(sorted(q)) for q in head.quads.tolist()}
    assert all(tuple(sorted(head.mirror[q])) in corners for q in head.quads)


def test_adults_differ_but_sit_on_the_mean(head):
    mean = head.mean_adult
    by = np.flatnonzero((mean[:, 2] > 0.8) & (mean[:, 1] > 6.4) & (mean[:, 1] < 7.8))
    sampler = AdultSampler(head, by)
    people = [sampler.draw(np.random.default_rng(k)) for k in range(4)]
    np.testing.assert_array_equal(people[0], sampler.draw(np.random.default_rng(0)))
    for person in people:
        assert np.isfinite(person).all()
        np.testing.assert_allclose(person[by].mean(axis=0), mean[by].mean(axis=0), atol=1e-3)
        assert 0.01 < np.linalg.norm(person[by] - mean[by], axis=1).mean() < 0.15


def test_asymmetric_mesh_is_refused():
    with pytest.raises(ModelSetError, match="not symmetric"):
        makehuman.mirror_vertices(np.array([[0.1, 0, 0], [-0.3, 0, 0]], np.float32))


def test_missing_head_file_is_named(tmp_path):
    with pytest.raises(ModelSetError, match=r"none\.npz"):
        makehuman.load(tmp_path / "none.npz")


def test_digest_is_of_what_a_rig_holds_however_it_is_packed(rig, rig_path, tmp_path):
    with np.load(rig_path) as data:
        np.savez(tmp_path / "unpacked.npz", **data)
    known = rig_file.digest(rig)
    assert rig_file.digest(rig_file.load(tmp_path / "unpacked.npz")) == known
    moved = rig.mean.copy()
    moved[7, 1] += 1e-4
    assert rig_file.digest(dataclasses.replace(rig, mean=moved)) != known
