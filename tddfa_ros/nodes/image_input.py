"""The images that wait for the worker: the newest one, or all of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from tddfa_ros.nodes.face_node_config import FaceNodeConfig


@dataclass(frozen=True)
class IncomingImage:
    """A serialised image and when it came (``time.monotonic_ns``)."""

    data: bytes
    arrived_ns: int


class ImageInput:
    """Subscribes images and keeps them, unread, until the worker takes them.

    Attributes
    ----------
    received, dropped : images since :meth:`start`; dropped ones were never processed
    """

    def __init__(self, node: Node, config: FaceNodeConfig) -> None:
        self._node = node
        self._every = config.frame_policy == "every"
        self._compressed = config.image_transport == "compressed"
        self._reliable = self._every or config.image_reliability == "reliable"
        self._limit = config.queue_images if self._every else 1
        self._waiting: deque[IncomingImage] = deque()
        self._changed = threading.Condition()
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscription = None
        self.received = 0
        self.dropped = 0

    @property
    def topic(self) -> str:
        """Full name of the topic, after remapping."""
        base = self._node.resolve_topic_name("image")
        return f"{base}/compressed" if self._compressed else base

    def start(self) -> None:
        """Subscribe."""
        self.received = 0
        self.dropped = 0
        self.resume()

    def resume(self) -> None:
        """Subscribe again after :meth:`stop`; the counts go on."""
        if self._subscription is not None:
            return
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=self._limit,
            reliability=(
                ReliabilityPolicy.RELIABLE if self._reliable else ReliabilityPolicy.BEST_EFFORT
            ),
        )
        self._subscription = self._node.create_subscription(
            CompressedImage if self._compressed else Image,
            self.topic,
            self._keep,
            profile,
            callback_group=self._group,
            raw=True,
        )

    def stop(self) -> None:
        """End the subscription; forget the images that wait and let :meth:`take` return."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()

    def _keep(self, data: bytes) -> None:
        image = IncomingImage(data, time.monotonic_ns())
        with self._changed:
            self.received += 1
            if len(self._waiting) >= self._limit:
                self.dropped += 1
                if self._every:
                    return
                self._waiting.clear()
            self._waiting.append(image)
            self._changed.notify()

    def take(self, timeout_s: float) -> IncomingImage | None:
        """Return the next image, or None if none comes within the time."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout_s)
            return self._waiting.popleft() if self._waiting else None

    @property
    def waiting(self) -> int:
        """Images that wait now."""
        return len(self._waiting)
