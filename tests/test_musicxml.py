"""Scores: every bar full, every note in it, and music with known answers."""

from __future__ import annotations

import base64
import random
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pretty_midi import PrettyMIDI

from basic_transcribe.errors import UsageError
from basic_transcribe.keys import parse_key
from basic_transcribe.musicxml import notes_to_musicxml
from basic_transcribe.timing import beat_position, beat_time, quantize
from basic_transcribe.types import Beats, Key, Note

VALUES = {
    "breve": Fraction(8),
    "whole": Fraction(4),
    "half": Fraction(2),
    "quarter": Fraction(1),
    "eighth": Fraction(1, 2),
    **{f"{2**k}{'nd' if k == 5 else 'th'}": Fraction(4, 2**k) for k in range(4, 8)},
}
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True, order=True)
class Symbol:
    """A note or, without a pitch, a rest of a score. Times in quarter notes from the first bar line."""

    start: Fraction
    length: Fraction
    pitch: int | None
    staff: int
    voice: int
    name: str = ""
    text: str = ""  # value, dots, ties, beams: what a reader sees


@dataclass(frozen=True)
class Score:
    symbols: list[Symbol]
    bars: list[Fraction]  # lengths in quarter notes
    root: ET.Element

    def heard(self) -> set[tuple[Fraction, int]]:
        """Onset and pitch of each note, tied ones once."""
        return {(s.start, s.pitch) for s in self.symbols if s.pitch is not None and "(" not in s.text}

    def said(self, staff: int = 1, voice: int = 1) -> list[str]:
        """The symbols of a voice."""
        return [f"{s.name or 'rest'} {s.text}" for s in self.symbols if (s.staff, s.voice) == (staff, voice)]


def read(data: bytes) -> Score:
    """Read a score, and check that every voice fills every bar with symbols that mean their lengths.

    What is shortened to two thirds, and nothing else, lies within a tuplet that has both ends.
    """
    root = ET.fromstring(data)
    divisions = int(root.findtext(".//divisions") or 0)
    time = Fraction(int(root.findtext(".//beats") or 0) * 4, int(root.findtext(".//beat-type") or 1))
    symbols: list[Symbol] = []
    bars: list[Fraction] = []
    tied: set[tuple[str, int]] = set()
    for measure in root.iter("measure"):
        bar, at, start, begin = sum(bars, Fraction()), Fraction(), Fraction(), len(symbols)
        filled: dict[int, Fraction] = {}
        tuplets: set[int] = set()  # voices that are within one
        for element in measure:
            length = Fraction(int(element.findtext("duration") or 0), divisions)
            if element.tag == "backup":
                at -= length
            if element.tag != "note":
                continue
            if element.find("grace") is not None:
                assert element.find("duration") is None
                symbols.append(symbol(element, bar + at, length, tied))
                continue
            assert length > 0
            if element.find("chord") is None:
                start, at = at, at + length
                voice = int(element.findtext("voice") or 0)
                filled[voice] = filled.get(voice, Fraction()) + length
                assert at == filled[voice]
                edges = [tuplet.get("type") for tuplet in element.findall("notations/tuplet")]
                if "start" in edges:
                    assert voice not in tuplets
                    tuplets.add(voice)
                assert (voice in tuplets) == (element.find("time-modification") is not None)
                if "stop" in edges:
                    tuplets.remove(voice)
            assert meaning(element, time if measure.get("implicit") is None else length) == length
            symbols.append(symbol(element, bar + start, length, tied))
        assert not tuplets
        assert len(set(filled.values())) == 1
        bars.append(filled[1])
        assert {s.staff for s in symbols[begin:]} == set(range(1, int(root.findtext(".//staves") or 1) + 1))
    assert not tied
    assert set(bars[1:]) <= {time}
    assert bars[0] == time or root.find(".//measure").get("implicit") == "yes"  # type: ignore[union-attr]
    return Score(symbols, bars, root)


def meaning(note: ET.Element, bar: Fraction) -> Fraction:
    """Length of a symbol by its shape."""
    if note.find("type") is None:
        rest = note.find("rest")
        assert rest is not None
        assert rest.get("measure") == "yes"
        return bar
    value = VALUES[note.findtext("type") or ""]
    value *= Fraction(3, 2) if note.find("dot") is not None else 1
    return value * (Fraction(2, 3) if note.find("time-modification") is not None else 1)


def symbol(note: ET.Element, start: Fraction, length: Fraction, tied: set[tuple[str, int]]) -> Symbol:
    """A symbol, after matching its ties with those that wait for their other end."""
    pitch, name = None, ""
    staff, voice = int(note.findtext("staff") or 1), int(note.findtext("voice") or 0)
    voice -= 4 * (staff - 1)
    ties = [tie.get("type") for tie in note.findall("tie")]
    assert ties == [tie.get("type") for tie in note.findall("notations/tied")]
    if note.find("pitch") is not None:
        step, octave = note.findtext("pitch/step") or "", int(note.findtext("pitch/octave") or 0)
        alter = int(note.findtext("pitch/alter") or 0)
        pitch = 12 * (octave + 1) + STEPS[step] + alter
        name = step + {-2: "bb", -1: "b", 0: "", 1: "#", 2: "##"}[alter] + str(octave)
        key = (name, voice + 4 * staff)
        for kind in ties:
            (tied.remove if kind == "stop" else tied.add)(key)
    text = (note.findtext("type") or "bar") + "." * len(note.findall("dot"))
    text = "(" * ("stop" in ties) + text + ")" * ("start" in ties) + " grace" * (note.find("grace") is not None)
    return Symbol(start, length, pitch, staff, voice, name, text)


def score(notes: list[Note], beats: Beats, **options: object) -> Score:
    return read(notes_to_musicxml(notes, beats=beats, **options))  # type: ignore[arg-type]


EVEN = Beats(tuple(np.arange(40) * 0.5))  # 120 a minute


def line(*played: tuple[float, float, int]) -> list[Note]:
    """Notes of (onset, length, pitch), in beats of :data:`EVEN`."""
    return [Note(onset / 2, (onset + length) / 2, pitch, 80, 1.0) for onset, length, pitch in played]


def scale(pitches: list[int], step: float = 1.0) -> list[Note]:
    return line(*((i * step, step, pitch) for i, pitch in enumerate(pitches)))


# ---------------------------------------------------------------------------------------------------------- properties

divisions = st.sampled_from([4, 8, 16, 32, 12, 24, 48])
keys = st.none() | st.builds(
    Key, st.integers(0, 11), st.sampled_from(["major", "minor"]), flats=st.none() | st.booleans()
)


@st.composite
def metres(draw: st.DrawFn) -> tuple[Beats, Fraction]:
    """Uneven beats in a metre, and a division that it allows."""
    division = draw(divisions)
    quarters = draw(st.sampled_from([0.5, 1.0, 1.0, 1.5, 2.0, 3.0]))
    per_bar = draw(st.integers(1, 12))
    gaps = draw(st.lists(st.floats(0.2, 1.5), min_size=1, max_size=20))
    times = np.cumsum([draw(st.floats(0, 3)), *gaps])
    downbeat = draw(st.integers(0, per_bar - 1))
    return Beats(tuple(times.tolist()), per_bar, downbeat, quarters), Fraction(1, division)


def finer(division: Fraction, beats: Beats) -> Fraction:
    """The division that is used: one that divides the beat, and a triplet only into whole ones."""
    while Fraction(beats.quarters) / (4 * division) % (3 if division.denominator % 3 == 0 else 1):
        division /= 2
    return division


played = st.lists(st.tuples(st.floats(0, 15), st.floats(0.01, 4), st.integers(21, 108)), max_size=30)


@given(played, metres(), keys)
@settings(max_examples=60, deadline=None)
def test_any_notes_on_any_beats(
    played: list[tuple[float, float, int]], metre: tuple[Beats, Fraction], key: Key
) -> None:
    """Bars are full, ties have both ends (:func:`read`), and every note is where it was within a division."""
    beats, division = metre
    notes = [Note(onset, onset + length, pitch, 80, 1.0) for onset, length, pitch in played]
    found = score(notes, beats, key=key, division=division)
    assert {pitch for _, pitch in found.heard()} == {note.pitch for note in notes}
    tick = 4 * division
    wanted = {(beat_position(beats, n.onset) * beats.quarters, n.pitch) for n in notes}
    if wanted:
        starts = {pitch: [s for s, p in found.heard() if p == pitch] for _, pitch in wanted}
        first = min(s for s, _ in found.heard())
        shift = float(first) - min(s for s, _ in wanted)
        assert all(min(abs(float(s) - w - shift) for s in starts[p]) <= 2 * tick for w, p in wanted)


@given(played, metres(), keys)
@settings(max_examples=60, deadline=None)
def test_any_notes_in_sixteenths_and_triplets(
    played: list[tuple[float, float, int]], metre: tuple[Beats, Fraction], key: Key | None
) -> None:
    """The same where the writer chooses between the two, quarter by quarter."""
    beats, _ = metre
    notes = [Note(onset, onset + length, pitch, 80, 1.0) for onset, length, pitch in played]
    found = score(notes, beats, key=key)
    assert {pitch for _, pitch in found.heard()} == {note.pitch for note in notes}
    assert {(12 * s).denominator for s, _ in found.heard() if beats.quarters >= 1} <= {1}
    onsets = [float(beat_position(beats, n.onset)) * beats.quarters for n in notes]
    if onsets:
        bar = beats.per_bar * beats.quarters
        line = beats.downbeat * beats.quarters - float(found.bars[0])  # where the score begins, but for whole bars
        for place, note in zip(onsets, notes, strict=True):
            distance = [
                (float(s) + line - place + bar / 2) % bar - bar / 2 for s, p in found.heard() if p == note.pitch
            ]
            assert min(map(abs, distance)) < 0.35


@st.composite
def quantised(draw: st.DrawFn) -> tuple[list[tuple[int, int, int]], Beats, Fraction]:
    """Notes (start, length, pitch) in divisions, none of a pitch overlapping, with beats as uneven as before."""
    beats, division = draw(metres())
    per_beat = int(beats.quarters / (4 * finer(division, beats)))
    length = per_beat * (len(beats.times) - 1)
    notes = draw(st.lists(st.tuples(st.integers(0, length), st.integers(1, 3 * per_beat), st.integers(21, 108))))
    return [(s, n, p) for s, n, p in {(s, p): (s, n, p) for s, n, p in notes}.values()], beats, division


@given(quantised(), keys)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_notes_on_the_grid_are_written_as_they_are(
    music: tuple[list[tuple[int, int, int]], Beats, Fraction], key: Key
) -> None:
    """The same onsets and pitches come out, whatever else is on the page."""
    played, beats, division = music
    tick = 4 * finer(division, beats)

    def seconds(ticks: int) -> float:
        return float(beat_time(beats, float(ticks * tick) / beats.quarters))

    notes = [Note(seconds(s), seconds(s + n), p, 80, 1.0) for s, n, p in played]
    found = score(notes, beats, key=key, division=division)
    expected = {(s * tick, p) for s, _, p in played}
    shift = min((s for s, _ in expected), default=Fraction()) - min((s for s, _ in found.heard()), default=Fraction())
    assert {(s + shift, p) for s, p in found.heard()} == expected
    quarters = Fraction(beats.quarters)
    line = shift + found.bars[0] - beats.downbeat * quarters
    assert not played or line % (beats.per_bar * quarters) == 0


@given(quantised(), st.sampled_from([0, 24]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_pitch_overlaps_itself(music: tuple[list[tuple[int, int, int]], Beats, Fraction], program: int) -> None:
    played, beats, division = music
    notes = [Note(s / 20, (s + n) / 20, 60 + p % 13, 80, 1.0) for s, n, p in played]
    no_overlaps(score(notes, beats, division=division, program=program))


def no_overlaps(found: Score) -> None:
    """No note of a pitch begins while another of it sounds, in whatever voice."""
    ends: dict[int, Fraction] = {}
    for s in sorted((s for s in found.symbols if s.pitch is not None), key=lambda s: s.start):
        assert s.pitch is not None
        assert s.start >= ends.get(s.pitch, s.start), f"{s.name} at {s.start}"
        ends[s.pitch] = s.start + s.length


def test_a_chord_ends_before_one_of_its_notes_comes_in_the_other_voice() -> None:
    found = score(line((0, 0.75, 60), (0, 1.5, 62), (0.75, 0.5, 60), (1, 0.75, 67)), EVEN, program=24)
    no_overlaps(found)
    assert len(found.heard()) == 4


@pytest.mark.parametrize("swing", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("division", [Fraction(1, 8), Fraction(1, 16), Fraction(1, 12)])
@pytest.mark.parametrize("strength", [1.0, 0.8])
def test_what_swings_is_written_evenly(swing: float, division: Fraction, strength: float) -> None:
    step = float(4 * division)
    even = scale([60 + i % 12 for i in range(24)], step)
    late = [replace(n, onset=n.onset + 0.01 * (-1) ** i, offset=n.offset - 0.02) for i, n in enumerate(even) if i]
    swung = quantize([even[0], *late], EVEN, division, strength, swing)
    found = score(list(swung), EVEN, division=division, swing=swing)
    assert found.heard() == {(Fraction(4 * division) * i, n.pitch) for i, n in enumerate(even)}


@pytest.mark.parametrize(
    ("division", "swing", "said"),
    [
        (Fraction(1, 8), 0.5, ["2", "1", "eighth"]),
        (Fraction(1, 16), 1.0, ["3", "1", "16th"]),
        (Fraction(1, 8), 0.3, ["8", "5", "eighth"]),
        (Fraction(1, 12), 0.5, []),  # MusicXML has eighths and sixteenths only
        (Fraction(1, 8), 0.0, None),
        (None, 0.5, None),
    ],
)
def test_the_score_says_that_it_swings(division: Fraction | None, swing: float, said: list[str] | None) -> None:
    root = score(scale([60, 62, 64]), EVEN, division=division, swing=swing).root
    assert [words.text for words in root.iter("words")] == (["Swing"] if said is not None else [])
    assert [e.text for e in root.findall(".//sound/swing/*")] == (said or [])


def test_what_swings_loosely_is_written_on_the_nearest_step() -> None:
    """The first step of a pair lasts three quarters of it: the middle of the steps is at 3/8 and 7/8."""
    loose = line((0.36, 0.3, 60), (1.39, 0.3, 62), (2.86, 0.1, 64), (3.89, 0.5, 65))
    found = score(loose, EVEN, division=Fraction(1, 8), swing=1.0)
    assert found.heard() == {(Fraction(0), 60), (Fraction(3, 2), 62), (Fraction(5, 2), 64), (Fraction(4), 65)}


def test_swing_is_counted_from_the_first_bar() -> None:
    """Of three steps in a beat every second one is another in each beat."""
    beats = replace(EVEN, downbeat=1)
    even = line(*((1 + i / 3, 1 / 3, 60 + i) for i in range(9)))
    swung = quantize(even, beats, Fraction(1, 12), 1.0, 1.0)
    assert swung[1].onset - swung[0].onset == pytest.approx(0.25)
    found = score(list(swung), beats, division=Fraction(1, 12), swing=1.0)
    assert found.heard() == {(Fraction(i, 3), 60 + i) for i in range(9)}


@given(quantised())
@settings(max_examples=20, deadline=None)
def test_partitura_reads_the_same(music: tuple[list[tuple[int, int, int]], Beats, Fraction]) -> None:
    partitura = pytest.importorskip("partitura")
    played, beats, division = music
    notes = [Note(s / 20, (s + n) / 20, p, 80, 1.0) for s, n, p in played]
    data = notes_to_musicxml(notes, beats=beats, division=division)
    with tempfile.NamedTemporaryFile(suffix=".musicxml") as file:
        file.write(data)
        file.flush()
        array = partitura.load_musicxml(file.name)[0].note_array() if notes else []
    heard = read(data).heard()
    first = min((start for start, _ in heard), default=Fraction())
    offset = min((float(n["onset_quarter"]) for n in array), default=0.0)
    ours = sorted((round(float(start - first), 3), pitch) for start, pitch in heard)
    assert sorted((round(float(n["onset_quarter"]) - offset, 3), int(n["pitch"])) for n in array) == ours


# ------------------------------------------------------------------------------------------------------- known answers


def test_a_scale() -> None:
    found = score(scale([60, 62, 64, 65, 67, 69, 71, 72]), EVEN, key=Key(0, "major"), title="Scale")
    assert found.said() == [f"{name} quarter" for name in "C4 D4 E4 F4 G4 A4 B4 C5".split()]
    assert found.bars == [4, 4]
    assert found.root.findtext("work/work-title") == "Scale"
    assert found.root.findtext(".//per-minute") == "120"
    assert found.root.find(".//accidental") is None
    assert [clef.findtext("sign") for clef in found.root.iter("clef")] == ["G"]


@pytest.mark.parametrize(
    ("key", "fifths", "names"),
    [
        (None, 0, "C C# D Eb E F F# G G# A Bb B"),
        (Key(0, "major"), 0, "C C# D Eb E F F# G G# A Bb B"),
        (Key(9, "minor"), 0, "C C# D D# E F F# G G# A Bb B"),
        (Key(3, "major"), -3, "C Db D Eb E F Gb G Ab A Bb B"),
        (Key(0, "minor"), -3, "C Db D Eb E F F# G Ab A Bb B"),
        (Key(4, "major"), 4, "B# C# D D# E E# F# G G# A A# B"),
        (Key(6, "major"), 6, "B# C# C## D# E E# F# F## G# A A# B"),
        (Key(1, "major"), -5, "C Db D Eb Fb F Gb G Ab A Bb Cb"),
        (Key(3, "minor"), -6, "C Db D Eb Fb F Gb G Ab A Bb Cb"),
        (Key(11, "major", flats=True), -7, "C Db Ebb Eb Fb F Gb G Ab Bbb Bb Cb"),
        (Key(1, "major", flats=False), 7, "B# C# C## D# E E# F# F## G# G## A# B"),
    ],
)
def test_names_follow_the_key(key: Key | None, fifths: int, names: str) -> None:
    found = score(scale(list(range(60, 72))), EVEN, key=key)
    assert [s.name.rstrip("345") for s in found.symbols if s.pitch] == names.split()
    assert [s.pitch for s in found.symbols if s.pitch] == list(range(60, 72))
    assert found.root.findtext(".//fifths") == str(fifths)


def test_accidentals_are_shown_where_they_are_needed() -> None:
    found = score(scale([66, 66, 65, 67, 66, 78]), EVEN, key=Key(7, "major"))  # G major has an F#
    shown = [(note.findtext("pitch/octave"), note.findtext("accidental")) for note in found.root.iter("note")]
    assert shown[:6] == [("4", None), ("4", None), ("4", "natural"), ("4", None), ("4", None), ("5", None)]
    found = score(scale([66, 65, 66, 78]), EVEN)
    shown = [(note.findtext("pitch/octave"), note.findtext("accidental")) for note in found.root.iter("note")]
    assert shown == [("4", "sharp"), ("4", "natural"), ("4", "sharp"), ("5", "sharp")]


@pytest.mark.parametrize(
    ("played", "said"),
    [
        ([(0, 4)], "whole"),
        ([(0, 3), (3, 1)], "half. quarter"),
        ([(0, 0.5), (0.5, 1), (1.5, 0.5), (2, 2)], "eighth quarter eighth half"),
        ([(0, 1), (1, 2), (3, 1)], "quarter half quarter"),
        ([(0, 1.5), (1.5, 1), (2.5, 1.5)], "quarter. eighth) (eighth quarter."),  # the middle of the bar is shown
        ([(0, 1.25), (1.25, 0.75), (2, 2)], "quarter) (16th eighth. half"),
        ([(0, 2.5), (2.5, 1.5)], "half) (eighth quarter."),
        ([(0, 1), (1, 4), (5, 3)], "quarter half.) (quarter half."),  # over a bar line
        ([(0, 1), (2, 1)], "quarter rest quarter rest"),
        ([(0, 1), (3, 1)], "quarter rest rest quarter"),  # rests stand on beats
        ([(0, 0.9), (1.02, 0.2), (1.5, 0.4), (2, 1.8)], "quarter eighth eighth half"),  # small gaps are closed
    ],
)
def test_rhythms(played: list[tuple[float, float]], said: str) -> None:
    found = score(line(*((onset, length, 72) for onset, length in played)), EVEN)
    assert " ".join(s.text if s.pitch else "rest" for s in found.symbols).startswith(said)


def test_triplets() -> None:
    third = 1 / 3
    played = [
        *((i * third, third, 60 + i) for i in range(3)),
        (1, 2 * third, 65),
        (1 + 2 * third, third, 67),
        (2, 2, 72),
    ]
    found = score(line(*played), EVEN, division=Fraction(1, 12))
    assert [s.text for s in found.symbols] == ["eighth", "eighth", "eighth", "quarter", "eighth", "half"]
    tuplets = [[t.get("type") for t in note.findall(".//tuplet")] for note in found.root.iter("note")]
    assert tuplets == [["start"], [], ["stop"], ["start"], ["stop"], []]
    beams = [[b.text for b in note.findall("beam")] for note in found.root.iter("note")]
    assert beams == [["begin"], ["continue"], ["end"], [], [], []]


@pytest.mark.parametrize("division", [Fraction(1, 6), Fraction(1, 12), None])
def test_triplets_of_quarters(division: Fraction | None) -> None:
    """Three in the time of a half, on beats 1 and 3 of the bar."""
    third = 2 / 3
    triplet = [(i * third, third, 60 + 2 * i) for i in range(3)]
    found = score(line(*triplet, (2, 2, 67), (4, 4, 64)), EVEN, division=division)
    assert found.said() == ["C4 quarter", "D4 quarter", "E4 quarter", "G4 half", "E4 whole"]
    tuplets = [[t.get("type") for t in note.findall(".//tuplet")] for note in found.root.iter("note")]
    assert tuplets == [["start"], [], ["stop"], [], []]
    late = score(line((0, 1, 60), *((1 + a, n, p) for a, n, p in triplet), (3, 1, 60)), EVEN, division=division)
    assert len(late.root.findall(".//tuplet")) == 4  # the middle of the bar is shown


def beats_of(*played: str) -> list[Note]:
    """Each text is a beat: where in it notes begin, in twelfths of it. A note ends where the next begins."""
    starts = [i + Fraction(int(place), 12) for i, beat in enumerate(played) for place in beat.split()]
    ends = [*starts[1:], Fraction(len(played))]
    return line(*((float(a), float(b - a), 72) for a, b in zip(starts, ends, strict=True)))


@pytest.mark.parametrize(
    ("played", "said"),
    [
        (["0", "0 8"] * 4, "quarter quarter~ eighth~ " * 4),  # swing
        (["0 4 8", "0 6", "0 3 6 9", "0"], "eighth~ eighth~ eighth~ eighth eighth 16th 16th 16th 16th quarter"),
        (["0 9", "6", "0 6", "9"], "eighth. 16th) eighth eighth eighth eighth) eighth. 16th"),
        (["0 7", "0 8", "0 7", "0 8"], "quarter~ eighth~ " * 4),  # less than a triplet, often
        (["0", "0 8", "0 6", "0"], "quarter eighth. 16th eighth eighth quarter"),  # perhaps a triplet, but once
        (["0 1 8", "0 5 8"], "quarter~ eighth~ eighth~ eighth~ eighth~"),
    ],
)
def test_triplets_are_found(played: list[str], said: str) -> None:
    found = score(beats_of(*played), EVEN)
    notes = [n for n in found.root.iter("note") if n.find("pitch") is not None]
    texts = [s.text for s in found.symbols if s.pitch]
    written = [
        text.replace("(", "") + "~" * (n.find("time-modification") is not None)
        for text, n in zip(texts, notes, strict=True)
    ]
    assert " ".join(written) == said.strip()


@pytest.mark.parametrize("scatter", [0.0, 0.006, -0.006, 0.01, -0.01])
def test_one_triplet_that_is_played_unevenly_is_found(scatter: float) -> None:
    """Where both of its inner notes are struck; a sixteenth, an eighth and a sixteenth stay what they are."""
    for first, triplet in ((1 / 3, True), (1 / 4, False)):
        starts = [0, 1, 1 + first + 2 * scatter, 2 - first - 2 * scatter, 2, 2.5, 3]
        found = score(line(*((a, b - a, 72) for a, b in zip(starts, [*starts[1:], 4], strict=True))), EVEN)
        assert (found.root.find(".//tuplet") is not None) == triplet
        assert sorted(start for start, _ in found.heard())[2] == 1 + Fraction(1, 3 if triplet else 4)


def test_a_division_that_is_given_is_obeyed() -> None:
    swing = beats_of(*["0 8"] * 8)
    assert score(swing, EVEN, division=Fraction(1, 16)).root.find(".//tuplet") is None
    assert score(swing, EVEN).root.find(".//tuplet") is not None


def test_no_note_ends_at_a_third_where_none_begins_there() -> None:
    played = [(0, 2 / 3), (2 / 3, 1 / 3), (1, 0.4), (2, 2 / 3), (2 + 2 / 3, 1 / 3), (3, 1)]
    found = score(line(*((onset, length, 72) for onset, length in played)), EVEN)
    assert found.said()[2:5] == ["C5 eighth", "rest eighth", "C5 quarter"]


def test_a_pick_up_that_swings_begins_with_its_beat() -> None:
    found = score(line((3 + 2 / 3, 1 / 3, 72), *((4 + i + j, 0.3, 74) for i in range(4) for j in (0, 2 / 3))), EVEN)
    assert found.bars == [1, 4]
    assert found.said()[:3] == ["rest eighth", "rest eighth", "C5 eighth"]


@pytest.mark.parametrize(
    ("per_bar", "quarters", "first", "said"),
    [
        (2, 0.5, 5 / 3, ["rest 32nd", "C5 16th", "D5 eighth", "rest eighth"]),
        (4, 0.25, 10 / 3, ["rest 32nd", "C5 16th", "D5 16th", "rest 16th", "rest eighth"]),
    ],
)
def test_a_pick_up_of_a_part_of_a_beat_in_triplets(
    per_bar: int, quarters: float, first: float, said: list[str]
) -> None:
    """The cell that its beginning cuts is not written as a triplet of which a part is missing (:func:`read`)."""
    played = line((first, per_bar - first, 72), (per_bar, 1, 74))
    found = score(played, replace(EVEN, per_bar=per_bar, quarters=quarters), division=Fraction(1, 48))
    assert found.bars == [Fraction(1, 4), 1]
    assert found.said() == said


def test_beams() -> None:
    steps = [0.5, 0.25, 0.25, 0.75, 0.25, 0.5, 0.5, 1]
    found = score(line(*((sum(steps[:i]), step, 72) for i, step in enumerate(steps))), EVEN)
    beams = [[b.text for b in note.findall("beam")] for note in found.root.iter("note")]
    assert beams == [
        *(["begin"], ["continue", "begin"], ["end", "end"]),
        *(["begin"], ["end", "backward hook"]),
        *(["begin"], ["end"], []),
    ]


def test_compound_metre() -> None:
    beats = Beats(tuple(np.arange(9) * 0.75), per_bar=2, quarters=1.5)
    played = [(0, 1), (1, 1), (2, 1), (3, 2), (5, 1), (6, 3), (9, 3)]  # in eighths
    found = score([Note(o / 4, (o + n) / 4, 72, 80, 1.0) for o, n in played], beats)
    assert (found.root.findtext(".//beats"), found.root.findtext(".//beat-type")) == ("6", "8")
    assert [s.text for s in found.symbols] == "eighth eighth eighth quarter eighth quarter. quarter.".split()
    assert found.root.find(".//metronome/beat-unit-dot") is not None
    assert (found.root.findtext(".//per-minute"), found.root.find(".//sound").get("tempo")) == ("80", "120.00")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("first", "downbeat", "bars"),
    [
        (0, 0, [4, 4]),
        (0, 1, [1, 4, 4]),
        (0, 3, [3, 4]),
        (1, 3, [2, 4]),
        (3, 0, [1, 4, 4]),
        (1, 0, [4, 4]),
        (8, 0, [4, 4]),
    ],
)
def test_pick_up(first: int, downbeat: int, bars: list[int]) -> None:
    played = line(*((first + i, 1, 72) for i in range(6)))
    found = score(played, replace(EVEN, downbeat=downbeat))
    assert found.bars == bars
    assert found.root.find(".//measure").get("number") == ("0" if bars[0] < 4 else "1")  # type: ignore[union-attr]


def test_swing_is_written_straight() -> None:
    """Beats carry the tempo, so notes played unevenly with them come out even."""
    times = np.cumsum([0.3, 0.5, 0.52, 0.47, 0.6, 0.7, 0.5, 0.5, 0.5])
    played = [Note(t, t + 0.4, 60 + i, 80, 1.0) for i, t in enumerate((times[:-1] + [0.01, -0.02] * 4).tolist())]
    assert {s.text for s in score(played, Beats(tuple(times.tolist()))).symbols} == {"quarter"}


def test_a_strummed_chord_is_one_chord() -> None:
    """Its notes straddle the middle between two divisions."""
    played = [Note(1.04 + 0.012 * i, 2, 60 + 4 * i, 80, 1.0) for i in range(4)]
    found = score([*scale([72, 72]), *played], EVEN)
    assert len({s.start for s in found.symbols if s.pitch and s.start >= 2}) == 1


@pytest.mark.parametrize(
    ("pitches", "clefs"),
    [
        ([60, 64, 84], ["G"]),
        ([36, 43, 60], ["F"]),
        ([45, 60, 76], ["G-1"]),
        ([36, 60, 84], ["G", "F"]),
        ([21, 108], ["G", "F"]),
        ([], ["G"]),
    ],
)
def test_clefs(pitches: list[int], clefs: list[str]) -> None:
    found = score(scale(pitches), EVEN)
    written = [(c.findtext("sign") or "") + (c.findtext("clef-octave-change") or "") for c in found.root.iter("clef")]
    assert written == clefs


@pytest.mark.parametrize(
    ("program", "pitches", "clef"),
    [
        (24, [40, 52, 64, 76], ("G", "2", "-1")),
        (31, [64, 76, 88], ("G", "2", "-1")),
        (32, [28, 33, 40], ("F", "4", "-1")),
        (39, [55, 67], ("F", "4", "-1")),
        (40, [55, 76, 100], ("G", "2", None)),
        (41, [48, 67, 84], ("C", "3", None)),
        (42, [36, 55, 76], ("F", "4", None)),
        (43, [28, 43], ("F", "4", "-1")),
        (60, [41, 60, 77], ("G", "2", None)),
        (67, [37, 49, 68], ("G", "2", None)),
        (72, [74, 96, 108], ("G", "2", None)),
        (9, [79, 96, 108], ("G", "2", None)),
    ],
)
def test_instruments_have_their_clefs(program: int, pitches: list[int], clef: tuple[str, str, str | None]) -> None:
    """Whatever they play, alone or in chords."""
    for played in (scale(pitches), [*scale(pitches), *scale(pitches[::-1])]):
        found = score(played, EVEN, program=program)
        written = [
            tuple(c.findtext(name) for name in ("sign", "line", "clef-octave-change")) for c in found.root.iter("clef")
        ]
        assert written == [clef]


# Program, what it plays written for a C that sounds (C4), steps, semitones and octaves from there to the sound.
TRANSPOSING = [
    *((program, "D4", (-1, -2, 0)) for program in (56, 59, 64, 71)),
    (65, "A4", (-5, -9, 0)),
    (66, "D5", (-1, -2, -1)),
    (67, "A5", (-5, -9, -1)),
    (60, "G4", (-4, -7, 0)),
    (69, "G4", (-4, -7, 0)),
    (72, "C3", (0, 0, 1)),
    (13, "C3", (0, 0, 1)),
    (8, "C3", (0, 0, 1)),
    (9, "C2", (0, 0, 2)),
]


@pytest.mark.parametrize(("program", "written", "transposition"), TRANSPOSING)
def test_transposing_instruments(program: int, written: str, transposition: tuple[int, int, int]) -> None:
    """In C the written notes are those of the written key: no accidentals."""
    found = score(scale([60, 62, 64, 65, 67, 69, 71, 72]), EVEN, program=program, key=Key(0, "major"))
    (transpose,) = found.root.findall(".//attributes/transpose")
    assert [(e.tag, e.text) for e in transpose] == [
        (tag, str(number))
        for tag, number in zip(("diatonic", "chromatic", "octave-change"), transposition, strict=True)
    ]
    order = [e.tag for e in found.root.findall(".//attributes/*")]
    assert order == sorted(order, key=["divisions", "key", "time", "staves", "clef", "transpose"].index)
    assert found.symbols[0].name == written
    assert found.root.findtext(".//fifths") == {"C": "0", "G": "1", "D": "2", "A": "3"}[written[0]]
    assert found.root.find(".//accidental") is None


@pytest.mark.parametrize(("program", "transposition"), [(p, t) for p, _, t in TRANSPOSING])
@pytest.mark.parametrize("mode", ["major", "minor"])
def test_transposed_keys_can_be_read(program: int, transposition: tuple[int, int, int], mode: str) -> None:
    """Whatever the key, the sound is that of the notes, and the key signature is that of the written tonic."""
    played = list(range(60, 73))
    _, semitones, octaves = transposition
    for key in (Key(tonic, mode, flats=flats) for tonic in range(12) for flats in (False, True)):
        found = score(scale(played), EVEN, program=program, key=key)
        pitches = [s.pitch + semitones + 12 * octaves for s in found.symbols if s.pitch is not None]
        assert pitches == played
        fifths = int(found.root.findtext(".//fifths") or 0)
        assert (fifths - key.fifths) * 7 % 12 == -semitones % 12
        assert fifths == key.fifths if not semitones else abs(fifths) <= 6


@pytest.mark.parametrize(("key", "fifths"), [("A major", 6), ("B major", -4), ("F# minor", -6), ("C# major", -2)])
def test_keys_of_an_alto_saxophone(key: str, fifths: int) -> None:
    found = score(scale([60, 62]), EVEN, program=65, key=parse_key(key))
    assert found.root.findtext(".//fifths") == str(fifths)


def test_a_transposing_instrument_without_a_key() -> None:
    found = score(scale([58, 60, 61]), EVEN, program=71)
    assert [s.name for s in found.symbols if s.pitch] == ["C4", "D4", "Eb4"]
    assert found.root.findtext(".//fifths") == "0"


@pytest.mark.parametrize("program", [9, 67, 72])
def test_notes_that_cannot_be_written_in_another_octave(program: int) -> None:
    """MusicXML has the octaves 0 to 9."""
    found = score(scale([0 if program == 67 else 21, 60, 127]), EVEN, program=program, key=Key(2, "major"))
    assert [s.pitch for s in found.symbols if s.pitch is not None] == [0 if program == 67 else 21, 60, 127]
    assert found.root.find(".//transpose") is None
    assert found.root.findtext(".//fifths") == "2"


@pytest.mark.parametrize(
    ("pitches", "clef"), [([28, 33, 31, 36, 40, 38], "F"), ([21, 26, 33], "F"), ([103, 96, 108], "G")]
)
def test_no_staff_is_without_notes(pitches: list[int], clef: str) -> None:
    found = score(scale(pitches), EVEN)
    assert [c.findtext("sign") for c in found.root.iter("clef")] == [clef]
    assert found.root.find(".//staves") is None


@pytest.mark.parametrize("program", [*range(8), *range(16, 21), 46])
@pytest.mark.parametrize("pitches", [[60, 64, 84], [36, 43, 60], [45, 60, 76], []])
def test_keyboards_and_the_harp_have_two_staves(program: int, pitches: list[int]) -> None:
    found = score(scale(pitches), EVEN, program=program)
    assert [(c.findtext("sign"), c.find("clef-octave-change")) for c in found.root.iter("clef")] == [
        ("G", None),
        ("F", None),
    ]


def test_the_program_names_the_part() -> None:
    part = score(scale([60, 62]), EVEN, program=73).root.find("part-list/score-part")
    assert part is not None
    assert [e.tag for e in part] == ["part-name", "score-instrument", "midi-instrument"]  # the order of the schema
    assert (part.findtext("part-name"), part.findtext(".//instrument-name")) == ("Flute", "Flute")
    instrument = part[2]
    assert instrument.get("id") == part[1].get("id")
    assert [(e.tag, e.text) for e in instrument] == [("midi-channel", "1"), ("midi-program", "74")]


def test_without_a_program_the_part_has_no_name() -> None:
    part = score(scale([60, 62]), EVEN).root.find("part-list/score-part")
    assert part is not None
    assert [(e.tag, e.text) for e in part] == [("part-name", None)]
    part = score(scale([60, 62]), EVEN, program=0).root.find("part-list/score-part")
    assert part is not None
    assert part.findtext("part-name") == "Acoustic Grand Piano"


def test_hands_keep_their_lines() -> None:
    """A melody that dips below middle C over a bass stays in the upper staff."""
    melody = [72, 67, 64, 60, 59, 60, 64, 67]
    bass = [48, 43, 36, 41, 43, 41, 36, 48]
    found = score([*scale(melody), *scale(bass)], EVEN)
    for staff, pitches in ((1, melody), (2, bass)):
        assert [s.pitch for s in found.symbols if s.staff == staff] == pitches
    assert {s.text for s in found.symbols} == {"quarter"}


def test_chords_around_middle_c_stay_in_one_hand() -> None:
    """One that could be shared is not, where the chords before and after it are not."""
    chords = [(48, 52, 55), (55, 60, 64), (48, 52, 55)]
    found = score(line(*((i, 1, pitch) for i, chord in enumerate(chords) for pitch in chord), (3, 1, 84)), EVEN)
    assert [s.pitch for s in found.symbols if s.staff == 2 and s.pitch] == [p for chord in chords for p in chord]


def test_held_notes_have_a_voice_of_their_own() -> None:
    moving = [(i, 1, 72 + i) for i in range(4)]
    below = score(line((0, 4, 60), *moving), EVEN)
    assert below.said(voice=2) == ["C4 whole"]
    assert [text.split()[1] for text in below.said(voice=1)] == ["quarter"] * 4
    above = score(line((0, 4, 84), *moving), EVEN)
    assert above.said(voice=1) == ["C6 whole"]
    assert [text.split()[1] for text in above.said(voice=2)] == ["quarter"] * 4


def test_short_tails_make_no_voices() -> None:
    """Notes that ring a little into the next are one line."""
    found = score(line(*((i, 1.3, 60 + 2 * i) for i in range(8))), EVEN)
    assert {(s.voice, s.text) for s in found.symbols} == {(1, "quarter")}


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((3, 3, 3, 9), "half."),  # one string rings on
        ((2, 2, 2, 4), "whole"),  # within the bar
        ((3, 5, 6), "whole) (quarter"),
        ((3, 9), "whole) (whole) (quarter"),  # of two the longer
    ],
)
@pytest.mark.parametrize("start", [0, 8])
def test_a_closing_chord_does_not_last_as_long_as_its_last_string(
    start: int, ends: tuple[float, ...], said: str
) -> None:
    found = score(line(*((start, end, 60 + 4 * i) for i, end in enumerate(ends))), EVEN)
    assert " ".join(s.text for s in found.symbols if s.pitch == 60) == said


def test_rests_of_the_second_voice_are_hidden() -> None:
    found = score(line((0, 2, 60), *((i / 2, 0.5, 72) for i in range(8))), EVEN)
    rests = [
        (n.get("print-object"), n.findtext("voice")) for n in found.root.iter("note") if n.find("rest") is not None
    ]
    assert rests == [("no", "2")]


def graces(found: Score) -> list[tuple[Fraction, str]]:
    return [(s.start, s.name) for s in found.symbols if s.text.endswith("grace")]


def test_grace_notes() -> None:
    """What ends where the next note begins, on the same tick, takes no time of its own."""
    played = line((0, 0.9, 72), (0.9, 0.1, 73), (1, 1, 74), (2, 1, 72), (3, 0.9, 71), (3.9, 0.13, 70), (4, 4, 71))
    found = score(played, EVEN, key=Key(0, "major"))
    assert graces(found) == [(1, "C#5"), (4, "Bb4")]
    assert found.said() == [
        *("C5 quarter", "C#5 eighth grace", "D5 quarter", "C5 quarter", "B4 quarter", "Bb4 eighth grace", "B4 whole")
    ]
    shown = [(n.findtext("pitch/step"), n.findtext("accidental")) for n in found.root.iter("note")]
    assert shown == [
        ("C", None),
        ("C", "sharp"),
        ("D", None),
        ("C", "natural"),
        ("B", None),
        ("B", "flat"),
        ("B", "natural"),
    ]
    notes = found.root.findall(".//note")
    assert [e.tag for e in notes[1]] == ["grace", "pitch", "voice", "type", "accidental"]


def test_a_grace_note_leads_over_a_third_at_most() -> None:
    assert graces(score(line((0, 0.9, 60), (0.9, 0.1, 70), (1, 1, 74)), EVEN)) == [(1, "Bb4")]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0.9, 0.5, 72), (1, 1, 74)),  # it rings on: a chord, struck slowly
        ((0.9, 0.1, 69), (1, 1, 74)),  # a leap
        ((0.97, 0.03, 72), (1, 1, 74)),  # struck together
    ],
)
def test_what_is_no_grace_note(first: tuple[float, float, int], second: tuple[float, float, int]) -> None:
    found = score(line((0, 0.9, 60), first, second), EVEN)
    assert graces(found) == []
    assert (1, first[2]) in found.heard()


def test_grace_notes_that_were_moved_to_their_main_notes() -> None:
    played = line((0, 0.95, 60), (0.95, 0.12, 72), (1.07, 0.9, 74), (1.98, 1, 71), (2.98, 0.15, 76), (2.98, 1, 72))
    found = score(list(quantize(played, EVEN, Fraction(1, 16))), EVEN, division=Fraction(1, 16))
    assert graces(found) == [(1, "C5")]
    assert (3, 76) in found.heard()  # a short third is a note of a chord
    chord = line((0, 0.6, 60), (0, 0.6, 62), (1, 0.15, 60), (1, 0.2, 62))
    assert graces(score(chord, EVEN, division=Fraction(1, 16))) == []


def test_grace_notes_in_turn_and_together() -> None:
    """Each in the voice and on the staff of its main note, also within a tuplet and beams, and transposed."""
    slide = line((0, 1, 60), (0.8, 0.1, 71), (0.9, 0.1, 72), (1, 1, 74), (2, 2, 75))
    for program, names in ((0, ["B4", "C5", "D5"]), (71, ["C#5", "D5", "E5"])):
        found = score(slide, EVEN, division=Fraction(1, 8), program=program)
        assert found.said()[1:4] == [f"{names[0]} eighth grace", f"{names[1]} eighth grace", f"{names[2]} quarter"]
        assert found.root.find(".//grace/../chord") is None
    double = line((0, 1, 60), *((0.9, 0.1, p) for p in (71, 74)), *((1, 1, p) for p in (72, 76)))
    notes = score(double, EVEN).root.findall(".//note")
    assert [[e.tag for e in n[:2]] for n in notes[1:4]] == [
        ["grace", "pitch"],
        ["grace", "chord"],
        ["pitch", "duration"],
    ]
    hands = line((0, 4, 48), (0, 1, 72), (0.9, 0.1, 75), (1, 1, 76), (2, 0.9, 77), (2.9, 0.1, 76), (3, 1, 74))
    found = score(hands, EVEN, program=0)
    assert {(s.staff, s.voice, s.start) for s in found.symbols if "grace" in s.text} == {(1, 1, 1), (1, 1, 3)}
    voices = line((0, 4, 60), (0, 0.9, 72), (0.9, 0.1, 71), (1, 1, 70), (2, 2, 71))  # B natural, then flat, then not
    found = score(voices, EVEN, key=Key(5, "major"))
    shown = [(n.findtext("pitch/step"), n.findtext("accidental")) for n in found.root.iter("note")]
    assert shown[1:4] == [("B", "natural"), ("B", "flat"), ("B", "natural")]
    thirds = [(i / 3, 1 / 3 - (0.1 if i == 3 else 0), 72) for i in range(6)]
    found = score(line(*thirds, (4 / 3 - 0.1, 0.1, 74), (2, 2, 72)), EVEN)
    assert graces(found) == [(Fraction(4, 3), "D5")]
    assert len(found.root.findall(".//tuplet")) == 4


def test_no_notes() -> None:
    found = score([], EVEN, key=Key(2, "minor"))
    assert [(s.pitch, s.text) for s in found.symbols] == [(None, "bar")]
    nothing = Note(1, 1, 60, 80, 1.0)
    assert score([nothing], EVEN).heard() == set()


def test_the_same_bytes_for_the_same_notes() -> None:
    rng = random.Random(1)
    notes = [Note(t, t + 0.3, 40 + round(3 * t) % 50, 80, 1.0) for t in np.arange(0, 15, 0.21).tolist()]
    data = notes_to_musicxml(notes, beats=EVEN)
    rng.shuffle(notes)
    assert notes_to_musicxml(notes, beats=EVEN) == data


def test_titles_are_made_printable() -> None:
    found = score([], EVEN, title='a<&>"\0\n\udcff\ufffe\u266f')
    assert found.root.findtext("work/work-title") == 'a<&>"????\u266f'


@pytest.mark.parametrize("division", [Fraction(1, 5), Fraction(3, 16), Fraction(1, 128), Fraction(0), Fraction(-1, 16)])
def test_divisions_that_cannot_be_written(division: Fraction) -> None:
    with pytest.raises(UsageError, match="division"):
        notes_to_musicxml([], beats=EVEN, division=division)


def test_divisions_that_do_not_divide_the_beat_are_halved() -> None:
    played = line(*((i / 2, 0.5, 72) for i in range(8)))
    assert {s.text for s in score(played, EVEN, division=Fraction(1, 2)).symbols if s.pitch} == {"quarter"}
    compound = Beats(tuple(np.arange(9) * 0.75), per_bar=2, quarters=1.5)
    for division in (Fraction(1, 4), Fraction(1, 12)):
        assert {s.text for s in score(played, compound, division=division).symbols if s.pitch} == {"eighth"}


def test_divisions_that_make_no_score() -> None:
    with pytest.raises(UsageError, match="division"):
        notes_to_musicxml([], beats=Beats((0, 1)), division=Fraction(1, 7))


def test_beats_too_close() -> None:
    with pytest.raises(UsageError, match="more than 20000 bars"):
        notes_to_musicxml(line((0, 1, 60), (600, 1, 60)), beats=Beats((0, 0.01), per_bar=1))


def test_verovio_draws_every_note() -> None:
    verovio = pytest.importorskip("verovio")
    toolkit = verovio.toolkit()
    played = [
        *scale([60, 62, 64, 65]),
        *line((4, 2 / 3, 67), (4 + 2 / 3, 1 / 3, 65), (5, 2 / 3, 64), (5 + 2 / 3, 1 / 3, 62)),
    ]
    assert toolkit.loadData(notes_to_musicxml(played, beats=EVEN, program=24).decode())
    drawn = toolkit.renderToSVG(1)
    assert (drawn.count('class="note"'), drawn.count('class="tuplet"')) == (8, 2)


@pytest.mark.parametrize("program", [0, 24, 32, *(p for p, *_ in TRANSPOSING)])
def test_verovio_plays_what_was_heard(program: int) -> None:
    verovio = pytest.importorskip("verovio")
    toolkit = verovio.toolkit()
    played = [60, 61, 66, 70, 71, 84]
    assert toolkit.loadData(notes_to_musicxml(scale(played), beats=EVEN, key=Key(9, "major"), program=program).decode())
    (part,) = PrettyMIDI(BytesIO(base64.b64decode(toolkit.renderToMIDI()))).instruments
    assert [note.pitch for note in part.notes] == played
