"""Textures of faces: averages over a track, the unseen filled in.

A texture is (size, size, 4) uint8 BGRA in the layout of the model set's `uv`, as
:meth:`tddfa_ros.core.render.RenderedFrame.texture` takes it from an image. Alpha tells what is
known of a texel: ``SEEN``, ``MIRRORED`` from the other half of the face, or ``UNKNOWN``.
"""

from __future__ import annotations

import cv2
import numpy as np

from tddfa_ros.core.errors import TddfaError

SEEN = 255
MIRRORED = 127
UNKNOWN = 0

# Mirrored texels this close to a seen one (share of the texture's side) fade into it.
_SEAM = 1 / 16


class TextureAverage:
    """Texture of one track, completing itself as the head turns.

    Each texel is the mean of what was seen, weighted by the square of the cosine under which it
    was: a texel seen at a grazing angle soon gives way to the same one seen from the front.

    Parameters
    ----------
    size : texels a side
    memory : sum of weights that is remembered; a texel seen from the front follows changes of light
        within about as many frames
    """

    def __init__(self, size: int, memory: float = 30.0) -> None:
        if memory <= 0:
            raise TddfaError(f"memory={memory}: must be greater than 0")
        self.size = size
        self.memory = memory
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._mean = np.zeros((self.size, self.size, 3), np.float32)
        self._weight = np.zeros((self.size, self.size), np.float32)

    def add(self, texture_bgra: np.ndarray, weight: np.ndarray) -> None:
        """Add what one frame shows.

        Parameters
        ----------
        texture_bgra : (size, size, 4) uint8
        weight : (size, size) float32, cosine of the angle of sight, 0 where unseen

        Raises
        ------
        TddfaError
            Another size.
        """
        expected = (self.size, self.size)
        if texture_bgra.shape != (*expected, 4) or weight.shape != expected:
            raise TddfaError(
                f"texture {texture_bgra.shape} with weight {weight.shape}: this average is of "
                f"size {self.size}"
            )
        new = np.square(weight, dtype=np.float32)
        total = self._weight + new
        share = np.divide(new, total, out=np.zeros_like(new), where=total > 0)
        seen_bgr = cv2.cvtColor(texture_bgra, cv2.COLOR_BGRA2BGR)
        change = cv2.subtract(seen_bgr, self._mean, dtype=cv2.CV_32F)
        self._mean += cv2.multiply(change, cv2.merge([share] * 3), dst=change)
        np.minimum(total, self.memory, out=self._weight)

    def texture(self) -> np.ndarray:
        """Return the average so far, (size, size, 4) uint8 BGRA."""
        out = np.empty((self.size, self.size, 4), np.uint8)
        cv2.mixChannels([cv2.convertScaleAbs(self._mean)], [out], [0, 0, 1, 1, 2, 2])
        out[..., 3] = np.where(self._weight > 0, SEEN, UNKNOWN)
        return out


def fill_mirrored(texture_bgra: np.ndarray, mirror_map: np.ndarray) -> np.ndarray:
    """Fill unknown texels from the other half of the face, where that is known.

    Parameters
    ----------
    texture_bgra : (size, size, 4) uint8
    mirror_map : (size, size, 2) float32, as
        :meth:`tddfa_ros.core.texture_layout.TextureLayout.mirror_map` gives it

    Returns
    -------
    (size, size, 4) uint8; alpha of filled texels is ``MIRRORED``

    Notes
    -----
    Near the seam the filled part takes over the brightness of the seen one, as light from one side
    would leave an edge otherwise.
    """
    seen = texture_bgra[..., 3] > UNKNOWN
    other = cv2.remap(texture_bgra, mirror_map, None, cv2.INTER_LINEAR, borderValue=(0, 0, 0, 0))
    mirrored = other[..., 3] == SEEN
    radius = max(1, round(_SEAM * len(texture_bgra)))
    both = (seen & mirrored).astype(np.float32)
    difference = (texture_bgra[..., :3].astype(np.float32) - other[..., :3]) * both[..., None]
    size = (2 * radius + 1, 2 * radius + 1)
    count = np.maximum(cv2.blur(both, size), 1e-6)[..., None]
    change = cv2.blur(difference, size) / count
    distance = cv2.distanceTransform(1 - seen.astype(np.uint8), cv2.DIST_L2, 3)
    fade = np.clip(1.0 - (distance - 1.0) / radius, 0.0, 1.0)[..., None]
    fill = mirrored & ~seen
    out = texture_bgra.copy()
    out[fill, :3] = np.rint(np.clip(other[..., :3] + fade * change, 0, 255))[fill]
    out[fill, 3] = MIRRORED
    return out


def complete(texture_bgra: np.ndarray) -> np.ndarray:
    """Fill every unknown texel smoothly from the known ones around it, for mesh files.

    Returns
    -------
    (size, size, 3) uint8 BGR; mid grey if nothing is known. Known texels are unchanged.

    Notes
    -----
    Push-pull: means over ever larger blocks fill what smaller ones leave open (Gortler et al.,
    *The Lumigraph*, 1996).
    """
    known = texture_bgra[..., 3] > UNKNOWN
    colour = texture_bgra[..., :3].astype(np.float32)
    filled = _push_pull(colour * known[..., None], known.astype(np.float32))
    return np.rint(np.clip(filled, 0, 255)).astype(np.uint8)


def _push_pull(weighted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Colours from (h, w, 3) sums and their (h, w) weights in [0, 1]; every texel gets one.

    That of a weight of 1 is its sum.
    """
    height, width = weight.shape
    if max(height, width) == 1 or weight.min() > 0:
        mean = weighted / np.maximum(weight, 1e-6)[..., None]
        return np.where(weight[..., None] > 0, mean, 127.0).astype(np.float32)
    half = ((width + 1) // 2, (height + 1) // 2)
    coarse = _push_pull(
        cv2.resize(weighted, half, interpolation=cv2.INTER_AREA),
        cv2.resize(weight, half, interpolation=cv2.INTER_AREA),
    )
    below = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return weighted + (1.0 - weight[..., None]) * below
