"""Metric pose on synthetic heads with known poses, exact points and noisy ones."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tddfa_ros.core.calibration import Camera
from tddfa_ros.core.metric_pose import LEAST_PIXEL_NOISE, FitError, solve_metric_pose

# Face frame (x out of the face, y to the subject's left, z up) of an upright face that looks into
# the camera, in the optical frame.
FRONTAL = Rotation.from_quat([0.5, 0.5, -0.5, 0.5])
PINHOLE = Camera(
    np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]), np.zeros(0), False, 480, 640
)
DISTORTED = Camera(
    np.array([[600.0, 0, 330], [0, 610, 230], [0, 0, 1]]),
    np.array([-0.3, 0.12, 1e-3, -2e-3, 0.02]),
    False,
    480,
    640,
)
FISHEYE = Camera(
    np.array([[300.0, 0, 320], [0, 300, 240], [0, 0, 1]]),
    np.array([0.05, -0.01, 0.003, -0.001]),
    True,
    480,
    640,
)


def head_points(rng, count=68):
    """Points on the front half of an ellipsoid of a head's size, metres, origin at the sellion."""
    directions = rng.normal(size=(count, 3))
    directions[:, 0] = np.abs(directions[:, 0])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions * [0.09, 0.072, 0.11] - [0.09, 0.0, 0.03]


def turned(yaw_deg, pitch_deg=0.0, roll_deg=0.0):
    about_optical_axes = Rotation.from_euler("YXZ", [yaw_deg, pitch_deg, roll_deg], degrees=True)
    return (about_optical_axes * FRONTAL).as_matrix()


def angle_deg(a, b):
    return np.degrees(Rotation.from_matrix(a.T @ b).magnitude())


def coarse_guess(rotation, position, rng):
    """What a weak-perspective fit gives: against the line of sight, and some degrees off."""
    sight = position / np.linalg.norm(position)
    axis = np.cross([0, 0, 1], sight)
    to_sight = Rotation.from_rotvec(axis / max(np.linalg.norm(axis), 1e-12) * np.arccos(sight[2]))
    off = Rotation.from_rotvec(rng.normal(scale=np.radians(4), size=3))
    return (off * to_sight.inv()).as_matrix() @ rotation


@pytest.mark.parametrize("camera", [PINHOLE, DISTORTED, FISHEYE], ids=["pinhole", "lens", "fish"])
@pytest.mark.parametrize("yaw_deg", [-60, -30, 0, 30, 60])
@pytest.mark.parametrize("distance_m", [0.4, 1.0, 3.0])
def test_exact_points_give_the_exact_pose(camera, yaw_deg, distance_m):
    rng = np.random.default_rng(0)
    points = head_points(rng)
    rotation = turned(yaw_deg, 10, -5)
    position = distance_m * np.array([0.2, -0.1, 1.0])
    pixels = camera.project(points @ rotation.T + position)
    pose = solve_metric_pose(points, pixels, camera, coarse_guess(rotation, position, rng))
    assert angle_deg(pose.rotation, rotation) < 0.01
    np.testing.assert_allclose(pose.position_m, position, atol=1e-4 * distance_m)
    assert pose.residual_px < 0.01


def test_covariance_covers_what_a_fit_errs_by_in_all_points_alike():
    """Points that lie as those of a turned, shifted and larger head have no residual."""
    rng = np.random.default_rng(5)
    points = head_points(rng)
    rotation, position = turned(25, -10, 5), np.array([0.15, 0.1, 1.0])
    known = FitError(turn_rad=np.radians(5), shift_m=0.004, scale=0.03)
    squared = []
    for _ in range(300):
        turn = Rotation.from_rotvec(rng.normal(scale=known.turn_rad, size=3)).as_matrix()
        fitted = (points @ rotation.T) @ turn.T * np.exp(rng.normal(scale=known.scale))
        seen = PINHOLE.project(fitted + position + rng.normal(scale=known.shift_m, size=3))
        guess = coarse_guess(rotation, position, rng)
        pose = solve_metric_pose(points, seen, PINHOLE, guess, fit_error=known)
        turn = Rotation.from_matrix(pose.rotation @ rotation.T).as_rotvec()
        error = np.concatenate([pose.position_m - position, turn])
        squared.append(error @ np.linalg.solve(pose.covariance, error))
    assert 5.0 < np.mean(squared) < 7.5


@pytest.mark.parametrize("distance_m", [0.4, 1.0, 2.0])
def test_covariance_covers_the_error(distance_m):
    """Squared errors in units of the covariance average to the degrees of freedom."""
    rng = np.random.default_rng(1)
    points = head_points(rng)
    rotation, position = turned(25, -10, 5), distance_m * np.array([0.15, 0.1, 1.0])
    exact = DISTORTED.project(points @ rotation.T + position)
    squared = []
    for _ in range(300):
        pixels = exact + rng.normal(scale=0.8, size=exact.shape)
        pose = solve_metric_pose(points, pixels, DISTORTED, coarse_guess(rotation, position, rng))
        turn = Rotation.from_matrix(pose.rotation @ rotation.T).as_rotvec()
        error = np.concatenate([pose.position_m - position, turn])
        squared.append(error @ np.linalg.solve(pose.covariance, error))
    # Chi-square of 6 degrees of freedom: mean 6, and 95 % below 12.6. The estimate of the variance
    # adds a little; 300 samples scatter by 0.2 and by 1.3 %.
    assert 5.0 < np.mean(squared) < 7.5
    assert np.mean(np.array(squared) < 12.59) > 0.90


def test_no_fit_is_taken_to_be_surer_than_landmarks_ever_are():
    """Exact points have the covariance of noise of LEAST_PIXEL_NOISE, noisy ones that of theirs."""
    rng = np.random.default_rng(7)
    points = head_points(rng)
    rotation, position = turned(20, -5), np.array([0.1, 0.05, 0.7])
    exact = PINHOLE.project(points @ rotation.T + position)
    noisy = exact + rng.normal(scale=2.0, size=exact.shape)
    of_exact, of_noisy = (
        solve_metric_pose(points, pixels, PINHOLE, rotation) for pixels in (exact, noisy)
    )
    variance = of_noisy.residual_px**2 * len(points) / (2 * len(points) - 6)
    assert variance == pytest.approx(4.0, rel=0.25)
    np.testing.assert_allclose(
        np.sqrt(np.diag(of_exact.covariance)) / LEAST_PIXEL_NOISE,
        np.sqrt(np.diag(of_noisy.covariance) / variance),
        rtol=0.05,
    )


def test_unknown_size_shows_along_the_line_of_sight():
    rng = np.random.default_rng(2)
    points = head_points(rng)
    rotation, position = turned(0), np.array([0.0, 0.0, 1.0])
    pixels = PINHOLE.project(points @ rotation.T + position)
    pose = solve_metric_pose(points, pixels, PINHOLE, rotation, size_uncertainty=0.05)
    assert np.sqrt(pose.covariance[2, 2]) == pytest.approx(0.05, rel=0.1)
    assert np.sqrt(pose.covariance[0, 0]) < 0.01


def test_a_residual_is_in_pixels_of_the_image_across_and_down():
    """Of pixels that are not square: those of half a field, as interlaced cameras give them."""
    rng = np.random.default_rng(6)
    points = head_points(rng)
    rotation, position = turned(15), np.array([0.05, 0.0, 0.8])
    noise_px = rng.normal(scale=1.0, size=(68, 2))
    for down in (0.25, 1.0, 4.0):
        camera = Camera(np.diag([1, down, 1]) @ PINHOLE.matrix, np.zeros(0), False, 480, 640)
        pixels = camera.project(points @ rotation.T + position) + noise_px
        pose = solve_metric_pose(points, pixels, camera, rotation)
        # 136 numbers, of which six parameters explain their share.
        assert pose.residual_px == pytest.approx(np.sqrt(2), rel=0.1)


def test_a_head_of_another_size_is_farther_in_proportion():
    rng = np.random.default_rng(3)
    points = head_points(rng)
    rotation, position = turned(10), np.array([0.1, 0.0, 1.0])
    pixels = PINHOLE.project(points @ rotation.T + position)
    pose = solve_metric_pose(points * 1.1, pixels, PINHOLE, rotation)
    np.testing.assert_allclose(pose.position_m, position * 1.1, atol=1e-3)


def test_no_pose_rather_than_a_wrong_one():
    points = head_points(np.random.default_rng(4))
    one_pixel = np.full((68, 2), 100.0)
    assert solve_metric_pose(points, one_pixel, PINHOLE, turned(0)) is None
    not_finite = np.full((68, 2), np.nan)
    assert solve_metric_pose(points, not_finite, PINHOLE, turned(0)) is None


@pytest.mark.parametrize("distance_m", [0.01, 150.0])
def test_no_head_is_in_the_lens_or_beyond_what_a_camera_sees(distance_m):
    points = head_points(np.random.default_rng(4))
    rotation, position = turned(0), np.array([0.0, 0.0, distance_m])
    pixels = PINHOLE.project(points @ rotation.T + position)
    assert solve_metric_pose(points, pixels, PINHOLE, rotation) is None
