"""Values of images between their pixels."""

from __future__ import annotations

import numpy as np

from tddfa_native import _rasterize_cy as _cy


def sample_bilinear(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Sample an image between its pixels.

    Parameters
    ----------
    image : (height, width, k) uint8, C-contiguous
    points : (p, 2) float32, x and y; beyond the image its border counts, NaN takes pixel (0, 0)

    Returns
    -------
    (p, k) float32
    """
    check_bytes(image)
    points = np.ascontiguousarray(points, np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points: expected shape (p, 2), got {points.shape}")
    out = np.empty((len(points), image.shape[2]), np.float32)
    _cy.sample(image, points, out)
    return out


def check_bytes(image: np.ndarray, shape: tuple[int, int, int] | None = None) -> None:
    """Raise ValueError unless `image` is (h, w, k) uint8 (of `shape`), not empty, C-contiguous."""
    fits = image.ndim == 3 and image.size if shape is None else image.shape == shape
    if not fits or image.dtype != np.uint8:
        expected = "(h, w, k)" if shape is None else shape
        raise ValueError(f"image: expected {expected} uint8, got {image.shape} {image.dtype}")
    if not image.flags.c_contiguous:
        raise ValueError("image: must be C-contiguous; pass np.ascontiguousarray(image)")
