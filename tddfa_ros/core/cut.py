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
# Root mean square, of 1, of a picture that tells nothing: a black image, a covered lens.
_PLAIN = 0.01


def shows_another(before: np.ndarray | None, now: np.ndarray | None) -> bool:
    """Whether two small pictures show different things, however bright.

    Parameters
    ----------
    before, now : (h, w, 3) in [0, 1], of one size; None if there is none, which tells nothing
    """
    if before is None or now is None:
        return False
    first, second = (picture - picture.mean(axis=(0, 1)) for picture in (before, now))
    lengths = [float(np.sqrt((picture**2).mean())) for picture in (first, second)]
    if min(lengths) < _PLAIN:
        return False
    return float((first * second).mean()) < SAME * lengths[0] * lengths[1]
