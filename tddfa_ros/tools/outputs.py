"""Table of the pictures that `image` and `video` make of a frame: a new output is a row here."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from tddfa_ros.core import draw
from tddfa_ros.core.types import FrameResult

DEFAULT_OVERLAY = "landmarks,pose,box,id"


@dataclass(frozen=True)
class Scene:
    """A frame and what was fitted in it.

    Attributes
    ----------
    image_bgr : (height, width, 3) uint8, never drawn into
    result : its faces
    """

    image_bgr: np.ndarray
    result: FrameResult


@dataclass(frozen=True)
class Output:
    """One kind of picture.

    Attributes
    ----------
    description : for ``--help``
    suffix : of the picture's file; ``.png`` where values must survive, ``.jpg`` for photos
    draw : makes the picture, (height, width, 3) uint8 BGR
    """

    description: str
    suffix: str
    draw: Callable[[Scene], np.ndarray]


def overlay(scene: Scene, parts: tuple[str, ...]) -> np.ndarray:
    """Copy of the image with `parts` of :data:`tddfa_ros.core.draw.OVERLAY_PARTS` drawn over it."""
    picture = scene.image_bgr.copy()
    draw.draw_faces(picture, scene.result.faces, parts)
    return picture


def _overlay_of(*parts: str) -> Callable[[Scene], np.ndarray]:
    return lambda scene: overlay(scene, parts)


OUTPUTS = {
    "landmarks": Output("the 68 landmarks", ".jpg", _overlay_of("landmarks")),
    "pose": Output("axes of the head's orientation", ".jpg", _overlay_of("pose")),
    "box": Output("boxes of the faces", ".jpg", _overlay_of("box")),
}


def _names(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(allowed)}")
        return names

    return read


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--overlay`` (what the annotated picture shows) and ``--outputs`` (further files)."""
    listed = "; ".join(f"{name}: {output.description}" for name, output in OUTPUTS.items())
    parser.add_argument(
        "--overlay",
        type=_names(draw.OVERLAY_PARTS),
        default=DEFAULT_OVERLAY,
        metavar="PARTS",
        help="what the annotated picture shows, separated by commas: "
        f"{', '.join(draw.OVERLAY_PARTS)} (default {DEFAULT_OVERLAY})",
    )
    parser.add_argument(
        "--outputs",
        type=_names(tuple(OUTPUTS)),
        default=(),
        metavar="NAMES",
        help=f"further files, each <stem>_<name>, separated by commas. {listed}",
    )


def encode(picture_bgr: np.ndarray, suffix: str) -> bytes:
    """Picture as the content of a file with that suffix."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == ".jpg" else []
    return cv2.imencode(suffix, picture_bgr, quality)[1].tobytes()
