"""Players: note banks (sampled instruments), and synthesisers for lines of voice, bow or reed, for chords of free
reeds, and for what is struck or plucked and has no strings (tines, bars, bells).

Each player returns sound together with what was *really* played: :class:`Played` notes whose pitch is the nearest
semitone to the sounding pitch, whose bend is the deviation from it, whose offset is where the sound dies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from frontend import HOP, SAMPLE_RATE
from music import Event
from scipy.signal import lfilter

FRAME = HOP / SAMPLE_RATE
RISE = 22  # samples kept before a sample's attack
DEAD = 10 ** (-30 / 20)  # a note ends where it has fallen this far below its loudest moment


@dataclass(slots=True)
class Played:
    """A sounding note: times in s, semitone, level in dB full scale, deviation from `pitch` per hop from the onset.

    ``velocity`` is that of the event, nan where there was none.
    """

    onset: float
    offset: float
    pitch: int
    level: float
    bend: np.ndarray
    velocity: float = np.nan


@dataclass(frozen=True, slots=True)
class Touch:
    """How a part is played.

    ``release`` is the time constant (s) with which a released note dies (of a piano: at middle C, longer below),
    ``dynamics`` the exponent of amplitude over velocity.
    """

    release: float
    dynamics: float


class Bank:
    """A sampled instrument as written by prepare.py."""

    def __init__(self, path: Path) -> None:
        meta = json.loads(path.with_suffix(".json").read_text())
        self.id, self.family, self.kind = meta["id"], meta["family"], meta["kind"]
        self.programs, self.heldout, self.release = meta["programs"], meta["heldout"], meta["release"]
        self.samples = meta["samples"]
        self.pitch = np.array([s["pitch"] for s in self.samples])
        self.velocity = np.array([s["velocity"] for s in self.samples], float)
        self.gain = np.array([s["gain_db"] for s in self.samples])
        self.layers = len(set(self.velocity.tolist()))
        self.audio = np.load(path.with_suffix(".npy"), mmap_mode="r")
        self.low = int(np.ceil(self.pitch.min() - 2.5))
        self.high = int(np.floor(self.pitch.max() + 2.5))

    def choose(self, pitch: float, velocity: float, rng: np.random.Generator) -> int:
        """Index of a sample near in pitch, then in velocity; chance among equals (round robins)."""
        distance = np.abs(self.pitch - pitch) * 10 + np.abs(self.velocity - velocity) / 12
        return int(np.argmin(distance + rng.random(len(distance)) * 1.5))

    def held(self, event: Event) -> float:
        """Seconds for which a note of this instrument is held, as references have it: its key's, if it has keys."""
        return (min(event.offset, event.released) if self.family in KEYED else event.offset) - event.onset

    def sound(
        self, event: Event, duration: float, bend: np.ndarray, touch: Touch, rng: np.random.Generator
    ) -> np.ndarray:
        """Sound of one note, held for `duration` seconds, `bend` semitones per hop away from its pitch."""
        index = self.choose(event.pitch, event.velocity, rng)
        sample = self.samples[index]
        release = touch.release * 2 ** ((60 - event.pitch) / 36) if self.family == "piano" else touch.release
        tail = 3 * release
        n = int((duration + tail) * SAMPLE_RATE)
        lead = max(0, int(sample["attack"]) - RISE)  # silence before the attack: the label is where the sound begins
        raw = self.audio[sample["start"] + lead : sample["start"] + sample["length"]].astype(np.float32) / 32767
        raw[:RISE] *= np.linspace(0, 1, len(raw[:RISE]), dtype=np.float32)
        ratio = 2.0 ** ((event.pitch - self.pitch[index]) / 12)
        if np.any(bend):
            b = np.interp(np.arange(n) / SAMPLE_RATE, np.arange(len(bend)) * FRAME, bend)
            phase = np.cumsum(ratio * 2 ** (b / 12)) - ratio
        else:
            phase = np.arange(n) * ratio
        needed = int(phase[-1]) + 3
        if self.kind == "sustain" and needed > sample["held"] - lead:
            raw = sustain_loop(raw[: sample["held"] - lead], needed, rng)
        phase = phase[phase < len(raw) - 2]
        i = phase.astype(np.int64)
        frac = (phase - i).astype(np.float32)
        y = raw[i] * (1 - frac) + raw[i + 1] * frac
        held = int(duration * SAMPLE_RATE)
        if len(y) > held:
            y[held:] *= np.exp(-np.arange(len(y) - held) / (release * SAMPLE_RATE)).astype(np.float32)
        fade = min(len(y), 200)
        y[len(y) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        exponent = touch.dynamics * (0.6 if self.layers > 1 else 1.0)
        gain = 10 ** (self.gain[index] / 20) * (max(event.velocity, 5) / self.velocity[index]) ** exponent
        return y * np.float32(gain)


def sustain_loop(raw: np.ndarray, needed: int, rng: np.random.Generator) -> np.ndarray:
    """Lengthen a steady sound by repeating its middle with cross-fades."""
    n = len(raw)
    start, stop = int(n * rng.uniform(0.3, 0.45)), int(n * rng.uniform(0.82, 0.95))
    fade = min(int(0.12 * SAMPLE_RATE), (stop - start) // 3)
    if fade < 200:
        return raw
    up = np.sqrt(np.linspace(0, 1, fade, dtype=np.float32))
    parts, length = [raw[: stop - fade]], stop - fade
    while length < needed:
        crossed = raw[stop - fade : stop] * up[::-1] + raw[start : start + fade] * up
        parts += [crossed, raw[start + fade : stop - fade]]
        length += stop - fade - start
    return np.concatenate(parts)


def level_of(sound: np.ndarray) -> float:
    """Loudest 25 ms RMS within the first 0.25 s, in dB relative to full scale."""
    window = int(0.025 * SAMPLE_RATE)
    head = sound[: int(0.25 * SAMPLE_RATE)]
    count = max(1, len(head) // window)
    power = np.square(head[: count * window]).reshape(count, -1).mean(1) if len(head) >= window else [np.mean(head**2)]
    return float(10 * np.log10(np.max(power) + 1e-10))


def perceived_attack(sound: np.ndarray, share: float, limit: float) -> float:
    """Seconds, at most ``limit``, after which a slowly swelling sound is heard to begin.

    That is where it has come to ``share`` of the loudest moment of its first 0.2 s: listeners, and those who label
    recordings, hear the onset of a bowed or sung note in its rise, not at its first faint sound (Gordon, "The
    perceptual attack time of musical tones", JASA 82, 1987).
    """
    window = 64
    head = sound[: int(0.2 * SAMPLE_RATE)]
    count = len(head) // window
    if count < 4:
        return 0.0
    rms = np.sqrt(np.square(head[: count * window]).reshape(count, -1).mean(1))
    smooth = np.convolve(rms, np.ones(4) / 4, "same")
    return min(limit, int(np.argmax(smooth >= share * smooth.max())) * window / SAMPLE_RATE)


def audible_length(sound: np.ndarray) -> float:
    """Seconds until the sound has died for good."""
    window = 512
    count = len(sound) // window
    if count < 2:
        return len(sound) / SAMPLE_RATE
    rms = np.sqrt(np.square(sound[: count * window]).reshape(count, -1).mean(1))
    alive = np.flatnonzero(rms > DEAD * rms.max())
    return (int(alive[-1]) + 1) * window / SAMPLE_RATE


def settle(onset: float, offset: float, pitch: float, level: float, bend: np.ndarray) -> Played:
    """Round the sounding pitch to the nearest semitone; keep the rest as bend."""
    count = max(2, int(np.ceil((offset - onset) / FRAME)) + 1)
    b = bend[:count] if len(bend) >= count else np.pad(bend, (0, count - len(bend)), mode="edge")
    middle = b[len(b) // 4 : max(len(b) // 4 + 1, 3 * len(b) // 4 + 1)]
    rounded = round(pitch + float(np.median(middle)))
    return Played(onset, offset, rounded, level, (b + (pitch - rounded)).astype(np.float32))


def ornament(duration: float, rng: np.random.Generator, amount: float) -> np.ndarray:
    """A pitch gesture in semitones per hop: vibrato, scoop, slide, fall, string bend."""
    n = int(duration / FRAME) + 40
    t = np.arange(n) * FRAME
    b = np.zeros(n)
    if rng.random() < 0.6 * amount:
        depth = rng.uniform(0.08, 0.6)
        b += (
            depth
            * np.sin(2 * np.pi * rng.uniform(4.5, 7) * t + rng.uniform(0, 6.28))
            * np.clip((t - rng.uniform(0, 0.35)) / 0.25, 0, 1)
        )
    if rng.random() < 0.35 * amount:
        b += rng.choice([-1, -1, 1]) * rng.uniform(0.2, 1.5) * np.exp(-t / rng.uniform(0.015, 0.07))
    if rng.random() < 0.12 * amount and duration > 0.4:
        at = duration * rng.uniform(0.3, 0.7)
        b += np.clip((t - at) / rng.uniform(0.06, 0.25), 0, 1) * rng.choice([-2, -1, 1, 2]) * rng.uniform(0.6, 1)
    return b


# Share of its loudness at which a note of these families is heard to begin, and the latest moment (s). A sung note is
# where its vowel is.
SWELLING = {"strings": (0.2, 0.03), "ensemble": (0.2, 0.03), "voice": (0.5, 0.06)}
BLOWN = ("reed", "pipe", "brass", "freereed")
# Seconds from there to where it is heard to begin: sung notes once the vowel has settled, free reeds with the breath
# that sets them off. In a synthesised voice: seconds after the vowel has come up and the pitch has mostly been reached.
HEARD = {"voice": 0.010, "freereed": -0.010}
SETTLED = 0.025
RINGING = ("piano", "epiano", "mallet", "plucked")
# Notes of these end with the key, as references have them, even where a pedal lets the string ring on.
KEYED = ("piano", "epiano")


def struck_again(events: list[Event]) -> list[float]:
    """When each note's pitch is played next; infinity if never."""
    return [next((o.onset for o in events[i + 1 :] if o.pitch == e.pitch), np.inf) for i, e in enumerate(events)]


def ring_through(events: list[Event]) -> list[float]:
    """How long each note sounds if a note struck again under the pedal is not damped first: to the end of the chain."""
    end: dict[int, tuple[float, float]] = {}  # by pitch: the next event's onset, and when its sound ends
    out = []
    for e in reversed(events):
        onset, last = end.get(e.pitch, (np.inf, 0.0))
        stop = max(e.offset, last) if onset - e.offset < 0.03 else e.offset
        end[e.pitch] = e.onset, stop
        out.append(stop - e.onset)
    return out[::-1]


def pulse(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Amplitude that swells and fades a few times a second without a new attack."""
    t = np.arange(len(sound)) / SAMPLE_RATE
    wave = np.sin(2 * np.pi * rng.uniform(1.5, 8) * t + rng.uniform(0, 6.28)) * np.clip(t / rng.uniform(0.1, 0.5), 0, 1)
    return (sound * 10 ** (rng.uniform(0.5, 4) * (wave - 1) / 20)).astype(np.float32)


def play_bank(
    bank: Bank,
    events: list[Event],
    length: float,
    rng: np.random.Generator,
    *,
    expression: float,
    detune: float,
    pedal: bool = False,
) -> tuple[np.ndarray, list[Played]]:
    """A part played on a bank.

    Parameters
    ----------
    expression : float
        0 to 1, how often notes carry a pitch gesture.
    detune : float
        Tuning of the whole part, in semitones.
    pedal : bool
        Whether a note rings on when it is struck again.
    """
    out = np.zeros(int((length + 3) * SAMPLE_RATE), np.float32)
    played = []
    release = bank.release * float(np.exp(rng.uniform(np.log(0.15), np.log(1.7)))) + 0.01
    touch = Touch(release, float(rng.uniform(1.2, 2.2)))
    rings = pedal or (bank.kind == "decay" and bank.family in RINGING and rng.random() < 0.4)
    held = ring_through(events) if rings else [e.offset - e.onset for e in events]
    pulsing = bank.kind == "sustain" and rng.random() < 0.25  # tremolo, a hand over a harmonica, beating reeds
    breath = float(rng.uniform(0.01, 0.1)) if bank.family in BLOWN and rng.random() < 0.4 else 0.0  # s: a soft attack
    for e, sounding in zip(events, held, strict=True):
        duration = bank.held(e)
        bend = np.full(int(sounding / FRAME) + 40, detune)
        if rng.random() < expression:
            bend = bend + np.resize(ornament(sounding, rng, 1.0), len(bend))
        sound = bank.sound(e, sounding, bend, touch, rng)
        if len(sound) < 200:
            continue
        if pulsing and rng.random() < 0.7:
            sound = pulse(sound, rng)
        rise = int(min(breath * rng.uniform(0.5, 1.2), duration / 2) * SAMPLE_RATE)
        if rise:
            sound[:rise] *= np.linspace(0, 1, rise, dtype=np.float32)[: len(sound)]
        start = int(e.onset * SAMPLE_RATE)
        stop = min(start + len(sound), len(out))
        out[start:stop] += sound[: stop - start]
        late = perceived_attack(sound, *SWELLING[bank.family]) if bank.family in SWELLING else 0.15 * rise / SAMPLE_RATE
        onset = max(0.0, e.onset + min(late + HEARD.get(bank.family, 0.0), duration / 2))
        # A sustained note is heard to end when it has died down, a struck one where its damper falls.
        dying = min(0.04, 0.7 * release) if bank.kind == "sustain" else 0.0
        offset = max(onset + 0.04, e.onset + min(duration + dying, max(0.05, audible_length(sound))))
        note = settle(onset, offset, e.pitch, level_of(sound), bend[max(0, round((onset - e.onset) / FRAME)) :])
        played.append(replace(note, velocity=e.velocity))
    return out[: int(length * SAMPLE_RATE)], played


VOWELS = np.array(
    [
        [730, 1090, 2440, 3400], [270, 2290, 3010, 3700], [300, 870, 2240, 3300], [530, 1840, 2480, 3500],
        [570, 840, 2410, 3300], [660, 1720, 2410, 3500], [440, 1020, 2240, 3300], [390, 1990, 2550, 3600],
    ]
)  # fmt: skip


def legato_line(
    events: list[Event], length: float, rng: np.random.Generator, kind: str
) -> tuple[np.ndarray, list[Played]]:
    """A monophonic line with continuous phase: glides, vibrato, drift, formants, breath.

    Source-filter additive synthesis; ``kind`` is "voice", "bow" or "reed". Unlike a sampled note, a new note need not
    have an attack: in a sung or bowed slur only the pitch (and the vowel) moves.
    """
    n = int(length * SAMPLE_RATE)
    if not events:
        return np.zeros(n, np.float32), []
    control = np.arange(0, n + HOP, HOP) / SAMPLE_RATE
    voice = kind == "voice"
    drift_sd = rng.uniform(0.02, 0.15) if voice else rng.uniform(0, 0.05)
    tuning = float(rng.normal(0, 0.15 if voice else 0.06))
    glide = rng.uniform(0.02, 0.09) if voice else rng.uniform(0.005, 0.05)
    vibrato_depth = rng.uniform(0, 0.9) if rng.random() < 0.7 else 0.0
    if not voice:
        vibrato_depth *= 0.5
    vibrato_rate, vibrato_delay = rng.uniform(4.3, 6.8), rng.uniform(0, 0.4)
    articulation = rng.uniform(0, 1)  # how often a note is tongued or begins with a consonant

    pitch = np.zeros(len(control))
    loud = np.zeros(len(control))
    noise = np.full(len(control), rng.uniform(0.002, 0.03) if voice else rng.uniform(0.001, 0.03))
    formants = np.zeros((len(control), 4))
    spread = rng.uniform(0.85, 1.25)
    previous_end, previous_pitch = -1.0, float(events[0].pitch)
    marks = []
    for k, e in enumerate(events):
        target = e.pitch + tuning + float(rng.normal(0, drift_sd))
        following = events[k + 1].onset if k + 1 < len(events) else length + 1
        end = min(e.offset, following)
        slurred = e.onset - previous_end < 0.03
        inside = (control >= e.onset - 0.12) & (control < end + 0.25)
        t = control[inside] - e.onset
        # A listener hears the new note where a bow or reed has gone half of the way, a voice most of it: at the vowel.
        begin = previous_pitch if slurred else target - abs(float(rng.normal(0, 0.8 if voice else 0.2)))
        shape = 1 / (1 + np.exp(-(t + 0.35 * glide * voice) / (glide / 3)))
        curve = begin + (target - begin) * (shape if slurred else 1 - np.exp(-np.maximum(t + 0.02, 0) / glide))
        curve = curve + float(rng.normal(0, 0.2) if voice else 0) * np.exp(-np.maximum(t, 0) / 0.15) * (t > 0)
        curve += vibrato_depth * np.sin(2 * np.pi * vibrato_rate * t) * np.clip((t - vibrato_delay) / 0.3, 0, 1)
        pitch[inside] = np.where(t > -0.06, curve, pitch[inside] if slurred else curve)
        attack = rng.uniform(0.012, 0.08) if voice else rng.uniform(0.008, 0.06)
        gain = (e.velocity / 127) ** 1.3
        body = np.clip((t + attack * (0.85 if voice else 0.4)) / attack, 0, 1) * np.clip(
            (end - e.onset - t) / rng.uniform(0.02, 0.09) + 1, 0, 1
        )
        body *= gain * (1 + rng.uniform(-0.3, 0.3) * np.sin(np.pi * np.clip(t / max(end - e.onset, 0.1), 0, 1)))
        repeated = slurred and e.pitch == events[k - 1].pitch  # nothing but an articulation tells it from a held note
        if slurred and (repeated or rng.random() < articulation):
            dip = 1 - rng.uniform(0.8 if repeated else 0.3, 0.97) * np.exp(
                -(((t + 0.03) / rng.uniform(0.015, 0.035)) ** 2)
            )
            loud[inside] = np.minimum(loud[inside], np.maximum(dip, 0) * max(loud[inside].max(), 1e-3))
            body *= np.where(t < 0.1, np.maximum(dip, 0), 1)
            if voice:
                noise[inside] += rng.uniform(0, 0.25) * np.exp(-(((t + 0.05) / 0.03) ** 2))
        elif voice and rng.random() < 0.5:
            noise[inside] += rng.uniform(0, 0.25) * np.exp(-(((t + 0.05) / 0.03) ** 2))
        if voice and not slurred and rng.random() < 0.4:  # a voiced consonant, before the vowel that is the onset
            body = np.maximum(body, gain * rng.uniform(0.05, 0.35) * ((t > -rng.uniform(0.02, 0.06)) & (t <= 0)))
        loud[inside] = np.maximum(loud[inside] * (t < 0.02), body) if slurred else np.maximum(loud[inside], body)
        formants[inside] = VOWELS[rng.integers(len(VOWELS))] * spread * (1 + rng.normal(0, 0.05, 4))
        marks.append((e.onset, end, e.pitch))
        previous_end, previous_pitch = end, target
    pitch = np.where(pitch == 0, np.median(pitch[pitch > 0]), pitch)
    pitch = pitch + lfilter([0.02], [1, -0.98], rng.normal(0, 1, len(control))) * rng.uniform(0, 0.3)
    for column in range(4):  # vowels move smoothly
        f = formants[:, column]
        f[f == 0] = VOWELS[:, column].mean()
        formants[:, column] = lfilter([0.25], [1, -0.75], f - f[0]) + f[0]

    frequency = 440 * 2 ** ((pitch - 69) / 12)
    samples = np.arange(n) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(np.interp(samples, control, frequency)) / SAMPLE_RATE
    z = np.exp(1j * (phase % (2 * np.pi))).astype(np.complex64)
    harmonics = int(np.clip(10000 / np.median(frequency), 3, 45))
    tilt = rng.uniform(0.5, 1.4) if voice else rng.uniform(0.3, 1.3)
    body_resonance = rng.normal(0, 4 if voice else 7, 60)  # dB, fixed in frequency: an instrument's body
    odd = 1.0 if kind != "reed" or rng.random() < 0.6 else rng.uniform(0.1, 0.6)  # weak even harmonics
    out = np.zeros(n, np.float32)
    turn = np.ones(n, np.complex64)
    grid = np.linspace(np.log2(50), np.log2(11025), 60)
    for h in range(1, harmonics + 1):
        turn *= z
        f = frequency * h
        a = 10 ** (np.interp(np.log2(f), grid, body_resonance) / 20) / h**tilt
        if voice:
            bands = np.exp(-0.5 * ((f[:, None] - formants) / (70 + 0.06 * formants)) ** 2) @ np.array(
                [1, 0.7, 0.4, 0.3]
            )
            a = a * (bands + 0.04)
        if h % 2 == 0:
            a = a * odd
        a = np.where(f < 10500, a, 0) * loud
        out += np.interp(samples, control, a).astype(np.float32) * turn.imag
    breath = rng.normal(0, 1, n).astype(np.float32)
    breath = lfilter([1, -0.7], [1], breath).astype(np.float32)
    scale = float(np.sqrt(np.mean(out**2)) + 1e-6) / max(float(loud.mean()), 1e-3)
    out += breath * np.interp(samples, control, noise * (loud + 0.15 * (noise > 0.05))).astype(np.float32) * scale
    out *= 0.3 / (np.abs(out).max() + 1e-9)
    played = []
    for begin, stop, nominal in marks:
        onset, end = begin + SETTLED * voice, stop + SETTLED * voice
        i, j = int(onset / FRAME), int(np.ceil(end / FRAME)) + 2
        bend = pitch[i:j] - nominal
        if len(bend) < 3 or end - onset < 0.04:
            continue
        sound = out[int(onset * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
        played.append(settle(onset, end, nominal, level_of(sound), bend))
    return out, played


def scaled(sound: np.ndarray, played: list[Played]) -> tuple[np.ndarray, list[Played]]:
    """A part as loud as those of the other players, its levels with it."""
    scale = 0.3 / (np.abs(sound).max() + 1e-9)
    return sound * np.float32(scale), [replace(p, level=p.level + 20 * np.log10(scale)) for p in played]


def reeds(events: list[Event], length: float, rng: np.random.Generator) -> tuple[np.ndarray, list[Played]]:
    """Free reeds in chords: harmonica, accordion, harmonium. Those of a chord share breath, and so swell and bend.

    Each note has one to three reeds a few cents apart; pressure makes it louder, brighter and a little flatter.
    """
    n = int(length * SAMPLE_RATE)
    out = np.zeros(n + SAMPLE_RATE, np.float32)
    control = np.arange(0, n + SAMPLE_RATE, HOP) / SAMPLE_RATE
    count = int(rng.choice([1, 1, 1, 2, 3]))
    spread = rng.uniform(0, 0.15)
    tilt, soft = rng.uniform(0.2, 1.3), rng.uniform(0, 0.6)
    grid = np.linspace(np.log2(80), np.log2(11025), 24)
    body = rng.normal(0, 6, 24)  # dB
    attack, tuning = float(np.exp(rng.uniform(np.log(0.008), np.log(0.08)))), float(rng.normal(0, 0.08))
    tremolo = rng.uniform(0, 0.6) if rng.random() < 0.35 else 0.0
    pressure = 1 + tremolo * np.sin(2 * np.pi * rng.uniform(3, 8) * control + rng.uniform(0, 6.28))
    pressure *= 10 ** (lfilter([0.03], [1, -0.97], rng.normal(0, 1, len(control))) * rng.uniform(0, 0.8))
    scoops, breath = rng.uniform(0, 0.4), float(10 ** (rng.uniform(-50, -18) / 20))
    own = rng.normal(0, 0.04, 128)
    played, began, scoop = [], -1.0, 0.0
    for e in events:
        if e.onset - began > 0.03:  # a new breath or hole: all its reeds scoop alike
            began, scoop = e.onset, -float(rng.uniform(0.2, 1.2)) if rng.random() < scoops else 0.0
        duration = min(e.offset, length + 0.4) - e.onset
        frames = int(np.ceil((duration + 0.12) / FRAME)) + 2
        first = int(e.onset / FRAME)
        t = np.arange(frames) * FRAME
        breathing = np.resize(pressure[first : first + frames], frames)
        bend = tuning + own[e.pitch] + scoop * np.exp(-t / 0.05) - soft * 0.1 * (breathing - 1)
        rise = min(attack * float(rng.uniform(0.7, 1.4)), duration / 2)
        loud = (e.velocity / 127) ** 1.5 * breathing
        loud = loud * np.clip(t / rise, 0, 1) * np.clip((duration - t) / rng.uniform(0.015, 0.05) + 1, 0, 1)
        size = int((duration + 0.1) * SAMPLE_RATE)
        samples = np.arange(size) / SAMPLE_RATE
        sound = np.zeros(size)
        for reed in range(count):
            frequency = 440 * 2 ** ((e.pitch + bend + spread * (reed - (count - 1) / 2) - 69) / 12)
            phase = 2 * np.pi * np.cumsum(np.interp(samples, t, frequency)) / SAMPLE_RATE + rng.uniform(0, 6.28)
            z = np.exp(1j * (phase % (2 * np.pi))).astype(np.complex64)
            turn = np.ones(size, np.complex64)
            for h in range(1, int(min(30, 10000 / frequency.max())) + 1):
                turn *= z
                gain = 10 ** (np.interp(np.log2(h * frequency[0]), grid, body) / 20) / h**tilt
                swell = loud * np.maximum(loud, 0.05) ** (soft * min(h - 1, 4) / 4)
                sound += gain * np.interp(samples, t, swell) * turn.imag
        sound += breath * np.interp(samples, t, loud) * rng.normal(0, 1, size) * (np.abs(sound).max() + 1e-9)
        start = int(e.onset * SAMPLE_RATE)
        stop = min(start + size, len(out))
        out[start:stop] += sound[: stop - start].astype(np.float32)
        late = min(0.15 * rise, duration / 2) + HEARD["freereed"]
        skip = max(0, round(late / FRAME))
        note = settle(max(0.0, e.onset + late), e.onset + duration + 0.015, e.pitch, level_of(sound), bend[skip:])
        played.append(replace(note, velocity=e.velocity))
    return scaled(out[:n], played)


# Modes of vibration over the note's own: a tine is a bar clamped at one end, a bar is free at both; bars of marimbas,
# vibraphones and xylophones are cut so that the second mode is two octaves or a twelfth above (Fletcher and Rossing,
# "The Physics of Musical Instruments", 1998, chapters 2, 19 and 21).
MODES = {
    "tine": (1, 6.27, 17.55),
    "bar": (1, 2.756, 5.404, 8.933),
    "fourth": (1, 4, 9.2),
    "third": (1, 3, 6.2),
    "bell": (1, 0.5, 1.2, 1.5, 2, 2.5, 2.66, 3, 4),
}


def struck(events: list[Event], length: float, rng: np.random.Generator, kind: str) -> tuple[np.ndarray, list[Played]]:
    """Tines, bars or bells: decaying modes, the knock of the strike, and neighbours that ring along.

    Neighbours are those of a kalimba, a third away. They sound without having been played, and are no notes.
    """
    n = int(length * SAMPLE_RATE)
    out = np.zeros(n + 3 * SAMPLE_RATE, np.float32)
    ratios = np.array(MODES[kind]) * np.exp(rng.normal(0, 0.05, len(MODES[kind])) * (np.arange(len(MODES[kind])) > 0))
    loudness = np.concatenate([[0.0], rng.uniform(-32, 2 if kind != "bell" else 6, len(ratios) - 1)])  # dB
    decay = float(np.exp(rng.uniform(np.log(0.15), np.log(2.0))))  # s for 8.7 dB, at middle C
    slope = float(rng.uniform(0.2, 0.9))  # octave by octave above
    faster = np.concatenate([[1.0], np.exp(rng.uniform(np.log(1.2), np.log(25), len(ratios) - 1))])
    attack = float(rng.uniform(0.0005, 0.004))
    dynamics = float(rng.uniform(1.0, 2.0))
    knock = float(10 ** (rng.uniform(-40, 0) / 20)) if rng.random() < 0.8 else 0.0
    colour = np.exp(-np.arange(1, 1 + int(0.06 * SAMPLE_RATE)) / (rng.uniform(0.001, 0.015) * SAMPLE_RATE))
    softness = float(rng.uniform(0, 0.97))
    coupling = float(10 ** (rng.uniform(-30, -5) / 20)) if rng.random() < (0.75 if kind == "tine" else 0.2) else 0.0
    tuning = float(rng.normal(0, 0.1))
    own = {p: (float(rng.normal(0, 0.05)), np.exp(rng.normal(0, 0.02, len(ratios)))) for p in range(128)}
    thirds = rng.choice([-4, -3, 3, 4], (128, 2), p=[0.35, 0.35, 0.15, 0.15])
    damped = rng.random() < 0.25

    def tau(pitch: int) -> float:
        return decay * 2 ** (slope * (60 - pitch) / 12)

    def ring(pitch: int, amplitude: float, seconds: float, modes: int) -> np.ndarray:
        detune, spread = own[pitch]
        frequency = 440 * 2 ** ((pitch + tuning + detune - 69) / 12)
        t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        y = np.zeros(len(t))
        for r, db, quick in zip((ratios * spread / spread[0])[:modes], loudness, faster, strict=False):
            if frequency * r < 0.45 * SAMPLE_RATE:
                y += (
                    10 ** (db / 20)
                    * np.exp(-t / (tau(pitch) / quick))
                    * np.sin(2 * np.pi * frequency * r * t + rng.uniform(0, 6.28))
                )
        return y * np.minimum(t / attack, 1) * amplitude

    played = []
    for e, restrike in zip(events, struck_again(events), strict=True):
        amplitude = (e.velocity / 127) ** dynamics * float(rng.uniform(0.8, 1.25))
        until = e.offset if damped else restrike
        sound = ring(
            e.pitch, amplitude, min(6 * tau(e.pitch), until - e.onset + 0.2, length + 2.9 - e.onset), len(ratios)
        )
        if len(sound) < 200:
            continue
        fall = np.arange(len(sound)) / SAMPLE_RATE - (until - e.onset)  # something stops it before it is struck again
        sound = sound * np.exp(-np.maximum(fall, 0) / 0.02)
        start = int(e.onset * SAMPLE_RATE)
        out[start : start + len(sound)] += sound.astype(np.float32)
        if coupling:
            for third in thirds[e.pitch, : int(rng.integers(1, 3))]:
                beside = ring(e.pitch + int(third), amplitude * coupling * float(rng.uniform(0.2, 1)), 1.0, 1)
                stop = min(len(out), start + len(beside))
                out[start:stop] += beside[: stop - start].astype(np.float32)
        if knock:
            noise = lfilter([1 - softness], [1, -softness], rng.normal(0, 1, len(colour))) * colour
            stop = min(len(out), start + len(noise))
            noise *= amplitude * knock / (np.abs(noise).max() + 1e-9)
            out[start:stop] += noise[: stop - start].astype(np.float32)
        end = min(until, e.onset + audible_length(sound), length)
        bend = np.full(int((end - e.onset) / FRAME) + 3, tuning + own[e.pitch][0])
        note = settle(e.onset, max(end, e.onset + 0.05), e.pitch, level_of(sound), bend)
        played.append(replace(note, velocity=e.velocity))
    return scaled(out[:n], played)
