"""Decoders: an open file in, blocks of float32 frames out, with what was damaged or missing on the way.

Any range of frames can be asked for: reading ends with it, and begins with it where the format can be sought exactly.
soundfile reads what libsndfile knows; PyAV, an extra, the containers it does not.
"""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import damage
from .errors import AudioError, TranscribeError, printable
from .types import Float32

BLOCK_SECONDS = 10
BLOCK_VALUES = 2**23  # a block of many channels stays below 32 MiB
FLAC_FRAME = 4096  # samples, with most encoders
MOST_STUCK = 64  # attempts to read on after damage; mpg123 gives up after each kilobyte
MOST_DAMAGE = 1000  # places; a file with more of them is no recording any more
LEAST_GAP = 0.05  # seconds; timestamps are rounded, and encoders pad
LEAST_JUMP = 0.01  # seconds, and half a frame, by which a timestamp is another than that of the next frame
MOST_SILENCE = 60  # seconds put in one place; a damaged timestamp may ask for any length
MAX_CHANNELS = 64
MIN_RATE, MAX_RATE = 1_000, 768_000
HEAD_BYTES = 2**16
UNKNOWN_SIZE = 2**40  # bytes or frames; headers that do not know write more
READ_ERRORS = (OSError, EOFError, zlib.error)  # of a disk, and of a gzip file that is cut or damaged

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
_MPEG_FRAME = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]")  # of layers 3 and 2, not of AAC
_EARLY, _SILENT = "notes after it may be early", "silence is in the place of the rest"
_ESTIMATED = {"aac", "ac3"}  # FFmpeg guesses their duration from the bit rate
_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}  # of FFmpeg's sample formats
_DECLARED = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_OPEN_ERRORS = {
    "Format not recognised": "not audio, or in a format that cannot be read; convert it to WAV or FLAC",
    "SF_INFO struct incomplete": "damaged: its header gives no valid sample rate or length; export it again",
    "File does not exist": "damaged or cut short: nothing of it can be decoded; export it again",  # said of MP3
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

    def silence(self, frames: int) -> Iterator[Float32]:
        """Blocks of so many frames of nothing, in the place of what is missing."""
        for first in range(0, frames, self.block_frames):
            yield np.zeros((min(self.block_frames, frames - first), self.info.channels), np.float32)

    def advance(self, block: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
        """Go past a block; of its frames, those from ``start`` to ``stop``."""
        before = self.position
        self.position += len(block)
        return block[max(0, start - before) : max(0, stop - before)]

    def report_losses(self, stop: int, promised: float | None, damaged: list[float], after: str) -> None:
        """Warn of damage at the given seconds, and of fewer frames than the header promised (in seconds).

        ``after`` says what became of what lies after the damage.
        """
        if damaged:
            last = f" to {damaged[-1]:.2f} s" if damaged[-1] - damaged[0] > 0.01 else ""
            self.warnings.append(f"damaged at {damaged[0]:.2f} s{last}: what could be decoded was used, {after}")
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


def reason(error: BaseException) -> str:
    """What the system says, in one line; file objects that are not the system's may say it in their own way."""
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)


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
        if not size:
            raise AudioError(f"{name}: empty file; record or copy it again")
        start, head = _beginning(file, size)
        if not head:
            raise AudioError(f"{name}: holds a tag but no audio; record or copy it again")
        demuxer = next((demuxer for pattern, demuxer in _CONTAINERS if pattern.match(head)), None)
        if demuxer:
            return _decode_av(name, file, demuxer, verify, resources)
        return _decode_soundfile(name, _Reader(file, head, start, size), verify, resources)
    except READ_ERRORS as error:
        raise AudioError(f"{name}: cannot be read: {reason(error)}") from error


def _beginning(file: BinaryIO, size: int) -> tuple[int, bytes]:
    """Where the sound begins, and its first bytes: after ID3 tags, and the zeros that may lie before MPEG frames."""
    start = 0
    while True:
        file.seek(start)
        head = file.read(HEAD_BYTES)
        tag = re.match(rb"ID3..(.)([\0-\x7f]{4})", head, re.DOTALL)
        length = sum(byte << 7 * (3 - i) for i, byte in enumerate(tag[2])) if tag else 0
        footer = 10 if tag and tag[1][0] & 16 else 0
        if not tag or start + 10 + length + footer > size:
            break
        start += 10 + length + footer
    frames = head.lstrip(b"\0")
    return (start + len(head) - len(frames), frames) if _MPEG_FRAME.match(frames) else (start, head)


class _Callbacks:
    """A file as a decoder in C should see it: its callbacks cannot raise, so an error of the disk is kept.

    PyAV keeps what they raise for its next call, which may well be about the next file.

    Attributes
    ----------
    file : binary file object
    error : Exception or None
        The last one of the disk, or of what else the file comes from.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: Exception | None = None

    def read(self, count: int) -> bytes:
        try:
            return self.file.read(count)
        except READ_ERRORS as error:
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self.file.seek(offset, whence)
        except (*READ_ERRORS, ValueError):  # a damaged header points outside the file
            return -errno.EINVAL

    def tell(self) -> int:
        try:
            return self.file.tell()
        except READ_ERRORS as error:
            self.error = error
            return -errno.EINVAL

    def check(self, name: str) -> None:
        """Raise what the disk said, if it failed."""
        if self.error:
            raise AudioError(f"{name}: cannot be read: {reason(self.error)}") from self.error


class _Reader(_Callbacks):
    """A file as libsndfile should see it.

    Attributes
    ----------
    head : bytes
        The first bytes of the sound.
    start : int
        Where it begins.
    size : int
        Of the whole file.
    unsized_mp3 : bool
        Whether it is an MP3 that does not say how long it is.
    """

    def __init__(self, file: BinaryIO, head: bytes, start: int, size: int) -> None:
        super().__init__(file)
        self.head, self.start, self.size = head, start, size
        self._at_end = False
        self._changes: dict[int, int] = {}
        # A recorder that was cut off leaves sizes of 0, which libsndfile believes. All ones mean "to the end".
        data = head.find(b"data\0\0\0\0")
        unsized = re.match(rb"RIFF....WAVE", head, re.DOTALL) and 0 < data < size - start - 8
        riff_size = int.from_bytes(head[4:8], "little") + 8
        if unsized and abs(riff_size - (size - start)) > 8:
            self._changes = dict.fromkeys(range(data + 4, data + 8), 0xFF)
        elif re.match(rb"BW64....WAVE", head, re.DOTALL):  # the newer name (ITU-R BS.2088) of RF64
            self._changes = dict(enumerate(b"RF"))
        # An MP3 without a Xing header is read only up to a length estimated from the file's size: claim a larger one.
        self.unsized_mp3 = bool(_MPEG_FRAME.match(head) and not re.search(rb"Xing|Info", head[:256]))
        self._claimed = UNKNOWN_SIZE if self.unsized_mp3 else 0

    def read(self, count: int) -> bytes:
        position = super().tell() - self.start
        data = super().read(count)
        if any(position <= place < position + len(data) for place in self._changes):
            return bytes(self._changes.get(position + i, byte) for i, byte in enumerate(data))
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        position = super().seek(offset + self.start if whence == os.SEEK_SET else offset, whence)
        if position >= 0:  # otherwise libsndfile, which asks for the position, finds itself not moved
            self._at_end = whence == os.SEEK_END
        return position

    def tell(self) -> int:
        return super().tell() - self.start + (self._claimed if self._at_end else 0)


def _decode_soundfile(name: str, reader: _Reader, verify: Callable[[], None], resources: ExitStack) -> Decoded:
    import soundfile

    file, size = reader.file, reader.size
    if alone := damage.mpeg_header_alone(reader.head, size - reader.start):  # libsndfile opens none
        rate, channels = alone
        return Decoded(name, AudioInfo(float(rate), channels, None, "MP3"), verify=verify)

    def opened() -> Any:
        reader.seek(0)
        try:
            sound = resources.enter_context(soundfile.SoundFile(reader))
        except soundfile.LibsndfileError as error:
            reader.check(name)
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
    joined_ogg = sound.format == "OGG" and _is_chained_ogg(file, reader.head, size)
    exact = known_length and sound.format in _EXACT_FORMATS and sound.subtype in _EXACT_SUBTYPES

    def read(count: int) -> tuple[Float32, bool]:
        """The next frames, at most so many, and whether they end with damage."""
        # On an error soundfile does not say how much it has read; the rows that are no longer NaN do.
        buffer = np.full((count, sound.channels), np.nan, np.float32)
        try:
            return sound.read(out=buffer), False
        except soundfile.LibsndfileError:
            return buffer[: np.count_nonzero(~np.isnan(buffer[:, 0]))], True

    def pass_damage(limit: int) -> int:
        """Go past damage in FLAC, after which libFLAC does nothing more; how many frames it takes. 0 if nothing comes.

        Each frame of FLAC stands for itself and is numbered, so a new decoder can be sent to a later one.
        """
        nonlocal sound
        lost = FLAC_FRAME
        while decoded.position + lost < limit:
            sound.close()
            sound = opened()
            try:
                sound.seek(decoded.position + lost)
                return lost
            except soundfile.LibsndfileError:
                lost *= 2
        return 0

    def pieces(limit: int, damaged: list[float]) -> Iterator[Float32]:
        """All that can be read up to the limit, from the position on; the caller moves that."""
        stuck = 0
        while decoded.position < limit and stuck < MOST_STUCK:
            place = file.tell()
            block, failed = read(min(decoded.block_frames, limit - decoded.position))
            if failed:
                damaged.append(decoded.seconds + len(block) / rate)
            yield block
            if failed and sound.format == "FLAC" and not reader.error and len(damaged) < MOST_DAMAGE:
                lost = pass_damage(limit)
                yield from decoded.silence(lost)
                failed = lost > 0
            if not len(block) and not failed:
                return
            stuck = 0 if len(block) or file.tell() != place else stuck + 1

    def blocks(start: int, stop: int) -> Iterator[Float32]:
        nonlocal sound
        if start >= sound.frames:
            decoded.position = sound.frames
        elif start and exact:
            try:
                decoded.position = sound.seek(start)
            except soundfile.LibsndfileError:  # into damaged FLAC, and now it can do nothing else
                sound = opened()
        damaged: list[float] = []
        limit = min(stop, sound.frames)
        for piece in pieces(limit, damaged):
            wanted = decoded.advance(piece, start, stop)
            if len(wanted):
                yield wanted
        reader.check(name)
        end = file.tell()
        if decoded.position < limit and not damaged:
            damaged += _silent_damage(reader, sound.format, 48_000 if sound.subtype == "OPUS" else rate)
        if cut_ogg and decoded.position < stop:
            decoded.warnings.append("cut short: the last page of the Ogg stream is missing")
        elif joined_ogg and decoded.position < stop:
            decoded.warnings.append(_more_follows(decoded.seconds))
        decoded.report_losses(stop, promised, damaged, _SILENT if sound.format == "FLAC" else _EARLY)
        if sound.format == "MP3" and not damaged and decoded.position < stop and size - end > HEAD_BYTES:
            decoded.warnings.append(_more_follows(decoded.seconds))

    decoded.blocks = blocks
    return decoded


def _silent_damage(reader: _Reader, form: str, rate: float) -> list[float]:
    """Seconds of damage of which libsndfile said nothing; at most the first place."""
    found = None
    if form == "OGG":
        found = damage.ogg(reader.file, reader.start, rate)
    elif form == "MP3":
        found = damage.mpeg(reader.file, reader.start)
    return [] if found is None else [found]


def _means_unknown(declared: int) -> bool:
    """Whether a size in a header is one of those that streaming writers put there, near 2 or 4 GiB."""
    return declared >= UNKNOWN_SIZE or any(0 <= limit - declared <= 2**16 for limit in (2**31, 2**32))


def _more_follows(seconds: float) -> str:
    return (
        f"not read after {seconds:.2f} s, where it says that it ends, though the file goes on;"
        " if recordings were joined, convert to WAV"
    )


def _has_last_ogg_page(file: BinaryIO, size: int) -> bool:
    page = _last_ogg_page(file, size)
    segments = page[27:][: page[26]] if len(page) > 26 else b""
    return bool(segments and page[5] & 4) and 27 + len(segments) + sum(segments) <= len(page)


def _is_chained_ogg(file: BinaryIO, head: bytes, size: int) -> bool:
    """Whether another stream follows the first (RFC 3533), not beside it."""
    second = head.find(b"OggS", 1)
    beside = second > 0 and head[second + 5 : second + 6] == b"\2"
    return not beside and _last_ogg_page(file, size)[14:18] not in (head[14:18], b"")


def _last_ogg_page(file: BinaryIO, size: int) -> bytes:
    """What follows from the beginning of the last page on."""
    position = file.tell()
    file.seek(max(0, size - 2**17))  # a page has at most 65,307 bytes
    tail = file.read()
    file.seek(position)
    page = tail.rfind(b"OggS")
    return tail[page:] if page >= 0 else b""


def _decode_av(name: str, file: BinaryIO, demuxer: str, verify: Callable[[], None], resources: ExitStack) -> Decoded:
    try:
        import av
        from av.audio.plane import AudioPlane
    except ImportError:
        raise AudioError(f'{name}: reading {demuxer} files needs PyAV; pip install "basic-transcribe[av]"') from None
    file.seek(0)
    callbacks = _Callbacks(file)
    try:
        container: Any = resources.enter_context(av.open(callbacks, format=demuxer, metadata_errors="replace"))
    except av.error.FFmpegError as error:
        callbacks.check(name)
        raise AudioError(f"{name}: damaged or cut short ({error.strerror}); export it again") from error
    callbacks.check(name)
    streams = container.streams.audio
    if not streams:
        raise AudioError(f"{name}: no audio stream; give a recording with sound")
    number, stream = next(((i, s) for i, s in enumerate(streams, 1) if s.codec_context is not None), (0, None))
    if stream is None:
        raise AudioError(f"{name}: its audio is in an unknown or encrypted codec; convert it to WAV or FLAC")
    rate, channels = stream.rate, stream.channels
    check_format(name, rate, channels)
    duration: float | None = None
    if demuxer not in _ESTIMATED and stream.duration and stream.time_base:
        duration = float(stream.duration * stream.time_base)
    elif demuxer not in _ESTIMATED and container.duration:
        duration = container.duration / av.time_base
    # The time of a video is that of its pictures, which sound may follow later.
    lead = 0.0
    if container.duration and container.start_time is not None and stream.start_time is not None:
        offset = float(stream.start_time * stream.time_base) - container.start_time / av.time_base
        lead = offset if LEAST_GAP < offset < min(MOST_SILENCE, container.duration / av.time_base) else 0.0
    if lead and duration is not None:
        duration = min(duration + lead, container.duration / av.time_base)
    decoded = Decoded(name, AudioInfo(float(rate), channels, duration, demuxer), verify=verify)
    if len(streams) > 1:
        decoded.warnings.append(f"has {len(streams)} audio streams; only number {number} was used")

    damaged: list[float] = []
    filled = 0.0
    astray: list[tuple[float, float]] = []  # where timestamps go too far ahead to be believed, and by how many seconds

    def packets() -> Iterator[Any]:
        while True:
            try:
                yield from container.demux(stream)
                return
            except IndexError:  # PyAV trips over the first packet of a stream that begins later, and is past it now
                continue

    def frames() -> Iterator[Any]:
        """What can be decoded, and None for what cannot."""
        try:
            for packet in packets():
                try:
                    found = packet.decode()
                except av.error.FFmpegError:
                    yield None
                    continue
                for frame in found:
                    yield frame if frame.sample_rate == rate and frame.layout.nb_channels == channels else None
        except av.error.FFmpegError:
            yield None
        callbacks.check(name)

    def samples_of(frame: Any) -> NDArray[Any]:
        """Shape (samples, channels). PyAV's own ``to_ndarray`` reads past the last of eight or more planes."""
        planar = frame.format.is_planar
        count, width = (channels, 1) if planar else (1, channels)
        dtype = _DTYPES[frame.format.name.removesuffix("p")]
        planes: list[Any] = [AudioPlane(frame, i) for i in range(count)]
        rows = np.array([np.frombuffer(plane, dtype, frame.samples * width) for plane in planes])
        return rows.T if planar else rows.reshape(-1, channels)

    def pieces() -> Iterator[NDArray[Any]]:
        """All that can be read, with silence where frames are missing by their timestamps."""
        nonlocal filled
        yield from decoded.silence(round(lead * rate))
        end: float | None = None  # of the last frame, by the timestamps
        missing = 0.0  # seconds by which these went ahead since
        for frame, following in pairwise(chain(frames(), [None])):
            if frame is None:
                damaged.append(decoded.seconds)
                continue
            begin = end if frame.time is None else frame.time
            seconds = frame.samples / rate
            jump = max(LEAST_JUMP, seconds / 2)
            if begin is not None:
                step = begin - end if end is not None and abs(begin - end) > jump else 0
                if astray and -step >= astray[-1][1] - jump:
                    step += astray.pop()[1]
                missing, end = missing + step, begin + seconds
            # A damaged timestamp stands alone, or leads out of the recording.
            after = None if following is None else following.time
            if missing > LEAST_GAP and end is not None and after is not None and abs(after - end) <= jump:
                if missing <= (MOST_SILENCE if duration is None else min(MOST_SILENCE, duration - decoded.seconds)):
                    damaged.append(decoded.seconds)
                    filled += missing
                    yield from decoded.silence(round(missing * rate))
                else:
                    astray.append((decoded.seconds, missing))
                missing = 0.0
            yield samples_of(frame)

    def blocks(start: int, stop: int) -> Iterator[Float32]:
        held: list[Float32] = []
        count = 0
        for piece in pieces():
            wanted = decoded.advance(piece, start, stop)
            if len(wanted):
                held.append(to_float(wanted))
                count += len(wanted)
            if count >= decoded.block_frames:
                yield np.concatenate(held)
                held, count = [], 0
            if decoded.position >= stop:
                break
        if count:
            yield np.concatenate(held)
        after = [f"silence is in the place of the {filled:.2f} s that are missing"] if filled else []
        after += [_EARLY] if astray or not filled else []
        decoded.report_losses(stop, duration, sorted([*damaged, *(place for place, _ in astray)]), ", ".join(after))

    decoded.blocks = blocks
    return decoded
