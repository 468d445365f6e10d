"""One holder at a time: the next one is told, waits, and goes on when the first one ends."""

import threading
from pathlib import Path

import pytest

from tddfa_ros.core.folder_lock import locked


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_second_call_is_told_once_and_goes_on_when_the_first_ends(tmp_path):
    folder = tmp_path / "made" / "with its parents"
    told, waits, goes_on = [], threading.Event(), threading.Event()

    def wait():
        with locked(folder, on_wait=lambda: (told.append("waiting"), waits.set())):
            goes_on.set()

    second = threading.Thread(target=wait, daemon=True)
    with locked(folder):
        second.start()
        assert waits.wait(20)
        assert not goes_on.wait(0.2)
    second.join(20)
    assert goes_on.is_set()
    assert told == ["waiting"]
    assert list(folder.iterdir()) == []


def test_without_anybody_to_tell_a_second_call_just_waits(tmp_path):
    goes_on = threading.Event()

    def wait():
        with locked(tmp_path):
            goes_on.set()

    second = threading.Thread(target=wait, daemon=True)
    with locked(tmp_path):
        second.start()
        assert not goes_on.wait(0.2)
    second.join(20)
    assert goes_on.is_set()


def test_who_does_not_want_to_wait_leaves_the_lock_to_the_first(tmp_path):
    def refuse():
        raise InterruptedError

    before = open_files()
    with locked(tmp_path):
        for _ in range(2):
            with pytest.raises(InterruptedError), locked(tmp_path, on_wait=refuse):
                pytest.fail("two hold the lock")
    assert open_files() == before


def test_what_fails_frees_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path, on_wait=lambda: pytest.fail("it is still locked")):
        pass
