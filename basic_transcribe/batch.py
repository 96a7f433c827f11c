"""Many recordings: what is up to date, what is done to one, and processes that may die without losing a file.

Results come as they finish. A worker has one recording in hand and, when it is nearly through with it, the next one, so
that it need not wait. Its death costs at most the one in hand, which is tried once more in a fresh worker.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import stat
import sys
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing import connection, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import outputs
from .errors import ModelError, OutputError, TranscribeError, UsageError, printable
from .exports import load_posteriors, write_atomic
from .manifest import Entry
from .outputs import OutputSettings
from .plan import Job, Result, absolute
from .processors import settle_in, single_threaded
from .shaping import ShapeSettings
from .tuning import hertz_of
from .types import Beats, BeatSettings, Part, TrackerSettings

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from .pipeline import Transcriber, Transcription

ATTEMPTS = 2
LEFT_TO_THE_PARENT = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
NEARLY = 15.0  # seconds of sound before the end of a recording at which its worker gets the next
MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL}  # EINVAL: no name of a file, on Windows

Progress = Callable[[Job, float, "float | None"], None]
Outcome = TypeVar("Outcome")


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
    retry_failed : bool
        Try again what the manifest says has failed.
    model : Path or None
        The shipped one if None.
    threads : int or None
        Of each worker.
    provider : str
        What ONNX Runtime computes with: one of :data:`model.PROVIDERS`.
    """

    tracker: TrackerSettings = field(default_factory=TrackerSettings)
    shape: ShapeSettings = field(default_factory=ShapeSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    beats: BeatSettings | None = None
    extras: tuple[str, ...] = ()
    overwrite: bool = False
    retry_failed: bool = False
    model: Path | None = None
    threads: int | None = None
    provider: str = "cpu"

    @property
    def extensions(self) -> tuple[str, ...]:
        """Of all outputs, ``.mid`` first: it tells a later run what the others were made from."""
        return (".mid", *self.extras)

    def load(self) -> Transcriber:
        """The transcriber of one worker."""
        from .pipeline import Transcriber

        return Transcriber(self.model, threads=self.threads, provider=self.provider)


# ----------------------------------------------------------------------------------------------------------------- job


def settings_fingerprint(recipe: Recipe, transcriber: Transcriber) -> str:
    """sha256 of all that shapes the notes of a recording: settings, model, version."""
    from . import __version__

    model = transcriber.model
    settings = {
        "tracker": asdict(recipe.tracker.resolved(model.defaults)),
        "shape": asdict(recipe.shape),
        "output": asdict(recipe.output),
        "beats": recipe.beats and asdict(recipe.beats),
        "model": model.sha256,
        "provider": recipe.provider,
        "version": __version__,
    }
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def fingerprint(digest: str, settings: str) -> str:
    """What an output was made from, for its MIDI file: sha256 of the recording and :func:`settings_fingerprint`."""
    return f"1 input={digest} settings={settings}"


def stamped(entry: Entry) -> Entry:
    """An entry as it is told by this version, now."""
    from . import __version__

    return replace(entry, version=__version__, time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


@dataclass(frozen=True, slots=True)
class Step:
    """What a recording needs.

    Attributes
    ----------
    wanted : tuple of str
        Extensions of the outputs to write; none if all are up to date.
    why : str
        What is the matter with them.
    """

    wanted: tuple[str, ...]
    why: str


class _InTheWay(TranscribeError):
    """There is a file that is not known to be ours."""


class Task:
    """One job, from the look at what is there to the last file written.

    Parameters
    ----------
    job : Job
    recipe : Recipe
    settings : str
        As of :func:`settings_fingerprint`.
    """

    def __init__(self, job: Job, recipe: Recipe, settings: str) -> None:
        self.job, self.recipe = job, recipe
        self.entry = Entry(absolute(job.source), None, "failed", fingerprint=settings)  # filled in as it goes on
        self._state: tuple[int, int, int] | None = None
        self._there: dict[str, int] = {}  # bytes, by extension, of the outputs that were there
        self._current: dict[str, tuple[str, int]] = {}  # digest and bytes of those found up to date, or written

    def run(self, transcriber: Transcriber, progress: Progress | None = None) -> Result:
        """Transcribe the recording and write its outputs, unless they are up to date. Failures are returned."""
        return self._safely(partial(self._run, transcriber, progress))

    def preview(self) -> Step | Result:
        """What :meth:`run` would do; a result if it is that nothing can or need be done."""
        return self._safely(self._look)

    def _safely(self, work: Callable[[], Outcome]) -> Outcome | Result:
        try:
            return work()
        except (OutputError, ModelError, _InTheWay) as error:  # another time there may be room, or memory
            return self._failed(str(error), error.exit_code, for_good=False)
        except TranscribeError as error:
            message = str(error).removeprefix(f"{printable(self.job.source)}: ")
            missing = isinstance(error.__cause__, ImportError)  # a library, which may be installed another time
            return self._failed(message, error.exit_code, for_good=not missing)
        except OSError as error:
            remedy = "check the path" if isinstance(error, FileNotFoundError | NotADirectoryError) else "check access"
            return self._failed(f"cannot be read: {error.strerror or error}; {remedy}", 1, for_good=False)
        except MemoryError:
            return self._failed("out of memory; try --jobs 1", 1, for_good=False)
        except Exception as error:  # whatever a damaged file sets off in a decoder must not end the batch
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            library = isinstance(error, ImportError | RuntimeError)  # rather what is installed than the recording
            return self._failed(f"unexpected {reason}; run again with --debug and report it", 1, for_good=not library)

    def _failed(self, message: str, exit_code: int, *, for_good: bool = True) -> Result:
        """The result of a failure.

        Parameters
        ----------
        message : str
        exit_code : int
        for_good : bool
            The same recording will fail again with the same settings.
        """
        entry = self._told(message=message)
        if not for_good:
            entry = replace(entry, fingerprint="")
        details = traceback.format_exc() if sys.exc_info()[0] else ""
        reason = self.job.reason(message)
        return Result(self.job.label, "failed", message, exit_code, reason=reason, details=details, entry=entry)

    def _told(self, **changes: Any) -> Entry:
        """The entry with these changes and what is known of the outputs now."""
        files, older = self._earlier()
        sizes = dict(self.job.known.sizes) if files and self.job.known is not None else {}
        digests = {extension: digest for extension, (digest, _) in self._current.items()}
        entry = replace(
            self.entry,
            files=files | digests,
            older={e: digest for e, digest in older.items() if e not in digests},
            sizes=sizes | {extension: size for extension, (_, size) in self._current.items()},
            **changes,
        )
        return stamped(entry)

    def _run(self, transcriber: Transcriber, progress: Progress | None) -> Result:
        job, recipe = self.job, self.recipe
        step = self._look()
        if isinstance(step, Result):
            return step
        transcription = _transcribe(job, transcriber, recipe, step.wanted, progress)
        if _state(os.stat(job.source)) != self._state:
            return self._failed("changed while it was read; run again when it is complete", 1, for_good=False)
        contents, warnings = outputs.render(transcription, step.wanted, job.source, recipe.output, self._mark)
        self._look_again(contents)
        with _uninterrupted():
            for extension, data in contents.items():
                write_atomic(job.output(extension), data)
                self._current[extension] = hashlib.sha256(data).hexdigest(), len(data)
        seconds, notes = transcription.duration, len(transcription.notes)
        warnings = (*transcription.warnings, *warnings)
        entry = self._told(status="done", seconds=seconds, notes=notes, warnings=warnings)
        written = str(job.output(step.wanted[0]))
        heard = _heard(transcription, recipe)
        return Result(job.label, "done", written, 0, notes, seconds, heard, warnings, entry=entry)

    @property
    def _mark(self) -> str:
        return fingerprint(self.entry.sha256, self.entry.fingerprint)

    def _look(self) -> Step | Result:
        """What is to be done. The recording is read only if the manifest does not settle it.

        Raises
        ------
        _InTheWay
            If there is a file that is not known to be ours.
        """
        job, known, retry = self.job, self.job.known, self.recipe.retry_failed
        status = os.stat(job.source)
        self._state = _state(status)
        self.entry = replace(self.entry, size=status.st_size, mtime_ns=status.st_mtime_ns)
        sizes = {extension: _size(job.output(extension)) for extension in self.recipe.extensions}
        self._there = {extension: size for extension, size in sizes.items() if size is not None}
        if known is not None and self._same(known, "input", "size", "mtime_ns", "fingerprint"):
            if known.status == "failed" and not retry:
                return self._failed_before(known)
            current = not self._missing() and known.older.keys().isdisjoint(self.recipe.extensions)
            current = current and not any(self._unsettled(extension, known) for extension in self.recipe.extras)
            if known.status != "failed" and current and not self.recipe.overwrite:
                return self._up_to_date(known)
        with open(job.source, "rb") as file:
            self.entry = replace(self.entry, sha256=hashlib.file_digest(file, "sha256").hexdigest())
        if known is not None and known.status == "failed" and self._same(known, "sha256", "fingerprint") and not retry:
            return self._failed_before(known)
        step = self._outdated()
        return step if step.wanted else self._up_to_date(self._adopted())

    def _same(self, known: Entry, *names: str) -> bool:
        return all(getattr(known, name) == getattr(self.entry, name) for name in names)

    def _missing(self) -> list[str]:
        return [extension for extension in self.recipe.extensions if extension not in self._there]

    def _failed_before(self, known: Entry) -> Result:
        message = f"failed before: {known.message.removesuffix('; try again with --retry-failed')}"
        message = f"{message}; try again with --retry-failed"
        return Result(self.job.label, "failed", message, 1, reason=self.job.reason(message), entry=known)

    def _up_to_date(self, entry: Entry) -> Result:
        """Outputs of another size than was written are somebody's work, or torn: who made them so can tell."""
        job, sizes = self.job, entry.sizes
        changed = tuple(
            f"{job.output(e)} has been changed since it was written ({sizes[e]} bytes, now {size}), left alone; "
            "remove it to have it made again"
            for e, size in self._there.items()
            if sizes.get(e, size) != size
        )
        return Result(job.label, "skipped", f"{job.output('.mid')} is up to date", warnings=changed, entry=entry)

    def _adopted(self) -> Entry:
        """The entry of outputs that are up to date, though the manifest did not know."""
        known = self.job.known
        entry = self._told(status="skipped", seconds=None, notes=None)
        if known is not None and self._same(known, "sha256", "fingerprint"):
            entry = replace(entry, seconds=known.seconds, notes=known.notes, warnings=known.warnings)
        return entry

    def _earlier(self) -> tuple[dict[str, str], dict[str, str]]:
        """Digests of the outputs of earlier runs: those made from the same with the same settings, and the others."""
        known = self.job.known
        if known is None:
            return {}, {}
        if self._same(known, "sha256", "fingerprint"):
            return dict(known.files), dict(known.older)
        return {}, known.older | known.files

    def _outdated(self) -> Step:
        """The outputs to write, going by what the MIDI file says it was made from.

        Raises
        ------
        _InTheWay
            If there is a file that is not known to be ours.
        """
        from .midi import read_fingerprint

        job, recipe = self.job, self.recipe
        if recipe.overwrite:
            return Step(recipe.extensions, "--overwrite")
        missing = self._missing()
        there = [extension for extension in recipe.extensions if extension not in missing]
        files, older = self._earlier()
        midi = job.output(".mid")
        if ".mid" not in missing and read_fingerprint(midi) == self._mark:
            old = [extension for extension in there if extension in older and self._is(extension, older[extension])]
            unknown = [e for e in there if e not in {".mid", *files, *old}]
            doubtful = [extension for extension in unknown if self._doubtful(extension)]
            wanted = tuple(extension for extension in recipe.extensions if extension in {*missing, *old, *doubtful})
            if ".mid" not in files:  # its fingerprint says that it is ours; of others nothing does
                self._current[".mid"] = self._digest(".mid")
            why = f"{', '.join(doubtful)} may not be ours" if doubtful else f"no {', '.join(wanted)}"
            return Step(wanted, why if wanted else "")
        foreign = [e for e in there if not self._is(e, (older | files).get(e))]
        if foreign and ".mid" in missing:
            raise _InTheWay(f"{job.output(foreign[0])} exists already; give --overwrite to replace it")
        if foreign:
            raise _InTheWay(
                f"{job.output(foreign[0])} exists, made from another recording, with other settings or by another "
                "version, or damaged; give --overwrite to replace it"
            )
        return Step(recipe.extensions, self._change())

    def _doubtful(self, extension: str) -> bool:
        """Whether an output has to be made again to see if it is ours, the MIDI file beside it being up to date.

        Raises
        ------
        _InTheWay
            If it is certainly not ours.
        """
        known = self.job.known
        # What is "skipped" may have been found without a manifest, which then knows of the MIDI file alone.
        found = known is not None and known.status == "skipped" and extension not in self._earlier()[1]
        if known is None or found or not (known.files or known.older):
            return self._aged(extension)
        if self._aged(extension):
            raise _InTheWay(f"{self.job.output(extension)} exists already; give --overwrite to replace it")
        return True  # an interrupted run may have written it

    def _unsettled(self, extension: str, known: Entry) -> bool:
        """Whether the manifest does not settle that an output, which is there, is up to date."""
        return extension not in known.files and (known.status != "skipped" or self._aged(extension))

    def _aged(self, extension: str) -> bool:
        """Whether an output is older than the MIDI file, which is written first: of another run, or a copy."""
        return self.job.output(extension).stat().st_mtime_ns < self.job.output(".mid").stat().st_mtime_ns

    def _look_again(self, contents: Mapping[str, bytes]) -> None:
        """See before they are written whether outputs would replace others: transcribing takes long.

        Raises
        ------
        _InTheWay
            If there is a file that is neither known to be ours nor the same.
        """
        if self.recipe.overwrite:
            return
        files, older = self._earlier()
        for extension, data in contents.items():
            path = self.job.output(extension)
            in_place = _size(path) is not None and not self._is(extension, (older | files).get(extension))
            if in_place and path.read_bytes() != data:
                raise _InTheWay(
                    f"{path} exists already, made otherwise, perhaps by another run; give --overwrite to replace it"
                )

    def _is(self, extension: str, digest: str | None) -> bool:
        """Whether an output is as an earlier run left it."""
        return digest is not None and self._digest(extension)[0] == digest

    def _digest(self, extension: str) -> tuple[str, int]:
        data = self.job.output(extension).read_bytes()
        return hashlib.sha256(data).hexdigest(), len(data)

    def _change(self) -> str:
        known = self.job.known
        if known is None or not known.sha256:
            return "new"
        if not self._same(known, "sha256"):
            return "the recording has changed"
        if not self._same(known, "fingerprint"):
            return "other settings, model or version"
        return "failed before" if known.status == "failed" else "its MIDI file is missing"


def _size(path: Path) -> int | None:
    """Bytes of an output; None if it is missing, or an empty file: nobody's work, but what full disks leave."""
    try:
        status = os.stat(path)
    except OSError as error:
        if error.errno not in MISSING:
            raise
        return None
    return None if stat.S_ISREG(status.st_mode) and not status.st_size else status.st_size


def _state(status: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file does."""
    return status.st_size, status.st_mtime_ns, status.st_ino


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """SIGTERM waits until the end of this, so that a worker that has to go leaves no temporary file."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _heard(transcription: Transcription, recipe: Recipe) -> str:
    heard = ["a single line"] if transcription.line else []
    if transcription.tuning and transcription.settings.tuning is None:
        heard.append(f"tuned to A = {hertz_of(transcription.tuning):.1f} Hz")
    if transcription.beats is not None and not (recipe.beats and recipe.beats.fixed):
        heard.append(_tempo(transcription.beats))
    key = transcription.key if recipe.output.key == "auto" else None
    if key is not None:
        heard.append(f"{key.name} (confidence {key.confidence:.2f})")
    return ", ".join(heard)


def _transcribe(
    job: Job, transcriber: Transcriber, recipe: Recipe, wanted: Sequence[str], progress: Progress | None
) -> Transcription:
    """The notes as they are to be written."""
    if outputs.is_posteriors(job.source):
        if recipe.output.part != Part():
            raise UsageError("posteriors have no sound; give the recording for --start, --end, --channel")
        transcription = transcriber.track(load_posteriors(job.source), recipe.tracker, recipe.beats)
    else:
        transcription = transcriber.transcribe(
            job.source,
            settings=recipe.tracker,
            part=recipe.output.part,
            beats=recipe.beats,
            keep_posteriors=not outputs.WITH_POSTERIORS.isdisjoint(wanted),
            progress=partial(progress, job) if progress else None,
        )
    return shaped(transcription, recipe)


def shaped(transcription: Transcription, recipe: Recipe) -> Transcription:
    """A transcription with the notes that a recipe makes of it, on its beats or on the grid of the recipe's tempo."""
    shape, beats = recipe.shape, transcription.beats
    if shape == ShapeSettings() and (recipe.beats is None or beats is not None):
        return transcription
    from .pipeline import NO_BEAT

    grid = beats or outputs.fixed_grid(transcription.duration, recipe.output.midi)
    if recipe.beats is not None and beats is None:
        told = f"{NO_BEAT}, {_tempo(grid)}"
        warnings = [told if warning == NO_BEAT else warning for warning in transcription.warnings]
        if shape.quantize is not None:
            shape = replace(shape, quantize=None)
            if transcription.notes:
                warnings.append("notes are not quantised for want of a beat; give --tempo BPM")
        transcription = replace(transcription, warnings=tuple(warnings))
    if shape == ShapeSettings():
        return transcription
    return replace(transcription.shaped(shape, grid), beats=beats)  # in what was heard there are none but those


def _tempo(beats: Beats) -> str:
    return f"{round(beats.tempo, 1):g} beats a minute"


# ----------------------------------------------------------------------------------------------------------- processes


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
    with closing(Pool(recipe, processes, progress)) as pool:
        yield from pool.run(jobs)


class Pool:
    """Processes that have the model loaded, for one list of jobs after another. It must be closed.

    Parameters
    ----------
    recipe : Recipe
    processes : int
        At most; 1 works in this process.
    progress : callable, optional
        As of :func:`run_jobs`.
    keep : bool
        Whether processes that have nothing to do stay for the next list.
    """

    def __init__(
        self, recipe: Recipe, processes: int = 1, progress: Progress | None = None, *, keep: bool = False
    ) -> None:
        self._recipe, self._processes, self._progress, self._keep = recipe, processes, progress, keep
        self._workers: dict[Any, _Worker] = {}  # by pipe
        self._transcriber: Transcriber | None = None

    def run(self, jobs: Sequence[Job]) -> Generator[Result, None, None]:
        """Do all jobs; results and errors as of :func:`run_jobs`."""
        return self._run_here(jobs) if self._processes == 1 else self._run_there(jobs)

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        workers = list(self._workers.values())
        self._workers.clear()
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.dismiss()

    def _run_here(self, jobs: Sequence[Job]) -> Generator[Result, None, None]:
        if not jobs:
            return
        transcriber = self._transcriber = self._transcriber or self._recipe.load()
        settings = settings_fingerprint(self._recipe, transcriber)
        for job in jobs:
            yield Task(job, self._recipe, settings).run(transcriber, self._progress)

    def _run_there(self, jobs: Sequence[Job]) -> Generator[Result, None, None]:
        waiting = deque(jobs)
        attempts: Counter[str] = Counter()
        workers, processes = self._workers, self._processes
        while useful := len(waiting) + sum(bool(worker.jobs) for worker in workers.values()):
            if not self._fill_up(min(processes, useful)):
                processes = len(workers)  # as many as the system allows
            self._share_out(waiting)
            for pipe in connection.wait(list(workers)):
                worker = workers[pipe]
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    del workers[pipe]
                    code = worker.dismiss()
                    if not worker.jobs:
                        continue
                    waiting.extendleft(reversed(worker.jobs))
                    attempts[worker.jobs[0].label] += 1
                    if attempts[worker.jobs[0].label] == ATTEMPTS:
                        yield _lost(waiting.popleft(), worker.settings, code)
                    continue
                if isinstance(message, Result):
                    worker.jobs.popleft()
                    worker.nearly_done = False
                    self._share_out(waiting)  # before the result is looked at, which takes its time
                    if not worker.jobs and not self._keep:
                        del workers[pipe]
                        worker.process.terminate()
                        worker.dismiss()
                    yield message
                elif isinstance(message, TranscribeError):
                    raise message
                elif isinstance(message, str):
                    worker.settings = message
                else:
                    seconds, total = message
                    worker.nearly_done = total is not None and total - seconds < NEARLY
                    self._share_out(waiting)
                    if self._progress:
                        self._progress(worker.jobs[0], seconds, total)

    def _fill_up(self, processes: int) -> bool:
        """Start processes until there are so many; False if the system does not allow it.

        Raises
        ------
        TranscribeError
            If it allows none.
        """
        while len(self._workers) < processes:
            try:
                worker = _start(self._recipe, self._workers.values())
            except OSError as error:
                if not self._workers:
                    reason = error.strerror or error
                    raise TranscribeError(f"no process can be started: {reason}; try --jobs 1") from error
                return False
            self._workers[worker.pipe] = worker
        return True

    def _share_out(self, waiting: deque[Job]) -> None:
        for held in (0, 1):
            for worker in self._workers.values():
                if waiting and len(worker.jobs) == held and (held == 0 or worker.nearly_done):
                    worker.give(waiting.popleft())


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: connection.Connection
    jobs: deque[Job] = field(default_factory=deque)  # the first is in hand
    settings: str = ""
    nearly_done: bool = False

    def give(self, job: Job) -> None:
        self.jobs.append(job)
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


def _lost(job: Job, settings: str, exitcode: int | None) -> Result:
    """What becomes of a recording whose workers have died."""
    ended = f"was killed by signal {-exitcode}" if exitcode and exitcode < 0 else f"ended with code {exitcode}"
    message = f"its process {ended}, {ATTEMPTS} times; perhaps memory ran out: try --jobs 1"
    entry = Entry(absolute(job.source), None, "failed", fingerprint=settings, message=message)
    if job.known is not None:
        entry = replace(entry, older=job.known.older | job.known.files)
    try:
        status = os.stat(job.source)
        entry = replace(entry, size=status.st_size, mtime_ns=status.st_mtime_ns)
    except OSError:
        pass
    return Result(job.label, "failed", message, 1, entry=stamped(entry))


def _start(recipe: Recipe, others: Iterable[_Worker]) -> _Worker:
    """Start a worker beside the others.

    A process of a single thread is forked, so that the worker need not import anything again. Of several threads, such
    as ONNX Runtime's, a fork would copy only what they have left half done.
    """
    context: Any = get_context("fork" if single_threaded() else "spawn")
    ours, theirs = context.Pipe()
    forked = context.get_start_method() == "fork"
    # A fork has its parent's ends of all pipes, and as long as it does, nobody would notice the parent's death.
    inherited = [ours, *(worker.pipe for worker in others)] if forked else []
    process = context.Process(target=_work, args=(theirs, recipe, inherited), daemon=True)
    # Ctrl-C and the end of a terminal reach the whole process group; a new process ignores them from its first moment
    # if its parent does.
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in LEFT_TO_THE_PARENT}
    if forked:  # until the worker has put its own handler in the place of the parent's
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        process.start()
    finally:
        if forked:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        for number, handler in previous.items():
            signal.signal(number, handler)
    theirs.close()
    return _Worker(process, ours)


def _work(pipe: connection.Connection, recipe: Recipe, inherited: Sequence[connection.Connection]) -> None:
    """A worker's life: jobs in; its settings, then progress and results, or why it cannot begin. Ends with the pipe."""
    if inherited:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    for other in inherited:
        other.close()
    settle_in()
    try:
        transcriber = recipe.load()
    except TranscribeError as error:
        pipe.send(error)
        return
    settings = settings_fingerprint(recipe, transcriber)

    def report(_job: Job, seconds: float, total: float | None) -> None:
        pipe.send((seconds, total))

    try:
        pipe.send(settings)
        while True:
            pipe.send(Task(pipe.recv(), recipe, settings).run(transcriber, report))
    except (EOFError, OSError):  # dismissed, or the parent has died
        return
