import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from tddfa_ros.core.bag import CAMERA_INFO_TYPE, COMPRESSED_TYPE, IMAGE_TYPE, ImageBag
from tddfa_ros.core.errors import MediaError
from tddfa_ros.core.media import open_media

TYPES = get_typestore(Stores.ROS2_JAZZY)
HEIGHT, WIDTH = 12, 16
FIRST_STAMP_NS = 1_700_000_000_123_456_789
PERIOD_NS = 33_333_333


def header(index):
    time_type = TYPES.types["builtin_interfaces/msg/Time"]
    stamp = time_type(*divmod(FIRST_STAMP_NS + index * PERIOD_NS, 10**9))
    return TYPES.types["std_msgs/msg/Header"](stamp=stamp, frame_id="optical")


def image(index, encoding="bgr8", channels=3):
    return TYPES.types[IMAGE_TYPE](
        header=header(index),
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        is_bigendian=0,
        step=WIDTH * channels,
        data=np.full(HEIGHT * WIDTH * channels, 10 * index, np.uint8),
    )


def compressed(index):
    pixels = np.full((HEIGHT, WIDTH, 3), 10 * index, np.uint8)
    data = cv2.imencode(".png", pixels)[1].reshape(-1)
    return TYPES.types[COMPRESSED_TYPE](header=header(index), format="png", data=data)


def write_bag(path, plugin, topics):
    """`topics`: (name, type, messages), one message of each a period."""
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        for name, msgtype, messages in topics:
            connection = writer.add_connection(name, msgtype, typestore=TYPES)
            for index, message in enumerate(messages):
                received_ns = FIRST_STAMP_NS + index * PERIOD_NS + 1000
                data = (
                    message if isinstance(message, bytes) else TYPES.serialize_cdr(message, msgtype)
                )
                writer.write(connection, received_ns, data)
    return path


@pytest.fixture(params=[StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
def plugin(request):
    return request.param


@pytest.mark.parametrize("as_file", [False, True], ids=["folder", "file"])
@pytest.mark.parametrize(("msgtype", "make"), [(IMAGE_TYPE, image), (COMPRESSED_TYPE, compressed)])
def test_images_come_with_stamps_and_frame(tmp_path, plugin, msgtype, make, as_file):
    path = write_bag(tmp_path / "bag", plugin, [("/cam", msgtype, [make(i) for i in range(5)])])
    if as_file:
        (path,) = [p for p in path.iterdir() if p.suffix in (".mcap", ".db3")]
    with open_media(path) as media:
        assert (media.kind, media.frame_count, media.width) == ("bag", 5, WIDTH)
        frames = list(media)
    assert [frame.stamp_ns for frame in frames] == [
        FIRST_STAMP_NS + i * PERIOD_NS for i in range(5)
    ]
    assert {frame.frame_id for frame in frames} == {"optical"}
    for index, frame in enumerate(frames):
        assert (frame.image_bgr == 10 * index).all()


def test_topic_is_chosen_or_the_first(tmp_path, plugin):
    topics = [("/b", IMAGE_TYPE, [image(1)]), ("/a", COMPRESSED_TYPE, [compressed(2)])]
    path = write_bag(tmp_path / "bag", plugin, topics)
    assert ImageBag(path).image_topic == "/a"
    assert ImageBag(path, "/b").image_topic == "/b"
    with pytest.raises(MediaError, match="no image topic '/c'; image topics: /a, /b"):
        ImageBag(path, "/c")


def test_camera_info_beside_the_images(tmp_path, plugin):
    topics = [
        ("/cam/image_raw", IMAGE_TYPE, [image(1)]),
        ("/other/camera_info", CAMERA_INFO_TYPE, []),
    ]
    path = write_bag(tmp_path / "without", plugin, topics)
    assert ImageBag(path).camera_info_topic() == ""
    topics.append(("/cam/camera_info", CAMERA_INFO_TYPE, []))
    path = write_bag(tmp_path / "with", plugin, topics)
    assert ImageBag(path).camera_info_topic() == "/cam/camera_info"


def test_damaged_messages_are_left_out(tmp_path, plugin):
    good = TYPES.serialize_cdr(image(1), IMAGE_TYPE).tobytes()
    wrong_step = image(2)
    wrong_step.step = 1
    messages = [image(0), good[:30], b"", wrong_step, image(3, "purple"), image(4)]
    path = write_bag(tmp_path / "bag", plugin, [("/cam", IMAGE_TYPE, messages)])
    with open_media(path) as media:
        frames = list(media)
    assert [int(frame.image_bgr[0, 0, 0]) for frame in frames] == [0, 40]
    assert media.skipped == 4


def test_bag_without_images_is_an_error(tmp_path, plugin):
    path = write_bag(tmp_path / "bag", plugin, [("/cam", IMAGE_TYPE, [])])
    with pytest.raises(MediaError, match="holds no images"):
        open_media(path)


@pytest.mark.parametrize("keep", [0, 0.5, 0.95])
def test_cut_bag_is_a_clear_error_or_gives_what_is_there(tmp_path, plugin, keep):
    messages = [image(i) for i in range(20)]
    whole = write_bag(tmp_path / "bag", plugin, [("/cam", IMAGE_TYPE, messages)])
    (file,) = [p for p in whole.iterdir() if p.suffix in (".mcap", ".db3")]
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])
    for path in (whole, file):
        try:
            with open_media(path) as media:
                frames = list(media)
        except MediaError as error:
            assert str(path) in str(error)
            continue
        assert media.skipped == 1
        levels = [int(frame.image_bgr[0, 0, 0]) for frame in frames]
        assert levels == [10 * i for i in range(len(frames))]


@pytest.mark.parametrize("content", ["", "{}", "rosbag2_bagfile_information: 3", "]["])
def test_nonsense_metadata_is_a_clear_error(tmp_path, content):
    (tmp_path / "metadata.yaml").write_text(content)
    with pytest.raises(MediaError, match="not a readable rosbag2 recording"):
        open_media(tmp_path)
