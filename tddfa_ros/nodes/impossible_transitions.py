"""Requests of a transition that the present state does not have."""

from __future__ import annotations

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode

from tddfa_ros.nodes.process import RCLError


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """Have the node answer such a request with success = false.

    rclpy raises in the service's callback, which ends the process (ros2/rclpy issue 1209): a
    lifecycle manager that configures a node which has configured itself would kill it.
    """
    service = node._service_change_state
    change = service.callback

    def answer(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return change(request, response)
        except RCLError as error:
            wanted = request.transition.label or request.transition.id
            node.get_logger().warning(f"transition {wanted} refused: {str(error).strip()}")
            response.success = False
            return response

    service.callback = answer
