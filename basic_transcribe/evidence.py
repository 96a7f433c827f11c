"""What both trackers read from the posteriors and from the settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError
from .types import Float32, Note, Posteriors, TrackerSettings

BACK = 2  # frames before a frame that decide whether it is a peak
# Onset posteriors are taught as triangles of this mass, CENTRE frames to either side. Where the moment is uncertain
# they are low and wide; what stays the same is the mass, so that is what is summed, SPREAD frames each way.
TRIANGLE_MASS = 2.0
CENTRE, SPREAD = 2, 3
TIE = 1e-3  # weight of the posterior itself, which decides where the mass is level
LEAST_ONSET = 0.3  # mass of an onset that is considered at all, however strong the note
# What an onset one or two octaves below takes from the evidence for a note: much of what begins there is its partial.
OCTAVE = 0.15
SHORTEST = 5  # frames from an onset to the next
SUPPORT = 9  # frames from an onset over which note and contour posteriors support it
# Velocity: 127 at this level (dB relative to full scale, 25 ms RMS of the note), and so many steps a dB below it.
LOUDEST, STEPS_PER_DB = -10.0, 2.0
# Struck or blown equally hard, high notes carry less power, and the ear forgives it: dB per semitone above middle C.
TILT = 0.2


def mass(posterior: Float32) -> Float32:
    """Mass of an onset posterior around each frame, in events; a little of the posterior itself."""
    mass = _sum_of_rows(posterior, SPREAD, SPREAD)
    mass /= np.float32(TRIANGLE_MASS)
    np.minimum(mass, np.float32(1), out=mass)
    mass += np.float32(TIE) * posterior
    mass /= np.float32(1 + TIE)
    return mass


def support(note: Float32) -> Float32:
    """Mean of the note posterior over this frame and the next ones, SUPPORT in all."""
    support: Float32 = _sum_of_rows(note, 0, SUPPORT - 1) / np.float32(SUPPORT)
    return support


def support_at(note: Float32, rows: NDArray[np.intp], pitches: NDArray[np.intp]) -> Float32:
    """Mean of the note posterior over these rows and the next ones, as many as say most, SHORTEST or SUPPORT.

    There must be SUPPORT - 1 rows after each. A note may be over sooner than after SUPPORT frames.
    """
    return _mean_ahead(rows, lambda at: note[at, pitches])


def clarity_at(p: Posteriors, rows: NDArray[np.intp], pitches: NDArray[np.intp]) -> Float32:
    """Mean of the contour posterior, in the best bin of each pitch, over the rows of :func:`support_at`.

    A fundamental has to lie within the semitone: harmonics and rooms fool the contour less than the note posterior.
    """
    return _mean_ahead(rows, lambda at: best_bin(p, at, pitches))


def best_bin(p: Posteriors, rows: NDArray[np.intp], pitches: NDArray[np.intp]) -> Float32:
    """The contour posterior in these places, in the best bin of each pitch."""
    best: Float32 = p.contour.reshape(len(p), -1, p.bins_per_semitone)[rows, pitches].max(axis=1)
    return best


def _mean_ahead(rows: NDArray[np.intp], values: Callable[[NDArray[np.intp]], Float32]) -> Float32:
    """The greater of the means of the values in these rows and in the next ones, SHORTEST or SUPPORT in all."""
    total = short = values(rows)
    for i in range(1, SUPPORT):
        total = total + values(rows + i)
        if i == SHORTEST - 1:
            short = total / np.float32(SHORTEST)
    best: Float32 = np.maximum(short, total / np.float32(SUPPORT))
    return best


def octaves_below(
    p: Posteriors, masses: Float32, rows: NDArray[np.intp], pitches: NDArray[np.intp], level: NDArray[np.float64]
) -> Float32:
    """The greater mass one and two octaves below each of these places, of notes as loud at least; 0 without one."""
    below: Float32 = np.zeros(len(rows), np.float32)
    for octave in (12, 24):
        lower = np.maximum(pitches - octave, 0)
        partial = (pitches >= octave) & (level_at(p, rows, lower) >= level)
        below = np.maximum(below, np.where(partial, masses[rows, lower], np.float32(0)))
    return below


def peaks(x: Float32) -> NDArray[np.bool_]:
    """Where a column is at its highest within BACK rows; the first of equals."""
    padded = np.pad(x, ((BACK, BACK), (0, 0)))
    peaks = np.ones(x.shape, bool)
    for shift in range(1, BACK + 1):
        peaks &= (x > padded[BACK - shift : len(padded) - BACK - shift]) & (
            x >= padded[BACK + shift : len(padded) - BACK + shift]
        )
    return peaks


def peaks_at(x: Float32, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.bool_]:
    """:func:`peaks` in these places only; there must be BACK rows after each."""
    here = x[rows, columns]
    peaks = np.ones(len(rows), bool)
    for shift in range(1, BACK + 1):
        before = np.where(rows >= shift, x[rows - shift, columns], 0)
        peaks &= (here > before) & (here >= x[rows + shift, columns])
    return peaks


def between_frames(onset: Float32, rows: NDArray[np.intp], pitches: NDArray[np.intp]) -> NDArray[np.float64]:
    """How far the centre of an onset posterior lies after its peak in each of these places, in frames."""
    total, moment = np.zeros(len(rows)), np.zeros(len(rows))
    for i, at, inside in _around(rows):
        value = onset[at, pitches].astype(np.float64) * inside
        total += value
        moment += i * value
    return moment / np.maximum(total, 1e-9)


def level_at(p: Posteriors, rows: NDArray[np.intp], pitches: NDArray[np.intp]) -> NDArray[np.float64]:
    """Levels of notes that begin in these places: means over CENTRE frames either way, weighted by the onset posterior.

    One frame alone says as much about where its two-frame step began.
    """
    total, level = np.zeros(len(rows)), np.zeros(len(rows))
    for _, at, inside in _around(rows):
        weight = (p.onset[at, pitches].astype(np.float64) + 1e-6) * inside
        total += weight
        level += weight * p.level[at, pitches]
    return level / total


def _around(rows: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.bool_]]]:
    """From CENTRE rows before these to CENTRE after them: how far off, which, and whether there are any.

    There must be CENTRE rows after each.
    """
    for i in range(-CENTRE, CENTRE + 1):
        at = np.maximum(rows + i, 0)
        yield i, at, at == rows + i


def _sum_of_rows(x: Float32, before: int, after: int) -> Float32:
    """Sum over each row, so many before it, and so many after it; zeros beyond the ends."""
    # Summed slice by slice, not by cumsum, so that rounding cannot depend on where the buffer begins.
    total = np.zeros_like(x)
    for i in range(-before, after + 1):
        count, at, of = max(0, len(x) - abs(i)), max(0, -i), max(0, i)
        total[at : at + count] += x[of : of + count]
    return total


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers of :class:`~basic_transcribe.types.TrackerSettings`, all of them filled in, times in seconds."""

    onset_threshold: float
    split_threshold: float
    frame_threshold: float
    onset_delay: float
    minimum_length: float

    @classmethod
    def of(cls, settings: TrackerSettings) -> Limits:
        """What settings say.

        Raises
        ------
        UsageError
            If one of them is None.
        """
        return cls(
            given(settings.onset_threshold),
            given(settings.split_threshold),
            given(settings.frame_threshold),
            given(settings.onset_delay) / 1000,
            given(settings.minimum_note_length) / 1000,
        )

    def shortest(self, frame_rate: float) -> float:
        """Length in seconds of the shortest note that is kept: half a frame at least."""
        return max(self.minimum_length, 0.5 / frame_rate)


def given(value: float | None) -> float:
    """A threshold that has been filled in.

    Raises
    ------
    UsageError
        If it is None.
    """
    if value is None:
        raise UsageError("settings have no thresholds: fill them in with TrackerSettings.resolved(defaults)")
    return value


def pitch_range(p: Posteriors, settings: TrackerSettings) -> tuple[int, int]:
    """Columns within the wanted range of frequencies: the first, and the first no more."""
    low, high = 0, p.note.shape[1]
    if settings.minimum_frequency is not None:
        low = max(low, math.ceil(_pitch_of(settings.minimum_frequency) - p.lowest_pitch - 0.5))
    if settings.maximum_frequency is not None:
        high = min(high, math.floor(_pitch_of(settings.maximum_frequency) - p.lowest_pitch + 0.5) + 1)
    return low, max(low, high)


def _pitch_of(frequency: float) -> float:
    """MIDI pitch of a frequency in Hz."""
    return 69 + 12 * math.log2(frequency / 440)


def velocity(level: float, pitch: int) -> int:
    """MIDI velocity of a note's level in dB."""
    return int(min(127, max(1, round(127 + (level + TILT * (pitch - 60) - LOUDEST) * STEPS_PER_DB))))


def silence(p: Posteriors, frames: int) -> Posteriors:
    """So many frames of nothing, to follow ``p``."""
    return p.with_arrays({n: np.zeros((frames, getattr(p, n).shape[1]), np.float32) for n in Posteriors.ARRAYS})


def end_by(notes: list[Note], duration: float | None, shortest: float) -> list[Note]:
    """Notes cut at the end of the recording, those of so many seconds or more."""
    if duration is None:
        return notes
    cut = [replace(n, offset=min(n.offset, duration)) for n in notes if n.onset < duration]
    return [n for n in cut if n.duration >= shortest]
