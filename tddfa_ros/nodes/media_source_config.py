"""Settings of the media source."""

from __future__ import annotations

from dataclasses import dataclass

from tddfa_ros.core.config import CheckedConfig, option


@dataclass(frozen=True)
class MediaSourceConfig(CheckedConfig):
    """What is played, and how fast."""

    input: str = option(
        "0", "Video, image, folder of images, rosbag2 recording, webcam number or device, stream."
    )
    bag_topic: str = option("", "Image topic of a bag; empty takes the first of a camera.")
    rate_hz: float = option(
        0.0,
        "Images per second; 0 takes the source's own pace. Stamps stay those of the source.",
        minimum=0.0,
        maximum=1000.0,
        runtime=True,
    )
    pace: str = option(
        "time",
        "time: images go out at their times; answered: as fast as 'faces' answers them, a few "
        "ahead (more where smoothing 'window' answers late).",
        choices=("time", "answered"),
    )
    loop: bool = option(False, "Begin again at the end.", runtime=True)
    start_s: float = option(
        0.0, "Seconds from the beginning that are left out.", minimum=0.0, maximum=1e6
    )
    end_s: float = option(
        0.0,
        "Seconds from the beginning after which it ends; 0: plays all.",
        minimum=0.0,
        maximum=1e6,
    )
    wait_for_subscribers: int = option(
        0, "Subscribers of the images to wait for before the first.", minimum=0, maximum=100
    )
    wait_for_nodes: str = option(
        "",
        "Nodes to wait for as subscribers of the images before the first, separated by commas; "
        "names without '/' are those of the own namespace.",
    )
    frame_id: str = option(
        "camera", "Coordinate frame of the images; those of a bag keep their own."
    )
    camera_info_file: str = option(
        "", "Calibration (YAML of camera_calibration, path or file://); empty: not calibrated."
    )
