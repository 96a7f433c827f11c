"""Notes to a score in MusicXML: a quantised rhythm, staves, voices, rests, ties, beams and names of notes.

A score is made to be read, so it says less than the recording. Notes struck together become chords on the grid; what
rings on is cut where its voice goes on, unless it is held long enough for a voice of its own; small gaps are closed.

Onsets are kept, to the nearest division; ends are not. The file is MusicXML 4.0 (W3C), written with the standard
library: what is hard is the layout, which no library does for notes like these.
"""

from __future__ import annotations

import bisect
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from itertools import compress, groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError
from .timing import beat_position
from .types import Beats, Key, Note

TOGETHER = 0.04  # seconds from its first note within which a chord is struck
GRACE_STEP = 4  # semitones at most from a grace note to the note it leads to
GRACE_OVERLAP = 0.06  # quarters that it may sound into that note
GRACE_LENGTH, SECOND = 0.1, 2  # seconds, semitones: of one that has been moved to its main note, at most
MOST_BARS = 20_000
MOST_TICKS = 24  # in a quarter note
SPLITS = np.arange(48, 73)  # lowest pitch of the upper of two staves: where it may lie
# What it costs to begin with triplets, in squared quarters: as much as two onsets, nearly, on the wrong grid. Rendered
# swing and triplets are right with less, too, but straight music that is played loosely is not. Where both inner thirds
# are struck it is less: a sixteenth, an eighth and a sixteenth lie far enough from them.
TRIPLETS_BEGIN, FULL_TRIPLET_BEGINS = 0.0125, 0.006
ONE_SPAN = 14  # semitones a hand reaches
CONNECTED = 7  # semitones: the widest step that holds a line together
PITCHES = range(132)  # MusicXML has the octaves 0 to 9

# Sign, line, octaves up.
_CLEFS = {"treble": ("G", 2, 0), "alto": ("C", 3, 0), "bass": ("F", 4, 0), "tenor": ("G", 2, -1), "low": ("F", 4, -1)}
# Clefs for any instrument: the pitches that stay near the staff; whether only for a single line.
_REACH = {"treble": (range(55, 94), False), "bass": (range(28, 65), False), "tenor": (range(43, 80), True)}
# Clefs of instruments that are always written in one, by General MIDI program: guitars, basses, bowed strings, brass,
# reeds, flutes, bars, banjo and fiddle.
_USUAL = {
    **dict.fromkeys((9, 13, 40, 56, 59, 60, *range(64, 70), 71, 72, 73, 74, 110), "treble"),
    41: "alto",
    **dict.fromkeys((42, 57, 58, 70), "bass"),
    **dict.fromkeys((*range(24, 32), 105), "tenor"),
    **dict.fromkeys((*range(32, 40), 43), "low"),
}
_TWO_STAVES = frozenset((*range(8), *range(16, 21), 46))  # treble and bass: pianos, clavinet, organs, harp
# Steps, semitones and octaves from what is written to what sounds, by program, where they differ. Guitars and basses
# are not here, since their clefs say the octave.
_TRANSPOSING = {
    **dict.fromkeys((56, 59, 64, 71), (-1, -2, 0)),  # in B flat: trumpet, also muted, soprano saxophone, clarinet
    65: (-5, -9, 0),  # alto saxophone
    66: (-1, -2, -1),  # tenor saxophone
    67: (-5, -9, -1),  # baritone saxophone
    **dict.fromkeys((60, 69), (-4, -7, 0)),  # in F: horn, English horn
    **dict.fromkeys((8, 13, 72), (0, 0, 1)),  # celesta, xylophone, piccolo
    9: (0, 0, 2),  # glockenspiel
}
_LEGIBLE = range(21, 130)  # MIDI pitches that transposed notes may be written at
_TYPES: dict[Fraction, str] = {
    Fraction(8): "breve",
    Fraction(4): "whole",
    Fraction(2): "half",
    Fraction(1): "quarter",
    Fraction(1, 2): "eighth",
    **{Fraction(1, 2**k): name for k, name in enumerate(("16th", "32nd", "64th", "128th", "256th"), 2)},
}
_SWINGING = (Fraction(1, 8), Fraction(1, 16))  # divisions that MusicXML can tell programs to swing
_FLAGS = {name: flags for flags, name in enumerate(list(_TYPES.values())[4:], 1)}  # and beams
_VALUES = {q: (name, 0) for q, name in _TYPES.items()} | {q * 3 / 2: (name, 1) for q, name in _TYPES.items()}
_ACCIDENTALS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}
_DOCTYPE = (
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" '
    '"http://www.musicxml.org/dtds/partwise.dtd">'
)


@dataclass(frozen=True, slots=True)
class _Metre:
    """Lengths in ticks; a tick is one division. Tick 0 is the first beat.

    ``sizes`` are the cells that a bar divides into, each a part of the one before, down to the smallest that needs no
    tuplet. ``grid`` is that smallest one: 1, or 3 where the division is one of a triplet. Notes begin at multiples of
    ``step``, but in the quarters that ``triplets`` names, counted from tick 0, at thirds.
    """

    quarter: int
    beat: int
    bar: int
    first: int  # of bar lines
    sizes: tuple[int, ...]
    grid: int
    step: int = 1
    triplets: frozenset[int] = frozenset()

    def in_triplet(self, tick: float) -> bool:
        return tick // self.quarter in self.triplets

    def step_at(self, tick: float) -> int:
        """Distance of the places where notes may begin, there."""
        return self.quarter // 3 if self.in_triplet(tick) else self.step

    def fine(self, tick: int) -> int:
        """The part of a beat, there: a half, or a third in compound metres and triplets."""
        if self.in_triplet(tick):
            return self.quarter // 3
        return next((size for size in self.sizes if size < self.beat), self.beat)

    def nearest(self, tick: float) -> int:
        """The nearest place where notes may begin."""
        step = self.step_at(tick)
        return step * math.floor(tick / step + 0.5)


@dataclass(slots=True)
class _Sound:
    """A quantised note, in ticks."""

    start: int
    end: int
    pitch: int
    again: float = math.inf  # when the next one of its pitch starts
    graces: tuple[tuple[int, int], ...] = ()  # that lead to it: for each its place in their order, and its pitch


@dataclass(slots=True)
class _Chord:
    """Notes of one voice that begin and end together, in ticks, and the grace notes before them."""

    start: int
    end: int
    pitches: tuple[int, ...]
    graces: tuple[tuple[int, ...], ...] = ()


@dataclass(slots=True)
class _Piece:
    """What one symbol of the score says: a chord, or a rest if it has no pitches. Positions in ticks within its bar.

    That of grace notes takes no time.
    """

    start: int
    end: int
    pitches: tuple[int, ...] = ()
    type: str = ""  # empty for a rest of a whole bar
    dots: int = 0
    tied_from: bool = False
    tied_to: bool = False
    tuplet: tuple[int, int] | None = None  # where the tuplet around it begins and ends
    beams: list[str] = field(default_factory=list)


def notes_to_musicxml(
    notes: Iterable[Note],
    *,
    beats: Beats,
    key: Key | None = None,
    title: str = "",
    division: Fraction | None = None,
    swing: float = 0.0,
    program: int | None = None,
) -> bytes:
    """Arrange notes as a score.

    Onsets are rounded to the division on the grid of the beats, and the notes of a chord that are struck within 40 ms
    are rounded together. A note ends where the next one of its voice begins unless a rest of some length is between
    them; a staff has a second voice where a note is held below or above others that move. A short note that leads to
    another and has no place of its own on the grid is a grace note. Bars before the first note are left out, and the
    silence in its own bar too if that is half of the bar or lies before ``beats.downbeat``: a pick-up. Pitch bends are
    not written.

    Parameters
    ----------
    notes : iterable of Note
        In any order.
    beats : Beats
        Bars, time signature and tempo. They go on evenly before the first beat and after the last.
    key : Key, optional
        Of the sound. It gives the key signature, and how notes are named; without it there are no sharps and flats in
        the signature.
    title : str
        Of the piece.
    division : Fraction, optional
        Shortest note value, as a fraction of a whole note, up to 1/64, or with triplets up to 1/96. One that does not
        divide the beat is halved until it does. Without it quarters are divided into sixteenths or a triplet of
        eighths, whichever is nearer to the notes; in compound metres, and those of shorter beats, into sixteenths.
    swing : float
        With a division, how late every second step of it was played, as in :func:`timing.quantize`; written evenly,
        with a word at the beginning that says so.
    program : int, optional
        General MIDI program, 0 to 127. It names the part and, of instruments that are always written so (guitars,
        basses, violins and the like), chooses the clef; keyboards and the harp have two staves. Transposing instruments
        (trumpet and clarinet in B flat, saxophones, horns in F, piccolo and the like) have their notes and key as their
        players read them. Without it the clefs are those that suit the range.

    Returns
    -------
    bytes
        MusicXML, UTF-8. The same notes give the same bytes.

    Raises
    ------
    UsageError
        If there is no such note value or no such metre, or the beats are so close that there would be more than
        20,000 bars.
    """
    metre = _metre(beats, division)
    pair = 8 * float(division) / beats.quarters if division else 0.0
    struck = _struck(notes, beats, metre, lambda places: _evenly(places, beats.downbeat, pair, swing))
    if metre.step > 1:
        metre = replace(metre, triplets=_triplets([onset / metre.quarter for onset, _ in struck]))
    sounds = _quantise(struck, metre)
    # Where no note begins at a third, none should end there.
    metre = replace(metre, triplets=frozenset(s.start // metre.quarter for s in sounds if s.start % metre.step))
    sounds, key, transposition = _transposed(sounds, key, program)
    staves = [(clef, _voices(part, metre)) for clef, part in _staves(sounds, program)]
    bars = _bars([chord for _, voices in staves for voice in voices for chord in voice], metre)
    layout = [[[_bar_of(v, *bar, metre, main=v is voices[0]) for bar in bars] for v in voices] for _, voices in staves]
    clefs = [clef for clef, _ in staves]
    return _write(clefs, layout, bars, metre, beats, key, title, program, transposition, division, swing)


# -------------------------------------------------------------------------------------------------------------- rhythm


def _metre(beats: Beats, chosen: Fraction | None) -> _Metre:
    mixed = chosen is None and beats.quarters in (1, 2, 4)
    division = Fraction(1, 48 if mixed else 16) if chosen is None else Fraction(chosen)
    ticks = 1 / (4 * division) if division > 0 else Fraction(0)
    quarters = Fraction(beats.quarters).limit_denominator(64)

    def grid() -> int:
        return 3 if ticks % 3 == 0 else 1

    while 0 < ticks < MOST_TICKS and (ticks.denominator > 1 or quarters * ticks % grid()):
        ticks *= 2
    beat = quarters * ticks
    if ticks not in (1, 2, 4, 8, 16, 3, 6, 12, 24) or beat % grid():
        raise UsageError(f"no bars can be written with the division {division}; give 1/4 to 1/64, or 1/12 to 1/96")
    bar = int(beat) * beats.per_bar
    parts = [*_factors(beats.per_bar), *_factors(int(beat) // grid())[::-1]]
    sizes = [bar]
    for part in parts:
        sizes.append(sizes[-1] // part)
    return _Metre(int(ticks), int(beat), bar, beats.downbeat * int(beat), tuple(sizes), grid(), grid() if mixed else 1)


def _factors(n: int) -> list[int]:
    """Prime factors in increasing order."""
    found = []
    for p in range(2, n + 1):
        while n % p == 0:
            found.append(p)
            n //= p
    return found


def _evenly(places: NDArray[np.float64], downbeat: int, pair: float, swing: float) -> NDArray[np.float64]:
    """Places in beats as if no second step of each pair, so many beats long, had been late."""
    if not (pair and swing):
        return places
    long = (1 + 2 * swing) / (2 + 2 * swing)  # share of the first step
    pairs, within = np.divmod((places - downbeat) / pair, 1)
    return downbeat + pair * (pairs + np.where(within < long, within / (2 * long), 1 - (1 - within) / (2 - 2 * long)))


def _struck(
    notes: Iterable[Note], beats: Beats, metre: _Metre, even: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> list[tuple[float, list[tuple[int, float]]]]:
    """Notes struck together: their mean onset, the pitch and the end of each, in ticks, not yet on the grid.

    A grace note that :func:`timing.quantize` has moved to its main note comes before it, with no length.
    """
    ordered = sorted((n for n in notes if n.offset > n.onset), key=lambda n: (n.onset, n.pitch))
    places = beat_position(beats, [(n.onset, n.offset) for n in ordered])
    where = (even(places) * metre.beat).reshape(-1, 2).tolist()
    if where and max(e for _, e in where) - min(s for s, _ in where) > MOST_BARS * metre.bar:
        raise UsageError(f"the beats are so close that the score would have more than {MOST_BARS} bars; give others")
    groups = []
    first = 0
    for i in range(1, len(ordered) + 1):
        apart = i == len(ordered) or ordered[i].onset > ordered[first].onset + TOGETHER
        if apart or where[i][0] >= where[first][0] + metre.step / 2:
            onset = float(np.mean([s for s, _ in where[first:i]]))
            leading = [_leads(note, ordered[first:i]) for note in ordered[first:i]]
            if any(leading):
                groups.append((onset, [(note.pitch, onset) for note in compress(ordered[first:i], leading)]))
            groups.append((onset, [(ordered[k].pitch, where[k][1]) for k in range(first, i) if not leading[k - first]]))
            first = i
    return groups


def _leads(note: Note, chord: Sequence[Note]) -> bool:
    """Whether a note is so short beside one a second away, with the very same onset, that it was a grace note."""
    length = note.offset - note.onset
    return length <= GRACE_LENGTH and any(
        other.onset == note.onset
        and 0 < abs(other.pitch - note.pitch) <= SECOND
        and other.offset - other.onset >= 2 * length
        for other in chord
    )


def _triplets(onsets: Sequence[float]) -> frozenset[int]:
    """The quarters to be divided in three, given onsets in quarters: what moves the onsets least (Viterbi)."""
    even, triple = 0.0, math.inf  # cost of the best way until here that ends in sixteenths, or in a triplet
    ways: list[tuple[int, bool, bool]] = []
    for quarter, within in groupby(onsets, key=math.floor):
        places = np.array(list(within))
        to_even, to_triple = (float(((places - np.round(places * n) / n) ** 2).sum()) for n in (4, 3))
        full = {1, 2} <= {round(3 * (place - quarter)) for place in places.tolist()}
        begin = even + (FULL_TRIPLET_BEGINS if full else TRIPLETS_BEGIN)
        ways.append((quarter, triple < even, triple < begin))
        even, triple = min(even, triple) + to_even, min(begin, triple) + to_triple
    found = set()
    in_triplet = triple < even
    for quarter, triplet_before_even, triplet_before_triplet in reversed(ways):
        if in_triplet:
            found.add(quarter)
        in_triplet = triplet_before_triplet if in_triplet else triplet_before_even
    return frozenset(found)


def _quantise(struck: list[tuple[float, list[tuple[int, float]]]], metre: _Metre) -> list[_Sound]:
    """Notes on the grid, sorted, none of a pitch overlapping another of it.

    One that ends where a neighbour on the same tick begins, a few semitones away, is a grace note.
    """
    sounds: dict[tuple[int, int], int] = {}
    graces: list[tuple[int, int, int]] = []  # tick, order, pitch
    starts = [metre.nearest(onset) for onset, _ in struck]
    for i, (start, (_, notes)) in enumerate(zip(starts, struck, strict=True)):
        after, main = struck[i + 1] if start in starts[i + 1 : i + 2] else (-math.inf, [])
        for pitch, end in notes:
            steps = [abs(pitch - other) for other, _ in main]
            if end <= after + GRACE_OVERLAP * metre.quarter and 0 < min(steps) <= GRACE_STEP:
                graces.append((start, i, pitch))
                continue
            shortest = start + metre.step_at(start)
            sounds[start, pitch] = max(sounds.get((start, pitch), shortest), metre.nearest(end))
    following: dict[int, int] = {}
    found: dict[int, list[_Sound]] = {}
    for start, pitch in sorted({*sounds, *((start, pitch) for start, _, pitch in graces)}, reverse=True):
        if (start, pitch) in sounds:
            again = following.get(pitch, math.inf)
            end = int(min(sounds[start, pitch], again))
            found.setdefault(start, []).append(_Sound(start, end, pitch, again))
        following[pitch] = start
    for start, order, pitch in graces:
        nearest = min(found[start], key=lambda s: abs(s.pitch - pitch))
        nearest.graces += ((order, pitch),)
    return [sound for start in reversed(found) for sound in reversed(found[start])]


def _bars(chords: list[_Chord], metre: _Metre) -> list[tuple[int, int]]:
    """Where each bar begins and ends, from the first that has a note; that one may be a pick-up."""
    first = min((c.start for c in chords), default=metre.first)
    last = max((c.end for c in chords), default=first + 1)
    silence = (first - metre.first) % metre.bar
    lines = list(range(first - silence, last + metre.bar, metre.bar))
    if first < metre.first or 2 * silence >= metre.bar:
        lines[0] += silence - silence % (metre.quarter if metre.in_triplet(first) else metre.fine(first))
    return list(pairwise(lines))


# -------------------------------------------------------------------------------------------------- staves and voices


def _transposed(
    sounds: list[_Sound], key: Key | None, program: int | None
) -> tuple[list[_Sound], Key | None, tuple[int, int, int]]:
    """Notes and key as the player reads them, and the steps, semitones and octaves from there to what sounds.

    All stay as they sound where a note would be out of range.
    """
    transposition = (0, 0, 0) if program is None else _TRANSPOSING.get(program, (0, 0, 0))
    rise = transposition[1] + 12 * transposition[2]
    if not all(pitch - rise in _LEGIBLE for s in sounds for pitch in (s.pitch, *(grace for _, grace in s.graces))):
        return sounds, key, (0, 0, 0)
    if key and rise % 12:
        key = Key((key.tonic - rise) % 12, key.mode)  # in the spelling that is easiest to read
    written = [
        replace(s, pitch=s.pitch - rise, graces=tuple((order, pitch - rise) for order, pitch in s.graces))
        for s in sounds
    ]
    return written, key, transposition


def _staves(sounds: list[_Sound], program: int | None) -> list[tuple[str, list[_Sound]]]:
    """One staff if the instrument has one or a clef fits, or an upper and a lower one."""
    if program in _TWO_STAVES:
        return _two_staves(sounds)
    if program in _USUAL:
        return [(_USUAL[program], sounds)]
    if not sounds:
        return [("treble", sounds)]
    low, high = (int(np.percentile([s.pitch for s in sounds], q, method="nearest")) for q in (2, 98))
    line = all(a.end <= b.start for a, b in pairwise(sounds))
    for name, (pitches, single) in _REACH.items():
        if low in pitches and high in pitches and (line or not single):
            return [(name, sounds)]
    return [(clef, part) for clef, part in _two_staves(sounds) if part]


def _two_staves(sounds: list[_Sound]) -> list[tuple[str, list[_Sound]]]:
    """One for each hand."""
    groups = [list(g) for _, g in groupby(sounds, key=lambda s: s.start)]
    splits = _splits([np.array([s.pitch for s in g]) for g in groups])
    upper = [s for g, split in zip(groups, splits, strict=True) for s in g if s.pitch >= split]
    lower = [s for g, split in zip(groups, splits, strict=True) for s in g if s.pitch < split]
    return [("treble", upper), ("bass", lower)]


def _splits(groups: list[NDArray[np.intp]]) -> list[int]:
    """For each chord the lowest pitch of its upper part, by dynamic programming.

    A note costs what it needs in ledger lines, a part what it is too wide for a hand, and it costs something to tear a
    line apart, to begin or cease to share chords between the hands, and to move the split.
    """
    moving = 0.3 * np.abs(SPLITS[:, None] - SPLITS[None, :])
    best = np.zeros(len(SPLITS))
    back: list[NDArray[np.intp]] = []
    previous: NDArray[np.intp] | None = None
    was_torn: NDArray[np.bool_] | None = None
    for pitches in groups:
        upper = pitches[None, :] >= SPLITS[:, None]
        cost = (np.clip(np.where(upper, 60 - pitches, pitches - 60), 0, None) ** 2 / 9).sum(1)
        for part in (upper, ~upper):
            top = np.where(part, pitches, -1000).max(1)
            bottom = np.where(part, pitches, 1000).min(1)
            cost = cost + np.clip(top - bottom - ONE_SPAN, 0, None)
        torn: NDArray[np.bool_] = (pitches.min() < SPLITS) & (pitches.max() >= SPLITS)
        cost = cost + 0.5 * torn * (np.ptp(pitches) <= ONE_SPAN)
        step = moving
        if len(pitches) > 2:
            if was_torn is not None:
                step = step + 2 * (was_torn[:, None] != torn[None, :])
            was_torn = torn
        if previous is not None:
            for edge in (0, -1):  # the lowest and the highest line
                if abs(pitches[edge] - previous[edge]) <= CONNECTED:
                    step = step + 2 * ((previous[edge] >= SPLITS)[:, None] != (pitches[edge] >= SPLITS)[None, :])
        total = best[:, None] + step
        back.append(total.argmin(0))
        best = total.min(0) + cost
        previous = pitches
    state = int(best.argmin())
    states = []
    for choice in reversed(back):
        states.append(state)
        state = int(choice[state])
    return [int(SPLITS[s]) for s in reversed(states)]


def _voices(sounds: list[_Sound], metre: _Metre) -> list[list[_Chord]]:
    """One or two voices of a staff, the main one first.

    The second is for notes that are held while others begin above them only, or below them only.
    """
    groups = [list(g) for _, g in groupby(sounds, key=lambda s: s.start)]
    starts = [g[0].start for g in groups]
    upper: list[list[_Sound]] = []
    lower: list[list[_Sound]] = []
    held, held_below = 0, True  # the innermost pitch that is held, and on which side
    until = -math.inf
    for i, group in enumerate(groups):
        lasting_below, lasting_above = _lasting(i, groups, starts, metre)
        if until <= starts[i]:
            held_below = bool(lasting_below) or not lasting_above
            below = lasting_below if held_below else [s for s in group if s.pitch < lasting_above[0].pitch]
            anew = True
        else:
            below = [s for s in group if s.pitch < held + held_below]
            anew = bool(below) if held_below else len(below) < len(group)
        above = [s for s in group if s not in below]
        if anew:
            holding = (
                [s for s in below if s in lasting_below] if held_below else [s for s in above if s in lasting_above]
            )
            held = (max if held_below else min)((s.pitch for s in holding), default=0)
            until = max((s.end for s in holding), default=-math.inf)
        upper += [above] if above else []
        lower += [below] if below else []
    return [_chords(voice, starts, metre) for voice in (upper, lower) if voice] or [[]]


def _lasting(i: int, groups: list[list[_Sound]], starts: list[int], metre: _Metre) -> tuple[list[_Sound], list[_Sound]]:
    """Notes of a chord that are held below, and above, all that begin meanwhile. Shorter tails are cut."""
    following = starts[i + 1] if i + 1 < len(starts) else math.inf
    below, above = [], []
    for sound in groups[i]:
        if sound.end - following < min(metre.beat, (sound.end - sound.start) / 2):
            sound.end = int(min(sound.end, following))
            continue
        during = [t.pitch for group in groups[i + 1 : bisect.bisect_left(starts, sound.end)] for t in group]
        if sound.pitch < min(during):
            below.append(sound)
        elif sound.pitch > max(during):
            above.append(sound)
    return below, above


def _chords(groups: list[list[_Sound]], starts: list[int], metre: _Metre) -> list[_Chord]:
    """The chords of a voice.

    Each ends by the next one; if it rings for more than a bar, when half of its notes have ended. If less than a beat
    is left until a chord of the staff begins, and it lasted for half of the time at least, it lasts until then;
    otherwise until the nearest half beat (a third in compound metres), or beat if it is long. None lasts until one of
    its pitches begins anew, in another voice perhaps.
    """
    chords = []
    for i, group in enumerate(groups):
        again = min(s.again for s in group)
        ends = sorted(s.end for s in group)
        start = group[0].start
        rings = ends[-1] if ends[-1] - start <= metre.bar else ends[len(ends) // 2]
        end = int(min(rings, again))
        if i + 1 < len(groups):
            end = min(end, groups[i + 1][0].start)
        following = bisect.bisect_left(starts, end)
        limit = min(again, starts[following] if following < len(starts) else math.inf)
        if limit - end < metre.beat and 2 * (limit - end) <= limit - start:
            end = int(limit)
        elif end < limit:
            unit = metre.fine(end) if end - start < 2 * metre.beat else metre.beat
            around = (end - end % unit, end - end % unit + unit)
            shortest = metre.fine(start)
            nearest = min(around, key=lambda tick: (abs(tick - end), tick % metre.beat))
            end = int(min(limit, max(nearest, start - start % shortest + shortest)))
        graces = groupby(sorted(grace for s in group for grace in s.graces), key=lambda grace: grace[0])
        before = tuple(tuple(pitch for _, pitch in struck) for _, struck in graces)
        chords.append(_Chord(start, end, tuple(s.pitch for s in group), before))
    return chords


# ---------------------------------------------------------------------------------------------------------------- bars


def _bar_of(voice: list[_Chord], start: int, end: int, metre: _Metre, *, main: bool) -> list[_Piece]:
    """What a voice says in a bar, without gaps; nothing if it is silent there and not the main one."""
    shift = metre.bar - end  # a pick-up is the end of a bar
    first = bisect.bisect_right(voice, start, key=lambda c: c.end)
    last = bisect.bisect_left(voice, end, key=lambda c: c.start)
    events = [
        (max(c.start, start) + shift, min(c.end, end) + shift, c.pitches, c.start < start, c.end > end)
        for c in voice[first:last]
    ]
    if not events:
        return [_Piece(start + shift, metre.bar)] if main else []
    filled: list[tuple[int, int, tuple[int, ...], bool, bool]] = []
    at = start + shift
    for event in [*events, (metre.bar, metre.bar, (), False, False)]:
        if event[0] > at:
            filled.append((at, event[0], (), False, False))
        filled.append(event)
        at = event[1]
    tuplets = _tuplets(sorted({e[0] for e in filled}), metre)
    edges = sorted({tick for tuplet in tuplets for tick in tuplet})
    pieces = []
    for s, e, pitches, tied_from, tied_to in filled[:-1]:
        cuts = [s, *(tick for tick in edges if s < tick < e), e]
        symbols = [symbol for a, b in pairwise(cuts) for symbol in _symbols(a, b, bool(pitches), tuplets, metre)]
        for symbol in symbols:
            symbol.pitches = pitches
            symbol.tied_from = bool(pitches) and (tied_from or symbol is not symbols[0])
            symbol.tied_to = bool(pitches) and (tied_to or symbol is not symbols[-1])
        pieces += symbols
    _beam(pieces, metre)
    graces = {
        at: [_Piece(at, at, pitches, "eighth") for pitches in c.graces]
        for at, c in ((c.start + shift, c) for c in voice[first:last])
    }
    return [symbol for piece in pieces for symbol in (*graces.get(piece.start, ()), piece)]


def _tuplets(boundaries: list[int], metre: _Metre) -> list[tuple[int, int]]:
    """The cells of a bar that must be written as triplets, for events to begin and end at these ticks."""
    if metre.grid == 1:
        return []
    values = (Fraction(size, metre.quarter) for size in metre.sizes)
    largest = int(next(value for value in values if value <= 1 and value in _TYPES) * metre.quarter)

    def within(start: int, size: int) -> list[tuple[int, int]]:
        inner = boundaries[bisect.bisect_right(boundaries, start) : bisect.bisect_left(boundaries, start + size)]
        if all(tick % metre.grid == 0 for tick in inner):
            return []
        middle = start + size // 2
        cut = start < boundaries[0]  # a pick-up begins within the cell: no tuplet has a part of it only
        if (cut or middle in inner) and size // 2 in metre.sizes:
            return within(start, size // 2) + within(middle, size // 2)
        return [(start, start + size)]

    half, found = 2 * metre.quarter, []
    for start in range(0, metre.bar, half) if half in metre.sizes else ():
        inner = [tick for tick in boundaries if start < tick < start + half]
        if start >= boundaries[0] and inner == [start + half // 3, start + 2 * half // 3]:
            found.append((start, start + half))  # three quarters in the time of two
    starts = sorted({tick - tick % largest for tick in boundaries})
    narrow = [start for start in starts if not any(a <= start < b for a, b in found)]
    return sorted([*found, *(tuplet for start in narrow for tuplet in within(start, largest))])


def _symbols(start: int, end: int, sounding: bool, tuplets: list[tuple[int, int]], metre: _Metre) -> list[_Piece]:
    """Note or rest values that fill a stretch of a bar, cut so that the beats can be seen."""
    tuplet = next((t for t in tuplets if t[0] <= start < t[1]), None)
    if tuplet is None:
        cells, origin, scale = metre.sizes, 0, Fraction(1, metre.quarter)
    else:
        size = tuplet[1] - tuplet[0]
        cells = (size, *(size // 3 >> k for k in range((size // 3).bit_length())))
        origin, scale = tuplet[0], Fraction(3, 2 * metre.quarter)
    cut = _split_note if sounding else _split_rest
    ends = cut(start - origin, end - origin, cells, scale)
    return [
        _Piece(a + origin, b + origin, (), *_VALUES[(b - a) * scale], tuplet=tuplet)
        for a, b in pairwise((start - origin, *ends))
    ]


@lru_cache(maxsize=4096)
def _split_note(start: int, end: int, cells: tuple[int, ...], scale: Fraction) -> tuple[int, ...]:
    """Ends of the note values that make up a note, the fewest that show the strongest division inside it."""

    def level(tick: int) -> int:
        return next(i for i, cell in enumerate(cells) if tick % cell == 0)

    inside = next((i for i, cell in enumerate(cells) if start - start % cell + cell < end), None)
    weakest = len(cells)
    if inside is not None and inside + 1 < len(cells):
        weakest = inside + (cells[inside] == 2 * cells[inside + 1])  # a syncopation that still can be read
    if (end - start) * scale in _VALUES and (inside is None or max(level(start), level(end)) <= weakest):
        return (end,)
    if inside is None:
        raise ValueError(f"no note values for ticks {start} to {end}")
    cell = cells[inside]
    middles = range(start - start % cell + cell, end, cell)
    ways = [_split_note(start, m, cells, scale) + _split_note(m, end, cells, scale) for m in middles]
    return min(reversed(ways), key=len)


def _split_rest(start: int, end: int, cells: tuple[int, ...], scale: Fraction) -> tuple[int, ...]:
    """Ends of the rests that fill a gap, each a whole cell of the bar."""
    ends: list[int] = []
    while start < end:
        start += next(c for c in cells if start % c == 0 and start + c <= end and c * scale in _VALUES)
        ends.append(start)
    return tuple(ends)


def _beam(pieces: list[_Piece], metre: _Metre) -> None:
    """Join the flags of each beat."""
    unit = metre.beat
    if metre.beat < metre.quarter:
        unit = metre.bar if metre.bar <= 2 * metre.quarter else metre.quarter
    runs = groupby(pieces, key=lambda p: (p.start // unit, bool(p.pitches) and p.type in _FLAGS))
    for (_, beamed), run in runs:
        group = list(run)
        if not beamed or len(group) == 1:
            continue
        flags = [0, *(_FLAGS[p.type] for p in group), 0]
        for i, piece in enumerate(group, 1):
            for depth in range(1, flags[i] + 1):
                before, after = flags[i - 1] >= depth, flags[i + 1] >= depth
                if before or after:
                    piece.beams.append("continue" if before and after else "end" if before else "begin")
                else:
                    piece.beams.append("backward hook" if i == len(group) else "forward hook")


# ------------------------------------------------------------------------------------------------------------- writing


def _spelling(key: Key | None) -> tuple[tuple[str, int, int], ...]:
    """Letter, alteration and octave of each MIDI pitch, in a key.

    Names are those of twelve neighbours on the line of fifths, two flats and three sharps beyond the scale in major;
    in minor one more sharp, for the raised fourth, and one flat less.
    """
    fifths, minor = (key.fifths, key.mode == "minor") if key else (0, False)
    line = range(fifths - 2, fifths + 10) if minor else range(fifths - 3, fifths + 9)
    place = {position * 7 % 12: position for position in line}
    names = []
    for pitch in PITCHES:
        position = place[pitch % 12]
        alter = (position + 1) // 7
        names.append(("FCGDAEB"[(position + 1) % 7], alter, (pitch - alter) // 12 - 1))
    return tuple(names)


def _signature(fifths: int) -> dict[str, int]:
    """Alteration of each letter in a key signature."""
    return dict.fromkeys("FCGDAEB"[: max(fifths, 0)], 1) | dict.fromkeys("BEADGCF"[: max(-fifths, 0)], -1)


def _write(
    clefs: Sequence[str],
    layout: list[list[list[list[_Piece]]]],
    bars: list[tuple[int, int]],
    metre: _Metre,
    beats: Beats,
    key: Key | None,
    title: str,
    program: int | None,
    transposition: tuple[int, int, int],
    division: Fraction | None,
    swing: float,
) -> bytes:
    """The file. ``layout`` has for each staff its voices, for each of those its bars."""
    root = ET.Element("score-partwise", version="4.0")
    if title:
        _add(_add(root, "work"), "work-title", "".join(c if c.isprintable() else "?" for c in title))
    _add(_add(_add(root, "identification"), "encoding"), "software", "basic_transcribe")
    _write_part(_add(root, "part-list"), program)
    part = _add(root, "part", id="P1")
    pick_up = bars[0][1] - bars[0][0] < metre.bar
    names, signature = _spelling(key), _signature(key.fifths if key else 0)
    for index, (start, end) in enumerate(bars):
        measure = _add(part, "measure", number=str(index + (not pick_up)))
        if pick_up and not index:
            measure.set("implicit", "yes")
        if not index:
            _write_attributes(measure, clefs, metre, beats, key, transposition)
            _write_tempo(measure, beats, division, swing)
        at = start
        for staff, voices in enumerate(layout, 1):
            shown = _accidentals([v[index] for v in voices], names, signature)
            for number, voice in enumerate(voices, 1):
                if not voice[index]:
                    continue
                if at > start:
                    _add(_add(measure, "backup"), "duration", str(at - start))
                for piece in voice[index]:
                    _write_piece(measure, piece, names, shown, number + 4 * (staff - 1), staff * (len(layout) > 1))
                at = end
    barline = _add(measure, "barline", location="right")
    _add(barline, "bar-style", "light-heavy")
    ET.indent(root, " ")
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_DOCTYPE}\n{text}\n'.encode()


def _write_part(parts: ET.Element, program: int | None) -> None:
    part = _add(parts, "score-part", id="P1")
    if program is None:
        _add(part, "part-name")
        return
    from pretty_midi import program_to_instrument_name

    name = program_to_instrument_name(program)
    _add(part, "part-name", name)
    _add(_add(part, "score-instrument", id="P1-I1"), "instrument-name", name)
    instrument = _add(part, "midi-instrument", id="P1-I1")
    _add(instrument, "midi-channel", "1")
    _add(instrument, "midi-program", str(program + 1))  # counted from 1


def _write_attributes(
    measure: ET.Element,
    clefs: Sequence[str],
    metre: _Metre,
    beats: Beats,
    key: Key | None,
    transposition: tuple[int, int, int],
) -> None:
    attributes = _add(measure, "attributes")
    _add(attributes, "divisions", str(metre.quarter))
    signature = _add(attributes, "key")
    _add(signature, "fifths", str(key.fifths if key else 0))
    if key:
        _add(signature, "mode", key.mode)
    time = _add(attributes, "time")
    for name, number in zip(("beats", "beat-type"), beats.time_signature, strict=True):
        _add(time, name, str(number))
    if len(clefs) > 1:
        _add(attributes, "staves", str(len(clefs)))
    for staff, name in enumerate(clefs, 1):
        sign, line, octaves = _CLEFS[name]
        clef = _add(attributes, "clef", number=str(staff))
        _add(clef, "sign", sign)
        _add(clef, "line", str(line))
        if octaves:
            _add(clef, "clef-octave-change", str(octaves))
    if any(transposition):
        transpose = _add(attributes, "transpose")
        for name, number in zip(("diatonic", "chromatic", "octave-change"), transposition, strict=True):
            _add(transpose, name, str(number))


def _write_tempo(measure: ET.Element, beats: Beats, division: Fraction | None, swing: float) -> None:
    """Tempo, and how the even notes of the score swing."""
    value = _VALUES.get(Fraction(beats.quarters).limit_denominator(64))
    unit, dots = value or ("quarter", 0)
    direction = _add(measure, "direction", placement="above")
    mark = _add(_add(direction, "direction-type"), "metronome")
    _add(mark, "beat-unit", unit)
    for _ in range(dots):
        _add(mark, "beat-unit-dot")
    quarters = beats.tempo * beats.quarters
    _add(mark, "per-minute", f"{beats.tempo if value else quarters:.0f}")
    if division and swing:
        _add(_add(direction, "direction-type"), "words", "Swing")
    sound = _add(direction, "sound", tempo=f"{quarters:.2f}")
    if division in _SWINGING and swing:
        ratio = Fraction(1 + 2 * swing).limit_denominator(9)
        element = _add(sound, "swing")
        _add(element, "first", str(ratio.numerator))
        _add(element, "second", str(ratio.denominator))
        _add(element, "swing-type", _TYPES[4 * division])


def _accidentals(
    voices: list[list[_Piece]],
    names: tuple[tuple[str, int, int], ...],
    signature: dict[str, int],
) -> dict[tuple[int, int, int], int]:
    """Which notes of a bar, by start, end and pitch, show an accidental, and which."""
    shown: dict[tuple[int, int, int], int] = {}
    altered: dict[tuple[str, int], int] = {}
    for piece in sorted((p for voice in voices for p in voice), key=lambda p: (p.start, p.end > p.start)):
        for pitch in piece.pitches:
            letter, alter, octave = names[pitch]
            if altered.get((letter, octave), signature.get(letter, 0)) != alter and not piece.tied_from:
                shown[piece.start, piece.end, pitch] = altered[letter, octave] = alter
    return shown


def _write_piece(
    measure: ET.Element,
    piece: _Piece,
    names: tuple[tuple[str, int, int], ...],
    shown: dict[tuple[int, int, int], int],
    voice: int,
    staff: int,
) -> None:
    """A rest, a note, or the notes of a chord, grace notes or not."""
    grace = piece.start == piece.end
    for i, pitch in enumerate(piece.pitches or (None,)):
        note = _add(measure, "note")
        if pitch is None and voice in (2, 6) and not piece.tuplet:
            note.set("print-object", "no")  # the main voice goes on
        if grace:
            _add(note, "grace", slash="yes")
        if i:
            _add(note, "chord")
        if pitch is None:
            rest = _add(note, "rest")
            if not piece.type:
                rest.set("measure", "yes")
        else:
            letter, alter, octave = names[pitch]
            element = _add(note, "pitch")
            _add(element, "step", letter)
            if alter:
                _add(element, "alter", str(alter))
            _add(element, "octave", str(octave))
        if not grace:
            _add(note, "duration", str(piece.end - piece.start))
        ties = [kind for kind, tied in (("stop", piece.tied_from), ("start", piece.tied_to)) if tied]
        for kind in ties:
            _add(note, "tie", type=kind)
        _add(note, "voice", str(voice))
        if piece.type:
            _add(note, "type", piece.type)
        for _ in range(piece.dots):
            _add(note, "dot")
        if pitch is not None and (piece.start, piece.end, pitch) in shown:
            _add(note, "accidental", _ACCIDENTALS[shown[piece.start, piece.end, pitch]])
        if piece.tuplet:
            modification = _add(note, "time-modification")
            _add(modification, "actual-notes", "3")
            _add(modification, "normal-notes", "2")
        if staff:
            _add(note, "staff", str(staff))
        if not i:
            for depth, beam in enumerate(piece.beams, 1):
                _add(note, "beam", beam, number=str(depth))
        edges = [] if i or not piece.tuplet else [("start", piece.start), ("stop", piece.end)]
        tuplet = [kind for (kind, tick), edge in zip(edges, piece.tuplet or (), strict=False) if tick == edge]
        if ties or tuplet:
            notations = _add(note, "notations")
            for kind in ties:
                _add(notations, "tied", type=kind)
            for kind in tuplet:
                _add(notations, "tuplet", type=kind, number="1")


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element
