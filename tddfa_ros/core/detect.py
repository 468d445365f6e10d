"""Face detection: an image in, boxes and scores out."""

from __future__ import annotations

import math

import cv2
import numpy as np

from tddfa_ros.core.image import require_bgr_image
from tddfa_ros.core.model_set import DetectorSpec, ModelSet
from tddfa_ros.core.onnx_session import DETECTOR_INPUTS, DETECTOR_OUTPUTS, OnnxSession
from tddfa_ros.core.types import Detections

LEAST_SIDE_PX = 8
"""What the network sees must have so many pixels each way; with fewer some fail, and none finds."""


class Detector:
    """The face detector of a model set.

    Parameters
    ----------
    model_set : names the network and says how to use it
    threads : that compute one image; 0 lets the runtime choose

    Raises
    ------
    ModelSetError
        The network cannot be loaded or is not a detector.
    """

    def __init__(self, model_set: ModelSet, *, threads: int) -> None:
        self._spec = model_set.detector
        self._session = OnnxSession(
            model_set.detector_path,
            threads=threads,
            inputs=DETECTOR_INPUTS,
            outputs=DETECTOR_OUTPUTS,
        )

    def detect(self, image_bgr: np.ndarray, threshold: float | None = None) -> Detections:
        """Find the faces of an image.

        Parameters
        ----------
        image_bgr : (height, width, 3) uint8
        threshold : least score of a face, in [0, 1]; None takes the model set's own

        Returns
        -------
        Detections
            In pixels of `image_bgr`, best first, none overlapping another as much as the model
            set's limit.

        Raises
        ------
        ImageError
            The image is not BGR uint8, or empty.
        ModelSetError
            The network fails.
        """
        spec = self._spec
        least = spec.score_threshold if threshold is None else threshold
        image, scale = _scaled_down(require_bgr_image(image_bgr), spec)
        if min(image.shape[:2]) < LEAST_SIDE_PX:
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        boxes, scores = self._session.run({"image": image})
        # A box is dropped only for a better one, so those below the threshold decide nothing.
        wanted = (scores > max(least, spec.candidate_threshold)) & _are_boxes(boxes)
        boxes, scores = boxes[wanted], scores[wanted]
        order = np.argsort(-scores, kind="stable")[: spec.pre_nms]
        boxes, scores = boxes[order] / np.float32(scale), scores[order]
        kept = non_maximum_suppression(boxes, spec.nms_iou, spec.keep)
        return Detections(boxes_xyxy=boxes[kept], scores=scores[kept])


def _are_boxes(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(n,) bool: finite, and the corners in order."""
    ordered = (boxes_xyxy[:, :2] <= boxes_xyxy[:, 2:]).all(axis=1)
    return ordered & np.isfinite(boxes_xyxy).all(axis=1)


def non_maximum_suppression(boxes_xyxy: np.ndarray, max_iou: float, keep: int) -> np.ndarray:
    """Drop each box that overlaps a better one which is kept.

    Sides count one pixel more than the difference of the corners, as in Fast R-CNN.

    Parameters
    ----------
    boxes_xyxy : (n, 4) float32, best first
    max_iou : intersection over union from which on the worse of two boxes is dropped
    keep : most boxes that are kept

    Returns
    -------
    indices of the kept boxes, ascending
    """
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    areas = (high - low + 1).prod(axis=1)
    left = np.arange(len(boxes_xyxy))
    kept: list[int] = []
    while len(left) and len(kept) < keep:
        best, left = left[0], left[1:]
        kept.append(int(best))
        sides = np.minimum(high[left], high[best]) - np.maximum(low[left], low[best]) + 1
        shared = np.maximum(sides, 0).prod(axis=1)
        iou = shared / (areas[left] + areas[best] - shared)
        left = left[iou.astype(np.float64) < max_iou]
    return np.array(kept, np.intp)


def seen_scale(height: int, width: int, spec: DetectorSpec) -> float:
    """Pixels along a side that a network sees of an image / pixels that it has; at most 1."""
    scale = min(1.0, spec.max_height / height)
    if width * scale > spec.max_width:
        scale *= spec.max_width / (width * scale)
    as_usual = scale * spec.input_scale
    return max(as_usual, min(scale, math.sqrt(spec.input_area_px / (height * width))))


def _scaled_down(image_bgr: np.ndarray, spec: DetectorSpec) -> tuple[np.ndarray, float]:
    """Image as the network wants it, and its scale: pixels of it / of the original."""
    height, width = image_bgr.shape[:2]
    scale = seen_scale(height, width, spec)
    # As 3DDFA_V2 scales, where the size alone asks for it; whole cells of pixels otherwise.
    interpolation = cv2.INTER_LINEAR if spec.input_scale == 1.0 else cv2.INTER_AREA
    if scale == 1.0:
        return image_bgr, scale
    size = (max(1, int(scale * width)), max(1, int(scale * height)))
    return cv2.resize(image_bgr, size, interpolation=interpolation), scale
