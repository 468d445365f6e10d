import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tddfa_ros.training.landmarks import MIRROR_68, SurfacePoints, nearest_on_surface

coordinate = st.floats(-2, 2, allow_nan=False)
point = st.tuples(coordinate, coordinate, coordinate)


@given(point, point, point, point)
def test_nearest_point_is_no_farther_than_any_sampled_one(p, a, b, c):
    vertices = np.array([a, b, c])
    corners, weights = nearest_on_surface(np.array(p), vertices, np.array([[0, 1, 2]]))
    assert abs(weights.sum() - 1) < 1e-5
    assert weights.min() > -1e-6
    found = np.linalg.norm(weights @ vertices[corners] - p)
    grid = np.linspace(0, 1, 13)
    shares = np.array([(1 - u - v, u, v) for u in grid for v in grid if u + v <= 1 + 1e-12])
    assert found <= np.linalg.norm(shares @ vertices - p, axis=1).min() + 1e-4


def test_points_outside_a_triangle_land_on_its_nearest_edge():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    _, weights = nearest_on_surface(np.array([0.5, -3, 2]), vertices, np.array([[0, 1, 2]]))
    np.testing.assert_allclose(weights, [0.5, 0.5, 0], atol=1e-7)


def test_mirror_table_is_its_own_inverse():
    np.testing.assert_array_equal(MIRROR_68[MIRROR_68], np.arange(68))
    assert (
        MIRROR_68[[8, 27, 28, 29, 30, 33, 51, 57, 62, 66]]
        == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    ).all()


def test_points_follow_fields_with_leading_axes(rng):
    points = SurfacePoints(np.array([[0, 1, 2]]), np.array([[0.2, 0.3, 0.5]]))
    field = rng.normal(size=(4, 3, 3))
    expected = 0.2 * field[:, 0] + 0.3 * field[:, 1] + 0.5 * field[:, 2]
    np.testing.assert_allclose(points.of(field)[:, 0], expected)


def test_landmarks_of_the_rig_are_symmetric_and_in_order(rig):
    at = rig.landmarks.of(rig.mean)
    np.testing.assert_allclose(at, at[MIRROR_68] * [-1, 1, 1], atol=2e-5)
    assert (np.diff(at[:17, 0]) > 0).all()  # from the subject's right, -x, to the left
    assert at[:, 1].argmin() in (7, 8, 9)
    assert at[30, 2] == at[:, 2].max()
    for eye in (at[36:42], at[42:48]):
        assert eye[1:3, 1].min() > eye[4:, 1].max()
