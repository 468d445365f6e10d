"""A node as a process: how it ends."""

import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy", reason="nodes need ROS")

NODE = """
import sys
from rclpy.node import Node
from tddfa_ros.nodes.process import run_node

class Made(Node):
    def __init__(self):
        super().__init__("made")
        self.create_timer(0.05, self.tick)
    def tick(self):
        print("ticked", flush=True)
        {tick}
    def run(self, stop):
        stop.wait()
        return 0
    def close(self):
        self.destroy_node()

sys.exit(run_node(Made, []))
"""


def start(tick):
    return subprocess.Popen(
        [sys.executable, "-c", NODE.format(tick=tick)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_callback_that_raises_ends_the_process_with_its_traceback():
    done = start("raise RuntimeError('of a callback')")
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 1
    assert "of a callback" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(number):
    done = start("pass")
    assert done.stdout.readline() == "ticked\n"
    time.sleep(0.2)
    done.send_signal(number)
    _, errors = done.communicate(timeout=60)
    assert (done.returncode, errors) == (0, "")
