"""The dense reconstruction against numpy in double precision."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tddfa_native.reconstruct import PackedFaceModel, kernel_names

FACE_SIZE = 300.0  # pixels
HALF_PRECISION_ERROR_PX = 0.01


def make_arrays(vertices=101, shapes=7, expressions=4, seed=0):
    """Mean and bases as a morphable model has them: a head of 1e5 units, fading components."""
    random = np.random.default_rng(seed)
    mean = random.normal(size=(vertices, 3)).astype(np.float32) * 5e4
    fade = np.geomspace(1, 1e-2, max(shapes, 1))[:shapes, None, None]
    shape_basis = (random.normal(size=(shapes, vertices, 3)) * fade).astype(np.float32)
    expression_basis = random.normal(size=(expressions, vertices, 3)).astype(np.float32) * 1e3
    return mean, shape_basis, expression_basis


def make_face(shapes=7, expressions=4, seed=1):
    random = np.random.default_rng(seed)
    scale = FACE_SIZE / 2e5
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    camera = np.column_stack([scale * rotation, random.uniform(-500, 500, 3)]).astype(np.float32)
    shape = random.normal(size=shapes).astype(np.float32) * 3e3
    expression = random.normal(size=expressions).astype(np.float32)
    return camera, shape, expression


def expected(arrays, camera, shape, expression):
    mean, shape_basis, expression_basis = (array.astype(np.float64) for array in arrays)
    points = (
        mean + np.tensordot(shape, shape_basis, 1) + np.tensordot(expression, expression_basis, 1)
    )
    return points @ camera[:, :3].T.astype(np.float64) + camera[:, 3]


@pytest.fixture(params=kernel_names())
def kernel(request):
    return request.param


@pytest.mark.parametrize("vertices", [1, 2, 16, 17, 31, 32, 33, 64, 101, 1000])
def test_equals_double_precision_at_any_vertex_count(kernel, vertices):
    arrays = make_arrays(vertices)
    face = make_face()
    result, min_z = PackedFaceModel(*arrays, kernel=kernel).reconstruct(*face)
    truth = expected(arrays, *face)
    assert result.shape == (vertices, 3) and result.dtype == np.float32
    assert np.abs(result - truth).max() < HALF_PRECISION_ERROR_PX
    assert min_z == result[:, 2].min()


@pytest.mark.parametrize(("shapes", "expressions"), [(0, 0), (0, 5), (5, 0), (1, 1), (199, 29)])
def test_any_number_of_components(kernel, shapes, expressions):
    arrays = make_arrays(50, shapes, expressions)
    camera, shape, expression = make_face(shapes, expressions)
    model = PackedFaceModel(*arrays, kernel=kernel)
    assert (model.shape_count, model.expression_count) == (shapes, expressions)
    shape = shape / max(1, shapes)
    truth = expected(arrays, camera, shape, expression)
    held = model.hold(shape)
    for hold in (None, held):
        result, _ = model.reconstruct(camera, shape, expression, held=hold)
        assert np.abs(result - truth).max() < HALF_PRECISION_ERROR_PX


def test_kernels_agree_with_each_other():
    arrays, face = make_arrays(777), make_face()
    results = [
        PackedFaceModel(*arrays, kernel=name).reconstruct(*face)[0] for name in kernel_names()
    ]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-3)


def test_every_single_component_is_in_its_place(kernel):
    arrays = make_arrays(70, 3, 2)
    model = PackedFaceModel(*arrays, kernel=kernel)
    eye = np.eye(3, 4, dtype=np.float32)
    for index in range(5):
        coefficients = np.zeros(5, np.float32)
        coefficients[index] = 1
        basis = np.concatenate(arrays[1:])[index]
        result, _ = model.reconstruct(eye, coefficients[:3], coefficients[3:])
        step = np.abs(basis).max() / 32766
        rounding = 2 * np.spacing(np.abs(arrays[0]).max())
        assert np.abs(result - arrays[0] - basis).max() <= 0.51 * step + rounding


def test_fixed_point_error_stays_below_half_a_step(kernel):
    random = np.random.default_rng(5)
    basis = random.uniform(-1, 1, (1, 4096, 3)).astype(np.float32)
    basis[0, 0, 0], basis[0, 1, 0] = 1, -1
    arrays = np.zeros((4096, 3), np.float32), basis, np.zeros((0, 4096, 3), np.float32)
    model = PackedFaceModel(*arrays, kernel=kernel)
    result, _ = model.reconstruct(np.eye(3, 4), [1.0], [])
    assert np.abs(result - basis[0]).max() <= 0.5001 / 32766


def test_held_shape_equals_the_full_sum(kernel):
    arrays = make_arrays(500)
    camera, shape, expression = make_face()
    model = PackedFaceModel(*arrays, kernel=kernel)
    full, min_z = model.reconstruct(camera, shape, expression)
    held = model.hold(shape)
    fast, fast_min_z = model.reconstruct(camera, np.full(99, np.nan), expression, held=held)
    np.testing.assert_array_equal(fast, full)
    assert fast_min_z == min_z
    np.testing.assert_array_equal(held.shape, shape)


def test_held_shape_cannot_be_changed(kernel):
    shape = make_face()[1]
    held = PackedFaceModel(*make_arrays(), kernel=kernel).hold(shape)
    shape[:] = 0
    assert held.shape.any()
    for array in (held.shape, held.packed):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_batch_equals_single_faces(kernel):
    model = PackedFaceModel(*make_arrays(333), kernel=kernel)
    faces = [make_face(seed=seed) for seed in range(5)]
    cameras, shapes, expressions = (np.stack(part) for part in zip(*faces, strict=True))
    result, min_z = model.reconstruct_batch(cameras, shapes, expressions)
    for i, face in enumerate(faces):
        single, single_min_z = model.reconstruct(*face)
        np.testing.assert_array_equal(result[i], single)
        assert min_z[i] == single_min_z


def test_empty_batch_gives_nothing():
    model = PackedFaceModel(*make_arrays(10))
    result, min_z = model.reconstruct_batch(np.zeros((0, 3, 4)), [], [])
    assert result.shape == (0, 10, 3) and min_z.shape == (0,)


def test_z_from_zero_subtracts_the_least(kernel):
    model, face = PackedFaceModel(*make_arrays(333), kernel=kernel), make_face()
    plain, min_z = model.reconstruct(*face)
    shifted, reported = model.reconstruct(*face, z_from_zero=True)
    np.testing.assert_array_equal(shifted[:, :2], plain[:, :2])
    np.testing.assert_array_equal(shifted[:, 2], plain[:, 2] - np.float32(min_z))
    assert reported == min_z and shifted[:, 2].min() == 0


def test_writes_into_the_given_array_and_nowhere_else(kernel):
    model, face = PackedFaceModel(*make_arrays(37), kernel=kernel), make_face()
    guarded = np.full((39, 3), 7, np.float32)
    result, _ = model.reconstruct(*face, out=guarded[1:-1])
    assert np.shares_memory(result, guarded)
    np.testing.assert_array_equal(result, model.reconstruct(*face)[0])
    assert (guarded[[0, -1]] == 7).all()


def test_not_finite_coefficients_give_not_finite_vertices(kernel):
    camera, shape, expression = make_face()
    shape[0] = np.nan
    result, _ = PackedFaceModel(*make_arrays(), kernel=kernel).reconstruct(
        camera, shape, expression
    )
    assert np.isnan(result).all()


def test_threads_share_a_model():
    model = PackedFaceModel(*make_arrays(2000))
    faces = [make_face(seed=seed) for seed in range(4)]
    truths = [model.reconstruct(*face)[0] for face in faces]
    wrong = []

    def work(index):
        for _ in range(50):
            if not np.array_equal(model.reconstruct(*faces[index])[0], truths[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@settings(max_examples=50, deadline=None)
@given(
    basis=hnp.arrays(np.float32, (2, 33, 3), elements=st.floats(-1e6, 1e6, width=32)),
    coefficients=hnp.arrays(np.float32, 2, elements=st.floats(-10, 10, width=32)),
)
def test_error_is_bounded_by_the_largest_displacement(basis, coefficients):
    mean = np.zeros((33, 3), np.float32)
    truth = np.tensordot(coefficients.astype(np.float64), basis.astype(np.float64), 1)
    largest = np.abs(basis).max(axis=(1, 2))
    bound = np.abs(coefficients) @ largest * (1 / 65_000 + 1e-6) + 1e-30
    for name in kernel_names():
        model = PackedFaceModel(mean, basis, basis[:0], kernel=name)
        result, _ = model.reconstruct(np.eye(3, 4), coefficients, [])
        assert np.abs(result - truth).max() <= bound


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.zeros((0, 3))}, "mean has shape"),
        ({"mean": np.zeros((101, 2))}, "mean has shape"),
        ({"mean": np.full((101, 3), np.nan)}, "mean holds values that are not finite"),
        ({"shape_basis": np.zeros((7, 100, 3))}, "shape_basis has shape"),
        ({"shape_basis": np.full((1, 101, 3), np.inf)}, "shape_basis holds values"),
        ({"expression_basis": np.zeros((101, 3))}, "expression_basis has shape"),
        ({"kernel": "abacus"}, "kernel 'abacus' is not one of"),
    ],
)
def test_refuses_a_wrong_model(change, message):
    names = ("mean", "shape_basis", "expression_basis")
    arguments = dict(zip(names, make_arrays(), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        PackedFaceModel(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera": np.eye(3)}, "camera has shape"),
        ({"shape": np.zeros(6)}, r"shape has shape \(6,\); the model expects \(7,\)"),
        ({"expression": np.zeros((4, 1))}, "expression has shape"),
        ({"out": np.zeros((101, 3))}, "out is float64"),
        ({"out": np.zeros((100, 3), np.float32)}, "out is float32"),
        ({"out": np.zeros((3, 101), np.float32).T}, "C-contiguous"),
        ({"held": PackedFaceModel(*make_arrays(10)).hold(np.zeros(7))}, "another face model"),
    ],
)
def test_refuses_wrong_arguments(change, message):
    names = ("camera", "shape", "expression")
    arguments = dict(zip(names, make_face(), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        PackedFaceModel(*make_arrays()).reconstruct(**arguments)


def test_refuses_a_batch_of_unequal_parts():
    model = PackedFaceModel(*make_arrays())
    with pytest.raises(ValueError, match="2 cameras, 1 shapes"):
        model.reconstruct_batch(np.zeros((2, 3, 4)), np.zeros((1, 7)), np.zeros((2, 4)))
