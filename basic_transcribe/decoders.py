"""Decoders: an open file in, blocks of float32 frames out, with what was damaged or missing on the way.

Any range of frames can be asked for: reading ends with it, and begins with it where the format can be sought exactly.
soundfile reads what libsndfile knows; PyAV, an extra, the containers it does not.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import sys
import threading
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, pairwise
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

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
WRAP = 2**32  # bytes, what the sizes of WAV cannot tell
EXTENSIBLE = 0xFFFE  # the format that is told later in its chunk
MOST_CHUNKS = 1000
LEAST_UNREAD = 0.25  # seconds
UNKNOWN_SIZE = 2**40  # bytes or frames; headers that do not know write more
_READ_ERRORS = (OSError, EOFError, zlib.error)  # of a disk, and of a gzip file that is cut or damaged

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
        (rb"G.{187}G|....G.{191}G.{191}G", "mpegts"),  # packets of 188 bytes, in those of cameras 192
        (rb"\x06\x0e\x2b\x34\x02\x05\x01\x01", "mxf"),
        (rb"#!AMR", "amr"),
        (rb"DSD \x1c", "dsf"),
        (rb"FRM8.{8}DSD ", "iff"),
        (rb"\0\0\x01\xba", "mpeg"),
        (rb"MAC ", "ape"),
        (rb"TTA1", "tta"),
        (rb"wvpk", "wv"),
    )
]
_CHUNKS = re.compile(rb"RIFF....WAVE|FORM....AIF[CF]", re.DOTALL)  # the beginning of WAV and AIFF
_MPEG_FRAME = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]")  # of layers 3 and 2, not of AAC
_TAG = re.compile(rb"\0?(ID3|TAG|APETAGEX|LYRICSBEGIN|<\?xml)")
_AU_ENCODINGS = {(1, 16): 3, (1, 24): 4, (1, 32): 5, (3, 32): 6, (3, 64): 7}  # of formats and bits of WAV
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

T = TypeVar("T")


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


def _no_blocks(_start: int, _stop: int) -> Iterator[Float32]:
    return iter(())


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
    blocks: Callable[[int, int], Iterator[Float32]] = _no_blocks
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
    """Raise ``error`` if nothing reads such a sample rate, in Hz, or so many channels."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise error(f"{name}: sample rate {rate:g} Hz is outside {MIN_RATE} to {MAX_RATE} Hz; convert it or correct it")
    if not 1 <= channels <= MAX_CHANNELS:
        raise error(f"{name}: {channels} channels; 1 to {MAX_CHANNELS} can be read, so export fewer")


def reason(error: BaseException) -> str:
    """What the system says, in one line; file objects that are not the system's may say it in their own way."""
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def is_timers(error: BaseException) -> bool:
    """Whether a timer of the caller raised it, in the handler of its signal: the system's errors have a number."""
    return isinstance(error, TimeoutError) and error.errno is None


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Where a disk may fail, or whatever else the file comes from."""
    try:
        yield
    except _READ_ERRORS as error:
        if is_timers(error):
            raise
        raise AudioError(f"{name}: cannot be read: {reason(error)}") from error


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
    with reading(name):
        size = file.seek(0, os.SEEK_END)
        if not size:
            raise AudioError(f"{name}: empty file; record or copy it again")
        start, head = _beginning(file, size)
        if not head:
            raise AudioError(f"{name}: holds a tag but no audio; record or copy it again")
        demuxer = next((demuxer for pattern, demuxer in _CONTAINERS if pattern.match(head)), None)
        if demuxer:
            decoded = _Container(name, file, demuxer, verify, resources).decoded
        else:
            decoded = _decode_soundfile(name, _Reader(name, file, head, start, size), verify, resources)
    # Its blocks know the decoder, which knows it: a cycle that would keep all of them until they are collected.
    resources.callback(setattr, decoded, "blocks", _no_blocks)
    return decoded


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
    """A file as a decoder in C should see it: what is raised in its callbacks is kept until the decoder returns.

    Nothing can be raised through C: soundfile prints it and goes on; PyAV does the same, or keeps it for its next call,
    which may well be about the next file.

    Attributes
    ----------
    file : binary file object
    """

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name, self.file = name, file  # not "name", by which soundfile and PyAV would judge the format
        self._raised: BaseException | None = None

    def read(self, count: int) -> bytes:
        try:
            return self.file.read(count)
        except BaseException as error:
            self._raised = error
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self.file.seek(offset, whence)
        except BaseException as error:
            outside = isinstance(error, (OverflowError, ValueError)) or getattr(error, "errno", None) == errno.EINVAL
            if not outside:  # of the file, to which a damaged header may point
                self._raised = error
            return -errno.EINVAL

    def tell(self) -> int:
        try:
            return self.file.tell()
        except BaseException as error:
            self._raised = error
            return -errno.EINVAL

    def call(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Have the decoder do something; raise what was raised in callbacks meanwhile.

        The handler of a signal, such as Ctrl-C, may run before the first line of a callback, which cannot catch what it
        raises; Python's hooks learn of it. Handlers run in the main thread alone, so only that one changes the hooks.
        """
        hooked, hooks = threading.current_thread() is threading.main_thread(), (sys.unraisablehook, sys.excepthook)

        def is_ours(trace: TracebackType | None) -> bool:
            """Whether it was raised in a callback, not in another thread or while an object was deleted."""
            modules = {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(trace)}
            return bool(modules & {__name__, "soundfile"}) and threading.current_thread() is threading.main_thread()

        def unraisable(found: Any) -> None:
            if is_ours(found.exc_traceback):
                self._raised = found.exc_value
            else:
                hooks[0](found)

        def printed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            if not is_ours(trace):  # what is, PyAV prints before it tells the other hook
                hooks[1](kind, error, trace)

        try:
            if hooked:
                sys.unraisablehook, sys.excepthook = unraisable, printed
            return function(*args, **options)
        finally:
            if hooked:
                sys.unraisablehook, sys.excepthook = hooks
            self._check()

    def _check(self) -> None:
        raised, self._raised = self._raised, None
        if raised is not None:
            with reading(self._name):
                raise raised


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
    joined : bool
        Whether it is a WAV or AIFF file that another one follows.
    unread : float
        Seconds that may follow what a WAV file's header tells of.
    format : str
        The container, where libsndfile is shown another.
    """

    def __init__(self, name: str, file: BinaryIO, head: bytes, start: int, size: int) -> None:
        super().__init__(name, file)
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
        end = _end_before_another(file, head, start, size)
        self.joined = end > 0
        self.unread, self.format = 0.0, ""
        wave = None if self.joined or (self._changes and size < WRAP) else _Wave.found(file, head, start, size)
        declared = WRAP - 1 if self._changes else wave.length if wave else 0
        if wave and (unread := wave.sound_from(wave.start + declared)):
            real_end = wave.size if self._changes or _means_unknown(wave.length) else wave.unwrapped_end
            header = wave.as_au(start)
            if header and real_end and not wave.sound_from(real_end):
                self._changes, self.format = dict(enumerate(header)), "WAV"
                end = real_end - start
            else:
                self.unread = unread
        if end:  # libsndfile refuses the whole of joined files, and would take what follows a wrapped size for sound
            self._claimed = end - (size - start)

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
    if alone := damage.mpeg_header_alone(reader.head, reader.size - reader.start):  # libsndfile opens none
        rate, channels = alone
        return Decoded(name, AudioInfo(float(rate), channels, None, "MP3"), verify=verify)
    return _Sound(name, reader, verify, resources).decoded


class _Sound:
    """A recording as libsndfile reads it.

    Attributes
    ----------
    decoded : Decoded
    """

    def __init__(self, name: str, reader: _Reader, verify: Callable[[], None], resources: ExitStack) -> None:
        self._name, self._reader, self._resources = name, reader, resources
        sound = self._sound = self._opened()
        check_format(name, sound.samplerate, sound.channels)
        known_length = not reader.unsized_mp3 and sound.frames < UNKNOWN_SIZE
        duration = sound.frames / sound.samplerate if known_length else None
        info = AudioInfo(float(sound.samplerate), sound.channels, duration, reader.format or sound.format)
        self.decoded = Decoded(name, info, self._blocks, verify=verify)
        self._promised = duration  # seconds
        for declared, actual in _DECLARED.findall(sound.extra_info):
            if duration is not None and int(actual) and not _means_unknown(int(declared)):
                self._promised = max(duration, duration * int(declared) / int(actual))
        self._cut_ogg = sound.format == "OGG" and not _has_last_ogg_page(reader.file, reader.size)
        chained = sound.format == "OGG" and _is_chained_ogg(reader.file, reader.head, reader.size)
        self._joined = reader.joined or chained
        self._exact = known_length and sound.format in _EXACT_FORMATS and sound.subtype in _EXACT_SUBTYPES
        self._damaged: list[float] = []  # seconds

    def _opened(self) -> Any:
        import soundfile

        self._reader.seek(0)
        try:
            sound = self._reader.call(soundfile.SoundFile, self._reader)
        except soundfile.LibsndfileError as error:
            known = (text for key, text in _OPEN_ERRORS.items() if key in error.error_string)
            reason = next(known, f"damaged, or not what it claims to be ({error.error_string}); export it again")
            raise AudioError(f"{self._name}: {reason}") from error
        self._resources.callback(_close, sound)
        # soundfile seeks after every read of a seekable file, which hides a decoder's errors and breaks on damage.
        sound.seekable = lambda: False
        return sound

    def _blocks(self, start: int, stop: int) -> Iterator[Float32]:
        decoded, sound, reader = self.decoded, self._sound, self._reader
        self._go_to(start)
        limit = min(stop, sound.frames)
        for piece in self._pieces(limit):
            wanted = decoded.advance(piece, start, stop)
            if len(wanted):
                yield wanted
        end = reader.file.tell()
        if decoded.position < limit and not self._damaged:
            self._damaged += _silent_damage(
                reader, sound.format, 48_000 if sound.subtype == "OPUS" else sound.samplerate
            )
        if self._cut_ogg and decoded.position < stop:
            decoded.warnings.append("cut short: the last page of the Ogg stream is missing")
        elif self._joined and decoded.position < stop:
            decoded.warnings.append(_more_follows(decoded.seconds))
        elif reader.unread and decoded.position < stop:
            decoded.warnings.append(
                f"not read after {decoded.seconds:.2f} s, where its header says that it ends, though"
                f" {reader.unread:.2f} s of sound may follow; repair the header, or import it as raw data in an audio"
                " editor"
            )
        decoded.report_losses(stop, self._promised, self._damaged, _SILENT if sound.format == "FLAC" else _EARLY)
        ended = sound.format == "MP3" and not self._damaged and decoded.position < stop
        if ended and reader.size - end > HEAD_BYTES:
            decoded.warnings.append(_more_follows(decoded.seconds))

    def _go_to(self, start: int) -> None:
        """Begin with a frame, or before it where that cannot be sought."""
        import soundfile

        if start >= self._sound.frames:
            self.decoded.position = self._sound.frames
        elif start and self._exact:
            try:
                self.decoded.position = self._reader.call(self._sound.seek, start)
            except soundfile.LibsndfileError:  # into damaged FLAC, and now it can do nothing else
                self._sound = self._opened()

    def _pieces(self, limit: int) -> Iterator[Float32]:
        """All that can be read up to the limit, from the position on; the caller moves that."""
        decoded, reader = self.decoded, self._reader
        stuck = 0
        while decoded.position < limit and stuck < MOST_STUCK:
            place = reader.file.tell()
            block, failed = self._read(min(decoded.block_frames, limit - decoded.position))
            if failed:
                self._damaged.append(decoded.seconds + len(block) / decoded.info.sample_rate)
            yield block
            if failed and self._sound.format == "FLAC" and len(self._damaged) < MOST_DAMAGE:
                lost = self._pass_damage(limit)
                yield from decoded.silence(lost)
                failed = lost > 0
            if not len(block) and not failed:
                return
            stuck = 0 if len(block) or reader.file.tell() != place else stuck + 1

    def _read(self, count: int) -> tuple[Float32, bool]:
        """The next frames, at most so many, and whether they end with damage."""
        import soundfile

        # On an error soundfile does not say how much it has read; the rows that are no longer NaN do.
        buffer = np.full((count, self._sound.channels), np.nan, np.float32)
        try:
            return self._reader.call(self._sound.read, out=buffer), False
        except soundfile.LibsndfileError:
            return buffer[: np.count_nonzero(~np.isnan(buffer[:, 0]))], True

    def _pass_damage(self, limit: int) -> int:
        """Go past damage in FLAC, after which libFLAC does nothing more; how many frames it takes. 0 if nothing comes.

        Each frame of FLAC stands for itself and is numbered, so a new decoder can be sent to a later one.
        """
        import soundfile

        lost = FLAC_FRAME
        while self.decoded.position + lost < limit:
            _close(self._sound)
            self._sound = self._opened()
            try:
                self._reader.call(self._sound.seek, self.decoded.position + lost)
                return lost
            except soundfile.LibsndfileError:
                lost *= 2
        return 0


def _close(sound: Any) -> None:
    try:
        sound.close()
    except BaseException:
        # A signal may come when it is closed but not marked so; it would be freed again when it is deleted.
        sound._file = None
        raise


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
        " if recordings were joined, join them in an audio editor"
    )


@dataclass(frozen=True, slots=True)
class _Wave:
    """Where the sound of a WAV file lies, as its header says."""

    file: BinaryIO
    size: int  # of the file
    code: int  # of the format
    channels: int
    rate: int
    second: int  # bytes
    width: int  # bytes of a frame, in some formats of several
    start: int  # of the sound in the file
    length: int  # bytes, modulo 4 GiB from many recorders

    @classmethod
    def found(cls, file: BinaryIO, head: bytes, start: int, size: int) -> _Wave | None:
        """None if it is no WAV file, or has no such place."""
        if not re.match(rb"RIFF....WAVE", head, re.DOTALL):
            return None
        position, fmt = start + 12, b""
        for _ in range(MOST_CHUNKS):
            if position + 8 > size:
                return None
            file.seek(position)
            chunk = file.read(8)
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"fmt ":
                fmt = file.read(min(length, 40))
            elif chunk[:4] == b"data":
                if len(fmt) < 16:
                    return None
                code, channels, rate, second, width = struct.unpack("<HHIIH", fmt[:14])
                code = int.from_bytes(fmt[24:26], "little") if code == EXTENSIBLE else code
                second = rate * width if code in (1, 3) else second  # PCM, of which some headers say nonsense
                usable = channels and rate and width and second
                return cls(file, size, code, channels, rate, second, width, position + 8, length) if usable else None
            position += 8 + length + length % 2
        return None

    @property
    def unwrapped_end(self) -> int:
        """The last place in the file that the length may mean, if it is more than that; 0 if there is none."""
        end = self.start + self.length
        return end + (self.size - end) // WRAP * WRAP if self.size - end >= WRAP else 0

    def sound_from(self, place: int) -> float:
        """Seconds of what may be sound from there to the end of the file; 0 if it is nothing, chunks or a tag."""
        at = place
        for _ in range(MOST_CHUNKS):
            left = self.size - at
            if left < LEAST_UNREAD * self.second:
                return 0.0
            self.file.seek(at)
            after = self.file.read(HEAD_BYTES)
            self.file.seek(max(at, self.size - HEAD_BYTES))
            filling = left < WRAP and not (after + self.file.read()).strip(b"\0")
            if filling or _TAG.match(after):
                return 0.0
            chunk = re.match(rb"\0?[ -~]{4}(.{4})", after, re.DOTALL)  # an even length need not be filled up to
            if not chunk:
                break
            at += chunk.end() + int.from_bytes(chunk[1], "little")
            if at > self.size:
                break
        return (self.size - place) / self.second

    def as_au(self, start: int) -> bytes | None:
        """A header of AU, which may be longer than 4 GiB, in the place of this one; None if it has no such format."""
        encoding = _AU_ENCODINGS.get((self.code, 8 * self.width // self.channels))
        if not encoding:
            return None
        return b"dns." + struct.pack("<5I", self.start - start, 2**32 - 1, encoding, self.rate, self.channels)


def _end_before_another(file: BinaryIO, head: bytes, start: int, size: int) -> int:
    """Bytes of a WAV or AIFF file that another one follows; 0 of any other."""
    end = 8 + int.from_bytes(head[4:8], "little" if head.startswith(b"RIFF") else "big")
    if not _CHUNKS.match(head) or start + end >= size:
        return 0
    file.seek(start + end)
    return end if head[:4] in file.read(5) else 0  # a byte more belongs to a chunk of odd size


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


class _Container:
    """A recording as FFmpeg reads it.

    Attributes
    ----------
    decoded : Decoded
    """

    def __init__(
        self, name: str, file: BinaryIO, demuxer: str, verify: Callable[[], None], resources: ExitStack
    ) -> None:
        try:
            import av
        except ImportError as error:
            raise AudioError(
                f'{name}: reading {demuxer} files needs PyAV; pip install "basic-transcribe[av]"'
            ) from error
        file.seek(0)
        callbacks = self._callbacks = _Callbacks(name, file)
        # Titles need not be UTF-8. From PyAV 19 on they need not be for anybody, and it knows no such argument.
        lenient: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        try:
            container = resources.enter_context(callbacks.call(av.open, callbacks, format=demuxer, **lenient))
        except av.error.FFmpegError as error:
            raise AudioError(f"{name}: damaged or cut short ({error.strerror}); export it again") from error
        streams = container.streams.audio
        if not streams:
            raise AudioError(f"{name}: no audio stream; give a recording with sound")
        number, stream = next(((i, s) for i, s in enumerate(streams, 1) if s.codec_context is not None), (0, None))
        if stream is None:
            raise AudioError(f"{name}: its audio is in an unknown or encrypted codec; convert it to WAV or FLAC")
        self._container: Any = container
        self._stream: Any = stream
        rate, channels = stream.rate, stream.channels
        check_format(name, rate, channels)
        duration, self._lead = self._times(demuxer)
        self.decoded = Decoded(name, AudioInfo(float(rate), channels, duration, demuxer), self._blocks, verify=verify)
        if len(streams) > 1:
            self.decoded.warnings.append(f"has {len(streams)} audio streams; only number {number} was used")
        self._damaged: list[float] = []  # seconds
        self._timestamps = Timestamps(duration)

    def _times(self, demuxer: str) -> tuple[float | None, float]:
        """Length of the recording, where it is known, and of the silence it begins with, in seconds."""
        import av

        container, stream = self._container, self._stream
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
        return duration, lead

    def _blocks(self, start: int, stop: int) -> Iterator[Float32]:
        decoded, timestamps = self.decoded, self._timestamps
        held: list[Float32] = []
        count = 0
        for piece in self._pieces():
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
        filled = timestamps.filled
        after = [f"silence is in the place of the {filled:.2f} s that are missing"] if filled else []
        after += [_EARLY] if timestamps.astray or not filled else []
        places = sorted([*self._damaged, *(place for place, _ in timestamps.astray)])
        decoded.report_losses(stop, decoded.info.duration, places, ", ".join(after))

    def _pieces(self) -> Iterator[NDArray[Any]]:
        """All that can be read, with silence where frames are missing by their timestamps."""
        decoded, rate = self.decoded, self.decoded.info.sample_rate
        yield from decoded.silence(round(self._lead * rate))
        for frame, following in pairwise(chain(self._frames(), [None])):
            if frame is None:
                self._damaged.append(decoded.seconds)
                continue
            after = None if following is None else following.time
            missing = self._timestamps.missing(frame.time, frame.samples / rate, after, decoded.seconds)
            if missing:
                self._damaged.append(decoded.seconds)
                yield from decoded.silence(round(missing * rate))
            yield self._samples(frame)

    def _frames(self) -> Iterator[Any]:
        """What can be decoded, and None for what cannot."""
        import av

        form = self.decoded.info.sample_rate, self.decoded.info.channels
        packets = self._packets()
        try:
            while (packet := self._callbacks.call(next, packets, None)) is not None:
                try:
                    found = packet.decode()
                except (av.error.FFmpegError, ValueError):  # the latter of PyAV 19, if damage names an unknown codec
                    yield None
                    continue
                for frame in found:
                    yield frame if (frame.sample_rate, frame.layout.nb_channels) == form else None
        except av.error.FFmpegError:
            yield None

    def _packets(self) -> Iterator[Any]:
        while True:
            try:
                yield from self._container.demux(self._stream)
                return
            except IndexError:  # PyAV trips over the first packet of a stream that begins later, and is past it now
                continue

    def _samples(self, frame: Any) -> NDArray[Any]:
        """Shape (samples, channels). PyAV's own ``to_ndarray`` reads past the last of eight or more planes."""
        from av.audio.plane import AudioPlane

        channels, planar = self.decoded.info.channels, frame.format.is_planar
        count, width = (channels, 1) if planar else (1, channels)
        dtype = _DTYPES[frame.format.name.removesuffix("p")]
        planes: list[Any] = [AudioPlane(frame, i) for i in range(count)]
        rows = np.array([np.frombuffer(plane, dtype, frame.samples * width) for plane in planes])
        return rows.T if planar else rows.reshape(-1, channels)


@dataclass
class Timestamps:
    """Finds frames that are missing by the timestamps of the others, one of which alone may well be damaged.

    Attributes
    ----------
    duration : float or None
        Seconds of the recording, where they are known.
    filled : float
        Seconds that were missing.
    astray : list of tuple of float
        Where timestamps go too far ahead to be believed, and by how many seconds.
    """

    duration: float | None
    filled: float = 0.0
    astray: list[tuple[float, float]] = field(default_factory=list)
    _end: float | None = None  # of the last frame, by the timestamps
    _ahead: float = 0.0  # seconds by which these went ahead since

    def missing(self, time: float | None, seconds: float, following: float | None, position: float) -> float:
        """Seconds that are missing before a frame.

        Parameters
        ----------
        time : float or None
            Its timestamp.
        seconds : float
            Its length.
        following : float or None
            Timestamp of the frame after it.
        position : float
            Seconds of the recording gone by.
        """
        begin = self._end if time is None else time
        jump = max(LEAST_JUMP, seconds / 2)
        if begin is not None:
            step = begin - self._end if self._end is not None and abs(begin - self._end) > jump else 0
            if self.astray and -step >= self.astray[-1][1] - jump:
                step += self.astray.pop()[1]
            self._ahead, self._end = self._ahead + step, begin + seconds
        # A damaged timestamp stands alone, or leads out of the recording.
        agreed = self._end is not None and following is not None and abs(following - self._end) <= jump
        if self._ahead <= LEAST_GAP or not agreed:
            return 0.0
        missing, self._ahead = self._ahead, 0.0
        if missing > (MOST_SILENCE if self.duration is None else min(MOST_SILENCE, self.duration - position)):
            self.astray.append((position, missing))
            return 0.0
        self.filled += missing
        return missing
