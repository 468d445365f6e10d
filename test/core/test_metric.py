"""Metric poses of fitted faces: a head at a known place, seen by a distorted lens."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tddfa_ros.core.calibration import Camera
from tddfa_ros.core.face_model import FaceModel
from tddfa_ros.core.metric import LEFT_EAR, RIGHT_EAR, SIZE_UNCERTAINTY, MetricFaces
from tddfa_ros.core.morphable import MorphableModel, params_with_image_camera
from tddfa_ros.core.pose import head_pose
from tddfa_ros.core.types import Face, MorphableParams, TrackState

UNIT_M = 1e-3
LENS = Camera(
    np.array([[600.0, 0, 330], [0, 610, 230], [0, 0, 1]]),
    np.array([-0.3, 0.12, 1e-3, -2e-3, 0.02]),
    False,
    480,
    640,
)


def head_model():
    """Front half of an ellipsoid of a head's size, in millimetres, that can grow and speak."""
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(300, 3))
    directions[:, 2] = np.abs(directions[:, 2])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    mean = (directions * [72, 110, 90]).astype(np.float32)
    # Landmark k is the first corner of triangle k; ears and sellion have places of their own.
    mean[RIGHT_EAR], mean[LEFT_EAR], mean[100] = [-72, 0, 0], [72, 0, 0], [0, 30, 88]
    triangles = np.array([[k, (k + 1) % 300, (k + 2) % 300] for k in range(300)], np.int32)
    one_hot = np.zeros((68, 3), np.float32)
    one_hot[:, 0] = 1
    return FaceModel(
        mean=mean,
        shape_basis=(mean * [[[0.05, 0, 0]], [[0, 0.05, 0.05]]]).astype(np.float32),
        expression_basis=rng.normal(scale=0.5, size=(2, 300, 3)).astype(np.float32),
        triangles=triangles,
        uv=np.zeros((300, 2), np.float32),
        landmark_triangles=np.arange(68, dtype=np.int32),
        landmark_weights=one_hot,
        metres_per_unit=UNIT_M,
        sellion_triangle=100,
        sellion_weights=np.array([1, 0, 0], np.float32),
    )


def rotation_at(yaw_deg, pitch_deg, roll_deg):
    """(3, 3) from the face frame to the optical frame, turned about the optical axes."""
    turn = Rotation.from_euler("YXZ", [yaw_deg, pitch_deg, roll_deg], degrees=True)
    return (turn * Rotation.from_quat([0.5, 0.5, -0.5, 0.5])).as_matrix()


def fitted_face(metric, model, rotation, position_m, shape):
    """The fit of a network that places every landmark where the lens shows it.

    Its weak-perspective camera is the least-squares one, as a network would learn it.
    """
    params = MorphableParams(
        np.zeros((3, 4), np.float32),
        np.asarray(shape, np.float32),
        np.array([0.5, -1.0], np.float32),
        np.array([0, 0, 640, 640], np.float32),
        120,
    )
    pixels = LENS.project(metric.landmarks_m(params) @ rotation.T + position_m)
    points = model.model_landmarks(params.shape, params.expression).astype(np.float64)
    homogeneous = np.hstack([points, np.ones((68, 1))])
    rows = np.linalg.lstsq(homogeneous, pixels, rcond=None)[0].T
    towards = -np.cross(rows[0, :3], rows[1, :3]) / np.linalg.norm(rows[0, :3])
    camera = np.vstack([rows, np.append(towards, 0.0)])
    params = params_with_image_camera(params, camera)
    landmarks = np.hstack([pixels, np.zeros((68, 1))]).astype(np.float32)
    box = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]).astype(np.float32)
    pose = head_pose(params)
    return Face("f1", TrackState.TRACKED, 0, 1.0, 1.0, box, params, landmarks, pose)


@pytest.fixture(scope="module")
def model():
    return MorphableModel(head_model())


@pytest.mark.parametrize("yaw_deg", [-60, -25, 0, 25, 60])
@pytest.mark.parametrize("distance_m", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("side", [-0.3, 0.0, 0.3])
def test_rotation_within_a_degree_and_position_within_a_hundredth(model, yaw_deg, distance_m, side):
    metric = MetricFaces(model)
    rotation = rotation_at(yaw_deg, 8, -6)
    position = distance_m * np.array([side, -side / 2, 1.0])
    face = fitted_face(metric, model, rotation, position, [0.5, -0.8])
    pose = metric.pose(face, LENS)
    error = Rotation.from_matrix(pose.rotation.T @ rotation).magnitude()
    assert np.degrees(error) < 1.0
    assert np.linalg.norm(pose.position_m - position) < 0.01 * distance_m


def test_origin_is_the_sellion_and_axes_are_those_of_the_face_frame(model):
    face_model = model.face_model
    params = MorphableParams(
        np.zeros((3, 4), np.float32),
        np.zeros(2, np.float32),
        np.zeros(2, np.float32),
        np.zeros(4, np.float32),
        120,
    )
    vertices = MetricFaces(model).vertices_m(params)
    np.testing.assert_allclose(vertices[100], 0, atol=1e-9)
    out, left, up = ((face_model.mean - face_model.mean[100]) * UNIT_M)[:, [2, 0, 1]].T
    np.testing.assert_allclose(vertices, np.stack([out, left, up], axis=1), atol=1e-7)


def test_where_no_sellion_is_known_the_origin_is_the_upper_end_of_the_nose(model):
    """Of the landmarks of iBUG, 27 to 30 go down the bridge of the nose."""
    without = replace(model.face_model, sellion_triangle=None, sellion_weights=None)
    metric = MetricFaces(MorphableModel(without))
    rng = np.random.default_rng(1)
    shape, expression = rng.normal(size=(2, 2)).astype(np.float32)
    params = MorphableParams(
        np.zeros((3, 4), np.float32), shape, expression, np.zeros(4, np.float32), 120
    )
    np.testing.assert_allclose(metric.landmarks_m(params)[27], 0, atol=1e-9)
    # Landmark k is vertex k.
    np.testing.assert_allclose(metric.vertices_m(params)[27], 0, atol=1e-7)


def test_head_width_is_the_distance_of_the_ears_and_scales_the_distance(model):
    rotation, position = rotation_at(10, 0, 0), np.array([0.1, 0.0, 1.0])
    face = fitted_face(MetricFaces(model), model, rotation, position, [1.0, 0.0])
    own_width_m = 0.144 * 1.05
    wider = MetricFaces(model, head_width_m=1.1 * own_width_m)
    still = MorphableParams(
        face.params.camera, face.params.shape, np.zeros(2, np.float32), face.params.roi_xyxy, 120
    )
    ears = wider.landmarks_m(still)[[RIGHT_EAR, LEFT_EAR]]
    assert np.linalg.norm(ears[0] - ears[1]) == pytest.approx(1.1 * own_width_m, rel=1e-5)
    np.testing.assert_allclose(wider.pose(face, LENS).position_m, 1.1 * position, atol=1e-6)


def test_only_an_assumed_size_makes_the_distance_uncertain(model):
    position = np.array([0.0, 0.0, 1.0])
    face = fitted_face(MetricFaces(model), model, rotation_at(0, 0, 0), position, [0, 0])
    assumed = MetricFaces(model).pose(face, LENS).covariance[2, 2]
    known = MetricFaces(model, head_width_m=0.144).pose(face, LENS).covariance[2, 2]
    assert np.sqrt(assumed - known) == pytest.approx(SIZE_UNCERTAINTY, rel=0.02)


def test_covariance_covers_what_the_networks_err_by(model):
    """Heads that the fit has turned, shifted and larger, by as much as it was measured to err."""
    rng = np.random.default_rng(7)
    metric = MetricFaces(model, head_width_m=0.144)
    rotation, position = rotation_at(25, -10, 5), np.array([0.15, 0.1, 1.0])
    exact = fitted_face(metric, model, rotation, position, [0, 0])
    size_m = np.sqrt(np.ptp(metric.landmarks_m(exact.params)[:, 1:], axis=0).prod())
    squared = []
    for _ in range(200):
        turn = Rotation.from_rotvec(rng.normal(scale=np.radians([4.5, 4.7, 2.3])))
        shift = rng.normal(scale=size_m * np.array([0.024, 0.021, 0]))
        place = (position + shift) * np.exp(rng.normal(scale=0.042))
        face = fitted_face(metric, model, turn.as_matrix() @ rotation, place, [0, 0])
        pose = metric.pose(face, LENS)
        turned = Rotation.from_matrix(pose.rotation @ rotation.T).as_rotvec()
        error = np.concatenate([pose.position_m - position, turned])
        squared.append(error @ np.linalg.solve(pose.covariance, error))
    # Chi-square of 6 degrees of freedom: mean 6; 200 samples scatter by 0.25.
    assert 5.0 < np.mean(squared) < 7.0
