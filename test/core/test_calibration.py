"""Camera: projection and its inverse, scaling, and what calibrations are accepted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tddfa_ros.core.calibration import (
    ASSUMED_FIELD_OF_VIEW_DEG,
    Camera,
    assumed_camera,
    camera_from_calibration,
)
from tddfa_ros.core.errors import ConfigError

K = np.array([[600.0, 0, 330], [0, 610, 230], [0, 0, 1]])
P = np.hstack([np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), np.zeros((3, 1))])
D = [-0.3, 0.12, 1e-3, -2e-3, 0.02]


def calibration(**changed):
    fields = {
        "matrix": K,
        "distortion": D,
        "distortion_model": "plumb_bob",
        "projection": P,
        "height": 480,
        "width": 640,
        "rectified": False,
        "image_height": 480,
        "image_width": 640,
    }
    return camera_from_calibration(**{**fields, **changed})


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [("plumb_bob", D), ("rational_polynomial", [0.1, -0.05, 1e-3, 1e-3, 0.01, 0.1, -0.02, 0.005]),
     ("equidistant", [0.05, -0.01, 0.003, -0.001]), ("", [])],
)  # fmt: skip
@given(x=st.floats(-0.45, 0.45), y=st.floats(-0.35, 0.35), z=st.floats(0.2, 5))
def test_rays_are_the_inverse_of_projection(model, coefficients, x, y, z):
    camera = calibration(distortion=coefficients, distortion_model=model)
    pixel = camera.project(np.array([[x * z, y * z, z]]))
    np.testing.assert_allclose(camera.rays(pixel), [[x, y]], atol=1e-5)


# Each sees less than a whole image, and the places where it ends.
NARROW = {
    "plumb_bob": ([420.0, 420], [-0.28, 0.07, 2e-4, 1e-4, -8e-3], 700),
    "equidistant": ([250.0, 250], [-0.03, -0.01, 0.004, -0.001], 370),
}


@pytest.mark.parametrize("model", NARROW)
@given(radius_px=st.floats(0, 900), angle=st.floats(0, 6.3))
def test_a_pixel_has_its_ray_or_none(model, radius_px, angle):
    """Beyond the lens model's range OpenCV gives the undistorted ray, or the opposite one."""
    focal_px, distortion, last_px = NARROW[model]
    camera = calibration(
        matrix=np.array([[focal_px[0], 0, 640], [0, focal_px[1], 360], [0, 0, 1]]),
        distortion=distortion,
        distortion_model=model,
    )
    pixel = np.array([[640 + radius_px * np.cos(angle), 360 + radius_px * np.sin(angle)]])
    ray = camera.rays(pixel)
    if radius_px > last_px:
        assert np.isnan(ray).all()
    if np.isfinite(ray).all():
        assert np.abs(camera.project(np.column_stack([ray, [1.0]])) - pixel).max() < 0.5
        assert (ray[0] @ (pixel[0] - [640, 360])) >= -1e-6
    else:
        assert radius_px > 0.5 * last_px


@pytest.mark.parametrize("model", ["plumb_bob", "equidistant"])
def test_a_rectified_image_has_the_projection_matrix_and_no_distortion(model):
    camera = calibration(rectified=True, distortion=D[:4], distortion_model=model)
    np.testing.assert_allclose(camera.project(np.array([[0.1, 0.2, 1.0]])), [[370, 340]])


def test_an_image_of_another_size_sees_the_same_rays():
    full, half = calibration(), calibration(image_height=240, image_width=320)
    points = np.array([[0.1, 0.05, 1.0], [-0.3, 0.2, 1.0]])
    # Centre of pixel i of the half image lies between the centres of 2i and 2i + 1 of the full.
    np.testing.assert_allclose(half.project(points) * 2 + 0.5, full.project(points), atol=1e-9)
    assert full.scaled_to(480, 640) is full


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("binning", [1, 2])
def test_a_part_of_the_sensor_sees_its_rays(rectified, binning):
    whole = calibration(rectified=rectified)
    x, y, width, height = 160, 120, 320, 240
    part = calibration(
        rectified=rectified,
        roi_xywh=(x, y, width, height),
        image_height=height // binning,
        image_width=width // binning,
    )
    pixels = np.array([[0.0, 0.0], [40, 30], [width / binning - 1, height / binning - 1]])
    # Binned pixels have their centres between those that they are made of.
    of_whole = pixels * binning + (binning - 1) / 2 + (x, y)
    np.testing.assert_allclose(part.rays(pixels), whole.rays(of_whole), atol=1e-9)
    assert (part.height, part.width) == (height // binning, width // binning)


def test_a_camera_may_bin_one_direction_alone():
    with pytest.raises(ConfigError, match="shape"):
        calibration(image_width=320)
    binned = calibration(image_width=320, binning_xy=(2, 0))
    np.testing.assert_allclose(
        binned.rays(np.array([[40.0, 30]])), calibration().rays(np.array([[80.5, 30]])), atol=1e-9
    )


def test_no_part_or_all_of_the_sensor_changes_nothing():
    for roi in ((0, 0, 0, 0), (0, 0, 640, 480)):
        np.testing.assert_array_equal(calibration(roi_xywh=roi).matrix, K)


@pytest.mark.parametrize("corner", [(400, 120), (160, 300)])
def test_a_part_beyond_the_sensor_is_refused(corner):
    x, y = corner
    with pytest.raises(ConfigError, match=rf"320x240 at \({x}, {y}\) reaches beyond 640x480"):
        calibration(roi_xywh=(x, y, 320, 240), image_height=240, image_width=320)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (641, 333)])
def test_an_assumed_camera_sees_its_angle_from_edge_to_edge_about_the_middle(height, width):
    camera = assumed_camera(height, width)
    # The outer edges of the first and the last column, half a pixel beyond their centres.
    (left, right), middle_y = (-0.5, width - 0.5), (height - 1) / 2
    rays = camera.rays(np.array([[left, middle_y], [right, middle_y]]))
    half = np.tan(np.radians(ASSUMED_FIELD_OF_VIEW_DEG / 2))
    np.testing.assert_allclose(rays, [[-half, 0], [half, 0]], atol=1e-12)
    assert camera.matrix[0, 0] == camera.matrix[1, 1]


@pytest.mark.parametrize(
    ("calibrated_hw", "image_hw"),
    [
        ((480, 640), (481, 640)),
        ((1080, 1920), (1088, 1920)),  # padded to whole blocks by a video's codec
        ((480, 641), (240, 320)),
        ((483, 643), (30, 40)),
        ((30, 40), (483, 643)),
        ((7, 9), (3, 4)),
        ((2160, 3840), (135, 240)),
    ],
)
def test_sizes_that_differ_by_rounding_fit(calibrated_hw, image_hw):
    height, width = calibrated_hw
    camera = calibration(
        height=height, width=width, image_height=image_hw[0], image_width=image_hw[1]
    )
    assert (camera.height, camera.width) == image_hw


@pytest.mark.parametrize(
    ("calibrated_hw", "roi_xywh", "image_hw", "said"),
    [
        ((960, 1280), (0, 0, 0, 0), (287, 640), "calibration of 1280x960 .* image of 640x287"),
        ((480, 640), (0, 0, 0, 0), (360, 640), "640x480 .* 640x360"),
        ((480, 640), (0, 0, 0, 0), (640, 480), "640x480 .* 480x640"),
        ((480, 640), (160, 120, 320, 180), (240, 320), "320x180 .* 320x240"),
        ((480, 640), (0, 0, 0, 0), (30, 60), "640x480 .* 60x30"),
    ],
)
def test_an_image_of_another_shape_is_refused(calibrated_hw, roi_xywh, image_hw, said):
    with pytest.raises(ConfigError, match=said + ".*roi"):
        calibration(
            height=calibrated_hw[0],
            width=calibrated_hw[1],
            roi_xywh=roi_xywh,
            image_height=image_hw[0],
            image_width=image_hw[1],
        )


def test_size_zero_means_that_of_the_image():
    assert calibration(height=0, width=0).matrix.tolist() == K.tolist()


def test_an_uncalibrated_camera_is_none():
    assert calibration(matrix=np.zeros((3, 3))) is None
    assert calibration(projection=np.zeros((3, 4)), rectified=True) is None
    assert isinstance(calibration(projection=np.zeros((3, 4))), Camera)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"distortion_model": "wavy"}, "wavy"),
        ({"distortion": [0.1, 0.2, 0.3]}, "3 distortion"),
        ({"distortion_model": "equidistant"}, "5 coefficients"),
        ({"distortion": [np.nan] * 5}, "finite"),
        ({"matrix": K * [[-1], [1], [1]]}, "focal"),
        (
            {"matrix": K / [[640], [480], [1]]},
            "in pixels, which no lens of an image 640 pixels long",
        ),
        ({"matrix": K * [[1], [1e305], [1]]}, "no lens"),
        ({"matrix": K * [[1], [-1], [1]]}, "focal"),
        ({"matrix": K * [[1], [0], [1]]}, "focal"),
    ],
)
def test_bad_calibrations_are_refused(changed, word):
    with pytest.raises(ConfigError, match=word):
        calibration(**changed)
