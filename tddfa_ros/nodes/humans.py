"""The faces as REP-155 (ROS4HRI) has them, below ``/humans/faces``, where hri_msgs is installed."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from tddfa_ros.core.metric_frame import MetricFrame
from tddfa_ros.core.portrait import LEFT_EYE, RIGHT_EYE, eyes_turn_rad, portrait
from tddfa_ros.core.types import Face, FrameResult
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image
from tddfa_ros.nodes.transforms import TransformOutput

try:
    from hri_msgs.msg import (
        FacialLandmarks,
        IdsList,
        NormalizedPointOfInterest2D,
        NormalizedRegionOfInterest2D,
    )
except ImportError:
    IdsList = None

ROOT = "/humans/faces"
PORTRAIT_SIZE = 128
"""Pixels a side of cropped and aligned faces, the default of REP-155."""

# z of the gaze is x of the face, its x the face's right (-y), its y down (-z).
GAZE_IN_FACE = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)


class HumansOutput(Protocol):
    """What a face node needs of this view."""

    def wants_image(self) -> bool:
        """Whether :meth:`publish_portraits` would do anything."""

    def publish(self, frame: MetricFrame, header: ImageHeader) -> None:
        """Publish ids, regions, landmarks and gaze frames."""

    def publish_portraits(
        self, result: FrameResult, header: ImageHeader, image_bgr: np.ndarray
    ) -> None:
        """Publish the cut-out faces that somebody subscribes to."""

    def clear(self) -> None:
        """Take back all faces."""

    def close(self) -> None:
        """Destroy the publishers."""


def humans_output(node: LifecycleNode, *, wanted: bool) -> HumansOutput:
    """Make the view; one that does nothing if it is not wanted or hri_msgs is missing."""
    if not wanted:
        return NoHumans()
    if IdsList is None:
        node.get_logger().warning(
            f"no hri_msgs here: nothing on {ROOT}; install ros-<distro>-hri-msgs to have it"
        )
        return NoHumans()
    return Humans(node)


class NoHumans:
    """Publishes nothing."""

    def wants_image(self) -> bool:
        """No."""
        return False

    def publish(self, frame: MetricFrame, header: ImageHeader) -> None:
        """Do nothing."""

    def publish_portraits(
        self, result: FrameResult, header: ImageHeader, image_bgr: np.ndarray
    ) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Humans:
    """Publishers of the tracked ids and, below a name of its own, of each face.

    Parameters
    ----------
    node : publishers are made on it; those of a face live as long as the face is followed
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._last_header = ImageHeader(0, 0, "")
        self._faces: dict[str, _FacePublishers] = {}
        self._tracked = node.create_lifecycle_publisher(
            IdsList, f"{ROOT}/tracked", QoSProfile(depth=1)
        )
        self._transforms = TransformOutput(node)

    def wants_image(self) -> bool:
        """Whether :meth:`publish_portraits` would do anything."""
        return any(face.wants_image() for face in self._faces.values())

    def publish(self, frame: MetricFrame, header: ImageHeader) -> None:
        """Publish ids, regions, landmarks and gaze frames."""
        self._last_header = header
        faces = {face.id: face for face in frame.result.faces}
        for face_id in [known for known in self._faces if known not in faces]:
            self._faces.pop(face_id).close()
        for face_id, face in faces.items():
            if face_id not in self._faces:
                self._faces[face_id] = _FacePublishers(self._node, face_id)
            self._faces[face_id].publish(face, frame.result, header)
        self._tracked.publish(IdsList(header=header.message(), ids=list(faces)))
        placed = zip(faces, frame.poses, strict=True)
        gazes = [_gaze(face_id, header) for face_id, pose in placed if pose is not None]
        if header.frame_id and header.stamp_ns:
            self._transforms.publish(gazes)

    def publish_portraits(
        self, result: FrameResult, header: ImageHeader, image_bgr: np.ndarray
    ) -> None:
        """Publish the cut-out faces that somebody subscribes to."""
        for face in result.faces:
            if face.id in self._faces:
                self._faces[face.id].publish_portraits(face, header, image_bgr)

    def clear(self) -> None:
        """Take back all faces."""
        for face in self._faces.values():
            face.close()
        if self._faces:
            self._tracked.publish(IdsList(header=self._last_header.message()))
        self._faces.clear()

    def close(self) -> None:
        """Destroy the publishers."""
        for face in self._faces.values():
            face.close()
        self._faces.clear()
        self._node.destroy_lifecycle_publisher(self._tracked)
        self._transforms.close()


class _FacePublishers:
    """The publishers of one face."""

    def __init__(self, node: LifecycleNode, face_id: str) -> None:
        def make(message_type: Any, name: str) -> Publisher:
            return node.create_publisher(
                message_type,
                f"{ROOT}/{face_id}/{name}",
                QoSProfile(depth=1),
                event_callbacks=PublisherEventCallbacks(use_default_callbacks=False),
            )

        self._node = node
        self._roi = make(NormalizedRegionOfInterest2D, "roi")
        self._landmarks = make(FacialLandmarks, "landmarks")
        self._cropped = make(Image, "cropped")
        self._aligned = make(Image, "aligned")

    def wants_image(self) -> bool:
        return any(p.get_subscription_count() > 0 for p in (self._cropped, self._aligned))

    def publish(self, face: Face, result: FrameResult, header: ImageHeader) -> None:
        self._roi.publish(region_message(face, result, header))
        if self._landmarks.get_subscription_count() > 0:
            self._landmarks.publish(landmarks_message(face, result, header))

    def publish_portraits(self, face: Face, header: ImageHeader, image_bgr: np.ndarray) -> None:
        if self._cropped.get_subscription_count() > 0:
            cropped = portrait(image_bgr, face.box_xyxy, PORTRAIT_SIZE)
            self._cropped.publish(encode_image(cropped, header))
        if self._aligned.get_subscription_count() > 0:
            turn_rad = eyes_turn_rad(face.landmarks, face.box_xyxy)
            aligned = portrait(image_bgr, face.box_xyxy, PORTRAIT_SIZE, turn_rad=turn_rad)
            self._aligned.publish(encode_image(aligned, header))

    def close(self) -> None:
        for publisher in (self._roi, self._landmarks, self._cropped, self._aligned):
            self._node.destroy_publisher(publisher)


def region_message(face: Face, result: FrameResult, header: ImageHeader) -> Any:
    """Box of a face as a share of the image, cut off at its borders."""
    size = np.array([result.image_width, result.image_height] * 2, np.float64)
    xmin, ymin, xmax, ymax = np.clip(face.box_xyxy / size, 0.0, 1.0).tolist()
    return NormalizedRegionOfInterest2D(
        header=header.message(), xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax, c=_share(face.score)
    )


def landmarks_message(face: Face, result: FrameResult, header: ImageHeader) -> Any:
    """Landmarks as shares of the image; those outside of it, and the pupils, have c = 0.

    hri_msgs numbers the first 68 as iBUG does. The two pupils, which are not fitted, stand in the
    middle of the eyes.
    """
    points = face.landmarks[:, :2].astype(np.float64)
    pupils = [points[eye].mean(axis=0) for eye in (RIGHT_EYE, LEFT_EYE)]
    shares = np.vstack([points, pupils]) / [result.image_width, result.image_height]
    confidence = np.full(len(shares), _share(face.confidence))
    confidence[len(points) :] = 0.0
    confidence[((shares < 0.0) | (shares > 1.0)).any(axis=1)] = 0.0
    return FacialLandmarks(
        header=header.message(),
        height=result.image_height,
        width=result.image_width,
        landmarks=[
            NormalizedPointOfInterest2D(x=x, y=y, c=c)
            for (x, y), c in zip(
                np.clip(shares, 0.0, 1.0).tolist(), confidence.tolist(), strict=True
            )
        ],
    )


def _share(value: float) -> float:
    """A measure from 0 to 1; 1 if there is none."""
    return 1.0 if math.isnan(value) else min(max(float(value), 0.0), 1.0)


def _gaze(face_id: str, header: ImageHeader) -> TransformStamped:
    """Gaze frame of REP-155, straight ahead, as eyes are not followed."""
    face_header = header.message()
    face_header.frame_id = f"face_{face_id}"
    return TransformStamped(
        header=face_header,
        child_frame_id=f"gaze_{face_id}",
        transform=Transform(rotation=GAZE_IN_FACE),
    )
