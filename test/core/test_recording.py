import cv2
import numpy as np
import pytest

from tddfa_ros.core.errors import ImageError, MediaError
from tddfa_ros.core.recording import LinesWriter, VideoWriter, plausible_rate_hz


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        ok, frame = capture.read()
        if not ok:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def flat(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def test_video_holds_its_frames_in_order_at_the_rate(tmp_path):
    path = tmp_path / "deep" / "a.mp4"
    levels = [0, 40, 80, 120, 160, 200]
    with VideoWriter(path, 25.0) as writer:
        for level in levels:
            writer.write(flat(48, 64, level))
        assert not path.exists()
    frames, rate_hz = read_video(path)
    assert rate_hz == 25.0
    assert [abs(f.mean() - v) < 4 for f, v in zip(frames, levels, strict=True)] == [True] * 6
    assert names_in(path.parent) == ["a.mp4"]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 17), (481, 640), (480, 641)])
def test_odd_sizes_grow_by_a_copied_edge(tmp_path, height, width):
    with VideoWriter(tmp_path / "a.mp4", 30) as writer:
        writer.write(flat(height, width, 100))
    frames, _ = read_video(tmp_path / "a.mp4")
    assert frames[0].shape == (height + height % 2, width + width % 2, 3)
    assert abs(frames[0].astype(int) - 100).max() < 6


def test_picture_of_another_size_is_framed_in_black(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 30) as writer:
        writer.write(flat(100, 200, 255))
        writer.write(flat(200, 200, 255))
    frame = read_video(tmp_path / "a.mp4")[0][1]
    assert frame.shape == (100, 200, 3)
    assert frame[:, 60:140].min() > 240
    assert frame[:, :40].max() < 15
    assert frame[:, 160:].max() < 15


@pytest.mark.parametrize("writer_class", [VideoWriter, LinesWriter])
def test_without_a_frame_nothing_is_left(tmp_path, writer_class):
    arguments = (30.0,) if writer_class is VideoWriter else ()
    with writer_class(tmp_path / "a.mp4", *arguments):
        pass
    assert names_in(tmp_path) == []


def test_what_is_discarded_leaves_the_earlier_file(tmp_path):
    for levels in ((10, 20), (90,)):
        with (
            VideoWriter(tmp_path / "a.mp4", 30) as video,
            LinesWriter(tmp_path / "a.jsonl") as lines,
        ):
            for level in levels:
                video.write(flat(48, 64, level))
                lines.write(f"{level}\n")
            if levels == (90,):
                video.discard()
                lines.discard()
    assert len(read_video(tmp_path / "a.mp4")[0]) == 2
    assert (tmp_path / "a.jsonl").read_text() == "10\n20\n"
    assert names_in(tmp_path) == ["a.jsonl", "a.mp4"]


def test_an_error_keeps_what_was_written(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        VideoWriter(tmp_path / "a.mp4", 30) as video,
        LinesWriter(tmp_path / "a.jsonl") as lines,
    ):
        for number in range(5):
            video.write(flat(48, 64, number))
            lines.write(f"{number}\n")
        raise KeyboardInterrupt
    assert len(read_video(tmp_path / "a.mp4")[0]) == 5
    assert (tmp_path / "a.jsonl").read_text() == "0\n1\n2\n3\n4\n"
    assert names_in(tmp_path) == ["a.jsonl", "a.mp4"]


def test_wrong_suffix_picture_and_folder_are_named(tmp_path):
    with pytest.raises(MediaError, match=r"a\.avi.*\.mp4"):
        VideoWriter(tmp_path / "a.avi", 30)
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="file"):
        VideoWriter(tmp_path / "file" / "a.mp4", 30)
    with VideoWriter(tmp_path / "a.mp4", 30) as writer, pytest.raises(ImageError, match="uint8"):
        writer.write(np.zeros((4, 4), np.float32))


def test_a_colon_in_the_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with VideoWriter("2024-05-01T12:30:05.mp4", 30) as writer:
        writer.write(flat(48, 64, 90))
    assert names_in(tmp_path) == ["2024-05-01T12:30:05.mp4"]
    assert len(read_video(tmp_path / "2024-05-01T12:30:05.mp4")[0]) == 1


@pytest.mark.parametrize("name", ["v\udcfc.mp4", "f\udcfc/v.mp4"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path, name):
    with pytest.raises(MediaError, match=r"not UTF-8.*choose another"):
        VideoWriter(tmp_path / name, 30)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("writer_class", [VideoWriter, LinesWriter])
def test_a_folder_of_that_name_is_refused_at_once(tmp_path, writer_class):
    (tmp_path / "a.mp4").mkdir()
    arguments = (30.0,) if writer_class is VideoWriter else ()
    with pytest.raises(MediaError, match=r"a\.mp4: is a folder; choose another"):
        writer_class(tmp_path / "a.mp4", *arguments)
    with pytest.raises(MediaError, match="too long"):
        writer_class(tmp_path / f"{'x' * 300}.mp4", *arguments)
    assert names_in(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("nonsense", [0.0, -5.0, float("nan"), float("inf"), 90000.0])
def test_nonsense_rates_fall_back(nonsense):
    assert plausible_rate_hz(nonsense) == 30.0
    assert plausible_rate_hz(23.976) == 23.976
