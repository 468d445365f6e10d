"""The last look at a face: the pixels around each eye, upright and of one size.

The maps that the looks of :mod:`aligned` read have a place for every four pixels at best; whether
lids meet is told by fewer. Both eyes are seen by the same weights, the right one in a mirror.

What is seen answers by itself first, without the fit so far, and then both are weighed. As a mere
correction it hardly learned to see: what the fit tells of its own errors is learned at once.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tddfa_ros.training import expressions
from tddfa_ros.training.blocks import conv
from tddfa_ros.training.crops import CROP
from tddfa_ros.training.decoding import POSE_OUTPUTS, Fit, PointModel
from tddfa_ros.training.mirror import fit_in_mirror
from tddfa_ros.training.quantise import FakeQuantise
from tddfa_ros.training.rig import MODEL_SHAPES, Rig

EYES = (("left", slice(42, 48), 1.0), ("right", slice(36, 42), -1.0))
"""The subject's sides, their landmarks, and the direction in which a patch is read."""
OF_EYE = ("blink", "brow_raise", "brow_lower")
"""Expressions that a close-up tells of each eye."""
SIDE = 24
"""Samples on a side of a patch."""
_STEP_M, _UP_M = 0.002, 0.008
"""Between samples; from the middle of the eye to that of the patch, so that the brow is on it."""
_CHANNELS = (24, 32, 48, 64)
_HIDDEN, _WEIGHED = 64, 32
_DROPPED = 0.35
PLACES = (SIDE // 8) ** 2
"""Of an eye's last map."""


def point_model(rig: Rig, count: int) -> PointModel:
    """The middles of the eyes; `count` expression components."""

    def points(field: np.ndarray) -> np.ndarray:
        at = rig.landmarks.of(field)
        return np.stack([at[..., rows, :].mean(axis=-2) for _, rows, _ in EYES], axis=-2)

    return PointModel(rig, count, points)


def _offsets() -> torch.Tensor:
    """(eyes * SIDE * SIDE, 2) metres to the right and up from the middles, row by row."""
    along = (np.arange(SIDE) - (SIDE - 1) / 2) * _STEP_M
    x, y = np.meshgrid(along, _UP_M - along)
    grids = np.stack([np.stack([x * way, y], axis=-1) for _, _, way in EYES])
    return torch.from_numpy(grids.reshape(-1, 2).astype(np.float32))


class CloseUp(nn.Module):
    """What both eyes show.

    Parameters
    ----------
    rig : whose face is fitted
    count : its leading expression components, which are fitted
    """

    def __init__(self, rig: Rig, count: int) -> None:
        super().__init__()
        self.register_buffer("offsets", _offsets(), persistent=False)
        self.register_buffer("down", torch.tensor([1.0, -1.0]), persistent=False)
        order, signs = fit_in_mirror(rig, count)
        known = len(order)
        self.register_buffer("mirror_order", order, persistent=False)
        self.register_buffer("mirror_signs", signs, persistent=False)
        # Where each answer belongs among all outputs, the last of which is the confidence.
        names = [f"{name}_{side}" for side, _, _ in EYES for name in OF_EYE]
        columns = [POSE_OUTPUTS + MODEL_SHAPES + expressions.REGRESSED.index(n) for n in names]
        self.register_buffer("belongs", torch.eye(known + 1)[columns], persistent=False)
        self.rounded = FakeQuantise(signed=True)
        channels = (3, *_CHANNELS)
        self.body = nn.Sequential(
            *(
                conv(of, to, 3, 2 if k else 1, quantised=True)
                for k, (of, to) in enumerate(itertools.pairwise(channels))
            )
        )
        self.hidden = nn.Linear(_CHANNELS[-1] * PLACES, _HIDDEN)
        self.pose = nn.Linear(POSE_OUTPUTS, _HIDDEN, bias=False)
        self.dropout = nn.Dropout(_DROPPED)
        self.answer = nn.Linear(_HIDDEN, len(OF_EYE))
        self.weighed = nn.Linear(_HIDDEN + known, _WEIGHED)
        self.change = nn.Linear(_WEIGHED, len(OF_EYE))
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def places(self, middles: torch.Tensor, fit: Fit) -> torch.Tensor:
        """(b, eyes * SIDE, SIDE, 2) where to read, the crop's first pixel at -1, its last at 1.

        Parameters
        ----------
        middles : (b, eyes, 2) pixels of the crop
        """
        up = functional.normalize(fit.rotation[:, :2, 1], dim=1)
        # On the picture, whose y points down, right and up of the upright face.
        right = torch.stack([up[:, 1], up[:, 0]], dim=1)
        axes = torch.stack([right, up * self.down], dim=1)
        away = self.offsets @ (axes * fit.scale[:, None, None])
        at = away.unflatten(1, (len(EYES), -1)) + middles[:, :, None]
        return (at * (2 / (CROP - 1)) - 1).reshape(len(at), -1, SIDE, 2)

    def forward(
        self, pixels: torch.Tensor, places: torch.Tensor, known: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Look.

        Parameters
        ----------
        pixels : (b, 3, CROP, CROP)
        places : as :meth:`places` gives them
        known : (b, k), the fit so far without its confidence

        Returns
        -------
        answer, change : (b, k + 1) each, places of all outputs: the coefficients as the pixels and
            the pose alone tell them, and what to add to those of the fit
        """
        patches = functional.grid_sample(
            pixels, places, mode="bilinear", padding_mode="border", align_corners=True
        )
        eyes = patches.unflatten(2, (len(EYES), SIDE)).transpose(1, 2).flatten(0, 1)
        seen = self.dropout(self.body(self.rounded(eyes)).flatten(1).float())
        mirrored = known[:, self.mirror_order] * self.mirror_signs
        known = torch.stack([known, mirrored], dim=1).flatten(0, 1)
        with torch.autocast(pixels.device.type, enabled=False):
            hidden = torch.relu(self.hidden(seen) + self.pose(known[:, :POSE_OUTPUTS]))
            weighed = torch.relu(self.weighed(torch.cat([hidden, known], dim=1)))
            answer, change = (
                value.reshape(len(pixels), -1) @ self.belongs
                for value in (self.answer(hidden), self.change(weighed))
            )
        return answer, change
