"""Folders that are looked at for new recordings, each told of when nobody seems to be writing to it any more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from .errors import TranscribeError
from .plan import identity_of, is_recording

SETTLED = 1.0  # seconds for which neither size nor time of a complete recording changes
TICK = 200  # milliseconds between two looks at those that wait
UNNAMED = "Unable to decode path"  # what watchfiles ends with where something happens to a name that is not UTF-8

State = tuple[int, int]


class Settling:
    """Recordings that have appeared or changed, until they are complete.

    Parameters
    ----------
    settled : float
        Seconds for which nothing may have changed.
    """

    def __init__(self, settled: float = SETTLED) -> None:
        self._settled = settled
        self._waiting: dict[Path, tuple[State, float]] = {}  # and since when they are so

    def touch(self, path: Path, now: float) -> None:
        """Something has happened to a file, at a time in seconds."""
        state = _state(path)
        if state is not None:
            self._waiting[path] = state, now

    def take(self, now: float) -> list[Path]:
        """Those that are complete, sorted; they wait no more. So do those that are gone."""
        ready = []
        for path, (before, since) in list(self._waiting.items()):
            state = _state(path)
            if state is None:
                del self._waiting[path]
            elif state != before:
                self._waiting[path] = state, now
            elif now - since >= self._settled:
                del self._waiting[path]
                ready.append(path)
        return sorted(ready)


def _state(path: Path) -> State | None:
    """Size and time of a file; None if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def arrivals(
    folders: Sequence[Path], stopped: Callable[[], bool], *, settled: float = SETTLED
) -> Generator[list[tuple[Path, Path]], None, None]:
    """Recordings that appear or change below some folders.

    Parameters
    ----------
    folders : sequence of Path
    stopped : callable
        Says whether to end.
    settled : float
        As of :class:`Settling`.

    Yields
    ------
    list of tuple of Path
        A folder and the path of a complete recording below it, for each. The first list is empty: from then on nothing
        is missed, so that a search of the folders after it finds all others. So is the first after another folder has
        taken the place of one, or after something has happened to a file whose name cannot be told.

    Raises
    ------
    TranscribeError
        If a folder cannot be watched, or is gone.
    """
    while not stopped():
        gone = [str(folder) for folder in folders if not folder.is_dir()]
        if gone:
            raise TranscribeError(f"{', '.join(gone)}: gone while it was watched; start again when it is back")
        yield from _until_replaced(folders, stopped, settled)


def _until_replaced(
    folders: Sequence[Path], stopped: Callable[[], bool], settled: float
) -> Generator[list[tuple[Path, Path]], None, None]:
    """The same, up to when one of the folders is not the one any more that had its name."""
    from watchfiles import Change, watch

    class Stopped:
        def is_set(self) -> bool:
            return stopped()

    identities = [identity_of(folder) for folder in folders]
    # Links resolved, for some systems tell of changes by such paths. Outer folders first.
    roots = {Path(os.path.realpath(folder)): folder for folder in sorted(folders, key=lambda f: len(f.parts))}
    settling = Settling(settled)
    first = True
    try:
        for happened in watch(
            *roots,
            watch_filter=None,
            stop_event=Stopped(),
            rust_timeout=TICK,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            now = time.monotonic()
            # One that is removed and made again may well get the same number.
            removed = any(change == Change.deleted and Path(name) in roots for change, name in happened)
            if removed or [identity_of(folder) for folder in folders] != identities:
                return
            for path in (path for change, name in happened if change != Change.deleted for path in _files(Path(name))):
                root = next((root for root in roots if path.is_relative_to(root)), None)
                if root is not None and is_recording(path.relative_to(root)):
                    settling.touch(path, now)
            ready = settling.take(now)
            if ready or first:
                first = False
                owners = [next(root for root in roots if path.is_relative_to(root)) for path in ready]
                yield [(roots[o], roots[o] / path.relative_to(o)) for path, o in zip(ready, owners, strict=True)]
    except (OSError, RuntimeError, UnicodeError) as error:  # too many folders for the system, most likely
        if UNNAMED not in str(error):
            where = ", ".join(map(str, folders))
            message = f"{where}: cannot be watched: {error}; run batch without --watch from time to time"
            raise TranscribeError(message) from error
    else:
        return
    time.sleep(settled)  # for what is being written
    yield []  # here, since such a name may come up again before the watch that begins anew has told of anything


def _files(path: Path) -> list[Path]:
    """A file; or the files of a folder, which came with it and were never told of."""
    if not path.is_dir():
        return [path]
    return [Path(here, name) for here, _, names in os.walk(path) for name in names]
