"""Readers of numpy files from outside: plain data only, in no more memory than the file takes."""

from __future__ import annotations

import io
import math
import os
import re
import reprlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tddfa_ros.core.errors import UnsafeFileError

MAX_MEMBERS = 64
MAX_SHOWN = 500
# Those that numpy writes. zipfile unpacks the others in one piece, whatever size they claim.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# numpy's own reader evaluates the header as Python; numpy always writes it in this one way.
_NPY_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|=]?(f[248]|[iu][1248]|b1|U\d{1,4}))', "
    rb"'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(\d{1,12}(, |,?(?=\))))*)\), \} *\n"
)


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxtuple = self.maxlist = 8
        self.maxstring = 100

    def repr_int(self, x: int, level: int) -> str:
        # repr() raises ValueError for more than 4300 digits.
        return repr(x) if x.bit_length() <= 128 else f"a number of {x.bit_length()} bits"

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x) if len(x) <= 20 else f"{x[:20]!r}..."


_SHORT = _Short()


def shown(value: Any) -> str:
    """Short ``repr`` of a value from outside, for a message.

    In full it grows tenfold with each list of ten references to the list before, and raises
    RecursionError for what is nested deeply.
    """
    return short(_SHORT.repr(value))


def short(text: str) -> str:
    """Beginning of a text from outside, for a message."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises
    ------
    UnsafeFileError
        It is larger.
    OSError
    """
    with path.open("rb") as stream:
        # Room is made for all bytes that are asked for: more than there are may be too many.
        size = os.fstat(stream.fileno()).st_size
        data = stream.read(size + 1) if size <= limit else b""
        if len(data) > size:  # a pipe, or it grows
            data += stream.read(limit + 1 - len(data))
    if max(size, len(data)) > limit:
        raise UnsafeFileError(f"{path}: larger than {limit} bytes, the most it may have")
    return data


def read_npy(data: bytes, source: str, kinds: str = "fiub") -> np.ndarray:
    """Decode a ``.npy`` file of numbers; never unpickles.

    Parameters
    ----------
    data : the whole file
    source : name for messages
    kinds : the admitted numpy dtype kinds

    Returns
    -------
    array of the dtype and shape of the file, C-contiguous, writable

    Raises
    ------
    UnsafeFileError
        No ``.npy``, another kind of content, or a length that disagrees with the header.
    """
    start = {1: 10, 2: 12, 3: 12}.get(data[6], 0) if data[:6] == b"\x93NUMPY" and data[6:] else 0
    end = start + int.from_bytes(data[8:start], "little")
    found = _NPY_HEADER.fullmatch(data[start:end]) if start and len(data) >= end else None
    if found is None:
        raise UnsafeFileError(f"{source}: not a .npy file of plain numbers")
    dtype = np.dtype(found["dtype"].decode())
    if dtype.kind not in kinds:
        raise UnsafeFileError(f"{source}: holds {dtype}, not plain numbers")
    shape = tuple(int(n) for n in found["shape"].split(b",") if n.strip())
    return array_from_bytes(data[end:], dtype, shape, found["fortran"] == b"True", source)


def array_from_bytes(
    data: bytes, dtype: np.dtype, shape: tuple[int, ...], fortran_order: bool, source: str
) -> np.ndarray:
    """C-contiguous, writable array from raw memory that must have exactly the right length.

    Raises
    ------
    UnsafeFileError
        The length disagrees, or a dimension is not a number from 1 to 2**31 - 1.
    """
    if len(shape) > 8 or not all(type(d) is int and 1 <= d < 2**31 for d in shape):
        raise UnsafeFileError(f"{source}: shape {shown(shape)} is not one of plain data")
    if dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != len(data):
        raise UnsafeFileError(
            f"{source}: {len(data)} bytes of data, but {dtype} {shape} takes "
            f"{math.prod(shape) * dtype.itemsize}"
        )
    flat = np.frombuffer(data, dtype)
    array = flat.reshape(shape, order="F" if fortran_order else "C")
    return np.array(array, dtype.newbyteorder("="), order="C")


def read_npz(data: bytes, source: str, limit: int, kinds: str = "fiubU") -> dict[str, np.ndarray]:
    """Decode an ``.npz`` file of numbers and strings; never unpickles.

    Parameters
    ----------
    data : the whole file
    source : name for messages
    limit : most bytes of all arrays together
    kinds : the admitted numpy dtype kinds

    Raises
    ------
    UnsafeFileError
        Damaged, too large when unpacked, or with content of another kind.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if len(members) > MAX_MEMBERS or total > limit:
                raise UnsafeFileError(
                    f"{source}: {len(members)} members of {total} bytes; at most {MAX_MEMBERS} "
                    f"of {limit} bytes are admitted"
                )
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in arrays or name == member.filename:
                    raise UnsafeFileError(f"{source}: unexpected member {shown(member.filename)}")
                if member.compress_type not in _COMPRESSIONS:
                    raise UnsafeFileError(
                        f"{source}: member {shown(member.filename)} is compressed with method "
                        f"{member.compress_type}, which numpy never writes; write the file with "
                        "numpy.savez_compressed"
                    )
                # The size is only a claim: without a bound, up to 2 GB are inflated first.
                with archive.open(member) as stream:
                    content = stream.read(member.file_size + 1)
                arrays[name] = read_npy(content, f"{source}:{short(name)}", kinds)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,  # a compression method that zipfile lacks
        RuntimeError,  # an encrypted member
        OSError,
        OverflowError,  # a member that begins beyond 2**63
        ValueError,
    ) as error:
        raise UnsafeFileError(f"{source}: not an .npz file: {short(str(error))}") from error
    return arrays
