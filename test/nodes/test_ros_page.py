"""docs/ros.md says what the nodes do: its topics, parameters, names, messages and launch files."""

from __future__ import annotations

import ast
import importlib.util
import re

import numpy as np
import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message

from tddfa_msgs.msg import Face, FaceArray
from tddfa_ros.core import model_set
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.sample_media import astronaut_picture
from tddfa_ros.nodes.face_bytes import face_array_bytes
from tddfa_ros.nodes.face_node import FaceNode
from tddfa_ros.nodes.raw_image import ImageHeader

RELIABILITY = {"best_effort": "best effort", "reliable": "reliable"}
ROW = re.compile(r"\| (in|out) \| `([^`]+)` \| `([^`]+)` \| (\d+) \| ([a-z ]+) \|")


@pytest.fixture
def page(repository):
    return (repository / "docs" / "ros.md").read_text()


@pytest.fixture
def face_message():
    """What a node with the embedded set publishes of a picture; the vertices of its first face."""
    models = model_set.load(model_set.find("embedded"))
    pipeline = FacePipeline(models, PipelineConfig())
    try:
        result = pipeline.process(astronaut_picture(), 0)
        vertices = pipeline.vertices(result.faces[0])
    finally:
        pipeline.close()
    data = face_array_bytes(
        result,
        ImageHeader(1, 2, "camera"),
        model_set=models.name,
        processing_time_s=0.0,
        frames_dropped=0,
    )
    return deserialize_message(data, FaceArray), vertices


def described(endpoint, direction):
    message = endpoint.msg_type
    package = message.__module__.partition(".")[0]
    profile = endpoint.qos_profile
    return (
        direction,
        endpoint.topic_name,
        f"{package}/{message.__name__}",
        str(profile.depth),
        RELIABILITY[profile.reliability.name.lower()],
    )


def test_topics_are_those_of_the_active_node(page, make_face_node):
    node = make_face_node()
    assert node.start()
    real = {described(p, "out") for p in node.publishers if p.topic_name != "/parameter_events"}
    real |= {described(s, "in") for s in node.subscriptions}
    written = {
        (direction, name if name.startswith("/") else f"/{name}", *rest)
        for direction, name, *rest in ROW.findall(page)
    }
    assert written == real


def test_with_every_image_no_picture_takes_the_place_of_another(page, make_face_node):
    assert "With `frame_policy:=every` all of `faces/…` has depth 10" in page
    node = make_face_node(frame_policy="every")
    assert node.start()
    depths = {p.topic_name: p.qos_profile.depth for p in node.publishers}
    of_faces = {topic: depth for topic, depth in depths.items() if topic.startswith("/faces")}
    assert len(of_faces) > 10
    assert set(of_faces.values()) == {10}


def test_parameter_tables_are_those_of_the_code(page, repository):
    path = repository / "docs" / "parameter_tables.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert repository / "docs" / "ros.md" in script.DOCUMENTS
    assert script.with_tables(page) == page, "run `python -m docs.parameter_tables`"


def test_parameters_in_its_text_exist(page, make_face_node):
    node = make_face_node()
    node.start()
    for name in re.findall(r"-p ([a-z_./]+):=", page):
        assert node.has_parameter(name), name


def test_fields_that_the_example_reads_exist(page):
    (example,) = re.findall(r"```cpp\n(.*?)```", page, re.DOTALL)
    assert set(re.findall(r"face\.(\w+)", example)) <= set(Face.get_fields_and_field_types())
    assert set(re.findall(r"message\.(\w+)", example)) <= set(
        FaceArray.get_fields_and_field_types()
    )


def test_listener_in_python_rebuilds_the_vertices(page, ros, face_message):
    message, vertices = face_message
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class" in block
    )
    code = {"__name__": "example"}
    exec(example, code)
    listener = code["Listener"]()
    try:
        listener.on_faces(message)
        rebuilt = listener.model.vertices(code["morphable_params"](message.faces[0].params))
    finally:
        listener.destroy_node()
    np.testing.assert_array_equal(rebuilt, vertices)


def test_a_face_node_runs_in_a_program_of_ones_own(page, ros):
    class Once(SingleThreadedExecutor):
        def spin(self):
            (node,) = self.get_nodes()
            states.append(node._state_machine.current_state[1])
            self.spin_once(timeout_sec=0.0)

    states = []
    (example,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        if "FaceNode" in block
    ]
    executor = Once()
    exec(example, {"FaceNode": FaceNode, "Parameter": Parameter, "executor": executor})
    executor.shutdown()
    assert states == ["active"]


def test_launch_files_and_their_arguments_exist(page, repository):
    commands = re.findall(r"ros2 launch tddfa_ros (\S+)(.*)", page)
    assert commands
    for file, arguments in commands:
        tree = ast.parse((repository / "launch" / file).read_text())
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        for name in re.findall(r"(\w+):=", arguments):
            short = re.sub("^(left|right)_", "", name)
            assert name in texts or short in texts, f"{file}: {name}"


def test_links_lead_somewhere(page, repository):
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (repository / "docs" / target).exists(), target
