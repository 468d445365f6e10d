"""What the networks gave, image by image, on disk: an interrupted run is taken up where it ended.

Nearly all time of a run goes into reading pixels. All that follows from them (tracks, ids, filters)
depends on the networks' outputs and on small pictures of the faces alone, and takes a fraction of a
millisecond. So a run that goes on
replays the outputs of the images done before, and thereby has the state that it had: to the bit,
and without any part of the pipeline having to know how to save itself.

A journal is a file of records: length and CRC-32 (little-endian uint32 each), a line of JSON, and
float32 numbers. The first names the run; each further one is an image. What a kill leaves
unfinished at the end is cut off.
"""

from __future__ import annotations

import json
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from tddfa_ros.core.appearance import SIDE
from tddfa_ros.core.errors import MediaError
from tddfa_ros.core.networks import Networks
from tddfa_ros.core.search import LAG_FRAMES
from tddfa_ros.core.types import Detections, Fits, MorphableParams

_HEAD = struct.Struct("<II")
_NO_LOOK = np.full((SIDE, SIDE, 3), np.nan, np.float32)
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, struct.error)


@dataclass(frozen=True)
class RecordedFit:
    """One batch of the regressor.

    Attributes
    ----------
    rois_xyxy : (n, 4) float32, pixels
    vectors : (n, p) float32, of :class:`MorphableParams`; NaN without a fit
    confidences : (n,) float32
    """

    rois_xyxy: np.ndarray
    vectors: np.ndarray
    confidences: np.ndarray


@dataclass(frozen=True)
class Entry:
    """One image of the run.

    Attributes
    ----------
    about : what the writer wants to know again, JSON-ready
    is_frame : whether the pipeline has processed it, so that it counts as a frame
    fits : batches of the regressor, in order
    looks : small pictures of faces, in order, (SIDE, SIDE, 3) float32; None outside of the image
    searches : (index of the frame that was searched, faces found)
    """

    about: dict[str, Any]
    is_frame: bool
    fits: tuple[RecordedFit, ...] = ()
    looks: tuple[np.ndarray | None, ...] = ()
    searches: tuple[tuple[int, Detections], ...] = ()


@dataclass
class _Present:
    fits: list[RecordedFit] = field(default_factory=list)
    looks: list[np.ndarray | None] = field(default_factory=list)
    searches: list[tuple[int, Detections]] = field(default_factory=list)


class NetworkJournal:
    """Journal of the networks' outputs for one stream of images.

    Parameters
    ----------
    path : is made if there is none
    run : JSON-ready; names all that the outputs depend on

    Raises
    ------
    MediaError
        The file belongs to another run, or cannot be read or written.
    """

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        self.path = Path(path)
        self.entries: list[Entry] = []
        self._present = _Present()
        self._lock = threading.Lock()
        try:
            # Unbuffered: a process that is killed loses nothing that it has written.
            self._file = self.path.open("r+b" if self.path.exists() else "w+b", buffering=0)
        except OSError as error:
            raise MediaError(f"{self.path}: cannot be opened: {error.strerror}") from error
        try:
            self._load(run)
        except BaseException:
            self._file.close()
            raise

    def _load(self, run: dict[str, Any]) -> None:
        content = self._file.read()
        end = 0
        for number, (payload, after) in enumerate(_records(content)):
            if number == 0:
                _require_same_run(self.path, payload, run)
            else:
                entry = _entry(payload)
                if entry is None:
                    break
                self.entries.append(entry)
            end = after
        self._file.truncate(end)
        self._file.seek(end)
        if end == 0:
            self._append(json.dumps(run).encode())

    def note_fit(self, fit: RecordedFit) -> None:
        """Take a batch of the regressor for the present image."""
        self._present.fits.append(fit)

    def note_look(self, look: np.ndarray | None) -> None:
        """Take the look of a face in the present image."""
        self._present.looks.append(look)

    def note_search(self, frame_index: int, found: Detections) -> None:
        """Take what a search found; may be called from another thread."""
        with self._lock:
            self._present.searches.append((frame_index, found))

    def end_image(self, about: dict[str, Any], *, is_frame: bool) -> None:
        """Write down the present image.

        Raises
        ------
        OSError
            The disk is full, or gone. The record is taken back.
        """
        with self._lock:
            done, self._present = self._present, _Present()
        arrays = [a for fit in done.fits for a in (fit.rois_xyxy, fit.vectors, fit.confidences)]
        arrays += [_NO_LOOK if look is None else look for look in done.looks]
        arrays += [a for _, found in done.searches for a in (found.boxes_xyxy, found.scores)]
        line = {
            "about": about,
            "is_frame": is_frame,
            "fits": [list(fit.vectors.shape) for fit in done.fits],
            "looks": len(done.looks),
            "searches": [[index, len(found)] for index, found in done.searches],
        }
        numbers = b"".join(np.ascontiguousarray(a, np.float32).tobytes() for a in arrays)
        self._append(json.dumps(line).encode() + b"\n" + numbers)

    def _append(self, payload: bytes) -> None:
        record = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        begin = self._file.tell()
        if self._file.write(record) != len(record):
            self._file.truncate(begin)
            self._file.seek(begin)
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class JournaledNetworks(Networks):
    """Networks that answer from a journal as far as it goes, and then write it on.

    Parameters
    ----------
    networks : compute what is not in the journal
    journal : of this stream
    shape_count, input_size : of the regressor
    """

    def __init__(
        self, networks: Networks, journal: NetworkJournal, shape_count: int, input_size: int
    ) -> None:
        self._networks = networks
        self._journal = journal
        self._shape_count = shape_count
        self._input_size = input_size
        self._fits = [list(entry.fits) for entry in journal.entries if entry.is_frame]
        self._looks = [list(entry.looks) for entry in journal.entries if entry.is_frame]
        self._searches = dict(pair for entry in journal.entries for pair in entry.searches)

    @property
    def first_frame_with_pixels(self) -> int:
        """Index of the first frame whose pixels are needed; a blank image serves before it.

        A search that was still running when the journal ended is done again.
        """
        return max(0, len(self._fits) - LAG_FRAMES)

    def detect(
        self, image_bgr: np.ndarray, frame_index: int, threshold: float, deepest_zoom: int
    ) -> Detections:
        """Find faces, or remember which were found."""
        if frame_index in self._searches:
            return self._searches[frame_index]
        found = self._networks.detect(image_bgr, frame_index, threshold, deepest_zoom)
        if frame_index >= self.first_frame_with_pixels:
            self._journal.note_search(frame_index, found)
        return found

    def regress(
        self, image_bgr: np.ndarray, frame_index: int, rois_xyxy: np.ndarray, *, mirrored: bool
    ) -> Fits:
        """Fit faces, or remember the fits.

        Raises
        ------
        MediaError
            The journal has other fits at this place: another version of the program wrote it.
        """
        if frame_index < len(self._fits):
            return self._remembered(frame_index, rois_xyxy)
        params, confidences = self._networks.regress(
            image_bgr, frame_index, rois_xyxy, mirrored=mirrored
        )
        width = next((len(p.vector) for p in params if p is not None), 0)
        vectors = np.full((len(params), width), np.nan, np.float32)
        for row, fit in enumerate(params):
            if fit is not None:
                vectors[row] = fit.vector
        self._journal.note_fit(RecordedFit(rois_xyxy, vectors, confidences))
        return params, confidences

    def _remembered(self, frame_index: int, rois_xyxy: np.ndarray) -> Fits:
        left = self._fits[frame_index]
        if not left or not np.array_equal(left[0].rois_xyxy, rois_xyxy):
            raise self._misfit(frame_index)
        fit = left.pop(0)
        params = tuple(
            MorphableParams.from_vector(vector, self._shape_count, roi.copy(), self._input_size)
            if len(vector) and np.isfinite(vector).all()
            else None
            for vector, roi in zip(fit.vectors, fit.rois_xyxy, strict=True)
        )
        return params, fit.confidences

    def look(
        self, image_bgr: np.ndarray, frame_index: int, bounds_xyxy: np.ndarray
    ) -> np.ndarray | None:
        """Small picture of a face, or what it was; raises as :meth:`regress` does."""
        if frame_index < len(self._looks):
            if not self._looks[frame_index]:
                raise self._misfit(frame_index)
            return self._looks[frame_index].pop(0)
        look = self._networks.look(image_bgr, frame_index, bounds_xyxy)
        self._journal.note_look(look)
        return look

    def _misfit(self, frame_index: int) -> MediaError:
        return MediaError(
            f"{self._journal.path}: does not fit to this program at frame {frame_index}; another "
            "version has written it. Delete it to begin anew"
        )


def _records(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the payload and the end of every whole record."""
    at = 0
    while at + _HEAD.size <= len(content):
        length, checksum = _HEAD.unpack_from(content, at)
        payload = content[at + _HEAD.size : at + _HEAD.size + length]
        if len(payload) != length or zlib.crc32(payload) != checksum:
            return
        at += _HEAD.size + length
        yield payload, at


def _require_same_run(path: Path, payload: bytes, run: dict[str, Any]) -> None:
    try:
        written = dict(json.loads(payload))
    except _DAMAGED as error:
        raise MediaError(f"{path}: is no journal of a run; delete it and repeat") from error
    wanted = json.loads(json.dumps(run))
    differing = sorted(k for k in written.keys() | wanted if written.get(k) != wanted.get(k))
    if differing:
        raise MediaError(
            f"{path}: an unfinished run with another {', '.join(differing)}; repeat the command of "
            "that run to finish it, or begin anew with --restart"
        )


def _entry(payload: bytes) -> Entry | None:
    """Read an image's record; None if it makes no sense."""
    try:
        line, _, tail = payload.partition(b"\n")
        about = json.loads(line)
        numbers = np.frombuffer(tail, np.float32)

        def take(*shape: int) -> np.ndarray:
            nonlocal numbers
            count = int(np.prod(shape))
            taken, numbers = numbers[:count].reshape(shape).copy(), numbers[count:]
            return taken

        fits = tuple(RecordedFit(take(n, 4), take(n, width), take(n)) for n, width in about["fits"])
        looks = tuple(take(SIDE, SIDE, 3) for _ in range(about["looks"]))
        searches = tuple(
            (int(index), Detections(take(n, 4), take(n))) for index, n in about["searches"]
        )
        known = tuple(look if np.isfinite(look).all() else None for look in looks)
        return Entry(dict(about["about"]), bool(about["is_frame"]), fits, known, searches)
    except _DAMAGED:
        return None
