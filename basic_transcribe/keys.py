"""The key that notes are in, and scales by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError
from .types import Key, Note

# How often each degree, in semitones above the tonic, is heard in music of a key: J. Albrecht and D. Shanahan, "The use
# of large corpora to train a new type of key-finding algorithm", Music Perception 31(1), 2013.
MAJOR = (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081)
MINOR = (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052)
# Chosen so that the confidence is about how often the key is right, on whole pieces and on excerpts of a few notes:
# the difference of correlations that makes a key e times as likely, and the notes after which half of it is believed.
DECISIVE, HALF_BELIEVED = 0.1, 8

LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ACCIDENTALS = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}
SHARP_NAMES = "C C# D D# E F F# G G# A A# B".split()

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
    "chromatic": tuple(range(12)),
}
"""Semitones above the tonic, by name. The melodic minor is the ascending one."""

SYNONYMS = {
    "": "major",
    "maj": "major",
    "ionian": "major",
    "m": "minor",
    "min": "minor",
    "aeolian": "minor",
    "natural minor": "minor",
    "pentatonic": "major pentatonic",
}


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale on a tonic.

    Attributes
    ----------
    name : str
        Such as ``D dorian``.
    tonic : int
        Pitch class, 0 (C) to 11 (B).
    pitch_classes : tuple of int
        Those of the scale, 0 to 11, increasing.
    """

    name: str
    tonic: int
    pitch_classes: tuple[int, ...]

    def __contains__(self, pitch: int) -> bool:
        """Whether a MIDI pitch belongs to the scale, in any octave."""
        return pitch % 12 in self.pitch_classes


def estimate_key(notes: Iterable[Note]) -> Key | None:
    """The major or minor key that notes are most likely in.

    The pitch classes of the notes, each weighted by duration, velocity and confidence, are correlated with how often
    music of each of the 24 keys uses them (Krumhansl & Schmuckler's method; profiles of Albrecht & Shanahan, 2013). Of
    keys that do equally well the first of C major to B major, C minor to B minor is returned, with little confidence.

    Parameters
    ----------
    notes : iterable of Note
        In any order.

    Returns
    -------
    Key or None
        With ``confidence``, the probability of the key among the 24, rescaled so that 0 is a guess: a softmax of the
        correlations, which count the less the fewer the notes. None if there are no notes.
    """
    notes = list(notes)
    if not notes:
        return None
    weights = np.zeros(12)
    for note in notes:
        weights[round(note.pitch) % 12] += note.duration * note.velocity * note.confidence
    # Rounded, so that keys that do equally well are not told apart by rounding errors.
    correlations = np.round(_correlations(weights), 9)
    best = int(np.argmax(correlations))
    evidence = correlations * len(notes) / (len(notes) + HALF_BELIEVED) / DECISIVE
    probability = 1 / float(np.exp(evidence - evidence[best]).sum())
    return Key(best % 12, "major" if best < 12 else "minor", max(0.0, (24 * probability - 1) / 23))


def _correlations(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the weights of the pitch classes with the profile of each key, shape (24,); zeros if all are alike."""
    profiles = np.array([np.roll(profile, tonic) for profile in (MAJOR, MINOR) for tonic in range(12)])
    profiles -= profiles.mean(axis=1, keepdims=True)
    centred = weights - weights.mean()
    length = float(np.linalg.norm(centred))
    if length <= 1e-9 * float(weights.sum()):
        return np.zeros(24)
    correlations: NDArray[np.float64] = profiles @ centred / (np.linalg.norm(profiles, axis=1) * length)
    return correlations


def parse_key(text: str) -> Key:
    """A key by name, such as ``C minor``, ``Cm``, ``Eb major``, ``F♯``.

    It is spelled as it is given, unless that takes more than seven sharps or flats.

    Raises
    ------
    UsageError
        If it is not the name of a major or minor key.
    """
    parsed = _parse(text)
    if parsed is None or parsed[2] not in ("major", "minor"):
        raise UsageError(f"{text!r} is no key; give one such as C major, F# minor, Bbm")
    return Key(parsed[1], parsed[2], flats={"#": False, "b": True}.get(parsed[0][1:]))


def parse_scale(text: str) -> Scale:
    """A scale by name: a tonic, then one of :data:`SCALES`; ``C`` alone is major, ``Cm`` minor.

    Raises
    ------
    UsageError
        If it is not the name of a scale.
    """
    parsed = _parse(text)
    if parsed is None:
        raise UsageError(f"{text!r} is no scale; give a tonic such as C, F# or Bb, and one of {', '.join(SCALES)}")
    letter, tonic, kind = parsed
    return Scale(f"{letter} {kind}", tonic, tuple(sorted((tonic + step) % 12 for step in SCALES[kind])))


def pitch_name(pitch: int) -> str:
    """Name of a MIDI pitch, such as ``F#4``; 60 is ``C4``."""
    return f"{SHARP_NAMES[pitch % 12]}{pitch // 12 - 1}"


def parse_pitch(name: str) -> int | None:
    """MIDI pitch of a name such as ``F#4`` or ``Bb-1``; None if it is no name."""
    found = re.fullmatch(r"([A-Ga-g])([#♯b♭]?)(-?[0-9])", name)
    return 12 * (int(found[3]) + 1) + LETTERS[found[1].upper()] + ACCIDENTALS[found[2]] if found else None


def _parse(text: str) -> tuple[str, int, str] | None:
    """Name and pitch class of the tonic, and one of the names in SCALES; None if it cannot be understood."""
    found = re.fullmatch(r"([A-Ga-g])([#♯b♭]?)(.*)", text.strip())
    if not found:
        return None
    letter, accidental, kind = found[1].upper(), found[2], " ".join(found[3].replace("-", " ").split())
    kind = "major" if kind == "M" else kind.lower()
    kind = SYNONYMS.get(kind, kind)
    if kind not in SCALES:
        return None
    alteration = ACCIDENTALS[accidental]
    return letter + ("", "#", "b")[alteration], (LETTERS[letter] + alteration) % 12, kind
