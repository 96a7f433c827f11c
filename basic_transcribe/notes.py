"""From posteriors to notes, in one pass and in flat memory.

A note begins at a peak of the onset posterior, or where the note posterior is strong without one; it ends where the
note posterior stays low, or at the next onset of its pitch. All decisions look at most :data:`AHEAD` frames ahead, so a
recording fed in pieces gives the very notes that it gives whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from . import bends
from .types import Float32, Note, PitchBend, Posteriors, TrackerSettings

BACK = 2  # frames before a frame that decide whether it is a peak
GAP = 4  # frames the note posterior must stay low for the note to end: shorter dips are bridged
STRONG = 0.7  # mean note posterior that starts a note without an onset
STRONG_FRAMES = 9
ONSET_SOON = 7  # frames: an onset peak this soon takes precedence over a start without one
AHEAD = max(GAP, STRONG_FRAMES, ONSET_SOON + BACK) + 1
# Velocity: 127 at this level (dB relative to full scale, 25 ms RMS of the note), and so many steps a dB below it.
LOUDEST, STEPS_PER_DB = -10.0, 2.0
# Struck or blown equally hard, high notes carry less power, and the ear forgives it: dB per semitone above middle C.
TILT = 0.3


@dataclass(slots=True)
class _Open:
    """A note that has begun: its first frame, what is known of it, and its contour so far."""

    frame: int
    onset: float
    level: float
    confidence: float
    read_to: int
    contour: list[Float32] = field(default_factory=list)


class NoteTracker:
    """Turns consecutive posteriors into notes.

    Parameters
    ----------
    settings : TrackerSettings
        With thresholds filled in (:meth:`TrackerSettings.resolved`).

    Examples
    --------
    >>> tracker = NoteTracker(TrackerSettings().resolved(model.defaults))  # doctest: +SKIP
    >>> notes = [note for block in blocks for note in tracker.push(block)] + tracker.flush()  # doctest: +SKIP
    """

    def __init__(self, settings: TrackerSettings) -> None:
        if settings.onset_threshold is None or settings.frame_threshold is None or settings.minimum_note_length is None:
            raise ValueError("settings have no thresholds: fill them in with TrackerSettings.resolved(defaults)")
        self.settings = settings
        self._onset_threshold = settings.onset_threshold
        self._frame_threshold = settings.frame_threshold
        self._minimum_length = settings.minimum_note_length / 1000
        self._buffer: Posteriors | None = None
        self._start = 0  # absolute frame of the buffer's first row
        self._next = 0  # first frame whose events have not been handled
        self._open: dict[int, _Open] = {}
        self._ended: dict[int, float] = {}  # by pitch, when its last note ended

    @property
    def seconds(self) -> float:
        """Time up to which all events are known."""
        return self._next / self._buffer.frame_rate if self._buffer is not None else 0.0

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
        silence = self._buffer.with_arrays(
            {n: np.zeros((AHEAD, getattr(self._buffer, n).shape[1]), np.float32) for n in Posteriors.ARRAYS}
        )
        self._buffer = Posteriors.concatenate([self._buffer, silence])
        kept = self._advance(end + 1)
        kept += [n for n in [self._close(pitch, end) for pitch in sorted(self._open)] if n is not None]
        return _end_by(kept, duration)

    def _advance(self, limit: int) -> list[Note]:
        """Handle all events of absolute frames before ``limit``."""
        if self._buffer is None or limit <= self._next:
            return []
        p, start = self._buffer, self._start
        first, last = self._next - start, limit - start
        next_silence = self._next_silence(p.note)
        finished: list[Note | None] = []

        def end_of(pitch: int, note: _Open) -> int:
            """Absolute frame from which on the open note is silent, beyond ``limit`` if that is not known yet."""
            return start + int(next_silence[max(note.frame + 1 - start, first), pitch])

        for row, pitch, is_onset in self._events(p, first, last):
            current = self._open.get(pitch)
            if current is not None:
                end = end_of(pitch, current)
                if end <= start + row:
                    finished.append(self._close(pitch, end))
                elif is_onset:
                    finished.append(self._close(pitch, start + row))
                else:
                    continue
            self._begin(p, row, pitch, is_onset)
        for pitch, current in list(self._open.items()):
            end = end_of(pitch, current)
            if end < limit:
                finished.append(self._close(pitch, end))
            else:
                self._read_contour(current, pitch, limit)
        self._next = limit
        keep = max(0, limit - BACK - start)
        self._buffer, self._start = p.slice(keep), start + keep
        return [n for n in finished if n is not None]

    def _next_silence(self, note: Float32) -> NDArray[np.intp]:
        """For each row, the first row at or after it from which on the note posterior stays low for GAP frames."""
        low = note < self._frame_threshold
        quiet = low[: len(low) - GAP + 1].copy() if len(low) >= GAP else low[:0].copy()
        for shift in range(1, GAP):
            quiet &= low[shift : shift + len(quiet)]
        rows = np.full(note.shape, len(note) + AHEAD, dtype=np.intp)
        rows[: len(quiet)][quiet] = np.nonzero(quiet)[0]
        return np.minimum.accumulate(rows[::-1], axis=0)[::-1]

    def _events(self, p: Posteriors, first: int, last: int) -> list[tuple[int, int, bool]]:
        """Beginnings between two rows: (row, pitch index, whether an onset peak), in order."""
        low, high = self._pitch_range(p)
        onset = np.pad(p.onset[:, low:high], ((BACK, BACK), (0, 0)))
        centre = onset[BACK:-BACK]
        peaks = centre >= self._onset_threshold
        for shift in range(1, BACK + 1):  # ties go to the first
            peaks &= (centre > onset[BACK - shift : len(onset) - BACK - shift]) & (
                centre >= onset[BACK + shift : len(onset) - BACK + shift]
            )
        note = p.note[:, low:high]
        ahead = np.pad(note, ((0, STRONG_FRAMES - 1), (0, 0)))
        # Summed slice by slice, not by cumsum, so that rounding cannot depend on where the buffer begins.
        strong = sum(ahead[i : i + len(note)] for i in range(STRONG_FRAMES)) >= STRONG * STRONG_FRAMES
        strong &= note >= self._frame_threshold
        rising = strong.copy()
        rising[1:] &= ~strong[:-1]
        soon = peaks.copy()
        for shift in range(1, ONSET_SOON + 1):
            soon[:-shift] |= peaks[shift:]
        rising &= ~soon
        rows, columns = np.nonzero((peaks | rising)[first:last])
        return [
            (r + first, c + low, bool(peaks[r + first, c]))
            for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
        ]

    def _pitch_range(self, p: Posteriors) -> tuple[int, int]:
        """Columns within the wanted range of frequencies."""
        low, high = 0, p.note.shape[1]
        if self.settings.minimum_frequency is not None:
            low = max(low, math.ceil(_pitch_of(self.settings.minimum_frequency) - p.lowest_pitch - 0.5))
        if self.settings.maximum_frequency is not None:
            high = min(high, math.floor(_pitch_of(self.settings.maximum_frequency) - p.lowest_pitch + 0.5) + 1)
        return low, max(low, high)

    def _begin(self, p: Posteriors, row: int, pitch: int, is_onset: bool) -> None:
        column = p.onset[max(0, row - 1) : row + 2, pitch]
        fraction = 0.0
        if is_onset and 0 < row < len(p) - 1:
            left, top, right = (float(v) for v in column)
            bow = left - 2 * top + right
            fraction = min(0.5, max(-0.5, 0.5 * (left - right) / bow)) if bow < -1e-6 else 0.0
        level = float(p.level[row, pitch])
        confidence = float(p.onset[row, pitch]) if is_onset else float(p.note[row : row + STRONG_FRAMES, pitch].mean())
        frame = self._start + row
        onset = max((frame + fraction) / p.frame_rate, self._ended.get(pitch, 0.0))
        self._open[pitch] = _Open(frame, onset, level, confidence, frame)

    def _read_contour(self, note: _Open, pitch: int, end: int) -> None:
        """Follow the contour up to absolute frame ``end``."""
        p = self._buffer
        if not self.settings.pitch_bends or p is None or end <= note.read_to:
            return
        per_semitone = p.bins_per_semitone
        rows = p.contour[note.read_to - self._start : end - self._start]
        note.contour.append(bends.window(rows, pitch * per_semitone + per_semitone // 2))
        note.read_to = end

    def _close(self, pitch: int, end: int) -> Note | None:
        """Finish the open note of a pitch; None if it is too short."""
        p, note = self._buffer, self._open[pitch]
        if p is None:
            raise RuntimeError("no posteriors")
        del self._open[pitch]
        self._ended[pitch] = offset = end / p.frame_rate
        if offset - note.onset < max(self._minimum_length, 0.5 / p.frame_rate):
            return None
        self._read_contour(note, pitch, end)
        number, bend = p.lowest_pitch + pitch, None
        if note.contour:
            semitones = bends.curve(np.concatenate(note.contour), p.bins_per_semitone)
            if semitones is not None:
                bend = PitchBend(note.frame / p.frame_rate, 1 / p.frame_rate, semitones)
        return Note(
            note.onset,
            offset,
            number,
            _velocity(note.level, number),
            min(1.0, note.confidence),
            bend,
        )


def _pitch_of(frequency: float) -> float:
    """MIDI pitch of a frequency in Hz."""
    return 69 + 12 * math.log2(frequency / 440)


def _velocity(level: float, pitch: int) -> int:
    """MIDI velocity of a note's level in dB."""
    return int(min(127, max(1, round(127 + (level + TILT * (pitch - 60) - LOUDEST) * STEPS_PER_DB))))


def _end_by(notes: list[Note], duration: float | None) -> list[Note]:
    """Notes cut at the end of the recording."""
    if duration is None:
        return notes
    return [replace(n, offset=min(n.offset, duration)) for n in notes if n.onset < duration]


def track_notes(posteriors: Posteriors, settings: TrackerSettings, duration: float | None = None) -> list[Note]:
    """Notes of a whole recording.

    Parameters
    ----------
    posteriors : Posteriors
        Model outputs of the whole recording.
    settings : TrackerSettings
        With thresholds filled in, such as ``transcription.settings`` with some replaced.
    duration : float, optional
        Length of the recording in seconds.

    Returns
    -------
    list of Note
        Sorted by onset, then pitch; no two of one pitch overlap.
    """
    tracker = NoteTracker(settings)
    notes = _end_by(tracker.push(posteriors) + tracker.flush(), duration)
    return sorted(notes, key=lambda n: (n.onset, n.pitch))
