"""Pictures into an mp4 file, each at its own time."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.codec.codec import UnknownCodecError
from av.codec.context import Flags
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

from tddfa_ros.core.errors import MediaError


@dataclass(frozen=True)
class _Codec:
    """An encoder of FFmpeg, without pictures that depend on later ones.

    Attributes
    ----------
    name : as FFmpeg calls it
    ticks_hz : times are multiples of 1 / `ticks_hz` seconds
    options : what FFmpeg calls private options
    """

    name: str
    ticks_hz: int
    options: dict[str, str]


CODECS = (
    # Plays everywhere. Periods of all usual rates, as 1001/24000 s, are whole numbers of ticks.
    _Codec("libx264", 360_000, {"preset": "ultrafast", "crf": "23"}),
    # In every FFmpeg, but no browser plays it. It knows no shorter ticks than 1/65535 s.
    _Codec("mpeg4", 60_000, {"qmin": "4", "qmax": "4"}),
)
"""The first one that FFmpeg was built with is taken."""

_SMPTE170M = 6  # AVCOL_SPC_SMPTE170M, of which PyAV has no name: the matrix of BT.601
_RED, _BLUE = 0.299, 0.114
_BGR_OF_LUMA = np.array([_BLUE, 1 - _BLUE - _RED, _RED])
# ITU-R BT.601-7, 2.5.1 to 2.5.3, of 8 bits. The third row is there for OpenCV's fast path.
_CHROMA_FROM_BGR = np.zeros((3, 4), np.float32)
_CHROMA_FROM_BGR[0, :3] = 224 / 255 * (np.array([1, 0, 0]) - _BGR_OF_LUMA) / (2 * (1 - _BLUE))
_CHROMA_FROM_BGR[1, :3] = 224 / 255 * (np.array([0, 0, 1]) - _BGR_OF_LUMA) / (2 * (1 - _RED))
_CHROMA_FROM_BGR[:2, 3] = 128


class VideoEncoder:
    """An open mp4 file, to be closed.

    Colours follow ITU-R BT.601, in limited range: what readers take for granted that ignore the
    file's word on it. One thread encodes: the others are for the faces.

    Parameters
    ----------
    path : written through a file of Python's. FFmpeg would take what stands before a colon for a
        protocol, and refuse a name that is not UTF-8.
    size_wh : of the pictures; an odd side grows by one
    rate_hz : how many of them come a second, about: a hint for the codec

    Raises
    ------
    OSError, av.FFmpegError
        Here and later, when something cannot be written or encoded.
    MediaError
        FFmpeg has no codec for it.
    """

    def __init__(self, path: Path, size_wh: tuple[int, int], rate_hz: float) -> None:
        codec = _first_available(CODECS)
        width, height = size_wh
        self.size_wh = (width + width % 2, height + height % 2)
        self._ticks_hz = codec.ticks_hz
        self._last_ticks = -1
        self._file = path.open("wb")
        self._container = av.open(self._file, "w", format="mp4")
        rate = Fraction(rate_hz).limit_denominator(1001)
        self._stream = cast(
            av.VideoStream,
            self._container.add_stream(codec.name, rate=rate, options=codec.options),
        )
        context = self._stream.codec_context
        context.width, context.height = self.size_wh
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, codec.ticks_hz)
        context.thread_count = 1
        context.flags |= Flags.frame_duration  # else the last picture stays for 1 / rate_hz
        context.color_range = ColorRange.MPEG
        context.colorspace = _SMPTE170M
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709

    def write(self, image_bgr: np.ndarray, time_ns: float, step_ns: float) -> None:
        """Add one picture, (height, width, 3) uint8 BGR.

        Parameters
        ----------
        image_bgr : of another size than the video, it is scaled to fit and framed in black
        time_ns : when it is shown; one tick after the one before, if that is not earlier
        step_ns : for how long it is shown, if it is the last
        """
        frame = _yuv_frame(_fitted(image_bgr, self.size_wh))
        frame.time_base = Fraction(1, self._ticks_hz)
        frame.pts = max(round(time_ns * self._ticks_hz / 1e9), self._last_ticks + 1)
        frame.duration = max(round(step_ns * self._ticks_hz / 1e9), 1)
        self._last_ticks = frame.pts
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left."""
        with self._file:
            try:
                self._container.mux(self._stream.encode(None))
            finally:
                self._container.close()


def _first_available(codecs: Iterable[_Codec]) -> _Codec:
    for codec in codecs:
        with suppress(UnknownCodecError):
            av.Codec(codec.name, "w")
            return codec
    names = " or ".join(codec.name for codec in codecs)
    raise MediaError(f"FFmpeg was built without {names}, to write videos; install av from PyPI")


def _fitted(image_bgr: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    height, width = image_bgr.shape[:2]
    out_width, out_height = size_wh
    if (width, height) == size_wh:
        return image_bgr
    right, bottom = out_width - width, out_height - height
    if right in (0, 1) and bottom in (0, 1):
        return cv2.copyMakeBorder(image_bgr, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    ratio = min(out_width / width, out_height / height)
    fitted_wh = max(1, int(width * ratio)), max(1, int(height * ratio))
    framed = np.zeros((out_height, out_width, 3), np.uint8)
    left, top = (out_width - fitted_wh[0]) // 2, (out_height - fitted_wh[1]) // 2
    framed[top : top + fitted_wh[1], left : left + fitted_wh[0]] = cv2.resize(
        image_bgr, fitted_wh, interpolation=cv2.INTER_AREA
    )
    return framed


def _yuv_frame(image_bgr: np.ndarray) -> av.VideoFrame:
    """Luma, and chroma of half the width and height, of a picture with even sides.

    OpenCV's own conversion takes the chroma of one pixel in four, so that thin lines lose their
    colour; here it is the mean of the four. It is closer than that of FFmpeg, in half the time.
    """
    height, width = image_bgr.shape[:2]
    luma = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2YUV_I420)[:height]
    halved = cv2.resize(image_bgr, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    chroma = cv2.transform(halved, _CHROMA_FROM_BGR)
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane, values in zip(frame.planes, (luma, chroma[..., 0], chroma[..., 1]), strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        rows[: plane.height, : plane.width] = values
    return frame
