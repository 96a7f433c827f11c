"""Render the training set: clips of 12 s as spectrograms (uint8 dB) with exact labels.

    python scripts/render.py synth --banks BANKS --library LIBRARY.npz --data DATA --out OUT --clips 6000
    python scripts/render.py guitar --data DATA --out OUT --passes 4 --seed 1
    python scripts/render.py audio --banks BANKS --library LIBRARY.npz --data DATA --out OUT --clips 60

``BANKS`` is written by prepare.py, ``LIBRARY.npz`` by music.py; ``DATA`` has ``irs/``, ``drums/`` and ``guitarset/``.
The same seed gives the same clips, whatever ``--jobs``. Held-out banks are used only where ``--heldout`` asks for them.
A shard ``NAME.npz`` holds fine (clips, frames / 2, 309), sharp (clips, frames, 103), reference (clips, frames), notes
(clip, onset, offset, pitch, level, bend start, bend length) and bends.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import soundfile
import soxr
import torch
from frontend import HOP, SAMPLE_RATE, FrontEnd
from music import (
    Event,
    Piece,
    arpeggios,
    excerpt,
    fit_range,
    harp,
    in_octaves,
    load_library,
    monophonic,
    pattern,
    pedalled,
)
from scipy.signal import butter, fftconvolve, sosfilt
from shared import at_least_one, errors_in_one_line, workers
from synth import MODES, Bank, Played, legato_line, level_of, play_bank, reeds, struck
from waves import electronic, sequence

from basic_transcribe.errors import UsageError

LENGTH = 12.0
CLIPS_PER_SHARD = 60
DB_FLOOR, DB_STEP = -120.0, 0.5  # uint8 code 0 and the step
SPEED_OF_SOUND = 343.0  # m/s


def encode(db: np.ndarray) -> np.ndarray:
    """dB to uint8."""
    return np.clip(np.round((db - DB_FLOOR) / DB_STEP), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Material:
    """Everything a clip is made of."""

    banks: dict[str, list[Bank]]
    library: dict[str, list[Piece]]
    rooms: list[np.ndarray]
    cabinets: list[np.ndarray]
    drums: dict[str, np.ndarray]
    length: float = LENGTH  # of a clip, in seconds

    def bank(self, families: tuple[str, ...], rng: np.random.Generator) -> Bank:
        """A bank of one of these families; each family, then each bank in it, is equally likely."""
        present = [f for f in families if f in self.banks]
        family = self.banks[present[int(rng.integers(len(present)))]]
        return family[int(rng.integers(len(family)))]


def read_mono(path: Path) -> np.ndarray:
    """A sound file as mono float32 at SAMPLE_RATE."""
    audio, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    mono = audio.mean(1)
    return mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE)


def impulse(path: Path) -> np.ndarray:
    """An impulse response that starts at its direct sound, unit energy, at most 3 s."""
    ir = read_mono(path)
    ir = ir[int(np.argmax(np.abs(ir))) :][: 3 * SAMPLE_RATE]
    return ir / np.sqrt(np.sum(ir**2))


@cache
def load_material(banks: Path | None, library: Path | None, data: Path, heldout: bool) -> Material:
    """Read it once per process. Without ``heldout`` only the sounds meant for training, with it only the others.

    Raises
    ------
    UsageError
        If there are no banks of these, or no rooms.
    """
    by_family: dict[str, list[Bank]] = {}
    if banks is not None:
        for path in sorted(banks.glob("*.json")):
            bank = Bank(path)
            if bank.heldout == heldout:
                by_family.setdefault(bank.family, []).append(bank)
        if not by_family:
            raise UsageError(f"{banks}: no banks {'held out' if heldout else 'to train on'}; let prepare.py make them")
    rooms = sorted((data / "irs" / "room").glob("*.flac"))
    if not rooms:
        raise UsageError(f"{data}: has no irs/room/*.flac; give the folder of the training material")
    return Material(
        by_family,
        load_library(library) if library is not None else {},
        [impulse(p) for p in rooms],
        [impulse(p) for p in sorted((data / "irs" / "cab").glob("*.flac"))],
        {p.stem: read_mono(p) for p in sorted((data / "drums").glob("*.ogg"))},
    )


# ---------------------------------------------------------------- scenarios: who plays what

BOWED = ("strings",)
WINDS = ("reed", "pipe", "brass", "freereed")
SUSTAINED = (*BOWED, *WINDS, "ensemble", "organ", "voice", "synth")
SCENARIOS = {
    "piano": 0.22,
    "epiano": 0.02,
    "guitar": 0.10,
    "bass": 0.03,
    "mallet": 0.06,
    "struck": 0.06,
    "bowed": 0.07,
    "wind": 0.05,
    "freereed": 0.10,
    "organ": 0.02,
    "sung": 0.12,
    "line": 0.04,
    "chamber": 0.04,
    "band": 0.05,
    "any": 0.02,
    "synthesiser": 0.12,
    "tune": 0.06,
}


def from_library(
    material: Material, sources: tuple[str, ...], rng: np.random.Generator, *, one_track: bool = False
) -> list[Event]:
    """An excerpt of a random piece of these sources."""
    pieces = material.library[sources[int(rng.integers(len(sources)))]]
    piece = pieces[int(rng.integers(len(pieces)))]
    track = int(rng.choice(np.unique(piece.notes[:, 4]))) if one_track else None
    return excerpt(piece, material.length, rng, track)


def line_events(material: Material, low: int, high: int, rng: np.random.Generator) -> list[Event]:
    """A melody within a range."""
    if rng.random() < 0.6:
        source = ("nottingham", "openscore_lieder", "openscore_quartets", "pop909")
        events = fit_range(monophonic(from_library(material, source, rng, one_track=True)), low, high, rng)
        if len(events) > 3:
            return events
    span = int(rng.integers(9, 25))
    bottom = int(rng.integers(low, max(low + 1, high - span + 1)))
    return monophonic(pattern(material.length, bottom, min(high, bottom + span), 1, rng))


def chord_events(
    material: Material, sources: tuple[str, ...], low: int, high: int, voices: int, rng: np.random.Generator, p: float
) -> list[Event]:
    """Polyphony: an excerpt with probability ``p``, else a pattern."""
    if rng.random() < p:
        events = fit_range(from_library(material, sources, rng), low, high, rng)
        if len(events) > 3:
            return thin(events, voices)
    span = int(rng.integers(14, 50))
    bottom = int(rng.integers(low, max(low + 1, high - span + 1)))
    return pattern(material.length, bottom, min(high, bottom + span), max(2, voices), rng)


def thin(events: list[Event], voices: int) -> list[Event]:
    """At most ``voices`` notes begin together (hands and strings are limited)."""
    out: list[Event] = []
    for e in events:
        if sum(1 for o in out[-voices:] if e.onset - o.onset < 0.04) < voices:
            out.append(e)
    return out


Part = tuple[np.ndarray, list[Played]]


def piano(m: Material, rng: np.random.Generator, family: str = "piano") -> list[Part]:
    bank = m.bank((family,), rng)
    sources = ("pop909", "pop909", "openscore_lieder", "openscore_quartets", "jsfakes")
    events = chord_events(m, sources, max(bank.low, 21), min(bank.high, 108), 10, rng, 0.75)
    if rng.random() < 0.4:
        events = in_octaves(events, m.length, max(bank.low, 21), min(bank.high, 108), rng)
    pedal = rng.random() < 0.5
    if rng.random() < 0.2:
        events, pedal = arpeggios(m.length, max(bank.low, 28), min(bank.high, 100), rng), True
    elif pedal:
        events = pedalled(events, m.length, rng)
    return [play_bank(bank, events, m.length, rng, expression=0, detune=float(rng.normal(0, 0.06)), pedal=pedal)]


def epiano(m: Material, rng: np.random.Generator) -> list[Part]:
    return piano(m, rng, "epiano")


def guitar(m: Material, rng: np.random.Generator) -> list[Part]:
    bank = m.bank(("guitar", "eguitar", "guitar", "plucked"), rng)
    voices = 1 if rng.random() < 0.35 else 6
    low, high = max(bank.low, 38), min(bank.high, 86)
    if voices == 1:
        events = line_events(m, low, high, rng)
    else:
        events = chord_events(m, ("pop909", "nottingham", "jsfakes"), low, high, 6, rng, 0.5)
    if rng.random() < 0.15:
        events = in_octaves(events, m.length, low, high, rng)
    expression = 0.0 if rng.random() < 0.4 else float(rng.uniform(0, 0.5 if voices == 1 else 0.15))
    part = play_bank(bank, events, m.length, rng, expression=expression, detune=float(rng.normal(0, 0.05)))
    if bank.family == "eguitar" and rng.random() < 0.7:
        part = drive(part, rng, m)
    return [part]


def drive(part: Part, rng: np.random.Generator, m: Material) -> Part:
    """Amplifier: soft clipping and a cabinet. A note's level changes as that of all that sounds where it begins."""
    dry, played = part
    sound, peak = dry, np.abs(dry).max() + 1e-9
    if rng.random() < 0.6:
        amount = rng.uniform(1, 12)
        sound = np.tanh(sound / peak * amount) / np.tanh(amount) * peak
    if rng.random() < 0.8:
        sound = fftconvolve(sound, m.cabinets[int(rng.integers(len(m.cabinets)))])[: len(sound)]
    for p in played:
        start = int(p.onset * SAMPLE_RATE)
        p.level += level_of(sound[start:]) - level_of(dry[start:])
    return sound.astype(np.float32), played


def solo(families: tuple[str, ...], chance_of_chords: float = 0.0):
    """A scenario for instruments of these families, mostly melodic."""

    def scenario(m: Material, rng: np.random.Generator) -> list[Part]:
        bank = m.bank(families, rng)
        low, high = max(bank.low, 21), min(bank.high, 108)
        if rng.random() < chance_of_chords:
            events = chord_events(m, ("nottingham", "jsfakes", "pop909"), low, high, 4, rng, 0.5)
        else:
            events = line_events(m, low, high, rng)
        if chance_of_chords and rng.random() < 0.3:
            events = in_octaves(events, m.length, low, high, rng)
        expressive = bank.kind == "sustain" and rng.random() < 0.7
        expression = float(rng.uniform(0.2, 0.9)) if expressive else 0.0
        detune = float(rng.normal(0, 0.12 if bank.kind == "sustain" else 0.06))
        return [play_bank(bank, events, m.length, rng, expression=expression, detune=detune)]

    return scenario


RANGES = {"voice": (40, 84), "bow": (36, 98), "reed": (40, 96)}


def legato(kinds: tuple[str, ...]):
    """A scenario for the source-filter synthesiser."""

    def scenario(m: Material, rng: np.random.Generator) -> list[Part]:
        kind = kinds[int(rng.integers(len(kinds)))]
        low, high = RANGES[kind]
        centre = int(rng.integers(low + 6, high - 5))
        events = line_events(m, max(low, centre - 11), min(high, centre + 11), rng)
        if rng.random() < 0.5:  # slurred: each note lasts until the next
            gaps = zip(events, [*events[1:], None], strict=True)
            events = [
                Event(e.onset, nxt.onset if nxt and nxt.onset - e.offset < 0.5 else e.offset, e.pitch, e.velocity)
                for e, nxt in gaps
            ]
        return [legato_line(events, m.length, rng, kind)]

    return scenario


def sung(m: Material, rng: np.random.Generator) -> list[Part]:
    recorded = [b for b in m.banks.get("voice", []) if b.id.startswith("voice_")]
    kind = rng.random()
    if kind < 0.4 and recorded:  # people, not a font's choir
        return solo(("voice",))(replace(m, banks={"voice": recorded}), rng)
    if kind < 0.5 and "voice" in m.banks:
        return solo(("voice",))(m, rng)
    return legato(("voice",))(m, rng)


def modal(m: Material, rng: np.random.Generator) -> list[Part]:
    kind = "tine" if rng.random() < 0.5 else list(MODES)[int(rng.integers(1, len(MODES)))]
    low, high = (48, 100) if kind == "tine" else (45, 103)
    if rng.random() < 0.5:
        events = line_events(m, low, high, rng)
    else:
        events = chord_events(m, ("nottingham", "jsfakes", "pop909"), low, high, 3, rng, 0.4)
    return [struck(events, m.length, rng, kind)]


def free_reeds(m: Material, rng: np.random.Generator) -> list[Part]:
    """Harmonica or accordion, recorded or synthesised, now and then through an amplifier."""
    kind = rng.random()
    if kind < 0.35:
        return solo(("freereed",), 0.5)(m, rng)
    if kind < 0.8:
        events = harp(m.length, int(rng.integers(55, 67)), rng)
    else:
        events = chord_events(m, ("nottingham", "jsfakes", "pop909"), 45, 96, 4, rng, 0.6)
    if rng.random() < 0.4:
        bank = m.bank(("freereed",), rng)
        events = fit_range(events, max(bank.low, 21), min(bank.high, 108), rng)
        expression, detune = float(rng.uniform(0, 0.5)), float(rng.normal(0, 0.1))
        sound, played = play_bank(bank, events, m.length, rng, expression=expression, detune=detune)
    else:
        sound, played = reeds(events, m.length, rng)
    return [drive((sound, played), rng, m) if rng.random() < 0.2 else (sound, played)]


def chamber(m: Material, rng: np.random.Generator) -> list[Part]:
    """Two to four sustained instruments that share an excerpt by register."""
    pieces = m.library["openscore_quartets"] + m.library["jsfakes"][:60] + m.library["openscore_lieder"][:100]
    piece = pieces[int(rng.integers(len(pieces)))]
    players = max(2, min(len(np.unique(piece.notes[:, 4])), int(rng.integers(2, 5))))
    # Dealt out to the players by register: every track in step, each player within reach.
    everything = sorted(excerpt(piece, m.length, rng), key=lambda e: e.pitch)
    cuts = np.array_split(np.arange(len(everything)), players)
    out = []
    mixed_family = rng.random() < 0.5
    for cut in cuts:
        bank = m.bank(SUSTAINED if mixed_family else BOWED, rng)
        events = sorted((everything[i] for i in cut), key=lambda e: e.onset)
        events = fit_range(events, max(bank.low, 21), min(bank.high, 108), rng)
        expression = float(rng.uniform(0, 0.6)) if bank.kind == "sustain" else 0.0
        out.append(play_bank(bank, events, m.length, rng, expression=expression, detune=float(rng.normal(0, 0.06))))
    return out


def band(m: Material, rng: np.random.Generator) -> list[Part]:
    """Lead, chords and bass; drums are added as a distractor."""
    parts = []
    if rng.random() < 0.8:
        parts += guitar(m, rng) if rng.random() < 0.5 else piano(m, rng)
    if rng.random() < 0.8:
        parts += solo(("bass",))(m, rng)
    if rng.random() < 0.7:
        parts += (sung if rng.random() < 0.4 else solo((*SUSTAINED, "eguitar")))(m, rng)
    return parts or piano(m, rng)


def synthesiser(m: Material, rng: np.random.Generator) -> list[Part]:
    """A synthesiser alone: lines, sequences, basses, chords."""
    kind = rng.choice(["line", "sequence", "bass", "chords"], p=[0.25, 0.2, 0.2, 0.35])
    if kind == "chords":
        events = chord_events(m, ("pop909", "jsfakes", "nottingham"), 36, 96, int(rng.integers(3, 7)), rng, 0.5)
        if rng.random() < 0.2:
            events = in_octaves(events, m.length, 36, 96, rng)
    elif kind == "line":
        events = line_events(m, 40, 100, rng)
    else:
        low, high = (24, 55) if kind == "bass" else (40, 100)
        low = int(rng.integers(low, max(low + 1, high - 24)))
        events = sequence(m.length, low, min(high, low + 31), rng)
    return [electronic(events, m.length, rng)]


def tune(m: Material, rng: np.random.Generator) -> list[Part]:
    """Electronic music: chords, a bass, a lead or a sequence; drums are added as a distractor."""
    parts = []
    if rng.random() < 0.8:
        events = chord_events(m, ("pop909", "jsfakes"), 45, 88, 4, rng, 0.5)
        parts.append(electronic(events, m.length, rng))
    if rng.random() < 0.7:
        low = int(rng.integers(24, 34))
        parts.append(electronic(sequence(m.length, low, low + 24, rng), m.length, rng))
    if rng.random() < 0.8 or not parts:
        low = int(rng.integers(52, 72))
        lead = sequence(m.length, low, low + 26, rng) if rng.random() < 0.5 else line_events(m, low, low + 26, rng)
        parts.append(electronic(lead, m.length, rng))
    return parts


def anything(m: Material, rng: np.random.Generator) -> list[Part]:
    return solo(tuple(m.banks), 0.4)(m, rng)


PLAYERS = {
    "piano": piano,
    "epiano": epiano,
    "guitar": guitar,
    "bass": solo(("bass",)),
    "mallet": solo(("mallet", "mallet", "plucked"), 0.45),
    "struck": modal,
    "bowed": solo((*BOWED, "ensemble"), 0.25),
    "wind": solo(WINDS, 0.1),
    "freereed": free_reeds,
    "organ": solo(("organ", "synth"), 0.7),
    "sung": sung,
    "line": legato(("bow", "reed")),
    "chamber": chamber,
    "band": band,
    "any": anything,
    "synthesiser": synthesiser,
    "tune": tune,
}

# ---------------------------------------------------------------- the recording: room, noise, drums, bandwidth, level


def drum_track(m: Material, rng: np.random.Generator, n: int) -> np.ndarray:
    """Unlabelled percussion: a loop, or a random grid of hits."""
    out = np.zeros(n, np.float32)
    loops = [k for k in m.drums if k.startswith("loop")]
    if rng.random() < 0.25:
        loop = m.drums[loops[int(rng.integers(len(loops)))]]
        return np.resize(loop, n).astype(np.float32)
    hits = [k for k in m.drums if not k.startswith("loop")]
    beat = 60 / rng.uniform(60, 170) / rng.choice([1, 2, 4])
    for name in rng.choice(hits, int(rng.integers(2, 6))):
        hit, chance = m.drums[str(name)], rng.uniform(0.1, 0.6)
        for at in np.arange(rng.uniform(0, beat), n / SAMPLE_RATE, beat):
            if rng.random() < chance:
                start = int(at * SAMPLE_RATE)
                stop = min(n, start + len(hit))
                out[start:stop] += hit[: stop - start] * rng.uniform(0.3, 1)
    return out


def equalise(x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random response, sometimes with a low-pass or a high-pass (telephones, laptops, 16 kHz files).

    Returns what comes out, and by how many dB it changes a note of each MIDI pitch, its harmonics falling by 6 dB an
    octave.
    """
    f = np.fft.rfftfreq(len(x), 1 / SAMPLE_RATE)
    points = np.log2([20, 80, 200, 500, 1200, 3000, 6000, 11025])
    gains = np.cumsum(rng.normal(0, 3, len(points)))
    db = np.clip(np.interp(np.log2(f + 1), points, gains - gains.mean()), -20, 20)
    response = 10 ** (db / 20)
    if rng.random() < 0.35:
        response = response / np.sqrt(1 + (f / rng.uniform(3000, 8000)) ** 24)
    if rng.random() < 0.15:
        response = response / np.sqrt(1 + (rng.uniform(60, 250) / (f + 1)) ** 4)
    harmonics = np.arange(1, 9)
    partials = 440 * 2 ** ((np.arange(128)[:, None] - 69) / 12) * harmonics
    weights = np.where(partials < f[-1], harmonics**-2.0, 1e-9)
    power = (np.interp(partials, f, response) ** 2 * weights).sum(1) / weights.sum(1)
    return np.fft.irfft(np.fft.rfft(x) * response, len(x)).astype(np.float32), 10 * np.log10(power)


def noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """White, pink or brown noise, or mains hum; unit RMS."""
    kind = rng.choice(["white", "pink", "brown", "hum"], p=[0.3, 0.4, 0.2, 0.1])
    if kind == "hum":
        t, f = np.arange(n) / SAMPLE_RATE, rng.choice([50, 60])
        x = sum(rng.uniform(0, 1) / h * np.sin(2 * np.pi * f * h * t + rng.uniform(0, 6.28)) for h in range(1, 9))
    else:
        spectrum = np.fft.rfft(rng.normal(0, 1, n))
        f = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 20)
        x = np.fft.irfft(spectrum / f ** {"white": 0, "pink": 0.5, "brown": 1}[str(kind)], n)
    return (x / (np.std(x) + 1e-9)).astype(np.float32)


def small_room(rng: np.random.Generator) -> np.ndarray:
    """Impulse response, without the direct sound, of a room that is lived in: reflections, then a tail; unit energy."""
    decay = rng.uniform(0.12, 1.1)
    size = int(decay * SAMPLE_RATE)
    t = np.arange(size) / SAMPLE_RATE
    bright = rng.normal(0, 1, size) * np.exp(-6.9 * t / (decay * rng.uniform(0.3, 0.9)))
    dark = sosfilt(butter(1, rng.uniform(400, 2500), fs=SAMPLE_RATE, output="sos"), rng.normal(0, 1, size))
    ir = (bright * rng.uniform(0.2, 1) + dark * 2 * np.exp(-6.9 * t / decay)) * np.clip(t / 0.03, 0.1, 1)
    gap = int(rng.uniform(0.0005, 0.012) * SAMPLE_RATE)
    for _ in range(int(rng.integers(3, 12))):
        at = gap + int(rng.uniform(0, 0.03) * SAMPLE_RATE)
        ir[at] += rng.normal(0, 3) * np.exp(-6.9 * at / SAMPLE_RATE / decay)
    ir[:gap] = 0
    return ir / np.sqrt(np.sum(ir**2))


def knocks(n: int, rng: np.random.Generator) -> np.ndarray:
    """Taps, clicks and thumps that are no notes: keys, fingers, a foot, a page; peak 1."""
    out = np.zeros(n, np.float32)
    for _ in range(int(rng.integers(1, 16))):
        size = int(rng.uniform(0.003, 0.08) * SAMPLE_RATE)
        low = rng.uniform(40, 1500)
        band = butter(1, [low, min(10000, low * rng.uniform(2, 12))], "bandpass", fs=SAMPLE_RATE, output="sos")
        burst = sosfilt(band, rng.normal(0, 1, size) * np.exp(-np.arange(size) / (size * rng.uniform(0.1, 0.4))))
        start = int(rng.integers(0, n - size))
        out[start : start + size] += (burst / (np.abs(burst).max() + 1e-9) * rng.uniform(0.2, 1)).astype(np.float32)
    return out


def overdriven(x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Clipped by up to 12 dB, with the peak it had; and by how many dB that makes it louder on the whole."""
    peak = np.abs(x).max() + 1e-9
    y = np.clip(x / peak * rng.uniform(1, 4), -1, 1) * peak
    return y, 20 * float(np.log10((np.std(y) + 1e-9) / (np.std(x) + 1e-9)))


def record(x: np.ndarray, m: Material, rng: np.random.Generator, drums: float) -> tuple[np.ndarray, np.ndarray]:
    """Put a dry mix into a recording; returns it and the gains in dB that notes of each MIDI pitch went through."""
    n, timbre = len(x), np.zeros(128)
    rms_before = np.sqrt(np.mean(x**2)) + 1e-9
    if rng.random() < drums:
        d = drum_track(m, rng, n)
        x = x + d * (rms_before / (np.sqrt(np.mean(d**2)) + 1e-9) * 10 ** (rng.uniform(-18, 3) / 20))
    if rng.random() < 0.7:
        x, timbre = equalise(x, rng)
    if rng.random() < 0.75:
        recorded = rng.random() < 0.4
        ir = m.rooms[int(rng.integers(len(m.rooms)))] if recorded else small_room(rng)
        wet = 10 ** (rng.uniform(-22, 1 if recorded else 8) / 20)  # far from the source the room is the louder
        x = x + wet * fftconvolve(x, ir)[:n]
        # There sound arrives later than it was played, by 3 ms a metre.
        metres = min(10.0, wet * rng.uniform(1, 6))
        x = np.concatenate([np.zeros(int(metres / SPEED_OF_SOUND * SAMPLE_RATE)), x])[:n]
        timbre = timbre + 10 * np.log10(1 + wet**2 * np.sum(ir[: SAMPLE_RATE // 20] ** 2))
    if rng.random() < 0.08:
        x, louder = overdriven(x, rng)
        timbre = timbre + louder
    x = x.astype(np.float32)
    if rng.random() < 0.25:
        x = x + knocks(n, rng) * np.float32(np.abs(x).max() * 10 ** (-rng.uniform(3, 30) / 20))
    if rng.random() < 0.6:
        x = x + noise(n, rng) * np.float32(np.std(x) * 10 ** (-rng.uniform(15, 65) / 20))
    if rng.random() < 0.15:  # rumble of a stage or a hand on the microphone
        low = sosfilt(butter(2, 90, fs=SAMPLE_RATE, output="sos"), noise(n, rng))
        x = x + np.float32(np.std(x) * 10 ** (-rng.uniform(5, 30) / 20)) * low.astype(np.float32)
    peak = np.abs(x).max() + 1e-9
    target = 10 ** (rng.uniform(-30, 0) / 20)
    gain = target / peak
    return (x * np.float32(gain)).astype(np.float32), timbre + 20 * np.log10(gain)


def make_clip(m: Material, rng: np.random.Generator, scenario: str | None = None) -> tuple[np.ndarray, list[Played]]:
    """One clip and its notes, sorted by onset."""
    name = scenario or str(rng.choice(list(SCENARIOS), p=np.array(list(SCENARIOS.values())) / sum(SCENARIOS.values())))
    parts = PLAYERS[name](m, rng)
    n = int(m.length * SAMPLE_RATE)
    mix, notes = np.zeros(n, np.float32), []
    for sound, played in parts:
        peak = np.abs(sound).max()
        if peak <= 0:
            continue
        gain = 10 ** (rng.uniform(-11, 0) / 20) / peak
        mix[: len(sound)] += sound * np.float32(gain)
        for p in played:
            p.level += 20 * np.log10(gain)
            notes.append(p)
    mix, gains = record(mix, m, rng, {"band": 0.8, "tune": 0.6, "guitar": 0.08, "any": 0.2}.get(name, 0.02))
    for p in notes:
        p.level += float(gains[p.pitch])
    return mix, merge_unisons(notes)


def merge_unisons(notes: list[Played]) -> list[Played]:
    """Two instruments on one pitch: onsets closer than 30 ms are one note; else the earlier ends at the later."""
    out: list[Played] = []
    last: dict[int, Played] = {}
    for p in sorted(notes, key=lambda p: (p.onset, p.pitch)):
        before = last.get(p.pitch)
        if before is not None and before.offset > p.onset:
            if p.onset - before.onset < 0.03:
                before.offset = max(before.offset, p.offset)
                before.bend = before.bend if len(before.bend) >= len(p.bend) else p.bend
                continue
            p.offset = max(p.offset, before.offset)
            if len(p.bend) * HOP / SAMPLE_RATE < p.offset - p.onset:
                p.bend = np.pad(
                    p.bend, (0, int((p.offset - p.onset) * SAMPLE_RATE / HOP) + 2 - len(p.bend)), mode="edge"
                )
            before.offset = p.onset
        last[p.pitch] = p
        out.append(p)
    return [p for p in out if p.offset - p.onset > 0.03]


# ---------------------------------------------------------------- shards


def choices(options: argparse.Namespace) -> str:
    """The options that decide what is in a shard, beside those in its name."""
    if options.kind == "guitar":
        return f"--guitar-shift {options.guitar_shift:g}"
    scenario = f"--scenario {options.scenario}" if options.scenario else "no --scenario"
    return f"{scenario}{' --heldout' * options.heldout}"


def there_already(path: Path, options: argparse.Namespace) -> bool:
    """Whether a shard need not be rendered again.

    Raises
    ------
    UsageError
        If the one that is there was rendered with other options.
    """
    if not path.exists():
        return False
    try:
        with np.load(path) as shard:
            stored = str(shard["choices"]) if "choices" in shard.files else ""  # versions before this one stored none
    except (BadZipFile, EOFError, ValueError) as error:
        raise UsageError(f"{path}: damaged; delete it") from error
    if stored not in ("", choices(options)):
        raise UsageError(f"{path}: is there already, rendered with {stored}; give --out another folder")
    return True


def write_shard(
    path: Path, clips: list[tuple[np.ndarray, list[Played]]], front_end: FrontEnd, choices: str = ""
) -> None:
    """Compute the spectrograms and write one shard."""
    columns: dict[str, list[np.ndarray]] = {"fine": [], "sharp": [], "reference": []}
    notes, bends, position = [], [], 0
    for index, (audio, played) in enumerate(clips):
        with torch.no_grad():
            fine, sharp, reference = front_end.padded(torch.from_numpy(audio)[None])
        columns["fine"].append(encode(fine[0].numpy()))
        columns["sharp"].append(encode(sharp[0].numpy()))
        columns["reference"].append(reference[0].numpy().astype(np.float16))
        for p in played:
            notes.append((index, p.onset, p.offset, p.pitch, p.level, position, len(p.bend)))
            bends.append(p.bend.astype(np.float16))
            position += len(p.bend)
    temporary = path.with_suffix(".tmp")  # not .npz: a half-written one is no shard
    with temporary.open("wb") as file:
        np.savez(
            file,
            **{k: np.stack(v) for k, v in columns.items()},
            notes=np.array(notes, np.float64).reshape(-1, 7),
            bends=np.concatenate(bends) if bends else np.zeros(0, np.float16),
            choices=choices,
        )
    temporary.replace(path)


def synth_shard(args: tuple[argparse.Namespace, int]) -> str:
    """Render one shard of synthetic clips."""
    options, number = args
    path = options.out / f"synth_{options.seed:02d}_{number:04d}.npz"
    if there_already(path, options):
        return f"{path.name}: there already"
    torch.set_num_threads(1)
    material = load_material(options.banks, options.library, options.data, options.heldout)
    start, front_end = time.time(), FrontEnd()
    rng = np.random.default_rng([options.seed, number])
    clips = [make_clip(material, rng, options.scenario) for _ in range(CLIPS_PER_SHARD)]
    write_shard(path, clips, front_end, choices(options))
    return f"{path.name}: {CLIPS_PER_SHARD * LENGTH / (time.time() - start):.0f}x real time"


def sound_file(args: tuple[argparse.Namespace, int]) -> str:
    """Render one synthetic clip as it sounds, to be listened to, or for export.py to measure ranges on."""
    options, number = args
    path = options.out / f"{options.seed:02d}_{number:04d}.flac"
    material = load_material(options.banks, options.library, options.data, options.heldout)
    rng = np.random.default_rng([options.seed, 2000 + number])
    audio, _ = make_clip(material, rng, options.scenario)
    soundfile.write(path, np.clip(audio, -1, 1), SAMPLE_RATE)
    return path.name


def read_labels(path: Path) -> np.ndarray:
    """Rows of onset, offset, pitch."""
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)[:, :3]


def guitar_shard(args: tuple[argparse.Namespace, int]) -> str:
    """Cut one pass over GuitarSet into clips; every pass but the first is played back at another speed and room."""
    options, number = args
    recordings = sorted((options.data / "guitarset").glob("*.ogg"))
    chunk, chunks = number % 8, 8
    which = number // 8
    path = options.out / f"guitar_{options.seed:02d}_{which}_{chunk}.npz"
    if not recordings[chunk::chunks]:
        return f"{path.name}: no recordings for it"
    if there_already(path, options):
        return f"{path.name}: there already"
    torch.set_num_threads(1)
    material = load_material(None, None, options.data, False)
    rng = np.random.default_rng([options.seed, 1000 + number])
    clips, n = [], int(LENGTH * SAMPLE_RATE)
    for recording in recordings[chunk::chunks]:
        audio, labels = read_mono(recording), read_labels(recording.with_suffix(".csv"))
        labels[:, 0] -= options.guitar_shift
        semitones = 0.0 if which == 0 else float(rng.choice([-3, -2, -1, 0, 0, 1, 2, 3]) + rng.normal(0, 0.08))
        speed = 2 ** (semitones / 12)
        if semitones:
            audio = soxr.resample(audio, SAMPLE_RATE * speed, SAMPLE_RATE).astype(np.float32)
        begin = int(rng.uniform(0, 6) * SAMPLE_RATE) if which else 0
        for start in range(begin, max(1, len(audio) - n // 2), n):
            x = np.zeros(n, np.float32)
            piece = audio[start : start + n]
            x[: len(piece)] = piece
            t0 = start / SAMPLE_RATE
            notes = []
            for onset, offset, pitch in labels:
                a, b = onset / speed - t0, offset / speed - t0
                if b > 0.05 and a < LENGTH - 0.05:
                    p = pitch + semitones
                    k = round(p)
                    bend = np.full(int((b - a) * SAMPLE_RATE / HOP) + 3, p - k, np.float32)
                    notes.append(Played(a, min(b, LENGTH), k, np.nan, bend))
            if which:
                x, _ = record(x, material, rng, 0.05)
            else:
                x = x / (np.abs(x).max() + 1e-9) * np.float32(10 ** (rng.uniform(-20, 0) / 20))
            clips.append((x, sorted(notes, key=lambda p: p.onset)))
    write_shard(path, clips, FrontEnd(), choices(options))
    return f"{path.name}: {len(clips)} clips"


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("synth", "guitar", "audio"))
    parser.add_argument("--banks", type=Path)
    parser.add_argument("--library", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=at_least_one, default=2)
    parser.add_argument("--scenario", choices=tuple(SCENARIOS))
    parser.add_argument("--heldout", action="store_true", help="use only the banks kept out of training")
    parser.add_argument("--guitar-shift", type=float, default=0.0, help="seconds GuitarSet's onsets lag its attacks")
    options = parser.parse_args()
    if options.kind != "guitar" and (options.banks is None or options.library is None):
        parser.error(f"{options.kind} needs --banks and --library")
    if options.kind == "guitar" and not any((options.data / "guitarset").glob("*.ogg")):
        parser.error(f"{options.data}: has no guitarset/*.ogg; give the folder of the training material")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.kind == "synth":
        work, count = synth_shard, -(-options.clips // CLIPS_PER_SHARD)
    elif options.kind == "audio":
        work, count = sound_file, options.clips
    else:
        work, count = guitar_shard, 8 * options.passes
    with workers(options.jobs) as pool:
        for message in pool.map(work, [(options, i) for i in range(count)]):
            print(message, flush=True)


if __name__ == "__main__":
    main()
