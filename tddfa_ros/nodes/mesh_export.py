"""The service ``~/export_mesh``: meshes of the newest image's faces as files, beside the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from builtin_interfaces.msg import Time

from tddfa_msgs.srv import ExportMesh
from tddfa_ros.core.errors import ExportError, TddfaError
from tddfa_ros.core.export_folder import path_below
from tddfa_ros.core.mesh_io import FORMATS, POSES, write_mesh
from tddfa_ros.core.metric import MetricFaces
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.outputs import Scene
from tddfa_ros.core.render import Renderer
from tddfa_ros.core.types import Face
from tddfa_ros.nodes.processing_errors import PROCESSING_ERRORS
from tddfa_ros.nodes.raw_image import ImageHeader

DEFAULT_POSE = "own"
_WITH_TEXTURE = (".obj", ".glb")


@dataclass(frozen=True)
class FittedImage:
    """An image and what was fitted in it.

    Attributes
    ----------
    header : of the image
    image_bgr : (height, width, 3) uint8, never drawn into
    faces : by descending area
    """

    header: ImageHeader
    image_bgr: np.ndarray
    faces: tuple[Face, ...]


class MeshExporter:
    """Writes meshes in the thread that asks, with buffers of its own.

    Parameters
    ----------
    model : of the pipeline
    export_dir : folder below which files are written
    texture_size : texels a side
    head_width_m : see :class:`tddfa_ros.core.metric.MetricFaces`
    """

    def __init__(
        self, model: MorphableModel, export_dir: str, texture_size: int, head_width_m: float
    ) -> None:
        self._model = model
        self.configure(export_dir, texture_size, head_width_m)

    def configure(self, export_dir: str, texture_size: int, head_width_m: float) -> None:
        """Take over settings; an export that runs keeps the old ones."""
        self._settings = (export_dir, texture_size, MetricFaces(self._model, head_width_m))

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self._model.face_model)

    def answer(
        self, newest: FittedImage | None, request: ExportMesh.Request, response: ExportMesh.Response
    ) -> ExportMesh.Response:
        """Fill the answer of the service; what goes wrong is its message."""
        try:
            if newest is None:
                raise ExportError("no image was processed yet; ask again when images come")
            self._export(newest, request, response)
        except TddfaError as error:
            response.message = str(error)
        except PROCESSING_ERRORS as error:
            response.message = f"the export failed: {error!r}"
        response.success = not response.message
        return response

    def _export(
        self, newest: FittedImage, request: ExportMesh.Request, response: ExportMesh.Response
    ) -> None:
        export_dir, texture_size, metric = self._settings
        header = newest.header
        response.stamp = Time(sec=header.sec, nanosec=header.nanosec)
        suffix = f".{request.format}"
        if suffix not in FORMATS:
            listed = ", ".join(known[1:] for known in FORMATS)
            raise ExportError(f"format {request.format!r} is not one of {listed}")
        pose = request.pose or DEFAULT_POSE
        if pose not in POSES:
            raise ExportError(f"pose {pose!r} is not one of {', '.join(POSES)}")
        index = _index_of(request.face_id, newest.faces)
        stamp = f"{header.sec}_{header.nanosec:09d}"
        name = request.file_name or f"face_{newest.faces[index].id}_{stamp}{suffix}"
        path = path_below(export_dir, name, suffix)
        scene = Scene(
            newest.image_bgr,
            newest.faces,
            self._renderer,
            self._model,
            texture_size=texture_size,
            mesh_pose=pose,
            metres_per_unit_of=metric.metres_per_unit,
        )
        mesh = scene.mesh(
            index,
            with_texture=request.texture and suffix in _WITH_TEXTURE,
            with_colors=request.texture and suffix == ".ply",
        )
        response.path = str(write_mesh(path, mesh)[0])
        response.vertex_count = len(mesh.vertices)
        response.triangle_count = len(mesh.triangles)


def _index_of(face_id: str, faces: Sequence[Face]) -> int:
    """Place of a face, by default of the first."""
    ids = [face.id for face in faces]
    if not ids:
        raise ExportError("no face in the newest image; ask again when there is one")
    if not face_id:
        return 0
    if face_id not in ids:
        raise ExportError(f"no face {face_id!r} in the newest image; there are {', '.join(ids)}")
    return ids.index(face_id)
