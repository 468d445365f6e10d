"""A folder with files of the public 3DDFA_V2 release, flat or laid out as the release is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from tddfa_ros.core.array_file import read_bounded
from tddfa_ros.core.errors import ModelSetError, ModelSetNotFoundError
from tddfa_ros.core.release import manifest
from tddfa_ros.core.release.manifest import ReleaseFile
from tddfa_ros.core.release.unpickle import read_pickle

_log = logging.getLogger(__name__)


class ReleaseFolder:
    """Reads the release's files from a folder and keeps a record of each.

    Attributes
    ----------
    folder : where they are
    records : name of each file read so far -> its git blob id, and whether that is the release's

    Raises
    ------
    ModelSetNotFoundError
        There is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ModelSetNotFoundError(f"{folder}: no such folder; name that of the release")
        self.folder = folder
        self.records: dict[str, dict[str, Any]] = {}

    def best_regressor(self) -> str:
        """Name of the most accurate regressor that is there."""
        for name, file in manifest.REGRESSORS.items():
            if manifest.path_in(self.folder, file):
                return name
        names = " or ".join(file.name for file in manifest.REGRESSORS.values())
        raise ModelSetNotFoundError(f"{self.folder}: no regressor; it needs {names}")

    def check_complete(self, files: tuple[ReleaseFile, ...]) -> None:
        """Raise :class:`ModelSetNotFoundError` that names all files that are missing."""
        missing = [f.name for f in files if manifest.path_in(self.folder, f) is None]
        if missing:
            raise ModelSetNotFoundError(
                f"{self.folder}: lacks {', '.join(missing)} of the 3DDFA_V2 release; "
                "`python -m tddfa_ros models fetch` downloads all of them"
            )

    def read(self, file: ReleaseFile) -> bytes:
        """Return a file's content; a content other than the release's is logged and recorded."""
        path = manifest.path_in(self.folder, file)
        try:
            data = read_bounded(path or self.folder / file.name, manifest.MAX_FILE_BYTES)
        except OSError as error:
            raise ModelSetError(f"{path}: cannot be read: {error.strerror}") from error
        genuine = file.is_genuine(data)
        if not genuine:
            _log.warning(
                "%s differs from the file of that name in the 3DDFA_V2 release; taken as it is",
                path,
            )
        self.records[file.name] = {
            "git_blob_id": manifest.git_blob_id(data),
            "as_released": genuine,
        }
        return data

    def pickle(self, file: ReleaseFile) -> Any:
        """Return the plain data in a pickle."""
        return read_pickle(self.read(file), file.name)


def check_arrays(
    file: ReleaseFile, value: Any, expected: dict[str, tuple[str, int | None]]
) -> None:
    """Each named entry must be an array of one of the dtype kinds and of that many dimensions."""
    if not isinstance(value, dict):
        raise ModelSetError(f"{file.name}: expected a dict, got {type(value).__name__}")
    for name, (kinds, dimensions) in expected.items():
        array = value.get(name)
        if (
            not isinstance(array, np.ndarray)
            or array.dtype.kind not in kinds
            or dimensions not in (None, array.ndim)
        ):
            shape = f" of {dimensions} dimensions" if dimensions else ""
            raise ModelSetError(f"{file.name}: {name} is no array of numbers{shape}")
