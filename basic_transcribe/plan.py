"""What to do, before any of it is done: recordings found, a name for each output, what cannot be written."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

from . import outputs
from .audio import AUDIO_EXTENSIONS, AV_EXTENSIONS
from .errors import OutputError, UsageError, printable
from .manifest import Entries, Entry, listed_output

STDIN = "-"
LIST = ".jsonl"  # of a file that names recordings and their outputs
RECORDINGS = AUDIO_EXTENSIONS | AV_EXTENSIONS  # what a folder is searched for
OWN_SOUNDS = (outputs.SONIFIED, outputs.MIXED)  # in a folder, these are no recordings
# Beside recordings lie notes, lists and pages: nobody takes them for audio.
EXPECTED = RECORDINGS | {os.path.splitext(extension)[1] or extension for extension in outputs.WRITERS}
EXPECTED |= {LIST, ".html", ".midi", ".txt"}
KINDS = 10  # of files left alone, named in a remark
LONGEST_NAME = 255  # of a file, in bytes, or on Windows in units of UTF-16, where the system does not say

Identity = tuple[int, int] | str
Place = tuple[Identity | None, str, Identity]


@dataclass(frozen=True, slots=True)
class Job:
    """One recording, and where its outputs go.

    Attributes
    ----------
    source : Path
        What to read.
    folder : Path
        Where the outputs go.
    name : str
        Name of the outputs, to which ``.mid`` and the like are added.
    label : str
        What messages call the recording: its path as the user gave it.
    known : Entry or None
        What the manifest says of it.
    """

    source: Path
    folder: Path
    name: str
    label: str
    known: Entry | None = field(default=None, compare=False)

    def output(self, extension: str) -> Path:
        """Path of the output with this extension (with its dot)."""
        return self.folder / (self.name + extension)

    def reason(self, message: str) -> str:
        """What went wrong, in the same words for all recordings: without the paths of their outputs."""
        for extension in outputs.WRITERS:
            message = message.replace(str(self.output(extension)), f"NAME{extension}")
        return message


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one input.

    Attributes
    ----------
    label : str
        The input as the user gave it.
    status : str
        ``done``, ``skipped`` (it was up to date) or ``failed``.
    message : str
        What was written, or what is wrong and what to do about it.
    exit_code : int
        0 unless failed.
    notes : int
        How many were found.
    seconds : float
        Length of the recording.
    heard : str
        What was heard beside the notes: a single line, the tuning, the tempo, the key; empty if nothing.
    warnings : tuple of str
        About the recording or the MIDI file.
    reason : str
        Of a failure, as :meth:`Job.reason`; empty if it is the message.
    details : str
        Traceback of a failure.
    entry : Entry or None
        For a manifest; its output is not filled in.
    """

    label: str
    status: Literal["done", "skipped", "failed"]
    message: str
    exit_code: int = 0
    notes: int = 0
    seconds: float = 0.0
    heard: str = ""
    warnings: tuple[str, ...] = ()
    reason: str = ""
    details: str = ""
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for a list of inputs: jobs in order, inputs that have already failed, remarks as (label, text)."""

    jobs: tuple[Job, ...]
    failures: tuple[Result, ...]
    remarks: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the recordings found are wanted. Paths are relative to the folder searched, or as a list has them, with
    slashes.

    Unicode forms do not count: some systems give back the names of files in another than they were written in.

    Attributes
    ----------
    include : tuple of str
        Globs, of which a path must match one, if there are any. ``*`` also matches slashes.
    exclude : tuple of str
        Globs, of which it must match none.
    shard : tuple of int
        ``(i, n)``: the i-th of n parts, ``1 <= i <= n``. The part depends on nothing but the path.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    shard: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        i, n = self.shard
        if not 1 <= i <= n:
            raise UsageError(f"shard is {i}/{n}; give one from 1/{max(n, 1)} to {max(n, 1)}/{max(n, 1)}")

    def matches(self, path: str) -> bool:
        """Whether the globs leave it."""
        included = not self.include or any(_fits(path, glob) for glob in self.include)
        return included and not any(_fits(path, glob) for glob in self.exclude)

    def in_shard(self, path: str) -> bool:
        """Whether it is in this part."""
        i, n = self.shard
        return int.from_bytes(hashlib.sha256(os.fsencode(_composed(path))).digest()[:8]) % n == i - 1


EVERYTHING = Choice()


def _fits(path: str, glob: str) -> bool:
    return fnmatchcase(_composed(path), _composed(glob.replace(os.sep, "/")))  # on Windows a glob may have backslashes


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def folded(name: str) -> str:
    """The same text for all names that some disk takes for one: letter case and Unicode form do not count."""
    return _composed(name.casefold())


# -------------------------------------------------------------------------------------------------------------- search


@dataclass(frozen=True, slots=True)
class _Found:
    label: str
    source: Path
    root: Path  # the folder whose tree is mirrored
    relative: str  # path by which it is chosen
    output: PurePosixPath | None = None  # if a list says so


@dataclass(slots=True)
class _Search:
    """Collects recordings; each file and folder once, however many names lead to it.

    Names of a file that a list gives outputs, links to it, are recordings of their own.
    """

    choice: Choice
    lists: bool = False
    may_be_empty: bool = False
    found: list[_Found] = field(default_factory=list)
    failures: list[Result] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    seen: dict[Identity | Place, str] = field(default_factory=dict)
    inputs: set[Identity] = field(default_factory=set)  # which no output may replace
    idle: set[str] = field(init=False)  # globs that no recording has matched
    others: Counter[str] = field(default_factory=Counter)  # files of other kinds, by extension

    def __post_init__(self) -> None:
        self.idle = {*self.choice.include, *self.choice.exclude}

    def add(self, text: str) -> None:
        """One input as the user gave it."""
        if text == STDIN:
            if all(f.label != STDIN for f in self.found):
                self.found.append(_Found(STDIN, Path("stdin"), Path(), STDIN))
        elif self.lists and text.lower().endswith(LIST) and os.path.isfile(text):
            for path, output, relative in read_list(Path(text), self.remarks):
                self.path(str(path), output, relative)
        else:
            self.path(text)

    def path(self, text: str, output: PurePosixPath | None = None, relative: str = "") -> None:
        try:
            status = os.stat(text)
        except (OSError, ValueError) as error:  # ValueError: a null character
            remedy = "check the path" if isinstance(error, FileNotFoundError | NotADirectoryError) else "check access"
            self.fail(text, f"{getattr(error, 'strerror', error)}; {remedy}", 1)
            return
        if stat.S_ISDIR(status.st_mode) and output is not None:
            self.fail(text, f"is a folder, which cannot have the output {output}; leave it out", 2)
        elif stat.S_ISDIR(status.st_mode):
            self.walk(Path(text), status)
        elif stat.S_ISREG(status.st_mode):
            path = Path(text)
            self.file(_Found(text, path, path.parent, relative or path.name, output), status)
        else:
            self.fail(text, f"{_kind(status)}, not a file; pipe it into standard input and give - instead", 1)

    def fail(self, label: str, message: str, exit_code: int) -> None:
        self.failures.append(Result(label, "failed", message, exit_code))

    def new(self, path: str, key: Identity | Place) -> bool:
        """Whether this has not come up before under any path."""
        if key in self.seen:
            self.remarks.append((path, f"the same as {self.seen[key]}, done once"))
            return False
        self.seen[key] = path
        return True

    def file(self, found: _Found, status: os.stat_result) -> None:
        self.idle = {glob for glob in self.idle if not _fits(found.relative, glob)}
        place = _place(found.source, status)
        identity = place[-1]
        if self.choice.matches(found.relative) and self.new(found.label, identity if found.output is None else place):
            self.found.append(found)
            for key in (identity, place):
                self.seen.setdefault(key, found.label)
            self.inputs.add(identity)

    def walk(self, root: Path, status: os.stat_result) -> None:
        if not self.new(str(root), _identity(root, status)):
            return
        files = failures = left = 0

        def unreadable(error: OSError) -> None:
            nonlocal failures
            failures += 1
            self.fail(str(error.filename), f"{error.strerror}; check access", 1)

        for here, folders, names in os.walk(root, onerror=unreadable, followlinks=True):
            folders[:] = [f for f in sorted(folders) if not f.startswith(".") and self.enter(os.path.join(here, f))]
            for name in sorted(n for n in names if not n.startswith(".")):
                path = Path(here, name)
                audible = is_recording(Path(name))
                try:
                    status = path.stat()
                except OSError as error:
                    if audible:
                        self.remarks.append((str(path), f"{error.strerror}, skipped"))
                    continue
                if not stat.S_ISREG(status.st_mode):
                    self.remarks.append((str(path), f"{_kind(status)}, skipped"))
                elif audible:
                    files += 1
                    relative = path.relative_to(root).as_posix()
                    left += not self.choice.matches(relative)
                    self.file(_Found(str(path), path, root, relative), status)
                elif path.suffix.lower() not in EXPECTED:
                    self.others[path.suffix.lower()] += 1
        if left:
            self.remarks.append((str(root), f"{left} of {files} recordings left out by --include and --exclude"))
        if files == left and not failures and not self.may_be_empty:
            which = "that --include and --exclude leave; check them" if left else "in this folder; check the path"
            self.fail(str(root), f"no audio found {which}", 2)

    def enter(self, folder: str) -> bool:
        try:
            return self.new(folder, _identity(folder, os.stat(folder)))
        except OSError as error:
            self.remarks.append((folder, f"{error.strerror}, skipped"))
            return False


def _identity(path: str | Path, status: os.stat_result) -> Identity:
    """The same for all names of a file or folder, and for nothing else."""
    if status.st_ino:
        return status.st_dev, status.st_ino
    return os.path.normcase(os.path.realpath(path))  # some disks on Windows number no files


def identity_of(path: str | Path) -> Identity | None:
    """The same; None if there is nothing."""
    try:
        return _identity(path, os.stat(path))
    except (OSError, ValueError):
        return None


def _place(path: Path, status: os.stat_result) -> Place:
    """The same for all paths to a name of a file in a folder. Other names of the file, links to it, are other places.

    Some disks take names for one that differ by letter case or Unicode form; on others these are two files.
    """
    return identity_of(path.parent), folded(path.name), _identity(path, status)


def place_of(path: str | Path) -> Place | None:
    """The same; None if there is nothing."""
    try:
        return _place(Path(path), os.stat(path))
    except (OSError, ValueError):
        return None


def _kind(status: os.stat_result) -> str:
    kinds = {
        stat.S_ISFIFO: "a named pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for test, name in kinds.items() if test(status.st_mode)), "a special file")


def read_list(path: Path, remarks: list[tuple[str, str]]) -> list[tuple[Path, PurePosixPath | None, str]]:
    """The recordings that a list names, for each the output it is to have, if it says so, and its path as listed.

    A list has a line of JSON for each: ``{"input": "songs/a.wav", "output": "songs/a.mid"}``. Inputs are relative to
    the folder of the list, outputs to that of the outputs. Other keys mean nothing, so a manifest is a list too: the
    last output of an input counts, however its path is written, and a line that takes it back (``"output": null``) only
    while the input is a file.

    Parameters
    ----------
    path : Path
    remarks : list
        Gets (path, text) for each output that is left out, since a later line gives its input another.

    Raises
    ------
    UsageError
        If a line is none of these, or an output lies outside the folder of outputs.
    """
    # By paths that are the same however they are written.
    wanted: dict[Path, tuple[Path, PurePosixPath | None, str]] = {}
    resolved = cache(os.path.realpath)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; check access") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict) or not isinstance(data.get("input"), str):
            raise UsageError(f'{where}: not a recording; give lines such as {{"input": "a.wav", "output": "a.mid"}}')
        if not data["input"]:  # or it would be the folder of the list
            raise UsageError(f"{where}: the input is empty; give the path of a recording")
        source = path.parent / data["input"]
        try:
            place = Path(resolved(source.parent), source.name)  # links to a recording are recordings of their own
        except ValueError:  # a null character: there is no such file, which is said later
            place = source
        _, before, _ = wanted.pop(place, (None, None, ""))
        if data.get("output", "") is not None or source.is_file():
            output = listed_output(data, where) if "output" in data else before
            wanted[place] = source, output, Path(data["input"]).as_posix()
            if "status" not in data and None not in (before, output) and before != output:
                remarks.append((str(source), f"{before} left out: {where} gives it the output {output}"))
    return list(wanted.values())


# ---------------------------------------------------------------------------------------------------------------- plan


def plan(
    inputs: Sequence[str],
    output: Path | None,
    *,
    extras: Sequence[str] = (),
    choice: Choice = EVERYTHING,
    entries: Entries | None = None,
    may_be_empty: bool = False,
) -> Plan:
    """Find the recordings, and a name for each output that no other output has.

    Folders are searched through, hidden files left out; of a folder ``FOLDER``, ``FOLDER/sub/a.wav`` becomes
    ``output/sub/a.mid``. Where two would be called the same (letter case aside), they keep the extension of the
    recording (``a.wav.mid``), or go below their folders' names, or get a digest of their path.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders, or ``-``.
    output : Path or None
        Folder for all outputs; beside each recording if None.
    extras : sequence of str
        Extensions of outputs beside ``.mid``.
    choice : Choice
        Which of the recordings.
    entries : Entries, optional
        The manifest of ``output``. Recordings that have an output keep it, and a ``.jsonl`` file among the inputs is
        a list of them (:func:`read_list`).
    may_be_empty : bool
        A folder without recordings is no failure.

    Raises
    ------
    UsageError
        If an output would replace an input, or leave the folder.
    """
    search = _Search(choice, lists=entries is not None, may_be_empty=may_be_empty)
    for text in inputs:
        search.add(text)
    for option, globs in (("--include", choice.include), ("--exclude", choice.exclude)):
        search.remarks += [(f"{option} {glob}", "matches no recording") for glob in globs if glob in search.idle]
    if search.others:
        search.remarks.append(("left alone", _counted(search.others)))
    return _planned(search, output, extras, entries)


def _counted(others: Counter[str]) -> str:
    """How many files, and of which kinds."""
    kinds = [f"{extension or 'without extension'} {times}" for extension, times in others.most_common(KINDS)]
    total = others.total()
    more = ", ..." if len(others) > KINDS else ""
    return f"{total} file{'s' * (total != 1)} of other kinds ({', '.join(kinds)}{more})"


def plan_files(
    files: Iterable[tuple[Path, Path]],
    output: Path,
    *,
    extras: Sequence[str] = (),
    choice: Choice = EVERYTHING,
    entries: Entries,
) -> Plan:
    """The same for some files of a folder: pairs of the folder and a path below it. Those gone meanwhile are left out.

    Parameters, otherwise, and errors as :func:`plan`.
    """
    search = _Search(choice)
    for root, path in files:
        try:
            status = path.stat()
        except OSError:
            continue
        if is_recording(path.relative_to(root)) and stat.S_ISREG(status.st_mode):
            search.file(_Found(str(path), path, root, path.relative_to(root).as_posix()), status)
    return _planned(search, output, extras, entries)


def is_recording(relative: Path) -> bool:
    """Whether a search of a folder takes a file for a recording, going by its path below that folder."""
    hidden = any(part.startswith(".") for part in relative.parts)
    return not hidden and relative.suffix.lower() in RECORDINGS and not relative.name.endswith(OWN_SOUNDS)


def _planned(search: _Search, output: Path | None, extras: Sequence[str], entries: Entries | None) -> Plan:
    found = _without_rivals(search)
    names = _Names(output, entries).of(found)
    jobs = []
    for one, (folder, name) in zip(found, names, strict=True):
        if search.choice.in_shard(one.relative):
            job = Job(one.source, folder, name, one.label)
            if output is not None and entries is not None:
                entry = entries.of_output(relative_output(job.output(".mid"), output))
                job = replace(job, known=_known(one.source, entry))
            jobs.append(job)
    for path in (job.output(extension) for job in jobs for extension in (".mid", *extras)):
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            continue
        if _identity(path, status) in search.inputs and stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: this output would replace an input; choose another folder for the outputs")
    return Plan(tuple(jobs), tuple(search.failures), tuple(search.remarks))


def _known(source: Path, entry: Entry | None) -> Entry | None:
    """What is known of an output, on the recording under the path that it has now if that leads to the same place."""
    path = absolute(source)
    if entry is None or entry.input == path:
        return entry
    place = place_of(path)
    same = place is not None and place == place_of(entry.input)
    return replace(entry, input=path) if same else entry


def _without_rivals(search: _Search) -> list[_Found]:
    """All but those that lists give an output which another has already."""
    taken: dict[str, str] = {}
    found = []
    for one in search.found:
        if one.output is not None:
            first = taken.setdefault(str(one.output).casefold(), one.label)
            if first != one.label:
                search.fail(one.label, f"its output {one.output} is that of {first}; give it another", 2)
                continue
        found.append(one)
    return found


def absolute(source: Path) -> str:
    """What a manifest calls an input."""
    return os.path.abspath(source)


def relative_output(path: Path, output: Path) -> str:
    """What a manifest calls an output: its path below the folder of outputs, with slashes."""
    return path.relative_to(output).as_posix()


# --------------------------------------------------------------------------------------------------------------- names


class _Names:
    """Folder and name, extension missing, of each output; all different, letter case and Unicode form aside."""

    def __init__(self, output: Path | None, entries: Entries | None) -> None:
        self._output = output
        self._entries = entries if output is not None and entries is not None else Entries()
        # Outputs that are somebody's, with the input they are of. Earlier runs may have told Unicode forms apart.
        self._owners: dict[str, dict[str, str]] = {}
        for entry in self._entries:
            if entry.output is not None:
                self._own(*self._split(PurePosixPath(entry.output)), entry.input)

    def of(self, found: Sequence[_Found]) -> list[tuple[Path, str]]:
        names: dict[int, tuple[Path, str]] = {}
        for i, one in enumerate(found):
            if one.output is not None:
                names[i] = self._listed(one.output)
                self._own(*names[i], absolute(one.source))
        for i, entry in enumerate(self._earlier(found)):
            if i not in names and entry is not None and entry.output is not None:
                kept = self._split(PurePosixPath(entry.output))
                path = _path(*kept)
                if self._owners[folded(path)][path.casefold()] == entry.input:  # unless a list has given it to another
                    names[i] = kept
                    self._own(*kept, absolute(found[i].source))
        free = [i for i in range(len(found)) if i not in names]
        names.update(zip(free, self._choose([found[i] for i in free]), strict=True))
        return [names[i] for i in range(len(found))]

    def _own(self, folder: Path, name: str, source: str) -> None:
        path = _path(folder, name)
        self._owners.setdefault(folded(path), {})[path.casefold()] = source

    def _earlier(self, found: Sequence[_Found]) -> list[Entry | None]:
        """What the manifest says of each: under its path, or else under another that leads to the same place."""
        known = [self._entries.of_input(absolute(one.source)) for one in found]
        new = [i for i, entry in enumerate(known) if entry is None or entry.output is None]
        # Only files of the same names are looked at, since one place has one name.
        names = {folded(found[i].source.name) for i in new}
        earlier: dict[Place | None, Entry] = {
            place_of(entry.input): entry
            for entry in self._entries
            if names and entry.output is not None and folded(os.path.basename(entry.input)) in names
        }
        earlier.pop(None, None)
        for i in new if earlier else ():
            known[i] = earlier.get(place_of(found[i].source))
        return known

    def _listed(self, output: PurePosixPath) -> tuple[Path, str]:
        folder, name = self._split(output)
        if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(self._output or "")):
            raise UsageError(f"output {output} leads out of {self._output} by a link; give another")
        return folder, name

    def _split(self, path: PurePosixPath) -> tuple[Path, str]:
        return (self._output or Path()).joinpath(path.parent), path.name.removesuffix(".mid")

    def _choose(self, found: Sequence[_Found]) -> list[tuple[Path, str]]:
        output = self._output
        deepest = max((len(_parts(f.root)) for f in found), default=0) if output else 0
        # How many folders above the root to keep, and how the file is called; the first that tells all apart is taken.
        styles = [(depth, name) for depth in range(deepest + 1) for name in ("stem", "name")]
        names = [_name(f, output, *styles[0]) for f in found]
        for group in self._clashes(names):
            for style in (*styles[1:], (0, "digest")):
                renamed = [_name(found[i], output, *style) for i in group]
                if not self._clashes(renamed):
                    break
            for i, new in zip(group, renamed, strict=True):
                names[i] = new
        for group in self._clashes(names):  # a new name may be one that another recording had all along
            for i in group:
                names[i] = _name(found[i], output, 0, "digest")
        return names

    def _clashes(self, names: Sequence[tuple[Path, str]]) -> list[list[int]]:
        groups: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            groups.setdefault(folded(_path(*name)), []).append(i)
        return [group for key, group in groups.items() if len(group) > 1 or self._taken(key)]

    def _taken(self, key: str) -> bool:
        """Whether it is the name of another recording that is still there."""
        return any(os.path.lexists(owner) for owner in self._owners.get(key, {}).values())


def _path(folder: Path, name: str) -> str:
    return os.path.abspath(os.path.join(folder, name))


def _name(found: _Found, output: Path | None, depth: int, style: str) -> tuple[Path, str]:
    parts = _parts(found.root)
    within = found.source.relative_to(found.root)
    folder = (output or found.root).joinpath(*parts[max(0, len(parts) - depth) :], within.parent)
    if style == "digest":
        return folder, with_digest(within.name, absolute(found.source))
    return folder, within.stem if style == "stem" else within.name


def with_digest(name: str, source: str) -> str:
    """A name that is nobody else's, for the outputs of the recording with this absolute path or URL."""
    return f"{name}.{hashlib.sha256(os.fsencode(source)).hexdigest()[:8]}"


def _parts(folder: Path) -> tuple[str, ...]:
    return Path(os.path.abspath(folder)).parts[1:]


# -------------------------------------------------------------------------------------------------------------- checks


def check_outputs(
    jobs: Sequence[Job], extensions: Sequence[str], *, make: bool = True
) -> tuple[list[Job], list[Result]]:
    """Make the output folders, and find what cannot be written before any work is done.

    Parameters
    ----------
    jobs : sequence of Job
    extensions : sequence of str
        Of all outputs.
    make : bool
        Without it nothing is made, and what is found goes by permissions alone.

    Returns
    -------
    writable : list of Job
    failures : list of Result
    """
    # All of them first: an output may have the name of a folder that is made for others.
    folders = {folder: _unwritable(folder, make) for folder in dict.fromkeys(job.folder for job in jobs)}
    writable: list[Job] = []
    failures: list[Result] = []
    for job in jobs:
        reason = folders[job.folder] or next(filter(None, (_unfit(job.output(e)) for e in extensions)), "")
        if reason:
            failures.append(Result(job.label, "failed", reason, OutputError.exit_code, reason=job.reason(reason)))
        else:
            writable.append(job)
    return writable, failures


def check_folder(folder: Path, *, make: bool = True) -> None:
    """Make a folder for outputs, or see whether it could be made.

    Raises
    ------
    OutputError
        If nothing can be written to it.
    """
    reason = _unwritable(folder, make)
    if reason:
        raise OutputError(reason)


def check_file(path: Path, beginning: bytes) -> None:
    """See whether a file about many recordings can be written.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    beginning : bytes
        Of every file of its kind: what begins otherwise is not replaced.

    Raises
    ------
    OutputError
        If it cannot be written, or another file has its name.
    """
    folder = path.absolute().parent
    if not os.path.isdir(folder):
        raise OutputError(f"{path}: cannot be written: no such folder; create it first")
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder has this name" if stat.S_ISDIR(mode) else "it is not a regular file"
            raise OutputError(f"{path}: cannot be written: {kind}; choose another name")
        with path.open("rb") as file:
            if file.read(len(beginning)) != beginning:
                raise OutputError(f"{path}: would replace a file of another kind; choose another name")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(f"{path}: exists, and cannot be read: {error.strerror}; choose another name") from error
    reason = _unwritable(folder, make=True)
    if reason:
        raise OutputError(f"{path}: {reason}")


def _unwritable(folder: Path, make: bool) -> str:
    """Why nothing can be written to the folder, or nothing."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell: read-only disks, quotas, root
                return ""
        there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(parent))
        if not there.is_dir():
            raise NotADirectoryError(0, f"{printable(there)} is not a folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(0, "Permission denied")
        return ""
    except (OSError, ValueError) as error:
        return f"cannot write to {folder}: {getattr(error, 'strerror', error)}; choose another folder for the outputs"


def _unfit(path: Path) -> str:
    """Why no file can be put at this path, or nothing."""
    if hasattr(os, "pathconf"):
        try:
            longest = os.pathconf(path.parent, "PC_NAME_MAX")
        except (OSError, ValueError):  # not on every file system
            longest = LONGEST_NAME
        size, unit = len(os.fsencode(path.name)), "bytes"
    else:  # Windows
        longest = LONGEST_NAME
        size, unit = len(path.name.encode("utf-16-le", "surrogatepass")) // 2, "characters"
    if size > longest:
        return f"the output's name would have {size} {unit}, {longest} are allowed; rename the recording"
    if os.path.isdir(path):
        return f"the output {path} is a folder; move it, or choose another folder for the outputs"
    return ""
