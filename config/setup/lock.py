"""Make requirements.lock from requirements.in: the whole closure for Python 3.11 and 3.12 on Linux.

Needs uv (``pipx install uv``). Versions in the present lock are kept where they still fit;
``lock.py --upgrade`` takes the newest.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LOCK = FOLDER / "requirements.lock"
PYTHONS = ("3.11", "3.12")
HEADER = "# Made by config/setup/lock.py from requirements.in; do not edit.\n"


def resolve(python: str, start: str, arguments: list[str]) -> dict[str, str]:
    """Name -> version for one version of Python, close to the lock `start`."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lock"
        output.write_text(start)
        command = ["uv", "--no-config", "--quiet", "pip", "compile", "requirements.in"]
        options = ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
        platform = ["--python-platform", "linux", "--python-version", python]
        subprocess.run(
            [*command, *options, *platform, *arguments, "--output-file", str(output)],
            cwd=FOLDER,
            check=True,
        )
        lines = [line.split("==") for line in output.read_text().splitlines() if "==" in line]
    return dict(lines)


def main(arguments: list[str]) -> None:
    """Resolve for each Python and write the union, with markers where they differ."""
    present = LOCK.read_text().splitlines() if LOCK.exists() else []
    found = {}
    for python in PYTHONS:
        lines = [
            line.split(" ;")[0] for line in present if ";" not in line or f"== '{python}'" in line
        ]
        found[python] = resolve(python, "\n".join(lines), arguments)
    text = HEADER
    for name in sorted(set().union(*found.values())):
        versions = {python: found[python].get(name) for python in PYTHONS}
        if len(set(versions.values())) == 1:
            text += f"{name}=={versions[PYTHONS[0]]}\n"
            continue
        for python, version in versions.items():
            if version is not None:
                text += f"{name}=={version} ; python_version == '{python}'\n"
    LOCK.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
