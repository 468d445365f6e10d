"""TF of known poses, and metric poses in messages."""

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from tf2_msgs.msg import TFMessage

from tddfa_ros.core.types import MetricPose
from tddfa_ros.nodes.metric_outputs import face_transform
from tddfa_ros.nodes.raw_image import ImageHeader

HEADER = ImageHeader(7, 8, "lens")
# Out of the face is towards the camera, the subject's left the image's right, the scalp up.
UPRIGHT = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])


def test_an_upright_face_at_one_metre():
    pose = MetricPose(UPRIGHT, np.array([0.0, 0.0, 1.0]), np.eye(6), 0.5)
    sent = TFMessage(transforms=[face_transform("f00001", pose, HEADER)])
    (transform,) = deserialize_message(serialize_message(sent), TFMessage).transforms
    assert transform.header.frame_id == "lens"
    assert (transform.header.stamp.sec, transform.header.stamp.nanosec) == (7, 8)
    assert transform.child_frame_id == "face_f00001"
    place, turn = transform.transform.translation, transform.transform.rotation
    assert (place.x, place.y, place.z) == (0, 0, 1)
    assert (turn.x, turn.y, turn.z, turn.w) == pytest.approx((0.5, 0.5, -0.5, 0.5))


@pytest.mark.parametrize("seed", range(5))
def test_a_transform_takes_points_of_the_face_to_the_camera(seed):
    rng = np.random.default_rng(seed)
    rotation, position = Rotation.random(random_state=seed), rng.normal(size=3)
    pose = MetricPose(rotation.as_matrix(), position, np.eye(6), 0.5)
    transform = face_transform("f1", pose, HEADER).transform
    turn = Rotation.from_quat([getattr(transform.rotation, axis) for axis in "xyzw"])
    place = [getattr(transform.translation, axis) for axis in "xyz"]
    points = rng.normal(size=(4, 3))
    np.testing.assert_allclose(turn.apply(points) + place, rotation.apply(points) + position)
