"""Keys and scales: music whose key is known, and what must hold for any notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe.errors import UsageError
from basic_transcribe.keys import SCALES, SHARP_NAMES, estimate_key, parse_key, parse_scale, pitch_name
from basic_transcribe.types import Key, Note

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)
# From the tonic and back: I IV V I vi ii V7 I, and i iv V i VI ii V7 i.
MAJOR_CADENCE = ["C E G", "F A C", "G B D", "C E G", "A C E", "D F A", "G B D F", "C E G"]
MINOR_CADENCE = ["C D# G", "F G# C", "G B D", "C D# G", "G# C D#", "D F G#", "G B D F", "C D# G"]


def chords(names: Sequence[str], shift: int = 0) -> list[Note]:
    """A chord a second, each over its root."""
    classes = [[SHARP_NAMES.index(name) for name in chord.split()] for chord in names]
    return [
        Note(start, start + 0.9, pitch + shift, 80, 0.9)
        for start, chord in enumerate(classes)
        for pitch in (36 + chord[0], *(60 + c for c in chord))
    ]


def tune(text: str) -> list[Note]:
    """Notes of half a second, one after the other; a dot goes on for another half."""
    notes: list[Note] = []
    for i, name in enumerate(text.split()):
        if name == ".":
            notes[-1] = replace(notes[-1], offset=(i + 1) / 2)
        else:
            notes.append(Note(i / 2, (i + 1) / 2, 60 + SHARP_NAMES.index(name), 80, 0.9))
    return notes


any_notes = st.lists(
    st.builds(
        lambda onset, length, pitch, velocity, confidence: Note(
            onset / 8, (onset + length) / 8, pitch, velocity, confidence / 8
        ),
        *(st.integers(0, 80), st.integers(1, 16), st.integers(33, 96), st.integers(1, 127), st.integers(0, 8)),
    ),
    min_size=1,
    max_size=30,
)


# ---------------------------------------------------------------- estimates


@pytest.mark.parametrize("shift", range(12))
@pytest.mark.parametrize(("names", "mode"), [(MAJOR_CADENCE, "major"), (MINOR_CADENCE, "minor")])
def test_cadences_are_in_their_key(names: list[str], mode: str, shift: int) -> None:
    key = estimate_key(chords(names, shift))
    assert key is not None
    assert (key.tonic, key.mode) == (shift, mode)
    assert key.confidence > 0.5


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("C C G G A A G . F F E E D D C . G G F F E E D . G G F F E E D .", "C major"),  # Twinkle, twinkle
        ("G A G F E F G . D E F . E F G . G A G F E F G . D . G . E C C .", "C major"),  # London bridge
        ("F# . . G . . A . A A . B A . . D . . D E F# . F# E . D E . . .", "D major"),  # Oh! Susanna, about
        ("A B C D E A G# A E D C B A . E D C B A G# A B C D E . G# . A . A .", "A minor"),
        ("D . A . F . D . C# . D E F . . G F E D .", "D minor"),  # the subject of The Art of Fugue
    ],
)
def test_tunes_are_in_their_key(text: str, name: str) -> None:
    key = estimate_key(tune(text))
    assert key is not None
    assert key.name == name


@pytest.mark.parametrize("stress", [{"offset": 4.0}, {"velocity": 120}, {"confidence": 1.0}])
@pytest.mark.parametrize(("chord", "name"), [("C E G", "C major"), ("A C E", "A minor")])
def test_long_loud_and_sure_notes_count_more(stress: dict[str, Any], chord: str, name: str) -> None:
    scale = [Note(0, 1, 60 + SHARP_NAMES.index(c), 40, 0.3) for c in "C D E F G A B".split()]
    important = [SHARP_NAMES.index(c) for c in chord.split()]
    key = estimate_key([replace(n, **stress) if n.pitch % 12 in important else n for n in scale])
    assert key is not None
    assert key.name == name


def test_no_notes_have_no_key() -> None:
    assert estimate_key([]) is None


def test_notes_from_a_table_of_floats_have_the_same_key() -> None:
    notes = chords(MAJOR_CADENCE)
    table = np.array([(n.onset, n.offset, n.pitch, n.velocity, n.confidence) for n in notes])
    assert estimate_key([Note(*row) for row in table]) == estimate_key(notes)


@pytest.mark.parametrize("pitches", [range(60, 72), range(48, 96)])
def test_chromatic_music_tells_nothing(pitches: range) -> None:
    # Begun at odd moments, so that rounding makes their lengths differ by a hair.
    key = estimate_key([Note(i**2 / 7, i**2 / 7 + 0.1, p, 80, 0.9) for i, p in enumerate(pitches)])
    assert key is not None
    assert key.confidence == pytest.approx(0, abs=1e-9)


def test_symmetric_music_tells_little_and_the_same_everywhere() -> None:
    whole_tones = [Note(p, p + 1, p, 80, 0.9) for p in range(60, 72, 2)]
    keys = [estimate_key([replace(n, pitch=n.pitch + k) for n in whole_tones]) for k in (0, 2, 4)]
    assert len(set(keys)) == 1
    assert keys[0] is not None
    assert keys[0].confidence < 0.3


def test_more_of_the_same_music_is_surer() -> None:
    bars = [estimate_key(chords(MAJOR_CADENCE[:1] * n)) for n in (1, 2, 4, 8)]
    confidences = [key.confidence for key in bars if key is not None]
    assert len(confidences) == 4
    assert confidences == sorted(set(confidences))


@EXAMPLES
@given(any_notes)
def test_confidence_is_a_share(notes: list[Note]) -> None:
    key = estimate_key(notes)
    assert key is not None
    assert 0 <= key.tonic < 12
    assert key.mode in ("major", "minor")
    assert 0 <= key.confidence <= 1


@EXAMPLES
@given(any_notes, st.integers(-12, 12))
def test_a_key_moves_with_the_music(notes: list[Note], shift: int) -> None:
    here, there = estimate_key(notes), estimate_key([replace(n, pitch=n.pitch + shift) for n in notes])
    assert here is not None
    assert there is not None
    assert there.confidence == pytest.approx(here.confidence, abs=1e-6)
    if here.confidence > 0.5:  # else two keys may do equally well
        assert (there.tonic, there.mode) == ((here.tonic + shift) % 12, here.mode)


@EXAMPLES
@given(any_notes, st.integers(-2, 2))
def test_octave_order_and_tempo_do_not_matter(notes: list[Note], octaves: int) -> None:
    other = [replace(n, onset=2 * n.onset, offset=2 * n.offset, pitch=n.pitch + 12 * octaves) for n in reversed(notes)]
    here, there = estimate_key(notes), estimate_key(other)
    assert here is not None
    assert there is not None
    assert (there.tonic, there.mode) == (here.tonic, here.mode)
    assert there.confidence == pytest.approx(here.confidence, abs=1e-6)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("C", "C major"), ("c minor", "C minor"), ("Cm", "C minor"), ("CM", "C major"), ("c#m", "C# minor")),
        *(("Eb major", "Eb major"), ("F♯ minor", "F# minor"), ("B♭", "Bb major"), ("bbm", "Bb minor")),
        *((" A  Minor ", "A minor"), ("Gmaj", "G major"), ("e min", "E minor"), ("B-minor", "B minor")),
        *(("Cb", "Cb major"), ("C#", "C# major"), ("Db", "Db major"), ("Gb major", "Gb major"), ("F#", "F# major")),
        *(("Eb minor", "Eb minor"), ("D#m", "D# minor"), ("abm", "Ab minor"), ("G#m", "G# minor"), ("A♯m", "A# minor")),
        # Those would need more than seven flats or sharps.
        *(("D# major", "Eb major"), ("Fb", "E major"), ("B#", "C major"), ("Db minor", "C# minor"), ("E#m", "F minor")),
    ],
)
def test_keys_by_name(text: str, name: str) -> None:
    key = parse_key(text)
    assert key.name == name
    assert key.confidence == 1


@pytest.mark.parametrize("flats", [None, False, True])
@pytest.mark.parametrize("mode", ["major", "minor"])
@pytest.mark.parametrize("tonic", range(12))
def test_names_of_keys_are_understood(tonic: int, mode: str, flats: bool | None) -> None:
    key = Key(tonic, mode, flats=flats)
    assert parse_key(key.name) == key


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("major", "Cb Gb Db Ab Eb Bb F C G D A E B F# C#"),
        ("minor", "Ab Eb Bb F C G D A E B F# C# G# D# A#"),
    ],
)
def test_signatures(mode: str, names: str) -> None:
    """The circle of fifths, from seven flats to seven sharps."""
    assert replace(Key(0, "major"), tonic=1) == Key(1, "major")  # whose spelling is that of the other no longer
    keys = [parse_key(f"{name} {mode}") for name in names.split()]
    assert [key.fifths for key in keys] == list(range(-7, 8))
    assert [key.name for key in keys] == [f"{name} {mode}" for name in names.split()]
    assert len(set(keys)) == 15
    assert all((keys[i + 1].tonic - keys[i].tonic) % 12 == 7 for i in range(14))


@pytest.mark.parametrize(
    ("mode", "names"),
    [("major", "C Db D Eb E F F# G Ab A Bb B"), ("minor", "C C# D Eb E F F# G G# A Bb B")],
)
def test_names_with_the_fewest_accidentals(mode: str, names: str) -> None:
    assert [Key(tonic, mode).name for tonic in range(12)] == [f"{name} {mode}" for name in names.split()]


@pytest.mark.parametrize("text", ["", "H", "C dorian", "Cmm", "C##", "minor", "C major\n\nD", "1"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(UsageError, match="is no key; give one such as") as caught:
        parse_key(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "pitches"),
    [
        *(("C major", "C D E F G A B"), ("A minor", "A B C D E F G"), ("Am", "A B C D E F G"), ("F", "F G A A# C D E")),
        *(("A harmonic minor", "A B C D E F G#"), ("A melodic minor", "A B C D E F# G#")),
        *(("D dorian", "D E F G A B C"), ("E phrygian", "E F G A B C D"), ("F lydian", "F G A B C D E")),
        *(("G mixolydian", "G A B C D E F"), ("B locrian", "B C D E F G A")),
        *(("C major pentatonic", "C D E G A"), ("A minor pentatonic", "A C D E G")),
        *(("A blues", "A C D D# E G"), ("C whole tone", "C D E F# G# A#"), ("d Whole-Tone", "D E F# G# A# C")),
        ("Bb major", "A# C D D# F G A"),
        ("C chromatic", " ".join(SHARP_NAMES)),
    ],
)
def test_scales_by_name(text: str, pitches: str) -> None:
    scale = parse_scale(text)
    expected = [SHARP_NAMES.index(name) for name in pitches.split()]
    assert scale.tonic == expected[0]
    assert scale.pitch_classes == tuple(sorted(expected))
    for pitch in range(128):
        assert (pitch in scale) == (pitch % 12 in expected)


@pytest.mark.parametrize("kind", SCALES)
def test_names_of_scales_are_understood(kind: str) -> None:
    scale = parse_scale(f"e♭ {kind}")
    assert scale.name == f"Eb {kind}"
    assert parse_scale(scale.name) == scale


@pytest.mark.parametrize("text", ["", "dorian", "H major", "C klezmer", "C# # minor"])
def test_what_is_no_scale(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no scale; .*dorian.*whole tone.*chromatic"):
        parse_scale(text)


def test_pitches_have_names() -> None:
    assert [pitch_name(p) for p in (21, 60, 66, 69, 108)] == ["A0", "C4", "F#4", "A4", "C8"]
