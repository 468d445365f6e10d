"""What REP-155 says of one face, of known places.

Where hri_msgs is missing, records of the same fields stand for its messages; test/end_to_end has
the real ones.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tddfa_ros.core.types import Face, FrameResult, TrackState
from tddfa_ros.nodes import humans
from tddfa_ros.nodes.raw_image import ImageHeader

HEADER = ImageHeader(7, 8, "lens")
HEIGHT, WIDTH = 200, 400
MESSAGES = ("FacialLandmarks", "NormalizedPointOfInterest2D", "NormalizedRegionOfInterest2D")


@pytest.fixture(autouse=True)
def messages(monkeypatch):
    if humans.IdsList is None:
        for name in MESSAGES:
            monkeypatch.setattr(humans, name, SimpleNamespace, raising=False)


def shown(landmarks=None, box_xyxy=(40, 50, 120, 150), score=0.75, confidence=0.5):
    """A face, and the result of its image."""
    points = np.full((68, 3), 60, np.float32) if landmarks is None else landmarks
    box = np.array(box_xyxy, np.float32)
    face = Face("f1", TrackState.TRACKED, 3, score, confidence, box, None, points, None)
    return face, FrameResult(0, 7_000_000_008, HEIGHT, WIDTH, (face,))


@pytest.mark.parametrize(
    ("box_xyxy", "shares"),
    [
        ((40, 50, 120, 150), (0.1, 0.25, 0.3, 0.75)),
        ((-40, -50, 120, 150), (0.0, 0.0, 0.3, 0.75)),
        ((40, 50, 420, 250), (0.1, 0.25, 1.0, 1.0)),
    ],
)
def test_a_region_is_a_share_of_the_image_within_it(box_xyxy, shares):
    region = humans.region_message(*shown(box_xyxy=box_xyxy), HEADER)
    told = (region.xmin, region.ymin, region.xmax, region.ymax)
    assert told == pytest.approx(shares)
    assert region.c == 0.75
    assert region.header == HEADER.message()


@pytest.mark.parametrize(
    ("value", "share"), [(0.25, 0.25), (math.nan, 1.0), (-0.1, 0.0), (1.5, 1.0)]
)
def test_how_sure_it_is_is_a_share_and_sure_where_it_is_not_known(value, share):
    seen = shown(score=value, confidence=value)
    assert humans.region_message(*seen, HEADER).c == share
    assert humans.landmarks_message(*seen, HEADER).landmarks[0].c == share


def test_landmarks_are_shares_in_the_order_of_ibug_and_those_outside_are_not_sure():
    landmarks = np.random.default_rng(0).uniform(20, 180, (68, 3)).astype(np.float32)
    landmarks[3, :2], landmarks[5, :2], landmarks[7, :2] = (-4, 100), (100, 204), (440, -20)
    told = humans.landmarks_message(*shown(landmarks), HEADER)
    assert (told.height, told.width, told.header) == (HEIGHT, WIDTH, HEADER.message())
    points = np.array([[point.x, point.y, point.c] for point in told.landmarks])
    assert len(points) == 70
    outside = [3, 5, 7]
    inside = np.setdiff1d(np.arange(68), outside)
    np.testing.assert_allclose(points[inside, :2] * [WIDTH, HEIGHT], landmarks[inside, :2], 1e-6)
    assert (points[inside, 2] == 0.5).all()
    np.testing.assert_allclose(points[outside], [(0, 0.5, 0), (0.25, 1, 0), (1, 0, 0)])


def test_pupils_are_in_the_middle_of_their_eyes_and_not_sure():
    landmarks = np.full((68, 3), 60, np.float32)
    # An upright face: the subject's right eye, 36 to 41, is the left one in the image.
    for eye, middle in ((slice(36, 42), (80, 100)), (slice(42, 48), (120, 90))):
        landmarks[eye, :2] = middle + np.array(
            [[-9, 0], [-3, -4], [3, -4], [9, 0], [3, 4], [-3, 4]]
        )
    right, left = humans.landmarks_message(*shown(landmarks), HEADER).landmarks[68:]
    assert (right.x * WIDTH, right.y * HEIGHT, right.c) == pytest.approx((80, 100, 0))
    assert (left.x * WIDTH, left.y * HEIGHT, left.c) == pytest.approx((120, 90, 0))


def test_the_gaze_goes_straight_out_of_the_face():
    gaze = humans._gaze("f1", HEADER)
    assert (gaze.header.frame_id, gaze.child_frame_id) == ("face_f1", "gaze_f1")
    assert gaze.header.stamp == HEADER.message().stamp
    turn = Rotation.from_quat([getattr(gaze.transform.rotation, axis) for axis in "xyzw"])
    # z ahead, x to the right and y down; of the face x is ahead, y to its left and z up.
    np.testing.assert_allclose(turn.as_matrix().T, [[0, -1, 0], [0, 0, -1], [1, 0, 0]], atol=1e-12)
