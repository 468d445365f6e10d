import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="nodes need ROS")
pytest.importorskip("tddfa_msgs", reason="needs the built workspace: make setup")

from rclpy.serialization import deserialize_message, serialize_message

from tddfa_msgs.msg import Face as FaceMessage
from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.expression import eye_mouth_openness
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.sample_media import astronaut_picture
from tddfa_ros.core.types import (
    Face,
    FrameResult,
    HeadPose,
    MetricPose,
    MorphableParams,
    TrackState,
)
from tddfa_ros.nodes.face_bytes import face_array_bytes
from tddfa_ros.nodes.face_from_message import landmarks_of, morphable_params
from tddfa_ros.nodes.raw_image import ImageHeader


def a_face(seed=0, shape_count=40, expression_count=10, **changes):
    rng = np.random.default_rng(seed)
    params = MorphableParams(
        camera=rng.normal(size=(3, 4)).astype(np.float32),
        shape=rng.normal(size=shape_count).astype(np.float32),
        expression=rng.normal(size=expression_count).astype(np.float32),
        roi_xyxy=rng.normal(100, 50, 4).astype(np.float32),
        input_size=120,
    )
    pose = HeadPose(
        quat_xyzw=np.array([0.5, 0.5, -0.5, 0.5]),
        yaw_pitch_roll_rad=np.array([0.1, -0.2, 0.3]),
        reference_euler_deg=np.zeros(3),
        scale=1.0,
    )
    face = {
        "id": "f00003",
        "state": TrackState.TRACKED,
        "age_frames": 17,
        "score": 0.875,
        "confidence": math.nan,
        "box_xyxy": rng.normal(100, 50, 4).astype(np.float32),
        "params": params,
        "landmarks": rng.normal(100, 50, (68, 3)).astype(np.float32),
        "pose": pose,
        "age_ns": 2_123_456_789,
    }
    return Face(**(face | changes))


ABOUT = {"model_set": "a set", "processing_time_s": 0.004, "frames_dropped": 2**40}


ODD = ImageHeader(-3, 4, "odd")


def bytes_of(*faces, header=ODD, **more):
    return face_array_bytes(FrameResult(5, 77, 480, 640, faces), header, **(ABOUT | more))


def read(data):
    return deserialize_message(data, FaceArray)


def message_of(face):
    """What rclpy reads in an array of this face between two others."""
    return read(bytes_of(a_face(8, id="before"), face, a_face(9, id="after"))).faces[1]


def test_every_field_of_a_face():
    face = a_face()
    message = message_of(face)
    assert (message.state, message.id, message.age_frames) == (FaceMessage.TRACKED, "f00003", 17)
    assert (message.age.sec, message.age.nanosec) == (2, 123_456_789)
    assert message.detection_score == 0.875
    assert math.isnan(message.confidence)
    np.testing.assert_array_equal(message.box_xyxy, face.box_xyxy)
    np.testing.assert_array_equal(landmarks_of(message), face.landmarks)
    assert np.isnan(message.landmark_visibility).all()
    orientation = message.orientation
    assert (orientation.x, orientation.y, orientation.z, orientation.w) == (0.5, 0.5, -0.5, 0.5)
    np.testing.assert_allclose([message.yaw, message.pitch, message.roll], [0.1, -0.2, 0.3], 1e-6)
    assert not message.has_metric_pose
    assert message.params.model_name == "a set"
    openness = (message.left_eye_openness, message.right_eye_openness, message.mouth_openness)
    np.testing.assert_allclose(openness, eye_mouth_openness(face.landmarks), rtol=1e-6)


def test_states_have_the_numbers_of_the_message():
    assert TrackState.DETECTED == FaceMessage.DETECTED
    assert TrackState.TRACKED == FaceMessage.TRACKED


@given(st.integers(0, 2**32 - 1), st.integers(0, 200), st.integers(0, 60))
def test_the_fit_comes_back_bit_by_bit(seed, shape_count, expression_count):
    face = a_face(seed, shape_count, expression_count)
    back = morphable_params(message_of(face).params)
    assert back.vector.dtype == np.float32
    np.testing.assert_array_equal(back.vector, face.params.vector)
    np.testing.assert_array_equal(back.camera, face.params.camera)
    np.testing.assert_array_equal(back.shape, face.params.shape)
    np.testing.assert_array_equal(back.roi_xyxy, face.params.roi_xyxy)
    assert back.input_size == face.params.input_size


def test_slices_and_doubles_are_written_as_float32():
    face = a_face()
    wide = np.arange(24.0).reshape(3, 8)[:, ::2]
    params = MorphableParams(
        camera=wide,
        shape=np.arange(80.0)[::2],
        expression=np.arange(20.0)[::2],
        roi_xyxy=np.arange(8)[::2],
        input_size=120,
    )
    back = morphable_params(message_of(a_face(params=params)).params)
    np.testing.assert_array_equal(back.camera, wide)
    np.testing.assert_array_equal(back.shape, np.arange(80.0)[::2])
    assert face.params.input_size == back.input_size


@pytest.mark.parametrize("count", [0, 1, 3])
def test_frame(count):
    faces = tuple(a_face(i, id=f"f{i:05d}") for i in range(count))
    message = read(bytes_of(*faces, header=ImageHeader(3, 4, "left_camera")))
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (3, 4)
    assert message.header.frame_id == "left_camera"
    assert (message.image_height, message.image_width) == (480, 640)
    assert message.model_set == "a set"
    assert message.processing_time == pytest.approx(0.004)
    assert message.frames_dropped == 2**40
    assert [face.id for face in message.faces] == [face.id for face in faces]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_bytes_are_those_of_rclpy_but_for_padding(count):
    ours = bytes_of(*(a_face(i, id="x" * i) for i in range(count)))
    rclpys = serialize_message(read(ours))
    assert len(ours) <= len(rclpys) <= len(ours) + 4
    differing = [a for a, b in zip(ours, rclpys, strict=False) if a != b]
    assert set(differing) <= {0}


def test_a_real_result(model_set):
    pipeline = FacePipeline(model_set, PipelineConfig())
    result = pipeline.process_still(astronaut_picture())
    pipeline.close()
    (face,) = result.faces
    data = face_array_bytes(result, ImageHeader(1, 2, "lens"), **ABOUT)
    assert data == face_array_bytes(result, ImageHeader(1, 2, "lens"), **ABOUT)
    (message,) = read(data).faces
    np.testing.assert_array_equal(landmarks_of(message), face.landmarks)
    np.testing.assert_array_equal(morphable_params(message.params).vector, face.params.vector)


def test_what_does_not_fit_its_field_is_refused():
    with pytest.raises(ValueError, match="not an array of 204 numbers"):
        bytes_of(a_face(landmarks=np.zeros((67, 3), np.float32)))
    with pytest.raises(ValueError, match="zip"):
        bytes_of(a_face(), visibilities=[np.ones(68)] * 2)


def test_what_is_seen_of_each_face():
    seen = np.arange(68) % 2
    first, second = read(bytes_of(a_face(0), a_face(1), visibilities=[seen, 1 - seen])).faces
    np.testing.assert_array_equal(first.landmark_visibility, seen)
    np.testing.assert_array_equal(second.landmark_visibility, 1 - seen)


def test_a_metric_pose_and_none():
    rng = np.random.default_rng(4)
    upright = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
    pose = MetricPose(upright, np.array([0.1, -0.2, 1.5]), rng.normal(size=(6, 6)), 0.5)
    placed, unplaced = read(bytes_of(a_face(0), a_face(1), metric_poses=(pose, None))).faces
    assert placed.has_metric_pose
    assert not unplaced.has_metric_pose
    position, turn = placed.metric_pose.pose.position, placed.metric_pose.pose.orientation
    assert (position.x, position.y, position.z) == (0.1, -0.2, 1.5)
    assert (turn.x, turn.y, turn.z, turn.w) == pytest.approx((0.5, 0.5, -0.5, 0.5))
    np.testing.assert_array_equal(placed.metric_pose.covariance, pose.covariance.ravel())
    assert unplaced.metric_pose.pose.orientation.w == 1
    assert not np.any(unplaced.metric_pose.covariance)
