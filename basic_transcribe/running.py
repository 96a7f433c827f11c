"""Everything between a command's settings and its exit code: work under progress bars, signals, failures, a summary."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import typer

from .console import Bars, Report, complain, complain_of, silence, unheard
from .errors import OutputError, TranscribeError, UsageError, printable, require, temporary_folder

if TYPE_CHECKING:
    from .batch import Pool, Recipe
    from .folders import Folders
    from .plan import Job, Result
    from .scoring import Recording

BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE ended
SIGHUP = getattr(signal, "SIGHUP", None)  # Windows has none


class Stop(BaseException):
    """SIGINT, SIGTERM or SIGHUP has arrived. Not an Exception, so that no handler of errors swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into Stop: at once, or at the next check while ``deferred``.

    Audio is decoded through callbacks from C, which print and then swallow whatever is raised in them.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.received: int | None = None

    def install(self) -> None:
        """Receive them from now on, but for SIGHUP where it is ignored, as nohup has it."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)
        if SIGHUP is not None and signal.getsignal(SIGHUP) != signal.SIG_IGN:
            signal.signal(SIGHUP, self._receive)

    def _receive(self, signum: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # a second one need not wait
        if SIGHUP is not None:
            signal.signal(SIGHUP, signal.SIG_IGN)  # when a terminal closes, shell and kernel send one each
        self.received = signum
        if not self.deferred:
            raise Stop(signum)

    def check(self) -> None:
        """Raise Stop if one has arrived."""
        if self.received is not None:
            raise Stop(self.received)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """What is done here is interrupted by :meth:`check` alone, which is also made at the end."""
        before, self.deferred = self.deferred, True
        try:
            yield
        finally:
            self.deferred = before
        self.check()


signals = Signals()


@contextmanager
def usage_errors() -> Iterator[None]:
    """Where flags are read: what is wrong with them is said, and the command ends."""
    try:
        yield
    except UsageError as error:
        complain(f"error: {printable(error)}")
        raise typer.Exit(UsageError.exit_code) from None


def exit_with(run: Callable[[], int], *, debug: bool = False) -> NoReturn:
    """End the command with the code that ``run`` returns, or that of what it raises; quietly if nobody reads it.

    If what was to be said on standard error could not be written, the code is at least that of an :class:`OutputError`.

    Parameters
    ----------
    run : callable
    debug : bool
        Whether to show the traceback of an error.
    """
    try:
        code = run()
    except TranscribeError as error:
        complain_of(error, debug=debug)
        code = error.exit_code
    except Stop as stop:
        code = 128 + stop.signum
    except BrokenPipeError:
        silence(sys.stdout, sys.stderr)
        code = BROKEN_PIPE
    raise typer.Exit(max(code, OutputError.exit_code) if unheard() else code)


def run(inputs: list[str], output_dir: Path | None, recipe: Recipe, jobs: int | None, report: Report) -> int:
    """Transcribe recordings and folders; returns the exit code."""
    from . import plan

    def work() -> None:
        planned = plan.plan(inputs, output_dir, extras=recipe.extras)
        report.plan(planned)
        if planned.jobs and output_dir is not None:
            plan.check_folder(output_dir)
        todo, failures = plan.check_outputs(planned.jobs, recipe.extensions)
        for failure in failures:
            report.result(failure)
        with _spooled(todo) as spooled, closing(_work(spooled, recipe, jobs, report)) as results:
            for result in results:
                report.result(result)

    return _reported(work, report, report.summary)


def _reported(
    work: Callable[[], None],
    report: Report,
    close: Callable[[], None] = lambda: None,
    stopped: Callable[[str], None] | None = None,
) -> int:
    """Exit code of what is done by ``work``, and, if nothing ends that early, by ``close``.

    ``stopped`` is called with the name of a signal that does; the report is told of it if this is omitted.
    """
    try:
        work()
    except TranscribeError as error:  # one that concerns all inputs: usage, the model, the folder
        report.problem(error)
        return report.exit_code
    except Stop as stop:
        with suppress(OutputError):  # the terminal may have gone, which is why
            (stopped or report.stopped)(signal.Signals(stop.signum).name)
        return 128 + stop.signum
    close()
    return report.exit_code


def _work(todo: Sequence[Job], recipe: Recipe, jobs: int | None, report: Report) -> Generator[Result, None, None]:
    """The results of all jobs as they finish, under progress bars. Stop is raised between two of them."""
    crew = _Crew(recipe, jobs, report)
    with closing(crew), closing(crew.work(todo)) as results:
        yield from results


class _Crew:
    """Processes at work under progress bars, as many as the first list of jobs has work for.

    Parameters
    ----------
    recipe : Recipe
    jobs : int or None
        Recordings at a time.
    report : Report
    keep : bool
        Whether there will be other lists, so that they stay.
    """

    def __init__(self, recipe: Recipe, jobs: int | None, report: Report, *, keep: bool = False) -> None:
        self._recipe, self._jobs, self._report, self._keep = recipe, jobs, report, keep
        self._pool: Pool | None = None
        self._here = False
        self._bars: Bars | None = None

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()

    def work(self, todo: Sequence[Job]) -> Generator[Result, None, None]:
        """The results of all jobs as they finish. Stop is raised between two of them."""
        pool = self._pool = self._pool or self._hire(len(todo))
        bars = Bars(len(todo), shown=not self._report.quiet)
        held = signals.held_back() if self._here else nullcontext()
        with held, bars as self._bars, closing(pool.run(todo)) as results:
            for result in results:
                self._bars.finish(result)
                yield result
                signals.check()

    def _hire(self, jobs: int) -> Pool:
        from . import batch
        from .processors import available_cpus, settle_in

        cpus = available_cpus()
        processes = self._jobs or cpus
        if not self._keep:
            processes = max(1, min(processes, jobs))
        recipe = replace(self._recipe, threads=self._recipe.threads or max(1, cpus // processes))
        self._report.settings(recipe, processes)
        self._here = processes == 1
        if self._here:
            settle_in()
        return batch.Pool(recipe, processes, self._progress, keep=self._keep)

    def _progress(self, job: Job, seconds: float, total: float | None) -> None:
        assert self._bars is not None
        self._bars.update(job, seconds, total)
        signals.check()


def run_batch(folders: Folders, recipe: Recipe, jobs: int | None, report: Report) -> int:
    """Transcribe folders with a manifest; returns the exit code."""
    from .folders import transcribe_folders

    def work() -> None:
        with closing(_Crew(recipe, jobs, report, keep=folders.watch)) as crew:
            transcribe_folders(folders, recipe, crew.work, report, stopped=lambda: signals.received is not None)
        signals.check()

    signals.deferred = folders.watch  # waiting for changes is done in C, too
    return _reported(work, report, report.summary)


def preview_batch(folders: Folders, recipe: Recipe, report: Report) -> int:
    """Show what :func:`run_batch` would do; returns the exit code."""
    from .folders import preview

    return _reported(lambda: preview(folders, recipe, report), report, report.outlook)


def run_evaluation(
    reference: Path,
    estimates: Path | None,
    recipe: Recipe,
    jobs: int | None,
    json: Path | None,
    per_file: bool,
    report: Report,
) -> int:
    """Score recordings against their references; returns the exit code."""
    from . import evaluate, plan, scoring
    from .exports import write_atomic

    def work() -> None:
        scores: list[evaluate.Score] = []
        require("mir_eval", "evaluate", "scoring")
        if json is not None:
            plan.check_file(json, evaluate.JSON_BEGINNING)
        found = scoring.find(reference, leave_out=estimates, audio_needed=estimates is None)
        report.remarks(found.remarks)
        for path, reason in found.failures:
            report.failure(path, TranscribeError(reason))
        if not found.recordings:
            wanted = "recordings with references" if estimates is None else "references"
            raise UsageError(f"{reference}: no {wanted} in this folder; check the path")
        with ExitStack() as stack:
            if estimates is not None:
                source = {"estimates": str(estimates)}
                pairs = _given(found.recordings, estimates, report)
            else:
                transcriber = recipe.load()
                used = recipe.tracker.resolved(transcriber.model.defaults)
                source = evaluate.setup(transcriber.model.name, transcriber.model.sha256, used)
                report.say(evaluate.heading(source))
                folder = stack.enter_context(temporary_folder())
                pairs = _transcribed(found.recordings, folder, recipe, jobs, report)
            for recording, estimate in stack.enter_context(closing(pairs)):
                try:
                    scores.append(evaluate.score(recording, estimate))
                except TranscribeError as error:
                    report.failure(recording.label, error)
        scores.sort(key=lambda s: (s.recording.set_name, s.recording.name))
        lines = [*evaluate.recordings_table(scores), ""] if per_file else []
        for line in (*lines, *evaluate.means_table(evaluate.means(scores))) if scores else ():
            report.say(line)
        report.say(f"{len(scores)} scored, {len(report.results)} failed")
        if json is not None:
            failures = [(result.label, result.message) for result in report.results]
            write_atomic(json, evaluate.to_json(scores, failures, source=source, reference=reference).encode())

    return _reported(work, report, stopped=lambda name: complain(f"stopped by {name}"))


def _given(
    recordings: Sequence[Recording], folder: Path, report: Report
) -> Generator[tuple[Recording, Path], None, None]:
    """Each recording with its estimate in a folder."""
    from .evaluate import given_estimate

    for recording in recordings:
        try:
            estimate = given_estimate(recording, folder)
        except TranscribeError as error:
            report.failure(recording.label, error)
        else:
            yield recording, estimate


def _transcribed(
    recordings: Sequence[Recording], folder: Path, recipe: Recipe, jobs: int | None, report: Report
) -> Generator[tuple[Recording, Path], None, None]:
    """Each recording with its transcription, written to the folder, as they finish."""
    from . import evaluate, plan

    todo, failures = plan.check_outputs(evaluate.jobs(recordings, folder), (".mid",))
    estimates = {job.label: job.output(".mid") for job in todo}
    by_label = {recording.label: recording for recording in recordings}
    for failure in failures:
        report.result(failure)
    with closing(_work(todo, recipe, jobs, report)) as results:
        for result in results:
            if result.status == "failed":
                report.result(result)
            else:
                yield by_label[result.label], estimates[result.label]


@contextmanager
def _spooled(jobs: list[Job]) -> Iterator[list[Job]]:
    """The jobs, with standard input, if it is among them, copied to a file for as long as this lasts.

    Raises
    ------
    TranscribeError
        If it cannot be read or stored.
    """
    import shutil

    from .plan import STDIN

    if all(job.label != STDIN for job in jobs):
        yield jobs
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("standard input is not a recording; pipe one into it, or give a file instead of -")
    with temporary_folder() as folder:
        path = folder / "stdin"
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        except OSError as error:
            raise TranscribeError(
                f"standard input cannot be stored in {folder}: {error.strerror}; set TMPDIR"
            ) from error
        yield [replace(job, source=path) if job.label == STDIN else job for job in jobs]
