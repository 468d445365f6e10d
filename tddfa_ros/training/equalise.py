"""Cross-layer equalisation: channels of like range before one scale has to serve them all.

Between convolutions with ReLU a channel can be divided by a factor where it is written and
multiplied by it where it is read, and the network computes the same (Nagel et al., "Data-free
quantization through weight equalization and bias correction", 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from tddfa_ros.training.networks import RegressorNet, Residual
from tddfa_ros.training.quantise import FakeQuantise

_SHARE = 0.999
"""Of a channel's values that its range holds."""
_PART = 0.5
"""Exponent of the ranges' ratios: the rest of them stays with the activations. At 1 the weights,
which are read with the factors in them, lose more than the activations gain."""
_LEAST_RANGE = 1e-4


@dataclass
class Stream:
    """Channels that several layers write to and read from.

    Attributes
    ----------
    writers : normalisations whose output is added to them
    readers : convolutions, or the head, which see them
    places : where they are rounded
    """

    writers: list[nn.BatchNorm2d]
    places: list[FakeQuantise]
    readers: list[nn.Conv2d | nn.Linear] = field(default_factory=list)


def streams(net: RegressorNet) -> list[Stream]:
    """All streams of a regressor, in the order of its layers."""
    body = list(net.body)
    stream = Stream([body[1]], [body[2].fake_quantise])
    found = [stream]
    for layer in body[3:]:
        if isinstance(layer, Residual):
            inner = Stream([layer.first[1]], [layer.first[2].fake_quantise], [layer.second])
            found.append(inner)
            stream.readers.append(layer.first[0])
            stream.writers.append(layer.norm)
            stream.places += [m for m in layer.children() if isinstance(m, FakeQuantise)]
            stream.places += [m for m in layer.sum.children() if isinstance(m, FakeQuantise)]
        else:
            stream.readers.append(layer[0])
            stream = Stream([layer[1]], [layer[2].fake_quantise])
            found.append(stream)
    stream.readers.append(net.head)
    return found


@torch.no_grad()
def equalise(net: RegressorNet, crops: torch.Tensor) -> None:
    """Bring the ranges that channels have on these crops nearer to each other.

    The network computes the same as before.
    """
    was_training = net.training
    net.eval()
    for stream in streams(net):
        ranges = _ranges(net, stream.places, crops)
        factors = (ranges / ranges.log().mean().exp()) ** _PART
        for norm in stream.writers:
            norm.weight /= factors
            norm.bias /= factors
        for reader in stream.readers:
            # (out, channels, what there is of each): of the head, one for each place of the map.
            reader.weight.view(len(reader.weight), len(factors), -1).mul_(factors[:, None])
    net.train(was_training)


def _ranges(net: RegressorNet, places: list[FakeQuantise], crops: torch.Tensor) -> torch.Tensor:
    """(channels,) largest of the places' ranges."""
    ranges: list[torch.Tensor] = []

    def observe(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        values = inputs[0].float().abs().transpose(0, 1).flatten(1)
        ranges.append(torch.quantile(values, _SHARE, dim=1))

    hooks = [place.register_forward_pre_hook(observe) for place in places]
    net(crops)
    for hook in hooks:
        hook.remove()
    return torch.stack(ranges).amax(dim=0).clamp(min=_LEAST_RANGE)
