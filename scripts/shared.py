"""What the command lines of the scripts share."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from basic_transcribe.errors import TranscribeError, printable


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Say in a line what cannot be read or written, or that Ctrl-C came, and exit with 1; around ``main``."""
    try:
        yield
        return
    except TranscribeError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}; check the path" if error.filename else str(error)
    except KeyboardInterrupt:
        reason = "stopped"
    sys.exit(f"{Path(sys.argv[0]).name}: {printable(reason)}")


QUIET = (signal.signal, (signal.SIGINT, signal.SIG_DFL))
"""What worker processes begin with, so that Ctrl-C ends them without a traceback of each."""


def workers(jobs: int) -> ProcessPoolExecutor:
    """A pool of processes that Ctrl-C ends in silence."""
    return ProcessPoolExecutor(jobs, None, *QUIET)


def at_least_one(text: str) -> int:
    """A number of things, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def names(text: str) -> list[str]:
    """Names with commas between them; of folders, also with the slash that a shell adds."""
    return [name.strip().rstrip("/") for name in text.split(",")]


def play_score(command: list[str], score: Path, remedy: str, environment: dict[str, str] | None = None) -> None:
    """Have a program play a score, which is deleted; ``remedy`` is said if it fails.

    Raises
    ------
    TranscribeError
        If it is not there, fails, or takes more than two minutes.
    """
    try:
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, env=environment, timeout=120)
    except FileNotFoundError as error:
        raise TranscribeError(f"{command[0]} is not there; install it") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise TranscribeError(f"{score}: {command[0]} fails: {error}; {remedy}") from error
    finally:
        score.unlink()


def write_reference(path: Path, keys: Iterable[tuple[float, float, int, int]]) -> None:
    """Onsets and offsets (s), MIDI pitches and velocities as a CSV that ``basic-transcribe evaluate`` reads."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["onset_s", "offset_s", "midi_pitch", "velocity"])
        writer.writerows([f"{onset:.4f}", f"{offset:.4f}", *rest] for onset, offset, *rest in keys)
