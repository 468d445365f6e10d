"""Openness of eyes and mouth on landmarks with known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tddfa_ros.core.expression import eye_mouth_openness

no_deadline = settings(deadline=None)  # the machine may be shared


def make_landmarks(left=0.3, right=0.2, mouth=0.5):
    """(68, 3) with eyes 20 and inner lips 40 wide, opened by the given shares of that."""
    points = np.zeros((68, 3), np.float32)
    for start, width, share in ((36, 20, right), (42, 20, left)):
        x = np.array([0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]) * width
        y = np.array([0, -1, -1, 0, 1, 1]) * share * width / 2
        points[start : start + 6, :2] = np.column_stack([x + 3 * start, y])
    x = np.array([0, 1, 2, 3, 4, 3, 2, 1]) * 10
    y = np.array([0, -1, -1, -1, 0, 1, 1, 1]) * mouth * 20
    points[60:, :2] = np.column_stack([x, y + 100])
    return points


def turned(points, axis, angle_rad):
    return points @ Rotation.from_rotvec(angle_rad * np.array(axis)).as_matrix().T


@no_deadline
@given(*[st.floats(0, 2)] * 3)
def test_known_openness(left, right, mouth):
    measured = eye_mouth_openness(make_landmarks(left, right, mouth))
    np.testing.assert_allclose(measured, (left, right, mouth), atol=1e-5)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_turning_scaling_and_moving_changes_nothing(axis):
    points = make_landmarks()
    moved = 3.7 * turned(points, axis, 1.2) + [500, 20, 7]
    np.testing.assert_allclose(eye_mouth_openness(moved), eye_mouth_openness(points), rtol=1e-5)


def test_points_that_are_open_by_different_shares_count_alike():
    points = make_landmarks(mouth=0.3)
    points[[62, 66], 1] += [-6, 6]  # 24 in the middle, 12 on both sides, of 40
    assert eye_mouth_openness(points)[2] == pytest.approx((12 + 24 + 12) / 3 / 40)


def test_closed_is_zero():
    assert eye_mouth_openness(make_landmarks(0, 0, 0)) == (0, 0, 0)


def test_unknown_is_nan():
    assert np.isnan(eye_mouth_openness(np.zeros((68, 3)))).all()
    points = make_landmarks()
    points[37, 1] = np.nan
    points[48] = np.nan  # an outer lip, which is not looked at
    left, right, mouth = eye_mouth_openness(points)
    assert np.isnan(right) and np.isfinite(left) and np.isfinite(mouth)
    points[60] = np.inf
    assert np.isnan(eye_mouth_openness(points)[2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("point", "measure"), [(44, 0), (45, 0), (41, 1), (36, 1), (66, 2)])
def test_one_point_that_is_not_finite_makes_its_measure_unknown_and_no_other(point, measure, value):
    points = make_landmarks()
    points[point, 1] = value
    measured = np.array(eye_mouth_openness(points))
    assert np.isnan(measured[measure])
    known = np.arange(3) != measure
    np.testing.assert_allclose(measured[known], np.array([0.3, 0.2, 0.5])[known], rtol=1e-5)
