import itertools
import json
import resource
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.errors import MediaError
from tddfa_ros.core.media_stream import MediaFrame
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.recording import VideoWriter
from tddfa_ros.core.sample_media import astronaut_clip
from tddfa_ros.tools.outputs import Wishes
from tddfa_ros.tools.video import VideoSinks, _check_out, _remove_meshes, process_frames

TRACK_TOLERANCE_PX = 1.0
FRAME_NS = 33_333_333
TICK_NS = 2778


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def times_ns(path: Path) -> list[int]:
    with av.open(path.open("rb")) as container:
        return [round(f.pts * f.time_base * 10**9) for f in container.decode(video=0)]


def frame_count(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    return sum(1 for _ in iter(lambda: capture.read()[0], False))


def write_clip(path: Path, count: int) -> Path:
    with VideoWriter(path, 30.0) as writer:
        for image_bgr in itertools.islice(itertools.cycle(astronaut_clip()), count):
            writer.write(image_bgr)
    return path


@pytest.fixture(scope="module")
def short_clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "short.mp4", 12)


def test_unsmoothed_track_is_that_of_the_public_release(
    run_cli, media, golden, tddfa_v2_set, tmp_path
):
    out = tmp_path / "obama.mp4"
    done = run_cli(
        *("video", media / "obama.mp4", "--model-set", tddfa_v2_set),
        *("--out", out, "--smooth", "none"),
    )
    assert done.returncode == 0, done.stderr
    lines = read_lines(out.with_suffix(".jsonl"))
    truth = np.load(golden / "obama_track.npz")["sparse"].transpose(0, 2, 1)
    assert [line["frame"] for line in lines] == list(range(len(truth)))
    stamps_ns = [line["stamp_ns"] for line in lines]
    assert stamps_ns == [pytest.approx(index * 40_000_000, abs=1) for index in range(len(truth))]
    for line, landmarks in zip(lines, truth, strict=True):
        (face,) = line["faces"]
        np.testing.assert_allclose(face["landmarks"], landmarks, rtol=0, atol=TRACK_TOLERANCE_PX)
    assert len({line["faces"][0]["id"] for line in lines}) == 1
    assert frame_count(out) == len(truth)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["obama.jsonl", "obama.mp4"]


def coded_frames(count: int) -> list[MediaFrame]:
    """Frames that carry their own number in the corner pixel."""
    frames = []
    for index, image_bgr in enumerate(itertools.islice(astronaut_clip(), count)):
        image_bgr[0, 0] = index
        frames.append(MediaFrame(image_bgr, index * FRAME_NS, f"{index:06d}"))
    return frames


@pytest.mark.parametrize("smoothing", ["none", "one-euro", "window"])
@pytest.mark.parametrize("after", [0, 2, 20])
def test_each_result_meets_its_own_image_whatever_the_delay(model_set, smoothing, after):
    config = PipelineConfig(smoothing=smoothing, window_after=after)
    written = []
    with_pipeline = FacePipeline(model_set, config)
    process_frames(
        with_pipeline,
        coded_frames(8),
        lambda frame, result: written.append((int(frame.image_bgr[0, 0, 0]), result)),
    )
    with_pipeline.close()
    assert [code for code, _ in written] == list(range(8))
    assert [result.frame_index for _, result in written] == list(range(8))
    assert [result.stamp_ns for _, result in written] == [i * FRAME_NS for i in range(8)]
    assert all(len(result.faces) == 1 for _, result in written)


def test_a_broken_stream_keeps_what_it_gave(model_set):
    def breaking():
        yield from coded_frames(5)
        raise RuntimeError("cut")

    written = []
    pipeline = FacePipeline(model_set, PipelineConfig(smoothing="window", window_after=3))
    with pytest.raises(RuntimeError, match="cut"):
        process_frames(pipeline, breaking(), lambda frame, result: written.append(result))
    pipeline.close()
    assert [result.frame_index for result in written] == list(range(5))


def test_window_is_steadier_than_none_and_as_long(run_cli, short_clip, tddfa_v2_set, tmp_path):
    roughness = {}
    for smoothing in ("none", "window"):
        out = tmp_path / f"{smoothing}.mp4"
        done = run_cli(
            *("video", short_clip, "--model-set", tddfa_v2_set),
            *("--out", out, "--smooth", smoothing),
        )
        assert done.returncode == 0, done.stderr
        lines = read_lines(out.with_suffix(".jsonl"))
        assert len(lines) == frame_count(out) == 12
        landmarks = np.array([line["faces"][0]["landmarks"] for line in lines])
        roughness[smoothing] = np.abs(np.diff(landmarks, 2, axis=0)).mean()
    assert roughness["window"] < 0.7 * roughness["none"]


def test_further_outputs_are_videos_of_their_own(run_cli, short_clip, tddfa_v2_set, tmp_path):
    done = run_cli(
        *("video", short_clip, "--model-set", tddfa_v2_set),
        *("--out", tmp_path / "a.mp4", "--outputs", "depth,texture,stl", "--overlay", "mesh"),
    )
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.jsonl", "a.mp4", "a_depth.mp4", "a_stl", "a_texture.mp4"]
    assert all(frame_count(tmp_path / name) == 12 for name in names if name.endswith("mp4"))
    meshes = sorted(path.name for path in (tmp_path / "a_stl").iterdir())
    assert meshes == [f"{index:06d}.stl" for index in range(12)]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_closes_both_files_at_the_same_frame(
    tddfa_v2_set, tmp_path, number, status
):
    clip = write_clip(tmp_path / "long.mp4", 900)
    out = tmp_path / "out" / "long.mp4"
    command = [sys.executable, "-m", "tddfa_ros", "video", clip, "--out", out]
    command += ["--model-set", tddfa_v2_set, "--smooth", "window", "--window-after", "5"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline_s = time.monotonic() + 60
        while not any(p.stat().st_size > 10_000 for p in out.parent.glob(".long.*.jsonl")):
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in errors
    lines = read_lines(out.with_suffix(".jsonl"))
    assert 0 < len(lines) < 900
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert frame_count(out) == len(lines)
    assert sorted(path.name for path in out.parent.iterdir()) == ["long.jsonl", "long.mp4"]


@pytest.mark.parametrize("content", [b"", b"this is no video" * 100])
def test_an_unreadable_video_is_one_clear_message(run_cli, tddfa_v2_set, tmp_path, content):
    (tmp_path / "bad.mp4").write_bytes(content)
    out = tmp_path / "out" / "a.mp4"
    done = run_cli("video", tmp_path / "bad.mp4", "--model-set", tddfa_v2_set, "--out", out)
    assert done.returncode == 1
    assert "bad.mp4" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.parent.exists() or not any(out.parent.iterdir())


def test_the_input_is_never_overwritten(run_cli, short_clip, tddfa_v2_set):
    before = short_clip.read_bytes()
    done = run_cli("video", short_clip, "--model-set", tddfa_v2_set, "--out", short_clip)
    assert done.returncode == 1
    assert "input itself" in done.stderr
    assert short_clip.read_bytes() == before


@pytest.mark.parametrize("linked", [False, True])
def test_an_input_that_a_further_output_would_replace_is_refused(
    run_cli, short_clip, tddfa_v2_set, tmp_path, linked
):
    source = tmp_path / "a_depth.mp4"
    source.write_bytes(short_clip.read_bytes())
    given = tmp_path / "other.mp4" if linked else source
    if linked:
        given.symlink_to(source)
    done = run_cli(
        *("video", given, "--model-set", tddfa_v2_set),
        *("--out", tmp_path / "a.mp4", "--outputs", "pncc,depth"),
    )
    assert done.returncode == 1, done.stderr
    for part in (str(source), "input itself", "--out"):
        assert part in done.stderr
    assert source.read_bytes() == short_clip.read_bytes()
    assert set(tmp_path.iterdir()) == {source, given}


def test_pictures_in_the_folder_of_an_output_are_no_input_and_elsewhere_they_are(
    run_cli, astronaut, tddfa_v2_set, tmp_path
):
    # An obj has its texture in a .png beside it, named as the pictures of a recording often are.
    picture = tmp_path / "a_obj" / "000000.png"
    picture.parent.mkdir()
    cv2.imwrite(str(picture), astronaut)
    before = picture.read_bytes()
    arguments = ("--model-set", tddfa_v2_set, "--outputs", "obj", "--out")
    for source in (picture, picture.parent):
        done = run_cli("video", source, *arguments, tmp_path / "a.mp4")
        assert done.returncode == 1, done.stderr
        assert "input itself" in done.stderr
        assert [*tmp_path.iterdir(), *picture.parent.iterdir()] == [picture.parent, picture]
    done = run_cli("video", picture.parent, *arguments, tmp_path / "b.mp4")
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes() == before
    assert (tmp_path / "b_obj" / "000000.png").is_file()
    (line,) = (tmp_path / "b.jsonl").read_text().splitlines()
    assert json.loads(line)["image"] == "000000.png"


def test_meshes_of_an_earlier_and_longer_run_go(run_cli, astronaut, repository, tmp_path):
    for folder, count in (("two", 2), ("one", 1), ("none", 1)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            picture = np.zeros_like(astronaut) if folder == "none" else astronaut
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), picture)
    made = tmp_path / "a_obj"
    left = []
    for folder in ("two", "one", "none"):
        chosen = ("--model-set", repository / "models" / "embedded", "--outputs", "obj")
        done = run_cli("video", tmp_path / folder, *chosen, "--out", tmp_path / "a.mp4")
        assert done.returncode == 0, done.stderr
        left.append(sorted(path.name for path in made.iterdir()))
    first, second = "000000.obj", "000001.obj"
    meshes = [[name for name in names if name.endswith(".obj")] for names in left]
    assert meshes == [[first, second], [first], []]
    # A picture may be anybody's.
    assert all("000001.png" in names for names in left)


@pytest.mark.parametrize("name", ["a.avi", "/"])
def test_a_wrong_suffix_is_refused_before_the_work(
    run_cli, short_clip, tddfa_v2_set, tmp_path, name
):
    done = run_cli("video", short_clip, "--model-set", tddfa_v2_set, "--out", tmp_path / name)
    assert done.returncode == 1
    assert "end the name with it" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["a.mp4", "a.jsonl", "a_depth.mp4"])
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(
    run_cli, short_clip, tddfa_v2_set, tmp_path, folder
):
    (tmp_path / folder).mkdir()
    done = run_cli(
        *("video", short_clip, "--model-set", tddfa_v2_set),
        *("--out", tmp_path / "a.mp4", "--outputs", "depth"),
    )
    assert done.returncode == 1
    assert f"{tmp_path / folder}: is a folder; choose another" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    assert list((tmp_path / folder).iterdir()) == []


def test_a_file_in_the_place_of_a_folder_of_meshes_is_refused_before_the_work(
    run_cli, short_clip, repository, tmp_path
):
    (tmp_path / "a_ply").write_text("mine")
    done = run_cli(
        *("video", short_clip, "--model-set", repository / "models" / "embedded"),
        *("--out", tmp_path / "a.mp4", "--outputs", "ply,depth"),
    )
    assert done.returncode == 1
    assert f"{tmp_path / 'a_ply'}: cannot be made (File exists); choose another" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a_ply"]
    assert (tmp_path / "a_ply").read_text() == "mine"


def test_a_run_without_a_frame_leaves_no_folder_of_meshes_that_it_made(tmp_path):
    (tmp_path / "a_obj").mkdir()
    stage = SimpleNamespace(wishes=Wishes(names=("obj", "depth", "ply")))
    with VideoSinks(tmp_path / "a.mp4", 30.0, stage):
        assert (tmp_path / "a_ply").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["a_obj"]


def test_a_folder_of_meshes_stays_where_frames_were_written_or_somebody_has_put_a_file(tmp_path):
    stage = SimpleNamespace(wishes=Wishes(names=("obj", "ply")))
    with VideoSinks(tmp_path / "a.mp4", 30.0, stage) as sinks:
        sinks.lines.write("{}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a_obj", "a_ply"]
    with VideoSinks(tmp_path / "b.mp4", 30.0, stage):
        (tmp_path / "b_obj" / "mine").write_text("")
    assert sorted(path.name for path in tmp_path.glob("b*")) == ["b_obj"]


def test_a_folder_that_cannot_be_made_leaves_nothing_of_the_others(tmp_path):
    stage = SimpleNamespace(wishes=Wishes(names=("depth", "obj", "ply")))
    (tmp_path / "a_ply").symlink_to("a_ply")
    with pytest.raises(MediaError, match=r"a_ply: cannot be made \(.*\); choose another --out"):
        VideoSinks(tmp_path / "a.mp4", 30.0, stage)
    assert [path.name for path in tmp_path.iterdir()] == ["a_ply"]


def test_only_meshes_of_frames_are_taken_for_those_of_an_earlier_run(tmp_path):
    gone = {"000000.obj", "000001_2.ply", "000012_13.glb", "000003.stl", "1000000.ply"}
    kept = {"00001.obj", "000001.png", "000001.mtl", "000001_.obj", "000001.obj.bak", "head.obj"}
    for name in gone | kept:
        (tmp_path / name).write_text("")
    _remove_meshes(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_the_input_may_be_what_the_results_or_a_video_by_another_spelling_would_be(tmp_path):
    for name in ("a.jsonl", "b.MP4", "c_depth.mp4"):
        (tmp_path / name).write_text("")
    for source, out, lost in (
        ("a.jsonl", "a.mp4", True),
        ("b.MP4", "b.MP4", True),
        ("c_depth.mp4", "c.mp4", False),
        ("a.jsonl", "a.avi", False),
    ):
        raised = pytest.raises(MediaError, match="input itself") if lost else nullcontext()
        with raised:
            _check_out(str(tmp_path / source), tmp_path / out, ("pncc",))


def test_a_folder_in_the_place_of_a_mesh_is_told_in_one_line(
    run_cli, short_clip, repository, tmp_path
):
    (tmp_path / "a_ply" / "000000.ply").mkdir(parents=True)
    done = run_cli(
        *("video", short_clip, "--model-set", repository / "models" / "embedded"),
        *("--out", tmp_path / "a.mp4", "--outputs", "ply"),
    )
    assert done.returncode == 1
    assert "000000.ply: of an earlier run, cannot be removed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("argument", ["input", "--model-set"])
def test_a_name_that_is_too_long_is_told_in_one_line(run_cli, short_clip, tmp_path, argument):
    name = 300 * "a"
    given = (f"{name}.mp4",) if argument == "input" else (short_clip, argument, name)
    done = run_cli("video", *given, "--out", tmp_path / "out.mp4")
    assert done.returncode == 1
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_utf8_is_read_and_written(run_cli, short_clip, tddfa_v2_set, tmp_path):
    source = tmp_path / "v\udcfc.mp4"
    source.write_bytes(short_clip.read_bytes())
    out = tmp_path / "out" / source.name
    done = run_cli("video", source, "--model-set", tddfa_v2_set, "--out", out)
    assert done.returncode == 0, done.stderr
    assert len(times_ns(out)) == 12
    assert len(read_lines(out.with_suffix(".jsonl"))) == 12


def variable_rate_video(path: Path) -> list[int]:
    """Write a clip that slows down after 10 of its 30 frames."""
    stamps_ns = [FRAME_NS * max(index, 4 * index - 30) for index in range(30)]
    with VideoWriter(path, 30.0) as writer:
        for image_bgr, stamp_ns in zip(astronaut_clip(), stamps_ns, strict=False):
            writer.write(image_bgr, stamp_ns)
    return stamps_ns


def time_lapse(path: Path) -> list[int]:
    """Write a video of a picture every 25/6 s."""
    with VideoWriter(path, 0.24) as writer:
        for image_bgr in itertools.islice(astronaut_clip(), 7):
            writer.write(image_bgr)
    return [round(index * 1e9 / 0.24) for index in range(7)]


def image_cdr(store, image_bgr: np.ndarray, stamp_ns: int) -> memoryview:
    """Serialise one image."""
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
    image = types["sensor_msgs/msg/Image"](
        header, *image_bgr.shape[:2], "bgr8", 0, 3 * image_bgr.shape[1], image_bgr.ravel()
    )
    return store.serialize_cdr(image, "sensor_msgs/msg/Image")


def slow_bag(path: Path) -> list[int]:
    """Write a recording of 10 Hz, with the stamps of a clock, one image missing."""
    store = get_typestore(Stores.ROS2_JAZZY)
    stamps_ns = [1_700_000_000_123_456_789 + 100_000_000 * i for i in range(8) if i != 5]
    with Writer(path, version=9) as writer:
        connection = writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=store)
        for image_bgr, stamp_ns in zip(astronaut_clip(), stamps_ns, strict=False):
            writer.write(connection, stamp_ns, image_cdr(store, image_bgr, stamp_ns))
    return stamps_ns


def test_of_a_bag_the_topic_that_is_named_is_read(run_cli, astronaut, repository, tmp_path):
    bag = tmp_path / "bag"
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(bag, version=9) as writer:
        for topic, picture in (("/a/image", np.zeros_like(astronaut)), ("/b/image", astronaut)):
            connection = writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=store)
            writer.write(connection, 10**9, image_cdr(store, picture, 10**9))
    for options, count in (((), 0), (("--image-topic", "/b/image"), 1)):
        out = tmp_path / f"{count}.mp4"
        chosen = ("--model-set", repository / "models" / "embedded", *options)
        done = run_cli("video", bag, "--out", out, *chosen)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(f" -> {out}, {out.with_suffix('.jsonl')}\n")
        (line,) = read_lines(out.with_suffix(".jsonl"))
        assert len(line["faces"]) == count


@pytest.mark.parametrize("make_source", [variable_rate_video, time_lapse, slow_bag])
def test_the_annotated_video_has_the_times_of_its_source(
    run_cli, tddfa_v2_set, tmp_path, make_source
):
    source, out = tmp_path / "source.mp4", tmp_path / "out" / "a.mp4"
    stamps_ns = make_source(source)
    done = run_cli(
        *("video", source, "--model-set", tddfa_v2_set, "--out", out),
        *("--outputs", "depth", "--smooth", "window"),
    )
    assert done.returncode == 0, done.stderr
    written_ns = [line["stamp_ns"] for line in read_lines(out.with_suffix(".jsonl"))]
    assert written_ns == [pytest.approx(stamp_ns, abs=TICK_NS) for stamp_ns in stamps_ns]
    expected_ns = [pytest.approx(s - stamps_ns[0], abs=TICK_NS) for s in stamps_ns]
    for path in (out, out.with_name("a_depth.mp4")):
        assert times_ns(path) == expected_ns
        assert frame_count(path) == len(expected_ns)


@pytest.mark.parametrize(("limit", "failing"), [(100_000, "a.mp4"), (2000, "a.jsonl")])
def test_what_cannot_be_written_is_told_and_the_earlier_files_stay(
    run_cli, tddfa_v2_set, tmp_path, limit, failing
):
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    out.mkdir()
    rng = np.random.default_rng(1)
    for index in range(20):
        noise = rng.integers(0, 256, (240, 320, 3), np.uint8)
        cv2.imwrite(str(pictures / f"{index}.png"), noise)
        # Each line of a face has two thousand characters and more.
        if failing == "a.jsonl":
            cv2.imwrite(str(pictures / f"{index}.png"), next(astronaut_clip()))
    (out / failing).write_text("earlier")
    done = run_cli(
        *("video", pictures, "--model-set", tddfa_v2_set, "--out", out / "a.mp4"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    assert f"{failing}: cannot be written (File too large); make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert failing not in done.stdout
    assert (out / failing).read_text() == "earlier"
    assert not list(out.glob(".*"))


def test_a_time_of_day_may_be_the_name(run_cli, short_clip, tddfa_v2_set, tmp_path):
    (tmp_path / "12:30:05.mp4").write_bytes(short_clip.read_bytes())
    done = run_cli(
        *("video", "12:30:05.mp4", "--model-set", tddfa_v2_set, "--out", "12:30:05_faces.mp4"),
        *("--outputs", "depth"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for name in ("12:30:05_faces.mp4", "12:30:05_faces_depth.mp4"):
        assert frame_count(tmp_path / name) == 12
