"""What the face node publishes; nothing is made that nobody subscribes to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.draw import draw_faces
from tddfa_ros.core.types import FrameResult
from tddfa_ros.nodes.face_bytes import face_array_bytes
from tddfa_ros.nodes.face_messages import face_array
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

FACES_DEPTH = 10
ACKNOWLEDGE_TIMEOUT_S = 0.5


class FaceOutputs:
    """The publishers of a face node.

    Parameters
    ----------
    node : publishers are made on it at once
    model_set_name : goes into every message
    repeatable : leave out what is measured, so that the same images give the same bytes
    """

    def __init__(
        self, node: LifecycleNode, model_set_name: str, *, repeatable: bool = False
    ) -> None:
        self._node = node
        self._repeatable = repeatable
        self._model_set_name = model_set_name
        faces_qos, image_qos = QoSProfile(depth=FACES_DEPTH), QoSProfile(depth=1)
        self._faces = node.create_lifecycle_publisher(FaceArray, "faces", faces_qos)
        self._raw_faces = node.create_lifecycle_publisher(FaceArray, "faces/raw", faces_qos)
        self._overlay = node.create_lifecycle_publisher(Image, "faces/overlay", image_qos)

    def wants_image(self) -> bool:
        """Whether :meth:`publish_images` would do anything."""
        return self._overlay.get_subscription_count() > 0

    def publish_raw_faces(
        self, result: FrameResult, header: ImageHeader, seconds: float, dropped: int
    ) -> None:
        """Publish faces before smoothing."""
        if self._raw_faces.get_subscription_count() > 0:
            self._raw_faces.publish(self._serialized(result, header, seconds, dropped))

    def publish_faces(
        self, result: FrameResult, header: ImageHeader, seconds: float, dropped: int
    ) -> None:
        """Publish smoothed faces, also when there are none."""
        self._faces.publish(self._serialized(result, header, seconds, dropped))

    def _serialized(
        self, result: FrameResult, header: ImageHeader, seconds: float, dropped: int
    ) -> bytes:
        message = face_array(
            result,
            header,
            model_set=self._model_set_name,
            processing_time_s=0.0 if self._repeatable else seconds,
            frames_dropped=dropped,
        )
        return face_array_bytes(message)

    def publish_images(
        self,
        result: FrameResult,
        header: ImageHeader,
        image_bgr: np.ndarray,
        overlay_parts: Sequence[str],
    ) -> None:
        """Draw and publish the images that somebody subscribes to."""
        if self._overlay.get_subscription_count() > 0:
            canvas = image_bgr.copy()
            draw_faces(canvas, result.faces, overlay_parts)
            self._overlay.publish(encode_image(canvas, header))

    def close(self) -> None:
        """Destroy the publishers, once the last faces have reached who listens."""
        for publisher in (self._raw_faces, self._faces):
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_TIMEOUT_S))
        for publisher in (self._faces, self._raw_faces, self._overlay):
            self._node.destroy_lifecycle_publisher(publisher)
