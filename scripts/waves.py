"""A player of electronic instruments: analogue, digital and FM synthesisers, and the chips of old computers.

What no bank has: waves without the partials that an octave would share (a square has no even ones, a sine none at all),
unison voices that beat, filters that open, notes that begin in phase with each other, lines that glide, attacks of a
second, echoes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from frontend import HOP, SAMPLE_RATE
from music import Event
from scipy.signal import lfilter
from synth import FRAME, Played, audible_length, level_of, perceived_attack, scaled, settle, struck_again

TABLE = 2048  # samples of one period
CEILING = 10_500.0  # Hz, of partials
CUTOFFS = 6  # tables of a note, from the lowest cutoff to the highest
HEARD = 0.2  # share of its loudest moment at which a slow note is heard to begin
LATEST = 0.03  # s after it was played
STRUCK_AGAIN = 0.015  # s before which the note before is let go


@dataclass(frozen=True)
class Patch:
    """How an instrument sounds; times in s, cutoffs in octaves, ``wave`` in amplitudes of the partials."""

    wave: np.ndarray
    naive: float  # duty of a pulse, 0 for none, whose aliases are heard, as in the chips that played it
    ratio: float  # of the frequency of the operator that modulates, 0 without
    index: tuple[float, float]  # of its modulation, at the beginning and later
    voices: int
    spread: float  # semitones between the outermost voices
    cutoff: float  # above the note's own frequency, or, where that lies lower, above 65 Hz
    tracking: float  # 0 to 1
    sweep: float  # by which the cutoff falls, with the time constant ``decay``; negative: by which it rises
    decay: float
    slope: float  # dB an octave
    resonance: float  # dB
    wobble: tuple[float, float]  # depth and rate of the cutoff
    attack: float
    fall: float  # time constant with which a held note comes down to ``held``, a share of its beginning
    held: float
    release: float
    dynamics: float
    vibrato: tuple[float, float, float]  # depth in semitones, rate, delay
    tremolo: tuple[float, float]  # depth and rate
    glide: float  # time constant with which a line goes on to the next pitch, 0 for steps
    in_phase: bool  # every note starts its waves anew
    tuning: float  # semitones


def spectrum(rng: np.random.Generator) -> np.ndarray:
    """Amplitudes of 200 partials: sine, triangle, square, pulse, saw, drawbars, or something digital."""
    h = np.arange(1, 201)
    kind = rng.choice(["sine", "triangle", "square", "pulse", "saw", "drawbars", "digital"],
                      p=[0.12, 0.1, 0.2, 0.13, 0.25, 0.08, 0.12])  # fmt: skip
    if kind == "sine":
        wave = (h == 1) + (h > 1) * (h < 5) * 10 ** (rng.uniform(-70, -25, 200) / 20)
    elif kind == "triangle":
        wave = (h % 2) * (-1.0) ** (h // 2) / h**2
    elif kind == "square":
        wave = (h % 2) / h
    elif kind == "pulse":
        wave = np.sin(np.pi * h * rng.uniform(0.06, 0.4)) / h
    elif kind == "saw":
        wave = 1 / h
    elif kind == "drawbars":
        wave = np.zeros(200)
        drawn = rng.choice([2, 3, 4, 6, 8], int(rng.integers(1, 5)), replace=False)
        wave[drawn - 1] = 10 ** (rng.uniform(-30, -3, len(drawn)) / 20)
        wave[0] = 1
    else:
        wave = 10 ** (rng.normal(0, 8, 200) / 20) / h ** rng.uniform(0.5, 1.5) * rng.choice([-1, 1], 200)
        wave[0] = max(1.0, float(np.abs(wave).max()) * rng.uniform(0.3, 1))
    if rng.random() < 0.2:  # a second oscillator an octave above
        above = np.zeros(200)
        above[1::2] = (1 / h)[:100] * (1.0 if rng.random() < 0.6 else h[:100] % 2)
        wave = wave + above * 10 ** (rng.uniform(-20, 0) / 20)
    return wave.astype(float)


def patch(rng: np.random.Generator, shortest: float) -> Patch:
    """An instrument by chance on which notes of ``shortest`` seconds can be told apart."""

    def log(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def perhaps(chance: float, low: float, high: float) -> float:
        return float(rng.uniform(low, high)) if rng.random() < chance else 0.0

    modulated = rng.random() < 0.22
    whole = rng.random() < 0.75
    ratio = float(rng.choice([1, 1, 2, 2, 3, 4, 5, 7]) if whole else rng.choice([1.41, 2.76, 3.5, 6.27, 11.0]))
    strength = float(rng.uniform(0.2, 4) if whole else rng.uniform(0.1, 1.2))
    slow = rng.random() < 0.2
    struck = not slow and rng.random() < 0.5
    return Patch(
        wave=spectrum(rng),
        naive=float(rng.choice([0.5, 0.25, 0.125])) if rng.random() < 0.1 else 0.0,
        ratio=ratio if modulated else 0.0,
        index=(strength, strength * float(rng.uniform(0, 1))),
        voices=int(rng.choice([1, 2, 3, 5, 7], p=[0.55, 0.2, 0.1, 0.1, 0.05])),
        spread=float(rng.uniform(0.02, 0.4)),
        cutoff=float(rng.uniform(0.3, 7)),
        tracking=float(rng.uniform(0.2, 1)),
        sweep=perhaps(0.5, -2 if slow else -0.5, 4),
        decay=log(0.02, 0.8),
        slope=float(rng.choice([12, 24])),
        resonance=perhaps(0.4, 3, 18),
        wobble=(perhaps(0.12, 0.3, 1.5), log(0.2, 6)),
        attack=min(0.4 * shortest, log(0.06, 0.9) if slow else log(0.001, 0.03)),
        fall=log(0.08, 1.5),
        held=perhaps(0.3, 0.05, 0.5) if struck else float(rng.uniform(0.5, 1)),
        release=min(0.5 * shortest, log(0.1, 0.8) if slow else log(0.004, 0.25)),
        dynamics=float(rng.uniform(0, 2)),
        vibrato=(perhaps(0.2, 0.05, 0.5), float(rng.uniform(4, 7.5)), perhaps(0.5, 0.1, 0.5)),
        tremolo=(perhaps(0.08, 0.1, 0.6), log(1, 8)),
        glide=min(0.12 * shortest, perhaps(0.25, 0.01, 0.06)),
        in_phase=bool(rng.random() < 0.5),
        tuning=float(rng.normal(0, 0.06)),
    )


def tables(patch: Patch, frequency: float, cutoffs: np.ndarray) -> np.ndarray:
    """One period, through a low-pass with each of these cutoffs (Hz), shape (cutoffs, TABLE + 1)."""
    partials = np.arange(1, len(patch.wave) + 1) * frequency
    away = np.log2(partials / cutoffs[:, None])  # octaves
    db = -patch.slope * np.maximum(away, 0) + patch.resonance * np.exp(-((away / 0.25) ** 2))
    lines = np.zeros((len(cutoffs), TABLE // 2 + 1), complex)
    lines[:, 1 : len(partials) + 1] = np.where(partials < CEILING, -0.5j * TABLE * patch.wave * 10 ** (db / 20), 0)
    wave = np.fft.irfft(lines, TABLE)
    return np.concatenate([wave, wave[:, :1]], axis=1).astype(np.float32)


def oscillate(patch: Patch, pitch: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """The waves of a note whose pitch (MIDI, per hop) moves, filtered; not yet shaped in loudness."""
    t = np.arange(samples) / SAMPLE_RATE
    bent = np.interp(t, np.arange(len(pitch)) * FRAME, pitch)
    base = 440 * 2 ** ((float(np.median(pitch)) - 69) / 12)
    swing = 0 if patch.in_phase else rng.uniform(0, 6.28)
    if patch.ratio:
        index = patch.index[1] + (patch.index[0] - patch.index[1]) * np.exp(-t / patch.decay)
        index = np.minimum(index, max(0.0, CEILING / (base * patch.ratio) - 1))  # or its side bands fold back
    elif not patch.naive:
        wave, row, mix = opening(patch, base, t, swing)
    out = np.zeros(samples, np.float32)
    for voice in range(patch.voices):
        off = patch.spread * (voice / (patch.voices - 1) - 0.5) if patch.voices > 1 else 0.0
        cycles = np.cumsum(440 * 2 ** ((bent + off - 69) / 12)) / SAMPLE_RATE + (0 if patch.in_phase else rng.random())
        if patch.ratio:
            out += np.sin(2 * np.pi * cycles + index * np.sin(2 * np.pi * patch.ratio * cycles)).astype(np.float32)
        elif patch.naive:
            out += np.where(cycles % 1 < patch.naive, 1.0, -1.0).astype(np.float32)
        else:
            at = (cycles % 1) * TABLE
            i = np.minimum(at.astype(np.int64), TABLE - 1)
            part = (at - i).astype(np.float32)
            lower = wave[row, i] * (1 - part) + wave[row, i + 1] * part
            upper = wave[row + 1, i] * (1 - part) + wave[row + 1, i + 1] * part
            out += lower * (1 - mix) + upper * mix
    return out


def opening(patch: Patch, base: float, t: np.ndarray, swing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a note of ``base`` Hz sounds through while its filter moves.

    Returns the tables, and for each moment of ``t`` (s) the lower of the two between which the cutoff lies, and how
    much of it is the upper one. ``swing`` is the phase in which the wobble begins.
    """
    depth, rate = patch.wobble
    above = patch.cutoff + patch.sweep * np.exp(-t / patch.decay)
    above += depth * np.sin(2 * np.pi * rate * t + swing)
    low, high = float(above.min()), float(above.max()) + 0.01
    root = 65 * (base / 65) ** patch.tracking
    cutoffs = np.maximum(root * 2 ** np.linspace(low, high, CUTOFFS), 0.7 * base)
    place = np.clip((above - low) / (high - low) * (CUTOFFS - 1), 0, CUTOFFS - 1.001)
    row = place.astype(np.int64)
    return tables(patch, base, cutoffs), row, (place - row).astype(np.float32)


def loudness(patch: Patch, duration: float, samples: int) -> np.ndarray:
    """The envelope of a note held for ``duration`` seconds."""
    t = np.arange(samples) / SAMPLE_RATE
    level = np.minimum(t / patch.attack, 1)
    level *= patch.held + (1 - patch.held) * np.exp(-np.maximum(t - patch.attack, 0) / patch.fall)
    level *= np.exp(-np.maximum(t - duration, 0) / patch.release)
    depth, rate = patch.tremolo
    return (level * (1 + depth * (np.sin(2 * np.pi * rate * t) - 1) / 2)).astype(np.float32)


def effects(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Echoes, a chorus, coarse samples; none of them is a note."""
    if rng.random() < 0.2:
        gap, feedback = int(rng.uniform(0.12, 0.5) * SAMPLE_RATE), rng.uniform(0.1, 0.5)
        echo = np.zeros(len(x))
        echo[gap:] = lfilter([1], [1, *np.zeros(gap - 1), -feedback], x)[:-gap]
        x = x + echo * 10 ** (rng.uniform(-24, -10) / 20)
    if rng.random() < 0.2:
        t = np.arange(len(x))
        depth, rate = rng.uniform(0.5, 3) / 1000 * SAMPLE_RATE, rng.uniform(0.2, 1.2)
        at = t - rng.uniform(5, 15) / 1000 * SAMPLE_RATE - depth * np.sin(2 * np.pi * rate * t / SAMPLE_RATE)
        x = x + rng.uniform(0.3, 1) * np.interp(at, t, x, left=0)
    if rng.random() < 0.08:
        steps = 2.0 ** int(rng.integers(4, 8))
        x = np.round(x / (np.abs(x).max() + 1e-9) * steps) / steps
    return x.astype(np.float32)


def electronic(events: list[Event], length: float, rng: np.random.Generator) -> tuple[np.ndarray, list[Played]]:
    """A part played on a synthesiser by chance."""
    p = patch(rng, float(np.quantile([e.offset - e.onset for e in events], 0.25)) if events else 1.0)
    n = int(length * SAMPLE_RATE)
    out = np.zeros(n + 4 * SAMPLE_RATE, np.float32)
    played: list[Played] = []
    before: float | None = None
    for e, again in zip(events, struck_again(events), strict=True):
        duration = e.offset - e.onset
        samples = int((duration + min(4 * p.release, 3)) * SAMPLE_RATE)
        t = np.arange(samples // HOP + 3) * FRAME
        pitch = np.full(len(t), e.pitch + p.tuning)
        if p.glide and before is not None:
            pitch += (before - e.pitch) * np.exp(-t / p.glide)
        before = e.pitch
        depth, rate, delay = p.vibrato
        pitch += depth * np.sin(2 * np.pi * rate * t) * np.clip((t - delay) / 0.1, 0, 1)
        sound = oscillate(p, pitch, samples, rng) * loudness(p, duration, samples)
        sound *= (max(e.velocity, 5) / 127) ** p.dynamics
        # A voice that is struck again lets go first: else nothing would be heard of it.
        cut = np.arange(samples) / SAMPLE_RATE - (again - e.onset - STRUCK_AGAIN)
        sound *= np.exp(-np.maximum(cut, 0) / (STRUCK_AGAIN / 2)).astype(np.float32)
        start = int(e.onset * SAMPLE_RATE)
        sound = sound[: len(out) - start]
        if len(sound) < 200 or not np.any(sound):
            continue
        out[start : start + len(sound)] += sound
        late = min(perceived_attack(sound, HEARD, LATEST), duration / 2)
        onset = e.onset + late
        # As in play_bank: what is held ends when it has died down, what falls by itself when it is gone.
        end = e.onset + min(duration + min(0.04, 0.7 * p.release), max(0.05, audible_length(sound)))
        note = settle(onset, max(end, onset + 0.04), e.pitch, level_of(sound), pitch[round(late / FRAME) :] - e.pitch)
        played.append(replace(note, velocity=e.velocity))
    return scaled(effects(out[:n], rng), played)


def sequence(length: float, low: int, high: int, rng: np.random.Generator) -> list[Event]:
    """What a sequencer plays: one chord or bass note after another in equal steps, over and over, with accents."""
    step = 60 / rng.uniform(80, 170) / float(rng.choice([2, 3, 4, 4, 4]))
    gate = float(rng.choice([0.3, 0.5, 0.8, 0.95, 1.0]))
    count = int(rng.choice([4, 6, 8, 16]))
    minor = rng.random() < 0.6
    key = int(rng.integers(low, min(low + 12, high - 11)))
    chord = [0, 3 if minor else 4, 7, 12, 15 if minor else 16, 19, 24]
    chord = [c for c in chord if key + c <= high]
    still = rng.random() < 0.4  # mostly one note
    line = [0 if still and rng.random() < 0.7 else chord[int(rng.integers(len(chord)))] for _ in range(count)]
    if not still and rng.random() < 0.5:
        line = [chord[k % len(chord)] for k in range(count)]
    rests = rng.random(count) < rng.choice([0, 0.15, 0.4])
    accents = rng.choice([70, 90, 110], count)
    events, t, k, root = [], float(rng.uniform(0, 0.5)), 0, key
    while t < length - 0.1:
        if k % (2 * count) == 0:
            root = key + int(rng.choice([0, 0, -2, -4, 3, 5, -5]))
        pitch = root + line[k % count]
        if not rests[k % count] and low <= pitch <= high:
            events.append(Event(t, min(t + max(0.05, step * gate), length), pitch, float(accents[k % count])))
        t += step
        k += 1
    return events
