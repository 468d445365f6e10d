"""Meshes that are sheets: their borders and holes, mirror images, and atlases without folds."""

from __future__ import annotations

import numpy as np

from tddfa_ros.core.errors import ModelSetError

_LEAST_UV_AREA = 1e-9
"""Twice the area of a triangle of the atlas below which it counts as folded."""


def border_loops(triangles: np.ndarray) -> list[list[int]]:
    """Closed chains of vertices along which the mesh ends, each in the triangles' direction."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    count = {(int(a), int(b)) for a, b in edges}
    following = {a: b for a, b in count if (b, a) not in count}
    loops = []
    while following:
        start, at = next(iter(following.items()))
        loop = [start]
        del following[start]
        while at != start:
            loop.append(at)
            at = following.pop(at)
        loops.append(loop)
    return loops


def fill_hole(flat: np.ndarray, loop: list[int]) -> np.ndarray:
    """Triangulate the polygon that a border loop leaves open, seen from the front."""
    ring, places = list(loop)[::-1], dict(zip(loop, flat, strict=True))
    result = []

    def turn(a: int, b: int, c: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = places[a], places[b], places[c]
        return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)

    while len(ring) > 3:
        best, best_length = -1, np.inf
        for k in range(len(ring)):
            a, b, c = ring[k - 1], ring[k], ring[(k + 1) % len(ring)]
            if turn(a, b, c) <= 0:
                continue
            others = (v for v in ring if v not in (a, b, c))
            if any(turn(a, b, v) > 0 and turn(b, c, v) > 0 and turn(c, a, v) > 0 for v in others):
                continue
            length = np.hypot(*(places[a] - places[c]))
            if length < best_length:
                best, best_length = k, length
        if best < 0:
            raise ModelSetError("the lids' border crosses itself; rebuild the rig")
        result.append((ring[best - 1], ring[best], ring[(best + 1) % len(ring)]))
        del ring[best]
    return np.array([*result, tuple(ring)])


def mirror_pairs(at: np.ndarray) -> np.ndarray:
    """(n,) int32 index of each vertex's mirror image, by place."""
    result = np.empty(len(at), np.int32)
    grid = np.round(at * 2e4).astype(np.int64)
    cells: dict[tuple[int, ...], list[int]] = {}
    for index, cell in enumerate(grid):
        cells.setdefault(tuple(cell), []).append(index)
    for index, point in enumerate(at * [-1, 1, 1]):
        cell = np.round(point * 2e4).astype(np.int64)
        near = [
            candidate
            for dx in (-1, 0, 1)
            for dy in (-1, 0, 1)
            for dz in (-1, 0, 1)
            for candidate in cells.get((cell[0] + dx, cell[1] + dy, cell[2] + dz), ())
        ]
        if not near:
            raise ModelSetError("the face is not symmetric; rebuild the rig")
        result[index] = min(near, key=lambda k: float(np.sum((at[k] - point) ** 2)))
    if not np.array_equal(result[result], np.arange(len(at))):
        raise ModelSetError("the face's mirror images do not pair; rebuild the rig")
    return result


def unfold(uv: np.ndarray, triangles: np.ndarray, *, rounds: int = 500) -> np.ndarray:
    """Move vertices of folded triangles to the mean of their neighbours until none is folded.

    Raises
    ------
    ModelSetError
        Folds remain after `rounds`.
    """
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    degree = np.bincount(edges[:, 0], minlength=len(uv))[:, None]
    fixed = np.zeros(len(uv), bool)
    fixed[max(border_loops(triangles), key=len)] = True
    uv = uv.astype(np.float64)
    for attempt in range(rounds):
        folded = triangles[doubled_areas(uv, triangles) <= _LEAST_UV_AREA]
        moving = np.unique(folded)
        if attempt < rounds // 2:  # the border gives way only where nothing else helps
            moving = moving[~fixed[moving]]
        if not len(folded):
            return uv
        total = np.zeros_like(uv)
        np.add.at(total, edges[:, 0], uv[edges[:, 1]])
        uv[moving] = (total / degree)[moving]
    raise ModelSetError(f"{len(folded)} triangles stay folded in the atlas; rebuild the rig")


def doubled_areas(uv: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(m,) twice the signed areas, positive when counter-clockwise with v up."""
    a, b, c = (uv[triangles[:, k]].astype(np.float64) for k in range(3))
    u, w = b - a, c - a
    return u[:, 0] * w[:, 1] - u[:, 1] * w[:, 0]
