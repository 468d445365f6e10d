"""One face that is followed: what was seen of it, and where it was."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from tddfa_ros.core.motion import Motion, bounds_of, centre_and_sides
from tddfa_ros.core.types import MorphableParams

# A face that slips onto another one gives itself away by where it should be by its course, that is
# its motion so long ago.
COURSE_S = 0.15


@dataclass(frozen=True)
class Observation:
    """One fit of one face in one frame.

    Attributes
    ----------
    params : the fit
    landmarks : (68, 3) float32, image space, pixels
    confidence : in [0, 1], or NaN
    look : of :func:`appearance.appearance_of`, if known
    """

    params: MorphableParams
    landmarks: np.ndarray
    confidence: float
    look: np.ndarray | None = None

    def change_to(self, other: Observation) -> float:
        """Return how far another fit has the landmarks elsewhere in the image.

        The mean distance in units of this one's size, the root of the area of its bounds.
        """
        away = np.linalg.norm(other.landmarks[:, :2] - self.landmarks[:, :2], axis=1)
        sides = centre_and_sides(bounds_of(self.landmarks))[1]
        return float(away.mean() / max(np.sqrt(np.prod(sides)), 1.0))


@dataclass(eq=False)
class Track:
    """A face that is followed; :class:`Tracker` alone changes it. Equal to itself alone.

    Attributes
    ----------
    first_frame, frame : the tracker's count of frames when it was first and last seen
    first_stamp_ns, stamp_ns : when that was
    box_in_bounds : (4,) float32, the detector's box in units of the bounds' sides from their centre
    motion : as followed last
    sure_motion : when a search last found it; what has been followed since may have drifted away
    course : motions of the last :data:`COURSE_S`, oldest first
    expected : of a lost face, the motions that may lead to where it comes back
    searches_without_face : searches in a row that did not find it
    found_again : whether a search has found it since the one that it began with
    begins : whether it begins in this very frame, or comes back
    cut_off : of a lost face: the place where it was seen is not shown any more
    """

    id: str
    first_frame: int
    frame: int
    first_stamp_ns: int
    stamp_ns: int
    score: float
    observation: Observation
    box_in_bounds: np.ndarray
    motion: Motion
    sure_motion: Motion
    searches_without_face: int = 0
    found_again: bool = False
    begins: bool = True
    cut_off: bool = False
    course: deque[Motion] = field(default_factory=deque)
    expected: tuple[Motion, ...] = ()

    @property
    def age_frames(self) -> int:
        """Frames since it was first seen, those while it was lost too; 0 in the first."""
        return self.frame - self.first_frame

    @property
    def box_xyxy(self) -> np.ndarray:
        """(4,) float32, pixels: the detector's box, moved and scaled with the landmarks."""
        return self.box_at(self.motion)

    def box_at(self, motion: Motion) -> np.ndarray:
        """(4,) float32, pixels: the detector's box around other bounds."""
        centre, sides = centre_and_sides(motion.bounds_xyxy)
        return (np.tile(centre, 2) + self.box_in_bounds * np.tile(sides, 2)).astype(np.float32)

    def follow(self, seen: Observation, bounds_xyxy: np.ndarray, frame: int, stamp_ns: int) -> None:
        """Take up one more image."""
        self.motion = self.motion.continued(bounds_xyxy, stamp_ns)
        self.observation = seen
        self.stamp_ns = stamp_ns
        self.frame = frame
        self.begins = False
        self.course.append(self.motion)
        while len(self.course) > 1 and stamp_ns - self.course[1].stamp_ns >= COURSE_S * 1e9:
            self.course.popleft()

    def exchange_names(self, other: Track) -> None:
        """Have each be the face that the other one was taken for."""
        self.id, other.id = other.id, self.id
        self.first_frame, other.first_frame = other.first_frame, self.first_frame
        self.first_stamp_ns, other.first_stamp_ns = other.first_stamp_ns, self.first_stamp_ns

    def strayed(self, bounds_xyxy: np.ndarray, stamp_ns: int) -> float:
        """Return how far those bounds are from where its course leads by then, in face sizes.

        The least of all motions of the course counts, since a face may have turned round in it.
        """
        centre = centre_and_sides(bounds_xyxy)[0]
        return min(motion.distance(centre, stamp_ns) for motion in self.course)


def box_in_bounds(box_xyxy: np.ndarray, bounds_xyxy: np.ndarray) -> np.ndarray:
    """(4,): a box from the bounds' centre in units of their sides, see :meth:`Track.box_at`."""
    centre, sides = centre_and_sides(bounds_xyxy)
    return (box_xyxy - np.tile(centre, 2)) / np.tile(sides, 2)
