"""One texture per person: skin on the left; eye, hair, cloth and plain colours beside it."""

from __future__ import annotations

import cv2
import numpy as np

from tddfa_ros.training.noise import fractal
from tddfa_ros.training.skin import HAIR_RGB, SKIN_SIDE, Skin

TILE = 128
_PLAIN = 32
HEIGHT, WIDTH = SKIN_SIDE, SKIN_SIDE + TILE + _PLAIN
EYE_TILE, HAIR_TILE, CLOTH_TILE = 0, 1, 2
TEETH_PLAIN, MOUTH_PLAIN, FRAME_PLAIN, SKIN_PLAIN, LENS_PLAIN = range(5)

_EYE_RADIUS_TEXELS = 30.0
"""Texels from the eye's axis to where its direction is 45 degrees off."""


def tile_uv(tile: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(n, 2) float32 texel coordinates in a tile of u, v, clipped to [0, 1]."""
    x = SKIN_SIDE + 1 + np.clip(u, 0, 1) * (TILE - 3)
    y = tile * TILE + 1 + np.clip(v, 0, 1) * (TILE - 3)
    return np.stack([x, y], axis=-1).astype(np.float32)


def plain_uv(plain: int, count: int) -> np.ndarray:
    """(count, 2) float32 texel coordinates in the middle of a plain colour."""
    at = (SKIN_SIDE + TILE + _PLAIN / 2, (plain + 0.5) * _PLAIN)
    return np.tile(np.array(at, np.float32), (count, 1))


def eye_uv(directions: np.ndarray) -> np.ndarray:
    """(n, 2) texel coordinates of directions (n, 3) from the eye's centre, gaze along +z."""
    ahead = np.maximum(directions[:, 2:], 0.3 * np.linalg.norm(directions, axis=1, keepdims=True))
    offset = directions[:, :2] / ahead * np.where(directions[:, 2:] > 0, 1, 4)
    offset = offset * _EYE_RADIUS_TEXELS / TILE
    return tile_uv(EYE_TILE, 0.5 + offset[:, 0], 0.5 - offset[:, 1])


def compose(rng: np.random.Generator, skin: Skin) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8 BGR for one person: random eyes, hair strands, cloth, frame."""
    atlas = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    atlas[:, :SKIN_SIDE] = skin.texture
    x = slice(SKIN_SIDE, SKIN_SIDE + TILE)
    tiles = {EYE_TILE: _eye(rng), HAIR_TILE: _hair(rng, skin.hair_bgr), CLOTH_TILE: _cloth(rng)}
    for tile, picture in tiles.items():
        atlas[tile * TILE : (tile + 1) * TILE, x] = np.clip(picture * 255, 0, 255)
    plain = atlas[:, SKIN_SIDE + TILE :]
    colours = {
        TEETH_PLAIN: np.array([0.72, 0.82, 0.86]) * rng.uniform(0.75, 1.08),
        MOUTH_PLAIN: np.array([0.3, 0.32, 0.6]) * rng.uniform(0.4, 1.0),
        FRAME_PLAIN: _frame(rng),
        SKIN_PLAIN: skin.skin_bgr * 0.96,
        LENS_PLAIN: rng.uniform(0, 0.18, 3),
    }
    for k, colour in colours.items():
        plain[k * _PLAIN : (k + 1) * _PLAIN] = np.clip(colour * 255, 0, 255)
    return atlas


def _frame(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.02, 0.3, 3) if rng.random() < 0.75 else rng.uniform(0.3, 0.9, 3)


def _eye(rng: np.random.Generator) -> np.ndarray:
    irises = np.array(
        [[24, 40, 58], [36, 66, 92], [150, 120, 86], [84, 108, 98], [160, 150, 140]], np.float32
    )
    colour = irises[rng.choice(5, p=[0.4, 0.28, 0.13, 0.1, 0.09])] / 255 * rng.uniform(0.6, 1.3)
    radius, pupil = rng.uniform(14.5, 18), rng.uniform(4.5, 9.5)
    y, x = np.mgrid[:TILE, :TILE].astype(np.float32) - TILE / 2
    distance = np.hypot(x, y)
    sclera = np.array([0.83, 0.85, 0.89], np.float32) * rng.uniform(0.7, 1.0)
    image = np.broadcast_to(sclera, (TILE, TILE, 3)).copy()
    image *= (1 - 0.15 * np.clip(distance / 64, 0, 1))[..., None]
    rays = 1 + 0.25 * np.sin(np.arctan2(y, x) * 17 + rng.uniform(0, 6)) * rng.uniform(0, 1)
    rim = 0.55 + 0.45 * np.clip((radius - distance) / 3, 0, 1)
    iris = colour * (rays * rim)[..., None]
    cover = np.clip(radius - distance + 0.5, 0, 1)[..., None]
    image += (iris - image) * cover
    image *= 1 - 0.97 * np.clip(pupil - distance + 0.5, 0, 1)[..., None]
    if rng.random() < 0.6:
        at = (int(64 + rng.uniform(-10, 10)), int(64 + rng.uniform(-11, 2)))
        cv2.circle(image, at, int(rng.integers(2, 5)), (1.0, 1.0, 1.0), -1, cv2.LINE_AA)
    return image


def _hair(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    strands = np.zeros((TILE, TILE), np.float32)
    amplitude = 1.0
    for across, along in ((12, 3), (40, 4), (100, 6)):
        layer = rng.standard_normal((along, across), np.float32)
        strands += amplitude * cv2.resize(layer, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
        amplitude *= 0.8
    contrast = rng.uniform(0.08, 0.35)
    image = colour * np.exp(contrast * strands)[..., None]
    if rng.random() < 0.25:
        second = np.clip(colour * rng.uniform(0.6, 1.9), 0.02, 0.95)
        image += (second - image) * np.clip(strands[..., None] * 0.5, 0, 1)
    return image


def _cloth(rng: np.random.Generator) -> np.ndarray:
    colour = rng.uniform(0.02, 0.95, 3)
    if rng.random() < 0.4:
        colour = HAIR_RGB[rng.integers(len(HAIR_RGB))] / 255
    image = colour * (1 + rng.uniform(0, 0.15) * fractal(rng, TILE, TILE, (4, 16, 64), fall=0.9))
    pattern = rng.random()
    y, x = np.mgrid[:TILE, :TILE]
    if pattern < 0.2:
        stripes = ((x if rng.random() < 0.6 else y) // rng.integers(2, 14)) % 2
        image += (rng.uniform(0, 1, 3) - image) * (0.8 * stripes[..., None])
    elif pattern < 0.3:
        step = rng.integers(4, 18)
        checks = (x // step + y // step) % 2
        image += (rng.uniform(0, 1, 3) - image) * (0.7 * checks[..., None])
    elif pattern < 0.42:
        blobs = fractal(rng, TILE, TILE, (8, 16), channels=1) > rng.uniform(0.2, 1.2)
        image += (rng.uniform(0, 1, 3) - image) * blobs
    return np.clip(image, 0.01, 1)
