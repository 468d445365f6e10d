"""Fits of mirrored crops turned back, against the face that they show."""

import dataclasses

import cv2
import numpy as np
import pytest

from tddfa_ros.core import model_set as model_sets
from tddfa_ros.core.mirror import ParameterMirror
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.regress import Regressor
from tddfa_ros.core.types import MorphableParams

SIZE = 120


@pytest.fixture(scope="module")
def embedded(repository):
    return model_sets.load(repository / "models" / "embedded")


@pytest.fixture(scope="module")
def mirror(embedded):
    return ParameterMirror.of(embedded.face_model)


def random_vectors(count):
    """Cameras near the middle of a crop, with any coefficients."""
    rng = np.random.default_rng(5)
    vectors = np.zeros((count, 12 + 40 + 16), np.float32)
    cameras = vectors[:, :12].reshape(-1, 3, 4)
    cameras[..., :3] = 500 * np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    cameras[..., 3] = np.array([60, 60, 0]) + rng.normal(0, 5, (count, 3))
    vectors[:, 12:] = rng.normal(0, 0.7, (count, 56))
    return vectors


@pytest.mark.parametrize("region", [(0, 0, 120, 120), (40, -30, 340, 270), (7, 9, 60, 62)])
def test_a_face_fitted_in_the_mirror_is_the_mirrored_face(embedded, mirror, region):
    """In the mirrored image, the mirrored region's fit has each vertex at its mirror image."""
    model, symmetry = MorphableModel(embedded.face_model), embedded.face_model.symmetry
    image_width = 500
    left, top, right, bottom = region
    other_side = (image_width - right, top, image_width - left, bottom)
    vectors = random_vectors(4)
    ratio = np.full(4, (right - left) / SIZE)
    back = mirror.undo(vectors, SIZE, ratio)
    for in_mirror, here in zip(vectors, back, strict=True):
        seen = MorphableParams.from_vector(in_mirror, 40, np.float32(other_side), SIZE)
        fit = MorphableParams.from_vector(here, 40, np.float32(region), SIZE)
        expected = model.vertices(seen)[symmetry]
        expected[:, 0] = image_width - 1 - expected[:, 0]
        size = np.ptp(expected[:, 1])
        np.testing.assert_allclose(model.vertices(fit), expected, atol=2e-3 * size)


def test_twice_in_the_mirror_is_as_before(mirror):
    vectors = random_vectors(6)
    ratio = np.linspace(0.5, 3, 6)
    twice = mirror.undo(mirror.undo(vectors, SIZE, ratio), SIZE, ratio)
    np.testing.assert_allclose(twice, vectors, rtol=1e-5, atol=1e-3)


def test_models_that_are_not_symmetric_have_no_mirror(embedded):
    plain = dataclasses.replace(embedded.face_model, symmetry=None)
    assert ParameterMirror.of(plain) is None
    basis = embedded.face_model.shape_basis.copy()
    basis[3, :, 1] += np.linspace(-0.01, 0.01, basis.shape[1], dtype=np.float32)
    assert ParameterMirror.of(dataclasses.replace(embedded.face_model, shape_basis=basis)) is None


def test_a_mirrored_picture_gives_the_mirrored_fit_bit_for_bit_but_for_rounding(
    embedded, astronaut
):
    """The mean of a crop and its mirror image cannot tell which was which."""
    regressor = Regressor(embedded, threads=1)
    model = MorphableModel(embedded.face_model)
    symmetry = embedded.face_model.symmetry
    image = cv2.resize(astronaut, None, fx=2, fy=2)
    rois = np.float32([[320, 90, 620, 390], [310, 80, 600, 371]])
    width = image.shape[1]
    others = np.stack([width - rois[:, 2], rois[:, 1], width - rois[:, 0], rois[:, 3]], axis=1)
    fits, confidences = regressor.regress(image, rois, mirrored=True)
    seen, same = regressor.regress(image[:, ::-1].copy(), others, mirrored=True)
    np.testing.assert_allclose(confidences, same, atol=1e-5)
    for fit, in_mirror, alone in zip(fits, seen, regressor.regress(image, rois)[0], strict=True):
        expected = model.vertices(in_mirror)[symmetry]
        expected[:, 0] = width - 1 - expected[:, 0]
        here = model.vertices(fit)
        np.testing.assert_allclose(here, expected, atol=0.3)
        assert np.abs(here - model.vertices(alone)).max() > 1


def test_how_sure_a_fit_is_is_the_mean_of_how_sure_both_are(embedded, astronaut):
    regressor = Regressor(embedded, threads=1)
    rois = np.float32([[260, 60, 420, 220], [240, 10, 400, 170], [150, 40, 310, 200]])
    width = astronaut.shape[1]
    others = np.stack([width - rois[:, 2], rois[:, 1], width - rois[:, 0], rois[:, 3]], axis=1)
    _, here = regressor.regress(astronaut, rois)
    _, there = regressor.regress(astronaut[:, ::-1].copy(), others)
    assert np.abs(here - there).max() > 0.02
    _, both = regressor.regress(astronaut, rois, mirrored=True)
    np.testing.assert_allclose(both, (here + there) / 2, atol=1e-4)


def test_a_set_without_symmetry_fits_as_ever(model_set, astronaut):
    regressor = Regressor(model_set, threads=1)
    roi = np.float32([[160, 50, 310, 200]])
    plain, asked = (regressor.regress(astronaut, roi, mirrored=m)[0][0] for m in (False, True))
    np.testing.assert_array_equal(plain.vector, asked.vector)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_region_outside_the_image_leaves_the_fits_of_the_others_as_they_are(
    embedded, astronaut, mirrored
):
    """Of other sizes, by which cameras are put right and mirror images turned back."""
    regressor = Regressor(embedded, threads=1)
    rois = np.float32(
        [[-900, 0, -890, 10], [150, 40, 310, 200], [-900, 0, -100, 800], [180, 60, 290, 170]]
    )
    together, confidences = regressor.regress(astronaut, rois, mirrored=mirrored)
    assert [fit is None for fit in together] == [True, False, True, False]
    for index in (1, 3):
        (alone,), (sure,) = regressor.regress(astronaut, rois[[index]], mirrored=mirrored)
        np.testing.assert_allclose(together[index].vector, alone.vector, rtol=1e-3, atol=1e-2)
        assert confidences[index] == pytest.approx(sure, abs=1e-4)


def test_more_faces_than_a_batch_holds(embedded, astronaut):
    regressor = Regressor(embedded, threads=1)
    rois = np.float32([[150 + k, 40 + k, 310 + k, 200 + k] for k in range(35)])
    together, _ = regressor.regress(astronaut, rois, mirrored=True)
    for fit, roi in list(zip(together, rois, strict=True))[::8]:
        (alone,), _ = regressor.regress(astronaut, roi[None], mirrored=True)
        np.testing.assert_allclose(fit.vector, alone.vector, rtol=1e-3, atol=1e-2)
        np.testing.assert_array_equal(fit.roi_xyxy, roi)
