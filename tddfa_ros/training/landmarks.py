"""Where the 68 landmarks (iBUG order) and the sellion lie on the average MakeHuman adult.

They are placed by their definition on this mesh: corners and lid margins of the eyes, the
vermilion border and the line between the lips, the bridge, tip and lower edge of the nose, the
middle of the brows, and the jaw's outline as seen from the front, evenly spaced from the front of
the ear at eye level to the chin. Points that must move with lids and lips are vertices of the lid
margin and of the lips' inner edge; all others are points of the surface, kept as triangle and
barycentric weights.

Only the subject's right half (left in a picture) and the middle are listed; the left half is the
mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIRROR_68 = np.array(
    [
        *range(16, -1, -1),
        *range(26, 16, -1),
        *(27, 28, 29, 30, 35, 34, 33, 32, 31),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),
    ]
)
"""Index of each landmark's mirror image."""

_ON_SURFACE = {
    # jaw, from the front of the ear to the chin
    0: (-0.690, 7.280, 0.600),
    1: (-0.676, 7.085, 0.620),
    2: (-0.645, 6.900, 0.620),
    3: (-0.592, 6.750, 0.640),
    4: (-0.526, 6.606, 0.720),
    5: (-0.425, 6.470, 0.920),
    6: (-0.310, 6.377, 1.120),
    7: (-0.165, 6.325, 1.280),
    8: (0.000, 6.318, 1.365),
    # brow
    17: (-0.530, 7.450, 1.150),
    18: (-0.455, 7.520, 1.260),
    19: (-0.345, 7.550, 1.360),
    20: (-0.235, 7.540, 1.410),
    21: (-0.125, 7.512, 1.440),
    # bridge and tip of the nose
    27: (0.000, 7.330, 1.416),
    28: (0.000, 7.212, 1.466),
    29: (0.000, 7.094, 1.548),
    30: (0.000, 6.985, 1.597),
    # lower edge of the nose
    31: (-0.158, 6.905, 1.380),
    32: (-0.080, 6.888, 1.450),
    33: (0.000, 6.880, 1.494),
    # vermilion border
    49: (-0.135, 6.762, 1.470),
    50: (-0.048, 6.780, 1.530),
    51: (0.000, 6.768, 1.534),
    57: (0.000, 6.588, 1.490),
    58: (-0.070, 6.594, 1.475),
    59: (-0.145, 6.620, 1.430),
}
"""Landmark -> x, y, z in MakeHuman units on the average adult; the nearest point is taken."""

_AT_VERTEX = {36: 1023, 37: 0, 38: 54, 39: 69, 40: 2165, 41: 2169} | {
    48: 402,
    60: 500,
    61: 515,
    62: 520,
    66: 493,
    67: 481,
}
"""Landmark -> vertex of the original head file: lid margins, corners, inner edge of the lips."""

_SELLION = (0.0, 7.350, 1.414)
"""Deepest point of the nasal root."""


@dataclass(frozen=True)
class SurfacePoints:
    """Points on triangles: (n, 3) int32 corners and (n, 3) float32 barycentric weights."""

    corners: np.ndarray
    weights: np.ndarray

    def of(self, vertices: np.ndarray) -> np.ndarray:
        """(n, 3) positions; `vertices` may have leading axes."""
        return np.einsum("nk,...nkd->...nd", self.weights, vertices[..., self.corners, :])


def place(
    vertices: np.ndarray, triangles: np.ndarray, mirror: np.ndarray, compact: np.ndarray
) -> tuple[SurfacePoints, SurfacePoints]:
    """The 68 landmarks and the sellion on the average adult.

    Parameters
    ----------
    vertices : (n, 3) average adult, MakeHuman units
    triangles : (m, 3) of the outer skin
    mirror : (n,) vertex at -x
    compact : index in `vertices` of each vertex of the original head file
    """
    corners = np.zeros((68, 3), np.int32)
    weights = np.zeros((68, 3), np.float32)
    for index, point in _ON_SURFACE.items():
        corners[index], weights[index] = nearest_on_surface(np.array(point), vertices, triangles)
    for index, original in _AT_VERTEX.items():
        vertex = compact[original]
        triangle = triangles[(triangles == vertex).any(axis=1)][0]
        corners[index], weights[index] = triangle, triangle == vertex
    for index in range(68):
        if index not in _ON_SURFACE and index not in _AT_VERTEX:
            corners[index] = mirror[corners[MIRROR_68[index]]]
            weights[index] = weights[MIRROR_68[index]]
    corner, weight = nearest_on_surface(np.array(_SELLION), vertices, triangles)
    return SurfacePoints(corners, weights), SurfacePoints(corner[None], weight[None])


def nearest_on_surface(
    point: np.ndarray, vertices: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (3,) int32 and barycentric weights (3,) float32 of the surface's nearest point."""
    a, b, c = (vertices[triangles[:, k]].astype(np.float64) for k in range(3))
    weights = _clamped_barycentric(point, a, b, c)
    at = weights[:, :1] * a + weights[:, 1:2] * b + weights[:, 2:] * c
    best = int(((at - point) ** 2).sum(axis=1).argmin())
    return triangles[best].astype(np.int32), weights[best].astype(np.float32)


def _clamped_barycentric(
    point: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray
) -> np.ndarray:
    """(m, 3) weights of the point nearest to `point` in each triangle: inside or on an edge."""
    candidates = []
    ab, ac, ap = b - a, c - a, point - a
    d00, d01, d11 = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    d20, d21 = (ap * ab).sum(1), (ap * ac).sum(1)
    det = d00 * d11 - d01 * d01
    flat = det <= 1e-10 * d00 * d11  # no area: the nearest point lies on an edge
    det = np.where(flat, 1, det)
    v, w = (d11 * d20 - d01 * d21) / det, (d00 * d21 - d01 * d20) / det
    inside = np.stack([1 - v - w, v, w], axis=1)
    valid = (inside >= 0).all(axis=1) & ~flat
    corners = (a, b, c)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[j] - corners[i]
        t = ((point - corners[i]) * edge).sum(1) / np.maximum((edge * edge).sum(1), 1e-18)
        t = np.clip(t, 0, 1)
        weights = np.zeros((len(a), 3))
        weights[:, i], weights[:, j] = 1 - t, t
        candidates.append(weights)
    options = np.stack(candidates, axis=1)
    at = np.einsum("mok,kmd->mod", options, np.stack(corners))
    nearest = ((at - point) ** 2).sum(axis=2).argmin(axis=1)
    result = options[np.arange(len(a)), nearest]
    result[valid] = inside[valid]
    return result
