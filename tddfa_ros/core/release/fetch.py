"""Download of files of a public repository at a pinned commit.

A file is downloaded to ``<name>.part``, which a later call continues. It gets its final name once
it is whole and its checksum is the expected one; before that nothing looks into it.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tddfa_ros.core.array_file import read_bounded
from tddfa_ros.core.errors import DownloadError, UnsafeFileError
from tddfa_ros.core.folder_lock import locked
from tddfa_ros.core.release import manifest
from tddfa_ros.core.release.manifest import ReleaseFile

CHUNK_BYTES = 64 * 1024
_TEMPORARY_STATUS = {408, 425, 429, 500, 502, 503, 504}


class Progress(Protocol):
    """What is told while files are downloaded."""

    def __call__(self, name: str, done_bytes: int, total_bytes: int | None) -> None:
        """State of one file; the total is None while it is not known."""


@dataclass(frozen=True)
class Connection:
    """How to reach the server.

    Attributes
    ----------
    base_url : ``<base_url>/<commit>/<path>`` is where a file is; http or https
    commit : the pinned one
    timeout_s : seconds without any data after which a connection counts as cut
    attempts : in a row without any new data, before giving up
    wait_s : seconds before the second attempt; doubled before each further one
    """

    base_url: str = manifest.BASE_URL
    commit: str = manifest.COMMIT
    timeout_s: float = 30.0
    attempts: int = 5
    wait_s: float = 1.0

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise DownloadError(f"base URL {self.base_url!r}: expected http:// or https://")

    def url(self, file: ReleaseFile) -> str:
        """Where a file of the release is."""
        path = urllib.parse.quote(file.repository_path)
        return f"{self.base_url.rstrip('/')}/{self.commit}/{path}"


def fetch_release(
    folder: str | os.PathLike[str],
    files: Iterable[ReleaseFile],
    *,
    connection: Connection | None = None,
    progress: Progress | None = None,
    on_wait: Callable[[], None] | None = None,
) -> None:
    """Download files of the release, each verified; those that are there already are kept.

    Parameters
    ----------
    folder : where the files go, laid out as the release is
    files : those wanted
    connection : the server; None is the public one
    progress : told of each file's state
    on_wait : called once if another process is downloading into the folder; then it is waited for

    Raises
    ------
    DownloadError
        The server cannot be reached or answers otherwise than with the expected content, or the
        disk cannot be written. What has arrived is kept: the next call continues there.
    """
    folder = Path(folder)
    connection = connection or Connection()
    report = progress or (lambda name, done_bytes, total_bytes: None)
    try:
        with locked(folder, on_wait):
            for file in files:
                _Download(folder / file.repository_path, file, connection, report).run()
    except OSError as error:
        raise DownloadError(
            f"{error.filename or folder}: cannot be written: {error.strerror or error}. "
            "Free space or choose another folder, and run it again to continue."
        ) from error


class _CutError(Exception):
    """The connection ended early; another attempt may help."""


class _Download:
    """One file on its way."""

    def __init__(
        self, path: Path, file: ReleaseFile, connection: Connection, report: Progress
    ) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.file = file
        self.connection = connection
        self.url = connection.url(file)
        self.report = report
        self.limit = file.size_bytes or manifest.MAX_FILE_BYTES

    def run(self) -> None:
        """Leave the verified file under its final name."""
        if self.path.exists():
            if self.is_genuine(self.path):
                size = self.path.stat().st_size
                self.report(self.file.name, size, size)
                return
            self.path.unlink()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        continued = self.have() > 0
        self.receive()
        if not self.is_genuine(self.part) and continued:
            # The older part may have been the bad one: once more, from the start.
            self.part.unlink()
            self.receive()
        if not self.is_genuine(self.part):
            found = self.file.checksum(read_bounded(self.part, self.limit))
            self.part.unlink()
            kind = "SHA-256" if self.file.sha256 else "git blob id"
            raise DownloadError(
                f"{self.url}: not the expected content: {kind} {found}, expected "
                f"{self.file.sha256 or self.file.git_blob_id}. It was removed unopened. Is "
                "something between here and the server changing it?"
            )
        self.part.replace(self.path)

    def have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def is_genuine(self, path: Path) -> bool:
        try:
            return self.file.is_genuine(read_bounded(path, self.limit))
        except UnsafeFileError:
            return False

    def receive(self) -> None:
        """Append to the part until it is whole, in as many attempts as it takes."""
        failures = 0
        while True:
            before = self.have()
            if before > self.limit or before == self.file.size_bytes:
                # Whole already, or more than it can be: for is_genuine to say.
                return
            try:
                self.attempt(before)
                return
            except _CutError as error:
                failures = 1 if self.have() > before else failures + 1
                if failures >= self.connection.attempts:
                    raise DownloadError(
                        f"{self.url}: {error}, {failures} times in a row. "
                        f"{self.have()} bytes are kept: run it again to continue."
                    ) from error
                time.sleep(self.connection.wait_s * 2 ** (failures - 1))

    def attempt(self, offset: int) -> None:
        """Ask for what is missing after `offset` bytes, and append it to the part."""
        request = urllib.request.Request(
            self.url, headers={"Accept-Encoding": "identity", "User-Agent": "tddfa_ros"}
        )
        if offset:
            request.add_header("Range", f"bytes={offset}-")
        try:
            # The scheme was checked: http or https, never a file.
            with urllib.request.urlopen(request, timeout=self.connection.timeout_s) as response:
                self.append(response, offset)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
                self.part.unlink()
                raise _CutError("the server has nothing after what is here") from error
            if error.code in _TEMPORARY_STATUS:
                raise _CutError(f"HTTP {error.code} {error.reason}") from error
            raise DownloadError(f"{self.url}: HTTP {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DownloadError(f"{self.url}: {error.reason}") from error
            raise _CutError(f"no connection: {error.reason}") from error
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise _CutError(f"the connection was cut: {error or type(error).__name__}") from error

    def append(self, response: http.client.HTTPResponse, offset: int) -> None:
        if offset and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            offset = 0  # a server that ignores Range sends the whole file
        total = _total_bytes(response, offset)
        if total is not None and (total > self.limit or self.file.size_bytes not in (None, total)):
            raise DownloadError(
                f"{self.url}: the server offers {total} bytes, expected "
                f"{self.file.size_bytes or f'at most {self.limit}'}. Nothing was downloaded."
            )
        with self.part.open("ab" if offset else "wb") as stream:
            done = offset
            self.report(self.file.name, done, total)
            while chunk := _read(response):
                done += len(chunk)
                if done > self.limit:
                    break
                stream.write(chunk)
                self.report(self.file.name, done, total)
            stream.flush()
            os.fsync(stream.fileno())
        if done > self.limit:
            self.part.unlink()
            raise DownloadError(f"{self.url}: sends more than {self.limit} bytes; removed")
        if total is not None and done < total:
            raise _CutError(f"the connection was cut after {done} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK_BYTES)  # what has come: read() loses it at a time-out
    except (http.client.HTTPException, OSError) as error:
        raise _CutError(f"the connection was cut: {error or type(error).__name__}") from error


def _total_bytes(response: http.client.HTTPResponse, offset: int) -> int | None:
    """Size of the whole file by the answer's headers, or None.

    Raises
    ------
    _CutError
        The answer is about another range than the one that was asked for.
    """
    if offset:
        header = response.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", header)
        if not found or int(found[1]) != offset:
            raise _CutError(f"the server answered with range {header!r}")
        return None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"\d{1,15}", length) else None
