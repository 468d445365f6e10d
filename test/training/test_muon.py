"""Orthogonalised steps: their shape, their size, and a problem with a known answer."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training.loop import optimizers_of  # noqa: E402
from tddfa_ros.training.muon import Muon, orthogonal  # noqa: E402
from tddfa_ros.training.networks import RegressorNet  # noqa: E402
from tddfa_ros.training.recipe import Recipe  # noqa: E402


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16), (1, 9)])
def test_singular_values_become_one_and_vectors_stay(shape, rng):
    matrix = torch.tensor(rng.normal(size=shape), dtype=torch.float32) * 1e-3
    left, before, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = orthogonal(matrix)
    assert turned.shape == shape
    inner = left.T @ turned @ right.T
    assert torch.diagonal(inner).min() > 0.3 * (before.min() / before.max() > 0.05)
    assert torch.diagonal(inner).max() < 1.3
    assert (inner - torch.diag(torch.diagonal(inner))).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(48, 864), (192, 96)])
def test_half_the_digits_give_nearly_the_same(shape, rng):
    matrix = torch.tensor(rng.normal(size=shape), dtype=torch.float32)
    exact, rough = orthogonal(matrix), orthogonal(matrix, torch.bfloat16)
    assert rough.dtype == torch.float32
    assert torch.linalg.matrix_norm(exact - rough, 2) < 0.1


def test_finds_the_filter_that_made_the_pictures():
    torch.manual_seed(0)
    truth, found = torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.Conv2d(3, 8, 3, bias=False)
    optimizer = Muon(found.parameters(), lr=0.05, weight_decay=0.0)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 150)
        pictures = torch.randn(8, 3, 12, 12)
        loss = ((found(pictures) - truth(pictures)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(found.weight.detach(), truth.weight.detach(), atol=0.01)


def test_every_weight_has_one_optimizer_and_the_first_convolution_adamw(rig):
    net = RegressorNet(rig, 16)
    adam, muon = optimizers_of(net, Recipe())
    ids = [id(w) for o in (adam, muon) for g in o.param_groups for w in g["params"]]
    assert sorted(ids) == sorted(id(w) for w in net.parameters())
    of_adam = {id(w) for group in adam.param_groups for w in group["params"]}
    assert {id(net.body[0].weight), id(net.head.weight)} <= of_adam
    assert {w.ndim for group in muon.param_groups for w in group["params"]} == {4}
