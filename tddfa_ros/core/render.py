"""Pictures of fitted faces, all read off one visibility pass.

:meth:`Renderer.frame` says what to render, and costs nothing. The first picture asked of the
:class:`RenderedFrame` runs the pass (nearest triangle and weights at each pixel); every further
one only interpolates. Buffers are kept between frames.

Meshes are in image space: pixels, x to the right, y down, z larger = nearer to the camera. Where a
mesh has its z = 0 says nothing: of two faces, the larger one is taken for the nearer.
"""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Sequence
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tddfa_native.rasterize import (
    LARGEST_SIDE,
    Lighting,
    MeshTopology,
    VisibilityBuffer,
    sample_bilinear,
    vertex_light,
    vertex_normals,
)

from tddfa_ros.core.errors import ImageError, TddfaError
from tddfa_ros.core.image import require_bgr_image
from tddfa_ros.core.texture_layout import TextureLayout

if TYPE_CHECKING:
    from tddfa_ros.core.face_model import FaceModel

__all__ = ["Lighting", "RenderedFrame", "Renderer", "id_color_bgr"]

OVERLAY_ALPHA = 0.6
# One dense point drawn for so many visible pixels: a texture of points, not a blot.
_PIXELS_PER_POINT = 9.0
# Every so many vertices tell how large a mesh is.
_SIZE_STEP = 16


def id_color_bgr(face_id: str) -> tuple[int, int, int]:
    """Colour of a face, the same whenever and wherever that id is drawn; 0 to 255 each."""
    hue = zlib.crc32(face_id.encode()) / 2**32
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)


class Renderer:
    """Renders the faces of one face model; keep it for the whole stream.

    Serves one thread, as its buffers are shared by all its frames.

    Parameters
    ----------
    face_model : arrays of a model set
    lighting : of the lit overlay; that of 3DDFA_V2 by default
    """

    def __init__(self, face_model: FaceModel, lighting: Lighting | None = None) -> None:
        self.face_model = face_model
        self.lighting = lighting or Lighting()
        self.topology = MeshTopology(face_model.triangles, len(face_model.mean))
        self.texture_layout = TextureLayout(face_model, self.topology)
        self.pncc = _normalised_coordinates(face_model)
        self.uv_bgr = np.ones((len(face_model.uv), 3), np.float32)
        self.uv_bgr[:, :0:-1] = face_model.uv
        self._buffer = VisibilityBuffer(1, 1)
        self._drawn: RenderedFrame | None = None

    def frame(
        self,
        image_bgr: np.ndarray,
        vertices: Sequence[np.ndarray],
        ids: Sequence[str] = (),
    ) -> RenderedFrame:
        """Describe a frame to render.

        Parameters
        ----------
        image_bgr : (height, width, 3) uint8, never changed
        vertices : for each face (n, 3) float32, image space
        ids : for each face its id, for colours

        Raises
        ------
        ImageError
            The image is not BGR uint8, empty, or wider or higher than ``LARGEST_SIDE``.
        TddfaError
            Vertices of another face model, or not one id a face.
        """
        image = require_bgr_image(image_bgr)
        if max(image.shape[:2]) > LARGEST_SIDE:
            raise ImageError(
                f"image of {image.shape[1]}x{image.shape[0]} pixels: can be rendered up to "
                f"{LARGEST_SIDE} a side; scale it down"
            )
        count = len(self.face_model.mean)
        meshes = [np.ascontiguousarray(mesh, np.float32) for mesh in vertices]
        for mesh in meshes:
            if mesh.shape != (count, 3):
                raise TddfaError(
                    f"vertices of shape {mesh.shape}: the face model has ({count}, 3); take both "
                    "from one model set"
                )
        if ids and len(ids) != len(meshes):
            raise TddfaError(f"{len(ids)} ids for {len(meshes)} faces; give one each, or none")
        return RenderedFrame(self, image, meshes, list(ids) or [""] * len(meshes))

    def outward_normals(self, vertices: np.ndarray) -> np.ndarray:
        """Unit normals of a mesh in axes with y up, (n, 3) float32, for export."""
        return vertex_normals(vertices, self.topology)

    def _visibility(self, frame: RenderedFrame) -> VisibilityBuffer:
        """Run the pass for a frame unless the buffer still holds it."""
        if self._drawn is not frame:
            height, width = frame.image_bgr.shape[:2]
            if (self._buffer.height, self._buffer.width) != (height, width):
                self._buffer = VisibilityBuffer(height, width)
            self._buffer.clear()
            for mesh in frame.drawn:
                self._buffer.draw(mesh, self.topology)
            self._drawn = frame
        return self._buffer


class RenderedFrame:
    """The pictures of one frame, each made when asked for. From :meth:`Renderer.frame`.

    Attributes
    ----------
    image_bgr : (height, width, 3) uint8
    vertices : list of (n, 3) float32, image space
    ids : list of str
    """

    def __init__(
        self,
        renderer: Renderer,
        image_bgr: np.ndarray,
        vertices: list[np.ndarray],
        ids: list[str],
    ) -> None:
        self.image_bgr = image_bgr
        self.vertices = vertices
        self.ids = ids
        self._renderer = renderer
        self._normals: list[np.ndarray | None] = [None] * len(vertices)
        self._seen: list[np.ndarray | None] = [None] * len(vertices)
        self._shown: list[np.ndarray | None] = [None] * len(vertices)

    @cached_property
    def drawn(self) -> list[np.ndarray]:
        """The meshes with those of nearer faces moved along z before all of farther ones."""
        return _one_before_the_other(self.vertices)

    def overlay(
        self,
        canvas_bgr: np.ndarray | None = None,
        *,
        alpha: float = OVERLAY_ALPHA,
        flat: bool = False,
    ) -> np.ndarray:
        """Blend the faces into the image: lit in grey, or each flat in the colour of its id.

        Parameters
        ----------
        canvas_bgr : (height, width, 3) uint8 to draw into; a copy of the image by default
        alpha : 0 keeps the image, 1 covers it
        flat : colours of the ids without light

        Returns
        -------
        The canvas.
        """
        canvas = self.image_bgr.copy() if canvas_bgr is None else canvas_bgr
        buffer = self._pass()
        for face, mesh in enumerate(self.drawn):
            if flat:
                tint = tuple(part / 255 for part in id_color_bgr(self.ids[face]))
                buffer.blend(face, None, canvas, alpha=alpha, tint=tint)
                continue
            light = vertex_light(
                mesh,
                self._renderer.topology,
                self._shown_vertices(face),
                buffer.extent(face),
                self._renderer.lighting,
            )
            buffer.blend(face, light, canvas, alpha=alpha)
        return canvas

    def depth_view(self) -> np.ndarray:
        """Relative depth to look at, (height, width) uint8; near is bright, 0 without a face.

        From 0 at each face's farthest vertex to 255 at its nearest one, rounded down as in
        3DDFA_V2: a pixel has 254 at most, 255 only if it meets that vertex; the farthest may be 0.
        """
        buffer = self._pass()
        out = np.zeros(self.image_bgr.shape[:2], np.uint8)
        for face in range(len(self.vertices)):
            low, high = (float(z) for z in buffer.extent(face)[:, 2])
            scale = 255.0 / (high - low) if high > low else 0.0
            buffer.depth_into(face, out, scale=scale, offset=-low * scale)
        return out

    def depth_metric(self, depths_m: Sequence[np.ndarray]) -> np.ndarray:
        """Depth image of REP-118: (height, width) float32, metres along z, NaN without a face.

        Parameters
        ----------
        depths_m : for each face (n,) float, each vertex's z in the camera's optical frame, as a
            metric pose gives it. Interpolated linearly in the image.
        """
        if len(depths_m) != len(self.vertices):
            raise TddfaError(f"depths of {len(depths_m)} faces for {len(self.vertices)} faces")
        out = np.full((*self.image_bgr.shape[:2], 1), np.nan, np.float32)
        self._interpolate(depths_m, out)
        return out[..., 0]

    def pncc(self) -> np.ndarray:
        """Projected normalised coordinate code, (height, width, 3) uint8.

        The place on the mean face, each axis scaled to 0 to 255; channel 0 is x (to the subject's
        left), 1 is y (up), 2 is z (out of the face). Zhu et al., CVPR 2016.
        """
        out = np.zeros_like(self.image_bgr)
        return self._interpolate([self._renderer.pncc] * len(self.vertices), out, scale=255.0)

    def normals(self) -> np.ndarray:
        """Surface normals, (height, width, 3) uint8 BGR; 0 where there is no face.

        Red is x to the right, green y up, blue z towards the viewer; -1 to 1 is 1 to 255.
        """
        out = np.zeros_like(self.image_bgr)
        normals = [
            self._vertex_normals(face, shown_only=True) for face in range(len(self.vertices))
        ]
        # Half a step is added because the kernel truncates.
        self._interpolate(normals, out, scale=np.array([127.0, -127.0, 127.0]), offset=128.5)
        x0, y0, x1, y1 = self._pass().window_xyxy()
        if x1 > x0 and y1 > y0:
            window = out[y0:y1, x0:x1]
            window[:] = cv2.cvtColor(window, cv2.COLOR_RGB2BGR)
        return out

    def uv(self) -> np.ndarray:
        """Texture coordinates to look at, (height, width, 3) uint8 BGR: red u, green v, blue 255.

        Pixels without a face are 0 throughout.
        """
        out = np.zeros_like(self.image_bgr)
        codes = [self._renderer.uv_bgr] * len(self.vertices)
        return self._interpolate(codes, out, scale=255.0, offset=0.5)

    def uv_coordinates(self) -> np.ndarray:
        """Texture coordinates u and v (up) of each pixel, (height, width, 2) float32, else NaN."""
        out = np.full((*self.image_bgr.shape[:2], 2), np.nan, np.float32)
        return self._interpolate([self._renderer.face_model.uv] * len(self.vertices), out)

    def face_index(self) -> np.ndarray:
        """Tell which face is nearest, (height, width) int16: its place in `vertices`, -1 none."""
        return self._pass().face.copy()

    def seen(self, face: int) -> np.ndarray:
        """How well the camera sees each vertex of a face.

        Returns
        -------
        (n,) float32: cosine of the angle between the vertex's normal and the line of sight; 0 if it
        faces away, is hidden or lies outside the image. Read-only.
        """
        known = self._seen[face]
        if known is None:
            known = self._pass().seen_vertices(self.drawn[face], self._vertex_normals(face))
            known.flags.writeable = False
            self._seen[face] = known
        return known

    def visible_vertices(self, face: int) -> np.ndarray:
        """Tell which vertices the camera sees, (n,) bool."""
        return self.seen(face) > 0

    def landmark_visibility(self, face: int) -> np.ndarray:
        """Tell which landmarks the camera sees, (68,) float32: 1 seen, 0 not.

        Hidden are those that face away, lie behind the face or behind another one, or outside the
        image.
        """
        model = self._renderer.face_model
        corners = self.seen(face)[model.triangles[model.landmark_triangles]]
        return ((corners * model.landmark_weights).sum(axis=1) > 0).astype(np.float32)

    def vertex_colors_bgr(self, face: int) -> np.ndarray:
        """Return the image's colour at each vertex, hidden or not, (n, 3) uint8."""
        sampled = sample_bilinear(self.image_bgr, self.vertices[face][:, :2])
        return np.rint(sampled).astype(np.uint8)

    def texture(
        self, face: int, size: int, *, least_facing: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take the texture of a face from the image, where the camera sees it.

        Parameters
        ----------
        face : its place in `vertices`
        size : texels a side
        least_facing : cosine between normal and line of sight from which a texel counts as seen

        Returns
        -------
        texture : (size, size, 4) uint8 BGRA, alpha 255 where seen, else all 0
        weight : (size, size) float32, that cosine where seen, else 0
        """
        return self._renderer.texture_layout.unwrapped((size, size)).bake(
            self._pass(),
            self.drawn[face],
            self._vertex_normals(face),
            self.image_bgr,
            threshold=least_facing,
        )

    def dense_points(self, face: int) -> np.ndarray:
        """Pick visible vertices to draw, one for each nine visible pixels at most.

        Returns
        -------
        (k, 2) float32, pixels
        """
        x0, y0, x1, y1 = self._pass().window_xyxy(face)
        points = self.vertices[face][self.visible_vertices(face), :2]
        pixels = np.count_nonzero(self._pass().face[y0:y1, x0:x1] == face)
        return points[:: max(1, ceil(len(points) * _PIXELS_PER_POINT / max(pixels, 1)))]

    def _pass(self) -> VisibilityBuffer:
        return self._renderer._visibility(self)

    def _vertex_normals(self, face: int, *, shown_only: bool = False) -> np.ndarray:
        """(n, 3) float32 outward unit normals in image space, at least of what pixels show."""
        known = self._normals[face]
        if known is None:
            chosen = self._shown_vertices(face) if shown_only else None
            mesh, topology = self.vertices[face], self._renderer.topology
            known = vertex_normals(mesh, topology, y_down=True, chosen=chosen)
            if not shown_only:
                self._normals[face] = known
        return known

    def _shown_vertices(self, face: int) -> np.ndarray:
        """(k,) int32 vertices of the triangles that a pixel shows."""
        known = self._shown[face]
        if known is None:
            known = self._shown[face] = self._pass().shown_vertices(face)
        return known

    def _interpolate(
        self,
        attributes: Sequence[np.ndarray],
        out: np.ndarray,
        scale: float | np.ndarray = 1.0,
        offset: float = 0.0,
    ) -> np.ndarray:
        buffer = self._pass()
        for face, rows in enumerate(attributes):
            buffer.interpolate(face, rows, out, scale=scale, offset=offset)
        return out


def _one_before_the_other(meshes: list[np.ndarray]) -> list[np.ndarray]:
    """Meshes with depths that can be compared: heads are about equal, so the larger is nearer."""
    if len(meshes) < 2:
        return meshes
    sizes = [float(np.linalg.norm(mesh[::_SIZE_STEP].std(axis=0))) for mesh in meshes]
    placed, front = list(meshes), 0.0
    for face in sorted(range(len(meshes)), key=sizes.__getitem__):
        low, high = float(meshes[face][:, 2].min()), float(meshes[face][:, 2].max())
        if not np.isfinite(high - low):
            continue
        placed[face] = meshes[face] + np.array([0, 0, front - low], np.float32)
        front += high - low + 1.0
    return placed


def _normalised_coordinates(face_model: FaceModel) -> np.ndarray:
    """(n, 3) float32 in [0, 1]: the model set's own code, or else the mean face's, axis by axis."""
    if face_model.pncc is not None:
        return face_model.pncc
    mean = face_model.mean
    return (mean - mean.min(axis=0)) / np.ptp(mean, axis=0).clip(1e-9)
