"""The table of outputs on a real fit: every file is written, named and readable."""

import cv2
import numpy as np
import pytest
import trimesh

from tddfa_ros.core import outputs, texture
from tddfa_ros.core.errors import ExportError
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.outputs import OUTPUTS, OVERLAY_PARTS, Scene
from tddfa_ros.core.pose import head_pose
from tddfa_ros.core.render import Renderer, id_color_bgr
from tddfa_ros.core.types import Face, MorphableParams, TrackState

PROMISED = {"landmarks", "dense", "mesh", "depth", "pncc", "normals", "uv", "texture", "pose"} | {
    "ply",
    "obj",
    "glb",
    "stl",
}


@pytest.fixture(scope="module")
def model(model_set):
    return MorphableModel(model_set.face_model)


@pytest.fixture(scope="module")
def renderer(model_set):
    return Renderer(model_set.face_model)


@pytest.fixture(scope="module")
def golden_faces(model, golden, media):
    """Image of two people and their fits, from golden parameters."""
    image = cv2.imread(str(media / "trump_hillary.jpg"))
    stored = np.load(golden / "trump_hillary.npz")
    faces = []
    for index, (vector, roi) in enumerate(zip(stored["params"], stored["rois"], strict=True)):
        params = MorphableParams.from_vector(vector, model.shape_count, roi, 120)
        faces.append(
            Face(
                id=f"f{index}",
                state=TrackState.DETECTED,
                age_frames=0,
                score=1.0,
                confidence=float("nan"),
                box_xyxy=stored["boxes"][index, :4].astype(np.float32),
                params=params,
                landmarks=model.landmarks(params),
                pose=head_pose(params),
            )
        )
    return image, faces


@pytest.fixture
def scene(golden_faces, renderer, model):
    image, faces = golden_faces
    return Scene(image, faces, renderer, model, texture_size=64)


def test_the_promised_outputs_are_there():
    assert set(OUTPUTS) >= PROMISED
    for output in OUTPUTS.values():
        assert output.description and (output.picture is None) != (output.mesh is None)


@pytest.mark.parametrize("name", list(OUTPUTS))
def test_each_output_is_written(scene, name, tmp_path):
    before = scene.image_bgr.copy()
    path = tmp_path / f"photo_{name}{OUTPUTS[name].suffix}"
    written = OUTPUTS[name].write(scene, path)
    assert written[0] == path
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert np.array_equal(scene.image_bgr, before)
    if OUTPUTS[name].mesh is not None:
        mesh = trimesh.load(path, force="mesh", process=False)
        assert len(mesh.faces) == 2 * len(scene.renderer.topology.triangles)
        return
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    expected = (64, 128) if name == "texture" else before.shape[:2]
    assert picture.shape[:2] == expected
    assert picture.any()
    if path.suffix == ".png":
        assert np.array_equal(picture, OUTPUTS[name].picture(scene))


@pytest.mark.parametrize("pose", ["own", "frontal"])
def test_upright_meshes_have_a_file_each(golden_faces, renderer, model, pose, tmp_path):
    image, faces = golden_faces
    scene = Scene(image, faces, renderer, model, texture_size=64, mesh_pose=pose)
    written = OUTPUTS["ply"].write(scene, tmp_path / "photo.ply")
    assert [path.name for path in written] == ["photo.ply", "photo_2.ply"]
    for path in written:
        mesh = trimesh.load(path, process=False)
        assert len(mesh.vertices) == model.vertex_count
        # Upright and frontal: the nose is in front, the chin below the brow.
        assert mesh.vertex_normals[np.argmax(mesh.vertices[:, 2]), 2] > 0.5


def test_upright_meshes_have_the_size_of_their_own_face(golden_faces, renderer, model):
    """In the image's pixels, or in the metres that its fit has."""
    image, faces = golden_faces

    def meshes(pose):
        scene = Scene(
            *(image, faces, renderer, model),
            mesh_pose=pose,
            metres_per_unit_of=lambda params: 1e-6 if params is faces[0].params else 3e-6,
        )
        return [scene.mesh(k, with_texture=False, with_colors=False).vertices for k in range(2)]

    for face, own, frontal, metres in zip(
        faces, meshes("own"), meshes("frontal"), (1e-6, 3e-6), strict=True
    ):
        size = np.ptp(model.model_vertices(face.params.shape, face.params.expression), axis=0)
        np.testing.assert_allclose(np.ptp(own, axis=0), metres * size, rtol=1e-4)
        np.testing.assert_allclose(np.ptp(frontal, axis=0), face.pose.scale * size, rtol=1e-3)
        middle = model.vertices(face.params)[:, :2].mean(axis=0)
        np.testing.assert_allclose(
            frontal[:, :2].mean(axis=0), [middle[0], image.shape[0] - middle[1]], atol=0.1
        )


def test_each_mesh_has_the_colours_of_its_face(scene):
    for face in range(len(scene.faces)):
        mesh = scene.mesh(face, with_texture=False, with_colors=True)
        np.testing.assert_array_equal(mesh.colors_bgr, scene.frame.vertex_colors_bgr(face))
        assert mesh.uv is None and mesh.texture_bgr is None


@pytest.mark.parametrize("pose", ["own", "image"])
def test_what_may_be_written_is_known_before(golden_faces, renderer, model, pose, tmp_path):
    image, faces = golden_faces
    scene = Scene(image, faces, renderer, model, texture_size=64, mesh_pose=pose)
    for name in ("ply", "obj", "depth"):
        path = tmp_path / f"a photo_{name}{OUTPUTS[name].suffix}"
        promised = OUTPUTS[name].files(path, 1 if pose == "image" else len(faces))
        assert OUTPUTS[name].write(scene, path) == promised
    assert OUTPUTS["ply"].files(tmp_path / "a.ply", 0) == []


def test_meshes_of_an_earlier_picture_with_more_faces_go(golden_faces, renderer, model, tmp_path):
    image, faces = golden_faces
    assert len(faces) == 2
    path = tmp_path / "a b.obj"
    for count in (2, 1, 0):
        scene = Scene(image, faces[:count], renderer, model, mesh_pose="own", texture_size=64)
        written = OUTPUTS["obj"].write(scene, path)
        assert len(written) == 3 * count
        assert sorted(tmp_path.glob("*.obj")) == sorted(written[::3])
    assert len([*tmp_path.glob("*.png")]) == 2, "a picture may be anybody's"


def test_the_mesh_in_image_pose_lies_over_the_face(scene):
    mesh = scene.mesh(0, with_texture=False, with_colors=True)
    height = scene.image_bgr.shape[0]
    assert np.allclose(mesh.vertices[:, 0], scene.frame.vertices[0][:, 0])
    assert np.allclose(height - mesh.vertices[:, 1], scene.frame.vertices[0][:, 1], atol=1e-3)


def test_what_is_seen_at_a_grazing_angle_is_not_taken_for_the_face(scene):
    """Its texels would show the background, or the ear."""
    for face in range(len(scene.faces)):
        _, facing = scene.frame.texture(face, scene.texture_size)
        seen = scene.texture_bgra(face)[..., 3] == texture.SEEN
        assert seen.any()
        assert (facing > 0).sum() > seen.sum()
        assert facing[seen].min() >= outputs.LEAST_FACING


def test_the_texture_of_a_mesh_has_no_hole(scene):
    """The other half fills what is not seen, what is around it the rest."""
    for face in range(len(scene.faces)):
        known = scene.texture_bgra(face)
        assert set(np.unique(known[..., 3])) == {texture.UNKNOWN, texture.MIRRORED, texture.SEEN}
        filled = scene.mesh(face, with_texture=True, with_colors=False).texture_bgr
        unknown = known[..., 3] == texture.UNKNOWN
        assert not known[unknown].any()
        assert filled[unknown].any(axis=1).all()
        np.testing.assert_array_equal(filled[~unknown], known[~unknown, :3])


def test_flat_faces_have_the_colours_of_their_ids(golden_faces, renderer, model):
    image, faces = golden_faces
    scene = Scene(image, faces, renderer, model)
    drawn = scene.overlay(("flat",)).astype(np.float64)
    nearest = scene.frame.face_index()
    for index, face in enumerate(faces):
        there = nearest == index
        assert there.sum() > 1000
        expected = 0.4 * image[there] + 0.6 * np.array(id_color_bgr(face.id))
        assert np.abs(drawn[there] - expected).max() < 1.5
    assert np.array_equal(drawn[nearest < 0], image[nearest < 0])


def test_a_picture_without_a_face(golden_faces, renderer, model, tmp_path):
    scene = Scene(golden_faces[0], [], renderer, model, texture_size=64)
    for name, output in OUTPUTS.items():
        written = output.write(scene, tmp_path / f"none_{name}{output.suffix}")
        assert bool(written) == (output.picture is not None)
    assert np.array_equal(scene.overlay(OVERLAY_PARTS), scene.image_bgr)


def test_vertices_are_computed_once_and_only_when_needed(golden_faces, renderer, model):
    image, faces = golden_faces
    asked = []

    def vertices_of(faces):
        asked.extend(face.id for face in faces)
        return [model.vertices(face.params) for face in faces]

    scene = Scene(image, faces, renderer, model, vertices_of=vertices_of)
    scene.overlay(("landmarks", "pose", "box", "id", "frustum"))
    assert not asked
    scene.overlay(OVERLAY_PARTS)
    OUTPUTS["depth"].picture(scene)
    assert asked == ["f0", "f1"]


def test_folders_that_are_none_are_refused(scene, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("depth", "ply"):
        with pytest.raises(ExportError, match="cannot be written"):
            OUTPUTS[name].write(scene, tmp_path / "file" / f"x{OUTPUTS[name].suffix}")


def test_encode_keeps_every_value_of_a_png():
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    content = np.frombuffer(outputs.encode(picture, ".png"), np.uint8)
    assert np.array_equal(cv2.imdecode(content, cv2.IMREAD_UNCHANGED), picture)


def test_a_picture_too_large_for_its_format_is_an_error_that_names_it(tmp_path):
    wide = np.zeros((4, 65501, 3), np.uint8)
    with pytest.raises(ExportError, match=r"a\.jpg: a picture of 65501x4 is too large.*\.jpg"):
        outputs.write_picture(tmp_path / "a.jpg", wide)
    assert list(tmp_path.iterdir()) == []
    outputs.write_picture(tmp_path / "a.png", wide)
    assert cv2.imread(str(tmp_path / "a.png")).shape == wide.shape
