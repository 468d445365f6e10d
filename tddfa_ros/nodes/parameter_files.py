"""The YAML files in ``config/``, written from the code that declares the parameters.

Run ``python -m tddfa_ros.nodes.parameter_files config`` after changing a setting; a test fails
until that is done.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from tddfa_ros.core.atomic_file import replacing
from tddfa_ros.core.config import MetricConfig, Option, PipelineConfig, options
from tddfa_ros.nodes.face_node_config import FaceNodeConfig
from tddfa_ros.nodes.media_source_config import MediaSourceConfig

CONFIGS_BY_NODE: dict[str, tuple[type, ...]] = {
    "face_node": (PipelineConfig, MetricConfig, FaceNodeConfig),
    "media_source": (MediaSourceConfig,),
}
FIXED = {"face_node": "fixed while configured", "media_source": "read at start"}
"""What is said of the settings that cannot change at run time."""
_INDENT = " " * 4


def parameter_file(node_name: str) -> str:
    """Return the text of ``config/<node_name>.yaml``: every parameter with its default."""
    lines = [
        f"# Parameters of {node_name} with their defaults; written by nodes/parameter_files.py.",
        "/**:",
        "  ros__parameters:",
    ]
    for config_class in CONFIGS_BY_NODE[node_name]:
        for name, (default, about) in options(config_class).items():
            described = textwrap.wrap(_description(about, FIXED[node_name]), 92)
            lines += [f"{_INDENT}# {line}" for line in described]
            # JSON is YAML, with strings always quoted and numbers that keep their type.
            lines += [f"{_INDENT}{name}: {json.dumps(default)}", ""]
    return "\n".join(lines[:-1]) + "\n"


def _description(about: Option, fixed: str) -> str:
    text = about.description
    if about.choices:
        text += f" Choices: {', '.join(about.choices)}."
    if about.minimum is not None and about.maximum is not None:
        text += f" Range: {about.minimum:g} to {about.maximum:g}."
    return text if about.runtime else f"{text} {fixed.capitalize()}."


def main(args: Sequence[str] | None = None) -> int:
    """Write all files into the folder that the command line names."""
    (folder,) = sys.argv[1:] if args is None else args
    for node_name in CONFIGS_BY_NODE:
        with replacing(Path(folder) / f"{node_name}.yaml") as path:
            path.write_text(parameter_file(node_name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
