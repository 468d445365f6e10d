"""Several processes train one network: each on examples of its own, all with the mean gradient.

On a CPU this is faster than threads, which have little to do between one small operator and the
next: two cores bring half as many examples again as one that trains and one that draws.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch import distributed, multiprocessing

from tddfa_ros.core.errors import TddfaError

_PATIENCE = timedelta(minutes=5)
"""For a process that is still making its first pictures or validating."""
_GLANCE_S = 0.5


class TrainingError(TddfaError):
    """A training cannot go on."""


class Group:
    """A process's place among those that train together.

    Parameters
    ----------
    rank, count : which of how many; the first one keeps the state and the curves
    meeting : file that does not exist yet, where they find each other
    """

    def __init__(self, rank: int = 0, count: int = 1, meeting: Path | None = None) -> None:
        self.rank, self.count = rank, count
        if count > 1:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            store = distributed.FileStore(str(meeting), count)
            distributed.init_process_group(
                "gloo", store=store, rank=rank, world_size=count, timeout=_PATIENCE
            )

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def average_gradients(self, net: torch.nn.Module) -> None:
        """Give each process the mean of all gradients, bit by bit the same.

        Raises
        ------
        TrainingError
            Another process is gone.
        """
        if self.count == 1:
            return
        weights = [weight for weight in net.parameters() if weight.grad is not None]
        flat = torch.cat([weight.grad.flatten() for weight in weights])
        self._sum(flat)
        flat /= self.count
        parts = torch.split(flat, [weight.numel() for weight in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.grad.copy_(part.view_as(weight))

    def agree(self, value: float) -> float:
        """The mean of all processes' values, so that all decide alike."""
        if self.count == 1:
            return value
        values = torch.tensor([value], dtype=torch.float64)
        self._sum(values)
        return float(values) / self.count

    @staticmethod
    def _sum(values: torch.Tensor) -> None:
        try:
            distributed.all_reduce(values)
        except RuntimeError as error:
            raise TrainingError(
                f"a process of this training died, see its message above ({error}); the last state "
                "is kept: start the same command again"
            ) from error


def run(work: Callable[[Group], None], count: int) -> None:
    """Call `work`, which must be picklable, in `count` processes, the first of which is this one.

    Raises
    ------
    TrainingError
        One of them died.
    """
    if count == 1:
        work(Group())
        return
    spawn = multiprocessing.get_context("spawn")
    arrived, arrive = spawn.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        others = [
            spawn.Process(target=_join, args=(work, rank, count, meeting, arrive), daemon=True)
            for rank in range(1, count)
        ]
        for other in others:
            other.start()
        try:
            for _ in others:
                _await_one(arrived, others)
            work(Group(0, count, meeting))
        except BaseException:
            for other in others:
                other.terminate()
            raise
        finally:
            for other in others:
                other.join()
            if distributed.is_initialized():
                distributed.destroy_process_group()


def _await_one(arrived: Connection, others: list[BaseProcess]) -> None:
    """Wait for one more process; a meeting would wait for a dead one until its patience ends."""
    while not arrived.poll(_GLANCE_S):
        if not all(other.is_alive() for other in others):
            raise TrainingError(
                "a process of this training died before it began, see its message above; free "
                "memory or train with fewer processes"
            )
    arrived.recv()


def _join(
    work: Callable[[Group], None], rank: int, count: int, meeting: Path, arrive: Connection
) -> None:
    arrive.send(rank)
    work(Group(rank, count, meeting))
