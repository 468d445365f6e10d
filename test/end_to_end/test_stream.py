"""Images in one process, faces in a second, received by a third."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

VIDEO_FRAMES = 55
VIDEO_PERIOD_NS = 40_000_000
LANDMARK_TOLERANCE_PX = 1.0
"""As shared/golden/README.md says of the track."""


def play(world, media: Path, **parameters: object):
    return world.node(
        "media_source",
        input=str(media / "obama.mp4"),
        wait_for_subscribers=1,
        frame_id="camera_7",
        **parameters,
    )


def test_every_frame_of_the_video_is_answered_with_the_golden_landmarks(
    world, await_faces, tddfa_v2_set, media, golden
):
    world.face_node(tddfa_v2_set, frame_policy="every")
    raw, smooth = world.receiver("faces/raw"), world.receiver("faces")
    source = play(world, media)
    assert source.wait(60) == 0, source.output
    records = await_faces(raw, VIDEO_FRAMES)
    assert len(records) == VIDEO_FRAMES
    expected = np.load(golden / "obama_track.npz")["sparse"]
    stamps = list(range(0, VIDEO_FRAMES * VIDEO_PERIOD_NS, VIDEO_PERIOD_NS))
    assert [record["stamp_ns"] for record in records] == stamps
    for record, truth in zip(records, expected, strict=True):
        assert record["frame_id"] == "camera_7"
        assert record["size"] == [720, 1280]
        assert record["dropped"] == 0
        assert len(record["ids"]) == 1
        error = np.array(record["landmarks"][0])[:, :2] - truth.reshape(3, 68)[:2].T
        assert np.abs(error).max() <= LANDMARK_TOLERANCE_PX
    assert len({record["ids"][0] for record in records}) == 1
    smoothed = await_faces(smooth, VIDEO_FRAMES)
    assert [record["stamp_ns"] for record in smoothed] == stamps


def test_centred_window_answers_every_frame_with_its_own_stamp(
    world, await_faces, tddfa_v2_set, media
):
    node = world.face_node(tddfa_v2_set, frame_policy="every", smoothing="window", window_after=2)
    smooth = world.receiver("faces")
    assert play(world, media, pace="answered", end_s=0.6).wait(60) == 0
    # What the window holds back comes when the stream ends.
    assert node.stop() == 0, node.output
    records = await_faces(smooth, 16)
    assert [record["stamp_ns"] for record in records] == list(
        range(0, 16 * VIDEO_PERIOD_NS, VIDEO_PERIOD_NS)
    )


def test_newest_frame_only_drops_and_counts(world, await_faces, tddfa_v2_set, media):
    world.face_node(tddfa_v2_set, image_reliability="reliable")
    smooth = world.receiver("faces")
    source = play(world, media, rate_hz=1000.0, loop=True)
    records = await_faces(smooth, 40)
    source.stop()
    assert records[-1]["dropped"] > 0
    stamps = [record["stamp_ns"] for record in records]
    assert all(a < b for a, b in itertools.pairwise(stamps))
    skipped = [(b - a) // VIDEO_PERIOD_NS - 1 for a, b in itertools.pairwise(stamps)]
    assert records[-1]["dropped"] - records[0]["dropped"] == sum(skipped)


def test_two_domains_do_not_hear_each_other(make_world, await_faces, tddfa_v2_set, media):
    worlds = [make_world(), make_world()]
    receivers = []
    for world in worlds:
        world.face_node(tddfa_v2_set, frame_policy="every")
        receivers.append(world.receiver("faces"))
    for world, frame_count in zip(worlds, (10, 20), strict=True):
        play(world, media, end_s=(frame_count - 1) * VIDEO_PERIOD_NS / 1e9)
    for receiver, frame_count in zip(receivers, (10, 20), strict=True):
        records = await_faces(receiver, frame_count)
        assert len(records) == frame_count


def test_namespaces_keep_two_cameras_apart(world, await_faces, tddfa_v2_set, media):
    counts = {"left": 6, "right": 9}
    receivers = {}
    for name in counts:
        world.face_node(tddfa_v2_set, "-r", f"__ns:=/{name}", frame_policy="every")
        receivers[name] = world.receiver(f"/{name}/faces")
    for name, count in counts.items():
        world.node(
            "media_source",
            "-r",
            f"__ns:=/{name}",
            input=str(media / "obama.mp4"),
            wait_for_subscribers=1,
            frame_id=name,
            end_s=(count - 1) * VIDEO_PERIOD_NS / 1e9,
        )
    for name, count in counts.items():
        records = await_faces(receivers[name], count)
        assert {record["frame_id"] for record in records} == {name}
        assert len(records) == count


@pytest.mark.parametrize("number", [2, 15])
def test_ends_at_once_on_ctrl_c_and_sigterm(world, tddfa_v2_set, media, number):
    node = world.face_node(tddfa_v2_set)
    source = play(world, media, loop=True)
    source.await_output("playing")
    assert source.stop(number) == 0, source.output
    assert node.stop(number) == 0, node.output
    for process in (source, node):
        assert "Traceback" not in process.output
        assert "terminate called" not in process.output


def test_missing_model_set_is_one_clear_error(world, tmp_path):
    node = world.node("face_node", model_set=str(tmp_path / "absent"))
    assert node.wait(60) == 1
    assert "absent" in node.output
    assert node.output.count("[ERROR]") == 1
    assert "Traceback" not in node.output


@pytest.mark.parametrize("content", [b"", b"not a video"])
def test_unreadable_video_is_one_clear_error(world, tmp_path, content):
    video = tmp_path / "broken.mp4"
    video.write_bytes(content)
    source = world.node("media_source", input=str(video))
    assert source.wait(60) == 1
    assert source.output.count("[FATAL]") == 1
    assert "broken.mp4" in source.output
    assert "Traceback" not in source.output
