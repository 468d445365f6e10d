"""Of requirements.in, what the ROS 2 installation that is sourced does not bring.

``requirements`` prints the pinned requirements to install beside it, one a line; ``constraints``
prints the pins of requirements.lock for everything that is not installed yet. Run with the Python
of a virtual environment that sees the system's packages.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

# Where the name to import is not that of the distribution.
MODULES = {
    "codespell": "codespell_lib",
    "colcon-common-extensions": "colcon_ros",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "protobuf": "google.protobuf",
    "pytest-xdist": "xdist",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
}
# Nothing to import, or the version matters.
DISTRIBUTIONS = ("setuptools", "types-pyyaml")
# setuptools removed what colcon calls.
SETUPTOOLS_BELOW = 80


def normal(name: str) -> str:
    """Name of a distribution as the packaging standards compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted() -> list[str]:
    """Names of the direct requirements, without those that are ROS."""
    names = []
    for line in (FOLDER / "requirements.in").read_text().splitlines():
        match = re.match(r"[A-Za-z0-9._-]+", line)
        if match and not match[0].startswith("ros-"):
            names.append(normal(match[0]))
    return names


def pins() -> dict[str, list[str]]:
    """Lines of the lock by name; a name has several where they depend on the Python version."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / "requirements.lock").read_text().splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==", line)
        if match:
            found.setdefault(normal(match[1]), []).append(line.replace(" ", ""))
    return found


def has_distribution(name: str) -> bool:
    """Whether the metadata of a distribution are there."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def is_there(name: str) -> bool:
    """Whether a direct requirement is met by what Python finds."""
    if name == "setuptools" and has_distribution(name):
        return int(version(name).split(".")[0]) < SETUPTOOLS_BELOW
    if name in DISTRIBUTIONS:
        return has_distribution(name)
    try:
        return find_spec(MODULES.get(name, name.replace("-", "_"))) is not None
    except ModuleNotFoundError:  # a package around it is absent, such as google
        return False


if __name__ == "__main__":
    chosen = (
        [name for name in wanted() if not is_there(name)]
        if sys.argv[1] == "requirements"
        else [name for name in pins() if not has_distribution(name) and not name.startswith("ros-")]
    )
    for name in chosen:
        for line in pins()[name]:
            sys.stdout.write(line + "\n")
