"""Reader of torch's legacy ``.pth`` files that admits tensors and plain data; no torch needed.

Such a file is a row of pickles (a magic number, the protocol, facts on the machine that wrote it,
the object, the keys of its storages), then each storage as an int64 count and raw numbers. In the
object, tensors name their storage, offset, size and strides.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tddfa_ros.core.array_file import shown
from tddfa_ros.core.errors import UnsafeFileError
from tddfa_ros.core.release.unpickle import Constructor, Dict, Name, Pending, read_one

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_DIMENSIONS = 8
# All tensors / all storages. Two tensors may view one storage, as a weight may have two names.
MAX_TENSOR_SHARE = 2

STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
}


class _Storage(Pending):
    def __init__(self, dtype: str, count: int) -> None:
        self.dtype = np.dtype(dtype)
        self.count = count
        self.numbers: np.ndarray | None = None

    def finish(self) -> Any:
        raise UnsafeFileError("a storage outside a tensor")


class _Tensor(Pending):
    """A view into a storage, whose numbers stand further back in the file."""

    def __init__(self, storage: Any, offset: Any, size: Any, strides: Any, *_: Any) -> None:
        numbers = (offset, *size, *strides) if _both_tuples(size, strides) else (None,)
        if not isinstance(storage, _Storage) or not all(
            type(n) is int and 0 <= n < 2**31 for n in numbers
        ):
            raise UnsafeFileError("a tensor without storage, or with a size that is no number")
        last = offset + sum((n - 1) * s for n, s in zip(size, strides, strict=True))
        if 0 in size or last >= storage.count or math.prod(size) > storage.count:
            raise UnsafeFileError(f"a tensor {size} reaches beyond its {storage.count} numbers")
        self.storage, self.offset, self.size, self.strides = storage, offset, size, strides

    def finish(self) -> _Tensor:
        return self

    def array(self) -> np.ndarray:
        """C-contiguous copy in the machine's own byte order."""
        numbers = self.storage.numbers
        if numbers is None:
            raise UnsafeFileError("a tensor whose storage is not in the file")
        strides = tuple(s * numbers.itemsize for s in self.strides)
        view = np.lib.stride_tricks.as_strided(
            numbers[self.offset :], self.size, strides, writeable=False
        )
        return np.array(view, numbers.dtype.newbyteorder("="), order="C")


def _both_tuples(size: Any, strides: Any) -> bool:
    both = isinstance(size, tuple) and isinstance(strides, tuple)
    return both and len(size) == len(strides) <= MAX_DIMENSIONS


def _tensor(*arguments: Any) -> _Tensor:
    if len(arguments) < 4:
        raise UnsafeFileError("a tensor with too few facts")
    return _Tensor(*arguments)


def _parameter(*arguments: Any) -> _Tensor:
    if not arguments or not isinstance(arguments[0], _Tensor):
        raise UnsafeFileError("a parameter that is no tensor")
    return arguments[0]


CONSTRUCTORS: dict[str, Constructor | None] = {
    "collections.OrderedDict": Dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    **dict.fromkeys(STORAGES),
}


def read_state_dict(data: bytes, source: str) -> dict[str, np.ndarray]:
    """Read the weights of a network from a legacy ``.pth`` file.

    Parameters
    ----------
    data : the whole file
    source : name for messages

    Returns
    -------
    name -> array of the tensor's shape and type, as named in the file: the file's dict of tensors,
    or the one under its key ``state_dict``

    Raises
    ------
    UnsafeFileError
        It is damaged, of another format, or holds anything but tensors and plain data. Nothing in
        it has been executed.
    """
    if data[:2] == b"PK":
        raise UnsafeFileError(
            f"{source}: torch's newer zip format; the release has the legacy one. Take its files."
        )
    stream = io.BytesIO(data)
    storages: dict[str, _Storage] = {}

    def storage_of(identity: Any) -> _Storage:
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            raise UnsafeFileError("a reference that is no storage")
        kind, storage_type, key, _, count = identity[:5]
        known = isinstance(storage_type, Name) and storage_type.name in STORAGES
        if kind != "storage" or not known or not isinstance(key, str) or type(count) is not int:
            raise UnsafeFileError("a reference that is no storage")
        if identity[5:] not in ((), (None,)) or not 1 <= count < 2**63:
            raise UnsafeFileError("a storage that is a part of another, empty or too large")
        new = _Storage(STORAGES[storage_type.name], count)
        old = storages.setdefault(key, new)
        if (old.dtype, old.count) != (new.dtype, new.count):
            raise UnsafeFileError(f"storage {key} described twice, differently")
        return old

    magic = read_one(stream, source, {})
    protocol = read_one(stream, source, {})
    if magic != MAGIC or protocol != PROTOCOL:
        raise UnsafeFileError(f"{source}: not torch's legacy format")
    system = read_one(stream, source, {})
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnsafeFileError(f"{source}: written on a big-endian machine, which is not supported")
    content = read_one(stream, source, CONSTRUCTORS, storage_of)
    keys = read_one(stream, source, {})
    texts = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not texts or sorted(keys) != sorted(storages):
        raise UnsafeFileError(f"{source}: its storages are not those that its tensors name")
    for key in keys:
        _fill(storages[key], stream, source)
    if stream.read(1):
        raise UnsafeFileError(f"{source}: data after its end")
    weights = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise UnsafeFileError(f"{source}: holds no dict of tensors")
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise UnsafeFileError(f"{source}: {shown(name)} is no tensor")
    _check_total(weights.values(), storages.values(), source)
    return {name: tensor.array() for name, tensor in weights.items()}


def _check_total(tensors: Iterable[_Tensor], storages: Iterable[_Storage], source: str) -> None:
    """Each tensor becomes an array of its own: many over one storage would fill the memory."""
    wanted = sum(math.prod(tensor.size) * tensor.storage.dtype.itemsize for tensor in tensors)
    held = sum(storage.count * storage.dtype.itemsize for storage in storages)
    if wanted > MAX_TENSOR_SHARE * held:
        raise UnsafeFileError(
            f"{source}: its tensors take {wanted} bytes out of storages of {held} bytes; at most "
            f"{MAX_TENSOR_SHARE} times as many are admitted. Take the release's file."
        )


def _fill(storage: _Storage, stream: io.BytesIO, source: str) -> None:
    count = int.from_bytes(stream.read(8), "little")
    length = storage.count * storage.dtype.itemsize
    left = len(stream.getbuffer()) - stream.tell()
    if count != storage.count or length > left:
        raise UnsafeFileError(
            f"{source}: a storage of {count} numbers where {storage.count} are expected, and "
            f"{left} bytes left in the file"
        )
    storage.numbers = np.frombuffer(stream.read(length), storage.dtype)
