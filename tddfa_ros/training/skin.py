"""Painted skins: tones, structure, lips, brows, lashes, beards, make-up, scalp hair.

A skin is painted on a cylinder around the average head, texel by texel from the texel's place on
the head, so that seams of the mesh cannot show. Lengths are millimetres in the rig's frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from tddfa_native.rasterize import MeshTopology, VisibilityBuffer

from tddfa_ros.training.makehuman import SKIN
from tddfa_ros.training.noise import fractal, smoothstep
from tddfa_ros.training.rig import Rig, split_quads

SKIN_SIDE = 384
"""Texels along a side of a painted skin."""

_SKIN_TONES_RGB = np.array(
    [
        [58, 38, 30],
        [82, 54, 42],
        [110, 74, 56],
        [141, 98, 74],
        [172, 125, 98],
        [198, 150, 122],
        [216, 172, 146],
        [231, 190, 168],
        [240, 206, 188],
    ],
    np.float32,
)
HAIR_RGB = np.array(
    [
        [12, 10, 9],
        [25, 18, 14],
        [45, 30, 20],
        [75, 50, 30],
        [110, 75, 45],
        [160, 115, 65],
        [205, 170, 115],
        [140, 60, 30],
        [150, 145, 140],
        [215, 212, 208],
        [90, 85, 82],
    ],
    np.float32,
)
_CYLINDER_AXIS_Z_MM = -98.0


@dataclass(frozen=True)
class Skin:
    """One painted skin and what the rest of the person must match.

    Attributes
    ----------
    texture : (SKIN_SIDE, SKIN_SIDE, 3) uint8 BGR, display values
    tone : 0 (darkest) to 1
    skin_bgr, hair_bgr : (3,) float32, 0 to 1, display values
    hairline_mm : added to the height of the hairline; large when bald
    bald : no hair on the scalp
    beard : density of a full beard, 0 without
    """

    texture: np.ndarray
    tone: float
    skin_bgr: np.ndarray
    hair_bgr: np.ndarray
    hairline_mm: float
    bald: bool
    beard: float


def cylinder_uv(points_mm: np.ndarray) -> np.ndarray:
    """(..., 2) in [0, 1] of points (..., 3): angle and height, denser at the front."""
    angle = np.arctan2(points_mm[..., 0], points_mm[..., 2] - _CYLINDER_AXIS_Z_MM)
    height = (points_mm[..., 1] - 12) / 109.0
    u = 0.5 + 0.5 * angle / (1 + 0.6 * np.abs(angle)) / 1.0892
    v = 0.5 - 0.5 * height / (1 + 0.5 * np.abs(height)) / 0.84
    return np.stack([u, v], axis=-1).astype(np.float32)


def hair_height_mm(points_mm: np.ndarray) -> np.ndarray:
    """Height of points above the average hairline, which runs from the forehead to the nape."""
    return points_mm[..., 1] - (118 + 1.07 * points_mm[..., 2])


class SkinPainter:
    """Paints random skins for the rig's average head."""

    def __init__(self, rig: Rig) -> None:
        mean_mm = rig.mean * 1000
        self._at = _place_of_texels(rig, mean_mm)
        x, y, z = np.moveaxis(self._at, -1, 0)
        self._abs_x = np.abs(x)
        points = rig.landmarks.of(mean_mm)
        self._points = points
        self._front = np.clip((z + 80) / 55, 0, 1)
        self._brows = [
            self._distance(points[17:22]),
            self._distance(points[22:27][::-1]),
        ]
        self._eyes = [self._distance(points[36:42], closed=True)[0]]
        self._eyes.append(self._distance(points[42:48], closed=True)[0])
        outline = points[48:60]
        uv = cylinder_uv(outline) * (SKIN_SIDE - 1)
        lips = np.zeros((SKIN_SIDE, SKIN_SIDE), np.float32)
        cv2.fillPoly(lips, [np.round(uv * 16).astype(np.int32)], 1.0, lineType=cv2.LINE_AA, shift=4)
        self._lips = lips
        ear = (self._abs_x > 72) & (y > 2) & (y < 68)
        self._not_ear = cv2.GaussianBlur((~ear).astype(np.float32), (0, 0), 4)
        self._hair_height = hair_height_mm(self._at)
        cheek = np.exp(-(((self._abs_x - 36) / 17) ** 2) - ((y - 9) / 15) ** 2)
        nose = 0.8 * np.exp(-((x / 13) ** 2) - ((y - 7) / 13) ** 2) * (z > 11)
        self._blush = (cheek + nose).astype(np.float32)

    def _distance(self, line: np.ndarray, *, closed: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Distance of each texel to a polyline on the head, mm, and place along it, 0 to 1."""
        flat = np.array([1, 1, 0.3], np.float32)
        at, line = self._at * flat, line.astype(np.float32) * flat
        pairs = [(i, (i + 1) % len(line)) for i in range(len(line) if closed else len(line) - 1)]
        nearest = np.full(at.shape[:2], 900, np.float32)
        along = np.zeros_like(nearest)
        for k, (i, j) in enumerate(pairs):
            step = line[j] - line[i]
            t = np.clip((at - line[i]) @ step / (step @ step), 0, 1)
            distance = np.linalg.norm(at - line[i] - t[..., None] * step, axis=2)
            closer = distance < nearest
            nearest[closer] = distance[closer]
            along[closer] = ((k + t) / len(pairs))[closer]
        return nearest, along

    def paint(self, rng: np.random.Generator) -> Skin:
        """Draw one skin."""
        place = rng.uniform(0, len(_SKIN_TONES_RGB) - 1)
        low = min(int(place), len(_SKIN_TONES_RGB) - 2)
        blend = place - low
        base = _SKIN_TONES_RGB[low] * (1 - blend) + _SKIN_TONES_RGB[low + 1] * blend
        base = np.clip(base[::-1] / 255 * rng.uniform(0.92, 1.08, 3), 0.04, 0.98)
        base = base.astype(np.float32)
        tone = place / (len(_SKIN_TONES_RGB) - 1)
        hair = self._hair_colour(rng, tone)

        image = self._structure(rng, base)
        self._age(rng, image)
        self._lips_and_make_up(rng, image, base)
        self._paint_brows(rng, image, hair)
        beard = self._paint_beard(rng, image, hair)
        bald = rng.random() < 0.14
        hairline_mm = float(rng.uniform(-14, 34))
        if not bald:
            self._paint_scalp(rng, image, hair, hairline_mm)
        texture = (np.clip(image, 0.01, 1) * 255).astype(np.uint8)
        return Skin(texture, float(tone), base, hair, hairline_mm, bald, beard)

    def _hair_colour(self, rng: np.random.Generator, tone: float) -> np.ndarray:
        index = rng.integers(len(HAIR_RGB))
        if tone < 0.45 and rng.random() < 0.85:
            index = rng.integers(3)
        colour = HAIR_RGB[index][::-1] / 255 * rng.uniform(0.8, 1.2)
        return np.clip(colour, 0.01, 0.95).astype(np.float32)

    def _structure(self, rng: np.random.Generator, base: np.ndarray) -> np.ndarray:
        side = SKIN_SIDE
        blotches = fractal(rng, side, side, (3, 5, 9, 17)) * rng.uniform(0.01, 0.07)
        pores = fractal(rng, side, side, (48, 96, 192), fall=0.9) * rng.uniform(0.005, 0.05)
        image = base * (1 + blotches + pores)
        image += fractal(rng, side, side, (3, 6, 12, 24), fall=0.8, channels=3) * np.float32(
            rng.uniform(0, 0.012)
        )
        redness = np.float32(rng.uniform(0, 0.14) * base.mean())
        image += self._blush[..., None] * redness * np.array([-0.2, -0.25, 1], np.float32)
        if rng.random() < 0.3:
            spots = np.zeros((side, side), np.float32)
            for _ in range(rng.integers(3, 100)):
                at = (int(rng.uniform(0.1, 0.9) * side), int(rng.uniform(0.15, 0.8) * side))
                cv2.circle(spots, at, int(rng.integers(0, 4)), float(rng.uniform(0.1, 0.7)), -1)
            image *= 1 - cv2.GaussianBlur(spots, (0, 0), 0.8)[..., None] * rng.uniform(0.2, 0.7)
        return image

    def _age(self, rng: np.random.Generator, image: np.ndarray) -> None:
        x, y, _ = np.moveaxis(self._at, -1, 0)
        for distance in self._eyes:
            image *= (1 - rng.uniform(0, 0.3) * np.exp(-((distance / 10) ** 2)))[..., None]
        if rng.random() < 0.35:
            depth, width = rng.uniform(0, 0.35), rng.uniform(1.5, 3)
            fold = np.abs(self._abs_x - (14 + 0.62 * (13 - y)))
            along = smoothstep(y, -22, -8) * (1 - smoothstep(y, 8, 14)) * self._front
            image *= (1 - depth * np.exp(-((fold / width) ** 2)) * along)[..., None]
            waves = np.sin((y + 2 * np.cos(x / 17)) * rng.uniform(0.5, 1.0))
            forehead = smoothstep(y, 73, 84) * (1 - smoothstep(y, 108, 120)) * self._front
            image *= (1 - np.clip(waves * forehead, 0, 1) * rng.uniform(0, 0.2))[..., None]

    def _lips_and_make_up(
        self, rng: np.random.Generator, image: np.ndarray, base: np.ndarray
    ) -> None:
        kind = rng.random()
        if kind < 0.7:
            colour = base * np.array([0.68, 0.68, 0.95]) * rng.uniform(0.8, 1.05)
        elif kind < 0.88:
            low, high = (0.1, 0.05, 0.4), (0.4, 0.35, 0.85)
            colour = rng.uniform(low, high)
        else:
            colour = base * 0.92
        soft = cv2.GaussianBlur(self._lips, (0, 0), 1.0)[..., None]
        _blend(image, colour, soft * rng.uniform(0.5, 1))
        lashes, width = rng.uniform(0.2, 1), rng.uniform(1.3, 2.4)
        for distance in self._eyes:
            image *= (1 - 0.85 * lashes * np.exp(-((distance / width) ** 2)))[..., None]
        if rng.random() < 0.15:
            shadow, amount = rng.uniform(0.05, 0.6, 3), rng.uniform(0.2, 0.7)
            above = self._at[..., 1] > self._points[36:48, 1].mean()
            for distance in self._eyes:
                _blend(
                    image, shadow, (np.exp(-((distance / 6.5) ** 2)) * above * amount)[..., None]
                )

    def _paint_brows(self, rng: np.random.Generator, image: np.ndarray, hair: np.ndarray) -> None:
        colour = np.clip(hair * rng.uniform(0.5, 1.1), 0.01, 0.9)
        half_width = rng.uniform(2.2, 6.0)
        density = rng.uniform(0.35, 1) if rng.random() < 0.93 else rng.uniform(0.05, 0.3)
        hairs = fractal(rng, SKIN_SIDE, SKIN_SIDE, (64, 128, 192), fall=1.0)[..., 0]
        hairs = np.clip(1 + 0.4 * hairs, 0.3, 1.3)
        shift = round(rng.normal(0, 0.8))
        for distance, along in self._brows:
            profile = half_width * (0.55 + 0.6 * np.sqrt(along)) * np.clip(along / 0.08 + 0.3, 0, 1)
            mask = np.clip((profile - distance) / 2.0 + 0.5, 0, 1) * density * hairs
            _blend(image, colour, np.roll(np.clip(mask, 0, 1), shift, axis=0)[..., None])

    def _paint_beard(self, rng: np.random.Generator, image: np.ndarray, hair: np.ndarray) -> float:
        if rng.random() > 0.38:
            return 0.0
        x, y, z = np.moveaxis(self._at, -1, 0)
        ragged = 4 * fractal(rng, SKIN_SIDE, SKIN_SIDE, (5, 9, 18))[..., 0]
        edge = y + ragged + 30 * rng.uniform(-0.2, 0.3)
        jaw = 1 - smoothstep(edge - 0.35 * self._abs_x.clip(0, 70), -12, 6)
        jaw *= smoothstep(y, -84, -60) * smoothstep(z, -104, -76)
        moustache = np.exp(-((x / 26) ** 4) - ((y + 9) / 6) ** 4) * (z > 0)
        goatee = np.exp(-((x / 22) ** 4) - ((y + 47) / 22) ** 4) * (z > -22)
        kind = rng.integers(5)
        mask = (jaw, np.maximum(jaw, moustache), moustache, np.maximum(goatee, moustache))[
            kind if kind < 4 else 1
        ]
        mask = mask * (1 - self._lips)
        density = float(rng.uniform(0.1, 0.95))
        hairs = fractal(rng, SKIN_SIDE, SKIN_SIDE, (32, 64, 128, 192), fall=1.0)[..., 0]
        cover = np.clip(mask * density * np.clip(1 + 0.35 * hairs, 0.2, 1.4), 0, 1)
        _blend(image, np.clip(hair * rng.uniform(0.6, 1.1), 0, 1), cover[..., None])
        return density if kind in (0, 1, 4) else 0.0

    def _paint_scalp(
        self, rng: np.random.Generator, image: np.ndarray, hair: np.ndarray, hairline_mm: float
    ) -> None:
        ragged = 5 * fractal(rng, SKIN_SIDE, SKIN_SIDE, (6, 12, 24))[..., 0]
        hairs = fractal(rng, SKIN_SIDE, SKIN_SIDE, (32, 64, 128, 192), fall=1.0)[..., 0]
        cover = smoothstep(self._hair_height - hairline_mm + ragged, -3, 5) * rng.uniform(0.6, 1)
        cover = cover * np.clip(1 + 0.3 * hairs, 0.4, 1.3) * self._not_ear
        _blend(image, hair, np.clip(cover, 0, 1)[..., None])


def _blend(image: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> None:
    image += (np.asarray(colour, np.float32) - image) * cover.astype(np.float32)


def _place_of_texels(rig: Rig, mean_mm: np.ndarray) -> np.ndarray:
    """(SKIN_SIDE, SKIN_SIDE, 3) float32: which point of the average head each texel paints."""
    triangles = split_quads(rig.quads[rig.sheet & (rig.material == SKIN)])
    uv = cylinder_uv(mean_mm)
    # Triangles across the seam at the back of the head are left out; the fill below covers it.
    triangles = triangles[np.ptp(uv[triangles][..., 0], axis=1) < 0.5]
    radius = np.hypot(mean_mm[:, 0], mean_mm[:, 2] - _CYLINDER_AXIS_Z_MM)
    flat = np.column_stack([uv * (SKIN_SIDE - 1), radius]).astype(np.float32)
    buffer = VisibilityBuffer(SKIN_SIDE, SKIN_SIDE)
    face = buffer.draw(flat, MeshTopology(triangles, len(flat)))
    at = buffer.interpolate(face, mean_mm.astype(np.float32))
    empty = (buffer.triangle < 0).astype(np.uint8)
    _, label = cv2.distanceTransformWithLabels(
        empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros((label.max() + 1, 3), np.float32)
    filled = empty == 0
    source[label[filled]] = at[filled]
    return source[label]
