"""What is written piece by piece and has its name only once it is complete."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tddfa_ros.core.atomic_file import temporary_beside
from tddfa_ros.core.errors import MediaError


class NamedWhenDone(ABC):
    """A file or folder that lives under a temporary name until it is closed.

    Leaving its ``with`` block, by its end, an error or Ctrl-C, closes it properly and gives it its
    name; if nothing was written, if it was discarded, or could not be written in full, it is
    removed instead.

    Attributes
    ----------
    path : its name
    count : frames, lines or messages written so far
    in_place : whether it was closed and has its name
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.count = 0
        self.in_place = False
        self._discarded = False
        self._temporary = temporary_beside(self.path)

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @abstractmethod
    def _close_file(self) -> None:
        """Write what is left to write, and close."""

    def _take_name(self) -> None:
        self._temporary.replace(self.path)

    def _remove(self) -> None:
        with suppress(OSError):
            self._temporary.unlink()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what fails inside into a :class:`MediaError`; all is given up then."""
        try:
            yield
        except OSError as error:
            self._discarded = True
            raise MediaError(
                f"{self.path}: cannot be written ({error.strerror}); make room there, or choose "
                "another place"
            ) from error

    def discard(self) -> None:
        """Have :meth:`close` remove it; what had that name before stays."""
        self._discarded = True

    def close(self) -> None:
        """Finish it; if nothing was written, nothing is left behind. May be called twice.

        Raises
        ------
        MediaError
            What was left to write could not be written; what had that name before stays.
        """
        given_up = self._discarded
        try:
            with self._writing():
                self._close_file()
                if self.count and not self._discarded and not self.in_place:
                    self._take_name()
                    self.in_place = True
        except MediaError:
            if not given_up:  # else that it cannot be closed either is no news
                raise
        finally:
            self._remove()
