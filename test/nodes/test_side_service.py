"""A service with a thread of its own."""

import subprocess
import sys
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from tddfa_ros.nodes.side_service import SideService


def slowly(_, response):
    time.sleep(0.02)
    response.success = True
    return response


def test_requests_that_come_while_it_is_busy_are_all_answered(plain_node):
    service = SideService(plain_node, Trigger, "~/slow", slowly)
    asking = rclpy.create_node("asking")
    executor = SingleThreadedExecutor()
    executor.add_node(asking)
    try:
        client = asking.create_client(Trigger, "/plain/slow")
        assert client.wait_for_service(10)
        answers = [client.call_async(Trigger.Request()) for _ in range(40)]
        for answer in answers:
            executor.spin_until_future_complete(answer, timeout_sec=10)
        assert [answer.done() and answer.result().success for answer in answers] == [True] * 40
    finally:
        executor.shutdown()
        asking.destroy_node()
        service.close()


MADE_AND_CLOSED = """
import sys
import rclpy
from std_srvs.srv import Trigger
from tddfa_ros.nodes.side_service import SideService

sys.setswitchinterval(1e-6)  # The threads meet at every point of each other.
rclpy.init(args=[])
node = rclpy.create_node("plain")
for _ in range(500):
    SideService(node, Trigger, "~/quick", lambda _, response: response).close()
node.destroy_node()
rclpy.shutdown()
"""


def test_it_ends_at_whatever_point_its_thread_is():
    """Without guard conditions, which rclpy had destroyed, that raised or waited for ever."""
    done = subprocess.run(
        [sys.executable, "-c", MADE_AND_CLOSED], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_ends_after_ros(plain_node):
    service = SideService(plain_node, Trigger, "~/quick", slowly)
    rclpy.shutdown()
    service.close()
    service.close()
