"""The MIDI writer: what reaches the file, read back with mido (events, ticks) and pretty_midi (notes, seconds)."""

from __future__ import annotations

import math
import tracemalloc
from collections import defaultdict
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from basic_transcribe import midi
from basic_transcribe.errors import UsageError
from basic_transcribe.midi import DRUMS, MPE_VOICES, read_fingerprint, to_midi
from basic_transcribe.notelist import NoteList
from basic_transcribe.types import Beats, Key, Marker, MidiSettings, Note, PitchBend

CHANNELS = MidiSettings(bend_mode="channels")
MPE = MidiSettings(bend_mode="mpe")
MODES = [MidiSettings(), CHANNELS, MPE]
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


@dataclass
class Played:
    """A note as a synthesiser plays it; ``bend`` is steps of (seconds, semitones), going on after the end."""

    start: float
    end: float
    pitch: int
    channel: int
    bend: list[tuple[float, float]]

    def at(self, seconds: float) -> float:
        """The bend then, in semitones."""
        return next(value for time, value in reversed(self.bend) if time <= seconds)


@dataclass
class Receiver:
    """A synthesiser's view of the channels, with the rules of General MIDI and MPE 1.0 for pitch."""

    ranges: list[float] = field(default_factory=lambda: [2.0] * 16)
    wheels: list[int] = field(default_factory=lambda: [0] * 16)
    parameters: list[dict[int, int]] = field(default_factory=lambda: [{} for _ in range(16)])
    members: range = range(0)  # of the lower zone
    log: list[str] = field(default_factory=list)
    notes: list[Played] = field(default_factory=list)

    def play(self, data: bytes) -> list[Played]:
        now, sounding, latest = 0.0, {}, [[] for _ in range(16)]
        for message in parse(data):
            now += message.time
            if message.is_meta or message.type == "program_change":
                continue
            channel = message.channel
            if message.type == "control_change":
                self.control(channel, message.control, message.value)
            elif message.type == "pitchwheel":
                self.wheels[channel] = message.pitch
            elif message.velocity:
                note = Played(now, math.inf, message.note, channel, [])
                sounding[channel, message.note] = note
                latest[channel] = [*(n for n in latest[channel] if n.end == math.inf), note]
                self.notes.append(note)
            else:
                sounding.pop((channel, message.note)).end = now
            for c in self.members if channel == 0 and self.members else [channel]:
                for note in latest[c]:
                    note.bend.append((now, self.bend(c)))
        assert not sounding
        return self.notes

    def control(self, channel: int, number: int, value: int) -> None:
        selected = self.parameters[channel]
        selected[number] = value
        parameter = (selected.get(101), selected.get(100))
        if number == 38 and self.members:  # some receivers take it for another number of members or semitones
            raise AssertionError("the finer half of a value in a zone")
        if number == 6 and parameter == (0, 6):
            assert channel == 0
            self.log.append(f"zone {value}")
            self.members = range(1, value + 1)
            self.ranges[1 : value + 1] = [48] * value
        elif number == 6 and parameter == (0, 0):
            self.log.append(f"range {channel} {value}")
            for c in self.members if channel in self.members else [channel]:
                self.ranges[c] = value

    def bend(self, channel: int) -> float:
        """In semitones."""
        manager = self.wheels[0] / 8192 * self.ranges[0] if channel in self.members else 0.0
        return self.wheels[channel] / 8192 * self.ranges[channel] + manager


def played(data: bytes) -> list[Played]:
    return Receiver().play(data)


def tempo_map(data: bytes) -> list[tuple[int, float]]:
    """(tick, seconds) of each tempo event and of the last event, as mido adds them up."""
    file = parse(data)
    seconds, last, tempo = 0.0, 0, 500_000
    ends = [(timeline(track)[-1][0], None) for track in file.tracks]
    changes = [(tick, m.tempo) for tick, m in timeline(file.tracks[0]) if m.type == "set_tempo"]
    points = []
    for tick, following in [*changes, (max(ends)[0], None)]:
        seconds += mido.tick2second(tick - last, file.ticks_per_beat, tempo)
        points.append((tick, seconds))
        last, tempo = tick, following or tempo
    return points


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
modes_strategy = st.sampled_from(["plain", "channels", "mpe"])
settings_strategy = st.builds(
    MidiSettings,
    st.floats(4, 1000),
    st.integers(0, 127),
    modes_strategy,
    st.sampled_from([None, (3, 4), (6, 8), (2, 2), (7, 16)]),
)
beats_strategy = st.builds(
    lambda first, intervals, metre, quarters: Beats(
        tuple(np.cumsum([first, *intervals]).tolist()), metre[0], metre[1] % metre[0], quarters
    ),
    st.one_of(st.just(0.0), st.floats(0, 0.2), st.floats(0, 5)),
    st.lists(st.floats(0.2, 2), min_size=1, max_size=30),
    st.tuples(st.integers(1, 7), st.integers(0, 6)),
    st.sampled_from([1.0, 1.5, 0.5, 2.0]),
)


@settings(max_examples=60, deadline=None)
@given(notes_strategy, settings_strategy, st.none() | beats_strategy)
def test_any_notes_make_a_valid_file(notes: list[Note], chosen: MidiSettings, beats: Beats | None) -> None:
    file = parse(to_midi(notes, chosen, beats=beats).data)
    assert file.type == 1
    assert file.ticks_per_beat >= 480
    if beats is None:
        (tempo,) = [m.tempo for m in file.tracks[0] if m.type == "set_tempo"]
        assert tempo == round(6e7 / chosen.tempo)
    assert len(file.tracks) - 1 <= (15 if chosen.bend_mode == "channels" else 1)
    order = {"end": 0, "control_change": 1, "pitchwheel": 2, "begin": 3}
    count = 0
    channels: set[int] = set()
    for track in file.tracks[1:]:
        events = [(tick, m) for tick, m in timeline(track) if not m.is_meta and m.type != "program_change"]
        used = {m.channel for _, m in events}
        assert chosen.bend_mode == "mpe" or len(used) <= 1
        assert not used & channels
        channels |= used
        on: dict[tuple[int, int], int] = {}
        bends: dict[int, list[tuple[int, int]]] = defaultdict(lambda: [(-1, 0)])
        last = (-1, 0)
        for tick, message in events:
            kind = message.type
            if kind == "note_on":
                kind = "begin" if message.velocity else "end"
                if message.velocity:
                    assert (message.channel, message.note) not in on
                    on[message.channel, message.note] = tick
                    count += 1
                else:
                    assert tick > on.pop((message.channel, message.note))
            elif kind == "pitchwheel":
                at, value = bends[message.channel][-1]
                assert tick > at
                assert message.pitch != value or chosen.bend_mode == "mpe"
                bends[message.channel].append((tick, message.pitch))
            assert (tick, order[kind]) >= last
            last = (tick, order[kind])
        assert not on
        assert not [steps for steps in bends.values() if steps[-1][1] != 0]
    if chosen.bend_mode == "plain":
        assert channels <= {0}
    if chosen.bend_mode == "channels":
        assert DRUMS not in channels
    # Notes that last are all there, unless the next of their pitch begins at the same tick.
    if beats is None:
        ticks = file.ticks_per_beat * 1e6 / tempo
        lasting = {(round(max(n.onset, 0) * ticks), n.pitch) for n in notes if n.offset > max(n.onset, 0)}
        assert count == len(lasting)


@settings(max_examples=60, deadline=None)
@given(notes_strategy, modes_strategy, st.none() | beats_strategy)
def test_notes_bend_as_they_should(notes: list[Note], mode: str, beats: Beats | None) -> None:
    """Where each voice can have a channel: at every value of its bend, and not at all where there is none.

    Values less than 4 ms apart are not looked at, as two can fall on one tick, nor the first ticks of the file, in
    which the bend range is selected.
    """
    assume(mode != "plain" or len(notes) <= 1)
    result = to_midi(notes, MidiSettings(bend_mode=mode), beats=beats)
    assume(not any("lost" in w or "limited" in w for w in result.warnings))
    given_notes = {n.pitch: [] for n in notes}
    for note in notes:
        given_notes[note.pitch].append(note)
    for heard in played(result.data):
        sources = [n for n in given_notes[heard.pitch] if abs(max(n.onset, 0) - heard.start) < 1e-3]
        assert sources
        if len(sources) > 1:
            continue
        bend = sources[0].bend
        if bend is None or not len(bend.semitones):
            assert {value for time, value in heard.bend if time < heard.end} == {0}
            continue
        for time, value in zip(bend.times, bend.semitones.tolist(), strict=True):
            if bend.step > 4e-3 and max(heard.start, 4e-3) < time < heard.end:
                assert heard.at(time) == pytest.approx(value, abs=0.02)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.1, 0.6), st.floats(0.02, 0.5), st.sampled_from([None, 0.4])), max_size=20))
def test_on_one_channel_nothing_bends_a_note_that_does_not(line: list[tuple[float, float, float | None]]) -> None:
    """But for its last 30 ms, in which the next may begin; not what rings on, nor what ends meanwhile."""
    now, notes = 1.0, []
    for i, (gap, length, bend) in enumerate(line):
        start = max(0.1, now + gap)
        notes.append(flat(start, start + length, 40 + i, bend))
        now = start + length
    bends = {note.pitch: note.bend for note in notes}
    for heard in played(to_midi(notes).data):
        if bends[heard.pitch] is None:
            assert {value for time, value in heard.bend if time < heard.end - midi.EDGE - 1e-6} <= {0}


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
    file = parse(to_midi(notes, MidiSettings(tempo=tempo)).data)
    seconds = next(m.tempo for m in file.tracks[0] if m.type == "set_tempo") / 1e6 / file.ticks_per_beat
    read: dict[int, list[float]] = defaultdict(list)
    for tick, message in timeline(file.tracks[1]):
        if message.type == "note_on":
            read[message.note].append(tick * seconds)
    for note in notes:
        assert read[note.pitch] == pytest.approx([note.onset, note.offset], abs=1e-3)


def test_usual_resolution() -> None:
    assert to_midi([flat(0, 1, 60)]).midi.resolution == 480
    assert to_midi([flat(0, 1, 60)], beats=Beats((0.0, 1.0))).midi.resolution == 960
    assert to_midi([flat(0, 1, 60)], MidiSettings(tempo=4)).midi.resolution > 480


def test_ten_hours_can_still_be_read() -> None:
    result = to_midi([flat(0, 1, 60), flat(35_999, 36_000, 60)])
    assert "rounded" in result.warnings[0]
    read = pretty_midi.PrettyMIDI(BytesIO(result.data))
    assert read.instruments[0].notes[1].end == pytest.approx(36_000, abs=2e-3)


def test_a_long_file_takes_little_memory() -> None:
    """Beside the notes themselves, and what is worked on at a time: a hundred bytes a note, of which it takes ten."""
    melody = [flat(i / 2, i / 2 + 0.6, 50 + i % 20, 0.2) for i in range(200)]

    def peak(times: int) -> int:
        notes = NoteList(
            replace(note, onset=note.onset + 100 * i, offset=note.offset + 100 * i)
            for i in range(times)
            for note in melody
        )
        tracemalloc.start()
        try:
            to_midi(notes)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # loads what it needs
    assert peak(150) - peak(50) < 100 * 100 * len(melody)


def test_golden() -> None:
    """Every byte of a small file: header, fingerprint, tempo, metre, then name, program, bend range, notes, a bend."""
    result = to_midi(
        [flat(0.5, 1.0, 60, 0.5, velocity=100), flat(1.0, 1.5, 62)],
        MidiSettings(tempo=120, program=4, time_signature=(3, 4)),
        title="Étude",
        fingerprint="abc",
    )
    assert result.warnings == ()
    assert result.data.hex(" ") == " ".join(
        [
            "4d 54 68 64 00 00 00 06 00 01 00 02 01 e0",
            "4d 54 72 6b 00 00 00 2b 00 ff 01 14 62 61 73 69 63 5f 74 72 61 6e 73 63 72 69 62 65 3a 61 62 63",
            "00 ff 51 03 07 a1 20 00 ff 58 04 03 02 18 08 00 ff 2f 00",
            "4d 54 72 6b 00 00 00 3d 00 ff 03 06 c3 89 74 75 64 65 00 c0 04",
            "00 b0 64 00 00 65 00 01 06 02 00 26 00 01 64 7f 00 65 7f",
            "83 5e e0 00 50 00 90 3c 64 83 60 3c 00 00 e0 00 40 00 90 3e 50 83 60 3e 00 00 ff 2f 00",
        ]
    )


def test_no_notes() -> None:
    file = parse(to_midi([], title="silence").data)
    assert [m.name for m in file.tracks[1] if m.type == "track_name"] == ["silence"]
    for chosen in MODES:
        assert to_midi([], chosen).midi.instruments == []


@pytest.mark.parametrize("mode", ["channels", "mpe"])
def test_program_reaches_every_channel(mode: str) -> None:
    chord = [flat(0, 1, 60 + 4 * i, 0.2) for i in range(3)]
    read = to_midi(chord, MidiSettings(program=33, bend_mode=mode)).midi
    assert [i.program for i in read.instruments] == [33, 33, 33]


def test_notes_without_length_are_dropped_and_said() -> None:
    result = to_midi([flat(1, 1, 60), flat(2, 1.5, 61), flat(2, 3, 62)])
    assert [n.pitch for n in result.midi.instruments[0].notes] == [62]
    assert result.warnings == ("2 of 3 notes had no length and were left out",)


def test_shorter_than_a_tick_is_lengthened() -> None:
    (note,) = to_midi([Note(1, 1 + 1e-7, 60, 80, 0.9)]).midi.instruments[0].notes
    assert 0 < note.end - note.start < 2e-3


@pytest.mark.parametrize("end", [0.0, 5e-324, 2.3e-302, 1e-12])
def test_a_file_may_end_as_soon_as_it_begins(end: float) -> None:
    assert to_midi([Note(0.0, end, 60, 80, 0.9)]).data.startswith(b"MThd")


@pytest.mark.parametrize(("given_velocity", "written"), [(-5, 1), (0, 1), (1, 1), (127, 127), (200, 127)])
def test_velocity_is_limited(given_velocity: int, written: int) -> None:
    assert to_midi([Note(0, 1, 60, given_velocity, 0.9)]).midi.instruments[0].notes[0].velocity == written


def test_overlapping_notes_of_one_pitch_are_cut() -> None:
    read = sounding(to_midi([flat(0, 3, 60), flat(1, 2, 60), flat(0, 3, 64)]).data)
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
        Note(0, 1, 60.7, 80, 0.9),  # type: ignore[arg-type]
        Note(0, 1, 60, 80, 0.9, PitchBend(0, STEP, np.array([0, np.nan], np.float32))),
        Note(0, 1, 60, 80, 0.9, PitchBend(math.nan, STEP, np.zeros(2, np.float32))),
        Note(0, 1, 60, 80, 0.9, PitchBend(0, 0, np.zeros(2, np.float32))),
    ],
)
def test_nonsense_is_refused(note: Note) -> None:
    with pytest.raises(ValueError, match="a note"):
        to_midi([flat(0, 1, 50), note])


@pytest.mark.parametrize("chosen", [MidiSettings(), CHANNELS])
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
    data = to_midi(notes, chosen).data
    selected = [m.value for m in parse(data).tracks[1] if m.type == "control_change" and m.control == 6]
    assert selected == [bend_range]
    for note, (*_, bend) in zip(notes, sounding(data), strict=True):
        assert note.bend is not None
        assert bend == pytest.approx(float(note.bend.semitones.mean()), abs=0.02 + 0.01 * widest)


def test_bend_range_is_selected_before_the_first_bend_and_released() -> None:
    events = timeline(parse(to_midi([flat(0, 1, 60, 5.0)]).data).tracks[1])
    controls = [(t, m.control, m.value) for t, m in events if m.type == "control_change"]
    wheel = [t for t, m in events if m.type == "pitchwheel"]
    assert [c[1:] for c in controls[2:4]] == [(6, 12), (38, 0)]
    assert {c[1:] for c in controls[:2]} == {(100, 0), (101, 0)}
    assert {c[1:] for c in controls[4:]} == {(100, 127), (101, 127)}
    assert controls[1][0] < controls[2][0] <= controls[3][0] < controls[4][0]
    assert wheel[0] > controls[2][0]


@pytest.mark.parametrize("bend", [5.0, -5.0])
def test_a_bend_at_the_very_beginning_waits_for_its_range(bend: float) -> None:
    events = timeline(parse(to_midi([flat(0, 1, 60, bend), flat(1.5, 2, 60)]).data).tracks[1])
    selected = max(t for t, m in events if m.type == "control_change")
    (begun, value), *_, (_, last) = [(t, m.pitch) for t, m in events if m.type == "pitchwheel"]
    assert begun == selected
    assert value == pytest.approx(bend / 12 * 8192, abs=1)
    assert last == 0
    # What is over before that does not bend, nor does anything after it.
    assert channel_bends(to_midi([flat(0, 1e-4, 60, bend), flat(1, 2, 60)], MidiSettings(tempo=120)).data) == {}


def test_bends_beyond_the_widest_range_are_limited_and_said() -> None:
    result = to_midi([flat(0, 1, 60, 99.0), flat(2, 3, 60, -99.0)])
    assert [b.pitch for b in result.midi.instruments[0].pitch_bends] == [8191, -8192, 0]
    assert "2 of 2 notes bend by more than 24 semitones" in result.warnings[0]


def test_inaudible_changes_are_not_written() -> None:
    drift = PitchBend(0, STEP, np.linspace(0.3, 0.31, 80, dtype=np.float32))
    (track,) = channel_bends(to_midi([Note(0, 0.9, 60, 80, 0.9, drift)]).data).values()
    assert len(track) == 2  # one bend, one return
    result = to_midi([flat(0, 1, 60, 0.01)])
    assert result.midi.instruments[0].pitch_bends == []
    assert result.midi.instruments[0].control_changes == []


def test_one_channel_bends_only_what_sounds_alone() -> None:
    notes = [flat(0, 1, 60, 0.4), flat(1, 2, 62, -0.4), flat(1.5, 2.5, 65, 0.4), flat(3, 4, 60, 0.4)]
    data = to_midi(notes).data
    assert [round(bend, 2) for *_, bend in sounding(data)] == [0.4, 0, 0, 0.4]


@pytest.mark.parametrize("chosen", MODES)
@pytest.mark.parametrize("tuning", [0.0, 30.0])
def test_a_note_dies_away_with_its_bend(chosen: MidiSettings, tuning: float) -> None:
    """For two quarter notes, unless the next one of its channel begins, which sounds as it should."""
    notes = [flat(0.5, 1, 60, 0.7), flat(3, 3.5, 62, 0.3), flat(4, 4.5, 64, -0.7), flat(5.2, 6, 65, 0.3)]
    rest = 0.0 if chosen is MPE else tuning / 100
    heard = played(to_midi(notes, chosen, tuning=tuning).data)
    assert [n.at(n.end - 0.1) for n in heard] == pytest.approx([0.7, 0.3, -0.7, 0.3], abs=0.01)
    assert [heard[0].at(1.9), heard[0].at(2.1)] == pytest.approx([0.7, rest], abs=0.01)
    assert heard[2].at(5.1) == pytest.approx(-0.7, abs=0.01)


def test_one_channel_forgives_overlap_at_the_edges() -> None:
    notes = [flat(0, 1.02, 60, 0.4), flat(1, 2.02, 62, -0.4), flat(2, 3, 64)]
    starts = {round(start): bend for start, _, _, bend in sounding(to_midi(notes).data)}
    assert starts == pytest.approx({0: 0.4, 1: -0.4, 2: 0}, abs=0.02)


def test_a_chord_of_very_short_notes_does_not_bend() -> None:
    notes = [flat(0.5, 0.52, 60, 0.4), flat(0.5, 0.52, 64, -0.4)]
    assert channel_bends(to_midi(notes).data) == {}


def test_every_bending_voice_has_a_channel() -> None:
    chord = [flat(0.5, 2, 48 + i, -0.4 + 0.05 * i) for i in range(15)]
    result = to_midi(chord, CHANNELS, title="choir")
    assert result.warnings == ()
    data = result.data
    names = [m.name for track in parse(data).tracks for m in track if m.type == "track_name"]
    assert names[0] == "choir (1)"
    assert len(names) == 15
    read = sorted((pitch, bend) for _, _, pitch, bend in sounding(data))
    assert [bend for _, bend in read] == pytest.approx([-0.4 + 0.05 * i for i in range(15)], abs=0.02)
    used = {m.channel for track in parse(data).tracks for m in track if m.type == "note_on"}
    assert used == set(range(16)) - {9}


def test_channels_are_used_again() -> None:
    melody = [flat(i * 0.5, i * 0.5 + 0.5, 60 + i, 0.3) for i in range(20)]
    assert len(to_midi(melody, CHANNELS).midi.instruments) == 1


def test_unbent_voices_share_a_channel() -> None:
    notes = [flat(0, 4, 40 + i) for i in range(20)] + [flat(1, 2, 80, 0.3), flat(1, 2, 84, -0.3)]
    result = to_midi(notes, CHANNELS)
    assert result.warnings == ()
    assert [len(i.notes) for i in result.midi.instruments] == [20, 1, 1]


def test_voices_beyond_the_channels_play_unbent_and_are_said() -> None:
    """The sixteenth goes without, and takes the end of the bend of the voice that would have ended first."""
    chord = [flat(0.5, 3 + i / 10, 48 + i, 0.5) for i in range(15)]
    result = to_midi([*chord, flat(1.5, 4, 80, 0.5), flat(2, 4, 81, 0.5)], CHANNELS)
    assert result.warnings == ("3 of 17 notes lost their pitch bend or its end: more than 15 voices at once",)
    read = {pitch: (start, end, bend) for start, end, pitch, bend in sounding(result.data)}
    assert read[48] == pytest.approx((0.5, 3, 0.5 * 1 / 2.5), abs=0.01)
    assert read[80] == pytest.approx((1.5, 4, 0), abs=0.01)
    assert read[81] == pytest.approx((2, 4, 0), abs=0.01)
    assert [read[48 + i][2] for i in range(1, 15)] == pytest.approx([0.5] * 14, abs=0.01)


@pytest.mark.parametrize("chosen", MODES)
def test_order_of_the_input_does_not_matter(chosen: MidiSettings) -> None:
    rng = np.random.default_rng(2)
    notes = [flat(t, t + 1, int(p), 0.3) for t, p in zip(rng.uniform(0, 5, 60), rng.integers(30, 90, 60), strict=True)]
    assert to_midi(notes, chosen).data == to_midi(reversed(notes), chosen).data


@pytest.mark.parametrize("chosen", MODES)
def test_order_of_the_input_does_not_matter_to_notes_that_begin_together(chosen: MidiSettings) -> None:
    notes = [
        *(flat(0.5, 1, 60, 0.4, 90), flat(0.5, 2, 60, 0.4, 40), flat(0.5, 2, 60, 0.4, 70)),
        *(flat(0.5, 1, 64, 0.3), flat(0.5, 1, 62, 0.2)),
    ]
    files = {to_midi(order, chosen).data for order in permutations(notes)}
    assert len(files) == 1
    (instruments,) = (to_midi(notes, chosen).midi.instruments,)
    longest = [(n.end, n.velocity) for i in instruments for n in i.notes if n.pitch == 60]
    assert longest == [(pytest.approx(2, abs=1e-3), 70)]


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60), st.sampled_from([1, 10, 300]))
@settings(max_examples=20, deadline=None)
def test_fingerprint_round_trip(word: str, times: int) -> None:
    text = word * times
    data = to_midi([flat(0, 1, 60)], title="basic_transcribe:decoy", fingerprint=text).data
    assert parse(data).tracks[0][0].type == "text"
    assert midi.find_fingerprint(data) == text


def test_fingerprint_of_other_files(tmp_path: Path) -> None:
    marked = to_midi([], fingerprint="1 input=ab").data
    for name, data, expected in [
        ("own.mid", marked, "1 input=ab"),
        ("unmarked.mid", to_midi([], title="basic_transcribe:x").data, None),
        ("cut.mid", marked[: marked.index(b"input")], None),
        ("cut later.mid", marked[:-1], None),
        ("cut between tracks.mid", marked[: marked.rindex(b"MTrk") + 6], None),
        ("longer.mid", marked + b"?", None),
        ("other.mid", b"RIFF" + marked, None),
        ("empty.mid", b"", None),
    ]:
        (tmp_path / name).write_bytes(data)
        assert read_fingerprint(tmp_path / name) == expected, name
    assert read_fingerprint(tmp_path / "missing.mid") is None
    assert read_fingerprint(tmp_path) is None


def test_title_of_any_characters() -> None:
    data = to_midi([], title="caf\u00e9 \U0001f3b9\n\udcff").data
    (name,) = [m.name for m in mido.MidiFile(file=BytesIO(data), charset="utf-8").tracks[1] if m.type == "track_name"]
    assert name == "caf\u00e9 \U0001f3b9??"


# ------------------------------------------------------------------------------------------------------ tempo and metre


@settings(max_examples=100, deadline=None)
@given(beats_strategy, st.lists(st.tuples(st.floats(0, 80), st.floats(0.01, 5)), max_size=8), modes_strategy)
def test_beats_fall_on_their_ticks_and_notes_keep_their_times(
    beats: Beats, times: list[tuple[float, float]], mode: str
) -> None:
    notes = [Note(onset, onset + length, 40 + i, 80, 0.9) for i, (onset, length) in enumerate(times)]
    data = to_midi(notes, MidiSettings(bend_mode=mode), beats=beats).data
    file = parse(data)

    per_beat = beats.quarters * file.ticks_per_beat
    reached = tempo_map(data)
    known_ticks, known_seconds = zip(*reached, strict=True)
    slope = mido.tick2second(1, file.ticks_per_beat, [m.tempo for m in file.tracks[0] if m.type == "set_tempo"][-1])

    # Before the first of them, what part of a beat fits at nearly their tempo, with which the file begins.
    second = np.interp(beats.times[1], known_seconds, known_ticks)
    second += max(0.0, beats.times[1] - known_seconds[-1]) / slope
    lead = round(24 * (second / per_beat - 1)) / 24
    passed = beats.times[0] * beats.tempo / 60
    ratio = lead / passed if lead else 1 / (1 + passed)  # of its tempo to theirs
    assert abs(math.log(ratio)) < 0.35
    tempo = next(m.tempo for m in file.tracks[0] if m.type == "set_tempo")
    assert not passed or tempo * beats.quarters == pytest.approx(6e7 / beats.tempo, rel=0.1)
    for k, time in enumerate(beats.times):
        tick = (lead + k) * per_beat
        beyond = max(0.0, tick - known_ticks[-1]) * slope
        assert tick == pytest.approx(round(tick), abs=1e-6)
        if lead or k:
            assert np.interp(tick, known_ticks, known_seconds) + beyond == pytest.approx(time, abs=1e-4)

    # Bars: the first downbeat begins one, and what is before it fills the first bar.
    signatures = [
        (tick, m.numerator * 4 / m.denominator * file.ticks_per_beat)
        for tick, m in timeline(file.tracks[0])
        if m.type == "time_signature"
    ]
    whole = beats.per_bar * per_beat
    assert signatures[0][0] == 0
    assert signatures[-1][1] == whole
    assert round((lead + beats.downbeat) * per_beat - signatures[-1][0]) % whole == 0
    assert max(m.denominator for _, m in timeline(file.tracks[0]) if m.type == "time_signature") <= 16
    for (tick, length), (following, _) in pairwise(signatures):
        assert tick + length == following < tick + whole

    # Notes: in two readers.
    read = {n.pitch: (n.start, n.end) for i in to_midi(notes, beats=beats).midi.instruments for n in i.notes}
    heard = {n.pitch: (n.start, n.end) for n in played(data)}
    for note in notes:
        assert read[note.pitch] == pytest.approx((note.onset, note.offset), abs=1e-3)
        assert heard[note.pitch] == pytest.approx((note.onset, note.offset), abs=1e-3)


@pytest.mark.parametrize("second", [0.25, 0.432, 0.5, 0.6, 0.9])
def test_a_first_beat_of_another_length_does_not_tell_the_tempo(second: float) -> None:
    """As where it is put at the beginning of the recording."""
    beats = Beats((0.0, *(second + k / 2 for k in range(12))))
    data = to_midi([], beats=beats).data
    assert next(m.tempo for m in parse(data).tracks[0] if m.type == "set_tempo") == pytest.approx(500_000, rel=0.01)
    assert min(abs(seconds - second) for _, seconds in tempo_map(data)) < (1e-4 if second != 0.5 else 1)


def test_rounded_tempi_do_not_drift() -> None:
    """An hour at 93.7 beats a minute, which no whole number of microseconds is: few tempi, and no beat is missed."""
    beats = Beats(tuple((np.arange(5600) * 60 / 93.7).tolist()))
    data = to_midi([], beats=beats).data
    reached = tempo_map(data)[:-1]
    assert 2 <= len(reached) <= 60
    for tick, seconds in reached:
        assert tick % 480 == 0
        assert seconds == pytest.approx(beats.times[tick // 480], abs=6e-5)


def test_the_first_of_very_slow_beats_may_come_at_once() -> None:
    beats = Beats((0.016, 16.015, 32.014))  # its own tempo would put the first tick behind the first beat
    reached = tempo_map(to_midi([], beats=beats).data)
    assert [seconds for _, seconds in reached][2] == pytest.approx(0.016, abs=6e-5)


def test_a_steady_beat_is_one_tempo() -> None:
    track = parse(to_midi([], beats=Beats((0.0, 0.5, 1.0, 1.5))).data).tracks[0]
    assert [m.tempo for m in track if m.type == "set_tempo"] == [500_000]


@pytest.mark.parametrize(
    ("first", "downbeat", "expected"),
    [
        (0.0, 0, [(0, 4, 4)]),
        (0.05, 0, [(0, 4, 4)]),  # near enough to the beginning
        (0.0, 1, [(0, 1, 4), (480, 4, 4)]),
        (0.25, 0, [(0, 1, 8), (240, 4, 4)]),
        (0.12, 0, [(0, 1, 16), (120, 4, 4)]),
        (0.3, 0, [(0, 1, 8), (240, 4, 4)]),  # 1/2 of a beat for 3/5: there is nothing between it and 3/4
        (1.1, 1, [(0, 3, 4), (1440, 4, 4)]),
        (2.0, 0, [(0, 4, 4)]),
        (2.1, 3, [(0, 3, 4), (1440, 4, 4)]),  # a pick-up, then a bar
        (1.63, 0, [(0, 3, 4), (1440, 4, 4)]),  # 3 beats for 3.26 are nearly of their tempo,
        (1.7, 0, [(0, 1, 8), (240, 3, 4), (1680, 4, 4)]),  # for 3.4 they are not
        (0.8, 1, [(0, 1, 8), (240, 2, 4), (1200, 4, 4)]),  # 3/2 of a beat for 8/5, and one before the first bar
    ],
)
def test_pick_up(first: float, downbeat: int, expected: list[tuple[int, int, int]]) -> None:
    beats = Beats(tuple(first + k / 2 for k in range(12)), 4, downbeat)
    track = parse(to_midi([], beats=beats).data).tracks[0]
    found = [(t, m.numerator, m.denominator) for t, m in timeline(track) if m.type == "time_signature"]
    assert found == expected
    tempo = next(m.tempo for m in track if m.type == "set_tempo")  # the one that some readers take for all
    assert tempo == pytest.approx(500_000, rel=0.02)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (0.05, [(0, 6, 8)]),
        (0.16, [(0, 1, 8), (240, 6, 8)]),  # a third of a beat
        (0.42, [(0, 5, 16), (600, 6, 8)]),
        (0.33, [(0, 1, 4), (480, 6, 8)]),
        (0.5, [(0, 3, 8), (720, 6, 8)]),
    ],
)
def test_pick_up_in_eighths(first: float, expected: list[tuple[int, int, int]]) -> None:
    beats = Beats(tuple(first + k / 2 for k in range(12)), 2, 0, 1.5)
    track = parse(to_midi([], beats=beats).data).tracks[0]
    assert [(t, m.numerator, m.denominator) for t, m in timeline(track) if m.type == "time_signature"] == expected


@pytest.mark.parametrize("quarters", [0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0])
def test_what_comes_before_the_first_beat_wherever_that_falls(quarters: float) -> None:
    """No bar is finer than of sixteenths, unless the metre is; it begins with the tempo of the beats."""
    for first in np.arange(0.0, 1.2, 0.005).tolist():
        beats = Beats(tuple(first + k / 2 for k in range(12)), 4, 0, quarters)
        track = parse(to_midi([], beats=beats).data).tracks[0]
        tempi = [math.log(m.tempo * quarters / 500_000) for m in track if m.type == "set_tempo"]
        assert abs(tempi[0]) < 0.1
        assert max(map(abs, tempi)) < (0.36 if quarters >= 0.5 and quarters != 0.75 else 0.5)
        denominators = {m.denominator for m in track if m.type == "time_signature"}
        assert max(denominators) <= max(16, beats.time_signature[1])


def test_time_signatures() -> None:
    def signatures(wanted: tuple[int, int] | None, beats: Beats | None = None) -> list[tuple[int, int, int]]:
        track = parse(to_midi([], MidiSettings(time_signature=wanted), beats=beats).data).tracks[0]
        found = [m for m in track if m.type == "time_signature"]
        return [(m.numerator, m.denominator, m.clocks_per_click) for m in found]

    assert signatures(None) == []
    assert signatures((3, 4)) == [(3, 4, 24)]
    assert signatures((6, 8)) == [(6, 8, 36)]
    assert signatures((2, 2)) == [(2, 2, 48)]
    assert signatures(None, Beats((0.0, 0.5), 2, 1, 1.5)) == [(3, 8, 12), (6, 8, 36)]
    assert signatures(None, Beats((0.0, 0.2), 7, 0, 0.5)) == [(7, 8, 12)]
    assert signatures((2, 2), Beats((0.0, 0.5), 4)) == [(2, 2, 48)]  # bars as long as those of the beats
    assert signatures((3, 4), Beats((0.0, 0.5), 4)) == [(4, 4, 24)]


def test_long_recordings_of_any_beat_can_be_read() -> None:
    for beats in (Beats((0.0, 0.3)), Beats((0.2, 0.25, 14.2, 14.4)), Beats((0.0, 14.9), quarters=1.5)):
        result = to_midi([flat(17_000, 17_001, 60)], beats=beats)
        end = max(timeline(track)[-1][0] for track in parse(result.data).tracks)
        assert end < 10_000_000
        (note,) = played(result.data)
        assert (note.start, note.end) == pytest.approx((17_000, 17_001), abs=1e-3 if not result.warnings else 0.1)


@pytest.mark.parametrize(
    ("beats", "end"),
    [
        (Beats((17.75, 33.75)), 1),  # the first of them
        (Beats((0.009, 0.019, 0.029)), 1),
        (Beats((0.0, 0.00125), quarters=0.125), 90_000),
        (Beats((0.0, 0.01)), 100_000),
    ],
)
def test_impossible_beats_are_refused(beats: Beats, end: float) -> None:
    with pytest.raises(UsageError, match="beat"):
        to_midi([flat(0, end, 60)], beats=beats)


@pytest.mark.parametrize("flats", [False, True])
@pytest.mark.parametrize("mode", ["major", "minor"])
def test_every_key(mode: str, flats: bool) -> None:
    for tonic in range(12):
        key = Key(tonic, mode, flats=flats)
        data = to_midi([], key=key).data
        (read,) = pretty_midi.PrettyMIDI(BytesIO(data)).key_signature_changes
        assert read.key_number == tonic + 12 * (mode == "minor")
        fifths, minor = data[data.index(b"\xff\x59\x02") + 3 :][:2]
        assert (fifths, minor) == (key.fifths % 256, mode == "minor")


def test_markers_come_at_their_times() -> None:
    beats = Beats((0.0, 0.4, 1.0, 1.3))
    markers = [Marker(2.0, "zwei ♯"), Marker(0.7, "one\n\udcff"), Marker(-1.0, "zero"), Marker(2.0, "again")]
    data = to_midi([flat(0, 1, 60)], beats=beats, markers=markers, fingerprint="abc").data
    assert midi.find_fingerprint(data) == "abc"
    now, found = 0.0, []
    for message in mido.MidiFile(file=BytesIO(data), charset="utf-8"):
        now += message.time
        if message.type == "marker":
            found.append((pytest.approx(now, abs=1e-3), message.text))
    assert found == [(0.0, "zero"), (0.7, "one??"), (2.0, "zwei ♯"), (2.0, "again")]
    with pytest.raises(ValueError, match="a marker"):
        to_midi([], markers=[Marker(math.nan, "never")])


# ------------------------------------------------------------------------------------- MIDI Polyphonic Expression (MPE)


def test_a_zone_is_set_up_before_all_else() -> None:
    data = to_midi([flat(0, 1, 60, 0.5)], MPE).data
    receiver = Receiver()
    receiver.play(data)
    assert receiver.log == ["zone 15", "range 0 2", *(f"range {c} 48" for c in range(1, 16))]
    first = [(m.channel, m.control, m.value) for m in parse(data).tracks[1] if m.type == "control_change"][:3]
    assert first == [(0, 100, 6), (0, 101, 0), (0, 6, 15)]
    assert len(parse(data).tracks) == 2  # importers make one instrument of a track


@settings(max_examples=60, deadline=None)
@given(notes_strategy)
def test_each_note_has_a_member_channel_to_itself(notes: list[Note]) -> None:
    heard = played(to_midi(notes, MPE).data)
    assert {n.channel for n in heard} <= set(MPE_VOICES)
    for note in heard:
        others = [n for n in heard if n is not note and n.start <= note.start < n.end]
        if len(others) < len(MPE_VOICES):
            assert note.channel not in {n.channel for n in others}


@settings(max_examples=30, deadline=None)
@given(notes_strategy)
def test_each_note_is_told_its_bend_before_it_begins(notes: list[Note]) -> None:
    told: set[tuple[int, int]] = set()
    for tick, message in timeline(parse(to_midi(notes, MPE).data).tracks[1]):
        if message.type == "pitchwheel":
            told.add((tick, message.channel))
        elif message.type == "note_on" and message.velocity:
            assert (tick, message.channel) in told


def test_releases_are_not_bent() -> None:
    """A line in thirds: each note keeps its last bend while its sound dies away."""
    line = [flat(i / 4, i / 4 + 0.25, 60 + 4 * (i % 2) + i // 2, (-1) ** i * 0.4) for i in range(60)]
    heard = played(to_midi(line, MPE).data)
    assert {n.channel for n in heard} == set(MPE_VOICES)
    for note in heard:
        assert note.at(note.end + 0.9) == note.at(note.end - 0.01) != 0


def test_members_are_shared_by_those_that_bend_least() -> None:
    chord = [flat(0.5, 3 + i / 10, 40 + i, 0.5) for i in range(14)]
    chord[7] = vibrato(0.5, 3.7, 47, 0.1, 3, 0)
    result = to_midi([*chord, flat(1.5, 2, 80, 0.5), flat(1.6, 2, 84)], MPE)
    assert result.warnings == ("2 of 16 notes lost their pitch bend or its end: more than 14 voices at once",)
    heard = {n.pitch: n for n in played(result.data)}
    assert heard[80].channel == heard[84].channel == heard[47].channel
    assert heard[47].at(1.4) != 0
    for note in (heard[47], heard[80], heard[84]):
        assert {value for time, value in note.bend if time >= 1.5} == {0}
    assert [heard[40 + i].at(1.7) for i in range(14) if i != 7] == pytest.approx([0.5] * 13, abs=0.01)


def test_of_members_that_bend_equally_the_one_that_ends_first_is_shared() -> None:
    chord = [flat(0.5, 2 if i == 5 else 3, 40 + i, 0.5) for i in range(14)]
    heard = {n.pitch: n.channel for n in played(to_midi([*chord, flat(1.5, 2.5, 80)], MPE).data)}
    assert heard[80] == heard[45]


def test_bends_of_a_zone_are_limited_and_said() -> None:
    result = to_midi([flat(0, 1, 30, 60.0)], MPE)
    assert played(result.data)[0].at(0.5) == pytest.approx(48, abs=0.01)
    assert "1 of 1 notes bend by more than 48 semitones" in result.warnings[0]


@pytest.mark.parametrize("chosen", MODES)
def test_pretty_midi_can_write_what_it_read(chosen: MidiSettings) -> None:
    """It sorts the messages of a tick, by which a bend range would be lost that was selected on one."""
    notes = [flat(0.5 + i, 1.4 + i, 60 + i, 5.0 - i) for i in range(4)]
    result = to_midi(notes, chosen)
    buffer = BytesIO()
    result.midi.write(buffer)
    expected = [pytest.approx(row, abs=1e-3) for row in sounding(result.data)]
    assert sounding(buffer.getvalue()) == expected
    assert [n.at(n.start + 0.4) for n in played(buffer.getvalue())] == pytest.approx([5, 4, 3, 2], abs=0.02)


def vibrato(onset: float, offset: float, pitch: int, depth: float, rate: float, slide: float) -> Note:
    """A note that swings by ``depth`` semitones and slides by ``slide`` over its length."""
    times = np.arange(0, offset - onset, STEP)
    values = depth * np.sin(2 * np.pi * rate * times) + slide * times / (offset - onset)
    return Note(onset, offset, pitch, 80, 0.9, PitchBend(onset, STEP, values.astype(np.float32)))


def synthesise(notes: list[Played], seconds: float, rate: int) -> np.ndarray:
    """Sines, by integrating their frequencies."""
    times = np.arange(round(seconds * rate)) / rate
    sound = np.zeros(len(times))
    for note in notes:
        inside = (times >= note.start) & (times < note.end)
        step_times, values = np.array(note.bend).T
        bend = values[np.searchsorted(step_times, times[inside], side="right") - 1]
        sound[inside] += np.sin(2 * np.pi * np.cumsum(440 * 2 ** ((note.pitch + bend - 69) / 12)) / rate)
    return sound


def deviations(sound: np.ndarray, note: Note, rate: int) -> np.ndarray:
    """Cents between a sound and what a note should be, every 5 ms but for 50 ms at its ends.

    The sound is shifted down by the frequency the note should have; what turns then is the difference.
    """
    assert note.bend is not None
    times = np.arange(math.ceil(note.onset * rate), math.floor(note.offset * rate)) / rate
    hertz = 440 * 2 ** ((note.pitch + np.interp(times, note.bend.times, note.bend.semitones) - 69) / 12)
    shifted = sound[round(times[0] * rate) :][: len(times)] * np.exp(-2j * np.pi * np.cumsum(hertz) / rate)
    window = np.hanning(round(0.05 * rate))
    slow = np.convolve(shifted, window / window.sum(), mode="same")
    turns = np.diff(np.unwrap(np.angle(slow))) * rate / (2 * np.pi)
    edge = round(0.05 * rate)
    return (1200 * np.log2(1 + turns / hertz[1:]))[edge : -edge : rate // 200]


@pytest.mark.parametrize("beats", [None, Beats((0.3, 0.8, 1.4, 1.8, 2.5))])
def test_what_sounds_is_within_5_cents_of_the_notes(beats: Beats | None) -> None:
    """Chords of three bending voices over a line of its own, more notes than there are channels."""
    rng = np.random.default_rng(3)
    rate = 8000
    notes = [
        vibrato(t, t + 0.55, p, rng.uniform(0, 0.5), rng.uniform(4, 7), rng.uniform(-1, 1))
        for t in np.arange(0.1, 4, 0.6).tolist()
        for p in (60, 67, 74)
    ]
    notes += [vibrato(t, t + 0.4, 84 + i % 3, 0.4, 6, 0.5) for i, t in enumerate(np.arange(0.2, 4, 0.45).tolist())]
    result = to_midi(notes, MPE, beats=beats)
    assert result.warnings == ()
    sound = synthesise(played(result.data), 5.0, rate)
    off = np.concatenate([deviations(sound, note, rate) for note in notes])
    assert np.abs(off).max() < 5
    assert abs(off.mean()) < 1
    # What is measured is the bend: without it the sound is off by much more.
    plain = synthesise([Played(n.start, n.end, n.pitch, 0, [(0.0, 0.0)]) for n in played(result.data)], 5.0, rate)
    assert np.abs(np.concatenate([deviations(plain, note, rate) for note in notes])).max() > 50
