"""The morphable model of the public 3DDFA_V2 release becomes a :class:`FaceModel`.

It keeps its units (micrometres) and its axes: x to the subject's left, y up, z out of the face.
Its triangles are stored clockwise seen from outside; here they are turned.
"""

from __future__ import annotations

import numpy as np

from tddfa_ros.core.array_file import read_npy
from tddfa_ros.core.errors import ModelSetError
from tddfa_ros.core.face_model import FaceModel
from tddfa_ros.core.release import manifest
from tddfa_ros.core.release.folder import ReleaseFolder, check_arrays
from tddfa_ros.core.release.mat_file import read_mat
from tddfa_ros.core.types import LANDMARK_COUNT

SHAPE_COUNT = 40
EXPRESSION_COUNT = 10
METRES_PER_UNIT = 1e-6

_NOSE_BRIDGE = slice(27, 31)
_INNER_BROWS = [21, 22]


def read_face_model(source: ReleaseFolder) -> FaceModel:
    """Read and convert the morphable model, its triangles, texture coordinates and PNCC."""
    bfm = source.pickle(manifest.FACE_MODEL)
    check_arrays(
        manifest.FACE_MODEL,
        bfm,
        {"u": ("f", None), "w_shp": ("f", 2), "w_exp": ("f", 2), "keypoints": ("iu", None)},
    )
    mean = bfm["u"].astype(np.float32).ravel()
    keypoints = bfm["keypoints"].astype(np.int64).ravel()
    if mean.size % 3 or len(keypoints) != 3 * LANDMARK_COUNT:
        raise ModelSetError(
            f"{manifest.FACE_MODEL.name}: {mean.size} coordinates and {len(keypoints)} key "
            f"point coordinates; expected a multiple of 3, and {3 * LANDMARK_COUNT}"
        )
    mean = mean.reshape(-1, 3)
    triangles = _triangles(source, mean)
    # The release lists coordinates, x y z of each key point, of the interleaved vector.
    vertices = keypoints[::3] // 3
    if not np.array_equal(keypoints.reshape(-1, 3), 3 * vertices[:, None] + np.arange(3)):
        raise ModelSetError(f"{manifest.FACE_MODEL.name}: key points are not x, y, z triples")
    landmark_triangles, landmark_weights = vertices_as_barycentric(vertices, triangles)
    sellion_triangle, sellion_weights = find_sellion(mean, triangles, mean[vertices])
    return FaceModel(
        mean=mean,
        shape_basis=_basis(bfm["w_shp"], SHAPE_COUNT, len(mean), "w_shp"),
        expression_basis=_basis(bfm["w_exp"], EXPRESSION_COUNT, len(mean), "w_exp"),
        triangles=triangles,
        uv=_uv(source, len(mean)),
        landmark_triangles=landmark_triangles,
        landmark_weights=landmark_weights,
        metres_per_unit=METRES_PER_UNIT,
        sellion_triangle=sellion_triangle,
        sellion_weights=sellion_weights,
        pncc=_pncc(source, len(mean)),
    )


def vertices_as_barycentric(
    vertices: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Express vertices as points of triangles.

    Parameters
    ----------
    vertices : (k,) int, indices
    triangles : (m, 3) int32

    Returns
    -------
    (k,) int32, the first triangle with that vertex; (k, 3) float32, 1 at its corner, else 0

    Raises
    ------
    ModelSetError
        A vertex belongs to no triangle.
    """
    indices = np.empty(len(vertices), np.int32)
    weights = np.zeros((len(vertices), 3), np.float32)
    for k, vertex in enumerate(vertices):
        holders, corners = np.nonzero(triangles == vertex)
        if not len(holders):
            raise ModelSetError(f"landmark {k}: vertex {vertex} belongs to no triangle")
        indices[k] = holders[0]
        weights[k, corners[0]] = 1
    return indices, weights


def find_sellion(
    mean: np.ndarray, triangles: np.ndarray, landmarks: np.ndarray
) -> tuple[int, np.ndarray]:
    """Find the sellion: the deepest point of the midline's profile at the root of the nose.

    The midline is the plane x = constant through the mean of the nose bridge's landmarks (27 to
    30). The profile is searched from landmark 28 up to the inner ends of the brows (21, 22).

    Parameters
    ----------
    mean : (n, 3) float32, model space
    triangles : (m, 3) int32, counter-clockwise seen from outside
    landmarks : (68, 3) float32, model space, iBUG order

    Returns
    -------
    index of a triangle, and (3,) float32 barycentric weights in it

    Raises
    ------
    ModelSetError
        The midline meets no surface there.
    """
    corners = mean[triangles].astype(np.float64)
    normal_z = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
    side = corners[..., 0] - landmarks[_NOSE_BRIDGE, 0].mean()
    low, high = landmarks[28, 1], landmarks[_INNER_BROWS, 1].mean()
    best: tuple[float, int, np.ndarray] | None = None
    # The profile is straight within a triangle, so its deepest point lies on some edge.
    for start, end in ((0, 1), (1, 2), (2, 0)):
        crossing = np.flatnonzero(
            (side[:, start] * side[:, end] <= 0) & (side[:, start] != side[:, end]) & (normal_z > 0)
        )
        weight = side[crossing, start] / (side[crossing, start] - side[crossing, end])
        points = (1 - weight)[:, None] * corners[crossing, start]
        points += weight[:, None] * corners[crossing, end]
        depth = np.where((points[:, 1] > low) & (points[:, 1] < high), points[:, 2], np.inf)
        k = int(depth.argmin()) if len(depth) else -1
        if k >= 0 and depth[k] < (best[0] if best else np.inf):
            weights = np.zeros(3, np.float32)
            weights[start], weights[end] = 1 - weight[k], weight[k]
            best = (float(depth[k]), int(crossing[k]), weights)
    if best is None:
        raise ModelSetError("the face model has no surface at the root of the nose")
    return best[1], best[2]


def _basis(columns: np.ndarray, count: int, vertices: int, name: str) -> np.ndarray:
    """(3n, >= count) columns of the release -> (count, n, 3) float32."""
    if columns.shape[0] != 3 * vertices or columns.shape[1] < count:
        raise ModelSetError(
            f"{manifest.FACE_MODEL.name}: {name} has shape {columns.shape}, "
            f"expected ({3 * vertices}, at least {count})"
        )
    first = columns[:, :count].astype(np.float32)
    return np.ascontiguousarray(first.T).reshape(count, vertices, 3)


def _triangles(source: ReleaseFolder, mean: np.ndarray) -> np.ndarray:
    file = manifest.TRIANGLES
    rows = source.pickle(file)
    check_arrays(file, {"triangles": rows}, {"triangles": ("iu", 2)})
    if rows.shape[0] != 3 or rows.min() < 0 or rows.max() >= len(mean):
        raise ModelSetError(f"{file.name}: expected (3, m) indices of {len(mean)} vertices")
    triangles = np.ascontiguousarray(rows.T, np.int32)
    if frontal_area(mean, triangles) < 0:
        triangles = np.ascontiguousarray(triangles[:, [0, 2, 1]])
    return triangles


def frontal_area(vertices: np.ndarray, triangles: np.ndarray) -> float:
    """Area that an open surface shows towards +z, less what it turns away from there.

    For a face, which is open at the back, this is the area that its border encloses, and it is
    positive if the triangles are counter-clockwise seen from outside.

    Parameters
    ----------
    vertices : (n, 3) float32
    triangles : (m, 3) int32

    Returns
    -------
    squared units
    """
    a, b, c = np.moveaxis(vertices[triangles][..., :2].astype(np.float64), 1, 0)
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    return float((ux * vy - uy * vx).sum() / 2)


def _uv(source: ReleaseFolder, vertices: int) -> np.ndarray:
    rows = read_npy(source.read(manifest.UV_ROWS), manifest.UV_ROWS.name, "iu")
    uv = read_mat(source.read(manifest.UV), manifest.UV.name).get("UV")
    if uv is None or uv.ndim != 2 or uv.shape[1] != 2 or rows.shape != (vertices,):
        raise ModelSetError(f"{manifest.UV.name}: no (n, 2) UV, or not {vertices} rows of it")
    if rows.min() < 0 or rows.max() >= len(uv):
        raise ModelSetError(f"{manifest.UV_ROWS.name}: rows beyond the {len(uv)} of the UV map")
    return uv[rows].astype(np.float32)


def _pncc(source: ReleaseFolder, vertices: int) -> np.ndarray:
    code = read_npy(source.read(manifest.PNCC), manifest.PNCC.name, "f")
    if code.shape != (3, vertices):
        raise ModelSetError(f"{manifest.PNCC.name}: shape {code.shape}, expected (3, {vertices})")
    return np.ascontiguousarray(code.T, np.float32)
