import json
import resource
import struct

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="nodes need ROS")
pytest.importorskip("tddfa_msgs", reason="needs the built workspace: make setup")

from rclpy.serialization import deserialize_message, serialize_message
from rosbags.highlevel import AnyReader

from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.errors import ImageError, MediaError
from tddfa_ros.core.media import open_media
from tddfa_ros.core.results import face_from_dict
from tddfa_ros.nodes.bag_writer import BagWriter
from tddfa_ros.nodes.face_bytes import face_array_bytes, typestore_with_faces
from tddfa_ros.nodes.face_from_message import face_from_message
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image
from tddfa_ros.nodes.recorder import Recording, stamp_ns_of

FRAME_NS = 40_000_000
START_NS = 1_700_000_000_123_456_789


def header_of(stamp_ns: int) -> ImageHeader:
    return ImageHeader(*divmod(stamp_ns, 1_000_000_000), "camera")


@pytest.fixture(scope="module")
def fitted(model_set):
    """A real result for a message to carry."""
    from tddfa_ros.core.config import PipelineConfig
    from tddfa_ros.core.pipeline import FacePipeline
    from tddfa_ros.core.sample_media import astronaut_picture

    pipeline = FacePipeline(model_set, PipelineConfig())
    result = pipeline.process_still(astronaut_picture())
    pipeline.close()
    assert len(result.faces) == 1
    return result


def faces_of(result, header):
    return face_array_bytes(
        result, header, model_set="a_set", processing_time_s=0.004, frames_dropped=0
    )


def test_face_survives_its_message(fitted):
    (face,) = fitted.faces
    message = deserialize_message(faces_of(fitted, header_of(0)), FaceArray)
    back = face_from_message(message.faces[0])
    assert back.id == face.id
    assert back.state is face.state
    np.testing.assert_array_equal(back.params.vector, face.params.vector)
    np.testing.assert_array_equal(back.params.roi_xyxy, face.params.roi_xyxy)
    np.testing.assert_array_equal(back.landmarks, face.landmarks)
    np.testing.assert_array_equal(back.box_xyxy, face.box_xyxy)
    np.testing.assert_array_equal(back.pose.quat_xyzw, face.pose.quat_xyzw)
    assert back.pose.scale == face.pose.scale
    assert back.score == pytest.approx(face.score, abs=1e-6)


@pytest.mark.parametrize("stamp_ns", [0, 1, START_NS, 2**31 * 1_000_000_000 - 1])
def test_stamp_is_read_from_the_bytes(stamp_ns):
    header = header_of(stamp_ns)
    image = encode_image(np.zeros((4, 4, 3), np.uint8), header)
    assert stamp_ns_of(image) == stamp_ns
    assert stamp_ns_of(serialize_message(FaceArray(header=header.message()))) == stamp_ns
    # The first bytes say in which order the others are.
    big_endian = struct.pack(">4B2I", 0, 0, 0, 0, header.sec, header.nanosec)
    assert stamp_ns_of(big_endian) == stamp_ns


def test_images_that_nobody_answers_do_not_pile_up(fitted, tmp_path):
    info = {"source_timestamp": START_NS, "received_timestamp": START_NS}
    picture = np.zeros((4, 4, 3), np.uint8)
    with Recording(tmp_path, None) as recording:
        for index in range(300):
            header = header_of(index * FRAME_NS)
            recording.add_image(encode_image(picture, header), info)
            if index % 100 == 99:
                recording.add_faces(faces_of(fitted, header), info)
                assert recording._index_by_stamp == {}


def test_all_is_answered_once_each_image_has_its_faces_and_their_picture(fitted, tmp_path):
    info = {"source_timestamp": START_NS, "received_timestamp": START_NS}
    answered = []
    with Recording(tmp_path, None) as recording:
        answered.append(recording.all_answered)
        for stamp_ns in (0, FRAME_NS):
            header = header_of(stamp_ns)
            picture = encode_image(np.zeros((48, 64, 3), np.uint8), header)
            for add, data in (
                (recording.add_image, picture),
                (recording.add_faces, faces_of(fitted, header)),
                (recording.add_overlay, picture),
            ):
                add(data, info)
                answered.append(recording.all_answered)
    assert answered == [False, False, False, True, False, False, True]


def test_video_bag_and_lines_hold_the_same_run(fitted, tmp_path):
    info = {"source_timestamp": START_NS, "received_timestamp": START_NS + 5_000_000}
    with Recording(tmp_path, 25.0) as recording:
        for index in range(6):
            header = header_of(index * FRAME_NS)
            picture = np.full((48, 64, 3), 40 * index, np.uint8)
            recording.add_image(encode_image(picture, header), info)
            if index == 3:
                continue
            recording.add_faces(faces_of(fitted, header), info)
            recording.add_overlay(encode_image(picture, header), info)
        with pytest.raises(ImageError):
            recording.add_overlay(b"\0\1\0\0 damaged", info)
        assert not (tmp_path / "bag").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["annotated.mp4", "bag", "faces.jsonl"]

    lines = [json.loads(line) for line in (tmp_path / "faces.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, 4, 5]
    assert [line["stamp_ns"] // FRAME_NS for line in lines] == [0, 1, 2, 4, 5]

    with AnyReader([tmp_path / "bag"], default_typestore=typestore_with_faces()) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        assert counts == {"/image": 6, "/faces": 5}
        arrays = [
            reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()
            if connection.topic == "/faces"
        ]
    for line, message in zip(lines, arrays, strict=True):
        written = face_from_dict(line["faces"][0])
        points = [(p.x, p.y, p.z) for p in message.faces[0].landmarks]
        np.testing.assert_array_equal(written.landmarks, np.array(points, np.float32))

    # Where a picture has no answer, the one before stays for longer.
    with open_media(tmp_path / "annotated.mp4") as media:
        pictures = list(media)
    assert [p.stamp_ns for p in pictures] == [i * FRAME_NS for i in (0, 1, 2, 4, 5)]
    levels = [p.image_bgr.mean() for p in pictures]
    assert levels == [pytest.approx(v, abs=5) for v in (0, 40, 80, 160, 200)]


def test_pictures_without_stamps_are_shown_when_they_came(tmp_path, caplog):
    with Recording(tmp_path, None) as recording:
        for index in range(20):
            picture = encode_image(np.full((48, 64, 3), 10 * index, np.uint8), header_of(0))
            came_ns = START_NS + 100_000_000 * index
            info = {"source_timestamp": came_ns, "received_timestamp": came_ns}
            recording.add_overlay(picture, info)
    with open_media(tmp_path / "annotated.mp4") as media:
        stamps_ns = [frame.stamp_ns for frame in media]
    assert stamps_ns == [index * 100_000_000 for index in range(20)]
    assert sum("the images have no stamp" in line for line in caplog.messages) == 1


def test_bag_is_readable_by_its_own_definitions_alone(fitted, tmp_path):
    """As a machine without tddfa_msgs reads it."""
    info = {"source_timestamp": 1, "received_timestamp": 2}
    with Recording(tmp_path, 25.0) as recording:
        recording.add_faces(faces_of(fitted, header_of(0)), info)
    with AnyReader([tmp_path / "bag"]) as reader:
        ((connection, received_ns, data),) = list(reader.messages())
        assert received_ns == 2
        read = reader.deserialize(data, connection.msgtype)
    assert read.model_set == "a_set"
    assert len(read.faces[0].landmarks) == 68


def test_a_second_recording_replaces_the_first_and_an_empty_or_discarded_one_leaves_it(
    fitted, tmp_path
):
    for stamp_ns in (1, 2, 3):
        with Recording(tmp_path, 25.0) as recording:
            image = encode_image(np.zeros((8, 8, 3), np.uint8), header_of(stamp_ns))
            recording.add_image(image, {"source_timestamp": 1, "received_timestamp": stamp_ns})
            if stamp_ns == 3:
                recording.discard()
    with Recording(tmp_path, 25.0):
        pass
    with AnyReader([tmp_path / "bag"]) as reader:
        assert [received_ns for _, received_ns, _ in reader.messages()] == [2]
    assert [p.name for p in tmp_path.iterdir()] == ["bag"]


def test_a_bag_that_cannot_be_written_is_an_error_and_the_earlier_one_stays(tmp_path):
    info = {"source_timestamp": START_NS, "received_timestamp": START_NS}
    image = encode_image(np.zeros((480, 640, 3), np.uint8), header_of(START_NS))
    with Recording(tmp_path, 25.0) as recording:
        recording.add_image(image, info)
    (earlier,) = (tmp_path / "bag").glob("*.mcap")
    content = earlier.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, limits[1]))
    try:
        with (
            pytest.raises(MediaError, match=r"bag: cannot be written \(File too large\)"),
            Recording(tmp_path, 25.0) as recording,
        ):
            for _ in range(4):
                recording.add_image(image, info)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not recording.bag.in_place
    assert [p.name for p in tmp_path.iterdir()] == ["bag"]
    assert earlier.read_bytes() == content


def test_a_bag_whose_file_cannot_be_made_leaves_no_folder(tmp_path):
    """The folder's name is as long as can be, but its file's ends in .mcap."""
    with pytest.raises(MediaError, match=r"cannot be written \(File name too long\)"):
        BagWriter(tmp_path / ("b" * 255), {"/image": "sensor_msgs/msg/Image"})
    assert list(tmp_path.iterdir()) == []
