"""The visibility pass against exact truth: coverage, order in depth, interpolation, bad input."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tddfa_native.rasterize import MeshTopology, VisibilityBuffer

from tddfa_native import _rasterize_cy, rasterize

GRID = 2**10
"""Sub-pixel steps a pixel; truth is computed in whole steps, so without rounding."""

seeds = st.integers(0, 2**32 - 1)


def cross(p, q, r):
    """Twice the signed area of three points of whole numbers (Python integers: exact)."""
    return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])


def triangulated_square(rng, low, high, count):
    """Exact random triangulation of the square [low, high]^2; whole numbers, mixed windings."""
    points = [(low, low), (high, low), (high, high), (low, high)]
    triangles = [(0, 1, 2), (0, 2, 3)]
    for _ in range(count):
        new = tuple(int(c) for c in rng.integers(low + 1, high, 2))
        for k, (a, b, c) in enumerate(triangles):
            corners = points[a], points[b], points[c]
            if all(cross(p, q, new) > 0 for p, q in itertools.pairwise(corners + corners[:1])):
                i = len(points)
                points.append(new)
                triangles[k : k + 1] = [(a, b, i), (b, c, i), (c, a, i)]
                break
    triangles = [t if rng.random() < 0.5 else t[::-1] for t in triangles]
    return np.array(points, np.int64), np.array(triangles, np.int32)


def covered_by_truth(corners, x, y):
    """Top-left rule for one triangle of whole-number corners at the point (x, y)."""
    a, b, c = ([int(v) for v in corner] for corner in corners)
    area = cross(a, b, c)
    if area == 0:
        return None
    if area < 0:
        b, c = c, b
    values = []
    for p, q in ((b, c), (c, a), (a, b)):
        value = cross(p, q, (x, y))
        inclusive = q[1] < p[1] or (q[1] == p[1] and q[0] > p[0])
        if value < 0 or (value == 0 and not inclusive):
            return None
        values.append(value / abs(area))
    return values if area > 0 else [values[0], values[2], values[1]]


@pytest.mark.parametrize("step", [1, 2**3, 2**9, GRID], ids=["finest", "1/128", "half", "whole"])
@pytest.mark.parametrize("side_px", [3, 30, 1500, 60000])
@given(seed=seeds)
@settings(max_examples=12, deadline=None)
def test_a_triangulated_square_is_covered_exactly_once(step, side_px, seed):
    rng = np.random.default_rng(seed)
    side = side_px * GRID // step
    points, triangles = triangulated_square(rng, 0, side, 30)
    corner = rng.integers(-min(side, 40 * GRID // step), 5 * GRID // step, 2)
    vertices = np.zeros((len(points), 3), np.float32)
    exact = (points + corner) * step
    vertices[:, :2] = exact / GRID
    on_grid = (vertices[:, :2].astype(np.float64) * GRID == exact).all()
    if not on_grid:  # float32 cannot hold it: take what it holds, if that is still a triangulation
        exact = np.round(vertices[:, :2].astype(np.float64) * GRID).astype(np.int64)
        if any(cross(*(exact[t].tolist())) == 0 for t in triangles):
            return
    height, width = 23, 31
    buffer = VisibilityBuffer(height, width)
    count = np.zeros((height, width), int)
    for triangle in triangles:
        buffer.clear()
        buffer.draw(vertices, MeshTopology(triangle[None], len(vertices)))
        count += buffer.triangle >= 0
    x0, y0 = exact[0]
    x1, y1 = exact[2]
    columns, rows = np.arange(width) * GRID, np.arange(height)[:, None] * GRID
    expected = (columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1)
    if on_grid:
        assert np.array_equal(count, expected)
    whole = VisibilityBuffer(height, width)
    whole.draw(vertices, MeshTopology(triangles, len(vertices)))
    assert np.array_equal(whole.face == 0, count > 0)


@given(seed=seeds, step=st.sampled_from([1, 2**6, 2**9, GRID]), spread=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_every_pixel_agrees_with_brute_force(seed, step, spread):
    rng = np.random.default_rng(seed)
    size, n, m = 12, 14, 21
    centres = rng.integers(-4 * GRID, 16 * GRID, (n, 2))
    exact = (centres // 4 + rng.integers(-spread * GRID, spread * GRID, (n, 2))) // step * step
    vertices = np.column_stack([exact / GRID, rng.uniform(-50, 50, n)]).astype(np.float32)
    triangles = rng.integers(0, n, (m, 3)).astype(np.int32)
    buffer = VisibilityBuffer(size, size)
    buffer.draw(vertices, MeshTopology(triangles, n))
    for y, x in itertools.product(range(size), range(size)):
        depths = {}
        for t, triangle in enumerate(triangles):
            weights = covered_by_truth(exact[triangle], x * GRID, y * GRID)
            if weights is not None:
                depths[t] = (float(np.dot(weights, vertices[triangle, 2])), weights)
        shown = buffer.triangle[y, x]
        if not depths:
            assert shown == -1 and buffer.face[y, x] == -1 and buffer.depth[y, x] == -np.inf
            continue
        nearest = max(depth for depth, _ in depths.values())
        assert shown in depths
        depth, weights = depths[shown]
        assert depth == pytest.approx(nearest, abs=2e-5)
        assert buffer.depth[y, x] == pytest.approx(depth, abs=2e-5)
        assert buffer.weights[y, x] == pytest.approx(weights[1:], abs=2e-6)


@given(seed=seeds, side=st.floats(2, 400))
@settings(max_examples=40, deadline=None)
def test_interpolation_reproduces_linear_functions(seed, side):
    rng = np.random.default_rng(seed)
    points, triangles = triangulated_square(rng, 0, int(side * GRID), 40)
    vertices = np.zeros((len(points), 3), np.float32)
    vertices[:, :2] = (points - rng.integers(0, side * GRID / 2, 2)) / GRID
    coefficients = rng.uniform(-1, 1, (2, 3))
    attributes = vertices[:, :2] @ coefficients + 0.25
    buffer = VisibilityBuffer(40, 50)
    buffer.draw(vertices, MeshTopology(triangles, len(points)))
    out = buffer.interpolate(0, attributes, scale=2.0, offset=[1.0, 2.0, 3.0])
    y, x = np.nonzero(buffer.face == 0)
    expected = 2.0 * (np.column_stack([x, y]) @ coefficients + 0.25) + [1.0, 2.0, 3.0]
    assert np.abs(out[y, x] - expected).max(initial=0) < 1e-6 * side + 1e-5
    assert not out[buffer.face < 0].any()


def square(x0, y0, x1, y1, z):
    corners = [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]
    return np.array(corners, np.float32)


SQUARE = MeshTopology(np.array([[0, 2, 1], [0, 3, 2]]), 4)
"""Two triangles, counter-clockwise to a viewer of :func:`square` in image space."""


@pytest.mark.parametrize("near_first", [True, False])
def test_the_nearer_of_two_faces_wins_in_any_order(near_first):
    near, far = square(4, 4, 9, 9, 7.0), square(2, 2, 8, 8, 3.0)
    buffer = VisibilityBuffer(12, 12)
    for vertices in (near, far) if near_first else (far, near):
        buffer.draw(vertices, SQUARE)
    near_face, far_face = (0, 1) if near_first else (1, 0)
    expected = np.full((12, 12), -1)
    expected[2:8, 2:8] = far_face
    expected[4:9, 4:9] = near_face
    assert np.array_equal(buffer.face, expected)
    depths = np.select([expected == near_face, expected == far_face], [7.0, 3.0], -np.inf)
    assert np.array_equal(buffer.depth, depths)
    assert buffer.window_xyxy() == (2, 2, 9, 9)
    assert buffer.window_xyxy(near_face) == (4, 4, 9, 9)


def test_of_equally_near_faces_the_first_stays():
    buffer = VisibilityBuffer(6, 6)
    for _ in range(3):
        buffer.draw(square(1, 1, 4, 4, 2.0), SQUARE)
    assert set(np.unique(buffer.face)) == {-1, 0}


@pytest.mark.parametrize("tiny_first", [True, False])
def test_of_equally_near_triangles_the_first_stays(tiny_first):
    """Whatever their sizes, which decide by which path they are drawn."""
    large = square(0, 0, 12, 12, 2.0)
    tiny = np.float32([[4.6, 4.6, 2.0], [5.6, 4.6, 2.0], [4.6, 5.6, 2.0]])
    middle = np.float32([[3.6, 3.6, 2.0], [5.6, 3.6, 2.0], [3.6, 5.6, 2.0]])
    shapes = [large[[0, 1, 2]], middle, tiny][:: -1 if tiny_first else 1]
    buffer = VisibilityBuffer(12, 12)
    buffer.draw(np.vstack(shapes), MeshTopology(np.arange(9).reshape(3, 3), 9))
    above_diagonal = buffer.triangle[4, 5], buffer.triangle[5, 5]
    assert above_diagonal == ((1, 0) if tiny_first else (0, 0))
    assert buffer.triangle[3, 8] == (2 if tiny_first else 0)


@given(seed=seeds, reach_px=st.sampled_from([5, 300, 4000, 30000, 10**6]))
@settings(max_examples=60, deadline=None)
def test_a_fan_seen_through_a_keyhole_has_no_gaps(seed, reach_px):
    """Large triangles that an image of 3x3 pixels clips to small boxes, edges through centres."""
    rng = np.random.default_rng(seed)
    ring = rng.integers(-reach_px, reach_px + 1, (24, 2))
    ring = np.vstack([ring, [[9, 0], [0, 9], [-9, 0], [0, -9]]])
    ring = ring[np.abs(ring).max(axis=1) > 3]
    angles = np.arctan2(ring[:, 1], ring[:, 0])
    ring = ring[np.unique(np.round(angles, 9), return_index=True)[1]]
    vertices = np.zeros((len(ring) + 1, 3), np.float32)
    vertices[1:, :2] = ring
    vertices[:, :2] += 1
    corners = 1 + np.arange(len(ring))
    count = np.zeros((3, 3), int)
    for a, b in zip(corners, np.roll(corners, -1), strict=True):
        buffer = VisibilityBuffer(3, 3)
        buffer.draw(vertices, MeshTopology([[0, a, b]], len(vertices)))
        count += buffer.face == 0
    # Pixels more than 1.5 px inside the polygon belong to exactly one triangle.
    assert (count == 1).all()


def test_faces_that_cross_meet_where_their_depths_do():
    slope = square(0, 0, 20, 20, 0.0)
    slope[:, 2] = slope[:, 0] - 9.75
    buffer = VisibilityBuffer(20, 20)
    buffer.draw(square(0, 0, 20, 20, 0.0), SQUARE)
    buffer.draw(slope, SQUARE)
    assert np.array_equal(buffer.face, np.tile(np.arange(20) > 9.75, (20, 1)))


def test_back_faces_count_unless_culled():
    buffer = VisibilityBuffer(8, 8)
    away = MeshTopology(SQUARE.triangles[:, ::-1], 4)
    for topology, cull, pixels in [
        (SQUARE, False, 9),
        (SQUARE, True, 9),
        (away, False, 9),
        (away, True, 0),
    ]:
        buffer.clear()
        buffer.draw(square(2, 2, 5, 5, 0.0), topology, cull_back_faces=cull)
        assert (buffer.face == 0).sum() == pixels


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**31, 3.0e38, -3.0e38])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_corner_out_of_reach_removes_its_triangles_only(bad, axis):
    vertices = np.vstack([square(1, 1, 7, 7, 1.0), np.float32([[5, 5, 1]])])
    vertices[4, axis] = bad
    topology = MeshTopology(np.vstack([SQUARE.triangles, [[0, 1, 4], [4, 2, 3]]]), 5)
    buffer = VisibilityBuffer(9, 9)
    buffer.draw(vertices, topology)
    expected = np.zeros((9, 9), bool)
    expected[1:7, 1:7] = True
    drawable = axis == 2 and np.isfinite(bad)
    assert np.array_equal((buffer.triangle == 0) | (buffer.triangle == 1), expected) or drawable
    assert np.array_equal(buffer.face == 0, expected) or drawable
    assert np.isfinite(buffer.depth[buffer.face == 0]).all()


@pytest.mark.parametrize("side", [1.9, 7.9], ids=["small", "large"])
@pytest.mark.parametrize("z", [3e38, -3e38])
def test_depths_as_large_as_float32_holds_leave_no_hole(side, z):
    vertices = square(0.6, 0.7, 0.6 + side, 0.7 + side, -z)
    vertices[0, 2] = z
    buffer = VisibilityBuffer(10, 10)
    buffer.draw(vertices, SQUARE)
    expected = np.zeros((10, 10), bool)
    expected[1 : round(1 + side), 1 : round(1 + side)] = True
    assert np.array_equal(buffer.face == 0, expected)
    assert np.isfinite(buffer.depth[expected]).all()


def test_nothing_is_drawn_of_what_has_no_area_or_is_off_the_image():
    buffer = VisibilityBuffer(10, 10)
    point, line = np.zeros((4, 3), np.float32), square(2, 3, 8, 3, 0.0)
    for vertices in (point, line, line[:, [1, 0, 2]], square(0, 0, 0, 9, 0.0)):
        buffer.draw(vertices, SQUARE)
    for x, y in [(-30, 2), (30, 2), (2, -30), (2, 30), (-1e9, 1e9)]:
        buffer.draw(square(x, y, x + 5, y + 5, 0.0), SQUARE)
    assert (buffer.face == -1).all()


@pytest.mark.parametrize("reach", [1e3, 1e5, 1e7, 1e9])
def test_a_huge_square_fills_the_image(reach):
    buffer = VisibilityBuffer(33, 47)
    buffer.draw(square(-reach, -reach, reach, reach, 5.0), SQUARE)
    assert (buffer.face == 0).all()
    assert np.allclose(buffer.depth, 5.0)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_every_instruction_set_draws_the_same(seed):
    rng = np.random.default_rng(seed)
    n, m = 200, int(rng.integers(1, 400))
    vertices = rng.uniform(-5, 45, (n, 3)).astype(np.float32)
    vertices[rng.random(n) < 0.05] = np.nan
    topology = MeshTopology(rng.integers(0, n, (m, 3)), n)
    drawn = []
    try:
        for name in ("portable", "avx2", "avx512"):
            rasterize.select_instructions(name)
            buffer = VisibilityBuffer(40, 40)
            buffer.draw(vertices, topology)
            drawn.append((buffer.triangle.copy(), buffer.depth.copy(), buffer.weights.copy()))
    finally:
        rasterize.select_instructions()
    for other in drawn[1:]:
        for mine, reference in zip(other, drawn[0], strict=True):
            assert np.array_equal(mine, reference)


def test_scratch_has_the_margin_that_the_kernels_want(monkeypatch, repository):
    header = (repository / "tddfa_native" / "tddfa_native" / "raster.h").read_text()
    assert f"kScratchMargin = {_rasterize_cy.SCRATCH_MARGIN};" in header
    monkeypatch.setattr(_rasterize_cy, "SCRATCH_MARGIN", 100)
    buffer = VisibilityBuffer(8, 8)
    buffer.draw(square(1, 1, 5, 5, 0.0), SQUARE)
    assert len(buffer._scratch) == 3 * (len(SQUARE.triangles) + 100)


def test_clear_leaves_no_trace():
    rng = np.random.default_rng(1)
    buffer = VisibilityBuffer(30, 30)
    fresh = VisibilityBuffer(30, 30)
    for _ in range(5):
        for _ in range(3):
            buffer.draw(rng.uniform(-10, 40, (4, 3)).astype(np.float32), SQUARE)
        buffer.clear()
        assert buffer.face_count == 0
        assert np.array_equal(buffer.triangle, fresh.triangle)
        assert np.array_equal(buffer.depth, fresh.depth)
        assert np.array_equal(buffer.face, fresh.face)


def test_shown_vertices_are_the_corners_of_visible_triangles():
    rng = np.random.default_rng(2)
    vertices = rng.uniform(0, 40, (60, 3)).astype(np.float32)
    topology = MeshTopology(rng.integers(0, 60, (50, 3)), 60)
    buffer = VisibilityBuffer(40, 40)
    buffer.draw(vertices, topology)
    for _ in range(2):
        shown = buffer.shown_vertices(0)
        triangles = np.unique(buffer.triangle[buffer.face == 0])
        assert np.array_equal(np.sort(shown), np.unique(topology.triangles[triangles]))


@pytest.mark.parametrize(
    ("triangles", "count"),
    [
        (np.zeros((0, 3), int), 3),
        (np.zeros((2, 4), int), 3),
        (np.array([[0, 1, 3]]), 3),
        (np.array([[0, 1, -1]]), 3),
        (np.array([[0.0, 1.0, 2.0]]), 3),
        (np.array([[0, 1, 2]]), 0),
    ],
)
def test_a_topology_that_cannot_be_is_refused(triangles, count):
    with pytest.raises(ValueError, match=r"expected|indices"):
        MeshTopology(triangles, count)


@pytest.mark.parametrize("face", [-2, -1, 1])
def test_a_face_that_was_not_drawn_is_refused(face):
    topology = MeshTopology(np.array([[0, 1, 2]], np.int32), 3)
    buffer = VisibilityBuffer(8, 8)
    buffer.draw(np.array([[1, 1, 0], [6, 1, 0], [1, 6, 0]], np.float32), topology)
    for read in (
        buffer.shown_vertices,
        buffer.extent,
        buffer.window_xyxy,
        lambda k: buffer.blend(k, None, np.zeros((8, 8, 3), np.uint8)),
        lambda k: buffer.interpolate(k, np.ones(3, np.float32)),
        lambda k: buffer.depth_into(k, np.zeros((8, 8), np.uint8)),
    ):
        with pytest.raises(ValueError, match=f"face {face}: the buffer holds 1"):
            read(face)


def test_wrong_shapes_are_refused():
    buffer = VisibilityBuffer(8, 8)
    with pytest.raises(ValueError, match="vertices: expected shape"):
        buffer.draw(np.zeros((3, 3), np.float32), SQUARE)
    buffer.draw(square(1, 1, 5, 5, 0), SQUARE)
    with pytest.raises(ValueError, match="attributes"):
        buffer.interpolate(0, np.zeros((3, 2)))
    with pytest.raises(ValueError, match="out"):
        buffer.interpolate(0, np.zeros((4, 2)), np.zeros((8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="out"):
        buffer.interpolate(0, np.zeros((4, 2)), np.zeros((8, 8, 2), np.float64))
    for size in [(0, 4), (4, 0), (40000, 4)]:
        with pytest.raises(ValueError, match="size"):
            VisibilityBuffer(*size)
