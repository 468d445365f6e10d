import socket
import struct
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from tddfa_ros.core import media as media_module
from tddfa_ros.core.errors import ImageError, MediaError
from tddfa_ros.core.media import Camera, image_paths, is_bag, is_camera, open_media, read_image
from tddfa_ros.core.media_stream import plausible_rate_hz

FPS = 25
PERIOD_NS = 40_000_000


def grey_frames(count, height=48, width=64):
    """Frames that tell their number by their grey level."""
    return [np.full((height, width, 3), 5 + 10 * i, np.uint8) for i in range(count)]


def write_video(path, frames, codec="mp4v"):
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), FPS, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def encode_video(path, codec, pixels, frames, pixel_aspect=None):
    """A video by FFmpeg's own writer, one frame a period from time 0 on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_video_of_times(path, times_ms):
    """A Matroska file whose frames have any times, as no writer would give them."""
    encode_video(path, "mjpeg", "yuvj420p", grey_frames(len(times_ms)))
    content = path.read_bytes()
    for index, time_ms in enumerate(times_ms):
        # A block: its track, two bytes of time, its flags; then the JPEG.
        old, new = (struct.pack(">Bh", 0x81, ms) for ms in (1000 * index // FPS, time_ms))
        before, found, rest = content.rpartition(old + b"\x80\xff\xd8")
        assert found
        content = before + new + found[3:] + rest
    path.write_bytes(content)
    return path


def numbers_of(frames):
    return [round((float(frame.image_bgr.mean()) - 5) / 10) for frame in frames]


@pytest.mark.parametrize("rate_hz", [0.0, -5.0, float("nan"), float("inf"), 90000.0, 1e-9])
def test_nonsense_is_no_rate(rate_hz):
    assert plausible_rate_hz(rate_hz) is None


@pytest.mark.parametrize("rate_hz", [1 / 900, 0.24, 23.976, 1000.0])
def test_rates_of_videos_and_time_lapses_are_plausible(rate_hz):
    assert plausible_rate_hz(rate_hz) == rate_hz


def test_video_gives_each_frame_with_its_stamp(tmp_path):
    path = write_video(tmp_path / "clip.mp4", grey_frames(12))
    with open_media(path) as media:
        assert (media.kind, media.live, media.frame_count) == ("video", False, 12)
        assert media.fps == pytest.approx(FPS)
        assert (media.height, media.width) == (48, 64)
        frames = list(media)
    assert numbers_of(frames) == list(range(12))
    assert [frame.stamp_ns for frame in frames] == [i * PERIOD_NS for i in range(12)]
    assert [frame.name for frame in frames] == [""] * 12
    assert media.skipped == 0
    for frame in frames:
        assert frame.image_bgr.flags.c_contiguous


@pytest.mark.parametrize(
    ("times_ms", "stamps_ms"),
    [
        ([0, 10, 95, 100, 1100], [0, 10, 95, 100, 1100]),
        ([500, 540, 580], [0, 40, 80]),
        # One frame twice at a time, or out of order: between its neighbours, who stay.
        ([0, 40, 40, 80, 120, 160], [0, 40, 60, 80, 120, 160]),
        ([0, 40, 120, 80, 160, 200], [0, 40, 120, 140, 160, 200]),
        ([0, 40, 20, 1000, 1040], [0, 40, 80, 1000, 1040]),
        # Time that begins anew, and time that stands still, go on by a period.
        ([0, 40, 80, 0, 40, 90, 130], [0, 40, 80, 120, 160, 210, 250]),
        ([900, 940, 980, 100, 140, 180], [0, 40, 80, 120, 160, 200]),
        ([0, 40, 80, 40], [0, 40, 80, 120]),
        ([70, 70, 70, 70], [0, 40, 80, 120]),
    ],
)
def test_stamps_of_a_video_advance_whatever_its_times(tmp_path, times_ms, stamps_ms):
    path = write_video_of_times(tmp_path / "clip.mkv", times_ms)
    with open_media(path) as media:
        assert media.fps == pytest.approx(FPS)
        frames = list(media)
    assert numbers_of(frames) == list(range(len(times_ms)))
    assert [frame.stamp_ns / 1e6 for frame in frames] == stamps_ms


def test_time_goes_on_where_two_recordings_are_joined(tmp_path):
    part = encode_video(tmp_path / "part.ts", "mpeg2video", "yuv420p", grey_frames(20))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(2 * part.read_bytes())
    with open_media(joined) as media:
        stamps = [frame.stamp_ns for frame in media]
    assert 38 <= len(stamps) <= 40
    assert stamps[:15] == [i * PERIOD_NS for i in range(15)]
    steps = np.diff(stamps)
    assert steps.min() >= PERIOD_NS // 2 and steps.max() <= 2 * PERIOD_NS


def test_video_reads_the_same_each_time(tmp_path):
    path = write_video(tmp_path / "clip.avi", grey_frames(5), "MJPG")
    runs = []
    for _ in range(2):
        with open_media(path) as media:
            runs.append([(frame.stamp_ns, frame.image_bgr.tobytes()) for frame in media])
    assert runs[0] == runs[1]


def turned_video(plain, matrix):
    """A copy of an mp4 that says how it is to be turned."""
    content = bytearray(plain.read_bytes())
    # The track header's matrix {a b u, c d v, x y w} begins 44 bytes after its name (version 0).
    at = content.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = plain.with_name("turned.mp4")
    turned.write_bytes(content)
    return turned


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, -1, 0), cv2.ROTATE_90_CLOCKWISE),
        ((-1, 0, 0, -1), cv2.ROTATE_180),
        ((0, -1, 1, 0), cv2.ROTATE_90_COUNTERCLOCKWISE),
    ],
)
def test_video_is_turned_upright_by_its_metadata(tmp_path, matrix, turn):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 230
    plain = write_video(tmp_path / "plain.mp4", [picture] * 3)
    turned = turned_video(plain, matrix)
    with open_media(plain) as media:
        expected = cv2.rotate(next(iter(media)).image_bgr, turn)
    with open_media(turned) as media:
        assert (media.height, media.width) == expected.shape[:2]
        np.testing.assert_array_equal(next(iter(media)).image_bgr, expected)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("pixel_aspect", "size_wh"),
    [(Fraction(64, 45), (91, 48)), (Fraction(8, 9), (64, 54)), (Fraction(2), (128, 48))],
)
def test_a_video_of_pixels_that_are_not_square_is_not_squeezed(
    tmp_path, suffix, pixel_aspect, size_wh
):
    picture = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    cv2.circle(picture, (size_wh[0] // 2, 24), 15, (200, 200, 200), -1)
    squeezed = cv2.resize(picture, (64, 48), interpolation=cv2.INTER_AREA)
    path = tmp_path / f"clip.{suffix}"
    encode_video(path, "mpeg4", "yuv420p", [squeezed] * 3, pixel_aspect)
    with open_media(path) as media:
        assert (media.width, media.height) == size_wh
        image = next(iter(media)).image_bgr
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - picture).mean() < 5


def test_pixels_are_made_square_before_a_video_is_turned(tmp_path):
    plain = encode_video(tmp_path / "a.mp4", "mpeg4", "yuv420p", grey_frames(3), Fraction(4, 3))
    with open_media(turned_video(plain, (0, 1, -1, 0))) as media:
        assert (media.width, media.height) == (48, 85)


@pytest.mark.parametrize("pixel_aspect", [Fraction(5), Fraction(1, 5), Fraction(255, 254)])
def test_pixels_of_an_absurd_shape_and_nearly_square_ones_are_kept(tmp_path, pixel_aspect):
    path = tmp_path / "clip.mp4"
    encode_video(path, "mpeg4", "yuv420p", grey_frames(3), pixel_aspect)
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == pixel_aspect
    with open_media(path) as media:
        assert (media.width, media.height) == (64, 48)


def test_cut_video_gives_what_is_there(tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(20)]
    whole = write_video(tmp_path / "whole.avi", noise, "MJPG")
    cut = tmp_path / "cut.avi"
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    with open_media(cut) as media:
        count = len(list(media))
    assert 5 <= count <= 15


def video_with_broken_frames(path, count, broken):
    """An AVI of JPEGs, some of which are none."""
    content = bytearray(write_video(path, grey_frames(count), "MJPG").read_bytes())
    at = content.index(b"movi")
    for index in range(count):
        at = content.index(b"00dc", at)
        (size,) = struct.unpack_from("<I", content, at + 4)
        if index in broken:
            content[at + 8 : at + 8 + size] = b"\x55" * size
        at += 8 + size
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("broken", "read"),
    [
        ([2, 3, 5, 6, 8, 9], [0, 1, 4, 7, 10, 11]),
        ([2, 3, 4], [0, 1, 5, 6, 7, 8, 9, 10, 11]),
        ([2, 3, 4, 5, 6], [0, 1]),
    ],
)
def test_a_video_is_given_up_after_so_many_unreadable_frames_in_a_row(
    tmp_path, monkeypatch, broken, read
):
    monkeypatch.setattr(media_module, "MAX_BROKEN_FRAMES", 3)
    with open_media(video_with_broken_frames(tmp_path / "clip.avi", 12, broken)) as media:
        assert numbers_of(media) == read


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "2024-05-01T12:30:05.mp4", grey_frames(3))
    with open_media("2024-05-01T12:30:05.mp4") as media:
        assert media.source == "2024-05-01T12:30:05.mp4"
        assert numbers_of(media) == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"no video", b"\0" * 5000])
def test_unreadable_video_is_an_error(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"broken\.mp4"):
        open_media(path)


def test_video_without_frames_is_an_error(tmp_path):
    whole = write_video(tmp_path / "whole.avi", grey_frames(3), "MJPG").read_bytes()
    path = tmp_path / "headers.avi"
    path.write_bytes(whole[: whole.index(b"movi") + 4])
    with pytest.raises(MediaError, match=r"headers\.avi"):
        open_media(path)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (31, 17), (31, 17, 4)])
def test_image_of_any_size_and_channels(tmp_path, shape):
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.full(shape, 90, np.uint8))
    with open_media(path) as media:
        assert (media.kind, media.frame_count, media.fps) == ("image", 1, None)
        (frame,) = media
    assert frame.image_bgr.shape == (*shape[:2], 3)
    assert (frame.name, frame.stamp_ns) == ("picture.png", 0)
    assert (frame.image_bgr == 90).all()


def test_large_image(tmp_path):
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), np.zeros((6000, 8000), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert read_image(path).shape == (6000, 8000, 3)


def test_folder_is_read_in_natural_order_and_leaves_out_what_is_broken(tmp_path):
    for name, level in (("img10.png", 25), ("img2.PNG", 15), ("img1.jpg", 5)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), level, np.uint8))
    (tmp_path / "img3.png").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "sub.png").mkdir()
    names = ["img1.jpg", "img2.PNG", "img3.png", "img10.png"]
    assert [path.name for path in image_paths(tmp_path)] == names
    with open_media(tmp_path) as media:
        assert (media.kind, media.frame_count) == ("folder", 4)
        frames = list(media)
    assert [frame.name for frame in frames] == ["img1.jpg", "img2.PNG", "img10.png"]
    assert numbers_of(frames) == [0, 1, 2]
    # The broken image keeps its place in time.
    assert [frame.stamp_ns for frame in frames] == [0, 10**9, 3 * 10**9]
    assert media.skipped == 1


@pytest.mark.parametrize(
    ("beside", "taken_for_bag"),
    [
        ([], True),
        (["a.png"], False),
        (["a.png", "a_0.mcap"], True),
        (["a.png", "a.db3.zstd"], True),
    ],
)
def test_a_folder_of_images_may_have_metadata_of_its_own(tmp_path, beside, taken_for_bag):
    for name in ("metadata.yaml", *beside):
        (tmp_path / name).touch()
    assert is_bag(tmp_path) == taken_for_bag


def test_an_image_file_beyond_all_bounds_is_an_error_and_a_folder_goes_on(tmp_path):
    huge = tmp_path / "b.jpg"
    with huge.open("wb") as stream:
        stream.truncate(40 << 30)
    with pytest.raises(ImageError, match=r"b\.jpg: larger than \d+ bytes.*scale"):
        read_image(huge)
    for name in ("a.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    with open_media(tmp_path) as media:
        assert [frame.name for frame in media] == ["a.png", "c.png"]
        assert media.skipped == 1


def test_digits_that_are_no_numbers_have_their_place_in_a_folder(tmp_path):
    names = ["1.png", "1²2.png", "1²10.png", "2.png", "²1.png", "٣.png"]
    for name in reversed(names):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    assert [path.name for path in image_paths(tmp_path)] == names


def test_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(MediaError, match="no images"):
        open_media(tmp_path)
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(MediaError, match="no readable image"):
        open_media(tmp_path)


@pytest.mark.parametrize("content", [b"", b"broken"])
def test_broken_image_is_an_error(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png"):
        open_media(path)


@pytest.mark.parametrize("source", ["", "/nowhere/clip.mp4", "x" * 5000])
def test_nothing_there_is_an_error(source):
    with pytest.raises(MediaError):
        open_media(source)


@pytest.mark.parametrize(
    "source",
    ["0", "12", "/dev/video3"]
    + [f"{name}://camera/a?b=ü:1" for name in ("rtsp", "rtsps", "http", "https", "udp")],
)
def test_cameras_are_recognised(source):
    assert is_camera(source)


@pytest.mark.parametrize("source", ["clip.mp4", "/dev/null", "0.mp4", "1234567", "", "a:b.mp4"])
def test_other_sources_are_no_cameras(source):
    assert not is_camera(source)
    assert not is_bag(source)


def test_an_address_that_is_not_utf8_is_an_error_as_opencv_would_crash():
    with pytest.raises(MediaError, match="no such"):
        open_media("rtsp://camera/\udcfc")


def test_absent_camera_is_an_error():
    with pytest.raises(MediaError, match="no such camera"):
        open_media("97")


def test_an_address_where_nothing_answers_is_told_as_one():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/video"
    with pytest.raises(MediaError, match=f"{address}: no video stream: nothing answers"):
        open_media(address)


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(media_module, "_CAMERA_TIMEOUT_MS", 300)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/video"
        begun_s = time.monotonic()
        with pytest.raises(MediaError, match="nothing answers"):
            open_media(address)
        assert time.monotonic() - begun_s < 10  # OpenCV's own limit is 30 seconds


def test_a_topic_of_what_is_no_bag_is_an_error(tmp_path):
    video = str(write_video(tmp_path / "seen.avi", grey_frames(3), "MJPG"))
    for source in (video, str(tmp_path), "97"):
        with pytest.raises(MediaError, match=f"{source}: is no bag, so it has no topic /camera"):
            open_media(source, topic="/camera")
    with pytest.raises(MediaError, match="no such file"):
        open_media(tmp_path / "none.mcap", topic="/camera")


def test_camera_is_opened_again_when_it_fails(tmp_path, monkeypatch, caplog):
    # A file as a camera "fails" at its end, and is there again when opened.
    monkeypatch.setattr(media_module, "CAMERA_RETRY_S", 0.01)
    path = write_video(tmp_path / "camera.avi", grey_frames(3), "MJPG")
    frames, held = [], []
    started_ns = time.time_ns()
    camera = Camera(str(path))

    def open_again():
        held.append(camera._capture.isOpened())  # what is held by anybody cannot be opened
        return cv2.VideoCapture(str(path))

    monkeypatch.setattr(camera, "_open", open_again)
    with camera:
        for frame in camera:
            frames.append(frame)
            if len(frames) == 8:
                camera.close()
    assert numbers_of(frames) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert camera.skipped == 2
    assert held == [False] * 2
    told = ["again" if "gives images again" in line else "none" for line in caplog.messages]
    assert told == ["none", "again"] * 2
    stamps = [frame.stamp_ns for frame in frames]
    assert started_ns <= stamps[0]
    assert stamps == sorted(stamps)


def test_a_camera_that_is_gone_for_good_can_be_stopped_and_is_told_once(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(media_module, "CAMERA_RETRY_S", 0.01)
    path = write_video(tmp_path / "camera.avi", grey_frames(3), "MJPG")
    stop = threading.Event()
    frames = []
    with Camera(str(path), stop) as camera:
        monkeypatch.setattr(camera, "_open", cv2.VideoCapture)  # opens nothing
        reader = threading.Thread(target=lambda: frames.extend(camera), daemon=True)
        reader.start()
        while camera.skipped < 5:
            time.sleep(0.005)
        stop.set()
        reader.join(10)
        assert not reader.is_alive()
    assert len(frames) == 3
    assert sum("gives no image" in line for line in caplog.messages) == 1
