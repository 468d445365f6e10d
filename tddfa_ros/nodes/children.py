"""Nodes in processes of their own, started and ended by the command that needs them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import yaml

from tddfa_ros.core.errors import TddfaError

STOP_PATIENCE_S = 8.0
SHOWN_LOG_LINES = 12


_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class NodeDiedError(TddfaError):
    """A node's process ended when it should not have."""


class ChildNode:
    """One node in a process of its own.

    It does not get the terminal's Ctrl-C, so that whoever started it can end it in order. On Linux
    it is ended when its parent dies.

    Parameters
    ----------
    module : Python module that is the node's program, as ``tddfa_ros.nodes.face_node``
    parameters : values by name, handed over in a file
    folder : where that file and what the node prints (``<module>.log``) go
    """

    def __init__(self, module: str, parameters: dict[str, Any], folder: Path) -> None:
        self.name = module.rpartition(".")[2]
        self.log_path = folder / f"{self.name}.log"
        folder.mkdir(parents=True, exist_ok=True)
        parameter_path = folder / f"{self.name}.yaml"
        parameter_path.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
        command = [sys.executable, "-m", module]
        command += ["--ros-args", "--params-file", str(parameter_path)]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def log_tail(self) -> str:
        """Last lines that the node printed."""
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        return "\n".join("  " + line for line in lines[-SHOWN_LOG_LINES:])

    def check(self, may_end: bool = False) -> None:
        """Raise :class:`NodeDiedError` with its last lines if it ended.

        Parameters
        ----------
        may_end : ending with status 0 is what is expected of it
        """
        status = self._process.poll()
        if status is None or (may_end and status == 0):
            return
        said = self.log_tail() or "  (nothing)"
        raise NodeDiedError(
            f"{self.name} ended with status {status}. It said last:\n{said}\n"
            f"All of it: {self.log_path}"
        )

    def stop(self) -> None:
        """End it as Ctrl-C does; by force when it does not follow."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if not self.running:
                return
            self._process.send_signal(number)
            try:
                self._process.wait(STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                continue

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()
