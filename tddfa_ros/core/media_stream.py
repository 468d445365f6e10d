"""What all sources of images have in common: images with stamps and names, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np

from tddfa_ros.core.errors import MediaError

FALLBACK_RATE_HZ = 30.0
"""Frame rate of what states none, or states nonsense."""

_log = logging.getLogger(__name__)


def plausible_rate_hz(rate_hz: float) -> float | None:
    """`rate_hz` if it can be the rate of a camera, a video or a time-lapse, else None."""
    return rate_hz if 0.001 <= rate_hz <= 1000 else None


@dataclass(frozen=True)
class MediaFrame:
    """One image of a source.

    Attributes
    ----------
    image_bgr : (height, width, 3) uint8, C-contiguous; may be read-only
    stamp_ns : nanoseconds; since the beginning of a video or folder, else since 1970
    name : file name of an image that has one of its own, else empty
    frame_id : coordinate frame that a bag gives, else empty
    """

    image_bgr: np.ndarray
    stamp_ns: int
    name: str = ""
    frame_id: str = ""


class Media:
    """An open source of images: iterate once, then close (or use as a context manager).

    Attributes
    ----------
    kind : video, image, folder, camera or bag
    source : as given
    live : whether images come from now, with stamps from the clock
    fps : images per second, or None where the source has none
    frame_count : number of images as the source states it, or None
    width, height : pixels of the first image, 0 before it is known
    skipped : broken images left out so far
    told : what was logged about them, here and when the source was open before
    """

    kind = ""
    live = False

    def __init__(self, source: str, told: Collection[str] = ()) -> None:
        self.source = source
        self.fps: float | None = None
        self.frame_count: int | None = None
        self.width = 0
        self.height = 0
        self.skipped = 0
        self.told = set(told)
        self._told_before = frozenset(told)
        self._frames: Iterator[MediaFrame] = iter(())

    def _start(self, frames: Iterator[MediaFrame]) -> None:
        """Read the first image, so that an empty source is an error at once."""
        first = next(frames, None)
        if first is None:
            self.close()
            raise MediaError(f"{self.source}: no readable image in this {self.kind}")
        self.height, self.width = first.image_bgr.shape[:2]
        self._frames = chain((first,), frames)

    def __iter__(self) -> Iterator[MediaFrame]:
        """Return the iterator over what has not been read yet."""
        return self._frames

    def _skip(self, what: str) -> None:
        self.skipped += 1
        self.told.add(what)
        if what not in self._told_before:
            _log.warning("%s: left out: %s", self.source, what)

    def close(self) -> None:
        """Release files and devices; iterating ends."""

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()
