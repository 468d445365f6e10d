"""A node as a process: how it ends."""

import ast
import re
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy", reason="nodes need ROS")

from tddfa_ros.nodes.process import EXIT_DIED

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
    assert done.returncode == EXIT_DIED
    assert "of a callback" in errors


@pytest.mark.parametrize("node", ["face_node", "media_source"])
def test_what_is_no_ros_argument_is_told(node):
    """An input without its `-p input:=` had the media source open a camera."""
    command = [sys.executable, "-m", f"tddfa_ros.nodes.{node}", "talk.mp4", "--help"]
    done = subprocess.run(
        [*command, "--ros-args", "-r", "__ns:=/lab"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{node}: talk.mp4 --help: no ROS arguments;")


def test_launch_files_start_a_node_that_died_again(repository):
    """They end everything after the exit codes of a node that has ended or said what is wrong."""
    text = (repository / "launch" / "video.launch.py").read_text()
    (ended,) = re.findall(r"^ENDED = (.*)$", text, re.MULTILINE)
    assert ast.literal_eval(ended) == (0, 1)
    assert EXIT_DIED not in ast.literal_eval(ended)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [("-p use_sim_time:=5", "use_sim_time"), ("--params-file /no/such.yaml", "/no/such.yaml")],
)
def test_a_wrong_start_argument_is_told_in_one_line(wrong, named):
    script = NODE.format(tick="pass").replace("[]", repr(["--ros-args", *wrong.split()]))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(number):
    done = start("pass")
    assert done.stdout.readline() == "ticked\n"
    time.sleep(0.2)
    done.send_signal(number)
    _, errors = done.communicate(timeout=60)
    assert (done.returncode, errors) == (0, "")


def test_a_signal_amid_the_waiting_for_it_ends_it_too():
    code = NODE.format(tick="pass").replace(
        "stop.wait()",
        "with stop._cond:  # as `wait` does for a moment\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "        stop.wait()",
    )
    command = [sys.executable, "-c", f"import signal\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
