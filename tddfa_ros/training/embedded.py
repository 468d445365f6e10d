"""The embedded set as a whole: from a run's folder to ``models/embedded``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tddfa_ros.core import model_set
from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.model_description import DetectorSpec, RegressorSpec
from tddfa_ros.core.model_set import ModelSet
from tddfa_ros.core.model_set_writer import check_replaceable, write_model_set
from tddfa_ros.training import checkpoint, export, face_region, packed, quantise
from tddfa_ros.training import rig as rig_file
from tddfa_ros.training.crops import CROP, CropSource
from tddfa_ros.training.detector_weights import SCENES_SEEN
from tddfa_ros.training.equalise import equalise
from tddfa_ros.training.networks import DetectorNet, RegressorNet
from tddfa_ros.training.recipe import CALIBRATION_SEED
from tddfa_ros.training.rig import MODEL_SHAPES, Rig
from tddfa_ros.training.train_regressor import EXPRESSIONS

RIG_FILE = "rig.npz"
WEIGHTS_FILE = "regressor_weights.npz"
"""The regressor's before rounding: what a training can go on from."""
CARD_FILE = "MODEL_CARD.md"

BOX_SCALE, BOX_SHIFT_DOWN = 1.236, 0.105
"""The region around a box that equals, in the mean over poses of the rig, that of the landmarks."""
SCORE_THRESHOLD = 0.4
_DETECTOR_SPEC = DetectorSpec(
    max_height=720,
    max_width=1080,
    input_scale=0.5,
    # What a picture of 640x480 comes to.
    input_area_px=320 * 240,
    score_threshold=SCORE_THRESHOLD,
    candidate_threshold=0.1,
    nms_iou=0.35,
    pre_nms=300,
    keep=100,
)
_REGRESSOR_SPEC = RegressorSpec(
    input_size=CROP,
    shape_count=MODEL_SHAPES,
    expression_count=EXPRESSIONS,
    roi_box_scale=BOX_SCALE,
    roi_box_shift_down=BOX_SHIFT_DOWN,
    roi_whole_pixels=True,
    camera_from_edges=True,
    still_passes=1,
    still_roi_spread=0.1,
    minimum_roi_area_px=400.0,
    has_confidence=True,
)
_LICENCE = "CC0-1.0"
_CROPS_SEEN = "regressor_crops_seen"


def write(
    run: str | Path,
    rig: str | Path,
    out: str | Path,
    *,
    base: str | Path | None = None,
    score_threshold: float | None = None,
    calibration_crops: int = 128,
) -> ModelSet:
    """Write the set of the averaged networks of a run.

    Parameters
    ----------
    run : folder with ``regressor.pt``, ``detector.pt`` or both
    base : set whose network is taken, as it is, where the run has none
    score_threshold : of the detector; None takes the usual one, or that of `base`
    rig : the rig that they were trained on
    out : folder of the set; a model card in it is kept
    calibration_crops : for the ranges in which the regressor's activations are rounded

    Raises
    ------
    ModelSetError
        A network or the rig is missing, `out` is something else than a set, `base` may not be
        passed on as freely as this set, or there are too few calibration crops.
    TrainingError
        The state of a network is damaged, or of another one or another rig.
    """
    if calibration_crops < 2:
        raise ModelSetError(f"{calibration_crops} calibration crops: ranges are told by 2 at least")
    check_replaceable(out)
    regressor_state, detector_state = Path(run) / "regressor.pt", Path(run) / "detector.pt"
    is_trained = regressor_state.exists() and detector_state.exists()
    known = None if base is None or is_trained else _of_this_training(base)
    head = rig_file.load(rig)
    regressor = _regressor(regressor_state, known, head, calibration_crops)
    detector, detector_spec, scenes = _detector(detector_state, known, head)
    if score_threshold is not None:
        detector_spec = replace(detector_spec, score_threshold=score_threshold)
    face_model = face_region.build(head)
    beside = {RIG_FILE: Path(rig).read_bytes(), WEIGHTS_FILE: regressor.weights}
    card = Path(out) / CARD_FILE
    if card.exists():
        beside[CARD_FILE] = card.read_bytes()
    return write_model_set(
        out,
        face_model=face_model,
        compressed=True,
        licence=_LICENCE,
        detector=detector_spec,
        detector_onnx=detector,
        regressor_onnx=regressor.onnx,
        regressor=regressor.spec,
        provenance={
            "source": "MakeHuman head (CC0 1.0); networks trained on synthetic pictures of it only",
            "made_by": "python -m tddfa_ros.training",
            _CROPS_SEEN: regressor.crops_seen,
            SCENES_SEEN: scenes,
        },
        beside=beside,
    )


@dataclass(frozen=True)
class _Known:
    """A set of this training, and what it says of itself."""

    model_set: ModelSet
    provenance: dict[str, Any]


@dataclass(frozen=True)
class _Regressor:
    onnx: bytes
    spec: RegressorSpec
    weights: bytes
    crops_seen: Any


def _regressor(path: Path, known: _Known | None, head: Rig, calibration_crops: int) -> _Regressor:
    """The network, how to use it, its weights before rounding, how many crops it has seen."""
    if not path.exists() and known is not None:
        base, seen = known.model_set, known.provenance[_CROPS_SEEN]
        weights = (base.path / WEIGHTS_FILE).read_bytes()
        return _Regressor(base.regressor_path.read_bytes(), base.regressor, weights, seen)
    net, state = _network(path, RegressorNet(head, EXPRESSIONS), head)
    crops = CropSource(head, EXPRESSIONS, seed=CALIBRATION_SEED, pool=calibration_crops)
    calibration = torch.from_numpy(crops.batch(calibration_crops).crops)
    equalise(net, calibration)
    quantise.calibrate(net, calibration)
    seen = state["seen"] + state.get("start_seen", 0)
    weights = packed.pack(state["average"], seen)
    return _Regressor(export.regressor_onnx(net), _REGRESSOR_SPEC, weights, seen)


def _detector(path: Path, known: _Known | None, head: Rig) -> tuple[bytes, DetectorSpec, Any]:
    """The network, how to use it, and how many scenes it has seen."""
    if path.exists() or known is None:
        net, state = _network(path, DetectorNet(), head)
        seen = state["seen"] + state.get("start_seen", 0)
        return export.detector_onnx(net), _DETECTOR_SPEC, seen
    base = known.model_set
    return base.detector_path.read_bytes(), base.detector, known.provenance[SCENES_SEEN]


def _of_this_training(base: str | Path) -> _Known:
    known = model_set.load(base)
    provenance = model_set.read_description(base).provenance
    if known.licence != _LICENCE or not {_CROPS_SEEN, SCENES_SEEN} <= provenance.keys():
        raise ModelSetError(
            f"{base}: its networks are not of this training ({known.licence}), and the set would "
            "say so of them; train both, or name the embedded set"
        )
    return _Known(known, provenance)


def _network(path: Path, net: torch.nn.Module, head: Rig) -> tuple[Any, dict[str, Any]]:
    state = checkpoint.load(path, "average", "seen")
    if state is None:
        raise ModelSetError(
            f"no training state {path}; run `python -m tddfa_ros.training train`, or name a set "
            "with --base to take its network"
        )
    checkpoint.require_rig(state, rig_file.digest(head), path)
    checkpoint.restore(net, state["average"], path)
    return net.eval(), state
