"""A still becomes a short clip by motion in and out of the picture's plane; stability loss on it.

After Guo et al., "Towards fast, accurate and stable 3D dense face alignment", 2020, section 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch


@dataclass(frozen=True)
class Motion:
    """What changes from the still to one frame.

    Attributes
    ----------
    scale : factor about the centre
    roll_rad : turn in the plane, from x towards y (down)
    shift_px : (2,) x, y
    yaw_rad, pitch_rad : turn of the face out of the plane: to its left, and downwards
    blur_px : deviation of a Gaussian
    noise : deviation of grey values
    """

    scale: float = 1.0
    roll_rad: float = 0.0
    shift_px: tuple[float, float] = (0.0, 0.0)
    yaw_rad: float = 0.0
    pitch_rad: float = 0.0
    blur_px: float = 0.0
    noise: float = 0.0


def draw_motions(rng: np.random.Generator, frames: int) -> list[Motion]:
    """Smooth random motion over `frames` frames, the first of which is the still itself."""
    end = Motion(
        scale=float(np.exp(rng.normal(0, 0.04))),
        roll_rad=float(rng.normal(0, 0.06)),
        shift_px=tuple(rng.normal(0, 3.0, 2)),
        yaw_rad=float(rng.normal(0, 0.1)),
        pitch_rad=float(rng.normal(0, 0.06)),
    )
    motions = []
    for share in np.linspace(0, 1, frames):
        motions.append(
            Motion(
                scale=end.scale**share,
                roll_rad=end.roll_rad * share,
                shift_px=(end.shift_px[0] * share, end.shift_px[1] * share),
                yaw_rad=end.yaw_rad * share,
                pitch_rad=end.pitch_rad * share,
                blur_px=float(max(0, rng.normal(0, 0.5))) * (share > 0),
                noise=float(max(0, rng.normal(0, 3))) * (share > 0),
            )
        )
    return motions


def next_frames(
    rng: np.random.Generator, stills: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The image after each still, as far on as in a video: pictures (n, h, w, 3), points (n, p, 3).

    One of four moves out of the plane too, which takes several times as long.
    """
    pictures, moved = [], []
    for still, known in zip(stills, points, strict=True):
        motion = draw_motions(rng, 3)[1]
        if rng.random() > 0.25:
            motion = replace(motion, yaw_rad=0.0, pitch_rad=0.0)
        picture, after = frame(rng, still, known, motion)
        pictures.append(picture)
        moved.append(after)
    return np.stack(pictures), np.stack(moved)


def moved_points(points: np.ndarray, motion: Motion, centre: np.ndarray) -> np.ndarray:
    """(p, 3) points (pixels, y down, z to the viewer) of a frame from those of the still."""
    pivot = np.array([*centre, points[:, 2].mean()])
    turned = (points - pivot) @ _out_of_plane(motion).T + pivot
    flat = turned[:, :2] @ _in_plane(motion).T + _offset(motion, centre)
    return np.column_stack([flat, turned[:, 2] * motion.scale]).astype(np.float32)


def frame(
    rng: np.random.Generator, still: np.ndarray, points: np.ndarray, motion: Motion
) -> tuple[np.ndarray, np.ndarray]:
    """One frame (h, w, 3) uint8 and its points (p, 3).

    The picture follows the points: each pixel moves as the points near it do, less and less
    outside the face; then the whole moves in the plane.
    """
    height, width = still.shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    inner = Motion(yaw_rad=motion.yaw_rad, pitch_rad=motion.pitch_rad)
    picture = still
    if motion.yaw_rad or motion.pitch_rad:
        picture = _follow(still, points[:, :2], moved_points(points, inner, centre)[:, :2])
    if motion.scale != 1 or motion.roll_rad or any(motion.shift_px):
        matrix = np.column_stack([_in_plane(motion), _offset(motion, centre)])
        picture = cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    if motion.blur_px > 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), motion.blur_px)
    if motion.noise:
        noisy = picture + rng.standard_normal(picture.shape, np.float32) * np.float32(motion.noise)
        picture = np.clip(noisy, 0, 255).astype(np.uint8)
    return picture, moved_points(points, motion, centre)


def _out_of_plane(motion: Motion) -> np.ndarray:
    cy, sy = np.cos(motion.yaw_rad), np.sin(motion.yaw_rad)
    cp, sp = np.cos(motion.pitch_rad), np.sin(motion.pitch_rad)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return about_x @ about_y


def _in_plane(motion: Motion) -> np.ndarray:
    cosine, sine = np.cos(motion.roll_rad), np.sin(motion.roll_rad)
    return motion.scale * np.array([[cosine, -sine], [sine, cosine]])


def _offset(motion: Motion, centre: np.ndarray) -> np.ndarray:
    return centre + np.asarray(motion.shift_px) - _in_plane(motion) @ centre


def _follow(still: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Warp a picture so that what was at `before` comes to `after`."""
    height, width = still.shape[:2]
    # Some points, on a coarse grid: the field is smooth, and this is made for every training step.
    every = max(1, len(before) // 60)
    before, after = before[::every], after[::every]
    reach = 0.08 * float(np.ptp(after, axis=0).max())
    step = 6
    y, x = np.mgrid[0:height:step, 0:width:step]
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    distance = ((grid[:, None] - after[None]) ** 2).sum(axis=2)
    near = np.exp(-distance / (2 * reach**2))
    back = (near @ (before - after)) / (near.sum(axis=1, keepdims=True) + 0.05)
    field = cv2.resize(
        back.reshape(*y.shape, 2).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(
        still, x + field[..., 0], y + field[..., 1], cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE
    )


def stability_loss(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean distance of predicted from true motion between frames, in units of the face's size.

    Parameters
    ----------
    predicted, truth : (b, frames, p, 3) points

    Returns
    -------
    scalar; 0 when all errors are constant over the clip
    """
    flat = truth[..., :2]
    size = (flat.amax(dim=2) - flat.amin(dim=2)).prod(dim=2).clamp(min=1).sqrt()
    wrong = (predicted[:, 1:] - predicted[:, :-1]) - (truth[:, 1:] - truth[:, :-1])
    return (wrong.norm(dim=3).mean(dim=2) / size[:, 1:]).mean()
