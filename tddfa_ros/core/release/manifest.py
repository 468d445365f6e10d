"""Which files the public 3DDFA_V2 release consists of, and how to tell that they are genuine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

COMMIT = "1b6c67601abffc1e9f248b291708aef0e43b55ae"
REPOSITORY = "https://github.com/cleardusk/3DDFA_V2"
BASE_URL = "https://raw.githubusercontent.com/cleardusk/3DDFA_V2"

LICENCE = "3DDFA_V2: MIT; its morphable model: Basel Face Model 2009, research only"
LICENCE_TEXT = """\
Made from files of the public 3DDFA_V2 release (MIT licence, copyright Jianzhu Guo and others,
https://github.com/cleardusk/3DDFA_V2; its face detector: FaceBoxes, copyright Zisian Wong,
Shifeng Zhang, Max deGroot and Ellis Brown).

The morphable model in them derives from the Basel Face Model 2009 (copyright University of Basel,
https://faces.dmi.unibas.ch/bfm), which is available for non-commercial research and education
only, after its licence has been accepted there; its expressions derive from FaceWarehouse, which
is for non-commercial research only, too. Passing the model on is not permitted.
"""

MAX_FILE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class ReleaseFile:
    """One file of the release.

    Attributes
    ----------
    name : its name
    folder : where it is in the release
    git_blob_id : hexadecimal SHA-1 that git gives its content
    size_bytes : its size, or None where only its git blob id is known
    sha256 : hexadecimal, where git keeps the content elsewhere (LFS) and its blob id says nothing
    """

    name: str
    folder: str
    git_blob_id: str = ""
    size_bytes: int | None = None
    sha256: str = ""

    @property
    def repository_path(self) -> str:
        """Its path in the release."""
        return f"{self.folder}/{self.name}"

    def is_genuine(self, content: bytes) -> bool:
        """Whether `content` is, byte for byte, what the release has under this name."""
        return self.checksum(content) == (self.sha256 or self.git_blob_id)

    def checksum(self, content: bytes) -> str:
        """Hexadecimal, of the kind that this file is known by."""
        return hashlib.sha256(content).hexdigest() if self.sha256 else git_blob_id(content)


FACE_MODEL = ReleaseFile("bfm_noneck_v3.pkl", "configs", "7a44e1e29d658fc5d7303eb07cd820b23daab34a")
TRIANGLES = ReleaseFile("tri.pkl", "configs", "31b52dcfb1a823649a6157f784ce39304c96ca6d", 913040)
UV = ReleaseFile("BFM_UV.mat", "configs", "fa205443b62307647358facf6fd92b13166d0d86", 779401)
UV_ROWS = ReleaseFile("indices.npy", "configs", "8dc0fbd5fcd3f46528ce0c8cb40fd5fa8432bed4", 153588)
PNCC = ReleaseFile("ncc_code.npy", "configs", "b1411ff3a716a1d87d43c865525007e6d65fd2f0", 460508)
PARAM_STATISTICS = ReleaseFile(
    "param_mean_std_62d_120x120.pkl", "configs", "110c0f3eda9f7c610dd20a4ac96de848b76de443", 713
)
DETECTOR = ReleaseFile(
    "FaceBoxesProd.pth",
    "FaceBoxes/weights",
    "89c411c20eb55668e224b04cba549687ea242b57",
    4072492,
)
REGRESSORS = {
    "mb1": ReleaseFile("mb1_120x120.pth", "weights", "bb78e0cd616fa578febb725b4be3a3ddd546f6b4"),
    "mb05": ReleaseFile(
        "mb05_120x120.pth", "weights", "6b7be882d53da54cc84732b295695d5c89c93bc3", 3752462
    ),
}
"""Name -> file, the more accurate first."""

COMMON_FILES = (FACE_MODEL, TRIANGLES, UV, UV_ROWS, PNCC, PARAM_STATISTICS, DETECTOR)
"""What every set needs, beside one of the regressors."""


def git_blob_id(content: bytes) -> str:
    """Hexadecimal SHA-1 that git gives a file of this content."""
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def path_in(folder: Path, file: ReleaseFile) -> Path | None:
    """Where a folder has a file of the release, flat or laid out as the release is, or None."""
    for candidate in (folder / file.name, folder / file.repository_path):
        if candidate.is_file():
            return candidate
    return None
