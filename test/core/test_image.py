"""What counts as an image."""

import numpy as np
import pytest

from tddfa_ros.core.errors import ImageError
from tddfa_ros.core.image import require_bgr_image


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
