"""Coarse meshes on a dome with known geometry, and on the imported face model."""

from dataclasses import replace

import numpy as np
import pytest

from tddfa_ros.core.coarse_mesh import (
    AMBIENT,
    CoarseMesh,
    _representatives,
    coarse_mesh,
    full_mesh,
)

MOST = 600


def normals_of(points, triangles):
    a, b, c = (points[corner] for corner in triangles.T)
    return np.cross(b - a, c - a)


def edges_used_once(triangles):
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert counts.max() <= 2
    return int((counts == 1).sum())


def test_a_dome_stays_a_dome(dome_model):
    mesh = coarse_mesh(dome_model, MOST)
    assert 0.9 * MOST <= len(mesh.triangles) <= MOST
    assert len(np.unique(mesh.vertex_indices)) == len(mesh.vertex_indices)
    points = dome_model.mean[mesh.vertex_indices]
    # All outside is still outside, and the sphere's half is still covered.
    normals = normals_of(points, mesh.triangles)
    centres = points[mesh.triangles].mean(axis=1)
    assert (np.einsum("ij,ij->i", normals, centres) > 0).all()
    area = np.linalg.norm(normals, axis=1).sum() / 2
    assert area == pytest.approx(2 * np.pi, rel=0.02)
    assert edges_used_once(mesh.triangles) > 0


@pytest.mark.parametrize("most", [200, 20])
def test_a_mesh_has_as_few_triangles_as_asked_where_the_best_ones_would_be_more(dome_model, most):
    mesh = coarse_mesh(dome_model, most)
    assert 0.9 * most <= len(mesh.triangles) <= most
    assert np.array_equal(np.unique(mesh.triangles), np.arange(len(mesh.vertex_indices)))


def test_it_is_the_same_each_time_and_at_every_size_of_the_model(dome_model):
    mesh = coarse_mesh(dome_model, MOST)
    large = replace(dome_model, mean=dome_model.mean * np.float32(65536))
    for again in (coarse_mesh(dome_model, MOST), coarse_mesh(large, MOST)):
        np.testing.assert_array_equal(again.vertex_indices, mesh.vertex_indices)
        np.testing.assert_array_equal(again.triangles, mesh.triangles)


def test_a_mesh_that_is_coarse_already_is_the_full_one(dome_model):
    for mesh in (full_mesh(dome_model), coarse_mesh(dome_model, 10**6)):
        np.testing.assert_array_equal(mesh.triangles, dome_model.triangles)
        np.testing.assert_array_equal(mesh.vertex_indices, np.arange(len(dome_model.mean)))


def test_light_is_the_cosine_to_the_line_of_sight(dome_model):
    mesh = full_mesh(dome_model)
    # A far small dome that bulges towards the camera at the origin.
    outward = dome_model.mean.astype(np.float64) * [1, 1, -1]
    turned = replace(mesh, triangles=mesh.triangles[:, ::-1])
    light = turned.light(outward * 0.01 + [0, 0, 100])
    expected = AMBIENT + (1 - AMBIENT) * dome_model.mean[:, 2].clip(0, 1)
    rim = dome_model.mean[:, 2] < 0.1
    np.testing.assert_allclose(light[~rim], expected[~rim], atol=0.01)


def test_light_of_a_wall_is_that_of_the_angle_it_is_seen_under():
    """Its back has ambient light alone, as has the last vertex, which is of no triangle."""
    points = np.float32([[100, 0, 100], [101, 0, 100], [100, 1, 100], [5, 5, 5]])
    for triangle, cosine in (([0, 2, 1], np.sqrt(0.5)), ([0, 1, 2], 0)):
        light = CoarseMesh(np.arange(4), np.array([triangle])).light(points)
        expected = AMBIENT + (1 - AMBIENT) * np.array([cosine, cosine, cosine, 0])
        np.testing.assert_allclose(light, expected, atol=0.005)
        assert light.dtype == np.float64


def test_light_of_an_edge_is_mostly_that_of_the_larger_triangle():
    """One of area 2 is looked at, the other, of area 1/2, is seen from its side."""
    points = np.array([[0, 0, 100], [0, 2, 100], [2, 0, 100], [0, 0, 101], [0, 1, 100]], float)
    light = CoarseMesh(np.arange(5), np.array([[0, 1, 2], [0, 3, 4]])).light(points)
    assert light[0] == pytest.approx(AMBIENT + (1 - AMBIENT) * 4 / np.sqrt(17))


def test_each_vertex_is_the_nearest_of_those_that_merged_into_it():
    rng = np.random.default_rng(0)
    fine, coarse = rng.normal(size=(60, 3)), rng.normal(size=(5, 3))
    merged_into = rng.integers(0, 5, 60)
    for row, index in enumerate(_representatives(fine, coarse, merged_into)):
        apart = np.linalg.norm(fine - coarse[row], axis=1)
        assert index == np.where(merged_into == row, apart, np.inf).argmin()


def test_light_of_degenerate_triangles_is_finite(dome_model):
    light = full_mesh(dome_model).light(np.zeros((len(dome_model.mean), 3)))
    np.testing.assert_array_equal(light, AMBIENT)


def test_the_imported_face_keeps_its_shape(model_set):
    face_model = model_set.face_model
    mesh = coarse_mesh(face_model, 3000)
    assert 2900 <= len(mesh.triangles) <= 3000
    points = face_model.mean[mesh.vertex_indices].astype(np.float64)
    size = np.ptp(face_model.mean, axis=0).max()
    np.testing.assert_allclose(points.max(axis=0), face_model.mean.max(axis=0), atol=0.02 * size)
    np.testing.assert_allclose(points.min(axis=0), face_model.mean.min(axis=0), atol=0.02 * size)
    fine = np.linalg.norm(normals_of(face_model.mean, face_model.triangles), axis=1).sum()
    coarse = np.linalg.norm(normals_of(points, mesh.triangles), axis=1).sum()
    assert coarse == pytest.approx(fine, rel=0.05)
