"""Results drawn onto images with OpenCV: landmarks, boxes, axes of the head, ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from tddfa_ros.core.rotation import rotation_from_quat
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
_POINT_CYAN_BGR = (255, 230, 60)
_FRUSTUM_BGR = (40, 255, 0)
_LANDMARKS_WITHOUT_EYES_AND_MOUTH = slice(0, 27)
_LANDMARKS_OF_NOSE = slice(27, 31)


def draw_faces(image_bgr: np.ndarray, faces: Sequence[Face], parts: Sequence[str]) -> None:
    """Draw faces into an image, in the order of `parts`.

    Parameters
    ----------
    image_bgr : (height, width, 3) uint8, changed
    faces : what was found in it; one with places that are not finite is left out
    parts : any of :data:`OVERLAY_PARTS`
    """
    drawable = [
        f for f in faces if np.isfinite(f.landmarks).all() and np.isfinite(f.box_xyxy).all()
    ]
    for part in parts:
        for face in drawable:
            _DRAWERS[part](image_bgr, face)


def draw_points(image_bgr: np.ndarray, points: np.ndarray) -> None:
    """Draw many points a pixel wide, each shared among its four pixels.

    Parameters
    ----------
    image_bgr : (height, width, 3) uint8, changed
    points : (k, 2) float, pixels; those outside or not finite are left out
    """
    height, width = image_bgr.shape[:2]
    points = points[np.isfinite(points).all(axis=1)]
    points = points[((points > -1) & (points < (width, height))).all(axis=1)]
    if not len(points):
        return
    first = np.floor(points).astype(np.int64)
    part = points - first
    x0, y0 = np.maximum(first.min(axis=0), 0).tolist()
    columns, rows = (np.minimum(first.max(axis=0) + 2, (width, height)) - (x0, y0)).tolist()
    cover = np.zeros(rows * columns)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
        x, y = first[:, 0] + dx - x0, first[:, 1] + dy - y0
        inside = (x >= 0) & (y >= 0) & (x < columns) & (y < rows)
        at = (y * columns + x)[inside]
        cover += np.bincount(at, weight[inside], minlength=len(cover))
    cover = np.minimum(cover, 1.0).reshape(rows, columns, 1)
    window = image_bgr[y0 : y0 + rows, x0 : x0 + columns]
    window[:] = np.rint(window * (1.0 - cover) + np.array(_POINT_CYAN_BGR) * cover)


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
    axes = rotation_from_quat(face.pose.quat_xyzw)
    # The optical frame looks along z, so what points away from the viewer is drawn first.
    for column in np.argsort(-axes[2]).tolist():
        end = tuple(_fixed(origin + length * axes[:2, column]).tolist())
        thickness = 1 + _thickness(image)
        cv2.line(image, start, end, _AXES_BGR[column], thickness, cv2.LINE_AA, _SHIFT)


def _draw_frustum(image: np.ndarray, face: Face) -> None:
    """Frustum of 3DDFA_V2: a square at the face, a third larger one before it, and their edges."""
    span = np.ptp(face.landmarks[:, :2], axis=0).max()
    rear = np.sqrt(2.0) * float(span) / 3
    front = int(4 / 3 * rear)
    square = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)], np.float64)
    # Model axes: x to the subject's left, y up, z out of the face.
    model = np.zeros((8, 3))
    model[:4, :2], model[4:, :2], model[4:, 2] = rear * square, front * square, front
    points = (model[:, [2, 0, 1]] @ rotation_from_quat(face.pose.quat_xyzw).T)[:, :2]
    points -= points[:4].mean(axis=0)
    points += face.landmarks[_LANDMARKS_WITHOUT_EYES_AND_MOUTH, :2].mean(axis=0)
    fixed = _fixed(points)
    lines = [fixed[:4], fixed[4:], *(fixed[[corner, corner + 4]] for corner in range(4))]
    for line in lines:
        closed = len(line) == 4
        thickness = 1 + _thickness(image)
        cv2.polylines(image, [line[:, None]], closed, _FRUSTUM_BGR, thickness, cv2.LINE_AA, _SHIFT)


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
    "frustum": _draw_frustum,
    "box": _draw_box,
    "id": _draw_id,
}

OVERLAY_PARTS = tuple(_DRAWERS)
"""What :func:`draw_faces` can draw."""
