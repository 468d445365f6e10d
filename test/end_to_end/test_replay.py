"""A bag played twice gives the same messages, byte by byte."""

from __future__ import annotations

import itertools

import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from tddfa_ros.core.bag import IMAGE_TYPE, BagReader
from tddfa_ros.core.sample_media import astronaut_clip
from tddfa_ros.nodes.face_bytes import typestore_with_faces
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

FRAMES = 40
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 33_333_333


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "recorded"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection("/image", IMAGE_TYPE, typestore=typestore_with_faces())
        for index, picture in enumerate(itertools.islice(astronaut_clip(), FRAMES)):
            stamp_ns = START_NS + index * PERIOD_NS
            header = ImageHeader(*divmod(stamp_ns, 10**9), "camera")
            writer.write(images, stamp_ns, encode_image(picture, header))
    return path


def messages(path, topic):
    bag = BagReader(path)
    data = [message.data for message in bag.messages((topic,))]
    bag.close()
    return data


def test_a_bag_played_twice_gives_the_same_bytes(make_world, tddfa_v2_set, recorded, tmp_path):
    """Media source, face node and recorder, each in its process, at the pace of the bag."""
    runs = []
    for name in ("one", "two"):
        out = tmp_path / name
        process = make_world().run(
            *["-m", "tddfa_ros", "demo", "--input", str(recorded), "--out", str(out)],
            *["--model-set", str(tddfa_v2_set), "--frame-policy", "every"],
        )
        assert process.wait(90) == 0, process.output
        runs.append(out / "bag")
    assert messages(runs[0], "/image") == messages(recorded, "/image")
    first, second = (messages(run, "/faces") for run in runs)
    assert len(first) == FRAMES
    assert first == second
