"""Parts of the One Euro filter (Casiez, Roussel and Vogel, *1€ Filter*, 2012).

A first-order low-pass filter whose cutoff rises with speed; the speed itself is low-passed first.
"""

from __future__ import annotations

from math import pi

NS_PER_S = 1e9
# Across a longer gap between images nothing is smoothed.
LONGEST_GAP_S = 1.0
# Casiez et al. propose 1 Hz; twice that lags less where a movement begins, at little noise.
SPEED_CUTOFF_HZ = 2.0
# An image that is not later than the one before counts as so much later: it moves filters little,
# and they follow even where all stamps are the same.
LEAST_STEP_S = 1e-3


def step_s(before_ns: int, stamp_ns: int) -> float:
    """Seconds from one image to the next, for a filter."""
    return max((stamp_ns - before_ns) / NS_PER_S, LEAST_STEP_S)


def low_pass_gain(cutoff_hz: float, dt_s: float) -> float:
    """Share of the new value in a first-order low-pass filter."""
    return 1 / (1 + 1 / (2 * pi * cutoff_hz * dt_s))
