"""The command line: which commands there are, and what each of them takes.

Results go to standard output, failures and remarks to standard error, one line each. With failures of several kinds the
exit code is the largest of theirs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from glob import glob
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Report, complain, mute_libraries, say, silence
from .errors import OutputError, UsageError, printable
from .flags import in_and_out, over, recipe_of, report_of, shard_of, tracker_flags
from .options import (
    FILES,
    RUN,
    WHICH,
    Debug,
    Exclude,
    Include,
    Jobs,
    ModelFile,
    NoteOptions,
    Options,
    RetryFailed,
    Sectioned,
    Threads,
    new_app,
    option,
    switch,
    with_options,
)
from .running import Stop, exit_with, preview_batch, run, run_batch, run_evaluation, signals, usage_errors

WINDOWS = os.name == "nt"

# One for each command, since a command with subcommands could not take a recording in their place.
app, batch_app, evaluate_app, live_app = new_app(), new_app(), new_app(), new_app()


def main() -> None:
    """Run the command line, and exit."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy has next to nothing for them to do, and starts them all
    # Workers that are spawned are told where modules are. They would look in the current folder first, whosever it is.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if "--debug" not in sys.argv:
        mute_libraries()
    signals.install()
    try:
        _check_empty(sys.argv[1:])
        name = sys.argv[1] if len(sys.argv) > 1 else ""
        if name in SUBCOMMANDS:
            _subcommand(name)(sys.argv[2:], prog_name=f"basic-transcribe {name}")
        else:
            app(sys.argv[1:], prog_name="basic-transcribe")  # without them, on Windows, it would expand all of them
    except Stop as stop:
        sys.exit(128 + stop.signum)
    except UsageError as error:
        complain(f"error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        if _adrift():
            complain("error: the current folder is gone; change to one that is there")
            sys.exit(UsageError.exit_code)
        if not {"--help", "-h", "--version"} & set(sys.argv):  # commands see to their own output
            raise
        silence(sys.stdout)
        complain(f"error: standard output cannot be written: {error.strerror}; send it elsewhere")
        sys.exit(OutputError.exit_code)


def _adrift() -> bool:
    """Whether somebody has removed the folder that this runs in, so that relative paths lead nowhere."""
    try:
        os.getcwd()
    except OSError:
        return True
    return False


SUBCOMMANDS = {
    "batch": ("cli", "batch_app"),
    "beam": ("engines.beam", "beam_app"),
    "evaluate": ("cli", "evaluate_app"),
    "live": ("cli", "live_app"),
    "web": ("web", "web_app"),
}
"""Where the commands beside the plain one are, each loaded only when it is asked for."""


def _subcommand(name: str) -> Callable[..., Any]:
    room, app_name = SUBCOMMANDS[name]
    try:
        found: Callable[..., Any] = getattr(import_module(f".{room}", __package__), app_name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(f"{__package__}."):
            raise
        complain(f'error: {name} needs {error.name}: pip install "basic-transcribe[{name}]"')
        sys.exit(UsageError.exit_code)
    return found


def _check_empty(arguments: Sequence[str]) -> None:
    """An empty argument is a variable of the shell that is not set; as a path it would be the current folder.

    Raises
    ------
    UsageError
        If there is one.
    """
    if arguments[:1] == ["beam"] and "--" in arguments:  # options of the engine
        arguments = arguments[: arguments.index("--")]
    for before, text in zip(("", *arguments), arguments, strict=False):
        if not text or (text.startswith("--") and text.find("=") == len(text) - 1):
            place = text.rstrip("=") or (f"an argument after {before}" if before else "an argument")
            raise UsageError(f"{place} is empty, perhaps a variable that is not set; give a value")


def _globbed(inputs: Sequence[str]) -> list[str]:
    """Inputs with * and ? replaced by the files that match, which on Windows no shell does."""
    if not WINDOWS:
        return list(inputs)
    found = ([] if os.path.exists(text) else sorted(glob(text.replace("[", "[[]"))) for text in inputs)
    return [path for text, paths in zip(inputs, found, strict=True) for path in paths or [text]]


def _print_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        print(f"basic-transcribe {__version__}", flush=True)
        raise typer.Exit


@app.command(cls=Sectioned)
@with_options(Options)
def command(
    flags: Mapping[str, Any],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Recordings, folders to search for them, - for standard input, or posteriors that --npz wrote.",
        ),
    ],
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", metavar="DIR", help="Folder for the outputs; beside INPUT if omitted."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit.", rich_help_panel=RUN
        ),
    ] = False,
) -> None:
    """Transcribe recordings to MIDI files.

    NAME.mid is written beside each recording, or below DIR with the tree of its folder mirrored. What is up to date is
    skipped. All notes go into one part: instruments are not told apart, drums are not transcribed.

    Other commands, each with a --help of its own: batch (whole folders, with a manifest), evaluate (score
    transcriptions against references), live (listen to an input device), web (a page for the browser), beam (catalogues
    on a cluster).

    Exit code: 0 all done or up to date, 1 an input failed, 2 usage, 3 the model cannot be loaded, 4 an output cannot be
    written, 129, 130 or 143 stopped by SIGHUP, SIGINT or SIGTERM.
    """
    with usage_errors():
        for name in SUBCOMMANDS.keys() & set(inputs):
            if not os.path.exists(name):
                raise UsageError(f"{name} is a command of its own and comes first: basic-transcribe {name} ...")
        recipe, report = recipe_of(flags), report_of(flags)
    exit_with(lambda: run(_globbed(inputs), output_dir, recipe, flags["jobs"], report))


@batch_app.command(cls=Sectioned)
@with_options(Options)
def batch_command(
    flags: Mapping[str, Any],
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... OUT",
            help="Folders, recordings, or lists of them (.jsonl; relative paths count from the list's folder); and the "
            "folder for the outputs.",
            show_default=False,
        ),
    ],
    include: Include = None,
    exclude: Exclude = None,
    shard: Annotated[
        str | None, option(WHICH, "I/N", "Only the I-th of N parts, which more recordings do not change.")
    ] = None,
    retry_failed: RetryFailed = False,
    dry_run: Annotated[bool, switch("--dry-run", "Show what would be done and why, and write nothing.", RUN)] = False,
    watch: Annotated[bool, switch("--watch", "Go on with what appears or changes, until stopped.", RUN)] = False,
    page: Annotated[
        Path | None,
        typer.Option("--report", metavar="HTML", help="Also write a page that shows all.", rich_help_panel=FILES),
    ] = None,
) -> None:
    """Transcribe whole folders.

    The tree below each IN is mirrored below OUT. OUT/manifest.jsonl tells what became of each recording, one line of
    JSON each, and another run goes on from there: what is up to date is skipped, what has changed is done again, what
    failed is not, unless --retry-failed is given. Files that this program did not write, or that have been changed, are
    replaced only with --overwrite.

    Exit code: as of basic-transcribe; 1 also if something failed before.
    """
    from .folders import Folders
    from .plan import Choice

    with usage_errors():
        if watch and dry_run:
            raise UsageError("--watch contradicts --dry-run; give one of them")
        choice = Choice(tuple(include or ()), tuple(exclude or ()), shard_of(shard))
        folders = Folders(*in_and_out([*_globbed(paths[:-1]), paths[-1]]), choice, watch, page)
        recipe, report = replace(recipe_of(flags), retry_failed=retry_failed), report_of(flags, batch=True)
    if dry_run:
        exit_with(lambda: preview_batch(folders, recipe, report))
    exit_with(lambda: run_batch(folders, recipe, flags["jobs"], report))


@evaluate_app.command(cls=Sectioned)
@with_options(NoteOptions)
def evaluate_command(
    flags: Mapping[str, Any],
    reference: Annotated[
        Path,
        typer.Argument(
            metavar="REF_DIR", exists=True, file_okay=False, help="Folder of references and their recordings."
        ),
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
    jobs: Jobs = None,
    threads: Threads = None,
    model: ModelFile = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but failures.")] = False,
    debug: Debug = False,
) -> None:
    """Score transcriptions against references.

    A recording below REF_DIR is scored if NAME.csv (onset_s,offset_s,midi_pitch[,velocity]), NAME.jams or NAME.mid lies
    beside it, the first of these being its reference. It is transcribed, or compared with the file of the same name
    below EST_DIR (NAME.mid, or NAME.wav.mid and the like); then references need no recordings. Folders directly below
    REF_DIR are sets, each counting once in the mean.

    P, R, F50: notes by onset within 50 ms and pitch within 50 cents. F100: within 100 ms. Foff: the offset too, within
    50 ms or 20 % of the note. Fbend: F50 on the bent pitch. Fframe: every 10 ms. Fvel: F50 with velocity. rvel:
    correlation of the velocities. onset ms: median (standard deviation) of estimated minus reference onset.

    Exit code: as of basic-transcribe; 1 if a recording could not be scored, the others being scored.
    """
    from .batch import Recipe
    from .outputs import OutputSettings
    from .presets import preset as named

    with usage_errors():
        chosen = named(flags["preset"])
        tracker = over(chosen.tracker, **tracker_flags(flags))
        recipe = Recipe(tracker, chosen.shape, OutputSettings(chosen.midi), model=model, threads=threads)
        if estimates is not None and recipe != Recipe(threads=threads):
            raise UsageError("EST_DIR is scored as it is; leave it out, or --model, --preset and the thresholds")
    report = Report(quiet=quiet, verbose=False, debug=debug)
    exit_with(lambda: run_evaluation(reference, estimates, recipe, jobs, json, not no_per_file, report))


@live_app.command(cls=Sectioned)
@with_options(NoteOptions)
def live_command(
    flags: Mapping[str, Any],
    device: Annotated[str | None, typer.Option(metavar="NAME|N", help="Input device; the system's if omitted.")] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="Show the input devices and exit.")] = False,
    channel: Annotated[int | None, typer.Option(metavar="N", min=1, help="Channel; their mix if omitted.")] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="RECORDING", help="Listen to this instead, as if it were being played.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Do not wait while playing it.")] = False,
    midi_port: Annotated[str | None, typer.Option(metavar="NAME", help="Send the notes to this MIDI output.")] = None,
    show: Annotated[
        bool, typer.Option("--print", help="Print the notes, even if they are sent to a MIDI output.")
    ] = False,
    model: ModelFile = None,
    debug: Debug = False,
) -> None:
    """Listen, and tell the notes while they sound.

    Prints a line for each note that begins or ends, or sends them to a MIDI output, until it is stopped (Ctrl-C). The
    network looks ahead, so a note is told about a second after it begins (with --monophonic, about 2.5 s); the delay is
    said at the start.

    Exit code: as of basic-transcribe.
    """
    from .presets import preset as named

    with usage_errors():
        if fast and file is None:
            raise UsageError("--fast is for --file; give one too")
        if device is not None and file is not None:
            raise UsageError("--device contradicts --file; give one of them")
        settings = over(named(flags["preset"]).tracker, **tracker_flags(flags))

    def listen() -> int:
        from . import live

        if list_devices:
            for line in live.input_devices():
                say(line)
            return 0
        signals.deferred = True  # sound comes through callbacks from C, which swallow exceptions
        live.listen(
            device=device,
            file=file,
            channel=channel,
            fast=fast,
            midi_port=midi_port,
            show=say if show or midi_port is None else None,
            remark=lambda text: complain(f"note: {printable(text)}"),
            model=model,
            settings=settings,
            check=signals.check,
        )
        return 0

    exit_with(listen, debug=debug)
