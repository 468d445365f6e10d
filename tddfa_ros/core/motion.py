"""Where a followed face was, where its motion takes it, and how alike two places are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Bounds of the landmarks may grow or shrink by this factor between two frames.
SIZE_JUMP = 2.0
# A lost face is expected within this many face sizes of its extrapolated place, plus so many more
# a second.
REUNION_SIZES = 0.6
REUNION_SIZES_PER_S = 0.8


@dataclass(frozen=True)
class Motion:
    """Where a face was, and where to it moved.

    Attributes
    ----------
    stamp_ns : time of the image
    bounds_xyxy : (4,) float32, of the landmarks, pixels
    velocity_px_s : (2,) float64, of the centre of the bounds, pixels a second, averaged
    """

    stamp_ns: int
    bounds_xyxy: np.ndarray
    velocity_px_s: np.ndarray

    @property
    def size(self) -> float:
        """Geometric mean of the sides of the bounds, pixels."""
        return float(np.sqrt(centre_and_sides(self.bounds_xyxy)[1].prod()))

    def distance(self, centre: np.ndarray, stamp_ns: int) -> float:
        """Return how far `centre` is from where steady motion leads by then, in sizes."""
        seconds = (stamp_ns - self.stamp_ns) * 1e-9
        expected = centre_and_sides(self.bounds_xyxy)[0] + self.velocity_px_s * seconds
        return float(np.linalg.norm(centre - expected)) / self.size

    def continued(self, bounds_xyxy: np.ndarray, stamp_ns: int) -> Motion:
        """Return the motion with one more image."""
        seconds = (stamp_ns - self.stamp_ns) * 1e-9
        velocity = self.velocity_px_s
        if seconds > 0:
            moved = centre_and_sides(bounds_xyxy)[0] - centre_and_sides(self.bounds_xyxy)[0]
            # Averaged over about four frames, since landmarks jitter from each to the next.
            velocity = 0.75 * velocity + 0.25 * moved / seconds
        return Motion(stamp_ns, bounds_xyxy, velocity)

    def scaled(self, scale_xy: np.ndarray) -> Motion:
        """Return the motion in an image of another resolution."""
        bounds = self.bounds_xyxy * np.tile(scale_xy, 2)
        return Motion(self.stamp_ns, bounds, self.velocity_px_s * scale_xy)


def reunion_cost(
    seen_xyxy: np.ndarray, was_xyxy: np.ndarray, motion: Motion, stamp_ns: int, reach: float = 1.0
) -> float:
    """Distance from where a face is expected, in face sizes; infinite if it cannot be the same.

    It may have gone on or stopped, so it is expected anywhere between where it was and where its
    motion leads. `reach` widens how far from there it can be.
    """
    seen, seen_sides = centre_and_sides(seen_xyxy)
    was, was_sides = centre_and_sides(was_xyxy)
    ratio = float(np.sqrt(seen_sides.prod() / was_sides.prod()))
    if not 1 / SIZE_JUMP < ratio < SIZE_JUMP:
        return np.inf
    seconds = (stamp_ns - motion.stamp_ns) * 1e-9
    way = motion.velocity_px_s * seconds
    share = np.clip((seen - was) @ way / max(way @ way, 1e-9), 0.0, 1.0)
    distance = float(np.linalg.norm(seen - was - share * way) / np.sqrt(was_sides.prod()))
    possible = distance < reach * (REUNION_SIZES + REUNION_SIZES_PER_S * seconds)
    return distance if possible else np.inf


def bounds_of(landmarks: np.ndarray) -> np.ndarray:
    """(4,) xyxy bounds of landmarks, (k, 2 or more)."""
    xy = landmarks[:, :2]
    return np.concatenate([xy.min(axis=0), xy.max(axis=0)])


def centre_and_sides(box_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre, and width and height (never 0), each (2,) float64."""
    # As Python's own numbers: numpy takes six times as long over so few, many times an image.
    left, top, right, bottom = box_xyxy.tolist()
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    return centre, np.array([max(right - left, 1e-6), max(bottom - top, 1e-6)])


def iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    width = min(a_xyxy[2], b_xyxy[2]) - max(a_xyxy[0], b_xyxy[0])
    height = min(a_xyxy[3], b_xyxy[3]) - max(a_xyxy[1], b_xyxy[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = float(width * height)
    area_a = float((a_xyxy[2] - a_xyxy[0]) * (a_xyxy[3] - a_xyxy[1]))
    area_b = float((b_xyxy[2] - b_xyxy[0]) * (b_xyxy[3] - b_xyxy[1]))
    return shared / max(area_a + area_b - shared, 1e-9)
