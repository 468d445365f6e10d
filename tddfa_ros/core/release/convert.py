"""The files of the public 3DDFA_V2 release become a model set."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tddfa_ros.core import model_set
from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.face_model import face_model_arrays
from tddfa_ros.core.model_description import (
    DESCRIPTION_FILE,
    FACE_MODEL_FILE,
    Description,
    DetectorSpec,
    FileRecord,
    RegressorSpec,
    dump_description,
)
from tddfa_ros.core.release import manifest
from tddfa_ros.core.release.bfm import EXPRESSION_COUNT, SHAPE_COUNT, read_face_model
from tddfa_ros.core.release.folder import ReleaseFolder, check_arrays
from tddfa_ros.core.release.lock import locked
from tddfa_ros.core.release.manifest import ReleaseFile
from tddfa_ros.core.release.networks import build_detector, build_regressor
from tddfa_ros.core.release.torch_file import read_state_dict

INPUT_SIZE = 120
Progress = Callable[[str], None]


def import_release(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    regressor: str | None = None,
    progress: Progress | None = None,
) -> model_set.ModelSet:
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
        A file is missing.
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
    out = Path(out).resolve()
    with _replacing_set(out) as temporary:
        report("reading the face model")
        face_model = read_face_model(source)
        report("writing the networks")
        contents = {
            FACE_MODEL_FILE: _npz(face_model_arrays(face_model)),
            DetectorSpec.file: _detector_onnx(source),
            RegressorSpec.file: _regressor_onnx(source, manifest.REGRESSORS[regressor]),
        }
        description = Description(
            path=temporary,
            name=out.name,
            licence=manifest.LICENCE,
            licence_text=manifest.LICENCE_TEXT,
            provenance={
                "release": manifest.REPOSITORY,
                "commit": manifest.COMMIT,
                "regressor": regressor,
                "files": source.records,
            },
            metres_per_unit=face_model.metres_per_unit,
            detector=DetectorSpec(),
            regressor=RegressorSpec(
                input_size=INPUT_SIZE, shape_count=SHAPE_COUNT, expression_count=EXPRESSION_COUNT
            ),
            files={
                name: FileRecord(len(data), hashlib.sha256(data).hexdigest())
                for name, data in contents.items()
            },
        )
        for name, data in contents.items():
            (temporary / name).write_bytes(data)
        (temporary / DESCRIPTION_FILE).write_text(dump_description(description), encoding="utf-8")
        report("checking the set")
        model_set.load(temporary)
    return model_set.load(out)


@contextmanager
def _replacing_set(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out` that takes its place on success."""
    if out.exists() and not (out.is_dir() and _may_be_replaced(out)):
        raise ModelSetError(f"{out} exists and is no model set; choose another folder for the set")
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    retired = temporary.with_suffix(".old")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        with locked(out.parent):
            if out.exists():
                out.replace(retired)
            temporary.replace(out)
    except OSError as error:
        raise ModelSetError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        if retired.exists() and not out.exists():
            retired.replace(out)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def _may_be_replaced(folder: Path) -> bool:
    return (folder / DESCRIPTION_FILE).is_file() or not any(folder.iterdir())


def _detector_onnx(source: ReleaseFolder) -> bytes:
    weights = read_state_dict(source.read(manifest.DETECTOR), manifest.DETECTOR.name)
    return build_detector(weights).SerializeToString()


def _regressor_onnx(source: ReleaseFolder, file: ReleaseFile) -> bytes:
    statistics = source.pickle(manifest.PARAM_STATISTICS)
    check_arrays(manifest.PARAM_STATISTICS, statistics, {"mean": ("f", 1), "std": ("f", 1)})
    weights = read_state_dict(source.read(file), file.name)
    network = build_regressor(weights, statistics["mean"], statistics["std"], size=INPUT_SIZE)
    return network.SerializeToString()


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Uncompressed: it is read far more often than it is moved."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()
