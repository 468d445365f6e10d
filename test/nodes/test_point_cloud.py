"""Point clouds, read back by rclpy and by the description that they carry themselves."""

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import PointCloud2, PointField

from tddfa_ros.nodes.point_cloud import encode_points, face_points
from tddfa_ros.nodes.raw_image import ImageHeader

HEADER = ImageHeader(12, 345, "lens")
TYPES = {PointField.FLOAT32: "<f4", PointField.UINT16: "<u2", PointField.UINT8: "u1"}


def read(message):
    """Columns of a cloud, by nothing but its own fields."""
    rows = np.frombuffer(message.data, np.uint8).reshape(-1, message.point_step)
    columns = {}
    for field in message.fields:
        kind = np.dtype(TYPES[field.datatype])
        part = rows[:, field.offset : field.offset + kind.itemsize]
        columns[field.name] = np.ascontiguousarray(part).view(kind).ravel()
    return columns


def two_faces(rng):
    vertices = [rng.normal(size=(n, 3)).astype(np.float32) for n in (5, 7)]
    colors = [rng.integers(0, 256, (n, 3), np.uint8) for n in (5, 7)]
    return vertices, colors


def test_a_cloud_comes_back_as_it_was():
    vertices, colors = two_faces(np.random.default_rng(0))
    points = face_points(vertices, colors, [0, 3], has_metric_pose=True)
    message = deserialize_message(encode_points(points, HEADER), PointCloud2)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 345)
    assert message.header.frame_id == "lens"
    assert (message.height, message.width, message.is_dense) == (1, 12, True)
    assert message.row_step == len(message.data) == 12 * message.point_step
    assert not message.is_bigendian
    columns = read(message)
    assert list(columns) == ["x", "y", "z", "rgb", "face", "has_metric_pose"]
    xyz = np.stack([columns["x"], columns["y"], columns["z"]], axis=1)
    np.testing.assert_array_equal(xyz, np.concatenate(vertices))
    packed = columns["rgb"].view(np.uint32)
    bgr = np.stack([packed & 255, packed >> 8 & 255, packed >> 16 & 255], axis=1)
    np.testing.assert_array_equal(bgr, np.concatenate(colors))
    np.testing.assert_array_equal(packed >> 24, 0)
    np.testing.assert_array_equal(columns["face"], [0] * 5 + [3] * 7)
    np.testing.assert_array_equal(columns["has_metric_pose"], 1)


def test_no_face_is_an_empty_cloud():
    points = face_points([], [], [], has_metric_pose=False)
    message = deserialize_message(encode_points(points, HEADER), PointCloud2)
    assert message.width == len(message.data) == message.row_step == 0
    assert message.point_step == 20


def test_points_before_an_assumed_camera_say_so():
    vertices, colors = two_faces(np.random.default_rng(1))
    points = face_points(vertices, colors, [0, 1], has_metric_pose=False)
    message = deserialize_message(encode_points(points, HEADER), PointCloud2)
    assert (read(message)["has_metric_pose"] == 0).all()


def test_a_cloud_with_holes_is_not_dense():
    vertices = [np.full((2, 3), np.nan, np.float32)]
    points = face_points(vertices, [np.zeros((2, 3), np.uint8)], [0], has_metric_pose=True)
    assert not deserialize_message(encode_points(points, HEADER), PointCloud2).is_dense
