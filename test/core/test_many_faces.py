"""Ten people who cross and hide for a moment: each keeps one id, and no id goes to another.

Their places are known in every frame. The faces are one public photo, mirrored, darkened, tinted
and scaled; who stands in front is fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.pipeline import FacePipeline

HEIGHT, WIDTH = 480, 640
PEOPLE = 10
RATE_HZ = 30
PERIOD_NS = 33_333_333
HEAD_HEIGHT = 105
"""Pixels of the ellipse around hair and chin; the landmarks span about half of them."""

AWAY_S = 0.25
# Around the head in the photo: left, top, right, bottom.
_HEAD = (147, 0, 293, 212)


@dataclass(frozen=True)
class Person:
    """One identity: its picture with alpha, and its path.

    Attributes
    ----------
    picture_bgra : (h, w, 4) uint8
    start_xy, velocity_px_s : (2,) float64, of the middle of the head; it bounces off the borders
    sway_px, sway_hz, phase : up and down beside that
    """

    picture_bgra: np.ndarray
    start_xy: np.ndarray
    velocity_px_s: np.ndarray
    sway_px: float
    sway_hz: float
    phase: float

    def middle_xy(self, seconds: float) -> np.ndarray:
        """Middle of the head, pixels."""
        height, width = self.picture_bgra.shape[:2]
        low = np.array([width, height]) / 2
        span = np.array([WIDTH, HEIGHT]) - 2 * low
        folded = np.mod(self.start_xy - low + self.velocity_px_s * seconds, 2 * span)
        xy = low + np.where(folded > span, 2 * span - folded, folded)
        sway = self.sway_px * np.sin(2 * np.pi * self.sway_hz * seconds + self.phase)
        return np.clip(xy + np.array([0, sway]), low, low + span)


@dataclass(frozen=True)
class Truth:
    """Where everybody is in one frame.

    Attributes
    ----------
    middles_xy : (n, 2) float64, pixels
    sizes_px : (n,) height of the heads
    visible : (n,) float64, share of each head that can be seen
    """

    middles_xy: np.ndarray
    sizes_px: np.ndarray
    visible: np.ndarray


def people(photo_bgr: np.ndarray, rng: np.random.Generator, count: int = PEOPLE) -> list[Person]:
    """Make so many people and their paths."""
    left, top, right, bottom = _HEAD
    head = photo_bgr[top:bottom, left:right]
    made = []
    for index in range(count):
        scale = HEAD_HEIGHT * rng.uniform(0.9, 1.1) / head.shape[0]
        bgr = cv2.resize(head, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        bgr = bgr[:, ::-1] if rng.random() < 0.5 else bgr
        tint = rng.uniform(0.85, 1.0, 3) * rng.uniform(0.7, 1.15)
        bgr = np.clip(bgr * tint, 0, 255).astype(np.uint8)
        height, width = bgr.shape[:2]
        alpha = np.zeros((height, width), np.uint8)
        cv2.ellipse(
            alpha,
            (width // 2, height // 2),
            (width // 2 - 2, height // 2 - 2),
            0, 0, 360, 255, -1, cv2.LINE_AA,
        )  # fmt: skip
        start_xy, velocity_px_s = _path(index, rng)
        made.append(
            Person(
                np.dstack([bgr, cv2.GaussianBlur(alpha, (5, 5), 0)]),
                start_xy,
                velocity_px_s,
                rng.uniform(0, 4),
                rng.uniform(0.1, 0.4),
                rng.uniform(0, 6),
            )
        )
    return made


def _path(index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Start and velocity: pairs that meet in four rows, and two people across all of them."""
    speed = rng.uniform(70, 110)
    if index < 8:
        row, second = divmod(index, 2)
        x = rng.uniform(50, 250) + 340 * second
        y = 62 + 118 * row + rng.uniform(-8, 8)
        return np.array([x, y]), np.array([-speed if second else speed, 0.0])
    x = rng.uniform(130, 250) + 260 * (index - 8)
    return np.array([x, rng.uniform(60, 420)]), np.array([0.0, speed])


def _time_alone(crowd: list[Person], index: int, rng: np.random.Generator, seconds: float) -> float:
    """Return a time around which nobody is near that person, or one after the end."""
    for middle_s in rng.uniform(1.0, max(seconds - 1.0, 1.1), 200):
        places = np.array(
            [[p.middle_xy(middle_s + shift) for p in crowd] for shift in (-0.4, 0.0, 0.4)]
        )
        others = np.delete(places, index, axis=1) - places[:, index : index + 1]
        if np.linalg.norm(others, axis=2).min() > 1.2 * HEAD_HEIGHT:
            return float(middle_s)
    return 2 * seconds


def scene(
    photo_bgr: np.ndarray, seed: int, seconds: float, *, hidden: bool = False, count: int = PEOPLE
) -> Iterator[tuple[np.ndarray, int, Truth]]:
    """Yield image, stamp and truth of each frame.

    Parameters
    ----------
    photo_bgr : scikit-image's astronaut
    seed : of the people and their paths
    seconds : length
    hidden : let each person vanish once, for :data:`AWAY_S`, at a time without neighbours
    count : how many people
    """
    rng = np.random.default_rng(seed)
    crowd = people(photo_bgr, rng, count)
    away_s = [_time_alone(crowd, index, rng, seconds) for index in range(count)]
    wall = cv2.GaussianBlur(rng.integers(60, 190, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 25)
    for frame in range(round(seconds * RATE_HZ)):
        now = frame / RATE_HZ
        image = wall.copy()
        owner = np.full((HEIGHT, WIDTH), -1, np.int16)
        middles = []
        for index, person in enumerate(crowd):
            middle = person.middle_xy(now)
            middles.append(middle)
            away = hidden and abs(away_s[index] - now) < AWAY_S / 2
            if not away:
                _paste(image, owner, person.picture_bgra, middle, index)
        seen = np.array([np.count_nonzero(owner == index) for index in range(count)])
        whole = np.array([np.count_nonzero(p.picture_bgra[..., 3] > 127) for p in crowd])
        sizes = np.array([p.picture_bgra.shape[0] for p in crowd], np.float64)
        yield image, frame * PERIOD_NS, Truth(np.array(middles), sizes, seen / whole)


def _paste(
    image: np.ndarray, owner: np.ndarray, picture_bgra: np.ndarray, middle: np.ndarray, index: int
) -> None:
    """Blend a picture in with its middle at a fraction of a pixel."""
    height, width = picture_bgra.shape[:2]
    corner = middle - [width / 2, height / 2]
    whole = np.floor(corner).astype(int)
    shift = np.float32([[1, 0, corner[0] - whole[0]], [0, 1, corner[1] - whole[1]]])
    moved = cv2.warpAffine(picture_bgra, shift, (width + 1, height + 1))
    x0, y0 = max(whole[0], 0), max(whole[1], 0)
    x1, y1 = min(whole[0] + width + 1, WIDTH), min(whole[1] + height + 1, HEIGHT)
    moved = moved[y0 - whole[1] : y1 - whole[1], x0 - whole[0] : x1 - whole[0]]
    alpha = moved[..., 3:].astype(np.float32) / 255
    below = image[y0:y1, x0:x1]
    below[:] = (moved[..., :3] * alpha + below * (1 - alpha)).astype(np.uint8)
    owner[y0:y1, x0:x1][moved[..., 3] > 127] = index


SECONDS = 10.0
SETTLED_FRAMES = 15
# Middle of the landmarks to middle of the head, in heights of the head.
SAME_PLACE = 0.35
VISIBLE = 0.75


class IdCount:
    """Counts as CLEAR-MOT does (Bernardin and Stiefelhagen, 2008): a match lasts while it holds."""

    def __init__(self) -> None:
        self.id_by_person: dict[int, str] = {}
        self.switches: list[tuple[int, int, str, str]] = []
        self.visible = 0
        self.matched = 0

    def add(self, frame: int, result, truth) -> None:
        """Take one frame."""
        middles = np.array(
            [(f.landmarks[:, :2].min(axis=0) + f.landmarks[:, :2].max(axis=0)) / 2
             for f in result.faces]
        ).reshape(-1, 2)  # fmt: skip
        distance = np.linalg.norm(middles[:, None] - truth.middles_xy[None], axis=2)
        cost = np.where(truth.visible >= VISIBLE, distance / truth.sizes_px, np.inf)
        ids = [face.id for face in result.faces]
        kept = [
            (ids.index(face_id), person)
            for person, face_id in self.id_by_person.items()
            if face_id in ids and cost[ids.index(face_id), person] < SAME_PLACE
        ]
        for row, person in kept:
            cost[row, :] = np.inf
            cost[:, person] = np.inf
        rows, people = linear_sum_assignment(np.minimum(cost, 1e6))
        new = [(r, p) for r, p in zip(rows, people, strict=True) if cost[r, p] < SAME_PLACE]
        for row, person in new:
            before = self.id_by_person.get(person, ids[row])
            if before != ids[row]:
                self.switches.append((frame, person, before, ids[row]))
            self.id_by_person[person] = ids[row]
        self.visible += int((truth.visible >= VISIBLE).sum())
        self.matched += len(kept) + len(new)


@pytest.mark.parametrize("seed", [13, 14, 15, 16, 17])
def test_everybody_keeps_one_id(model_set, astronaut, seed):
    """None of these seeds was looked at while the tracker was made.

    Of the seeds 1 to 22, nineteen have no switch; 4, 10 and 20 have four in all: a face that slips
    onto one that the detector has not found yet, and two that hide while they look half hidden.
    """
    pipeline = FacePipeline(model_set, PipelineConfig())
    count = IdCount()
    for frame, (image, stamp_ns, truth) in enumerate(scene(astronaut, seed, SECONDS, hidden=True)):
        result = pipeline.process(image, stamp_ns)
        if frame >= SETTLED_FRAMES:
            count.add(frame, result, truth)
    pipeline.close()
    assert not count.switches
    assert len(set(count.id_by_person.values())) == PEOPLE
    assert count.matched / count.visible > 0.95


def test_the_scene_is_what_it_says(astronaut):
    """Everybody is covered by somebody at some time, and all are inside the image."""
    least = np.ones(PEOPLE)
    for index, (image, stamp_ns, truth) in enumerate(scene(astronaut, 1, SECONDS)):
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert stamp_ns == index * PERIOD_NS
        assert ((truth.middles_xy > 0) & (truth.middles_xy < (WIDTH, HEIGHT))).all()
        least = np.minimum(least, truth.visible)
    assert index + 1 == SECONDS * RATE_HZ
    assert np.count_nonzero(least < 0.5) >= PEOPLE // 2
