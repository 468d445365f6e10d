"""TF of known poses, and metric poses in messages."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

from tddfa_ros.core.types import MetricPose
from tddfa_ros.nodes.image_input import IncomingImage
from tddfa_ros.nodes.metric_outputs import _depths, _points, face_transform
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

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


def test_a_face_without_a_pose_has_no_points_and_no_depth():
    """The one between two that have; each of these keeps its colours and its number."""
    meshes = [np.full((4, 3), 10.0 * face, np.float32) for face in range(3)]
    frame = SimpleNamespace(
        calibrated=True,
        placed=("a pose", None, "a pose"),
        vertices_m=lambda face: None if face == 1 else meshes[face] + [0, 0, 1 + face],
    )
    rendered = SimpleNamespace(
        vertices=meshes, vertex_colors_bgr=lambda face: np.full((4, 3), 40 * face, np.uint8)
    )
    scene = SimpleNamespace(frame=rendered)
    first, none, last = (depths.ravel() for depths in _depths(frame, scene))
    np.testing.assert_array_equal(first, np.full(4, 1.0))
    assert none.shape == (4,)
    assert np.isnan(none).all()
    np.testing.assert_array_equal(last, np.full(4, 23.0))
    points = _points(frame, scene)
    assert points["face"].tolist() == [0] * 4 + [2] * 4
    assert set(points["rgb"][:4].tolist()) == {0}
    assert set(points["rgb"][4:].tolist()) == {80 << 16 | 80 << 8 | 80}


def test_there_are_transforms_from_a_frame_that_has_a_name_alone(
    make_face_node, plain_node, astronaut, capfd
):
    node = make_face_node()
    node.start()
    heard = []
    plain_node.create_subscription(TFMessage, "/tf", heard.append, 10)
    deadline = time.monotonic() + 20
    while not node.count_subscribers("/tf"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)  # matched, too
    height, width = astronaut.shape[:2]
    focal = [500.0, 0.0, width / 2, 0.0, 500.0, height / 2, 0.0, 0.0, 1.0]
    node._cameras._keep(CameraInfo(height=height, width=width, k=focal))
    for number, frame_id in enumerate(["", "", "lens"]):
        data = encode_image(astronaut, ImageHeader(100, number * 33_000_000, frame_id))
        node._worker.take(IncomingImage(data, 0, 0, 0))
    while not heard:
        assert time.monotonic() < deadline
        rclpy.spin_once(plain_node, timeout_sec=0.05)
    (transform,) = heard[0].transforms
    assert (transform.header.frame_id, transform.header.stamp.nanosec) == ("lens", 66_000_000)
    assert capfd.readouterr().err.count("images without frame_id: no TF") == 1
