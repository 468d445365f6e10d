"""Legacy .pth files: every tensor comes back, in any layout; what lies about itself is refused."""

import collections
import io
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tddfa_ros.core.errors import UnsafeFileError
from tddfa_ros.core.release.torch_file import MAGIC, PROTOCOL, read_state_dict

SYSTEM = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"int": 4}}


class Named:
    """Pickles as a mere name, as that of a class or function that is not installed here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return _called, (self.function, self.arguments)


def _called(function, arguments):
    raise AssertionError("only a mark for the pickler below")


REBUILD = Named("torch._utils", "_rebuild_tensor_v2")
FLOAT = Named("torch", "FloatStorage")


class Storage:
    def __init__(self, key, numbers, kind=FLOAT, count=None):
        self.key, self.numbers, self.kind = key, np.asarray(numbers), kind
        self.count = len(self.numbers) if count is None else count


class Pickler(pickle._Pickler):
    """Python's own pickler, taught to write what torch's would."""

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ("storage", value.kind, value.key, "cpu", value.count, None)
        return None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Named):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(b"R")
        else:
            super().save(value, save_persistent_id)


def dumps(value):
    stream = io.BytesIO()
    Pickler(stream, 2).dump(value)
    return stream.getvalue()


def tensor(storage, size, strides=None, offset=0):
    if strides is None:
        strides = tuple(int(np.prod(size[axis + 1 :])) for axis in range(len(size)))
    return Call(REBUILD, storage, offset, size, strides, False, collections.OrderedDict())


def pth(content, storages, *, magic=MAGIC, system=SYSTEM, keys=None):
    head = b"".join(dumps(part) for part in (magic, PROTOCOL, system, content))
    keys = [storage.key for storage in storages] if keys is None else keys
    return (
        head
        + dumps(keys)
        + b"".join(struct.pack("<q", len(s.numbers)) + s.numbers.tobytes() for s in storages)
    )


WEIGHT = Storage("1", np.arange(24, dtype="<f4"))
STEPS = Storage("2", np.array([7], dtype="<i8"), Named("torch", "LongStorage"))


def test_tensors_come_back():
    content = collections.OrderedDict(weight=tensor(WEIGHT, (2, 3, 4)), steps=tensor(STEPS, ()))
    read = read_state_dict(pth(content, [STEPS, WEIGHT]), "x")
    np.testing.assert_array_equal(read["weight"], np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    assert read["weight"].dtype == np.float32
    assert read["weight"].flags.c_contiguous
    assert (read["steps"].shape, read["steps"].dtype, int(read["steps"])) == ((), np.int64, 7)


def test_a_checkpoint_gives_its_state_dict():
    content = {"epoch": 62, "state_dict": {"w": tensor(WEIGHT, (24,))}}
    assert list(read_state_dict(pth(content, [WEIGHT]), "x")) == ["w"]


def test_parameters_are_tensors():
    parameter = Call(Named("torch._utils", "_rebuild_parameter"), tensor(WEIGHT, (24,)), True, {})
    assert read_state_dict(pth({"w": parameter}, [WEIGHT]), "x")["w"].shape == (24,)


@given(st.permutations(range(3)), st.integers(0, 4))
def test_any_layout_within_the_storage_comes_back(order, offset):
    """A transposed view, with an offset, of a shared storage equals numpy's view."""
    numbers = np.random.default_rng(0).normal(size=24 + offset).astype("<f4")
    view = numbers[offset:].reshape(2, 3, 4).transpose(order)
    storage = Storage("k", numbers)
    strides = tuple(s // 4 for s in view.strides)
    content = {"a": tensor(storage, view.shape, strides, offset), "b": tensor(storage, (5,))}
    read = read_state_dict(pth(content, [storage]), "x")
    np.testing.assert_array_equal(read["a"], view)
    np.testing.assert_array_equal(read["b"], numbers[:5])


def test_a_weight_that_stands_under_two_names_comes_back():
    content = {"encoder": tensor(WEIGHT, (4, 6)), "decoder": tensor(WEIGHT, (6, 4), (1, 6))}
    read = read_state_dict(pth(content, [WEIGHT]), "x")
    np.testing.assert_array_equal(read["encoder"], WEIGHT.numbers.reshape(4, 6))
    np.testing.assert_array_equal(read["decoder"], read["encoder"].T)


def test_many_tensors_over_one_storage_are_refused_without_memory_for_them():
    storage = Storage("1", np.zeros(250_000, "<f4"))
    data = pth({f"w{i}": tensor(storage, (250_000,)) for i in range(100)}, [storage])
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError, match=r"100000000 bytes .* storages of 1000000 bytes"):
            read_state_dict(data, "x")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("size", "strides", "offset"),
    [
        ((25,), (1,), 0),
        ((24,), (1,), 1),
        ((2,), (24,), 0),
        ((10**9,), (0,), 0),
        ((10**5, 10**5), (0, 0), 0),
        ((-1,), (1,), 0),
        ((2,), (-1,), 1),
        ((0,), (1,), 0),
        ((2, 2), (1,), 0),
        ((1,), (1,), -1),
        ((2**40,), (1,), 0),
        (("2",), (1,), 0),
        ((1,) * 9, (1,) * 9, 0),
        ([2], [1], 0),
        (None, None, 0),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(size, strides, offset):
    content = {"w": Call(REBUILD, WEIGHT, offset, size, strides, False, None)}
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError, match="tensor"):
            read_state_dict(pth(content, [WEIGHT]), "x")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


GOOD = {"w": tensor(WEIGHT, (24,))}


@pytest.mark.parametrize(
    ("data", "message"),
    {
        "zip format": (b"PK\x03\x04" + bytes(100), "zip format"),
        "other magic": (pth(GOOD, [WEIGHT], magic=1), "not torch's legacy format"),
        "big-endian": (pth(GOOD, [WEIGHT], system={"little_endian": False}), "big-endian"),
        "no system": (pth(GOOD, [WEIGHT], system=None), "big-endian"),
        "storage missing": (pth(GOOD, []), "storages are not those"),
        "storage unknown": (pth(GOOD, [WEIGHT, STEPS]), "storages are not those"),
        "keys no list": (pth(GOOD, [WEIGHT], keys="1"), "storages are not those"),
        "keys of numbers": (pth(GOOD, [WEIGHT], keys=[1]), "storages are not those"),
        "keys repeated": (pth(GOOD, [WEIGHT], keys=["1", "1"]), "storages are not those"),
        "keys of lists": (pth(GOOD, [WEIGHT], keys=[["1"]]), "storages are not those"),
        "data after its end": (pth(GOOD, [WEIGHT]) + b"x", "after its end"),
        "no dict": (pth([tensor(WEIGHT, (24,))], [WEIGHT]), "no dict of tensors"),
        "empty": (pth({}, []), "no dict of tensors"),
        "not only tensors": (pth({"a": 1, **GOOD}, [WEIGHT]), "'a' is no tensor"),
        "numbered": (pth({1: tensor(WEIGHT, (24,))}, [WEIGHT]), "1 is no tensor"),
        "numbered far": (pth({10**5000: GOOD["w"]}, [WEIGHT]), "number of 16610 bits is no tensor"),
        "a storage as it is": (pth({"w": WEIGHT}, [WEIGHT]), "storage outside a tensor"),
        "tensor of a tensor": (
            pth({"w": Call(REBUILD, GOOD["w"], 0, (1,), (1,), False, None)}, [WEIGHT]),
            "tensor without storage",
        ),
        "too few facts": (pth({"w": Call(REBUILD, WEIGHT)}, [WEIGHT]), "too few"),
        "parameter of a number": (
            pth({"w": Call(Named("torch._utils", "_rebuild_parameter"), 1)}, []),
            "parameter that is no tensor",
        ),
        "another storage type": (
            pth({"w": tensor(Storage("1", WEIGHT.numbers, Named("torch", "Evil")), (1,))}, []),
            "asks for torch.Evil",
        ),
        "storage larger than said": (
            pth({"w": tensor(Storage("1", [], count=5), (5,))}, [WEIGHT]),
            "24 numbers where 5 are expected",
        ),
        "storage of no possible size": (
            pth({"w": tensor(Storage("1", [], count=10**5000), (5,))}, [WEIGHT]),
            "part of another, empty or too large",
        ),
        "storage larger than the file": (
            pth({"w": tensor(Storage("1", [], count=2**30), (5,))}, [], keys=["1"])
            + struct.pack("<q", 2**30),
            "0 bytes left",
        ),
    }.values(),
)
def test_a_wrong_file_is_refused(data, message):
    with pytest.raises(UnsafeFileError, match=message):
        read_state_dict(data, "x")


@pytest.mark.parametrize("place", ["content", "system", "keys", "tensor argument"])
def test_nothing_hostile_runs(tmp_path, place):
    evil = Call(Named("os", "mkdir"), str(tmp_path / "marker"))
    data = {
        "content": pth({"w": evil}, []),
        "system": pth(GOOD, [WEIGHT], system=evil),
        "keys": pth(GOOD, [WEIGHT], keys=evil),
        "tensor argument": pth({"w": Call(REBUILD, WEIGHT, 0, (1,), (1,), False, evil)}, [WEIGHT]),
    }[place]
    with pytest.raises(UnsafeFileError, match=r"asks for os\.mkdir"):
        read_state_dict(data, "x")
    assert list(tmp_path.iterdir()) == []


def test_every_truncation_is_refused():
    data = pth(GOOD, [WEIGHT])
    for length in range(len(data)):
        with pytest.raises(UnsafeFileError):
            read_state_dict(data[:length], "x")
