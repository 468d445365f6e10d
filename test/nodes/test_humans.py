"""What REP-155 says of one face, of known places.

Where hri_msgs is missing, records of the same fields stand for its messages; test/end_to_end has
the real ones.
"""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tddfa_ros.core.portrait import portrait
from tddfa_ros.core.types import Face, FrameResult, TrackState
from tddfa_ros.nodes import humans
from tddfa_ros.nodes.raw_image import ImageHeader, decode_image

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


class Topics:
    """In the place of a node whose messages are not installed: what is published on which topic."""

    def __init__(self):
        self.published, self.subscribed = {}, set()

    def create_publisher(self, _type, topic, *_, **__):
        self.published[topic] = []
        return SimpleNamespace(
            topic=topic,
            publish=self.published[topic].append,
            get_subscription_count=lambda: int(topic in self.subscribed),
        )

    def destroy_publisher(self, publisher):
        del self.published[publisher.topic]

    create_lifecycle_publisher = create_publisher
    destroy_lifecycle_publisher = destroy_publisher

    @property
    def faces(self):
        return {topic.split("/")[3] for topic in self.published if topic.count("/") == 4}


@pytest.fixture
def topics(monkeypatch):
    monkeypatch.setattr(
        humans, "IdsList", lambda header, ids=(): SimpleNamespace(header=header, ids=list(ids))
    )
    return Topics()


def seen_by(view, *ids, header=HEADER, poses=None):
    """Publish an image with these faces; returns its result."""
    faces = tuple(replace(shown()[0], id=face_id) for face_id in ids)
    result = replace(shown()[1], faces=faces)
    poses = poses or ["a pose"] * len(ids)
    view.publish(SimpleNamespace(result=result, poses=poses), header)
    return result


def test_topics_of_a_face_live_as_long_as_it_is_followed(topics):
    view = humans.Humans(topics)
    tracked = topics.published["/humans/faces/tracked"]
    for ids in (["f1", "f2"], ["f2", "f3"], [], ["f4"]):
        seen_by(view, *ids)
        assert topics.faces == set(ids)
        assert tracked[-1].ids == ids
    for _ in range(2):  # the second time there is nobody to take back
        view.clear()
        assert topics.faces == set()
        assert [message.ids for message in tracked[4:]] == [[]]
        assert tracked[-1].header == HEADER.message()
    view.close()
    assert topics.published == {}


def test_who_has_a_pose_has_a_gaze_where_stamps_and_frames_tell_of_what(topics):
    view = humans.Humans(topics)
    sent = topics.published["/tf"]
    for header in (ImageHeader(7, 8, ""), ImageHeader(0, 0, "lens")):
        seen_by(view, "f1", header=header)
    seen_by(view, "f1", "f2", "f3", poses=["a pose", None, "a pose"])
    (message,) = sent
    assert [gaze.child_frame_id for gaze in message.transforms] == ["gaze_f1", "gaze_f3"]


@pytest.mark.parametrize(("name", "turn_rad"), [("cropped", 0.0), ("aligned", 0.5)])
def test_only_the_picture_that_somebody_subscribes_to_is_made(topics, name, turn_rad):
    view = humans.Humans(topics)
    seen_by(view, "f1")
    assert not view.wants_image()
    topics.subscribed.add(f"/humans/faces/f1/{name}")
    assert view.wants_image()
    landmarks = np.full((68, 3), 80, np.float32)
    # The subject's left eye is the right one in the image, and the lower one.
    landmarks[42:48, :2] += 40 * np.array([np.cos(0.5), np.sin(0.5)])
    face, result = shown(landmarks)
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    view.publish_portraits(result, HEADER, image)
    made = {t: m for t, m in topics.published.items() if m and "f1/" in t and "roi" not in t}
    ((data,),) = made.values()
    assert list(made) == [f"/humans/faces/f1/{name}"]
    header, picture = decode_image(data)
    assert header == HEADER
    expected = portrait(image, face.box_xyxy, humans.PORTRAIT_SIZE, turn_rad=turn_rad)
    assert np.abs(picture.astype(int) - expected).mean() < 1
