"""Results drawn onto images with OpenCV: landmarks, boxes, axes of the head, ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from tddfa_ros.core.types import Face

# Open and closed polylines of the iBUG 68 landmarks: first, last, closed.
_LINES = (
    (0, 16, False),
    (17, 21, False),
    (22, 26, False),
    (27, 30, False),
    (31, 35, False),
    (36, 41, True),
    (42, 47, True),
    (48, 59, True),
    (60, 67, True),
)
_LINE_BGR = (230, 200, 60)
_POINT_BGR = (255, 255, 255)
_BOX_BGR = (80, 220, 80)
_AXES_BGR = ((60, 60, 240), (80, 220, 80), (240, 120, 60))
_SHIFT = 4
_MAX_COORDINATE = 32000.0
_LANDMARKS_OF_NOSE = slice(27, 31)


def draw_faces(image_bgr: np.ndarray, faces: Sequence[Face], parts: Sequence[str]) -> None:
    """Draw faces into an image, in the order of `parts`.

    Parameters
    ----------
    image_bgr : (height, width, 3) uint8, changed
    faces : what was found in it
    parts : any of :data:`OVERLAY_PARTS`
    """
    for part in parts:
        for face in faces:
            _DRAWERS[part](image_bgr, face)


def _thickness(image: np.ndarray) -> int:
    return max(1, round(min(image.shape[:2]) / 480))


def _fixed(points: np.ndarray) -> np.ndarray:
    """Pixels as OpenCV's fixed-point numbers, so that lines fall between pixels."""
    limited = np.clip(np.nan_to_num(points), -_MAX_COORDINATE, _MAX_COORDINATE)
    return np.rint(limited * (1 << _SHIFT)).astype(np.int32)


def _draw_landmarks(image: np.ndarray, face: Face) -> None:
    points = _fixed(face.landmarks[:, :2])
    thickness = _thickness(image)
    for first, last, closed in _LINES:
        line = points[first : last + 1].reshape(-1, 1, 2)
        cv2.polylines(image, [line], closed, _LINE_BGR, thickness, cv2.LINE_AA, _SHIFT)
    radius = round(0.9 * thickness * (1 << _SHIFT))
    for x, y in points.tolist():
        cv2.circle(image, (x, y), radius, _POINT_BGR, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _draw_box(image: np.ndarray, face: Face) -> None:
    x0, y0, x1, y1 = _fixed(face.box_xyxy).tolist()
    thickness = _thickness(image)
    cv2.rectangle(image, (x0, y0), (x1, y1), _BOX_BGR, thickness, cv2.LINE_AA, _SHIFT)


def _draw_pose(image: np.ndarray, face: Face) -> None:
    """Axes of the face frame from the nose: x out of the face red, y left green, z up blue."""
    span = np.ptp(face.landmarks[:, :2], axis=0)
    length = 0.5 * float(np.hypot(*span)) / np.sqrt(2.0)
    origin = face.landmarks[_LANDMARKS_OF_NOSE, :2].mean(axis=0)
    start = tuple(_fixed(origin).tolist())
    axes = _rotation(face.pose.quat_xyzw)
    # The optical frame looks along z, so what points away from the viewer is drawn first.
    for column in np.argsort(-axes[2]).tolist():
        end = tuple(_fixed(origin + length * axes[:2, column]).tolist())
        thickness = 1 + _thickness(image)
        cv2.line(image, start, end, _AXES_BGR[column], thickness, cv2.LINE_AA, _SHIFT)


def _rotation(quat_xyzw: np.ndarray) -> np.ndarray:
    x, y, z, w = (float(value) for value in quat_xyzw)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _draw_id(image: np.ndarray, face: Face) -> None:
    size = max(0.4, min(image.shape[:2]) / 1000)
    thickness = _thickness(image)
    x, y = np.clip(np.nan_to_num(face.box_xyxy[:2]), 0, _MAX_COORDINATE).tolist()
    place = (int(x), max(int(y) - 4 * thickness, round(22 * size)))
    label = f"{face.id} {face.score:.2f}"
    for color, width in (((0, 0, 0), 3 * thickness), (_POINT_BGR, thickness)):
        cv2.putText(image, label, place, cv2.FONT_HERSHEY_SIMPLEX, size, color, width, cv2.LINE_AA)


_DRAWERS: dict[str, Callable[[np.ndarray, Face], None]] = {
    "landmarks": _draw_landmarks,
    "pose": _draw_pose,
    "box": _draw_box,
    "id": _draw_id,
}

OVERLAY_PARTS = tuple(_DRAWERS)
"""What :func:`draw_faces` can draw."""
