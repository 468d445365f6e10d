"""Where images come from: video, image, folder of images, camera or rosbag2, all read alike.

:func:`open_media` tells them apart. Whatever is broken in the middle of a recording is left out,
logged and counted in ``skipped``; only a source without a single image is an error.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, pairwise, tee
from pathlib import Path

import av
import cv2
import numpy as np

from tddfa_ros.core.array_file import read_bounded
from tddfa_ros.core.errors import ImageError, MediaError, UnsafeFileError
from tddfa_ros.core.image_encoding import MAX_PIXELS, bgr_from_array, bgr_from_file_bytes
from tddfa_ros.core.media_stream import (
    FALLBACK_RATE_HZ,
    Media,
    MediaFrame,
    plausible_rate_hz,
)

BAG_SUFFIXES = frozenset((".mcap", ".db3"))
IMAGE_SUFFIXES = frozenset(
    ".bmp .dib .jpeg .jpg .jpe .jp2 .png .webp .pbm .pgm .ppm .pnm .tif .tiff".split()
)

MAX_IMAGE_BYTES = 4 * MAX_PIXELS
"""Larger image files are refused: as many bytes as the largest image takes with four channels."""

STILL_INTERVAL_NS = 1_000_000_000
"""Distance of the stamps of the images of a folder, which have no time of their own."""

CAMERA_RETRY_S = 1.0
_CAMERA_TIMEOUT_MS = 10_000
"""For a network stream to answer, and for its next image: OpenCV's own 30 s cannot be stopped."""
_ASK_TIMEOUT_S = 3.0
_LIVE_FORMATS = frozenset(("hls", "dash", "mpjpeg"))
"""Of which the length that a server states is a playlist's, or means nothing."""
_REFUSED_CAMERA = (
    "no such camera, or it is in use by another program, or this user may not read it (on Linux: "
    "be in the group 'video')"
)
_REFUSED_STREAM = (
    "no video stream: nothing answers at this address, it asks for a password, or what it sends "
    "is no video"
)
MAX_BROKEN_FRAMES = 50
"""Frames of a video in a row that may be unreadable before the rest is given up."""
MAX_PIXEL_ASPECT = 4
"""Pixels that are said to be wider or higher than so many times the other side are taken as square:
the widest that are in use, of halved widescreen DVD frames, are nearly three times as wide."""

_log = logging.getLogger(__name__)


class Video(Media):
    """Frames of a video file, upright and of square pixels, stamped with their own times.

    As its metadata say, a frame is turned, and one of other pixels enlarged in one direction.

    Read with PyAV rather than OpenCV: it converts colours as every FFmpeg tool does (OpenCV's
    differ by half a grey level on average, which moves landmarks by half a pixel), and its time
    stamps are those of the file.
    """

    kind = "video"

    def __init__(self, path: Path, told: Collection[str] = ()) -> None:
        super().__init__(str(path), told)
        try:
            # A colon in a relative path would name a protocol, a playlist other files or addresses.
            self._container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
        except (av.FFmpegError, UnicodeDecodeError) as error:
            raise MediaError(
                f"{path}: cannot be opened as a video; it is empty, damaged or of an unknown "
                f"format ({error})"
            ) from error
        if not self._container.streams.video:
            self.close()
            raise MediaError(f"{path}: holds no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.fps = plausible_rate_hz(float(self._stream.average_rate or 0)) or FALLBACK_RATE_HZ
        self._period_ns = round(1e9 / self.fps)
        aspect = float(self._stream.sample_aspect_ratio or 1)
        sane = 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT
        self._pixel_aspect = aspect if sane else 1.0
        self.frame_count = self._stream.frames or None
        self._packet_count = 0
        self._stated_packet_count = self._stream.frames
        if self.frame_count is not None and "mp4" in self._container.format.name.split(","):
            # Of those in the file, an edit list leaves out some, and hides others of what is left.
            entries = self._stream.index_entries
            self._stated_packet_count = min(self.frame_count, len(entries))
            self.frame_count = sum(not entry.is_discard for entry in entries) or None
        self._start(self._decode())

    def _decode(self) -> Iterator[MediaFrame]:
        any_frame = False
        frames, timed = tee(self._readable())
        stamps_ns = _advancing(map(_time_ns, timed), self._period_ns)
        for frame, stamp_ns in zip(frames, stamps_ns, strict=True):
            any_frame = True
            yield MediaFrame(_upright(frame, self._pixel_aspect), stamp_ns)
        missing = self._stated_packet_count - self._packet_count
        if missing > 0 and any_frame:
            self._skip(
                f"{missing} of {self._stated_packet_count} stated frames, missing at the end "
                "(cut off?)"
            )

    def _readable(self) -> Iterator[av.VideoFrame]:
        broken_in_a_row = 0
        packets = self._container.demux(self._stream)
        while broken_in_a_row <= MAX_BROKEN_FRAMES:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                self._packet_count += packet.dts is not None or packet.size > 0  # else the end
                frames = packet.decode()
            except av.FFmpegError as error:
                broken_in_a_row += 1
                self._skip(f"an unreadable part ({error})")
                continue
            broken_in_a_row = 0
            yield from frames

    def close(self) -> None:
        """Release the file."""
        self._frames = iter(())
        self._container.close()


def _time_ns(frame: av.VideoFrame) -> int | None:
    pts, unit_s = frame.pts, frame.time_base
    return None if pts is None or unit_s is None else round(pts * unit_s * 1_000_000_000)


def _advancing(times_ns: Iterable[int | None], period_ns: int) -> Iterator[int]:
    """Stamps from 0 on: the file's own times, as long as they advance.

    Where one frame lags, it comes between its neighbours. Where time stays behind, as in recordings
    joined end to end, it goes on from there, one period after what came before.
    """
    last_ns, zero_ns = -period_ns, None
    for at_ns, next_ns in pairwise(chain(times_ns, (None,))):
        stamp_ns = last_ns + period_ns
        if at_ns is not None:
            zero_ns = at_ns - stamp_ns if zero_ns is None else zero_ns
            room_ns = 0 if next_ns is None else next_ns - zero_ns - last_ns
            if at_ns - zero_ns > last_ns:
                stamp_ns = at_ns - zero_ns
            elif room_ns > 1:
                stamp_ns = last_ns + min(period_ns, room_ns // 2)
            else:
                zero_ns = at_ns - stamp_ns
        yield (last_ns := stamp_ns)


def _upright(frame: av.VideoFrame, pixel_aspect: float) -> np.ndarray:
    image = _with_square_pixels(bgr_from_array(frame.to_ndarray(format="bgr24")), pixel_aspect)
    # FFmpeg gives the angle to turn the picture by, counter-clockwise, in degrees.
    turns = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
    turn = turns.get(frame.rotation % 360)
    return image if turn is None else cv2.rotate(image, turn)


def _with_square_pixels(image: np.ndarray, pixel_aspect: float) -> np.ndarray:
    """Widen, or heighten, an image of pixels that are `pixel_aspect` times as wide as high."""
    height, width = image.shape[:2]
    size_wh = round(width * max(pixel_aspect, 1)), round(height * max(1 / pixel_aspect, 1))
    if size_wh == (width, height) or size_wh[0] * size_wh[1] > MAX_PIXELS:
        return image
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR)


class Images(Media):
    """One image file, or the image files of a folder in natural order (2 before 10)."""

    def __init__(self, path: Path, told: Collection[str] = ()) -> None:
        super().__init__(str(path), told)
        self.kind = "folder" if path.is_dir() else "image"
        self._paths = image_paths(path) if path.is_dir() else [path]
        if not self._paths:
            known = " ".join(sorted(IMAGE_SUFFIXES))
            raise MediaError(f"{path}: no images in this folder; looked for {known}")
        self.fps = 1e9 / STILL_INTERVAL_NS if path.is_dir() else None
        self.frame_count = len(self._paths)
        self._start(self._decode())

    def _decode(self) -> Iterator[MediaFrame]:
        for index, path in enumerate(self._paths):
            try:
                image = read_image(path)
            except ImageError as error:
                if self.kind == "image":
                    raise
                self._skip(str(error))
                continue
            yield MediaFrame(image, index * STILL_INTERVAL_NS, path.name)


class Camera(Media):
    """A webcam, video device or network stream, opened again whenever it fails.

    What is a recording at its address ends with it: opened again, it would begin anew.
    """

    kind = "camera"
    live = True

    def __init__(self, source: str, stop: threading.Event | None = None) -> None:
        super().__init__(source)
        self._closed = threading.Event()
        self._stop = stop or self._closed
        self._capture = self._open()
        if not self._capture.isOpened():
            raise MediaError(f"{source}: {_REFUSED_STREAM if '://' in source else _REFUSED_CAMERA}")
        self.fps = plausible_rate_hz(self._capture.get(cv2.CAP_PROP_FPS))
        if "://" in source:
            # Negative where there is none.
            self.frame_count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))) or None
        self._start(self._grab())

    def _open(self) -> cv2.VideoCapture:
        if "://" not in self.source:
            return cv2.VideoCapture(int(self.source) if self.source.isdecimal() else self.source)
        timeouts = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
        options = [value for name in timeouts for value in (name, _CAMERA_TIMEOUT_MS)]
        return cv2.VideoCapture(self.source, cv2.CAP_ANY, options)

    def _grab(self) -> Iterator[MediaFrame]:
        count = 0
        failing = False
        # A camera that is stopped while it is opened is not one without images.
        while count == 0 or not (self._closed.is_set() or self._stop.is_set()):
            ok, image = self._capture.read()
            stamp_ns = time.time_ns()
            if ok:
                if failing:
                    _log.warning("%s: the camera gives images again", self.source)
                failing = False
                yield MediaFrame(bgr_from_array(image), stamp_ns)
                count += 1
                continue
            if count == 0:
                return
            if self._stop.is_set():  # meanwhile: its server, too, would be waited for
                break
            if not failing and self._has_end():
                self._tell_missing(count)
                break
            self.skipped += 1
            if not failing:
                _log.warning("%s: the camera gives no image; trying again", self.source)
            failing = True
            self._capture.release()
            if not self._stop.wait(CAMERA_RETRY_S):
                self._capture = self._open()
        self._capture.release()

    def _has_end(self) -> bool:
        """Whether it is a recording, by its frames or by the bytes that its server states."""
        if self.frame_count is not None or not self.source.startswith("http"):
            return self.frame_count is not None
        try:
            with av.open(self.source, timeout=_ASK_TIMEOUT_S) as container:
                name = container.format.name
                # A picture alone ("jpeg_pipe") is the newest one of a camera.
                return container.size > 0 and not (name in _LIVE_FORMATS or name.endswith("_pipe"))
        except av.FFmpegError:
            return False

    def _tell_missing(self, count: int) -> None:
        # Some formats state a time only, which makes the number of frames inexact.
        if self.frame_count is not None and count < 0.9 * self.frame_count:
            missing = self.frame_count - count
            self._skip(f"{missing} of about {self.frame_count} frames, missing at the end")

    def close(self) -> None:
        """End the iteration; the device is released by the thread that iterates."""
        self._closed.set()


def read_image(path: Path | str) -> np.ndarray:
    """Read an image file as (height, width, 3) uint8 BGR, upright by its EXIF tag.

    Raises
    ------
    ImageError
        Unreadable, empty, damaged, of an unknown format or larger than :data:`MAX_IMAGE_BYTES`.
    """
    try:
        data = read_bounded(Path(path), MAX_IMAGE_BYTES)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    except UnsafeFileError as error:
        raise ImageError(f"{error}; scale the image down") from error
    return bgr_from_file_bytes(data, str(path))


def image_paths(folder: Path) -> list[Path]:
    """Image files directly in a folder, by name, numbers in names by their value."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    return sorted(found, key=_natural_key)


def _natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p], path.name


def is_bag(path: Path | str) -> bool:
    """Whether a file or folder is a rosbag2 recording, by its name or what lies in it."""
    path = Path(path)
    if path.suffix.lower() in BAG_SUFFIXES:
        return True
    if not (path / "metadata.yaml").is_file():
        return False
    # Others, too, describe what is in a folder in a file of that name.
    recorded = any(set(found.suffixes).intersection(BAG_SUFFIXES) for found in path.iterdir())
    return recorded or not image_paths(path)


def is_camera(source: str) -> bool:
    """Whether a source names a camera: a number, /dev/video... or a network stream."""
    named = r"[0-9]{1,3}|/dev/video[0-9]+|(rtsps?|https?|udp)://[^\n\ud800-\udfff]+"  # in UTF-8
    return re.fullmatch(named, source) is not None


def open_media(
    source: str | Path | int,
    *,
    topic: str = "",
    told: Collection[str] = (),
    stop: threading.Event | None = None,
) -> Media:
    """Open a video, image, folder of images, camera or bag, and read its first image.

    Parameters
    ----------
    source : path of a file or folder, number or device of a camera, or address of a stream
    topic : image topic of a bag; empty takes the first of a camera
    told : what is not logged again; of a source that is played once more its `told`
    stop : once it is set, a camera's iteration ends, though the camera give no image

    Raises
    ------
    MediaError
        Nothing there, unreadable, or without any image; or a topic of what is no bag.
    ImageError
        A single image file that cannot be decoded.
    """
    source = str(source)
    if not source:
        raise MediaError("no input given; use a video, image, folder, bag or camera number")
    camera, path = is_camera(source), Path(source)
    try:
        if not (camera or path.exists()):
            raise MediaError(f"{source}: no such file, folder or camera")
        if not camera and is_bag(path):
            # What reads bags takes as long to load as OpenCV, and most inputs are none.
            from tddfa_ros.core.bag_media import Bag

            return Bag(path, topic, told)
        if topic:
            raise MediaError(f"{source}: is no bag, so it has no topic {topic}; leave it out")
        if camera:
            return Camera(source, stop)
        if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
            return Images(path, told)
    except OSError as error:
        raise MediaError(f"{source}: cannot be read: {error.strerror}") from error
    return Video(path, told)
