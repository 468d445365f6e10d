"""What cameras, codecs and people do to pictures."""

from __future__ import annotations

import cv2
import numpy as np


def degrade(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Low resolution, blur, exposure, contrast, colour, noise and JPEG, each at random.

    Parameters
    ----------
    picture : (h, w, 3) float32 BGR, 0 to 255

    Returns
    -------
    (h, w, 3) uint8
    """
    height, width = picture.shape[:2]
    if rng.random() < 0.4:
        factor = rng.uniform(0.25, 0.9)
        # Of a size, not by a factor, whose rounded size would be stretched on the way back.
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        way = cv2.INTER_LINEAR if rng.random() < 0.6 else cv2.INTER_CUBIC
        picture = cv2.resize(small, (width, height), interpolation=way)
    elif rng.random() < 0.25:  # sharpened in the camera, or shrunk without a filter
        soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 1.2))
        picture = picture + (picture - soft) * np.float32(rng.uniform(0.3, 1.8))
    if rng.random() < 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 2.2))
    if rng.random() < 0.07:
        picture = cv2.filter2D(picture, -1, _motion_kernel(rng))
    gain = np.exp(rng.normal(0, 0.18)) * np.exp(rng.normal(0, 0.07, 3))
    picture = picture * gain.astype(np.float32)
    mean = float(picture.mean())
    contrast = np.float32(np.exp(rng.normal(0, 0.22)))
    picture = (picture - mean) * contrast + np.float32(mean + rng.normal(0, 10))
    kind = rng.random()
    if kind < 0.12:
        grey = picture @ np.array([0.114, 0.587, 0.299], np.float32)
        picture = np.repeat(grey[..., None], 3, axis=2)
    elif kind < 0.5:
        grey = picture.mean(axis=2, keepdims=True)
        picture = grey + (picture - grey) * np.float32(rng.uniform(0.2, 1.3))
    if rng.random() < 0.45:
        channels = 3 if rng.random() < 0.6 else 1
        noise = rng.standard_normal((height, width, channels), np.float32)
        picture = picture + noise * np.float32(rng.uniform(0, 11))
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        curve = 255 * (np.arange(256) / 255) ** np.exp(rng.normal(0, 0.25))
        picture = cv2.LUT(picture, curve.astype(np.uint8))
    if rng.random() < 0.35:
        quality = int(rng.integers(20, 92))
        coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return picture


def _motion_kernel(rng: np.random.Generator) -> np.ndarray:
    kernel = np.zeros((9, 9), np.float32)
    turn, reach = rng.uniform(0, np.pi), rng.uniform(1, 4)
    step = np.array([np.cos(turn), np.sin(turn)]) * reach
    ends = [tuple(round(v) for v in 4 + sign * step) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1.0)
    return kernel / kernel.sum()
