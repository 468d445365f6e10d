"""A service with a thread of its own."""

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
