"""Crops as they look in a mirror: half as many pictures need to be drawn."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tddfa_ros.training.crops import CROP
from tddfa_ros.training.landmarks import MIRROR_68
from tddfa_ros.training.rig import MODEL_SHAPES, Rig

_IN_MIRROR = (-1.0, 1.0, 1.0)


class Mirror(nn.Module):
    """Mirrors crops together with their truth.

    Parameters
    ----------
    rig : whose components are mirror-symmetric or the opposite of their mirror images
    dense_points : vertices behind the landmarks in the truth; each one's mirror image is among them
    expressions : number of leading expression components in the truth
    """

    def __init__(self, rig: Rig, dense_points: np.ndarray, expressions: int) -> None:
        super().__init__()
        row = {int(vertex): k for k, vertex in enumerate(dense_points)}
        dense = [68 + row[int(rig.mirror[vertex])] for vertex in dense_points]
        self.register_buffer("points", torch.tensor([*MIRROR_68, *dense]))
        self.register_buffer("signs", _shape_signs(rig))
        self.register_buffer("expressions", _expression_order(rig, expressions))
        axes = torch.tensor(_IN_MIRROR)
        self.register_buffer("axes", axes)
        # Pixels are counted from the middle of the first: it becomes the middle of the last.
        self.register_buffer("shift", torch.tensor([CROP - 1.0, 0, 0]))

    def forward(
        self, batch: dict[str, torch.Tensor], rows: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The batch with `rows` (b,) bool of it mirrored.

        Of its arrays, named as in :class:`crops.Batch`, crops, points, shape and expression change.
        """
        seen = {
            "crops": batch["crops"].flip(2),
            "points": batch["points"][:, self.points] * self.axes + self.shift,
            "shape": batch["shape"] * self.signs,
            "expression": batch["expression"][:, self.expressions],
        }
        chosen = {
            name: torch.where(rows.view(-1, *[1] * (value.ndim - 1)), value, batch[name])
            for name, value in seen.items()
        }
        return batch | chosen


def fit_in_mirror(rig: Rig, expressions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Order and signs (k,) that turn a fit into that of the mirrored crop.

    A fit here is two rows of its rotation, log scale, shift, and coefficients of shape and of
    `expressions` expression components: ``fit[:, order] * signs``. It lies a pixel to the right of
    the mirrored truth, as shifts count from CROP / 2 and the middle is half a pixel before that.
    """
    pose = torch.tensor([1.0, -1, -1, -1, 1, 1, 1, -1, 1])
    signs = torch.cat([pose, _shape_signs(rig), torch.ones(expressions)])
    coefficients = len(pose) + MODEL_SHAPES
    order = torch.cat(
        [torch.arange(coefficients), coefficients + _expression_order(rig, expressions)]
    )
    return order, signs


def _shape_signs(rig: Rig) -> torch.Tensor:
    basis = rig.shape_basis[:MODEL_SHAPES]
    turned = basis[:, rig.mirror] * np.array(_IN_MIRROR, np.float32)
    return torch.from_numpy(np.sign((basis * turned).sum(axis=(1, 2))).astype(np.float32))


def _expression_order(rig: Rig, expressions: int) -> torch.Tensor:
    names = [str(name) for name in rig.expression_names[:expressions]]
    return torch.tensor([names.index(_other_side(name)) for name in names])


def _other_side(name: str) -> str:
    for side, other in (("_left", "_right"), ("_right", "_left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name
