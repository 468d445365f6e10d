"""What the looks read: values of known maps at known points, and corrections of a known error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import aligned, decoding  # noqa: E402
from tddfa_ros.training.crops import CROP  # noqa: E402
from tddfa_ros.training.landmarks import MIRROR_68  # noqa: E402
from tddfa_ros.training.networks import (  # noqa: E402
    LOOKS,
    READ_LAYERS,
    READ_PLACES,
    RegressorNet,
    table_of,
)

EXPRESSIONS = 16


def linear_maps(count, slopes):
    """Maps whose values are linear in where their places lie: (b, READ_CHANNELS, n, n) each.

    Even channels are linear in x, odd ones in y.
    """
    maps = []
    for places in READ_PLACES:
        at = places.first + places.stride * torch.arange(places.size)
        y, x = torch.meshgrid(at, at, indexing="ij")
        plane = torch.stack([slopes[0] * x, slopes[1] * y])
        plane = plane.repeat(aligned.READ_CHANNELS // 2, 1, 1)
        maps.append(torch.stack([plane + crop for crop in range(count)]))
    return maps


@settings(deadline=None, max_examples=40)
@given(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), st.integers(0, 2**31), st.integers(1, 3))
def test_linear_maps_are_read_exactly_and_held_outside(slopes, seed, count):
    reader = aligned.Reader(READ_PLACES)
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 50, 2, generator=generator) * 160 - 20
    read = reader(table_of(linear_maps(count, slopes)), points)
    assert read.shape == (count, 50, len(READ_PLACES), aligned.READ_CHANNELS)
    for k, places in enumerate(READ_PLACES):
        last = places.first + places.stride * (places.size - 1)
        held = points.clamp(places.first, last)
        wanted = held * torch.tensor(slopes) + torch.arange(count)[:, None, None]
        # A thousandth of a place short of the last one.
        torch.testing.assert_close(
            read[:, :, k, -2:], wanted, atol=0.004 * places.stride, rtol=1e-4
        )


def test_places_are_where_the_convolutions_look(rig):
    """The middle of the pixels that a place of a map sees, in a network that weighs all alike."""
    net = RegressorNet(rig, EXPRESSIONS, looks=0).eval()
    with torch.no_grad():
        for name, value in net.body.named_parameters():
            if value.ndim == 4 or name.endswith(("norm.weight", "norm.bias")):
                value.fill_(0.01)
    pixels = torch.rand(1, 3, CROP, CROP, requires_grad=True)
    seen = pixels
    for k, layer in enumerate(net.body):
        seen = layer(seen)
        if k in READ_LAYERS:
            places = READ_PLACES[READ_LAYERS.index(k)]
            assert seen.shape[-1] == places.size
            row, column = places.size // 2, places.size // 2 - 1
            (grad,) = torch.autograd.grad(seen[0, :, row, column].sum(), pixels, retain_graph=True)
            weight = grad.sum(dim=(0, 1))
            along = torch.arange(CROP, dtype=torch.float32)
            for index, weights in ((column, weight.sum(0)), (row, weight.sum(1))):
                middle = float((weights * along).sum() / weights.sum())
                assert middle == pytest.approx(places.first + places.stride * index, abs=0.05)


def test_points_are_symmetric_and_begin_with_the_landmarks(rig):
    points = aligned.point_model(rig, EXPRESSIONS).mean.numpy()
    landmarks = rig.landmarks.of(rig.mean)
    np.testing.assert_allclose(points[:68], landmarks, atol=1e-6)
    mirrored = points * [-1, 1, 1]
    nearest = np.linalg.norm(points[:, None] - mirrored, axis=2).min(axis=1)
    assert nearest.max() < 0.002
    np.testing.assert_allclose(points[MIRROR_68] * [-1, 1, 1], points[:68], atol=0.002)
    beside_the_jaw = points[68:77]
    width = np.ptp(landmarks[:17, 0])
    assert np.ptp(beside_the_jaw[:, 0]) > 1.1 * width
    assert beside_the_jaw[4, 1] < landmarks[8, 1] - 0.005


def test_a_new_look_changes_nothing(rig):
    net = RegressorNet(rig, EXPRESSIONS)
    crops = torch.randint(0, 256, (4, CROP, CROP, 3), dtype=torch.uint8)
    first, *looks, _, with_close_up = net.stages(crops)
    assert len(looks) == LOOKS
    for stage in (*looks, with_close_up):
        assert torch.equal(stage, first)


def test_a_correction_trains_the_maps_that_it_reads_and_not_the_fit_before(open_regressor, crops):
    net = open_regressor()
    stages = net.stages(crops[:4])
    (stages[2] - stages[1]).square().sum().backward()
    assert net.looks[1].change.weight.grad.abs().max() > 0
    for weight in (net.body[0].weight, net.sides[1][0].weight):
        assert weight.grad.abs().max() > 0
    assert float(net.head.weight.grad.abs().max()) < 1e-6
    assert net.looks[0].change.weight.grad.abs().max() < 1e-6


def test_a_look_learns_to_correct_a_shift_from_what_it_reads(rig):
    """Maps that say how far each pixel is from the face's true place; the fit is off by some."""
    torch.manual_seed(2)
    reader, model = aligned.Reader(READ_PLACES), aligned.point_model(rig, EXPRESSIONS)
    outputs = decoding.POSE_OUTPUTS + 40 + EXPRESSIONS + 1
    look = aligned.Look(len(model.mean), len(READ_PLACES), outputs)

    def wrong_after(count):
        before = torch.zeros(count, outputs)
        before[:, [0, 4]] = 1
        truth = before.clone()
        truth[:, 7:9] = 0.3 * torch.randn(count, 2)
        centre = decoding.decode(truth, 40, EXPRESSIONS).centre
        maps = []
        for level in linear_maps(1, (1.0, 1.0)):
            away = (level - centre.repeat(1, aligned.READ_CHANNELS // 2)[..., None, None]) / CROP
            away[:, ::3] *= -1
            maps.append(away)
        seen = reader(table_of(maps), model(decoding.decode(before, 40, EXPRESSIONS))[..., :2])
        return (before + look(seen, before[:, :-1]) - truth)[:, 7:9].square().mean()

    optimizer = torch.optim.AdamW(look.parameters(), 3e-3)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 150)
        optimizer.zero_grad()
        wrong_after(48).backward()
        optimizer.step()
    look.eval()
    assert wrong_after(300) < 0.02 * 0.3**2
