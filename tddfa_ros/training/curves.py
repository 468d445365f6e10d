"""Training curves: a CSV file that grows, and a plot of it."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np


class Curves:
    """Rows of numbers appended to a CSV file; the columns are those of the first row."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def add(self, row: dict[str, float]) -> None:
        """Append a row; the file is flushed before this returns."""
        new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)

    def read(self) -> dict[str, np.ndarray]:
        """Column name -> (rows,) float64; nothing if there is no file yet."""
        if not self._path.exists():
            return {}
        with self._path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        return {
            name: np.array([float(r[name]) for r in rows]) for name in (rows[0] if rows else ())
        }

    def plot(
        self, path: str | Path, names: list[str], *, width: int = 720, height: int = 420
    ) -> None:
        """Draw columns over `seen` on a logarithmic vertical axis and write a PNG."""
        columns = self.read()
        picture = np.full((height, width, 3), 255, np.uint8)
        seen = columns["seen"]
        values = np.concatenate([columns[n] for n in names])
        values = values[np.isfinite(values) & (values > 0)]
        low, high = np.log(values.min() * 0.95), np.log(values.max() * 1.05)
        left, bottom = 60, height - 40
        for tick in np.exp(np.linspace(low, high, 6)):
            y = int(bottom - (np.log(tick) - low) / (high - low) * (bottom - 20))
            cv2.line(picture, (left, y), (width - 20, y), (225, 225, 225), 1)
            cv2.putText(picture, f"{tick:.3g}", (4, y + 4), 0, 0.4, (60, 60, 60), 1, cv2.LINE_AA)
        label = f"crops seen, to {int(seen.max()):,}"
        cv2.putText(picture, label, (left, height - 12), 0, 0.45, (60, 60, 60), 1, cv2.LINE_AA)
        colours = ((180, 80, 20), (30, 90, 200), (40, 140, 40), (140, 40, 140))
        for k, name in enumerate(names):
            good = np.isfinite(columns[name]) & (columns[name] > 0)
            x = left + seen[good] / seen.max() * (width - 20 - left)
            y = bottom - (np.log(columns[name][good]) - low) / (high - low) * (bottom - 20)
            path_xy = np.round(np.stack([x, y], axis=1)).astype(np.int32)
            cv2.polylines(picture, [path_xy], False, colours[k % 4], 2, cv2.LINE_AA)
            at = (width - 230, 24 + 18 * k)
            cv2.putText(picture, name, at, 0, 0.5, colours[k % 4], 1, cv2.LINE_AA)
        cv2.imwrite(str(path), picture)
