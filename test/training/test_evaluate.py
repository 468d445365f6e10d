"""What evaluate says of fits whose errors are known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import scipy.io

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.core.types import MorphableParams  # noqa: E402
from tddfa_ros.training import decoding, evaluate  # noqa: E402
from tddfa_ros.training.__main__ import main  # noqa: E402


@pytest.fixture(scope="module")
def people(rig):
    return evaluate.new_people(rig, 40)


class Answers:
    """A fitter that gives these landmarks and coefficients, crop by crop."""

    def __init__(self, batch):
        truth = (batch.points, batch.rotation, batch.shape, batch.expression)
        self._rows = iter(zip(*truth, strict=True))

    def fit(self, image, roi):
        points, rotation, shape, expression = next(self._rows)
        camera = np.column_stack([2.5 * rotation, [0, 0, 0]]).astype(np.float32)
        return MorphableParams(camera, shape, expression, roi, 120), points[:68]


def test_the_truth_has_no_error(people):
    figures = evaluate.synthetic(Answers(people), people)
    for part in (figures, figures["clear"]):
        assert part["nme"] == pytest.approx(0, abs=1e-9)
        assert part["pose_deg"] == pytest.approx(0, abs=0.05)
        assert part["openness"] == {
            name: pytest.approx(1) for name in ("left_eye", "right_eye", "mouth")
        }
        assert part["correlation"]["jaw_open"] == pytest.approx(1)
        assert len(part["correlation"]) == 16


def test_each_error_is_told_as_what_it_is(people, rng):
    about_z = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], np.float32)
    away = np.tile(np.float32([3, 4, 0]), (268, 1))
    blinks = people.expression.copy()
    blinks[:, 14] = -blinks[:, 14]
    wrong = replace(
        people, points=people.points + away, rotation=about_z @ people.rotation, expression=blinks
    )
    figures = evaluate.synthetic(Answers(wrong), people)
    spans = np.ptp(people.points[:, :68, :2], axis=1)
    assert figures["nme"] == pytest.approx((500 / np.sqrt(spans.prod(axis=1))).mean(), rel=1e-5)
    assert figures["pose_deg"] == pytest.approx(np.rad2deg(np.arccos(0.8)), abs=0.05)
    assert figures["correlation"]["blink_left"] == pytest.approx(-1)
    assert figures["correlation"]["jaw_open"] == pytest.approx(1)
    assert figures["openness"]["mouth"] == pytest.approx(1)
    closed = people.points.copy()
    closed[:, [67, 66, 65]] = closed[:, [61, 62, 63]] + rng.normal(0, 1, (40, 3, 3))
    figures = evaluate.synthetic(Answers(replace(people, points=closed)), people)
    assert abs(figures["openness"]["mouth"]) < 0.6
    assert figures["openness"]["left_eye"] == pytest.approx(1)


def test_what_few_crops_do_not_tell_is_nan_without_a_warning(people, recwarn):
    two = people.__class__(**{name: value[:2] for name, value in vars(people).items()})
    two = replace(two, occluded=np.ones(2, bool), expression=np.zeros_like(two.expression))
    figures = evaluate.synthetic(Answers(two), two)
    assert figures["nme"] == pytest.approx(0, abs=1e-9)
    assert np.isnan([figures["clear"]["nme"], figures["clear"]["pose_deg"]]).all()
    assert np.isnan(list(figures["correlation"].values())).all()
    assert not recwarn


def test_nothing_is_laid_over_plain_people(rig, people):
    plain = evaluate.new_people(rig, 40, plain=True)
    assert people.occluded.any()
    assert not plain.occluded.any()
    assert (plain.is_face == 1).all()


@pytest.fixture
def photo(tmp_path, rng):
    """Writes a photo with a .mat of these arrays beside it; returns the photo."""

    def write(name="a", **arrays):
        image = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), image)
        scipy.io.savemat(tmp_path / f"{name}.mat", arrays)
        return cv2.imread(str(tmp_path / f"{name}.jpg"))

    return write


def test_annotated_photos_are_read_with_their_landmarks(tmp_path, photo, rng):
    points = rng.uniform(0, 50, (3, 68))
    second = photo("b", pt3d_68=points[:2], Pose_Para=np.zeros(7))
    first = photo("a", pt3d_68=points + 1)
    pairs = evaluate.annotated(tmp_path)
    for (image, truth), wanted, shift in zip(pairs, (first, second), (1, 0), strict=True):
        np.testing.assert_array_equal(image, wanted)
        np.testing.assert_array_equal(truth, points[:2].T + shift)


def test_what_is_wrong_with_annotated_photos_is_told_before_the_work(tmp_path, photo, capsys):
    def told(folder=tmp_path):
        assert main(["evaluate", "--set", str(tmp_path / "none"), "--photos", str(folder)]) == 1
        return capsys.readouterr().err

    assert "no such folder" in told(tmp_path / "absent")
    assert "no landmarks (.mat)" in told()
    for arrays in ({"other": np.zeros((3, 68))}, {"pt3d_68": np.zeros((68, 3))}):
        photo(**arrays)
        assert "a.mat: without 68 landmarks" in told()
    photo(pt3d_68=np.full((3, 68), np.nan))
    assert "a.mat: without 68 landmarks" in told()
    (tmp_path / "a.mat").write_bytes(b"junk")
    assert "a.mat: not a little-endian MATLAB 5 file" in told()
    (tmp_path / "a.jpg").unlink()
    assert "a.jpg: no such photo" in told()


def test_nme_and_jitter_by_hand():
    truth = np.array([[0.0, 0], [40, 0], [0, 10], [40, 10]])
    assert evaluate.nme(truth + np.array([3, 4]), truth) == pytest.approx(100 * 5 / 20)
    still = np.tile(truth, (6, 1, 1)) + np.arange(6)[:, None, None]
    assert evaluate.jitter(still) == pytest.approx(0, abs=1e-12)
    trembling = np.tile(truth, (5, 1, 1))
    trembling[::2, :, 0] += 1
    assert evaluate.jitter(trembling) == pytest.approx(100 * 2 / 20)


def test_angle_between_rotations():
    turn = decoding.rotation_from_six(torch.tensor([[1.0, 0, 0, 0, 0, 1.0]])).numpy()[0]
    assert evaluate.angle_between_deg(np.eye(3), turn) == pytest.approx(90, abs=1e-3)
    assert evaluate.angle_between_deg(turn, turn) == pytest.approx(0, abs=0.05)
