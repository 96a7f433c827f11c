"""Errors a caller can act on, each with the exit code the command line gives it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path


class TranscribeError(Exception):
    """Base of every error this package raises on purpose.

    The message is one line: what was read or written, what is wrong, what to do about it.
    """

    exit_code = 1


class AudioError(TranscribeError):
    """The input cannot be read as audio."""


class UsageError(TranscribeError):
    """A setting is out of range, or settings contradict each other."""

    exit_code = 2


class ModelError(TranscribeError):
    """The model file cannot be loaded, is not a model of this kind, or fails when it runs."""

    exit_code = 3


class OutputError(TranscribeError):
    """An output cannot be written."""

    exit_code = 4


def require(library: str, extra: str, what: str) -> None:
    """Find out before any work is done whether a library that an extra brings is there.

    Raises
    ------
    UsageError
        If it is not; ``what`` is what needs it.
    """
    if find_spec(library) is None:
        raise UsageError(f'{what} needs {library}: pip install "basic-transcribe[{extra}]"')


def printable(text: object) -> str:
    """Text fit for one line of a terminal or log: line feeds, controls and undecodable bytes escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards.

    Raises
    ------
    OutputError
        If there is no place for one.
    """
    import tempfile

    try:
        folder = tempfile.TemporaryDirectory(prefix="basic_transcribe-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(
            f"no temporary folder can be made: {error.strerror or error}; set TMPDIR to a folder with free space"
        ) from error
    with folder as path:
        yield Path(path)
