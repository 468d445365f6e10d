"""Writer of ONNX graphs: nodes and constants, one call each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

_OPSET = 17
_IR_VERSION = 8


class OnnxGraph:
    """Nodes and constants of a graph under construction; each call returns a tensor's name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, output_name: str = "", **attributes: Any) -> str:
        """Add a node of one output, named `output_name` or after its operator."""
        name = output_name or f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: np.ndarray | np.generic) -> str:
        """Add a constant of the value's own dtype."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, value: np.ndarray) -> str:
        """Add a float32 constant."""
        return self.constant(np.ascontiguousarray(value, np.float32))

    def embed(self, graph: onnx.GraphProto, prefix: str) -> None:
        """Add all of another graph; its tensors get the prefix, its inputs must exist under it."""
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = prefix + (node.name or node.output[0])
            copy.input[:] = [name and prefix + name for name in node.input]
            copy.output[:] = [name and prefix + name for name in node.output]
            self._nodes.append(copy)
        for tensor in graph.initializer:
            constant = onnx.TensorProto()
            constant.CopyFrom(tensor)
            constant.name = prefix + tensor.name
            self._constants.append(constant)

    def relu(self, x: str) -> str:
        """Add max(x, 0)."""
        return self.add("Relu", x)

    def slice(self, x: str, start: int, end: int, *, axis: int, step: int = 1) -> str:
        """Add `x[start:end:step]` along one axis."""
        bounds = (self.constant(np.array([value])) for value in (start, end, axis, step))
        return self.add("Slice", x, *bounds)

    def conv(
        self, x: str, kernel: np.ndarray, bias: np.ndarray, *, stride: int = 1, group: int = 1
    ) -> str:
        """Convolution, padded to keep the size (before the stride)."""
        pad = kernel.shape[2] // 2
        return self.add(
            "Conv",
            x,
            self.weight(kernel),
            self.weight(bias),
            kernel_shape=kernel.shape[2:],
            strides=[stride, stride],
            pads=[pad] * 4,
            group=group,
        )

    def interleaved_conv(self, x: str, kernel: np.ndarray, bias: np.ndarray, stride: int) -> str:
        """Convolution of (n, 1, height, 3 width), the colours of each pixel side by side."""
        outputs, colours, rows, columns = kernel.shape
        pad = rows // 2
        flat = kernel.transpose(0, 2, 3, 1).reshape(outputs, 1, rows, columns * colours)
        return self.add(
            "Conv",
            x,
            self.weight(flat),
            self.weight(bias),
            kernel_shape=flat.shape[2:],
            strides=[stride, colours * stride],
            pads=[pad, colours * pad, pad, colours * pad],
        )

    def model(
        self, name: str, inputs: dict[str, tuple[int, list]], outputs: dict[str, tuple[int, list]]
    ) -> onnx.ModelProto:
        """Close the graph and check it; inputs and outputs are name -> (element type, shape)."""
        given, made = (
            [helper.make_tensor_value_info(key, *about) for key, about in side.items()]
            for side in (inputs, outputs)
        )
        model = helper.make_model(
            helper.make_graph(self._nodes, name, given, made, initializer=self._constants),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="tddfa_ros",
        )
        onnx.checker.check_model(model, full_check=True)
        return model
