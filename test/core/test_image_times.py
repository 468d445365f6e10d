"""Times of images by their stamps, or by when they came."""

import pytest

from tddfa_ros.core.image_times import ImageTimes

NOON_NS = 43_200 * 10**9


@pytest.fixture
def told():
    return []


@pytest.fixture
def times(told):
    return ImageTimes(told.append, "arrival")


def test_a_stamp_is_the_time_whenever_it_came(times, told):
    for stamp_ns, arrived_ns in ((5, NOON_NS), (9, NOON_NS), (7, 0)):
        assert times.of(stamp_ns, arrived_ns) == stamp_ns
    assert told == []


def test_without_stamps_it_is_the_time_since_the_first_and_is_told_once(times, told):
    waits_ns = [0, 40, 90, 130]
    assert [times.of(0, NOON_NS + wait_ns) for wait_ns in waits_ns] == waits_ns
    (line,) = told
    assert "no stamp" in line and "arrival" in line


def test_a_recording_that_begins_at_0_and_is_played_again_has_stamps(times, told):
    once = [0, 40, 80]
    arrived_ns = iter(range(NOON_NS, NOON_NS + 10**12, 10**9))
    assert [times.of(stamp_ns, next(arrived_ns)) for stamp_ns in once * 3] == once * 3
    assert told == []


def test_where_stamps_end_time_begins_anew(times, told):
    arrived_ns = [NOON_NS + 1000 * number for number in range(6)]
    stamps_ns = [0, 0, 7, 8, 0, 0]
    seen = [times.of(*both) for both in zip(stamps_ns, arrived_ns, strict=True)]
    assert seen == [0, 1000, 7, 8, 0, 1000]
    assert len(told) == 1
