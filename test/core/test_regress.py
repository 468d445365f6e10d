"""From regions to parameters, in one batch."""

import dataclasses

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tddfa_ros.core.camera import image_camera
from tddfa_ros.core.crop import crop_into, roi_from_box
from tddfa_ros.core.errors import ImageError, ModelSetError
from tddfa_ros.core.model_description import RegressorSpec
from tddfa_ros.core.model_set import DetectorSpec, ModelSet
from tddfa_ros.core.regress import MAX_BATCH, Regressor

SIZE = 16
COUNT = 12 + 3 + 2
PARAMS_ATOL_STD = 1e-3


def mean_regressor_set(folder, confidence, broken_above=None, first_broken=0):
    """Model set whose params are each crop's mean of B, times 1, 2, 3...; confidence that of G.

    Where that mean is above `broken_above`, the params are infinite, from the `first_broken` on.
    """
    nodes = [
        helper.make_node("Cast", ["crops"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["colour"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["colour", "factors"], ["params"]),
        helper.make_node("Gather", ["colour", "green"], ["confidence"], axis=1),
    ]
    factors = np.zeros((3, COUNT), np.float32)
    factors[0] = np.arange(1, COUNT + 1)
    constants = {"factors": factors, "green": np.array(1)}
    if broken_above is not None:
        nodes[2].output[0] = "finite"
        nodes += [
            helper.make_node("Greater", ["finite", "limit"], ["above"]),
            helper.make_node("Where", ["above", "infinity", "finite"], ["params"]),
        ]
        constants["limit"] = np.arange(1, COUNT + 1, dtype=np.float32) * broken_above
        constants["limit"][:first_broken] = np.inf
        constants["infinity"] = np.float32(np.inf)
    outputs = [helper.make_tensor_value_info("params", TensorProto.FLOAT, ["n", COUNT])]
    if confidence:
        outputs.append(helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["n"]))
    graph = helper.make_graph(
        nodes if confidence else [n for n in nodes if n.op_type != "Gather"],
        "mean",
        [helper.make_tensor_value_info("crops", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        outputs,
        initializer=[numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "regressor.onnx").write_bytes(model.SerializeToString())
    spec = RegressorSpec(
        input_size=SIZE, shape_count=3, expression_count=2, has_confidence=confidence
    )
    return ModelSet("mean", folder, "none", DetectorSpec(), spec, face_model=None)


def patches(count):
    """Image of `count` patches of one colour each, their regions and their colours."""
    colours = np.random.default_rng(3).integers(0, 256, (count, 3), dtype=np.uint8)
    image = np.repeat(np.repeat(colours[None], 20, axis=0), 30, axis=1)
    lefts = 30 * np.arange(count, dtype=np.float32)
    rois = np.stack([lefts, 0 * lefts, lefts + 30, 0 * lefts + 20], axis=1)
    return np.ascontiguousarray(image), rois, colours


@pytest.mark.parametrize("count", [0, 1, 5, MAX_BATCH, 2 * MAX_BATCH + 3])
def test_each_region_has_its_own_fit(tmp_path, count):
    regressor = Regressor(mean_regressor_set(tmp_path, confidence=True), threads=1)
    image, rois, colours = patches(max(count, 1))
    fits, confidences = regressor.regress(image, rois[:count])
    assert len(fits) == count
    assert confidences.dtype == np.float32
    np.testing.assert_allclose(confidences, colours[:count, 1], rtol=1e-5)
    for fit, roi, colour in zip(fits, rois, colours, strict=False):
        expected = float(colour[0]) * np.arange(1, COUNT + 1)
        np.testing.assert_allclose(fit.vector, expected, rtol=1e-5)
        np.testing.assert_allclose(fit.camera.ravel(), expected[:12], rtol=1e-5)
        np.testing.assert_allclose(fit.shape, expected[12:15], rtol=1e-5)
        np.testing.assert_allclose(fit.expression, expected[15:], rtol=1e-5)
        np.testing.assert_array_equal(fit.roi_xyxy, roi)
        assert fit.input_size == SIZE


def test_lost_regions_do_not_shift_the_others(tmp_path):
    regressor = Regressor(mean_regressor_set(tmp_path, confidence=True), threads=1)
    image, rois, colours = patches(3)
    outside, unknown = np.float32([5000, 0, 5030, 20]), np.full(4, np.nan, np.float32)
    fits, confidences = regressor.regress(
        image, np.stack([outside, rois[0], unknown, rois[1], rois[2], outside])
    )
    assert [fit is None for fit in fits] == [True, False, True, False, False, True]
    np.testing.assert_allclose([fits[i].vector[0] for i in (1, 3, 4)], colours[:, 0], rtol=1e-5)
    np.testing.assert_allclose(confidences[[1, 3, 4]], colours[:, 1], rtol=1e-5)
    assert np.isnan(confidences[[0, 2, 5]]).all()


def test_without_confidence_it_is_nan(tmp_path):
    regressor = Regressor(mean_regressor_set(tmp_path, confidence=False), threads=1)
    image, rois, _ = patches(2)
    fits, confidences = regressor.regress(image, rois)
    assert all(fits)
    assert np.isnan(confidences).all()


@pytest.mark.parametrize("first_broken", [0, COUNT - 1])
def test_a_fit_that_is_not_finite_is_lost(tmp_path, first_broken):
    image, rois, colours = patches(8)
    limit = float(np.median(colours[:, 0]))
    regressor = Regressor(mean_regressor_set(tmp_path, True, limit, first_broken), threads=1)
    fits, confidences = regressor.regress(image, rois)
    lost = [fit is None for fit in fits]
    assert lost == list(colours[:, 0] > limit)
    np.testing.assert_array_equal(np.isnan(confidences), lost)


def test_earlier_fits_outlive_later_runs(tmp_path):
    regressor = Regressor(mean_regressor_set(tmp_path, confidence=True), threads=1)
    image, rois, _ = patches(2)
    (first,), first_confidence = regressor.regress(image, rois[:1])
    kept, kept_confidence = first.vector.copy(), first_confidence.copy()
    rois_reused = rois[:1].copy()
    (second,), _ = regressor.regress(image, rois_reused)
    rois_reused[:] = 0
    regressor.regress(image, rois[1:])
    np.testing.assert_array_equal(first.vector, kept)
    np.testing.assert_array_equal(first_confidence, kept_confidence)
    np.testing.assert_array_equal(second.roi_xyxy, rois[0])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 30), np.uint8),
        np.zeros((20, 30, 4), np.uint8),
        np.zeros((20, 30, 3), np.uint16),
        np.zeros((0, 30, 3), np.uint8),
        None,
    ],
)
def test_other_images_are_refused(tmp_path, image):
    regressor = Regressor(mean_regressor_set(tmp_path, confidence=True), threads=1)
    with pytest.raises(ImageError):
        regressor.regress(image, np.float32([[0, 0, 10, 10]]))


def test_a_network_that_is_not_as_described_is_refused(tmp_path):
    told = mean_regressor_set(tmp_path, confidence=False)
    for change in ({"has_confidence": True}, {"shape_count": 4}, {"input_size": 120}):
        spec = RegressorSpec(**{**vars(told.regressor), **change})
        other = ModelSet("other", tmp_path, "none", told.detector, spec, face_model=None)
        with pytest.raises(ModelSetError, match=r"regressor\.onnx"):
            Regressor(other, threads=1)


def test_stills_of_the_reference(model_set, media, golden, release_folder):
    std = parameter_std(release_folder)
    regressor, spec = Regressor(model_set, threads=1), model_set.regressor
    found = 0
    for path in sorted(golden.glob("*.npz")):
        expected = np.load(path)
        if "boxes" not in expected:
            continue
        rois = roi_from_box(
            expected["boxes"][:, :4], scale=spec.roi_box_scale, shift_down=spec.roi_box_shift_down
        )
        image = cv2.imread(str(media / f"{path.stem}.jpg"))
        fits, _ = regressor.regress(image, rois)
        params = np.stack([fit.vector for fit in fits])
        np.testing.assert_allclose(params / std, expected["params"] / std, atol=PARAMS_ATOL_STD)
        found += 1
    assert found >= 8


def test_a_batch_of_faces_is_as_each_alone(model_set, astronaut, release_folder):
    std = parameter_std(release_folder)
    regressor = Regressor(model_set, threads=1)
    rois = np.float32([[160, 50, 310, 200], [150, 60, 300, 210], [-60, -50, 240, 250]])
    together, _ = regressor.regress(astronaut, rois)
    for fit, roi in zip(together, rois, strict=True):
        (alone,), _ = regressor.regress(astronaut, roi[None])
        np.testing.assert_allclose(fit.vector / std, alone.vector / std, atol=PARAMS_ATOL_STD)


def spot_regressor_set(folder, face_model):
    """Set whose camera looks at the middle of what is bright, measured from the crop's edges."""
    count = 12 + 1 + 1
    steps = np.arange(SIZE, dtype=np.float32) + 0.5
    across, down = np.tile(steps, SIZE), np.repeat(steps, SIZE)
    places = np.zeros((SIZE * SIZE, count), np.float32)
    places[:, 3], places[:, 7] = across + 1, SIZE - down
    constants = {
        "places": places,
        "blue": np.array(0),
        "flat": np.array([-1, SIZE * SIZE]),
        "pixels_axis": np.array([1]),
    }
    nodes = [
        helper.make_node("Cast", ["crops"], ["colours"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["colours", "blue"], ["light"], axis=3),
        helper.make_node("Reshape", ["light", "flat"], ["pixels"]),
        helper.make_node("ReduceSum", ["pixels", "pixels_axis"], ["sum"]),
        helper.make_node("Div", ["pixels", "sum"], ["shares"]),
        helper.make_node("MatMul", ["shares", "places"], ["params"]),
    ]
    graph = helper.make_graph(
        nodes,
        "spot",
        [helper.make_tensor_value_info("crops", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("params", TensorProto.FLOAT, ["n", count])],
        initializer=[numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "regressor.onnx").write_bytes(model.SerializeToString())
    spec = RegressorSpec(input_size=SIZE, shape_count=1, expression_count=1, camera_from_edges=True)
    return ModelSet("spot", folder, "none", DetectorSpec(), spec, face_model=face_model)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("sides", [(7, 7), (16, 16), (40, 40), (90, 90), (48, 24)])
def test_a_camera_from_the_edges_looks_at_what_the_region_shows(
    tmp_path, dome_model, sides, mirrored
):
    """However many pixels of the image one of the crop has: to a few hundredths of the larger."""
    at = np.array([71.3, 58.8])
    y, x = np.mgrid[:120, :140]
    ratio = np.array(sides) / SIZE
    blur = 1.6 * np.maximum(ratio, 1)
    light = np.exp(-(((x - at[0]) / blur[0]) ** 2 + ((y - at[1]) / blur[1]) ** 2) / 2)
    image = np.repeat(np.uint8(np.round(255 * light))[..., None], 3, axis=2)
    corner = np.round(at - np.array([0.55, 0.42]) * sides)
    roi = np.float32([*corner, *(corner + sides)])
    # With components that are their own mirror images.
    basis = dome_model.mean[None]
    face_model = dataclasses.replace(dome_model, shape_basis=basis, expression_basis=basis)
    regressor = Regressor(spot_regressor_set(tmp_path, face_model), threads=1)
    (fit,), _ = regressor.regress(image, roi[None], mirrored=mirrored)
    seen = image_camera(fit)[:2, 3]
    # A region that cuts off a part of the light sees its middle elsewhere.
    left, top, right, bottom = roi.astype(int)
    rows, columns = np.mgrid[top:bottom, left:right]
    shares = image[top:bottom, left:right, 0] / image[top:bottom, left:right, 0].sum()
    truth = [(columns * shares).sum(), (rows * shares).sum()]
    np.testing.assert_allclose(seen, truth, atol=0.03 * np.maximum(ratio, 1).max())


def test_it_sees_what_crop_gives(tmp_path):
    """The mean over a noisy region equals that of the crop stage's pixels."""
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    roi, crop = np.float32([-10.3, 20.2, 41.8, 72.6]), np.empty((SIZE, SIZE, 3), np.uint8)
    assert crop_into(image, roi, crop)
    regressor = Regressor(mean_regressor_set(tmp_path, confidence=True), threads=1)
    (fit,), confidence = regressor.regress(image, roi[None])
    assert fit.vector[0] == pytest.approx(crop[..., 0].mean(), rel=1e-4)
    assert confidence[0] == pytest.approx(crop[..., 1].mean(), rel=1e-4)


def parameter_std(release_folder):
    from tddfa_ros.core.release.unpickle import read_pickle

    path = release_folder / "param_mean_std_62d_120x120.pkl"
    return read_pickle(path.read_bytes(), str(path))["std"]
