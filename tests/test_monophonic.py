"""The monophonic tracker: what must hold for any posteriors, and what must come of lines made by hand."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from types import FrameType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_notes import BINS, EXAMPLES, LOWEST, PITCHES, RATE, Recipe, empty, keys, last_frame, tracker_settings

from basic_transcribe import monophonic
from basic_transcribe.errors import UsageError
from basic_transcribe.evidence import CENTRE
from basic_transcribe.monophonic import AFTER, CHUNK, MonophonicTracker
from basic_transcribe.notes import NoteTracker
from basic_transcribe.tracking import track_notes, tracker_for
from basic_transcribe.types import Note, Posteriors, TrackerSettings

SETTINGS = TrackerSettings(
    onset_threshold=0.5,
    split_threshold=0.6,
    frame_threshold=0.3,
    onset_delay=0.0,
    minimum_note_length=0.0,
    monophonic=True,
)
# Long enough for several chunks.
recipes = st.builds(
    Recipe, st.integers(0, 2**32 - 1), st.integers(1, 700), st.sampled_from(["noise", "smooth", "steps", "binary"])
)


def sing(p: Posteriors, start: int, stop: int, pitch: float, *, onset: float = 1.0, note: float = 0.95) -> None:
    """Draw a note as the model is taught to: between two semitones, it is half in each of them."""
    bins = np.arange(PITCHES * BINS)
    centre = (pitch - LOWEST) * BINS + BINS // 2
    height = (note * np.exp(-0.5 * ((bins - centre) / 0.8) ** 2)).astype(np.float32)
    p.contour[start:stop] = np.maximum(p.contour[start:stop], height)
    share = np.maximum(0, 1 - np.abs(np.arange(PITCHES) - (pitch - LOWEST))).astype(np.float32)
    p.note[start:stop] = np.maximum(p.note[start:stop], note * share)
    frames = np.arange(len(p))[:, None]
    for posterior, moment, mass in ((p.onset, start, onset), (p.offset, stop, 0.5)):
        triangle = np.maximum(0, 1 - np.abs(frames - moment) / 2).astype(np.float32)
        posterior[:] = np.maximum(posterior, mass * share * triangle)


def starts(notes: Sequence[Note]) -> list[tuple[int, int]]:
    """Frame of the onset, and pitch."""
    return [(round(n.onset * RATE), n.pitch) for n in notes]


# ---------------------------------------------------------------- what must hold for any posteriors


@EXAMPLES
@given(recipes, tracker_settings, last_frame)
def test_notes_are_well_formed_and_never_sound_together(recipe: Recipe, chosen: TrackerSettings, part: float) -> None:
    p = recipe.posteriors()
    end = (len(p) - 1 + part) / p.frame_rate
    notes = track_notes(p, replace(chosen, monophonic=True), end)
    for n in notes:
        assert LOWEST <= n.pitch < LOWEST + PITCHES
        assert 0 <= n.onset < n.offset <= end
        assert n.duration >= (chosen.minimum_note_length or 0) / 1000
        assert isinstance(n.velocity, int)
        assert 1 <= n.velocity <= 127
        assert 0 <= n.confidence <= 1
        assert n.bend is None or (len(n.bend.semitones) and np.isfinite(n.bend.semitones).all())
        assert n.bend is None or len(n.bend.semitones) <= max(1, (n.offset - n.onset) * RATE + CENTRE + 1)
        assert chosen.pitch_bends or n.bend is None
    for before, after in pairwise(notes):
        assert before.offset <= after.onset


@EXAMPLES
@given(recipes, tracker_settings, st.lists(st.integers(0, 400), max_size=8), last_frame)
def test_pieces_of_any_size_give_the_same_notes(
    recipe: Recipe, chosen: TrackerSettings, sizes: list[int], part: float
) -> None:
    p = recipe.posteriors()
    chosen, duration = replace(chosen, monophonic=True), (len(p) - 1 + part) / p.frame_rate
    tracker, notes, start = MonophonicTracker(chosen), [], 0
    for size in [*sizes, len(p)]:
        notes += tracker.push(p.slice(start, start + size))
        start = min(len(p), start + size)
    notes += tracker.flush(duration)
    assert notes == track_notes(p, chosen, duration)


@EXAMPLES
@given(recipes, tracker_settings)
def test_single_frames_give_the_same_notes(recipe: Recipe, chosen: TrackerSettings) -> None:
    p, chosen = recipe.posteriors(), replace(chosen, monophonic=True)
    tracker = MonophonicTracker(chosen)
    notes = [n for i in range(len(p)) for n in tracker.push(p.slice(i, i + 1))] + tracker.flush()
    assert notes == track_notes(p, chosen)


@EXAMPLES
@given(recipes, tracker_settings, st.integers(LOWEST - 2, LOWEST + PITCHES + 2), st.integers(0, 6))
def test_the_line_stays_within_the_range_of_frequencies(
    recipe: Recipe, chosen: TrackerSettings, low: int, width: int
) -> None:
    hertz = [440 * 2 ** ((pitch - 69) / 12) for pitch in (low, low + width)]
    ranged = replace(chosen, monophonic=True, minimum_frequency=hertz[0], maximum_frequency=hertz[1])
    assert all(low <= n.pitch <= low + width for n in track_notes(recipe.posteriors(), ranged))


@EXAMPLES
@given(recipes, tracker_settings, st.floats(0, 300), st.floats(0, 300))
def test_a_longer_minimum_only_removes_notes(recipe: Recipe, chosen: TrackerSettings, a: float, b: float) -> None:
    p = recipe.posteriors()
    shorter, longer = (
        keys(track_notes(p, replace(chosen, monophonic=True, minimum_note_length=value)))
        for value in (min(a, b), max(a, b))
    )
    assert set(longer) <= set(shorter)
    assert all(offset - onset >= max(a, b) / 1000 for onset, offset, _ in longer)


@EXAMPLES
@given(recipes, tracker_settings, st.sampled_from(["smooth", "steps"]))
def test_higher_split_thresholds_only_join_notes(recipe: Recipe, chosen: TrackerSettings, kind: str) -> None:
    p = replace(recipe, kind=kind).posteriors()
    chosen = replace(chosen, monophonic=True, minimum_note_length=0.0)
    fewer, more = (len(track_notes(p, replace(chosen, split_threshold=v))) for v in (0.9, 0.4))
    assert fewer <= more


@pytest.mark.parametrize("frames", [0, 1, CHUNK, CHUNK + AFTER, 3 * CHUNK + 1])
def test_silence_has_no_notes(frames: int) -> None:
    assert track_notes(empty(frames), SETTINGS) == []


def test_a_tracker_without_frames_has_no_notes() -> None:
    tracker = MonophonicTracker(SETTINGS)
    assert tracker.flush(1.0) == []
    assert tracker.seconds == 0


def test_thresholds_must_be_filled_in() -> None:
    with pytest.raises(UsageError, match="resolved"):
        MonophonicTracker(TrackerSettings(monophonic=True))


def test_the_settings_choose_the_tracker() -> None:
    assert isinstance(tracker_for(SETTINGS), MonophonicTracker)
    assert isinstance(tracker_for(replace(SETTINGS, monophonic=False)), NoteTracker)


# ---------------------------------------------------------------- lines made by hand


@pytest.mark.parametrize("before", [0, 1, CHUNK - 60, CHUNK - 20, CHUNK - 1, CHUNK, 2 * CHUNK - 40])
def test_a_line_is_found_wherever_it_lies(before: int) -> None:
    p = empty(before + 200)
    line = [(0, 30, 60.0), (30, 50, 62.0), (60, 100, 64.0), (100, 125, 63.0), (125, 160, 63.0)]
    for start, stop, pitch in line:
        sing(p, before + start, before + stop, pitch)
    notes = track_notes(p, SETTINGS)
    assert starts(notes) == [(before + start, pitch) for start, _, pitch in line]
    np.testing.assert_allclose([n.offset * RATE - before for n in notes], [stop for _, stop, _ in line], atol=1.1)
    for note in notes:
        assert note.confidence > 0.8
        assert note.bend is not None
        np.testing.assert_allclose(note.bend.semitones[2:-2], 0, atol=0.01)


def test_a_line_decided_bit_by_bit_is_the_line_decided_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, p, end = np.random.default_rng(5), empty(2000), 10
    while end < 1900:
        start = end + int(rng.integers(0, 20))
        end = start + int(rng.integers(8, 60))
        sing(p, start, end, LOWEST + rng.uniform(0, 4), onset=rng.uniform(0.2, 1), note=rng.uniform(0.4, 1))
    piecewise = track_notes(p, SETTINGS)
    monkeypatch.setattr(monophonic, "CHUNK", len(p))
    assert len(piecewise) > 20
    assert piecewise == track_notes(p, SETTINGS)


def test_a_voice_between_two_semitones_is_one_note() -> None:
    p = empty(150)
    sing(p, 20, 120, 61.5, note=0.9)
    (note,) = track_notes(p, SETTINGS)
    assert note.onset == pytest.approx(20 / RATE, abs=0.01)
    assert note.offset == pytest.approx(120 / RATE, abs=0.02)
    assert note.bend is not None
    assert note.pitch + np.median(note.bend.semitones) == pytest.approx(61.5, abs=0.1)


def test_vibrato_across_two_semitones_is_one_note() -> None:
    p = empty(200)
    for row in range(20, 180):
        sing(p, row, row + 1, 62.4 + 0.5 * np.sin(2 * np.pi * 6 * (row - 20) / RATE), onset=0)
    p.onset[:], p.offset[:] = 0, 0
    p.onset[18:23, 2] = 0, 0.4, 0.8, 0.4, 0
    (note,) = track_notes(p, SETTINGS)
    assert note.pitch == 62
    assert note.offset - note.onset == pytest.approx(160 / RATE, abs=0.05)


def test_the_stronger_of_two_pitches_is_the_line() -> None:
    p = empty(150)
    sing(p, 20, 120, 60, note=0.95)
    sing(p, 22, 118, 64, note=0.7, onset=0.7)
    assert starts(track_notes(p, SETTINGS)) == [(20, 60)]


def test_the_line_follows_a_new_note_while_the_last_rings_on() -> None:
    p = empty(250)
    for start, pitch in ((20, 60), (60, 62), (100, 64)):
        sing(p, start, 220, pitch)
    notes = track_notes(p, SETTINGS)
    assert starts(notes) == [(20, 60), (60, 62), (100, 64)]
    assert notes[0].offset == pytest.approx(60 / RATE, abs=0.01)


def test_a_new_pitch_without_an_onset_begins_once_it_is_sure() -> None:
    p = empty(200)
    sing(p, 20, 90, 60)
    sing(p, 90, 94, 64, onset=0)
    sing(p, 94, 170, 62, onset=0)
    assert starts(track_notes(p, SETTINGS)) == [(20, 60), (94, 62)]


def test_a_held_note_is_split_only_by_a_clear_onset() -> None:
    p = empty(200)
    sing(p, 20, 180, 62)
    for row, mass in ((70, 0.5), (120, 0.8)):
        p.onset[row - 1 : row + 2, 2] = mass / 2, mass, mass / 2
    p.offset[:170] = 0
    assert starts(track_notes(p, SETTINGS)) == [(20, 62), (120, 62)]
    assert starts(track_notes(p, replace(SETTINGS, split_threshold=0.4))) == [(20, 62), (70, 62), (120, 62)]
    assert starts(track_notes(p, replace(SETTINGS, split_threshold=0.9))) == [(20, 62)]


def test_lower_onset_thresholds_find_weaker_notes() -> None:
    p = empty(100)
    sing(p, 20, 40, 60, note=0.5, onset=0.4)
    assert track_notes(p, replace(SETTINGS, onset_threshold=0.8)) == []
    assert starts(track_notes(p, replace(SETTINGS, onset_threshold=0.3))) == [(20, 60)]


def test_lower_frame_thresholds_make_notes_longer() -> None:
    p = empty(150)
    sing(p, 20, 120, 62)
    p.contour[20:120] *= np.linspace(1, 0, 100, dtype=np.float32)[:, None]
    p.offset[:] = 0
    lengths = [track_notes(p, replace(SETTINGS, frame_threshold=v))[0].duration for v in (0.7, 0.5, 0.3, 0.1)]
    assert lengths == sorted(lengths)
    assert lengths[-1] > 1.5 * lengths[0]


def test_what_sounds_outside_the_range_does_not_disturb_the_line() -> None:
    p, alone = empty(200), empty(200)
    for posteriors in (p, alone):
        sing(posteriors, 20, 100, 63.0, note=0.7)
    sing(p, 10, 190, 60.0)
    assert {n.pitch for n in track_notes(p, SETTINGS)} == {60}
    assert keys(track_notes(p, replace(SETTINGS, minimum_frequency=290.0))) == keys(track_notes(alone, SETTINGS))


@pytest.mark.parametrize("delay", [-20.0, 0.0, 15.0])
def test_onsets_are_delayed_and_legato_stays_legato(delay: float) -> None:
    p = empty(200)
    sing(p, 30, 80, 60)
    sing(p, 80, 150, 62)
    first, second = track_notes(p, replace(SETTINGS, onset_delay=delay))
    assert first.onset == pytest.approx(30 / RATE + delay / 1000, abs=1e-6)
    assert second.onset == pytest.approx(80 / RATE + delay / 1000, abs=1e-6)
    assert first.offset == pytest.approx(min(80 / RATE, second.onset), abs=1.1 / RATE)


def test_a_note_sounds_until_it_is_finished() -> None:
    p = empty(7 * CHUNK)
    sing(p, 40, 3 * CHUNK, 62)
    tracker, seen = MonophonicTracker(SETTINGS), []
    for row in range(len(p)):
        finished = tracker.push(p.slice(row, row + 1))
        seen.append(len(tracker.sounding))
        if finished:
            break
        if tracker.sounding:
            (begun,) = tracker.sounding
            assert begun.onset < begun.offset <= tracker.seconds
    assert seen.index(1) - 40 <= tracker.lookahead
    assert (begun.onset, begun.pitch, begun.velocity) == (finished[0].onset, finished[0].pitch, finished[0].velocity)
    assert tracker.sounding == []


def test_the_note_that_has_begun_can_be_followed_from_where_the_line_is_decided() -> None:
    p = empty(6 * CHUNK)
    sing(p, 40, 5 * CHUNK, 62.3)
    (note,) = track_notes(p, SETTINGS)
    assert note.bend is not None
    tracker = MonophonicTracker(SETTINGS)
    assert tracker.begun is None
    for pushed in range(CHUNK, 5 * CHUNK + 1, CHUNK):
        assert tracker.push(p.slice(pushed - CHUNK, pushed)) == []
        decided = max(0, pushed - 2 * CHUNK)
        assert tracker.seconds == decided / RATE
        begun = tracker.begun
        if not decided:
            assert begun is None
            continue
        assert begun is not None
        assert (begun.pitch, begun.frame, begun.onset) == (62 - LOWEST, 40, note.onset)
        assert (begun.velocity, begun.confidence) == (note.velocity, note.confidence)
        assert sum(map(len, begun.contour)) == decided - 40


def test_what_is_decided_is_not_contradicted() -> None:
    p, change = empty(4 * CHUNK), 2 * CHUNK  # when the stretch before the last one is decided
    sing(p, 20, change, 60, note=0.95)
    sing(p, 20, change, 63, note=0.9, onset=0)
    sing(p, change, 3 * CHUNK, 60, note=0.35, onset=0)
    sing(p, change, 3 * CHUNK, 63, note=0.95, onset=0)
    p.offset[:] = 0
    assert starts(track_notes(p, SETTINGS)) == [(20, 60), (change, 63)]


@pytest.mark.parametrize(("apart", "expected"), [(3, [20]), (4, [20]), (5, [20, 25])])
def test_a_note_is_not_split_as_soon_as_it_begins(apart: int, expected: list[int]) -> None:
    p = empty(150)
    sing(p, 20, 100, 62, onset=0)
    p.offset[:] = 0
    p.onset[19 : 20 + apart + 2, 2] = 0.9
    p.onset[[20, 20 + apart], 2] = 1
    assert starts(track_notes(p, SETTINGS)) == [(row, 62) for row in expected]


@pytest.mark.parametrize(("after", "end"), [(2, 30), (3, 23.78), (4, 24.67), (5, 25.56)])
def test_a_short_note_does_not_end_as_soon_as_it_begins(after: int, end: float) -> None:
    p = empty(150)
    sing(p, 20, 30, 62)
    p.offset[:] = 0
    p.offset[20 + after, 2] = 1
    (note,) = track_notes(p, SETTINGS)
    assert note.offset == pytest.approx(end / RATE, abs=0.01 / RATE)


def test_golden_line() -> None:
    """A line with weak onsets, between semitones, in noise; print it anew when the tracker is meant to change."""
    rng, p, end = np.random.default_rng(4), empty(420), 5
    while end < 360:
        start = max(5, end + int(rng.integers(-6, 14)))
        end = start + int(rng.integers(12, 50))
        sing(p, start, end, LOWEST + rng.uniform(0, 4), onset=rng.uniform(0.3, 1), note=rng.uniform(0.3, 0.95))
    for posterior in (p.onset, p.note, p.offset, p.contour):
        posterior += 0.25 * rng.random(posterior.shape).astype(np.float32) ** 6
        np.clip(posterior, 0, 1, out=posterior)
    p.level[:] = rng.uniform(-40, -15, p.level.shape)
    notes = [(n.onset * RATE, n.offset * RATE, n.pitch, n.velocity, n.confidence) for n in track_notes(p, SETTINGS)]
    expected = [
        (13.04, 57.68, 62, 90, 0.731),
        (62.85, 63.75, 61, 87, 0.724),
        (63.75, 96.72, 62, 90, 0.714),
        (105.09, 148.35, 62, 83, 0.888),
        (159.49, 160.0, 62, 91, 0.471),
        (161.03, 187.82, 63, 105, 0.828),
        (196.46, 244.83, 64, 100, 0.617),
        (245.27, 280.93, 64, 108, 0.672),
        (287.88, 315.81, 62, 101, 0.957),
        (327.19, 352.33, 61, 91, 0.811),
        (364.85, 406.4, 62, 96, 0.83),
    ]
    assert notes == [pytest.approx(row, abs=0.01) for row in expected]


# ---------------------------------------------------------------- work and memory


def work(chunks: int) -> tuple[int, int]:
    """Calls made, and bytes that the tracker holds at most, while repeated notes are tracked."""
    block = empty(CHUNK)
    for start in range(0, CHUNK - 20, 20):
        sing(block, start, start + 15, 60 + start % 3)
    calls = most = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    tracker, notes = MonophonicTracker(SETTINGS), 0
    for _ in range(chunks):
        sys.setprofile(count)
        try:
            notes += len(tracker.push(block))
        finally:
            sys.setprofile(None)
        most = max(most, len(pickle.dumps(tracker)))
    assert notes >= 4 * (chunks - 3)
    assert tracker.seconds >= (chunks - 3) * CHUNK / RATE
    return calls, most


def test_work_is_linear_in_length_and_memory_flat() -> None:
    (calls, held), (more_calls, more_held) = work(10), work(40)
    assert more_calls < 5 * calls
    assert more_held < 1.05 * held
