"""Data of the tests; the only place that knows where it lies.

Golden outputs, media and the files of the public release are in no clone. They are looked for in
$TDDFA_TEST_DATA, else in ``shared`` beside the repository; a test that needs what is not there is
skipped and says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from onnx import helper, numpy_helper

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD = REPOSITORY / "build"
# Fast DDS takes UDP ports by domain; those above 101 collide with Linux's ephemeral ports.
HIGHEST_DOMAIN = 101


def pytest_configure(config: pytest.Config) -> None:
    """Keep the user's model sets, ROS logs and running nodes out of the tests."""
    os.environ.pop("TDDFA_MODELS", None)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for tests that import it themselves
    # A process of pytest-xdist inherits the domain of the first one, but needs its own.
    if "PYTEST_XDIST_WORKER" in os.environ or "ROS_DOMAIN_ID" not in os.environ:
        # Odd ones; those of the worlds that end-to-end tests start are even.
        os.environ["ROS_DOMAIN_ID"] = str(1 + 2 * (os.getpid() % (HIGHEST_DOMAIN // 2)))
    os.environ.setdefault("ROS_LOG_DIR", str(BUILD / "test-logs"))
    # How long one example takes says nothing on a machine that does other work.
    hypothesis.settings.register_profile(
        "tddfa",
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        print_blob=True,
    )
    hypothesis.settings.load_profile("tddfa")


def pytest_sessionfinish() -> None:
    """Free the shared memory of nodes that were killed, up to 2 GB a run; nobody else does."""
    tool = shutil.which("fastdds")
    if tool and "PYTEST_XDIST_WORKER" not in os.environ:
        # It leaves alone what any process has open.
        subprocess.run([tool, "shm", "clean"], capture_output=True, check=False, timeout=60)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that are allowed the most time come first: else the last one runs on one core alone."""
    allowed: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        allowed[item.path] = max(allowed.get(item.path, 0), marker.args[0] if marker else 0)
    items.sort(key=lambda item: -allowed[item.path])


def _folder_or_skip(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"test data absent: no folder {folder} (TDDFA_TEST_DATA names another place)")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with golden outputs, media and models."""
    return _folder_or_skip(Path(os.environ.get("TDDFA_TEST_DATA") or REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Outputs of the public 3DDFA_V2; its README gives the tolerances."""
    return _folder_or_skip(shared / "golden")


@pytest.fixture(scope="session")
def media(shared: Path) -> Path:
    """Photos and a video, those that the golden outputs were made from."""
    return _folder_or_skip(shared / "media")


@pytest.fixture(scope="session")
def release_folder(shared: Path) -> Path:
    """The files of the public 3DDFA_V2 release."""
    return _folder_or_skip(shared / "models" / "upstream")


@contextmanager
def _only_one_process(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _import_inputs(release: Path) -> str:
    """Digest of all that an imported set depends on: the release's files and the code."""
    core = REPOSITORY / "tddfa_ros" / "core"
    code = sorted([*core.glob("release/*.py"), core / "face_model.py", *core.glob("model_*.py")])
    digest = hashlib.sha256()
    for path in code:
        digest.update(path.read_bytes())
    for path in sorted(release.rglob("*")):
        about = path.stat()
        digest.update(f"{path} {about.st_size} {about.st_mtime_ns}".encode())
    return digest.hexdigest()


@pytest.fixture(scope="session")
def tddfa_v2_set(release_folder: Path) -> Path:
    """Model set imported from the release; made once and kept in build/ between runs."""
    from tddfa_ros.core.release.convert import import_release

    out = BUILD / "test-models" / "tddfa_v2"
    made = out.with_name("tddfa_v2.inputs")
    with _only_one_process(out.with_name("tddfa_v2.lock")):
        inputs = _import_inputs(release_folder)
        if not (out.is_dir() and made.exists() and made.read_text() == inputs):
            made.unlink(missing_ok=True)
            import_release(release_folder, out)
            made.write_text(inputs)
    return out


@pytest.fixture(scope="session")
def model_set(tddfa_v2_set: Path):
    """The imported set in memory."""
    from tddfa_ros.core.model_set import load

    return load(tddfa_v2_set)


@pytest.fixture
def astronaut() -> np.ndarray:
    """(512, 512, 3) uint8 BGR: a photo with one frontal face, of scikit-image."""
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.astronaut()[..., ::-1])


@pytest.fixture(scope="session")
def open_detector():
    """Open a detector's file, or its content, with the inputs and outputs of every model set."""
    from tddfa_ros.core.onnx_session import DETECTOR_INPUTS, DETECTOR_OUTPUTS, OnnxSession

    def open_it(path_or_bytes: Path | bytes) -> OnnxSession:
        return OnnxSession(
            path_or_bytes, threads=1, inputs=DETECTOR_INPUTS, outputs=DETECTOR_OUTPUTS
        )

    return open_it


@pytest.fixture(scope="session")
def yunet_like():
    """Make a network with the inputs, outputs and operators of YuNet, and random weights."""
    return _yunet_like


def _yunet_like(
    *, side: int = 640, fixed: bool = False, operator: str = "Relu", without: str = ""
) -> bytes:
    """A network with YuNet's interface; `fixed`: its reshapes hold for one size only."""
    rng, features = np.random.default_rng(3), 12
    nodes, constants, outputs = [], [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    for stride in (8, 16, 32):
        kernel = rng.normal(0, 0.3 / stride, (features, 3, stride, stride)).astype(np.float32)
        inputs = ["input", constant(f"k{stride}", kernel / 100)]
        nodes.append(
            helper.make_node(
                "Conv", inputs, [f"f{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            )
        )
        nodes.append(helper.make_node(operator, [f"f{stride}"], [f"r{stride}"]))
        for name, count in {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}.items():
            kernel = rng.normal(0, 0.8, (count, features, 1, 1)).astype(np.float32)
            t, out = f"{name}{stride}", f"{name}_{stride}"
            shape = np.array([1, (side // stride) ** 2 if fixed else -1, count])
            nodes += [
                helper.make_node(
                    "Conv",
                    [f"r{stride}", constant(f"w{t}", kernel)],
                    [f"c{t}"],
                    kernel_shape=[1, 1],
                ),
                helper.make_node("Transpose", [f"c{t}"], [f"t{t}"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"t{t}", constant(f"s{t}", shape)], [f"p{t}"]),
                # Boxes and points pass twice through nothing: only these operators are YuNet's.
                helper.make_node("Sigmoid", [f"p{t}"], [out])
                if name in ("cls", "obj")
                else helper.make_node("Transpose", [f"p{t}"], [out], perm=[0, 1, 2]),
            ]
            if out != without:
                outputs.append(helper.make_tensor_value_info(out, 1, [1, None, count]))
    given = [helper.make_tensor_value_info("input", 1, [1, 3, side, side])]
    graph = helper.make_graph(nodes, "yunet", given, outputs, initializer=constants)
    opset = [helper.make_opsetid("", 11)]
    return helper.make_model(graph, opset_imports=opset, ir_version=6).SerializeToString()
