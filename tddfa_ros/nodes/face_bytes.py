"""Results as the bytes of FaceArrays, for ``publish()`` or a bag.

Written field by field: rclpy's messages, with 68 objects for a face's landmarks, took half a
millisecond a face. And their serialiser leaves whatever was in memory in the padding between
fields; here it is zero, so that recordings of the same run are equal files of equal messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from ament_index_python.packages import get_package_share_directory
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from tddfa_ros.core.expression import eye_mouth_openness
from tddfa_ros.core.rotation import quat_from_rotation
from tddfa_ros.core.types import (
    LANDMARK_COUNT,
    Face,
    FrameResult,
    MetricPose,
    MorphableParams,
)
from tddfa_ros.nodes.cdr import CdrWriter
from tddfa_ros.nodes.raw_image import ImageHeader

_VISIBILITY_NOT_KNOWN = np.full(LANDMARK_COUNT, np.nan, np.float32)
_UINT32_MAX = 2**32 - 1
_NO_POSITION, _NO_TURN = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)
_NO_COVARIANCE = np.zeros((6, 6))


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


def face_array_bytes(
    result: FrameResult,
    header: ImageHeader,
    *,
    model_set: str,
    processing_time_s: float,
    frames_dropped: int,
    metric_poses: Sequence[MetricPose | None] = (),
    visibilities: Sequence[np.ndarray] = (),
) -> bytes:
    """Serialise a result as ``tddfa_msgs/FaceArray``; what is not known is NaN.

    Parameters
    ----------
    result : of the pipeline, raw or smoothed
    header : of the image that it was found in
    model_set : name of the model set in use
    processing_time_s : from taking up the image
    frames_dropped : images that were published but not processed so far
    metric_poses : for each face its pose or None; empty if the camera is not calibrated
    visibilities : for each face (68,) float32, 1 for landmarks that are seen; empty if not known

    Raises
    ------
    ValueError
        An array has another size than its field, or there are not as many poses as faces.
    """
    poses = metric_poses or [None] * len(result.faces)
    seen = visibilities or [_VISIBILITY_NOT_KNOWN] * len(result.faces)
    cdr = CdrWriter()
    cdr.header(header.sec, header.nanosec, header.frame_id)
    cdr.numbers("I", result.image_height, result.image_width)
    cdr.string(model_set)
    cdr.numbers("f", processing_time_s)
    cdr.numbers("Q", frames_dropped)
    cdr.numbers("I", len(result.faces))
    for face, pose, visibility in zip(result.faces, poses, seen, strict=True):
        _append_face(cdr, face, model_set, pose, visibility)
    return cdr.finish()


def _append_face(
    cdr: CdrWriter,
    face: Face,
    model_set: str,
    metric_pose: MetricPose | None,
    visibility: np.ndarray,
) -> None:
    age_s, age_ns = divmod(max(face.age_ns, 0), 1_000_000_000)
    cdr.numbers("B", face.state)
    cdr.string(face.id)
    cdr.numbers("I", min(face.age_frames, _UINT32_MAX))
    cdr.numbers("i", age_s)
    cdr.numbers("I", age_ns)
    cdr.numbers("f", face.score, face.confidence)
    cdr.array(face.box_xyxy, np.float32, 4)
    cdr.array(face.landmarks, np.float32, 3 * LANDMARK_COUNT)
    cdr.array(visibility, np.float32, LANDMARK_COUNT)
    cdr.array(face.pose.quat_xyzw, np.float64, 4)
    cdr.array(face.pose.yaw_pitch_roll_rad, np.float32, 3)
    _append_pose(cdr, metric_pose)
    _append_params(cdr, face.params, model_set)
    cdr.numbers("f", *eye_mouth_openness(face.landmarks))


def _append_pose(cdr: CdrWriter, pose: MetricPose | None) -> None:
    cdr.numbers("B", pose is not None)
    cdr.array(pose.position_m if pose else _NO_POSITION, np.float64, 3)
    cdr.array(quat_from_rotation(pose.rotation) if pose else _NO_TURN, np.float64, 4)
    cdr.array(pose.covariance if pose else _NO_COVARIANCE, np.float64, 36)


def _append_params(cdr: CdrWriter, params: MorphableParams, model_set: str) -> None:
    cdr.string(model_set)
    cdr.array(params.camera, np.float32, 12)
    cdr.sequence(np.asarray(params.shape, np.float32))
    cdr.sequence(np.asarray(params.expression, np.float32))
    cdr.array(params.roi_xyxy, np.float32, 4)
    cdr.numbers("H", params.input_size)
