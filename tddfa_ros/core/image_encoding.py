"""Images of any depth, channel count or ROS encoding as BGR uint8; no ROS is needed for it.

The encodings follow ``sensor_msgs/image_encodings.hpp``. The common 8-bit ones are viewed in place
or converted in one pass; those of more bits per channel keep their full scale (65535 becomes 255).
"""

from __future__ import annotations

import cv2
import numpy as np

from tddfa_ros.core.errors import ImageError

MAX_PIXELS = 1 << 28
"""Larger images are refused: a wrong header should not ask for gigabytes."""

# Encoding -> (channels, OpenCV conversion to BGR or None when it already is)
_EIGHT_BIT = {
    "bgr8": (3, None),
    "8UC3": (3, None),
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "bgra8": (4, cv2.COLOR_BGRA2BGR),
    "8UC4": (4, cv2.COLOR_BGRA2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2BGR),
    "mono8": (1, cv2.COLOR_GRAY2BGR),
    "8UC1": (1, cv2.COLOR_GRAY2BGR),
}


def is_common(encoding: str) -> bool:
    """Whether :func:`bgr_from_buffer` takes this encoding."""
    return encoding in _EIGHT_BIT


def bgr_from_buffer(
    data: np.ndarray, encoding: str, height: int, width: int, step: int
) -> np.ndarray:
    """Return the image in a message's data, without a copy where it is BGR without padding.

    Parameters
    ----------
    data : (bytes,) uint8
    encoding : one for which :func:`is_common` holds
    height, width : pixels
    step : bytes from one row to the next

    Returns
    -------
    (height, width, 3) uint8, BGR, C-contiguous; read-only if it is a view of read-only data

    Raises
    ------
    ImageError
        The encoding is not a common one, or the sizes contradict each other.
    """
    if encoding not in _EIGHT_BIT:
        raise ImageError(
            f"encoding {encoding!r} cannot be read here; use one of {', '.join(_EIGHT_BIT)}"
        )
    channels, conversion = _EIGHT_BIT[encoding]
    rows = rows_of(data, height, width * channels, step)
    image = rows.reshape(height, width, channels)
    if conversion is None:
        return np.ascontiguousarray(image)
    return cv2.cvtColor(image, conversion)


def rows_of(data: np.ndarray, height: int, row_bytes: int, step: int) -> np.ndarray:
    """Return a (height, row_bytes) uint8 view of a message's data, or raise :class:`ImageError`."""
    if height < 1 or row_bytes < 1:
        raise ImageError(f"the image is empty: {height} rows of {row_bytes} bytes")
    if height * row_bytes > 16 * MAX_PIXELS:
        raise ImageError(f"the image is too large: {height} rows of {row_bytes} bytes")
    if step < row_bytes:
        raise ImageError(
            f"step is {step} bytes, but a row of this width and encoding has {row_bytes}; "
            "the publisher must set step = width * bytes per pixel"
        )
    needed = step * (height - 1) + row_bytes
    if len(data) < needed:
        raise ImageError(
            f"the data has {len(data)} bytes, but {height} rows of step {step} need {needed}"
        )
    return np.lib.stride_tricks.as_strided(
        data, shape=(height, row_bytes), strides=(step, 1), writeable=False
    )


def bgr_from_array(image: np.ndarray) -> np.ndarray:
    """Return any image array as BGR uint8.

    Parameters
    ----------
    image : (height, width) grey, (height, width, 1 | 3 | 4) grey, BGR or BGRA; any real dtype.
        Whole numbers keep their full scale; floating point is in [0, 1] if nothing exceeds 1, in
        [0, 255] otherwise, and what is not finite becomes black.

    Returns
    -------
    (height, width, 3) uint8, C-contiguous

    Raises
    ------
    ImageError
        Wrong shape, empty, or a dtype that is no number.
    """
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if channels not in (1, 3, 4) or image.size == 0:
        raise ImageError(
            f"an image of shape {image.shape} cannot be used; expected (height, width) or "
            "(height, width, 1, 3 or 4), not empty"
        )
    image = np.ascontiguousarray(_eight_bit(image))
    if channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if channels == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    return image


def _eight_bit(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * 255
    if np.issubdtype(image.dtype, np.integer):
        bits = 8 * image.dtype.itemsize - (image.dtype.kind == "i")
        clipped = np.maximum(image, 0) if image.dtype.kind == "i" else image
        return (clipped >> (bits - 8) if bits > 8 else clipped * 2).astype(np.uint8)
    if np.issubdtype(image.dtype, np.floating):
        finite = np.nan_to_num(
            image.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0
        )
        scale = 255.0 if finite.max() <= 1.0 else 1.0
        return np.clip(np.rint(finite * scale), 0, 255).astype(np.uint8)
    raise ImageError(
        f"an image of dtype {image.dtype} cannot be used; expected numbers"
    )


def bgr_from_file_bytes(data: bytes | np.ndarray, name: str) -> np.ndarray:
    """Decode an image file (JPEG, PNG, TIFF, ...), turned upright by its EXIF tag.

    Parameters
    ----------
    data : bytes or (n,) uint8, the content of the file
    name : says in messages which image it is

    Returns
    -------
    (height, width, 3) uint8, BGR

    Raises
    ------
    ImageError
        The data is empty, damaged or of an unknown format.
    """
    buffer = np.frombuffer(data, np.uint8)
    if len(buffer) == 0:
        raise ImageError(f"{name}: the image is empty (0 bytes)")
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise ImageError(f"{name}: the image cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError(
            f"{name}: damaged, or not an image of a known format (JPEG, PNG, TIFF...)"
        )
    return bgr_from_array(image)
