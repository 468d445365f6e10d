"""A face cut out of its image, as it is or turned upright."""

from __future__ import annotations

import cv2
import numpy as np

from tddfa_ros.core.errors import ImageError

RIGHT_EYE = slice(36, 42)
LEFT_EYE = slice(42, 48)
# Eyes that lie closer together in the image, as a share of the face, have no reliable direction.
LEAST_EYE_DISTANCE = 0.1


def portrait(
    image_bgr: np.ndarray, box_xyxy: np.ndarray, size: int, *, turn_rad: float = 0.0
) -> np.ndarray:
    """Cut out the square around a box.

    Parameters
    ----------
    image_bgr : (height, width, 3) uint8
    box_xyxy : (4,), pixels; its centre becomes the picture's, its longer side the picture's side
    size : pixels a side of the result
    turn_rad : by which the image is turned about that centre, counter-clockwise as seen

    Returns
    -------
    (size, size, 3) uint8, bilinear; 0 where there is no image.

    Raises
    ------
    ImageError
        The box is empty or not finite.
    """
    left, top, right, bottom = (float(v) for v in box_xyxy)
    side = max(right - left, bottom - top)
    if not (np.isfinite(side) and right > left and bottom > top):
        raise ImageError(f"a face in the box {box_xyxy.tolist()} cannot be cut out; it is empty")
    scale = size / side
    cos, sin = scale * np.cos(turn_rad), scale * np.sin(turn_rad)
    linear = np.array([[cos, sin], [-sin, cos]])
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    offset = (size - 1) / 2 - linear @ centre
    return cv2.warpAffine(
        image_bgr, np.column_stack([linear, offset]), (size, size), flags=cv2.INTER_LINEAR
    )


def eyes_turn_rad(landmarks: np.ndarray, box_xyxy: np.ndarray) -> float:
    """Turn, as of :func:`portrait`, that makes the line through the eyes horizontal.

    Parameters
    ----------
    landmarks : (68, >= 2) in iBUG order, pixels
    box_xyxy : (4,) of the face, pixels

    Returns
    -------
    Radians; 0 for a face in profile, whose eyes have no direction in the image.
    """
    right_eye = landmarks[RIGHT_EYE, :2].mean(axis=0)
    dx, dy = (landmarks[LEFT_EYE, :2].mean(axis=0) - right_eye).tolist()
    side = float(max(box_xyxy[2] - box_xyxy[0], box_xyxy[3] - box_xyxy[1]))
    if np.hypot(dx, dy) < LEAST_EYE_DISTANCE * side:
        return 0.0
    return float(np.arctan2(dy, dx))
