"""FaceArrays as bytes that depend on their content alone.

rclpy's serialiser leaves whatever was in memory in the padding between fields, so that equal
messages differ in their bytes. Here padding is zero: recordings of the same run are equal files of
equal messages.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ament_index_python.packages import get_package_share_directory
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from tddfa_msgs.msg import FaceArray

FACES_TYPE = "tddfa_msgs/msg/FaceArray"


@cache
def typestore_with_faces() -> Typestore:
    """Type store of rosbags that knows the messages of tddfa_msgs as well, from their own text."""
    store = get_typestore(Stores.ROS2_JAZZY)
    folder = Path(get_package_share_directory("tddfa_msgs")) / "msg"
    types = {}
    for path in sorted(folder.glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(), f"tddfa_msgs/msg/{path.stem}"))
    store.register(types)
    return store


def face_array_bytes(message: FaceArray) -> bytes:
    """Serialise a message, for ``publish()`` or a bag."""
    store = typestore_with_faces()
    array_type, face_type, params_type = (
        store.types[f"tddfa_msgs/msg/{name}"] for name in ("FaceArray", "Face", "MorphableParams")
    )
    # rosbags wants sequences of numbers as numpy arrays; all else it reads from rclpy's messages.
    faces = [
        _copied(
            face_type,
            face,
            params=_copied(
                params_type,
                face.params,
                shape=np.frombuffer(face.params.shape, np.float32),
                expression=np.frombuffer(face.params.expression, np.float32),
            ),
        )
        for face in message.faces
    ]
    return store.serialize_cdr(_copied(array_type, message, faces=faces), FACES_TYPE).tobytes()


def _copied(wanted: type, message: Any, **replaced: Any) -> Any:
    kept = (name for name in message.get_fields_and_field_types() if name not in replaced)
    return wanted(**{name: getattr(message, name) for name in kept}, **replaced)
