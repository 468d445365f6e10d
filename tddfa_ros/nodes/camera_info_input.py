"""The camera of the images, kept current from ``camera_info``."""

from __future__ import annotations

import time

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo

from tddfa_ros.core.calibration import Camera
from tddfa_ros.core.errors import ConfigError
from tddfa_ros.nodes.camera_info import calibration_fields, camera_of
from tddfa_ros.nodes.quality_of_service import OVERRIDABLE, wrong_overrides

# A publisher that is there sends its first message within this time, or it is not waited for.
FIRST_MESSAGE_WAIT_S = 1.0
_POLL_S = 0.005


class CameraInfoInput:
    """Subscribes ``camera_info`` and keeps the newest message, whatever its stamp.

    A message that was latched (published once, transient local) before the start is heard, too.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._log = node.get_logger()
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscriptions: list[Subscription] = []
        self._hears_latched = False
        self._message: CameraInfo | None = None
        self._waited = False
        self._known: tuple[object, Camera | None] = (None, None)
        self._said = ""

    @property
    def topic(self) -> str:
        """Full name of the topic, after remapping."""
        return self._node.resolve_topic_name("camera_info")

    def start(self) -> None:
        """Subscribe."""
        # Asks least of the publisher, and so takes what any offers.
        profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._waited = False
        with wrong_overrides("subscription of camera_info"):
            self._subscriptions.append(
                self._node.create_subscription(
                    CameraInfo,
                    "camera_info",
                    self._keep,
                    profile,
                    callback_group=self._group,
                    qos_overriding_options=OVERRIDABLE,
                )
            )

    def stop(self) -> None:
        """End the subscriptions and forget the camera."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._hears_latched = False
        self._message = None
        self._said = ""

    def _keep(self, message: CameraInfo) -> None:
        self._message = message

    def _hear_latched(self) -> None:
        """Subscribe once more, for what a publisher latched before; only if there is such a one.

        Drivers that publish volatile would warn of a subscription that they cannot serve.
        """
        if self._hears_latched or not self._subscriptions:
            return
        latched = (DurabilityPolicy.TRANSIENT_LOCAL, ReliabilityPolicy.RELIABLE)
        # By the name before remapping, as this remaps, too.
        publishers = self._node.get_publishers_info_by_topic("camera_info")
        offers = [publisher.qos_profile for publisher in publishers]
        if latched not in [(offer.durability, offer.reliability) for offer in offers]:
            return
        self._hears_latched = True
        self._subscriptions.append(
            self._node.create_subscription(
                CameraInfo,
                "camera_info",
                self._keep,
                QoSProfile(depth=1, durability=latched[0], reliability=latched[1]),
                callback_group=self._group,
                # A volatile publisher beside it is served by the other subscription.
                event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            )
        )

    def camera(self, height: int, width: int, *, rectified: bool) -> Camera | None:
        """Camera of an image; None if it is not calibrated, which the log then says once.

        Before the first image, waits a moment for a publisher that is there, so that a replay does
        not depend on which of the two messages came first.

        Parameters
        ----------
        height, width : of the image, pixels; the calibration is scaled to it
        rectified : whether the image is
        """
        if not self._waited:
            self._waited = True
            if self._node.count_publishers(self.topic) > 0:
                self._await_message()
        elif self._message is None:
            self._hear_latched()
        message = self._message
        if message is None:
            self._say(f"no message on {self.topic}: no metric pose, no TF")
            return None
        # As bytes: a NaN in a calibration is its own equal then.
        fields = calibration_fields(message).values()
        numbers = tuple(np.asarray(field).tobytes() for field in fields)
        key = (numbers, height, width, rectified)
        if self._known[0] != key:
            self._known = (key, self._read(message, height, width, rectified))
        return self._known[1]

    def _await_message(self) -> None:
        """Take the first message here: the thread that would bring it may be the one that asks."""
        deadline_s = time.monotonic() + FIRST_MESSAGE_WAIT_S
        while self._message is None and self._subscriptions and time.monotonic() < deadline_s:
            self._hear_latched()
            for subscription in self._subscriptions:
                with subscription.handle:
                    taken = subscription.handle.take_message(CameraInfo, False)
                if taken is not None:
                    self._message = taken[0]
            if self._message is None:
                time.sleep(_POLL_S)

    def _read(self, message: CameraInfo, height: int, width: int, rectified: bool) -> Camera | None:
        try:
            camera = camera_of(message, height, width, rectified=rectified)
        except ConfigError as error:
            self._say(f"{self.topic}: {error}; no metric pose, no TF")
            return None
        if camera is None:
            matrix = "P" if rectified else "K"
            self._say(f"{self.topic}: {matrix}[0] is 0, uncalibrated: no metric pose, no TF")
        else:
            self._said = ""
        return camera

    def _say(self, text: str) -> None:
        """Log a text unless it was the last one; a stream repeats its calibration."""
        if text != self._said:
            self._said = text
            self._log.warning(text)
