"""What became of each input of a folder of outputs: ``manifest.jsonl``, one line of JSON an input, appended as it runs.

A line is one write to the end of the file, under a lock where the system has them, and on the disk before the next:
several runs may share a folder, and whatever ends one leaves at most a torn last line, which the next one removes. Of
several lines on one input, or on one output, the last counts.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from .errors import OutputError, UsageError, printable

NAME = "manifest.jsonl"

Status = Literal["done", "skipped", "failed"]
WINDOWS = os.name == "nt"
# What Windows does not take in a part of a path, or takes for another file, a stream of one, a drive or a device.
_NOT_ON_WINDOWS = re.compile(
    r'[\x00-\x1f<>:"|?*\\]|[. ]$|^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[1-9¹²³]) *(\.|$)', re.IGNORECASE
)
LOCKED_BYTE = 2**31 - 1  # beyond the lines: on Windows nobody could read what is locked
LOCK_TRIES = 1000
LOCK_PAUSE = 0.01  # seconds


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one input.

    Attributes
    ----------
    input : str
        Its absolute path.
    output : str or None
        Of the MIDI file, relative to the folder of the manifest, with slashes; None if there is no place for one.
    status : str
        ``done``, ``skipped`` (it was up to date) or ``failed``.
    size, mtime_ns : int or None
        Of the input when it was read; None if it was not.
    sha256 : str
        Digest of its contents; empty if it was not read.
    fingerprint : str
        Digest of all that shapes the notes beside the recording: settings, model, version. Empty if nothing was tried.
    seconds : float or None
        Length of the recording; None if its outputs were found there, whose warnings are then not known either.
    notes : int or None
        How many were found; None likewise.
    message : str
        What is wrong and what to do about it; empty unless failed.
    warnings : tuple of str
        About the recording or the MIDI file.
    files : dict of str to str
        sha256 of each output written, by its extension (``.mid``, ``.csv``).
    older : dict of str to str
        The same of outputs that an earlier run made from another recording or with other settings.
    sizes : dict of str to int
        Bytes of each of ``files``; earlier versions did not keep them.
    version : str
        Of the program that told this; empty if it did not say.
    time : str
        When it did, in UTC (``2026-01-31T12:00:00Z``). Entries that differ in these two only are equal.
    """

    input: str
    output: str | None
    status: Status
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str = ""
    fingerprint: str = ""
    seconds: float | None = 0.0
    notes: int | None = 0
    message: str = ""
    warnings: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    older: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    version: str = field(default="", compare=False)
    time: str = field(default="", compare=False)


def system() -> str:
    """Who it is that allows names of files, for messages."""
    return "Windows" if WINDOWS else "this system"


def is_possible(path: PurePosixPath) -> bool:
    """Whether all parts of a relative path may be names of files on this system."""
    if WINDOWS:
        return not any(part != ".." and _NOT_ON_WINDOWS.search(part) for part in path.parts)
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half a surrogate pair, or letters that the locale lacks
        return False
    return True


def safe_output(text: str) -> PurePosixPath:
    """A path relative to the folder of outputs, as a manifest may give it.

    Parameters
    ----------
    text : str
        With slashes, such as ``sub/a.mid``.

    Raises
    ------
    UsageError
        If it could lead out of the folder: absolute, with ``..`` or a NUL. Or if it has a part that is no name of a
        file here: on Windows with a colon or a backslash, say, which elsewhere are characters like others; elsewhere
        with characters that the locale lacks.
    """
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.name or "\0" in text:
        raise UsageError(f"output {text!r} leads out of the folder of outputs; give a path below it, with slashes")
    if not is_possible(path):
        raise UsageError(f"output {text!r} is no name that {system()} allows; give another, with slashes")
    return path


def listed_output(line: Mapping[str, Any], where: str) -> PurePosixPath | None:
    """The output that a line of a list asks for; None if it asks for none.

    Parameters
    ----------
    line : mapping
        With an ``output`` or without.
    where : str
        List and number of the line, for messages.

    Raises
    ------
    UsageError
        If it is no MIDI file, or could lead out of the folder of outputs.
    """
    output = line.get("output")
    if output is None:
        return None
    if not (isinstance(output, str) and output.endswith(".mid")):
        raise UsageError(f"{where}: output {output!r} is not the name of a MIDI file; let it end with .mid")
    try:
        return safe_output(output)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


class Entries:
    """The last entry on each input and each output.

    Parameters
    ----------
    entries : iterable of Entry
        Older ones first.

    Attributes
    ----------
    end : int
        Bytes of the manifest that they were read from.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.end = 0
        self._by_input: dict[str, Entry] = {}
        self._inputs: dict[str, str] = {}  # by output
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Take in one that is newer than all others."""
        self._forget(entry.input)
        if entry.output is not None:
            self._forget(self._inputs.get(entry.output))
            self._inputs[entry.output] = entry.input
        self._by_input[entry.input] = entry

    def _forget(self, path: str | None) -> None:
        old = self._by_input.pop(path, None) if path is not None else None
        if old is not None and old.output is not None:
            del self._inputs[old.output]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_input.values())

    def __len__(self) -> int:
        return len(self._by_input)

    def of_input(self, path: str) -> Entry | None:
        """The entry on the input with this absolute path."""
        return self._by_input.get(path)

    def of_output(self, output: str) -> Entry | None:
        """The entry with this output."""
        path = self._inputs.get(output)
        return None if path is None else self._by_input[path]


# ----------------------------------------------------------------------------------------------------------------- file


def to_line(entry: Entry) -> bytes:
    """An entry as a line of JSON, in ASCII, whatever the names of files are made of."""
    return json.dumps(asdict(entry), separators=(",", ":")).encode("ascii") + b"\n"


def parse(line: bytes) -> Entry | None:
    """The entry of a line; None if it is something else, or half an entry, or of an output impossible on this system.

    Raises
    ------
    UsageError
        If its output lies outside the folder.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    values: dict[str, Any] = {name: data[name] for name in _VALID if name in data}
    if not {"input", "output", "status"} <= values.keys() or not all(_VALID[n](v) for n, v in values.items()):
        return None
    if values["output"] is not None:
        if not is_possible(PurePosixPath(values["output"])):  # a run on another system may have written it
            return None
        values["output"] = str(safe_output(values["output"]))
    values["warnings"] = tuple(values.get("warnings", ()))
    return Entry(**values)


def _count(value: object) -> bool:
    return type(value) is int and value >= 0


def _text(value: object) -> bool:
    return isinstance(value, str)


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_text, value.values()))


_VALID: dict[str, Callable[[Any], bool]] = {
    "input": lambda value: _text(value) and "\0" not in value,
    "output": lambda value: value is None or _text(value),
    "status": lambda value: value in ("done", "skipped", "failed"),
    "size": lambda value: value is None or _count(value),
    "mtime_ns": lambda value: value is None or type(value) is int,
    "sha256": _text,
    "fingerprint": _text,
    "seconds": lambda value: value is None or (type(value) in (int, float) and 0 <= value < float("inf")),
    "notes": lambda value: value is None or _count(value),
    "message": _text,
    "warnings": lambda value: isinstance(value, list) and all(map(_text, value)),
    "files": _texts,
    "older": _texts,
    "sizes": lambda value: isinstance(value, dict) and all(map(_count, value.values())),
    "version": _text,
    "time": _text,
}


def read(folder: Path) -> Entries:
    """What earlier runs have written to the manifest of a folder; nothing if there is none.

    Lines that are not ours are passed over: at worst something is looked at again.

    Raises
    ------
    UsageError
        If an output lies outside the folder.
    OutputError
        If there is a file of this name that cannot be read, or that is not ours.
    """
    path = folder / NAME
    entries = Entries()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OutputError(f"{printable(path)}: not a regular file; move it, or choose another folder")
        with path.open("rb") as file:
            head = file.peek()[: len(_BEGINNING)]
            if head != _BEGINNING[: len(head)]:
                raise OutputError(f"{printable(path)}: not written by this program; move it, or choose another folder")
            for number, line in enumerate(file, 1):
                try:
                    entry = parse(line)
                except UsageError as error:
                    raise UsageError(f"{printable(path)}, line {number}: {error}") from error
                if entry is not None:
                    entries.add(entry)
                entries.end += len(line) * line.endswith(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise OutputError(f"{printable(path)}: cannot be read: {error.strerror or error}; check access") from error
    return entries


_BEGINNING = b'{"input":'  # of a file of ours


class Manifest:
    """The manifest of a folder, open for more entries.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    OutputError
        If nothing can be written to it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        try:
            self._descriptor = self._opened()
            self._read = os.fstat(self._descriptor)  # what was read of it, in :meth:`catch_up`
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._descriptor)

    def append(self, entry: Entry, entries: Entries) -> None:
        """Add an entry; when this returns, it is on the disk.

        Parameters
        ----------
        entry : Entry
        entries : Entries
            These catch up first, and get the entry, joined with what another run has told of the same outputs. What
            they know then is not written again.

        Raises
        ------
        OutputError
            If it cannot be written. Earlier entries are not harmed.
        """
        try:
            self._follow()
            with _locked(self._descriptor):  # from reading to writing: another run may tell of the same recording
                end = _cut_torn_line(self._descriptor)
                self.catch_up(entries)
                known = entries.of_input(entry.input)
                entry = _joined(entry, known)
                if entry == known:
                    return
                line = to_line(entry)
                try:
                    if os.write(self._descriptor, line) < len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(self._descriptor)
                except OSError:
                    os.ftruncate(self._descriptor, end)
                    raise
                entries.add(entry)
                entries.end += len(line) * (entries.end == end)  # unless what is before it is still to be read
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def catch_up(self, entries: Entries) -> None:
        """Take in what has been added since, by whichever run."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size < entries.end or not os.path.samestat(status, self._read):  # it was begun anew
                    entries.end = 0
                self._read = status
                file.seek(entries.end)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    entries.end += len(line)
                    with suppress(UsageError):
                        entry = parse(line)
                        if entry is not None:
                            entries.add(entry)
        except OSError:  # whoever writes to it says so
            pass

    def _opened(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)

    def _follow(self) -> None:
        """Open the file that has the name now, if it was moved or removed since, as while a folder is watched.

        Raises
        ------
        OutputError
            If that is not ours.
        """
        try:
            # Windows neither moves nor removes what is open.
            if WINDOWS or os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
                return
        except FileNotFoundError:
            pass
        read(self._path.parent)
        before, self._descriptor = self._descriptor, self._opened()
        os.close(before)


def _joined(entry: Entry, known: Entry | None) -> Entry:
    """An entry with what another run has told of the same outputs meanwhile, which may be all there is to tell."""
    if known is None or "failed" in (entry.status, known.status):
        return entry
    if any(getattr(known, name) != getattr(entry, name) for name in ("output", "sha256", "fingerprint")):
        return entry
    files = known.files | entry.files
    older = {extension: digest for extension, digest in entry.older.items() if extension not in files}
    entry = replace(entry, files=files, older=older, sizes=known.sizes | entry.sizes)
    if entry.seconds is None:
        entry = replace(entry, status=known.status, seconds=known.seconds, notes=known.notes, warnings=known.warnings)
    return entry


def _unwritable(path: Path, error: OSError) -> OutputError:
    space = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space" if space else "check access"
    reason = error.strerror or error
    return OutputError(f"{printable(path)}: cannot be written: {reason}; {remedy}, or choose another folder")


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Keep other runs from writing, where the system and the disk know how."""
    try:
        import fcntl
    except ImportError:
        with _locked_on_windows(descriptor):
            yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def _locked_on_windows(descriptor: int) -> Iterator[None]:
    msvcrt: Any = import_module("msvcrt")  # mypy knows of it on Windows only

    def lock(mode: int) -> None:
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, mode, 1)

    locked = False
    for _ in range(LOCK_TRIES):
        try:
            lock(msvcrt.LK_NBLCK)
        except PermissionError:  # another has it
            time.sleep(LOCK_PAUSE)
        except OSError:
            break
        else:
            locked = True
            break
    try:
        yield
    finally:
        if locked:
            lock(msvcrt.LK_UNLCK)


def _cut_torn_line(descriptor: int) -> int:
    """Remove what a run that was ended in the middle of a line has left; returns the length of the file."""
    length = end = os.lseek(descriptor, 0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        os.lseek(descriptor, start, os.SEEK_SET)
        newline = os.read(descriptor, end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < length:
        os.ftruncate(descriptor, end)
    return end
