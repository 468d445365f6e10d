"""Textures: averages with known answers, and a head that turns until all of it was seen."""

import weakref
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tddfa_ros.core.errors import TddfaError
from tddfa_ros.core.render import Renderer
from tddfa_ros.core.texture import (
    MIRRORED,
    SEEN,
    UNKNOWN,
    TextureAverage,
    complete,
    fill_mirrored,
)
from tddfa_ros.core.texture_layout import LARGEST_TEXTURE

SIZE = 64


def plain(colour, seen):
    """Texture of one colour, known where `seen`."""
    texture = np.zeros((*seen.shape, 4), np.uint8)
    texture[seen] = (*colour, SEEN)
    return texture


@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_average_is_the_mean_weighted_by_squared_cosines(seed, frames):
    rng = np.random.default_rng(seed)
    average = TextureAverage(8, memory=1e6)
    total, weights = np.zeros((8, 8, 3)), np.zeros((8, 8))
    for _ in range(frames):
        weight = rng.uniform(0, 1, (8, 8)).astype(np.float32) * (rng.random((8, 8)) < 0.6)
        texture = rng.integers(0, 256, (8, 8, 4), np.uint8)
        average.add(texture, weight)
        total += weight[..., None] ** 2 * texture[..., :3].astype(float)
        weights += weight**2
    known = weights > 0
    result = average.texture()
    expected = total[known] / weights[known][:, None]
    assert np.abs(result[known][:, :3] - expected).max(initial=0) <= 0.51
    assert np.array_equal(result[..., 3], np.where(known, SEEN, UNKNOWN))


def test_average_follows_a_change_of_light_and_forgets():
    average = TextureAverage(4, memory=10)
    full = np.ones((4, 4), np.float32)
    for _ in range(100):
        average.add(plain((10, 10, 10), full > 0), full)
    for _ in range(40):
        average.add(plain((200, 200, 200), full > 0), full)
    assert (average.texture()[..., :3] > 190).all()
    average.reset()
    assert not average.texture().any()


def test_average_refuses_other_sizes():
    with pytest.raises(TddfaError, match="size 4"):
        TextureAverage(4).add(np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8), np.float32))
    with pytest.raises(TddfaError, match="memory"):
        TextureAverage(4, memory=0)


def mirror_left_right():
    x, y = np.meshgrid(np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32))
    return np.dstack([SIZE - 1 - x, y])


def test_the_unseen_half_is_the_mirror_image():
    _, x = np.mgrid[:SIZE, :SIZE]
    symmetric = np.abs(x - (SIZE - 1) / 2) * 3
    seen = x < 40
    texture = plain((0, 0, 0), seen)
    texture[..., 0] = np.where(seen, symmetric, 0)
    filled = fill_mirrored(texture, mirror_left_right())
    assert np.array_equal(filled[seen], texture[seen])
    assert (filled[~seen][:, 3] == MIRRORED).all()
    assert np.abs(filled[..., 0] - symmetric).max() <= 1


def test_what_neither_half_shows_stays_unknown():
    seen = np.zeros((SIZE, SIZE), bool)
    seen[:10, :20] = True
    filled = fill_mirrored(plain((9, 9, 9), seen), mirror_left_right())
    assert np.array_equal(filled[..., 3] == MIRRORED, seen[:, ::-1])
    assert (filled[20:] == 0).all()


@pytest.mark.parametrize(("half", "seam"), [(240, 255), (10, 0)])
def test_no_brightness_beyond_white_or_black_at_the_seam(half, seam):
    """The seen part is brighter, or darker, at the seam than its mirror image is."""
    _, x = np.mgrid[:SIZE, :SIZE]
    seen = x < 40
    texture = plain((half, half, half), seen)
    texture[32:, 32:40, :3] = seam
    texture[32:, 24:32, :3] = 128
    row = fill_mirrored(texture, mirror_left_right())[50, 40:, 0].astype(int)
    assert np.abs(row - half).max() <= abs(seam - half)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_nothing_of_the_unknown_is_mixed_into_what_is_mirrored(share):
    """The mirror image of a texel lies between four others, some of which may be unknown."""
    seen = np.zeros((SIZE, SIZE), bool)
    seen[10:50, 40:60] = True
    texture = plain((200, 100, 50), seen)
    before = texture.copy()
    filled = fill_mirrored(texture, mirror_left_right() - np.float32(share))
    mirrored = filled[..., 3] == MIRRORED
    assert mirrored.sum() == (40 - 1) * (20 - 1)
    assert (filled[mirrored] == (200, 100, 50, MIRRORED)).all()
    np.testing.assert_array_equal(texture, before)


def test_the_seam_has_no_step_in_brightness():
    _, x = np.mgrid[:SIZE, :SIZE]
    light = 60 + 2 * x  # from one side
    seen = x < SIZE // 2 + 8
    texture = plain((0, 0, 0), seen)
    texture[..., 1] = np.where(seen, light, 0)
    row = fill_mirrored(texture, mirror_left_right())[5, :, 1].astype(int)
    assert abs(row[SIZE // 2 + 8] - row[SIZE // 2 + 7]) < 10
    assert np.abs(np.diff(row)).max() < 30


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 70))
@settings(deadline=None, max_examples=30)
def test_complete_keeps_what_is_known_and_stays_between(seed, size):
    rng = np.random.default_rng(seed)
    known = rng.random((size, size)) < rng.choice([0.02, 0.3, 0.9])
    texture = rng.integers(50, 200, (size, size, 4), np.uint8)
    texture[..., 3] = np.where(known, SEEN, UNKNOWN)
    out = complete(texture)
    assert out.shape == (size, size, 3)
    assert np.array_equal(out[known], texture[known][:, :3])
    if known.any():
        low, high = texture[known][:, :3].min(axis=0), texture[known][:, :3].max(axis=0)
        assert (out >= low.astype(int) - 1).all() and (out <= high.astype(int) + 1).all()
    else:
        assert (out == 127).all()


def test_a_texture_completes_itself_as_the_head_turns(dome_model):
    """Each frame shows a part of a painted dome; the average shows all of it, in its colours."""
    renderer = Renderer(dome_model)
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE - 1)
    truth = np.dstack([40 + 160 * x, 40 + 160 * y, 120 + 60 * np.sin(9 * x)]).astype(np.float32)
    average = TextureAverage(SIZE)
    shares = []
    for yaw_deg in (75, 40, 0, -40, -75):
        turn = Rotation.from_euler("y", yaw_deg, degrees=True).as_matrix()
        vertices = (dome_model.mean @ turn.T * [90, -90, 90] + [100, 100, 0]).astype(np.float32)
        uv = renderer.frame(np.zeros((200, 200, 3), np.uint8), [vertices]).uv_coordinates()
        places = np.nan_to_num(uv * [SIZE - 1, 1 - SIZE] + [0, SIZE - 1]).astype(np.float32)
        image = cv2.remap(truth, places[..., 0], places[..., 1], cv2.INTER_LINEAR)
        frame = renderer.frame(np.rint(image).astype(np.uint8), [vertices])
        average.add(*frame.texture(0, SIZE, least_facing=0.2))
        shares.append(np.mean(average.texture()[..., 3] == SEEN))
    assert (np.diff(shares) >= 0).all()
    on_mesh = renderer.texture_layout.unwrapped((SIZE, SIZE)).face == 0
    result = average.texture()
    known = result[..., 3] == SEEN
    assert known[on_mesh].mean() > 0.97 > shares[0] / on_mesh.mean() + 0.2
    assert np.abs(result[..., :3] - truth)[known].mean() < 2
    first_only = TextureAverage(SIZE)
    assert not first_only.texture()[..., 3].any()


def test_a_layout_has_every_size_one_after_the_other(dome_model):
    layout = Renderer(dome_model).texture_layout
    for size in (16, 40, 16):
        buffer = layout.unwrapped((size, size))
        assert (buffer.height, buffer.width) == (size, size)
        assert layout.mirror_map(size).shape == (size, size, 2)
        assert layout.unwrapped((size, size)) is buffer


def test_a_layout_keeps_the_buffer_of_one_size_only(dome_model):
    layout = Renderer(dome_model).texture_layout
    first = weakref.ref(layout.unwrapped((16, 16)))
    assert first() is not None
    layout.unwrapped((40, 40))
    assert first() is None


def test_texels_of_a_layout_lie_at_their_coordinates(dome_model):
    unwrapped = Renderer(dome_model).texture_layout.unwrapped((33, 65))
    out = np.full((33, 65, 2), -1, np.float32)
    unwrapped.interpolate(0, dome_model.uv, out)
    row, column = np.nonzero(unwrapped.face == 0)
    assert len(row) > 1000
    expected = np.column_stack([column / 64, 1 - row / 32])
    assert np.abs(out[row, column] - expected).max() < 1e-4


def test_a_layout_has_sides_of_two_texels_to_the_largest(dome_model):
    layout = Renderer(dome_model).texture_layout
    for size_hw in ((2, 2), (LARGEST_TEXTURE, 2), (2, LARGEST_TEXTURE)):
        buffer = layout.unwrapped(size_hw)
        assert (buffer.height, buffer.width) == size_hw
    for height, width in ((1, 2), (2, 1), (LARGEST_TEXTURE + 1, 2), (2, LARGEST_TEXTURE + 1)):
        with pytest.raises(TddfaError, match=f"{height}x{width}: each side must be 2 to"):
            layout.unwrapped((height, width))


@pytest.mark.parametrize("known", [True, False])
def test_mirror_map_swaps_the_sides(dome_model, known):
    """The dome is symmetric in x, so its texture is in u."""
    if not known:
        dome_model = replace(dome_model, symmetry=None)
    layout = Renderer(dome_model).texture_layout
    mirror = layout.mirror_map(SIZE)
    inside = layout.unwrapped((SIZE, SIZE)).face == 0
    assert (mirror[~inside] == -1).all()
    y, x = np.nonzero(inside)
    assert np.abs(mirror[inside] - np.column_stack([SIZE - 1 - x, y])).max() < 0.01
