"""A network's weights as a model set carries them: to train on from, matrices in half precision."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch

from tddfa_ros.core.array_file import read_bounded, read_npz
from tddfa_ros.core.errors import TddfaError
from tddfa_ros.training.together import TrainingError

_MOST_BYTES = 64 * 1024 * 1024
_KINDS = {"layout": np.uint8, "half": np.float16, "single": np.float32, "seen": np.int64}


def pack(weights: dict[str, torch.Tensor], seen: int) -> bytes:
    """An .npz of a module's state and of how many examples it has seen."""
    matrices, vectors = _by_precision(weights)
    arrays = {
        "layout": np.frombuffer(_layout(weights), np.uint8),
        "half": np.concatenate([value.numpy().astype(np.float16).ravel() for value in matrices]),
        "single": np.concatenate([value.numpy().ravel() for value in vectors]),
        "seen": np.array([seen]),
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The content of such a file, checked but for the network that it belongs to.

    Raises
    ------
    TrainingError
        There is no such file, or it is damaged or of another kind.
    """
    try:
        arrays = read_npz(read_bounded(Path(path), _MOST_BYTES), str(path), _MOST_BYTES)
    except (OSError, TddfaError) as error:
        raise TrainingError(f"no weights to begin with: {error}") from error
    if (
        {name: value.dtype for name, value in arrays.items()} != _KINDS
        or any(value.ndim != 1 for value in arrays.values())
        or arrays["seen"].shape != (1,)
        or arrays["seen"][0] < 0
        or not all(np.isfinite(arrays[name]).all() for name in ("half", "single"))
    ):
        raise TrainingError(f"{path} is no file of a regressor's weights; export the set anew")
    return arrays


@torch.no_grad()
def unpack(module: torch.nn.Module, path: str | Path) -> int:
    """Give a module the weights of a file; returns how many examples they have seen.

    Raises
    ------
    TrainingError
        As :func:`read`, or the weights are another network's.
    """
    arrays = read(path)
    own = module.state_dict()
    parts = tuple(zip(("half", "single"), _by_precision(own), strict=True))
    sizes = {name: sum(value.numel() for value in values) for name, values in parts}
    if arrays["layout"].tobytes() != _layout(own) or any(
        len(arrays[name]) != size for name, size in sizes.items()
    ):
        raise TrainingError(f"{path} has the weights of another network, or of another version")
    for name, values in parts:
        flat = torch.from_numpy(arrays[name].astype(np.float32))
        pieces = flat.split([value.numel() for value in values])
        for value, piece in zip(values, pieces, strict=True):
            value.copy_(piece.view_as(value))
    return int(arrays["seen"][0])


def _by_precision(
    weights: dict[str, torch.Tensor],
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Matrices and vectors; counters are neither."""
    values = [value for value in weights.values() if value.is_floating_point()]
    return [v for v in values if v.ndim > 1], [v for v in values if v.ndim <= 1]


def _layout(weights: dict[str, torch.Tensor]) -> bytes:
    """Names and shapes as text."""
    return json.dumps([[name, list(value.shape)] for name, value in weights.items()]).encode()
