"""Make the CMake files of the ROS wheels name this machine's Python and numpy.

The wheels were built in a container whose paths (``/opt/python/cp311-cp311/...``) are written
into their CMake exports. Run with the Python of the virtual environment; running it again
changes nothing.
"""

import re
import sys
import sysconfig
from pathlib import Path

import numpy as np

_BUILD_PREFIX = rb"/opt/python/cp3\d+-cp3\d+"
_NUMPY_INCLUDE = re.compile(
    _BUILD_PREFIX + rb"/lib/python3\.\d+/site-packages/numpy/(?:_core|core)/include"
)
_PYTHON_INCLUDE = re.compile(_BUILD_PREFIX + rb"/include/python3\.\d+")


def fix_folder(share: Path) -> int:
    """Rewrite every CMake file below `share`; return how many changed."""
    numpy_include = np.get_include().encode()
    python_include = sysconfig.get_paths()["include"].encode()
    changed = 0
    for path in sorted(share.rglob("*.cmake")):
        old = path.read_bytes()
        new = _NUMPY_INCLUDE.sub(lambda _: numpy_include, old)
        new = _PYTHON_INCLUDE.sub(lambda _: python_include, new)
        if new != old:
            partial = path.with_name(path.name + ".part")
            partial.write_bytes(new)
            partial.replace(path)
            changed += 1
    return changed


if __name__ == "__main__":
    sys.stdout.write(f"{fix_folder(Path(sys.prefix) / 'share')} CMake files adapted\n")
