"""The public YuNet face detector becomes the detector of a model set.

Wu et al., "YuNet: a tiny millisecond-level face detector", 2023; weights by Shiqi Yu and others,
MIT licence, from OpenCV's model zoo.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx

from tddfa_ros.core import model_set
from tddfa_ros.core.array_file import read_bounded
from tddfa_ros.core.errors import ModelSetError, UnsafeFileError
from tddfa_ros.core.model_description import DetectorSpec
from tddfa_ros.core.model_set_writer import write_model_set
from tddfa_ros.core.onnx_session import DETECTOR_INPUTS, DETECTOR_OUTPUTS, OnnxSession
from tddfa_ros.core.release.manifest import ReleaseFile
from tddfa_ros.core.release.onnx_graph import OnnxGraph

COMMIT = "966be4cb6eefc2a4f586ed0581bf4bbaa2533070"
BASE_URL = "https://media.githubusercontent.com/media/opencv/opencv_zoo"
FILE = ReleaseFile(
    "face_detection_yunet_2023mar.onnx",
    "models/face_detection_yunet",
    size_bytes=232_589,
    sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
)
LICENCE_TEXT = """\
YuNet face detector: MIT licence, copyright 2020 Shiqi Yu and others,
https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet. Trained on WIDER FACE,
photographs of people from the web.
"""
SPEC = DetectorSpec(score_threshold=0.6, candidate_threshold=0.1, nms_iou=0.3)

STRIDES = (8, 16, 32)
_HEADS = {"cls": 1, "obj": 1, "bbox": 4}
_ALLOWED = {"Conv", "Relu", "Transpose", "Reshape", "Sigmoid", "MaxPool", "Resize", "Add"}
_PREFIX = "yunet_"


def with_yunet(
    base: str | os.PathLike[str], network: str | os.PathLike[str], out: str | os.PathLike[str]
) -> model_set.ModelSet:
    """Write a copy of a model set that detects faces with YuNet.

    The regions around boxes stay as the set has them: its boxes are those of WIDER FACE, as
    FaceBoxes' are, and on six photos and a video they differ from the embedded detector's by less
    than 0.05 of a side, within what regressors are trained for.

    Parameters
    ----------
    base : folder of the set that gives everything else
    network : the ONNX file of OpenCV's model zoo
    out : folder of the new set

    Raises
    ------
    ModelSetError
        The set or the network is damaged, or `out` cannot be written.
    """
    given = model_set.load(base)
    description = model_set.read_description(base)
    path = Path(network)
    try:
        content = read_bounded(path, FILE.size_bytes or 0)
    except UnsafeFileError as error:
        raise ModelSetError(str(error)) from error
    detector_onnx = build_detector(content, str(path)).SerializeToString()
    _try(detector_onnx, str(path))
    regressor_onnx = read_bounded(
        given.regressor_path, description.files[given.regressor.file].size_bytes
    )
    return write_model_set(
        out,
        face_model=given.face_model,
        detector=SPEC,
        detector_onnx=detector_onnx,
        regressor=given.regressor,
        regressor_onnx=regressor_onnx,
        licence=f"{given.licence}; detector: MIT (YuNet)",
        licence_text=f"{description.licence_text}\n{LICENCE_TEXT}".strip() + "\n",
        provenance={
            "base": given.name,
            "base_provenance": description.provenance,
            "detector": f"{BASE_URL}/{COMMIT}/{FILE.repository_path}",
        },
    )


def _try(detector_onnx: bytes, source: str) -> None:
    """Run it on two sizes: a network exported for one size alone fails or gives too few boxes."""
    session = OnnxSession(
        detector_onnx, threads=1, inputs=DETECTOR_INPUTS, outputs=DETECTOR_OUTPUTS
    )
    for height, width in ((96, 160), (250, 130)):
        boxes, scores = session.run({"image": np.zeros((height, width, 3), np.uint8)})
        whole = [-(-side // STRIDES[-1]) * STRIDES[-1] for side in (height, width)]
        expected = sum(whole[0] * whole[1] // stride**2 for stride in STRIDES)
        if not len(boxes) == len(scores) == expected:
            raise ModelSetError(
                f"{source}: not YuNet: {len(boxes)} candidates in {width}x{height} pixels, "
                f"expected {expected}"
            )


def build_detector(content: bytes, source: str) -> onnx.ModelProto:
    """Wrap the network so that it takes images of any size and gives decoded boxes.

    An image is padded to whole cells at its right and lower side, as OpenCV's FaceDetectorYN does;
    a score is the geometric mean of "a face" and "an object here".

    Parameters
    ----------
    content : the ONNX file
    source : its name, for errors

    Raises
    ------
    ModelSetError
        It is no network of that kind.
    """
    network = _checked(content, source)
    graph = OnnxGraph()
    pixels = graph.add("Transpose", "image", perm=[2, 0, 1])
    pixels = graph.add("Cast", pixels, to=onnx.TensorProto.FLOAT)
    pixels = graph.add("Unsqueeze", pixels, graph.constant(np.array([0])))
    height, width = (graph.add("Shape", "image", start=k, end=k + 1) for k in (0, 1))
    missing = [_missing(graph, side) for side in (height, width)]
    none = graph.constant(np.zeros(4, np.int64))
    none_two = graph.constant(np.zeros(2, np.int64))
    pads = graph.add("Concat", none, none_two, *missing, axis=0)
    graph.add("Pad", pixels, pads, output_name=_PREFIX + network.graph.input[0].name)
    graph.embed(network.graph, _PREFIX)
    padded = [graph.add("Add", *pair) for pair in zip((height, width), missing, strict=True)]
    boxes, scores = zip(*(_decoded(graph, stride, *padded) for stride in STRIDES), strict=True)
    graph.add("Concat", *boxes, axis=0, output_name="boxes_xyxy")
    graph.add("Concat", *scores, axis=0, output_name="scores")
    return graph.model(
        "yunet",
        {"image": (onnx.TensorProto.UINT8, ["height", "width", 3])},
        {
            "boxes_xyxy": (onnx.TensorProto.FLOAT, ["candidates", 4]),
            "scores": (onnx.TensorProto.FLOAT, ["candidates"]),
        },
    )


def _missing(graph: OnnxGraph, side: str) -> str:
    """Pixels from a side (1,) to the next whole cell of the coarsest level."""
    whole = graph.constant(np.array([STRIDES[-1]]))
    negative = graph.add("Neg", side)
    return graph.add("Mod", negative, whole)


def _decoded(graph: OnnxGraph, stride: int, height: str, width: str) -> tuple[str, str]:
    """Boxes (n, 4) and scores (n,) of one level."""
    one = graph.constant(np.int64(1))
    zero = graph.constant(np.int64(0))
    cell = graph.constant(np.array([stride]))
    rows, columns = (
        graph.add("Squeeze", graph.add("Div", side, cell), graph.constant(np.array([0])))
        for side in (height, width)
    )
    count = graph.add("Mul", rows, columns)
    index = graph.add("Range", zero, count, one)
    y = graph.add("Div", index, columns)
    x = graph.add("Mod", index, columns)
    xy = [graph.add("Unsqueeze", v, graph.constant(np.array([1]))) for v in (x, y)]
    corner = graph.add("Cast", graph.add("Concat", *xy, axis=1), to=onnx.TensorProto.FLOAT)

    def head(name: str, *shape: int) -> str:
        wanted = graph.constant(np.array(shape))
        return graph.add("Reshape", f"{_PREFIX}{name}_{stride}", wanted)

    box = head("bbox", -1, 4)
    centre = graph.add("Add", corner, graph.slice(box, 0, 2, axis=1))
    half = graph.add("Exp", graph.slice(box, 2, 4, axis=1))
    half = graph.add("Mul", half, graph.constant(np.float32(0.5)))
    corners = [graph.add(op, centre, half) for op in ("Sub", "Add")]
    boxes = graph.add("Concat", *corners, axis=1)
    boxes = graph.add("Mul", boxes, graph.constant(np.float32(stride)))
    low, high = graph.constant(np.float32(0)), graph.constant(np.float32(1))
    chances = [graph.add("Clip", head(name, -1), low, high) for name in ("cls", "obj")]
    return boxes, graph.add("Sqrt", graph.add("Mul", *chances))


def _checked(content: bytes, source: str) -> onnx.ModelProto:
    try:
        network = onnx.load_model_from_string(content)
        onnx.checker.check_model(network)
    except Exception as error:  # protobuf's and onnx' own, which have no common base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelSetError(f"{source}: not an ONNX network: {reason}") from error
    operators = {node.op_type for node in network.graph.node}
    if not operators <= _ALLOWED:
        raise ModelSetError(f"{source}: not YuNet: it has {', '.join(operators - _ALLOWED)}")
    names = {output.name for output in network.graph.output}
    wanted = {f"{name}_{stride}" for name in _HEADS for stride in STRIDES}
    if len(network.graph.input) != 1 or not wanted <= names:
        raise ModelSetError(
            f"{source}: not YuNet: expected one input and the outputs {', '.join(sorted(wanted))}"
        )
    return network
