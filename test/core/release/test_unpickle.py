"""Pickles: plain data comes back, anything else is refused, and nothing in a file ever runs."""

import collections
import contextlib
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tddfa_ros.core.errors import UnsafeFileError
from tddfa_ros.core.release.unpickle import read_pickle

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
plain = st.recursive(
    scalars | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)
arrays = st.sampled_from(["<f4", "<f8", ">f4", "<i4", "<i8", "u1", "?"]).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, max_side=4))
)


class Calls:
    """Pickles as a call of a function, by whatever name."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


# --- what is plain comes back -------------------------------------------------------------------


@given(plain, st.sampled_from([3, 4]))
def test_plain_data_comes_back(value, protocol):
    assert read_pickle(pickle.dumps(value, protocol), "x") == value


@given(arrays, st.booleans(), st.sampled_from([3, 4]))
def test_arrays_come_back(array, fortran_order, protocol):
    saved = np.asfortranarray(array) if fortran_order else array
    data = pickle.dumps({"a": saved, "again": saved}, protocol)
    for name in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2 write different names
        read = read_pickle(rename_module(data, name, protocol), "x")
        for value in read.values():
            np.testing.assert_array_equal(value, array)
            assert value.dtype == array.dtype.newbyteorder("=")
            assert value.flags.c_contiguous


def rename_module(data, name, protocol):
    old, new = (f"{n}.multiarray".encode() for n in (np.core.__name__, name))
    if protocol == 4:  # a length byte goes before the text, and a frame's length before that
        data = data[:2] + data[11:] if data[2:3] == b"\x95" else data
        old, new = (bytes([len(text)]) + text for text in (old, new))
    return data.replace(old, new)


# --- what is not, is refused and does not run ---------------------------------------------------


def hostile(marker):
    """Name -> an object whose unpickling, by Python's own machine, makes the file `marker`."""
    make = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Calls(os.system, f"touch '{marker}'"),
        "eval": Calls(eval, make),
        "exec": Calls(exec, make),
        "open": Calls(open, str(marker), "w"),
        "subprocess": Calls(subprocess.Popen, ["touch", str(marker)]),
        "os.mkdir": Calls(os.mkdir, str(marker)),
        "numpy.save": Calls(np.save, f"{marker}.npy", 1),
        "numpy.testing": Calls(np.testing.rundocs, str(marker)),
        "numpy.memmap": Calls(np.memmap, str(marker), "u1", "w+", 0, 4),
        "in a dict": {"u": np.zeros(2), "w": [Calls(os.system, f"touch '{marker}'")]},
        "as a key": {Calls(os.mkdir, str(marker)): 1},
        "as array state": Calls(np.zeros, 3, state=Calls(os.mkdir, str(marker))),
        "in an object array": np.array([Calls(os.mkdir, str(marker)), 1], dtype=object),
    }


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", hostile("x"))
def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path, name, protocol):
    marker = tmp_path / "marker"
    data = pickle.dumps(hostile(marker)[name], protocol)
    with pytest.raises(UnsafeFileError, match=r"x\.pkl: "):
        read_pickle(data, "x.pkl")
    assert list(tmp_path.iterdir()) == []


def test_the_hostile_pickles_are_live(tmp_path):
    """Python's own machine does run them: the test above would notice if ours did."""
    file = tmp_path / "x.pkl"
    for name in ("os.system", "eval", "exec", "open", "in a dict", "in an object array"):
        marker = tmp_path / name.replace(" ", "-")
        file.write_bytes(pickle.dumps(hostile(marker)[name]))
        program = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
        subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True)
        assert marker.exists(), name


def test_reading_imports_nothing(tmp_path):
    file = tmp_path / "x.pkl"
    file.write_bytes(b"\x80\x03cantigravity\nfly\n.")
    program = (
        "import sys; from tddfa_ros.core.release import unpickle; before = set(sys.modules)\n"
        "try: unpickle.read_pickle(open(sys.argv[1], 'rb').read(), 'x')\n"
        "except unpickle.UnsafeFileError as error: print(error, set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True
    )
    assert "it asks for antigravity.fly" in done.stdout
    assert done.stdout.endswith("set()\n")


DTYPE = (
    b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R"
    b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)
RECONSTRUCT = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n"
ARRAY = RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85C\x01b\x87R"
DOUBLING = b"".join(b"]h%cah%caq%c" % (i, i, i + 1) for i in range(60))


def test_the_raw_array_that_the_next_test_changes_is_right():
    data = ARRAY + b"(K\x01K\x02\x85" + DTYPE + b"\x89C\x08" + struct.pack("<2f", 1, 2) + b"tb."
    np.testing.assert_array_equal(read_pickle(data, "x"), [1, 2])


@pytest.mark.parametrize(
    "program",
    {
        "empty": b"",
        "no stop": b"\x80\x03K\x01",
        "stop on an empty stack": b"\x80\x03.",
        "stop on a mark": b"\x80\x03(.",
        "pop too much": b"0.",
        "no mark": b"K\x01t.",
        "empty memo": b"h\x05.",
        "bytes after the end": b"\x80\x03K\x01.K",
        "two pickles": b"\x80\x03K\x01.\x80\x03K\x01.",
        "a function as data": b"\x80\x03cnumpy\nndarray\n.",
        "a dtype as data": b"\x80\x03" + DTYPE + b".",
        "call of ndarray": b"\x80\x03cnumpy\nndarray\nK\x02\x85R.",
        "call of data": b"\x80\x03K\x01)R.",
        "call without a tuple": b"\x80\x03cnumpy\ndtype\nK\x01R.",
        "reconstruct of nothing": RECONSTRUCT + b")R.",
        "reconstruct of dtype": RECONSTRUCT + b"cnumpy\ndtype\n\x85R.",
        "dtype without a code": b"\x80\x03cnumpy\ndtype\n)R.",
        "OrderedDict": b"\x80\x03ccollections\nOrderedDict\n)R.",
        "array without data": ARRAY + b".",
        "array state of 4": ARRAY + b"(K\x01K\x02\x85" + DTYPE + b"\x89tb.",
        "array too short": ARRAY + b"(K\x01K\x03\x85" + DTYPE + b"\x89C\x08" + bytes(8) + b"tb.",
        "array too long": ARRAY + b"(K\x01K\x01\x85" + DTYPE + b"\x89C\x08" + bytes(8) + b"tb.",
        "array negative": ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + DTYPE + b"\x89C\x00tb.",
        "array shape of text": ARRAY + b"(K\x01X\x01\x00\x00\x00a\x85" + DTYPE + b"\x89C\x00tb.",
        "array shape a number": ARRAY + b"(K\x01K\x02" + DTYPE + b"\x89C\x08" + bytes(8) + b"tb.",
        "array data a list": ARRAY + b"(K\x01K\x01\x85" + DTYPE + b"\x89]tb.",
        "array dtype a text": ARRAY
        + b"(K\x01K\x01\x85X\x01\x00\x00\x00f\x89C\x04"
        + bytes(4)
        + b"tb.",
        "build on a number": b"\x80\x03K\x01K\x02b.",
        "build on a list": b"\x80\x03]}b.",
        "items for a list": b"\x80\x03]K\x01K\x02s.",
        "append to a dict": b"\x80\x03}K\x01a.",
        "append to nothing": b"\x80\x03K\x01a.",
        "odd items": b"\x80\x03}(K\x01u.",
        "a tuple as a key": b"\x80\x03})K\x01s.",
        "persistent id": b"\x80\x03K\x01Q.",
        "persistent id as text": b"Pabc\n.",
        "instance": b"(ios\nsystem\n.",
        "object": b"(cos\nsystem\no.",
        "new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
        "new object with keywords": b"\x80\x04cnumpy\nndarray\n)}\x92.",
        "extension": b"\x80\x02\x82\x01.",
        "buffer": b"\x80\x05\x97.",
        "bytearray": b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00a.",
        "set": b"\x80\x04\x8f.",
        "frozenset": b"\x80\x04(\x91.",
        "name from numbers": b"\x80\x04K\x01K\x02\x93.",
        "attribute of a name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",
        "list in itself": b"\x80\x03]q\x00h\x00a.",
        "dict in itself": b"\x80\x03}q\x00K\x01h\x00s.",
        "not UTF-8": b"\x80\x03X\x01\x00\x00\x00\xff.",
    }.items(),
    ids=lambda item: item[0],
)
def test_a_wrong_program_is_refused(program):
    with pytest.raises(UnsafeFileError):
        read_pickle(program[1], "x")


@pytest.mark.parametrize(
    "program",
    {
        "8 EB of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**63 - 1) + b"a.",
        "4 GB of bytes": b"\x80\x03B" + struct.pack("<I", 2**32 - 1) + b"a.",
        "8 EB of text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
        "a bytearray of 8 EB": b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"a.",
        "a frame of 8 EB": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"a.",
        "a number of 2 GB": b"\x80\x03\x8b" + struct.pack("<i", 2**31 - 1) + b"a.",
        "an array of 2**62": ARRAY
        + b"(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"
        + DTYPE
        + b"\x89C\x00tb.",
        "doubling lists": b"\x80\x03]q\x00" + DOUBLING + b".",
        "deep tuples": b"\x80\x03)" + b"\x85" * 100_000 + b".",
        "deep lists": b"\x80\x03" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "a number of 100000 digits": b"I" + b"9" * 100_000 + b"\n.",
    }.items(),
    ids=lambda item: item[0],
)
def test_a_claim_of_size_costs_nothing(program):
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError):
            read_pickle(program[1], "x")
        assert tracemalloc.get_traced_memory()[1] < 32_000_000
    finally:
        tracemalloc.stop()


def array_state(shape):
    return ARRAY + b"(K\x01" + shape + DTYPE + b"\x89C\x04" + bytes(4) + b"tb."


MESSAGE_PROGRAMS = {
    "dtype": lambda value: b"\x80\x02" + value + b"0cnumpy\ndtype\nh\x00\x85R.",
    "dtype state": lambda value: b"\x80\x02" + value + b"0" + DTYPE + b"h\x00b.",
    "array shape": lambda value: value + b"0" + array_state(b"h\x00"),
    "array shape in a list": lambda value: value + b"0" + array_state(b"]h\x00a"),
    "array order": lambda value: value + b"0" + ARRAY + b"(K\x01)" + DTYPE + b"h\x00C\x00tb.",
    "data": lambda value: value + b"0cnumpy\nndarray\nh\x00\x86.",
    "name": lambda value: b"\x80\x04" + value + b"0X\x01\x00\x00\x00ah\x00\x93.",
}


@pytest.mark.parametrize("place", MESSAGE_PROGRAMS)
@pytest.mark.parametrize(
    "value",
    {
        "shared": b"K\x01q\x000" + b"h\x00h\x00\x86q\x000" * 16 + b"h\x00",
        "shared in 9": b"K\x01q\x000" + (b"(" + b"h\x00" * 9 + b"tq\x000") * 5 + b"h\x00",
        "deep": b")" + b"\x85" * 5000 + b"q\x00",
        "long text": b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00",
        "long bytes": b"B" + struct.pack("<I", 100_000) + bytes(100_000) + b"q\x00",
        "large number": b"\x8b" + struct.pack("<I", 3000) + b"\x01" * 3000 + b"q\x00",
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_refused_is_said_in_few_words(place, value):
    with pytest.raises(UnsafeFileError) as caught:
        read_pickle(MESSAGE_PROGRAMS[place](value[1]), "x")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("line", [b"c%b\nb\n.", b"F%b\n.", b"S%b\n.", b"I%b\n."])
def test_a_long_line_is_refused_in_few_words(line):
    with pytest.raises(UnsafeFileError) as caught:
        read_pickle(line % (b"x" * 100_000), "x")
    assert len(str(caught.value)) < 1000


def test_arrays_that_share_their_bytes_are_refused_without_memory_for_each():
    count, length = 100, 1_000_000
    parts = [
        RECONSTRUCT + b"q\x000cnumpy\nndarray\nK\x00\x85C\x01b\x87q\x010" + DTYPE + b"q\x020",
        b"B" + struct.pack("<I", length) + bytes(length) + b"q\x030](",
        (b"h\x00h\x01R(K\x01J" + struct.pack("<i", length // 4) + b"\x85h\x02\x89h\x03tb") * count,
        b"e.",
    ]
    tracemalloc.start()
    try:
        with pytest.raises(
            UnsafeFileError, match=r"arrays take more than the \d+ bytes of the file"
        ):
            read_pickle(b"".join(parts), "x")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_arrays_of_one_byte_come_back_although_python_shares_their_bytes():
    values = [np.ones(1, np.uint8) for _ in range(100)]
    np.testing.assert_array_equal(read_pickle(pickle.dumps(values, 4), "x"), values)


def test_a_far_memo_costs_nothing():
    tracemalloc.start()
    try:
        assert read_pickle(b"\x80\x03K\x01r\xff\xff\xff\x7f.", "x") == 1
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_too_many_instructions_are_refused():
    with pytest.raises(UnsafeFileError, match="instructions"):
        read_pickle(b"\x80\x03" + b"N0" * 600_000 + b"N.", "x")


@pytest.mark.parametrize(
    "array",
    [
        np.array(["text"]),
        np.array([b"bytes"]),
        np.zeros(2, "V4"),
        np.zeros(2, [("a", "f4")]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, "c16"),
        np.array([None]),
        np.zeros((0, 3)),
        np.ma.zeros(3),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_of_other_things_are_refused(array):
    with pytest.raises(UnsafeFileError):
        read_pickle(pickle.dumps(array, 4), "x")


@pytest.mark.parametrize("value", [1j, {1, 2}, collections.Counter("a"), print, range(3), Ellipsis])
def test_other_values_are_refused(value):
    with pytest.raises(UnsafeFileError):
        read_pickle(pickle.dumps(value, 4), "x")


SMALL = pickle.dumps({"mean": np.arange(3, dtype=np.float32), "n": [1, "a"]}, 4)


def test_every_truncation_is_refused():
    for length in range(len(SMALL)):
        with pytest.raises(UnsafeFileError):
            read_pickle(SMALL[:length], "x")


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=4))
def test_changed_bytes_are_read_or_refused(changes):
    data = bytearray(SMALL)
    for position, value in changes:
        data[position] = value
    with contextlib.suppress(UnsafeFileError):
        read_pickle(bytes(data), "x")


@given(st.binary(max_size=60))
def test_noise_raises_nothing_else(noise):
    with contextlib.suppress(UnsafeFileError):
        read_pickle(noise, "x")
