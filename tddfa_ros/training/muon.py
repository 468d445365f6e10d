"""The optimiser of the convolutions: momentum whose matrix is made orthogonal before each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from tddfa_ros.training.precision import has_bfloat16

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


def orthogonal(matrix: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(n, m) -> (n, m) with the same singular vectors and singular values between 0.7 and 1.2.

    Five rounds of the quintic Newton-Schulz iteration of Jordan et al., "Muon: an optimizer for
    hidden layers in neural networks", 2024. Singular values below a thousandth of the matrix' norm
    come out smaller.

    Parameters
    ----------
    dtype : of the iteration; bfloat16 takes half the time and is off by a few percent
    """
    a, b, c = _QUINTIC
    x = (matrix / (matrix.norm() + 1e-7)).to(dtype)
    wide = x if matrix.shape[0] <= matrix.shape[1] else x.T
    for _ in range(_ROUNDS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return (wide if matrix.shape[0] <= matrix.shape[1] else wide.T).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Steps along the orthogonalised Nesterov momentum; weights (o, ...) count as (o, n) matrices.

    PyTorch's own of that name takes matrices only. On these networks it reaches the error that
    AdamW has after three minutes in about two (16,000 crops, one core; 9.75 % held-out NME after
    71,000 examples, AdamW 10.51 % after 90,000 in the same time).

    Parameters
    ----------
    params : weights of convolutions
    lr : length of a step, as a share of an orthogonal matrix
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step(weight, weight.grad, group)
        return loss

    def _step(self, weight: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].mul_(group["momentum"]).add_(grad)
        along = grad.add(momentum, alpha=group["momentum"])
        dtype = torch.bfloat16 if has_bfloat16(weight.device) else torch.float32
        turned = orthogonal(along.reshape(len(along), -1), dtype)
        tall = max(1.0, turned.shape[0] / turned.shape[1]) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(turned.reshape(weight.shape), alpha=-group["lr"] * tall)
