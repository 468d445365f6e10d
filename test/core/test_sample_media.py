import itertools

import numpy as np

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


def test_a_drawing_on_the_picture_does_not_reach_the_next():
    before = astronaut_picture()
    drawn = astronaut_picture()
    drawn[:] = 0
    np.testing.assert_array_equal(astronaut_picture(), before)
