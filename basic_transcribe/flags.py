"""What the flags of a command say: settings, or a message that tells what would do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .console import Report
from .errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from .batch import Recipe
    from .types import BeatSettings

TEMPO = "beats per minute, auto, or auto:120 for a tempo near 120"
_WHOLE = re.compile(r"[0-9]{1,9}")
_TIME = re.compile(
    r"(?:(?:(?P<hours>\d{1,9}):)?(?P<minutes>\d{1,9}):)?(?P<seconds>\d{1,9}(?:\.\d*)?)",
    re.ASCII,
)
Settings = TypeVar("Settings", bound="DataclassInstance")
Parsed = TypeVar("Parsed")


def recipe_of(flags: Mapping[str, Any]) -> Recipe:
    """What the flags of the command say, over what the preset says."""
    from .batch import Recipe
    from .outputs import OutputSettings, check
    from .presets import preset
    from .timing import metre, parse_division, parse_time_signature
    from .types import Part, check_tempo

    chosen = preset(flags["preset"])
    bends = _bend_mode(flags)
    signature = _parsed(parse_time_signature, flags["time_signature"])
    division = _parsed(parse_division, flags["quantize"])
    first_bar = seconds_of("--first-bar", flags["first_bar"])
    # A grid and a score are of no use unless they follow the music, and a bar line moves no others than these.
    follows = division or flags["musicxml"] or first_bar is not None
    tempo = "auto" if flags["tempo"] is None and follows else flags["tempo"]
    beats = _beat_settings(tempo, signature, first_bar)
    steady = None if beats else _number("--tempo", tempo, TEMPO)
    quarters = metre(signature or (4, 4))[1]  # of a beat
    told = beats.tempo if beats else steady
    if told is not None:
        check_tempo(told, quarters)
    if division is None and (flags["strength"] is not None or flags["swing"] is not None):
        raise UsageError("--strength and --swing say how to quantise; give --quantize too, such as 1/16")
    if flags["scale"] is None and flags["scale_mode"] is not None:
        raise UsageError("--scale-mode says what to do with notes off the scale; give --scale too, such as C minor")
    midi = over(
        chosen.midi,
        tempo=(told or chosen.midi.tempo) * quarters,
        program=flags["program"],
        bend_mode=None if bends == "none" else bends,
        time_signature=signature,
    )
    names = "polyphony legato staccato velocity_curve scale scale_mode strength swing mark_below".split()
    shape = over(
        chosen.shape,
        **{name: flags[name] for name in names},
        velocity_range=_velocities(flags["velocity_range"]),
        quantize=division,
    )
    tracker = over(
        chosen.tracker,
        **tracker_flags(flags),
        pitch_bends=None if bends is None else bends != "none",
    )
    part = Part(
        seconds_of("--start", flags["start"]) or 0.0, seconds_of("--end", flags["end"]), _channel(flags["channel"])
    )
    extras = _extras(flags)
    if flags["soundfont"] is not None and not (flags["sonify"] or flags["sonify_mix"]):
        raise UsageError("--soundfont is for --sonify and --sonify-mix; give one of them too")
    output = over(
        OutputSettings(midi=midi, part=part),
        key=flags["key"],
        division=division,
        swing=flags["swing"],
        instrument=0 if midi.program == 0 and (flags["program"], flags["preset"]) != (None, None) else None,
        soundfont=flags["soundfont"],
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


def _extras(flags: Mapping[str, Any]) -> tuple[str, ...]:
    """Extensions of the outputs beside the MIDI file."""
    from .outputs import MIXED, SONIFIED

    plot = flags["plot"]
    if plot not in (None, "png", "svg"):
        raise UsageError(f"--plot is {plot!r}; give png or svg")
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
    return tuple(extension for extension, asked_for in wanted.items() if asked_for)


def over(settings: Settings, **given: Any) -> Settings:
    """Settings with those replaced that were given."""
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _parsed(parse: Callable[[str], Parsed], text: str | None) -> Parsed | None:
    return None if text is None else parse(text)


def tracker_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What a command's flags say of the note tracker."""
    thresholds = ("onset_threshold", "split_threshold", "frame_threshold", "minimum_note_length")
    ends = ("minimum_frequency", "maximum_frequency")
    return {
        **{name: flags[name] for name in thresholds},
        **{name: frequency_of(f"--{name.replace('_', '-')}", flags[name]) for name in ends},
        "monophonic": flags["monophonic"],
        "tuning": flags["tuning"],
    }


def _bend_mode(flags: Mapping[str, Any]) -> str | None:
    """One of the modes, ``none``, or None if no flag says anything."""
    from .types import BEND_MODES

    short = {"none": flags["no_pitch_bends"], "channels": flags["multiple_pitch_bends"]}
    if flags["pitch_bends"] not in (None, "none", *BEND_MODES):
        raise UsageError(f"--pitch-bends is {flags['pitch_bends']!r}; give none, {', '.join(BEND_MODES)}")
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


def _beat_settings(
    tempo: str | None, signature: tuple[int, int] | None, first_bar: float | None
) -> BeatSettings | None:
    """How to find beats, of ``auto``, ``auto:120`` or ``120``; None if bars begin with the recording."""
    from .types import BeatSettings

    word, colon, near = (tempo or "").partition(":")
    if word != "auto":
        if first_bar is None:
            return None
        return BeatSettings(signature or (4, 4), _number("--tempo", tempo, TEMPO), first_bar, fixed=True)
    if colon and not near:
        raise UsageError(f"--tempo is {tempo!r}; give {TEMPO}")
    return BeatSettings(signature or (4, 4), _number("--tempo", near, TEMPO) if near else None, first_bar)


def seconds_of(option: str, text: str | None) -> float | None:
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
    return int(text) if _WHOLE.fullmatch(text) else text


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
    high = high or low
    if not (_WHOLE.fullmatch(low) and _WHOLE.fullmatch(high) and int(low) <= int(high)):
        raise UsageError(f"--velocity-range is {text!r}; give two velocities, the softest first, such as 40-100")
    return int(low), int(high)


def frequency_of(option: str, text: str | None) -> float | None:
    """Hz of a number or a note name such as E2, F#3, Bb4 (A4 is 440 Hz).

    Raises
    ------
    UsageError
        If it is neither.
    """
    if text is None:
        return None
    from .keys import parse_pitch
    from .tuning import midi_to_hz

    pitch = parse_pitch(text)
    if pitch is not None:
        return float(midi_to_hz(pitch))
    return _number(option, text, "Hz, or a note name such as E2, F#3 or Bb4")


def shard_of(text: str | None) -> tuple[int, int]:
    """Which of how many parts, of ``2/8``.

    Raises
    ------
    UsageError
        If it is not.
    """
    i, slash, n = ("1/1" if text is None else text).partition("/")
    if not (slash and _WHOLE.fullmatch(i) and _WHOLE.fullmatch(n)):
        raise UsageError(f"--shard is {text!r}; give a part and how many there are, such as 2/8")
    return int(i), int(n)


def in_and_out(paths: Sequence[str]) -> tuple[tuple[str, ...], Path]:
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


def report_of(flags: Mapping[str, Any], *, batch: bool = False) -> Report:
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
