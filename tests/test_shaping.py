"""Notes in another shape: what must hold for any notes, and music of which the outcome is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe.errors import UsageError
from basic_transcribe.keys import SCALES, parse_scale
from basic_transcribe.shaping import USEFUL, Shaped, ShapeSettings, shape
from basic_transcribe.types import Beats, Marker, Note, PitchBend

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)
FRAME = 256 / 22050
BEATS = Beats(tuple(np.arange(0, 12, 0.5)))


def note(onset: float, offset: float, pitch: int = 60, velocity: int = 80, confidence: float = 0.8) -> Note:
    return Note(onset, offset, pitch, velocity, confidence)


def bent(n: Note, *semitones: float, step: float = FRAME) -> Note:
    """The note with a bend that begins with it."""
    return replace(n, bend=PitchBend(n.onset, step, np.array(semitones, np.float32)))


def sounding(notes: Sequence[Note], time: float) -> list[Note]:
    return [n for n in notes if n.onset <= time < n.offset]


@st.composite
def music(draw: st.DrawFn) -> list[Note]:
    """Sorted notes of which no two of one pitch overlap, crowded into few pitches and moments, some with bends."""
    pitches = st.one_of(st.integers(58, 66), st.sampled_from([21, 22, 107, 108]))
    rows = st.tuples(st.integers(0, 60), pitches, st.integers(1, 40), st.integers(1, 127), st.integers(0, 8))
    notes: list[Note] = []
    end: dict[int, float] = {}
    for start, pitch, length, velocity, confidence in sorted(draw(st.lists(rows, max_size=20))):
        onset, offset = start / 20, start / 20 + length / 37
        if onset < end.get(pitch, 0):
            continue
        end[pitch] = offset
        bend = None
        if velocity % 2:
            frame = round(onset / FRAME)
            values = 0.4 * np.sin(velocity + np.arange(max(1, round((offset - onset) / FRAME))))
            bend = PitchBend(frame * FRAME, FRAME, (values + (velocity - 64) / 100).astype(np.float32))
        notes.append(Note(onset, offset, pitch, velocity, confidence / 8, bend))
    return sorted(notes, key=lambda n: (n.onset, n.pitch))


scales = st.tuples(st.sampled_from(["C", "F#", "Bb"]), st.sampled_from([*SCALES])).map(" ".join)
limits: dict[str, Any] = {
    "scale": st.none() | scales,
    "scale_mode": st.sampled_from(["snap", "drop", "mark"]),
    "legato": st.sampled_from([0.0, 1.0, 120.0, 2000.0]),
    "staccato": st.none() | st.sampled_from([10.0, 150.0, 1000.0]),
    "polyphony": st.none() | st.integers(1, 4),
    "velocity_curve": st.sampled_from([1.0, 0.5, 2.5]),
    "velocity_range": st.none() | st.sampled_from([(1, 127), (40, 90), (64, 64)]),
    "mark_below": st.none() | st.sampled_from([0.0, 0.5, 1.0]),
}
grids = {"quantize": st.none() | st.sampled_from([Fraction(1, 16), Fraction(1, 12), Fraction(1, 4)])}
chosen = st.builds(
    ShapeSettings, **limits, **grids, strength=st.sampled_from([0.0, 0.6, 1.0]), swing=st.sampled_from([0.0, 0.3])
)


# ---------------------------------------------------------------- what must hold for any notes


@EXAMPLES
@given(music(), chosen)
def test_what_the_settings_say_holds_for_the_notes(notes: list[Note], s: ShapeSettings) -> None:
    shaped = shape(notes, s, BEATS)
    assert [(n.onset, n.pitch) for n in shaped.notes] == sorted((n.onset, n.pitch) for n in shaped.notes)
    for n in shaped.notes:
        assert n.offset > n.onset >= 0
        assert 21 <= n.pitch <= 108
        assert isinstance(n.velocity, int)
        assert 1 <= n.velocity <= 127
        assert n.bend is None or (n.bend.semitones.dtype == np.float32 and np.isfinite(n.bend.semitones).all())
        if s.scale is not None and s.scale_mode != "mark":
            assert n.pitch in parse_scale(s.scale)
        if s.staccato is not None:
            assert n.duration <= s.staccato / 1000 + 1e-9
        if s.velocity_range is not None:
            assert s.velocity_range[0] <= n.velocity <= s.velocity_range[1]
    for pitch in {n.pitch for n in shaped.notes}:
        for a, b in pairwise(n for n in shaped.notes if n.pitch == pitch):
            assert a.offset <= b.onset
    if s.polyphony is not None:
        assert all(len(sounding(shaped.notes, n.onset)) <= s.polyphony for n in shaped.notes)
    assert list(shaped.markers) == sorted(shaped.markers, key=lambda m: m.time)
    assert {m.time for m in shaped.markers} <= {n.onset for n in shaped.notes}


@EXAMPLES
@given(music())
def test_neutral_settings_change_nothing(notes: list[Note]) -> None:
    shaped = shape(notes, ShapeSettings())
    assert shaped == Shaped(tuple(notes))
    assert all(a is b for a, b in zip(shaped.notes, notes, strict=True))


def test_notes_that_the_grid_makes_one_are_counted() -> None:
    eighths = [Note(0.25 * i + 0.02, 0.25 * i + 0.2, 60, 80, 0.9) for i in range(8)]
    click = Beats(tuple(0.5 * i for i in range(6)))
    coarse = shape(eighths, ShapeSettings(quantize=Fraction(1, 4)), click)
    assert (len(coarse.notes), coarse.joined) == (5, 3)
    assert shape(eighths, ShapeSettings(quantize=Fraction(1, 8)), click).joined == 0
    assert shape(eighths, ShapeSettings(legato=100), click).joined == 0


def test_notes_that_a_coarse_grid_makes_a_chord_are_counted() -> None:
    click = Beats(tuple(0.5 * i for i in range(9)))
    melody = [Note(0.25 * i, 0.25 * i + 0.2, 60 + i, 80, 0.9) for i in range(8)]
    assert shape(melody, ShapeSettings(quantize=Fraction(1, 4)), click).gathered == 4
    assert shape(melody, ShapeSettings(quantize=Fraction(1, 4), strength=0.5), click).gathered == 0
    assert shape(melody, ShapeSettings(quantize=Fraction(1, 8)), click).gathered == 0
    assert shape([], ShapeSettings(quantize=Fraction(1, 8)), click).gathered == 0
    repeated = [replace(note, pitch=60) for note in melody]
    assert shape(repeated, ShapeSettings(quantize=Fraction(1, 4)), click).gathered == 0  # they are joined


@pytest.mark.parametrize(
    ("played", "count"),
    [
        ([(0, 60), (0.095, 62)], 0),
        ([(0, 60), (0.105, 62)], 1),
        ([(0, 60), (0.2, 62), (0.2, 64)], 2),
        ([(0, 60), (0.15, 62), (0.2, 64)], 1),  # the last one follows closely
        ([(0, 60), (0.03, 62), (0.12, 64)], 1),  # a tenth of a second after the mean of the first two
    ],
)
def test_what_is_gathered_follows_by_more_than_a_tenth_of_a_second(played: list[tuple[float, int]], count: int) -> None:
    click = Beats(tuple(0.5 * i for i in range(9)))
    notes = [Note(onset, onset + 0.2, pitch, 80, 0.9) for onset, pitch in played]
    assert shape(notes, ShapeSettings(quantize=Fraction(1, 4)), click).gathered == count


def test_strummed_chords_and_ornaments_are_not_counted_as_gathered() -> None:
    click = Beats(tuple(0.5 * i for i in range(9)))
    strummed = [Note(beat + 0.02 * i, beat + 0.9, 40 + 5 * i, 80, 0.9) for beat in range(4) for i in range(6)]
    graced = [
        note
        for beat in range(4)
        for note in (Note(beat + 0.42, beat + 0.5, 71, 80, 0.9), Note(beat + 0.5, beat + 1, 72, 80, 0.9))
    ]
    for notes in (strummed, graced):
        assert shape(notes, ShapeSettings(quantize=Fraction(1, 4)), click).gathered == 0


@EXAMPLES
@given(music(), st.data(), st.sampled_from(["scale", "legato", "staccato", "polyphony"]))
def test_a_limit_that_is_kept_changes_nothing_more(notes: list[Note], data: st.DataObject, name: str) -> None:
    s = ShapeSettings(**{name: data.draw(limits[name]), "scale_mode": data.draw(st.sampled_from(["snap", "drop"]))})
    once = shape(notes, s)
    assert shape(once.notes, s) == once


@EXAMPLES
@given(music(), st.sampled_from([0.0, 0.05, 0.3]))
def test_legato_keeps_what_sounds_and_leaves_no_short_rest(notes: list[Note], gap: float) -> None:
    joined = shape(notes, ShapeSettings(legato=1000 * gap)).notes
    for n in notes:
        middle = (n.onset + n.offset) / 2
        assert any(m.pitch == n.pitch and m.velocity >= n.velocity for m in sounding(joined, middle))
    for pitch in {n.pitch for n in joined} if gap else ():
        for a, b in pairwise(n for n in joined if n.pitch == pitch):
            assert b.onset - a.offset >= gap


@EXAMPLES
@given(music(), scales)
def test_snapped_notes_are_near_where_they_were_and_keep_the_shape_of_their_bends(
    notes: list[Note], scale: str
) -> None:
    for n in notes:
        (moved,) = shape([n], ShapeSettings(scale=scale)).notes
        assert replace(moved, pitch=0, bend=None) == replace(n, pitch=0, bend=None)
        if n.pitch in parse_scale(scale):
            assert moved is n
        elif n.bend is not None:
            assert moved.bend is not None
            np.testing.assert_allclose(np.diff(moved.bend.semitones), np.diff(n.bend.semitones), atol=1e-6)
            assert float(np.median(moved.bend.semitones)) == pytest.approx(0, abs=1e-6)
            (tuned,) = shape([n], ShapeSettings(scale=scale), tuning=30.0).notes
            assert tuned.bend is not None
            assert float(np.median(tuned.bend.semitones)) == pytest.approx(0.3, abs=1e-6)
        if 24 <= n.pitch <= 105:
            nearest = min(abs(p - n.pitch) for p in range(128) if p in parse_scale(scale))
            assert abs(moved.pitch - n.pitch) == nearest


@EXAMPLES
@given(music(), st.integers(1, 4))
def test_thinning_only_takes_away_where_too_much_sounds(notes: list[Note], most: int) -> None:
    thinned = shape(notes, ShapeSettings(polyphony=most)).notes
    whole = {(n.onset, n.pitch): n for n in notes}
    for n in thinned:
        before = whole.pop((n.onset, n.pitch))
        if n != before:
            assert n == replace(before, offset=n.offset, bend=n.bend)
            assert n.duration >= USEFUL
            assert len(sounding(notes, n.offset)) > most
    for left_out in whole.values():
        assert any(len(sounding(notes, t.onset)) > most for t in notes if left_out.onset <= t.onset <= left_out.offset)


@EXAMPLES
@given(music(), st.sampled_from([0.5, 1.0, 2.5]), st.none() | st.sampled_from([(1, 127), (40, 90), (64, 64)]))
def test_velocities_keep_their_order(notes: list[Note], curve: float, ends: tuple[int, int] | None) -> None:
    shaped = shape(notes, ShapeSettings(velocity_curve=curve, velocity_range=ends)).notes
    assert [replace(n, velocity=1) for n in shaped] == [replace(n, velocity=1) for n in notes]
    pairs = sorted((a.velocity, b.velocity) for a, b in zip(notes, shaped, strict=True))
    assert [b for _, b in pairs] == sorted(b for _, b in pairs)


# ---------------------------------------------------------------- legato, staccato


def test_legato_joins_close_notes_of_one_pitch() -> None:
    notes = [note(0, 1, 60, 70, 0.5), note(0.2, 0.6, 62), note(1.04, 2, 60, 90, 0.4), note(2.06, 3, 60)]
    assert shape(notes, ShapeSettings(legato=50)).notes == (note(0, 2, 60, 90, 0.5), notes[1], notes[3])


def test_legato_leaves_a_rest_of_its_own_length() -> None:
    notes = [note(0, 1), note(1.25, 2)]
    assert shape(notes, ShapeSettings(legato=250)).notes == tuple(notes)
    assert len(shape(notes, ShapeSettings(legato=251)).notes) == 1


def test_legato_joins_any_number_of_notes() -> None:
    tremolo = [note(i / 8, i / 8 + 0.12, 64) for i in range(100)]
    (joined,) = shape(tremolo, ShapeSettings(legato=20)).notes
    assert (joined.onset, joined.offset) == (0, 99 / 8 + 0.12)


def test_a_bend_goes_on_through_a_join_and_holds_in_the_pause() -> None:
    first, second = bent(note(0, 0.3), 0.1, 0.2, 0.3, step=0.1), bent(note(0.5, 0.8), -0.1, -0.2, -0.3, step=0.1)
    (joined,) = shape([first, second], ShapeSettings(legato=300)).notes
    assert joined.bend is not None
    assert (joined.bend.start, joined.bend.step) == (0, 0.1)
    np.testing.assert_allclose(joined.bend.semitones, [0.1, 0.2, 0.3, 0.3, 0.3, -0.1, -0.2, -0.3], atol=1e-6)


@pytest.mark.parametrize(("onset", "begin"), [(0.52, 5), (0.58, 6)])
def test_a_joined_bend_changes_where_the_grid_is_nearest(onset: float, begin: int) -> None:
    first, second = bent(note(0, 0.5), *[0.3] * 5, step=0.1), bent(note(onset, 0.8), *[-0.2] * 3, step=0.1)
    (joined,) = shape([first, second], ShapeSettings(legato=300)).notes
    assert joined.bend is not None
    np.testing.assert_allclose(joined.bend.semitones, [0.3] * begin + [-0.2] * (8 - begin), atol=1e-6)


def test_each_part_of_a_joined_bend_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def interp(places: Any, *curve: Any) -> Any:
        computed.append(len(places))
        return np.zeros(len(places))

    notes = [bent(note(i / 8, i / 8 + 0.12), *np.zeros(11)) for i in range(100)]
    monkeypatch.setattr(np, "interp", interp)
    (joined,) = shape(notes, ShapeSettings(legato=20)).notes
    assert joined.bend is not None
    assert sum(computed) == len(joined.bend.semitones)


@pytest.mark.parametrize(("first", "expected"), [(True, [0.5, 0.5, 0.5, 0, 0]), (False, [0, 0, 0, 0.5, 0.5])])
def test_a_note_without_a_bend_is_joined_as_unbent(first: bool, expected: list[float]) -> None:
    a, b = note(0, 0.2), note(0.3, 0.5)
    notes = [bent(a, 0.5, 0.5, step=0.1), b] if first else [a, bent(b, 0.5, 0.5, step=0.1)]
    (joined,) = shape(notes, ShapeSettings(legato=150)).notes
    assert joined.bend is not None
    np.testing.assert_allclose(joined.bend.semitones, expected, atol=1e-6)


def test_staccato_cuts_long_notes_and_their_bends() -> None:
    long, short = bent(note(1, 2), *np.linspace(0, 0.9, 10), step=0.1), note(1, 1.2, 64)
    cut, same = shape([long, short], ShapeSettings(staccato=250)).notes
    assert same is short
    assert cut.offset == 1.25
    assert cut.bend is not None
    np.testing.assert_allclose(cut.bend.semitones, [0, 0.1, 0.2], atol=1e-6)


# ---------------------------------------------------------------- scale


@pytest.mark.parametrize(
    ("scale", "pitch", "bend", "expected"),
    [
        ("C major", 64, 0.4, 64),
        ("C major", 61, None, 60),
        ("C major", 61, 0.0, 60),
        ("C major", 61, 0.25, 62),
        ("C major", 61, -0.25, 60),
        ("C major", 61, 0.15, 60),  # a few cents are no intention
        ("C major", 61, 0.03, 60),
        ("A minor pentatonic", 66, -0.4, 67),  # the nearest of a gap of three, however bent
        ("A minor pentatonic", 65, 0.4, 64),
        ("D major", 108, None, 107),  # nothing is moved beyond the highest pitch
        ("Bb minor pentatonic", 21, None, 22),
    ],
)
def test_a_note_is_snapped_to_the_pitch_it_sounds_nearest_to(
    scale: str, pitch: int, bend: float | None, expected: int
) -> None:
    n = note(0, 1, pitch)
    (moved,) = shape([n if bend is None else bent(n, bend, bend, bend)], ShapeSettings(scale=scale)).notes
    assert moved.pitch == expected
    if pitch != expected and moved.bend is not None:
        np.testing.assert_allclose(moved.bend.semitones, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        # Begins with a note of the scale: the stronger stays.
        ([note(0, 1, 60), note(0.01, 1, 61, 40)], [note(0, 1, 60)]),
        ([note(0, 1, 60, 40), note(0.01, 0.9, 61)], [note(0.01, 0.9, 60)]),
        # Within a note of the scale; a note of the scale within it.
        ([note(0, 1, 60), note(0.3, 0.6, 61)], [note(0, 1, 60)]),
        ([note(0, 1, 61), note(0.3, 0.6, 60)], [note(0, 0.3, 60), note(0.3, 0.6, 60)]),
        # One after the other.
        ([note(0, 0.5, 60), note(0.3, 1, 61)], [note(0, 0.3, 60), note(0.3, 1, 60)]),
        ([note(0, 0.5, 60), note(0.5, 1, 61)], [note(0, 0.5, 60), note(0.5, 1, 60)]),
    ],
)
def test_snapped_notes_do_not_overlap(notes: list[Note], expected: list[Note]) -> None:
    assert list(shape(notes, ShapeSettings(scale="C major")).notes) == expected


def test_notes_off_the_scale_are_dropped_or_marked() -> None:
    notes = [note(0, 1, 60), note(0.5, 1, 66), note(1, 2, 62), note(1.5, 2, 73)]
    assert shape(notes, ShapeSettings(scale="C major", scale_mode="drop")) == Shaped((notes[0], notes[2]))
    assert shape(notes, ShapeSettings(scale="C major", scale_mode="mark")) == Shaped(
        tuple(notes), (Marker(0.5, "off scale F#4"), Marker(1.5, "off scale C#5"))
    )


def test_unsure_notes_are_marked() -> None:
    notes = [note(0, 1, 60, confidence=0.6), note(0.5, 1, 66, confidence=0.41), note(1, 2, 62, confidence=0.05)]
    assert shape(notes, ShapeSettings(mark_below=0.5)) == Shaped(
        tuple(notes), (Marker(0.5, "? F#4 0.41"), Marker(1, "? D4 0.05"))
    )
    both = shape(notes[1:2], ShapeSettings(mark_below=0.5, scale="C major", scale_mode="mark"))
    assert [m.text for m in both.markers] == ["? F#4 0.41", "off scale F#4"]


# ---------------------------------------------------------------- polyphony


def test_the_weakest_of_a_chord_yields() -> None:
    chord = [note(0, 1, 48, 90), note(0, 1, 60, 70), note(0, 1, 64, 80, 0.3), note(0, 1, 67, 85)]
    assert [n.pitch for n in shape(chord, ShapeSettings(polyphony=3)).notes] == [48, 60, 67]
    assert [n.pitch for n in shape(chord, ShapeSettings(polyphony=1)).notes] == [48]


def test_a_weak_note_is_cut_where_a_stronger_one_begins() -> None:
    weak = bent(note(0, 2, 48, 50), *np.zeros(20), step=0.1)
    (cut, melody) = shape([weak, note(1, 2, 72, 90)], ShapeSettings(polyphony=1)).notes
    assert (cut.pitch, cut.onset, cut.offset) == (48, 0, 1)
    assert cut.bend is not None
    assert len(cut.bend.semitones) == 10
    assert melody == note(1, 2, 72, 90)


def test_a_weak_note_that_has_hardly_sounded_is_left_out() -> None:
    assert shape([note(0.98, 2, 48, 50), note(1, 2, 72, 90)], ShapeSettings(polyphony=1)).notes == (note(1, 2, 72, 90),)


def test_a_ghost_does_not_end_a_strong_note() -> None:
    sung, ghost = note(0, 3, 64, 90, 0.9), note(1, 1.2, 76, 40, 0.5)
    assert shape([sung, ghost], ShapeSettings(polyphony=1)).notes == (sung,)


def test_a_short_strong_note_is_not_lost_to_a_long_weak_one() -> None:
    held, short = note(0, 3, 48, 50), note(1, 1.1, 76, 60)
    assert shape([held, short], ShapeSettings(polyphony=1)).notes == (note(0, 1, 48, 50), short)


@pytest.mark.parametrize("overlap", [0.001, 0.1])
def test_a_melody_played_legato_loses_no_note(overlap: float) -> None:
    melody = [note(i / 2, i / 2 + 0.5 + overlap, 60 + i, 100 - 9 * i) for i in range(8)]
    cut = shape(melody, ShapeSettings(polyphony=1)).notes
    assert [n.pitch for n in cut] == [n.pitch for n in melody]
    assert [a.offset for a in cut[:-1]] == [b.onset for b in cut[1:]]


def test_what_is_cut_short_makes_room() -> None:
    notes = [note(0, 2, 60, 90), note(0.5, 2, 64, 50)]
    assert len(shape(notes, ShapeSettings(polyphony=1)).notes) == 1
    assert len(shape(notes, ShapeSettings(polyphony=1, staccato=400)).notes) == 2


# ---------------------------------------------------------------- velocity


def test_the_curve_bends_velocities() -> None:
    notes = [note(i, i + 1, 60, v) for i, v in enumerate((1, 32, 64, 127))]
    soft = shape(notes, ShapeSettings(velocity_curve=2)).notes
    assert [n.velocity for n in soft] == [1, 8, 32, 127]
    loud = shape(notes, ShapeSettings(velocity_curve=0.5)).notes
    assert [n.velocity for n in loud] == [11, 64, 90, 127]


def test_velocities_fill_the_range() -> None:
    notes = [note(i, i + 1, 60, 30 + i) for i in range(41)]  # 5th percentile 32, 95th 68
    shaped = shape(notes, ShapeSettings(velocity_range=(20, 110))).notes
    velocities = [n.velocity for n in shaped]
    assert velocities[:4] == [20, 20, 20, 22]
    assert velocities[20] == 65
    assert velocities[-4:] == [108, 110, 110, 110]


@pytest.mark.parametrize("ends", [(64, 64), (50, 78)])
def test_even_velocities_go_to_the_middle(ends: tuple[int, int]) -> None:
    notes = [note(0, 1), note(1, 2), note(2, 3)]
    assert [n.velocity for n in shape(notes, ShapeSettings(velocity_range=ends)).notes] == [64] * 3


# ---------------------------------------------------------------- beats, settings


def test_notes_are_moved_to_the_grid() -> None:
    played = [note(0.02, 0.45, 60), note(0.49, 0.95, 62), note(1.03, 1.5, 64)]
    shaped = shape(played, ShapeSettings(quantize=Fraction(1, 8)), BEATS).notes
    np.testing.assert_allclose([n.onset for n in shaped], [0, 0.5, 1], atol=1e-9)
    assert shape(played, ShapeSettings(quantize=Fraction(1, 8), strength=0), BEATS).notes == tuple(played)


def test_quantising_needs_beats() -> None:
    with pytest.raises(UsageError, match="needs beats; give a tempo"):
        shape([note(0, 1)], ShapeSettings(quantize=Fraction(1, 16)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("scale", "H major"), ("scale", ""), ("scale_mode", "bend"), ("legato", -1), ("legato", float("nan"))),
        *(("staccato", 0), ("staccato", float("inf")), ("polyphony", 0), ("velocity_curve", 0), ("velocity_curve", 11)),
        *(("velocity_range", (0, 100)), ("velocity_range", (90, 40)), ("velocity_range", (1, 128))),
        *(("mark_below", 1.1), ("quantize", Fraction(0)), ("quantize", Fraction(-1, 16))),
        *(("strength", 1.5), ("swing", -0.1)),
    ],
)
def test_impossible_settings(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        ShapeSettings(**{name: value})
    assert name in str(caught.value) or "is no scale" in str(caught.value)
