import contextlib
import itertools
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.errors import ConfigError, MediaError
from tddfa_ros.nodes import media_source
from tddfa_ros.nodes.media_source import MAX_AHEAD, MOST_AHEAD, MediaSource, _Answers, _Pace
from tddfa_ros.nodes.raw_image import ImageHeader, decode_image, encode_image
from tddfa_ros.nodes.spinning import SpinningThread

FPS = 25
PERIOD_NS = 40_000_000
COUNT = 10


class Listener:
    """Receives what a media source publishes, in a thread."""

    def __init__(self, name="listener", namespace="", **qos):
        self.node = rclpy.create_node(name, namespace=namespace)
        self.images, self.infos, self.times_s = [], [], []
        self.node.create_subscription(
            Image, "/image", self._on_image, QoSProfile(depth=50, **qos), raw=True
        )
        self.node.create_subscription(CameraInfo, "camera_info", self.infos.append, 50)
        self.thread = SpinningThread(self.node, "listener")
        self.thread.start()

    def _on_image(self, data):
        self.times_s.append(time.monotonic())
        self.images.append(data)

    @property
    def stamps_ns(self):
        return [decode_image(data)[0].stamp_ns for data in self.images]

    def heard_infos(self, count):
        """Wait for as many, and return all."""
        deadline = time.monotonic() + 5
        while len(self.infos) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return list(self.infos)

    def close(self):
        self.thread.end()
        self.node.destroy_node()


@pytest.fixture
def play(ros):
    """Play with some parameters to the end; returns what was received."""
    opened = []

    def start(stop_when=None, **parameters):
        listener = Listener()
        opened.append(listener)
        values = {"wait_for_subscribers": 1} | parameters
        source = MediaSource(
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
        )
        opened.append(source)
        listener.thread._executor.add_node(source)
        stop = threading.Event()
        if stop_when is not None:

            def watch():
                while not stop_when(listener):
                    time.sleep(0.005)
                stop.set()

            threading.Thread(target=watch, daemon=True).start()
        assert source.run(stop) == 0
        deadline = time.monotonic() + 10
        while len(listener.images) < source.sent and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(listener.images) == source.sent
        return listener

    yield start
    for node in opened:
        node.close()


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (64, 48))
    for number in range(COUNT):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    return str(path)


def test_video_is_played_with_its_stamps_and_at_its_pace(play, video):
    heard = play(input=video, frame_id="left")
    assert heard.stamps_ns == [number * PERIOD_NS for number in range(COUNT)]
    for number, data in enumerate(heard.images):
        header, image = decode_image(data)
        assert header.frame_id == "left"
        assert image.shape == (48, 64, 3)
        assert abs(image.mean() - 10 * number) < 3
    assert heard.times_s[-1] - heard.times_s[0] >= 0.9 * (COUNT - 1) / FPS


def test_camera_info_goes_with_every_image(play, video):
    heard = play(input=video, rate_hz=500.0)
    assert len(heard.infos) == COUNT
    for info, stamp_ns in zip(heard.infos, heard.stamps_ns, strict=True):
        assert info.header.stamp.sec * 10**9 + info.header.stamp.nanosec == stamp_ns
        assert info.header.frame_id == "camera"
        assert (info.height, info.width, info.k[0]) == (48, 64, 0.0)


def test_calibration_file(play, video, tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text(
        "image_width: 64\nimage_height: 48\ndistortion_model: plumb_bob\n"
        "camera_matrix: {data: [70, 0, 32, 0, 71, 24, 0, 0, 1]}\n"
    )
    heard = play(input=video, rate_hz=500.0, camera_info_file=str(path))
    assert {info.k[0] for info in heard.infos} == {70.0}


def test_rate_changes_the_pace_and_not_the_stamps(play, video):
    heard = play(input=video, rate_hz=200.0)
    assert heard.stamps_ns == [number * PERIOD_NS for number in range(COUNT)]
    assert heard.times_s[-1] - heard.times_s[0] >= 0.9 * (COUNT - 1) / 200


def test_start_and_end(play, video):
    heard = play(input=video, rate_hz=500.0, start_s=0.08, end_s=0.2)
    assert heard.stamps_ns == [number * PERIOD_NS for number in range(2, 6)]


def test_another_rate_is_heeded_though_the_next_image_is_not_due(ros, video):
    listener = Listener()
    values = {"input": video, "rate_hz": 0.01, "wait_for_subscribers": 1}
    source = MediaSource(
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
    )
    playing = threading.Thread(target=source.run, args=(stop := threading.Event(),))
    playing.start()
    try:
        deadline = time.monotonic() + 20
        while not listener.images and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)
        assert len(listener.images) == 1
        source.set_parameters([Parameter("rate_hz", value=200.0)])
        playing.join(20)
        assert not playing.is_alive()
        assert listener.stamps_ns == [number * PERIOD_NS for number in range(COUNT)]
    finally:
        stop.set()
        playing.join(20)
        listener.close()
        source.close()


def test_looping_stamps_go_on(play, video):
    heard = play(lambda h: len(h.images) >= 3 * COUNT, input=video, rate_hz=500.0, loop=True)
    stamps = heard.stamps_ns[: 3 * COUNT]
    assert {b - a for a, b in itertools.pairwise(stamps)} == {PERIOD_NS}


def test_each_round_of_a_loop_keeps_the_pace_of_the_video(play, video):
    heard = play(lambda h: len(h.images) >= 2 * COUNT, input=video, loop=True)
    for first in (0, COUNT):
        taken_s = heard.times_s[first + COUNT - 1] - heard.times_s[first]
        assert taken_s >= 0.8 * (COUNT - 1) / FPS


def test_a_loop_ends_with_the_round_in_which_it_is_said(ros, video):
    values = {"input": video, "rate_hz": 100.0, "loop": True}
    source = MediaSource(parameter_overrides=[Parameter(k, value=v) for k, v in values.items()])
    playing = threading.Thread(target=source.run, args=(stop := threading.Event(),))
    playing.start()
    while source.sent < COUNT + 2:
        time.sleep(0.005)
    source.set_parameters([Parameter("loop", value=False)])
    playing.join(20)
    ended, sent = not playing.is_alive(), source.sent
    stop.set()
    playing.join(20)
    source.close()
    assert ended
    assert sent % COUNT == 0


def test_looping_part_goes_on_without_a_gap(play, video):
    heard = play(
        lambda h: len(h.images) >= 9,
        input=video,
        rate_hz=500.0,
        loop=True,
        start_s=0.04,
        end_s=0.12,
    )
    levels = [round(decode_image(data)[1].mean() / 10) for data in heard.images[:9]]
    assert levels == [1, 2, 3] * 3
    assert {b - a for a, b in itertools.pairwise(heard.stamps_ns[:9])} == {PERIOD_NS}


def test_image_and_folder(play, tmp_path):
    for number in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((4, 6), 10 * number, np.uint8))
    heard = play(input=str(tmp_path / "10.png"))
    assert heard.stamps_ns == [0]
    heard = play(input=str(tmp_path), rate_hz=100.0)
    assert [int(decode_image(data)[1][0, 0, 0]) for data in heard.images] == [10, 20, 100]
    assert heard.stamps_ns == [0, 10**9, 2 * 10**9]


def test_looping_image_keeps_to_the_rate(play, tmp_path):
    cv2.imwrite(str(tmp_path / "still.png"), np.full((4, 6), 50, np.uint8))
    heard = play(
        lambda h: len(h.images) >= 11, input=str(tmp_path / "still.png"), rate_hz=50.0, loop=True
    )
    assert {b - a for a, b in itertools.pairwise(heard.stamps_ns)} == {20_000_000}
    assert heard.times_s[10] - heard.times_s[0] >= 0.9 * 10 / 50


def test_what_is_left_out_is_said_once_however_often_it_is_played(play, tmp_path, caplog):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in (2, 3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((4, 6), 10 * number, np.uint8))
    for number in (1, 4):
        (folder / f"{number}.png").write_bytes(b"broken")
    play(lambda h: len(h.images) >= 6, input=str(folder), rate_hz=100.0, loop=True)
    told = [line for line in caplog.messages if "left out" in line]
    assert len(told) == 2
    assert "1.png" in told[0]
    assert "4.png" in told[1]


def test_a_cut_video_is_said_to_be_so_once(play, video, tmp_path, caplog):
    whole = Path(video).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: whole.rindex(b"00dc", 0, whole.index(b"idx1"))])
    play(lambda h: len(h.images) >= 3 * COUNT, input=str(cut), rate_hz=500.0, loop=True)
    told = [line for line in caplog.messages if "left out" in line]
    assert len(told) == len(set(told)) > 0


def test_what_is_broken_in_a_bag_is_said_once(play, tmp_path, capfd, caplog):
    good = CompressedImage(header=bag_header(1).message(), format="png")
    good.data = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    empty = CompressedImage(header=bag_header(0).message(), format="png")
    broken = CompressedImage(header=bag_header(2).message(), format="png", data=b"broken")
    topic = ("/cam/compressed", CompressedImage, [empty, good, broken])
    bag = write_bag(tmp_path / "bag", topic)
    play(lambda h: len(h.images) >= 4, input=bag, rate_hz=100.0, loop=True)
    # What lies before the first image is met when the bag is opened, the rest by the node.
    told = [*caplog.messages, *capfd.readouterr().err.splitlines()]
    told = [line for line in told if "left out" in line]
    assert len(told) == 2
    assert "empty" in told[0]
    assert "empty" not in told[1]


def test_nothing_between_start_and_end_is_an_error(play, video):
    with pytest.raises(MediaError, match="no image between start_s=5 and end_s=0"):
        play(input=video, start_s=5.0)


def test_a_stop_while_the_beginning_is_passed_over(ros, video, monkeypatch):
    read = []
    frames = MediaSource._from_frames

    def counted(*arguments):
        for item in frames(*arguments):
            read.append(item)
            yield item

    monkeypatch.setattr(MediaSource, "_from_frames", counted)
    values = {"input": video, "start_s": 1e6}
    source = MediaSource(parameter_overrides=[Parameter(k, value=v) for k, v in values.items()])
    stop = threading.Event()
    stop.set()
    assert source.run(stop) == 0
    assert len(read) == 1
    source.close()


def test_missing_input_and_calibration_are_errors(play, video, tmp_path):
    with pytest.raises(MediaError, match="absent"):
        play(input=str(tmp_path / "absent.mp4"))
    with pytest.raises(ConfigError, match="absent"):
        play(input=video, camera_info_file=str(tmp_path / "absent.yaml"))


def test_named_nodes_are_waited_for(ros, video):
    """Not any who subscribe, nor one of that name who cannot be served: all get the first image."""
    opened = [Listener("viewer"), Listener("eyes", durability=DurabilityPolicy.TRANSIENT_LOCAL)]
    values = {"input": video, "wait_for_nodes": "eyes, /there/ears"}
    source = MediaSource(
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
    )
    opened.append(source)
    playing = threading.Thread(target=source.run, args=(stop := threading.Event(),))
    playing.start()
    try:
        for name in ("/eyes", "/there/ears"):
            time.sleep(0.5)
            assert source.sent == 0
            opened.append(Listener(name.rpartition("/")[2], namespace=name.rpartition("/")[0]))
        playing.join(20)
        assert [len(node.images) for node in (opened[0], *opened[-2:])] == [COUNT] * 3
        assert opened[1].images == []
    finally:
        stop.set()
        playing.join(20)
        for node in opened:
            node.close()


@contextlib.contextmanager
def answering(video):
    """Play at the answered pace: gives a function that answers all images.

    It answers one image after the other, whenever so many are under way and no more.
    """
    listener = Listener()
    values = {"input": video, "pace": "answered", "wait_for_subscribers": 1}
    source = MediaSource(
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
    )
    listener.thread._executor.add_node(source)
    answers = listener.node.create_publisher(FaceArray, "faces", 10)
    stop = threading.Event()
    playing = threading.Thread(target=source.run, args=(stop,))
    playing.start()

    def answer_all(ahead, timeout_s):
        deadline = time.monotonic() + timeout_s
        for answered in range(COUNT - ahead):
            while len(listener.images) < answered + ahead:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            time.sleep(0.05)
            assert len(listener.images) == answered + ahead
            answers.publish(FaceArray())
        playing.join(20)
        assert len(listener.images) == COUNT

    try:
        yield answer_all
    finally:
        stop.set()
        playing.join(20)
        listener.close()
        source.close()


def test_answered_pace_is_never_more_than_a_few_ahead(ros, video):
    with answering(video) as answer_all:
        answer_all(MAX_AHEAD, timeout_s=20)


def test_late_answers_hold_up_the_answered_pace_once(ros, video, monkeypatch, capfd):
    """As those of a smoothing window, which waits for later images."""
    monkeypatch.setattr(media_source, "ANSWER_TIMEOUT_S", 2.0)
    with answering(video) as answer_all:
        answer_all(7, timeout_s=6)
        (told,) = [line for line in capfd.readouterr().err.splitlines() if "no answer on" in line]
        assert "'window'" in told


def test_more_answers_than_images_allow_no_more_ahead():
    answers = _Answers()
    for _ in range(3):
        for _ in range(MAX_AHEAD):
            assert answers.admit(0.0)
        assert not answers.admit(0.0)
        for _ in range(5 * MAX_AHEAD):
            answers.add()


def test_who_answers_again_is_given_time_again():
    answers = _Answers()
    answers.give_up_one()
    assert answers.overdue
    answers.add()
    assert not answers.overdue


def test_images_that_are_never_answered_allow_more_ahead_up_to_a_limit():
    answers = _Answers()
    sent = 0
    for _ in range(2 * MOST_AHEAD):
        sent += answers.admit(0.0)
        answers.give_up_one()
    assert answers.allowed == MOST_AHEAD
    while answers.admit(0.0):
        sent += 1
    for _ in range(MOST_AHEAD):
        answers.add()
    assert sum(answers.admit(0.0) for _ in range(2 * MOST_AHEAD)) == MOST_AHEAD


TYPES = get_typestore(Stores.ROS2_JAZZY)


def write_bag(path, *topics):
    """`topics`: (name, ROS message class, messages), one of each every 20 ms; None is a gap.

    A CameraInfo comes just before the image of its number.
    """
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for name, kind, messages in topics:
            msgtype = f"sensor_msgs/msg/{kind.__name__}"
            connection = writer.add_connection(name, msgtype, typestore=TYPES)
            for number, message in enumerate(messages):
                if message is None:
                    continue
                data = message if isinstance(message, bytes) else serialize_message(message)
                received_ns = 10**18 + number * 20_000_000 - (kind is CameraInfo)
                writer.write(connection, received_ns, data)
    return str(path)


def bag_header(number):
    return ImageHeader(1_700_000_000, number * 20_000_000, "optical")


def test_images_of_a_bag_are_passed_on_byte_by_byte(play, tmp_path):
    bayer = np.arange(64, dtype=np.uint8).reshape(8, 8)
    images = [
        encode_image(bayer + number, bag_header(number), "bayer_rggb8", channels=1)
        for number in range(5)
    ]
    infos = []
    for number in range(5):
        infos.append(CameraInfo(header=bag_header(number).message(), height=8, width=8))
        infos[-1].k[0] = 50.0 + number
    bag = write_bag(
        tmp_path / "bag", ("/cam/image", Image, images), ("/cam/camera_info", CameraInfo, infos)
    )
    heard = play(input=bag)
    assert heard.images == images
    assert [info.k[0] for info in heard.heard_infos(5)] == [50, 51, 52, 53, 54]
    assert heard.times_s[-1] - heard.times_s[0] >= 0.07


def test_of_a_bag_with_camera_info_images_that_nobody_can_read_are_left_out(play, tmp_path, capfd):
    """Nobody would answer them: with pace answered each would be waited for."""
    good = encode_image(np.zeros((8, 8, 3), np.uint8), bag_header(0))
    unknown = encode_image(np.zeros((8, 8), np.uint8), bag_header(1), "nv99", channels=1)
    short = Image(header=bag_header(2).message(), height=8, width=8, encoding="bgr8", step=24)
    images = [good, unknown, short, b"damaged", short, unknown, good]
    infos = [CameraInfo(header=bag_header(0).message(), height=8, width=8)]
    bag = write_bag(
        tmp_path / "bag", ("/cam/image", Image, images), ("/cam/camera_info", CameraInfo, infos)
    )
    heard = play(input=bag)
    assert heard.images == [good, good]
    told = [line for line in capfd.readouterr().err.splitlines() if "left out" in line]
    assert len(told) == 3


def bag_with_infos(path, focal_lengths_px):
    """A bag of one image for each focal length, which is None where no CameraInfo comes."""
    images, infos = [], []
    for number, focal_px in enumerate(focal_lengths_px):
        images.append(encode_image(np.zeros((8, 8, 3), np.uint8), bag_header(number)))
        info = CameraInfo(height=8, width=8, distortion_model="plumb_bob")
        info.header.frame_id = "lens"
        info.k[0] = focal_px or 0.0
        infos.append(None if focal_px is None else info)
    topics = ("/cam/image", Image, images), ("/cam/camera_info", CameraInfo, infos)
    return write_bag(path, *topics)


@pytest.mark.parametrize(
    ("focal_lengths_px", "start_s", "sent_px"),
    [
        ([50.0, None, None, None], 0.0, [50.0, 50.0, 50.0, 50.0]),
        ([50.0, None, None, None], 0.03, [50.0, 50.0]),
        ([None, None, 50.0, None], 0.0, [50.0, 50.0, 50.0, 50.0]),
        ([50.0, None, 60.0, None], 0.0, [50.0, 50.0, 60.0, 60.0]),
        ([50.0, None, 60.0, None], 0.05, [60.0]),
    ],
)
def test_each_image_of_a_bag_has_the_newest_camera_info(
    play, tmp_path, focal_lengths_px, start_s, sent_px
):
    heard = play(input=bag_with_infos(tmp_path / "bag", focal_lengths_px), start_s=start_s)
    infos = heard.heard_infos(len(sent_px))
    assert [info.k[0] for info in infos] == sent_px
    stamps = [info.header.stamp for info in infos]
    first = len(focal_lengths_px) - len(sent_px)
    for number, (info, stamp) in enumerate(zip(infos, stamps, strict=True), first):
        own = focal_lengths_px[number] is not None  # which is passed on as it is
        expected = (0, 0, "lens") if own else (1_700_000_000, number * 20_000_000, "optical")
        assert (stamp.sec, stamp.nanosec, info.header.frame_id) == expected
        assert info.distortion_model == "plumb_bob"


def test_a_calibration_file_stands_above_that_of_a_bag(play, tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text(
        "image_width: 8\nimage_height: 8\ndistortion_model: plumb_bob\n"
        "camera_matrix: {data: [70, 0, 4, 0, 71, 4, 0, 0, 1]}\n"
    )
    bag = bag_with_infos(tmp_path / "bag", [50.0, None, 60.0])
    heard = play(input=bag, camera_info_file=str(path))
    infos = heard.heard_infos(3)
    assert [info.k[0] for info in infos] == [70.0] * 3
    stamps_ns = [info.header.stamp.sec * 10**9 + info.header.stamp.nanosec for info in infos]
    assert stamps_ns == heard.stamps_ns


def test_a_looping_bag_begins_again_with_its_first_camera_info(play, tmp_path):
    bag = bag_with_infos(tmp_path / "bag", [None, 50.0, 60.0])
    heard = play(lambda h: len(h.infos) >= 6, input=bag, rate_hz=200.0, loop=True)
    assert [info.k[0] for info in heard.infos[:6]] == [50, 50, 60] * 2


@pytest.mark.parametrize("infos", [[], [b"damaged"]])
def test_a_bag_without_a_readable_camera_info_is_not_calibrated(play, tmp_path, infos, capfd):
    images = [encode_image(np.zeros((8, 8, 3), np.uint8), bag_header(n)) for n in range(2)]
    topics = ("/cam/image", Image, images), ("/cam/camera_info", CameraInfo, infos)
    heard = play(input=write_bag(tmp_path / "bag", *topics))
    assert heard.images == images
    assert [(info.width, info.k[0]) for info in heard.heard_infos(2)] == [(8, 0.0)] * 2
    told = [line for line in capfd.readouterr().err.splitlines() if "left out" in line]
    assert ["/cam/camera_info" in line for line in told] == [True] * len(infos)


def test_compressed_images_of_a_bag_are_decoded(play, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    message = CompressedImage(header=bag_header(3).message(), format="png")
    message.data = cv2.imencode(".png", pixels)[1].tobytes()
    broken = CompressedImage(header=bag_header(4).message(), format="png")
    topic = ("/cam/compressed", CompressedImage, [message, broken])
    heard = play(input=write_bag(tmp_path / "bag", topic))
    (data,) = heard.images
    header, image = decode_image(data)
    assert header == bag_header(3)
    np.testing.assert_array_equal(image, pixels)
    assert [info.height for info in heard.infos] == [8]


def test_a_looping_bag_jumps_back_in_time(play, tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    images = [encode_image(pixels, bag_header(number)) for number in range(3)]
    bag = write_bag(tmp_path / "bag", ("/cam", Image, images))
    heard = play(lambda h: len(h.images) >= 6, input=bag, rate_hz=200.0, loop=True)
    assert heard.images[:6] == images * 2


def test_pace_does_not_rush_after_a_pause(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = _Pace()
    waits = []
    for number in range(6):
        waits.append(pace.seconds_until(number * 100_000_000, 0.0))
        now[0] += waits[-1] + (5.0 if number == 2 else 0.0)
    np.testing.assert_allclose(waits, [0, 0.1, 0.1, 0, 0.1, 0.1], atol=1e-9)


def test_another_rate_holds_from_the_next_image_on(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = _Pace()
    waits = []
    for rate_hz in (10.0, 10.0, 10.0, 2.0, 2.0, 20.0, 20.0, 0.0, 0.0):
        waits.append(pace.seconds_until(len(waits) * 40_000_000, rate_hz))
        now[0] += waits[-1]
    np.testing.assert_allclose(waits, [0, 0.1, 0.1, 0, 0.5, 0, 0.05, 0, 0.04], atol=1e-9)


def test_a_camera_is_thinned_out_to_a_lower_rate():
    pace = _Pace()
    start_ns = 1_700_000_000 * 10**9
    admitted = [pace.admits(start_ns + number * 33_333_333, 10.0) for number in range(300)]
    assert admitted[0]
    assert sum(admitted) == pytest.approx(100, abs=2)


def test_a_camera_goes_on_after_a_lower_rate_and_when_the_clock_is_set_back():
    pace = _Pace()
    hour_ns = 3600 * 10**9
    times_ns = [500 * hour_ns + number * 33_333_333 for number in range(300)]
    assert sum(pace.admits(at_ns, 0.001) for at_ns in times_ns[:30]) == 1
    assert sum(pace.admits(at_ns, 10.0) for at_ns in times_ns) == pytest.approx(100, abs=2)
    back = [pace.admits(at_ns - hour_ns, 10.0) for at_ns in times_ns]
    assert sum(back) == pytest.approx(100, abs=2)
