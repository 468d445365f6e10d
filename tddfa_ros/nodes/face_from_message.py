"""Faces of the core, rebuilt from the messages that carried them."""

from __future__ import annotations

import numpy as np

from tddfa_msgs.msg import Face as FaceMessage
from tddfa_msgs.msg import FaceArray
from tddfa_msgs.msg import MorphableParams as MorphableParamsMessage
from tddfa_ros.core.pose import head_pose
from tddfa_ros.core.types import Face, FrameResult, MorphableParams, TrackState

NS_PER_S = 1_000_000_000


def morphable_params(message: MorphableParamsMessage) -> MorphableParams:
    """Return the fit in a message: the exact inverse of what the face node wrote."""
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


def face_from_message(message: FaceMessage) -> Face:
    """Invert the face node's conversion, up to the rounding of float32 fields."""
    params = morphable_params(message.params)
    return Face(
        id=message.id,
        state=TrackState(message.state),
        age_frames=message.age_frames,
        score=message.detection_score,
        confidence=message.confidence,
        box_xyxy=np.array(message.box_xyxy, np.float32),
        params=params,
        landmarks=landmarks_of(message),
        pose=head_pose(params),
        age_ns=message.age.sec * NS_PER_S + message.age.nanosec,
    )


def frame_from_message(message: FaceArray, frame_index: int) -> FrameResult:
    """Rebuild the result of one image; no message has the `frame_index`, so the reader counts."""
    stamp = message.header.stamp
    return FrameResult(
        frame_index,
        stamp.sec * NS_PER_S + stamp.nanosec,
        message.image_height,
        message.image_width,
        tuple(face_from_message(face) for face in message.faces),
    )
