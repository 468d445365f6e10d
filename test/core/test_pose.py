"""Head pose: known poses, inverses, an independent reference (scipy), then parity with 3DDFA_V2."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tddfa_ros.core.pose import (
    head_pose,
    reference_euler_deg,
    rotation_from_turn,
    rotation_from_yaw_pitch_roll,
    turn_from_rotation,
    yaw_pitch_roll_from_rotation,
)
from tddfa_ros.core.rotation import nearest_rotation, quat_from_rotation, rotation_from_quat
from tddfa_ros.core.types import MorphableParams

UPRIGHT_XYZW = (0.5, 0.5, -0.5, 0.5)
EXACT = 1e-12
FLOAT32 = 1e-6

no_deadline = settings(deadline=None)  # the machine may be shared
angles = st.floats(-np.pi, np.pi)
pitches = st.floats(-1.5, 1.5)
units = st.tuples(*[st.floats(-1, 1)] * 4).map(np.array)


def make_params(turn, scale=5e-4, roi_xyxy=(100.0, 50.0, 400.0, 350.0)):
    """A fit whose head is turned by `turn` from upright and frontal; the network's y is up."""
    camera = np.column_stack([scale * np.asarray(turn), [60, 60, -30]]).astype(np.float32)
    return MorphableParams(camera, np.zeros(1), np.zeros(1), np.array(roi_xyxy, np.float32), 120)


def turned(axis, angle_rad):
    return Rotation.from_rotvec(angle_rad * np.eye(3)["xyz".index(axis)]).as_matrix()


def test_upright_face_looking_into_the_camera():
    pose = head_pose(make_params(np.eye(3)))
    np.testing.assert_array_equal(pose.quat_xyzw, UPRIGHT_XYZW)
    np.testing.assert_array_equal(pose.yaw_pitch_roll_rad, np.zeros(3))
    np.testing.assert_array_equal(pose.reference_euler_deg, np.zeros(3))
    assert pose.scale == pytest.approx(5e-4 * 300 / 120)


def test_scale_is_the_mean_of_across_and_down():
    """A network is free to say of a face that it is wider than it is high, and so is a region."""
    wide = make_params(np.eye(3) * [[2], [1], [1]], roi_xyxy=(0.0, 0.0, 120.0, 240.0))
    assert head_pose(wide).scale == pytest.approx(5e-4 * (2 + 2) / 2)
    assert head_pose(make_params(np.eye(3) * [[3], [1], [9]])).scale == pytest.approx(
        5e-4 * 300 / 120 * (3 + 1) / 2
    )


@no_deadline
@given(yaw=angles, pitch=pitches, roll=angles)
def test_axes_of_the_face_frame(yaw, pitch, roll):
    """x leaves the face, y goes to the subject's left, z to the scalp, in the optical frame."""
    rotation = rotation_from_yaw_pitch_roll([yaw, pitch, roll])
    turn = turn_from_rotation(rotation)
    optical_from_view = np.diag([1, -1, -1])
    for face_axis, model_axis in enumerate(([0, 0, 1], [1, 0, 0], [0, 1, 0])):
        np.testing.assert_allclose(
            rotation[:, face_axis], optical_from_view @ turn @ model_axis, atol=EXACT
        )
    np.testing.assert_allclose(rotation_from_turn(turn), rotation, atol=EXACT)


def test_yaw_is_positive_to_the_subjects_left():
    rotation = rotation_from_yaw_pitch_roll([np.pi / 2, 0, 0])
    np.testing.assert_allclose(rotation[:, 0], [1, 0, 0], atol=EXACT)  # looks to the image's right
    np.testing.assert_allclose(rotation[:, 2], [0, -1, 0], atol=EXACT)  # scalp stays up


def test_pitch_is_positive_upwards():
    rotation = rotation_from_yaw_pitch_roll([0, np.pi / 2, 0])
    np.testing.assert_allclose(rotation[:, 0], [0, -1, 0], atol=EXACT)  # looks up
    np.testing.assert_allclose(rotation[:, 1], [1, 0, 0], atol=EXACT)


def test_roll_is_positive_to_the_subjects_right_shoulder():
    rotation = rotation_from_yaw_pitch_roll([0, 0, np.pi / 2])
    np.testing.assert_allclose(rotation[:, 2], [-1, 0, 0], atol=EXACT)  # scalp to the image's left
    np.testing.assert_allclose(rotation[:, 0], [0, 0, -1], atol=EXACT)  # still looks at the camera


@no_deadline
@given(yaw=angles, pitch=pitches, roll=angles)
def test_angles_are_the_product_that_the_documentation_says(yaw, pitch, roll):
    turn = Rotation.from_euler("YXZ", [yaw, -pitch, roll]).as_matrix()
    rotation = rotation_from_yaw_pitch_roll([yaw, pitch, roll])
    np.testing.assert_allclose(turn_from_rotation(rotation), turn, atol=EXACT)


@no_deadline
@given(yaw=angles, pitch=pitches, roll=angles)
def test_angles_and_rotation_are_inverse(yaw, pitch, roll):
    back = yaw_pitch_roll_from_rotation(rotation_from_yaw_pitch_roll([yaw, pitch, roll]))
    difference = (back - [yaw, pitch, roll] + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(difference, 0, atol=1e-9)


@no_deadline
@given(yaw=angles, roll=angles, up=st.booleans())
def test_looking_straight_up_or_down_keeps_the_rotation_and_has_no_roll(yaw, roll, up):
    rotation = rotation_from_yaw_pitch_roll([yaw, np.pi / 2 if up else -np.pi / 2, roll])
    back = yaw_pitch_roll_from_rotation(rotation)
    assert np.isfinite(back).all() and back[2] == 0
    np.testing.assert_allclose(rotation_from_yaw_pitch_roll(back), rotation, atol=1e-7)


def test_angles_are_continuous_through_both_profiles():
    for sign in (1, -1):
        yaws = sign * np.linspace(np.radians(60), np.radians(120), 241)
        poses = [
            head_pose(make_params(turned("y", yaw) @ turned("x", 0.2) @ turned("z", 0.3)))
            for yaw in yaws
        ]
        steps = np.diff([pose.yaw_pitch_roll_rad for pose in poses], axis=0)
        np.testing.assert_allclose(steps[:, 0], sign * np.radians(0.25), atol=1e-5)
        np.testing.assert_allclose(steps[:, 1:], 0, atol=1e-5)
        quats = np.array([pose.quat_xyzw for pose in poses])
        assert (np.abs((quats[1:] * quats[:-1]).sum(axis=1)) > 0.99999).all()


@no_deadline
@given(quat=units)
def test_quaternion_and_rotation_are_inverse(quat):
    norm = np.linalg.norm(quat)
    assume(norm > 1e-3)
    rotation = rotation_from_quat(quat)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=EXACT)
    back = quat_from_rotation(rotation)
    assert back[3] >= 0
    np.testing.assert_allclose(np.abs(back @ quat) / norm, 1, atol=EXACT)
    np.testing.assert_allclose(rotation, Rotation.from_quat(quat).as_matrix(), atol=EXACT)


def test_a_quaternion_without_direction_is_no_rotation():
    assert np.isnan(rotation_from_quat(np.zeros(4))).all()


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -2, 3)])
def test_half_turns_are_exact(axis):
    axis = np.array(axis) / np.linalg.norm(axis)
    rotation = 2 * np.outer(axis, axis) - np.eye(3)
    quat = quat_from_rotation(rotation)
    np.testing.assert_allclose(np.abs(quat[:3] @ axis), 1, atol=EXACT)
    np.testing.assert_allclose(rotation_from_quat(quat), rotation, atol=EXACT)


@no_deadline
@given(
    yaw=angles,
    pitch=pitches,
    roll=angles,
    scale=st.floats(1e-5, 1e-2),
    left=st.floats(-100, 1000),
    side=st.floats(20, 2000),
)
def test_known_pose_in_same_pose_out(yaw, pitch, roll, scale, left, side):
    rotation = rotation_from_yaw_pitch_roll([yaw, pitch, roll])
    roi = (left, left, left + side, left + side)
    pose = head_pose(make_params(turn_from_rotation(rotation), scale, roi))
    np.testing.assert_allclose(rotation_from_quat(pose.quat_xyzw), rotation, atol=1e-4)
    np.testing.assert_allclose(
        rotation_from_yaw_pitch_roll(pose.yaw_pitch_roll_rad), rotation, atol=1e-4
    )
    assert pose.scale == pytest.approx(scale * side / 120, rel=1e-3)


@no_deadline
@given(quat=units, stretch=st.tuples(*[st.floats(0.5, 2)] * 3), skew=st.floats(-0.2, 0.2))
def test_rotation_is_proper_and_nearest(quat, stretch, skew):
    assume(np.linalg.norm(quat) > 1e-3)
    truth = rotation_from_quat(quat)
    symmetric = np.diag(stretch) + skew * (np.ones((3, 3)) - np.eye(3))
    assume(np.linalg.eigvalsh(symmetric).min() > 0.05)
    # The polar factor of rotation times positive symmetric matrix is that rotation.
    nearest = nearest_rotation(truth @ symmetric)
    np.testing.assert_allclose(nearest, truth, atol=1e-10)
    # Where a reflection is nearest, the rotation nearest to it turns what is least.
    reflected = nearest_rotation(truth @ np.diag([3.0, -0.5, 2.0]))
    np.testing.assert_allclose(reflected, truth, atol=1e-10)
    mirrored = nearest_rotation(-truth @ symmetric)
    assert np.linalg.det(mirrored) == pytest.approx(1)
    np.testing.assert_allclose(mirrored @ mirrored.T, np.eye(3), atol=EXACT)


@pytest.mark.parametrize(
    "camera",
    [
        np.zeros((3, 4)),
        np.full((3, 4), np.nan),
        np.ones((3, 4)),
        np.vstack([np.eye(3, 4)[:2], np.full((1, 4), np.nan)]),
    ],
    ids=["nothing", "nan", "one direction", "depth nan"],
)
def test_a_camera_without_direction_does_not_crash(camera):
    params = make_params(np.eye(3))
    pose = head_pose(
        MorphableParams(
            camera.astype(np.float32), params.shape, params.expression, params.roi_xyxy, 120
        )
    )
    assert pose.quat_xyzw.shape == (4,)
    if np.isnan(camera).any():
        assert np.isnan(pose.quat_xyzw).all() and np.isnan(pose.reference_euler_deg).all()
    else:
        assert np.linalg.norm(pose.quat_xyzw) == pytest.approx(1)


def test_reference_angles_have_the_signs_of_the_original():
    """Its yaw has the opposite sign of ours; for single turns the others agree up to sign too."""
    yaw = reference_euler_deg(np.column_stack([turned("y", 0.5), np.zeros(3)]))
    pitch = reference_euler_deg(np.column_stack([turned("x", 0.5), np.zeros(3)]))
    roll = reference_euler_deg(np.column_stack([turned("z", 0.5), np.zeros(3)]))
    degrees = np.degrees(0.5)
    np.testing.assert_allclose(yaw, [-degrees, 0, 0], atol=1e-9)
    np.testing.assert_allclose(pitch, [0, degrees, 0], atol=1e-9)
    np.testing.assert_allclose(roll, [0, 0, degrees], atol=1e-9)


def test_reference_angles_snap_near_profile_as_the_original():
    for sign in (1, -1):
        camera = np.column_stack([turned("y", sign * np.radians(88)), np.zeros(3)])
        assert reference_euler_deg(camera)[0] == -sign * 90


@pytest.mark.parametrize(
    "name",
    [
        "JianzhuGuo",
        "trump_hillary",
        "aflw2000_image00050",
        "aflw2000_image00251",
        "aflw2000_image00430",
        "aflw2000_image01322",
        "aflw2000_image02283",
        "aflw2000_image03324",
    ],
)
def test_reference_angles_equal_the_golden_ones(golden, name):
    """The README of the goldens grants 0.1 degrees."""
    expected = np.load(golden / f"{name}.npz")
    for vector, roi, angles_deg in zip(
        expected["params"], expected["rois"], expected["pose_deg"], strict=True
    ):
        pose = head_pose(MorphableParams.from_vector(vector, 40, roi, 120))
        np.testing.assert_allclose(pose.reference_euler_deg, angles_deg, atol=1e-3)
        # Far from profile the two conventions differ by little in yaw, beside its sign.
        assert abs(np.degrees(pose.yaw_pitch_roll_rad[0]) + angles_deg[0]) < 3
