"""Orientation of a head from its fit, and conversions between rotation and angles.

Three frames, all right-handed:

- optical (REP-103): x right, y down, z forward, out of the camera;
- face (REP-155): x out of the face, y to the subject's left, z to the scalp;
- view: x to the image's right, y up, z towards the camera. An upright face that looks into the
  camera has its model axes (x to the subject's left, y up, z out) along these, so the *turn* of a
  head is the rotation from the model's axes to this frame and is the identity for such a face.
"""

from __future__ import annotations

from functools import cached_property
from math import asin, atan2, cos, degrees, hypot, pi, sin, sqrt

import numpy as np

from tddfa_ros.core.camera import image_camera
from tddfa_ros.core.rotation import nearest_rotation, quat_from_rotation
from tddfa_ros.core.types import HeadPose, MorphableParams

# Columns: the axes of the face frame in model axes.
_MODEL_FROM_FACE = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
_OPTICAL_FROM_VIEW = np.diag([1.0, -1.0, -1.0])
_VIEW_FROM_IMAGE = np.array([[1.0], [-1.0], [1.0]])

_GIMBAL = 1e-9
_REFERENCE_GIMBAL = 0.998


def head_pose(params: MorphableParams) -> HeadPose:
    """Find the orientation of the head of a fit.

    The rotation is the one nearest to the fitted camera (its polar factor), so it is orthonormal
    whatever the network says. A camera that is not finite gives NaN throughout.

    What is asked of the pose is computed then: of a face that is smoothed nobody asks the raw one.
    """
    return _PoseOfFit(params)


class _PoseOfFit(HeadPose):
    """Fields of :class:`HeadPose`, each computed when it is first asked for."""

    _params: MorphableParams

    def __init__(self, params: MorphableParams) -> None:
        # The base class is frozen and would set its fields.
        self.__dict__["_params"] = params

    @cached_property
    def _linear(self) -> np.ndarray | None:
        linear = image_camera(self._params)[:, :3]
        return linear if np.isfinite(linear).all() else None

    @cached_property
    def _rotation(self) -> np.ndarray | None:
        if self._linear is None:
            return None
        return rotation_from_turn(nearest_rotation(_VIEW_FROM_IMAGE * self._linear))

    @cached_property
    def quat_xyzw(self) -> np.ndarray:
        return np.full(4, np.nan) if self._rotation is None else quat_from_rotation(self._rotation)

    @cached_property
    def yaw_pitch_roll_rad(self) -> np.ndarray:
        if self._rotation is None:
            return np.full(3, np.nan)
        return yaw_pitch_roll_from_rotation(self._rotation)

    @cached_property
    def reference_euler_deg(self) -> np.ndarray:
        if self._linear is None:
            return np.full(3, np.nan)
        return reference_euler_deg(self._params.camera)

    @cached_property
    def scale(self) -> float:
        if self._linear is None:
            return float("nan")
        return sum(hypot(*row) for row in self._linear[:2].tolist()) / 2


def rotation_from_turn(turn: np.ndarray) -> np.ndarray:
    """Convert a turn to the rotation from the face frame to the optical frame, both (3, 3)."""
    return _OPTICAL_FROM_VIEW @ turn @ _MODEL_FROM_FACE


def turn_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Invert :func:`rotation_from_turn`."""
    return _OPTICAL_FROM_VIEW @ rotation @ _MODEL_FROM_FACE.T


def yaw_pitch_roll_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Describe the orientation of a head by angles.

    The turn of the head is ``Ry(yaw) Rx(-pitch) Rz(roll)`` in the view frame: the head rolls about
    its own axis first, then nods, then turns about the vertical.

    - yaw > 0: the subject turns to their left, the image's right; in (-pi, pi], continuous through
      a profile at +-pi/2
    - pitch > 0: the head tilts up; in [-pi/2, pi/2]
    - roll > 0: the head tilts to the subject's right shoulder, counter-clockwise in the image; in
      (-pi, pi]

    At pitch = +-pi/2 only a sum of yaw and roll is determined; roll is then 0.

    Parameters
    ----------
    rotation : (3, 3), from the face frame to the optical frame

    Returns
    -------
    (3,) float64, radians
    """
    (t00, _, t02), (t10, t11, t12), (t20, _, t22) = turn_from_rotation(rotation).tolist()
    level = hypot(t10, t11)
    pitch = atan2(t12, level)
    if level < _GIMBAL:
        return np.array([atan2(-t20, t00), pitch, 0.0])
    return np.array([atan2(t02, t22), pitch, atan2(t10, t11)])


def rotation_from_yaw_pitch_roll(yaw_pitch_roll_rad: np.ndarray) -> np.ndarray:
    """Convert angles to the (3, 3) rotation from the face frame to the optical frame."""
    yaw, pitch, roll = (float(angle) for angle in yaw_pitch_roll_rad)
    cy, sy = cos(yaw), sin(yaw)
    cx, sx = cos(-pitch), sin(-pitch)
    cz, sz = cos(roll), sin(roll)
    turn = np.array(
        [
            [cy * cz + sy * sx * sz, -cy * sz + sy * sx * cz, sy * cx],
            [cx * sz, cx * cz, -sx],
            [-sy * cz + cy * sx * sz, sy * sz + cy * sx * cz, cy * cx],
        ]
    )
    return rotation_from_turn(turn)


def reference_euler_deg(camera: np.ndarray) -> np.ndarray:
    """Compute yaw, pitch, roll in degrees as 3DDFA_V2 does, for comparison with it only.

    Rows one and two of the camera are normalised, the third is their cross product; angles after
    Slabaugh, *Computing Euler angles from a rotation matrix*. Yaw has the opposite sign of
    :func:`yaw_pitch_roll_from_rotation`, and near +-90 degrees of yaw it snaps, as there.

    Parameters
    ----------
    camera : (3, 4), of the network's input, as regressed

    Returns
    -------
    (3,) float64; NaN where the camera has no direction
    """
    first, second = np.asarray(camera, np.float64)[:2, :3].tolist()
    lengths = [sqrt(sum(v * v for v in row)) for row in (first, second)]
    if not all(0 < length < float("inf") for length in lengths):
        return np.full(3, np.nan)
    a, b, c = (v / lengths[0] for v in first)
    d, e, f = (v / lengths[1] for v in second)
    g, h, i = b * f - c * e, c * d - a * f, a * e - b * d
    if g > _REFERENCE_GIMBAL:
        yaw, pitch, roll = pi / 2, atan2(-b, -c), 0.0
    elif g < -_REFERENCE_GIMBAL:
        yaw, pitch, roll = -pi / 2, atan2(b, c), 0.0
    else:
        yaw, pitch, roll = asin(g), atan2(h, i), atan2(d, a)
    return np.array([degrees(yaw), degrees(pitch), degrees(roll)])
