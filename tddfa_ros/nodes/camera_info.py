"""Camera calibrations: files as ROS's camera_calibration writes them, as CameraInfo messages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sensor_msgs.msg import CameraInfo

from tddfa_ros.core.array_file import read_bounded, shown
from tddfa_ros.core.calibration import DISTORTION_MODELS, Camera, camera_from_calibration
from tddfa_ros.core.errors import ConfigError, UnsafeFileError
from tddfa_ros.core.yaml_text import read_yaml

MAX_BYTES = 1 << 20
LARGEST = sys.float_info.max  # integers of YAML may be larger


def uncalibrated(height: int, width: int) -> CameraInfo:
    """CameraInfo of a camera of which only the image size is known: K[0] is 0."""
    return CameraInfo(height=height, width=width)


def camera_of(message: Any, height: int, width: int, *, rectified: bool) -> Camera | None:
    """Camera of an image from a CameraInfo, of rclpy or of rosbags; None if not calibrated.

    Raises
    ------
    ConfigError
        See :func:`~tddfa_ros.core.calibration.camera_from_calibration`.
    """
    return camera_from_calibration(
        **calibration_fields(message), rectified=rectified, image_height=height, image_width=width
    )


def calibration_fields(message: Any) -> dict[str, Any]:
    """All of a CameraInfo that its camera depends on, by the names in `camera_from_calibration`."""
    roi = message.roi
    return {
        "matrix": message.k,
        "distortion": message.d,
        "distortion_model": message.distortion_model,
        "projection": message.p,
        "height": message.height,
        "width": message.width,
        "roi_xywh": (roi.x_offset, roi.y_offset, roi.width, roi.height),
        "binning_xy": (message.binning_x, message.binning_y),
    }


def read_calibration(file: str) -> CameraInfo:
    """Read a calibration file.

    Parameters
    ----------
    file : path, or file:// address

    Raises
    ------
    ConfigError
        Missing, no YAML, or a field is missing or of the wrong size.
    """
    path = Path(file.removeprefix("file://"))
    try:
        path = path.expanduser()
        content = read_yaml(read_bounded(path, MAX_BYTES))
    except (OSError, RuntimeError, UnsafeFileError) as error:  # RuntimeError: no such home
        raise ConfigError(f"{path}: cannot be read as a calibration: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a calibration; expected what camera_calibration writes")
    model = content.get("distortion_model", "")
    if model not in DISTORTION_MODELS:
        raise ConfigError(
            f"{path}: distortion_model {shown(model)} is not one of {', '.join(DISTORTION_MODELS)}"
        )
    intrinsics = _matrix(path, content, "camera_matrix", 9)
    if intrinsics[0] <= 0 or intrinsics[4] <= 0:
        raise ConfigError(
            f"{path}: camera_matrix has focal lengths {intrinsics[0]}, {intrinsics[4]}"
        )
    identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    unrectified = [*intrinsics[0:3], 0.0, *intrinsics[3:6], 0.0, *intrinsics[6:9], 0.0]
    return CameraInfo(
        height=_size(path, content, "image_height"),
        width=_size(path, content, "image_width"),
        distortion_model=model,
        d=_matrix(path, content, "distortion_coefficients", None, []),
        k=intrinsics,
        r=_matrix(path, content, "rectification_matrix", 9, identity),
        p=_matrix(path, content, "projection_matrix", 12, unrectified),
    )


def _size(path: Path, content: dict[str, Any], name: str) -> int:
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 16:
        raise ConfigError(f"{path}: {name} is {shown(value)}; expected a number of pixels")
    return value


def _matrix(
    path: Path,
    content: dict[str, Any],
    name: str,
    count: int | None,
    default: list[float] | None = None,
) -> list[float]:
    if name not in content and default is not None:
        return default
    entry = content.get(name)
    data = entry.get("data") if isinstance(entry, dict) else None
    if not isinstance(data, list) or (count is not None and len(data) != count):
        expected = f"{count} numbers" if count else "a list of numbers"
        raise ConfigError(f"{path}: {name}.data must be {expected}, not {shown(data)}")
    if not all(isinstance(v, int | float) and abs(v) <= LARGEST for v in data):
        raise ConfigError(f"{path}: {name}.data holds something other than finite numbers")
    return [float(v) for v in data]
