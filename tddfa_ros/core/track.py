"""Which fit belongs to which face: ids that last, loss that is noticed, faces that come back.

A track lives from frame to frame by its landmarks alone: they give the region that the regressor
sees next. It ends when that region or the fit stops making sense, when the regressor says "no
face", when it runs into the track of another face, or when several searches in a row find no face
where it is. A face that ended keeps its id for a while and gets it back if it reappears where its
motion would have taken it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.types import Detections, MorphableParams

# A followed face that this many searches in a row do not find is lost: one alone may miss a
# profile or a hand before the face.
SEARCHES_WITHOUT_FACE = 3
# Least overlap (intersection over union) of a followed face and a detection that mean the same.
SAME_FACE_IOU = 0.25
# Overlap from which two tracks follow one face.
DUPLICATE_IOU = 0.45
# A face that slips onto another one gives itself away by where it should be by its course, that is
# its motion so long ago.
COURSE_S = 0.3
# Where a search found a face tells better than its course where it was, unless that is longer ago.
SURE_S = 1.0
# Bounds of the landmarks may grow or shrink by this factor between two frames.
SIZE_JUMP = 2.0
# Least share of the landmarks that lies in the image.
LANDMARKS_INSIDE = 0.25
# A lost face is expected within this many face sizes of its extrapolated place, plus so many more
# a second.
REUNION_SIZES = 0.6
REUNION_SIZES_PER_S = 0.8


@dataclass(frozen=True)
class Observation:
    """One fit of one face in one frame.

    Attributes
    ----------
    params : the fit
    landmarks : (68, 3) float32, image space, pixels
    confidence : in [0, 1], or NaN
    """

    params: MorphableParams
    landmarks: np.ndarray
    confidence: float


@dataclass(frozen=True)
class Motion:
    """Where a face was, and where to it moved.

    Attributes
    ----------
    stamp_ns : time of the image
    bounds_xyxy : (4,) float32, of the landmarks, pixels
    velocity_px_s : (2,) float64, of the centre of the bounds, pixels a second, averaged
    """

    stamp_ns: int
    bounds_xyxy: np.ndarray
    velocity_px_s: np.ndarray

    @property
    def size(self) -> float:
        """Geometric mean of the sides of the bounds, pixels."""
        return float(np.sqrt(_centre_and_sides(self.bounds_xyxy)[1].prod()))

    def distance(self, centre: np.ndarray, stamp_ns: int) -> float:
        """Return how far `centre` is from where steady motion leads by then, in sizes."""
        seconds = (stamp_ns - self.stamp_ns) * 1e-9
        expected = _centre_and_sides(self.bounds_xyxy)[0] + self.velocity_px_s * seconds
        return float(np.linalg.norm(centre - expected)) / self.size

    def continued(self, bounds_xyxy: np.ndarray, stamp_ns: int) -> Motion:
        """Return the motion with one more image."""
        seconds = (stamp_ns - self.stamp_ns) * 1e-9
        velocity = self.velocity_px_s
        if seconds > 0:
            moved = _centre_and_sides(bounds_xyxy)[0] - _centre_and_sides(self.bounds_xyxy)[0]
            # Averaged over about four frames, since landmarks jitter from each to the next.
            velocity = 0.75 * velocity + 0.25 * moved / seconds
        return Motion(stamp_ns, bounds_xyxy, velocity)


@dataclass
class Track:
    """A face that is followed; :class:`Tracker` alone changes it.

    Attributes
    ----------
    first_stamp_ns, stamp_ns : when it was first and last seen
    box_in_bounds : (4,) float32, the detector's box in units of the bounds' sides from their centre
    motion : as followed last
    sure_motion : when a search last found it; what has been followed since may have drifted away
    course : motions of the last :data:`COURSE_S`, oldest first
    searches_without_face : searches in a row that did not find it
    detected : whether a detector found it in this very frame
    """

    id: str
    age_frames: int
    first_stamp_ns: int
    stamp_ns: int
    score: float
    observation: Observation
    box_in_bounds: np.ndarray
    motion: Motion
    sure_motion: Motion
    searches_without_face: int = 0
    detected: bool = True
    course: deque[Motion] = field(default_factory=deque)

    @property
    def box_xyxy(self) -> np.ndarray:
        """(4,) float32, pixels: the detector's box, moved and scaled with the landmarks."""
        return self.box_at(self.motion)

    @property
    def doubted(self) -> bool:
        """Whether the last search did not find it: what is followed may be no face any more."""
        return self.searches_without_face > 0

    def box_at(self, motion: Motion) -> np.ndarray:
        """(4,) float32, pixels: the detector's box around other bounds."""
        centre, sides = _centre_and_sides(motion.bounds_xyxy)
        return (np.tile(centre, 2) + self.box_in_bounds * np.tile(sides, 2)).astype(np.float32)

    def follow(self, seen: Observation, bounds_xyxy: np.ndarray, stamp_ns: int) -> None:
        """Take up one more image."""
        self.motion = self.motion.continued(bounds_xyxy, stamp_ns)
        self.observation = seen
        self.stamp_ns = stamp_ns
        self.age_frames += 1
        self.detected = False
        self.course.append(self.motion)
        while len(self.course) > 1 and stamp_ns - self.course[1].stamp_ns >= COURSE_S * 1e9:
            self.course.popleft()

    def motion_at(self, box_xyxy: np.ndarray) -> Motion:
        """Return the motion that had this box, a few images ago, or an even older one."""
        for motion in reversed(self.course):
            if np.array_equal(self.box_at(motion), box_xyxy):
                return motion
        return self.course[0] if self.course else self.motion

    def strayed(self, bounds_xyxy: np.ndarray, stamp_ns: int) -> float:
        """Return how far those bounds are from where its course leads by then, in face sizes."""
        before = self.course[0] if self.course else self.motion
        return before.distance(_centre_and_sides(bounds_xyxy)[0], stamp_ns)


class Tracker:
    """Follows the faces of one stream of images; knows neither images nor networks.

    Parameters
    ----------
    config : thresholds; :meth:`configure` changes them later
    """

    def __init__(self, config: PipelineConfig) -> None:
        self.active: list[Track] = []
        self._lost: list[Track] = []
        self._ids_given = 0
        self._stamp_ns: int | None = None
        self.configure(config)

    def configure(self, config: PipelineConfig) -> None:
        """Take over new thresholds; tracks live on."""
        self._config = config

    @property
    def awaits_return(self) -> bool:
        """Whether a face was lost so recently that it may come back."""
        return bool(self._lost)

    def reset(self) -> None:
        """Forget all faces, those to be reunited too. Ids are not given twice all the same."""
        self.active = []
        self._lost = []
        self._stamp_ns = None

    def begin_frame(self, stamp_ns: int) -> bool:
        """Open a frame; returns False if its stamp does not continue the stream.

        A stamp before the last one (a bag that starts over), or later by more than the time for
        which lost faces are remembered, forgets all faces.
        """
        previous_ns, self._stamp_ns = self._stamp_ns, stamp_ns
        if previous_ns is not None and not (
            0 <= stamp_ns - previous_ns <= max(self._config.lost_timeout_s, 1.0) * 1e9
        ):
            self.reset()
            self._stamp_ns = stamp_ns
            return False
        timeout_ns = self._config.lost_timeout_s * 1e9
        self._lost = [track for track in self._lost if stamp_ns - track.stamp_ns <= timeout_ns]
        return True

    def update(
        self, observations: Sequence[Observation | None], stamp_ns: int, image_hw: tuple[int, int]
    ) -> None:
        """Continue the active tracks.

        Parameters
        ----------
        observations : one for each of `active`, in its order; None where there was nothing to see
        image_hw : height and width, pixels
        """
        continued: list[tuple[float, Track, Observation, np.ndarray]] = []
        for track, seen in zip(self.active, observations, strict=True):
            if seen is not None and self._believable(seen, image_hw, track.motion):
                bounds = _bounds(seen.landmarks)
                continued.append((track.strayed(bounds, stamp_ns), track, seen, bounds))
            else:
                self._lose(track, stamp_ns)
        self.active = []
        # Two tracks on one face: the one that is farther off its course has lost its own.
        continued.sort(key=lambda entry: (entry[0], -entry[1].age_frames))
        for _, track, seen, bounds in continued:
            if self._follows(bounds):
                self._lose(track, stamp_ns)
            else:
                track.follow(seen, bounds, stamp_ns)
                self.active.append(track)
        self.active.sort(key=lambda track: track.id)

    def confirm(
        self, detections: Detections, threshold: float, boxes_by_id: dict[str, np.ndarray]
    ) -> list[int]:
        """Hold the tracks against what a search found, and say which detections are new faces.

        Parameters
        ----------
        detections : of the frame that was searched; faint ones still confirm a track
        threshold : least score of a new face; a fainter one may be a lost face that comes back
        boxes_by_id : (4,) boxes of the tracks in the frame that was searched, pixels

        Returns
        -------
        Indices of detections that are no face followed yet, best first, as many as there is room.
        """
        pairs = [
            (_iou(boxes_by_id[track.id], box), index, track)
            for index, box in enumerate(detections.boxes_xyxy)
            for track in self.active
            if track.id in boxes_by_id
        ]
        claimed: set[int] = set()
        confirmed: set[str] = set()
        for overlap, index, track in sorted(pairs, key=lambda entry: -entry[0]):
            if overlap < SAME_FACE_IOU:
                break
            if index in claimed or track.id in confirmed:
                continue
            claimed.add(index)
            confirmed.add(track.id)
            track.score = float(detections.scores[index])
            track.searches_without_face = 0
            track.sure_motion = track.motion_at(boxes_by_id[track.id])
        for track in list(self.active):
            if track.id in boxes_by_id and track.id not in confirmed:
                track.searches_without_face += 1
                if track.searches_without_face >= SEARCHES_WITHOUT_FACE:
                    self.active.remove(track)
                    self._lose(track, track.stamp_ns)
        new = [
            index
            for index, box in enumerate(detections.boxes_xyxy)
            if index not in claimed
            and (detections.scores[index] >= threshold or self._is_awaited(box))
            and all(_iou(track.box_xyxy, box) < SAME_FACE_IOU for track in self.active)
        ]
        return new[: max(0, self._config.max_faces - len(self.active))]

    def add(
        self,
        box_xyxy: np.ndarray,
        score: float,
        observation: Observation | None,
        stamp_ns: int,
        image_hw: tuple[int, int],
    ) -> None:
        """Begin one track; see :meth:`add_all`."""
        self.add_all([(box_xyxy, score, observation)], stamp_ns, image_hw)

    def add_all(
        self,
        found: Sequence[tuple[np.ndarray, float, Observation | None]],
        stamp_ns: int,
        image_hw: tuple[int, int],
    ) -> None:
        """Begin tracks at detections, under their old ids where they are faces that were lost.

        What is no face, or is one that is followed already, is left out.

        Parameters
        ----------
        found : (4,) box, score and fit of each, best first
        """
        new: list[tuple[np.ndarray, float, Observation, np.ndarray]] = []
        for box_xyxy, score, observation in found:
            if observation is None or not self._believable(observation, image_hw, None):
                continue
            bounds = _bounds(observation.landmarks)
            if not self._follows(bounds, [others for *_, others in new]):
                new.append((box_xyxy, score, observation, bounds))
        known = self._reunited([bounds for *_, bounds in new], stamp_ns)
        for (box_xyxy, score, observation, bounds), lost in zip(new, known, strict=True):
            self._begin(box_xyxy, score, observation, bounds, stamp_ns, lost)

    def _begin(
        self,
        box_xyxy: np.ndarray,
        score: float,
        observation: Observation,
        bounds: np.ndarray,
        stamp_ns: int,
        known: Track | None,
    ) -> None:
        centre, sides = _centre_and_sides(bounds)
        if known is None:
            self._ids_given += 1
        elif known in self._lost:
            self._lost.remove(known)
        else:
            self.active.remove(known)
            known.motion = known.sure_motion
        velocity_px_s = known.motion.velocity_px_s if known else np.zeros(2)
        motion = Motion(stamp_ns, bounds, velocity_px_s)
        self.active.append(
            Track(
                id=known.id if known else f"f{self._ids_given:05d}",
                age_frames=known.age_frames + 1 if known else 0,
                first_stamp_ns=known.first_stamp_ns if known else stamp_ns,
                stamp_ns=stamp_ns,
                score=score,
                observation=observation,
                box_in_bounds=(box_xyxy - np.tile(centre, 2)) / np.tile(sides, 2),
                motion=motion,
                sure_motion=motion,
                # What came back may prove to be another face: its old course is kept for a while.
                course=deque([known.motion, motion] if known else [motion]),
            )
        )

    def _lose(self, track: Track, stamp_ns: int) -> None:
        """Remember a face that is gone, with the last motion that was surely its own."""
        found_lately = stamp_ns - track.sure_motion.stamp_ns <= SURE_S * 1e9
        track.motion = track.sure_motion if found_lately else track.course[0]
        self._lost.append(track)

    def _believable(
        self, seen: Observation, image_hw: tuple[int, int], previous: Motion | None
    ) -> bool:
        if not np.isfinite(seen.landmarks).all():
            return False
        # A set without confidence gives NaN, which is below no threshold.
        if seen.confidence < self._config.confidence_threshold:
            return False
        x, y = seen.landmarks[:, 0], seen.landmarks[:, 1]
        inside = (x >= 0) & (y >= 0) & (x < image_hw[1]) & (y < image_hw[0])
        if inside.mean() < LANDMARKS_INSIDE:
            return False
        size = Motion(0, _bounds(seen.landmarks), np.zeros(2)).size
        if size < 1.0:
            return False
        return previous is None or 1 / SIZE_JUMP < size / previous.size < SIZE_JUMP

    def _follows(self, bounds: np.ndarray, others: Sequence[np.ndarray] = ()) -> bool:
        followed = [*(track.motion.bounds_xyxy for track in self.active), *others]
        return any(_iou(bounds, other) > DUPLICATE_IOU for other in followed)

    def _awaited(self) -> list[tuple[Track, Motion]]:
        """Faces that may come back, each with the motion that was surely its own."""
        lost = [(track, track.motion) for track in self._lost]
        return lost + [(track, track.sure_motion) for track in self.active if track.doubted]

    def _is_awaited(self, box_xyxy: np.ndarray) -> bool:
        """Whether an awaited face may have come back there."""
        now_ns = self._stamp_ns or 0
        return any(
            _reunion_cost(box_xyxy, track.box_at(motion), motion, now_ns) < np.inf
            for track, motion in self._awaited()
        )

    def _reunited(self, bounds: Sequence[np.ndarray], stamp_ns: int) -> list[Track | None]:
        """Return the awaited track of each face, or None: the choice that moves all the least."""
        awaited = self._awaited()
        costs = np.array(
            [
                [_reunion_cost(seen, motion.bounds_xyxy, motion, stamp_ns) for _, motion in awaited]
                for seen in bounds
            ]
        ).reshape(len(bounds), len(awaited))
        reunited: list[Track | None] = [None] * len(bounds)
        # A pair that cannot be costs more than all others together, so that no other is given up.
        rows, columns = linear_sum_assignment(np.minimum(costs, 1e6))
        for row, column in zip(rows, columns, strict=True):
            if costs[row, column] < np.inf:
                reunited[row] = awaited[column][0]
        return reunited


def _reunion_cost(
    seen_xyxy: np.ndarray, was_xyxy: np.ndarray, motion: Motion, stamp_ns: int
) -> float:
    """Distance from where a face is expected, in face sizes; infinite if it cannot be the same."""
    seen, seen_sides = _centre_and_sides(seen_xyxy)
    was, was_sides = _centre_and_sides(was_xyxy)
    ratio = float(np.sqrt(seen_sides.prod() / was_sides.prod()))
    if not 1 / SIZE_JUMP < ratio < SIZE_JUMP:
        return np.inf
    seconds = (stamp_ns - motion.stamp_ns) * 1e-9
    missed = np.linalg.norm(seen - was - motion.velocity_px_s * seconds)
    distance = float(missed / np.sqrt(was_sides.prod()))
    return distance if distance < REUNION_SIZES + REUNION_SIZES_PER_S * seconds else np.inf


def _bounds(landmarks: np.ndarray) -> np.ndarray:
    xy = landmarks[:, :2]
    return np.concatenate([xy.min(axis=0), xy.max(axis=0)])


def _centre_and_sides(box_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = box_xyxy[:2].astype(np.float64), box_xyxy[2:].astype(np.float64)
    return (low + high) / 2, np.maximum(high - low, 1e-6)


def _iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> float:
    width = min(a_xyxy[2], b_xyxy[2]) - max(a_xyxy[0], b_xyxy[0])
    height = min(a_xyxy[3], b_xyxy[3]) - max(a_xyxy[1], b_xyxy[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = float(width * height)
    area_a = float((a_xyxy[2] - a_xyxy[0]) * (a_xyxy[3] - a_xyxy[1]))
    area_b = float((b_xyxy[2] - b_xyxy[0]) * (b_xyxy[3] - b_xyxy[1]))
    return shared / max(area_a + area_b - shared, 1e-9)
