"""Bags (MCAP) of serialised messages, our own types included, closed properly whatever happens."""

from __future__ import annotations

import shutil
from pathlib import Path

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

from tddfa_ros.core.atomic_file import put_in_place
from tddfa_ros.core.errors import MediaError
from tddfa_ros.core.named_when_done import NamedWhenDone
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


class BagWriter(NamedWhenDone):
    """A bag folder that has its name only once it is complete.

    Parameters
    ----------
    path : the bag's folder; a bag that is there already is replaced when this one is closed
    topics : message type by topic, as ``{"/image": "sensor_msgs/msg/Image"}``

    Raises
    ------
    MediaError
        Here and later, when it cannot be written; an earlier bag of that name stays.
    """

    def __init__(self, path: Path, topics: dict[str, str]) -> None:
        super().__init__(path)
        # metadata.yaml names the files, and these the folder: so it is moved, not renamed.
        self._folder = self._temporary / self.path.name
        self._writer = Writer(self._folder, version=9, storage_plugin=StoragePlugin.MCAP)
        try:
            with self._writing():
                self._writer.open()
        except MediaError:
            self._remove()  # nobody closes what could not be made, and its folder may be there
            raise
        store = typestore_with_faces()
        self._connections: dict[str, Connection] = {
            topic: self._writer.add_connection(
                topic, msgtype, typestore=store, offered_qos_profiles=[OFFERED_QOS]
            )
            for topic, msgtype in topics.items()
        }

    def write(self, topic: str, received_ns: int, data: bytes) -> None:
        """Add one serialised message with the time of its reception, nanoseconds since 1970."""
        with self._writing():
            self._writer.write(self._connections[topic], received_ns, data)
        self.count += 1

    def _close_file(self) -> None:
        if self._temporary.exists():  # not closed yet
            self._writer.close()

    def _take_name(self) -> None:
        put_in_place(self._folder, self.path)

    def _remove(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)
