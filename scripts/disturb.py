"""Spoil reference recordings as telephones, rooms, tapes and the like do, to measure what transcribers make of them.

    python scripts/disturb.py REF_ROOT OUT [--seconds 60] [--every 2] [--conditions hall,noise]

Writes ``OUT/<condition>/<set>/<name>.flac`` with a reference beside it, for ``evaluate.py OUT/<condition>``; where a
condition changes times or pitches, the reference follows, with the change of pitch as ``bend_cents``. The same
recordings give the same files. Played one or two semitones lower or higher (``--conditions
lower-2,lower-1,higher-1,higher-2``), they are as good as others of their kind when models are compared (compare.py).
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt
from shared import at_least_one, errors_in_one_line, names, workers

from basic_transcribe import scoring
from basic_transcribe.audio import open_audio
from basic_transcribe.errors import UsageError

RATE = 44100
PEAK = 0.7
SHORTEST = 0.01  # seconds of a note that is left at the end

Array = NDArray[np.float64]
Condition = Callable[[Array, np.random.Generator], Array]


def rms(x: Array) -> float:
    return float(np.sqrt(np.mean(x**2))) + 1e-12


def levelled(x: Array, peak: float = PEAK) -> Array:
    return np.asarray(x * (peak / (np.abs(x).max() + 1e-12)))


def mp3(x: Array, rng: np.random.Generator) -> Array:
    """A small MP3 file, about 32 kbit/s."""
    buffer = io.BytesIO()
    soundfile.write(buffer, levelled(x), RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=0.99)
    buffer.seek(0)
    y, _ = soundfile.read(buffer)
    late = int(fftconvolve(y, x[::-1]).argmax()) - len(x) + 1  # what the encoder has put before the beginning
    return np.asarray(y[late : late + len(x)], np.float64)


def telephone(x: Array, rng: np.random.Generator) -> Array:
    """300 to 3,400 Hz."""
    band = sosfilt(butter(4, [300, 3400], "bandpass", fs=RATE, output="sos"), x)
    return np.asarray(soxr.resample(soxr.resample(band, RATE, 8000), 8000, RATE), np.float64)


def tilted(x: Array, rng: np.random.Generator, slope: float) -> Array:
    """So many dB an octave, from 500 Hz."""
    f = np.maximum(np.fft.rfftfreq(len(x), 1 / RATE), 40)
    return np.fft.irfft(np.fft.rfft(x) * 10 ** (slope * np.log2(f / 500) / 20), len(x))


def reverberant(x: Array, rng: np.random.Generator, decay: float, wet: float) -> Array:
    """Sound that takes ``decay`` seconds to fall by 60 dB, ``wet`` dB louder in all than what comes straight."""
    t = np.arange(int(decay * RATE)) / RATE
    tail = rng.standard_normal(len(t)) * 10 ** (-3 * t / decay) * (t > 0.005)
    tail = sosfilt(butter(1, 5000, fs=RATE, output="sos"), tail)
    return np.asarray(x + fftconvolve(x, tail * 10 ** (wet / 20) / np.sqrt(np.sum(tail**2)))[: len(x)])


def noisy(x: Array, rng: np.random.Generator, below: float) -> Array:
    """Pink noise, so many dB below the music."""
    f = np.maximum(np.fft.rfftfreq(len(x), 1 / RATE), 20)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(len(x))) / np.sqrt(f), len(x))
    return x + noise * (rms(x) / rms(noise) * 10 ** (-below / 20))


def overdriven(x: Array, rng: np.random.Generator) -> Array:
    """Clipped, 12 dB beyond full scale."""
    return np.clip(levelled(x, 4.0), -1, 1)


def faint(x: Array, rng: np.random.Generator) -> Array:
    """50 dB below full scale, in 16 bits."""
    return np.round(levelled(x, 10 ** (-50 / 20)) * 2**15) / 2**15


CONDITIONS: dict[str, Condition] = {
    "untouched": lambda x, rng: x,
    "mp3": mp3,
    "telephone": telephone,
    "dull": partial(tilted, slope=-6),
    "shrill": partial(tilted, slope=6),
    "room": partial(reverberant, decay=0.8, wet=0),
    "hall": partial(reverberant, decay=2.0, wet=0),
    "noise": partial(noisy, below=20),
    "much-noise": partial(noisy, below=10),
    "overdriven": overdriven,
    "faint": faint,
}
SPEEDS: dict[str, Callable[[Array], Array]] = {
    "sharp": lambda t: np.full(len(t), 40.0),
    "tape": lambda t: 25 * np.sin(2 * np.pi * 0.55 * t),
}
"""Cents by which it is played too fast, at each second."""
TRANSPOSED = {"lower-2": -2, "lower-1": -1, "higher-1": 1, "higher-2": 2}
"""Semitones by which it is played too fast throughout."""


def played(x: Array, cents: Callable[[Array], Array]) -> tuple[Array, Array]:
    """At another speed; also the second of ``x`` that each sample is of."""
    t = np.arange(int(1.1 * len(x))) / RATE
    at = np.concatenate([[0.0], np.cumsum(2 ** (cents(t) / 1200))[:-1]]) / RATE
    at = at[at < (len(x) - 1) / RATE]
    finer = soxr.resample(x, RATE, 4 * RATE)
    return np.interp(at * 4 * RATE, np.arange(len(finer)), finer), at


def read(path: Path, seconds: float) -> Array:
    """The first seconds of a recording, mixed to one channel."""
    with open_audio(path, target_rate=RATE, tuning=0.0) as stream:
        samples = np.concatenate(list(stream))
    return np.asarray(samples[: int(seconds * RATE)], np.float64)


def played_until(notes: scoring.Notes, end: float) -> scoring.Notes:
    """The notes that begin before ``end`` (s), and end there at the latest."""
    inside = notes.intervals[:, 0] < end - SHORTEST
    velocity = None if notes.velocity is None else notes.velocity[inside]
    return scoring.Notes(
        np.minimum(notes.intervals[inside], end), notes.pitch[inside], notes.sounding[inside], velocity
    )


def write(path: Path, x: Array, notes: scoring.Notes) -> None:
    """A recording, as FLAC, and its reference beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x * min(1.0, 0.99 / (np.abs(x).max() + 1e-12)), RATE, "PCM_16")
    cents = 100 * (notes.sounding - notes.pitch)
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        header = ["onset_s", "offset_s", "midi_pitch", "bend_cents"]
        writer.writerow(header if notes.velocity is None else [*header, "velocity"])
        for i, (onset, offset) in enumerate(notes.intervals):
            row = [f"{onset:.4f}", f"{max(offset, onset + SHORTEST):.4f}", notes.pitch[i], f"{cents[i]:.2f}"]
            writer.writerow(row if notes.velocity is None else [*row, notes.velocity[i]])


def spoil(recording: scoring.Recording, out: Path, conditions: list[str], seconds: float) -> None:
    """Write a recording and its reference in all conditions."""
    x = read(recording.audio, seconds)
    notes = played_until(scoring.load_reference(recording.reference), len(x) / RATE)
    for name in conditions:
        rng = np.random.default_rng(list(f"{name}/{recording.name}".encode()))
        changed = notes
        if name in SPEEDS:
            y, at = played(x, SPEEDS[name])
            times = np.interp(notes.intervals, at, np.arange(len(at)) / RATE)
            sounding = notes.sounding + SPEEDS[name](times.mean(axis=1)) / 100
            changed = scoring.Notes(times, notes.pitch, sounding, notes.velocity)
        elif name in TRANSPOSED:
            semitones = TRANSPOSED[name]
            speed = 2 ** (semitones / 12)
            y = soxr.resample(x, RATE * speed, RATE)
            changed = scoring.Notes(
                notes.intervals / speed, notes.pitch + semitones, notes.sounding + semitones, notes.velocity
            )
        else:
            y = CONDITIONS[name](x, rng)
        write(out / name / recording.set_name / f"{recording.name}.flac", y, changed)


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="REF_ROOT")
    parser.add_argument("out", type=Path, metavar="OUT")
    usual = [*CONDITIONS, *SPEEDS]
    known = [*usual, *TRANSPOSED]
    parser.add_argument(
        "--conditions", type=names, default=usual, help=f"{', '.join(known)} (default: all but the last four)"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each recording (default: %(default)g)")
    parser.add_argument("--every", type=at_least_one, default=2, help="take every N-th of a set (default: %(default)s)")
    parser.add_argument("--jobs", type=at_least_one, default=2)
    args = parser.parse_args()
    if unknown := set(args.conditions) - set(known):
        raise UsageError(f"no such condition: {', '.join(sorted(unknown))}; give some of {', '.join(known)}")
    sets = defaultdict(list)
    for recording in scoring.recordings(args.root):
        sets[recording.set_name].append(recording)
    chosen = [recording for found in sets.values() for recording in found[:: args.every]]
    with workers(args.jobs) as pool:
        list(pool.map(partial(spoil, out=args.out, conditions=args.conditions, seconds=args.seconds), chosen))
    print(f"{args.out}: {len(chosen)} recordings in {len(args.conditions)} conditions")


if __name__ == "__main__":  # workers import this module again
    main()
