"""Hold the shape of a face that has been watched long enough.

Identity does not change while a face is followed, but a regressor gives new shape coefficients for
every frame. Held at their mean over the first frames they make the mesh steadier, and cheaper: mean
face plus shape need be summed up only once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from tddfa_ros.core.types import MorphableParams


class Held(Protocol):
    """What a face model keeps of a held shape."""

    @property
    def shape(self) -> np.ndarray:
        """(n_shape,) float32 coefficients."""


HeldT = TypeVar("HeldT", bound=Held)


class ShapeHold(Generic[HeldT]):
    """Running mean of each face's shape coefficients, frozen after some frames.

    Parameters
    ----------
    frames : how many frames are averaged; 0 leaves all shapes as they are
    hold : prepares (n_shape,) float32 coefficients for repeated use
    """

    def __init__(self, frames: int, hold: Callable[[np.ndarray], HeldT]) -> None:
        self._frames = frames
        self._hold = hold
        self._sums: dict[str, tuple[int, np.ndarray]] = {}
        self._held: dict[str, HeldT] = {}

    def held(self, face_id: str) -> HeldT | None:
        """Return what `hold` made of that face's shape, or None while it is not held."""
        return self._held.get(face_id)

    def apply(self, face_id: str, params: MorphableParams) -> MorphableParams:
        """Count a fit in, and return it with the held shape once there is one."""
        if self._frames == 0:
            return params
        if face_id not in self._held:
            count, total = self._sums.get(face_id, (0, np.zeros_like(params.shape, np.float64)))
            count, total = count + 1, total + params.shape
            self._sums[face_id] = (count, total)
            if count < self._frames:
                return params
            self._held[face_id] = self._hold((total / count).astype(np.float32))
            del self._sums[face_id]
        return replace(params, shape=self._held[face_id].shape)

    def forget_unfinished(self, face_ids: set[str]) -> None:
        """Begin those faces' means anew, unless they are held already."""
        self._sums = {key: value for key, value in self._sums.items() if key not in face_ids}

    def keep_only(self, face_ids: set[str]) -> None:
        """Forget all other faces."""
        self._sums = {key: value for key, value in self._sums.items() if key in face_ids}
        self._held = {key: value for key, value in self._held.items() if key in face_ids}
