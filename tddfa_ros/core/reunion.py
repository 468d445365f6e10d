"""Which lost face one is that was just found: by where that may have gone and how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tddfa_ros.core.appearance import ALIKE, UNLIKE, Appearances, unlikeness
from tddfa_ros.core.cut import shows_another
from tddfa_ros.core.followed import Track
from tddfa_ros.core.motion import Motion, reunion_cost

# Where a lost face may come back that looks as it did: farther from where it is expected; and how
# many face sizes count as much as the greatest difference of two looks.
ALIKE_REACH = 3.0
LOOK_SIZES = 4.0


def load_assignment() -> tuple[Any, Any]:
    """Import what tells which lost face came back: scipy's sparse matrices and graphs of them.

    They take half a second to load, and a still picture needs none of it. Call this before a live
    stream begins: its images would wait when the first lost face is found again.
    """
    # scipy.optimize has the same for dense matrices, but takes three times as long to load.
    from scipy import sparse
    from scipy.sparse import csgraph

    return sparse, csgraph


def _least_costly(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pairs, one for each row or each column, that cost least in all."""
    sparse, csgraph = load_assignment()
    # A cost of nothing would be no pair at all; all choices have as many pairs, so 1 more in each
    # changes no choice.
    return csgraph.min_weight_full_bipartite_matching(sparse.csr_array(costs + 1))


def reunited(
    found: Sequence[tuple[np.ndarray, np.ndarray | None, float]],
    awaited: Sequence[tuple[Track, tuple[Motion, ...]]],
    appearances: Appearances,
    stamp_ns: int,
    frame: int,
) -> list[Track | None]:
    """Return the awaited track of each face: the choice of least ways and changes of looks.

    Parameters
    ----------
    found : bounds (4,), look, and how unlike at most the awaited face may have looked
    awaited : tracks, each with the motions that may have led to where its face is
    appearances : of the awaited, by their ids
    stamp_ns, frame : of the present image
    """
    chosen: list[Track | None] = [None] * len(found)
    if not awaited:
        return chosen
    costs = np.full((len(found), len(awaited)), np.inf)
    for row, (bounds, look, most) in enumerate(found):
        for column, (track, motions) in enumerate(awaited):
            unlike = appearances.unlikeness(track.id, look)
            reach = ALIKE_REACH if unlike is not None and unlike < ALIKE else 1.0
            if track.cut_off and not _looks_the_same(track, look, unlike, frame):
                continue
            if unlike is not None and unlike > most:
                continue
            costs[row, column] = LOOK_SIZES * (unlike or 0.0) + min(
                reunion_cost(bounds, motion.bounds_xyxy, motion, stamp_ns, reach)
                for motion in motions
            )
    # A pair that cannot be costs more than all others together, so that no other is given up.
    rows, columns = _least_costly(np.minimum(costs, 1e6))
    for row, column in zip(rows, columns, strict=True):
        if costs[row, column] < np.inf:
            chosen[row] = awaited[column][0]
    return chosen


def _looks_the_same(
    track: Track, look: np.ndarray | None, unlike: float | None, frame: int
) -> bool:
    """Whether a face is one that was lost in another place, where only looks can tell.

    From one image to the next they correlate, in any light; two people in one light are not so
    unlike. Later a head has turned.
    """
    before = track.observation.look
    if before is None or look is None:
        return False
    if track.frame >= frame - 1:
        return not shows_another(before, look)
    # One that was seen in an image or two is known by its last look alone.
    return (unlikeness(before, look) if unlike is None else unlike) <= UNLIKE
