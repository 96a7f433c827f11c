"""The options of the commands: their names, their help, and a class for those that several commands take."""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
import typer.core

PRESET_NAMES = ("bass", "guitar", "harmonica", "kalimba", "piano", "violin", "voice")  # presets.py loads slowly
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


_WHOLE, _DECIMAL = re.compile(r"[+-]?\d{1,9}", re.ASCII), re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)


class _Plainly:
    """What typer makes of the values of an option or argument, without pydantic for those that leave no doubt.

    Since 0.29 typer has pydantic convert them, even what was not given; to load that takes longer than to transcribe
    ten seconds of sound.

    Parameters
    ----------
    parameter : typer.core.TyperArgument or typer.core.TyperOption
    """

    def __init__(self, parameter: Any) -> None:
        self._descriptor, self._thorough = parameter.type_descriptor, parameter.get_runtime_param
        info = self._descriptor.parameter_info
        self._least = -math.inf if info.min is None else info.min
        self._most = math.inf if info.max is None else info.max
        self._anywhere = info.file_okay and info.dir_okay
        self._anywhere &= not (info.exists or info.writable or info.resolve_path)

    def __call__(self) -> _Plainly:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the command wants it."""
        kind = self._descriptor.annotation
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if isinstance(value, str) and self._is_plain(kind, value):
            return kind(value)
        if kind == list[str] and isinstance(value, tuple) and all(isinstance(one, str) for one in value):
            return list(value)
        try:
            return self._thorough().coerce(value, param=param, ctx=ctx)
        except typer.BadParameter as error:
            if repr(value) not in error.message:
                error.message = f"{value!r}: {error.message}"
            raise

    def _is_plain(self, kind: Any, text: str) -> bool:
        if kind is Path:
            return self._anywhere and (os.access(text, os.R_OK) or not os.path.exists(text))
        if kind in (int, float):
            plain = (_WHOLE if kind is int else _DECIMAL).fullmatch(text)
            return plain is not None and self._least <= kind(text) <= self._most
        return kind is str


class Sectioned(typer.core.TyperCommand):
    """Shows options under the headings of their help panels, which without rich would be one long list."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)
        for parameter in parameters:
            thorough = getattr(parameter, "get_runtime_param", None)
            if thorough is not None and not isinstance(thorough, _Plainly):
                parameter.get_runtime_param = _Plainly(parameter)
        return parameters

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                name, text = record
                heading = getattr(parameter, "rich_help_panel", None) or "Options"
                if parameter.param_type_name == "argument":  # versions of typer add its type, or leave out its help
                    name, text, heading = parameter.metavar or name, parameter.help or text, "Arguments"
                sections.setdefault(heading, []).append((name, text.replace("\\[", "[")))  # of typer 0.20
        for heading, records in sorted(sections.items(), key=lambda section: SECTIONS.index(section[0])):
            with formatter.section(heading):
                formatter.write_dl(records)


def new_app() -> typer.Typer:
    """One command of the command line."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,  # rich would double the time of --help
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def option(panel: str, metavar: str, help: str) -> Any:
    """An option with a value, shown under the heading ``panel``."""
    return typer.Option(metavar=metavar, help=help, rich_help_panel=panel)


def switch(name: str, help: str, panel: str = FILES) -> Any:
    """An option without a value, or one to be given again and again."""
    return typer.Option(name, help=help, rich_help_panel=panel)


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
Include = Annotated[
    list[str] | None,
    option(WHICH, "GLOB", 'Only paths below IN that match this, such as "piano/*"; may be given again.'),
]
Exclude = Annotated[list[str] | None, option(WHICH, "GLOB", "No paths below IN that match this; may be given again.")]
RetryFailed = Annotated[
    bool, switch("--retry-failed", "Try again what failed before, though it has not changed.", WHICH)
]
Debug = Annotated[bool, typer.Option("--debug", help="Also show tracebacks.", rich_help_panel=RUN)]


class NoteOptions:
    """The options of all commands that look for notes."""

    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"Settings for one instrument: {', '.join(PRESET_NAMES)} (a single line)."),
    ] = None
    onset_threshold: Annotated[
        float | None, option(NOTES, "0..1", "Note sensitivity: lower finds more notes; the model's if omitted.")
    ] = None
    split_threshold: Annotated[
        float | None,
        option(NOTES, "0..1", "Split sensitivity: higher strikes held notes again less; the model's if omitted."),
    ] = None
    frame_threshold: Annotated[
        float | None, option(NOTES, "0..1", "Lower makes notes longer; the model's if omitted.")
    ] = None
    minimum_note_length: Annotated[float | None, option(NOTES, "MS", "Shortest note kept; the model's if omitted.")] = (
        None
    )
    minimum_frequency: Annotated[str | None, option(NOTES, "HZ|NOTE", "Lowest note kept, as 82.4 or E2.")] = None
    maximum_frequency: Annotated[str | None, option(NOTES, "HZ|NOTE", "Highest note kept, as 932 or Bb5.")] = None
    monophonic: Annotated[
        bool | None,
        switch(
            "--monophonic/--no-monophonic",
            "Find the best single line, for a voice, bass or wind alone, or all notes; found out if omitted"
            " (live: all).",
            NOTES,
        ),
    ] = None
    tuning: Annotated[
        float | None,
        option(NOTES, "HZ", "The recording's A, as 442; found out if omitted (live: 440). 440 takes it as it is."),
    ] = None


class Options(NoteOptions):
    """The options of all commands that transcribe recordings to files."""

    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False
    start: Annotated[str | None, option(PARTS, "TIME", "Begin here, as 90, 1:30 or 1:02:03.5.")] = None
    end: Annotated[str | None, option(PARTS, "TIME", "End here.")] = None
    channel: Annotated[str | None, option(PARTS, "mix|left|right|mid|side|N", "Channel; their mix if omitted.")] = None
    polyphony: Annotated[int | None, option(NOTES, "N", "At most so many notes at a time.")] = None
    legato: Annotated[float | None, option(NOTES, "MS", "Join notes of one pitch that are less than this apart.")] = (
        None
    )
    staccato: Annotated[float | None, option(NOTES, "MS", "Cut notes that are longer.")] = None
    velocity_curve: Annotated[float | None, option(NOTES, "X", "Above 1 makes soft notes softer, below 1 louder.")] = (
        None
    )
    velocity_range: Annotated[
        str | None, option(NOTES, "LOW-HIGH", "Spread the velocities from LOW to HIGH; 80 or 80-80 makes them equal.")
    ] = None
    tempo: Annotated[
        str | None,
        typer.Option(
            "--tempo",
            "--midi-tempo",
            metavar="auto|auto:BPM|BPM",
            help="Beats a minute; auto finds the beats (near BPM, also the tempo where none is found), and the bars"
            " follow the recording. Times in seconds do not depend on it.",
            show_default="120; auto with --quantize, --musicxml or --first-bar",
            rich_help_panel=TIME,
        ),
    ] = None
    time_signature: Annotated[str | None, option(TIME, "N/D", "Time signature, as 3/4 or 6/8; 4/4 if omitted.")] = None
    first_bar: Annotated[
        str | None,
        option(
            TIME,
            "TIME",
            "When a bar begins, the first or another, if it is found elsewhere; beats move there by half a beat if need"
            " be. Of a fixed tempo, too. From --start on.",
        ),
    ] = None
    quantize: Annotated[
        str | None,
        option(
            TIME, "1/16", "Move notes to this grid; 1/8T for triplets. Notes of one pitch that meet there become one."
        ),
    ] = None
    strength: Annotated[float | None, option(TIME, "0..1", "How far: 1 onto the grid, if omitted.")] = None
    swing: Annotated[
        float | None,
        option(TIME, "0..1", "Delay of every second step of the grid: .5 for the 2:1 of triplets, 1 for 3:1."),
    ] = None
    key: Annotated[str | None, option(TIME, "auto|KEY", 'Write a key signature, as "C minor".')] = None
    scale: Annotated[str | None, option(TIME, "SCALE", 'Scale that notes should keep to, as "D dorian".')] = None
    scale_mode: Annotated[
        str | None, option(TIME, "snap|drop|mark", "Move other notes into the scale (if omitted), drop or mark them.")
    ] = None
    program: Annotated[
        int | None,
        typer.Option(metavar="0..127", help="General MIDI program.", show_default="0, piano", rich_help_panel=MIDI),
    ] = None
    pitch_bends: Annotated[
        str | None,
        option(
            MIDI,
            "plain|channels|mpe|none",
            "On one channel where a note sounds alone (if omitted); a channel for each bending note; MPE; or none.",
        ),
    ] = None
    no_pitch_bends: Annotated[bool, switch("--no-pitch-bends", "The same as --pitch-bends none.", MIDI)] = False
    multiple_pitch_bends: Annotated[
        bool, switch("--multiple-pitch-bends", "The same as --pitch-bends channels.", MIDI)
    ] = False
    mark_below: Annotated[
        float | None, option(MIDI, "0..1", "Put a marker on notes that are less certain than this.")
    ] = None
    csv: Annotated[bool, switch("--csv", "Also write the notes as NAME.csv.")] = False
    json: Annotated[bool, switch("--json", "Also write all that is known as NAME.json.")] = False
    jams: Annotated[bool, switch("--jams", "Also write NAME.jams.")] = False
    musicxml: Annotated[bool, switch("--musicxml", "Also write a score, NAME.musicxml.")] = False
    npz: Annotated[bool, switch("--npz", "Also write the model's posteriors, NAME.npz; give that as INPUT later.")] = (
        False
    )
    sonify: Annotated[bool, switch("--sonify", "Also write how the notes sound, NAME.sonified.wav.")] = False
    sonify_mix: Annotated[
        bool,
        switch("--sonify-mix", "Also write the recording, left, beside the notes, right: NAME.sonified-mix.wav."),
    ] = False
    soundfont: Annotated[Path | None, option(FILES, "SF2", "Instruments to play the notes with.")] = None
    plot: Annotated[str | None, option(FILES, "png|svg", "Also draw the notes over the spectrogram.")] = None
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
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Also say what is used, and with batch what is up to date.", rich_help_panel=RUN
        ),
    ] = False
    debug: Debug = False


def with_options(options: type[NoteOptions]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """For a command that takes all options of such a class beside its own, and gets them as one, ``flags``."""
    hints = get_type_hints(options, include_extras=True)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(options, name), annotation=hint)
        for name, hint in hints.items()
    ]

    def decorated(function: Callable[..., None]) -> Callable[..., None]:
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

    return decorated
