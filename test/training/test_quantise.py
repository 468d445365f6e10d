"""FakeQuantise while training, and the integer graph that comes of it."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import checkpoint, export, quantise  # noqa: E402
from tddfa_ros.training.networks import RegressorNet  # noqa: E402
from tddfa_ros.training.together import TrainingError  # noqa: E402


def fake_quantise(limit, *, signed=False):
    place = quantise.FakeQuantise(signed=signed)
    place.scale.fill_(limit / (127 if signed else 255))
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


def test_gradients_pass_within_the_range_only():
    x = torch.tensor([-0.5, 0.2, 0.7, 1.5], requires_grad=True)
    y = fake_quantise(1.0)(x)
    assert y[0].item() == 0 and y[3].item() == pytest.approx(1)
    y.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_low_precision_comes_out_as_it_went_in():
    x = torch.linspace(0, 1, 9, dtype=torch.bfloat16)
    y = fake_quantise(1.0)(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), x.float(), atol=0.004, rtol=0.004)


def test_weights_have_seven_bits_on_the_scale_of_their_channel():
    torch.manual_seed(0)
    conv = quantise.QuantisedConv2d(5, 4, 3, bias=False)
    with torch.no_grad():
        conv.weight *= torch.tensor([1e-3, 1, 50, 0])[:, None, None, None]
    assert conv.quantised_weight() is conv.weight
    conv.quantised.fill_(True)
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
def crops():
    """Smooth pictures: noise alone would leave hardly anything behind the first layer."""
    rng = np.random.default_rng(3)
    coarse = torch.from_numpy(rng.uniform(0, 255, (24, 3, 9, 9)).astype(np.float32))
    fine = torch.nn.functional.interpolate(coarse, size=(120, 120), mode="bilinear")
    return fine.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous()


@pytest.fixture(scope="module")
def trained(crops):
    """A network whose normalisation knows its input, as after a training."""
    torch.manual_seed(4)
    net = RegressorNet(40, 16)
    for name, value in net.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(value, 0.5, 1.5)
    torch.nn.init.normal_(net.head.weight, 0, 0.02)
    for _ in range(60):
        net(crops)
    return net.eval()


@pytest.fixture(scope="module")
def rounded(trained, crops):
    net = RegressorNet(40, 16)
    net.load_state_dict(trained.state_dict())
    quantise.begin(net.eval(), crops)
    return net


def test_rounding_begins_once_and_changes_little(trained, rounded, crops):
    assert not quantise.begun(trained) and quantise.begun(rounded)
    assert not rounded.training
    places = [m for m in rounded.modules() if isinstance(m, quantise.FakeQuantise)]
    assert len(places) == 12 and all(place.scale > 0 for place in places)
    with torch.no_grad():
        exact, near = trained(crops), rounded(crops)
    change = (near - exact).std() / exact.std()
    assert 1e-4 < change < 0.15


def test_a_state_with_rounding_resumes(rounded, crops, tmp_path):
    checkpoint.save(tmp_path / "state.pt", {"average": rounded.state_dict()})
    again = RegressorNet(40, 16).eval()
    again.load_state_dict(checkpoint.load(tmp_path / "state.pt")["average"])
    with torch.no_grad():
        assert torch.equal(again(crops), rounded(crops))


def test_a_branch_that_is_shut_can_open(crops):
    torch.manual_seed(5)
    net = RegressorNet(40, 16)
    quantise.begin(net, crops)
    net(crops).square().mean().backward()
    for name, weight in net.named_parameters():
        assert name.endswith("norm.weight") <= (weight.grad.abs().max() > 0).item(), name


def test_end_undoes_begin(trained, crops):
    net = RegressorNet(40, 16).eval()
    net.load_state_dict(trained.state_dict())
    quantise.begin(net, crops)
    quantise.end(net)
    assert not quantise.begun(net)
    with torch.no_grad():
        assert torch.equal(net(crops), trained(crops))


def test_states_with_and_without_rounding_have_no_mean(trained, rounded, tmp_path):
    paths = [tmp_path / "trained.pt", tmp_path / "rounded.pt"]
    for path, net in zip(paths, (trained, rounded), strict=True):
        checkpoint.save(path, {"average": net.state_dict()})
    with pytest.raises(TrainingError, match=r"trained\.pt computes without rounding and"):
        checkpoint.mean_of(paths)
    mean = checkpoint.mean_of([paths[1], paths[1]])["average"]
    torch.testing.assert_close(mean, rounded.state_dict())


def session(data, *, optimised=True):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def integers(rounded):
    return export.regressor_onnx(rounded)


def test_all_convolutions_become_integer_operators(integers, tmp_path):
    graph = onnx.load_from_string(integers).graph
    kinds = [tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4]
    assert kinds == [onnx.TensorProto.INT8] * 10
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(integers, options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert operators.count("QLinearConv") == 10
    assert "Conv" not in operators and "QuantizeLinear" not in operators


def test_the_graph_computes_what_was_trained(trained, rounded, integers, crops):
    """Single roundings fall the other way now and then; what is left is small beside rounding."""
    inputs = {"crops": crops.numpy()}
    found = session(integers).run(None, inputs)[0]
    as_written = session(integers, optimised=False).run(None, inputs)[0]
    with torch.no_grad():
        wanted = export.CameraRegressor(rounded)(crops)[0].numpy()
        exact = export.CameraRegressor(trained)(crops)[0].numpy()
    scale = exact.std(axis=0)
    scale[scale < 1e-6] = 1  # the camera's constants

    def distance(a, b):
        return np.sqrt((((a - b) / scale) ** 2).mean())

    assert distance(found, as_written) < 0.2 * distance(wanted, exact)
    assert distance(found, wanted) < 0.5 * distance(wanted, exact) < 0.1


@pytest.mark.parametrize("gamma", [0.0, 5e-6, -1.0, 3.0])
@pytest.mark.parametrize("beta", [-0.7, 0.7])
def test_biases_survive_weights_of_any_size(trained, crops, gamma, beta):
    net = RegressorNet(40, 16)
    net.load_state_dict(trained.state_dict())
    with torch.no_grad():
        net.body[4].norm.weight[:9], net.body[4].norm.bias[:9] = gamma, beta
    quantise.begin(net.eval(), crops)
    data = export.regressor_onnx(net)
    model = onnx.load_from_string(data)
    # The branch of the first residual block is the fourth to be rounded.
    name = [n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"][3]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None)
    )
    seen = []
    net.body[4].branch.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        net(crops)
    wanted = (seen[0] / net.body[4].branch.scale).numpy() + 128
    for optimised in (False, True):
        runs = session(model.SerializeToString(), optimised=optimised)
        (found,) = runs.run([name], {"crops": crops.numpy()})
        difference = np.abs(found.astype(np.float32) - wanted)[:, :9]
        assert difference.max() < 3.5
        assert difference.mean() < 0.2


def test_the_first_layers_agree_value_by_value(rounded, integers, crops):
    model = onnx.load_from_string(integers)
    ends = [n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"][:2]
    for name in ends:
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None)
        )
    found = session(model.SerializeToString(), optimised=False).run(ends, {"crops": crops.numpy()})
    x = crops.permute(0, 3, 1, 2).float() - 128
    with torch.no_grad():
        first = rounded.body[2](rounded.body[1](rounded.body[0](x / 64)))
        second = rounded.body[3](first)
    steps = (rounded.body[2].fake_quantise.scale, rounded.body[3][2].fake_quantise.scale)
    for values, wanted, step in zip(found, (first, second), steps, strict=True):
        difference = np.abs(values.astype(int) - np.rint((wanted / step).numpy()).astype(int))
        assert difference.max() <= 1
        assert difference.mean() < 0.02
        assert values.min() == 0 and values.max() > 200


@settings(deadline=None, max_examples=10)
@given(count=st.integers(1, 9))
def test_a_crop_has_the_same_answer_in_any_batch(integers, crops, count):
    """Integer sums do not depend on their order; the head is floating point."""
    runs = session(integers)
    alone = runs.run(None, {"crops": crops[count - 1 : count].numpy()})[0]
    together = runs.run(None, {"crops": crops[:count].numpy()})[0]
    np.testing.assert_allclose(together[-1:], alone, rtol=1e-5, atol=1e-5)
