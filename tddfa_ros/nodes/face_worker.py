"""Turns images into published faces."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from rclpy.impl.rcutils_logger import RcutilsLogger

from tddfa_ros.core.calibration import Camera
from tddfa_ros.core.config import MetricConfig, PipelineConfig
from tddfa_ros.core.errors import ImageError, TddfaError
from tddfa_ros.core.image_times import ImageTimes
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.types import FrameResult
from tddfa_ros.nodes.camera_info_input import CameraInfoInput
from tddfa_ros.nodes.face_node_config import FaceNodeConfig
from tddfa_ros.nodes.face_outputs import FaceOutputs
from tddfa_ros.nodes.image_input import IncomingImage
from tddfa_ros.nodes.mesh_export import FittedImage
from tddfa_ros.nodes.processing_errors import PROCESSING_ERRORS
from tddfa_ros.nodes.raw_image import ImageHeader, decode_compressed_image, decode_image

LOG_INTERVAL_S = 5.0
TIMINGS_KEPT = 600


@dataclass(frozen=True)
class _Pending:
    """An image whose smoothed faces are still to come."""

    header: ImageHeader
    camera: Camera | None
    image_bgr: np.ndarray | None
    taken_ns: int
    missed: int


class FaceWorker:
    """Decodes, processes and publishes images, in the thread that brings them.

    Whoever changes settings, resets or stops it waits for the present image.

    Attributes
    ----------
    processed : images whose faces were published since :meth:`start`
    failed : images that could not be decoded, processed or published since :meth:`start`
    timings_ms : the newest images' times by stage; ``wait`` from arrival in this process until work
        begins, ``total`` from arrival to published
    stamp_ages_s : the newest images' ages on arrival, by their stamps and the node's clock
    newest : the image processed last and its faces, before smoothing; None before the first
    """

    def __init__(
        self,
        cameras: CameraInfoInput,
        pipeline: FacePipeline,
        outputs: FaceOutputs,
        *,
        compressed: bool,
        rectified: bool,
        logger: RcutilsLogger,
    ) -> None:
        self.processed = 0
        self.failed = 0
        self.timings_ms: deque[dict[str, float]] = deque(maxlen=TIMINGS_KEPT)
        self.stamp_ages_s: deque[float] = deque(maxlen=TIMINGS_KEPT)
        self.newest: FittedImage | None = None
        self._cameras = cameras
        self._pipeline = pipeline
        self._outputs = outputs
        self._decode = decode_compressed_image if compressed else decode_image
        self._rectified = rectified
        self._log = logger
        self._times = ImageTimes(logger.warning, "arrival, and a replay will not give the same")
        self._pipeline_lock = threading.Lock()
        self._pending: dict[int, _Pending] = {}
        self._running = False

    def start(self) -> None:
        """Begin to process images, with all counts at zero."""
        self.processed = 0
        self.failed = 0
        self.timings_ms.clear()
        self.stamp_ages_s.clear()
        self._running = True

    def pause(self) -> None:
        """Stop, and have viewers remove the faces, which stay known."""
        with self._pipeline_lock:
            self._stop()
            self._outputs.clear()

    def resume(self) -> None:
        """Process images again after :meth:`pause`; the counts go on."""
        self._running = True

    def stop(self) -> None:
        """Finish the present image and publish what smoothing held back; take no more."""
        with self._pipeline_lock:
            self._stop()

    def _stop(self) -> None:
        if self._running:
            self._publish_smoothed(self._pipeline.flush())
        self._pending.clear()
        self._running = False

    def reset(self) -> None:
        """Forget all faces and filters, between two images; what was held back is published."""
        with self._pipeline_lock:
            if self._running:
                self._publish_smoothed(self._pipeline.flush())
            self._pipeline.reset()
            self._outputs.reset()
            self._pending.clear()
            self.newest = None

    def configure(self, configs: tuple[PipelineConfig, MetricConfig, FaceNodeConfig]) -> None:
        """Change settings between two images."""
        with self._pipeline_lock:
            self._publish_smoothed(self._pipeline.configure(configs[0]))
            self._rectified = configs[1].image_rectified
            self._outputs.configure(configs)

    def take(self, incoming: IncomingImage) -> None:
        """Process an image and publish its faces; errors are logged and counted."""
        with self._pipeline_lock:
            if self._running:
                self._try(partial(self._process, incoming))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ImageError as error:
            self.failed += 1
            self._log.warning(
                f"image left out: {error} ({self.failed} so far)",
                throttle_duration_sec=LOG_INTERVAL_S,
            )
        except (TddfaError, *PROCESSING_ERRORS) as error:
            self.failed += 1
            self._log.error(
                f"processing an image failed: {error!r} ({self.failed} so far)",
                throttle_duration_sec=LOG_INTERVAL_S,
            )

    def _process(self, incoming: IncomingImage) -> None:
        taken_ns = time.monotonic_ns()
        header, image_bgr = self._decode(incoming.data)
        decoded_ns = time.monotonic_ns()
        self.stamp_ages_s.append((incoming.arrived_clock_ns - header.stamp_ns) / 1e9)
        camera = self._cameras.camera(*image_bgr.shape[:2], rectified=self._rectified)
        time_ns = self._times.of(header.stamp_ns, incoming.arrived_clock_ns)
        result = self._pipeline.process(image_bgr, time_ns)
        self.newest = FittedImage(header, image_bgr, result.faces)
        self._outputs.publish_raw_faces(
            result, header, camera, _seconds_since(taken_ns), incoming.missed
        )
        keep_image = self._outputs.wants_image()
        self._pending[result.frame_index] = _Pending(
            header, camera, image_bgr if keep_image else None, taken_ns, incoming.missed
        )
        self._publish_smoothed(self._pipeline.smooth(result))
        self.timings_ms.append(
            result.timings_ms
            | {
                "wait": incoming.waited_ns / 1e6,
                "decode": (decoded_ns - taken_ns) / 1e6,
                "total": (incoming.waited_ns + time.monotonic_ns() - taken_ns) / 1e6,
            }
        )

    def _publish_smoothed(self, results: list[FrameResult]) -> None:
        for result in results:
            pending = self._pending.pop(result.frame_index, None)
            if pending is not None:
                # One that fails takes none of those along that were held back with it.
                self._try(partial(self._publish, result, pending))
        if results:
            newest = results[-1].frame_index
            for index in [index for index in self._pending if index < newest]:
                del self._pending[index]

    def _publish(self, result: FrameResult, pending: _Pending) -> None:
        seconds = _seconds_since(pending.taken_ns)
        self._outputs.publish(
            result, pending.header, pending.camera, seconds, pending.missed, pending.image_bgr
        )
        self.processed += 1


def _seconds_since(start_ns: int) -> float:
    return (time.monotonic_ns() - start_ns) / 1e9
