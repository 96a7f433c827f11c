"""When notes end: where most of the chance lies that an end is near.

The offset posterior is spread over the frames in which a note may have ended, the farther, the less clear the end is.
Its likeliest frame may have little of it. What is heard as the right end has some latitude, more for a long note than
for a short one, so the end is placed in the middle of the stretch, of that latitude, in which it most likely lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .types import Float32

SOONEST = 3  # frames from a note's onset to where its end may be
LATE = 4  # and from where it is silent
EVENT = 3.5  # sum of the offset posterior that makes an end sure
FAINT = 0.005  # posterior that says nothing
# Latitude, in frames: a fifth of the note's length, 50 ms at least, as scores of offsets have it (Raffel et al.,
# mir_eval, ISMIR 2014), and a quarter of a second at most.
SHARE, NEAREST, FARTHEST = 5, 4, 21
UNHEARD = 0.05  # of the chance that no end was heard, how much counts for the frame from which the note is silent
# Whole numbers are summed, so that no rounding depends on which notes end together.
SCALE = 1 << 24


class Over(NamedTuple):
    """A note that is over: where its end is looked for.

    ``offset`` has the posterior from absolute frame ``first``, before which it has not ended, up to LATE frames after
    ``silent``, in which it is silent or struck again. It began in frame ``begun``.
    """

    offset: Float32
    first: int
    begun: int
    silent: int


def ends(notes: Sequence[Over]) -> list[float]:
    """Absolute frames, and fractions of them, in which notes end; each as if it were alone."""
    if not notes:
        return []
    posterior = np.concatenate([note.offset for note in notes]).astype(np.float64)
    lengths = np.array([len(note.offset) for note in notes])
    last = np.cumsum(lengths)
    first, begun, silent = np.array([note[1:] for note in notes]).T
    start = last - lengths
    place = np.arange(len(posterior))

    def each(values: NDArray[np.int64]) -> NDArray[np.int64]:
        """One value of every note for all its frames."""
        return np.repeat(values, lengths)

    frame = place + each(first - start)
    counts = (frame >= each(begun + SOONEST)) & (posterior >= FAINT)
    hazard = np.where(counts, np.minimum(posterior, 1) / EVENT, 0.0)
    gone = np.rint(-SCALE * np.log1p(-hazard)).astype(np.int64)
    until = np.concatenate([[0], np.cumsum(gone)])
    chance = hazard * np.exp((each(until[start]) - until[:-1]) / SCALE)
    chance[start + silent - first] += UNHEARD * np.exp((until[start] - until[last]) / SCALE)
    weight = np.rint(SCALE * chance).astype(np.int64)
    total = np.concatenate([[0], np.cumsum(weight)])
    moment = np.concatenate([[0], np.cumsum(weight * (frame - each(first)))])
    latitude = np.clip((frame - each(begun)) // SHARE, NEAREST, FARTHEST)
    low, high = np.maximum(place - latitude, each(start)), np.minimum(place + latitude + 1, each(last))
    near = total[high] - total[low]
    best = np.flatnonzero(near == each(np.maximum.reduceat(near, start)))
    best = best[np.searchsorted(best, start)]
    middle = (moment[high[best]] - moment[low[best]]) / near[best]
    found: list[float] = np.minimum(first + middle, silent).tolist()
    return found
