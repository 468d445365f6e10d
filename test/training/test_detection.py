"""The detector's targets, decoding and suppression."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import train_detector as detector  # noqa: E402

ROWS, COLUMNS = 30, 40
HALF = 4


def perfect_output(boxes, score=0.99):
    """A map that says these boxes at the cells of their centres, and nothing elsewhere."""
    output = torch.zeros(1, 5, ROWS, COLUMNS)
    output[:, 0] = -9
    for x0, y0, x1, y1 in boxes:
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        at_x, at_y = (cx + 0.5) / HALF - 0.5, (cy + 0.5) / HALF - 0.5
        column, row = round(at_x), round(at_y)
        size = torch.log(torch.tensor([x1 - x0, y1 - y0]) / 16)
        output[0, :, row, column] = torch.tensor(
            [np.log(score / (1 - score)), at_x - column, at_y - row, *size]
        )
    return output


def test_decoding_inverts_the_targets():
    boxes = [(20.0, 30.0, 61.0, 80.0), (100.0, 12.0, 109.0, 24.0)]
    found, scores = detector.peaks(perfect_output(boxes))
    best = torch.argsort(scores[0], descending=True)[:2]
    assert float(scores[0][best].min()) == pytest.approx(0.99, abs=1e-4)
    got = sorted(tuple(b) for b in found[0][best].tolist())
    np.testing.assert_allclose(got, sorted(boxes), atol=1e-3)


def padded(boxes):
    result = torch.full((1, detector.MOST_FACES, 4), float("nan"))
    result[0, : len(boxes)] = torch.tensor(boxes).reshape(-1, 4)
    return result


def test_loss_is_least_for_the_right_map():
    boxes = [(20.0, 30.0, 61.0, 80.0), (100.0, 12.0, 112.0, 28.0)]
    right = perfect_output(boxes)
    shifted = perfect_output([(28.0, 30.0, 69.0, 80.0), boxes[1]])
    nothing = torch.zeros_like(right)
    nothing[:, 0] = -9
    at_right = detector.detection_loss(right, padded(boxes))
    assert float(at_right[0]) < 0.05
    for wrong in (shifted, nothing):
        heat, box = detector.detection_loss(wrong, padded(boxes))
        assert float(heat) > 10 * float(at_right[0]) + 0.5
        assert float(box) >= float(at_right[1])


def test_scene_without_faces_punishes_only_false_heat():
    empty = padded([])
    quiet = torch.zeros(1, 5, ROWS, COLUMNS)
    quiet[:, 0] = -9
    assert float(detector.detection_loss(quiet, empty)[0]) < 1e-3
    assert float(detector.detection_loss(torch.zeros(1, 5, ROWS, COLUMNS), empty)[0]) > 100
    assert float(detector.detection_loss(quiet, empty)[1]) == 0


def test_mirrored_boxes_are_their_own_inverse():
    boxes = padded([(3.0, 4.0, 50.0, 60.0)])
    mirrored = detector.flipped(boxes, 160)
    assert mirrored[0, 0].tolist() == [109.0, 4.0, 156.0, 60.0]
    twice = detector.flipped(mirrored, 160)
    np.testing.assert_array_equal(twice.numpy(), boxes.numpy())


box = st.tuples(*[st.floats(0, 50)] * 2, *[st.floats(1, 40)] * 2)


@given(st.lists(box, min_size=1, max_size=6), st.lists(box, min_size=1, max_size=6))
def test_iou_is_symmetric_bounded_and_one_with_itself(first, second):
    a, b = (np.array([(x, y, x + w, y + h) for x, y, w, h in part]) for part in (first, second))
    overlap = detector.iou(a, b)
    np.testing.assert_allclose(overlap, detector.iou(b, a).T)
    assert overlap.min() >= 0
    assert overlap.max() <= 1 + 1e-9
    np.testing.assert_allclose(np.diag(detector.iou(a, a)), 1)


def test_suppression_keeps_the_best_of_what_overlaps():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [30, 30, 40, 40]], np.float32)
    kept = detector.suppress(boxes, torch.tensor([0.5, 0.9, 0.7]))
    np.testing.assert_array_equal(kept, boxes[[1, 2]])
    assert detector.suppress(boxes[:0], torch.zeros(0)).shape == (0, 4)
