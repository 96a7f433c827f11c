"""``basic-transcribe beam``: flags to a pipeline of Apache Beam, and what it counted to a line and an exit code."""

from __future__ import annotations

import logging
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Report, clock, complain, count
from ..errors import TranscribeError, UsageError, printable, require
from ..flags import recipe_of, report_of
from ..options import RUN, Exclude, Include, Options, RetryFailed, Sectioned, new_app, option, with_options
from ..plan import Choice, check_folder
from ..running import Stop, exit_with, signals, usage_errors
from .catalogue import LISTS, absolute, as_folder, is_url, parent

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineResult, PipelineRunner

    from ..batch import Recipe
    from .transforms import Source

EMBEDDED = "DirectRunner"
SHOWN = 10  # failures, in the summary
WILD = "*?["
AGAIN = "what it has written is whole; run it again to go on"
STORES = {"azfs": "azure", "gs": "gcp", "s3": "aws"}  # extras of Apache Beam, by the schemes they serve

beam_app = new_app()


@dataclass(frozen=True, slots=True)
class Totals:
    """What the workers counted: recordings, and what became of them; notes and milliseconds of what was done."""

    files: int = 0
    done: int = 0
    skipped: int = 0
    failures: int = 0
    notes: int = 0
    audio_milliseconds: int = 0


@beam_app.command(cls=Sectioned)
@with_options(Options)
def beam_command(
    flags: Mapping[str, Any],
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="A folder, a pattern such as 's3://songs/**.flac', or a list: a .txt file with a path a line, or a"
            " .jsonl file as batch takes it.",
        ),
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder or prefix for the outputs, as gs://bucket/midi.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="-- BEAM_OPTIONS", help="Options of the pipeline, after --.")
    ] = None,
    runner: Annotated[
        str, option(RUN, "NAME", "Engine: DirectRunner, DataflowRunner, FlinkRunner, SparkRunner or another.")
    ] = EMBEDDED,
    include: Include = None,
    exclude: Exclude = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Transcribe a catalogue on an engine that spreads it over many machines.

    IN and OUT may be local, gs:// (pip install "apache-beam[gcp]"), s3:// ("apache-beam[aws]") or whatever else
    Apache Beam has a file system for. The tree below IN is mirrored below OUT. OUT/results.jsonl tells what became of
    each recording, OUT/failed.jsonl what failed this time and why. Another run goes on from there, as with batch.

    How many recordings are done at a time is said by the engine's own options, after --, not by --jobs; each has one
    thread if --threads is omitted.

    Exit code: as of basic-transcribe; 1 also if the pipeline itself failed.
    """
    with usage_errors():
        choice = Choice(tuple(include or ()), tuple(exclude or ()))
        if flags["jobs"] is not None:
            raise UsageError("--jobs is for one machine; say how many workers by an option of the engine, after --")
        if options and not options[0].startswith("-"):
            raise UsageError(f"{options[0]}: one path too many; give IN and OUT, and options of the pipeline after --")
        recipe = replace(recipe_of(flags), retry_failed=retry_failed, threads=flags["threads"] or 1)
        report = report_of(flags)
        require("apache_beam", "beam", "beam")
    logging.basicConfig(level=logging.INFO if report.verbose else logging.CRITICAL, format="%(name)s: %(message)s")

    def work() -> int:
        try:
            totals = run(source, out, recipe, choice=choice, runner=runner, options=options or ())
            return _summary(totals, absolute(out), report)
        except TranscribeError:
            if signals.received is None:
                raise
            return stopped(signals.received)  # it went through Beam, which made a failure of it
        except Stop as stop:
            return stopped(stop.signum)

    def stopped(number: int) -> int:
        complain(f"stopped by {signal.Signals(number).name}; run again to go on")
        return 128 + number

    exit_with(work, debug=report.debug)


def run(
    source: str,
    out: str,
    recipe: Recipe,
    *,
    choice: Choice | None = None,
    runner: str = EMBEDDED,
    options: Sequence[str] = (),
) -> Totals:
    """Transcribe a catalogue, and wait until it is done.

    Parameters
    ----------
    source : str
        Folder, pattern or list: a path or a URL.
    out : str
        Folder or prefix for the outputs.
    recipe : Recipe
    choice : Choice, optional
        Which of the recordings; all if omitted.
    runner : str
        Of Apache Beam. ``DirectRunner`` works in this process.
    options : sequence of str
        Of Apache Beam, as on a command line.

    Raises
    ------
    TranscribeError
        If the pipeline fails, or a store cannot be reached. What has been written is whole: run it again.
    UsageError
        If there is no recording, or a list is none.
    ModelError
        If the model cannot be loaded.
    OutputError
        If OUT is a local folder that cannot be written to.
    """
    require("apache_beam", "beam", "beam")
    import apache_beam as beam
    from apache_beam.io.filesystems import FileSystems

    from .transforms import RESULTS, build

    out = absolute(out)
    with _reaching("the pipeline options"):
        settings = _pipeline_options(runner, options)
        engine = _embedded(settings) if runner == EMBEDDED else None
        pipeline = beam.Pipeline(engine, settings)  # from here on, the file systems know the options
    for url in (absolute(source), out):
        _check_scheme(url)
    where = _source(absolute(source), choice or Choice())
    with _reaching(where.url):
        _check_source(where)
    if is_url(out):
        with _reaching(out):
            again = FileSystems.exists(f"{out.rstrip('/')}/{RESULTS}.jsonl")
    else:
        check_folder(Path(out))
        again = Path(out, f"{RESULTS}.jsonl").exists()
    recipe.load()  # here, to find out before anything is started
    model = recipe.model.read_bytes() if recipe.model else None
    build(pipeline, where, out, recipe, model=model, again=again)
    try:
        with _tidied(out) if engine else nullcontext():
            result = pipeline.run()
            state = result.wait_until_finish()
    except Exception as error:  # the engines share no base class
        raise TranscribeError(f"the pipeline failed: {_last_line(error)}; {AGAIN}") from error
    if state not in (None, "DONE"):
        raise TranscribeError(f"the pipeline ended as {state}; {AGAIN}")
    totals = _totals(result)
    if not totals.files:
        raise UsageError(f"{where.url}: no recordings among what was found; check the path, --include and --exclude")
    return totals


def _pipeline_options(runner: str, options: Sequence[str]) -> PipelineOptions:
    """The options, as Beam has them.

    Raises
    ------
    UsageError
        If one of them means nothing to the embedded runner. What means something to another is known there only.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    chosen = PipelineOptions([*options, f"--runner={runner}"])
    unknown = chosen.get_all_options(retain_unknown_options=True).keys() - chosen.get_all_options().keys()
    if runner == EMBEDDED and unknown:
        raise UsageError(f"--{min(unknown)} is no option of Apache Beam; leave it out")
    return chosen


def _embedded(options: PipelineOptions) -> PipelineRunner:
    """The runner that works in this process.

    DirectRunner is this one too, but may first try Prism, a program that Beam downloads.
    """
    from apache_beam.portability.api import beam_provision_api_pb2 as provision
    from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    # Workers in processes of their own are told the options by this.
    info = provision.ProvisionInfo(pipeline_options=JobServiceHandle.encode_pipeline_options(options.get_all_options()))
    return FnApiRunner(provision_info=ExtendedProvisionInfo(info))


@contextmanager
def _tidied(out: str) -> Iterator[None]:
    """Remove from a local folder what Beam would remove at the end of a pipeline, if it is not allowed to get there."""

    def temporary() -> set[Path]:
        return set() if is_url(out) else set(Path(out).glob("beam-temp-*"))

    before = temporary()  # of others
    try:
        yield
    except BaseException:
        for folder in temporary() - before:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _check_scheme(url: str) -> None:
    """Find out whether there is a file system for a path or URL.

    Raises
    ------
    UsageError
        If there is none.
    """
    from apache_beam.io.filesystems import FileSystems

    try:
        FileSystems.get_filesystem(url)
    except ValueError as error:
        extra = STORES.get(url.partition("://")[0])
        remedy = f'pip install "apache-beam[{extra}]"' if extra else "give a path, gs://, s3:// or azfs://"
        raise UsageError(f"{url}: Apache Beam has no file system for it here; {remedy}") from error


def _source(url: str, choice: Choice) -> Source:
    """Where to look, going by the end of a path or URL."""
    from glob import escape

    from .transforms import Source

    if url.lower().endswith(LISTS):
        return Source(url, parent(url), is_list=True, choice=choice)
    folder = url.endswith("/") if is_url(url) else Path(url).is_dir()
    if folder:
        root = as_folder(url)
        return Source(escape(root) + "**", root, choice=choice)
    first = min((url.index(character) for character in WILD if character in url), default=None)
    if first is None or Path(url).is_file():
        return Source(escape(url), parent(url), anything=True, choice=choice)
    return Source(url, parent(url[:first]), choice=choice)


def _check_source(source: Source) -> None:
    """Find out before anything is started whether there is something to do.

    Raises
    ------
    UsageError
        If there is not, or a line of a list is wrong.
    """
    from apache_beam.io.filesystems import FileSystems

    from .transforms import find

    if source.is_list:
        some = sum(1 for _ in find(source))
    else:
        some = len(FileSystems.match([source.url], limits=[1])[0].metadata_list)
    if not some:
        raise UsageError(f"{source.url}: no recordings found; check the path")


@contextmanager
def _reaching(what: str) -> Iterator[None]:
    from .transforms import innermost, lasting

    try:
        yield
    except TranscribeError:
        raise
    except Exception as error:  # the clients of the stores share no base class
        reason = lasting(error) or f"{_last_line(innermost(error))}; check it, and the pipeline options"
        raise UsageError(f"{what}: {reason}") from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _totals(result: PipelineResult) -> Totals:
    """What the workers counted."""
    from apache_beam.metrics import MetricsFilter

    from .transforms import COUNTERS, NAMESPACE

    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    sums = dict.fromkeys(COUNTERS, 0)
    for counter in counters:  # one for each step
        sums[counter.key.metric.name] += counter.result
    return Totals(**sums)


def _summary(totals: Totals, out: str, report: Report) -> int:
    """Say what was done; returns the exit code."""
    import itertools

    from .transforms import FAILED, RESULTS, read_results

    folder = out.rstrip("/")
    if totals.failures:
        with _reaching(out):
            failed = list(itertools.islice(read_results(f"{folder}/{FAILED}.jsonl"), SHOWN))
        for entry in failed:
            complain(f"error: {printable(entry.input)}: {printable(entry.message)}")
        if totals.failures > len(failed):
            complain(f"error: {totals.failures - len(failed)} more failed; see {folder}/{FAILED}.jsonl")
    report.say(
        f"{totals.done} done, {totals.skipped} up to date, {totals.failures} failed: {count(totals.notes, 'note')} in"
        f" {clock(totals.audio_milliseconds / 1000)} of audio; see {folder}/{RESULTS}.jsonl"
    )
    return 1 if totals.failures else 0
