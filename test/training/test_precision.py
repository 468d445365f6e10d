"""Half precision only where it is faster."""

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import precision  # noqa: E402
from tddfa_ros.training.networks import LOOKS  # noqa: E402


@pytest.mark.skipif(sys.platform != "linux", reason="reads the processor's features from /proc")
def test_bfloat16_is_used_where_the_processor_says_so():
    flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
    assert precision.has_bfloat16("cpu") == ("avx512_bf16" in flags)
    assert precision.has_bfloat16("cuda:0")


@pytest.mark.parametrize("has", [False, True])
def test_products_are_of_that_type(monkeypatch, has):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: has)
    with precision.mixed("cpu"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if has else torch.float32)


def test_the_regressor_computes_about_the_same_in_half_precision(
    open_regressor, crops, monkeypatch
):
    net = open_regressor().eval()
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    with torch.no_grad():
        exact = net.stages(crops[:2])
        with precision.mixed("cpu"):
            near = net.stages(crops[:2])
    assert len(near) == LOOKS + 3
    for first, second in zip(exact, near, strict=True):
        assert second.dtype == torch.float32
        assert (first - second).abs().max() < 0.1 * first.abs().max()
        assert not torch.equal(first, second)
