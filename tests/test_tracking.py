"""Which tracker follows what: a voice alone as a line, all else as many notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_monophonic import SETTINGS as LINE
from test_monophonic import sing
from test_notes import EXAMPLES, PITCHES, RATE, Recipe, empty, last_frame, tracker_settings

from basic_transcribe.errors import UsageError
from basic_transcribe.monophonic import MonophonicTracker
from basic_transcribe.notes import NoteTracker
from basic_transcribe.tracking import (
    CHUNK,
    CLEARER,
    DELAY,
    ENOUGH,
    PATIENCE,
    SECOND,
    AutomaticTracker,
    track_notes,
    tracker_for,
)
from basic_transcribe.types import Note, Posteriors, TrackerSettings

ALL, FOUND_OUT = replace(LINE, monophonic=False), replace(LINE, monophonic=None)
SUNG = replace(LINE, onset_threshold=0.5 + CLEARER * (1 - 0.5))
VOICE, FLUTE, CHORDS = (60.4, 61.6, 61.4), (60.0, 62.0, 64.0), (64.0, 60.0, 62.0)
LENGTH = 40  # frames of a note


def play(kind: Sequence[float], frames: int, p: Posteriors | None = None, start: int = 0) -> Posteriors:
    """Posteriors in which notes of these pitches follow each other; a chord of all of them if they are CHORDS."""
    p = empty(start + frames) if p is None else p
    for number, begin in enumerate(range(start, start + frames - LENGTH + 1, LENGTH)):
        for pitch in kind if kind is CHORDS else (kind[number % len(kind)],):
            sing(p, begin + 2, begin + LENGTH - 2, pitch)
    return p


def fed(p: Posteriors, settings: TrackerSettings, size: int) -> list[Note]:
    tracker = AutomaticTracker(settings)
    return [n for i in range(0, len(p), size) for n in tracker.push(p.slice(i, i + size))] + tracker.flush()


# ---------------------------------------------------------------- what is chosen


@pytest.mark.parametrize("frames", [2 * LENGTH, ENOUGH - 10, ENOUGH + 500])
@pytest.mark.parametrize(("kind", "expected"), [(VOICE, SUNG), (FLUTE, ALL), (CHORDS, ALL)])
def test_a_voice_alone_is_a_line(kind: tuple[float, ...], expected: TrackerSettings, frames: int) -> None:
    p = play(kind, frames)
    notes = track_notes(p, FOUND_OUT)
    assert notes == track_notes(p, expected)
    assert kind is FLUTE or notes != track_notes(p, replace(expected, monophonic=not expected.monophonic))
    assert len(notes) == len(range(0, frames - LENGTH + 1, LENGTH)) * (3 if kind is CHORDS else 1)


def test_a_voice_needs_clearer_onsets_than_a_line_that_was_asked_for() -> None:
    p = play(VOICE, 600, empty(700))
    sing(p, 620, 644, 64, onset=0.6, note=0.5)
    asked_for, found = track_notes(p, LINE), track_notes(p, FOUND_OUT)
    assert [n.pitch for n in asked_for] == [*(n.pitch for n in found), 64]


def test_a_few_frames_are_not_called_a_voice() -> None:
    p = empty(200)
    sing(p, 20, 40, 60.4)
    assert track_notes(p, FOUND_OUT) == track_notes(p, ALL)


def test_harmonics_and_echoes_do_not_hide_a_voice() -> None:
    p = play(VOICE, 1200)
    for start in range(100, 1100, 200):
        sing(p, start, start + 8, 64)
    assert track_notes(p, FOUND_OUT) == track_notes(p, SUNG)


def test_what_noise_leaves_beside_a_voice_does_not_hide_it() -> None:
    p = play(VOICE, 1200)
    p.note[:, 4] = 0.99 * SECOND
    tracker = AutomaticTracker(FOUND_OUT)
    tracker.push(p)
    assert tracker.line
    p.note[:, 4] = SECOND
    tracker = AutomaticTracker(FOUND_OUT)
    tracker.push(p)
    assert not tracker.line


def with_several(p: Posteriors, first: int, each: int) -> Posteriors:
    """From a chunk on, the first few frames of a note's middle in each chunk have another note beside it."""
    for start in range(first * CHUNK, len(p) - CHUNK, CHUNK):
        alone = np.flatnonzero((p.note[start : start + CHUNK] >= 0.5).sum(axis=1) == 1) + start
        p.note[alone[:each], 4] = 0.9
    return p


@pytest.mark.parametrize(("each", "line"), [(3, True), (6, False)])
def test_a_voice_may_have_others_beside_it_in_a_twentieth_of_its_frames(each: int, line: bool) -> None:
    tracker = AutomaticTracker(FOUND_OUT)
    tracker.push(with_several(play(VOICE, ENOUGH + 200), 0, each))
    assert tracker.line is line


@pytest.mark.parametrize(("each", "line"), [(8, True), (10, False)])
def test_what_others_play_beside_a_line_is_forgotten_by_and_by(each: int, line: bool) -> None:
    tracker = AutomaticTracker(FOUND_OUT)
    tracker.push(with_several(play(VOICE, 40 * CHUNK), 9, each))
    assert tracker.line is line


@pytest.mark.parametrize(("kind", "line"), [((62, 62, 60.4, 62, 62), False), ((62, 62, 60.4), True)])
def test_a_voice_strays_from_its_semitones_for_a_quarter_of_its_time(kind: Sequence[float], line: bool) -> None:
    tracker = AutomaticTracker(FOUND_OUT)
    tracker.push(play(kind, 20 * LENGTH))
    assert tracker.line is line


def test_a_voice_that_accompanies_itself_is_no_line() -> None:
    p = play(VOICE, 1200)
    for start in range(100, 1100, 100):
        sing(p, start, start + 20, 64)
    assert track_notes(p, FOUND_OUT) == track_notes(p, ALL)


@pytest.mark.parametrize("silent", [0, 100, 3 * PATIENCE])
def test_silence_before_it_does_not_matter(silent: int) -> None:
    p = play(VOICE, ENOUGH + 300, start=silent)
    notes = track_notes(p, FOUND_OUT)
    assert len(notes) == len(range(0, ENOUGH + 300 - LENGTH + 1, LENGTH))
    assert notes == track_notes(p, SUNG)
    for before, after in pairwise(notes):
        assert before.offset <= after.onset


def test_others_may_join_in() -> None:
    begin = 12 * CHUNK
    p = play(CHORDS, 800, play(VOICE, begin, empty(begin + 800)), begin)
    notes = track_notes(p, FOUND_OUT)
    moment = (begin - DELAY * CHUNK) / RATE
    before = [n for n in notes if n.offset < moment]
    assert before == [n for n in track_notes(p, SUNG) if n.offset < moment]
    assert len(before) > 15
    after = (begin + DELAY * CHUNK) / RATE
    assert [n for n in notes if n.onset > after] == [n for n in track_notes(p, ALL) if n.onset > after]
    chords = {round(n.onset, 2) for n in notes if n.onset >= begin / RATE}
    assert len(chords) == len(range(0, 800 - LENGTH + 1, LENGTH))  # not one is lost


def held_on(frames: int, stop: int, pitch: float = 60.4) -> tuple[Posteriors, int, int]:
    """A voice that holds its last note up to ``stop``, ``begin`` to where others have joined in; and when it begins."""
    begin = 12 * CHUNK
    start = begin - 4 * CHUNK
    p = play(VOICE, start, empty(frames))
    sing(p, start, stop, pitch)
    for at in range(begin, frames - LENGTH, LENGTH):
        for other in (62, 64):
            sing(p, at + 2, at + LENGTH - 2, other)
    return p, start, begin


@pytest.mark.parametrize("beyond", [-CHUNK, -10, 0, 30, 300])
def test_a_note_that_is_held_where_others_join_in_goes_on(beyond: int) -> None:
    p, start, begin = held_on(12 * CHUNK + 500, 12 * CHUNK + beyond)
    notes = track_notes(p, FOUND_OUT)
    assert len([n for n in notes if n.pitch in (62, 64) and n.onset > begin / RATE]) > 20  # others have joined in
    (note,) = (n for n in notes if n.onset > (start - 5) / RATE and n.pitch == 60)
    (alone,) = (n for n in track_notes(held_on(begin, begin)[0], SUNG) if n.onset > (start - 5) / RATE)
    assert replace(note, offset=alone.offset, bend=None) == replace(alone, bend=None)
    assert note.offset == pytest.approx((begin + beyond) / RATE, abs=2 / RATE)
    assert note.bend is not None
    assert 0 <= note.bend.start + len(note.bend.semitones) / RATE - note.offset < 1 / RATE
    np.testing.assert_allclose(note.bend.semitones[3:-3], 0.4, atol=0.1)  # on both sides
    for size in (1, 37, CHUNK, 1000):
        assert sorted(fed(p, FOUND_OUT, size), key=lambda n: (n.onset, n.pitch)) == notes


@pytest.mark.parametrize("row", [-3 * CHUNK, -2 * CHUNK - 1, -2 * CHUNK, -2 * CHUNK + 1, -CHUNK, 20])
def test_a_note_that_is_held_where_others_join_in_may_be_struck_again(row: int) -> None:
    p, start, begin = held_on(12 * CHUNK + 500, 12 * CHUNK + 300)
    p.onset[begin + row - 1 : begin + row + 2, 0] = 0.5, 1, 0.5
    notes = [n for n in track_notes(p, FOUND_OUT) if n.onset > (start - 5) / RATE and n.pitch == 60]
    assert [n.onset * RATE for n in notes] == pytest.approx([start, begin + row], abs=0.5)
    assert notes[0].offset == pytest.approx(notes[1].onset, abs=1 / RATE)
    assert notes[0].offset <= notes[1].onset
    assert notes[1].offset == pytest.approx((begin + 300) / RATE, abs=2 / RATE)


def test_a_note_that_is_held_where_others_join_in_ends_where_it_is_silent() -> None:
    p, start, begin = held_on(12 * CHUNK + 500, 12 * CHUNK + 300)
    p.note[: begin + 300, :2] *= np.arange(begin + 300)[:, None] < begin - 4 * CHUNK + 20  # only the contour goes on
    notes = [n for n in track_notes(p, FOUND_OUT) if n.onset > (start - 5) / RATE and n.pitch == 60]
    assert len(notes) == 1
    assert notes[0].offset == pytest.approx((begin - DELAY * CHUNK) / RATE, abs=1 / RATE)


@pytest.mark.parametrize("row", range(-8, 5))
def test_a_note_that_begins_where_others_join_in_is_found_once(row: int) -> None:
    begin = 12 * CHUNK
    moment = begin - DELAY * CHUNK + row
    p = play(CHORDS, 800, play(VOICE, moment - 60, empty(begin + 800)), begin)
    sing(p, moment, begin - 20, 62.3)
    around = [n for n in track_notes(p, FOUND_OUT) if (moment - 20) / RATE < n.onset < begin / RATE]
    assert [n.pitch for n in around] == [62]
    assert around[0].onset * RATE == pytest.approx(moment, abs=0.5)
    assert around[0].offset * RATE == pytest.approx(begin - 20, abs=2)


def test_what_has_been_many_notes_stays_so() -> None:
    p = play(VOICE, 1000, play(CHORDS, 400, empty(1400)), 400)
    assert track_notes(p, FOUND_OUT) == track_notes(p, ALL)


def test_the_settings_choose() -> None:
    assert isinstance(tracker_for(ALL), NoteTracker)
    assert isinstance(tracker_for(LINE), MonophonicTracker)
    assert isinstance(tracker_for(FOUND_OUT), AutomaticTracker)
    assert TrackerSettings().monophonic is None
    with pytest.raises(UsageError, match="no thresholds"):
        AutomaticTracker(TrackerSettings())


# ---------------------------------------------------------------- what must hold for anything

kinds = st.sampled_from([VOICE, FLUTE, CHORDS, ()])
medleys = st.lists(st.tuples(kinds, st.integers(1, 900)), min_size=1, max_size=4)


def medley(parts: list[tuple[tuple[float, ...], int]]) -> Posteriors:
    p, start = empty(sum(frames for _, frames in parts)), 0
    for kind, frames in parts:
        if kind:
            play(kind, frames, p, start)
        start += frames
    return p


@EXAMPLES
@given(medleys, tracker_settings, st.lists(st.integers(0, 700), max_size=8), last_frame)
def test_pieces_of_any_size_give_the_same_well_formed_notes(
    parts: list[tuple[tuple[float, ...], int]], chosen: TrackerSettings, sizes: list[int], part: float
) -> None:
    p, chosen = medley(parts), replace(chosen, monophonic=None)
    duration = (len(p) - 1 + part) / p.frame_rate
    tracker, notes, start = tracker_for(chosen), [], 0
    for size in [*sizes, len(p)]:
        notes += tracker.push(p.slice(start, start + size))
        start = min(len(p), start + size)
    notes = sorted(notes + tracker.flush(duration), key=lambda n: (n.onset, n.pitch))
    assert notes == track_notes(p, chosen, duration)
    for pitch in {n.pitch for n in notes}:
        line = [n for n in notes if n.pitch == pitch]
        assert all(0 <= n.onset < n.offset <= duration for n in line)
        assert all(before.offset <= after.onset for before, after in pairwise(line))


@EXAMPLES
@given(st.integers(0, 2**32 - 1), st.sampled_from(["noise", "smooth", "steps", "binary"]), tracker_settings)
def test_noise_gives_the_same_notes_in_pieces(seed: int, kind: str, chosen: TrackerSettings) -> None:
    p, chosen = Recipe(seed, 700, kind).posteriors(), replace(chosen, monophonic=None)
    whole = track_notes(p, chosen)
    assert sorted(fed(p, chosen, 23), key=lambda n: (n.onset, n.pitch)) == whole


def test_nothing() -> None:
    assert AutomaticTracker(FOUND_OUT).flush() == []
    assert track_notes(empty(0), FOUND_OUT) == []
    assert track_notes(empty(3 * PATIENCE), FOUND_OUT) == []


# ---------------------------------------------------------------- in time


@pytest.mark.parametrize(("kind", "chunks"), [(CHORDS, 3), (FLUTE, ENOUGH // CHUNK + 2), (VOICE, ENOUGH // CHUNK + 6)])
def test_notes_are_not_held_for_long(kind: tuple[float, ...], chunks: int) -> None:
    tracker, p = AutomaticTracker(FOUND_OUT), play(kind, 20 * CHUNK)
    given = [bool(tracker.push(p.slice(start, start + CHUNK))) for start in range(0, len(p), CHUNK)]
    assert given.index(True) < chunks
    assert sum(given[chunks:]) >= len(given[chunks:]) - 2  # and then they come as they end


def test_memory_does_not_grow_while_it_waits() -> None:
    tracker, held = AutomaticTracker(FOUND_OUT), 0
    for _ in range(100):
        tracker.push(empty(CHUNK))
        held = max(held, len(tracker._held))
    assert held <= DELAY + 1
    one = empty(CHUNK)
    sing(one, 10, 12, 60.4)
    for _ in range(100):
        tracker.push(one)
        held = max(held, len(tracker._held))
    assert held * CHUNK <= PATIENCE


def test_a_model_without_bins_knows_no_voice() -> None:
    p = play(VOICE, ENOUGH + 100)
    coarse = replace(p, contour=p.contour.reshape(len(p), PITCHES, -1).max(axis=2))
    assert coarse.bins_per_semitone == 1
    assert track_notes(coarse, FOUND_OUT) == track_notes(coarse, ALL)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((None, FOUND_OUT), "posteriors is None; give Posteriors(...)"),
        ((empty(4), {}), "settings is {}; give TrackerSettings(...)"),
        ((empty(4), FOUND_OUT, -3), "duration is -3 s; it must not be negative"),
        ((empty(4), FOUND_OUT, np.nan), "duration is nan s; it must not be negative"),
        ((empty(4), FOUND_OUT, "3"), "duration is '3'; give a number"),
    ],
)
def test_arguments_of_another_kind(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        track_notes(*arguments)
    assert str(caught.value) == said
