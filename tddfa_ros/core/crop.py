"""Regions of interest around faces: where the regressor looks.

A region of interest (ROI) is ``xyxy`` in pixels of the image and may reach beyond it; what lies
outside is black. The formulas are those of 3DDFA_V2 (cleardusk/3DDFA_V2, ``utils/functions.py``).
"""

from __future__ import annotations

import numpy as np

from tddfa_ros.core.patch import crop_into

__all__ = ["crop_into", "roi_from_box", "roi_from_landmarks"]


def roi_from_box(
    box_xyxy: np.ndarray, *, scale: float, shift_down: float, whole_pixels: bool = False
) -> np.ndarray:
    """Square region around a detected face.

    With o the mean of the box's width and height, its side is ``int(scale * o)``, its centre that
    of the box moved down by ``shift_down * o``.

    Parameters
    ----------
    box_xyxy : (..., 4), pixels
    scale, shift_down, whole_pixels : of the regressor of the model set

    Returns
    -------
    (..., 4) float32, pixels; not finite where the box is not
    """
    box = np.asarray(box_xyxy)
    left, top, right, bottom = np.moveaxis(box, -1, 0)
    with np.errstate(invalid="ignore"):
        # In the box's own precision, then in double, as the original: the side is truncated.
        width, height, both = right - left, bottom - top, right - left + bottom - top
        mean_side = both.astype(np.float64) / 2
        side = np.trunc(mean_side * scale)
        x = right - width.astype(np.float64) / 2 - side / 2
        y = bottom - height.astype(np.float64) / 2 + mean_side * shift_down - side / 2
        roi = np.stack([x, y, x + side, y + side], axis=-1).astype(np.float32)
    return np.round(roi) if whole_pixels else roi


def roi_from_landmarks(
    landmarks: np.ndarray, *, scale: float, whole_pixels: bool = False
) -> np.ndarray:
    """Square region around the landmarks of a face.

    Its centre is that of the points' bounds, its side `scale` times the larger side of these.

    Parameters
    ----------
    landmarks : (..., k, 2 or more): x, y first, pixels
    scale, whole_pixels : of the regressor of the model set

    Returns
    -------
    (..., 4) float32, pixels; not finite where a landmark is not
    """
    points = np.asarray(landmarks, np.float64)[..., :2]
    low, high = points.min(axis=-2), points.max(axis=-2)
    centre = (low + high) / 2
    half = (high - low).max(axis=-1, keepdims=True) * (scale / 2)
    roi = np.concatenate([centre - half, centre + half], axis=-1).astype(np.float32)
    return np.round(roi) if whole_pixels else roi
