"""Background search: taken up at a fixed frame, whatever its speed."""

import threading

import numpy as np
import pytest

from tddfa_ros.core.search import LAG_FRAMES, BackgroundSearch
from tddfa_ros.core.types import Detections


def detections(mark):
    return Detections(np.full((1, 4), mark, np.float32), np.ones(1, np.float32))


@pytest.fixture
def search():
    made = BackgroundSearch(lambda image, index, zoom: detections(image[0, 0, 0]))
    yield made
    made.close()


def test_result_is_due_at_one_frame_only(search):
    image = np.full((2, 2, 3), 7, np.uint8)
    boxes = {"f1": np.zeros(4, np.float32)}
    search.start(image, 10, boxes, 1)
    for frame in range(10, 10 + LAG_FRAMES):
        assert search.collect(frame) is None
        assert search.running
    result = search.collect(10 + LAG_FRAMES)
    assert result.detections.boxes_xyxy[0, 0] == 7
    assert result.followed is boxes
    assert not search.running
    assert search.collect(100) is None


def test_the_caller_may_use_its_image_for_another_one_at_once():
    go_on = threading.Event()

    def slow(image, index, zoom):
        go_on.wait(10)
        return detections(image[0, 0, 0])

    search = BackgroundSearch(slow)
    image = np.full((2, 2, 3), 7, np.uint8)
    search.start(image, 0, {}, 1)
    image[:] = 9
    go_on.set()
    assert search.collect(LAG_FRAMES).detections.boxes_xyxy[0, 0] == 7
    search.close()


def test_a_slow_search_is_waited_for_when_due():
    go_on = threading.Event()

    def slow(image, index, zoom):
        go_on.wait(10)
        return detections(3)

    search = BackgroundSearch(slow)
    search.start(np.zeros((1, 1, 3), np.uint8), 0, {}, 1)
    threading.Timer(0.05, go_on.set).start()
    assert search.collect(LAG_FRAMES).detections.boxes_xyxy[0, 0] == 3
    search.close()


def test_an_immediate_search_replaces_a_running_one(search):
    search.start(np.full((1, 1, 3), 1, np.uint8), 0, {}, 1)
    assert search.now(np.full((1, 1, 3), 2, np.uint8), 1, {}, 1).detections.boxes_xyxy[0, 0] == 2
    assert search.collect(LAG_FRAMES) is None


def test_an_error_of_the_detector_reaches_the_caller():
    def broken(image, index, zoom):
        raise ValueError("no detector")

    search = BackgroundSearch(broken)
    search.start(np.zeros((1, 1, 3), np.uint8), 0, {}, 1)
    with pytest.raises(ValueError, match="no detector"):
        search.collect(LAG_FRAMES)
    search.close()
