"""Videos of which not all frames are shown, or not all are there."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from tddfa_ros.core.media import open_media

FPS = 25


def grey_picture(index: int) -> np.ndarray:
    """A picture that tells its number, up to 25, by its grey level."""
    return np.full((48, 64, 3), 5 + 10 * (index % 25), np.uint8)


def number_of(image_bgr: np.ndarray) -> int:
    return round((float(image_bgr.mean()) - 5) / 10)


@pytest.fixture(scope="module")
def coded_mp4(tmp_path_factory):
    """100 frames, of which every tenth depends on none before, and all that is stated in front."""
    path = tmp_path_factory.mktemp("coded") / "whole.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.gop_size = 10
        for index in range(100):
            frame = av.VideoFrame.from_ndarray(grey_picture(index), format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def trimmed(content, first, count):
    """An mp4 whose edit list shows only some of its frames, as a trim without loss leaves it."""
    content = bytearray(content)
    # Version, flags and number of edits; then its duration in ms, and where it begins in the track.
    at = content.index(b"elst") + 12
    unit = struct.unpack_from(">I", content, content.index(b"mdhd") + 16)[0] // FPS
    struct.pack_into(">Ii", content, at, 1000 * count // FPS, first * unit)
    return content


@pytest.mark.parametrize(("first", "count"), [(0, 100), (6, 50), (47, 53), (0, 25)])
def test_frames_that_a_trim_has_hidden_are_not_missing(coded_mp4, tmp_path, caplog, first, count):
    path = tmp_path / "trimmed.mp4"
    path.write_bytes(trimmed(coded_mp4.read_bytes(), first, count))
    with open_media(path) as media:
        assert media.frame_count == count
        assert [number_of(frame.image_bgr) for frame in media] == [
            index % 25 for index in range(first, first + count)
        ]
        assert media.skipped == 0
    assert not caplog.messages


@pytest.mark.parametrize(("first", "count"), [(0, 100), (6, 74)])
def test_frames_that_are_cut_off_are_told(coded_mp4, tmp_path, caplog, first, count):
    content = trimmed(coded_mp4.read_bytes(), first, count)
    path = tmp_path / "cut.mp4"
    path.write_bytes(
        content[: content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2]
    )
    with open_media(path) as media:
        assert 0 < len(list(media)) < count - 5
    assert any("missing at the end (cut off?)" in line for line in caplog.messages)
