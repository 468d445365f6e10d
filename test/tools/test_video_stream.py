"""The verb video on what a server sends."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import av
import pytest

from tddfa_ros.core.sample_media import astronaut_clip

FRAME_COUNT = 12


@pytest.fixture(scope="module")
def transport_stream(tmp_path_factory) -> Path:
    """A recording that does not state how long it is."""
    path = tmp_path_factory.mktemp("stream") / "clip.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        pictures = list(islice(astronaut_clip(), FRAME_COUNT))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image_bgr in pictures:
            frame = av.VideoFrame.from_ndarray(image_bgr, format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.timeout(120)
def test_a_recording_of_a_web_server_is_read_once(run_cli, transport_stream, repository, tmp_path):
    handler = partial(SimpleHTTPRequestHandler, directory=transport_stream.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = run_cli(
            *("video", f"http://127.0.0.1:{server.server_port}/{transport_stream.name}"),
            *("--model-set", repository / "models" / "embedded", "--out", tmp_path / "a.mp4"),
            timeout_s=40,
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(FRAME_COUNT))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_ends_the_wait_for_a_camera_that_is_gone(
    transport_stream, repository, tmp_path, number, status
):
    out = tmp_path / "a.mp4"
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        command = [sys.executable, "-m", "tddfa_ros", "video", address, "--out", out]
        command += ["--model-set", repository / "models" / "embedded"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        connection, _ = server.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + transport_stream.read_bytes())
    try:
        for line in process.stderr:
            if "trying again" in line:
                break
        time.sleep(0.3)
        process.send_signal(number)
        _, errors = process.communicate(timeout=5)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == status
    assert "Traceback" not in errors
    assert len(out.with_suffix(".jsonl").read_text().splitlines()) == FRAME_COUNT
