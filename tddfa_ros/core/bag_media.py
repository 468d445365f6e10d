"""Recordings as a source of images, read like any other of :mod:`tddfa_ros.core.media`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from tddfa_ros.core.bag import BagMessage, ImageBag
from tddfa_ros.core.errors import ImageError, MediaError
from tddfa_ros.core.image_message import bgr_of_fields
from tddfa_ros.core.media_stream import Media, MediaFrame


class Bag(Media):
    """Images of one topic of a rosbag2 recording, with the stamps of their headers."""

    kind = "bag"

    def __init__(self, path: Path, topic: str = "", told: Collection[str] = ()) -> None:
        super().__init__(str(path), told)
        self.bag = ImageBag(path, topic)
        self.frame_count = self.bag.frame_count
        self._start(self._decode())

    def _decode(self) -> Iterator[MediaFrame]:
        for index, message in enumerate(self.messages((self.bag.image_topic,))):
            try:
                image = self.bag.image(message)
                pixels = bgr_of_fields(image.fields)
            except (MediaError, ImageError) as error:
                self._skip(str(error))
                continue
            yield MediaFrame(pixels, image.stamp_ns, f"{index:06d}", image.frame_id)

    def messages(self, topics: tuple[str, ...]) -> Iterator[BagMessage]:
        """Yield the undecoded messages of some topics, up to where the recording is damaged."""
        try:
            yield from self.bag.messages(topics)
        except MediaError as error:
            self._skip(f"the rest: {error}")

    def close(self) -> None:
        """Close the recording."""
        self.bag.close()
