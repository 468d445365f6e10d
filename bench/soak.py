"""Memory over a long run: a pipeline that follows faces through thousands of frames must not grow.

    python bench/soak.py --model-set SET [--frames 20000] [--faces 2] [--limit-mb 5]

A synthetic stream: the picture of the astronaut, scaled and moved, comes, goes (so that tracks are
lost, found and forgotten) and now and then time jumps back, as a bag that loops does. After a
warm-up of a tenth of the frames, resident memory may grow by the limit; the exit code tells.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tddfa_ros.core import model_set
from tddfa_ros.core.config import PipelineConfig
from tddfa_ros.core.pipeline import FacePipeline
from tddfa_ros.core.sample_media import astronaut_picture

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PERIOD_NS = 33_333_333
HEIGHT, WIDTH = 240, 320
SIDE = 150
REPORTS = 20


def resident_mb() -> float:
    """Resident memory of this process, MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 2**20


def frames(count: int, faces: int) -> Iterator[tuple[np.ndarray, int]]:
    """Images and their stamps; faces are away for a third of every 300 frames."""
    face = cv2.resize(astronaut_picture()[0:300, 100:350], (SIDE - 30, SIDE))
    height, width = face.shape[:2]
    canvas = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for index in range(count):
        canvas[:] = 90
        for which in range(faces):
            phase = index / 40 + which * np.pi
            left = int((WIDTH - width) / 2 * (1 + np.sin(phase)))
            top = int((HEIGHT - height) / 2 * (1 + np.cos(phase / 3)))
            if (index + 100 * which) % 300 < 200:
                canvas[top : top + height, left : left + width] = face
        yield canvas, (index % 5000) * PERIOD_NS


def main() -> int:
    """Run, print one line of JSON a report, and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-set", default="")
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--faces", type=int, default=2)
    parser.add_argument("--limit-mb", type=float, default=5.0)
    args = parser.parse_args()
    config = PipelineConfig(model_set=args.model_set, hold_shape_frames=30)
    pipeline = FacePipeline(model_set.load(model_set.find(args.model_set)), config)
    warm_up = args.frames // 10
    began_s, before_mb, most_mb, followed = time.monotonic(), 0.0, 0.0, 0
    for index, (image, stamp_ns) in enumerate(frames(args.frames, args.faces)):
        results = pipeline.smooth(pipeline.process(image, stamp_ns))
        for face in results[0].faces:
            pipeline.vertices(face)
            followed += 1
        if index == warm_up:
            gc.collect()
            before_mb = resident_mb()
        if index >= warm_up and index % (args.frames // REPORTS) == 0:
            most_mb = max(most_mb, resident_mb())
            line = {"frame": index, "faces": followed, "resident_mb": round(resident_mb(), 2)}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    pipeline.close()
    growth_mb = max(most_mb, resident_mb()) - before_mb
    rate_hz = args.frames / (time.monotonic() - began_s)
    sys.stdout.write(
        f"{args.frames} frames, {followed} faces, {rate_hz:.0f} frames a second: "
        f"grown by {growth_mb:.2f} MiB, limit {args.limit_mb:g}\n"
    )
    return 0 if growth_mb < args.limit_mb else 1


if __name__ == "__main__":
    sys.exit(main())
