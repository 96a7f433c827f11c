"""The compact list of notes: a sequence like any other."""

from __future__ import annotations

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basic_transcribe.notelist import NoteList
from basic_transcribe.types import BEND_UNIT, Note, PitchBend

finite = st.floats(allow_nan=False, allow_infinity=False)
bends = st.builds(
    lambda start, step, values: PitchBend(start, step, np.array(values, np.float32) * np.float32(BEND_UNIT)),
    finite,
    finite,
    st.lists(st.integers(-32767, 32767), max_size=4),
)
notes_strategy = st.lists(
    st.builds(
        Note,
        st.integers(0, 3).map(float) | finite,
        finite,
        st.integers(0, 127),
        st.integers(0, 127),
        st.floats(0, 1),
        st.none() | bends,
    ),
    max_size=12,
)


@given(notes_strategy, st.integers(0, 12), st.slices(12))
def test_it_is_the_sequence_it_was_made_from(notes: list[Note], cut: int, part: slice) -> None:
    found = NoteList(notes[:cut])
    found.extend(notes[cut:])
    assert found == notes
    assert tuple(notes) == found
    assert list(found) == notes
    assert len(found) == len(notes)
    assert found[part] == tuple(notes[part])
    assert [found[i] for i in range(-len(notes), len(notes))] == notes * 2
    for again in (copy.deepcopy(found), pickle.loads(pickle.dumps(found)), NoteList(found)):
        assert again == found
    found.sort()
    assert found == sorted(notes, key=lambda note: (note.onset, note.pitch))


def test_what_differs_is_not_equal() -> None:
    note = Note(0.0, 1.0, 60, 80, 0.9, PitchBend(0.0, 0.1, np.zeros(2, np.float32)))
    assert NoteList([note]) != [note, note]
    assert NoteList([note]) != [Note(0.0, 1.0, 60, 80, 0.9)]
    assert NoteList([note]) != note
    assert repr(NoteList([note])) == "<NoteList of 1 notes>"
    for beyond in (1, -2):
        with pytest.raises(IndexError):
            NoteList([note])[beyond]


def test_changing_a_bend_does_not_change_the_list() -> None:
    notes = NoteList([Note(0.0, 1.0, 60, 80, 0.9, PitchBend(0.0, 0.1, np.ones(2, np.float32)))])
    bend = notes[0].bend
    assert bend is not None
    bend.semitones[:] = 0
    assert notes[0].bend == PitchBend(0.0, 0.1, np.ones(2, np.float32))


def test_a_bend_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bends by 8\.5 semitones"):
        NoteList([Note(0.0, 1.0, 60, 80, 0.9, PitchBend(0.0, 0.1, np.array([0, -8.5], np.float32)))])


def test_it_takes_little_memory() -> None:
    """A note with 22 values of bend, as on a guitar: 500 bytes as objects."""
    count = 20_000
    values = np.zeros(22, np.float32)
    tracemalloc.start()
    try:
        notes = NoteList(Note(i, i + 0.25, 60, 80, 0.9, PitchBend(i, 0.0116, values)) for i in range(count))
        notes.sort()
        used, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 120 * count
    assert peak < 160 * count
