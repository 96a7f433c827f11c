"""What a musician does to notes that have been found: joins, cuts, thins out, tunes to a scale, aligns to the beat."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from .errors import UsageError
from .keys import Scale, parse_scale, pitch_name
from .timing import gathered, quantize
from .types import Beats, Marker, Note, PitchBend, check_kinds

SCALE_MODES = ("snap", "drop", "mark")
LOWEST, HIGHEST = 21, 108  # pitches that a note may be moved to
USEFUL = 0.05  # seconds a note must have sounded to be cut rather than left out
ASIDE = 0.2  # semitones by which a note must sound off its pitch to be taken to that side; less is no intention
TAIL = 0.5  # seconds: the less of a note than this is still to come, the sooner it yields
QUIET, LOUD = 5, 95  # percentiles of the velocities that are moved to the ends of the range


@dataclass(frozen=True, slots=True)
class ShapeSettings:
    """What to do to notes; nothing, if all is left as it is. The steps are taken in this order.

    Attributes
    ----------
    scale : str, optional
        Such as ``C minor`` or ``D dorian`` (:func:`keys.parse_scale`).
    scale_mode : str
        What becomes of notes off the scale. ``snap``: moved to the nearest pitch of the scale, of two to the one
        towards which they sound, by 20 cents at least, else to the lower; their bends are centred on it. ``drop``:
        left out. ``mark``: kept, and marked with ``off scale F#4``.
    legato : float
        Milliseconds, 0 to 10000: notes of one pitch that follow each other more closely than this become one, struck
        again or not.
    quantize : Fraction, optional
        The grid, as a part of a whole note: 1/16 is a sixteenth. Needs beats.
    strength, swing : float
        How far notes are moved towards the grid, 0 to 1, and how late its every second line is
        (:func:`timing.quantize`).
    staccato : float, optional
        Milliseconds, 10 to 60000: longer notes are cut to this.
    polyphony : int, optional
        At no moment do more notes sound; the weakest yield.
    velocity_curve : float
        0.1 to 10; velocity ``v`` becomes ``127 * (v / 127) ** velocity_curve``, so that more than 1 makes soft notes
        softer.
    velocity_range : tuple of int, optional
        Softest and loudest velocity, 1 to 127: the 5th to 95th percentile of the recording are moved there, and what is
        beyond them no further. Two equal ends make all notes alike.
    mark_below : float, optional
        0 to 1; notes of less confidence are marked with ``? F#4 0.41``.

    Raises
    ------
    UsageError
        If a value is out of range or of another kind.
    """

    scale: str | None = None
    scale_mode: str = "snap"
    legato: float = 0.0
    quantize: Fraction | None = None
    strength: float = 1.0
    swing: float = 0.0
    staccato: float | None = None
    polyphony: int | None = None
    velocity_curve: float = 1.0
    velocity_range: tuple[int, int] | None = None
    mark_below: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.scale_mode, str) or self.scale_mode not in SCALE_MODES:
            raise UsageError(f"scale_mode is {self.scale_mode}; it must be {', '.join(SCALE_MODES)}")
        check_kinds(self)
        if self.scale is not None:
            parse_scale(self.scale)
        if not 0 <= self.legato <= 10_000:
            raise UsageError(f"legato is {self.legato} ms; it must lie between 0 and 10000")
        if self.quantize is not None and not 0 < self.quantize <= 4:
            raise UsageError(f"quantize is {self.quantize}; give a part of a whole note, such as 1/16")
        if not 0 <= self.strength <= 1:
            raise UsageError(f"strength is {self.strength}; it must lie between 0 and 1")
        if not 0 <= self.swing <= 1:
            raise UsageError(f"swing is {self.swing}; it must lie between 0 and 1")
        if self.staccato is not None and not 10 <= self.staccato <= 60_000:
            raise UsageError(f"staccato is {self.staccato} ms; it must lie between 10 and 60000")
        if self.polyphony is not None and self.polyphony < 1:
            raise UsageError(f"polyphony is {self.polyphony}; at least one note must be able to sound")
        if not 0.1 <= self.velocity_curve <= 10:
            raise UsageError(f"velocity_curve is {self.velocity_curve}; it must lie between 0.1 and 10")
        if self.velocity_range is not None and not 1 <= self.velocity_range[0] <= self.velocity_range[1] <= 127:
            low, high = self.velocity_range
            raise UsageError(f"velocity_range is {low} to {high}; give softest and loudest, both from 1 to 127")
        if self.mark_below is not None and not 0 <= self.mark_below <= 1:
            raise UsageError(f"mark_below is {self.mark_below}; it must lie between 0 and 1")


@dataclass(frozen=True, slots=True)
class Shaped:
    """Notes in their new shape.

    Attributes
    ----------
    notes : tuple of Note
        Sorted by onset, then pitch.
    markers : tuple of Marker
        Remarks on them, sorted by time.
    joined : int
        How many notes came to the same point of the grid as another of their pitch, and are one with it.
    gathered : int
        How many came to the same point as notes of other pitches that were played before them
        (:func:`timing.gathered`).
    """

    notes: tuple[Note, ...]
    markers: tuple[Marker, ...] = ()
    joined: int = 0
    gathered: int = 0


def shape(notes: Iterable[Note], settings: ShapeSettings, beats: Beats | None = None, tuning: float = 0.0) -> Shaped:
    """Give notes another shape.

    The order of the steps is that of the settings: pitches first, since they decide which notes belong together; then
    onsets; then lengths; then how many sound at once, which all of this changes; then velocities, so that the notes
    that yield are the weakest as found. What a limit says therefore holds for the notes that are returned.

    Parameters
    ----------
    notes : iterable of Note
        Sorted by onset, then pitch; no two of one pitch overlap.
    settings : ShapeSettings
        The neutral ones return the notes as they are.
    beats : Beats, optional
        The grid to quantise on.
    tuning : float
        Cents above A = 440 Hz that bends are centred on.

    Returns
    -------
    Shaped
        Notes as sorted and as free of overlaps as those given.

    Raises
    ------
    UsageError
        If notes are to be quantised and there are no beats.
    """
    shaped, joined, together = list(notes), 0, 0
    scale = parse_scale(settings.scale) if settings.scale is not None else None
    if scale and settings.scale_mode == "snap":
        shaped = _snap(shaped, scale, tuning / 100)
    if scale and settings.scale_mode == "drop":
        shaped = [note for note in shaped if note.pitch in scale]
    if settings.legato:
        shaped = _join_close(shaped, settings.legato / 1000)
    if settings.quantize is not None:
        if beats is None:
            raise UsageError("quantising needs beats; give a tempo, or let it be found")
        if settings.strength == 1:
            together = gathered(shaped, beats, settings.quantize, settings.swing)
        joined = len(shaped)
        shaped = list(quantize(shaped, beats, settings.quantize, settings.strength, settings.swing))
        joined -= len(shaped)
    if settings.staccato is not None:
        shaped = [_cut(note, note.onset + settings.staccato / 1000) for note in shaped]
    if settings.polyphony is not None:
        shaped = _thin(shaped, settings.polyphony)
    if settings.velocity_curve != 1:
        shaped = [replace(n, velocity=_velocity(127 * (n.velocity / 127) ** settings.velocity_curve)) for n in shaped]
    if settings.velocity_range is not None:
        shaped = _spread(shaped, *settings.velocity_range)
    markers = [
        _doubtful(note) for note in shaped if settings.mark_below is not None and note.confidence < settings.mark_below
    ]
    if scale and settings.scale_mode == "mark":
        markers += [_off_scale(note) for note in shaped if note.pitch not in scale]
    return Shaped(tuple(shaped), tuple(sorted(markers)), joined, together)


def remarks(notes: Iterable[Note]) -> set[Marker]:
    """All markers that :func:`shape` could make of notes."""
    return {marker for note in notes for marker in (_doubtful(note), _off_scale(note))}


def _doubtful(note: Note) -> Marker:
    return Marker(note.onset, f"? {pitch_name(note.pitch)} {note.confidence:.2f}")


def _off_scale(note: Note) -> Marker:
    return Marker(note.onset, f"off scale {pitch_name(note.pitch)}")


# ---------------------------------------------------------------- scale


def _snap(notes: Sequence[Note], scale: Scale, tuning: float) -> list[Note]:
    """Notes moved to the nearest pitches of a scale, without overlaps.

    Of two that now begin together on one pitch the stronger stays. One that was moved into another is left out; any
    other that begins within another cuts it short.
    """
    allowed = [pitch for pitch in range(LOWEST, HIGHEST + 1) if pitch in scale]
    pairs = [(note if note.pitch in scale else _moved(note, allowed, tuning), note) for note in notes]
    last: dict[int, Note] = {}
    kept: list[Note] = []
    for note, found in sorted(pairs, key=lambda pair: (pair[0].onset, pair[0].pitch)):
        earlier = last.get(note.pitch)
        if earlier is not None and note.onset < earlier.offset:
            if note.onset - earlier.onset < USEFUL:
                if _strength(note) <= _strength(earlier):
                    continue
            elif note is not found and note.offset <= earlier.offset:
                continue
            else:
                kept.append(_cut(earlier, note.onset))
        elif earlier is not None:
            kept.append(earlier)
        last[note.pitch] = note
    return sorted([*kept, *last.values()], key=lambda n: (n.onset, n.pitch))


def _moved(note: Note, allowed: Sequence[int], tuning: float) -> Note:
    """The note on the nearest pitch allowed, of two the one it sounds towards, else the lower, its bend centred."""
    centre = 0.0 if note.bend is None else float(np.median(note.bend.semitones)) - tuning
    aside = centre if abs(centre) >= ASIDE else 0.0
    pitch = min(allowed, key=lambda p: (abs(p - note.pitch), abs(p - note.pitch - aside), p))
    bend = note.bend and replace(note.bend, semitones=note.bend.semitones - np.float32(centre))
    return replace(note, pitch=pitch, bend=bend)


# ---------------------------------------------------------------- lengths


def _join_close(notes: Sequence[Note], gap: float) -> list[Note]:
    """Notes of one pitch less than ``gap`` seconds apart made one."""
    groups: list[list[Note]] = []
    last: dict[int, list[Note]] = {}  # by pitch, the group that may go on
    for note in sorted(notes, key=lambda n: (n.onset, n.pitch)):
        group = last.get(note.pitch)
        if group is None or note.onset - group[-1].offset >= gap:
            group = last[note.pitch] = []
            groups.append(group)
        group.append(note)
    return [_joined(group) for group in groups]


def _joined(group: Sequence[Note]) -> Note:
    """Successive notes of one pitch as one note, as loud and as sure as the best of them."""
    first = group[0]
    if len(group) == 1:
        return first
    return replace(
        first,
        offset=group[-1].offset,
        velocity=max(note.velocity for note in group),
        confidence=max(note.confidence for note in group),
        bend=_joined_bend(group),
    )


def _joined_bend(group: Sequence[Note]) -> PitchBend | None:
    """The bends of successive notes as one on the grid of the first; in a pause the last value holds."""
    bends = [note.bend for note in group if note.bend is not None]
    if not bends:
        return None
    start, step = (group[0].onset if group[0].bend is None else bends[0].start), bends[0].step
    count = max(1, math.ceil((group[-1].offset - start) / step))
    grid = start + step * np.arange(count)
    semitones = np.zeros(count, np.float32)
    starts = [note.onset if note.bend is None else note.bend.start for note in group]
    begins = np.searchsorted(grid, np.array(starts) - step / 2).tolist()
    for note, begin, end in zip(group, begins, [*begins[1:], count], strict=True):
        if note.bend is None:
            semitones[begin:end] = 0
        else:
            semitones[begin:end] = np.interp(grid[begin:end], note.bend.times, note.bend.semitones)
    return PitchBend(start, step, semitones)


def _cut(note: Note, offset: float) -> Note:
    """The note, ending at ``offset`` at the latest, and its bend with it."""
    if note.offset <= offset:
        return note
    return replace(note, offset=offset, bend=note.bend and note.bend.until(offset))


# ---------------------------------------------------------------- polyphony


def _strength(note: Note) -> float:
    """How much a note counts against others: velocity times confidence."""
    return note.velocity * note.confidence


def _thin(notes: Sequence[Note], most: int) -> list[Note]:
    """Notes of which at no moment more than ``most`` sound.

    Where one too many begins, that one yields whose loss is least: the strength of the note, and where enough of it has
    been heard, only the part of it that is still to come.
    """
    kept: list[Note | None] = []
    sounding: list[tuple[int, Note]] = []
    for note in sorted(notes, key=lambda n: (n.onset, n.pitch)):
        now = note.onset
        sounding = [(i, other) for i, other in sounding if other.offset > now]
        sounding.append((len(kept), note))
        kept.append(note)
        if len(sounding) > most:
            place = min(range(len(sounding)), key=lambda k: _loss(sounding[k][1], now))
            index, weakest = sounding.pop(place)
            kept[index] = _cut(weakest, now) if now - weakest.onset >= USEFUL else None
    return [note for note in kept if note is not None]


def _loss(note: Note, now: float) -> float:
    """What it costs to end a note now."""
    heard = now - note.onset >= USEFUL
    return _strength(note) * (min(1.0, (note.offset - now) / TAIL) if heard else 1.0)


# ---------------------------------------------------------------- velocity


def _spread(notes: Sequence[Note], low: int, high: int) -> list[Note]:
    """Velocities moved linearly, so that all but the softest and loudest few fill a range."""
    if not notes:
        return []
    quiet, loud = np.percentile([note.velocity for note in notes], (QUIET, LOUD)).tolist()
    if quiet == loud:
        return [replace(note, velocity=_velocity((low + high) / 2)) for note in notes]
    slope = (high - low) / (loud - quiet)
    return [
        replace(note, velocity=_velocity(min(high, max(low, low + slope * (note.velocity - quiet))))) for note in notes
    ]


def _velocity(value: float) -> int:
    return min(127, max(1, round(value)))
