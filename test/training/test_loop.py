"""Resuming, averaging, replay and the falling rate."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import checkpoint, loop, packed  # noqa: E402
from tddfa_ros.training.__main__ import main  # noqa: E402
from tddfa_ros.training.curves import Curves  # noqa: E402
from tddfa_ros.training.loop import Training, rate_factor  # noqa: E402
from tddfa_ros.training.recipe import CALIBRATION_SEED, EVALUATION_SEED, HELD_OUT_SEED, Recipe  # noqa: E402
from tddfa_ros.training.replay import Replay  # noqa: E402


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


def training(folder, **length):
    recipe = Recipe(**length, rate=0.05, replay=512, batch=32, report_seconds=1, workers=0)
    return LineTraining("no rig", folder, recipe)


def test_a_run_learns_writes_its_curve_and_resumes(tmp_path):
    first = training(tmp_path, minutes=0.1)
    first.run()
    assert first.net.weight.item() == pytest.approx(3, abs=0.05)
    curve = Curves(tmp_path / "line.csv").read()
    assert curve["seen"][-1] == first.seen
    assert curve["slope"][-1] == pytest.approx(3, abs=0.2)
    again = training(tmp_path, minutes=0.13)
    assert again.seen == first.seen
    assert again.net.weight.item() == first.net.weight.item()
    again.run()
    assert again.seen > first.seen
    Curves(tmp_path / "line.csv").plot(tmp_path / "line.png", ["loss"])
    assert (tmp_path / "line.png").stat().st_size > 1000


def test_a_run_of_so_many_examples_is_the_same_each_time_and_does_nothing_when_done(tmp_path):
    runs = [training(tmp_path / name, examples=3200) for name in "ab"]
    for run in runs:
        run.run()
    assert [run.seen for run in runs] == [3200, 3200]
    assert torch.equal(runs[0].net.weight, runs[1].net.weight)
    curve = (tmp_path / "a" / "line.csv").read_text()
    again = training(tmp_path / "a", examples=3200)
    again.run()
    assert again.seen == 3200
    assert (tmp_path / "a" / "line.csv").read_text() == curve


def test_every_row_of_a_curve_has_numbers(tmp_path):
    """A report at the very end of the run leaves nothing for the last one."""
    run = training(tmp_path, examples=320)
    run.recipe = dataclasses.replace(run.recipe, report_seconds=0.0)
    run.run()
    losses = Curves(tmp_path / "line.csv").read()["loss"]
    assert len(losses) == 10
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("length", [{"minutes": 0}, {"examples": -1}, {"minutes": np.inf}])
def test_a_run_without_a_length_is_refused(tmp_path, length):
    with pytest.raises(loop.TrainingError, match="above 0"):
        training(tmp_path, **length)


def test_states_are_whole_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    assert checkpoint.load(path) is None
    checkpoint.save(path, {"a": torch.ones(2)})
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, {"a": torch.zeros(2)})
    assert torch.equal(checkpoint.load(path)["a"], torch.ones(2))


def test_mean_of_states_is_a_state_to_go_on_from(tmp_path, capsys):
    training(tmp_path / "run", examples=640).run()
    early = checkpoint.load(tmp_path / "run" / "line.pt")
    training(tmp_path / "run", examples=1280).run()
    late = checkpoint.load(tmp_path / "run" / "line.pt")
    checkpoint.save(tmp_path / "early.pt", early)
    states = [str(tmp_path / "early.pt"), str(tmp_path / "run" / "line.pt")]
    out = tmp_path / "mean" / "line.pt"
    assert main(["average", *states, "--out", str(out)]) == 0
    mean = checkpoint.load(out)
    for name, value in mean["average"].items():
        torch.testing.assert_close(value, (early["average"][name] + late["average"][name]) / 2)
    assert not torch.equal(mean["average"]["weight"], late["average"]["weight"])
    resumed = training(out.parent, examples=1920)
    assert resumed.seen == late["seen"] > early["seen"]
    torch.testing.assert_close(resumed.net.state_dict(), mean["average"])

    checkpoint.save(tmp_path / "other.pt", {"average": torch.nn.Linear(3, 1).state_dict()})
    for bad in ("absent.pt", "other.pt"):
        assert main(["average", str(tmp_path / bad), states[1], "--out", str(out)]) == 1
        assert bad in capsys.readouterr().err
    torch.testing.assert_close(checkpoint.load(out)["average"], mean["average"])


def test_interrupted_and_whole_runs_end_with_averages_alike(tmp_path):
    training(tmp_path / "whole", examples=9600).run()
    for examples in (320, 640, 9600):  # which are 10, 20 and 300 steps
        run = training(tmp_path / "interrupted", examples=examples)
        run.run()
    whole, interrupted = (
        checkpoint.load(tmp_path / name / "line.pt") for name in ("whole", "interrupted")
    )
    assert interrupted["average_steps"] == whole["average_steps"] == 300
    assert float(whole["average"]["weight"]) == pytest.approx(3, abs=0.05)
    torch.testing.assert_close(interrupted["average"], whole["average"], rtol=0, atol=0.05)


@pytest.mark.parametrize("kind", ["older", "mean"])
def test_averages_of_untold_steps_go_on_as_long_ones(tmp_path, kind):
    training(tmp_path, examples=320).run()
    path = tmp_path / "line.pt"
    state = checkpoint.load(path)
    del state["average_steps"]
    checkpoint.save(path, state if kind == "older" else checkpoint.mean_of([path, path]))
    average = training(tmp_path, examples=320).average
    before = average.state["weight"].clone()
    net = torch.nn.Linear(1, 1)
    average.update(net)
    torch.testing.assert_close(average.state["weight"], before.lerp(net.weight, 0.001))


@pytest.mark.parametrize(
    "state", [b"", b"junk file", [1], {"net": {}}, {"average": [1], "seen": 3}], ids=repr
)
def test_what_is_no_state_is_named_by_whatever_reads_it(rig_path, tmp_path, capsys, state):
    path = tmp_path / "regressor.pt"
    if isinstance(state, bytes):
        path.write_bytes(state)
    else:
        checkpoint.save(path, state)
    run = ["--rig", str(rig_path), "--run", str(tmp_path)]
    for command in (
        ["train", "regressor", *run],
        ["average", str(path), "--out", str(tmp_path / "mean" / "regressor.pt")],
        ["export", *run, "--out", str(tmp_path / "out")],
    ):
        assert main(command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{path} is ")
        assert "no training state" in line


def test_a_run_goes_on_with_its_own_rig_alone(tmp_path):
    run = training(tmp_path, examples=320)
    run.run()
    path = run.state_path
    state = checkpoint.load(path)
    checkpoint.save(path, state | {"rig": "another"})
    with pytest.raises(loop.TrainingError, match=r"line\.pt .* another rig"):
        training(tmp_path, examples=640)
    checkpoint.save(path, {name: value for name, value in state.items() if name != "rig"})
    assert training(tmp_path, examples=640).seen == 320


def test_average_of_a_constant_is_the_constant_and_lags_a_change():
    net = torch.nn.Linear(1, 1)
    average = checkpoint.Average(net)
    for _ in range(90):
        average.update(net)
    assert torch.allclose(average.state["weight"], net.weight)
    before = net.weight.detach().clone()
    with torch.no_grad():
        net.weight.add_(1.0)
    average.update(net)
    moved = float(average.state["weight"] - before)
    assert moved == pytest.approx(1 - 91 / 101, abs=1e-3)


def test_replay_keeps_the_newest_and_counts():
    replay = Replay(10)
    replay.add({"k": np.arange(8)})
    replay.add({"k": np.arange(8, 14)})
    drawn = replay.draw(np.random.default_rng(0), 10)["k"].tolist()
    assert sorted(drawn) == list(range(4, 14))
    assert (replay.added, replay.drawn) == (14, 10)


def test_rate_is_flat_then_falls_to_a_hundredth():
    assert rate_factor(0.0, 0.4) == 1
    assert rate_factor(0.6, 0.4) == pytest.approx(1)
    assert rate_factor(0.8, 0.4) == pytest.approx(0.505)
    assert rate_factor(1.0, 0.4) == pytest.approx(0.01)
    falling = [rate_factor(s, 0.4) for s in np.linspace(0, 1, 50)]
    assert (np.diff(falling) <= 1e-12).all()


def test_people_to_validate_evaluate_and_calibrate_with_are_others_and_no_workers():
    seeds = {HELD_OUT_SEED, EVALUATION_SEED, CALIBRATION_SEED}
    assert len(seeds) == 3
    assert min(seeds) > 2**32


def test_a_dead_worker_ends_the_run(tmp_path):
    """The class cannot be imported by a fresh process here, so the worker dies at its start."""
    run = training(tmp_path, minutes=0.1)
    run.recipe = dataclasses.replace(run.recipe, workers=1)
    with pytest.raises(loop.TrainingError, match="died"):
        run.run()


class NormalisedLineTraining(LineTraining):
    """The same behind a normalisation."""

    def make_net(self):
        return torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 1))

    def validate(self, net):
        return {"slope": net[1].weight.item()}


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_run_from_given_weights_keeps_the_statistics_of_their_normalisations(tmp_path, goes_on):
    def of(folder, **options):
        return NormalisedLineTraining("", tmp_path / folder, Recipe(workers=0, **options))

    first = of("known", examples=640)
    first.run()
    path = tmp_path / "weights.npz"
    path.write_bytes(packed.pack(first.average.state, 640))
    run = of("next", examples=640, start=str(path))
    if goes_on:
        run.run()
        run = of("next", examples=1280, start=str(path))
    known = {name: value.clone() for name, value in run.net[0].named_buffers()}
    begun = run.net[0].weight.detach().clone()
    run.run()
    for name, value in run.net[0].named_buffers():
        assert torch.equal(value, known[name])
    assert not torch.equal(run.net[0].weight, begun)
    assert not torch.equal(first.net[0].running_mean, torch.zeros(1))


def test_normalisations_learn_until_the_run_holds_them(tmp_path):
    path = tmp_path / "weights.npz"
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 1))
    path.write_bytes(packed.pack(net.state_dict(), 640))
    recipe = Recipe(workers=0, examples=640, start=str(path), hold_from=0.5, batch=32, replay=512)
    run = NormalisedLineTraining("", tmp_path / "run", recipe)
    means, losses = [], run.losses
    run.losses = lambda batch: means.append(float(run.net[0].running_mean)) or losses(batch)
    run.run()
    assert len(means) == 20
    assert len(set(means[:11])) == 11
    assert len(set(means[10:])) == 1


def test_a_new_run_begins_with_given_weights_and_goes_on_with_its_own(tmp_path):
    training(tmp_path / "known", examples=640).run()
    known = checkpoint.load(tmp_path / "known" / "line.pt")["average"]
    path = tmp_path / "weights.npz"
    path.write_bytes(packed.pack(known, 640))
    run = training(tmp_path / "next", examples=320, start=str(path))
    torch.testing.assert_close(run.net.state_dict(), known, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(run.average.state, run.net.state_dict())
    assert (run.seen, run.start_seen) == (0, 640)
    run.run()
    path.unlink()
    again = training(tmp_path / "next", examples=640, start=str(path))
    assert (again.seen, again.start_seen) == (320, 640)
    torch.testing.assert_close(again.net.state_dict(), run.net.state_dict())
    for folder, start in (("next", None), ("known", str(path))):
        with pytest.raises(loop.TrainingError, match="go on likewise"):
            training(tmp_path / folder, examples=640, start=start)
