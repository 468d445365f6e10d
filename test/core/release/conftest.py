"""A true HTTP server on this machine that misbehaves as told."""

import contextlib
import dataclasses
import http.server
import re
import threading
import time

import pytest

from tddfa_ros.core.release import manifest

STALL_S = 5


@dataclasses.dataclass
class Request:
    path: str
    range: str | None
    sent_bytes: int = 0


class Server:
    """Serves contents by name, and misbehaves as told.

    Attributes
    ----------
    contents : file name -> content
    script : what to do with the next requests: a status, or "cut", "stall", "no range",
        "wrong range", "no length"; when it is used up, all is served as it should be
    requests : those that came
    """

    def __init__(self, contents):
        self.contents = contents
        self.script = []
        self.requests = []
        self.pause_s = 0.0
        self.cut_after = 100_000
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.http.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self.http.server_port}/mirror"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self):
        """Stop; requests that stall are left alone."""
        self.http.block_on_close = False
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def handler(self):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                request = Request(self.path, self.headers["Range"])
                server.requests.append(request)
                with contextlib.suppress(ConnectionError):
                    server.answer(self, request, server.script.pop(0) if server.script else "")

        return Handler

    def answer(self, handler, request, action):
        prefix = f"/mirror/{manifest.COMMIT}/"
        name = request.path.rsplit("/", 1)[-1].replace("%20", " ")
        if not request.path.startswith(prefix) or name not in self.contents:
            action = 404
        if isinstance(action, int):
            handler.send_error(action)
            return
        content = self.contents[name]
        start = 0
        if request.range and action != "no range":
            start = int(re.fullmatch(r"bytes=(\d+)-", request.range)[1])
            if start >= len(content):
                handler.send_error(416)
                return
            handler.send_response(206)
            offered = start + 1 if action == "wrong range" else start
            handler.send_header(
                "Content-Range", f"bytes {offered}-{len(content) - 1}/{len(content)}"
            )
        else:
            handler.send_response(200)
        if action != "no length":
            handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        body = content[start:]
        if action in ("cut", "stall"):
            body = body[: self.cut_after]
        for position in range(0, len(body), 10_000):
            handler.wfile.write(body[position : position + 10_000])
            request.sent_bytes += len(body[position : position + 10_000])
            time.sleep(self.pause_s)
        if action == "stall":
            time.sleep(STALL_S)


@pytest.fixture
def serve():
    """Start servers of given contents; they stop with the test."""
    made = []

    def start(contents):
        made.append(Server(contents))
        return made[-1]

    yield start
    for server in made:
        server.close()
