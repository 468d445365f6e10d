"""docs/outputs.md names every output, and shows pictures only of the set that may be passed on."""

from __future__ import annotations

import re

import cv2
import pytest

from docs import output_pictures
from tddfa_ros.core.mesh_io import POSES
from tddfa_ros.core.outputs import OUTPUTS

PAGE = output_pictures.PAGE.read_text()
COMMITTED = output_pictures.DOCS / "outputs"


def test_every_output_and_pose_has_its_row():
    pictures, _, meshes = PAGE.partition("## Meshes")
    named = set(re.findall(r"^\| `(\w+)` \|", pictures, re.MULTILINE))
    assert named == {name for name, output in OUTPUTS.items() if output.picture}
    in_tables = re.findall(r"^\| `(\w+)` \|", meshes, re.MULTILINE)
    assert set(in_tables) == {name for name, output in OUTPUTS.items() if output.mesh} | set(POSES)


def test_topics_and_encodings_are_those_of_the_node():
    pytest.importorskip("tddfa_msgs", reason="needs the built workspace: make setup")
    from tddfa_ros.nodes.picture_outputs import PICTURES, TEXTURE_TOPIC

    documented = dict(re.findall(r"`(faces/\w+)` \| `(\w+)`", PAGE))
    expected = {picture.topic: picture.encoding for picture in PICTURES.values()}
    assert documented == expected | {TEXTURE_TOPIC: "bgra8", "faces/overlay": "bgr8"}


def test_what_is_listed_is_there_and_nothing_else():
    suffixes = {path.stem: path.suffix for path in COMMITTED.glob("*")}
    listed = dict(re.findall(r"\(outputs/(\w+)(\.\w+)\)", PAGE))
    assert listed == suffixes
    assert set(suffixes) in (set(), set(OUTPUTS))
    in_order = {name: suffixes[name] for name in OUTPUTS if name in suffixes}
    assert output_pictures.with_gallery(PAGE, in_order) == PAGE


def test_pictures_of_another_set_are_not_listed(tddfa_v2_set, tmp_path, monkeypatch):
    page = tmp_path / "docs" / "outputs.md"
    page.parent.mkdir()
    page.write_text(PAGE)
    monkeypatch.setattr(output_pictures, "PAGE", page)
    monkeypatch.setattr(output_pictures, "DOCS", page.parent)
    assert output_pictures.main(["--model-set", str(tddfa_v2_set)]) == 0
    assert page.read_text() == PAGE
    made = {path.stem: path for path in (tmp_path / "out" / "outputs").iterdir()}
    assert set(made) == set(OUTPUTS)
    # None is blank.
    assert all(cv2.imread(str(path)).std() > 5 for path in made.values())


def test_a_gallery_lists_every_picture():
    suffixes = dict.fromkeys(OUTPUTS, ".png")
    text = output_pictures.with_gallery(PAGE, suffixes)
    assert re.findall(r"\(outputs/(\w+)\.png\)", text) == list(OUTPUTS)
    assert len({line.count("|") for line in output_pictures.gallery(suffixes).split("\n")}) == 1


def test_a_missing_set_is_one_line(capsys, tmp_path):
    assert output_pictures.main(["--model-set", str(tmp_path / "absent")]) == 1
    assert "absent" in capsys.readouterr().err
