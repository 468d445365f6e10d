"""Geometry of the face model: known answers on a synthetic one, then parity with 3DDFA_V2."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tddfa_ros.core.camera import image_camera
from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.face_model import FaceModel
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.types import MorphableParams

GOLDEN_TOLERANCE_PX = 0.02  # the goldens' README grants 0.5
FIXED_POINT_TOLERANCE_PX = 0.01
STILLS = [
    "JianzhuGuo",
    "trump_hillary",
    "aflw2000_image00050",
    "aflw2000_image00251",
    "aflw2000_image00430",
    "aflw2000_image01322",
    "aflw2000_image02283",
    "aflw2000_image03324",
]
SHAPES, EXPRESSIONS, SIZE = 6, 3, 120


def make_face_model(vertices=200, triangles=90, seed=3) -> FaceModel:
    random = np.random.default_rng(seed)
    weights = random.dirichlet(np.ones(3), 68).astype(np.float32)
    weights[:10] = np.eye(3, dtype=np.float32)[random.integers(0, 3, 10)]
    return FaceModel(
        mean=random.normal(size=(vertices, 3)).astype(np.float32) * 5e4,
        shape_basis=random.normal(size=(SHAPES, vertices, 3)).astype(np.float32),
        expression_basis=random.normal(size=(EXPRESSIONS, vertices, 3)).astype(np.float32) * 1e3,
        triangles=random.integers(0, vertices, (triangles, 3)).astype(np.int32),
        uv=random.random((vertices, 2)).astype(np.float32),
        landmark_triangles=random.integers(0, triangles, 68).astype(np.int32),
        landmark_weights=weights,
        metres_per_unit=1e-6,
        sellion_triangle=4,
        sellion_weights=np.array([0.2, 0.3, 0.5], np.float32),
    )


def make_params(seed=0, roi_xyxy=(100.0, 50.0, 400.0, 350.0)) -> MorphableParams:
    random = np.random.default_rng(seed)
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    vector = np.concatenate(
        [
            np.column_stack([5e-4 * rotation, [60, 60, -30]]).ravel(),
            random.normal(size=SHAPES) * 3e3,
            random.normal(size=EXPRESSIONS),
        ]
    )
    return MorphableParams.from_vector(vector, SHAPES, np.array(roi_xyxy), SIZE)


def true_vertices(face_model: FaceModel, params: MorphableParams) -> np.ndarray:
    """The formulas of UPSTREAM in double precision, written out step by step; z not shifted."""
    points = (
        face_model.mean.astype(np.float64)
        + np.einsum("k,knx->nx", params.shape, face_model.shape_basis, dtype=np.float64)
        + np.einsum("k,knx->nx", params.expression, face_model.expression_basis, dtype=np.float64)
    )
    camera = params.camera.astype(np.float64)
    placed = points @ camera[:, :3].T + camera[:, 3]
    left, top, right, bottom = params.roi_xyxy
    scale_x, scale_y = (right - left) / SIZE, (bottom - top) / SIZE
    return np.column_stack(
        [
            (placed[:, 0] - 1) * scale_x + left,
            (SIZE - placed[:, 1]) * scale_y + top,
            (placed[:, 2] - 1) * (scale_x + scale_y) / 2,
        ]
    )


def from_zero(points: np.ndarray) -> np.ndarray:
    return points - [0, 0, points[:, 2].min()]


@pytest.fixture(scope="module")
def face_model():
    return make_face_model()


@pytest.fixture(scope="module")
def model(face_model):
    return MorphableModel(face_model)


def golden_params(model_set, expected):
    shapes = len(model_set.face_model.shape_basis)
    return [
        MorphableParams.from_vector(vector, shapes, roi, 120)
        for vector, roi in zip(expected["params"], expected["rois"], strict=True)
    ]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    left=st.floats(-300, 1000),
    top=st.floats(-300, 1000),
    width=st.floats(20, 1000),
    height=st.floats(20, 1000),
)
def test_vertices_and_landmarks_follow_the_formulas(seed, left, top, width, height):
    face_model = make_face_model()
    model = MorphableModel(face_model)
    params = make_params(seed, (left, top, left + width, top + height))
    truth = true_vertices(face_model, params)
    tolerance = FIXED_POINT_TOLERANCE_PX * max(1, max(width, height) / 300)
    assert np.abs(model.vertices(params) - from_zero(truth)).max() < tolerance
    corners = truth[face_model.triangles[face_model.landmark_triangles]]
    landmarks = np.einsum("pcx,pc->px", corners, face_model.landmark_weights)
    assert np.abs(model.landmarks(params) - from_zero(landmarks)).max() < tolerance


def test_results_are_of_the_documented_kind(model):
    params = make_params()
    vertices, landmarks = model.vertices(params), model.landmarks(params)
    assert vertices.shape == (model.vertex_count, 3) and vertices.dtype == np.float32
    assert landmarks.shape == (68, 3) and landmarks.dtype == np.float32
    assert vertices[:, 2].min() == 0 and landmarks[:, 2].min() == 0
    assert (model.shape_count, model.expression_count) == (SHAPES, EXPRESSIONS)


def test_a_held_shape_gives_the_same_vertices(model):
    params = make_params()
    held = model.hold_shape(params.shape)
    np.testing.assert_array_equal(model.vertices(params, held), model.vertices(params))
    other = dataclasses.replace(params, shape=params.shape * 0)
    np.testing.assert_array_equal(model.vertices(other, held=held), model.vertices(params))
    np.testing.assert_array_equal(held.shape, params.shape)


def test_batches_equal_single_faces(model):
    faces = [make_params(seed, (10.0 * seed, 0.0, 200.0, 300.0)) for seed in range(4)]
    np.testing.assert_array_equal(
        model.vertices_batch(faces), [model.vertices(params) for params in faces]
    )
    np.testing.assert_allclose(
        model.landmarks_batch(faces), [model.landmarks(params) for params in faces], atol=1e-3
    )
    assert model.landmarks_batch([]).shape == (0, 68, 3)
    assert model.vertices_batch([]).shape == (0, model.vertex_count, 3)


def test_model_units_and_the_image_camera_give_the_image(model):
    params = make_params()
    camera = image_camera(params)
    vertices = model.model_vertices(params.shape, params.expression) @ camera[:, :3].T
    np.testing.assert_allclose(
        from_zero(vertices + camera[:, 3]), model.vertices(params), atol=FIXED_POINT_TOLERANCE_PX
    )
    landmarks = model.model_landmarks(params.shape, params.expression) @ camera[:, :3].T
    np.testing.assert_allclose(
        from_zero(landmarks + camera[:, 3]), model.landmarks(params), atol=1e-3
    )


def test_model_sellion_is_where_the_model_set_says(face_model, model):
    params = make_params()
    vertices = model.model_vertices(params.shape, params.expression)
    expected = face_model.sellion_weights @ vertices[face_model.triangles[4]]
    sellion = model.model_sellion(params.shape, params.expression)
    # Model units are micrometres here: 10 are a hundredth of a pixel.
    np.testing.assert_allclose(sellion, expected, atol=10)
    silent = dataclasses.replace(face_model, sellion_triangle=None, sellion_weights=None)
    assert MorphableModel(silent).model_sellion(params.shape, params.expression) is None


def test_fills_the_given_array(model):
    params = make_params()
    out = np.empty((model.vertex_count, 3), np.float32)
    assert model.vertices(params, out=out) is out
    np.testing.assert_array_equal(out, model.vertices(params))


def test_coefficients_of_another_model_are_refused(model):
    params = make_params()
    wrong = dataclasses.replace(params, shape=params.shape[:-1])
    with_sellion = MorphableModel(
        dataclasses.replace(
            model.face_model, sellion_triangle=0, sellion_weights=np.array([1, 0, 0], np.float32)
        )
    )
    for compute in (
        model.landmarks,
        model.vertices,
        lambda p: model.landmarks_batch([params, p]),
        lambda p: model.vertices_batch([params, p]),
        lambda p: model.model_landmarks(p.shape, p.expression),
        lambda p: with_sellion.model_sellion(p.shape, p.expression),
    ):
        with pytest.raises(ModelSetError, match=r"\(5, 3\) coefficients .* 6 shape and 3"):
            compute(wrong)
    with pytest.raises(ModelSetError, match="from one model set"):
        model.hold_shape(np.zeros(40))
    with pytest.raises(ModelSetError, match="from one model set"):
        model.model_vertices(params.shape, params.shape)


def test_not_finite_parameters_do_not_crash(model):
    params = make_params()
    lost = dataclasses.replace(params, camera=np.full((3, 4), np.nan, np.float32))
    assert np.isnan(model.landmarks(lost)).all() and np.isnan(model.vertices(lost)[:, :2]).all()


@pytest.mark.parametrize("name", [*STILLS, "obama_track"])
def test_landmarks_equal_the_reference(model_set, golden, name):
    model = MorphableModel(model_set.face_model)
    expected = np.load(golden / f"{name}.npz")
    for params, sparse in zip(golden_params(model_set, expected), expected["sparse"], strict=True):
        np.testing.assert_allclose(model.landmarks(params), sparse.T, atol=GOLDEN_TOLERANCE_PX)


@pytest.mark.parametrize("name", ["JianzhuGuo", "trump_hillary"])
def test_vertices_equal_the_reference(model_set, golden, name):
    model = MorphableModel(model_set.face_model)
    expected = np.load(golden / f"{name}.npz")
    for params, dense in zip(golden_params(model_set, expected), expected["dense"], strict=True):
        for held in (None, model.hold_shape(params.shape)):
            vertices = model.vertices(params, held)
            np.testing.assert_allclose(vertices, dense.T, atol=GOLDEN_TOLERANCE_PX)


def test_fixed_point_costs_less_than_a_hundredth_of_a_pixel(model_set, golden):
    """At a face of 300 pixels, for every frame of the track."""
    model = MorphableModel(model_set.face_model)
    expected = np.load(golden / "obama_track.npz")
    for params in golden_params(model_set, expected)[::6]:
        truth = from_zero(true_vertices(model_set.face_model, params))
        error = np.abs(model.vertices(params) - truth).max()
        assert error * 300 / np.ptp(truth[:, 1]) < FIXED_POINT_TOLERANCE_PX
