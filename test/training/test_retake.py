"""Other takes of crops: the truth stays where the picture shows it."""

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.training import retake as module  # noqa: E402

SIDE = 120


def retake(seed, pictures, points):
    given = (torch.from_numpy(value) for value in (pictures, points))
    taken = module.retake(torch.Generator().manual_seed(seed), *given)
    return tuple(value.numpy() for value in taken)


@pytest.fixture
def spots(rng):
    """Pictures of soft bright spots on grey, and where these are."""
    points = np.zeros((12, 3, 3), np.float32)
    points[..., :2] = np.array([[40, 40], [80, 45], [58, 85]]) + rng.normal(0, 3, (12, 3, 2))
    points[..., 2] = rng.normal(0, 10, (12, 3))
    y, x = np.mgrid[:SIDE, :SIDE]
    light = np.zeros((12, SIDE, SIDE))
    for k, triple in enumerate(points):
        for column, row, _ in triple:
            light[k] += np.exp(-((x - column) ** 2 + (y - row) ** 2) / 8)
    return np.repeat((80 + 100 * light).astype(np.uint8)[..., None], 3, axis=3), points


def centre_near(picture, point):
    left, top = np.round(point[:2]).astype(int) - 7
    patch = picture[top : top + 15, left : left + 15, 0].astype(float)
    patch -= np.median(picture)
    patch[patch < 8] = 0
    moments = cv2.moments(patch)
    return left + moments["m10"] / moments["m00"], top + moments["m01"] / moments["m00"]


def test_points_stay_on_what_they_mark(spots):
    pictures, points = spots
    taken, moved = retake(1, pictures, points)
    for picture, triple in zip(taken, moved, strict=True):
        for point in triple:
            np.testing.assert_allclose(centre_near(picture, point), point[:2], atol=0.35)
    share = (np.abs(moved - points).max(axis=(1, 2)) > 1e-3).mean()
    assert 0.4 <= share <= 0.95
    assert not np.array_equal(taken, pictures)


def test_takes_differ_but_not_those_of_one_seed(spots):
    first, again, other = (retake(s, *spots) for s in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    for picture, points in (first, other):
        assert picture.dtype == np.uint8
        assert points.dtype == np.float32


def test_what_came_in_is_not_changed(spots):
    before = [value.copy() for value in spots]
    retake(1, *spots)
    for value, kept in zip(spots, before, strict=True):
        np.testing.assert_array_equal(value, kept)
