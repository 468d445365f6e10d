"""Images of any depth, channel count or ROS encoding as BGR uint8; no ROS is needed for it.

The encodings follow ``sensor_msgs/image_encodings.hpp``. 8-bit ones are viewed in place or
converted in one pass; of more bits per channel the upper eight are kept (65535 becomes 255).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress

import cv2
import numpy as np
from PIL import Image

from tddfa_ros.core.errors import ImageError

_DAMAGED = "the image is damaged, or of a rare kind that is not read; save it anew"
MAX_PIXELS = 1 << 28
"""Larger images are refused: a wrong header should not ask for gigabytes."""

# Those that OpenCV reads: Pillow's name -> what people call it.
_FILE_FORMATS = {
    "JPEG": "JPEG",
    "PNG": "PNG",
    "TIFF": "TIFF",
    "WEBP": "WebP",
    "BMP": "BMP",
    "PPM": "PBM/PGM/PPM",
    "JPEG2000": "JPEG 2000",
    "SUN": "Sun raster",
}

_ORIENTATION_TAG = 0x0112
# EXIF orientation -> what makes the image upright: mirrored left to right first or not, then turned
_UPRIGHT: dict[int, tuple[bool, int | None]] = {
    2: (True, None),
    3: (False, cv2.ROTATE_180),
    4: (True, cv2.ROTATE_180),
    5: (True, cv2.ROTATE_90_COUNTERCLOCKWISE),
    6: (False, cv2.ROTATE_90_CLOCKWISE),
    7: (True, cv2.ROTATE_90_CLOCKWISE),
    8: (False, cv2.ROTATE_90_COUNTERCLOCKWISE),
}

# Encoding -> (dtype of a channel, channels, OpenCV's conversion to BGR or None if there is none)
_ENCODINGS: dict[str, tuple[str, int, int | None]] = {
    "bgr8": ("u1", 3, None),
    "rgb8": ("u1", 3, cv2.COLOR_RGB2BGR),
    "bgra8": ("u1", 4, cv2.COLOR_BGRA2BGR),
    "rgba8": ("u1", 4, cv2.COLOR_RGBA2BGR),
    "mono8": ("u1", 1, cv2.COLOR_GRAY2BGR),
    "bgr16": ("u2", 3, None),
    "rgb16": ("u2", 3, cv2.COLOR_RGB2BGR),
    "bgra16": ("u2", 4, cv2.COLOR_BGRA2BGR),
    "rgba16": ("u2", 4, cv2.COLOR_RGBA2BGR),
    "mono16": ("u2", 1, cv2.COLOR_GRAY2BGR),
    "yuv422": ("u1", 2, cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": ("u1", 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": ("u1", 2, cv2.COLOR_YUV2BGR_YUY2),
    "yuyv": ("u1", 2, cv2.COLOR_YUV2BGR_YUY2),
}
for _bits, _dtype in (("8", "u1"), ("16", "u2")):
    _ENCODINGS[f"bayer_rggb{_bits}"] = (_dtype, 1, cv2.COLOR_BayerRGGB2BGR)
    _ENCODINGS[f"bayer_bggr{_bits}"] = (_dtype, 1, cv2.COLOR_BayerBGGR2BGR)
    _ENCODINGS[f"bayer_gbrg{_bits}"] = (_dtype, 1, cv2.COLOR_BayerGBRG2BGR)
    _ENCODINGS[f"bayer_grbg{_bits}"] = (_dtype, 1, cv2.COLOR_BayerGRBG2BGR)
# All rows of luma, then half as many of chroma, of two values for each 2 x 2 pixels.
_LUMA_THEN_CHROMA = {"nv12": cv2.COLOR_YUV2BGR_NV12, "nv21": cv2.COLOR_YUV2BGR_NV21}
# "32FC1" and the like say nothing of what the channels mean: taken as grey, BGR or BGRA.
_PLAIN = {"8U": "u1", "8S": "i1", "16U": "u2", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}
for _depth, _dtype in _PLAIN.items():
    for _channels in (1, 3, 4):
        _ENCODINGS[f"{_depth}C{_channels}"] = (_dtype, _channels, None)


def is_known(encoding: str) -> bool:
    """Whether :func:`bgr_from_buffer` takes this encoding."""
    return encoding in _ENCODINGS or encoding in _LUMA_THEN_CHROMA


def bgr_from_buffer(
    data: np.ndarray,
    encoding: str,
    height: int,
    width: int,
    step: int,
    *,
    is_bigendian: bool = False,
) -> np.ndarray:
    """Return the image in a message's data, without a copy where it is bgr8 without padding.

    Parameters
    ----------
    data : (bytes,) uint8
    encoding : one for which :func:`is_known` holds
    height, width : pixels
    step : bytes from one row to the next
    is_bigendian : byte order of channels of more than a byte

    Returns
    -------
    (height, width, 3) uint8, BGR, C-contiguous; read-only if it is a view of the data

    Raises
    ------
    ImageError
        The encoding is not known, or the sizes contradict each other or the encoding.
    """
    rows = _rows_of_image(data, encoding, height, width, step)
    if encoding in _LUMA_THEN_CHROMA:
        return cv2.cvtColor(np.ascontiguousarray(rows), _LUMA_THEN_CHROMA[encoding])
    return _bgr_from_rows(rows, encoding, width, is_bigendian=is_bigendian)


def require_readable(data: np.ndarray, encoding: str, height: int, width: int, step: int) -> None:
    """Raise what :func:`bgr_from_buffer` would raise, without converting a whole image."""
    rows = _rows_of_image(data, encoding, height, width, step)
    if encoding in _LUMA_THEN_CHROMA:
        return
    try:
        _bgr_from_rows(rows[:2], encoding, width)
    except ImageError:
        _bgr_from_rows(rows, encoding, width)  # Its message tells the whole image's height.


def _rows_of_image(
    data: np.ndarray, encoding: str, height: int, width: int, step: int
) -> np.ndarray:
    """Return a (rows, bytes) view of the data, of luma and then chroma where these are apart."""
    if encoding in _LUMA_THEN_CHROMA:
        if height % 2 or width % 2:
            raise ImageError(
                f"a {width} x {height} image cannot be {encoding}: it needs an even width and "
                "height"
            )
        return rows_of(data, height + height // 2, width, step)
    if encoding not in _ENCODINGS:
        known = ", ".join([*_ENCODINGS, *_LUMA_THEN_CHROMA])
        raise ImageError(f"unknown encoding {encoding!r}; use one of {known}")
    dtype_name, channels, _ = _ENCODINGS[encoding]
    return rows_of(data, height, width * channels * np.dtype(dtype_name).itemsize, step)


def _bgr_from_rows(
    rows: np.ndarray, encoding: str, width: int, *, is_bigendian: bool = False
) -> np.ndarray:
    dtype_name, channels, _ = _ENCODINGS[encoding]
    dtype = np.dtype(dtype_name).newbyteorder(">" if is_bigendian else "<")
    image = np.ascontiguousarray(rows).view(dtype).reshape(len(rows), width, channels)
    return _bgr_from_pixels(image, encoding)


def _bgr_from_pixels(image: np.ndarray, encoding: str) -> np.ndarray:
    """Convert (height, width) or (height, width, channels) of an encoding, of any depth."""
    _, channels, conversion = _ENCODINGS[encoding]
    if conversion is None or _channels_of(image) != channels:
        return bgr_from_array(image)
    try:
        return cv2.cvtColor(_eight_bit(image), conversion)
    except cv2.error as error:
        height, width = image.shape[:2]
        raise ImageError(
            f"a {width} x {height} image cannot be {encoding}: {error.err}; Bayer patterns need "
            "2 x 2 pixels, YUV an even width"
        ) from error


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
    channels = _channels_of(image)
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


def _channels_of(image: np.ndarray) -> int:
    return 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0


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
        finite = np.nan_to_num(image.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        scale = 255.0 if finite.max() <= 1.0 else 1.0
        return np.clip(np.rint(finite * scale), 0, 255).astype(np.uint8)
    raise ImageError(f"an image of dtype {image.dtype} cannot be used; expected numbers")


def bgr_from_file_bytes(data: bytes | np.ndarray, name: str, encoding: str = "") -> np.ndarray:
    """Decode an image file (JPEG, PNG, TIFF, ...), turned upright by its EXIF tag.

    Parameters
    ----------
    data : bytes or (n,) uint8, the content of the file
    name : says in messages which image it is
    encoding : what OpenCV was given as BGR or grey when it wrote the file; without, or where it is
        not known or of another number of channels, the file's colours are what they should be

    Returns
    -------
    (height, width, 3) uint8, BGR

    Raises
    ------
    ImageError
        The data is empty, damaged or of an unknown format, or the image larger than
        :data:`MAX_PIXELS`.
    """
    buffer = np.frombuffer(data, np.uint8)
    if len(buffer) == 0:
        raise ImageError(f"{name}: the image is empty (0 bytes)")
    as_written = encoding in _ENCODINGS
    flags = cv2.IMREAD_UNCHANGED if as_written else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    orientation = 1
    with _opened(buffer, name) as header:
        _require_moderate_size(header.size, name)
        # OpenCV turns TIFF always, and all others but WebP unless they are to stay unchanged.
        if header.format == "WEBP" or (as_written and header.format != "TIFF"):
            orientation = _orientation(header)
            flags |= cv2.IMREAD_IGNORE_ORIENTATION
        if header.format == "JPEG2000":  # OpenCV crashes on some damaged ones.
            pixels = _pixels_of(header, name)
            return _bgr_from_pixels(pixels, encoding) if as_written else bgr_from_array(pixels)
    try:
        image = cv2.imdecode(buffer, flags)
    except cv2.error as error:
        raise ImageError(f"{name}: the image cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError(f"{name}: {_DAMAGED}")
    image = _bgr_from_pixels(image, encoding) if as_written else bgr_from_array(image)
    mirrored, turn = _UPRIGHT.get(orientation, (False, None))
    image = cv2.flip(image, 1) if mirrored else image
    return image if turn is None else cv2.rotate(image, turn)


def file_bytes_of(image: np.ndarray, suffix: str, quality: Sequence[int] = ()) -> bytes | None:
    """Encode an image as the content of a file.

    Parameters
    ----------
    image : (height, width) or (height, width, 3 or 4) uint8: grey, BGR or BGRA
    suffix : of the file, with its dot; says the format
    quality : settings of OpenCV's encoder

    Returns
    -------
    The content, or None if the image is too large for the format.
    """
    with suppress(cv2.error):  # Up to OpenCV 4.6 at least; later ones answer False.
        encoded, content = cv2.imencode(suffix, image, quality)
        if encoded:
            return content.tobytes()
    return None


def _opened(content: np.ndarray, name: str) -> Image.Image:
    """Read the header only.

    Pillow's own ``Image.open`` has a limit on pixels, the same for the whole process, below ours.
    """
    Image.init()
    # Filled up, as older versions of Pillow ask a byte alone for the second one.
    beginning = content[:16].tobytes().ljust(16, b"\0")
    for file_format in _FILE_FORMATS:
        factory, accepts = Image.OPEN.get(file_format, (None, None))
        if factory is None:  # Pillow was built without it.
            continue
        try:
            if accepts is not None and accepts(beginning) is True:
                return factory(io.BytesIO(content.data), "")
        except Image.DecompressionBombError as error:
            raise ImageError(f"{name}: too large: {error}; scale it down") from error
        except Exception as error:  # a damaged header makes Pillow raise nearly anything
            raise ImageError(f"{name}: {_DAMAGED}") from error
    known = ", ".join(_FILE_FORMATS.values())
    raise ImageError(f"{name}: not an image of a format that is read: {known}; convert it")


def _pixels_of(opened: Image.Image, name: str) -> np.ndarray:
    """(height, width) or (height, width, 3 or 4) in OpenCV's order, uint8 or uint16."""
    try:
        has_alpha = "A" in opened.getbands()
        grey = opened.mode in ("L", "I;16")
        pixels = np.asarray(opened if grey else opened.convert("RGBA" if has_alpha else "RGB"))
    except Exception as error:  # as above
        raise ImageError(f"{name}: {_DAMAGED}") from error
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if has_alpha else cv2.COLOR_RGB2BGR)


def _require_moderate_size(size_wh: tuple[int, int], name: str) -> None:
    """Refuse before OpenCV makes room: kilobytes can say that they are gigabytes."""
    width, height = size_wh
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: {width}x{height} pixels are too many, {MAX_PIXELS} at most; scale it down"
        )


def _orientation(header: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none that can be read."""
    with suppress(Exception):  # as above; the pixels may be fine all the same
        return int(header.getexif().get(_ORIENTATION_TAG, 1))
    return 1
