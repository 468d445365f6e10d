"""The regressor as it is exported: camera and coefficients, in as few operators as it takes."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import nn
from torch.nn import functional

from tddfa_ros.training import integer_graph, quantise
from tddfa_ros.training.aligned import READ_CHANNELS, Corners, Look, Reader
from tddfa_ros.training.close_up import EYES, SIDE, CloseUp
from tddfa_ros.training.crops import CROP
from tddfa_ros.training.decoding import LOG_SCALE_LIMIT, POSE_OUTPUTS, USUAL_SCALE, PointModel
from tddfa_ros.training.networks import (
    CROP_PIXEL_MIDDLE,
    PIXEL_DEVIATION,
    READ_LAYERS,
    RegressorNet,
    narrowed,
    table_of,
)

_EDGE_TO_PIXEL = 0.5
"""The camera of the model set measures from the crop's edges (``camera_from_edges``), of which the
middle of its first pixel is half a pixel inside; its x counts from 1."""


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
        self.head = _linear(net.head.quantised_weights()[0], net.head.bias)
        self.table_reader = TableReader(net.reader, len(net.read_points.mean))
        with torch.no_grad():
            self.body[0].weight /= PIXEL_DEVIATION
            self.looks = nn.ModuleList(FoldedLook(look) for look in net.looks)
            self.close_ups = nn.ModuleList(FoldedCloseUp(close) for close in net.close_ups)
        self.read_points = PlacedPoints(net.read_points, net.reader.first)
        self.patch_points = PlacedPoints(net.patch_points, 0.0)
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
        offset[3], offset[7] = CROP / 2 + 1 + _EDGE_TO_PIXEL, CROP / 2 - _EDGE_TO_PIXEL
        self.register_buffer("place", place)
        self.register_buffer("offset", offset)

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops -> params (b, 12 + coefficients), confidence (b,)."""
        seen = crops.permute(0, 3, 1, 2).float() - CROP_PIXEL_MIDDLE
        if self.quantised:  # To the integers that they are: the convolution takes no others.
            seen = torch.fake_quantize_per_tensor_affine(seen, 1.0, 128, 0, 255)
        maps = []
        for k, layer in enumerate(self.body):
            seen = layer(seen)
            if k in READ_LAYERS:
                maps.append(seen)
        return self.fit(crops, narrowed(maps, self.sides) if self.looks else [], seen)

    def fit(
        self, crops: torch.Tensor, maps: list[torch.Tensor], last: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What comes of the maps that looks read, and the last one, as :meth:`forward` gives it."""
        outputs = self.head(last.reshape(-1, self.head.in_features))
        numbers = torch.arange(last.shape[0])
        if self.looks:
            table = table_of(maps).reshape(-1, READ_CHANNELS)
            starts = self.table_reader.starts(numbers)
        for look in self.looks:
            rows, log_scale, shift, coefficients, _ = self._decoded(outputs)
            at = self.read_points(rows, log_scale, shift, coefficients)
            features = self.table_reader(table, at, starts)
            known = torch.cat([rows, log_scale, shift, coefficients], dim=1)
            outputs = outputs + look(features, known)
        rows, log_scale, shift, coefficients, logit = self._decoded(outputs)
        for close in self.close_ups:
            middles = self.patch_points(rows, log_scale, shift, coefficients)
            known = torch.cat([rows, log_scale, shift, coefficients], dim=1)
            coefficients = coefficients + close(crops, numbers, middles, rows, log_scale, known)
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


def _exp(log_scale: torch.Tensor) -> torch.Tensor:
    return torch.exp(log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT))


class PlacedPoints(nn.Module):
    """Points of the fitted face in the crop.

    Coordinates come before points throughout: an operator whose last dimension is short spends
    its time between two runs of the inner loop.

    Parameters
    ----------
    first : pixel that counts as 0
    """

    def __init__(self, model: PointModel, first: float) -> None:
        super().__init__()
        self.register_buffer("mean", model.mean.T.flatten())
        basis = torch.cat([model.shape_basis, model.expression_basis])
        self.register_buffer("basis", basis.unflatten(1, (-1, 3)).transpose(1, 2).flatten(1))
        self.register_buffer("flip", USUAL_SCALE * torch.tensor([1.0, 1, 1, -1, -1, -1]))
        self.middle = CROP / 2 - first

    def forward(
        self,
        rows: torch.Tensor,
        log_scale: torch.Tensor,
        shift: torch.Tensor,
        coefficients: torch.Tensor,
    ) -> torch.Tensor:
        """(b, 2, p) pixels, x first."""
        face = torch.addmm(self.mean, coefficients, self.basis).reshape(-1, 3, len(self.mean) // 3)
        camera = (rows * (_exp(log_scale) * self.flip)).reshape(-1, 2, 3)
        centre = (CROP / 2 * torch.tanh(shift / 2) + self.middle).reshape(-1, 2, 1)
        return camera @ face + centre


def _read(
    table: torch.Tensor, channels: int, rows: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """(1, k): weighed sums of four rows (4, ...) of a table (n, channels), one after the other."""
    # Spread over the channels, and added, by products: broadcasting and summing take longer.
    values = table[rows.reshape(-1)].float() * (weights.reshape(-1, 1) @ torch.ones(1, channels))
    return torch.ones(1, 4) @ values.reshape(4, -1)


class TableReader(nn.Module):
    """As :class:`aligned.Reader`, of points (b, 2, p) that begin to count where its maps do."""

    def __init__(self, reader: Reader, points: int) -> None:
        super().__init__()
        self.scale, self.total = reader.scale, reader.total
        self.corners = reader.corners.spread(points)

    def starts(self, numbers: torch.Tensor) -> torch.Tensor:
        """What is the same for all looks at these crops, see :meth:`aligned.Corners.starts`."""
        return self.corners.starts(numbers, self.total)

    def forward(self, table: torch.Tensor, at: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """(1, b * p * maps * channels) from a table of all crops."""
        return _read(table, READ_CHANNELS, *self.corners(at[..., None] @ self.scale, starts))


class FoldedLook(nn.Module):
    """A look whose normalisations are in its weights."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self.of_point = look.of_point
        factor, shift = _factor_and_shift(look.mix_norm)
        self.mix = nn.Parameter(look.mix.weight.T.clone())
        self.factor = nn.Parameter(factor.view(len(look.of_point), -1))
        self.shift = nn.Parameter(shift.view(len(look.of_point), -1))
        self.rounded, self.change = look.rounded, look.change
        linear, norm = look.joined
        factor, shift = _factor_and_shift(norm)
        of_mixed, of_known = (part * factor[:, None] for part in linear.quantised_weights())
        self.of_mixed, self.of_known = _linear(of_mixed, shift), nn.Parameter(of_known.T.clone())

    def forward(self, features: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """As :meth:`Look.forward`."""
        features = features.reshape(-1, *self.of_point.shape) * self.of_point
        mixed = torch.relu(features @ self.mix * self.factor + self.shift)
        mixed = self.rounded(mixed.reshape(-1, self.of_mixed.in_features))
        return self.change(torch.relu(self.of_mixed(mixed) + known @ self.of_known))


class FoldedCloseUp(nn.Module):
    """A close-up of bytes, whose normalisations are in its weights."""

    def __init__(self, close: CloseUp) -> None:
        super().__init__()
        # A place is a product of its eye's axes and middle with (right, up, 1).
        offsets = (close.offsets * USUAL_SCALE).reshape(len(EYES), -1, 2)
        offsets = functional.pad(offsets, (0, 1), value=1.0).transpose(1, 2)
        self.register_buffer("offsets", torch.block_diag(*offsets))
        # From (x, y) of the face's up to right and up on the picture, whose y points down; both x
        # first.
        self.register_buffer("axes", torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, -1]]))
        self.corners = Corners(
            torch.tensor(CROP - 1.001),
            torch.tensor([1.0, CROP]).reshape(2, 1),
            torch.zeros(1),
        )
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
        crops: torch.Tensor,
        numbers: torch.Tensor,
        middles: torch.Tensor,
        rows: torch.Tensor,
        log_scale: torch.Tensor,
        known: torch.Tensor,
    ) -> torch.Tensor:
        """What to add to the coefficients, of bytes (b, CROP, CROP, 3) and the fit so far.

        `numbers` of the crops: see :meth:`aligned.Corners.starts`.
        """
        up = rows[:, 1::3]
        # Of a face that looks exactly up nothing is left, and nothing is turned.
        up = up / (torch.linalg.vector_norm(up, dim=1, keepdim=True) + 1e-12)
        axes = ((up @ self.axes) * _exp(log_scale)).reshape(-1, 2, 2)
        placed = torch.cat([axes, middles[:, :, :1], axes, middles[:, :, 1:]], dim=2)
        starts = self.corners.starts(numbers, CROP**2)
        places = self.corners(placed @ self.offsets, starts)
        patches = _read(crops.reshape(-1, 3), 3, *places) - CROP_PIXEL_MIDDLE
        patches = patches.reshape(-1, SIDE, SIDE, 3).permute(0, 3, 1, 2)
        # By Flatten: behind a Reshape the next layer would be one of rounded weights.
        seen = self.body(self.rounded(patches)).flatten(1)
        known = (known @ self.both).reshape(-1, len(self.both))
        hidden = torch.relu(self.hidden(seen) + known[:, :POSE_OUTPUTS] @ self.pose)
        weighed = torch.relu(self.weighed(torch.cat([hidden, known], dim=1)))
        return self.change(weighed).reshape(-1, len(self.belongs)) @ self.belongs


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    out = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        out.weight.copy_(weight)
        out.bias.copy_(bias)
    return out


def _factor_and_shift(norm: nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    return factor, norm.bias - norm.running_mean * factor
