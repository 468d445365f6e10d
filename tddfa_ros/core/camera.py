"""The weak-perspective camera of a fit, from model units to the pixels of the image.

A vertex v of the fit lies at ``camera[:, :3] @ v + camera[:, 3]`` in the coordinates of the
network's input, y up and counted from 1 as 3DDFA's training data was. From there it goes to the
image by x - 1, size - y, z - 1, scaled by ROI side / size and moved to the ROI's origin.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tddfa_ros.core.types import MorphableParams


def image_camera(params: MorphableParams) -> np.ndarray:
    """Camera that takes model points to image space, before z is counted from the lowest point.

    Returns
    -------
    (3, 4) float64; x and y in pixels of the image, y down, z in pixels towards the camera
    """
    scale, offset = _input_to_image(params)
    camera = np.asarray(params.camera, np.float64) * scale[:, None]
    camera[:, 3] += offset
    return camera


def params_with_image_camera(params: MorphableParams, camera: np.ndarray) -> MorphableParams:
    """Return `params` with another camera of image space, (3, 4); the inverse of `image_camera`."""
    scale, offset = _input_to_image(params)
    moved = np.array(camera, np.float64)
    moved[:, 3] -= offset
    return replace(params, camera=(moved / scale[:, None]).astype(np.float32))


def _input_to_image(params: MorphableParams) -> tuple[np.ndarray, np.ndarray]:
    left, top, right, bottom = (float(edge) for edge in params.roi_xyxy)
    size = params.input_size
    scale_x, scale_y = (right - left) / size, (bottom - top) / size
    scale_z = (scale_x + scale_y) / 2
    scale = np.array([scale_x, -scale_y, scale_z])
    return scale, np.array([left - scale_x, top + size * scale_y, -scale_z])
