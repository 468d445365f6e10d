"""Recordings as a source of images, read like any other of :mod:`tddfa_ros.core.media`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path

from tddfa_ros.core.bag import BagMessage, ImageBag
from tddfa_ros.core.errors import ImageError, MediaError
from tddfa_ros.core.image_message import bgr_of_fields
from tddfa_ros.core.image_times import ImageTimes
from tddfa_ros.core.media_stream import Media, MediaFrame

_log = logging.getLogger(__name__)


class Bag(Media):
    """Images of one topic of a rosbag2 recording, with the stamps of their headers.

    Where those stay 0, the times of recording stand for them; see :class:`ImageTimes`.
    """

    kind = "bag"

    def __init__(self, path: Path, topic: str = "", told: Collection[str] = ()) -> None:
        super().__init__(str(path), told)
        self.bag = ImageBag(path, topic)
        self.frame_count = self.bag.frame_count
        self._start(self._decode())

    def _decode(self) -> Iterator[MediaFrame]:
        times = ImageTimes(_log.warning, "recording")
        for message in self.messages((self.bag.image_topic,)):
            try:
                image = self.bag.image(message)
                pixels = bgr_of_fields(image.fields)
            except (MediaError, ImageError) as error:
                self._skip(str(error))
                continue
            stamp_ns = times.of(image.stamp_ns, message.received_ns)
            yield MediaFrame(pixels, stamp_ns, frame_id=image.frame_id)

    def messages(self, topics: tuple[str, ...]) -> Iterator[BagMessage]:
        """Yield the undecoded messages of some topics, up to where the recording is damaged."""
        try:
            yield from self.bag.messages(topics)
        except MediaError as error:
            self._skip(f"the rest: {error}")

    def close(self) -> None:
        """Close the recording."""
        self.bag.close()
