"""The weights of an exported detector, to train on from."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import nn

from tddfa_ros.core import model_set
from tddfa_ros.training.networks import DetectorNet
from tddfa_ros.training.together import TrainingError

SCENES_SEEN = "detector_scenes_seen"
"""In the provenance of a set."""


@torch.no_grad()
def unpack(net: DetectorNet, folder: str | Path) -> int:
    """Give a network the weights of a set's detector; returns how many scenes they have seen.

    The exported convolutions have taken in the normalisations behind them, so these are left with
    nothing but the bias: they must be held as they are (:func:`loop.keep_statistics`).

    Raises
    ------
    ModelSetError
        There is no such set, or it is damaged.
    TrainingError
        Its detector is not of this training, or of another version of the network.
    """
    known = model_set.load(folder)
    seen = model_set.read_description(folder).provenance.get(SCENES_SEEN)
    weights = _convolutions(onnx.load_from_string(known.detector_path.read_bytes()))
    own = {name: part for name, part in net.named_modules() if isinstance(part, nn.Conv2d)}
    if not isinstance(seen, int) or {name: w.shape for name, (w, _) in weights.items()} != {
        name: part.weight.shape for name, part in own.items()
    }:
        raise TrainingError(
            f"{folder}: its detector is not of this training, or of another version of the network"
        )
    for name, convolution in own.items():
        weight, bias = weights[name]
        convolution.weight.copy_(weight)
        if convolution.bias is not None:
            convolution.bias.copy_(bias)
            continue
        norm = net.get_submodule(_norm_behind(name))
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)
        norm.bias.copy_(bias)
    return seen


def _norm_behind(convolution: str) -> str:
    """Name of the normalisation behind a convolution, in the blocks of :mod:`blocks`."""
    parent, _, name = convolution.rpartition(".")
    return f"{parent}.{'norm' if name == 'second' else '1'}"


def _convolutions(model: onnx.ModelProto) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of each convolution by the name of its module."""
    values = {
        tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        for tensor in model.graph.initializer
    }
    return {
        _module_of(node.name): (values[node.input[1]], values[node.input[2]])
        for node in model.graph.node
        if node.op_type == "Conv" and len(node.input) == 3 and set(node.input[1:]) <= set(values)
    }


def _module_of(node: str) -> str:
    """``/net/levels.0/levels.0.1/first/first.0/Conv`` is of ``levels.0.1.first.0``."""
    path: list[str] = []
    for part in node.strip("/").split("/")[1:-1]:
        if path and part.startswith(path[-1] + "."):
            path.pop()
        path.append(part)
    return ".".join(path)
