"""The rig: a whole head on shape and expression components, small enough to commit.

It is what synthetic pictures are made of. Its first components are those of the face model, so a
picture's true coefficients are known.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from tddfa_ros.core.array_file import read_bounded, read_npz
from tddfa_ros.core.atomic_file import replacing
from tddfa_ros.core.errors import ModelSetError, UnsafeFileError
from tddfa_ros.training import expressions, landmarks
from tddfa_ros.training.adults import AdultSampler, align
from tddfa_ros.training.landmarks import SurfacePoints
from tddfa_ros.training.makehuman import EYE, SKIN, MakeHumanHead

MODEL_SHAPES = 40
"""Shape components of the face model; the rig has more, for pictures of more people."""
RIG_SHAPES = 64
EYE_DISTANCE_M = 0.063
"""Distance of the pupils of the average adult."""

_EARS_Z, _CHIN_Y, _FOREHEAD_Y = 0.60183, 6.31817, 7.80263
"""What of the head counts as face, in MakeHuman units."""
_ORIGIN = (0.0, 6.9329990506, 1.1152932808)
"""The rig's origin in MakeHuman units: between ears and nose, brow and chin of the average."""

_MOST_BYTES = 20_000_000
"""Of a rig's file."""
_FACE_WEIGHT, _HEAD_WEIGHT = 1.0, 0.25
"""Weights of face and rest of the head in the principal components."""


@dataclass(frozen=True)
class Rig:
    """The head in metres: x to the subject's left, y up, z out of the face.

    The origin lies in the middle of the face's bounds.

    Attributes
    ----------
    mean : (n, 3) float32
    shape_basis : (s, n, 3) float32, displacement at one standard deviation
    expression_basis : (e, n, 3) float32, displacement at weight 1
    expression_names : (e,) str
    quads : (q, 4) int32, material : (q,) int32 (see :mod:`makehuman`)
    sheet : (q,) bool, outer skin
    atlas_uv : (q, 4, 2) float32, artists' texture coordinates of each face's corners
    mirror : (n,) int32
    landmark_corners, landmark_weights : (68, 3) int32, float32
    sellion_corners, sellion_weights : (1, 3) int32, float32
    """

    mean: np.ndarray
    shape_basis: np.ndarray
    expression_basis: np.ndarray
    expression_names: np.ndarray
    quads: np.ndarray
    material: np.ndarray
    sheet: np.ndarray
    atlas_uv: np.ndarray
    mirror: np.ndarray
    landmark_corners: np.ndarray
    landmark_weights: np.ndarray
    sellion_corners: np.ndarray
    sellion_weights: np.ndarray

    @property
    def landmarks(self) -> SurfacePoints:
        """The 68 points in iBUG order."""
        return SurfacePoints(self.landmark_corners, self.landmark_weights)

    @property
    def triangles(self) -> np.ndarray:
        """(2 q, 3) int32; face k's halves are at k and q + k."""
        return split_quads(self.quads)

    def expression_vector(self, weights: dict[str, float]) -> np.ndarray:
        """(e,) float32 of weights by name.

        Raises
        ------
        KeyError
            A name that the rig lacks.
        """
        index = {str(name): k for k, name in enumerate(self.expression_names)}
        vector = np.zeros(len(index), np.float32)
        for name, value in weights.items():
            vector[index[name]] = value
        return vector

    def pose(self, shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """(n, 3) float32 vertices for (s,) and (e,) coefficients."""
        flat = shape.astype(np.float32) @ self.shape_basis.reshape(
            len(self.shape_basis), -1
        ) + expression.astype(np.float32) @ self.expression_basis.reshape(
            len(self.expression_basis), -1
        )
        return self.mean + flat.reshape(-1, 3)


def split_quads(quads: np.ndarray) -> np.ndarray:
    """(2 q, 3) triangles of (q, 4) quads, counter-clockwise as they were."""
    return np.ascontiguousarray(np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))


def build(head: MakeHumanHead, *, samples: int = 2000, seed: int = 1) -> Rig:
    """Make the rig from the MakeHuman head: sample adults, take principal components."""
    sheet_triangles = split_quads(head.quads[head.on_face_sheet])
    points, sellion = landmarks.place(head.mean_adult, sheet_triangles, head.mirror, head.compact)
    face = face_vertices(head)
    rng = np.random.default_rng(seed)
    sampler = AdultSampler(head, face)
    people = np.stack([sampler.draw(rng) for _ in range(samples)])
    # Each person and the mirror image: the mean and the components are then symmetric.
    mirrored = people[:, head.mirror] * np.array([-1, 1, 1], np.float32)
    mean = (people.mean(axis=0) + mirrored.mean(axis=0)) / 2
    people = np.stack([align(p, mean, face) for p in people])
    mirrored = people[:, head.mirror] * np.array([-1, 1, 1], np.float32)
    weights = np.full(len(mean), _HEAD_WEIGHT, np.float32)
    weights[face] = _FACE_WEIGHT
    basis = principal_components(np.concatenate([people, mirrored]) - mean, weights, RIG_SHAPES)
    units = expressions.components(head)

    eyes = np.unique(head.quads[head.material == EYE])
    left = eyes[mean[eyes, 0] > 0]
    metres = EYE_DISTANCE_M / (2 * mean[left, 0].mean())
    return Rig(
        mean=((mean - _ORIGIN) * metres).astype(np.float32),
        shape_basis=(basis * metres).astype(np.float32),
        expression_basis=np.stack(list(units.values())) * np.float32(metres),
        expression_names=np.array(list(units)),
        quads=head.quads,
        material=head.material,
        sheet=head.on_face_sheet,
        atlas_uv=head.uv[head.quads_uv],
        mirror=head.mirror,
        landmark_corners=points.corners,
        landmark_weights=points.weights,
        sellion_corners=sellion.corners,
        sellion_weights=sellion.weights,
    )


def face_vertices(head: MakeHumanHead) -> np.ndarray:
    """Vertices of the outer skin from ear to ear and chin to forehead: what aligns heads."""
    vertices = np.unique(head.quads[head.on_face_sheet & (head.material == SKIN)])
    at = head.mean_adult[vertices]
    inside = (at[:, 2] >= _EARS_Z) & (at[:, 1] >= _CHIN_Y) & (at[:, 1] <= _FOREHEAD_Y)
    return vertices[inside]


def principal_components(
    deviations: np.ndarray, vertex_weights: np.ndarray, count: int
) -> np.ndarray:
    """(count, n, 3) components of (samples, n, 3) deviations, each one standard deviation long.

    Computed in a space in which each vertex counts by its weight, through the samples' Gram
    matrix, which is the smaller one here.
    """
    samples = len(deviations)
    weighted = (deviations * np.sqrt(vertex_weights)[:, None]).reshape(samples, -1)
    gram = (weighted @ weighted.T).astype(np.float64) / samples
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    # With X = sum_k sqrt(samples) u_k (component_k), the component is X^T u_k / sqrt(samples).
    flat = deviations.reshape(samples, -1)
    components = (vectors.T.astype(np.float32) @ flat) / np.sqrt(samples)
    return components.reshape(count, *deviations.shape[1:])


def save(rig: Rig, path: str | Path) -> None:
    """Write the rig: the mean as float32, components as int8 with one scale each."""
    arrays: dict[str, np.ndarray] = {}
    for name in (f.name for f in fields(Rig)):
        value = getattr(rig, name)
        if name in ("shape_basis", "expression_basis"):
            scale = np.abs(value).max(axis=(1, 2)) / 127
            arrays[name] = np.round(value / scale[:, None, None]).astype(np.int8)
            arrays[f"{name}_scale"] = scale.astype(np.float32)
        elif name in ("quads", "landmark_corners", "sellion_corners", "mirror"):
            arrays[name] = value.astype(np.uint16)
        elif name == "material":
            arrays[name] = value.astype(np.uint8)
        elif name == "atlas_uv":
            arrays[name] = np.round(value * 65535).astype(np.uint16)
        else:
            arrays[name] = value
    write_npz(path, arrays)


def load(path: str | Path) -> Rig:
    """Read a rig that :func:`save` wrote.

    Raises
    ------
    ModelSetError
        Missing, damaged or of another format.
    """
    try:
        arrays = read_npz(read_bounded(Path(path), _MOST_BYTES), str(path), 20 * _MOST_BYTES)
    except (OSError, UnsafeFileError) as error:
        raise ModelSetError(f"cannot read the rig {path}: {error}") from error
    missing = {f.name for f in fields(Rig)} - set(arrays)
    if missing:
        raise ModelSetError(f"rig {path} lacks {', '.join(sorted(missing))}; make it again")
    values = {}
    for name in (f.name for f in fields(Rig)):
        value = arrays[name]
        if name in ("shape_basis", "expression_basis"):
            value = value.astype(np.float32) * arrays[f"{name}_scale"][:, None, None]
        elif name == "atlas_uv":
            value = value.astype(np.float32) / 65535
        elif value.dtype in (np.uint16, np.uint8):
            value = value.astype(np.int32)
        values[name] = value
    return Rig(**values)


def digest(rig: Rig) -> str:
    """What tells this rig from others, however its file is packed: SHA-256 of its arrays."""
    state = hashlib.sha256()
    for name in (f.name for f in fields(Rig)):
        value = np.ascontiguousarray(getattr(rig, name))
        state.update(f"{name} {value.dtype.str} {value.shape}".encode())
        state.update(value.tobytes())
    return state.hexdigest()


def write_npz(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed .npz, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
