"""Text of large tables of numbers, built by whole columns of characters: no loop over rows.

Numbers are laid out in fixed columns padded with NUL, which are dropped at the end; that is some
ten times as fast as formatting each number.
"""

from __future__ import annotations

import numpy as np

_ZERO = ord("0")
_LARGEST = 10**15


def decimal_rows(prefix: bytes, values: np.ndarray, decimals: int) -> bytes:
    """Write rows ``prefix value value ...``, each number with so many decimals.

    Parameters
    ----------
    prefix : first word of each row
    values : (n, k) floating point, finite
    decimals : digits after the point, 1 or more

    Raises
    ------
    ValueError
        A value is not finite or has more digits than can be written.
    """
    scaled = np.rint(np.asarray(values, np.float64) * 10**decimals)
    if not (np.abs(scaled) < _LARGEST).all():
        raise ValueError(f"values must be finite and below {_LARGEST / 10**decimals:g}")
    whole = np.abs(scaled).astype(np.int64)
    digits = max(len(str(int(whole.max(initial=0)))), decimals + 1)
    rows, columns = whole.shape
    # A space, a sign, the digits, the point among them.
    text = np.zeros((rows, columns, digits + 3), np.uint8)
    text[..., 0] = ord(" ")
    text[..., 1] = np.where((scaled < 0), ord("-"), 0)
    point = 2 + digits - decimals
    text[..., point] = ord(".")
    at = digits + 2
    for place in range(digits):
        if place == decimals:
            at -= 1
        whole, digit = np.divmod(whole, 10) if place < digits - 1 else (whole, whole)
        shown = digit + _ZERO
        if place > decimals:  # no zeros in front; `whole` still holds what is further left
            shown = np.where((digit > 0) | (whole > 0), shown, 0)
        text[..., at] = shown
        at -= 1
    return _joined(prefix, text.reshape(rows, columns * text.shape[2]))


def index_rows(triangles: np.ndarray, vertex_count: int, *, texture: bool) -> bytes:
    """Write rows ``f a/a/a b/b/b c/c/c`` of an obj file, or ``a//a`` without texture.

    Parameters
    ----------
    triangles : (m, 3) int, indices from 0; the rows count from 1
    vertex_count : number of vertices
    texture : whether each vertex has a texture coordinate of the same index
    """
    number = np.arange(1, vertex_count + 1)
    width = len(str(vertex_count))
    digits = np.zeros((vertex_count, width), np.uint8)
    for place in range(width):
        value = number // 10**place
        digits[:, width - 1 - place] = np.where(value > 0, value % 10 + _ZERO, 0)
    word = [np.full((vertex_count, 1), ord(c), np.uint8) for c in " /"]
    middle = [word[1], digits, word[1]] if texture else [word[1], word[1]]
    words = np.concatenate([word[0], digits, *middle, digits], axis=1)
    table = words.view(f"V{words.shape[1]}")[:, 0]
    chosen = table[np.asarray(triangles).ravel()].view(np.uint8)
    return _joined(b"f", chosen.reshape(len(triangles), 3 * words.shape[1]))


def _joined(prefix: bytes, text: np.ndarray) -> bytes:
    """Put the prefix before each row and a line break after it; drop the padding."""
    rows = np.empty((len(text), len(prefix) + text.shape[1] + 1), np.uint8)
    rows[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    rows[:, len(prefix) : -1] = text
    rows[:, -1] = ord("\n")
    return rows[rows != 0].tobytes()
