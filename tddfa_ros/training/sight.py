"""Renders a person once into layers that can be lit many times.

The costly part of a picture (geometry, visibility, texture, cast shadow) is kept as small byte
images; :mod:`lighting` turns them into as many differently lit pictures as wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from tddfa_native.rasterize import MeshTopology, VisibilityBuffer, vertex_normals

from tddfa_ros.training import atlas, expressions
from tddfa_ros.training.makehuman import EYE, MOUTH, SKIN, TEETH
from tddfa_ros.training.rig import Rig, split_quads
from tddfa_ros.training.skin import SKIN_SIDE, Skin, cylinder_uv
from tddfa_ros.training.wardrobe import SKIN_GLOSS, Part, Wardrobe

CANVAS = 144
"""Side of the layers, pixels."""
ROI_PX = 100.0
"""Side, in the layers, of the square region that the landmarks span."""
_OVERSAMPLE = 2
_SHADOW_SIDE = 112
_SHAPE_DEVIATION = 0.95
_GLOSS = {SKIN: SKIN_GLOSS, EYE: 0.9, TEETH: 0.4, MOUTH: 0.3}


@dataclass(frozen=True)
class Truth:
    """What is known of a rendered face; positions in pixels of the canvas, z towards the viewer.

    Attributes
    ----------
    points : (p, 3) float32, the 68 landmarks and then the rig's dense points
    rotation : (3, 3) float32, face to camera (x right, y up, z to the viewer)
    shape, expression : coefficients of the rig, float32
    """

    points: np.ndarray
    rotation: np.ndarray
    shape: np.ndarray
    expression: np.ndarray


@dataclass(frozen=True)
class Layers:
    """A person in a pose, not lit yet: the n pixels that show something of it.

    Attributes
    ----------
    pixel : (n,) int32 index in the CANVAS x CANVAS picture, row-major
    albedo : (n, 3) uint8 BGR display values, multiplied by the cover
    normal : (n, 3) uint8, 127.5 (n + 1) in the camera's frame, y up, times cover
    surface : (n, 4) uint8: cover, openness, shadow, gloss
    key_direction : (3,) float32, towards the light whose cast shadow is in the layers
    skin_tone : 0 darkest to 1
    """

    pixel: np.ndarray
    albedo: np.ndarray
    normal: np.ndarray
    surface: np.ndarray
    key_direction: np.ndarray
    skin_tone: float
    truth: Truth


def rotation_from_angles(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3): turn about y by yaw, then about x by pitch, then about z by roll; radians."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def draw_angles(rng: np.random.Generator) -> tuple[float, float, float]:
    """Yaw, pitch, roll in radians: all yaws to the profile, pitch well beyond a nod."""
    yaw = rng.uniform(-92, 92) if rng.random() < 0.45 else rng.normal(0, 26)
    pitch = rng.uniform(-50, 50) if rng.random() < 0.18 else rng.normal(0, 14)
    roll = np.clip(rng.normal(0, 14), -55, 55)
    return tuple(np.deg2rad([yaw, np.clip(pitch, -55, 55), roll]))


class Studio:
    """Poses, dresses and renders people of one rig."""

    def __init__(self, rig: Rig, dense_points: np.ndarray) -> None:
        self._rig = rig
        self._dense = dense_points
        self._wardrobe = Wardrobe(rig)
        mean_mm = (rig.mean * 1000).astype(np.float32)
        self._smooth = MeshTopology(rig.triangles, len(mean_mm))
        self._source, triangles, self._uv, self._vertex_gloss = _render_mesh(rig, mean_mm)
        self._mesh = MeshTopology(triangles, len(self._source))
        # The closed mouth of the average head would leave the teeth black.
        least = np.where(self._vertex_gloss == _GLOSS[TEETH], 0.55, 0.0)
        self._openness = np.maximum(openness(mean_mm, self._smooth)[self._source], least)
        eyes = np.unique(rig.quads[rig.material == EYE])
        self._eyes = [eyes[mean_mm[eyes, 0] > 0], eyes[mean_mm[eyes, 0] < 0]]
        self._eye_rows = [np.flatnonzero(np.isin(self._source, e)) for e in self._eyes]
        side = CANVAS * _OVERSAMPLE
        self._buffer = VisibilityBuffer(side, side)
        self._light_buffer = VisibilityBuffer(_SHADOW_SIDE, _SHADOW_SIDE)

    def draw(self, rng: np.random.Generator, skin: Skin, *, roi_px: float = ROI_PX) -> Layers:
        """One random person with this skin in a random pose, expression and dress.

        Parameters
        ----------
        roi_px : side, in the layers, of the square that the landmarks span; the less, the more of
            the body is in the picture
        """
        rig = self._rig
        shape = rng.normal(0, _SHAPE_DEVIATION, len(rig.shape_basis)).astype(np.float32)
        expression = rig.expression_vector(expressions.draw(rng))
        head = rig.pose(shape, expression) * np.float32(1000)
        points = np.concatenate([rig.landmarks.of(head), head[self._dense]])
        worn = self._wardrobe.grow_beard(rng, head, skin)
        parts = self._wardrobe.dress(rng, worn, points[:68], skin)
        angles = draw_angles(rng)
        return self._render(rng, skin, worn, parts, points, angles, (shape, expression), roi_px)

    def _render(
        self,
        rng: np.random.Generator,
        skin: Skin,
        head: np.ndarray,
        parts: list[Part],
        points: np.ndarray,
        angles: tuple[float, float, float],
        coefficients: tuple[np.ndarray, np.ndarray],
        roi_px: float,
    ) -> Layers:
        rotation = rotation_from_angles(*angles).astype(np.float32)
        ease = rng.uniform(0.15, 1.0)
        body = rotation_from_angles(
            angles[0] * ease, angles[1] * ease * 0.6, angles[2] * ease * 0.5
        ).astype(np.float32)
        distance = np.float32(np.exp(rng.uniform(np.log(450), np.log(4500))))
        meshes = [(head @ rotation.T, self._smooth)]
        for part in parts:
            turned = part.vertices_mm @ rotation.T
            if part.with_body.any():
                w = part.with_body[:, None]
                turned = turned * (1 - w) + (part.vertices_mm @ body.T) * w
            meshes.append((turned, part.topology))
        seen = points @ rotation.T
        flat = seen[:, :2] * (distance / (distance - seen[:, 2:])) * np.array([1, -1], np.float32)
        low, high = flat[:68].min(axis=0), flat[:68].max(axis=0)
        scale = np.float32(roi_px / (np.sqrt(2) * (high - low).max()))
        shift = CANVAS / 2 - (low + high) / 2 * scale
        truth = Truth(
            np.column_stack([flat * scale + shift, seen[:, 2] * scale]).astype(np.float32),
            rotation,
            *coefficients,
        )
        projection = _Projection(distance, scale, shift.astype(np.float32))
        texture = atlas.compose(rng, skin)
        uv = self._uv.copy()
        self._look(rng, head, uv, angles[0])

        albedo, normal, surface = self._layers(meshes, parts, projection, uv, texture)
        key = _key_direction(rng)
        surface[..., 2] = self._cast_shadow(meshes, projection, key, normal)
        pixel = np.flatnonzero(surface[..., 0]).astype(np.int32)
        shown = (a.reshape(-1, a.shape[2])[pixel] for a in (albedo, normal, surface))
        return Layers(pixel, *shown, key, skin.tone, truth)

    def _look(self, rng: np.random.Generator, head: np.ndarray, uv: np.ndarray, yaw: float) -> None:
        """Turn the irises: mostly ahead, at times towards the camera."""
        side = np.clip(rng.normal(0, 0.22), -0.6, 0.6) - (yaw * 0.4 if rng.random() < 0.5 else 0)
        gaze = rotation_from_angles(
            np.clip(side, -0.65, 0.65), np.clip(rng.normal(0, 0.12), -0.35, 0.35), 0
        )
        for eye, rows in zip(self._eyes, self._eye_rows, strict=True):
            centre = (head[eye].max(axis=0) + head[eye].min(axis=0)) / 2
            uv[rows] = atlas.eye_uv((head[self._source[rows]] - centre) @ gaze)

    def _layers(
        self,
        meshes: list[tuple[np.ndarray, MeshTopology]],
        parts: list[Part],
        projection: _Projection,
        uv: np.ndarray,
        texture: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        buffer = self._buffer
        buffer.clear()
        side = buffer.height
        place = np.zeros((side, side, 2), np.float32)
        normal = np.zeros((side, side, 3), np.uint8)
        rest = np.zeros((side, side, 2), np.uint8)
        drawn = []
        for k, (vertices, topology) in enumerate(meshes):
            normals = vertex_normals(vertices, topology)
            on_canvas = projection.apply(vertices, _OVERSAMPLE)
            if k == 0:
                index = self._source
                surface = np.column_stack([self._openness, self._vertex_gloss])
                face = buffer.draw(on_canvas[index], self._mesh)
                drawn.append((face, uv, normals[index], surface))
            else:
                part = parts[k - 1]
                surface = np.empty((len(vertices), 2), np.float32)
                surface[:] = (0.9, part.gloss)
                face = buffer.draw(on_canvas, topology)
                # Thin sheets are seen from both sides.
                normals = np.where(normals[:, 2:] < -0.2, -normals, normals)
                drawn.append((face, part.uv, normals, surface))
        for face, texels, normals, surface in drawn:
            buffer.interpolate(face, texels, place)
            buffer.interpolate(face, normals, normal, scale=127.0, offset=127.5)
            buffer.interpolate(face, surface, rest, scale=255.0)
        colour = cv2.remap(texture, place, None, cv2.INTER_LINEAR)
        inside = np.where(buffer.triangle >= 0, 255, 0).astype(np.uint8)
        colour = cv2.bitwise_and(colour, colour, mask=inside)
        surface = np.dstack([inside, rest[..., 0], inside, rest[..., 1]])
        size = (CANVAS, CANVAS)
        return tuple(
            cv2.resize(a, size, interpolation=cv2.INTER_AREA) for a in (colour, normal, surface)
        )

    def _cast_shadow(
        self,
        meshes: list[tuple[np.ndarray, MeshTopology]],
        projection: _Projection,
        key: np.ndarray,
        normal: np.ndarray,
    ) -> np.ndarray:
        """(CANVAS, CANVAS) uint8: 255 where the key light reaches the surface, softly filtered."""
        across = np.cross(key, np.array([0.01, 1, 0.02], np.float32))
        across /= np.linalg.norm(across)
        axes = np.stack([across, np.cross(key, across), key], axis=1).astype(np.float32)
        head = meshes[0][0] @ axes
        low, high = head[:, :2].min(axis=0), head[:, :2].max(axis=0)
        factor = (_SHADOW_SIDE - 3) / (high - low).max()
        buffer = self._light_buffer
        buffer.clear()
        for vertices, topology in meshes:
            lit = vertices @ axes
            lit[:, :2] = (lit[:, :2] - low) * factor + 1
            buffer.draw(lit, topology)
        half = _OVERSAMPLE // 2
        depth = self._buffer.depth[half::_OVERSAMPLE, half::_OVERSAMPLE]
        rows, columns = np.nonzero(np.isfinite(depth))
        at = projection.undo(columns, rows, depth[rows, columns]) @ axes
        facing = (normal[rows, columns].astype(np.float32) / 127.5 - 1) @ key
        limit = at[:, 2] + 4.4 + 10 * (1 - np.clip(facing, 0, 1))
        place = (at[:, :2] - low) * factor + 1
        x, y = np.round(place).astype(np.int32).T
        hidden = np.zeros(len(x), np.float32)
        for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            u = np.clip(x + dx, 0, _SHADOW_SIDE - 1)
            v = np.clip(y + dy, 0, _SHADOW_SIDE - 1)
            hidden += buffer.depth[v, u] > limit
        shadow = np.full((CANVAS, CANVAS), 255, np.uint8)
        shadow[rows, columns] = 255 - hidden * 51
        return shadow


@dataclass(frozen=True)
class _Projection:
    """Perspective camera on the z axis at `distance` mm, then scale and shift to the canvas."""

    distance: np.float32
    scale: np.float32
    shift: np.ndarray

    def apply(self, points: np.ndarray, factor: int) -> np.ndarray:
        """(n, 3) pixels of a canvas `factor` times as fine; z in mm."""
        depth = np.minimum(points[:, 2], 0.9 * self.distance)
        grow = (self.scale * self.distance / (self.distance - depth))[:, None]
        flat = points[:, :2] * grow * np.array([1, -1], np.float32) + self.shift
        flat = flat * factor + (factor - 1) / 2
        return np.column_stack([flat, depth]).astype(np.float32)

    def undo(self, x: np.ndarray, y: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """(n, 3) float32 mm of canvas pixels with their depth."""
        shrink = (self.distance - depth) / (self.scale * self.distance)
        return np.stack(
            [(x - self.shift[0]) * shrink, (self.shift[1] - y) * shrink, depth], axis=1
        ).astype(np.float32)


def _key_direction(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.72:
        key = np.array([rng.normal(0, 0.7), rng.normal(0.35, 0.5), rng.uniform(0.1, 1.2)])
    else:  # hard light from the side
        side = rng.choice([-1, 1]) * rng.uniform(0.7, 1)
        key = np.array([side, rng.normal(0.2, 0.4), rng.uniform(-0.3, 0.5)])
    return (key / np.linalg.norm(key)).astype(np.float32)


def _render_mesh(
    rig: Rig, mean_mm: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Source vertex, triangles, texels and gloss of a mesh split where the texture jumps."""
    triangles = rig.triangles
    material = np.concatenate([rig.material, rig.material])
    uv = cylinder_uv(mean_mm)
    wraps = (material == SKIN) & (np.ptp(uv[triangles][..., 0], axis=1) > 0.5)
    over = wraps[:, None] & (uv[triangles][..., 0] < 0.5)
    key = (triangles.astype(np.int64) * 4 + material[:, None]) * 2 + over
    keys, corner = np.unique(key, return_inverse=True)
    source, vertex_material = keys // 8, keys // 2 % 4
    texels = uv[source] + np.column_stack([keys % 2, np.zeros(len(keys))])
    texels = np.clip(texels, 0, 1) * (SKIN_SIDE - 1)
    for kind, plain in ((TEETH, atlas.TEETH_PLAIN), (MOUTH, atlas.MOUTH_PLAIN)):
        rows = vertex_material == kind
        texels[rows] = atlas.plain_uv(plain, int(rows.sum()))
    gloss = np.array([_GLOSS[int(m)] for m in vertex_material], np.float32)
    return (
        source.astype(np.int32),
        corner.reshape(-1, 3).astype(np.int32),
        texels.astype(np.float32),
        gloss,
    )


def openness(
    vertices: np.ndarray, topology: MeshTopology, *, directions: int = 150, side: int = 160
) -> np.ndarray:
    """(n,) float32 in [0, 1]: share of the sky, weighted by cosine, that each vertex sees."""
    rng = np.random.default_rng(0)
    normals = vertex_normals(vertices, topology)
    seen, possible = np.zeros(len(vertices)), np.full(len(vertices), 1e-6)
    buffer = VisibilityBuffer(side, side)
    for _ in range(directions):
        toward = rng.normal((0, 0.3, 0))
        toward /= np.linalg.norm(toward)
        across = np.cross(toward, [0.01, 1, 0.02])
        across /= np.linalg.norm(across)
        flat = vertices @ np.stack([across, np.cross(toward, across), toward], axis=1)
        low = flat[:, :2].min(axis=0)
        flat[:, :2] = (flat[:, :2] - low) * ((side - 3) / np.ptp(flat[:, :2], axis=0).max()) + 1
        flat = flat.astype(np.float32)
        buffer.clear()
        buffer.draw(flat, topology)
        x, y = np.round(flat[:, :2]).astype(int).T
        free = buffer.depth[y, x] < flat[:, 2] + 5.0
        cosine = np.clip(normals @ toward, 0, 1)
        seen += cosine * free
        possible += cosine
    return np.clip(seen / possible * 1.05, 0.02, 1).astype(np.float32)


def spread_points(rig: Rig, count: int) -> np.ndarray:
    """(count,) vertices of the face, as far apart as can be: farthest-point sampling.

    The second half are the mirror images of the first, which are of the subject's left; the middle
    of the face has landmarks.
    """
    at_landmarks = rig.landmarks.of(rig.mean)
    low, high = at_landmarks.min(axis=0), at_landmarks.max(axis=0)
    skin = np.unique(split_quads(rig.quads[rig.sheet & (rig.material == SKIN)]))
    at = rig.mean[skin]
    inside = (at >= low - 0.004).all(axis=1) & (at[:, 1] <= high[1] + 0.045)
    inside &= (at[:, 0] > 0.003) & (at[:, 0] < 0.073)
    candidates = skin[inside]
    at = rig.mean[candidates]
    chosen = [int(at[:, 2].argmax())]
    distance = np.linalg.norm(at - at[chosen[0]], axis=1)
    for _ in range(count // 2 - 1):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(at - at[chosen[-1]], axis=1))
    half = candidates[chosen]
    return np.concatenate([half, rig.mirror[half]]).astype(np.int32)
