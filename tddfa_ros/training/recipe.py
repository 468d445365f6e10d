"""How long and how to train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tddfa_ros.training.together import TrainingError

HELD_OUT_SEED = 2**40 + 7
EVALUATION_SEED, CALIBRATION_SEED = HELD_OUT_SEED + 1, HELD_OUT_SEED + 2
"""Of people to validate with in a run, to evaluate a set with, and to choose the ranges of its
rounding with: three groups, none of which a worker has."""
_SEEDS = 2**32
"""Of runs, far below those of their own."""


@dataclass(frozen=True)
class Recipe:
    """How long and how to train.

    Attributes
    ----------
    minutes : wall time in all, over every resumption
    examples : length of the run instead of its minutes: as much training on any machine
    processes : that train together, see :mod:`together`; if several, each makes its own examples
    workers : processes that make examples for one that trains; 0 makes them in it, as several do
    batch : examples a step of each process
    rate : highest learning rate of AdamW
    muon_rate : highest learning rate of Muon, which has all convolutions but the first
    start : weights that a new run begins with, the regressor's a file (.npz), the detector's a set;
        None begins anew
    warm_up : steps over which the rates rise, at the beginning and after each resumption
    decay_share : last share of the run, over which the learning rate falls to a hundredth
    clips_from : share of the run, of one that begins anew, after which the regressor also learns to
        be steady: one that knows little yet is kept from learning by that
    hold_from : share of the run, of one that begins with given weights, after which its
        normalisations stay as they are, see :func:`loop.keep_statistics`
    keep_body : whether the regressor's maps stay as they are in a run that begins with given
        weights: what reads them learns from about twice as many crops in a minute
    plain : share of the regressor's crops that are neither hidden nor degraded
    replay : examples kept, where the network is: 47 kB a crop, 230 kB a scene
    reuse : most times that an example is used, on average
    pool : rendered people that a worker keeps
    held_out : examples for validation, of people that are never trained on
    report_seconds : between lines of the curves, each with a state on disk
    """

    minutes: float = 90.0
    examples: int | None = None
    processes: int = 1
    workers: int = 1
    batch: int = 64
    rate: float = 2e-3
    muon_rate: float = 0.02
    start: str | None = None
    warm_up: int = 100
    decay_share: float = 0.4
    clips_from: float = 0.1
    hold_from: float = 0.0
    keep_body: bool = False
    plain: float = 0.0
    replay: int = 20000
    reuse: float = 4.0
    pool: int = 2500
    held_out: int = 512
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    report_seconds: float = 180.0

    def __post_init__(self) -> None:
        for name in ("minutes", "examples"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise TrainingError(f"{name} is {value}: a run's length is above 0")
        for name in ("plain", "hold_from"):
            if not 0 <= getattr(self, name) <= 1:
                value = getattr(self, name)
                raise TrainingError(f"{name} is {value}: a share lies between 0 and 1")
        for name in ("batch", "replay", "reuse", "rate", "warm_up"):
            if not 0 < getattr(self, name) < np.inf:
                raise TrainingError(f"{name} is {getattr(self, name)}: more than 0 is needed")
        if self.replay < 8 * self.batch:
            raise TrainingError(
                f"replay is {self.replay}: a batch of {self.batch} is drawn from 8 times as many"
            )
        if self.keep_body and (self.start is None or self.hold_from > 0):
            raise TrainingError(
                "keep_body needs given weights (--from) and normalisations that stay as they are "
                "from the beginning: without --hold-from"
            )
        if self.processes < 1:
            raise TrainingError(f"processes is {self.processes}: one at least trains")
        if self.workers < 0:
            raise TrainingError(f"workers is {self.workers}: 0 or more make pictures")
        if not 0 <= self.seed < _SEEDS:
            raise TrainingError(f"seed is {self.seed}: it lies between 0 and {_SEEDS - 1}")
