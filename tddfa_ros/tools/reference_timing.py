"""The public 3DDFA_V2, timed in turn with ours: in a process of its own, with its own Python."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from tddfa_ros.core.errors import TddfaError

PROGRAM = Path(__file__).with_name("reference_program.py")
SHOWN_ERROR_LINES = 6


class ReferenceTiming:
    """Keeps the reference's process; :meth:`run_round` times each of its stages once more.

    Parameters
    ----------
    checkout : folder of 3DDFA_V2, built, with its networks
    python : Python with what it needs
    picture_bgr : (height, width, 3) uint8, what it works on

    Raises
    ------
    TddfaError
        No such folder, or the reference does not run there.
    """

    def __init__(self, checkout: Path, python: str, picture_bgr: np.ndarray) -> None:
        if not (checkout / "TDDFA_ONNX.py").is_file():
            raise TddfaError(f"--reference {checkout}: holds no TDDFA_ONNX.py of 3DDFA_V2")
        self._times_ms: dict[str, list[float]] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="tddfa_ros_bench_")
        picture_path = Path(self._folder.name) / "picture.npy"
        np.save(picture_path, picture_bgr)
        self._errors = (Path(self._folder.name) / "errors").open("w+")
        # Its Python may be another than ours: ours must not look into its packages.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        try:
            self._process = subprocess.Popen(
                [python, str(PROGRAM), str(checkout.resolve()), str(picture_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=environment,
            )
        except OSError as error:
            self._errors.close()
            self._folder.cleanup()
            raise TddfaError(
                f"--reference-python {python}: cannot be run ({error.strerror})"
            ) from error

    def run_round(self) -> None:
        """Time every stage of the reference for a moment."""
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._errors.seek(0)
            said = "\n".join(self._errors.read().strip().splitlines()[-SHOWN_ERROR_LINES:])
            raise TddfaError(f"the reference does not run; it said last:\n{said}") from None
        for stage, times_ms in json.loads(answer).items():
            self._times_ms.setdefault(stage, []).extend(times_ms)

    def medians_ms(self) -> dict[str, float]:
        """Median of each stage so far."""
        return {stage: float(np.median(times_ms)) for stage, times_ms in self._times_ms.items()}

    def close(self) -> None:
        """End the process."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._errors.close()
        self._folder.cleanup()
