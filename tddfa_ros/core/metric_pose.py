"""Where a head is, in metres: perspective pose of the fitted points under a calibrated camera.

The fit itself knows no distance, since its camera is weak-perspective. With a calibrated camera and
a head of known size, the pose is the one whose perspective, distorted picture of the fitted model's
own points comes closest to where the fit put them (PnP), found by Levenberg-Marquardt from the
weak-perspective pose. Its covariance is that of least squares: s^2 (J^T J)^-1 with s^2 the residual
variance, J the derivative of the picture by a shift and a small turn about the camera's axes. To
that comes what the residuals do not show: what is not known of the head's size, which moves the
head along its line of sight, and what the fit errs by in all its points alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tddfa_ros.core.calibration import Camera
from tddfa_ros.core.types import MetricPose

# Landmarks of the fit are hardly ever better than this, however well the model explains them.
LEAST_PIXEL_NOISE = 0.3
NEAREST_M = 0.02
FARTHEST_M = 100.0


@dataclass(frozen=True)
class FitError:
    """Standard deviations of what a fit errs by in all its points alike.

    Attributes
    ----------
    turn_rad : of a turn about each axis
    shift_m : of a shift along each axis
    scale : of the size in the image, as a share of it
    """

    turn_rad: float = 0.0
    shift_m: float = 0.0
    scale: float = 0.0


EXACT = FitError()


def solve_metric_pose(
    points_m: np.ndarray,
    pixels: np.ndarray,
    camera: Camera,
    rotation_guess: np.ndarray,
    *,
    size_uncertainty: float = 0.0,
    fit_error: FitError = EXACT,
) -> MetricPose | None:
    """Pose of known points from their picture.

    Parameters
    ----------
    points_m : (n, 3) points in their own frame, metres, n >= 6
    pixels : (n, 2) where they are seen
    camera : of the image
    rotation_guess : (3, 3) from the points' frame to the optical frame, as a weak-perspective
        camera on the line of sight sees it
    size_uncertainty : standard deviation of the true size of the head, as a share of it
    fit_error : what else is uncertain about the points' places in the image

    Returns
    -------
    The pose, or None if there is none in front of the camera between 2 cm and 100 m.
    """
    points = np.asarray(points_m, np.float64)
    # With the distortion taken out of the pixels, one pinhole serves all lens models.
    rays = camera.rays(pixels)
    if not np.isfinite(rays).all():
        return None
    focal_xy_px = camera.matrix[[0, 1], [0, 1]]
    pinhole = np.diag([*focal_xy_px, 1.0])
    targets = rays * focal_xy_px
    guess = _weak_perspective_guess(points, rays, rotation_guess)
    if guess is None:
        return None
    rotation_vector, position = cv2.solvePnPRefineLM(
        points, targets, pinhole, None, cv2.Rodrigues(guess[0])[0], guess[1].reshape(3, 1)
    )
    rotation, position = cv2.Rodrigues(rotation_vector)[0], position.ravel()
    turned = points @ rotation.T
    depths = turned[:, 2] + position[2]
    if not (
        np.isfinite(position).all() and (depths > NEAREST_M).all() and position[2] < FARTHEST_M
    ):
        return None
    picture, jacobian = cv2.projectPoints(points, rotation_vector, position, pinhole, None)
    residuals = picture.reshape(-1, 2) - targets
    by_shift = jacobian[:, 3:6].reshape(-1, 2, 3)
    by_turn = -by_shift @ _cross_matrices(turned)
    derivative = np.concatenate([by_shift, by_turn], axis=2).reshape(-1, 6)
    freedom = max(residuals.size - 6, 1)
    variance = max(float((residuals**2).sum()) / freedom, LEAST_PIXEL_NOISE**2)
    covariance = variance * np.linalg.inv(derivative.T @ derivative)
    along_sight = np.hypot(size_uncertainty, fit_error.scale) * position
    covariance[:3, :3] += np.outer(along_sight, along_sight) + fit_error.shift_m**2 * np.eye(3)
    covariance[3:, 3:] += fit_error.turn_rad**2 * np.eye(3)
    return MetricPose(rotation, position, covariance, float(np.sqrt((residuals**2).sum(1).mean())))


def rotation_to_sight(ray_xy: np.ndarray) -> np.ndarray:
    """(3, 3) shortest rotation that takes the optical axis to the ray (x, y, 1)."""
    sight = np.append(ray_xy, 1.0) / np.linalg.norm(np.append(ray_xy, 1.0))
    axis = np.array([-sight[1], sight[0], 0.0])
    sine = np.linalg.norm(axis)
    if sine < 1e-12:
        return np.eye(3)
    return cv2.Rodrigues(axis / sine * np.arctan2(sine, sight[2]))[0]


def _weak_perspective_guess(
    points: np.ndarray, rays: np.ndarray, rotation: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Rotation and position whose distance makes the spread of the picture right."""
    centre_ray = rays.mean(axis=0)
    turned = points @ rotation.T
    spread = np.sqrt(((rays - centre_ray) ** 2).sum())
    true_spread = np.sqrt(((turned - turned.mean(axis=0))[:, :2] ** 2).sum())
    if spread < 1e-9 or true_spread < 1e-9:
        return None
    # Seen off the axis, a head shows the side that faces the camera, not that along the axis.
    rotation = rotation_to_sight(centre_ray) @ rotation
    centre = np.append(centre_ray, 1.0) * (true_spread / spread)
    return rotation, centre - rotation @ points.mean(axis=0)


def _cross_matrices(vectors: np.ndarray) -> np.ndarray:
    """(n, 3, 3): [v]x of each of (n, 3) vectors, so that [v]x w = v x w."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return np.array(rows).transpose(2, 0, 1)
