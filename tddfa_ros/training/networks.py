"""The networks: plain convolutions and, for the regressor, looks at the face as fitted so far."""

from __future__ import annotations

import torch
from torch import nn

from tddfa_ros.training import aligned, close_up
from tddfa_ros.training.blocks import Residual, conv
from tddfa_ros.training.decoding import POSE_OUTPUTS, Fit, decode
from tddfa_ros.training.quantise import QuantisedConv2d, QuantisedLinear, QuantisedReLU
from tddfa_ros.training.rig import MODEL_SHAPES, Rig

PIXEL_MIDDLE, PIXEL_DEVIATION = 127.5, 64.0
"""Of byte values, as the detector takes them."""
CROP_PIXEL_MIDDLE = 128.0
"""Of the regressor's: a byte less this is an integer of 8 bits."""
LOOKS = 3
HEAD_PLACES = 4 * 4
"""Of the last map."""
READ_LAYERS = (2, 4, 6)
"""Layers of the regressor's body whose maps the looks read."""
READ_PLACES = (
    aligned.MapPlaces(size=30, stride=4, first=1.5),
    aligned.MapPlaces(size=15, stride=8, first=1.5),
    aligned.MapPlaces(size=8, stride=16, first=1.5),
)


class RegressorNet(nn.Module):
    """A 120x120 crop to pose, coefficients and the logit of "this is a face".

    The body costs 46 million multiplications, as the half-width MobileNet does; the head makes a
    first fit of its last map, which the looks of :mod:`aligned` and :mod:`close_up` correct.

    Parameters
    ----------
    rig : whose face is fitted
    expressions : number of its leading expression components that are fitted
    looks : corrections of the first fit; 0 leaves it as it is
    """

    def __init__(self, rig: Rig, expressions: int, looks: int = LOOKS) -> None:
        super().__init__()
        self.shapes, self.expressions = MODEL_SHAPES, expressions
        self.body = nn.Sequential(
            QuantisedConv2d(3, 32, 8, 4, 2, bias=False),
            nn.BatchNorm2d(32),
            QuantisedReLU(),
            conv(32, 64, 3, 2, quantised=True),
            Residual(64, 48, quantised=True),
            conv(64, 96, 3, 2, quantised=True),
            Residual(96, 96, quantised=True),
            conv(96, 192, 3, 2, quantised=True),
            Residual(192, 128, quantised=True),
        )
        outputs = POSE_OUTPUTS + self.shapes + expressions + 1
        self.head = QuantisedLinear(192 * HEAD_PLACES, outputs)
        nn.init.normal_(self.head.weight, 0, 0.003)
        with torch.no_grad():
            self.head.bias.zero_()
            self.head.bias[:6] = torch.tensor([1.0, 0, 0, 0, 1, 0])
        # The first of the maps is read as it is, the others with as many channels as it has.
        self.sides = nn.ModuleList(
            conv(channels, aligned.READ_CHANNELS, 1, 1, quantised=True)
            for channels in ((64, 96) if looks else ())
        )
        self.read_points = aligned.point_model(rig, expressions)
        self.reader = aligned.Reader(READ_PLACES)
        count = len(self.read_points.mean)
        self.looks = nn.ModuleList(
            aligned.Look(count, len(READ_LAYERS), outputs) for _ in range(looks)
        )
        self.patch_points = close_up.point_model(rig, expressions)
        self.close_ups = nn.ModuleList([close_up.CloseUp(rig, expressions)] if looks else [])

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """(b, 120, 120, 3) uint8 BGR -> (b, outputs) float32."""
        return self.stages(crops)[-1]

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        """(b, 120, 120, 3) uint8 BGR -> (b, k), what the head sees."""
        return self._maps(_pixels(crops))[-1].flatten(1)

    def _maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Those of READ_LAYERS, then the last one."""
        maps = []
        for k, layer in enumerate(self.body):
            x = layer(x)
            if k in READ_LAYERS:
                maps.append(x)
        return [*maps, x.float()]

    def stages(self, crops: torch.Tensor) -> list[torch.Tensor]:
        """Outputs (b, outputs): of the first fit, after each look, and of the close-up.

        Those of the close-up are two: with its own answer, and with both answers weighed.
        """
        pixels = _pixels(crops)
        *maps, last = self._maps(pixels)
        table = table_of(narrowed(maps, self.sides)).float() if self.looks else None
        with torch.autocast(last.device.type, enabled=False):
            outputs = [self.head(last.flatten(1))]
            for look in self.looks:
                fit, known = self._known(outputs[-1])
                features = self.reader(table, self.read_points(fit)[..., :2])
                outputs.append(outputs[-1] + look(features, known))
        for close in self.close_ups:
            # In half precision a place would be off by up to a quarter of a pixel.
            with torch.autocast(last.device.type, enabled=False):
                fit, known = self._known(outputs[-1])
                places = close.places(self.patch_points(fit)[..., :2], fit)
            answer, change = close(pixels, places, known)
            others = outputs[-1].detach() * (1 - close.belongs.sum(dim=0))
            outputs += [others + answer, outputs[-1] + change]
        return outputs

    def _known(self, outputs: torch.Tensor) -> tuple[Fit, torch.Tensor]:
        """A fit, and what a look is told of it.

        What is read where is as it is: a look learns to correct, not to be corrected.
        """
        before = outputs.detach()
        fit = decode(before, self.shapes, self.expressions)
        return fit, torch.cat([fit.rotation[:, :2].flatten(1), before[:, 6:-1]], dim=1)


def _pixels(crops: torch.Tensor) -> torch.Tensor:
    """(b, h, w, 3) uint8 -> (b, 3, h, w) as the network computes with them."""
    x = crops.permute(0, 3, 1, 2).float().sub_(CROP_PIXEL_MIDDLE).div_(PIXEL_DEVIATION)
    return x.contiguous(memory_format=torch.channels_last)


def narrowed(maps: list[torch.Tensor], sides: nn.ModuleList) -> list[torch.Tensor]:
    """Maps (b, c, n, n) with READ_CHANNELS channels: the first has them, sides make the others."""
    first, *others = maps
    return [first, *(side(level) for side, level in zip(sides, others, strict=True))]


def table_of(maps: list[torch.Tensor]) -> torch.Tensor:
    """(b, places of all maps, channels) of maps (b, channels, n, n): what the looks read."""
    rows = [
        level.permute(0, 2, 3, 1).reshape(-1, places.size**2, aligned.READ_CHANNELS)
        for level, places in zip(maps, READ_PLACES, strict=True)
    ]
    return torch.cat(rows, dim=1)


class DetectorNet(nn.Module):
    """A picture to a map of face scores and boxes, without anchors.

    The picture is halved, then features at strides 4 to 64 of the half are summed down to one map
    of stride 4 (8 pixels of the picture), so that small and large faces share it.
    """

    STRIDE = 8
    """Pixels of the picture between cells."""
    UNIT = 32.0
    """Pixels of the picture that a box side of logarithm 0 has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 8, 4, 2, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
        )
        self.levels = nn.ModuleList(
            [
                nn.Sequential(conv(32, 48, 3, 2), Residual(48, 32)),
                nn.Sequential(conv(48, 64, 3, 2), Residual(64, 64)),
                nn.Sequential(conv(64, 96, 3, 2), Residual(96, 64)),
                nn.Sequential(conv(96, 96, 3, 2), Residual(96, 64)),
            ]
        )
        self.across = nn.ModuleList([nn.Conv2d(c, 32, 1) for c in (32, 48, 64, 96, 96)])
        self.smooth = nn.ModuleList([conv(32, 32, 3, 1) for _ in range(2)])
        self.out = nn.Conv2d(32, 5, 1)
        nn.init.normal_(self.out.weight, 0, 0.01)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.bias[0] = -4.6

    def forward(self, halves: torch.Tensor) -> torch.Tensor:
        """Score and box of every cell.

        Parameters
        ----------
        halves : (b, h / 2, w / 2, 3) BGR, pictures at half their size

        Returns
        -------
        (b, 5, rows, columns): logit, centre offset (2) in cells from the cell's middle to the
        box's, x first, log size (2)
        """
        x = (halves.permute(0, 3, 1, 2).float() - PIXEL_MIDDLE) / PIXEL_DEVIATION
        features = [self.stem(x.contiguous(memory_format=torch.channels_last))]
        for level in self.levels:
            features.append(level(features[-1]))
        summed = self.across[-1](features[-1])
        for k in range(len(features) - 2, -1, -1):
            size = features[k].shape[-2:]
            summed = nn.functional.interpolate(summed, size=size, mode="nearest")
            summed = summed + self.across[k](features[k])
            if k in (0, 1):
                summed = self.smooth[k](summed)
        return self.out(summed.float())
