"""Things in the detector's pictures that are no faces, though something of a face is in them."""

from __future__ import annotations

import cv2
import numpy as np

from tddfa_ros.training import lighting
from tddfa_ros.training.noise import fractal
from tddfa_ros.training.sight import Layers

_SKIN_BGR = np.array([110, 145, 195])
_SHUFFLED_SHARE = 0.12
"""Of the decoys: faces cut up and put together wrongly. With many of them learning hardly starts,
since what tells a face from the rest near by, an eye or a mouth, then counts for nothing."""
_SYMMETRIC_SHARE = 0.5
_SMALLEST, _LARGEST = 12.0, 160.0
"""Side of a collage, pixels of the halved picture."""


def decoy(rng: np.random.Generator, picture: np.ndarray, near: list[Layers]) -> None:
    """Draw a shuffled face, a ball of skin or eyes without a face anywhere.

    Parameters
    ----------
    picture : (h, w, 3) float32 BGR, drawn into
    near : heads to cut up
    """
    height, width = picture.shape[:2]
    side = int(np.exp(rng.uniform(np.log(14), np.log(150))))
    x, y = rng.integers(0, max(1, width - side)), rng.integers(0, max(1, height - side))
    kind = rng.random()
    if kind < _SHUFFLED_SHARE and near:
        lit = lighting.light(rng, near[rng.integers(len(near))])[22:122, 22:122]
        patch = cv2.resize(_shuffled(rng, lit), (side, side), interpolation=cv2.INTER_AREA)
        _paste(picture, patch[..., :3], patch[..., 3:].astype(np.float32) / 255, x, y)
        return
    colour = _SKIN_BGR * rng.uniform(0.3, 1.2) * rng.uniform(0.85, 1.15, 3)
    centre = (int(x + side / 2), int(y + side / 2))
    axes = (max(2, int(side * rng.uniform(0.25, 0.5))), max(2, side // 2))
    tint = tuple(float(c) for c in colour)
    cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, tint, -1)
    if kind > 0.75:
        dark = tuple(float(c * rng.uniform(0, 0.5)) for c in colour)
        for _ in range(rng.integers(1, 6)):
            spot = tuple(int(v) for v in rng.normal(centre, side / 6))
            cv2.circle(picture, spot, max(1, int(side * rng.uniform(0.02, 0.12))), dark, -1)


def post(rng: np.random.Generator, picture: np.ndarray, boxes: list[np.ndarray]) -> None:
    """Put something on a column where it touches no face: towers, bottles, lamps, chess men.

    The people of the scenes are heads on columns too; what is on one must not do for a face.

    Parameters
    ----------
    picture : (h, w, 3) float32 BGR, drawn into
    boxes : of the faces, xyxy in its pixels
    """
    height, width = picture.shape[:2]
    side = int(np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST / 2))))
    top, tall = _heap(rng, side, int(side * rng.uniform(0.6, 1))), side * rng.uniform(1, 6)
    column = _heap(rng, int(tall), int(side * rng.uniform(0.2, 2)), turned=False)
    x, y = (int(v) for v in rng.uniform(0, (width, height - side)))
    parts = ((column, y + int(0.8 * side)), (top, y))
    for (patch, cover), at in parts:
        left = x - patch.shape[1] // 2
        if _is_free(boxes, np.array([left, at, left + patch.shape[1], at + len(patch)])):
            _paste(picture, patch * cover, cover, left, at)


def collage(rng: np.random.Generator, picture: np.ndarray, boxes: list[np.ndarray]) -> None:
    """Lay a dense heap of small shapes, often mirror-symmetric, where it touches no face.

    Lapels with a tie, badges, engines, houses and toys are such heaps: dark and light parts close
    together, symmetric, shaded. Half of them lie below a face, on somebody's chest.

    Parameters
    ----------
    picture : (h, w, 3) float32 BGR, drawn into
    boxes : of the faces, xyxy in its pixels
    """
    height, width = picture.shape[:2]
    for _ in range(8):
        side = np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST)))
        place = rng.uniform(0, (width, height))
        if boxes and rng.random() < 0.5:
            box = boxes[rng.integers(len(boxes))]
            wide, high = box[2:] - box[:2]
            side = high * rng.uniform(0.4, 1.3)
            below = box[3] + side / 2 + high * rng.uniform(0.1, 0.6)
            place = np.array([(box[0] + box[2]) / 2 + wide * rng.normal(0, 0.2), below])
        reach = 0.55 * side
        free = _is_free(boxes, np.concatenate([place - reach, place + reach]))
        if free and side >= _SMALLEST and place[1] < height:
            patch, cover = _heap(rng, int(side), int(side * rng.uniform(0.5, 1)))
            x, y = (place - np.array(cover.shape[1::-1]) / 2).astype(int)
            _paste(picture, patch * cover, cover, x, y)
            return


def _is_free(boxes: list[np.ndarray], place: np.ndarray) -> bool:
    """Whether xyxy bounds touch none of the boxes."""
    return all((place[2:] < box[:2]).any() or (place[:2] > box[2:]).any() for box in boxes)


def _heap(
    rng: np.random.Generator, height: int, width: int, *, turned: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """BGR (h, w, 3) and cover (h, w, 1) in [0, 1]; turned by some degrees, or upright and full."""
    if turned and rng.random() < 0.3:
        height, width = width, height
    # Drawn large and shrunk, so that edges are as soft as a camera's.
    tall, broad = 2 * height, 2 * width
    palette = rng.uniform(0, 255, (rng.integers(2, 6), 3))
    if rng.random() < 0.4:
        palette = palette.mean(axis=1, keepdims=True) * rng.uniform(0.9, 1.1, 3)
    if rng.random() < 0.3:
        palette[0] = _SKIN_BGR * rng.uniform(0.3, 1.2)
    patch = np.empty((tall, broad, 3), np.float32)
    patch[:] = palette[0]
    size = min(tall, broad)
    for _ in range(rng.integers(3, 30)):
        bright = palette[rng.integers(len(palette))] * rng.uniform(0.7, 1.2)
        at = rng.uniform(0, (broad, tall))
        reach = size * np.exp(rng.uniform(np.log(0.04), np.log(0.6)))
        _piece(rng, patch, at, reach, tuple(float(c) for c in bright))
    if rng.random() < _SYMMETRIC_SHARE:
        half = broad // 2
        patch[:, broad - half :] = patch[:, :half][:, ::-1]
    patch *= 1 + rng.uniform(0, 0.4) * fractal(rng, tall, broad, (2, 4))
    cover = np.zeros((tall, broad), np.float32)
    kind = rng.random() if turned else 1
    if kind < 0.4:
        cv2.ellipse(cover, (broad // 2, tall // 2), (broad // 2, tall // 2), 0, 0, 360, 1, -1)
    elif kind < 0.7:
        corners = rng.uniform(0, 1, (6, 2)) * (broad, tall)
        cv2.fillConvexPoly(cover, cv2.convexHull(corners.astype(np.int32)), 1)
    else:
        cover[:] = 1
    angle = rng.normal(0, 15) if turned else 0.0
    turn = cv2.getRotationMatrix2D((broad / 2, tall / 2), angle, 1)
    both = [cv2.warpAffine(a, turn, (broad, tall), flags=cv2.INTER_LINEAR) for a in (patch, cover)]
    patch, cover = (cv2.resize(a, (width, height), interpolation=cv2.INTER_AREA) for a in both)
    return patch, cover[..., None]


def _piece(
    rng: np.random.Generator,
    patch: np.ndarray,
    at: np.ndarray,
    reach: float,
    colour: tuple[float, ...],
) -> None:
    kind = rng.random()
    x, y = (int(v) for v in at)
    if kind < 0.4:
        corners = at + rng.normal(0, reach, (rng.integers(3, 6), 2))
        cv2.fillPoly(patch, [corners.astype(np.int32)], colour)
    elif kind < 0.65:
        axes = tuple(int(v) + 1 for v in reach * rng.uniform(0.2, 1, 2))
        cv2.ellipse(patch, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    elif kind < 0.85:
        end = tuple(int(v) for v in at + rng.normal(0, 2 * reach, 2))
        cv2.line(patch, (x, y), end, colour, int(rng.integers(1, 5)))
    else:
        wide, high = (int(v) for v in reach * rng.uniform(0.2, 1.5, 2))
        cv2.rectangle(patch, (x, y), (x + wide, y + high), colour, -1)


def _shuffled(rng: np.random.Generator, lit: np.ndarray) -> np.ndarray:
    parts = int(rng.integers(2, 5))
    step = len(lit) // parts
    tiles = [
        lit[r * step : (r + 1) * step, c * step : (c + 1) * step]
        for r in range(parts)
        for c in range(parts)
    ]
    order = rng.permutation(len(tiles))
    rows = [np.hstack([tiles[order[r * parts + c]] for c in range(parts)]) for r in range(parts)]
    return np.vstack(rows)


def _paste(picture: np.ndarray, patch: np.ndarray, cover: np.ndarray, x: int, y: int) -> None:
    """Put a patch, already multiplied by its cover, with its corner at x, y."""
    bottom, right = max(0, y + len(patch)), max(0, x + patch.shape[1])
    region = picture[max(0, y) : bottom, max(0, x) : right]
    height, width = region.shape[:2]
    top, left = max(0, -y), max(0, -x)
    seen = np.s_[top : top + height, left : left + width]
    region *= 1 - cover[seen]
    region += patch[seen]
