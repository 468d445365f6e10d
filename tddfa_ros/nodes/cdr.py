"""Writes messages as CDR bytes where rclpy would be slow: long lists of points and colours.

A list of messages costs rclpy microseconds an element; here it is one copy of a numpy array. The
bytes are what ``publish()`` takes. Encapsulation is XCDR1, little-endian; alignment counts from
after its four bytes.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

LITTLE_ENDIAN = b"\x00\x01\x00\x00"


class CdrWriter:
    """Appends the fields of a message in the order of its definition."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def numbers(self, kind: str, *values: float) -> None:
        """Append numbers of one kind, a letter of :mod:`struct`."""
        self._align(struct.calcsize(f"<{kind}"))
        self._buffer += struct.pack(f"<{len(values)}{kind}", *values)

    def string(self, text: str) -> None:
        """Append a string."""
        encoded = text.encode() + b"\0"
        self.numbers("I", len(encoded))
        self._buffer += encoded

    def header(self, sec: int, nanosec: int, frame_id: str) -> None:
        """Append a ``std_msgs/Header``."""
        self.numbers("i", sec)
        self.numbers("I", nanosec)
        self.string(frame_id)

    def sequence(self, rows: np.ndarray) -> None:
        """Append a sequence of rows without padding inside: (n,) numbers or (n, k) messages.

        Raises
        ------
        ValueError
            The array is not little-endian.
        """
        if rows.dtype.byteorder == ">":
            raise ValueError(f"an array of {rows.dtype} is not little-endian")
        self.numbers("I", len(rows))
        if rows.size:
            self._align(rows.itemsize)
            self._buffer += np.ascontiguousarray(rows).data.cast("B")

    def array(self, values: ArrayLike, dtype: DTypeLike, count: int) -> None:
        """Append an array of a fixed number of numbers, or of messages that hold so many.

        Raises
        ------
        ValueError
            There are more or fewer.
        """
        numbers = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<"))
        if numbers.size != count:
            raise ValueError(f"{numbers.shape} is not an array of {count} numbers")
        self._align(numbers.itemsize)
        self._buffer += numbers.data.cast("B")

    def finish(self) -> bytes:
        """Return the message."""
        return LITTLE_ENDIAN + self._buffer

    def _align(self, size: int) -> None:
        self._buffer += b"\0" * (-len(self._buffer) % size)
