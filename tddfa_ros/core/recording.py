"""Writers of videos and of JSON lines that survive an interruption: see :class:`NamedWhenDone`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from tddfa_ros.core.errors import ImageError, MediaError
from tddfa_ros.core.media_stream import FALLBACK_RATE_HZ
from tddfa_ros.core.named_when_done import NamedWhenDone
from tddfa_ros.core.video_encoder import VideoEncoder

LONGEST_GAP_NS = 600_000_000_000
"""For so long a picture is shown at most: a clock that was set may leap by years. Where the source
states so low a rate that two of its periods are longer, it is those."""


class _Written(NamedWhenDone):
    """A file whose folder is made, and whose name is no folder's."""

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_folder = self.path.is_dir()
        except OSError as error:
            raise MediaError(
                f"{error.filename}: cannot be made ({error.strerror}); choose another place"
            ) from error
        if is_folder:
            raise MediaError(f"{self.path}: is a folder; choose another name")


class _Times:
    """When each picture of a video is shown: its stamp, counted from the first one.

    A picture that is not later than the one before comes as soon after it as can be, so that those
    after it keep their time. Where time stays behind, as in a recording that is played again, or
    leaps back by a step or more, it goes on from there, one step after what came before. Gaps are
    cut to :data:`LONGEST_GAP_NS`, or to two periods of `rate_hz` if that is longer.

    Parameters
    ----------
    rate_hz : its period is the usual step; None takes the newest gap that there was
    """

    def __init__(self, rate_hz: float | None) -> None:
        self.step_ns = 1e9 / (rate_hz or FALLBACK_RATE_HZ)
        self._longest_gap_ns = max(LONGEST_GAP_NS, 2 * self.step_ns)
        self._follows_gaps = rate_hz is None
        self._last_ns = -self.step_ns
        self._zero_ns: int | None = None
        self._is_behind = False

    def next_ns(self, stamp_ns: int | None) -> float:
        """Nanoseconds from the first picture on; never less than those before."""
        if stamp_ns is None:
            self._last_ns += self.step_ns
            return self._last_ns
        gap_ns = self.step_ns
        if self._zero_ns is not None:
            # In whole numbers: else the same stamp again would come a fraction later.
            gap_ns = stamp_ns - self._zero_ns - round(self._last_ns)
            if gap_ns > 0:
                self._is_behind = False
                gap_ns = min(gap_ns, self._longest_gap_ns)
                if self._follows_gaps:
                    self.step_ns = gap_ns
            else:
                leaps = self._is_behind or gap_ns <= -self.step_ns
                self._is_behind = True
                if not leaps:
                    return self._last_ns
                gap_ns = self.step_ns
        self._last_ns += gap_ns
        self._zero_ns = stamp_ns - round(self._last_ns)
        return self._last_ns


class VideoWriter(_Written):
    """Video (H.264, where FFmpeg has it) of stamped pictures, each shown at its own time.

    Its size is that of the first picture. The codec wants even sides: an odd one gets a copy of
    its last row or column. A later picture of another size is scaled to fit and framed in black.

    Parameters
    ----------
    path : must end in ``.mp4``
    rate_hz : pictures a second, as their source states it; None if it does not. Pictures without
        stamps come at this rate, and the last one is shown for its period.

    Raises
    ------
    MediaError
        Wrong suffix, or a folder of that name.
    """

    def __init__(self, path: str | os.PathLike, rate_hz: float | None) -> None:
        if Path(path).suffix.lower() != ".mp4":
            raise MediaError(f"{path}: a video is written as .mp4; end the name with it")
        super().__init__(path)
        self._times = _Times(rate_hz)
        self._encoder: VideoEncoder | None = None

    def write(self, image_bgr: np.ndarray, stamp_ns: int | None = None) -> None:
        """Add one picture.

        Parameters
        ----------
        image_bgr : (height, width, 3) uint8
        stamp_ns : nanoseconds since any time; None for a period after the one before. Pictures of
            a video have either all a stamp, or none.

        Raises
        ------
        ImageError
            No such picture.
        MediaError
            It cannot be encoded or written. An earlier file of that name stays.
        """
        if image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or image_bgr.dtype != np.uint8:
            raise ImageError(
                f"picture of shape {image_bgr.shape}, {image_bgr.dtype}: a video takes "
                "(height, width, 3) uint8"
            )
        with self._writing():
            if self._encoder is None:
                height, width = image_bgr.shape[:2]
                rate_hz = 1e9 / self._times.step_ns
                self._encoder = VideoEncoder(self._temporary, (width, height), rate_hz)
            time_ns = self._times.next_ns(stamp_ns)
            self._encoder.write(image_bgr, time_ns, self._times.step_ns)
        self.count += 1

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with super()._writing():
                yield
        except av.FFmpegError as error:
            self._discarded = True
            size = "x".join(map(str, self._encoder.size_wh)) if self._encoder else "such"
            raise MediaError(
                f"{self.path}: no video of {size} pixels can be made ({error.strerror}); try "
                "smaller pictures"
            ) from error

    def _close_file(self) -> None:
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()


class LinesWriter(_Written):
    """Text file of one line a frame.

    Raises
    ------
    MediaError
        There is a folder of that name, or the file cannot be made or written.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__(path)
        try:
            self._file = self._temporary.open("w", encoding="utf-8")
        except OSError as error:
            raise MediaError(
                f"{self.path}: cannot be written ({error.strerror}); choose another place"
            ) from error

    def write(self, line: str) -> None:
        """Add one line, which brings its own newline."""
        with self._writing():
            self._file.write(line)
        self.count += 1

    def _close_file(self) -> None:
        self._file.close()
