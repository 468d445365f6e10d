"""Times of images for filters and tracks, also of those that nobody has stamped."""

from __future__ import annotations

from rclpy.impl.rcutils_logger import RcutilsLogger


class ImageTimes:
    """An image's time is its stamp; where that stays 0, the time since the first such image.

    A stream may well begin at 0. One whose header is left empty would stand still: nothing would be
    smoothed, searched for or shown again.
    """

    def __init__(self, logger: RcutilsLogger) -> None:
        self._log = logger
        self._began_ns: int | None = None
        self._told = False

    def of(self, stamp_ns: int, arrived_ns: int) -> int:
        """Time of the next image, nanoseconds.

        Parameters
        ----------
        stamp_ns : as its header says
        arrived_ns : by the node's clock
        """
        if stamp_ns:
            self._began_ns = None
            return stamp_ns
        if self._began_ns is None:
            self._began_ns = arrived_ns
            return 0
        if not self._told:
            self._told = True
            self._log.warning(
                "the images have no stamp: faces are followed by the times of arrival, and a "
                "replay will not give the same. Have the publisher fill in header.stamp"
            )
        return arrived_ns - self._began_ns
