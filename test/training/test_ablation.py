"""The ablation's own algebra against points that are known, and every variant for two steps."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import ablation  # noqa: E402
from tddfa_ros.training.sight import rotation_from_angles  # noqa: E402
from tddfa_ros.training.train_regressor import EXPRESSIONS  # noqa: E402


@pytest.fixture(scope="module")
def bench(rig_path):
    return ablation.Bench(rig_path, 100, 100)


def test_parameter_vector_of_the_truth_gives_the_true_points(bench, rng):
    """Of weak-perspective faces, whose scale and centre are known here and nowhere given."""
    coefficients = torch.tensor(rng.normal(size=(3, 40 + EXPRESSIONS)), dtype=torch.float32) * 0.3
    rotation = torch.tensor(
        np.stack([rotation_from_angles(*rng.normal(size=3)) for _ in range(3)]),
        dtype=torch.float32,
    )
    scale, centre = torch.tensor([400.0, 515, 700]), torch.tensor([[60.0, 50], [40, 70], [66, 61]])
    vector = ablation._vector(rotation, scale, centre, coefficients[:, :40], coefficients[:, 40:])
    batch = {"rotation": rotation, "points": bench.face(vector)}
    found_scale, found_centre = bench._true_camera(batch, coefficients)
    torch.testing.assert_close(found_scale, scale, rtol=1e-4, atol=0)
    torch.testing.assert_close(found_centre, centre, rtol=0, atol=1e-2)


def test_every_variant_steps_and_is_measured(bench):
    for variant in ablation.variants(bench):
        row = ablation.run(bench, variant, 2)
        assert set(row) == {"NME68", "degrees", "jaw_open", "blink_left"}
        assert all(np.isfinite(value) for value in row.values()), variant.name
        assert 5 < row["NME68"] < 60
