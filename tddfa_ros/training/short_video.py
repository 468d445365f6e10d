"""A still becomes a short clip by motion in and out of the picture's plane; stability loss on it.

After Guo et al., "Towards fast, accurate and stable 3D dense face alignment", 2020, section 3.4.
All of a batch moves at once, where the batch is: on a GPU, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

_OUT_OF_PLANE_SHARE = 0.25
"""Of the clips; the others move in the picture's plane alone."""
_FIELD_STEP = 6
"""Pixels between the places for which a motion out of the plane is computed; it is smooth."""
_FIELD_POINTS = 60
"""As many points, about, tell it."""
_BLUR_REACH = 3
_LEAST_BLUR_PX = 0.2


@dataclass(frozen=True)
class Motion:
    """What changes from each still of a batch to its frame; all but the shift are (b,).

    Attributes
    ----------
    scale : factor about the centre
    roll_rad : turn in the plane, from x towards y (down)
    shift_px : (b, 2) x, y
    yaw_rad, pitch_rad : turn of the face out of the plane: to its left, and downwards
    blur_px : deviation of a Gaussian; below :data:`_LEAST_BLUR_PX` there is none
    noise : deviation of grey values

    Of what is None there is none in any frame.
    """

    scale: torch.Tensor
    roll_rad: torch.Tensor
    shift_px: torch.Tensor
    yaw_rad: torch.Tensor | None = None
    pitch_rad: torch.Tensor | None = None
    blur_px: torch.Tensor | None = None
    noise: torch.Tensor | None = None


def normal(chance: torch.Generator, deviation: float, count: int, *more: int) -> torch.Tensor:
    """(count, *more) normal values about 0, where the generator is."""
    return deviation * torch.randn(count, *more, generator=chance, device=chance.device)


def draw_motions(chance: torch.Generator, count: int, share: float = 0.5) -> Motion:
    """Motion of `count` faces after that share of a clip, which begins with the still itself."""
    out = torch.rand(count, generator=chance, device=chance.device) < _OUT_OF_PLANE_SHARE
    moves = share > 0
    return Motion(
        scale=torch.exp(share * normal(chance, 0.04, count)),
        roll_rad=share * normal(chance, 0.06, count),
        shift_px=share * normal(chance, 3.0, count, 2),
        yaw_rad=share * normal(chance, 0.1, count) * out,
        pitch_rad=share * normal(chance, 0.06, count) * out,
        blur_px=moves * normal(chance, 0.5, count).clamp(min=0),
        noise=moves * normal(chance, 3.0, count).clamp(min=0),
    )


def next_frames(
    chance: torch.Generator, stills: torch.Tensor, points: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The image after each still, as far on as in a video: pictures (b, h, w, 3), points."""
    return frames(chance, stills, points, draw_motions(chance, len(stills)))


def frames(
    chance: torch.Generator, stills: torch.Tensor, points: torch.Tensor, motion: Motion
) -> tuple[torch.Tensor, torch.Tensor]:
    """A frame of each still.

    Parameters
    ----------
    stills : (b, h, w, 3) uint8
    points : (b, p, 3) float32, pixels, y down, z to the viewer

    Returns
    -------
    Both after the motion, of the same shapes and types.
    """
    planes, points = moved(stills, points, motion)
    if motion.blur_px is not None:
        planes = _blurred(planes, motion.blur_px)
    if motion.noise is not None:
        noise = torch.randn(planes.shape, generator=chance, device=planes.device)
        planes = planes + noise * motion.noise[:, None, None, None]
    return to_bytes(planes), points


def moved(
    stills: torch.Tensor, points: torch.Tensor, motion: Motion
) -> tuple[torch.Tensor, torch.Tensor]:
    """Planes (b, 3, h, w) float32 of :func:`frames` before blur and noise, and the points.

    The picture follows the points: each pixel moves as the points near it do, less and less
    outside the face; then the whole moves in the plane.
    """
    height, width = stills.shape[1:3]
    centre = _centre(stills)
    turned = _turned(points, motion, centre)
    # Where in the still each pixel of the frame comes from.
    y, x = (torch.arange(n, dtype=torch.float32, device=stills.device) for n in (height, width))
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2)
    # The transpose of what turns by `roll` and grows by `scale` undoes it but for its size.
    back = _in_plane(motion) / motion.scale.square()[:, None, None]
    source = (pixels - _offset(motion, centre)[:, None, None]) @ back[:, None]
    if motion.yaw_rad is not None:
        field = _field(points[..., :2], turned[..., :2], (height, width))
        source = source + _sampled(field, source).permute(0, 2, 3, 1)
    planes = _sampled(stills.permute(0, 3, 1, 2).float(), source)
    return planes, _moved_in_plane(turned, motion, centre)


def to_bytes(planes: torch.Tensor) -> torch.Tensor:
    """Planes (b, 3, h, w) -> (b, h, w, 3) uint8."""
    return planes.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def moved_points(points: torch.Tensor, motion: Motion, centre: torch.Tensor) -> torch.Tensor:
    """(b, p, 3) points (pixels, y down, z to the viewer) of the frames from those of the stills."""
    return _moved_in_plane(_turned(points, motion, centre), motion, centre)


def _turned(points: torch.Tensor, motion: Motion, centre: torch.Tensor) -> torch.Tensor:
    if motion.yaw_rad is None or motion.pitch_rad is None:
        return points
    cy, sy = motion.yaw_rad.cos(), motion.yaw_rad.sin()
    cp, sp = motion.pitch_rad.cos(), motion.pitch_rad.sin()
    one, zero = torch.ones_like(cy), torch.zeros_like(cy)
    about_y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], dim=1).unflatten(
        1, (3, 3)
    )
    about_x = torch.stack([one, zero, zero, zero, cp, sp, zero, -sp, cp], dim=1).unflatten(
        1, (3, 3)
    )
    depth = points[..., 2].mean(dim=1, keepdim=True)
    pivot = torch.cat([centre.expand(len(points), 2), depth], dim=1)[:, None]
    return (points - pivot) @ (about_x @ about_y).transpose(1, 2) + pivot


def _moved_in_plane(points: torch.Tensor, motion: Motion, centre: torch.Tensor) -> torch.Tensor:
    flat = points[..., :2] @ _in_plane(motion).transpose(1, 2) + _offset(motion, centre)[:, None]
    return torch.cat([flat, points[..., 2:] * motion.scale[:, None, None]], dim=2)


def _centre(stills: torch.Tensor) -> torch.Tensor:
    height, width = stills.shape[1:3]
    return _pair((width - 1) / 2, (height - 1) / 2, stills.device)


def _pair(x: float, y: float, device: torch.device) -> torch.Tensor:
    """(2,), made on the device: a copy from here would wait for it."""
    return torch.cat([torch.full((1,), value, device=device) for value in (x, y)])


def _in_plane(motion: Motion) -> torch.Tensor:
    cosine, sine = motion.roll_rad.cos(), motion.roll_rad.sin()
    turn = torch.stack([cosine, -sine, sine, cosine], dim=1).unflatten(1, (2, 2))
    return motion.scale[:, None, None] * turn


def _offset(motion: Motion, centre: torch.Tensor) -> torch.Tensor:
    return centre + motion.shift_px - (_in_plane(motion) @ centre)


def _field(before: torch.Tensor, after: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(b, 2, h, w) pixels from each place back to where what is there was before.

    What was at `before` (b, p, 2) is at `after`.
    """
    every = max(1, before.shape[1] // _FIELD_POINTS)
    before, after = before[:, ::every], after[:, ::every]
    reach = 0.08 * (after.amax(dim=1) - after.amin(dim=1)).amax(dim=1)
    # The middles of the blocks of pixels, which interpolation takes them for.
    counts = [-(-side // _FIELD_STEP) for side in size]
    y, x = (
        (torch.arange(count, device=before.device) + 0.5) * (side / count) - 0.5
        for count, side in zip(counts, size, strict=True)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).flatten(0, 1)
    distance = (grid[None, :, None] - after[:, None]).square().sum(dim=3)
    near = torch.exp(-distance / (2 * reach.square())[:, None, None])
    back = (near @ (before - after)) / (near.sum(dim=2, keepdim=True) + 0.05)
    coarse = back.transpose(1, 2).unflatten(2, counts)
    return functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def _sampled(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Values of maps (b, c, h, w) at places (b, h, w, 2), pixels, x first; (b, c, h, w)."""
    height, width = maps.shape[2:]
    grid = places * _pair(2 / (width - 1), 2 / (height - 1), maps.device) - 1
    return functional.grid_sample(
        maps, grid, mode="bilinear", padding_mode="border", align_corners=True
    )


def _blurred(pictures: torch.Tensor, deviation_px: torch.Tensor) -> torch.Tensor:
    """Each picture (b, 3, h, w) with a Gaussian of its own."""
    count, channels = pictures.shape[:2]
    away = torch.arange(-_BLUR_REACH, _BLUR_REACH + 1, device=pictures.device)
    # So narrow that nothing but the pixel itself counts.
    narrow = torch.where(deviation_px > _LEAST_BLUR_PX, deviation_px, 0.05)
    weights = torch.exp(-away.square() / (2 * narrow.square())[:, None])
    weights = weights / weights.sum(dim=1, keepdim=True)
    kernels = (weights[:, :, None] * weights[:, None]).repeat_interleave(channels, dim=0)
    padded = functional.pad(pictures, (_BLUR_REACH,) * 4, mode="reflect")
    alone = padded.flatten(0, 1)[None]
    blurred = functional.conv2d(alone, kernels[:, None], groups=count * channels)
    return blurred[0].unflatten(0, (count, channels))


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
