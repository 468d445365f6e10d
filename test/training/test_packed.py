"""Weights of a set: back as they were, and nothing but them."""

import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import packed  # noqa: E402
from tddfa_ros.training.together import TrainingError  # noqa: E402


def module():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


@pytest.fixture
def net():
    torch.manual_seed(1)
    net = module()
    net(torch.randn(5, 3, 8, 8))
    return net


@pytest.fixture
def path(net, tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(packed.pack(net.state_dict(), 123))
    return path


def test_weights_come_back_matrices_to_half_precision(net, path):
    other = module()
    assert packed.unpack(other, path) == 123
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            error = {"rtol": 0, "atol": 0} if value.ndim == 1 else {"rtol": 1e-3, "atol": 1e-4}
            torch.testing.assert_close(other.state_dict()[name], value, **error)


def test_another_network_is_told_and_left_as_it_is(path):
    other = torch.nn.Linear(3, 3)
    before = other.weight.detach().clone()
    with pytest.raises(TrainingError, match="another network"):
        packed.unpack(other, path)
    assert torch.equal(other.weight, before)


@pytest.mark.parametrize(
    "change",
    [
        {"half": np.zeros(7, np.float16)},
        {"half": np.zeros((2, 54), np.float16)},
        {"half": np.float16(0)},
        {"half": np.full(108, np.nan, np.float16)},
        {"half": np.full(108, "1")},
        {"half": np.zeros(108, np.float64)},
        {"single": np.zeros(21, np.float32)},
        {"single": np.full(20, np.inf, np.float32)},
        {"seen": np.array([-1])},
        {"seen": np.array([1, 2])},
        {"more": np.zeros(1)},
        {"layout": np.zeros(3, np.uint8)},
    ],
)
def test_files_that_lie_are_told_and_change_nothing(net, path, change):
    with np.load(path) as data:
        arrays = dict(data)
    assert {name: value.shape for name, value in arrays.items()} == {
        "layout": arrays["layout"].shape,
        "half": (108,),
        "single": (20,),
        "seen": (1,),
    }
    stream = io.BytesIO()
    np.savez(stream, **(arrays | change))
    path.write_bytes(stream.getvalue())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(TrainingError, match=r"weights\.npz"):
        packed.unpack(net, path)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 and no more"])
def test_files_that_are_none_are_told(net, tmp_path, content):
    path = tmp_path / "other.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match="no weights to begin with"):
        packed.unpack(net, path)
