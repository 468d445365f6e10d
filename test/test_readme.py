"""What the README says is so: its tables, its commands, its links and its code."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tddfa_ros.__main__ import VERBS

REPOSITORY = Path(__file__).resolve().parents[1]
TEXT = (REPOSITORY / "README.md").read_text()


def commands(starting: str) -> list[str]:
    blocks = re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
    lines = [line for block in blocks for line in block.splitlines()] + inline
    return [line.partition("  #")[0].strip() for line in lines if line.startswith(starting)]


def load_script(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_parameter_tables_are_those_of_the_code():
    pytest.importorskip("rclpy", reason="nodes need ROS")
    script = load_script(REPOSITORY / "docs" / "parameter_tables.py")
    assert script.with_tables(TEXT) == TEXT, "run `python -m docs.parameter_tables`"


@pytest.mark.parametrize("command", commands("python -m tddfa_ros "))
def test_commands_are_accepted(command):
    words = shlex.split(command)[3:]
    verb, arguments = words[0], words[1:]
    assert verb in VERBS
    if VERBS[verb].needs_ros:
        pytest.importorskip("rclpy", reason="nodes need ROS")
        pytest.importorskip("tddfa_msgs", reason="needs the built workspace: make setup")
    parser = argparse.ArgumentParser()
    importlib.import_module(VERBS[verb].module).add_arguments(parser)
    parser.parse_args(arguments)


def test_every_verb_is_there():
    named = {shlex.split(command)[3] for command in commands("python -m tddfa_ros ")}
    assert named == set(VERBS)


def test_outputs_are_all_named():
    from tddfa_ros.core.outputs import OUTPUTS

    named = re.search(r"pictures \(`([^`]+)`\) and meshes \(`([^`]+)`\)", TEXT)
    assert set(named[1].split()) | set(named[2].split()) == set(OUTPUTS)


def test_targets_of_make_exist():
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {shlex.split(command)[1] for command in commands("make ")}
    assert named <= targets
    assert {"demo", "test", "bench"} <= named


def test_packages_from_pypi_are_those_that_no_rosdep_key_brings():
    (line,) = re.findall(r"^pip install --user (.+)$", TEXT, re.MULTILINE)
    named = set(line.split())
    keys = re.findall(r"<exec_depend>(.+?)</", (REPOSITORY / "package.xml").read_text())
    imported = set()
    for path in (REPOSITORY / "tddfa_ros").rglob("*.py"):
        # Training is not of the run time, and the reference runs in its own environment.
        if "training" in path.parts or path.name == "reference_program.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    by_key = {"numpy": "numpy", "cv2": "opencv", "PIL": "pil", "scipy": "scipy", "yaml": "yaml"}
    assert {f"python3-{key}" for key in by_key.values()} <= set(keys)
    # hri_msgs is optional; onnx brings protobuf, which is imported from "google".
    known = {"tddfa_ros", "hri_msgs", "google", *keys, *by_key}
    outside = imported - sys.stdlib_module_names - known
    names = {"skimage": "scikit-image", "fast_simplification": "fast-simplification"}
    assert {names.get(module, module) for module in outside} == named


def test_links_lead_somewhere():
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("http"):
            assert (REPOSITORY / target).exists(), target


def test_topics_are_those_that_the_node_has():
    sources = "".join(p.read_text() for p in (REPOSITORY / "tddfa_ros" / "nodes").glob("*.py"))
    for row in re.findall(r"^\| `([^`]+)`(?: \(in\))? \| `[a-z_]+/", TEXT, re.MULTILINE):
        assert f'"{row}"' in sources, row


def test_code_runs(tmp_path):
    pytest.importorskip("skimage", reason="the example's picture")
    from tddfa_ros.core.recording import VideoWriter
    from tddfa_ros.core.sample_media import astronaut_picture

    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    with VideoWriter(tmp_path / "talk.mp4", 30.0) as writer:
        for _ in range(3):
            writer.write(astronaut_picture())
    done = subprocess.run(
        [sys.executable, "-c", "".join(blocks)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\(\d{4,}, 3\)", done.stdout), done.stdout
    assert "2 ['f00001']" in done.stdout
    assert (tmp_path / "face.glb").read_bytes().startswith(b"glTF")
