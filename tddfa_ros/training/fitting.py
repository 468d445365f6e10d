"""The loss of fits: distances of points, and small terms on the coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from tddfa_ros.training.decoding import Fit

JAW_WEIGHT = 1.3
DENSE_WEIGHT = 0.35
DEPTH_WEIGHT = 0.6
SHAPE_WEIGHT, EXPRESSION_WEIGHT, FACE_WEIGHT = 0.004, 2.0, 0.01
"""Of the coefficients and the confidence beside the distance of points. Where expressions counted
a tenth or less of this, blinks and brows, which move few points by little, were hardly learned."""
CLOSURE_WEIGHT = 0.5
CLOSING = ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65))
"""Pairs of landmarks, upper and lower, of both eyes and of the lips."""


@dataclass(frozen=True)
class Loss:
    """The total and its parts, scalars; `nme` is the landmarks' error in percent."""

    total: torch.Tensor
    without_closure: torch.Tensor
    points: torch.Tensor
    closure: torch.Tensor
    expression: torch.Tensor
    face: torch.Tensor
    nme: torch.Tensor


class FitLoss(nn.Module):
    """Mean distance of points in units of the face's size, plus small terms on the coefficients.

    The distances tie pose, shape and expression together as they act on the picture; the terms
    on the coefficients give the expression components their meaning. How far lids and lips are
    apart counts by itself, wherever the eye or the mouth was found: the eye closure loss of Feng
    et al., "Learning an animatable detailed 3D face model from in-the-wild images", 2021.
    """

    def __init__(self, point_count: int) -> None:
        super().__init__()
        weights = torch.full((point_count,), DENSE_WEIGHT)
        weights[:68] = 1
        weights[:17] = JAW_WEIGHT
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("closing", torch.tensor(CLOSING).T.contiguous())
        self.register_buffer("axes", torch.tensor([1, 1, DEPTH_WEIGHT]))

    def distance(self, points: torch.Tensor, truth: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean weighted distance of (b, p, 3) points in units of the face's size; scalar."""
        distance = torch.sqrt((self._difference(points, truth["points"]) ** 2).sum(dim=2) + 0.01)
        error = distance @ self.weights / _size(truth["points"])
        return (error * truth["is_face"]).sum() / truth["is_face"].sum().clamp(min=1)

    def _difference(self, points: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        return (points - known) * self.axes

    def forward(self, fit: Fit, points: torch.Tensor, truth: dict[str, torch.Tensor]) -> Loss:
        """`truth` holds points, shape, expression and is_face as in :class:`crops.Batch`."""
        is_face, known = truth["is_face"], truth["points"]
        count = is_face.sum().clamp(min=1)
        size = _size(known)
        of_points = self.distance(points, truth)
        difference = self._difference(points, known)
        upper, lower = self.closing
        apart = difference[:, upper] - difference[:, lower]
        closure = torch.sqrt((apart**2).sum(dim=2) + 0.01).mean(dim=1) / size
        of_closure = (closure * is_face).sum() / count
        wrong_shape = functional.smooth_l1_loss(fit.shape, truth["shape"], reduction="none")
        # Squared up to 1. Most faces do not blink: linear from 0.2 on, the least loss was at the
        # most frequent value, none, and not at the mean.
        wrong_expression = functional.smooth_l1_loss(
            fit.expression, truth["expression"], reduction="none"
        )
        of_shape = (wrong_shape.mean(dim=1) * is_face).sum() / count
        of_expression = (wrong_expression.mean(dim=1) * is_face).sum() / count
        of_face = functional.binary_cross_entropy_with_logits(fit.logit, is_face)
        error = torch.linalg.norm((points - known)[:, :68, :2], dim=2).mean(dim=1) / size
        rest = (
            of_points
            + SHAPE_WEIGHT * of_shape
            + EXPRESSION_WEIGHT * of_expression
            + FACE_WEIGHT * of_face
        )
        return Loss(
            total=rest + CLOSURE_WEIGHT * of_closure,
            without_closure=rest,
            points=of_points.detach(),
            closure=of_closure.detach(),
            expression=of_expression.detach(),
            face=of_face.detach(),
            nme=100 * (error * is_face).sum().detach() / count,
        )


def _size(points: torch.Tensor) -> torch.Tensor:
    """(b,) square root of the area of the landmarks' bounds, pixels."""
    flat = points[:, :68, :2]
    return (flat.amax(dim=1) - flat.amin(dim=1)).prod(dim=1).clamp(min=1).sqrt()
