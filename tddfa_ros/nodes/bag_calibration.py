"""The camera of an image topic of a bag, as its CameraInfo messages say."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import Any

from rosbags.typesys import Stores, get_typestore

from tddfa_ros.core.bag import (
    BAG_ERRORS,
    BagMessage,
    BagReader,
    camera_info_topic,
)
from tddfa_ros.core.calibration import Camera
from tddfa_ros.core.errors import ConfigError, MediaError
from tddfa_ros.core.image_message import CAMERA_INFO_TYPE
from tddfa_ros.nodes.camera_info import camera_of

_TYPES = get_typestore(Stores.ROS2_JAZZY)
_log = logging.getLogger(__name__)


class BagCalibration:
    """The newest calibration of one image topic; before the first message, that one.

    Parameters
    ----------
    bag : is searched for the topic's first CameraInfo
    image_topic : whose camera it is, by the convention of names
    rectified : whether its images are
    """

    def __init__(self, bag: BagReader, image_topic: str, *, rectified: bool) -> None:
        self.topic = camera_info_topic(image_topic)
        self._rectified = rectified
        self._message: Any = None
        self._said = ""
        if any(c.topic == self.topic and c.msgtype == CAMERA_INFO_TYPE for c in bag.connections):
            # A damaged bag is told of by who reads all of it, and kept up to there.
            with suppress(MediaError):
                for first in bag.messages((self.topic,)):
                    self.take(first)
                    if self._message is not None:
                        break

    def take(self, message: BagMessage) -> None:
        """Take over a message of the topic; what is no CameraInfo is left out with a warning."""
        try:
            self._message = read_camera_info(message)
        except MediaError as error:
            self._say(f"left out: {error}")

    def camera(self, height: int, width: int) -> Camera | None:
        """Camera of an image of that size; None if it is not calibrated, or wrongly."""
        if self._message is None:
            return None
        try:
            return camera_of(self._message, height, width, rectified=self._rectified)
        except ConfigError as error:
            self._say(f"{self.topic}: {error}; no metric pose")
            return None

    def _say(self, text: str) -> None:
        """Log a text unless it was the last one."""
        if text != self._said:
            self._said = text
            _log.warning("%s", text)


def read_camera_info(message: BagMessage) -> Any:
    """Return the fields of a CameraInfo of a bag; :class:`MediaError` if it is none, or damaged."""
    if message.msgtype != CAMERA_INFO_TYPE:
        raise MediaError(f"a message on {message.topic} is a {message.msgtype}, no CameraInfo")
    try:
        return _TYPES.deserialize_cdr(message.data, message.msgtype)
    except BAG_ERRORS as error:
        raise MediaError(
            f"a message on {message.topic} is damaged: {str(error) or type(error).__name__}"
        ) from error


def restamped_camera_info(fields: Any, header: Any) -> bytes:
    """Serialise a CameraInfo that :func:`read_camera_info` returned, with an image's header."""
    return bytes(_TYPES.serialize_cdr(replace(fields, header=header), CAMERA_INFO_TYPE))
