"""Meshes of faces as files: ply, obj with mtl and png, glb, stl.

Every file is written beside its final place and renamed when complete. Coordinates are y up and
right-handed, as viewers expect; triangles run counter-clockwise seen from outside.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tddfa_ros.core.atomic_file import replacing
from tddfa_ros.core.errors import ExportError
from tddfa_ros.core.glb import glb_bytes
from tddfa_ros.core.image_encoding import file_bytes_of
from tddfa_ros.core.text_rows import decimal_rows, index_rows

POSES = ("own", "frontal", "image")
"""Places of an exported mesh, see :func:`posed_vertices`."""


@dataclass(frozen=True, eq=False)
class FaceMesh:
    """A mesh to write.

    Attributes
    ----------
    vertices : (n, 3) float32, y up
    triangles : (m, 3) int32, counter-clockwise seen from outside
    normals : (n, 3) float32, unit, outwards
    uv : (n, 2) float32 in [0, 1], v up; or None
    texture_bgr : (h, w, 3) uint8, the picture that `uv` refers to; or None
    colors_bgr : (n, 3) uint8, a colour for each vertex; or None
    """

    vertices: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray
    uv: np.ndarray | None = None
    texture_bgr: np.ndarray | None = None
    colors_bgr: np.ndarray | None = None


def posed_vertices(
    pose: str,
    *,
    image_vertices: np.ndarray,
    model_vertices: np.ndarray,
    image_height: int,
    scale: float,
    metres_per_unit: float,
) -> np.ndarray:
    """Vertices of a face in one of the places a file can have it in.

    Parameters
    ----------
    pose : "own": the face model's axes (x to the subject's left, y up, z out of the face), metres.
        "frontal": the same upright, in pixels of the image and where its face is.
        "image": as fitted, pixels, x right, y up, z to the viewer. Pixel centres are at integers:
        the first column's at x = 0, the lowest row's at y = 1 (as 3DDFA_V2's y, height - row).
    image_vertices : (n, 3) float32, image space
    model_vertices : (n, 3) float32, model units
    image_height : pixels
    scale : pixels of the image per model unit
    metres_per_unit : metres in one model unit

    Returns
    -------
    (n, 3) float32

    Raises
    ------
    ExportError
        Unknown pose.
    """
    if pose == "own":
        return (model_vertices * metres_per_unit).astype(np.float32)
    if pose not in POSES:
        raise ExportError(f"pose {pose!r} is not one of {', '.join(POSES)}")
    in_image = image_vertices * np.array([1, -1, 1], np.float32)
    in_image += np.array([0, image_height, 0], np.float32)
    if pose == "image":
        return in_image
    centred = model_vertices - model_vertices.mean(axis=0)
    return (centred * scale + in_image.mean(axis=0)).astype(np.float32)


def face_mesh(
    vertices: np.ndarray,
    triangles: np.ndarray,
    normals: np.ndarray,
    *,
    uv: np.ndarray | None = None,
    texture_bgr: np.ndarray | None = None,
    colors_bgr: np.ndarray | None = None,
) -> FaceMesh:
    """Make a mesh to write of what the renderer gives.

    Parameters
    ----------
    vertices, triangles, normals, uv, texture_bgr, colors_bgr : see :class:`FaceMesh`; but texel
        (row, column) of the texture lies at u = column / (width - 1), v = 1 - row / (height - 1)

    Raises
    ------
    ExportError
        A vertex is not finite.
    """
    if not np.isfinite(vertices).all():
        raise ExportError("the mesh has vertices that are not finite; fit the face again")
    if uv is not None and texture_bgr is not None:
        # Viewers count texels from the picture's border, not from the centres of the outermost.
        size = np.array(texture_bgr.shape[1::-1])
        uv = ((uv * (size - 1) + 0.5) / size).astype(np.float32)
    return FaceMesh(vertices, triangles, normals, uv, texture_bgr, colors_bgr)


def merged(meshes: Sequence[FaceMesh]) -> FaceMesh:
    """Join meshes into one, for pictures with several faces; textures come to lie in a square.

    Row by row from the top left, as viewers take no picture of many textures in a line.

    Raises
    ------
    ExportError
        No mesh, or textures of different sizes.
    """
    if not meshes:
        raise ExportError("no face to write")
    if len(meshes) == 1:
        return meshes[0]
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    joined = FaceMesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([m.triangles + start for m, start in zip(meshes, starts, strict=False)]),
        np.concatenate([mesh.normals for mesh in meshes]),
    )
    if all(mesh.colors_bgr is not None for mesh in meshes):
        joined = replace(joined, colors_bgr=np.concatenate([mesh.colors_bgr for mesh in meshes]))
    textured = [
        (mesh.uv, mesh.texture_bgr)
        for mesh in meshes
        if mesh.uv is not None and mesh.texture_bgr is not None
    ]
    if len(textured) < len(meshes):
        return joined
    if len({texture.shape for _, texture in textured}) > 1:
        raise ExportError("textures of different sizes cannot be joined; use one texture size")
    column_count = math.ceil(math.sqrt(len(textured)))
    row_count = math.ceil(len(textured) / column_count)
    height, width, channel_count = textured[0][1].shape
    sheet = np.zeros((row_count, height, column_count, width, channel_count), np.uint8)
    uv = []
    for index, (own_uv, texture) in enumerate(textured):
        row, column = divmod(index, column_count)
        sheet[row, :, column] = texture
        corner = np.array([column, row_count - 1 - row])
        uv.append((own_uv + corner) / [column_count, row_count])
    return replace(
        joined,
        uv=np.concatenate(uv).astype(np.float32),
        texture_bgr=sheet.reshape(row_count * height, column_count * width, channel_count),
    )


def mesh_files(path: str | os.PathLike[str]) -> list[Path]:
    """Files that :func:`write_mesh` may write, the mesh first."""
    path = Path(path)
    if path.suffix.lower() != ".obj":
        return [path]
    # Readers of obj split at spaces, so the names beside it must have none. The checksum keeps
    # "a b" and "a_b" apart.
    stem = "_".join(path.stem.split())
    if stem != path.stem:
        stem = f"{stem}_{zlib.crc32(os.fsencode(path.stem)):08x}"
    return [path, path.with_name(f"{stem}.mtl"), path.with_name(f"{stem}.png")]


def write_mesh(path: str | os.PathLike[str], mesh: FaceMesh) -> list[Path]:
    """Write a mesh in the format that the file's suffix names.

    Parameters
    ----------
    path : ends in one of ``FORMATS``
    mesh : what to write. ply: normals and vertex colours. obj: normals and texture, as ``.mtl`` and
        ``.png`` beside it, of the same stem or, if that has spaces, of one without; or vertex
        colours. glb: normals and texture, or vertex colours. stl: the shape only.

    Returns
    -------
    The files written, the mesh first.

    Raises
    ------
    ExportError
        Unknown suffix, a texture or coordinates too large for the format, or the file cannot be
        written.
    """
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ExportError(f"{path.name}: format is not one of {', '.join(FORMATS)}")
    try:
        return writer(path, mesh)
    except OSError as error:
        raise ExportError(
            f"{path}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    except ValueError as error:
        raise ExportError(f"{path}: cannot be written ({error}); fit the face again") from error


def _write_files(*contents: tuple[Path, Sequence[bytes]]) -> list[Path]:
    """Write files that belong together: the first one gets its name last, none before all are."""
    with ExitStack() as stack:
        for path, parts in contents:
            temporary = stack.enter_context(replacing(path))
            with temporary.open("wb") as file:
                for part in parts:
                    file.write(part)
    return [path for path, _ in contents]


def _write_ply(path: Path, mesh: FaceMesh) -> list[Path]:
    fields = [("place", "<f4", (3,)), ("normal", "<f4", (3,))]
    names = [f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")]
    if mesh.colors_bgr is not None:
        fields.append(("rgb", "u1", (3,)))
        names += [f"property uchar {name}" for name in ("red", "green", "blue")]
    rows = np.empty(len(mesh.vertices), np.dtype(fields))
    rows["place"], rows["normal"] = mesh.vertices, mesh.normals
    if mesh.colors_bgr is not None:
        rows["rgb"] = mesh.colors_bgr[:, ::-1]
    faces = np.empty(len(mesh.triangles), np.dtype([("count", "u1"), ("corners", "<i4", (3,))]))
    faces["count"], faces["corners"] = 3, mesh.triangles
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(rows)}",
        *names,
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
        "",
    ]
    return _write_files(
        (path, ["\n".join(header).encode(), rows.tobytes(), faces.tobytes()]),
    )


def _write_obj(path: Path, mesh: FaceMesh) -> list[Path]:
    """Positions with 6 decimals, the rest with 4 or 5; texture and material beside the file."""
    beside: list[tuple[Path, Sequence[bytes]]] = []
    head = b"# y up, counter-clockwise\n"
    texture_bgr = None if mesh.uv is None else mesh.texture_bgr
    places = [mesh.vertices]
    if texture_bgr is None and mesh.colors_bgr is not None:
        places.append(mesh.colors_bgr[:, ::-1] / np.float32(255))
    rows = [decimal_rows(b"v", np.column_stack(places), 6)]
    if mesh.uv is not None:
        rows.append(decimal_rows(b"vt", mesh.uv, 5))
    rows.append(decimal_rows(b"vn", mesh.normals, 4))
    rows.append(index_rows(mesh.triangles, len(mesh.vertices), texture=mesh.uv is not None))
    if texture_bgr is not None:
        _, material, picture = mesh_files(path)
        lines = [b"newmtl face", b"Ka 1 1 1", b"Kd 1 1 1", b"Ks 0 0 0", b"illum 1"]
        lines += [b"map_Kd " + os.fsencode(picture.name), b""]
        beside = [
            (material, [b"\n".join(lines)]),
            (picture, [_png_bytes(picture, texture_bgr)]),
        ]
        head += b"mtllib %s\nusemtl face\n" % os.fsencode(material.name)
    return _write_files((path, [head, *rows]), *beside)


def _png_bytes(path: Path, texture_bgr: np.ndarray) -> bytes:
    """A texture that is for the file `path`."""
    content = file_bytes_of(texture_bgr, ".png")
    if content is None:
        height, width = texture_bgr.shape[:2]
        raise ExportError(
            f"{path}: a texture of {width}x{height} is too large for PNG; use a smaller size"
        )
    return content


def _write_glb(path: Path, mesh: FaceMesh) -> list[Path]:
    texture_png = colors_rgb = None
    if mesh.uv is not None and mesh.texture_bgr is not None:
        texture_png = _png_bytes(path, mesh.texture_bgr)
    elif mesh.colors_bgr is not None:
        colors_rgb = mesh.colors_bgr[:, ::-1]
    content = glb_bytes(
        mesh.vertices,
        mesh.triangles,
        mesh.normals,
        uv=mesh.uv,
        texture_png=texture_png,
        colors_rgb=colors_rgb,
    )
    return _write_files((path, [content]))


def _write_stl(path: Path, mesh: FaceMesh) -> list[Path]:
    """Corners of each triangle, and its normal; nothing is shared."""
    corners = mesh.vertices[mesh.triangles]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(across, axis=1, keepdims=True)
    rows = np.zeros(
        len(corners), [("normal", "<f4", (3,)), ("corners", "<f4", (3, 3)), ("about", "<u2")]
    )
    rows["normal"] = np.divide(across, length, out=np.zeros_like(across), where=length > 0)
    rows["corners"] = corners
    return _write_files((path, [bytes(80), struct.pack("<I", len(rows)), rows.tobytes()]))


_WRITERS: dict[str, Callable[[Path, FaceMesh], list[Path]]] = {
    ".ply": _write_ply,
    ".obj": _write_obj,
    ".glb": _write_glb,
    ".stl": _write_stl,
}
FORMATS = tuple(_WRITERS)
"""Suffixes that :func:`write_mesh` knows."""
