"""What is played: excerpts of MIDI files, and random patterns for what MIDI lacks.

A part is a list of :class:`Event`, sorted by onset, no two of one pitch overlapping.
"""

from __future__ import annotations

import argparse
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from shared import at_least_one, errors_in_one_line, workers

from basic_transcribe.errors import UsageError

SCALES = (
    (0, 2, 4, 5, 7, 9, 11),
    (0, 2, 3, 5, 7, 8, 10),
    (0, 2, 3, 5, 7, 8, 11),
    (0, 2, 4, 7, 9),
    (0, 3, 5, 6, 7, 10),
    tuple(range(12)),
)
# Folders of pieces, and how many are taken of each.
SOURCES = {"pop909": 909, "openscore_lieder": 500, "openscore_quartets": 120, "nottingham": 600, "jsfakes": 300}
# Sources with performed velocities; the others are flat and are humanised.
PERFORMED = {"pop909"}


@dataclass(frozen=True, slots=True)
class Event:
    """A note to be played: onset, offset (s), MIDI pitch, velocity 1 to 127.

    Under a sustain pedal the key is ``released`` (s) before the sound is damped at the offset.
    """

    onset: float
    offset: float
    pitch: int
    velocity: float
    released: float = np.inf


@dataclass(frozen=True)
class Piece:
    """One MIDI file: ``notes`` has columns onset, offset, pitch, velocity, track, when the key is released."""

    source: str
    notes: np.ndarray


def read_midi(path: Path) -> np.ndarray:
    """Notes of a MIDI file, drums left out, offsets at the sustain pedal's; the columns of a Piece."""
    import pretty_midi

    midi = pretty_midi.PrettyMIDI(str(path))
    rows = []
    for track, instrument in enumerate(i for i in midi.instruments if not i.is_drum):
        pedal = sorted((c.time, c.value >= 64) for c in instrument.control_changes if c.number == 64)
        lifts = np.array([t for (t, down), (_, before) in zip(pedal[1:], pedal, strict=False) if before and not down])
        times = np.array([t for t, _ in pedal])
        for n in instrument.notes:
            offset = n.end
            if len(lifts):
                i = np.searchsorted(times, n.end, side="right") - 1
                j = np.searchsorted(lifts, n.end)
                if i >= 0 and pedal[i][1] and j < len(lifts):
                    offset = max(offset, lifts[j])
            rows.append((n.start, offset, n.pitch, n.velocity, track, n.end))
    return np.array(sorted(rows), np.float32).reshape(-1, 6)


def _try_read(path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_midi(path)
    except Exception as error:  # what is raised of a damaged file is of many kinds
        print(f"{path}: left out: {type(error).__name__} {error}")
        return np.zeros((0, 6), np.float32)


def build_library(root: Path, out: Path, limits: dict[str, int], jobs: int) -> None:
    """Parse the MIDI files under ``root/<source>/`` into one npz of pieces.

    Raises
    ------
    UsageError
        If there are none.
    """
    arrays = {}
    with workers(jobs) as pool:
        for source, limit in limits.items():
            paths = sorted((root / source).glob("*.mid"))
            paths = paths[:: max(1, len(paths) // limit)][:limit]
            for path, notes in zip(paths, pool.map(_try_read, paths, chunksize=8), strict=True):
                if len(notes) > 20:
                    arrays[f"{source}/{path.stem}"] = notes
    if not arrays:
        raise UsageError(f"{root}: no pieces in {', '.join(limits)}; give the folder that holds these")
    np.savez_compressed(out, **arrays)
    print(f"{out}: {len(arrays)} pieces")


def load_library(path: Path) -> dict[str, list[Piece]]:
    """Pieces by source.

    Raises
    ------
    UsageError
        If it is no library, or lacks a source.
    """
    library: dict[str, list[Piece]] = {}
    try:
        with np.load(path) as data:
            for key in data.files:
                source = key.split("/")[0]
                library.setdefault(source, []).append(Piece(source, data[key]))
    except (AttributeError, BadZipFile, EOFError, ValueError, zlib.error) as error:  # the first of an array alone
        raise UsageError(f"{path}: no library; let music.py make it") from error
    if missing := SOURCES.keys() - library:
        raise UsageError(f"{path}: no pieces of {', '.join(sorted(missing))}; let music.py make it of all sources")
    return library


def tidy(events: list[Event], length: float) -> list[Event]:
    """Sort, cut at ``length``, end each note before the next of its pitch, drop what is shorter than 40 ms."""
    out: list[Event] = []
    last: dict[int, int] = {}
    for e in sorted(events, key=lambda e: (e.onset, e.pitch)):
        if e.pitch in last:
            before = out[last[e.pitch]]
            if e.onset - before.onset < 0.045:
                continue
            if before.offset > e.onset - 0.01:
                out[last[e.pitch]] = replace(before, offset=e.onset - 0.01)
        last[e.pitch] = len(out)
        out.append(replace(e, offset=min(e.offset, length)))
    return [e for e in out if e.offset - e.onset > 0.035 and e.onset < length - 0.05]


def monophonic(events: list[Event]) -> list[Event]:
    """The top line: a note ends where the next begins."""
    top: list[Event] = []
    for e in sorted(events, key=lambda e: (e.onset, -e.pitch)):
        if top and e.onset - top[-1].onset < 0.05:
            continue
        if top and top[-1].offset > e.onset:
            top[-1] = replace(top[-1], offset=e.onset)
        top.append(e)
    return [e for e in top if e.offset - e.onset > 0.04]


def fit_range(events: list[Event], low: int, high: int, rng: np.random.Generator) -> list[Event]:
    """Transpose at random so that most notes lie between ``low`` and ``high``; fold the rest by octaves."""
    if not events:
        return []
    pitches = np.array([e.pitch for e in events])
    shifts = np.arange(-36, 37)
    inside = np.array([np.mean((pitches + s >= low) & (pitches + s <= high)) for s in shifts])
    near = shifts[inside >= inside.max() - 0.02]
    weights = np.exp(-np.abs(near) / 9.0)
    shift = int(rng.choice(near, p=weights / weights.sum()))
    out = []
    for e in events:
        p = e.pitch + shift
        while p < low:
            p += 12
        while p > high:
            p -= 12
        if p >= low:
            out.append(replace(e, pitch=p))
    return out


def excerpt(piece: Piece, length: float, rng: np.random.Generator, track: int | None = None) -> list[Event]:
    """A random stretch of a piece, at a random tempo, humanised where the source is mechanical."""
    notes = piece.notes if track is None else piece.notes[piece.notes[:, 4] == track]
    if not len(notes):
        return []
    speed = float(rng.uniform(0.8, 1.3))
    start = float(rng.uniform(-0.5, max(0.0, float(notes[-1, 0]) - length * speed)))
    chosen = notes[(notes[:, 0] >= start) & (notes[:, 0] < start + length * speed)]
    performed = piece.source in PERFORMED
    jitter, base, spread = (
        (0.0, 0.0, 0.0) if performed else (rng.uniform(0, 0.02), rng.uniform(45, 105), rng.uniform(4, 14))
    )
    accent = 0.0 if performed else float(rng.uniform(0, 12))
    legato = 1.0 if performed else float(rng.choice([0.5, 0.8, 0.95, 1.0]))
    # Voicing: players bring out a register, and inner notes are far softer than the melody.
    middle, slope = float(chosen[:, 2].mean()) if len(chosen) else 60.0, 0.0 if performed else float(rng.normal(0, 0.7))
    softer = 0.0 if performed else float(rng.uniform(0, 25))
    events = []
    for onset, offset, pitch, velocity, _, released in chosen.tolist():
        v = velocity if performed else base + rng.normal(0, spread) + accent * np.sin(onset * 1.7)
        v += slope * (pitch - middle)
        together = chosen[np.abs(chosen[:, 0] - onset) < 0.04, 2]
        v -= softer * (len(together) > 1 and pitch < together.max())
        a = max(0.0, (onset - start) / speed + rng.normal(0, 1) * jitter)
        end, up = (a + max(0.05, (t - onset) / speed * legato) for t in (offset, released))
        events.append(Event(a, end, int(pitch), float(np.clip(v, 12, 127)), up))
    return tidy(events, length)


def pattern(length: float, low: int, high: int, voices: int, rng: np.random.Generator) -> list[Event]:
    """Random music: melodies, chords, runs, repeated notes, trills, drones, wide leaps."""
    key, scale = int(rng.integers(12)), SCALES[int(rng.choice(len(SCALES), p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.2]))]
    allowed = [p for p in range(low, high + 1) if (p - key) % 12 in scale]
    if len(allowed) < 4:
        allowed = list(range(low, high + 1))
    beat = 60 / rng.uniform(50, 190)
    legato = float(rng.choice([0.35, 0.7, 0.9, 1.0, 1.15]))
    base, jitter = rng.uniform(40, 105), rng.uniform(0, 0.02)
    t, index = float(rng.uniform(0, 0.6)), int(rng.integers(len(allowed)))
    events: list[Event] = []

    def play(at: float, duration: float, pitch: int, accent: float = 0.0) -> None:
        v = float(np.clip(base + accent + rng.normal(0, 10), 12, 127))
        events.append(Event(max(0.0, at + rng.normal(0, jitter)), at + max(0.05, duration), int(pitch), v))

    def move(by: int) -> int:
        return int(np.clip(index + by, 0, len(allowed) - 1))

    while t < length - 0.1:
        kind = rng.choice(["step", "chord", "run", "repeat", "trill", "hold", "rest", "leap"],
                          p=[0.36, 0.2, 0.12, 0.1, 0.03, 0.05, 0.07, 0.07])  # fmt: skip
        step = beat * float(rng.choice([0.25, 1 / 3, 0.5, 1, 2], p=[0.22, 0.1, 0.38, 0.22, 0.08]))
        if kind == "rest":
            t += step
        elif kind == "chord" and voices > 1:
            size = int(rng.integers(2, voices + 1))
            offsets = rng.choice([-14, -9, -7, -5, -4, -2, 2, 3, 4, 5, 7, 9, 12, 14], size - 1, replace=False)
            strum = float(rng.choice([0, 0, 0.008, 0.02, 0.04]))
            index = move(int(rng.integers(-3, 4)))
            chord = sorted({allowed[index], *(allowed[move(int(o))] for o in offsets // 2)})
            for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
                for i, p in enumerate(chord):
                    play(t + i * strum, step * legato, p)
                t += step
        elif kind == "run":
            by = int(rng.choice([-2, -1, 1, 2]))
            short = beat * float(rng.choice([0.125, 0.25, 0.25, 1 / 3]))
            for _ in range(int(rng.integers(4, 12))):
                index = move(by)
                play(t, max(short, 0.06) * legato, allowed[index])
                t += max(short, 0.06)
        elif kind == "repeat":
            short = max(0.07, beat * float(rng.choice([0.25, 0.25, 0.5, 1])))
            others = [allowed[move(int(rng.integers(-6, 7)))] for _ in range(int(rng.integers(0, max(1, voices))))]
            for _ in range(int(rng.integers(3, 10))):
                for p in {allowed[index], *others}:
                    play(t, short * min(legato, 0.95), p)
                t += short
        elif kind == "trill":
            other, short = allowed[move(1)], float(rng.uniform(0.06, 0.12))
            for i in range(int(rng.integers(5, 14))):
                play(t, short, other if i % 2 else allowed[index])
                t += short
        elif kind == "hold":
            play(t, float(rng.uniform(2, 8)), allowed[index])
            t += step if voices > 1 else float(rng.uniform(1.5, 5))
            index = move(int(rng.integers(-5, 6)))
        else:
            index = move(int(rng.integers(-12, 13) if kind == "leap" else rng.integers(-3, 4)))
            play(t, step * legato, allowed[index])
            if voices > 1 and rng.random() < 0.4:
                play(t, step * legato * float(rng.choice([1, 2])), allowed[move(int(rng.integers(-12, -2)))])
            t += step
    return tidy(events, length)


def in_octaves(events: list[Event], length: float, low: int, high: int, rng: np.random.Generator) -> list[Event]:
    """The top, the bottom or every note doubled one or more octaves away: harmonics hide the upper of such notes."""
    which = rng.choice(["top", "bottom", "all"])
    down = which == "bottom" or (which == "all" and rng.random() < 0.5)
    octaves = range(1, int(rng.choice([2, 2, 2, 3, 4])))
    softer = rng.uniform(-10, 20)
    added = []
    for e in events:
        together = [o.pitch for o in events if abs(o.onset - e.onset) < 0.04]
        if which == "all" or e.pitch == (min(together) if down else max(together)):
            for octave in octaves:
                p = e.pitch + (-12 if down else 12) * octave
                if low <= p <= high:
                    v = float(np.clip(e.velocity - softer + rng.normal(0, 6), 12, 127))
                    added.append(replace(e, onset=max(0.0, e.onset + rng.normal(0, 0.006)), pitch=p, velocity=v))
    return tidy(events + added, length)


def pedalled(events: list[Event], length: float, rng: np.random.Generator) -> list[Event]:
    """The sustain pedal, lifted now and then: everything rings until it is lifted, or is struck again."""
    lifts = np.cumsum(rng.uniform(0.4, 3.0, 2 + int(length / 0.4)))
    ends = [min(lifts[np.searchsorted(lifts, e.offset)], e.offset + 4) for e in events]
    held = [
        replace(e, offset=float(end), released=min(e.offset, e.released)) for e, end in zip(events, ends, strict=True)
    ]
    return tidy(held, length)


def arpeggios(length: float, low: int, high: int, rng: np.random.Generator) -> list[Event]:
    """Broken chords under the pedal, soft, again and again on the same pitches, with a melody above."""
    events, t = [], float(rng.uniform(0, 0.5))
    step = float(rng.uniform(0.07, 0.25))
    soft, loud = rng.uniform(15, 55), rng.uniform(40, 100)
    root = int(rng.integers(low + 5, max(low + 6, high - 40)))
    order = rng.choice(["up", "down", "wave", "alberti", "any"])
    # Steps a key is held; drawn apart, so that what is played is what the seed gave before keys were known.
    finger = float(rng.spawn(1)[0].choice([0.5, 0.9, 1.0, 1.0, 1.1, 1.5, 2.0, 99.0]))
    while t < length - 0.3:
        chord = [root + i for i in ((0, 4, 7), (0, 3, 7), (0, 4, 7, 10), (0, 3, 6, 9), (0, 5, 7))[int(rng.integers(5))]]
        tones = sorted(p + 12 * o for p in chord for o in range(int(rng.integers(1, 5))) if p + 12 * o <= high)
        if order == "down":
            tones = tones[::-1]
        elif order == "wave":
            tones = tones + tones[-2:0:-1]
        elif order == "alberti":
            tones = [p for q in tones[1:] for p in (tones[0], q)]
        elif order == "any":
            tones = [int(p) for p in rng.choice(tones, len(tones))]
        lift = t + step * len(tones) * int(rng.integers(1, 4))
        melody = t
        while t < lift:
            for p in tones:
                v = soft + rng.normal(0, 6)
                events.append(Event(t, lift, p, float(np.clip(v, 8, 127)), t + finger * step))
                t += step
        while melody < lift and rng.random() < 0.8:
            scale = [p for p in range(max(low, high - 26), high + 1) if (p - root) % 12 in SCALES[0]]
            v = float(np.clip(loud + rng.normal(0, 8), 8, 127))
            pitch, beats = int(rng.choice(scale)), int(rng.integers(2, 9))
            events.append(Event(melody, lift, pitch, v, melody + min(1.0, finger) * beats * step))
            melody += beats * step
        root = int(np.clip(root + rng.choice([-5, -3, -2, 0, 0, 2, 3, 5]), low, max(low, high - 30)))
    return tidy(events, length)


# A diatonic harmonica's ten holes, in semitones above hole 1 blown (Richter tuning).
BLOW = (0, 4, 7, 12, 16, 19, 24, 28, 31, 36)
DRAW = (2, 7, 11, 14, 17, 21, 23, 26, 29, 33)


def harp(length: float, key: int, rng: np.random.Generator) -> list[Event]:
    """Diatonic harmonica: single holes, two to four side by side, octaves split by the tongue, one breath for all.

    Parameters
    ----------
    key : int
        MIDI pitch of hole 1 blown, 55 (a harp in G) to 66 (in F sharp).
    """
    beat = 60 / rng.uniform(60, 170)
    chords, legato = rng.uniform(0.1, 0.9), float(rng.choice([0.6, 0.85, 0.97]))
    base = rng.uniform(50, 105)
    events: list[Event] = []
    t, hole, blow = float(rng.uniform(0, 0.6)), int(rng.integers(1, 8)), bool(rng.random() < 0.5)
    while t < length - 0.1:
        hole = int(np.clip(hole + rng.choice([-2, -1, 0, 1, 2], p=[0.1, 0.3, 0.2, 0.3, 0.1]), 0, 9))
        blow = not blow if rng.random() < 0.45 else blow
        holes = {hole}
        if rng.random() < chords:
            holes = {hole, hole + 3} if rng.random() < 0.25 else set(range(hole, hole + int(rng.integers(2, 5))))
        again = int(rng.choice([1, 1, 1, 2, 4]))
        step = max(0.09, beat * float(rng.choice([0.25, 1 / 3, 0.5, 1, 2], p=[0.15, 0.15, 0.35, 0.25, 0.1])))
        bent = int(not blow and len(holes) == 1 and hole < 6 and rng.random() < 0.15)
        for _ in range(again):
            loud = base + rng.normal(0, 8)
            for h in holes:
                if h < 10:
                    at = max(0.0, t + rng.normal(0, 0.004))
                    pitch = key + (BLOW if blow else DRAW)[h] - bent
                    velocity = float(np.clip(loud + rng.normal(0, 6), 12, 127))
                    events.append(Event(at, t + step * legato, pitch, velocity))
            t += step
        if rng.random() < 0.12:
            t += step
    return tidy(events, length)


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description="Parse MIDI files into the library that render.py reads.")
    parser.add_argument("root", type=Path, help="folder with one folder of .mid files per source")
    parser.add_argument("out", type=Path, help="npz to write")
    parser.add_argument("--jobs", type=at_least_one, default=2)
    args = parser.parse_args()
    build_library(args.root, args.out, SOURCES, args.jobs)


if __name__ == "__main__":
    main()
