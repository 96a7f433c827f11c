"""From the contour posterior to the pitch a note really has, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .types import Float32, PitchBend

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
    left, top, right = np.log(near[known, peaks[known] + np.array([[-1], [0], [1]])] + FLOOR)
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


def bend_of(windows: Sequence[Float32], frame: int, frame_rate: float, bins_per_semitone: int) -> PitchBend | None:
    """The bend of a note that begins at ``frame``, of successive parts of its contour; None if they say nothing.

    Parameters
    ----------
    windows : sequence of ndarray of float32, shape (frames, 2 * REACH + 1)
        From :func:`window`.
    """
    semitones = curve(np.concatenate(windows), bins_per_semitone) if windows else None
    return None if semitones is None else PitchBend(frame / frame_rate, 1 / frame_rate, semitones)


def _follow(near: Float32) -> list[int]:
    """Column of the note's peak in each frame, -1 where there is none within STEP of the last."""
    home = near[:, REACH - HOME : REACH + HOME + 1]
    anchor, column = divmod(int(np.argmax(home)), home.shape[1])
    inner = near[:, 1:-1]
    peaks = (inner > MIN_PEAK) & (inner >= near[:, :-2]) & (inner >= near[:, 2:])
    rows, columns = np.nonzero(peaks)
    found: list[list[tuple[int, float]]] = [[] for _ in near]
    for row, at, value in zip(rows.tolist(), (columns + 1).tolist(), inner[peaks].tolist(), strict=True):
        found[row].append((at, value))
    path = [-1] * len(near)
    for frames in (range(anchor, len(path)), range(anchor - 1, -1, -1)):
        last = column + REACH - HOME
        for i in frames:
            top = 0.0
            for at, value in found[i]:
                if value > top and abs(at - last) <= STEP:
                    top, path[i] = value, at
            if path[i] >= 0:
                last = path[i]
    return path
