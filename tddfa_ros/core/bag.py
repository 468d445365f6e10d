"""Images out of rosbag2 recordings (sqlite3, MCAP; folder or single file), without ROS."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, ReaderError, reader
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore

from tddfa_ros.core.errors import MediaError
from tddfa_ros.core.image_message import CAMERA_INFO_TYPE, COMPRESSED_TYPE, FACES_TYPE, IMAGE_TYPE

# That of Python, or of a package in its place: whichever this version of rosbags uses.
_ZSTD_ERROR = getattr(getattr(reader, "zstd", None), "ZstdError", RuntimeError)
BAG_ERRORS = (
    ReaderError,
    SerdeError,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    RuntimeError,  # of lz4
    MemoryError,  # a damaged length asks for more than there is,
    OverflowError,  # or for more than there can be
    TypeError,
    struct.error,
    apsw.Error,
    _ZSTD_ERROR,
)
"""What the readers of a damaged bag raise."""

# Last parts of topics that are a CompressedImage, too, but hold no picture as files have them.
_OTHER_TRANSPORTS = ("compresseddepth", "ffmpeg", "theora", "zstd")
_TYPES = get_typestore(Stores.ROS2_JAZZY)
_log = logging.getLogger(__name__)


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__


@dataclass(frozen=True)
class BagMessage:
    """One message of a bag, undecoded.

    Attributes
    ----------
    topic, msgtype : name and type, as ``sensor_msgs/msg/Image``
    received_ns : when the recorder got it
    data : CDR bytes
    connection_id : tells apart what several publishers of one topic sent
    """

    topic: str
    msgtype: str
    received_ns: int
    data: bytes
    connection_id: int = 0


@dataclass(frozen=True)
class BagImage:
    """An image message with its fields.

    Attributes
    ----------
    stamp_ns, frame_id : of its header
    message : as it lies in the bag
    fields : the deserialised Image or CompressedImage
    """

    stamp_ns: int
    frame_id: str
    message: BagMessage
    fields: Any


def namespace_of(image_topic: str) -> str:
    """Namespace of an image topic, ``/camera`` for ``/camera/image_raw/compressed``."""
    return image_topic.removesuffix("/compressed").rpartition("/")[0]


def camera_info_topic(image_topic: str) -> str:
    """Where the CameraInfo of an image topic is published by convention."""
    return f"{namespace_of(image_topic)}/camera_info"


class BagReader:
    """The messages of a bag.

    Parameters
    ----------
    path : bag folder (with metadata.yaml), .mcap or .db3 file

    Raises
    ------
    MediaError
        Not a bag, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self._reader = Reader(self.path)
            self._reader.open()
            self._open = True
        except BAG_ERRORS as error:
            raise MediaError(
                f"{self.path}: not a readable rosbag2 recording: {_why(error)}; a bag is a folder "
                "with metadata.yaml, or one .mcap or .db3 file"
            ) from error

    @property
    def connections(self) -> list[Connection]:
        """What was recorded: topics with types, definitions, qualities of service and counts."""
        return self._reader.connections

    def image_counts(self) -> dict[str, int]:
        """Count the messages of every image topic."""
        counts: dict[str, int] = {}
        for connection in self.connections:
            if connection.msgtype in (IMAGE_TYPE, COMPRESSED_TYPE):
                counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
        return counts

    def camera_topics(self) -> list[str]:
        """Image topics with messages that show a camera's picture, in alphabetical order.

        Depth images do not, nor what lies below a topic of faces; a compressed topic does not
        beside its raw twin, nor one of a transport that is not read.
        """
        counts = {topic: count for topic, count in self.image_counts().items() if count}
        faces = {c.topic for c in self.connections if c.msgtype == FACES_TYPE}
        compressed = {c.topic for c in self.connections if c.msgtype == COMPRESSED_TYPE}

        def shows_a_camera(topic: str) -> bool:
            is_twin = topic.endswith("/compressed") and topic.removesuffix("/compressed") in counts
            is_unread = topic in compressed and topic.lower().endswith(
                tuple(f"/{name}" for name in _OTHER_TRANSPORTS)
            )
            parts = topic.split("/")
            above = {"/".join(parts[:k]) for k in range(1, len(parts))}
            of_faces = "faces" in parts[:-1] or bool(above & faces)
            return not (is_twin or is_unread or of_faces or "depth" in topic.lower())

        return sorted(filter(shows_a_camera, counts))

    def messages(self, topics: tuple[str, ...] | None = None) -> Iterator[BagMessage]:
        """Yield the messages of some topics, or of all, in the order of recording.

        Raises
        ------
        MediaError
            The bag is damaged; what could be read has been yielded.
        """
        chosen = [c for c in self.connections if topics is None or c.topic in topics]
        if not chosen:
            return
        try:
            for connection, received_ns, data in self._reader.messages(connections=chosen):
                yield BagMessage(
                    connection.topic, connection.msgtype, received_ns, bytes(data), connection.id
                )
        except BAG_ERRORS as error:
            raise MediaError(f"{self.path}: the bag is damaged: {_why(error)}") from error

    def close(self) -> None:
        """Close the files; harmless when they are closed."""
        if self._open:
            self._open = False
            self._reader.close()


class ImageBag(BagReader):
    """The images of one topic of a bag.

    Parameters
    ----------
    path : bag folder (with metadata.yaml), .mcap or .db3 file
    topic : image topic; empty takes the first of a camera in alphabetical order, and says so if
        there are more

    Raises
    ------
    MediaError
        Not a bag, damaged, no such topic, or no images in it.
    """

    def __init__(self, path: Path, topic: str = "") -> None:
        super().__init__(path)
        try:
            self.image_topic = self._choose_topic(topic)
        except MediaError:
            self.close()
            raise

    def _choose_topic(self, wanted: str) -> str:
        counts = self.image_counts()
        if wanted and wanted not in counts:
            listed = ", ".join(sorted(counts)) or "none"
            raise MediaError(f"{self.path}: no image topic {wanted!r}; image topics: {listed}")
        with_images = sorted(name for name, count in counts.items() if count)
        if not with_images or (wanted and not counts[wanted]):
            raise MediaError(f"{self.path}: the bag holds no images")
        cameras = self.camera_topics()
        chosen = wanted or (cameras or with_images)[0]
        if not wanted and len(cameras) > 1:
            others = ", ".join(name for name in cameras if name != chosen)
            _log.warning("%s: %s is taken, of several image topics: %s", self.path, chosen, others)
        self.frame_count = counts[chosen]
        return chosen

    def camera_info_topic(self) -> str:
        """Name of the CameraInfo topic beside the images, or an empty string."""
        expected = camera_info_topic(self.image_topic)
        infos = [c.topic for c in self.connections if c.msgtype == CAMERA_INFO_TYPE]
        return expected if expected in infos else ""

    def image(self, message: BagMessage) -> BagImage:
        """Return an image with its fields; :class:`MediaError` if it is none, or damaged."""
        if message.msgtype not in (IMAGE_TYPE, COMPRESSED_TYPE):
            raise MediaError(
                f"{self.path}: a message on {message.topic} is a {message.msgtype}, no image"
            )
        try:
            fields: Any = _TYPES.deserialize_cdr(message.data, message.msgtype)
        except BAG_ERRORS as error:
            raise MediaError(
                f"{self.path}: an image message on {message.topic} is damaged: {_why(error)}"
            ) from error
        stamp = fields.header.stamp
        stamp_ns = int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
        return BagImage(stamp_ns, fields.header.frame_id, message, fields)
