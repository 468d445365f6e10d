"""Triangle meshes: their connections, checked once, and what follows from the vertices' places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tddfa_native import _rasterize_cy as _cy


@dataclass(frozen=True)
class Lighting:
    """One white light, as 3DDFA_V2 shades its overlays.

    The mesh is first moved to the origin and scaled to a longest side of 2. A vertex's light is
    ``ambient + directional * clip(n . l) + specular * clip(sum((l * r)**5))``, clipped to [0, 1],
    where n is its normal, l the direction to the light, where the viewer is too, and r the
    reflected one; the power is taken of each component, as there.

    Attributes
    ----------
    ambient, directional, specular : intensities
    light_xyz : the light's place, x right, y down, z towards the viewer
    """

    ambient: float = 0.3
    directional: float = 0.6
    specular: float = 0.1
    light_xyz: tuple[float, float, float] = (0.0, 0.0, 5.0)


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
    ring_offsets : (n + 1,) int32, where each vertex's part of `rings` begins
    rings : int32, around each vertex its neighbours in fans of triangles; the first neighbour of a
        fan is stored as its bitwise complement

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
        self.ring_offsets = np.empty(vertex_count + 1, np.int32)
        pairs, rings = np.empty((2, 6 * len(given)), np.int32)
        self.rings = rings[: _cy.rings(self.triangles, self.ring_offsets, pairs, rings)].copy()
        for array in (self.triangles, self.columns, self.ring_offsets, self.rings):
            array.flags.writeable = False

    def check_vertices(self, vertices: np.ndarray, name: str = "vertices") -> np.ndarray:
        """Return `vertices` as C-contiguous (n, 3) float32, or raise ValueError."""
        vertices = np.ascontiguousarray(vertices, np.float32)
        if vertices.shape != (self.vertex_count, 3):
            raise ValueError(
                f"{name}: expected shape ({self.vertex_count}, 3), got {vertices.shape}"
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
    (n, 3) float32; zero where the squared length of the sum of the triangles' cross products lies
    outside 1e-30 to 1e30 or is not finite, as where no triangle with an area touches the vertex
    """
    vertices = topology.check_vertices(vertices)
    if out is None:
        out = np.zeros_like(vertices)
    elif out.shape != vertices.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out: expected {vertices.shape} float32, C-contiguous")
    if chosen is not None:
        chosen = _check_chosen(chosen, len(vertices))
    sign = -1.0 if y_down else 1.0
    _cy.normals(vertices, topology.ring_offsets, topology.rings, chosen, sign, out)
    return out


def vertex_light(
    vertices: np.ndarray,
    topology: MeshTopology,
    chosen: np.ndarray,
    extent: np.ndarray,
    lighting: Lighting | None = None,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Compute the light of some vertices, normals included.

    Parameters
    ----------
    vertices : (n, 3) float32, image space
    topology : the mesh's triangles
    chosen : (k,) int32, the vertices wanted
    extent : (2, 3) float32, least and largest coordinates of all vertices
    lighting : that of 3DDFA_V2 by default
    out : (n,) float32; only chosen entries are touched

    Returns
    -------
    (n,) float32, 0 to 255
    """
    vertices = topology.check_vertices(vertices)
    chosen = _check_chosen(chosen, len(vertices))
    lighting = lighting or Lighting()
    if out is None:
        out = np.zeros(len(vertices), np.float32)
    elif out.shape != (len(vertices),) or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out: expected ({len(vertices)},) float32, C-contiguous")
    intensities = (lighting.ambient, lighting.directional, lighting.specular)
    _cy.light(
        vertices,
        topology.ring_offsets,
        topology.rings,
        chosen,
        -1.0,
        np.ascontiguousarray(extent, np.float32).reshape(2, 3),
        intensities,
        tuple(lighting.light_xyz),
        out,
    )
    return out


def _check_chosen(chosen: np.ndarray, count: int) -> np.ndarray:
    chosen = np.ascontiguousarray(chosen, np.int32)
    if chosen.ndim != 1 or (len(chosen) and not 0 <= chosen.min() <= chosen.max() < count):
        raise ValueError(f"chosen: expected indices of {count} vertices, shape (k,)")
    return chosen
