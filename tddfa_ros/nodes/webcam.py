"""Publish a webcam and the faces in it until Ctrl-C, with a line on how it goes.

Topics: /image, /camera_info, /faces, /faces/overlay and the others of the face node.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message

from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.interruption import Interruption
from tddfa_ros.core.media import is_camera
from tddfa_ros.nodes.children import NodeDiedError
from tddfa_ros.nodes.recorder import FACES_QUEUE_DEPTH, stamp_ns_of
from tddfa_ros.nodes.run_statistics import RunStatistics
from tddfa_ros.nodes.session import Session, find_model_set, say

EXAMPLES = """examples:
  python -m tddfa_ros webcam
  python -m tddfa_ros webcam --device 2 --model-set tddfa_v2
"""

STATUS_PERIOD_S = 1.0
QUIET_S = 1.0
"""After the last faces, silence of this length means that nothing more will come."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "--device",
        default="0",
        metavar="CAMERA",
        help="number or address of the camera (default %(default)s); any other input works too",
    )
    parser.add_argument(
        "--model-set", default="", metavar="SET", help="folder or name of the model set"
    )


class FaceCounter(Node):
    """Counts what is published on ``faces``."""

    def __init__(self) -> None:
        super().__init__("face_counter")
        self.statistics = RunStatistics()
        self.face_count = 0
        self.processing_ms = 0.0
        qos = QoSProfile(depth=FACES_QUEUE_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        self.create_subscription(FaceArray, "faces", self._on_faces, qos, raw=True)

    def _on_faces(self, data: bytes, info: dict[str, int]) -> None:
        message = deserialize_message(data, FaceArray)
        self.face_count = len(message.faces)
        self.processing_ms = 1e3 * message.processing_time
        ids = [face.id for face in message.faces]
        self.statistics.add_faces(
            stamp_ns_of(data), info["received_timestamp"], ids, message.frames_dropped
        )

    def status(self, seconds: float, since_count: int) -> str:
        """One line on the last `seconds`, in which `since_count` was the count before them."""
        statistics = self.statistics
        rate_hz = (statistics.processed_count - since_count) / seconds
        return (
            f"{statistics.processed_count} frames, {self.face_count} faces now, "
            f"{rate_hz:.1f} a second, {self.processing_ms:.1f} ms each, "
            f"{statistics.dropped_count} dropped"
        )

    def summary(self) -> str:
        """One line on the whole run."""
        statistics = self.statistics
        return (
            f"{statistics.processed_count} frames in all, {statistics.face_count} faces in them, "
            f"{statistics.rate_hz:.1f} a second, {statistics.dropped_count} dropped"
        )


def run(args: argparse.Namespace) -> int:
    """Run both nodes until Ctrl-C."""
    chosen = find_model_set(args.model_set)
    with ExitStack() as stack:
        stop = stack.enter_context(Interruption())
        folder = stack.enter_context(_log_folder())
        session = stack.enter_context(
            Session(FaceCounter, folder, {"model_set": str(chosen)}, {"input": args.device}, stop)
        )
        source = f"camera {args.device}" if is_camera(args.device) else args.device
        say(f"publishing {source} on /image and its faces on /faces; Ctrl-C ends")
        _watch(session, stop)
    return 0


@contextmanager
def _log_folder() -> Iterator[Path]:
    """Make a folder for what the nodes print; it stays if one died, as the error names its log."""
    folder = Path(tempfile.mkdtemp(prefix="tddfa_ros_"))
    named = False
    try:
        yield folder
    except NodeDiedError:
        named = True
        raise
    finally:
        if not named:
            shutil.rmtree(folder, ignore_errors=True)


def _watch(session: Session, stop: Interruption) -> None:
    counter: FaceCounter = session.listener
    told_s, told_count = time.monotonic(), 0
    while not stop.requested and session.media_source.running:
        session.spin_once()
        session.face_node.check()
        seconds = time.monotonic() - told_s
        if seconds < STATUS_PERIOD_S:
            continue
        _tell(counter.status(seconds, told_count))
        told_s, told_count = time.monotonic(), counter.statistics.processed_count
    if not stop.requested:
        session.media_source.check(may_end=True)
        _await_quiet(session, stop)
    _tell(counter.summary())
    if sys.stdout.isatty():
        sys.stdout.write("\n")


def _await_quiet(session: Session, stop: Interruption) -> None:
    """Listen on until the face node has answered the last images."""
    counter: FaceCounter = session.listener
    heard_s, heard_count = time.monotonic(), counter.statistics.processed_count
    while not stop.requested and time.monotonic() - heard_s < QUIET_S:
        session.spin_once()
        session.face_node.check()
        if counter.statistics.processed_count != heard_count:
            heard_s, heard_count = time.monotonic(), counter.statistics.processed_count


def _tell(line: str) -> None:
    """Write a line in the place of the one before, if there is a terminal."""
    sys.stdout.write(f"\r\x1b[K{line}" if sys.stdout.isatty() else line + "\n")
    sys.stdout.flush()
