"""Notes while the sound still arrives: what :mod:`.pipeline` does with a recording, done chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .audio import MAX_SAMPLE, Mix, check_dtype, check_shape, check_unmasked, new_resampler
from .decoders import check_format, to_float
from .errors import AudioError, UsageError
from .model import Cutter, Model, Window
from .tracking import prompt_tracker
from .tuning import CONCERT_PITCH, TuningEstimator, cents_of, ratio_of
from .types import Float32, Note, TrackerSettings, check_class, ignoring_underflow, number, path_of

BLOCK_SECONDS = 0.046  # four frames: the shipped model takes no fewer at once
LONGEST_BLOCK = 60.0  # seconds
NOTHING = np.zeros(0, np.float32)


class StreamingTranscriber:
    """Takes sound in chunks of any length, gives notes as soon as they are known.

    All notes together, once flushed, are those that :class:`~basic_transcribe.pipeline.Transcriber` finds in the whole
    recording if it is told the same of ``monophonic`` and ``tuning``, and that is not faint, but for the few that the
    rounding of short blocks decides, and those of the second in which channels begin or cease to cancel each other or
    one begins to sound, which is noticed at its end, and of the one after. The memory used does not depend on its
    length.

    Parameters
    ----------
    sample_rate : float
        Of the chunks, in Hz, 1,000 to 768,000.
    model : Model, str or Path, optional
        A loaded model, which several transcribers may share, or an ONNX file; the one shipped with the package if
        omitted.
    settings : TrackerSettings, optional
        Thresholds and ranges; the model's own where omitted. All notes are looked for unless ``monophonic`` is true,
        and A has 440 Hz unless ``tuning`` says otherwise: to find out would take seconds. A line is decided some
        seconds late.
    block_seconds : float
        Sound that the model is run on at once, up to 60 s. Shorter blocks answer sooner and cost more. From 0.4 s on
        the notes are the same; in shorter ones the model rounds a little otherwise, which may add, drop or move one now
        and then.

    Raises
    ------
    ModelError
        If the model cannot be loaded.
    UsageError
        If the sample rate or the length of blocks is out of range, or an argument is of another kind.

    Examples
    --------
    >>> transcriber = StreamingTranscriber(44100)  # doctest: +SKIP
    >>> for chunk in chunks:  # doctest: +SKIP
    ...     finished, held = transcriber.push(chunk), transcriber.sounding
    >>> finished = transcriber.flush()  # doctest: +SKIP
    """

    def __init__(
        self,
        sample_rate: float,
        model: Model | str | Path | None = None,
        *,
        settings: TrackerSettings | None = None,
        block_seconds: float = BLOCK_SECONDS,
    ) -> None:
        sample_rate = number("sample_rate", sample_rate)
        check_format("stream", sample_rate, 1, UsageError)
        block_seconds = number("block_seconds", block_seconds)
        if not 0 < block_seconds <= LONGEST_BLOCK:
            raise UsageError(f"block_seconds is {block_seconds} s; it must be positive, and at most {LONGEST_BLOCK:g}")
        check_class("settings", settings, TrackerSettings)
        if not (model is None or isinstance(model, Model)):
            model = path_of("model", model, "a path, or the .model of a Transcriber")
        self.model = model if isinstance(model, Model) else Model(model)
        self.sample_rate = sample_rate
        self.settings = (settings or TrackerSettings()).resolved(self.model.defaults)
        self._tuning = cents_of(self.settings.tuning or CONCERT_PITCH)
        self._rate = self.model.sample_rate * ratio_of(self._tuning)  # what the model hears for each second
        self._resampler = _resampler(sample_rate, self._rate)
        self._cutter = Cutter(self.model, self.model.frames_of(block_seconds))
        self._tracker = prompt_tracker(self.settings)
        self._estimator = TuningEstimator(self._rate) if self.settings.tuning is None else None
        self._found_tuning = 0.0
        self._taken = 0  # samples, at the given rate
        self._samples = 0  # that the model has heard
        self._channels: int | None = None  # those of the first chunk
        self._mix: Mix | None = None
        self._closed = ""  # why nothing can be pushed

    def __reduce__(self) -> NoReturn:
        raise TypeError("a StreamingTranscriber cannot be copied or sent to another process; make a new one there")

    @property
    def latency(self) -> float:
        """Longest time from the onset of a note until it is among :attr:`sounding`, in seconds.

        It is what the resampler, the model and the note tracker must have heard after the onset to be sure of it. The
        length of the chunks and the time for computing come on top, and of a note that swells without an onset the time
        until it has been clear for half a second.
        """
        samples = self._tracker.lookahead * self.model.hop + self._cutter.latency
        delay = (self.settings.onset_delay or 0.0) / 1000
        return _resampling_delay(self.sample_rate, self._rate) + samples / self._rate - delay

    @property
    def seconds(self) -> float:
        """Time up to which all onsets are known, at most the length of the recording so far.

        Notes that swell without an onset may still begin up to a second before it.
        """
        return min(self._tracker.seconds, self._samples / self._rate)

    @property
    def sounding(self) -> list[Note]:
        """The notes that have begun and are not finished, in order of onset.

        Onset, pitch and velocity are final. ``offset`` is the time up to which the note is known to sound, ``bend`` is
        None. One that turns out to be shorter than the shortest note kept disappears without being finished.
        """
        return sorted(self._tracker.sounding, key=lambda n: (n.onset, n.pitch))

    @property
    def found_tuning(self) -> float:
        """Cents by which the A of the music lies above 440 Hz, though it is heard as if it did not.

        To hear it as it is, give ``TrackerSettings(tuning=...)`` its A in Hz. 0 if less than 12, if the settings say
        how it is tuned, and until half a minute of music, two where that leaves a doubt, or the end has been heard.
        """
        return self._found_tuning

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a careful listener should know so far: where the channels cancelled each other."""
        warning = self._mix and self._mix.warning
        return (warning,) if warning else ()

    @ignoring_underflow
    def push(self, samples: NDArray[Any]) -> list[Note]:
        """Take the next samples; return the notes that are finished by them. One thread at a time may push.

        Parameters
        ----------
        samples : ndarray of float, uint8, int8, int16 or int32, shape (n,) or (n, channels)
            Floats have full scale 1.0. All chunks have the same channels, 64 at most, and the first one at least as
            many samples if they are more than two. They are mixed to their mean; where they cancel each other, the
            louder is used from the next second on, and a silent one is left out from then on until it sounds.

        Returns
        -------
        list of Note
            Those that have ended, in no particular order.

        Raises
        ------
        AudioError
            If a sample is not a finite number of reasonable size. The stream can go on without that chunk.
        UsageError
            If the array is no audio, or has not the channels of those before: the stream can go on without it, too. Or
            if the recording has been flushed.
        ModelError
            If the model fails, for want of memory say. After this or an interruption part of the chunk is lost, so
            nothing can be pushed any more.
        """
        self._check_open()
        floats = self._checked(samples)
        self._closed = "a chunk was broken off, and part of its sound is lost"
        self._taken += len(floats)
        notes = self._track(self._mixed(floats))
        self._closed = ""
        return notes

    @ignoring_underflow
    def flush(self) -> list[Note]:
        """The recording is over: return the notes that are not finished. Nothing can be pushed afterwards.

        Raises
        ------
        UsageError
            If it has been flushed before.
        ModelError
            If the model fails.
        """
        self._check_open()
        self._closed = "the stream has been flushed"
        notes = self._track(NOTHING, last=True)
        self._listen(last=True)
        notes += self._notes(self._cutter.flush())
        return notes + self._tracker.flush(self._samples / self._rate)

    def _track(self, mono: Float32, *, last: bool = False) -> list[Note]:
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono, last=last)
        self._samples += len(mono)
        self._listen(mono)
        return self._notes(self._cutter.push(mono))

    def _listen(self, mono: Float32 = NOTHING, *, last: bool = False) -> None:
        """Find out how the music is tuned."""
        if self._estimator is None:
            return
        self._estimator.push(mono)
        if last or self._estimator.is_enough:
            self._found_tuning, self._estimator = self._estimator.finish(), None

    def _notes(self, windows: Iterable[Window]) -> list[Note]:
        blocks = (self.model.run_window(window).tuned(self._tuning) for window in windows)
        return [note for block in blocks for note in self._tracker.push(block)]

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"{self._closed}; make a new StreamingTranscriber")

    def _checked(self, samples: NDArray[Any]) -> Float32:
        """The samples, shape (n, channels). What raises here leaves the stream as it was."""
        check_unmasked("chunk", samples)
        samples = np.asarray(samples)
        check_dtype("chunk", samples)
        if samples.ndim not in (1, 2) or 0 in samples.shape[1:]:
            raise UsageError(f"chunk of shape {samples.shape}; it must be (samples,) or (samples, channels)")
        frames = samples[:, None] if samples.ndim == 1 else samples
        self._check_channels(frames)
        floats = to_float(frames)
        bad = ~(np.abs(floats) <= MAX_SAMPLE)
        if bad.any():
            row, channel = np.argwhere(bad)[0]
            raise AudioError(
                f"sample {self._taken + int(row)} of the stream is {frames[row, channel]:g}, not a valid value; leave"
                " the chunk out"
            )
        return floats

    def _mixed(self, floats: Float32) -> Float32:
        if not len(floats):
            return np.zeros(0, np.float32)
        if self._channels is None:
            self._channels = floats.shape[1]
            self._mix = Mix(self._channels, self.sample_rate) if self._channels > 1 else None
        return self._mix.prompt(floats) if self._mix else floats[:, 0]

    def _check_channels(self, frames: NDArray[Any]) -> None:
        if self._channels is None or not len(frames):
            check_shape("chunk", frames)
            check_format("chunk", self.sample_rate, frames.shape[1], UsageError)
        elif frames.shape[1] != self._channels:
            raise UsageError(
                f"chunk of shape {frames.shape}, {self._channels} channels before; give (samples, {self._channels})"
            )


def _resampler(rate: float, target: float) -> Any:
    """A stream that resamples, None if there is nothing to do."""
    return None if rate == target else new_resampler(rate, target)


@cache
def _resampling_delay(rate: float, target: float) -> float:
    """Longest time that a sample waits in the resampler, in seconds, seen in a second of silence."""
    resampler = _resampler(rate, target)
    if resampler is None:
        return 0.0
    chunk = np.zeros(max(1, round(rate / 1000)), np.float32)
    longest, taken, given = 0.0, 0, 0
    while taken < rate:
        taken += len(chunk)
        longest = max(longest, taken / rate - given / target)
        given += len(resampler.resample_chunk(chunk))
    return longest
