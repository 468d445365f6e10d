"""A calibrated camera: pinhole with the distortion models of sensor_msgs/CameraInfo."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from tddfa_ros.core.errors import ConfigError

PINHOLE_MODELS = ("", "none", "plumb_bob", "rational_polynomial", "thin_prism", "pinhole")
FISHEYE_MODELS = ("equidistant", "fisheye")
DISTORTION_MODELS = (*PINHOLE_MODELS, *FISHEYE_MODELS)
ASSUMED_FIELD_OF_VIEW_DEG = 60.0
PINHOLE_COEFFICIENTS = (0, 4, 5, 8, 12, 14)
SHAPE_TOLERANCE = 0.02
"""How much wider or narrower an image may be than its calibration; codecs pad to whole blocks."""
FOCAL_SIDES = (0.01, 1000)
"""Focal lengths that lenses have, in sides of the image: of one that sees 178 degrees without
distortion, and of a telescope that sees a sixteenth of a degree."""

_RAY_ERROR_PX = 0.5


@dataclass(frozen=True)
class Camera:
    """Where a point in the camera's optical frame appears in the image.

    Attributes
    ----------
    matrix : (3, 3) float64, pixels: [[fx, s, cx], [0, fy, cy], [0, 0, 1]]
    distortion : (k,) float64, in OpenCV's order for the model; empty for none
    fisheye : whether `distortion` is that of the equidistant model (k = 4)
    height, width : size of the image that the matrix is for, pixels
    """

    matrix: np.ndarray
    distortion: np.ndarray
    fisheye: bool
    height: int
    width: int

    def scaled_to(self, height: int, width: int) -> Camera:
        """Return this camera for a resized image; pixel centres are at integers."""
        if (height, width) == (self.height, self.width):
            return self
        factor_x, factor_y = width / self.width, height / self.height
        scale = np.diag([factor_x, factor_y, 1.0])
        # The outer edge of the image, half a pixel beyond the first centre, stays where it is.
        scale[0, 2], scale[1, 2] = (factor_x - 1) / 2, (factor_y - 1) / 2
        return replace(self, matrix=scale @ self.matrix, height=height, width=width)

    def project(self, points_m: np.ndarray) -> np.ndarray:
        """(n, 2) float64 pixels of (n, 3) points in the optical frame, z > 0."""
        points = np.ascontiguousarray(points_m, np.float64).reshape(-1, 1, 3)
        zero = np.zeros(3)
        if self.fisheye:
            pixels, _ = cv2.fisheye.projectPoints(points, zero, zero, self.matrix, self.distortion)
        else:
            pixels, _ = cv2.projectPoints(points, zero, zero, self.matrix, self.distortion)
        return pixels.reshape(-1, 2)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 2) float64: x/z and y/z of the rays through (n, 2) pixels; inverse of `project`.

        NaN where the lens model has no such ray: beyond the angle at which it folds, or 90 degrees.
        """
        points = np.ascontiguousarray(pixels, np.float64).reshape(-1, 1, 2)
        if self.fisheye:
            rays = cv2.fisheye.undistortPoints(points, self.matrix, self.distortion)
        else:
            until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-9)
            rays = cv2.undistortPointsIter(
                points, self.matrix, self.distortion, np.eye(3), np.eye(3), until
            )
        rays = rays.reshape(-1, 2)
        if self.distortion.size:
            # There OpenCV answers with another ray: the undistorted one, or its opposite.
            missed = self.project(np.column_stack([rays, np.ones(len(rays))])) - pixels
            rays[~(np.abs(missed) < _RAY_ERROR_PX).all(axis=1)] = np.nan
        return rays


def assumed_camera(height: int, width: int) -> Camera:
    """Camera to show faces with where none is calibrated: sees 60 degrees across, no distortion."""
    focal_px = width / 2 / np.tan(np.radians(ASSUMED_FIELD_OF_VIEW_DEG / 2))
    centre = (width - 1) / 2, (height - 1) / 2
    matrix = np.array([[focal_px, 0, centre[0]], [0, focal_px, centre[1]], [0, 0, 1]])
    return Camera(matrix, np.zeros(0), fisheye=False, height=height, width=width)


def camera_from_calibration(
    *,
    matrix: np.ndarray,
    distortion: np.ndarray,
    distortion_model: str,
    projection: np.ndarray,
    height: int,
    width: int,
    rectified: bool,
    image_height: int,
    image_width: int,
    roi_xywh: tuple[int, int, int, int] = (0, 0, 0, 0),
    binning_xy: tuple[int, int] = (1, 1),
) -> Camera | None:
    """Camera of an image from the fields of a sensor_msgs/CameraInfo.

    Parameters
    ----------
    matrix : (3, 3), K: of the raw image
    distortion : (k,), D
    distortion_model : one of :data:`DISTORTION_MODELS`; empty for none
    projection : (3, 4), P: of the rectified image
    height, width : size at calibration, pixels; 0 means that of the image
    rectified : whether the image is rectified: P holds then, without distortion
    image_height, image_width : size of the image, pixels; the matrix is scaled to it
    roi_xywh : part of the calibrated size that the image shows; width or height 0 means all of it
    binning_xy : pixels of the sensor that make one of the image; only their ratio counts

    Returns
    -------
    The camera, or None if it is not calibrated (K[0] == 0, or P[0] == 0 for a rectified image).

    Raises
    ------
    ConfigError
        Values that are not finite, focal lengths of no lens, an unknown distortion model, a wrong
        number of coefficients, a part that reaches beyond the calibrated size, or an image of
        another shape than the part.
    """
    matrix = np.asarray(matrix, np.float64).reshape(3, 3)
    projection = np.asarray(projection, np.float64).reshape(3, 4)
    distortion = np.asarray(distortion, np.float64).ravel()
    used = projection[:, :3] if rectified else matrix
    if used[0, 0] == 0.0:
        return None
    if not (np.isfinite(used).all() and np.isfinite(distortion).all()):
        raise ConfigError(f"camera calibration is not finite: matrix {used.tolist()}")
    side = max(height, width) or max(image_height, image_width)
    focal_x, focal_y = used[0, 0], used[1, 1]
    least, most = (sides * side for sides in FOCAL_SIDES)
    if not (least < focal_x < most and least < focal_y < most):
        raise ConfigError(
            f"camera calibration has focal lengths {focal_x:g}, {focal_y:g}, in pixels, which no "
            f"lens of an image {side} pixels long has"
        )
    fisheye = distortion_model in FISHEYE_MODELS and not rectified
    if rectified:
        distortion = np.zeros(0)
    elif fisheye:
        if len(distortion) != 4:
            raise ConfigError(
                f"camera calibration: {distortion_model} has {len(distortion)} coefficients, not 4"
            )
    elif distortion_model not in PINHOLE_MODELS:
        known = ", ".join(name for name in DISTORTION_MODELS if name)
        raise ConfigError(
            f"camera calibration: unknown distortion model {distortion_model!r}; known: {known}"
        )
    elif len(distortion) not in PINHOLE_COEFFICIENTS:
        raise ConfigError(
            f"camera calibration: {len(distortion)} distortion coefficients; "
            f"expected one of {PINHOLE_COEFFICIENTS}"
        )
    camera = Camera(
        matrix=used.copy(),
        distortion=distortion,
        fisheye=fisheye,
        height=height or image_height,
        width=width or image_width,
    )
    camera = _cut_out(camera, roi_xywh)
    _require_same_shape(
        camera, image_height * max(binning_xy[1], 1), image_width * max(binning_xy[0], 1)
    )
    return camera.scaled_to(image_height, image_width)


def _cut_out(camera: Camera, roi_xywh: tuple[int, int, int, int]) -> Camera:
    x, y, width, height = (int(value) for value in roi_xywh)
    if not (width and height):
        return camera
    if x + width > camera.width or y + height > camera.height:
        raise ConfigError(
            f"camera calibration: the region of interest of {width}x{height} at ({x}, {y}) reaches "
            f"beyond {camera.width}x{camera.height}"
        )
    matrix = camera.matrix.copy()
    matrix[:2, 2] -= (x, y)
    return replace(camera, matrix=matrix, height=height, width=width)


def _require_same_shape(camera: Camera, height: int, width: int) -> None:
    """Refuse an image that cannot be the calibrated one resized: it is cut, or of another mode."""
    stretch = width * camera.height / (height * camera.width)
    # Each size may be off by a pixel, as resizing and binning round.
    rounding = sum(1 / size for size in (height, width, camera.height, camera.width))
    if max(stretch, 1 / stretch) > 1 + max(SHAPE_TOLERANCE, rounding):
        raise ConfigError(
            f"camera calibration of {camera.width}x{camera.height} has not the shape of an image "
            f"of {width}x{height}: set roi to the part that the image shows, or calibrate anew at "
            "the image's size"
        )
