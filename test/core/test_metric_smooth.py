"""Smoothing of metric poses: heads at rest, moving, gone and back."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tddfa_ros.core.metric_smooth import HEAD_RADIUS_M, MetricSmoother
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


def test_a_head_far_behind_which_the_filters_lag_is_still_the_same_head():
    """What counts is how far it went from one image to the next, not from where it is shown."""
    smoother = MetricSmoother(min_cutoff_hz=0.1, beta=0.0)
    for frame in range(30):
        x_m = 0.03 * frame
        shown_m = smoother.smooth("f1", frame * FRAME_NS, pose_at([x_m, 0, 1])).position_m[0]
    assert shown_m < x_m - 0.3


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


@pytest.mark.parametrize("distance_m", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("spin_rad_s", [0.5, 2.0])
def test_a_head_that_turns_on_the_spot_lags_as_its_surface_moves(smoother, distance_m, spin_rad_s):
    """A low-pass filter lags behind steady motion by one over its cutoff's angular frequency."""
    for frame in range(40):
        angle = spin_rad_s * frame * FRAME_NS / 1e9
        pose = pose_at([0, 0, distance_m], [0, angle, 0])
        smoothed = smoother.smooth("f1", frame * FRAME_NS, pose)
    lag_s = (angle - np.linalg.norm(turn_of(smoothed))) / spin_rad_s
    cutoff_hz = 2.0 + 20.0 * HEAD_RADIUS_M * spin_rad_s / distance_m
    assert lag_s == pytest.approx(1 / (2 * np.pi * cutoff_hz), rel=0.01)


def test_rotations_stay_rotations(smoother):
    for frame in range(200):
        smoothed = smoother.smooth("f1", frame * FRAME_NS, pose_at([0, 0, 1], [0, 0.1 * frame, 0]))
    np.testing.assert_allclose(smoothed.rotation @ smoothed.rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(smoothed.rotation) == pytest.approx(1)


@pytest.mark.parametrize("stamp_ns", [1_500_000_000, -1_000_000_000, -5_000_000_000])
def test_a_gap_or_a_leap_back_in_time_begins_anew(smoother, stamp_ns):
    for frame in range(5):
        smoother.smooth("f1", 100_000_000 + frame * FRAME_NS, pose_at([0, 0, 1]))
    there = pose_at([0.05, 0, 1])
    assert smoother.smooth("f1", stamp_ns, there) is there


@pytest.mark.parametrize("late", [1, 2])
def test_images_of_equal_stamps_or_late_ones_are_smoothed_too(smoother, late):
    """The stamp of every second image lies so many frames back."""
    depths = np.random.default_rng(3).normal(1, 0.003, 300)
    smoothed = [
        smoother.smooth("f1", (i - late * (i % 2)) * FRAME_NS, pose_at([0, 0, depth])).position_m[2]
        for i, depth in enumerate(depths)
    ]
    assert np.std(smoothed[20:]) < 0.75 * np.std(depths[20:])


def test_an_image_of_the_same_stamp_leaves_the_head_about_where_it_was(smoother):
    for frame in range(5):
        smoother.smooth("f1", frame * FRAME_NS, pose_at([0, 0, 1]))
    again = smoother.smooth("f1", 4 * FRAME_NS, pose_at([0.01, 0, 1]))
    assert 0 < again.position_m[0] < 0.001
    # Where all stamps are the same, it is followed all the same.
    for _ in range(300):
        again = smoother.smooth("f1", 4 * FRAME_NS, pose_at([0.01, 0, 1]))
    assert again.position_m[0] == pytest.approx(0.01, abs=1e-3)


@pytest.mark.parametrize(("depth_m", "gap_m"), [(0.5, 0.2), (1.5, 0.6), (5.0, 0.5)])
def test_heads_that_exchange_their_names_do_not_mix(smoother, depth_m, gap_m):
    """As :mod:`tddfa_ros.core.smooth` has it of faces in the image."""
    here, there = pose_at([0, 0, depth_m]), pose_at([gap_m, 0, depth_m])
    for frame in range(10):
        names = ("f1", "f2") if frame < 5 else ("f2", "f1")
        for name, pose in zip(names, (here, there), strict=True):
            np.testing.assert_array_equal(
                smoother.smooth(name, frame * FRAME_NS, pose).position_m, pose.position_m
            )


def test_a_head_that_nears_fast_is_no_other_one(smoother):
    smoother.smooth("f1", 0, pose_at([0.4, 0.2, 2.2]))
    near = pose_at([0.4, 0.2, 2.0])
    assert smoother.smooth("f1", FRAME_NS, near) is not near


def test_faces_are_apart_and_forgotten_on_reset(smoother):
    smoother.smooth("f1", 0, pose_at([0, 0, 1]))
    other = pose_at([0.01, 0, 1])
    assert smoother.smooth("f2", FRAME_NS, other) is other
    assert smoother.smooth("f1", FRAME_NS, other).position_m[0] < 0.009
    smoother.reset()
    assert smoother.smooth("f1", 2 * FRAME_NS, other) is other
