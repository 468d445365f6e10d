"""The launch files; what needs launch_ros runs where it can be imported (it is not on PyPI)."""

from __future__ import annotations

import ast
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = sorted((REPOSITORY / "launch").glob("*.launch.py"))
COMMON = {"params_file", "model_set", "overlay", "rviz"}
ARGUMENTS = {
    "video.launch.py": COMMON
    | {"input", "loop", "frame_policy", "camera_info_file", "frame_id", "namespace", "tf_topic"},
    "webcam.launch.py": COMMON | {"input", "camera_info_file", "frame_id", "namespace"},
    "bag_replay.launch.py": COMMON
    | {"input", "bag_topic", "pace", "loop", "frame_id", "namespace"},
    "two_cameras.launch.py": COMMON
    | {
        f"{side}_{name}"
        for side in ("left", "right")
        for name in ("input", "namespace", "camera_info_file", "frame_id")
    },
}
STARTER = """
import sys, launch
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource as Source
service = launch.LaunchService()
arguments = [tuple(a.split(':=')) for a in sys.argv[2:]]
service.include_launch_description(
    IncludeLaunchDescription(Source(sys.argv[1]), launch_arguments=arguments))
sys.exit(service.run())
"""


def ids(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_is_python_that_describes_a_launch(path):
    tree = ast.parse(path.read_text(), str(path))
    compile(tree, str(path), "exec")
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "generate_launch_description" in functions
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_parameters_that_it_sets_exist(path):
    from tddfa_ros.core.config import options
    from tddfa_ros.nodes.parameter_files import CONFIGS_BY_NODE

    known = {
        name
        for config_classes in CONFIGS_BY_NODE.values()
        for config_class in config_classes
        for name in options(config_class)
    }
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Node":
            for keyword in node.keywords:
                if keyword.arg == "parameters":
                    dicts = [part for part in keyword.value.elts if isinstance(part, ast.Dict)]
                    assert {key.value for part in dicts for key in part.keys} <= known
        if isinstance(node, ast.Assign) and node.targets[0].id == "OVER_THE_FILE":
            assert strings(node.value) <= known


def calls(tree, name):
    """All calls of a class or function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name:
            yield node


def keyword(call, name):
    (value,) = (given.value for given in call.keywords if given.arg == name)
    return value


def strings(tree):
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


@pytest.mark.parametrize("name", ["params_file", "model_set", "overlay"])
def test_an_argument_of_all_files_is_the_same_in_each(name):
    """A launch file that another one includes shows no arguments, so each declares them."""
    declared = [
        ast.unparse(call)
        for path in FILES
        for call in calls(ast.parse(path.read_text()), "DeclareLaunchArgument")
        if ast.unparse(call.args[0]) == repr(name)
    ]
    assert len(declared) == len(FILES)
    assert len(set(declared)) == 1


def test_rviz_shows_the_frame_of_the_images():
    """config/faces.rviz has a fixed frame of its own, in which images of another are not shown."""
    tree = ast.parse((REPOSITORY / "launch" / "video.launch.py").read_text())
    (rviz,) = (
        call
        for call in calls(tree, "Node")
        if ast.literal_eval(keyword(call, "package")) == "rviz2"
    )
    given = [ast.unparse(part) for part in keyword(rviz, "arguments").elts]
    options = dict(zip(given[::2], given[1::2], strict=True))
    assert "faces.rviz" in options["'-d'"]
    assert options["'-f'"] == "LaunchConfiguration('frame_id')"


@pytest.mark.parametrize("path", [f for f in FILES if f.name != "video.launch.py"], ids=ids)
def test_the_frame_for_rviz_and_the_file_of_parameters_are_passed_on(path):
    tree = ast.parse(path.read_text())
    declared = [ast.unparse(call.args[0]) for call in calls(tree, "DeclareLaunchArgument")]
    assert any(name.rstrip("'").endswith("frame_id") for name in declared)
    assert "'params_file'" in declared

    (include,) = calls(tree, "IncludeLaunchDescription")
    given = keyword(include, "launch_arguments")
    passed_on = strings(given)
    named = {node.id for node in ast.walk(given) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and node.targets[0].id in named:
            passed_on |= strings(node.value)
    assert {"rviz", "frame_id", "params_file"} <= passed_on


def described(path):
    reason = "launch_ros cannot be imported here; it is part of ROS and not on PyPI"
    pytest.importorskip("launch_ros.actions", reason=reason)
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    return get_launch_description_from_python_launch_file(str(path))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_every_argument_is_described(path):
    arguments = described(path).get_launch_arguments()
    assert {argument.name for argument in arguments} >= ARGUMENTS[path.name]
    for argument in arguments:
        assert argument.description.endswith((".", "]")), argument.name


@pytest.fixture
def bag(tmp_path):
    """Six images of one face."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    from tddfa_ros.core.bag import IMAGE_TYPE
    from tddfa_ros.core.sample_media import astronaut_clip
    from tddfa_ros.nodes.face_bytes import typestore_with_faces
    from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

    path = tmp_path / "recorded"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection("/image", IMAGE_TYPE, typestore=typestore_with_faces())
        for index, picture in enumerate(itertools.islice(astronaut_clip(), 6)):
            header = ImageHeader(10 + index, 0, "camera")
            writer.write(images, index * 10**8, encode_image(picture, header))
    return path


@pytest.fixture
def launch(tmp_path):
    """Run a launch file to its end; what it and its nodes said."""

    def run(name, **arguments):
        path = REPOSITORY / "launch" / name
        described(path)
        given = [f"{key}:={value}" for key, value in arguments.items()]
        done = subprocess.run(
            [sys.executable, "-c", STARTER, str(path), *given],
            env=os.environ | {"ROS_LOG_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    return run


def test_plays_a_video_to_its_end_and_stops(launch, tddfa_v2_set, media):
    said = launch(
        "video.launch.py",
        input=media / "obama.mp4",
        model_set=tddfa_v2_set,
        loop="false",
        namespace="robot",
    )
    assert "waiting for images on /robot/image" in said
    assert "sent 55 images" in said
    assert said.count("finished cleanly") == 2


def test_replays_a_bag(launch, tddfa_v2_set, bag):
    said = launch("bag_replay.launch.py", input=bag, model_set=tddfa_v2_set, pace="answered")
    assert "playing bag" in said
    assert "sent 6 images" in said
    assert said.count("finished cleanly") == 2


@pytest.mark.parametrize("overlay", ["", "box"])
def test_the_file_of_parameters_holds_but_where_an_argument_is_given(
    launch, bag, tmp_path, overlay
):
    """The face node refuses what the file says, and ends; it never sees it where another holds."""
    file = tmp_path / "mine.yaml"
    file.write_text("/**:\n  ros__parameters:\n    overlay: nonsense\n")
    said = launch(
        "bag_replay.launch.py", input=bag, pace="answered", params_file=file, overlay=overlay
    )
    assert ("nonsense" in said) == (overlay == "")
    assert ("sent 6 images" in said) == (overlay == "box")


def test_a_file_of_parameters_that_is_absent_is_an_error(bag, tmp_path):
    path = REPOSITORY / "launch" / "video.launch.py"
    described(path)
    given = [f"input:={bag}", f"params_file:={tmp_path / 'absent.yaml'}"]
    done = subprocess.run(
        [sys.executable, "-c", STARTER, str(path), *given],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"params_file {tmp_path / 'absent.yaml'}: no such file" in done.stdout + done.stderr


def test_two_cameras_do_not_share_their_arguments(launch, tddfa_v2_set, media):
    said = launch(
        "two_cameras.launch.py",
        left_input=media / "obama.mp4",
        right_input=media / "obama.mp4",
        right_namespace="other/right",
        model_set=tddfa_v2_set,
    )
    for image in ("/left/image", "/other/right/image"):
        assert f"waiting for images on {image}\n" in said
        assert f"obama.mp4 on {image}\n" in said
    assert said.count("finished cleanly") >= 2


def test_a_node_that_cannot_start_ends_all(launch, tddfa_v2_set, tmp_path):
    said = launch("video.launch.py", input=tmp_path / "no.mp4", model_set=tddfa_v2_set)
    assert "no.mp4" in said
    assert said.count("process started with pid") == 2


@pytest.mark.slow
def test_a_node_that_is_killed_is_started_again(tmp_path, tddfa_v2_set, media):
    path = REPOSITORY / "launch" / "video.launch.py"
    described(path)
    log = tmp_path / "said"
    given = [f"input:={media / 'obama.mp4'}", f"model_set:={tddfa_v2_set}"]
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(path), *given],
            env=os.environ | {"ROS_LOG_DIR": str(tmp_path)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        for starts in (1, 2):
            pid = await_start(log, starts)
            if starts == 1:
                os.kill(pid, signal.SIGKILL)
    finally:
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0
    assert "Traceback" not in log.read_text()


def await_start(log, starts):
    """Wait until the face node takes images for the nth time; its process."""
    deadline = time.monotonic() + 60
    while log.read_text().count("waiting for images") < starts:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    pids = re.findall(r"\[face_node-\d+\]: process started with pid \[(\d+)\]", log.read_text())
    return int(pids[-1])
