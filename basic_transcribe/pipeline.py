"""Composes the rooms: audio, model, note tracker. The one place that knows their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from . import audio
from .model import Model
from .notes import NoteTracker
from .types import MidiSettings, Note, Posteriors, TrackerSettings

if TYPE_CHECKING:
    import numpy as np
    import pretty_midi
    from numpy.typing import NDArray

Source = str | Path | BinaryIO


@dataclass(frozen=True, slots=True)
class Transcription:
    """The notes of one recording.

    Attributes
    ----------
    notes : tuple of Note
        Sorted by onset, then pitch.
    duration : float
        Length of the recording in seconds.
    settings : TrackerSettings
        What was used, model defaults filled in.
    warnings : tuple of str
        What a careful listener should know: clipping, truncation, missing bandwidth.
    model : str
        Name and version of the model.
    posteriors : Posteriors or None
        Kept only when asked for.
    """

    notes: tuple[Note, ...]
    duration: float
    settings: TrackerSettings
    warnings: tuple[str, ...]
    model: str
    posteriors: Posteriors | None = None

    def to_midi(self, settings: MidiSettings | None = None) -> pretty_midi.PrettyMIDI:
        """The notes as a :class:`pretty_midi.PrettyMIDI`."""
        from .midi import to_midi

        return to_midi(self.notes, settings or MidiSettings()).midi


class Transcriber:
    """A loaded model, for as many recordings as you like.

    Parameters
    ----------
    model : str or Path, optional
        ONNX file; the one shipped with the package if omitted.
    threads : int, optional
        Threads of ONNX Runtime; all the process may use if omitted.

    Raises
    ------
    ModelError
        If the model cannot be loaded.
    """

    def __init__(self, model: str | Path | None = None, *, threads: int | None = None) -> None:
        self.model = Model(model, threads=threads)

    def transcribe(
        self,
        source: Source | NDArray[np.floating],
        sample_rate: float | None = None,
        *,
        settings: TrackerSettings | None = None,
        keep_posteriors: bool = False,
        progress: Callable[[float, float | None], None] | None = None,
    ) -> Transcription:
        """Transcribe one recording.

        Parameters
        ----------
        source : path, binary file object or ndarray
            An array has shape (samples,) or (samples, channels), full scale 1.0, and needs ``sample_rate``.
        sample_rate : float, optional
            Hz; only with an array.
        settings : TrackerSettings, optional
            Thresholds and ranges; the model's own where omitted.
        keep_posteriors : bool
            Keep the model's outputs, so that :func:`track_notes` can run on them again.
        progress : callable, optional
            Called with the seconds transcribed so far, and the seconds expected (None if the file does not say).

        Returns
        -------
        Transcription

        Raises
        ------
        AudioError
            If the recording cannot be read.
        UsageError
            If ``sample_rate`` is missing with an array, or given with a file.
        """
        resolved = (settings or TrackerSettings()).resolved(self.model.defaults)
        rate = self.model.sample_rate
        with audio.open_audio(source, sample_rate, target_rate=rate) as stream:
            tracker = NoteTracker(resolved)
            notes: list[Note] = []
            kept: list[Posteriors] = []
            for block in self.model.posteriors(stream):
                notes += tracker.push(block)
                if keep_posteriors:
                    kept.append(block)
                if progress:
                    progress(min(stream.samples_read / rate, tracker.seconds), stream.duration)
            duration = stream.samples_read / rate
            notes += tracker.flush(duration)
            warnings = tuple(stream.warnings)
        notes.sort(key=lambda n: (n.onset, n.pitch))
        return Transcription(
            tuple(notes), duration, resolved, warnings, self.model.name, Posteriors.concatenate(kept) if kept else None
        )


def transcribe(
    source: Source | NDArray[np.floating],
    sample_rate: float | None = None,
    *,
    settings: TrackerSettings | None = None,
    keep_posteriors: bool = False,
) -> Transcription:
    """Transcribe one recording with the shipped model.

    The model is loaded anew on every call; for many recordings keep a :class:`Transcriber`.
    Parameters, returns and errors as :meth:`Transcriber.transcribe`.
    """
    return Transcriber().transcribe(source, sample_rate, settings=settings, keep_posteriors=keep_posteriors)
