"""Notes to sound, so that a transcription can be heard, alone or beside its recording."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterable
from io import BytesIO
from os import devnull
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import OutputError, UsageError, temporary_folder
from .evidence import STEPS_PER_DB, TILT
from .tuning import midi_to_hz
from .types import Float32, Note

PEAK = 0.89  # the loudest sample, 1 dB below full scale
LARGEST_WAV = 2**32 - 1  # bytes; its sizes are 32 bits

# The built-in voice: the fundamental has the level l, partial k above it l² k ** -1.5, and l falls from 1 to SUSTAIN.
# So a note begins bright and mellows, like a string, yet is heard to its end, like a wind.
PARTIALS, SLOPE = 12, -1.5
SUSTAIN, DECAY = 0.4, 0.5  # seconds in which the level comes closer to SUSTAIN by a factor e
ATTACK, RELEASE = 0.004, 0.025  # seconds of the ramps at a note's ends, both within the note
TABLE = 1 << 14  # samples of a cycle; reading the nearest one leaves noise at -79 dB
BLOCK = 1 << 15  # samples computed at a time, so that they stay in the cache

GATE = 0.1  # seconds of the blocks over which loudness is measured
QUIET = 1e-7  # power below which a block is silence, -70 dB


def synthesize(notes: Iterable[Note], duration: float, sample_rate: int) -> Float32:
    """Play notes with a plain voice of twelve partials.

    Built for judging a transcription by ear: the pitch follows the bends sample by sample, a velocity 12 steps higher
    is 6 dB louder, and a note sounds from its onset to its offset, no longer. (pretty_midi's own synthesis knows bends
    of at most two semitones, shared by all notes of an instrument.)

    Parameters
    ----------
    notes : iterable of Note
        In any order; what lies outside 0 to ``duration`` is not heard.
    duration : float
        Length of the result in seconds.
    sample_rate : int
        Hz.

    Returns
    -------
    ndarray of float32, shape (samples,)
        The loudest sample is 0.89; zeros if there are no notes.
    """
    out = np.zeros(round(duration * sample_rate), np.float32)
    for note in notes:
        _add_note(out, note, sample_rate)
    return _normalised(out)


def _add_note(out: Float32, note: Note, sample_rate: int) -> None:
    """Add one note to ``out``, a block at a time."""
    start = round(note.onset * sample_rate)
    length = round(note.offset * sample_rate) - start
    if note.bend is None or not len(note.bend.semitones):
        times, semitones = np.zeros(1), np.zeros(1)
    else:
        times, semitones = (note.bend.times * sample_rate) - start, note.bend.semitones.astype(np.float64)
    frequencies = midi_to_hz(note.pitch + semitones) / sample_rate  # cycles per sample
    fundamental, overtones = _cycle(min(PARTIALS, int(0.5 / frequencies.max())))
    amplitude = 10 ** (((note.velocity - 127) / STEPS_PER_DB - TILT * (note.pitch - 60)) / 20)
    attack, release = min(ATTACK * sample_rate, length / 2), min(RELEASE * sample_rate, length / 2)

    cycles = 0.0
    for first in range(max(0, -start), min(length, len(out) - start), BLOCK):
        index = np.arange(first, min(first + BLOCK, length, len(out) - start))
        phase = cycles + np.cumsum(np.interp(index, times, frequencies))
        cycles = phase[-1] % 1
        position = (phase * TABLE).astype(np.int64) & (TABLE - 1)
        level = SUSTAIN + (1 - SUSTAIN) * np.exp((index / (-DECAY * sample_rate)).astype(np.float32))
        sound = level * (fundamental[position] + level * overtones[position])
        ramp = np.clip(np.minimum(index / attack, (length - index) / release), 0, 1)
        out[start + first : start + first + len(index)] += amplitude * ramp * ramp * (3 - 2 * ramp) * sound


@functools.cache
def _cycle(partials: int) -> tuple[Float32, Float32]:
    """One cycle of the fundamental, and of the sum of its overtones: no more than fit below half the sample rate."""
    phase = 2 * np.pi * np.arange(TABLE) / TABLE
    waves = [k**SLOPE * np.sin(k * phase) for k in range(1, partials + 1)] or [np.zeros(TABLE)]
    return waves[0].astype(np.float32), np.sum([np.zeros(TABLE), *waves[1:]], axis=0).astype(np.float32)


def synthesize_soundfont(midi: bytes, soundfont: Path, sample_rate: int) -> Float32:
    """Play a MIDI file with the instruments of a SoundFont, by the program fluidsynth, which must be installed.

    Every channel plays its melodic program, the tenth too, which in General MIDI would be drums: a zone of MPE includes
    it. Reverb and chorus are off, so that the notes are heard plainly.

    Parameters
    ----------
    midi : bytes
        A Standard MIDI File.
    soundfont : Path
        A ``.sf2`` or ``.sf3`` file.
    sample_rate : int
        Hz, 8000 to 96000.

    Returns
    -------
    ndarray of float32, shape (samples, 2)
        The loudest sample is 0.89. It ends when the last note has died away.

    Raises
    ------
    UsageError
        If fluidsynth is not installed, or the file is missing or no SoundFont.
    OutputError
        If fluidsynth fails.
    """
    import mido
    import soundfile

    program = player_of(soundfont)
    file = mido.MidiFile(file=BytesIO(midi))
    file.tracks[0].insert(0, mido.Message("control_change", channel=9, control=0, value=0))  # with XG banks: not drums
    with temporary_folder() as folder:
        source, target = folder / "notes.mid", folder / "notes.wav"
        file.save(source)
        # No file of the user's settings, and no other font in place of one that fails to load.
        options = ["-niq", "-f", devnull, "-o", "synth.default-soundfont=", "-o", "synth.midi-bank-select=xg"]
        options += ["-R", "0", "-C", "0", "-r", str(sample_rate), "-T", "wav", "-O", "float", "-F", str(target)]
        command = [program, *options, str(soundfont.resolve()), str(source)]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if "Failed to load" in result.stdout + result.stderr:
            raise UsageError(f"{soundfont}: fluidsynth cannot read it as a SoundFont; give another .sf2 or .sf3 file")
        if result.returncode or not target.exists():
            reason = " ".join((result.stderr or result.stdout).split())[-300:]
            raise OutputError(
                f"fluidsynth failed with {soundfont}: {reason or 'no reason given'}; try another SoundFont"
            )
        samples, _ = soundfile.read(target, dtype="float32", always_2d=True)
    return _normalised(samples)


def player_of(path: Path) -> str:
    """The program that plays a SoundFont; what it would pass over in silence is refused.

    Raises
    ------
    UsageError
        If there is no fluidsynth, or the file is no SoundFont.
    """
    try:
        with path.open("rb") as file:
            header = file.read(12)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a SoundFont, a .sf2 or .sf3 file") from error
    if header[:4] != b"RIFF" or header[8:] != b"sfbk":
        raise UsageError(f"{path}: not a SoundFont; give a .sf2 or .sf3 file")
    program = shutil.which("fluidsynth")
    if program is None:
        raise UsageError(
            "playing a SoundFont needs the program fluidsynth; install it (Debian and Ubuntu: apt install fluidsynth,"
            " macOS: brew install fluid-synth, Windows: choco install fluidsynth) or leave the SoundFont out"
        )
    return program


def mix(original: Float32, notes: Float32, sample_rate: int) -> Float32:
    """Put a recording on the left and its notes on the right, equally loud.

    Parameters
    ----------
    original : ndarray of float32, shape (samples,)
        The recording.
    notes : ndarray of float32, shape (samples,) or (samples, channels)
        The notes; channels are averaged.
    sample_rate : int
        Of both, and of the result, in Hz.

    Returns
    -------
    ndarray of float32, shape (samples, 2)
        As long as the longer one. The recording keeps its level unless a sample would exceed 0.89: then both are turned
        down alike.

    Notes
    -----
    Loudness is the mean power of blocks of 0.1 s, without those more than 10 dB below the mean, the gate of
    ITU-R BS.1770, so that rests do not count.
    """
    right = notes if notes.ndim == 1 else notes.mean(axis=1)
    out = np.zeros((max(len(original), len(right)), 2), np.float32)
    out[: len(original), 0] = original
    wanted, given = _power(original, sample_rate), _power(right, sample_rate)
    out[: len(right), 1] = right * np.float32(np.sqrt(wanted / given) if wanted and given else 1)
    return out if _peak(out) <= PEAK else _normalised(out)


def _power(samples: Float32, sample_rate: int) -> float:
    """Mean power of the blocks that sound; 0 for silence."""
    size = round(GATE * sample_rate)
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    power: NDArray[np.float64] = np.einsum("ij,ij->i", blocks, blocks).astype(np.float64) / size
    power = power[power > QUIET]
    return float(power[power >= power.mean() / 10].mean()) if len(power) else 0.0


def _peak(samples: Float32) -> float:
    return float(max(samples.max(initial=0), -samples.min(initial=0)))


def _normalised(samples: Float32) -> Float32:
    """The same array, scaled in place so that its peak is PEAK."""
    peak = _peak(samples)
    if peak:
        samples *= np.float32(PEAK / peak)
    return samples


def to_wav(samples: Float32, sample_rate: int) -> bytes:
    """A WAV file of 16 bits.

    Parameters
    ----------
    samples : ndarray of float32, shape (samples,) or (samples, channels)
        Full scale 1.0; what exceeds it is clipped.
    sample_rate : int
        Hz.

    Returns
    -------
    bytes
        The same for the same samples.

    Raises
    ------
    OutputError
        If it would be larger than the 4 GiB a WAV file can hold.
    """
    import soundfile

    if samples.size * 2 + 44 > LARGEST_WAV:
        hours = len(samples) / sample_rate / 3600
        raise OutputError(f"a WAV file cannot hold {hours:.1f} hours (4 GiB at most); take a part of the recording")
    file = BytesIO()
    soundfile.write(file, samples, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
