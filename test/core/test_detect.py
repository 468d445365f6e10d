"""Face detection: suppression against its definition, a network with known answers, the goldens."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from tddfa_ros.core.detect import Detector, non_maximum_suppression, seen_scale
from tddfa_ros.core.errors import ImageError, ModelSetError
from tddfa_ros.core.model_description import DetectorSpec, read_description
from tddfa_ros.core.model_set import ModelSet, RegressorSpec, load

STILLS_ATOL_PX = 1.0


def known_detector(folder, boxes, scores, **spec):
    """Model set whose detector sees `boxes`, in shares of the image, and `scores` in any image."""
    nodes = [
        helper.make_node("Shape", ["image"], ["height_width"], start=0, end=2),
        helper.make_node("Gather", ["height_width", "order"], ["sizes"]),
        helper.make_node("Cast", ["sizes"], ["scale"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["shares", "scale"], ["boxes_xyxy"]),
        helper.make_node("Identity", ["known"], ["scores"]),
    ]
    constants = {
        "order": np.array([1, 0, 1, 0]),
        "shares": np.array(boxes, np.float32).reshape(-1, 4),
        "known": np.array(scores, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "known",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["height", "width", 3])],
        [
            helper.make_tensor_value_info("boxes_xyxy", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"]),
        ],
        initializer=[numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "detector.onnx").write_bytes(model.SerializeToString())
    return Detector(
        ModelSet("known", folder, "none", DetectorSpec(**spec), RegressorSpec(), face_model=None),
        threads=1,
    )


def slow_suppression(boxes, max_iou):
    """Scalar form of the definition: a box goes if it overlaps a better one that stays."""
    kept = []
    for i, (left, top, right, bottom) in enumerate(boxes):
        for k in kept:
            width = np.minimum(right, boxes[k][2]) - np.maximum(left, boxes[k][0]) + np.float32(1)
            height = np.minimum(bottom, boxes[k][3]) - np.maximum(top, boxes[k][1]) + np.float32(1)
            shared = np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))
            areas = [
                (b[2] - b[0] + np.float32(1)) * (b[3] - b[1] + np.float32(1))
                for b in (boxes[k], boxes[i])
            ]
            if float(shared / (areas[0] + areas[1] - shared)) >= max_iou:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("shape", [(480, 640), (1440, 1080), (700, 3000)])
def test_boxes_come_back_from_a_network_that_sees_a_smaller_image(tmp_path, shape):
    detector = known_detector(tmp_path, [[0.2, 0.1, 0.6, 0.5]], [0.9], input_scale=0.5)
    seen = []
    run = detector._session.run
    detector._session.run = lambda inputs: (seen.append(inputs["image"].shape), run(inputs))[1]
    (box,) = detector.detect(np.zeros((*shape, 3), np.uint8)).boxes_xyxy
    height, width = shape
    np.testing.assert_allclose(
        box, [0.2 * width, 0.1 * height, 0.6 * width, 0.5 * height], atol=0.004 * max(shape)
    )
    assert seen[0][0] <= 360
    assert seen[0][1] <= 540
    assert max(seen[0][0] - 359, seen[0][1] - 539) >= 0 or seen[0][:2] == (240, 320)


@given(
    height=st.integers(1, 4000),
    width=st.integers(1, 4000),
    input_scale=st.sampled_from([0.25, 0.5, 1.0]),
    area_px=st.sampled_from([0, 76800, 200_000]),
)
def test_a_network_sees_no_less_of_a_small_image_than_of_a_large_one(
    height, width, input_scale, area_px
):
    spec = DetectorSpec(input_scale=input_scale, input_area_px=area_px)
    plain = DetectorSpec(input_scale=input_scale)
    scale = seen_scale(height, width, spec)
    assert seen_scale(height, width, plain) <= scale <= 1
    largest = DetectorSpec(input_scale=1.0)
    assert scale <= seen_scale(height, width, largest)
    if scale > seen_scale(height, width, plain):
        assert scale * scale * height * width <= area_px * 1.001
    if height * width <= area_px and height <= spec.max_height and width <= spec.max_width:
        assert scale == 1


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((480, 640), (240, 320)),
        ((240, 320), (240, 320)),
        ((360, 480), (240, 320)),
        ((100, 80), (100, 80)),
        ((720, 1280), (303, 540)),
    ],
)
def test_what_the_embedded_detector_sees(repository, shape, seen):
    spec = read_description(repository / "models" / "embedded").detector
    scale = seen_scale(*shape, spec)
    np.testing.assert_allclose(np.multiply(scale, shape), seen, atol=1)


BOXES = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 25), st.just(4)), elements=st.integers(0, 40)
)


@settings(max_examples=200, deadline=None)
@given(corners=BOXES, max_iou=st.sampled_from([0.1, 0.3, 0.5, 1.0]))
def test_suppression_is_its_definition(corners, max_iou):
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
    kept = non_maximum_suppression(boxes, max_iou, keep=1000)
    assert list(kept) == slow_suppression(boxes, max_iou)
    assert list(non_maximum_suppression(boxes, max_iou, keep=3)) == list(kept[:3])


def test_sides_count_one_pixel_more():
    # 10 x 10 pixels, shifted by 5 columns: 50 shared of 150, exactly a third; 40 of 160 a quarter.
    boxes = np.float32([[0, 0, 9, 9], [5, 0, 14, 9], [6, 30, 15, 39], [0, 30, 9, 39]])
    assert list(non_maximum_suppression(boxes, 1 / 3 - 1e-6, 9)) == [0, 2, 3]
    assert list(non_maximum_suppression(boxes, 1 / 3 + 1e-6, 9)) == [0, 1, 2, 3]
    assert list(non_maximum_suppression(boxes, 0.25, 9)) == [0, 2]


def test_best_first_in_pixels_of_the_image(tmp_path):
    detector = known_detector(
        tmp_path,
        [[0.1, 0.1, 0.2, 0.3], [0.5, 0.5, 0.7, 0.75], [0.11, 0.1, 0.21, 0.3], [0.8, 0, 0.9, 0.1]],
        [0.7, 0.9, 0.95, 0.4],
    )
    found = detector.detect(np.zeros((400, 500, 3), np.uint8))
    np.testing.assert_allclose(found.scores, [0.95, 0.9])
    np.testing.assert_allclose(
        found.boxes_xyxy, [[55, 40, 105, 120], [250, 200, 350, 300]], rtol=1e-5
    )
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
    assert len(detector.detect(np.zeros((400, 500, 3), np.uint8), threshold=0.3)) == 3
    assert len(detector.detect(np.zeros((400, 500, 3), np.uint8), threshold=0.92)) == 1
    assert len(detector.detect(np.zeros((400, 500, 3), np.uint8), threshold=1.0)) == 0


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((480, 640), (480, 640)),
        ((720, 1080), (720, 1080)),
        ((1440, 1000), (720, 500)),
        ((500, 2160), (250, 1080)),
        ((1080, 1920), (607, 1080)),
        ((8, 8), (8, 8)),
        ((60, 8000), (8, 1080)),
        ((8000, 89), (720, 8)),
        ((6000, 8000), (720, 960)),
    ],
)
def test_large_images_are_seen_smaller(tmp_path, shape, seen):
    """Height to 720 at most, then width to 1080, in whole pixels; boxes are scaled back."""
    height, width = shape
    scale = min(1, 720 / height)
    scale = min(scale, 1080 / width)
    found = known_detector(tmp_path, [[0, 0, 1, 1]], [0.9]).detect(np.zeros((*shape, 3), np.uint8))
    expected = [0, 0, seen[1] / scale, seen[0] / scale]
    np.testing.assert_allclose(found.boxes_xyxy[0], expected, rtol=1e-5)


def test_candidates_that_are_no_boxes_are_dropped(tmp_path):
    good = [0.1, 0.1, 0.4, 0.4]
    bad = [[np.nan] * 4, [0, 0, np.inf, 1], [0.5, 0.5, 0.4, 0.6], [0.5, 0.6, 0.6, 0.5]]
    scores = [0.99, 0.98, 0.97, 0.96, 0.6, np.nan]
    detector = known_detector(tmp_path, [*bad, good, [0.6, 0.6, 0.9, 0.9]], scores)
    found = detector.detect(np.zeros((100, 100, 3), np.uint8))
    np.testing.assert_allclose(found.boxes_xyxy, [[10, 10, 40, 40]], rtol=1e-5)


def test_no_candidates_at_all(tmp_path):
    found = known_detector(tmp_path, [], []).detect(np.zeros((10, 10, 3), np.uint8))
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.scores.shape == (0,)
    assert len(found) == 0


@pytest.mark.parametrize("count", [1, 3])
def test_a_network_that_gives_more_scores_or_fewer_than_boxes_is_refused(tmp_path, count):
    detector = known_detector(tmp_path, [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], [0.9] * count)
    with pytest.raises(ModelSetError, match=rf"'scores' has shape \[{count}\], expected \[2\]"):
        detector.detect(np.zeros((100, 100, 3), np.uint8))


def test_limits_of_the_set_hold(tmp_path):
    shares = [[0.1 * i, 0, 0.1 * i + 0.05, 1] for i in range(9)]
    scores = np.linspace(0.9, 0.6, 9)
    image = np.zeros((100, 100, 3), np.uint8)
    assert len(known_detector(tmp_path, shares, scores).detect(image)) == 9
    assert len(known_detector(tmp_path, shares, scores, keep=4).detect(image)) == 4
    assert len(known_detector(tmp_path, shares, scores, pre_nms=3).detect(image)) == 3
    few = known_detector(tmp_path, shares, scores, score_threshold=0.8)
    assert len(few.detect(image)) == (scores > 0.8).sum()
    # Below the candidate threshold nothing is looked at, whatever is asked for.
    few = known_detector(tmp_path, shares, scores, candidate_threshold=0.7)
    assert len(few.detect(image, threshold=0)) == (scores > 0.7).sum()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 30), np.uint8),
        np.zeros((20, 30, 1), np.uint8),
        np.zeros((20, 30, 4), np.uint8),
        np.zeros((20, 30, 3), np.uint16),
        np.zeros((20, 30, 3), np.float32),
        np.zeros((0, 30, 3), np.uint8),
        np.zeros((20, 0, 3), np.uint8),
        [[[0, 0, 0]]],
        None,
    ],
)
def test_other_images_are_refused(tmp_path, image):
    with pytest.raises(ImageError):
        known_detector(tmp_path, [[0, 0, 1, 1]], [0.9]).detect(image)


def test_a_set_without_detector_is_refused(tmp_path):
    lacking = ModelSet("x", tmp_path, "none", DetectorSpec(), RegressorSpec(), face_model=None)
    with pytest.raises(ModelSetError, match=r"detector\.onnx"):
        Detector(lacking, threads=1)


@pytest.fixture(scope="module")
def detector(model_set):
    return Detector(model_set, threads=2)


@pytest.mark.parametrize("other", [7, 640])
@pytest.mark.parametrize("side", range(1, 20))
def test_images_without_room_for_a_face_have_none(repository, side, other):
    embedded = Detector(load(repository / "models" / "embedded"), threads=1)
    for shape in ((side, other), (other, side)):
        assert len(embedded.detect(np.full((*shape, 3), 90, np.uint8))) == 0


def test_stills_of_the_reference(detector, media, golden):
    found = 0
    for path in sorted(golden.glob("*.npz")):
        expected = np.load(path)
        if "boxes" not in expected:
            continue
        faces = detector.detect(cv2.imread(str(media / f"{path.stem}.jpg")))
        np.testing.assert_allclose(
            faces.boxes_xyxy, expected["boxes"][:, :4], atol=STILLS_ATOL_PX, err_msg=path.stem
        )
        np.testing.assert_allclose(faces.scores, expected["boxes"][:, 4], atol=1e-3)
        found += 1
    assert found >= 8


def test_a_face_moves_with_its_image(detector, astronaut):
    """Shifted by whole cells, far from the borders, the network sees the same at another place."""
    face, shift = astronaut[:256, 100:356], (256, 128)
    found = []
    for left, top in ((256, 192), (256 + shift[0], 192 + shift[1])):
        canvas = np.zeros((704, 1024, 3), np.uint8)
        canvas[top : top + 256, left : left + 256] = face
        found.append(detector.detect(canvas))
    assert len(found[0]) == len(found[1]) == 1
    moved = found[1].boxes_xyxy - found[0].boxes_xyxy
    np.testing.assert_allclose(moved, [[*shift, *shift]], atol=0.1)


@pytest.mark.parametrize("scale", [2, 6])
def test_a_larger_copy_has_a_larger_box(detector, astronaut, scale):
    box = detector.detect(astronaut).boxes_xyxy[0]
    size = (512 * scale, 512 * scale)
    larger = detector.detect(cv2.resize(astronaut, size)).boxes_xyxy[0] / scale
    np.testing.assert_allclose(larger, box, atol=0.08 * (box[2] - box[0]))


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (3, 5), (6000, 8000)])
@pytest.mark.parametrize("value", [0, 255])
def test_images_without_a_face_have_none(detector, shape, value):
    found = detector.detect(np.full((*shape, 3), value, np.uint8))
    assert found.boxes_xyxy.shape == (len(found), 4)
    if min(shape) > 100:
        assert len(found) == 0
