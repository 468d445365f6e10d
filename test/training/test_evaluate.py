"""What evaluate says of fits whose errors are known."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import scipy.io

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from tddfa_ros.core.types import Detections, MorphableParams  # noqa: E402
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


SQUARE = np.stack([np.linspace(0, 1, 68), np.resize([0.0, 1.0], 68)], axis=1)
"""68 points whose bounds are a square of side 1."""


class Finder:
    """A fitter that finds the boxes told for each image, and fits as it is told.

    From landmarks it answers them moved by `away`, from a box the square in it, moved more with
    fewer passes.
    """

    def __init__(self, boxes, away=0.0):
        self.detector, self._boxes, self._away = self, iter(boxes), away

    def detect(self, image):
        found = np.array(next(self._boxes), np.float32).reshape(-1, 4)
        return Detections(found, np.ones(len(found), np.float32))

    def from_landmarks(self, image, landmarks):
        return None, landmarks[:, :2] + [self._away, 0]

    def from_box(self, image, box, passes):
        return None, SQUARE * (box[2:] - box[:2]) + box[:2] + [0, 6 - 2 * passes]


def test_photos_are_measured_from_the_truth_and_from_the_best_box_found():
    truth = SQUARE * 100 + 50
    nowhere, near = [300, 300, 400, 400], [50, 50, 150, 150]
    fitter = Finder([[nowhere, near], [nowhere], []], away=10.0)
    figures = evaluate.photos(fitter, [(None, truth)] * 3)
    assert figures["true_roi"] == pytest.approx([10.0] * 3)
    for name, error in (("box", 6.0), ("one_pass", 4.0), ("two_passes", 2.0)):
        assert figures[name] == pytest.approx([error, np.nan, np.nan], nan_ok=True)


def test_a_video_tells_frames_with_the_face_and_jitter_from_the_landmarks_before():
    box = np.array([50.0, 50, 150, 150])
    half = [100, 50, 150, 150]
    found = [[box], [], [box + 300, half], [box - 20]]
    figures = evaluate.video(Finder(found), [None] * 4, np.tile(box, (4, 1)))
    assert figures == {"found": 0.5, "jitter": 0}

    class Trembling(Finder):
        def from_landmarks(self, image, landmarks):
            self._away = -self._away
            return super().from_landmarks(image, landmarks)

    figures = evaluate.video(Trembling([[]] * 4, away=1.0), [None] * 4, np.tile(box, (4, 1)))
    assert figures == {"found": 0, "jitter": pytest.approx(2)}
    with pytest.raises(ValueError, match="shorter"):
        evaluate.video(Finder(found), [None] * 4, box[None])


def test_false_faces_are_counted_by_picture():
    box = [0, 0, 9, 9]
    assert evaluate.false_faces(Finder([[], [box], [box, box]]), [None] * 3) == [0, 1, 2]


@pytest.fixture
def grey_video(tmp_path):
    path = tmp_path / "grey.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for level in (60, 90, 120, 150):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


def test_the_command_measures_a_video_and_pictures_without_faces(
    repository, tmp_path, grey_video, capsys
):
    np.savez(tmp_path / "boxes.npz", boxes_xyxy=np.tile(np.float32([20, 10, 40, 34]), (4, 1)))
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in "ab":
        cv2.imwrite(str(empty / f"{name}.png"), np.full((48, 64, 3), 80, np.uint8))
    command = ["evaluate", "--set", str(repository / "models" / "embedded"), "--synthetic", "2"]
    command += ["--video", str(grey_video), "--boxes", str(tmp_path / "boxes.npz")]
    assert main([*command, "--without-faces", str(empty)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["false_faces"] == [0, 0]
    for name in ("video", "video_without_mirror"):
        assert figures[name]["found"] == 0
        assert figures[name]["jitter"] > 0


@pytest.mark.parametrize(
    ("boxes", "told"),
    [
        ({"boxes_xyxy": np.ones((3, 4))}, "in each of 4 rows"),
        ({"boxes_xyxy": np.ones((4, 4))}, "without a box"),
        ({"boxes_xyxy": np.full((4, 4), np.nan)}, "without a box"),
        ({"other": np.ones((4, 4))}, "boxes_xyxy"),
        (None, "cannot read the boxes"),
    ],
)
def test_boxes_that_are_not_those_of_the_video_are_told_before_the_work(
    tmp_path, grey_video, capsys, boxes, told
):
    path = tmp_path / "boxes.npz"
    if boxes:
        np.savez(path, **boxes)
    command = ["evaluate", "--set", str(tmp_path / "none"), "--video", str(grey_video)]
    assert main([*command, "--boxes", str(path)]) == 1
    assert told in capsys.readouterr().err
    assert main(command) == 1
    assert "--video and --boxes" in capsys.readouterr().err


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
