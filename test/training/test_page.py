"""The page on training names what there is."""

import re
from pathlib import Path

from tddfa_ros import training


def test_every_module_has_its_place_in_the_table(repository):
    page = (repository / "docs" / "training.md").read_text()
    rows = page.partition("## How the parts fit")[2].splitlines()
    named = [
        name
        for row in rows
        if row.startswith("| `")
        for name in re.findall("`([a-z_0-9]+)`", row.split("|")[1])
    ]
    (folder,) = training.__path__
    modules = {path.stem for path in Path(folder).glob("*.py")}
    assert len(named) == len(set(named))
    assert set(named) == modules - {"__init__", "__main__"}
