"""The embedded set as a whole: from a run's folder to ``models/embedded``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tddfa_ros.core import model_set
from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.model_description import DetectorSpec, RegressorSpec
from tddfa_ros.core.model_set import ModelSet
from tddfa_ros.training import checkpoint, export, face_region, quantise
from tddfa_ros.training import rig as rig_file
from tddfa_ros.training.crops import CROP, CropSource
from tddfa_ros.training.equalise import equalise
from tddfa_ros.training.networks import DetectorNet, RegressorNet
from tddfa_ros.training.rig import MODEL_SHAPES
from tddfa_ros.training.train_regressor import EXPRESSIONS

RIG_FILE = "rig.npz"
WEIGHTS_FILE = "regressor_weights.npz"
"""The regressor's before rounding: what a training can go on from."""
CARD_FILE = "MODEL_CARD.md"

BOX_SCALE, BOX_SHIFT_DOWN = 1.236, 0.105
"""The region around a box that equals, in the mean over poses of the rig, that of the landmarks."""
SCORE_THRESHOLD = 0.4
_CALIBRATION_SEED = 2**40 + 8


def write(
    run: str | Path,
    rig: str | Path,
    out: str | Path,
    *,
    base: str | Path | None = None,
    score_threshold: float = SCORE_THRESHOLD,
    calibration_crops: int = 128,
) -> ModelSet:
    """Write the set of the averaged networks of a run.

    Parameters
    ----------
    run : folder with ``regressor.pt`` and ``detector.pt``
    base : set whose detector is taken if the run has none
    rig : the rig that they were trained on
    out : folder of the set; a model card in it is kept
    calibration_crops : for the ranges in which the regressor's activations are rounded

    Raises
    ------
    ModelSetError
        A network or the rig is missing.
    """
    head = rig_file.load(rig)
    regressor, regressor_state = _network(
        Path(run) / "regressor.pt", RegressorNet(head, EXPRESSIONS)
    )
    detector, scenes = _detector(Path(run) / "detector.pt", base)
    crops = CropSource(head, EXPRESSIONS, seed=_CALIBRATION_SEED, pool=calibration_crops)
    calibration = torch.from_numpy(crops.batch(calibration_crops).crops)
    equalise(regressor, calibration)
    quantise.calibrate(regressor, calibration)
    face_model = face_region.build(head)
    beside = {
        RIG_FILE: Path(rig).read_bytes(),
        WEIGHTS_FILE: checkpoint.pack(regressor_state["average"]),
    }
    card = Path(out) / CARD_FILE
    if card.exists():
        beside[CARD_FILE] = card.read_bytes()
    return export.write(
        out,
        face_model=face_model,
        detector=detector,
        detector_spec=DetectorSpec(
            max_height=720,
            max_width=1080,
            input_scale=0.5,
            score_threshold=score_threshold,
            candidate_threshold=0.1,
            nms_iou=0.35,
            pre_nms=300,
            keep=100,
        ),
        regressor=export.regressor_onnx(regressor),
        regressor_spec=RegressorSpec(
            input_size=CROP,
            shape_count=MODEL_SHAPES,
            expression_count=EXPRESSIONS,
            roi_box_scale=BOX_SCALE,
            roi_box_shift_down=BOX_SHIFT_DOWN,
            roi_whole_pixels=True,
            still_passes=1,
            still_roi_spread=0.1,
            minimum_roi_area_px=400.0,
            has_confidence=True,
        ),
        provenance={
            "source": "MakeHuman head (CC0 1.0); networks trained on synthetic pictures of it only",
            "made_by": "python -m tddfa_ros.training",
            "regressor_crops_seen": regressor_state["seen"],
            "detector_scenes_seen": scenes,
        },
        beside=beside,
    )


def _detector(path: Path, base: str | Path | None) -> tuple[bytes, Any]:
    """The network, and how many scenes it has seen."""
    if path.exists() or base is None:
        net, state = _network(path, DetectorNet())
        return export.detector_onnx(net), state["seen"]
    known = model_set.load(base)
    provenance = model_set.read_description(base).provenance
    return known.detector_path.read_bytes(), provenance.get("detector_scenes_seen")


def _network(path: Path, net: torch.nn.Module) -> tuple[Any, dict[str, Any]]:
    state = checkpoint.load(path)
    if state is None:
        raise ModelSetError(
            f"no training state {path}; run `python -m tddfa_ros.training train`, or export with "
            "--base SET to take that set's detector"
        )
    checkpoint.restore(net, state["average"], path)
    return net.eval(), state
