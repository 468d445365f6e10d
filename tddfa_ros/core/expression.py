"""Expression measures from the landmarks."""

from __future__ import annotations

import numpy as np

# Upper and lower points that face each other, and the corners (iBUG order).
_LEFT_EYE = ((43, 44), (47, 46), (42, 45))
_RIGHT_EYE = ((37, 38), (41, 40), (36, 39))
_INNER_LIPS = ((61, 62, 63), (67, 66, 65), (60, 64))

_UPPER, _LOWER, _CORNERS = (
    [np.array(group[part]) for group in (_LEFT_EYE, _RIGHT_EYE, _INNER_LIPS)] for part in range(3)
)


def eye_mouth_openness(landmarks: np.ndarray) -> tuple[float, float, float]:
    """Measure the opening of the left eye, right eye and mouth, as shares of their widths.

    The mean distance between facing points of the lids (of the inner lips), divided by the
    distance of the corners (Soukupova and Cech, *Real-Time Eye Blink Detection using Facial
    Landmarks*, 2016), measured in space so that turning the head does not change it.

    Parameters
    ----------
    landmarks : (68, 3), iBUG order, equal units on all axes

    Returns
    -------
    left_eye, right_eye, mouth : the subject's; 0 closed; NaN if the width is 0 or any of these
        points not finite
    """
    points = np.asarray(landmarks, np.float64)
    left, right, mouth = (
        _openness(points, *part) for part in zip(_UPPER, _LOWER, _CORNERS, strict=True)
    )
    return left, right, mouth


def _openness(
    points: np.ndarray, upper: np.ndarray, lower: np.ndarray, corners: np.ndarray
) -> float:
    gap = points[upper] - points[lower]
    across = points[corners[0]] - points[corners[1]]
    width = float(np.sqrt(across @ across))
    opening = float(np.sqrt((gap * gap).sum(axis=1)).mean())
    if not (0 < width < float("inf")):
        return float("nan")
    ratio = opening / width
    return ratio if np.isfinite(ratio) else float("nan")
