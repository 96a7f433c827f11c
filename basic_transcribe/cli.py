"""The command line: flags to settings, results to lines and an exit code.

Results go to standard output, failures and remarks to standard error, one line each. With failures of several kinds the
exit code is the largest of theirs.
"""

from __future__ import annotations

import inspect
import math
import re
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_type_hints

import typer
import typer.core

from .console import Bars, Report, complain, mute_libraries, say, silence
from .errors import OutputError, TranscribeError, UsageError, printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from .batch import Pool, Recipe
    from .folders import Folders
    from .plan import Job, Result
    from .scoring import Recording
    from .types import BeatSettings

PRESET_NAMES = ("bass", "guitar", "harmonica", "kalimba", "piano", "violin", "voice")  # presets.py loads slowly
BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE ended
TEMPO = "beats per minute, auto, or auto:120 for a tempo near 120"
_TIME = re.compile(r"(?:(?:(?P<hours>\d+):)?(?P<minutes>\d+):)?(?P<seconds>\d+(?:\.\d*)?)")


class _Sectioned(typer.core.TyperCommand):
    """Shows options under the headings of their help panels, which without rich would be one long list."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                argument = parameter.param_type_name == "argument"
                heading = "Arguments" if argument else getattr(parameter, "rich_help_panel", None) or "Options"
                sections.setdefault(heading, []).append(record)
        for heading, records in sorted(sections.items(), key=lambda section: SECTIONS.index(section[0])):
            with formatter.section(heading):
                formatter.write_dl(records)


def _app() -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,  # rich would double the time of --help
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


# One for each command, since a command with subcommands could not take a recording in their place.
app, batch_app, evaluate_app, live_app = _app(), _app(), _app(), _app()

NOTES, TIME, MIDI, FILES, PARTS, RUN, WHICH = (
    "Which notes",
    "Tempo, key, scale",
    "MIDI file",
    "Other files",
    "Part of the recording",
    "How it runs",
    "Which recordings",
)
SECTIONS = ("Arguments", "Options", WHICH, PARTS, NOTES, TIME, MIDI, FILES, RUN)  # in this order


def _option(panel: str, metavar: str, help: str) -> Any:
    return typer.Option(metavar=metavar, help=help, rich_help_panel=panel)


def _switch(name: str, help: str, panel: str = FILES) -> Any:
    return typer.Option(name, help=help, rich_help_panel=panel)


PresetName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Settings for one instrument: " + ", ".join(PRESET_NAMES) + ".")
]
OnsetThreshold = Annotated[
    float | None, _option(NOTES, "0..1", "Note sensitivity: lower finds more notes; the model's if omitted.")
]
SplitThreshold = Annotated[
    float | None,
    _option(NOTES, "0..1", "Split sensitivity: higher strikes held notes again less; the model's if omitted."),
]
FrameThreshold = Annotated[float | None, _option(NOTES, "0..1", "Lower makes notes longer; the model's if omitted.")]
MinimumNoteLength = Annotated[float | None, _option(NOTES, "MS", "Shortest note kept; the model's if omitted.")]
MinimumFrequency = Annotated[str | None, _option(NOTES, "HZ|NOTE", "Lowest note kept, as 82.4 or E2.")]
MaximumFrequency = Annotated[str | None, _option(NOTES, "HZ|NOTE", "Highest note kept, as 932 or Bb5.")]
Monophonic = Annotated[
    bool, _switch("--monophonic", "Find the best single line: for a voice, a bass or a wind alone.", NOTES)
]
Jobs = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Recordings at a time; one per CPU if omitted.", rich_help_panel=RUN),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Threads per recording; the CPUs shared out if omitted.", rich_help_panel=RUN
    ),
]
ModelFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="ONNX model; the one shipped if omitted.", rich_help_panel=RUN)
]
Debug = Annotated[bool, typer.Option("--debug", help="Also show tracebacks.", rich_help_panel=RUN)]


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
        mute_libraries()
    _signals.install()
    try:
        name = sys.argv[1] if len(sys.argv) > 1 else ""
        if name in SUBCOMMANDS:
            _subcommand(name)(sys.argv[2:], prog_name=f"basic-transcribe {name}")
        else:
            app(prog_name="basic-transcribe")
    except Stop as stop:
        sys.exit(128 + stop.signum)


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


def _print_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        print(f"basic-transcribe {__version__}")
        raise typer.Exit


class Options:
    """The options of all commands that transcribe recordings to files."""

    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False
    preset: PresetName = None
    start: Annotated[str | None, _option(PARTS, "TIME", "Begin here, as 90, 1:30 or 1:02:03.5.")] = None
    end: Annotated[str | None, _option(PARTS, "TIME", "End here.")] = None
    channel: Annotated[str | None, _option(PARTS, "mix|left|right|mid|side|N", "Channel; their mix if omitted.")] = None
    onset_threshold: OnsetThreshold = None
    split_threshold: SplitThreshold = None
    frame_threshold: FrameThreshold = None
    minimum_note_length: MinimumNoteLength = None
    minimum_frequency: MinimumFrequency = None
    maximum_frequency: MaximumFrequency = None
    monophonic: Monophonic = False
    polyphony: Annotated[int | None, _option(NOTES, "N", "At most so many notes at a time.")] = None
    legato: Annotated[float | None, _option(NOTES, "MS", "Join notes of one pitch that are less than this apart.")] = (
        None
    )
    staccato: Annotated[float | None, _option(NOTES, "MS", "Cut notes that are longer.")] = None
    velocity_curve: Annotated[float | None, _option(NOTES, "X", "Above 1 makes soft notes softer, below 1 louder.")] = (
        None
    )
    velocity_range: Annotated[
        str | None, _option(NOTES, "LOW-HIGH", "Spread the velocities from LOW to HIGH; 80 or 80-80 makes them equal.")
    ] = None
    tempo: Annotated[
        str | None,
        typer.Option(
            "--tempo",
            "--midi-tempo",
            metavar="auto|auto:BPM|BPM",
            help="Tempo of the MIDI file; auto finds the beats (near BPM), and the bars follow the recording. Times in"
            " seconds do not depend on it.",
            show_default="120",
            rich_help_panel=TIME,
        ),
    ] = None
    time_signature: Annotated[str | None, _option(TIME, "N/D", "Time signature, as 3/4 or 6/8; 4/4 if omitted.")] = None
    quantize: Annotated[str | None, _option(TIME, "1/16", "Move notes to this grid; 1/8T for triplets.")] = None
    strength: Annotated[float | None, _option(TIME, "0..1", "How far: 1 onto the grid, if omitted.")] = None
    swing: Annotated[float | None, _option(TIME, "0..1", "Delay of every second step of the grid.")] = None
    key: Annotated[str | None, _option(TIME, "auto|KEY", 'Write a key signature, as "C minor".')] = None
    scale: Annotated[str | None, _option(TIME, "SCALE", 'Scale that notes should keep to, as "D dorian".')] = None
    scale_mode: Annotated[
        str | None, _option(TIME, "snap|drop|mark", "Move other notes into the scale, drop or mark them.")
    ] = None
    program: Annotated[
        int | None,
        typer.Option(metavar="0..127", help="General MIDI program.", show_default="0, piano", rich_help_panel=MIDI),
    ] = None
    pitch_bends: Annotated[
        str | None,
        _option(
            MIDI,
            "plain|channels|mpe|none",
            "On one channel where a note sounds alone (if omitted); a channel for each bending note; MPE; or none.",
        ),
    ] = None
    no_pitch_bends: Annotated[bool, _switch("--no-pitch-bends", "The same as --pitch-bends none.", MIDI)] = False
    multiple_pitch_bends: Annotated[
        bool, _switch("--multiple-pitch-bends", "The same as --pitch-bends channels.", MIDI)
    ] = False
    mark_below: Annotated[
        float | None, _option(MIDI, "0..1", "Put a marker on notes that are less certain than this.")
    ] = None
    csv: Annotated[bool, _switch("--csv", "Also write the notes as NAME.csv.")] = False
    json: Annotated[bool, _switch("--json", "Also write all that is known as NAME.json.")] = False
    jams: Annotated[bool, _switch("--jams", "Also write NAME.jams.")] = False
    musicxml: Annotated[bool, _switch("--musicxml", "Also write a score, NAME.musicxml.")] = False
    npz: Annotated[bool, _switch("--npz", "Also write the model's posteriors, NAME.npz; give that as INPUT later.")] = (
        False
    )
    sonify: Annotated[bool, _switch("--sonify", "Also write how the notes sound, NAME.sonified.wav.")] = False
    sonify_mix: Annotated[
        bool,
        _switch("--sonify-mix", "Also write the recording, left, beside the notes, right: NAME.sonified-mix.wav."),
    ] = False
    soundfont: Annotated[Path | None, _option(FILES, "SF2", "Instruments to play the notes with.")] = None
    plot: Annotated[str | None, _option(FILES, "png|svg", "Also draw the notes over the spectrogram.")] = None
    jobs: Jobs = None
    threads: Threads = None
    model: ModelFile = None
    provider: Annotated[
        str,
        typer.Option(
            metavar="cpu|cuda|coreml|directml|openvino",
            help="What computes the model; all but cpu need another build of ONNX Runtime.",
            rich_help_panel=RUN,
        ),
    ] = "cpu"
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but failures.", rich_help_panel=RUN)] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also say what is used.", rich_help_panel=RUN)] = (
        False
    )
    debug: Debug = False


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    """A command that takes all options of :class:`Options` beside its own, and gets them as one, ``flags``."""
    hints = get_type_hints(Options, include_extras=True)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(Options, name), annotation=hint)
        for name, hint in hints.items()
    ]
    own = [p for name, p in inspect.signature(function, eval_str=True).parameters.items() if name != "flags"]

    def command(**values: Any) -> None:
        function(**{p.name: values[p.name] for p in own}, flags={name: values[name] for name in hints})

    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared
    )
    command.__annotations__ = {p.name: p.annotation for p in own} | hints
    return command


@app.command(cls=_Sectioned)
@_with_options
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
    written, 130 or 143 stopped by SIGINT or SIGTERM.
    """
    with _usage_errors():
        recipe, report = _recipe(flags), _report(flags)
    _exit_with(lambda: _run(inputs, output_dir, recipe, flags["jobs"], report))


@batch_app.command(cls=_Sectioned)
@_with_options
def batch_command(
    flags: Mapping[str, Any],
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... OUT",
            help="Folders, recordings, or lists of them (.jsonl); and the folder for the outputs.",
            show_default=False,
        ),
    ],
    include: Annotated[
        list[str] | None,
        _option(WHICH, "GLOB", "Only paths below IN that match this, such as 'piano/*'; may be given again."),
    ] = None,
    exclude: Annotated[
        list[str] | None, _option(WHICH, "GLOB", "No paths below IN that match this; may be given again.")
    ] = None,
    shard: Annotated[
        str | None, _option(WHICH, "I/N", "Only the I-th of N parts, which more recordings do not change.")
    ] = None,
    retry_failed: Annotated[
        bool, _switch("--retry-failed", "Try again what failed before, though it has not changed.", WHICH)
    ] = False,
    dry_run: Annotated[bool, _switch("--dry-run", "Show what would be done and why, and write nothing.", RUN)] = False,
    watch: Annotated[bool, _switch("--watch", "Go on with what appears or changes, until stopped.", RUN)] = False,
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

    with _usage_errors():
        if watch and dry_run:
            raise UsageError("--watch contradicts --dry-run; give one of them")
        choice = Choice(tuple(include or ()), tuple(exclude or ()), _shard(shard))
        folders = Folders(*_in_and_out(paths), choice, watch, page)
        recipe, report = replace(_recipe(flags), retry_failed=retry_failed), _report(flags, batch=True)
    if dry_run:
        _exit_with(lambda: _preview(folders, recipe, report))
    _exit_with(lambda: _run_batch(folders, recipe, flags["jobs"], report))


@evaluate_app.command(cls=_Sectioned)
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
    preset: PresetName = None,
    onset_threshold: OnsetThreshold = None,
    split_threshold: SplitThreshold = None,
    frame_threshold: FrameThreshold = None,
    minimum_note_length: MinimumNoteLength = None,
    minimum_frequency: MinimumFrequency = None,
    maximum_frequency: MaximumFrequency = None,
    monophonic: Monophonic = False,
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
    from .outputs import OutputSettings
    from .presets import preset as named

    with _usage_errors():
        chosen = named(preset)
        tracker = _over(chosen.tracker, **_tracker_flags(context.params))
        recipe = Recipe(tracker, chosen.shape, OutputSettings(chosen.midi), model=model, threads=threads)
        if estimates is not None and recipe != Recipe(threads=threads):
            raise UsageError("EST_DIR is scored as it is; leave it out, or --model, --preset and the thresholds")
    report = Report(quiet=quiet, verbose=False, debug=debug)
    _exit_with(lambda: _evaluate(reference, estimates, recipe, jobs, json, not no_per_file, report))


@live_app.command(cls=_Sectioned)
def live_command(
    context: typer.Context,
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
    preset: PresetName = None,
    onset_threshold: OnsetThreshold = None,
    split_threshold: SplitThreshold = None,
    frame_threshold: FrameThreshold = None,
    minimum_note_length: MinimumNoteLength = None,
    minimum_frequency: MinimumFrequency = None,
    maximum_frequency: MaximumFrequency = None,
    monophonic: Monophonic = False,
    model: ModelFile = None,
    debug: Debug = False,
) -> None:
    """Listen, and tell the notes while they sound.

    Prints a line for each note that begins or ends, or sends them to a MIDI output, until it is stopped (Ctrl-C). The
    network looks ahead, so a note is told about a second after it begins; the delay is said at the start.

    Exit code: as of basic-transcribe.
    """
    from .presets import preset as named

    with _usage_errors():
        if fast and file is None:
            raise UsageError("--fast is for --file; give one too")
        settings = _over(named(preset).tracker, **_tracker_flags(context.params))

    def listen() -> int:
        from . import live

        try:
            if list_devices:
                for line in live.input_devices():
                    say(line)
                return 0
            _signals.deferred = True  # sound comes through callbacks from C, which swallow exceptions
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
                check=_signals.check,
            )
        except TranscribeError as error:
            if debug:
                complain("".join(traceback.format_exception(error)).rstrip())
            complain(f"error: {printable(error)}")
            return error.exit_code
        except Stop as stop:
            return 128 + stop.signum
        return 0

    _exit_with(listen)


def _recipe(flags: Mapping[str, Any]) -> Recipe:
    """What the flags of the command say, over what the preset says."""
    from .batch import Recipe
    from .outputs import MIXED, SONIFIED, OutputSettings, check
    from .presets import preset
    from .timing import parse_division, parse_time_signature
    from .types import Part

    chosen = preset(flags["preset"])
    bends = _bend_mode(flags)
    signature = _parsed(parse_time_signature, flags["time_signature"])
    beats = _beat_settings(flags["tempo"], signature)
    division = _parsed(parse_division, flags["quantize"])
    if division is None and (flags["strength"] is not None or flags["swing"] is not None):
        raise UsageError("--strength and --swing say how to quantise; give --quantize too, such as 1/16")
    if flags["scale"] is None and flags["scale_mode"] is not None:
        raise UsageError("--scale-mode says what to do with notes off the scale; give --scale too, such as C minor")
    midi = _over(
        chosen.midi,
        tempo=None if beats else _number("--tempo", flags["tempo"], TEMPO),
        program=flags["program"],
        bend_mode=None if bends == "none" else bends,
        time_signature=signature,
    )
    names = ("polyphony", "legato", "staccato", "velocity_curve", "scale", "scale_mode", "strength", "swing")
    shape = _over(
        chosen.shape,
        **{name: flags[name] for name in (*names, "mark_below")},
        velocity_range=_velocities(flags["velocity_range"]),
        quantize=division,
    )
    tracker = _over(
        chosen.tracker,
        **_tracker_flags(flags),
        pitch_bends=False if bends == "none" else None,
    )
    part = Part(_seconds("--start", flags["start"]) or 0.0, _seconds("--end", flags["end"]), _channel(flags["channel"]))
    plot = flags["plot"]
    if plot not in (None, "png", "svg"):
        raise UsageError(f"--plot is {plot!r}; give png or svg")
    if flags["soundfont"] is not None and not (flags["sonify"] or flags["sonify_mix"]):
        raise UsageError("--soundfont is for --sonify and --sonify-mix; give one of them too")
    wanted = {
        ".csv": flags["csv"],
        ".json": flags["json"],
        ".jams": flags["jams"],
        ".npz": flags["npz"],
        ".musicxml": flags["musicxml"],
        SONIFIED: flags["sonify"],
        MIXED: flags["sonify_mix"],
        f".{plot}": plot is not None,
    }
    extras = tuple(extension for extension, chosen in wanted.items() if chosen)
    output = _over(
        OutputSettings(midi=midi, part=part), key=flags["key"], division=division, soundfont=flags["soundfont"]
    )
    check(extras, output)
    return Recipe(
        tracker=tracker,
        shape=shape,
        output=output,
        beats=beats,
        extras=extras,
        overwrite=flags["overwrite"],
        model=flags["model"],
        threads=flags["threads"],
        provider=flags["provider"] or "cpu",
    )


Settings = TypeVar("Settings", bound="DataclassInstance")
Parsed = TypeVar("Parsed")


def _over(settings: Settings, **given: Any) -> Settings:
    """Settings with those replaced that were given."""
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _parsed(parse: Callable[[str], Parsed], text: str | None) -> Parsed | None:
    return None if text is None else parse(text)


def _tracker_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What a command's flags say of the note tracker."""
    thresholds = ("onset_threshold", "split_threshold", "frame_threshold", "minimum_note_length")
    ends = ("minimum_frequency", "maximum_frequency")
    return {
        **{name: flags[name] for name in thresholds},
        **{name: _frequency(f"--{name.replace('_', '-')}", flags[name]) for name in ends},
        "monophonic": flags["monophonic"] or None,
    }


def _bend_mode(flags: Mapping[str, Any]) -> str | None:
    """One of the modes, ``none``, or None if no flag says anything."""
    short = {"none": flags["no_pitch_bends"], "channels": flags["multiple_pitch_bends"]}
    said = {mode for mode, given in short.items() if given} | ({flags["pitch_bends"]} - {None})
    if len(said) > 1:
        raise UsageError("the flags on pitch bends contradict each other; give one of them")
    return next(iter(said), None)


def _number(option: str, text: str | None, wanted: str) -> float | None:
    """A finite number; ``wanted`` says what would do.

    Raises
    ------
    UsageError
        If it is none.
    """
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{option} is {text!r}; give {wanted}")
    return value


def _beat_settings(tempo: str | None, signature: tuple[int, int] | None) -> BeatSettings | None:
    """How to look for beats, of ``auto`` or ``auto:120``; None if it is not to be done."""
    from .types import BeatSettings

    word, colon, near = (tempo or "").partition(":")
    if word != "auto":
        return None
    return BeatSettings(signature or (4, 4), _number("--tempo", near, TEMPO) if colon else None)


def _seconds(option: str, text: str | None) -> float | None:
    """Seconds of ``90``, ``1:30`` or ``1:02:03.5``.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    if text is None:
        return None
    time = _TIME.fullmatch(text)
    if time is None:
        raise UsageError(f"{option} is {text!r}; give seconds, or minutes and seconds such as 1:30")
    return 3600 * int(time["hours"] or 0) + 60 * int(time["minutes"] or 0) + float(time["seconds"])


def _channel(text: str | None) -> str | int:
    if text is None:
        return "mix"
    return int(text) if text.isdecimal() else text


def _velocities(text: str | None) -> tuple[int, int] | None:
    """Ends of a range of velocities, of ``40-100`` or ``80``.

    Raises
    ------
    UsageError
        If it is neither.
    """
    if text is None:
        return None
    low, _, high = text.partition("-")
    if not (low.isdecimal() and (high.isdecimal() or not high)):
        raise UsageError(f"--velocity-range is {text!r}; give two velocities, such as 40-100")
    return int(low), int(high or low)


def _shard(text: str | None) -> tuple[int, int]:
    """Which of how many parts, of ``2/8``.

    Raises
    ------
    UsageError
        If it is not.
    """
    i, slash, n = (text or "1/1").partition("/")
    if not (slash and i.isdecimal() and n.isdecimal()):
        raise UsageError(f"--shard is {text!r}; give a part and how many there are, such as 2/8")
    return int(i), int(n)


def _in_and_out(paths: Sequence[str]) -> tuple[tuple[str, ...], Path]:
    """Inputs, and the folder for the outputs.

    Raises
    ------
    UsageError
        If they are not that.
    """
    *inputs, output = paths
    if not inputs:
        raise UsageError(f"{output}: only one path; give a folder for the outputs after it")
    if Path(output).is_file():
        raise UsageError(f"{output}: a file; the last path is the folder for the outputs, give one")
    if "-" in inputs:
        raise UsageError("-: standard input has no place in a manifest; leave out batch, and give -o")
    return tuple(inputs), Path(output)


def _report(flags: Mapping[str, Any], *, batch: bool = False) -> Report:
    """What is to be said.

    Raises
    ------
    UsageError
        If the flags contradict each other.
    """
    quiet, verbose, debug = flags["quiet"], flags["verbose"], flags["debug"]
    if quiet and (verbose or debug):
        raise UsageError("--quiet contradicts --verbose and --debug; give one of them")
    return Report(quiet=quiet, verbose=verbose or debug, debug=debug, batch=batch)


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        complain(f"error: {printable(error)}")
        raise typer.Exit(UsageError.exit_code) from None


def _exit_with(run: Callable[[], int]) -> NoReturn:
    try:
        code = run()
    except BrokenPipeError:
        silence()
        code = BROKEN_PIPE
    raise typer.Exit(code)


def _run(inputs: list[str], output_dir: Path | None, recipe: Recipe, jobs: int | None, report: Report) -> int:
    """Everything between flags and exit code."""
    from . import plan
    from .audio import AUDIO_EXTENSIONS, AV_EXTENSIONS

    def work() -> None:
        planned = plan.plan(inputs, output_dir, extensions=AUDIO_EXTENSIONS | AV_EXTENSIONS, extras=recipe.extras)
        report.plan(planned)
        if planned.jobs and output_dir is not None:
            plan.check_folder(output_dir)
        todo, failures = plan.check_outputs(planned.jobs, recipe.extensions)
        for failure in failures:
            report.result(failure)
        with ExitStack() as stack:
            todo = stack.enter_context(_spooled(todo))
            for result in stack.enter_context(closing(_work(todo, recipe, jobs, report))):
                report.result(result)

    return _reported(work, report)


def _reported(work: Callable[[], None], report: Report) -> int:
    """Exit code of what is done by ``work``, after a summary."""
    try:
        work()
    except TranscribeError as error:  # one that concerns all inputs: usage, the model, the folder
        report.error(str(error))
        return max(error.exit_code, report.exit_code)
    except Stop as stop:
        report.stopped(signal.Signals(stop.signum).name)
        return 128 + stop.signum
    report.summary()
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
        before, _signals.deferred = _signals.deferred, _signals.deferred or self._here
        with Bars(len(todo), shown=not self._report.quiet) as self._bars, closing(pool.run(todo)) as results:
            for result in results:
                self._bars.finish(result)
                yield result
                _signals.check()
        _signals.deferred = before

    def _hire(self, jobs: int) -> Pool:
        from . import batch
        from .processors import available_cpus

        cpus = available_cpus()
        processes = self._jobs or cpus
        if not self._keep:
            processes = max(1, min(processes, jobs))
        recipe = replace(self._recipe, threads=self._recipe.threads or max(1, cpus // processes))
        self._report.settings(recipe, processes)
        self._here = processes == 1
        return batch.Pool(recipe, processes, self._progress, keep=self._keep)

    def _progress(self, job: Job, seconds: float, total: float | None) -> None:
        assert self._bars is not None
        self._bars.update(job, seconds, total)
        _signals.check()


def _run_batch(folders: Folders, recipe: Recipe, jobs: int | None, report: Report) -> int:
    """Everything between flags and exit code of ``batch``."""
    from .audio import AUDIO_EXTENSIONS, AV_EXTENSIONS
    from .folders import transcribe_folders

    def work() -> None:
        with ExitStack() as stack:
            crew = _Crew(recipe, jobs, report, keep=folders.watch)
            stack.enter_context(closing(crew))
            transcribe_folders(
                folders,
                recipe,
                crew.work,
                report,
                extensions=AUDIO_EXTENSIONS | AV_EXTENSIONS,
                stopped=lambda: _signals.received is not None,
            )
        _signals.check()

    _signals.deferred = folders.watch  # waiting for changes is done in C, too
    return _reported(work, report)


def _preview(folders: Folders, recipe: Recipe, report: Report) -> int:
    """Everything between flags and exit code of ``batch --dry-run``."""
    from .audio import AUDIO_EXTENSIONS, AV_EXTENSIONS
    from .folders import preview

    try:
        preview(folders, recipe, report, extensions=AUDIO_EXTENSIONS | AV_EXTENSIONS)
    except TranscribeError as error:
        report.error(str(error))
        return max(error.exit_code, report.exit_code)
    report.outlook()
    return report.exit_code


def _evaluate(
    reference: Path,
    estimates: Path | None,
    recipe: Recipe,
    jobs: int | None,
    json: Path | None,
    per_file: bool,
    report: Report,
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
        complain(f"stopped by {signal.Signals(stop.signum).name}")
        return 128 + stop.signum
    return report.exit_code


def _given(
    recordings: Sequence[Recording], folder: Path, report: Report
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
    recordings: Sequence[Recording], folder: Path, recipe: Recipe, jobs: int | None, report: Report
) -> Generator[tuple[Recording, Path], None, None]:
    """Each recording with its transcription, written to the folder, as they finish."""
    from . import evaluate, plan

    todo, failures = plan.check_outputs(evaluate.jobs(recordings, folder), (".mid",))
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

    from .plan import STDIN

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
    from .keys import parse_pitch

    pitch = parse_pitch(text)
    if pitch is not None:
        return 440 * math.exp2((pitch - 69) / 12)
    return _number(option, text, "Hz, or a note name such as E2, F#3 or Bb4")
