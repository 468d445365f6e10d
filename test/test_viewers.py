"""The files that set up RViz and Foxglove parse, and show topics that the face node publishes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS: source env.sh")

DISPLAY_TYPES = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
}
PANEL_TYPES = {
    "Image": {"sensor_msgs/msg/Image"},
    "3D": {"sensor_msgs/msg/PointCloud2", "visualization_msgs/msg/MarkerArray"},
    "RawMessages": {"tddfa_msgs/msg/FaceArray"},
    "Plot": {"tddfa_msgs/msg/FaceArray"},
    "DiagnosticStatusPanel": {"diagnostic_msgs/msg/DiagnosticArray"},
}


def message_name(message: type) -> str:
    """As displays write it: package/msg/Name."""
    return f"{message.__module__.partition('.')[0]}/msg/{message.__name__}"


@pytest.fixture(scope="module")
def published(tddfa_v2_set: Path) -> dict[str, str]:
    """Topic -> type of all that an active face node publishes."""
    import rclpy
    from rclpy.parameter import Parameter

    from tddfa_ros.nodes.face_node import FaceNode

    rclpy.init(args=[])
    node = FaceNode(parameter_overrides=[Parameter("model_set", value=str(tddfa_v2_set))])
    try:
        assert node.start()
        # Not from the graph: a closed node of this process stays there until its cycles are freed.
        return {p.topic_name: message_name(p.msg_type) for p in node.publishers}
    finally:
        node.close()
        rclpy.try_shutdown()


@pytest.fixture(scope="module")
def rviz(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "config" / "faces.rviz").read_text())


@pytest.fixture(scope="module")
def foxglove(repository: Path) -> dict[str, Any]:
    return json.loads((repository / "config" / "faces.foxglove.json").read_text())


def displays(rviz: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from rviz["Visualization Manager"]["Displays"]


def test_rviz_shows_what_is_published(rviz, published):
    shown = {d["Topic"]["Value"]: d["Class"] for d in displays(rviz) if "Topic" in d}
    assert {"/faces/markers", "/faces/points", "/faces/overlay", "/faces/depth"} <= set(shown)
    for topic, display in shown.items():
        assert published.get(topic) == DISPLAY_TYPES[display], topic
    assert "rviz_default_plugins/TF" in {d["Class"] for d in displays(rviz)}
    assert published["/tf"] == "tf2_msgs/msg/TFMessage"


def test_rviz_knows_all_namespaces_of_markers(rviz):
    from tddfa_ros.nodes.marker_messages import NAMESPACES

    (markers,) = [d for d in displays(rviz) if d["Class"].endswith("/MarkerArray")]
    assert set(markers["Namespaces"]) == set(NAMESPACES)


def test_rviz_looks_from_the_frame_of_the_webcam(rviz):
    from tddfa_ros.nodes.media_source_config import MediaSourceConfig

    frame = rviz["Visualization Manager"]["Global Options"]["Fixed Frame"]
    assert frame == MediaSourceConfig(input="0").frame_id


def panels(tree: Any) -> Iterator[str]:
    """Ids of the panels in Foxglove's tree of splits."""
    if isinstance(tree, str):
        yield tree
    else:
        assert tree["direction"] in ("row", "column")
        yield from panels(tree["first"])
        yield from panels(tree["second"])


def topics_of(config: Any) -> Iterator[str]:
    """Every topic that a panel's settings name."""
    yield from re.findall(r'"(/[\w/]+)[^"]*"', json.dumps(config))


def test_foxglove_shows_what_is_published(foxglove, published):
    shown = list(panels(foxglove["layout"]))
    assert sorted(shown) == sorted(foxglove["configById"])
    seen = set()
    for panel, config in foxglove["configById"].items():
        for topic in topics_of(config):
            assert published.get(topic) in PANEL_TYPES[panel.split("!")[0]], topic
            seen.add(topic)
    assert {"/faces", "/faces/markers", "/faces/points", "/faces/overlay"} <= seen


def test_foxglove_plots_fields_that_exist(foxglove):
    from tddfa_msgs.msg import Face

    paths = [p["value"] for p in foxglove["configById"]["Plot!angles"]["paths"]]
    fields = [re.fullmatch(r"/faces\.faces\[0\]\.(\w+)", path).group(1) for path in paths]
    assert set(fields) <= set(Face.get_fields_and_field_types())
