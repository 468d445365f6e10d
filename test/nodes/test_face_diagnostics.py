"""What a face node says of its stream, of counts that are known."""

import time

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from std_srvs.srv import SetBool

from tddfa_ros.nodes.face_diagnostics import COMPARABLE_AGES_S

PERIOD_S = 2.0


@pytest.fixture
def node(make_face_node):
    made = make_face_node()
    made.start()
    return made


@pytest.fixture
def tell(node, plain_node):
    """Have the node publish what it would after a period; gives level, message and values."""
    told = []
    plain_node.create_subscription(DiagnosticArray, "/diagnostics", told.append, 10)
    deadline = time.monotonic() + 20
    while not node.count_subscribers("/diagnostics"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)  # matched, too

    def tell_it():
        told.clear()
        diagnostics = node._diagnostics
        diagnostics._before = diagnostics._before._replace(time_s=time.monotonic() - PERIOD_S)
        diagnostics._publish()
        while not told:
            assert time.monotonic() < deadline
            rclpy.spin_once(plain_node, timeout_sec=0.05)
        status, outputs = told[-1].status
        assert (status.name, outputs.name) == ("face_node: images", "face_node: outputs")
        return status.level, status.message, {entry.key: entry.value for entry in status.values}

    return tell_it


@pytest.mark.parametrize(
    ("received", "failed", "lost", "dropped", "level", "message"),
    [
        (20, 0, 0, 0, DiagnosticStatus.OK, "processing images"),
        (20, 0, 0, 3, DiagnosticStatus.OK, "processing images; dropped 3 of 20"),
        (20, 2, 0, 3, DiagnosticStatus.WARN, "2 images could not be used"),
        (20, 0, 2, 0, DiagnosticStatus.OK, "processing images"),
        (20, 0, 3, 4, DiagnosticStatus.WARN, "3 of 23 images were lost on the way; "),
    ],
)
def test_a_period_is_judged_by_its_own_images(
    node, tell, received, failed, lost, dropped, level, message
):
    images, worker = node._images, node._worker
    for periods in (1, 2):
        images.received += received
        images.lost += lost
        images.dropped += dropped
        worker.failed += failed
        worker.processed += received - dropped - failed
        told_level, told_message, values = tell()
        assert told_level == level
        assert told_message.startswith(message)
        assert values["images received"] == f"{periods * received}"
        assert values["images processed"] == f"{periods * (received - dropped - failed)}"
        assert values["images failed"] == f"{periods * failed}"
        assert values["images dropped"] == f"{periods * dropped}"
        assert values["images lost on the way"] == f"{periods * lost}"
        rate_hz = float(values["images received [1/s]"])
        assert rate_hz == pytest.approx(received / PERIOD_S, rel=0.2)
    images.received += 20
    assert tell()[:2] == (DiagnosticStatus.OK, "processing images")


def test_a_node_that_is_disabled_is_not_at_fault(node, tell):
    node._on_enable(SetBool.Request(data=False), SetBool.Response())
    assert tell()[:2] == (DiagnosticStatus.OK, "disabled by ~/enable")


def test_times_are_percentiles_of_each_stage_in_milliseconds(node, tell):
    milliseconds = np.arange(101)
    for value in milliseconds:
        stages = {"total": float(value), "wait": 1.0}
        # A stage that did not run is not one that took no time.
        node._worker.timings_ms.append(stages | ({"detect": 7.0} if value % 10 == 0 else {}))
    _, _, values = tell()
    told = {key: value for key, value in values.items() if key.endswith("[ms]")}
    assert told == {
        "total p50 [ms]": "50.00",
        "total p95 [ms]": "95.00",
        "wait p50 [ms]": "1.00",
        "wait p95 [ms]": "1.00",
        "detect p50 [ms]": "7.00",
        "detect p95 [ms]": "7.00",
    }


@pytest.mark.parametrize("age_s", [-0.5, 0.02, 50.0])
def test_ages_of_stamps_are_told_in_milliseconds(node, tell, age_s):
    node._worker.stamp_ages_s.extend([age_s] * 9)
    node._worker.stamp_ages_s.append(age_s + 1)
    _, _, values = tell()
    assert float(values["stamp age on arrival p50 [ms]"]) == pytest.approx(1e3 * age_s)
    assert float(values["stamp age on arrival p95 [ms]"]) > 1e3 * age_s


@pytest.mark.parametrize("age_s", [COMPARABLE_AGES_S[0] - 0.1, COMPARABLE_AGES_S[1] + 0.1, 1.7e9])
def test_ages_by_another_clock_are_not_told(node, tell, age_s):
    node._worker.stamp_ages_s.append(age_s)
    _, _, values = tell()
    assert values["stamp age on arrival"].startswith("unknown")
    assert not any(key.startswith("stamp age on arrival p") for key in values)


def test_ages_before_a_simulated_clock_started_are_not_among_those_told(node, tell):
    node._worker.stamp_ages_s.extend([1.7e9] * 4 + [0.05] * 5)
    _, _, values = tell()
    assert float(values["stamp age on arrival p50 [ms]"]) == pytest.approx(50)
    assert float(values["stamp age on arrival p95 [ms]"]) == pytest.approx(50)
