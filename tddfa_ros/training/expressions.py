"""Named, signed expression components, and how faces in pictures draw them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tddfa_ros.training.makehuman import MakeHumanHead

REGRESSED = (
    "jaw_open",
    "smile",
    "frown",
    "lips_part",
    "upper_lip_raise",
    "mouth_stretch",
    "pucker",
    "funnel",
    "lips_press",
    "nose_wrinkle",
    "brow_raise_left",
    "brow_raise_right",
    "brow_lower_left",
    "brow_lower_right",
    "blink_left",
    "blink_right",
)
"""Components of the face model, in the order of the regressor's outputs.

At 1 each shows what its name says, at 0 nothing; left and right are the subject's. A negative
blink is a widened eye, a negative brow_lower lifts the inner end of the brow.
"""

EXTRA = (
    "eye_wide_left",
    "eye_wide_right",
    "squint_left",
    "squint_right",
    "lips_evert",
    "mouth_raise",
    "lower_lip_lower",
    "lips_tighten",
    "neck_tension",
    "nose_narrow",
    "brow_inner_left",
    "brow_inner_right",
    "brow_outer_left",
    "brow_outer_right",
)
"""Components of the rig alone: they vary the pictures, the face model approximates them."""

_MIDDLE = {
    "jaw_open": "mouth-open",
    "smile": "mouth-corner-puller",
    "frown": "mouth-depression",
    "lips_part": "mouth-part-later",
    "upper_lip_raise": "mouth-upward-retraction",
    "mouth_stretch": "mouth-retraction",
    "pucker": "mouth-pursing",
    "funnel": "mouth-protusion",
    "lips_press": "mouth-compression",
    "lips_evert": "mouth-eversion",
    "mouth_raise": "mouth-elevation",
    "lower_lip_lower": "mouth-depression-retraction",
    "lips_tighten": "mouth-parling",
    "neck_tension": "neck-platysma",
    "nose_narrow": "nose-compression",
}
_SIDED = {
    "brow_raise": ("eyebrows-{}-up", "eyebrows-{}-extern-up"),
    "brow_lower": ("eyebrows-{}-down",),
    "blink": ("eye-{}-closure",),
    "eye_wide": ("eye-{}-opened-up",),
    "squint": ("eye-{}-slit",),
    "brow_inner": ("eyebrows-{}-inner-up",),
    "brow_outer": ("eyebrows-{}-extern-up",),
}
_CLOSES_AT = 0.92
"""The MakeHuman lids meet before weight 1 and then overlap; a blink of 1 should just close."""


def components(head: MakeHumanHead) -> dict[str, np.ndarray]:
    """Name -> (n, 3) float32 displacement, exact mirror images left and right."""
    result = {}
    for name in (*REGRESSED, *EXTRA):
        stem, _, side = name.rpartition("_")
        if side in ("left", "right"):
            delta = sum(_symmetric_unit(head, unit, side) for unit in _SIDED[stem])
            result[name] = delta * (_CLOSES_AT if stem == "blink" else 1.0)
        elif name == "nose_wrinkle":
            both = [head.unit(f"nose-{s}-elevation") for s in ("left", "right")]
            result[name] = (both[0] + both[1] + head.mirrored(both[0] + both[1])) / 2
        else:
            delta = head.unit(_MIDDLE[name])
            result[name] = (delta + head.mirrored(delta)) / 2
    return {name: np.asarray(delta, np.float32) for name, delta in result.items()}


def _symmetric_unit(head: MakeHumanHead, unit: str, side: str) -> np.ndarray:
    other = {"left": "right", "right": "left"}[side]
    return (head.unit(unit.format(side)) + head.mirrored(head.unit(unit.format(other)))) / 2


def draw(rng: np.random.Generator) -> dict[str, float]:
    """Weights of one face's expression by name; names that are absent are 0.

    A fifth of the faces are at rest; grins that show the teeth, full blinks of one or both eyes
    and wide-open mouths are far more frequent than in life.
    """
    weights: dict[str, float] = {}

    def add(name: str, value: float) -> None:
        weights[name] = weights.get(name, 0.0) + float(value)

    def add_both(stem: str, value: float) -> None:
        for side in ("left", "right"):
            add(f"{stem}_{side}", value * rng.uniform(0.85, 1.1))

    if rng.random() < 0.18:
        return weights
    _draw_mouth(rng, add)
    _draw_eyes(rng, add, add_both)
    return weights


def _draw_mouth(rng: np.random.Generator, add: Callable[[str, float], None]) -> None:
    kind = rng.random()
    if kind < 0.22:  # a grin with teeth
        add("smile", rng.uniform(0.5, 1.2))
        add("lips_part", rng.uniform(0.2, 0.9))
        add("upper_lip_raise", rng.uniform(0, 0.5))
        add("jaw_open", rng.beta(1, 4))
        add("mouth_stretch", rng.uniform(0, 0.5))
    elif kind < 0.36:
        add("smile", rng.uniform(0, 1.0))
    elif kind < 0.56:
        add("jaw_open", rng.beta(1.1, 1.6))
        add("smile", max(0.0, rng.normal(0, 0.4)))
        add("mouth_stretch", max(0.0, rng.normal(0, 0.3)))
    elif kind < 0.66:
        add("pucker", rng.uniform(0.2, 1.0))
        add("jaw_open", max(0.0, rng.normal(0, 0.2)))
    elif kind < 0.74:
        add("funnel", rng.uniform(0.2, 0.9))
        add("jaw_open", max(0.0, rng.normal(0.1, 0.25)))
    elif kind < 0.84:
        add("frown", rng.uniform(0.2, 1.1))
    rare = ("frown", "lips_part", "upper_lip_raise", "mouth_stretch", "lips_press", "nose_wrinkle")
    rare += ("lips_evert", "mouth_raise", "lower_lip_lower", "lips_tighten", "neck_tension")
    for name in (*rare, "nose_narrow"):
        if rng.random() < 0.1:
            add(name, rng.uniform(0, 0.8))


def _draw_eyes(
    rng: np.random.Generator,
    add: Callable[[str, float], None],
    add_both: Callable[[str, float], None],
) -> None:
    kind = rng.random()
    if kind < 0.1:
        add("blink_left", 1.0)
        add("blink_right", 1.0)
    elif kind < 0.32:
        add_both("blink", rng.uniform(0, 0.9))
    elif kind < 0.38:
        add(rng.choice(["blink_left", "blink_right"]), rng.uniform(0.6, 1.0))
    elif kind < 0.52:
        add_both("eye_wide", rng.uniform(0, 1.0))
    elif kind < 0.62:
        add_both("squint", rng.uniform(0, 0.9))
    for stem in ("brow_raise", "brow_lower", "brow_inner", "brow_outer"):
        if rng.random() < 0.2:
            add_both(stem, rng.uniform(0, 0.9))
    if rng.random() < 0.06:
        add(rng.choice(["brow_raise_left", "brow_raise_right"]), rng.uniform(0.2, 0.9))
