"""Where a bag with faces may go: never over what is read, nor among files of somebody else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="nodes need ROS")
pytest.importorskip("tddfa_msgs", reason="needs the built workspace: make setup")

from rosbags.rosbag2 import StoragePlugin, Writer

from tddfa_ros.__main__ import main
from tddfa_ros.core.bag import IMAGE_TYPE
from tddfa_ros.nodes.face_bytes import typestore_with_faces
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image


@pytest.fixture
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "drive"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection("/image", IMAGE_TYPE, typestore=typestore_with_faces())
        picture = np.zeros((240, 320, 3), np.uint8)
        writer.write(images, 1, encode_image(picture, ImageHeader(1, 0, "camera")))
    return path


def begin_anew(source, out, repository):
    chosen = repository / "models" / "embedded"
    arguments = ("--out", out, "--model-set", chosen, "--restart")
    return main(["bag", str(source), *map(str, arguments)])


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("drive", "drive"),
        ("drive/drive.mcap", "drive"),
        ("drive/drive.mcap", "link"),
        ("drive", "drive/drive.mcap"),
        ("drive", "link/drive.mcap"),
        ("link/drive.mcap", "drive/drive.mcap"),
        ("linked", "drive/drive.mcap"),
        ("new.part/bag/drive", "new"),
        ("new.mcap.part/0.journal/drive.mcap", "new.mcap"),
    ],
)
def test_a_run_that_would_replace_its_input_is_refused(
    tmp_path, monkeypatch, recorded, repository, capsys, source, out
):
    monkeypatch.chdir(tmp_path)
    for name in ("drive", "new.part/bag/drive", "new.mcap.part/0.journal"):
        shutil.copytree(recorded, name)
    Path("link").symlink_to("drive")
    Path("linked").mkdir()
    shutil.copy("drive/metadata.yaml", "linked")
    Path("linked/drive.mcap").symlink_to("../drive/drive.mcap")
    before = files_below(tmp_path)
    assert begin_anew(source, out, repository) == 1
    assert "the input itself; choose another --out" in capsys.readouterr().err
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("names", [["notes.txt"], ["0.journal", "notes.journal"], ["bag/notes"]])
def test_a_folder_of_the_users_in_the_place_of_the_unfinished_run_stays(
    tmp_path, recorded, repository, capsys, names
):
    part = tmp_path / "out.mcap.part"
    for name in names:
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).touch()
    before = files_below(tmp_path)
    assert begin_anew(recorded, tmp_path / "out.mcap", repository) == 1
    assert f"{part}: is in the way, and no unfinished run" in capsys.readouterr().err
    assert files_below(tmp_path) == before


def test_only_what_such_a_run_wrote_before_is_replaced(tmp_path, recorded, repository, capsys):
    out, other, picture = tmp_path / "out", tmp_path / "other", tmp_path / "picture.db3"
    assert begin_anew(recorded, out, repository) == 0
    first = files_below(out)
    assert begin_anew(recorded, out, repository) == 0
    assert files_below(out).keys() == first.keys()
    shutil.copytree(recorded, other)
    picture.write_bytes(b"\xff\xd8\xff\xe0 a picture")
    before = files_below(tmp_path)
    capsys.readouterr()
    assert begin_anew(recorded, other, repository) == 1
    told = f"{other}: is another recording, without a topic /faces, and stays; move it"
    assert told in capsys.readouterr().err
    assert begin_anew(recorded, picture, repository) == 1
    assert f"{picture}: is no bag, and stays" in capsys.readouterr().err
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["", "/abs", "a//b", "1x", "\xe9", "bad name", "a/", "a__b", "a\n"]
)
def test_a_name_that_no_topic_can_have_is_wrong_usage(tmp_path, recorded, capsys, name):
    with pytest.raises(SystemExit) as ended:
        main(["bag", str(recorded), "--out", str(tmp_path / "out"), "--name", name])
    assert ended.value.code == 2
    assert "is no name of a topic" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
