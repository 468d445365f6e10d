"""Bags (MCAP) of serialised messages, our own types included, closed properly whatever happens."""

from __future__ import annotations

import shutil
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
    """

    def __init__(self, path: Path, topics: dict[str, str]) -> None:
        self.path = Path(path)
        self.message_count = 0
        self._discarded = False
        # metadata.yaml names the files, and these the folder: so it is moved, not renamed.
        self._workplace = temporary_beside(self.path)
        self._writer = Writer(
            self._workplace / self.path.name, version=9, storage_plugin=StoragePlugin.MCAP
        )
        try:
            self._writer.open()
        except OSError as error:
            raise MediaError(
                f"{self.path}: cannot write a bag there ({error.strerror}); choose another folder"
            ) from error
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
        self._writer.write(self._connections[topic], received_ns, data)
        self.message_count += 1

    def discard(self) -> None:
        """Have :meth:`close` remove the bag; an earlier one of that name stays."""
        self._discarded = True

    def close(self) -> None:
        """Finish the bag; an empty one is removed. May be called twice."""
        if not self._workplace.exists():
            return
        self._writer.close()
        if self.message_count and not self._discarded:
            put_in_place(self._workplace / self.path.name, self.path)
        shutil.rmtree(self._workplace)
