"""FakeQuantise while training, and the integer graph that comes of it."""

import copy
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import export, quantise  # noqa: E402
from tddfa_ros.training.camera_regressor import CameraRegressor  # noqa: E402
from tddfa_ros.training.networks import RegressorNet  # noqa: E402


def fake_quantise(limit, *, signed=False):
    place = quantise.FakeQuantise(signed=signed)
    place.scale = limit / (127 if signed else 255)
    return place


@given(st.floats(0.01, 1000), st.booleans(), st.integers(0, 2**31))
def test_values_in_range_move_by_half_a_step_at_most_to_one_of_256(limit, signed, seed):
    place = fake_quantise(limit, signed=signed)
    x = torch.rand(2000, generator=torch.Generator().manual_seed(seed)) * limit
    if signed:
        x = 2 * x - limit
    y = place(x)
    assert (x - y).abs().max() <= 0.5001 * place.scale
    assert len(y.unique()) <= 256
    assert torch.equal(place(y), y)
    assert place(torch.zeros(1)).item() == 0


def test_weights_have_seven_bits_on_the_scale_of_their_channel():
    torch.manual_seed(0)
    conv = quantise.QuantisedConv2d(5, 4, 3, bias=False)
    with torch.no_grad():
        conv.weight *= torch.tensor([1e-3, 1, 50, 0])[:, None, None, None]
    assert conv.quantised_weight() is conv.weight
    conv.quantised = True
    steps = quantise.weight_scales(conv.weight)
    integers = (conv.quantised_weight() / steps[:, None, None, None]).detach()
    torch.testing.assert_close(integers, integers.round(), atol=1e-3, rtol=0)
    assert integers.abs().amax(dim=(1, 2, 3)).round().tolist() == [63, 63, 63, 0]
    assert (
        (conv.weight - conv.quantised_weight()).abs().amax(dim=(1, 2, 3)) <= 0.501 * steps
    ).all()
    # The sum that processors without VNNI keep in 16 bits.
    assert 2 * quantise.ACTIVATION_LEVELS * quantise.WEIGHT_LIMIT < 2**15


@pytest.fixture(scope="module")
def trained(crops, open_regressor):
    """A network whose normalisation knows its input, as after a training."""
    net = open_regressor()
    for _ in range(60):
        net(crops)
    return net.eval()


@pytest.fixture(scope="module")
def rounded(rig, trained, crops):
    net = RegressorNet(rig, 16)
    net.load_state_dict(trained.state_dict())
    quantise.calibrate(net.eval(), crops)
    return net


def test_calibrated_rounding_changes_little(trained, rounded, crops):
    assert not quantise.is_quantised(trained) and quantise.is_quantised(rounded)
    assert not rounded.training
    places = [m for m in rounded.modules() if isinstance(m, quantise.FakeQuantise)]
    assert len(places) == 23 and all(place.scale > 0 for place in places)
    with torch.no_grad():
        exact, near = trained(crops), rounded(crops)
    change = (near - exact).std() / exact.std()
    assert 1e-4 < change < 0.15


def test_running_again_from_a_place_gives_what_the_whole_network_gives(trained, crops):
    net = copy.deepcopy(trained)
    places = [m for m in net.modules() if isinstance(m, quantise.FakeQuantise)]
    computed, first = [], net.body[0]._conv_forward
    net.body[0]._conv_forward = lambda *inputs: computed.append(1) or first(*inputs)
    with torch.no_grad():
        for place in places:
            place.scale = 0.05
        run = quantise.Run(net, crops)
        for k, place in enumerate(places):
            place.scale = 0.02
            computed.clear()
            again = run.again_from(place)
            assert not computed
            assert torch.equal(again.answers, net(crops)), k
            assert not torch.equal(again.answers, run.answers), k
            run = again
    assert "forward" not in vars(net.body[0])


def session(data, *, optimised=True):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def integers(rounded):
    return export.regressor_onnx(rounded)


def test_what_sees_rounded_values_becomes_integer_operators(integers, tmp_path):
    graph = onnx.load_from_string(integers).graph
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    dequantised = {
        node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"
    }
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    rounded = [node for node in layers if node.input[1] in dequantised]
    kinds = Counter((n.op_type, stored[dequantised[n.input[1]]]) for n in rounded)
    assert kinds == {("Conv", onnx.TensorProto.INT8): 16, ("Gemm", onnx.TensorProto.INT8): 4}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(integers, options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert operators.count("QLinearConv") == 16 and operators.count("QGemm") == 4
    # All but one round what the looks have made of their points, the last one what the close-ups
    # have read between pixels.
    assert "Conv" not in operators and operators.count("QuantizeLinear") == 4


def rounded_values(data, crops, *, optimised):
    """What the graph has at each place where it rounds, in order, as integers, and its answers."""
    model = onnx.load_from_string(data)
    ends = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    for name in ends:
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None)
        )
    inputs = {"crops": crops.numpy()}
    runs = session(model.SerializeToString(), optimised=optimised)
    return runs.run(ends, inputs), runs.run(["params", "confidence"], inputs)


def assert_same_fits(params, wanted, tolerance):
    """Entries of a camera matrix err by shares of its size, not of their own."""
    turned = [0, 1, 2, 4, 5, 6, 8, 9, 10]
    size = np.abs(wanted[:, turned]).max(axis=1, keepdims=True)
    np.testing.assert_allclose(params[:, turned] / size, wanted[:, turned] / size, atol=tolerance)
    rest = [3, 7, *range(11, params.shape[1])]
    np.testing.assert_allclose(params[:, rest], wanted[:, rest], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("optimised", [False, True])
def test_each_layer_of_the_graph_computes_what_was_trained(rounded, integers, crops, optimised):
    """Each from what the graph has before it: single roundings that fall otherwise add up."""
    found, answers = rounded_values(integers, crops, optimised=optimised)
    body = rounded.body
    places = [m for m in rounded.modules() if isinstance(m, quantise.FakeQuantise)]
    values = [
        (torch.from_numpy(v).float() - place.zero_point) * place.scale
        for v, place in zip(found, places, strict=True)
    ]
    pixels = (crops.permute(0, 3, 1, 2).float() - 128) / 64

    def branch(layer, middle):
        return layer.branch(layer.norm(layer.second(middle)))

    with torch.no_grad():
        wanted = [
            body[2](body[1](body[0](pixels))),
            body[3](values[0]),
            body[4].first(values[1]),
            branch(body[4], values[2]),
            body[4].sum(values[1] + values[3]),
            body[5](values[4]),
            body[6].first(values[5]),
            branch(body[6], values[6]),
            body[6].sum(values[5] + values[7]),
            body[7](values[8]),
            body[8].first(values[9]),
            branch(body[8], values[10]),
            body[8].sum(values[9] + values[11]),
            rounded.sides[0](values[4]),
            rounded.sides[1](values[8]),
        ]
        exported = CameraRegressor(rounded)
        # Bytes are 64 times what the network counts in.
        further = [(look.rounded, 1) for look in exported.looks]
        (close,) = exported.close_ups
        further += [(close.rounded, 64), *((layer, 1) for layer in close.body)]
        for (place, unit), value in zip(further, values[15:], strict=True):

            def replaced(module, inputs, output, value=value, unit=unit):
                wanted.append(output / unit)
                return value * unit

            place.register_forward_hook(replaced)
        heads = exported.fit(crops, [values[0], *values[13:15]], values[12])
    for value, want, place in zip(values, wanted, places, strict=True):
        difference = ((value - want) / place.scale).abs()
        assert difference.max() < 1.01
        assert difference.mean() < 0.01
        assert value.std() > 5 * place.scale
    assert_same_fits(answers[0], heads[0].numpy(), 1e-4)
    np.testing.assert_allclose(answers[1], heads[1].numpy(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("gamma", [0.0, 5e-6, -1.0, 3.0])
@pytest.mark.parametrize("beta", [-0.7, 0.7])
def test_biases_survive_weights_of_any_size(rig, trained, crops, gamma, beta):
    crops = crops[:6]
    net = RegressorNet(rig, 16)
    net.load_state_dict(trained.state_dict())
    with torch.no_grad():
        net.body[4].norm.weight[:9], net.body[4].norm.bias[:9] = gamma, beta
    quantise.calibrate(net.eval(), crops)
    data = export.regressor_onnx(net)
    seen = []
    net.body[4].branch.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        net(crops)
    wanted = (seen[0] / net.body[4].branch.scale).numpy() + 128
    for optimised in (False, True):
        # The branch of the first residual block is the fourth to be rounded.
        found = rounded_values(data, crops, optimised=optimised)[0][3]
        difference = np.abs(found.astype(np.float32) - wanted)[:, :9]
        assert difference.max() < 3.5
        assert difference.mean() < 0.2


@settings(deadline=None, max_examples=10)
@given(count=st.integers(1, 9))
def test_a_crop_has_the_same_answer_in_any_batch(integers, crops, count):
    """Integer sums do not depend on their order; the head is floating point."""
    runs = session(integers)
    alone = runs.run(None, {"crops": crops[count - 1 : count].numpy()})[0]
    together = runs.run(None, {"crops": crops[:count].numpy()})[0]
    assert_same_fits(together[-1:], alone, 1e-5)
