"""Writes model sets: the whole set appears under its name, or nothing does."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tddfa_ros.core import model_set
from tddfa_ros.core.atomic_file import put_in_place
from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.face_model import FaceModel, face_model_arrays
from tddfa_ros.core.folder_lock import locked
from tddfa_ros.core.model_description import (
    DESCRIPTION_FILE,
    FACE_MODEL_FILE,
    Description,
    DetectorSpec,
    FileRecord,
    RegressorSpec,
    dump_description,
)


def write_model_set(
    out: str | os.PathLike[str],
    *,
    face_model: FaceModel,
    detector: DetectorSpec,
    detector_onnx: bytes,
    regressor: RegressorSpec,
    regressor_onnx: bytes,
    licence: str,
    licence_text: str = "",
    provenance: Mapping[str, Any],
    beside: Mapping[str, bytes] | None = None,
    compressed: bool = False,
) -> model_set.ModelSet:
    """Write a set, check it, and put it in the place of the one that was there.

    Parameters
    ----------
    out : the new set's folder; its last part becomes the set's name
    face_model : written as ``face_model.npz``
    detector, regressor : how to use the networks, and their file names
    detector_onnx, regressor_onnx : the networks
    licence, licence_text : in a line, and in full
    provenance : plain data, where the set comes from
    beside : further files by name, which the set does not need: a card, say
    compressed : write the face model so; it is smaller, and slower to read

    Raises
    ------
    ModelSetError
        The set would not load, `out` is something else than a set, or the disk cannot be written.
    """
    out = Path(out).resolve()
    contents = {
        FACE_MODEL_FILE: _npz(face_model_arrays(face_model), compressed=compressed),
        detector.file: detector_onnx,
        regressor.file: regressor_onnx,
    }
    with _replacing_set(out) as temporary:
        description = Description(
            path=temporary,
            name=out.name,
            licence=licence,
            licence_text=licence_text,
            provenance=dict(provenance),
            metres_per_unit=face_model.metres_per_unit,
            detector=detector,
            regressor=regressor,
            files={
                name: FileRecord(len(data), hashlib.sha256(data).hexdigest())
                for name, data in contents.items()
            },
        )
        for name, data in (contents | dict(beside or {})).items():
            (temporary / name).write_bytes(data)
        (temporary / DESCRIPTION_FILE).write_text(dump_description(description), encoding="utf-8")
        written = model_set.load(temporary)
    return dataclasses.replace(written, path=out)


def check_replaceable(out: str | os.PathLike[str]) -> None:
    """See that a set may be written to `out`: before long work, too.

    Raises
    ------
    ModelSetError
        Something else than a set is there.
    """
    out = Path(out)
    if not out.exists():
        return
    if out.is_dir() and ((out / DESCRIPTION_FILE).is_file() or not any(out.iterdir())):
        return
    raise ModelSetError(f"{out} exists and is no model set; choose another folder for the set")


@contextmanager
def _replacing_set(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out` that takes its place on success."""
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    try:
        with locked(out.parent):
            check_replaceable(out)
        temporary.mkdir()
        yield temporary
        with locked(out.parent):
            check_replaceable(out)
            put_in_place(temporary, out)
    except OSError as error:
        where = error.filename or out
        raise ModelSetError(f"{where}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _npz(arrays: dict[str, np.ndarray], *, compressed: bool) -> bytes:
    """Uncompressed unless asked: it is read far more often than it is moved."""
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()
