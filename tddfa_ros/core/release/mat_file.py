"""Reader of MATLAB 5 files that admits real numeric matrices only.

A file is a header of 128 bytes and a row of elements: type, length, data, padded to 8 bytes. A
matrix is an element of elements (flags, dimensions, name, numbers), and may be deflated.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from itertools import islice

import numpy as np

from tddfa_ros.core.array_file import array_from_bytes
from tddfa_ros.core.errors import UnsafeFileError

MAX_UNPACKED_BYTES = 64 * 1024 * 1024
MAX_DIMENSIONS = 8
_COMPRESSED, _MATRIX = 15, 14
_INT32, _UINT32, _INT8, _DOUBLE_CLASS, _LAST_NUMERIC_CLASS = 5, 6, 1, 6, 15
_COMPLEX_FLAG = 0x0800
_NUMBERS = {
    1: "<i1",
    2: "<u1",
    3: "<i2",
    4: "<u2",
    5: "<i4",
    6: "<u4",
    7: "<f4",
    9: "<f8",
    12: "<i8",
    13: "<u8",
}


def read_mat(data: bytes, source: str) -> dict[str, np.ndarray]:
    """Read the matrices of a MATLAB 5 file.

    Parameters
    ----------
    data : the whole file
    source : name for messages

    Returns
    -------
    name -> C-contiguous array, in the type that the file stores

    Raises
    ------
    UnsafeFileError
        Damaged, another format, or content other than real numeric matrices.
    """
    if data[124:128] != b"\x00\x01IM":
        raise UnsafeFileError(f"{source}: not a little-endian MATLAB 5 file")
    arrays = {}
    budget = MAX_UNPACKED_BYTES
    for kind, content in _elements(data[128:], source):
        if kind == _COMPRESSED:
            unpacked = _inflate(content, budget, source)
            budget -= len(unpacked)
            kind, content = next(_elements(unpacked, source), (0, b""))
        if kind != _MATRIX:
            raise UnsafeFileError(f"{source}: element of type {kind}, only matrices are admitted")
        name, array = _matrix(content, source)
        arrays[name] = array
    return arrays


def _inflate(content: bytes, limit: int, source: str) -> bytes:
    machine = zlib.decompressobj()
    try:
        # One more than is admitted, as 0 would mean: without a limit.
        unpacked = machine.decompress(content, limit + 1)
    except (zlib.error, ValueError) as error:
        raise UnsafeFileError(f"{source}: damaged: {error}") from error
    if not machine.eof or len(unpacked) > limit:
        raise UnsafeFileError(
            f"{source}: cut short, or larger than {MAX_UNPACKED_BYTES} bytes in all when unpacked"
        )
    return unpacked


def _elements(data: bytes, source: str) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        if position + 8 > len(data):
            raise UnsafeFileError(f"{source}: cut short")
        kind = int.from_bytes(data[position : position + 4], "little")
        if kind >> 16:  # small format: length, type and up to 4 bytes of data in one word
            length, kind, start, step = kind >> 16, kind & 0xFFFF, position + 4, 8
            if length > 4:
                raise UnsafeFileError(f"{source}: damaged")
        else:
            length = int.from_bytes(data[position + 4 : position + 8], "little")
            start = position + 8
            step = 8 + length + (0 if kind == _COMPRESSED else -length % 8)
        if start + length > len(data):
            raise UnsafeFileError(f"{source}: cut short")
        yield kind, data[start : start + length]
        position += step


def _matrix(content: bytes, source: str) -> tuple[str, np.ndarray]:
    # A fifth part is one too many: millions of empty ones would take hundreds of bytes each.
    parts = list(islice(_elements(content, source), 5))
    if len(parts) != 4 or [kind for kind, _ in parts[:3]] != [_UINT32, _INT32, _INT8]:
        raise UnsafeFileError(f"{source}: content other than real numeric matrices")
    flags = int.from_bytes(parts[0][1][:4], "little")
    numeric = _DOUBLE_CLASS <= flags & 0xFF <= _LAST_NUMERIC_CLASS
    kind, numbers = parts[3]
    if not numeric or flags & _COMPLEX_FLAG or kind not in _NUMBERS or len(parts[1][1]) % 4:
        raise UnsafeFileError(f"{source}: content other than real numeric matrices")
    dimensions = len(parts[1][1]) // 4
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise UnsafeFileError(
            f"{source}: a matrix of {dimensions} dimensions; 1 to {MAX_DIMENSIONS} are admitted"
        )
    shape = tuple(int(n) for n in np.frombuffer(parts[1][1], "<i4"))
    if math.prod(shape) > MAX_UNPACKED_BYTES:
        raise UnsafeFileError(f"{source}: a matrix of {shape}")
    name = parts[2][1].decode("latin-1")
    return name, array_from_bytes(numbers, np.dtype(_NUMBERS[kind]), shape, True, source)
