"""From images to followed, fitted, smoothed faces: the one place that knows the order of stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.crop import roi_from_box, roi_from_landmarks
from tddfa_ros.core.cut import SHOWING, TELLING, contrast_of, shows_another
from tddfa_ros.core.followed import Observation, Track
from tddfa_ros.core.hold import ShapeHold
from tddfa_ros.core.image import require_bgr_image, require_stamp_ns
from tddfa_ros.core.model_set import ModelSet
from tddfa_ros.core.morphable import HeldShape, MorphableModel
from tddfa_ros.core.motion import Motion, bounds_of
from tddfa_ros.core.networks import Networks
from tddfa_ros.core.pose import head_pose
from tddfa_ros.core.search import BackgroundSearch, SearchResult
from tddfa_ros.core.smooth import OneEuroSmoother, Smoother, make_smoother
from tddfa_ros.core.still import fit_still
from tddfa_ros.core.stopwatch import Stopwatch
from tddfa_ros.core.tiles import DEEPEST_ZOOM
from tddfa_ros.core.track import FAINT_SHARE, Tracker
from tddfa_ros.core.types import Detections, Face, Fits, FrameResult, MorphableParams, TrackState

# A detection this much fainter than a new face must be still confirms one that is followed.
CONFIRMING_SHARE_OF_THRESHOLD = 0.3
# A face's landmarks stay when it is fitted again from where they lay, within 0.03 of its size on
# photos; what is none moves by 0.14 in the median.
STEADY_CHANGE = 0.1
# Parts of a stream's images have half their sides: nine of them are looked at.
STREAM_ZOOM = 2


class FacePipeline:
    """Finds, fits and follows the faces of one stream of images.

    Parameters
    ----------
    model_set : networks and face model
    config : settings; those marked as run-time ones may change by :meth:`configure`
    networks : computes detections and fits; None loads those of the model set
    ids_given : :attr:`ids_given` of the run's pipeline before, so that none is given twice

    Notes
    -----
    The result depends on the images and their stamps alone: the same stream gives the same faces,
    bit by bit. One pipeline serves one stream and one thread.
    """

    def __init__(
        self,
        model_set: ModelSet,
        config: PipelineConfig,
        networks: Networks | None = None,
        *,
        ids_given: int = 0,
    ) -> None:
        self.model_set = model_set
        self.model = MorphableModel(model_set.face_model)
        self._networks = networks or Networks(model_set, config)
        self._search = BackgroundSearch(self._detect_faintly)
        self._tracker = Tracker(config, ids_given)
        self._frame_index = 0
        self._searched_ns: int | None = None
        self._zoomed_ns: int | None = None
        self._place: np.ndarray | None = None
        self._smoothed_hw = (0, 0)
        self._smoother: Smoother
        self.configure(config)

    def process(self, image_bgr: np.ndarray, stamp_ns: int) -> FrameResult:
        """Follow the faces of a stream into its next image; the result is not smoothed.

        Parameters
        ----------
        image_bgr : (height, width, 3) uint8
        stamp_ns : time of the image, nanoseconds; going far back in time forgets all faces, as an
            image of another shape does; see :meth:`tddfa_ros.core.track.Tracker.begin_frame`

        Raises
        ------
        ImageError
            The image is not BGR uint8, or empty, or the stamp is no integer.
        """
        image, stamp_ns = require_bgr_image(image_bgr), require_stamp_ns(stamp_ns)
        image_hw = (image.shape[0], image.shape[1])
        watch, tracker = Stopwatch(), self._tracker
        # Time that jumps or an image of another shape: begin anew. In another resolution faces go
        # on, but what a search finds in an image before is void, as it is in another place.
        goes_on, cut = tracker.begin_frame(stamp_ns, image_hw), self._shows_another_place(image)
        if cut or not goes_on:
            self._forget_searches()
        now_ns = tracker.now_ns
        # Follow every known face from its landmarks in the image before, all in one batch.
        with watch("follow"):
            rois = [self._roi_from_landmarks(t.observation.landmarks) for t in tracker.active]
            tracker.update(self._fit(image, rois), now_ns, image_hw, cut=cut)
        # Search at once while nobody is followed; else take up what was searched in between.
        with watch("detect"):
            at_once = not tracker.active or self._config.detection_interval_s == 0
            found = (
                self._search_now(image, now_ns)
                if at_once
                else self._search.collect(self._frame_index)
            )
        # Hold the faces against what was found, and begin to follow the new ones.
        with watch("begin"):
            if found is not None:
                self._begin_tracks(image, found, now_ns)
        # Now and then look for further faces, beside the images that follow.
        with watch("detect"):
            if not (at_once or self._search.running) and self._search_due(now_ns):
                self._search.start(image, self._frame_index, self._followed(), self._zoom)
                self._searched_ns = now_ns
        # Hold shapes that were watched long enough, and describe each face. What was summed up of
        # two who exchange names is of both.
        with watch("describe"):
            self._hold.keep_only({track.id for track in tracker.active})
            self._hold.forget_unfinished(tracker.exchanged)
            faces = [
                self._describe(track, self._hold.apply(track.id, track.observation.params))
                for track in tracker.active
            ]
        return self._result(image_hw, stamp_ns, faces, watch)

    def process_still(self, image_bgr: np.ndarray) -> FrameResult:
        """Find and fit all faces of one picture; follows nobody.

        Each is fitted around its box, then as often around its landmarks as the model set says; see
        :func:`tddfa_ros.core.still.fit_still`.

        Parameters
        ----------
        image_bgr : (height, width, 3) uint8

        Raises
        ------
        ImageError
            The image is not BGR uint8, or empty.
        """
        image = require_bgr_image(image_bgr)
        image_hw = (image.shape[0], image.shape[1])
        watch, tracker = Stopwatch(), Tracker(self._config)
        with watch("detect"):
            zoom = DEEPEST_ZOOM if self._config.small_faces else 1
            least = FAINT_SHARE * self._threshold
            detections = self._networks.detect(image, self._frame_index, least, zoom)
        with watch("begin"):
            rois = [self._roi_from_box(box) for box in detections.boxes_xyxy]
            fits = self._fit(image, rois, still=True)
            for _ in range(self.model_set.regressor.still_passes):
                fits = self._fit_again(image, fits)
            scores = detections.scores.tolist()
            found = list(zip(detections.boxes_xyxy, scores, fits, strict=True))
            tracker.add_all(found, 0, image_hw, self._threshold)
            tracker.keep_largest()
        with watch("describe"):
            faces = [self._describe(track, track.observation.params) for track in tracker.active]
        return self._result(image_hw, 0, faces, watch)

    def smooth(self, result: FrameResult) -> list[FrameResult]:
        """Smooth a result of :meth:`process`.

        Returns
        -------
        The results that are ready, oldest first: this one, or with the delay of a centred window an
        earlier one, or none yet. ``frame_index`` tells which. Filters begin anew in images of
        another size.
        """
        size_hw = (result.image_height, result.image_width)
        # Filters know places in pixels.
        ready = [] if size_hw == self._smoothed_hw else self._smoother.flush()
        self._smoothed_hw = size_hw
        return ready + self._smoother.push(result)

    def flush(self) -> list[FrameResult]:
        """Return the smoothed results that were still held back, at the end of a stream."""
        return self._smoother.flush()

    def vertices(self, face: Face) -> np.ndarray:
        """(n, 3) float32: all vertices of a face in image space, pixels, z above its lowest."""
        return self.model.vertices(face.params, held=self._held(face))

    def vertices_of(self, faces: Sequence[Face]) -> list[np.ndarray]:
        """(n, 3) float32 for each of the faces, as :meth:`vertices`, and sooner."""
        if any(self._held(face) is not None for face in faces):
            return [self.vertices(face) for face in faces]
        return list(self.model.vertices_batch([face.params for face in faces]))

    def _held(self, face: Face) -> HeldShape | None:
        held = self._hold.held(face.id)
        if held is not None and np.array_equal(held.shape, face.params.shape):
            return held
        return None

    def configure(self, config: PipelineConfig) -> list[FrameResult]:
        """Take over settings; networks, and with them their thread counts, stay as loaded.

        Returns
        -------
        The smoothed results that another way of smoothing still held back.
        """
        held_back: list[FrameResult] = []
        old = getattr(self, "_config", None)
        self._config = config
        self._tracker.configure(config)
        if old is None or old.hold_shape_frames != config.hold_shape_frames:
            self._hold = ShapeHold(config.hold_shape_frames, self.model.hold_shape)
        if old is None or _smoothing(old) != _smoothing(config):
            held_back = [] if old is None else self._smoother.flush()
            self._smoother = make_smoother(config, self.model, head_pose)
        elif isinstance(self._smoother, OneEuroSmoother):
            # Its filters go on.
            self._smoother.min_cutoff_hz = config.one_euro_min_cutoff_hz
            self._smoother.beta = config.one_euro_beta
        return held_back

    def reset(self) -> None:
        """Forget all faces, filters and running searches."""
        self._tracker.reset()
        self._forget_searches()
        self._place = None
        self._smoother.reset()

    def close(self) -> None:
        """End the background thread. The pipeline cannot be used afterwards."""
        self._search.close()

    @property
    def ids_given(self) -> int:
        """How many ids faces have been given."""
        return self._tracker.ids_given

    @property
    def _threshold(self) -> float:
        return self._config.detection_threshold or self.model_set.detector.score_threshold

    @property
    def _zoom(self) -> int:
        return STREAM_ZOOM if self._config.small_faces else 1

    def _detect_faintly(self, image_bgr: np.ndarray, frame_index: int, zoom: int) -> Detections:
        least = self._threshold * CONFIRMING_SHARE_OF_THRESHOLD
        return self._networks.detect(image_bgr, frame_index, least, zoom)

    def _roi_from_box(self, box_xyxy: np.ndarray) -> np.ndarray:
        spec = self.model_set.regressor
        return roi_from_box(
            box_xyxy,
            scale=spec.roi_box_scale,
            shift_down=spec.roi_box_shift_down,
            whole_pixels=spec.roi_whole_pixels,
        )

    def _roi_from_landmarks(self, landmarks: np.ndarray) -> np.ndarray:
        spec = self.model_set.regressor
        return roi_from_landmarks(
            landmarks, scale=spec.roi_landmark_scale, whole_pixels=spec.roi_whole_pixels
        )

    def _fit(
        self,
        image: np.ndarray,
        rois: Sequence[np.ndarray],
        *,
        still: bool = False,
    ) -> list[Observation | None]:
        if not rois:
            return []
        mirrored = self._config.mirrored_fits in (("always", "stills") if still else ("always",))

        def regress(regions: np.ndarray) -> Fits:
            return self._networks.regress(image, self._frame_index, regions, mirrored=mirrored)

        stack = np.stack(rois)
        fits, confidences = (
            fit_still(regress, stack, self.model_set.regressor) if still else regress(stack)
        )
        return [
            None if params is None else self._observe(image, params, float(confidence))
            for params, confidence in zip(fits, confidences, strict=True)
        ]

    def _fit_again(
        self, image: np.ndarray, fits: Sequence[Observation | None]
    ) -> list[Observation | None]:
        """Fit a still's faces from their landmarks; where that fails, the fits before stay."""
        seen = [fit for fit in fits if fit is not None]
        rois = [self._roi_from_landmarks(fit.landmarks) for fit in seen]
        again = iter(self._fit(image, rois, still=True))
        return [None if fit is None else next(again) or fit for fit in fits]

    def _observe(
        self, image: np.ndarray, params: MorphableParams, confidence: float
    ) -> Observation | None:
        landmarks = self.model.landmarks(params)
        look = self._networks.look(image, self._frame_index, bounds_of(landmarks))
        if look is not None and contrast_of(look) < SHOWING:
            return None
        return Observation(params, landmarks, confidence, look)

    def _shows_another_place(self, image: np.ndarray) -> bool:
        """Whether the stream has been cut since the image before, or the last that showed a place.

        There may be black ones in between.
        """
        whole = np.array([0, 0, image.shape[1], image.shape[0]])
        before, now = self._place, self._networks.look(image, self._frame_index, whole)
        if contrast_of(now) >= TELLING:
            self._place = now
        return shows_another(before, now)

    def _followed(self) -> dict[Track, Motion]:
        return {track: track.motion for track in self._tracker.active}

    def _search_due(self, now_ns: int) -> bool:
        tracker = self._tracker
        if self._searched_ns is None or tracker.awaits_return:
            return True
        if any(track.searches_without_face or self._is_small(track) for track in tracker.active):
            return True
        return self._is_due(self._searched_ns, now_ns)

    def _is_due(self, searched_ns: int, now_ns: int) -> bool:
        return now_ns - searched_ns >= self._config.detection_interval_s * 1e9

    def _is_small(self, track: Track) -> bool:
        roi = self._roi_from_landmarks(track.observation.landmarks)
        return bool(np.prod(roi[2:] - roi[:2]) < self.model_set.regressor.minimum_roi_area_px)

    def _search_now(self, image: np.ndarray, now_ns: int) -> SearchResult:
        """Search before going on; while nobody is followed, by parts only now and then."""
        self._searched_ns, zoom = now_ns, self._zoom
        if self._zoomed_ns is None or self._is_due(self._zoomed_ns, now_ns):
            self._zoomed_ns = now_ns
        else:
            zoom = 1
        return self._search.now(image, self._frame_index, self._followed(), zoom)

    def _forget_searches(self) -> None:
        self._search.cancel()
        self._searched_ns = self._zoomed_ns = None

    def _begin_tracks(self, image: np.ndarray, found: SearchResult, now_ns: int) -> None:
        """Fit new faces twice: from the box, then from the landmarks, as they will be followed.

        What the second fit has elsewhere is no face.
        """
        image_hw = (image.shape[0], image.shape[1])
        detections = found.detections
        new = self._tracker.confirm(detections, self._threshold, found.followed)
        first = self._fit(image, [self._roi_from_box(detections.boxes_xyxy[i]) for i in new])
        seen = [
            (index, fit)
            for index, fit in zip(new, first, strict=True)
            # A set without confidence gives NaN, which is below no threshold.
            if fit is not None and not fit.confidence < self._config.confidence_threshold
        ]
        second = self._fit(image, [self._roi_from_landmarks(fit.landmarks) for _, fit in seen])
        self._tracker.add_all(
            [
                (detections.boxes_xyxy[index], float(detections.scores[index]), fit)
                for (index, before), fit in zip(seen, second, strict=True)
                if fit is not None and before.change_to(fit) <= STEADY_CHANGE
            ],
            now_ns,
            image_hw,
            self._threshold,
        )

    def _describe(self, track: Track, params: MorphableParams) -> Face:
        seen = track.observation
        held = params is not seen.params
        return Face(
            id=track.id,
            state=TrackState.DETECTED if track.begins else TrackState.TRACKED,
            age_frames=track.age_frames,
            score=track.score,
            confidence=seen.confidence,
            box_xyxy=track.box_xyxy,
            params=params,
            landmarks=self.model.landmarks(params) if held else seen.landmarks,
            pose=head_pose(params),
            age_ns=track.stamp_ns - track.first_stamp_ns,
        )

    def _result(
        self, image_hw: tuple[int, int], stamp_ns: int, faces: list[Face], watch: Stopwatch
    ) -> FrameResult:
        index, self._frame_index = self._frame_index, self._frame_index + 1
        faces.sort(key=lambda face: -float(np.prod(face.box_xyxy[2:] - face.box_xyxy[:2])))
        return FrameResult(index, stamp_ns, *image_hw, tuple(faces), watch.elapsed_ms)


def _smoothing(config: PipelineConfig) -> tuple[object, ...]:
    return config.smoothing, config.window_before, config.window_after
