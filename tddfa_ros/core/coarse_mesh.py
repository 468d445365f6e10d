"""A face model's mesh with fewer triangles, whose vertices are vertices of the full mesh.

Made once for a face model from its mean face by quadric edge collapses (Garland and Heckbert,
*Surface Simplification Using Quadric Error Metrics*, 1997). As every vertex that is left is one of
the face model, the coarse mesh follows any fit of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import fast_simplification
import numpy as np

from tddfa_ros.core.face_model import FaceModel

AMBIENT = 0.25
# The library's own scale: a lower one gives better triangles, but may stop with too many.
_AGGRESSIVENESS = (3, 6, 12, 24)


@dataclass(frozen=True, eq=False)
class CoarseMesh:
    """Triangles over some vertices of a face model.

    Attributes
    ----------
    vertex_indices : (k,) int64, vertices of the face model in use
    triangles : (m, 3) int64, indices into `vertex_indices`, counter-clockwise seen from outside
    """

    vertex_indices: np.ndarray
    triangles: np.ndarray

    def light(self, points: np.ndarray) -> np.ndarray:
        """Brightness of each vertex, lit from where it is looked at.

        Parameters
        ----------
        points : (k, 3) the vertices in the optical frame, z > 0

        Returns
        -------
        (k,) float64 in [AMBIENT, 1]: by the cosine between normal and line of sight
        """
        normals = _vertex_normals(points, self.triangles)
        facing = -np.einsum("ij,ij->i", normals, points)
        facing /= np.maximum(np.linalg.norm(points, axis=1), 1e-12)
        return AMBIENT + (1 - AMBIENT) * np.clip(facing, 0, 1)


def full_mesh(face_model: FaceModel) -> CoarseMesh:
    """All vertices and triangles of a face model."""
    return CoarseMesh(np.arange(len(face_model.mean)), face_model.triangles.astype(np.int64))


def coarse_mesh(face_model: FaceModel, most_triangles: int) -> CoarseMesh:
    """Mesh of at most so many triangles; the full one if that has no more."""
    if len(face_model.triangles) <= most_triangles:
        return full_mesh(face_model)
    mean = face_model.mean.astype(np.float32)
    # The library's thresholds suit meshes of about unit size.
    unit = (mean - mean.mean(axis=0)) / max(float(np.ptp(mean, axis=0).max()), 1e-12)
    for aggressiveness in _AGGRESSIVENESS:
        _, triangles, collapses = fast_simplification.simplify(
            unit,
            face_model.triangles,
            target_count=most_triangles,
            agg=aggressiveness,
            return_collapses=True,
        )
        if len(triangles) <= most_triangles:
            break
    points, triangles, merged_into = fast_simplification.replay_simplification(
        unit, face_model.triangles, collapses
    )
    indices = _representatives(unit, points, merged_into)
    return CoarseMesh(indices, triangles.astype(np.int64))


def _representatives(fine: np.ndarray, coarse: np.ndarray, merged_into: np.ndarray) -> np.ndarray:
    """(k,) int64: of the vertices (n, 3) that merged into each of (k, 3), the nearest one."""
    apart = np.linalg.norm(fine - coarse[merged_into], axis=1)
    order = np.lexsort((apart, merged_into))
    _, first = np.unique(merged_into[order], return_index=True)
    return order[first]


def _vertex_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(k, 3) unit normals, weighted by area; zero for a vertex of no triangle."""
    a, b, c = (points[corner] for corner in triangles.T)
    faces = np.cross(b - a, c - a)
    normals = np.empty_like(points, np.float64)
    for axis in range(3):
        shares = np.repeat(faces[:, axis], 3)
        normals[:, axis] = np.bincount(triangles.ravel(), shares, len(points))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
