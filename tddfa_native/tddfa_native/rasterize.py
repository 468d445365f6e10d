"""Visibility of triangle meshes, and what can be read off it, on one thread.

One pass says for each pixel centre which triangle of which face is nearest and with which
barycentric weights (:class:`VisibilityBuffer`). Every picture of a face is interpolated from that.

Image space throughout: pixel centres at integers, x to the right, y down, z in pixels and larger =
nearer to the camera. Triangles count as front faces when they run counter-clockwise to the viewer.
"""

from __future__ import annotations

import numpy as np

from tddfa_native import _rasterize_cy as _cy
from tddfa_native.instructions import select_instructions
from tddfa_native.mesh import Lighting, MeshTopology, vertex_light, vertex_normals
from tddfa_native.sampling import check_bytes, sample_bilinear

__all__ = [
    "LARGEST_SIDE",
    "MOST_FACES",
    "Lighting",
    "MeshTopology",
    "VisibilityBuffer",
    "sample_bilinear",
    "select_instructions",
    "vertex_light",
    "vertex_normals",
]

LARGEST_SIDE = 32767
"""Most pixels of a buffer's width or height."""
MOST_FACES = 32767
"""Most meshes in one buffer."""

_PIXEL = np.dtype([("depth", "f4"), ("triangle", "i4"), ("weights", "f4", (2,))])


class VisibilityBuffer:
    """Nearest triangle, weights and depth at each pixel centre of an image.

    Draw any number of meshes; at each pixel the nearest stays (of equally near ones the first).
    :meth:`clear` costs only as much as was drawn on, so keep the buffer between frames.

    Parameters
    ----------
    height, width : pixels, 1 to ``LARGEST_SIDE``

    Attributes
    ----------
    face : (height, width) int16, counted from 0 in the order of drawing, -1 where empty

    Notes
    -----
    Of 18 bytes a pixel, 2 (`face`) are taken at once, the others row by row as faces come to lie
    there: a face in a picture of 48 megapixels needs 96 MB and the rows that it covers.
    """

    def __init__(self, height: int, width: int) -> None:
        if not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
            raise ValueError(f"size {height}x{width}: each side must be 1 to {LARGEST_SIDE}")
        self.height, self.width = int(height), int(width)
        self._pixels = np.empty((height, width, 4), np.float32)
        self.face = np.empty((height, width), np.int16)
        self.face.fill(-1)
        self._row_ready = np.zeros(height, bool)
        self._windows: list[tuple[int, int, int, int]] = []
        self._extents: list[np.ndarray] = []
        self._topologies: list[MeshTopology] = []
        self._points = np.empty((0, 2), np.float32)
        self._cells = np.empty(0, np.uint32)
        self._scratch = np.empty(0, np.int32)
        self._marks = np.empty(0, np.uint8)
        self._list = np.empty(1, np.int32)

    @property
    def face_count(self) -> int:
        """Number of meshes drawn since the last :meth:`clear`."""
        return len(self._windows)

    @property
    def triangle(self) -> np.ndarray:
        """(height, width) int32 view: index in the face's own topology, -1 where empty."""
        return self._field("triangle")

    @property
    def weights(self) -> np.ndarray:
        """(height, width, 2) float32 view: weights of the triangle's second and third corner.

        That of the first is one minus both. 0 where empty.
        """
        return self._field("weights")

    @property
    def depth(self) -> np.ndarray:
        """(height, width) float32 view: interpolated z, -inf where empty."""
        return self._field("depth")

    def window_xyxy(self, face: int | None = None) -> tuple[int, int, int, int]:
        """Half-open rectangle of pixels outside which `face` (or every face) drew nothing."""
        windows = self._windows if face is None else [self._windows[self._drawn(face)]]
        windows = [w for w in windows if w[0] < w[2] and w[1] < w[3]]
        if not windows:
            return 0, 0, 0, 0
        x0, y0, x1, y1 = zip(*windows, strict=True)
        return min(x0), min(y0), max(x1), max(y1)

    def extent(self, face: int) -> np.ndarray:
        """Return the least and the largest coordinates of a face's vertices, (2, 3) float32."""
        return self._extents[self._drawn(face)]

    def _drawn(self, face: int) -> int:
        """`face` if it is one; to the kernels -1 would be the pixels that show none."""
        if not 0 <= face < self.face_count:
            raise ValueError(f"face {face}: the buffer holds {self.face_count}, counted from 0")
        return face

    def clear(self) -> None:
        """Forget every face."""
        for window in self._windows:
            _cy.clear(self._pixels, self.face, window)
        self._windows.clear()
        self._extents.clear()
        self._topologies.clear()

    def draw(
        self, vertices: np.ndarray, topology: MeshTopology, *, cull_back_faces: bool = False
    ) -> int:
        """Add a mesh and return its face index.

        Coordinates are rounded to 2**-10 px. A pixel centre on an edge belongs to the triangle of
        which the edge is a left or a top one (top-left rule), so meshes have neither cracks nor
        pixels drawn twice. Triangles with no area, or with a corner that is not finite or more
        than 2**30 px away, are not drawn.

        Parameters
        ----------
        vertices : (n, 3) float32, image space
        topology : the mesh's triangles
        cull_back_faces : leave out triangles that face away; by default they count like others

        Raises
        ------
        ValueError
            Wrong shape of the vertices, or too many faces.
        """
        vertices = topology.check_vertices(vertices)
        if self.face_count >= MOST_FACES:
            raise ValueError(f"more than {MOST_FACES} faces in one buffer; clear it first")
        if len(self._cells) < len(vertices):
            self._points = np.empty((len(vertices), 2), np.float32)
            self._cells = np.empty(len(vertices), np.uint32)
        needed = 3 * (len(topology.triangles) + _cy.SCRATCH_MARGIN)
        if len(self._scratch) < needed:
            self._scratch = np.empty(needed, np.int32)
        face = self.face_count
        extent = np.empty((2, 3), np.float32)
        window = _cy.prepare(vertices, self._points, self._cells, self.height, self.width, extent)
        self._make_ready(window[1], window[3])
        _cy.draw(
            vertices,
            topology.columns,
            self._points,
            self._cells,
            self._scratch,
            face,
            bool(cull_back_faces),
            self._pixels,
            self.face,
        )
        self._windows.append(window)
        self._extents.append(extent)
        self._topologies.append(topology)
        return face

    def shown_vertices(self, face: int) -> np.ndarray:
        """Return the vertices of the triangles that show `face`, (k,) int32, ascending."""
        topology = self._topologies[self._drawn(face)]
        if len(self._marks) < topology.vertex_count:
            self._marks = np.empty(topology.vertex_count, np.uint8)
            self._list = np.empty(topology.vertex_count + 1, np.int32)
        count = _cy.shown(
            self._pixels,
            self.face,
            self._windows[face],
            face,
            topology.triangles,
            topology.vertex_count,
            self._marks,
            self._list,
        )
        return self._list[:count].copy()

    def seen_vertices(
        self, vertices: np.ndarray, normals: np.ndarray, tolerance: float = 0.25
    ) -> np.ndarray:
        """Tell which vertices of a drawn mesh the camera sees: facing it, in the image, in front.

        Parameters
        ----------
        vertices : (n, 3) float32, as drawn
        normals : (n, 3) float32, unit, outwards, of image space
        tolerance : pixels of depth by which a vertex may lie behind what is visible there

        Returns
        -------
        (n,) float32: z of the normal (1 = faces the camera) where seen, else 0
        """
        vertices = np.ascontiguousarray(vertices, np.float32)
        normals = np.ascontiguousarray(normals, np.float32)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or vertices.shape != normals.shape:
            raise ValueError(
                f"vertices, normals: expected (n, 3) both, got {vertices.shape}, {normals.shape}"
            )
        seen = np.zeros(len(vertices), np.float32)
        if len(vertices):
            _cy.seen(self._pixels, self.face, vertices, normals, float(tolerance), seen)
        return seen

    def blend(
        self,
        face: int,
        light: np.ndarray | None,
        image: np.ndarray,
        *,
        alpha: float = 0.6,
        tint: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> None:
        """Blend a face into `image`: ``image * (1 - alpha) + light * tint * alpha``.

        Parameters
        ----------
        face : index that :meth:`draw` returned
        light : (n,) float32 at each vertex, clipped to 0..255; None for a flat 255
        image : (height, width, 3) uint8, C-contiguous, changed where the face is visible
        alpha : 0 keeps the image, 1 covers it
        tint : colour of the light in the image's channels, each 0 to 1
        """
        topology = self._topologies[self._drawn(face)]
        check_bytes(image, (self.height, self.width, 3))
        if not image.flags.writeable:
            raise ValueError("image: must be writeable; pass a copy")
        if light is not None:
            light = np.ascontiguousarray(light, np.float32)
            if light.shape != (topology.vertex_count,):
                raise ValueError(f"light: expected ({topology.vertex_count},), got {light.shape}")
        colour = np.array(tint, np.float32)
        if colour.shape != (3,) or not 0 <= colour.min() <= colour.max() <= 1:
            raise ValueError(f"tint={tint}: expected three numbers in [0, 1]")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha}: expected 0 to 1")
        _cy.blend(
            self._pixels,
            self.face,
            self._windows[face],
            face,
            topology.triangles,
            light,
            colour,
            alpha,
            image,
        )

    def interpolate(
        self,
        face: int,
        attributes: np.ndarray,
        out: np.ndarray | None = None,
        *,
        scale: float | np.ndarray = 1.0,
        offset: float | np.ndarray = 0.0,
    ) -> np.ndarray:
        """Write ``scale * attribute + offset`` to the pixels that show `face`.

        Parameters
        ----------
        face : index that :meth:`draw` returned
        attributes : (n, k) float32, or (n,), one row a vertex
        out : (height, width, k), float32 or uint8 (clipped to 0..255 and truncated); other pixels
            are left alone. Zeros of float32 by default.
        scale, offset : one number, or (k,)

        Returns
        -------
        `out`
        """
        topology = self._topologies[self._drawn(face)]
        attributes = np.ascontiguousarray(attributes, np.float32)
        if attributes.ndim == 1:
            attributes = attributes[:, None]
        if attributes.ndim != 2 or len(attributes) != topology.vertex_count:
            raise ValueError(
                f"attributes: expected shape ({topology.vertex_count}, k), got {attributes.shape}"
            )
        channels = attributes.shape[1]
        if out is None:
            out = np.zeros((self.height, self.width, channels), np.float32)
        if out.shape != (self.height, self.width, channels) or not out.flags.c_contiguous:
            raise ValueError(
                f"out: expected C-contiguous ({self.height}, {self.width}, {channels}), "
                f"got {out.shape}"
            )
        if out.dtype not in (np.float32, np.uint8):
            raise ValueError(f"out: expected float32 or uint8, got {out.dtype}")
        kernel = _cy.interpolate_byte if out.dtype == np.uint8 else _cy.interpolate_float
        kernel(
            self._pixels,
            self.face,
            self._windows[face],
            face,
            topology.triangles,
            attributes,
            np.array(np.broadcast_to(scale, channels), np.float32),
            np.array(np.broadcast_to(offset, channels), np.float32),
            out,
        )
        return out

    def depth_into(
        self, face: int, out: np.ndarray, *, scale: float = 1.0, offset: float = 0.0
    ) -> None:
        """Write ``scale * depth + offset``, clipped to 0..255 and truncated, where `face` shows.

        Parameters
        ----------
        face : index that :meth:`draw` returned
        out : (height, width) uint8, C-contiguous; other pixels are left alone
        """
        if out.shape != (self.height, self.width) or out.dtype != np.uint8:
            raise ValueError(
                f"out: expected ({self.height}, {self.width}) uint8, got {out.shape} {out.dtype}"
            )
        window = self._windows[self._drawn(face)]
        _cy.depth_byte(self._pixels, self.face, window, face, scale, offset, out)

    def bake(
        self,
        view: VisibilityBuffer,
        vertices: np.ndarray,
        normals: np.ndarray,
        image: np.ndarray,
        *,
        threshold: float = 0.0,
        tolerance: float = 0.25,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take the colour of each texel from an image; this buffer holds the unwrapped mesh.

        Draw the mesh once with its texture coordinates for x and y and a constant z; the buffer
        then serves every frame.

        Parameters
        ----------
        view : what the image shows, of its size
        vertices : (n, 3) float32, as drawn there
        normals : (n, 3) float32, unit, outwards, of image space
        image : (rows, columns, 3) uint8, C-contiguous
        threshold : a texel that nothing hides is seen where the z of its normal exceeds it
        tolerance : pixels of depth by which a texel may lie behind what is visible there

        Returns
        -------
        texture : (height, width, 4) uint8, the image's channels and alpha, 255 where seen, else 0
        weight : (height, width) float32, the interpolated z of the normals there, else 0
        """
        if self.face_count != 1:
            raise ValueError(f"{self.face_count} meshes drawn; a texture is baked from one")
        topology = self._topologies[0]
        vertices = topology.check_vertices(vertices)
        normals = topology.check_vertices(normals, "normals")
        check_bytes(image, (view.height, view.width, 3))
        texture = np.empty((self.height, self.width, 4), np.uint8)
        weight = np.empty((self.height, self.width), np.float32)
        _cy.bake(
            self._pixels,
            self.face,
            topology.triangles,
            vertices,
            normals[:, 2].copy(),
            threshold,
            view._pixels,
            view.face,
            tolerance,
            image,
            texture,
            weight,
        )
        return texture, weight

    def _make_ready(self, first: int, end: int) -> None:
        """Empty the rows from `first` to before `end` that were never used."""
        for row in np.flatnonzero(~self._row_ready[first:end]).tolist():
            _cy.clear(self._pixels, self.face, (0, first + row, self.width, first + row + 1))
        self._row_ready[first:end] = True

    def _field(self, name: str) -> np.ndarray:
        self._make_ready(0, self.height)
        return self._pixels.view(_PIXEL)[..., 0][name]
