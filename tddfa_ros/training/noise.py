"""Smooth random fields, the raw material of skins, hair, cloth and backgrounds."""

from __future__ import annotations

import cv2
import numpy as np


def fractal(
    rng: np.random.Generator,
    height: int,
    width: int,
    cells: tuple[int, ...],
    *,
    fall: float = 0.6,
    channels: int = 1,
) -> np.ndarray:
    """(height, width, channels) float32 of zero mean and about unit deviation.

    Parameters
    ----------
    cells : number of random values along a side, one layer each
    fall : each layer's amplitude as a share of the one before
    """
    total = np.zeros((height, width, channels), np.float32)
    amplitude, power = 1.0, 0.0
    for count in cells:
        layer = rng.standard_normal((count, count, channels), np.float32)
        layer = cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC)
        total += amplitude * layer.reshape(height, width, channels)
        power += amplitude**2
        amplitude *= fall
    return total / np.float32(np.sqrt(power))


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth in between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
