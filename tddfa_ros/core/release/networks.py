"""Writes the two networks of a 3DDFA_V2 release as ONNX graphs, from their weights alone.

Batch normalisation is folded into the convolutions, and everything around a network that is the
same for each picture is part of its graph: pixel normalisation, de-normalisation of the regressed
parameters, prior boxes, their decoding and the filter of candidates.

Both graphs start alike. Moving the three colours of an interleaved image into planes would read
and write it once more; instead the image is taken as one plane of three times its width, over
which the first convolution steps three times as far with a kernel three times as wide.

Sources: MobileNets (Howard et al. 2017, arXiv:1704.04861) and FaceBoxes (Zhang et al. 2017,
arXiv:1708.05234), in the shapes that cleardusk/3DDFA_V2 gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto

from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.release.onnx_graph import OnnxGraph
from tddfa_ros.core.release.weights import Weights

# Block, its channels at width 1, stride.
_MOBILENET_BLOCKS = (
    ("dw2_1", 64, 1),
    ("dw2_2", 128, 2),
    ("dw3_1", 128, 1),
    ("dw3_2", 256, 2),
    ("dw4_1", 256, 1),
    ("dw4_2", 512, 2),
    ("dw5_1", 512, 1),
    ("dw5_2", 512, 1),
    ("dw5_3", 512, 1),
    ("dw5_4", 512, 1),
    ("dw5_5", 512, 1),
    ("dw5_6", 1024, 2),
    ("dw6", 1024, 1),
)
_MOBILENET_STEM = 32

_BLOCK = 16
_FACEBOXES_BGR_MEAN = (104, 117, 123)
_FACEBOXES_LEAST_SCORE = 0.05
_FACEBOXES_VARIANCES = (0.1, 0.2)
# Per level: pixels a cell, then (side of the prior, how many it is densified to along each axis).
_FACEBOXES_LEVELS = (
    (32, ((32, 4), (64, 2), (128, 1))),
    (64, ((256, 1),)),
    (128, ((512, 1),)),
)


def build_regressor(
    state_dict: Mapping[str, np.ndarray],
    param_mean: np.ndarray,
    param_std: np.ndarray,
    size: int = 120,
) -> onnx.ModelProto:
    """Write a MobileNetV1 regressor; its width is read off the weights.

    Parameters
    ----------
    state_dict : name -> float32 array; a prefix ``module.`` is dropped, ``fc`` may be called
        ``fc_param``, the landmark head ``fc_lm`` of the release is not used
    param_mean, param_std : (p,) float32, of the network's p outputs
    size : side of the network's input, pixels

    Returns
    -------
    onnx.ModelProto
        Input ``crops`` uint8 (n, size, size, 3) BGR; output ``params`` float32 (n, p), not
        normalised: camera (3, 4) row-major, shape, expression.

    Raises
    ------
    ModelSetError
        A weight is missing, unknown, of the wrong shape or not finite.
    """
    weights = Weights("regressor", state_dict)
    graph = OnnxGraph()
    width = weights.rows("conv1.weight") / _MOBILENET_STEM
    param_mean, param_std = (np.asarray(a, np.float64) for a in (param_mean, param_std))
    if param_mean.ndim != 1 or param_mean.shape != param_std.shape:
        raise ModelSetError(
            f"regressor: param_mean is {param_mean.shape}, param_std {param_std.shape}; expected "
            "two vectors of one length: take both from the same param_mean_std file"
        )

    pixels = graph.add("Reshape", "crops", graph.constant(np.array([0, 1, size, 3 * size])))
    pixels = graph.add("Cast", pixels, to=TensorProto.FLOAT)
    pixels = graph.add("Sub", pixels, graph.constant(np.float32(127.5)))
    channels = int(_MOBILENET_STEM * width)
    kernel, bias = weights.folded("conv1", "bn1", (channels, 3, 3, 3))
    x = graph.relu(graph.interleaved_conv(pixels, kernel / 128, bias, stride=2))
    for name, base, stride in _MOBILENET_BLOCKS:
        depthwise = weights.folded(f"{name}.conv_dw", f"{name}.bn_dw", (channels, 1, 3, 3))
        x = graph.relu(graph.conv(x, *depthwise, stride=stride, group=channels))
        shape = (int(base * width), channels, 1, 1)
        x = graph.relu(graph.conv(x, *weights.folded(f"{name}.conv_sep", f"{name}.bn_sep", shape)))
        channels = shape[0]
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))

    head = "fc_param" if "fc_param.weight" in weights else "fc"
    count = len(param_mean)
    matrix = weights.take(f"{head}.weight", (count, channels)) * param_std[:, None]
    offset = weights.take(f"{head}.bias", (count,)) * param_std + param_mean
    weights.finish(unused=("fc_lm.weight", "fc_lm.bias"))
    graph.add("Gemm", x, graph.weight(matrix), graph.weight(offset), transB=1, output_name="params")
    return graph.model(
        "mobilenet_v1",
        {"crops": (TensorProto.UINT8, ["n", size, size, 3])},
        {"params": (TensorProto.FLOAT, ["n", count])},
    )


def build_detector(state_dict: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Write FaceBoxes with its prior boxes.

    Parameters
    ----------
    state_dict : name -> float32 array; a prefix ``module.`` is dropped

    Returns
    -------
    onnx.ModelProto
        Input ``image`` uint8 (height, width, 3) BGR, sizes free; outputs ``boxes_xyxy`` float32
        (n, 4), pixels of that image, not clipped, and ``scores`` float32 (n,): all candidates
        above 0.05, in no particular order, before non-maximum suppression.

    Raises
    ------
    ModelSetError
        A weight is missing, unknown, of the wrong shape or not finite.
    """
    weights = Weights("detector", state_dict)
    graph = OnnxGraph()

    def basic(x: str, name: str, outputs: int, inputs: int, side: int = 1, stride: int = 1) -> str:
        shape = (outputs, inputs, side, side)
        kernel, bias = weights.folded(f"{name}.conv", f"{name}.bn", shape)
        return graph.relu(graph.conv(x, kernel, bias, stride=stride))

    # (x - mean) and not a bias in the convolution: beyond the border it has to see zeros.
    width = graph.add("Shape", "image", start=1, end=2)
    mean = graph.constant(np.array(_FACEBOXES_BGR_MEAN, np.float32))
    x = graph.add("Unsqueeze", "image", graph.constant(np.array([0, 1])))
    x = graph.add("Reshape", x, graph.constant(np.array([0, 0, 0, -1])))
    x = graph.add("Cast", x, to=TensorProto.FLOAT)
    x = graph.add("Sub", x, graph.add("Tile", mean, width))

    kernel, bias = weights.folded("conv1.conv", "conv1.bn", (24, 3, 7, 7))
    x, order = _pooled_crelu(graph, graph.interleaved_conv, x, kernel, bias, stride=4)
    kernel, bias = weights.folded("conv2.conv", "conv2.bn", (64, 48, 5, 5))
    x, _ = _pooled_crelu(graph, graph.conv, x, kernel[:, order], bias, stride=2)

    for number in (1, 2, 3):
        name = f"inception{number}."
        pooled = graph.add(
            "AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
        )
        reduced = basic(x, f"{name}branch3x3_reduce", 24, 128)
        reduced_2 = basic(x, f"{name}branch3x3_reduce_2", 24, 128)
        deep = basic(reduced_2, f"{name}branch3x3_2", 32, 24, side=3)
        x = graph.add(
            "Concat",
            basic(x, f"{name}branch1x1", 32, 128),
            basic(pooled, f"{name}branch1x1_2", 32, 128),
            basic(reduced, f"{name}branch3x3", 32, 24, side=3),
            basic(deep, f"{name}branch3x3_3", 32, 32, side=3),
            axis=1,
        )
    levels = [(x, 128)]
    for name, inputs in (("conv3", 128), ("conv4", 256)):
        x = basic(x, f"{name}_1", 128, inputs)
        x = basic(x, f"{name}_2", 256, 128, side=3, stride=2)
        levels.append((x, 256))

    candidates = [
        _candidates(graph, features, *_head(weights, level, channels), level)
        for level, (features, channels) in enumerate(levels)
    ]
    weights.finish()
    _decoded(graph, candidates)
    return graph.model(
        "faceboxes",
        {"image": (TensorProto.UINT8, ["height", "width", 3])},
        {"boxes_xyxy": (TensorProto.FLOAT, ["n", 4]), "scores": (TensorProto.FLOAT, ["n"])},
    )


def _pooled_crelu(
    graph: OnnxGraph,
    conv: Callable[..., str],
    x: str,
    kernel: np.ndarray,
    bias: np.ndarray,
    stride: int,
) -> tuple[str, np.ndarray]:
    """Add y = conv(x) and the 3x3/2 maximum of relu(y) and relu(-y).

    ONNX Runtime keeps data in blocks of up to 16 channels as long as every operator has whole ones
    to work on. So the last block of y is filled up with negated channels, the others are negated by
    a convolution, and the maximum comes first, which leaves a quarter as much to rectify.

    Returns
    -------
    the result's name and, for each of its channels, which one of (y, -y) it is
    """
    count = len(kernel)
    filled = -count % _BLOCK
    rest = count - filled
    kernel, bias = (np.concatenate([part, -part[rest:]]) for part in (kernel, bias))
    y = conv(x, kernel, bias, stride=stride)
    if filled:
        negation = -np.eye(rest, count + filled)[:, :, None, None]
        negative = graph.conv(y, negation, np.zeros(rest))
    else:
        negative = graph.conv(y, np.full((rest, 1, 1, 1), -1.0), np.zeros(rest), group=rest)
    pooled = (
        graph.add("MaxPool", part, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        for part in (y, negative)
    )
    order = np.r_[:count, count + rest : 2 * count, count : count + rest]
    return graph.relu(graph.add("Concat", *pooled, axis=1)), order


def _priors(level: int) -> tuple[np.ndarray, np.ndarray]:
    """(p, 2) centres x, y relative to a cell's origin and (p,) sides, pixels, of one cell."""
    cell, kinds = _FACEBOXES_LEVELS[level]
    centres, sides = [], []
    for side, dense in kinds:
        # Those that are not densified lie in the middle of a cell, the others start at its origin.
        along = [cell / 2] if dense == 1 else [cell * step / dense for step in range(dense)]
        centres += [(x, y) for y in along for x in along]
        sides += [side] * dense**2
    return np.array(centres, np.float64), np.array(sides, np.float64)


def _head(weights: Weights, level: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of one level's head: 5 groups of p channels.

    The groups are centre x, y relative to the cell and log of half the width, height, in pixels,
    and the log of the odds that it is a face: all that is linear in the decoding is folded in.
    """
    centres, sides = _priors(level)
    count = len(sides)
    loc = weights.take(f"loc.{level}.weight", (4 * count, channels, 3, 3))
    loc = loc.reshape(count, 4, channels, 3, 3).transpose(1, 0, 2, 3, 4)
    loc_bias = weights.take(f"loc.{level}.bias", (4 * count,)).reshape(count, 4).T
    conf = weights.take(f"conf.{level}.weight", (2 * count, channels, 3, 3))
    conf_bias = weights.take(f"conf.{level}.bias", (2 * count,))

    centre_variance, size_variance = _FACEBOXES_VARIANCES
    scale = np.stack([centre_variance * sides] * 2 + [np.full(count, size_variance)] * 2)
    offset = np.stack([*centres.T, np.log(sides / 2), np.log(sides / 2)])
    kernel = np.concatenate([*(loc * scale[:, :, None, None, None]), conf[1::2] - conf[::2]])
    bias = np.concatenate([*(loc_bias * scale + offset), conf_bias[1::2] - conf_bias[::2]])
    return kernel, bias


def _candidates(
    graph: OnnxGraph, features: str, kernel: np.ndarray, bias: np.ndarray, level: int
) -> tuple[str, str]:
    """Add one level's head; names of (2, n) centres and (3, n) log half sizes and log odds."""
    least_odds = np.log(_FACEBOXES_LEAST_SCORE / (1 - _FACEBOXES_LEAST_SCORE))
    count = len(bias) // 5
    head = graph.conv(features, kernel, bias)
    odds = graph.slice(head, 4 * count, 5 * count, axis=1)
    above = graph.add("Greater", odds, graph.constant(np.float32(least_odds)))
    # Rows of the indices are batch, prior, cell's row, cell's column; the last two give x, y.
    cells = graph.slice(graph.add("NonZero", above), 3, 1, axis=0, step=-1)
    cell_size = graph.constant(np.float32(_FACEBOXES_LEVELS[level][0]))
    origins = graph.add("Mul", graph.add("Cast", cells, to=TensorProto.FLOAT), cell_size)
    values = graph.add(
        "Compress",
        graph.add("Reshape", head, graph.constant(np.array([5, -1]))),
        graph.add("Reshape", above, graph.constant(np.array([-1]))),
        axis=1,
    )
    centres = graph.add("Add", graph.slice(values, 0, 2, axis=0), origins)
    return centres, graph.slice(values, 2, 5, axis=0)


def _decoded(graph: OnnxGraph, candidates: list[tuple[str, str]]) -> None:
    """Add the decoding of all levels' candidates and the graph's outputs."""
    centres = graph.add("Concat", *(c for c, _ in candidates), axis=1)
    rest = graph.add("Concat", *(r for _, r in candidates), axis=1)
    halves = graph.add("Exp", graph.slice(rest, 0, 2, axis=0))
    corners = graph.add(
        "Concat", graph.add("Sub", centres, halves), graph.add("Add", centres, halves), axis=0
    )
    graph.add("Transpose", corners, perm=[1, 0], output_name="boxes_xyxy")
    odds = graph.add("Reshape", graph.slice(rest, 2, 3, axis=0), graph.constant(np.array([-1])))
    graph.add("Sigmoid", odds, output_name="scores")
