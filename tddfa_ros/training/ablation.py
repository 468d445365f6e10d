"""``python -m tddfa_ros.training.ablation``: the same short training with other losses and regimes.

Every run but the second starts from the same weights, and all see the same crops in the same order,
but that of meta-joint optimisation, which learns from ten batches and decides by the eleventh; what
differs is the loss, the regime or the optimiser. The rows are the ablation table of the model card.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tddfa_ros.training import expressions, meta_joint, parameter_costs, short_video
from tddfa_ros.training import rig as rig_file
from tddfa_ros.training.crops import CROP, DENSE_POINTS, CropSource
from tddfa_ros.training.decoding import USUAL_SCALE, Fit, PointModel, decode
from tddfa_ros.training.embedded import RIG_FILE
from tddfa_ros.training.fitting import FitLoss
from tddfa_ros.training.landmark_head import LandmarkRegularised, landmark_loss
from tddfa_ros.training.loop import optimizers_of, rate_factor
from tddfa_ros.training.networks import RegressorNet
from tddfa_ros.training.precision import mixed
from tddfa_ros.training.recipe import HELD_OUT_SEED, Recipe
from tddfa_ros.training.rig import MODEL_SHAPES
from tddfa_ros.training.sight import spread_points
from tddfa_ros.training.train_regressor import (
    CLIP_SHARE,
    EXPRESSIONS,
    STABILITY_WEIGHT,
    arrays_of,
)

BATCH = 64
LOOK_AHEAD = 10
"""Batches that meta-joint optimisation takes with each loss before it keeps the better outcome."""
LANDMARK_WEIGHT = 1.0
_UNITS = torch.cat(
    [
        torch.tensor([*[USUAL_SCALE / 2] * 3, CROP / 8] * 3),
        torch.ones(MODEL_SHAPES + EXPRESSIONS),
    ]
)
"""By which parameters are divided for WPDC, as 3DDFA divides by their deviations."""

Batch = dict[str, torch.Tensor]


class Bench:
    """Crops, face model and losses that all runs share.

    Parameters
    ----------
    rig_path : the rig
    crops, held_out : numbers of crops to train and to measure on
    """

    def __init__(self, rig_path: Path, crops: int, held_out: int) -> None:
        self.rig = rig = rig_file.load(rig_path)
        self.points = PointModel.at_truth(rig, spread_points(rig, DENSE_POINTS), EXPRESSIONS)
        self.fit_loss = FitLoss(68 + DENSE_POINTS)
        basis = torch.cat([self.points.shape_basis, self.points.expression_basis])
        self.face = parameter_costs.LinearFace(self.points.mean, basis.unflatten(1, (-1, 3)))
        self.train = _crops(CropSource(rig, EXPRESSIONS, seed=1, pool=1500), crops, 0.08)
        source = CropSource(rig, EXPRESSIONS, seed=HELD_OUT_SEED, pool=held_out, reuse=1.0)
        self.held_out = _crops(source, held_out, 0.0)

    def batches(self) -> Iterator[Batch]:
        """The same ones in the same order for every run."""
        rng = np.random.default_rng(0)
        while True:
            rows = torch.from_numpy(rng.choice(len(self.train["crops"]), BATCH, replace=False))
            yield {name: value[rows] for name, value in self.train.items()}

    def fit(self, net: torch.nn.Module, batch: Batch) -> Fit:
        """Decoded outputs."""
        with mixed("cpu"):
            outputs = net(batch["crops"])
        return decode(outputs.float(), MODEL_SHAPES, EXPRESSIONS)

    def parameters(self, net: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Found and true parameter vectors of the crops that show a face, (b, 12 + k)."""
        fit = self.fit(net, batch)
        shown = batch["is_face"] > 0
        neutral = torch.cat([batch["shape"], batch["expression"]], dim=1)
        scale, centre = self._true_camera(batch, neutral)
        found = _vector(fit.rotation, fit.scale, fit.centre, fit.shape, fit.expression)
        truth = _vector(batch["rotation"], scale, centre, batch["shape"], batch["expression"])
        return found[shown], truth[shown]

    def _true_camera(
        self, batch: Batch, coefficients: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and centre that bring the model nearest to the true points, rotation given."""
        offset = (coefficients @ self.face.basis.flatten(1)).unflatten(1, (-1, 3))
        turned = torch.einsum("bij,bpj->bpi", batch["rotation"], self.face.mean + offset)
        flat = turned[..., :2] * turned.new_tensor([1.0, -1.0])
        seen = batch["points"][..., :2]
        a, b = flat - flat.mean(dim=1, keepdim=True), seen - seen.mean(dim=1, keepdim=True)
        scale = (a * b).sum(dim=(1, 2)) / (a * a).sum(dim=(1, 2)).clamp(min=1e-9)
        return scale, seen.mean(dim=1) - scale[:, None] * flat.mean(dim=1)

    @torch.no_grad()
    def measure(self, net: torch.nn.Module) -> dict[str, float]:
        """Held-out NME in percent, rotation error in degrees, correlations of jaw and blink."""
        net.eval()
        fit = self.fit(net, self.held_out)
        error = self.fit_loss(fit, self.points(fit), self.held_out).nme
        turned = (fit.rotation * self.held_out["rotation"]).sum(dim=(1, 2))
        angle = torch.arccos(((turned - 1) / 2).clamp(-1, 1))
        result = {"NME68": float(error), "degrees": float(torch.rad2deg(angle).mean())}
        for name in ("jaw_open", "blink_left"):
            k = expressions.REGRESSED.index(name)
            both = torch.stack([fit.expression[:, k], self.held_out["expression"][:, k]])
            result[name] = float(torch.corrcoef(both)[0, 1])
        return result


def _crops(source: CropSource, count: int, not_faces: float) -> Batch:
    parts = [arrays_of(source.batch(100, not_faces=not_faces)) for _ in range(-(-count // 100))]
    return {k: torch.from_numpy(np.concatenate([p[k] for p in parts])) for k in parts[0]}


def _vector(
    rotation: torch.Tensor,
    scale: torch.Tensor,
    centre: torch.Tensor,
    shape: torch.Tensor,
    expression: torch.Tensor,
) -> torch.Tensor:
    """(b, 12 + k): the camera's rows to x right, y down, z to the viewer, then coefficients."""
    flip = rotation.new_tensor([1.0, -1.0, 1.0])[None, :, None]
    offset = torch.cat([centre, torch.zeros_like(centre[:, :1])], dim=1)
    camera = torch.cat([scale[:, None, None] * rotation * flip, offset[..., None]], dim=2)
    return torch.cat([camera.flatten(1), shape, expression], dim=1)


Loss = Callable[[torch.nn.Module, Batch], torch.Tensor]


@dataclass(frozen=True)
class Variant:
    """One row.

    Attributes
    ----------
    name : what it says
    losses : one, or the two that meta-joint optimisation chooses from
    muon : the convolutions have Muon, as in the shipped recipe, else all have AdamW
    seed : of the first weights
    landmark_head : train :class:`LandmarkRegularised`
    """

    name: str
    losses: tuple[Loss, ...]
    muon: bool = False
    seed: int = 0
    landmark_head: bool = False


def variants(bench: Bench) -> list[Variant]:
    """All rows."""

    def points(net: torch.nn.Module, batch: Batch) -> torch.Tensor:
        fit = bench.fit(net, batch)
        return bench.fit_loss(fit, bench.points(fit), batch).total

    def without_closure(net: torch.nn.Module, batch: Batch) -> torch.Tensor:
        fit = bench.fit(net, batch)
        return bench.fit_loss(fit, bench.points(fit), batch).without_closure

    def vdc(net: torch.nn.Module, batch: Batch) -> torch.Tensor:
        found, truth = bench.parameters(net, batch)
        return parameter_costs.vertex_distance_cost(bench.face, found, truth) / CROP**2

    def wpdc(net: torch.nn.Module, batch: Batch) -> torch.Tensor:
        found, truth = bench.parameters(net, batch)
        weights = parameter_costs.fast_wpdc_weights(bench.face, found, truth)
        return parameter_costs.weighted_parameter_cost(found / _UNITS, truth / _UNITS, weights)

    def joint(net: torch.nn.Module, batch: Batch) -> torch.Tensor:
        return parameter_costs.vanilla_joint(wpdc(net, batch), vdc(net, batch))

    def with_landmarks(net: torch.nn.Module, batch: Batch) -> torch.Tensor:
        with mixed("cpu"):
            outputs, flat = net(batch["crops"])
        fit = decode(outputs.float(), MODEL_SHAPES, EXPRESSIONS)
        direct = landmark_loss(flat.float(), batch["points"], batch["is_face"])
        return bench.fit_loss(fit, bench.points(fit), batch).total + LANDMARK_WEIGHT * direct

    clips = itertools.count()

    def with_clips(net: torch.nn.Module, batch: Batch) -> torch.Tensor:
        return points(net, batch) + STABILITY_WEIGHT * _stability(bench, net, batch, next(clips))

    return [
        Variant("distance of points, AdamW", (points,)),
        Variant("the same from other first weights", (points,), seed=1),
        Variant("the same with Muon (the shipped optimiser)", (points,), muon=True),
        Variant("without the closure of lids and lips", (without_closure,)),
        Variant("with the landmark-regression head", (with_landmarks,), landmark_head=True),
        Variant("with short clips and the stability loss", (with_clips,)),
        Variant("VDC", (vdc,)),
        Variant("fast WPDC", (wpdc,)),
        Variant("vanilla-joint of both", (joint,)),
        Variant("meta-joint of both", (wpdc, vdc)),
    ]


def _stability(bench: Bench, net: torch.nn.Module, batch: Batch, seed: int) -> torch.Tensor:
    """Stability loss of two-image clips made of some of the batch's faces."""
    rows = torch.nonzero(batch["is_face"]).flatten()[: int(CLIP_SHARE * BATCH)]
    stills, points = batch["crops"][rows], batch["points"][rows]
    chance = torch.Generator().manual_seed(seed)
    pictures, moved = short_video.next_frames(chance, stills, points)
    fit = bench.fit(net, {"crops": torch.cat([stills, pictures])})
    found = bench.points(fit).unflatten(0, (2, -1)).transpose(0, 1)
    truth = torch.stack([points, moved], dim=1)
    return short_video.stability_loss(found[:, :, :68], truth[:, :, :68])


def run(bench: Bench, variant: Variant, steps: int) -> dict[str, float]:
    """Train one variant and measure it."""
    torch.manual_seed(variant.seed)
    net = RegressorNet(bench.rig, EXPRESSIONS, looks=0).to(memory_format=torch.channels_last)
    trained = LandmarkRegularised(net) if variant.landmark_head else net
    recipe = Recipe()
    if variant.muon:
        optimizers = optimizers_of(trained, recipe)
    else:
        optimizers = [torch.optim.AdamW(trained.parameters(), recipe.rate, weight_decay=1e-3)]
    batches = bench.batches()
    stride = LOOK_AHEAD if len(variant.losses) > 1 else 1
    for step in range(0, steps, stride):
        factor = min(1.0, (step + 1) / 50) * rate_factor(step / steps, 0.5)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * factor
        if stride > 1:
            ahead, test = list(itertools.islice(batches, stride)), next(batches)
            meta_joint.look_ahead(
                trained, optimizers[0], variant.losses, ahead, variant.losses[1], test
            )
            continue
        trained.zero_grad(set_to_none=True)
        variant.losses[0](trained, next(batches)).backward()
        for optimizer in optimizers:
            optimizer.step()
    return bench.measure(net)


def main() -> int:
    """Run all variants and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tddfa_ros.training.ablation", description=__doc__
    )
    models = Path(__file__).resolve().parents[2] / "models" / "embedded"
    parser.add_argument("--rig", type=Path, default=models / RIG_FILE)
    parser.add_argument("--crops", type=int, default=12_000)
    parser.add_argument("--held-out", type=int, default=600)
    parser.add_argument("--steps", type=int, default=700, help=f"of {BATCH} crops")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(options.rig, options.crops, options.held_out)
    for count, variant in enumerate(variants(bench)):
        row = run(bench, variant, options.steps)
        if not count:
            sys.stdout.write(f"| variant | {' | '.join(row)} |\n|---|{'---|' * len(row)}\n")
        values = " | ".join(f"{value:.2f}" for value in row.values())
        sys.stdout.write(f"| {variant.name} | {values} |\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
