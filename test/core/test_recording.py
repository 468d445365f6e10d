import resource
from contextlib import contextmanager
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from tddfa_ros.core import video_encoder
from tddfa_ros.core.errors import ImageError, MediaError
from tddfa_ros.core.media import open_media
from tddfa_ros.core.recording import LinesWriter, VideoWriter

MS = 1_000_000
TICK_NS = {"libx264": 1e9 / 360_000, "mpeg4": 1e9 / 60_000}


@pytest.fixture(params=["libx264", "mpeg4"])
def codec(request, monkeypatch):
    """Only this codec is there."""
    monkeypatch.setattr(
        video_encoder, "CODECS", [c for c in video_encoder.CODECS if c.name == request.param]
    )
    return request.param


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        ok, frame = capture.read()
        if not ok:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame)


def times_ns(path):
    with av.open(str(path)) as container:
        return [round(f.pts * f.time_base * 10**9) for f in container.decode(video=0)]


def write_stamped(path, rate_hz, stamps_ns):
    with VideoWriter(path, rate_hz) as writer:
        for number, stamp_ns in enumerate(stamps_ns):
            writer.write(flat(48, 64, number % 256), stamp_ns)


def noise(seed, height=240, width=320):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@contextmanager
def no_file_larger_than(size):
    """As a full disk: Python ignores the signal, so that writing fails with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def flat(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def test_video_holds_its_frames_in_order_at_the_rate(tmp_path, codec):
    path = tmp_path / "deep" / "a.mp4"
    levels = [0, 40, 80, 120, 160, 200]
    with VideoWriter(path, 25.0) as writer:
        for level in levels:
            writer.write(flat(48, 64, level))
        assert not path.exists()
        assert not writer.in_place
    assert writer.in_place
    frames, rate_hz = read_video(path)
    assert rate_hz == 25.0
    assert [abs(f.mean() - v) < 4 for f, v in zip(frames, levels, strict=True)] == [True] * 6
    assert names_in(path.parent) == ["a.mp4"]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 17), (481, 640), (480, 641)])
def test_odd_sizes_grow_by_a_copied_edge(tmp_path, codec, height, width):
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


def test_what_is_closed_twice_stays_in_its_place(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 30) as video, LinesWriter(tmp_path / "a.jsonl") as lines:
        video.write(flat(48, 64, 10))
        lines.write("10\n")
        for writer in (video, lines):
            writer.close()
            assert writer.in_place
    assert len(read_video(tmp_path / "a.mp4")[0]) == 1
    assert (tmp_path / "a.jsonl").read_text() == "10\n"
    assert names_in(tmp_path) == ["a.jsonl", "a.mp4"]


@pytest.mark.parametrize("writer_class", [VideoWriter, LinesWriter])
def test_what_somebody_removed_meanwhile_is_told(tmp_path, writer_class):
    writer = writer_class(tmp_path / "a.mp4", *([30.0] if writer_class is VideoWriter else []))
    writer.write(flat(48, 64, 10) if writer_class is VideoWriter else "10\n")
    for unfinished in tmp_path.iterdir():
        unfinished.unlink()
    with pytest.raises(MediaError, match=r"a\.mp4: cannot be written \(No such file"):
        writer.close()
    assert not writer.in_place


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
def test_a_name_need_not_be_utf8(tmp_path, name):
    with VideoWriter(tmp_path / name, 30) as writer:
        writer.write(flat(48, 64, 90))
    assert names_in(tmp_path) == [name.partition("/")[0]]
    with open_media(tmp_path / name) as media:
        assert len(list(media)) == 1


@pytest.mark.parametrize("writer_class", [VideoWriter, LinesWriter])
def test_a_folder_of_that_name_is_refused_at_once(tmp_path, writer_class):
    (tmp_path / "a.mp4").mkdir()
    arguments = (30.0,) if writer_class is VideoWriter else ()
    with pytest.raises(MediaError, match=r"a\.mp4: is a folder; choose another"):
        writer_class(tmp_path / "a.mp4", *arguments)
    with pytest.raises(MediaError, match="too long"):
        writer_class(tmp_path / f"{'x' * 300}.mp4", *arguments)
    assert names_in(tmp_path) == ["a.mp4"]


RATES = ["30", "25", "24", "15", "60", "120", "1", "6/25", "30000/1001", "24000/1001", "60000/1001"]


@pytest.mark.parametrize("rate", [Fraction(rate) for rate in RATES], ids=str)
@pytest.mark.parametrize("stamped", [True, False])
def test_a_constant_rate_is_kept_exactly(tmp_path, rate, stamped):
    path = tmp_path / "a.mp4"
    start_ns = 1_700_000_000_123_456_789
    stamps_ns = [start_ns + round(i * 10**9 / rate) if stamped else None for i in range(50)]
    write_stamped(path, float(rate), stamps_ns)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == rate
        assert stream.duration * stream.time_base == 50 / rate
        periods = {p.duration * p.time_base for p in container.demux(stream) if p.size}
    assert periods == {1 / rate}
    frames, opencv_rate_hz = read_video(path)
    assert len(frames) == 50
    assert opencv_rate_hz == float(rate)
    with open_media(path) as media:
        assert media.fps == float(rate)
        assert [f.stamp_ns for f in media] == [round(i * 10**9 / rate) for i in range(50)]


@pytest.mark.parametrize("rate_hz", [None, 30.0, 0.24])
def test_each_picture_is_shown_at_its_own_time(tmp_path, codec, rate_hz):
    path = tmp_path / "a.mp4"
    rng = np.random.default_rng(5)
    gaps_ns = rng.choice(
        [1_234_567, 33_333_333, 40 * MS, 999_999_999, 25_000 * MS, 90_000 * MS], 40
    )
    offsets_ns = [0, *np.cumsum(gaps_ns).tolist()]
    write_stamped(path, rate_hz, [1_700_000_000_123_456_789 + t for t in offsets_ns])
    assert times_ns(path) == [pytest.approx(t, abs=TICK_NS[codec] / 2 + 1) for t in offsets_ns]
    assert [round(f.mean()) for f in read_video(path)[0]] == [
        pytest.approx(number, abs=3) for number in range(41)
    ]


def test_the_last_picture_stays_for_the_rate_s_period_else_for_the_newest_gap(tmp_path):
    for rate_hz, stay_s in ((25.0, Fraction(1, 25)), (None, Fraction(1, 10))):
        write_stamped(tmp_path / "a.mp4", rate_hz, [0, 500 * MS, 600 * MS])
        with av.open(str(tmp_path / "a.mp4")) as container:
            stream = container.streams.video[0]
            assert stream.duration * stream.time_base == Fraction(6, 10) + stay_s


@pytest.mark.parametrize(
    ("stamps_ms", "shown_ms"),
    [
        ([70, 110, 150], [0, 40, 80]),
        # Twice at a time, or a little too early: as soon as can be; the others stay.
        ([0, 40, 40, 80, 120], [0, 40, 40, 80, 120]),
        ([0, 40, 30, 80, 120], [0, 40, 40, 80, 120]),
        # A recording that is played again, time that stays behind, and a clock that is set back.
        ([0, 40, 80, 0, 40, 80, 0, 40], [0, 40, 80, 120, 160, 200, 240, 280]),
        ([0, 40, 0, 40, 0], [0, 40, 80, 120, 160]),
        ([0, 0, 0, 0], [0, 0, 40, 80]),
        ([0, 40, 40, 40, 80], [0, 40, 40, 80, 120]),
        ([5000, 1000, 1040, 1100], [0, 40, 80, 140]),
        # And one that is set forward by years.
        ([0, 40, 10**12, 10**12 + 40], [0, 40, 600_040, 600_080]),
    ],
)
def test_time_goes_on_whatever_the_stamps(tmp_path, codec, stamps_ms, shown_ms):
    write_stamped(tmp_path / "a.mp4", 25.0, [stamp_ms * MS for stamp_ms in stamps_ms])
    shown_ns = times_ns(tmp_path / "a.mp4")
    tolerance_ns = TICK_NS[codec] * 1.5 + 1
    assert shown_ns == [pytest.approx(ms * MS, abs=tolerance_ns) for ms in shown_ms]
    assert (np.diff(shown_ns) > 0).all()


COLOURS_BGR = [
    (0, 0, 255),
    (0, 255, 0),
    (255, 0, 0),
    (0, 255, 255),
    (255,) * 3,
    (0,) * 3,
    (30, 160, 220),
]


@pytest.mark.parametrize("colour_bgr", COLOURS_BGR)
def test_colours_are_kept_and_said_to_be_those_of_bt601(tmp_path, codec, colour_bgr):
    path = tmp_path / "a.mp4"
    picture = np.full((48, 64, 3), colour_bgr, np.uint8)
    with VideoWriter(path, 30) as writer:
        writer.write(picture)
    with open_media(path) as media:
        (frame,) = media
    for read in (frame.image_bgr, read_video(path)[0][0]):
        assert np.abs(read.astype(int) - picture).max() <= 6
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.pix_fmt) == (6, 1, "yuv420p")


def test_a_thin_line_keeps_its_colour_in_any_column(tmp_path):
    picture = flat(64, 64, 60)
    picture[:, [20, 41]] = (0, 0, 255)
    with VideoWriter(tmp_path / "a.mp4", 30) as writer:
        writer.write(picture)
    frame = read_video(tmp_path / "a.mp4")[0][0].astype(int)
    redness = frame[8:-8, :, 2] - frame[8:-8, :, 1]
    assert redness[:, [20, 41]].min() > 80
    assert abs(redness[:, [5, 30, 50]]).max() < 10


def test_pictures_lose_little(tmp_path, astronaut):
    with VideoWriter(tmp_path / "a.mp4", 30) as writer:
        for _ in range(3):
            writer.write(astronaut)
    for frame in read_video(tmp_path / "a.mp4")[0]:
        squared = np.mean((frame.astype(float) - astronaut) ** 2)
        assert 10 * np.log10(255**2 / squared) > 34


def test_browsers_play_it(tmp_path):
    write_stamped(tmp_path / "a.mp4", 30.0, [0, 40 * MS])
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert context.name == "h264"
        assert "Baseline" in context.profile
        assert not context.has_b_frames


def test_without_any_codec_the_remedy_is_named(tmp_path, monkeypatch):
    unknown = video_encoder._Codec("no_such_codec", 1000, {})
    monkeypatch.setattr(video_encoder, "CODECS", (unknown, *video_encoder.CODECS))
    write_stamped(tmp_path / "a.mp4", 30.0, [0])
    monkeypatch.setattr(video_encoder, "CODECS", (unknown,))
    with pytest.raises(MediaError, match=r"without no_such_codec.*install av"):
        write_stamped(tmp_path / "b.mp4", 30.0, [0])
    assert names_in(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("limit", [0, 40, 100_000, 1_000_000])
def test_a_video_that_cannot_be_written_is_an_error_and_the_earlier_one_stays(
    tmp_path, codec, limit
):
    path = tmp_path / "a.mp4"
    write_stamped(path, 30.0, [0, 40 * MS])
    earlier = path.read_bytes()
    with (
        no_file_larger_than(limit),
        pytest.raises(MediaError, match=r"a\.mp4: cannot be written \(File too large\); make room"),
        VideoWriter(path, 30) as writer,
    ):
        for number in range(60):
            writer.write(noise(number))
    assert not writer.in_place
    assert path.read_bytes() == earlier
    assert names_in(tmp_path) == ["a.mp4"]
    writer.close()
    assert names_in(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("lacking", [1, 200, 30_000])
def test_what_fails_only_when_the_video_is_closed_is_an_error_too(tmp_path, codec, lacking):
    whole = tmp_path / "whole.mp4"
    for path in (whole, tmp_path / "a.mp4"):
        writer = VideoWriter(path, 30)
        for number in range(3):
            writer.write(noise(number, 48, 64))
        if path == whole:
            writer.close()
            continue
        with (
            no_file_larger_than(max(0, whole.stat().st_size - lacking)),
            pytest.raises(MediaError, match=r"a\.mp4: cannot be written"),
        ):
            writer.close()
    assert names_in(tmp_path) == ["whole.mp4"]


@pytest.mark.parametrize("length", [10, 100_000])
def test_lines_that_cannot_be_written_are_an_error_and_the_earlier_ones_stay(tmp_path, length):
    path = tmp_path / "a.jsonl"
    path.write_text("earlier\n")
    with (
        no_file_larger_than(5),
        pytest.raises(MediaError, match=r"a\.jsonl: cannot be written \(File too large\)"),
        LinesWriter(path) as lines,
    ):
        lines.write("x" * length + "\n")
    assert not lines.in_place
    assert path.read_text() == "earlier\n"
    assert names_in(tmp_path) == ["a.jsonl"]


def test_pictures_that_no_codec_takes_are_named(tmp_path, codec):
    with (
        pytest.raises(MediaError, match=r"a\.mp4: no video of 70000x2 pixels can be made"),
        VideoWriter(tmp_path / "a.mp4", 30) as writer,
    ):
        writer.write(flat(1, 70_000, 0))
    assert names_in(tmp_path) == []
