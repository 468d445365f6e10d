"""Metric poses, TF, depth, points and markers, in real processes."""

from __future__ import annotations

import array
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from tddfa_msgs.msg import FaceArray
from tddfa_ros.nodes.point_cloud import POINT

FRAME_ID = "camera_optical_frame"
PERIOD_NS = 33_333_333
FOCAL_PX = 700.0


class Camera:
    """Publishes one photo again and again, each time with a stamp of its own.

    Without a calibration it publishes none.
    """

    def __init__(self, probe, photo: Path, calibration: CameraInfo | None) -> None:
        self.image = cv2.imread(str(photo))
        self.height, self.width = self.image.shape[:2]
        self.sent = 0
        self._probe = probe
        self._images = probe.publisher(Image, "image")
        self._calibration = calibration
        if calibration is not None:
            self._calibrations = probe.publisher(CameraInfo, "camera_info")
        self._message = Image(
            height=self.height, width=self.width, encoding="bgr8", step=3 * self.width
        )
        self._message.data.frombytes(self.image.tobytes())

    def go_dark(self) -> None:
        self._message.data = array.array("B", bytes(len(self._message.data)))

    def send(self) -> None:
        for message in filter(None, (self._calibration, self._message)):
            seconds, nanoseconds = divmod(self.sent * PERIOD_NS, 10**9)
            message.header.stamp.sec = 100 + seconds
            message.header.stamp.nanosec = nanoseconds
            message.header.frame_id = FRAME_ID
        if self._calibration is not None:
            self._calibrations.publish(self._calibration)
        self._images.publish(self._message)
        self.sent += 1

    def send_until(self, condition, what: str) -> None:
        for _ in range(300):
            if condition():
                return
            self.send()
            self._probe.spin_for(0.05)
        pytest.fail(f"300 images without {what}")


def calibration_of(photo: Path, focal_px: float) -> CameraInfo:
    height, width = cv2.imread(str(photo)).shape[:2]
    matrix = [focal_px, 0.0, width / 2, 0.0, focal_px, height / 2, 0.0, 0.0, 1.0]
    if not focal_px:
        matrix = [0.0] * 9
    return CameraInfo(
        height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5, k=matrix
    )


def stamp_of(header) -> tuple[int, int]:
    return header.stamp.sec, header.stamp.nanosec


def by_stamp(messages):
    return {stamp_of(message.header): message for message in messages}


def test_all_metric_outputs_agree(world, probe, tddfa_v2_set, media):
    photo = media / "JianzhuGuo.jpg"
    world.face_node(tddfa_v2_set, smoothing="none", image_reliability="reliable")
    camera = Camera(probe, photo, calibration_of(photo, FOCAL_PX))
    faces = probe.messages(FaceArray, "faces")
    transforms = probe.messages(TFMessage, "/tf")
    depths = probe.messages(Image, "faces/depth")
    clouds = probe.messages(PointCloud2, "faces/points")
    markers = probe.messages(MarkerArray, "faces/markers")
    camera.send_until(
        lambda: all(map(len, (faces, transforms, depths, clouds, markers))) and len(clouds) > 5,
        "all of faces, TF, depth, points, markers",
    )
    common = (
        by_stamp(faces).keys()
        & by_stamp(depths).keys()
        & by_stamp(clouds).keys()
        & {stamp_of(message.transforms[0].header) for message in transforms}
        & {stamp_of(message.markers[0].header) for message in markers}
    )
    assert common, "no image with all outputs"
    stamp = max(common)
    (face,) = by_stamp(faces)[stamp].faces
    assert face.has_metric_pose
    # TF and message say the same, from the image's frame.
    (transform,) = next(
        m.transforms for m in transforms if stamp_of(m.transforms[0].header) == stamp
    )
    assert transform.header.frame_id == FRAME_ID
    assert transform.child_frame_id == f"face_{face.id}"
    pose, place = face.metric_pose.pose, transform.transform.translation
    position = np.array([place.x, place.y, place.z])
    np.testing.assert_array_equal(position, [pose.position.x, pose.position.y, pose.position.z])
    assert transform.transform.rotation == pose.orientation
    covariance = np.array(face.metric_pose.covariance).reshape(6, 6)
    assert np.linalg.eigvalsh(covariance).min() > 0
    # A face 150 mm broad that is w pixels broad is at about f * 0.15 / w.
    ears = np.array([[p.x, p.y] for p in (face.landmarks[0], face.landmarks[16])])
    expected_z = FOCAL_PX * 0.15 / np.linalg.norm(ears[0] - ears[1])
    assert position[2] == pytest.approx(expected_z, rel=0.25)
    # Points: where the landmarks are, in the colours of the photo.
    cloud = by_stamp(clouds)[stamp]
    assert cloud.header.frame_id == FRAME_ID
    assert [(f.name, f.offset) for f in cloud.fields] == [
        (name, POINT.fields[name][1]) for name in POINT.names
    ]
    points = np.frombuffer(cloud.data, POINT)
    assert cloud.width == len(points) > 10_000
    assert (points["has_metric_pose"] == 1).all()
    assert (points["face"] == 0).all()
    pixels = np.stack(
        [
            FOCAL_PX * points["x"] / points["z"] + camera.width / 2,
            FOCAL_PX * points["y"] / points["z"] + camera.height / 2,
        ],
        axis=1,
    )
    landmarks = np.array([[p.x, p.y] for p in face.landmarks])
    size = np.ptp(landmarks, axis=0).max()
    apart = np.linalg.norm(landmarks[:, None] - pixels[None], axis=2).min(axis=1)
    assert apart.max() < 0.15 * size
    assert np.median(apart) < 0.03 * size
    # Depth: metres, and only where the face is; the nose is nearest.
    depth_message = by_stamp(depths)[stamp]
    assert depth_message.encoding == "32FC1"
    depth = np.frombuffer(depth_message.data, np.float32).reshape(camera.height, camera.width)
    shown = np.isfinite(depth)
    assert 0.02 < shown.mean() < 0.5
    assert depth[shown].min() == pytest.approx(points["z"].min(), abs=0.005)
    nose_x, nose_y = landmarks[30].round().astype(int)
    assert depth[nose_y, nose_x] < position[2]
    assert np.isnan(depth[0]).all()
    # Markers: the shape that RViz needs.
    shapes = next(m.markers for m in markers if stamp_of(m.markers[0].header) == stamp)
    assert {shape.ns for shape in shapes} == {"mesh", "landmarks", "axes", "label"}
    (mesh,) = [shape for shape in shapes if shape.ns == "mesh"]
    assert mesh.type == Marker.TRIANGLE_LIST
    assert 0 < len(mesh.points) <= 9000
    assert len(mesh.points) % 3 == 0
    assert len(mesh.colors) == len(mesh.points)


def test_an_uncalibrated_camera_gives_no_metric_pose_but_points(world, probe, tddfa_v2_set, media):
    photo = media / "JianzhuGuo.jpg"
    node = world.face_node(tddfa_v2_set, image_reliability="reliable")
    camera = Camera(probe, photo, calibration_of(photo, 0.0))
    faces = probe.messages(FaceArray, "faces")
    transforms = probe.messages(TFMessage, "/tf")
    depths = probe.messages(Image, "faces/depth")
    clouds = probe.messages(PointCloud2, "faces/points")
    markers = probe.messages(MarkerArray, "faces/markers")
    camera.send_until(lambda: len(clouds) > 5 and len(markers) > 1, "points and markers")
    assert faces[-1].faces
    assert not any(face.has_metric_pose for message in faces for face in message.faces)
    assert not transforms
    assert not depths
    points = np.frombuffer(clouds[-1].data, POINT)
    assert (points["has_metric_pose"] == 0).all()
    # Before the assumed camera, 60 degrees across.
    focal_px = camera.width / 2 / np.tan(np.radians(30))
    x = focal_px * points["x"] / points["z"] + (camera.width - 1) / 2
    box = faces[-1].faces[0].box_xyxy
    assert box[0] - 40 < x.min() < x.max() < box[2] + 40
    assert node.output.count("uncalibrated") == 1


def test_a_calibration_published_once_before_the_node_starts_holds(
    world, probe, tddfa_v2_set, media
):
    photo = media / "JianzhuGuo.jpg"
    once = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    calibrations = probe.node.create_publisher(CameraInfo, "camera_info", once)
    calibrations.publish(calibration_of(photo, FOCAL_PX))
    node = world.face_node(tddfa_v2_set, image_reliability="reliable")
    camera = Camera(probe, photo, None)
    faces = probe.messages(FaceArray, "faces")
    camera.send_until(lambda: len(faces) > 2, "faces")
    assert all(face.has_metric_pose for message in faces for face in message.faces)
    assert faces[-1].faces
    assert "no message on" not in node.output


def test_markers_keep_to_their_rate_and_lost_faces_are_deleted(world, probe, tddfa_v2_set, media):
    photo = media / "JianzhuGuo.jpg"
    world.face_node(tddfa_v2_set, image_reliability="reliable", lost_timeout_s=0.1)
    camera = Camera(probe, photo, calibration_of(photo, FOCAL_PX))
    markers = probe.messages(MarkerArray, "faces/markers")
    camera.send_until(lambda: len(markers) > 4, "markers")
    stamps = [stamp_of(m.markers[0].header) for m in markers]
    stamps_ns = np.array([sec * 10**9 + ns for sec, ns in stamps])
    assert np.diff(stamps_ns).min() >= 0.99e8
    numbers = {m.id for message in markers for m in message.markers}
    assert numbers == {0}
    camera.go_dark()
    before = len(markers)
    camera.send_until(
        lambda: any(m.action == Marker.DELETE for a in markers[before:] for m in a.markers),
        "removal of the lost face",
    )
    removal = next(a for a in markers[before:] if a.markers[0].action == Marker.DELETE)
    assert {(m.ns, m.id) for m in removal.markers} == {
        (name, 0) for name in ("mesh", "landmarks", "axes", "label")
    }
