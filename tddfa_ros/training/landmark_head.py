"""Landmark-regression regularisation: a second head while training, dropped at export.

Guo et al., "Towards fast, accurate and stable 3D dense face alignment", 2020, section 3.3.
"""

from __future__ import annotations

import torch
from torch import nn

from tddfa_ros.training.crops import CROP
from tddfa_ros.training.networks import RegressorNet


class LandmarkRegularised(nn.Module):
    """A regressor without looks, and a head that gives the landmarks from the same features.

    Only `net` is exported; the head's task shapes the features that both share.
    """

    def __init__(self, net: RegressorNet) -> None:
        super().__init__()
        self.net = net
        self.landmarks = nn.Linear(net.head.in_features, 2 * 68)
        nn.init.normal_(self.landmarks.weight, 0, 0.003)
        nn.init.zeros_(self.landmarks.bias)

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, 120, 120, 3) uint8 -> outputs (b, k), landmarks (b, 68, 2) in pixels of the crop."""
        features = self.net.features(crops)
        flat = self.landmarks(features).unflatten(1, (68, 2))
        return self.net.head(features), CROP / 2 * (1 + flat)


def landmark_loss(
    predicted: torch.Tensor, points: torch.Tensor, is_face: torch.Tensor
) -> torch.Tensor:
    """Mean squared distance in half crops, over the faces; scalar.

    Parameters
    ----------
    predicted : (b, 68, 2) pixels
    points : (b, p, 3) pixels, the first 68 being the landmarks
    is_face : (b,) 1 or 0
    """
    squared = ((predicted - points[:, :68, :2]) / (CROP / 2)).square().sum(dim=2).mean(dim=1)
    return (squared * is_face).sum() / is_face.sum().clamp(min=1)
