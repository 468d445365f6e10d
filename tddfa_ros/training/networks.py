"""The networks: plain convolutions, which both train and run fast on a CPU."""

from __future__ import annotations

import torch
from torch import nn

from tddfa_ros.training.quantise import FakeQuantise, QuantisedConv2d, QuantisedReLU

POSE_OUTPUTS = 9
"""Two rows of the rotation (6), logarithm of the scale, shift (2)."""
PIXEL_MIDDLE, PIXEL_DEVIATION = 127.5, 64.0
"""Of byte values, as the detector takes them."""
CROP_PIXEL_MIDDLE = 128.0
"""Of the regressor's: a byte less this is an integer of 8 bits."""


def conv(
    channels_in: int, channels_out: int, size: int, stride: int, *, quantised: bool = False
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    kind, relu = (
        (QuantisedConv2d, QuantisedReLU()) if quantised else (nn.Conv2d, nn.ReLU(inplace=True))
    )
    return nn.Sequential(
        kind(channels_in, channels_out, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        relu,
    )


class Residual(nn.Module):
    """Two 3x3 convolutions over a narrower middle, added to the input; starts as identity."""

    def __init__(self, channels: int, middle: int, *, quantised: bool = False) -> None:
        super().__init__()
        self.first = conv(channels, middle, 3, 1, quantised=quantised)
        kind = QuantisedConv2d if quantised else nn.Conv2d
        self.second = kind(middle, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.branch = FakeQuantise(signed=True) if quantised else nn.Identity()
        self.sum = QuantisedReLU() if quantised else nn.ReLU(inplace=True)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, channels, h, w) -> the same shape."""
        return self.sum(x + self.branch(self.norm(self.second(self.first(x)))))


class RegressorNet(nn.Module):
    """A 120x120 crop to pose, coefficients and the logit of "this is a face".

    Costs 46 million multiplications, as the half-width MobileNet does.

    Parameters
    ----------
    shapes, expressions : numbers of coefficients
    """

    def __init__(self, shapes: int, expressions: int) -> None:
        super().__init__()
        self.shapes, self.expressions = shapes, expressions
        self.body = nn.Sequential(
            QuantisedConv2d(3, 32, 8, 4, 2, bias=False),
            nn.BatchNorm2d(32),
            QuantisedReLU(),
            conv(32, 64, 3, 2, quantised=True),
            Residual(64, 48, quantised=True),
            conv(64, 96, 3, 2, quantised=True),
            Residual(96, 96, quantised=True),
            conv(96, 192, 3, 2, quantised=True),
            Residual(192, 128, quantised=True),
        )
        # The head computes in floating point and takes the last sum as it is.
        self.body[-1].sum = nn.ReLU(inplace=True)
        self.head = nn.Linear(192 * 4 * 4, POSE_OUTPUTS + shapes + expressions + 1)
        nn.init.normal_(self.head.weight, 0, 0.003)
        with torch.no_grad():
            self.head.bias.zero_()
            self.head.bias[:6] = torch.tensor([1.0, 0, 0, 0, 1, 0])

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """(b, 120, 120, 3) uint8 BGR -> (b, outputs) float32."""
        features = self.features(crops)
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features)

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        """(b, 120, 120, 3) uint8 BGR -> (b, k) float32, what the heads see."""
        x = crops.permute(0, 3, 1, 2).float().sub_(CROP_PIXEL_MIDDLE).div_(PIXEL_DEVIATION)
        x = self.body(x.contiguous(memory_format=torch.channels_last))
        return x.float().flatten(1)


class DetectorNet(nn.Module):
    """A picture to a map of face scores and boxes, without anchors.

    The picture is halved, then features at strides 4 to 64 of the half are summed down to one map
    of stride 4 (8 pixels of the picture), so that small and large faces share it.
    """

    STRIDE = 8
    """Pixels of the picture between cells."""
    UNIT = 32.0
    """Pixels of the picture that a box side of logarithm 0 has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 8, 4, 2, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
        )
        self.levels = nn.ModuleList(
            [
                nn.Sequential(conv(32, 48, 3, 2), Residual(48, 32)),
                nn.Sequential(conv(48, 64, 3, 2), Residual(64, 64)),
                nn.Sequential(conv(64, 96, 3, 2), Residual(96, 64)),
                nn.Sequential(conv(96, 96, 3, 2), Residual(96, 64)),
            ]
        )
        self.across = nn.ModuleList([nn.Conv2d(c, 32, 1) for c in (32, 48, 64, 96, 96)])
        self.smooth = nn.ModuleList([conv(32, 32, 3, 1) for _ in range(2)])
        self.out = nn.Conv2d(32, 5, 1)
        nn.init.normal_(self.out.weight, 0, 0.01)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.bias[0] = -4.6

    def forward(self, halves: torch.Tensor) -> torch.Tensor:
        """Score and box of every cell.

        Parameters
        ----------
        halves : (b, h / 2, w / 2, 3) BGR, pictures at half their size

        Returns
        -------
        (b, 5, rows, columns): logit, centre offset (2) in cells from the cell's middle to the
        box's, x first, log size (2)
        """
        x = (halves.permute(0, 3, 1, 2).float() - PIXEL_MIDDLE) / PIXEL_DEVIATION
        features = [self.stem(x.contiguous(memory_format=torch.channels_last))]
        for level in self.levels:
            features.append(level(features[-1]))
        summed = self.across[-1](features[-1])
        for k in range(len(features) - 2, -1, -1):
            size = features[k].shape[-2:]
            summed = nn.functional.interpolate(summed, size=size, mode="nearest")
            summed = summed + self.across[k](features[k])
            if k in (0, 1):
                summed = self.smooth[k](summed)
        return self.out(summed.float())
