"""Meta-joint optimisation: look ahead with two losses, keep the better one.

Guo et al., "Towards fast, accurate and stable 3D dense face alignment", 2020, algorithm 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

Loss = Callable[[torch.nn.Module, Any], torch.Tensor]


def look_ahead(
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: Sequence[Loss],
    batches: Sequence[Any],
    test: Loss,
    test_batch: Any,
) -> int:
    """Take the same steps with each loss from the same state, and keep the best outcome.

    Parameters
    ----------
    net, optimizer : changed in place to the outcome that is kept
    losses : candidates, such as fast WPDC and VDC
    batches : one step each
    test : the error that decides, on `test_batch`, of the network as it will be used (``eval()``)

    Returns
    -------
    index of the loss that was kept
    """
    start = (copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict()))
    outcomes = []
    for loss in losses:
        net.load_state_dict(start[0])
        optimizer.load_state_dict(copy.deepcopy(start[1]))
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            loss(net, batch).backward()
            optimizer.step()
        state = (copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict()))
        training = net.training
        net.eval()
        with torch.no_grad():
            error = float(test(net, test_batch))
        net.train(training)
        outcomes.append((error, state))
    best = min(range(len(losses)), key=lambda k: outcomes[k][0])
    net.load_state_dict(outcomes[best][1][0])
    optimizer.load_state_dict(outcomes[best][1][1])
    return best
