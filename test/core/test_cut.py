"""Whether two small pictures show the same, on pictures whose relation is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tddfa_ros.core.appearance import SIDE
from tddfa_ros.core.cut import contrast_of, shows_another

SEEDS = st.integers(0, 2**32 - 1)


def picture(seed):
    return np.random.default_rng(seed).uniform(0.2, 0.8, (SIDE, SIDE, 3)).astype(np.float32)


@given(SEEDS, st.floats(0.2, 2), st.floats(-0.3, 0.3), st.floats(0, 0.05))
def test_other_light_and_noise_are_no_other_picture(seed, gain, brightness, noise):
    rng, before = np.random.default_rng(seed), picture(seed)
    now = gain * before + brightness + gain * rng.normal(0, noise, before.shape)
    assert not shows_another(before, now)


@given(SEEDS)
def test_what_has_nothing_in_common_is_another_picture(seed):
    first, second = picture(seed), picture(seed + 1)
    assert shows_another(first, second)
    assert shows_another(first, 1 - first)


@given(SEEDS, st.floats(0.0, 1.0))
def test_the_share_in_common_decides(seed, share):
    """Correlation of a picture and its mixture with another one, that is not correlated with it."""
    first, other = (p - p.mean(axis=(0, 1)) for p in (picture(seed), picture(seed + 1)))
    other -= first * (first * other).sum() / (first**2).sum()
    other *= np.sqrt((first**2).sum() / (other**2).sum())
    if abs(share - 0.7) > 1e-3:
        mixed = share * first + np.sqrt(1 - share**2) * other
        assert shows_another(first + 0.5, mixed + 0.5) == (share < 0.7)


@pytest.mark.parametrize(
    "plain",
    [
        np.zeros((SIDE, SIDE, 3)),
        np.full((SIDE, SIDE, 3), 0.9),
        0.5 + 0.006 * (-1.0) ** np.indices((SIDE, SIDE)).sum(axis=0)[..., None] * np.ones(3),
        None,
    ],
    ids=["black", "bright", "faint", "none"],
)
def test_a_picture_without_anything_in_it_tells_nothing(plain):
    assert not shows_another(picture(1), plain)
    assert not shows_another(plain, picture(1))


@given(st.floats(0, 1), st.floats(0, 1))
def test_contrast_counts_what_differs_from_the_mean_colour(gain, level):
    colour = np.array([0.5, 1.0, 0.0])
    chess = (-1.0) ** np.indices((SIDE, SIDE)).sum(axis=0)[..., None]
    assert contrast_of(level * colour + gain * chess) == pytest.approx(gain)
    assert contrast_of(None) == 0
