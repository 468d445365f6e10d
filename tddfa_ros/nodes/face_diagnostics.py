"""The state of a face node on ``/diagnostics``: rates, drops, latency of each stage."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from tddfa_ros.nodes.face_worker import FaceWorker
from tddfa_ros.nodes.image_input import ImageInput
from tddfa_ros.nodes.quality_of_service import (
    LOG_INTERVAL_S,
    OVERRIDABLE,
    OutputMismatches,
    wrong_overrides,
)

# Ages beyond these bounds mean that the stamps come from another clock than the node's.
COMPARABLE_AGES_S = (-1.0, 60.0)
LOST_SHARE_TO_WARN = 0.1
LOST_REMEDY = "see config/fastdds.xml: Fast DDS's own settings lose large images"


class _Counts(NamedTuple):
    time_s: float
    received: int
    processed: int
    failed: int
    dropped: int
    lost: int


class FaceDiagnostics:
    """Publishes the state of the stream periodically until closed."""

    def __init__(
        self,
        node: Node,
        images: ImageInput,
        worker: FaceWorker,
        outputs: OutputMismatches,
        *,
        period_s: float,
    ) -> None:
        self._node = node
        self._images = images
        self._worker = worker
        self._outputs = outputs
        with wrong_overrides("publisher of /diagnostics"):
            self._publisher = node.create_publisher(
                DiagnosticArray, "/diagnostics", 10, qos_overriding_options=OVERRIDABLE
            )
        # With use_sim_time the node's own clock stands still without images.
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(period_s, self._publish, clock=self._clock)
        self._before = self._counts()

    def _counts(self) -> _Counts:
        images, worker = self._images, self._worker
        now_s = time.monotonic()
        return _Counts(
            now_s, images.received, worker.processed, worker.failed, images.dropped, images.lost
        )

    def _publish(self) -> None:
        now = self._counts()
        passed = _Counts(*(a - b for a, b in zip(now, self._before, strict=True)))
        self._before = now
        level, message = self._state(passed)
        values = {
            "image topic": self._images.topic,
            "image publishers": f"{self._images.publishers}",
            "images received [1/s]": f"{passed.received / passed.time_s:.2f}",
            "images processed [1/s]": f"{passed.processed / passed.time_s:.2f}",
            "images received": f"{now.received}",
            "images processed": f"{now.processed}",
            "images failed": f"{now.failed}",
            "images dropped": f"{now.dropped}",
            "images lost on the way": f"{now.lost}",
        }
        array = DiagnosticArray(
            status=[
                self._status("images", level, message, values | self._ages() | self._latencies()),
                self._outputs_status(),
            ]
        )
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _state(self, passed: _Counts) -> tuple[bytes, str]:
        if not self._images.subscribed:
            return DiagnosticStatus.OK, "disabled by ~/enable"
        if passed.received == 0 and self._images.is_silent:
            text = self._images.silence()
            self._node.get_logger().warning(
                text, throttle_duration_sec=LOG_INTERVAL_S, skip_first=True
            )
            return DiagnosticStatus.WARN, text
        if passed.failed > 0:
            return DiagnosticStatus.WARN, f"{passed.failed} images could not be used"
        if passed.lost > LOST_SHARE_TO_WARN * passed.received:
            sent = passed.received + passed.lost
            text = f"{passed.lost} of {sent} images were lost on the way; {LOST_REMEDY}"
            return DiagnosticStatus.WARN, text
        if passed.dropped > 0:
            text = f"processing images; dropped {passed.dropped} of {passed.received}"
            return DiagnosticStatus.OK, text
        return DiagnosticStatus.OK, "processing images"

    def _outputs_status(self) -> DiagnosticStatus:
        mismatches = self._outputs.present()
        level = DiagnosticStatus.WARN if mismatches else DiagnosticStatus.OK
        message = "; ".join(mismatches) or "every subscriber is served"
        return self._status("outputs", level, message, {})

    def _status(
        self, what: str, level: bytes, message: str, values: dict[str, str]
    ) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=level,
            name=f"{self._node.get_fully_qualified_name().lstrip('/')}: {what}",
            message=message,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )

    def _ages(self) -> dict[str, str]:
        ages_s = list(self._worker.stamp_ages_s)
        if not ages_s:
            return {}
        least, most = COMPARABLE_AGES_S
        # Some are not where a simulated clock starts after the images, or jumps.
        comparable_s = [age_s for age_s in ages_s if least <= age_s <= most]
        if 2 * len(comparable_s) < len(ages_s):
            return {"stamp age on arrival": "unknown: stamps are not of this node's clock"}
        p50, p95 = np.percentile(comparable_s, [50, 95])
        return {
            "stamp age on arrival p50 [ms]": f"{p50 * 1e3:.2f}",
            "stamp age on arrival p95 [ms]": f"{p95 * 1e3:.2f}",
        }

    def _latencies(self) -> dict[str, str]:
        by_stage: dict[str, list[float]] = {}
        for timings in list(self._worker.timings_ms):
            for stage, milliseconds in timings.items():
                by_stage.setdefault(stage, []).append(milliseconds)
        described = {}
        for stage, all_ms in by_stage.items():
            p50, p95 = np.percentile(all_ms, [50, 95])
            described[f"{stage} p50 [ms]"] = f"{p50:.2f}"
            described[f"{stage} p95 [ms]"] = f"{p95:.2f}"
        return described

    def close(self) -> None:
        """Stop publishing."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)
