"""Play along: an input device or a recording in, note-ons and note-offs out while it sounds.

A source yields chunks of samples, of which a :class:`~basic_transcribe.streaming.StreamingTranscriber` makes notes;
:class:`Events` tells when they begin and end, and every sink, a callable, is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .audio import open_audio, probe
from .console import count
from .errors import AudioError, OutputError, UsageError, printable
from .keys import pitch_name
from .streaming import StreamingTranscriber
from .tuning import hertz_of
from .types import Float32, Note, Part, TrackerSettings

CHUNK_SECONDS = 0.01
INSTALL = 'pip install "basic-transcribe[live]"'
NO_DEVICE = "no input device found; connect one, or play a recording with --file"
OTHER_TUNING = "tuned to about A = {0} Hz, but heard as 440, so notes may be missing; give --tuning {0}"
ALL_NOTES_OFF = 123  # MIDI controller


@dataclass(frozen=True, slots=True)
class Event:
    """A note begins or ends.

    Attributes
    ----------
    time : float
        Of the sound, in seconds from its beginning.
    pitch : int
        MIDI note number.
    velocity : int
        1 to 127; 0 where the note ends.
    """

    time: float
    pitch: int
    velocity: int

    def __str__(self) -> str:
        name = pitch_name(self.pitch)
        return f"{self.time:.3f} on {name} {self.velocity}" if self.velocity else f"{self.time:.3f} off {name}"


Sink = Callable[[Event], None]


class Events:
    """Compares what sounds with what sounded before."""

    def __init__(self) -> None:
        self._held: set[tuple[int, float]] = set()  # pitches and onsets that have been told of

    def update(self, finished: Sequence[Note], sounding: Sequence[Note]) -> list[Event]:
        """What has happened since the last call; of each pitch, note-ons and note-offs alternate.

        Parameters
        ----------
        finished, sounding : sequence of Note
            Notes finished since the last call, and those that have begun and are not finished.
        """
        held = {(n.pitch, n.onset) for n in sounding}
        ends = {(n.pitch, n.onset): n.offset for n in finished}
        # A note that was neither kept nor goes on was too short after all: it ends where it began.
        offs = [Event(ends.get((p, onset), onset), p, 0) for p, onset in self._held - held]
        unheard = [n for n in finished if (n.pitch, n.onset) not in self._held]
        events = [Event(n.onset, n.pitch, n.velocity) for n in sounding if (n.pitch, n.onset) not in self._held]
        events += [Event(n.onset, n.pitch, n.velocity) for n in unheard]
        events += [Event(n.offset, n.pitch, 0) for n in unheard]
        self._held = held
        return sorted(offs, key=_order) + sorted(events, key=_order)


def _order(event: Event) -> tuple[float, bool, int]:
    return event.time, event.velocity > 0, event.pitch


def run(
    chunks: Iterable[Float32],
    transcriber: StreamingTranscriber,
    sinks: Sequence[Sink],
    damaged: Callable[[], None] = lambda: None,
) -> None:
    """Tell the sinks of every note of a source, as soon as it is known, until the source ends.

    Chunks with a sample that is not valid are taken for silence, so that what follows keeps its time.

    Parameters
    ----------
    chunks : iterable of ndarray, shape (n,) or (n, channels)
    transcriber : StreamingTranscriber
        Flushed at the end.
    sinks : sequence of callable
        Called in order with each :class:`Event`.
    damaged : callable
        Called for each chunk that is not valid.
    """
    events = Events()

    def tell(finished: list[Note]) -> None:
        for event in events.update(finished, transcriber.sounding):
            for sink in sinks:
                sink(event)

    for chunk in chunks:
        try:
            finished = transcriber.push(chunk)
        except AudioError:
            damaged()
            finished = transcriber.push(np.zeros_like(chunk))
        tell(finished)
    tell(transcriber.flush())


class Playback:
    """A recording as a source, at the pace at which it sounds; as a sink, it measures how late note-ons are.

    Parameters
    ----------
    path : str or Path
    channel : str or int
        As of :class:`~basic_transcribe.types.Part`.
    fast : bool
        Do not wait. Latency is then counted in sound instead of time, as if computing took none.
    clock, sleep : callable
        Seconds from some beginning; wait for so many seconds.

    Attributes
    ----------
    name : str
    sample_rate : int
        In Hz.
    delays : list of float
        From each onset to its note-on, in seconds; those that the end of the recording hastened are left out.
    warnings : sequence of str
        What a careful listener should know of the recording; complete when it has ended.
    position : float
        Seconds of sound given out so far.

    Raises
    ------
    AudioError
        If the recording cannot be read.
    UsageError
        If it is ``-``, which elsewhere is standard input.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        channel: str | int = "mix",
        fast: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if str(path) == "-":
            raise UsageError("-: standard input cannot be played; give a file")
        self.name = printable(path)
        self.sample_rate = round(probe(path).sample_rate)
        self.delays: list[float] = []
        self.warnings: Sequence[str] = ()
        self._path, self._part, self._fast = path, Part(channel=channel), fast
        self._clock, self._sleep = clock, sleep
        self._begun = 0.0  # on the clock
        self.position = 0.0
        self._playing = False

    def __iter__(self) -> Iterator[Float32]:
        """Chunks, each when its last sample has sounded."""
        size = max(1, round(CHUNK_SECONDS * self.sample_rate))
        samples = 0
        with open_audio(self._path, target_rate=self.sample_rate, part=self._part) as stream:
            self.warnings = stream.warnings
            self._begun, self._playing = self._clock(), True
            for block in stream:
                for start in range(0, len(block), size):
                    chunk = block[start : start + size]
                    samples += len(chunk)
                    self.position = samples / self.sample_rate
                    ahead = self._begun + self.position - self._clock()
                    if ahead > 0 and not self._fast:
                        self._sleep(ahead)
                    yield chunk
        self._playing = False

    def __call__(self, event: Event) -> None:
        if event.velocity and self._playing:
            now = self.position if self._fast else self._clock() - self._begun
            self.delays.append(now - event.time)

    def summary(self) -> str:
        """The measured latency, in words."""
        if not self.delays:
            return "latency from onset to note-on: no note to measure"
        median, most = np.percentile(self.delays, (50, 95))
        return (
            f"latency from onset to note-on: median {1000 * median:.0f} ms, 95 % within {1000 * most:.0f} ms"
            f" ({len(self.delays)} notes)"
        )


class Microphone:
    """An input device as a source; as a context manager, it listens.

    Parameters
    ----------
    device : str, optional
        Number or part of the name, as :func:`input_devices` gives them; the system's default if omitted.
    channel : int, optional
        The only one to hear, from 1; the mean of the first two if omitted.

    Attributes
    ----------
    name : str
    sample_rate : float
        In Hz, the device's own.
    overflows : int
        How often sound was lost because it was not taken in time.

    Raises
    ------
    UsageError
        If there is no such device or channel, or the extra ``live`` is not installed.
    """

    def __init__(self, device: str | None = None, *, channel: int | None = None) -> None:
        self._library = _sounddevice()
        wanted = int(device) if device is not None and device.isdecimal() else device
        try:
            info = self._library.query_devices(wanted, "input")
        except (ValueError, self._library.PortAudioError) as error:
            if device is None:
                raise UsageError(NO_DEVICE) from error
            raise UsageError(
                f"input device {device!r}: {printable(error)}; give a number or name of --list-devices"
            ) from error
        if channel is not None and not 1 <= channel <= info["max_input_channels"]:
            raise UsageError(f"{info['name']}: has channels 1 to {info['max_input_channels']}, not {channel}")
        self.name = printable(info["name"])
        self.sample_rate = float(info["default_samplerate"])
        self.overflows = 0
        self._channel = channel
        self._stream_settings = {
            "device": wanted,
            "samplerate": self.sample_rate,
            "channels": channel or min(2, info["max_input_channels"]),
            "dtype": "float32",
            "latency": "low",
        }
        self._stream: Any = None

    def __enter__(self) -> Microphone:
        try:
            self._stream = self._library.InputStream(**self._stream_settings)
            self._stream.start()
        except self._library.PortAudioError as error:
            raise AudioError(
                f"{self.name}: cannot be opened: {printable(error)}; choose another device with --device"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Float32]:
        """Chunks without end."""
        size = max(1, round(CHUNK_SECONDS * self.sample_rate))
        while True:
            try:
                chunk, lost = self._stream.read(size)
            except self._library.PortAudioError as error:
                raise AudioError(f"{self.name}: stopped: {printable(error)}; connect it and start again") from error
            self.overflows += bool(lost)
            yield chunk if self._channel is None else chunk[:, self._channel - 1]


def input_devices() -> list[str]:
    """One line for each input device: number, name, channels, sample rate.

    Raises
    ------
    UsageError
        If there is none, or the extra ``live`` is not installed.
    """
    devices = [
        f"{number}  {printable(info['name'])}, {info['max_input_channels']} channels, {info['default_samplerate']:g} Hz"
        for number, info in enumerate(_sounddevice().query_devices())
        if info["max_input_channels"]
    ]
    if not devices:
        raise UsageError(NO_DEVICE)
    return devices


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise UsageError(f"an input device needs sounddevice: {INSTALL}") from error
    except OSError as error:  # the wheel for Linux does not bring the library
        raise UsageError(
            "an input device needs the PortAudio library; install it, on Debian and Ubuntu: apt install libportaudio2"
        ) from error
    return sounddevice


class MidiOut:
    """A MIDI port as a sink; as a context manager, it lets no note sound on.

    Parameters
    ----------
    port : mido.ports.BaseOutput

    Raises
    ------
    OutputError
        From all methods, if the port takes no more messages.
    """

    def __init__(self, port: Any) -> None:
        self._port = port
        self._held: set[int] = set()

    def __call__(self, event: Event) -> None:
        from mido import Message

        if event.velocity:
            self._held.add(event.pitch)
            self._send(Message("note_on", note=event.pitch, velocity=event.velocity))
        else:
            self._send(Message("note_off", note=event.pitch))
            self._held.discard(event.pitch)

    def __enter__(self) -> MidiOut:
        return self

    def __exit__(self, *_: object) -> None:
        from mido import Message

        with ExitStack() as stack:  # in reverse order, each of them even if others fail
            stack.callback(self._port.close)
            stack.callback(self._send, Message("control_change", control=ALL_NOTES_OFF))
            for pitch in sorted(self._held):
                stack.callback(self._send, Message("note_off", note=pitch))

    def _send(self, message: Any) -> None:
        try:
            self._port.send(message)
        except Exception as error:  # python-rtmidi's have no nearer base in common with OSError
            name, reason = printable(self._port.name), printable(error).rstrip(".")
            raise OutputError(f"{name}: stopped: {reason}; connect it and start again") from error


def open_port(name: str) -> MidiOut:
    """A MIDI output port of this name, or the only one whose name contains it.

    Raises
    ------
    UsageError
        If there is none, or python-rtmidi is not installed.
    """
    import mido

    backend = mido.Backend("mido.backends.rtmidi")
    try:
        names = sorted(set(backend.get_output_names()))
        found = [n for n in names if n == name] or [n for n in names if name.casefold() in n.casefold()]
        if len(found) == 1:
            return MidiOut(backend.open_output(found[0]))
    except ImportError as error:
        raise UsageError("a MIDI port needs python-rtmidi: pip install python-rtmidi") from error
    except OSError as error:
        raise UsageError(
            f"MIDI ports cannot be used here: {printable(error).rstrip('.')}; leave out --midi-port"
        ) from error
    others = "; ".join(map(printable, names)) or "none"
    raise UsageError(f"{'several' if found else 'no'} MIDI ports match {name!r}; there are: {others}")


def listen(
    *,
    device: str | None = None,
    file: str | Path | None = None,
    channel: int | None = None,
    fast: bool = False,
    midi_port: str | None = None,
    show: Callable[[str], None] | None = None,
    remark: Callable[[str], None],
    model: str | Path | None = None,
    settings: TrackerSettings | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """What ``basic-transcribe live`` does, until the recording ends or an exception stops it.

    Parameters
    ----------
    device, channel
        As of :class:`Microphone`.
    file : str or Path, optional
        A recording to be played instead.
    fast : bool
        Do not wait while playing it.
    midi_port : str, optional
        As of :func:`open_port`.
    show : callable, optional
        Takes a line for each event.
    remark : callable
        Takes a line about what is heard, and how late notes are.
    model : str or Path, optional
        ONNX file; the shipped one if omitted.
    settings : TrackerSettings, optional
    check : callable
        Called with every chunk; may raise to stop.

    Raises
    ------
    TranscribeError
        What is missing or went wrong.
    """
    playback = None if file is None else Playback(file, channel=channel or "mix", fast=fast)
    source = playback or Microphone(device, channel=channel)
    chosen = replace(settings or TrackerSettings(), pitch_bends=False)  # which the sinks would not hear
    transcriber = StreamingTranscriber(source.sample_rate, model, settings=chosen)
    told: set[str] = set()
    damaged = 0

    def tell(text: str) -> None:
        if text not in told:
            told.add(text)
            remark(f"{source.name}: {text}")

    def tell_of_music() -> None:
        if transcriber.warnings:
            tell("the channels cancel each other, so only the louder is heard; choose with --channel")
        if transcriber.found_tuning:
            hertz = round(hertz_of(transcriber.found_tuning))
            tell(OTHER_TUNING.format(hertz))

    def attend() -> None:
        check()
        tell_of_music()

    def count_damaged() -> None:
        nonlocal damaged
        damaged += 1

    def tell_of_source() -> None:
        tell_of_music()
        if isinstance(source, Microphone) and source.overflows:
            remark(f"{source.name}: sound was lost {count(source.overflows, 'time')}; this computer is too busy")
        if damaged:
            times = count(damaged, "time")
            remark(f"{source.name}: sound was damaged {times}, and taken for silence; check the device")
        if playback:
            for warning in playback.warnings:
                remark(f"{playback.name}: {warning}")
            if playback.position:
                remark(playback.summary())

    with ExitStack() as stack:
        stack.callback(tell_of_source)  # when notes have ended and devices are closed
        if isinstance(source, Microphone):
            stack.enter_context(source)
        sinks: list[Sink] = [playback] if playback else []
        if midi_port is not None:
            sinks.append(stack.enter_context(open_port(midi_port)))
        if show is not None:
            sinks.append(lambda event: show(str(event)))
        known = f"a note is known within {1000 * transcriber.latency:.0f} ms"
        swells = "" if chosen.monophonic else ", one that swells without an onset up to a second later"
        remark(f"{source.name}, {source.sample_rate:g} Hz; {known}{swells}")
        run(_checked(source, attend), transcriber, sinks, count_damaged)


def _checked(chunks: Iterable[Float32], check: Callable[[], None]) -> Iterator[Float32]:
    for chunk in chunks:
        check()
        yield chunk
