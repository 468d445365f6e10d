"""The small recipe end to end: rig to trained networks to a model set that fits faces."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.core import model_set  # noqa: E402
from tddfa_ros.training import evaluate, loop, train_regressor  # noqa: E402
from tddfa_ros.training.__main__ import RECIPES, main  # noqa: E402
from tddfa_ros.training.fitting import decode  # noqa: E402


def mean_face_error(training):
    """Error of the average face, ahead and where faces are on average, on the held-out crops."""
    crops = training._held_out
    ahead = torch.zeros(1, 9 + 40 + 16 + 1)
    ahead[0, [0, 4]] = 1
    mean = training.points(decode(ahead, 40, 16))[0, :68, :2].numpy()
    middle = crops["points"][:, :68, :2].mean(axis=(0, 1))
    mean = mean - mean.mean(axis=0) + middle
    return np.mean([evaluate.nme(mean, points[:68]) for points in crops["points"]])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_small_recipe_beats_the_mean_face_by_half(rig_path, tmp_path, capsys):
    run = tmp_path / "run"
    for network in ("regressor", "detector"):
        arguments = ["train", network, "--rig", str(rig_path), "--run", str(run)]
        assert main([*arguments, "--recipe", "small"]) == 0
        last = json.loads(capsys.readouterr().out)
        assert (run / f"{network}.png").stat().st_size > 1000
        if network == "regressor":
            recipe = RECIPES["small"]["regressor"]
            training = train_regressor.RegressorTraining(rig_path, run, recipe)
            assert last["held_out_nme"] < mean_face_error(training) / 2
        else:
            assert last["loss"] < 8
    out = tmp_path / "embedded"
    assert main(["export", "--rig", str(rig_path), "--run", str(run), "--out", str(out)]) == 0
    assert model_set.load(out).name == "embedded"
    assert main(["evaluate", "--set", str(out), "--synthetic", "60"]) == 0


@pytest.mark.timeout(300)
def test_a_few_seconds_train_export_and_resume(rig_path, tmp_path):
    """All the parts fit together; how well it learns is the test above."""
    recipe = loop.Recipe(
        minutes=0.05, workers=0, batch=8, replay=128, pool=70, held_out=16, report_seconds=1
    )
    first = train_regressor.RegressorTraining(rig_path, tmp_path, recipe)
    first.run()
    again = train_regressor.RegressorTraining(rig_path, tmp_path, recipe)
    assert again.seen == first.seen > 0
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.net.parameters(), again.net.parameters(), strict=True)
    )


def test_errors_are_told_without_a_traceback(tmp_path, capsys):
    assert main(["train", "regressor", "--rig", str(tmp_path / "no.npz")]) == 1
    assert "no.npz" in capsys.readouterr().err
