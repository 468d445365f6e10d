"""Downloads against a true HTTP server on this machine, cut, wrong, slow and contended."""

import dataclasses
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tddfa_ros.core import model_set
from tddfa_ros.core.errors import DownloadError
from tddfa_ros.core.release import manifest
from tddfa_ros.core.release.convert import import_release
from tddfa_ros.core.release.fetch import Connection, fetch_release
from tddfa_ros.core.release.manifest import ReleaseFile, git_blob_id

CONTENT = np.random.default_rng(5).bytes(300_000)
FILE = ReleaseFile("a b.bin", "weights", git_blob_id(CONTENT), len(CONTENT))
UNSIZED = dataclasses.replace(FILE, size_bytes=None)


@pytest.fixture
def server(serve):
    return serve({FILE.name: CONTENT})


def connection(server, **options):
    return Connection(base_url=server.base_url, **{"timeout_s": 5, "wait_s": 0.01, **options})


def fetch(server, folder, file=FILE, **options):
    fetch_release(folder, [file], connection=connection(server, **options))


def final(folder):
    return folder / "weights" / "a b.bin"


def part(folder):
    return folder / "weights" / "a b.bin.part"


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("file", [FILE, UNSIZED], ids=["size known", "size unknown"])
@pytest.mark.parametrize("action", ["", "no length"])
def test_a_file_arrives_whole_and_alone(server, tmp_path, file, action):
    server.script = [action]
    fetch(server, tmp_path, file)
    assert final(tmp_path).read_bytes() == CONTENT
    assert files_in(tmp_path) == ["weights/a b.bin"]
    assert server.requests[0].path == f"/mirror/{manifest.COMMIT}/weights/a%20b.bin"


def test_what_is_there_is_not_downloaded_again(server, tmp_path):
    fetch(server, tmp_path)
    fetch(server, tmp_path)
    assert len(server.requests) == 1


def test_what_is_there_but_damaged_is_replaced(server, tmp_path):
    final(tmp_path).parent.mkdir()
    final(tmp_path).write_bytes(CONTENT[:-1] + b"x")
    fetch(server, tmp_path)
    assert final(tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("file", [FILE, UNSIZED], ids=["size known", "size unknown"])
def test_a_cut_download_continues_where_it_was_cut(server, tmp_path, file):
    server.script = ["cut", "cut"]
    fetch(server, tmp_path, file)
    assert final(tmp_path).read_bytes() == CONTENT
    assert [r.range for r in server.requests] == [None, "bytes=100000-", "bytes=200000-"]
    assert [r.sent_bytes for r in server.requests] == [100_000] * 3


def test_a_later_call_continues_too(server, tmp_path):
    server.script = ["cut", 503]
    with pytest.raises(DownloadError, match=r"100000 bytes are kept: run it again to continue"):
        fetch(server, tmp_path, attempts=1)
    assert files_in(tmp_path) == ["weights/a b.bin.part"]
    with pytest.raises(DownloadError, match="HTTP 503"):
        fetch(server, tmp_path, attempts=1)
    fetch(server, tmp_path)
    assert final(tmp_path).read_bytes() == CONTENT
    assert server.requests[-1].range == "bytes=100000-"
    assert server.requests[-1].sent_bytes == 200_000


def test_many_cuts_are_no_failure_as_long_as_something_arrives(server, tmp_path):
    server.script = ["cut"] * 29
    server.cut_after = 10_000
    fetch(server, tmp_path, attempts=2)
    assert final(tmp_path).read_bytes() == CONTENT
    assert sum(r.sent_bytes for r in server.requests) == len(CONTENT)


def test_a_server_that_ignores_range_is_started_over(server, tmp_path):
    server.script = ["cut", "no range"]
    fetch(server, tmp_path)
    assert final(tmp_path).read_bytes() == CONTENT
    assert server.requests[1].range == "bytes=100000-"
    assert server.requests[1].sent_bytes == len(CONTENT)


def test_another_range_than_asked_for_is_not_appended(server, tmp_path):
    server.script = ["cut", "wrong range"]
    fetch(server, tmp_path)
    assert final(tmp_path).read_bytes() == CONTENT


def test_a_part_that_was_wrong_is_started_over(server, tmp_path):
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(b"x" * 1000)
    fetch(server, tmp_path)
    assert final(tmp_path).read_bytes() == CONTENT
    assert [r.range for r in server.requests] == ["bytes=1000-", None]


@pytest.mark.parametrize("length", [300_000, 300_001, 900_000])
@pytest.mark.parametrize("file", [FILE, UNSIZED], ids=["size known", "size unknown"])
def test_a_part_that_is_too_long_is_started_over(server, tmp_path, length, file):
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(b"x" * length)
    fetch(server, tmp_path, file)
    assert final(tmp_path).read_bytes() == CONTENT


def test_a_part_that_was_whole_is_taken(server, tmp_path):
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(CONTENT)
    fetch(server, tmp_path)
    assert final(tmp_path).read_bytes() == CONTENT
    assert server.requests == []


@pytest.mark.parametrize("file", [FILE, UNSIZED], ids=["size known", "size unknown"])
def test_wrong_content_is_refused_and_removed(server, tmp_path, file):
    server.contents[FILE.name] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(DownloadError, match=f"expected {FILE.git_blob_id}. It was removed"):
        fetch(server, tmp_path, file)
    assert files_in(tmp_path) == []


def test_another_size_is_refused_before_it_is_downloaded(server, tmp_path):
    server.contents[FILE.name] = CONTENT * 2
    with pytest.raises(DownloadError, match="offers 600000 bytes, expected 300000"):
        fetch(server, tmp_path)
    assert files_in(tmp_path) == []


def test_more_than_was_announced_is_not_stored(server, tmp_path):
    server.contents[FILE.name] = CONTENT * 2
    server.script = ["no length"]
    with pytest.raises(DownloadError, match="sends more than 300000 bytes"):
        fetch(server, tmp_path)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("status", [404, 403, 410])
def test_what_will_not_help_is_not_tried_again(server, tmp_path, status):
    server.script = [status]
    with pytest.raises(DownloadError, match=f"HTTP {status}"):
        fetch(server, tmp_path)
    assert len(server.requests) == 1
    assert files_in(tmp_path) == []


def test_what_may_help_is_tried_again(server, tmp_path):
    server.script = [503, 429, 500]
    fetch(server, tmp_path)
    assert final(tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 4


def test_a_server_that_stalls_midway_is_asked_again(server, tmp_path):
    server.script = ["stall"]
    began = time.monotonic()
    fetch(server, tmp_path, timeout_s=0.2)
    assert final(tmp_path).read_bytes() == CONTENT
    assert [r.range for r in server.requests] == [None, "bytes=100000-"]
    assert time.monotonic() - began < 3


def test_a_silent_server_is_left_after_the_timeout(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(DownloadError, match="timed out, 2 times in a row"):
            fetch_release(
                tmp_path,
                [FILE],
                connection=Connection(base_url=url, timeout_s=0.2, attempts=2, wait_s=0.01),
            )
        assert time.monotonic() - began < 3


def test_no_server_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DownloadError, match="refused"):
        fetch_release(
            tmp_path,
            [FILE],
            connection=Connection(base_url=f"http://127.0.0.1:{port}", attempts=2, wait_s=0.01),
        )


def test_something_that_is_no_http_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer():
            for _ in range(2):
                client, _ = other.accept()
                client.recv(1000)
                client.sendall(b"220 mail.example ESMTP\r\n")
                client.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(DownloadError, match="the connection was cut"):
            fetch_release(
                tmp_path, [FILE], connection=Connection(base_url=url, attempts=2, wait_s=0.01)
            )
        thread.join()


@pytest.mark.parametrize("url", ["file:///etc", "ftp://x/y", "/etc", "", "http://"])
def test_only_http_is_spoken(url):
    with pytest.raises(DownloadError, match="expected http:// or https://"):
        Connection(base_url=url)


def test_progress_is_told_to_the_end(server, tmp_path):
    told = []
    server.script = ["cut"]
    fetch_release(
        tmp_path,
        [FILE],
        connection=connection(server),
        progress=lambda name, done, total: told.append((name, done, total)),
    )
    assert {(name, total) for name, _, total in told} == {(FILE.name, len(CONTENT))}
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1] == len(CONTENT)


# --- several processes --------------------------------------------------------------------------

PROGRAM = """
import json, resource, sys
from tddfa_ros.core.errors import DownloadError
from tddfa_ros.core.release.fetch import Connection, fetch_release
from tddfa_ros.core.release.manifest import ReleaseFile
folder, url, file, limit = json.loads(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    fetch_release(
        folder,
        [ReleaseFile(**file)],
        connection=Connection(base_url=url, wait_s=0.01, attempts=2),
        progress=lambda *state: print(*state, flush=True),
        on_wait=lambda: print("waiting", flush=True),
    )
except DownloadError as error:
    sys.exit(f"refused: {error}")
"""


def start(server, folder, limit=0):
    arguments = json.dumps([str(folder), server.base_url, dataclasses.asdict(FILE), limit])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_fetches_at_once_download_once(server, tmp_path):
    server.pause_s = 1
    first = start(server, tmp_path)
    assert first.stdout.readline()
    second = start(server, tmp_path)
    assert second.stdout.readline() == "waiting\n"
    server.pause_s = 0
    outputs = [process.communicate(timeout=30) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert len(server.requests) == 1
    assert final(tmp_path).read_bytes() == CONTENT
    assert files_in(tmp_path) == ["weights/a b.bin"]


def test_a_killed_fetch_frees_the_lock_and_is_continued(server, tmp_path):
    server.pause_s = 0.05
    process = start(server, tmp_path)
    for _ in range(3):
        assert process.stdout.readline()
    process.kill()
    process.communicate(timeout=30)
    server.pause_s = 0
    assert files_in(tmp_path) in (["weights/a b.bin.part"], [])
    have = part(tmp_path).stat().st_size
    fetch(server, tmp_path)
    assert final(tmp_path).read_bytes() == CONTENT
    assert server.requests[-1].range == (f"bytes={have}-" if have else None)


def test_a_full_disk_is_said_and_what_fits_is_kept(server, tmp_path):
    process = start(server, tmp_path, limit=100_000)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.startswith("refused: ")
    assert "cannot be written: File too large" in errors
    assert len(server.requests) == 1
    assert files_in(tmp_path) == ["weights/a b.bin.part"]
    fetch(server, tmp_path)
    assert final(tmp_path).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made_is_said(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=r"file.*cannot be written"):
        fetch(server, tmp_path / "file" / "below")


# --- the manifest, and from download to set -----------------------------------------------------


def test_the_manifest_fits_the_files_that_are_as_released(release_folder):
    as_released = 0
    for file in (*manifest.COMMON_FILES, *manifest.REGRESSORS.values()):
        path = release_folder / file.name
        if path.exists() and file.is_genuine(path.read_bytes()):
            assert file.size_bytes in (None, path.stat().st_size)
            as_released += 1
    assert as_released >= 7


def test_git_blob_id_is_that_of_git(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    said = subprocess.run(
        ["git", "hash-object", "--no-filters", "x"], cwd=tmp_path, capture_output=True, check=True
    )
    assert git_blob_id(CONTENT) == said.stdout.decode().strip()
    assert git_blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert git_blob_id(b"") != hashlib.sha1(b"").hexdigest()


def test_downloaded_files_become_a_set(server, release_folder, tmp_path):
    files = (*manifest.COMMON_FILES, manifest.REGRESSORS["mb05"])
    server.contents = {f.name: (release_folder / f.name).read_bytes() for f in files}
    # The face model there is not the release's own; the others keep the ids of the manifest.
    content = server.contents[manifest.FACE_MODEL.name]
    stand_in = dataclasses.replace(manifest.FACE_MODEL, git_blob_id=git_blob_id(content))
    server.script = ["cut"] * 4
    server.cut_after = 1_000_000
    fetch_release(tmp_path / "downloads", (stand_in, *files[1:]), connection=connection(server))
    made = import_release(tmp_path / "downloads", tmp_path / "set")
    assert model_set.load(made.path).name == "set"
