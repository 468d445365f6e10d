"""Networks from outside: what is refused, and what a run costs when there is none."""

import os
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tddfa_ros.core import onnx_session
from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.onnx_session import OnnxSession, TensorSpec

INPUTS = {"x": TensorSpec("float32", (None, 3))}
OUTPUTS = {"y": TensorSpec("float32", (None, 2))}
WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)


def linear(weight=None, extra_nodes=(), outputs=("y",)):
    """Network y = x @ weight."""
    weight = numpy_helper.from_array(WEIGHT, "w") if weight is None else weight
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), *extra_nodes],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in outputs],
        initializer=[weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def external(path):
    tensor = numpy_helper.from_array(WEIGHT, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", str(path)
    return tensor


def opened(model, inputs=INPUTS, outputs=OUTPUTS, threads=1):
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return OnnxSession(content, threads=threads, inputs=inputs, outputs=outputs)


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_runs_from_bytes_and_from_a_file(tmp_path, threads):
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    path = tmp_path / "linear.onnx"
    path.write_bytes(linear().SerializeToString())
    from_file = OnnxSession(path, threads=threads, inputs=INPUTS, outputs=OUTPUTS)
    for session in (opened(linear(), threads=threads), from_file):
        np.testing.assert_allclose(session.run({"x": x})[0], x @ WEIGHT, rtol=1e-6)


def test_outputs_come_as_asked_for():
    negated = helper.make_node("Neg", ["y"], ["z"])
    model = linear(extra_nodes=[negated], outputs=("y", "z"))
    spec = TensorSpec("float32", (None, 2))
    x = np.ones((1, 3), np.float32)
    z, y = opened(model, outputs={"z": spec, "y": spec}).run({"x": x})
    np.testing.assert_array_equal(z, -y)
    (only,) = opened(model, outputs={"z": spec}).run({"x": x})
    np.testing.assert_array_equal(only, z)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"image": INPUTS["x"]}, OUTPUTS, "input 'image' is none"),
        ({}, OUTPUTS, "input 'x'"),
        ({"x": TensorSpec("uint8", (None, 3))}, OUTPUTS, "expected uint8"),
        ({"x": TensorSpec("float32", (None, 4))}, OUTPUTS, "input 'x'"),
        ({"x": TensorSpec("float32", (None, None))}, OUTPUTS, "input 'x'"),
        ({"x": TensorSpec("float32", (1, 3))}, OUTPUTS, "input 'x'"),
        ({"x": TensorSpec("float32", (None, 3, 1))}, OUTPUTS, "input 'x'"),
        (INPUTS, {"scores": OUTPUTS["y"]}, "output 'scores' is none"),
        (INPUTS, {"y": TensorSpec("float32", (None, 3))}, "output 'y'"),
    ],
)
def test_other_inputs_and_outputs_are_refused(inputs, outputs, message):
    with pytest.raises(ModelSetError, match=message):
        opened(linear(), inputs, outputs)


def _in_subgraph(tensor):
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=tensor)],
        "branch",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [3, 2])],
    )
    condition = helper.make_node(
        "Constant", [], ["true"], value=numpy_helper.from_array(np.array(True))
    )
    choice = helper.make_node("If", ["true"], ["chosen"], then_branch=branch, else_branch=branch)
    return linear(extra_nodes=[condition, choice])


def _in_attribute(tensor):
    return linear(extra_nodes=[helper.make_node("Constant", [], ["c"], value=tensor)])


@pytest.mark.parametrize("place", [linear, _in_attribute, _in_subgraph])
@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "{tmp}/secret.bin"])
def test_data_in_other_files_is_refused(tmp_path, monkeypatch, place, location):
    (tmp_path / "secret.bin").write_bytes(WEIGHT.tobytes())
    monkeypatch.chdir(tmp_path)
    model = place(external(location.format(tmp=tmp_path)))
    (tmp_path / "hostile.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelSetError, match="another file"):
        opened(model)
    with pytest.raises(ModelSetError, match="another file"):
        OnnxSession(tmp_path / "hostile.onnx", threads=1, inputs=INPUTS, outputs=OUTPUTS)


def test_external_data_is_refused_whatever_its_location_field_says(tmp_path):
    tensor = external(tmp_path / "secret.bin")
    tensor.raw_data = WEIGHT.tobytes()
    tensor.data_location = TensorProto.DEFAULT
    with pytest.raises(ModelSetError, match="another file"):
        opened(linear(tensor))


def test_unreadable_files_are_refused(tmp_path, monkeypatch):
    def load(path):
        return OnnxSession(path, threads=1, inputs=INPUTS, outputs=OUTPUTS)

    with pytest.raises(ModelSetError, match=r"none\.onnx"):
        load(tmp_path / "none.onnx")
    with pytest.raises(ModelSetError):
        load(tmp_path)
    large = tmp_path / "large.onnx"
    large.write_bytes(linear().SerializeToString())
    monkeypatch.setattr(onnx_session, "MAX_NETWORK_BYTES", 10)
    with pytest.raises(ModelSetError, match="larger than 10 bytes"):
        load(large)


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"not a network", b"\x80\x04N.", b"\xff" * 4096, b"\x08\x08"]
)
def test_other_content_is_refused(content):
    with pytest.raises(ModelSetError):
        opened(content)


def test_unknown_operators_are_refused():
    model = linear(extra_nodes=[helper.make_node("Evil", ["x"], ["e"], domain="elsewhere")])
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    with pytest.raises(ModelSetError, match="cannot load"):
        opened(model)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_refused_or_harmless(data):
    content = bytearray(linear().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        try:
            opened(damaged).run({"x": np.zeros((1, 3), np.float32)})
        except ModelSetError:
            continue


def test_a_run_that_fails_is_an_error_with_its_cause():
    session = opened(linear())
    with pytest.raises(ModelSetError, match="failed on") as caught:
        session.run({"x": np.zeros((2, 4), np.float32)})
    assert caught.value.__cause__ is not None
    for inputs in ({"x": np.zeros((2, 3))}, {}, {"y": np.zeros((2, 3), np.float32)}):
        with pytest.raises(ModelSetError):
            session.run(inputs)
    (y,) = session.run({"x": np.zeros((2, 3), np.float32)})
    assert y.shape == (2, 2)


@pytest.mark.parametrize(
    ("shape", "rows", "fits"),
    [
        ([3, 2], None, True),
        ([3, 2], 3, True),
        ([3, 2], 2, False),
        ([2, 3], 2, False),
        ([6], 6, False),
        ([1, 3, 2], None, False),
    ],
)
def test_outputs_of_other_shapes_than_stated_are_refused(shape, rows, fits):
    """The network gives its output whatever shape it is told."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["shape"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["w", "shape"], ["y"]),
        ],
        "reshaped",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["sizes"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        initializer=[numpy_helper.from_array(WEIGHT, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = opened(model, {"x": TensorSpec("float32", (None,))})
    if fits:
        session.run({"x": np.float32(shape)}, rows=rows)
        return
    with pytest.raises(ModelSetError, match=r"output 'y' has shape"):
        session.run({"x": np.float32(shape)}, rows=rows)


def test_threads_sleep_between_runs():
    rng = np.random.default_rng(0)
    layers = [("x", "a"), ("a", "b"), ("b", "y")]
    side = 256
    graph = helper.make_graph(
        [helper.make_node("MatMul", [i, "w"], [o]) for i, o in layers],
        "busy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", side])],
        initializer=[numpy_helper.from_array(rng.normal(size=(side, side)).astype("f4"), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    spec = TensorSpec("float32", (None, side))
    session = opened(model, {"x": spec}, {"y": spec}, threads=2)
    x = np.ones((256, side), np.float32)
    session.run({"x": x})
    used = time.process_time()
    for _ in range(10):
        session.run({"x": x})
        time.sleep(0.05)
    assert time.process_time() - used < 0.25, "half a core or more while nothing runs"


def test_the_runtime_keeps_nothing_of_its_use(tmp_path):
    """From 1.31 on it collects that, and sends it to its maker, unless told not to."""
    own = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TMPDIR"), str(tmp_path))
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | own
    command = [sys.executable, "-c", "import tddfa_ros.core.onnx_session"]
    subprocess.run(command, env=environment, check=True, timeout=60)
    assert not list(tmp_path.rglob("*"))
