"""Tracker on synthetic scenes whose identities are known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tddfa_ros.core.appearance import SETTLING_FRAMES, SIDE
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.followed import COURSE_S, Observation
from tddfa_ros.core.track import SEARCHES_WITHOUT_FACE, Tracker
from tddfa_ros.core.types import Detections, MorphableParams

IMAGE_HW = (480, 640)
FRAME_NS = 33_333_333
# A face-like cloud: the corners and the middle of a square of side 2 among 68 points.
CLOUD = np.random.default_rng(0).uniform(-1, 1, (68, 2)).astype(np.float32)
CLOUD[:4] = [[-1, -1], [1, -1], [1, 1], [-1, 1]]


def face_at(x, y, half=40.0, confidence=float("nan"), level=None, who=None):
    """Observation of a face with its centre at (x, y), pixels.

    It looks as `level` says, one colour, or as somebody of that number.
    """
    landmarks = np.zeros((68, 3), np.float32)
    landmarks[:, :2] = CLOUD * half + [x, y]
    params = MorphableParams(
        np.zeros((3, 4), np.float32),
        np.zeros(40, np.float32),
        np.zeros(10, np.float32),
        np.zeros(4, np.float32),
        120,
    )
    look = None if level is None else np.full((SIDE, SIDE, 3), level, np.float32)
    if who is not None:
        look = np.random.default_rng(who).uniform(0, 1, (SIDE, SIDE, 3)).astype(np.float32)
    return Observation(params, landmarks, confidence, look)


def box_at(x, y, half=44.0):
    return np.array([x - half, y - half, x + half, y + half], np.float32)


def found(*boxes, scores=None):
    boxes_xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes_xyxy, np.array(scores or [0.9] * len(boxes), np.float32))


def begin(tracker, *places, stamp_ns=0):
    tracker.begin_frame(stamp_ns, IMAGE_HW)
    for x, y in places:
        tracker.add(box_at(x, y), 0.9, face_at(x, y), stamp_ns, IMAGE_HW)
    return [track.id for track in tracker.active]


def followed(tracker):
    return {track: track.motion for track in tracker.active}


@pytest.fixture
def tracker():
    return Tracker(PipelineConfig(max_faces=10, lost_timeout_s=1.0))


def test_ids_start_with_a_letter_and_are_never_given_twice(tracker):
    first = begin(tracker, (100, 100), (300, 100))
    tracker.reset()
    second = begin(tracker, (100, 100), (300, 100))
    assert len({*first, *second}) == 4
    assert all(face_id[0].isalpha() for face_id in [*first, *second])


def test_a_face_keeps_its_id_and_its_box_moves_and_scales_with_it(tracker):
    (face_id,) = begin(tracker, (200, 200))
    np.testing.assert_allclose(tracker.active[0].box_xyxy, box_at(200, 200), atol=1e-3)
    for frame in range(1, 30):
        tracker.begin_frame(frame * FRAME_NS, IMAGE_HW)
        tracker.update([face_at(200 + 3 * frame, 200, 40 + frame)], frame * FRAME_NS, IMAGE_HW)
    (track,) = tracker.active
    assert (track.id, track.age_frames, track.begins) == (face_id, 29, False)
    expected = box_at(200 + 3 * 29, 200, 44 * (40 + 29) / 40)
    np.testing.assert_allclose(track.box_xyxy, expected, atol=1e-2)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        face_at(np.nan, 100),
        face_at(-500, 100),
        face_at(100, 100, half=0.1),
        face_at(100, 100, half=100.0),
        face_at(100, 100, half=15.0),
        face_at(100, 100, confidence=0.2),
    ],
    ids=["nothing", "nan", "outside", "a point", "grown", "shrunk", "no confidence"],
)
def test_a_fit_that_is_no_face_ends_the_track(tracker, bad):
    begin(tracker, (100, 100), (400, 300))
    tracker.begin_frame(FRAME_NS, IMAGE_HW)
    tracker.update([bad, face_at(400, 300)], FRAME_NS, IMAGE_HW)
    assert [track.id for track in tracker.active] == ["f00002"]


def test_a_face_half_outside_the_image_is_followed(tracker):
    begin(tracker, (0, 240))
    tracker.begin_frame(FRAME_NS, IMAGE_HW)
    tracker.update([face_at(0, 240)], FRAME_NS, IMAGE_HW)
    assert len(tracker.active) == 1


def test_a_track_that_runs_onto_another_face_ends_and_the_other_lives(tracker):
    _, right = begin(tracker, (200, 200), (400, 200))
    tracker.begin_frame(FRAME_NS, IMAGE_HW)
    tracker.update([face_at(398, 200), face_at(400, 200)], FRAME_NS, IMAGE_HW)
    assert [track.id for track in tracker.active] == [right]


def test_a_face_that_returns_where_its_motion_takes_it_has_its_old_id(tracker):
    (face_id,) = begin(tracker, (100, 200))
    for frame in range(1, 21):
        tracker.begin_frame(frame * FRAME_NS, IMAGE_HW)
        tracker.update([face_at(100 + 6 * frame, 200)], frame * FRAME_NS, IMAGE_HW)
    tracker.begin_frame(21 * FRAME_NS, IMAGE_HW)
    tracker.update([None], 21 * FRAME_NS, IMAGE_HW)
    assert not tracker.active
    for frame in range(22, 35):
        tracker.begin_frame(frame * FRAME_NS, IMAGE_HW)
    x = 100 + 6 * 34
    tracker.add(box_at(x, 200), 0.8, face_at(x, 200), 34 * FRAME_NS, IMAGE_HW)
    assert [track.id for track in tracker.active] == [face_id]


def test_a_face_elsewhere_or_too_late_gets_a_new_id(tracker):
    (face_id,) = begin(tracker, (100, 200))
    tracker.begin_frame(FRAME_NS, IMAGE_HW)
    tracker.update([None], FRAME_NS, IMAGE_HW)
    tracker.add(box_at(500, 400), 0.8, face_at(500, 400), FRAME_NS, IMAGE_HW)
    assert tracker.active[0].id != face_id
    for stamp_ns in range(FRAME_NS, 2_000_000_000, FRAME_NS):
        tracker.begin_frame(stamp_ns, IMAGE_HW)
    tracker.add(box_at(100, 200), 0.8, face_at(100, 200), 2_000_000_000, IMAGE_HW)
    assert face_id not in [track.id for track in tracker.active]


def times(tracker, stamps_ns):
    """The tracker's time after each of these stamps."""
    now_ns = []
    for stamp_ns in stamps_ns:
        tracker.begin_frame(stamp_ns, IMAGE_HW)
        now_ns.append(tracker.now_ns)
    return now_ns


@given(st.lists(st.booleans(), min_size=2, max_size=30))
def test_images_overtaken_by_the_next_one_take_no_time_twice(overtaken):
    stamps_ns = [FRAME_NS * index for index in range(1, 2 * len(overtaken) + 1)]
    for index, swap in enumerate(overtaken):
        if swap:
            pair = slice(2 * index + 1, 2 * index + 3)
            stamps_ns[pair] = stamps_ns[pair][::-1]
    now_ns = times(Tracker(PipelineConfig()), stamps_ns)
    assert now_ns == list(np.maximum.accumulate(stamps_ns))


def test_time_goes_on_in_a_recording_of_less_than_half_a_second_that_is_repeated(tracker):
    once = [FRAME_NS * index for index in range(8)]
    now_ns = times(tracker, once * 5)
    steps = np.diff(now_ns)
    assert set(steps) == {0, FRAME_NS}
    assert now_ns[-1] == 5 * once[-1]
    # Nor does it go back where it is no repetition, but goes on beyond.
    steps = np.diff(times(tracker, [FRAME_NS * index for index in range(20)]))
    assert set(steps) == {FRAME_NS}


def test_searches_that_miss_a_face_end_it_only_in_a_row(tracker):
    begin(tracker, (100, 100))
    box = tracker.active[0].box_xyxy
    tracker.confirm(found(box), 0.5, followed(tracker))
    for _ in range(SEARCHES_WITHOUT_FACE - 1):
        tracker.confirm(found(), 0.5, followed(tracker))
    tracker.confirm(found(box, scores=[0.2]), 0.5, followed(tracker))
    assert tracker.active[0].score == pytest.approx(0.2)
    for _ in range(SEARCHES_WITHOUT_FACE - 1):
        tracker.confirm(found(), 0.5, followed(tracker))
        assert len(tracker.active) == 1
    tracker.confirm(found(), 0.5, followed(tracker))
    assert not tracker.active


def test_a_face_that_only_one_search_ever_found_ends_with_the_next(tracker):
    begin(tracker, (100, 100), (300, 100))
    once, twice = tracker.active
    tracker.confirm(found(twice.box_xyxy), 0.5, followed(tracker))
    assert tracker.active == [twice]
    # The name is kept for it all the same.
    tracker.add(box_at(100, 100), 0.9, face_at(100, 100), 0, IMAGE_HW)
    assert {track.id for track in tracker.active} == {once.id, twice.id}


def test_a_face_that_came_back_is_as_sure_as_it_was(tracker):
    begin(tracker, (100, 100))
    tracker.confirm(found(tracker.active[0].box_xyxy), 0.5, followed(tracker))
    tracker.begin_frame(FRAME_NS, IMAGE_HW)
    tracker.update([None], FRAME_NS, IMAGE_HW)
    tracker.add(box_at(100, 100), 0.9, face_at(100, 100), FRAME_NS, IMAGE_HW)
    tracker.confirm(found(), 0.5, followed(tracker))
    assert len(tracker.active) == 1


def test_a_face_begun_after_the_search_is_not_held_against_it(tracker):
    begin(tracker, (100, 100))
    for _ in range(2 * SEARCHES_WITHOUT_FACE):
        assert tracker.confirm(found(box_at(100, 100)), 0.5, {}) == []
    assert tracker.active[0].searches_without_face == 0


def test_only_clear_detections_of_nobody_followed_are_new_and_only_as_many_as_fit():
    tracker = Tracker(PipelineConfig(max_faces=2))
    begin(tracker, (100, 100))
    detections = found(
        box_at(105, 100), box_at(300, 100), box_at(300, 300), box_at(500, 300),
        scores=[0.9, 0.4, 0.8, 0.7],
    )  # fmt: skip
    assert tracker.confirm(detections, 0.5, followed(tracker)) == [2]


@pytest.mark.parametrize("jump_ns", [-600_000_000, -10_000_000_000, 5_000_000_000])
def test_time_that_jumps_forgets_all_faces(tracker, jump_ns):
    begin(tracker, (100, 100), stamp_ns=20_000_000_000)
    assert tracker.begin_frame(20_000_000_000, IMAGE_HW) is True
    assert tracker.begin_frame(20_000_000_000 + jump_ns, IMAGE_HW) is False
    assert not tracker.active
    assert tracker.begin_frame(20_000_000_000 + jump_ns + FRAME_NS, IMAGE_HW) is True


def test_faces_followed_and_lost_are_scaled_with_the_images(tracker):
    left, right = begin(tracker, (100, 200), (400, 200))
    walk(tracker, [(f, {left: (100 + 2 * f, 200), right: (400, 200)}) for f in range(1, 9)])
    walk(tracker, [(9, {left: (118, 200)})])
    assert [track.id for track in tracker.active] == [left]
    tracker.confirm(found(box_at(118, 200)), 0.5, followed(tracker))
    (track,) = tracker.active
    velocity_px_s = track.motion.velocity_px_s
    bounds_xyxy = np.array([motion.bounds_xyxy for motion in track.course])
    twice_hw = (2 * IMAGE_HW[0], 2 * IMAGE_HW[1])
    assert tracker.begin_frame(10 * FRAME_NS, twice_hw) is False
    (track,) = tracker.active
    np.testing.assert_allclose(track.box_xyxy, box_at(236, 400, 88), atol=1e-3)
    np.testing.assert_array_equal(track.motion.velocity_px_s, 2 * velocity_px_s)
    scaled = [motion.bounds_xyxy for motion in track.course]
    np.testing.assert_allclose(scaled, 2 * bounds_xyxy, rtol=1e-6)
    seen = [face_at(240, 400, 80), face_at(800, 400, 80)]
    np.testing.assert_allclose(track.observation.landmarks[:4], seen[0].landmarks[:4] - [4, 0, 0])
    assert track.observation.landmarks.dtype == np.float32
    tracker.update(seen[:1], 10 * FRAME_NS, twice_hw)
    tracker.add(box_at(800, 400, 88), 0.9, seen[1], 10 * FRAME_NS, twice_hw)
    assert [track.id for track in tracker.active] == [left, right]
    assert tracker.begin_frame(11 * FRAME_NS, twice_hw) is True
    # Who is lost only now is expected where a search found him before.
    tracker.update([None, seen[1]], 11 * FRAME_NS, twice_hw)
    tracker.begin_frame(12 * FRAME_NS, twice_hw)
    tracker.add(box_at(244, 400, 88), 0.9, face_at(244, 400, 80), 12 * FRAME_NS, twice_hw)
    assert {track.id for track in tracker.active} == {left, right}


def test_two_faces_that_cross_keep_their_ids(tracker):
    """The one behind is hidden at the crossing: its fit snaps onto the one in front."""
    front, behind = begin(tracker, (100, 200), (500, 210))
    for frame in range(1, 101):
        stamp_ns = frame * FRAME_NS
        x_front, x_behind = 100 + 4 * frame, 500 - 4 * frame
        tracker.begin_frame(stamp_ns, IMAGE_HW)
        hidden = abs(x_front - x_behind) < 60
        places = {front: (x_front, 200), behind: (x_front, 201) if hidden else (x_behind, 210)}
        tracker.update([face_at(*places[track.id]) for track in tracker.active], stamp_ns, IMAGE_HW)
        visible = [(x_front, 200)] + ([] if hidden else [(x_behind, 210)])
        detections = found(*[box_at(*place) for place in visible])
        for index in tracker.confirm(detections, 0.5, followed(tracker)):
            x, y = visible[index]
            tracker.add(box_at(x, y), 0.9, face_at(x, y), stamp_ns, IMAGE_HW)
    ends = {track.id: track.motion.bounds_xyxy[:2] + 40 for track in tracker.active}
    assert set(ends) == {front, behind}
    np.testing.assert_allclose(ends[front], [500, 200], atol=1e-3)
    np.testing.assert_allclose(ends[behind], [100, 210], atol=1e-3)


def walk(tracker, places_by_frame):
    """Follow faces, each seen where it is; None where a frame gives no fit."""
    for frame, places in places_by_frame:
        tracker.begin_frame(frame * FRAME_NS, IMAGE_HW)
        seen = [face_at(*places[t.id]) if places.get(t.id) else None for t in tracker.active]
        tracker.update(seen, frame * FRAME_NS, IMAGE_HW)


def test_lost_faces_that_return_at_once_are_reunited_so_that_all_move_least(tracker):
    """The face seen first is the nearest one to both lost places; the second fits to one only."""
    left, right = begin(tracker, (200, 200), (260, 200))
    walk(tracker, [(1, {left: (200, 200), right: (260, 200)}), (2, {})])
    assert not tracker.active
    tracker.add_all(
        [(box_at(x, 200), 0.9, face_at(x, 200)) for x in (225, 165)], 3 * FRAME_NS, IMAGE_HW
    )
    places = {t.id: t.motion.bounds_xyxy[0] + 40 for t in tracker.active}
    assert places == {left: pytest.approx(165), right: pytest.approx(225)}


def test_as_many_lost_faces_are_reunited_as_can_be_however_far_they_went():
    """The right one cannot be the left one, six sizes away each can be the one beside it."""
    tracker = Tracker(PipelineConfig(lost_timeout_s=20.0))
    for stamp_ns, places in ((0, (100, 220)), (10_000_000_000, (220, 340))):
        tracker.begin_frame(stamp_ns, IMAGE_HW)
        seen = [(box_at(x, 200, 11), 0.9, face_at(x, 200, 10)) for x in places]
        tracker.add_all(seen, stamp_ns, IMAGE_HW)
        if not stamp_ns:
            left, right = (track.id for track in tracker.active)
            follow(tracker, 1, 1, None, None)
    places = {t.id: t.motion.bounds_xyxy[0] + 10 for t in tracker.active}
    assert places == {left: pytest.approx(220), right: pytest.approx(340)}


@pytest.mark.parametrize("score", [0.9, 0.2], ids=["clear", "faint"])
def test_a_face_whose_track_went_astray_is_reunited_although_the_track_still_lives(tracker, score):
    """A regressor without confidence follows the wall behind a face that hid."""
    (face_id,) = begin(tracker, (300, 200))
    walk(tracker, [(frame, {face_id: (300 + 3 * frame, 200)}) for frame in range(1, 10)])
    box = tracker.active[0].box_xyxy
    tracker.confirm(found(box), 0.5, followed(tracker))
    walk(tracker, [(frame, {face_id: (327 - 12 * (frame - 9), 200)}) for frame in range(10, 18)])
    at = (300 + 3 * 18, 200)
    tracker.begin_frame(18 * FRAME_NS, IMAGE_HW)
    detections = found(box_at(*at), scores=[score])
    assert tracker.confirm(detections, 0.5, followed(tracker)) == [0]
    tracker.add(box_at(*at), score, face_at(*at), 18 * FRAME_NS, IMAGE_HW)
    (track,) = tracker.active
    assert track.id == face_id
    assert track.motion.bounds_xyxy[0] + 40 == pytest.approx(at[0])


def test_a_face_that_searches_wrongly_gave_up_is_awaited_where_it_was_followed_to(tracker):
    (face_id,) = begin(tracker, (100, 100))
    walk(tracker, [(frame, {face_id: (100 + 2 * frame, 100)}) for frame in range(1, 9)])
    tracker.confirm(found(box_at(116, 100)), 0.5, followed(tracker))
    walk(tracker, [(frame, {face_id: (116, 100 + 12 * (frame - 8))}) for frame in range(9, 24)])
    for _ in range(SEARCHES_WITHOUT_FACE):
        tracker.confirm(found(), 0.5, followed(tracker))
    assert not tracker.active
    tracker.begin_frame(24 * FRAME_NS, IMAGE_HW)
    tracker.add(box_at(116, 292), 0.9, face_at(116, 292), 24 * FRAME_NS, IMAGE_HW)
    assert [track.id for track in tracker.active] == [face_id]


def test_a_face_that_no_search_has_found_for_long_is_awaited_where_it_was_followed(tracker):
    (face_id,) = begin(tracker, (100, 200))
    walk(tracker, [(frame, {face_id: (100 + 5 * frame, 200)}) for frame in range(1, 61)])
    walk(tracker, [(61, {})])
    tracker.begin_frame(62 * FRAME_NS, IMAGE_HW)
    tracker.add(box_at(410, 200), 0.9, face_at(410, 200), 62 * FRAME_NS, IMAGE_HW)
    assert [track.id for track in tracker.active] == [face_id]


def test_the_place_of_a_lost_face_is_kept_where_another_one_was_taken_for_it(tracker):
    """Somebody appears beside it for an image; then it comes back, on the other side."""
    (face_id,) = begin(tracker, (200, 200))
    walk(tracker, [(1, {})])
    tracker.begin_frame(2 * FRAME_NS, IMAGE_HW)
    tracker.add(box_at(240, 200), 0.9, face_at(240, 200), 2 * FRAME_NS, IMAGE_HW)
    assert [track.id for track in tracker.active] == [face_id]
    walk(tracker, [(3, {})])
    tracker.begin_frame(4 * FRAME_NS, IMAGE_HW)
    tracker.add(box_at(160, 200), 0.9, face_at(160, 200), 4 * FRAME_NS, IMAGE_HW)
    assert [track.id for track in tracker.active] == [face_id]


def test_a_faint_detection_brings_back_a_lost_face_but_begins_no_new_one(tracker):
    (face_id,) = begin(tracker, (200, 200))
    walk(tracker, [(1, {face_id: (200, 200)}), (2, {})])
    assert tracker.awaits_return
    faint = found(box_at(205, 200), box_at(500, 300), scores=[0.2, 0.2])
    assert tracker.confirm(faint, 0.5, {}) == [0]


def test_a_search_confirms_where_the_face_was_when_it_looked(tracker):
    """What the track did since then may be wrong already."""
    (face_id,) = begin(tracker, (200, 200))
    walk(tracker, [(frame, {face_id: (200 + 4 * frame, 200)}) for frame in range(1, 9)])
    looked = followed(tracker)
    walk(tracker, [(frame, {face_id: (232, 200 + 9 * (frame - 8))}) for frame in range(9, 12)])
    (motion,) = looked.values()
    tracker.confirm(found(box_at(232, 200)), 0.5, looked)
    (track,) = tracker.active
    assert track.sure_motion is motion
    assert track.sure_motion.velocity_px_s[1] == pytest.approx(0)
    np.testing.assert_allclose(track.box_at(motion), box_at(232, 200), atol=1e-3)


def test_a_box_of_an_older_image_is_put_right_by_the_next_search(tracker):
    """A background search tells where the face was three images ago."""
    tracker.begin_frame(0, IMAGE_HW)
    tracker.add(box_at(170, 200), 0.9, face_at(200, 200), 0, IMAGE_HW)
    follow(tracker, 9, 1, face_at(200, 200))
    looked = followed(tracker)
    follow(tracker, 3, 10, face_at(260, 230))
    np.testing.assert_allclose(tracker.active[0].box_xyxy, box_at(230, 230), atol=1e-3)
    tracker.confirm(found(box_at(200, 200)), 0.5, looked)
    np.testing.assert_allclose(tracker.active[0].box_xyxy, box_at(260, 230), atol=1e-3)


def test_a_search_confirms_whom_it_saw_whatever_they_are_called_by_then(tracker):
    left, right = begin(tracker, (150, 200), (450, 200))
    looked = followed(tracker)
    walk(tracker, [(1, {left: (150, 200), right: (450, 200)})])
    tracker.active[0].exchange_names(tracker.active[1])
    # Neither was found again so far, so one search that misses a face ends it.
    tracker.confirm(found(box_at(150, 200)), 0.5, looked)
    (track,) = tracker.active
    assert (track.id, track.found_again) == (right, True)
    np.testing.assert_allclose(track.box_xyxy, box_at(150, 200), atol=1e-3)


def test_an_age_goes_with_the_name(tracker):
    begin(tracker, (150, 200))
    follow(tracker, 4, 1, face_at(150, 200))
    tracker.add(box_at(450, 200), 0.9, face_at(450, 200), 4 * FRAME_NS, IMAGE_HW)
    older, newer = tracker.active
    ages = {track.id: (track.age_frames, track.first_stamp_ns) for track in (older, newer)}
    assert ages == {"f00001": (4, 0), "f00002": (0, 4 * FRAME_NS)}
    older.exchange_names(newer)
    assert {track.id: (track.age_frames, track.first_stamp_ns) for track in (older, newer)} == ages


def test_a_course_is_as_long_as_it_should_be(tracker):
    begin(tracker, (150, 200))
    follow(tracker, 20, 1, face_at(150, 200))
    (track,) = tracker.active
    ages_s = [(track.stamp_ns - motion.stamp_ns) * 1e-9 for motion in track.course]
    assert ages_s[0] >= COURSE_S > ages_s[1]


def test_a_fit_changes_by_where_its_landmarks_are_in_the_image():
    before, aside = face_at(100, 200), face_at(108, 194)
    assert before.change_to(aside) == pytest.approx(10 / 80)
    assert aside.change_to(face_at(108, 194)) == 0
    aside.landmarks[:, 2] += 50
    assert before.change_to(aside) == pytest.approx(10 / 80)


def test_a_lost_face_is_awaited_between_where_it_was_and_where_its_motion_leads(tracker):
    (face_id,) = begin(tracker, (100, 200))
    walk(tracker, [(frame, {face_id: (100 + 8 * frame, 200)}) for frame in range(1, 16)])
    tracker.confirm(found(box_at(220, 200)), 0.5, followed(tracker))
    walk(tracker, [(16, {})])
    for frame in range(17, 30):
        tracker.begin_frame(frame * FRAME_NS, IMAGE_HW)
    # Behind it, then beyond where it can be by now, then where it stopped.
    for x, known in ((70, False), (480, False), (290, True)):
        tracker.add(box_at(x, 200), 0.9, face_at(x, 200), 29 * FRAME_NS, IMAGE_HW)
        assert (face_id in [track.id for track in tracker.active]) is known


@pytest.mark.parametrize("half", [15.0, 100.0])
def test_a_face_of_quite_another_size_is_not_the_lost_one(tracker, half):
    (face_id,) = begin(tracker, (200, 200))
    walk(tracker, [(1, {face_id: (200, 200)}), (2, {})])
    tracker.begin_frame(3 * FRAME_NS, IMAGE_HW)
    tracker.add(box_at(200, 200, half), 0.9, face_at(200, 200, half), 3 * FRAME_NS, IMAGE_HW)
    assert [track.id for track in tracker.active] == ["f00002"]


def test_the_age_of_a_face_that_came_back_counts_the_images_without_it(tracker):
    (face_id,) = begin(tracker, (200, 200))
    walk(tracker, [(1, {face_id: (200, 200)}), *((frame, {}) for frame in range(2, 12))])
    stamp = 12 * FRAME_NS
    tracker.begin_frame(stamp, IMAGE_HW)
    tracker.update([], stamp, IMAGE_HW)
    tracker.add(box_at(200, 200), 0.9, face_at(200, 200), stamp, IMAGE_HW)
    (track,) = tracker.active
    assert (track.id, track.age_frames, track.begins) == (face_id, 12, True)
    assert track.stamp_ns - track.first_stamp_ns == stamp


def test_ids_go_on_where_an_earlier_tracker_ended(tracker):
    first = begin(tracker, (100, 100), (300, 100))
    second = begin(Tracker(PipelineConfig(), tracker.ids_given), (100, 100))
    assert (first, second) == (["f00001", "f00002"], ["f00003"])


def test_of_two_tracks_on_one_face_the_one_off_its_course_ends(tracker):
    """The hidden face slips, a little each frame, onto the one that passes before it."""
    front, behind = begin(tracker, (200, 200), (330, 200))
    at = 330.0
    for frame in range(1, 40):
        x_front = 200 + 3 * frame
        course = 330 - 3 * frame
        at = course if course - x_front > 45 else at + 0.4 * (x_front - at)
        walk(tracker, [(frame, {front: (x_front, 200), behind: (at, 200)})])
        if len(tracker.active) == 1:
            break
    assert [track.id for track in tracker.active] == [front]


@pytest.mark.parametrize("first", [True, False])
def test_a_face_that_turned_round_is_not_off_its_course(first):
    """It went there and comes back; the one at rest below slips onto it, by half its size."""
    tracker = Tracker(PipelineConfig())
    places = [(180, 200), (270, 260)]
    turned, resting = begin(tracker, *places) if first else begin(tracker, *places[::-1])[::-1]
    for frame in range(1, 26):
        x = 180 + 6 * min(frame, 40 - frame)
        walk(tracker, [(frame, {turned: (x, 200), resting: (270, 220 if frame == 25 else 260)})])
        assert turned in [track.id for track in tracker.active]
    assert [track.id for track in tracker.active] == [turned]


@given(
    st.lists(
        st.tuples(
            st.floats(-200, 900),
            st.floats(-200, 700),
            st.floats(0.01, 300),
            st.one_of(st.just(float("nan")), st.floats(0, 1)),
        ),
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_whatever_is_seen_ids_stay_unique_and_no_two_tracks_share_a_face(seen, max_faces):
    tracker = Tracker(PipelineConfig(max_faces=max_faces))
    for frame, (x, y, half, confidence) in enumerate(seen):
        stamp_ns = frame * FRAME_NS
        tracker.begin_frame(stamp_ns, IMAGE_HW)
        tracker.update([face_at(x, y, half, confidence)] * len(tracker.active), stamp_ns, IMAGE_HW)
        assert len(tracker.active) <= 1  # one place can hold one face
        detections = found(box_at(x, y, half))
        for index in tracker.confirm(detections, 0.5, followed(tracker)):
            tracker.add(detections.boxes_xyxy[index], 0.9, face_at(x, y, half), stamp_ns, IMAGE_HW)
        ids = [track.id for track in tracker.active]
        assert len(set(ids)) == len(ids) <= max_faces


def follow(tracker, frames, first, *faces):
    """So many images of the same faces; returns the number of the next one."""
    for frame in range(first, first + frames):
        tracker.begin_frame(frame * FRAME_NS, IMAGE_HW)
        tracker.update(list(faces), frame * FRAME_NS, IMAGE_HW)
    return first + frames


def test_names_follow_the_looks_of_two_who_met(tracker):
    left, right = begin(tracker, (100, 200), (500, 200))
    frame = follow(tracker, 6, 1, face_at(100, 200, level=0.3), face_at(500, 200, level=0.7))
    frame = follow(tracker, 2, frame, face_at(260, 200, level=0.5), face_at(350, 200, level=0.5))
    # Each landmark track went on to the wrong side.
    swapped = face_at(100, 200, level=0.7), face_at(500, 200, level=0.3)
    frame = follow(tracker, SETTLING_FRAMES - 1, frame, *swapped)
    assert tracker.exchanged == set()
    frame = follow(tracker, 1, frame, *swapped)
    assert tracker.exchanged == {left, right}
    places = {t.id: float(t.observation.landmarks[0, 0]) for t in tracker.active}
    assert places[right] < 200 < 400 < places[left]
    assert [t.id for t in tracker.active] == sorted((left, right))
    follow(tracker, 1, frame, *reversed(swapped))
    assert tracker.exchanged == set()


@pytest.mark.parametrize(
    ("away", "level", "same"),
    [
        (110, 0.3, True),
        (110, 0.35, True),
        (110, 0.37, False),
        (110, 0.6, False),
        (110, None, False),
        (185, 0.3, True),
        (200, 0.3, False),
    ],
)
def test_a_lost_face_may_come_back_farther_away_if_it_looks_the_same(tracker, away, level, same):
    begin(tracker, (100, 200))
    first = tracker.active[0].id
    frame = follow(tracker, 6, 1, face_at(100, 200, level=0.3))
    frame = follow(tracker, 1, frame, None)
    stamp, x = frame * FRAME_NS, 100 + away
    tracker.begin_frame(stamp, IMAGE_HW)
    tracker.add(box_at(x, 200), 0.9, face_at(x, 200, level=level), stamp, IMAGE_HW)
    assert (tracker.active[0].id == first) is same


@given(
    x=st.floats(150, 310), level=st.floats(0, 1), levels=st.tuples(st.floats(0, 1), st.floats(0, 1))
)
def test_who_came_back_is_told_by_place_and_look_together(x, level, levels):
    """The greatest difference of two looks counts as much as four face sizes."""
    tracker = Tracker(PipelineConfig(lost_timeout_s=5.0))
    places = (150, 310)
    ids = begin(tracker, *((place, 200) for place in places))
    seen = [face_at(place, 200, level=k) for place, k in zip(places, levels, strict=True)]
    frame = follow(tracker, 1, follow(tracker, 6, 1, *seen), None, None)
    # So long after, either may be in either's place.
    stamp_ns = (frame + 60) * FRAME_NS
    tracker.begin_frame(stamp_ns, IMAGE_HW)
    tracker.add(box_at(x, 200), 0.9, face_at(x, 200, level=level), stamp_ns, IMAGE_HW)
    sizes = np.abs(np.array(places) - x) / 80
    costs = sizes + 4 * np.abs(np.array(levels) - level)
    assume(abs(costs[0] - costs[1]) > 1e-3)
    assert [track.id for track in tracker.active] == [ids[int(costs.argmin())]]


@pytest.mark.parametrize(("level", "taken"), [(0.31, True), (0.44, True), (0.46, False)])
def test_what_is_too_faint_for_a_new_face_must_look_like_the_lost_one(tracker, level, taken):
    begin(tracker, (100, 200))
    frame = follow(tracker, 6, 1, face_at(100, 200, level=0.3))
    frame = follow(tracker, 1, frame, None)
    stamp = frame * FRAME_NS
    tracker.begin_frame(stamp, IMAGE_HW)
    fit = face_at(104, 200, level=level)
    tracker.add_all([(box_at(104, 200), 0.2, fit)], stamp, IMAGE_HW, threshold=0.5)
    assert bool(tracker.active) is taken
    tracker.add_all([(box_at(400, 200), 0.2, face_at(400, 200))], stamp, IMAGE_HW, threshold=0.5)
    assert bool(tracker.active) is taken


def test_a_new_face_must_be_surer_than_one_that_goes_on(tracker):
    tracker.begin_frame(0, IMAGE_HW)
    tracker.add(box_at(100, 200), 0.9, face_at(100, 200, confidence=0.98), 0, IMAGE_HW)
    assert not tracker.active
    tracker.add(box_at(100, 200), 0.9, face_at(100, 200, confidence=0.995), 0, IMAGE_HW)
    assert len(tracker.active) == 1
    follow(tracker, 3, 1, face_at(100, 200, confidence=0.6))
    assert len(tracker.active) == 1
    follow(tracker, 1, 4, face_at(100, 200, confidence=0.4))
    assert not tracker.active


@given(threshold=st.floats(0, 0.999), confidence=st.floats(0, 1))
def test_no_threshold_below_one_shuts_out_a_sure_face_or_lets_in_what_would_be_lost(
    threshold, confidence
):
    tracker = Tracker(PipelineConfig(confidence_threshold=threshold))
    begin(tracker, (100, 200))
    assert len(tracker.active) == 1
    tracker.add(box_at(300, 200), 0.9, face_at(300, 200, confidence=confidence), 0, IMAGE_HW)
    begun = len(tracker.active) == 2
    assert not begun or confidence >= threshold
    odds_of_threshold, odds = (p / (1 - p) if p < 1 else np.inf for p in (threshold, confidence))
    least = 99 * odds_of_threshold
    assert begun == (odds >= least) or odds == pytest.approx(least)


@pytest.mark.parametrize(
    ("score", "confidence", "begun"),
    [
        (0.5, 0.995, True),
        (0.49, 0.995, False),
        (0.49, 0.9994, False),
        (0.49, 0.9996, True),
        (0.31, 0.9996, True),
        (0.29, 1.0, False),
        (0.5, float("nan"), True),
        (0.49, float("nan"), False),
    ],
)
def test_a_faint_face_begins_where_the_regressor_is_sure_of_it(tracker, score, confidence, begun):
    tracker.begin_frame(0, IMAGE_HW)
    fit = face_at(100, 200, confidence=confidence)
    tracker.add_all([(box_at(100, 200), score, fit)], 0, IMAGE_HW, threshold=0.5)
    assert bool(tracker.active) is begun


def test_a_lost_face_returns_with_less_confidence_than_a_new_one_begins_with(tracker):
    (face_id,) = begin(tracker, (100, 200))
    frame = follow(tracker, 1, follow(tracker, 6, 1, face_at(100, 200)), None)
    tracker.begin_frame(frame * FRAME_NS, IMAGE_HW)
    for x in (500, 100):
        fit = face_at(x, 200, confidence=0.95)
        tracker.add(box_at(x, 200), 0.9, fit, frame * FRAME_NS, IMAGE_HW)
    assert [track.id for track in tracker.active] == [face_id]


def test_what_would_go_on_as_a_face_is_not_one_that_returns(tracker):
    (face_id,) = begin(tracker, (100, 200))
    frame = follow(tracker, 6, 1, face_at(100, 200, confidence=0.7))
    assert [track.id for track in tracker.active] == [face_id]
    frame = follow(tracker, 1, frame, None)
    tracker.begin_frame(frame * FRAME_NS, IMAGE_HW)
    fit = face_at(100, 200, confidence=0.7)
    tracker.add(box_at(100, 200), 0.9, fit, frame * FRAME_NS, IMAGE_HW)
    assert not tracker.active


def test_faint_candidates_have_the_room_that_others_leave(tracker):
    tracker.configure(PipelineConfig(max_faces=2))
    boxes = [box_at(100, 100, 30), box_at(300, 100, 80), box_at(300, 300, 60)]
    new = tracker.confirm(found(*boxes, scores=[0.6, 0.4, 0.35]), 0.5, {})
    assert new == [0, 1]


class Film:
    """Shots of one person each, in the middle of the image, of whom a search finds each new one."""

    def __init__(self, tracker):
        self.tracker, self.frame = tracker, 0

    def shoot(self, who, frames, *, cut=True, fitted=True, contrast=1.0):
        """Ids in each of some frames; `fitted`: a face is found in the region of the one before.

        `contrast` of looks: with little of it all faces are of nearly one colour.
        """
        ids = []
        for k in range(frames):
            stamp_ns, seen = self.frame * FRAME_NS, face_at(300, 200, who=who)
            seen = replace(seen, look=0.5 + contrast * (seen.look - 0.5))
            self.tracker.begin_frame(stamp_ns, IMAGE_HW)
            observations = [seen if fitted or k else None for _ in self.tracker.active]
            self.tracker.update(observations, stamp_ns, IMAGE_HW, cut=cut and k == 0)
            if not self.tracker.active:
                self.tracker.add(box_at(300, 200), 0.9, seen, stamp_ns, IMAGE_HW)
            ids += [track.id for track in self.tracker.active]
            self.frame += 1
        return ids

    def show_nobody(self):
        """One image after a cut."""
        self.tracker.begin_frame(self.frame * FRAME_NS, IMAGE_HW)
        nobody = [None] * len(self.tracker.active)
        self.tracker.update(nobody, self.frame * FRAME_NS, IMAGE_HW, cut=True)
        self.frame += 1


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize("frames", [1, 10])
def test_after_a_cut_somebody_else_where_a_face_was_is_somebody_else(tracker, frames, fitted):
    film = Film(tracker)
    shots = [film.shoot(who, frames, fitted=fitted) for who in range(4)]
    assert all(len(shot) == frames and len(set(shot)) == 1 for shot in shots)
    assert len({shot[0] for shot in shots}) == 4


@pytest.mark.parametrize("fitted", [True, False])
def test_two_people_in_one_light_are_two_after_a_cut(tracker, fitted):
    """They differ by less than two looks of one of them may that are some seconds apart."""
    film = Film(tracker)
    first, second = (film.shoot(who, 10, fitted=fitted, contrast=0.2) for who in (1, 2))
    assert len({*first}) == len({*second}) == 1
    assert first[0] != second[0]


@pytest.mark.parametrize("frames", [1, 10])
def test_who_is_elsewhere_in_the_picture_after_each_cut_keeps_the_id(tracker, frames):
    """A camera that pans takes the regions away from the faces, and looks like a cut."""
    film = Film(tracker)
    ids = [face_id for _ in range(6) for face_id in film.shoot(1, frames, fitted=False)]
    assert set(ids) == {"f00001"}


@pytest.mark.parametrize("frames", [1, 10])
def test_who_is_shown_again_after_a_cut_has_the_old_id(tracker, frames):
    film = Film(tracker)
    first, second = film.shoot(1, frames), film.shoot(2, frames)
    assert film.shoot(1, frames) == first
    assert film.shoot(2, frames) == second
    assert first[0] != second[0]


@pytest.mark.parametrize(("contrast", "same"), [(0.3, True), (0.45, False)])
def test_who_is_shown_again_some_images_after_a_cut_may_have_turned(tracker, contrast, same):
    """The looks differ by 0.12 and 0.18, and have nothing in common."""
    film = Film(tracker)
    before = film.shoot(1, 10, contrast=contrast)
    film.show_nobody()
    assert (film.shoot(2, 10, contrast=contrast)[0] == before[0]) is same


def test_who_is_shown_again_after_a_cut_is_known_as_it_mostly_looked(tracker):
    film = Film(tracker)
    before = film.shoot(1, 10)
    assert film.shoot(2, 1, cut=False) == before[:1]
    film.show_nobody()
    assert film.shoot(1, 1) == before[:1]


def test_a_face_of_no_known_look_is_nobody_of_before_the_cut(tracker):
    film = Film(tracker)
    before = film.shoot(1, 10)
    film.show_nobody()
    stamp_ns = film.frame * FRAME_NS
    tracker.begin_frame(stamp_ns, IMAGE_HW)
    tracker.add(box_at(300, 200), 0.9, face_at(300, 200), stamp_ns, IMAGE_HW)
    assert [track.id for track in tracker.active] != before[:1]


def test_who_goes_on_through_a_cut_keeps_the_id(tracker):
    film = Film(tracker)
    assert len({*film.shoot(1, 10), *film.shoot(1, 10)}) == 1


def test_another_look_without_a_cut_is_another_light(tracker):
    film = Film(tracker)
    assert len({*film.shoot(1, 10), *film.shoot(2, 10, cut=False)}) == 1
