"""Images as ROS messages carry them; without ROS, and without what reads recordings of them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tddfa_ros.core.image_encoding import bgr_from_buffer, bgr_from_file_bytes

IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
FACES_TYPE = "tddfa_msgs/msg/FaceArray"

# "rgb8; jpeg compressed bgr8": what the camera sent, how it was coded, and what it was turned into.
_FORMAT = re.compile(r"(\w+) *; *(\w+) compressed *(\w*) *")


def bgr_of_fields(fields: Any) -> np.ndarray:
    """Decode the pixels of a deserialised Image or CompressedImage.

    Returns
    -------
    (height, width, 3) uint8, BGR; may be a read-only view of the message

    Raises
    ------
    ImageError
        The encoding is not known, or the sizes contradict each other.
    """
    if hasattr(fields, "format"):
        name = f"compressed image ({fields.format})"
        return bgr_from_file_bytes(np.asarray(fields.data), name, _unconverted(fields.format))
    return bgr_from_buffer(
        np.asarray(fields.data, np.uint8),
        fields.encoding,
        int(fields.height),
        int(fields.width),
        int(fields.step),
        is_bigendian=bool(fields.is_bigendian),
    )


def _unconverted(compressed_format: str) -> str:
    """Encoding that a CompressedImage still has; empty if its colours are those of any file.

    image_transport's publisher turns colours into bgr8 first, but neither what it codes as TIFF nor
    Bayer patterns, unless it says so.
    """
    described = _FORMAT.fullmatch(compressed_format)
    if described is None:
        return ""
    source, codec, target = described.groups()
    # A JPEG has its colours in one order, whoever wrote it and whatever he left out.
    as_it_was = codec == "tiff" or source.startswith("bayer_")
    return source if target.startswith("bayer_") or (as_it_was and not target) else ""
