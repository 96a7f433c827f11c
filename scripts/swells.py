"""Chords that swell and are held, on slow instruments: what the other tests leave out, and real mixes are full of.

    python scripts/swells.py OUT --fonts TimGM6mb.sf2,sf_GMbank.sf2 [--clips 8] [--seed 1]
    basic-transcribe evaluate OUT

Writes ``OUT/<family>/<number>.wav`` of some 25 s, each with ``<number>.csv``: eight chords of two to five notes on a
pad, strings, a choir or brasses of General MIDI, many notes tied from chord to chord, half of the clips with the
expression pedal (controller 11), half with plucked or struck notes above, a third with drums. The program
``fluidsynth`` plays them. References are the keys, so that what speaks slowly is late by them: Fframe says most. There
are no organs, whose stops sound in other octaves. With fonts that training never heard it is a test of unseen sounds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
from shared import at_least_one, errors_in_one_line, names, play_score, write_reference

from basic_transcribe.errors import TranscribeError

FAMILIES = {
    "brass": (58, 60, 61, 62, 63),
    "choir": (52, 53, 54, 91),
    "pads": tuple(range(88, 96)),
    "strings": (44, 48, 49, 50, 51),
}
ABOVE = (0, 4, 8, 11, 24, 25, 46)  # programs that are plucked or struck
DRUMS = (35, 36, 38, 42, 46)
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
TICKS = 2000  # a second, at 120 beats a minute
CHORDS = 8
BEGIN, END = 0.5, 1.5  # seconds of silence


@dataclass
class Key:
    """A key that is held: seconds, MIDI pitch and velocity, and the channel."""

    onset: float
    offset: float
    pitch: int
    velocity: int
    channel: int


def harmony(rng: np.random.Generator) -> list[list[int]]:
    """Chords of a key, as pitches."""
    tonic, scale = int(rng.integers(48, 58)), MAJOR if rng.random() < 0.5 else MINOR
    voices = int(rng.integers(2, 5))
    chords = []
    for degree in rng.integers(0, 6, CHORDS):
        steps = [int(scale[(degree + k) % 7]) + 12 * int((degree + k) // 7) for k in (0, 2, 4, 6)[:voices]]
        pitches = {tonic + step + 12 * int(rng.integers(0, 2)) for step in steps}
        if rng.random() < 0.6:
            pitches.add(tonic + steps[0] - 12 * int(rng.integers(1, 3)))
        chords.append(sorted(pitches))
    return chords


def held(chords: list[list[int]], rng: np.random.Generator) -> tuple[list[Key], list[tuple[float, float]]]:
    """Keys of the chords, and when each chord begins and ends."""
    keys: list[Key] = []
    spans = []
    tied: dict[int, Key] = {}
    pauses, time = rng.random() < 0.5, BEGIN
    for chord in chords:
        end = time + float(rng.uniform(1.5, 5))
        going = {pitch: key for pitch, key in tied.items() if pitch in chord and rng.random() < 0.7}
        for pitch in chord:
            if pitch in going:
                going[pitch].offset = end
            else:
                going[pitch] = Key(time, end, pitch, int(rng.integers(60, 110)), 0)
                keys.append(going[pitch])
        spans.append((time, end))
        pause = float(rng.uniform(0.2, 1)) if pauses and rng.random() < 0.5 else 0.0
        tied, time = {} if pause else going, end + pause
    return keys, spans


def struck(chords: list[list[int]], keys: list[Key], end: float, rng: np.random.Generator) -> list[Key]:
    """Short notes an octave or two above the chords, where no key of that pitch is held."""
    step = float(rng.choice([0.25, 0.3, 0.375, 0.5]))
    added: list[Key] = []
    for onset in np.arange(BEGIN, end, step):
        pitch = int(rng.choice(chords[int(len(chords) * onset / (end + 1))])) + 12 * int(rng.integers(1, 3))
        key = Key(float(onset), float(onset + step * rng.uniform(0.7, 1.2)), pitch, int(rng.integers(60, 110)), 1)
        near = (k for k in (*keys, *added) if k.pitch == pitch)
        if all(k.onset > key.offset + 0.05 or k.offset < key.onset - 0.05 for k in near):
            added.append(key)
    return added


def clip(programs: tuple[int, ...], rng: np.random.Generator) -> tuple[list[Key], mido.MidiFile]:
    """A piece, and how it is played."""
    chords = harmony(rng)
    keys, spans = held(chords, rng)
    end = spans[-1][1]
    messages = [(0.0, mido.Message("program_change", program=int(rng.choice(programs)), channel=0))]
    if rng.random() < 0.5:
        for begin, stop in spans:
            for time in np.arange(begin, stop, 0.05):
                value = int(40 + 87 * np.sin(np.pi * (time - begin) / (stop - begin)))
                messages.append((float(time), mido.Message("control_change", control=11, value=value, channel=0)))
    if rng.random() < 0.5:
        messages.append((0.0, mido.Message("program_change", program=int(rng.choice(ABOVE)), channel=1)))
        keys += struck(chords, keys, end - 0.5, rng)
    if rng.random() < 0.3:
        hits = [mido.Message("note_on", note=int(drum), velocity=80, channel=9) for drum in rng.choice(DRUMS, 200)]
        messages += zip(np.arange(BEGIN, end, 0.25).tolist(), hits, strict=False)
    for key in keys:
        on = mido.Message("note_on", note=key.pitch, velocity=key.velocity, channel=key.channel)
        off = mido.Message("note_off", note=key.pitch, channel=key.channel)
        messages += [(key.onset, on), (key.offset - 0.004, off)]  # before the next of its pitch
    messages.append((end + END, mido.MetaMessage("end_of_track")))
    track, last = mido.MidiTrack(), 0
    for time, message in sorted(messages, key=lambda m: m[0]):
        tick = max(last, round(time * TICKS))
        track.append(message.copy(time=tick - last))
        last = tick
    return sorted(keys, key=lambda k: (k.onset, k.pitch)), mido.MidiFile(ticks_per_beat=TICKS // 2, tracks=[track])


def write(keys: list[Key], piece: mido.MidiFile, font: Path, path: Path) -> None:
    """``path`` with the ending .wav, and the reference beside it."""
    score = path.with_suffix(".played.mid")
    piece.save(score)
    command = ["fluidsynth", "-q", "-ni", "-r", "44100", "-g", "0.5", "-F", str(path.with_suffix(".wav"))]
    play_score([*command, str(font), str(score)], score, f"give a SoundFont for {font}")
    write_reference(path.with_suffix(".csv"), ((k.onset, k.offset, k.pitch, k.velocity) for k in keys))


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--fonts", type=names, required=True, help="SoundFonts, in turn")
    parser.add_argument("--clips", type=at_least_one, default=8, help="of each family (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if missing := [font for font in args.fonts if not Path(font).is_file()]:
        raise TranscribeError(f"{missing[0]}: no such file; give a SoundFont")
    rng = np.random.default_rng(args.seed)
    for family, programs in FAMILIES.items():
        folder = args.out / family
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(args.clips):
            write(*clip(programs, rng), Path(args.fonts[i % len(args.fonts)]), folder / f"{i:02d}")
    print(f"{args.out}: {len(FAMILIES) * args.clips} clips")


if __name__ == "__main__":
    main()
