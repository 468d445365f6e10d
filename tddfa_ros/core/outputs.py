"""Everything that can be made of one fitted frame: a new output is a row of :data:`OUTPUTS`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from tddfa_ros.core import draw, mesh_io, texture
from tddfa_ros.core.atomic_file import replacing
from tddfa_ros.core.errors import ExportError
from tddfa_ros.core.image_encoding import file_bytes_of
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.render import RenderedFrame, Renderer
from tddfa_ros.core.types import Face, MorphableParams

DEFAULT_TEXTURE_SIZE = 512
JPEG_QUALITY = 95
LEAST_FACING = 0.3
"""Texels seen at a more grazing angle than acos of this show the background, not the face."""


class Scene:
    """One image and its fitted faces; what several outputs share is made once, when first needed.

    Parameters
    ----------
    image_bgr : (height, width, 3) uint8, never drawn into
    faces : what was fitted in it
    renderer, model : of the model set that fitted them
    vertices_of : gives the (n, 3) vertices of faces in image space; the model's by default
    texture_size : texels a side
    mesh_pose : place of exported meshes, one of :data:`tddfa_ros.core.mesh_io.POSES`
    metres_per_unit_of : gives the metres in a model unit for a fit, as
        :meth:`tddfa_ros.core.metric.MetricFaces.metres_per_unit`; the face model's own by default
    """

    def __init__(
        self,
        image_bgr: np.ndarray,
        faces: Sequence[Face],
        renderer: Renderer,
        model: MorphableModel,
        *,
        vertices_of: Callable[[Sequence[Face]], Sequence[np.ndarray]] | None = None,
        texture_size: int = DEFAULT_TEXTURE_SIZE,
        mesh_pose: str = "image",
        metres_per_unit_of: Callable[[MorphableParams], float] | None = None,
    ) -> None:
        self.image_bgr = image_bgr
        self.faces = tuple(faces)
        self.renderer = renderer
        self.model = model
        self.texture_size = texture_size
        self.mesh_pose = mesh_pose
        self._metres_per_unit_of = metres_per_unit_of or (
            lambda params: model.face_model.metres_per_unit
        )
        self._vertices_of = vertices_of or (
            lambda faces: list(model.vertices_batch([face.params for face in faces]))
        )

    @cached_property
    def frame(self) -> RenderedFrame:
        """The rendered frame; its vertices are computed here."""
        vertices = self._vertices_of(self.faces)
        return self.renderer.frame(self.image_bgr, vertices, [face.id for face in self.faces])

    def overlay(self, parts: Sequence[str]) -> np.ndarray:
        """Copy of the image with `parts` of :data:`OVERLAY_PARTS` over it, in that order."""
        canvas = self.image_bgr.copy()
        for part in parts:
            if part in ("mesh", "flat"):
                self.frame.overlay(canvas, flat=part == "flat")
            elif part == "dense":
                for face in range(len(self.faces)):
                    draw.draw_points(canvas, self.frame.dense_points(face))
            else:
                draw.draw_faces(canvas, self.faces, (part,))
        return canvas

    def texture_bgra(self, face: int) -> np.ndarray:
        """(size, size, 4) uint8: what is seen of a face, and its other half where it is not."""
        seen, _ = self.frame.texture(face, self.texture_size, least_facing=LEAST_FACING)
        mirror_map = self.renderer.texture_layout.mirror_map(self.texture_size)
        return texture.fill_mirrored(seen, mirror_map)

    def mesh(self, face: int, *, with_texture: bool, with_colors: bool) -> mesh_io.FaceMesh:
        """One face as a mesh to write, in ``mesh_pose``.

        Raises
        ------
        ExportError
            Unknown pose, or vertices that are not finite.
        """
        about, face_model = self.faces[face], self.model.face_model
        vertices = mesh_io.posed_vertices(
            self.mesh_pose,
            image_vertices=self.frame.vertices[face],
            model_vertices=self.model.model_vertices(about.params.shape, about.params.expression),
            image_height=self.image_bgr.shape[0],
            scale=about.pose.scale,
            metres_per_unit=self._metres_per_unit_of(about.params),
        )
        return mesh_io.face_mesh(
            vertices,
            face_model.triangles,
            self.renderer.outward_normals(vertices),
            uv=face_model.uv if with_texture else None,
            texture_bgr=texture.complete(self.texture_bgra(face)) if with_texture else None,
            colors_bgr=self.frame.vertex_colors_bgr(face) if with_colors else None,
        )


@dataclass(frozen=True)
class Output:
    """One kind of file; exactly one of `picture` and `mesh` is given.

    Attributes
    ----------
    description : for ``--help``
    suffix : of the file; ``.png`` where values must survive, ``.jpg`` for photos
    picture : makes the picture, (height, width), (height, width, 3 or 4) uint8
    mesh : makes the mesh of the face at that place in ``scene.faces``
    """

    description: str
    suffix: str
    picture: Callable[[Scene], np.ndarray] | None = None
    mesh: Callable[[Scene, int], mesh_io.FaceMesh] | None = None

    def files(self, path: Path, mesh_count: int) -> list[Path]:
        """Files that :meth:`write` may write, with so many meshes."""
        if self.picture is not None:
            return [path]
        paths = _numbered(path, mesh_count)
        return [file for mesh_path in paths for file in mesh_io.mesh_files(mesh_path)]

    def write(self, scene: Scene, path: Path) -> list[Path]:
        """Write the output; each file appears when it is complete.

        Parameters
        ----------
        scene : what to show
        path : ends in `suffix`. In pose "image" it holds all faces; in the others, where faces
            would lie in each other, the first, and each further one has its own file
            ``<stem>_2``, ``<stem>_3``, ... Meshes that an earlier picture had more are removed.

        Returns
        -------
        The files written; none for a mesh of no face.

        Raises
        ------
        ExportError
            A file cannot be written, or the picture is too large for its format.
        """
        if self.picture is not None:
            write_picture(path, self.picture(scene))
            return [path]
        if self.mesh is None:
            raise TypeError("an output has either a picture or a mesh")
        meshes = [self.mesh(scene, face) for face in range(len(scene.faces))]
        if meshes and scene.mesh_pose == "image":
            meshes = [mesh_io.merged(meshes)]
        written = []
        for mesh_path, mesh in zip(_numbered(path, len(meshes)), meshes, strict=True):
            written += mesh_io.write_mesh(mesh_path, mesh)
        _remove_meshes(path, len(meshes) + 1)
        return written


def _numbered(path: Path, count: int) -> list[Path]:
    return [_of_number(path, number) for number in range(1, count + 1)]


def _of_number(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}_{number}{path.suffix}")


def _remove_meshes(path: Path, first: int) -> None:
    """Remove meshes, but no texture: a picture of that name may be anybody's."""
    for number in itertools.count(first):
        mesh = _of_number(path, number)
        if not mesh.is_file():
            return
        try:
            mesh.unlink()
        except OSError as error:
            raise ExportError(
                f"{mesh}: of an earlier picture, cannot be removed ({error.strerror}); choose "
                "another folder"
            ) from error


def encode(picture: np.ndarray, suffix: str) -> bytes:
    """Picture as the content of a file with that suffix.

    Raises
    ------
    ExportError
        The picture is too large for the format.
    """
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == ".jpg" else []
    content = file_bytes_of(picture, suffix, quality)
    if content is None:
        height, width = picture.shape[:2]
        raise ExportError(
            f"a picture of {width}x{height} is too large for a {suffix} file; scale it down"
        )
    return content


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture in the format that the file's suffix names; it appears when complete.

    Raises
    ------
    ExportError
        The file cannot be written, or the picture is too large for its format.
    """
    try:
        content = encode(picture, path.suffix)
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise ExportError(
            f"{path}: cannot be written ({error.strerror}); choose another folder"
        ) from error


def _overlay_of(part: str) -> Callable[[Scene], np.ndarray]:
    return lambda scene: scene.overlay((part,))


def _textures(scene: Scene) -> np.ndarray:
    """Textures of all faces side by side, BGRA; one empty texture if there is no face."""
    textures = [scene.texture_bgra(face) for face in range(len(scene.faces))]
    return np.hstack(textures or [np.zeros((scene.texture_size, scene.texture_size, 4), np.uint8)])


def _mesh_with(*, textured: bool, coloured: bool) -> Callable[[Scene, int], mesh_io.FaceMesh]:
    return lambda scene, face: scene.mesh(face, with_texture=textured, with_colors=coloured)


OVERLAY_PARTS = ("mesh", "flat", "dense", *draw.OVERLAY_PARTS)
"""What :meth:`Scene.overlay` can draw."""
DEFAULT_OVERLAY = ("landmarks", "pose", "box", "id")

OUTPUTS = {
    "landmarks": Output("the 68 landmarks", ".jpg", _overlay_of("landmarks")),
    "dense": Output("visible vertices as points", ".jpg", _overlay_of("dense")),
    "mesh": Output("the lit mesh over the image", ".jpg", _overlay_of("mesh")),
    "flat": Output("each face flat in its own colour", ".jpg", _overlay_of("flat")),
    "pose": Output("axes of the head's orientation", ".jpg", _overlay_of("pose")),
    "frustum": Output("the head's orientation as a frustum", ".jpg", _overlay_of("frustum")),
    "box": Output("boxes of the faces", ".jpg", _overlay_of("box")),
    "depth": Output(
        "relative depth, near is bright", ".png", lambda scene: scene.frame.depth_view()
    ),
    "pncc": Output("place on the mean face as colour", ".png", lambda scene: scene.frame.pncc()),
    "normals": Output("surface normals as colour", ".png", lambda scene: scene.frame.normals()),
    "uv": Output("texture coordinates as colour", ".png", lambda scene: scene.frame.uv()),
    "texture": Output("unwrapped texture, alpha where it is known", ".png", _textures),
    "ply": Output(
        "mesh with vertex colours, binary", ".ply", mesh=_mesh_with(textured=False, coloured=True)
    ),
    "obj": Output(
        "mesh with texture, .mtl and .png beside it",
        ".obj",
        mesh=_mesh_with(textured=True, coloured=False),
    ),
    "glb": Output("mesh with texture", ".glb", mesh=_mesh_with(textured=True, coloured=False)),
    "stl": Output("mesh without colour", ".stl", mesh=_mesh_with(textured=False, coloured=False)),
}
"""Name -> output, as ``--outputs`` takes them; files are named ``<stem>_<name><suffix>``."""
