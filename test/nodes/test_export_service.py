"""The service that writes meshes: what it writes, and what it refuses."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import trimesh
from rclpy.parameter import Parameter

from tddfa_msgs.srv import ExportMesh
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.metric import MetricFaces
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.nodes import mesh_export
from tddfa_ros.nodes.mesh_export import FittedImage, MeshExporter
from tddfa_ros.nodes.raw_image import ImageHeader

HEADER = ImageHeader(77, 5, "camera_7")
TEXTURE_SIZE = 256


@pytest.fixture(scope="module")
def newest(model_set, media):
    image = cv2.imread(str(media / "trump_hillary.jpg"))
    pipeline = FacePipeline(model_set, PipelineConfig())
    faces = pipeline.process(image, stamp_ns=0).faces
    pipeline.close()
    assert len(faces) == 2
    return FittedImage(HEADER, image, faces)


@pytest.fixture(scope="module")
def model(model_set):
    return MorphableModel(model_set.face_model)


@pytest.fixture
def export_dir(tmp_path):
    return tmp_path / "exports"


@pytest.fixture
def ask(model, newest, export_dir):
    """Call the service as a client's request would."""
    exporter = MeshExporter(model, str(export_dir), TEXTURE_SIZE, head_width_m=0.0)

    def ask(fitted=newest, **fields):
        request = ExportMesh.Request(**{"format": "ply"} | fields)
        return exporter.answer(fitted, request, ExportMesh.Response())

    return ask


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("pose", ["", "own", "frontal", "image"])
@pytest.mark.parametrize("mesh_format", ["ply", "obj", "glb", "stl"])
def test_every_format_in_every_pose_loads(ask, model, export_dir, mesh_format, pose):
    answer = ask(format=mesh_format, pose=pose, texture=True, file_name="sub/head")
    assert answer.success, answer.message
    assert answer.message == ""
    assert answer.path == str(export_dir / f"sub/head.{mesh_format}")
    assert (answer.stamp.sec, answer.stamp.nanosec) == (77, 5)
    mesh = trimesh.load(answer.path, process=False, force="mesh")
    assert answer.triangle_count == len(mesh.faces) == len(model.face_model.triangles)
    assert answer.vertex_count == model.vertex_count
    if mesh_format != "stl":
        assert len(mesh.vertices) == model.vertex_count
    if mesh_format in ("obj", "glb"):
        material = mesh.visual.material
        picture = material.image if mesh_format == "obj" else material.baseColorTexture
        assert picture.size == (TEXTURE_SIZE, TEXTURE_SIZE)
        assert np.array(picture).std() > 10
        assert mesh.visual.uv.min() >= 0
        assert mesh.visual.uv.max() <= 1
    if mesh_format == "ply":
        assert mesh.visual.vertex_colors[:, :3].std() > 10
    size_m = np.ptp(mesh.vertices, axis=0).max()
    assert 0.1 < size_m < 0.4 if pose in ("", "own") else size_m > 50
    beside = {"obj": ["head.mtl", "head.obj", "head.png"]}.get(mesh_format, [f"head.{mesh_format}"])
    assert tree(export_dir / "sub") == beside


@pytest.mark.parametrize("mesh_format", ["ply", "obj", "glb", "stl"])
def test_without_texture_there_is_the_shape_alone(ask, export_dir, mesh_format):
    answer = ask(format=mesh_format, file_name="plain")
    assert answer.success, answer.message
    assert tree(export_dir) == [f"plain.{mesh_format}"]
    assert trimesh.load(answer.path, process=False, force="mesh").visual.kind is None


def test_the_default_is_the_most_prominent_face_under_its_name(ask, newest, export_dir):
    answer = ask()
    first, second = (face.id for face in newest.faces)
    assert answer.path == str(export_dir / f"face_{first}_77_000000005.ply")
    other = ask(face_id=second)
    assert other.path == str(export_dir / f"face_{second}_77_000000005.ply")
    first_mesh, second_mesh = (trimesh.load(a.path, process=False) for a in (answer, other))
    assert not np.allclose(first_mesh.vertices, second_mesh.vertices)


def test_the_mesh_in_image_pose_is_the_fit(ask, model, newest):
    answer = ask(pose="image")
    mesh = trimesh.load(answer.path, process=False)
    expected = model.vertices(newest.faces[0].params) * [1, -1, 1]
    expected += [0, newest.image_bgr.shape[0], 0]
    assert np.abs(mesh.vertices - expected).max() < 1e-3


def test_the_mesh_in_own_pose_has_the_size_that_head_width_m_says(
    make_face_node, model, newest, export_dir
):
    """At start and when it changes; as points and markers, but for place and axes."""
    node = make_face_node(autostart=False, head_width_m=0.2, export_dir=str(export_dir))
    node.trigger_configure()
    for head_width_m in (0.2, 0.1):
        node.set_parameters([Parameter("head_width_m", value=head_width_m)])
        answer = node._exporter.answer(
            newest, ExportMesh.Request(format="ply"), ExportMesh.Response()
        )
        written = trimesh.load(answer.path, process=False).vertices
        in_metres = MetricFaces(model, head_width_m).vertices_m(newest.faces[0].params)
        size_m = np.ptp(written, axis=0)[[2, 0, 1]]
        np.testing.assert_allclose(size_m, np.ptp(in_metres, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"format": ""}, "format '' is not one of ply, obj, glb, stl"),
        ({"format": "exe"}, "format 'exe' is not one of"),
        ({"format": "PLY"}, "format 'PLY' is not one of"),
        ({"format": "ply/../../x"}, "is not one of"),
        ({"pose": "sideways"}, "pose 'sideways' is not one of own, frontal, image"),
        ({"file_name": "../head.ply"}, "contains '..'"),
        ({"file_name": "a/../../head.ply"}, "contains '..'"),
        ({"file_name": "/somewhere/head.ply"}, "is absolute"),
        ({"file_name": "head\0.ply"}, "unprintable"),
        ({"file_name": "head\n.ply"}, "unprintable"),
        ({"file_name": "folder/"}, "names no file"),
        ({"file_name": "."}, "names no file"),
        ({"file_name": "h" * 300}, "shorten it"),
        ({"file_name": "out/head.ply"}, "leads out"),
        ({"face_id": "nobody"}, "no face 'nobody' in the newest image; there are "),
    ],
)
def test_what_is_refused_says_why_and_writes_nothing(ask, tmp_path, export_dir, fields, reason):
    export_dir.mkdir()
    (tmp_path / "outside").mkdir()
    (export_dir / "out").symlink_to(tmp_path / "outside")
    before = tree(tmp_path)
    answer = ask(**fields)
    assert not answer.success
    assert reason in answer.message
    assert answer.path == ""
    assert tree(tmp_path) == before


def test_an_unknown_face_names_the_known_ones(ask, newest):
    message = ask(face_id="nobody").message
    assert all(face.id in message for face in newest.faces)


def test_nothing_to_export(ask, newest):
    assert "no image was processed yet" in ask(None).message
    empty = dataclasses.replace(newest, faces=())
    assert "no face in the newest image" in ask(empty).message


def test_a_fit_that_is_not_finite_is_refused(ask, newest):
    face = newest.faces[0]
    params = dataclasses.replace(face.params, camera=face.params.camera * np.nan)
    broken = dataclasses.replace(newest, faces=(dataclasses.replace(face, params=params),))
    for pose in ("image", "frontal"):
        answer = ask(broken, pose=pose)
        assert not answer.success
        assert "not finite" in answer.message


@pytest.mark.parametrize("error", [MemoryError("no room"), ValueError("no mesh")])
def test_what_a_library_raises_is_an_answer_and_the_next_request_is_served(
    ask, export_dir, monkeypatch, error
):
    def failing(*_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(mesh_export, "write_mesh", failing)
        answer = ask()
    assert not answer.success
    assert str(error) in answer.message
    assert ask().success


@pytest.mark.parametrize("name", ["head", "taken"])
def test_a_folder_that_is_none_or_a_name_that_is_taken(ask, export_dir, name):
    if name == "head":
        export_dir.write_text("a file")
    else:
        (export_dir / "taken.ply" / "inside").mkdir(parents=True)
    answer = ask(file_name=name)
    assert not answer.success
    assert "cannot be written" in answer.message


def test_a_link_as_file_is_replaced_not_followed(ask, tmp_path, export_dir):
    export_dir.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    for name in ("head.obj", "head.mtl", "head.png"):
        (export_dir / name).symlink_to(precious)
    answer = ask(format="obj", texture=True, file_name="head")
    assert answer.success, answer.message
    assert precious.read_text() == "keep me"
    assert not (export_dir / "head.obj").is_symlink()


def test_without_an_export_folder(model, newest):
    answer = MeshExporter(model, "", TEXTURE_SIZE, 0.0).answer(
        newest, ExportMesh.Request(format="ply"), ExportMesh.Response()
    )
    assert "set export_dir" in answer.message


def test_a_node_that_is_not_configured_or_has_no_image_yet(make_face_node):
    node = make_face_node(autostart=False)
    answer = node._on_export(ExportMesh.Request(format="ply"), ExportMesh.Response())
    assert not answer.success
    assert "not configured" in answer.message
    node.trigger_configure()
    answer = node._on_export(ExportMesh.Request(format="ply"), ExportMesh.Response())
    assert "no image was processed yet" in answer.message
