"""Several regions around a still's faces, and the mean of their fits."""

import dataclasses

import numpy as np
import pytest

from tddfa_ros.core import model_set as model_sets
from tddfa_ros.core.camera import image_camera, mean_fit, params_with_image_camera
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.model_description import RegressorSpec
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.still import fit_still
from tddfa_ros.core.types import MorphableParams

SPEC = RegressorSpec(still_roi_spread=0.1)
ROIS = np.float32([[10, 20, 110, 120], [200, -40, 260, 20]])


def params_in(roi, value=1.0):
    camera = np.float32([[400, 30, 5, 60 + value], [-30, 400, 8, 58], [2, 9, 400, 3 * value]])
    return MorphableParams(
        camera, np.full(40, value, np.float32), np.full(16, -value, np.float32), roi, 120
    )


def test_one_face_seen_from_several_regions_is_that_face():
    """The same image-space camera, written in three regions."""
    first = params_in(ROIS[0])
    others = [
        params_with_image_camera(dataclasses.replace(first, roi_xyxy=roi), image_camera(first))
        for roi in np.float32([[0, 10, 120, 130], [15, 25, 105, 115]])
    ]
    mean = mean_fit([first, *others])
    np.testing.assert_allclose(mean.camera, first.camera, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(mean.roi_xyxy, first.roi_xyxy)
    np.testing.assert_array_equal(mean.vector[12:], first.vector[12:])


def test_landmarks_of_the_mean_are_the_mean_of_the_landmarks(repository):
    """Exactly so where the coefficients agree: points are linear in the camera."""
    model = MorphableModel(model_sets.load(repository / "models" / "embedded").face_model)
    rng = np.random.default_rng(2)
    fits = []
    for roi in np.float32([[10, 20, 110, 120], [0, 10, 120, 130], [18, 29, 101, 113]]):
        fit = params_in(roi, 0.2)
        noise = rng.normal(0, 4, (3, 4)).astype(np.float32)
        fits.append(dataclasses.replace(fit, camera=fit.camera + noise))
    mean = model.landmarks(mean_fit(fits))[:, :2]
    each = [model.landmarks(fit)[:, :2] for fit in fits]
    np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-3)


def test_coefficients_and_confidences_are_averaged_over_smaller_and_larger_regions():
    asked = []

    def regress(rois):
        asked.append(rois)
        values = np.ptp(rois[:, ::2], axis=1)
        return tuple(params_in(r, v) for r, v in zip(rois, values, strict=True)), values / 1000

    fits, confidences = fit_still(regress, ROIS, SPEC)
    (regions,) = asked
    np.testing.assert_array_equal(regions[:2], ROIS)
    centres = (regions[:, :2] + regions[:, 2:]) / 2
    np.testing.assert_allclose(centres, np.tile(centres[:2], (3, 1)), atol=1e-4)
    sides = np.ptp(regions[:, ::2], axis=1).reshape(3, 2)
    np.testing.assert_allclose(sides, [[100, 60], [90, 54], [110, 66]], atol=1e-3)
    np.testing.assert_allclose([fit.shape[0] for fit in fits], [100, 60], rtol=1e-5)
    np.testing.assert_allclose(confidences, [0.1, 0.06], rtol=1e-5)
    assert confidences.dtype == np.float32


def test_a_region_without_a_fit_has_none_and_others_may_fail():
    def regress(rois):
        lost = (0, 3)  # the first region; the smaller one of the second
        fits = tuple(None if k in lost else params_in(r, k) for k, r in enumerate(rois))
        return fits, np.array([np.nan if fit is None else 0.5 for fit in fits], np.float32)

    fits, confidences = fit_still(regress, ROIS, SPEC)
    assert fits[0] is None
    assert fits[1].shape[0] == pytest.approx((1 + 5) / 2)
    np.testing.assert_array_equal(confidences, np.float32([np.nan, 0.5]))


def test_whole_pixels_and_no_spread():
    asked = []

    def regress(rois):
        asked.append(rois)
        return tuple(map(params_in, rois)), np.full(len(rois), np.nan, np.float32)

    _, confidences = fit_still(regress, ROIS, RegressorSpec())
    np.testing.assert_array_equal(asked[0], ROIS)
    assert np.isnan(confidences).all()
    whole = dataclasses.replace(SPEC, roi_whole_pixels=True)
    rois = ROIS + np.float32([0, 0, 5, 5])
    _, confidences = fit_still(regress, rois, whole)
    np.testing.assert_array_equal(asked[1], np.rint(asked[1]))
    assert np.isnan(confidences).all()


def test_stills_of_the_embedded_set_do_not_depend_on_a_pixel_of_framing(repository, astronaut):
    """What the mean is for: fits of shifted pictures agree better than single ones."""
    embedded = model_sets.load(repository / "models" / "embedded")
    assert embedded.regressor.still_roi_spread > 0
    alone = dataclasses.replace(
        embedded, regressor=dataclasses.replace(embedded.regressor, still_roi_spread=0.0)
    )
    spreads = []
    for model_set, mirrored in ((embedded, "stills"), (alone, "never")):
        pipeline = FacePipeline(model_set, PipelineConfig(mirrored_fits=mirrored))
        found = []
        for shift in range(0, 40, 5):
            (face,) = pipeline.process_still(astronaut[shift:, shift:]).faces
            found.append(face.landmarks[:, :2] + shift)
        pipeline.close()
        spreads.append(np.std(found, axis=0).mean())
    assert spreads[0] < spreads[1]
