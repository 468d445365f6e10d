"""Images in and out of ROS as serialised bytes, several times faster than through rclpy's messages.

A subscription with ``raw=True`` hands over the CDR bytes of a message; :func:`decode_image` views
their pixels in place. :func:`encode_image` builds the bytes that ``publish()`` takes, with one copy
of the pixels. A frame that is dropped is never read at all.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from std_msgs.msg import Header

from tddfa_ros.core.errors import ImageError
from tddfa_ros.core.image_encoding import bgr_from_array, is_known
from tddfa_ros.core.image_encoding import require_readable as require_readable_buffer
from tddfa_ros.core.image_message import COMPRESSED_TYPE, IMAGE_TYPE
from tddfa_ros.core.image_message import bgr_of_fields as core_bgr_of_fields
from tddfa_ros.nodes.cdr import CdrWriter

ENCODINGS_TAKEN = (
    "bgr8, rgb8, bgra8, rgba8, mono8, each also with 16 bits, yuv422 (uyvy), yuv422_yuy2 (yuyv), "
    "nv12, nv21, bayer_*, or a plain one such as 8UC3 or 32FC1"
)
"""In words; cv_bridge may know more."""

_TYPES = get_typestore(Stores.ROS2_JAZZY)
for _type in (IMAGE_TYPE, COMPRESSED_TYPE):
    _TYPES.get_msgdef(_type)  # Compiles what reads them: the first image would wait 20 ms for it.
_DAMAGED = (SerdeError, struct.error, ValueError, IndexError, KeyError, TypeError, AssertionError)


@dataclass(frozen=True)
class ImageHeader:
    """Header of an image, copied to whatever is made from it."""

    sec: int
    nanosec: int
    frame_id: str

    @property
    def stamp_ns(self) -> int:
        """The stamp in nanoseconds."""
        return self.sec * 1_000_000_000 + self.nanosec

    def message(self) -> Header:
        """Return it as a message."""
        return Header(stamp=Time(sec=self.sec, nanosec=self.nanosec), frame_id=self.frame_id)


def decode_image(data: bytes) -> tuple[ImageHeader, np.ndarray]:
    """Read a serialised ``sensor_msgs/Image``.

    Returns
    -------
    header : of the message
    image_bgr : (height, width, 3) uint8; a read-only view of `data` if that is bgr8

    Raises
    ------
    ImageError
        Damaged bytes, sizes that contradict each other, or an encoding that nobody knows.
    """
    fields = _deserialize(data, IMAGE_TYPE)
    return _header(fields), bgr_of_fields(fields)


def decode_compressed_image(data: bytes) -> tuple[ImageHeader, np.ndarray]:
    """Read a serialised ``sensor_msgs/CompressedImage``; as :func:`decode_image`."""
    fields = _deserialize(data, COMPRESSED_TYPE)
    return _header(fields), bgr_of_fields(fields)


def bgr_of_fields(fields: Any) -> np.ndarray:
    """Decode the pixels of a deserialised Image or CompressedImage of any encoding.

    Raises
    ------
    ImageError
        As :func:`decode_image`.
    """
    if hasattr(fields, "format") or is_known(fields.encoding):
        return core_bgr_of_fields(fields)
    return _bgr_through_cv_bridge(fields)


def require_readable(fields: Any) -> None:
    """Raise what :func:`bgr_of_fields` would raise of a deserialised Image, at less expense.

    Raises
    ------
    ImageError
        As :func:`decode_image`.
    """
    if not is_known(fields.encoding):
        _bgr_through_cv_bridge(fields)
        return
    size = int(fields.height), int(fields.width), int(fields.step)
    require_readable_buffer(np.asarray(fields.data, np.uint8), fields.encoding, *size)


def _bgr_through_cv_bridge(fields: Any) -> np.ndarray:
    bridge = _cv_bridge()
    try:
        image = bridge.imgmsg_to_cv2(fields, "bgr8")
    except (TypeError, RuntimeError, ValueError, LookupError, cv2.error) as error:
        raise ImageError(
            f"cv_bridge cannot turn a {fields.width} x {fields.height} image of encoding "
            f"{fields.encoding!r} into bgr8: {error!r}; publish one of {ENCODINGS_TAKEN}"
        ) from error
    return bgr_from_array(image)


@cache
def _cv_bridge() -> Any:
    try:
        from cv_bridge import CvBridge
    except ImportError as error:
        raise ImageError(
            f"this encoding needs cv_bridge, which cannot be imported: {error}; install it, or "
            f"publish one of {ENCODINGS_TAKEN}"
        ) from error
    return CvBridge()


def encode_image(
    image: np.ndarray, header: ImageHeader, encoding: str = "bgr8", *, channels: int = 3
) -> bytes:
    """Serialise an image as ``sensor_msgs/Image``, for ``publish()``.

    Parameters
    ----------
    image : (height, width) or (height, width, channels), C-contiguous, little-endian
    header : stamp and frame_id of the message
    encoding : what its pixels are
    channels : as the encoding says; checked

    Raises
    ------
    ImageError
        The shape does not fit the encoding's channels.
    """
    given = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if given != channels or image.size == 0:
        raise ImageError(
            f"an image of shape {image.shape} cannot be sent as {encoding}; expected "
            f"(height, width{', ' + str(channels) if channels > 1 else ''}), not empty"
        )
    height, width = image.shape[:2]
    pixels = np.ascontiguousarray(image)
    head = CdrWriter()
    head.header(header.sec, header.nanosec, header.frame_id)
    head.numbers("I", height, width)
    head.string(encoding)
    head.numbers("B", 0)  # is_bigendian
    head.numbers("I", pixels.nbytes // height, pixels.nbytes)
    return b"".join((head.finish(), memoryview(pixels).cast("B")))


def _header(fields: Any) -> ImageHeader:
    stamp = fields.header.stamp
    return ImageHeader(int(stamp.sec), int(stamp.nanosec), fields.header.frame_id)


def _deserialize(data: bytes, msgtype: str) -> Any:
    try:
        # A memoryview, since slicing bytes would copy the pixels.
        return _TYPES.deserialize_cdr(memoryview(data), msgtype)
    except _DAMAGED as error:
        raise ImageError(f"a damaged {msgtype} message of {len(data)} bytes: {error}") from error
