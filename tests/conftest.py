"""What several rooms' tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples in every run: a failure must be the change's, not the day's.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.load_profile("fixed")

if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the commands that tests start would inherit nohup's deaf ear

ROOT = Path(__file__).resolve().parent.parent
GUITAR = ROOT / "tests" / "data" / "guitar.flac"

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def is_worker(pid: str) -> bool:
    """Whether a child of the command line is one of its workers, and not over (in Linux's /proc)."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return bool(command) and b"resource_tracker" not in command


@pytest.fixture(scope="session")
def guitar() -> Path:
    """Eight seconds of a real guitar, 16 kHz mono flac."""
    return GUITAR


@pytest.fixture(scope="session")
def cli_environment() -> dict[str, str]:
    """Environment in which the package of this checkout is found from any folder."""
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    paths = [str(ROOT), *map(os.path.abspath, given)]  # commands run elsewhere, or in a folder that goes away
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}


@pytest.fixture
def cli(tmp_path: Path, cli_environment: dict[str, str]) -> Run:
    """Runs the command line in ``tmp_path``; keywords as :func:`subprocess.run`."""

    def run(*arguments: str | bytes | Path, **keywords: Any) -> subprocess.CompletedProcess[bytes]:
        command: Sequence[Any] = [sys.executable, "-m", "basic_transcribe", *arguments]
        defaults: dict[str, Any] = {"cwd": tmp_path, "env": cli_environment, "capture_output": True, "timeout": 120}
        return subprocess.run(command, check=False, **(defaults | keywords))

    return run
