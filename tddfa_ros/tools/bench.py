"""Measure the speed of every stage on this machine, beside what it must be.

One picture of 640x480 pixels with one face, made from the astronaut of scikit-image. The stages
take turns, round by round, so that a noisy machine is noisy for all of them; the table has medians.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tddfa_ros.core import model_set
from tddfa_ros.core.atomic_file import replacing, temporary_beside
from tddfa_ros.core.config_arguments import above_zero
from tddfa_ros.core.errors import TddfaError
from tddfa_ros.tools.benchmarks import (
    BENCHMARKS,
    CROWDS,
    FOLLOWING,
    Benchmark,
    NotMeasurableError,
    Scene,
)
from tddfa_ros.tools.reference_timing import ReferenceTiming

EXAMPLES = """examples:
  python -m tddfa_ros bench
  python -m tddfa_ros bench --filter dense --rounds 20
  python -m tddfa_ros bench --json bench.json --model-set tddfa_v2
  python -m tddfa_ros bench --reference 3DDFA_V2/ --reference-python 3DDFA_V2/venv/bin/python

--reference runs the public code in turn with ours. It wants a checkout whose own demo works
(networks in place, `sh build.sh` done) and a Python that has what it needs, PyTorch among them.
"""

WARM_UP_CALLS = 5
ROUND_S = 0.15
LEAST_CALLS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "--model-set", default="", metavar="SET", help="folder or name of the model set"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--filter", default="", metavar="TEXT", help="only stages whose name contains this"
    )
    parser.add_argument(
        "--rounds",
        type=above_zero(int),
        default=10,
        metavar="N",
        help="rounds (default %(default)s)",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FOLDER",
        help="checkout of 3DDFA_V2 to measure beside ours (default $REFERENCE)",
        default=os.environ.get("REFERENCE") or None,
    )
    parser.add_argument(
        "--reference-python",
        default=os.environ.get("REFERENCE_PYTHON") or sys.executable,
        metavar="PROGRAM",
        help="Python that it runs in (default $REFERENCE_PYTHON, else this one)",
    )


@dataclass(frozen=True)
class Measurement:
    """Times of one stage.

    Attributes
    ----------
    benchmark : the stage
    times_ms : (n,) one per call
    live_reference_ms : median of the public code on this machine, or None
    """

    benchmark: Benchmark
    times_ms: np.ndarray
    live_reference_ms: float | None = None

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON-ready values."""
        p10, median, p90 = np.percentile(self.times_ms, (10, 50, 90)).tolist()
        live_ms = self.live_reference_ms
        return {
            "stage": self.benchmark.name,
            "median_ms": median,
            "p10_ms": p10,
            "p90_ms": p90,
            "calls": len(self.times_ms),
            "target_ms": self.benchmark.target_ms,
            "reference_ms": self.benchmark.reference_ms,
            "live_reference_ms": live_ms,
            "live_ratio": None if live_ms is None else live_ms / median,
        }


def time_calls(call: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of each of as many calls as fit in that time, at least a few."""
    times_ms: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(times_ms) < LEAST_CALLS or time.perf_counter() < end_s:
        began_ns = time.perf_counter_ns()
        call()
        times_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
    return times_ms


def measure(
    scene: Scene,
    benchmarks: Sequence[Benchmark],
    rounds: int,
    reference: ReferenceTiming | None = None,
) -> list[Measurement]:
    """Time all benchmarks, interleaved.

    Returns
    -------
    One measurement for each that can be measured, in their order.
    """
    made: list[tuple[Benchmark, Callable[[], object]]] = []
    for benchmark in benchmarks:
        try:
            made.append((benchmark, benchmark.make(scene)))
        except NotMeasurableError as error:
            sys.stderr.write(f"{benchmark.name}: left out: {error}\n")
    calls = [call for _, call in made]
    for call in calls:
        for _ in range(WARM_UP_CALLS):
            call()
    samples: list[list[float]] = [[] for _ in made]
    for _ in tqdm(range(rounds), unit="round", disable=None, leave=False):
        for call, times_ms in zip(calls, samples, strict=True):
            times_ms.extend(time_calls(call, ROUND_S))
        if reference is not None:
            reference.run_round()
    live_ms = {} if reference is None else reference.medians_ms()
    return [
        Measurement(benchmark, np.array(times_ms), live_ms.get(benchmark.name))
        for (benchmark, _), times_ms in zip(made, samples, strict=True)
    ]


def machine() -> dict[str, object]:
    """Describe what this was measured on."""
    name = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return {"cpu": name, "cores": os.cpu_count(), "python": platform.python_version()}


def _number(value: object, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def table(rows: Sequence[dict[str, object]]) -> str:
    """Return the figures as text, one stage a line."""
    live = any(row["live_reference_ms"] is not None for row in rows)
    heads = ["stage", "ms", "p10", "p90", "must be", "reference"]
    heads += ["here", "ratio"] if live else []
    lines = [heads]
    for row in rows:
        line = [str(row["stage"])]
        line += [_number(row[key]) for key in ("median_ms", "p10_ms", "p90_ms")]
        line += [_number(row[key]) for key in ("target_ms", "reference_ms")]
        if live:
            line += [_number(row["live_reference_ms"]), _number(row["live_ratio"], 1)]
        lines.append(line)
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = [
        line[0].ljust(widths[0])
        + "".join(cell.rjust(w + 2) for cell, w in zip(line[1:], widths[1:], strict=True))
        for line in lines
    ]
    text.insert(1, "-" * len(text[0]))
    return "\n".join(text)


def further_face(rows: Sequence[dict[str, object]]) -> str:
    """One line: what each further face adds to a frame, from the least to the largest crowd."""
    median_ms = {row["stage"]: row["median_ms"] for row in rows}
    least, most = (median_ms.get(FOLLOWING.format(n)) for n in (CROWDS[0], CROWDS[-1]))
    if least is None or most is None:
        return ""
    each_ms = (most - least) / (CROWDS[-1] - CROWDS[0])
    return f"each further face that is followed: {each_ms:.2f} ms\n"


def _check_json(path: Path) -> None:
    """Raise before the work if its figures could not be written after it."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        trial = temporary_beside(path)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise TddfaError(
            f"--json {path}: cannot be written ({error.strerror}); choose another place"
        ) from error


def run(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    chosen = [b for b in BENCHMARKS if args.filter.lower() in b.name.lower()]
    if not chosen:
        names = "; ".join(b.name for b in BENCHMARKS)
        raise TddfaError(f"--filter {args.filter!r}: no such stage; there are: {names}")
    if args.json:
        _check_json(args.json)
    loaded = model_set.load(model_set.find(args.model_set))
    with closing(Scene(loaded)) as scene:
        with ExitStack() as stack:
            reference = None
            if args.reference:
                reference = ReferenceTiming(
                    Path(args.reference), args.reference_python, scene.picture_bgr
                )
                stack.callback(reference.close)
            rows = [m.as_dict() for m in measure(scene, chosen, args.rounds, reference)]
        document = {
            "machine": machine(),
            "model_set": loaded.name,
            "vertices": scene.model.vertex_count,
            "rows": rows,
        }
    about = document["machine"]
    sys.stdout.write(
        f"{about['cpu']}, {about['cores']} cores; model set {loaded.name}, "
        f"{document['vertices']} vertices; 640x480, one face unless it says so\n{table(rows)}\n"
        f"{further_face(rows)}"
        "'must be' and 'reference' were measured on two cores of a 2.5 GHz Xeon.\n"
    )
    if args.json:
        with replacing(args.json) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n")
    return 0
