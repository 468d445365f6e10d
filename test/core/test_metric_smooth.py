"""Smoothing of metric poses: heads at rest, moving, gone and back."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tddfa_ros.core.metric_smooth import MetricSmoother
from tddfa_ros.core.types import MetricPose

FRAME_NS = 33_333_333
FRONTAL = Rotation.from_quat([0.5, 0.5, -0.5, 0.5])


def pose_at(position_m, turn_rad=(0.0, 0.0, 0.0)):
    rotation = (Rotation.from_rotvec(turn_rad) * FRONTAL).as_matrix()
    return MetricPose(rotation, np.asarray(position_m, np.float64), np.eye(6), 0.5)


def turn_of(pose):
    return (Rotation.from_matrix(pose.rotation) * FRONTAL.inv()).as_rotvec()


@pytest.fixture
def smoother():
    return MetricSmoother(min_cutoff_hz=2.0, beta=20.0)


def test_the_first_pose_and_a_head_at_rest_stay_as_they_are(smoother):
    pose = pose_at([0.1, -0.2, 1.0], [0.1, 0.2, 0.3])
    assert smoother.smooth("f1", 0, pose) is pose
    for frame in range(1, 20):
        smoothed = smoother.smooth("f1", frame * FRAME_NS, pose)
        np.testing.assert_allclose(smoothed.position_m, pose.position_m, atol=1e-12)
        np.testing.assert_allclose(smoothed.rotation, pose.rotation, atol=1e-12)
    assert smoothed.covariance is pose.covariance


def test_noise_of_a_head_at_rest_is_halved_at_least(smoother):
    rng = np.random.default_rng(3)
    positions = rng.normal([0, 0, 1], [0.0003, 0.0003, 0.003], size=(300, 3))
    turns = rng.normal(scale=0.01, size=(300, 3))
    smoothed = [
        smoother.smooth("f1", i * FRAME_NS, pose_at(position, turn))
        for i, (position, turn) in enumerate(zip(positions, turns, strict=True))
    ]
    position_noise = np.std([pose.position_m for pose in smoothed[20:]], axis=0)
    assert (position_noise < 0.5 * positions[20:].std(axis=0)).all()
    assert (np.std([turn_of(p) for p in smoothed[20:]], axis=0) < 0.5 * turns[20:].std(0)).all()


def test_a_moving_head_lags_by_less_than_two_frames(smoother):
    velocity, spin = np.array([0.5, 0.0, 0.2]), np.array([0.0, 1.5, 0.0])
    for frame in range(40):
        seconds = frame * FRAME_NS / 1e9
        smoothed = smoother.smooth(
            "f1", frame * FRAME_NS, pose_at([0, 0, 1] + velocity * seconds, spin * seconds)
        )
    late_s = 2 * FRAME_NS / 1e9
    assert np.linalg.norm(smoothed.position_m - [0, 0, 1] - velocity * seconds) < (
        late_s * np.linalg.norm(velocity)
    )
    assert np.linalg.norm(turn_of(smoothed) - spin * seconds) < late_s * np.linalg.norm(spin)


def test_rotations_stay_rotations(smoother):
    for frame in range(200):
        smoothed = smoother.smooth("f1", frame * FRAME_NS, pose_at([0, 0, 1], [0, 0.1 * frame, 0]))
    np.testing.assert_allclose(smoothed.rotation @ smoothed.rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(smoothed.rotation) == pytest.approx(1)


@pytest.mark.parametrize("stamp_ns", [1_500_000_000, 0, -5_000_000_000])
def test_a_gap_or_a_step_back_in_time_begins_anew(smoother, stamp_ns):
    for frame in range(5):
        smoother.smooth("f1", 100_000_000 + frame * FRAME_NS, pose_at([0, 0, 1]))
    there = pose_at([0.3, 0, 2])
    assert smoother.smooth("f1", stamp_ns, there) is there


def test_faces_are_apart_and_forgotten_on_reset(smoother):
    smoother.smooth("f1", 0, pose_at([0, 0, 1]))
    other = pose_at([0.01, 0, 1])
    assert smoother.smooth("f2", FRAME_NS, other) is other
    assert smoother.smooth("f1", FRAME_NS, other).position_m[0] < 0.009
    smoother.reset()
    assert smoother.smooth("f1", 2 * FRAME_NS, other) is other
