"""Rounding to 8 bits after the training, as the exported network computes.

Integer sums are exact, and faster than floating point. Weights have 7 bits: processors without the
VNNI instructions add two products in 16 bits, and 2 x 255 x 63 fits.

Scales and zero points as in Jacob et al., "Quantization and training of neural networks for
efficient integer-arithmetic-only inference", 2018. Training on with rounding was tried: it brought
nothing that :func:`equalise.equalise` and :func:`calibrate` had not.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import nn

ACTIVATION_LEVELS = 255
WEIGHT_LIMIT = 63
_RANGE_SHARES = (0.9999, 0.997, 0.999, 0.9998, 0.99997, 0.99999)
"""Of an activation's values that its range may hold, the first one to begin with: a few far ones
make all others coarse, and may matter or not."""
_LEAST_RANGE = 0.05
"""Of an activation: a residual branch may be shut."""
_QUANTILE_VALUES = 2_000_000
"""As many suffice to measure a range."""


class FakeQuantise(nn.Module):
    """Rounds activations to 256 values once :func:`calibrate` has found its range.

    Parameters
    ----------
    signed : whether they lie on both sides of 0
    """

    def __init__(self, *, signed: bool = False) -> None:
        super().__init__()
        self.zero_point = (ACTIVATION_LEVELS + 1) // 2 if signed else 0
        self.scale = 0.0  # A number: to read it from a GPU would be to wait for that.

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest values that the integers have; `x` itself before :func:`calibrate`."""
        if not self.scale:
            return x
        return torch.fake_quantize_per_tensor_affine(
            x, self.scale, self.zero_point, 0, ACTIVATION_LEVELS
        )

    def scales_for(self, x: torch.Tensor) -> torch.Tensor:
        """Scales with which the shares :data:`_RANGE_SHARES` of these values lie in range."""
        values = x.detach().float().abs().flatten()
        values = values[:: 1 + len(values) // _QUANTILE_VALUES]
        limits = torch.quantile(values, values.new_tensor(_RANGE_SHARES)).clamp(min=_LEAST_RANGE)
        return limits / (ACTIVATION_LEVELS - self.zero_point)


class QuantisedReLU(nn.Module):
    """ReLU, then :class:`FakeQuantise`."""

    def __init__(self) -> None:
        super().__init__()
        self.fake_quantise = FakeQuantise()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        return self.fake_quantise(torch.relu(x))


class QuantisedConv2d(nn.Conv2d):
    """Convolution whose weights are rounded, per output channel, after :func:`calibrate`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.quantised = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As a plain convolution does."""
        return self._conv_forward(x, self.quantised_weight(), self.bias)

    def quantised_weight(self) -> torch.Tensor:
        """The weights to compute with: (out, in, h, w)."""
        return rounded_weight(self.weight) if self.quantised else self.weight


class QuantisedLinear(nn.Linear):
    """Linear layer whose weights are rounded, per output, after :func:`calibrate`.

    Parameters
    ----------
    exact : of the inputs, the last ones, which are not rounded, and their weights neither
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, exact: int = 0) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.parts = [inputs - exact, exact]
        self.quantised = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As a plain layer does."""
        weight = torch.cat(self.quantised_weights(), dim=1) if self.quantised else self.weight
        return nn.functional.linear(x, weight, self.bias)

    def quantised_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights to compute with: (out, in) of the rounded inputs, and of the exact ones."""
        rounded, exact = self.weight.split(self.parts, dim=1)
        return rounded_weight(rounded) if self.quantised else rounded, exact


def rounded_weight(weight: torch.Tensor) -> torch.Tensor:
    """The nearest weights (out, ...) that the integers have."""
    scales = weight_scales(weight.detach())
    zero_points = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(
        weight, scales, zero_points, 0, -WEIGHT_LIMIT, WEIGHT_LIMIT
    )


def weight_scales(weight: torch.Tensor) -> torch.Tensor:
    """(out,) distance between two values of each output channel."""
    return weight.abs().flatten(1).amax(dim=1).clamp(min=1e-12) / WEIGHT_LIMIT


class Run:
    """What a network gave on some crops, and each of its modules that ran once.

    Attributes
    ----------
    answers : the network's output
    """

    def __init__(
        self,
        net: nn.Module,
        crops: torch.Tensor,
        known: dict[nn.Module, torch.Tensor] | None = None,
    ) -> None:
        self._net, self._crops = net, crops
        self._given: dict[nn.Module, torch.Tensor] = {}
        """In the order in which they ran."""
        ran_before: set[nn.Module] = set()

        def note(module: nn.Module, _: Any, output: torch.Tensor) -> None:
            if module in ran_before:
                self._given.pop(module, None)
            else:
                self._given[module] = output
            ran_before.add(module)

        with ExitStack() as stack:
            for module in net.modules():
                if not any(module.children()):
                    stack.callback(module.register_forward_hook(note).remove)
            for module, output in (known or {}).items():
                module.forward = partial(_given, output)
                stack.callback(delattr, module, "forward")
            self.answers = net(crops)

    def again_from(self, module: nn.Module) -> Run:
        """Run from a module on, as something about it has changed; the ones before it are known."""
        until = list(self._given).index(module)
        return Run(self._net, self._crops, dict(islice(self._given.items(), until)))


def _given(output: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return output


@torch.no_grad()
def calibrate(net: nn.Module, crops: torch.Tensor) -> None:
    """Round from now on, in ranges in which these crops' outputs change least.

    The ranges are sought one after the other, on the way through the network.

    Parameters
    ----------
    net : with :class:`FakeQuantise` in it, none of which rounds yet
    crops : its input, several
    """
    was_training = net.training
    exact = net.eval()(crops)
    deviation = exact.std(dim=0) + 1e-6
    places = [module for module in net.modules() if isinstance(module, FakeQuantise)]
    scales: list[torch.Tensor] = []
    hooks = [
        place.register_forward_pre_hook(lambda m, inputs: scales.append(m.scales_for(inputs[0])))
        for place in places
    ]
    net(crops)
    for hook in hooks:
        hook.remove()
    for place, (first, *_) in zip(places, scales, strict=True):
        place.scale = float(first)

    def change(run: Run) -> float:
        return float(((run.answers - exact) / deviation).square().mean())

    best = Run(net, crops)
    least = change(best)
    for place, (scale, *others) in zip(places, scales, strict=True):
        before = best
        for choice in others:
            place.scale = float(choice)
            run = before.again_from(place)
            if (changed := change(run)) < least:
                least, best, scale = changed, run, choice
        place.scale = float(scale)
    net.train(was_training)
    for module in net.modules():
        if isinstance(module, QuantisedConv2d | QuantisedLinear):
            module.quantised = True


def is_quantised(net: nn.Module) -> bool:
    """Whether it rounds."""
    return any(m.quantised for m in net.modules() if isinstance(m, QuantisedConv2d))
