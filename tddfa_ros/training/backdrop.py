"""Procedural backgrounds: no photo of anything is in them."""

from __future__ import annotations

import cv2
import numpy as np

from tddfa_ros.training.noise import fractal


def draw(rng: np.random.Generator, height: int, width: int, *, clutter: int = 7) -> np.ndarray:
    """(height, width, 3) uint8: clouds of all spectra, gradients, rooms, patterns, shapes, text.

    Parameters
    ----------
    clutter : most shapes laid over the ground
    """
    kind = rng.random()
    if kind < 0.45:
        picture = _clouds(rng, height, width)
    elif kind < 0.6:
        picture = _gradient(rng, height, width)
    elif kind < 0.75:
        picture = _room(rng, height, width)
    elif kind < 0.9:
        picture = _pattern(rng, height, width)
    else:
        picture = np.full((height, width, 3), rng.uniform(0, 255, 3), np.float32)
    picture = np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8))
    for _ in range(rng.integers(0, clutter + 1)):
        _shape(rng, picture)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 6))
    return picture


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    cells = (2, 4, 8, 16, 32, 64)
    clouds = fractal(rng, height, width, cells, fall=rng.uniform(0.4, 0.95), channels=3)
    if rng.random() < 0.4:
        clouds = clouds.mean(axis=2, keepdims=True) * rng.uniform(0.6, 1.6, 3)
    return clouds * rng.uniform(5, 60) + rng.uniform(10, 245, 3)


def _gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width] / max(height, width)
    turn = rng.uniform(0, 2 * np.pi)
    ramp = (np.cos(turn) * x + np.sin(turn) * y)[..., None]
    return ramp * rng.uniform(-150, 150, 3) + rng.uniform(40, 210, 3)


def _room(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Walls, shelves and windows: upright boxes with a lighter or darker edge."""
    picture = np.full((height, width, 3), rng.uniform(40, 235, 3), np.float32)
    for _ in range(rng.integers(3, 16)):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = int(rng.integers(4, width // 2)), int(rng.integers(4, height))
        colour = rng.uniform(0, 255, 3)
        cv2.rectangle(picture, (x, y), (x + w, y + h), tuple(colour), -1)
        edge = tuple(np.clip(colour + rng.normal(0, 60), 0, 255))
        cv2.rectangle(picture, (x, y), (x + w, y + h), edge, int(rng.integers(1, 5)))
    return picture + fractal(rng, height, width, (2, 4)) * rng.uniform(0, 25)


def _pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Foliage, masonry, fabric: two colours mixed by thresholded noise or waves."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    if rng.random() < 0.6:
        count = int(rng.integers(6, 50))
        field = fractal(rng, height, width, (count, 2 * count), fall=rng.uniform(0.3, 0.9))[..., 0]
        field = np.tanh(field * rng.uniform(0.5, 5))
    else:
        turn, step = rng.uniform(0, np.pi), rng.uniform(0.1, 1.2)
        field = np.sin((np.cos(turn) * x + np.sin(turn) * y) * step)
        if rng.random() < 0.5:
            field *= np.sin((np.sin(turn) * x - np.cos(turn) * y) * step * rng.uniform(0.5, 2))
    mix = (field[..., None] + 1) / 2
    shade = 1 + 0.2 * fractal(rng, height, width, (3, 6))
    first, second = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    return (first * mix + second * (1 - mix)) * shade


def _shape(rng: np.random.Generator, picture: np.ndarray) -> None:
    height, width = picture.shape[:2]
    size = max(height, width)
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    at = (int(rng.integers(0, width)), int(rng.integers(0, height)))
    fill = -1 if rng.random() < 0.7 else int(rng.integers(1, 6))
    reach = rng.integers(size // 40 + 2, size // 2, 2)
    kind = rng.random()
    if kind < 0.35:
        corner = (at[0] + int(reach[0]), at[1] + int(reach[1]))
        cv2.rectangle(picture, at, corner, colour, fill)
    elif kind < 0.65:
        axes = (int(reach[0]) // 2 + 1, int(reach[1]) // 2 + 1)
        turn = float(rng.uniform(0, 180))
        cv2.ellipse(picture, at, axes, turn, 0, 360, colour, fill, cv2.LINE_AA)
        if rng.random() < 0.3:  # a ball: shaded round things are not faces
            light = tuple(int(min(255, c * 1.5 + 30)) for c in colour)
            spot = (at[0] - axes[0] // 3, at[1] - axes[1] // 3)
            inner = (max(1, axes[0] // 3), max(1, axes[1] // 3))
            cv2.ellipse(picture, spot, inner, turn, 0, 360, light, -1, cv2.LINE_AA)
    elif kind < 0.85:
        end = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.line(picture, at, end, colour, int(rng.integers(1, 12)), cv2.LINE_AA)
    else:
        letters = "".join(chr(c) for c in rng.integers(33, 123, rng.integers(2, 12)))
        scale = float(rng.uniform(0.3, 2.0))
        cv2.putText(picture, letters, at, 0, scale, colour, int(rng.integers(1, 4)), cv2.LINE_AA)
