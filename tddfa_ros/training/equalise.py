"""Cross-layer equalisation: channels of like range before one scale has to serve them all.

Between convolutions with ReLU a channel can be divided by a factor where it is written and
multiplied by it where it is read, and the network computes the same (Nagel et al., "Data-free
quantization through weight equalization and bias correction", 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from tddfa_ros.training import close_up
from tddfa_ros.training.aligned import READ_CHANNELS
from tddfa_ros.training.blocks import Residual
from tddfa_ros.training.networks import HEAD_PLACES, READ_LAYERS, RegressorNet
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
    writers : normalisations, of maps or of points, whose output is added to them
    places : where they are rounded
    readers : weights (out, channels, what there is of each) of what sees them: convolutions, looks,
        the head
    """

    writers: list[nn.BatchNorm2d | nn.BatchNorm1d]
    places: list[FakeQuantise]
    readers: list[torch.Tensor] = field(default_factory=list)


def streams(net: RegressorNet) -> list[Stream]:
    """All streams of a regressor, in the order of its layers."""
    body = list(net.body)
    stream = Stream([body[1]], [body[2].fake_quantise])
    found, read = [stream], []
    for k, layer in enumerate(body[2:], 2):
        if isinstance(layer, Residual):
            place = layer.first[2].fake_quantise
            found.append(Stream([layer.first[1]], [place], [layer.second.weight.flatten(2)]))
            stream.readers.append(layer.first[0].weight.flatten(2))
            stream.writers.append(layer.norm)
            stream.places += [m for m in layer.children() if isinstance(m, FakeQuantise)]
            stream.places += [m for m in layer.sum.children() if isinstance(m, FakeQuantise)]
        elif isinstance(layer, nn.Sequential):
            stream.readers.append(layer[0].weight.flatten(2))
            stream = Stream([layer[1]], [layer[2].fake_quantise])
            found.append(stream)
        if k in READ_LAYERS:
            read.append(stream)
    stream.readers.append(net.head.weight.unflatten(1, (-1, HEAD_PLACES)))
    for k, side in enumerate(net.sides, 1):
        read[k].readers.append(side[0].weight.flatten(2))
        read[k] = Stream([side[1]], [side[2].fake_quantise])
        found.append(read[k])
    for look in net.looks:
        parts = look.of_point[..., None].split(READ_CHANNELS, dim=1)
        for level, part in zip(read, parts, strict=True):
            level.readers.append(part)
        joined = look.joined[0]
        reader = joined.weight[:, : joined.parts[0], None]
        found.append(Stream([look.mix_norm], [look.rounded], [reader]))
    for close in net.close_ups:
        layers = list(close.body)
        readers = [layer[0].weight.flatten(2) for layer in layers[1:]]
        readers.append(close.hidden.weight.unflatten(1, (-1, close_up.PLACES)))
        found += [
            Stream([norm], [relu.fake_quantise], [reader])
            for (_, norm, relu), reader in zip(layers, readers, strict=True)
        ]
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
        for weight in stream.readers:
            weight.mul_(factors[:, None])
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
