"""From the contour posterior to the pitch a note really has, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .types import BEND_UNIT, Float32, Note, PitchBend

REACH = 8  # bins on either side of the note's own that its pitch may move to
HOME = 2  # bins on either side of the note's own where its pitch must be at its clearest
STEP = 2  # bins from one frame to the next: vibrato and slides stay below it, a hop to another note does not
FLOOR = 1e-3  # added to the posterior before its logarithm is taken
MIN_PEAK = 0.08  # posterior below which a peak says nothing
SMOOTHING = 5  # frames, odd


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
    near = np.concatenate(windows)
    ends = np.cumsum([len(w) for w in windows])
    starts = np.concatenate([[0], ends[:-1]])
    peaks = np.array(_follow(near, starts, ends))
    known = np.flatnonzero(peaks >= 0)
    counts = np.diff(np.searchsorted(known, [0, *ends]))
    said = counts > 0
    if not said.any():
        return [None] * len(windows)
    # The contour is taught as a Gaussian: the logarithm of three values around its peak is a parabola.
    left, top, right = np.log(near[known, peaks[known] + np.array([[-1], [0], [1]])] + FLOOR)
    offset = 0.5 * (left - right) / np.minimum(left - 2 * top + right, -1e-6)
    refined = peaks[known] - REACH + np.clip(offset, -0.5, 0.5)
    # Notes lie end to end, so each gets its first and last known value at its edges before gaps are filled.
    after = np.cumsum(counts)[said]
    edges = np.concatenate([starts[said], ends[said] - 1])
    at = np.concatenate([known, edges])
    values = np.concatenate([refined, refined[after - counts[said]], refined[after - 1]])
    order = np.argsort(at, kind="stable")
    frames = np.arange(len(near))
    filled = np.interp(frames, at[order], values[order]) / bins_per_semitone
    lengths = ends - starts
    first, last = np.repeat(starts, lengths), np.repeat(ends - 1, lengths)
    half = SMOOTHING // 2
    around = np.stack([filled[np.clip(frames + shift, first, last)] for shift in range(-half, half + 1)])
    smooth = np.where(np.repeat(lengths >= SMOOTHING, lengths), np.sort(around, axis=0)[half], filled)
    bends = np.split((np.rint(smooth / BEND_UNIT) * BEND_UNIT).astype(np.float32), ends[:-1])
    return [bend if any_known else None for bend, any_known in zip(bends, said.tolist(), strict=True)]


def _follow(near: Float32, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> list[int]:
    """Column of its note's peak in each frame, -1 where there is none within STEP of the last."""
    home = near[:, REACH - HOME : REACH + HOME + 1]
    clearest = home.max(axis=1)
    lengths = ends - starts
    candidates = np.flatnonzero(clearest == np.repeat(np.maximum.reduceat(clearest, starts), lengths))
    anchors = candidates[np.searchsorted(candidates, starts)]
    columns = home[anchors].argmax(axis=1) + REACH - HOME
    inner = near[:, 1:-1]
    peaks = (inner > MIN_PEAK) & (inner >= near[:, :-2]) & (inner >= near[:, 2:])
    rows, found = np.nonzero(peaks)
    values = inner[rows, found].tolist()
    at = (found + 1).tolist()
    of_row = np.searchsorted(rows, np.arange(len(near) + 1)).tolist()
    path = [-1] * len(near)
    for start, anchor, column, end in zip(
        starts.tolist(), anchors.tolist(), columns.tolist(), ends.tolist(), strict=True
    ):
        for frames in (range(anchor, end), range(anchor - 1, start - 1, -1)):
            last = column
            for i in frames:
                top = 0.0
                for k in range(of_row[i], of_row[i + 1]):
                    if values[k] > top and -STEP <= at[k] - last <= STEP:
                        top, path[i] = values[k], at[k]
                if top:
                    last = path[i]
    return path


@dataclass(frozen=True, slots=True)
class Ended:
    """A note that is over, but for its bend.

    Attributes
    ----------
    note : Note
    frame : int
        First frame of its contour.
    contour : list of ndarray of float32, shape (frames, 2 * REACH + 1)
        Successive parts, from :func:`window`; none if its bend is not wanted.
    """

    note: Note
    frame: int
    contour: list[Float32]


def with_bends(ended: Sequence[Ended], frame_rate: float, bins_per_semitone: int) -> list[Note]:
    """The notes, each with its bend, or with none if its contour says nothing."""
    found = iter(curves([np.concatenate(e.contour) for e in ended if e.contour], bins_per_semitone))
    notes = []
    for e in ended:
        semitones = next(found) if e.contour else None
        bend = None if semitones is None else PitchBend(e.frame / frame_rate, 1 / frame_rate, semitones)
        n = e.note
        notes.append(Note(n.onset, n.offset, n.pitch, n.velocity, n.confidence, bend))
    return notes
