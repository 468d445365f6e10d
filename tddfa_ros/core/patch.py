"""Pixels of a region of an image, at the size of a network's input.

Below the stages, so that the regressor can fill its batch and the crop stage can offer the same.
"""

from __future__ import annotations

import cv2
import numpy as np

# A padded copy may have this many pixels, or this many times those of its image: its pages outside
# the image are never written and so take no memory, but an ROI larger still is no face.
_MAX_PADDED_PIXELS = 2**24
_MAX_PADDED_SHARE = 4
_MAX_COORDINATE = 2**30


def crop_into(image_bgr: np.ndarray, roi_xyxy: np.ndarray, out: np.ndarray) -> bool:
    """Write the pixels of a region, resized bilinearly, into `out`.

    Corners are rounded to whole pixels, halves to the even one. What lies outside the image is 0.

    Parameters
    ----------
    image_bgr : (height, width, 3) uint8
    roi_xyxy : (4,), pixels
    out : (size, size, 3) uint8, C-contiguous

    Returns
    -------
    False, and `out` as it was, if there is nothing of the image in the region or no size that makes
    sense of it: empty, not finite, or far larger than the image.
    """
    corners = [float(corner) for corner in roi_xyxy]
    if not all(abs(corner) <= _MAX_COORDINATE for corner in corners):  # also not if it is NaN
        return False
    left, top, right, bottom = (round(corner) for corner in corners)
    height, width = image_bgr.shape[:2]
    inner_left, inner_top = max(left, 0), max(top, 0)
    inner_right, inner_bottom = min(right, width), min(bottom, height)
    if inner_left >= inner_right or inner_top >= inner_bottom:
        return False
    region = image_bgr[inner_top:inner_bottom, inner_left:inner_right]
    if region.shape[:2] != (bottom - top, right - left):
        pixels = (bottom - top) * (right - left)
        if pixels > max(_MAX_PADDED_PIXELS, _MAX_PADDED_SHARE * height * width):
            return False
        padded = np.zeros((bottom - top, right - left, 3), np.uint8)
        padded[inner_top - top : inner_bottom - top, inner_left - left : inner_right - left] = (
            region
        )
        region = padded
    cv2.resize(region, (out.shape[1], out.shape[0]), dst=out, interpolation=cv2.INTER_LINEAR)
    return True
