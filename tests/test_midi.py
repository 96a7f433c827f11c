"""The MIDI writer: what reaches the file, read back with mido (events, ticks) and pretty_midi (notes, seconds)."""

from __future__ import annotations

import math
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from basic_transcribe import midi
from basic_transcribe.midi import read_fingerprint, to_bytes, to_midi
from basic_transcribe.types import MidiSettings, Note, PitchBend

MPE = MidiSettings(multiple_pitch_bends=True)
STEP = 0.0116


def flat(onset: float, offset: float, pitch: int, semitones: float | None = None, velocity: int = 80) -> Note:
    """A note whose bend, if any, is constant."""
    bend = None
    if semitones is not None:
        count = max(1, math.ceil((offset - onset) / STEP))
        bend = PitchBend(onset, STEP, np.full(count, semitones, np.float32))
    return Note(onset, offset, pitch, velocity, 0.9, bend)


def parse(data: bytes) -> mido.MidiFile:
    return mido.MidiFile(file=BytesIO(data))


def timeline(track: Any) -> list[tuple[int, Any]]:
    """(absolute tick, message) of a track."""
    now, events = 0, []
    for message in track:
        now += message.time
        events.append((now, message))
    return events


def sounding(data: bytes) -> list[tuple[float, float, int, float]]:
    """(start, end, note number, mean bend in semitones), as an independent reader finds them."""
    found = []
    for instrument in pretty_midi.PrettyMIDI(BytesIO(data)).instruments:
        bend_range, selected = 2.0, {}
        for change in sorted(instrument.control_changes, key=lambda c: c.time):
            selected[change.number] = change.value
            if change.number == 6 and selected.get(101) == 0 and selected.get(100) == 0:
                bend_range = change.value
        for note in instrument.notes:
            total, value, since = 0.0, 0, note.start
            for bend in sorted(instrument.pitch_bends, key=lambda b: b.time):
                if since < bend.time < note.end:
                    total += value * (bend.time - since)
                    since = bend.time
                if bend.time < note.end:
                    value = bend.pitch
            total += value * (note.end - since)
            found.append((note.start, note.end, note.pitch, total / (note.end - note.start) / 8192 * bend_range))
    return sorted(found)


def channel_bends(data: bytes) -> dict[int, list[tuple[int, int]]]:
    bends = defaultdict(list)
    for track in parse(data).tracks:
        for tick, message in timeline(track):
            if message.type == "pitchwheel":
                bends[message.channel].append((tick, message.pitch))
    return bends


finite = st.floats(-30, 30, width=32)
bends = st.builds(
    lambda start, step, values: PitchBend(start, step, np.array(values, np.float32)),
    st.floats(-1, 12),
    st.floats(0.001, 0.5),
    st.lists(finite, max_size=12),
)
notes_strategy = st.lists(
    st.builds(
        lambda onset, length, pitch, velocity, bend: Note(onset, onset + length, pitch, velocity, 0.5, bend),
        st.one_of(st.floats(-0.1, 10), st.integers(0, 20).map(lambda n: n / 2)),
        st.one_of(st.floats(-0.1, 3), st.sampled_from([0.0, 1e-6, 0.5])),
        st.one_of(st.integers(0, 127), st.integers(60, 62)),
        st.integers(-1000, 1000),
        st.none() | bends,
    ),
    max_size=25,
)
settings_strategy = st.builds(MidiSettings, st.floats(4, 1000), st.integers(0, 127), st.booleans())


@settings(max_examples=60, deadline=None)
@given(notes_strategy, settings_strategy)
def test_any_notes_make_a_valid_file(notes: list[Note], chosen: MidiSettings) -> None:
    file = parse(to_bytes(to_midi(notes, chosen).midi))
    assert file.type == 1
    assert file.ticks_per_beat >= 480
    tempo = next(m.tempo for m in file.tracks[0] if m.type == "set_tempo")
    assert tempo == round(6e7 / chosen.tempo)
    assert len(file.tracks) - 1 <= 15
    count = 0
    channels: set[int] = set()
    for track in file.tracks[1:]:
        events = timeline(track)
        on: dict[int, int] = {}
        bend, last_bend_tick = 0, -1
        used = {m.channel for _, m in events if not m.is_meta}
        assert len(used) == 1
        assert not used & channels
        channels |= used
        for tick, message in events:
            if message.type == "note_on" and message.velocity:
                assert message.note not in on
                on[message.note] = tick
                count += 1
            elif message.type in ("note_on", "note_off"):
                assert tick > on.pop(message.note)
            elif message.type == "pitchwheel":
                assert tick > last_bend_tick
                assert message.pitch != bend
                bend, last_bend_tick = message.pitch, tick
        assert not on
        assert bend == 0
        if not chosen.multiple_pitch_bends:
            assert used == {0}
    assert 9 not in channels
    # Notes that last are all there, unless the next of their pitch begins at the same tick.
    ticks = file.ticks_per_beat * 1e6 / tempo
    lasting = {(round(max(n.onset, 0) * ticks), n.pitch) for n in notes if n.offset > max(n.onset, 0)}
    assert count == len(lasting)


@settings(max_examples=50, deadline=None)
@given(st.floats(4, 1000), st.lists(st.tuples(st.floats(0, 17_995), st.floats(0.01, 5)), min_size=1, max_size=8))
@example(1000.0, [(17_995.0, 5.0)])
@example(668.25, [(17_995.0, 5.0)])
def test_times_are_right_within_a_millisecond_at_any_tempo(tempo: float, times: list[tuple[float, float]]) -> None:
    """Read from the tempo in the file, as whole microseconds a beat, up to five hours.

    Beyond that it cannot be had: ten million ticks, pretty_midi's limit, in a whole number a beat are 2 ms each.
    """
    times = sorted(times)
    notes = [Note(onset, onset + length, 40 + i, 80, 0.9) for i, (onset, length) in enumerate(times)]
    file = parse(to_bytes(to_midi(notes, MidiSettings(tempo=tempo)).midi))
    seconds = next(m.tempo for m in file.tracks[0] if m.type == "set_tempo") / 1e6 / file.ticks_per_beat
    read: dict[int, list[float]] = defaultdict(list)
    for tick, message in timeline(file.tracks[1]):
        if message.type == "note_on":
            read[message.note].append(tick * seconds)
    for note in notes:
        assert read[note.pitch] == pytest.approx([note.onset, note.offset], abs=1e-3)


def test_usual_resolution() -> None:
    assert to_midi([flat(0, 1, 60)]).midi.resolution == 480
    assert to_midi([flat(0, 1, 60)], MidiSettings(tempo=4)).midi.resolution > 480


def test_ten_hours_can_still_be_read() -> None:
    result = to_midi([flat(0, 1, 60), flat(35_999, 36_000, 60)])
    assert "rounded" in result.warnings[0]
    read = pretty_midi.PrettyMIDI(BytesIO(to_bytes(result.midi)))
    assert read.instruments[0].notes[1].end == pytest.approx(36_000, abs=2e-3)


def test_golden() -> None:
    """Every byte of a small file: header, fingerprint and tempo, then name, program, bend range, two notes, a bend."""
    result = to_midi(
        [flat(0.5, 1.0, 60, 0.5, velocity=100), flat(1.0, 1.5, 62)],
        MidiSettings(tempo=120, program=4),
        title="Étude",
        fingerprint="abc",
    )
    assert result.warnings == ()
    assert to_bytes(result.midi).hex(" ") == " ".join(
        [
            "4d 54 68 64 00 00 00 06 00 01 00 02 01 e0",
            "4d 54 72 6b 00 00 00 2b 00 ff 51 03 07 a1 20 00 ff 58 04 04 02 18 08",
            "00 ff 01 14 62 61 73 69 63 5f 74 72 61 6e 73 63 72 69 62 65 3a 61 62 63 01 ff 2f 00",
            "4d 54 72 6b 00 00 00 3d 00 ff 03 06 c3 89 74 75 64 65 00 c0 04",
            "00 b0 64 00 00 65 00 01 06 02 00 26 00 01 64 7f 00 65 7f",
            "83 5e e0 00 50 00 90 3c 64 83 60 e0 00 40 00 90 3c 00 00 3e 50 83 60 3e 00 01 ff 2f 00",
        ]
    )


def test_no_notes() -> None:
    file = parse(to_bytes(to_midi([], title="silence").midi))
    assert [m.name for m in file.tracks[1] if m.type == "track_name"] == ["silence"]
    assert pretty_midi.PrettyMIDI(BytesIO(to_bytes(to_midi([], MPE).midi))).instruments == []


def test_program_reaches_every_channel() -> None:
    chord = [flat(0, 1, 60 + 4 * i, 0.2) for i in range(3)]
    read = pretty_midi.PrettyMIDI(BytesIO(to_bytes(to_midi(chord, MidiSettings(120, 33, True)).midi)))
    assert [i.program for i in read.instruments] == [33, 33, 33]


def test_notes_without_length_are_dropped_and_said() -> None:
    result = to_midi([flat(1, 1, 60), flat(2, 1.5, 61), flat(2, 3, 62)])
    assert [n.pitch for n in result.midi.instruments[0].notes] == [62]
    assert result.warnings == ("2 of 3 notes had no length and were left out",)


def test_shorter_than_a_tick_is_lengthened() -> None:
    (note,) = to_midi([Note(1, 1 + 1e-7, 60, 80, 0.9)]).midi.instruments[0].notes
    assert 0 < note.end - note.start < 2e-3


@pytest.mark.parametrize(("given_velocity", "written"), [(-5, 1), (0, 1), (1, 1), (127, 127), (200, 127)])
def test_velocity_is_limited(given_velocity: int, written: int) -> None:
    assert to_midi([Note(0, 1, 60, given_velocity, 0.9)]).midi.instruments[0].notes[0].velocity == written


def test_overlapping_notes_of_one_pitch_are_cut() -> None:
    read = sounding(to_bytes(to_midi([flat(0, 3, 60), flat(1, 2, 60), flat(0, 3, 64)]).midi))
    assert [(round(start, 2), round(end, 2), pitch) for start, end, pitch, _ in read] == [
        (0, 1, 60),
        (0, 3, 64),
        (1, 2, 60),
    ]


@pytest.mark.parametrize(
    "note",
    [
        Note(math.nan, 1, 60, 80, 0.9),
        Note(0, math.inf, 60, 80, 0.9),
        Note(-math.inf, 1, 60, 80, 0.9),
        Note(0, 1e7, 60, 80, 0.9),
        Note(0, 1, 128, 80, 0.9),
        Note(0, 1, -1, 80, 0.9),
        Note(0, 1, 60, 80, 0.9, PitchBend(0, STEP, np.array([0, np.nan], np.float32))),
        Note(0, 1, 60, 80, 0.9, PitchBend(math.nan, STEP, np.zeros(2, np.float32))),
        Note(0, 1, 60, 80, 0.9, PitchBend(0, 0, np.zeros(2, np.float32))),
    ],
)
def test_nonsense_is_refused(note: Note) -> None:
    with pytest.raises(ValueError, match="a note"):
        to_midi([flat(0, 1, 50), note])


@pytest.mark.parametrize("chosen", [MidiSettings(), MPE])
@pytest.mark.parametrize(("widest", "bend_range"), [(1.9, 2), (2.1, 12), (11, 12), (13, 24)])
def test_mean_bend_survives(chosen: MidiSettings, widest: float, bend_range: int) -> None:
    rng = np.random.default_rng(1)
    notes = []
    for i in range(12):
        vibrato = rng.uniform(-widest, widest) * np.linspace(0.8, 1, 40) * (1 if i else 0)
        vibrato[3] = widest if i == 5 else vibrato[3]
        notes.append(
            Note(i * 0.5, i * 0.5 + 40 * STEP, 60, 80, 0.9, PitchBend(i * 0.5, STEP, vibrato.astype(np.float32)))
        )
    data = to_bytes(to_midi(notes, chosen).midi)
    selected = [m.value for m in parse(data).tracks[1] if m.type == "control_change" and m.control == 6]
    assert selected == [bend_range]
    for note, (*_, bend) in zip(notes, sounding(data), strict=True):
        assert note.bend is not None
        assert bend == pytest.approx(float(note.bend.semitones.mean()), abs=0.02 + 0.01 * widest)


def test_bend_range_is_selected_before_the_first_bend_and_released() -> None:
    events = timeline(parse(to_bytes(to_midi([flat(0, 1, 60, 5.0)]).midi)).tracks[1])
    controls = [(t, m.control, m.value) for t, m in events if m.type == "control_change"]
    wheel = [t for t, m in events if m.type == "pitchwheel"]
    assert [c[1:] for c in controls[2:4]] == [(6, 12), (38, 0)]
    assert {c[1:] for c in controls[:2]} == {(100, 0), (101, 0)}
    assert {c[1:] for c in controls[4:]} == {(100, 127), (101, 127)}
    assert controls[1][0] < controls[2][0] <= controls[3][0] < controls[4][0]
    assert wheel[0] > controls[2][0]


def test_bends_beyond_the_widest_range_are_limited_and_said() -> None:
    result = to_midi([flat(0, 1, 60, 99.0), flat(2, 3, 60, -99.0)])
    assert [b.pitch for b in result.midi.instruments[0].pitch_bends] == [8191, 0, -8192, 0]
    assert "2 of 2 notes bend by more than 24 semitones" in result.warnings[0]


def test_inaudible_changes_are_not_written() -> None:
    drift = PitchBend(0, STEP, np.linspace(0.3, 0.31, 80, dtype=np.float32))
    (track,) = channel_bends(to_bytes(to_midi([Note(0, 0.9, 60, 80, 0.9, drift)]).midi)).values()
    assert len(track) == 2  # one bend, one return
    result = to_midi([flat(0, 1, 60, 0.01)])
    assert result.midi.instruments[0].pitch_bends == []
    assert result.midi.instruments[0].control_changes == []


def test_one_channel_bends_only_what_sounds_alone() -> None:
    notes = [flat(0, 1, 60, 0.4), flat(1, 2, 62, -0.4), flat(1.5, 2.5, 65, 0.4), flat(3, 4, 60, 0.4)]
    data = to_bytes(to_midi(notes).midi)
    assert [round(bend, 2) for *_, bend in sounding(data)] == [0.4, 0, 0, 0.4]


def test_one_channel_forgives_overlap_at_the_edges() -> None:
    notes = [flat(0, 1.02, 60, 0.4), flat(1, 2.02, 62, -0.4), flat(2, 3, 64)]
    starts = {round(start): bend for start, _, _, bend in sounding(to_bytes(to_midi(notes).midi))}
    assert starts == pytest.approx({0: 0.4, 1: -0.4, 2: 0}, abs=0.02)


def test_a_chord_of_very_short_notes_does_not_bend() -> None:
    notes = [flat(0.5, 0.52, 60, 0.4), flat(0.5, 0.52, 64, -0.4)]
    assert channel_bends(to_bytes(to_midi(notes).midi)) == {}


def test_every_bending_voice_has_a_channel() -> None:
    chord = [flat(0.5, 2, 48 + i, -0.4 + 0.05 * i) for i in range(15)]
    result = to_midi(chord, MPE, title="choir")
    assert result.warnings == ()
    data = to_bytes(result.midi)
    names = [m.name for track in parse(data).tracks for m in track if m.type == "track_name"]
    assert names[0] == "choir (1)"
    assert len(names) == 15
    read = sorted((pitch, bend) for _, _, pitch, bend in sounding(data))
    assert [bend for _, bend in read] == pytest.approx([-0.4 + 0.05 * i for i in range(15)], abs=0.02)
    used = {m.channel for track in parse(data).tracks for m in track if m.type == "note_on"}
    assert used == set(range(16)) - {9}


def test_channels_are_used_again() -> None:
    melody = [flat(i * 0.5, i * 0.5 + 0.5, 60 + i, 0.3) for i in range(20)]
    assert len(to_midi(melody, MPE).midi.instruments) == 1


def test_unbent_voices_share_a_channel() -> None:
    notes = [flat(0, 4, 40 + i) for i in range(20)] + [flat(1, 2, 80, 0.3), flat(1, 2, 84, -0.3)]
    result = to_midi(notes, MPE)
    assert result.warnings == ()
    assert [len(i.notes) for i in result.midi.instruments] == [20, 1, 1]


def test_voices_beyond_the_channels_play_unbent_and_are_said() -> None:
    """The sixteenth goes without, and takes the end of the bend of the voice that would have ended first."""
    chord = [flat(0.5, 3 + i / 10, 48 + i, 0.5) for i in range(15)]
    result = to_midi([*chord, flat(1.5, 4, 80, 0.5), flat(2, 4, 81, 0.5)], MPE)
    assert result.warnings == ("3 of 17 notes lost their pitch bend or its end: more than 15 voices at once",)
    read = {pitch: (start, end, bend) for start, end, pitch, bend in sounding(to_bytes(result.midi))}
    assert read[48] == pytest.approx((0.5, 3, 0.5 * 1 / 2.5), abs=0.01)
    assert read[80] == pytest.approx((1.5, 4, 0), abs=0.01)
    assert read[81] == pytest.approx((2, 4, 0), abs=0.01)
    assert [read[48 + i][2] for i in range(1, 15)] == pytest.approx([0.5] * 14, abs=0.01)


@pytest.mark.parametrize("chosen", [MidiSettings(), MPE])
def test_order_of_the_input_does_not_matter(chosen: MidiSettings) -> None:
    rng = np.random.default_rng(2)
    notes = [flat(t, t + 1, int(p), 0.3) for t, p in zip(rng.uniform(0, 5, 60), rng.integers(30, 90, 60), strict=True)]
    assert to_bytes(to_midi(notes, chosen).midi) == to_bytes(to_midi(reversed(notes), chosen).midi)


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60), st.sampled_from([1, 10, 300]))
@settings(max_examples=20, deadline=None)
def test_fingerprint_round_trip(word: str, times: int) -> None:
    text = word * times
    data = to_bytes(to_midi([flat(0, 1, 60)], title="basic_transcribe:decoy", fingerprint=text).midi)
    assert parse(data).tracks[0][-2].type == "text"
    assert midi.find_fingerprint(data) == text


def test_fingerprint_of_other_files(tmp_path: Path) -> None:
    marked = to_bytes(to_midi([], fingerprint="1 input=ab").midi)
    for name, data, expected in [
        ("own.mid", marked, "1 input=ab"),
        ("unmarked.mid", to_bytes(to_midi([], title="basic_transcribe:x").midi), None),
        ("cut.mid", marked[: marked.index(b"input")], None),
        ("other.mid", b"RIFF" + marked, None),
        ("empty.mid", b"", None),
    ]:
        (tmp_path / name).write_bytes(data)
        assert read_fingerprint(tmp_path / name) == expected, name
    assert read_fingerprint(tmp_path / "missing.mid") is None
    assert read_fingerprint(tmp_path) is None


def test_title_of_any_characters() -> None:
    data = to_bytes(to_midi([], title="caf\u00e9 \U0001f3b9\n\udcff").midi)
    (name,) = [m.name for m in mido.MidiFile(file=BytesIO(data), charset="utf-8").tracks[1] if m.type == "track_name"]
    assert name == "caf\u00e9 \U0001f3b9??"
