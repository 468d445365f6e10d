"""The MakeHuman head from the project's own files: from a checkout, or fetched and verified.

``makehuman_files.txt`` lists the files that are needed with their git blob ids at :data:`COMMIT`;
no file is parsed before its content has the listed id.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tddfa_ros.core.atomic_file import replacing
from tddfa_ros.core.errors import DownloadError, ModelSetError
from tddfa_ros.core.release.manifest import git_blob_id

COMMIT = "a8bc2d54ff0ac92e78ff71431b1023eda42bf482"
REPOSITORY = f"https://raw.githubusercontent.com/makehumancommunity/makehuman/{COMMIT}"
DATA = "makehuman/data"
"""Folder of the files in a checkout."""

_MOST_BYTES = 4_000_000
_TIMEOUT_S = 30.0
_HEAD_FROM_Y = 6.0
"""Faces of the base mesh that lie above this height are head and neck."""
_GROUPS = (
    "body",
    "helper-l-eye",
    "helper-r-eye",
    "helper-upper-teeth",
    "helper-lower-teeth",
    "helper-tongue",
    *(f"helper-{side}-eyelashes-{row}" for side in "lr" for row in (1, 2)),
)
"""The lashes are not used, but vertices are counted with them."""


@dataclass(frozen=True)
class SourceFile:
    """A file of MakeHuman's data folder and the git blob id of its content."""

    path: str
    blob_id: str


def manifest() -> list[SourceFile]:
    """The base mesh, then the targets."""
    lines = Path(__file__).with_name("makehuman_files.txt").read_text(encoding="utf-8").splitlines()
    return [SourceFile(path, blob) for blob, _, path in (line.partition(" ") for line in lines)]


def fetch(folder: str | Path, files: list[SourceFile], repository: str = REPOSITORY) -> int:
    """Download what `folder` lacks, into the places of a checkout; returns how many files.

    Each file appears only whole and with the listed content, so a later call goes on.

    Raises
    ------
    DownloadError
        The network fails, or a file is not what the manifest says.
    """
    fetched = 0
    for file in files:
        target = Path(folder) / DATA / file.path
        if target.exists() and git_blob_id(target.read_bytes()) == file.blob_id:
            continue
        url = f"{repository}/{DATA}/{file.path}"
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
                content = response.read(_MOST_BYTES + 1)
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise DownloadError(f"{url}: {error}; call again to go on") from error
        if git_blob_id(content) != file.blob_id:
            raise DownloadError(f"{url}: not the file of commit {COMMIT[:12]}; nothing was kept")
        with replacing(target) as temporary:
            temporary.write_bytes(content)
        fetched += 1
    return fetched


def read_folder(folder: str | Path, files: list[SourceFile]) -> dict[str, np.ndarray]:
    """The arrays of the packed head file, from a checkout.

    Raises
    ------
    ModelSetError
        A file is missing or has another content.
    """
    base, *targets = (_verified(Path(folder), file) for file in files)
    vertices, uv, faces, faces_uv, groups = parse_obj(base)
    head = np.isin(groups, _GROUPS) & (vertices[faces][..., 1].min(axis=1) >= _HEAD_FROM_Y)
    used, corner = np.unique(faces[head], return_inverse=True)
    used_uv, corner_uv = np.unique(faces_uv[head], return_inverse=True)
    names = [file.path.removeprefix("targets/").removesuffix(".target") for file in files[1:]]
    return {
        "vertices": vertices[used].astype(np.float32),
        "uv": uv[used_uv].astype(np.float32),
        "quads": corner.reshape(-1, 4),
        "quads_uv": corner_uv.reshape(-1, 4),
        "quad_group": groups[head],
        "base_vertex_index": used,
        "target_names": np.array(names),
        "target_deltas": np.stack([parse_target(text, len(vertices))[used] for text in targets]),
    }


def _verified(folder: Path, file: SourceFile) -> str:
    path = folder / DATA / file.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelSetError(f"{path}: {error.strerror}; --fetch gets it") from error
    if git_blob_id(content) != file.blob_id:
        raise ModelSetError(f"{path} is not that of commit {COMMIT[:12]}; --fetch replaces it")
    return content.decode("utf-8")


def parse_obj(
    text: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (n, 3), uv (u, 2), quads (q, 4) and their uv (q, 4), and group names (q,)."""
    vertices, uv, faces, faces_uv, groups = [], [], [], [], []
    group = ""
    for line in text.splitlines():
        kind, *values = line.split() or ("",)
        if kind == "v":
            vertices.append([float(v) for v in values[:3]])
        elif kind == "vt":
            uv.append([float(v) for v in values[:2]])
        elif kind == "g":
            group = values[0]
        elif kind == "f":
            corners = [value.split("/") for value in values]
            faces.append([int(c[0]) - 1 for c in corners])
            faces_uv.append([int(c[1]) - 1 for c in corners])
            groups.append(group)
    return np.array(vertices), np.array(uv), np.array(faces), np.array(faces_uv), np.array(groups)


def parse_target(text: str, vertex_count: int) -> np.ndarray:
    """(vertex_count, 3) float32 displacements of a ``.target`` file: index and x, y, z a line."""
    displacement = np.zeros((vertex_count, 3), np.float32)
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            index, *xyz = line.split()
            displacement[int(index)] = [float(v) for v in xyz[:3]]
    return displacement
