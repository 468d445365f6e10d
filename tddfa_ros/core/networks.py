"""Both networks of a model set, and looks, behind one door: all that a pipeline has of pixels."""

from __future__ import annotations

import numpy as np

from tddfa_ros.core.appearance import appearance_of
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.detect import Detector
from tddfa_ros.core.model_set import ModelSet
from tddfa_ros.core.regress import Regressor
from tddfa_ros.core.tiles import detect_small_too
from tddfa_ros.core.types import Detections, Fits


class Networks:
    """The detector and the regressor of a model set.

    Parameters
    ----------
    model_set : names the networks
    config : their thread counts

    Notes
    -----
    Detection may run in another thread than regression. Who wraps this class, to keep a journal
    say, is told the index of each frame.
    """

    def __init__(self, model_set: ModelSet, config: PipelineConfig) -> None:
        self._regressor = Regressor(model_set, threads=config.regressor_threads)
        if config.mirrored_fits == "always":
            self._regressor.seek_mirror()
        self._detector = Detector(model_set, threads=config.detector_threads)
        self._detector_spec = model_set.detector

    def detect(
        self, image_bgr: np.ndarray, frame_index: int, threshold: float, deepest_zoom: int
    ) -> Detections:
        """Find faces; see :func:`tddfa_ros.core.tiles.detect_small_too`."""

        def detect(part_bgr: np.ndarray) -> Detections:
            return self._detector.detect(part_bgr, threshold)

        return detect_small_too(detect, image_bgr, self._detector_spec, deepest_zoom)

    def regress(
        self, image_bgr: np.ndarray, frame_index: int, rois_xyxy: np.ndarray, *, mirrored: bool
    ) -> Fits:
        """Fit faces; see :meth:`tddfa_ros.core.regress.Regressor.regress`."""
        return self._regressor.regress(image_bgr, rois_xyxy, mirrored=mirrored)

    def look(
        self, image_bgr: np.ndarray, frame_index: int, bounds_xyxy: np.ndarray
    ) -> np.ndarray | None:
        """Small picture of a face; see :func:`tddfa_ros.core.appearance.appearance_of`."""
        return appearance_of(image_bgr, bounds_xyxy)
