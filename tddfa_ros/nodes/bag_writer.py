"""Bags (MCAP) of serialised messages, our own types included, closed properly whatever happens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from tddfa_ros.core.atomic_file import put_in_place, temporary_beside
from tddfa_ros.core.errors import MediaError
from tddfa_ros.nodes.face_bytes import typestore_with_faces

_FOREVER = QosTime(2147483647, 4294967295)
OFFERED_QOS = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.VOLATILE,
    deadline=_FOREVER,
    lifespan=_FOREVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False,
)


class BagWriter:
    """A bag folder that has its name only once it is complete.

    Parameters
    ----------
    path : the bag's folder; a bag that is there already is replaced when this one is closed
    topics : message type by topic, as ``{"/image": "sensor_msgs/msg/Image"}``

    Attributes
    ----------
    in_place : whether it was closed and has its name

    Raises
    ------
    MediaError
        Here and later, when it cannot be written; an earlier bag of that name stays.
    """

    def __init__(self, path: Path, topics: dict[str, str]) -> None:
        self.path = Path(path)
        self.message_count = 0
        self.in_place = False
        self._discarded = False
        # metadata.yaml names the files, and these the folder: so it is moved, not renamed.
        self._workplace = temporary_beside(self.path)
        self._writer = Writer(
            self._workplace / self.path.name, version=9, storage_plugin=StoragePlugin.MCAP
        )
        with self._writing():
            self._writer.open()
        store = typestore_with_faces()
        self._connections: dict[str, Connection] = {
            topic: self._writer.add_connection(
                topic, msgtype, typestore=store, offered_qos_profiles=[OFFERED_QOS]
            )
            for topic, msgtype in topics.items()
        }

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def write(self, topic: str, received_ns: int, data: bytes) -> None:
        """Add one serialised message with the time of its reception, nanoseconds since 1970."""
        with self._writing():
            self._writer.write(self._connections[topic], received_ns, data)
        self.message_count += 1

    def discard(self) -> None:
        """Have :meth:`close` remove the bag; an earlier one of that name stays."""
        self._discarded = True

    def close(self) -> None:
        """Finish the bag; an empty one is removed. May be called twice."""
        if not self._workplace.exists():
            return
        given_up = self._discarded
        try:
            with self._writing():
                self._writer.close()
                if self.message_count and not self._discarded:
                    put_in_place(self._workplace / self.path.name, self.path)
                    self.in_place = True
        except MediaError:
            if not given_up:
                raise
        finally:
            shutil.rmtree(self._workplace, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what fails inside into a :class:`MediaError`; the bag is given up then."""
        try:
            yield
        except OSError as error:
            self._discarded = True
            raise MediaError(
                f"{self.path}: cannot write a bag there ({error.strerror}); make room, or choose "
                "another folder"
            ) from error
