"""Import: a small release with known numbers first, then the true one against the goldens."""

import logging
import pickle
import shutil

import numpy as np
import pytest

from tddfa_ros.core import model_set
from tddfa_ros.core.errors import ModelSetError, ModelSetNotFoundError, UnsafeFileError
from tddfa_ros.core.release import bfm, manifest
from tddfa_ros.core.release.convert import import_release
from tddfa_ros.core.release.folder import ReleaseFolder

scipy_io = pytest.importorskip("scipy.io")


@pytest.fixture
def cone(tmp_path):
    """Release files of a small surface: a grid bent like a nose, z = -|x| + dip at y = 4."""
    folder = tmp_path / "release"
    folder.mkdir()
    x, y = np.meshgrid(np.arange(-4.0, 5), np.arange(10.0))
    z = -np.abs(x) + np.abs(y - 4)
    mean = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
    corner = (np.arange(9)[:, None] * 9 + np.arange(8)).ravel()
    counter_clockwise = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + 10], axis=1),
            np.stack([corner, corner + 10, corner + 9], axis=1),
        ]
    ).astype(np.int32)
    random = np.random.default_rng(1)
    bases = {"w_shp": random.normal(size=(270, 43)), "w_exp": random.normal(size=(270, 12))}
    landmarks = random.integers(0, 90, 68)
    landmarks[[21, 22]] = 9 * 8 + 3, 9 * 8 + 5  # brows at y = 8
    landmarks[27:31] = 4 + 9 * np.array([4, 1, 0, 0])  # the bridge of the nose, x = 0
    keypoints = (3 * landmarks[:, None] + np.arange(3)).ravel()
    rows = random.permutation(200)[:90]
    uv = random.random((200, 2))
    pncc = random.random((3, 90)).astype(np.float32)
    with (folder / "bfm_noneck_v3.pkl").open("wb") as stream:
        pickle.dump({"u": mean.reshape(-1, 1), "keypoints": keypoints, **bases}, stream, 4)
    with (folder / "tri.pkl").open("wb") as stream:
        pickle.dump(np.ascontiguousarray(counter_clockwise[:, [0, 2, 1]].T), stream, 4)
    np.save(folder / "indices.npy", rows)
    np.save(folder / "ncc_code.npy", pncc)
    scipy_io.savemat(folder / "BFM_UV.mat", {"UV": uv})
    return folder, mean, counter_clockwise, bases, landmarks, uv[rows], pncc.T


def test_a_known_face_model_comes_through(cone):
    folder, mean, triangles, bases, landmarks, uv, pncc = cone
    read = bfm.read_face_model(ReleaseFolder(folder))
    np.testing.assert_array_equal(read.triangles, triangles)
    np.testing.assert_array_equal(read.mean, mean)
    np.testing.assert_array_equal(read.uv, uv.astype(np.float32))
    np.testing.assert_array_equal(read.pncc, pncc)
    for array, columns, count in (
        (read.shape_basis, bases["w_shp"], 40),
        (read.expression_basis, bases["w_exp"], 10),
    ):
        assert array.shape == (count, 90, 3)
        assert array.dtype == np.float32
        for k, vertex, axis in ((0, 0, 0), (3, 7, 1), (count - 1, 89, 2)):
            assert array[k, vertex, axis] == np.float32(columns[3 * vertex + axis, k])
    corners = mean[read.triangles[read.landmark_triangles]]
    points = np.einsum("lk,lkc->lc", read.landmark_weights, corners)
    np.testing.assert_array_equal(points, mean[landmarks])
    assert read.metres_per_unit == 1e-6


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 2, 1]], ids=["as it is", "turned"])
def test_triangles_end_counter_clockwise_seen_from_outside(cone, order):
    folder, mean, _, *_ = cone
    with (folder / "tri.pkl").open("rb") as stream:
        rows = pickle.load(stream)
    # A dome: its outside is up, whichever way the file's triangles turn.
    mean[:, 2] = 9 - (mean[:, 0] ** 2 + (mean[:, 1] - 4.5) ** 2) / 4
    with (folder / "tri.pkl").open("wb") as stream:
        pickle.dump(rows[order], stream, 4)
    triangles = bfm._triangles(ReleaseFolder(folder), mean)
    assert (normals(mean, triangles)[:, 2] > 0).all()


def normals(vertices, triangles):
    a, b, c = np.moveaxis(vertices[triangles].astype(np.float64), 1, 0)
    return np.cross(b - a, c - a)


def test_frontal_area_is_that_within_the_border():
    """A roof over a square of side 2, whatever its height; nothing for a closed surface."""
    corners = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0], [0.5, 0.7, 9]], np.float32)
    roof = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]], np.int32)
    floor = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    assert bfm.frontal_area(corners, roof) == pytest.approx(4)
    assert bfm.frontal_area(corners + 7, roof[:, ::-1]) == pytest.approx(-4)
    assert bfm.frontal_area(corners, np.concatenate([roof, floor])) == pytest.approx(0)


def test_the_sellion_is_where_the_profile_dips(cone):
    _, mean, triangles, _, landmarks, *_ = cone
    triangle, weights = bfm.find_sellion(mean, triangles, mean[landmarks])
    np.testing.assert_allclose(weights @ mean[triangles[triangle]], [0, 4, 0], atol=1e-6)


def test_a_midline_between_vertices_is_met_too(cone):
    _, mean, triangles, _, landmarks, *_ = cone
    marks = mean[landmarks]
    marks[27:31, 0] = 0.25
    triangle, weights = bfm.find_sellion(mean, triangles, marks)
    np.testing.assert_allclose(weights @ mean[triangles[triangle]], [0.25, 4, -0.25], atol=1e-6)
    assert weights.sum() == pytest.approx(1)


def test_a_face_without_a_nose_says_so(cone):
    _, mean, triangles, _, landmarks, *_ = cone
    with pytest.raises(ModelSetError, match="root of the nose"):
        bfm.find_sellion(mean, triangles, mean[landmarks] + np.float32([99, 0, 0]))


def test_a_landmark_on_no_triangle_says_so():
    with pytest.raises(ModelSetError, match="landmark 1: vertex 9"):
        bfm.vertices_as_barycentric(np.array([0, 9]), np.array([[0, 1, 2]], np.int32))


def replace_pickle(folder, **changes):
    with (folder / "bfm_noneck_v3.pkl").open("rb") as stream:
        content = pickle.load(stream) | changes
    with (folder / "bfm_noneck_v3.pkl").open("wb") as stream:
        pickle.dump(content, stream, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"u": np.zeros(271)}, "271 coordinates"),
        ({"u": None}, "u is no array"),
        ({"u": np.zeros(270, int)}, "u is no array"),
        ({"keypoints": np.arange(9)}, "9 key point"),
        ({"keypoints": np.arange(204) + 1}, "not x, y, z triples"),
        ({"w_shp": np.zeros((270, 39))}, r"w_shp has shape \(270, 39\)"),
        ({"w_exp": np.zeros((269, 10))}, "w_exp has shape"),
    ],
)
def test_a_face_model_of_another_form_is_refused(cone, changes, message):
    replace_pickle(cone[0], **changes)
    with pytest.raises(ModelSetError, match=message):
        bfm.read_face_model(ReleaseFolder(cone[0]))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("indices.npy", np.arange(89), "not 90 rows"),
        ("indices.npy", np.arange(90) + 150, "rows beyond the 200"),
        ("indices.npy", np.arange(90) - 1, "rows beyond"),
        ("ncc_code.npy", np.zeros((90, 3)), "expected .3, 90."),
    ],
)
def test_maps_of_another_size_are_refused(cone, name, array, message):
    np.save(cone[0] / name, array)
    with pytest.raises(ModelSetError, match=message):
        bfm.read_face_model(ReleaseFolder(cone[0]))


# --- the true release ---------------------------------------------------------------------------


def test_the_import_warns_of_the_file_that_differs_and_of_no_other(
    release_folder, tmp_path, caplog
):
    lines = []
    with caplog.at_level(logging.WARNING):
        made = import_release(release_folder, tmp_path / "set", progress=lines.append)
    differing = [
        file.name
        for file in (*manifest.COMMON_FILES, manifest.REGRESSORS["mb05"])
        if not file.is_genuine((release_folder / file.name).read_bytes())
    ]
    assert [record.args[0].name for record in caplog.records] == differing
    provenance = model_set.read_description(made.path).provenance
    assert [n for n, f in provenance["files"].items() if not f["as_released"]] == differing
    assert len(lines) == 3
    assert made.name == "set"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_a_checkout_can_be_imported_too(release_folder, tmp_path):
    for file in (*manifest.COMMON_FILES, manifest.REGRESSORS["mb05"]):
        target = tmp_path / "checkout" / file.repository_path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(release_folder / file.name)
    made = import_release(tmp_path / "checkout", tmp_path / "set")
    assert model_set.read_description(made.path).provenance["regressor"] == "mb05"


def test_a_missing_file_is_named(release_folder, tmp_path):
    with pytest.raises(ModelSetNotFoundError, match=r"lacks mb1_120x120\.pth"):
        import_release(release_folder, tmp_path / "set", regressor="mb1")
    with pytest.raises(ModelSetNotFoundError, match=r"mb1_120x120\.pth or mb05_120x120\.pth"):
        import_release(tmp_path, tmp_path / "set")
    with pytest.raises(ModelSetError, match="regressor 'x' is not one of mb1, mb05"):
        import_release(release_folder, tmp_path / "set", regressor="x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("regressor", [None, "mb1"])
def test_a_folder_that_is_not_there_is_no_folder_that_lacks_files(tmp_path, regressor):
    with pytest.raises(ModelSetNotFoundError, match="nowhere: no such folder"):
        import_release(tmp_path / "nowhere", tmp_path / "set", regressor=regressor)
    assert list(tmp_path.iterdir()) == []


def test_an_import_replaces_a_set_but_nothing_else(release_folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_text("")
    with pytest.raises(ModelSetError, match="is no model set; choose another folder"):
        import_release(release_folder, photos)
    assert (photos / "holiday.jpg").exists()
    (tmp_path / "set").mkdir()
    import_release(release_folder, tmp_path / "set")
    (tmp_path / "set" / "old").write_text("")
    import_release(release_folder, tmp_path / "set")
    assert not (tmp_path / "set" / "old").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "set"]


def test_a_failed_import_leaves_the_set_that_was_there(release_folder, tddfa_v2_set, tmp_path):
    shutil.copytree(tddfa_v2_set, tmp_path / "set")
    before = {p.name: p.read_bytes() for p in (tmp_path / "set").iterdir()}
    folder = tmp_path / "release"
    shutil.copytree(release_folder, folder)
    (folder / "FaceBoxesProd.pth").chmod(0o644)
    (folder / "FaceBoxesProd.pth").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(UnsafeFileError, match=r"FaceBoxesProd\.pth: refused: it asks for os\.sys"):
        import_release(folder, tmp_path / "set")
    assert {p.name: p.read_bytes() for p in (tmp_path / "set").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release", "set"]


def test_the_face_is_a_face(model_set):
    """Of human size in metres, right way round, outside out, and with its parts in place."""
    face = model_set.face_model
    assert (len(face.mean), len(face.triangles)) == (38365, 76073)
    corners = face.mean[face.triangles[face.landmark_triangles]]
    landmarks = np.einsum("lk,lkc->lc", face.landmark_weights, corners) * face.metres_per_unit
    right_eye, left_eye = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    assert np.linalg.norm(left_eye - right_eye) == pytest.approx(0.063, abs=0.004)
    assert left_eye[0] > 0 > right_eye[0]
    assert landmarks[27, 1] > landmarks[33, 1] > landmarks[57, 1] > landmarks[8, 1]
    assert landmarks[30, 2] == landmarks[:, 2].max()
    outward = normals(face.mean, face.triangles)
    centre = face.mean[face.triangles].mean(axis=1) - face.mean.mean(axis=0)
    facing = np.einsum("ij,ij->i", outward, centre) > 0
    areas = np.linalg.norm(outward, axis=1)
    assert areas[facing].sum() / areas.sum() > 0.9
    sellion = face.sellion_weights @ face.mean[face.triangles[face.sellion_triangle]]
    sellion = sellion * face.metres_per_unit
    assert abs(sellion[0]) < 0.001
    assert landmarks[27, 1] < sellion[1] < landmarks[[21, 22], 1].mean()
    assert np.linalg.norm(sellion - landmarks[27]) < 0.01
    assert sellion[2] < landmarks[27, 2]


def test_pncc_is_the_normalised_mean(model_set):
    face = model_set.face_model
    low, high = face.mean.min(axis=0), face.mean.max(axis=0)
    np.testing.assert_allclose(face.pncc, (face.mean - low) / (high - low), atol=1e-5)


def test_uv_turns_as_the_face_does(model_set):
    """v is up and u runs to the subject's left, as x does: the map is not mirrored."""
    face = model_set.face_model
    front = normals(face.mean, face.triangles)[:, 2] > 0
    uv = np.concatenate([face.uv, np.zeros((len(face.uv), 1), np.float32)], axis=1)
    turned = normals(uv, face.triangles)[:, 2] > 0
    assert turned[front].mean() > 0.99
    for axis in (0, 1):
        assert np.corrcoef(face.uv[:, axis], face.mean[:, axis])[0, 1] > 0.9


@pytest.mark.parametrize("name", ["JianzhuGuo", "trump_hillary"])
def test_golden_params_give_the_golden_vertices(model_set, golden, name):
    """The formula of the public 3DDFA_V2, by numpy; the tolerance of the goldens is 0.5 px."""
    face = model_set.face_model
    expected = np.load(golden / f"{name}.npz")
    for params, roi, dense, sparse in zip(
        *(expected[key] for key in ("params", "rois", "dense", "sparse")), strict=True
    ):
        camera = params[:12].reshape(3, 4).astype(np.float64)
        model = face.mean + np.einsum("s,snc->nc", params[12:52], face.shape_basis)
        model = model + np.einsum("e,enc->nc", params[52:], face.expression_basis)
        vertices = model @ camera[:, :3].T + camera[:, 3]
        vertices[:, [0, 2]] -= 1
        vertices[:, 1] = 120 - vertices[:, 1]
        scale = (roi[2:] - roi[:2]) / 120
        vertices[:, :2] = vertices[:, :2] * scale + roi[:2]
        vertices[:, 2] *= scale.mean()
        corners = vertices[face.triangles[face.landmark_triangles]]
        landmarks = np.einsum("lk,lkc->lc", face.landmark_weights, corners)
        for points, golden_points in ((vertices, dense), (landmarks, sparse)):
            points[:, 2] -= points[:, 2].min()
            np.testing.assert_allclose(points, golden_points.T, atol=0.02)


def test_the_licence_is_with_the_set(tddfa_v2_set):
    description = model_set.read_description(tddfa_v2_set)
    assert "research only" in description.licence
    assert "not permitted" in description.licence_text
