"""Runs over bags: which images they take, which earlier run they go on with, what they add."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil

import cv2
import pytest

pytest.importorskip("rclpy", reason="nodes need ROS")
pytest.importorskip("tddfa_msgs", reason="needs the built workspace: make setup")

from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from sensor_msgs.msg import CameraInfo

from tddfa_ros.__main__ import main
from tddfa_ros.core import model_set
from tddfa_ros.core.bag import CAMERA_INFO_TYPE, IMAGE_TYPE, BagReader
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.errors import MediaError
from tddfa_ros.core.network_journal import NetworkJournal
from tddfa_ros.core.sample_media import astronaut_clip
from tddfa_ros.nodes.bag import _describe_run, _is_workplace, chosen_image_topics
from tddfa_ros.nodes.face_bytes import typestore_with_faces
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

START_S = 1_700_000_000
FRAMES, BROKEN = 6, 4
K = [300, 0, 159.5, 0, 300, 119.5, 0, 0, 1.0]
STORE = typestore_with_faces()
CALIBRATION = serialize_message(
    CameraInfo(height=240, width=320, distortion_model="plumb_bob", d=[0.0] * 5, k=K)
)
"""Of the 320x240 pictures."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "drive"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection("/cam/image", IMAGE_TYPE, typestore=STORE)
        infos = writer.add_connection("/cam/camera_info", CAMERA_INFO_TYPE, typestore=STORE)
        writer.add_connection("/silent/image", IMAGE_TYPE, typestore=STORE)
        writer.write(infos, START_S * 10**9, CALIBRATION)
        for index, picture in enumerate(itertools.islice(astronaut_clip(), FRAMES)):
            header = ImageHeader(START_S, index * 100_000_000, "camera")
            data = encode_image(cv2.resize(picture, (320, 240)), header)
            at_ns = START_S * 10**9 + index * 100_000_000
            writer.write(images, at_ns, data[:90] if index == BROKEN else data)
    return path


@pytest.fixture
def command(recorded, repository, tmp_path):
    chosen = repository / "models" / "embedded"
    return ["bag", str(recorded), "--out", str(tmp_path / "out.mcap"), "--model-set", str(chosen)]


def messages_on(path, topic):
    bag = BagReader(path)
    data = [message.data for message in bag.messages((topic,))]
    bag.close()
    return data


def test_an_unfinished_run_with_other_settings_is_dropped_only_if_that_is_asked_for(
    tmp_path, command, capsys
):
    part = tmp_path / "out.mcap.part"
    part.mkdir()
    NetworkJournal(part / "0.journal", {"image topic": "/other"}).close()
    before = (part / "0.journal").read_bytes()
    assert main(command) == 1
    assert "begin anew" in capsys.readouterr().err
    assert (part / "0.journal").read_bytes() == before
    assert main([*command, "--restart"]) == 0
    said = capsys.readouterr().out
    assert said == f"{FRAMES} images, 1 broken ones left out -> {tmp_path}/out.mcap\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.mcap"]


def test_an_image_that_is_left_out_is_told_by_its_number(command, caplog):
    assert main(command) == 0
    told = [r.getMessage() for r in caplog.records if "no faces for image" in r.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"/cam/image: no faces for image {BROKEN + 1}: ")


@pytest.mark.parametrize(("smoothing", "same"), [("none", True), ("one-euro", False)])
def test_without_smoothing_the_faces_are_the_raw_ones_with_their_metric_poses(
    tmp_path, command, smoothing, same
):
    assert main([*command, "--topics", "faces,faces/raw", "--smooth", smoothing]) == 0
    smooth, raw = (messages_on(tmp_path / "out.mcap", f"/cam/{t}") for t in ("faces", "faces/raw"))
    assert len(smooth) == len(raw) == FRAMES - 1
    assert [a == b for a, b in zip(smooth[1:], raw[1:], strict=True)] == [same] * (FRAMES - 2)


def test_raw_faces_and_their_metric_poses_are_the_same_however_the_others_are_smoothed(
    tmp_path, command
):
    raw = []
    for smoothing in ("none", "one-euro"):
        assert main([*command, "--topics", "faces/raw", "--smooth", smoothing]) == 0
        raw.append(messages_on(tmp_path / "out.mcap", "/cam/faces/raw"))
    assert raw[0] == raw[1]


@pytest.mark.parametrize(("smoothing", "filtered"), [("none", []), ("one-euro", ["faces"])])
def test_the_filter_of_metric_poses_is_that_of_smoothed_faces_alone(
    tmp_path, command, smoothing, filtered
):
    runs = []
    for cutoff_hz in ("0.1", "10"):
        options = ["--topics", "faces,faces/raw", "--smooth", smoothing]
        assert main([*command, *options, "--pose-min-cutoff-hz", cutoff_hz]) == 0
        runs.append(
            {t: messages_on(tmp_path / "out.mcap", f"/cam/{t}") for t in ("faces", "faces/raw")}
        )
    assert [topic for topic in runs[0] if runs[0][topic] != runs[1][topic]] == filtered


@pytest.mark.parametrize(
    ("names", "ours"),
    [
        ([], True),
        (["0.journal"], True),
        (["0.journal", "12.journal", "bag"], True),
        (["1.journal"], False),
        (["0.journal", "bag.tar"], False),
        (["0.journal", "0.journal.old"], False),
    ],
)
def test_a_workplace_is_empty_or_that_of_an_unfinished_run(tmp_path, names, ours):
    for name in names:
        (tmp_path / name).touch()
    assert _is_workplace(tmp_path) is ours


def test_a_place_without_anything_is_a_workplace_and_a_file_or_a_broken_link_is_none(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    found = {name: _is_workplace(tmp_path / name) for name in ("new", "file", "link")}
    assert found == {"new": True, "file": False, "link": False}


def test_topics_without_images_are_not_taken(tmp_path, recorded):
    bag = BagReader(recorded)
    assert chosen_image_topics(bag, ()) == chosen_image_topics(bag, ("/cam/image",))
    for wanted in ("/silent/image", "/cam/camera_info", "/none"):
        with pytest.raises(MediaError, match=rf"no images on '{wanted}'; .*: /cam/image$"):
            chosen_image_topics(bag, ("/cam/image", wanted))
    bag.close()
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/image", IMAGE_TYPE, typestore=STORE)
        infos = writer.add_connection("/camera_info", CAMERA_INFO_TYPE, typestore=STORE)
        writer.write(infos, 1, CALIBRATION)
    bag = BagReader(tmp_path / "bag")
    with pytest.raises(MediaError, match=r"no camera images; topics with images: none$"):
        chosen_image_topics(bag, ())
    bag.close()


def test_a_run_is_another_one_with_other_input_networks_or_settings(tmp_path, recorded, repository):
    bag = shutil.copytree(recorded, tmp_path / "drive")
    chosen = model_set.load(shutil.copytree(repository / "models" / "embedded", tmp_path / "set"))
    config = PipelineConfig(model_set="by one name")
    first = _describe_run(bag, "/cam/image", chosen, config)
    named = dataclasses.replace(config, model_set="by another")
    assert _describe_run(bag, "/cam/image", chosen, named) == first
    (file,) = bag.glob("*.mcap")
    about = file.stat()
    others = [
        _describe_run(bag, "/other", chosen, config),
        _describe_run(bag, "/cam/image", chosen, dataclasses.replace(config, max_faces=3)),
        _describe_run(file, "/cam/image", chosen, config),
    ]
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    others.append(_describe_run(bag, "/cam/image", chosen, config))
    os.truncate(file, about.st_size - 1)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    others.append(_describe_run(bag, "/cam/image", chosen, config))
    shutil.copy2(recorded / file.name, file)
    assert _describe_run(bag, "/cam/image", chosen, config) == first
    description = chosen.path / "model.yaml"
    description.write_text(description.read_text() + "# changed\n")
    others.append(_describe_run(bag, "/cam/image", chosen, config))
    assert all(other != first for other in others)
