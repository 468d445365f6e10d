"""Trains the regressor on crops made as it goes; can be stopped and resumed at any time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
import torch

from tddfa_ros.training import expressions, held_out, short_video
from tddfa_ros.training import rig as rig_file
from tddfa_ros.training.crops import DENSE_POINTS, Batch, CropSource
from tddfa_ros.training.decoding import PointModel, decode
from tddfa_ros.training.fitting import FitLoss, Loss
from tddfa_ros.training.loop import Training
from tddfa_ros.training.mirror import Mirror
from tddfa_ros.training.networks import LOOKS, RegressorNet
from tddfa_ros.training.precision import mixed
from tddfa_ros.training.recipe import HELD_OUT_SEED, Recipe
from tddfa_ros.training.retake import retake
from tddfa_ros.training.rig import MODEL_SHAPES, Rig
from tddfa_ros.training.sight import spread_points

EXPRESSIONS = len(expressions.REGRESSED)
POSE_WEIGHT = 0.5
"""Of the points' distance with the true coefficients."""
STAGE_WEIGHTS = (0.3, *[0.5] * LOOKS, 0.5, 1.0)
"""Of the losses of the stages of :meth:`networks.RegressorNet.stages`."""
STABILITY_WEIGHT, CLIP_SHARE = 1.5, 0.125
"""Of the stability loss, and of the crops that become clips of two images for it."""
_SHOWN = ("jaw_open", "blink_left")
_LEARNED = ("crops", "points", "shape", "expression", "is_face")
"""Arrays of :class:`crops.Batch` that the losses read, and that are true of moved crops, too."""
_VALIDATED = (*_LEARNED, "rotation")


class RegressorTraining(Training):
    """Points, coefficients and "this is a face" from crops of :class:`crops.CropSource`."""

    name = "regressor"
    columns = ("train_nme", "closure", "expression", "face", "stability")

    @cached_property
    def _rig(self) -> Rig:
        return rig_file.load(self.rig_path)

    def make_net(self) -> torch.nn.Module:
        """The network at its start."""
        net = RegressorNet(self._rig, EXPRESSIONS)
        if self.recipe.keep_body:
            for part in (net.body, net.sides):
                part.requires_grad_(False)
        return net

    def prepare(self) -> None:
        """Load the face model at the points and make the held-out crops."""
        rig = self._rig
        dense = spread_points(rig, DENSE_POINTS)
        self.points = PointModel.at_truth(rig, dense, EXPRESSIONS).to(self.device)
        self.loss = FitLoss(68 + DENSE_POINTS).to(self.device)
        self.mirror = Mirror(rig, dense, EXPRESSIONS).to(self.device)
        self.chance = torch.Generator(self.device)
        count = self.recipe.held_out
        self._held_out = held_out.load(
            self.folder / f"held_out_{count}.npz", _VALIDATED, partial(_new_people, rig, count)
        )

    @staticmethod
    def produce(rig_path: str, seed: int, recipe: Recipe) -> Iterator[dict[str, np.ndarray]]:
        """Endless small batches of crops with their truth."""
        rig = rig_file.load(rig_path)
        source = CropSource(rig, EXPRESSIONS, seed=seed, pool=recipe.pool, plain=recipe.plain)
        while True:
            batch = source.batch(32)
            yield {name: getattr(batch, name) for name in _LEARNED}

    def losses(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Total, landmark error in percent, closure, expression, face and stability loss."""
        batch, rows = self._seen_anew(batch), None
        if self.recipe.start is not None or self.share >= self.recipe.clips_from:
            batch, rows = self._with_next_frames(batch)
        with mixed(self.device):
            stages = self.net.stages(batch["crops"])
        total = torch.zeros((), device=self.device)
        for weight, outputs in zip(STAGE_WEIGHTS, stages, strict=True):
            loss, stability, whole = self._loss_of(outputs.float(), batch, rows)
            total = total + weight * whole
        return total, loss.nme, loss.closure, loss.expression, loss.face, stability.detach()

    def _loss_of(
        self, outputs: torch.Tensor, batch: dict[str, torch.Tensor], rows: torch.Tensor | None
    ) -> tuple[Loss, torch.Tensor, torch.Tensor]:
        """Of a fit: its parts, the stability loss, and the sum of all.

        `rows` are those whose next images are the last of the batch, None if there are none.
        """
        fit = decode(outputs, MODEL_SHAPES, EXPRESSIONS)
        points = self.points(fit)
        loss = self.loss(fit, points, batch)
        stability = torch.zeros((), device=self.device)
        if rows is not None:
            # Without those that are no faces, of which a batch may have more than it should.
            is_face = batch["is_face"][rows, None, None, None]
            pairs = [
                is_face * torch.stack([value[rows, :68], value[-len(rows) :, :68]], dim=1)
                for value in (points, batch["points"])
            ]
            stability = short_video.stability_loss(*pairs)
        # With the true coefficients only the pose can be wrong: shape cannot make up for it.
        posed = replace(fit, shape=batch["shape"], expression=batch["expression"])
        pose = self.loss.distance(self.points(posed), batch)
        return loss, stability, loss.total + POSE_WEIGHT * pose + STABILITY_WEIGHT * stability

    def _seen_anew(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch as further pictures of the same faces, half of them in a mirror."""
        # Of its own for every run, step and process, however often the run was resumed.
        at = [self.recipe.seed, self.start_seen + self.seen, self.group.rank]
        self.chance.manual_seed(int(np.random.SeedSequence(at).generate_state(1)[0]))
        crops, points = retake(self.chance, batch["crops"], batch["points"])
        mirrored = torch.rand(len(crops), generator=self.chance, device=self.device) < 0.5
        return self.mirror(batch | {"crops": crops, "points": points}, mirrored)

    def _with_next_frames(
        self, batch: dict[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The batch with the next images of some of its faces at the end; which those are."""
        count = max(1, int(CLIP_SHARE * len(batch["crops"])))
        # The first faces; to ask how many there are would be to wait for the device.
        rows = torch.argsort(batch["is_face"], descending=True, stable=True)[:count]
        more = {name: value[rows] for name, value in batch.items()}
        crops, points = short_video.next_frames(self.chance, more["crops"], more["points"])
        more |= {"crops": crops, "points": points}
        return {name: torch.cat([batch[name], more[name]]) for name in batch}, rows

    def validate(self, net: torch.nn.Module) -> dict[str, float]:
        """Landmark error in percent, rotation error in degrees, correlations of :data:`_SHOWN`."""
        truth = {name: torch.from_numpy(v).to(self.device) for name, v in self._held_out.items()}
        fits = []
        nme = torch.zeros(0, device=self.device)
        for k in range(0, len(truth["crops"]), 64):
            part = {name: value[k : k + 64] for name, value in truth.items()}
            fit = decode(net(part["crops"]), MODEL_SHAPES, EXPRESSIONS)
            error = self.loss(fit, self.points(fit), part).nme
            nme = torch.cat([nme, error.expand(len(part["crops"]))])
            fits.append((fit.rotation, fit.expression))
        rotation, expression = (torch.cat(values) for values in zip(*fits, strict=True))
        cosine = ((rotation * truth["rotation"]).sum(dim=(1, 2)) - 1) / 2
        correlation = {}
        for name in _SHOWN:
            k = expressions.REGRESSED.index(name)
            both = torch.stack([truth["expression"][:, k], expression[:, k]])
            correlation[name] = float(torch.corrcoef(both)[0, 1])
        degrees = float(torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))).mean())
        return {"held_out_nme": float(nme.mean()), "held_out_degrees": degrees, **correlation}


def arrays_of(batch: Batch) -> dict[str, np.ndarray]:
    """The arrays of a batch by name."""
    return {name: getattr(batch, name) for name in Batch.__dataclass_fields__}


def _new_people(rig: Rig, count: int) -> dict[str, np.ndarray]:
    source = CropSource(rig, EXPRESSIONS, seed=HELD_OUT_SEED, pool=count, reuse=1.0)
    return arrays_of(source.batch(count, not_faces=0.0))
