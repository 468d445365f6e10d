"""Quantisation-aware training: the last part of a run sees what 8-bit integers will make of it.

The exported network computes in 8-bit integers, which takes half the time of floating point. Its
sums are exact, so they are the same on every machine. Weights have 7 bits: without the VNNI
instructions a processor adds pairs of products in 16 bits, and 2 x 255 x 63 is the most that fits.

Gradients pass a rounding as if it were not there ("straight-through", Bengio et al., 2013), and are
zero where a value lies beyond the range (Jacob et al., "Quantization and training of neural
networks for efficient integer-arithmetic-only inference", 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

ACTIVATION_LEVELS = 255
WEIGHT_LIMIT = 63
RANGES = (".step", ".rounded")
"""Endings of the names of what :func:`begin` sets in a network's state."""
_RANGE_SHARE = 0.9999
"""Of an activation's values that its range holds: a few far ones would make all others coarse."""
_QUANTILE_VALUES = 2_000_000
"""As many suffice to measure a range."""


class Rounding(nn.Module):
    """Rounds activations to 256 values, once :func:`begin` has measured their range.

    Parameters
    ----------
    signed : whether they lie on both sides of 0
    """

    def __init__(self, *, signed: bool = False) -> None:
        super().__init__()
        self.zero = (ACTIVATION_LEVELS + 1) // 2 if signed else 0
        self.register_buffer("step", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest values that the integers have; `x` itself before :func:`begin`."""
        step = float(self.step)
        if not step:
            return x
        if x.dtype != torch.float32:
            return self(x.float()).to(x.dtype)
        return torch.fake_quantize_per_tensor_affine(x, step, self.zero, 0, ACTIVATION_LEVELS)

    def fit(self, x: torch.Tensor) -> None:
        """Measure the range of these values."""
        values = x.detach().float().abs().flatten()
        values = values[:: 1 + len(values) // _QUANTILE_VALUES]
        limit = torch.quantile(values, _RANGE_SHARE).clamp(min=1e-6)
        self.step.copy_(limit / (ACTIVATION_LEVELS - self.zero))


class RoundedReLU(nn.Module):
    """ReLU, then :class:`Rounding`."""

    def __init__(self) -> None:
        super().__init__()
        self.rounding = Rounding()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        return self.rounding(torch.relu(x))


class RoundedConv2d(nn.Conv2d):
    """Convolution whose weights are rounded, each output channel on its own scale."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register_buffer("rounded", torch.zeros((), dtype=torch.bool))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As a plain convolution does."""
        return self._conv_forward(x, self.rounded_weight(), self.bias)

    def rounded_weight(self) -> torch.Tensor:
        """The weights to compute with: (out, in, h, w)."""
        if not self.rounded:
            return self.weight
        steps = weight_steps(self.weight.detach())
        zeros = torch.zeros_like(steps, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            self.weight, steps, zeros, 0, -WEIGHT_LIMIT, WEIGHT_LIMIT
        )


def weight_steps(weight: torch.Tensor) -> torch.Tensor:
    """(out,) distance between the values of each output channel."""
    return weight.abs().amax(dim=(1, 2, 3)).clamp(min=1e-12) / WEIGHT_LIMIT


def begin(
    net: nn.Module, crops: torch.Tensor, agree: Callable[[float], float] = lambda value: value
) -> None:
    """Round from now on, in ranges that these crops have.

    Parameters
    ----------
    net : with :class:`Rounding` in it
    crops : its input
    agree : the value of all processes for one's own, for those that train together
    """
    places = [module for module in net.modules() if isinstance(module, Rounding)]
    hooks = [
        place.register_forward_pre_hook(lambda module, inputs: module.fit(inputs[0]))
        for place in places
    ]
    was_training = net.training
    with torch.no_grad():
        net.eval()(crops)
    net.train(was_training)
    for hook in hooks:
        hook.remove()
    for place in places:
        place.step.fill_(agree(float(place.step)))
    for module in net.modules():
        if isinstance(module, RoundedConv2d):
            module.rounded.fill_(True)


def begun(net: nn.Module) -> bool:
    """Whether it rounds."""
    return any(bool(m.rounded) for m in net.modules() if isinstance(m, RoundedConv2d))
