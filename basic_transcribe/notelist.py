"""Many notes in little memory: a recording of ten hours can have a quarter of a million."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

import numpy as np

from .types import BEND_UNIT, Note, PitchBend

AT_ONCE = 256  # notes added by the same few operations on arrays
NO_BEND = np.zeros(0, np.float32)


class NoteList(Sequence[Note]):
    """A sequence of notes, equal to a tuple or list of the same ones, in a fifth of their memory.

    Kept are columns of numbers; each :class:`Note` is made anew whenever it is asked for. A slice is a tuple of notes.

    Parameters
    ----------
    notes : iterable of Note
        Pitches and velocities from 0 to 255; bends within 8 semitones, rounded to multiples of ``BEND_UNIT``.

    Raises
    ------
    ValueError
        If a bend goes further.

    Examples
    --------
    >>> notes = NoteList([Note(1.0, 1.5, 64, 80, 0.9), Note(0.5, 1.0, 60, 80, 0.9)])
    >>> notes.sort()
    >>> [note.pitch for note in notes]
    [60, 64]
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, notes: Iterable[Note] = ()) -> None:
        self._onset, self._offset, self._confidence = array("d"), array("d"), array("d")
        self._pitch, self._velocity = array("B"), array("B")
        # The bends: a note has ``_count`` values from ``_first`` on, or no bend if that is -1.
        self._start, self._step = array("d"), array("d")
        self._first, self._count = array("q"), array("i")
        self._values = array("h")  # in BEND_UNIT
        self.extend(notes)

    def extend(self, notes: Iterable[Note]) -> None:
        """Add notes at the end."""
        coming = iter(notes)
        while some := list(islice(coming, AT_ONCE)):
            self._append(some)

    def _append(self, notes: list[Note]) -> None:
        bends = [np.asarray(note.bend.semitones, np.float32) if note.bend else NO_BEND for note in notes]
        values = np.rint(np.concatenate([NO_BEND, *bends]) / BEND_UNIT)
        if np.abs(values).max(initial=0) > 32767:
            raise ValueError(f"a note bends by {np.abs(values).max() * BEND_UNIT:.1f} semitones")
        first = len(self._values)
        self._values.frombytes(values.astype(np.int16).tobytes())
        for note, semitones in zip(notes, bends, strict=True):
            bend = note.bend
            self._onset.append(note.onset)
            self._offset.append(note.offset)
            self._confidence.append(note.confidence)
            self._pitch.append(note.pitch)
            self._velocity.append(note.velocity)
            self._start.append(bend.start if bend else 0.0)
            self._step.append(bend.step if bend else 0.0)
            self._first.append(first if bend else -1)
            self._count.append(len(semitones))
            first += len(semitones)

    def sort(self) -> None:
        """Sort by onset, then pitch; equal ones keep their order."""
        order = np.lexsort((np.frombuffer(self._pitch, np.uint8), np.frombuffer(self._onset)))
        for column in self._columns:
            values = np.frombuffer(column, column.typecode)
            values[:] = values[order]

    @property
    def _columns(self) -> tuple[array[float] | array[int], ...]:
        """What has one entry a note."""
        return (
            *(self._onset, self._offset, self._confidence, self._pitch, self._velocity),
            *(self._start, self._step, self._first, self._count),
        )

    def __len__(self) -> int:
        return len(self._onset)

    def __iter__(self) -> Iterator[Note]:
        return map(self._note, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Note: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Note, ...]: ...
    def __getitem__(self, index: int | slice) -> Note | tuple[Note, ...]:
        rows = range(len(self))[index]  # which knows what is beyond the end, and what a negative index means
        return self._note(rows) if isinstance(rows, int) else tuple(map(self._note, rows))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NoteList | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} notes>"

    def _note(self, row: int) -> Note:
        first, bend = self._first[row], None
        if first >= 0:
            values = np.frombuffer(self._values[first : first + self._count[row]], np.int16)
            bend = PitchBend(self._start[row], self._step[row], (values * BEND_UNIT).astype(np.float32))
        return Note(
            *(self._onset[row], self._offset[row], self._pitch[row], self._velocity[row], self._confidence[row]), bend
        )
