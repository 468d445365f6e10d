"""Milliseconds by stage, for diagnostics and benchmarks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the time spent under each name; ``elapsed_ms`` holds the sums."""

    def __init__(self) -> None:
        self.elapsed_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the body of a ``with`` statement under this name."""
        start_ns = time.perf_counter_ns()
        try:
            yield
        finally:
            spent_ms = (time.perf_counter_ns() - start_ns) * 1e-6
            self.elapsed_ms[stage] = self.elapsed_ms.get(stage, 0.0) + spent_ms
