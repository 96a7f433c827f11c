"""From the contour posterior to the pitch a note really has, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .types import BEND_UNIT, Float32, Note, PitchBend, Posteriors

REACH = 8  # bins on either side of the note's own that its pitch may move to
HOME = 2  # bins on either side of the note's own where its pitch must be at its clearest
STEP = 2  # bins from one frame to the next: vibrato and slides stay below it, a hop to another note does not
FLOOR = 1e-3  # added to the posterior before its logarithm is taken
MIDDLE = 1  # bins on either side of the note's own in which most notes stay
MIN_PEAK = 0.08  # posterior below which a peak says nothing
SMOOTHING = 5  # frames: the median of five


def window(contour: Float32, centre: int) -> Float32:
    """The part of the contour posterior that a note may move in.

    Parameters
    ----------
    contour : ndarray, shape (frames, bins)
        Contour posterior.
    centre : int
        Bin of the note's nominal pitch.

    Returns
    -------
    ndarray of float32, shape (frames, 2 * REACH + 1)
        Zero beyond the posterior's edges; the nominal pitch is in the middle. A copy: it keeps no block alive.
    """
    low, high = centre - REACH, centre + REACH + 1
    first, last = max(0, low), min(high, contour.shape[1])
    out = np.zeros((len(contour), high - low), np.float32)
    out[:, first - low : last - low] = contour[:, first:last]
    return out


def curves(windows: Sequence[Float32], bins_per_semitone: int) -> list[Float32 | None]:
    """The bends of several notes in semitones, one value a frame: peak followed, gaps filled, median-smoothed.

    The pitch is followed in both directions from where it is clearest near the nominal one, so that a slide is kept and
    another note, sounding beside it or after it, is not mistaken for one. Each note's bend is as if it were alone.

    Parameters
    ----------
    windows : sequence of ndarray of float32, shape (frames, 2 * REACH + 1)
        From :func:`window`, one for each note, none of them empty.

    Returns
    -------
    list of ndarray of float32, shape (frames,), or None
        Multiples of BEND_UNIT; None where the contour posterior never says anything.
    """
    if not windows:
        return []
    near = np.ascontiguousarray(np.concatenate(windows).T)  # a bin in all frames, then the next
    ends = np.cumsum([len(w) for w in windows])
    starts = np.concatenate([[0], ends[:-1]])
    peaks = np.array(_follow(near, starts, ends))
    known = np.flatnonzero(peaks >= 0)
    counts = np.diff(np.searchsorted(known, [0, *ends]))
    said = counts > 0
    if not said.any():
        return [None] * len(windows)
    # The contour is taught as a Gaussian: the logarithm of three values around its peak is a parabola.
    left, top, right = np.log(near[peaks[known] + np.array([[-1], [0], [1]]), known] + FLOOR)
    offset = 0.5 * (left - right) / np.minimum(left - 2 * top + right, -1e-6)
    refined = peaks[known] - REACH + np.clip(offset, -0.5, 0.5)
    # Notes lie end to end, so each gets its first and last known value at its edges before gaps are filled.
    after = np.cumsum(counts)[said]
    edges = np.concatenate([starts[said], ends[said] - 1])
    at = np.concatenate([known, edges])
    values = np.concatenate([refined, refined[after - counts[said]], refined[after - 1]])
    order = np.argsort(at, kind="stable")
    frames = np.arange(near.shape[1])
    filled = np.interp(frames, at[order], values[order]) / bins_per_semitone
    lengths = ends - starts
    first, last = np.repeat(starts, lengths), np.repeat(ends - 1, lengths)
    around = [filled[np.minimum(np.maximum(frames + shift, first), last)] for shift in (-2, -1, 0, 1, 2)]
    smooth = np.where(np.repeat(lengths >= SMOOTHING, lengths), _median_of_five(around), filled)
    bends = np.split((np.rint(smooth / BEND_UNIT) * BEND_UNIT).astype(np.float32), ends[:-1])
    return [bend if any_known else None for bend, any_known in zip(bends, said.tolist(), strict=True)]


def _median_of_five(rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Medians of what stands in the same place of five arrays, in a tenth of the time that sorting takes."""
    a, b, c, d, e = rows
    low = np.maximum(np.minimum(a, b), np.minimum(c, d))
    high = np.minimum(np.maximum(a, b), np.maximum(c, d))
    return np.maximum(np.minimum(low, high), np.minimum(np.maximum(low, high), e))


def _follow(near: Float32, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> list[int]:
    """Column of its note's peak in each frame, -1 where there is none within STEP of the last.

    Most notes stay near their nominal pitch. Where the highest peak that any column of the middle can reach is in the
    middle too, it is the next one wherever in the middle the last one was. From the first frame of which this is not
    true, on either side of the clearest, the path is found step by step.
    """
    home = near[REACH - HOME : REACH + HOME + 1]
    clearest = home.max(axis=0)
    candidates = np.flatnonzero(clearest == np.repeat(np.maximum.reduceat(clearest, starts), ends - starts))
    anchors = candidates[np.searchsorted(candidates, starts)]
    columns = home[:, anchors].argmax(axis=0) + REACH - HOME
    inner = near[1:-1]
    peaks = (inner > MIN_PEAK) & (inner >= near[:-2]) & (inner >= near[2:])
    first, last = REACH - MIDDLE - STEP, REACH + MIDDLE + STEP
    highest = (near[first : last + 1] * peaks[first - 1 : last]).argmax(axis=0) + first
    any_there = peaks[highest - 1, np.arange(near.shape[1])]
    path: list[int] = np.where(any_there, highest, -1).tolist()
    astray = np.abs(columns - REACH) > MIDDLE
    unsure = any_there & (np.abs(highest - REACH) > MIDDLE)
    unsure[anchors] |= astray
    places = np.flatnonzero(unsure)
    index = np.searchsorted(places, anchors)
    after = np.minimum(np.append(places, near.shape[1])[index], ends)
    before = np.where(astray, anchors - 1, np.maximum(np.append(places, -1)[index - 1], starts - 1))
    left = np.flatnonzero((after < ends) | (before >= starts))
    if len(left):
        notes = np.stack([starts, before, anchors, columns, after, ends])[:, left].T.tolist()
        _step_by_step(path, inner, peaks, notes)
    return path


def _step_by_step(path: list[int], inner: Float32, peaks: NDArray[np.bool_], notes: list[list[int]]) -> None:
    """Find the rest of these notes' paths: each goes on to the highest of the peaks within STEP.

    ``notes`` are the start, the last frame to find before the anchor, the anchor and its column, the first frame to
    find from there on, and the end.
    """
    wanted = np.zeros(inner.shape[1], bool)
    for start, before, _, _, after, end in notes:
        wanted[start : before + 1] = wanted[after:end] = True
    rows, found = np.nonzero((peaks & wanted).T)
    values = inner[found, rows].tolist()
    at = (found + 1).tolist()
    of_row = np.searchsorted(rows, np.arange(len(wanted) + 1)).tolist()
    for start, before, anchor, column, after, end in notes:
        for frames, known in (
            (range(after, end), range(after - 1, anchor - 1, -1)),
            (range(before, start - 1, -1), range(before + 1, anchor)),
        ):
            last = next((path[i] for i in known if path[i] >= 0), column)
            for i in frames:
                top, path[i] = 0.0, -1
                for k in range(of_row[i], of_row[i + 1]):
                    if values[k] > top and -STEP <= at[k] - last <= STEP:
                        top, path[i] = values[k], at[k]
                if top:
                    last = path[i]


@dataclass(slots=True)
class Begun:
    """A note that has begun: its column, its first frame, what is known of it, and its contour so far.

    The contour is in successive parts from :func:`window`; there are none if the bend is not wanted.
    """

    pitch: int
    frame: int
    onset: float
    velocity: int
    confidence: float
    contour: list[Float32] = field(default_factory=list)


class Ended(NamedTuple):
    """A note that is over, but for its bend: the absolute frame, or fraction of one, and the time that it ends at."""

    note: Begun
    end: float
    offset: float


def finished(ended: Sequence[Ended], p: Posteriors, shortest: float) -> list[Note]:
    """The notes of so many seconds or more, each with its bend from A = 440 Hz; none if its contour says nothing."""
    kept = [e for e in ended if e.offset - e.note.onset >= shortest]
    lengths = [max(1, math.ceil(end) - note.frame) for note, end, _ in kept]
    contours = [np.concatenate(e.note.contour)[:n] for e, n in zip(kept, lengths, strict=True) if e.note.contour]
    found = iter(curves(contours, p.bins_per_semitone))
    tuning = np.float32(round(p.tuning / 100 / BEND_UNIT) * BEND_UNIT)
    notes = []
    for note, _, offset in kept:
        semitones = next(found) if note.contour else None
        if tuning and note.contour:
            semitones = np.full(1, tuning) if semitones is None else semitones + tuning
        bend = None if semitones is None else PitchBend(note.frame / p.frame_rate, 1 / p.frame_rate, semitones)
        notes.append(Note(note.onset, offset, p.lowest_pitch + note.pitch, note.velocity, note.confidence, bend))
    return notes
