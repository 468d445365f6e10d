"""The wrapped YuNet against OpenCV's own reader of such networks, on a network made here.

The public weights are not at hand in a test; a network of the same inputs and outputs with random
weights has a known meaning, too: the one that cv2.FaceDetectorYN gives it.
"""

import cv2
import numpy as np
import pytest

from tddfa_ros.core import model_set
from tddfa_ros.core.detect import Detector
from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.release import yunet


@pytest.mark.parametrize(("height", "width"), [(64, 96), (97, 130), (250, 33), (480, 640)])
def test_boxes_and_scores_are_those_of_opencv(tmp_path, open_detector, yunet_like, height, width):
    content = yunet_like()
    rng = np.random.default_rng(height)
    (tmp_path / "yunet.onnx").write_bytes(content)
    image = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (width, height))
    reader = cv2.FaceDetectorYN.create(
        str(tmp_path / "yunet.onnx"), "", (width, height), 0.3, 1.0, 100_000
    )
    _, expected = reader.detect(image)
    session = open_detector(yunet.build_detector(content, "a network").SerializeToString())
    boxes, scores = session.run({"image": image})
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= 0.3]
    assert len(expected) > 5
    assert len(order) == len(expected)
    np.testing.assert_allclose(scores[order], expected[:, -1], atol=1e-5)
    # Equal scores may stand in another order.
    corners = np.column_stack([expected[:, :2], expected[:, :2] + expected[:, 2:4]])
    ours = boxes[order]
    for rows, others in ((ours, corners), (corners, ours)):
        apart = np.abs(rows[:, None] - others[None]).max(axis=2).min(axis=1)
        assert apart.max() < 0.01


def test_a_set_detects_with_it_and_keeps_all_else(tmp_path, yunet_like):
    base = model_set.find("embedded")
    network = tmp_path / "yunet.onnx"
    network.write_bytes(yunet_like())
    made = yunet.with_yunet(base, network, tmp_path / "mixed")
    again = model_set.load(tmp_path / "mixed")
    assert (again.name, made.path) == ("mixed", tmp_path / "mixed")
    assert "MIT (YuNet)" in again.licence
    assert again.licence.startswith(model_set.load(base).licence)
    assert (made.path / "regressor.onnx").read_bytes() == (base / "regressor.onnx").read_bytes()
    given = model_set.load(base)
    assert again.regressor == given.regressor
    for name in ("mean", "shape_basis", "expression_basis", "triangles", "uv"):
        np.testing.assert_array_equal(
            getattr(again.face_model, name), getattr(given.face_model, name)
        )
    image = np.full((100, 150, 3), 90, np.uint8)
    found = Detector(again, threads=1).detect(image, threshold=0.0)
    assert found.boxes_xyxy.shape == (len(found.scores), 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an ONNX network"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an ONNX network"),
        ({"operator": "Exp"}, "not YuNet: it has Exp"),
        ({"without": "obj_16"}, "not YuNet: expected one input"),
        ({"fixed": True}, "Reshape|yunet"),
    ],
    ids=["empty", "pointer", "operator", "outputs", "one size"],
)
def test_anything_else_is_refused_and_nothing_is_written(tmp_path, yunet_like, content, message):
    network = tmp_path / "yunet.onnx"
    network.write_bytes(content if isinstance(content, bytes) else yunet_like(**content))
    with pytest.raises(ModelSetError, match=message):
        yunet.with_yunet(model_set.find("embedded"), network, tmp_path / "out")
    assert not (tmp_path / "out").exists()
