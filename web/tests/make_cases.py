"""What the Python rooms make of invented music: the page's rooms must make the same of it.

    python web/tests/make_cases.py           # writes web/tests/cases.json
    python web/tests/make_cases.py --check   # fails if it is not what would be written

The music is invented by a small generator of random numbers that web/tests/invented.ts repeats, so that only the
answers are stored.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from basic_transcribe.exports import load_posteriors, notes_to_csv  # noqa: E402
from basic_transcribe.midi import to_midi  # noqa: E402
from basic_transcribe.shaping import ShapeSettings, shape  # noqa: E402
from basic_transcribe.timing import metre, parse_division  # noqa: E402
from basic_transcribe.tracking import track_notes  # noqa: E402
from basic_transcribe.tuning import TuningEstimator  # noqa: E402
from basic_transcribe.types import Beats, MidiSettings, Note, PitchBend, Posteriors, TrackerSettings  # noqa: E402

PATH = Path(__file__).parent / "cases.json"
GOLDEN = ROOT / "tests" / "golden" / "posteriors.npz"
THRESHOLDS = ({}, {"onset_threshold": 0.35, "frame_threshold": 0.15}, {"split_threshold": 0.4, "frame_threshold": 0.5})
RANGES = ({}, {"minimum_pitch": 50, "maximum_pitch": 58})
PLAIN = {
    "onset_threshold": 0.56,
    "split_threshold": 0.68,
    "frame_threshold": 0.28,
    "onset_delay": 4.0,
    "minimum_note_length": 40.0,
}
NOISES = tuple(
    {"seed": seed, "frames": frames, "pitches": pitches, "bins": bins}
    for seed, frames, pitches, bins in (
        *((1, 400, 12, 3), (2, 333, 5, 3), (3, 200, 20, 5), (4, 7, 3, 3)),
        (80, 1500, 6, 3),  # slow swells
    )
)
# Steady, unsteady, short, after a long silence; joined by others once it is followed, and before.
LINES = tuple(
    {"seed": seed, "frames": frames, "pitches": 9, "bins": bins, "start": start, "wander": wander, "others": others}
    for seed, frames, bins, start, wander, others in (
        (41, 700, 3, 5, 0.0, 9999),
        (42, 1100, 3, 5, 1.5, 9999),
        (43, 150, 5, 40, 2.5, 9999),
        (44, 1200, 3, 500, 1.2, 9999),
        (45, 1400, 3, 5, 1.5, 800),
        (46, 600, 3, 5, 1.5, 250),
    )
)

# Beats a minute, time signature, and when the first beat falls.
METRES = (
    *((120, None, 0), (87.5, (6, 8), 0), (133, (3, 4), 1.234), (61, None, 0.05)),
    *((100, (6, 8), 0.52), (96, None, 0.2)),
)


class Dice:
    """Random numbers (Marsaglia's xorshift, 32 bits)."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def throw(self) -> float:
        """0 to 1."""
        x = self._state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self._state = x
        return x / 2**32

    def below(self, n: int) -> int:
        return int(self.throw() * n)


def canvas(dice: Dice, frames: int, pitches: int, bins: int, height: float) -> dict[str, NDArray[np.float64]]:
    """Noise up to a height, to be drawn on."""
    arrays = {}
    for name in Posteriors.ARRAYS:
        width = pitches * bins if name == "contour" else pitches
        noise = np.array([dice.throw() for _ in range(frames * width)]).reshape(frames, width)
        arrays[name] = -60 * noise if name == "level" else height * noise * noise * noise
    return arrays


def invented_line(
    seed: int, frames: int, pitches: int, bins: int, *, start: int, wander: float, others: int
) -> Posteriors:
    """A line. Its pitches wander so many bins from the middles of their semitones; from a frame on others join it."""
    dice = Dice(seed)
    arrays = canvas(dice, frames, pitches, bins, 0.1)

    def draw(first: int, last: int, pitch: int) -> None:
        strength, clear = 0.5 + 0.5 * dice.throw(), dice.throw()
        drift = wander * (2 * dice.throw() - 1)
        for k in range(-2, 3):
            for name, at in (("onset", first + k), ("offset", last + k)):
                if 0 <= at < frames:
                    arrays[name][at, pitch] = max(arrays[name][at, pitch], clear * (1 - abs(k) / 3))
        for frame in range(first, last):
            wave = abs((frame - first) % 14 / 7 - 1) - 0.5
            centre = pitch * bins + bins // 2 + drift + wander * wave
            nearest = min(pitches - 1, max(0, int(np.floor((centre + 0.5) / bins))))
            arrays["note"][frame, nearest] = strength * (0.7 + 0.3 * dice.throw())
            line = strength * (1 - np.abs(np.arange(pitches * bins) - centre) / 2)
            arrays["contour"][frame] = np.maximum(arrays["contour"][frame], line)

    pitch, at = pitches // 2, start
    while at < frames - 20:
        last = min(frames - 1, at + 10 + dice.below(80))
        draw(at, last, pitch)
        if at >= others:
            draw(at + dice.below(3), last, (pitch + 4) % pitches)
        pitch = min(pitches - 1, max(0, pitch + dice.below(5) - 2))
        at = last + dice.below(2) * dice.below(16)
    return posteriors_of(arrays)


def invented_posteriors(seed: int, frames: int, pitches: int, bins: int) -> Posteriors:
    """Noise, and notes in it."""
    dice = Dice(seed)
    arrays = canvas(dice, frames, pitches, bins, 0.3)
    for _ in range(frames * pitches // 200):
        pitch, start = dice.below(pitches), dice.below(frames)
        held = dice.below(8) == 0  # and clearly heard: ends of others within it are none
        rise = 90 * dice.below(3) if held else 0  # frames in which it swells, without an onset
        hollow, dip = dice.below(4) == 0, start + dice.below(90)  # without a fundamental; where it is low
        end = min(frames - 1, start + 4 + dice.below(60) + 150 * held + rise)
        strength, bend = 0.4 + 0.6 * dice.throw(), dice.below(3) - 1
        for k in range(-2, 3):
            for name, at in (("onset", start + k), ("offset", end + k)):
                if 0 <= at < frames and not (rise and name == "onset"):
                    arrays[name][at, pitch] = max(arrays[name][at, pitch], strength * (1 - abs(k) / 3))
        for frame in range(start, end):
            risen = min(1, (frame - start + 1) / (rise + 1))
            arrays["note"][frame, pitch] = risen * max(strength * (0.7 + 0.3 * dice.throw()), 0.85 * held)
            if rise and frame == dip:
                arrays["note"][frame, pitch] = 0.1
            if rise and hollow:
                continue
            centre = pitch * bins + bins // 2 + (bend if frame > (start + end) / 2 else 0)
            for k in range(-1, 2):
                if 0 <= centre + k < pitches * bins:
                    arrays["contour"][frame, centre + k] = strength * (1 - 0.4 * abs(k) * dice.throw() - 0.3 * abs(k))
    return posteriors_of(arrays)


def posteriors_of(arrays: dict[str, NDArray[np.float64]]) -> Posteriors:
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    return Posteriors(**floats, frame_rate=22050 / 256, lowest_pitch=45)


def invented_notes(seed: int, count: int) -> list[Note]:
    """Notes, some of them bent, some on the same pitch at once."""
    dice = Dice(seed)
    notes = []
    for _ in range(count):
        onset = dice.throw() * count / 4
        offset = onset + 0.02 + dice.throw() * dice.throw() * 3
        pitch, velocity, confidence = 40 + dice.below(30), 1 + dice.below(127), dice.throw()
        bend = None
        if dice.below(3):
            step = 256 / 22050
            depth = dice.throw() * (4 if dice.below(4) == 0 else 0.6)
            values = [depth * (dice.throw() - 0.3) for _ in range(max(1, int((offset - onset) / step)))]
            bend = PitchBend(onset - 0.005, step, np.array(values, np.float32))
        notes.append(Note(onset, offset, pitch, velocity, confidence, bend))
    return sorted(notes, key=lambda n: (n.onset, n.pitch))


def written(note: Note, every: int = 1) -> list[Any]:
    """A note; of its bend one value in so many."""
    bend = note.bend and [round(note.bend.start, 6), *(round(float(x), 4) for x in note.bend.semitones[::every])]
    return [round(note.onset, 6), round(note.offset, 6), note.pitch, note.velocity, round(note.confidence, 6), bend]


def tracker_cases() -> list[dict[str, Any]]:
    """All notes."""
    cases = []
    sources: list[tuple[dict[str, Any], Posteriors]] = [({}, load_posteriors(GOLDEN))]
    sources += [(made, invented_posteriors(**made)) for made in NOISES]
    for invented, posteriors in sources:
        for thresholds in THRESHOLDS:
            for pitch_range in RANGES if not cases else RANGES[:1]:
                case = tracked(posteriors, {**thresholds, **pitch_range}, False)
                cases.append({**invented, **case})
    made = NOISES[0]
    cases.append({**made, "tuning": 35.0, **tracked(tuned(invented_posteriors(**made), 35.0), {}, False)})
    return cases


def line_cases() -> list[dict[str, Any]]:
    """One line, and what is found out to be one, or not."""
    golden = load_posteriors(GOLDEN)
    cases = [tracked(golden, changes, True, every=16) for changes in (*THRESHOLDS, RANGES[1])]
    for made in NOISES:
        posteriors = invented_posteriors(**made)
        for monophonic, thresholds in ((True, THRESHOLDS[0]), (True, THRESHOLDS[1]), (None, THRESHOLDS[0])):
            cases.append({**made, **tracked(posteriors, thresholds, monophonic, every=16)})
    for made in LINES:
        posteriors = invented_line(**made)
        for monophonic, changes in ((None, {}), (None, THRESHOLDS[2]), (None, RANGES[1]), (True, THRESHOLDS[1])):
            cases.append({**made, **tracked(posteriors, changes, monophonic, every=16)})
    cases.append({**LINES[1], "tuning": -42.0, **tracked(tuned(invented_line(**LINES[1]), -42.0), {}, None, every=16)})
    return cases


def tuned(posteriors: Posteriors, cents: float) -> Posteriors:
    """The same of a recording that was brought to A = 440 Hz."""
    return replace(posteriors, frame_rate=posteriors.frame_rate * 2 ** (cents / 1200), tuning=cents)


def tracked(posteriors: Posteriors, changes: dict[str, Any], monophonic: bool | None, every: int = 1) -> dict[str, Any]:
    """Settings, named as the page names them, and the notes that they give."""
    given = {**PLAIN, **changes, "monophonic": monophonic}
    hertz = {
        name.replace("pitch", "frequency"): 440 * 2 ** ((value - 69) / 12)
        for name, value in given.items()
        if name.endswith("_pitch")
    }
    known = {name: value for name, value in given.items() if not name.endswith("_pitch")}
    duration = len(posteriors) / posteriors.frame_rate
    notes = track_notes(posteriors, TrackerSettings(**known, **hertz), duration)
    settings = {camel(name): value for name, value in given.items()}
    case = {"settings": settings, "notes": [written(note, every) for note in notes]}
    return case if every == 1 else {"every": every, **case}


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def midi_cases() -> list[dict[str, Any]]:
    cases = []
    for seed, count in ((11, 3), (12, 60), (13, 300)):
        for bends in ("none", "plain", "channels", "mpe"):
            for tempo, signature, first in METRES:
                notes = invented_notes(seed, count)
                if bends == "none":
                    notes = [replace(note, bend=None) for note in notes]
                mode = "plain" if bends == "none" else bends
                beats = None
                per_bar, quarters = metre(signature or (4, 4))
                if first:
                    length = 60 / tempo
                    last = max(note.offset for note in notes)
                    beat_count = max(2, int(np.ceil((last - first) / length)) + 1)
                    beats = Beats(tuple((first + length * np.arange(beat_count)).tolist()), per_bar, 0, quarters)
                settings = MidiSettings(tempo=tempo * quarters, program=24, bend_mode=mode, time_signature=signature)
                data = to_midi(notes, settings, title="Für\tElise", beats=beats).data
                options = {"tempo": tempo, "bends": bends, "title": "Für\tElise", "program": 24}
                options |= {"timeSignature": signature} if signature else {}
                options |= {"firstBeat": first} if first else {}
                text = "\n".join(messages(data))
                case = {"seed": seed, "count": count, "options": options, "messages": text.count("\n") + 1}
                cases.append({**case, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    return cases


def tuned_midi_cases() -> list[dict[str, Any]]:
    """A quarter of the notes are in tune with the recording."""
    cases = []
    for bends in ("none", "plain", "channels", "mpe"):
        for tuning in (30.0, -41.5):
            notes = invented_notes(12, 60)
            for i in range(0, len(notes), 4):
                bend = PitchBend(notes[i].onset, 0.01, np.array([tuning / 100], np.float32))
                notes[i] = replace(notes[i], bend=bend)
            if bends == "none":
                notes = [replace(note, bend=None) for note in notes]
            settings = MidiSettings(tempo=97, program=24, bend_mode="plain" if bends == "none" else bends)
            text = "\n".join(messages(to_midi(notes, settings, title="A", tuning=tuning).data))
            options = {"tempo": 97, "bends": bends, "title": "A", "program": 24, "tuning": tuning}
            case = {"seed": 12, "count": 60, "options": options, "messages": text.count("\n") + 1}
            cases.append({**case, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    return cases


def messages(data: bytes) -> Iterator[str]:
    """What a MIDI file says, however it is packed: the resolution; track, tick and bytes of each message."""
    import mido
    from mido.midifiles.meta import meta_charset

    file = mido.MidiFile(file=BytesIO(data), charset="utf-8")
    yield str(file.ticks_per_beat)
    for number, track in enumerate(file.tracks):
        tick = 0
        for message in track:
            tick += message.time
            with meta_charset("utf-8"):
                yield f"{number} {tick} {bytes(message.bytes()).hex()}"


def shape_cases() -> list[dict[str, Any]]:
    cases = []
    for scale, mode, division, strength, swing, signature, first in (
        ("C minor", "snap", None, 1, 0, (4, 4), 0),
        ("F# blues", "snap", "1/16", 1, 0, (4, 4), 0),
        ("Bb dorian", "drop", "1/8T", 0.7, 0, (3, 4), 0.8),
        ("A", "mark", "1/8", 1, 0.5, (6, 8), 0),
        (None, "snap", "1/4", 0.25, 1, (4, 4), 0.31),
        (None, "snap", "1/16", 1, 0, (4, 4), 0.06),
    ):
        notes = invented_notes(21, 80)
        per_bar, quarters = metre(signature)
        times = first + 60 / 97 * np.arange(200)
        beats = Beats(tuple(times.tolist()), per_bar, 0, quarters)
        settings = ShapeSettings(
            scale=scale,
            scale_mode=mode,
            quantize=parse_division(division) if division else None,
            strength=strength,
            swing=swing,
        )
        shaped = shape(without_overlaps(notes), settings, beats, 30.0).notes
        given = {"scale": scale, "scaleMode": mode, "quantize": division, "strength": strength, "swing": swing}
        given |= {"tempo": 97, "timeSignature": signature, "firstBeat": first}
        cases.append({"seed": 21, "count": 80, "settings": given, "notes": [written(note)[:5] for note in shaped]})
        cases[-1]["tuning"] = 30.0
        cases[-1]["bends"] = round(sum(float(n.bend.semitones.sum()) for n in shaped if n.bend), 3)
    return cases


def without_overlaps(notes: list[Note]) -> list[Note]:
    last: dict[int, float] = {}
    kept = []
    for note in notes:
        if note.onset >= last.get(note.pitch, 0.0):
            kept.append(note)
            last[note.pitch] = note.offset
    return kept


def csv_cases() -> list[dict[str, Any]]:
    cases = []
    for seed, count in ((31, 100), (32, 400)):
        notes = invented_notes(seed, count)
        # Halves of the last digit: multiples of 1/128 s, of 1/32 in confidence.
        notes += [replace(n, onset=i / 128, offset=(i + 3) / 128, confidence=i % 33 / 32) for i, n in enumerate(notes)]
        text = notes_to_csv(notes)
        cases.append({"seed": seed, "count": count, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    return cases


def tuning_cases() -> list[dict[str, Any]]:
    """Chords so many cents too high, with noise, with the hum of the mains, struck again and again."""
    cases = []
    for cents, noise, rate, seconds, *others in (
        (-48, 0, 22050, 4),
        (-30, 0.05, 22050, 4),
        (-16, 0, 16000, 2),
        (-13, 0, 22050, 4),
        (0, 0, 22050, 4),
        (9, 0.01, 22050, 2),
        (22, 0, 22050, 4),
        (41, 0.02, 16000, 4),
        (49, 0, 22050, 1.3),
        (30, 0, 22050, 0.2),
        (30, 0, 22050, 0.0001),
        (30, 100, 22050, 4),
        (-27, 0.02, 22050, 33),
        (20, 0, 22050, 4, 50),
        (-20, 0, 22050, 4, 60),
        (30, 0, 22050, 8, 0, 8),
        (30, 0, 22050, 4, 0, 0, 0.01),
        (30, 0, 22050, 35, 0, 0, 0.003),
        (30, 0, 16000, 0.04, 0, 0, 1e-5),
    ):
        hum, struck, level = *others, *(0, 0, 1)[len(others) :]
        estimator = TuningEstimator(rate)
        estimator.push(np.float32(level) * invented_chords(cents, noise, rate, seconds, hum, struck))
        made = {"cents": cents, "noise": noise, "rate": rate, "seconds": seconds, "hum": hum, "struck": struck}
        tuning, gain = estimator.finish(), estimator.loudness.gain
        cases.append({**made, "level": level, "tuning": round(tuning, 4), "gain": round(gain, 4)})
    return cases


def invented_chords(
    cents: float, noise: float, rate: int, seconds: float, hum: int, struck: int
) -> NDArray[np.float32]:
    """Four triads one after the other, five partials a note, each held or struck so many times a second."""
    dice = Dice(51)
    length = int(seconds * rate)
    audio = np.empty(length)
    for first, root in zip(range(0, length, -(-length // 4)), (48, 53, 55, 60), strict=False):
        t = np.arange(first, min(length, first - (-length // 4))) / rate
        since = t % (1 / struck) if struck else t
        notes = [440 * 2 ** ((root + step - 69 + cents / 100) / 12) for step in (0, 4, 7)]
        chord = sum(np.sin(2 * np.pi * k * f * since) / k for f in notes for k in range(1, 6))
        mains = sum(np.sin(2 * np.pi * k * hum * t) for k in range(1, 6))
        audio[first : first + len(t)] = chord * (np.exp(-6 * since) if struck else 1) + mains
    return (0.1 * audio + noise * np.array([dice.throw() - 0.5 for _ in range(length)])).astype(np.float32)


def resampling_cases() -> list[dict[str, Any]]:
    """Tones as soxr resamples them."""
    import soxr

    cases = []
    for rate in (8000, 16000, 44100, 48000, 96000, 44056):
        seconds = np.arange(int(0.25 * rate)) / rate
        tones = sum(np.sin(2 * np.pi * f * seconds) * 0.1 for f in (110, 997, 3301, 6007, 8999) if f < 0.45 * rate)
        out = soxr.resample(tones.astype(np.float32), rate, 22050)
        cases.append({"rate": rate, "length": len(out), "middle": [round(float(x), 6) for x in out[2700:2760]]})
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    cases = {
        "tracker": tracker_cases(),
        "line": line_cases(),
        "midi": midi_cases() + tuned_midi_cases(),
        "shape": shape_cases(),
        "csv": csv_cases(),
        "resampling": resampling_cases(),
        "tuning": tuning_cases(),
    }
    lines = [f' "{room}": [\n' + ",\n".join("  " + json.dumps(case) for case in made) for room, made in cases.items()]
    text = "{\n" + "\n ],\n".join(lines) + "\n ]\n}\n"
    if not args.check:
        PATH.write_text(text)
    elif PATH.read_text() != text:
        raise SystemExit(f"{PATH.name} is out of date: run python web/tests/make_cases.py")


if __name__ == "__main__":
    main()
