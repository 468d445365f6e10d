"""What the regressor's outputs mean: rotation, camera, coefficients, and points of the face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tddfa_ros.training.crops import CROP
from tddfa_ros.training.rig import MODEL_SHAPES, Rig

POSE_OUTPUTS = 9
"""Two rows of the rotation (6), logarithm of the scale, shift (2)."""
USUAL_SCALE = 515.0
"""Pixels of the crop per metre of the face in an average crop."""
LOG_SCALE_LIMIT = 3.0


@dataclass(frozen=True)
class Fit:
    """Decoded outputs.

    Attributes
    ----------
    rotation : (b, 3, 3), face to camera, x right, y up, z to the viewer
    scale : (b,) pixels a metre
    centre : (b, 2) pixels of the crop, y down, where the face's origin lies
    shape, expression : (b, k)
    logit : (b,) of "this is a face"
    """

    rotation: torch.Tensor
    scale: torch.Tensor
    centre: torch.Tensor
    shape: torch.Tensor
    expression: torch.Tensor
    logit: torch.Tensor


def decode(outputs: torch.Tensor, shapes: int, expressions: int) -> Fit:
    """Split the outputs; the rotation is Gram-Schmidt of six numbers.

    Zhou et al., "On the continuity of rotation representations in neural networks", 2019.
    """
    shift = torch.tanh(outputs[:, 7:9] / 2)
    last = POSE_OUTPUTS + shapes + expressions
    return Fit(
        rotation=rotation_from_six(outputs[:, :6]),
        scale=USUAL_SCALE * torch.exp(outputs[:, 6].clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)),
        centre=CROP / 2 * (1 + shift),
        shape=outputs[:, POSE_OUTPUTS : POSE_OUTPUTS + shapes],
        expression=outputs[:, POSE_OUTPUTS + shapes : last],
        logit=outputs[:, last],
    )


def rotation_from_six(six: torch.Tensor) -> torch.Tensor:
    """(b, 6) -> (b, 3, 3) rotations, whose first two rows the six numbers point to."""
    first = functional.normalize(six[:, :3], dim=1, eps=1e-6)
    second = six[:, 3:] - (first * six[:, 3:]).sum(dim=1, keepdim=True) * first
    second = functional.normalize(second, dim=1, eps=1e-6)
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=1)], dim=1)


class PointModel(nn.Module):
    """The face model at some points only.

    Parameters
    ----------
    rig : whose face it is
    expressions : number of leading expression components
    points : from a field over the rig's vertices (..., n, 3) to these points (..., p, 3), linear
    """

    def __init__(
        self, rig: Rig, expressions: int, points: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        super().__init__()

        def at(field: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(points(field), np.float32))

        fields = {
            "mean": at(rig.mean),
            "shape_basis": at(rig.shape_basis[:MODEL_SHAPES]).flatten(1),
            "expression_basis": at(rig.expression_basis[:expressions]).flatten(1),
            "down": torch.tensor([1.0, -1.0]),
        }
        for name, value in fields.items():
            self.register_buffer(name, value, persistent=False)

    @classmethod
    def at_truth(cls, rig: Rig, dense_points: np.ndarray, expressions: int) -> PointModel:
        """The points whose truth the crops have: landmarks, then these vertices."""

        def points(field: np.ndarray) -> np.ndarray:
            return np.concatenate([rig.landmarks.of(field), field[..., dense_points, :]], axis=-2)

        return cls(rig, expressions, points)

    def forward(self, fit: Fit) -> torch.Tensor:
        """(b, p, 3) pixels of the crop, y down, z to the viewer."""
        offset = fit.shape @ self.shape_basis + fit.expression @ self.expression_basis
        face = self.mean + offset.unflatten(1, (-1, 3))
        seen = torch.einsum("bij,bpj->bpi", fit.rotation, face) * fit.scale[:, None, None]
        return torch.cat([seen[..., :2] * self.down + fit.centre[:, None], seen[..., 2:]], dim=2)
