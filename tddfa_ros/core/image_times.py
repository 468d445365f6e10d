"""Times of images for filters and tracks, also of those that nobody has stamped."""

from __future__ import annotations

from collections.abc import Callable


class ImageTimes:
    """An image's time is its stamp; where that stays 0, the time since the first such image.

    A stream may well begin at 0. One whose header is left empty would stand still: nothing would be
    smoothed, searched for or shown again.

    Parameters
    ----------
    warn : is told once if the stamps stay 0
    instead : what the times of arrival are, for that warning
    """

    def __init__(self, warn: Callable[[str], object], instead: str) -> None:
        self._warn = warn
        self._instead = instead
        self._began_ns: int | None = None
        self._told = False

    def of(self, stamp_ns: int, arrived_ns: int) -> int:
        """Time of the next image, nanoseconds.

        Parameters
        ----------
        stamp_ns : as its header says
        arrived_ns : by the clock of the node, or of who recorded the bag
        """
        if stamp_ns:
            self._began_ns = None
            return stamp_ns
        if self._began_ns is None:
            self._began_ns = arrived_ns
            return 0
        if not self._told:
            self._told = True
            self._warn(
                f"the images have no stamp: faces are followed by the times of {self._instead}. "
                "Have the publisher fill in header.stamp"
            )
        return arrived_ns - self._began_ns
