"""Faces of one image topic of a bag, as the messages that a face node would publish."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tddfa_ros.core.bag import BagMessage
from tddfa_ros.core.calibration import Camera
from tddfa_ros.core.config import MetricConfig, PipelineConfig
from tddfa_ros.core.draw import draw_faces
from tddfa_ros.core.errors import ImageError
from tddfa_ros.core.image_message import COMPRESSED_TYPE, FACES_TYPE, IMAGE_TYPE
from tddfa_ros.core.image_times import ImageTimes
from tddfa_ros.core.metric_frame import MetricFrame, MetricFrames
from tddfa_ros.core.model_set import ModelSet
from tddfa_ros.core.network_journal import Entry, JournaledNetworks, NetworkJournal
from tddfa_ros.core.networks import Networks
from tddfa_ros.core.outputs import DEFAULT_OVERLAY
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.types import FrameResult
from tddfa_ros.nodes.bag_calibration import BagCalibration
from tddfa_ros.nodes.face_bytes import face_array_bytes
from tddfa_ros.nodes.raw_image import (
    ImageHeader,
    decode_compressed_image,
    decode_image,
    encode_image,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scene:
    """One processed image: `result` raw or smoothed, `image_bgr` None if no output draws on it."""

    result: FrameResult
    metric: MetricFrame
    header: ImageHeader
    image_bgr: np.ndarray | None
    model_set_name: str


@dataclass(frozen=True)
class BagOutput:
    """One kind of message that can be added to a bag.

    Attributes
    ----------
    msgtype : of the topic
    smoothed : whether it shows the faces after smoothing
    draws : whether it needs the image
    make : serialises the message
    """

    msgtype: str
    smoothed: bool
    draws: bool
    make: Callable[[Scene], bytes]


@dataclass(frozen=True)
class NewMessage:
    """A message of ours: stamped as received when its image was."""

    topic: str
    received_ns: int
    data: bytes


def _faces(scene: Scene) -> bytes:
    # No time of processing: it is a measurement, and the same bag shall give the same messages.
    return face_array_bytes(
        scene.result,
        scene.header,
        model_set=scene.model_set_name,
        processing_time_s=0.0,
        frames_dropped=0,
        metric_poses=scene.metric.poses,
    )


def _overlay(scene: Scene) -> bytes:
    canvas = scene.image_bgr.copy()
    draw_faces(canvas, scene.result.faces, DEFAULT_OVERLAY)
    return encode_image(canvas, scene.header)


OUTPUTS = {
    "faces": BagOutput(FACES_TYPE, smoothed=True, draws=False, make=_faces),
    "faces/raw": BagOutput(FACES_TYPE, smoothed=False, draws=False, make=_faces),
    "faces/overlay": BagOutput(IMAGE_TYPE, smoothed=True, draws=True, make=_overlay),
}


def decode(message: BagMessage) -> tuple[ImageHeader, np.ndarray]:
    """Read an image message, raw or compressed; :class:`ImageError` if it is broken."""
    if message.msgtype == COMPRESSED_TYPE:
        return decode_compressed_image(message.data)
    return decode_image(message.data)


class TopicFaces:
    """Processes the images of one topic, in the order of the bag.

    Parameters
    ----------
    model_set, config : of the pipeline
    metric_config : settings of metric poses
    calibration : of the topic's camera
    journal : what an earlier run has done already
    topics : name in the bag by name in :data:`OUTPUTS`

    Attributes
    ----------
    images, skipped : taken so far; broken ones among them
    """

    def __init__(
        self,
        model_set: ModelSet,
        config: PipelineConfig,
        metric_config: MetricConfig,
        calibration: BagCalibration,
        journal: NetworkJournal,
        topics: dict[str, str],
    ) -> None:
        self.images = 0
        self.skipped = 0
        self._model_set_name = model_set.name
        self._journal = journal
        self._topics = topics
        self._draws = any(OUTPUTS[name].draws for name in topics)
        spec = model_set.regressor
        self._networks = JournaledNetworks(
            Networks(model_set, config), journal, spec.shape_count, spec.input_size
        )
        self._times = ImageTimes(_log.warning, "recording")
        self._pipeline = FacePipeline(model_set, config, self._networks)
        self._frames = MetricFrames(self._pipeline.model, metric_config)
        self._smooths_poses = config.smoothing != "none"
        self.calibration = calibration
        self._done = list(journal.entries)
        self._blank = self._entries_without_pixels()
        self._asked = 0
        self._pending: dict[int, tuple[ImageHeader, int, np.ndarray | None, Camera | None]] = {}

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the pipeline."""
        self._pipeline.close()

    @property
    def done_before(self) -> int:
        """Images that an earlier run has processed."""
        return len(self._done)

    def _entries_without_pixels(self) -> list[bool]:
        blank, frames = [], 0
        for entry in self._done:
            before = frames < self._networks.first_frame_with_pixels
            blank.append(not entry.is_frame or (before and not self._draws))
            frames += entry.is_frame
        return blank

    def needs_pixels(self) -> bool:
        """Whether the next image must be decoded; to be asked once for each, ahead of it."""
        index, self._asked = self._asked, self._asked + 1
        return index >= len(self._blank) or not self._blank[index]

    def take(
        self, message: BagMessage, decoded: Callable[[], tuple[ImageHeader, np.ndarray]] | None
    ) -> list[NewMessage]:
        """Process the next image.

        Parameters
        ----------
        message : as it lies in the bag
        decoded : gives its header and pixels, or raises; None where they are not needed

        Returns
        -------
        The messages that are ready now; smoothing may hold some back.

        Raises
        ------
        OSError
            The journal cannot be written.
        """
        index, self.images = self.images, self.images + 1
        entry = self._done[index] if index < len(self._done) else None
        if entry is not None and not entry.is_frame:
            return self._leave_out(message, entry.about.get("error", ""))
        try:
            header, image_bgr = decoded() if decoded else _remembered(entry)
            time_ns = self._times.of(header.stamp_ns, message.received_ns)
            result = self._pipeline.process(image_bgr, time_ns)
        except ImageError as error:
            if entry is None:
                self._journal.end_image({"error": str(error)}, is_frame=False)
            return self._leave_out(message, str(error))
        if entry is None:
            about = {
                "stamp": [header.sec, header.nanosec],
                "frame_id": header.frame_id,
                "size": list(image_bgr.shape[:2]),
            }
            self._journal.end_image(about, is_frame=True)
        kept = image_bgr if self._draws else None
        camera = self.calibration.camera(*image_bgr.shape[:2])
        self._pending[result.frame_index] = (header, message.received_ns, kept, camera)
        raw = self._messages([result], smoothed=False)
        return raw + self._smoothed(self._pipeline.smooth(result))

    def flush(self) -> list[NewMessage]:
        """Return the messages that smoothing has held back, at the end of the bag."""
        return self._smoothed(self._pipeline.flush())

    def _leave_out(self, message: BagMessage, reason: str) -> list[NewMessage]:
        self.skipped += 1
        _log.warning("%s: no faces for image %d: %s", message.topic, self.images, reason)
        return []

    def _smoothed(self, results: Sequence[FrameResult]) -> list[NewMessage]:
        made = self._messages(results, smoothed=True)
        for result in results:
            del self._pending[result.frame_index]
        return made

    def _messages(self, results: Iterable[FrameResult], *, smoothed: bool) -> list[NewMessage]:
        made = []
        for result in results:
            header, received_ns, image_bgr, camera = self._pending[result.frame_index]
            smooth = smoothed and self._smooths_poses
            metric = self._frames.frame(result, camera, smooth=smooth)
            scene = Scene(result, metric, header, image_bgr, self._model_set_name)
            for name, topic in self._topics.items():
                if OUTPUTS[name].smoothed == smoothed:
                    made.append(NewMessage(topic, received_ns, OUTPUTS[name].make(scene)))
        return made


def _remembered(entry: Entry) -> tuple[ImageHeader, np.ndarray]:
    """Header of an image that was processed before, and a blank one of its size."""
    sec, nanosec = entry.about["stamp"]
    height, width = entry.about["size"]
    header = ImageHeader(sec, nanosec, entry.about["frame_id"])
    return header, np.zeros((height, width, 3), np.uint8)
