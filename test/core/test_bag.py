import sqlite3

import cv2
import lz4.frame
import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from tddfa_ros.core.bag import CAMERA_INFO_TYPE, COMPRESSED_TYPE, IMAGE_TYPE, ImageBag
from tddfa_ros.core.errors import MediaError
from tddfa_ros.core.image_message import FACES_TYPE
from tddfa_ros.core.media import open_media

TYPES = get_typestore(Stores.ROS2_JAZZY)
TYPES.register(get_types_from_msg("bool nothing_is_read", FACES_TYPE))
HEIGHT, WIDTH = 12, 16
FIRST_STAMP_NS = 1_700_000_000_123_456_789
PERIOD_NS = 33_333_333
MAGIC = {"zstd": b"\x28\xb5\x2f\xfd", "lz4": b"\x04\x22\x4d\x18"}
COMPRESSIONS = [
    (StoragePlugin.SQLITE3, CompressionMode.MESSAGE, "zstd"),
    (StoragePlugin.MCAP, CompressionMode.MESSAGE, "zstd"),
    (StoragePlugin.MCAP, CompressionMode.STORAGE, "zstd"),
    (StoragePlugin.MCAP, CompressionMode.STORAGE, "lz4"),
]


def header(index):
    return stamped_header(FIRST_STAMP_NS + index * PERIOD_NS)


def stamped_header(stamp_ns):
    stamp = TYPES.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
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


def test_times_of_recording_stand_for_stamps_that_stay_0(tmp_path, plugin, caplog):
    messages = [image(i) for i in range(5)]
    for message in messages[:3]:
        message.header = stamped_header(0)
    path = write_bag(tmp_path / "bag", plugin, [("/cam", IMAGE_TYPE, messages)])
    with open_media(path) as media:
        times_ns = [frame.stamp_ns for frame in media]
    stamps_ns = [FIRST_STAMP_NS + i * PERIOD_NS for i in (3, 4)]
    assert times_ns == [0, PERIOD_NS, 2 * PERIOD_NS, *stamps_ns]
    assert caplog.text.count("the images have no stamp") == 1


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


def test_messages_of_another_type_on_the_topic_are_left_out(tmp_path, plugin):
    text = TYPES.types["std_msgs/msg/String"](data="no image")
    topics = [("/cam", IMAGE_TYPE, [image(0), image(1)]), ("/cam", "std_msgs/msg/String", [text])]
    with open_media(write_bag(tmp_path / "bag", plugin, topics)) as media:
        assert len(list(media)) == 2
        assert media.skipped == 1


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


def write_compressed(path, plugin, mode, compressor):
    """Twelve images, each in a chunk of its own where there are chunks; returns the bag's file."""
    writer = Writer(path, version=9, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        if compressor == "lz4":  # which rosbags reads only, as other recorders write it
            writer.storage.compression, writer.storage.compressor = "lz4", lz4.frame.compress
        connection = writer.add_connection("/cam", IMAGE_TYPE, typestore=TYPES)
        for index in range(12):
            data = TYPES.serialize_cdr(image(index), IMAGE_TYPE)
            writer.write(connection, FIRST_STAMP_NS + index * PERIOD_NS, data)
            if plugin is StoragePlugin.MCAP:
                writer.storage.close_chunk()
    (file,) = [p for p in path.iterdir() if p.name != "metadata.yaml"]
    return file


def damage(file, compressor, image_index=0, images=12):
    """Turn the bits of an image's compressed bytes around."""
    before, *parts = file.read_bytes().split(MAGIC[compressor])
    assert len(parts) == images
    # SQLite fills a page from its end.
    at = images - 1 - image_index if file.suffix == ".db3" else image_index
    parts[at] = bytes(byte ^ 0xFF for byte in parts[at][:40]) + parts[at][40:]
    file.write_bytes(MAGIC[compressor].join([before, *parts]))


@pytest.mark.parametrize(("plugin", "mode", "compressor"), COMPRESSIONS)
def test_of_a_damaged_compressed_bag_the_rest_is_left_out(
    tmp_path, caplog, plugin, mode, compressor
):
    path = tmp_path / "bag"
    file = write_compressed(path, plugin, mode, compressor)
    with open_media(path) as media:
        levels = [int(frame.image_bgr[0, 0, 0]) for frame in media]
    assert levels == [10 * i for i in range(12)]
    damage(file, compressor, 7)
    with open_media(path) as media:
        levels = [int(frame.image_bgr[0, 0, 0]) for frame in media]
    assert levels == [10 * i for i in range(7)]
    assert media.skipped == 1
    assert "left out: the rest:" in caplog.text and "the bag is damaged" in caplog.text


@pytest.mark.parametrize(("plugin", "mode", "compressor"), COMPRESSIONS)
def test_a_compressed_bag_damaged_from_the_first_image_on_is_a_clear_error(
    tmp_path, plugin, mode, compressor
):
    file = write_compressed(tmp_path / "bag", plugin, mode, compressor)
    damage(file, compressor)
    with pytest.raises(MediaError, match="no readable image in this bag"):
        open_media(tmp_path / "bag")


def test_a_damaged_bag_compressed_as_a_whole_is_a_clear_error(tmp_path, plugin):
    file = write_compressed(tmp_path / "bag", plugin, CompressionMode.FILE, "zstd")
    with open_media(tmp_path / "bag") as media:
        assert len(list(media)) == 12
    damage(file, "zstd", images=1)
    with pytest.raises(MediaError, match="not a readable rosbag2 recording"):
        open_media(tmp_path / "bag")


@pytest.mark.parametrize("length", [1 << 62, (1 << 64) - 1], ids=["memory", "overflow"])
def test_a_record_of_impossible_length_is_a_clear_error(tmp_path, length):
    """In MCAP's summary, of the first schema."""
    path = write_bag(tmp_path / "bag", StoragePlugin.MCAP, [("/cam", IMAGE_TYPE, [image(1)])])
    (file,) = path.glob("*.mcap")
    content = bytearray(file.read_bytes())
    summary = int.from_bytes(content[-28:-20], "little")
    assert content[summary] == 3
    content[summary + 1 : summary + 9] = length.to_bytes(8, "little")
    file.write_bytes(content)
    for broken in (path, file):
        with pytest.raises(MediaError, match=r"not a readable rosbag2 recording: \w"):
            open_media(broken)


@pytest.mark.parametrize("profiles", ["3", "[3]", "]["])
def test_nonsense_qualities_of_service_are_a_clear_error(tmp_path, profiles):
    path = write_bag(tmp_path / "bag", StoragePlugin.SQLITE3, [("/cam", IMAGE_TYPE, [image(1)])])
    (file,) = path.glob("*.db3")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE topics SET offered_qos_profiles = ?", [profiles])
    database.close()
    with pytest.raises(MediaError, match="not a readable rosbag2 recording"):
        open_media(file)


def test_without_a_name_the_first_topic_that_shows_a_camera_is_taken(tmp_path, caplog):
    """Depth sorts before colour in the names of common drivers."""
    depth, overlay = [image(9, "16UC1", 2)], [image(8)]
    topics = [
        ("/camera/aligned_depth_to_color/image_raw", IMAGE_TYPE, depth),
        ("/camera/color/faces_again", FACES_TYPE, [b"\0\1\0\0"]),
        ("/camera/color/faces_again/overlay", IMAGE_TYPE, overlay),
        ("/camera/color/faces/overlay", IMAGE_TYPE, overlay),
        ("/camera/color/image_raw", IMAGE_TYPE, [image(1)]),
        ("/camera/color/image_raw/compressed", COMPRESSED_TYPE, [compressed(2)]),
    ]
    path = write_bag(tmp_path / "one", StoragePlugin.MCAP, topics)
    with open_media(path) as media:
        assert media.bag.image_topic == "/camera/color/image_raw"
    assert not caplog.records
    topics.append(("/rear/image_raw", IMAGE_TYPE, [image(3)]))
    path = write_bag(tmp_path / "two", StoragePlugin.MCAP, topics)
    with open_media(path) as media:
        assert media.bag.image_topic == "/camera/color/image_raw"
    assert "/camera/color/image_raw is taken, of several image topics: /rear/" in caplog.text
    with open_media(path, topic="/rear/image_raw") as media:
        assert media.bag.image_topic == "/rear/image_raw"
    path = write_bag(tmp_path / "depth", StoragePlugin.MCAP, topics[:1])
    with open_media(path) as media:
        assert media.bag.image_topic == topics[0][0]


@pytest.mark.parametrize("transport", ["compressedDepth", "theora", "zstd", "Zstd"])
def test_a_compressed_topic_of_another_transport_shows_no_camera(tmp_path, transport):
    camera, other = "/camera/image_raw/compressed", f"/a/image_raw/{transport}"
    topics = [(name, COMPRESSED_TYPE, [compressed(1)]) for name in (camera, other)]
    topics += [("/a/Depth/image", IMAGE_TYPE, [image(1)]), ("/b/zstd", IMAGE_TYPE, [image(1)])]
    with open_media(write_bag(tmp_path / "bag", StoragePlugin.MCAP, topics)) as media:
        assert media.bag.camera_topics() == ["/b/zstd", camera]
        assert media.bag.image_topic == "/b/zstd"
