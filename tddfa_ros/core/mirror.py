"""Fits of a crop from fits of the crop as a mirror shows it, for face models that are symmetric."""

from __future__ import annotations

import numpy as np

from tddfa_ros.core.face_model import FaceModel

# Least correlation of a component with the mirror image of another (or itself): a symmetric basis
# of 16-bit numbers has 1 to three digits.
_LEAST_LIKENESS = 0.99


class ParameterMirror:
    """What becomes of regressed vectors when face and picture change left and right.

    Parameters
    ----------
    order, signs : (s + e,) which coefficient takes the place of each, and times what
    """

    def __init__(self, order: np.ndarray, signs: np.ndarray) -> None:
        self._order = 12 + order
        self._signs = signs.astype(np.float32)

    @classmethod
    def of(cls, face_model: FaceModel) -> ParameterMirror | None:
        """Find the mirror image of each component.

        Returns
        -------
        None if the model names no mirror images of its vertices, or a component has none.
        """
        if face_model.symmetry is None:
            return None
        order: list[int] = []
        signs: list[float] = []
        for basis in (face_model.shape_basis, face_model.expression_basis):
            here = basis.reshape(len(basis), -1)
            there = basis[:, face_model.symmetry] * np.array([-1, 1, 1], np.float32)
            length = np.linalg.norm(here, axis=1) + 1e-30
            likeness = (here / length[:, None]) @ (
                there.reshape(len(basis), -1) / length[:, None]
            ).T
            # The component whose mirror image is component k.
            source = np.abs(likeness).argmax(axis=1)
            found = likeness[np.arange(len(basis)), source]
            if (np.abs(found) < _LEAST_LIKENESS).any():
                return None
            order += (len(order) + source).tolist()
            signs += np.sign(found).tolist()
        return cls(np.array(order), np.array(signs))

    def undo(self, vectors: np.ndarray, input_size: int, image_px_per_px: np.ndarray) -> np.ndarray:
        """Turn fits of mirrored crops into fits of the crops.

        Parameters
        ----------
        vectors : (n, 12 + s + e) float32, see :class:`~tddfa_ros.core.types.MorphableParams`
        input_size : side of the crops, pixels
        image_px_per_px : (n,) pixels of the image, across, in one of the crop

        Returns
        -------
        (n, 12 + s + e) float32

        Notes
        -----
        A camera counts a crop's pixels from 1 and maps pixel 1 to the region's first one, whatever
        their sizes. Columns u and u' that mirror each other in the image then have
        ``u + u' = input_size + 2 - 1 / image_px_per_px``.
        """
        camera = vectors[:, :12].reshape(-1, 3, 4).copy()
        camera[:, 0] *= -1
        camera[:, :, 0] *= -1
        camera[:, 0, 3] += input_size + 2 - 1 / image_px_per_px
        coefficients = vectors[:, self._order] * self._signs
        return np.concatenate([camera.reshape(-1, 12), coefficients], axis=1)
