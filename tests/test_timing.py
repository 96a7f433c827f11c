"""Beats of music whose beats are known, and what must hold for any notes that are moved onto a grid."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from typing import Any

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from basic_transcribe.errors import UsageError
from basic_transcribe.midi import to_midi
from basic_transcribe.timing import (
    OnsetEnvelope,
    _cover,
    _Grid,
    beat_position,
    beat_time,
    estimate_beats,
    file_axis,
    fixed_beats,
    lead_in,
    metre,
    parse_division,
    parse_time_signature,
    quantize,
)
from basic_transcribe.types import Beats, Float32, Note, PitchBend

RATE = 22_050
FRAME_RATE = RATE / 256
EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True, database=None)

# ---------------------------------------------------------------- the envelope


def envelope_of(samples: Float32, sizes: list[int]) -> tuple[Float32, float]:
    envelope, start = OnsetEnvelope(RATE), 0
    for size in [*sizes, len(samples)]:
        envelope.push(samples[start : start + size])
        start = min(len(samples), start + size)
    return envelope.finish()


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 200_000), st.lists(st.integers(0, 70_000), max_size=6))
def test_blocks_of_any_size_give_the_same_envelope(length: int, sizes: list[int]) -> None:
    samples = np.random.default_rng(length).normal(0, 0.1, length).astype(np.float32)
    whole, rate = envelope_of(samples, [])
    parts, _ = envelope_of(samples, sizes)
    assert parts.tobytes() == whole.tobytes()
    assert whole.dtype == np.float32
    assert len(whole) == -(-length // 256)
    assert rate == pytest.approx(FRAME_RATE)


@pytest.mark.parametrize("level", [0.5, 0.005])
def test_the_envelope_peaks_where_tones_begin(level: float) -> None:
    onsets = np.array([0.5, 0.93, 1.71, 2.4])
    time = np.arange(3 * RATE) / RATE
    tone = sum(np.where(time >= t, np.exp(-4 * (time - t)) * np.sin(2 * np.pi * 440 * (time - t)), 0) for t in onsets)
    envelope, rate = envelope_of((level * tone).astype(np.float32), [])
    around = [envelope[round((t - 0.1) * rate) : round((t + 0.1) * rate)] for t in onsets]
    found = [t - 0.1 + a.argmax() / rate for t, a in zip(onsets, around, strict=True)]
    assert np.abs(found - onsets).max() < 0.02
    assert min(a.max() for a in around) > 5 * np.median(envelope) + 0.01


# ---------------------------------------------------------------- beats


def click_map(tempo: float, drift: float, beats: int, start: float) -> NDArray[np.float64]:
    """Times of beats whose tempo swings by ``drift`` to both sides, once in 32 beats."""
    lengths = 60 / tempo * (1 + drift * np.sin(2 * np.pi * np.arange(beats) / 32))
    return np.concatenate([[start], start + np.cumsum(lengths)])


def song(times: NDArray[np.float64], per_bar: int = 4, *, swing: float = 0.0, seed: int = 0) -> list[Note]:
    """Chords that change with each bar, basses on its first beat, a tune in half beats; 5 ms of scatter."""
    rng = np.random.default_rng(seed)
    beats = Beats(tuple(times.tolist()))

    def note(position: float, length: float, pitch: int, velocity: int) -> Note:
        onset = float(beat_time(beats, position)) + rng.normal(0, 0.005)
        return Note(max(0.0, onset), float(beat_time(beats, position + length)), pitch, velocity, 0.9)

    notes = []
    for beat in range(len(times) - 1):
        root = 48 + [0, 5, 7, 9][beat // per_bar % 4]
        if beat % per_bar == 0:
            notes.append(note(beat, per_bar * 0.9, root - 12, 90))
        notes += [note(beat, 0.9, root + k, 70) for k in (0, 4, 7)]
        if rng.random() < 0.6:
            notes.append(note(beat + 0.5 + swing / 6, 0.4, root + 12 + int(rng.choice([0, 4, 7])), 80))
    return sorted(notes, key=lambda n: (n.onset, n.pitch))


def chords_and_tune(times: NDArray[np.float64], per_bar: int, *bars: tuple[float, ...]) -> list[Note]:
    """A bass and a chord to a bar, and a tune whose notes begin at these places of the bars; 5 ms of scatter."""
    rng = np.random.default_rng(0)
    beats = Beats(tuple(times.tolist()))
    notes = []
    for bar in range((len(times) - 1) // per_bar):
        root = 48 + [0, 5, 7, 9][bar % 4]
        parts = [(0.0, float(per_bar), root + k) for k in (-12, 0, 4, 7)]
        parts += [(a, b, root + int(rng.choice([12, 16, 19]))) for a, b in pairwise([*bars[bar % len(bars)], per_bar])]
        for begin, end, pitch in parts:
            onset, offset = beat_time(beats, bar * per_bar + np.array([begin, begin + 0.9 * (end - begin)])).tolist()
            notes.append(Note(onset + rng.normal(0, 0.005), offset, pitch, 80, 0.9))
    return sorted(notes, key=lambda n: (n.onset, n.pitch))


def silence(seconds: float) -> Float32:
    return np.zeros(int(seconds * FRAME_RATE), np.float32)


def f_measure(reference: NDArray[np.float64], found: NDArray[np.float64], window: float) -> float:
    hits = (np.abs(reference[:, None] - found).min(axis=1) <= window).sum()
    return float(2 * hits / (len(reference) + len(found)))


@pytest.mark.parametrize("tempo", [72, 96, 112])
@pytest.mark.parametrize("drift", [0.0, 0.1])
@pytest.mark.parametrize("per_bar", [3, 4])
def test_beats_and_bars_of_known_music(tempo: float, drift: float, per_bar: int) -> None:
    times = click_map(tempo, drift, 48, start=0.4)
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, song(times, per_bar), per_bar=per_bar)
    assert beats is not None
    assert beats.tempo == pytest.approx(60 / np.median(np.diff(times)), rel=0.03)
    found = np.array(beats.times)
    nearest = found[np.abs(times[:-1, None] - found).argmin(axis=1)]
    assert np.abs(nearest - times[:-1]).max() < 0.02
    assert abs(np.mean(nearest - times[:-1])) < 0.003
    first = int(np.abs(found - times[0]).argmin())
    assert beats.downbeat == first % per_bar


@pytest.mark.parametrize("upbeat", [0, 1])
def test_music_whose_harmony_changes_within_the_bar(upbeat: int) -> None:
    """Though chords have a tone in common over the bar line, and none within; a bass note lasts for the bar."""
    times = click_map(100, 0.0, 48, start=0.4)
    beats = Beats(tuple(times.tolist()))
    tune = [(3, 1, 72)] * upbeat
    for half in range(2 * upbeat, 22):
        root = 48 + (3 * (half // 2) - 2 * (half % 2)) % 12
        tune += [(2 * half, 2, root + k) for k in (0, 4, 7)]
        tune += [(2 * half, 4, 36)] * (half % 2 == 0)
    notes = [Note(*beat_time(beats, np.array([a, a + 0.9 * length])).tolist(), p, 80, 0.9) for a, length, p in tune]
    found = estimate_beats(silence(times[-1]), FRAME_RATE, notes)
    assert found is not None
    bars = beat_position(beats, [found.times[found.downbeat]])[0] / 4
    assert bars == pytest.approx(round(bars), abs=0.03)


def test_a_bar_line_that_is_known() -> None:
    times = click_map(100, 0.0, 48, start=0.4)
    for beat in range(4, 12):
        beats = estimate_beats(silence(times[-1]), FRAME_RATE, song(times), first_bar=times[beat] + 0.1)
        assert beats is not None
        lines = np.array(beats.times[beats.downbeat :: 4])
        assert np.abs(lines - times[beat]).min() < 0.02
    with pytest.raises(UsageError, match=r"at 62 s, but all ends at 28\.79 s"):
        estimate_beats(silence(28.8), FRAME_RATE, song(times)[:30], first_bar=62)


def test_beats_cover_the_recording() -> None:
    times = click_map(100, 0.0, 30, start=5.0)
    beats = estimate_beats(silence(times[-1] + 7), FRAME_RATE, song(times))
    assert beats is not None
    assert 0 <= beats.times[0] < 0.6
    assert times[-1] + 7 - 0.02 <= beats.times[-1] < times[-1] + 7.6
    assert np.ptp(np.diff(beats.times)) < 0.002


def test_swung_music_keeps_its_beat() -> None:
    times = click_map(120, 0.0, 48, start=0.2)
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, song(times, swing=1.0))
    assert beats is not None
    assert f_measure(times[:-1], np.array(beats.times), 0.02) > 0.95


def test_drums_in_the_envelope_tell_the_beat_of_notes_that_do_not() -> None:
    rng = np.random.default_rng(1)
    times = click_map(110, 0.0, 48, start=0.3)
    samples = rng.normal(0, 1e-4, int(times[-1] * RATE))
    for t in times[:-1]:
        burst = rng.normal(0, 0.3, 2000) * np.exp(-np.arange(2000) / 300)
        start = int(t * RATE)
        samples[start : start + 2000] += burst[: len(samples) - start]
    envelope, rate = envelope_of(samples.astype(np.float32), [])
    notes = [Note(float(t), float(t) + 0.5, 60, 64, 0.9) for t in np.sort(rng.uniform(0, times[-1], 12))]
    beats = estimate_beats(envelope, rate, notes)
    assert beats is not None
    assert f_measure(times[:-1], np.array(beats.times), 0.04) > 0.95


@pytest.mark.parametrize("hint", [60.0, 120.0])
def test_a_hint_settles_the_octave(hint: float) -> None:
    times = click_map(120, 0.0, 48, start=0.0)
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, song(times), tempo_hint=hint)
    assert beats is not None
    assert beats.tempo == pytest.approx(hint, rel=0.01)


@pytest.mark.parametrize("tempo", [72, 96, 120])
@pytest.mark.parametrize("off", [0.87, 0.9, 1.1, 1.13])
def test_a_hint_that_is_only_near_leaves_the_tempo_to_the_music(tempo: float, off: float) -> None:
    times = click_map(tempo, 0.0, 48, start=0.0)
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, song(times), tempo_hint=off * tempo)
    assert beats is not None
    assert beats.tempo == pytest.approx(tempo, rel=0.01)


@pytest.mark.parametrize("tempo", [71.3, 97.37, 113.9, 131.1])
@pytest.mark.parametrize("rhythm", [(1.0,), (2.0,), (1.5, 0.5, 2.0)])
@pytest.mark.parametrize("seconds", [15, 100])
def test_few_notes_have_sensible_rhythms(tempo: float, rhythm: tuple[float, ...], seconds: int) -> None:
    """Not such as 1.625 beats a note; the tempo may be half or double. Half notes at 71 are taken for three beats."""
    rng = np.random.default_rng(0)
    count = int(seconds * tempo / 60 / np.mean(rhythm))
    times = 0.4 + 60 / tempo * np.concatenate([[0], np.cumsum(np.resize(rhythm, count))])
    notes = [Note(t + rng.normal(0, 0.005), t + 0.5, 60 + k % 5, 80, 0.9) for k, t in enumerate(times.tolist())]
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, notes)
    assert beats is not None
    ratio = beats.tempo / tempo
    assert min(abs(ratio - x) for x in (0.5, 1, 1.5 if rhythm == (2.0,) else 1, 2)) < 0.01
    if ratio > 0.9:
        halves = 2 * beat_position(beats, [n.onset for n in notes])
        assert np.abs(halves - np.round(halves)).max() < 0.1


@pytest.mark.parametrize("tempo", [130, 150, 170])
@pytest.mark.parametrize(
    "bars",
    [
        ((0.0, 2.0), (0.0, 1.5, 2.0), (0.0, 1.5)),  # might be two dotted quarters to a bar
        ((0.0, 1.0, 2.0), (0.0, 1.0, 1.5, 2.0), (0.0, 2.0)),  # might be half as fast, or a third
    ],
)
def test_the_bars_of_a_fast_waltz_tell_its_beat(tempo: float, bars: tuple[tuple[float, ...], ...]) -> None:
    times = click_map(tempo, 0.0, 60, start=0.4)
    notes = chords_and_tune(times, 3, *bars)
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, notes, per_bar=3)
    assert beats is not None
    assert beats.tempo == pytest.approx(tempo, rel=0.01)
    assert beats.times[beats.downbeat] == pytest.approx(times[0], abs=0.03)


@pytest.mark.parametrize("tempo", [180, 220, 260])
@pytest.mark.parametrize(
    ("per_bar", "bars"),
    [
        (3, ((0, 1, 2), (0, 2))),
        (5, ((0, 1, 2, 3, 4), (0, 2, 3))),
        (7, ((0, 1, 2, 4, 5, 6), (0, 2, 3, 4, 6))),
        (8, ((0, 1, 3, 4, 6, 7), (0, 2, 3, 5, 6))),
    ],
)
def test_metres_that_count_eighths_have_eighths_for_beats(
    tempo: float, per_bar: int, bars: tuple[tuple[float, ...], ...]
) -> None:
    times = click_map(tempo, 0.0, 16 * per_bar, start=0.3)
    notes = chords_and_tune(times, per_bar, *bars)
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, notes, per_bar=per_bar, quarters=0.5)
    assert beats is not None
    assert beats.tempo == pytest.approx(tempo, rel=0.01)


def test_compound_metre_has_dotted_beats() -> None:
    times = click_map(76, 0.0, 32, start=0.0)
    eighths = Beats(tuple(times.tolist()))
    notes = [
        Note(t, t + 0.2, (45 if k % 6 == 0 else 60) + [0, 5, 7][k // 6 % 3], 80, 0.9)
        for k in range(96)
        for t in [float(beat_time(eighths, k / 3))]
    ]
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, notes, per_bar=2, quarters=1.5)
    assert beats is not None
    assert beats.tempo == pytest.approx(76, rel=0.01)
    assert beats.time_signature == (6, 8)
    assert f_measure(times[:-1], np.array(beats.times), 0.02) > 0.95


@pytest.mark.parametrize(("per_bar", "quarters"), [(2, 1.5), (2, 0.75), (3, 0.75), (4, 2.0), (3, 0.5)])
def test_the_tempo_that_is_told_is_the_one_to_be_given(per_bar: int, quarters: float) -> None:
    """Whatever a beat is: a quarter, a half, a dotted quarter or a dotted eighth."""
    times = click_map(80, 0.0, 32, start=0.0)
    counted, compound = Beats(tuple(times.tolist())), quarters in (1.5, 0.75)
    parts = 3 if compound else 2
    notes = [
        Note(t, t + 0.15, (45 if k % 6 == 0 else 60) + [0, 5, 7][k // 6 % 3], 80, 0.9)
        for k in range(32 * parts)
        for t in [float(beat_time(counted, k / parts))]
    ]
    for hint in (None, 80.0) if compound else (80.0,):  # two to a beat might as well be one
        beats = estimate_beats(
            silence(times[-1]), FRAME_RATE, notes, per_bar=per_bar, quarters=quarters, tempo_hint=hint
        )
        assert beats is not None
        assert beats.tempo == pytest.approx(80, rel=0.01)


@pytest.mark.parametrize("quarters", [0.125, 1.0])
def test_beats_near_the_slowest_hint_fit_into_a_midi_file(quarters: float) -> None:
    notes = [Note(t, t + 1, 60, 80, 0.9) for t in np.arange(8) * 19.0]
    beats = estimate_beats(silence(160), FRAME_RATE, notes, quarters=quarters, tempo_hint=4.0)
    assert beats is not None
    assert to_midi(notes, beats=beats).data


def test_no_beat_is_found_where_there_is_none() -> None:
    three = [Note(t, t + 0.4, 60, 80, 0.9) for t in (0.0, 0.5, 1.0)]
    assert estimate_beats(silence(2), FRAME_RATE, three) is None
    chord = [Note(0.01, 1.0, 60 + k, 80, 0.9) for k in range(8)]
    assert estimate_beats(silence(2), FRAME_RATE, chord) is None
    rng = np.random.default_rng(3)
    rain = [Note(float(t), float(t) + 0.1, 60, 80, 0.9) for t in np.sort(rng.uniform(0, 60, 300))]
    assert estimate_beats(silence(60), FRAME_RATE, rain) is None


@EXAMPLES
@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.02, 3), st.integers(21, 108)), max_size=30),
    st.integers(0, 2000),
    st.sampled_from([(4, 1.0), (3, 1.0), (2, 1.5), (5, 0.5), (3, 0.25), (1, 1.0)]),
    st.sampled_from([None, 60.0, 1000.0]),
)
def test_any_notes_give_well_formed_beats_or_none(
    drawn: list[tuple[float, float, int]], frames: int, metre_: tuple[int, float], hint: float | None
) -> None:
    notes = [Note(onset, onset + length, pitch, 64, 0.5) for onset, length, pitch in drawn]
    envelope = np.random.default_rng(frames).random(frames).astype(np.float32)
    beats = estimate_beats(envelope, FRAME_RATE, notes, per_bar=metre_[0], quarters=metre_[1], tempo_hint=hint)
    if beats is not None:
        assert (beats.per_bar, beats.quarters) == metre_
        assert beats.times[0] <= beats.times[1] - beats.times[0] + 1e-9
        assert beats.times[-1] >= max(frames / FRAME_RATE, notes[-1].onset if notes else 0) - 1e-6


@pytest.mark.parametrize(("seed", "count", "hint"), [(2, 6, 21.0), (13, 4, 33.0), (20, 4, 33.0)])
def test_a_recording_not_much_longer_than_a_beat_has_two(seed: int, count: int, hint: float) -> None:
    onsets = np.cumsum(np.random.default_rng(seed).uniform(0.2, 0.8, count))
    notes = [Note(float(t), float(t) + 0.2, 60, 80, 0.9) for t in onsets]
    beats = estimate_beats(silence(onsets[-1] + 0.3), FRAME_RATE, notes, tempo_hint=hint)
    assert beats is not None
    assert beats.tempo == pytest.approx(hint, rel=0.4)


def test_fixed_beats() -> None:
    assert fixed_beats(120, 2.0) == Beats((0.0, 0.5, 1.0, 1.5, 2.0))
    assert fixed_beats(120, 0.0, 2, 1.5) == Beats((0.0, 0.75), 2, 0, 1.5)
    assert fixed_beats(90, 1.0).times[1] == 0.666667  # as a MIDI file has it
    later = fixed_beats(120, 2.0, 3, first_bar=1.2)
    assert (later.per_bar, later.downbeat) == (3, 2)
    np.testing.assert_allclose(later.times, [0.2, 0.7, 1.2, 1.7, 2.2])
    with pytest.raises(UsageError):
        fixed_beats(0, 10)


@pytest.mark.parametrize(("tempo", "quarters", "first_bar"), [(75, 1, 13.6), (75, 1.5, 92.4), (40.1, 1, 106.234389)])
def test_a_bar_at_a_whole_number_of_fixed_beats_is_not_rounded_to_before_the_recording(
    tempo: float, quarters: float, first_bar: float
) -> None:
    assert fixed_beats(tempo, 120.0, 4, quarters, first_bar).times[0] == 0.0


# ---------------------------------------------------------------- places between beats, and the grid


@st.composite
def any_beats(draw: st.DrawFn) -> Beats:
    lengths = draw(st.lists(st.floats(0.2, 2), min_size=1, max_size=12))
    times = np.cumsum([draw(st.floats(0, 2)), *lengths])
    per_bar = draw(st.integers(1, 5))
    return Beats(
        tuple(times.tolist()), per_bar, draw(st.integers(0, per_bar - 1)), draw(st.sampled_from([1.0, 1.5, 0.5]))
    )


@st.composite
def any_notes(draw: st.DrawFn) -> list[Note]:
    """Notes in order, those of a pitch apart, some of them bent."""
    notes = []
    for pitch in draw(st.lists(st.integers(60, 64), unique=True, max_size=4)):
        time = draw(st.floats(0, 3))
        for gap, length in draw(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 2)), max_size=8)):
            values = np.zeros(max(1, int(length / 0.01)), np.float32)
            bend = PitchBend(time + gap - 0.005, 0.01, values) if gap > 0.5 else None
            notes.append(Note(time + gap, time + gap + length, pitch, draw(st.integers(1, 127)), 0.5, bend))
            time = notes[-1].offset
    return sorted(notes, key=lambda n: (n.onset, n.pitch))


divisions = st.sampled_from([Fraction(1, 4), Fraction(1, 8), Fraction(1, 16), Fraction(1, 12), Fraction(1, 32)])
swings = st.sampled_from([0.0, 0.3, 0.5, 1.0])


@EXAMPLES
@given(any_beats(), st.lists(st.floats(-5, 30), max_size=20))
def test_places_and_times_are_inverse_and_increase(beats: Beats, times: list[float]) -> None:
    ordered = np.sort(np.array(times))
    places = beat_position(beats, ordered)
    assert (np.diff(places) >= 0).all()
    np.testing.assert_allclose(beat_time(beats, places), ordered, atol=1e-9)
    np.testing.assert_array_equal(beat_position(beats, beats.times[:-1]), np.arange(len(beats.times) - 1))
    np.testing.assert_array_equal(beat_time(beats, np.arange(len(beats.times) - 1)), beats.times[:-1])


@EXAMPLES
@given(any_notes(), any_beats(), divisions, st.floats(0, 1), swings)
def test_moved_notes_are_well_formed(
    notes: list[Note], beats: Beats, division: Fraction, strength: float, swing: float
) -> None:
    moved = quantize(notes, beats, division, strength, swing)
    assert [(n.onset, n.pitch) for n in moved] == sorted((n.onset, n.pitch) for n in moved)
    assert {n.pitch for n in moved} == {n.pitch for n in notes}
    assert all(0 <= n.onset < n.offset for n in moved)
    for pitch in {n.pitch for n in moved}:
        for before, after in pairwise(n for n in moved if n.pitch == pitch):
            assert before.offset <= after.onset
    if len(moved) == len(notes):  # none were joined
        for pitch in {n.pitch for n in notes}:
            lines = ([n for n in some if n.pitch == pitch] for some in (notes, moved))
            for old, new in zip(*lines, strict=True):
                assert (new.velocity, new.confidence) == (old.velocity, old.confidence)
                if old.bend and new.bend:
                    assert new.bend.start - old.bend.start == pytest.approx(new.onset - old.onset)
                    assert len(new.bend.times) == 1 or new.bend.times[-1] < new.offset


@EXAMPLES
@given(any_notes(), any_beats(), divisions, swings)
def test_no_strength_changes_nothing(notes: list[Note], beats: Beats, division: Fraction, swing: float) -> None:
    assert quantize(notes, beats, division, 0.0, swing) == tuple(notes)


@EXAMPLES
@given(any_notes(), any_beats(), divisions, swings)
def test_full_strength_lies_on_the_grid_and_stays_there(
    notes: list[Note], beats: Beats, division: Fraction, swing: float
) -> None:
    moved = quantize(notes, beats, division, 1.0, swing)
    # A first beat that the file puts at its beginning was played later: within it, what has moved would move again.
    begin = beats.times[1] if beats.times[0] and not lead_in(beats) else 0.0
    settled = tuple(n for n in moved if n.onset >= begin)
    assert quantize(settled, beats, division, 1.0, swing) == settled
    places = _Grid(beats, 1.0, 0.0).counted(np.array([n.onset for n in moved])) * beats.quarters / float(4 * division)
    late = places % 2
    np.testing.assert_allclose(np.minimum.reduce([late, abs(late - 1 - swing / (1 + swing)), 2 - late]), 0, atol=1e-6)


@EXAMPLES
@given(any_notes(), any_beats(), divisions)
def test_moved_notes_are_on_the_grid_of_the_midi_file(notes: list[Note], beats: Beats, division: Fraction) -> None:
    """Also before the first beat, where the file counts otherwise than the beats go on."""
    file = mido.MidiFile(file=BytesIO(to_midi(quantize(notes, beats, division), beats=beats).data))
    downbeat = (float(lead_in(beats)) + beats.downbeat) * beats.quarters * file.ticks_per_beat
    step = float(4 * division) * file.ticks_per_beat
    ticks = np.cumsum([message.time for message in file.tracks[1]]).tolist()
    begins = [tick for tick, m in zip(ticks, file.tracks[1], strict=True) if m.type == "note_on" and m.velocity]
    steps = (np.array(begins) - downbeat) / step
    # The first tempo ends on a whole tick, which counts the more ticks the shorter the first beat is beside the others.
    times, places = file_axis(beats)
    hurried = 60 / beats.tempo * (places[1] - places[0]) / (times[1] - times[0])
    np.testing.assert_allclose(step * steps, step * np.round(steps), atol=1.01 * max(1.0, hurried))


@pytest.mark.parametrize("division", [Fraction(1, 8), Fraction(1, 16), Fraction(1, 32), Fraction(1, 24)])
def test_a_note_on_each_beat_stays_on_its_beat(division: Fraction) -> None:
    """Wherever the first beat lies."""
    for first in np.arange(0.01, 0.5, 0.01).tolist():
        beats = Beats(tuple(first + k / 2 for k in range(6)))
        notes = [Note(t, t + 0.4, 60, 80, 0.9) for t in beats.times[:4]]
        file = mido.MidiFile(file=BytesIO(to_midi(quantize(notes, beats, division), beats=beats).data))
        ticks = np.cumsum([message.time for message in file.tracks[1]]).tolist()
        begins = [t for t, m in zip(ticks, file.tracks[1], strict=True) if m.type == "note_on" and m.velocity]
        assert begins == [(lead_in(beats) + k) * file.ticks_per_beat for k in range(4)]


@pytest.mark.parametrize(
    ("quarters", "leads"),  # at 60 beats a minute: first beat and what is counted before it
    [
        (1.0, {0.0: 0, 0.15: 0, 0.26: "1/4", 0.4: "1/2", 0.69: "3/4", 0.9: 1, 1.1: 1, 1.2: "5/4"}),
        (2.0, {0.09: 0, 0.125: "1/8", 0.26: "1/4", 0.4: "3/8", 0.5: "1/2", 0.62: "5/8"}),
        (0.5, {0.34: 0, 0.4: "1/2", 0.69: "1/2", 0.77: 1}),
        (1.5, {0.125: 0, 0.15: "1/6", 0.34: "1/3", 0.5: "1/2", 0.69: "2/3"}),
        (3.0, {0.0625: 0, 0.09: "1/12", 0.26: "1/4", 0.4: "5/12"}),
        (0.75, {0.26: 0, 0.34: "1/3", 0.5: "2/3", 0.9: 1}),
    ],
)
def test_what_is_counted_before_the_first_beat(quarters: float, leads: dict[float, str | int]) -> None:
    for first, lead in leads.items():
        beats = Beats(tuple(first + k for k in range(6)), 4, 0, quarters)
        assert lead_in(beats) == Fraction(lead)
        times, places = file_axis(beats)
        assert times.tolist() == [0.0, *beats.times[0 if lead else 1 :]]
        assert places.tolist() == [-float(Fraction(lead)), *range(0 if lead else 1, 6)]


def test_a_strummed_chord_stays_together() -> None:
    beats = fixed_beats(60, 8)
    strum = [Note(0.245 + 0.003 * i, 0.6, pitch, 80, 1.0) for i, pitch in enumerate((40, 47, 52, 56))]
    assert {n.onset for n in quantize(strum, beats, Fraction(1, 8))} == {0.0}
    later = [replace(n, onset=n.onset + 0.003) for n in strum]
    assert {n.onset for n in quantize(later, beats, Fraction(1, 8))} == {0.5}
    halfway = quantize(strum, beats, Fraction(1, 8), 0.5)
    assert [n.onset for n in halfway] == pytest.approx([n.onset / 2 for n in strum])


def test_what_is_a_step_apart_is_no_chord_nor_are_two_of_a_pitch() -> None:
    beats = fixed_beats(120, 4)
    run = [Note(i / 32, (i + 1) / 32, 60 + i, 80, 1.0) for i in range(5)]
    assert [n.onset for n in quantize(run, beats, Fraction(1, 64))] == pytest.approx([n.onset for n in run])
    close = [Note(0.0, 0.01, 60, 80, 1.0), Note(0.02, 0.03, 62, 80, 1.0)]
    assert [n.onset for n in quantize(close, beats, Fraction(1, 64))] == [0.0, 1 / 32]
    again = [Note(0.235, 0.245, 60, 80, 1.0), Note(0.255, 0.265, 60, 80, 1.0)]
    assert [n.onset for n in quantize(again, fixed_beats(60, 4), Fraction(1, 8))] == [0.0, 0.5]


def test_a_bar_by_hand() -> None:
    beats = fixed_beats(60, 8)
    notes = [
        Note(0.02, 0.55, 60, 80, 1.0),
        Note(1.10, 1.90, 62, 80, 1.0, PitchBend(1.09, 0.1, np.ones(3, np.float32))),
        Note(2.45, 2.50, 64, 80, 1.0),  # shorter than the grid
    ]
    eighths = quantize(notes, beats, Fraction(1, 8))
    assert [(n.onset, n.offset) for n in eighths[:2]] == [(0.0, 0.5), (1.0, 2.0)]
    assert eighths[1].bend is not None
    assert eighths[1].bend.start == pytest.approx(0.99)
    assert (eighths[2].onset, eighths[2].duration) == (2.5, pytest.approx(0.05))
    halfway = quantize(notes, beats, Fraction(1, 8), 0.5)
    assert [n.onset for n in halfway] == pytest.approx([0.01, 1.05, 2.475])


@pytest.mark.parametrize(("swing", "second"), [(0.0, 0.5), (0.5, 2 / 3), (1.0, 0.75)])
def test_swing_delays_every_second_point(swing: float, second: float) -> None:
    pair = [Note(0.01, 0.4, 60, 80, 1.0), Note(0.6, 0.9, 60, 80, 1.0)]
    moved = quantize(pair, fixed_beats(60, 4), Fraction(1, 8), 1.0, swing)
    assert [n.onset for n in moved] == pytest.approx([0.0, second])


def test_notes_that_fall_together_become_one() -> None:
    pair = [Note(0.95, 1.0, 60, 50, 0.5), Note(1.02, 1.4, 60, 90, 0.4)]
    (one,) = quantize(pair, fixed_beats(60, 4), Fraction(1, 4))
    assert (one.onset, one.velocity, one.confidence) == (1.0, 90, 0.5)
    assert one.offset == pytest.approx(1.38)


# ---------------------------------------------------------------- words


def test_note_values() -> None:
    assert parse_division("1/16") == Fraction(1, 16)
    assert parse_division(" 1/8T ") == Fraction(1, 12)
    for wrong in ("", "16", "1/3", "2/8", "1/8d", "1/0"):
        with pytest.raises(UsageError, match="1/16"):
            parse_division(wrong)


def test_time_signatures() -> None:
    assert parse_time_signature("6/8") == (6, 8)
    for wrong in ("", "4", "4/3", "0/4", "65/4", "4/4/4"):
        with pytest.raises(UsageError, match="4/4"):
            parse_time_signature(wrong)
    metres = {"4/4": (4, 1.0), "3/4": (3, 1.0), "2/2": (2, 2.0), "6/8": (2, 1.5), "9/8": (3, 1.5), "12/8": (4, 1.5)}
    metres |= {"5/8": (5, 0.5), "3/8": (3, 0.5), "7/8": (7, 0.5), "6/4": (6, 1.0)}
    assert {text: metre(parse_time_signature(text)) for text in metres} == metres


# ---------------------------------------------------------------- ends


def test_a_beat_just_before_the_recording_is_its_first() -> None:
    assert _cover(np.array([-0.05, 0.5, 1.0]), 2.0).tolist() == [0, 0.5, 1, 1.5, 2]
    assert _cover(np.array([-0.2, 0.3, 0.8]), 0.8).tolist() == pytest.approx([0.3, 0.8])
    assert _cover(np.array([0.7, 1.2]), 1.0).tolist() == pytest.approx([0.2, 0.7, 1.2])
    assert _cover(np.array([1.2, 1.7]), 1.0).tolist() == pytest.approx([0.2, 0.7, 1.2, 1.7])


# ---------------------------------------------------------------- where beats lie


@pytest.mark.parametrize("tempo", [90, 97, 112, 120, 133])
@pytest.mark.parametrize("first_bar", [None, 0.0])
def test_a_recording_that_begins_on_the_beat_begins_with_one(tempo: float, first_bar: float | None) -> None:
    times = click_map(tempo, 0.0, 32, start=0.0)
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, song(times), first_bar=first_bar)
    assert beats is not None
    assert beats.times[:2] == pytest.approx(times[:2], abs=0.02)
    assert beats.downbeat == 0


@pytest.mark.parametrize("first", [0.43, 0.497, 0.4999])
def test_a_beat_that_is_missed_at_the_beginning_is_added(first: float) -> None:
    assert _cover(np.array([first, first + 0.5]), 1.0)[:2].tolist() == pytest.approx([max(0.0, first - 0.5), first])


@pytest.mark.parametrize(("per_bar", "quarters", "parts"), [(4, 1.0, 2), (3, 1.0, 2), (2, 2.0, 2), (2, 1.5, 3)])
@pytest.mark.parametrize("start", [0.05, 0.4])
def test_beats_move_to_a_bar_line_that_lies_between_them(
    per_bar: int, quarters: float, parts: int, start: float
) -> None:
    """Though notes begin at all beats, and at no other place."""
    times = click_map(100, 0.0, 40, start)
    notes = [Note(t, t + 0.4, 60, 80, 0.9) for t in times[:-1].tolist()]
    metre_: dict[str, Any] = {"per_bar": per_bar, "quarters": quarters, "tempo_hint": 100}
    before = estimate_beats(silence(times[-1]), FRAME_RATE, notes, **metre_)
    assert before is not None
    for part in range(1, parts):
        line = times[8] + 0.6 * part / parts
        beats = estimate_beats(silence(times[-1]), FRAME_RATE, notes, **metre_, first_bar=line + 0.05)
        assert beats is not None
        assert beats.tempo == pytest.approx(before.tempo, rel=0.01)
        assert np.abs(np.array(beats.times[beats.downbeat :: per_bar]) - line).min() < 0.02
        assert 0 <= beats.times[0] < 0.62
        assert beats.times[-1] >= times[-1] - 0.02


def test_a_bar_line_that_is_nearest_to_a_beat_before_the_recording() -> None:
    times = click_map(100, 0.0, 40, start=0.5)
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, song(times), first_bar=0.0)
    assert beats is not None
    assert beats.times[0] == pytest.approx(0.5, abs=0.02)
    assert beats.downbeat == 3


@pytest.mark.parametrize("loud", [0, 1])
def test_loud_notes_tell_beats_from_off_beats(loud: int) -> None:
    """Where as many notes begin between beats as on them."""
    times = click_map(100, 0.0, 40, start=0.3)
    rng = np.random.default_rng(0)
    onsets = np.sort(np.concatenate([times, times[:-1] + 0.3]))[:-1]
    notes = [
        Note(t + rng.normal(0, 0.005), t + 0.25, 60 + int(rng.integers(5)), 90 if i % 2 == loud else 70, 0.9)
        for i, t in enumerate(onsets.tolist())
    ]
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, notes, tempo_hint=100)
    assert beats is not None
    assert f_measure(times[:-1] + 0.3 * loud, np.array(beats.times), 0.02) > 0.9


def eighths(times: NDArray[np.float64], *kinds: tuple[tuple[int, ...], float]) -> list[Note]:
    """Pitches and a length for what begins on each beat, and for what begins between them; 5 ms of scatter."""
    rng = np.random.default_rng(0)
    onsets = np.sort(np.concatenate([times, (times[:-1] + times[1:]) / 2]))[:-1]
    onsets += rng.normal(0, 0.005, len(onsets))
    return [Note(t, t + kinds[i % 2][1], p, 80, 0.9) for i, t in enumerate(onsets.tolist()) for p in kinds[i % 2][0]]


@pytest.mark.parametrize("off", [0, 1])
@pytest.mark.parametrize(
    ("beat", "between"),
    [
        (((60,), 0.28), ((60,), 0.15)),
        (((48, 64), 0.25), ((50, 64), 0.25)),
    ],
    ids=["long", "low"],
)
def test_long_notes_and_basses_tell_beats_from_off_beats(
    off: int, beat: tuple[tuple[int, ...], float], between: tuple[tuple[int, ...], float]
) -> None:
    """Where as many notes begin between beats as on them."""
    times = click_map(100, 0.0, 40, start=0.3)
    notes = eighths(times, *((between, beat) if off else (beat, between)))
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, notes, tempo_hint=100)
    assert beats is not None
    assert f_measure(times[:-1] + 0.3 * off, np.array(beats.times), 0.02) > 0.9


@pytest.mark.parametrize("off", [0, 1])
def test_low_notes_of_a_melody_are_no_basses(off: int) -> None:
    times = click_map(100, 0.0, 40, start=0.3)
    notes = eighths(times, ((67,), 0.28), ((64,), 0.25))
    later = [replace(n, onset=n.onset + 0.3 * off, offset=n.offset + 0.3 * off) for n in notes]
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, later, tempo_hint=100)
    assert beats is not None
    assert f_measure(times[:-1] + 0.3 * off, np.array(beats.times), 0.02) > 0.9


def test_what_begins_on_the_beat_may_be_short() -> None:
    """Where little is long, as where little begins that is not on the beat."""
    times = click_map(100, 0.0, 40, start=0.3)
    notes = [Note(t, t + (0.2 if i % 5 < 2 else 0.5), 60, 80, 0.9) for i, t in enumerate(times[:-1].tolist())]
    beats = estimate_beats(silence(times[-1]), FRAME_RATE, notes, tempo_hint=100)
    assert beats is not None
    assert f_measure(times[:-1], np.array(beats.times), 0.02) > 0.9
