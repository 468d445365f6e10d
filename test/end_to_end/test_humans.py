"""The REP-155 view of a running face node; needs hri_msgs, which is not on PyPI."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image

from tddfa_msgs.msg import FaceArray
from tddfa_ros.nodes.face_from_message import landmarks_of
from tddfa_ros.nodes.raw_image import ImageHeader, decode_image, encode_image

FOCAL_PX = 700.0


class Camera:
    def __init__(self, probe, photo):
        self.probe, self.photo, self.sent = probe, photo, 0
        self.faces = probe.messages(FaceArray, "faces")
        self.images = probe.publisher(Image, "image")
        self.calibrations = probe.publisher(CameraInfo, "camera_info")

    def show(self, photo):
        height, width = photo.shape[:2]
        matrix = [FOCAL_PX, 0.0, width / 2, 0.0, FOCAL_PX, height / 2, 0.0, 0.0, 1.0]
        header = ImageHeader(100 + self.sent // 30, self.sent % 30 * 33_333_333, "camera")
        info = CameraInfo(height=height, width=width, k=matrix, distortion_model="plumb_bob")
        info.header = header.message()
        self.calibrations.publish(info)
        self.images.publish(encode_image(photo, header))
        self.sent += 1
        self.probe.spin_for(0.1)

    def show_until(self, condition, what, photo=None):
        def shown():
            self.show(self.photo if photo is None else photo)
            return condition()

        self.probe.spin_until(shown, what)


def test_without_hri_msgs_it_says_so_and_works(world, probe, tddfa_v2_set, astronaut):
    try:
        import hri_msgs.msg  # noqa: F401
    except ImportError:
        node = world.face_node(tddfa_v2_set, image_reliability="reliable", humans=True)
        camera = Camera(probe, astronaut)
        camera.show_until(lambda: camera.faces, "faces")
        assert node.output.count("no hri_msgs here") == 1
    else:
        pytest.skip("hri_msgs is installed here")


def test_faces_are_where_rep_155_has_them(world, probe, tddfa_v2_set, astronaut):
    hri = pytest.importorskip(
        "hri_msgs.msg", reason="hri_msgs is not installed here; it is part of ROS, not on PyPI"
    )
    tf2 = pytest.importorskip("tf2_msgs.msg")
    world.face_node(tddfa_v2_set, image_reliability="reliable", humans=True, smoothing="none")
    camera = Camera(probe, astronaut)
    tracked = probe.messages(hri.IdsList, "/humans/faces/tracked")
    transforms = probe.messages(tf2.TFMessage, "/tf")
    camera.show_until(lambda: any(m.ids for m in tracked), "an id")
    (face_id,) = next(m.ids for m in tracked if m.ids)
    root = f"/humans/faces/{face_id}"
    rois = probe.messages(hri.NormalizedRegionOfInterest2D, f"{root}/roi")
    landmarks = probe.messages(hri.FacialLandmarks, f"{root}/landmarks")
    cropped = probe.messages(Image, f"{root}/cropped")
    aligned = probe.messages(Image, f"{root}/aligned")
    everything = (rois, landmarks, cropped, aligned)
    camera.show_until(lambda: all(everything) and camera.faces[-1].faces, "all of a face")
    camera.show_until(lambda: camera.faces[-1].header == landmarks[-1].header, "the same image")
    camera.probe.spin_for(0.3)
    (face,) = camera.faces[-1].faces
    height, width = astronaut.shape[:2]
    assert face.id == face_id
    points = np.array([[p.x * width, p.y * height, p.c] for p in landmarks[-1].landmarks])
    np.testing.assert_allclose(points[:68, :2], landmarks_of(face)[:, :2], atol=0.01)
    assert (points[:68, 2] > 0).all()
    assert (points[68:, 2] == 0).all()
    np.testing.assert_allclose(points[68, :2], points[36:42, :2].mean(axis=0), atol=0.01)
    roi = rois[-1]
    np.testing.assert_allclose(
        [roi.xmin * width, roi.ymin * height, roi.xmax * width, roi.ymax * height],
        face.box_xyxy,
        atol=0.01,
    )
    for messages in (cropped, aligned):
        _, picture = decode_image(serialize_message(messages[-1]))
        assert picture.shape == (128, 128, 3)
        assert picture.std() > 20
    left, top, right, bottom = (round(v) for v in face.box_xyxy)
    side = max(right - left, bottom - top)
    x, y = (left + right - side) // 2, (top + bottom - side) // 2
    expected = cv2.resize(astronaut[y : y + side, x : x + side], (128, 128))
    _, picture = decode_image(serialize_message(cropped[-1]))
    assert np.abs(picture.astype(int) - expected.astype(int)).mean() < 12
    # Face and gaze frames: one origin, the gaze's z is the face's x.
    camera.show_until(
        lambda: (
            {t.child_frame_id for m in transforms for t in m.transforms}
            >= {f"face_{face_id}", f"gaze_{face_id}"}
        ),
        "both frames",
    )
    gaze = next(
        t for m in transforms for t in m.transforms if t.child_frame_id == f"gaze_{face_id}"
    )
    assert gaze.header.frame_id == f"face_{face_id}"
    assert (gaze.transform.translation.x, gaze.transform.translation.z) == (0.0, 0.0)
    q = gaze.transform.rotation
    z_axis = [2 * (q.x * q.z + q.w * q.y), 2 * (q.y * q.z - q.w * q.x), 1 - 2 * (q.x**2 + q.y**2)]
    y_axis = [2 * (q.x * q.y - q.w * q.z), 1 - 2 * (q.x**2 + q.z**2), 2 * (q.y * q.z + q.w * q.x)]
    np.testing.assert_allclose(z_axis, [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(y_axis, [0, 0, -1], atol=1e-9)
    # A lost face goes, and its topics with it.
    dark = np.zeros_like(astronaut)
    camera.show_until(lambda: tracked[-1].ids == [], "no id", dark)
    probe.spin_until(lambda: probe.node.count_publishers(f"{root}/roi") == 0, "no topic")
