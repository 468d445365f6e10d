import dataclasses
import threading

import pytest
import yaml
from rcl_interfaces.msg import ParameterType
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter

from tddfa_ros.core.config import CheckedConfig, MetricConfig, PipelineConfig, option, options
from tddfa_ros.core.errors import ConfigError, MediaError
from tddfa_ros.nodes.face_node_config import FaceNodeConfig
from tddfa_ros.nodes.media_source import MediaSource
from tddfa_ros.nodes.media_source_config import MediaSourceConfig
from tddfa_ros.nodes.parameter_files import CONFIGS_BY_NODE, parameter_file
from tddfa_ros.nodes.parameters import ConfigParameters


@dataclasses.dataclass(frozen=True)
class Config(CheckedConfig):
    size: int = option(4, "A size.", minimum=1, maximum=9)
    speed: float = option(0.5, "A speed.", minimum=0.0, runtime=True)
    mode: str = option("a", "A mode.", choices=("a", "b"), runtime=True)
    on: bool = option(False, "A switch.", runtime=True)
    camera: str = option("0", "A name or number.")


class Host:
    """A node with the parameters of `Config`, and what was applied to it."""

    def __init__(self, running=False, refuse="", **values):
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.node = Node("host", parameter_overrides=overrides)
        self.applied = []
        self.running = running
        self.refuse = refuse
        self.parameters = ConfigParameters(
            self.node,
            (Config,),
            is_running=lambda: self.running,
            fixed="Read at noon.",
            remedy="before noon",
            apply=self.apply,
            dynamic=("camera",),
        )

    def apply(self, configs):
        if self.refuse:
            raise ConfigError(self.refuse)
        self.applied.append(configs[0])

    def set(self, **values):
        return self.node.set_parameters_atomically(
            [Parameter(name, value=value) for name, value in values.items()]
        )


@pytest.fixture
def make_host(ros):
    hosts = []

    def make(**about):
        hosts.append(Host(**about))
        return hosts[-1]

    yield make
    for host in hosts:
        host.node.destroy_node()


def test_values_given_at_start(make_host):
    host = make_host(size=7, mode="b", camera=2)
    assert host.parameters.configs() == [Config(size=7, mode="b", camera="2")]


@pytest.mark.parametrize(
    "values",
    [{"size": 0}, {"size": 10}, {"speed": -1.0}, {"mode": "c"}, {"size": "x"}, {"speed": 1}],
)
def test_bad_values_at_start_are_refused(make_host, values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        make_host(**values)


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        ({"speed": 1}, "with a decimal point, such as 1.0"),
        ({"size": 2.0}, "a whole number"),
        ({"on": 1}, "true or false"),
        ({"mode": 1}, "a text"),
    ],
)
def test_values_of_another_type_at_start_are_refused_with_how_to_give_them(
    make_host, values, remedy
):
    with pytest.raises(ConfigError, match=remedy):
        make_host(**values)


def test_runtime_change_is_applied_at_once(make_host):
    host = make_host(running=True)
    assert host.set(speed=2.0, mode="b").successful
    assert host.applied == [Config(speed=2.0, mode="b")]
    assert host.parameters.configs() == [Config(speed=2.0, mode="b")]
    assert host.node.get_parameter("mode").value == "b"


@pytest.mark.parametrize(
    "values", [{"speed": -1.0}, {"mode": "c"}, {"mode": "a,b,c"}, {"size": 100}, {"on": "yes"}]
)
def test_bad_change_is_refused_with_the_reason(make_host, values):
    host = make_host()
    answer = host.set(**values)
    assert not answer.successful
    assert next(iter(values)) in answer.reason
    assert host.parameters.configs() == [Config()]
    assert host.applied == []


def test_all_or_nothing(make_host):
    host = make_host()
    assert not host.set(speed=3.0, mode="c").successful
    assert host.parameters.configs() == [Config()]
    assert host.node.get_parameter("speed").value == 0.5


def test_fixed_setting_is_refused_only_while_running(make_host):
    host = make_host(running=True)
    answer = host.set(size=5)
    assert not answer.successful
    assert answer.reason == "size cannot change before noon"
    assert host.set(size=4).successful  # no change
    host.running = False
    assert host.set(size=5).successful
    assert host.parameters.configs() == [Config(size=5)]


def test_the_advice_of_an_inactive_face_node_can_be_followed(make_face_node):
    node = make_face_node()
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    constraints = node.describe_parameter("model_set").additional_constraints
    assert constraints == "Takes effect when the node is configured."
    (answer,) = node.set_parameters([Parameter("frame_policy", value="every")])
    assert "frame_policy cannot change while the node is configured" in answer.reason
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    (answer,) = node.set_parameters([Parameter("frame_policy", value="every")])
    assert answer.successful


def test_the_advice_of_a_media_source_can_be_followed(ros):
    source = MediaSource(parameter_overrides=[Parameter("input", value="absent.mp4")])
    assert source.describe_parameter("pace").additional_constraints.endswith(". Read at start.")
    with pytest.raises(MediaError):
        source.run(threading.Event())
    (answer,) = source.set_parameters([Parameter("pace", value="answered")])
    source.close()
    assert answer.reason == (
        "pace cannot change any more: it is read at start; start the node anew with it"
    )


def test_refusal_by_who_applies_it(make_host):
    host = make_host(refuse="not now, because of X")
    answer = host.set(speed=3.0)
    assert (answer.successful, answer.reason) == (False, "not now, because of X")
    assert host.parameters.configs() == [Config()]


def test_description_range_and_choices(make_host):
    node = make_host().node
    size = node.describe_parameter("size")
    assert size.description == "A size."
    assert (size.integer_range[0].from_value, size.integer_range[0].to_value) == (1, 9)
    assert size.additional_constraints == "Read at noon."
    speed = node.describe_parameter("speed")
    assert speed.floating_point_range[0].from_value == 0.0
    mode = node.describe_parameter("mode")
    assert mode.additional_constraints == "Of: a, b."
    assert node.describe_parameter("camera").dynamic_typing


KINDS = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
}


def settings_of(node_name):
    found = {}
    for config_class in CONFIGS_BY_NODE[node_name]:
        found.update(options(config_class))
    return found


@pytest.mark.parametrize("node_name", ["face_node", "media_source"])
def test_yaml_file_agrees_with_the_code(repository, node_name):
    text = (repository / "config" / f"{node_name}.yaml").read_text()
    assert text == parameter_file(node_name), (
        "run: python -m tddfa_ros.nodes.parameter_files config"
    )
    defaults = {name: default for name, (default, _) in settings_of(node_name).items()}
    assert yaml.safe_load(text) == {"/**": {"ros__parameters": defaults}}


@pytest.mark.parametrize(
    ("node_name", "said"),
    [("face_node", "Fixed while configured."), ("media_source", "Read at start.")],
)
def test_yaml_file_says_which_settings_stay_and_until_when(repository, node_name, said):
    text = (repository / "config" / f"{node_name}.yaml").read_text()
    settings = yaml.safe_load(text)["/**"]["ros__parameters"]
    above = dict(zip(settings, text.split("\n\n"), strict=True))
    for name, (_, about) in settings_of(node_name).items():
        words = " ".join(line.strip(" #") for line in above[name].splitlines()[:-1])
        assert words.endswith(said) != about.runtime, name


@pytest.mark.parametrize("node_name", ["face_node", "media_source"])
def test_declared_parameters_agree_with_the_code(make_face_node, node_name):
    node = make_face_node(model_set="") if node_name == "face_node" else MediaSource()
    try:
        settings = settings_of(node_name)
        for name, (default, about) in settings.items():
            parameter = node.get_parameter(name)
            assert (parameter.value, type(parameter.value)) == (default, type(default))
            described = node.describe_parameter(name)
            assert described.type == KINDS[type(default)]
            assert described.description == about.description
            assert described.description.endswith(".")
        own = {"use_sim_time", "start_type_description_service"}
        declared = {name for name in node._parameters if not name.startswith("qos_overrides")}
        assert declared == set(settings) | own
    finally:
        if node_name == "media_source":
            node.close()


def test_settings_of_one_node_have_one_name_each():
    for config_classes in CONFIGS_BY_NODE.values():
        names = [name for config_class in config_classes for name in options(config_class)]
        assert len(names) == len(set(names))
    assert set(CONFIGS_BY_NODE["face_node"]) == {PipelineConfig, MetricConfig, FaceNodeConfig}
    assert set(CONFIGS_BY_NODE["media_source"]) == {MediaSourceConfig}
