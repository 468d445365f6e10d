"""Second looks at a face: features where the fit so far says that its parts are.

The first fit sees a map of 4x4 places. From there on each look reads the finer maps at points of
the fitted face, and corrects the fit: cascaded regression as in Cao et al., "Face alignment by
explicit shape regression", 2012, with learned features as in Zhang et al., "PyMAF: 3D human pose
and shape regression with pyramidal mesh alignment feedback loop", 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tddfa_ros.training.decoding import PointModel
from tddfa_ros.training.quantise import FakeQuantise, QuantisedLinear
from tddfa_ros.training.rig import Rig
from tddfa_ros.training.sight import spread_points

READ_CHANNELS = 32
"""Of each map."""
_SPREAD_POINTS, _SPREAD_USED = 60, 11
"""Vertices that are spread over the face, and how many of the first ones of each side are read."""
_HIDDEN_PER_POINT, _HIDDEN = 12, 128


def read_points(landmarks: np.ndarray) -> np.ndarray:
    """(..., k, 3) points to read at from landmarks (..., 68, 3): linear in them.

    The landmarks, points outside of the jaw and above the brows, and the middles of the lids.
    """
    bridge = landmarks[..., 27:31, :].mean(axis=-2, keepdims=True)
    jaw, brows = landmarks[..., 0:17:2, :], landmarks[..., 17:27, :]
    eyes = [landmarks[..., k : k + 6, :].mean(axis=-2, keepdims=True) for k in (36, 42)]
    above = [
        brow + 0.5 * (brow - eye)
        for brow, eye in zip((brows[..., :5, :], brows[..., 5:, :]), eyes, strict=True)
    ]
    lids = (landmarks[..., [37, 38, 43, 44], :] + landmarks[..., [41, 40, 47, 46], :]) / 2
    return np.concatenate([landmarks, jaw + 0.18 * (jaw - bridge), *above, lids], axis=-2)


def point_model(rig: Rig, expressions: int) -> PointModel:
    """Where the looks read."""
    spread = spread_points(rig, _SPREAD_POINTS).reshape(2, -1)[:, :_SPREAD_USED].ravel()

    def points(field: np.ndarray) -> np.ndarray:
        at_landmarks = read_points(rig.landmarks.of(field))
        return np.concatenate([at_landmarks, field[..., spread, :]], axis=-2)

    return PointModel(rig, expressions, points)


@dataclass(frozen=True)
class MapPlaces:
    """Where the places of a square map lie in the crop.

    Attributes
    ----------
    size : places on a side
    stride, first : pixels between them, and where the first one is
    """

    size: int
    stride: float
    first: float


class Corners(nn.Module):
    """The four places around a point, of maps that stand in a table row by row.

    Coordinates come before points, which are quicker to compute with so.

    Parameters
    ----------
    last : largest coordinate of each point, broadcast over (2, ...)
    steps : (2, ...) rows of the table from one place to the next, to the right and down
    first : (...) row of the table where each point's map begins
    """

    def __init__(self, last: torch.Tensor, steps: torch.Tensor, first: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("first", first, persistent=False)
        right, down = steps
        self.register_buffer("last", last, persistent=False)
        self.register_buffer("steps", steps, persistent=False)
        offsets = torch.stack([0 * right, right, down, right + down])
        self.register_buffer("corners", (offsets + first)[:, None].long(), persistent=False)
        # What |corner - part| leaves of each coordinate is the corner's share.
        away = torch.tensor([[1.0, 1], [0, 1], [1, 0], [0, 0]])
        self.register_buffer("away", away, persistent=False)

    def forward(self, at: torch.Tensor, starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the table and weights, (4, b, ...) each, of points (b, 2, ...), x first.

        `starts` are :meth:`starts` of the crops.
        """
        at = torch.minimum(torch.relu(at), self.last)
        low = at.floor()
        away = self.away.reshape(4, 1, 2, *[1] * (at.ndim - 2))
        shares = (away - (at - low)).abs()
        weights = shares[:, :, 0] * shares[:, :, 1]
        return (low * self.steps).sum(dim=1).long() + starts, weights

    def starts(self, numbers: torch.Tensor, places: int) -> torch.Tensor:
        """(4, b, ...): rows around the first place of each map.

        Parameters
        ----------
        numbers : (b,) int64, of the crops, from 0
        places : rows of the table that a crop has
        """
        first = (numbers * places).reshape(-1, *[1] * (self.corners.ndim - 2))
        return self.corners + first

    def spread(self, points: int) -> Corners:
        """The same for so many points, with constants that are not broadcast over them."""
        first = self.first.expand(points, -1)
        return Corners(self.last.expand_as(first), self.steps.expand(2, *first.shape), first)


class Reader(nn.Module):
    """Bilinear values of several maps at points of the crop; of the nearest place outside of a map.

    All maps are one table and are read together.

    Parameters
    ----------
    maps : in the order of the table; all begin at the same pixel

    Attributes
    ----------
    first : that pixel
    total : places of all maps
    """

    def __init__(self, maps: Sequence[MapPlaces]) -> None:
        super().__init__()
        (self.first,) = {of.first for of in maps}
        size = torch.tensor([[float(of.size) for of in maps]])
        areas = size**2
        self.total = int(areas.sum())
        scale = torch.tensor([[1 / of.stride for of in maps]])
        self.register_buffer("scale", scale, persistent=False)
        # Just short of the last place, so that the next one is always there.
        last, steps = size - 1.001, torch.stack([torch.ones_like(size), size])
        self.corners = Corners(last, steps, areas.cumsum(dim=1) - areas)

    def forward(self, table: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Read all maps.

        Parameters
        ----------
        table : (b, places of all maps, c)
        points : (b, p, 2) pixels of the crop, x first

        Returns
        -------
        (b, p, maps, c)
        """
        at = (points.transpose(1, 2)[..., None] - self.first) * self.scale
        numbers = torch.arange(len(points), device=points.device)
        rows, weights = self.corners(at, self.corners.starts(numbers, self.total))
        summed = functional.embedding_bag(
            rows.flatten(1).T.contiguous(),
            table.flatten(0, 1),
            per_sample_weights=weights.flatten(1).T.contiguous(),
            mode="sum",
        )
        return summed.unflatten(0, rows.shape[1:])


class Look(nn.Module):
    """One correction of the fit.

    Parameters
    ----------
    points : that are read
    maps : of :data:`READ_CHANNELS` channels that each one is read in
    outputs : of the fit
    """

    def __init__(self, points: int, maps: int, outputs: int) -> None:
        super().__init__()
        channels = maps * READ_CHANNELS
        # Weights of its own for each point: what is there is always the same part of the face.
        self.of_point = nn.Parameter(1 + 0.5 * torch.randn(points, channels))
        self.mix = nn.Linear(channels, _HIDDEN_PER_POINT, bias=False)
        self.mix_norm = nn.BatchNorm1d(points * _HIDDEN_PER_POINT)
        self.rounded = FakeQuantise()
        inputs = points * _HIDDEN_PER_POINT + outputs - 1
        self.joined = nn.Sequential(
            QuantisedLinear(inputs, _HIDDEN, bias=False, exact=outputs - 1),
            nn.BatchNorm1d(_HIDDEN),
        )
        self.change = nn.Linear(_HIDDEN, outputs)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, features: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Correct a fit.

        Parameters
        ----------
        features : (b, points, maps, channels)
        known : (b, outputs - 1), the fit without its confidence

        Returns
        -------
        (b, outputs), what to add
        """
        mixed = self.mix(features.flatten(2) * self.of_point).flatten(1)
        mixed = self.rounded(torch.relu(self.mix_norm(mixed)))
        return self.change(torch.relu(self.joined(torch.cat([mixed, known], dim=1))))
