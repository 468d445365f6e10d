"""Held-out examples are made once; what is no such file is told."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import held_out  # noqa: E402
from tddfa_ros.training.recipe import Recipe  # noqa: E402
from tddfa_ros.training.together import TrainingError  # noqa: E402
from tddfa_ros.training.train_detector import DetectorTraining  # noqa: E402
from tddfa_ros.training.train_regressor import RegressorTraining  # noqa: E402


def test_examples_are_made_once(tmp_path):
    made = {"a": np.arange(3), "b": np.full((3, 2), np.nan, np.float32)}
    first = held_out.load(tmp_path / "kept.npz", ("a", "b"), lambda: made)
    again = held_out.load(tmp_path / "kept.npz", ("a",), dict)
    for name, value in made.items():
        np.testing.assert_array_equal(first[name], value)
        np.testing.assert_array_equal(again[name], value)


def damage(path, how):
    if how == "cut short":
        path.write_bytes(path.read_bytes()[:-30])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "of one row less":
        np.savez(path, a=np.arange(2), b=np.arange(3))
    elif how == "without rows":
        np.savez(path, a=np.array(2), b=np.array(3))
    else:
        np.savez(path, a=np.arange(3))


@pytest.mark.parametrize(
    "how", ["cut short", "empty", "of one row less", "without rows", "without b"]
)
def test_a_damaged_file_is_told_to_be_deleted(tmp_path, how):
    path = tmp_path / "kept.npz"
    np.savez(path, a=np.arange(3), b=np.arange(3))
    damage(path, how)
    with pytest.raises(TrainingError, match=r"kept\.npz.*delete it"):
        held_out.load(path, ("a", "b"), dict)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(RegressorTraining, "held_out_8.npz"), (DetectorTraining, "held_out_scenes_8.npz")],
)
def test_trainings_read_their_examples_so(rig_path, tmp_path, kind, name):
    (tmp_path / name).write_bytes(b"junk")
    with pytest.raises(TrainingError, match="delete it"):
        kind(rig_path, tmp_path, Recipe(held_out=8, workers=0))
