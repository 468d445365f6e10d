"""What a face looks like in few numbers, and whose face it is when two have met.

Places and motions alone cannot tell two people apart who passed close before each other. A small
picture of the face can: on one camera, over a second or two, that of the same face changes by a few
hundredths and that of another face differs by a tenth and more. It is no identification: it knows
nothing of a person beyond the last moments, and a turned head or other light change it as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np

from tddfa_ros.core.motion import centre_and_sides

SIDE = 8
# Faces whose centres are so many sizes apart hide nothing of each other.
CONTACT_SIZES = 1.6
# Images after a meeting that are averaged before anybody is compared.
SETTLING_FRAMES = 3
# Names are exchanged only if the pictures then differ by less than this share, and less by so much.
EXCHANGE_SHARE = 0.6
EXCHANGE_GAIN = 0.05
# A face that was lost and one that is new: so alike, they are the same; so unlike, they are not if
# there is anything else to doubt it.
ALIKE, UNLIKE = 0.06, 0.15
_NEWEST_SHARE = 0.1


def appearance_of(image_bgr: np.ndarray, bounds_xyxy: np.ndarray) -> np.ndarray | None:
    """(SIDE, SIDE, 3) float32 in [0, 1], the part of the image within bounds; None outside it."""
    height, width = image_bgr.shape[:2]
    left, top, right, bottom = (round(v) for v in np.clip(bounds_xyxy, -1e6, 1e6).tolist())
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if right - left < SIDE or bottom - top < SIDE:
        return None
    step = max(1, min(right - left, bottom - top) // (4 * SIDE))
    part = np.ascontiguousarray(image_bgr[top:bottom:step, left:right:step])
    small = cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.multiply(small, np.float32(1 / 255), dtype=np.float32)


def unlikeness(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square difference of two appearances, in [0, 1]."""
    difference = (first - second).ravel()
    return float(np.sqrt(difference @ difference / difference.size))


@dataclass
class _Memory:
    """Of one face.

    Attributes
    ----------
    known : what it looked like when nobody was near
    met : ids of the faces that came near since
    fresh, fresh_count : mean of what it has looked like since they parted
    """

    known: np.ndarray | None = None
    met: set[str] = field(default_factory=set)
    fresh: np.ndarray | None = None
    fresh_count: int = 0


class Appearances:
    """Remembers what each face looked like, and says whose names must be exchanged."""

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}

    def keep_only(self, ids: Iterable[str]) -> None:
        """Forget all other faces."""
        wanted = set(ids)
        self._memories = {k: memory for k, memory in self._memories.items() if k in wanted}

    def unlikeness(self, face_id: str, seen: np.ndarray | None) -> float | None:
        """Return how much `seen` differs from the known look of a face; None if one is unknown."""
        memory = self._memories.get(face_id)
        if memory is None or memory.known is None or seen is None:
            return None
        return unlikeness(memory.known, seen)

    def exchange(self, first_id: str, second_id: str) -> None:
        """Let what was seen since the meeting belong to the other one of two faces."""
        first, second = (self._memories.setdefault(k, _Memory()) for k in (first_id, second_id))
        first.fresh, second.fresh = second.fresh, first.fresh
        first.fresh_count, second.fresh_count = second.fresh_count, first.fresh_count

    def observe(
        self, seen: dict[str, tuple[np.ndarray, np.ndarray | None]], lost: Iterable[str]
    ) -> list[tuple[str, str]]:
        """Take up one image.

        Parameters
        ----------
        seen : bounds (4,) and appearance of the faces followed, by id
        lost : ids of faces that were lost and may come back

        Returns
        -------
        Pairs of a followed face and another one, followed or lost, whose names are to be exchanged;
        no face is in two of them.
        """
        self._note_meetings({face_id: bounds for face_id, (bounds, _) in seen.items()})
        settled = []
        for face_id, (_, look) in seen.items():
            memory = self._memories[face_id]
            if look is not None and memory.fresh_count >= 0:
                weight = 1 / (memory.fresh_count + 1)
                fresh = look if memory.fresh is None else memory.fresh
                memory.fresh = fresh + np.float32(weight) * (look - fresh)
                memory.fresh_count += 1
                if memory.fresh_count >= SETTLING_FRAMES:
                    settled.append(face_id)
        pairs, doubted = self._exchanges(settled, set(lost))
        for first, second in pairs:
            self.exchange(first, second)
        for face_id in settled:
            if face_id not in doubted:
                self._learn(face_id)
        return pairs

    def _note_meetings(self, bounds_by_id: dict[str, np.ndarray]) -> None:
        places = {k: centre_and_sides(bounds) for k, bounds in bounds_by_id.items()}
        near: dict[str, set[str]] = {k: set() for k in places}
        ids = list(places)
        for row, first in enumerate(ids):
            centre, sides = places[first]
            for second in ids[row + 1 :]:
                other, other_sides = places[second]
                reach = CONTACT_SIZES * max(*sides, *other_sides)
                if abs(centre[0] - other[0]) < reach and abs(centre[1] - other[1]) < reach:
                    near[first].add(second)
                    near[second].add(first)
        for face_id, others in near.items():
            memory = self._memories.setdefault(face_id, _Memory())
            memory.met |= others
            if others:
                memory.fresh, memory.fresh_count = None, -1
            elif memory.fresh_count < 0:
                memory.fresh_count = 0

    def _exchanges(
        self, settled: list[str], lost: set[str]
    ) -> tuple[list[tuple[str, str]], set[str]]:
        """Pairs to exchange, and who looks like somebody that has not settled yet."""
        found: list[tuple[float, str, str]] = []
        doubted: set[str] = set()
        for face_id in settled:
            memory = self._memories[face_id]
            if memory.known is None or memory.fresh is None:
                continue
            for other_id in memory.met:
                other = self._memories.get(other_id)
                if other is None or other.known is None:
                    continue
                as_is = unlikeness(memory.fresh, memory.known)
                changed = unlikeness(memory.fresh, other.known)
                if not _better(as_is, changed):
                    continue
                if other_id in lost:
                    found.append((changed - as_is, face_id, other_id))
                elif other_id not in settled:
                    doubted.add(face_id)
                else:
                    other_now = other.known if other.fresh is None else other.fresh
                    as_is += unlikeness(other_now, other.known)
                    changed += unlikeness(other_now, memory.known)
                    if _better(as_is / 2, changed / 2):
                        found.append(((changed - as_is) / 2, face_id, other_id))
        pairs: list[tuple[str, str]] = []
        taken: set[str] = set()
        for _, first, second in sorted(found):
            if first not in taken and second not in taken:
                pairs.append((first, second))
                taken |= {first, second}
        return pairs, doubted

    def _learn(self, face_id: str) -> None:
        memory = self._memories[face_id]
        if memory.fresh is None:
            return
        if memory.known is None or memory.met:
            memory.known = memory.fresh
        else:
            memory.known = memory.known + np.float32(_NEWEST_SHARE) * (memory.fresh - memory.known)
        memory.met = set()
        memory.fresh, memory.fresh_count = None, SETTLING_FRAMES - 1


def _better(as_is: float, changed: float) -> bool:
    return changed < EXCHANGE_SHARE * as_is and as_is - changed > EXCHANGE_GAIN
