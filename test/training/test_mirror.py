"""Mirrored crops and their truth, against the face model at mirrored coefficients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import decoding  # noqa: E402
from tddfa_ros.training.crops import CROP  # noqa: E402
from tddfa_ros.training.decoding import POSE_OUTPUTS  # noqa: E402
from tddfa_ros.training.mirror import Mirror  # noqa: E402
from tddfa_ros.training.rig import MODEL_SHAPES  # noqa: E402
from tddfa_ros.training.sight import spread_points  # noqa: E402

EXPRESSIONS, COUNT = 16, 5


@pytest.fixture(scope="module")
def dense(rig):
    return spread_points(rig, 30)


@pytest.fixture(scope="module")
def points(rig, dense):
    return decoding.PointModel.at_truth(rig, dense, EXPRESSIONS)


@pytest.fixture
def fit():
    generator = torch.Generator().manual_seed(3)
    outputs = 0.3 * torch.randn(
        COUNT, POSE_OUTPUTS + MODEL_SHAPES + EXPRESSIONS + 1, generator=generator
    )
    outputs[:, [0, 4]] += 1
    return decoding.decode(outputs, MODEL_SHAPES, EXPRESSIONS)


@pytest.fixture
def batch(fit, points, rng):
    return {
        "crops": torch.from_numpy(rng.integers(0, 256, (COUNT, CROP, CROP, 3), dtype=np.uint8)),
        "points": points(fit),
        "shape": fit.shape,
        "expression": fit.expression,
        "is_face": torch.ones(COUNT),
    }


def test_mirrored_coefficients_make_the_mirrored_points(rig, dense, points, fit, batch):
    mirror = Mirror(rig, dense, EXPRESSIONS)
    seen = mirror(batch, torch.ones(COUNT, dtype=bool))
    centre = fit.centre * torch.tensor([-1, 1]) + torch.tensor([CROP - 1, 0])
    axes = torch.tensor([-1.0, 1, 1])
    rotation = fit.rotation * axes[:, None] * axes
    turned = decoding.Fit(rotation, fit.scale, centre, seen["shape"], seen["expression"], fit.logit)
    np.testing.assert_allclose(points(turned), seen["points"], atol=0.02)
    names = [str(name) for name in rig.expression_names]
    left, right = names.index("blink_left"), names.index("blink_right")
    assert torch.equal(seen["expression"][:, left], fit.expression[:, right])


def test_a_spot_moves_with_its_point(rig, dense, batch):
    row, column = 30, 17
    batch["crops"][:] = 0
    batch["crops"][:, row, column] = 255
    batch["points"][:, 8, :2] = torch.tensor([column, row], dtype=torch.float32)
    seen = Mirror(rig, dense, EXPRESSIONS)(batch, torch.ones(COUNT, dtype=bool))
    spot = torch.nonzero(seen["crops"][0, ..., 0])
    assert spot.tolist() == [[row, CROP - 1 - column]]
    np.testing.assert_array_equal(seen["points"][0, 8, :2], spot[0].flip(0))  # the chin: its own


def test_only_the_rows_asked_for_change_and_twice_is_nothing(rig, dense, batch):
    mirror = Mirror(rig, dense, EXPRESSIONS)
    rows = torch.tensor([True, False, True, False, False])
    once = mirror(batch, rows)
    twice = mirror(once, rows)
    for name, value in batch.items():
        assert torch.equal(once[name][~rows], value[~rows]), name
        torch.testing.assert_close(twice[name], value)
    assert not torch.equal(once["crops"][rows], batch["crops"][rows])
