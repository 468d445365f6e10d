"""The state of a face node on ``/diagnostics``: rates, drops, latency of each stage."""

from __future__ import annotations

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from tddfa_ros.nodes.face_worker import FaceWorker
from tddfa_ros.nodes.image_input import ImageInput


class FaceDiagnostics:
    """Publishes the state of the stream periodically until closed."""

    def __init__(
        self, node: Node, images: ImageInput, worker: FaceWorker, *, period_s: float
    ) -> None:
        self._node = node
        self._images = images
        self._worker = worker
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer = node.create_timer(period_s, self._publish)
        self._before = self._counts()

    def _counts(self) -> np.ndarray:
        images, worker = self._images, self._worker
        counts = [time.monotonic(), images.received, worker.processed, worker.failed]
        return np.array([*counts, images.dropped], np.float64)

    def _publish(self) -> None:
        now = self._counts()
        seconds, received, processed, failed, dropped = (now - self._before).tolist()
        self._before = now
        level, message = DiagnosticStatus.OK, "processing images"
        if received == 0:
            level, message = DiagnosticStatus.WARN, f"no image on {self._images.topic}"
        elif failed > 0:
            level, message = DiagnosticStatus.WARN, f"{failed:.0f} images could not be used"
        elif dropped > 0:
            message = f"processing images; dropped {dropped:.0f} of {received:.0f}"
        values = {
            "image topic": self._images.topic,
            "images received [1/s]": f"{received / seconds:.2f}",
            "images processed [1/s]": f"{processed / seconds:.2f}",
            "images received": f"{now[1]:.0f}",
            "images processed": f"{now[2]:.0f}",
            "images failed": f"{now[3]:.0f}",
            "images dropped": f"{now[4]:.0f}",
            "images waiting": f"{self._images.waiting}",
        }
        status = DiagnosticStatus(
            level=level,
            name=f"{self._node.get_fully_qualified_name().lstrip('/')}: images",
            message=message,
            values=[KeyValue(key=k, value=v) for k, v in (values | self._latencies()).items()],
        )
        header_stamp = self._node.get_clock().now().to_msg()
        array = DiagnosticArray(status=[status])
        array.header.stamp = header_stamp
        self._publisher.publish(array)

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
