import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image

from tddfa_ros.core.errors import ImageError
from tddfa_ros.nodes.raw_image import (
    ImageHeader,
    decode_compressed_image,
    decode_image,
    encode_image,
)

HEADER = ImageHeader(12, 345, "camera")

headers = st.builds(
    ImageHeader,
    sec=st.integers(-(2**31), 2**31 - 1),
    nanosec=st.integers(0, 2**32 - 1),
    frame_id=st.text(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20
    ),
)


def picture(height=6, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def message(pixels, encoding, **fields):
    pixels = np.ascontiguousarray(pixels)
    filled = Image(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        step=pixels.nbytes // pixels.shape[0],
        **fields,
    )
    filled.data = pixels.tobytes()
    return filled


@given(headers, st.integers(1, 9), st.integers(1, 9))
def test_encoded_images_are_what_ros_reads(header, height, width):
    pixels = picture(height, width)
    read = deserialize_message(encode_image(pixels, header), Image)
    assert (read.header.stamp.sec, read.header.stamp.nanosec) == (header.sec, header.nanosec)
    assert read.header.frame_id == header.frame_id
    assert (read.height, read.width, read.step) == (height, width, 3 * width)
    assert (read.encoding, read.is_bigendian) == ("bgr8", 0)
    assert bytes(read.data) == pixels.tobytes()


@pytest.mark.parametrize(
    ("encoding", "channels", "dtype"), [("mono8", 1, "u1"), ("32FC1", 1, "<f4"), ("rgba8", 4, "u1")]
)
def test_other_encodings_are_sent(encoding, channels, dtype):
    shape = (3, 5, channels) if channels > 1 else (3, 5)
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    read = deserialize_message(encode_image(pixels, HEADER, encoding, channels=channels), Image)
    assert (read.encoding, read.step) == (encoding, 5 * channels * pixels.itemsize)
    assert bytes(read.data) == pixels.tobytes()


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 4), (0, 5, 3), (5,)])
def test_shapes_that_are_no_bgr8_image_are_refused(shape):
    with pytest.raises(ImageError, match="cannot be sent as bgr8"):
        encode_image(np.zeros(shape, np.uint8), HEADER)


def test_a_stamp_in_nanoseconds():
    assert ImageHeader(7, 8, "").stamp_ns == 7_000_000_008
    assert ImageHeader(-1, 999_999_999, "").stamp_ns == -1


@given(headers)
def test_decode_inverts_encode(header):
    pixels = picture()
    read_header, read = decode_image(encode_image(pixels, header))
    assert read_header == header
    np.testing.assert_array_equal(read, pixels)


def test_decoding_copies_no_pixels():
    data = encode_image(picture(), HEADER)
    _, read = decode_image(data)
    assert np.shares_memory(read, np.frombuffer(data, np.uint8))
    assert not read.flags.writeable


def test_what_ros_wrote_is_decoded():
    pixels = picture()
    data = serialize_message(message(pixels[..., ::-1], "rgb8"))
    np.testing.assert_array_equal(decode_image(data)[1], pixels)


def test_big_endian_channels():
    pixels = (picture()[..., 0].astype(np.uint16) * 257).astype(">u2")
    data = serialize_message(message(pixels, "mono16", is_bigendian=1))
    np.testing.assert_array_equal(decode_image(data)[1][..., 0], picture()[..., 0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"step": 3}, "step is 3 bytes"),
        ({"step": 0}, "step is 0 bytes"),
        ({"height": 700}, "data has 144 bytes"),
        ({"width": 700}, "step is 24 bytes"),
        ({"height": 0}, "empty"),
        ({"width": 0}, "empty"),
        ({"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1}, "too large"),
        ({"encoding": "nonsense"}, "nonsense"),
        ({"encoding": ""}, "encoding ''"),
    ],
)
def test_contradictory_messages_are_errors(change, says):
    contradictory = message(picture(), "bgr8")
    for name, value in change.items():
        setattr(contradictory, name, value)
    with pytest.raises(ImageError, match=says):
        decode_image(serialize_message(contradictory))


def test_an_encoding_that_is_not_taken_is_an_error_that_names_those_that_are():
    with pytest.raises(ImageError, match=r"'nv24'.*bgr8, rgb8.*yuv422_yuy2.*bayer_.*32FC1"):
        decode_image(serialize_message(message(picture()[..., 0], "nv24")))


def test_image_without_pixels_is_an_error():
    with pytest.raises(ImageError, match="0 x 0"):
        decode_image(serialize_message(Image()))


@settings(max_examples=300)
@given(st.data())
def test_damaged_bytes_are_errors_or_images(data):
    whole = bytearray(encode_image(picture(), HEADER))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for decode in (decode_image, decode_compressed_image):
        try:
            _, image = decode(cut)
        except ImageError:
            continue
        assert image.ndim == 3
        assert image.dtype == np.uint8


def test_compressed_image():
    pixels = picture()
    compressed = CompressedImage(format="bgr8; png compressed bgr8")
    compressed.header.stamp.sec = 4
    compressed.data = cv2.imencode(".png", pixels)[1].tobytes()
    header, read = decode_compressed_image(serialize_message(compressed))
    assert header == ImageHeader(4, 0, "")
    np.testing.assert_array_equal(read, pixels)


def decoded(pixels, suffix, compressed_format):
    compressed = CompressedImage(format=compressed_format)
    compressed.data = cv2.imencode(suffix, np.ascontiguousarray(pixels))[1].tobytes()
    return decode_compressed_image(serialize_message(compressed))[1]


@pytest.mark.parametrize(
    "compressed_format",
    ["png", "", "bgr8; png compressed bgr8", "rgb8; png compressed ", "rgb8; png", "a; b; c"],
)
def test_colours_of_a_compressed_image_are_those_of_any_file(compressed_format):
    np.testing.assert_array_equal(decoded(picture(), ".png", compressed_format), picture())


@pytest.mark.parametrize("compressed_format", ["rgb8; tiff compressed ", "rgb8; tiff compressed"])
def test_colours_of_a_compressed_image_that_were_not_converted(compressed_format):
    sent = picture()[..., ::-1]
    np.testing.assert_array_equal(decoded(sent, ".tiff", compressed_format), picture())


@pytest.mark.parametrize(
    ("compressed_format", "dtype"),
    [
        ("mono8; jpeg compressed ", "u1"),
        ("mono16; png compressed mono16", "u2"),
        ("mono16; png compressed ", "u2"),
        ("mono16; jpeg compressed ", "u1"),  # JPEG has eight bits only
        ("16UC1; png compressed ", "u2"),
        ("32FC1; tiff compressed ", "f4"),
    ],
)
def test_grey_of_every_depth_in_a_compressed_image(compressed_format, dtype):
    level = {"u1": 90, "u2": 90 * 257, "f4": 90}[dtype]
    codec = compressed_format.split()[1]
    read = decoded(np.full((16, 16), level, dtype), f".{codec}", compressed_format)
    assert read.shape == (16, 16, 3)
    assert np.abs(read.astype(int) - 90).max() <= 1


@pytest.mark.parametrize(
    ("compressed_format", "dtype"),
    [
        ("bayer_rggb8; png compressed ", "u1"),
        ("bayer_rggb8; jpeg compressed ", "u1"),
        ("bayer_rggb8; jpeg compressed bayer_rggb8", "u1"),
        ("bayer_rggb8; tiff compressed ", "u1"),
        ("bayer_rggb16; png compressed ", "u2"),
    ],
)
def test_a_mosaic_in_a_compressed_image_has_its_colours_back(compressed_format, dtype):
    mosaic = np.zeros((16, 16), dtype)
    mosaic[::2, ::2] = np.iinfo(dtype).max
    codec = compressed_format.split()[1]
    read = decoded(mosaic, f".{codec}", compressed_format)[4:-4, 4:-4].astype(int)
    assert np.abs(read - [0, 0, 255]).max() < 30


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_broken_compressed_image_is_an_error(data):
    compressed = CompressedImage(format="jpeg")
    compressed.data = data
    with pytest.raises(ImageError, match="jpeg"):
        decode_compressed_image(serialize_message(compressed))


def test_the_first_image_does_not_wait_for_its_reader_to_be_compiled():
    code = (
        "from tddfa_ros.nodes import raw_image as r;"
        "assert {r.IMAGE_TYPE, r.COMPRESSED_TYPE} <= set(r._TYPES.cache)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
