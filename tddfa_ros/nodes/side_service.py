"""A service that may take seconds, answered beside a node's other callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile

from tddfa_ros.nodes.spinning import SpinningThread

WAITING_REQUESTS = 100
"""The default of 10 leaves those unanswered that come while it is busy."""


class SideService:
    """A service of a node with a thread of its own.

    It belongs to a hidden second node with its own executor. rclpy's MultiThreadedExecutor would
    serve it, too, but hands every callback of the node to a pool of threads: that lost a third of
    the images of a 30 Hz stream to a best-effort subscription of depth 1.

    Parameters
    ----------
    node : whose service it is by name
    service_type, name, callback : as for ``create_service``
    """

    def __init__(
        self, node: Node, service_type: type, name: str, callback: Callable[[Any, Any], Any]
    ) -> None:
        self._node = Node(
            f"_{node.get_name()}_{name.rpartition('/')[2]}",
            namespace=node.get_namespace(),
            context=node.context,
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._node.create_service(
            service_type,
            node.resolve_service_name(name),
            callback,
            qos_profile=QoSProfile(depth=WAITING_REQUESTS),
        )
        self._thread = SpinningThread(self._node, "side_service")
        self._thread.start()

    def close(self) -> None:
        """Answer what is being answered, then end."""
        self._thread.end()
        self._node.destroy_node()
