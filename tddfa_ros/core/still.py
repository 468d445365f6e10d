"""Fits of still pictures: several regions around each face, for the mean of their fits.

A fit depends on how the region frames the face. In a stream the frames before have settled that;
a still has time instead.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tddfa_ros.core.camera import mean_fit
from tddfa_ros.core.model_description import RegressorSpec
from tddfa_ros.core.types import Fits, MorphableParams


def fit_still(
    regress: Callable[[np.ndarray], Fits], rois_xyxy: np.ndarray, spec: RegressorSpec
) -> Fits:
    """Fit each region, one that is smaller and one that is larger about the same centre.

    Parameters
    ----------
    regress : gives fits and confidences of regions (n, 4)
    rois_xyxy : (n, 4), pixels
    spec : says how much smaller and larger; without, regions are fitted as they are

    Returns
    -------
    params, confidences : as `regress` gives them, for the n regions; None where the region itself
        has no fit
    """
    if not spec.still_roi_spread:
        return regress(rois_xyxy)
    low, high = rois_xyxy[:, :2], rois_xyxy[:, 2:]
    centre, half = (low + high) / 2, (high - low) / 2
    regions = [rois_xyxy]
    for share in (1 - spec.still_roi_spread, 1 + spec.still_roi_spread):
        region = np.concatenate([centre - share * half, centre + share * half], axis=1)
        regions.append(np.round(region) if spec.roi_whole_pixels else region)
    fits, confidences = regress(np.concatenate(regions).astype(np.float32))
    count = len(rois_xyxy)
    means: list[MorphableParams | None] = []
    for k, fit in enumerate(fits[:count]):
        found = [other for other in fits[k::count] if other is not None]
        means.append(None if fit is None else mean_fit(found))
    sure = confidences.reshape(-1, count)
    known = np.isfinite(sure)
    total = np.where(known, sure, 0).sum(axis=0)
    mean = np.divide(total, known.sum(axis=0), out=sure[0].copy(), where=known[0])
    return tuple(means), mean.astype(np.float32)
