"""Pictures of faces as topics, and meshes by service, in real processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from sensor_msgs.msg import Image

from tddfa_msgs.msg import FaceArray
from tddfa_msgs.srv import ExportMesh
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.outputs import LEAST_FACING, Scene
from tddfa_ros.core.render import Renderer
from tddfa_ros.core.texture import SEEN, TextureAverage
from tddfa_ros.nodes.face_from_message import face_from_message
from tddfa_ros.nodes.picture_outputs import PICTURES
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

PERIOD_S = 0.04
OVERLAY = ("mesh", "dense", "landmarks")
TEXTURE_SIZE = 256
DTYPES = {"mono8": np.uint8, "bgr8": np.uint8, "bgra8": np.uint8, "32FC2": np.float32}
CHANNELS = {"mono8": 1, "bgr8": 3, "bgra8": 4, "32FC2": 2}
TOPICS = {
    "faces/overlay": "bgr8",
    "faces/depth_view": "mono8",
    "faces/pncc": "bgr8",
    "faces/normals": "bgr8",
    "faces/uv": "32FC2",
    "faces/texture": "bgra8",
}


class Camera:
    """Publishes one photo, moved a pixel further each time, with a stamp of its own."""

    def __init__(self, probe, photo: np.ndarray) -> None:
        self.sent: dict[int, np.ndarray] = {}
        self._probe = probe
        self._photo = photo
        self._images = probe.publisher(Image, "image")

    def send(self) -> None:
        number = len(self.sent) + 1
        image = np.ascontiguousarray(np.roll(self._photo, number % 8, axis=1))
        self.sent[number] = image
        self._images.publish(encode_image(image, ImageHeader(number, 7, "camera_7")))

    def send_until(self, condition, what: str) -> None:
        for _ in range(500):
            if condition():
                return
            self.send()
            self._probe.spin_for(PERIOD_S)
        pytest.fail(f"500 images without {what}")


def by_number(messages) -> dict[int, object]:
    return {message.header.stamp.sec: message for message in messages}


def pixels_of(message) -> np.ndarray:
    dtype, channels = DTYPES[message.encoding], CHANNELS[message.encoding]
    assert message.step == message.width * channels * np.dtype(dtype).itemsize
    shape = (message.height, message.width, channels)[: 2 if channels == 1 else 3]
    return np.frombuffer(message.data, dtype).reshape(shape)


def test_every_topic_shows_what_the_core_renders_of_the_same_faces(
    world, probe, tddfa_v2_set, model_set, astronaut
):
    world.face_node(
        tddfa_v2_set,
        frame_policy="every",
        smoothing="none",
        overlay=",".join(OVERLAY),
        texture_size=TEXTURE_SIZE,
    )
    camera = Camera(probe, astronaut)
    kept = {topic: probe.messages(Image, topic) for topic in TOPICS}
    faces = probe.messages(FaceArray, "faces")
    camera.send_until(lambda: all(len(k) >= 5 for k in (*kept.values(), faces)), "all topics")
    arrays = by_number(faces)
    model = MorphableModel(model_set.face_model)
    renderer = Renderer(model_set.face_model)
    common = set(arrays).intersection(*(by_number(k) for k in kept.values()))
    assert len(common) >= 3
    average = TextureAverage(TEXTURE_SIZE)
    for number in sorted(common):
        image = camera.sent[number]
        found = [face_from_message(face) for face in arrays[number].faces]
        assert len(found) == 1
        scene = Scene(image, found, renderer, model)
        expected = {p.topic: p.make(scene.frame) for p in PICTURES.values()}
        expected["faces/overlay"] = scene.overlay(OVERLAY)
        for topic, encoding in TOPICS.items():
            message = by_number(kept[topic])[number]
            assert message.encoding == encoding
            assert message.header == arrays[number].header
            assert message.header.stamp.nanosec == 7
            assert message.header.frame_id == "camera_7"
            if topic == "faces/texture":
                continue
            assert (message.height, message.width) == image.shape[:2]
            assert np.array_equal(pixels_of(message), expected[topic], equal_nan=True), topic
    # The texture holds all frames so far, a few of which this test may not have seen.
    texture = pixels_of(by_number(kept["faces/texture"])[max(common)])
    assert texture.shape == (TEXTURE_SIZE, TEXTURE_SIZE, 4)
    average.add(*scene.frame.texture(0, TEXTURE_SIZE, least_facing=LEAST_FACING))
    here = average.texture()
    seen = (here[..., 3] == SEEN) & (texture[..., 3] == SEEN)
    assert seen.mean() > 0.3
    difference = np.abs(texture[seen][:, :3].astype(int) - here[seen][:, :3])
    assert np.median(difference) <= 4


def test_meshes_are_exported_while_images_keep_flowing(
    world, probe, tddfa_v2_set, model_set, astronaut, tmp_path
):
    export_dir = tmp_path / "exports"
    world.face_node(
        tddfa_v2_set, frame_policy="every", export_dir=str(export_dir), texture_size=2048
    )
    camera = Camera(probe, astronaut)
    faces = probe.messages(FaceArray, "faces")
    camera.send_until(lambda: len(faces) >= 3 and faces[-1].faces, "faces")
    client = probe.client(ExportMesh, "face_node/export_mesh")

    def export(**fields):
        """Ask, go on sending images; the answer and the images answered before it."""
        first = len(camera.sent) + 1
        future = client.call_async(ExportMesh.Request(**fields))
        camera.send_until(future.done, "an answer of the export")
        answered = [n for n in by_number(faces) if n >= first]
        return future.result(), len(answered)

    # A large texture takes long enough for several images to come through meanwhile.
    passed = []
    for number in range(3):
        answer, count = export(format="glb", texture=True, file_name=f"run/head_{number}")
        assert answer.success, answer.message
        passed.append(count)
    assert max(passed) >= 3, passed
    path = Path(answer.path)
    assert path == export_dir / "run" / "head_2.glb"
    mesh = trimesh.load(path, process=False, force="mesh")
    assert len(mesh.vertices) == answer.vertex_count == len(model_set.face_model.mean)
    assert len(mesh.faces) == answer.triangle_count
    assert mesh.visual.material.baseColorTexture.size == (2048, 2048)
    assert answer.stamp.sec in camera.sent
    refused, _ = export(format="glb", file_name="../../outside")
    assert not refused.success
    assert "contains '..'" in refused.message
    assert sorted(p.name for p in tmp_path.rglob("*.glb")) == [f"head_{i}.glb" for i in range(3)]
    # Nothing was lost over it, once the node had found this publisher.
    answered = by_number(faces)
    since = range(min(answered), len(camera.sent) + 1)
    probe.spin_until(lambda: by_number(faces).keys() >= set(since), "every image's faces")
    assert faces[-1].frames_dropped == 0


def test_the_verb_has_a_running_node_write_a_mesh(world, probe, repository, astronaut, tmp_path):
    export_dir = tmp_path / "exports"
    world.face_node(
        repository / "models" / "embedded", "-r", "__ns:=/front", export_dir=str(export_dir)
    )
    images = probe.publisher(Image, "/front/image")
    answered = probe.messages(FaceArray, "/front/faces")
    image = encode_image(astronaut, ImageHeader(7, 0, "camera"))

    def faces():
        images.publish(image)
        probe.spin_for(0.1)
        return answered and answered[-1].faces

    probe.spin_until(faces, "a face")

    def export(*arguments, code):
        process = world.run("-m", "tddfa_ros", "export", *arguments)
        assert process.wait(60) == code, process.output
        assert "Traceback" not in process.output
        return process.output

    node = ("--node", "/front/face_node")
    said = export("me/head.PLY", "--mesh-pose", "image", *node, code=0)
    said += export(*node, "--no-texture", code=0)
    written = sorted(str(path.relative_to(export_dir)) for path in export_dir.rglob("*.*"))
    assert written == ["face_f00001_7_000000000.glb", "me/head.PLY"]
    for path in (export_dir / name for name in written):
        mesh = trimesh.load(path, process=False, force="mesh")
        told = f"{len(mesh.vertices)} vertices, {len(mesh.faces)} triangles -> {path}"
        assert told in said
        coloured = mesh.visual.kind == "vertex" and mesh.visual.vertex_colors[:, :3].std() > 10
        assert coloured == (path.suffix == ".PLY")
    assert "contains '..'" in export("../head.glb", *node, code=1)
    assert "no face 'f9' in the newest image; there are f00001" in export(
        "--face", "f9", *node, code=1
    )
    assert "end the name with one of .ply" in export("head.txt", *node, code=1)
    told = export("--timeout-s", "6", code=1)
    assert "no service /face_node/export_mesh within 6 s; name the node by --node: /front" in told
