"""What the command lines of the scripts share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from basic_transcribe.errors import TranscribeError, printable


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Say in a line what cannot be read or written, and exit with 1; around ``main``, as a decorator."""
    try:
        yield
        return
    except TranscribeError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}; check the path" if error.filename else str(error)
    sys.exit(f"{Path(sys.argv[0]).name}: {printable(reason)}")


def at_least_one(text: str) -> int:
    """A number of things, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def names(text: str) -> list[str]:
    """Names with commas between them; of folders, also with the slash that a shell adds."""
    return [name.strip().rstrip("/") for name in text.split(",")]
