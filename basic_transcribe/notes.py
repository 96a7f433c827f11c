"""From posteriors to notes, in one pass and in flat memory.

A note begins at an onset that the note and contour posteriors after it support; without one, as strings and pads swell,
where the note posterior rose, once it has been clear for half a second. It is over where the note posterior stays low,
or at the next clear onset of its pitch, and ends where :mod:`.ends` finds that likeliest, but not where it is clear for
as long afterwards. All decisions look at most :data:`AHEAD` frames ahead and :data:`RISE` back, so a recording fed in
pieces gives the very notes that it gives whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import bends
from .ends import LATE, Over, ends
from .evidence import (
    BACK,
    CENTRE,
    LEAST_ONSET,
    OCTAVE,
    SPREAD,
    SUPPORT,
    Limits,
    best_bin,
    between_frames,
    clarity_at,
    end_by,
    level_at,
    mass,
    octaves_below,
    peaks_at,
    pitch_range,
    silence,
    support_at,
    velocity,
)
from .types import Float32, Note, Posteriors, TrackerSettings

GAP = 4  # frames the note posterior must stay low for the note to be over: shorter dips are bridged
# What is never low for LASTING frames, and on average CLEAR times the onset threshold, is a note even if no onset was
# found, and outlives what may have been its end.
CLEAR, LASTING = 4 / 3, 43
RISE = 2 * LASTING  # frames before it is clear in which such a note may have begun
AHEAD = max(BACK + SPREAD, SUPPORT - 1) + 1
ONSET, SWELL = range(2)
# Whole numbers are summed for that, so that no rounding depends on where a buffer begins: for a posterior of 1, and for
# one that is low.
SCALE, LOW = 1 << 10, -(1 << 16)


class _Event(NamedTuple):
    """Where a note may begin: row of the buffer, index of the pitch, ONSET or SWELL, mass of the peak.

    Also the evidence for it, how many frames after its row it lies, and the level of its note. A swell is a note that
    is clear by that row, and began before.
    """

    row: int
    pitch: int
    kind: int
    mass: float
    confidence: float
    fraction: float
    level: float


@dataclass(slots=True)
class _Open(bends.Begun):
    """A note that has begun, how far its contour and offset posterior are read, and where it may end."""

    read_to: int = 0
    offsets: list[Float32] = field(default_factory=list)
    earliest: int = 0  # frame of an end that counts: what sounds on clearly for long has not ended
    silent_from: int | None = None


class NoteTracker:
    """Turns consecutive posteriors into notes.

    Parameters
    ----------
    settings : TrackerSettings
        With thresholds filled in (:meth:`TrackerSettings.resolved`).
    first : int
        Frame of the recording with which the posteriors begin.
    begun : Begun, optional
        A note that another tracker has followed up to there, and that goes on.

    Examples
    --------
    >>> tracker = NoteTracker(TrackerSettings().resolved(model.defaults))  # doctest: +SKIP
    >>> notes = [note for block in blocks for note in tracker.push(block)] + tracker.flush()  # doctest: +SKIP
    """

    line = False
    # Frames after an onset that must be known for its note to begin, at most; what swells takes LASTING or more.
    lookahead = AHEAD + CENTRE

    def __init__(self, settings: TrackerSettings, first: int = 0, begun: bends.Begun | None = None) -> None:
        self.settings = settings
        self._limits = Limits.of(settings)
        self._buffer: Posteriors | None = None
        self._first = self._start = first  # absolute frame of the buffer's first row; and what it was at the beginning
        self._next = first  # first frame whose events have not been handled
        self._open: dict[int, _Open] = {}
        if begun:
            known = (begun.pitch, begun.frame, begun.onset, begun.velocity, begun.confidence, begun.contour)
            self._open[begun.pitch] = _Open(*known, read_to=first)
        self._ended: dict[int, float] = {}  # by pitch, when its last note ended

    @property
    def seconds(self) -> float:
        """Time up to which all events are known."""
        return self._next / self._buffer.frame_rate if self._buffer is not None else 0.0

    @property
    def sounding(self) -> list[Note]:
        """The notes that have begun and are not finished, as far as they are known, without bends."""
        if self._buffer is None:
            return []
        lowest, shortest = self._buffer.lowest_pitch, 0.5 / self._buffer.frame_rate
        return [
            Note(
                note.onset,
                max(self.seconds, note.onset + shortest),
                lowest + pitch,
                note.velocity,
                note.confidence,
            )
            for pitch, note in self._open.items()
        ]

    def push(self, block: Posteriors) -> list[Note]:
        """Take the next frames; return the notes that are finished by them, in order of their ends."""
        self._buffer = block if self._buffer is None else Posteriors.concatenate([self._buffer, block])
        return self._advance(self._start + len(self._buffer) - AHEAD)

    def flush(self, duration: float | None = None) -> list[Note]:
        """The recording is over: finish what still sounds.

        Parameters
        ----------
        duration : float, optional
            Length of the recording in seconds; no note ends after it.
        """
        if self._buffer is None:
            return []
        end = self._start + len(self._buffer)
        self._buffer = Posteriors.concatenate([self._buffer, silence(self._buffer, AHEAD + GAP + 2)])
        return end_by(self._advance(end + GAP + 2), duration, self._limits.shortest(self._buffer.frame_rate))

    def _advance(self, limit: int) -> list[Note]:
        """Handle all events of absolute frames before ``limit``."""
        if self._buffer is None or limit <= self._next:
            return []
        p, start = self._buffer, self._start
        first, last = self._next - start, limit - start
        clear = self._clear(p.note, first, last)
        events = sorted([*self._events(p, first, last), *self._swells(p, first, *clear)])
        pitches = sorted({*self._open, *(event.pitch for event in events)})
        note = p.note[:, pitches]
        next_silence = dict(zip(pitches, self._next_silence(note).T, strict=True))
        # Bytes are quick to look in.
        clear_by = {pitch: by.tobytes() for pitch, by in zip(clear[0].tolist(), clear[1], strict=True)}
        closed: list[tuple[Over, bends.Ended]] = []

        def end_of(pitch: int, note: _Open) -> int:
            """Absolute frame from which on the open note is silent, at or beyond ``limit`` if that is not known yet."""
            if note.silent_from is not None:
                return note.silent_from
            end = start + int(next_silence[pitch][max(note.frame + 1 - start, first)])
            if end < limit:
                note.silent_from = end
            return end

        def outlive(pitch: int, note: _Open, end: int) -> None:
            """Forget the ends of an open note that sounds on clearly before absolute frame ``end``."""
            before = start + first - 1
            last_clear = clear_by[pitch].rfind(True, 0, max(0, end - before)) if pitch in clear_by else -1
            if last_clear >= 0:
                note.earliest = max(note.earliest, before + last_clear + 1 - LASTING + CENTRE)

        for event in events:
            current = self._open.get(event.pitch)
            if current is not None:
                end = end_of(event.pitch, current)
                if end > start + event.row:
                    if event.mass < self._limits.split_threshold:  # swells have none
                        continue
                    end = start + event.row
                outlive(event.pitch, current, end)
                closed.append(self._close(event.pitch, end, p, self._onset(event, p)))
            risen = self._risen(event, p) if event.kind == SWELL else event
            if risen:
                self._begin(risen, p)
        for pitch, current in list(self._open.items()):
            end = end_of(pitch, current)
            outlive(pitch, current, min(end, limit))
            if end + GAP < limit:
                closed.append(self._close(pitch, end, p))
            else:
                self._read(current, limit, p)
        self._next = limit
        keep = max(0, limit - RISE - start)
        self._buffer, self._start = p.slice(keep), start + keep
        return self._finished(closed, p)

    def _next_silence(self, note: Float32) -> NDArray[np.int32]:
        """For each row, the first row at or after it from which on the note posterior stays low for GAP frames."""
        low = note < self._limits.frame_threshold
        quiet = low.copy()
        for shift in range(1, GAP):
            quiet[:-shift] &= low[shift:]
        quiet[max(0, len(low) - GAP + 1) :] = False  # what comes is not known
        return _next(quiet, len(note) + AHEAD)

    def _clear(self, note: Float32, first: int, last: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Pitches, and whether each has been clear for LASTING frames by the rows from ``first - 1`` on."""
        least = CLEAR * self._limits.onset_threshold
        known = note[max(0, first - LASTING) : last]
        pitches = np.flatnonzero(known.max(axis=0) >= least)
        known = np.ascontiguousarray(known[:, pitches].T)
        levels = np.full((len(pitches), 1 + LASTING + last - first), LOW, np.int32)
        whole = np.where(known < self._limits.frame_threshold, LOW, known * SCALE)
        levels[:, levels.shape[1] - known.shape[1] :] = whole
        sums = np.cumsum(levels, axis=1, dtype=np.int32)
        return pitches, sums[:, LASTING:] - sums[:, :-LASTING] >= least * SCALE * LASTING

    def _swells(
        self, p: Posteriors, first: int, pitches: NDArray[np.intp], clear: NDArray[np.bool_]
    ) -> Iterator[_Event]:
        """Where notes become clear. Most have an onset, so all else is left to :meth:`_risen`."""
        low, high = pitch_range(p, self.settings)
        which, after = np.nonzero(clear[:, 1:] & ~clear[:, :-1])
        for row, pitch in zip((after + first).tolist(), pitches[which].tolist(), strict=True):
            if low <= pitch < high:
                yield _Event(row, pitch, SWELL, 0.0, 0.0, 0.0, 0.0)

    def _risen(self, swell: _Event, p: Posteriors) -> _Event | None:
        """A swell that says how long before its row the note began: where the note posterior was last low.

        None if no fundamental lies within the semitone.
        """
        row, pitch, quiet = swell.row, swell.pitch, self._limits.frame_threshold
        rows, here = np.arange(row + 1 - LASTING, row + 1), np.full(LASTING, swell.pitch)
        if best_bin(p, rows, here).mean() < quiet:
            return None
        before = p.note[max(0, row + 1 - RISE) : row + 1, pitch][::-1]
        frames = int((before < quiet).argmax()) or len(before)
        confidence, level = before[:LASTING].mean() / CLEAR, level_at(p, rows[-1:], here[-1:])
        return swell._replace(confidence=float(confidence), fraction=1.0 - frames, level=float(level[0]))

    def _events(self, p: Posteriors, first: int, last: int) -> Iterator[_Event]:
        """Where notes have onsets between two rows."""
        low, high = pitch_range(p, self.settings)
        masses = mass(p.onset)
        # One number for both indices: to find two takes ten times as long.
        rows, pitches = divmod(np.flatnonzero(masses[first:last, low:high] >= LEAST_ONSET), max(1, high - low))
        rows, pitches = rows + first, pitches + low
        peak = peaks_at(masses, rows, pitches)
        rows, pitches = rows[peak], pitches[peak]
        support, clarity = support_at(p.note, rows, pitches), clarity_at(p, rows, pitches)
        evidence = (masses[rows, pitches] + support + clarity) / np.float32(3)
        chosen = evidence >= self._limits.onset_threshold
        rows, pitches, evidence = rows[chosen], pitches[chosen], evidence[chosen]
        level = level_at(p, rows, pitches)
        evidence = evidence - np.float32(OCTAVE) * octaves_below(p, masses, rows, pitches, level)
        chosen = evidence >= self._limits.onset_threshold
        rows, pitches, evidence, level = rows[chosen], pitches[chosen], evidence[chosen], level[chosen]
        kind, fraction = np.full(len(rows), ONSET), between_frames(p.onset, rows, pitches)
        columns = (rows, pitches, kind, masses[rows, pitches], evidence, fraction, level)
        return map(_Event, *(column.tolist() for column in columns))

    def _onset(self, event: _Event, p: Posteriors) -> float:
        """Seconds at which a note begins."""
        return (self._start + event.row + event.fraction) / p.frame_rate + self._limits.onset_delay

    def _begin(self, event: _Event, p: Posteriors) -> None:
        frame = self._start + event.row + (int(event.fraction) if event.kind == SWELL else 0)
        onset = max(self._onset(event, p), self._ended.get(event.pitch, self._first / p.frame_rate))
        loud, confidence = velocity(event.level, p.lowest_pitch + event.pitch), min(1.0, event.confidence)
        self._open[event.pitch] = _Open(event.pitch, frame, onset, loud, confidence, read_to=frame)

    def _read(self, note: _Open, end: int, p: Posteriors) -> None:
        """Follow the contour and the offset posterior up to absolute frame ``end``."""
        if end <= note.read_to:
            return
        rows = slice(note.read_to - self._start, end - self._start)
        note.offsets.append(p.offset[rows, note.pitch].copy())
        if self.settings.pitch_bends:
            per_semitone = p.bins_per_semitone
            note.contour.append(bends.window(p.contour[rows], note.pitch * per_semitone + per_semitone // 2))
        note.read_to = end

    def _close(self, pitch: int, end: int, p: Posteriors, latest: float = math.inf) -> tuple[Over, bends.Ended]:
        """Take the open note of a pitch away, which is over by absolute frame ``end`` and the time ``latest``."""
        note = self._open.pop(pitch)
        self._read(note, end + LATE, p)
        self._ended[pitch] = latest = max(note.onset, min(end / p.frame_rate, latest))
        first = max(note.frame, self._first, note.earliest)
        offset = np.concatenate(note.offsets)[first - end - LATE :]
        return Over(offset, first, note.frame, end), bends.Ended(note, end, latest)

    def _finished(self, closed: list[tuple[Over, bends.Ended]], p: Posteriors) -> list[Note]:
        """The notes that are over, with their ends and bends."""
        found = ends([over for over, _ in closed])
        ended = [
            latest._replace(end=end, offset=max(latest.note.onset, min(end / p.frame_rate, latest.offset)))
            for (_, latest), end in zip(closed, found, strict=True)
        ]
        return bends.finished(ended, p, self._limits.shortest(p.frame_rate))


def _next(holds: NDArray[np.bool_], never: int) -> NDArray[np.int32]:
    """For each row, the first at or after it of which something holds; ``never`` if there is none."""
    rows = np.where(holds, np.arange(len(holds), dtype=np.int32)[:, None], np.int32(never))
    return np.minimum.accumulate(rows[::-1], axis=0)[::-1]
