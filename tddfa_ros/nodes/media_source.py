"""Plays media as a camera would; run as ``python -m tddfa_ros.nodes.media_source``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image

from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.bag_media import Bag
from tddfa_ros.core.config_arguments import names_in
from tddfa_ros.core.errors import ImageError, MediaError
from tddfa_ros.core.image_message import CAMERA_INFO_TYPE, IMAGE_TYPE
from tddfa_ros.core.media import open_media
from tddfa_ros.core.media_stream import Media
from tddfa_ros.nodes.bag_calibration import read_camera_info, restamped_camera_info
from tddfa_ros.nodes.camera_info import read_calibration, uncalibrated
from tddfa_ros.nodes.media_source_config import MediaSourceConfig
from tddfa_ros.nodes.parameters import ConfigParameters
from tddfa_ros.nodes.process import run_node
from tddfa_ros.nodes.quality_of_service import served_nodes
from tddfa_ros.nodes.raw_image import (
    ImageHeader,
    bgr_of_fields,
    encode_image,
    require_readable,
)

IMAGE_QOS = QoSProfile(depth=1)
"""Reliable, so that it serves those who ask for it, and those who do not."""
MAX_AHEAD = 3
"""Images sent but not answered yet, with pace answered."""
MOST_AHEAD = 34
"""As many where answers are late: of smoothing 'window' by up to 30 images."""

ANSWER_TIMEOUT_S = 5.0
NEXT_ANSWER_TIMEOUT_S = 0.2
"""Once there was none in that time, until one comes."""
ACKNOWLEDGE_TIMEOUT_S = 1.0
REANCHOR_S = 1.0
LOOK_S = 0.1
"""How soon another rate is heeded while an image is not due."""
LINGER_S = 0.2


@dataclass(frozen=True)
class _Outgoing:
    """Serialised messages that go out together, at a time of the source."""

    at_ns: int
    image: bytes
    camera_info: bytes


class MediaSource(Node):
    """Publishes ``image`` and ``camera_info`` from a file, folder, camera or bag.

    Stamps are those of the file (a video starts at 0); a camera's come from the clock. A looping
    video's stamps go on, a looping bag's jump back.

    Attributes
    ----------
    sent : images published so far

    Raises
    ------
    ConfigError
        A parameter given at start is refused.
    """

    def __init__(self, **node_options: Any) -> None:
        super().__init__("media_source", **node_options)
        self.sent = 0
        self._playing = False
        self._settings = ConfigParameters(
            self,
            (MediaSourceConfig,),
            is_running=lambda: self._playing,
            fixed="Read at start.",
            remedy="any more: it is read at start; start the node anew with it",
            apply=self._apply,
            dynamic=("input",),
        )
        (self._config,) = self._settings.configs()
        self._images = self.create_publisher(Image, "image", IMAGE_QOS)
        self._camera_infos = self.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=10))
        self._answers = _Answers()
        if self._config.pace == "answered":
            self.create_subscription(
                FaceArray, "faces", self._on_faces, QoSProfile(depth=1000), raw=True
            )

    def run(self, stop: threading.Event) -> int:
        """Play to the end, or until `stop`.

        Raises
        ------
        MediaError, ImageError, ConfigError
            The input or the calibration cannot be read.
        """
        config = self._config
        self._playing = True
        calibration = None
        if config.camera_info_file:
            calibration = read_calibration(config.camera_info_file)
        media = open_media(config.input, topic=config.bag_topic, stop=stop)
        self.get_logger().info(f"playing {media.kind} {media.source} on {self._images.topic_name}")
        self._wait_for_subscribers(stop)
        pace = _Pace()
        loop_offset_ns = 0
        while True:
            sent_before = self.sent
            with media:
                loop_offset_ns = self._play(media, calibration, loop_offset_ns, pace, stop)
            if self.sent == sent_before and not stop.is_set():
                raise MediaError(
                    f"{config.input}: no image between start_s={config.start_s:g} and "
                    f"end_s={config.end_s:g}"
                )
            if stop.is_set() or not self._config.loop or media.live:
                break
            media = open_media(config.input, topic=config.bag_topic, told=media.told)
        self._images.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_TIMEOUT_S))
        stop.wait(LINGER_S)
        self.get_logger().info(f"sent {self.sent} images")
        return 0

    def close(self) -> None:
        """Destroy the node."""
        self.destroy_node()

    def _play(
        self,
        media: Media,
        calibration: CameraInfo | None,
        loop_offset_ns: int,
        pace: _Pace,
        stop: threading.Event,
    ) -> int:
        """Play once; returns the offset of the next round's times."""
        config = self._config
        start_ns, end_ns = round(config.start_s * 1e9), round(config.end_s * 1e9)
        first_ns = first_sent_ns = last_ns = None
        if isinstance(media, Bag):
            outgoing = self._from_bag(media, calibration)
        else:
            outgoing = self._from_frames(media, calibration, loop_offset_ns)
        for item in outgoing:
            first_ns = item.at_ns if first_ns is None else first_ns
            since_first_ns = item.at_ns - first_ns
            if stop.is_set():
                break
            if since_first_ns < start_ns:
                continue
            if end_ns and since_first_ns > end_ns:
                break
            at_ns = item.at_ns + loop_offset_ns
            if not self._may_send(media, at_ns, pace, stop):
                continue
            self._send(item, media.live)
            first_sent_ns = item.at_ns if first_sent_ns is None else first_sent_ns
            last_ns = item.at_ns
        if first_sent_ns is None:
            return loop_offset_ns
        # An image alone has no rate of its own.
        rate_hz = media.fps or self._config.rate_hz or 1.0
        return loop_offset_ns + last_ns - first_sent_ns + round(1e9 / rate_hz)

    def _from_frames(
        self, media: Media, calibration: CameraInfo | None, loop_offset_ns: int
    ) -> Iterator[_Outgoing]:
        for frame in media:
            stamp_ns = frame.stamp_ns + loop_offset_ns
            header = ImageHeader(*divmod(stamp_ns, 1_000_000_000), self._config.frame_id)
            info = calibration or uncalibrated(*frame.image_bgr.shape[:2])
            info.header = header.message()
            yield _Outgoing(
                frame.stamp_ns, encode_image(frame.image_bgr, header), serialize_message(info)
            )

    def _from_bag(self, media: Bag, calibration: CameraInfo | None) -> Iterator[_Outgoing]:
        """Images as they are in the bag, undecoded; compressed ones decoded.

        Each goes with the newest CameraInfo of the bag: as it was recorded, or restamped where it
        has gone with an image before. Images before the first one go with that. A driver may say
        it only once, when neither the part that is played nor its subscribers are there yet.
        """
        newest = None if calibration else self._first_camera_info(media)
        of_bag = newest is not None
        info_topic = media.bag.camera_info_topic() if of_bag else ""
        as_recorded: bytes | None = None
        for message in media.messages((media.bag.image_topic, info_topic)):
            image, info, raw = message.data, as_recorded, message.msgtype == IMAGE_TYPE
            try:
                if message.msgtype == CAMERA_INFO_TYPE:
                    newest, as_recorded = read_camera_info(message), message.data
                    continue
                found = media.bag.image(message)
                header = ImageHeader(*divmod(found.stamp_ns, 1_000_000_000), found.frame_id)
                if raw and of_bag:
                    # Nobody would answer one that cannot be read.
                    require_readable(found.fields)
                else:
                    pixels = bgr_of_fields(found.fields)
            except (MediaError, ImageError) as error:
                self._tell_left_out(media, error)
                continue
            if not raw:
                image = encode_image(pixels, header)
            if not of_bag:
                own = calibration or uncalibrated(*pixels.shape[:2])
                own.header = header.message()
                info = serialize_message(own)
            elif info is None:
                info = restamped_camera_info(newest, found.fields.header)
            as_recorded = None
            yield _Outgoing(message.received_ns, image, info)

    def _first_camera_info(self, media: Bag) -> Any:
        """Read the first CameraInfo that goes with the images; None if there is none."""
        topic = media.bag.camera_info_topic()
        for message in media.messages((topic,)) if topic else ():
            try:
                return read_camera_info(message)
            except MediaError as error:
                self._tell_left_out(media, error)
        return None

    def _tell_left_out(self, media: Bag, error: Exception) -> None:
        if str(error) not in media.told:
            media.told.add(str(error))
            self.get_logger().warning(f"left out: {error}")

    def _may_send(self, media: Media, at_ns: int, pace: _Pace, stop: threading.Event) -> bool:
        """Wait until an image is due; False if it is to be left out."""
        rate_hz = self._config.rate_hz
        if media.live:
            return rate_hz == 0 or pace.admits(at_ns, rate_hz)
        if self._config.pace == "answered":
            return self._may_send_unanswered(stop)
        due_s = time.monotonic() + pace.seconds_until(at_ns, rate_hz)
        while (left_s := due_s - time.monotonic()) > 0 and not stop.wait(min(left_s, LOOK_S)):
            if self._config.rate_hz != rate_hz:
                return self._may_send(media, at_ns, pace, stop)
        return not stop.is_set()

    def _may_send_unanswered(self, stop: threading.Event) -> bool:
        """Wait until few enough images are not answered; False if stopped before."""
        waited_s = 0.0
        while not self._answers.admit(0.1):
            waited_s += 0.1
            if stop.is_set():
                return False
            if self._answers.overdue and waited_s >= NEXT_ANSWER_TIMEOUT_S:
                self._answers.give_up_one()
            elif waited_s >= ANSWER_TIMEOUT_S:
                self._answers.give_up_one()
                self.get_logger().warning(
                    f"no answer on 'faces' for {ANSWER_TIMEOUT_S:g} s; sending more images ahead: "
                    "smoothing 'window' answers late; if it is not set, see whether the face node "
                    "runs"
                )
        return True

    def _send(self, item: _Outgoing, live: bool) -> None:
        self._camera_infos.publish(item.camera_info)
        # With depth 1 a reliable subscriber would lose the image before, had it not come yet.
        if not live and not self._images.wait_for_all_acked(
            Duration(seconds=ACKNOWLEDGE_TIMEOUT_S)
        ):
            self.get_logger().warning(
                "a subscriber does not take the images; it loses some", throttle_duration_sec=5.0
            )
        self._images.publish(item.image)
        self.sent += 1

    def _wait_for_subscribers(self, stop: threading.Event) -> None:
        while (awaited := self._awaited_subscribers()) and not stop.wait(0.02):
            self.get_logger().info(
                f"waiting for {awaited} to subscribe to {self._images.topic_name}",
                throttle_duration_sec=5.0,
                skip_first=True,
            )

    def _awaited_subscribers(self) -> str:
        """Who must still subscribe before the first image goes out."""
        config, topic = self._config, self._images.topic_name
        here = self.get_namespace().rstrip("/")
        names = names_in(config.wait_for_nodes)
        count = config.wait_for_subscribers
        if names:
            wanted = {name if name.startswith("/") else f"{here}/{name}" for name in names}
            served = served_nodes(self, topic, IMAGE_TYPE, IMAGE_QOS)
            if missing := wanted.difference(served):
                return ", ".join(sorted(missing))
            # Images reach who is matched, which comes after being heard of and has no names.
            count = max(count, len(served))
        return f"{count} nodes" if self._images.get_subscription_count() < count else ""

    def _on_faces(self, _: bytes) -> None:
        self._answers.add()

    def _apply(self, configs: Sequence[Any]) -> None:
        (self._config,) = configs


class _Answers:
    """Counts the images sent that are not answered yet.

    Attributes
    ----------
    allowed : how many there may be
    overdue : whether none came in time and none since, and more may be allowed
    """

    def __init__(self) -> None:
        self.allowed = MAX_AHEAD
        self.overdue = False
        self._awaited = 0
        self._changed = threading.Condition()

    def add(self) -> None:
        """Count an answer; those that nothing waits for, as of a second face node, do not count."""
        with self._changed:
            self._awaited = max(0, self._awaited - 1)
            self.overdue = False
            self._changed.notify()

    def admit(self, timeout_s: float) -> bool:
        """Count one more image as sent, once there may be; False if that is not in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._awaited < self.allowed, timeout_s):
                return False
            self._awaited += 1
            return True

    def give_up_one(self) -> None:
        """Allow one more; at the limit, await one less, as it is lost and not late."""
        with self._changed:
            if self.allowed < MOST_AHEAD:
                self.allowed += 1
            else:
                self._awaited = max(0, self._awaited - 1)
            self.overdue = self.allowed < MOST_AHEAD


class _Pace:
    """Turns times of a source into times to wait."""

    def __init__(self) -> None:
        self._anchor_s: float | None = None
        self._first_ns = 0
        self._count = 0
        self._rate_hz = 0.0
        self._next_due_ns = 0

    def seconds_until(self, at_ns: int, rate_hz: float) -> float:
        """Seconds until an image of that time is due; 0 if it is late."""
        now_s = time.monotonic()
        if self._anchor_s is None or rate_hz != self._rate_hz:
            self._anchor_s, self._first_ns, self._count = now_s, at_ns, 0
            self._rate_hz = rate_hz
        since_s = self._count / rate_hz if rate_hz > 0 else (at_ns - self._first_ns) / 1e9
        self._count += 1
        wait_s = self._anchor_s + since_s - now_s
        if wait_s < -REANCHOR_S:  # Far behind: go on from here instead of rushing.
            self._anchor_s -= wait_s
        return max(wait_s, 0.0)

    def admits(self, at_ns: int, rate_hz: float) -> bool:
        """Whether a camera's image is one of those that keep to a lower rate."""
        period_ns = round(1e9 / rate_hz)
        early_ns = self._next_due_ns - at_ns
        if 0 < early_ns <= period_ns:
            return False
        # By more than a period: after a pause, a lower rate, or when the clock was set.
        astray = abs(early_ns) > period_ns
        self._next_due_ns = (at_ns if astray else self._next_due_ns) + period_ns
        return True


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until its media ends or Ctrl-C; returns the exit code."""
    return run_node(MediaSource, args, node_name="media_source")


if __name__ == "__main__":
    sys.exit(main())
