"""The MakeHuman head (CC0): mesh, morph targets, and the average adult made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tddfa_ros.core.array_file import read_bounded, read_npz
from tddfa_ros.core.errors import ModelSetError, UnsafeFileError
from tddfa_ros.training import makehuman_files

ETHNICITIES = ("african", "asian", "caucasian")
SEXES = ("female", "male")

SKIN, EYE, TEETH, MOUTH = 0, 1, 2, 3
"""Materials of the rig's faces; the mouth's lining and the tongue share one."""

_MOST_BYTES = 20_000_000
"""Of the head's file."""
TEETH_PUSHED_BACK = 0.03
"""The base mesh's teeth pierce closed lips by this much, in MakeHuman units."""


@dataclass(frozen=True)
class MakeHumanHead:
    """The mesh in MakeHuman units (about a decimetre), y up, z to the front.

    Attributes
    ----------
    mean_adult : (n, 3) float32, the base plus the mean of six young adults
    base : (n, 3) float32
    quads : (q, 4) int32, without the eyelashes
    quads_uv : (q, 4) int32 into `uv`
    uv : (u, 2) float32
    material : (q,) int32, one of SKIN, EYE, TEETH, MOUTH
    on_face_sheet : (q,) bool, outer skin: neither inside of the lids nor lining of the mouth
    targets : name -> (n, 3) float32 displacement at weight 1
    mirror : (n,) int32, the vertex at -x
    compact : (vertices of the file,) int32, index here of each of its vertices, or -1
    """

    mean_adult: np.ndarray
    base: np.ndarray
    quads: np.ndarray
    quads_uv: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    on_face_sheet: np.ndarray
    targets: dict[str, np.ndarray]
    mirror: np.ndarray
    compact: np.ndarray

    def unit(self, name: str) -> np.ndarray:
        """(n, 3) displacement of an expression unit, averaged over the three ethnicities."""
        return sum(self.targets[f"expression/units/{e}/{name}"] for e in ETHNICITIES) / len(
            ETHNICITIES
        )

    def mirrored(self, displacement: np.ndarray) -> np.ndarray:
        """The displacement as it looks in a mirror at x = 0."""
        return displacement[self.mirror] * np.array([-1, 1, 1], np.float32)


def load(path: str | Path) -> MakeHumanHead:
    """Read the packed head ``makehuman_head_cc0.npz``, or a folder with a checkout of MakeHuman.

    Raises
    ------
    ModelSetError
        The file is missing or lacks an array.
    """
    if Path(path).is_dir():
        return _assemble(makehuman_files.read_folder(path, makehuman_files.manifest()))
    try:
        arrays = read_npz(read_bounded(Path(path), _MOST_BYTES), str(path), 20 * _MOST_BYTES)
    except (OSError, UnsafeFileError) as error:
        raise ModelSetError(f"cannot read the MakeHuman head {path}: {error}") from error
    missing = {"vertices", "uv", "quads", "quads_uv", "quad_group", "target_names"} - set(arrays)
    if missing:
        raise ModelSetError(f"{path} lacks {', '.join(sorted(missing))}; take the packed head file")
    return _assemble(arrays)


def _assemble(arrays: dict[str, np.ndarray]) -> MakeHumanHead:
    group = arrays["quad_group"]
    keep = np.array(["lashes" not in name for name in group])
    group, quads, quads_uv = group[keep], arrays["quads"][keep], arrays["quads_uv"][keep]
    used = np.unique(quads)
    compact = np.full(len(arrays["vertices"]), -1, np.int32)
    compact[used] = np.arange(len(used))
    quads = compact[quads]
    centre_uv = arrays["uv"][quads_uv].mean(axis=1)
    body = group == "body"
    material = np.full(len(quads), SKIN, np.int32)
    material[np.array([name.endswith("-eye") for name in group])] = EYE
    material[np.array([name.endswith("-teeth") for name in group])] = TEETH
    lining = body & (centre_uv[:, 1] < 0.15) & (centre_uv[:, 0] > 0.7)
    material[(group == "helper-tongue") | lining] = MOUTH
    # The artists' atlas: the head's outer skin is the large island on the right, the neck a strip.
    sheet = (centre_uv[:, 0] > 0.63) & (centre_uv[:, 1] > 0.15) & (centre_uv[:, 1] < 0.83)
    sheet |= (centre_uv[:, 0] > 0.2) & (centre_uv[:, 0] < 0.6) & (centre_uv[:, 1] > 0.85)
    sheet &= body

    base = arrays["vertices"][used].astype(np.float32)
    base[np.unique(quads[material == TEETH]), 2] -= TEETH_PUSHED_BACK
    deltas = arrays["target_deltas"][:, used].astype(np.float32)
    targets = dict(zip((str(n) for n in arrays["target_names"]), deltas, strict=True))
    young = [targets[f"macrodetails/{e}-{s}-young"] for e in ETHNICITIES for s in SEXES]
    return MakeHumanHead(
        mean_adult=base + sum(young) / len(young),
        base=base,
        quads=quads,
        quads_uv=quads_uv.astype(np.int32),
        uv=arrays["uv"].astype(np.float32),
        material=material,
        on_face_sheet=sheet,
        targets=targets,
        mirror=mirror_vertices(base),
        compact=compact,
    )


def mirror_vertices(vertices: np.ndarray) -> np.ndarray:
    """(n,) int32: for each vertex the one at -x; both must lie at the same place to 1e-4.

    Raises
    ------
    ModelSetError
        The mesh is not symmetric.
    """
    keys = np.round(vertices * 1e4).astype(np.int64)
    flipped = keys * np.array([-1, 1, 1])
    # Vertices at the same place (lids that touch) are told apart by their order.
    order, flipped_order = (np.lexsort((np.arange(len(k)), *k.T)) for k in (keys, flipped))
    mirror = np.empty(len(vertices), np.int32)
    mirror[flipped_order] = order
    if np.abs(keys[mirror] - flipped).max() > 1:
        raise ModelSetError("the mesh is not symmetric about x = 0; use the original base mesh")
    return mirror
