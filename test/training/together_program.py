"""What test_together runs as a program: fresh processes can import its work only from a file."""

import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tddfa_ros.training import together
from tddfa_ros.training.loop import Training
from tddfa_ros.training.recipe import Recipe


class LineTraining(Training):
    """Fits y = 3 x - 1."""

    name = "line"
    rig_digest = "of no rig"
    columns = ("error",)

    def make_net(self):
        return torch.nn.Linear(1, 1)

    def prepare(self):
        pass

    @staticmethod
    def produce(rig_path, seed, recipe):
        rng = np.random.default_rng(seed)
        while True:
            x = rng.normal(size=(32, 1)).astype(np.float32)
            yield {"x": x, "y": 3 * x - 1}

    def losses(self, batch):
        error = ((self.net(batch["x"]) - batch["y"]) ** 2).mean()
        return error, error.detach()

    def validate(self, net):
        return {"slope": net.weight.item()}


def average_known_gradients(folder, group):
    net = torch.nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
    for weight in net.parameters():
        weight.grad = (group.rank + 1) * torch.arange(weight.numel()).view_as(weight).float()
    group.average_gradients(net)
    share = group.agree(float(group.rank))
    np.savez(folder / f"{group.rank}.npz", *(w.grad for w in net.parameters()), share=share)


def train_line(folder, group):
    torch.set_num_threads(1)
    recipe = Recipe(examples=32000, rate=0.05, replay=512, batch=32, report_seconds=1, processes=2)
    training = LineTraining("no rig", folder, recipe, group)
    training.run()
    weights = [weight.item() for weight in training.net.parameters()]
    np.save(folder / f"{group.rank}.npy", [training.seen, torch.rand(()).item(), *weights])


def lose_one(folder, group):
    if group.rank:
        os._exit(3)
    net = torch.nn.Linear(1, 1)
    net.weight.grad = torch.ones(1, 1)
    group.average_gradients(net)


class Fatal:
    """Ends the process that unpickles it, as one ends that cannot load what it needs."""

    def __reduce__(self):
        return os._exit, (3,)


def never_begin(folder, group, fatal):
    raise AssertionError("this process came here without the other")


if __name__ == "__main__":
    work = partial(globals()[sys.argv[1]], Path(sys.argv[2]))
    if sys.argv[1] == "never_begin":
        work = partial(work, fatal=Fatal())
    try:
        together.run(work, 2)
    except together.TrainingError as error:
        (Path(sys.argv[2]) / "error.txt").write_text(str(error))
