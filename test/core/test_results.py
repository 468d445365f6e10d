import dataclasses
import json
import math

import hypothesis.extra.numpy as numpy_strategies
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tddfa_ros.core.results import face_from_dict, face_to_dict, frame_line
from tddfa_ros.core.types import Face, FrameResult, HeadPose, MorphableParams, TrackState


def arrays(dtype, shape):
    width = 32 if dtype == np.float32 else 64
    finite = st.floats(width=width, allow_nan=False, allow_infinity=False)
    return numpy_strategies.arrays(dtype, shape, elements=finite)


@st.composite
def faces(draw):
    shape_count, expression_count = draw(st.integers(0, 50)), draw(st.integers(0, 20))
    params = MorphableParams(
        draw(arrays(np.float32, (3, 4))),
        draw(arrays(np.float32, (shape_count,))),
        draw(arrays(np.float32, (expression_count,))),
        draw(arrays(np.float32, (4,))),
        draw(st.integers(1, 1000)),
    )
    pose = HeadPose(
        draw(arrays(np.float64, (4,))),
        draw(arrays(np.float64, (3,))),
        draw(arrays(np.float64, (3,))),
        draw(st.floats(allow_nan=False, allow_infinity=False)),
    )
    return Face(
        id=draw(st.text(min_size=1)),
        state=draw(st.sampled_from(TrackState)),
        age_frames=draw(st.integers(0, 2**31)),
        score=draw(st.floats(0, 1)),
        confidence=draw(st.one_of(st.just(math.nan), st.floats(0, 1))),
        box_xyxy=draw(arrays(np.float32, (4,))),
        params=params,
        landmarks=draw(arrays(np.float32, (68, 3))),
        pose=pose,
        age_ns=draw(st.integers(0, 2**62)),
    )


def assert_same(left, right):
    """Equal bit by bit, field by field, down to the arrays."""
    assert type(left) is type(right)
    if dataclasses.is_dataclass(left):
        for field in dataclasses.fields(left):
            assert_same(getattr(left, field.name), getattr(right, field.name))
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.tobytes() == right.tobytes()
    elif isinstance(left, float) and math.isnan(left):
        assert math.isnan(right)
    else:
        assert left == right


@settings(max_examples=30)
@given(faces())
def test_face_survives_json_bit_by_bit(face):
    text = json.dumps(face_to_dict(face), allow_nan=False)
    assert_same(face_from_dict(json.loads(text)), face)


@settings(max_examples=5)
@given(faces())
def test_frame_is_one_line_with_the_promised_keys(face):
    line = frame_line(FrameResult(7, 123_456_789_012_345_678, 480, 640, (face,)))
    assert line.endswith("\n")
    assert line.count("\n") == 1
    values = json.loads(line)
    assert values.keys() == {"frame", "stamp_ns", "faces"}  # a frame of a video is no file
    assert values["frame"] == 7
    assert values["stamp_ns"] == 123_456_789_012_345_678
    assert {
        "id",
        "score",
        "box_xyxy",
        "landmarks",
        "params",
        "roi_xyxy",
        "reference_euler_deg",
        "quat_xyzw",
    } <= values["faces"][0].keys()


@settings(max_examples=5)
@given(faces())
def test_words_and_gaps_are_those_that_json_has(face):
    """Readers go by the words for the state; a number that is none becomes null."""
    words = {TrackState.DETECTED: "detected", TrackState.TRACKED: "tracked"}
    assert face_to_dict(face)["state"] == words[face.state]
    pose = dataclasses.replace(face.pose, scale=math.nan)
    odd = dataclasses.replace(face, score=math.inf, confidence=math.nan, pose=pose)
    (values,) = json.loads(frame_line(FrameResult(7, 0, 480, 640, (odd,))))["faces"]
    assert [values[key] for key in ("score", "confidence", "scale")] == [None] * 3
    back = face_from_dict(values)
    assert all(math.isnan(number) for number in (back.score, back.confidence, back.pose.scale))


@settings(max_examples=5)
@given(faces())
def test_a_line_that_would_be_no_json_is_not_written(face):
    """A fit that is not finite is no face, so this is nobody's but a programmer's error."""
    odd = dataclasses.replace(face, landmarks=face.landmarks * np.float32(np.nan))
    with pytest.raises(ValueError, match="JSON"):
        frame_line(FrameResult(7, 0, 480, 640, (odd,)))


def test_a_frame_of_a_picture_names_its_file():
    line = frame_line(FrameResult(0, 0, 480, 640, ()), "a b.png")
    assert json.loads(line) == {"frame": 0, "image": "a b.png", "stamp_ns": 0, "faces": []}
