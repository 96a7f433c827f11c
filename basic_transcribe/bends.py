"""From the contour posterior to the pitch a note really has, frame by frame."""

from __future__ import annotations

import numpy as np

from .types import Float32

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


def curve(near: Float32, bins_per_semitone: int) -> Float32 | None:
    """A note's bend in semitones, one value a frame: peak followed, gaps filled, median-smoothed.

    The pitch is followed in both directions from where it is clearest near the nominal one, so that a slide is kept and
    another note, sounding beside it or after it, is not mistaken for one.

    Parameters
    ----------
    near : ndarray of float32, shape (frames, 2 * REACH + 1)
        From :func:`window`.

    Returns
    -------
    ndarray of float32, shape (frames,), or None
        None where the contour posterior never says anything.
    """
    peaks = np.array(_follow(near))
    known = np.flatnonzero(peaks >= 0)
    if not len(known):
        return None
    # The contour is taught as a Gaussian: the logarithm of three values around its peak is a parabola.
    left, top, right = (np.log(near[known, peaks[known] + i] + FLOOR) for i in (-1, 0, 1))
    offset = 0.5 * (left - right) / np.minimum(left - 2 * top + right, -1e-6)
    refined = peaks[known] - REACH + np.clip(offset, -0.5, 0.5)
    filled = np.interp(np.arange(len(near)), known, refined) / bins_per_semitone
    if len(filled) >= SMOOTHING:
        half = SMOOTHING // 2
        padded = np.concatenate([np.repeat(filled[0], half), filled, np.repeat(filled[-1], half)])
        windows = np.stack([padded[i : i + len(filled)] for i in range(SMOOTHING)])
        filled = np.sort(windows, axis=0)[half]
    bend: Float32 = filled.astype(np.float32)
    return bend


def _follow(near: Float32) -> list[int]:
    """Column of the note's peak in each frame, -1 where there is none within STEP of the last."""
    home = near[:, REACH - HOME : REACH + HOME + 1]
    anchor, column = divmod(int(np.argmax(home)), home.shape[1])
    rows, path = near.tolist(), [-1] * len(near)  # plain floats: a short loop over them beats numpy's calls
    for frames in (range(anchor, len(rows)), range(anchor - 1, -1, -1)):
        at = column + REACH - HOME
        for i in frames:
            row, top = rows[i], MIN_PEAK
            for j in range(max(1, at - STEP), min(len(row) - 1, at + STEP + 1)):
                if row[j] > top and row[j] >= row[j - 1] and row[j] >= row[j + 1]:
                    top, path[i] = row[j], j
            if path[i] >= 0:
                at = path[i]
    return path
