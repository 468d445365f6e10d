"""Rotations as matrices and as quaternions."""

from __future__ import annotations

from math import sqrt

import numpy as np


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """Find the rotation nearest to a 3x3 matrix in the Frobenius norm (Kabsch 1976)."""
    left, _, right = np.linalg.svd(matrix)
    rotation = left @ right
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    if a * (e * i - f * h) + b * (f * g - d * i) + c * (d * h - e * g) < 0:
        left[:, 2] *= -1
        rotation = left @ right
    return rotation


def quat_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Convert a (3, 3) rotation to a unit quaternion, (4,) float64, x y z w, with w >= 0.

    Divided by is w where the trace is positive, else what the greatest diagonal entry gives (after
    Shepperd 1978): never a small number, so it is exact near half turns too. The sign is fixed by
    w >= 0; where w passes through 0 all four flip.
    """
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    if a + e + i > 0:
        s = 2 * sqrt(1 + a + e + i)
        quat = np.array([(h - f) / s, (c - g) / s, (d - b) / s, s / 4])
    elif a >= e and a >= i:
        s = 2 * sqrt(max(0.0, 1 + a - e - i))
        quat = np.array([s / 4, (b + d) / s, (c + g) / s, (h - f) / s])
    elif e >= i:
        s = 2 * sqrt(max(0.0, 1 + e - a - i))
        quat = np.array([(b + d) / s, s / 4, (f + h) / s, (c - g) / s])
    else:
        s = 2 * sqrt(max(0.0, 1 + i - a - e))
        quat = np.array([(c + g) / s, (f + h) / s, s / 4, (d - b) / s])
    quat /= sqrt(quat @ quat)
    return -quat if quat[3] < 0 else quat


def rotation_from_quat(quat_xyzw: np.ndarray) -> np.ndarray:
    """Convert a quaternion x y z w of any length to a (3, 3) rotation; NaN if it is 0."""
    x, y, z, w = (float(part) for part in quat_xyzw)
    square = x * x + y * y + z * z + w * w
    k = 2 / square if square else np.nan
    return np.array(
        [
            [1 - k * (y * y + z * z), k * (x * y - z * w), k * (x * z + y * w)],
            [k * (x * y + z * w), 1 - k * (x * x + z * z), k * (y * z - x * w)],
            [k * (x * z - y * w), k * (y * z + x * w), 1 - k * (x * x + y * y)],
        ]
    )
