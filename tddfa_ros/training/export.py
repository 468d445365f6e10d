"""Writes the networks as ONNX."""

from __future__ import annotations

import io
import warnings

import onnx
import torch
from torch import nn

from tddfa_ros.training import integer_graph, quantise
from tddfa_ros.training.camera_regressor import CameraRegressor
from tddfa_ros.training.crops import CROP
from tddfa_ros.training.networks import DetectorNet, RegressorNet
from tddfa_ros.training.train_detector import peaks

_OPSET = 17


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
