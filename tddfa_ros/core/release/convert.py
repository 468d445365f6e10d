"""The files of the public 3DDFA_V2 release become a model set."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.model_description import DetectorSpec, RegressorSpec
from tddfa_ros.core.model_set import ModelSet
from tddfa_ros.core.model_set_writer import write_model_set
from tddfa_ros.core.release import manifest
from tddfa_ros.core.release.bfm import EXPRESSION_COUNT, SHAPE_COUNT, read_face_model
from tddfa_ros.core.release.folder import ReleaseFolder, check_arrays
from tddfa_ros.core.release.manifest import ReleaseFile
from tddfa_ros.core.release.networks import build_detector, build_regressor
from tddfa_ros.core.release.torch_file import read_state_dict

INPUT_SIZE = 120


def import_release(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    regressor: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> ModelSet:
    """Make a model set from a folder with the files of the release.

    Files that differ from the release's own are taken with a warning in the log that names them.
    The set appears under its name when it is complete; a set that was there is replaced.

    Parameters
    ----------
    folder : holds the files, flat or laid out as the release is
    out : the new set's folder; its last part becomes the set's name
    regressor : ``mb1`` (width 1) or ``mb05`` (half width, faster); None takes mb1 if it is there
    progress : receives a line of text before each step

    Raises
    ------
    ModelSetNotFoundError
        The folder or a file is missing.
    UnsafeFileError
        A file holds something else than plain data; nothing in it has been executed.
    ModelSetError
        The data is not that of the release's format, or `out` is something else than a set.
    """
    source = ReleaseFolder(Path(folder))
    report = progress or (lambda line: None)
    regressor = regressor or source.best_regressor()
    if regressor not in manifest.REGRESSORS:
        known = ", ".join(manifest.REGRESSORS)
        raise ModelSetError(f"regressor {regressor!r} is not one of {known}")
    source.check_complete((*manifest.COMMON_FILES, manifest.REGRESSORS[regressor]))
    report("reading the face model")
    face_model = read_face_model(source)
    report("making the networks")
    detector_onnx = _detector_onnx(source)
    regressor_onnx = _regressor_onnx(source, manifest.REGRESSORS[regressor])
    report("writing and checking the set")
    return write_model_set(
        out,
        face_model=face_model,
        detector=DetectorSpec(),
        detector_onnx=detector_onnx,
        regressor=RegressorSpec(
            input_size=INPUT_SIZE, shape_count=SHAPE_COUNT, expression_count=EXPRESSION_COUNT
        ),
        regressor_onnx=regressor_onnx,
        licence=manifest.LICENCE,
        licence_text=manifest.LICENCE_TEXT,
        provenance={
            "release": manifest.REPOSITORY,
            "commit": manifest.COMMIT,
            "regressor": regressor,
            "files": source.records,
        },
    )


def _detector_onnx(source: ReleaseFolder) -> bytes:
    weights = read_state_dict(source.read(manifest.DETECTOR), manifest.DETECTOR.name)
    return build_detector(weights).SerializeToString()


def _regressor_onnx(source: ReleaseFolder, file: ReleaseFile) -> bytes:
    statistics = source.pickle(manifest.PARAM_STATISTICS)
    check_arrays(manifest.PARAM_STATISTICS, statistics, {"mean": ("f", 1), "std": ("f", 1)})
    weights = read_state_dict(source.read(file), file.name)
    network = build_regressor(weights, statistics["mean"], statistics["std"], size=INPUT_SIZE)
    return network.SerializeToString()
