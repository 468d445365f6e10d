import itertools

import numpy as np
import pytest

from tddfa_ros.core import sample_media
from tddfa_ros.core.errors import MediaError
from tddfa_ros.core.sample_media import (
    FACE_CENTRE_XY,
    astronaut_clip,
    astronaut_picture,
    astronaut_view,
)


def test_clip_is_the_same_each_time_and_moves():
    first, second = (list(itertools.islice(astronaut_clip(), 20)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert all((a != b).any() for a, b in itertools.pairwise(first))
    assert first[0].shape == (480, 640, 3)
    assert first[0].dtype == np.uint8


def test_clip_lasts_six_seconds():
    assert sum(1 for _ in astronaut_clip()) == 180


def test_unchanged_view_is_the_photograph():
    np.testing.assert_array_equal(
        astronaut_view(1.0, 0.0, FACE_CENTRE_XY, (512, 512)), astronaut_picture()
    )


def test_a_view_is_scaled_and_turned_about_the_face_clockwise():
    picture, (x, y) = astronaut_picture(), FACE_CENTRE_XY
    twice = astronaut_view(2.0, 0.0, (2 * x, 2 * y), (1024, 1024))
    np.testing.assert_array_equal(twice[::2, ::2], picture)
    turned = astronaut_view(1.0, np.pi / 2, (511 - y, x), (512, 512))
    np.testing.assert_array_equal(turned, np.rot90(picture, -1))


def test_beyond_the_photograph_its_edge_is_repeated():
    picture, (x, y) = astronaut_picture(), FACE_CENTRE_XY
    moved = astronaut_view(1.0, 0.0, (x + 100, y), (300, 512))
    np.testing.assert_array_equal(moved[:, 100:], picture[:, :200])
    np.testing.assert_array_equal(moved[:, :100], np.repeat(picture[:, :1], 100, axis=1))


def test_the_photograph_has_its_colours():
    """Her suit is orange."""
    blue, green, red = astronaut_picture()[280:300, 110:130].reshape(-1, 3).mean(axis=0)
    assert red > 1.5 * green > 2.25 * blue


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("pooch"), ConnectionError("no network"), RuntimeError("no hash")]
)
def test_without_the_photograph_another_input_is_asked_for(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(sample_media, "astronaut", fail)
    with pytest.raises(MediaError, match=rf"\({error}\); name an input of your own"):
        astronaut_picture()


def test_a_drawing_on_the_picture_does_not_reach_the_next():
    before = astronaut_picture()
    drawn = astronaut_picture()
    drawn[:] = 0
    np.testing.assert_array_equal(astronaut_picture(), before)
