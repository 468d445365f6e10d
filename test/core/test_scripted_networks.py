"""The pipeline before networks that see what a script says: who is searched, followed, taken up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tddfa_ros.core import model_set
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.network_journal import JournaledNetworks, NetworkJournal
from tddfa_ros.core.networks import Networks
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.track import FAINT_SHARE
from tddfa_ros.core.types import Detections, MorphableParams, TrackState

HEIGHT, WIDTH = 480, 640
PERIOD_NS = 33_333_333


@dataclass(frozen=True)
class Actor:
    """A face: centre, side of its box and grey value, and the frames in which it is there."""

    x: float
    y: float
    size: float
    score: float = 0.95
    grey: int = 200
    frames: range = range(1000)

    @property
    def box_xyxy(self):
        half = self.size / 2
        return np.array([self.x - half, self.y - half, self.x + half, self.y + half], np.float32)


class Script(Networks):
    """Finds and fits the actors that are there; counts the searches of each frame."""

    def __init__(self, loaded, actors):
        self._loaded = loaded
        self._model = MorphableModel(loaded.face_model)
        self._spec = loaded.regressor
        self._actors = actors
        self.searches = Counter()

    def there(self, frame_index):
        return [actor for actor in self._actors if frame_index in actor.frames]

    def image(self, frame_index):
        image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        for actor in self.there(frame_index):
            left, top, right, bottom = actor.box_xyxy.astype(int)
            image[top:bottom, left:right] = actor.grey
            # In a face of one colour nobody is seen.
            image[(top + bottom) // 2 : bottom, left:right] -= 10
        return image

    def detect(self, image_bgr, frame_index, threshold, deepest_zoom):
        self.searches[frame_index] += 1
        found = [actor for actor in self.there(frame_index) if actor.score > threshold]
        found.sort(key=lambda actor: -actor.score)
        boxes = np.array([actor.box_xyxy for actor in found], np.float32).reshape(-1, 4)
        return Detections(boxes, np.array([actor.score for actor in found], np.float32))

    def regress(self, image_bgr, frame_index, rois_xyxy, *, mirrored):
        fits = tuple(self._fit(frame_index, roi) for roi in rois_xyxy)
        sure = np.array([0.0 if fit is None else 1.0 for fit in fits], np.float32)
        return fits, sure

    def _fit(self, frame_index, roi):
        middle = (roi[:2] + roi[2:]) / 2
        near = [
            actor
            for actor in self.there(frame_index)
            if np.abs(middle - (actor.x, actor.y)).max() < actor.size / 2
        ]
        if not near:
            return None
        actor = min(near, key=lambda a: np.abs(middle - (a.x, a.y)).max())
        pixels = self._spec.input_size / (roi[2:] - roi[:2])
        vector = np.zeros(12 + self._model.shape_count + self._model.expression_count, np.float32)
        vector[[0, 5, 10]] = 400.0

        def landmarks():
            spec = self._spec
            params = MorphableParams.from_vector(
                vector.copy(), spec.shape_count, roi.copy(), spec.input_size
            )
            points = self._model.landmarks(params)[:, :2]
            return params, points.min(axis=0), points.max(axis=0)

        _, low, high = landmarks()
        vector[[0, 5, 10]] *= actor.size / (high - low).max()
        _, low, high = landmarks()
        away = np.array([actor.x, actor.y]) - (low + high) / 2
        vector[[3, 7]] += away * pixels * [1, -1]
        params, low, high = landmarks()
        np.testing.assert_allclose((low + high) / 2, (actor.x, actor.y), atol=0.5)
        return params


@pytest.fixture(scope="module")
def loaded(repository):
    return model_set.load(repository / "models" / "embedded")


def faces_of(script, loaded, count, **settings):
    """Faces of each image of a run."""
    pipeline = FacePipeline(loaded, PipelineConfig(**settings), script)
    results = [pipeline.process(script.image(k), k * PERIOD_NS).faces for k in range(count)]
    pipeline.close()
    return results


def width(face):
    return face.box_xyxy[2] - face.box_xyxy[0]


def test_no_image_is_searched_twice(loaded):
    gone = Script(loaded, [Actor(200, 240, 120, frames=range(5))])
    faces_of(gone, loaded, 30)
    assert max(gone.searches.values()) == 1
    assert len(gone.searches) > 20  # a lost face is awaited
    always = Script(loaded, [Actor(200, 240, 120)])
    faces_of(always, loaded, 10, detection_interval_s=0.0)
    assert always.searches == dict.fromkeys(range(10), 1)


def test_a_face_begins_in_one_image_and_is_followed_in_the_next(loaded):
    """And is as old, by the stamps of the images, as they are."""
    script = Script(loaded, [Actor(200, 240, 120)])
    told = [(face.state, face.age_frames, face.age_ns) for (face,) in faces_of(script, loaded, 4)]
    assert told[0] == (TrackState.DETECTED, 0, 0)
    assert told[1:] == [(TrackState.TRACKED, k, k * PERIOD_NS) for k in (1, 2, 3)]


def test_searches_find_a_followed_face_though_it_be_too_faint_to_begin(loaded):
    clear = Actor(200, 240, 120, frames=range(10))
    faint = replace(clear, score=0.2, frames=range(10, 1000))
    faces = faces_of(Script(loaded, [clear, faint]), loaded, 60, detection_threshold=0.5)
    assert {face.id for (face,) in faces} == {"f00001"}
    assert faces[-1][0].score == pytest.approx(0.2)
    assert not any(faces_of(Script(loaded, [replace(faint, frames=range(100))]), loaded, 20))


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 0), (0.15, 1)])
def test_the_threshold_of_the_settings_stands_above_that_of_the_set(loaded, threshold, count):
    score = 0.2
    assert score < FAINT_SHARE * loaded.detector.score_threshold
    script = Script(loaded, [Actor(200, 240, 120, score=score)])
    faces = faces_of(script, loaded, 3, detection_threshold=threshold)
    assert [len(seen) for seen in faces] == [count] * 3


class UnderASky(Script):
    """So that an image in which somebody is gone is none of another place."""

    def image(self, frame_index):
        image = super().image(frame_index)
        image[:150] = 255
        return image


def test_a_lost_face_is_searched_at_once_while_others_are_followed(loaded):
    """Not only after the seconds between searches for new ones."""
    stays = Actor(120, 240, 120)
    before, after = (Actor(450, 240, 120, frames=frames) for frames in (range(9), range(14, 99)))
    script = UnderASky(loaded, [stays, before, after])
    faces = faces_of(script, loaded, 26, detection_interval_s=60.0)
    counts = [len(seen) for seen in faces]
    assert counts[:9] == [2] * 9 and counts[9:14] == [1] * 5 and counts[25] == 2
    assert {face.id for seen in faces for face in seen} == {"f00001", "f00002"}


def test_searches_for_further_faces_are_as_far_apart_as_the_settings_say(loaded):
    """Also where the last one was at once, as nobody was followed."""
    script = Script(loaded, [Actor(200, 240, 120, frames=range(3, 99))])
    faces_of(script, loaded, 60, detection_interval_s=0.5)
    assert sorted(script.searches) == [0, 1, 2, 3, 19, 35, 51]


class Edited(Script):
    """From the frame `cut` on in another place, where who was there before goes on."""

    cut = 8

    def image(self, frame_index):
        image = super().image(frame_index)
        image[:150] = 255 * (frame_index < self.cut)
        image[330:] = 255 * (frame_index >= self.cut)
        return image


@pytest.mark.parametrize("interval_s", [0.2, 60.0])
def test_in_another_place_who_else_is_there_is_searched_at_once(loaded, interval_s):
    """And what a search that runs by then finds in the place before is void."""
    stays = Actor(120, 240, 120)
    before, after = (Actor(450, 240, 100, frames=frames) for frames in (range(6, 8), range(8, 99)))
    script = Edited(loaded, [stays, before, after])
    faces = faces_of(script, loaded, 16, detection_interval_s=interval_s)
    assert [len(seen) for seen in faces] == [1] * 11 + [2] * 5
    assert len({seen[0].id for seen in faces}) == 1
    assert script.searches[Edited.cut] == 1


class Zooms(Edited):
    """Nobody; notes how far parts are zoomed into."""

    def detect(self, image_bgr, frame_index, threshold, deepest_zoom):
        self.zooms.append(deepest_zoom)
        return super().detect(image_bgr, frame_index, threshold, deepest_zoom)


def test_in_another_place_parts_are_searched_at_once(loaded):
    script = Zooms(loaded, [])
    script.zooms = []
    faces_of(script, loaded, 12, small_faces=True, detection_interval_s=60.0)
    assert script.zooms == [2, *[1] * 7, 2, *[1] * 3]


class Aging(Script):
    """Each frame's fits have another shape: its index."""

    def _fit(self, frame_index, roi):
        params = super()._fit(frame_index, roi)
        return params and replace(params, shape=np.full_like(params.shape, 0.01 * frame_index))


def test_the_shape_of_a_lost_face_is_held_no_longer(loaded):
    """Else the shapes of all who ever came would be kept."""
    script = Aging(loaded, [Actor(200, 240, 120, frames=[*range(9), *range(14, 99)])])
    faces = faces_of(script, loaded, 20, hold_shape_frames=3, smoothing="none")
    shapes = [[round(100 * float(face.params.shape[0]), 3) for face in seen] for seen in faces]
    assert shapes == [[0], [1], *[[1]] * 7, *[[]] * 5, [14], [15], *[[15]] * 4]
    assert len({seen[0].id for seen in faces if seen}) == 1


def test_shapes_are_held_as_soon_as_it_is_said_and_no_longer_than_that(loaded):
    script = Aging(loaded, [Actor(200, 240, 120)])
    pipeline = FacePipeline(loaded, PipelineConfig(hold_shape_frames=0), script)
    shapes = []
    for k in range(15):
        if k in (4, 10):
            pipeline.configure(PipelineConfig(hold_shape_frames=3 if k == 4 else 0))
        (face,) = pipeline.process(script.image(k), k * PERIOD_NS).faces
        shapes.append(round(100 * float(face.params.shape[0]), 3))
    pipeline.close()
    assert shapes == [0, 1, 2, 3, 4, 5, *[5] * 4, 10, 11, 12, 13, 14]


def test_in_a_still_a_fainter_face_counts_where_the_regressor_is_sure_of_it(loaded):
    script = Script(loaded, [Actor(120, 240, 120), Actor(450, 240, 120, score=0.4)])
    pipeline = FacePipeline(loaded, PipelineConfig(detection_threshold=0.5), script)
    assert len(pipeline.process_still(script.image(0)).faces) == 2
    pipeline.close()


class Once(Script):
    """Fits the regions of boxes, and fails with those of landmarks."""

    def regress(self, image_bgr, frame_index, rois_xyxy, *, mirrored):
        first, self.asked = not hasattr(self, "asked"), True
        if first:
            return super().regress(image_bgr, frame_index, rois_xyxy, mirrored=mirrored)
        return (None,) * len(rois_xyxy), np.full(len(rois_xyxy), np.nan, np.float32)


def test_a_still_keeps_the_fit_before_one_that_fails(loaded):
    assert loaded.regressor.still_passes
    script = Once(loaded, [Actor(200, 240, 120)])
    pipeline = FacePipeline(loaded, PipelineConfig(), script)
    (face,) = pipeline.process_still(script.image(0)).faces
    assert width(face) == pytest.approx(120, abs=2)
    pipeline.close()


class Wandering(Script):
    """What lies elsewhere whenever it is fitted anew is no face."""

    def _fit(self, frame_index, roi):
        left, top, right, bottom = roi.tolist()
        for actor in self._actors:
            if left < actor.x < right and top < actor.y < bottom:
                at = replace(actor, x=(left + right) / 2 + 0.25 * actor.size)
                return Script(self._loaded, [at])._fit(frame_index, roi)
        return None


@pytest.mark.parametrize(("kind", "count"), [(Script, 1), (Wandering, 0)])
def test_what_is_elsewhere_as_soon_as_it_is_fitted_again_is_no_face(loaded, kind, count):
    script = kind(loaded, [Actor(320, 240, 120)])
    assert [len(faces) for faces in faces_of(script, loaded, 3)] == [count] * 3


def test_after_a_reset_nothing_of_before_is_smoothed_or_given_out(loaded):
    script = Script(loaded, [Actor(200, 240, 120)])
    config = PipelineConfig(smoothing="window", window_before=2, window_after=2)
    pipeline = FacePipeline(loaded, config, script)

    def smoothed(frames):
        results = [pipeline.process(script.image(k), k * PERIOD_NS) for k in frames]
        ready = [out for result in results for out in pipeline.smooth(result)]
        return [out.frame_index for out in ready]

    assert smoothed(range(4)) == [0, 1]
    pipeline.reset()
    assert smoothed(range(4, 8)) == [4, 5]
    assert [out.frame_index for out in pipeline.flush()] == [6, 7]
    pipeline.close()


def test_of_new_faces_the_largest_come_first(loaded):
    small, large = Actor(120, 120, 60, score=0.96), Actor(420, 240, 200, score=0.95)
    script = Script(loaded, [small, large])
    for faces in faces_of(script, loaded, 5, max_faces=1):
        assert [face.box_xyxy[2] - face.box_xyxy[0] for face in faces] == pytest.approx(
            [200], abs=2
        )
    pipeline = FacePipeline(loaded, PipelineConfig(max_faces=1), script)
    (face,) = pipeline.process_still(script.image(0)).faces
    assert width(face) == pytest.approx(200, abs=2)
    pipeline.close()


def test_fewer_faces_are_followed_as_soon_as_it_is_said(loaded):
    small, large = Actor(120, 120, 60), Actor(420, 240, 200)
    script = Script(loaded, [small, large])
    config = PipelineConfig()
    pipeline = FacePipeline(loaded, config, script)
    before = [pipeline.process(script.image(k), k * PERIOD_NS).faces for k in range(3)][-1]
    assert len(before) == 2
    pipeline.configure(replace(config, max_faces=1))
    for k in range(3, 30):
        (face,) = pipeline.process(script.image(k), k * PERIOD_NS).faces
        assert face.id == before[0].id
        assert width(face) == pytest.approx(200, abs=2)
    pipeline.close()


def test_a_run_that_is_taken_up_knows_what_faces_looked_like(loaded, tmp_path):
    """Who comes back is told by looks; the images done before are blank by then."""
    light = Actor(200, 240, 120, grey=220, frames=range(12))
    dark = Actor(345, 240, 120, grey=40, frames=range(15, 1000))
    spec = loaded.regressor

    def run(path, count):
        script = Script(loaded, [light, dark])
        with NetworkJournal(path, {"of": "this test"}) as journal:
            networks = JournaledNetworks(script, journal, spec.shape_count, spec.input_size)
            pipeline = FacePipeline(loaded, PipelineConfig(), networks)
            done, ids = len(journal.entries), []
            for k in range(count):
                blank = k < networks.first_frame_with_pixels
                image = np.zeros((HEIGHT, WIDTH, 3), np.uint8) if blank else script.image(k)
                ids.append([face.id for face in pipeline.process(image, k * PERIOD_NS).faces])
                if k >= done:
                    journal.end_image({}, is_frame=True)
            pipeline.close()
        return ids

    whole = run(tmp_path / "whole", 30)
    assert whole[11] == ["f00001"]
    assert whole[29] == ["f00002"]
    assert run(tmp_path / "parts", 22) == whole[:22]
    assert run(tmp_path / "parts", 30) == whole
