"""The nodes of a demo or webcam run: a media source and a face node, each in its own process."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import rclpy
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from tddfa_ros.core import model_set
from tddfa_ros.core.errors import ModelSetNotFoundError, TddfaError
from tddfa_ros.core.image_message import IMAGE_TYPE
from tddfa_ros.core.interruption import Interruption
from tddfa_ros.nodes.children import ChildNode
from tddfa_ros.nodes.media_source import IMAGE_QOS
from tddfa_ros.nodes.quality_of_service import served_nodes

READY_TIMEOUT_S = 60.0
LISTEN_FOR_OTHERS_S = 1.0
"""Discovery between processes takes about that long on a quiet machine."""
NOTICE_OTHERS_S = 5.0
"""On a busy one some of its messages are lost and sent again seconds later: for so long after our
source is there, an other publisher is still taken for one that was there before us."""
SPIN_S = 0.05

_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def use_fastdds_profile() -> None:
    """Have images pass whole between processes, unless the user chose a profile; see the README."""
    if any(os.environ.get(name) for name in _PROFILE_VARIABLES):
        return
    try:
        profile = Path(get_package_share_directory("tddfa_ros")) / "config" / "fastdds.xml"
    except PackageNotFoundError:
        return
    if profile.is_file():
        for name in _PROFILE_VARIABLES:
            os.environ[name] = str(profile)


class CompanyError(TddfaError):
    """Somebody else publishes what a session is to publish."""


class Session:
    """Both nodes, and one of ours that listens to them.

    Parameters
    ----------
    make_listener : makes our node, after ROS is initialised
    folder : for the nodes' parameters and logs
    face_parameters, media_parameters : by name; the media source also waits for the face node, and
        for our listener if it subscribes to images
    stop : a signal that comes while the nodes start ends them at once

    Raises
    ------
    CompanyError
        Somebody else publishes images on the same topic already.
    """

    def __init__(
        self,
        make_listener: Callable[[], Node],
        folder: Path,
        face_parameters: dict[str, Any],
        media_parameters: dict[str, Any],
        stop: Interruption,
    ) -> None:
        self._make_listener = make_listener
        self._folder = folder
        self._face_parameters = face_parameters
        self._media_parameters = media_parameters
        self._stop = stop
        self._stack = ExitStack()
        self._own_count = 0
        self._notice_until_s = math.inf

    def __enter__(self) -> Self:
        """Start the face node, and once it listens, the media source."""
        with self._stack:
            use_fastdds_profile()
            # Our own handlers see Ctrl-C: they end the processes in order and close the files.
            rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
            self._stack.callback(rclpy.try_shutdown)
            self.listener = self._make_listener()
            self._stack.callback(self.listener.destroy_node)
            self._executor = SingleThreadedExecutor()
            self._executor.add_node(self.listener)
            self._stack.callback(self._executor.shutdown)
            self._listen_for_others()
            # The source sees a subscriber sooner than that one sees the source. What is sent in
            # between, a best-effort subscriber loses: one single picture in thirty.
            reliable = {"image_reliability": "reliable"}
            self.face_node = self._start("face_node", self._face_parameters | reliable)
            self._await_face_node()
            # Each sees the others at its own time: the source, too, waits for who is to be served.
            awaited = {"wait_for_nodes": ",".join(self._served_nodes_of_ours())}
            self.media_source = self._start("media_source", self._media_parameters | awaited)
            self._own_count = 1
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End the media source, the face node and ROS, in this order."""
        self._stack.close()

    def spin_once(self) -> None:
        """Let the listener take what has come, or wait a moment for something.

        Raises
        ------
        CompanyError
            Playing has not begun, or just now, and somebody else publishes images.
        """
        self._executor.spin_once(timeout_sec=SPIN_S)
        if time.monotonic() > self._notice_until_s:
            return
        count = self._refuse_company("image", self._own_count)
        if self._own_count and count and self._notice_until_s == math.inf:
            self._notice_until_s = time.monotonic() + NOTICE_OTHERS_S

    def _start(self, name: str, parameters: dict[str, Any]) -> ChildNode:
        child = ChildNode(f"tddfa_ros.nodes.{name}", parameters, self._folder)
        return self._stack.enter_context(child)

    def _listen_for_others(self) -> None:
        """Take notice of other nodes; :class:`CompanyError` if one publishes what we shall."""
        until_s = time.monotonic() + LISTEN_FOR_OTHERS_S
        while time.monotonic() < until_s:
            self._stop.check()
            self.spin_once()
            self._refuse_company("faces")

    def _refuse_company(self, topic: str, own_count: int = 0) -> int:
        """How many publish it, if these are our own; else :class:`CompanyError`."""
        full = self.listener.resolve_topic_name(topic)
        count = self.listener.count_publishers(full)
        if count > own_count:
            raise CompanyError(
                f"another node publishes {full} already (is a second demo running?); end it, "
                "or set ROS_DOMAIN_ID to another number than "
                f"{os.environ.get('ROS_DOMAIN_ID', '0')} for this run"
            )
        return count

    def _await_face_node(self) -> None:
        """Wait until it subscribes to images, which it does as soon as it is active."""
        # By its name: others may subscribe to images, too, long before it does. It has the
        # listener's namespace, as neither is given one.
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self._full_name(self.face_node.name) not in self._served_nodes():
            self._stop.check()
            self.face_node.check()
            if time.monotonic() > deadline:
                raise TddfaError(
                    f"the face node was not active after {READY_TIMEOUT_S:g} s. It said last:\n"
                    f"{self.face_node.log_tail()}"
                )
            self.spin_once()

    def _full_name(self, name: str) -> str:
        return f"{self.listener.get_namespace().rstrip('/')}/{name}"

    def _served_nodes(self) -> list[str]:
        """All that the media source's images will reach."""
        topic = self.listener.resolve_topic_name("image")
        return served_nodes(self.listener, topic, IMAGE_TYPE, IMAGE_QOS)

    def _served_nodes_of_ours(self) -> list[str]:
        ours = map(self._full_name, (self.face_node.name, self.listener.get_name()))
        return [name for name in ours if name in self._served_nodes()]


def find_model_set(name_or_path: str) -> Path:
    """Find a model set as :func:`tddfa_ros.core.model_set.find` does; absolute.

    Raises
    ------
    ModelSetNotFoundError
        There is none; the message also tells who came by `make` which Python to use.
    """
    try:
        return Path(model_set.find(name_or_path)).resolve()
    except ModelSetNotFoundError as error:
        raise ModelSetNotFoundError(
            f"{error} In a checkout run `source env.sh` before that command, and `make demo` after."
        ) from error


def say(text: str) -> None:
    """Write a line to the terminal at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
