"""Where notes end: what an end's latitude, its chance and the others that end with it mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe.ends import FARTHEST, LATE, NEAREST, Over, ends

EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True, database=None)
FIRST = 1000


def over(events: dict[int, float], silent: int, first: int = 0, begun: int = 0, faint: float = 0.0) -> Over:
    """A note with triangles of so much offset posterior; frames are counted from FIRST."""
    offset = np.full(silent + LATE, faint, np.float32)
    for frame, value in events.items():
        offset[frame - 1 : frame + 2] = value / 2, value, value / 2
    return Over(offset[first:], FIRST + first, FIRST + begun, FIRST + silent)


def end(events: dict[int, float], silent: int, **more: int | float) -> float:
    (found,) = ends([over(events, silent, **more)])  # type: ignore[arg-type]
    return found - FIRST


def test_a_note_without_an_end_ends_where_it_is_silent() -> None:
    assert end({}, 80) == 80
    assert end({}, 80, faint=0.004) == 80
    assert end({1: 1.0}, 80) == 80  # as soon as it begins
    assert ends([]) == []


@pytest.mark.parametrize("frame", [10, 50, 60, 500])
def test_a_clear_end_is_kept(frame: int) -> None:
    assert end({frame: 1.0}, 600) == pytest.approx(frame, abs=0.2)


def test_ends_within_the_latitude_are_one_uncertain_end() -> None:
    assert end({100: 0.4, 110: 0.4}, 300) == pytest.approx(105, abs=1)
    assert end({100: 0.4, 110: 0.1}, 300) == pytest.approx(102, abs=1)
    # Of short notes little more than 50 ms is; of long ones a quarter of a second.
    for begun, apart in ((85, 2 * NEAREST + 2), (0, 2 * FARTHEST + 2)):
        assert end({100: 0.4, 100 + apart: 0.2}, 300, begun=begun) == pytest.approx(100, abs=0.2)


def test_of_ends_far_apart_the_likelier_is_chosen_and_the_first_of_equals() -> None:
    assert end({100: 0.2, 200: 0.8}, 300) == pytest.approx(200, abs=0.2)
    assert end({100: 0.8, 200: 0.2}, 300) == pytest.approx(100, abs=0.2)
    assert end({100: 0.8, 200: 0.8}, 300) == pytest.approx(100, abs=0.2)
    assert end({100: 0.8, 200: 0.8}, 300, first=110) == pytest.approx(200, abs=0.2)


def test_many_faint_frames_make_no_end_of_what_is_clear() -> None:
    assert end({290: 0.9}, 300, faint=0.004) == pytest.approx(290, abs=1)
    assert end({290: 0.9}, 300, faint=0.006) == pytest.approx(290, abs=5)


def test_no_note_ends_after_it_is_silent() -> None:
    assert end({82: 1.0}, 80) == 80


VALUES = (0.0, 0.0, 0.0, 0.004, 0.01, 0.1, 0.25, 0.5, 1.0, -3.0, 1e30)
posteriors = st.lists(st.sampled_from(VALUES), min_size=1, max_size=120)


@EXAMPLES
@given(st.lists(st.tuples(posteriors, st.integers(-200, 0), st.integers(0, 119)), max_size=6))
def test_each_note_ends_as_if_it_were_alone(drawn: list[tuple[list[float], int, int]]) -> None:
    notes = [
        Over(np.array(values, np.float32), FIRST, FIRST + begun, FIRST + min(silent, len(values) - 1))
        for values, begun, silent in drawn
    ]
    found = ends(notes)
    assert found == [ends([note])[0] for note in notes]
    assert all(note.first <= frame <= note.silent for note, frame in zip(notes, found, strict=True))
