"""Notes to a Standard MIDI File: validation, a tempo map, channels for bending voices, ticks, messages.

Everything is rounded to ticks here, once, so that a note's end, the next note's start and the bends between them keep
their order in the file. Bends are written as steps: a value holds until the next. On one tick notes end, then bends
change, then notes begin.
"""

from __future__ import annotations

import math
import os
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import UsageError
from .timing import BEGIN_PARTS, file_axis, lead_in, metre
from .types import LATEST, LONGEST_QUARTER, SHORTEST_QUARTER, Beats, Key, Marker, MidiSettings, Note, PitchBend

if TYPE_CHECKING:
    import pretty_midi

DEFAULT_TITLE = "basic_transcribe"
FINGERPRINT_PREFIX = "basic_transcribe:"
DRUMS = 9  # the channel, counted from 0, that General MIDI and most readers take for drums
CHANNELS = tuple(c for c in range(16) if c != DRUMS)
BEND_RANGES = (2, 12, 24)  # semitones; the smallest that holds every bend is used
BEND_STEP = 0.015  # semitones; smaller changes cannot be heard and are not written
EDGE = 0.03  # seconds by which a bent note may overlap its neighbours on a shared channel
RESOLUTION = 480  # ticks per quarter note, or a multiple of this
LONGEST_TICK = 1.5e-3  # seconds; rounding then moves a note by half of this at most
MOST_TICKS = 9_900_000  # pretty_midi refuses to read files of more than ten million ticks
TEMPO_ERROR = 50e-6  # seconds by which a beat may miss its tick before the tempo is written anew
RELEASE = 2  # quarter notes for which a note that ended keeps its bend, if its channel stays free

# MIDI Polyphonic Expression 1.0 (RP-053): a lower zone of fifteen member channels, of which that of the drums stays
# silent, so that other synthesisers, and readers that know no zones, find every note too.
MPE_MANAGER = 0
MPE_MEMBERS = tuple(range(1, 16))
MPE_VOICES = tuple(c for c in MPE_MEMBERS if c != DRUMS)
MPE_BEND_RANGE = 48  # semitones; the standard's default, which importers assume whatever the file says
MPE_MANAGER_BEND_RANGE = 2

# Selecting the bend range takes three messages in this order: which parameter, its value, none. pretty_midi sorts the
# messages of one tick by controller number when it writes a file it has read, so each step has a tick of its own.
_BEND_RANGE_TICKS = 2
_END, _SELECT, _BEND, _BEGIN = range(4)  # order of events on one tick
_STATUS = np.array([0x90, 0xB0, 0xE0, 0x90])  # of each; a note ends by a velocity of 0

_FINGERPRINT = re.compile(rb"\xff\x01([\x80-\xff]{0,3}[\x00-\x7f])" + re.escape(FINGERPRINT_PREFIX.encode()))

# Columns instead of objects: there can be a quarter of a million notes, and a file must not take much memory for long.
_SLICE = 1024  # how many are worked on at once
_VOICE = np.dtype(
    [
        ("start", np.int32),  # in ticks, as the end
        ("end", np.int32),
        ("source", np.int32),  # index among the notes
        ("first", np.int32),  # where its bends begin and end among the steps
        ("stop", np.int32),
        ("peak", np.float32),  # furthest bend in semitones; negative without one
        ("pitch", np.uint8),
        ("velocity", np.uint8),
    ],
    align=True,
)
_Voices = NDArray[np.void]  # of _VOICE, sorted by start
_Part = tuple[int, _Voices]  # a channel, and what sounds on it
_Events = NDArray[np.int64]  # tick, order, channel, and both values of the message, packed so that they sort as a whole


@dataclass(frozen=True, slots=True)
class MidiResult:
    """A MIDI file in memory.

    Attributes
    ----------
    data : bytes
        Contents of a Standard MIDI File, type 1: first a track of tempo, metre, key and markers, then the notes.
    warnings : tuple of str
        What could not be written as it was.
    """

    data: bytes
    warnings: tuple[str, ...]

    @property
    def midi(self) -> pretty_midi.PrettyMIDI:
        """The file as pretty_midi reads it, anew each time: one instrument per channel with notes, times in seconds."""
        import pretty_midi

        return pretty_midi.PrettyMIDI(BytesIO(self.data), charset="utf-8")


@dataclass(frozen=True, slots=True)
class _Clock:
    """Seconds to ticks and back, by the tempi as the file holds them. The last one holds for ever.

    Attributes
    ----------
    resolution : int
        Ticks per quarter note.
    ticks, seconds, tempi : ndarray, shape (n,)
        Where a tempo begins, and its microseconds per quarter note. The first begins at 0.
    """

    resolution: int
    ticks: NDArray[np.int64]
    seconds: NDArray[np.float64]
    tempi: NDArray[np.int64]

    def to_ticks(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """The nearest ticks; negative times count as 0."""
        seconds = np.maximum(seconds, 0.0)
        i = np.searchsorted(self.seconds, seconds, side="right") - 1
        exact = self.ticks[i] + (seconds - self.seconds[i]) * (1e6 * self.resolution) / self.tempi[i]
        return np.rint(exact).astype(np.int64)

    def to_seconds(self, ticks: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        i = np.searchsorted(self.ticks, ticks, side="right") - 1
        return np.asarray(self.seconds[i] + (ticks - self.ticks[i]) * self.tempi[i] / (1e6 * self.resolution))

    @property
    def longest_tick(self) -> float:
        """In seconds."""
        return float(self.tempi.max()) / 1e6 / self.resolution


class _Steps:
    """Pitch bends: from which tick on, and 14-bit values."""

    def __init__(self) -> None:
        self.ticks, self.values = array("i"), array("h")

    def __len__(self) -> int:
        return len(self.ticks)

    def put(self, tick: int, value: int) -> None:
        """Add one; it replaces that of the same tick."""
        if self.ticks and self.ticks[-1] == tick:
            self.values[-1] = value
        else:
            self.ticks.append(tick)
            self.values.append(value)


def to_midi(
    notes: Iterable[Note],
    settings: MidiSettings | None = None,
    *,
    title: str = "",
    fingerprint: str = "",
    beats: Beats | None = None,
    key: Key | None = None,
    markers: Iterable[Marker] = (),
    tuning: float = 0.0,
) -> MidiResult:
    """Arrange notes as a MIDI file.

    Notes that do not end after they begin are left out, velocities are limited to 1 to 127, the earlier of two
    overlapping notes of one pitch is cut. What becomes of the pitch bends depends on ``settings.bend_mode``:

    ``plain``
        One channel. A note keeps its bend if no other note sounds meanwhile (30 ms at its edges are forgiven). Notes
        that do not are bent by the tuning.
    ``channels``
        A track and channel for each voice that bends from the tuning, as few as possible. When all fifteen bend, the
        newcomer plays unbent.
    ``mpe``
        MIDI Polyphonic Expression 1.0 (RP-053), all in one track: a lower zone, and each note alone on the member
        channel that was released longest ago. When all fourteen sound (the one that General MIDI has for drums is left
        out), the newcomer shares the channel that bends least, and both play unbent from there on.

    A note that has ended keeps its bend while it dies away: for two quarter notes, or until the next one of its channel
    begins.

    With ``beats``, each beat falls on its place in the bars, and the tempo changes from beat to beat, while the times
    of the notes in seconds stay the same. What lies before the first downbeat becomes a pick-up; the file begins with
    the recording, and with about the tempo of the beats. A first beat by less than about a sixteenth note later than
    the beginning counts as the beginning.

    Parameters
    ----------
    notes : iterable of Note
        In any order. Times in seconds up to 100 hours; negative ones count as 0.
    settings : MidiSettings, optional
        Tempo and time signature where there are no beats, program, bend mode. With beats a time signature is only used
        if its bars are as long as theirs.
    title : str
        Track name; ``basic_transcribe`` if empty.
    fingerprint : str
        Stored as text, for :func:`read_fingerprint`.
    beats : Beats, optional
    key : Key, optional
        Written as key signature.
    markers : iterable of Marker
        Written as markers, in any order; negative times count as 0.
    tuning : float
        Cents by which the recording's A lies above 440 Hz, within 200. Bends of notes include it; if there are none, it
        is not written.

    Returns
    -------
    MidiResult

    Raises
    ------
    ValueError
        If a time, velocity or bend is not finite, or a pitch is no whole number from 0 to 127.
    UsageError
        If beats lie too close for so long a recording, or the first one too early or late for those after it.
    """
    settings = settings or MidiSettings()
    notes = notes if isinstance(notes, Sequence) else list(notes)
    markers = sorted(markers, key=lambda m: m.time)
    warnings: list[str] = []
    voices, seconds = _read(notes)
    if not all(math.isfinite(marker.time) and marker.time <= LATEST for marker in markers):
        raise ValueError(f"a marker's time is not finite, or beyond {LATEST:.0f} s")

    latest = max([float(seconds[1].max(initial=0)), *(marker.time for marker in markers)])
    clock = _steady_clock(settings.tempo, latest) if beats is None else _beat_clock(beats, latest)
    if clock.longest_tick > 2e-3:
        warnings.append(f"the recording is so long that MIDI times are rounded to {1000 * clock.longest_tick:.1f} ms")

    _set_ticks(voices, seconds, clock)
    del seconds
    dropped = np.count_nonzero(voices["end"] == voices["start"])
    voices = _untangled(voices)
    if dropped:
        warnings.append(f"{dropped} of {len(notes)} notes had no length and were left out")
    mpe = settings.bend_mode == "mpe"
    bend_range, clamped = _bend_range(voices, (MPE_BEND_RANGE,) if mpe else BEND_RANGES)
    if clamped:
        warnings.append(f"{clamped} of {len(notes)} notes bend by more than {bend_range} semitones and were limited")
    any_bent = (voices["peak"] >= 0).any()
    if settings.bend_mode == "plain":
        _unbend_overlapping(voices, clock)
    rest = 0 if mpe or not any_bent else max(-8192, min(8191, round(tuning / 100 * 8192 / bend_range)))
    steps = _all_steps(voices, notes, clock, bend_range, rest)

    channels, unbent = [(0, voices)], 0
    if mpe:
        channels, unbent = _allocate_members(voices, steps)
    elif settings.bend_mode == "channels":
        channels, unbent = _allocate(voices)
    if unbent:
        most = len(MPE_VOICES if mpe else CHANNELS)
        warnings.append(
            f"{unbent} of {len(voices)} notes lost their pitch bend or its end: more than {most} voices at once"
        )

    title = _printable(title) or DEFAULT_TITLE
    if mpe:
        tracks = [_mpe_track(title, settings.program, channels, steps, RELEASE * clock.resolution)]
    else:
        names = [f"{title} ({i})" for i in range(1, len(channels) + 1)] if channels[1:] else [title]
        tracks = []
        del voices  # what is not needed any more must not stand beside the events
        for name in names:
            channel, members = channels.pop(0)
            events = _channel_events(channel, members, steps, bend_range, rest, RELEASE * clock.resolution)
            del members
            tracks.append(_messages(name, settings.program, [channel], [], events))
    return MidiResult(
        _file([_conductor(clock, settings, fingerprint, beats, key, markers), *tracks], clock.resolution),
        tuple(warnings),
    )


def read_fingerprint(path: str | Path) -> str | None:
    """The fingerprint given to :func:`to_midi`, from a file it made.

    Reads the beginning of the file and the lengths of its tracks only.

    Returns
    -------
    str or None
        None if the file cannot be read, is no MIDI file, holds no fingerprint, or has been cut off.
    """
    try:
        with open(path, "rb") as file:
            found = find_fingerprint(file.read(65536))
            return found if found is not None and _is_whole(file) else None
    except OSError:
        return None


def _is_whole(file: BinaryIO) -> bool:
    """Whether a file of chunks, each with its length, ends with one of them."""
    size, end = file.seek(0, os.SEEK_END), 0
    while end < size:
        file.seek(end + 4)
        end += 8 + int.from_bytes(file.read(4), "big")
    return end == size


def find_fingerprint(head: bytes) -> str | None:
    """The same, from the first bytes of a file."""
    found = _FINGERPRINT.search(head)
    if not head.startswith(b"MThd") or found is None:
        return None
    length = 0
    for byte in found[1]:  # a variable-length quantity: seven bits a byte, the highest first
        length = length << 7 | byte & 0x7F
    text = head[found.end(1) : found.end(1) + length]
    return text[len(FINGERPRINT_PREFIX) :].decode("utf-8", "replace") if len(text) == length else None


def _checked_peak(note: Note) -> float:
    """The furthest bend of a note that can be written, in semitones; -1 without one."""
    if not (math.isfinite(note.onset) and math.isfinite(note.offset) and math.isfinite(note.velocity)):
        raise ValueError(f"a note has a time or velocity that is not finite: {note}")
    if max(note.onset, note.offset) > LATEST:
        raise ValueError(f"a note lies beyond {LATEST:.0f} s: {note}")
    if not 0 <= note.pitch <= 127 or note.pitch % 1:
        raise ValueError(f"a note's pitch is no whole number from 0 to 127; its bend says what lies beside: {note}")
    if note.bend is None:
        return -1.0
    peak = float(np.abs(note.bend.semitones).max()) if len(note.bend.semitones) else -1.0
    if not (math.isfinite(note.bend.start) and math.isfinite(peak) and 0 < note.bend.step < math.inf):
        raise ValueError(f"a note has a bend that is not finite, or its step is not positive: {note}")
    return peak


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


# ---------------------------------------------------------------------------------------------------- tempo and metre


def _resolution(longest_quarter: float, quarters: float) -> int:
    """Ticks per quarter note: fine enough for the ear, coarse enough for readers of long files."""
    fine = RESOLUTION * math.ceil(longest_quarter / (RESOLUTION * LONGEST_TICK))
    return fine if fine * quarters <= MOST_TICKS else max(1, math.floor(MOST_TICKS / quarters))


def _steady_clock(tempo: float, latest: float) -> _Clock:
    microseconds = round(6e7 / tempo)
    resolution = _resolution(60 / tempo, latest * tempo / 60)
    return _Clock(resolution, np.zeros(1, np.int64), np.zeros(1), np.array([microseconds]))


def _beat_clock(beats: Beats, latest: float) -> _Clock:
    """The clock by which each beat falls on its tick, ``lead_in`` beats after the beginning."""
    seconds, places = file_axis(beats)
    quarters = (places - places[0]) * beats.quarters
    lengths = np.diff(seconds) / np.diff(quarters)
    if not SHORTEST_QUARTER <= lengths.min() <= lengths.max() <= LONGEST_QUARTER:
        raise UsageError(f"the first beat, at {beats.times[0]:.3f} s, comes too early or too late for those after it")
    last = quarters[-1] + max(0.0, latest - seconds[-1]) / lengths[-1]
    resolution = _resolution(lengths.max(), last)
    ticks = np.rint(quarters * resolution).astype(int).tolist()
    if min(np.diff(ticks)) < 1 or last > MOST_TICKS:
        raise UsageError(f"beats are too short for a MIDI file of {max(latest, seconds[-1]):.0f} s; give longer ones")
    goals = (seconds * (1e6 * resolution)).tolist()  # microseconds times resolution: the file's sums stay whole
    if ticks[1] >= BEGIN_PARTS:  # with the usual tempo: for some readers the first is the only one
        ticks.insert(1, ticks[1] // BEGIN_PARTS)
        goals.insert(1, min(ticks[1] * 6e7 / (beats.tempo * beats.quarters), goals[1] / 2))
    changes = _tempi(ticks, goals, TEMPO_ERROR * 1e6 * resolution)
    begins, elapsed, tempi = zip(*changes, strict=True)
    return _Clock(resolution, np.array(begins), np.array(elapsed) / (1e6 * resolution), np.array(tempi))


def _tempi(ticks: list[int], goals: list[float], error: float) -> list[tuple[int, int, int]]:
    """The fewest whole tempi that reach each goal at its tick within ``error``, as (tick, time, tempo).

    As each begins where the one before it really ended, rounding does not add up.
    """
    changes: list[tuple[int, int, int]] = []
    begin, elapsed = ticks[0], 0
    low, high = 0.0, math.inf  # what the tempo from ``begin`` on may be
    for last, tick, goal in zip(ticks, ticks[1:], goals[1:], strict=False):
        slowest = min(high, (goal + error - elapsed) / (tick - begin))
        fastest = max(low, (goal - error - elapsed) / (tick - begin))
        if math.ceil(fastest) > math.floor(slowest):
            tempo = round((low + high) / 2)
            changes.append((begin, elapsed, tempo))
            begin, elapsed = last, elapsed + (last - begin) * tempo
            slowest, fastest = (goal + error - elapsed) / (tick - begin), (goal - error - elapsed) / (tick - begin)
        low, high = fastest, slowest
    return [*changes, (begin, elapsed, round((low + high) / 2))]


def _time_signatures(
    beats: Beats | None, wanted: tuple[int, int] | None, resolution: int
) -> list[tuple[int, tuple[int, int]]]:
    """Time signatures and their ticks: with beats, short bars of what comes before the first whole one."""
    if beats is None:
        return [(0, wanted)] if wanted else []
    numerator, denominator = wanted or (0, 1)
    same_length = numerator * 4 / denominator == beats.per_bar * beats.quarters
    usual = wanted if wanted and same_length else beats.time_signature
    lead = lead_in(beats)
    part, whole = lead % 1, (int(lead) + beats.downbeat) % beats.per_bar  # of a beat, and beats, before the first bar
    changes: list[tuple[int, tuple[int, int]]] = []
    if part:
        changes.append((0, (part * Fraction(beats.quarters) / 4).as_integer_ratio()))
    if whole:
        changes.append((_ticks(part, beats, resolution), replace(beats, per_bar=whole, downbeat=0).time_signature))
    return [*changes, (_ticks(part + whole, beats, resolution), usual)]


def _ticks(count: Fraction, beats: Beats, resolution: int) -> int:
    """Ticks of so many beats."""
    return round(count * Fraction(beats.quarters) * resolution)


def _conductor(
    clock: _Clock,
    settings: MidiSettings,
    fingerprint: str,
    beats: Beats | None,
    key: Key | None,
    markers: Sequence[Marker],
) -> bytes:
    """The first track. The fingerprint comes first of all, where :func:`read_fingerprint` looks for it."""
    from mido import MetaMessage

    events: list[tuple[int, Any]] = []
    if fingerprint:
        events.append((0, MetaMessage("text", text=FINGERPRINT_PREFIX + fingerprint)))
    for tick, tempo in zip(clock.ticks.tolist(), clock.tempi.tolist(), strict=True):
        events.append((tick, MetaMessage("set_tempo", tempo=tempo)))
    for tick, (numerator, denominator) in _time_signatures(beats, settings.time_signature, clock.resolution):
        clocks = round(24 * metre((numerator, denominator))[1])  # 24 are a quarter note
        signature = MetaMessage("time_signature", numerator=numerator, denominator=denominator, clocks_per_click=clocks)
        events.append((tick, signature))
    if key:
        name = key.name.split()[0] + ("m" if key.mode == "minor" else "")
        events.append((0, MetaMessage("key_signature", key=name)))
    times = clock.to_ticks(np.array([marker.time for marker in markers], dtype=float))
    for tick, marker in zip(times.tolist(), markers, strict=True):
        events.append((tick, MetaMessage("marker", text=_printable(marker.text))))
    events.sort(key=lambda event: event[0])
    now = 0
    for tick, message in events:
        message.time = tick - now
        now = tick
    return _chunk(_encoded([message for _, message in events]))


# -------------------------------------------------------------------------------------------------------------- voices


def _read(notes: Sequence[Note]) -> tuple[_Voices, NDArray[np.float64]]:
    """Notes, checked, as voices that lack their ticks; and onsets and offsets in seconds, shape (2, n)."""
    voices, seconds = np.zeros(len(notes), _VOICE), np.empty((2, len(notes)))
    for part in _slices(len(notes)):
        some = notes[part]
        voices["peak"][part] = [_checked_peak(note) for note in some]
        seconds[0, part] = [note.onset for note in some]
        seconds[1, part] = [note.offset for note in some]
        voices["pitch"][part] = [note.pitch for note in some]
        voices["velocity"][part] = np.clip(np.rint([note.velocity for note in some]), 1, 127)
    voices["source"] = np.arange(len(notes), dtype=np.int32)
    return voices, seconds


def _set_ticks(voices: _Voices, seconds: NDArray[np.float64], clock: _Clock) -> None:
    """What has no length ends where it starts, all else later."""
    for part in _slices(len(voices)):
        onsets, offsets = seconds[:, part]
        starts = clock.to_ticks(onsets)
        ends = np.maximum(clock.to_ticks(offsets), starts + 1)
        voices["start"][part] = starts
        voices["end"][part] = np.where(offsets > np.maximum(onsets, 0.0), ends, starts)


def _untangled(voices: _Voices) -> _Voices:
    """Those that last, sorted, one pitch never overlapping itself."""
    order = np.lexsort([voices[name] for name in ("velocity", "end", "pitch", "start")])
    for name in _VOICE.names or ():
        voices[name] = voices[name][order]
    voices = _lasting(voices)
    rows = np.argsort(voices["pitch"], kind="stable")
    follow = np.flatnonzero(voices["pitch"][rows[:-1]] == voices["pitch"][rows[1:]])
    earlier, later = rows[follow], rows[follow + 1]
    voices["end"][earlier] = np.minimum(voices["end"][earlier], voices["start"][later])
    return _lasting(voices)


def _lasting(voices: _Voices) -> _Voices:
    lasting = voices["end"] > voices["start"]
    return voices if lasting.all() else voices[lasting]


def _slices(length: int) -> Iterator[slice]:
    return (slice(i, i + _SLICE) for i in range(0, length, _SLICE))


def _bend_range(voices: _Voices, ranges: tuple[int, ...]) -> tuple[int, int]:
    """The smallest of the ranges, in semitones, that will do, and how many notes exceed the widest."""
    widest = voices["peak"].max(initial=0)
    chosen = next((r for r in ranges if widest <= r), ranges[-1])
    return chosen, int(np.count_nonzero(voices["peak"] > chosen))


def _all_steps(voices: _Voices, notes: Sequence[Note], clock: _Clock, bend_range: int, rest: int) -> _Steps:
    """The bends of all voices; where they are is written to the voices."""
    steps = _Steps()
    for row in np.flatnonzero(voices["peak"] >= 0).tolist():
        voice = voices[row]
        bend = notes[int(voice["source"])].bend
        voice["first"] = len(steps)
        if bend is not None:
            found = _steps(bend, int(voice["start"]), int(voice["end"]), clock, bend_range, rest)
            steps.ticks.extend(tick for tick, _ in found)
            steps.values.extend(value for _, value in found)
        voice["stop"] = len(steps)
    return steps


def _steps(bend: PitchBend, start: int, end: int, clock: _Clock, bend_range: int, rest: int) -> list[tuple[int, int]]:
    """A bend as (tick, value) within a note, from the channel's value at rest, without changes too small to hear.

    Each value holds from halfway after the one before it to halfway before the next: held from its own time on, all
    would come half a step late. The note begins with the value nearest to its onset.
    """
    ticks = clock.to_ticks(bend.times - bend.step / 2)
    first = max(int(np.searchsorted(ticks, start, side="right")) - 1, 0)
    last = int(np.searchsorted(ticks, end, side="left"))
    ticks = np.maximum(ticks[first : max(last, first + 1)], start)
    ticks[:1] = start
    scaled = bend.semitones[first : first + len(ticks)].astype(np.float64) * (8192 / bend_range)
    values = np.clip(np.rint(scaled), -8192, 8191).astype(int)
    least = BEND_STEP * 8192 / bend_range
    steps: list[tuple[int, int]] = []
    current = rest
    for tick, value in zip(ticks.tolist(), values.tolist(), strict=True):
        if abs(value - current) >= least:
            steps.append((tick, value))
            current = value
    return steps


# ------------------------------------------------------------------------------------------------------------ channels


def _unbend_overlapping(voices: _Voices, clock: _Clock) -> None:
    """Take the bends from notes that others sound through, but for ``EDGE`` seconds at their ends.

    ``voices`` are sorted by start, so the latest end so far and the next start tell of all others.
    """
    next_starts = _next_starts(voices)
    latest = 0.0
    for part in _slices(len(voices)):
        starts, ends = clock.to_seconds(voices["start"][part]), clock.to_seconds(voices["end"][part])
        following = clock.to_seconds(next_starts[part])
        earlier = np.maximum.accumulate(np.append(latest, ends))
        forgiven = np.minimum(EDGE, (ends - starts) / 2)
        voices["peak"][part][(earlier[:-1] > starts + forgiven) | (following < ends - forgiven)] = -1
        latest = earlier[-1]


def _next_starts(voices: _Voices) -> NDArray[np.int32]:
    """When the voice after each one starts; never, for the last one."""
    starts = np.full(len(voices), np.iinfo(np.int32).max, np.int32)
    starts[:-1] = voices["start"][1:]
    return starts


def _allocate(voices: _Voices) -> tuple[list[_Part], int]:
    """Give every bending voice a channel of its own; unbent ones may share.

    When all channels bend, the newcomer plays unbent, and the voice that would end first gives up the rest of its bend
    to it. No note is lost or cut.

    Returns
    -------
    channels : list of tuple of int and _Voices
        Those used, at least one; each sorted by start.
    unbent : int
        Voices that lost their bend or the end of it.
    """
    columns = _columns(voices, "start", "end", "first", "stop")
    channels = np.zeros(len(voices), np.uint8)
    sounding = dict.fromkeys(CHANNELS, 0)  # until which tick
    bending = dict.fromkeys(CHANNELS, 0)
    unbent = 0
    for row, (start, end, first, stop) in enumerate(zip(*columns, strict=True)):
        free = [c for c in CHANNELS if sounding[c] <= start]
        bends = stop > first and bool(free)
        if stop > first and not free:
            voices["stop"][row] = first
            unbent += 1
        shared = [] if bends else [c for c in CHANNELS if bending[c] <= start < sounding[c]]
        if shared or free:
            channel = (shared or free)[0]
        else:
            channel = min(CHANNELS, key=bending.__getitem__)
            unbent += 1
        channels[row] = channel
        sounding[channel] = max(sounding[channel], end)
        bending[channel] = end if bends else start
    return _parts(voices, channels) or [(CHANNELS[0], voices)], unbent


def _allocate_members(voices: _Voices, steps: _Steps) -> tuple[list[_Part], int]:
    """Give every voice the member channel that was released longest ago, so that no release is bent.

    When all sound, the newcomer plays unbent on the channel that bends least from then on (of equals, the one that ends
    first), and that bend ends there. No note is lost or cut.

    Returns
    -------
    channels : list of tuple of int and _Voices
        Those used; each sorted by start.
    unbent : int
        Voices that lost their bend or the end of it.
    """
    columns = _columns(voices, "start", "end", "first", "stop")
    channels = np.zeros(len(voices), np.uint8)
    latest: dict[int, int] = {}  # row of each channel's last voice
    released = dict.fromkeys(MPE_VOICES, 0)
    unbent = 0
    for row, (start, end, first, stop) in enumerate(zip(*columns, strict=True)):
        channel = min(MPE_VOICES, key=released.__getitem__)
        if released[channel] > start:
            bends = {c: _remaining_bend(voices[latest[c]], steps, start) for c in MPE_VOICES}
            channel = min(MPE_VOICES, key=lambda c: (bends[c], released[c]))
            unbent += (bends[channel] > 0) + (stop > first)
            voices["stop"][row] = first
            occupant = voices[latest[channel]]
            occupant["stop"] = bisect_left(steps.ticks, start, int(occupant["first"]), int(occupant["stop"]))
        channels[row] = channel
        latest[channel] = row
        released[channel] = max(released[channel], end)
    return _parts(voices, channels), unbent


def _columns(voices: _Voices, *names: str) -> list[memoryview]:
    """As plain integers, each made when it is asked for."""
    return [voices[name].data for name in names]


def _parts(voices: _Voices, channels: NDArray[np.uint8]) -> list[_Part]:
    return [(c, voices[channels == c]) for c in np.unique(channels).tolist()]


def _remaining_bend(voice: np.void, steps: _Steps, tick: int) -> int:
    """Furthest value of a voice's bend from a tick on."""
    first, stop = int(voice["first"]), int(voice["stop"])
    now = max(first, bisect_right(steps.ticks, tick, first, stop) - 1)
    return max(map(abs, steps.values[now:stop]), default=0)


# -------------------------------------------------------------------------------------------------------------- events


def _bend_track(voices: _Voices, steps: _Steps, rest: int, release: int) -> _Steps:
    """The bends of one channel, one at most per tick, back at rest ``release`` ticks after each note.

    A note that begins takes the channel over, so the bend of the one before ends there.
    """
    track = _Steps()
    track.put(_BEND_RANGE_TICKS, rest)
    bent = voices["stop"] > voices["first"]
    columns = _columns(voices[bent], "end", "first", "stop")
    for end, first, last, following in zip(*columns, _next_starts(voices)[bent].data, strict=True):
        stop = min(end, following)
        for tick, value in zip(steps.ticks[first:last], steps.values[first:last], strict=True):
            if max(tick, _BEND_RANGE_TICKS) < stop:
                track.put(max(tick, _BEND_RANGE_TICKS), value)
        if stop >= _BEND_RANGE_TICKS:
            track.put(min(end + release, following), rest)
    changes = _Steps()
    last = 0
    for tick, value in zip(track.ticks, track.values, strict=True):
        if value != last:
            changes.put(tick, value)
        last = value
    return changes


def _member_bends(voices: _Voices, steps: _Steps, release: int) -> _Steps:
    """The bends of one member channel, said anew at each note, for those who begin to play in the middle.

    A note that has ended keeps its bend for ``release`` ticks, or until the next begins.
    """
    track = _Steps()
    columns = _columns(voices, "start", "end", "first", "stop")
    for start, end, first, last, following in zip(*columns, _next_starts(voices).data, strict=True):
        track.put(start, 0)
        for tick, value in zip(steps.ticks[first:last], steps.values[first:last], strict=True):
            track.put(tick, value)
        if last > first and following > end + release:
            track.put(end + release, 0)
    return track


def _events(ticks: ArrayLike, order: int, channel: int, first: ArrayLike, second: ArrayLike) -> _Events:
    """Packed events. Both values have 7 bits."""
    events = np.array(ticks, np.int64)
    events <<= 20
    events += order << 18 | channel << 14
    events += np.asarray(first, np.int64) << 7
    events += np.asarray(second, np.int64)
    return events


def _note_events(channel: int, voices: _Voices) -> list[_Events]:
    return [
        _events(voices["start"], _BEGIN, channel, voices["pitch"], voices["velocity"]),
        _events(voices["end"], _END, channel, voices["pitch"], 0),
    ]


def _bend_events(channel: int, bends: _Steps) -> _Events:
    values = np.array(bends.values, np.int64) + 8192
    return _events(np.array(bends.ticks), _BEND, channel, values & 0x7F, values >> 7)


def _range_events(channel: int, semitones: int) -> _Events:
    """Registered parameter 0: selected, given its value, and closed."""
    steps = [(0, 100, 0), (0, 101, 0), (1, 6, semitones), (2, 100, 127), (2, 101, 127)]
    ticks, controls, values = zip(*steps, strict=True)
    return _events(ticks, _SELECT, channel, controls, values)


def _channel_events(
    channel: int, voices: _Voices, steps: _Steps, bend_range: int, rest: int, release: int
) -> list[_Events]:
    """What happens on a channel. The bend range is selected if there are bends."""
    bends = _bend_track(voices, steps, rest, release)
    events = [*_note_events(channel, voices), _bend_events(channel, bends)]
    if bends:
        events += [_range_events(channel, bend_range), _events([1], _SELECT, channel, 38, 0)]
    return events


def _mpe_track(title: str, program: int, channels: list[_Part], steps: _Steps, release: int) -> bytes:
    """A track of a whole zone: importers make an instrument of each track, and one instrument must get all channels.

    Values have no finer half (controller 38): for some receivers it would make another number of them.
    """
    zone = [(100, 6), (101, 0), (6, len(MPE_MEMBERS))]  # registered parameter 6 sets up the zone
    zone += [(100, 0), (101, 0), (6, MPE_MANAGER_BEND_RANGE), (100, 127), (101, 127)]
    events = [_range_events(channel, MPE_BEND_RANGE) for channel in MPE_MEMBERS]
    for channel, voices in channels:
        events += [*_note_events(channel, voices), _bend_events(channel, _member_bends(voices, steps, release))]
    return _messages(title, program, [MPE_MANAGER, *(channel for channel, _ in channels)], zone, events)


def _messages(
    title: str, program: int, channels: list[int], controls: list[tuple[int, int]], events: list[_Events]
) -> bytes:
    """A track: its name, programs, controls of the first channel, then events in any order, which are used up."""
    from mido import Message, MetaMessage

    head: list[Any] = [MetaMessage("track_name", name=title)]
    head += [Message("program_change", channel=channel, program=program) for channel in channels]
    head += [Message("control_change", channel=channels[0], control=c, value=value) for c, value in controls]
    return _chunk(_encoded(head), _encoded_events(events))


# --------------------------------------------------------------------------------------------------------------- bytes


def _encoded(messages: list[Any]) -> bytes:
    """Few messages, each with its delta time, as bytes; texts in UTF-8."""
    from mido.midifiles.meta import encode_variable_int, meta_charset

    with meta_charset("utf-8"):
        return b"".join(bytes(encode_variable_int(message.time) + message.bytes()) for message in messages)


def _encoded_events(pieces: list[_Events]) -> bytearray:
    """Events, taken from the list, in their order as bytes; a status byte only where it changes.

    Each has a row for all the bytes it can have: up to four for the time since the last one, status, two values. Those
    that are needed are picked out.
    """
    events = np.concatenate(pieces)
    pieces.clear()  # and so their memory
    events.sort()
    data = bytearray()
    now = running = 0
    for part in _slices(len(events)):
        ticks = events[part] >> 20
        status = _STATUS[events[part] >> 18 & 3] | events[part] >> 14 & 15
        since = np.diff(ticks, prepend=now)[:, None]
        rows = np.empty((len(ticks), 7), np.uint8)
        rows[:, :4] = since >> [21, 14, 7, 0] & 0x7F | [0x80, 0x80, 0x80, 0]  # a variable-length quantity
        rows[:, 4] = status
        rows[:, 5] = events[part] >> 7 & 0x7F
        rows[:, 6] = events[part] & 0x7F
        needed = np.ones(rows.shape, bool)
        needed[:, :3] = since >= [1 << 21, 1 << 14, 1 << 7]
        needed[:, 4] = np.diff(status, prepend=running) != 0
        data += rows[needed].tobytes()
        now, running = int(ticks[-1]), int(status[-1])
    return data


def _chunk(*messages: bytes | bytearray) -> bytes:
    """A track with its header and its end."""
    data = (*messages, b"\x00\xff\x2f\x00")
    return b"".join((b"MTrk", sum(map(len, data)).to_bytes(4, "big"), *data))


def _file(tracks: list[bytes], resolution: int) -> bytes:
    """A Standard MIDI File of type 1."""
    numbers = (6).to_bytes(4, "big"), *(n.to_bytes(2, "big") for n in (1, len(tracks), resolution))
    return b"".join((b"MThd", *numbers, *tracks))
