"""Processes that train together, for real."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import checkpoint, together  # noqa: E402
from tddfa_ros.training.recipe import Recipe  # noqa: E402

PROGRAM = Path(__file__).with_name("together_program.py")


def in_two_processes(work, folder):
    subprocess.run([sys.executable, PROGRAM, work, folder], check=True, timeout=120)


def test_all_have_the_mean_gradient(tmp_path):
    in_two_processes("average_known_gradients", tmp_path)
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as got:
            np.testing.assert_array_equal(got["arr_0"].ravel(), 1.5 * np.arange(48))
            np.testing.assert_array_equal(got["arr_1"], 1.5 * np.arange(4))
            assert got["share"] == 0.5


def test_they_end_with_the_same_weights_and_one_state(tmp_path):
    in_two_processes("train_line", tmp_path)
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    np.testing.assert_array_equal(first[2:], second[2:])
    np.testing.assert_allclose(first[2:], [3, -1], atol=0.05)
    assert first[0] == second[0] == 32000
    assert first[1] != second[1]  # they do not draw alike
    state = checkpoint.load(tmp_path / "line.pt")
    assert state["seen"] == 32000
    assert state["net"]["weight"].item() == pytest.approx(first[2])


def test_a_death_ends_the_training_with_a_reason(tmp_path):
    in_two_processes("lose_one", tmp_path)
    reason = (tmp_path / "error.txt").read_text()
    assert "a process of this training died" in reason
    assert "same command again" in reason


def test_a_death_before_the_meeting_is_noticed_at_once(tmp_path):
    in_two_processes("never_begin", tmp_path)  # the meeting itself would wait for five minutes
    assert "died before it began" in (tmp_path / "error.txt").read_text()


def test_one_process_is_enough():
    groups = []
    together.run(groups.append, 1)
    assert groups[0].first
    assert groups[0].agree(0.3) == 0.3


def test_no_process_is_refused():
    with pytest.raises(together.TrainingError, match="processes is 0"):
        Recipe(processes=0)
