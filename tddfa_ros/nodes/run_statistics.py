"""What a run amounted to: images, faces, rate, drops and latency."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

LATENCY_WINDOW = 100_000
"""Most latencies kept; the oldest go."""


@dataclass
class RunStatistics:
    """Counts of one run, fed as messages arrive.

    Latency is the time from publishing an image to receiving its faces, both as the middleware
    stamped them.
    """

    image_count: int = 0
    processed_count: int = 0
    dropped_count: int = 0
    face_count: int = 0
    most_faces: int = 0
    face_ids: set[str] = field(default_factory=set)
    latencies_ms: list[float] = field(default_factory=list)
    _published_ns: dict[int, int] = field(default_factory=dict)
    _first_ns: int | None = None
    _last_ns: int = 0

    def add_image(self, stamp_ns: int, published_ns: int) -> None:
        """Count an image."""
        self.image_count += 1
        self._published_ns[stamp_ns] = published_ns

    def add_faces(
        self, stamp_ns: int, received_ns: int, ids: list[str], dropped_count: int
    ) -> None:
        """Count the answer to an image; `dropped_count` is the node's own count so far."""
        self.processed_count += 1
        self.dropped_count = dropped_count
        self.face_count += len(ids)
        self.most_faces = max(self.most_faces, len(ids))
        self.face_ids.update(ids)
        if self._first_ns is None:
            self._first_ns = received_ns
        self._last_ns = received_ns
        published_ns = self._published_ns.pop(stamp_ns, None)
        if published_ns is not None:
            # Images before this one that got no answer will get none.
            for older_ns in [s for s in self._published_ns if s < stamp_ns]:
                del self._published_ns[older_ns]
            self.latencies_ms.append((received_ns - published_ns) / 1e6)
            del self.latencies_ms[:-LATENCY_WINDOW]

    @property
    def missed_count(self) -> int:
        """Images without an answer: dropped by the node as stale, or lost on the way to it."""
        return max(self.dropped_count, self.image_count - self.processed_count)

    @property
    def rate_hz(self) -> float:
        """Answered images a second, 0 for fewer than two."""
        if self.processed_count < 2 or self._last_ns <= self._first_ns:
            return 0.0
        return (self.processed_count - 1) * 1e9 / (self._last_ns - self._first_ns)

    def latency_ms(self, percentile: float) -> float | None:
        """Percentile of the latencies, or None without any."""
        return float(np.percentile(self.latencies_ms, percentile)) if self.latencies_ms else None

    def as_dict(self) -> dict[str, object]:
        """Return everything as JSON-ready values."""
        return {
            "images": self.image_count,
            "processed": self.processed_count,
            "dropped": self.missed_count,
            "faces": self.face_count,
            "most_faces": self.most_faces,
            "face_ids": sorted(self.face_ids),
            "rate_hz": self.rate_hz,
            "latency_p50_ms": self.latency_ms(50),
            "latency_p99_ms": self.latency_ms(99),
        }

    def lines(self) -> list[str]:
        """Return everything as lines for a reader."""
        p50, p99 = self.latency_ms(50), self.latency_ms(99)
        latency = "not known" if p50 is None else f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        return [
            f"frames   {self.image_count} received, {self.processed_count} processed, "
            f"{self.missed_count} dropped",
            f"faces    {self.face_count} in all, at most {self.most_faces} in a frame, "
            f"{len(self.face_ids)} different",
            f"rate     {self.rate_hz:.1f} frames a second",
            f"latency  {latency} (image published to faces received)",
        ]
