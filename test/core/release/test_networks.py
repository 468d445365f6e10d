"""Networks as ONNX against their definition, written a second time in plain numpy."""

import numpy as np
import onnx
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.onnx_session import OnnxSession, TensorSpec
from tddfa_ros.core.release.networks import build_detector, build_regressor
from tddfa_ros.core.release.torch_file import read_state_dict

BLOCKS = {
    "dw2_1": (32, 64, 1),
    "dw2_2": (64, 128, 2),
    "dw3_1": (128, 128, 1),
    "dw3_2": (128, 256, 2),
    "dw4_1": (256, 256, 1),
    "dw4_2": (256, 512, 2),
    "dw5_1": (512, 512, 1),
    "dw5_2": (512, 512, 1),
    "dw5_3": (512, 512, 1),
    "dw5_4": (512, 512, 1),
    "dw5_5": (512, 512, 1),
    "dw5_6": (512, 1024, 2),
    "dw6": (1024, 1024, 1),
}
INCEPTION = {
    "branch1x1": (32, 128, 1),
    "branch1x1_2": (32, 128, 1),
    "branch3x3_reduce": (24, 128, 1),
    "branch3x3": (32, 24, 3),
    "branch3x3_reduce_2": (24, 128, 1),
    "branch3x3_2": (32, 24, 3),
    "branch3x3_3": (32, 32, 3),
}
LEVELS = ((32, ((32, 4), (64, 2), (128, 1))), (64, ((256, 1),)), (128, ((512, 1),)))


def conv2d(x, weight, bias=None, stride=1, groups=1):
    pad, side = weight.shape[2] // 2, weight.shape[2]
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(padded, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    if groups == 1:
        y = np.einsum("chwij,ocij->ohw", windows, weight, optimize=True)
    else:
        y = np.einsum("chwij,cij->chw", windows, weight[:, 0], optimize=True)
    return y if bias is None else y + bias[:, None, None]


def pooled(x, stride, reduce, fill):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=fill)
    return reduce(sliding_window_view(padded, (3, 3), axis=(1, 2)), axis=(3, 4))[
        :, ::stride, ::stride
    ]


def batch_norm(x, weights, name):
    mean, variance, gamma, beta = (
        weights[f"{name}.{part}"][:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def relu(x):
    return np.maximum(x, 0)


def random_conv(rng, weights, name, outputs, inputs, side, bias=False):
    spread = np.sqrt(2 / (inputs * side * side))
    weights[f"{name}.weight"] = rng.normal(0, spread, (outputs, inputs, side, side))
    if bias:
        weights[f"{name}.bias"] = rng.normal(0, 0.5, outputs)


def random_batch_norm(rng, weights, name, channels):
    weights[f"{name}.weight"] = rng.uniform(0.5, 1.5, channels)
    weights[f"{name}.bias"] = rng.normal(0, 0.2, channels)
    weights[f"{name}.running_mean"] = rng.normal(0, 0.2, channels)
    weights[f"{name}.running_var"] = rng.uniform(0.5, 1.5, channels)
    weights[f"{name}.num_batches_tracked"] = np.array(7)


def as_float32(weights):
    return {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in weights.items()}


def random_mobilenet(rng, width, outputs):
    weights = {}
    random_conv(rng, weights, "conv1", int(32 * width), 3, 3)
    random_batch_norm(rng, weights, "bn1", int(32 * width))
    for name, (inputs, out, _) in BLOCKS.items():
        inputs, out = int(inputs * width), int(out * width)
        random_conv(rng, weights, f"{name}.conv_dw", inputs, 1, 3)
        random_batch_norm(rng, weights, f"{name}.bn_dw", inputs)
        random_conv(rng, weights, f"{name}.conv_sep", out, inputs, 1)
        random_batch_norm(rng, weights, f"{name}.bn_sep", out)
    weights["fc.weight"] = rng.normal(0, 0.1, (outputs, int(1024 * width)))
    weights["fc.bias"] = rng.normal(0, 0.1, outputs)
    return as_float32(weights)


def mobilenet(weights, crop):
    x = (crop.astype(np.float64).transpose(2, 0, 1) - 127.5) / 128
    x = relu(batch_norm(conv2d(x, weights["conv1.weight"], stride=2), weights, "bn1"))
    for name, (_, _, stride) in BLOCKS.items():
        x = conv2d(x, weights[f"{name}.conv_dw.weight"], stride=stride, groups=len(x))
        x = relu(batch_norm(x, weights, f"{name}.bn_dw"))
        x = conv2d(x, weights[f"{name}.conv_sep.weight"])
        x = relu(batch_norm(x, weights, f"{name}.bn_sep"))
    return weights["fc.weight"] @ x.mean(axis=(1, 2)) + weights["fc.bias"]


def random_faceboxes(rng):
    weights = {}

    def basic(name, outputs, inputs, side):
        random_conv(rng, weights, f"{name}.conv", outputs, inputs, side)
        random_batch_norm(rng, weights, f"{name}.bn", outputs)

    basic("conv1", 24, 3, 7)
    weights["conv1.conv.weight"] /= 64
    basic("conv2", 64, 48, 5)
    for number in (1, 2, 3):
        for name, shape in INCEPTION.items():
            basic(f"inception{number}.{name}", *shape)
    for name, inputs in (("conv3", 128), ("conv4", 256)):
        basic(f"{name}_1", 128, inputs, 1)
        basic(f"{name}_2", 256, 128, 3)
    for level, (inputs, priors) in enumerate(((128, 21), (256, 1), (256, 1))):
        random_conv(rng, weights, f"loc.{level}", 4 * priors, inputs, 3, bias=True)
        random_conv(rng, weights, f"conf.{level}", 2 * priors, inputs, 3, bias=True)
        weights[f"conf.{level}.weight"] *= 3
    return as_float32(weights)


def faceboxes(weights, image):
    """Boxes (n, 4) and scores (n,) of all priors."""

    def basic(x, name, stride=1):
        return relu(conv_bn(x, name, stride))

    def conv_bn(x, name, stride=1):
        y = conv2d(x, weights[f"{name}.conv.weight"], stride=stride)
        return batch_norm(y, weights, f"{name}.bn")

    def crelu(x, name, stride):
        y = conv_bn(x, name, stride)
        return pooled(relu(np.concatenate([y, -y])), 2, np.max, -np.inf)

    x = (image.astype(np.float64) - (104, 117, 123)).transpose(2, 0, 1)
    x = crelu(crelu(x, "conv1", 4), "conv2", 2)
    for number in (1, 2, 3):
        name = f"inception{number}."
        deep = basic(basic(x, f"{name}branch3x3_reduce_2"), f"{name}branch3x3_2")
        x = np.concatenate(
            [
                basic(x, f"{name}branch1x1"),
                basic(pooled(x, 1, np.mean, 0), f"{name}branch1x1_2"),
                basic(basic(x, f"{name}branch3x3_reduce"), f"{name}branch3x3"),
                basic(deep, f"{name}branch3x3_3"),
            ]
        )
    features = [x]
    for name in ("conv3", "conv4"):
        x = basic(basic(x, f"{name}_1"), f"{name}_2", stride=2)
        features.append(x)
    boxes, scores = [], []
    for level, (x, (cell, kinds)) in enumerate(zip(features, LEVELS, strict=True)):
        loc = conv2d(x, weights[f"loc.{level}.weight"], weights[f"loc.{level}.bias"])
        conf = conv2d(x, weights[f"conf.{level}.weight"], weights[f"conf.{level}.bias"])
        for i, j in np.ndindex(x.shape[1:]):
            prior = 0
            for side, dense in kinds:
                for step_y, step_x in np.ndindex(dense, dense):
                    shift = 0.5 if dense == 1 else 0.0
                    dx, dy, dw, dh = loc[4 * prior : 4 * prior + 4, i, j]
                    centre_x = (j + step_x / dense + shift) * cell + dx * 0.1 * side
                    centre_y = (i + step_y / dense + shift) * cell + dy * 0.1 * side
                    width, height = side * np.exp(0.2 * dw), side * np.exp(0.2 * dh)
                    left, top = centre_x - width / 2, centre_y - height / 2
                    boxes.append((left, top, left + width, top + height))
                    odds = np.exp(conf[2 * prior : 2 * prior + 2, i, j])
                    scores.append(odds[1] / odds.sum())
                    prior += 1
    return np.array(boxes), np.array(scores)


def regressor_session(model, size, count):
    return OnnxSession(
        model.SerializeToString(),
        threads=1,
        inputs={"crops": TensorSpec("uint8", (None, size, size, 3))},
        outputs={"params": TensorSpec("float32", (None, count))},
    )


@pytest.fixture(scope="module")
def faceboxes_weights():
    return random_faceboxes(np.random.default_rng(5))


@pytest.fixture(scope="module")
def random_detector(faceboxes_weights, open_detector):
    return open_detector(build_detector(faceboxes_weights).SerializeToString())


@pytest.mark.parametrize(("width", "size", "count"), [(0.25, 64, 62), (0.5, 48, 72), (1, 32, 141)])
def test_regressor_is_mobilenet(rng, width, size, count):
    weights = random_mobilenet(rng, width, count)
    mean, std = rng.normal(0, 10, count), rng.uniform(0.1, 10, count)
    session = regressor_session(build_regressor(weights, mean, std, size), size, count)
    crops = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    (params,) = session.run({"crops": crops})
    expected = np.stack([mobilenet(weights, crop) for crop in crops]) * std + mean
    np.testing.assert_allclose((params - expected) / std, 0, atol=1e-4)


def test_each_of_a_batch_is_as_if_alone(rng):
    weights = random_mobilenet(rng, 0.25, 62)
    session = regressor_session(build_regressor(weights, np.zeros(62), np.ones(62), 32), 32, 62)
    crops = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    (together,) = session.run({"crops": crops})
    alone = [session.run({"crops": crop[None]})[0][0] for crop in crops]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_names_of_the_release_are_known(rng):
    plain = random_mobilenet(rng, 0.25, 62)
    released = {f"module.{name}".replace(".fc.", ".fc_param."): v for name, v in plain.items()}
    released["module.fc_lm.weight"] = np.zeros((136, 256), np.float32)
    released["module.fc_lm.bias"] = np.zeros(136, np.float32)
    models = [build_regressor(w, np.zeros(62), np.ones(62)) for w in (plain, released)]
    assert models[0].SerializeToString() == models[1].SerializeToString()


@pytest.mark.parametrize("shape", [(64, 96), (97, 131), (33, 32), (5, 260), (1, 1)])
def test_detector_is_faceboxes(rng, faceboxes_weights, random_detector, shape):
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    boxes, scores = random_detector.run({"image": image})
    expected_boxes, expected_scores = faceboxes(faceboxes_weights, image)
    wanted = expected_scores > 0.05
    assert len(scores) == wanted.sum() > 0
    # No order is promised: each has to have its counterpart, both ways.
    got = np.column_stack([boxes, 100 * scores])
    expected = np.column_stack([expected_boxes, 100 * expected_scores])[wanted]
    distance = np.abs(got[:, None] - expected[None]).max(axis=2)
    assert max(distance.min(axis=0).max(), distance.min(axis=1).max()) < 0.02


def test_image_without_candidates(faceboxes_weights, open_detector):
    weights = dict(faceboxes_weights)
    for level in range(3):
        weights[f"conf.{level}.bias"] = np.tile(np.float32([99, -99]), (21, 1, 1)[level])
    image = np.zeros((70, 50, 3), np.uint8)
    detector = open_detector(build_detector(weights).SerializeToString())
    boxes, scores = detector.run({"image": image})
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("dw3_1.bn_dw.bias"), "dw3_1.bn_dw.bias.*missing"),
        (lambda w: w.pop("conv1.weight"), "conv1.weight.*missing"),
        (lambda w: w.pop("fc.weight"), "fc.weight.*missing"),
        (lambda w: w.update({"relu.weight": np.zeros(1, np.float32)}), "relu.weight"),
        (lambda w: w.update({"fc.bias": np.zeros(61, np.float32)}), r"fc.bias.*\(61,\)"),
        (lambda w: w.update({"bn1.weight": np.zeros(8, np.int64)}), "bn1.weight.*int64"),
        (lambda w: w.update({"bn1.weight": np.full(8, np.nan, np.float32)}), "not finite"),
        (lambda w: w.update({"bn1.running_var": np.full(8, -1.0, np.float32)}), "negative"),
        (lambda w: w.update({"conv1.weight": np.float32(1)}), "conv1.weight"),
        (lambda w: w.update({"conv1.weight": np.zeros((0, 3, 3, 3), np.float32)}), "bn1"),
    ],
)
def test_weights_that_do_not_fit_are_refused(rng, change, message):
    weights = random_mobilenet(rng, 0.25, 62)
    change(weights)
    with pytest.raises(ModelSetError, match=message):
        build_regressor(weights, np.zeros(62), np.ones(62))


def test_detector_refuses_what_does_not_fit(faceboxes_weights):
    for name in ("conv2.bn.running_var", "inception2.branch3x3_2.conv.weight", "loc.1.bias"):
        with pytest.raises(ModelSetError, match=name):
            build_detector({k: v for k, v in faceboxes_weights.items() if k != name})
    with pytest.raises(ModelSetError, match="extra"):
        build_detector({**faceboxes_weights, "extra": np.zeros(3, np.float32)})


def test_mean_and_std_of_different_length_are_refused(rng):
    weights = random_mobilenet(rng, 0.25, 62)
    with pytest.raises(ModelSetError, match="param_mean"):
        build_regressor(weights, np.zeros(62), np.ones(61))


def test_files_of_the_release_hold_nothing_else(release_folder):
    data = (release_folder / "FaceBoxesProd.pth").read_bytes()
    model = build_detector(read_state_dict(data, "FaceBoxesProd.pth"))
    assert {o.domain for o in model.opset_import} == {""}
    onnx.checker.check_model(model, full_check=True)


@pytest.fixture
def rng():
    return np.random.default_rng(20)
