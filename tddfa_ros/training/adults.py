"""Draws plausible adults from the MakeHuman identity targets."""

from __future__ import annotations

import numpy as np

from tddfa_ros.training.makehuman import ETHNICITIES, SEXES, MakeHumanHead

_SPREAD = {
    "nose": 0.28,
    "mouth": 0.25,
    "chin": 0.3,
    "forehead": 0.2,
    "eyebrows": 0.3,
    "head": 0.25,
    "neck": 0.25,
    "cheek": 0.3,
    "eyes": 0.28,
    "ears": 0.25,
}
"""Standard deviation of a target's weight; at full range faces become caricatures."""

_SIDES_DIFFER = 0.06
_HEAD_SHAPES = ("diamond", "invertedtriangular", "oval", "rectangular", "round", "square")
_OPPOSITES = (
    ("-decr", "-incr"),
    ("-down", "-up"),
    ("-in", "-out"),
    ("-backward", "-forward"),
    ("-concave", "-convex"),
    ("-compress", "-uncompress"),
)
_MOVES_THE_HEAD = ("head-trans", "head-angle", "neck-trans", "head-age", "head-fat")
_BUILDS = (
    "minmuscle-maxweight",
    "maxmuscle-maxweight",
    "minmuscle-minweight",
    "maxmuscle-averageweight",
    "averagemuscle-maxweight",
)


class AdultSampler:
    """Draws whole neutral heads, aligned to the average adult by the face.

    Parameters
    ----------
    head : the mesh and its targets
    face_vertices : (k,) indices by which a sample is aligned (similarity), so that stature and
        posture do not enter the shape components
    """

    def __init__(self, head: MakeHumanHead, face_vertices: np.ndarray) -> None:
        self._head = head
        self._face = face_vertices
        self._axes = _axes(head)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """(n, 3) float32, MakeHuman units."""
        vertices = self._head.base.copy()
        for name, weight in self._weights(rng).items():
            vertices += np.float32(weight) * self._head.targets[name]
        return align(vertices, self._head.mean_adult, self._face)

    def _weights(self, rng: np.random.Generator) -> dict[str, float]:
        weights: dict[str, float] = {}
        targets = self._head.targets

        def add(name: str, weight: float) -> None:
            if weight > 0 and name in targets:
                weights[name] = weights.get(name, 0.0) + weight

        mixture = rng.dirichlet([0.4] * 6)
        old = rng.beta(0.6, 1.2) if rng.random() < 0.75 else 0.0
        child = rng.uniform(0, 0.35) if rng.random() < 0.1 else 0.0
        old *= 1 - child
        ages = {"young": 1 - old - child, "old": old, "child": child}
        kinds = [(e, s) for e in ETHNICITIES for s in SEXES]
        sex_share = {"female": float(mixture[0::2].sum()), "male": float(mixture[1::2].sum())}
        for (ethnicity, sex), share in zip(kinds, mixture, strict=True):
            for age, age_share in ages.items():
                add(f"macrodetails/{ethnicity}-{sex}-{age}", share * age_share)
        if rng.random() < 0.7:
            build, amount = _BUILDS[rng.integers(len(_BUILDS))], rng.uniform(0, 0.9)
            for sex, share in sex_share.items():
                for age, age_share in ages.items():
                    add(f"macrodetails/universal-{sex}-{age}-{build}", amount * share * age_share)
        for spread, sides in self._axes:
            middle = rng.normal(0, spread)
            for negative, positive in sides:
                value = float(
                    np.clip(middle + rng.normal(0, _SIDES_DIFFER * (len(sides) > 1)), -1, 1)
                )
                if negative is None:
                    add(positive, 0.6 * value)
                else:
                    add(positive if value > 0 else negative, abs(value))
        for shape in rng.choice(_HEAD_SHAPES, 2, replace=False):
            add(f"head/head-{shape}", rng.uniform(0, 0.4))
        return weights


def _axes(head: MakeHumanHead) -> list[tuple[float, list[tuple[str | None, str]]]]:
    """(spread, [(negative target or None, positive target)]) with both sides of pairs together."""
    axes: dict[str, list[tuple[str | None, str]]] = {}
    for name in head.targets:
        region, _, target = name.partition("/")
        if region not in _SPREAD or any(s in target for s in _MOVES_THE_HEAD):
            continue
        if target.removeprefix("head-") in (*_HEAD_SHAPES, "triangular"):
            continue
        pair: tuple[str | None, str] | None = (None, name)
        for negative, positive in _OPPOSITES:
            if name.endswith(negative):
                pair = None
            elif name.endswith(positive) and name.removesuffix(positive) + negative in head.targets:
                pair = (name.removesuffix(positive) + negative, name)
        if region in ("nose", "mouth") and target.endswith("-trans-out"):
            continue  # sideways: a crooked face, not a person's shape
        if pair is not None:
            axes.setdefault(name.replace("/l-", "/*-").replace("/r-", "/*-"), []).append(pair)
    return [(_SPREAD[key.partition("/")[0]], sides) for key, sides in axes.items()]


def align(vertices: np.ndarray, target: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Similarity transform of `vertices` that brings ``vertices[by]`` nearest to ``target[by]``.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    1991.
    """
    source, goal = vertices[by].astype(np.float64), target[by].astype(np.float64)
    source_mean, goal_mean = source.mean(axis=0), goal.mean(axis=0)
    source, goal = source - source_mean, goal - goal_mean
    u, s, vt = np.linalg.svd(goal.T @ source)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = (s * sign).sum() / (source**2).sum()
    moved = scale * (vertices - source_mean) @ rotation.T + goal_mean
    return moved.astype(np.float32)
