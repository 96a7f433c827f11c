"""What is told while sound arrives: from a recording with a made-up clock, from a made-up device, to a port."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mido
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from basic_transcribe import live
from basic_transcribe.errors import AudioError, OutputError, UsageError
from basic_transcribe.live import (
    OTHER_TUNING,
    Event,
    Events,
    Microphone,
    MidiOut,
    Playback,
    input_devices,
    listen,
    open_port,
    run,
)
from basic_transcribe.model import Model
from basic_transcribe.pipeline import Transcriber
from basic_transcribe.streaming import StreamingTranscriber
from basic_transcribe.types import Note, TrackerSettings

GUITAR = Path(__file__).parent / "data" / "guitar.flac"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(threads=1)


class Port:
    """A MIDI output that keeps what is sent, and can be made to fail."""

    name = "Synth\n1"

    def __init__(self) -> None:
        self.sent: list[mido.Message] = []
        self.closed = False
        self.failure: Exception | None = None

    def send(self, message: mido.Message) -> None:
        assert not self.closed
        if self.failure is not None:
            failure, self.failure = self.failure, None  # once
            raise failure
        self.sent.append(message)

    def close(self) -> None:
        self.closed = True

    def sounding(self) -> set[int]:
        """Pitches left on; each note-on and note-off must have been in place."""
        on: set[int] = set()
        for message in self.sent:
            if message.type == "note_on":
                assert message.velocity > 0
                assert message.note not in on
                on.add(message.note)
            elif message.type == "note_off":
                on.remove(message.note)
        return on


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        self.slept += seconds


def collect(playback: Playback, model: Model) -> list[Event]:
    events: list[Event] = []
    run(playback, StreamingTranscriber(playback.sample_rate, model), [playback, events.append])
    return events


# ---------------------------------------------------------------- events


def note(onset: float, offset: float, pitch: int = 60) -> Note:
    return Note(onset, offset, pitch, 80, 0.9)


def test_a_note_is_told_when_it_begins_and_when_it_is_finished() -> None:
    events = Events()
    assert events.update([], [note(1.0, 1.1)]) == [Event(1.0, 60, 80)]
    assert events.update([], [note(1.0, 1.2)]) == []
    assert events.update([note(1.0, 1.15)], []) == [Event(1.15, 60, 0)]
    assert events.update([], []) == []


def test_a_note_may_be_over_before_it_is_known() -> None:
    assert Events().update([note(1.0, 1.1)], [note(1.1, 1.3)]) == [
        Event(1.0, 60, 80),
        Event(1.1, 60, 0),
        Event(1.1, 60, 80),
    ]


def test_a_note_that_is_not_kept_ends_where_it_began() -> None:
    events = Events()
    events.update([], [note(1.0, 1.1), note(1.0, 1.1, 64)])
    assert events.update([], [note(0.99, 1.3)]) == [Event(1.0, 60, 0), Event(1.0, 64, 0), Event(0.99, 60, 80)]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=12),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_note_ons_and_offs_alternate(lengths: list[tuple[int, bool]], times: list[int]) -> None:
    """Notes of one pitch, some of them dropped when they end, looked at now and then."""
    notes, start = [], 0
    for length, kept in lengths:
        notes.append((note(start, start + length), kept))
        start += length
    events, told = Events(), 0
    heard: list[Event] = []
    for now in [*sorted(times), 200]:
        finished = [n for n, kept in notes if kept and told < n.offset <= now]
        heard += events.update(finished, [n for n, _ in notes if n.onset <= now < n.offset])
        told = now
    assert [e.velocity > 0 for e in heard] == [True, False] * (len(heard) // 2)
    kept_notes = [n for n, kept in notes if kept]
    ons = [e.time for e in heard if e.velocity]
    assert set(ons) >= {n.onset for n in kept_notes}
    assert {e.time for e in heard if not e.velocity} >= {n.offset for n in kept_notes}
    assert ons == sorted(ons)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Event(12.3451, 66, 80), "12.345 on F#4 80"),
        (Event(12.3451, 66, 0), "12.345 off F#4"),
        (Event(0.0, 21, 1), "0.000 on A0 1"),
        (Event(0.0, 108, 0), "0.000 off C8"),
    ],
)
def test_lines(event: Event, line: str) -> None:
    assert str(event) == line


# ---------------------------------------------------------------- from a recording


def test_a_recording_is_played_at_its_own_pace(model: Model) -> None:
    clock = Clock()
    playback = Playback(GUITAR, clock=clock, sleep=clock.sleep)
    assert playback.sample_rate == 16000
    played = 0
    for chunk in playback:
        played += len(chunk)
        assert len(chunk) <= 160
        assert clock.now - 1000.0 == pytest.approx(played / 16000)  # not before its last sample has sounded
    assert played == soundfile.info(GUITAR).frames
    late = Clock()
    behind = Playback(GUITAR, clock=late, sleep=late.sleep)
    for number, _ in enumerate(behind):
        if number < 100:
            late.now += 0.02  # computing takes twice the time that there is: 1 s is lost, then made good
    assert late.slept == pytest.approx(clock.slept - 2.0 + 0.01, abs=0.02)


def test_the_notes_are_those_of_the_recording(model: Model) -> None:
    heard = [e for e in collect(Playback(GUITAR, fast=True), model) if e.velocity]
    expected = Transcriber(threads=1).transcribe(GUITAR).notes
    same = [any(e.pitch == n.pitch and abs(e.time - n.onset) < 1e-3 for e in heard) for n in expected]
    assert sum(same) >= 0.95 * len(expected)  # sums of short blocks are rounded otherwise, and decide one now and then
    assert 0.95 * len(expected) <= len(heard) <= 1.2 * len(expected)  # some were too short to be kept


def test_latency_is_measured(model: Model) -> None:
    clock = Clock()
    real = Playback(GUITAR, clock=clock, sleep=clock.sleep)
    fast = Playback(GUITAR, fast=True, clock=clock, sleep=clock.sleep)
    limit = StreamingTranscriber(16000, model).latency + live.CHUNK_SECONDS
    for playback in (real, fast):
        ons = [e for e in collect(playback, model) if e.velocity]
        assert len(ons) - 15 < len(playback.delays) < len(ons)  # not those that are known because it ends
        assert 0 < min(playback.delays) <= max(playback.delays) <= limit
        assert f"({len(playback.delays)} notes)" in playback.summary()
    np.testing.assert_allclose(real.delays, fast.delays)  # computing took no time by this clock
    assert clock.slept == pytest.approx(8.0, abs=0.01)


def test_summary() -> None:
    playback = Playback(GUITAR)
    assert "no note" in playback.summary()
    playback.delays = [0.9, 1.0, 1.1]
    assert playback.summary() == "latency from onset to note-on: median 1000 ms, 95 % within 1090 ms (3 notes)"


def test_missing_recording() -> None:
    with pytest.raises(AudioError, match="no such file"):
        Playback("missing.wav")


@pytest.mark.parametrize("path", ["-", Path("-")])
def test_standard_input_is_no_recording_to_play(path: str | Path) -> None:
    with pytest.raises(UsageError, match=r"^-: standard input cannot be played; give a file$"):
        Playback(path)


# ---------------------------------------------------------------- from a device


class PortAudioError(Exception):
    pass


class Stream:
    """Gives chunks of a sine in the second channel, losing some sound once, until it is unplugged."""

    def __init__(self, **settings: Any) -> None:
        self.settings, self.reads = settings, 0
        self.started = self.closed = False

    def start(self) -> None:
        self.started = True

    def close(self) -> None:
        self.closed = True

    def read(self, size: int) -> tuple[np.ndarray, bool]:
        assert self.started
        assert not self.closed
        if self.reads == 3:
            raise PortAudioError("Device unavailable [PaErrorCode -9985]")
        self.reads += 1
        chunk = np.zeros((size, self.settings["channels"]), np.float32)
        chunk[:, -1] = np.sin(np.arange(size))
        return chunk, self.reads == 2


DEVICES = [
    {"name": "Speaker", "max_input_channels": 0, "default_samplerate": 48000.0},
    {"name": "Line\n2", "max_input_channels": 8, "default_samplerate": 44100.0},
]


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A library that knows one input device."""
    opened: list[Stream] = []

    def query(device: int | str | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return DEVICES
        if device not in (None, 1, "Line"):
            raise ValueError(f"No input device matching {device!r}")
        return DEVICES[1]

    def stream(**settings: Any) -> Stream:
        opened.append(Stream(**settings))
        return opened[-1]

    library = SimpleNamespace(query_devices=query, InputStream=stream, PortAudioError=PortAudioError, opened=opened)
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    return library


@pytest.mark.parametrize(("device", "channel", "channels"), [(None, None, 2), ("1", 3, 3), ("Line", 1, 1)])
def test_a_device_is_heard_until_it_is_gone(
    sounddevice: SimpleNamespace, device: str | None, channel: int | None, channels: int
) -> None:
    microphone = Microphone(device, channel=channel)
    assert microphone.name == r"Line\n2"
    with pytest.raises(AudioError, match="Device unavailable"), microphone:
        list(microphone)
    stream = sounddevice.opened[0]
    assert stream.closed
    assert stream.settings["channels"] == channels
    assert microphone.overflows == 1


def test_one_channel_of_a_device(sounddevice: SimpleNamespace) -> None:
    with Microphone(channel=3) as microphone:
        np.testing.assert_array_equal(next(iter(microphone)), np.sin(np.arange(441)).astype(np.float32))
    with Microphone() as microphone:
        assert next(iter(microphone)).shape == (441, 2)


def test_list_of_devices(sounddevice: SimpleNamespace) -> None:
    assert input_devices() == [r"1  Line\n2, 8 channels, 44100 Hz"]


def test_no_device_to_list(sounddevice: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounddevice, "query_devices", lambda: DEVICES[:1])
    with pytest.raises(UsageError, match="no input device found; connect one"):
        input_devices()


def test_no_such_device(sounddevice: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"'Tuba'.*--list-devices"):
        Microphone("Tuba")
    with pytest.raises(UsageError, match="channels 1 to 8, not 9"):
        Microphone(channel=9)

    def nothing(*_: object) -> None:
        raise PortAudioError("Error querying device -1")

    monkeypatch.setattr(sounddevice, "query_devices", nothing)
    with pytest.raises(UsageError, match="no input device found; connect one, or play a recording with --file"):
        Microphone()


def test_a_device_that_cannot_be_opened(sounddevice: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(**_: object) -> None:
        raise PortAudioError("Device busy")

    monkeypatch.setattr(sounddevice, "InputStream", busy)
    with pytest.raises(AudioError, match="cannot be opened: Device busy"), Microphone():
        pass


class _Missing:
    """Finds no library of these names."""

    def __init__(self, name: str, error: Exception) -> None:
        self.name, self.error = name, error

    def find_spec(self, name: str, *_: object) -> None:
        if name == self.name:
            raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'sounddevice'"), r'pip install "basic-transcribe\[live\]"'),
        (OSError("PortAudio library not found"), "apt install libportaudio2"),
    ],
)
def test_without_the_library_for_devices(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Missing("sounddevice", error), *sys.meta_path])
    for use in (Microphone, input_devices):
        with pytest.raises(UsageError, match=words):
            use()


# ---------------------------------------------------------------- to a port


def test_messages() -> None:
    port = Port()
    with MidiOut(port) as out:
        for event in (Event(1.0, 60, 80), Event(1.1, 64, 90), Event(1.5, 60, 0)):
            out(event)
        assert [str(m) for m in port.sent] == [
            "note_on channel=0 note=60 velocity=80 time=0",
            "note_on channel=0 note=64 velocity=90 time=0",
            "note_off channel=0 note=60 velocity=64 time=0",
        ]
    assert [str(m) for m in port.sent[3:]] == [
        "note_off channel=0 note=64 velocity=64 time=0",
        "control_change channel=0 control=123 value=0 time=0",
    ]
    assert port.closed


class Interrupt(BaseException):
    """As the command line raises when a signal arrives."""


def test_no_note_is_left_on_by_an_interrupt(model: Model) -> None:
    port = Port()

    def interrupt(chunks: Iterator[Any]) -> Iterator[Any]:
        for chunk in chunks:
            yield chunk
            if len(port.sounding()) >= 3:
                raise Interrupt

    playback = Playback(GUITAR, fast=True)
    with pytest.raises(Interrupt), MidiOut(port) as out:
        run(interrupt(iter(playback)), StreamingTranscriber(16000, model), [out])
    assert not port.sounding()
    assert port.closed


def chord() -> tuple[Port, MidiOut]:
    """A port at which three notes sound."""
    port = Port()
    out = MidiOut(port)
    for pitch in (60, 64, 67):
        out(Event(1.0, pitch, 80))
    return port, out


@pytest.mark.parametrize("error", [OSError("error sending."), RuntimeError("error sending")])
def test_a_port_that_fails_is_closed(error: Exception) -> None:
    port, out = chord()
    port.failure = error
    line = r"^Synth\\n1: stopped: error sending; connect it and start again$"
    with pytest.raises(OutputError, match=line), out:
        out(Event(1.5, 60, 0))
    assert not port.sounding()  # what failed is tried again
    assert port.closed


def test_all_notes_are_tried_to_end() -> None:
    port, out = chord()
    port.failure = OSError("gone")
    with pytest.raises(OutputError, match="gone"), out:
        pass
    assert [str(message).split()[0] for message in port.sent[3:]] == ["note_off", "note_off", "control_change"]
    assert port.closed


def backend(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> dict[str, Port]:
    """Let mido have ports of these names."""
    opened: dict[str, Port] = {}

    def open_output(name: str) -> Port:
        return opened.setdefault(name, Port())

    fake = SimpleNamespace(get_output_names=lambda: list(names), open_output=open_output)
    monkeypatch.setattr(mido, "Backend", lambda name: fake)
    return opened


@pytest.mark.parametrize(("name", "opened"), [("Synth", "Synth"), ("synth l", "Synth Left"), ("Right", "Synth Right")])
def test_a_port_by_its_name_or_a_part_of_it(name: str, opened: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = backend(monkeypatch, ["Synth", "Synth Left", "Synth Right"])
    with open_port(name):
        assert set(ports) == {opened}
    assert ports[opened].closed


@pytest.mark.parametrize(
    ("name", "names", "words"),
    [
        ("Piano", ["Synth"], "no MIDI ports match 'Piano'; there are: Synth"),
        ("Synth", [], "no MIDI ports match 'Synth'; there are: none"),
        ("Syn", ["Synth 1", "Synth 2"], "several MIDI ports match 'Syn'; there are: Synth 1; Synth 2"),
    ],
)
def test_no_such_port(name: str, names: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend(monkeypatch, names)
    with pytest.raises(UsageError, match=words):
        open_port(name)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'rtmidi'"), "pip install python-rtmidi"),
        (OSError("error creating ALSA sequencer client object"), "leave out --midi-port"),
    ],
)
def test_without_midi(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(mido, "Backend", lambda name: SimpleNamespace(get_output_names=fail))
    with pytest.raises(UsageError, match=words):
        open_port("Synth")


# ---------------------------------------------------------------- all together


def test_listening_to_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    port = backend(monkeypatch, ["Synth"]).setdefault("Synth", Port())
    shown: list[str] = []
    remarks: list[str] = []
    listen(file=GUITAR, fast=True, midi_port="Synth", show=shown.append, remark=remarks.append)
    kinds = {"note_on": "on", "note_off": "off"}
    sent = [kinds[m.type] for m in port.sent if m.type in kinds]
    assert [line.split()[1] for line in shown] == sent
    assert len(sent) > 50
    assert port.closed
    assert not port.sounding()
    assert "a note is known within 97" in remarks[0]
    assert remarks[0].endswith("ms, one that swells without an onset up to a second later")
    assert remarks[1].startswith("latency from onset to note-on: median ")


def test_a_line_has_no_swells() -> None:
    remarks: list[str] = []
    listen(file=GUITAR, fast=True, remark=remarks.append, settings=TrackerSettings(monophonic=True))
    assert remarks[0].endswith(" ms")


def test_listening_to_a_device_until_it_is_gone(sounddevice: SimpleNamespace) -> None:
    remarks: list[str] = []
    with pytest.raises(AudioError, match="Device unavailable"):
        listen(remark=remarks.append)
    assert sounddevice.opened[0].closed
    assert len(remarks) == 2
    assert "sound was lost 1 time;" in remarks[1]


@pytest.mark.parametrize("fault", [np.nan, 2e6])
def test_damaged_sound_is_taken_for_silence(
    fault: float, sounddevice: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Stream.read

    def damaged(stream: Stream, size: int) -> tuple[np.ndarray, bool]:
        chunk, lost = read(stream, size)
        if stream.reads != 2:
            chunk[5, 0] = fault
        return chunk, lost

    monkeypatch.setattr(Stream, "read", damaged)
    remarks: list[str] = []
    with pytest.raises(AudioError, match="Device unavailable"):
        listen(remark=remarks.append)
    assert remarks[-1].startswith(r"Line\n2: sound was damaged 2 times, and taken for silence;")


def test_notes_after_damaged_sound_keep_their_time(model: Model) -> None:
    audio, rate = soundfile.read(GUITAR, dtype="float32")
    chunks = [chunk.copy() for chunk in np.array_split(audio, 100)]
    expected: list[Event] = []
    chunks[50][:] = 0
    run(chunks, StreamingTranscriber(rate, model), [expected.append])
    chunks[50][7] = np.nan
    events: list[Event] = []
    count = itertools.count()
    run(chunks, StreamingTranscriber(rate, model), [events.append], lambda: next(count))
    assert events == expected
    assert next(count) == 1


def test_opposite_phase_is_told(sounddevice: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    audio, _ = soundfile.read(GUITAR, dtype="float32")

    def read(stream: Stream, size: int) -> tuple[np.ndarray, bool]:
        stream.reads += 1
        start = stream.reads * size
        if start + size > len(audio):
            raise PortAudioError("the end")
        return np.stack([audio[start : start + size], -audio[start : start + size]], axis=1), False

    monkeypatch.setattr(Stream, "read", read)
    remarks: list[str] = []
    shown: list[str] = []
    with pytest.raises(AudioError, match="the end"):
        listen(remark=remarks.append, show=shown.append)
    assert len(remarks) == 2
    assert "the channels cancel each other, so only the louder is heard; choose with --channel" in remarks[1]
    assert shown


def test_what_is_wrong_with_a_recording_is_told(tmp_path: Path) -> None:
    audio, rate = soundfile.read(GUITAR, dtype="float32")
    soundfile.write(tmp_path / "clipped.flac", np.clip(50 * audio, -1, 1), rate)
    whole = (tmp_path / "clipped.flac").read_bytes()
    (tmp_path / "clipped.flac").write_bytes(whole[: len(whole) // 2])
    remarks: list[str] = []
    listen(file=tmp_path / "clipped.flac", fast=True, remark=remarks.append)
    warnings = Transcriber(threads=1).transcribe(tmp_path / "clipped.flac").warnings
    assert len(warnings) == 3  # damaged, cut short, clipped
    assert remarks[1:-1] == [f"{tmp_path / 'clipped.flac'}: {warning}" for warning in warnings]


@pytest.mark.parametrize("times", [1, 5])  # less than half a minute, which is all that there is, and more
def test_another_tuning_is_told_once(times: int, tmp_path: Path) -> None:
    audio, rate = soundfile.read(GUITAR, dtype="float32")
    soundfile.write(tmp_path / "sharp.flac", np.tile(audio, times), round(rate * 2 ** (35 / 1200)))  # it was 8 cents so
    remarks: list[str] = []
    listen(file=tmp_path / "sharp.flac", fast=True, remark=remarks.append)
    told = [remark for remark in remarks if "tuned to" in remark]
    assert told == [f"{tmp_path / 'sharp.flac'}: {OTHER_TUNING.format(451)}"]
    remarks.clear()
    listen(file=tmp_path / "sharp.flac", fast=True, remark=remarks.append, settings=TrackerSettings(tuning=451))
    assert not [remark for remark in remarks if "tuned to" in remark]


def test_listening_can_be_stopped() -> None:
    calls = 0
    remarks: list[str] = []

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 500:
            raise Interrupt

    with pytest.raises(Interrupt):
        listen(file=GUITAR, fast=True, remark=remarks.append, check=check)
    assert calls == 500
    assert remarks[-1].startswith("latency from onset to note-on: median ")
