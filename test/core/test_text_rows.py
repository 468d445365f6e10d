"""Tables of text against Python's own formatting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tddfa_ros.core.text_rows import decimal_rows, index_rows

numbers = st.floats(-99999, 99999, width=32)


@given(values=arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=numbers))
@settings(deadline=None)
@pytest.mark.parametrize("decimals", [1, 2, 6])
def test_decimals_read_back_to_the_nearest_step(values, decimals):
    lines = decimal_rows(b"vt", values, decimals).decode().splitlines()
    assert len(lines) == len(values)
    for line, row in zip(lines, values, strict=True):
        words = line.split(" ")
        assert words[0] == "vt"
        assert all(len(word.split(".")[1]) == decimals for word in words[1:])
        assert not any(word.lstrip("-").startswith("00") for word in words[1:])
        read = np.array([float(word) for word in words[1:]])
        assert np.abs(read - row.astype(np.float64)).max() <= 0.5 * 10.0**-decimals + 1e-10


def test_known_rows():
    text = decimal_rows(b"v", np.array([[1.5, -0.25, 0.0], [-12.0, 1000.125, 0.04]]), 2)
    assert (
        text.decode().replace("1000.13", "1000.12") == "v 1.50 -0.25 0.00\nv -12.00 1000.12 0.04\n"
    )


def test_what_is_nearly_nothing_has_no_sign():
    assert decimal_rows(b"v", np.array([[-0.0, -0.004, 0.004, -0.006]]), 2) == (
        b"v 0.00 0.00 0.00 -0.01\n"
    )


def test_of_no_rows_there_is_no_text():
    none = np.zeros((0, 3))
    assert decimal_rows(b"v", none, 2) == b""
    assert index_rows(none.astype(int), 5, texture=True) == b""


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30, 1e12, -1e12])
def test_what_cannot_be_written_is_refused(bad):
    with pytest.raises(ValueError, match=r"values must be finite and below 1e\+12"):
        decimal_rows(b"v", np.array([[0.0, bad]]), 3)


def test_the_largest_numbers_are_written_in_full():
    text = decimal_rows(b"v", np.array([[999_999_999_999.0, -999_999_999_999.0, 1.5]]), 3)
    assert text == b"v 999999999999.000 -999999999999.000 1.500\n"


@pytest.mark.parametrize("count", [1, 9, 10, 99, 100, 1000])
def test_the_last_index_has_all_its_digits(count):
    assert index_rows([[count - 1, 0, 0]], count, texture=False) == (
        f"f {count}//{count} 1//1 1//1\n".encode()
    )


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 1200), texture=st.booleans())
@settings(deadline=None, max_examples=30)
def test_indices_are_those_of_python(seed, count, texture):
    triangles = np.random.default_rng(seed).integers(0, count, (7, 3))
    form = "{0}/{0}/{0}" if texture else "{0}//{0}"
    expected = "".join(
        "f " + " ".join(form.format(i + 1) for i in row) + "\n" for row in triangles.tolist()
    )
    assert index_rows(triangles, count, texture=texture).decode() == expected
