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
from dataclasses import replace

import numpy as np

from tddfa_ros.core.appearance import UNLIKE, Appearances
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.cut import shows_another
from tddfa_ros.core.followed import Observation, Track, box_in_bounds
from tddfa_ros.core.motion import SIZE_JUMP, Motion, bounds_of, iou, reunion_cost
from tddfa_ros.core.reunion import reunited
from tddfa_ros.core.types import Detections

# A followed face that this many searches in a row do not find is lost: one alone may miss a
# profile or a hand before the face. One that began by a single search's word, by the next.
SEARCHES_WITHOUT_FACE = 3
# Least overlap (intersection over union) of a followed face and a detection that mean the same.
SAME_FACE_IOU = 0.25
# Overlap from which two tracks follow one face.
DUPLICATE_IOU = 0.45
# Where a search found a face tells better than its course where it was, unless that is longer ago.
SURE_S = 1.0
# The odds that a face comes back, if the regressor can tell, must be so many times those at which
# one that is followed goes on; that a new one begins; and that one begins which the detector finds
# fainter than its threshold, though no fainter than a share of it. In synthetic pictures 996 of a
# thousand detected faces that are half hidden or blurred have odds of 99; of fifteen faint real
# ones thirteen have 2000, where a valve of a space suit has 1200.
RETURNING_FACE_ODDS = 9.0
NEW_FACE_ODDS = 99.0
FAINT_FACE_ODDS = 2000.0
FAINT_SHARE = 0.6
# Least share of the landmarks that lies in the image.
LANDMARKS_INSIDE = 0.25
# A stamp that lies farther behind the last one is no late message: a bag starts over.
LATEST_S = 0.5
# Sides of images that grow by factors this much alike: the same picture in another resolution.
SAME_ASPECT = 0.01


class Tracker:
    """Follows the faces of one stream of images; knows neither images nor networks.

    Parameters
    ----------
    config : thresholds; :meth:`configure` changes them later
    ids_given : ids that are not given again: those of an earlier tracker of the same run

    Attributes
    ----------
    ids_given : with those of this one
    now_ns : time of the present frame, by stamps; does not go back when one comes late
    exchanged : ids that the last :meth:`update` took from one face and gave to another
    """

    def __init__(self, config: PipelineConfig, ids_given: int = 0) -> None:
        self.active: list[Track] = []
        self.ids_given = ids_given
        self.now_ns = 0
        self.exchanged: set[str] = set()
        self._frame = 0
        self._lost: list[Track] = []
        self._appearances = Appearances()
        self._before: tuple[int, tuple[int, int]] | None = None
        self._newest_ns = 0
        self.configure(config)

    def configure(self, config: PipelineConfig) -> None:
        """Take over new thresholds; tracks live on, as many as there is room for."""
        self._config = config
        self.keep_largest()

    def keep_largest(self) -> None:
        """Forget the smallest faces if more are followed than shall be."""
        if len(self.active) > self._config.max_faces:
            largest = sorted(self.active, key=lambda track: -track.motion.size)
            kept = largest[: self._config.max_faces]
            self.active = sorted(kept, key=lambda track: track.id)

    @property
    def awaits_return(self) -> bool:
        """Whether a face was lost so recently that it may come back."""
        return bool(self._lost)

    def reset(self) -> None:
        """Forget all faces, those to be reunited too. Ids are not given twice all the same."""
        self.active = []
        self._lost = []
        self._appearances = Appearances()
        self._before = None

    def begin_frame(self, stamp_ns: int, image_hw: tuple[int, int]) -> bool:
        """Open a frame; returns False if places in earlier images mean nothing in this one.

        All faces are forgotten by a stamp more than :data:`LATEST_S` before the last one (a bag
        that starts over), by one later by more than the time for which lost faces are remembered,
        and by an image of another shape. If only the resolution changes, faces are scaled with it.
        A stamp that is a little before the last one (a message that comes late) takes no time, nor
        does the next one take that twice which passed before the late one. Only if stamps go on
        advancing from there (a very short recording, in a loop), so does time.
        """
        self._frame += 1
        before_ns, before_hw = self._before or (stamp_ns, image_hw)
        elapsed_ns = stamp_ns - before_ns
        stretch = image_hw[0] * before_hw[1] / (image_hw[1] * before_hw[0])
        longest_ns = max(self._config.lost_timeout_s, 1.0) * 1e9
        goes_on = (
            self._before is not None
            and -LATEST_S * 1e9 <= elapsed_ns <= longest_ns
            and abs(stretch - 1) <= SAME_ASPECT
        )
        if not goes_on:
            self.reset()
            self._newest_ns = self.now_ns = stamp_ns
        elif stamp_ns > self._newest_ns:
            self.now_ns += stamp_ns - self._newest_ns
            self._newest_ns = stamp_ns
        else:
            self.now_ns += max(elapsed_ns, 0)
        self._before = (stamp_ns, image_hw)
        timeout_ns = self._config.lost_timeout_s * 1e9
        self._lost = [track for track in self._lost if self.now_ns - track.stamp_ns <= timeout_ns]
        if image_hw != before_hw:
            self._scale(np.divide(image_hw[::-1], before_hw[::-1], dtype=np.float32))
        return goes_on and image_hw == before_hw

    def _scale(self, scale_xy: np.ndarray) -> None:
        for track in [*self.active, *self._lost]:
            scale_xyz = np.append(scale_xy, scale_xy.mean())
            landmarks = track.observation.landmarks * scale_xyz
            track.observation = replace(track.observation, landmarks=landmarks)
            track.motion = track.motion.scaled(scale_xy)
            track.sure_motion = track.sure_motion.scaled(scale_xy)
            track.course = deque(motion.scaled(scale_xy) for motion in track.course)
            track.expected = tuple(motion.scaled(scale_xy) for motion in track.expected)

    def update(
        self,
        observations: Sequence[Observation | None],
        stamp_ns: int,
        image_hw: tuple[int, int],
        *,
        cut: bool = False,
    ) -> None:
        """Continue the active tracks.

        Parameters
        ----------
        observations : one for each of `active`, in its order; None where there was nothing to see
        image_hw : height and width, pixels
        cut : whether this image shows another place than the one before, see :mod:`core.cut`: what
            looks like another face is one, and lost ones come back only where they look the same
        """
        continued: list[tuple[float, Track, Observation, np.ndarray]] = []
        for track, seen in zip(self.active, observations, strict=True):
            replaced = cut and seen and shows_another(track.observation.look, seen.look)
            if seen and not replaced and self._believable(seen, image_hw, track.motion):
                bounds = bounds_of(seen.landmarks)
                # Alone, a face cannot have taken another one's place.
                alone = len(self.active) == 1
                strayed = 0.0 if alone else track.strayed(bounds, stamp_ns)
                continued.append((strayed, track, seen, bounds))
            else:
                self._lose(track, stamp_ns)
        self.active = []
        # Two tracks on one face: the one that is farther off its course has lost its own.
        continued.sort(key=lambda entry: (entry[0], entry[1].first_frame))
        for _, track, seen, bounds in continued:
            if self._follows(bounds):
                self._lose(track, stamp_ns)
            else:
                track.follow(seen, bounds, self._frame, stamp_ns)
                self.active.append(track)
        for track in self._lost if cut else ():
            track.cut_off = True
        self._tell_apart()
        self.active.sort(key=lambda track: track.id)

    def _tell_apart(self) -> None:
        """Exchange the names of faces that took each other's place when they met."""
        known = {track.id: track for track in [*self._lost, *self.active]}
        self._appearances.keep_only(known)
        pairs = self._appearances.observe(
            {t.id: (t.motion.bounds_xyxy, t.observation.look) for t in self.active},
            [track.id for track in self._lost],
        )
        self.exchanged = {face_id for pair in pairs for face_id in pair}
        for first, second in pairs:
            known[first].exchange_names(known[second])

    def confirm(
        self, detections: Detections, threshold: float, followed: dict[Track, Motion]
    ) -> list[int]:
        """Hold the tracks against what a search found, and say which detections are new faces.

        Parameters
        ----------
        detections : of the frame that was searched; faint ones still confirm a track
        threshold : least score of a new face; a fainter one may be a lost face that comes back, or
            one of which the regressor is sure
        followed : the tracks in the frame that was searched, and the motion of each

        Returns
        -------
        Indices of detections that are no face followed yet, best first: the largest, as many as
        there is room, faint ones after all others.
        """
        pairs = [
            (iou(track.box_at(followed[track]), box), index, track)
            for index, box in enumerate(detections.boxes_xyxy)
            for track in self.active
            if track in followed
        ]
        claimed: set[int] = set()
        confirmed: set[Track] = set()
        for overlap, index, track in sorted(pairs, key=lambda entry: -entry[0]):
            if overlap < SAME_FACE_IOU:
                break
            if index in claimed or track in confirmed:
                continue
            claimed.add(index)
            confirmed.add(track)
            track.score = float(detections.scores[index])
            track.searches_without_face = 0
            track.found_again = True
            track.sure_motion = followed[track]
            # The box that it began with was that of an older image than its bounds.
            track.box_in_bounds = box_in_bounds(
                detections.boxes_xyxy[index], followed[track].bounds_xyxy
            )
        for track in list(self.active):
            if track in followed and track not in confirmed:
                track.searches_without_face += 1
                most = SEARCHES_WITHOUT_FACE if track.found_again else 1
                if track.searches_without_face >= most:
                    self.active.remove(track)
                    # Or the searches are wrong: a face may go on where it was followed to.
                    self._lose(track, track.stamp_ns, track.motion)
        new = [
            index
            for index, box in enumerate(detections.boxes_xyxy)
            if index not in claimed
            and (detections.scores[index] >= FAINT_SHARE * threshold or self._is_awaited(box))
            and all(iou(track.box_xyxy, box) < SAME_FACE_IOU for track in self.active)
        ]
        room = max(0, self._config.max_faces - len(self.active))
        sides = detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]
        faint = detections.scores < threshold
        return sorted(sorted(new, key=lambda index: (faint[index], -sides[index].prod()))[:room])

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
        threshold: float = 0.0,
    ) -> None:
        """Begin tracks at detections, under their old ids where they are faces that were lost.

        What is no face, or is one that is followed already, is left out; so is a detection too
        faint for a new face, unless a lost one comes back there that looks like it, or the
        regressor is sure of it.

        Parameters
        ----------
        found : (4,) box, score and fit of each, best first
        threshold : least score of a new face
        """
        new: list[tuple[np.ndarray, float, Observation, np.ndarray]] = []
        for box_xyxy, score, observation in found:
            if observation is None or not self._believable(observation, image_hw, None):
                continue
            bounds = bounds_of(observation.landmarks)
            if not self._follows(bounds, [others for *_, others in new]):
                new.append((box_xyxy, score, observation, bounds))
        places = [
            (bounds, seen.look, np.inf if score >= threshold else UNLIKE)
            for _, score, seen, bounds in new
        ]
        known = reunited(places, self._awaited(), self._appearances, stamp_ns, self._frame)
        for (box_xyxy, score, observation, bounds), lost in zip(new, known, strict=True):
            if lost is not None or self._begins(score, observation.confidence, threshold):
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
        if known is None:
            self.ids_given += 1
        elif known in self._lost:
            self._lost.remove(known)
        else:
            self.active.remove(known)
            known.expected = (known.sure_motion,)
        before = known.expected[0] if known else Motion(stamp_ns, bounds, np.zeros(2))
        motion = Motion(stamp_ns, bounds, before.velocity_px_s)
        self.active.append(
            Track(
                id=known.id if known else f"f{self.ids_given:05d}",
                first_frame=known.first_frame if known else self._frame,
                frame=self._frame,
                first_stamp_ns=known.first_stamp_ns if known else stamp_ns,
                stamp_ns=stamp_ns,
                score=score,
                observation=observation,
                box_in_bounds=box_in_bounds(box_xyxy, bounds),
                motion=motion,
                sure_motion=motion,
                found_again=known is not None and known.found_again,
                # What came back may prove to be another face: its old course is kept for a while.
                course=deque([before, motion] if known else [motion]),
            )
        )

    def _lose(self, track: Track, stamp_ns: int, *also_expected: Motion) -> None:
        """Remember a face that is gone, with the last motion that was surely its own."""
        sure: tuple[Motion, ...] = (track.sure_motion,)
        if stamp_ns - track.sure_motion.stamp_ns > SURE_S * 1e9:
            sure = (track.course[0],)
        elif not track.sure_motion.velocity_px_s.any():
            # Found in its first image only, from which no velocity is known.
            sure = (track.course[0], track.sure_motion)
        track.expected = (*sure, *also_expected)
        self._lost.append(track)

    def _least_confidence(self, odds: float) -> float:
        """Confidence whose odds are so many times those of the threshold."""
        least = self._config.confidence_threshold
        return odds * least / (1 + (odds - 1) * least)

    def _begins(self, score: float, confidence: float, threshold: float) -> bool:
        """Whether what is no lost face is a new one."""
        if np.isnan(confidence) or score < FAINT_SHARE * threshold:
            return score >= threshold
        odds = NEW_FACE_ODDS if score >= threshold else FAINT_FACE_ODDS
        return confidence >= self._least_confidence(odds)

    def _believable(
        self, seen: Observation, image_hw: tuple[int, int], previous: Motion | None
    ) -> bool:
        if not np.isfinite(seen.landmarks).all():
            return False
        # A set without confidence gives NaN, which is below no threshold.
        if seen.confidence < self._least_confidence(1.0 if previous else RETURNING_FACE_ODDS):
            return False
        x, y = seen.landmarks[:, 0], seen.landmarks[:, 1]
        inside = (x >= 0) & (y >= 0) & (x < image_hw[1]) & (y < image_hw[0])
        if inside.mean() < LANDMARKS_INSIDE:
            return False
        size = Motion(0, bounds_of(seen.landmarks), np.zeros(2)).size
        if size < 1.0:
            return False
        return previous is None or 1 / SIZE_JUMP < size / previous.size < SIZE_JUMP

    def _follows(self, bounds: np.ndarray, others: Sequence[np.ndarray] = ()) -> bool:
        followed = [*(track.motion.bounds_xyxy for track in self.active), *others]
        return any(iou(bounds, other) > DUPLICATE_IOU for other in followed)

    def _awaited(self) -> list[tuple[Track, tuple[Motion, ...]]]:
        """Faces that may come back, each with the motions that may have led there."""
        doubted = [track for track in self.active if track.searches_without_face]
        return [(track, track.expected) for track in self._lost] + [
            (track, (track.sure_motion,)) for track in doubted
        ]

    def _is_awaited(self, box_xyxy: np.ndarray) -> bool:
        """Whether an awaited face may have come back there."""
        return any(
            reunion_cost(box_xyxy, track.box_at(motion), motion, self.now_ns) < np.inf
            for track, motions in self._awaited()
            for motion in motions
        )
