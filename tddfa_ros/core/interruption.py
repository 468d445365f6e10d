"""Ctrl-C that takes effect between two frames: all files of a run end with the same one."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Self, TypeVar

Item = TypeVar("Item")

EXIT_TERMINATED = 143


def set_from_handler(event: threading.Event) -> None:
    """Set an event from a signal's handler: in a thread, so that the handler cannot hang.

    The signal may have come in the event's own `wait`, with the lock held that `set` waits for.
    """
    _thread.start_new_thread(event.set, ())


class Interruption:
    """Within the ``with`` block, SIGINT and SIGTERM end :meth:`until_requested` after its item.

    A second signal acts at once. Leaving the block raises what the signal stands for:
    KeyboardInterrupt, or SystemExit with status 143. Works in the main thread only.

    Attributes
    ----------
    event : is set by the signal, for what waits where no item comes
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take over both signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal:
            self._raise()
        self._signal = number
        set_from_handler(self.event)

    def _raise(self) -> None:
        if self._signal == signal.SIGTERM:
            raise SystemExit(EXIT_TERMINATED)
        raise KeyboardInterrupt

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._signal != 0

    def check(self) -> None:
        """Raise what the signal stands for, if one has come: for what cannot end halfway."""
        if self._signal:
            self._raise()

    def until_requested(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass on `items` until a signal has come."""
        for item in items:
            if self._signal:
                return
            yield item
            if self._signal:
                return

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give the signals back, and raise for the one that came."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._signal and kind is None:
            self._raise()
