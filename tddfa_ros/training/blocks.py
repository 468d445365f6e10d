"""What the networks are built of: plain convolutions, which both train and run fast on a CPU."""

from __future__ import annotations

import torch
from torch import nn

from tddfa_ros.training.quantise import FakeQuantise, QuantisedConv2d, QuantisedReLU


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
