"""Writes the networks as ONNX."""

from __future__ import annotations

import copy
import io
import itertools
import warnings

import onnx
import torch
from torch import nn
from torch.nn import functional

from tddfa_ros.training import integer_graph, quantise
from tddfa_ros.training.aligned import READ_CHANNELS, Look
from tddfa_ros.training.close_up import EYES, SIDE, CloseUp
from tddfa_ros.training.crops import CROP
from tddfa_ros.training.decoding import LOG_SCALE_LIMIT, POSE_OUTPUTS, USUAL_SCALE, PointModel
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
            self.close_ups = nn.ModuleList(FoldedCloseUp(close) for close in net.close_ups)
        self.read_points = PlacedPoints(net.read_points)
        self.patch_points = PlacedPoints(net.patch_points)
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

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops -> params (b, 12 + coefficients), confidence (b,)."""
        pixels = crops.permute(0, 3, 1, 2).float()
        seen = pixels - CROP_PIXEL_MIDDLE
        if self.quantised:  # To the integers that they are: the convolution takes no others.
            seen = torch.fake_quantize_per_tensor_affine(seen, 1.0, 128, 0, 255)
        maps = []
        for k, layer in enumerate(self.body):
            seen = layer(seen)
            if k in READ_LAYERS:
                maps.append(seen)
        return self.fit(pixels, narrowed(maps, self.sides) if self.looks else [], seen)

    def fit(
        self, pixels: torch.Tensor, maps: list[torch.Tensor], last: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What comes of the maps that looks read, and the last one, as :meth:`forward` gives it.

        Parameters
        ----------
        pixels : (b, 3, CROP, CROP) float32, bytes as they are
        """
        outputs = self.head(last.flatten(1))
        if self.looks:
            table = table_of(maps).reshape(-1, READ_CHANNELS)
            starts = self.reader.starts(last.shape[0])
        for look in self.looks:
            outputs = outputs + self._looked(look, table, starts, outputs)
        rows, log_scale, shift, coefficients, logit = self._decoded(outputs)
        for close in self.close_ups:
            middles = self.patch_points(rows, log_scale, shift, coefficients)
            known = torch.cat([rows, log_scale, shift, coefficients], dim=1)
            coefficients = coefficients + close(pixels, middles, rows, log_scale, known)
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
        at = self.read_points(rows, log_scale, shift, coefficients)
        places, weights = self.reader.places(at, starts)
        # Spread over the channels, and added, by products: broadcasting and summing take longer.
        values = table[places] * (weights @ torch.ones(1, READ_CHANNELS))
        features = torch.ones(1, 4) @ values.reshape(4, -1)
        return look(features, torch.cat([rows, log_scale, shift, coefficients], dim=1))


def _exp(log_scale: torch.Tensor) -> torch.Tensor:
    return torch.exp(log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT))


class PlacedPoints(nn.Module):
    """Points of the fitted face in the crop."""

    def __init__(self, model: PointModel) -> None:
        super().__init__()
        self.register_buffer("mean", model.mean.flatten())
        self.register_buffer("basis", torch.cat([model.shape_basis, model.expression_basis]))
        self.register_buffer("flip", USUAL_SCALE * torch.tensor([1.0, 1, 1, -1, -1, -1]))

    def forward(
        self,
        rows: torch.Tensor,
        log_scale: torch.Tensor,
        shift: torch.Tensor,
        coefficients: torch.Tensor,
    ) -> torch.Tensor:
        """(b, p, 1, 2) pixels, x first."""
        face = torch.addmm(self.mean, coefficients, self.basis)
        camera = (rows * (_exp(log_scale) * self.flip)).reshape(-1, 1, 2, 3).transpose(2, 3)
        at = face.reshape(-1, len(self.mean) // 3, 1, 3) @ camera
        return at + (CROP / 2 * torch.tanh(shift / 2) + CROP / 2).reshape(-1, 1, 1, 2)


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


class FoldedCloseUp(nn.Module):
    """A close-up of bytes, whose normalisations are in its weights."""

    def __init__(self, close: CloseUp) -> None:
        super().__init__()
        # Places are told from -1 to 1; each is a product of (right, up, 1) with axes and middle.
        self.per_pixel = 2 / (CROP - 1)
        offsets = close.offsets.reshape(len(EYES), -1, 2) * (USUAL_SCALE * self.per_pixel)
        self.register_buffer("offsets", functional.pad(offsets, (0, 1), value=1.0))
        # From (x, y) of the face's up to right and up on the picture, whose y points down.
        self.register_buffer("axes", torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, -1]]))
        self.rounded = copy.deepcopy(close.rounded)
        self.rounded.scale *= PIXEL_DEVIATION
        self.body = integer_graph.folded(close.body)
        self.body[0][0].weight /= PIXEL_DEVIATION
        # What is known, as it is and in the mirror.
        mirror = torch.eye(len(close.mirror_order))[:, close.mirror_order] * close.mirror_signs
        self.register_buffer("both", torch.cat([torch.eye(len(mirror)), mirror], dim=1))
        self.register_buffer("belongs", close.belongs[:, POSE_OUTPUTS:-1])
        self.hidden, self.weighed, self.change = close.hidden, close.weighed, close.change
        self.pose = nn.Parameter(close.pose.weight.T.clone())

    def forward(
        self,
        pixels: torch.Tensor,
        middles: torch.Tensor,
        rows: torch.Tensor,
        log_scale: torch.Tensor,
        known: torch.Tensor,
    ) -> torch.Tensor:
        """What to add to the coefficients, of bytes (b, 3, CROP, CROP) and the fit so far."""
        up = rows[:, 1::3]
        up = up / torch.linalg.vector_norm(up, dim=1, keepdim=True)
        axes = (up @ self.axes) * _exp(log_scale)
        middles = middles.reshape(-1, 2 * len(EYES)) * self.per_pixel - 1
        placed = torch.cat([axes, middles[:, :2], axes, middles[:, 2:]], dim=1)
        at = self.offsets @ placed.reshape(-1, len(EYES), 3, 2)
        patches = functional.grid_sample(
            pixels,
            at.reshape(-1, len(EYES) * SIDE, SIDE, 2),
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
        patches = patches.reshape(-1, 3, len(EYES), SIDE, SIDE).transpose(1, 2)
        patches = patches.reshape(-1, 3, SIDE, SIDE) - CROP_PIXEL_MIDDLE
        seen = self.body(self.rounded(patches)).flatten(1)
        known = (known @ self.both).reshape(-1, known.shape[1])
        hidden = torch.relu(self.hidden(seen) + known[:, :POSE_OUTPUTS] @ self.pose)
        weighed = torch.relu(self.weighed(torch.cat([hidden, known], dim=1)))
        return self.change(weighed).reshape(-1, len(self.belongs)) @ self.belongs


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
