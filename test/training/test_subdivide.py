import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tddfa_ros.training.subdivide import subdivision

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
CUBE_QUADS = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)


def grid(rows, columns):
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = i * columns + j
    quads = np.stack([a, a + 1, a + columns + 1, a + columns], axis=-1).reshape(-1, 4)
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(float), quads


def test_cube_against_the_rule_worked_by_hand():
    level = subdivision(CUBE_QUADS, 8)
    refined = level.refine(CUBE)
    assert refined.shape == (8 + 12 + 6, 3)
    # Corner: (mean of face points + 2 mean of edge middles + 0) / 3 = (1/3 + 4/3) / 3.
    np.testing.assert_allclose(np.abs(refined[:8]), 5 / 9)
    np.testing.assert_allclose(np.sort(np.abs(refined[8:20]), axis=1), [[0, 0.75, 0.75]] * 12)
    np.testing.assert_allclose(np.sort(np.abs(refined[20:]), axis=1), [[0, 0, 1]] * 6)


def test_refined_cube_is_closed_and_keeps_its_orientation():
    quads = subdivision(CUBE_QUADS, 8).quads
    edges = np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2)
    directed = {tuple(e) for e in edges}
    assert len(directed) == len(edges)
    assert all((b, a) in directed for a, b in directed)


@given(
    matrix=st.lists(st.floats(-3, 3), min_size=9, max_size=9),
    offset=st.lists(st.floats(-5, 5), min_size=3, max_size=3),
)
def test_affine_maps_commute_with_refinement(matrix, offset):
    level = subdivision(CUBE_QUADS, 8)
    matrix = np.array(matrix).reshape(3, 3)
    moved = level.refine(CUBE @ matrix.T + offset)
    np.testing.assert_allclose(moved, level.refine(CUBE) @ matrix.T + offset, atol=1e-9)


def test_flat_regular_grid_stays_where_it_is():
    points, quads = grid(5, 6)
    refined = subdivision(quads, len(points)).refine(points)
    inner = (points > 0).all(axis=1) & (points < [5, 4]).all(axis=1)
    np.testing.assert_allclose(refined[: len(points)][inner], points[inner], atol=1e-12)
    low, high = refined.min(axis=0), refined.max(axis=0)
    assert (low >= 0).all()
    assert (high <= [5, 4]).all()


def test_between_interpolates_without_smoothing():
    points, quads = grid(3, 3)
    level = subdivision(quads, 9)
    between = level.between(points)
    np.testing.assert_array_equal(between[:9], points)
    np.testing.assert_allclose(between[9 + len(level.edges) :], points[quads].mean(axis=1))
