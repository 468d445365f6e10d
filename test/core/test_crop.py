"""Regions of interest and their pixels, against the definition written out pixel by pixel."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tddfa_ros.core.crop import crop_into, roi_from_box, roi_from_landmarks

V2_BOX = {"scale": 1.58, "shift_down": 0.14}
V2_LANDMARKS = {"scale": math.sqrt(2)}
COORDINATE = st.floats(-2000, 5000, width=32)


def padded_crop(image, roi, size):
    """Every pixel of the rounded region, black where there is no image, then resized."""
    left, top, right, bottom = (round(float(corner)) for corner in roi)
    height, width = image.shape[:2]
    rows, columns = np.arange(top, bottom), np.arange(left, right)
    rows_inside, columns_inside = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    region = np.zeros((len(rows), len(columns), 3), np.uint8)
    pixels = image[np.ix_(rows[rows_inside], columns[columns_inside])]
    region[np.ix_(rows_inside, columns_inside)] = pixels
    return cv2.resize(region, (size, size), interpolation=cv2.INTER_LINEAR)


def reference_box_roi(box):
    """The formulas of UPSTREAM in scalar arithmetic: o = (w + h) / 2, side int(1.58 o)."""
    left, top, right, bottom = (float(corner) for corner in box)
    o = (right - left + bottom - top) / 2
    side = int(1.58 * o)
    x = (left + right) / 2
    y = (top + bottom) / 2 + 0.14 * o
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_roi_of_a_known_box():
    roi = roi_from_box(np.float32([100, 50, 220, 250]), **V2_BOX)
    # o = 160, side = int(252.8) = 252, centre (160, 150 + 22.4)
    np.testing.assert_allclose(roi, [34, 46.4, 286, 298.4], atol=1e-4)
    assert roi.dtype == np.float32


@given(st.lists(COORDINATE, min_size=2, max_size=2), st.floats(1, 3000), st.floats(1, 3000))
def test_roi_of_any_box(corner, width, height):
    box = np.float32([*corner, corner[0] + width, corner[1] + height])
    roi, expected = roi_from_box(box, **V2_BOX), reference_box_roi(box)
    side = (roi[2:] - roi[:2]).astype(np.float64)
    # A side just at a whole number may be truncated to either with float32 sums.
    np.testing.assert_allclose(roi, expected, atol=0.51)
    assert abs(side - np.rint(side)).max() < 2e-3
    assert abs(side[0] - (expected[2] - expected[0])) < 1.01


def test_rois_of_many_boxes_are_those_of_each():
    boxes = np.random.default_rng(1).uniform(0, 500, (2, 7, 4)).astype(np.float32)
    together = roi_from_box(boxes, **V2_BOX)
    assert together.shape == (2, 7, 4)
    for index in np.ndindex(2, 7):
        np.testing.assert_array_equal(together[index], roi_from_box(boxes[index], **V2_BOX))
    assert roi_from_box(np.zeros((0, 4), np.float32), **V2_BOX).shape == (0, 4)


def test_roi_of_known_landmarks():
    points = np.float32([[10, 20, 3], [110, 40, -9], [50, 60, 0]])
    roi = roi_from_landmarks(points, **V2_LANDMARKS)
    half = 50 * math.sqrt(2)
    np.testing.assert_allclose(roi, [60 - half, 40 - half, 60 + half, 40 + half], rtol=1e-6)


@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=1, max_size=68))
def test_roi_of_any_landmarks(points):
    points = np.float32(points)
    roi = roi_from_landmarks(points, **V2_LANDMARKS).astype(np.float64)
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    np.testing.assert_allclose(roi[:2] + roi[2:], low + high, atol=4e-3)
    np.testing.assert_allclose(roi[2:] - roi[:2], (high - low).max() * math.sqrt(2), atol=4e-3)


def test_rois_of_many_faces_are_those_of_each():
    faces = np.random.default_rng(1).uniform(0, 500, (5, 68, 3)).astype(np.float32)
    together = roi_from_landmarks(faces, **V2_LANDMARKS)
    for face, roi in zip(faces, together, strict=True):
        np.testing.assert_array_equal(roi, roi_from_landmarks(face, **V2_LANDMARKS))


def test_whole_pixels_are_those_that_are_cut_out():
    """The image holds its own coordinates, so the crop tells which region it shows."""
    columns = np.broadcast_to(np.arange(250, dtype=np.uint8), (250, 250))
    image = np.dstack([columns, columns.T, columns])
    face = np.float32([[60.3, 70.6], [160.9, 150.2]])
    for roi in (
        roi_from_landmarks(face, scale=1.0, whole_pixels=True),
        roi_from_box(face.ravel(), scale=1.0, shift_down=0.1, whole_pixels=True),
    ):
        np.testing.assert_array_equal(roi, np.rint(roi))
        left, top, right, bottom = roi.astype(int)
        out = np.empty((bottom - top, right - left, 3), np.uint8)
        assert crop_into(image, roi, out)
        assert out[0, 0, :2].tolist() == [left, top]
        assert out[-1, -1, :2].tolist() == [right - 1, bottom - 1]
    for exact, whole in (
        (roi_from_landmarks(face, scale=1.0, whole_pixels=w) for w in (False, True)),
        (roi_from_box(face.ravel(), **V2_BOX, whole_pixels=w) for w in (False, True)),
    ):
        assert 0 < np.abs(exact - whole).max() <= 0.5


def test_rois_of_the_reference(golden):
    found = 0
    for path in sorted(golden.glob("*.npz")):
        expected = np.load(path)
        if "boxes" in expected:
            rois = roi_from_box(expected["boxes"][:, :4], **V2_BOX)
            np.testing.assert_allclose(rois, expected["rois"], atol=1e-4)
        else:
            landmarks = expected["sparse"][:-1].transpose(0, 2, 1)
            rois = roi_from_landmarks(landmarks, **V2_LANDMARKS)
            np.testing.assert_allclose(rois, expected["rois"][1:], atol=1e-3)
        found += 1
    assert found >= 9


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_gives_no_crop(bad):
    image, out = noise(40, 50), np.zeros((16, 16, 3), np.uint8)
    box, points = np.float32([10, 10, 30, bad]), np.float32([[10, 10], [20, bad]])
    with np.errstate(invalid="raise"):
        assert not crop_into(image, roi_from_box(box, **V2_BOX), out)
    with np.errstate(invalid="ignore"):
        assert not crop_into(image, roi_from_landmarks(points, **V2_LANDMARKS), out)


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    left=st.floats(-150, 150, width=32),
    top=st.floats(-150, 150, width=32),
    roi_width=st.floats(-2, 260, width=32),
    roi_height=st.floats(-2, 260, width=32),
    size=st.sampled_from([1, 7, 16, 120]),
)
@example(height=60, width=60, left=10, top=10, roi_width=32, roi_height=32, size=16)
@example(height=60, width=60, left=-2, top=10, roi_width=32, roi_height=32, size=16)
@example(height=60, width=60, left=0, top=0, roi_width=60, roi_height=60, size=120)
@example(height=60, width=60, left=0.5, top=1.5, roi_width=24, roi_height=25, size=120)
@example(height=60, width=60, left=-0.5, top=-1.5, roi_width=24, roi_height=25, size=120)
def test_crop_is_bit_for_bit_the_padded_one(height, width, left, top, roi_width, roi_height, size):
    image = noise(height, width)
    roi = np.float32([left, top, left + roi_width, top + roi_height])
    out = np.full((size, size, 3), 77, np.uint8)
    x0, y0, x1, y1 = (round(float(corner)) for corner in roi)
    seen = x1 > x0 and y1 > y0 and x1 > 0 and y1 > 0 and x0 < width and y0 < height
    assert crop_into(image, roi, out) == seen
    expected = padded_crop(image, roi, size) if seen else np.full_like(out, 77)
    np.testing.assert_array_equal(out, expected)


def test_crop_of_a_large_image_into_a_batch():
    image, batch = noise(720, 1280), np.zeros((3, 120, 120, 3), np.uint8)
    rois = np.float32([[300.4, 100.6, 700.4, 500.6], [-80, -90, 310, 300], [1000, 500, 1400, 900]])
    for roi, out in zip(rois, batch, strict=True):
        assert crop_into(image, roi, out)
        np.testing.assert_array_equal(out, padded_crop(image, roi, 120))


def test_crop_of_a_large_face_at_the_border_of_a_huge_image():
    image, out = np.full((5000, 5000, 3), 200, np.uint8), np.zeros((16, 16, 3), np.uint8)
    assert crop_into(image, np.float32([-300, 0, 4500, 4800]), out)
    assert (out[:, 0] == 0).all() and (out[:, 1:] == 200).all()
    smaller = image[:3000, :3000]
    assert crop_into(smaller, np.float32([-1000, -1000, 4000, 4000]), out)
    assert not crop_into(smaller, np.float32([-2000, -2000, 5000, 5000]), out)


def test_crop_of_a_view():
    image = noise(200, 300)[20:150, 30:250]
    out = np.zeros((64, 64, 3), np.uint8)
    roi = np.float32([-5, 12, 90, 107])
    assert crop_into(image, roi, out)
    np.testing.assert_array_equal(out, padded_crop(np.ascontiguousarray(image), roi, 64))


@pytest.mark.parametrize(
    "roi",
    [
        (-300, 0, -100, 200),
        (0, 480, 100, 580),
        (640, 0, 700, 60),
        (-50, -50, 0, 0),
        (100, 100, 100, 200),
        (200, 200, 100, 100),
        (100.2, 100, 100.4, 200),
        (np.nan, 0, 100, 100),
        (0, 0, np.inf, np.inf),
        (-np.inf, -np.inf, np.inf, np.inf),
        (-1e9, -1e9, 1e9, 1e9),
        (-1e5, -1e5, 1e5, 1e5),
        (-2500, -2500, 2500, 2500),
        (-1e300, 0, 1e300, 100),
        (0, 0, 2.0**31, 2.0**31),
    ],
)
def test_regions_that_show_nothing_are_lost(roi):
    out = np.full((120, 120, 3), 5, np.uint8)
    assert not crop_into(noise(480, 640), np.array(roi), out)
    assert (out == 5).all()
