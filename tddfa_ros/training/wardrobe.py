"""Meshes around the head: hair, headwear, neck and shoulders, clothes, glasses.

Lengths are millimetres in the rig's frame. Every part keeps one topology, so that a picture needs
no set-up per mesh; what is not wanted is laid under the skin or left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tddfa_native.rasterize import MeshTopology, vertex_normals

from tddfa_ros.training import atlas
from tddfa_ros.training.makehuman import SKIN
from tddfa_ros.training.noise import smoothstep
from tddfa_ros.training.rig import Rig, split_quads
from tddfa_ros.training.skin import Skin, hair_height_mm

HAIR_GLOSS, CLOTH_GLOSS, SKIN_GLOSS, FRAME_GLOSS = 0.35, 0.03, 0.25, 0.6


@dataclass(frozen=True)
class Part:
    """A mesh to draw beside the head.

    Attributes
    ----------
    vertices_mm : (n, 3) float32 in the head's frame
    topology : its triangles
    uv : (n, 2) float32, texels of the atlas
    gloss : strength of highlights, 0 to 1
    with_body : (n,) float32, 0 = turns with the head, 1 = with the shoulders
    """

    vertices_mm: np.ndarray
    topology: MeshTopology
    uv: np.ndarray
    gloss: float
    with_body: np.ndarray


def grid_triangles(rows: int, columns: int, *, closed: bool = False) -> np.ndarray:
    """(m, 3) int32 of a rows x columns grid, row-major; `closed` joins last and first row."""
    i, j = np.meshgrid(
        np.arange(rows if closed else rows - 1), np.arange(columns - 1), indexing="ij"
    )
    a, b = i * columns + j, (i + 1) % rows * columns + j
    quads = np.stack([a, b, b + 1, a + 1], axis=-1).reshape(-1, 4)
    return split_quads(quads.astype(np.int32))


class Wardrobe:
    """Dresses heads of one rig."""

    _LONG = (33, 10)
    _BODY = (24, 9)
    _RIM = 24

    def __init__(self, rig: Rig) -> None:
        mean_mm = (rig.mean * 1000).astype(np.float32)
        skin_quads = rig.quads[rig.sheet & (rig.material == SKIN)]
        height = hair_height_mm(mean_mm)
        covered = height[skin_quads].max(axis=1) > -70
        above_jaw = mean_mm[skin_quads][..., 1].mean(axis=1) > -85
        cap = split_quads(skin_quads[covered & above_jaw])
        self._cap_vertices, compact = np.unique(cap, return_inverse=True)
        self._cap = MeshTopology(compact.reshape(-1, 3).astype(np.int32), len(self._cap_vertices))
        whole = MeshTopology(split_quads(skin_quads), len(mean_mm))
        self._normals = vertex_normals(mean_mm, whole)
        at = mean_mm[self._cap_vertices]
        self._cap_at, self._cap_height = at, height[self._cap_vertices]
        self._cap_normals = self._normals[self._cap_vertices]
        self._ear = (np.abs(at[:, 0]) > 70) & (at[:, 1] > 0) & (at[:, 1] < 70)
        angle = np.arctan2(at[:, 0], at[:, 2] + 98)
        self._cap_u, self._cap_v = 0.5 + angle / 6.5, (165 - at[:, 1]) / 300
        low = (1 - smoothstep(mean_mm[:, 1] - 0.35 * np.abs(mean_mm[:, 0]), -22, -4)) * (
            mean_mm[:, 1] > -70
        )
        on_skin = np.unique(skin_quads)
        around_neck = (mean_mm[on_skin, 1] < -72) & (mean_mm[on_skin, 1] > -92)
        self._neck_ring = on_skin[around_neck & (mean_mm[on_skin, 2] < -40)]
        self._jaw = (low * smoothstep(mean_mm[:, 2], -98, -70)).astype(np.float32)
        self._grids = {
            "long": MeshTopology(grid_triangles(*self._LONG), self._LONG[0] * self._LONG[1]),
            "body": MeshTopology(
                grid_triangles(*self._BODY, closed=True), self._BODY[0] * self._BODY[1]
            ),
            "rim": MeshTopology(grid_triangles(self._RIM, 2, closed=True), 2 * self._RIM),
            "lens": MeshTopology(
                np.array([[i, (i + 1) % self._RIM, self._RIM] for i in range(self._RIM)]),
                self._RIM + 1,
            ),
            "strip": MeshTopology(grid_triangles(2, 2), 4),
        }

    def grow_beard(self, rng: np.random.Generator, head_mm: np.ndarray, skin: Skin) -> np.ndarray:
        """The head with the jaw's skin pushed outwards by a full beard."""
        if skin.beard < 0.5 or rng.random() < 0.4:
            return head_mm
        thickness = rng.uniform(1, 13) * (1 + 0.25 * rng.standard_normal(len(head_mm)))
        return head_mm + self._normals * (self._jaw * thickness)[:, None].astype(np.float32)

    def dress(
        self, rng: np.random.Generator, head_mm: np.ndarray, landmarks_mm: np.ndarray, skin: Skin
    ) -> list[Part]:
        """Everything around one head.

        Parameters
        ----------
        head_mm : (n, 3) vertices of the head
        landmarks_mm : (68, 3), for the glasses
        """
        parts = self._body(rng, head_mm)
        kind = rng.random()
        if kind < 0.07:
            parts += self._cap_part(rng, head_mm, skin, cloth=True)
        elif kind < 0.1:
            parts += self._cap_part(rng, head_mm, skin, cloth=True, hood=True)
            parts.append(self._long(rng, cloth=True))
        elif not skin.bald:
            if rng.random() < 0.85:
                parts += self._cap_part(rng, head_mm, skin, cloth=False)
            if rng.random() < 0.42:
                parts.append(self._long(rng, cloth=False))
        if rng.random() < 0.2:
            parts += self._glasses(rng, landmarks_mm)
        return parts

    def _cap_part(
        self,
        rng: np.random.Generator,
        head_mm: np.ndarray,
        skin: Skin,
        *,
        cloth: bool,
        hood: bool = False,
    ) -> list[Part]:
        """A shell over the scalp: hair of random thickness and hairline, a hat or a hood."""
        at = self._cap_at
        line = skin.hairline_mm - (
            rng.uniform(0, 10) if rng.random() < 0.6 else rng.uniform(10, 48)
        )
        waves, phase = rng.uniform(0.015, 0.08, 3), rng.uniform(0, 6, 3)
        lumps = np.sin(at[:, 0] * waves[0] + phase[0]) * np.sin(at[:, 1] * waves[1] + phase[1])
        lumps = lumps + 0.6 * np.sin(at[:, 2] * waves[2] + phase[2])
        thickness = rng.uniform(2, 26) if rng.random() < 0.8 else rng.uniform(20, 55)
        sweep = rng.normal(0, 0.12) * at[:, 0]
        rough = 0.12 * rng.standard_normal(len(at))
        if cloth:
            lumps, rough, sweep = lumps * 0.1, 0.0, 0.0
            line = rng.uniform(-45, -20) if hood else rng.uniform(-20, 25)
            thickness = rng.uniform(3, 14)
        above = self._cap_height - line + 6 * lumps + sweep
        grown = thickness * smoothstep(above, 0, 14) * (1 + 0.3 * lumps + rough)
        hidden = above <= 0
        if not hood and rng.random() < 0.6:
            hidden |= self._ear
        depth = np.where(hidden, -5.0, grown + 0.8)[:, None]
        up = np.array([0, 0.3, -0.05]) * depth * rng.uniform(0, 1)
        vertices = head_mm[self._cap_vertices] + self._cap_normals * depth + up * (depth > 0)
        tile = atlas.CLOTH_TILE if cloth else atlas.HAIR_TILE
        return [
            Part(
                vertices.astype(np.float32),
                self._cap,
                atlas.tile_uv(tile, self._cap_u, self._cap_v),
                CLOTH_GLOSS if cloth else HAIR_GLOSS,
                np.zeros(len(vertices), np.float32),
            )
        ]

    def _long(self, rng: np.random.Generator, *, cloth: bool) -> Part:
        """A curtain from the crown down the back and sides, at times over cheeks and jaw."""
        rows, columns = self._LONG
        reach = rng.uniform(1.6, 2.6) if not cloth else rng.uniform(2.0, 2.5)
        # At times the hair lies over one side of the face.
        lean = rng.normal(0, 0.12 if cloth or rng.random() < 0.6 else 0.45)
        angle, down = np.meshgrid(
            np.linspace(-reach, reach, rows) + lean, np.linspace(0, 1, columns), indexing="ij"
        )
        end = rng.uniform(-230, -35)
        width, depth = rng.uniform(80, 104), rng.uniform(82, 112)
        flare = np.clip(np.sqrt(2.2 * down + 0.15), 0, 1) * (1 + rng.uniform(-0.12, 0.28) * down)
        wave = 1 + 0.05 * np.sin(angle * rng.uniform(4, 12) + rng.uniform(0, 6))
        wave = wave + 0.04 * np.sin(down * rng.uniform(3, 15) + rng.uniform(0, 6))
        y = 128 + (end - 128) * down + 8 * np.sin(angle * 9 + rng.uniform(0, 6)) * (down == 1)
        x = np.sin(angle) * width * flare * wave
        z = -98 - np.cos(angle) * depth * flare * wave
        vertices = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
        tile = atlas.CLOTH_TILE if cloth else atlas.HAIR_TILE
        return Part(
            vertices,
            self._grids["long"],
            atlas.tile_uv(tile, (0.5 + angle / 6.5).ravel(), down.ravel()),
            CLOTH_GLOSS if cloth else HAIR_GLOSS,
            (0.6 * smoothstep(down, 0.4, 1.0)).ravel().astype(np.float32),
        )

    def _body(self, rng: np.random.Generator, head_mm: np.ndarray) -> list[Part]:
        """Neck and chest in skin, and a garment over them from a random neckline on."""
        rows, columns = self._BODY
        width = rng.uniform(155, 230)
        ring = head_mm[self._neck_ring]
        neck_x, neck_z = np.ptp(ring[:, 0]) / 2 * 1.02, np.ptp(ring[:, 2]) / 2 * 1.02
        height = np.array([-62, -90, -112, -130, -145, -160, -190, -250, -340.0])
        height[3:] += rng.uniform(-22, 22)
        share = np.array([0, 0, 0.04, 0.16, 0.42, 0.7, 0.93, 1.02, 1.0])
        radius_x = neck_x + (max(width, neck_x + 60) - neck_x) * share
        radius_z = neck_z + (rng.uniform(90, 125) - neck_z) * np.sqrt(share)
        radius_x[0], radius_z[0] = 0.88 * neck_x, 0.88 * neck_z
        centre_z = (ring[:, 2].max() + ring[:, 2].min()) / 2 - np.array(
            [-6, 0, 3, 6, 8, 9, 8, 4, 1.0]
        )
        turn = np.linspace(0, 2 * np.pi, rows, endpoint=False)
        angle, k = np.meshgrid(turn, np.arange(columns), indexing="ij")

        def loft(grow: float) -> np.ndarray:
            x = np.cos(angle) * (radius_x[k] + grow)
            z = centre_z[k] + np.sin(angle) * (radius_z[k] + grow)
            return np.stack([x, height[k], z], axis=-1).reshape(-1, 3).astype(np.float32)

        blend = np.interp(height, [-145, -75], [1.0, 0.0])[k].ravel().astype(np.float32)
        neck = Part(
            loft(0.0),
            self._grids["body"],
            atlas.plain_uv(atlas.SKIN_PLAIN, rows * columns),
            SKIN_GLOSS,
            blend,
        )
        if rng.random() < 0.08:
            return [neck]
        garment = loft(rng.uniform(3, 12))
        # The neckline: rings above it are pulled under the skin; lower in front (angle pi/2).
        dip = rng.uniform(0, 60) * (rng.random() < 0.5)
        front = np.exp(-(((angle - np.pi / 2) / 0.6) ** 2)) * dip
        neckline = (rng.uniform(-130, -85) if rng.random() < 0.6 else -125) - front
        bare = (height[k] > neckline).ravel()
        garment[bare] = (loft(-6.0))[bare]
        uv = atlas.tile_uv(
            atlas.CLOTH_TILE,
            0.5 + garment[:, 0] / 520,
            (-60 - garment[:, 1]) / 300,
        )
        cloth = Part(garment, self._grids["body"], uv, CLOTH_GLOSS, blend)
        return [neck, cloth]

    def _glasses(self, rng: np.random.Generator, landmarks_mm: np.ndarray) -> list[Part]:
        brow_z = landmarks_mm[[19, 24, 27], 2].max() - 5
        z = max(brow_z, landmarks_mm[[37, 38, 43, 44], 2].max() + 9)
        half_x, half_y = rng.uniform(20, 33), rng.uniform(12, 27)
        wire, square, drop = rng.uniform(1.0, 5.0), rng.uniform(0.45, 1.0), rng.uniform(-6, 3)
        dark = rng.random() < 0.22
        turn = np.linspace(0, 2 * np.pi, self._RIM, endpoint=False)
        cosine = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** square
        sine = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** square
        parts = []

        def add(vertices: np.ndarray, grid: str, plain: int, gloss: float = FRAME_GLOSS) -> None:
            parts.append(
                Part(
                    np.asarray(vertices, np.float32),
                    self._grids[grid],
                    atlas.plain_uv(plain, len(vertices)),
                    gloss,
                    np.zeros(len(vertices), np.float32),
                )
            )

        inner = []
        for side, eye in ((-1, slice(36, 42)), (1, slice(42, 48))):
            centre = landmarks_mm[eye].mean(axis=0)
            cy = centre[1] + drop
            rings = []
            for grow in (-wire / 2, wire / 2):
                x = centre[0] + cosine * (half_x + grow)
                bend = 0.0032 * (x**2 - centre[0] ** 2)
                rings.append(np.stack([x, cy + sine * (half_y + grow), z - bend], axis=1))
            add(np.stack(rings, axis=1).reshape(-1, 3), "rim", atlas.FRAME_PLAIN)
            if dark:
                lens = np.concatenate([rings[0], [[centre[0], cy, z + 1]]])
                add(lens, "lens", atlas.LENS_PLAIN, 0.9)
            edge = centre[0] + side * (half_x + wire / 2)
            edge_z = z - 0.0032 * (edge**2 - centre[0] ** 2)
            ear_x = side * 86
            strip = [
                [edge, cy + 6 + wire, edge_z],
                [edge, cy + 6 - wire, edge_z],
                [ear_x, cy + 9 + wire, -90],
                [ear_x, cy + 9 - wire, -90],
            ]
            add(np.array(strip), "strip", atlas.FRAME_PLAIN)
            inner.append([centre[0] - side * half_x, cy + 4, z])
        right, left = np.array(inner)
        lift = np.array([0, wire / 2 + 0.5, 0])
        add(
            np.stack([right + lift, right - lift, left + lift, left - lift]),
            "strip",
            atlas.FRAME_PLAIN,
        )
        return parts
