import json
import sys
import time
from contextlib import closing

import numpy as np
import pytest

from tddfa_ros.core.errors import TddfaError
from tddfa_ros.tools.bench import Measurement, further_face, measure, table, time_calls
from tddfa_ros.tools.benchmarks import BENCHMARKS, Benchmark, NotMeasurableError, Scene
from tddfa_ros.tools.reference_timing import ReferenceTiming


def test_times_are_those_of_the_calls():
    times_ms = time_calls(lambda: time.sleep(0.005), 0.05)
    assert 3 <= len(times_ms) <= 10
    assert all(5 <= t < 50 for t in times_ms)


def test_a_slow_call_is_still_taken_a_few_times():
    assert len(time_calls(lambda: time.sleep(0.01), 0.0)) == 3


def test_stages_take_turns():
    order = []
    rows = [
        Benchmark(name, None, None, lambda _, name=name: lambda: order.append(name))
        for name in "ab"
    ]
    measured = measure(None, rows, rounds=2)
    changes = [name for index, name in enumerate(order) if index == 0 or order[index - 1] != name]
    assert changes == ["a", "b", "a", "b", "a", "b"]  # the first pair is the warm-up
    assert [m.benchmark.name for m in measured] == ["a", "b"]


def test_what_a_set_cannot_do_is_left_out_and_said(capsys):
    def refuse(_):
        raise NotMeasurableError("follows 9 of 10 faces")

    rows = [
        Benchmark("crowd", None, None, refuse),
        Benchmark("other", None, None, lambda _: lambda: 0),
    ]
    assert [m.benchmark.name for m in measure(None, rows, rounds=1)] == ["other"]
    assert "crowd: left out: follows 9 of 10 faces" in capsys.readouterr().err


def test_figures_are_percentiles_and_their_ratio():
    row = Measurement(
        Benchmark("stage", 2.0, 9.0, lambda scene: lambda: None), np.arange(1.0, 102.0), 102.0
    ).as_dict()
    assert (row["p10_ms"], row["median_ms"], row["p90_ms"]) == (11.0, 51.0, 91.0)
    assert row["live_ratio"] == 2.0
    assert row["calls"] == 101
    text = table([row])
    assert "51.00" in text
    assert "2.0" in text.splitlines()[-1].split()


def test_each_further_face_is_the_slope_of_the_crowds():
    rows = [{"stage": "crowd: follow 10", "median_ms": 9.5}, {"stage": "detection", "median_ms": 4}]
    assert further_face(rows) == ""
    rows.append({"stage": "crowd: follow 1", "median_ms": 0.5})
    assert further_face(rows) == "each further face that is followed: 1.00 ms\n"


def test_names_are_unique():
    names = [b.name for b in BENCHMARKS]
    assert len(set(names)) == len(names)


def test_face_has_the_size_that_the_figures_are_for(model_set):
    with closing(Scene(model_set)) as scene:
        low, high = scene.face.landmarks[:, :2].min(0), scene.face.landmarks[:, :2].max(0)
        width, height = high - low
        left, top, right, bottom = scene.face.box_xyxy
    assert scene.picture_bgr.shape == (480, 640, 3)
    assert 105 <= width <= 150
    assert 105 <= height <= 190
    assert 105 <= right - left <= 150
    assert 130 <= bottom - top <= 200


def test_verb_writes_table_and_json(run_cli, tddfa_v2_set, tmp_path):
    path = tmp_path / "bench.json"
    done = run_cli(
        *("bench", "--model-set", tddfa_v2_set, "--rounds", "1"),
        *("--filter", "dense", "--json", path),
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(path.read_text())
    expected = [b.name for b in BENCHMARKS if "dense" in b.name]
    assert [row["stage"] for row in document["rows"]] == expected
    assert all(0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"] for row in document["rows"])
    assert document["vertices"] == 38365
    for name in expected:
        assert name in done.stdout


@pytest.mark.parametrize("place", ["/proc/x.json", ".", "file/x.json", f"{251 * 'x'}.json"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(run_cli, tmp_path, place):
    (tmp_path / "file").write_text("")
    # The set is looked for after it.
    done = run_cli("bench", "--model-set", "absent", "--json", tmp_path / place)
    assert done.returncode == 1
    assert f"--json {tmp_path / place}: cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_unknown_stage_is_an_error_that_names_them(run_cli, tddfa_v2_set):
    done = run_cli("bench", "--model-set", tddfa_v2_set, "--filter", "teleport")
    assert done.returncode == 1
    assert "teleport" in done.stderr
    assert "detection" in done.stderr


def test_folder_that_is_no_reference_is_named(tmp_path):
    with pytest.raises(TddfaError, match=r"TDDFA_ONNX\.py"):
        ReferenceTiming(tmp_path, sys.executable, np.zeros((4, 4, 3), np.uint8))


def make_checkout(folder, fitter_code):
    """A checkout with the interface of 3DDFA_V2 and none of its work."""
    for name in ("configs", "FaceBoxes"):
        (folder / name).mkdir()
    (folder / "configs" / "mb05_120x120.yml").write_text("size: 120\n")
    (folder / "FaceBoxes" / "__init__.py").write_text("")
    (folder / "FaceBoxes" / "FaceBoxes_ONNX.py").write_text(
        "class FaceBoxes_ONNX:\n"
        "    def __call__(self, image):\n"
        "        print('noise on the output')\n"
        "        return [[0, 0, 1, 1, 1]]\n"
    )
    (folder / "TDDFA_ONNX.py").write_text(fitter_code)
    return folder


def test_reference_is_timed_in_its_own_process(tmp_path):
    checkout = make_checkout(
        tmp_path,
        "import time\n"
        "class TDDFA_ONNX:\n"
        "    def __init__(self, **kvs): pass\n"
        "    def __call__(self, image, objects, crop_policy='box'):\n"
        "        time.sleep(0.004)\n"
        "        return [0], [0]\n"
        "    def recon_vers(self, params, rois, dense_flag=False): return [0]\n",
    )
    with closing(
        ReferenceTiming(checkout, sys.executable, np.zeros((4, 4, 3), np.uint8))
    ) as reference:
        reference.run_round()
        reference.run_round()
        medians_ms = reference.medians_ms()
    assert set(medians_ms) <= {b.name for b in BENCHMARKS}
    assert 4 <= medians_ms["regression, crop to parameters"] < 40
    assert medians_ms["dense vertices"] < 4


def test_a_reference_that_fails_says_why(tmp_path):
    checkout = make_checkout(tmp_path, "import no_such_package\n")
    with (
        closing(
            ReferenceTiming(checkout, sys.executable, np.zeros((4, 4, 3), np.uint8))
        ) as reference,
        pytest.raises(TddfaError, match="no_such_package"),
    ):
        reference.run_round()
