"""The launch files; what needs launch_ros runs where it can be imported (it is not on PyPI)."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = sorted((REPOSITORY / "launch").glob("*.launch.py"))
ARGUMENTS = {
    "video.launch.py": {"input", "model_set", "loop", "overlay", "namespace", "rviz"},
    "webcam.launch.py": {"input", "model_set", "overlay", "namespace", "rviz"},
}


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


def test_plays_a_video_to_its_end_and_stops(tmp_path, tddfa_v2_set, media):
    path = REPOSITORY / "launch" / "video.launch.py"
    described(path)
    starter = (
        "import sys, launch\n"
        "from launch.actions import IncludeLaunchDescription\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource as Source\n"
        "service = launch.LaunchService()\n"
        "arguments = [tuple(a.split(':=')) for a in sys.argv[2:]]\n"
        "service.include_launch_description(\n"
        "    IncludeLaunchDescription(Source(sys.argv[1]), launch_arguments=arguments))\n"
        "sys.exit(service.run())\n"
    )
    arguments = [f"input:={media / 'obama.mp4'}", f"model_set:={tddfa_v2_set}", "loop:=false"]
    done = subprocess.run(
        [sys.executable, "-c", starter, str(path), *arguments, "namespace:=robot"],
        env=os.environ | {"ROS_LOG_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "waiting for images on /robot/image" in said
    assert "sent 55 images" in said
    assert said.count("finished cleanly") == 2
