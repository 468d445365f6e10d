"""Results as plain JSON, and back without loss.

A float32 becomes the double of the same value, which JSON writes with as many digits as reading it
back exactly needs. NaN, which JSON lacks, becomes null.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from tddfa_ros.core.types import Face, FrameResult, HeadPose, MorphableParams, TrackState


def _plain(value: float) -> float | None:
    value = float(value)
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _plain_list(array: np.ndarray) -> list:
    return np.asarray(array, np.float64).tolist()


def face_to_dict(face: Face) -> dict[str, Any]:
    """Face as JSON-ready values.

    Returns
    -------
    dict
        ``id``; ``state`` ("detected" or "tracked"); ``age_frames``; ``age_ns``; ``score``;
        ``confidence`` or None; ``box_xyxy`` (4, pixels); ``landmarks`` (68 x 3, image space);
        ``params`` (camera row-major, shape, expression; smoothed if the face is);
        ``shape_count``, how many of them are shape; ``roi_xyxy`` (4, pixels);
        ``input_size`` (pixels); ``reference_euler_deg`` (yaw, pitch, roll as 3DDFA_V2 gives them);
        ``yaw_pitch_roll_rad``; ``quat_xyzw``; ``scale`` (pixels per unit of the face model)
    """
    return {
        "id": face.id,
        "state": face.state.name.lower(),
        "age_frames": int(face.age_frames),
        "age_ns": int(face.age_ns),
        "score": _plain(face.score),
        "confidence": _plain(face.confidence),
        "box_xyxy": _plain_list(face.box_xyxy),
        "landmarks": _plain_list(face.landmarks),
        "params": _plain_list(face.params.vector),
        "shape_count": len(face.params.shape),
        "roi_xyxy": _plain_list(face.params.roi_xyxy),
        "input_size": int(face.params.input_size),
        "reference_euler_deg": _plain_list(face.pose.reference_euler_deg),
        "yaw_pitch_roll_rad": _plain_list(face.pose.yaw_pitch_roll_rad),
        "quat_xyzw": _plain_list(face.pose.quat_xyzw),
        "scale": _plain(face.pose.scale),
    }


def face_from_dict(values: dict[str, Any]) -> Face:
    """Inverse of :func:`face_to_dict`; every number is bit for bit what it was."""
    return Face(
        id=values["id"],
        state=TrackState[values["state"].upper()],
        age_frames=values["age_frames"],
        age_ns=values["age_ns"],
        score=_number(values["score"]),
        confidence=_number(values["confidence"]),
        box_xyxy=np.array(values["box_xyxy"], np.float32),
        params=MorphableParams.from_vector(
            np.array(values["params"], np.float32),
            values["shape_count"],
            np.array(values["roi_xyxy"], np.float32),
            values["input_size"],
        ),
        landmarks=np.array(values["landmarks"], np.float32),
        pose=HeadPose(
            quat_xyzw=np.array(values["quat_xyzw"], np.float64),
            yaw_pitch_roll_rad=np.array(values["yaw_pitch_roll_rad"], np.float64),
            reference_euler_deg=np.array(values["reference_euler_deg"], np.float64),
            scale=_number(values["scale"]),
        ),
    )


def frame_to_dict(result: FrameResult, image: str = "") -> dict[str, Any]:
    """One frame: ``frame`` (from 0), ``image`` (its file, if any), ``stamp_ns`` and ``faces``."""
    return {
        "frame": int(result.frame_index),
        **({"image": image} if image else {}),
        "stamp_ns": int(result.stamp_ns),
        "faces": [face_to_dict(face) for face in result.faces],
    }


def frame_line(result: FrameResult, image: str = "") -> str:
    """:func:`frame_to_dict` as one line of JSON, with its newline."""
    return json.dumps(frame_to_dict(result, image), allow_nan=False) + "\n"
