"""Smoothing of metric poses over time, on the stamps of their images.

One Euro filters (:mod:`tddfa_ros.core.one_euro`) of a head's position and rotation. A head moves as
one body, so one speed sets the cutoff of both: that of the origin and of a point on the head's
surface that turns with it, seen from one metre away, as the noise of a pose grows with distance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from tddfa_ros.core.one_euro import (
    LONGEST_GAP_S,
    NS_PER_S,
    SPEED_CUTOFF_HZ,
    low_pass_gain,
    step_s,
)
from tddfa_ros.core.types import MetricPose

HEAD_RADIUS_M = 0.1
# Sideways as the camera sees it, between two images. Farther away the name is the same but not the
# head: the tracker put exchanged names right. Depth says little, as it is noisy far away.
FARTHEST_STEP_M = 0.1


@dataclass(frozen=True)
class _State:
    """Of one face: the last raw pose, the filtered one, and the filtered motion.

    `velocity` is metres a second, `spin` radians a second about the optical axes.
    """

    stamp_ns: int
    raw: MetricPose
    filtered: MetricPose
    velocity: np.ndarray
    spin: np.ndarray


class MetricSmoother:
    """One Euro filters of poses by face, without delay.

    They begin anew after a gap, a leap back in time, and where a name goes over to another head.

    Parameters
    ----------
    min_cutoff_hz : cutoff of a head at rest, hertz
    beta : hertz of cutoff added per metre a second, seen from one metre away
    """

    def __init__(self, min_cutoff_hz: float, beta: float) -> None:
        self.min_cutoff_hz = min_cutoff_hz
        self.beta = beta
        self._states: dict[str, _State] = {}

    def smooth(self, face_id: str, stamp_ns: int, pose: MetricPose) -> MetricPose:
        """Pose of a face after smoothing; its covariance and residual are those of `pose`."""
        self._states = {
            known: state
            for known, state in self._states.items()
            if abs(stamp_ns - state.stamp_ns) <= LONGEST_GAP_S * NS_PER_S
        }
        old = self._states.get(face_id)
        if old is None or not _can_be_next_to(pose.position_m, old.raw.position_m):
            still = np.zeros(3)
            self._states[face_id] = _State(stamp_ns, pose, pose, still, still)
            return pose
        self._states[face_id] = self._advance(old, stamp_ns, pose)
        return self._states[face_id].filtered

    def reset(self) -> None:
        """Forget all faces."""
        self._states.clear()

    def _advance(self, old: _State, stamp_ns: int, pose: MetricPose) -> _State:
        dt = step_s(old.stamp_ns, stamp_ns)
        speed_gain = low_pass_gain(SPEED_CUTOFF_HZ, dt)
        moved = (pose.position_m - old.raw.position_m) / dt
        turned = _turn_between(old.raw.rotation, pose.rotation) / dt
        velocity = old.velocity + speed_gain * (moved - old.velocity)
        spin = old.spin + speed_gain * (turned - old.spin)
        distance = _distance_m(pose.position_m)
        speed = np.hypot(np.linalg.norm(velocity), HEAD_RADIUS_M * np.linalg.norm(spin)) / distance
        gain = low_pass_gain(self.min_cutoff_hz + self.beta * float(speed), dt)
        filtered = old.filtered
        turn = gain * _turn_between(filtered.rotation, pose.rotation)
        smoothed = replace(
            pose,
            rotation=cv2.Rodrigues(turn)[0] @ filtered.rotation,
            position_m=filtered.position_m + gain * (pose.position_m - filtered.position_m),
        )
        return _State(stamp_ns, pose, smoothed, velocity, spin)


def _can_be_next_to(position_m: np.ndarray, other_m: np.ndarray) -> bool:
    """Whether one and the same head can be in both places in two images on end."""
    distance, other = _distance_m(position_m), _distance_m(other_m)
    apart = float(np.linalg.norm(position_m / distance - other_m / other)) * max(distance, other)
    return apart <= FARTHEST_STEP_M


def _distance_m(position_m: np.ndarray) -> float:
    return max(float(np.linalg.norm(position_m)), HEAD_RADIUS_M)


def _turn_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(3,) rotation vector about fixed axes that takes one rotation to another."""
    return cv2.Rodrigues(end @ start.T)[0].ravel()
