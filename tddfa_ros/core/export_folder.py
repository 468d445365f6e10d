"""Names of files that somebody else chooses, kept below one folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from tddfa_ros.core.errors import ExportError

# A file system takes 255 bytes for a name; the rest is for what a temporary file adds to it.
LONGEST_NAME_BYTES = 200
LONGEST_PATH_BYTES = 1000


def path_below(folder: str | os.PathLike[str], name: str, suffix: str) -> Path:
    """Check a name from outside and say which file it means.

    Parameters
    ----------
    folder : below which the file must lie; ``~`` is the user's home; need not exist yet
    name : of the file, may name folders below `folder`; `suffix` is added unless it ends in it
    suffix : of the file's format, with its dot

    Returns
    -------
    Absolute path without symbolic links in its folders.

    Raises
    ------
    ExportError
        The name is absolute, contains ``..``, unprintable or too many characters, or no file's
        name, or leads out of the folder through a symbolic link.
    """
    if not os.fspath(folder).strip():
        raise ExportError("no folder for exports is set; set export_dir")
    if not name.isprintable():
        raise ExportError(f"file name {name!r}: contains unprintable characters; leave them out")
    asked = PurePosixPath(name)
    if asked.is_absolute():
        raise ExportError(f"file name {name!r}: is absolute; give one below the export folder")
    if ".." in asked.parts:
        raise ExportError(f"file name {name!r}: contains '..'; give one below the export folder")
    if not asked.name or name.endswith("/"):
        raise ExportError(f"file name {name!r}: names no file; give one such as head{suffix}")
    if asked.suffix.lower() != suffix:
        asked = asked.with_name(asked.name + suffix)
    longest = max(len(part.encode()) for part in asked.parts)
    if longest > LONGEST_NAME_BYTES or len(str(asked).encode()) > LONGEST_PATH_BYTES:
        raise ExportError(
            f"file name of {len(name)} characters: at most {LONGEST_NAME_BYTES} bytes between two "
            f"slashes and {LONGEST_PATH_BYTES} in all; shorten it"
        )
    try:
        root = Path(folder).expanduser().resolve()
        path = (root / asked.parent).resolve() / asked.name
    except (OSError, RuntimeError) as error:
        raise ExportError(
            f"file name {name!r}: cannot be followed ({error}); choose another"
        ) from (error)
    if not path.is_relative_to(root):
        raise ExportError(f"file name {name!r}: leads out of the export folder; choose another")
    return path
