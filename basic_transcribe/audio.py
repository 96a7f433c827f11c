"""Recordings in, mono float32 blocks at one sample rate out; a recording of any length in constant memory.

A decoder (see ``decoders``, or the one for arrays here) yields blocks of shape (frames, channels); :class:`AudioStream`
checks them, makes them mono and resamples. Damage becomes a warning with a time where anything can still be read. Of a
part, only its own samples are checked and heard of.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from .decoders import UNKNOWN_SIZE, AudioInfo, Decoded, check_format, decode, to_float
from .errors import AudioError, UsageError, printable
from .types import Float32, Part

__all__ = ["AUDIO_EXTENSIONS", "AV_EXTENSIONS", "AudioInfo", "AudioStream", "open_audio", "probe"]

AUDIO_EXTENSIONS = frozenset(
    ".aif .aifc .aiff .au .bwf .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .w64 .wav .wave".split()
)
"""Extensions, lower case, of what the core reads."""
AV_EXTENSIONS = frozenset(
    ".3gp .aac .ac3 .ape .asf .avi .flv .m4a .m4b .m4v .mka .mkv .mov .mp4 .mpeg .mpg .ts .tta"
    " .webm .wma .wmv .wv".split()
)
"""Extensions, lower case, of what needs the extra ``av``."""

MIN_FULL_RATE = 16_000  # Hz; below it the upper octaves of a piano lose their partials
MAX_SAMPLE = 1e6  # 120 dB above full scale is damage, and its square may overflow
SILENCE = 1e-3
CANCELLED = 10**-1.5  # the mono sum lies this much (15 dB) below the sum of unrelated channels
CLIPPED_LEVEL, CLIPPED_SHARE = 0.99, 1e-3
SPOOL_BYTES = 2**26
RESAMPLED_AT_ONCE = 2**16  # samples; they stay in the processor's cache

StrPath = str | os.PathLike[str]
Source = StrPath | BinaryIO | NDArray[Any]


class AudioStream:
    """Iterator of mono blocks, and a context manager; :func:`open_audio` makes it.

    Attributes
    ----------
    info : AudioInfo
        What the header says.
    duration : float or None
        Seconds expected of the part, from the header and the part's end.
    samples_read : int
        Samples yielded so far, at the target rate.
    warnings : list of str
        What a careful listener should know; complete after the last block.
    """

    def __init__(self, decoded: Decoded, target_rate: int, part: Part, resources: ExitStack) -> None:
        weights = _channel_weights(decoded.name, decoded.info.channels, part.channel)
        self.info = decoded.info
        self.duration = _expected_duration(decoded.info.duration, part)
        self.samples_read = 0
        self.warnings = decoded.warnings
        self._decoded = decoded
        self._resources = resources
        self._blocks = _resample(self._mono(part, weights), self.info.sample_rate, target_rate)

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[Float32]:
        return self

    def __next__(self) -> Float32:
        """The next block, shape (samples,), of some seconds at most.

        Raises
        ------
        AudioError
            If a sample is not finite, the part begins after the recording's end, or the file changed while it was
            read.
        """
        block = next(self._blocks)
        self.samples_read += len(block)
        return block

    def close(self) -> None:
        """Close what :func:`open_audio` opened; a file object given to it stays open."""
        self._blocks.close()
        self._resources.close()

    def _mono(self, part: Part, weights: Float32) -> Iterator[Float32]:
        decoded, rate = self._decoded, self.info.sample_rate
        if rate < MIN_FULL_RATE:
            self.warnings.append(f"sample rate {rate:g} Hz: frequencies above {rate / 2:g} Hz are missing")
        start = _frame(part.start, rate)
        stop = UNKNOWN_SIZE if part.end is None else max(start + 1, _frame(part.end, rate))
        used = np.flatnonzero(weights)
        mix = _Mix(len(used), self.warnings) if part.channel == "mix" and len(used) > 1 else None
        frames = clipped = 0
        for whole in decoded.blocks(start, stop):
            block = whole if len(used) == whole.shape[1] else np.ascontiguousarray(whole[:, used])
            peak = _peak(block)
            if not peak <= MAX_SAMPLE:
                raise AudioError(self._bad_sample(block, start + frames))
            frames += len(block)
            if peak >= CLIPPED_LEVEL:
                clipped += _clipped_samples(block)
            if len(used) == 1:
                yield block[:, 0]
            elif mix:
                yield mix.mono(block)
            else:
                yield block @ weights[used]
        decoded.verify()
        if start and not frames:
            raise AudioError(_nothing_left(decoded, part))
        if not frames:
            self.warnings.append("no samples: there is a header but no audio")
        elif clipped > CLIPPED_SHARE * frames * len(used):
            share = clipped / (frames * len(used))
            self.warnings.append(f"clipped: {share:.1%} of the samples are cut off at full scale; expect false notes")
        if mix:
            mix.finish()
        # Where damage ended it, the header knows better than the last sample that could be read.
        length = max(decoded.seconds, self.info.duration or 0)
        if frames and part.end is not None and decoded.position < stop and part.end - length >= 0.01:
            self.warnings.append(
                f"the recording ends at {_hundredths(length)} s, before --end {_hundredths(part.end)} s"
            )

    def _bad_sample(self, block: Float32, before: int) -> str:
        row, channel = np.argwhere(~(np.abs(block) <= MAX_SAMPLE))[0]
        index = before + int(row)
        return (
            f"{self._decoded.name}: sample {index} ({index / self.info.sample_rate:.3f} s) is {block[row, channel]:g}, "
            "not a valid value; export the file again as 16 or 24 bit"
        )


class _Mix:
    """The mean of two or more channels, or the louder one where they cancel each other."""

    def __init__(self, channels: int, warnings: list[str]) -> None:
        self._mean = np.full(channels, 1 / channels, np.float32)
        self._weights: Float32 | None = None
        self._mixed_energy, self._energy = 0.0, np.zeros(channels)
        self._warnings = warnings

    def mono(self, block: Float32) -> Float32:
        mono = block @ self._mean
        energy = np.array([float(channel @ channel) for channel in block.T])
        mixed_energy = float(mono @ mono)
        self._energy += energy
        self._mixed_energy += mixed_energy
        # A stream cannot look ahead over the whole file: the first block that sounds decides. The silence
        # before it sounds the same either way, so the switch is not heard.
        if self._weights is None and _peak(block) > SILENCE:
            self._weights = self._mean
            if _cancels(mixed_energy, energy):
                louder = int(np.argmax(energy))
                self._weights = np.eye(len(energy), dtype=np.float32)[louder]
                self._warnings.append(
                    "opposite phase: the channels cancel each other when mixed to mono, so only channel"
                    f" {louder + 1} was used; if that is the wrong one, choose another with --channel"
                )
        return mono if self._weights is None or self._weights is self._mean else block @ self._weights

    def finish(self) -> None:
        """Warn if the channels cancel each other after all."""
        if self._weights is self._mean and _cancels(self._mixed_energy, self._energy):
            self._warnings.append(
                "opposite phase: from some point on the channels cancel each other when mixed to mono, so notes are"
                " missing; choose one with --channel left or right"
            )


def _channel_weights(name: str, channels: int, channel: str | int) -> Float32:
    """What each channel contributes to the mono signal, shape (channels,)."""
    weights = np.zeros(channels, np.float32)
    if channel == "mix":
        weights[:] = 1 / channels
    elif isinstance(channel, int):
        if channel > channels:
            count, choice = ("1 channel", "1") if channels == 1 else (f"{channels} channels", f"1 to {channels}")
            raise AudioError(f"{name}: has {count}, so there is no channel {channel}; use --channel {choice}")
        weights[channel - 1] = 1
    elif channels > 1:
        weights[:2] = {"left": (1, 0), "right": (0, 1), "mid": (0.5, 0.5), "side": (0.5, -0.5)}[channel]
    elif channel == "side":
        raise AudioError(f"{name}: is mono, so there is no side signal; use --channel mix")
    else:
        weights[:] = 1
    return weights


def _expected_duration(total: float | None, part: Part) -> float | None:
    ends = [end for end in (total, part.end) if end is not None]
    return max(0.0, min(ends) - part.start) if ends else None


def _nothing_left(decoded: Decoded, part: Part) -> str:
    complete = decoded.seconds >= (decoded.info.duration or 0)
    length = f"{'lasts' if complete else 'can be read up to'} {_hundredths(decoded.seconds)} s"
    start = _hundredths(part.start)
    return f"{decoded.name}: {length}, so nothing is left from --start {start} s on; choose an earlier one"


def _frame(seconds: float, rate: float) -> int:
    return round(min(seconds * rate, UNKNOWN_SIZE))


def _hundredths(seconds: float) -> str:
    return f"{round(seconds, 2):.12g}"


def _peak(block: Float32) -> float:
    """Largest absolute value; NaN if there is one. Without a copy of the block."""
    return float(np.maximum(block.max(), -block.min()))


def _clipped_samples(block: Float32) -> int:
    """Samples inside a flat run of three or more at full scale; one above full scale counts as flat."""
    flat = np.clip(block, -1, 1)
    equal = (flat[1:] == flat[:-1]) & (np.abs(flat[1:]) >= CLIPPED_LEVEL)
    return int(np.count_nonzero(equal[1:] & equal[:-1]))


def _cancels(mixed_energy: float, energy: NDArray[np.float64]) -> bool:
    # The mean of n unrelated channels has 1/n of their mean energy.
    return mixed_energy * len(energy) < CANCELLED * float(energy.mean())


def _resample(blocks: Iterator[Float32], rate: float, target_rate: int) -> Generator[Float32, None, None]:
    """Resample; the samples do not depend on how the input is cut into blocks."""
    if rate == target_rate:
        yield from blocks
        return
    with _resampler(rate, target_rate) as resampler:
        for block in blocks:
            for start in range(0, len(block), RESAMPLED_AT_ONCE):
                resampled = resampler.resample_chunk(block[start : start + RESAMPLED_AT_ONCE])
                if len(resampled):
                    yield resampled
        rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        if len(rest):
            yield rest


@contextmanager
def _resampler(rate: float, target_rate: int) -> Iterator[Any]:
    """The resampler last used, if it had these rates, or a new one: its filter takes as long as seconds of sound."""
    import soxr

    key = rate, target_rate
    resampler = _spare.pop(key, None) or soxr.ResampleStream(rate, target_rate, 1, dtype="float32")
    try:
        yield resampler
    finally:
        resampler.clear()
        _spare.clear()  # one is enough, and there may be files of any rate
        _spare[key] = resampler


_spare: dict[tuple[float, int], Any] = {}  # idle resamplers


def open_audio(
    source: Source, sample_rate: float | None = None, *, target_rate: int, part: Part | None = None
) -> AudioStream:
    """Open a recording, or a part of it, as a stream of mono blocks.

    Parameters
    ----------
    source : path, binary file object or ndarray
        A file object is read from its beginning, or from where it stands if it cannot seek. An array has shape
        (samples,) or (samples, channels); floats have full scale 1.0, integers that of their type.
    sample_rate : float, optional
        Hz, 1,000 to 768,000; only with an array.
    target_rate : int
        Sample rate of the blocks, in Hz.
    part : Part, optional
        The excerpt, cut at the samples nearest to its start and end, and the channel; all of the recording and the mean
        of its channels if omitted. ``left``, ``right`` and ``mid`` of a mono recording are its one channel; of more
        than two channels, ``left`` and ``right`` are the first two.

    Returns
    -------
    AudioStream
        Yields float32 blocks of shape (samples,). Times in its warnings and errors are those of the recording.

    Raises
    ------
    AudioError
        If the recording cannot be read, or lacks the channel.
    UsageError
        If ``sample_rate`` is missing with an array or given with a file, or the array is not audio.
    """
    resources = ExitStack()
    with ExitStack() as on_error:
        on_error.enter_context(resources)
        stream = AudioStream(_open(source, sample_rate, resources), target_rate, part or Part(), resources)
        on_error.pop_all()
        return stream


def probe(source: StrPath | BinaryIO) -> AudioInfo:
    """Read only the header. Parameters and errors as :func:`open_audio`."""
    with ExitStack() as resources:
        return _open(source, None, resources).info


def _open(source: Source, sample_rate: float | None, resources: ExitStack) -> Decoded:
    if isinstance(source, np.ndarray):
        return _decode_array(source, sample_rate)
    if sample_rate is not None:
        raise UsageError("sample_rate belongs to an array only; a file has its own")
    if isinstance(source, (str, os.PathLike)):
        name, file, verify = _open_path(os.fspath(source), resources)
        return decode(name, file, verify, resources)
    if not hasattr(source, "read"):
        raise UsageError(f"cannot read {type(source).__name__}: give a path, a binary file object or a numpy array")
    return decode(printable(getattr(source, "name", "audio")), _seekable(source, resources), lambda: None, resources)


def _open_path(path: str, resources: ExitStack) -> tuple[str, BinaryIO, Callable[[], None]]:
    name = printable(path)
    try:
        mode = os.stat(path).st_mode  # before open, which would wait for a pipe's writer
        if stat.S_ISDIR(mode):
            raise AudioError(f"{name}: is a folder, not a recording")
        if not stat.S_ISREG(mode):
            raise AudioError(f"{name}: is a pipe or device, not a file; give it as standard input instead")
        # libsndfile gets an open file, never a name: names may hold bytes it cannot take.
        file = resources.enter_context(open(path, "rb"))  # noqa: SIM115
    except FileNotFoundError as error:
        raise AudioError(f"{name}: no such file") from error
    except PermissionError as error:
        raise AudioError(f"{name}: permission denied; make it readable") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise AudioError(f"{name}: cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    before = os.fstat(file.fileno())

    def verify() -> None:
        after = os.fstat(file.fileno())
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise AudioError(f"{name}: changed while it was read; run again when it is complete")

    return name, file, verify


def _seekable(file: BinaryIO, resources: ExitStack) -> BinaryIO:
    """The file, or a temporary copy of what a pipe delivers."""
    if not isinstance(file.read(0), bytes):
        raise UsageError("the file object yields text; open it in binary mode")
    if file.seekable():
        return file
    spool = resources.enter_context(tempfile.SpooledTemporaryFile(SPOOL_BYTES))  # noqa: SIM115
    try:
        shutil.copyfileobj(file, spool)
    except OSError as error:
        raise AudioError(f"cannot copy the input to a temporary file: {error.strerror}") from error
    return cast(BinaryIO, spool)


def _decode_array(array: NDArray[Any], sample_rate: float | None) -> Decoded:
    if sample_rate is None:
        raise UsageError("an array needs its sample_rate in Hz")
    if array.ndim not in (1, 2):
        raise UsageError(f"array of shape {array.shape}; it must be (samples,) or (samples, channels)")
    kind, itemsize = array.dtype.kind, array.dtype.itemsize
    if kind != "f" and (kind, itemsize) not in (("u", 1), ("i", 1), ("i", 2), ("i", 4)):
        raise UsageError(f"array of {array.dtype}; convert it to float with full scale 1.0, uint8, int16 or int32")
    samples = array[:, None] if array.ndim == 1 else array
    frames, channels = samples.shape
    if channels > 2 and 0 < frames < channels:
        raise UsageError(f"array of shape {array.shape} has more channels than samples; give its transpose, array.T")
    check_format("array", sample_rate, channels, UsageError)
    decoded = Decoded("array", AudioInfo(float(sample_rate), channels, frames / sample_rate, "array"))

    def blocks(start: int, stop: int) -> Iterator[Float32]:
        decoded.position = min(start, frames)
        while decoded.position < min(stop, frames):
            block = samples[decoded.position : decoded.position + decoded.block_frames]
            yield to_float(decoded.advance(block, start, stop))

    decoded.blocks = blocks
    return decoded
