"""A copy of a rosbag2 recording with further topics; the messages copied stay byte for byte."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from rosbags.interfaces import Connection, ConnectionExtRosbag2, Qos
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from tddfa_ros.core.atomic_file import put_in_place
from tddfa_ros.core.bag import BagMessage
from tddfa_ros.core.errors import MediaError

WRITE_ERRORS = (OSError, sqlite3.Error)
"""What writing raises when the disk is full, or gone."""

STORAGES = {".mcap": StoragePlugin.MCAP, ".db3": StoragePlugin.SQLITE3}

_UNKNOWN_HASH = "RIHS01_" + "0" * 64
_TYPES = get_typestore(Stores.ROS2_JAZZY)


def check_out(out: Path) -> None:
    """Refuse a place for a bag before any work is done.

    Raises
    ------
    MediaError
        No name, another suffix than .mcap, .db3 or none, or something there that is no bag.
    """
    if out.name in ("", ".."):
        raise MediaError(f"{out}: has no name of its own; choose another --out")
    if out.suffix and out.suffix not in STORAGES:
        raise MediaError(
            f"{out}: a bag is a file .mcap or .db3, or a folder, whose name has no dot"
        )
    if out.is_dir() and (out.suffix or not (out / "metadata.yaml").is_file()):
        raise MediaError(f"{out}: is a folder, but no bag; choose another --out")
    if out.is_file() and not out.suffix:
        raise MediaError(f"{out}: is a file, not a bag's folder; choose another --out")


class BagCopy:
    """A bag being written.

    Parameters
    ----------
    workplace : folder that must not exist yet; the bag lies there until it is finished
    out : where it goes: a .mcap or .db3 file, or a folder (of MCAP)
    """

    def __init__(self, workplace: Path, out: Path) -> None:
        self._workplace = Path(workplace)
        self._out = Path(out)
        self._folder = self._workplace / self._out.stem
        plugin = STORAGES.get(self._out.suffix, StoragePlugin.MCAP)
        self._writer = Writer(self._folder, version=9, storage_plugin=plugin)
        self._writer.open()
        self._copied: dict[int, Connection] = {}
        self._added: dict[str, Connection] = {}

    def copy_connections(self, connections: Sequence[Connection]) -> None:
        """Take over the topics of a bag, with types, definitions and qualities of service."""
        known: list[tuple[tuple[object, ...], Connection]] = []
        for source in connections:
            key = (source.topic, source.msgtype, source.ext)
            same = next((written for other, written in known if other == key), None)
            if same is None:
                same = self._copy_connection(source)
                known.append((key, same))
            self._copied[source.id] = same

    def _copy_connection(self, source: Connection) -> Connection:
        # Bags older than Jazzy have no definitions; those of ROS itself are known.
        typestore: Typestore | None = None
        msgdef: str | None = source.msgdef.data
        digest: str | None = source.digest or _type_hash(source)
        if not msgdef and source.msgtype in _TYPES.types:
            typestore, msgdef, digest = _TYPES, None, None
        about = cast("ConnectionExtRosbag2", source.ext)
        return self._writer.add_connection(
            source.topic,
            source.msgtype,
            typestore=typestore,
            msgdef=msgdef,
            rihs01=digest,
            serialization_format=about.serialization_format,
            offered_qos_profiles=about.offered_qos_profiles,
        )

    def add_topic(self, topic: str, msgtype: str, typestore: Typestore, qos: Qos) -> None:
        """Add a topic of our own."""
        self._added[topic] = self._writer.add_connection(
            topic, msgtype, typestore=typestore, offered_qos_profiles=[qos]
        )

    def copy(self, message: BagMessage) -> None:
        """Write a message as it was read."""
        connection = self._copied[message.connection_id]
        self._writer.write(connection, message.received_ns, message.data)

    def write(self, topic: str, received_ns: int, data: bytes) -> None:
        """Write a message of an added topic."""
        self._writer.write(self._added[topic], received_ns, data)

    def abort(self) -> None:
        """Throw away what has been written."""
        with suppress(*WRITE_ERRORS):
            self._writer.abort()
        shutil.rmtree(self._workplace, ignore_errors=True)

    def finish(self) -> None:
        """Complete the bag and give it its place; a bag that was there is replaced."""
        self._writer.close()
        if self._out.suffix:
            (self._folder / f"{self._folder.name}{self._out.suffix}").replace(self._out)
        else:
            put_in_place(self._folder, self._out)
        shutil.rmtree(self._workplace)


def _type_hash(source: Connection) -> str:
    """Hash of a type (REP-2016), which a single MCAP file does not keep."""
    with suppress(TypesysError, SerdeError, KeyError, ValueError):
        if source.msgtype in _TYPES.types:
            return _TYPES.hash_rihs01(source.msgtype)
        store = get_typestore(Stores.EMPTY)
        store.register(get_types_from_msg(source.msgdef.data, source.msgtype))
        return store.hash_rihs01(source.msgtype)
    return _UNKNOWN_HASH
