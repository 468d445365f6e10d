"""Cuts: where a stream goes on with another place, and somebody else where a face was.

A video is edited, a camera switched. An image is another place, and a face another one, if small
pictures of them (:func:`tddfa_ros.core.appearance.appearance_of`) hardly correlate.
"""

from __future__ import annotations

import numpy as np

# Least correlation of what is the same. Of whole images it was 0.98 and more from one to the next
# (a talking head, five a second), 0.63 at most between photos of different people; of faces 0.79
# and more where half the light went off, 0.58 at most between two people.
SAME = 0.7
# Least contrast, of 1, with which a picture tells what it shows; and with which it shows anything:
# that of noise is 0.003, one grey level 0.004. In a face of less a network sees what it likes.
TELLING, SHOWING = 0.01, 0.004


def contrast_of(picture: np.ndarray | None) -> float:
    """Root mean square of how a small picture differs from its mean colour; 0 if there is none."""
    return 0.0 if picture is None else float(np.sqrt((_varying(picture) ** 2).mean()))


def shows_another(before: np.ndarray | None, now: np.ndarray | None) -> bool:
    """Whether two small pictures show different things, however bright.

    Parameters
    ----------
    before, now : (h, w, 3) in [0, 1], of one size; None if there is none, which tells nothing
    """
    contrasts = contrast_of(before), contrast_of(now)
    if before is None or now is None or min(contrasts) < TELLING:
        return False
    common = float((_varying(before) * _varying(now)).mean())
    return common < SAME * contrasts[0] * contrasts[1]


def _varying(picture: np.ndarray) -> np.ndarray:
    return picture - picture.mean(axis=(0, 1))
