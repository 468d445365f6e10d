"""The face model's mesh: cut from the rig's head, refined, with atlas, symmetry and landmarks.

Every vertex of the face model is a fixed mix of at most four vertices of the once subdivided head,
so mean and components come from the rig's by the same linear map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.face_model import FaceModel
from tddfa_ros.training import expressions
from tddfa_ros.training.landmarks import nearest_on_surface
from tddfa_ros.training.makehuman import SKIN
from tddfa_ros.training.rig import MODEL_SHAPES, Rig
from tddfa_ros.training.sheet import border_loops, fill_hole, mirror_pairs, unfold
from tddfa_ros.training.subdivide import Subdivision, subdivision

LEAST_VERTICES = 12_000
_SNAP = 0.18
"""A border cut this near to a vertex, as a share of the edge, passes through it: no slivers."""
_PRECISION_M = 2.0**-20
"""Components are multiples of a micrometre, which lets the file compress."""

REGIONS = ("forehead", "brows", "eyes", "nose", "cheeks", "mouth", "chin", "jaw")


@dataclass(frozen=True)
class _Mix:
    """Vertices as mixes: (n, 4) indices of the subdivided head and (n, 4) weights."""

    indices: np.ndarray
    weights: np.ndarray

    def of(self, field: np.ndarray) -> np.ndarray:
        return np.einsum("nk,nkd->nd", self.weights, field[self.indices])


def build(rig: Rig) -> FaceModel:
    """The face model of the first components of `rig`, in metres.

    Raises
    ------
    ModelSetError
        The rig's mesh is not the one that this was written for.
    """
    skin = rig.sheet & (rig.material == SKIN)
    face_sheet = skin & (rig.atlas_uv.mean(axis=1)[:, 0] > 0.6)
    quads = rig.quads[face_sheet]
    levels = subdivision(quads, len(rig.mean))
    mean = levels.refine(rig.mean)
    triangles, mix = _cut(mean, levels.quads)
    at = mix.of(mean)
    triangles = np.concatenate([triangles, _close_eyes(at, triangles, rig)])
    if len(at) < LEAST_VERTICES:
        raise ModelSetError(f"the face has {len(at)} vertices, fewer than {LEAST_VERTICES}")

    def through(field: np.ndarray) -> np.ndarray:
        return np.round(mix.of(levels.refine(field)) / _PRECISION_M) * _PRECISION_M

    symmetry = mirror_pairs(at)
    names = expressions.REGRESSED
    corners, weights = _landmarks(rig, at, triangles, mix)
    sellion, sellion_weights = _on_surface(rig_point(rig), at, triangles)
    low, high = at.min(axis=0), at.max(axis=0)
    expression = [through(e) for e in rig.expression_basis[: len(names)]]
    return FaceModel(
        mean=through(rig.mean).astype(np.float32),
        shape_basis=np.stack([through(s) for s in rig.shape_basis[:MODEL_SHAPES]]).astype(
            np.float32
        ),
        expression_basis=np.stack(expression).astype(np.float32),
        triangles=triangles.astype(np.int32),
        uv=_atlas(rig, face_sheet, levels, mix, triangles),
        landmark_triangles=corners,
        landmark_weights=weights,
        metres_per_unit=1.0,
        sellion_triangle=sellion,
        sellion_weights=sellion_weights,
        symmetry=symmetry,
        expression_names=names,
        pncc=((at - low) / (high - low)).clip(0, 1).astype(np.float32),
    )


def rig_point(rig: Rig) -> np.ndarray:
    """(3,) sellion of the average adult, metres."""
    return (rig.mean[rig.sellion_corners[0]] * rig.sellion_weights[0][:, None]).sum(axis=0)


def nearest_expressions(rig: Rig, count: int) -> np.ndarray:
    """What the face model needs to show each expression component of the rig, as far as it can.

    Parameters
    ----------
    count : of the rig's components, the first ones, are the face model's

    Returns
    -------
    (e, count) float32: row k holds the coefficients whose displacement of the face's skin is
    nearest to that of component k, by least squares over the vertices. Those of its own
    components are themselves; a squint, which the face model has not, is a part of a blink.
    """
    skin = np.unique(rig.quads[rig.sheet & (rig.material == SKIN)])
    face = skin[inside_m(rig.mean[skin]) > 0]
    moved = rig.expression_basis[:, face].reshape(len(rig.expression_basis), -1).astype(np.float64)
    nearest = np.eye(len(moved), count)
    nearest[count:] = np.linalg.lstsq(moved[:count].T, moved[count:].T, rcond=None)[0].T
    return nearest.astype(np.float32)


def inside_m(points: np.ndarray) -> np.ndarray:
    """Metres from the face's border, positive inside; `points` (n, 3) of the average adult.

    Three planes bound the face: in front of the ears, along the hairline from forehead to
    sideburns, and below chin and jaw.
    """
    x, y, z = points.T
    del x
    return np.minimum.reduce([z + 0.061, 0.122 + 0.75 * z - y, y + 0.076 + 0.45 * np.minimum(z, 0)])


def _cut(mean: np.ndarray, quads: np.ndarray) -> tuple[np.ndarray, _Mix]:
    """Triangles and vertices of the face: quads split, the largest around their centres, cut."""
    used = np.unique(quads)
    value = np.full(len(mean), -1.0)
    value[used] = inside_m(mean[used])
    quads = quads[(value[quads] > 0).any(axis=1)]
    whole = (value[quads] > 0).all(axis=1)
    missing = max(0, LEAST_VERTICES + 150 - int((value[used] > 0).sum()))
    corner = mean[quads]
    area = np.linalg.norm(
        np.cross(corner[:, 2] - corner[:, 0], corner[:, 3] - corner[:, 1]), axis=1
    )
    least = np.sort(area[whole])[::-1][min(missing, int(whole.sum()) - 1)]
    centred = whole & (area >= least * (1 - 1e-6))
    centre_quads, plain = quads[centred], quads[~centred]
    builder = _Builder(value, mean)
    for quad in centre_quads:
        middle = builder.centre(quad)
        ring = [builder.vertex(v) for v in quad]
        builder.triangles += [(ring[k], ring[(k + 1) % 4], middle) for k in range(4)]
    # Split along the shorter diagonal, but alike on both sides of the face.
    other = np.array([_second_diagonal(mean[quad]) for quad in plain])
    for quad, turned in zip(plain, other, strict=True):
        a, b, c, d = np.roll(quad, -1) if turned else quad
        builder.cut((a, b, c))
        builder.cut((a, c, d))
    triangles = _trim(np.array(builder.triangles))
    kept, compact = np.unique(triangles, return_inverse=True)
    mix = _Mix(np.array(builder.indices)[kept], np.array(builder.weights)[kept])
    return compact.reshape(-1, 3), mix


def _trim(triangles: np.ndarray) -> np.ndarray:
    """Without the slivers that hang on the outer border by all three corners."""
    while True:
        border = np.isin(triangles, max(border_loops(triangles), key=len)).all(axis=1)
        if not border.any():
            return triangles
        triangles = triangles[~border]


class _Builder:
    """Collects vertices (old, centres of quads, cuts of edges) and triangles."""

    def __init__(self, value: np.ndarray, mean: np.ndarray) -> None:
        self._value, self._mean = value, mean
        self._known: dict[tuple[int, ...], int] = {}
        self.indices: list[tuple[int, ...]] = []
        self.weights: list[tuple[float, ...]] = []
        self.triangles: list[tuple[int, int, int]] = []

    def _add(self, key: tuple[int, ...], indices: tuple, weights: tuple) -> int:
        if key not in self._known:
            self._known[key] = len(self.indices)
            pad = 4 - len(indices)
            self.indices.append((*(int(i) for i in indices), *(int(indices[0]),) * pad))
            self.weights.append((*weights, *(0.0,) * pad))
        return self._known[key]

    def vertex(self, v: int) -> int:
        return self._add((int(v),), (v,), (1.0,))

    def centre(self, quad: np.ndarray) -> int:
        return self._add(tuple(sorted(int(v) for v in quad)), tuple(quad), (0.25,) * 4)

    def _edge(self, inner: int, outer: int) -> int:
        """The border's point on an edge: at the inner vertex, at the outer one, or between."""
        share = self._value[inner] / (self._value[inner] - self._value[outer])
        if share < _SNAP:
            return self.vertex(inner)
        if share > 1 - _SNAP:
            return self.vertex(outer)
        return self._add((int(inner), int(outer)), (inner, outer), (1 - share, share))

    def cut(self, triangle: tuple[int, int, int]) -> None:
        """Add the part of a triangle that lies inside."""
        ring: list[int] = []
        for k in range(3):
            a, b = triangle[k], triangle[(k + 1) % 3]
            if self._value[a] > 0:
                ring.append(self.vertex(a))
                if self._value[b] <= 0:
                    ring.append(self._edge(a, b))
            elif self._value[b] > 0:
                ring.append(self._edge(b, a))
        unique = [v for k, v in enumerate(ring) if v != ring[k - 1]]
        if len(unique) == 4 and _second_diagonal(self._places(unique)):
            unique = unique[1:] + unique[:1]
        self.triangles += [(unique[0], unique[k], unique[k + 1]) for k in range(1, len(unique) - 1)]

    def _places(self, vertices: list[int]) -> np.ndarray:
        indices = np.array([self.indices[v] for v in vertices])
        weights = np.array([self.weights[v] for v in vertices])
        return np.einsum("nk,nkd->nd", weights, self._mean[indices])


def _second_diagonal(corners: np.ndarray) -> bool:
    """Whether corners 1 and 3 of four are nearer than 0 and 2; alike on both sides of the face."""
    first = np.linalg.norm(corners[0] - corners[2])
    second = np.linalg.norm(corners[1] - corners[3])
    if abs(first - second) < 1e-3 * first:
        key = [min(tuple(np.round(np.abs(corners[k]), 6)) for k in pair) for pair in _DIAGONALS]
        return key[1] < key[0]
    return bool(second < first)


_DIAGONALS = ((0, 2), (1, 3))


def _close_eyes(at: np.ndarray, triangles: np.ndarray, rig: Rig) -> np.ndarray:
    """Triangles across the openings of the lids, which shrink to nothing when the eye closes."""
    points = rig.landmarks.of(rig.mean)
    filled = []
    for eye in (points[36:42].mean(axis=0), points[42:48].mean(axis=0)):
        loops = border_loops(triangles)
        near = [loop for loop in loops if np.linalg.norm(at[loop].mean(axis=0) - eye) < 0.012]
        if len(near) != 1:
            raise ModelSetError(f"{len(near)} openings at an eye; rebuild the rig")
        filled.append(fill_hole(at[near[0]][:, :2], near[0]))
    return np.concatenate(filled)


def _atlas(
    rig: Rig, sheet: np.ndarray, levels: Subdivision, mix: _Mix, triangles: np.ndarray
) -> np.ndarray:
    """(n, 2) float32: the artists' atlas, turned upright, grown to the unit square, unfolded."""
    coarse = np.zeros((len(rig.mean), 2))
    coarse[rig.quads[sheet].ravel()] = rig.atlas_uv[sheet].reshape(-1, 2)
    uv = mix.of(levels.between(coarse))
    upright = np.stack([uv[:, 1], -uv[:, 0]], axis=1)
    across = mix.of(levels.between(rig.mean))[:, 0]
    if np.dot(upright[:, 0] - upright[:, 0].mean(), across) < 0:
        upright[:, 0] *= -1
    low, high = upright.min(axis=0), upright.max(axis=0)
    side = (high - low).max() * 1.01
    return unfold(0.5 + (upright - (low + high) / 2) / side, triangles).astype(np.float32)


def _landmarks(
    rig: Rig, at: np.ndarray, triangles: np.ndarray, mix: _Mix
) -> tuple[np.ndarray, np.ndarray]:
    """Triangle (68,) and weights (68, 3); landmarks on vertices of the rig stay on vertices."""
    places = rig.landmarks.of(rig.mean)
    chosen, weights = np.zeros(68, np.int32), np.zeros((68, 3), np.float32)
    pure = {int(v[0]): k for k, v in enumerate(mix.indices) if mix.weights[k, 0] == 1.0}
    for index in range(68):
        corners, share = rig.landmark_corners[index], rig.landmark_weights[index]
        if share.max() == 1.0 and int(corners[share.argmax()]) in pure:
            vertex = pure[int(corners[share.argmax()])]
            chosen[index] = np.flatnonzero((triangles == vertex).any(axis=1))[0]
            weights[index] = triangles[chosen[index]] == vertex
        else:
            chosen[index], weights[index] = _on_surface(places[index], at, triangles)
    return chosen, weights


def _on_surface(point: np.ndarray, at: np.ndarray, triangles: np.ndarray) -> tuple[int, np.ndarray]:
    corners, weights = nearest_on_surface(point, at, triangles)
    return int(np.flatnonzero((triangles == corners).all(axis=1))[0]), weights


def regions(face_model: FaceModel) -> np.ndarray:
    """(n,) int32 into :data:`REGIONS` for each vertex: the region of the nearest landmarks."""
    corners = face_model.triangles[face_model.landmark_triangles]
    marks = np.einsum("lk,lkd->ld", face_model.landmark_weights, face_model.mean[corners])
    centre = {name: marks[list(rows)] for name, rows in _REGION_LANDMARKS.items()}
    eye_line, width = marks[36:48, 1].mean(), np.ptp(marks[:, 0])
    top = marks[17:27, 1].max()
    centre["forehead"] = np.column_stack(
        [np.linspace(-0.4, 0.4, 9) * width, np.full(9, top + 0.03), np.full(9, marks[27, 2])]
    )
    cheek = np.array([[s * k * width, eye_line - d, 0] for s in (-1, 1) for k, d in _CHEEK])
    cheek[:, 2] = marks[[31, 35], 2].mean() - 0.012
    centre["cheeks"] = cheek
    distance = np.stack(
        [
            np.linalg.norm(face_model.mean[:, None] - centre[name], axis=2).min(axis=1)
            for name in REGIONS
        ]
    )
    return distance.argmin(axis=0).astype(np.int32)


_CHEEK = ((0.22, 0.035), (0.3, 0.03), (0.36, 0.045))
_REGION_LANDMARKS = {
    "brows": range(17, 27),
    "eyes": range(36, 48),
    "nose": range(27, 36),
    "mouth": range(48, 68),
    "chin": (7, 8, 9),
    "jaw": (0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16),
}
