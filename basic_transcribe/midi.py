"""Notes to a Standard MIDI File: validation, channels for bending voices, ticks.

Everything is rounded to ticks here, once, so that a note's end, the next note's start and the bends between them keep
their order in the file. Bends are written as steps: a value holds until the next.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .types import MidiSettings, Note, PitchBend

if TYPE_CHECKING:
    import pretty_midi

DEFAULT_TITLE = "basic_transcribe"
FINGERPRINT_PREFIX = "basic_transcribe:"
CHANNELS = 15  # sixteen less the one of the drums
BEND_RANGES = (2, 12, 24)  # semitones; the smallest that holds every bend is used
BEND_STEP = 0.015  # semitones; smaller changes cannot be heard and are not written
EDGE = 0.03  # seconds by which a bent note may overlap its neighbours on a shared channel
RESOLUTION = 480  # ticks per beat, or a multiple of this
LONGEST_TICK = 1.5e-3  # seconds; rounding then moves a note by half of this at most
MOST_TICKS = 9_900_000  # pretty_midi refuses to read files of more than ten million ticks
LATEST = 360_000.0  # seconds

# Selecting the bend range takes three messages in this order: which parameter, its value, none. pretty_midi sorts the
# messages of one tick by controller number, so each step has a tick of its own, and bends wait for the last.
_BEND_RANGE_TICKS = 2

_FINGERPRINT = re.compile(rb"\xff\x01([\x80-\xff]{0,3}[\x00-\x7f])" + re.escape(FINGERPRINT_PREFIX.encode()))


@dataclass(frozen=True, slots=True)
class MidiResult:
    """A MIDI file in memory.

    Attributes
    ----------
    midi : pretty_midi.PrettyMIDI
        One instrument per channel, times in seconds, already rounded to ticks.
    warnings : tuple of str
        What could not be written as it was.
    """

    midi: pretty_midi.PrettyMIDI
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Voice:
    """A note in ticks. ``bends`` are steps of (tick, 14-bit value), none of them redundant."""

    start: int
    end: int
    pitch: int
    velocity: int
    bend: PitchBend | None
    bends: list[tuple[int, int]]


def to_midi(
    notes: Iterable[Note], settings: MidiSettings | None = None, *, title: str = "", fingerprint: str = ""
) -> MidiResult:
    """Arrange notes as a MIDI file.

    Notes that do not end after they begin are left out, velocities are limited to 1 to 127, the earlier of two
    overlapping notes of one pitch is cut. A note keeps its bend if no other note sounds on its channel meanwhile (30 ms
    at its edges are forgiven); with ``multiple_pitch_bends`` every bending note finds a channel of its own, as long as
    the fifteen last, and after that plays unbent.

    Parameters
    ----------
    notes : iterable of Note
        In any order. Times in seconds up to 100 hours; negative ones count as 0.
    settings : MidiSettings, optional
        Tempo, program, and whether bending notes get channels of their own.
    title : str
        Track name; ``basic_transcribe`` if empty.
    fingerprint : str
        Stored as text, for :func:`read_fingerprint`.

    Returns
    -------
    MidiResult

    Raises
    ------
    ValueError
        If a time, velocity or bend is not finite, or a pitch lies outside 0 to 127.
    """
    import pretty_midi

    settings = settings or MidiSettings()
    notes = list(notes)
    warnings: list[str] = []
    for note in notes:
        _check(note)

    # The file holds whole microseconds per beat. Taking another tempo than the file's would let long recordings drift.
    # The added millionth keeps pretty_midi's truncation from losing one.
    tempo = 6e7 / (round(6e7 / settings.tempo) + 1e-6)
    resolution = _resolution(tempo, max((note.offset for note in notes), default=0.0))
    rate = resolution * tempo / 60
    if rate < 500:
        warnings.append(f"the recording is so long that MIDI times are rounded to {1000 / rate:.1f} ms")

    voices, dropped = _voices(notes, rate)
    if dropped:
        warnings.append(f"{dropped} of {len(notes)} notes had no length and were left out")
    bend_range, clamped = _bend_range(voices)
    if clamped:
        warnings.append(f"{clamped} of {len(notes)} notes bend by more than {bend_range} semitones and were limited")
    for voice in voices:
        if voice.bend is not None:
            voice.bends = _steps(voice.bend, voice.start, voice.end, rate, bend_range)
    if settings.multiple_pitch_bends:
        channels, unbent = _allocate(voices)
        if unbent:
            warnings.append(
                f"{unbent} of {len(voices)} notes lost their pitch bend or its end: more than {CHANNELS} voices at once"
            )
    else:
        _unbend_overlapping(voices, round(EDGE * rate))
        channels = [voices]

    title = "".join(c if c.isprintable() else "?" for c in title) or DEFAULT_TITLE
    midi = pretty_midi.PrettyMIDI(resolution=resolution, initial_tempo=tempo, charset="utf-8")
    if fingerprint:
        midi.text_events.append(pretty_midi.Text(FINGERPRINT_PREFIX + fingerprint, 0.0))
    for number, channel in enumerate(channels, 1):
        name = title if len(channels) == 1 else f"{title} ({number})"
        instrument = pretty_midi.Instrument(settings.program, name=name)
        instrument.notes = [pretty_midi.Note(v.velocity, v.pitch, v.start / rate, v.end / rate) for v in channel]
        instrument.pitch_bends = [pretty_midi.PitchBend(value, tick / rate) for tick, value in _bend_track(channel)]
        if instrument.pitch_bends:
            selection = [(101, 0, 0), (100, 0, 0), (6, bend_range, 1), (38, 0, 1), (101, 127, 2), (100, 127, 2)]
            instrument.control_changes = [pretty_midi.ControlChange(n, v, tick / rate) for n, v, tick in selection]
        midi.instruments.append(instrument)
    return MidiResult(midi, tuple(warnings))


def to_bytes(midi: pretty_midi.PrettyMIDI) -> bytes:
    """The contents of a Standard MIDI File, type 1."""
    buffer = BytesIO()
    midi.write(buffer)
    return buffer.getvalue()


def read_fingerprint(path: str | Path) -> str | None:
    """The fingerprint given to :func:`to_midi`, from a file it made.

    Reads the beginning of the file only, and parses no MIDI.

    Returns
    -------
    str or None
        None if the file cannot be read, is no MIDI file, or holds no fingerprint.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(65536)
    except OSError:
        return None
    return find_fingerprint(head)


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


def _check(note: Note) -> None:
    if not (math.isfinite(note.onset) and math.isfinite(note.offset) and math.isfinite(note.velocity)):
        raise ValueError(f"a note has a time or velocity that is not finite: {note}")
    if max(note.onset, note.offset) > LATEST:
        raise ValueError(f"a note lies beyond {LATEST:.0f} s: {note}")
    if not 0 <= note.pitch <= 127:
        raise ValueError(f"a note has a pitch outside 0 to 127: {note}")
    if note.bend is not None:
        finite = math.isfinite(note.bend.start) and bool(np.isfinite(note.bend.semitones).all())
        if not finite or not 0 < note.bend.step < math.inf:
            raise ValueError(f"a note has a bend that is not finite, or its step is not positive: {note}")


def _resolution(tempo: float, seconds: float) -> int:
    """Ticks per beat: fine enough for the ear, coarse enough for readers of long files."""
    fine = RESOLUTION * math.ceil(60 / (tempo * RESOLUTION * LONGEST_TICK))
    coarse = math.floor(MOST_TICKS * 60 / (tempo * seconds)) if seconds > 0 else fine
    return max(1, min(fine, coarse))


def _voices(notes: list[Note], rate: float) -> tuple[list[_Voice], int]:
    """Notes in ticks, sorted, one pitch never overlapping itself; and how many had no length."""
    lasting = [note for note in notes if note.offset > max(note.onset, 0.0)]
    voices = []
    for note in lasting:
        start = round(max(note.onset, 0.0) * rate)
        end = max(round(note.offset * rate), start + 1)
        velocity = min(max(round(note.velocity), 1), 127)
        voices.append(_Voice(start, end, int(note.pitch), velocity, note.bend, []))
    voices.sort(key=lambda v: (v.start, v.pitch, v.end, v.velocity))
    previous: dict[int, _Voice] = {}
    for voice in voices:
        if voice.pitch in previous:
            earlier = previous[voice.pitch]
            earlier.end = min(earlier.end, voice.start)
        previous[voice.pitch] = voice
    return [voice for voice in voices if voice.end > voice.start], len(notes) - len(lasting)


def _bend_range(voices: list[_Voice]) -> tuple[int, int]:
    """The bend range in semitones, and how many notes exceed it."""
    peaks = [float(np.abs(v.bend.semitones).max()) for v in voices if v.bend is not None and len(v.bend.semitones)]
    widest = max(peaks, default=0.0)
    chosen = next((r for r in BEND_RANGES if widest <= r), BEND_RANGES[-1])
    return chosen, sum(peak > chosen for peak in peaks)


def _steps(bend: PitchBend, start: int, end: int, rate: float, bend_range: int) -> list[tuple[int, int]]:
    """A bend as (tick, value) within a note, from zero, without changes too small to hear.

    The note begins with the value in force at its onset, and holds the last value to its end.
    """
    ticks = np.rint(bend.times * rate)
    first = max(int(np.searchsorted(ticks, start, side="right")) - 1, 0)
    last = int(np.searchsorted(ticks, end, side="left"))
    ticks = np.maximum(ticks[first : max(last, first + 1)], start)
    ticks[:1] = start
    scaled = bend.semitones[first : first + len(ticks)].astype(np.float64) * (8192 / bend_range)
    values = np.clip(np.rint(scaled), -8192, 8191)
    least = BEND_STEP * 8192 / bend_range
    steps: list[tuple[int, int]] = []
    current = 0.0
    for tick, value in zip(ticks.tolist(), values.tolist(), strict=True):
        if abs(value - current) >= least:
            steps.append((int(tick), int(value)))
            current = value
    return steps


def _unbend_overlapping(voices: list[_Voice], edge: int) -> None:
    """Take the bends from notes that others sound through, but for ``edge`` ticks at their ends.

    ``voices`` are sorted by start, so the latest end so far and the next start tell of all others.
    """
    latest = 0
    for voice, following in zip_longest(voices, voices[1:]):
        forgiven = min(edge, (voice.end - voice.start) // 2)
        until = following.start if following else voice.end
        if latest > voice.start + forgiven or until < voice.end - forgiven:
            voice.bends = []
        latest = max(latest, voice.end)


def _allocate(voices: list[_Voice]) -> tuple[list[list[_Voice]], int]:
    """Give every bending voice a channel of its own; unbent ones may share.

    When all channels bend, the newcomer plays unbent, and the voice that would end first gives up the rest of its bend
    to it. No note is lost or cut.

    Returns
    -------
    channels : list of list of _Voice
        Those used, at least one, at most ``CHANNELS``; each sorted by start.
    unbent : int
        Voices that lost their bend or the end of it.
    """
    channels: list[list[_Voice]] = [[] for _ in range(CHANNELS)]
    sounding = [0] * CHANNELS  # until which tick
    bending = [0] * CHANNELS
    unbent = 0
    for voice in voices:
        free = [c for c in range(CHANNELS) if sounding[c] <= voice.start]
        if voice.bends and not free:
            voice.bends = []
            unbent += 1
        shared = [] if voice.bends else [c for c in range(CHANNELS) if bending[c] <= voice.start < sounding[c]]
        if shared or free:
            channel = (shared or free)[0]
        else:
            channel = min(range(CHANNELS), key=bending.__getitem__)
            unbent += 1
        channels[channel].append(voice)
        sounding[channel] = max(sounding[channel], voice.end)
        bending[channel] = voice.end if voice.bends else voice.start
    return [channel for channel in channels if channel] or [[]], unbent


def _bend_track(voices: list[_Voice]) -> list[tuple[int, int]]:
    """The bends of one channel, one at most per tick, back at zero after each note.

    A note that begins takes the channel over, so the bend of the one before ends there.
    """
    track: dict[int, int] = {}
    for voice, following in zip_longest(voices, voices[1:]):
        stop = min(voice.end, following.start) if following else voice.end
        for tick, value in voice.bends:
            if max(tick, _BEND_RANGE_TICKS) < stop:
                track[max(tick, _BEND_RANGE_TICKS)] = value
        if voice.bends and stop >= _BEND_RANGE_TICKS:
            track[stop] = 0
    changes: list[tuple[int, int]] = []
    for tick, value in track.items():
        if value != (changes[-1][1] if changes else 0):
            changes.append((tick, value))
    return changes
