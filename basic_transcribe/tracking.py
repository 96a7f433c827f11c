"""Which tracker follows a recording: the one for all notes, or the one for the best single line.

Unless the settings say, it is found out from what comes in. A voice alone is one line that often strays from the middle
of a semitone; all else, and everything from where a second part joins in, is searched for all notes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .errors import UsageError
from .evidence import Limits, end_by, given
from .monophonic import CHUNK, MonophonicTracker
from .notes import NoteTracker
from .types import Note, Posteriors, TrackerSettings, check_class, number

ENOUGH = 6 * CHUNK  # frames with a note that settle what a recording is
LEAST = CHUNK // 2  # and the fewest that say anything, if it is shorter
PATIENCE = 30 * CHUNK  # frames after which it is settled by what has been heard until then
UNSTEADY = 0.25  # share of the line's frames that lie nearer to a third of a semitone beside it than to its middle
CHORDS = CHUNK // 2  # frames with several notes, those of the last seconds, that show that others play along
FORGET = 0.8  # how much the frames with several notes count a chunk later
SECOND = 0.4  # note posterior from which a second note of a frame counts: what noise, hum and rooms make stays below
STRAY = 0.05  # share of frames with several notes that a line alone may have: harmonics and echoes
CLEARER = 0.3  # part of the way from the onset threshold to 1 at which that of a voice lies
DELAY = 2  # chunks by which the line is decided late: others join in where it has got to


class AutomaticTracker:
    """Turns consecutive posteriors into notes by the tracker that suits them.

    Nothing is given until it is known which; that takes a second of chords or ENOUGH frames of a line. A line is
    followed by :class:`~basic_transcribe.monophonic.MonophonicTracker` until others join in, anything else by
    :class:`~basic_transcribe.notes.NoteTracker` to its end. It is judged chunk by chunk, whatever the blocks.

    Parameters
    ----------
    settings : TrackerSettings
        With thresholds filled in (:meth:`TrackerSettings.resolved`).
    """

    def __init__(self, settings: TrackerSettings) -> None:
        self.settings = settings
        self._threshold = given(settings.frame_threshold)
        self._all: NoteTracker | None = None
        self._line: MonophonicTracker | None = None
        self._coming: Posteriors | None = None  # not judged yet, less than a chunk
        self._held: list[Posteriors] = []  # chunks that are judged, but not decided
        self._frame = 0  # first one of these
        self._heard = self._several = 0  # frames with a note, and with more than one
        self._unsteady = 0  # frames with a single note that lies beside the middle of its semitone
        self._chords = 0.0  # frames with several notes, the earlier the less

    @property
    def line(self) -> bool:
        """Whether all so far was followed as a single line."""
        return self._all is None and self._line is not None

    @property
    def _tracker(self) -> NoteTracker | MonophonicTracker | None:
        """The one at work; None until it is settled."""
        return self._all or self._line

    @property
    def seconds(self) -> float:
        """Time up to which all events are known, or would be if it were settled which tracker is to look."""
        if self._tracker:
            return self._tracker.seconds
        return (self._frame + sum(map(len, self._held))) / self._held[0].frame_rate if self._held else 0.0

    def push(self, block: Posteriors) -> list[Note]:
        """Take the next frames; return the notes that are finished by them, in order of their ends."""
        if self._all is not None:
            return self._all.push(block)
        whole, taken = block if self._coming is None else Posteriors.concatenate([self._coming, block]), 0
        notes: list[Note] = []
        while len(whole) - taken >= CHUNK and self._all is None:
            notes += self._take(whole.slice(taken, taken + CHUNK))
            taken += CHUNK
        if self._all is None:
            self._coming = whole.slice(taken)
            return notes
        # What is held and what has come, all at once: each push costs more than its frames.
        held = self._drop(len(self._held))
        again = min(len(held), taken // CHUNK)  # chunks that are held, but are in ``whole`` as well
        rest = whole.slice(taken - again * CHUNK)
        return notes + self._all.push(Posteriors.concatenate([*held[: len(held) - again], rest]))

    def flush(self, duration: float | None = None) -> list[Note]:
        """The recording is over: finish what still sounds.

        Parameters
        ----------
        duration : float, optional
            Length of the recording in seconds; no note ends after it.
        """
        notes: list[Note] = []
        if self._all is None and self._coming is not None:
            self._listen(self._coming)
            self._held.append(self._coming)
            notes = self._follow(self._line, self._coming) if self._line else self._settle()
            if self._all is not None:
                notes += self._all.push(Posteriors.concatenate(self._held))
        return notes + self._tracker.flush(duration) if self._tracker else notes

    def _take(self, chunk: Posteriors) -> list[Note]:
        """Judge the next chunk, and give it to the line."""
        self._listen(chunk)
        self._held.append(chunk)
        if self._line is not None:
            if self._chords < CHORDS:
                return self._follow(self._line, chunk)
            self._look_for_all()
        elif self._chords >= CHORDS or self._heard >= ENOUGH or len(self._held) * CHUNK >= PATIENCE:
            return self._settle()
        elif not self._heard:  # a silence before the first note need not be kept
            self._drop(len(self._held) - DELAY)
        return []

    def _listen(self, p: Posteriors) -> None:
        """Count frames with a note, with several, and with one beside the middle of its semitone."""
        beside = np.pad(p.note, ((0, 0), (1, 1)))
        sounds = (p.note >= self._threshold) & (p.note >= beside[:, :-2]) & (p.note > beside[:, 2:])
        notes = np.where(sounds, p.note, np.float32(0))
        heard, together = sounds.any(axis=1), np.count_nonzero(notes >= SECOND, axis=1) > 1
        rows = np.flatnonzero(heard & ~together)
        bins = p.contour.reshape(*p.note.shape, p.bins_per_semitone)[rows, notes[rows].argmax(axis=1)]
        self._heard += int(np.count_nonzero(heard))
        self._unsteady += int(np.count_nonzero(bins.argmax(axis=1) != p.bins_per_semitone // 2))
        several = int(np.count_nonzero(together))
        self._several += several
        self._chords = FORGET * self._chords + several

    def _settle(self) -> list[Note]:
        """Choose the tracker. A line is given what is held."""
        alone = self._heard >= LEAST and self._chords < CHORDS and self._several <= STRAY * self._heard
        if alone and self._unsteady >= UNSTEADY * self._heard:
            # A voice glides, and half of a glide looks like an onset: those of its notes must be clearer than others.
            threshold = given(self.settings.onset_threshold)
            threshold += CLEARER * (1 - threshold)
            self._line = MonophonicTracker(replace(self.settings, onset_threshold=threshold), self._frame)
            return self._follow(self._line, Posteriors.concatenate(self._held))
        self._look_for_all()
        return []

    def _follow(self, line: MonophonicTracker, p: Posteriors) -> list[Note]:
        """Give the line these frames, and hold those that it has not decided."""
        notes = line.push(p)
        self._drop(len(self._held) - DELAY)
        return notes

    def _look_for_all(self) -> None:
        """Look for all notes from what is held on, which is not given yet. The note that the line is at goes on."""
        self._all = NoteTracker(self.settings, self._frame, self._line.begun if self._line else None)

    def _drop(self, chunks: int) -> list[Posteriors]:
        """The first held chunks, which are held no longer."""
        count = max(0, chunks)
        dropped, self._held = self._held[:count], self._held[count:]
        self._frame += sum(len(chunk) for chunk in dropped)
        return dropped


def tracker_for(settings: TrackerSettings) -> NoteTracker | MonophonicTracker | AutomaticTracker:
    """The tracker that the settings ask for."""
    return AutomaticTracker(settings) if settings.monophonic is None else prompt_tracker(settings)


def prompt_tracker(settings: TrackerSettings) -> NoteTracker | MonophonicTracker:
    """One that need not find out: for all notes unless the settings ask for a line."""
    return MonophonicTracker(settings) if settings.monophonic else NoteTracker(settings)


def track_notes(posteriors: Posteriors, settings: TrackerSettings, duration: float | None = None) -> list[Note]:
    """Notes of a whole recording.

    Parameters
    ----------
    posteriors : Posteriors
        Model outputs of the whole recording.
    settings : TrackerSettings
        With thresholds filled in, such as ``transcription.settings`` with some replaced.
    duration : float, optional
        Length of the recording in seconds; no note ends after it.

    Returns
    -------
    list of Note
        Sorted by onset, then pitch; no two of one pitch overlap.

    Raises
    ------
    UsageError
        If a threshold is None, the duration is negative, or an argument is of another kind.
    """
    check_class("posteriors", posteriors, Posteriors, optional=False)
    check_class("settings", settings, TrackerSettings, optional=False)
    if duration is not None and not (duration := number("duration", duration)) >= 0:
        raise UsageError(f"duration is {duration:g} s; it must not be negative")
    tracker = tracker_for(settings)
    shortest = Limits.of(settings).shortest(posteriors.frame_rate)
    notes = end_by(tracker.push(posteriors) + tracker.flush(), duration, shortest)
    return sorted(notes, key=lambda n: (n.onset, n.pitch))
