"""Losses and regimes on problems with a known answer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import meta_joint, parameter_costs, short_video  # noqa: E402
from tddfa_ros.training.recipe import Recipe  # noqa: E402
from tddfa_ros.training.short_video import Motion  # noqa: E402
from tddfa_ros.training.train_regressor import CLIP_SHARE, RegressorTraining  # noqa: E402


def random_problem(seed, faces=5, vertices=40, components=7):
    rng = np.random.default_rng(seed)
    face = parameter_costs.LinearFace(
        torch.tensor(rng.normal(size=(vertices, 3))),
        torch.tensor(rng.normal(size=(components, vertices, 3))),
    )
    truth = torch.tensor(rng.normal(size=(faces, 12 + components)))
    for k in range(faces):
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        camera = np.column_stack(
            [rng.uniform(0.3, 4) * q * np.sign(np.diag(r)), rng.normal(size=3)]
        )
        truth[k, :12] = torch.tensor(camera.ravel())
    params = truth + torch.tensor(rng.normal(size=truth.shape)) * rng.uniform(0.01, 2)
    return face, params, truth


@given(st.integers(0, 2**32 - 1))
def test_fast_wpdc_equals_wpdc(seed):
    face, params, truth = random_problem(seed)
    slow = parameter_costs.wpdc_weights(face, params, truth)
    fast = parameter_costs.fast_wpdc_weights(face, params, truth)
    assert float((slow - fast).abs().max()) < 1e-6
    assert float(slow.max()) == pytest.approx(1)


def test_vertex_cost_of_a_pure_shift_is_its_square():
    face, _, truth = random_problem(1)
    shifted = truth.clone()
    shifted[:, [3, 7, 11]] += torch.tensor([1.0, 2.0, -2.0], dtype=torch.float64)
    assert float(parameter_costs.vertex_distance_cost(face, shifted, truth)) == pytest.approx(9)


def test_weighted_cost_by_hand():
    params = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    weights = torch.tensor([[1.0, 0.5], [1.0, 0.25]])
    cost = parameter_costs.weighted_parameter_cost(params, torch.zeros(2, 2), weights)
    assert float(cost) == pytest.approx((1 + 2 + 0.25) / 2)


def test_vanilla_joint_balances_the_two_and_its_gradient_has_both():
    weighted = torch.tensor(4.0, requires_grad=True)
    vertex = torch.tensor(100.0, requires_grad=True)
    joint = parameter_costs.vanilla_joint(weighted, vertex, 0.25)
    joint.backward()
    assert float(joint) == pytest.approx(4.0)
    assert float(weighted.grad) == pytest.approx(0.25)
    assert float(vertex.grad) == pytest.approx(0.75 * 4 / 100)


class Point(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.at = torch.nn.Parameter(torch.tensor(5.0))


def test_meta_joint_keeps_the_loss_whose_steps_end_best():
    def good(net, batch):
        return (net.at - batch) ** 2

    def bad(net, batch):
        return (net.at - 20 * batch - 30) ** 2

    def test_error(net, goal):
        return (net.at - goal).abs()

    net = Point()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.5)
    kept = meta_joint.look_ahead(net, optimizer, (bad, good), [1.0, 1.0, 1.0], test_error, 1.0)
    alone = Point()
    alone_optimizer = torch.optim.SGD(alone.parameters(), 0.1, momentum=0.5)
    for _ in range(3):
        alone_optimizer.zero_grad()
        good(alone, 1.0).backward()
        alone_optimizer.step()
    assert kept == 1
    assert float(net.at) == pytest.approx(float(alone.at))
    state = optimizer.state_dict()["state"][0]["momentum_buffer"]
    expected = alone_optimizer.state_dict()["state"][0]["momentum_buffer"]
    assert float(state) == pytest.approx(float(expected))


def test_meta_joint_decides_by_the_network_as_it_is_used_and_keeps_no_trace_of_that():
    """The statistics of a normalisation are those of the batches learned from."""
    modes = []

    def loss(net, batch):
        return (net(batch) ** 2).mean()

    def test_error(net, batch):
        modes.append(net.training)
        return loss(net, batch)

    net = torch.nn.Sequential(torch.nn.BatchNorm1d(1, momentum=1.0), torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    seen, other = torch.tensor([[1.0], [3.0]]), torch.tensor([[100.0], [104.0]])
    meta_joint.look_ahead(net, optimizer, (loss, loss), [seen], test_error, other)
    assert modes == [False, False]
    assert net.training and net[0].training
    assert float(net[0].running_mean) == pytest.approx(2)
    assert int(net[0].num_batches_tracked) == 1


POINTS = torch.tensor([[40.0, 50, 10], [80, 50, -5], [60, 60, 30], [45, 85, 12], [75, 85, 8]])
CENTRE = torch.tensor([59.5, 59.5])


def motion(count=1, *, scale=1.0, roll=0.0, shift=(0.0, 0.0), turn=None):
    """The same motion of `count` stills; `turn` is yaw and pitch."""
    yaw, pitch = (None, None) if turn is None else (torch.full((count,), v) for v in turn)
    return Motion(
        torch.full((count,), scale),
        torch.full((count,), roll),
        torch.tensor([shift] * count),
        yaw,
        pitch,
    )


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def spots(count):
    """Stills, each with a bright spot on one of POINTS, all points, and which one it is."""
    which = np.arange(count) % len(POINTS)
    stills = torch.zeros((count, 120, 120, 3), dtype=torch.uint8)
    for still, (x, y, _) in zip(stills, POINTS[which].int().tolist(), strict=True):
        still[y - 2 : y + 3, x - 2 : x + 3] = 255
    return stills, POINTS.repeat(count, 1, 1), which


def away_from_spots(pictures, points, which):
    """Pixels between each picture's spot and the point that it should be on."""
    yy, xx = np.mgrid[:120, :120]
    away = []
    for picture, at, spot in zip(pictures.numpy(), points.numpy(), which, strict=True):
        weight = np.where(picture[..., 0] > 60, picture[..., 0], 0).astype(float)
        found = np.array([(weight * xx).sum(), (weight * yy).sum()]) / weight.sum()
        away.append(np.linalg.norm(found - at[spot, :2]))
    return np.array(away)


@pytest.mark.parametrize("turn", [None, (0.0, 0.0)])
def test_no_motion_changes_nothing(rng, turn):
    still = torch.from_numpy(rng.integers(0, 256, (2, 120, 90, 3)).astype(np.uint8))
    picture, points = short_video.frames(
        chance(), still, POINTS.repeat(2, 1, 1), motion(2, turn=turn)
    )
    assert torch.equal(picture, still)
    torch.testing.assert_close(points, POINTS.repeat(2, 1, 1), atol=1e-4, rtol=0)


def test_motion_in_the_plane_is_a_similarity():
    (moved,) = short_video.moved_points(
        POINTS[None], motion(scale=1.1, roll=0.2, shift=(3.0, -2.0)), CENTRE
    ).numpy()
    offset = (POINTS[:, :2] - CENTRE).numpy() @ np.array(
        [[np.cos(0.2), np.sin(0.2)], [-np.sin(0.2), np.cos(0.2)]]
    )
    np.testing.assert_allclose(moved[:, :2], 1.1 * offset + CENTRE.numpy() + [3, -2], atol=1e-4)
    np.testing.assert_allclose(moved[:, 2], 1.1 * POINTS[:, 2], atol=1e-4)


def test_motion_out_of_the_plane_keeps_distances_in_space():
    (moved,) = short_video.moved_points(POINTS[None], motion(turn=(0.3, -0.2)), CENTRE)
    torch.testing.assert_close(
        torch.cdist(moved, moved), torch.cdist(POINTS, POINTS), atol=1e-4, rtol=0
    )
    near, far = POINTS[:, 2].argmax(), POINTS[:, 2].argmin()
    (turned,) = short_video.moved_points(POINTS[None], motion(turn=(0.1, 0.0)), CENTRE)
    assert (turned - POINTS)[near, 0] > (turned - POINTS)[far, 0]
    (nodded,) = short_video.moved_points(POINTS[None], motion(turn=(0.0, 0.1)), CENTRE)
    assert (nodded - POINTS)[near, 1] > (nodded - POINTS)[far, 1]


@pytest.mark.parametrize(
    "settings", [{"shift": (6.0, -4.0)}, {"roll": 0.15, "scale": 1.05}, {"turn": (0.12, 0.0)}]
)
def test_the_picture_follows_its_points(settings):
    stills, points, which = spots(len(POINTS))
    moved = short_video.frames(chance(), stills, points, motion(len(POINTS), **settings))
    assert away_from_spots(*moved, which).max() < 1.0


def test_blur_spreads_and_noise_scatters_by_as_much_as_they_say():
    still = torch.full((3, 120, 120, 3), 100, dtype=torch.uint8)
    still[:, 60, 60] = 255
    blur, noise = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 4.0])
    moves = replace(motion(3), blur_px=blur, noise=noise)
    seen, _ = short_video.frames(chance(), still, POINTS.repeat(3, 1, 1), moves)
    assert torch.equal(seen[0], still[0])
    # The middle of a Gaussian of one pixel holds 0.159 of the whole.
    assert float(seen[1, 60, 60, 0]) == pytest.approx(100 + 0.159 * 155, abs=1.5)
    assert float((seen[2].float() - still[2].float()).std()) == pytest.approx(4, abs=0.2)


def test_stability_loss_sees_trembling_and_not_bias():
    rng = np.random.default_rng(0)
    truth = torch.tensor(rng.uniform(0, 100, (1, 6, 68, 3)))
    assert float(short_video.stability_loss(truth + 7.0, truth)) == pytest.approx(0, abs=1e-12)
    trembling = truth + torch.tensor([1.0, -1.0] * 3).view(1, 6, 1, 1)
    assert float(short_video.stability_loss(trembling, truth)) > 0.02


def test_clips_begin_with_the_still_and_go_on_evenly():
    first, half, whole = (short_video.draw_motions(chance(3), 40, share) for share in (0, 0.5, 1))
    for name in ("roll_rad", "shift_px", "yaw_rad", "pitch_rad", "blur_px", "noise"):
        assert not getattr(first, name).any()
    assert (first.scale == 1).all()
    for name in ("roll_rad", "shift_px", "yaw_rad", "pitch_rad"):
        assert getattr(whole, name).any()
        torch.testing.assert_close(2 * getattr(half, name), getattr(whole, name))
    assert 0 < (whole.yaw_rad != 0).float().mean() < 0.6
    assert (whole.blur_px >= 0).all()
    assert (whole.noise > 0).any()


def test_next_frames_move_little_and_pictures_with_their_points():
    """A bright spot on each point is found again where the moved point is."""
    stills, points, which = spots(24)
    pictures, moved = short_video.next_frames(chance(), stills, points)
    assert (pictures.shape, pictures.dtype) == (stills.shape, torch.uint8)
    assert (moved.shape, moved.dtype) == (points.shape, torch.float32)
    assert 0.1 < float((moved - points)[..., :2].norm(dim=2).mean()) < 5
    assert away_from_spots(pictures, moved, which).max() < 1.0


def test_the_regressor_learns_from_clips_of_its_batch(rig_path, tmp_path, rng):
    recipe = Recipe(minutes=0.01, workers=0, held_out=4)
    training = RegressorTraining(rig_path, tmp_path, recipe)
    batch = {k: torch.from_numpy(v) for k, v in next(training.produce(rig_path, 3, recipe)).items()}
    more, rows = training._with_next_frames(batch)
    count = int(CLIP_SHARE * len(batch["crops"]))
    assert len(rows) == count
    assert (batch["is_face"][rows] == 1).all()
    for name, value in more.items():
        assert len(value) == len(batch[name]) + count
        assert torch.equal(value[:-count], batch[name])
        if name not in ("crops", "points"):
            assert torch.equal(value[-count:], batch[name][rows])
    assert not torch.equal(more["points"][-count:], batch["points"][rows])
    assert float(training.losses(batch)[-1]) == 0
    training.share = recipe.clips_from
    assert float(training.losses(batch)[-1]) > 0
    # What is no face does not move; a batch may have fewer faces than clips.
    nobody = batch | {"is_face": torch.zeros_like(batch["is_face"])}
    losses = training.losses(nobody)
    assert all(torch.isfinite(loss) for loss in losses)
    assert float(losses[-1]) == 0
    few = {name: value[:4] for name, value in batch.items()}
    assert len(training._with_next_frames(few)[1]) == 1
    # Weights that begin a run have learned to fit already.
    training.share, training.recipe = 0.0, replace(recipe, start="weights.npz")
    assert float(training.losses(batch)[-1]) > 0
