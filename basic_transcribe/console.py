"""What the command line says: lines, progress bars, and the count that becomes its exit code."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from .errors import OutputError, TranscribeError, printable

if TYPE_CHECKING:
    import rich.progress
    from _typeshed import DataclassInstance

    from .batch import Recipe
    from .plan import Job, Plan, Result


REASONS = 20  # of failures, in a summary


def say(text: str) -> None:
    """Print to standard output.

    Raises
    ------
    BrokenPipeError
        If nobody reads it.
    OutputError
        If it cannot be written.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        silence(sys.stdout)
        raise OutputError(f"standard output cannot be written: {error.strerror}; send it elsewhere") from error


def complain(text: str) -> None:
    """Print to standard error; what cannot be written costs no more than itself, and :func:`unheard` tells of it."""
    global _unheard
    if sys.stderr is None:  # print would take None for standard output
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)
        _unheard = True


def complain_of(error: TranscribeError, *, debug: bool) -> None:
    """Say what went wrong, after its traceback if that is wanted."""
    if debug:
        complain("".join(traceback.format_exception(error)).rstrip())
    complain(f"error: {printable(error)}")


_unheard = False


def unheard() -> bool:
    """Whether something could not be written to standard error."""
    return _unheard


def mute_libraries() -> None:
    """Keep what C libraries print about damaged files out of standard error, in this process and in its workers.

    They write to descriptor 2, which leads nowhere from now on; ``sys.stderr`` gets a copy of what it was.
    """
    try:
        if sys.stderr is None or sys.stderr.fileno() != 2:
            return
    except (AttributeError, OSError, ValueError):  # somebody's own stream, that is no file
        return
    kept = os.dup(2)
    encoding = sys.stderr.encoding
    sys.stderr = open(kept, "w", buffering=1, encoding=encoding, errors="backslashreplace")  # noqa: SIM115
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)


def silence(*streams: TextIO | None) -> None:
    """Keep the interpreter from flushing into what cannot be written when it exits."""
    for stream in streams:
        if stream is not None:
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), stream.fileno())


class _Terminal:
    """Standard error for progress bars, which end no run where the terminal has gone."""

    def write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
        except OSError:
            silence(sys.stderr)

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except OSError:
            silence(sys.stderr)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class Bars:
    """Progress bars on standard error while it is a terminal: one per recording at work, one for all."""

    def __init__(self, recordings: int, *, shown: bool) -> None:
        self._bars: rich.progress.Progress | None = None
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._begun: dict[str, float] = {"": time.monotonic()}
        self._audio = 0.0  # seconds transcribed
        if not shown or sys.stderr is None or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(show_speed=False),
            TextColumn("{task.fields[done]}", markup=False),
            TimeRemainingColumn(),
            console=Console(file=cast(TextIO, _Terminal())),
            transient=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        if recordings > 1:
            self._tasks[""] = self._bars.add_task("all", total=recordings, done=f"0/{recordings}")

    def __enter__(self) -> Bars:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._bars:
            self._bars.stop()

    def update(self, job: Job, seconds: float, total: float | None) -> None:
        """``seconds`` of ``total`` are transcribed."""
        if self._bars is None:
            return
        if job.label not in self._tasks:
            self._begun[job.label] = time.monotonic()
            self._tasks[job.label] = self._bars.add_task(printable(Path(job.label).name), total=total, done="")
        done = f"{clock(seconds)}{self._speed(job.label, seconds)}"
        self._bars.update(self._tasks[job.label], completed=seconds, total=total, done=done)

    def finish(self, result: Result) -> None:
        """A recording is done, one way or another."""
        if self._bars is None:
            return
        if result.label in self._tasks:
            self._bars.remove_task(self._tasks.pop(result.label))
            del self._begun[result.label]
        if result.status == "done":
            self._audio += result.seconds
        if "" in self._tasks:
            self._bars.advance(self._tasks[""])
            task = self._bars.tasks[0]
            done = f"{task.completed:.0f}/{task.total:.0f}{self._speed('', self._audio)}"
            self._bars.update(self._tasks[""], done=done)

    def _speed(self, label: str, seconds: float) -> str:
        elapsed = time.monotonic() - self._begun[label]
        return f", {seconds / elapsed:.0f}x" if seconds and elapsed >= 0.1 else ""


class Report:
    """Says what happens, and counts."""

    def __init__(self, *, quiet: bool, verbose: bool, debug: bool, batch: bool = False) -> None:
        self.quiet, self.verbose, self.debug, self.batch = quiet, verbose, debug, batch
        self.exit_code = 0
        self.results: list[Result] = []
        self.planned = 0
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        if not self.quiet:
            say(text)

    def error(self, text: str) -> None:
        complain(f"error: {printable(text)}")

    def plan(self, plan: Plan) -> None:
        self.planned += len(plan.jobs) + len(plan.failures)
        self.remarks(plan.remarks)
        for failure in plan.failures:
            self.result(failure)

    def remarks(self, remarks: Iterable[tuple[str, str]]) -> None:
        if not self.quiet:
            for label, text in remarks:
                complain(f"note: {printable(label)}: {printable(text)}")

    def failure(self, label: str, error: TranscribeError) -> None:
        """Call this where the error is handled, for the traceback."""
        from .plan import Result

        details = "".join(traceback.format_exception(error))
        self.result(Result(label, "failed", str(error), error.exit_code, details=details))

    def settings(self, recipe: Recipe, processes: int) -> None:
        if self.verbose:
            threads = count(recipe.threads or 1, "thread")
            chosen = ", ".join(_chosen(replace(recipe, threads=None))) or "the defaults"
            complain(f"{processes} at a time, {threads} each; settings: {printable(chosen)}")

    def problem(self, error: TranscribeError) -> None:
        """Something that is wrong, but not with an input."""
        complain_of(error, debug=self.debug)
        self.exit_code = max(self.exit_code, error.exit_code)

    def preview(self, result: Result) -> None:
        """What would become of an input."""
        if result.status == "failed":
            self.result(result)
            return
        self.results.append(result)
        self._warn(result)
        self.say(f"{printable(result.label)}: {printable(result.message)}")

    def result(self, result: Result) -> None:
        self.results.append(replace(result, entry=None, details=""))  # there may be very many
        self.exit_code = max(self.exit_code, result.exit_code)
        label = printable(result.label)
        self._warn(result)
        if result.status == "failed":
            self.error(f"{result.label}: {result.message}")
            if self.debug and result.details:
                complain(result.details.rstrip())
        elif result.status == "done":
            found = f"{count(result.notes, 'note')} in {clock(result.seconds)}"
            heard = f", {result.heard}" if result.heard else ""
            self.say(f"{label}: {found}{heard}: {printable(result.message)}")
        elif self.verbose or not self.batch:  # of a large folder, another run would say little else
            self.say(f"{label}: {printable(result.message)}")

    def _warn(self, result: Result) -> None:
        if not self.quiet:
            for warning in result.warnings:
                complain(f"warning: {printable(result.label)}: {printable(warning)}")

    def summary(self) -> None:
        if len(self.results) > 1 or self.batch:
            self._reasons()
            self.say(self._totals())

    def outlook(self) -> None:
        """The summary of previews."""
        count = Counter(result.status for result in self.results)
        self.say(f"{count['done']} to do, {count['skipped']} up to date, {count['failed']} failed")

    def stopped(self, name: str) -> None:
        left = self.planned - len(self.results)
        complain(f"stopped by {name}, {left} not done; run again to go on" if left else f"stopped by {name}")
        self._reasons()
        self.say(self._totals())

    def _reasons(self) -> None:
        """Why inputs failed, once more: what was said at the time has scrolled away."""
        if self.batch:
            reasons = Counter(r.reason or r.message for r in self.results if r.status == "failed")
            for reason, times in reasons.most_common(REASONS):
                self.say(f"{times} failed: {printable(reason)}")

    def _totals(self) -> str:
        done = [r for r in self.results if r.status == "done"]
        skipped = sum(r.status == "skipped" for r in self.results)
        warned = sum(bool(r.warnings) for r in self.results)
        remarked = f", {warned} with warnings" if warned else ""
        audio, elapsed = sum(r.seconds for r in done), time.monotonic() - self.started
        speed = f" ({audio / elapsed:.0f} times real time)" if audio else ""
        return (
            f"{len(done)} done, {skipped} up to date, {len(self.results) - len(done) - skipped} failed{remarked}: "
            f"{count(sum(r.notes for r in done), 'note')} in {clock(audio)} of audio in {clock(elapsed)}{speed}"
        )


def _chosen(settings: DataclassInstance) -> list[str]:
    """Those that are not as they would be by default, and those within them."""
    default, chosen = type(settings)(), []
    for name in (field.name for field in fields(settings)):
        value, usual = getattr(settings, name), getattr(default, name)
        if is_dataclass(value) and not isinstance(value, type):
            chosen += [name] * (usual is None) + _chosen(value)
        elif value != usual:
            chosen.append(f"{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}")
    return chosen


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{tenths / 10:04.1f}" if hours else f"{minutes}:{tenths / 10:04.1f}"
