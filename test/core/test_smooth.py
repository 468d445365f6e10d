"""Smoothing: what must hold exactly, what noise and steps do to it, and the mean of 3DDFA_V2."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tddfa_ros.core.camera import image_camera
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.face_model import FaceModel
from tddfa_ros.core.morphable import MorphableModel
from tddfa_ros.core.pose import head_pose
from tddfa_ros.core.smooth import LEAST_AGREEMENT, make_smoother
from tddfa_ros.core.types import Face, FrameResult, MorphableParams, TrackState

FRAME_NS = 33_333_333
SHAPES, EXPRESSIONS, SIZE = 5, 3, 120
ROI = (100.0, 50.0, 400.0, 350.0)
KINDS = ("none", "window", "one-euro")
HALF_A_FACE = 39.0  # of make_face(), network pixels: what a fast face moves between two images
WINDOW_TOLERANCE_PX = 0.5


@pytest.fixture(scope="module")
def model():
    """A model whose landmarks lie on a head-sized ball of 1e5 units."""
    random = np.random.default_rng(0)
    vertices = random.normal(size=(120, 3))
    vertices *= 1e5 / np.linalg.norm(vertices, axis=1, keepdims=True)
    return MorphableModel(
        FaceModel(
            mean=vertices.astype(np.float32),
            shape_basis=random.normal(size=(SHAPES, 120, 3)).astype(np.float32) * 1e3,
            expression_basis=random.normal(size=(EXPRESSIONS, 120, 3)).astype(np.float32) * 5e3,
            triangles=np.arange(120, dtype=np.int32).reshape(40, 3),
            uv=np.zeros((120, 2), np.float32),
            landmark_triangles=(np.arange(68) % 40).astype(np.int32),
            landmark_weights=np.eye(3, dtype=np.float32)[np.arange(68) // 40],
            metres_per_unit=1e-6,
        )
    )


@pytest.fixture
def smoother_of(model):
    def make(**settings):
        return make_smoother(PipelineConfig(**settings), model, head_pose)

    return make


def make_face(
    model,
    face_id="f1",
    *,
    shift=(0.0, 0.0),
    turn_rad=(0.0, 0.0, 0.0),
    shape=0.0,
    expression=0.0,
    roi_xyxy=ROI,
):
    """A face of about 200 px, moved by `shift` pixels of the network's input."""
    linear = 4e-4 * Rotation.from_rotvec(turn_rad).as_matrix()
    camera = np.column_stack([linear, [60 + shift[0], 60 + shift[1], -20]])
    params = MorphableParams(
        camera.astype(np.float32) + 0.0,  # a zero has no sign
        np.full(SHAPES, shape, np.float32),
        np.full(EXPRESSIONS, expression, np.float32),
        np.array(roi_xyxy, np.float32),
        SIZE,
    )
    return face_of(model, params, face_id)


def face_of(model, params, face_id="f1"):
    box, points, pose = np.zeros(4, np.float32), model.landmarks(params), head_pose(params)
    return Face(face_id, TrackState.TRACKED, 3, 0.9, float("nan"), box, params, points, pose)


def make_results(frames, start_ns=1_000, step_ns=FRAME_NS):
    return [
        FrameResult(i, start_ns + i * step_ns, 480, 640, tuple(faces), {"follow": 1.0})
        for i, faces in enumerate(frames)
    ]


def run(smoother, results):
    return [out for result in results for out in smoother.push(result)] + smoother.flush()


def landmarks_of(results, face_id="f1"):
    return np.array([f.landmarks for result in results for f in result.faces if f.id == face_id])


def assert_same_face(one, other):
    for name in ("camera", "shape", "expression", "roi_xyxy"):
        np.testing.assert_array_equal(getattr(one.params, name), getattr(other.params, name))
    np.testing.assert_array_equal(one.landmarks, other.landmarks)
    np.testing.assert_array_equal(one.pose.quat_xyzw, other.pose.quat_xyzw)
    assert replace(one, params=None, landmarks=None, pose=None, box_xyxy=None) == replace(
        other, params=None, landmarks=None, pose=None, box_xyxy=None, confidence=one.confidence
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-1, 1)] * 3),
    shape=st.floats(-3, 3, width=32),
    left=st.floats(-100, 500, width=32),
    side=st.floats(50, 700, width=32),
)
def test_a_constant_face_stays_exactly_as_it_is(model, kind, turn, shape, left, side):
    roi = (left, 20.0, left + side, 20.0 + side)
    face = make_face(model, turn_rad=turn, shape=shape, expression=shape / 3, roi_xyxy=roi)
    config = PipelineConfig(smoothing=kind, window_before=4, window_after=2)
    results = run(make_smoother(config, model, head_pose), make_results([[face]] * 20))
    assert len(results) == 20
    for result in results:
        assert_same_face(result.faces[0], face)


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_comes_out_once_and_in_order(model, smoother_of, kind):
    random = np.random.default_rng(1)
    frames = [
        [make_face(model, f"f{k}", shift=random.normal(size=2)) for k in np.flatnonzero(present)]
        for present in random.random((40, 4)) < 0.7
    ]
    given_results = make_results(frames)
    results = run(smoother_of(smoothing=kind, window_before=2, window_after=3), given_results)
    assert [r.frame_index for r in results] == list(range(40))
    for result, raw in zip(results, given_results, strict=True):
        assert replace(result, faces=()) == replace(raw, faces=())
        assert [f.id for f in result.faces] == [f.id for f in raw.faces]


@pytest.mark.parametrize("kind", ["window", "one-euro"])
def test_a_smoothed_face_is_consistent_and_the_raw_one_untouched(model, smoother_of, kind):
    random = np.random.default_rng(2)
    faces = []
    for _ in range(10):
        shift, turn = random.normal(size=2), random.normal(size=3) * 0.1
        about = {"shape": random.normal(), "expression": random.normal()}
        roi = np.array(ROI) + random.integers(-20, 20, 4)
        faces.append(make_face(model, shift=shift, turn_rad=turn, roi_xyxy=roi, **about))
    before = [face.params.vector.copy() for face in faces]
    results = run(smoother_of(smoothing=kind), make_results([[face] for face in faces]))
    for face, vector, result in zip(faces, before, results, strict=True):
        np.testing.assert_array_equal(face.params.vector, vector)
        smooth = result.faces[0]
        assert smooth.params.vector.dtype == np.float32
        np.testing.assert_array_equal(smooth.params.roi_xyxy, face.params.roi_xyxy)
        np.testing.assert_array_equal(smooth.landmarks, model.landmarks(smooth.params))
        np.testing.assert_array_equal(smooth.pose.quat_xyzw, head_pose(smooth.params).quat_xyzw)
        assert (smooth.score, smooth.state, smooth.age_frames) == (0.9, TrackState.TRACKED, 3)


@pytest.mark.parametrize("kind", ["window", "one-euro"])
def test_the_region_of_interest_does_not_matter(model, smoother_of, kind):
    """The same places in the image, said in changing regions, are smoothed the same."""
    random = np.random.default_rng(3)
    fixed, moving = [], []
    for _ in range(15):
        shift = random.normal(size=2) * 2
        face = make_face(model, shift=shift)
        roi = np.array(ROI) + np.tile(random.integers(-40, 40, 2), 2)
        offset = (np.array(ROI) - roi)[:2] * SIZE / 300 * [1, -1]
        other = make_face(model, shift=shift + offset, roi_xyxy=roi)
        np.testing.assert_allclose(other.landmarks, face.landmarks, atol=1e-3)
        fixed.append([face])
        moving.append([other])
    one, two = (
        landmarks_of(run(smoother_of(smoothing=kind), make_results(frames)))
        for frames in (fixed, moving)
    )
    np.testing.assert_allclose(two, one, atol=5e-3)


@pytest.mark.parametrize("kind", ["window", "one-euro"])
def test_repeats_bit_by_bit(model, smoother_of, kind):
    random = np.random.default_rng(4)
    results = make_results([[make_face(model, shift=random.normal(size=2))] for _ in range(30)])
    smoother = smoother_of(smoothing=kind)
    first = landmarks_of(run(smoother, results))
    np.testing.assert_array_equal(landmarks_of(run(smoother, results)), first)
    smoother.push(results[7])
    smoother.reset()
    assert smoother.flush() == []
    np.testing.assert_array_equal(landmarks_of(run(smoother, results)), first)


@pytest.mark.parametrize(("kind", "late"), [("window", 0), *[("one-euro", k) for k in range(3)]])
def test_jitter_of_a_face_at_rest_becomes_less(model, smoother_of, kind, late):
    """Noise of half a per cent of the face; second differences, which rest would not have."""
    random = np.random.default_rng(5)
    faces = []
    for _ in range(120):
        shift, turn = random.normal(size=2) * 0.3, random.normal(size=3) * 0.004
        about = dict(zip(("shape", "expression"), random.normal(size=2) * [0.3, 0.05], strict=True))
        faces.append(make_face(model, shift=shift, turn_rad=turn, **about))
    results = make_results([[face] for face in faces])
    # Every second stamp lies so many frames back: with 1, each is there twice.
    results[1::2] = [replace(r, stamp_ns=r.stamp_ns - late * FRAME_NS) for r in results[1::2]]

    def jitter(some):
        return np.linalg.norm(np.diff(landmarks_of(some)[20:, :, :2], 2, axis=0), axis=2).mean()

    smooth = jitter(run(smoother_of(smoothing=kind), results))
    assert smooth < (0.35 + 0.1 * late) * jitter(results)


def step_response(smoother, model, step_ns=FRAME_NS, **after):
    frames = [[make_face(model)]] * 30 + [[make_face(model, **after)]] * 60
    results = make_results(frames, step_ns=step_ns)
    target = landmarks_of(results)[-1, :, :2]
    start = landmarks_of(results)[0, :, :2]
    smooth = landmarks_of(run(smoother, results))[..., :2]
    distance = np.linalg.norm(smooth - target, axis=2).mean(axis=1)
    return distance / np.linalg.norm(start - target, axis=1).mean()


def test_one_euro_follows_a_step(model, smoother_of):
    """A tenth of the face in one frame: most of it at once, no overshoot, all of it soon."""
    left = step_response(smoother_of(smoothing="one-euro"), model, shift=(8.0, 0.0))
    assert left[29] == 1
    assert left[30] < 0.5 and left[33] < 0.1 and left[-1] < 1e-3
    assert (np.diff(left[29:]) <= 1e-6).all()


def test_one_euro_is_slower_with_a_lower_cutoff(model, smoother_of):
    fixed = {"smoothing": "one-euro", "one_euro_beta": 0.0}
    lag = [
        step_response(smoother_of(**fixed, one_euro_min_cutoff_hz=hertz), model, shift=(8.0, 0.0))
        for hertz in (0.5, 1.5, 5.0, 100.0)
    ]
    assert lag[0][31] > lag[1][31] > lag[2][31] > lag[3][31]
    for hertz, response in zip((0.5, 1.5, 5.0), lag, strict=False):
        keeps = 1 - 1 / (1 + 1 / (2 * np.pi * hertz * FRAME_NS * 1e-9))
        np.testing.assert_allclose(response[30:40], keeps ** np.arange(1, 11), atol=1e-3)


def test_one_euro_follows_slowly_where_no_time_passes(model, smoother_of):
    left = step_response(smoother_of(smoothing="one-euro"), model, step_ns=0, shift=(2.0, 0.0))
    assert left[30] > 0.8 and left[-1] < 0.1


def test_one_euro_follows_an_expression_while_the_head_rests(model, smoother_of):
    left = step_response(smoother_of(smoothing="one-euro"), model, expression=2.0)
    assert left[30] < 0.5 and left[33] < 0.1


def test_one_euro_follows_an_expression_of_one_landmark_as_fast_as_one_of_all(model):
    """An eye that closes moves two landmarks a lid and must not lag behind a whole face's frown."""
    middle = np.abs(model.landmarks(make_face(model).params)[:, :2] - [250, 200]).sum(axis=1)
    landmark = int(middle.argmin())
    vertex = 3 * (landmark % 40) + landmark // 40
    followed = []
    for moving in (vertex, slice(None)):
        basis = np.zeros_like(model.face_model.expression_basis)
        basis[0, moving, 1] = 5e3
        lively = MorphableModel(replace(model.face_model, expression_basis=basis))
        frames = [[make_face(lively, expression=float(i >= 5))] for i in range(20)]
        smoother = make_smoother(PipelineConfig(smoothing="one-euro"), lively, head_pose)
        results = run(smoother, make_results(frames))
        followed.append([result.faces[0].params.expression[0] for result in results])
    assert 0 < followed[1][5] < followed[1][6] < 1
    np.testing.assert_allclose(followed[0], followed[1], atol=1e-3)


def test_one_euro_averages_the_shape(model, smoother_of):
    random = np.random.default_rng(6)
    shapes = random.normal(size=200)
    places = np.outer(np.arange(200) % 2, [HALF_A_FACE, 0])
    frames = [[make_face(model, shape=s, shift=xy)] for s, xy in zip(shapes, places, strict=True)]
    results = run(smoother_of(smoothing="one-euro"), make_results(frames))
    smooth = np.array([result.faces[0].params.shape[0] for result in results])
    np.testing.assert_allclose(smooth[:10], np.cumsum(shapes[:10]) / np.arange(1, 11), atol=1e-5)
    assert np.std(smooth[100:]) < 0.15


def test_one_euro_takes_a_held_shape_as_it_is(model, smoother_of):
    frames = [[make_face(model, shape=s)] for s in (1.0, 2.0, 0.5, 1.25, 1.25, 1.25)]
    results = run(smoother_of(smoothing="one-euro"), make_results(frames))
    for result in results[4:]:
        np.testing.assert_array_equal(result.faces[0].params.shape, np.float32(1.25))


def test_one_euro_goes_by_stamps(model, smoother_of):
    """Half the frames at half the rate: the same time passes, so about as much is followed."""
    frames = [[make_face(model)]] * 20 + [[make_face(model, shift=(6.0, 0.0))]] * 60
    config = {"smoothing": "one-euro", "one_euro_beta": 0.0, "one_euro_min_cutoff_hz": 0.3}
    full = landmarks_of(run(smoother_of(**config), make_results(frames)))
    half = landmarks_of(run(smoother_of(**config), make_results(frames[::2], step_ns=2 * FRAME_NS)))
    np.testing.assert_allclose(half[:, 0, 0], full[::2, 0, 0], atol=0.06 * 15)
    slow = landmarks_of(run(smoother_of(**config), make_results(frames, step_ns=10 * FRAME_NS)))
    assert abs(slow[25, 0, 0] - full[25, 0, 0]) > 2


@pytest.mark.parametrize("kind", ["window", "one-euro"])
@pytest.mark.parametrize("gap_ns", [-1_200_000_000, 3_000_000_000])
def test_gaps_and_leaps_back_in_time_begin_anew(model, smoother_of, kind, gap_ns):
    first = make_results([[make_face(model)]] * 5)
    after_ns = first[-1].stamp_ns + gap_ns
    second = make_results([[make_face(model, shift=(9.0, 0.0))]] * 5, start_ns=after_ns)
    results = run(smoother_of(smoothing=kind), first + second)
    assert [r.stamp_ns for r in results] == [r.stamp_ns for r in first + second]
    for result, raw in zip(results, first + second, strict=True):
        assert_same_face(result.faces[0], raw.faces[0])


@pytest.mark.parametrize("kind", ["window", "one-euro"])
def test_faces_do_not_mix(model, smoother_of, kind):
    random = np.random.default_rng(7)
    one = [make_face(model, "f1", shift=random.normal(size=2)) for _ in range(12)]
    two = [make_face(model, "f2", shift=random.normal(size=2) + 30) for _ in range(12)]
    alone = landmarks_of(run(smoother_of(smoothing=kind), make_results([[f] for f in one])))
    both = make_results(
        [list(pair[:: 1 if i % 2 else -1]) for i, pair in enumerate(zip(one, two, strict=True))]
    )
    np.testing.assert_array_equal(landmarks_of(run(smoother_of(smoothing=kind), both)), alone)


@pytest.mark.parametrize("side", [150.0, 300.0, 600.0])
@pytest.mark.parametrize("kind", ["window", "one-euro"])
def test_faces_that_exchange_their_names_do_not_mix(model, smoother_of, kind, side):
    """Two who stand still, the smaller one's size apart, until the tracker knows better."""
    left = 250 + 2 / 3 * min(side, 300) - side / 2
    looks = [{"shape": 1}, {"shape": -1, "roi_xyxy": (left, 50, left + side, 50 + side)}]
    frames = [
        [make_face(model, face_id, **look) for face_id, look in zip(names, looks, strict=True)]
        for names in [("f1", "f2")] * 5 + [("f2", "f1")] * 5
    ]
    results = make_results(frames)
    for smooth, raw in zip(run(smoother_of(smoothing=kind), results), results, strict=True):
        for one, other in zip(smooth.faces, raw.faces, strict=True):
            assert_same_face(one, other)


@pytest.mark.parametrize("kind", ["window", "one-euro"])
def test_a_fit_that_is_not_finite_passes_and_spoils_nothing(model, smoother_of, kind):
    good = make_face(model)
    params = replace(good.params, camera=np.full((3, 4), np.nan, np.float32))
    bad = replace(good, params=params)
    results = run(smoother_of(smoothing=kind), make_results([[good], [good], [bad], [good]]))
    assert results[2].faces[0] is bad
    for index in (0, 1, 3):
        assert_same_face(results[index].faces[0], good)


@pytest.mark.parametrize("kind", ["window", "one-euro"])
def test_opposite_heads_are_not_mixed(model, smoother_of, kind):
    front, back = make_face(model), make_face(model, turn_rad=(0.0, np.pi, 0.0))
    for result in run(smoother_of(smoothing=kind), make_results([[front]] * 4 + [[back]] * 4)):
        scale = result.faces[0].pose.scale
        assert scale == pytest.approx(front.pose.scale, rel=1 - LEAST_AGREEMENT)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 1), (0, 3), (3, 0), (2, 5)])
def test_window_is_the_centred_mean_with_copies_at_the_ends(model, smoother_of, before, after):
    """Shifts alone, so that the mean of vertices is exact; a fast face is smoothed too."""
    random = np.random.default_rng(8)
    shifts = random.normal(size=(12, 2)) * 3 + np.outer(np.arange(12) % 2, [HALF_A_FACE, 0])
    results = make_results([[make_face(model, shift=shift)] for shift in shifts])
    smoother = smoother_of(smoothing="window", window_before=before, window_after=after)
    delays = [len(smoother.push(result)) for result in results]
    assert delays == [0] * after + [1] * (12 - after)
    assert len(smoother.flush()) == after and smoother.flush() == []
    raw = landmarks_of(results)
    padded = np.concatenate([raw[:1]] * before + [raw] + [raw[-1:]] * after)
    expected = np.mean([padded[k : k + 12] for k in range(before + 1 + after)], axis=0)
    np.testing.assert_allclose(landmarks_of(run(smoother, results)), expected, atol=2e-3)


def test_window_of_a_track_that_begins_and_ends_inside(model, smoother_of):
    x = [0.0, 3.0, 6.0]
    faces = [make_face(model, shift=(shift, 0.0)) for shift in x]
    frames = [[], [], *[[face] for face in faces], [], [make_face(model, shift=(50.0, 0.0))]]
    results = run(
        smoother_of(smoothing="window", window_before=2, window_after=2), make_results(frames)
    )
    offsets = [
        (image_camera(result.faces[0].params)[0, 3] - image_camera(faces[0].params)[0, 3]) / 2.5
        for result in results
        if result.faces
    ]
    # Means of 0 0 0 3 6, 0 0 3 6 6 and 0 3 6 6 6; the face after the pause stands alone.
    np.testing.assert_allclose(offsets, [9 / 5, 15 / 5, 21 / 5, 50], atol=1e-4)


def test_stream_shorter_than_the_window(model, smoother_of):
    results = make_results([[make_face(model)]])
    smoothed = run(smoother_of(smoothing="window", window_before=5, window_after=5), results)
    assert len(smoothed) == 1
    assert_same_face(smoothed[0].faces[0], results[0].faces[0])


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2)])
def test_window_equals_the_mean_of_vertices_on_a_video(model_set, golden, before, after):
    """As 3DDFA_V2 smooths; z up to the shift by the least z, which a mean does not keep."""
    model = MorphableModel(model_set.face_model)
    track = np.load(golden / "obama_track.npz")
    frames = []
    for vector, roi in zip(track["params"], track["rois"], strict=True):
        frames.append([face_of(model, MorphableParams.from_vector(vector, 40, roi, SIZE))])
    config = PipelineConfig(smoothing="window", window_before=before, window_after=after)
    results = run(make_smoother(config, model, head_pose), make_results(frames))
    raw = np.array([model.vertices(faces[0].params)[::7] for faces in frames])
    padded = np.concatenate([raw[:1]] * before + [raw] + [raw[-1:]] * after)
    for i, result in enumerate(results):
        expected = padded[i : i + before + 1 + after].mean(axis=0)
        difference = model.vertices(result.faces[0].params)[::7] - expected
        difference[:, 2] -= difference[:, 2].mean()
        assert np.abs(difference).max() < WINDOW_TOLERANCE_PX
