"""The nodes of a demo or webcam run: a media source and a face node, each in its own process."""

from __future__ import annotations

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
from rclpy.qos import QoSProfile
from rclpy.topic_endpoint_info import TopicEndpointInfo

from tddfa_ros.core import model_set
from tddfa_ros.core.bag import IMAGE_TYPE
from tddfa_ros.core.errors import ModelSetNotFoundError, TddfaError
from tddfa_ros.nodes.children import ChildNode
from tddfa_ros.nodes.quality_of_service import mismatch, node_name

READY_TIMEOUT_S = 60.0
LISTEN_FOR_OTHERS_S = 1.0
"""Discovery between processes takes about that long on a quiet machine."""
KNOW_OTHERS_S = 4.0
"""Where its first messages are lost, it takes the three seconds until they are sent again."""
NOTICE_OTHERS_S = 5.0
"""On a busy one some of its messages are lost and sent again seconds later: for so long after the
start of playing an other publisher is still taken for one that was there before us."""
SPIN_S = 0.05
OFFERED_QOS = QoSProfile(depth=1)
"""That of the media source's images."""

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
    face_parameters, media_parameters : by name; the media source also waits for all that subscribe
        to images when it is started: the face node, our listener if it does, and others

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
    ) -> None:
        self._make_listener = make_listener
        self._folder = folder
        self._face_parameters = face_parameters
        self._media_parameters = media_parameters
        self._stack = ExitStack()
        self._notice_until_s = 0.0

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
            began_s = time.monotonic()
            self._listen_for_others(began_s + LISTEN_FOR_OTHERS_S, "image", "faces")
            # The source sees a subscriber sooner than that one sees the source. What is sent in
            # between, a best-effort subscriber loses: one single picture in thirty.
            reliable = {"image_reliability": "reliable"}
            self.face_node = self._start("face_node", self._face_parameters | reliable)
            self._await_face_node()
            # The source only counts subscribers. Were it to wait for fewer than there are, others
            # could make up the number, and the face node would miss the first image.
            self._listen_for_others(began_s + KNOW_OTHERS_S, "image")
            awaited = {"wait_for_subscribers": len(self._image_subscriptions())}
            self.media_source = self._start("media_source", self._media_parameters | awaited)
            self._notice_until_s = time.monotonic() + NOTICE_OTHERS_S
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
            Playing has begun just now, and somebody else publishes images too.
        """
        self._executor.spin_once(timeout_sec=SPIN_S)
        if time.monotonic() < self._notice_until_s:
            self._refuse_company("image", own_count=1)

    def _start(self, name: str, parameters: dict[str, Any]) -> ChildNode:
        child = ChildNode(f"tddfa_ros.nodes.{name}", parameters, self._folder)
        return self._stack.enter_context(child)

    def _listen_for_others(self, until_s: float, *topics: str) -> None:
        """Take notice of other nodes until then; :class:`CompanyError` if one publishes these."""
        self._refuse_company(*topics)
        while time.monotonic() < until_s:
            self.spin_once()
            self._refuse_company(*topics)

    def _refuse_company(self, *topics: str, own_count: int = 0) -> None:
        for topic in topics:
            full = self.listener.resolve_topic_name(topic)
            if self.listener.count_publishers(full) > own_count:
                raise CompanyError(
                    f"another node publishes {full} already (is a second demo running?); end it, "
                    "or set ROS_DOMAIN_ID to another number than "
                    f"{os.environ.get('ROS_DOMAIN_ID', '0')} for this run"
                )

    def _await_face_node(self) -> None:
        """Wait until it subscribes to images, which it does as soon as it is active."""
        # By its name: others may subscribe to images, too, long before it does. It has the
        # listener's namespace, as neither is given one.
        full_name = f"{self.listener.get_namespace().rstrip('/')}/{self.face_node.name}"
        deadline = time.monotonic() + READY_TIMEOUT_S
        while full_name not in map(node_name, self._image_subscriptions()):
            self.face_node.check()
            if time.monotonic() > deadline:
                raise TddfaError(
                    f"the face node was not active after {READY_TIMEOUT_S:g} s. It said last:\n"
                    f"{self.face_node.log_tail()}"
                )
            self.spin_once()

    def _image_subscriptions(self) -> list[TopicEndpointInfo]:
        """All that the media source's images will reach, ours too; for others it waits in vain."""
        topic = self.listener.resolve_topic_name("image")
        return [
            subscription
            for subscription in self.listener.get_subscriptions_info_by_topic(topic)
            if subscription.topic_type == IMAGE_TYPE
            and not mismatch(OFFERED_QOS, subscription.qos_profile)
        ]


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
