"""Time that jumps back, stands still, or comes from a simulation, in real processes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.bag import IMAGE_TYPE
from tddfa_ros.core.sample_media import astronaut_clip
from tddfa_ros.nodes.face_bytes import typestore_with_faces
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

FRAMES = 20
START_S = 1_700_000_000
PERIOD_NS = 33_333_333


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "recorded"
    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        images = writer.add_connection("/image", IMAGE_TYPE, typestore=typestore_with_faces())
        for index, picture in enumerate(itertools.islice(astronaut_clip(), FRAMES)):
            stamp_ns = START_S * 10**9 + index * PERIOD_NS
            header = ImageHeader(*divmod(stamp_ns, 10**9), "camera")
            writer.write(images, stamp_ns, encode_image(picture, header))
    return path


@pytest.mark.parametrize("settings", [{"smoothing": "one-euro", "hold_shape_frames": 4}, {}])
def test_a_looping_bag_begins_anew_each_time(world, await_faces, tddfa_v2_set, recorded, settings):
    """Every round has faces of its own, in the same places to the last bit: nothing is left."""
    world.face_node(tddfa_v2_set, frame_policy="every", **settings)
    receiver = world.receiver("faces")
    world.node("media_source", input=str(recorded), loop=True, pace="answered")
    records = await_faces(receiver, 3 * FRAMES)
    start = next(i for i, r in enumerate(records) if r["stamp_ns"] == START_S * 10**9)
    first, second = (records[start + n * FRAMES :][:FRAMES] for n in (0, 1))
    assert [r["stamp_ns"] for r in first] == [r["stamp_ns"] for r in second]
    for before, after in zip(first, second, strict=True):
        assert before["landmarks"] == after["landmarks"]
    ids = [{face_id for record in part for face_id in record["ids"]} for part in (first, second)]
    assert [len(found) for found in ids] == [1, 1]
    assert not ids[0] & ids[1]


def test_images_without_a_stamp_are_followed_by_their_times_of_arrival(
    world, probe, repository, astronaut
):
    node = world.face_node(repository / "models" / "embedded", image_reliability="reliable")
    faces = probe.messages(FaceArray, "faces")
    markers = probe.messages(MarkerArray, "faces/markers")
    images = probe.publisher(Image, "image")
    one = np.hstack([astronaut, np.zeros_like(astronaut)])
    two = np.hstack([astronaut, astronaut[:, ::-1]])
    for number in itertools.count():
        images.publish(encode_image(one if len(faces) < 8 else two, ImageHeader(0, 0, "camera")))
        probe.spin_for(0.04)
        if len(faces) > 15 and len(faces[-1].faces) == 2 and len(markers) > 4:
            break
        assert number < 300
    assert {message.header.stamp.sec for message in faces} == {0}
    assert node.output.count("the images have no stamp") == 1
    assert {face.id for face in faces[-1].faces} > {face.id for face in faces[3].faces}


def test_images_without_a_stamp_have_metric_poses_but_no_transforms(
    world, probe, repository, astronaut
):
    """Of transforms with one and the same stamp, tf2 keeps the first for ever."""
    node = world.face_node(repository / "models" / "embedded", image_reliability="reliable")
    faces = probe.messages(FaceArray, "faces")
    transforms = probe.messages(TFMessage, "/tf")
    cameras = probe.publisher(CameraInfo, "camera_info")
    images = probe.publisher(Image, "image")
    focal = [500.0, 0.0, 255.5, 0.0, 500.0, 255.5, 0.0, 0.0, 1.0]

    def send(sent_s: int) -> None:
        cameras.publish(CameraInfo(height=512, width=512, k=focal))
        images.publish(encode_image(astronaut, ImageHeader(sent_s, 0, "camera")))
        probe.spin_for(0.1)

    probe.spin_until(lambda: send(0) or len(faces) > 4, "faces")
    assert faces[-1].faces[0].has_metric_pose
    assert not transforms
    assert node.output.count("images without stamp: no TF") == 1
    probe.spin_until(lambda: send(100) or transforms, "a transform")
    assert {message.transforms[0].header.stamp.sec for message in transforms} == {100}


def test_simulated_time_that_stands_still_holds_nothing_up(world, probe, tddfa_v2_set, astronaut):
    world.face_node(
        tddfa_v2_set, use_sim_time=True, diagnostics_period_s=0.2, image_reliability="reliable"
    )
    told = probe.messages(DiagnosticArray, "/diagnostics")
    faces = probe.messages(FaceArray, "faces")
    clock = probe.publisher(Clock, "/clock")
    images = probe.publisher(Image, "image")

    def send(sent_s: int) -> None:
        images.publish(encode_image(astronaut, ImageHeader(sent_s, 0, "here")))
        probe.spin_for(0.1)

    def values():
        return {v.key: v.value for v in told[-1].status[0].values} if told else {}

    # Nobody publishes the time yet: images and diagnostics come all the same.
    probe.spin_until(lambda: send(100) or faces, "faces")
    probe.spin_until(lambda: "stamp age on arrival" in values(), "an age that is unknown")
    # Half a second between the stamps and the simulated time.
    message = Clock()
    message.clock.sec, message.clock.nanosec = 100, 500_000_000

    def age():
        clock.publish(message)
        send(100)
        return float(values().get("stamp age on arrival p50 [ms]", 0.0)) == 500.0

    probe.spin_until(age, "an age by the simulated time")
    assert told[-1].header.stamp == message.clock
