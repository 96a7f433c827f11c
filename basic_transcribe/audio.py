"""Recordings in, mono float32 blocks at one sample rate out; a recording of any length in constant memory.

A decoder (see ``decoders``, or the one for arrays here) yields blocks of shape (frames, channels); :class:`AudioStream`
checks them, makes them mono and resamples. Damage becomes a warning with a time where anything can still be read. Of a
part, only its own samples are checked and heard of.
"""

from __future__ import annotations

import math
import os
import stat
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from .decoders import (
    BLOCK_VALUES,
    UNKNOWN_SIZE,
    AudioInfo,
    Decoded,
    check_format,
    decode,
    is_timers,
    reading,
    reason,
    to_float,
)
from .errors import AudioError, UsageError, printable
from .loudness import Loudness
from .tuning import TuningEstimator, ratio_of
from .types import Float32, Part, number

__all__ = ["AUDIO_EXTENSIONS", "AV_EXTENSIONS", "AudioInfo", "AudioStream", "open_audio", "probe"]

AUDIO_EXTENSIONS = frozenset(
    ".aif .aifc .aiff .au .bwf .caf .flac .mp2 .mp3 .mpa .oga .ogg .opus .rf64 .snd .w64 .wav .wave".split()
)
"""Extensions, lower case, of what the core reads."""
AV_EXTENSIONS = frozenset(
    ".3g2 .3gp .aac .ac3 .amr .ape .asf .avi .dff .dsf .flv .m2ts .m4a .m4b .m4v .mka .mkv .mov .mp4 .mpeg .mpg .mts"
    " .mxf .ts .tta .webm .wma .wmv .wv".split()
)
"""Extensions, lower case, of what needs the extra ``av``."""

MIN_FULL_RATE = 16_000  # Hz; below it the upper octaves of a piano lose their partials
MAX_SAMPLE = 1e6  # 120 dB above full scale is damage, and its square may overflow
SILENCE = 1e-4
CANCELLED = 10**-1.5  # the mono sum lies this much (15 dB) below the sum of unrelated channels
CLIPPED_LEVEL, CLIPPED_SHARE = 0.99, 1e-3
INAUDIBLE = 1e-5  # of the loudest sample
QUIET = 1e-2  # of the loudest tenth of a second: hardly any velocities are left
LOST = 1e-3  # notes get lost, in 16 bits
FLOOR = 1e-5  # mean square, -50 dB; what is softer may be noise
UNUSED = 1e-4  # of the loudest channel's mean square, 40 dB: what is below is silent beside it
FADE_SECONDS = 0.02  # in which a channel that begins to sound gets its share
SPOOL_BYTES, SPOOL_PIECE = 2**26, 2**16
RESAMPLED_AT_ONCE = 2**16  # samples; they stay in the processor's cache

StrPath = str | os.PathLike[str]


class BinaryFile(Protocol):
    """What is needed of a file object: less than :class:`typing.BinaryIO`, which those of gzip and zipfile are not."""

    def read(self, size: int, /) -> bytes: ...
    def seekable(self) -> bool: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


Source = StrPath | BinaryFile | NDArray[Any]


class AudioStream:
    """Iterator of mono blocks, and a context manager; :func:`open_audio` makes it.

    Attributes
    ----------
    info : AudioInfo
        What the header says.
    duration : float or None
        Seconds expected of the part, from the header and the part's end.
    samples_read : int
        Samples yielded so far, :attr:`rate` a second.
    warnings : list of str
        What a careful listener should know; complete after the last block.
    """

    def __init__(
        self,
        decoded: Decoded,
        target_rate: int,
        part: Part,
        tuning: float | None,
        raises: bool,
        resources: ExitStack,
    ) -> None:
        weights = _channel_weights(decoded.name, decoded.info.channels, part.channel)
        self.info = decoded.info
        self.duration = _expected_duration(decoded.info.duration, part)
        self.samples_read = 0
        self.warnings = decoded.warnings
        self._decoded = decoded
        self._resources = resources
        self._target_rate, self._tuning = target_rate, tuning
        self._raises, self._gain = raises, 0.0
        self._mono = self._mixed(part, weights)
        self._blocks: Generator[Float32, None, None] | None = None

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *_: object) -> None:
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
        block = next(self._begun())
        self.samples_read += len(block)
        return block

    @property
    def tuning(self) -> float:
        """Cents by which the recording's A lies above 440 Hz. Asking for it reads what comes first, and may fail."""
        self._begun()
        return self._tuning or 0.0

    @property
    def gain(self) -> float:
        """Decibels by which the blocks are louder than the recording. As that."""
        self._begun()
        return self._gain

    @property
    def rate(self) -> float:
        """Samples for each second of the recording: more than the target rate where it is tuned high. As that."""
        return self._target_rate * ratio_of(self.tuning)

    def close(self) -> None:
        """Close what :func:`open_audio` opened; a file object given to it stays open."""
        if self._blocks is not None:
            self._blocks.close()
        self._resources.close()

    def _begun(self) -> Generator[Float32, None, None]:
        """The blocks. What is not known of how they are to be played is found out now, from what comes first."""
        if self._blocks is None:
            given = self._tuning
            if given is None or self._raises:
                self._blocks = self._listened(given)
            else:
                self._blocks = self._resampled(self._mono, given)
        return self._blocks

    def _listened(self, given: float | None) -> Generator[Float32, None, None]:
        """Those, once enough of them is heard."""
        held: list[Float32] = []  # as decoded, to be resampled again
        heard: list[Float32] = []
        blocks = self._resampled(self._remembered(held), given or 0.0)
        estimator = TuningEstimator(self._target_rate)
        for block in blocks:
            heard.append(_put_aside(block))
            estimator.push(block)
            if estimator.is_enough or (given is not None and estimator.loudness.is_enough):
                break
        found = estimator.finish()
        self._tuning = found if given is None else given
        if self._tuning == (given or 0.0):
            held.clear()
            blocks = _preceded(heard, blocks)
        else:
            blocks.close()
            blocks = self._resampled(_preceded(held, self._mono), self._tuning)
        if self._raises:
            self._gain = estimator.loudness.gain
        return _raised(blocks, self._gain) if self._gain else blocks

    def _remembered(self, held: list[Float32]) -> Iterator[Float32]:
        """What is decoded, which is held until the tuning is known."""
        second = round(self.info.sample_rate)
        for block in self._mono:
            if self._tuning is None:
                held += [_put_aside(block[i : i + second].copy()) for i in range(0, len(block), second)]
            yield block

    def _resampled(self, blocks: Iterator[Float32], tuning: float) -> Generator[Float32, None, None]:
        """Played at the target rate, A has 440 Hz."""
        return _resample(blocks, self.info.sample_rate, self._target_rate * ratio_of(tuning))

    def _mixed(self, part: Part, weights: Float32) -> Iterator[Float32]:
        decoded, rate = self._decoded, self.info.sample_rate
        if rate < MIN_FULL_RATE:
            self.warnings.append(f"sample rate {rate:g} Hz: frequencies above {rate / 2:g} Hz are missing")
        start = _frame(part.start, rate)
        stop = UNKNOWN_SIZE if part.end is None else max(start + 1, _frame(part.end, rate))
        used = np.flatnonzero(weights)
        mix = Mix(len(used), rate, start) if part.channel == "mix" and len(used) > 1 else None
        frames = clipped = over = 0
        loudest, loudness = 0.0, Loudness(rate)
        for whole in decoded.blocks(start, stop):
            block = whole if len(used) == whole.shape[1] else np.ascontiguousarray(whole[:, used])
            peak = _peak(block)
            if not peak <= MAX_SAMPLE:
                raise AudioError(self._bad_sample(block, start + frames))
            frames += len(block)
            if peak >= CLIPPED_LEVEL:
                flat, beyond = _flat_and_beyond(block)
                clipped, over = clipped + flat, over + beyond
            if len(used) == 1:
                mono = block[:, 0]
            elif mix:
                mono = mix.mono(block)
            else:
                mono = block @ weights[used]
                peak = _peak(mono)  # between channels that are the same there is nothing at the side
            loudest = max(loudest, peak)
            if len(mono):
                loudness.push(mono)
                yield mono
        decoded.verify()
        if start and not frames:
            raise AudioError(_nothing_left(decoded, part))
        if mix:
            if len(rest := mix.finish()):
                loudness.push(rest)
                yield rest
            if mix.warning:
                self.warnings.append(mix.warning)
        samples = frames * len(used)
        if not frames:
            self.warnings.append("no samples: there is a header but no audio")
        elif clipped > CLIPPED_SHARE * samples:
            share = clipped / samples
            self.warnings.append(f"clipped: {share:.1%} of the samples are cut off at full scale; expect false notes")
        elif over > CLIPPED_SHARE * samples:
            self.warnings.append(
                f"over full scale: {over / samples:.1%} of the samples; nothing is cut off here, but expect false notes"
                " if it was before"
            )
        elif loudest < INAUDIBLE:
            self.warnings.append("silence: there is nothing to hear")
        elif (level := loudness.level) < QUIET:
            lost = "notes may be missing" if level < LOST else "velocities are low"
            self.warnings.append(
                f"very quiet: its loudest tenth of a second is {-20 * math.log10(max(level, INAUDIBLE)):.0f} dB below"
                f" full scale; {lost}, so raise its level when it is recorded"
            )
        # Where damage ended it, the header knows better than the last sample that could be read.
        length = max(decoded.seconds, self.info.duration or 0)
        if frames and part.end is not None and decoded.position < stop and part.end - length >= 0.01:
            self.warnings.append(
                f"the recording ends at {_hundredths(length)} s, before the end asked for, {_hundredths(part.end)} s"
            )

    def _bad_sample(self, block: Float32, before: int) -> str:
        row, channel = np.argwhere(~(np.abs(block) <= MAX_SAMPLE))[0]
        index = before + int(row)
        return (
            f"{self._decoded.name}: sample {index} ({index / self.info.sample_rate:.3f} s) is {block[row, channel]:g}, "
            "not a valid value; export the file again as 16 or 24 bit"
        )


class Mix:
    """The mean of two or more channels, or one of the louder for each second in which they cancel each other.

    A channel that is silent beside the others is left out of the mean until the first second in which it is not: it
    would make them softer. It is not left out again, so there are few steps in level. Seconds are counted from the
    first sample on, so it does not matter in which blocks these come. Use either :meth:`mono` and :meth:`finish` or,
    where nobody can wait for a second to end, :meth:`prompt`.

    Parameters
    ----------
    channels : int
    rate : float
        In Hz.
    start : int
        Sample of the recording that comes first.
    """

    def __init__(self, channels: int, rate: float, start: int = 0) -> None:
        self._mean = np.full(channels, 1 / channels, np.float32)  # weights
        self._before = self._mean  # those that are faded out
        self._fade = self._faded = 0  # samples that this takes, and took so far
        self._sounded = np.zeros(channels, bool)
        self._loudest = 0.0  # mean square of a channel so far
        self._second = min(round(rate), BLOCK_VALUES // channels)
        self._rate, self._start = rate, start
        self._held = np.zeros((0, channels), np.float32)  # less than a second
        self._heard, self._filled = self._held, 0  # what :meth:`prompt` has been given of this second
        self._position = 0  # samples mixed so far
        self._cancels = False  # whether the channels do, in the last second
        self._louder = 0
        self._first: int | None = None  # sample from which on they did
        self._replaced, self._used = 0, set[int]()

    def mono(self, block: Float32) -> Float32:
        """All whole seconds so far that were not given yet."""
        held = np.concatenate([self._held, block]) if len(self._held) else block
        whole = len(held) - len(held) % self._second
        self._held = held[whole:].copy()
        return self._mixed(held[:whole])

    def finish(self) -> Float32:
        """The rest."""
        return self._mixed(self._held)

    def prompt(self, block: Float32) -> Float32:
        """The block, at once: each second is mixed as the one before it ought to have been."""
        if not len(self._heard):
            self._heard = np.empty((self._second, block.shape[1]), np.float32)
        mono, done = np.empty(len(block), np.float32), 0
        while done < len(block):
            piece = block[done : done + self._second - self._filled]
            mono[done : done + len(piece)] = self._taken(piece, piece @ self._mean)
            self._heard[self._filled : self._filled + len(piece)] = piece
            self._filled, done = self._filled + len(piece), done + len(piece)
            if self._filled == self._second:
                self._judge(self._heard)
                self._filled = 0
        return mono

    @property
    def warning(self) -> str | None:
        """Where the channels cancelled each other so far; None if nowhere."""
        if self._first is None:
            return None
        return (
            f"opposite phase: for {_hundredths(self._replaced / self._rate)} s, first at"
            f" {_hundredths((self._start + self._first) / self._rate)} s, the channels cancel each other when"
            f" mixed to mono, so only channel {' or '.join(str(c + 1) for c in sorted(self._used))} was used there;"
            " if that is the wrong one, choose another channel"
        )

    def _mixed(self, block: Float32) -> Float32:
        mono = np.empty(len(block), np.float32)
        for first in range(0, len(block), self._second):
            second = block[first : first + self._second]
            mono[first : first + len(second)] = self._one(second)
        return mono

    def _one(self, second: Float32) -> Float32:
        # A few samples may cancel each other by chance, so a short rest is taken like what comes before it.
        judged = 2 * len(second) >= self._second or not self._position
        return self._taken(second, self._judge(second) if judged else second @ self._mean)

    def _judge(self, second: Float32) -> Float32:
        """Find out how to mix this second; its mean."""
        energy = np.array([float(channel @ channel) for channel in second.T])
        self._leave_out_silent(energy / len(second))
        mono = second @ self._mean
        energy[self._mean == 0] = 0
        # From a second to the next it must not go to and fro.
        limit = 3 * CANCELLED if self._cancels else CANCELLED
        self._cancels = _cancels(float(mono @ mono), energy[self._mean > 0], limit) and _peak(second) > SILENCE
        if self._cancels and (self._first is None or energy[self._louder] < energy.max() / 2):
            self._louder = int(np.argmax(energy))
        return mono

    def _leave_out_silent(self, power: NDArray[np.float64]) -> None:
        self._loudest = max(self._loudest, float(power.max()))
        if self._loudest < FLOOR:  # noise, maybe, and others may fade in
            return
        self._sounded |= power >= max(UNUSED * self._loudest, FLOOR / 10)
        used, count = np.count_nonzero(self._mean), np.count_nonzero(self._sounded)
        if used == count:
            return
        self._before, self._mean = self._mean, (self._sounded / count).astype(np.float32)
        # What :meth:`prompt` has given softer must not become louder in a moment: that would be an onset.
        fade = self._second if count < used and self._filled else int(FADE_SECONDS * self._rate)
        self._fade, self._faded = fade if self._position else 0, 0

    def _taken(self, samples: Float32, mono: Float32) -> Float32:
        """What these samples become, of which this is the mean."""
        if (left := min(self._fade - self._faded, len(samples))) > 0:
            share = np.arange(self._faded, self._faded + left, dtype=np.float32) / np.float32(self._fade)
            mono[:left] += (1 - share) * (samples[:left] @ (self._before - self._mean))
            self._faded += left
        if self._cancels:
            mono = samples[:, self._louder]
            self._first = self._position if self._first is None else self._first
            self._replaced += len(samples)
            self._used.add(self._louder)
        self._position += len(samples)
        return mono


def _channel_weights(name: str, channels: int, channel: str | int) -> Float32:
    """What each channel contributes to the mono signal, shape (channels,)."""
    weights = np.zeros(channels, np.float32)
    if channel == "mix":
        weights[:] = 1 / channels
    elif isinstance(channel, int):
        if channel > channels:
            count, choice = ("1 channel", "1") if channels == 1 else (f"{channels} channels", f"1 to {channels}")
            raise AudioError(f"{name}: has {count}, so there is no channel {channel}; use channel {choice}")
        weights[channel - 1] = 1
    elif channels > 1:
        weights[:2] = {"left": (1, 0), "right": (0, 1), "mid": (0.5, 0.5), "side": (0.5, -0.5)}[channel]
    elif channel == "side":
        raise AudioError(f"{name}: is mono, so there is no side signal; use channel mix")
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
    return f"{decoded.name}: {length}, so nothing is left from {start} s on; choose an earlier start"


def _frame(seconds: float, rate: float) -> int:
    return round(min(seconds * rate, UNKNOWN_SIZE))


def _hundredths(seconds: float) -> str:
    return f"{round(seconds, 2):.12g}"


def _peak(block: Float32) -> float:
    """Largest absolute value; NaN if there is one. Without a copy of the block."""
    return float(np.maximum(block.max(), -block.min()))


def _flat_and_beyond(block: Float32) -> tuple[int, int]:
    """How many samples are in a flat run of three or more at full scale or above; how many are above full scale."""
    size = np.abs(block)
    equal = (block[1:] == block[:-1]) & (size[1:] >= CLIPPED_LEVEL)
    return int(np.count_nonzero(equal[1:] & equal[:-1])), int(np.count_nonzero(size > 1))


def _cancels(mixed_energy: float, energy: NDArray[np.float64], limit: float) -> bool:
    # The mean of n unrelated channels has 1/n of their mean energy.
    return mixed_energy * len(energy) < limit * float(energy.mean())


def _preceded(first: list[Float32], rest: Iterator[Float32]) -> Generator[Float32, None, None]:
    """Blocks that are let go of one by one, and those after them."""
    while first:
        yield np.ascontiguousarray(first.pop(0))
    yield from rest


def _put_aside(block: Float32) -> Float32:
    """The same; of silence, which may last for hours, no more than its length."""
    return block if block.any() else np.broadcast_to(np.float32(0), block.shape)


def _raised(blocks: Iterable[Float32], gain: float) -> Generator[Float32, None, None]:
    """Blocks that are so many decibels louder."""
    factor = np.float32(10 ** (gain / 20))
    for block in blocks:
        yield block * factor


def _resample(blocks: Iterator[Float32], rate: float, target_rate: float) -> Generator[Float32, None, None]:
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
def _resampler(rate: float, target_rate: float) -> Iterator[Any]:
    """The resampler last used, if it had these rates, or a new one: its filter takes as long as seconds of sound."""
    key = rate, target_rate
    resampler = _spare.pop(key, None) or new_resampler(rate, target_rate)
    try:
        yield resampler
    finally:
        resampler.clear()
        _spare.clear()  # one is enough, and there may be files of any rate
        _spare[key] = resampler


def new_resampler(rate: float, target_rate: float) -> Any:
    """A stream of mono float32 from one rate to another; soxr's ``ResampleStream``."""
    import soxr

    return soxr.ResampleStream(rate, target_rate, 1, dtype="float32")


_spare: dict[tuple[float, float], Any] = {}  # idle resamplers


def open_audio(
    source: Source,
    sample_rate: float | None = None,
    *,
    target_rate: int,
    part: Part | None = None,
    tuning: float | None = 0.0,
    raises: bool = False,
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
        of its channels, but for silent ones, if omitted. ``left``, ``right`` and ``mid`` of a mono recording are its
        one channel; of more than two channels, ``left`` and ``right`` are the first two.
    tuning : float, optional
        Cents by which the recording's A lies above 440 Hz, which the blocks, played at ``target_rate``, make up for;
        their time runs slower or faster then. None finds it out from the first seconds.
    raises : bool
        Whether a faint recording is made louder, by what comes first, so that the model hears it; by 40 dB at most.

    Returns
    -------
    AudioStream
        Yields float32 blocks of shape (samples,). Times in its warnings and errors are those of the recording.

    Raises
    ------
    AudioError
        If the recording cannot be read, or lacks the channel.
    UsageError
        If ``sample_rate`` is missing with an array or given with a file, or the array or file object is not audio.
    """
    resources = ExitStack()
    with ExitStack() as on_error:
        on_error.enter_context(resources)
        decoded = _open(source, sample_rate, resources)
        stream = AudioStream(decoded, target_rate, part or Part(), tuning, raises, resources)
        on_error.pop_all()
        return stream


def probe(source: StrPath | BinaryFile) -> AudioInfo:
    """Read only the header. Parameters and errors as :func:`open_audio`."""
    with ExitStack() as resources:
        return _open(source, None, resources).info


def _open(source: Source, sample_rate: float | None, resources: ExitStack) -> Decoded:
    if isinstance(source, np.ndarray):
        check_unmasked("array", source)
        return _decode_array(np.asarray(source), sample_rate)  # a subclass may reckon in another way
    if not (isinstance(source, (str, os.PathLike)) or hasattr(source, "read")):
        wrapped = " (of bytes, io.BytesIO)" if isinstance(source, (bytes, bytearray, memoryview)) else ""
        raise UsageError(
            f"cannot read {type(source).__name__}: give a path, a binary file object{wrapped} or a numpy array"
        )
    if sample_rate is not None:
        raise UsageError("sample_rate belongs to an array only; a file has its own")
    if isinstance(source, (str, os.PathLike)):
        name, file, verify = _open_path(os.fspath(source), resources)
        return decode(name, file, verify, resources)
    name = printable(getattr(source, "name", "") or "audio")
    return decode(name, _seekable(name, source, resources), lambda: None, resources)


def _open_path(path: str, resources: ExitStack) -> tuple[str, BinaryIO, Callable[[], None]]:
    name = printable(path)
    try:
        mode = os.stat(path).st_mode  # before open, which would wait for a pipe's writer
        if stat.S_ISDIR(mode):
            raise AudioError(f"{name}: is a folder, not a recording; give a file in it")
        if not stat.S_ISREG(mode):
            raise AudioError(f"{name}: is a pipe or device, not a file; save its contents as a file")
        # libsndfile gets an open file, never a name: names may hold bytes it cannot take.
        file = resources.enter_context(open(path, "rb"))  # noqa: SIM115
    except FileNotFoundError as error:
        raise AudioError(f"{name}: no such file; check the path") from error
    except PermissionError as error:
        raise AudioError(f"{name}: permission denied; make it readable") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        if is_timers(error):
            raise
        raise AudioError(f"{name}: cannot be opened: {reason(error)}; check the path") from error
    before = os.fstat(file.fileno())

    def verify() -> None:
        after = os.fstat(file.fileno())
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise AudioError(f"{name}: changed while it was read; run again when it is complete")

    return name, file, verify


def _seekable(name: str, file: BinaryFile, resources: ExitStack) -> BinaryIO:
    """The file, or a temporary copy of what a pipe delivers, or anything else that can only be read."""

    def read(size: int) -> bytes:
        with reading(name):
            return file.read(size)

    if getattr(file, "closed", False):
        raise UsageError(f"{name}: the file object is closed; open it again")
    nothing = read(0)
    if isinstance(nothing, str):
        raise UsageError(f"{name}: the file object yields text; open it in binary mode")
    if not isinstance(nothing, bytes):
        raise UsageError(f"{name}: read() gives {type(nothing).__name__}; give a file object whose read() gives bytes")
    with suppress(AttributeError):  # it may have no such method, or hold a file that has none, as tarfile's streams
        if file.seekable():
            return cast(BinaryIO, file)
    spool = resources.enter_context(tempfile.SpooledTemporaryFile(SPOOL_BYTES))  # noqa: SIM115
    while piece := read(SPOOL_PIECE):
        try:
            spool.write(piece)
        except OSError as error:
            if is_timers(error):
                raise
            raise AudioError(f"{name}: cannot be copied to a temporary file: {reason(error)}; set TMPDIR") from error
    return cast(BinaryIO, spool)


def check_unmasked(name: str, samples: object) -> None:
    """Refuse masked values: what is under the mask would be heard.

    Raises
    ------
    UsageError
        With the name of the argument.
    """
    if np.ma.is_masked(samples):
        raise UsageError(f"{name} has masked values, which no sample can be; give {name}.filled(0)")


def check_dtype(name: str, samples: NDArray[Any]) -> None:
    """Refuse an array of what are no samples.

    Raises
    ------
    UsageError
        If it holds neither floats nor integers as sound files have them.
    """
    dtype = samples.dtype
    if dtype.kind != "f" and (dtype.kind, dtype.itemsize) not in (("u", 1), ("i", 1), ("i", 2), ("i", 4)):
        raise UsageError(f"{name} of {dtype}; convert it to float with full scale 1.0, uint8, int16 or int32")


def check_shape(name: str, samples: NDArray[Any]) -> None:
    """Refuse an array of shape (samples, channels) that can hardly be meant like that.

    Raises
    ------
    UsageError
        If there is no channel, or there are more channels than samples.
    """
    frames, channels = samples.shape
    if not channels:
        raise UsageError(f"{name} of shape {samples.shape} has no channels; give (samples,) or (samples, channels)")
    if channels > 2 and 0 < frames < channels:
        raise UsageError(
            f"{name} of shape {samples.shape} has more channels than samples; give its transpose, {name}.T"
        )


def _decode_array(array: NDArray[Any], sample_rate: float | None) -> Decoded:
    if sample_rate is None:
        raise UsageError("an array needs its sample_rate in Hz")
    sample_rate = number("sample_rate", sample_rate)
    if array.ndim not in (1, 2):
        raise UsageError(f"array of shape {array.shape}; it must be (samples,) or (samples, channels)")
    check_dtype("array", array)
    samples = array[:, None] if array.ndim == 1 else array
    frames, channels = samples.shape
    check_shape("array", samples)
    check_format("array", sample_rate, channels, UsageError)
    decoded = Decoded("array", AudioInfo(sample_rate, channels, frames / sample_rate, "array"))

    def blocks(start: int, stop: int) -> Iterator[Float32]:
        decoded.position = min(start, frames)
        while decoded.position < min(stop, frames):
            block = samples[decoded.position : decoded.position + decoded.block_frames]
            yield to_float(decoded.advance(block, start, stop))

    decoded.blocks = blocks
    return decoded
