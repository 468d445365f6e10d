"""Names from outside never lead out of the folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tddfa_ros.core.errors import ExportError
from tddfa_ros.core.export_folder import path_below


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("head.ply", "head.ply"),
        ("head", "head.ply"),
        ("head.v2", "head.v2.ply"),
        ("HEAD.PLY", "HEAD.PLY"),
        ("a/b/head.ply", "a/b/head.ply"),
        ("./head.ply", "head.ply"),
        ("Käthe 1.ply", "Käthe 1.ply"),
        ("x" * 196, "x" * 196 + ".ply"),
    ],
)
def test_names_below_the_folder(tmp_path, name, expected):
    assert path_below(tmp_path, name, ".ply") == tmp_path.resolve() / expected


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "names no file"),
        (".", "names no file"),
        ("folder/", "names no file"),
        ("/etc/head.ply", "is absolute"),
        ("//head.ply", "is absolute"),
        ("../head.ply", r"contains '\.\.'"),
        ("a/../../head.ply", r"contains '\.\.'"),
        ("..", r"contains '\.\.'"),
        ("he\0ad.ply", "unprintable"),
        ("he\nad.ply", "unprintable"),
        ("\ud800.ply", "unprintable"),
        ("x" * 197, "shorten it"),
        ("é" * 100, "shorten it"),
        ("y/" * 499 + "head.ply", "shorten it"),
    ],
)
def test_other_names_are_refused_with_the_reason(tmp_path, name, reason):
    with pytest.raises(ExportError, match=reason):
        path_below(tmp_path, name, ".ply")


def test_links_that_lead_out_are_refused(tmp_path):
    folder, outside = tmp_path / "exports", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "out").symlink_to(outside)
    (folder / "round").symlink_to(folder / "round")
    (folder / "inside").symlink_to(folder)
    with pytest.raises(ExportError, match="leads out"):
        path_below(folder, "out/head.ply", ".ply")
    with pytest.raises(ExportError, match="leads out"):
        path_below(folder, "out/deeper/head.ply", ".ply")
    with pytest.raises(ExportError, match="cannot be followed"):
        path_below(folder, "round/head.ply", ".ply")
    assert path_below(folder, "inside/head.ply", ".ply") == folder.resolve() / "head.ply"
    # The folder itself may be a link: whoever runs the node chose it.
    (tmp_path / "link").symlink_to(folder)
    assert path_below(tmp_path / "link", "head", ".ply") == folder.resolve() / "head.ply"


@pytest.mark.parametrize("folder", ["", " "])
def test_no_folder_is_refused(folder):
    with pytest.raises(ExportError, match="export_dir"):
        path_below(folder, "head", ".ply")


def test_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path_below("~/made/later", "head", ".ply") == tmp_path / "made" / "later" / "head.ply"


@given(st.text(st.sampled_from("a./~ \\%\0é"), max_size=12))
def test_whatever_is_asked_for_lies_below(name):
    folder = Path("/nowhere/exports")
    try:
        path = path_below(folder, name, ".obj")
    except ExportError:
        return
    assert folder in path.parents
    assert path.suffix == ".obj"
