"""Settings of the face node beside those of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from tddfa_ros.core.config import CheckedConfig, option
from tddfa_ros.core.outputs import DEFAULT_OVERLAY, DEFAULT_TEXTURE_SIZE, OVERLAY_PARTS


@dataclass(frozen=True)
class FaceNodeConfig(CheckedConfig):
    """How images come in and results go out."""

    image_transport: str = option(
        "raw",
        "Images come as sensor_msgs/Image on 'image' (raw) or sensor_msgs/CompressedImage on "
        "'image/compressed' (compressed).",
        choices=("raw", "compressed"),
    )
    image_reliability: str = option(
        "best_effort",
        "Reliability asked of the images' publisher; frame_policy every is always reliable.",
        choices=("best_effort", "reliable"),
    )
    frame_policy: str = option(
        "latest",
        "latest: process the newest image, drop the others; every: process all, for replay.",
        choices=("latest", "every"),
    )
    queue_images: int = option(
        200,
        "Images that may wait with frame_policy every; more drop the oldest, which are counted.",
        minimum=1,
        maximum=10000,
    )
    autostart: bool = option(
        True, "Configure and activate at start; otherwise wait for a lifecycle manager."
    )
    overlay: str = option(
        ",".join(DEFAULT_OVERLAY),
        "What is drawn on 'faces/overlay', separated by commas, in that order.",
        choices=OVERLAY_PARTS,
        several=True,
        runtime=True,
    )
    landmark_visibility: bool = option(
        False,
        "Tell in the messages which landmarks are seen, for about a millisecond per image; "
        "otherwise that is NaN.",
        runtime=True,
    )
    texture_size: int = option(
        DEFAULT_TEXTURE_SIZE,
        "Texels a side of 'faces/texture' and of exported textures.",
        minimum=256,
        maximum=2048,
        runtime=True,
    )
    export_dir: str = option(
        "~/.ros/tddfa_ros",
        "Folder below which '~/export_mesh' writes; made when needed.",
        runtime=True,
    )
    diagnostics_period_s: float = option(
        1.0, "Seconds between two messages on '/diagnostics'.", minimum=0.1, maximum=3600.0
    )
    marker_mesh: str = option(
        "decimated",
        "Mesh on 'faces/markers': of at most 3000 triangles a face, of all of them, or none.",
        choices=("decimated", "full", "none"),
        runtime=True,
    )
    marker_rate: float = option(
        10.0,
        "Most messages a second on 'faces/markers', by the images' stamps.",
        minimum=0.1,
        maximum=1000.0,
        runtime=True,
    )
    humans: bool = option(
        False, "Publish the faces below '/humans/faces', too, as REP-155 has them; needs hri_msgs."
    )
