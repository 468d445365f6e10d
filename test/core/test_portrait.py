import numpy as np
import pytest

from tddfa_ros.core.errors import ImageError
from tddfa_ros.core.portrait import LEFT_EYE, RIGHT_EYE, eyes_turn_rad, portrait

SIZE = 64


def test_a_box_of_the_same_size_is_that_part_of_the_image():
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    left, top = 40, 90
    # Pixel centres at integers: the square spans from half a pixel before the first.
    box = np.array([left - 0.5, top - 0.5, left + SIZE - 0.5, top + SIZE - 0.5], np.float32)
    expected = image[top : top + SIZE, left : left + SIZE]
    np.testing.assert_array_equal(portrait(image, box, SIZE), expected)


def test_outside_the_image_is_black_and_the_longer_side_counts():
    image = np.full((100, 100, 3), 200, np.uint8)
    picture = portrait(image, np.array([-20.5, 39.5, -20.5 + SIZE, 59.5]), SIZE)
    columns = np.flatnonzero(picture.any(axis=(0, 2)))
    assert columns[0] == 20
    assert (picture[:, 21:] == 200).all()


def test_a_high_box_is_cut_out_whole():
    image = np.zeros((200, 200, 3), np.uint8)
    image[40 : 40 + SIZE, 90:110] = 255
    picture = portrait(image, np.array([89.5, 39.5, 109.5, 39.5 + SIZE]), SIZE)
    shown = picture[..., 0] > 0
    assert shown.any(axis=1).all()
    assert np.flatnonzero(shown[0]).tolist() == list(range(SIZE // 2 - 10, SIZE // 2 + 10))


@pytest.mark.parametrize("degrees", [-40, -5, 0, 17, 60])
def test_turned_eyes_become_level(degrees):
    """Two dots as eyes, turned by a known angle, lie side by side in the picture."""
    angle = np.radians(degrees)
    along = np.array([np.cos(angle), np.sin(angle)])
    centre = np.array([100.0, 100.0])
    box = np.array([70.0, 70.0, 130.0, 130.0])
    landmarks = np.zeros((68, 3), np.float32)
    landmarks[RIGHT_EYE, :2] = centre - 15 * along
    landmarks[LEFT_EYE, :2] = centre + 15 * along
    y, x = np.mgrid[:200, :200]
    image = np.zeros((200, 200, 3), np.uint8)
    for channel, sign in ((0, -1), (2, 1)):
        ex, ey = centre + sign * 15 * along
        image[..., channel] = 255 * np.exp(-((x - ex) ** 2 + (y - ey) ** 2) / 8)
    turn = eyes_turn_rad(landmarks, box)
    assert turn == pytest.approx(angle, abs=1e-6)
    picture = portrait(image, box, 120, turn_rad=turn).astype(np.float64)
    rows, columns = np.mgrid[:120, :120]
    eyes = {}
    for channel in (0, 2):
        weight = picture[..., channel] / picture[..., channel].sum()
        eyes[channel] = np.array([(columns * weight).sum(), (rows * weight).sum()])
    # Twice as large, about the centre; the subject's right eye is to the left.
    np.testing.assert_allclose(eyes[0], [59.5 - 30, 59.5], atol=0.15)
    np.testing.assert_allclose(eyes[2], [59.5 + 30, 59.5], atol=0.15)


def test_a_profile_is_not_turned():
    landmarks = np.zeros((68, 3), np.float32)
    landmarks[LEFT_EYE, 1] = 3.0
    assert eyes_turn_rad(landmarks, np.array([0.0, 0.0, 60.0, 60.0])) == 0.0


@pytest.mark.parametrize("box", [[0, 0, 100, 60], [0, 0, 60, 100]])
@pytest.mark.parametrize(("distance", "turn_rad"), [(9, 0), (11, np.pi / 2)])
def test_eyes_nearer_than_a_tenth_of_the_longer_side_are_those_of_a_profile(
    box, distance, turn_rad
):
    """The subject's right eye, points 37 to 42 of iBUG's 68, is above the left one."""
    landmarks = np.zeros((68, 3), np.float32)
    landmarks[36:42, :2] = np.column_stack([np.arange(6), np.full(6, 40)])
    landmarks[42:48, :2] = landmarks[36:42, :2] + [0, distance]
    assert eyes_turn_rad(landmarks, np.array(box)) == pytest.approx(turn_rad, abs=1e-6)


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [9, 5, 5, 9], [0, 0, np.nan, 4]])
def test_an_empty_box_is_refused(box):
    with pytest.raises(ImageError, match="box"):
        portrait(np.zeros((20, 20, 3), np.uint8), np.array(box, np.float64), SIZE)
