"""The verbs `demo` and `webcam`, with their nodes in processes of their own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image

from tddfa_msgs.msg import FaceArray
from tddfa_ros.__main__ import main
from tddfa_ros.core import model_set
from tddfa_ros.core.media import open_media
from tddfa_ros.core.recording import VideoWriter
from tddfa_ros.core.sample_media import astronaut_clip
from tddfa_ros.nodes import demo as demo_module

CLIP_FRAMES = 180
TICK_NS = 2778
"""Of the times in a video."""
IMAGES, FACES = "/image", "/faces"


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_bag(path: Path) -> dict[str, list]:
    """Messages by topic, read with the definitions that the bag itself has."""
    messages: dict[str, list] = {IMAGES: [], FACES: []}
    with AnyReader([path]) as reader:
        for connection, _, data in reader.messages():
            messages[connection.topic].append(reader.deserialize(data, connection.msgtype))
    return messages


def stamp_ns(message) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def frame_count(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    return sum(1 for _ in iter(lambda: capture.read()[0], False))


def write_clip(path: Path, count: int) -> Path:
    with VideoWriter(path, 30.0) as writer:
        for image_bgr in itertools.islice(itertools.cycle(astronaut_clip()), count):
            writer.write(image_bgr)
    return path


def child_named(process, name: str) -> int:
    """Process id of the node that `process` started."""
    parent = process._child.pid
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if name in Path(f"/proc/{pid}/cmdline").read_text():
            return int(pid)
    pytest.fail(f"no {name} below {parent}:\n{process.output}")


def assert_whole(out: Path) -> None:
    """All files can be read and tell of the same run."""
    lines, messages = read_lines(out / "faces.jsonl"), read_bag(out / "bag")
    assert len(lines) == len(messages[FACES]) > 0
    images, answered = (list(map(stamp_ns, messages[topic])) for topic in (IMAGES, FACES))
    # The answer to the last image may come before the image, if that must be sent once more.
    assert [ns for ns in answered if ns not in images] in ([], answered[-1:])
    assert frame_count(out / "annotated.mp4") > 0
    leftovers = [path.name for path in out.iterdir() if ".part" in path.name]
    assert leftovers == []


def recorded_files(out: Path) -> dict[Path, bytes]:
    """Content of all files, also of unfinished ones; without the logs."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.parent.name != "logs"}


def test_demo_without_input_records_the_astronaut(world, tddfa_v2_set, tmp_path):
    out = tmp_path / "out"
    demo = world.run(
        *("-m", "tddfa_ros", "demo", "--model-set", str(tddfa_v2_set), "--out", str(out)),
        *("--frame-policy", "every"),
    )
    assert demo.wait(120) == 0, demo.output
    summary = json.loads((out / "summary.json").read_text())
    assert summary["images"] == summary["processed"] == summary["faces"] == CLIP_FRAMES
    assert summary["dropped"] == 0
    assert len(summary["face_ids"]) == 1
    assert 0 < summary["latency_p50_ms"] <= summary["latency_p99_ms"]
    for text in ("180 received", "frames a second", "p50", "annotated.mp4", "faces.jsonl"):
        assert text in demo.output

    assert_whole(out)
    lines, messages = read_lines(out / "faces.jsonl"), read_bag(out / "bag")
    assert [line["frame"] for line in lines] == list(range(CLIP_FRAMES))
    assert [stamp_ns(m) for m in messages[IMAGES]] == [line["stamp_ns"] for line in lines]
    for line, message in zip(lines, messages[FACES], strict=True):
        assert stamp_ns(message) == line["stamp_ns"]
        points = [(p.x, p.y, p.z) for p in message.faces[0].landmarks]
        np.testing.assert_array_equal(line["faces"][0]["landmarks"], points)
    first = messages[IMAGES][0]
    assert (first.height, first.width, first.encoding) == (480, 640, "bgr8")
    assert frame_count(out / "annotated.mp4") == CLIP_FRAMES
    with open_media(out / "annotated.mp4") as annotated:
        assert annotated.fps == 30.0
        shown_ns = [frame.stamp_ns for frame in annotated]
    assert shown_ns == [pytest.approx(line["stamp_ns"], abs=TICK_NS) for line in lines]

    assert f"mesh     {out / 'face.glb'}" in demo.output
    (mesh,) = trimesh.load(out / "face.glb", process=False).geometry.values()
    assert len(mesh.vertices) == len(model_set.load(tddfa_v2_set).face_model.mean)
    assert mesh.visual.material.baseColorTexture is not None


def test_without_a_face_there_is_no_mesh_nor_that_of_an_earlier_run(world, repository, tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((240, 320, 3), 120, np.uint8))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "face.glb").write_bytes(b"of another face")
    models = repository / "models" / "embedded"
    demo = world.run(
        *("-m", "tddfa_ros", "demo", "--model-set", str(models)),
        *("--input", str(tmp_path / "grey.png"), "--out", str(tmp_path / "out")),
    )
    assert demo.wait(60) == 0, demo.output
    assert "mesh     none: " in demo.output
    assert not (tmp_path / "out" / "face.glb").exists()


def test_ctrl_c_keeps_video_bag_and_lines(world, tddfa_v2_set, tmp_path, await_recorded):
    out = tmp_path / "out"
    demo = world.run("-m", "tddfa_ros", "demo", "--model-set", str(tddfa_v2_set), "--out", str(out))
    demo.await_output("playing")
    await_recorded(out)
    assert demo.stop(signal.SIGINT) == 130, demo.output
    assert "Traceback" not in demo.output
    assert_whole(out)
    assert len(read_lines(out / "faces.jsonl")) < CLIP_FRAMES


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_nodes_start_ends_it_then(world, repository, tmp_path, number, status):
    out, models = tmp_path / "out", repository / "models" / "embedded"
    demo = world.run("-m", "tddfa_ros", "demo", "--model-set", str(models), "--out", str(out))
    demo.await_output("input")
    assert demo.stop(number) == status, demo.output
    assert "playing" not in demo.output
    assert "Traceback" not in demo.output
    assert [path.name for path in out.iterdir() if path.name != "logs"] == ["astronaut.mp4"]


def test_a_signal_while_the_clip_is_written_is_not_lost(repository, tmp_path, monkeypatch):
    def written(path):
        with contextlib.suppress(KeyboardInterrupt):  # as PyAV does where it calls back to write
            os.kill(os.getpid(), signal.SIGINT)
        return write_clip(path, 3)

    def session(*arguments):
        arguments[-1].check()
        pytest.fail("the nodes were started")

    monkeypatch.setattr(demo_module, "astronaut_video", written)
    monkeypatch.setattr(demo_module, "Session", session)
    models = repository / "models" / "embedded"
    assert main(["demo", "--model-set", str(models), "--out", str(tmp_path)]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["astronaut.mp4"]


@pytest.fixture
def await_recorded(await_true):
    """Wait until some faces are in the unfinished recording."""

    def wait(out: Path) -> None:
        await_true(
            lambda: any(path.stat().st_size > 20_000 for path in out.glob(".faces.*.jsonl")),
            "faces in the recording",
        )

    return wait


@pytest.mark.parametrize("node", ["face_node", "media_source"])
def test_a_node_that_dies_is_named_and_the_recording_kept(
    world, tddfa_v2_set, tmp_path, await_recorded, node
):
    out = tmp_path / "out"
    demo = world.run("-m", "tddfa_ros", "demo", "--model-set", str(tddfa_v2_set), "--out", str(out))
    demo.await_output("playing")
    await_recorded(out)
    os.kill(child_named(demo, node), signal.SIGKILL)
    assert demo.wait(60) == 1, demo.output
    assert f"{node} ended with status -9" in demo.output
    assert f"{node}.log" in demo.output
    assert "Traceback" not in demo.output
    assert_whole(out)


def test_a_second_demo_on_the_same_domain_is_refused(world, tddfa_v2_set, tmp_path, await_recorded):
    clip = write_clip(tmp_path / "long.mp4", 900)
    arguments = ("-m", "tddfa_ros", "demo", "--model-set", str(tddfa_v2_set))
    arguments += ("--input", str(clip), "--out")
    first = world.run(*arguments, str(tmp_path / "first"))
    first.await_output("playing")
    await_recorded(tmp_path / "first")
    second = world.run(*arguments, str(tmp_path / "second"))
    assert second.wait(60) == 1
    assert "ROS_DOMAIN_ID" in second.output
    assert "Traceback" not in second.output
    assert recorded_files(tmp_path / "second") == {}
    assert first.stop(signal.SIGINT) == 130, first.output


def test_a_publisher_that_is_discovered_late_is_refused_and_the_earlier_recording_stays(
    world, probe, tddfa_v2_set, tmp_path, await_true
):
    out = tmp_path / "out"
    arguments = ("-m", "tddfa_ros", "demo", "--model-set", str(tddfa_v2_set), "--out", str(out))
    earlier = world.run(*arguments, "--input", str(write_clip(tmp_path / "short.mp4", 15)))
    assert earlier.wait(60) == 0, earlier.output
    recorded = recorded_files(out)
    assert {path.name for path in recorded} > {"annotated.mp4", "faces.jsonl", "summary.json"}

    demo = world.run(*arguments, "--input", str(write_clip(tmp_path / "long.mp4", 900)))
    demo.await_output("playing")
    await_true(lambda: list(out.glob(".annotated.*.mp4")), "pictures in the recording")
    probe.node.create_publisher(Image, "image", 1)
    assert demo.wait(60) == 1, demo.output
    assert "another node publishes /image already" in demo.output
    assert "Traceback" not in demo.output
    assert recorded_files(out) == recorded
    assert "written" not in demo.output


def test_a_picture_and_a_folder_are_inputs_too(world, tddfa_v2_set, tmp_path, astronaut):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "1.png"), astronaut)
    cv2.imwrite(str(pictures / "2.png"), astronaut[:400, 50:400])
    for source, count in ((pictures / "1.png", 1), (pictures, 2)):
        out = tmp_path / f"out{count}"
        demo = world.run(
            *("-m", "tddfa_ros", "demo", "--model-set", str(tddfa_v2_set)),
            *("--input", str(source), "--out", str(out)),
        )
        assert demo.wait(60) == 0, demo.output
        lines = read_lines(out / "faces.jsonl")
        assert [len(line["faces"]) for line in lines] == [1] * count
        assert_whole(out)


def test_the_recorded_bag_is_an_input(world, tddfa_v2_set, tmp_path):
    source = write_clip(tmp_path / "clip.mp4", 15)
    for name in ("first", "second"):
        demo = world.run(
            *("-m", "tddfa_ros", "demo", "--model-set", str(tddfa_v2_set)),
            *("--input", str(source), "--out", str(tmp_path / name), "--frame-policy", "every"),
        )
        assert demo.wait(60) == 0, demo.output
        source = tmp_path / name / "bag"
    first, second = (read_lines(tmp_path / n / "faces.jsonl") for n in ("first", "second"))
    assert len(first) == 15
    assert second == first


def test_what_a_run_writes_is_never_its_input(world, tddfa_v2_set, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ("-m", "tddfa_ros", "demo", "--model-set", str(tddfa_v2_set), "--input")
    # The clip of a run without input lies in --out too, but a run with one does not write it.
    clip = write_clip(out / "astronaut.mp4", 15)
    clip_bytes = clip.read_bytes()
    demo = world.run(*arguments, str(clip), "--out", str(out))
    assert demo.wait(60) == 0, demo.output
    assert clip.read_bytes() == clip_bytes

    recorded = recorded_files(out)
    (bag_file,) = (out / "bag").glob("*.mcap")
    link = tmp_path / "link.mp4"
    link.symlink_to(out / "annotated.mp4")
    for source, named in (
        (out / "annotated.mp4", out / "annotated.mp4"),
        (link, out / "annotated.mp4"),
        (out / "bag", out / "bag"),
        (bag_file, out / "bag"),
    ):
        # Refused before any node starts: no process of its own is needed.
        refused = [*arguments[2:], str(source), "--out", str(tmp_path / "more" / ".." / "out")]
        assert main(refused) == 1
        told = capsys.readouterr().err
        for part in (str(named), "input itself", "--out"):
            assert part in told.partition("tddfa_ros demo:")[2]
        assert recorded_files(out) == recorded

    demo = world.run(*arguments, str(out / "annotated.mp4"), "--out", str(tmp_path / "other"))
    assert demo.wait(60) == 0, demo.output


VIEWER_QOS = {
    "viewer": QoSProfile(depth=1),
    # Asks for more than media_source offers: the two never match.
    "unserved viewer": QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
}


@pytest.mark.parametrize("other", ["viewer", "unserved viewer", "face node"])
def test_a_single_picture_is_not_lost_while_others_subscribe_to_images(
    world, probe, tddfa_v2_set, tmp_path, astronaut, other
):
    """Others are not taken for the face node, which takes longest to be there."""
    if other == "face node":
        names = ("-r", "__ns:=/other", "-r", "image:=/image", "-r", "/tf:=tf")
        world.face_node(tddfa_v2_set, *names)
    else:
        probe.node.create_subscription(Image, "image", lambda _: None, VIEWER_QOS[other])
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), astronaut)
    out = tmp_path / "out"
    demo = world.run(
        *("-m", "tddfa_ros", "demo", "--model-set", str(tddfa_v2_set)),
        *("--input", str(picture), "--out", str(out)),
    )
    assert demo.wait(60) == 0, demo.output
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["images"], summary["processed"]) == (1, 1)


@pytest.mark.parametrize("verb", ["demo", "webcam"])
def test_without_a_model_set_the_command_that_gets_one_is_named(world, tmp_path, verb):
    world.environment |= {"TDDFA_MODELS": str(tmp_path), "HOME": str(tmp_path)}
    arguments = ["--out", str(tmp_path / "out")] if verb == "demo" else []
    run = world.run("-m", "tddfa_ros", verb, "--model-set", "no_such_set", *arguments)
    assert run.wait(60) == 1
    assert "no_such_set" in run.output
    assert "python -m tddfa_ros models" in run.output
    assert "Traceback" not in run.output


def test_an_overlay_of_no_part_is_wrong_usage(capsys):
    """The face node would refuse it, once it runs."""
    # Were it taken, the unknown option would be told, and nothing run.
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--overlay", "", "--frobnicate"])
    assert ended.value.code == 2
    assert "--overlay: name at least 1 of" in capsys.readouterr().err


def test_an_input_that_is_not_there_is_named_at_once(world, tddfa_v2_set, tmp_path):
    demo = world.run(
        *("-m", "tddfa_ros", "demo", "--model-set", str(tddfa_v2_set)),
        *("--input", str(tmp_path / "none.mp4"), "--out", str(tmp_path / "out")),
    )
    assert demo.wait(60) == 1
    assert "none.mp4" in demo.output
    assert "Traceback" not in demo.output


def test_webcam_publishes_faces_and_says_how_it_goes(world, tddfa_v2_set, tmp_path, await_faces):
    clip = write_clip(tmp_path / "clip.mp4", 900)
    webcam = world.run(
        *("-m", "tddfa_ros", "webcam", "--device", str(clip), "--model-set", str(tddfa_v2_set))
    )
    webcam.await_output("Ctrl-C ends")
    await_faces(world.receiver("faces"), 30)
    webcam.await_output("1 faces now")
    assert webcam.stop(signal.SIGINT) == 130, webcam.output
    assert " frames in all, " in webcam.output.splitlines()[-2]
    assert "Traceback" not in webcam.output


def test_webcam_counts_all_frames_at_its_end_and_leaves_no_logs(world, tddfa_v2_set, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    world.environment |= {"TMPDIR": str(temporary)}
    clip = write_clip(tmp_path / "clip.mp4", 90)
    webcam = world.run(
        *("-m", "tddfa_ros", "webcam", "--device", str(clip), "--model-set", str(tddfa_v2_set))
    )
    webcam.await_output("1 faces now")
    # The nodes go on meanwhile, as where it has to wait for a busy machine.
    os.kill(webcam.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(webcam.pid, signal.SIGCONT)
    assert webcam.wait(60) == 0, webcam.output
    last = webcam.output.splitlines()[-1]
    counts = re.fullmatch(r"(\d+) frames in all, \1 faces in them, .+, (\d+) dropped", last)
    assert counts and sum(map(int, counts.groups())) == 90, webcam.output
    assert list(temporary.glob("tddfa_ros_*")) == []


def test_webcam_begins_a_clip_at_its_first_image(world, probe, tddfa_v2_set, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 900)
    faces: list[FaceArray] = []
    probe.node.create_subscription(FaceArray, "faces", faces.append, 10)
    world.run(
        *("-m", "tddfa_ros", "webcam", "--device", str(clip), "--model-set", str(tddfa_v2_set))
    )
    probe.spin_until(lambda: faces, "faces", 60)
    assert stamp_ns(faces[0]) == 0


def test_a_duration_counts_from_the_first_image(world, repository, tmp_path):
    """Nodes take longer to start than this."""
    out, chosen = tmp_path / "out", repository / "models" / "embedded"
    process = world.run(
        *("-m", "tddfa_ros", "demo", "--model-set", str(chosen), "--out", str(out)),
        *("--duration", "1"),
    )
    assert process.wait(90) == 0, process.output
    images = read_bag(out / "bag")[IMAGES]
    assert 0.3 < (stamp_ns(images[-1]) - stamp_ns(images[0])) / 1e9 < 3
    # Of the last image the answer may have come without the image itself.
    assert abs(len(images) - len(read_lines(out / "faces.jsonl"))) <= len(images) / 2
    assert frame_count(out / "annotated.mp4") > 0


def test_a_webcam_that_is_not_there_is_named_and_the_log_kept(world, tddfa_v2_set, tmp_path):
    world.environment |= {"TMPDIR": str(tmp_path)}
    webcam = world.run(
        "-m", "tddfa_ros", "webcam", "--device", "97", "--model-set", str(tddfa_v2_set)
    )
    assert webcam.wait(60) == 1
    assert "media_source ended" in webcam.output
    assert "97: no such camera" in webcam.output
    log = Path(webcam.output.partition("All of it: ")[2].strip())
    assert log.is_relative_to(tmp_path)
    assert "97: no such camera" in log.read_text()
