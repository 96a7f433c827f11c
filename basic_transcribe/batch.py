"""Many recordings: what to write where, what is up to date, and processes that may die without losing a file.

Results come as they finish. A worker has one recording at a time, so the death of one costs at most that recording,
which is tried once more in a fresh worker.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import tempfile
import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import connection, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import outputs
from .errors import ModelError, OutputError, TranscribeError, UsageError, printable
from .exports import load_posteriors, write_atomic
from .outputs import OutputSettings
from .shaping import ShapeSettings
from .types import BeatSettings, Part, TrackerSettings

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from .pipeline import Transcriber, Transcription

STDIN = "-"
ATTEMPTS = 2
OWN_SOUNDS = (outputs.SONIFIED, outputs.MIXED)  # in a folder, these are no recordings
LONGEST_NAME = 255  # bytes, of a file's name, where the system does not say

Progress = Callable[["Job", float, "float | None"], None]


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
    """

    source: Path
    folder: Path
    name: str
    label: str

    def output(self, extension: str) -> Path:
        """Path of the output with this extension (with its dot)."""
        return self.folder / (self.name + extension)


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
        What was asked for beside the notes: tempo and key.
    warnings : tuple of str
        About the recording or the MIDI file.
    details : str
        Traceback of a failure.
    """

    label: str
    status: Literal["done", "skipped", "failed"]
    message: str
    exit_code: int = 0
    notes: int = 0
    seconds: float = 0.0
    heard: str = ""
    warnings: tuple[str, ...] = ()
    details: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for a list of inputs: jobs in order, inputs that have already failed, remarks as (label, text)."""

    jobs: tuple[Job, ...]
    failures: tuple[Result, ...]
    remarks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Recipe:
    """How every job of a run is done.

    Attributes
    ----------
    tracker : TrackerSettings
    shape : ShapeSettings
    output : OutputSettings
    beats : BeatSettings or None
        How beats are looked for; not at all if None.
    extras : tuple of str
        Extensions of the outputs beside ``.mid``, of :data:`outputs.WRITERS`.
    overwrite : bool
        Replace outputs that exist.
    model : Path or None
        The shipped one if None.
    threads : int or None
        Of each worker.
    """

    tracker: TrackerSettings = field(default_factory=TrackerSettings)
    shape: ShapeSettings = field(default_factory=ShapeSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    beats: BeatSettings | None = None
    extras: tuple[str, ...] = ()
    overwrite: bool = False
    model: Path | None = None
    threads: int | None = None

    def load(self) -> Transcriber:
        """The transcriber of one worker."""
        from .pipeline import Transcriber

        return Transcriber(self.model, threads=self.threads)


# ---------------------------------------------------------------------------------------------------------------- plan


@dataclass(frozen=True, slots=True)
class _Found:
    label: str
    source: Path
    root: Path  # the folder whose tree is mirrored


@dataclass(slots=True)
class _Search:
    """Collects recordings; each file and folder once, however many names lead to it."""

    extensions: Collection[str]
    found: list[_Found] = field(default_factory=list)
    failures: list[Result] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    seen: dict[tuple[int, int], str] = field(default_factory=dict)

    def add(self, text: str) -> None:
        """One input as the user gave it."""
        if text == STDIN:
            if all(f.label != STDIN for f in self.found):
                self.found.append(_Found(STDIN, Path("stdin"), Path()))
            return
        try:
            status = os.stat(text)
        except OSError as error:
            remedy = "check the path" if isinstance(error, FileNotFoundError | NotADirectoryError) else "check access"
            self.fail(text, f"{error.strerror}; {remedy}", 1)
            return
        if stat.S_ISDIR(status.st_mode):
            self.walk(Path(text), status)
        elif stat.S_ISREG(status.st_mode):
            self.file(text, Path(text), Path(text).parent, status)
        else:
            self.fail(text, f"{_kind(status)}, not a file; pipe it into standard input and give - instead", 1)

    def fail(self, label: str, message: str, exit_code: int) -> None:
        self.failures.append(Result(label, "failed", message, exit_code))

    def new(self, path: str, status: os.stat_result) -> bool:
        """Whether neither this nor another name of it has come up before."""
        identity = status.st_dev, status.st_ino
        if identity in self.seen:
            self.remarks.append((path, f"the same as {self.seen[identity]}, done once"))
            return False
        self.seen[identity] = path
        return True

    def file(self, label: str, path: Path, root: Path, status: os.stat_result) -> None:
        if self.new(label, status):
            self.found.append(_Found(label, path, root))

    def walk(self, root: Path, status: os.stat_result) -> None:
        if not self.new(str(root), status):
            return
        files = failures = 0

        def unreadable(error: OSError) -> None:
            nonlocal failures
            failures += 1
            self.fail(str(error.filename), f"{error.strerror}; check access", 1)

        for here, folders, names in os.walk(root, onerror=unreadable, followlinks=True):
            folders[:] = [f for f in sorted(folders) if not f.startswith(".") and self.enter(os.path.join(here, f))]
            for name in sorted(n for n in names if not n.startswith(".") and not n.endswith(OWN_SOUNDS)):
                path = Path(here, name)
                audible = path.suffix.lower() in self.extensions
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
                    self.file(str(path), path, root, status)
        if not files and not failures:
            self.fail(str(root), "no audio found in this folder; check the path", 2)

    def enter(self, folder: str) -> bool:
        try:
            return self.new(folder, os.stat(folder))
        except OSError as error:
            self.remarks.append((folder, f"{error.strerror}, skipped"))
            return False


def _kind(status: os.stat_result) -> str:
    kinds = {
        stat.S_ISFIFO: "a named pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for test, name in kinds.items() if test(status.st_mode)), "a special file")


def plan(
    inputs: Sequence[str], output: Path | None, *, extensions: Collection[str], extras: Sequence[str] = ()
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
    extensions : collection of str
        What is a recording in a folder: lower case, with the dot.
    extras : sequence of str
        Extensions of outputs beside ``.mid``.

    Raises
    ------
    UsageError
        If an output would replace an input.
    """
    search = _Search(extensions)
    for text in inputs:
        search.add(text)
    jobs = tuple(
        Job(found.source, folder, name, found.label)
        for found, (folder, name) in zip(search.found, _names(search.found, output), strict=True)
    )
    for path in (job.output(extension) for job in jobs for extension in (".mid", *extras)):
        try:
            status = os.stat(path)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in search.seen and stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: this output would replace an input; choose another folder with --output-dir")
    return Plan(jobs, tuple(search.failures), tuple(search.remarks))


def _names(found: Sequence[_Found], output: Path | None) -> list[tuple[Path, str]]:
    """Folder and name, extension missing, of each output; all different, letter case aside."""
    deepest = max((len(_parts(f.root)) for f in found), default=0) if output else 0
    # How many folders above the root to keep, and how the file is called; the first that tells all apart is taken.
    styles = [(depth, name) for depth in range(deepest + 1) for name in ("stem", "name")]
    names = [_name(f, output, *styles[0]) for f in found]
    for group in _clashes(names):
        for style in (*styles[1:], (0, "digest")):
            renamed = [_name(found[i], output, *style) for i in group]
            if not _clashes(renamed):
                break
        for i, name in zip(group, renamed, strict=True):
            names[i] = name
    for group in _clashes(names):  # a new name may be one that another recording had all along
        for i in group:
            names[i] = _name(found[i], output, 0, "digest")
    return names


def _name(found: _Found, output: Path | None, depth: int, style: str) -> tuple[Path, str]:
    parts = _parts(found.root)
    within = found.source.relative_to(found.root)
    folder = (output or found.root).joinpath(*parts[max(0, len(parts) - depth) :], within.parent)
    if style == "digest":
        digest = hashlib.sha256(os.fsencode(os.path.abspath(found.source))).hexdigest()
        return folder, f"{within.name}.{digest[:8]}"
    return folder, within.stem if style == "stem" else within.name


def _parts(folder: Path) -> tuple[str, ...]:
    return Path(os.path.abspath(folder)).parts[1:]


def _clashes(names: Sequence[tuple[Path, str]]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for i, (folder, name) in enumerate(names):
        groups.setdefault(os.path.abspath(os.path.join(folder, name)).casefold(), []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def check_outputs(jobs: Sequence[Job], extensions: Sequence[str]) -> tuple[list[Job], list[Result]]:
    """Make the output folders, and find what cannot be written before any work is done.

    Parameters
    ----------
    jobs : sequence of Job
    extensions : sequence of str
        Of all outputs.

    Returns
    -------
    writable : list of Job
    failures : list of Result
    """
    folders: dict[Path, str] = {}
    writable: list[Job] = []
    failures: list[Result] = []
    for job in jobs:
        if job.folder not in folders:
            folders[job.folder] = _unwritable(job.folder)
        reason = folders[job.folder] or next(filter(None, (_unfit(job.output(e)) for e in extensions)), "")
        if reason:
            failures.append(Result(job.label, "failed", reason, OutputError.exit_code))
        else:
            writable.append(job)
    return writable, failures


def check_folder(folder: Path) -> None:
    """Make a folder for outputs.

    Raises
    ------
    OutputError
        If nothing can be written to it.
    """
    reason = _unwritable(folder)
    if reason:
        raise OutputError(reason)


def _unwritable(folder: Path) -> str:
    """Why nothing can be written to the folder, or nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell: read-only disks, quotas, root
            return ""
    except OSError as error:
        return f"cannot write to {folder}: {error.strerror}; choose another folder with --output-dir"


def _unfit(path: Path) -> str:
    """Why no file can be put at this path, or nothing."""
    try:
        longest = os.pathconf(path.parent, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # not on Windows; not on every file system
        longest = LONGEST_NAME
    size = len(os.fsencode(path.name))
    if size > longest:
        return f"the output's name would have {size} bytes, {longest} are allowed; rename the recording"
    if path.is_dir():
        return f"the output {path} is a folder; move it, or choose another with --output-dir"
    return ""


# ----------------------------------------------------------------------------------------------------------------- job


def fingerprint(digest: str, recipe: Recipe, transcriber: Transcriber) -> str:
    """What an output was made from: sha256 of the recording, and of all that shapes the notes."""
    from . import __version__

    model = transcriber.model
    settings = {
        "tracker": asdict(recipe.tracker.resolved(model.defaults)),
        "shape": asdict(recipe.shape),
        "output": asdict(recipe.output),
        "beats": recipe.beats and asdict(recipe.beats),
        "model": model.sha256,
        "version": __version__,
    }
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)
    return f"1 input={digest} settings={hashlib.sha256(canonical.encode()).hexdigest()}"


def run_job(job: Job, transcriber: Transcriber, recipe: Recipe, progress: Progress | None = None) -> Result:
    """Transcribe one recording and write its outputs, unless they are up to date. Failures are returned, not raised."""
    try:
        return _run_job(job, transcriber, recipe, progress)
    except TranscribeError as error:
        return _failed(job, str(error).removeprefix(f"{printable(job.source)}: "), error.exit_code)
    except OSError as error:
        return _failed(job, f"cannot be read: {error.strerror or error}; check access", 1)
    except MemoryError:
        return _failed(job, "out of memory; try --jobs 1", 1)
    except Exception as error:  # whatever a damaged file sets off in a decoder must not end the batch
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return _failed(job, f"unexpected {reason}; run again with --debug and report it", 1)


def _failed(job: Job, message: str, exit_code: int) -> Result:
    return Result(job.label, "failed", message, exit_code, details=traceback.format_exc())


def _run_job(job: Job, transcriber: Transcriber, recipe: Recipe, progress: Progress | None) -> Result:
    before = os.stat(job.source)
    with open(job.source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    mark = fingerprint(digest, recipe, transcriber)
    wanted = _wanted(job, recipe, mark)
    if not wanted:
        return Result(job.label, "skipped", f"{job.output('.mid')} is up to date")
    transcription = _transcribe(job, transcriber, recipe, wanted, progress)
    after = os.stat(job.source)
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        return Result(job.label, "failed", "changed while it was read; run again when it is complete", 1)
    contents, warnings = outputs.render(transcription, wanted, job.source, recipe.output, mark)
    for extension, data in contents.items():
        write_atomic(job.output(extension), data)
    return Result(
        job.label,
        "done",
        str(job.output(wanted[0])),
        notes=len(transcription.notes),
        seconds=transcription.duration,
        heard=_heard(transcription, recipe),
        warnings=(*transcription.warnings, *warnings),
    )


def _heard(transcription: Transcription, recipe: Recipe) -> str:
    heard = []
    if transcription.beats is not None:
        heard.append(f"{transcription.beats.tempo:.0f} beats a minute")
    key = transcription.key if recipe.output.key == "auto" else None
    if key is not None:
        heard.append(f"{key.name} (confidence {key.confidence:.2f})")
    return ", ".join(heard)


def _wanted(job: Job, recipe: Recipe, mark: str) -> list[str]:
    """Extensions to write, ``.mid`` first: it tells a later run what the others were made from.

    Raises
    ------
    TranscribeError
        If a file is in the way.
    """
    from .midi import read_fingerprint

    extensions = [".mid", *recipe.extras]
    if recipe.overwrite:
        return extensions
    missing = [e for e in extensions if not job.output(e).exists()]
    if ".mid" in missing:
        others = [str(job.output(e)) for e in extensions if e not in missing]
        if others:
            raise TranscribeError(f"{others[0]} exists already; give --overwrite to replace it")
    elif read_fingerprint(job.output(".mid")) != mark:
        raise TranscribeError(
            f"{job.output('.mid')} exists, made from another recording or with other settings; "
            "give --overwrite to replace it"
        )
    return missing


def _transcribe(
    job: Job, transcriber: Transcriber, recipe: Recipe, wanted: Sequence[str], progress: Progress | None
) -> Transcription:
    """The notes as they are to be written."""
    if outputs.is_posteriors(job.source):
        if recipe.beats is not None or recipe.output.part != Part():
            raise UsageError("posteriors have no sound; give the recording for --tempo auto, --start, --end, --channel")
        transcription = transcriber.track(load_posteriors(job.source), recipe.tracker)
    else:
        transcription = transcriber.transcribe(
            job.source,
            settings=recipe.tracker,
            part=recipe.output.part,
            beats=recipe.beats,
            keep_posteriors=not outputs.WITH_POSTERIORS.isdisjoint(wanted),
            progress=partial(progress, job) if progress else None,
        )
    if recipe.shape == ShapeSettings():
        return transcription
    return transcription.shaped(
        recipe.shape, transcription.beats or outputs.fixed_grid(transcription.duration, recipe.output.midi)
    )


# ----------------------------------------------------------------------------------------------------------- processes


def available_cpus() -> int:
    """Processors this process may use: its affinity, and the quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # no such file; "max"
        return count


def run_jobs(
    jobs: Sequence[Job], recipe: Recipe, *, processes: int = 1, progress: Progress | None = None
) -> Generator[Result, None, None]:
    """Do all jobs. Results come in the order in which they finish; closing the generator stops the workers.

    Parameters
    ----------
    jobs : sequence of Job
    recipe : Recipe
    processes : int
        1 works in this process.
    progress : callable, optional
        Called with a job, the seconds done and, if known, the seconds in all.

    Raises
    ------
    ModelError
        If the model cannot be loaded; before the first result.
    """
    if processes > 1:
        yield from _run_pool(jobs, recipe, processes, progress)
        return
    transcriber = recipe.load() if jobs else None
    for job in jobs:
        assert transcriber is not None
        yield run_job(job, transcriber, recipe, progress)


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: connection.Connection
    job: Job

    def give(self, job: Job) -> None:
        self.job = job
        try:
            self.pipe.send(job)
        except OSError:  # it has just died; the broken pipe is noticed when it is read
            pass

    def dismiss(self) -> int | None:
        """Wait for its end; returns the exit code."""
        self.pipe.close()
        self.process.join()
        code = self.process.exitcode
        self.process.close()  # here, not when the object is dropped: a signal's exception would be lost in that
        return code


def _run_pool(
    jobs: Sequence[Job], recipe: Recipe, processes: int, progress: Progress | None
) -> Generator[Result, None, None]:
    waiting = deque(jobs)
    attempts: Counter[Job] = Counter()
    workers: dict[Any, _Worker] = {}
    try:
        while waiting or workers:
            while waiting and len(workers) < processes:
                worker = _start(recipe, waiting.popleft())
                workers[worker.pipe] = worker
            for pipe in connection.wait(list(workers)):
                worker = workers[pipe]
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    del workers[pipe]
                    code = worker.dismiss()
                    attempts[worker.job] += 1
                    if attempts[worker.job] < ATTEMPTS:
                        waiting.appendleft(worker.job)
                    else:
                        yield Result(worker.job.label, "failed", _obituary(code), 1)
                    continue
                if isinstance(message, Result):
                    if waiting:
                        worker.give(waiting.popleft())
                    else:
                        del workers[pipe]
                        worker.dismiss()
                    yield message
                elif isinstance(message, ModelError):
                    raise message
                elif progress:
                    progress(worker.job, *message)
    finally:
        for worker in workers.values():
            worker.process.terminate()
        for worker in workers.values():
            worker.dismiss()


def _obituary(exitcode: int | None) -> str:
    ended = f"was killed by signal {-exitcode}" if exitcode and exitcode < 0 else f"ended with code {exitcode}"
    return f"its process {ended}, {ATTEMPTS} times; perhaps memory ran out: try --jobs 1"


def _start(recipe: Recipe, job: Job) -> _Worker:
    context = get_context("spawn")  # a fork would copy ONNX Runtime's threads half way
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, recipe), daemon=True)
    # Ctrl-C reaches the whole process group; a new process ignores it from its first moment if its parent does.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, previous)
    theirs.close()
    worker = _Worker(process, ours, job)
    worker.give(job)
    return worker


def _work(pipe: connection.Connection, recipe: Recipe) -> None:
    """A worker's life: jobs in; progress, results or a ModelError out. Ends with the pipe."""
    try:
        transcriber = recipe.load()
    except ModelError as error:
        pipe.send(error)
        return

    def report(_job: Job, seconds: float, total: float | None) -> None:
        pipe.send((seconds, total))

    try:
        while True:
            pipe.send(run_job(pipe.recv(), transcriber, recipe, report))
    except (EOFError, OSError):  # dismissed, or the parent has died
        return
