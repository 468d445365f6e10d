import pytest
import yaml

from tddfa_ros.core.calibration import DISTORTION_MODELS
from tddfa_ros.core.errors import ConfigError
from tddfa_ros.nodes.camera_info import camera_of, read_calibration, uncalibrated

CALIBRATION = {
    "image_width": 640,
    "image_height": 480,
    "camera_name": "webcam",
    "distortion_model": "plumb_bob",
    "camera_matrix": {"rows": 3, "cols": 3, "data": [600.5, 0, 320, 0, 601, 240, 0, 0, 1]},
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.1, -0.2, 0.001, 0, 0.3]},
    "rectification_matrix": {"rows": 3, "cols": 3, "data": [1, 0, 0, 0, 1, 0, 0, 0, 1]},
    "projection_matrix": {
        "rows": 3,
        "cols": 4,
        "data": [599, 0, 321, 0, 0, 602, 239, 0, 0, 0, 1, 0],
    },
}


def write(tmp_path, **changes):
    content = {k: v for k, v in (CALIBRATION | changes).items() if v is not None}
    path = tmp_path / "camera.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_calibration_is_read(tmp_path, prefix):
    info = read_calibration(f"{prefix}{write(tmp_path)}")
    assert (info.height, info.width) == (480, 640)
    assert info.distortion_model == "plumb_bob"
    assert list(info.k) == CALIBRATION["camera_matrix"]["data"]
    assert list(info.d) == CALIBRATION["distortion_coefficients"]["data"]
    assert list(info.p) == CALIBRATION["projection_matrix"]["data"]


@pytest.mark.parametrize("model", DISTORTION_MODELS)
def test_every_distortion_model_of_a_camera_is_read(tmp_path, model):
    coefficients = {"data": [0.1, 0.2, 0.3, 0.4]}
    path = write(tmp_path, distortion_model=model, distortion_coefficients=coefficients)
    info = read_calibration(str(path))
    assert info.distortion_model == model
    camera = camera_of(info, 480, 640, rectified=False)
    assert list(camera.distortion) == coefficients["data"]


def test_what_is_not_given_is_an_unrectified_camera(tmp_path):
    path = write(
        tmp_path,
        rectification_matrix=None,
        projection_matrix=None,
        distortion_coefficients=None,
    )
    info = read_calibration(str(path))
    assert list(info.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert list(info.p) == [600.5, 0, 320, 0, 0, 601, 240, 0, 0, 0, 1, 0]
    assert list(info.d) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"image_width": None},
        {"image_width": "wide"},
        {"image_width": int("9" * 4000)},
        {"image_height": -3},
        {"camera_matrix": None},
        {"camera_matrix": [1, 2, 3]},
        {"camera_matrix": {"data": [1] * 8}},
        {"camera_matrix": {"data": [0] * 9}},
        {"camera_matrix": {"data": [600, 0, 320, 0, -601, 240, 0, 0, 1]}},
        {"camera_matrix": {"data": [float("nan")] * 9}},
        {"camera_matrix": {"data": [int("9" * 400)] * 9}},
        {"camera_matrix": {"data": [-int("9" * 400)] * 9}},
        {"projection_matrix": {"data": ["a"] * 12}},
        {"distortion_model": "magic"},
    ],
)
def test_wrong_fields_are_named(tmp_path, changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        read_calibration(str(write(tmp_path, **changes)))


def doubled(levels):
    """Text of lists of which each holds the one before twice: 2**levels when written out."""
    rows = [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, levels)]
    return "\n".join(["a0: &a0 [1]", *rows, f"distortion_model: [*a{levels - 1}]"])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2]",
        "a: [",
        "!!python/object/apply:os.getcwd []",
        "image_width: 2001-99-99",
        "image_width: " + "9" * 5000,
        "[" * 3000,
        "image_width: !!bool maybe",
        "<<: {image_width: 640}",
        "image_width: \xff",
        doubled(40),
        "# " + "long" * 300_000,
        "image_width: 0x1" + "0" * 10_000,
        "camera_matrix: {data: [0x1" + "0" * 10_000 + "]}",
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_calibration_is_an_error(tmp_path, content):
    path = tmp_path / "camera.yaml"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"camera\.yaml"):
        read_calibration(str(path))


def test_a_home_that_nobody_has_is_an_error():
    with pytest.raises(ConfigError, match="~no such user"):
        read_calibration("~no such user/camera.yaml")


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="absent"):
        read_calibration(str(tmp_path / "absent.yaml"))


def test_uncalibrated_camera():
    info = uncalibrated(480, 640)
    assert (info.height, info.width) == (480, 640)
    assert info.k[0] == 0
