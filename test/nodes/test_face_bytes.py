import numpy as np
import pytest

pytest.importorskip("rclpy", reason="nodes need ROS")
pytest.importorskip("tddfa_msgs", reason="needs the built workspace: make setup")

from rclpy.serialization import deserialize_message, serialize_message

from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.sample_media import astronaut_picture
from tddfa_ros.nodes.face_bytes import face_array_bytes
from tddfa_ros.nodes.face_messages import face_array
from tddfa_ros.nodes.raw_image import ImageHeader


@pytest.fixture(params=[0, 1, 3])
def message(request, model_set):
    """A real result with so many faces, and an odd frame_id that needs padding."""
    pipeline = FacePipeline(model_set, PipelineConfig())
    image = astronaut_picture()[:260, 100:360]
    result = pipeline.process_still(np.hstack([image] * max(request.param, 1)))
    pipeline.close()
    assert len(result.faces) >= request.param
    made = face_array(
        result,
        ImageHeader(-5, 7, "odd"),
        model_set="a",
        processing_time_s=0.25,
        frames_dropped=2**63,
    )
    made.faces = made.faces[: request.param]
    return made


def test_rclpy_reads_what_was_written(message):
    back = deserialize_message(face_array_bytes(message), FaceArray)
    rclpys = deserialize_message(serialize_message(message), FaceArray)
    # NaN is not equal to itself: compare as text, which gives every digit.
    assert str(back) == str(rclpys)


def test_bytes_are_those_of_rclpy_but_for_padding(message):
    ours, rclpys = face_array_bytes(message), serialize_message(message)
    assert len(ours) <= len(rclpys) <= len(ours) + 4
    differing = [a for a, b in zip(ours, rclpys, strict=False) if a != b]
    assert set(differing) <= {0}


def test_equal_messages_have_equal_bytes(message):
    copy = deserialize_message(serialize_message(message), FaceArray)
    assert face_array_bytes(copy) == face_array_bytes(message)
