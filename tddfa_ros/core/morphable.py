"""From coefficients to geometry: landmarks and dense vertices of a linear 3D face model.

A face is ``mean + shape_basis @ shape + expression_basis @ expression`` in model units, moved to
the image by :func:`image_camera` (Zhu et al., *Face Alignment in Full Pose Range*, 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tddfa_native.reconstruct import HeldShape, PackedFaceModel

from tddfa_ros.core.camera import image_camera, params_with_image_camera
from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.types import MorphableParams

if TYPE_CHECKING:
    from tddfa_ros.core.model_set import FaceModel

__all__ = ["HeldShape", "MorphableModel", "image_camera", "params_with_image_camera"]


@dataclass(frozen=True)
class _SparseModel:
    """Selected points of the model: (p, 3) mean and (3p, s + e) joint basis."""

    mean: np.ndarray
    basis: np.ndarray

    def points(self, coefficients: np.ndarray) -> np.ndarray:
        """(f, s + e) coefficients of f faces -> (f, p, 3) points."""
        # Not by BLAS, which would share out this little work among threads.
        moved = np.einsum("rk,fk->fr", self.basis, coefficients)
        return self.mean + moved.reshape(len(coefficients), -1, 3)


class MorphableModel:
    """Geometry of one face model. Immutable, so threads may share it.

    Parameters
    ----------
    face_model : arrays of a model set
    """

    def __init__(self, face_model: FaceModel) -> None:
        self.face_model = face_model
        self._dense = PackedFaceModel(
            face_model.mean, face_model.shape_basis, face_model.expression_basis
        )
        corners = face_model.triangles[face_model.landmark_triangles]
        self._landmarks = self._at(corners, face_model.landmark_weights)
        self._sellion = None
        if face_model.sellion_triangle is not None and face_model.sellion_weights is not None:
            corners = face_model.triangles[[face_model.sellion_triangle]]
            self._sellion = self._at(corners, face_model.sellion_weights[None])

    @property
    def vertex_count(self) -> int:
        """Number of dense vertices, n."""
        return self._dense.vertex_count

    @property
    def shape_count(self) -> int:
        """Number of shape coefficients, s."""
        return self._dense.shape_count

    @property
    def expression_count(self) -> int:
        """Number of expression coefficients, e."""
        return self._dense.expression_count

    def landmarks(self, params: MorphableParams) -> np.ndarray:
        """Compute the 68 landmarks of a fit.

        Returns
        -------
        (68, 3) float32, image space, z above the lowest of the 68

        Raises
        ------
        ModelSetError
            The coefficients are not of this face model.
        """
        return self.landmarks_batch([params])[0]

    def landmarks_batch(self, faces: Sequence[MorphableParams]) -> np.ndarray:
        """Compute the landmarks of each of f faces, (f, 68, 3) float32; as :meth:`landmarks`."""
        result = np.empty((len(faces), len(self._landmarks.mean), 3), np.float32)
        if faces:
            coefficients = [self._coefficients(params) for params in faces]
            points = self._landmarks.points(np.array(coefficients))
            for out, model_points, params in zip(result, points, faces, strict=True):
                _place(model_points, image_camera(params), out)
        return result

    def vertices(
        self,
        params: MorphableParams,
        held: HeldShape | None = None,
        *,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Compute all vertices of a fit.

        Parameters
        ----------
        params : the fit
        held : shape to use instead of ``params.shape``, from :meth:`hold_shape`; about four times
            as fast
        out : (n, 3) float32, C-contiguous, to be filled and returned; a new array by default

        Returns
        -------
        (n, 3) float32, image space, z above the lowest vertex

        Raises
        ------
        ModelSetError
            The coefficients are not of this face model.
        """
        self._check(params.shape, params.expression)
        return self._dense.reconstruct(
            image_camera(params),
            params.shape,
            params.expression,
            held=held,
            z_from_zero=True,
            out=out,
        )[0]

    def vertices_batch(self, faces: Sequence[MorphableParams]) -> np.ndarray:
        """Compute all vertices of each of f faces, (f, n, 3) float32; as :meth:`vertices`."""
        for params in faces:
            self._check(params.shape, params.expression)
        return self._dense.reconstruct_batch(
            np.array([image_camera(params) for params in faces]).reshape(-1, 3, 4),
            [params.shape for params in faces],
            [params.expression for params in faces],
            z_from_zero=True,
        )[0]

    def hold_shape(self, shape: np.ndarray) -> HeldShape:
        """Apply shape coefficients, (s,), once; hand the result to :meth:`vertices`."""
        self._check(shape, None)
        return self._dense.hold(shape)

    def model_vertices(self, shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Compute the vertices in model units, (n, 3) float32: x subject's left, y up, z out."""
        self._check(shape, expression)
        return self._dense.reconstruct(np.eye(3, 4, dtype=np.float32), shape, expression)[0]

    def model_landmarks(self, shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Compute the landmarks in model units, (68, 3) float32, axes as in model_vertices."""
        self._check(shape, expression)
        return self._landmarks.points(_joined(shape, expression)[None])[0]

    def model_sellion(self, shape: np.ndarray, expression: np.ndarray) -> np.ndarray | None:
        """Compute the deepest point of the nose's bridge in model units, (3,) float32.

        The origin of the face frame of REP-155; None if the model set does not say where it is.
        """
        if self._sellion is None:
            return None
        self._check(shape, expression)
        return self._sellion.points(_joined(shape, expression)[None])[0, 0]

    def _at(self, corners: np.ndarray, weights: np.ndarray) -> _SparseModel:
        """Reduce the model to p points, given by (p, 3) corner vertices and barycentric weights."""
        model = self.face_model
        bases = np.concatenate([model.shape_basis[:, corners], model.expression_basis[:, corners]])
        basis = np.einsum("kpcx,pc->pxk", bases, weights, dtype=np.float64)
        mean = np.einsum("pcx,pc->px", model.mean[corners], weights, dtype=np.float64)
        return _SparseModel(
            mean.astype(np.float32),
            np.ascontiguousarray(basis.reshape(-1, len(bases)), np.float32),
        )

    def _coefficients(self, params: MorphableParams) -> np.ndarray:
        self._check(params.shape, params.expression)
        return _joined(params.shape, params.expression)

    def _check(self, shape: np.ndarray, expression: np.ndarray | None) -> None:
        if len(shape) != self.shape_count or (
            expression is not None and len(expression) != self.expression_count
        ):
            given = len(shape) if expression is None else (len(shape), len(expression))
            raise ModelSetError(
                f"{given} coefficients for a face model of {self.shape_count} shape and "
                f"{self.expression_count} expression components; take regressor and face model "
                "from one model set"
            )


def _joined(shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
    return np.concatenate([shape, expression]).astype(np.float32, copy=False)


def _place(points: np.ndarray, camera: np.ndarray, out: np.ndarray) -> None:
    placed = points @ camera[:, :3].T
    placed += camera[:, 3]
    placed[:, 2] -= placed[:, 2].min()
    out[:] = placed
