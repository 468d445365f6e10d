"""Numpy files from outside: everything that was written comes back, nothing else comes in."""

import contextlib
import datetime
import io
import os
import struct
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tddfa_ros.core.array_file import read_bounded, read_npy, read_npz, shown
from tddfa_ros.core.errors import UnsafeFileError

PLAIN_DTYPES = ["<f4", ">f4", "<f8", "<i4", ">i8", "u1", "?"]
plain_arrays = st.sampled_from(PLAIN_DTYPES).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=4, max_side=5))
)


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


@given(plain_arrays, st.booleans())
def test_npy_returns_what_was_saved(array, fortran_order):
    saved = np.asfortranarray(array) if fortran_order else array
    read = read_npy(npy(saved), "x.npy")
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.flags.c_contiguous
    assert read.flags.writeable


@given(st.binary(max_size=200))
def test_noise_is_refused_and_raises_nothing_else(noise):
    for read in (lambda: read_npy(noise, "x"), lambda: read_npz(noise, "x", 1000)):
        with pytest.raises(UnsafeFileError):
            read()


@given(st.integers(min_value=0), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(position, value):
    data = bytearray(npy(np.arange(6, dtype=np.float32).reshape(2, 3)))
    data[position % len(data)] = value
    with contextlib.suppress(UnsafeFileError):
        read_npy(bytes(data), "x")


def test_every_truncation_is_refused():
    data = npy(np.arange(6, dtype=np.float32))
    for length in range(len(data)):
        with pytest.raises(UnsafeFileError):
            read_npy(data[:length], "x")


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}], dtype=object),
        np.zeros(2, [("a", "f4"), ("b", "O")]),
        np.zeros(2, [("a", "f4")]),
        np.zeros(2, "V8"),
        np.zeros(2, "M8[s]"),
        np.array(["text"]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_other_content_is_refused(array):
    with pytest.raises(UnsafeFileError, match="plain numbers"):
        read_npy(npy(array, allow_pickle=True), "x")


@pytest.mark.parametrize("shape", ["(1099511627776,)", "(2**40,)", "(-1,)", "(0,)", "(True,)"])
def test_a_shape_that_lies_is_refused_without_memory_for_it(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 16
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError):
            read_npy(data, "x")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_shape_of_many_dimensions_gives_a_short_message():
    shape = ("1, " * 20_000).encode()
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + shape[:-1] + b"), }\n"
    data = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + b"\0" * 4
    with pytest.raises(UnsafeFileError, match="not one of plain data") as caught:
        read_npy(data, "x")
    assert len(str(caught.value)) < 1000


def test_npz_returns_what_was_saved():
    arrays = {"a": np.eye(3, dtype=np.float32), "names": np.array(["eye", "brow"])}
    read = read_npz(npz(**arrays), "x", 1000)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


def test_npz_that_unpacks_to_more_than_admitted_is_refused():
    bomb = npz(a=np.zeros(10_000_000, np.uint8))
    assert len(bomb) < 50_000
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError, match="admitted"):
            read_npz(bomb, "x", 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def lying_npz(compression, content, claimed):
    """Archive of one member whose two headers claim another size than it has."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("a.npy", content)
    data = bytearray(stream.getvalue())
    for place in (22, data.index(b"PK\x01\x02") + 24):
        assert struct.unpack_from("<I", data, place) == (len(content),)
        struct.pack_into("<I", data, place, claimed)
    return bytes(data)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_that_unpacks_to_more_than_it_claims_is_refused_without_memory_for_it(compression):
    bomb = lying_npz(compression, bytes(20_000_000), 144)
    assert len(bomb) < 50_000
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError):
            read_npz(bomb, "x", 1000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_of_a_compression_that_numpy_never_writes_is_refused(compression):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("a.npy", npy(np.zeros(1)))
    with pytest.raises(UnsafeFileError, match=r"'a\.npy' .*savez_compressed"):
        read_npz(stream.getvalue(), "x", 1000)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@given(st.lists(st.tuples(st.integers(0, 499), st.integers(0, 255)), max_size=6))
def test_npz_with_changed_bytes_is_read_or_refused(save, changes):
    stream = io.BytesIO()
    save(stream, a=np.arange(6), b=np.array(["eye"]))
    data = bytearray(stream.getvalue())
    for position, value in changes:  # counted from the end, where the directory stands
        data[-1 - position % len(data)] = value
    with contextlib.suppress(UnsafeFileError):
        read_npz(bytes(data), "x", 1000)


def test_npz_whose_member_begins_far_away_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", npy(np.zeros(1)))
    data = stream.getvalue()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    directory, tail = bytearray(data[start:end]), bytearray(data[end:])
    directory += struct.pack("<HHQ", 1, 8, 2**64 - 1)  # the offset in 64 bits
    struct.pack_into("<H", directory, 30, 12)
    struct.pack_into("<I", directory, 42, 2**32 - 1)
    struct.pack_into("<I", tail, 12, len(directory))
    with pytest.raises(UnsafeFileError):
        read_npz(data[:start] + bytes(directory + tail), "x", 1000)


def test_npz_with_pickled_member_is_refused():
    stream = io.BytesIO()
    np.savez(stream, a=np.array([print], dtype=object))
    with pytest.raises(UnsafeFileError):
        read_npz(stream.getvalue(), "x", 1000)


@pytest.mark.parametrize("names", [["a.txt"], ["a.npy", "a.npy"]])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_npz_with_unexpected_members_is_refused(names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, npy(np.zeros(1)))
    with pytest.raises(UnsafeFileError, match="unexpected member"):
        read_npz(stream.getvalue(), "x", 1000)


def test_read_bounded(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"12345")
    assert read_bounded(file, 5) == b"12345"
    with pytest.raises(UnsafeFileError, match="larger than 4 bytes"):
        read_bounded(file, 4)


def test_a_file_is_read_in_its_own_memory_and_one_that_is_too_large_in_none(tmp_path):
    small, huge = tmp_path / "small", tmp_path / "huge"
    small.write_bytes(b"content")
    with huge.open("wb") as stream:
        stream.truncate(40 << 30)
    tracemalloc.start()
    try:
        assert read_bounded(small, 1 << 40) == b"content"
        with pytest.raises(UnsafeFileError, match="larger than"):
            read_bounded(huge, 1 << 34)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("limit", "fits"), [(200_000, True), (199_999, False)])
def test_a_pipe_is_read_up_to_the_limit(tmp_path, limit, fits):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = bytes(range(200)) * 1000
    with ThreadPoolExecutor(1) as pool:
        pool.submit(path.write_bytes, content)
        if fits:
            assert read_bounded(path, limit) == content
        else:
            with pytest.raises(UnsafeFileError, match=f"larger than {limit} bytes"):
                read_bounded(path, limit)


@pytest.mark.parametrize("value", ["text", b"bytes", 5, -1.5, True, None, (3, -1), [{"a": 1}]])
def test_a_small_value_is_shown_as_it_is(value):
    assert shown(value) == repr(value)


def nested(value, depth):
    for _ in range(depth):
        value = (value,)
    return value


def shared(make, depth):
    value = make([1])
    for _ in range(depth):
        value = make([value] * 10)
    return value


def cyclic():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        "a" * 1_000_000,
        "\0" * 1_000_000,
        b"\0" * 1_000_000,
        10**5000,
        -(10**5000),
        shared(list, 30),
        shared(tuple, 30),
        shared(lambda items: dict(enumerate(items)), 30),
        ["a" * 1000] * 1000,
        {10**5000: {"a" * 1000: b"a" * 1000}},
        nested((), 100_000),
        cyclic(),
        [datetime.datetime(2020, 1, 1)] * 100,
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_shown_in_few_words(value):
    assert len(shown(value)) < 1000
