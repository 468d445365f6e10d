"""Synthetic face models with known geometry."""

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
