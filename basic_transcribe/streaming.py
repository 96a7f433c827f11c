"""Notes while the sound still arrives: what :mod:`.pipeline` does with a recording, done chunk by chunk."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .audio import MAX_SAMPLE, new_resampler
from .decoders import check_format
from .errors import AudioError, UsageError
from .model import Model
from .tracking import prompt_tracker
from .types import Float32, Note, TrackerSettings

BLOCK_SECONDS = 0.046  # half of it would double the work, and answer 23 ms sooner


class StreamingTranscriber:
    """Takes sound in chunks of any length, gives notes as soon as they are known.

    All notes together, once flushed, are those that :class:`~basic_transcribe.pipeline.Transcriber` finds in the whole
    recording if it is told the same of ``monophonic``, but for the few that the rounding of short blocks decides. The
    memory used does not depend on its length.

    Parameters
    ----------
    sample_rate : float
        Of the chunks, in Hz, 1,000 to 768,000.
    model : Model, str or Path, optional
        A loaded model, which several transcribers may share, or an ONNX file; the one shipped with the package if
        omitted.
    settings : TrackerSettings, optional
        Thresholds and ranges; the model's own where omitted. All notes are looked for unless ``monophonic`` is true: to
        find out would take seconds. A line is decided some seconds late.
    block_seconds : float
        Sound that the model is run on at once. Shorter blocks answer sooner and cost more. From 0.4 s on the notes are
        the same; in shorter ones the model rounds a little otherwise, which may add, drop or move one now and then.

    Raises
    ------
    ModelError
        If the model cannot be loaded.
    UsageError
        If the sample rate is out of range.

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
        check_format("stream", sample_rate, 1, UsageError)
        self.model = model if isinstance(model, Model) else Model(model)
        self.sample_rate = sample_rate
        self.settings = (settings or TrackerSettings()).resolved(self.model.defaults)
        self._resampler = _resampler(sample_rate, self.model.sample_rate)
        self._feed = self.model.feed(block_seconds)
        self._tracker = prompt_tracker(self.settings)
        self._taken = 0  # samples, at the given rate
        self._samples = 0  # at the model's rate
        self._flushed = False

    @property
    def latency(self) -> float:
        """Longest time from the onset of a note until it is among :attr:`sounding`, in seconds.

        It is what the resampler, the model and the note tracker must have heard after the onset to be sure of it. The
        length of the chunks and the time for computing come on top.
        """
        samples = self._tracker.lookahead * self.model.hop + self._feed.latency
        delay = (self.settings.onset_delay or 0.0) / 1000
        return _resampling_delay(self.sample_rate, self.model.sample_rate) + samples / self.model.sample_rate - delay

    @property
    def seconds(self) -> float:
        """Time up to which all onsets are known, at most the length of the recording so far."""
        return min(self._tracker.seconds, self._samples / self.model.sample_rate)

    @property
    def sounding(self) -> list[Note]:
        """The notes that have begun and are not finished, in order of onset.

        Onset, pitch and velocity are final. ``offset`` is the time up to which the note is known to sound, ``bend`` is
        None. One that turns out to be shorter than the shortest note kept disappears without being finished.
        """
        return sorted(self._tracker.sounding, key=lambda n: (n.onset, n.pitch))

    def push(self, samples: NDArray[np.floating[Any]]) -> list[Note]:
        """Take the next samples; return the notes that are finished by them.

        Parameters
        ----------
        samples : ndarray of float, shape (n,) or (n, channels)
            Full scale 1.0. Channels are mixed to their mean.

        Returns
        -------
        list of Note
            In order of their ends.

        Raises
        ------
        AudioError
            If a sample is not a finite number of reasonable size. The stream can go on without that chunk.
        UsageError
            If the array is no audio, or the recording has been flushed.
        """
        self._check_open()
        mono = self._mono(samples)
        self._taken += len(mono)
        return self._track(mono)

    def flush(self) -> list[Note]:
        """The recording is over: return the notes that are not finished. Nothing can be pushed afterwards.

        Raises
        ------
        UsageError
            If it has been flushed before.
        """
        self._check_open()
        self._flushed = True
        notes = self._track(np.zeros(0, np.float32), last=True)
        for posteriors in self._feed.flush():
            notes += self._tracker.push(posteriors)
        return notes + self._tracker.flush(self._samples / self.model.sample_rate)

    def _track(self, mono: Float32, *, last: bool = False) -> list[Note]:
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono, last=last)
        self._samples += len(mono)
        return [note for posteriors in self._feed.push(mono) for note in self._tracker.push(posteriors)]

    def _check_open(self) -> None:
        if self._flushed:
            raise UsageError("the stream has been flushed; make a new StreamingTranscriber for the next recording")

    def _mono(self, samples: NDArray[np.floating[Any]]) -> Float32:
        if samples.dtype.kind != "f" or samples.ndim not in (1, 2) or 0 in samples.shape[1:]:
            raise UsageError(
                f"a chunk of {samples.dtype}, shape {samples.shape}; give floats of full scale 1.0, shape (samples,) or"
                " (samples, channels)"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes Inf, and is refused
            floats = samples.astype(np.float32, copy=False)
        bad = ~(np.abs(floats) <= MAX_SAMPLE)
        if bad.any():
            place = tuple(np.argwhere(bad)[0])
            raise AudioError(
                f"sample {self._taken + int(place[0])} of the stream is {samples[place]:g}, not a valid value; leave"
                " the chunk out"
            )
        if floats.ndim == 1:
            return floats
        channels = floats.shape[1]
        return floats[:, 0] if channels == 1 else floats @ np.full(channels, 1 / channels, np.float32)


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
