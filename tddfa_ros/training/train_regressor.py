"""Trains the regressor on crops made as it goes; can be stopped and resumed at any time."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import multiprocessing

from tddfa_ros.training import checkpoint, expressions
from tddfa_ros.training import rig as rig_file
from tddfa_ros.training.crops import CROP, DENSE_POINTS, Batch, CropSource
from tddfa_ros.training.curves import Curves
from tddfa_ros.training.fitting import FitLoss, PointModel, decode
from tddfa_ros.training.networks import RegressorNet
from tddfa_ros.training.rig import MODEL_SHAPES, Rig
from tddfa_ros.training.sight import spread_points

EXPRESSIONS = len(expressions.REGRESSED)


@dataclass(frozen=True)
class Recipe:
    """How long and how to train.

    Attributes
    ----------
    minutes : wall time; the learning rate falls over its last part
    workers : processes that make crops
    batch : crops a step
    rate : highest learning rate
    decay_share : last share of the time, over which the learning rate falls to a hundredth
    replay : crops kept; each is used `reuse` times on average, at times mirrored
    validation : held-out crops of people that are never trained on
    """

    minutes: float = 90.0
    workers: int = 1
    batch: int = 64
    rate: float = 2e-3
    decay_share: float = 0.4
    replay: int = 20000
    reuse: float = 4.0
    validation: int = 512
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    pool: int = 2500
    report_seconds: float = 180.0


def _produce(rig_path: str, seed: int, pool: int, out: multiprocessing.Queue) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    source = CropSource(rig_file.load(rig_path), EXPRESSIONS, seed=seed, pool=pool)
    while True:
        out.put(_arrays(source.batch(32)))


def _arrays(batch: Batch) -> dict[str, np.ndarray]:
    return {name: getattr(batch, name) for name in Batch.__dataclass_fields__}


class Replay:
    """The newest crops, drawn at random; knows how often each has been used on average."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._arrays: dict[str, np.ndarray] = {}
        self.added = 0
        self.drawn = 0

    def add(self, arrays: dict[str, np.ndarray]) -> None:
        """Store a batch over the oldest one."""
        if not self._arrays:
            self._arrays = {
                k: np.empty((self._size, *v.shape[1:]), v.dtype) for k, v in arrays.items()
            }
        count = len(arrays["crops"])
        rows = (self.added + np.arange(count)) % self._size
        for name, value in arrays.items():
            self._arrays[name][rows] = value
        self.added += count

    def draw(self, rng: np.random.Generator, count: int) -> dict[str, torch.Tensor]:
        """`count` different crops as tensors."""
        rows = rng.choice(min(self.added, self._size), count, replace=False)
        self.drawn += count
        return {k: torch.from_numpy(v[rows]) for k, v in self._arrays.items()}


class RegressorTraining:
    """A run in a folder: ``regressor.pt`` is its state, ``regressor.csv`` its curves."""

    def __init__(self, rig_path: str | Path, folder: str | Path, recipe: Recipe) -> None:
        self.folder, self.recipe, self._rig_path = Path(folder), recipe, str(rig_path)
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        torch.set_num_threads(recipe.threads)
        rig = rig_file.load(rig_path)
        self.device = torch.device(recipe.device)
        self.net = RegressorNet(MODEL_SHAPES, EXPRESSIONS)
        self.net = self.net.to(self.device, memory_format=torch.channels_last)
        dense = spread_points(rig, DENSE_POINTS)
        self.points = PointModel(rig, dense, EXPRESSIONS).to(self.device)
        self.loss = FitLoss(68 + DENSE_POINTS).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), recipe.rate, weight_decay=1e-3, foreach=True
        )
        self.average = checkpoint.Average(self.net)
        self.seen, self.elapsed = 0, 0.0
        self.curves = Curves(self.folder / "regressor.csv")
        self._resume()
        self._validation = _held_out(rig, self.folder, recipe.validation)

    @property
    def state_path(self) -> Path:
        """Where the run's state is kept."""
        return self.folder / "regressor.pt"

    def _resume(self) -> None:
        state = checkpoint.load(self.state_path)
        if state is None:
            return
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = checkpoint.Average(self.net)
        self.average.state = {k: v.to(self.device) for k, v in state["average"].items()}
        self.average._steps = 10**6
        self.seen, self.elapsed = state["seen"], state["elapsed"]

    def _save(self) -> None:
        checkpoint.save(
            self.state_path,
            {
                "net": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state,
                "seen": self.seen,
                "elapsed": self.elapsed,
            },
        )

    def run(self) -> None:
        """Train until the recipe's minutes are over."""
        recipe = self.recipe
        # Forked children of a process whose thread pools run would hang.
        spawn = multiprocessing.get_context("spawn")
        out = spawn.Queue(8)
        seeds = np.random.SeedSequence([recipe.seed, self.seen]).generate_state(recipe.workers)
        workers = [
            spawn.Process(
                target=_produce, args=(self._rig_path, int(s), recipe.pool, out), daemon=True
            )
            for s in seeds
        ]
        for worker in workers:
            worker.start()
        try:
            self._loop(_feed(out, recipe, np.random.default_rng(recipe.seed + self.seen)))
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()

    def _loop(self, batches: Iterator[dict[str, torch.Tensor]]) -> None:
        recipe = self.recipe
        start, before = time.monotonic(), self.elapsed
        report_at, recent = before + recipe.report_seconds, []
        steps = 0
        while self.elapsed < 60 * recipe.minutes:
            rate = recipe.rate * rate_factor(self.elapsed / (60 * recipe.minutes), recipe)
            rate *= min(1.0, (steps + 1) / 100)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            truth = {k: v.to(self.device) for k, v in next(batches).items()}
            recent.append(self.step(truth))
            steps += 1
            self.elapsed = before + time.monotonic() - start
            if self.elapsed >= report_at:
                report_at = self.elapsed + recipe.report_seconds
                self._report(rate, recent)
                recent = []
                self._save()
        self._report(0.0, recent)
        self._save()

    def step(self, truth: dict[str, torch.Tensor]) -> tuple[float, ...]:
        """One optimisation step; returns total, landmark error, expression and face loss."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            outputs = self.net(truth["crops"])
        fit = decode(outputs.float(), MODEL_SHAPES, EXPRESSIONS)
        loss = self.loss(fit, self.points(fit), truth)
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.average.update(self.net)
        self.seen += len(truth["crops"])
        return tuple(float(v) for v in (loss.total.detach(), loss.nme, loss.expression, loss.face))

    def _report(self, rate: float, recent: list[tuple[float, ...]]) -> None:
        means = np.mean(recent, axis=0) if recent else np.full(4, np.nan)
        names = ("loss", "train_nme", "expression", "face")
        row = {"seconds": round(self.elapsed, 1), "seen": self.seen, "rate": rate}
        row |= dict(zip(names, (round(float(m), 4) for m in means), strict=True))
        row["held_out_nme"] = round(self.validate(), 4)
        self.curves.add(row)

    @torch.no_grad()
    def validate(self) -> float:
        """Landmark error of the averaged network on the held-out crops, percent."""
        net = RegressorNet(MODEL_SHAPES, EXPRESSIONS).to(self.device)
        net.load_state_dict(self.average.state)
        net.eval()
        errors = []
        for k in range(0, len(self._validation["crops"]), 64):
            part = {n: torch.from_numpy(v[k : k + 64]) for n, v in self._validation.items()}
            part = {n: v.to(self.device) for n, v in part.items()}
            fit = decode(net(part["crops"]), MODEL_SHAPES, EXPRESSIONS)
            errors.append(float(self.loss(fit, self.points(fit), part).nme) * len(part["crops"]))
        return sum(errors) / len(self._validation["crops"])


def rate_factor(share: float, recipe: Recipe) -> float:
    """Share of the highest rate after `share` of the time: flat, then half a cosine."""
    falling = max(0.0, share - (1 - recipe.decay_share)) / recipe.decay_share
    return float(0.01 + 0.99 * (0.5 + 0.5 * np.cos(np.pi * min(1.0, falling))))


def _feed(
    out: multiprocessing.Queue, recipe: Recipe, rng: np.random.Generator
) -> Iterator[dict[str, torch.Tensor]]:
    """Batches from a replay that takes in all that the workers have ready."""
    replay = Replay(recipe.replay)
    while True:
        try:
            while True:
                replay.add(out.get_nowait())
        except queue.Empty:
            pass
        while replay.added < 8 * recipe.batch or replay.drawn > recipe.reuse * replay.added:
            replay.add(out.get())
        yield replay.draw(rng, recipe.batch)


def _held_out(rig: Rig, folder: Path, count: int) -> dict[str, np.ndarray]:
    """Crops of one seed that no worker uses, made once and kept."""
    path = folder / f"held_out_{count}.npz"
    if not path.exists():
        source = CropSource(rig, EXPRESSIONS, seed=2**40 + 7, pool=count, reuse=1.0)
        rig_file.write_npz(path, _arrays(source.batch(count, not_faces=0.0)))
    with np.load(path, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    if arrays["crops"].shape[1:] != (CROP, CROP, 3):
        path.unlink()
        return _held_out(rig, folder, count)
    return arrays
