"""Synthetic face models with known geometry, and a reader of glb files."""

import json
import struct

import numpy as np
import pytest

from tddfa_ros.core.face_model import FaceModel

RINGS, SEGMENTS = 48, 96


@pytest.fixture(scope="session")
def dome_model() -> FaceModel:
    """Hemisphere of radius 1 that bulges towards z; u and v are its x and y, from 0 to 1."""
    # Even steps of the angle from the pole, so that the rim is as finely meshed as the middle.
    tilt = np.repeat(np.linspace(0, np.pi / 2, RINGS + 1)[1:], SEGMENTS)
    turn = np.tile(2 * np.pi * np.arange(SEGMENTS) / SEGMENTS, RINGS)
    ring = np.column_stack([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    mean = np.vstack([[0, 0, 1], ring]).astype(np.float32)
    segment = np.arange(SEGMENTS)
    following = (segment + 1) % SEGMENTS
    triangles = [np.column_stack([np.zeros_like(segment), 1 + segment, 1 + following])]
    for inner in range(RINGS - 1):
        a, b = 1 + inner * SEGMENTS + segment, 1 + inner * SEGMENTS + following
        c, d = a + SEGMENTS, b + SEGMENTS
        triangles += [np.column_stack([a, c, b]), np.column_stack([b, c, d])]
    mirrored = (SEGMENTS // 2 - segment) % SEGMENTS
    rows = 1 + SEGMENTS * np.arange(RINGS)[:, None]
    symmetry = np.concatenate([[0], (rows + mirrored).ravel()])
    return FaceModel(
        mean=mean,
        shape_basis=np.zeros((1, *mean.shape), np.float32),
        expression_basis=np.zeros((1, *mean.shape), np.float32),
        triangles=np.concatenate(triangles).astype(np.int32),
        uv=((mean[:, :2] + 1) / 2).clip(0, 1),
        landmark_triangles=np.zeros(68, np.int32),
        landmark_weights=np.tile(np.float32([1, 0, 0]), (68, 1)),
        metres_per_unit=0.1,
        symmetry=symmetry.astype(np.int32),
    )


@pytest.fixture(scope="session")
def read_glb():
    """Read a glb's bytes, and check all that glTF 2.0 says of how its parts lie in it."""
    return _read_glb


def _read_glb(data):
    """JSON part, a function of an accessor's index to its rows, and one that gives the picture."""
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    chunks, at = [], 12
    while at < length:
        size, kind = struct.unpack_from("<I4s", data, at)
        assert size % 4 == 0
        chunks.append((kind, data[at + 8 : at + 8 + size]))
        at += 8 + size
    assert [kind for kind, _ in chunks] == [b"JSON", b"BIN\0"]
    about, binary = json.loads(chunks[0][1]), chunks[1][1]
    assert about["asset"]["version"] == "2.0"
    end = 0
    for view in about["bufferViews"]:
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] >= end
        end = view["byteOffset"] + view["byteLength"]
    assert end == about["buffers"][0]["byteLength"]
    assert 0 <= len(binary) - end < 4

    def values(index):
        accessor = about["accessors"][index]
        view = about["bufferViews"][accessor["bufferView"]]
        kind = np.dtype({5126: "<f4", 5125: "<u4"}[accessor["componentType"]])
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        count = accessor["count"] * width
        assert view["byteLength"] == kind.itemsize * count
        return np.frombuffer(binary, kind, count, view["byteOffset"]).reshape(-1, width)

    def picture():
        view = about["bufferViews"][about["images"][0]["bufferView"]]
        return binary[view["byteOffset"] :][: view["byteLength"]]

    return about, values, picture
