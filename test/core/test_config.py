"""Settings: defaults are within their own ranges, and bad values are named."""

import pytest

from tddfa_ros.core.config import PipelineConfig, options
from tddfa_ros.core.errors import ConfigError
from tddfa_ros.core.track import FAINT_SHARE


def test_every_setting_is_described_and_its_default_allowed():
    PipelineConfig()
    for name, (_, about) in options(PipelineConfig).items():
        assert about.description.endswith("."), name


def test_detection_threshold_tells_which_fainter_faces_begin():
    about = options(PipelineConfig)["detection_threshold"][1]
    assert f"{FAINT_SHARE:g} times" in about.description


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_faces": 0}, ["max_faces=0", "at least 1"]),
        ({"max_faces": 101}, ["max_faces=101", "at most 100"]),
        ({"max_faces": True}, ["max_faces=True", "expected int"]),
        ({"max_faces": 2.0}, ["max_faces=2.0", "expected int"]),
        ({"detection_threshold": float("nan")}, ["detection_threshold", "not a number"]),
        ({"smoothing": "none,window"}, ["smoothing", "none,window"]),
        ({"smoothing": "kalman"}, ["smoothing", "kalman", "one-euro"]),
    ],
)
def test_bad_values_are_refused_by_name(values, words):
    with pytest.raises(ConfigError) as caught:
        PipelineConfig(**values)
    for word in words:
        assert word in str(caught.value)


def test_an_integer_serves_as_a_float():
    config = PipelineConfig(detection_interval_s=1)
    assert isinstance(config.detection_interval_s, float)
