"""Writes the networks as ONNX."""

from __future__ import annotations

import copy
import io
import itertools
import warnings

import onnx
import torch
from torch import nn

from tddfa_ros.training import integer_graph, quantise
from tddfa_ros.training.aligned import READ_CHANNELS, Look
from tddfa_ros.training.crops import CROP
from tddfa_ros.training.decoding import LOG_SCALE_LIMIT, USUAL_SCALE
from tddfa_ros.training.networks import (
    CROP_PIXEL_MIDDLE,
    PIXEL_DEVIATION,
    READ_LAYERS,
    DetectorNet,
    RegressorNet,
    narrowed,
    table_of,
)
from tddfa_ros.training.train_detector import peaks

_OPSET = 17
_PIXEL_SHIFT = 1.25
"""The camera of the model set counts pixels from 1 and a crop's pixel has its centre half a pixel
inside; a quarter is left for regions about twice as large as the crop, the usual case."""


class CameraRegressor(nn.Module):
    """The regressor with its outputs put together as the model set has them.

    It computes what :func:`decoding.decode` says in a third of the operators: at the pace of a
    camera each one costs several microseconds, however little it computes.
    """

    def __init__(self, net: RegressorNet) -> None:
        super().__init__()
        net = copy.deepcopy(net)
        coefficients = net.shapes + net.expressions
        self.sizes = [3, 3, 1, 2, coefficients, 1]
        self.quantised = quantise.is_quantised(net)
        self.body, self.sides = (integer_graph.folded(part) for part in (net.body, net.sides))
        self.head, self.reader = net.head, net.reader
        with torch.no_grad():
            self.body[0].weight /= PIXEL_DEVIATION
            self.looks = nn.ModuleList(FoldedLook(look) for look in net.looks)
        model = net.read_points
        self.register_buffer("mean", model.mean.flatten())
        self.register_buffer("basis", torch.cat([model.shape_basis, model.expression_basis]))
        # Products of the first two rows whose differences are the third, the cross product.
        self.register_buffer("left", torch.tensor([1, 2, 0, 2, 0, 1]))
        self.register_buffer("right", torch.tensor([5, 3, 4, 4, 5, 3]))
        self.register_buffer("difference", torch.cat([torch.eye(3), -torch.eye(3)]))
        # From rotation times scale, shift and coefficients to camera and coefficients.
        place = torch.zeros(11 + coefficients, 12 + coefficients)
        for row, column in itertools.product(range(3), range(3)):
            place[3 * row + column, 4 * row + column] = 1
        place[9, 3], place[10, 7] = CROP / 2, -CROP / 2
        place[11:, 12:] = torch.eye(coefficients)
        offset = torch.zeros(12 + coefficients)
        offset[3], offset[7] = CROP / 2 + _PIXEL_SHIFT, CROP / 2 - (_PIXEL_SHIFT - 1)
        self.register_buffer("place", place)
        self.register_buffer("offset", offset)
        self.register_buffer("flip", USUAL_SCALE * torch.tensor([1.0, 1, 1, -1, -1, -1]))

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops -> params (b, 12 + coefficients), confidence (b,)."""
        pixels = crops.permute(0, 3, 1, 2).float() - CROP_PIXEL_MIDDLE
        if self.quantised:  # To the integers that they are: the convolution takes no others.
            pixels = torch.fake_quantize_per_tensor_affine(pixels, 1.0, 128, 0, 255)
        maps = []
        for k, layer in enumerate(self.body):
            pixels = layer(pixels)
            if k in READ_LAYERS:
                maps.append(pixels)
        return self.fit(narrowed(maps, self.sides) if self.looks else [], pixels)

    def fit(
        self, maps: list[torch.Tensor], last: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What comes of the maps that looks read, and the last one, as :meth:`forward` gives it."""
        outputs = self.head(last.flatten(1))
        if self.looks:
            table = table_of(maps).reshape(-1, READ_CHANNELS)
            starts = self.reader.starts(last.shape[0])
        for look in self.looks:
            outputs = outputs + self._looked(look, table, starts, outputs)
        rows, log_scale, shift, coefficients, logit = self._decoded(outputs)
        third = (rows[:, self.left] * rows[:, self.right]) @ self.difference
        rotation = torch.cat([rows, third], dim=1) * (_exp(log_scale) * USUAL_SCALE)
        params = torch.addmm(
            self.offset,
            torch.cat([rotation, torch.tanh(shift / 2), coefficients], dim=1),
            self.place,
        )
        return params, torch.sigmoid(logit).squeeze(1)

    def _decoded(self, outputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Two rows of the rotation (b, 6), then the outputs behind them as they are, in parts."""
        first, second, *rest = torch.split(outputs, self.sizes, dim=1)
        first = first / torch.linalg.vector_norm(first, dim=1, keepdim=True)
        second = second - (first * second).sum(dim=1, keepdim=True) * first
        second = second / torch.linalg.vector_norm(second, dim=1, keepdim=True)
        return torch.cat([first, second], dim=1), *rest

    def _looked(
        self, look: FoldedLook, table: torch.Tensor, starts: torch.Tensor, outputs: torch.Tensor
    ) -> torch.Tensor:
        """What a look adds to the outputs."""
        rows, log_scale, shift, coefficients, _ = self._decoded(outputs)
        face = torch.addmm(self.mean, coefficients, self.basis)
        camera = (rows * (_exp(log_scale) * self.flip)).reshape(-1, 1, 2, 3).transpose(2, 3)
        at = face.reshape(-1, len(self.mean) // 3, 1, 3) @ camera
        at = at + (CROP / 2 * torch.tanh(shift / 2) + CROP / 2).reshape(-1, 1, 1, 2)
        places, weights = self.reader.places(at, starts)
        # Spread over the channels, and added, by products: broadcasting and summing take longer.
        values = table[places] * (weights @ torch.ones(1, READ_CHANNELS))
        features = torch.ones(1, 4) @ values.reshape(4, -1)
        return look(features, torch.cat([rows, log_scale, shift, coefficients], dim=1))


def _exp(log_scale: torch.Tensor) -> torch.Tensor:
    return torch.exp(log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT))


class FoldedLook(nn.Module):
    """A look whose normalisations are in its weights."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self.of_point = look.of_point
        factor, shift = _factor_and_shift(look.mix_norm)
        self.mix = nn.Parameter(look.mix.weight.T.clone())
        self.factor = nn.Parameter(factor.view(len(look.of_point), -1))
        self.shift = nn.Parameter(shift.view(len(look.of_point), -1))
        self.joined, self.change = _folded_linear(*look.joined), look.change

    def forward(self, features: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """As :meth:`Look.forward`."""
        features = features.reshape(-1, *self.of_point.shape) * self.of_point
        mixed = torch.relu(features @ self.mix * self.factor + self.shift).flatten(1)
        return self.change(torch.relu(self.joined(torch.cat([mixed, known], dim=1))))


def _folded_linear(linear: nn.Linear, norm: nn.BatchNorm1d) -> nn.Linear:
    factor, shift = _factor_and_shift(norm)
    out = nn.Linear(linear.in_features, linear.out_features)
    out.weight.copy_(linear.weight * factor[:, None])
    out.bias.copy_(shift)
    return out


def _factor_and_shift(norm: nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    return factor, norm.bias - norm.running_mean * factor


class BoxDetector(nn.Module):
    """The detector of the halved picture, with its map decoded to candidates."""

    def __init__(self, net: DetectorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(h / 2, w / 2, 3) uint8 -> boxes_xyxy (n, 4) in its pixels, scores (n,)."""
        boxes, scores = peaks(self.net(image[None]))
        # Pixel i of the half covers pixels 2 i and 2 i + 1, whose middle is at 2 (i + 0.25).
        return (boxes[0] + 0.25).reshape(-1, 4), scores[0]


def regressor_onnx(net: RegressorNet) -> bytes:
    """ONNX model: ``crops`` (n, size, size, 3) uint8 -> ``params``, ``confidence``.

    It computes in integers if the network rounds, see :mod:`quantise`.
    """
    data = _onnx(
        CameraRegressor(net),
        torch.zeros(2, CROP, CROP, 3, dtype=torch.uint8),
        ["crops"],
        {"params": {0: "n"}, "confidence": {0: "n"}},
        {"crops": {0: "n"}},
    )
    if not quantise.is_quantised(net):
        return data
    return integer_graph.with_integers(onnx.load_from_string(data)).SerializeToString()


def detector_onnx(net: DetectorNet) -> bytes:
    """ONNX model: ``image`` (height, width, 3) uint8 -> ``boxes_xyxy``, ``scores``.

    The image is a halved one: model sets say so by ``input_scale`` of the detector. Halving within
    the network took a fifth of its time.
    """
    return _onnx(
        BoxDetector(net),
        torch.zeros(240, 320, 3, dtype=torch.uint8),
        ["image"],
        {"boxes_xyxy": {0: "n"}, "scores": {0: "n"}},
        {"image": {0: "height", 1: "width"}},
    )


def _onnx(
    module: nn.Module,
    example: torch.Tensor,
    inputs: list[str],
    outputs: dict[str, dict[int, str]],
    dynamic: dict[str, dict[int, str]],
) -> bytes:
    module = module.cpu().eval()
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that traces; what it warns of is checked by comparing outputs in the tests.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            stream,
            input_names=inputs,
            output_names=list(outputs),
            dynamic_axes=dynamic | outputs,
            opset_version=_OPSET,
            dynamo=False,
        )
    return stream.getvalue()
