"""Training states on disk: written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tddfa_ros.core.atomic_file import replacing
from tddfa_ros.training.together import TrainingError

_KINDS = {"net": dict, "average": dict, "optimizers": list, "seen": int, "elapsed": float}


def save(path: str | Path, state: dict[str, Any]) -> None:
    """Write under a temporary name beside `path`, then rename."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load(path: str | Path, *needed: str) -> dict[str, Any] | None:
    """The state at `path`, tensors and plain values only; None if there is no file.

    Parameters
    ----------
    needed : what it must hold at least

    Raises
    ------
    TrainingError
        It is damaged or no state of a training.
    """
    if not Path(path).exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TrainingError(f"cannot read the training state {path}: {error}") from error
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        raise TrainingError(
            f"{path} is damaged, or no training state; choose another, or delete it to begin anew"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(state.get(name), _KINDS[name]) for name in needed
    ):
        raise TrainingError(f"{path} is no training state, or lacks a part; choose another")
    return state


def mean_of(paths: Sequence[str | Path]) -> dict[str, Any]:
    """The last of these states with the mean of all averaged weights; it has seen the most.

    Wortsman et al., "Model soups", 2022: states of one run lie in one valley, so their mean is a
    network too, a steadier one.

    Raises
    ------
    TrainingError
        A state is missing or damaged, or they are not of one network.
    """
    states = []
    for path in paths:
        state = load(path, "average")
        if state is None:
            raise TrainingError(f"no training state {path}")
        states.append(state)
    weights = [state["average"] for state in states]
    shapes = [{name: value.shape for name, value in each.items()} for each in weights]
    for path, each in zip(paths, shapes, strict=True):
        if each != shapes[-1]:
            raise TrainingError(f"{path} is of another network than {paths[-1]}")
    mean = {
        name: torch.stack([each[name] for each in weights]).mean(dim=0)
        if value.is_floating_point()
        else value
        for name, value in weights[-1].items()
    }
    # A run that goes on from here begins at the mean, and leaves it as slowly as the longest one.
    others = {name: value for name, value in states[-1].items() if name != "average_steps"}
    return others | {"average": mean, "net": mean}


def restore(module: torch.nn.Module, weights: dict[str, Any], path: str | Path) -> None:
    """Load a module's weights.

    Raises
    ------
    TrainingError
        They are another network's; `path` says where they come from.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingError(
            f"{path} is the state of another network, or of another version of it; choose another "
            "folder"
        ) from error


def require_rig(state: dict[str, Any], digest: str, path: str | Path) -> None:
    """Refuse a state that tells of another rig; older ones tell of none.

    Raises
    ------
    TrainingError
        The shapes fit, but what the coefficients mean would be another face.
    """
    if state.get("rig", digest) != digest:
        raise TrainingError(
            f"{path} is of a network that was trained with another rig; name its own (--rig), or "
            "choose another folder"
        )


class Average:
    """Exponential moving average of a module's state; its window grows with the run's length.

    Parameters
    ----------
    module : to start from
    state, steps : the average to go on with, and how many steps it has seen
    longest : share that a step keeps at most
    """

    def __init__(
        self,
        module: torch.nn.Module,
        state: dict[str, torch.Tensor] | None = None,
        steps: int = 0,
        longest: float = 0.999,
    ) -> None:
        self._longest = longest
        self.steps = steps
        own = module.state_dict()
        self.state = {k: (state[k].to(v) if state else v.detach().clone()) for k, v in own.items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        """Take one step towards the module's present state."""
        self.steps += 1
        keep = min(self._longest, self.steps / (self.steps + 10))
        for name, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value, 1 - keep)
            else:
                self.state[name].copy_(value)
