from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., subprocess.CompletedProcess]:
    """Run `python -m tddfa_ros` as a user does, in a process of its own."""

    def run(*arguments: object, timeout_s: float = 120, **options) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "tddfa_ros", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, **options
        )

    return run
