"""Lights rendered layers: key light with its cast shadow, fill, sky and highlights."""

from __future__ import annotations

import cv2
import numpy as np

from tddfa_ros.training.sight import CANVAS, Layers


def light(rng: np.random.Generator, layers: Layers) -> np.ndarray:
    """(CANVAS, CANVAS, 4) uint8: BGR display values times cover, and the cover.

    Shading is done in linear light (display value squared). The key light stays near the
    direction for which the layers hold a shadow; a third of the pictures have soft light without
    any.
    """
    # Each quantity is a row: on rows of pixels NumPy is several times faster than on their triples.
    cover, *rest = _rows(layers.surface)
    inverse = 1 / cover
    openness, shadow, gloss = (row * inverse for row in rest)
    albedo = np.square(_rows(layers.albedo) * inverse)
    normal = _rows(layers.normal) * (2 * inverse) - 1
    normal /= np.sqrt(np.einsum("kn,kn->n", normal, normal) + 1e-4)

    hard = rng.random() < 0.66
    key = layers.key_direction + rng.normal(0, 0.04 if hard else 0.5, 3)
    key /= np.linalg.norm(key)
    fill, sky = _direction(rng, (1, 0.7, 0.6)), _direction(rng, (0.4, 0.3, 0.4), (0, 1, 0))
    half = key + np.array([0, 0, 1])
    half /= np.linalg.norm(half) + 1e-6
    on_key, on_fill, on_sky, on_half = np.stack([key, fill, sky, half]).astype(np.float32) @ normal

    white = np.exp(rng.normal(0, 0.12, 3))
    key_colour = rng.uniform(0.2, 1.5) * white * np.exp(rng.normal(0, 0.06, 3))
    fill_colour = rng.uniform(0, 0.6) * np.exp(rng.normal(0, 0.2, 3)) * (rng.random() < 0.6)
    sky_colour = rng.uniform(0.08, 0.7) * white * np.exp(rng.normal(0, 0.1, 3))
    depth = rng.uniform(0.4, 1.0) if hard else 0.0
    reached = 1 - depth * (1 - shadow)
    wrap = rng.uniform(0, 0.35)
    direct = np.maximum((on_key + wrap) / (1 + wrap), 0) * reached * (0.4 + 0.6 * openness)
    around = (1 + rng.uniform(0, 0.7) * on_sky) * openness
    from_fill = np.maximum(on_fill, 0) * openness
    colours = np.stack([key_colour, fill_colour, sky_colour], axis=1).astype(np.float32)
    linear = albedo * (colours @ np.stack([direct, from_fill, around]))
    if rng.random() < 0.8:
        power = rng.uniform(8, 60)
        shine = np.maximum(on_half, 0) ** power * (on_key > 0) * reached * gloss
        amount = rng.uniform(0, 0.9)
        linear += key_colour.astype(np.float32)[:, None] * (shine * amount)
    middle = float(linear.mean()) + 0.01
    exposure = rng.uniform(0.7, 1.4)
    if rng.random() < 0.8:
        exposure = np.exp(rng.normal(np.log(0.24), 0.45)) / middle
    display = np.sqrt(np.clip(linear * np.float32(exposure), 0, 1))
    picture = np.zeros((CANVAS * CANVAS, 4), np.uint8)
    picture[layers.pixel] = np.vstack([display * cover, cover]).astype(np.uint8).T
    return picture.reshape(CANVAS, CANVAS, 4)


def with_body(lit: np.ndarray) -> np.ndarray:
    """(3 CANVAS, CANVAS, 4): a lit picture whose lowest row goes on below it, as a body does."""
    return cv2.copyMakeBorder(lit, 0, 2 * CANVAS, 0, 0, cv2.BORDER_REPLICATE)


def _rows(values: np.ndarray) -> np.ndarray:
    """(n, k) bytes -> (k, n) float32, a row after the other in memory."""
    return np.ascontiguousarray(values.T, np.float32)


def _direction(
    rng: np.random.Generator, spread: tuple[float, ...], middle: tuple[float, ...] = (0, 0, 0.3)
) -> np.ndarray:
    direction = rng.normal(middle, spread)
    return direction / (np.linalg.norm(direction) + 1e-6)
