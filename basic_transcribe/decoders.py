"""Decoders: an open file in, blocks of float32 frames out, with what was damaged or missing on the way.

Any range of frames can be asked for: reading ends with it, and begins with it where the format can be sought exactly.
soundfile reads what libsndfile knows; PyAV, an extra, the containers it does not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import AudioError, TranscribeError
from .types import Float32

BLOCK_SECONDS = 10
BLOCK_VALUES = 2**23  # a block of many channels stays below 32 MiB
MAX_CHANNELS = 64
MIN_RATE, MAX_RATE = 1_000, 768_000
HEAD_BYTES = 2**16
UNKNOWN_SIZE = 2**40  # bytes or frames; headers that do not know write more

# Where libsndfile seeks to the very sample, and reads there what it reads on the way from the beginning. Vorbis and
# Opus land beside it now and then, and MP3 needs the frames before it; these are decoded from the beginning.
_EXACT_FORMATS = {"AIFF", "AU", "CAF", "FLAC", "RF64", "W64", "WAV", "WAVEX"}
_EXACT_SUBTYPES = {"ALAW", "DOUBLE", "FLOAT", "PCM_16", "PCM_24", "PCM_32", "PCM_S8", "PCM_U8", "ULAW"}

# libsndfile opens none of these. Naming the demuxer keeps FFmpeg from taking text for a playlist, whose entries it
# would open.
_CONTAINERS = [
    (re.compile(pattern, re.DOTALL), demuxer)
    for pattern, demuxer in (
        (rb"....(ftyp|moov|mdat|wide|free|skip)", "mov"),
        (rb"\x1aE\xdf\xa3", "matroska"),
        (rb"0&\xb2u\x8ef\xcf\x11", "asf"),
        (rb"RIFF....AVI ", "avi"),
        (rb"FLV\x01", "flv"),
        (rb"\xff[\xf0\xf1\xf8\xf9]", "aac"),
        (rb"\x0bw", "ac3"),
        (rb"G.{187}G", "mpegts"),
        (rb"\0\0\x01\xba", "mpeg"),
        (rb"MAC ", "ape"),
        (rb"TTA1", "tta"),
        (rb"wvpk", "wv"),
    )
]
_ESTIMATED = {"aac", "ac3"}  # FFmpeg guesses their duration from the bit rate
_DECLARED = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_OPEN_ERRORS = {
    "Format not recognised": "not audio, or in a format that cannot be read; convert it to WAV or FLAC",
    "SF_INFO struct incomplete": "its header gives no valid sample rate; the file is damaged, export it again",
    "Too many channels": f"more than {MAX_CHANNELS} channels; export fewer",
}


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the header of a recording says.

    Attributes
    ----------
    sample_rate : float
        Hz, 1,000 to 768,000.
    channels : int
        1 to 64.
    duration : float or None
        Seconds, where the header tells.
    format : str
        Container, as the decoder names it.
    """

    sample_rate: float
    channels: int
    duration: float | None
    format: str


@dataclass
class Decoded:
    """What a decoder found.

    Attributes
    ----------
    name : str
        Printable, for messages.
    info : AudioInfo
        What the header says.
    blocks : callable
        Called once, with frames ``start`` and ``stop``, ``start < stop``: yields what the recording has of them, in
        float32 blocks of shape (frames, channels), none of them empty.
    position : int
        Frames of the recording gone by, read or skipped. Less than ``stop`` after the last block, it is where the
        recording ends.
    warnings : list of str
        Complete after the last block.
    verify : callable
        Called after the last block; raises if the blocks are not to be trusted.
    """

    name: str
    info: AudioInfo
    blocks: Callable[[int, int], Iterator[Float32]] = lambda start, stop: iter(())
    position: int = 0
    warnings: list[str] = field(default_factory=list)
    verify: Callable[[], None] = lambda: None

    @property
    def block_frames(self) -> int:
        return max(1, min(int(BLOCK_SECONDS * self.info.sample_rate), BLOCK_VALUES // self.info.channels))

    @property
    def seconds(self) -> float:
        """The position as a time of the recording."""
        return self.position / self.info.sample_rate

    def advance(self, block: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
        """Go past a block; of its frames, those from ``start`` to ``stop``."""
        before = self.position
        self.position += len(block)
        return block[max(0, start - before) : max(0, stop - before)]

    def report_losses(self, stop: int, promised: float | None, damage: list[float]) -> None:
        """Warn of damage at the given seconds, and of fewer frames than the header promised (in seconds)."""
        if damage:
            last = f" to {damage[-1]:.2f} s" if damage[-1] - damage[0] > 0.01 else ""
            self.warnings.append(
                f"damaged at {damage[0]:.2f} s{last}: what could be decoded was used, notes after it may be early"
            )
        # Encoders pad and trim by up to some thousand samples, so a small difference means nothing.
        if self.position < stop and promised is not None and promised - self.seconds > min(0.25, 0.1 * promised):
            self.warnings.append(
                f"cut short or damaged: its header promises {promised:.2f} s, only {self.seconds:.2f} s could be read"
            )


def check_format(name: str, rate: float, channels: int, error: type[TranscribeError] = AudioError) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise error(f"{name}: sample rate {rate:g} Hz is outside {MIN_RATE} to {MAX_RATE} Hz; convert it or correct it")
    if not 1 <= channels <= MAX_CHANNELS:
        raise error(f"{name}: {channels} channels; 1 to {MAX_CHANNELS} can be read, so export fewer")


def to_float(samples: NDArray[Any]) -> Float32:
    """Samples of full scale 1.0, copied; integers are scaled by their type, of which uint8 has its zero at 128."""
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes Inf, and is refused later
        floats = samples.astype(np.float32)
    if samples.dtype.kind != "f":
        floats -= 128 if samples.dtype.kind == "u" else 0
        floats /= 2.0 ** (8 * samples.dtype.itemsize - 1)
    return floats


def decode(name: str, file: BinaryIO, verify: Callable[[], None], resources: ExitStack) -> Decoded:
    """Read the header of a seekable file.

    Parameters
    ----------
    name : str
        Printable, for messages.
    file : binary file object
        Stays open.
    verify : callable
        Called after the last block; raises if the blocks are not to be trusted.
    resources : ExitStack
        Closes the decoder; not before the last block.

    Raises
    ------
    AudioError
        If the file is empty or cannot be decoded.
    """
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(HEAD_BYTES)
        if not size:
            raise AudioError(f"{name}: empty file; record or copy it again")
        demuxer = next((demuxer for pattern, demuxer in _CONTAINERS if pattern.match(head)), None)
        if demuxer:
            return _decode_av(name, file, demuxer, verify, resources)
        return _decode_soundfile(name, file, head, size, verify, resources)
    except OSError as error:
        raise AudioError(f"{name}: cannot be read: {error.strerror}") from error


class _Reader:
    """A file as libsndfile should see it. Its callbacks cannot raise, so an error of the disk is kept."""

    def __init__(self, file: BinaryIO, head: bytes, size: int) -> None:
        self.error: OSError | None = None
        self._file = file
        self._at_end = False
        # A recorder that was cut off leaves sizes of 0, which libsndfile believes. All ones mean "to the end".
        data = head.find(b"data\0\0\0\0")
        unsized = re.match(rb"RIFF....WAVE", head, re.DOTALL) and 0 < data < size - 8
        riff_size = int.from_bytes(head[4:8], "little") + 8
        self._ones = range(data + 4, data + 8) if unsized and abs(riff_size - size) > 8 else range(0)
        # An MP3 without a Xing header is read only up to a length estimated from the file's size: claim a larger one.
        start = 10 + sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(head[6:10])) if head[:3] == b"ID3" else 0
        file.seek(start)
        frame = file.read(256)
        file.seek(0)
        is_mp3 = re.match(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]", frame)
        self.unsized_mp3 = bool(is_mp3 and not re.search(rb"Xing|Info", frame))
        self._claimed = UNKNOWN_SIZE if self.unsized_mp3 else 0

    def read(self, count: int) -> bytes:
        try:
            position = self._file.tell()
            data = self._file.read(count)
        except OSError as error:
            self.error = error
            return b""
        if self._ones and position < self._ones.stop:
            return bytes(0xFF if position + i in self._ones else byte for i, byte in enumerate(data))
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        try:
            self._file.seek(offset, whence)
        except (OSError, ValueError):  # a damaged header points outside the file; libsndfile finds itself not moved
            return
        self._at_end = whence == os.SEEK_END

    def tell(self) -> int:
        return self._file.tell() + (self._claimed if self._at_end else 0)


def _decode_soundfile(
    name: str, file: BinaryIO, head: bytes, size: int, verify: Callable[[], None], resources: ExitStack
) -> Decoded:
    import soundfile

    reader = _Reader(file, head, size)

    def opened() -> Any:
        reader.seek(0)
        try:
            sound = resources.enter_context(soundfile.SoundFile(reader))
        except soundfile.LibsndfileError as error:
            known = (text for key, text in _OPEN_ERRORS.items() if key in error.error_string)
            reason = next(known, f"damaged, or not what it claims to be ({error.error_string}); export it again")
            raise AudioError(f"{name}: {reason}") from error
        # soundfile seeks after every read of a seekable file, which hides a decoder's errors and breaks on damage.
        sound.seekable = lambda: False
        return sound

    sound = opened()
    check_format(name, sound.samplerate, sound.channels)
    rate, known_length = sound.samplerate, not reader.unsized_mp3 and sound.frames < UNKNOWN_SIZE
    duration = sound.frames / rate if known_length else None
    decoded = Decoded(name, AudioInfo(float(rate), sound.channels, duration, sound.format), verify=verify)
    promised = duration
    for declared, actual in _DECLARED.findall(sound.extra_info):
        if duration is not None and int(actual) and not _means_unknown(int(declared)):
            promised = max(duration, duration * int(declared) / int(actual))
    cut_ogg = sound.format == "OGG" and not _has_last_ogg_page(file, size)
    exact = known_length and sound.format in _EXACT_FORMATS and sound.subtype in _EXACT_SUBTYPES

    def blocks(start: int, stop: int) -> Iterator[Float32]:
        nonlocal sound
        if start >= sound.frames:
            decoded.position = sound.frames
        elif start and exact:
            try:
                decoded.position = sound.seek(start)
            except soundfile.LibsndfileError:  # into damaged FLAC, and now it can do nothing else
                sound = opened()
        damage: list[float] = []
        limit = min(stop, sound.frames)
        while decoded.position < limit:
            place = file.tell()
            # On an error soundfile does not say how much it has read; the rows that are no longer NaN do.
            count = min(decoded.block_frames, limit - decoded.position)
            buffer = np.full((count, sound.channels), np.nan, np.float32)
            try:
                block = sound.read(out=buffer)
            except soundfile.LibsndfileError:
                block = buffer[: np.count_nonzero(~np.isnan(buffer[:, 0]))]
                damage.append(decoded.seconds + len(block) / rate)
                if not len(block) and file.tell() == place:
                    break
            else:
                if not len(block):
                    break
            wanted = decoded.advance(block, start, stop)
            if len(wanted):
                yield wanted
        if reader.error:
            raise AudioError(f"{name}: cannot be read: {reader.error.strerror}") from reader.error
        if cut_ogg and decoded.position < stop:
            decoded.warnings.append("cut short: the last page of the Ogg stream is missing")
        decoded.report_losses(stop, promised, damage)
        if sound.format == "MP3" and not damage and decoded.position < stop and size - file.tell() > HEAD_BYTES:
            decoded.warnings.append(
                f"not read after {decoded.seconds:.2f} s, where its header says it ends, though the file goes on;"
                " if files were joined, convert to WAV"
            )

    decoded.blocks = blocks
    return decoded


def _means_unknown(declared: int) -> bool:
    """Whether a size in a header is one of those that streaming writers put there, near 2 or 4 GiB."""
    return declared >= UNKNOWN_SIZE or any(0 <= limit - declared <= 2**16 for limit in (2**31, 2**32))


def _has_last_ogg_page(file: BinaryIO, size: int) -> bool:
    position = file.tell()
    file.seek(max(0, size - 2**17))  # a page has at most 65,307 bytes
    tail = file.read()
    file.seek(position)
    page = tail.rfind(b"OggS")
    segments = tail[page + 27 :][: tail[page + 26]] if 0 <= page < len(tail) - 26 else b""
    return bool(segments and tail[page + 5] & 4) and page + 27 + len(segments) + sum(segments) <= len(tail)


def _decode_av(name: str, file: BinaryIO, demuxer: str, verify: Callable[[], None], resources: ExitStack) -> Decoded:
    try:
        import av
    except ImportError:
        raise AudioError(f'{name}: reading {demuxer} files needs PyAV; pip install "basic-transcribe[av]"') from None
    file.seek(0)
    try:
        container: Any = resources.enter_context(av.open(file, format=demuxer, metadata_errors="replace"))
    except av.error.FFmpegError as error:
        raise AudioError(f"{name}: damaged or cut short ({error.strerror}); export it again") from error
    if not container.streams.audio:
        raise AudioError(f"{name}: no audio stream")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise AudioError(f"{name}: its audio is in an unknown or encrypted codec; convert it to WAV or FLAC")
    rate, channels = stream.rate, stream.channels
    check_format(name, rate, channels)
    duration: float | None = None
    if demuxer not in _ESTIMATED and stream.duration and stream.time_base:
        duration = float(stream.duration * stream.time_base)
    elif demuxer not in _ESTIMATED and container.duration:
        duration = container.duration / av.time_base
    decoded = Decoded(name, AudioInfo(float(rate), channels, duration, demuxer), verify=verify)

    damage: list[float] = []

    def pieces(start: int, stop: int) -> Iterator[Float32]:
        try:
            for packet in container.demux(stream):
                try:
                    found = packet.decode()
                except av.error.FFmpegError:
                    damage.append(decoded.seconds)
                    continue
                for frame in found:
                    samples = frame.to_ndarray()
                    samples = samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)
                    if frame.sample_rate != rate or samples.shape[1] != channels:
                        damage.append(decoded.seconds)
                        continue
                    wanted = decoded.advance(samples, start, stop)
                    if len(wanted):
                        yield to_float(wanted)
                    if decoded.position >= stop:
                        return
        except av.error.FFmpegError:
            damage.append(decoded.seconds)
        except OSError as error:  # raised by the file object
            raise AudioError(f"{name}: cannot be read: {error.strerror}") from error

    def blocks(start: int, stop: int) -> Iterator[Float32]:
        held: list[Float32] = []
        count = 0
        for piece in pieces(start, stop):
            held.append(piece)
            count += len(piece)
            if count >= decoded.block_frames:
                yield np.concatenate(held)
                held, count = [], 0
        if count:
            yield np.concatenate(held)
        decoded.report_losses(stop, duration, damage)

    decoded.blocks = blocks
    return decoded
