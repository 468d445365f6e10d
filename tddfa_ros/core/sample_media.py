"""A real face that every installation has: the astronaut of scikit-image, still and moving.

The photograph (Eileen Collins, NASA) is in the public domain.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np
from skimage.data import astronaut

from tddfa_ros.core.errors import MediaError

CLIP_WIDTH, CLIP_HEIGHT = 640, 480
CLIP_RATE_HZ = 30.0
CLIP_SECONDS = 6.0

FACE_CENTRE_XY = (224.0, 116.0)
"""Middle of the face in the photograph, pixels."""


def astronaut_picture() -> np.ndarray:
    """(512, 512, 3) uint8 BGR: the photograph.

    Raises
    ------
    MediaError
        The installed scikit-image came without it.
    """
    try:
        photo_rgb = astronaut()
    except (OSError, ImportError, RuntimeError) as error:
        raise MediaError(
            f"scikit-image has no astronaut photograph here ({error}); name an input of your own"
        ) from error
    return cv2.cvtColor(photo_rgb, cv2.COLOR_RGB2BGR)


@cache
def _photograph() -> np.ndarray:
    return astronaut_picture()


def astronaut_view(
    scale: float, roll_rad: float, face_xy: tuple[float, float], size_wh: tuple[int, int]
) -> np.ndarray:
    """Photograph scaled and turned about the face, the face's middle at `face_xy`.

    Parameters
    ----------
    scale : pixels of the view per pixel of the photograph
    roll_rad : turn, positive clockwise as seen
    face_xy : pixels of the view
    size_wh : width and height of the view

    Returns
    -------
    (height, width, 3) uint8 BGR; what lies beyond the photograph repeats its edge
    """
    cos, sin = scale * np.cos(roll_rad), scale * np.sin(roll_rad)
    rotation = np.array([[cos, -sin], [sin, cos]])
    offset = np.asarray(face_xy) - rotation @ FACE_CENTRE_XY
    return cv2.warpAffine(
        _photograph(),
        np.column_stack([rotation, offset]),
        size_wh,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def astronaut_clip() -> Iterator[np.ndarray]:
    """Frames of a clip in which the photograph sways, zooms and turns; the same at each call.

    Yields
    ------
    (480, 640, 3) uint8 BGR, ``CLIP_SECONDS * CLIP_RATE_HZ`` of them
    """
    for index in range(round(CLIP_SECONDS * CLIP_RATE_HZ)):
        phase = 2 * np.pi * index / (CLIP_SECONDS * CLIP_RATE_HZ)
        yield astronaut_view(
            scale=1.75 - 0.35 * np.cos(phase),
            roll_rad=np.deg2rad(15.0) * np.sin(2 * phase),
            face_xy=(300 + 60 * np.sin(phase), 185 + 20 * np.sin(2 * phase)),
            size_wh=(CLIP_WIDTH, CLIP_HEIGHT),
        )
