"""When the pictures of a video are shown, as far as no file is needed to tell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tddfa_ros.core.recording import LONGEST_GAP_NS, _Times


def test_periods_without_stamps_do_not_drift():
    times = _Times(30.0)
    shown_ns = [times.next_ns(None) for _ in range(108_000)]
    assert shown_ns[-1] == pytest.approx(107_999 * 1e9 / 30, abs=100)


@pytest.mark.parametrize("stamp_ns", [0, 1_700_000_000_123_456_789])
def test_the_same_stamp_again_is_never_a_later_one(stamp_ns):
    times = _Times(None)
    shown_ns = [times.next_ns(stamp_ns) for _ in range(1000)]
    assert shown_ns[0] == shown_ns[1] == 0
    np.testing.assert_allclose(np.diff(shown_ns[1:]), 1e9 / 30, atol=1)


def test_a_time_lapse_of_the_lowest_rate_keeps_its_times_also_where_a_picture_is_missing():
    times = _Times(0.001)
    stamps_s = [0, 1000, 2000, 4000, 5000, 10**9]
    assert [times.next_ns(s * 10**9) / 1e9 for s in stamps_s] == [0, 1000, 2000, 4000, 5000, 7000]


def test_pictures_that_come_late_now_and_then_shift_none_of_those_after_them():
    times = _Times(30.0)
    stamps_ms = [0, 33, 30, 66, 100, 95, 133, 166, 160, 200]
    shown_ms = [times.next_ns(stamp_ms * 10**6) / 1e6 for stamp_ms in stamps_ms]
    assert shown_ms == [0, 33, 33, 66, 100, 100, 133, 166, 166, 200]


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 20), min_size=1),
    st.sampled_from([None, 0.001, 30.0, 1000.0]),
)
def test_time_never_goes_back_nor_leaps(stamps_ns, rate_hz):
    times = _Times(rate_hz)
    shown_ns = [times.next_ns(stamp_ns) for stamp_ns in stamps_ns]
    assert shown_ns[0] == 0
    gaps_ns = np.diff(shown_ns)
    assert (gaps_ns >= 0).all()
    assert (gaps_ns <= max(LONGEST_GAP_NS, 2e9 / (rate_hz or 30)) + 1).all()
    # None stands still for longer than one picture.
    assert (gaps_ns[1:] + gaps_ns[:-1] > 0).all()
