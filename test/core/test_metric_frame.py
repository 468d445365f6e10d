"""Faces of an image in metres, with the imported model and a photo."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from tddfa_ros.core.calibration import assumed_camera
from tddfa_ros.core.config import MetricConfig, PipelineConfig
from tddfa_ros.core.metric_frame import MetricFrames
from tddfa_ros.core.pipeline import FacePipeline


@pytest.fixture(scope="module")
def pipeline(model_set):
    pipeline = FacePipeline(model_set, PipelineConfig())
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="module")
def result(pipeline, media):
    return pipeline.process_still(cv2.imread(str(media / "trump_hillary.jpg")))


@pytest.fixture
def frames(pipeline):
    return MetricFrames(pipeline.model, MetricConfig())


def camera_of(result):
    return assumed_camera(result.image_height, result.image_width)


def test_vertices_and_landmarks_are_seen_where_the_fit_has_them(frames, pipeline, result):
    camera = camera_of(result)
    frame = frames.frame(result, camera)
    assert frame.calibrated
    assert len(frame.poses) == len(result.faces) == 2
    for index, face in enumerate(result.faces):
        size = np.ptp(face.landmarks[:, :2], axis=0).max()
        fitted = pipeline.vertices(face)
        seen = camera.project(frame.vertices_m(index))
        # Perspective brings the nose nearer and the ears farther than the weak-perspective fit.
        assert np.abs(seen - fitted[:, :2]).max() < 0.12 * size
        seen = camera.project(frame.landmarks_m(index))
        rms = np.sqrt(((seen - face.landmarks[:, :2]) ** 2).sum(axis=1).mean())
        assert rms == pytest.approx(frame.poses[index].residual_px, rel=1e-3)
        # Near in the image is near in metres, along the line of sight.
        sight = frame.poses[index].position_m / np.linalg.norm(frame.poses[index].position_m)
        depth = frame.vertices_m(index) @ sight
        assert np.corrcoef(depth, fitted[:, 2])[0, 1] < -0.99
        assert np.ptp(depth) < 0.25


def test_without_calibration_faces_stand_before_the_assumed_camera(frames, result):
    frame = frames.frame(result, None, smooth=False)
    assert not frame.calibrated
    assert frame.poses == (None, None)
    known = frames.frame(result, camera_of(result), smooth=False)
    for index in range(2):
        np.testing.assert_array_equal(frame.vertices_m(index), known.vertices_m(index))


def test_poses_pass_through_filters_if_asked_to(frames, result):
    camera = camera_of(result)
    assert all(frames.frame(result, camera).poses)
    # The two people have moved by a few centimetres in one frame: where they were still counts.
    aside = np.float32([10, 0, 0])
    faces = [replace(face, landmarks=face.landmarks + aside) for face in result.faces]
    moved = replace(result, stamp_ns=33_333_333, faces=tuple(faces))
    raw = frames.frame(moved, camera, smooth=False)
    smooth = frames.frame(moved, camera)
    for raw_pose, smooth_pose in zip(raw.poses, smooth.poses, strict=True):
        assert np.linalg.norm(raw_pose.position_m - smooth_pose.position_m) > 1e-3


def test_filters_begin_anew_on_reset_and_with_another_size_of_head(frames, result):
    camera = camera_of(result)
    later = replace(result, stamp_ns=33_333_333)
    assert all(frames.frame(result, camera).poses)
    frames.configure(MetricConfig(head_width_m=0.3))
    np.testing.assert_array_equal(
        frames.frame(later, camera).poses[0].position_m,
        frames.frame(later, camera, smooth=False).poses[0].position_m,
    )


@pytest.mark.parametrize("change", [{"pose_min_cutoff_hz": 0.01}, {"pose_beta": 0.0}])
def test_other_settings_of_the_filters_hold_from_the_next_image_on(pipeline, result, change):
    camera = camera_of(result)
    aside = np.float32([10, 0, 0])
    faces = [replace(face, landmarks=face.landmarks + aside) for face in result.faces]
    moved = replace(result, stamp_ns=33_333_333, faces=tuple(faces))
    config = replace(MetricConfig(pose_min_cutoff_hz=0.1, pose_beta=1.0), **change)
    changed, fresh = (
        MetricFrames(pipeline.model, before)
        for before in (MetricConfig(pose_min_cutoff_hz=0.1, pose_beta=1.0), config)
    )
    places = []
    for frames in (changed, fresh):
        assert all(frames.frame(result, camera).poses)
        frames.configure(config)
        places.append(frames.frame(moved, camera).poses[0].position_m)
    np.testing.assert_array_equal(*places)


@pytest.mark.parametrize("appears", [True, False])
def test_filters_begin_anew_where_a_calibration_appears_or_vanishes(frames, result, appears):
    """Though the camera be the assumed one, so that the heads are hardly elsewhere."""
    before, after = (None, camera_of(result)) if appears else (camera_of(result), None)
    aside = np.float32([10, 0, 0])
    faces = [replace(face, landmarks=face.landmarks + aside) for face in result.faces]
    moved = replace(result, stamp_ns=33_333_333, faces=tuple(faces))
    assert all(frames.frame(result, before).placed)
    raw = frames.frame(moved, after, smooth=False)
    for pose, raw_pose in zip(frames.frame(moved, after).placed, raw.placed, strict=True):
        np.testing.assert_array_equal(pose.position_m, raw_pose.position_m)
        np.testing.assert_array_equal(pose.rotation, raw_pose.rotation)


def test_a_face_that_is_not_finite_has_no_pose(frames, result):
    broken = replace(result.faces[0], landmarks=np.full((68, 3), np.nan, np.float32))
    frame = frames.frame(replace(result, faces=(broken, result.faces[1])), camera_of(result))
    assert frame.poses[0] is None
    assert frame.vertices_m(0) is None
    assert frame.landmarks_m(0) is None
    assert frame.poses[1] is not None
