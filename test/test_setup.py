"""The set-up of a clone: what it asks for, what it makes, and that it makes it once.

Installing the real packages needs a network and a minute, which `make test` itself has just done;
here a stand-in for Python writes down what the set-up would have installed.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SETUP = REPOSITORY / "config" / "setup"
TOOLS = (
    "bash cat cp cut dirname env find flock git grep g++ head id ls make mkdir mv paste printf "
    "readlink rm sed sha256sum sleep sort tail touch tr xargs cmake"
).split()
STAND_IN = """#!/bin/bash
case "$*" in
  *_base_executable*) echo "${{STAND_IN_VERSION:-3.11}} $0" ;;
  *ensurepip*) [ -z "${{STAND_IN_NO_VENV:-}}" ] ;;
  *Python.h*) [ -z "${{STAND_IN_NO_HEADERS:-}}" ] ;;
  *"-m venv"*) echo venv >>{log}; mkdir -p "${{!#}}/bin"; cp "$0" "${{!#}}/bin/python" ;;
  *"-m pip"*) all="$*"; echo "pip ${{all##* install }}" >>{log}; sleep "${{STAND_IN_PIP_S:-0}}" ;;
  *--packages-select*) all="$*"; all="${{all##*--packages-select }}"
    echo "build ${{all%% --*}}" >>{log} ;;
esac
"""


def load_script(name: str):
    """Module of a file in config/setup."""
    spec = importlib.util.spec_from_file_location(name, SETUP / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_command(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class Clone:
    """A clone's set-up files in a temporary folder, with a PATH of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone"  # a path with a space must do
        shutil.copytree(SETUP, self.root / "config" / "setup")
        shutil.copy(REPOSITORY / "env.sh", self.root)
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "log"
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        write_command(self.bin / "python3", STAND_IN.format(log=self.log))
        self.env = {"PATH": str(self.bin), "HOME": str(folder), "LC_ALL": "C"}

    def start(self, target: str = "tools", **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / "config" / "setup" / "setup.sh", target],
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Under nohup or in the background these would be ignored, and what bash ignores at its
            # start it cannot trap.
            preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in _ENDING],
        )

    def run(self, target: str = "tools", **env: str) -> tuple[int, str]:
        process = self.start(target, **env)
        out, err = process.communicate(timeout=60)
        assert out == ""
        return process.returncode, err

    def done(self) -> list[str]:
        """What the stand-in was asked for since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.write_text("")
        return lines


@pytest.fixture
def clone(tmp_path) -> Clone:
    return Clone(tmp_path)


def assert_one_line(result: tuple[int, str], package: str, reason: str) -> None:
    status, err = result
    assert status != 0
    assert len(err.splitlines()) == 1, err
    assert reason in err
    assert re.search(rf"apt-get install ([\w.+-]+ )*{re.escape(package)}( |$)", err.strip()), err


@pytest.mark.parametrize("tool", ["cmake", "g++", "git"])
def test_a_missing_tool_ends_in_one_line_that_names_its_package(clone, tool):
    (clone.bin / tool).unlink()
    assert_one_line(clone.run(), tool, f"{tool} is missing")
    assert clone.done() == []


def test_several_missing_tools_are_named_together(clone):
    for tool in ("cmake", "g++"):
        (clone.bin / tool).unlink()
    result = clone.run()
    assert_one_line(result, "cmake", "cmake is missing")
    assert_one_line(result, "g++", "g++ is missing")


def test_a_stub_of_a_version_manager_counts_as_missing(clone):
    write_command(clone.bin / "cmake", "#!/bin/bash\necho 'no version is set' >&2; exit 127\n")
    assert_one_line(clone.run(), "cmake", "cmake is missing")


@pytest.mark.parametrize(("version", "good"), [("3.18.4", False), ("3.20.0", True), ("4.0", True)])
def test_cmake_must_be_new_enough(clone, version, good):
    write_command(clone.bin / "cmake", f"#!/bin/bash\necho cmake version {version}\n")
    result = clone.run()
    if good:
        assert result[0] == 0
    else:
        assert_one_line(result, "cmake", "too old, 3.20 or newer is needed")


@pytest.mark.parametrize(
    ("env", "package", "reason"),
    [
        ({"STAND_IN_VERSION": "3.9"}, "python3.11", "is Python 3.9, ROS 2 needs 3.11 or 3.12"),
        ({"STAND_IN_VERSION": "3.14"}, "python3.11", "is Python 3.14, ROS 2 needs 3.11 or 3.12"),
        ({"PYTHON": "python3.99"}, "python3", "python3.99 is missing"),
        ({"STAND_IN_NO_VENV": "1"}, "python3.11-venv", "the venv module"),
        ({"STAND_IN_NO_HEADERS": "1"}, "python3.11-dev", "the C headers"),
    ],
)
def test_an_unfit_python_ends_in_one_line(clone, env, package, reason):
    assert_one_line(clone.run(**env), package, reason)
    assert clone.done() == []


@pytest.mark.parametrize(
    ("env", "installed"),
    [
        ({}, ["cmake"]),
        (
            {"STAND_IN_NO_VENV": "1", "STAND_IN_NO_HEADERS": "1"},
            ["cmake", "python3.11-venv", "python3.11-dev"],
        ),
        ({"STAND_IN_VERSION": "3.9"}, ["cmake", "python3.11", "python3.11-venv", "python3.11-dev"]),
        ({"PYTHON": "python3.99"}, ["cmake", "python3", "python3-venv", "python3-dev"]),
    ],
)
def test_all_that_is_missing_is_installed_at_once(clone, env, installed):
    (clone.bin / "cmake").unlink()
    for command in ("apt-get", "sudo"):
        text = f'#!/bin/bash\n[ {command} = sudo ] && exec "$@"\necho "$@" >>{clone.log}\n'
        write_command(clone.bin / command, text)
    script = clone.root / "config" / "setup" / "system_packages.sh"
    subprocess.run([script], env=clone.env | env, check=True, capture_output=True)
    update, install = clone.done()
    assert update == "update"
    words = [word for word in install.split() if not word.startswith("--")]
    assert words == ["install", *installed]


def test_no_python_at_all(clone):
    (clone.bin / "python3").unlink()
    assert_one_line(clone.run(), "python3", "python3 is missing")


def test_a_newer_python3_gives_way_to_a_fitting_one_beside_it(clone):
    fitting = (clone.bin / "python3").read_text().replace("STAND_IN_VERSION:-3.11", "X:-3.12")
    write_command(clone.bin / "python3.12", fitting)
    status, err = clone.run(STAND_IN_VERSION="3.14")
    assert status == 0
    assert "with Python 3.12" in err


def test_set_up_runs_once_and_says_what_it_does(clone):
    status, err = clone.run()
    assert status == 0
    assert clone.done() == [
        "venv",
        "pip --progress-bar off --no-compile --no-deps -r config/setup/requirements.lock",
    ]
    assert "Installing Python packages" in err
    assert "done in" in err
    started = time.monotonic()
    assert clone.run() == (0, "")
    assert time.monotonic() - started < 2
    assert clone.done() == []


def test_a_changed_lock_is_installed_over_what_is_there(clone):
    clone.run()
    clone.done()
    with (clone.root / "config" / "setup" / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    clone.run()
    assert [line.split()[0] for line in clone.done()] == ["pip"]
    assert clone.run() == (0, "")


@pytest.mark.parametrize(
    "ends_with", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]
)
@pytest.mark.parametrize("before", ["nothing", "another lock"])
def test_what_was_interrupted_is_made_anew(clone, ends_with, before):
    if before == "another lock":
        clone.run()
        with (clone.root / "config" / "setup" / "requirements.lock").open("a") as lock:
            lock.write("# changed\n")
        clone.done()
    # What SIGKILL leaves behind ends by itself, and the next set-up waits for it.
    process = clone.start(STAND_IN_PIP_S="2" if ends_with == signal.SIGKILL else "30")
    deadline = time.monotonic() + 20
    while not (clone.log.exists() and "pip" in clone.log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, ends_with)
    assert process.wait(timeout=60) != 0
    if ends_with != signal.SIGKILL:
        assert "run the same command again" in process.stderr.read()
    process.stderr.close()
    process.stdout.close()
    clone.done()
    # What pip had half written would pass for installed.
    assert clone.run()[0] == 0
    assert [line.split()[0] for line in clone.done()] == ["venv", "pip"]
    assert clone.run() == (0, "")


def test_a_clone_that_was_moved_is_set_up_again(clone):
    clone.run()
    clone.done()
    clone.root = clone.root.rename(clone.root.with_name("elsewhere"))
    clone.run()
    assert [line.split()[0] for line in clone.done()] == ["venv", "pip"]


def test_a_folder_in_which_messages_cannot_be_built_is_told_at_once(clone):
    clone.root = clone.root.rename(clone.root.with_name("\xfcber"))
    status, told = clone.run()
    assert status == 1
    assert "has other characters than ASCII" in told and "move the checkout" in told
    assert not clone.log.exists()


def test_a_sourced_ros_is_used(clone, tmp_path):
    (tmp_path / "jazzy" / "share" / "rclpy").mkdir(parents=True)
    (tmp_path / "jazzy" / "share" / "rclpy" / "package.xml").touch()
    ros = {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": str(tmp_path / "jazzy")}
    status, err = clone.run(**ros)
    assert status == 0
    assert "using ROS jazzy" in err
    assert "requirements.lock" not in "".join(clone.done())
    assert clone.run(**ros) == (0, "")
    # The same clone, in a shell without it.
    assert clone.run()[0] == 0
    assert "-r config/setup/requirements.lock" in clone.done()[-1]


@pytest.mark.parametrize("rclpy", [False, True], ids=["a workspace", "a whole ROS"])
def test_tf2_msgs_is_built_unless_the_ros_that_is_used_has_it(clone, tmp_path, rclpy):
    """A shell in which another clone's env.sh was sourced has that clone's tf2_msgs in its path."""
    other = tmp_path / "other"
    for package in ("tf2_msgs", *(["rclpy"] if rclpy else [])):
        (other / "share" / package).mkdir(parents=True)
        (other / "share" / package / "package.xml").touch()
    for package in ("tddfa_msgs", "tddfa_native"):
        (clone.root / package).mkdir()
    env = {"AMENT_PREFIX_PATH": str(other)} | ({"ROS_DISTRO": "jazzy"} if rclpy else {})
    status, err = clone.run("workspace", **env)
    assert status == 0, err
    packages = "tddfa_msgs tddfa_native tddfa_ros"
    assert clone.done()[-1] == f"build {packages if rclpy else f'tf2_msgs {packages}'}"


def test_an_old_ros_is_refused(clone):
    status, err = clone.run(ROS_DISTRO="humble")
    assert status != 0
    assert "ROS humble is sourced, but Jazzy or newer is needed" in err


def source_env(shell: str, before: str, env: dict[str, str] | None = None) -> dict[str, str]:
    """Variables of a shell after it ran some lines and sourced env.sh twice."""
    if not (REPOSITORY / ".venv" / "tddfa_setup").exists():
        pytest.skip("this clone has not been set up by make")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = f"set -eu\n{before}\n. '{REPOSITORY}/env.sh'\n. '{REPOSITORY}/env.sh'\nenv -0"
    start = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"} | (env or {})
    ros = {name: os.environ[name] for name in ("ROS_DISTRO",) if name in os.environ}
    done = subprocess.run([shell, "-c", script], env=start | ros, capture_output=True, check=True)
    assert done.stderr == b""
    return dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if "=" in line)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_env_gives_the_environment(shell):
    env = source_env(shell, "")
    assert env["FASTRTPS_DEFAULT_PROFILES_FILE"] == str(REPOSITORY / "config" / "fastdds.xml")
    assert env["PATH"].split(":")[0] == str(REPOSITORY / ".venv" / "bin")
    assert str(REPOSITORY / "install" / "tddfa_msgs") in env["AMENT_PREFIX_PATH"].split(":")
    for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "AMENT_PREFIX_PATH"):
        entries = [entry for entry in env[name].split(":") if entry]
        assert len(entries) == len(set(entries)), f"sourcing twice doubled {name}"


def test_env_keeps_what_the_user_has_set():
    mine = "FASTRTPS_DEFAULT_PROFILES_FILE=/mine.xml PYTHONPATH=/mine LD_LIBRARY_PATH=/mine/lib"
    env = source_env("bash", f"export {mine}")
    assert env["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/mine.xml"
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in env
    assert "/mine" in env["PYTHONPATH"].split(":")
    assert "/mine/lib" in env["LD_LIBRARY_PATH"].split(":")


def test_env_of_a_clone_without_set_up_says_what_to_do(clone):
    script = f". '{clone.root}/env.sh' || echo returned $?"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "run 'make setup'" in done.stderr
    assert done.stdout == "returned 1\n"


def locked() -> dict[str, str]:
    """Name -> version of the lock for this Python."""
    lines = (SETUP / "requirements.lock").read_text().splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), f"not pinned: {line}"
            if requirement.marker is None or requirement.marker.evaluate():
                found[canonicalize_name(requirement.name)] = str(requirement.specifier)[2:]
    return found


def direct_requirements() -> list[Requirement]:
    lines = (SETUP / "requirements.in").read_text().splitlines()
    return [Requirement(text) for line in lines if (text := line.partition("#")[0].strip())]


def test_the_lock_covers_the_requirements():
    pins = locked()
    for requirement in direct_requirements():
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier
    assert not re.search(r"://|^-|[ =]/", (SETUP / "requirements.lock").read_text(), re.MULTILINE)


def test_every_import_is_a_requirement():
    """A package that only another one brings could vanish with an update of that.

    Training the embedded model set is no part of using tddfa_ros and asks for more.
    """
    lacking = load_script("lacking")
    modules = {lacking.MODULES.get(name, name.replace("-", "_")) for name in lacking.wanted()}
    roots = {module.split(".")[0] for module in modules}
    imported = set()
    package = REPOSITORY / "tddfa_ros"
    for path in set(package.rglob("*.py")) - set(package.glob("training/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    imported -= sys.stdlib_module_names | {"tddfa_ros", "tddfa_native"}
    # The public 3DDFA_V2, which the bench runs from the user's own copy.
    imported -= {"FaceBoxes", "TDDFA_ONNX", "utils"}
    ros = r"rclpy|ament_index_python|\w+_(msgs|interfaces|srvs)"
    assert {name for name in imported if not re.fullmatch(ros, name)} <= roots


def test_the_lock_is_closed():
    """What a locked package that is installed here depends on is in the lock, in that version."""
    pins = locked()
    checked = 0
    for name, version in pins.items():
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        if found.version != version:
            continue  # a sourced ROS brought its own
        for need in map(Requirement, found.requires or []):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                checked += 1
                assert canonicalize_name(need.name) in pins, f"{name} needs {need}"
    assert checked > 50


def test_what_is_installed_is_what_is_locked():
    if sys.prefix != str(REPOSITORY / ".venv") or "ROS_DISTRO" in os.environ:
        pytest.skip("not in the .venv that the lock alone fills")
    pins = locked()
    here = {canonicalize_name(found.name): found.version for found in distributions()}
    assert {name: here.get(name) for name in pins} == pins


def test_what_a_sourced_ros_lacks_is_known_by_name():
    lacking = load_script("lacking")
    names = lacking.wanted()
    assert {"onnxruntime", "rosbags", "cv-bridge", "setuptools"} < set(names)
    assert not any(name.startswith("ros-") for name in names)
    assert set(names) <= set(lacking.pins())
    # All of them are here, so each must be found: a wrong module name would show.
    assert [name for name in names if not lacking.is_there(name)] == []
    assert not lacking.is_there("no-such-package")
    assert not lacking.is_there("no_such_package.inner")


def test_cmake_files_of_the_wheels_are_adapted_once(tmp_path):
    fix_wheels = load_script("fix_wheels")
    python = "/opt/python/cp312-cp312"
    numpy_include = f"{python}/lib/python3.12/site-packages/numpy/_core/include"
    file = tmp_path / "a" / "export.cmake"
    file.parent.mkdir()
    file.write_text(f'set(x "{numpy_include};{python}/include/python3.12")\n')
    assert fix_wheels.fix_folder(tmp_path) == 1
    folders = re.findall(r'[^";]+(?=[";])', file.read_text().partition('"')[2])
    assert [Path(folder).is_dir() for folder in folders] == [True, True]
    assert (Path(folders[0]) / "numpy" / "arrayobject.h").exists()
    assert fix_wheels.fix_folder(tmp_path) == 0
