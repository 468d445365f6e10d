"""Visibility of triangle meshes, and what can be read off it, on one thread.

One pass says for each pixel centre which triangle of which face is nearest and with which
barycentric weights (:class:`VisibilityBuffer`). Every picture of a face is interpolated from that.

Image space throughout: pixel centres at integers, x to the right, y down, z in pixels and larger =
nearer to the camera. Triangles count as front faces when they run counter-clockwise to the viewer.
"""

from __future__ import annotations

import numpy as np

from tddfa_native import _rasterize_cy as _cy

LARGEST_SIDE = 32767
"""Most pixels of a buffer's width or height."""
MOST_FACES = 32767
"""Most meshes in one buffer."""

_PIXEL = np.dtype([("depth", "f4"), ("triangle", "i4"), ("weights", "f4", (2,))])


def select_instructions(most: str = "avx512") -> str:
    """Limit the instruction set, for tests; returns what is used.

    Parameters
    ----------
    most : "portable", "avx2" or "avx512"
    """
    names = ("portable", "avx2", "avx512")
    if most not in names:
        raise ValueError(f"most={most!r}: expected one of {', '.join(names)}")
    return names[_cy.select_instructions(names.index(most))]


class MeshTopology:
    """The triangles of a mesh, checked once and laid out for the kernels. Immutable.

    Parameters
    ----------
    triangles : (m, 3) int, counter-clockwise seen from outside
    vertex_count : number of vertices n >= 1 of every mesh that is drawn with it

    Attributes
    ----------
    triangles : (m, 3) int32
    columns : (3, m) int32, the same, corner by corner
    vertex_count : int

    Raises
    ------
    ValueError
        Wrong shape, no triangle, or an index outside [0, vertex_count).
    """

    def __init__(self, triangles: np.ndarray, vertex_count: int) -> None:
        given = np.asarray(triangles)
        if given.ndim != 2 or given.shape[1] != 3 or not len(given):
            raise ValueError(f"triangles: expected shape (m, 3) with m >= 1, got {given.shape}")
        if not np.issubdtype(given.dtype, np.integer):
            raise ValueError(f"triangles: expected integers, got {given.dtype}")
        if not 1 <= vertex_count < 2**31:
            raise ValueError(f"vertex_count={vertex_count}: expected 1 to 2**31 - 1")
        if given.min() < 0 or given.max() >= vertex_count:
            raise ValueError(
                f"triangles: indices {given.min()} to {given.max()}, but there are "
                f"{vertex_count} vertices"
            )
        self.triangles = np.array(given, np.int32, order="C")
        self.columns = np.ascontiguousarray(self.triangles.T)
        self.vertex_count = int(vertex_count)
        self._offsets = np.empty(vertex_count + 1, np.int32)
        self._rings = np.empty((3 * len(given), 2), np.int32)
        _cy.rings(self.triangles, self._offsets, self._rings)
        for array in (self.triangles, self.columns, self._offsets, self._rings):
            array.flags.writeable = False

    def check_vertices(self, vertices: np.ndarray) -> np.ndarray:
        """Return `vertices` as C-contiguous (n, 3) float32, or raise ValueError."""
        vertices = np.ascontiguousarray(vertices, np.float32)
        if vertices.shape != (self.vertex_count, 3):
            raise ValueError(
                f"vertices: expected shape ({self.vertex_count}, 3), got {vertices.shape}"
            )
        return vertices


def vertex_normals(
    vertices: np.ndarray,
    topology: MeshTopology,
    *,
    y_down: bool = False,
    chosen: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Return unit normals: the area-weighted mean of the triangles around each vertex.

    Parameters
    ----------
    vertices : (n, 3) float32
    topology : the mesh's triangles
    y_down : True for vertices of image space, which is left-handed; normals point outwards then too
    chosen : (k,) int32, only these vertices; all by default
    out : (n, 3) float32 to write into; only rows of chosen vertices are touched

    Returns
    -------
    (n, 3) float32; zero where no triangle with an area touches the vertex, or the sum is not finite
    """
    vertices = topology.check_vertices(vertices)
    if out is None:
        out = np.zeros_like(vertices)
    elif out.shape != vertices.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out: expected {vertices.shape} float32, C-contiguous")
    if chosen is not None:
        chosen = np.ascontiguousarray(chosen, np.int32)
        if chosen.ndim != 1 or (
            len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(vertices)
        ):
            raise ValueError(f"chosen: expected indices of {len(vertices)} vertices, shape (k,)")
    sign = -1.0 if y_down else 1.0
    _cy.normals(vertices, topology._offsets, topology._rings, chosen, sign, out)
    return out


class VisibilityBuffer:
    """Nearest triangle, weights and depth at each pixel centre of an image.

    Draw any number of meshes; at each pixel the nearest stays (of equally near ones the first).
    :meth:`clear` costs only as much as was drawn on, so keep the buffer between frames.

    Parameters
    ----------
    height, width : pixels, 1 to ``LARGEST_SIDE``

    Attributes
    ----------
    triangle : (height, width) int32 view, index in the face's own topology, -1 where empty
    face : (height, width) int16 view, counted from 0 in the order of drawing, -1 where empty
    weights : (height, width, 2) float32 view, of the triangle's second and third corner; that of
        the first is one minus both. Undefined where empty.
    depth : (height, width) float32 view, interpolated z, -inf where empty
    """

    def __init__(self, height: int, width: int) -> None:
        if not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
            raise ValueError(f"size {height}x{width}: each side must be 1 to {LARGEST_SIDE}")
        self.height, self.width = int(height), int(width)
        self._pixels = np.empty((height, width, 4), np.float32)
        self.face = np.empty((height, width), np.int16)
        fields = self._pixels.view(_PIXEL)[..., 0]
        self.depth = fields["depth"]
        self.triangle = fields["triangle"]
        self.weights = fields["weights"]
        _cy.clear(self._pixels, self.face, (0, 0, self.width, self.height))
        self._windows: list[tuple[int, int, int, int]] = []
        self._topologies: list[MeshTopology] = []
        self._corners = np.empty((0, 4), np.float32)
        self._cells = np.empty(0, np.uint32)
        self._scratch = np.empty(0, np.int32)
        self._stamps = np.zeros(0, np.uint32)
        self._stamp = 0
        self._list = np.empty(1, np.int32)

    @property
    def face_count(self) -> int:
        """Number of meshes drawn since the last :meth:`clear`."""
        return len(self._windows)

    def window_xyxy(self, face: int | None = None) -> tuple[int, int, int, int]:
        """Half-open rectangle of pixels outside which `face` (or every face) drew nothing."""
        windows = self._windows if face is None else [self._windows[face]]
        windows = [w for w in windows if w[0] < w[2] and w[1] < w[3]]
        if not windows:
            return 0, 0, 0, 0
        x0, y0, x1, y1 = zip(*windows, strict=True)
        return min(x0), min(y0), max(x1), max(y1)

    def clear(self) -> None:
        """Forget every face."""
        for window in self._windows:
            _cy.clear(self._pixels, self.face, window)
        self._windows.clear()
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
            raise ValueError(f"more than {MOST_FACES} faces in one buffer; clear() it first")
        if len(self._cells) < len(vertices):
            self._corners = np.empty((len(vertices), 4), np.float32)
            self._cells = np.empty(len(vertices), np.uint32)
        if len(self._scratch) < 3 * (len(topology.triangles) + 16):
            self._scratch = np.empty(3 * (len(topology.triangles) + 16), np.int32)
        face = self.face_count
        window = _cy.draw(
            vertices,
            topology.columns,
            self._corners,
            self._cells,
            self._scratch,
            face,
            bool(cull_back_faces),
            self._pixels,
            self.face,
        )
        self._windows.append(window)
        self._topologies.append(topology)
        return face

    def shown_vertices(self, face: int) -> np.ndarray:
        """Return the vertices of the triangles that show `face`, (k,) int32, each once."""
        topology = self._topologies[face]
        if len(self._stamps) < topology.vertex_count:
            self._stamps = np.zeros(topology.vertex_count, np.uint32)
            self._list = np.empty(topology.vertex_count + 1, np.int32)
            self._stamp = 0
        self._stamp += 1
        if self._stamp >= 2**32:
            self._stamps[:] = 0
            self._stamp = 1
        count = _cy.shown(
            self._pixels,
            self.face,
            self._windows[face],
            face,
            topology.triangles,
            self._stamp,
            self._stamps,
            self._list,
        )
        return self._list[:count].copy()

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
        topology = self._topologies[face]
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
