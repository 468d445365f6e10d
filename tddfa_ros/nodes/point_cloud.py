"""Dense vertices as ``sensor_msgs/PointCloud2``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import PointField

from tddfa_ros.nodes.cdr import CdrWriter
from tddfa_ros.nodes.raw_image import ImageHeader

POINT = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "face", "has_metric_pose"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "<u2", "u1"],
        "offsets": [0, 4, 8, 12, 16, 18],
        "itemsize": 20,
    }
)
# What viewers expect: the colour 0x00rrggbb in the bits of a float.
_FIELD_TYPES = {
    "x": PointField.FLOAT32,
    "y": PointField.FLOAT32,
    "z": PointField.FLOAT32,
    "rgb": PointField.FLOAT32,
    "face": PointField.UINT16,
    "has_metric_pose": PointField.UINT8,
}


def face_points(
    vertices_m: Sequence[np.ndarray],
    colors_bgr: Sequence[np.ndarray],
    face_indices: Sequence[int],
    *,
    has_metric_pose: bool,
) -> np.ndarray:
    """Put the vertices of some faces into one array of :data:`POINT`.

    Parameters
    ----------
    vertices_m : for each face (n, 3), optical frame, metres
    colors_bgr : for each face (n, 3) uint8
    face_indices : for each face its place in the ``faces`` of the FaceArray of the same stamp
    has_metric_pose : False if the camera is assumed, not calibrated
    """
    points = np.zeros(sum(len(mesh) for mesh in vertices_m), POINT)
    begin = 0
    for mesh, colors, index in zip(vertices_m, colors_bgr, face_indices, strict=True):
        part = points[begin : begin + len(mesh)]
        begin += len(mesh)
        part["x"], part["y"], part["z"] = mesh.T
        blue, green, red = colors.astype(np.uint32).T
        part["rgb"] = red << 16 | green << 8 | blue
        part["face"] = index
    points["has_metric_pose"] = has_metric_pose
    return points


def encode_points(points: np.ndarray, header: ImageHeader) -> bytes:
    """Serialise an array of :data:`POINT` as a PointCloud2, with one copy of the points."""
    writer = CdrWriter()
    writer.header(header.sec, header.nanosec, header.frame_id)
    writer.numbers("I", 1, len(points))  # height, width
    writer.numbers("I", len(_FIELD_TYPES))
    for name, datatype in _FIELD_TYPES.items():
        writer.string(name)
        writer.numbers("I", POINT.fields[name][1])
        writer.numbers("B", datatype)
        writer.numbers("I", 1)
    writer.numbers("B", 0)  # is_bigendian
    writer.numbers("I", POINT.itemsize, points.nbytes)  # point_step, row_step
    writer.sequence(points.view(np.uint8))
    writer.numbers("B", bool(np.isfinite(points["z"]).all()))  # is_dense
    return writer.finish()
