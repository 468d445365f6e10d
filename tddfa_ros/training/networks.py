"""The networks: plain convolutions, which both train and run fast on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tddfa_ros.training.quantise import RoundedConv2d, RoundedReLU, Rounding

POSE_OUTPUTS = 9
"""Two rows of the rotation (6), logarithm of the scale, shift (2)."""
PIXEL_MIDDLE, PIXEL_DEVIATION = 127.5, 64.0
"""Of byte values, as the detector takes them."""
CROP_PIXEL_MIDDLE = 128.0
"""Of the regressor's: a byte less this is an integer of 8 bits."""

SIZES: dict[str, tuple[int, tuple[tuple[int, ...], ...]]] = {
    "small": (32, ((48,), (96,), (128,))),
    "full": (48, ((48, 64), (96, 96, 96), (128, 128, 128))),
}
"""Of the regressor: channels of its first convolution, and the middles of the residual blocks of
each of its three resolutions. 46 and 103 million multiplications."""


def conv(
    channels_in: int, channels_out: int, size: int, stride: int, *, rounded: bool = False
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    kind, relu = (RoundedConv2d, RoundedReLU()) if rounded else (nn.Conv2d, nn.ReLU(inplace=True))
    return nn.Sequential(
        kind(channels_in, channels_out, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        relu,
    )


class Residual(nn.Module):
    """Two 3x3 convolutions over a narrower middle, added to the input; starts as identity."""

    def __init__(self, channels: int, middle: int, *, rounded: bool = False) -> None:
        super().__init__()
        self.first = conv(channels, middle, 3, 1, rounded=rounded)
        kind = RoundedConv2d if rounded else nn.Conv2d
        self.second = kind(middle, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.term = Rounding(signed=True) if rounded else nn.Identity()
        self.sum = RoundedReLU() if rounded else nn.ReLU(inplace=True)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, channels, h, w) -> the same shape."""
        return self.sum(x + self.term(self.norm(self.second(self.first(x)))))


class RegressorNet(nn.Module):
    """A 120x120 crop to pose, coefficients and the logit of "this is a face".

    Parameters
    ----------
    shapes, expressions : numbers of coefficients
    size : one of :data:`SIZES`
    """

    def __init__(self, shapes: int, expressions: int, size: str = "full") -> None:
        super().__init__()
        self.shapes, self.expressions = shapes, expressions
        stem, middles = SIZES[size]
        layers: list[nn.Module] = [
            RoundedConv2d(3, stem, 8, 4, 2, bias=False),
            nn.BatchNorm2d(stem),
            RoundedReLU(),
        ]
        for (before, channels), stage in zip(
            ((stem, 64), (64, 96), (96, 192)), middles, strict=True
        ):
            layers.append(conv(before, channels, 3, 2, rounded=True))
            layers += [Residual(channels, middle, rounded=True) for middle in stage]
        self.body = nn.Sequential(*layers)
        # The head computes in floating point and takes the last sum as it is.
        layers[-1].sum = nn.ReLU(inplace=True)
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


def size_of(state: dict[str, Any]) -> str:
    """Which of :data:`SIZES` a regressor with these weights has."""
    stem = len(state["body.0.weight"])
    return next(name for name, (channels, _) in SIZES.items() if channels == stem)


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
