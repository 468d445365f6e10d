"""The image-space camera of a fit and its inverse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tddfa_ros.core.camera import image_camera, params_with_image_camera
from tddfa_ros.core.errors import TddfaError
from tddfa_ros.core.types import MorphableParams

SIZE = 120
no_deadline = settings(deadline=None)  # the machine may be shared
rois = st.tuples(
    st.floats(-2000, 4000), st.floats(-2000, 4000), st.floats(10, 2000), st.floats(10, 2000)
).map(lambda r: np.array([r[0], r[1], r[0] + r[2], r[1] + r[3]], np.float32))
cameras = hnp.arrays(np.float32, (3, 4), elements=st.floats(-200, 200, width=32))


def make_params(camera, roi_xyxy):
    return MorphableParams(camera, np.ones(4, np.float32), np.ones(2, np.float32), roi_xyxy, SIZE)


def test_known_points():
    """Pixel 1 of the network's input is pixel 0 of the image, and its y points up."""
    params = make_params(np.eye(3, 4, dtype=np.float32), np.array([40, 20, 280, 260], np.float32))
    camera = image_camera(params)
    for point, expected in [
        ((1, SIZE, 1), (40, 20, 0)),
        ((1, 0, 1), (40, 260, 0)),
        ((121, 60, 11), (280, 140, 20)),
    ]:
        np.testing.assert_allclose(camera[:, :3] @ point + camera[:, 3], expected)


@no_deadline
@given(camera=cameras, roi=rois)
def test_inverse(camera, roi):
    params = make_params(camera, roi)
    back = params_with_image_camera(params, image_camera(params))
    np.testing.assert_allclose(back.camera, camera, rtol=1e-6, atol=1e-4)
    assert back.camera.dtype == np.float32
    assert (back.shape is params.shape) and (back.expression is params.expression)


@no_deadline
@given(camera=cameras, first=rois, second=rois)
def test_the_same_camera_in_another_region(camera, first, second):
    """What one region says in the image, another region can say as well, up to float32."""
    wanted = image_camera(make_params(camera, first))
    moved = params_with_image_camera(make_params(camera * 0, second), wanted)
    scale = max(np.abs(wanted).max(), np.abs(second).max(), 1)
    np.testing.assert_allclose(image_camera(moved), wanted, atol=1e-6 * scale, rtol=1e-6)


def test_a_region_without_area_is_refused():
    params = make_params(np.eye(3, 4, dtype=np.float32), np.array([5, 5, 5, 90], np.float32))
    with pytest.raises(TddfaError, match=r"roi_xyxy=\[5.0, 5.0, 5.0, 90.0\]: has no area"):
        params_with_image_camera(params, np.eye(3, 4))
