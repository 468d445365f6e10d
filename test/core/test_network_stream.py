"""Streams from a server of our own, as recordings and as cameras give them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2
import numpy as np
import pytest

from tddfa_ros.core import media as media_module
from tddfa_ros.core.media import open_media

FRAME_COUNT = 12


@contextmanager
def served(content: bytes, kind: str, stated_bytes: int | None) -> Iterator[str]:
    """Address of a stream that its server sends, and ends, for each who asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            if stated_bytes is not None:
                self.send_header("Content-Length", str(stated_bytes))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/stream"
        finally:
            server.shutdown()
            thread.join()


def grey_picture(index: int) -> np.ndarray:
    return np.full((48, 64, 3), 5 + 10 * index, np.uint8)


def encoded(path, codec: str, pixels: str) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
        for index in range(FRAME_COUNT):
            frame = av.VideoFrame.from_ndarray(grey_picture(index), format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def parts_of_jpeg() -> bytes:
    """What a webcam's server sends, until its connection breaks."""
    pictures = (cv2.imencode(".jpg", grey_picture(i))[1].tobytes() for i in range(FRAME_COUNT))
    header = b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    return b"".join(header % len(jpeg) + jpeg + b"\r\n" for jpeg in pictures)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "codec", "pixels", "kind"),
    [
        ("a.ts", "mpeg2video", "yuv420p", "video/mp2t"),
        ("a.mkv", "mjpeg", "yuvj420p", "video/x-matroska"),
    ],
)
def test_a_recording_at_an_address_ends_with_it(tmp_path, caplog, name, codec, pixels, kind):
    content = encoded(tmp_path / name, codec, pixels)
    with served(content, kind, len(content)) as address, open_media(address) as media:
        assert len(list(media)) == FRAME_COUNT
        assert media.skipped == 0
    assert not caplog.messages


@pytest.mark.timeout(60)
def test_of_a_recording_whose_connection_breaks_the_missing_frames_are_told(tmp_path, caplog):
    content = encoded(tmp_path / "a.mkv", "mjpeg", "yuvj420p")
    half = content[: len(content) // 2]
    with served(half, "video/x-matroska", len(content)) as address, open_media(address) as media:
        assert 3 <= len(list(media)) < FRAME_COUNT
        assert media.skipped == 1
    assert [line for line in caplog.messages if "of about 12 frames, missing at the end" in line]


@pytest.mark.parametrize("kind", ["multipart/x-mixed-replace; boundary=part", "video/mp2t"])
def test_a_camera_at_an_address_is_opened_again_when_it_fails(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(media_module, "CAMERA_RETRY_S", 0.01)
    multipart = kind.startswith("multipart")
    content = parts_of_jpeg() if multipart else encoded(tmp_path / "a.ts", "mpeg2video", "yuv420p")
    # Some cameras' servers state a length, which is made up.
    stated_bytes = 99_999_999 if multipart else None
    count = 0
    with served(content, kind, stated_bytes) as address, open_media(address) as media:
        for _ in media:
            count += 1
            if count == FRAME_COUNT + 3:
                media.close()
        assert media.skipped >= 1
    assert count == FRAME_COUNT + 3


@pytest.mark.timeout(60)
def test_of_a_stalled_stream_nothing_more_is_asked_once_it_is_to_stop(monkeypatch, caplog):
    stop = threading.Event()

    class Stalled:
        def read(self):
            stop.set()  # while it waits
            return False, None

        def release(self):
            pass

    content, kind = parts_of_jpeg(), "multipart/x-mixed-replace; boundary=part"
    with served(content, kind, None) as address, open_media(address, stop=stop) as media:
        monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("asked for its size"))
        for _ in media:
            media._capture = Stalled()
        assert media.skipped == 0
    assert not caplog.messages
