"""The command line: flags to settings, results to lines and an exit code.

Results go to standard output, failures and remarks to standard error, one line each. With failures of several kinds the
exit code is the largest of theirs.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .errors import OutputError, TranscribeError, UsageError, printable

if TYPE_CHECKING:
    import rich.progress

    from .batch import Job, Plan, Recipe, Result
    from .scoring import Recording
    from .types import TrackerSettings

BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE ended
_NOTE_NAME = re.compile(r"([A-Ga-g])([#♯b♭]?)(-?[0-9])")
_SEMITONES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_ACCIDENTALS = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}


def _app() -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,  # rich would double the time of --help
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app, evaluate_app = _app(), _app()  # two, since a command with subcommands could not take a recording in their place

OnsetThreshold = Annotated[
    float | None, typer.Option(metavar="0..1", help="Lower finds more notes; the model's if omitted.")
]
SplitThreshold = Annotated[
    float | None, typer.Option(metavar="0..1", help="Higher strikes held notes again less; the model's if omitted.")
]
FrameThreshold = Annotated[
    float | None, typer.Option(metavar="0..1", help="Lower makes notes longer; the model's if omitted.")
]
MinimumNoteLength = Annotated[
    float | None, typer.Option(metavar="MS", help="Shortest note kept; the model's if omitted.")
]
MinimumFrequency = Annotated[str | None, typer.Option(metavar="HZ|NOTE", help="Lowest note kept, as 82.4 or E2.")]
MaximumFrequency = Annotated[str | None, typer.Option(metavar="HZ|NOTE", help="Highest note kept, as 932 or Bb5.")]
Jobs = Annotated[int | None, typer.Option(metavar="N", min=1, help="Recordings at a time; one per CPU if omitted.")]
Threads = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Threads per recording; the CPUs shared out if omitted.")
]
ModelFile = Annotated[Path | None, typer.Option(metavar="FILE", help="ONNX model; the one shipped if omitted.")]
Debug = Annotated[bool, typer.Option("--debug", help="Also show tracebacks.")]


class Stop(BaseException):
    """SIGINT or SIGTERM has arrived. Not an Exception, so that no handler of errors swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class _Signals:
    """Turns SIGINT and SIGTERM into Stop: at once, or at the next check while ``deferred``.

    Audio is decoded through callbacks from C, which print and then swallow whatever is raised in them.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.received: int | None = None

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, signum: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # a second one need not wait
        self.received = signum
        if not self.deferred:
            raise Stop(signum)

    def check(self) -> None:
        if self.received is not None:
            raise Stop(self.received)


_signals = _Signals()


def main() -> None:
    """Run the command line, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if "--debug" not in sys.argv:
        _mute_libraries()
    _signals.install()
    try:
        if sys.argv[1:2] == ["evaluate"]:
            evaluate_app(sys.argv[2:], prog_name="basic-transcribe evaluate")
        else:
            app(prog_name="basic-transcribe")
    except Stop as stop:
        sys.exit(128 + stop.signum)


def _print_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        print(f"basic-transcribe {__version__}")
        raise typer.Exit


@app.command()
def command(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Recordings, folders to search for them, or - for standard input."),
    ],
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", metavar="DIR", help="Folder for the outputs; beside INPUT if omitted."),
    ] = None,
    onset_threshold: OnsetThreshold = None,
    split_threshold: SplitThreshold = None,
    frame_threshold: FrameThreshold = None,
    minimum_note_length: MinimumNoteLength = None,
    minimum_frequency: MinimumFrequency = None,
    maximum_frequency: MaximumFrequency = None,
    midi_tempo: Annotated[
        float | None, typer.Option(metavar="BPM", help="Tempo of the MIDI file.", show_default="120")
    ] = None,
    program: Annotated[
        int | None, typer.Option(metavar="0..127", help="General MIDI program.", show_default="0, piano")
    ] = None,
    no_pitch_bends: Annotated[bool, typer.Option("--no-pitch-bends", help="Leave pitch bends out.")] = False,
    multiple_pitch_bends: Annotated[
        bool, typer.Option("--multiple-pitch-bends", help="Give each bending note a MIDI channel of its own.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Also write the notes as NAME.csv.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Also write the notes as NAME.json.")] = False,
    npz: Annotated[bool, typer.Option("--npz", help="Also write the model's posteriors as NAME.npz.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    jobs: Jobs = None,
    threads: Threads = None,
    model: ModelFile = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but failures.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also say what is used.")] = False,
    debug: Debug = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Transcribe recordings to MIDI files.

    NAME.mid is written beside each recording, or below DIR with the tree of its folder mirrored. What is up to date is
    skipped. To score transcriptions against references instead, see basic-transcribe evaluate --help.

    Exit code: 0 all done or up to date, 1 an input failed, 2 usage, 3 the model cannot be loaded, 4 an output cannot be
    written, 130 or 143 stopped by SIGINT or SIGTERM.
    """
    from .batch import Recipe
    from .types import MidiSettings

    with _usage_errors():
        if quiet and (verbose or debug):
            raise UsageError("--quiet contradicts --verbose and --debug; give one of them")
        tracker = _tracker(context.params)
        plain = MidiSettings()
        midi = MidiSettings(
            tempo=plain.tempo if midi_tempo is None else midi_tempo,
            program=plain.program if program is None else program,
            multiple_pitch_bends=multiple_pitch_bends,
        )
    extras = tuple(extension for extension, wanted in ((".csv", csv), (".json", json), (".npz", npz)) if wanted)
    recipe = Recipe(tracker, midi, extras, overwrite, model, threads)
    report = _Report(quiet=quiet, verbose=verbose or debug, debug=debug)
    _exit_with(lambda: _run(inputs, output_dir, recipe, jobs, report))


@evaluate_app.command()
def evaluate_command(
    context: typer.Context,
    reference: Annotated[
        Path,
        typer.Argument(metavar="REF_DIR", exists=True, file_okay=False, help="Folder of recordings with references."),
    ],
    estimates: Annotated[
        Path | None,
        typer.Argument(
            metavar="EST_DIR",
            exists=True,
            file_okay=False,
            help="Score the .mid, .midi or .csv files of this folder instead of transcribing.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write all scores as JSON.")] = None,
    no_per_file: Annotated[bool, typer.Option("--no-per-file", help="Show the means only.")] = False,
    onset_threshold: OnsetThreshold = None,
    split_threshold: SplitThreshold = None,
    frame_threshold: FrameThreshold = None,
    minimum_note_length: MinimumNoteLength = None,
    minimum_frequency: MinimumFrequency = None,
    maximum_frequency: MaximumFrequency = None,
    jobs: Jobs = None,
    threads: Threads = None,
    model: ModelFile = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but failures.")] = False,
    debug: Debug = False,
) -> None:
    """Score transcriptions against references.

    A recording below REF_DIR is scored if NAME.csv (onset_s,offset_s,midi_pitch[,velocity]), NAME.jams or NAME.mid lies
    beside it, the first of these being its reference. It is transcribed, or compared with the file of the same name
    below EST_DIR. Folders directly below REF_DIR are sets, each counting once in the mean.

    P, R, F50: notes by onset within 50 ms and pitch within 50 cents. F100: within 100 ms. Foff: the offset too, within
    50 ms or 20 % of the note. Fbend: F50 on the bent pitch. Fframe: every 10 ms. Fvel: F50 with velocity. rvel:
    correlation of the velocities. onset ms: median (standard deviation) of estimated minus reference onset.

    Exit code: as of basic-transcribe; 1 if a recording could not be scored, the others being scored.
    """
    from .batch import Recipe
    from .types import MidiSettings, TrackerSettings

    with _usage_errors():
        tracker = _tracker(context.params)
        if estimates is not None and (model is not None or tracker != TrackerSettings()):
            raise UsageError("EST_DIR is scored as it is; leave it out, or --model and the thresholds")
    recipe = Recipe(tracker, MidiSettings(), model=model, threads=threads)
    report = _Report(quiet=quiet, verbose=False, debug=debug)
    _exit_with(lambda: _evaluate(reference, estimates, recipe, jobs, json, not no_per_file, report))


def _tracker(flags: Mapping[str, Any]) -> TrackerSettings:
    """What a command's flags say of the note tracker."""
    from .types import TrackerSettings

    thresholds = ("onset_threshold", "split_threshold", "frame_threshold", "minimum_note_length")
    ends = ("minimum_frequency", "maximum_frequency")
    return TrackerSettings(
        **{name: flags[name] for name in thresholds},
        **{name: _frequency(f"--{name.replace('_', '-')}", flags[name]) for name in ends},
        pitch_bends=not flags.get("no_pitch_bends", False),
    )


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        _complain(f"error: {printable(error)}")
        raise typer.Exit(UsageError.exit_code) from None


def _exit_with(run: Callable[[], int]) -> NoReturn:
    try:
        code = run()
    except BrokenPipeError:
        _silence()
        code = BROKEN_PIPE
    raise typer.Exit(code)


def _run(inputs: list[str], output_dir: Path | None, recipe: Recipe, jobs: int | None, report: _Report) -> int:
    """Everything between flags and exit code."""
    from . import batch
    from .audio import AUDIO_EXTENSIONS, AV_EXTENSIONS

    try:
        plan = batch.plan(inputs, output_dir, extensions=AUDIO_EXTENSIONS | AV_EXTENSIONS, extras=recipe.extras)
        report.plan(plan)
        if plan.jobs and output_dir is not None:
            batch.check_folder(output_dir)
        todo, failures = batch.check_outputs(plan.jobs, (".mid", *recipe.extras))
        for failure in failures:
            report.result(failure)
        with ExitStack() as stack:
            todo = stack.enter_context(_spooled(todo))
            for result in stack.enter_context(closing(_work(todo, recipe, jobs, report))):
                report.result(result)
    except TranscribeError as error:  # one that concerns all inputs: usage, the model, the folder
        report.error(str(error))
        return error.exit_code
    except Stop as stop:
        report.stopped(signal.Signals(stop.signum).name)
        return 128 + stop.signum
    report.summary()
    return report.exit_code


def _work(todo: Sequence[Job], recipe: Recipe, jobs: int | None, report: _Report) -> Generator[Result, None, None]:
    """The results of all jobs as they finish, under progress bars. Stop is raised between two of them."""
    from . import batch

    cpus = batch.available_cpus()
    processes = max(1, min(jobs or cpus, len(todo)))
    recipe = replace(recipe, threads=recipe.threads or max(1, cpus // processes))
    report.settings(recipe, processes)
    with _Bars(len(todo), shown=not report.quiet) as bars:

        def progress(job: Job, seconds: float, total: float | None) -> None:
            bars.update(job, seconds, total)
            _signals.check()

        _signals.deferred = processes == 1
        with closing(batch.run_jobs(todo, recipe, processes=processes, progress=progress)) as results:
            for result in results:
                bars.finish(result.label)
                yield result
                _signals.check()
        _signals.deferred = False


def _evaluate(
    reference: Path,
    estimates: Path | None,
    recipe: Recipe,
    jobs: int | None,
    json: Path | None,
    per_file: bool,
    report: _Report,
) -> int:
    """Everything between flags and exit code."""
    import tempfile

    from . import evaluate, scoring
    from .exports import write_atomic

    scores: list[evaluate.Score] = []
    try:
        scoring.require_mir_eval()
        if json is not None and not json.parent.is_dir():
            raise OutputError(f"{json}: cannot be written: no such folder; create it first")
        found = scoring.find(reference, leave_out=estimates)
        report.remarks(found.remarks)
        for path, reason in found.failures:
            report.failure(path, TranscribeError(reason))
        if not found.recordings:
            raise UsageError(f"{reference}: no recordings with references in this folder; check the path")
        with ExitStack() as stack:
            if estimates is not None:
                source = {"estimates": str(estimates)}
                pairs = _given(found.recordings, estimates, report)
            else:
                transcriber = recipe.load()
                used = recipe.tracker.resolved(transcriber.model.defaults)
                source = evaluate.setup(transcriber.model.name, transcriber.model.sha256, used)
                report.say(evaluate.heading(source))
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="basic_transcribe-"))
                pairs = _transcribed(found.recordings, Path(folder), recipe, jobs, report)
            for recording, estimate in stack.enter_context(closing(pairs)):
                try:
                    scores.append(evaluate.score(recording, estimate))
                except TranscribeError as error:
                    report.failure(str(recording.audio), error)
        scores.sort(key=lambda s: (s.recording.set_name, s.recording.name))
        lines = [*evaluate.recordings_table(scores), ""] if per_file else []
        for line in (*lines, *evaluate.means_table(evaluate.means(scores))) if scores else ():
            report.say(line)
        report.say(f"{len(scores)} scored, {len(report.results)} failed")
        if json is not None:
            failures = [(result.label, result.message) for result in report.results]
            write_atomic(json, evaluate.to_json(scores, failures, source=source, reference=reference).encode())
    except TranscribeError as error:  # one that concerns all recordings
        report.error(str(error))
        return max(error.exit_code, report.exit_code)
    except Stop as stop:
        _complain(f"stopped by {signal.Signals(stop.signum).name}")
        return 128 + stop.signum
    return report.exit_code


def _given(
    recordings: Sequence[Recording], folder: Path, report: _Report
) -> Generator[tuple[Recording, Path], None, None]:
    """Each recording with its estimate in a folder."""
    from .evaluate import given_estimate

    for recording in recordings:
        try:
            estimate = given_estimate(recording, folder)
        except TranscribeError as error:
            report.failure(str(recording.audio), error)
        else:
            yield recording, estimate


def _transcribed(
    recordings: Sequence[Recording], folder: Path, recipe: Recipe, jobs: int | None, report: _Report
) -> Generator[tuple[Recording, Path], None, None]:
    """Each recording with its transcription, written to the folder, as they finish."""
    from . import batch, evaluate

    todo, failures = batch.check_outputs(evaluate.jobs(recordings, folder), (".mid",))
    estimates = {job.label: job.output(".mid") for job in todo}
    by_label = {str(recording.audio): recording for recording in recordings}
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
    import tempfile

    from .batch import STDIN

    if all(job.label != STDIN for job in jobs):
        yield jobs
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("standard input is not a recording; pipe one into it, or give a file instead of -")
    with tempfile.TemporaryDirectory(prefix="basic_transcribe-") as folder:
        path = Path(folder, "stdin")
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        except OSError as error:
            raise TranscribeError(
                f"standard input cannot be stored in {folder}: {error.strerror}; set TMPDIR"
            ) from error
        yield [replace(job, source=path) if job.label == STDIN else job for job in jobs]


def _frequency(option: str, text: str | None) -> float | None:
    """Hz of a number or a note name such as E2, F#3, Bb4 (A4 is 440 Hz).

    Raises
    ------
    UsageError
        If it is neither.
    """

    if text is None:
        return None
    name = _NOTE_NAME.fullmatch(text)
    if name:
        pitch = 12 * (int(name[3]) + 1) + _SEMITONES[name[1].lower()] + _ACCIDENTALS[name[2]]
        return 440 * math.exp2((pitch - 69) / 12)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{option} is {text!r}; give Hz, or a note name such as E2, F#3 or Bb4")
    return value


# -------------------------------------------------------------------------------------------------------------- output


def _say(text: str) -> None:
    if sys.stdout is not None:
        print(text, flush=True)


def _complain(text: str) -> None:
    if sys.stderr is not None:  # print would take None for standard output
        print(text, file=sys.stderr, flush=True)


def _mute_libraries() -> None:
    """Keep what C libraries print about damaged files out of standard error, in this process and in its workers.

    They write to descriptor 2, which leads nowhere from now on; ``sys.stderr`` gets a copy of what it was.
    """
    if sys.stderr is None or sys.stderr.fileno() != 2:
        return
    kept = os.dup(2)
    encoding = sys.stderr.encoding
    sys.stderr = open(kept, "w", buffering=1, encoding=encoding, errors="backslashreplace")  # noqa: SIM115
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)


def _silence() -> None:
    """Keep the interpreter from flushing into a closed pipe when it exits."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), stream.fileno())


class _Bars:
    """Progress bars on standard error while it is a terminal: one per recording at work, one for all."""

    def __init__(self, recordings: int, *, shown: bool) -> None:
        self._bars: rich.progress.Progress | None = None
        self._tasks: dict[str, rich.progress.TaskID] = {}
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
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        if recordings > 1:
            self._tasks[""] = self._bars.add_task("all", total=recordings, done=f"0/{recordings}")

    def __enter__(self) -> _Bars:
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
            self._tasks[job.label] = self._bars.add_task(printable(Path(job.label).name), total=total, done="")
        self._bars.update(self._tasks[job.label], completed=seconds, total=total, done=_clock(seconds))

    def finish(self, label: str) -> None:
        """A recording is done, one way or another."""
        if self._bars is None:
            return
        if label in self._tasks:
            self._bars.remove_task(self._tasks.pop(label))
        if "" in self._tasks:
            self._bars.advance(self._tasks[""])
            task = self._bars.tasks[0]
            self._bars.update(self._tasks[""], done=f"{task.completed:.0f}/{task.total:.0f}")


class _Report:
    """Says what happens, and counts."""

    def __init__(self, *, quiet: bool, verbose: bool, debug: bool) -> None:
        self.quiet, self.verbose, self.debug = quiet, verbose, debug
        self.exit_code = 0
        self.results: list[Result] = []
        self.planned = 0
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        if not self.quiet:
            _say(text)

    def error(self, text: str) -> None:
        _complain(f"error: {printable(text)}")

    def plan(self, plan: Plan) -> None:
        self.planned = len(plan.jobs) + len(plan.failures)
        self.remarks(plan.remarks)
        for failure in plan.failures:
            self.result(failure)

    def remarks(self, remarks: Iterable[tuple[str, str]]) -> None:
        if not self.quiet:
            for label, text in remarks:
                _complain(f"note: {printable(label)}: {printable(text)}")

    def failure(self, label: str, error: TranscribeError) -> None:
        """Call this where the error is handled, for the traceback."""
        from .batch import Result

        details = "".join(traceback.format_exception(error))
        self.result(Result(label, "failed", str(error), error.exit_code, details=details))

    def settings(self, recipe: Recipe, processes: int) -> None:
        if self.verbose:
            _complain(f"{processes} at a time, {recipe.threads} threads each; {recipe.tracker}; {recipe.midi}")

    def result(self, result: Result) -> None:
        self.results.append(result)
        self.exit_code = max(self.exit_code, result.exit_code)
        label = printable(result.label)
        if not self.quiet:
            for warning in result.warnings:
                _complain(f"warning: {label}: {printable(warning)}")
        if result.status == "failed":
            self.error(f"{result.label}: {result.message}")
            if self.debug and result.details:
                _complain(result.details.rstrip())
        elif result.status == "done":
            self.say(
                f"{label}: {_count(result.notes, 'note')} in {_clock(result.seconds)}: {printable(result.message)}"
            )
        else:
            self.say(f"{label}: {printable(result.message)}")

    def summary(self) -> None:
        if len(self.results) > 1:
            self.say(self._totals())

    def stopped(self, name: str) -> None:
        _complain(f"stopped by {name}, {self.planned - len(self.results)} not done; run again to go on")
        self.say(self._totals())

    def _totals(self) -> str:
        done = [r for r in self.results if r.status == "done"]
        skipped = sum(r.status == "skipped" for r in self.results)
        audio, elapsed = sum(r.seconds for r in done), time.monotonic() - self.started
        speed = f" ({audio / elapsed:.0f} times real time)" if audio else ""
        return (
            f"{len(done)} done, {skipped} up to date, {len(self.results) - len(done) - skipped} failed: "
            f"{_count(sum(r.notes for r in done), 'note')} in {_clock(audio)} of audio in {_clock(elapsed)}{speed}"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _clock(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{tenths / 10:04.1f}" if hours else f"{minutes}:{tenths / 10:04.1f}"
