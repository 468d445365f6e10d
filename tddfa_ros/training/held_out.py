"""Examples to validate with, of people that are never trained on: made once, kept in the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from tddfa_ros.core.array_file import read_bounded, read_npz
from tddfa_ros.core.errors import UnsafeFileError
from tddfa_ros.training.rig import write_npz
from tddfa_ros.training.together import TrainingError

_MOST_BYTES = 4 * 1024**3


def load(
    path: Path, names: Iterable[str], make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays of a file, which is written with those of `make` if there is none.

    Parameters
    ----------
    names : arrays that it must hold at least, all with a row for each example

    Raises
    ------
    TrainingError
        It is damaged or of something else.
    """
    if not path.exists():
        write_npz(path, make())
    try:
        arrays = read_npz(read_bounded(path, _MOST_BYTES), str(path), _MOST_BYTES)
    except (OSError, UnsafeFileError) as error:
        raise TrainingError(f"{error}: damaged; delete it, then it is made anew") from error
    counts = {arrays[name].shape[:1] if name in arrays else () for name in names}
    if len(counts) != 1 or () in counts:
        raise TrainingError(f"{path}: no examples of this network; delete it, then it is made anew")
    return arrays
