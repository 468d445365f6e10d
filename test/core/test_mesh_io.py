"""Mesh files, read back by trimesh and by small readers that share no code with it."""

import os
import resource
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from tddfa_ros.core import mesh_io
from tddfa_ros.core.errors import ExportError
from tddfa_ros.core.mesh_io import (
    FORMATS,
    POSES,
    face_mesh,
    merged,
    mesh_files,
    posed_vertices,
    write_mesh,
)
from tddfa_ros.core.render import Renderer

# obj holds positions with 6 decimals, texture coordinates with 5, normals with 4.
OBJ_PLACE, OBJ_UV, OBJ_NORMAL = 0.6e-6, 0.6e-5, 1e-4


@pytest.fixture(scope="module")
def mesh(dome_model):
    """The dome with texture and vertex colours."""
    vertices = (dome_model.mean * 40 + [100, 80, 0]).astype(np.float32)
    texture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    colors = np.random.default_rng(1).integers(0, 256, vertices.shape, np.uint8)
    return face_mesh(
        vertices,
        dome_model.triangles,
        Renderer(dome_model).outward_normals(vertices),
        uv=dome_model.uv,
        texture_bgr=texture,
        colors_bgr=colors,
    )


def read_ply(path):
    """Positions, normals, colours, triangles of a binary ply."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    lines = head.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    counts = [int(line.split()[2]) for line in lines if line.startswith("element")]
    names = [
        line.split()[-1] for line in lines if line.startswith("property") and "list" not in line
    ]
    kinds = "".join(
        "f" if "float" in line else "B"
        for line in lines
        if line.startswith("property f") or line.startswith("property u")
    )
    row = struct.Struct("<" + kinds)
    rows = [row.unpack_from(body, i * row.size) for i in range(counts[0])]
    at, triangles = counts[0] * row.size, []
    for _ in range(counts[1]):
        count, *corners = struct.unpack_from("<B3i", body, at)
        assert count == 3
        triangles.append(corners)
        at += 13
    assert at == len(body)
    table = dict(zip(names, np.array(rows, float).T, strict=True))
    return table, np.array(triangles)


def read_obj(path):
    """Rows of an obj by their first word; faces as (m, 3, 3) indices."""
    rows = {}
    for line in path.read_text().splitlines():
        word, *rest = line.split()
        rows.setdefault(word, []).append(rest)
    table = {k: np.array(rows[k], float) for k in ("v", "vt", "vn") if k in rows}
    faces = np.array([[[int(i or 0) for i in c.split("/")] for c in row] for row in rows["f"]])
    return table, faces, rows


def test_ply_reads_back_exactly(mesh, tmp_path):
    assert write_mesh(tmp_path / "face.ply", mesh) == [tmp_path / "face.ply"]
    table, triangles = read_ply(tmp_path / "face.ply")
    assert np.array_equal(np.column_stack([table[k] for k in "xyz"]), mesh.vertices)
    assert np.array_equal(np.column_stack([table[k] for k in ("nx", "ny", "nz")]), mesh.normals)
    colors = np.column_stack([table[k] for k in ("blue", "green", "red")])
    assert np.array_equal(colors, mesh.colors_bgr)
    assert np.array_equal(triangles, mesh.triangles)
    again = trimesh.load(tmp_path / "face.ply", process=False)
    assert np.array_equal(again.vertices, mesh.vertices)
    assert np.array_equal(again.faces, mesh.triangles)
    assert np.array_equal(again.visual.vertex_colors[:, 2::-1], mesh.colors_bgr)


def test_obj_reads_back_with_its_texture(mesh, tmp_path):
    beside = "a_face_97fbf623"  # CRC-32 of "a face"
    files = write_mesh(tmp_path / "a face.obj", mesh)
    assert files == mesh_files(tmp_path / "a face.obj")
    assert [f.name for f in files] == ["a face.obj", f"{beside}.mtl", f"{beside}.png"]
    table, faces, rows = read_obj(files[0])
    assert np.abs(table["v"] - mesh.vertices).max() < OBJ_PLACE
    assert np.abs(table["vt"] - mesh.uv).max() < OBJ_UV
    assert np.abs(table["vn"] - mesh.normals).max() < OBJ_NORMAL
    for kind in range(3):
        assert np.array_equal(faces[..., kind] - 1, mesh.triangles)
    assert rows["mtllib"] == [[f"{beside}.mtl"]]
    assert f"map_Kd {beside}.png" in files[1].read_text().splitlines()
    assert rows["usemtl"] == [[files[1].read_text().split()[1]]]
    assert np.array_equal(cv2.imread(str(files[2])), mesh.texture_bgr)
    again = trimesh.load(files[0], process=False)
    assert np.abs(again.vertices - mesh.vertices).max() < OBJ_PLACE
    assert np.array_equal(again.faces, mesh.triangles)
    assert np.abs(again.visual.uv - mesh.uv).max() < OBJ_UV
    assert again.visual.material.image.size == mesh.texture_bgr.shape[1::-1]


def test_names_without_spaces_keep_what_stands_beside_an_obj_apart(mesh, tmp_path):
    names = ["a b", "a_b", "a  b", "a\tb", " a_b", "a\udcfc b", "a\udcfd b"]
    written = [file for name in names for file in write_mesh(tmp_path / f"{name}.obj", mesh)]
    assert len(set(written)) == 3 * len(names)
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert mesh_files("a_b.obj") == [Path("a_b.obj"), Path("a_b.mtl"), Path("a_b.png")]
    assert mesh_files("a b.ply") == [Path("a b.ply")]


def test_obj_names_its_files_where_names_are_not_utf8(mesh, tmp_path):
    path, material, picture = write_mesh(tmp_path / "f\udcfcr.obj", mesh)
    assert os.fsencode(material.name) == b"f\xfcr.mtl"
    assert b"\nmtllib f\xfcr.mtl\n" in path.read_bytes()
    assert b"\nmap_Kd f\xfcr.png\n" in material.read_bytes()
    assert picture.is_file()


def test_a_texture_too_large_for_png_is_an_error(mesh, tmp_path):
    wide = np.zeros((1, 1_000_001, 3), np.uint8)
    textured = face_mesh(mesh.vertices, mesh.triangles, mesh.normals, uv=mesh.uv, texture_bgr=wide)
    with pytest.raises(ExportError, match=r"face\.png: a texture of 1000001x1 is too large"):
        write_mesh(tmp_path / "face.obj", textured)
    assert list(tmp_path.iterdir()) == []


def test_coordinates_too_large_for_obj_are_an_error_and_leave_the_old_files(mesh, tmp_path):
    """A fit may be finite and billions of pixels away all the same."""
    files = write_mesh(tmp_path / "face.obj", mesh)
    before = [file.read_bytes() for file in files]
    vast = face_mesh(
        mesh.vertices * 1e9,
        mesh.triangles,
        mesh.normals,
        uv=mesh.uv,
        texture_bgr=mesh.texture_bgr[::2],
    )
    with pytest.raises(ExportError, match=r"face\.obj: cannot be written .*below 1e\+09"):
        write_mesh(tmp_path / "face.obj", vast)
    assert [file.read_bytes() for file in files] == before
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_an_obj_for_which_there_is_no_room_leaves_the_old_files(mesh, tmp_path):
    """Though there is room for its texture."""
    files = write_mesh(tmp_path / "face.obj", mesh)
    before = [file.read_bytes() for file in files]
    other = replace(mesh, texture_bgr=mesh.texture_bgr[::2])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[0]) - 1, limits[1]))
    try:
        assert len(before[2]) < len(before[0])
        with pytest.raises(ExportError, match=r"face\.obj: cannot be written \(File too large\)"):
            write_mesh(tmp_path / "face.obj", other)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.read_bytes() for file in files] == before
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_obj_without_texture_has_colours(mesh, tmp_path, dome_model):
    plain = face_mesh(mesh.vertices, mesh.triangles, mesh.normals, colors_bgr=mesh.colors_bgr)
    assert write_mesh(tmp_path / "face.obj", plain) == [tmp_path / "face.obj"]
    table, faces, rows = read_obj(tmp_path / "face.obj")
    assert np.abs(table["v"][:, :2:-1] * 255 - mesh.colors_bgr).max() < 1e-3
    assert np.array_equal(faces[..., 2] - 1, mesh.triangles)
    assert "vt" not in rows and "mtllib" not in rows


def test_glb_without_texture_has_colours(mesh, tmp_path, read_glb):
    plain = replace(mesh, uv=None, texture_bgr=None)
    write_mesh(tmp_path / "head.glb", plain)
    about, values, _ = read_glb((tmp_path / "head.glb").read_bytes())
    (primitive,) = about["meshes"][0]["primitives"]
    linear = values(primitive["attributes"]["COLOR_0"])
    # Linear light, in the order red, green, blue: the darker of two tones has less.
    for channel in range(3):
        order = np.argsort(mesh.colors_bgr[:, 2 - channel], kind="stable")
        assert (np.diff(linear[order, channel]) >= 0).all()


def test_glb_reads_back_with_its_texture(mesh, tmp_path, read_glb):
    write_mesh(tmp_path / "face.glb", mesh)
    about, accessor, picture = read_glb((tmp_path / "face.glb").read_bytes())
    (part,) = about["meshes"][0]["primitives"]
    places = part["attributes"]
    assert np.array_equal(accessor(places["POSITION"]), mesh.vertices)
    assert np.array_equal(accessor(part["indices"]).reshape(-1, 3), mesh.triangles)
    assert np.abs(accessor(places["NORMAL"]) - mesh.normals).max() < 1e-5
    # glTF counts v from the upper border.
    assert np.abs(accessor(places["TEXCOORD_0"]) * [1, -1] + [0, 1] - mesh.uv).max() < 1e-6
    decoded = cv2.imdecode(np.frombuffer(picture(), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded, mesh.texture_bgr)
    again = trimesh.load(tmp_path / "face.glb", force="mesh", process=False)
    assert np.array_equal(again.vertices, mesh.vertices)
    assert np.abs(again.visual.uv - mesh.uv).max() < 1e-6


def places_and_triangles(path, read_glb):
    """Positions, triangles and texture coordinates of any mesh file, without trimesh."""
    if path.suffix == ".ply":
        table, triangles = read_ply(path)
        return np.column_stack([table[k] for k in "xyz"]), triangles, None
    if path.suffix == ".obj":
        table, corners, _ = read_obj(path)
        assert np.array_equal(corners[..., 0], corners[..., 1])
        return table["v"], corners[..., 0] - 1, table["vt"]
    about, accessor, _ = read_glb(path.read_bytes())
    (part,) = about["meshes"][0]["primitives"]
    names = part["attributes"]
    triangles = accessor(part["indices"]).reshape(-1, 3)
    return accessor(names["POSITION"]), triangles, accessor(names["TEXCOORD_0"])


def test_stl_reads_back(mesh, tmp_path):
    write_mesh(tmp_path / "face.stl", mesh)
    data = (tmp_path / "face.stl").read_bytes()
    (count,) = struct.unpack_from("<I", data, 80)
    rows = np.frombuffer(data, "3<f4,(3,3)<f4,<u2", count, 84)
    assert np.array_equal(rows["f1"], mesh.vertices[mesh.triangles])
    across = np.cross(rows["f1"][:, 1] - rows["f1"][:, 0], rows["f1"][:, 2] - rows["f1"][:, 0])
    assert (np.einsum("ij,ij->i", across, rows["f0"]) > 0).all()
    assert len(trimesh.load(tmp_path / "face.stl").faces) == len(mesh.triangles)


@pytest.mark.parametrize("pose", POSES)
def test_normals_and_winding_point_out_of_the_face(dome_model, pose):
    """In every pose the dome's outside, where its light comes from, is its front."""
    image_vertices = (dome_model.mean * [50, -50, 50] + [90, 60, 0]).astype(np.float32)
    vertices = posed_vertices(
        pose,
        image_vertices=image_vertices,
        model_vertices=dome_model.mean,
        image_height=140,
        scale=50.0,
        metres_per_unit=0.1,
    )
    normals = Renderer(dome_model).outward_normals(vertices)
    interior = dome_model.mean[:, 2] > 0.1
    assert np.abs(normals - dome_model.mean)[interior].max() < 0.02
    again = trimesh.Trimesh(vertices, dome_model.triangles, process=False)
    assert again.face_normals[:, 2].min() > -0.02
    size = {"own": 0.2, "frontal": 100.0, "image": 100.0}[pose]
    assert np.ptp(vertices[:, 0]) == pytest.approx(size, rel=1e-3)
    if pose != "own":
        assert vertices.mean(axis=0) == pytest.approx(
            image_vertices.mean(axis=0) * [1, -1, 1] + [0, 140, 0], abs=1e-3
        )


def test_frontal_removes_the_turn(dome_model):
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    turned = (dome_model.mean @ turn.T * [50, -50, 50] + [90, 60, 0]).astype(np.float32)
    common = {
        "model_vertices": dome_model.mean,
        "image_height": 140,
        "scale": 50.0,
        "metres_per_unit": 0.1,
        "image_vertices": turned,
    }
    frontal = posed_vertices("frontal", **common)
    centred = frontal - frontal.mean(axis=0)
    assert np.abs(centred / 50 - (dome_model.mean - dome_model.mean.mean(axis=0))).max() < 1e-5
    with pytest.raises(ExportError, match="pose 'side'"):
        posed_vertices("side", **common)


def test_texture_coordinates_meet_the_texel_centres(mesh, dome_model):
    """A viewer that counts texels from the border finds the texel that render wrote."""
    size = np.array(mesh.texture_bgr.shape[1::-1])
    assert np.abs((mesh.uv * size - 0.5) - dome_model.uv * (size - 1)).max() < 1e-4
    assert mesh.uv.min() >= 0 and mesh.uv.max() <= 1


def test_merged_meshes_keep_their_parts(mesh):
    both = merged([mesh, mesh])
    count = len(mesh.vertices)
    assert np.array_equal(both.vertices, np.vstack([mesh.vertices] * 2))
    assert np.array_equal(both.triangles[len(mesh.triangles) :], mesh.triangles + count)
    assert np.array_equal(both.colors_bgr, np.vstack([mesh.colors_bgr] * 2))
    height, width = both.texture_bgr.shape[:2]
    assert (height, width) == (32, 96)
    for part in (0, 1):
        uv = both.uv[part * count : (part + 1) * count]
        assert np.abs(uv * [2, 1] - [part, 0] - mesh.uv).max() < 1e-6
    assert merged([mesh]) is mesh
    with pytest.raises(ExportError, match="no face"):
        merged([])


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(2, 2, 1), (3, 2, 2), (5, 3, 2), (10, 4, 3)]
)
def test_each_of_many_merged_faces_keeps_its_texture(mesh, count, columns, rows):
    height, width = mesh.texture_bgr.shape[:2]
    rng = np.random.default_rng(count)
    textures = rng.integers(0, 256, (count, *mesh.texture_bgr.shape), np.uint8)
    all_of_them = merged([replace(mesh, texture_bgr=texture) for texture in textures])
    assert all_of_them.texture_bgr.shape == (rows * height, columns * width, 3)
    assert all_of_them.uv.min() >= 0 and all_of_them.uv.max() <= 1
    for uv, texture in zip(np.split(all_of_them.uv, count), textures, strict=True):
        assert np.array_equal(_texels(all_of_them.texture_bgr, uv), _texels(texture, mesh.uv))
    wider = replace(mesh, texture_bgr=np.zeros((height, width + 1, 3), np.uint8))
    with pytest.raises(ExportError, match="sizes"):
        merged([mesh, wider])


def _texels(texture, uv):
    """Where a viewer finds a vertex's colour: u from the left, v from the bottom of the picture."""
    size = texture.shape[1::-1]
    column, up = np.floor(uv * size - 1e-3).astype(int).clip(0).T
    return texture[size[1] - 1 - up, column]


def test_bad_meshes_and_paths_are_refused(mesh, tmp_path):
    broken = mesh.vertices.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ExportError, match="not finite"):
        face_mesh(broken, mesh.triangles, mesh.normals)
    for name in ("face.fbx", "face", "face.ply.exe"):
        with pytest.raises(ExportError, match="ply"):
            write_mesh(tmp_path / name, mesh)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        write_mesh(tmp_path / "file" / "face.ply", mesh)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_writer_that_fails_leaves_the_old_file(mesh, tmp_path, monkeypatch, suffix):
    path = tmp_path / f"face{suffix}"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mesh_io, "_write_files", full)
    with pytest.raises(ExportError, match="No space left"):
        write_mesh(path, mesh)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_whole_face_model_survives(model_set, tmp_path, read_glb):
    """All vertices and triangles of the model set, in each format, with indices that hold."""
    model = model_set.face_model
    renderer = Renderer(model)
    vertices = (model.mean * model.metres_per_unit).astype(np.float32)
    texture = np.zeros((16, 16, 3), np.uint8)
    whole = face_mesh(
        vertices,
        model.triangles,
        renderer.outward_normals(vertices),
        uv=model.uv,
        texture_bgr=texture,
    )
    for suffix in (".ply", ".obj", ".glb"):
        (path, *beside) = write_mesh(tmp_path / f"face{suffix}", whole)
        assert all(other.exists() for other in beside)
        again = trimesh.load(path, force="mesh", process=False)
        assert again.vertices.shape == model.mean.shape
        assert np.array_equal(again.faces, model.triangles)
        assert again.faces.min() >= 0 and again.faces.max() < len(again.vertices)
        places, triangles, uv = places_and_triangles(path, read_glb)
        assert np.abs(places - vertices).max() < OBJ_PLACE
        assert np.array_equal(triangles, model.triangles)
        if suffix != ".ply":
            assert again.visual.uv.min() >= 0 and again.visual.uv.max() <= 1
            assert len(uv) == len(places) and uv.min() >= 0 and uv.max() <= 1
    # The face looks along z: its nose is in front, and normals there point forward.
    nose = np.argmax(vertices[:, 2])
    assert whole.normals[nose, 2] > 0.5
