import time

import pytest

from tddfa_ros.core.stopwatch import Stopwatch


def test_the_times_of_one_name_add_up_also_where_what_is_timed_fails():
    watch, start_ns = Stopwatch(), time.perf_counter_ns()
    with watch("slow"):
        time.sleep(0.02)
    with watch("fast"):
        pass
    with pytest.raises(ZeroDivisionError), watch("slow"):
        time.sleep(0.02)
        raise ZeroDivisionError
    in_all_ms = (time.perf_counter_ns() - start_ns) / 1e6
    assert list(watch.elapsed_ms) == ["slow", "fast"]
    assert watch.elapsed_ms["slow"] >= 40
    assert sum(watch.elapsed_ms.values()) <= in_all_ms
