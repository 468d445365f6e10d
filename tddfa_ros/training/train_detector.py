"""Trains the detector on scenes made as it goes; can be stopped and resumed at any time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from tddfa_ros.training import detector_weights, held_out
from tddfa_ros.training import rig as rig_file
from tddfa_ros.training.loop import Training
from tddfa_ros.training.networks import DetectorNet
from tddfa_ros.training.precision import mixed
from tddfa_ros.training.recipe import HELD_OUT_SEED, Recipe
from tddfa_ros.training.scenes import SceneSource

MOST_FACES = 6
"""Boxes a scene can have."""
_HALF_STRIDE = DetectorNet.STRIDE // 2
_HALF_UNIT = DetectorNet.UNIT / 2


class DetectorTraining(Training):
    """Centre heat and boxes, as in Zhou et al., "Objects as points", 2019."""

    name = "detector"
    columns = ("heat", "box")

    def make_net(self) -> torch.nn.Module:
        """The network at its start."""
        return DetectorNet()

    def begin_with(self, start: str) -> int:
        """Give the network the weights of a set's detector; returns how many scenes it has seen."""
        return detector_weights.unpack(self.net, start)

    def prepare(self) -> None:
        """Make the held-out scenes."""
        count = self.recipe.held_out

        def new_people() -> dict[str, np.ndarray]:
            source = SceneSource(rig_file.load(self.rig_path), seed=HELD_OUT_SEED, reuse=1.5)
            return scenes_batch(source, count)

        path = self.folder / f"held_out_scenes_{count}.npz"
        self._held_out = held_out.load(path, ("pictures", "boxes"), new_people)

    @staticmethod
    def produce(rig_path: str, seed: int, recipe: Recipe) -> Iterator[dict[str, np.ndarray]]:
        """Endless small batches of scenes with their boxes."""
        source = SceneSource(rig_file.load(rig_path), seed=seed, pool=recipe.pool)
        while True:
            yield scenes_batch(source, 8)

    def losses(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Total, focal loss of the heat, distance of the boxes."""
        pictures, boxes = batch["pictures"], batch["boxes"]
        if torch.rand(()) < 0.5:
            pictures, boxes = pictures.flip(2), flipped(boxes, pictures.shape[2])
        with mixed(self.device):
            output = self.net(pictures)
        heat, box = detection_loss(output.float(), boxes)
        return heat + box, heat.detach(), box.detach()

    def validate(self, net: torch.nn.Module) -> dict[str, float]:
        """Share of held-out faces found and false boxes a scene, at a score of 0.4."""
        found = faces = false = 0
        for k in range(0, len(self._held_out["pictures"]), 16):
            pictures = torch.from_numpy(self._held_out["pictures"][k : k + 16]).to(self.device)
            output = net(pictures)
            truth = self._held_out["boxes"][k : k + 16]
            for boxes, scores, true in zip(*peaks(output), truth, strict=True):
                kept = suppress(boxes[scores > 0.4].cpu().numpy(), scores[scores > 0.4])
                true = true[np.isfinite(true[:, 0])]
                hits = iou(true, kept) >= 0.5
                found += int(hits.any(axis=1).sum())
                faces += len(true)
                false += int((~hits.any(axis=0)).sum())
        count = len(self._held_out["pictures"])
        return {"found": found / max(1, faces), "false_per_scene": false / count}


def scenes_batch(source: SceneSource, count: int) -> dict[str, np.ndarray]:
    """`count` scenes: pictures, and boxes padded with NaN to (count, MOST_FACES, 4)."""
    pictures, boxes = [], np.full((count, MOST_FACES, 4), np.nan, np.float32)
    for k in range(count):
        picture, found = source.scene()
        pictures.append(picture)
        boxes[k, : len(found)] = found[:MOST_FACES]
    return {"pictures": np.stack(pictures), "boxes": boxes}


def flipped(boxes: torch.Tensor, width: int) -> torch.Tensor:
    """Boxes (b, n, 4) of the pictures mirrored left to right."""
    x0, y0, x1, y1 = boxes.unbind(dim=2)
    return torch.stack([width - 1 - x1, y0, width - 1 - x0, y1], dim=2)


def detection_loss(output: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Focal loss of the heat and L1 distance of offsets and log sizes around the centres.

    Parameters
    ----------
    output : (b, 5, rows, columns) of :class:`networks.DetectorNet`
    boxes : (b, n, 4) in pixels of the halved picture; NaN where there is none
    """
    rows, columns = output.shape[2:]
    y = torch.arange(rows, device=output.device, dtype=torch.float32)
    x = torch.arange(columns, device=output.device, dtype=torch.float32)
    valid = torch.isfinite(boxes[..., 0])
    boxes = torch.nan_to_num(boxes)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    inside = (centre >= 0) & (centre < centre.new_tensor([columns, rows]) * _HALF_STRIDE)
    valid = valid & inside.all(dim=2)
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1)
    cell = (centre + 0.5) / _HALF_STRIDE - 0.5
    sigma = (0.1 * size.prod(dim=2).sqrt() / _HALF_STRIDE).clamp(min=0.6)
    dx = cell[..., 0, None, None] - x
    dy = cell[..., 1, None, None] - y[:, None]
    bump = torch.exp(-(dx**2 + dy**2) / (2 * sigma[..., None, None] ** 2))
    bump = bump * valid[..., None, None]
    nearest = (dx.abs() <= 0.5) & (dy.abs() <= 0.5) & valid[..., None, None]
    goal, owner = bump.max(dim=1)
    positive = nearest.any(dim=1)
    heat = functional.logsigmoid(output[:, 0]), functional.logsigmoid(-output[:, 0])
    score = torch.sigmoid(output[:, 0])
    on = -((1 - score) ** 2 * heat[0])[positive].sum()
    off = -((1 - goal) ** 4 * score**2 * heat[1])[~positive].sum()
    count = positive.sum().clamp(min=1)
    wanted = torch.stack(
        [
            dx.expand_as(bump),
            dy.expand_as(bump),
            torch.log(size[..., 0] / _HALF_UNIT)[..., None, None].expand_as(bump),
            torch.log(size[..., 1] / _HALF_UNIT)[..., None, None].expand_as(bump),
        ],
        dim=2,
    )
    index = owner[:, None, None].expand(-1, 1, 4, -1, -1)
    wanted = wanted.gather(1, index)[:, 0]
    weight = torch.where(goal > 0.5, goal, torch.zeros_like(goal))
    weight = torch.maximum(weight, positive.float())
    scale = sigma.gather(1, owner.flatten(1)).view_as(owner)
    off_by = functional.smooth_l1_loss(output[:, 1:], wanted, reduction="none", beta=0.1)
    off_by = torch.cat([off_by[:, :2] / scale[:, None] * 0.6, off_by[:, 2:] * 2], dim=1)
    return (on + off) / count, (off_by.sum(dim=1) * weight).sum() / weight.sum().clamp(min=1)


def peaks(output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (b, cells, 4) in pixels of the halved picture and scores (b, cells), 0 beside peaks."""
    rows, columns = output.shape[2:]
    score = torch.sigmoid(output[:, :1])
    around = functional.max_pool2d(score, 3, 1, 1)
    score = score * (score >= around)
    x = torch.arange(columns, device=output.device, dtype=torch.float32)
    y = torch.arange(rows, device=output.device, dtype=torch.float32)[:, None]
    centre_x = (output[:, 1] + x + 0.5) * _HALF_STRIDE - 0.5
    centre_y = (output[:, 2] + y + 0.5) * _HALF_STRIDE - 0.5
    half = torch.exp(output[:, 3:5].clamp(-4, 4)) * (_HALF_UNIT / 2)
    boxes = torch.stack(
        [
            centre_x - half[:, 0],
            centre_y - half[:, 1],
            centre_x + half[:, 0],
            centre_y + half[:, 1],
        ],
        dim=1,
    )
    return boxes.flatten(2).transpose(1, 2), score.flatten(1)


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) intersection over union of boxes (n, 4) and (m, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.maximum(high - low, 0).prod(axis=2)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (first, second)]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9)


def suppress(boxes: np.ndarray, scores: torch.Tensor, most: float = 0.35) -> np.ndarray:
    """Boxes in descending score, without those that overlap a better one by more than `most`."""
    kept: list[np.ndarray] = []
    for index in torch.argsort(scores, descending=True).tolist():
        if not kept or iou(boxes[index][None], np.stack(kept)).max() <= most:
            kept.append(boxes[index])
    return np.array(kept, np.float32).reshape(-1, 4)
