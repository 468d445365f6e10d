"""What counts as an image, and as its time."""

import numpy as np
import pytest

from tddfa_ros.core.errors import ImageError
from tddfa_ros.core.image import require_bgr_image, require_stamp_ns


def test_a_good_image_is_passed_on_as_it_is():
    image = np.zeros((4, 5, 3), np.uint8)
    assert require_bgr_image(image) is image


def test_a_strided_view_becomes_contiguous():
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)[:, ::-1]
    made = require_bgr_image(image)
    assert made.flags.c_contiguous
    assert (made == image).all()


@pytest.mark.parametrize(
    "image",
    [
        None,
        "picture.jpg",
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.uint16),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((2, 4, 5, 3), np.uint8),
    ],
)
def test_anything_else_is_refused(image):
    with pytest.raises(ImageError):
        require_bgr_image(image)


@pytest.mark.parametrize("stamp_ns", [0, -5, 2**62, np.int64(33_366_700)])
def test_nanoseconds_are_passed_on_as_int(stamp_ns):
    made = require_stamp_ns(stamp_ns)
    assert made == stamp_ns
    assert type(made) is int


@pytest.mark.parametrize("stamp", [0.033, np.float64(2.0), float("nan"), None, "1"])
def test_seconds_are_refused_with_the_way_to_nanoseconds(stamp):
    with pytest.raises(ImageError, match=r"stamp_ns is .*expected nanoseconds.*seconds \* 1e9"):
        require_stamp_ns(stamp)
