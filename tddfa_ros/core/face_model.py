"""The linear face model of a set, and the checks that its arrays must pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.types import LANDMARK_COUNT

MAX_VERTICES = 1_000_000
MAX_TRIANGLES = 2_000_000

REQUIRED = {
    "mean": np.float32,
    "shape_basis": np.float32,
    "expression_basis": np.float32,
    "triangles": np.int32,
    "uv": np.float32,
    "landmark_triangles": np.int32,
    "landmark_weights": np.float32,
}
OPTIONAL = {
    "sellion_triangle": np.int32,
    "sellion_weights": np.float32,
    "symmetry": np.int32,
    "expression_names": np.str_,
    "pncc": np.float32,
}
WEIGHT_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class FaceModel:
    """A linear face: ``mean + shape_basis . shape + expression_basis . expression``.

    Model space: x to the subject's left, y up, z out of the face, in model units.

    Attributes
    ----------
    mean : (n, 3) float32, model units
    shape_basis : (s, n, 3) float32, model units per coefficient
    expression_basis : (e, n, 3) float32, model units per coefficient
    triangles : (m, 3) int32, counter-clockwise seen from outside
    uv : (n, 2) float32 in [0, 1], v up
    landmark_triangles : (68,) int32, index of the triangle that holds each landmark
    landmark_weights : (68, 3) float32, barycentric, of that triangle's corners
    metres_per_unit : metres in one model unit, for a head of average size
    sellion_triangle : index of the triangle that holds the sellion, or None
    sellion_weights : (3,) float32, barycentric, or None
    symmetry : (n,) int32, index of each vertex's mirror image, or None
    expression_names : one name for each expression coefficient, or None
    pncc : (n, 3) float32 in [0, 1], normalised coordinate code x, y, z, or None
    """

    mean: np.ndarray
    shape_basis: np.ndarray
    expression_basis: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    landmark_triangles: np.ndarray
    landmark_weights: np.ndarray
    metres_per_unit: float
    sellion_triangle: int | None = None
    sellion_weights: np.ndarray | None = None
    symmetry: np.ndarray | None = None
    expression_names: tuple[str, ...] | None = None
    pncc: np.ndarray | None = None


def face_model_from_arrays(
    arrays: dict[str, np.ndarray], metres_per_unit: float, source: str
) -> FaceModel:
    """Check the arrays of ``face_model.npz``.

    Parameters
    ----------
    arrays : name -> array, as docs/architecture.md lists them
    metres_per_unit : see :class:`FaceModel`
    source : name for messages

    Raises
    ------
    ModelSetError
        An array is missing, unknown, or of the wrong type, shape or range.
    """
    known = REQUIRED | OPTIONAL
    missing = [name for name in REQUIRED if name not in arrays]
    unknown = [name for name in arrays if name not in known]
    if missing or unknown:
        raise ModelSetError(f"{source}: missing arrays {missing}, unknown arrays {unknown}")
    for name, array in arrays.items():
        if array.dtype.type is not known[name]:
            wanted = known[name].__name__
            raise ModelSetError(f"{source}: {name} is {array.dtype}, expected {wanted}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelSetError(f"{source}: {name} holds NaN or infinity")
    check = _Checker(arrays, source)
    vertices = check.count("mean", MAX_VERTICES)
    triangles = check.count("triangles", MAX_TRIANGLES)
    expressions = check.count("expression_basis", MAX_VERTICES)
    check.shape("mean", (vertices, 3))
    check.shape("shape_basis", (check.count("shape_basis", MAX_VERTICES), vertices, 3))
    check.shape("expression_basis", (expressions, vertices, 3))
    check.shape("triangles", (triangles, 3))
    check.range("triangles", 0, vertices - 1)
    check.shape("uv", (vertices, 2))
    check.range("uv", 0, 1)
    check.shape("landmark_triangles", (LANDMARK_COUNT,))
    check.range("landmark_triangles", 0, triangles - 1)
    check.shape("landmark_weights", (LANDMARK_COUNT, 3))
    check.weights("landmark_weights")
    check.shape("sellion_triangle", ())
    check.range("sellion_triangle", 0, triangles - 1)
    check.shape("sellion_weights", (3,))
    check.weights("sellion_weights")
    check.shape("symmetry", (vertices,))
    check.range("symmetry", 0, vertices - 1)
    check.shape("expression_names", (expressions,))
    check.shape("pncc", (vertices, 3))
    check.range("pncc", 0, 1)
    if ("sellion_triangle" in arrays) != ("sellion_weights" in arrays):
        raise ModelSetError(f"{source}: sellion_triangle and sellion_weights go together")
    fields: dict[str, object] = dict(arrays)
    if "sellion_triangle" in arrays:
        fields["sellion_triangle"] = int(arrays["sellion_triangle"])
    if "expression_names" in arrays:
        fields["expression_names"] = tuple(str(name) for name in arrays["expression_names"])
    return FaceModel(metres_per_unit=float(metres_per_unit), **fields)  # type: ignore[arg-type]


def face_model_arrays(face_model: FaceModel) -> dict[str, np.ndarray]:
    """Inverse of :func:`face_model_from_arrays`: what to write as ``face_model.npz``."""
    values = {name: getattr(face_model, name) for name in REQUIRED | OPTIONAL}
    return {
        name: np.asarray(values[name], None if dtype is np.str_ else dtype)
        for name, dtype in (REQUIRED | OPTIONAL).items()
        if values[name] is not None
    }


class _Checker:
    """Checks on the arrays by name; absent ones (the optional) pass."""

    def __init__(self, arrays: dict[str, np.ndarray], source: str) -> None:
        self.arrays = arrays
        self.source = source

    def count(self, name: str, most: int) -> int:
        shape = self.arrays[name].shape
        if not shape or not 1 <= shape[0] <= most:
            raise ModelSetError(f"{self.source}: {name} has shape {shape}, at most {most} rows")
        return int(shape[0])

    def shape(self, name: str, expected: tuple[int, ...]) -> None:
        if name in self.arrays and self.arrays[name].shape != expected:
            raise ModelSetError(
                f"{self.source}: {name} has shape {self.arrays[name].shape}, expected {expected}"
            )

    def range(self, name: str, low: float, high: float) -> None:
        if name not in self.arrays:
            return
        least, most = self.arrays[name].min(), self.arrays[name].max()
        if least < low or most > high:
            raise ModelSetError(
                f"{self.source}: {name} ranges from {least:g} to {most:g}, "
                f"expected {low:g} to {high:g}"
            )

    def weights(self, name: str) -> None:
        if name not in self.arrays:
            return
        self.range(name, -WEIGHT_TOLERANCE, 1 + WEIGHT_TOLERANCE)
        off = np.abs(self.arrays[name].sum(axis=-1, dtype=np.float64) - 1).max()
        if off > WEIGHT_TOLERANCE:
            raise ModelSetError(f"{self.source}: {name} do not sum to 1, off by {off:g}")
