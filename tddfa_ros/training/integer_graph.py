"""From a network that rounds to an ONNX graph that computes in 8-bit integers.

The graph is in the form that ONNX Runtime documents for quantised networks: each convolution stands
between DequantizeLinear and QuantizeLinear, each linear layer of rounded values behind the former,
and becomes one operator on integers when it is loaded.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tddfa_ros.training.blocks import Residual
from tddfa_ros.training.quantise import WEIGHT_LIMIT, QuantisedConv2d


def folded(body: nn.Module) -> nn.Module:
    """A copy whose convolutions have their batch normalisation, and their rounding, in them."""
    body = copy.deepcopy(body)
    for module in list(body.modules()):
        if isinstance(module, Residual):
            module.second, module.norm = _fold(module.second, module.norm), nn.Identity()
        elif isinstance(module, nn.Sequential):
            for k in range(len(module) - 1):
                if isinstance(module[k], nn.Conv2d) and isinstance(module[k + 1], nn.BatchNorm2d):
                    module[k], module[k + 1] = _fold(module[k], module[k + 1]), nn.Identity()
    return body


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    assert conv.bias is None and conv.groups == 1 and conv.dilation == (1, 1)
    weight = conv.quantised_weight() if isinstance(conv, QuantisedConv2d) else conv.weight
    weight, bias = fuse_conv_bn_weights(
        weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    out = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding
    )
    with torch.no_grad():
        out.weight.copy_(weight)
        out.bias.copy_(bias)
    return out


def with_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, with integers as the weights of what sees rounded values; bytes as they come.

    Parameters
    ----------
    model : of a folded network that rounds; the first QuantizeLinear takes bytes less their middle
    """
    out = copy.deepcopy(model)
    graph = out.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    made_by = {output: node for node in graph.node for output in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        rounded = _rounded_input(node, made_by)
        if rounded is not None:
            input_scale = float(constants[rounded.input[1]])
            weight, bias = (constants[name].astype(np.float64) for name in node.input[1:])
            scales = np.abs(weight).reshape(len(weight), -1).max(axis=1) / WEIGHT_LIMIT
            # A bias counts in products of both scales: none may be so small that it overflows.
            scales = np.maximum(scales, np.abs(bias) / (input_scale * 2.0**30)).clip(1e-20)
            weights = np.rint((weight.T / scales).T).astype(np.int8)
            biases = np.rint(bias / (scales * input_scale)).astype(np.int32)
            integers = ((weights, scales), (biases, scales * input_scale))
            for k, (values, scale) in enumerate(integers, 1):
                nodes.append(_dequantised(graph, f"{node.output[0]}_{k}", values, scale))
                node.input[k] = nodes[-1].output[0]
        nodes.append(node)
    nodes = _without_float_bytes(nodes)
    used = {name for node in nodes for name in node.input} | {o.name for o in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(node for node in nodes if used & set(node.output))
    graph.initializer.extend(kept)
    onnx.checker.check_model(out, full_check=True)
    return out


def _rounded_input(
    node: onnx.NodeProto, made_by: dict[str, onnx.NodeProto]
) -> onnx.NodeProto | None:
    """What makes the input of a layer from integers; None of one that computes with others."""
    if node.op_type not in ("Conv", "Gemm"):
        return None
    maker = made_by.get(node.input[0])
    while maker is not None and maker.op_type == "Reshape":
        maker = made_by.get(maker.input[0])
    return maker if maker is not None and maker.op_type == "DequantizeLinear" else None


def _dequantised(
    graph: onnx.GraphProto, name: str, values: np.ndarray, scale: np.ndarray
) -> onnx.NodeProto:
    parts = {
        f"{name}_integers": values,
        f"{name}_scale": scale.astype(np.float32),
        f"{name}_zero": np.zeros(len(scale), values.dtype),
    }
    graph.initializer.extend(numpy_helper.from_array(part, key) for key, part in parts.items())
    return onnx.helper.make_node("DequantizeLinear", list(parts), [name], axis=0)


def _without_float_bytes(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The first convolution without the way of its bytes to floating point and back.

    That way changes nothing.
    """
    made_by = {output: node for node in nodes for output in node.output}
    first = next(node for node in nodes if node.op_type == "QuantizeLinear")
    difference = made_by[first.input[0]]
    cast = made_by[difference.input[0]]
    for node in nodes:
        for k, name in enumerate(node.input):
            if name == first.output[0]:
                node.input[k] = cast.input[0]
    return [node for node in nodes if node not in (first, difference)]
