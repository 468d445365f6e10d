"""Transforms on ``/tf``, where tf2_msgs is installed."""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import TransformStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

TOPIC = "/tf"
DEPTH = 100


class TransformOutput:
    """Publisher of transforms; without tf2_msgs it says so and does nothing.

    Parameters
    ----------
    node : the publisher is made on it at once
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._publisher = None
        if TFMessage is None:
            node.get_logger().warning(
                "no tf2_msgs here: no TF; install ros-<distro>-tf2-msgs to have it", once=True
            )
        else:
            self._publisher = node.create_lifecycle_publisher(
                TFMessage, TOPIC, QoSProfile(depth=DEPTH)
            )

    def publish(self, transforms: Sequence[TransformStamped]) -> None:
        """Publish them as one message, if there are any."""
        if transforms and self._publisher is not None:
            self._publisher.publish(TFMessage(transforms=transforms))

    def close(self) -> None:
        """Destroy the publisher."""
        if self._publisher is not None:
            self._node.destroy_lifecycle_publisher(self._publisher)
