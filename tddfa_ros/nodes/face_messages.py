"""Results as messages, and the fit back out of a message.

Arrays go through ``array.array.frombytes``: assigning numpy arrays to sequence fields of messages
costs rclpy milliseconds a frame.
"""

from __future__ import annotations

import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Point32, Pose, PoseWithCovariance, Quaternion

from tddfa_msgs.msg import Face as FaceMessage
from tddfa_msgs.msg import FaceArray
from tddfa_msgs.msg import MorphableParams as MorphableParamsMessage
from tddfa_ros.core.expression import eye_mouth_openness
from tddfa_ros.core.pose import quat_from_rotation
from tddfa_ros.core.types import (
    LANDMARK_COUNT,
    Face,
    FrameResult,
    MetricPose,
    MorphableParams,
)
from tddfa_ros.nodes.raw_image import ImageHeader

_VISIBILITY_NOT_KNOWN = np.full(LANDMARK_COUNT, np.nan, np.float32)
_UINT32_MAX = 2**32 - 1


def face_array(
    result: FrameResult,
    header: ImageHeader,
    *,
    model_set: str,
    processing_time_s: float,
    frames_dropped: int,
    metric_poses: Sequence[MetricPose | None] = (),
    visibilities: Sequence[np.ndarray] = (),
) -> FaceArray:
    """Return a result as a message.

    Parameters
    ----------
    result : of the pipeline, raw or smoothed
    header : of the image that it was found in
    model_set : name of the model set in use
    processing_time_s : from taking up the image
    frames_dropped : images received but not processed so far
    metric_poses : for each face its pose or None; empty if the camera is not calibrated
    visibilities : for each face (68,) float32, 1 for landmarks that are seen; empty if not known
    """
    poses = metric_poses or [None] * len(result.faces)
    seen = visibilities or [_VISIBILITY_NOT_KNOWN] * len(result.faces)
    return FaceArray(
        header=header.message(),
        image_height=result.image_height,
        image_width=result.image_width,
        model_set=model_set,
        processing_time=float(processing_time_s),
        frames_dropped=frames_dropped,
        faces=[
            face_message(face, model_set, pose, visibility)
            for face, pose, visibility in zip(result.faces, poses, seen, strict=True)
        ],
    )


def face_message(
    face: Face,
    model_set: str,
    metric_pose: MetricPose | None = None,
    visibility: np.ndarray = _VISIBILITY_NOT_KNOWN,
) -> FaceMessage:
    """Return one face as a message; what is not known is NaN."""
    left_eye, right_eye, mouth = eye_mouth_openness(face.landmarks)
    yaw, pitch, roll = face.pose.yaw_pitch_roll_rad.tolist()
    x, y, z, w = face.pose.quat_xyzw.tolist()
    age_s, age_ns = divmod(max(face.age_ns, 0), 1_000_000_000)
    return FaceMessage(
        state=int(face.state),
        id=face.id,
        age_frames=min(face.age_frames, _UINT32_MAX),
        age=Duration(sec=age_s, nanosec=age_ns),
        detection_score=float(face.score),
        confidence=float(face.confidence),
        box_xyxy=_float32(face.box_xyxy),
        landmarks=[Point32(x=px, y=py, z=pz) for px, py, pz in face.landmarks.tolist()],
        landmark_visibility=visibility,
        orientation=Quaternion(x=x, y=y, z=z, w=w),
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        has_metric_pose=metric_pose is not None,
        metric_pose=_pose_message(metric_pose),
        params=_params_message(face.params, model_set),
        left_eye_openness=left_eye,
        right_eye_openness=right_eye,
        mouth_openness=mouth,
    )


def morphable_params(message: MorphableParamsMessage) -> MorphableParams:
    """Return the fit in a message: the exact inverse of what :func:`face_message` wrote."""
    return MorphableParams(
        camera=np.array(message.camera, np.float32).reshape(3, 4),
        shape=np.array(message.shape, np.float32),
        expression=np.array(message.expression, np.float32),
        roi_xyxy=np.array(message.roi_xyxy, np.float32),
        input_size=int(message.input_size),
    )


def landmarks_of(message: FaceMessage) -> np.ndarray:
    """(68, 3) float32: landmarks in a message, image space."""
    return np.array([(p.x, p.y, p.z) for p in message.landmarks], np.float32)


def _pose_message(pose: MetricPose | None) -> PoseWithCovariance:
    if pose is None:
        return PoseWithCovariance()
    x, y, z = pose.position_m.tolist()
    qx, qy, qz, qw = quat_from_rotation(pose.rotation).tolist()
    return PoseWithCovariance(
        pose=Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw)),
        covariance=np.ascontiguousarray(pose.covariance, np.float64).reshape(-1),
    )


def _params_message(params: MorphableParams, model_set: str) -> MorphableParamsMessage:
    return MorphableParamsMessage(
        model_name=model_set,
        camera=_float32(params.camera).reshape(-1),
        shape=_float_sequence(params.shape),
        expression=_float_sequence(params.expression),
        roi_xyxy=_float32(params.roi_xyxy),
        input_size=params.input_size,
    )


def _float32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)


def _float_sequence(values: np.ndarray) -> array.array:
    sequence = array.array("f")
    sequence.frombytes(_float32(values).tobytes())
    return sequence
