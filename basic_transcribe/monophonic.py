"""From posteriors to the best single line, for voice, bass and wind.

In every frame the line is at one pitch or silent. A pitch gains by its onsets and by the contour posterior around it,
so that a voice between two semitones, or sliding a little, remains one note. To begin a note costs, less the clearer
its onset is. The line of the greatest gain is found by dynamic programming [1]_ chunk by chunk; a chunk is decided when
the next one has been searched.

References
----------
.. [1] Viterbi, A. (1967). "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm".
   IEEE Transactions on Information Theory 13 (2), 260-269.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from . import bends
from .ends import LATE, Over, ends
from .evidence import (
    BACK,
    CENTRE,
    LEAST_ONSET,
    SHORTEST,
    SPREAD,
    SUPPORT,
    Limits,
    between_frames,
    end_by,
    level_at,
    mass,
    peaks,
    pitch_range,
    silence,
    support,
    velocity,
)
from .types import Float32, Note, Posteriors, TrackerSettings

CHUNK = 86  # frames searched at once; a decision is final a chunk later, by when the best lines have long met
NEAR = 2 / 3  # semitones on either side of a pitch within which the contour posterior counts for it
CONTOUR_MASS = 0.6  # semitones times posterior: what the contour posterior of one pitch sums to
BESIDE = 0.5  # part of a neighbouring semitone's onset or offset posterior that a pitch is given
ONSET_WEIGHT = 9.0  # what an onset of mass 1 is worth, in frames of a sounding pitch
SILENT_WEIGHT = 3.0  # how much more than a frame above the frame threshold counts one as far below
FADING = 12  # frames before the line leaves a note in which an end says when it was over
BEFORE = BACK + SPREAD  # frames before a chunk that decide what begins in it
AFTER = max(BACK + SPREAD, SUPPORT - 1)  # and after it


@dataclass(slots=True)
class _Open(bends.Begun):
    """The note that sounds."""

    offset: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))  # the posterior of the last FADING frames


class _Chunk:
    """A chunk of posteriors with its surroundings: what they say, and how the best lines run through it.

    Rows count from the first of ``p``; those of the chunk are ``first`` to ``last``.

    Parameters
    ----------
    p : Posteriors
        ``before`` rows before the chunk, the chunk, AFTER rows after it.
    frame : int
        Absolute frame of the first row of ``p``.
    """

    def __init__(self, p: Posteriors, frame: int, before: int) -> None:
        self.p, self.frame = p, frame
        self.first, self.last = before, before + CHUNK
        self.onset = _with_neighbours(p.onset)
        self.sounding = _sounding(p)
        self.support = support(self.sounding)
        self.onset_mass = mass(self.onset)
        self.struck = peaks(self.onset_mass) & (self.onset_mass >= LEAST_ONSET)
        self.offset = _with_neighbours(p.offset)
        # By row of the chunk and state, whether the best line into the state enters it there, and if so, from where.
        self.enters = np.zeros((CHUNK, p.note.shape[1] + 1), bool)
        self.origin = np.zeros(CHUNK, np.intp)


class MonophonicTracker:
    """Turns consecutive posteriors into notes of which never two sound at once.

    The thresholds steer it as they steer :class:`~basic_transcribe.notes.NoteTracker`. Only pitches within the range of
    frequencies are considered, so that what sounds below or above it does not disturb the line.

    Parameters
    ----------
    settings : TrackerSettings
        With thresholds filled in (:meth:`TrackerSettings.resolved`).
    first : int
        Frame of the recording with which the posteriors begin.
    """

    line = True
    lookahead = 2 * CHUNK + AFTER + CENTRE  # frames after an onset that must be known for its note to begin, at most

    def __init__(self, settings: TrackerSettings, first: int = 0) -> None:
        self.settings = settings
        self._limits = Limits.of(settings)
        self._frame_rate, self._lowest_pitch, self._bins = 1.0, 0, 1
        self._blocks: list[Posteriors] = []  # what is not searched yet, and BEFORE rows before it
        self._rows = 0  # in the blocks
        self._start = first  # absolute frame of the blocks' first row
        self._searched = first  # frame up to which the best lines are known
        self._decided = first  # frame up to which the line is chosen: a chunk less
        self._gain: NDArray[np.float64] | None = None  # of the best line into each state; the last state is silence
        self._undecided: _Chunk | None = None
        self._open: _Open | None = None
        self._ended = 0.0  # when the last note ended

    @property
    def seconds(self) -> float:
        """Time up to which the line is chosen."""
        return self._decided / self._frame_rate

    @property
    def sounding(self) -> list[Note]:
        """The note that has begun and is not finished, if any, as far as it is known, without its bend."""
        if not self._open:
            return []
        note = self._open
        latest = max(self.seconds, note.onset + 0.5 / self._frame_rate)
        return [Note(note.onset, latest, self._lowest_pitch + note.pitch, note.velocity, note.confidence)]

    @property
    def begun(self) -> bends.Begun | None:
        """The note that has begun and is not finished, if any, from which another tracker can go on."""
        return self._open

    def push(self, block: Posteriors) -> list[Note]:
        """Take the next frames; return the notes that are finished by them, in order."""
        self._blocks.append(block)
        self._rows += len(block)
        self._frame_rate, self._lowest_pitch = block.frame_rate, block.lowest_pitch
        self._bins = block.bins_per_semitone
        notes: list[Note] = []
        # The work is done in the same chunks whatever the blocks, so that these cannot matter.
        while self._start + self._rows >= self._searched + CHUNK + AFTER:
            notes += self._advance()
        return notes

    def flush(self, duration: float | None = None) -> list[Note]:
        """The recording is over: finish what still sounds.

        Parameters
        ----------
        duration : float, optional
            Length of the recording in seconds; no note ends after it.
        """
        if not self._blocks:
            return []
        # At least a frame of silence is searched, in which the line falls silent.
        notes = self.push(silence(self._blocks[0], CHUNK + AFTER))
        if self._undecided is not None and self._gain is not None:
            notes += self._decide(self._undecided, int(self._gain.argmax()))
        return end_by(notes, duration, self._limits.shortest(self._frame_rate))

    def _advance(self) -> list[Note]:
        """Search the next chunk, and choose the line through the one before it."""
        p = Posteriors.concatenate(self._blocks)
        before, notes = self._searched - self._start, []
        chunk = _Chunk(p.slice(0, before + CHUNK + AFTER), self._start, before)
        gain = self._search(chunk)
        if self._undecided is not None:
            came_from = _origins(chunk)
            state = came_from[gain.argmax()]
            gain[came_from != state] = -np.inf  # the other lines contradict the choice
            notes = self._decide(self._undecided, int(state))
        self._gain, self._undecided = gain, chunk
        self._searched += CHUNK
        keep = self._searched - BEFORE - self._start
        self._blocks, self._rows, self._start = [p.slice(keep)], self._rows - keep, self._start + keep
        return notes

    def _search(self, chunk: _Chunk) -> NDArray[np.float64]:
        """Find the best line into each state at the end of a chunk; return their gains."""
        rows = slice(chunk.first, chunk.last)
        above = chunk.sounding[rows] - self._limits.frame_threshold
        begun = np.where(chunk.struck[rows], chunk.onset_mass[rows], 0)
        # To begin a note costs what SUPPORT frames must gain: twice the onset threshold, less the mass of its onset. An
        # onset above the threshold also draws the line to its pitch, away from what still rings.
        least = self._limits.onset_threshold
        states = chunk.enters.shape[1]
        gains, costs = np.zeros((CHUNK, states)), np.zeros((CHUNK, states))
        gains[:, :-1] = np.where(above < 0, SILENT_WEIGHT * above, above)
        gains[:, :-1] += ONSET_WEIGHT * np.maximum(begun - least, 0)
        costs[:, :-1] = ONSET_WEIGHT * np.maximum(2 * least - begun, 0)
        low, high = pitch_range(chunk.p, self.settings)
        costs[:, :low] = costs[:, high:-1] = np.inf
        gain = self._gain
        if gain is None:
            gain = np.full(states, -np.inf)
            gain[-1] = 0
        for row in range(CHUNK):
            best = int(gain.argmax())
            entered = gain[best] - costs[row]
            np.greater(entered, gain, out=chunk.enters[row])
            chunk.origin[row] = best
            gain = np.maximum(entered, gain) + gains[row]
        return gain

    def _decide(self, chunk: _Chunk, state: int) -> list[Note]:
        """Follow the line through a chunk, given its state at the end; return the notes that end there."""
        line = np.empty(CHUNK, np.intp)
        for row in range(CHUNK - 1, -1, -1):
            line[row] = state
            if chunk.enters[row, state]:
                state = int(chunk.origin[row])
        self._decided += CHUNK
        starts = [0, *(np.flatnonzero(np.diff(line)) + 1).tolist(), CHUNK]
        notes: list[Note] = []
        for start, stop in pairwise(starts):
            pitch = int(line[start]) if line[start] < chunk.enters.shape[1] - 1 else None
            notes += self._stay(chunk, pitch, chunk.first + start, chunk.first + stop)
        return notes

    def _stay(self, chunk: _Chunk, pitch: int | None, row: int, stop: int) -> list[Note]:
        """Follow the line through rows in which it stays at one pitch, or silent."""
        notes: list[Note] = []
        if (self._open.pitch if self._open else None) != pitch:
            notes += self._change(chunk, row, pitch)
        if self._open is None or pitch is None:
            return notes
        clear = chunk.struck[row:stop, pitch] & (chunk.onset_mass[row:stop, pitch] >= self._limits.split_threshold)
        for again in (row + np.flatnonzero(clear)).tolist():
            if chunk.frame + again >= self._open.frame + SHORTEST:
                self._listen(chunk, self._open, row, again)
                notes += self._change(chunk, again, pitch)
                row = again
        self._listen(chunk, self._open, row, stop)
        return notes

    def _listen(self, chunk: _Chunk, note: _Open, row: int, stop: int) -> None:
        """Read the contour of a note in these rows, and its offset posterior."""
        note.offset = np.concatenate([note.offset, chunk.offset[row:stop, note.pitch]])[-FADING:]
        if self.settings.pitch_bends:
            centre = note.pitch * self._bins + self._bins // 2
            note.contour.append(bends.window(chunk.p.contour[row:stop], centre))

    def _change(self, chunk: _Chunk, row: int, pitch: int | None) -> list[Note]:
        """End the note that sounds, if any, and begin one at ``pitch``, if any; return what has ended."""
        begun = self._begin(chunk, row, pitch) if pitch is not None else None
        notes: list[Note] = []
        if self._open:
            ended = self._close(self._open, chunk, row, begun.onset if begun else np.inf)
            notes = bends.finished([ended], chunk.p, self._limits.shortest(self._frame_rate))
        if begun:
            begun.onset = max(begun.onset, self._ended)
        self._open = begun
        return notes

    def _begin(self, chunk: _Chunk, row: int, pitch: int) -> _Open:
        frame, fraction, confidence = chunk.frame + row, 0.0, float(chunk.support[row, pitch])
        place = np.array([row]), np.array([pitch])
        if chunk.struck[row, pitch]:
            fraction = float(between_frames(chunk.onset, *place)[0])
            confidence = 0.5 * (float(chunk.onset_mass[row, pitch]) + confidence)
        onset = max(0.0, (frame + fraction) / self._frame_rate + self._limits.onset_delay)
        loud = velocity(float(level_at(chunk.p, *place)[0]), self._lowest_pitch + pitch)
        return _Open(pitch, frame, onset, loud, min(1.0, confidence))

    def _close(self, note: _Open, chunk: _Chunk, row: int, latest: float) -> bends.Ended:
        """A note that the line leaves in a row, finished by the time ``latest``."""
        left = chunk.frame + row
        offset = np.concatenate([note.offset, chunk.offset[row : row + LATE, note.pitch]])
        (end,) = ends([Over(offset, left - len(note.offset), note.frame, left)])
        self._ended = max(self._ended, min(end / self._frame_rate, latest))
        return bends.Ended(note, end, self._ended)


def _sounding(p: Posteriors) -> Float32:
    """How surely each pitch sounds, 0 to 1: the mass of the contour posterior NEAR it."""
    bins, pitches = p.bins_per_semitone, p.note.shape[1]
    reach = round(NEAR * bins)
    padded = np.pad(p.contour, ((0, 0), (reach, reach)))
    total = np.zeros(p.note.shape, np.float32)
    for i in range(2 * reach + 1):
        total += padded[:, bins // 2 + i :: bins][:, :pitches]
    sounding: Float32 = np.minimum(total / np.float32(CONTOUR_MASS * bins), np.float32(1))
    return sounding


def _with_neighbours(posterior: Float32) -> Float32:
    """A posterior with a part of the stronger of its neighbouring semitones."""
    padded = np.pad(posterior, ((0, 0), (1, 1)))
    beside = np.maximum(padded[:, :-2], padded[:, 2:])
    return np.minimum(posterior + np.float32(BESIDE) * beside, np.float32(1))


def _origins(chunk: _Chunk) -> NDArray[np.intp]:
    """For each state at the end of a chunk, the state before the chunk from which the best line comes."""
    states = np.arange(chunk.enters.shape[1])
    for enters, origin in zip(chunk.enters[::-1], chunk.origin[::-1], strict=True):
        states = np.where(enters[states], origin, states)
    return states
