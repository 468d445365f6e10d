"""Second looks at a face: features where the fit so far says that its parts are.

The first fit sees a map of 4x4 places. From there on each look reads the finer maps at points of
the fitted face, and corrects the fit: cascaded regression as in Cao et al., "Face alignment by
explicit shape regression", 2012, with learned features as in Zhang et al., "PyMAF: 3D human pose
and shape regression with pyramidal mesh alignment feedback loop", 2021.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


class Reader(nn.Module):
    """Bilinear values of several maps at points of the crop; of the nearest place outside of a map.

    All maps are one table and are read together; :class:`camera_regressor.TableReader` does the
    same in the exported network.

    Parameters
    ----------
    maps : in the order of the table
    """

    def __init__(self, maps: Sequence[MapPlaces]) -> None:
        super().__init__()

        def each(values: Iterable[float]) -> torch.Tensor:
            return torch.tensor(list(values), dtype=torch.float32)

        size = each(of.size for of in maps)
        one = torch.ones_like(size)
        starts = torch.cat([torch.zeros(1), (size**2).cumsum(0)])
        self.total = int(starts[-1])
        corners = torch.stack([0 * one, one, size, size + 1]) + starts[:-1]
        constants = {
            "scale": each(1 / of.stride for of in maps)[:, None],
            "offset": each(-of.first / of.stride for of in maps)[:, None],
            # Just short of the last place, so that the next one is always there.
            "last": size[:, None] - 1.001,
            "step": torch.stack([one, size], dim=-1),
            # Of the four places around a point: where, and what shares of 0 leave of each.
            "corners": corners[:, None, None],
            "corner_x": torch.tensor([1.0, 0, 1, 0]).reshape(4, 1, 1, 1),
            "corner_y": torch.tensor([1.0, 1, 0, 0]).reshape(4, 1, 1, 1),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

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
        at = torch.minimum(torch.relu(points[:, :, None] * self.scale + self.offset), self.last)
        low = at.floor()
        x, y = (at - low).unbind(dim=-1)
        weights = (self.corner_x - x).abs() * (self.corner_y - y).abs()
        crops = torch.arange(len(points), device=points.device) * self.total
        rows = ((low * self.step).sum(dim=-1) + self.corners).long() + crops[:, None, None]
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
