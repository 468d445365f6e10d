"""Writes every FaceArray of a topic as a line of JSON; a process of its own in the tests."""

import json
import signal
import sys
import time
from pathlib import Path

import rclpy
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from tddfa_msgs.msg import FaceArray
from tddfa_ros.nodes.face_from_message import landmarks_of


def main() -> None:
    path, topic = sys.argv[1:3]
    # Every line is written at once, so that there is nothing to end in order.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("receiver")
    with Path(path).open("w", buffering=1) as out:

        def write(message: FaceArray) -> None:
            record = {
                "received_ns": time.time_ns(),
                "stamp_ns": message.header.stamp.sec * 10**9 + message.header.stamp.nanosec,
                "frame_id": message.header.frame_id,
                "size": [message.image_height, message.image_width],
                "model_set": message.model_set,
                "dropped": message.frames_dropped,
                "ids": [face.id for face in message.faces],
                "landmarks": [landmarks_of(face).tolist() for face in message.faces],
            }
            out.write(json.dumps(record) + "\n")

        def matched(_: object) -> None:
            Path(f"{path}.matched").touch()

        events = SubscriptionEventCallbacks(matched=matched)
        node.create_subscription(FaceArray, topic, write, 1000, event_callbacks=events)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()


if __name__ == "__main__":
    main()
