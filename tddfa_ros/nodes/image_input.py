"""The images as they come: the newest one, or all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
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
from tddfa_ros.nodes.quality_of_service import (
    LOG_INTERVAL_S,
    PREFIX,
    SubscriptionQos,
    missing_images,
)

_SLOWEST_S = 10.0
"""Between images of a camera; what takes longer is silence."""


@dataclass(frozen=True)
class IncomingImage:
    """A serialised image.

    Attributes
    ----------
    data : as it came
    waited_ns : how long it lay in this process
    arrived_clock_ns : the node's clock when it came; now, where time is simulated; the system's
        clock as long as nobody says the simulated time, which is 0 until then
    missed : images before it that were dropped or lost
    """

    data: bytes
    waited_ns: int
    arrived_clock_ns: int
    missed: int


class ImageInput:
    """Subscribes images and hands them on, one at a time, in the thread that runs the callbacks.

    While one is worked on, others wait in the middleware: handing them to a thread that waits
    costs almost a millisecond an image.

    Parameters
    ----------
    node, config : whose images, and which of them
    on_image : takes each image; it must not raise

    Attributes
    ----------
    received, dropped : images since :meth:`start`; dropped ones had to make room for newer ones
    lost : images since :meth:`start` that a publisher sent and that never came. Those dropped or
        lost are seen as gaps in the numbers of one publisher; of several they are not counted
    publishers : matched publishers
    message_type : of the subscription

    Raises
    ------
    ConfigError
        A quality of service given as override is none.
    """

    def __init__(
        self, node: Node, config: FaceNodeConfig, on_image: Callable[[IncomingImage], None]
    ) -> None:
        self._node = node
        self._on_image = on_image
        every = config.frame_policy == "every"
        self._compressed = config.image_transport == "compressed"
        self.message_type = CompressedImage if self._compressed else Image
        reliable = every or config.image_reliability == "reliable"
        default = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=config.queue_images if every else 1,
            reliability=(ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT),
        )
        self._qos = SubscriptionQos(node, self.topic, default)
        override = f"{PREFIX}{self.topic}.subscription.reliability"
        if every:
            self._remedy = (
                f"start this node with -p {override}:=best_effort, or set frame_policy to latest"
            )
        elif reliable:
            self._remedy = "set image_reliability to best_effort"
        else:
            self._remedy = f"start this node without {override}"
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscription = None
        self.received = 0
        self.dropped = 0
        self.lost = 0
        self.publishers = 0
        self._sequence = 0
        self._busy_since_ns = self._busy_until_ns = 0
        self._silent_since_s = time.monotonic()
        self._interval_s: float | None = None

    @property
    def topic(self) -> str:
        """Full name of the topic, after remapping."""
        return self._node.resolve_topic_name(self._name)

    @property
    def _name(self) -> str:
        """What is subscribed, before remapping: a full name would be remapped once more."""
        name, added = self._remapped[0]
        return f"{self._node.resolve_topic_name(name)}{added}" if added else name

    @property
    def _remapped(self) -> list[tuple[str, str]]:
        """What can be remapped, and what is added to it then; the first is what counts now."""
        if not self._compressed:
            return [("image", "")]
        resolve, own = self._node.resolve_topic_name, ("image/compressed", "")
        if resolve("image/compressed") != resolve("image/compressed", only_expand=True):
            return [own]
        return [("image", "/compressed"), own]

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
        self._interval_s = None
        self._subscription = self._node.create_subscription(
            self.message_type,
            self._name,
            self._take,
            self._qos.profile,
            callback_group=self._group,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible, matched=self._on_matched
            ),
            raw=True,
        )

    def stop(self) -> None:
        """End the subscription; the images that wait are forgotten."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def close(self) -> None:
        """End for good."""
        self.stop()
        self._qos.close()

    @property
    def subscribed(self) -> bool:
        """Whether images would be taken."""
        return self._subscription is not None

    @property
    def is_silent(self) -> bool:
        """Whether the next image is overdue: a slow camera is not a silent one."""
        return time.monotonic() - self._silent_since_s > 2 * (self._interval_s or 0.0)

    def silence(self) -> str:
        """Say for how long no image came, from whom it should, and what is in the way."""
        kind = self.message_type.__name__
        return missing_images(
            self._node,
            self.topic,
            f"sensor_msgs/msg/{kind}",
            self._qos.profile,
            time.monotonic() - self._silent_since_s,
            remedy=self._remedy,
            remapped=self._remapped,
        )

    def _on_matched(self, event: QoSSubscriptionMatchedInfo) -> None:
        self.publishers = event.current_count
        self._sequence = 0

    def _on_incompatible(self, _: QoSRequestedIncompatibleQoSInfo) -> None:
        self._node.get_logger().warning(self.silence(), throttle_duration_sec=LOG_INTERVAL_S)

    def _count_missing(self, sequence: int | None, arrived_ns: int) -> None:
        """Count gaps in the numbers that the middleware gives the images of one publisher.

        Those before an image that came while another one was worked on, or for as long after that,
        had to make room; else they never came. Which of both is a guess: on a busy machine this
        thread may be late without work.
        """
        if sequence is None or self.publishers != 1:
            return
        if 0 < self._sequence < sequence:
            missing = sequence - self._sequence - 1
            if arrived_ns - self._busy_until_ns < self._busy_until_ns - self._busy_since_ns:
                self.dropped += missing
                self.received += missing
            else:
                self.lost += missing
        self._sequence = sequence

    def _take(self, data: bytes, info: dict[str, Any]) -> None:
        arrived_ns = info["received_timestamp"] or time.time_ns()
        self.received += 1
        now_s = time.monotonic()
        waited_s = min(now_s - self._silent_since_s, _SLOWEST_S)
        # What passed before the first image is no camera's interval.
        self._interval_s = 0.0 if self._interval_s is None else waited_s
        self._silent_since_s = now_s
        self._count_missing(info["publication_sequence_number"], arrived_ns)
        self._busy_since_ns = time.time_ns()
        waited_ns = max(0, self._busy_since_ns - arrived_ns)
        clock = self._node.get_clock()
        clock_ns = clock.now().nanoseconds - (0 if clock.ros_time_is_active else waited_ns)
        clock_ns = clock_ns or arrived_ns
        self._on_image(IncomingImage(data, waited_ns, clock_ns, self.dropped + self.lost))
        self._busy_until_ns = time.time_ns()
