import pytest

pytest.importorskip("rclpy", reason="nodes need ROS")

from tddfa_ros.nodes.run_statistics import RunStatistics

MS = 1_000_000


def test_nothing_heard_is_zero_and_not_known():
    statistics = RunStatistics()
    assert statistics.rate_hz == 0
    assert statistics.latency_ms(50) is None
    assert "not known" in statistics.lines()[-1]


def test_counts_rate_and_latency_of_a_known_run():
    statistics = RunStatistics()
    for index in range(11):
        stamp_ns, published_ns = index * 100 * MS, 5_000 * MS + index * 100 * MS
        statistics.add_image(stamp_ns, published_ns)
        if index != 4:
            statistics.add_faces(stamp_ns, published_ns + (index + 1) * MS, ["f1", "f2"], 1)
    assert (statistics.image_count, statistics.processed_count) == (11, 10)
    assert statistics.missed_count == 1
    assert (statistics.face_count, statistics.most_faces) == (20, 2)
    assert statistics.face_ids == {"f1", "f2"}
    # Ten answers: the first 1 ms after its image, the last 11 ms after one that came 1 s later.
    assert statistics.rate_hz == pytest.approx(9 / 1.010)
    assert statistics.latency_ms(0) == pytest.approx(1)
    assert statistics.latency_ms(100) == pytest.approx(11)
    assert statistics.as_dict()["dropped"] == 1


def test_images_that_were_lost_on_the_way_are_missed_though_the_node_knows_of_none():
    statistics = RunStatistics()
    for index in range(5):
        statistics.add_image(index, index)
    statistics.add_faces(4, 5, [], 0)
    assert statistics.missed_count == statistics.as_dict()["dropped"] == 4


def test_unanswered_images_do_not_pile_up():
    statistics = RunStatistics()
    for index in range(1000):
        statistics.add_image(index, index)
        if index % 100 == 99:
            statistics.add_faces(index, index + 1, [], 0)
    assert statistics._published_ns == {}


def test_an_answer_to_an_image_never_seen_counts_without_latency():
    statistics = RunStatistics()
    statistics.add_faces(7, 8, [], 3)
    assert statistics.processed_count == 1
    assert statistics.missed_count == 3
    assert statistics.latencies_ms == []
