"""Command-line options for what `image` and `video` write beside the results."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import cv2
import numpy as np

from tddfa_ros.core.config_arguments import names_among
from tddfa_ros.core.mesh_io import POSES
from tddfa_ros.core.outputs import (
    DEFAULT_OVERLAY,
    DEFAULT_TEXTURE_SIZE,
    OUTPUTS,
    OVERLAY_PARTS,
    Scene,
)
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.render import Renderer
from tddfa_ros.core.texture_layout import LARGEST_TEXTURE
from tddfa_ros.core.types import FrameResult

SMALLEST_TEXTURE = 16


@dataclass(frozen=True)
class Wishes:
    """What the user wants to see.

    Attributes
    ----------
    overlay : parts that the annotated picture shows, of :data:`OVERLAY_PARTS`
    names : further outputs, of :data:`OUTPUTS`
    texture_size : side of textures, texels
    mesh_pose : place of meshes, one of :data:`POSES`
    """

    overlay: tuple[str, ...] = DEFAULT_OVERLAY
    names: tuple[str, ...] = ()
    texture_size: int = DEFAULT_TEXTURE_SIZE
    mesh_pose: str = "image"


class Stage:
    """Makes the scene of each frame of one pipeline, with one renderer for all.

    Parameters
    ----------
    pipeline : what fits the faces
    wishes : how they are to be shown
    """

    def __init__(self, pipeline: FacePipeline, wishes: Wishes) -> None:
        self.wishes = wishes
        self._pipeline = pipeline
        self._renderer = Renderer(pipeline.model_set.face_model)

    def scene(self, image_bgr: np.ndarray, result: FrameResult) -> Scene:
        """Return what the outputs of one frame are made from."""
        return Scene(
            image_bgr,
            result.faces,
            self._renderer,
            self._pipeline.model,
            vertices_of=self._pipeline.vertices_of,
            texture_size=self.wishes.texture_size,
            mesh_pose=self.wishes.mesh_pose,
        )


def _texture_size(text: str) -> int:
    if not text.isdecimal() or not SMALLEST_TEXTURE <= int(text) <= LARGEST_TEXTURE:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of texels within {SMALLEST_TEXTURE} and {LARGEST_TEXTURE}"
        )
    return int(text)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--overlay`` (what the annotated picture shows) and ``--outputs`` (further files)."""
    listed = "; ".join(f"{name}: {output.description}" for name, output in OUTPUTS.items())
    parser.add_argument(
        "--overlay",
        type=names_among(OVERLAY_PARTS),
        default=DEFAULT_OVERLAY,
        metavar="PARTS",
        help="what the annotated picture shows, separated by commas, drawn in that order: "
        f"{', '.join(OVERLAY_PARTS)} (default {','.join(DEFAULT_OVERLAY)})",
    )
    parser.add_argument(
        "--outputs",
        type=names_among(OUTPUTS),
        default=(),
        metavar="NAMES",
        help=f"further files, each <stem>_<name>, separated by commas. {listed}",
    )
    parser.add_argument(
        "--texture-size",
        type=_texture_size,
        default=DEFAULT_TEXTURE_SIZE,
        metavar="TEXELS",
        help="side of textures (default %(default)s)",
    )
    parser.add_argument(
        "--mesh-pose",
        choices=POSES,
        default="image",
        help="place of meshes. own: upright, in metres; frontal: upright, in pixels; image: as "
        "fitted, in pixels, all faces in one file (default %(default)s)",
    )


def wishes_from(args: argparse.Namespace) -> Wishes:
    """Return what the command line asks for."""
    return Wishes(args.overlay, args.outputs, args.texture_size, args.mesh_pose)


def as_bgr(picture: np.ndarray) -> np.ndarray:
    """Picture as a video takes it, (height, width, 3); what is transparent becomes black."""
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    return picture[..., :3] * (picture[..., 3:] > 0) if picture.shape[2] == 4 else picture
