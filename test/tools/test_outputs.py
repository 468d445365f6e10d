"""Options of `image` and `video` for what they write beside the results."""

import argparse

import numpy as np
import pytest

from tddfa_ros.core.outputs import DEFAULT_OVERLAY
from tddfa_ros.core.texture_layout import LARGEST_TEXTURE
from tddfa_ros.tools.outputs import (
    SMALLEST_TEXTURE,
    Wishes,
    add_output_arguments,
    as_bgr,
    wishes_from,
)


def wishes_of(*arguments: str) -> Wishes:
    parser = argparse.ArgumentParser()
    add_output_arguments(parser)
    return wishes_from(parser.parse_args(arguments))


def test_wishes_are_those_of_the_command_line():
    assert wishes_of() == Wishes() == Wishes(DEFAULT_OVERLAY, (), 512, "image")
    given = ("--overlay", "id,mesh", "--outputs", "ply,uv", "--texture-size", "64")
    assert wishes_of(*given, "--mesh-pose", "own") == Wishes(
        ("id", "mesh"), ("ply", "uv"), 64, "own"
    )
    assert wishes_of("--overlay", "").overlay == ()


@pytest.mark.parametrize("size", [SMALLEST_TEXTURE, LARGEST_TEXTURE])
def test_the_smallest_and_the_largest_texture_can_be_had(size):
    assert (SMALLEST_TEXTURE, LARGEST_TEXTURE) == (16, 4096)
    assert wishes_of("--texture-size", str(size)).texture_size == size


@pytest.mark.parametrize("size", ["15", "4097", "-64", "64.0", "²", "many", ""])
def test_other_textures_are_wrong_usage(capsys, size):
    with pytest.raises(SystemExit) as stop:
        wishes_of(f"--texture-size={size}")
    assert stop.value.code == 2
    assert f"{size!r} is not a number of texels within 16 and 4096" in capsys.readouterr().err


def test_a_video_shows_grey_as_grey_and_what_is_transparent_as_black():
    picture = np.random.default_rng(0).integers(1, 256, (4, 6, 4), np.uint8)
    np.testing.assert_array_equal(as_bgr(picture[..., :3]), picture[..., :3])
    np.testing.assert_array_equal(as_bgr(picture[..., 0]), picture[..., [0, 0, 0]])
    picture[:2, :, 3] = 0
    shown = as_bgr(picture)
    assert shown.dtype == np.uint8
    assert not shown[:2].any()
    np.testing.assert_array_equal(shown[2:], picture[2:, :, :3])
