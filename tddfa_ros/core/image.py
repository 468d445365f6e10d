"""What the pipeline takes as an image and its time, checked once at its boundary."""

from __future__ import annotations

import operator

import numpy as np

from tddfa_ros.core.errors import ImageError


def require_bgr_image(image: np.ndarray) -> np.ndarray:
    """Return `image` if it is a BGR picture, C-contiguous.

    Parameters
    ----------
    image : (height, width, 3) uint8

    Returns
    -------
    The same array, or a C-contiguous copy of it.

    Raises
    ------
    ImageError
        Not an array, another type or shape, or without pixels.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"image is a {type(image).__name__}: expected a numpy array")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"image is {image.dtype} of shape {image.shape}: expected uint8 (height, width, 3), "
            "BGR; convert it with cv2.cvtColor first"
        )
    if image.size == 0:
        raise ImageError(f"image of shape {image.shape} has no pixels")
    return np.ascontiguousarray(image)


def require_stamp_ns(stamp_ns: int) -> int:
    """Return `stamp_ns` as an int, if it counts nanoseconds.

    Raises
    ------
    ImageError
        No integer, such as seconds, of which all would be one moment.
    """
    try:
        return operator.index(stamp_ns)
    except TypeError as error:
        raise ImageError(
            f"stamp_ns is {stamp_ns!r}, a {type(stamp_ns).__name__}: expected nanoseconds as an "
            "int; of seconds, give round(seconds * 1e9)"
        ) from error
