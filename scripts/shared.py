"""What the command lines of the scripts share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
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
