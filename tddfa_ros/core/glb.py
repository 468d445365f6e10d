"""Meshes in one binary file with their picture: glTF 2.0, as web pages and engines read it.

Follows the glTF 2.0 specification (https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html).
Written here because what the libraries for it load takes as long as all else that a node loads.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

_JSON, _BINARY = b"JSON", b"BIN\0"
_UINT, _FLOAT = 5125, 5126
_VERTICES, _INDICES = 34962, 34963
_CLAMPED, _LINEAR, _MIPMAPPED = 33071, 9729, 9987


def glb_bytes(
    vertices: np.ndarray,
    triangles: np.ndarray,
    normals: np.ndarray,
    *,
    uv: np.ndarray | None = None,
    texture_png: bytes | None = None,
    colors_rgb: np.ndarray | None = None,
) -> bytes:
    """Content of a ``.glb`` file.

    Parameters
    ----------
    vertices : (n, 3) float32, y up
    triangles : (m, 3) int32, counter-clockwise seen from outside
    normals : (n, 3) float32, unit, outwards
    uv : (n, 2) float32, v up; taken with `texture_png` alone
    texture_png : picture that `uv` refers to
    colors_rgb : (n, 3) uint8, sRGB as pictures are; taken where there is no texture
    """
    buffer = _Buffer()
    # The specification wants the bounds of places, as numbers that are exactly theirs.
    bounds = {"min": vertices.min(axis=0).tolist(), "max": vertices.max(axis=0).tolist()}
    attributes = {
        "POSITION": buffer.accessor(vertices.astype("<f4"), _FLOAT, "VEC3", _VERTICES, **bounds),
        "NORMAL": buffer.accessor(normals.astype("<f4"), _FLOAT, "VEC3", _VERTICES),
    }
    material: dict[str, int] = {}
    pictures: dict[str, Any] = {}
    if uv is not None and texture_png is not None:
        down = np.column_stack([uv[:, 0], 1 - uv[:, 1]]).astype("<f4")
        attributes["TEXCOORD_0"] = buffer.accessor(down, _FLOAT, "VEC2", _VERTICES)
        material = {"material": 0}
        # Without a word about it a surface is of metal, and dark.
        skin = {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 0.9}
        pictures = {
            "materials": [{"name": "face", "pbrMetallicRoughness": skin}],
            "textures": [{"source": 0, "sampler": 0}],
            "images": [{"bufferView": buffer.view(texture_png), "mimeType": "image/png"}],
            "samplers": [
                {
                    "wrapS": _CLAMPED,
                    "wrapT": _CLAMPED,
                    "magFilter": _LINEAR,
                    "minFilter": _MIPMAPPED,
                }
            ],
        }
    elif colors_rgb is not None:
        # Not 8 bits, in which many dark tones would be one; some readers misread 16.
        linear = _linear_of_srgb()[colors_rgb]
        attributes["COLOR_0"] = buffer.accessor(linear, _FLOAT, "VEC3", _VERTICES)
    corners = buffer.accessor(triangles.astype("<u4").reshape(-1), _UINT, "SCALAR", _INDICES)
    primitive = {"attributes": attributes, "indices": corners, **material}
    about = {
        "asset": {"version": "2.0", "generator": "tddfa_ros"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "face", "mesh": 0}],
        "meshes": [{"name": "face", "primitives": [primitive]}],
        **pictures,
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.content)}],
    }
    return _container(json.dumps(about, separators=(",", ":")).encode(), bytes(buffer.content))


def _linear_of_srgb() -> np.ndarray:
    """(256,) float32 in [0, 1]: the light of each tone, by the curve of IEC 61966-2-1.

    glTF's colours of vertices are linear, those of its textures are not.
    """
    srgb = np.arange(256) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return linear.astype("<f4")


class _Buffer:
    """The binary part, and what the other one says of it."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, **about: int) -> int:
        """Append bytes at the next place that is a multiple of 4; which view that is."""
        self.content += bytes(-len(self.content) % 4)
        view = {"buffer": 0, "byteOffset": len(self.content), "byteLength": len(data), **about}
        self.views.append(view)
        self.content += data
        return len(self.views) - 1

    def accessor(
        self,
        values: np.ndarray,
        component: int,
        kind: str,
        target: int,
        **about: Sequence[float],
    ) -> int:
        """Append the rows of an array; which accessor that is."""
        accessor = {
            "bufferView": self.view(values.tobytes(), target=target),
            "componentType": component,
            "count": len(values),
            "type": kind,
            **about,
        }
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _container(about: bytes, content: bytes) -> bytes:
    """Both parts behind the header of a glb file, each filled up to a multiple of 4 bytes."""
    about += b" " * (-len(about) % 4)
    content += bytes(-len(content) % 4)
    parts = [
        struct.pack("<I", len(part)) + name + part
        for name, part in ((_JSON, about), (_BINARY, content))
    ]
    length = 12 + sum(map(len, parts))
    return b"".join([b"glTF", struct.pack("<II", 2, length), *parts])
