"""What flows between the rooms: posteriors in, notes out. Plain frozen data, numpy only."""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from fractions import Fraction
from functools import wraps
from numbers import Rational
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError, printable
from .tuning import ratio_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Float32 = NDArray[np.float32]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

CHANNELS = ("mix", "left", "right", "mid", "side")
BEND_MODES = ("plain", "channels", "mpe")
BEND_UNIT = 2.0**-12  # semitones, a fortieth of a cent; the bends of notes that were found are multiples of it
SHORTEST_QUARTER, LONGEST_QUARTER = 0.01, 16.0  # seconds; a MIDI file can hold 16.7
LATEST = 360_000.0  # seconds, of what a MIDI file is to hold


@dataclass(frozen=True, slots=True, eq=False)
class PitchBend:
    """Deviation of a note from its MIDI pitch, sampled on a uniform grid.

    Attributes
    ----------
    start : float
        Time of the first value, in seconds.
    step : float
        Distance between values, in seconds.
    semitones : ndarray of float32, shape (n,)
        Deviation from the note's pitch, in semitones.
    """

    start: float
    step: float
    semitones: Float32

    @property
    def times(self) -> NDArray[np.float64]:
        """Times of the values in seconds, shape (n,)."""
        return np.asarray(self.start + self.step * np.arange(len(self.semitones)), dtype=np.float64)

    def until(self, time: float) -> PitchBend:
        """Its values before a time in seconds, at least the first."""
        return replace(self, semitones=self.semitones[: max(1, int(np.searchsorted(self.times, time)))])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PitchBend):
            return NotImplemented
        return (self.start, self.step) == (other.start, other.step) and np.array_equal(self.semitones, other.semitones)

    def __hash__(self) -> int:
        return hash((self.start, self.step, len(self.semitones)))


@dataclass(frozen=True, slots=True)
class Note:
    """One transcribed note.

    Attributes
    ----------
    onset, offset : float
        Start and end in seconds; ``offset > onset``.
    pitch : int
        MIDI note number, 21 (A0) to 108 (C8).
    velocity : int
        1 to 127, follows loudness.
    confidence : float
        How clear it is, 0 to 1: the mean of its onset's mass and of the note and contour posteriors in the tenth of a
        second after it, less a part of the mass of an onset one or two octaves below, where that is as loud; of a note
        that swells without an onset three quarters of the mean note posterior of the first half second in which it is
        clear; of a note of a single line the mean of its onset's mass, if it has one, and the contour posterior.
    bend : PitchBend or None
        Deviation from ``pitch`` over the note.
    """

    onset: float
    offset: float
    pitch: int
    velocity: int
    confidence: float
    bend: PitchBend | None = None

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.offset - self.onset


@dataclass(frozen=True, slots=True, eq=False)
class Posteriors:
    """Outputs of the model, frame by frame.

    Attributes
    ----------
    onset, note, offset : ndarray of float32, shape (frames, pitches)
        Probability that a note begins, sounds or ends in the frame.
    contour : ndarray of float32, shape (frames, pitches * bins_per_semitone)
        Probability that a fundamental, not one of its partials, lies in the bin. The centre of semitone ``k`` is bin
        ``k * bins_per_semitone + bins_per_semitone // 2``.
    level : ndarray of float32, shape (frames, pitches)
        Estimated loudness of a note that begins here, in dB relative to full scale.
    frame_rate : float
        Frames per second; frame ``i`` is centred on ``i / frame_rate`` seconds.
    lowest_pitch : int
        MIDI note number of the first pitch.
    tuning : float
        Cents by which the recording's own A lies above 440 Hz. Pitches and bins are counted from there.
    """

    onset: Float32
    note: Float32
    offset: Float32
    contour: Float32
    level: Float32
    frame_rate: float
    lowest_pitch: int
    tuning: float = 0.0

    ARRAYS = ("onset", "note", "offset", "contour", "level")

    def __len__(self) -> int:
        return len(self.onset)

    @property
    def bins_per_semitone(self) -> int:
        """Contour bins per semitone."""
        return int(self.contour.shape[1] // self.note.shape[1])

    def slice(self, start: int, stop: int | None = None) -> Posteriors:
        """Frames ``start`` to ``stop`` (views, not copies)."""
        return self.with_arrays({name: getattr(self, name)[start:stop] for name in self.ARRAYS})

    def with_arrays(self, arrays: dict[str, Float32]) -> Posteriors:
        """The same constants with other values; ``arrays`` has all of :attr:`ARRAYS`."""
        return Posteriors(frame_rate=self.frame_rate, lowest_pitch=self.lowest_pitch, tuning=self.tuning, **arrays)

    def tuned(self, cents: float, gain: float = 0.0) -> Posteriors:
        """The same, as those of a recording that was resampled since its A lies so many cents above 440 Hz.

        Before, it was made louder by ``gain`` decibels.
        """
        level = self.level - np.float32(gain) if gain else self.level
        return replace(self, level=level, frame_rate=self.frame_rate * ratio_of(cents), tuning=cents)

    @classmethod
    def concatenate(cls, parts: list[Posteriors]) -> Posteriors:
        """Join consecutive parts. A single one is returned as it is.

        Raises
        ------
        ValueError
            If ``parts`` is empty.
        """
        if not parts:
            raise ValueError("nothing to concatenate")
        if len(parts) == 1:
            return parts[0]
        return parts[0].with_arrays({n: np.concatenate([getattr(p, n) for p in parts]) for n in cls.ARRAYS})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Posteriors):
            return NotImplemented
        return self._constants == other._constants and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in self.ARRAYS
        )

    def __hash__(self) -> int:
        return hash((*self._constants, len(self)))

    @property
    def _constants(self) -> tuple[float, int, float]:
        return self.frame_rate, self.lowest_pitch, self.tuning


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """How posteriors become notes. ``None`` means the model's own calibrated default.

    Attributes
    ----------
    onset_threshold : float or None
        Smallest evidence that starts a note, as :attr:`Note.confidence` tells it, 0 to 1, both exclusive like the other
        thresholds. Lower finds more notes, but an onset whose mass is below 0.3 starts none. A note posterior that
        stays above 4/3 of it for half a second, on average, starts a note without an onset, or outlives its end.
    split_threshold : float or None
        Smallest mass of an onset that strikes a note again while its pitch still sounds, 0 to 1. Higher splits less.
    frame_threshold : float or None
        Note posterior (of a single line, contour posterior) below which a note is over, 0 to 1. Lower makes notes
        longer.
    onset_delay : float or None
        Milliseconds by which sounds begin later than this model's onset posteriors say, -100 to 100.
    minimum_note_length : float or None
        Shortest note kept, in milliseconds, 0 to 10000.
    minimum_frequency, maximum_frequency : float or None
        Range of note pitches kept, in Hz where A is 440 Hz, however the recording is tuned (``None``: the model's whole
        range).
    pitch_bends : bool
        Whether to estimate pitch bends.
    monophonic : bool or None
        Find the best single line instead of all notes. None finds out: a line for a voice alone, whose onset threshold
        then lies three tenths of the way from the one given to 1, as glides look like onsets; else all notes.
    tuning : float or None
        Hz of the A above middle C that the recording is tuned to, 400 to 480; 440 takes it as it is. None finds it out
        from the first half minute of music, or up to two minutes where that leaves a doubt.

    Raises
    ------
    UsageError
        If a value is out of range or of another kind.
    """

    onset_threshold: float | None = None
    split_threshold: float | None = None
    frame_threshold: float | None = None
    onset_delay: float | None = None
    minimum_note_length: float | None = None
    minimum_frequency: float | None = None
    maximum_frequency: float | None = None
    pitch_bends: bool = True
    monophonic: bool | None = None
    tuning: float | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        for name in ("onset_threshold", "split_threshold", "frame_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise UsageError(f"{name} is {value}; it must lie between 0 and 1, both exclusive")
        if self.onset_delay is not None and not -100 <= self.onset_delay <= 100:
            raise UsageError(f"onset_delay is {self.onset_delay} ms; it must lie between -100 and 100")
        if self.minimum_note_length is not None and not 0 <= self.minimum_note_length <= 10_000:
            raise UsageError(f"minimum_note_length is {self.minimum_note_length} ms; it must lie between 0 and 10000")
        for name in ("minimum_frequency", "maximum_frequency"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 100_000:
                raise UsageError(f"{name} is {value} Hz; it must lie between 0 and 100000")
        if (self.minimum_frequency or 0) > (self.maximum_frequency or np.inf):
            raise UsageError(
                f"minimum_frequency {self.minimum_frequency} Hz is above maximum_frequency {self.maximum_frequency} Hz"
            )
        if self.tuning is not None and not 400 <= self.tuning <= 480:
            raise UsageError(f"tuning is {self.tuning} Hz; it must lie between 400 and 480")

    def resolved(self, defaults: dict[str, Any]) -> TrackerSettings:
        """These settings, with every ``None`` that ``defaults`` names filled from it."""
        known = {f.name for f in fields(self)}
        return replace(self, **{k: v for k, v in defaults.items() if k in known and getattr(self, k) is None})


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a recording is transcribed. Times of notes count from ``start``.

    Attributes
    ----------
    start, end : float
        In seconds; ``end`` is the end of the recording if ``None``.
    channel : str or int
        ``mix`` (the mean of those that are not silent; the louder where they cancel each other), ``left``, ``right``,
        ``mid`` (half their sum), ``side`` (half their difference), or the number of a channel, from 1.

    Raises
    ------
    UsageError
        If a value is out of range or of another kind.
    """

    start: float = 0.0
    end: float | None = None
    channel: str | int = "mix"

    def __post_init__(self) -> None:
        check_kinds(self)
        if not 0 <= self.start < math.inf:
            raise UsageError(f"start is {self.start} s; it must not be negative")
        if self.end is not None and not self.start < self.end < math.inf:
            raise UsageError(f"end is {self.end} s; it must lie after start, {self.start} s")
        if self.channel not in CHANNELS if isinstance(self.channel, str) else self.channel < 1:
            raise unfit("channel", self.channel, _CHANNEL)


@dataclass(frozen=True, slots=True)
class Beats:
    """When the beats of a recording fall.

    Attributes
    ----------
    times : tuple of float
        In seconds, increasing, at least two, from 0 to 360,000; 0.01 to 16 for each quarter note, which a MIDI file can
        hold.
    per_bar : int
        Beats in a bar, 1 to 64.
    downbeat : int
        Index of the first beat that begins a bar, 0 to ``per_bar - 1``.
    quarters : float
        Length of a beat in quarter notes: 1, in compound metres (6/8, 9/8, 12/8) 1.5. A power of two, or 1.5 times one,
        0.125 to 4.

    Raises
    ------
    UsageError
        If the times do not increase, or a value is out of range or of another kind.
    """

    times: tuple[float, ...]
    per_bar: int = 4
    downbeat: int = 0
    quarters: float = 1.0

    def __post_init__(self) -> None:
        check_kinds(self)
        times = np.asarray(self.times, float)
        if len(times) < 2 or not np.isfinite(times).all() or times[0] < 0 or not (np.diff(times) > 0).all():
            raise UsageError("beats need two or more finite times in increasing order, none of them negative")
        measurable = 0.125 <= self.quarters <= 4 and math.frexp(self.quarters)[0] in (0.5, 0.75)
        if not (1 <= self.per_bar <= 64 and 0 <= self.downbeat < self.per_bar and measurable):
            raise UsageError(f"beats have an impossible metre: {self.per_bar}, {self.downbeat}, {self.quarters}")
        lengths = np.diff(times) / self.quarters
        if lengths.min() < SHORTEST_QUARTER or lengths.max() > LONGEST_QUARTER or times[-1] > LATEST:
            raise UsageError(
                f"beats up to {times[-1]:g} s are {lengths.min():.3g} to {lengths.max():.3g} s per quarter note apart;"
                f" give {SHORTEST_QUARTER} to {LONGEST_QUARTER:g}, up to {LATEST:.0f} s"
            )

    @property
    def tempo(self) -> float:
        """Median tempo, in beats per minute."""
        return 60 / float(np.median(np.diff(self.times)))

    @property
    def time_signature(self) -> tuple[int, int]:
        """As numerator and denominator."""
        compound = math.frexp(self.quarters)[0] == 0.75  # 1.5 times a power of two: a beat is three of the denominator
        parts = 3 if compound else 1
        return parts * self.per_bar, round(4 * parts / self.quarters)


@dataclass(frozen=True, slots=True)
class BeatSettings:
    """How beats are found.

    Attributes
    ----------
    time_signature : tuple of int
        Numerator and denominator of the bars.
    tempo : float or None
        Beats per minute, 4 to 1000, that the tempo is thought to be near.
    first_bar : float or None
        Seconds at which a bar begins, the first one or any other, counted as the times of the notes; its line is at the
        nearest beat or half beat (third of a dotted one), and the beats move there. None finds out.
    fixed : bool
        Beats are not looked for: the tempo is exactly this, and ``first_bar`` (0 if None) lies on a bar line.

    Raises
    ------
    UsageError
        If a value is out of range or of another kind, or the tempo is to be fixed and there is none.
    """

    time_signature: tuple[int, int] = (4, 4)
    tempo: float | None = None
    first_bar: float | None = None
    fixed: bool = False

    def __post_init__(self) -> None:
        check_kinds(self)
        _check_time_signature(self.time_signature)
        if self.tempo is not None:
            check_tempo(self.tempo)
        if self.first_bar is not None and not 0 <= self.first_bar < math.inf:
            raise UsageError(f"first_bar is {self.first_bar} s; give a moment of the recording, in seconds")
        if self.fixed and self.tempo is None:
            raise UsageError("beats cannot be fixed without a tempo; give one")


@dataclass(frozen=True, slots=True)
class Key:
    """A key.

    Attributes
    ----------
    tonic : int
        Pitch class, 0 (C) to 11 (B).
    mode : str
        ``major`` or ``minor``.
    confidence : float
        0 (any other key would do as well) to 1.
    flats : bool or None
        Whether its signature has flats, where it can be written with up to seven flats or sharps. None chooses the
        fewer; of six either way, F# major and Eb minor.

    Raises
    ------
    UsageError
        If there is no such key.
    """

    tonic: int
    mode: str
    confidence: float = 1.0
    flats: bool | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        if not (0 <= self.tonic <= 11 and self.mode in ("major", "minor")):
            raise UsageError(f"key is {self.tonic} {printable(self.mode)}; give 0 (C) to 11 (B), and major or minor")
        if self._fifths(self.flats) == self._fifths(None):
            object.__setattr__(self, "flats", None)  # keys of one name are equal

    @property
    def fifths(self) -> int:
        """Sharps (positive) or flats (negative) of the key signature, -7 to 7."""
        return self._fifths(self.flats)

    def _fifths(self, flats: bool | None) -> int:
        relative_major, lowest = (self.tonic, -5) if self.mode == "major" else (self.tonic + 3, -6)
        if flats is not None:
            lowest = -7 if flats else -4
        return (relative_major * 7 - lowest) % 12 + lowest  # twelve neighbours on the line of fifths

    @property
    def name(self) -> str:
        """Such as ``F# minor``."""
        place = self.fifths + (1 if self.mode == "major" else 4)  # of the tonic on the line of fifths, counted from F
        return f"{'FCGDAEB'[place % 7]}{('b', '', '#')[place // 7 + 1]} {self.mode}"


@dataclass(frozen=True, slots=True, order=True)
class Marker:
    """A remark at a moment of the recording: a time in seconds and a text."""

    time: float
    text: str


@dataclass(frozen=True, slots=True)
class MidiSettings:
    """How notes become a MIDI file.

    Attributes
    ----------
    tempo : float
        Tempo written to the file where no beats were found, in quarter notes per minute, 4 to 1000. Note times in
        seconds do not depend on it.
    program : int
        General MIDI program, 0 to 127.
    bend_mode : str
        ``plain``: all notes share one channel, and a bend is written only where no other note sounds. ``channels``:
        each bending voice has a channel of its own. ``mpe``: MIDI Polyphonic Expression, each note on a member channel.
    time_signature : tuple of int, optional
        Numerator and denominator; not written if ``None``, unless beats were found.

    Raises
    ------
    UsageError
        If a value is out of range or of another kind.
    """

    tempo: float = 120.0
    program: int = 0
    bend_mode: str = "plain"
    time_signature: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.bend_mode, str) or self.bend_mode not in BEND_MODES:
            modes = ", ".join(BEND_MODES)
            raise UsageError(f"bend_mode is {self.bend_mode}; it must be {modes} (none: TrackerSettings.pitch_bends)")
        check_kinds(self)
        check_tempo(self.tempo)
        if not 0 <= self.program <= 127:
            raise UsageError(f"program is {self.program}; General MIDI programs are 0 to 127")
        if self.time_signature is not None:
            _check_time_signature(self.time_signature)


def check_tempo(tempo: float, quarters: float = 1.0) -> None:
    """Refuse a tempo, in beats of so many quarter notes per minute, that no file of this program can have.

    Raises
    ------
    UsageError
        If it does not lie between 4 and 1000 quarter notes per minute.
    """
    if not 4 <= tempo * quarters <= 1000:
        limits = f"{4 / quarters:.4g} and {1000 / quarters:.4g}"
        raise UsageError(f"tempo is {tempo:g}; it must lie between {limits} beats per minute")


def _check_time_signature(signature: tuple[int, int]) -> None:
    numerator, denominator = signature
    if not (1 <= numerator <= 64 and denominator in (1, 2, 4, 8, 16, 32)):
        raise UsageError(f"time signature is {numerator}/{denominator}; give one such as 4/4 or 6/8")


# ---------------------------------------------------------------------------------------- values of the wrong kind

_CHANNEL = f"{', '.join(CHANNELS)} or a number from 1"
_UNITS = {
    **dict.fromkeys(("minimum_frequency", "maximum_frequency", "tuning", "sample_rate"), "Hz"),
    **dict.fromkeys(("start", "end", "block_seconds"), "seconds"),
    **dict.fromkeys(("onset_delay", "minimum_note_length", "legato", "staccato"), "milliseconds"),
    "tempo": "beats per minute",
}


def ignoring_underflow(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, which does not fail where the program around it has NumPy raise for numbers that become 0."""

    @wraps(function)
    def wrapped(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with np.errstate(under="ignore"):
            return function(*arguments, **named)

    return wrapped


def check_kinds(settings: DataclassInstance) -> None:
    """Refuse fields of another kind than is declared; make plain Python values of those of NumPy.

    Raises
    ------
    UsageError
        With the name of the field.
    """
    for field in fields(settings):
        value, declared = getattr(settings, field.name), str(field.type)
        plain = _KINDS.get(declared.removesuffix(" | None"))  # a subclass may have fields of its own
        if plain and (value is not None or not declared.endswith(" | None")):
            object.__setattr__(settings, field.name, plain(field.name, value))


def check_class(name: str, value: object, kind: type, *, optional: bool = True) -> None:
    """Refuse an argument that is no instance of a class.

    Raises
    ------
    UsageError
        With the name of the argument.
    """
    if not (isinstance(value, kind) or (optional and value is None)):
        raise unfit(name, value, f"{kind.__name__}(...)" + " or None" * optional)


def number(name: str, value: Any) -> float:
    """The float that a number is; text and truth values are none.

    Raises
    ------
    UsageError
        With the name of the argument.
    """
    if not isinstance(value, (str, bytes, bool, np.bool_)):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise unfit(name, value, f"a number of {_UNITS[name]}" if name in _UNITS else "a number")


def whole(name: str, value: Any, wanted: str = "a whole number") -> int:
    """The int that a whole number is; floats, text and truth values are none.

    Raises
    ------
    UsageError
        With the name of the argument.
    """
    if not isinstance(value, (bool, np.bool_)):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise unfit(name, value, wanted)


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise unfit(name, value, "True or False")
    return bool(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise unfit(name, value, "text")
    return str(value)


def _text_or_whole(name: str, value: Any) -> str | int:
    return str(value) if isinstance(value, str) else whole(name, value, _CHANNEL)


def _pair(name: str, value: Any) -> tuple[int, int]:
    wanted = "two whole numbers, such as " + ("(4, 4)" if name == "time_signature" else "(40, 110)")
    if isinstance(value, str):
        raise unfit(name, value, wanted)
    try:
        first, second = value
    except (TypeError, ValueError) as error:
        raise unfit(name, value, wanted) from error
    return whole(name, first, wanted), whole(name, second, wanted)


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    try:
        return tuple(number(name, one) for one in value)
    except TypeError as error:
        raise unfit(name, value, "numbers") from error


def _fraction(name: str, value: Any) -> Fraction:
    if isinstance(value, Fraction):
        return value
    if not isinstance(value, (str, bool)):
        try:
            exact = value if isinstance(value, (Rational, Decimal)) else float(value)
            return Fraction(exact).limit_denominator(1000)  # 1/12 as a float is a twelfth nearly
        except (TypeError, ValueError, OverflowError):
            pass
    raise unfit(name, value, "a part of a whole note, such as Fraction(1, 16)")


def path_of(name: str, value: Any, wanted: str = "a path") -> Path:
    """The path that a text or any other path is; bytes are none.

    Raises
    ------
    UsageError
        With the name of the argument.
    """
    try:
        return Path(value)
    except TypeError as error:
        raise unfit(name, value, wanted) from error


def unfit(name: str, value: object, wanted: str) -> UsageError:
    """What to raise where an argument is of another kind."""
    return UsageError(f"{name} is {printable(reprlib.repr(value))}; give {wanted}")


_KINDS: dict[str, Callable[[str, Any], object]] = {
    "bool": _truth,
    "float": number,
    "int": whole,
    "str": _text,
    "str | int": _text_or_whole,
    "tuple[int, int]": _pair,
    "tuple[float, ...]": _numbers,
    "Fraction": _fraction,
}
