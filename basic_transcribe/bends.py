"""From the contour posterior to the pitch a note really has, frame by frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .types import Float32

REACH = 5  # bins on either side of the note's own in which its fundamental is looked for
WIDTH = 2  # bins on either side of the peak that enter the centroid
MIN_WEIGHT = 0.05  # summed posterior below which a frame says nothing about pitch
JUMP = 1.5  # bins from one frame to the next: vibrato and slides stay below it, a hop to another note does not
SMOOTHING = 5  # frames, odd


def deviation(contour: Float32, centre: int) -> tuple[Float32, Float32]:
    """Distance of the sounding fundamental from a bin.

    Parameters
    ----------
    contour : ndarray, shape (frames, bins)
        Contour posterior.
    centre : int
        Bin of the note's nominal pitch.

    Returns
    -------
    bins : ndarray of float32, shape (frames,)
        Centroid of the posterior around its peak near ``centre``, in bins relative to ``centre``.
    weight : ndarray of float32, shape (frames,)
        Summed posterior behind it; ``bins`` means nothing where it is near 0.
    """
    low, high = max(0, centre - REACH), min(contour.shape[1], centre + REACH + 1)
    near = contour[:, low:high]
    offsets = np.arange(low, high, dtype=np.float32) - centre
    # Peaks far from the nominal pitch must be clearly stronger: they may belong to a neighbouring note.
    peak = offsets[np.argmax(near * np.exp(-np.abs(offsets) / REACH), axis=1)]
    weights = near * (np.abs(offsets - peak[:, None]) <= WIDTH)
    total = weights.sum(axis=1)
    # A plain sum, not a matrix product: BLAS rounds differently with the number of rows.
    return ((weights * offsets).sum(axis=1) / np.maximum(total, 1e-9)).astype(np.float32), total.astype(np.float32)


def curve(bins: Float32, weight: Float32, bins_per_semitone: int) -> Float32 | None:
    """A note's bend in semitones, one value a frame: gaps filled, median-smoothed.

    Parameters
    ----------
    bins, weight : ndarray, shape (frames,)
        From :func:`deviation`.

    Returns
    -------
    ndarray of float32, shape (frames,), or None
        None where the contour posterior never says anything.
    """
    known = _connected(bins, weight)
    if not len(known):
        return None
    filled = np.interp(np.arange(len(bins)), known, bins[known]) / bins_per_semitone
    if len(filled) >= SMOOTHING:
        half = SMOOTHING // 2
        padded = np.concatenate([np.repeat(filled[0], half), filled, np.repeat(filled[-1], half)])
        windows = np.stack([padded[i : i + len(filled)] for i in range(SMOOTHING)])
        filled = np.sort(windows, axis=0)[half]
    return filled.astype(np.float32)


def _connected(bins: Float32, weight: Float32) -> NDArray[np.intp]:
    """Frames reached from the clearest one without a jump: where a note dies its neighbours would take over."""
    anchor = int(np.argmax(weight))
    known = np.zeros(len(bins), dtype=bool)
    values, clear = bins.tolist(), (weight >= MIN_WEIGHT).tolist()
    for frames in (range(anchor, len(bins)), range(anchor - 1, -1, -1)):
        last = values[anchor]
        for i in frames:
            if clear[i] and abs(values[i] - last) <= JUMP:
                known[i], last = True, values[i]
    return np.flatnonzero(known)
