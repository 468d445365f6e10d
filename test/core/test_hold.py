"""Held shapes: the exact mean of the first frames, then constant."""

from dataclasses import dataclass

import numpy as np

from tddfa_ros.core.hold import ShapeHold
from tddfa_ros.core.types import MorphableParams


@dataclass(frozen=True)
class Handle:
    shape: np.ndarray


def fit(shape):
    return MorphableParams(
        np.zeros((3, 4), np.float32),
        np.asarray(shape, np.float32),
        np.zeros(2, np.float32),
        np.zeros(4, np.float32),
        120,
    )


def test_zero_frames_never_hold():
    hold = ShapeHold(0, Handle)
    params = fit([1, 2])
    assert all(hold.apply("f1", params) is params for _ in range(5))
    assert hold.held("f1") is None


def test_shape_is_held_at_the_mean_of_the_first_frames_of_that_face():
    hold = ShapeHold(3, Handle)
    assert hold.apply("f1", fit([0, 6])).shape.tolist() == [0, 6]
    assert hold.apply("f2", fit([100, 100])).shape.tolist() == [100, 100]
    assert hold.apply("f1", fit([3, 6])).shape.tolist() == [3, 6]
    assert hold.held("f1") is None
    assert hold.apply("f1", fit([6, 0])).shape.tolist() == [3, 4]
    assert hold.apply("f1", fit([50, 50])).shape.tolist() == [3, 4]
    assert hold.held("f1").shape.tolist() == [3, 4]


def test_an_unfinished_mean_can_begin_anew_and_a_finished_one_stays():
    hold = ShapeHold(2, Handle)
    for face_id, shapes in (("f1", [[1, 1]]), ("f2", [[1, 1], [3, 3]]), ("f3", [[1, 1]])):
        for shape in shapes:
            hold.apply(face_id, fit(shape))
    hold.forget_unfinished({"f1", "f2"})
    for face_id in ("f1", "f2", "f3"):
        hold.apply(face_id, fit([5, 5]))
    assert hold.held("f1") is None
    assert hold.held("f2").shape.tolist() == [2, 2]
    assert hold.held("f3").shape.tolist() == [3, 3]


def test_faces_that_are_gone_are_forgotten():
    hold = ShapeHold(1, Handle)
    hold.apply("f1", fit([1, 1]))
    hold.keep_only({"f2"})
    assert hold.held("f1") is None
    assert hold.apply("f1", fit([2, 2])).shape.tolist() == [2, 2]


def test_an_unfinished_mean_of_a_face_that_is_gone_is_forgotten():
    hold = ShapeHold(2, Handle)
    hold.apply("f1", fit([1, 1]))
    hold.keep_only({"f2"})
    hold.apply("f1", fit([3, 3]))
    assert hold.held("f1") is None
