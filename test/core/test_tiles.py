"""Faces that are small in a large picture: parts that cover it, and each face once."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tddfa_ros.core import model_set
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.model_description import DetectorSpec
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.tiles import OVERLAP, detect_small_too, parts_xyxy
from tddfa_ros.core.types import Detections

SPEC = DetectorSpec(max_height=720, max_width=1080)


@given(
    height=st.integers(200, 9000),
    width=st.integers(200, 9000),
    zoom=st.sampled_from([2, 4, 8, 16]),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_face_as_large_as_the_overlap_is_whole_in_a_part(height, width, zoom, place):
    side = np.array([width, height]) / zoom * (OVERLAP - 0.03) - 2
    low = np.array(place) * ([width, height] - side)
    parts = np.array(list(parts_xyxy(height, width, zoom, OVERLAP)))
    assert (parts[:, :2] >= 0).all()
    assert (parts[:, 2:] <= [width, height]).all()
    whole = (parts[:, :2] <= low).all(axis=1) & (low + side <= parts[:, 2:]).all(axis=1)
    assert whole.any()


@pytest.mark.parametrize(("height", "width"), [(3000, 4000), (3001, 4003), (900, 5000)])
@pytest.mark.parametrize("zoom", [2, 8])
def test_parts_have_their_share_of_each_side(height, width, zoom):
    parts = np.array(list(parts_xyxy(height, width, zoom, OVERLAP)))
    assert (parts[:, 2:] - parts[:, :2] == [-(-width // zoom), -(-height // zoom)]).all()


class Disks:
    """Detects white squares of 20 to 400 pixels as it sees them, at most 720 pixels high."""

    def __init__(self):
        self.looks = 0

    def __call__(self, image_bgr):
        self.looks += 1
        scale = min(1.0, SPEC.max_height / image_bgr.shape[0], SPEC.max_width / image_bgr.shape[1])
        seen = cv2.resize(image_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        _, _, about, _ = cv2.connectedComponentsWithStats((seen[..., 0] > 127).astype(np.uint8))
        boxes = [
            (x, y, x + w, y + h)
            for x, y, w, h, _ in about[1:]
            if min(w, h) >= 20 and max(w, h) < 400
        ]
        boxes = np.array(boxes, np.float32).reshape(-1, 4) / np.float32(scale)
        return Detections(boxes, np.linspace(0.9, 0.5, len(boxes), dtype=np.float32))


@pytest.mark.parametrize("seed", range(4))
def test_each_square_is_found_once_whatever_its_size(seed):
    rng = np.random.default_rng(seed)
    picture = np.zeros((3000, 4000, 3), np.uint8)
    truth = []
    for row, column in np.ndindex(4, 5):
        side = int(rng.choice([28, 60, 150, 400, 640]))
        x, y = (np.array([800 * column, 750 * row]) + rng.integers(0, 90, 2)).tolist()
        picture[y : y + side, x : x + side] = 255
        truth.append((x, y, x + side, y + side))
    detector = Disks()
    assert len(detector(picture)) < 20
    found = detect_small_too(detector, picture, SPEC)
    assert (np.diff(found.scores) <= 0).all()
    boxes = np.array(sorted(map(tuple, found.boxes_xyxy)))
    assert boxes.shape == (20, 4)
    assert np.abs(boxes - np.array(sorted(truth))).max() < 8


def test_faces_that_the_picture_cuts_off_are_found_at_each_of_its_borders():
    picture = np.zeros((3000, 4000, 3), np.uint8)
    truth = [(x, y) for x in (0, 1300, 3940) for y in (0, 900, 2940) if (x, y) != (1300, 900)]
    for x, y in truth:
        picture[y : y + 60, x : x + 60] = 255
    found = detect_small_too(Disks(), picture, SPEC)
    boxes = np.array(sorted(map(tuple, found.boxes_xyxy)))
    assert boxes.shape == (8, 4)
    assert np.abs(boxes - [(x, y, x + 60, y + 60) for x, y in truth]).max() < 4


def test_what_the_detector_sees_well_is_looked_at_once():
    detector = Disks()
    detect_small_too(detector, np.zeros((1190, 1790, 3), np.uint8), SPEC)
    assert detector.looks == 1


def test_parts_are_no_smaller_than_asked_for():
    detector = Disks()
    picture = np.zeros((3000, 4000, 3), np.uint8)
    for deepest_zoom, looks in ((1, 1), (2, 1 + 9), (64, 1 + 9 + 36)):
        detector.looks = 0
        detect_small_too(detector, picture, SPEC, deepest_zoom)
        assert detector.looks == looks


@pytest.mark.parametrize(("height", "width", "looks"), [(1000, 3000, 1 + 9), (3000, 1000, 46)])
def test_wide_and_high_pictures_are_parted_until_they_are_seen_well(height, width, looks):
    """A picture that is three times as wide as high fits better in what is 720 high."""
    detector = Disks()
    detect_small_too(detector, np.zeros((height, width, 3), np.uint8), SPEC)
    assert detector.looks == looks


def test_parts_that_show_no_more_are_not_looked_at():
    detector = Disks()
    halved = DetectorSpec(max_height=720, max_width=1080, input_scale=0.5)
    detect_small_too(detector, np.zeros((700, 1000, 3), np.uint8), halved)
    assert detector.looks == 1


def test_a_face_that_the_whole_shows_faintly_has_the_box_of_the_part_that_shows_it_well():
    def detect(image_bgr):
        whole = len(image_bgr) == 3000
        spot = np.argwhere(image_bgr[..., 0] > 127)
        if not len(spot):
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        box = np.concatenate([spot.min(axis=0)[::-1], spot.max(axis=0)[::-1]])
        grown = box + (np.array([-200, -200, 200, 200]) if whole else 0)
        score = 0.3 if whole else 0.8
        return Detections(grown[None].astype(np.float32), np.array([score], np.float32))

    picture = np.zeros((3000, 4000, 3), np.uint8)
    picture[1000:1100, 500:600] = 255
    found = detect_small_too(detect, picture, SPEC)
    np.testing.assert_array_equal(found.boxes_xyxy[0], [500, 1000, 599, 1099])
    assert found.scores[0] == np.float32(0.8)


def test_what_a_part_shows_within_a_face_that_is_known_is_none():
    """A mouth, say, whose box has little in common with that of the face, but all in it."""

    def detect(image_bgr):
        spot = np.argwhere(image_bgr[..., 0] > 127)
        if not len(spot):
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        x0, y0, x1, y1 = np.concatenate([spot.min(axis=0)[::-1], spot.max(axis=0)[::-1]])
        whole = len(image_bgr) == 3000
        box = (x0, y0, x1, y1) if whole else (x0 + 30, y0 + 60, x0 + 70, y0 + 90)
        return Detections(np.float32([box]), np.float32([0.9 if whole else 0.8]))

    picture = np.zeros((3000, 4000, 3), np.uint8)
    picture[1000:1100, 500:600] = 255
    found = detect_small_too(detect, picture, SPEC)
    np.testing.assert_array_equal(found.boxes_xyxy, [[500, 1000, 599, 1099]])


def test_people_in_the_back_of_a_large_photo_are_found(repository, astronaut):
    """Seven of one photo, the smallest faces 34 pixels high, one 209."""
    picture = np.full((3000, 4000, 3), 120, np.uint8)
    for index, scale in enumerate((2.5, 0.4, 0.4, 0.5, 0.7, 1.0, 0.6)):
        part = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        x, y = (100, 100) if index == 0 else (1500 + 800 * (index % 3), 300 + 1400 * (index // 4))
        picture[y : y + len(part), x : x + len(part)] = part
    models = model_set.load(repository / "models" / "embedded")
    config = PipelineConfig(detector_threads=1, regressor_threads=1)
    pipeline = FacePipeline(models, config)
    try:
        assert len(pipeline.process_still(picture).faces) < 7
        pipeline.configure(replace(config, small_faces=True))
        faces = pipeline.process_still(picture).faces
        assert len(faces) == 7
        heights = sorted(float(np.ptp(face.landmarks[:, 1])) for face in faces)
        assert heights[0] < 40
        assert heights[-1] > 200
    finally:
        pipeline.close()
