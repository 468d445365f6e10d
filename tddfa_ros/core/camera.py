"""The weak-perspective camera of a fit: from the network's input to the image, and back.

Numbers as in 3DDFA_V2: its pixel coordinates count from 1 and its y points up, so a vertex
``(x, y, z)`` of the network's input lies in the image at ``(x - 1, size - y, z - 1)``, scaled by
ROI side / input size and moved to the ROI's corner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tddfa_ros.core.errors import TddfaError
from tddfa_ros.core.types import MorphableParams


def _scale_and_offset(params: MorphableParams) -> tuple[np.ndarray, np.ndarray]:
    """Per axis: image coordinate = scale * network coordinate + offset."""
    left, top, right, bottom = params.roi_xyxy.tolist()
    size = float(params.input_size)
    scale_x, scale_y = (right - left) / size, (bottom - top) / size
    scale_z = (scale_x + scale_y) / 2
    scale = np.array([scale_x, -scale_y, scale_z])
    return scale, np.array([left - scale_x, top + size * scale_y, -scale_z])


def image_camera(params: MorphableParams) -> np.ndarray:
    """Give the affine map from model units to image space, before z is shifted to start at 0.

    Returns
    -------
    (3, 4) float64; rows give x and y in pixels (y down) and z in pixels, larger = nearer
    """
    scale, offset = _scale_and_offset(params)
    # One memory layout, so that what is computed from it is the same bit by bit.
    camera = np.array(params.camera, np.float64, order="C")
    camera *= scale[:, None]
    camera[:, 3] += offset
    return camera


def params_with_image_camera(params: MorphableParams, camera: np.ndarray) -> MorphableParams:
    """Put the same face, in the same ROI, under another image-space camera.

    Inverse of :func:`image_camera`, up to the rounding of float32.

    Parameters
    ----------
    params : whose ROI, input size and coefficients are kept
    camera : (3, 4), from model units to image space, as :func:`image_camera` gives it

    Raises
    ------
    TddfaError
        The ROI has no area.
    """
    scale, offset = _scale_and_offset(params)
    if not scale.all():
        raise TddfaError(
            f"roi_xyxy={params.roi_xyxy.tolist()}: has no area, so no camera can be expressed in "
            "it; give the region that the network saw"
        )
    network = np.array(camera, np.float64, order="C")
    network[:, 3] -= offset
    network /= scale[:, None]
    network += 0.0  # a zero has no sign
    return dataclasses.replace(params, camera=network.astype(np.float32))


def mean_fit(fits: Sequence[MorphableParams]) -> MorphableParams:
    """Give the mean of several fits of one face, in the region of the first.

    Image-space cameras and coefficients are averaged. Where the fits disagree by an angle, the
    mean's scale is smaller by the cosine of half of it: a thousandth at 5 degrees.
    """
    return dataclasses.replace(
        params_with_image_camera(fits[0], np.mean([image_camera(fit) for fit in fits], axis=0)),
        shape=np.mean([fit.shape for fit in fits], axis=0, dtype=np.float32),
        expression=np.mean([fit.expression for fit in fits], axis=0, dtype=np.float32),
    )
