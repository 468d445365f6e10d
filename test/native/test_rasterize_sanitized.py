"""The rasterizer's C++ on hostile meshes, under the address and undefined-behaviour sanitizers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

KERNELS = ("attributes", "candidates", "shading", "texture", "visibility")
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
BUILD_LIMIT_S = 240
RUN_LIMIT_S = 120


@pytest.fixture(scope="module")
def compiler(tmp_path_factory) -> str:
    """A C++ compiler that has both sanitizers."""
    name = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not name or shutil.which(name) is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.cpp").write_text("int main() { return 0; }")
    build = [name, *SANITIZERS, "probe.cpp", "-o", "probe"]
    if subprocess.run(build, cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip(f"{name} lacks the sanitizers")
    if subprocess.run(["./probe"], cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip("programs with sanitizers do not run here")
    return name


@pytest.mark.parametrize("portable", [False, True], ids=["native", "portable"])
def test_kernels_touch_only_what_is_theirs(compiler, repository: Path, tmp_path, portable):
    source = repository / "tddfa_native" / "tddfa_native"
    program = tmp_path / "driver"
    subprocess.run(
        [
            compiler,
            *("-std=c++17", "-O1", "-g", "-ffp-contract=off", "-fno-trapping-math"),
            *(["-DTDDFA_PORTABLE"] if portable else []),
            *SANITIZERS,
            # Float to int of values out of range is what the kernels must never do.
            "-fsanitize=float-cast-overflow",
            f"-I{source}",
            str(Path(__file__).with_name("rasterize_driver.cpp")),
            *(str(source / f"{kernel}.cpp") for kernel in KERNELS),
            *("-o", str(program)),
        ],
        check=True,
        timeout=BUILD_LIMIT_S,
    )
    done = subprocess.run(
        [str(program)], capture_output=True, text=True, check=False, timeout=RUN_LIMIT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    used = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(used) == 3
    assert used == [0, 0, 0] or not portable
