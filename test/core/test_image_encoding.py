import io
import struct
import subprocess
import sys
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tddfa_ros.core import image_encoding
from tddfa_ros.core.errors import ImageError
from tddfa_ros.core.image_encoding import (
    bgr_from_array,
    bgr_from_buffer,
    bgr_from_file_bytes,
    file_bytes_of,
    is_known,
    require_readable,
)

HEIGHT, WIDTH = 6, 8


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def grey_of(picture):
    return np.repeat(picture[..., :1], 3, axis=2)


def with_alpha(picture):
    return np.dstack([picture, np.full(picture.shape[:2], 7, np.uint8)])


EIGHT_BIT = {
    "bgr8": (lambda p: p, lambda p: p),
    "8UC3": (lambda p: p, lambda p: p),
    "rgb8": (lambda p: p[..., ::-1], lambda p: p),
    "bgra8": (with_alpha, lambda p: p),
    "8UC4": (with_alpha, lambda p: p),
    "rgba8": (lambda p: with_alpha(p[..., ::-1]), lambda p: p),
    "mono8": (lambda p: p[..., 0], grey_of),
    "8UC1": (lambda p: p[..., 0], grey_of),
}


def decode(pixels, encoding, **about):
    pixels = np.ascontiguousarray(pixels)
    data = pixels.view(np.uint8).reshape(-1)
    height, width = pixels.shape[:2]
    return bgr_from_buffer(data, encoding, height, width, len(data) // height, **about)


@pytest.mark.parametrize("encoding", EIGHT_BIT)
def test_eight_bit_encodings_are_exact(picture, encoding):
    encode, expected = EIGHT_BIT[encoding]
    np.testing.assert_array_equal(decode(encode(picture), encoding), expected(picture))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("encoding", ["bgr16", "rgb16", "bgra16", "rgba16", "mono16"])
def test_sixteen_bit_encodings_keep_the_full_scale(picture, encoding, order):
    encode, expected = EIGHT_BIT[encoding.replace("16", "8")]
    pixels = (encode(picture).astype(np.uint16) * 257).astype(f"{order}u2")
    decoded = decode(pixels, encoding, is_bigendian=order == ">")
    np.testing.assert_array_equal(decoded, expected(picture))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("encoding", "dtype"), [("32FC3", "f4"), ("64FC3", "f8")])
def test_floats_up_to_one_are_scaled(picture, encoding, dtype, order):
    pixels = (picture / 255.0).astype(order + dtype)
    decoded = decode(pixels, encoding, is_bigendian=order == ">")
    np.testing.assert_array_equal(decoded, picture)


def test_floats_above_one_are_grey_levels_and_nan_is_black(picture):
    pixels = picture.astype(np.float32)
    pixels[0, 0, 0] = 255.0
    pixels[1, 2] = np.nan
    pixels[2, 3] = [np.inf, -np.inf, 300.0]
    expected = picture.copy()
    expected[0, 0, 0] = 255
    expected[1, 2] = 0
    expected[2, 3] = [0, 0, 255]
    np.testing.assert_array_equal(decode(pixels, "32FC3"), expected)


def test_an_image_of_nan_alone_is_black():
    assert not decode(np.full((4, 5), np.nan, np.float32), "32FC1").any()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_of_one_colour_is_that_colour(pattern, bits):
    blue_green_red = {"b": 10, "g": 100, "r": 200}
    tile = np.array([blue_green_red[c] for c in pattern]).reshape(2, 2)
    mosaic = np.tile(tile, (HEIGHT, WIDTH))
    mosaic = mosaic.astype(np.uint8) if bits == 8 else (mosaic * 257).astype("<u2")
    decoded = decode(mosaic, f"bayer_{pattern}{bits}")
    np.testing.assert_array_equal(decoded[2:-2, 2:-2] - np.array([10, 100, 200], np.uint8), 0)


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_yuv_without_colour_is_grey(encoding):
    luma_first = encoding in ("yuv422_yuy2", "yuyv")
    pixels = np.full((HEIGHT, WIDTH, 2), 128, np.uint8)
    pixels[..., 0 if luma_first else 1] = 16 + 219 * 100 // 255
    decoded = decode(pixels, encoding).astype(int)
    assert np.abs(decoded - 100).max() <= 1


def semi_planar(picture, encoding):
    """Rows of luma and chroma (3 h / 2, w) of a picture whose cells of 2 x 2 have one colour."""
    height, width = picture.shape[:2]
    planes = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    luma, chroma = np.split(planes, [height * width])
    first, second = chroma.reshape(2, -1)[:: 1 if encoding == "nv12" else -1]
    return np.concatenate([luma, np.stack([first, second], axis=-1).reshape(-1)]).reshape(-1, width)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_luma_and_chroma_in_planes_give_the_colours_back(encoding, padding):
    cells = np.random.default_rng(2).integers(40, 216, (3, 5, 3)).astype(np.uint8)
    picture = cells.repeat(2, axis=0).repeat(2, axis=1)
    rows = semi_planar(picture, encoding)
    padded = np.full((len(rows), rows.shape[1] + padding), 99, np.uint8)
    padded[:, : rows.shape[1]] = rows
    decoded = bgr_from_buffer(padded.reshape(-1), encoding, 6, 10, padded.shape[1])
    assert np.abs(decoded.astype(int) - picture).max() <= 3


@pytest.mark.parametrize(
    ("height", "width", "missing", "says"),
    [
        (5, 10, 0, "even width and height"),
        (6, 9, 0, "even width and height"),
        (6, 10, 1, "the data has 89 bytes, but 9 rows of step 10 need 90"),
        (0, 10, 0, "empty"),
        (2**32 - 2, 2**32 - 2, 0, "too large"),
    ],
)
def test_planes_that_contradict_their_size_are_errors(height, width, missing, says):
    data = np.zeros(90 - missing, np.uint8)
    with pytest.raises(ImageError, match=says):
        bgr_from_buffer(data, "nv12", height, width, width)


@given(
    st.sampled_from(sorted(EIGHT_BIT)),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_padding_of_rows_and_data_beyond_the_image_are_left_out(
    encoding, height, width, padding, beyond
):
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    encode, expected = EIGHT_BIT[encoding]
    rows = encode(picture).reshape(height, -1)
    step = rows.shape[1] + padding
    padded = np.full((height, step), 99, np.uint8)
    padded[:, : rows.shape[1]] = rows
    data = np.concatenate([padded.reshape(-1), np.full(beyond, 98, np.uint8)])
    decoded = bgr_from_buffer(data, encoding, height, width, step)
    np.testing.assert_array_equal(decoded, expected(picture))
    # The last row needs no padding.
    shortest = data[: step * (height - 1) + rows.shape[1]]
    np.testing.assert_array_equal(bgr_from_buffer(shortest, encoding, height, width, step), decoded)


def test_bgr8_is_a_view(picture):
    data = picture.reshape(-1)
    decoded = bgr_from_buffer(data, "bgr8", HEIGHT, WIDTH, 3 * WIDTH)
    assert np.shares_memory(decoded, data)
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize(
    ("height", "width", "step", "encoding", "message"),
    [
        (HEIGHT, WIDTH, 3 * WIDTH - 1, "bgr8", "step is 23 bytes, but a row .* has 24"),
        (HEIGHT + 1, WIDTH, 3 * WIDTH, "bgr8", "data has 144 bytes, but 7 rows"),
        (HEIGHT, WIDTH, 3 * WIDTH, "bgra8", "step is 24 bytes"),
        (0, WIDTH, 3 * WIDTH, "bgr8", "empty"),
        (HEIGHT, 0, 0, "bgr8", "empty"),
        (2**32 - 1, 2**32 - 1, 2**32 - 1, "bgr8", "too large"),
        (HEIGHT, 2**31, 3 * 2**31, "mono8", "needs? |too large|need "),
        (HEIGHT, WIDTH, 3 * WIDTH, "purple8", "unknown encoding 'purple8'"),
        (HEIGHT, WIDTH, 3 * WIDTH, "", "unknown encoding ''"),
    ],
)
def test_contradictions_are_errors(picture, height, width, step, encoding, message):
    with pytest.raises(ImageError, match=message):
        bgr_from_buffer(picture.reshape(-1), encoding, height, width, step)


@given(st.data())
def test_readable_is_what_can_be_decoded(data):
    known = [*image_encoding._ENCODINGS, *image_encoding._LUMA_THEN_CHROMA]
    encoding = data.draw(st.sampled_from([*known, "nonsense"]))
    height, width, step, size = (data.draw(st.integers(0, high)) for high in (5, 5, 40, 200))

    def said(read):
        try:
            read(np.zeros(size, np.uint8), encoding, height, width, step)
        except ImageError as error:
            return str(error)
        return ""

    assert said(require_readable) == said(bgr_from_buffer)


def test_known_encodings():
    assert is_known("bgr8")
    assert is_known("16UC1")
    assert is_known("nv21")
    assert not is_known("nv24")


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1), (1, 1, 3), (1, 1, 4), (5, 7), (5, 7, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.float32, bool])
def test_any_array_becomes_bgr(shape, dtype):
    image = bgr_from_array(np.ones(shape, dtype))
    assert image.shape == (*shape[:2], 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


@pytest.mark.parametrize("shape", [(0, 3), (3, 0, 3), (3,), (2, 2, 2), (2, 2, 3, 1)])
def test_arrays_that_are_no_image_are_refused(shape):
    with pytest.raises(ImageError, match="shape"):
        bgr_from_array(np.zeros(shape, np.uint8))


def test_arrays_that_are_no_numbers_are_refused():
    with pytest.raises(ImageError, match="complex"):
        bgr_from_array(np.zeros((2, 2), complex))


def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.mark.parametrize("encoding", ["bgr8", "bgra8", "mono8"])
def test_image_files_of_all_channel_counts(picture, encoding):
    encode, expected = EIGHT_BIT[encoding]
    np.testing.assert_array_equal(bgr_from_file_bytes(png(encode(picture)), "x"), expected(picture))


@pytest.mark.parametrize("encoding", [*EIGHT_BIT, "no_such_encoding"])
def test_files_of_pixels_that_nobody_converted(picture, encoding):
    encode, expected = EIGHT_BIT.get(encoding, EIGHT_BIT["bgr8"])
    coded = png(np.ascontiguousarray(encode(picture)))
    np.testing.assert_array_equal(bgr_from_file_bytes(coded, "x", encoding), expected(picture))


def test_a_file_of_other_channels_than_its_encoding_keeps_its_colours(picture):
    for encoding in ("bayer_rggb8", "rgba8"):
        np.testing.assert_array_equal(bgr_from_file_bytes(png(picture), "x", encoding), picture)


def test_sixteen_bit_image_file(picture):
    decoded = bgr_from_file_bytes(png(picture.astype(np.uint16) * 257), "x")
    np.testing.assert_array_equal(decoded, picture)


def test_exif_orientation_is_applied(picture):
    jpeg = cv2.imencode(".jpg", cv2.resize(picture, (32, 16)))[1].tobytes()
    upright = bgr_from_file_bytes(jpeg, "x")
    # EXIF block of one entry: Orientation (0x0112) = 6, turn clockwise by 90 degrees.
    tiff = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\0\0\0"
    segment = b"Exif\0\0" + tiff
    turned = jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]
    np.testing.assert_array_equal(
        bgr_from_file_bytes(turned, "x"), cv2.rotate(upright, cv2.ROTATE_90_CLOCKWISE)
    )


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("encoding", ["", "rgb8"])
def test_every_format_is_turned_as_pillow_turns_it(suffix, orientation, encoding):
    quarters = np.array([[0, 80], [160, 240]], np.uint8).repeat(16, axis=0).repeat(24, axis=1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    written = io.BytesIO()
    Image.fromarray(quarters).convert("RGB").save(written, suffix, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(written)).convert("L")
    ours = bgr_from_file_bytes(written.getvalue(), "x", encoding)[..., 0].astype(int)
    assert ours.shape == upright.size[::-1]
    assert np.abs(ours - np.asarray(upright)).max() < 40


def test_a_damaged_exif_block_leaves_the_image_as_it_is(picture):
    written = io.BytesIO()
    Image.fromarray(picture).save(written, "WEBP", lossless=True, exif=b"Exif\0\0MM\0*nonsense")
    np.testing.assert_array_equal(bgr_from_file_bytes(written.getvalue(), "x"), picture[..., ::-1])


@pytest.mark.parametrize("data", [b"", b"\0", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_damaged_image_files_are_errors(data):
    with pytest.raises(ImageError, match="portrait"):
        bgr_from_file_bytes(data, "portrait.png")


def png_header(width, height):
    """The beginning of a PNG of so many grey pixels, which a decoder makes room for."""
    fields = struct.pack(">II5B", width, height, 8, 0, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + fields))
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(fields)) + b"IHDR" + fields + checksum
    return header + struct.pack(">I", 9) + b"IDAT"


@pytest.mark.parametrize(
    "suffix", [".bmp", ".jp2", ".jpg", ".pgm", ".png", ".ras", ".tif", ".webp"]
)
def test_what_opencv_reads_is_read_and_called_damaged_where_it_is(suffix):
    coded = cv2.imencode(suffix, np.full((40, 48), 90, np.uint8))[1].tobytes()
    assert np.abs(bgr_from_file_bytes(coded, "x").astype(int) - 90).max() <= 2
    with pytest.raises(ImageError, match=r"^x: the image is damaged, or of a rare kind"):
        bgr_from_file_bytes(coded[:17], "x")


@pytest.mark.parametrize("data", [b"GIF89a\1\0\1\0\0\0\0;", b"P", b"%!PS-Adobe-3.0", b"no image"])
def test_formats_that_are_not_read_are_named_so(data):
    with pytest.raises(ImageError, match=r"^x: not an image of a format that is read: JPEG, PNG"):
        bgr_from_file_bytes(data, "x")


def test_a_format_that_looks_at_more_bytes_than_there_are_is_none_of_a_short_file(monkeypatch):
    """As older versions of Pillow do."""
    Image.init()
    factory = Image.OPEN["PPM"][0]
    accepts = lambda start: start[0:1] == b"P" and start[1] in b"0123456"  # noqa: E731
    monkeypatch.setitem(Image.OPEN, "PPM", (factory, accepts))
    with pytest.raises(ImageError, match=r"^x: not an image of a format that is read"):
        bgr_from_file_bytes(b"P", "x")


@pytest.mark.parametrize("suffix", [".bmp", ".png"])
def test_images_become_files_and_those_too_large_for_a_format_do_not(picture, suffix, monkeypatch):
    assert np.array_equal(bgr_from_file_bytes(file_bytes_of(picture, suffix), "x"), picture)
    smaller = file_bytes_of(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 5])
    assert len(smaller) < len(file_bytes_of(picture, ".jpg"))
    assert file_bytes_of(np.zeros((1, 1_000_001, 3), np.uint8), ".png") is None

    def imencode(*_):
        raise cv2.error("OpenCV(4.6.0) code in function 'imencode'")

    monkeypatch.setattr(cv2, "imencode", imencode)
    assert file_bytes_of(picture, suffix) is None


def test_our_limit_alone_decides_and_pillows_stays_for_others(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    coded = cv2.imencode(".png", np.zeros((30, 40, 3), np.uint8))[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bgr_from_file_bytes(coded, "a").shape == (30, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("side", [17408, 32000])
def test_a_file_that_says_it_is_gigantic_is_refused_before_it_is_decoded(side, monkeypatch):
    monkeypatch.setattr(image_encoding.cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"clip\.png: .* pixels are too many"):
        bgr_from_file_bytes(png_header(side, side), "clip.png")


def test_the_size_limit_is_that_of_messages(monkeypatch):
    coded = cv2.imencode(".png", np.zeros((30, 40, 3), np.uint8))[1]
    monkeypatch.setattr(image_encoding, "MAX_PIXELS", 1200)
    assert bgr_from_file_bytes(coded, "a").shape == (30, 40, 3)
    monkeypatch.setattr(image_encoding, "MAX_PIXELS", 1199)
    with pytest.raises(ImageError, match="a: 40x30 pixels are too many, 1199 at most"):
        bgr_from_file_bytes(coded, "a")


DAMAGE = """
import sys
import cv2
import numpy as np
from tddfa_ros.core.errors import ImageError
from tddfa_ros.core.image_encoding import bgr_from_file_bytes

rng = np.random.default_rng(0)
picture = rng.integers(0, 256, (64, 64, 3), np.uint8)
whole = cv2.imencode(sys.argv[1], picture)[1].tobytes()
refused = 0
for _ in range(200):
    data = bytearray(whole)
    reach = min(len(data), 200 if rng.random() < 0.7 else len(data))
    for _ in range(rng.integers(1, 12)):
        data[rng.integers(0, reach)] = rng.integers(0, 256)
    if rng.random() < 0.2:
        data = data[: rng.integers(1, len(data))]
    try:
        assert bgr_from_file_bytes(bytes(data), "it", sys.argv[2]).dtype == np.uint8
    except ImageError:
        refused += 1
assert refused > 50
"""


@pytest.mark.parametrize(
    "suffix", [".bmp", ".jp2", ".jpg", ".ppm", ".png", ".ras", ".tif", ".webp"]
)
@pytest.mark.parametrize("encoding", ["", "rgb8"])
def test_damaged_files_never_end_the_process(suffix, encoding):
    command = [sys.executable, "-c", DAMAGE, suffix, encoding]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
