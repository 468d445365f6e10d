"""The images that wait for the worker: the newest one, or all of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import (
    QoSRequestedIncompatibleQoSInfo,
    QoSSubscriptionMatchedInfo,
    SubscriptionEventCallbacks,
)
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from tddfa_ros.nodes.face_node_config import FaceNodeConfig
from tddfa_ros.nodes.quality_of_service import LOG_INTERVAL_S, SubscriptionQos, missing_images


@dataclass(frozen=True)
class IncomingImage:
    """A serialised image and when it came: by ``time.monotonic_ns`` and by the node's clock."""

    data: bytes
    arrived_ns: int
    arrived_clock_ns: int


class ImageInput:
    """Subscribes images and keeps them, unread, until the worker takes them.

    Attributes
    ----------
    received, dropped : images since :meth:`start`; dropped ones were never processed
    lost : images since :meth:`start` that a publisher sent and that never came
    publishers : matched publishers
    message_type : of the subscription

    Raises
    ------
    ConfigError
        A quality of service given as override is none.
    """

    def __init__(self, node: Node, config: FaceNodeConfig) -> None:
        self._node = node
        self._every = config.frame_policy == "every"
        self._compressed = config.image_transport == "compressed"
        self.message_type = CompressedImage if self._compressed else Image
        reliable = self._every or config.image_reliability == "reliable"
        self._limit = config.queue_images if self._every else 1
        self._qos = SubscriptionQos(
            node,
            self.topic,
            QoSProfile(
                history=HistoryPolicy.KEEP_LAST,
                depth=self._limit,
                reliability=(
                    ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
                ),
            ),
        )
        self._waiting: deque[IncomingImage] = deque()
        self._changed = threading.Condition()
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscription = None
        self.received = 0
        self.dropped = 0
        self.lost = 0
        self.publishers = 0
        self._sequence = 0
        self._silent_since_s = time.monotonic()

    @property
    def topic(self) -> str:
        """Full name of the topic, after remapping."""
        base = self._node.resolve_topic_name("image")
        return f"{base}/compressed" if self._compressed else base

    def start(self) -> None:
        """Subscribe."""
        self.received = 0
        self.dropped = 0
        self.lost = 0
        self.resume()

    def resume(self) -> None:
        """Subscribe again after :meth:`stop`; the counts go on."""
        if self._subscription is not None:
            return
        self.publishers = 0
        self._sequence = 0
        self._silent_since_s = time.monotonic()
        self._subscription = self._node.create_subscription(
            self.message_type,
            self.topic,
            self._keep,
            self._qos.profile,
            callback_group=self._group,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible, matched=self._on_matched
            ),
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

    def close(self) -> None:
        """End for good."""
        self.stop()
        self._qos.close()

    @property
    def subscribed(self) -> bool:
        """Whether images would be taken."""
        return self._subscription is not None

    def silence(self) -> str:
        """Say for how long no image came, from whom it should, and what is in the way."""
        kind = self.message_type.__name__
        return missing_images(
            self._node,
            self.topic,
            f"sensor_msgs/msg/{kind}",
            self._qos.profile,
            time.monotonic() - self._silent_since_s,
        )

    def _on_matched(self, event: QoSSubscriptionMatchedInfo) -> None:
        self.publishers = event.current_count
        self._sequence = 0

    def _on_incompatible(self, _: QoSRequestedIncompatibleQoSInfo) -> None:
        self._node.get_logger().warning(self.silence(), throttle_duration_sec=LOG_INTERVAL_S)

    def _count_lost(self, sequence: int | None) -> None:
        """Count gaps in the numbers that the middleware gives the images of one publisher."""
        if sequence is None or self.publishers != 1:
            return
        if 0 < self._sequence < sequence:
            self.lost += sequence - self._sequence - 1
        self._sequence = sequence

    def _keep(self, data: bytes, info: dict[str, Any]) -> None:
        now_s = time.monotonic()
        clock_ns = self._node.get_clock().now().nanoseconds
        image = IncomingImage(data, round(now_s * 1e9), clock_ns)
        with self._changed:
            self.received += 1
            self._silent_since_s = now_s
            self._count_lost(info["publication_sequence_number"])
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
