"""Bags with faces added: nothing lost, nothing changed, and the same after any interruption."""

from __future__ import annotations

import dataclasses
import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="nodes need ROS")
pytest.importorskip("tddfa_msgs", reason="needs the built workspace: make setup")

from rclpy.serialization import deserialize_message
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from tddfa_msgs.msg import FaceArray
from tddfa_ros.__main__ import main
from tddfa_ros.core.bag import CAMERA_INFO_TYPE, COMPRESSED_TYPE, IMAGE_TYPE, BagReader
from tddfa_ros.core.config import MetricConfig, PipelineConfig
from tddfa_ros.core.errors import MediaError
from tddfa_ros.core.network_journal import NetworkJournal
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.sample_media import astronaut_clip
from tddfa_ros.nodes.bag import output_topics
from tddfa_ros.nodes.bag_calibration import BagCalibration
from tddfa_ros.nodes.bag_writer import OFFERED_QOS
from tddfa_ros.nodes.raw_image import decode_image
from tddfa_ros.nodes.topic_faces import TopicFaces, decode

TYPES = get_typestore(Stores.ROS2_JAZZY)
TYPES.register(get_types_from_msg("float32 warmth\nstring[] words", "odd_msgs/msg/Odd"))
START_NS = 1_700_000_000_123_456_789
PERIOD_NS = 33_333_333
FRAMES = 60
LEFT, RIGHT = "/left/image_raw", "/right/image_raw/compressed"
BROKEN = 7
ZOOMED = 30
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
LATCHED = Qos(
    QosHistory.KEEP_ALL,
    3,
    QosReliability.BEST_EFFORT,
    QosDurability.TRANSIENT_LOCAL,
    QosTime(1, 2),
    QosTime(3, 4),
    QosLiveliness.MANUAL_BY_TOPIC,
    QosTime(5, 6),
    avoid_ros_namespace_conventions=True,
)


def header(index):
    stamp_ns = 0 if index is None else START_NS + index * PERIOD_NS
    stamp = TYPES.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
    return TYPES.types["std_msgs/msg/Header"](stamp=stamp, frame_id="optical")


def raw_image(index, picture):
    height, width = picture.shape[:2]
    message = TYPES.types[IMAGE_TYPE](
        header=header(index),
        height=height,
        width=width,
        encoding="bgr8",
        is_bigendian=0,
        step=3 * width,
        data=picture.reshape(-1),
    )
    return TYPES.serialize_cdr(message, IMAGE_TYPE).tobytes()


def jpeg_image(index, picture):
    data = cv2.imencode(".jpg", picture)[1].reshape(-1)
    message = TYPES.types[COMPRESSED_TYPE](header=header(index), format="jpeg", data=data)
    return TYPES.serialize_cdr(message, COMPRESSED_TYPE).tobytes()


def calibration(index, focal_px):
    """CameraInfo of the 320x240 pictures: a pinhole of that focal length."""
    none = {"binning_x": 0, "binning_y": 0}
    region = TYPES.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    message = TYPES.types[CAMERA_INFO_TYPE](
        header=header(index),
        height=240,
        width=320,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([focal_px, 0, 159.5, 0, focal_px, 119.5, 0, 0, 1.0]),
        r=np.eye(3).ravel(),
        p=np.zeros(12),
        roi=region,
        **none,
    )
    return TYPES.serialize_cdr(message, CAMERA_INFO_TYPE)


def write_bag(path, plugin):
    pictures = [
        cv2.resize(picture, (320, 240)) for picture in itertools.islice(astronaut_clip(), FRAMES)
    ]
    odd_type = TYPES.types["odd_msgs/msg/Odd"]
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        left = writer.add_connection(
            LEFT, IMAGE_TYPE, typestore=TYPES, offered_qos_profiles=[LATCHED]
        )
        right = writer.add_connection(RIGHT, COMPRESSED_TYPE, typestore=TYPES)
        odd = writer.add_connection("/odd", "odd_msgs/msg/Odd", typestore=TYPES)
        info = writer.add_connection("/left/camera_info", CAMERA_INFO_TYPE, typestore=TYPES)
        writer.add_connection("/silent", "odd_msgs/msg/Odd", typestore=TYPES)
        for index, picture in enumerate(pictures):
            at_ns = START_NS + index * PERIOD_NS
            image = raw_image(index, picture)
            writer.write(left, at_ns + 1000, image[:100] if index == BROKEN else image)
            # The first calibration comes after the first image, and a lens is zoomed half-way.
            focal_px = 300.0 if index < ZOOMED else 600.0
            writer.write(info, at_ns + 1500, calibration(index, focal_px))
            writer.write(right, at_ns + 2000, jpeg_image(index, picture[:, ::-1]))
            message = odd_type(warmth=float(index), words=["a", str(index)])
            data = TYPES.serialize_cdr(message, "odd_msgs/msg/Odd")
            writer.write(odd, at_ns + 3000, data)
    return path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return write_bag(tmp_path_factory.mktemp("recorded") / "drive", StoragePlugin.MCAP)


def bag_command(source, out, model_set_path, *arguments):
    return ["bag", str(source), "--out", str(out), "--model-set", str(model_set_path), *arguments]


@pytest.fixture(scope="module")
def uninterrupted(recorded, tddfa_v2_set, tmp_path_factory):
    """Messages of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out.mcap"
    assert main(bag_command(recorded, out, tddfa_v2_set, "--topics", "faces,faces/raw")) == 0
    return contents(out)


def contents(path):
    """(topic, type, time of reception, bytes) of each message, in order."""
    bag = BagReader(path)
    messages = [(m.topic, m.msgtype, m.received_ns, m.data) for m in bag.messages()]
    bag.close()
    return messages


def about_topics(path, topics):
    bag = BagReader(path)
    about = {c.topic: (c.msgtype, c.msgdef, c.ext) for c in bag.connections if c.topic in topics}
    bag.close()
    return about


def faces_on(messages, topic):
    return [deserialize_message(data, FaceArray) for name, _, _, data in messages if name == topic]


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("out_name", ["out.mcap", "out.db3", "out"])
def test_all_is_kept_and_faces_are_added(tmp_path, tddfa_v2_set, capsys, plugin, out_name):
    source, out = write_bag(tmp_path / "drive", plugin), tmp_path / out_name
    assert main(bag_command(source, out, tddfa_v2_set)) == 0
    assert "1 broken ones left out" in capsys.readouterr().out
    before, after = contents(source), contents(out)
    added = ("/left/faces", "/right/faces")
    assert [m for m in after if m[0] not in added] == before
    originals = {topic for topic, *_ in before} | {"/silent"}
    assert about_topics(out, originals) == about_topics(source, originals)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["drive", out_name])

    images = {LEFT: "/left/faces", RIGHT: "/right/faces"}
    for image_topic, topic in images.items():
        assert about_topics(out, [topic])[topic][2].offered_qos_profiles == [OFFERED_QOS]
        arrays = faces_on(after, topic)
        broken = {BROKEN} if image_topic == LEFT else set()
        stamps = [START_NS + i * PERIOD_NS for i in range(FRAMES) if i not in broken]
        assert [a.header.stamp.sec * 10**9 + a.header.stamp.nanosec for a in arrays] == stamps
        assert {a.header.frame_id for a in arrays} == {"optical"}
        assert {(a.processing_time, a.frames_dropped) for a in arrays} == {(0.0, 0)}
        assert all(len(array.faces) == 1 for array in arrays)
        assert len({array.faces[0].id for array in arrays}) == 1
        received = [m[2] for m in before if m[0] == image_topic]
        del received[BROKEN : BROKEN + len(broken)]
        assert [m[2] for m in after if m[0] == topic] == received


def test_faces_are_those_of_the_pipeline(recorded, uninterrupted, model_set):
    pipeline = FacePipeline(model_set, PipelineConfig(smoothing="none"))
    bag = BagReader(recorded)
    expected = []
    for message in bag.messages((RIGHT,)):
        image_header, picture = decode(message)
        expected.append(pipeline.process(picture, image_header.stamp_ns).faces[0].landmarks)
    pipeline.close()
    arrays = faces_on(uninterrupted, "/right/faces/raw")
    for array, landmarks in zip(arrays, expected, strict=True):
        points = np.array([(p.x, p.y, p.z) for p in array.faces[0].landmarks], np.float32)
        np.testing.assert_array_equal(points, landmarks)


def test_a_calibrated_topic_has_metric_poses_of_its_own_camera(uninterrupted):
    for array in faces_on(uninterrupted, "/right/faces"):
        assert not array.faces[0].has_metric_pose
    for topic in ("/left/faces", "/left/faces/raw"):
        distances = []
        for array in faces_on(uninterrupted, topic):
            (face,) = array.faces
            assert face.has_metric_pose
            distances.append(face.metric_pose.pose.position.z)
        assert len(distances) == FRAMES - 1
        # An astronaut 300 pixels of focal length away is twice as far at 600.
        zoom = np.median(distances[ZOOMED + 10 :]) / np.median(distances[: ZOOMED - 10])
        assert 1.6 < zoom < 2.4
    # The image after the new calibration is the first to use it; the broken one left no message.
    raw = [a.faces[0].metric_pose.pose.position.z for a in faces_on(uninterrupted, topic)]
    assert raw[ZOOMED] / raw[ZOOMED - 1] > 1.8
    assert raw[ZOOMED - 1] / raw[ZOOMED - 2] < 1.2
    # That before the first calibration has this one.
    assert 0.8 < raw[0] / raw[1] < 1.2


def test_rectified_images_have_the_camera_of_these(tmp_path):
    projection = np.array([250, 0, 159.5, 0, 0, 250, 119.5, 0, 0, 0, 1.0, 0])
    info = TYPES.deserialize_cdr(calibration(0, 300.0), CAMERA_INFO_TYPE)
    info = dataclasses.replace(info, p=projection)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/camera_info", CAMERA_INFO_TYPE, typestore=TYPES)
        writer.write(connection, START_NS, TYPES.serialize_cdr(info, CAMERA_INFO_TYPE))
    bag = BagReader(tmp_path / "bag")
    for rectified, focal_px in ((False, 300), (True, 250)):
        camera = BagCalibration(bag, "/image", rectified=rectified).camera(240, 320)
        assert camera.matrix[0, 0] == focal_px
    bag.close()


def test_what_is_no_camera_info_on_its_topic_is_left_out(tmp_path, model_set, caplog):
    text = TYPES.types["std_msgs/msg/String"](data="not a calibration")
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = [
            writer.add_connection(f"/{name}", msgtype, typestore=TYPES)
            for name, msgtype in (
                ("a/image", IMAGE_TYPE),
                ("b/image", IMAGE_TYPE),
                ("a/camera_info", "std_msgs/msg/String"),
                ("b/camera_info", "std_msgs/msg/String"),
                ("b/camera_info", CAMERA_INFO_TYPE),
            )
        ]
        for index in range(2):
            image = raw_image(index, np.zeros((240, 320, 3), np.uint8))
            string = TYPES.serialize_cdr(text, "std_msgs/msg/String")
            messages = (image, image, string, string, calibration(index, 300.0))
            for number, (connection, data) in enumerate(zip(connections, messages, strict=True)):
                writer.write(connection, START_NS + 10 * index + number, data)
    assert main(bag_command(tmp_path / "bag", tmp_path / "out", model_set.path)) == 0
    after = contents(tmp_path / "out")
    assert [len(faces_on(after, f"/{name}/faces")) for name in "ab"] == [2, 2]
    assert [m for m in after if "/faces" not in m[0]] == contents(tmp_path / "bag")
    for name in "ab":
        told = f"left out: a message on /{name}/camera_info is a std_msgs/msg/String"
        assert caplog.text.count(told) == 1
    bag = BagReader(tmp_path / "bag")
    assert BagCalibration(bag, "/a/image", rectified=False).camera(240, 320) is None
    assert BagCalibration(bag, "/b/image", rectified=False).camera(240, 320).matrix[0, 0] == 300


@pytest.mark.parametrize("calibrated", [0, 4])
def test_of_a_damaged_bag_what_comes_before_is_kept_and_has_faces(
    tmp_path, repository, caplog, calibrated
):
    """Also where the first calibration is what is damaged."""
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        images = writer.add_connection("/image", IMAGE_TYPE, typestore=TYPES)
        infos = writer.add_connection("/camera_info", CAMERA_INFO_TYPE, typestore=TYPES)
        for index in range(6):
            if index == calibrated:
                writer.write(infos, START_NS + index, calibration(index, 300.0))
            picture = np.zeros((240, 320, 3), np.uint8)
            writer.write(images, START_NS + index, raw_image(index, picture))
            writer.storage.close_chunk()
    (file,) = (tmp_path / "bag").glob("*.mcap")
    parts = file.read_bytes().split(ZSTD_MAGIC)
    assert len(parts) == 1 + 6
    parts[1 + 4] = bytes(byte ^ 0xFF for byte in parts[1 + 4][:40]) + parts[1 + 4][40:]
    file.write_bytes(ZSTD_MAGIC.join(parts))
    out, models = tmp_path / "out.mcap", repository / "models" / "embedded"
    assert main(bag_command(tmp_path / "bag", out, models)) == 0
    assert "damaged" in caplog.text and "what comes before it is kept" in caplog.text
    topics = [topic for topic, *_ in contents(out)]
    assert (topics.count("/image"), topics.count("/faces")) == (4, 4)
    assert topics.count("/camera_info") == (calibrated == 0)


def start(arguments, limit_bytes=None):
    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.Popen(
        [sys.executable, "-m", "tddfa_ros", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        preexec_fn=limit_files if limit_bytes else None,
    )


def await_journal(part: Path, size: int, child):
    deadline = time.monotonic() + 60
    while not (part / "1.journal").exists() or (part / "1.journal").stat().st_size < size:
        assert child.poll() is None, child.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_interrupted_run_goes_on_and_gives_the_same_messages(
    tmp_path, recorded, tddfa_v2_set, uninterrupted, capsys, number, code
):
    out = tmp_path / "out.mcap"
    command = bag_command(recorded, out, tddfa_v2_set, "--topics", "faces,faces/raw")
    for size in (3000, 8000):
        child = start(command)
        await_journal(tmp_path / "out.mcap.part", size, child)
        child.send_signal(number)
        assert child.wait(30) == code, child.stdout.read()
        assert not out.exists()
        if number != signal.SIGKILL:
            said = child.stdout.read()
            assert f"of {2 * FRAMES} images are done" in said
            assert "Traceback" not in said
    assert main(command) == 0
    assert f"of {2 * FRAMES} images" in capsys.readouterr().out
    assert contents(out) == uninterrupted
    assert [path.name for path in tmp_path.iterdir()] == ["out.mcap"]


@pytest.mark.parametrize("out_name", ["out.mcap", "out.db3"])
def test_a_full_disk_is_one_clear_error_and_the_run_goes_on_later(
    tmp_path, recorded, tddfa_v2_set, uninterrupted, out_name
):
    out = tmp_path / out_name
    command = bag_command(recorded, out, tddfa_v2_set, "--topics", "faces,faces/raw")
    child = start(command, limit_bytes=4_000_000)
    said = child.communicate(timeout=60)[0]
    assert child.returncode == 1, said
    assert "Traceback" not in said
    assert "make room and repeat the command" in said
    assert not out.exists()
    assert not (tmp_path / f"{out_name}.part" / "bag").exists()
    assert main(command) == 0
    assert contents(out) == uninterrupted


def test_faces_in_images_without_a_stamp_are_searched_by_the_times_of_recording(
    tmp_path, astronaut, model_set, caplog
):
    one = np.hstack([astronaut, np.zeros_like(astronaut)])
    two = np.hstack([astronaut, astronaut[:, ::-1]])
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection("/image", IMAGE_TYPE, typestore=TYPES)
        for index in range(12):
            picture = one if index < 4 else two
            writer.write(images, START_NS + index * PERIOD_NS, raw_image(None, picture))
    bag = BagReader(tmp_path / "bag")
    calibrated = BagCalibration(bag, "/image", rectified=False)
    config = PipelineConfig(detection_interval_s=0.1)
    topics = {"faces": "/faces", "faces/raw": "/faces/raw"}

    def run(count):
        made = []
        with NetworkJournal(tmp_path / "journal", {"of": "this test"}) as journal:
            settings = (config, MetricConfig(), calibrated, journal, topics)
            with TopicFaces(model_set, *settings) as stream:
                for message in itertools.islice(bag.messages(), count):
                    made += stream.take(message, lambda m=message: decode(m))
                made += stream.flush()
        return [(m.topic, m.received_ns, m.data) for m in made]

    run(7)
    gone_on = run(12)
    (tmp_path / "journal").unlink()
    assert run(12) == gone_on
    arrays = [
        deserialize_message(data, FaceArray) for topic, _, data in gone_on if topic == "/faces"
    ]
    assert {(a.header.stamp.sec, a.header.stamp.nanosec) for a in arrays} == {(0, 0)}
    assert [len(arrays[0].faces), len(arrays[-1].faces)] == [1, 2]
    said = [record.getMessage() for record in caplog.records]
    assert sum("no stamp" in text and "times of recording" in text for text in said) == 3


@pytest.mark.parametrize("smoothing", ["one-euro", "window"])
def test_a_journal_cut_anywhere_gives_the_same_messages(tmp_path, recorded, model_set, smoothing):
    bag = BagReader(recorded)
    messages = list(bag.messages((LEFT,)))
    path = tmp_path / "journal"
    config = PipelineConfig(smoothing=smoothing, detection_interval_s=0.1, hold_shape_frames=9)

    def run(limit=None):
        made, decoded = [], 0
        with NetworkJournal(path, {"of": "this test"}) as journal:
            topics = {"faces": "/faces", "faces/raw": "/faces/raw"}
            calibrated = BagCalibration(bag, LEFT, rectified=False)
            settings = (config, MetricConfig(), calibrated)
            with TopicFaces(model_set, *settings, journal, topics) as stream:
                for message in messages[:limit]:
                    needed = stream.needs_pixels()
                    decoded += needed
                    made += stream.take(message, (lambda m=message: decode(m)) if needed else None)
                made += stream.flush() if limit is None else []
        return made, decoded

    whole, decoded = run()
    assert decoded == FRAMES
    assert len([m for m in whole if m.topic == "/faces"]) == FRAMES - 1
    content = path.read_bytes()
    assert run() == (whole, 3)  # nothing left but what a search may still have been looking at
    assert path.read_bytes() == content
    for cut in np.random.default_rng(3).integers(0, len(content), 12):
        path.write_bytes(content[:cut])
        assert run()[0] == whole
        # How late a search is written down depends on the machine, nothing else does.
        assert abs(path.stat().st_size - len(content)) < 200
    for damaged in (10, len(content) // 2, len(content) - 5):
        changed = bytearray(content)
        changed[damaged] ^= 0xFF
        path.write_bytes(changed)
        assert run()[0] == whole


def test_a_run_that_is_taken_up_draws_on_the_images_themselves(tmp_path, recorded, model_set):
    bag = BagReader(recorded)
    messages = list(itertools.islice(bag.messages((RIGHT,)), 9))

    def run(count):
        made = []
        with NetworkJournal(tmp_path / "journal", {"of": "this test"}) as journal:
            calibrated = BagCalibration(bag, RIGHT, rectified=False)
            settings = (PipelineConfig(), MetricConfig(), calibrated, journal)
            with TopicFaces(model_set, *settings, {"faces/overlay": "/overlay"}) as stream:
                for message in messages[:count]:
                    needed = stream.needs_pixels()
                    made += stream.take(message, (lambda m=message: decode(m)) if needed else None)
                made += stream.flush()
        return made

    run(6)
    for message, overlay in zip(messages, run(9), strict=True):
        image_header, picture = decode(message)
        drawn_header, drawn = decode_image(overlay.data)
        assert drawn_header == image_header
        assert 0 < (drawn != picture).any(axis=2).mean() < 0.5


def test_an_unfinished_run_with_other_settings_is_not_mixed_in(tmp_path):
    NetworkJournal(tmp_path / "journal", {"image topic": "/a", "smoothing": "none"}).close()
    with pytest.raises(MediaError, match=r"another smoothing; repeat .* or begin anew"):
        NetworkJournal(tmp_path / "journal", {"image topic": "/a", "smoothing": "window"})
    NetworkJournal(tmp_path / "journal", {"image topic": "/a", "smoothing": "none"}).close()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--out", "x.bag"], "a bag is a file .mcap or .db3"),
        (["--out", "."], "has no name of its own"),
        (["--out", "taken"], "no bag; choose another --out"),
        (["--image-topics", "/odd"], f"topics with images: {LEFT}, {RIGHT}"),
        (["--name", "image_raw", "--image-topics", LEFT], "has a topic /left/image_raw already"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    tmp_path, monkeypatch, recorded, tddfa_v2_set, capsys, arguments, what
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    command = bag_command(recorded, "out.mcap", tddfa_v2_set, *arguments)
    assert main(command) == 1
    assert what in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_what_is_put_beside_the_unfinished_run_stays(tmp_path, recorded, model_set):
    part = tmp_path / "out.mcap.part"
    child = start(bag_command(recorded, tmp_path / "out.mcap", model_set.path))
    await_journal(part, 3000, child)
    (part / "notes.txt").touch()
    assert child.wait(60) == 0, child.stdout.read()
    assert [path.name for path in part.iterdir()] == ["notes.txt"]


def test_names_of_the_added_topics():
    one = output_topics(["/cam/image_raw"], ["faces", "faces/raw"], "faces")
    assert one == {"/cam/image_raw": {"faces": "/cam/faces", "faces/raw": "/cam/faces/raw"}}
    assert output_topics(["/image"], ["faces"], "heads") == {"/image": {"faces": "/heads"}}
    shared = output_topics(["/cam/left", "/cam/right", "/c/x/compressed"], ["faces"], "faces")
    assert [named["faces"] for named in shared.values()] == [
        "/cam/left/faces",
        "/cam/right/faces",
        "/c/faces",
    ]


def test_no_two_image_topics_get_their_faces_in_one_place():
    """Below an image topic that has them under its own name, too, and below that one again."""
    topics = ["/left/rect/small/image", "/left", "/left/rect/image", "/right", "/left/rect"]
    named = output_topics(topics, ["faces"], "faces")
    assert {topic: named[topic]["faces"] for topic in topics} == {
        "/left/rect/small/image": "/left/rect/small/faces",
        "/left": "/left/faces",
        "/left/rect/image": "/left/rect/image/faces",
        "/right": "/right/faces",
        "/left/rect": "/left/rect/faces",
    }
    assert list(named) == topics


def test_a_name_that_makes_one_topic_of_two_is_refused():
    topics = ["/a/image", "/a/raw/image"]
    with pytest.raises(MediaError, match=r"two .* /a/raw/raw; .* --name raw,"):
        output_topics(topics, ["faces", "faces/raw"], "raw")
    assert len(output_topics(topics, ["faces"], "raw")) == 2
