"""Endless training pictures for the detector: several people, decoys, and where the faces are."""

from __future__ import annotations

import cv2
import numpy as np

from tddfa_ros.training import backdrop, decoys, lighting
from tddfa_ros.training.degrade import degrade
from tddfa_ros.training.occlude import occlude
from tddfa_ros.training.rig import Rig
from tddfa_ros.training.sight import ROI_PX, Layers, Studio, spread_points
from tddfa_ros.training.skin import SkinPainter

HEIGHT, WIDTH = 480, 640
_FAR_ROI_PX = 58.0
"""Side of the landmarks' square in layers that show the shoulders too."""
_SMALLEST, _LARGEST = 20.0, 460.0
"""Larger side of a face's box, pixels."""
_LEAN = 1.4
"""Power of the uniform number that places a size between the logarithms of these: a third of the
faces are smaller than 40 pixels, with 1 a fifth."""
_GROUND = 400
_POST_SHARE = 0.4
"""Of the decoys that are drawn beside the people."""
_NEAR_FROM = 190.0
"""Faces this large are drawn from layers that show the head alone."""
_NEAR_SHARE = 0.25
"""Of the smaller ones that are."""
_PORTRAIT_SHARE = 0.4
"""Of the people: cut out with some of what is behind them. Else heads on shoulders are learned, and
faces that are not: of 400 scenes' faces 20 to 34 pixels high 81 % were found, 21 % cut out."""
_MARGIN = (0.05, 0.9)
"""Of a portrait around the face, in sizes of it."""


class SceneSource:
    """Makes pictures with the boxes of their faces; one per process.

    Pictures are made at half size, as the detector sees them.

    Parameters
    ----------
    rig : what people are made of
    seed : of everything
    pool : people kept; the oldest gives way
    reuse : pictures that a person is in, on average
    """

    def __init__(self, rig: Rig, *, seed: int, pool: int = 1200, reuse: float = 8.0) -> None:
        self._rng = np.random.default_rng(seed)
        self._studio = Studio(rig, spread_points(rig, 200))
        self._painter = SkinPainter(rig)
        self._pool_size, self._reuse, self._owed, self._next = pool, reuse, 0.0, 0
        self._skins = [self._painter.paint(self._rng) for _ in range(24)]
        self._grounds = [self._ground() for _ in range(80)]
        self._near: list[Layers] = []
        self._far: list[Layers] = []
        while len(self._far) < 24:
            self._add_person()

    def _ground(self) -> np.ndarray:
        return backdrop.draw(self._rng, _GROUND, _GROUND, clutter=14)

    def _add_person(self) -> None:
        rng = self._rng
        if rng.random() < 0.1:
            self._skins[rng.integers(len(self._skins))] = self._painter.paint(rng)
        if rng.random() < 0.15:
            self._grounds[rng.integers(len(self._grounds))] = self._ground()
        skin = self._skins[rng.integers(len(self._skins))]
        near = rng.random() < 0.3
        people = self._near if near else self._far
        people.append(self._studio.draw(rng, skin, roi_px=ROI_PX if near else _FAR_ROI_PX))
        if len(people) > self._pool_size:
            del people[0]

    def scene(self) -> tuple[np.ndarray, np.ndarray]:
        """(HEIGHT / 2, WIDTH / 2, 3) uint8 BGR, and boxes (n, 4) float32 in its pixels."""
        rng = self._rng
        height, width = HEIGHT // 2, WIDTH // 2
        ground = self._grounds[rng.integers(len(self._grounds))]
        y, x = rng.integers(0, (_GROUND - height + 1, _GROUND - width + 1))
        picture = ground[y : y + height, x : x + width].astype(np.float32)
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        picture = np.ascontiguousarray(picture) * np.float32(np.exp(rng.normal(0, 0.3)))
        for _ in range(rng.integers(0, 3)):
            decoys.decoy(rng, picture, self._near)
        boxes: list[np.ndarray] = []
        count = rng.choice([0, 1, 1, 1, 2, 3, 5])
        most = _LARGEST if count < 3 else 200.0
        place = rng.random(count) ** _LEAN
        sizes = _SMALLEST * (most / _SMALLEST) ** place / 2
        for size in np.sort(sizes):
            self._owed += 1 / self._reuse
            boxes = self._put(picture, size, boxes)
        for _ in range(rng.integers(0, 4)):
            draw = decoys.post if rng.random() < _POST_SHARE else decoys.collage
            draw(rng, picture, boxes)
        while self._owed >= 1:
            self._owed -= 1
            self._add_person()
        if rng.random() < 0.25:
            square = np.zeros((width, width, 3), np.float32)
            square[:height] = picture
            covered = occlude(rng, square, self._grounds)[:height]
            over = np.abs(covered - picture).max(axis=2, keepdims=True) > 6
            boxes = [b for b in boxes if _shown(b, over) > 0.6]
            picture = covered
        picture = degrade(rng, picture)
        return picture, np.array(boxes, np.float32).reshape(-1, 4)

    def _put(self, picture: np.ndarray, size: float, boxes: list[np.ndarray]) -> list[np.ndarray]:
        """Draw a person whose face's box has this larger side; returns the boxes still seen."""
        rng = self._rng
        height, width = picture.shape[:2]
        near = len(self._near) > 0 and (size * 2 > _NEAR_FROM or rng.random() < _NEAR_SHARE)
        people = self._near if near else self._far
        layers = people[rng.integers(len(people))]
        lit = lighting.with_body(lighting.light(rng, layers))
        points = layers.truth.points[:, :2]
        low, high = points.min(axis=0), points.max(axis=0)
        scale = size / (high - low).max()
        turn = np.deg2rad(rng.normal(0, 9))
        cosine, sine = np.cos(turn) * scale, np.sin(turn) * scale
        matrix = np.array([[cosine, -sine, 0], [sine, cosine, 0]], np.float32)
        place = np.array([rng.uniform(-0.03, 1.03) * width, rng.uniform(-0.03, 1.03) * height])
        if size > 0.5 * height:
            place = np.array([width, height]) * rng.normal(0.5, 0.12, 2)
        matrix[:, 2] = place - matrix[:, :2] @ ((low + high) / 2)
        if scale < 0.6:
            # Odd: an even one would move the picture by half a pixel.
            blur = 2 * round(0.25 / scale) + 1
            lit = cv2.blur(lit, (blur, blur))
        left, top, right, bottom = _bounds(lit.shape, matrix, width, height)
        kept, over = boxes, np.zeros((height, width), bool)
        if rng.random() < _PORTRAIT_SHARE:
            frame = self._frame(picture, place, size)
            over[frame[1] : frame[3], frame[0] : frame[2]] = True
            left, top = max(left, frame[0]), max(top, frame[1])
            right, bottom = min(right, frame[2]), min(bottom, frame[3])
        if left < right and top < bottom:
            window = matrix - np.array([[0, 0, left], [0, 0, top]], np.float32)
            size_px = (right - left, bottom - top)
            warped = cv2.warpAffine(lit, window, size_px, flags=cv2.INTER_LINEAR)
            cover = warped[..., 3:].astype(np.float32) / 255
            region = picture[top:bottom, left:right]
            region *= 1 - cover
            region += warped[..., :3]
            over[top:bottom, left:right] |= cover[..., 0] > 0.5
            kept = [b for b in boxes if _shown(b, over) > 0.55]
        seen = points @ matrix[:, :2].T + matrix[:, 2]
        box = np.concatenate([seen.min(axis=0), seen.max(axis=0)])
        clipped = np.clip(box, 0, [width, height, width, height])
        area = np.prod(box[2:] - box[:2])
        if np.prod(np.maximum(clipped[2:] - clipped[:2], 0)) > 0.5 * area:
            kept.append(box)
        return kept

    def _frame(self, picture: np.ndarray, place: np.ndarray, size: float) -> tuple[int, ...]:
        """Lay another ground around a face to be; whole pixels xyxy of it."""
        rng = self._rng
        height, width = picture.shape[:2]
        reach = size * (0.5 + rng.uniform(*_MARGIN, 4)) * (-1, -1, 1, 1)
        bounds = np.clip(np.tile(place, 2) + reach, 0, [width, height, width, height])
        left, top, right, bottom = (int(side) for side in bounds)
        ground = self._grounds[rng.integers(len(self._grounds))]
        y, x = rng.integers(0, (_GROUND - (bottom - top) + 1, _GROUND - (right - left) + 1))
        brightness = np.float32(np.exp(rng.normal(0, 0.3)))
        part = ground[y : y + bottom - top, x : x + right - left]
        picture[top:bottom, left:right] = part * brightness
        return left, top, right, bottom


def _bounds(
    shape: tuple[int, ...], matrix: np.ndarray, width: int, height: int
) -> tuple[int, int, int, int]:
    """Whole pixels xyxy of a picture of `width` x `height` that a warped one can reach."""
    rows, columns = shape[:2]
    corners = np.array([[0, 0], [columns, 0], [0, rows], [columns, rows]], np.float32)
    reach = corners @ matrix[:, :2].T + matrix[:, 2]
    low = np.clip(np.floor(reach.min(axis=0)), 0, [width, height])
    high = np.clip(np.ceil(reach.max(axis=0)) + 1, 0, [width, height])
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _shown(box: np.ndarray, over: np.ndarray) -> float:
    """Share of a box that a mask leaves free."""
    height, width = over.shape[:2]
    x0, y0, x1, y1 = (int(v) for v in np.clip(box, 0, [width, height, width, height]))
    part = over[y0:y1, x0:x1]
    return float(1 - part.mean()) if part.size else 0.0
