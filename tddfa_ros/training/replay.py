"""Examples from where they are made to where they are learned from: each is used several times."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from tddfa_ros.training.recipe import Recipe
from tddfa_ros.training.together import TrainingError


class Replay:
    """The newest examples, drawn at random; knows how often each has been used on average.

    Parameters
    ----------
    size : examples kept
    device : where they are kept: those for a GPU in its memory, 47 kB a crop
    """

    def __init__(self, size: int, device: str | torch.device = "cpu") -> None:
        self._size, self._device = size, torch.device(device)
        self._examples: dict[str, torch.Tensor] = {}
        self.added = 0
        self.drawn = 0

    def add(self, arrays: dict[str, np.ndarray]) -> None:
        """Store a batch over the oldest one."""
        new = {name: torch.from_numpy(value) for name, value in arrays.items()}
        if not self._examples:
            self._examples = {
                name: torch.empty((self._size, *v.shape[1:]), dtype=v.dtype, device=self._device)
                for name, v in new.items()
            }
        count = len(next(iter(new.values())))
        rows = (self.added + torch.arange(count, device=self._device)) % self._size
        for name, value in new.items():
            self._examples[name][rows] = value.to(self._device, non_blocking=True)
        self.added += count

    def draw(self, rng: np.random.Generator, count: int) -> dict[str, torch.Tensor]:
        """`count` different examples."""
        rows = torch.from_numpy(rng.choice(min(self.added, self._size), count, replace=False))
        rows = rows.to(self._device, non_blocking=True)
        self.drawn += count
        return {name: value.index_select(0, rows) for name, value in self._examples.items()}


Take = Callable[[bool], dict[str, np.ndarray] | None]
"""Gives examples: what is ready now or None, or, asked to wait, some in any case."""


def feed(take: Take, recipe: Recipe, rng: np.random.Generator) -> Iterator[dict[str, torch.Tensor]]:
    """Batches from a replay that takes in what is ready, and waits only when it must."""
    replay = Replay(recipe.replay, recipe.device)
    while True:
        while replay.added < 8 * recipe.batch or replay.drawn > recipe.reuse * replay.added:
            examples = take(True)
            if examples is not None:
                replay.add(examples)
        if recipe.workers:
            while (examples := take(False)) is not None:
                replay.add(examples)
        yield replay.draw(rng, recipe.batch)


def taker(out: Any, workers: list[Any]) -> Take:
    """Of what worker processes put into the queue `out`."""

    def take(wait: bool) -> dict[str, np.ndarray] | None:
        while True:
            try:
                return out.get(timeout=2.0) if wait else out.get_nowait()
            except queue.Empty:
                if not wait:
                    return None
                if not all(worker.is_alive() for worker in workers):
                    raise TrainingError(
                        "a process that makes pictures died, see its message above; free memory or "
                        "train with workers=0"
                    ) from None

    return take
