"""Catmull-Clark subdivision as a linear map, so that it acts on a mean and its components alike.

Catmull and Clark, "Recursively generated B-spline surfaces on arbitrary topological meshes", 1978;
borders follow the cubic B-spline rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Subdivision:
    """One level of refinement of a quad mesh of `vertex_count` vertices.

    New vertices come in the order: old vertices, edges, faces.

    Attributes
    ----------
    quads : (4 q, 4) int32 in the new vertices
    """

    vertex_count: int
    old_quads: np.ndarray
    edges: np.ndarray
    quads: np.ndarray
    _edge_faces: np.ndarray
    _face_edges: np.ndarray

    def refine(self, field: np.ndarray) -> np.ndarray:
        """(n, k) values at the old vertices -> (n + edges + faces, k) at the new ones."""
        field = np.asarray(field, np.float64)
        faces = field[self.old_quads].mean(axis=1)
        middles = field[self.edges].mean(axis=1)
        inner = self._edge_faces[:, 1] >= 0
        edges = middles.copy()
        edges[inner] = (middles[inner] + faces[self._edge_faces[inner]].mean(axis=1)) / 2
        return np.concatenate([self._old_vertices(field, faces, middles, inner), edges, faces])

    def between(self, field: np.ndarray) -> np.ndarray:
        """The same without smoothing: middles of edges and faces; for texture coordinates."""
        field = np.asarray(field, np.float64)
        return np.concatenate(
            [field, field[self.edges].mean(axis=1), field[self.old_quads].mean(axis=1)]
        )

    def _old_vertices(
        self, field: np.ndarray, faces: np.ndarray, middles: np.ndarray, inner: np.ndarray
    ) -> np.ndarray:
        count = self.vertex_count
        valence = np.bincount(self.old_quads.ravel(), minlength=count)
        edge_count = np.bincount(self.edges.ravel(), minlength=count)
        face_sum = _scatter(count, self.old_quads, faces)
        middle_sum = _scatter(count, self.edges, middles)
        n = np.maximum(valence, 1)[:, None]
        around = face_sum / n + 2 * middle_sum / np.maximum(edge_count, 1)[:, None]
        moved = (around + (n - 3) * field) / n
        border = self.edges[~inner]
        on_border = np.zeros(count, bool)
        on_border[border] = True
        border_count = np.bincount(border.ravel(), minlength=count)
        border_sum = _scatter(count, border, middles[~inner])
        smooth = on_border & (border_count == 2)
        moved[on_border] = field[on_border]
        moved[smooth] = field[smooth] / 2 + border_sum[smooth] / 4
        moved[valence == 0] = field[valence == 0]
        return moved


def _scatter(count: int, groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    total = np.zeros((count, values.shape[1]))
    for corner in groups.T:
        np.add.at(total, corner, values)
    return total


def subdivision(quads: np.ndarray, vertex_count: int) -> Subdivision:
    """Plan one level for `quads` (q, 4), counter-clockwise."""
    pairs = np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1)
    ordered = np.sort(pairs.reshape(-1, 2), axis=1)
    edges, index = np.unique(ordered, axis=0, return_inverse=True)
    face_edges = index.reshape(-1, 4)
    edge_faces = np.full((len(edges), 2), -1)
    face_of = np.repeat(np.arange(len(quads)), 4)
    order = np.argsort(index.ravel(), kind="stable")
    first = np.searchsorted(index.ravel()[order], np.arange(len(edges)))
    counts = np.bincount(index.ravel(), minlength=len(edges))
    edge_faces[:, 0] = face_of[order[first]]
    two = counts >= 2
    edge_faces[two, 1] = face_of[order[first[two] + 1]]
    at_edge, at_face = vertex_count + face_edges, vertex_count + len(edges)
    centre = at_face + np.arange(len(quads))
    new = [
        np.stack([quads[:, k], at_edge[:, k], centre, at_edge[:, k - 1]], axis=1) for k in range(4)
    ]
    return Subdivision(
        vertex_count,
        quads,
        edges,
        np.concatenate(new).astype(np.int32),
        edge_faces,
        face_edges,
    )
