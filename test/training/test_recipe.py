"""The small recipe end to end: rig to trained networks to a model set that fits faces."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.core import model_set  # noqa: E402
from tddfa_ros.training import __main__ as training_command  # noqa: E402
from tddfa_ros.training import (  # noqa: E402
    checkpoint,
    embedded,
    evaluate,
    packed,
    train_regressor,
)
from tddfa_ros.training.__main__ import RECIPES, main  # noqa: E402
from tddfa_ros.training.decoding import decode  # noqa: E402
from tddfa_ros.training.recipe import HELD_OUT_SEED, Recipe  # noqa: E402
from tddfa_ros.training.together import TrainingError  # noqa: E402


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
    export = ["export", "--rig", str(rig_path), "--run", str(run), "--out", str(out)]
    assert main([*export, "--calibration-crops", "32"]) == 0
    assert model_set.load(out).name == "embedded"
    assert main(["evaluate", "--set", str(out), "--synthetic", "60"]) == 0


@pytest.mark.timeout(300)
def test_a_few_seconds_train_export_and_resume(rig_path, tmp_path):
    """All the parts fit together; how well it learns is the test above."""
    recipe = Recipe(
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


@pytest.mark.timeout(300)
def test_all_of_a_kept_crop_is_learned_from(rig_path, tmp_path):
    """What no loss reads takes memory, and would be wrong of the crops as they are moved."""
    recipe = Recipe(examples=8, workers=0, pool=70, held_out=8, batch=8, replay=64)
    run = train_regressor.RegressorTraining(rig_path, tmp_path, recipe)
    made = next(run.produce(str(rig_path), 3, recipe))
    batch = {name: torch.from_numpy(value) for name, value in made.items()}
    assert torch.isfinite(run.losses(batch)[0])
    for name in batch:
        with pytest.raises(KeyError, match=name):
            run.losses({other: value for other, value in batch.items() if other != name})


@pytest.mark.timeout(300)
def test_what_reads_the_maps_learns_while_the_body_stays(rig_path, open_regressor, tmp_path):
    begun = {name: value.clone() for name, value in open_regressor().state_dict().items()}
    weights = tmp_path / embedded.WEIGHTS_FILE
    weights.write_bytes(packed.pack(begun, 9))
    recipe = Recipe(
        examples=64, workers=0, batch=16, replay=128, pool=70, held_out=8, start=str(weights),
        keep_body=True, warm_up=1,
    )  # fmt: skip
    run = train_regressor.RegressorTraining(rig_path, tmp_path / "run", recipe)
    begun = {name: value.clone() for name, value in run.net.state_dict().items()}
    run.run()
    kept = {name for name, value in run.net.state_dict().items() if torch.equal(value, begun[name])}
    learning = {name for name, _ in run.net.named_parameters()} - kept
    assert {name.partition(".")[0] for name in learning} == {"head", "looks", "close_ups"}
    assert all(name in kept for name in begun if name.startswith(("body.", "sides.")))
    for part in ("head.weight", "looks.0.mix.weight", "looks.2.change.weight"):
        assert part in learning
    other = dataclasses.replace(recipe, keep_body=False)
    with pytest.raises(TrainingError, match=r"regressor\.pt .* --keep-body"):
        train_regressor.RegressorTraining(rig_path, tmp_path / "run", other)


@pytest.mark.timeout(300)
def test_the_command_trains_in_two_processes(rig_path, tmp_path):
    command = [sys.executable, "-m", "tddfa_ros.training", "train", "regressor"]
    command += ["--rig", rig_path, "--run", tmp_path, "--recipe", "small"]
    ended = subprocess.run(
        [*command, *"--processes 2 --examples 64 --batch 8 --replay 64".split()],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["seen"] == 64


def test_a_state_of_another_network_is_told(rig_path, tmp_path, capsys):
    weights = {"weight": torch.zeros(3)}
    state = {"net": weights, "average": weights, "optimizers": [], "seen": 1, "elapsed": 1.0}
    checkpoint.save(tmp_path / "regressor.pt", state)
    assert main(["train", "regressor", "--rig", str(rig_path), "--run", str(tmp_path)]) == 1
    assert "regressor.pt is the state of another network" in capsys.readouterr().err


def test_a_run_that_has_its_length_says_so(rig_path, tmp_path, capsys):
    """The mean of states, which has no curve yet: nothing is drawn."""
    train = ["train", "detector", "--rig", str(rig_path), "--recipe", "small", "--batch", "8"]
    train += ["--replay", "64", "--examples", "8"]
    assert main([*train, "--run", str(tmp_path / "a")]) == 0
    assert json.loads(capsys.readouterr().out)["seen"] == 8
    mean = tmp_path / "b" / "detector.pt"
    assert main(["average", str(tmp_path / "a" / "detector.pt"), "--out", str(mean)]) == 0
    for run in ("a", "b"):
        (tmp_path / run / "detector.png").unlink(missing_ok=True)
        capsys.readouterr()
        assert main([*train, "--run", str(tmp_path / run)]) == 0
        assert "nothing to train" in capsys.readouterr().out
        assert not (tmp_path / run / "detector.png").exists()


def test_training_on_begins_with_a_set_and_its_rig_at_a_twentieth_of_the_rates(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(training_command, "train_together", lambda *given: asked.append(given))
    asked = []
    weights = tmp_path / embedded.WEIGHTS_FILE
    weights.write_bytes(packed.pack(torch.nn.Linear(2, 2).state_dict(), 5))
    command = ["train", "regressor", "--run", str(tmp_path / "run"), "--recipe", "small"]
    assert main(command) == main([*command, "--from", str(tmp_path)]) == 0
    (_, rig, _, anew), (_, rig_of_set, _, further) = asked
    assert (rig.parent.name, rig_of_set) == ("embedded", tmp_path / embedded.RIG_FILE)
    assert further.rate == pytest.approx(anew.rate / 20)
    assert further.muon_rate == pytest.approx(anew.muon_rate / 20)
    assert (anew.start, further.start) == (None, str(weights))
    options = "--rates 0.1 --plain 0.3 --batch 128 --hold-from 0.5 --device cuda --workers 15"
    assert main([*command, "--from", str(tmp_path), *options.split()]) == 0
    on_gpu = asked.pop()[-1]
    assert main([*command, "--from", str(tmp_path), "--keep-body"]) == 0
    assert asked.pop()[-1].keep_body and not on_gpu.keep_body
    assert on_gpu.rate == pytest.approx(anew.rate / 10)
    assert (on_gpu.plain, on_gpu.batch, on_gpu.hold_from) == (0.3, 128, 0.5)
    assert main([*command[:-2], "--workers", "3"]) == 0
    drawn_for = asked.pop()[-1]
    assert (drawn_for.processes, drawn_for.workers) == (1, 3)
    assert main([*command[:-2], "--workers", "0"]) == 0
    assert asked.pop()[-1].processes == 2
    assert (on_gpu.device, on_gpu.processes, on_gpu.workers) == ("cuda", 1, 15)
    capsys.readouterr()
    for wrong, told in (
        ("--plain 1.5", "plain is 1.5"),
        ("--batch 0", "batch is 0"),
        ("--replay 100", "replay is 100: a batch of 64 is drawn from 8 times as many"),
        ("--rates 0", "rate is 0.0"),
        ("--reuse 0", "reuse is 0.0"),
        ("--seed -1", "seed is -1"),
        (f"--seed {HELD_OUT_SEED}", f"seed is {HELD_OUT_SEED}"),
        ("--workers -1", "workers is -1"),
        ("--workers 3 --processes 2", "--workers 3 with --processes 2"),
        ("--hold-from 0.5", "--hold-from: only a run with --from"),
        (f"--from {tmp_path} --hold-from 2", "hold_from is 2.0"),
        ("--keep-body", "--keep-body: only a run with --from"),
        (f"--from {tmp_path} --keep-body --hold-from 0.5", "without --hold-from"),
    ):
        assert main([*command, *wrong.split()]) == 1
        assert told in capsys.readouterr().err
    weights.unlink()
    command[1] = "regressor"
    assert main([*command, "--from", str(tmp_path)]) == 1
    assert "no weights to begin with" in capsys.readouterr().err
    assert len(asked) == 2


def test_training_on_of_a_detector_begins_with_that_of_a_set(
    repository, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(training_command, "train_together", lambda *given: asked.append(given))
    asked = []
    shipped = repository / "models" / "embedded"
    command = ["train", "detector", "--run", str(tmp_path / "run"), "--recipe", "small"]
    assert main(command) == main([*command, "--from", str(shipped)]) == 0
    (*_, anew), (_, rig, _, further) = asked
    assert (anew.start, further.start) == (None, str(shipped))
    assert rig == shipped / embedded.RIG_FILE
    assert further.rate == pytest.approx(anew.rate / 20)
    for wrong, told in (
        (f"--from {tmp_path}", "model.yaml"),
        ("--plain 0.3", "--plain: is of the regressor alone"),
        (f"--from {shipped} --hold-from 0.5", "--hold-from: is of the regressor alone"),
        (f"--from {shipped} --keep-body", "--keep-body: is of the regressor alone"),
    ):
        assert main([*command, *wrong.split()]) == 1
        assert told in capsys.readouterr().err
    assert len(asked) == 2


def children_of(pid):
    """Process ids and whole command lines of a process's children, as Linux has them."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"PPid:\t{pid}\n" in status.read_text():
                found[int(status.parent.name)] = (status.parent / "cmdline").read_bytes()
    return found


def runs(pid):
    """Whether a process is there and not only waiting to be reaped."""
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads processes from /proc")
@pytest.mark.timeout(300)
def test_workers_of_a_killed_training_end_too(rig_path, tmp_path):
    command = [sys.executable, "-m", "tddfa_ros.training", "train", "detector"]
    options = ["--rig", rig_path, "--run", tmp_path, "--recipe", "small", "--workers", "1"]
    training = subprocess.Popen([*command, *map(str, options)])
    try:
        workers = []
        while not workers:
            assert training.poll() is None
            time.sleep(0.2)
            workers = [k for k, line in children_of(training.pid).items() if b"spawn_main" in line]
    finally:
        training.kill()
        training.wait()
    end = time.monotonic() + 120
    while any(runs(pid) for pid in workers):
        assert time.monotonic() < end, f"still there: {workers}"
        time.sleep(0.5)


def test_errors_are_told_without_a_traceback(tmp_path, capsys):
    assert main(["export", "--run", str(tmp_path), "--calibration-crops", "1"]) == 1
    assert "1 calibration crops" in capsys.readouterr().err
    assert main(["train", "regressor", "--rig", str(tmp_path / "no.npz")]) == 1
    assert "no.npz" in capsys.readouterr().err
    run = tmp_path / "file"
    run.write_text("mine")
    assert main(["train", "regressor", "--run", str(run)]) == 1
    assert f"no run can be kept in {run}" in capsys.readouterr().err
    for count in (0, -5, 1):
        assert main(["evaluate", "--synthetic", str(count)]) == 1
        assert capsys.readouterr().err.startswith(f"{count} synthetic people")


@pytest.mark.parametrize("device", ["cuda:77", "foo", "meta"])
def test_a_device_that_is_not_there_is_told_before_the_training(tmp_path, capsys, device):
    """The first is none of a build without CUDA, nor of any machine with it."""
    assert main(["train", "regressor", "--run", str(tmp_path / "run"), "--device", device]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert device in line
    assert not (tmp_path / "run").exists()


def test_figures_of_very_few_people_are_json(repository, capsys, recwarn):
    shipped = repository / "models" / "embedded"
    assert main(["evaluate", "--set", str(shipped), "--synthetic", "2"]) == 0

    def refused(word):
        raise AssertionError(f"{word} is no JSON")

    figures = json.loads(capsys.readouterr().out, parse_constant=refused)
    assert figures["synthetic"]["nme"] > 0
    assert not recwarn


def test_a_home_that_is_not_known_matters_to_nobody_who_names_a_folder(
    tmp_path, monkeypatch, capsys
):
    def unknown(_):
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert main(["export", "--out", str(tmp_path / "set")]) == 1
    assert "set HOME" in capsys.readouterr().err
    assert main(["export", "--out", str(tmp_path / "set"), "--run", str(tmp_path)]) == 1
    assert "no training state" in capsys.readouterr().err
