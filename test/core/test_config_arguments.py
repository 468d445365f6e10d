import argparse

import pytest

from tddfa_ros.core.config import MetricConfig, PipelineConfig, options
from tddfa_ros.core.config_arguments import add_config_arguments, config_from, flag, names_among


@pytest.fixture
def parser():
    made = argparse.ArgumentParser()
    add_config_arguments(made)
    add_config_arguments(made, config_class=MetricConfig)
    return made


def test_no_flags_give_the_defaults(parser):
    assert config_from(parser.parse_args([])) == PipelineConfig()


def test_every_setting_has_a_flag_with_its_description(parser):
    text = " ".join(parser.format_help().split())
    for name, (_, about) in options(PipelineConfig).items():
        assert flag(name) in text
        assert about.description in text


def test_given_values_reach_the_config(parser):
    arguments = "--smooth window --max-faces 3 --detection-interval-s 1 --model-set /a b"
    config = config_from(parser.parse_args(arguments.split()[:-1]))
    assert config.smoothing == "window"
    assert config.max_faces == 3
    assert config.detection_interval_s == 1.0
    assert config.model_set == "/a"


@pytest.mark.parametrize(("text", "value"), [("--image-rectified", True), ("", False)])
def test_a_switch_is_on_if_it_is_named(parser, text, value):
    config = config_from(parser.parse_args([*text.split()]), MetricConfig)
    assert config.image_rectified is value
    off = parser.parse_args([*text.split(), "--no-image-rectified"])
    assert config_from(off, MetricConfig).image_rectified is False


@pytest.mark.parametrize(
    "arguments",
    [
        "--smooth median",
        "--max-faces 0",
        "--max-faces 2.5",
        "--detection-threshold nan",
    ],
)
def test_bad_values_are_usage_errors(parser, arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parser.parse_args(arguments.split())
    assert exit_info.value.code == 2
    assert arguments.split()[1] in capsys.readouterr().err


def test_names_are_separated_by_commas_and_checked():
    read = names_among({"mesh": 1, "depth": 2, "uv": 3}, least=1)
    assert read(" depth,mesh,, depth") == ("depth", "mesh")
    assert names_among(["mesh"])(" ,") == ()
    for wrong, why in (("mesh,magic", "'magic' is not one of mesh, depth, uv"), ("", "at least 1")):
        with pytest.raises(argparse.ArgumentTypeError, match=why):
            read(wrong)
