"""Where the parts of a face lie in its texture: the mesh spread out by its texture coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tddfa_native.rasterize import MeshTopology, VisibilityBuffer

from tddfa_ros.core.errors import TddfaError

if TYPE_CHECKING:
    from tddfa_ros.core.face_model import FaceModel

LARGEST_TEXTURE = 4096


class TextureLayout:
    """The layout of one face model's texture; the buffer of the size asked for last is kept.

    Parameters
    ----------
    face_model : arrays of a model set
    topology : of its mesh
    """

    def __init__(self, face_model: FaceModel, topology: MeshTopology) -> None:
        self._face_model = face_model
        self._topology = topology
        self._unwrapped: dict[tuple[int, int], VisibilityBuffer] = {}

    def unwrapped(self, size_hw: tuple[int, int]) -> VisibilityBuffer:
        """Return the mesh spread out by its texture coordinates.

        Texel (row, column) lies at u = column / (width - 1), v = 1 - row / (height - 1), as in
        3DDFA_V2.

        Raises
        ------
        TddfaError
            A side is not within 2 and ``LARGEST_TEXTURE``.
        """
        height, width = size_hw
        if not (2 <= height <= LARGEST_TEXTURE and 2 <= width <= LARGEST_TEXTURE):
            raise TddfaError(
                f"texture of {height}x{width}: each side must be 2 to {LARGEST_TEXTURE}"
            )
        if size_hw not in self._unwrapped:
            uv = self._face_model.uv
            buffer = VisibilityBuffer(height, width)
            flat = np.zeros((len(uv), 3), np.float32)
            flat[:, 0] = uv[:, 0] * (width - 1)
            flat[:, 1] = (1.0 - uv[:, 1]) * (height - 1)
            buffer.draw(flat, self._topology)
            self._unwrapped = {size_hw: buffer}
        return self._unwrapped[size_hw]

    def mirror_map(self, size: int) -> np.ndarray:
        """Tell where the mirror image of each texel lies in the texture.

        By the face model's `symmetry`; without one the texture's layout is taken to be symmetric
        about u = 0.5, as that of BFM is within 1 % of its width.

        Returns
        -------
        (size, size, 2) float32, x and y in texels, for ``cv2.remap``; -1 where there is no mesh
        """
        uv, symmetry = self._face_model.uv, self._face_model.symmetry
        mirrored = uv * [-1.0, 1.0] + [1.0, 0.0] if symmetry is None else uv[symmetry]
        out = np.full((size, size, 2), -1.0, np.float32)
        mirrored = mirrored * [1.0, -1.0] + [0.0, 1.0]
        return self.unwrapped((size, size)).interpolate(0, mirrored, out, scale=size - 1)
