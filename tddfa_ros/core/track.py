"""Which fit belongs to which face: ids that last, loss that is noticed, faces that come back.

A track lives from frame to frame by its landmarks alone: they give the region that the regressor
sees next. It ends when that region or the fit stops making sense, when the regressor says "no
face", when it runs into the track of another face, or when several searches in a row find no face
where it is. A face that ended keeps its id for a while and gets it back if it reappears where its
motion would have taken it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.types import Detections, MorphableParams

# A followed face that this many searches in a row do not find is lost: one alone may miss a
# profile or a hand before the face.
SEARCHES_WITHOUT_FACE = 3
# Least overlap (intersection over union) of a followed face and a detection that mean the same.
SAME_FACE_IOU = 0.25
# Overlap from which two tracks follow one face.
DUPLICATE_IOU = 0.6
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

    @property
    def box_xyxy(self) -> np.ndarray:
        """(4,) float32, pixels: the detector's box, moved and scaled with the landmarks."""
        centre, sides = _centre_and_sides(self.motion.bounds_xyxy)
        return (np.tile(centre, 2) + self.box_in_bounds * np.tile(sides, 2)).astype(np.float32)


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
        continued: list[tuple[float, Track, Observation]] = []
        for track, seen in zip(self.active, observations, strict=True):
            if seen is not None and self._believable(seen, image_hw, track.motion):
                centre, _ = _centre_and_sides(_bounds(seen.landmarks))
                continued.append((track.motion.distance(centre, stamp_ns), track, seen))
            else:
                self._lost.append(track)
        self.active = []
        # Two tracks on one face: the one that had to jump farther has lost its own.
        for _, track, seen in sorted(continued, key=lambda entry: (entry[0], -entry[1].age_frames)):
            bounds = _bounds(seen.landmarks)
            if self._follows(bounds):
                self._lost.append(track)
            else:
                track.motion = track.motion.continued(bounds, stamp_ns)
                track.observation = seen
                track.stamp_ns = stamp_ns
                track.age_frames += 1
                track.detected = False
                self.active.append(track)
        self.active.sort(key=lambda track: track.id)

    def confirm(
        self, detections: Detections, threshold: float, boxes_by_id: dict[str, np.ndarray]
    ) -> list[int]:
        """Hold the tracks against what a search found, and say which detections are new faces.

        Parameters
        ----------
        detections : of the frame that was searched; faint ones still confirm a track
        threshold : least score of a new face
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
            track.sure_motion = track.motion
        for track in list(self.active):
            if track.id in boxes_by_id and track.id not in confirmed:
                track.searches_without_face += 1
                if track.searches_without_face >= SEARCHES_WITHOUT_FACE:
                    self.active.remove(track)
                    self._lost.append(track)
                    track.motion = track.sure_motion
        new = [
            index
            for index, box in enumerate(detections.boxes_xyxy)
            if index not in claimed
            and detections.scores[index] >= threshold
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
        """Begin a track at a detection, under its old id if it is a face that was lost.

        Nothing happens if the fit is no face, or is one that is followed already.
        """
        if observation is None or not self._believable(observation, image_hw, None):
            return
        bounds = _bounds(observation.landmarks)
        if self._follows(bounds):
            return
        centre, sides = _centre_and_sides(bounds)
        known = self._lost_near(bounds, stamp_ns)
        if known is None:
            self._ids_given += 1
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
            )
        )
        if known:
            self._lost.remove(known)

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

    def _follows(self, bounds: np.ndarray) -> bool:
        return any(_iou(bounds, track.motion.bounds_xyxy) > DUPLICATE_IOU for track in self.active)

    def _lost_near(self, bounds: np.ndarray, stamp_ns: int) -> Track | None:
        seen = Motion(stamp_ns, bounds, np.zeros(2))
        centre, _ = _centre_and_sides(bounds)
        nearest, least = None, np.inf
        for track in self._lost:
            if not 1 / SIZE_JUMP < seen.size / track.motion.size < SIZE_JUMP:
                continue
            seconds = (stamp_ns - track.stamp_ns) * 1e-9
            distance = track.motion.distance(centre, stamp_ns)
            if distance < REUNION_SIZES + REUNION_SIZES_PER_S * seconds and distance < least:
                nearest, least = track, distance
        return nearest


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
