"""Whole folders, with a manifest: what ``basic-transcribe batch`` does between its flags and its exit code."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import manifest, plan
from .errors import OutputError, TranscribeError, UsageError, require
from .exports import write_atomic
from .manifest import Entries, Entry, Manifest
from .plan import Choice, Job, Plan, Result

if TYPE_CHECKING:
    from .batch import Recipe
    from .console import Report

Work = Callable[[Sequence[Job]], Generator[Result, None, None]]

PAGE_PAUSE = 10  # times as long as a page takes to write, while folders are watched


@dataclass(frozen=True, slots=True)
class Folders:
    """What is to be done, and where the outputs go.

    Attributes
    ----------
    inputs : tuple of str
        Folders, recordings, or lists of them.
    output : Path
        Folder for the outputs and the manifest.
    choice : Choice
        Which of the recordings.
    watch : bool
        Go on with those that appear or change later.
    page : Path or None
        Where to write a page that shows all that the manifest tells of, but no failures of what is no file any more,
        and no recordings under names that they had before. While folders are watched, it is written again after what
        arrives, unless less than ten times the time has passed that writing it takes; the last when stopped.
    """

    inputs: tuple[str, ...]
    output: Path
    choice: Choice = plan.EVERYTHING
    watch: bool = False
    page: Path | None = None

    def __post_init__(self) -> None:
        if not self.watch:
            return
        require("watchfiles", "watch", "--watch")
        for path in self.inputs:
            if not os.path.isdir(path):
                raise UsageError(f"{path}: not a folder; --watch needs folders")


def transcribe_folders(
    folders: Folders,
    recipe: Recipe,
    work: Work,
    report: Report,
    *,
    stopped: Callable[[], bool],
) -> None:
    """Plan everything, do it, and keep the manifest.

    Parameters
    ----------
    folders : Folders
    recipe : Recipe
    work : callable
        Does jobs, and gives a result for each.
    report : Report
        Is told of everything.
    stopped : callable
        Says whether to stop watching.

    Raises
    ------
    TranscribeError
        If it concerns all inputs.
    """
    entries = manifest.read(folders.output)
    if folders.watch:
        report.remarks((path, "watched for new recordings; stop with Ctrl-C") for path in folders.inputs)
        rounds = _rounds(folders, recipe, entries, stopped)
    else:
        rounds = iter((_find(folders, recipe, entries),))
    plan.check_folder(folders.output)
    with ExitStack() as stack:
        book = stack.enter_context(Manifest(folders.output))  # first, so that no page takes its place
        if folders.page is not None:
            _check_page(folders.page)
            stack.callback(_write_page, folders.page, entries, book, folders.output, report)
        ledger = _Ledger(folders.output, entries, book, report)
        due = 0.0
        for planned in rounds:
            _do(planned, ledger, recipe, work, report)
            begun = time.monotonic()
            if folders.watch and folders.page is not None and (planned.jobs or planned.failures) and begun >= due:
                _write_page(folders.page, entries, book, folders.output, report)
                due = time.monotonic() + PAGE_PAUSE * (time.monotonic() - begun)


def _find(folders: Folders, recipe: Recipe, entries: Entries) -> Plan:
    return plan.plan(
        folders.inputs,
        folders.output,
        extras=recipe.extras,
        choice=folders.choice,
        entries=entries,
        may_be_empty=folders.watch,
    )


def _rounds(folders: Folders, recipe: Recipe, entries: Entries, stopped: Callable[[], bool]) -> Iterator[Plan]:
    """A plan of all there is once changes are noticed, and then one of each lot that has appeared or changed."""
    from .watch import arrivals

    with closing(arrivals([Path(path) for path in folders.inputs], stopped)) as lots:
        next(lots, None)
        yield _find(folders, recipe, entries)
        for files in lots:
            if files:
                planned = plan.plan_files(
                    files,
                    folders.output,
                    extras=recipe.extras,
                    choice=folders.choice,
                    entries=entries,
                )
            else:  # another folder has taken the place of one
                planned = _find(folders, recipe, entries)
            # Some are told of twice, or were found by the search: those need no second look.
            yield replace(planned, jobs=tuple(job for job in planned.jobs if not _looked_at(job, recipe)))


def _looked_at(job: Job, recipe: Recipe) -> bool:
    """Whether the recording is as it was when the manifest was told of it."""
    known = job.known
    if known is None or known.input != plan.absolute(job.source):
        return False
    if known.status != "failed" and not all(os.path.exists(job.output(e)) for e in recipe.extensions):
        return False  # another run did less
    try:
        status = job.source.stat()
    except OSError:
        return False
    return (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns)


def _do(planned: Plan, ledger: _Ledger, recipe: Recipe, work: Work, report: Report) -> None:
    report.plan(planned)
    todo, failures = plan.check_outputs(planned.jobs, recipe.extensions)
    for failure in failures:
        report.result(failure)
    for failure in (*planned.failures, *failures):
        ledger.unplanned(failure)
    by_label = {job.label: job for job in todo}
    with closing(work(todo)) as results:
        for result in results:
            ledger.done(by_label[result.label], result)
            report.result(result)


class _Ledger:
    """Writes to the manifest what it does not say yet."""

    def __init__(self, output: Path, entries: Entries, book: Manifest, report: Report) -> None:
        self._output, self._entries, self._book, self._report = output, entries, book, report
        self._full = False

    def unplanned(self, failure: Result) -> None:
        """An input for which there is nothing to do. What is known of its outputs remains.

        Nothing is kept of a folder, or of what is not there: no later run would correct it.
        """
        from .batch import stamped

        path = plan.absolute(Path(failure.label))
        known = self._entries.of_input(path)
        if os.path.isfile(path) if known is None else not known.fingerprint:
            entry = known or Entry(path, None, "failed")
            self._add(stamped(replace(entry, status="failed", message=failure.message)))

    def done(self, job: Job, result: Result) -> None:
        """A job is done, one way or another."""
        if result.entry is not None:
            self._add(replace(result.entry, output=plan.relative_output(job.output(".mid"), self._output)))

    def _add(self, entry: Entry) -> None:
        if entry == self._entries.of_input(entry.input):
            return
        try:
            self._book.append(entry, self._entries)
        except OutputError as error:  # MIDI files say what they are made from: the next run needs but longer
            self._entries.add(entry)
            if not self._full:
                self._report.problem(error)
            self._full = True


def preview(folders: Folders, recipe: Recipe, report: Report) -> None:
    """Say what :func:`transcribe_folders` would do, and write nothing. Parameters and errors as there."""
    from .batch import Step, Task, settings_fingerprint

    planned = _find(folders, recipe, manifest.read(folders.output))
    report.plan(planned)
    plan.check_folder(folders.output, make=False)
    todo, failures = plan.check_outputs(planned.jobs, recipe.extensions, make=False)
    for failure in failures:
        report.result(failure)
    settings = settings_fingerprint(recipe, recipe.load()) if todo else ""
    for job in todo:
        step = Task(job, recipe, settings).preview()
        if isinstance(step, Step):
            names = ", ".join(str(job.output(extension)) for extension in step.wanted)
            step = Result(job.label, "done", f"to {names} ({step.why})")
        report.preview(step)


def _check_page(path: Path) -> None:
    from .report import BEGINNING

    plan.check_file(path, BEGINNING)


def _write_page(path: Path, entries: Entries, book: Manifest, output: Path, report: Report) -> None:
    """The page, without what the manifest alone remembers: failures of what is no file any more, and earlier names."""
    from .report import report_page

    try:
        _check_page(path)  # once more: an output may have got this name
        book.catch_up(entries)
        shown: list[Entry] = []
        gone: list[Entry] = []
        for entry in entries:
            if os.path.isfile(entry.input):
                shown.append(entry)
            elif entry.status != "failed":
                gone.append(entry)
        contents = {entry.sha256 for entry in shown}
        shown += [entry for entry in gone if entry.sha256 not in contents]
        renamed = sum(entry.sha256 in contents for entry in gone)
        rows = sorted(shown, key=lambda entry: entry.input)
        page = report_page(rows, output, path.absolute().parent, renamed=renamed)
        write_atomic(path, page.encode())
    except TranscribeError as error:
        report.problem(error)
