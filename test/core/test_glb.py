"""glb files: what the specification asks of any, read without the code that writes them."""

import hypothesis
import numpy as np
import trimesh
from hypothesis import strategies as st

from tddfa_ros.core.glb import glb_bytes


def srgb_of(linear):
    """Colours as a renderer shows them: (n, 3) uint8 of linear ones in [0, 1]."""
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)


@hypothesis.given(
    points=st.integers(1, 9),
    faces=st.integers(1, 5),
    picture=st.binary(min_size=1, max_size=9) | st.none(),
    colored=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_part_lies_where_it_is_said_to(points, faces, picture, colored, seed, read_glb):
    rng = np.random.default_rng(seed)
    vertices = rng.normal(0, 100, (points, 3)).astype(np.float32)
    normals = rng.normal(size=(points, 3)).astype(np.float32)
    triangles = rng.integers(0, points, (faces, 3)).astype(np.int32)
    uv = rng.random((points, 2)).astype(np.float32)
    colors = rng.integers(0, 256, (points, 3)).astype(np.uint8)
    about, values, picture_in = read_glb(
        glb_bytes(
            vertices,
            triangles,
            normals,
            uv=uv,
            texture_png=picture,
            colors_rgb=colors if colored else None,
        )
    )
    (node,) = about["scenes"][about["scene"]]["nodes"]
    (primitive,) = about["meshes"][about["nodes"][node]["mesh"]]["primitives"]
    names = primitive["attributes"]
    place = about["accessors"][names["POSITION"]]
    assert np.array_equal(values(names["POSITION"]), vertices)
    assert np.array_equal(np.float32(place["min"]), vertices.min(axis=0))
    assert np.array_equal(np.float32(place["max"]), vertices.max(axis=0))
    assert np.array_equal(values(names["NORMAL"]), normals)
    assert np.array_equal(values(primitive["indices"]).reshape(-1, 3), triangles)
    if picture is not None:
        np.testing.assert_allclose(values(names["TEXCOORD_0"]), uv * [1, -1] + [0, 1], atol=1e-6)
        assert picture_in() == picture
        surface = about["materials"][primitive["material"]]["pbrMetallicRoughness"]
        texture = about["textures"][surface["baseColorTexture"]["index"]]
        assert texture["source"] == texture["sampler"] == 0
        assert surface["metallicFactor"] == 0  # as metal, which is what is assumed, it were dark
        assert len(about["samplers"]) == len(about["images"]) == 1
    elif colored:
        assert np.array_equal(srgb_of(values(names["COLOR_0"])), colors)
    extras = {"TEXCOORD_0"} if picture is not None else {"COLOR_0"} if colored else set()
    assert set(names) == {"POSITION", "NORMAL"} | extras
    assert ("materials" in about) == ("material" in primitive) == (picture is not None)


def test_colours_reach_who_reads_it_as_linear_light(tmp_path):
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    normals = np.array([[0, 0, 1]] * 3, np.float32)
    colors = np.array([[255, 0, 0], [0, 188, 0], [0, 0, 90]], np.uint8)
    path = tmp_path / "a.glb"
    path.write_bytes(glb_bytes(vertices, np.array([[0, 1, 2]]), normals, colors_rgb=colors))
    again = trimesh.load(path, force="mesh", process=False)
    # Half of the light is three quarters of the number.
    light = [[255, 0, 0], [0, 128, 0], [0, 0, 26]]
    read = again.visual.vertex_colors.astype(int)
    np.testing.assert_allclose(read, np.column_stack([light, [255] * 3]), atol=1)
    assert np.array_equal(again.vertex_normals, normals)
