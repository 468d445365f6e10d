"""``model.yaml`` of a model set: what may stand in it, and how it is read and written."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tddfa_ros.core.array_file import read_bounded, short, shown
from tddfa_ros.core.errors import ModelSetError, ModelSetNotFoundError, UnsafeFileError
from tddfa_ros.core.yaml_text import read_yaml

DESCRIPTION_FILE = "model.yaml"
FACE_MODEL_FILE = "face_model.npz"
FORMAT = 1

MAX_DESCRIPTION_BYTES = 256 * 1024
MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_COEFFICIENTS = 1000


@dataclass(frozen=True)
class DetectorSpec:
    """How the set's face detector is to be used.

    Attributes
    ----------
    file : its network, relative to the set's folder
    max_height, max_width : pixels; larger images are scaled down to the height, then the width
    input_scale : by which the image is scaled further before the network sees it
    input_area_px : of which small images are scaled less far, or not at all: so many pixels are no
        more work than those of an image of usual size
    score_threshold : least score of a face that is reported
    candidate_threshold : least score of a candidate for non-maximum suppression
    nms_iou : overlap above which the worse of two boxes is dropped, areas with +1 pixel
    pre_nms : most candidates that enter non-maximum suppression, best first
    keep : most boxes that leave it
    """

    file: str = "detector.onnx"
    max_height: int = 720
    max_width: int = 1080
    input_scale: float = 1.0
    input_area_px: int = 0
    score_threshold: float = 0.5
    candidate_threshold: float = 0.05
    nms_iou: float = 0.3
    pre_nms: int = 5000
    keep: int = 750


@dataclass(frozen=True)
class RegressorSpec:
    """How the set's parameter regressor is to be used.

    Attributes
    ----------
    file : its network, relative to the set's folder
    input_size : side of its square input, pixels
    shape_count, expression_count : coefficients that follow the 12 numbers of the camera
    roi_box_scale : side of the region around a detected box / half its (width + height)
    roi_box_shift_down : shift of that region's centre / half the box's (width + height)
    roi_landmark_scale : side of the region around landmarks / the larger side of their bounds
    roi_whole_pixels : whether regions are of whole pixels; otherwise, as in 3DDFA_V2, what is cut
        out lies up to half a pixel from the region that the fit refers to
    camera_from_edges : whether the network's camera measures from the region's edges, as resizing
        does; otherwise, as in 3DDFA_V2, from the middle of its first pixel: faces then lie too far
        to the lower right by half the difference of a pixel of the image and one of the crop
    still_passes : further fits, each from the landmarks before, of the faces of a still picture
    still_roi_spread : share by which further regions of a still's faces are smaller and larger, for
        the mean of their fits; 0 for none
    minimum_roi_area_px : square pixels; while a face with a smaller region is followed, searches
        follow one another
    has_confidence : whether the network also gives a confidence
    """

    file: str = "regressor.onnx"
    input_size: int = 120
    shape_count: int = 40
    expression_count: int = 10
    roi_box_scale: float = 1.58
    roi_box_shift_down: float = 0.14
    roi_landmark_scale: float = 2.0**0.5
    roi_whole_pixels: bool = False
    camera_from_edges: bool = False
    still_passes: int = 0
    still_roi_spread: float = 0.0
    minimum_roi_area_px: float = 2020.0
    has_confidence: bool = False


@dataclass(frozen=True)
class FileRecord:
    """Size and checksum of one file of a set."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Description:
    """What ``model.yaml`` says; nothing else of the set has been opened.

    Attributes
    ----------
    path : the set's folder
    name, licence, licence_text : of the set; the text may be empty
    provenance : free-form, where the set comes from
    metres_per_unit : see :class:`FaceModel`
    detector, regressor : how to use the networks
    files : file name -> size and checksum
    """

    path: Path
    name: str
    licence: str
    licence_text: str
    provenance: dict[str, Any]
    metres_per_unit: float
    detector: DetectorSpec
    regressor: RegressorSpec
    files: dict[str, FileRecord]


def read_description(folder: str | os.PathLike[str]) -> Description:
    """Read and check ``model.yaml``.

    Raises
    ------
    ModelSetNotFoundError
        There is none.
    ModelSetError
        It is damaged, has unknown keys or values out of range.
    """
    path = Path(folder)
    file = path / DESCRIPTION_FILE
    if not file.is_file():
        raise ModelSetNotFoundError(
            f"{path.absolute()} is no model set: it has no {DESCRIPTION_FILE}. "
            "`python -m tddfa_ros models list` shows the sets there are."
        )
    try:
        document = read_yaml(read_bounded(file, MAX_DESCRIPTION_BYTES))
    except (OSError, UnsafeFileError) as error:
        raise ModelSetError(f"{file}: cannot be read: {error}") from error
    top = _Section(file, "", document)
    if top.take("format", int) != FORMAT:
        raise ModelSetError(
            f"{file}: format {shown(document['format'])}, this version reads {FORMAT}; "
            "import the set anew"
        )
    face = top.section("face_model")
    if face.take("file", str) != FACE_MODEL_FILE:
        face.fail("file", document["face_model"]["file"], f"must be {FACE_MODEL_FILE}")
    description = Description(
        path=path,
        name=top.take("name", str),
        licence=top.take("licence", str),
        licence_text=top.take("licence_text", str, ""),
        provenance=top.take("provenance", dict, {}),
        metres_per_unit=face.number("metres_per_unit", float, 1e-9, 1e3),
        detector=_detector_spec(top.section("detector")),
        regressor=_regressor_spec(top.section("regressor")),
        files=_file_records(top.section("files")),
    )
    face.finish()
    top.finish()
    for name in (description.detector.file, description.regressor.file, FACE_MODEL_FILE):
        if name not in description.files:
            raise ModelSetError(f"{file}: `files` has no entry for {short(name)}")
    return description


def dump_description(description: Description) -> str:
    """Return the text of ``model.yaml``; :func:`read_description` is the inverse."""
    document = {
        "format": FORMAT,
        "name": description.name,
        "licence": description.licence,
        "licence_text": description.licence_text,
        "provenance": description.provenance,
        "detector": dataclasses.asdict(description.detector),
        "regressor": dataclasses.asdict(description.regressor),
        "face_model": {
            "file": FACE_MODEL_FILE,
            "metres_per_unit": description.metres_per_unit,
        },
        "files": {name: dataclasses.asdict(rec) for name, rec in description.files.items()},
    }
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_text)


class _Section:
    """One mapping of model.yaml: what is not taken from it is unknown and refused."""

    def __init__(self, file: Path, name: str, values: Any) -> None:
        self.file = file
        self.name = name
        if not isinstance(values, dict):
            raise ModelSetError(f"{file}: {name or 'the document'} is no mapping")
        self.values = dict(values)

    def fail(self, key: str, value: Any, why: str) -> None:
        raise ModelSetError(f"{self.file}: {self.name}{key}={shown(value)}: {why}")

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        if key not in self.values:
            if default is not None:
                return default
            raise ModelSetError(f"{self.file}: {self.name}{key} is missing")
        value = self.values.pop(key)
        # float() raises OverflowError for larger ones.
        if kind is float and type(value) is int and value.bit_length() < 1000:
            value = float(value)
        if type(value) is not kind:
            self.fail(key, value, f"expected {kind.__name__}")
        return value

    def number(self, key: str, kind: type, low: float, high: float, default: Any = None) -> Any:
        value = self.take(key, kind, default)
        if not low <= value <= high:
            self.fail(key, value, f"must be between {low:g} and {high:g}")
        return value

    def section(self, key: str) -> _Section:
        return _Section(self.file, f"{self.name}{short(key)}.", self.take(key, dict))

    def file_name(self, key: str, default: str) -> str:
        value = self.take(key, str, default)
        _check_file_name(self, key, value)
        return value

    def finish(self) -> None:
        if self.values:
            keys = [key if isinstance(key, str) else shown(key) for key in self.values]
            names = short(", ".join(f"{self.name}{key}" for key in keys))
            raise ModelSetError(f"{self.file}: unknown key {names}")


def _check_file_name(section: _Section, key: str, value: Any) -> None:
    plain = isinstance(value, str) and value and not value.startswith(".")
    if not plain or any(c in value for c in "/\\:\0"):
        section.fail(key, value, "must be the plain name of a file beside model.yaml")


def _detector_spec(section: _Section) -> DetectorSpec:
    known = DetectorSpec()
    spec = DetectorSpec(
        file=section.file_name("file", known.file),
        max_height=section.number("max_height", int, 32, 16384, known.max_height),
        max_width=section.number("max_width", int, 32, 16384, known.max_width),
        input_scale=section.number("input_scale", float, 0.05, 1, known.input_scale),
        input_area_px=section.number("input_area_px", int, 0, 2**28, known.input_area_px),
        score_threshold=section.number("score_threshold", float, 0, 1, known.score_threshold),
        candidate_threshold=section.number(
            "candidate_threshold", float, 0, 1, known.candidate_threshold
        ),
        nms_iou=section.number("nms_iou", float, 0, 1, known.nms_iou),
        pre_nms=section.number("pre_nms", int, 1, 100_000, known.pre_nms),
        keep=section.number("keep", int, 1, 100_000, known.keep),
    )
    section.finish()
    return spec


def _regressor_spec(section: _Section) -> RegressorSpec:
    known = RegressorSpec()
    most = MAX_COEFFICIENTS
    spec = RegressorSpec(
        file=section.file_name("file", known.file),
        input_size=section.number("input_size", int, 16, 1024, known.input_size),
        shape_count=section.number("shape_count", int, 1, most, known.shape_count),
        expression_count=section.number("expression_count", int, 1, most, known.expression_count),
        roi_box_scale=section.number("roi_box_scale", float, 0.1, 10, known.roi_box_scale),
        roi_box_shift_down=section.number(
            "roi_box_shift_down", float, -2, 2, known.roi_box_shift_down
        ),
        roi_landmark_scale=section.number(
            "roi_landmark_scale", float, 0.1, 10, known.roi_landmark_scale
        ),
        roi_whole_pixels=section.take("roi_whole_pixels", bool, known.roi_whole_pixels),
        camera_from_edges=section.take("camera_from_edges", bool, known.camera_from_edges),
        still_passes=section.number("still_passes", int, 0, 10, known.still_passes),
        still_roi_spread=section.number("still_roi_spread", float, 0, 0.5, known.still_roi_spread),
        minimum_roi_area_px=section.number(
            "minimum_roi_area_px", float, 0, 1e9, known.minimum_roi_area_px
        ),
        has_confidence=section.take("has_confidence", bool, known.has_confidence),
    )
    section.finish()
    return spec


def _file_records(section: _Section) -> dict[str, FileRecord]:
    records = {}
    for name in list(section.values):
        _check_file_name(section, "", name)
        entry = section.section(name)
        records[name] = FileRecord(
            size_bytes=entry.number("size_bytes", int, 1, MAX_FILE_BYTES),
            sha256=entry.take("sha256", str),
        )
        entry.finish()
    return records
