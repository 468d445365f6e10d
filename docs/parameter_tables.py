"""Parameter tables of the README and of docs/ros.md, made from the code that declares them.

``python -m docs.parameter_tables`` in the repository's root rewrites them in place; a test fails
until that is done.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tddfa_ros.core.atomic_file import replacing
from tddfa_ros.core.config import Option, options
from tddfa_ros.nodes.parameter_files import CONFIGS_BY_NODE, FIXED

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = (REPOSITORY / "README.md", REPOSITORY / "docs" / "ros.md")
BEGIN = "<!-- parameters of {}: made by docs/parameter_tables.py -->"
END = "<!-- end of parameters -->"


def table(node_name: str) -> str:
    """Return the parameters of a node as a Markdown table."""
    lines = ["| parameter | default | range | meaning |", "|---|---|---|---|"]
    for config_class in CONFIGS_BY_NODE[node_name]:
        for name, (default, about) in options(config_class).items():
            shown = '""' if default == "" else str(default).lower()
            text = about.description.replace("|", "\\|")
            fixed = "" if about.runtime else f" ({FIXED[node_name]})"
            lines.append(f"| `{name}` | `{shown}` | {_range(about)} | {text}{fixed} |")
    return "\n".join(lines)


def _range(about: Option) -> str:
    if about.choices:
        return ", ".join(f"`{choice}`" for choice in about.choices)
    if about.minimum is None or about.maximum is None:
        return ""
    return f"{about.minimum:g} to {about.maximum:g}"


def with_tables(text: str) -> str:
    """Return a document's text with every table between its marks made anew."""
    for node_name in CONFIGS_BY_NODE:
        before, begin, rest = text.partition(BEGIN.format(node_name))
        if not begin:
            raise SystemExit(f"a document has no line {BEGIN.format(node_name)}")
        _, end, after = rest.partition(END)
        text = f"{before}{begin}\n\n{table(node_name)}\n\n{end}{after}"
    return text


def main() -> int:
    """Rewrite the documents."""
    for document in DOCUMENTS:
        text = with_tables(document.read_text())
        with replacing(document) as temporary:
            temporary.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
