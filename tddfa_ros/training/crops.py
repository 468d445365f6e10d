"""Endless training crops for the regressor: people from a pool, lit and placed anew each time."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tddfa_ros.training import backdrop, lighting
from tddfa_ros.training.degrade import degrade
from tddfa_ros.training.face_region import nearest_expressions
from tddfa_ros.training.occlude import occlude
from tddfa_ros.training.rig import MODEL_SHAPES, Rig
from tddfa_ros.training.sight import CANVAS, ROI_PX, Layers, Studio, spread_points
from tddfa_ros.training.skin import SkinPainter

CROP = 120
"""Side of the regressor's input, pixels."""
DENSE_POINTS = 200
_BACKGROUND_SIDE = 200
_TRACKED = (-0.03, 0.2, 0.05, 8.0)
_DETECTED = (-0.08, 0.36, 0.085, 14.0)
"""Jitter of crops around landmarks and around boxes: centre and half width of the logarithm of the
scale, deviation of the shift as a share of the side, deviation of the roll in degrees."""
_DETECTED_SHARE = 0.4
_OCCLUDED_SHARE = 0.35


@dataclass(frozen=True)
class Batch:
    """Crops and truths.

    Attributes
    ----------
    crops : (b, CROP, CROP, 3) uint8 BGR
    points : (b, 268, 3) float32, pixels of the crop, y down, z towards the viewer
    rotation : (b, 3, 3) float32, face to camera with y up
    shape : (b, 40) and expression : (b, e) float32 coefficients of the face model; what of an
        expression it has no component for is told by those that come nearest
    is_face : (b,) float32, 1 or 0; the rest of the truth of a 0 is meaningless
    tone : (b,) float32, of the skin, 0 darkest to 1
    occluded : (b,) bool, something was laid over the picture
    """

    crops: np.ndarray
    points: np.ndarray
    rotation: np.ndarray
    shape: np.ndarray
    expression: np.ndarray
    is_face: np.ndarray
    tone: np.ndarray
    occluded: np.ndarray


class CropSource:
    """Makes batches; one per process.

    Parameters
    ----------
    rig : what people are made of
    expression_count : leading expression components that count as truth
    seed : of everything
    pool : people kept; the oldest gives way to each new one
    reuse : crops made of a person on average
    plain : share of faces as they are rendered: nothing laid over, not degraded, no side black
    """

    def __init__(
        self,
        rig: Rig,
        expression_count: int,
        *,
        seed: int,
        pool: int = 2500,
        reuse: float = 6.0,
        plain: float = 0.0,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._studio = Studio(rig, spread_points(rig, DENSE_POINTS))
        self._painter = SkinPainter(rig)
        self._nearest = nearest_expressions(rig, expression_count)
        self._pool_size, self._reuse, self._plain = pool, reuse, plain
        self._pool: list[Layers] = []
        self._next, self._owed = 0, 0.0
        self._skins = [self._painter.paint(self._rng) for _ in range(24)]
        self._backgrounds = [self._background() for _ in range(150)]

    def batch(self, size: int, *, not_faces: float = 0.08) -> Batch:
        """Draw `size` crops, of which about a share `not_faces` show no face."""
        self._renew(size)
        crops = np.empty((size, CROP, CROP, 3), np.uint8)
        points = np.zeros((size, 68 + DENSE_POINTS, 3), np.float32)
        rotation = np.tile(np.eye(3, dtype=np.float32), (size, 1, 1))
        shape = np.zeros((size, MODEL_SHAPES), np.float32)
        expression = np.zeros((size, self._nearest.shape[1]), np.float32)
        is_face = np.ones(size, np.float32)
        tone, occluded = np.zeros(size, np.float32), np.zeros(size, bool)
        for k in range(size):
            layers = self._pool[self._rng.integers(len(self._pool))]
            if self._rng.random() < not_faces:
                crops[k] = self._no_face(layers)
                is_face[k] = 0
                continue
            # No number is drawn where all or none are: the people of a seed stay what they were.
            plain = self._plain >= 1 or (self._plain > 0 and self._rng.random() < self._plain)
            occluded[k] = self._rng.random() < _OCCLUDED_SHARE and not plain
            crops[k], points[k], turn = self._crop(layers, occluded=occluded[k], plain=plain)
            tone[k] = layers.skin_tone
            rotation[k] = turn @ layers.truth.rotation
            shape[k] = layers.truth.shape[:MODEL_SHAPES]
            expression[k] = layers.truth.expression @ self._nearest
        return Batch(crops, points, rotation, shape, expression, is_face, tone, occluded)

    def _renew(self, crops: int) -> None:
        self._owed += crops / self._reuse
        if len(self._pool) < 64:
            self._owed = max(self._owed, 64)
        rng = self._rng
        while self._owed >= 1:
            self._owed -= 1
            if rng.random() < 0.1:
                skin = self._painter.paint(rng)
                if len(self._skins) < 150:
                    self._skins.append(skin)
                else:
                    self._skins[rng.integers(150)] = skin
            if rng.random() < 0.1:
                self._backgrounds[rng.integers(len(self._backgrounds))] = self._background()
            person = self._studio.draw(rng, self._skins[rng.integers(len(self._skins))])
            if len(self._pool) < self._pool_size:
                self._pool.append(person)
            else:
                self._pool[self._next] = person
                self._next = (self._next + 1) % self._pool_size

    def _background(self) -> np.ndarray:
        return backdrop.draw(self._rng, _BACKGROUND_SIDE, _BACKGROUND_SIDE)

    def _crop(
        self, layers: Layers, *, occluded: bool, plain: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = self._rng
        middle, spread, away, roll = _DETECTED if rng.random() < _DETECTED_SHARE else _TRACKED
        scale = CROP / ROI_PX * np.exp(middle + rng.uniform(-spread, spread))
        shift = rng.normal(0, away, 2) * CROP
        turn = np.deg2rad(rng.normal(0, roll))
        picture, matrix = self._place(layers, scale, shift, turn)
        points = layers.truth.points.copy()
        points[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        points[:, 2] *= scale
        cosine, sine = np.cos(turn), np.sin(turn)
        # The picture's y points down, the camera frame's up: the same turn has the other sign.
        about_z = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]], np.float32)
        if plain:
            return np.clip(picture, 0, 255).astype(np.uint8), points, about_z
        if occluded:
            picture = occlude(rng, picture, self._backgrounds)
        picture = degrade(rng, picture)
        if rng.random() < 0.12:
            _leave_image(rng, picture)
        return picture, points, about_z

    def _place(
        self, layers: Layers, scale: float, shift: np.ndarray, turn: float
    ) -> tuple[np.ndarray, np.ndarray]:
        rng = self._rng
        lit = lighting.with_body(lighting.light(rng, layers))
        cosine, sine = np.cos(turn) * scale, np.sin(turn) * scale
        matrix = np.array([[cosine, -sine, 0], [sine, cosine, 0]], np.float32)
        centre = np.array([CANVAS / 2, CANVAS / 2], np.float32)
        matrix[:, 2] = CROP / 2 + shift - matrix[:, :2] @ centre
        warped = cv2.warpAffine(lit, matrix, (CROP, CROP), flags=cv2.INTER_LINEAR)
        gap = 1 - warped[..., 3:].astype(np.float32) / 255
        return warped[..., :3] + self._ground() * gap, matrix

    def _ground(self) -> np.ndarray:
        rng = self._rng
        picture = self._backgrounds[rng.integers(len(self._backgrounds))]
        y, x = rng.integers(0, _BACKGROUND_SIDE - CROP + 1, 2)
        picture = picture[y : y + CROP, x : x + CROP]
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        return picture.astype(np.float32) * np.float32(np.exp(rng.normal(0, 0.3)))

    def _no_face(self, layers: Layers) -> np.ndarray:
        """Background, with or without occluders, or a crop that has lost the face."""
        rng = self._rng
        if rng.random() < 0.5:
            picture = self._ground()
            if rng.random() < 0.5:
                picture = occlude(rng, picture, self._backgrounds)
        else:
            away = rng.uniform(0, 2 * np.pi)
            shift = np.array([np.cos(away), np.sin(away)]) * rng.uniform(0.55, 0.9) * CROP
            scale = CROP / ROI_PX * np.exp(rng.uniform(-0.4, 0.7))
            picture, _ = self._place(layers, scale, shift, np.deg2rad(rng.normal(0, 30)))
        return degrade(rng, picture)


def _leave_image(rng: np.random.Generator, picture: np.ndarray) -> None:
    """Blacken one or two sides, as where a crop reaches beyond the camera's picture."""
    for side in rng.choice(4, rng.integers(1, 3), replace=False):
        np.rot90(picture, side)[: int(rng.integers(2, 0.3 * CROP))] = 0
