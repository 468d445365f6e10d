"""Faces of the core, rebuilt from the messages that carried them."""

from __future__ import annotations

import numpy as np

from tddfa_msgs.msg import Face as FaceMessage
from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.pose import head_pose
from tddfa_ros.core.types import Face, FrameResult, TrackState
from tddfa_ros.nodes.face_messages import landmarks_of, morphable_params

NS_PER_S = 1_000_000_000


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
