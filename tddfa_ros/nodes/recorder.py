"""A node that writes what it hears: annotated video, faces as JSON lines, and a bag."""

from __future__ import annotations

import logging
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.errors import ImageError
from tddfa_ros.core.image_times import ImageTimes
from tddfa_ros.core.recording import LinesWriter, VideoWriter
from tddfa_ros.core.results import frame_line
from tddfa_ros.nodes.bag_writer import BagWriter
from tddfa_ros.nodes.face_from_message import NS_PER_S, frame_from_message
from tddfa_ros.nodes.raw_image import decode_image
from tddfa_ros.nodes.run_statistics import RunStatistics

IMAGE_TOPIC = "/image"
FACES_TOPIC = "/faces"
BAG_TOPICS = {IMAGE_TOPIC: "sensor_msgs/msg/Image", FACES_TOPIC: "tddfa_msgs/msg/FaceArray"}
IMAGES_QUEUE_DEPTH = 30
FACES_QUEUE_DEPTH = 1000
"""They are small: also those that come while this process has to wait shall be counted."""

_log = logging.getLogger(__name__)


def stamp_ns_of(data: bytes) -> int:
    """Stamp of a serialised message that begins with a header, without reading the rest."""
    byte_order = "<" if data[1] & 1 else ">"
    sec, nanosec = struct.unpack_from(byte_order + "iI", data, 4)
    return sec * NS_PER_S + nanosec


class Recording:
    """The files of a run, and what it amounted to; leaving the ``with`` block finishes them.

    Parameters
    ----------
    folder : gets ``annotated.mp4``, ``faces.jsonl`` and the bag ``bag/``
    rate_hz : images a second of the source, if it states them
    """

    def __init__(self, folder: Path, rate_hz: float | None) -> None:
        self.statistics = RunStatistics()
        self.heard_count = 0
        self.discarded = False
        self._overlay_count = 0
        self._index_by_stamp: dict[int, int] = {}
        self._times = ImageTimes(_log.warning, "arrival")
        self._stack = ExitStack()
        with self._stack:
            self.video = self._stack.enter_context(VideoWriter(folder / "annotated.mp4", rate_hz))
            self.lines = self._stack.enter_context(LinesWriter(folder / "faces.jsonl"))
            self.bag = self._stack.enter_context(BagWriter(folder / "bag", BAG_TOPICS))
            self._stack = self._stack.pop_all()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish all files."""
        self._stack.close()

    @property
    def all_answered(self) -> bool:
        """Whether of each image that has come the faces have, too, and their picture."""
        counts = self.statistics.image_count, self.statistics.processed_count, self._overlay_count
        return 0 < min(counts) == max(counts)

    def discard(self) -> None:
        """Leave no file of this run behind; those of an earlier one stay."""
        self.discarded = True
        for file in (self.video, self.lines, self.bag):
            file.discard()

    def add_image(self, data: bytes, info: dict[str, int]) -> None:
        """Take a serialised Image with what the middleware knows of it."""
        self.heard_count += 1
        stamp_ns = stamp_ns_of(data)
        self._index_by_stamp[stamp_ns] = self.statistics.image_count
        self.statistics.add_image(stamp_ns, info["source_timestamp"])
        self.bag.write(IMAGE_TOPIC, info["received_timestamp"], data)

    def add_faces(self, data: bytes, info: dict[str, int]) -> None:
        """Take a serialised FaceArray."""
        self.heard_count += 1
        message = deserialize_message(data, FaceArray)
        stamp_ns = stamp_ns_of(data)
        index = self._index_by_stamp.get(stamp_ns, self.statistics.processed_count)
        # Images up to this one will get no further answer.
        self._index_by_stamp = {s: i for s, i in self._index_by_stamp.items() if s > stamp_ns}
        self.statistics.add_faces(
            stamp_ns,
            info["received_timestamp"],
            [face.id for face in message.faces],
            message.frames_dropped,
        )
        self.lines.write(frame_line(frame_from_message(message, index)))
        self.bag.write(FACES_TOPIC, info["received_timestamp"], data)

    def add_overlay(self, data: bytes, info: dict[str, int]) -> None:
        """Take a serialised Image with the faces drawn; :class:`ImageError` if it is damaged."""
        self.heard_count += 1
        header, image_bgr = decode_image(data)
        time_ns = self._times.of(header.stamp_ns, info["received_timestamp"])
        self.video.write(image_bgr, time_ns)
        self._overlay_count += 1


class Recorder(Node):
    """Subscribes ``image``, ``faces`` and ``faces/overlay`` and hands them to a recording."""

    def __init__(self, recording: Recording) -> None:
        super().__init__("recorder")
        self._recording = recording
        images_qos = QoSProfile(depth=IMAGES_QUEUE_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        faces_qos = QoSProfile(depth=FACES_QUEUE_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        self.create_subscription(Image, "image", recording.add_image, images_qos, raw=True)
        self.create_subscription(FaceArray, "faces", recording.add_faces, faces_qos, raw=True)
        self.create_subscription(Image, "faces/overlay", self._on_overlay, images_qos, raw=True)

    def _on_overlay(self, data: bytes, info: dict[str, int]) -> None:
        try:
            self._recording.add_overlay(data, info)
        except ImageError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)
