"""The three packages in a user's own workspace, and what they install."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("tddfa_msgs", "tddfa_native", "tddfa_ros")
NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv", "build", "install", "log", "out", "__pycache__", ".*_cache", ".hypothesis",
    "*.so", "*_cy.c", "*_cy.cpp", "*.egg-info", "test",
)  # fmt: skip


def without_overlay(value: str) -> str:
    """A path variable without what this repository's own install/ added."""
    own = str(REPOSITORY / "install")
    return ":".join(part for part in value.split(":") if part and not part.startswith(own))


def readme_command() -> list[str]:
    """The README's command for a workspace."""
    lines = (REPOSITORY / "README.md").read_text().splitlines()
    found = [line.strip() for line in lines if "colcon build" in line and "src/tddfa_ros" in line]
    assert len(set(found)) == 1, "the README names one command that builds in a workspace"
    return shlex.split(found[0].strip("`$ "))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A workspace with a copy of this repository in src/, built with the README's command."""
    if find_spec("colcon_ros") is None or not os.environ.get("AMENT_PREFIX_PATH"):
        pytest.skip("colcon and a ROS environment are absent (`source env.sh` gives both)")
    root = tmp_path_factory.mktemp("workspace")
    shutil.copytree(REPOSITORY, root / "src" / "tddfa_ros", ignore=NOT_SOURCES)
    (root / "sources.txt").write_text("\n".join(sorted(files(root / "src"))))
    env = {
        name: without_overlay(value) if name.endswith("PATH") else value
        for name, value in os.environ.items()
        if not name.startswith("COLCON_")
    }
    done = subprocess.run(
        readme_command(), cwd=root, env=env, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for package in PACKAGES:
        assert f"Finished <<< {package}" in done.stdout
    return root


def files(folder: Path) -> set[str]:
    """Every file below a folder, but for what setuptools and Cython put beside sources."""
    made = re.compile(r"__pycache__|\.egg-info/|_cy\.c(pp)?$")
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if not made.search(path)}


def in_workspace(workspace: Path, script: str) -> str:
    """Output of a script in a shell that sourced the workspace over ROS alone."""
    env = {
        name: without_overlay(value) if name.endswith("PATH") else value
        for name, value in os.environ.items()
    }
    command = f"set -e; . install/local_setup.bash; cd /; {script}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=workspace, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_all_three_packages_come_from_the_workspace(workspace):
    script = "import tddfa_msgs.msg, tddfa_native, tddfa_ros; " + "; ".join(
        f"print({package}.__file__)" for package in PACKAGES
    )
    for line in in_workspace(workspace, f"python3 -c '{script}'").splitlines():
        assert Path(line).is_relative_to(workspace / "install")


@pytest.mark.slow
def test_messages_built_in_a_workspace_keep_their_values(workspace):
    script = (
        "from rclpy.serialization import deserialize_message, serialize_message\n"
        "from tddfa_msgs.msg import Face, FaceArray\n"
        'sent = FaceArray(model_set="m", faces=[Face(id="f1", yaw=0.5)])\n'
        "assert deserialize_message(serialize_message(sent), FaceArray) == sent"
    )
    in_workspace(workspace, f"python3 -c {shlex.quote(script)}")


@pytest.mark.slow
def test_programs_and_shared_files_are_installed(workspace):
    prefix = workspace / "install" / "tddfa_ros"
    for program in ("face_node", "media_source", "tddfa"):
        assert os.access(prefix / "lib" / "tddfa_ros" / program, os.X_OK)
    in_workspace(workspace, f"{prefix}/lib/tddfa_ros/tddfa --help")
    share = prefix / "share" / "tddfa_ros"
    for folder, pattern in (("launch", "*.py"), ("config", "*.yaml"), ("config", "*.xml")):
        wanted = {path.name for path in (REPOSITORY / folder).glob(pattern)}
        assert wanted
        assert wanted <= {path.name for path in (share / folder).iterdir()}
    models = REPOSITORY / "models"
    for path in models.rglob("*"):
        if path.is_file():
            assert (share / "models" / path.relative_to(models)).is_file()


@pytest.mark.slow
def test_building_leaves_nothing_in_the_sources(workspace):
    assert sorted(files(workspace / "src")) == (workspace / "sources.txt").read_text().splitlines()


def dependencies(package_xml: Path) -> set[str]:
    root = ElementTree.parse(package_xml).getroot()
    return {element.text for element in root if element.tag.endswith("depend") and element.text}


def test_package_xml_names_every_ros_package_that_is_imported():
    plain = {"rclpy", "cv_bridge", "ament_index_python", "launch", "launch_ros"}
    imported = set()
    for path in (*(REPOSITORY / "tddfa_ros").rglob("*.py"), *(REPOSITORY / "launch").glob("*.py")):
        names = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
        imported |= {name for name in names if re.search(r"_msgs$|_interfaces$|_srvs$", name)}
        imported |= plain & set(names)
    optional = {"tf2_msgs", "hri_msgs"}  # looked for at start, not needed
    assert imported - optional <= dependencies(REPOSITORY / "package.xml")


def test_versions_agree():
    versions = {
        folder: ElementTree.parse(REPOSITORY / folder / "package.xml").getroot().findtext("version")
        for folder in ("", "tddfa_msgs", "tddfa_native")
    }
    for name in ("setup.py", "tddfa_native/setup.py"):
        found = re.search(r'version="([^"]+)"', (REPOSITORY / name).read_text())
        versions[name] = found[1]
    assert len(versions) == 5
    assert len(set(versions.values())) == 1, versions


def test_ci_runs_make_test_and_nothing_else():
    lines = (REPOSITORY / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["exec make test"]
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)
