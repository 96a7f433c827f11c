"""Turn sampled instruments and SoundFonts into the note banks that ``render.py`` plays training music with.

Two sources become one format:

* ``DATA_DIR/instruments/NAME.ogg`` + ``NAME.json``: recordings of single notes with their measured pitch and level;
* General MIDI SoundFonts: every pitched program is rendered note by note (every third semitone, two or three
  velocities) by the ``fluidsynth`` command, without reverb or chorus. Notes that sound more than 60 cents away from
  what they are asked for, programs with many such notes and programs that are next to silent are left out: they would
  teach wrong labels.

A bank is ``BANK_ID.npy``, all its notes one after the other (int16, mono, 22,050 Hz, every note normalised), and
``BANK_ID.json``::

    {"id", "family", "kind": "decay" | "sustain", "programs": [General MIDI, from 0],
     "release": seconds, "heldout": bool,
     "samples": [{
        "pitch":    sounding MIDI pitch, fractional,
        "nominal":  MIDI pitch the note was played as,
        "velocity": 1..127,
        "start", "length": position in the .npy, in samples,
        "gain_db":  level to restore, int16 / 32767 * 10 ** (gain_db / 20); a bank's loudest note then peaks at 1,
        "attack":   sample within the note where the sound begins, at most about 200,
        "held":     samples while the key was down (SoundFont notes of kind "sustain"; otherwise the length)}]}

Banks marked ``heldout`` are for tests on unseen sounds; they must not be trained on. A bank whose .json exists is
skipped, so an interrupted run can be repeated; the same sources always give the same banks.

The SoundFonts and fluidsynth on Debian (``--fonts`` names other places of theirs, and others)::

    apt-get install fluidsynth fluid-soundfont-gm musescore-general-soundfont timgm6mb-soundfont csound-soundfont

Usage::

    python scripts/prepare.py --data DATA_DIR --out BANKS [--fonts NAME=PATH ...] [--jobs 2]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from shared import at_least_one, errors_in_one_line, workers

from basic_transcribe.errors import UsageError

Audio = npt.NDArray[np.float32]

SAMPLE_RATE = 22_050
PEAK = 0.9
MAX_SECONDS = 8.0
PRE_ROLL = 150  # samples kept before the attack, so that a resampler or a high-pass has something to ring into
SILENT_DBFS = -55.0
MAX_DEVIATION_CENTS = 60.0
MAX_DOUBTS = 1 / 3  # share of a program's notes that begin off pitch beyond which the whole program is left out

DEBIAN_FONTS = {
    "fluidr3": "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "musescore": "/usr/share/sounds/sf3/MuseScore_General_Full.sf3",
    "timgm": "/usr/share/sounds/sf2/TimGM6mb.sf2",
    "csound": "/usr/share/sounds/sf2/sf_GMbank.sf2",
}
HELDOUT_FONTS = {"timgm", "csound"}
HELDOUT_BANKS = {
    "piano_headroom", "piano_upright_kw", "guitar_emily_hollow", "guitar_nylon_spanish", "bass_growly",
    "sax_weresax_alto", "violin_tonejs", "cello_tonejs",
}  # fmt: skip

# General MIDI programs (from 0) whose octave is ambiguous or that have no pitch at all.
SKIPPED_PROGRAMS = {9, 13, 14, 16, 17, 18, 31, 47, 55, 97, 101, 112, 113, *range(115, 128)}
DECAY_PROGRAMS = {*range(16), *range(24, 29), *range(32, 40), 45, 46, *range(104, 109), 114}
# Families in which loudness changes the timbre most get three velocities, the others two.
THREE_VELOCITIES = {*range(8), *range(24, 52)}

# (programs, family, lowest, highest MIDI pitch rendered); the first row that names a program counts.
PROGRAM_TABLE: tuple[tuple[Iterable[int], str, int, int], ...] = (
    ((0, 1, 3), "piano", 21, 108),
    ((2, 4, 5), "epiano", 27, 103),
    ((6,), "plucked", 29, 89),  # harpsichord
    ((7,), "epiano", 29, 88),  # clavinet
    ((8, 10), "mallet", 60, 108),  # celesta, music box
    ((11,), "mallet", 53, 89),  # vibraphone
    ((12,), "mallet", 45, 96),  # marimba
    ((15,), "plucked", 43, 84),  # dulcimer
    ((19, 20), "organ", 36, 96),
    ((21, 23), "freereed", 41, 93),  # accordion, bandoneon
    ((22,), "freereed", 55, 96),  # harmonica
    ((24, 25), "guitar", 40, 86),
    (range(26, 31), "eguitar", 40, 86),
    (range(32, 40), "bass", 24, 67),
    ((40, 110), "strings", 55, 100),
    ((41,), "strings", 48, 88),
    ((42,), "strings", 36, 81),
    ((43,), "strings", 24, 67),
    ((44,), "strings", 36, 96),  # tremolo
    ((45,), "plucked", 36, 93),  # pizzicato
    ((46,), "plucked", 24, 103),  # harp
    (range(48, 52), "ensemble", 36, 96),
    ((52, 53, 54), "voice", 43, 84),
    ((56, 59), "brass", 52, 88),  # trumpets
    ((57,), "brass", 34, 76),  # trombone
    ((58,), "brass", 26, 62),  # tuba
    ((60,), "brass", 35, 79),  # horn
    ((61, 62, 63), "brass", 36, 88),
    ((64,), "reed", 56, 90),
    ((65,), "reed", 49, 82),
    ((66,), "reed", 44, 77),
    ((67,), "reed", 36, 71),
    ((68,), "reed", 58, 93),  # oboe
    ((69,), "reed", 52, 82),  # English horn
    ((70,), "reed", 34, 77),  # bassoon
    ((71,), "reed", 50, 94),  # clarinet
    ((72,), "pipe", 70, 106),  # piccolo
    ((73, 75), "pipe", 58, 98),
    ((74,), "pipe", 60, 98),
    ((76, 77), "pipe", 52, 92),
    ((78, 79), "pipe", 60, 98),
    (range(80, 104), "synth", 36, 96),
    ((104, 105, 106, 107), "plucked", 40, 86),
    ((108,), "mallet", 55, 96),  # kalimba
    ((109, 111), "reed", 55, 88),  # bagpipe, shanai
    ((114,), "mallet", 52, 91),  # steel drums
)
RELEASE = {"piano": 0.15, "epiano": 0.1, "guitar": 0.1, "eguitar": 0.1, "bass": 0.08, "plucked": 0.1, "voice": 0.1}


@dataclass
class Sample:
    """One note of a bank; the fields are described at the top of this file."""

    pitch: float
    nominal: int
    velocity: int
    start: int
    length: int
    gain_db: float
    attack: int
    held: int


@dataclass
class Note:
    """A note on its way into a bank: its true waveform, (n,), and ``held`` in samples (None: all of it)."""

    audio: Audio
    pitch: float
    nominal: int
    velocity: int
    held: int | None


# ---- signal ----


def running_rms(audio: Audio, window: int) -> npt.NDArray[np.float64]:
    """Root mean square in a centred window around every sample, (n,)."""
    energy = np.concatenate([[0.0], np.cumsum(audio.astype(np.float64) ** 2)])
    n = len(audio)
    low = np.clip(np.arange(n) - window // 2, 0, n)
    high = np.clip(low + window, 0, n)
    return np.asarray(np.sqrt(np.maximum(energy[high] - energy[low], 0.0) / window))


def trim(audio: Audio, held: int | None) -> tuple[Audio, int, int]:
    """Cut leading and trailing silence.

    Returns the audio, the sample where the sound begins (5 ms RMS above -30 dB of its maximum in the first 0.5 s) and
    the samples the key was held.
    """
    level = running_rms(audio, int(0.005 * SAMPLE_RATE))
    attack = int(np.argmax(level > level[: SAMPLE_RATE // 2].max() * 10 ** (-30 / 20)))
    first = max(0, attack - PRE_ROLL)
    tail = running_rms(audio, int(0.02 * SAMPLE_RATE))
    last = len(audio) - int(np.argmax(tail[::-1] > tail.max() * 10 ** (-66 / 20)))
    last = min(max(last, first + SAMPLE_RATE // 20), first + int(MAX_SECONDS * SAMPLE_RATE), len(audio))
    cut = audio[first:last].copy()
    if first:
        n = min(44, len(cut))
        cut[:n] *= np.linspace(0.0, 1.0, n, dtype=np.float32)
    n = min(int(0.03 * SAMPLE_RATE), len(cut))
    cut[-n:] *= np.linspace(1.0, 0.0, n, dtype=np.float32)
    return cut, attack - first, len(cut) if held is None else min(max(held - first, 1), len(cut))


def period_frequency(audio: Audio, lowest: float, highest: float) -> float | None:
    """Fundamental frequency in Hz from the first deep dip of YIN's difference function, None without a clear period.

    YIN: de Cheveigné and Kawahara, JASA 111 (2002).
    """
    max_lag = int(SAMPLE_RATE / lowest) + 2
    window = len(audio) - max_lag
    if window < 2 * max_lag:
        return None
    x = audio.astype(np.float64)
    size = 1 << int(np.ceil(np.log2(len(x) + window)))
    cross = np.fft.irfft(np.fft.rfft(x, size) * np.conj(np.fft.rfft(x[:window], size)), size)[: max_lag + 1]
    energy = np.concatenate([[0.0], np.cumsum(x**2)])
    power = energy[window : window + max_lag + 1] - energy[: max_lag + 1]
    difference = np.maximum(power[0] + power - 2.0 * cross, 0.0)
    mean = np.cumsum(difference[1:]) / np.arange(1, max_lag + 1)
    normal = np.concatenate([[1.0], difference[1:] / np.maximum(mean, 1e-12)])
    shortest = max(2, int(SAMPLE_RATE / highest))
    span = normal[shortest:max_lag]
    deepest = float(span.min())
    if deepest > 0.5:
        return None
    lag = shortest + int(np.argmax(span <= max(0.15, 1.3 * deepest)))
    while lag + 1 < max_lag and normal[lag + 1] < normal[lag]:
        lag += 1
    a, b, c = difference[lag - 1 : lag + 2]
    curvature = a - 2.0 * b + c
    shift = 0.5 * (a - c) / curvature if curvature > 0 else 0.0
    return SAMPLE_RATE / (lag + float(np.clip(shift, -1.0, 1.0)))


def deviation_cents(audio: Audio, nominal: int, begin: float, seconds: float) -> float | None:
    """Distance in cents of the sounding pitch from ``nominal``, searched within two octaves and a half either way."""
    expected = 440.0 * 2 ** ((nominal - 69) / 12)
    part = audio[int(begin * SAMPLE_RATE) : int((begin + seconds) * SAMPLE_RATE)]
    # The high partials of struck and plucked strings are sharp and pull the period: keep what lies below the seventh.
    spectrum = np.fft.rfft(part)
    spectrum[np.fft.rfftfreq(len(part), 1 / SAMPLE_RATE) > max(6.5 * expected, 400.0)] = 0
    part = np.fft.irfft(spectrum, len(part)).astype(np.float32)
    found = period_frequency(part, max(expected / 5.7, 18.0), min(expected * 5.7, SAMPLE_RATE / 4))
    return None if found is None else float(1200 * np.log2(found / expected))


def spectral_cents(audio: Audio, nominal: int, begin: float, seconds: float) -> float | None:
    """Deviation from ``nominal`` in cents within ±60, read from the strongest of the first four partials, else None."""
    expected = 440.0 * 2 ** ((nominal - 69) / 12)
    part = audio[int(begin * SAMPLE_RATE) : int((begin + seconds) * SAMPLE_RATE)]
    # A window too short for the note would measure its own main lobe.
    if len(part) * expected / SAMPLE_RATE < 40:
        return None
    size = 1 << 17
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), size))
    best: tuple[float, float] | None = None
    for partial_number in range(1, 5):
        low, high = (expected * partial_number * 2 ** (c / 1200) * size / SAMPLE_RATE for c in (-60.0, 60.0))
        if high >= size / 2 - 2:
            break
        start = int(low)
        k = start + int(np.argmax(spectrum[start : int(high) + 2]))
        if k <= low + 1 or k >= high - 1:
            continue
        cents = 1200 * np.log2(k * SAMPLE_RATE / size / partial_number / expected)
        if best is None or spectrum[k] > best[0]:
            best = (float(spectrum[k]), float(cents))
    return None if best is None else best[1]


def off_pitch(audio: Audio, nominal: int) -> tuple[float | None, bool]:
    """Whether a note misses ``nominal`` by too much.

    Returns the cents it is off by if it is off both early and late in the note, else None; and whether it is off early.
    """
    early, late = deviation_cents(audio, nominal, 0.05, 0.8), deviation_cents(audio, nominal, 0.6, 0.8)
    doubtful = early is not None and abs(early) > MAX_DEVIATION_CENTS
    # Both, because an attack may glide or hide the period, and a dying tail may be all beating.
    if early is None or late is None or abs(early - late) > 40.0 or abs(late) <= MAX_DEVIATION_CENTS:
        return None, doubtful
    return late, True


def stable_tuning(audio: Audio, nominal: int) -> float:
    """Deviation from ``nominal`` in cents where it stays the same; 0 for vibrato, beating and noise."""
    early, late = spectral_cents(audio, nominal, 0.05, 0.9), spectral_cents(audio, nominal, 0.6, 0.9)
    return (early + late) / 2 if early is not None and late is not None and abs(early - late) < 4.0 else 0.0


# ---- banks ----


def write_bank(out: Path, header: dict[str, Any], notes: list[Note]) -> None:
    """Write one bank; the .json comes last and in one piece, so that its presence means that the bank is whole."""
    trimmed = [(note, *trim(note.audio, note.held)) for note in notes if np.abs(note.audio).max() > 1e-7]
    loudest = max(float(np.abs(audio).max()) for _, audio, _, _ in trimmed)
    samples, pieces, start = [], [], 0
    for note, audio, attack, held in trimmed:
        peak = float(np.abs(audio).max())
        pieces.append(np.round(audio * (PEAK * 32767 / peak)).astype(np.int16))
        gain = float(20 * np.log10(peak / PEAK / loudest))
        pitch, gain = round(note.pitch, 3), round(gain, 2)
        samples.append(Sample(pitch, note.nominal, note.velocity, start, len(audio), gain, attack, held))
        start += len(audio)
    name = header["id"]
    np.save(out / f"{name}.npy", np.concatenate(pieces))
    temporary = out / f"{name}.json.tmp"
    temporary.write_text(json.dumps(header | {"samples": [asdict(s) for s in samples]}, separators=(",", ":")))
    os.replace(temporary, out / f"{name}.json")


def instrument_bank(source: Path, out: Path) -> str:
    """Bank of one recorded instrument (``source`` is its .json); returns a line to print."""
    import soundfile
    import soxr

    header = json.loads(source.read_text())
    audio, rate = soundfile.read(source.with_suffix(".ogg"), dtype="float32")
    notes = []
    for sample in header["samples"]:
        part = audio[sample["start"] : sample["start"] + min(sample["n"], int((MAX_SECONDS + 1) * rate))]
        part = soxr.resample(part, rate, SAMPLE_RATE, quality="VHQ")
        # The file holds every note at the same peak; orig_db is the peak it was recorded at.
        part = part * (10 ** (sample["orig_db"] / 20) / max(float(np.abs(part).max()), 1e-9))
        pitch = sample["pitch"] + sample["cents"] / 100
        notes.append(Note(part.astype(np.float32), pitch, sample["pitch"], max(1, min(127, sample["vel"])), None))
    bank = {key: header[key] for key in ("id", "family", "kind", "programs", "release")}
    bank["heldout"] = header["id"] in HELDOUT_BANKS
    write_bank(out, bank, notes)
    return f"{header['id']}: {len(notes)} notes"


# ---- SoundFonts ----


def program_range(program: int) -> tuple[str, int, int]:
    """Family, lowest and highest pitch of a General MIDI program."""
    for programs, family, low, high in PROGRAM_TABLE:
        if program in programs:
            return family, low, high
    raise KeyError(program)


def render_program(font: Path, program: int, plan: list[tuple[int, int]], held: float, tail: float) -> list[Audio]:
    """Play the (pitch, velocity) pairs of ``plan`` one by one with fluidsynth; one waveform per pair."""
    import mido
    import soundfile

    step = held + tail + 0.1
    tempo = mido.MetaMessage("set_tempo", tempo=1_000_000)
    track = mido.MidiTrack([tempo, mido.Message("program_change", program=program)])
    now = 0  # milliseconds: 1,000 ticks a beat at one beat a second
    events: list[tuple[int, Any]] = []
    for i, (pitch, velocity) in enumerate(plan):
        begin = round(i * step * 1000) + 100
        events.append((begin, mido.Message("note_on", note=pitch, velocity=velocity)))
        events.append((begin + round(held * 1000), mido.Message("note_off", note=pitch)))
        # All sound off: a long release must not ring into the next note.
        events.append((begin + round((held + tail) * 1000) + 20, mido.Message("control_change", control=120, value=0)))
    for when, message in events:
        track.append(message.copy(time=when - now))
        now = when
    midi = mido.MidiFile(ticks_per_beat=1000, tracks=[track])
    with tempfile.TemporaryDirectory() as folder:
        song, wave = Path(folder, "notes.mid"), Path(folder, "notes.wav")
        midi.save(song)
        try:
            subprocess.run(
                ["fluidsynth", "-n", "-i", "-q", "-R", "0", "-C", "0", "-g", "0.5", "-r", str(SAMPLE_RATE), "-T", "wav",
                 "-O", "float", "-o", "synth.dynamic-sample-loading=1", "-F", str(wave), str(font), str(song)],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            raise UsageError(
                f"{font}: fluidsynth cannot play it ({error}); install fluidsynth, check the font"
            ) from error
        audio, rate = soundfile.read(wave, dtype="float32", always_2d=True)
    if rate != SAMPLE_RATE:
        raise RuntimeError(f"{font}: fluidsynth wrote {rate} Hz instead of {SAMPLE_RATE} Hz")
    mono = audio.mean(axis=1)
    mono = np.pad(mono, (0, max(0, round(len(plan) * step * SAMPLE_RATE) - len(mono))))
    starts = [round((i * step + 0.1) * SAMPLE_RATE) for i in range(len(plan))]
    return [mono[s : s + round((held + tail) * SAMPLE_RATE)] for s in starts]


def font_bank(name: str, font: Path, program: int, out: Path) -> str:
    """Bank of one program of a SoundFont; returns a line to print, which says why if there is no bank."""
    family, low, high = program_range(program)
    kind = "decay" if program in DECAY_PROGRAMS else "sustain"
    held, tail = (4.0, 0.4) if kind == "decay" else (2.6, 0.7)
    velocities = (30, 70, 110) if program in THREE_VELOCITIES else (45, 100)
    plan = [(pitch, velocity) for pitch in range(low, high + 1, 3) for velocity in velocities]
    waves = render_program(font, program, plan, held, tail)

    bank_id = f"{name}_p{program:03d}"
    peak = max(float(np.abs(wave).max()) for wave in waves)
    level = 20 * np.log10(max(peak, 1e-9))
    if level < SILENT_DBFS:
        return f"{bank_id}: DROPPED, silent ({level:.0f} dBFS)"

    notes, wrong, doubts = [], [], 0
    for (nominal, velocity), wave in zip(plan, waves, strict=True):
        error, doubtful = off_pitch(wave, nominal)
        doubts += doubtful
        if error is not None:
            wrong.append((nominal, round(error)))
            continue
        pitch = nominal + stable_tuning(wave, nominal) / 100
        notes.append(Note(wave, pitch, nominal, velocity, round(held * SAMPLE_RATE) if kind == "sustain" else None))
    if doubts > MAX_DOUBTS * len(plan):
        return f"{bank_id}: DROPPED, {family}, {doubts} of {len(plan)} notes off, e.g. (pitch, cents) {wrong[::4]}"
    notes = [note for note in notes if np.abs(note.audio).max() > peak * 1e-3]
    header: dict[str, Any] = {"id": bank_id, "family": family, "kind": kind, "programs": [program]}
    header |= {"release": RELEASE.get(family, 0.15), "heldout": name in HELDOUT_FONTS}
    write_bank(out, header, notes)
    left_out = f", {len(wrong)} at a wrong pitch left out" if wrong else ""
    return f"{bank_id}: {len(notes)} notes, {family}, peak {level:.0f} dBFS{left_out}"


# ---- main ----


def call(job: Callable[[], str]) -> str:
    """Run one job (a named function, since a process pool cannot take a lambda)."""
    return job()


def jobs_to_do(data: Path, out: Path, fonts: dict[str, Path]) -> Iterator[Callable[[], str]]:
    """Every bank that is missing: recorded instruments first, then one font after the other."""
    for source in sorted((data / "instruments").glob("*.json")):
        if not (out / source.name).exists():
            yield partial(instrument_bank, source, out)
    for name, path in fonts.items():
        for program in range(128):
            if program not in SKIPPED_PROGRAMS and not (out / f"{name}_p{program:03d}.json").exists():
                yield partial(font_bank, name, path, program, out)


def parse_font(text: str) -> tuple[str, str]:
    """``NAME=PATH`` of a SoundFont that exists, or ``NAME=``."""
    name, equals, path = text.partition("=")
    if not name.isidentifier() or not equals or (path and not Path(path).is_file()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH of a SoundFont file")
    return name, path


def chosen_fonts(given: dict[str, str]) -> dict[str, Path]:
    """Debian's SoundFonts and those given, less those given without a path.

    Raises
    ------
    UsageError
        If some are missing.
    """
    fonts = {name: Path(path) for name, path in (DEBIAN_FONTS | given).items() if path}
    if missing := {name: path for name, path in fonts.items() if not path.is_file()}:
        names = ", ".join(f"{name} ({path})" for name, path in missing.items())
        raise UsageError(f"no SoundFont {names}; install it, or say where it is (--fonts NAME=PATH) or not (NAME=)")
    return fonts


@errors_in_one_line()
def main() -> int:
    parser = argparse.ArgumentParser(description="Make note banks from sampled instruments and SoundFonts.")
    parser.add_argument("--data", type=Path, required=True, help="folder with instruments/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the banks")
    parser.add_argument(
        "--fonts",
        nargs="*",
        type=parse_font,
        metavar="NAME=PATH",
        default=[],
        help="SoundFonts beside or instead of Debian's",
    )
    parser.add_argument("--jobs", type=at_least_one, default=2, help="processes")
    options = parser.parse_args()
    if not (options.data / "instruments").is_dir():
        parser.error(f"{options.data / 'instruments'} is not a folder")
    fonts = chosen_fonts(dict(options.fonts))
    options.out.mkdir(parents=True, exist_ok=True)
    with workers(options.jobs) as pool:
        for line in pool.map(call, jobs_to_do(options.data, options.out, fonts)):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
