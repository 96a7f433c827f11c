"""The note tracker: what must hold for any posteriors, and what must come of posteriors made by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe import exports
from basic_transcribe.bends import Begun, window
from basic_transcribe.errors import UsageError
from basic_transcribe.evidence import pitch_range
from basic_transcribe.notes import NoteTracker
from basic_transcribe.tracking import track_notes, tracker_for
from basic_transcribe.types import Float32, Note, Posteriors, TrackerSettings

GOLDEN = Path(__file__).parent / "golden"
RATE = 22050 / 256
LOWEST, PITCHES, BINS = 60, 5, 3
SETTINGS = TrackerSettings(
    onset_threshold=0.5,
    split_threshold=0.5,
    frame_threshold=0.3,
    onset_delay=0.0,
    minimum_note_length=0.0,
    monophonic=False,
)
EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def empty(frames: int, level: float = -20.0) -> Posteriors:
    """Posteriors of silence."""
    shape = (frames, PITCHES)
    onset, note, offset = (np.zeros(shape, np.float32) for _ in range(3))
    contour = np.zeros((frames, PITCHES * BINS), np.float32)
    return Posteriors(onset, note, offset, contour, np.full(shape, level, np.float32), RATE, LOWEST)


def draw(p: Posteriors, start: int, stop: int, pitch: int, *, onset: float = 0.9, note: float = 0.9) -> None:
    """Draw a note: a triangle of an onset, a plateau of a note, a line of a contour."""
    column = pitch - LOWEST
    p.note[start:stop, column] = note
    p.contour[start:stop, column * BINS + BINS // 2] = note
    if onset:
        p.onset[start, column] = onset
        for row in (start - 1, start + 1):
            if 0 <= row < len(p):
                p.onset[row, column] = max(p.onset[row, column], 0.4 * onset)


@dataclass(frozen=True)
class Recipe:
    """Random posteriors, told by a few numbers so that a failure can be read."""

    seed: int
    frames: int
    kind: str

    def posteriors(self) -> Posteriors:
        rng = np.random.default_rng(self.seed)

        def random(width: int) -> Float32:
            x = rng.random((self.frames, width))
            if self.kind == "smooth":
                padded = np.pad(x, ((4, 4), (0, 0)), mode="edge")
                x = np.clip(3 * (sum(padded[i : i + self.frames] for i in range(9)) / 9 - 0.35), 0, 1)
            elif self.kind == "steps":  # many ties
                x = np.round(x * 4) / 4
            elif self.kind == "binary":
                x = np.round(x)
            return x.astype(np.float32)

        values = [random(PITCHES), random(PITCHES), random(PITCHES), random(PITCHES * BINS)]
        level = rng.uniform(-150, 30, (self.frames, PITCHES)).astype(np.float32)
        return Posteriors(*values, level, RATE, LOWEST)


recipes = st.builds(
    Recipe, st.integers(0, 2**32 - 1), st.integers(1, 150), st.sampled_from(["noise", "smooth", "steps", "binary"])
)
tracker_settings = st.builds(
    TrackerSettings,
    onset_threshold=st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.95]),
    split_threshold=st.sampled_from([0.1, 0.5, 0.8]),
    frame_threshold=st.sampled_from([0.1, 0.25, 0.5, 0.9]),
    onset_delay=st.sampled_from([-8.0, 0.0, 8.0]),
    minimum_note_length=st.sampled_from([0.0, 30.0, 100.0]),
    pitch_bends=st.booleans(),
    monophonic=st.just(False),
)


# How much of the last frame's hop the recording fills.
last_frame = st.floats(0.01, 1)


def keys(notes: Sequence[Note]) -> list[tuple[float, float, int]]:
    return [(n.onset, n.offset, n.pitch) for n in notes]


def fed(p: Posteriors, size: int) -> list[Note]:
    """The notes that are found in blocks of so many frames."""
    tracker = NoteTracker(SETTINGS)
    return [note for row in range(0, len(p), size) for note in tracker.push(p.slice(row, row + size))]


# ---------------------------------------------------------------- what must hold for any posteriors


@EXAMPLES
@given(recipes, tracker_settings, last_frame)
def test_notes_are_well_formed(recipe: Recipe, chosen: TrackerSettings, part: float) -> None:
    p = recipe.posteriors()
    end = (len(p) - 1 + part) / p.frame_rate
    notes = track_notes(p, chosen, end)
    assert [(n.onset, n.pitch) for n in notes] == sorted((n.onset, n.pitch) for n in notes)
    for n in notes:
        assert LOWEST <= n.pitch < LOWEST + PITCHES
        assert np.isfinite([n.onset, n.offset, n.confidence]).all()
        assert 0 <= n.onset < n.offset <= end
        assert n.duration >= (chosen.minimum_note_length or 0) / 1000
        assert isinstance(n.velocity, int)
        assert 1 <= n.velocity <= 127
        assert 0 <= n.confidence <= 1
        assert n.bend is None or (len(n.bend.semitones) and np.isfinite(n.bend.semitones).all())
        assert chosen.pitch_bends or n.bend is None


@EXAMPLES
@given(recipes, tracker_settings)
def test_notes_of_one_pitch_do_not_overlap(recipe: Recipe, chosen: TrackerSettings) -> None:
    p = recipe.posteriors()
    notes = track_notes(p, chosen)
    for pitch in {n.pitch for n in notes}:
        line = [n for n in notes if n.pitch == pitch]
        for before, after in pairwise(line):
            assert before.onset < before.offset <= after.onset


@EXAMPLES
@given(recipes, tracker_settings, st.lists(st.integers(0, 40), max_size=20), last_frame)
def test_pieces_of_any_size_give_the_same_notes(
    recipe: Recipe, chosen: TrackerSettings, sizes: list[int], part: float
) -> None:
    p = recipe.posteriors()
    duration = (len(p) - 1 + part) / p.frame_rate
    tracker, notes, start = NoteTracker(chosen), [], 0
    for size in [*sizes, len(p)]:
        notes += tracker.push(p.slice(start, start + size))
        start = min(len(p), start + size)
    notes += tracker.flush(duration)
    assert sorted(notes, key=lambda n: (n.onset, n.pitch)) == track_notes(p, chosen, duration)


@EXAMPLES
@given(recipes, tracker_settings)
def test_single_frames_give_the_same_notes(recipe: Recipe, chosen: TrackerSettings) -> None:
    p = recipe.posteriors()
    tracker = NoteTracker(chosen)
    notes = [n for i in range(len(p)) for n in tracker.push(p.slice(i, i + 1))] + tracker.flush()
    assert sorted(notes, key=lambda n: (n.onset, n.pitch)) == track_notes(p, chosen)


@EXAMPLES
@given(recipes, tracker_settings, st.integers(LOWEST - 2, LOWEST + PITCHES + 2), st.integers(0, 6))
def test_the_range_of_frequencies_keeps_exactly_the_notes_within(
    recipe: Recipe, chosen: TrackerSettings, low: int, width: int
) -> None:
    p = recipe.posteriors()
    high = low + width
    hertz = [440 * 2 ** ((pitch - 69) / 12) for pitch in (low, high)]
    ranged = replace(chosen, minimum_frequency=hertz[0], maximum_frequency=hertz[1])
    assert keys(track_notes(p, ranged)) == [k for k in keys(track_notes(p, chosen)) if low <= k[2] <= high]


@EXAMPLES
@given(recipes, tracker_settings, st.floats(0, 300), st.floats(0, 300))
def test_a_longer_minimum_only_removes_notes(recipe: Recipe, chosen: TrackerSettings, a: float, b: float) -> None:
    p = recipe.posteriors()
    shorter, longer = (
        keys(track_notes(p, replace(chosen, minimum_note_length=value))) for value in (min(a, b), max(a, b))
    )
    assert set(longer) <= set(shorter)
    assert all(offset - onset >= max(a, b) / 1000 - 0.01 for onset, offset, _ in longer)


@pytest.mark.parametrize("frames", [0, 1, 2, 5, 10, 11])
def test_silence_has_no_notes(frames: int) -> None:
    assert track_notes(empty(frames), SETTINGS) == []


def test_a_tracker_without_frames_has_no_notes() -> None:
    tracker = NoteTracker(SETTINGS)
    assert tracker.flush(1.0) == []
    assert tracker.seconds == 0


def test_thresholds_must_be_filled_in() -> None:
    with pytest.raises(UsageError, match="resolved"):
        NoteTracker(TrackerSettings())


# ---------------------------------------------------------------- posteriors made by hand


def test_one_note() -> None:
    p = empty(100)
    draw(p, 20, 60, 62)
    (note,) = track_notes(p, SETTINGS)
    assert note.pitch == 62
    assert note.onset == pytest.approx(20 / RATE, abs=1e-6)
    assert note.offset == pytest.approx(60 / RATE, abs=1.5 / RATE)
    assert note.confidence == pytest.approx(0.9, abs=0.06)
    assert note.bend is not None
    np.testing.assert_allclose(note.bend.semitones, 0, atol=1e-6)


def test_a_chord() -> None:
    p = empty(100)
    for pitch in (60, 62, 64):
        draw(p, 20, 60, pitch)
    assert [n.pitch for n in track_notes(p, SETTINGS)] == [60, 62, 64]


def test_a_note_may_begin_in_the_first_frame_and_last_to_the_end() -> None:
    p = empty(50)
    draw(p, 0, 50, 61)
    (note,) = track_notes(p, SETTINGS)
    assert note.onset == pytest.approx(0, abs=0.5 / RATE)
    assert note.offset == pytest.approx(50 / RATE)


def test_the_end_of_the_recording_cuts_notes() -> None:
    p = empty(50)
    draw(p, 10, 50, 61)
    (note,) = track_notes(p, SETTINGS, 0.4)
    assert note.offset == 0.4


@pytest.mark.parametrize("monophonic", [False, True, None])
@pytest.mark.parametrize(("shortest", "count"), [(90, 1), (110, 0)])
def test_a_note_that_the_end_of_the_recording_cuts_short_is_dropped(
    monophonic: bool | None, shortest: float, count: int
) -> None:
    p = empty(50)
    draw(p, 40, 50, 61, onset=1)
    chosen, end = replace(SETTINGS, minimum_note_length=shortest, monophonic=monophonic), 40 / RATE + 0.1
    assert len(p) / RATE - 40 / RATE > 0.11  # the frames alone would do
    tracker = tracker_for(chosen)
    assert len(tracker.push(p) + tracker.flush(end)) == len(track_notes(p, chosen, end)) == count


def test_a_note_that_was_followed_by_another_tracker_goes_on() -> None:
    p = empty(100)
    draw(p, 20, 80, 62)
    (whole,) = track_notes(p, SETTINGS)
    contour = [window(p.contour[20:50], 2 * BINS + BINS // 2)]
    begun = Begun(2, 20, whole.onset, whole.velocity, whole.confidence, contour)
    tracker, notes = NoteTracker(SETTINGS, 50, begun), []
    for row in range(50, 100):
        notes += tracker.push(p.slice(row, row + 1))
        sounding = [(n.onset, n.pitch, n.velocity, n.confidence) for n in tracker.sounding]
        assert len(sounding) + len(notes) == 1
        assert sounding in ([], [(whole.onset, 62, whole.velocity, whole.confidence)])
    assert notes == [whole]


def test_repeated_notes_are_split_at_their_onsets() -> None:
    p = empty(100)
    starts = (10, 22, 34, 46)
    for start in starts:
        draw(p, start, start + 12, 63)
    notes = track_notes(p, SETTINGS)
    np.testing.assert_allclose([n.onset * RATE for n in notes], starts, atol=1e-4)
    np.testing.assert_allclose([n.offset * RATE for n in notes], [22, 34, 46, 58], atol=1.5)


def test_a_note_is_split_only_by_a_clear_onset() -> None:
    p = empty(100)
    draw(p, 10, 80, 62)
    for row, value in ((40, 0.6), (60, 0.8)):
        p.onset[row - 1 : row + 2, 2] = value / 2, value, value / 2
    notes = track_notes(p, replace(SETTINGS, split_threshold=0.7))
    np.testing.assert_allclose([n.onset * RATE for n in notes], [10, 60], atol=0.5)


def test_a_note_ends_where_its_end_is_likeliest() -> None:
    p = empty(100)
    draw(p, 10, 50, 62)
    p.note[50:80, 2] = 0.5  # the room rings on
    for row, value in ((30, 0.3), (50, 0.8), (72, 0.3)):  # the first of them while the note is still strong
        p.offset[row - 1 : row + 2, 2] = value / 2, value, value / 2
    (note,) = track_notes(p, SETTINGS)
    assert note.offset == pytest.approx(50 / RATE, abs=1 / RATE)
    assert note.bend is not None
    assert len(note.bend.semitones) == pytest.approx((note.offset - note.onset) * RATE, abs=1)


@pytest.mark.parametrize("size", [1, 50, 500])
@pytest.mark.parametrize("first", [0, 100])  # where a note of the same pitch may go before it
@pytest.mark.parametrize(
    # From where, how many of the 43 frames after the end are clear: 24 raise their mean to 4/3 of the threshold.
    ("clear", "count", "end"),
    [(160, 23, 161), (160, 24, 360), (159, 24, 161), (179, 23, 161), (179, 24, 360)],
)
def test_an_end_is_none_if_the_note_is_clearly_heard_after_it(
    clear: int, count: int, end: int, first: int, size: int
) -> None:
    p = empty(500)
    if first:
        draw(p, 10, first, 62, note=0.9)
    draw(p, 110, 160, 62, note=0.9)
    p.note[160:360, 2] = 0.5
    p.note[clear : clear + count, 2] = np.maximum(p.note[clear : clear + count, 2], 0.8)
    p.offset[159:162, 2] = 0.4, 0.8, 0.4
    assert [note.offset for note in fed(p, size)[-1:]] == pytest.approx([end / RATE])


@pytest.mark.parametrize("size", [1, 50, 500])
@pytest.mark.parametrize(
    # By which row alone the note is clear, where a weaker end lies, and where the note ends.
    ("row", "weaker", "end"),
    [(200, 300, 160.28), (201, 300, 299.96), (245, 300, 299.96), (300, 300, 299.96), (300, 301, 300.96)],
)
def test_an_end_is_none_from_the_first_row_on_by_which_the_note_is_clear(
    row: int, weaker: int, end: float, size: int
) -> None:
    p = empty(500)
    draw(p, 110, 160, 62)
    p.note[160:360, 2] = 0.5
    p.note[row - 42 : row - 30, 2] = p.note[row - 11 : row + 1, 2] = 0.8
    for at, value in ((160, 0.8), (weaker, 0.4)):
        p.offset[at - 1 : at + 2, 2] = value / 2, value, value / 2
    assert [note.offset for note in fed(p, size)] == pytest.approx([end / RATE], abs=0.01 / RATE)


@pytest.mark.parametrize("size", [1, 500])
def test_a_weaker_end_counts_after_one_that_is_none(size: int) -> None:
    p = empty(500)
    draw(p, 10, 212, 62)
    p.note[212:300, 2] = 0.5
    for row, value in ((60, 0.8), (210, 0.5)):
        p.offset[row - 1 : row + 2, 2] = value / 2, value, value / 2
    assert [note.offset for note in fed(p, size)] == pytest.approx([209.94 / RATE], abs=0.01 / RATE)


@pytest.mark.parametrize("size", [1, 20, 500])
@pytest.mark.parametrize(("frames", "value", "found"), [(43, 0.67, True), (42, 0.9, False), (300, 0.66, False)])
def test_a_swell_is_a_note_once_it_has_been_clear_for_half_a_second(
    frames: int, value: float, found: bool, size: int
) -> None:
    p = empty(500, level=-30.0)
    draw(p, 110, 110 + frames, 62, onset=0, note=value)
    notes = fed(p, size)
    assert [(n.pitch, n.velocity) for n in notes] == [(62, 88)] * found  # of its level
    if found:
        assert keys(notes) == [(110 / RATE, 153 / RATE, 62)]
        assert notes[0].confidence == pytest.approx(0.67 / (4 / 3))
        assert notes[0].bend is not None
        assert len(notes[0].bend.semitones) == 43


@pytest.mark.parametrize("size", [1, 20, 500])
@pytest.mark.parametrize(("rise", "onset"), [(20, 180), (44, 156), (57, 143), (58, 143), (200, 143)])
def test_a_swell_begins_where_it_was_last_low_at_most_a_second_before_it_is_clear(
    rise: int, onset: int, size: int
) -> None:
    p = empty(500)
    draw(p, 200 - rise, 200, 62, onset=0, note=0.4)
    draw(p, 200, 300, 62, onset=0, note=0.8)  # two thirds on average by frame 228
    p.level[:226] = -40
    (note,) = fed(p, size)
    assert note.onset * RATE == pytest.approx(onset)
    assert note.velocity == 108  # of its level by then
    assert note.confidence == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("dip", "found"), [(0.34, False), (0.35, True)])
def test_a_swell_is_not_clear_where_it_has_been_low(dip: float, found: bool) -> None:
    p = empty(200)
    draw(p, 30, 80, 62, onset=0)
    p.note[55, 2] = dip
    notes = track_notes(p, replace(SETTINGS, frame_threshold=0.35))
    assert [note.onset * RATE for note in notes] == pytest.approx([30] * found)


@pytest.mark.parametrize("size", [1, 20, 500])
def test_a_swell_whose_fundamental_comes_once_it_is_clear_is_none(size: int) -> None:
    p = empty(500)
    draw(p, 100, 300, 62, onset=0)
    p.contour[:150] = 0.2
    assert fed(p, size) == []


def test_a_swell_needs_a_fundamental_and_a_pitch_in_range() -> None:
    p = empty(200)
    for pitch in (60, 62, 64):
        draw(p, 30, 130, pitch, onset=0)
    p.contour[:, 2 * BINS : 3 * BINS] = 0.2
    p.contour[30:130, 4 * BINS + BINS - 1] = 0.9  # off the middle of the semitone
    p.contour[30:35, 2 * BINS + 1] = 0.9  # 0.28 on average
    assert [n.pitch for n in track_notes(p, SETTINGS)] == [60, 64]
    assert [n.pitch for n in track_notes(p, replace(SETTINGS, frame_threshold=0.27))] == [60, 62, 64]
    assert [n.pitch for n in track_notes(p, replace(SETTINGS, minimum_frequency=300.0))] == [64]


@pytest.mark.parametrize("size", [1, 20, 500])
def test_a_swell_is_split_and_ends_as_other_notes_do(size: int) -> None:
    p = empty(500)
    draw(p, 100, 300, 62, onset=0)
    for posterior, row in ((p.onset, 200), (p.offset, 280)):
        posterior[row - 1 : row + 2, 2] = 0.4, 0.8, 0.4
    expected = [(100 / RATE, 200 / RATE, 62), (200 / RATE, 281.34 / RATE, 62)]
    np.testing.assert_allclose(keys(fed(p, size)), expected, rtol=0, atol=0.01 / RATE)


def test_a_swell_leaves_the_end_of_the_note_before_it_alone() -> None:
    p = empty(400)
    draw(p, 50, 150, 62)
    p.offset[129:132, 2] = 0.4, 0.8, 0.4
    draw(p, 160, 300, 62, onset=0)
    expected = [(50 / RATE, 131.34 / RATE, 62), (160 / RATE, 300 / RATE, 62)]
    for first in range(140, 240):  # frames of the first of two blocks
        tracker = NoteTracker(SETTINGS)
        notes = tracker.push(p.slice(0, first)) + tracker.push(p.slice(first))
        np.testing.assert_allclose(keys(notes), expected, rtol=0, atol=0.01 / RATE)


@pytest.mark.parametrize(("threshold", "count"), [(0.3, 1), (0.59, 1), (0.61, 0), (0.9, 0)])
def test_the_onset_threshold_says_how_clear_a_swell_must_be(threshold: float, count: int) -> None:
    p = empty(200)
    draw(p, 30, 130, 62, onset=0, note=0.8)
    assert len(track_notes(p, replace(SETTINGS, onset_threshold=threshold))) == count


@pytest.mark.parametrize("size", [1, 20, 500])
def test_swells_leave_notes_alone_that_have_an_onset(size: int) -> None:
    p = empty(500)
    draw(p, 50, 250, 62)
    draw(p, 300, 342, 64, onset=0)  # a frame too short without the onset after it
    draw(p, 342, 400, 64)
    p.note[248:254, 2] = 0  # silence before it goes on, for too short a time
    draw(p, 254, 290, 62, onset=0)
    assert keys(fed(p, size)) == [(50 / RATE, 248 / RATE, 62), (342 / RATE, 400 / RATE, 64)]


@pytest.mark.parametrize(("after", "end"), [(2, 60), (3, 23), (4, 24), (5, 25), (20, 40)])
def test_a_note_does_not_end_as_soon_as_it_begins(after: int, end: int) -> None:
    p = empty(100)
    draw(p, 20, 60, 62)
    p.offset[20 + after, 2] = 1
    (note,) = track_notes(p, SETTINGS)
    assert note.offset == pytest.approx(end / RATE)


@pytest.mark.parametrize(("late", "end"), [(3, 60), (4, 39.94)])
def test_an_offset_may_come_a_little_after_the_note_falls_silent(late: int, end: float) -> None:
    p = empty(100)
    draw(p, 10, 60, 62)
    for row, value in ((40, 0.5), (60 + late, 1.0)):
        p.offset[row - 1 : row + 2, 2] = value / 2, value, value / 2
    (note,) = track_notes(p, SETTINGS)
    assert note.offset == pytest.approx(end / RATE, abs=0.01 / RATE)


def test_a_note_without_an_offset_ends_where_it_falls_silent() -> None:
    p = empty(100)
    draw(p, 10, 60, 62, note=0.4)
    (note,) = track_notes(p, SETTINGS)
    assert note.offset == pytest.approx(60 / RATE, abs=1.5 / RATE)


@pytest.mark.parametrize("dip", [1, 2, 3])
def test_a_short_dip_is_bridged(dip: int) -> None:
    p = empty(100)
    draw(p, 10, 80, 62)
    p.note[40 : 40 + dip] = 0
    (note,) = track_notes(p, SETTINGS)
    assert note.offset == pytest.approx(80 / RATE, abs=1.5 / RATE)


@pytest.mark.parametrize("dip", [4, 20])
def test_a_long_dip_ends_the_note(dip: int) -> None:
    p = empty(100)
    draw(p, 10, 80, 62)
    p.note[40 : 40 + dip] = 0
    first, *_ = track_notes(p, SETTINGS)
    assert first.offset == pytest.approx(40 / RATE, abs=1.5 / RATE)


def test_a_note_needs_a_fundamental_in_its_semitone() -> None:
    p = empty(100)
    for pitch in (60, 64):
        draw(p, 30, 80, pitch, onset=0.7, note=0.7)
    p.contour[:, 12:] = 0
    assert [n.pitch for n in track_notes(p, SETTINGS)] == [60]
    p.contour[30:80, 14] = 0.7  # off the middle of the semitone
    assert [n.pitch for n in track_notes(p, SETTINGS)] == [60, 64]


def test_an_onset_below_the_threshold_starts_no_note() -> None:
    p = empty(100)
    draw(p, 30, 40, 62, onset=0.4, note=0.5)
    assert track_notes(p, SETTINGS) == []
    assert len(track_notes(p, replace(SETTINGS, onset_threshold=0.35))) == 1


def test_short_notes_are_dropped() -> None:
    p = empty(100)
    draw(p, 10, 14, 60)
    draw(p, 10, 40, 62)
    assert [n.pitch for n in track_notes(p, replace(SETTINGS, minimum_note_length=100))] == [62]


@pytest.mark.parametrize("fraction", [-0.4, -0.25, -0.1, 0.0, 0.1, 0.25, 0.4])
def test_onsets_are_placed_between_frames(fraction: float) -> None:
    p = empty(100)
    draw(p, 20, 60, 62, onset=0)
    # A triangle, as the model is taught to draw, three frames to either side.
    p.onset[:, 2] = np.clip(1 - np.abs(np.arange(100) - 20 - fraction) / 3, 0, 1)
    (note,) = track_notes(p, SETTINGS)
    # A parabola through a triangle is off by a little; a whole frame without it.
    assert note.onset * RATE == pytest.approx(20 + fraction, abs=0.2)


@pytest.mark.parametrize("monophonic", [False, True])
@pytest.mark.parametrize("delay", [-20.0, 0.0, 8.0])
@pytest.mark.parametrize("fraction", [-0.4, 0.0, 0.4])
def test_notes_struck_again_are_placed_between_frames(fraction: float, delay: float, monophonic: bool) -> None:
    p = empty(100)
    draw(p, 20, 80, 62, onset=0)
    for onset in (20, 40 + fraction, 60 + fraction):
        p.onset[:, 2] += np.clip(1 - np.abs(np.arange(100) - onset) / 3, 0, 1)
    notes = track_notes(p, replace(SETTINGS, onset_delay=delay, monophonic=monophonic))
    onsets = [n.onset * RATE - delay / 1000 * RATE for n in notes]
    assert onsets[1:] == pytest.approx([40 + fraction, 60 + fraction], abs=0.2)


def test_velocity_rises_with_the_level() -> None:
    velocities = []
    for level in range(-60, 1, 6):
        p = empty(60, level)
        draw(p, 10, 50, 62)
        velocities.append(track_notes(p, SETTINGS)[0].velocity)
    assert velocities == sorted(velocities)
    inside = [v for v in velocities if 1 < v < 127]
    assert len(inside) >= 4
    assert len(set(inside)) == len(inside)


def test_bends_can_be_left_out() -> None:
    p = empty(100)
    draw(p, 20, 60, 62)
    (note,) = track_notes(p, replace(SETTINGS, pitch_bends=False))
    assert note.bend is None


@pytest.mark.parametrize("delay", [-100.0, 0.0, 100.0])
def test_a_note_that_sounds_has_a_length_and_lies_where_the_tracker_has_been(delay: float) -> None:
    p = empty(60)
    draw(p, 1, 50, 62)
    tracker, seen = NoteTracker(replace(SETTINGS, onset_delay=delay), 50), []
    for row in range(len(p)):
        tracker.push(p.slice(row, row + 1))
        seen += tracker.sounding
    assert seen
    assert {n.onset for n in seen} == {max(50, 51 + delay / 1000 * RATE) / RATE}
    assert all(n.offset >= n.onset + 0.5 / RATE for n in seen)


def test_the_level_is_that_around_the_onset_though_there_are_no_frames_before_it() -> None:
    p = empty(60, -30)
    draw(p, 0, 50, 60)
    p.level[0] = -10
    (note,) = track_notes(p, SETTINGS)
    assert note.velocity == round(127 - 2 * 20 * 0.4 / 1.4)  # by the onset posterior: 1 there, 0.4 after it


def test_the_range_of_frequencies_is_rounded_to_semitones() -> None:
    low, high = (440 * 2 ** ((pitch - 69) / 12) for pitch in (61.4, 62.6))
    assert pitch_range(empty(1), replace(SETTINGS, minimum_frequency=low, maximum_frequency=high)) == (1, 4)


# ---------------------------------------------------------------- golden, work


def test_a_note_too_short_for_the_whole_support_is_supported_by_its_own_length() -> None:
    p = empty(100)
    for start in range(20, 80, 12):
        draw(p, start, start + 5, 62, onset=0.45, note=0.8)
    assert [pitch for _, _, pitch in keys(track_notes(p, SETTINGS))] == [62] * 5


@pytest.mark.parametrize(
    ("lower", "struck", "louder", "found"),
    [(48, 0.9, True, 1), (60, 0.9, True, 1), (60, 0.3, True, 2), (60, 0.9, False, 2), (59, 0.9, True, 2)],
)
def test_a_note_an_octave_or_two_above_one_as_loud_needs_clearer_evidence(
    lower: int, struck: float, louder: bool, found: int
) -> None:
    blank = empty(100)
    wide = (100, 30)
    p = replace(
        blank,
        lowest_pitch=48,
        **{name: np.zeros(wide, np.float32) for name in ("onset", "note", "offset")},
        level=np.full(wide, -20, np.float32),
        contour=np.zeros((100, 30 * BINS), np.float32),
    )
    for pitch, strength, onset in ((72, 0.6, 0.6), (lower, 0.9, struck)):
        column = pitch - 48
        p.note[20:60, column] = p.contour[20:60, column * BINS + 1] = strength
        p.onset[18:23, column] = onset * np.array([0.2, 0.5, 1, 0.5, 0.2])
    p.level[:, lower - 48] += 0 if louder else -3
    assert len(track_notes(p, replace(SETTINGS, onset_threshold=0.55))) == found


def test_golden_notes() -> None:
    """Regenerate with ``python scripts/make_goldens.py`` when the tracker is meant to change."""
    golden = json.loads((GOLDEN / "notes.json").read_text())
    p = exports.load_posteriors(GOLDEN / "posteriors.npz")
    notes = track_notes(p, TrackerSettings(**golden["settings"]), golden["duration"])
    assert len(notes) == len(golden["notes"]) > 5
    for note, expected in zip(notes, golden["notes"], strict=True):
        assert note.pitch == expected["pitch"]
        assert note.onset == pytest.approx(expected["onset"], abs=1e-3)
        assert note.offset == pytest.approx(expected["offset"], abs=1e-3)
        assert abs(note.velocity - expected["velocity"]) <= 1
        assert note.confidence == pytest.approx(expected["confidence"], abs=1e-3)
        mean = None if note.bend is None else float(np.mean(note.bend.semitones))
        assert mean == pytest.approx(expected["mean_bend"], abs=0.01)


def work(seconds: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Calls made and frames copied while a recording of repeated notes over one endless note is tracked."""
    frames = seconds * 86
    p = empty(frames)
    draw(p, 5, frames, 60)
    for start in range(10, frames - 20, 20):
        draw(p, start, start + 12, 63)
    calls = copied = 0
    join = Posteriors.concatenate

    def concatenate(parts: list[Posteriors]) -> Posteriors:
        nonlocal copied
        copied += sum(len(part) for part in parts)
        return join(parts)

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    tracker = NoteTracker(SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(Posteriors, "concatenate", concatenate)
        sys.setprofile(count)
        try:
            notes = [n for i in range(0, frames, 86) for n in tracker.push(p.slice(i, i + 86))] + tracker.flush()
        finally:
            sys.setprofile(None)
    assert len(notes) > seconds * 3
    return calls, copied


def test_work_is_linear_in_length(monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = work(20, monkeypatch), work(80, monkeypatch)
    for a, b in zip(short, long, strict=True):
        assert b < 5 * a  # four times the length; sixteen times the work if it were quadratic
