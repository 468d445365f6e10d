import numpy as np
import pytest
from tddfa_native.rasterize import MeshTopology, VisibilityBuffer

from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.face_model import face_model_arrays, face_model_from_arrays
from tddfa_ros.training import expressions, face_region, sheet
from tddfa_ros.training import rig as rig_file


def edges_of(triangles):
    return np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])


def test_model_passes_the_checks_of_a_model_set(face_model):
    arrays = face_model_arrays(face_model)
    again = face_model_from_arrays(arrays, 1.0, "test")
    assert len(again.mean) >= face_region.LEAST_VERTICES
    assert len(again.shape_basis) == rig_file.MODEL_SHAPES
    assert again.expression_names == expressions.REGRESSED


def test_mesh_is_one_oriented_sheet_with_an_outline_and_a_mouth(face_model):
    edges = edges_of(face_model.triangles)
    assert len(np.unique(edges, axis=0)) == len(edges)
    assert len(sheet.border_loops(face_model.triangles)) == 2
    label = np.arange(len(face_model.mean))
    while True:
        lower = label.copy()
        np.minimum.at(lower, edges[:, 0], label[edges[:, 1]])
        np.minimum.at(lower, edges[:, 1], label[edges[:, 0]])
        lower = lower[lower]
        if np.array_equal(lower, label):
            break
        label = lower
    assert (label == label[0]).all()


def test_no_vertex_is_left_over_and_no_triangle_is_empty(face_model):
    assert np.array_equal(np.unique(face_model.triangles), np.arange(len(face_model.mean)))
    a, b, c = (face_model.mean[face_model.triangles[:, k]].astype(float) for k in range(3))
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 0


def test_faces_look_outwards(face_model):
    a, b, c = (face_model.mean[face_model.triangles[:, k]].astype(float) for k in range(3))
    normal = np.cross(b - a, c - a)
    outward = (a + b + c) / 3 - [0, 0, -0.06]
    # By area: the many small triangles inside nostrils and lips look elsewhere.
    away = (normal * outward).sum(axis=1) > 0
    assert np.average(away, weights=np.linalg.norm(normal, axis=1)) > 0.97


def test_atlas_has_no_folds_and_no_overlaps(face_model):
    uv = face_model.uv
    areas = sheet.doubled_areas(uv, face_model.triangles)
    assert areas.min() > 0
    side = 3000
    flat = np.column_stack([uv[:, 0] * side, (1 - uv[:, 1]) * side, np.zeros(len(uv))])
    buffer = VisibilityBuffer(side, side)
    buffer.draw(flat.astype(np.float32), MeshTopology(face_model.triangles, len(uv)))
    covered = np.count_nonzero(buffer.triangle >= 0) / side**2
    assert covered == pytest.approx(areas.sum() / 2, rel=2e-3)


def test_symmetry_pairs_mirror_images(face_model):
    pairs = face_model.symmetry
    np.testing.assert_array_equal(pairs[pairs], np.arange(len(pairs)))
    np.testing.assert_allclose(face_model.mean[pairs] * [-1, 1, 1], face_model.mean, atol=3e-6)


def test_landmarks_and_sellion_lie_where_the_rig_has_them(face_model, rig):
    corners = face_model.triangles[face_model.landmark_triangles]
    at = np.einsum("lk,lkd->ld", face_model.landmark_weights, face_model.mean[corners])
    assert np.linalg.norm(at - rig.landmarks.of(rig.mean), axis=1).max() < 7e-4
    corner = face_model.triangles[face_model.sellion_triangle]
    sellion = face_model.sellion_weights @ face_model.mean[corner]
    assert abs(sellion[0]) < 1e-4
    assert abs(sellion[1] - at[[39, 42], 1].mean()) < 0.006


def test_components_act_as_those_of_the_rig(face_model, rig):
    """A blink of the face model moves its landmarks as the rig's moves its own."""
    corners = face_model.triangles[face_model.landmark_triangles]
    for k in range(len(expressions.REGRESSED)):
        field = face_model.expression_basis[k]
        moved = np.einsum("lk,lkd->ld", face_model.landmark_weights, field[corners])
        known = rig.landmarks.of(rig.expression_basis[k])
        assert np.linalg.norm(moved - known, axis=1).max() < 0.0035


def test_regions_are_all_there_and_symmetric(face_model):
    regions = face_region.regions(face_model)
    assert set(regions) == set(range(len(face_region.REGIONS)))
    assert (regions == regions[face_model.symmetry]).mean() > 0.995


def test_a_fold_is_smoothed_out():
    y, x = np.mgrid[:4, :4]
    uv = np.stack([x.ravel(), y.ravel()], axis=1) / 4
    a = np.array([r * 4 + c for r in range(3) for c in range(3)])
    quads = np.stack([a, a + 1, a + 5, a + 4], axis=1)
    triangles = rig_file.split_quads(quads)
    folded = uv.copy()
    folded[5] = [0.7, 0.7]
    assert sheet.doubled_areas(folded, triangles).min() < 0
    flat = sheet.unfold(folded, triangles)
    assert sheet.doubled_areas(flat, triangles).min() > 0
    with pytest.raises(ModelSetError, match="folded"):
        sheet.unfold(folded, triangles[:, ::-1])


def test_expressions_of_the_rig_are_told_by_those_of_the_face_model(rig):
    count = len(expressions.REGRESSED)
    nearest = face_region.nearest_expressions(rig, count)
    names = [str(name) for name in rig.expression_names]
    told = dict(zip(names, nearest, strict=True))
    np.testing.assert_array_equal(nearest[:count], np.eye(count))
    for side, other in (("left", "right"), ("right", "left")):
        blink, brow = (names.index(f"{stem}_{side}") for stem in ("blink", "brow_lower"))
        assert told[f"squint_{side}"].argmax() == blink
        assert 0.2 < told[f"squint_{side}"][blink] < 0.6
        assert told[f"eye_wide_{side}"].argmin() == blink
        assert -0.6 < told[f"eye_wide_{side}"][blink] < -0.2
        assert told[f"brow_inner_{side}"].argmin() == brow
        assert abs(told[f"squint_{side}"][names.index(f"blink_{other}")]) < 0.01


def test_no_other_coefficients_come_nearer(rig, rng):
    count = len(expressions.REGRESSED)
    nearest = face_region.nearest_expressions(rig, count)[count:]
    face = np.unique(rig.quads[rig.sheet & (rig.material == face_region.SKIN)])
    face = face[face_region.inside_m(rig.mean[face]) > 0]
    moved = rig.expression_basis[:, face].astype(np.float64)

    def distance(coefficients):
        left = moved[count:] - np.tensordot(coefficients, moved[:count], axes=1)
        return (left**2).sum(axis=(1, 2))

    least = distance(nearest)
    for _ in range(20):
        assert (distance(nearest + rng.normal(0, 0.05, nearest.shape)) > least).all()
