"""Files and folders that appear under their final name only when they are complete."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def temporary_beside(path: str | os.PathLike) -> Path:
    """Hidden, unique name in the folder of `path`, with the same suffix (writers go by it)."""
    path = Path(path)
    # With four bytes a character, 255 in all: the longest that a file system takes.
    stem, suffix = path.stem[:40], path.suffix[:20]
    return path.with_name(f".{stem}.{secrets.token_hex(4)}.part{suffix}")


def replaced_input(outputs: Iterable[Path], inputs: Iterable[str | os.PathLike]) -> Path | None:
    """First of `outputs` that is one of `inputs`, or a folder that holds one; None if none is.

    Who writes there by the functions of this module would lose what is read. Links are followed.
    """
    read: set[Path] = set()
    for path in inputs:
        # realpath, as Path.resolve raises where links lead in a circle.
        real = Path(os.path.realpath(path))
        read.update((real, *real.parents))
    return next((path for path in outputs if Path(os.path.realpath(path)) in read), None)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path; on success it takes the place of `path`, else it is removed.

    The folder is made when it does not exist. Readers of `path` see the old content or the whole
    new one, never a part.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def put_in_place(complete: Path, path: Path) -> None:
    """Give a folder the name `path`, on the same file system; one that is there is removed after.

    At no moment is there only a part of either. If the process dies in between, the old one lies
    beside `path`, hidden, its name ending in ``.old``; if the new one cannot be moved, the old one
    gets its name back.
    """
    if not path.exists():
        complete.replace(path)
        return
    retired = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.old")
    path.replace(retired)
    try:
        complete.replace(path)
    except OSError:
        retired.replace(path)
        raise
    if retired.is_dir() and not retired.is_symlink():
        shutil.rmtree(retired, ignore_errors=True)
    else:
        retired.unlink()
