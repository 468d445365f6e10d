import os
import signal
import threading

import pytest

from tddfa_ros.core.interruption import Interruption


def test_undisturbed_passes_everything():
    with Interruption() as stop:
        assert list(stop.until_requested(range(5))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_signal_ends_the_loop_after_its_item(number, raised):
    before = signal.getsignal(number)
    done = []
    with pytest.raises(raised), Interruption() as stop:
        for item in stop.until_requested(range(100)):
            if item == 3:
                os.kill(os.getpid(), number)
            done.append(item)
        done.append("closed")
    assert done == [0, 1, 2, 3, "closed"]
    assert signal.getsignal(number) is before


def test_a_signal_wakes_what_waits_for_an_item():
    waited = []
    with pytest.raises(KeyboardInterrupt), Interruption() as stop:
        assert not stop.event.is_set()
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        waited.append(stop.event.wait(30))
    assert waited == [True]


@pytest.mark.timeout(20)
def test_a_signal_amid_the_waiting_for_it_does_not_hang():
    waited = []
    with pytest.raises(KeyboardInterrupt), Interruption() as stop:
        with stop.event._cond:  # as `wait` does for a moment
            os.kill(os.getpid(), signal.SIGINT)
        waited.append(stop.event.wait(10))
    assert waited == [True]


def test_second_signal_acts_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt), Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        done.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        done.append(2)
    assert done == [1]


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_is_raised_where_it_is_asked_for(number, raised):
    done = []
    with pytest.raises(raised), Interruption() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        done.append(1)
        stop.check()
        done.append(2)
    assert done == [1]


def test_an_error_is_not_hidden_by_a_signal():
    with pytest.raises(ValueError, match="cause"), Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("cause")
