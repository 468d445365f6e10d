import dataclasses
from itertools import permutations

import numpy as np
import pytest

from tddfa_ros.core.draw import OVERLAY_PARTS, draw_faces, draw_points
from tddfa_ros.core.rotation import quat_from_rotation
from tddfa_ros.core.types import Face, HeadPose, MorphableParams, TrackState

HEIGHT, WIDTH = 200, 300
FRONTAL_XYZW = np.array([0.5, 0.5, -0.5, 0.5])
RED, GREEN, BLUE = (60, 60, 240), (80, 220, 80), (240, 120, 60)


def a_face(**changes):
    rng = np.random.default_rng(0)
    landmarks = rng.uniform((100, 60, 0), (200, 140, 50), (68, 3)).astype(np.float32)
    params = MorphableParams(*(np.zeros(n, np.float32) for n in (12, 40, 10, 4)), 120)
    face = Face(
        id="f00001",
        state=TrackState.TRACKED,
        age_frames=3,
        score=0.9,
        confidence=float("nan"),
        box_xyxy=np.array([90, 50, 210, 150], np.float32),
        params=params,
        landmarks=landmarks,
        pose=HeadPose(FRONTAL_XYZW, np.zeros(3), np.zeros(3), 1.0),
    )
    return dataclasses.replace(face, **changes)


def drawn(*parts, faces=None):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    draw_faces(image, [a_face()] if faces is None else faces, parts)
    return image


def places(image):
    y, x = np.nonzero(image.any(axis=2))
    return x, y


def test_box_is_a_rectangle_at_its_place():
    image = drawn("box")
    x, y = places(image)
    assert (x.min(), y.min(), x.max(), y.max()) == pytest.approx((90, 50, 210, 150), abs=1)
    assert not image[53:147, 93:207].any()
    assert image[50, 90:211].any(axis=1).all()
    assert image[50:151, 210].any(axis=1).all()


def test_every_landmark_is_marked_at_its_place():
    image = drawn("landmarks")
    for x, y in np.rint(a_face().landmarks[:, :2]).astype(int):
        assert image[y - 1 : y + 2, x - 1 : x + 2].max() > 200


def test_landmarks_of_one_part_are_joined_from_the_first_to_the_last():
    """In rows of their own, so that no line crosses another; eyes and lips are closed."""
    landmarks = np.zeros((68, 3), np.float32)
    parts = [17, 5, 5, 4, 5, 6, 6, 12, 8]
    first = 0
    for row, count in enumerate(parts):
        landmarks[first : first + count, 0] = 20 + 16 * np.arange(count)
        landmarks[first : first + count, 1] = 10 + 20 * row + 6 * (np.arange(count) % 2)
        first += count
    assert first == 68
    image = drawn("landmarks", faces=[a_face(landmarks=landmarks)])
    lit = image.any(axis=2)
    first = 0
    for row, count in enumerate(parts):
        for start in range(first, first + count - 1):
            x, y = landmarks[start : start + 2, :2].mean(axis=0).astype(int)
            assert lit[y - 1 : y + 2, x].any(), (row, start)
        first += count
        x = 20 + 16 * (count - 1) + 8
        assert not lit[10 + 20 * row - 5 : 10 + 20 * row + 12, x].any()


def test_axes_of_a_frontal_face_point_to_the_subjects_left_and_up():
    nose = a_face().landmarks[27:31, :2].mean(axis=0)
    image = drawn("pose").astype(int)
    for color, side in ((GREEN, (1, 0)), (BLUE, (0, -1))):
        y, x = np.nonzero(np.abs(image - color).max(axis=2) < 20)
        away = np.stack([x, y], axis=1) - nose
        along = away @ np.array(side)
        across = away @ np.array([-side[1], side[0]])
        assert along.max() > 15
        assert along.min() > -4
        assert np.abs(across).max() < 4


@pytest.mark.parametrize(("near", "far"), list(permutations(range(3), 2)))
def test_of_two_axes_in_one_place_the_one_towards_the_viewer_hides_the_other(near, far):
    axes = np.zeros((3, 3))
    axes[[0, 2], near] = np.sqrt([0.5, 0.5]) * [1, -1]
    axes[[0, 2], far] = np.sqrt([0.5, 0.5])
    axes[1, 3 - near - far] = 1
    axes[1] *= np.linalg.det(axes)
    pose = HeadPose(quat_from_rotation(axes), np.zeros(3), np.zeros(3), 1.0)
    image = drawn("pose", faces=[a_face(pose=pose)]).astype(int)
    near_seen, far_seen = (
        np.count_nonzero(np.abs(image - (RED, GREEN, BLUE)[axis]).max(axis=2) < 20)
        for axis in (near, far)
    )
    assert near_seen > 30 and far_seen == 0


def test_parts_are_drawn_only_when_asked_for():
    assert not drawn().any()
    assert not drawn(*OVERLAY_PARTS, faces=[]).any()
    images = [drawn(part) for part in OVERLAY_PARTS]
    assert all(image.any() for image in images)
    for first in range(len(images)):
        for second in range(first):
            assert (images[first] != images[second]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e9, 1e30])
@pytest.mark.parametrize("part", OVERLAY_PARTS)
def test_places_far_outside_harm_nothing(part, value):
    wild = a_face(
        box_xyxy=np.full(4, value, np.float32), landmarks=np.full((68, 3), value, np.float32)
    )
    drawn(part, faces=[wild])


@pytest.mark.parametrize("shape", [(1, 1, 3), (4000, 3, 3)])
def test_images_of_odd_sizes(shape):
    draw_faces(np.zeros(shape, np.uint8), [a_face()], OVERLAY_PARTS)


def test_a_point_is_shared_among_its_pixels():
    image = np.zeros((9, 9, 3), np.uint8)
    draw_points(
        image, np.array([[2.0, 3.0], [6.5, 7.0], [np.nan, 1], [-5, 4], [4, 1e9], [np.inf, 0]])
    )
    full = image[3, 2].astype(int)
    assert full.max() == 255
    assert np.abs(image[7, 6] - full / 2).max() <= 0.5
    assert np.array_equal(image[7, 6], image[7, 7])
    assert np.count_nonzero(image.any(axis=2)) == 3


def test_points_on_the_border_of_the_image():
    image = np.zeros((4, 5, 3), np.uint8)
    draw_points(image, np.array([[-0.5, -0.5], [4.5, 3.5], [4.0, 3.0], [0.0, 0.0]]))
    assert set(zip(*places(image), strict=True)) == {(0, 0), (4, 3)}
    draw_points(image, np.zeros((0, 2)))


def test_the_frustum_of_a_frontal_face_is_two_squares():
    """Both around the mean of the first 27 landmarks; sides as 3DDFA_V2 computes them."""
    face = a_face()
    centre = face.landmarks[:27, :2].mean(axis=0)
    rear = np.sqrt(2) * np.ptp(face.landmarks[:, :2], axis=0).max() / 3
    front = int(4 / 3 * rear)
    x, y = places(drawn("frustum"))
    assert np.abs([x.min(), x.max()] - (centre[0] + np.array([-front, front]))).max() <= 3
    assert np.abs([y.min(), y.max()] - (centre[1] + np.array([-front, front]))).max() <= 3
    row = drawn("frustum")[round(float(centre[1]))].any(axis=1)
    marked = np.flatnonzero(row)
    expected = centre[0] + np.array([-front, -rear, rear, front])
    groups = np.split(marked, np.flatnonzero(np.diff(marked) > 2) + 1)
    assert np.abs([g.mean() for g in groups] - expected).max() < 1.5
