"""Model sets: where they are, what they must hold, and how they come into memory.

A set is a folder with ``model.yaml``, ``detector.onnx``, ``regressor.onnx`` and
``face_model.npz``; docs/architecture.md says what is in each. A set comes from outside, so sizes,
checksums, shapes, types and ranges are checked here, once; whoever holds a :class:`ModelSet` may
trust it. The networks themselves are opened by :mod:`tddfa_ros.core.onnx_session`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tddfa_ros.core.array_file import read_bounded, read_npz
from tddfa_ros.core.errors import ModelSetError, ModelSetNotFoundError, UnsafeFileError
from tddfa_ros.core.face_model import FaceModel, face_model_from_arrays
from tddfa_ros.core.model_description import (
    DESCRIPTION_FILE,
    FACE_MODEL_FILE,
    Description,
    DetectorSpec,
    RegressorSpec,
    read_description,
)

__all__ = [
    "DetectorSpec",
    "FaceModel",
    "ModelSet",
    "RegressorSpec",
    "available",
    "expanded",
    "find",
    "load",
    "read_description",
    "search_folders",
    "verify",
]

PREFERRED_NAMES = ("embedded", "tddfa_v2")
USER_FOLDER = Path("~/.cache/tddfa_ros/models")
MAX_ARRAY_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class ModelSet:
    """A set whose files have been checked and whose face model is in memory."""

    name: str
    path: Path
    licence: str
    detector: DetectorSpec
    regressor: RegressorSpec
    face_model: FaceModel

    @property
    def detector_path(self) -> Path:
        """The detector's network."""
        return self.path / self.detector.file

    @property
    def regressor_path(self) -> Path:
        """The regressor's network."""
        return self.path / self.regressor.file


def load(path: str | os.PathLike[str]) -> ModelSet:
    """Check a set's files and bring its face model into memory.

    Parameters
    ----------
    path : the set's folder, as :func:`find` returns it

    Raises
    ------
    ModelSetNotFoundError
        There is no set.
    ModelSetError
        A file is missing, of the wrong size or checksum, or its content is not what it must be.
    """
    description = read_description(path)
    contents = verify(description)
    source = str(description.path / FACE_MODEL_FILE)
    try:
        arrays = read_npz(contents, source, MAX_ARRAY_BYTES)
    except UnsafeFileError as error:
        raise ModelSetError(str(error)) from error
    face_model = face_model_from_arrays(arrays, description.metres_per_unit, source)
    regressor = description.regressor
    counts = (len(face_model.shape_basis), len(face_model.expression_basis))
    if counts != (regressor.shape_count, regressor.expression_count):
        raise ModelSetError(
            f"{source}: {counts[0]} shape and {counts[1]} expression vectors, but the regressor "
            f"gives {regressor.shape_count} and {regressor.expression_count}"
        )
    return ModelSet(
        name=description.name,
        path=description.path,
        licence=description.licence,
        detector=description.detector,
        regressor=regressor,
        face_model=face_model,
    )


def verify(description: Description) -> bytes:
    """Check size and SHA-256 of every file that ``model.yaml`` names.

    Returns
    -------
    the content of ``face_model.npz``, the very bytes that were checked

    Raises
    ------
    ModelSetError
    """
    face_model = b""
    for name, record in description.files.items():
        path = description.path / name
        try:
            data = read_bounded(path, record.size_bytes)
        except (OSError, UnsafeFileError) as error:
            raise ModelSetError(f"{path}: {error}. Import the set anew.") from error
        digest = hashlib.sha256(data).hexdigest()
        if len(data) != record.size_bytes or digest != record.sha256:
            raise ModelSetError(
                f"{path}: {len(data)} bytes with SHA-256 {digest[:12]}..., but {DESCRIPTION_FILE} "
                f"says {record.size_bytes} and {record.sha256[:12]}...: damaged or exchanged. "
                "Import the set anew."
            )
        if name == FACE_MODEL_FILE:
            face_model = data
    return face_model


def expanded(path: str | os.PathLike[str]) -> Path:
    """Path with the home folder that it begins with, ``~`` or ``~name``, in full.

    Raises
    ------
    ModelSetError
        Nobody knows that folder, as in a container whose user has no entry and no ``HOME``.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ModelSetError(
            f"{os.fspath(path)}: that home folder is not known; set HOME or give a path without ~"
        ) from error


def search_folders() -> list[Path]:
    """Folders that hold sets, or are one, in the order in which they are searched.

    Those below a home folder that is not known are left out.
    """
    folders = []
    for place in (*_path_list("TDDFA_MODELS"), str(USER_FOLDER)):
        with suppress(ModelSetError):
            folders.append(expanded(place))
    module = Path(__file__).absolute()
    for root in (module.parents[2], module.resolve().parents[2]):
        if (root / "package.xml").is_file():  # the source tree
            folders.append(root / "models")
    if len(module.parents) > 5:  # <prefix>/lib/python3.x/site-packages/tddfa_ros/core/
        folders.append(module.parents[5] / "share" / "tddfa_ros" / "models")
    folders += [Path(p) / "share" / "tddfa_ros" / "models" for p in _path_list("AMENT_PREFIX_PATH")]
    return list(dict.fromkeys(folders))


def available() -> list[Path]:
    """Folders of all sets that can be found by name, in search order; nothing is checked."""
    found: dict[str, Path] = {}
    for folder in search_folders():
        for candidate in _sets_in(folder):
            found.setdefault(candidate.name, candidate)
    return list(found.values())


def find(name_or_path: str | os.PathLike[str] = "") -> Path:
    """Return the folder of a set.

    Parameters
    ----------
    name_or_path : a path (anything with a separator, or that starts with ``~`` or ``.``), else a
        name, which is that of the set's folder. Names are looked up in ``$TDDFA_MODELS``, in
        ``~/.cache/tddfa_ros/models``, in the package's own share, and last in the working folder.
        Empty: ``embedded``, else ``tddfa_v2``, else whichever set is found first.

    Raises
    ------
    ModelSetNotFoundError
    """
    wanted = os.fspath(name_or_path)
    if wanted and (os.sep in wanted or wanted[0] in "~."):
        try:
            path = expanded(wanted)
        except ModelSetError as error:
            raise ModelSetNotFoundError(f"model set {error}") from error
        if _is_set(path):
            return path
        raise ModelSetNotFoundError(
            f"model set {wanted!r}: no {DESCRIPTION_FILE} in {path.absolute()}. {_remedy()}"
        )
    found = {path.name: path for path in available()}
    for name in (wanted,) if wanted else (*PREFERRED_NAMES, *found):
        if name in found:
            return found[name]
    if wanted and _is_set(Path(wanted)):
        return Path(wanted)
    looked = ", ".join(str(folder) for folder in search_folders())
    what = f"model set {wanted!r} not found" if wanted else "no model set found"
    known = f"; known: {', '.join(found)}" if found else ""
    raise ModelSetNotFoundError(f"{what}; looked in {looked}{known}. {_remedy(wanted)}")


def _remedy(name: str = "") -> str:
    if name == "embedded":
        return "The embedded set is part of the package: install or check out the package anew."
    return (
        "Get the public 3DDFA_V2 models with `python -m tddfa_ros models fetch`, or, from a folder "
        "that has them, `python -m tddfa_ros models import <folder>`."
    )


def _path_list(variable: str) -> list[str]:
    return [part for part in os.environ.get(variable, "").split(os.pathsep) if part]


def _is_set(folder: Path) -> bool:
    # Path.is_file raises on names that are too long.
    return os.path.isfile(folder / DESCRIPTION_FILE)  # noqa: PTH113


def _sets_in(folder: Path) -> Iterator[Path]:
    if _is_set(folder):
        yield folder
        return
    try:
        children = sorted(folder.iterdir())
    except OSError:  # absent or not ours to read: then it holds no set for us
        return
    yield from (c for c in children if not c.name.startswith(".") and _is_set(c))
