"""Faces as ``visualization_msgs/MarkerArray``: mesh, landmarks, axes and label.

Points are in the optical frame, poses are the identity. Light is baked into the colours, as RViz
does not light a triangle list that has colours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from visualization_msgs.msg import Marker

from tddfa_ros.core.coarse_mesh import CoarseMesh
from tddfa_ros.core.one_euro import NS_PER_S
from tddfa_ros.core.types import MetricPose
from tddfa_ros.nodes.cdr import CdrWriter
from tddfa_ros.nodes.raw_image import ImageHeader

NAMESPACES = ("mesh", "landmarks", "axes", "label")
# Should the publisher die, its markers go after this time; otherwise they are deleted.
LIFETIME_S = 5.0
SKIN_RGB = np.array([0.93, 0.87, 0.82])
LANDMARK_RGBA = (0.1, 0.9, 0.3, 1.0)
LABEL_RGBA = (1.0, 1.0, 1.0, 1.0)
LANDMARK_SIZE_M = 0.003
AXIS_LENGTH_M, AXIS_WIDTH_M = 0.1, 0.004
LABEL_ABOVE_M, LABEL_HEIGHT_M = 0.13, 0.03


@dataclass(frozen=True, eq=False)
class MarkerShape:
    """What differs between our markers.

    Attributes
    ----------
    namespace, number : who it is; a later one of the same replaces it
    kind, action : as in ``Marker``
    scale_xyz, rgba : as the kind takes them
    position_m : (3,), of a text
    points_m : (p, 3), optical frame
    colors_rgba : (p, 4) or (0, 4)
    text : of a label
    lifetime_s : after which it goes, unless it is replaced
    """

    namespace: str
    number: int
    kind: int = Marker.ARROW
    action: int = Marker.ADD
    scale_xyz: tuple[float, float, float] = (1.0, 1.0, 1.0)
    rgba: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    position_m: np.ndarray = field(default_factory=lambda: np.zeros(3))
    points_m: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    colors_rgba: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    text: str = ""
    lifetime_s: float = LIFETIME_S


def mesh_marker(number: int, mesh: CoarseMesh, vertices_m: np.ndarray) -> MarkerShape:
    """Lit triangles of a face whose vertices are all of the face model's, (n, 3)."""
    points = vertices_m[mesh.vertex_indices].astype(np.float64)
    colors = np.ones((len(points), 4))
    colors[:, :3] = mesh.light(points)[:, None] * SKIN_RGB
    corners = mesh.triangles.ravel()
    return MarkerShape(
        "mesh",
        number,
        Marker.TRIANGLE_LIST,
        points_m=points[corners],
        colors_rgba=colors[corners],
    )


def landmark_marker(number: int, landmarks_m: np.ndarray) -> MarkerShape:
    """Small balls at the landmarks, (68, 3)."""
    size = (LANDMARK_SIZE_M,) * 3
    return MarkerShape(
        "landmarks", number, Marker.SPHERE_LIST, 0, size, LANDMARK_RGBA, points_m=landmarks_m
    )


def axes_marker(number: int, pose: MetricPose) -> MarkerShape:
    """Axes of the face frame, x red, y green, z blue."""
    ends = pose.position_m + AXIS_LENGTH_M * pose.rotation.T
    points = np.stack([np.broadcast_to(pose.position_m, (3, 3)), ends], axis=1).reshape(6, 3)
    colors = np.hstack([np.repeat(np.eye(3), 2, axis=0), np.ones((6, 1))])
    return MarkerShape(
        "axes",
        number,
        Marker.LINE_LIST,
        scale_xyz=(AXIS_WIDTH_M, 0.0, 0.0),
        points_m=points,
        colors_rgba=colors,
    )


def label_marker(number: int, pose: MetricPose, text: str) -> MarkerShape:
    """Text above the head."""
    return MarkerShape(
        "label",
        number,
        Marker.TEXT_VIEW_FACING,
        scale_xyz=(0.0, 0.0, LABEL_HEIGHT_M),
        rgba=LABEL_RGBA,
        position_m=pose.position_m + LABEL_ABOVE_M * pose.rotation[:, 2],
        text=text,
    )


def removed(number: int) -> list[MarkerShape]:
    """Delete everything of one face."""
    return [MarkerShape(name, number, action=Marker.DELETE) for name in NAMESPACES]


def mesh_removed(number: int) -> MarkerShape:
    """Delete the mesh of one face."""
    return MarkerShape("mesh", number, action=Marker.DELETE)


def all_removed() -> list[MarkerShape]:
    """Delete everything of all faces."""
    return [MarkerShape("", 0, action=Marker.DELETEALL)]


def encode_markers(shapes: Iterable[MarkerShape], header: ImageHeader) -> bytes:
    """Serialise markers as a MarkerArray with that stamp and frame_id."""
    shapes = list(shapes)
    writer = CdrWriter()
    writer.numbers("I", len(shapes))
    for shape in shapes:
        _write(writer, shape, header)
    return writer.finish()


def _write(writer: CdrWriter, shape: MarkerShape, header: ImageHeader) -> None:
    writer.header(header.sec, header.nanosec, header.frame_id)
    writer.string(shape.namespace)
    writer.numbers("i", shape.number, shape.kind, shape.action)
    writer.numbers("d", *shape.position_m, 0.0, 0.0, 0.0, 1.0)
    writer.numbers("d", *shape.scale_xyz)
    writer.numbers("f", *shape.rgba)
    whole_s, part_s = divmod(shape.lifetime_s, 1)
    writer.numbers("i", int(whole_s))
    writer.numbers("I", int(part_s * NS_PER_S))
    writer.numbers("B", 0)  # frame_locked
    writer.sequence(np.asarray(shape.points_m, np.float64))
    writer.sequence(np.asarray(shape.colors_rgba, np.float32))
    writer.string("")  # texture_resource
    writer.header(0, 0, "")  # texture
    writer.string("")
    writer.numbers("I", 0)
    writer.numbers("I", 0)  # uv_coordinates
    writer.string(shape.text)
    writer.string("")  # mesh_resource
    writer.string("")  # mesh_file
    writer.numbers("I", 0)
    writer.numbers("B", 0)  # mesh_use_embedded_materials
