"""Normals, light, blending, samples, seen vertices and baking against independent arithmetic."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tddfa_native.rasterize import (
    Lighting,
    MeshTopology,
    VisibilityBuffer,
    sample_bilinear,
    select_instructions,
    vertex_light,
    vertex_normals,
)

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=40, deadline=None)


@pytest.fixture(params=["portable", "avx2", "avx512"])
def instructions(request):
    select_instructions(request.param)
    yield request.param
    select_instructions()


def random_mesh(rng, n=40, m=60):
    vertices = rng.uniform(-1, 21, (n, 3)).astype(np.float32)
    return vertices, MeshTopology(rng.integers(0, n, (m, 3)), n)


def normals_by_definition(vertices, triangles):
    corners = vertices[triangles].astype(np.float64)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = np.zeros(vertices.shape)
    for k in range(3):
        np.add.at(sums, triangles[:, k], across)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0), lengths[:, 0]


@pytest.mark.usefixtures("instructions")
def test_normals_are_area_weighted_means():
    for seed in range(30):
        vertices, topology = random_mesh(np.random.default_rng(seed))
        expected, lengths = normals_by_definition(vertices, topology.triangles)
        sure = lengths > 1.0  # where triangles cancel, the direction is rounding
        assert np.abs(vertex_normals(vertices, topology) - expected)[sure].max() < 1e-4
        down = vertex_normals(vertices, topology, y_down=True)
        assert np.abs(down + expected)[sure].max() < 1e-4


@pytest.mark.parametrize("fans", [True, False])
def test_a_vertex_of_very_many_triangles(fans):
    """Time in proportion to their number: a square of it would be a minute for each corner."""
    count = 400_000
    rng = np.random.default_rng(0)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 2 * count))
    vertices = np.zeros((2 * count + 1, 3), np.float32)
    vertices[1:] = np.stack([np.cos(angles), np.sin(angles), rng.uniform(0, 1, 2 * count)], axis=1)
    first = np.arange(1, 2 * count, 1 if fans else 2)
    triangles = np.stack([np.zeros_like(first), first, first + 1], axis=1)
    rng.shuffle(triangles)
    began_s = time.process_time()
    topology = MeshTopology(triangles, len(vertices))
    assert time.process_time() - began_s < 5
    expected, lengths = normals_by_definition(vertices, triangles)
    assert lengths[0] > 1
    np.testing.assert_allclose(vertex_normals(vertices, topology)[0], expected[0], atol=1e-3)


def test_chosen_normals_touch_nothing_else():
    vertices, topology = random_mesh(np.random.default_rng(0))
    out = np.full_like(vertices, 7.0)
    chosen = np.array([39, 3, 3, 0])
    vertex_normals(vertices, topology, chosen=chosen, out=out)
    rest = np.setdiff1d(np.arange(len(vertices)), chosen)
    assert (out[rest] == 7).all()
    assert np.array_equal(out[chosen], vertex_normals(vertices, topology)[chosen])


def test_undefined_normals_are_zero():
    vertices = np.zeros((5, 3), np.float32)
    vertices[3:] = [[np.nan, 0, 0], [1, 1, 1]]
    topology = MeshTopology([[0, 1, 2], [0, 3, 4]], 5)
    normals = vertex_normals(vertices, topology)
    assert not normals[[1, 2]].any()
    assert np.isfinite(normals).all()


def light_by_definition(vertices, normals, lighting):
    """The lighting of 3DDFA_V2, written with numpy from its description."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    places = (vertices - (low + high) / 2) * 2 / (high - low).max()
    to_light = np.array(lighting.light_xyz) - places
    to_light /= np.linalg.norm(to_light, axis=1, keepdims=True)
    cosine = (normals * to_light).sum(axis=1)
    reflected = 2 * cosine[:, None] * normals - to_light
    shine = np.clip(((to_light * reflected) ** 5).sum(axis=1), 0, 1) * (cosine != 0)
    total = (
        lighting.ambient + lighting.directional * np.clip(cosine, 0, 1) + lighting.specular * shine
    )
    return 255 * np.clip(total, 0, 1)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("lighting", [Lighting(), Lighting(0.1, 0.2, 0.9, (3.0, -2.0, 4.0))])
def test_light_is_that_of_the_reference(lighting):
    for seed in range(20):
        vertices, topology = random_mesh(np.random.default_rng(seed), 300, 700)
        normals = vertex_normals(vertices, topology, y_down=True).astype(np.float64)
        chosen = np.arange(0, 300, 2)
        extent = np.array([vertices.min(axis=0), vertices.max(axis=0)])
        light = vertex_light(vertices, topology, chosen, extent, lighting)
        expected = light_by_definition(vertices.astype(np.float64), normals, lighting)
        assert np.abs(light - expected)[chosen].max() < 0.02
        assert not light[1::2].any()


@given(seed=seeds, alpha=st.floats(0, 1))
@quick
def test_blend_is_the_formula(seed, alpha):
    rng = np.random.default_rng(seed)
    vertices, topology = random_mesh(rng)
    buffer = VisibilityBuffer(20, 20)
    buffer.draw(vertices, topology)
    light = rng.uniform(0, 255, 40).astype(np.float32)
    image = rng.integers(0, 256, (20, 20, 3), np.uint8)
    tint = rng.uniform(0, 1, 3)
    out = image.copy()
    buffer.blend(0, light, out, alpha=alpha, tint=tint)
    shown = buffer.face == 0
    mixed = buffer.interpolate(0, light)[..., 0]
    expected = image * (1 - alpha) + np.trunc(mixed[..., None] * tint.astype(np.float32)) * alpha
    # One step where the truncated light falls on either side of a whole number.
    assert np.abs(out - expected)[shown].max(initial=0) <= 0.51 + alpha
    assert np.array_equal(out[~shown], image[~shown])
    buffer.blend(0, None, out, alpha=1.0)
    assert (out[shown] == 255).all()


@pytest.mark.parametrize(
    ("given", "counts_as"),
    [(256, None), (1e12, None), (-40, np.zeros(3)), (np.nan, np.zeros(3))],
)
def test_light_beyond_its_range_is_clipped(given, counts_as):
    buffer = VisibilityBuffer(10, 10)
    buffer.draw(np.float32([[0, 0, 0], [9, 0, 0], [0, 9, 0]]), MeshTopology([[0, 1, 2]], 3))
    image, expected = np.full((2, 10, 10, 3), 80, np.uint8)
    buffer.blend(0, np.full(3, given), image, alpha=0.6, tint=(1, 0.5, 0))
    buffer.blend(0, counts_as, expected, alpha=0.6, tint=(1, 0.5, 0))
    assert np.array_equal(image, expected)


@given(seed=seeds)
@quick
def test_samples_are_bilinear(seed):
    rng = np.random.default_rng(seed)
    height, width, channels = rng.integers(1, 9, 3)
    image = rng.integers(0, 256, (height, width, channels), np.uint8)
    points = rng.uniform(-3, 12, (50, 2)).astype(np.float32)
    x, y = points[:, 0].clip(0, width - 1), points[:, 1].clip(0, height - 1)
    expected = np.zeros((50, channels))
    for row in range(height):
        for column in range(width):
            weight = np.maximum(0, 1 - np.abs(x - column)) * np.maximum(0, 1 - np.abs(y - row))
            expected += weight[:, None] * image[row, column]
    assert np.abs(sample_bilinear(image, points) - expected).max() < 1e-2


def test_samples_beyond_the_numbers():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    points = np.float32([[np.nan, np.nan], [np.inf, -np.inf], [-1e30, 1e30]])
    assert np.array_equal(sample_bilinear(image, points), image[[0, 0, 1], [0, 1, 0]])


def test_seen_vertices_by_casting_rays():
    """Spikes over a plate: vertices under the upper plate are hidden, those beside it are not."""
    grid = np.stack(np.meshgrid(np.arange(2, 30, 1.7), np.arange(2, 30, 1.7)), -1).reshape(-1, 2)
    side = round(len(grid) ** 0.5)
    cell = np.arange(len(grid)).reshape(side, side)
    a, b, c, d = (cell[:-1, :-1], cell[:-1, 1:], cell[1:, :-1], cell[1:, 1:])
    triangles = np.concatenate(
        [np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]
    )
    slope = np.column_stack([grid, 0.8 * grid[:, 0]]).astype(np.float32)
    topology = MeshTopology(triangles, len(grid))
    plate = np.float32([[8, 8, 90], [20, 8, 90], [20, 20, 90], [8, 20, 90]])
    buffer = VisibilityBuffer(40, 40)
    buffer.draw(slope, topology)
    buffer.draw(plate, MeshTopology([[0, 2, 1], [0, 3, 2]], 4))
    normals = vertex_normals(slope, topology, y_down=True)
    seen = buffer.seen_vertices(slope, normals)
    hidden = ((grid > 9) & (grid < 19)).all(axis=1)
    beside = ((grid < 7) | (grid > 21)).any(axis=1)
    assert hidden.sum() > 20 and beside.sum() > 100
    assert not seen[hidden].any()
    assert np.allclose(seen[beside], normals[beside, 2]) and (seen[beside] > 0.5).all()
    assert not buffer.seen_vertices(slope, -normals).any()


def test_each_texel_is_seen_or_hidden_by_itself():
    """Two triangles, their corners under plates: what lies between the plates is seen."""
    sheet = np.float32([[0, 0, 0], [39, 0, 0], [39, 39, 0], [0, 39, 0]])
    topology = MeshTopology([[0, 2, 1], [0, 3, 2]], 4)
    view, layout = VisibilityBuffer(40, 40), VisibilityBuffer(40, 40)
    layout.draw(sheet, topology)
    vertices = sheet + np.float32([0.25, 0.25, 0])
    view.draw(vertices, topology)
    for corner in [(-4, -4, 5), (29, -4, 5), (29, 29, 5), (-4, 29, 5)]:
        view.draw(sheet * np.float32(14 / 39) + np.float32(corner), topology)
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    normals = np.float32([[0.6, 0, 0.8], [0, 0, 1], [0.6, 0, 0.8], [0, 0, 1]])
    assert not view.seen_vertices(vertices, normals).any()
    texture, weight = layout.bake(view, vertices, normals, image, threshold=0.7)
    seen = texture[..., 3] == 255
    y, x = np.mgrid[:40, :40]
    # Between a pixel that hides it and one that does not, a texel counts as seen.
    beneath = ((x < 9) | (x >= 29)) & ((y < 9) | (y >= 29))
    assert np.array_equal(seen, (layout.face == 0) & ~beneath)
    colours = sample_bilinear(image, np.column_stack([x[seen], y[seen]]) + 0.25)
    assert np.abs(texture[seen][:, :3] - colours).max() < 0.51
    facing = layout.interpolate(0, normals)[..., 2]
    assert np.allclose(weight, np.where(seen, facing, 0), atol=1e-6)
    steep = layout.bake(view, vertices, normals, image, threshold=0.9)[1] > 0
    assert np.array_equal(steep, seen & (facing > 0.9))
    behind = vertices - np.float32([0, 0, 1])
    inner = (slice(1, 39), slice(1, 39))  # beside it the pixels are empty
    assert not layout.bake(view, behind, normals, image)[1][inner].any()
    assert layout.bake(view, behind, normals, image, tolerance=1.5)[1][inner].any()
    assert not layout.bake(view, vertices + np.float32(40), normals, image)[1].any()
    assert not layout.bake(view, np.full_like(vertices, np.nan), normals, image)[1].any()


def test_bake_needs_one_mesh_and_matching_arrays():
    topology = MeshTopology([[0, 1, 2]], 3)
    vertices = np.float32([[0, 0, 0], [9, 0, 0], [0, 9, 0]])
    buffer, view = VisibilityBuffer(10, 10), VisibilityBuffer(12, 12)
    image = np.full((12, 12, 3), 50, np.uint8)
    facing = np.float32([[0, 0, 1]] * 3)
    with pytest.raises(ValueError, match="0 meshes"):
        buffer.bake(view, vertices, facing, image)
    buffer.draw(vertices, topology)
    view.draw(vertices, topology)
    texture, weight = buffer.bake(view, vertices, facing, image)
    assert np.array_equal(texture[..., 3] > 0, buffer.face == 0)
    assert (texture[buffer.face == 0] == (50, 50, 50, 255)).all()
    assert np.allclose(weight[buffer.face == 0], 1)
    assert not buffer.bake(view, vertices, 0 * facing, image)[0].any()
    for bad in (
        lambda: buffer.bake(view, vertices, np.ones(3), image),
        lambda: buffer.bake(view, vertices[:2], facing, image),
        lambda: buffer.bake(view, vertices, facing, np.ascontiguousarray(image[..., :2])),
        lambda: buffer.bake(view, vertices, facing, image.astype(np.float32)),
        lambda: buffer.bake(buffer, vertices, facing, image),
        lambda: buffer.blend(0, np.ones(3), np.zeros((9, 9, 3), np.uint8)),
        lambda: buffer.blend(0, np.ones(3), np.zeros((10, 10, 3), np.uint8), alpha=1.5),
        lambda: buffer.blend(0, np.ones(3), np.zeros((10, 10, 3), np.uint8), tint=(2, 0, 0)),
        lambda: buffer.blend(0, np.ones(4), np.zeros((10, 10, 3), np.uint8)),
        lambda: buffer.depth_into(0, np.zeros((10, 10), np.float32)),
        lambda: buffer.seen_vertices(vertices, vertices[:2]),
        lambda: vertex_normals(vertices, topology, chosen=np.array([3])),
        lambda: sample_bilinear(image, np.zeros((3, 3))),
    ):
        with pytest.raises(ValueError, match=r"expected|channels"):
            bad()
