"""Search for faces beside the tracking, off its critical path, and still deterministic.

A search started at frame k runs in a thread and is taken up at frame k + ``LAG_FRAMES``, whether it
ended earlier or has to be waited for. So what is tracked depends on the images alone, never on how
fast the machine was; at camera rate the wait is never long, since three frames take longer than a
detection.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tddfa_ros.core.followed import Track
from tddfa_ros.core.motion import Motion
from tddfa_ros.core.types import Detections

LAG_FRAMES = 3


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and which faces were followed in the frame that it looked at.

    Attributes
    ----------
    detections : faces in that frame
    followed : the faces followed there, and the motion of each
    """

    detections: Detections
    followed: dict[Track, Motion]


class BackgroundSearch:
    """Runs a detector now, or in a thread with a fixed lag in frames.

    Parameters
    ----------
    detect : finds the faces of a BGR image; also told the index of its frame, and how far to zoom
        into its parts
    """

    def __init__(self, detect: Callable[[np.ndarray, int, int], Detections]) -> None:
        self._detect = detect
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="face_search")
        self._pending: tuple[int, Future[Detections], dict[Track, Motion]] | None = None

    @property
    def running(self) -> bool:
        """Whether a search was started and not yet taken up."""
        return self._pending is not None

    def now(
        self, image_bgr: np.ndarray, frame_index: int, followed: dict[Track, Motion], zoom: int
    ) -> SearchResult:
        """Search this image and wait; a search still running is dropped."""
        self.cancel()
        return SearchResult(self._detect(image_bgr, frame_index, zoom), followed)

    def start(
        self, image_bgr: np.ndarray, frame_index: int, followed: dict[Track, Motion], zoom: int
    ) -> None:
        """Search a copy of this image in the background (the caller may reuse its buffer)."""
        self.cancel()
        future = self._executor.submit(self._detect, image_bgr.copy(), frame_index, zoom)
        self._pending = (frame_index + LAG_FRAMES, future, followed)

    def collect(self, frame_index: int) -> SearchResult | None:
        """Return the result of the running search if it is due at this frame, else None."""
        if self._pending is None or frame_index < self._pending[0]:
            return None
        _, future, followed = self._pending
        self._pending = None
        return SearchResult(future.result(), followed)

    def cancel(self) -> None:
        """Drop the running search, if any."""
        if self._pending is not None:
            self._pending[1].cancel()
            self._pending = None

    def close(self) -> None:
        """Drop the running search and end the thread."""
        self.cancel()
        self._executor.shutdown(wait=True)
