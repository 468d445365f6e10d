"""Imports go down only, as the table in docs/architecture.md says.

The table is read from that document, so a new module needs a place in it, and document and code
cannot come to differ.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = 3
SHELLS = 5
TOP = 6

# Roots that mean ROS. rosbags is none of them: it reads bags without ROS.
ROS = re.compile(
    r"^(rclpy|rcl_interfaces|rosidl\w*|ament\w*|launch|launch_ros|cv_bridge|tf2\w*|std_srvs"
    r"|\w+_msgs|\w+_interfaces)$"
)
# A module outside, and the only modules of tddfa_ros that may import it.
RESERVED = {
    "onnxruntime": {"core.onnx_session"},
    "tddfa_native.reconstruct": {"core.morphable"},
    "tddfa_native.rasterize": {"core.render", "core.texture_layout"},
}
LAYER_1_MAY_IMPORT = sys.stdlib_module_names | {"numpy"}


@dataclass(frozen=True)
class Arrow:
    """One import: `importer` names `target`, both without the leading ``tddfa_ros.`` if ours."""

    importer: str
    target: str
    ours: bool
    line: int


def layers_of_document(text: str) -> dict[str, int]:
    """Module (``core.detect``) or package (``nodes``) -> its layer in the table."""
    layers = {}
    for row in re.findall(r"^\|\s*(\d)\s*\|([^|]*)\|", text, re.MULTILINE):
        layer = int(row[0])
        for name in re.findall(r"`([\w.*]+)`", row[1]):
            in_core = layer < SHELLS and not name.startswith(("core.", "tddfa_native"))
            layers[f"core.{name}" if in_core else name] = layer
    return layers


def layer_of(module: str, layers: dict[str, int]) -> int | None:
    """Layer of a module: its own row, or that of the package it is in (``core.release.*``)."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for key in (name, f"{name}.*"):
            if key in layers:
                return layers[key]
    return None


def imports(module: str, source: str, is_package: bool, modules: set[str]) -> Iterator[Arrow]:
    """Every import in a module, also those inside functions and under TYPE_CHECKING."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = f"tddfa_ros.{package}".rstrip(".").split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
            # `from package import module` names a module, `from module import thing` does not.
            inner = [f"{base}.{alias.name}" for alias in node.names]
            names = [
                name
                if name.removeprefix("tddfa_ros.") in modules or "tddfa_native" in base
                else base
                for name in inner
            ]
        else:
            continue
        for name in names:
            ours = name == "tddfa_ros" or name.startswith("tddfa_ros.")
            yield Arrow(module, name.removeprefix("tddfa_ros."), ours, node.lineno)


def why_wrong(arrow: Arrow, layers: dict[str, int]) -> str | None:
    """What is wrong with an import, or None."""
    own = layer_of(arrow.importer, layers)
    if own is None:
        return f"{arrow.importer} is in no row of the table of layers in docs/architecture.md"
    if not arrow.ours:
        return _why_wrong_outside(arrow, own)
    target = layer_of(arrow.target, layers)
    if arrow.target == "tddfa_ros" or target is None:
        return None  # the target's own check reports it
    if target > own:
        return f"layer {own} imports layer {target}"
    if target == own == STAGES:
        return "a stage imports another stage"
    if target == own == SHELLS and arrow.importer.split(".")[0] != arrow.target.split(".")[0]:
        return "nodes, tools and training import each other"
    return None


def _why_wrong_outside(arrow: Arrow, own: int) -> str | None:
    root = arrow.target.split(".")[0]
    if arrow.target.startswith("tddfa_native._"):
        return "only the wrapper beside it imports a kernel"
    if ROS.match(root) and not arrow.importer.startswith("nodes"):
        return "only nodes imports ROS"
    if own == 1 and root not in LAYER_1_MAY_IMPORT:
        return "layer 1 imports only the standard library and numpy"
    if arrow.importer.startswith("training."):
        return None  # renders its own pictures, and no pipeline runs it
    for reserved, importers in RESERVED.items():
        if arrow.target == reserved or arrow.target.startswith(f"{reserved}."):
            return None if arrow.importer in importers else f"only {sorted(importers)} imports it"
    return None


def cycles(arrows: list[Arrow]) -> list[str]:
    """Modules of ours that reach themselves."""
    graph: dict[str, set[str]] = {}
    for arrow in arrows:
        if arrow.ours:
            graph.setdefault(arrow.importer, set()).add(arrow.target)

    def reaches(start: str) -> bool:
        seen: set[str] = set()
        waiting = list(graph.get(start, ()))
        while waiting:
            name = waiting.pop()
            if name == start:
                return True
            if name not in seen:
                seen.add(name)
                waiting.extend(graph.get(name, ()))
        return False

    return sorted(name for name in graph if reaches(name))


def arrows_of(package: Path) -> list[Arrow]:
    """Every import of a source tree."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        found[".".join(parts[:-1] if is_package else parts)] = (path, is_package)
    return [
        arrow
        for module, (path, is_package) in found.items()
        if module
        for arrow in imports(module, path.read_text(), is_package, set(found))
    ]


@pytest.fixture(scope="module")
def layers() -> dict[str, int]:
    return layers_of_document((REPOSITORY / "docs" / "architecture.md").read_text())


def test_the_table_is_read(layers):
    assert layers["core.types"] == 1
    assert layers["core.model_set"] == layers["core.onnx_session"] == layers["tddfa_native"] == 2
    assert layers["core.detect"] == layers["core.morphable"] == STAGES
    assert layers["core.pipeline"] == 4
    assert layers["nodes"] == layers["tools"] == SHELLS
    assert layers["__main__"] == TOP
    assert layer_of("core.release.convert", layers) == 2
    assert layer_of("nodes.face_node", layers) == SHELLS


def test_every_module_has_a_layer(layers):
    package = REPOSITORY / "tddfa_ros"
    homeless = [
        ".".join(path.relative_to(package).with_suffix("").parts)
        for path in sorted(package.rglob("*.py"))
        if path.name != "__init__.py"
    ]
    homeless = [module for module in homeless if layer_of(module, layers) is None]
    assert not homeless, "add these to the table of layers in docs/architecture.md"


def test_imports_go_down_only(layers):
    wrong = [
        f"tddfa_ros/{arrow.importer.replace('.', '/')}.py:{arrow.line} -> {arrow.target}: {reason}"
        for arrow in arrows_of(REPOSITORY / "tddfa_ros")
        if layer_of(arrow.importer, layers) is not None
        and (reason := why_wrong(arrow, layers)) is not None
    ]
    assert not wrong, "\n".join(wrong)


def test_no_import_goes_in_a_circle():
    assert cycles(arrows_of(REPOSITORY / "tddfa_ros")) == []


def test_tddfa_native_imports_nothing_of_tddfa_ros():
    for path in sorted((REPOSITORY / "tddfa_native" / "tddfa_native").rglob("*.py*")):
        if path.suffix in (".py", ".pyx"):
            assert not re.search(r"^\s*(from|c?import) tddfa_ros", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("core.types", "from tddfa_ros.core import model_set", "layer 1 imports layer 2"),
        ("core.types", "def f():\n    import cv2", "layer 1 imports only"),
        ("core.detect", "from tddfa_ros.core.track import Tracker", "a stage imports another"),
        ("core.detect", "from . import pose", "a stage imports another"),
        ("core.detect", "from .pipeline import FacePipeline", "layer 3 imports layer 4"),
        ("core.detect", "import onnxruntime as ort", "only ['core.onnx_session']"),
        ("core.pipeline", "from tddfa_native.rasterize import draw", "only ['core.render'"),
        ("core.pipeline", "from tddfa_native import reconstruct", "only ['core.morphable']"),
        ("core.render", "from tddfa_native._rasterize_cy import draw", "only the wrapper"),
        ("core.pipeline", "import tddfa_ros.nodes.face_node", "layer 4 imports layer 5"),
        ("core.pipeline", "if TYPE_CHECKING:\n    import rclpy", "only nodes imports ROS"),
        ("tools.image", "from sensor_msgs.msg import Image", "only nodes imports ROS"),
        ("tools.image", "from tddfa_ros.nodes import face_node", "import each other"),
        ("nodes.face_node", "from tddfa_ros.tools.image import run", "import each other"),
        ("core.nowhere", "import os", "is in no row"),
    ],
)
def test_a_wrong_arrow_is_caught(layers, module, source, reason):
    modules = {"core.model_set", "core.pose", "nodes.face_node"}
    reasons = [why_wrong(arrow, layers) for arrow in imports(module, source, False, modules)]
    assert len(reasons) == 1
    assert reason in (reasons[0] or "nothing is wrong")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.detect", "from tddfa_ros.core.types import Detections"),
        ("core.morphable", "from tddfa_native.reconstruct import PackedFaceModel"),
        ("core.render", "from tddfa_native import rasterize"),
        ("core.pipeline", "from tddfa_ros.core.detect import Detector"),
        ("nodes.face_node", "import rclpy\nfrom tddfa_ros.core.pipeline import FacePipeline"),
        ("tools.image", "from tddfa_ros.tools.outputs import OUTPUTS"),
        ("core.types", "from dataclasses import dataclass\nimport numpy as np"),
    ],
)
def test_a_right_arrow_is_let_through(layers, module, source):
    for arrow in imports(module, source, False, set()):
        assert why_wrong(arrow, layers) is None


def test_a_circle_is_caught():
    pairs = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]
    assert cycles([Arrow(one, two, True, 1) for one, two in pairs]) == ["a", "b", "c"]
