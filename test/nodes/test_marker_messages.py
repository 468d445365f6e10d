"""Markers, read back by rclpy: what RViz demands of them, and where things are."""

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from visualization_msgs.msg import Marker, MarkerArray

from tddfa_ros.core.coarse_mesh import AMBIENT, CoarseMesh
from tddfa_ros.core.types import MetricPose
from tddfa_ros.nodes.marker_messages import (
    AXIS_LENGTH_M,
    NAMESPACES,
    SKIN_RGB,
    MarkerShape,
    all_removed,
    axes_marker,
    encode_markers,
    label_marker,
    landmark_marker,
    mesh_marker,
    removed,
)
from tddfa_ros.nodes.raw_image import ImageHeader

HEADER = ImageHeader(7, 8, "lens")
# Out of the face is towards the camera, the subject's left the image's right, the scalp up.
UPRIGHT = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
POSE = MetricPose(UPRIGHT, np.array([0.1, 0.2, 1.0]), np.eye(6), 0.5)
# A square that faces the camera, both triangles counter-clockwise seen from there; x right, y down.
SQUARE_M = np.array([[0, 0, 1], [0.1, 0, 1], [0.1, 0.1, 1], [0, 0.1, 1], [9, 9, 9]], np.float32)
SQUARE = CoarseMesh(np.arange(4), np.array([[0, 2, 1], [0, 3, 2]]))


def read(shapes):
    return deserialize_message(encode_markers(shapes, HEADER), MarkerArray).markers


def points_of(marker):
    return np.array([(p.x, p.y, p.z) for p in marker.points]).reshape(-1, 3)


def colors_of(marker):
    return np.array([(c.r, c.g, c.b, c.a) for c in marker.colors]).reshape(-1, 4)


def all_kinds():
    return [
        mesh_marker(4, SQUARE, SQUARE_M),
        landmark_marker(4, np.arange(204).reshape(68, 3) / 100),
        axes_marker(4, POSE),
        label_marker(4, POSE, "f00007"),
    ]


def test_what_holds_for_every_marker():
    markers = read(all_kinds())
    assert {(m.ns, m.id) for m in markers} == {(name, 4) for name in NAMESPACES}
    for marker in markers:
        assert marker.header.frame_id == "lens"
        assert (marker.header.stamp.sec, marker.header.stamp.nanosec) == (7, 8)
        assert marker.action == Marker.ADD
        assert not marker.frame_locked
        assert marker.pose.orientation.w == 1
        assert np.isfinite(points_of(marker)).all()
        assert np.isfinite(colors_of(marker)).all()
        assert len(marker.colors) in (0, len(marker.points))
        assert marker.lifetime.sec > 0


def test_a_marker_says_how_long_it_stays():
    (marker,) = read([MarkerShape("label", 0, lifetime_s=21.25)])
    assert (marker.lifetime.sec, marker.lifetime.nanosec) == (21, 250_000_000)


def test_rclpy_writes_the_same_content():
    data = encode_markers(all_kinds(), HEADER)
    message = deserialize_message(data, MarkerArray)
    assert deserialize_message(serialize_message(message), MarkerArray) == message
    assert len(serialize_message(message)) == len(data)


def test_a_mesh_is_triangles_lit_from_the_camera():
    (marker,) = read([mesh_marker(0, SQUARE, SQUARE_M)])
    assert marker.type == Marker.TRIANGLE_LIST
    assert (marker.scale.x, marker.scale.y, marker.scale.z) == (1, 1, 1)
    np.testing.assert_allclose(points_of(marker), SQUARE_M[[0, 2, 1, 0, 3, 2]], rtol=1e-7)
    colors = colors_of(marker)
    # It faces the camera, all but squarely.
    np.testing.assert_allclose(colors[:, :3], np.tile(SKIN_RGB, (6, 1)), rtol=0.02)
    np.testing.assert_array_equal(colors[:, 3], 1)


def test_a_mesh_from_behind_is_dark():
    (marker,) = read(
        [mesh_marker(0, CoarseMesh(np.arange(4), SQUARE.triangles[:, ::-1]), SQUARE_M)]
    )
    np.testing.assert_allclose(colors_of(marker)[:, :3], AMBIENT * np.tile(SKIN_RGB, (6, 1)), 1e-6)


def test_axes_of_an_upright_face():
    (marker,) = read([axes_marker(0, POSE)])
    assert marker.type == Marker.LINE_LIST
    assert marker.scale.x > 0
    starts, ends = points_of(marker).reshape(3, 2, 3).transpose(1, 0, 2)
    np.testing.assert_allclose(starts, np.tile(POSE.position_m, (3, 1)))
    towards_camera, image_right, image_up = [0, 0, -1], [1, 0, 0], [0, -1, 0]
    expected = [towards_camera, image_right, image_up]
    np.testing.assert_allclose((ends - starts) / AXIS_LENGTH_M, expected, atol=1e-12)
    expected_rgb = np.repeat(np.eye(3), 2, axis=0)
    np.testing.assert_array_equal(colors_of(marker)[:, :3], expected_rgb)


def test_landmarks_are_balls_of_one_colour():
    landmarks = np.arange(204).reshape(68, 3) / 100
    (marker,) = read([landmark_marker(0, landmarks)])
    assert marker.type == Marker.SPHERE_LIST
    assert marker.scale.x == marker.scale.y == marker.scale.z > 0
    assert marker.color.a == 1
    np.testing.assert_allclose(points_of(marker), landmarks)


def test_the_label_is_above_the_head():
    (marker,) = read([label_marker(0, POSE, "f00007")])
    assert marker.type == Marker.TEXT_VIEW_FACING
    assert marker.text == "f00007"
    assert marker.scale.z > 0
    place = marker.pose.position
    assert (place.x, place.z) == pytest.approx((0.1, 1.0))
    assert place.y < 0.2


def test_removal():
    markers = read(removed(5))
    assert {(m.ns, m.id, m.action) for m in markers} == {
        (name, 5, Marker.DELETE) for name in NAMESPACES
    }
    assert [m.action for m in read(all_removed())] == [Marker.DELETEALL]
