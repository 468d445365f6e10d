"""What comes between camera and face: shapes, hands, microphones, strands of hair."""

from __future__ import annotations

import cv2
import numpy as np


def occlude(
    rng: np.random.Generator, picture: np.ndarray, backgrounds: list[np.ndarray]
) -> np.ndarray:
    """Lay one or two occluders over a square float32 BGR picture; returns float32."""
    side = picture.shape[0]
    for _ in range(rng.integers(1, 3)):
        kind = rng.random()
        if kind < 0.35:
            mask, colour = _patch(rng, side), _surface(rng, side, backgrounds)
        elif kind < 0.55:
            mask, colour = _hand(rng, side)
        elif kind < 0.63:
            mask, colour = _microphone(rng, side)
        else:
            mask, colour = _strands(rng, side)
        cover = mask[..., None] * np.float32(rng.uniform(0.75, 1))
        picture = picture + (colour - picture) * cover
    return picture


def _patch(rng: np.random.Generator, side: int) -> np.ndarray:
    mask = np.zeros((side, side), np.float32)
    at, axes = rng.uniform(0, side, 2), rng.uniform(0.05, 0.3, 2) * side
    if rng.random() < 0.5:
        centre, size = tuple(int(v) for v in at), tuple(int(v) for v in axes)
        cv2.ellipse(mask, centre, size, float(rng.uniform(0, 180)), 0, 360, 1.0, -1, cv2.LINE_AA)
    else:
        size = tuple(float(2 * v) for v in axes)
        box = cv2.boxPoints((tuple(float(v) for v in at), size, float(rng.uniform(0, 90))))
        cv2.fillPoly(mask, [np.round(box).astype(np.int32)], 1.0, cv2.LINE_AA)
    return mask


def _surface(rng: np.random.Generator, side: int, backgrounds: list[np.ndarray]) -> np.ndarray:
    if rng.random() < 0.6:
        picture = backgrounds[rng.integers(len(backgrounds))]
        return picture[:side, :side].astype(np.float32)
    return np.full((side, side, 3), rng.uniform(0, 255, 3), np.float32)


def _skin_colour(rng: np.random.Generator) -> np.ndarray:
    return np.array([110, 145, 195]) * rng.uniform(0.3, 1.25) * rng.uniform(0.92, 1.08, 3)


def _hand(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Two to four fingers and a palm, shaded across."""
    mask = np.zeros((side, side), np.float32)
    shade = np.zeros((side, side), np.float32)
    width = rng.uniform(0.055, 0.1) * side
    turn = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(turn), np.sin(turn)])
    across = np.array([-along[1], along[0]])
    root = rng.uniform(0.1, 0.9, 2) * side
    count = int(rng.integers(2, 5))
    for k in range(count):
        start = root + across * width * 1.05 * (k - count / 2)
        lean = along + across * rng.normal(0, 0.07)
        end = start + lean * width * rng.uniform(3, 5.5)
        ends = [tuple(round(v) for v in p) for p in (start, end)]
        cv2.line(mask, *ends, 1.0, max(2, int(width)), cv2.LINE_AA)
        cv2.line(shade, *ends, 0.75, max(2, int(width)), cv2.LINE_AA)
        cv2.line(shade, *ends, 1.0, max(1, int(0.6 * width)), cv2.LINE_AA)
    palm = root - along * width * 1.6
    size = (int(width * 2.2), int(width * count * 0.62))
    at = tuple(round(v) for v in palm)
    cv2.ellipse(mask, at, size, float(np.rad2deg(turn)), 0, 360, 1.0, -1, cv2.LINE_AA)
    cv2.ellipse(shade, at, size, float(np.rad2deg(turn)), 0, 360, 0.95, -1, cv2.LINE_AA)
    shade = cv2.GaussianBlur(shade, (0, 0), max(0.6, 0.08 * width))
    return mask, shade[..., None] * _skin_colour(rng).astype(np.float32)


def _microphone(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((side, side), np.float32)
    head = np.array([rng.uniform(0.15, 0.85), rng.uniform(0.55, 0.95)]) * side
    foot = head + np.array([rng.normal(0, 0.3), rng.uniform(0.3, 0.7)]) * side
    radius = rng.uniform(0.04, 0.11) * side
    ends = [tuple(round(v) for v in p) for p in (head, foot)]
    cv2.line(mask, *ends, 1.0, max(2, int(radius * 0.9)), cv2.LINE_AA)
    cv2.circle(mask, ends[0], int(radius), 1.0, -1, cv2.LINE_AA)
    x = np.arange(side, dtype=np.float32)[None, :, None]
    shine = np.exp(-(((x - head[0] + radius / 3) / (0.4 * radius)) ** 2)) * rng.uniform(10, 80)
    return mask, np.broadcast_to(rng.uniform(5, 90) + shine, (side, side, 3)).astype(np.float32)


def _strands(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Locks of hair that fall from the top or a side, thin or over half of the face."""
    mask = np.zeros((side, side), np.float32)
    shade = np.ones((side, side), np.float32)
    start = np.array([rng.uniform(0, 1), rng.uniform(-0.1, 0.25)]) * side
    end = start + np.array([rng.normal(0, 0.3), rng.uniform(0.3, 0.9)]) * side
    bend = rng.normal(0, 0.18, 2) * side
    t = np.linspace(0, 1, 14)[:, None]
    thick = rng.random() < 0.5
    spread = rng.uniform(0.06, 0.13) if thick else 0.045
    for _ in range(rng.integers(25, 65) if thick else rng.integers(6, 40)):
        off = rng.normal(0, spread, 2) * side
        path = start + (end - start) * t + bend * (t * (1 - t) * 4) + off * (0.6 + t)
        path = np.round(path).astype(np.int32)
        width = int(rng.integers(1, 4))
        cv2.polylines(mask, [path], False, 1.0, width, cv2.LINE_AA)
        cv2.polylines(shade, [path], False, rng.uniform(0.5, 1.5), width, cv2.LINE_AA)
    hairs = np.array([[15, 18, 24], [30, 45, 75], [70, 120, 180], [110, 170, 215], [40, 70, 150]])
    colour = hairs[rng.integers(len(hairs))] * rng.uniform(0.5, 1.5) * rng.uniform(0.85, 1.15, 3)
    return mask, shade[..., None] * colour.astype(np.float32)
