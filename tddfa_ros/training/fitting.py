"""From the regressor's outputs to rotation, camera, coefficients and points, and the loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tddfa_ros.training.crops import CROP
from tddfa_ros.training.networks import POSE_OUTPUTS
from tddfa_ros.training.rig import MODEL_SHAPES, Rig

USUAL_SCALE = 515.0
"""Pixels of the crop per metre of the face in an average crop."""
LOG_SCALE_LIMIT = 3.0
JAW_WEIGHT = 1.3
DENSE_WEIGHT = 0.35
DEPTH_WEIGHT = 0.6
SHAPE_WEIGHT, EXPRESSION_WEIGHT, FACE_WEIGHT = 0.004, 0.5, 0.01
"""Of the coefficients and the confidence beside the distance of points. With a tenth of this
expression weight blinks and brows, which move few points by little, are hardly learned."""
CLOSURE_WEIGHT = 0.5
CLOSING = ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65))
"""Pairs of landmarks, upper and lower, of both eyes and of the lips."""


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
    """The face model at the landmarks and the dense points only."""

    def __init__(self, rig: Rig, dense_points: np.ndarray, expressions: int) -> None:
        super().__init__()

        def at(field: np.ndarray) -> torch.Tensor:
            points = np.concatenate([rig.landmarks.of(field), field[..., dense_points, :]], axis=-2)
            return torch.from_numpy(np.ascontiguousarray(points, np.float32))

        self.register_buffer("mean", at(rig.mean))
        self.register_buffer("shape_basis", at(rig.shape_basis[:MODEL_SHAPES]).flatten(1))
        self.register_buffer("expression_basis", at(rig.expression_basis[:expressions]).flatten(1))

    def forward(self, fit: Fit) -> torch.Tensor:
        """(b, p, 3) pixels of the crop, y down, z to the viewer."""
        offset = fit.shape @ self.shape_basis + fit.expression @ self.expression_basis
        face = self.mean + offset.unflatten(1, (-1, 3))
        seen = torch.einsum("bij,bpj->bpi", fit.rotation, face) * fit.scale[:, None, None]
        flip = seen.new_tensor([1.0, -1.0])
        return torch.cat([seen[..., :2] * flip + fit.centre[:, None], seen[..., 2:]], dim=2)


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
        self.upper, self.lower = ([pair[k] for pair in CLOSING] for k in (0, 1))

    def distance(self, points: torch.Tensor, truth: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean weighted distance of (b, p, 3) points in units of the face's size; scalar."""
        distance = torch.sqrt((self._difference(points, truth["points"]) ** 2).sum(dim=2) + 0.01)
        error = distance @ self.weights / _size(truth["points"])
        return (error * truth["is_face"]).sum() / truth["is_face"].sum().clamp(min=1)

    @staticmethod
    def _difference(points: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        return (points - known) * points.new_tensor([1, 1, DEPTH_WEIGHT])

    def forward(self, fit: Fit, points: torch.Tensor, truth: dict[str, torch.Tensor]) -> Loss:
        """`truth` holds points, shape, expression and is_face as in :class:`crops.Batch`."""
        is_face, known = truth["is_face"], truth["points"]
        count = is_face.sum().clamp(min=1)
        size = _size(known)
        of_points = self.distance(points, truth)
        difference = self._difference(points, known)
        apart = difference[:, self.upper] - difference[:, self.lower]
        closure = torch.sqrt((apart**2).sum(dim=2) + 0.01).mean(dim=1) / size
        of_closure = (closure * is_face).sum() / count
        wrong_shape = functional.smooth_l1_loss(fit.shape, truth["shape"], reduction="none")
        wrong_expression = functional.smooth_l1_loss(
            fit.expression, truth["expression"], reduction="none", beta=0.2
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
