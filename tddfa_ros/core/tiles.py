"""Small faces: the detector looks at the whole picture, then at ever smaller parts of it.

The detector scales a picture down to what it was made for; in a photograph of twelve megapixels a
face of a hundred pixels is lost in that, in one of 640x480 a face of twenty. A still has time for
all parts, a stream for the largest. The more parts are looked at, the more things pass for faces:
so who wants it asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tddfa_ros.core.detect import non_maximum_suppression, seen_scale
from tddfa_ros.core.model_description import DetectorSpec
from tddfa_ros.core.types import Detections

# Parts are made smaller until the detector sees them at so much of their own size.
ENOUGH_SCALE = 0.6
DEEPEST_ZOOM = 64
# Neighbouring parts share so much of their sides: a face up to that is whole in one of them.
OVERLAP = 0.3
# A box that reaches this close to a part's inner border, in shares of its side, shows a cut face.
BORDER = 0.01
# Two boxes, so much of the smaller one of which lies in the other, are of one face.
LEAST_INSIDE = 0.6


def detect_small_too(
    detect: Callable[[np.ndarray], Detections],
    image_bgr: np.ndarray,
    spec: DetectorSpec,
    deepest_zoom: int = DEEPEST_ZOOM,
) -> Detections:
    """Find the faces of a picture, also those that are small in it.

    Parameters
    ----------
    detect : finds those of any picture, and does not see the small ones of a large one
    image_bgr : (height, width, 3) uint8
    spec : of the detector
    deepest_zoom : parts have no less than 1 / so much of the picture's sides; with 1 there are none

    Returns
    -------
    As `detect` gives them; the very same if the detector sees the picture in its own size.
    """
    found = detect(image_bgr)
    height, width = image_bgr.shape[:2]
    for zoom in _zooms(height, width, spec, deepest_zoom):
        parts = [
            _of_part(detect, image_bgr, part) for part in parts_xyxy(height, width, zoom, OVERLAP)
        ]
        found = _joined(found, parts, spec)
    return found


def _zooms(height: int, width: int, spec: DetectorSpec, deepest: int) -> Iterator[int]:
    """1 / the sides of parts, as shares of the picture's, as long as smaller ones show more."""
    scale, zoom = seen_scale(height, width, spec), 2
    while scale < ENOUGH_SCALE and zoom <= deepest:
        larger, scale = scale, seen_scale(-(-height // zoom), -(-width // zoom), spec)
        if scale == larger:
            return
        yield zoom
        zoom *= 2


def parts_xyxy(
    height: int, width: int, zoom: int, overlap: float
) -> Iterator[tuple[int, int, int, int]]:
    """Cover a picture with parts, 1 / `zoom` of it in each direction, that overlap by a share."""
    count = int(np.ceil((zoom - 1) / (1 - overlap))) + 1
    size_y, size_x = -(-height // zoom), -(-width // zoom)
    for y0 in np.linspace(0, height - size_y, count).astype(int).tolist():
        for x0 in np.linspace(0, width - size_x, count).astype(int).tolist():
            yield x0, y0, x0 + size_x, y0 + size_y


def _of_part(
    detect: Callable[[np.ndarray], Detections],
    image_bgr: np.ndarray,
    part: tuple[int, int, int, int],
) -> Detections:
    """Faces that are whole in a part, in pixels of the picture."""
    x0, y0, x1, y1 = part
    height, width = image_bgr.shape[:2]
    found = detect(np.ascontiguousarray(image_bgr[y0:y1, x0:x1]))
    boxes = found.boxes_xyxy + np.array([x0, y0, x0, y0], np.float32)
    margin_x, margin_y = BORDER * (x1 - x0), BORDER * (y1 - y0)
    # At the picture's own border a face may be cut.
    low = np.array([x0 + margin_x if x0 > 0 else -np.inf, y0 + margin_y if y0 > 0 else -np.inf])
    high = np.array(
        [x1 - margin_x if x1 < width else np.inf, y1 - margin_y if y1 < height else np.inf]
    )
    whole = (boxes[:, :2] >= low).all(axis=1) & (boxes[:, 2:] <= high).all(axis=1)
    return Detections(boxes[whole], found.scores[whole])


def _joined(known: Detections, parts: list[Detections], spec: DetectorSpec) -> Detections:
    """Add what is new in the parts, or surer there, best first."""
    boxes = np.concatenate([part.boxes_xyxy for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    new = ~(_share_most(boxes, known.boxes_xyxy) & (scores[:, None] <= known.scores)).any(axis=1)
    boxes = np.concatenate([known.boxes_xyxy, boxes[new]])
    scores = np.concatenate([known.scores, scores[new]])
    order = np.argsort(-scores, kind="stable")
    kept = order[non_maximum_suppression(boxes[order], spec.nms_iou, spec.keep)]
    return Detections(boxes[kept], scores[kept])


def _share_most(boxes_xyxy: np.ndarray, others_xyxy: np.ndarray) -> np.ndarray:
    """(n, m) bool: whether most of a box lies in the other, or of that one in it."""
    box, other = boxes_xyxy[:, None], others_xyxy[None]
    sides = np.minimum(box[..., 2:], other[..., 2:]) - np.maximum(box[..., :2], other[..., :2])
    shared = np.maximum(sides, 0).prod(axis=2)
    areas = [(value[..., 2:] - value[..., :2]).prod(axis=2) for value in (box, other)]
    return shared > LEAST_INSIDE * np.minimum(*areas)
