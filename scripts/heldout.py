"""The rendered test: music on instruments that training never heard, and how well it is transcribed.

    python scripts/heldout.py render --banks BANKS --library LIBRARY.npz --data DATA --out OUT
    python scripts/heldout.py score OUT [--model M] [--peer MIDI_DIR] [--json FILE]

``render`` writes 60 clips of 20 s, ``OUT/<family>/<name>.flac``, each with ``<name>.csv`` (``onset_s,offset_s,
midi_pitch,velocity``; the pitch is the nearest semitone to the one that sounds) and ``<name>.bends.npz``: the deviation
from that semitone, ``semitones`` of all notes one after the other, ``count`` of them a note, ``step`` in seconds, and
``swell``, the seconds from the first sound of each note to its onset, which is where it is heard to begin.
Nine families of solos have 4 clips each, the four of ensembles 6; a clip is named after its banks. Nine more clips in
``OUT/bends`` have vibrato, slides and notes out of tune; they are scored by pitch alone. ``evaluate.py OUT`` works too.

Only banks marked ``heldout`` play. The pieces come from the library that training draws from, in other excerpts, keys
and tempi; rooms and drums are those of training too: unseen are the instruments. The recording is plain: a room and
light noise. A test must not ask for what cannot be known, so left out are banks that speak too slowly for a tolerance
of 50 ms, programs without one clear pitch, rooms that ring longer than 2 s, and references to notes 40 dB below the mix
where they begin. Velocities are left out where a bank was levelled, so that they do not sound.

``score`` uses the package's defaults. Onset errors are given twice, counted from the onsets, and from the first sound
of each note, which is where a file that a synthesiser played would have it. A peer's notes are read from
``MIDI_DIR/<family>/<name>.mid``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from music import Event, fit_range, monophonic, tidy
from prepare import deviation_cents, running_rms
from render import Material, Part, drum_track, from_library, load_material, merge_unisons, noise, thin
from scipy.signal import fftconvolve
from shared import errors_in_one_line
from synth import FRAME, SAMPLE_RATE, Bank, Played, Touch, audible_length, level_of, perceived_attack, settle

from basic_transcribe import scoring
from basic_transcribe.pipeline import Transcriber
from basic_transcribe.tuning import midi_to_hz
from basic_transcribe.types import Note

LENGTH = 20.0
# Of each clip: the family of its bank, and how many notes may begin together.
SOLOS: dict[str, tuple[tuple[str, int], ...]] = {
    "piano": (("piano", 10),) * 4,
    "guitar": (("guitar", 6), ("guitar", 1), ("eguitar", 6), ("eguitar", 1)),
    "bass": (("bass", 1),) * 4,
    "strings": (("strings", 1),) * 4,
    "reeds": (("reed", 1), ("reed", 1), ("reed", 1), ("freereed", 4)),
    "brass": (("brass", 1),) * 4,
    "voice": (("voice", 1), ("voice", 1), ("voice", 4), ("voice", 4)),
    "mallets": (("mallet", 4), ("mallet", 1), ("mallet", 4), ("mallet", 1)),
    "organ_synth": (("organ", 4), ("synth", 4), ("synth", 1), ("synth", 1)),
}
ENSEMBLES = {"duets": 2, "quartets": 4, "duets_drums": 2, "quartets_drums": 4}  # players
ENSEMBLE_CLIPS = 6
PLAYERS = ("piano", "guitar", "strings", "reed", "pipe", "brass", "voice", "mallet", "plucked", "freereed", "epiano")
GESTURES = ("vibrato", "slide", "detuned")
GESTURE_CLIPS = 3
GESTURE_FAMILIES = ("strings", "reed", "freereed", "pipe", "brass", "voice", "guitar", "eguitar")

MELODIES = ("nottingham", "openscore_lieder", "openscore_quartets", "pop909")
CHORDS = ("pop909", "pop909", "openscore_lieder", "jsfakes")
SCORES = {"duets": ("openscore_lieder", "jsfakes"), "quartets": ("openscore_quartets", "jsfakes")}
SCORES |= {"duets_drums": ("pop909",), "quartets_drums": ("pop909",)}
REGISTERS = {"bass": (28, 55), "guitar": (40, 84), "eguitar": (40, 84)}
ONE_AT_A_TIME = ("bass", "strings", "reed", "pipe", "brass", "voice")  # in ensembles
EXPRESSIVE = ("strings", "reed", "pipe", "brass", "voice", "freereed")

# General MIDI programs (from 0) in which other pitches are as clear as the note's: feedback, fifths, echoes, effects.
UNCLEAR = {30, 84, *range(96, 104)}
SLOWEST = 0.05  # s, the tolerance of the score
LONGEST_REVERBERATION = 2.0  # s
LEAST_DYNAMICS = 3.0  # dB from the softest to the loudest samples
INAUDIBLE = 40.0  # dB below the mix

# ---------------------------------------------------------------- the banks


def some_samples(bank: Bank) -> list[tuple[np.ndarray, float]]:
    """Sound and pitch of up to ten samples, from the lowest to the highest."""
    chosen = np.linspace(0, len(bank.samples) - 1, min(10, len(bank.samples))).astype(int)
    samples = [bank.samples[i] for i in chosen]
    return [(bank.audio[s["start"] : s["start"] + s["length"]].astype(np.float32) / 32767, s["pitch"]) for s in samples]


def rise(bank: Bank) -> float:
    """Seconds from a note's label to where it is within 12 dB of its loudest in the first half second; a median."""
    times = []
    for sound, _ in some_samples(bank):
        level = running_rms(sound[: SAMPLE_RATE // 2], SAMPLE_RATE // 100)
        times.append(np.argmax(level > level.max() / 4) / SAMPLE_RATE)
    return float(np.median(times))


def unsteadiness(bank: Bank) -> float:
    """Cents from their label within which the samples' pitch stays for nine tenths of the first second."""
    found = []
    for sound, pitch in some_samples(bank):
        width = max(0.08, 8 / float(midi_to_hz(pitch)))
        begins = [begin for begin in np.arange(0.2, 1.2, 0.1) if len(sound) > (begin + width) * SAMPLE_RATE]
        found += [deviation_cents(sound, pitch, begin, width) for begin in begins]
    return float(np.percentile(np.abs([cents for cents in found if cents is not None] or [np.inf]), 90))


def fair(bank: Bank) -> bool:
    """Whether pitch and onset of the bank's notes are what their labels say."""
    return not UNCLEAR & set(bank.programs) and rise(bank) <= SLOWEST


def dynamic(bank: Bank) -> bool:
    """Whether a bank's harder strokes are louder, as recorded; in some libraries every sample has the same level."""
    soft, loud = bank.velocity == bank.velocity.min(), bank.velocity == bank.velocity.max()
    return bank.layers == 1 or float(np.median(bank.gain[loud]) - np.median(bank.gain[soft])) >= LEAST_DYNAMICS


def choose(banks: list[Bank], count: int, rng: np.random.Generator) -> list[Bank]:
    """``count`` banks, first of different programs: the same instrument in two fonts is often the same recording."""
    fresh, again, seen = [], [], set()
    for i in rng.permutation(len(banks)):
        programs = tuple(banks[i].programs)
        (again if programs in seen else fresh).append(banks[i])
        seen.add(programs)
    order = fresh + again
    return [order[i % len(order)] for i in range(count)]


# ---------------------------------------------------------------- the music


@dataclass
class Swelling(Played):
    """A note that is heard to begin ``swell`` seconds after its first sound."""

    swell: float = 0.0


def reach(bank: Bank) -> tuple[int, int]:
    """Lowest and highest note that the bank is given."""
    low, high = REGISTERS.get(bank.family, (21, 108))
    return max(bank.low, low), min(bank.high, high)


def music(m: Material, bank: Bank, voices: int, rng: np.random.Generator) -> list[Event]:
    """An excerpt within the bank's reach, with one voice a melody; neither sparse nor faster than hands are.

    Raises
    ------
    ValueError
        If the library has none.
    """
    for _ in range(200):
        events = from_library(m, MELODIES if voices == 1 else CHORDS, rng, one_track=voices == 1)
        fitted = fit_range(monophonic(events) if voices == 1 else events, *reach(bank), rng)
        events = tidy(limit(thin(fitted, voices), voices), m.length)
        if 1 <= len(events) / m.length <= 4 + voices:
            return events
    raise ValueError("the library has no pieces with as many notes as it takes")


def limit(events: list[Event], voices: int) -> list[Event]:
    """End the oldest note where a new one would be one too many: pedals of pianos are in the pieces' durations."""
    out: list[Event] = []
    sounding: list[int] = []
    for e in events:
        sounding = [i for i in sounding if out[i].offset > e.onset]
        if len(sounding) >= voices:
            oldest = sounding.pop(0)
            out[oldest] = replace(out[oldest], offset=e.onset)
        sounding.append(len(out))
        out.append(e)
    return out


def in_octaves(events: list[Event], low: int, high: int) -> list[Event]:
    """Move a part by the octaves that bring most notes within reach, then the others by their own: the key stays."""
    shift = max(range(-60, 61, 12), key=lambda s: (sum(low <= e.pitch + s <= high for e in events), -abs(s)))
    out = []
    for e in events:
        pitch = e.pitch + shift
        pitch += 12 * (max(0, -(-(low - pitch) // 12)) - max(0, -(-(pitch - high) // 12)))
        if low <= pitch <= high:
            out.append(replace(e, pitch=pitch))
    return out


def deal(events: list[Event], players: int) -> list[list[Event]]:
    """Share a score out by register, from the lowest part to the highest."""
    rising = sorted(events, key=lambda e: e.pitch)
    return [sorted((rising[i] for i in part), key=lambda e: e.onset) for part in
            np.array_split(np.arange(len(rising)), players)]  # fmt: skip


def play(bank: Bank, events: list[Event], bends: list[np.ndarray], m: Material, rng: np.random.Generator) -> Part:
    """A part, each event with its deviation from the semitone per hop; a note begins where it is heard to begin.

    Apart from ``synth.play_bank``, whose variety is for training and grows with it: this one stays as it is.
    """
    out = np.zeros(int((m.length + 3) * SAMPLE_RATE), np.float32)
    played, touch, sounds = [], Touch(bank.release, 1.5), dynamic(bank)
    for e, bend in zip(events, bends, strict=True):
        duration = e.offset - e.onset
        sound = bank.sound(e, duration, bend, touch, rng)
        start = int(e.onset * SAMPLE_RATE)
        stop = min(start + len(sound), len(out))
        out[start:stop] += sound[: stop - start]
        late = perceived_attack(sound, 0.2, 0.03)
        offset = e.onset + max(late + 0.03, min(bank.held(e), audible_length(sound)))
        note = settle(e.onset + late, offset, e.pitch, level_of(sound), bend[round(late / FRAME) :])
        velocity = e.velocity if sounds else np.nan
        played.append(Swelling(note.onset, note.offset, note.pitch, note.level, note.bend, velocity, late))
    return out[: int(m.length * SAMPLE_RATE)], played


def plainly(bank: Bank, events: list[Event], m: Material, rng: np.random.Generator) -> Part:
    """A part as a good player gives it: nearly in tune, and with some vibrato where the instrument can."""
    tuning = rng.normal(0, 0.04)
    bends = []
    for e in events:
        vibrato = gesture("vibrato", e.offset - e.onset, rng)
        bends.append(tuning + vibrato * (bank.family in EXPRESSIVE and rng.random() < 0.4))
    return play(bank, events, bends, m, rng)


def ensemble(
    m: Material, sources: tuple[str, ...], families: list[str], rng: np.random.Generator
) -> tuple[str, list[Part]]:
    """Instruments of these families, from the lowest part up, share an excerpt; returns the banks' names, and parts."""
    events: list[Event] = []
    while not 2 <= len(events) / m.length <= 12:
        events = from_library(m, sources, rng)
    parts, names = [], []
    for events_of_part, instrument in zip(deal(events, len(families)), families, strict=True):
        bank = m.bank((instrument,), rng)
        line = monophonic(events_of_part) if instrument in ONE_AT_A_TIME else limit(events_of_part, 6)
        parts.append(plainly(bank, tidy(in_octaves(line, *reach(bank)), m.length), m, rng))
        names.append(bank.id)
    return "-".join(names), parts


def gesture(kind: str, duration: float, rng: np.random.Generator) -> np.ndarray:
    """Deviation from the semitone per hop, for ``duration`` and the tail after it.

    Vibrato of 15 to 60 cents; slides into the note or on to another; notes up to 45 cents out of tune.
    """
    t = np.arange(int(duration / FRAME) + 80) * FRAME
    if kind == "vibrato":
        swell = np.clip((t - rng.uniform(0, 0.3)) / 0.2, 0, 1)
        return rng.uniform(0.15, 0.6) * swell * np.sin(2 * np.pi * rng.uniform(4.5, 7) * t + rng.uniform(0, 6.28))
    if kind == "slide":
        width = rng.uniform(0.06, 0.25)
        if rng.random() < 0.5:
            return rng.choice([-1, 1]) * rng.uniform(0.5, 2) * (1 - np.clip(t / width, 0, 1))
        return rng.choice([-2, -1, 1, 2]) * np.clip((t - duration * rng.uniform(0.25, 0.6)) / width, 0, 1)
    return np.full(len(t), rng.uniform(-0.45, 0.45))


def bent(bank: Bank, kind: str, m: Material, rng: np.random.Generator) -> Part:
    """A slow melody, a gesture on every note."""
    slow = [
        replace(e, onset=1.6 * e.onset, offset=1.6 * e.offset, released=1.6 * e.released)
        for e in music(m, bank, 1, rng)
    ]
    events = tidy(slow, m.length)
    return play(bank, events, [gesture(kind, e.offset - e.onset, rng) for e in events], m, rng)


# ---------------------------------------------------------------- the recording


def reverberation(ir: np.ndarray) -> float:
    """Time in which a room's sound decays by 60 dB, from the decay by 5 to 25 dB (ISO 3382's T20), in seconds."""
    left = np.cumsum(ir[::-1] ** 2)[::-1]
    level = 10 * np.log10(left / left[0] + 1e-12)
    return float(3 * (np.argmax(level < -25) - np.argmax(level < -5)) / SAMPLE_RATE)


def mix(parts: list[Part], m: Material, rng: np.random.Generator, *, drums: bool) -> tuple[np.ndarray, list[Played]]:
    """Parts in a room, with light noise; the notes that can be heard in it."""
    n = int(m.length * SAMPLE_RATE)
    x, notes = np.zeros(n, np.float32), []
    for sound, played in parts:
        gain = 10 ** (rng.uniform(-8, 0) / 20) / (np.abs(sound).max() + 1e-9)
        x += sound * np.float32(gain)
        notes += [replace(p, level=p.level + 20 * np.log10(gain)) for p in played]
    if drums:
        d = drum_track(m, rng, n)
        x = x + d * np.float32(np.std(x) / (np.std(d) + 1e-9) * 10 ** (rng.uniform(-10, 0) / 20))
    wet = 10 ** (rng.uniform(-20, -8) / 20)
    x = x + np.float32(wet) * fftconvolve(x, m.rooms[int(rng.integers(len(m.rooms)))])[:n].astype(np.float32)
    x = x + noise(n, rng) * np.float32(np.std(x) * 10 ** (-rng.uniform(35, 65) / 20))
    heard = [p for p in notes if p.level > level_of(x[int(p.onset * SAMPLE_RATE) :]) - INAUDIBLE]
    gain = 10 ** (rng.uniform(-20, -1) / 20) / (np.abs(x).max() + 1e-9)
    return x * np.float32(gain), merge_unisons(heard)


def write_clip(folder: Path, name: str, audio: np.ndarray, notes: list[Played]) -> None:
    """``name.flac``, ``name.csv`` and ``name.bends.npz``."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}.flac", audio, SAMPLE_RATE, "PCM_16")
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        columns = ["onset_s", "offset_s", "midi_pitch", "velocity"]
        known = not any(np.isnan(p.velocity) for p in notes)
        writer.writerow(columns if known else columns[:3])
        for p in notes:
            writer.writerow([f"{p.onset:.4f}", f"{p.offset:.4f}", p.pitch, *([round(p.velocity)] if known else [])])
    semitones = np.concatenate([p.bend for p in notes])
    count, swell = [len(p.bend) for p in notes], [p.swell for p in notes]
    np.savez(folder / f"{name}.bends.npz", semitones=semitones, count=count, step=FRAME, swell=swell)


def render(m: Material, out: Path, seed: int) -> None:
    """Write the whole set; the same seed and material give the same clips."""
    for number, (family, clips) in enumerate(SOLOS.items()):
        wanted = [instrument for instrument, _ in clips]
        order = np.random.default_rng([seed, number])
        banks = {f: choose(m.banks[f], wanted.count(f), order) for f in dict.fromkeys(wanted)}
        for i, (instrument, voices) in enumerate(clips):
            rng, bank = np.random.default_rng([seed, number, i]), banks[instrument].pop()
            part = plainly(bank, music(m, bank, voices, rng), m, rng)
            write_clip(out / family, f"{i}_{bank.id}", *mix([part], m, rng, drums=False))
    for number, (family, players) in enumerate(ENSEMBLES.items(), 100):
        seats = np.random.default_rng([seed, number]).permutation([f for f in PLAYERS if f in m.banks])
        for i in range(ENSEMBLE_CLIPS):
            rng = np.random.default_rng([seed, number, i])
            # Everyone plays in turn: drawn by lot, one family could be in most of so few clips.
            families = [str(f) for f in np.roll(seats, -i * players)[:players]]
            if family == "quartets_drums":
                families[0] = "bass"
            names, parts = ensemble(m, SCORES[family], families, rng)
            write_clip(out / family, f"{i}_{names}", *mix(parts, m, rng, drums=family.endswith("_drums")))
    steady = [b for f in GESTURE_FAMILIES for b in m.banks.get(f, []) if unsteadiness(b) < 5]
    banks = choose(steady, GESTURE_CLIPS * len(GESTURES), np.random.default_rng([seed, 200]))
    for i, bank in enumerate(banks):
        rng, kind = np.random.default_rng([seed, 200, i]), GESTURES[i % len(GESTURES)]
        write_clip(out / "bends", f"{kind}_{bank.id}", *mix([bent(bank, kind, m, rng)], m, rng, drums=False))


# ---------------------------------------------------------------- the score


def load_bends(recording: scoring.Recording) -> tuple[list[np.ndarray], np.ndarray]:
    """Of each reference note: deviations from the semitone every ``FRAME`` seconds from its onset; seconds of swell."""
    with np.load(recording.reference.with_suffix(".bends.npz")) as data:
        return np.split(data["semitones"], np.cumsum(data["count"])[:-1]), data["swell"]


def contour_errors(ref: scoring.Notes, bends: list[np.ndarray], est: list[Note]) -> np.ndarray:
    """Cents between sounding pitches every ``FRAME`` seconds while both of two matched notes last.

    Matched are notes within 50 ms of each other's onset and 50 cents of each other's mean sounding pitch: at 45 cents
    either semitone may be written.
    """
    sounding = ref.pitch + [float(b.mean()) for b in bends]
    columns = scoring.from_notes(est)
    matched = scoring.match(replace(ref, pitch=sounding), replace(columns, pitch=columns.sounding))
    errors = [np.zeros(0)]
    for i, j in zip(*matched, strict=True):
        (onset, offset), note = ref.intervals[i], est[j]
        t = np.arange(onset, min(offset, note.offset), FRAME)
        t = t[t >= note.onset]
        true = ref.pitch[i] + np.interp(t, onset + FRAME * np.arange(len(bends[i])), bends[i])
        found = np.full(len(t), float(note.pitch))
        if note.bend is not None:
            found += np.interp(t, note.bend.times, note.bend.semitones)
        errors.append(100 * np.abs(found - true))
    return np.concatenate(errors)


def score(root: Path, model: Path | None, peer: Path | None) -> dict[str, Any]:
    """Transcribe and score everything; a row for each recording, and the errors of the bends."""
    transcriber = Transcriber(model, threads=1)
    rows: list[dict[str, Any]] = []
    cents: dict[str, list[np.ndarray]] = {}
    for recording in scoring.recordings(root):
        notes = transcriber.transcribe(recording.audio).notes
        ref, est = scoring.load_reference(recording.reference), scoring.from_notes(notes)
        bends, swell = load_bends(recording)
        if recording.set_name == "bends":
            kind = recording.name.split("_")[0]
            cents.setdefault(kind, []).append(contour_errors(ref, bends, notes))
            continue
        row = {"family": recording.set_name, "name": recording.name}
        sounding = replace(ref, intervals=ref.intervals - swell[:, None])
        for key, begun in (("onset_errors_ms", ref), ("sound_errors_ms", sounding)):
            row[key] = (1000 * scoring.onset_errors(begun, est, 0.05)).tolist()
        row |= scoring.note_scores(ref, est) | scoring.velocity_scores(ref, est)
        if peer is not None and (path := peer / recording.set_name / f"{recording.name}.mid").exists():
            row["peer"] = scoring.note_scores(ref, scoring.load_notes(path))["F50"]
        rows.append(row)
    return {
        "set": digest(root),
        "model": transcriber.model.sha256,
        "recordings": rows,
        "cents": {kind: np.concatenate(parts).tolist() for kind, parts in cents.items()},
    }


def digest(root: Path) -> str:
    """SHA-256 of all clips, references and their bends: figures are comparable where it is the same."""
    found = hashlib.sha256()
    for recording in scoring.recordings(root):
        found.update(recording.audio.read_bytes() + recording.reference.read_bytes())
        bends, swell = load_bends(recording)
        found.update(b"".join(array.tobytes() for array in (*bends, swell)))
    return found.hexdigest()


def mean(rows: list[dict[str, Any]], key: str) -> float:
    """Mean over the rows that have a value."""
    values = [r[key] for r in rows if key in r and not np.isnan(r[key])]
    return float(np.mean(values)) if values else np.nan


def table(result: dict[str, Any]) -> str:
    """The families, the means over families of each kind, velocities and bends."""
    columns = ("P", "R", "F50", "Foff", "Fbend", "peer")
    lines = [f"{'family':15s} {'n':>3s} " + " ".join(f"{c:>6s}" for c in columns) + "   onset ms (sd)   sound ms (sd)"]
    for title, families in (("SOLOS", SOLOS), ("ENSEMBLES", ENSEMBLES)):
        means = []
        for family in families:
            rows = [r for r in result["recordings"] if r["family"] == family]
            if not rows:
                continue
            means.append({c: mean(rows, c) for c in columns})
            timing = (middle([r[key] for r in rows]) for key in ("onset_errors_ms", "sound_errors_ms"))
            lines.append(f"{family:15s} {len(rows):3d} {figures(means[-1], columns)}   {'   '.join(timing)}")
        lines.append(f"{title:15s} {'':3s} {figures({c: mean(means, c) for c in columns}, columns)}")
    pianos = [r for r in result["recordings"] if r["family"] == "piano"]
    lines.append(f"\nvelocity, correlation on pianos: {mean(pianos, 'rvel'):.3f}")
    everything = np.concatenate([*result["cents"].values(), []])
    for kind, errors in [*result["cents"].items(), ("all", everything)]:
        if len(errors):
            within = np.mean(np.array(errors) <= 25)
            lines.append(f"pitch, {kind:8s} median error {np.median(errors):5.1f} cents, within 25: {within:.3f}")
    return "\n".join(lines)


def middle(errors: list[list[float]]) -> str:
    """Median and standard deviation in the table's format."""
    together = np.concatenate(errors)
    return f"{np.median(together):+6.1f} ({together.std():4.1f})" if len(together) else ""


def figures(values: dict[str, float], columns: tuple[str, ...]) -> str:
    """Scores in the table's format, a dash where there is none."""
    return " ".join(f"{'-' if np.isnan(values[c]) else format(values[c], '.3f'):>6s}" for c in columns)


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("render", help="write the clips")
    for name in ("--banks", "--library", "--data", "--out"):
        make.add_argument(name, type=Path, required=True)
    make.add_argument("--seed", type=int, default=1)
    measure = commands.add_parser("score", help="transcribe the clips and print the table")
    measure.add_argument("root", type=Path, metavar="OUT")
    measure.add_argument("--model", type=Path, help="ONNX file; the shipped one if omitted")
    measure.add_argument("--peer", type=Path, metavar="MIDI_DIR", help="another system's <family>/<name>.mid")
    measure.add_argument("--json", type=Path, metavar="FILE", help="also write everything that was measured")
    args = parser.parse_args()
    if args.command == "render":
        if args.out.is_dir() and any(args.out.iterdir()):
            parser.error(
                f"{args.out}: not empty, and clips of another set would be scored with these; name a new folder"
            )
        m = load_material(args.banks, args.library, args.data, True)
        fairly = {family: [b for b in banks if fair(b)] for family, banks in m.banks.items()}
        banks = {family: found for family, found in fairly.items() if found}
        rooms = [room for room in m.rooms if reverberation(room) <= LONGEST_REVERBERATION]
        render(replace(m, banks=banks, rooms=rooms, length=LENGTH), args.out, args.seed)
        return
    result = score(args.root, args.model, args.peer)
    print(f"set {result['set'][:12]}, model {result['model'][:12]}")
    print(table(result))
    if args.json:
        args.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
