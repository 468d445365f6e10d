"""MATLAB 5 files: what scipy writes comes back; anything but real matrices is refused."""

import contextlib
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tddfa_ros.core.errors import UnsafeFileError
from tddfa_ros.core.release import mat_file
from tddfa_ros.core.release.mat_file import read_mat

scipy_io = pytest.importorskip("scipy.io")

matrices = st.sampled_from(["<f8", "<f4", "<i4", "<u2", "u1", "<i8"]).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=2, max_dims=3, max_side=4))
)


def mat(compressed=True, **arrays):
    stream = io.BytesIO()
    scipy_io.savemat(stream, arrays, do_compression=compressed)
    return stream.getvalue()


@given(matrices, st.booleans())
def test_matrices_come_back(array, compressed):
    read = read_mat(mat(compressed, UV=array, b=np.eye(2)), "x")
    np.testing.assert_array_equal(read["UV"], array)
    np.testing.assert_array_equal(read["b"], np.eye(2))
    assert read["UV"].flags.c_contiguous


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        "text",
        {"a": np.eye(2)},
        np.array([np.eye(2), "a"], dtype=object),
        np.array([[1 + 2j]]),
        np.zeros((0, 2)),
    ],
    ids=["text", "struct", "cell", "complex", "empty"],
)
def test_other_content_is_refused(value, compressed):
    with pytest.raises(UnsafeFileError):
        read_mat(mat(compressed, a=value), "x")


@pytest.mark.parametrize("compressed", [True, False])
def test_every_truncation_within_is_refused(compressed):
    data = mat(compressed, UV=np.arange(6.0).reshape(3, 2))
    assert read_mat(data[:128], "x") == {}
    for length in (*range(128), *range(129, len(data))):
        with pytest.raises(UnsafeFileError):
            read_mat(data[:length], "x")


def test_what_inflates_without_end_is_refused():
    element = struct.pack("<II", 14, 2**31) + bytes(200_000_000)
    packed = zlib.compress(element)
    assert len(packed) < 250_000
    data = mat(a=np.eye(2))[:128] + struct.pack("<II", 15, len(packed)) + packed
    del element
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError, match="larger than"):
            read_mat(data, "x")
        assert tracemalloc.get_traced_memory()[1] < 160_000_000
    finally:
        tracemalloc.stop()


def deflated(*contents):
    packed = [zlib.compress(content) for content in contents]
    elements = (struct.pack("<II", 15, len(content)) + content for content in packed)
    return mat(a=np.eye(2))[:128] + b"".join(elements)


def matrix(*parts):
    """Matrix of any parts, each a type and its data."""
    content = b"".join(
        struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8) for kind, data in parts
    )
    return struct.pack("<II", 14, len(content)) + content


FLAGS = (6, struct.pack("<II", 6, 0))


def test_the_budget_may_be_used_up_and_then_nothing_more_is_inflated(monkeypatch):
    first = mat(False, a=np.eye(20))[128:]
    monkeypatch.setattr(mat_file, "MAX_UNPACKED_BYTES", len(first))
    np.testing.assert_array_equal(read_mat(deflated(first), "x")["a"], np.eye(20))
    data = deflated(first, struct.pack("<II", 14, 2**31) + bytes(20_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError, match="larger than"):
            read_mat(data, "x")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_matrix_of_one_byte_more_than_the_budget_is_refused(monkeypatch):
    first = mat(False, a=np.eye(20))[128:]
    monkeypatch.setattr(mat_file, "MAX_UNPACKED_BYTES", len(first) - 1)
    with pytest.raises(UnsafeFileError, match=f"larger than {len(first) - 1} bytes"):
        read_mat(deflated(first), "x")


def test_a_matrix_of_many_parts_is_refused_without_memory_for_them():
    data = deflated(matrix(FLAGS, *[(5, b"")] * 1_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError, match="other than real numeric matrices"):
            read_mat(data, "x")
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [0, 9, 100_000])
def test_a_matrix_of_no_or_many_dimensions_is_refused_in_few_words(count):
    dimensions = np.full(count, 3, "<i4").tobytes()
    data = deflated(matrix(FLAGS, (5, dimensions), (1, b"a"), (9, bytes(8))))
    with pytest.raises(UnsafeFileError, match=f"a matrix of {count} dimensions") as caught:
        read_mat(data, "x")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("data", [b"", b"x" * 200, b"MATLAB 7.3 MAT-file".ljust(200)])
def test_other_formats_are_refused(data):
    with pytest.raises(UnsafeFileError, match="not a little-endian MATLAB 5 file"):
        read_mat(data, "x")


SMALL = mat(False, UV=np.arange(6.0).reshape(3, 2))


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=4))
def test_changed_bytes_are_read_or_refused(changes):
    data = bytearray(SMALL)
    for position, value in changes:
        data[position] = value
    with contextlib.suppress(UnsafeFileError):
        read_mat(bytes(data), "x")


def test_the_file_of_the_release_equals_what_scipy_reads(release_folder):
    file = release_folder / "BFM_UV.mat"
    np.testing.assert_array_equal(
        read_mat(file.read_bytes(), "x")["UV"], scipy_io.loadmat(file)["UV"]
    )
