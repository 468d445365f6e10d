"""What all trainings share: steps, worker processes, averaging, resuming, curves."""

from __future__ import annotations

import copy
import queue
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import multiprocessing

from tddfa_ros.training import checkpoint, packed, together
from tddfa_ros.training import rig as rig_file
from tddfa_ros.training.curves import Curves
from tddfa_ros.training.muon import Muon
from tddfa_ros.training.recipe import Recipe
from tddfa_ros.training.replay import feed, taker
from tddfa_ros.training.together import Group, TrainingError

_PARENT_CHECK_S = 2.0
_MANY_STEPS = 10**6
"""Of an average whose state does not tell them: an older one, or the mean of several."""


class Training(ABC):
    """A run in a folder: ``<name>.pt`` is its state, ``<name>.csv`` its curves.

    A subclass names its network, makes examples in :meth:`produce`, and turns a batch into a loss.
    """

    name: str
    columns: tuple[str, ...]
    """What :meth:`losses` returns beside the total, for the curves."""

    def __init__(
        self,
        rig_path: str | Path,
        folder: str | Path,
        recipe: Recipe,
        group: Group | None = None,
    ) -> None:
        self.group = group or Group()
        self.folder, self.recipe, self.rig_path = Path(folder), recipe, str(rig_path)
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        torch.set_num_threads(recipe.threads)
        self.device = torch.device(recipe.device)
        self.net = self.make_net().to(self.device, memory_format=torch.channels_last)
        self.optimizers = optimizers_of(self.net, recipe)
        self.average = checkpoint.Average(self.net)
        self.seen, self.elapsed = 0, 0.0
        self.share = 0.0  # of the run that is over
        self.start_seen = 0  # examples that the weights had seen with which the run began
        self.curves = Curves(self.folder / f"{self.name}.csv")
        self._resume()
        self.prepare()
        # All start from the same weights, but draw differently from here on.
        torch.manual_seed(recipe.seed + self.start_seen + self.seen + self.group.rank)

    @abstractmethod
    def make_net(self) -> torch.nn.Module:
        """The network at its start."""

    def begin_with(self, start: str) -> int:
        """Give the network the recipe's weights; returns how many examples they have seen."""
        return packed.unpack(self.net, start)

    @abstractmethod
    def prepare(self) -> None:
        """Load what the losses and the validation need."""

    @staticmethod
    @abstractmethod
    def produce(rig_path: str, seed: int, recipe: Recipe) -> Iterator[dict[str, np.ndarray]]:
        """Endless small batches of examples; runs in a worker process."""

    @abstractmethod
    def losses(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Total loss, then the values of :attr:`columns`."""

    @abstractmethod
    def validate(self, net: torch.nn.Module) -> dict[str, float]:
        """Figures of the averaged network on held-out examples."""

    @property
    def state_path(self) -> Path:
        """Where the run's state is kept."""
        return self.folder / f"{self.name}.pt"

    @cached_property
    def rig_digest(self) -> str:
        """Of the rig that pictures are drawn from."""
        return rig_file.digest(rig_file.load(self.rig_path))

    def _resume(self) -> None:
        state = checkpoint.load(self.state_path, "net", "average", "optimizers", "seen", "elapsed")
        if state is None:
            if self.recipe.start is not None:
                self.start_seen = self.begin_with(self.recipe.start)
                self.average = checkpoint.Average(self.net)
            return
        anew = not state.get("start_seen", 0)
        if anew != (self.recipe.start is None):
            raise TrainingError(
                f"{self.state_path} is of a run that began "
                + ("anew" if anew else "with given weights")
                + ": go on likewise (--from), or choose another folder"
            )
        checkpoint.require_rig(state, self.rig_digest, self.state_path)
        checkpoint.restore(self.net, state["net"], self.state_path)
        try:
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except ValueError as error:
            raise TrainingError(
                f"{self.state_path} is of a run in which other weights learn: go on likewise, with "
                "--keep-body if it began with that, else without, or choose another folder"
            ) from error
        steps = state.get("average_steps", _MANY_STEPS)
        self.average = checkpoint.Average(self.net, state["average"], steps)
        self.seen, self.elapsed = state["seen"], state["elapsed"]
        self.start_seen = state.get("start_seen", 0)

    def save(self) -> None:
        """Write the state so that a later run goes on from here."""
        if not self.group.first:
            return
        checkpoint.save(
            self.state_path,
            {
                "net": self.net.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "average": self.average.state,
                "average_steps": self.average.steps,
                "seen": self.seen,
                "start_seen": self.start_seen,
                "elapsed": self.elapsed,
                "rig": self.rig_digest,
            },
        )

    def run(self) -> None:
        """Train until the recipe's minutes are over or its examples seen.

        Raises
        ------
        TrainingError
            A worker process died.
        """
        recipe = self.recipe
        seed = recipe.seed + self.start_seen + self.seen
        if self.group.count > 1:
            recipe = replace(recipe, workers=0)
            sequence = np.random.SeedSequence([seed, self.group.rank])
            seed = int(sequence.generate_state(1)[0])
        rng = np.random.default_rng(seed)
        if not recipe.workers:
            examples = self.produce(self.rig_path, seed, recipe)
            self._loop(feed(lambda _: next(examples), recipe, rng))
            return
        # Forked children of a process whose thread pools run would hang.
        spawn = multiprocessing.get_context("spawn")
        out = spawn.Queue(8)
        seeds = np.random.SeedSequence([recipe.seed, self.start_seen + self.seen]).generate_state(
            recipe.workers
        )
        workers = [
            spawn.Process(
                target=_work, args=(type(self), self.rig_path, int(s), recipe, out), daemon=True
            )
            for s in seeds
        ]
        for worker in workers:
            worker.start()
        try:
            self._loop(feed(taker(out, workers), recipe, rng))
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()

    def _loop(self, batches: Iterator[dict[str, torch.Tensor]]) -> None:
        recipe = self.recipe
        start, before = time.monotonic(), self.elapsed
        report_at = before + recipe.report_seconds
        recent: list[torch.Tensor] = []
        factor, steps = 0.0, 0
        while (share := self._share_done()) < 1:
            self.share = share
            if recipe.start is not None and share >= recipe.hold_from:
                keep_statistics(self.net)
            factor = rate_factor(share, recipe.decay_share)
            steps += 1
            warmth = min(1.0, steps / recipe.warm_up)
            recent.append(self.step(next(batches), factor * warmth))
            self.elapsed = before + time.monotonic() - start
            if self.elapsed >= report_at:
                report_at = self.elapsed + recipe.report_seconds
                self._report(recipe.rate * factor, recent)
                recent = []
                self.save()
        if recent:
            self._report(recipe.rate * factor, recent)
            self.save()

    def _share_done(self) -> float:
        if self.recipe.examples is not None:
            return self.seen / self.recipe.examples
        return self.group.agree(self.elapsed / (60 * self.recipe.minutes))

    def step(self, batch: dict[str, torch.Tensor], factor: float) -> torch.Tensor:
        """One step at that share of the highest rates; returns what :meth:`losses` does."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * factor
        losses = self.losses(batch)
        self.net.zero_grad(set_to_none=True)
        losses[0].backward()
        self.group.average_gradients(self.net)
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.net)
        self.seen += len(next(iter(batch.values()))) * self.group.count
        # Not read yet: that would be to wait for the device.
        return torch.stack([value.detach() for value in losses])

    @torch.no_grad()
    def _report(self, rate: float, recent: list[torch.Tensor]) -> None:
        if not self.group.first:
            return
        means = torch.stack(recent).mean(dim=0).tolist()
        row: dict[str, Any] = {"seconds": round(self.elapsed, 1), "seen": self.seen, "rate": rate}
        names = ("loss", *self.columns)
        row |= dict(zip(names, (round(mean, 5) for mean in means), strict=True))
        net = copy.deepcopy(self.net)
        net.load_state_dict(self.average.state)
        net.eval()
        row |= {name: round(value, 5) for name, value in self.validate(net).items()}
        self.curves.add(row)


def train_together(
    kind: type[Training], rig_path: str | Path, folder: str | Path, recipe: Recipe
) -> None:
    """Train in as many processes as the recipe says.

    Raises
    ------
    TrainingError
        One of them died, there is no such device, or the folder cannot be made.
    """
    # Told before several processes begin, each of which would tell it.
    _check_device(recipe.device)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"no run can be kept in {folder}: {error}") from error
    together.run(partial(_train_in, kind, rig_path, folder, recipe), recipe.processes)


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    # A name that is none or a GPU that is not there, and a build of PyTorch without that kind.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"no device {name!r} to train on: {reason}") from error
    if device.type not in ("cpu", "cuda"):
        raise TrainingError(f"device is {name}: trainings run on cpu or cuda")


def _train_in(
    kind: type[Training], rig_path: str | Path, folder: str | Path, recipe: Recipe, group: Group
) -> None:
    kind(rig_path, folder, recipe, group).run()


def _work(kind: type[Training], rig_path: str, seed: int, recipe: Recipe, out: Any) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for batch in kind.produce(rig_path, seed, recipe):
        while True:
            # A training that was killed cannot end its workers: they look for themselves.
            if not multiprocessing.parent_process().is_alive():
                out.cancel_join_thread()
                return
            with suppress(queue.Full):
                out.put(batch, timeout=_PARENT_CHECK_S)
                break


def optimizers_of(net: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for vectors, linear layers and what sees the pixels, Muon for all other convolutions.

    Those of the detector's outputs are among these, the 1x1 ones too.
    """
    learning = [weight for weight in net.parameters() if weight.requires_grad]
    weights = [weight for weight in learning if weight.ndim == 4 and weight.shape[1] > 3]
    taken = {id(weight) for weight in weights}
    others = [weight for weight in learning if id(weight) not in taken]
    adam = torch.optim.AdamW(others, recipe.rate, weight_decay=1e-3, foreach=True)
    return [adam, Muon(weights, recipe.muon_rate)] if weights else [adam]


def keep_statistics(net: torch.nn.Module) -> None:
    """Normalise as the trained network does from now on, not by what each batch happens to hold.

    With a batch's own statistics the regressor erred by 3.64 % where it errs by 3.49 (that of
    10.5 million crops, held-out people): what was left to learn drowned in that.
    """
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.eval()


def rate_factor(share: float, decay_share: float) -> float:
    """Share of the highest rate after `share` of the run: flat, then half a cosine."""
    falling = min(1.0, max(0.0, share - (1 - decay_share)) / decay_share)
    return float(0.01 + 0.99 * (0.5 + 0.5 * np.cos(np.pi * falling)))
