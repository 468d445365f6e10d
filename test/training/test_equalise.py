"""Channels on other scales: the same network, better rounded."""

import copy
from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import quantise  # noqa: E402
from tddfa_ros.training.equalise import equalise, streams  # noqa: E402


@pytest.fixture
def net(crops, open_regressor):
    """A network whose channels have ranges up to 400 times apart, as trained ones do."""
    net = open_regressor()
    with torch.no_grad():
        for stream in streams(net):
            channels = len(stream.writers[0].weight)
            factors = torch.exp(torch.empty(channels).uniform_(-3, 3))
            for norm in stream.writers:
                norm.weight *= factors
                norm.bias *= factors
    for _ in range(60):
        net(crops)
    return net.eval()


def outputs(net, crops):
    with torch.no_grad():
        return net(crops)


def test_every_rounding_and_every_layer_belongs_to_one_stream(net):
    found = streams(net)
    of_pixels = {id(close.rounded) for close in net.close_ups}
    of_hidden = {id(look.joined[1]) for look in net.looks}
    norms = torch.nn.BatchNorm2d | torch.nn.BatchNorm1d
    for kind, name in ((quantise.FakeQuantise, "places"), (norms, "writers")):
        of_streams = [m for stream in found for m in getattr(stream, name)]
        assert len({id(m) for m in of_streams}) == len(of_streams)
        of_net = {id(m) for m in net.modules() if isinstance(m, kind)} - of_pixels - of_hidden
        assert {id(m) for m in of_streams} == of_net
    read = Counter()
    for reader in [reader for stream in found for reader in stream.readers]:
        read[reader.untyped_storage().data_ptr()] += reader.numel()
    convolutions = [m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    of_channels = [weight for weight in convolutions if weight.shape[1] > 3]
    assert len(of_channels) == len(convolutions) - 2
    readers = [*of_channels, net.head.weight, *(look.of_point for look in net.looks)]
    readers += [close.hidden.weight for close in net.close_ups]
    expected = {weight.untyped_storage().data_ptr(): weight.numel() for weight in readers}
    for look in net.looks:  # What they know of the fit stays as it is.
        joined = look.joined[0]
        expected[joined.weight.untyped_storage().data_ptr()] = joined.weight[:, :-65].numel()
    assert read == expected


def test_the_network_computes_the_same(net, crops):
    before = outputs(net, crops)
    weights = net.body[3][0].weight.detach().clone()
    net.train()
    equalise(net, crops)
    assert net.training
    torch.testing.assert_close(outputs(net.eval(), crops), before, rtol=1e-3, atol=1e-4)
    assert not torch.equal(net.body[3][0].weight, weights)


def test_ranges_come_nearer_and_rounding_changes_less(net, crops):
    exact = outputs(net, crops)

    def spread_and_error():
        spreads = []
        for stream in streams(net):
            seen = []
            hook = stream.places[0].register_forward_pre_hook(
                lambda m, inputs, seen=seen: seen.append(
                    inputs[0].abs().transpose(0, 1).flatten(1).amax(1)
                )
            )
            outputs(net, crops)
            hook.remove()
            spreads.append(seen[0].clamp(min=1e-3).log().std())
        rounded = copy.deepcopy(net)
        quantise.calibrate(rounded, crops)
        error = (outputs(rounded, crops) - exact).std()
        return torch.stack(spreads), error

    spread, error = spread_and_error()
    equalise(net, crops)
    spread_after, error_after = spread_and_error()
    assert (spread_after < 0.8 * spread).all()
    assert error_after < 0.95 * error
