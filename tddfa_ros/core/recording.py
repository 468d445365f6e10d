"""Writers of videos and of JSON lines that survive an interruption.

Both write under a temporary name. Leaving their ``with`` block, by its end, an error or Ctrl-C,
closes the file properly and gives it its name; a file without a single frame, or one that was
discarded, is removed instead.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from tddfa_ros.core.atomic_file import temporary_beside
from tddfa_ros.core.errors import ImageError, MediaError

FALLBACK_RATE_HZ = 30.0
"""Frame rate of a video whose source names none, or names nonsense."""


def plausible_rate_hz(rate_hz: float) -> float:
    """`rate_hz` if it can be the frame rate of a video, else :data:`FALLBACK_RATE_HZ`."""
    return rate_hz if math.isfinite(rate_hz) and 0.5 <= rate_hz <= 1000 else FALLBACK_RATE_HZ


class _NamedWhenDone:
    """A file that lives under a temporary name until it is closed."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.frame_count = 0
        self._discarded = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_folder = self.path.is_dir()
        except OSError as error:
            raise MediaError(
                f"{error.filename}: cannot be made ({error.strerror}); choose another place"
            ) from error
        if is_folder:
            raise MediaError(f"{self.path}: is a folder; choose another name")
        self._temporary = temporary_beside(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _close_file(self) -> None:
        raise NotImplementedError

    def discard(self) -> None:
        """Have :meth:`close` remove the file; an earlier one of that name stays."""
        self._discarded = True

    def close(self) -> None:
        """Finish the file; without a frame nothing is left behind. May be called twice."""
        self._close_file()
        if not self._temporary.exists():
            return
        if self.frame_count and not self._discarded:
            self._temporary.replace(self.path)
        else:
            self._temporary.unlink()


class VideoWriter(_NamedWhenDone):
    """MPEG-4 video whose size is that of the first picture.

    The codec wants even sides: an odd one gets a copy of its last row or column. A later picture
    of another size is scaled to fit and framed in black.

    Parameters
    ----------
    path : must end in ``.mp4``
    rate_hz : frames a second

    Raises
    ------
    MediaError
        Wrong suffix, a folder of that name, a name that is not UTF-8, or OpenCV cannot open the
        file.
    """

    def __init__(self, path: str | os.PathLike, rate_hz: float) -> None:
        if Path(path).suffix.lower() != ".mp4":
            raise MediaError(f"{path}: a video is written as .mp4; end the name with it")
        absolute = Path(path).absolute()
        try:
            str(absolute).encode()
        except UnicodeEncodeError as error:  # OpenCV would crash
            raise MediaError(
                f"{absolute}: is not UTF-8, which OpenCV needs of the name of a video and of its "
                "folders; choose another"
            ) from error
        super().__init__(path)
        self._rate_hz = plausible_rate_hz(rate_hz)
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)

    def write(self, image_bgr: np.ndarray) -> None:
        """Add one picture, (height, width, 3) uint8."""
        if image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or image_bgr.dtype != np.uint8:
            raise ImageError(
                f"picture of shape {image_bgr.shape}, {image_bgr.dtype}: a video takes "
                "(height, width, 3) uint8"
            )
        if self._writer is None:
            self._writer = self._opened(image_bgr)
        self._writer.write(self._fitted(image_bgr))
        self.frame_count += 1

    def _opened(self, image_bgr: np.ndarray) -> cv2.VideoWriter:
        height, width = image_bgr.shape[:2]
        self._size_wh = (width + width % 2, height + height % 2)
        codec = cv2.VideoWriter_fourcc(*"mp4v")
        # Else FFmpeg takes what stands before a colon for a protocol.
        target = str(self._temporary.absolute())
        writer = cv2.VideoWriter(target, codec, self._rate_hz, self._size_wh)
        if not writer.isOpened():
            raise MediaError(
                f"{self.path}: cannot write a {width}x{height} video there; is the folder "
                "writable, and was OpenCV built with FFmpeg?"
            )
        return writer

    def _fitted(self, image_bgr: np.ndarray) -> np.ndarray:
        height, width = image_bgr.shape[:2]
        out_width, out_height = self._size_wh
        if (width, height) == self._size_wh:
            return image_bgr
        right, bottom = out_width - width, out_height - height
        if right in (0, 1) and bottom in (0, 1):
            return cv2.copyMakeBorder(image_bgr, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        ratio = min(out_width / width, out_height / height)
        size_wh = max(1, int(width * ratio)), max(1, int(height * ratio))
        framed = np.zeros((out_height, out_width, 3), np.uint8)
        left, top = (out_width - size_wh[0]) // 2, (out_height - size_wh[1]) // 2
        framed[top : top + size_wh[1], left : left + size_wh[0]] = cv2.resize(
            image_bgr, size_wh, interpolation=cv2.INTER_AREA
        )
        return framed

    def _close_file(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None


class LinesWriter(_NamedWhenDone):
    """Text file of one line a frame.

    Raises
    ------
    MediaError
        There is a folder of that name, or the file cannot be made.
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
        self._file.write(line)
        self.frame_count += 1

    def _close_file(self) -> None:
        self._file.close()
