"""Composes the rooms: audio, model, note tracker. The one place that knows their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import audio
from .audio import Source
from .errors import UsageError
from .model import Model
from .notelist import NoteList
from .tracking import tracker_for
from .tuning import cents_of
from .types import (
    Beats,
    BeatSettings,
    Float32,
    Key,
    Marker,
    MidiSettings,
    Note,
    Part,
    Posteriors,
    TrackerSettings,
    check_class,
    ignoring_underflow,
    unfit,
    whole,
)

if TYPE_CHECKING:
    import pretty_midi

    from .midi import MidiResult
    from .shaping import ShapeSettings
    from .timing import OnsetEnvelope

NO_BEAT = "no beat was found; the tempo is a fixed one"
NO_BAR = "no bar begins at {:g} s, as none was found; give a part of the recording that begins there"
MET = "{} of {} notes came to the same place of the grid as {}"
MANY = 0.05  # share of the notes that a grid may put with others played before them, unsaid
OUT_OF_RANGE = "no notes {}, where alone they were looked for; widen the range if there should be any"
OTHER_TUNING = "the posteriors were made with another tuning, which stays; give the recording instead"


@dataclass(frozen=True, slots=True)
class Transcription:
    """The notes of one recording.

    Attributes
    ----------
    notes : sequence of Note
        Sorted by onset, then pitch. Each note is made when it is asked for, since a long recording has many.
    duration : float
        Length of the recording, or of the part of it that was transcribed, in seconds.
    settings : TrackerSettings
        What was used, model defaults filled in.
    warnings : tuple of str
        What a careful listener should know: clipping, truncation, missing bandwidth.
    model : str
        Name and version of the model.
    posteriors : Posteriors or None
        Kept only when asked for.
    beats : Beats or None
        Looked for only when asked for; None also where there is no pulse.
    markers : tuple of Marker
        Remarks on notes, by :meth:`shaped`, sorted by time.
    line : bool
        Whether it was followed as a single line: since the settings ask for that, or since it is a voice alone.
    tuning : float
        Cents by which its A lies above 440 Hz: as the settings say, or as was found, then 0 if less than 12. Notes are
        named by this tuning; their bends count from 440 Hz.
    """

    notes: Sequence[Note]
    duration: float
    settings: TrackerSettings
    warnings: tuple[str, ...]
    model: str
    posteriors: Posteriors | None = None
    beats: Beats | None = None
    markers: tuple[Marker, ...] = ()
    line: bool = False
    tuning: float = 0.0

    __hash__ = None  # type: ignore[assignment]  # nor have its notes one

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.duration:.2f} s: {len(self.notes)} notes by {self.model}>"

    @property
    def key(self) -> Key | None:
        """The likeliest key; None without notes."""
        from .keys import estimate_key

        return estimate_key(self.notes)

    def shaped(self, settings: ShapeSettings, beats: Beats | None = None) -> Transcription:
        """The same with other notes: merged, thinned, moved to a scale or a grid. See :class:`ShapeSettings`.

        Markers go whose notes it leaves out, or gives another onset or pitch. How many notes of a pitch became one on
        the grid, and how many came to the place of others if they are many, is told by the warnings of the result.

        Parameters
        ----------
        settings : ShapeSettings
        beats : Beats, optional
            The grid to quantise on, if not the beats of the recording, and the beats of the result.

        Raises
        ------
        UsageError
            If it is to be quantised and there are no beats, or an argument is of another kind.
        """
        from .shaping import ShapeSettings, remarks, shape

        check_class("settings", settings, ShapeSettings, optional=False)
        check_class("beats", beats, Beats)
        beats = beats or self.beats
        shaped = shape(self.notes, settings, beats, self.tuning)
        markers = {*self.markers, *shaped.markers}
        if self.markers:  # those of notes that are not as they were
            markers -= remarks(self.notes) - remarks(shaped.notes)
        kept, warnings = tuple(sorted(markers)), self.warnings
        total = len(self.notes)
        met = [(shaped.joined, "another of their pitch")] if shaped.joined else []
        if shaped.gathered > MANY * total:
            met.append((shaped.gathered, "others played before them"))
        if met:
            said = ", ".join(MET.format(count, total, others) for count, others in met)
            warnings = (*warnings, f"{said}; give a finer grid to keep them")
        return replace(self, notes=shaped.notes, beats=beats, markers=kept, warnings=warnings)

    def to_midi(self, settings: MidiSettings | None = None) -> pretty_midi.PrettyMIDI:
        """The notes as a :class:`pretty_midi.PrettyMIDI`, which can hold all but the zone of MPE.

        Its ``get_piano_roll`` spreads each bent note over two pitches or more; there are no bends with
        ``TrackerSettings(pitch_bends=False)``.

        Raises as :meth:`to_midi_bytes`.
        """
        return self._midi(settings).midi

    def to_midi_bytes(self, settings: MidiSettings | None = None) -> bytes:
        """The notes as the contents of a Standard MIDI File.

        Raises
        ------
        UsageError
            If ``settings`` is of another kind, or the beats suit no MIDI file.
        ValueError
            If a note is impossible.
        """
        return self._midi(settings).data

    def _midi(self, settings: MidiSettings | None) -> MidiResult:
        from .midi import to_midi

        check_class("settings", settings, MidiSettings)
        return to_midi(self.notes, settings, beats=self.beats, markers=self.markers, tuning=self.tuning)


class Transcriber:
    """A loaded model, for as many recordings as you like.

    Parameters
    ----------
    model : str or Path, optional
        ONNX file; the one shipped with the package if omitted.
    threads : int, optional
        How many blocks of a recording the model works on at a time; one per processor if omitted.
    provider : str
        What ONNX Runtime computes with: ``cpu``, ``cuda``, ``coreml``, ``directml`` or ``openvino``.

    Attributes
    ----------
    model : Model

    Raises
    ------
    ModelError
        If the model cannot be loaded.
    UsageError
        If the provider is not there, or ``threads`` is no number from 1.
    """

    def __init__(self, model: str | Path | None = None, *, threads: int | None = None, provider: str = "cpu") -> None:
        if threads is not None and whole("threads", threads) < 1:
            raise UsageError(f"threads is {threads}; at least one must work")
        self.model = Model(model, threads=threads, provider=provider)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.model.name}, {self.model.threads} threads>"

    @ignoring_underflow
    def transcribe(
        self,
        source: Source,
        sample_rate: float | None = None,
        *,
        settings: TrackerSettings | None = None,
        part: Part | None = None,
        beats: BeatSettings | None = None,
        keep_posteriors: bool = False,
        progress: Callable[[float, float | None], object] | None = None,
    ) -> Transcription:
        """Transcribe one recording.

        Parameters
        ----------
        source : path, binary file object or ndarray
            An array has shape (samples,) or (samples, channels), and needs ``sample_rate``; floats have full scale 1.0,
            integers that of their type.
        sample_rate : float, optional
            Hz, 1,000 to 768,000; only with an array.
        settings : TrackerSettings, optional
            Thresholds and ranges; the model's own where omitted.
        part : Part, optional
            From when to when, and which channel; times count from its start.
        beats : BeatSettings, optional
            How beats are found; none are if omitted.
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
        ModelError
            If the model fails, such as for want of memory.
        UsageError
            If ``sample_rate`` is missing with an array, or given with a file, a bar is to begin after the end, or an
            argument is out of range or of another kind.
        """
        check_class("part", part, Part)
        check_class("beats", beats, BeatSettings)
        if not (progress is None or callable(progress)):
            raise unfit("progress", progress, "a function of two arguments, or None")
        resolved = self._resolved(settings)
        given = None if resolved.tuning is None else cents_of(resolved.tuning)
        target = self.model.sample_rate
        with audio.open_audio(source, sample_rate, target_rate=target, part=part, tuning=given, raises=True) as stream:
            rate, tuning, gain = stream.rate, stream.tuning, stream.gain
            envelope = _envelope(rate) if beats else None
            tracker = tracker_for(resolved)
            notes = NoteList()
            kept: list[Posteriors] = []
            with closing(self.model.posteriors(_listened(stream, envelope) if envelope else stream)) as blocks:
                for block in (played.tuned(tuning, gain) for played in blocks):
                    notes.extend(tracker.push(block))
                    if keep_posteriors:
                        kept.append(block)
                    if progress:
                        progress(min(stream.samples_read / rate, tracker.seconds), stream.duration)
            duration = stream.samples_read / rate
            notes.extend(tracker.flush(duration))
            warnings = (*stream.warnings, *_out_of_range(resolved, notes))
        notes.sort()
        found = _beats(beats, *envelope.finish(), notes) if beats and envelope else None
        if beats and found is None:
            warnings = (*warnings, *_without_beats(beats, notes))
        posteriors = Posteriors.concatenate(kept) if kept else None
        line = tracker.line
        return Transcription(
            notes, duration, resolved, warnings, self.model.name, posteriors, found, line=line, tuning=tuning
        )

    @ignoring_underflow
    def track(
        self, posteriors: Posteriors, settings: TrackerSettings | None = None, beats: BeatSettings | None = None
    ) -> Transcription:
        """Find the notes in posteriors kept from an earlier run, with other settings and without the recording.

        The recording counts as long as its frames, which may be up to a frame longer than it was.

        Parameters
        ----------
        posteriors : Posteriors
            Of a whole recording.
        settings : TrackerSettings, optional
            As of :meth:`transcribe`.
        beats : BeatSettings, optional
            As of :meth:`transcribe`; the notes have to tell the beat alone.

        Raises
        ------
        UsageError
            If a bar is to begin after the end, or an argument is of another kind.
        """
        check_class("posteriors", posteriors, Posteriors, optional=False)
        check_class("beats", beats, BeatSettings)
        resolved = self._resolved(settings)
        duration = len(posteriors) / posteriors.frame_rate
        tracker = tracker_for(resolved)
        notes = NoteList(tracker.push(posteriors) + tracker.flush(duration))
        notes.sort()
        nothing = np.zeros(len(posteriors), np.float32)
        found = _beats(beats, nothing, posteriors.frame_rate, notes) if beats else None
        warnings = (*_out_of_range(resolved, notes), *(_without_beats(beats, notes) if beats and found is None else ()))
        if resolved.tuning is not None and abs(cents_of(resolved.tuning) - posteriors.tuning) > 1:
            warnings = (*warnings, OTHER_TUNING)
        line, tuning = tracker.line, posteriors.tuning
        return Transcription(
            notes, duration, resolved, warnings, self.model.name, posteriors, found, line=line, tuning=tuning
        )

    def _resolved(self, settings: TrackerSettings | None) -> TrackerSettings:
        check_class("settings", settings, TrackerSettings)
        return (settings or TrackerSettings()).resolved(self.model.defaults)


def _envelope(sample_rate: float) -> OnsetEnvelope:
    from .timing import OnsetEnvelope

    return OnsetEnvelope(sample_rate)


def _listened(blocks: Iterable[Float32], envelope: OnsetEnvelope) -> Iterator[Float32]:
    """The same blocks, which the envelope hears on the way."""
    for block in blocks:
        envelope.push(block)
        yield block


def _beats(settings: BeatSettings, envelope: Float32, frame_rate: float, notes: Sequence[Note]) -> Beats | None:
    from .timing import estimate_beats, fixed_beats, metre

    per_bar, quarters = metre(settings.time_signature)
    if settings.fixed and settings.tempo is not None:
        duration = len(envelope) / frame_rate
        return fixed_beats(settings.tempo * quarters, duration, per_bar, quarters, settings.first_bar or 0.0)
    return estimate_beats(
        envelope,
        frame_rate,
        notes,
        per_bar=per_bar,
        quarters=quarters,
        tempo_hint=settings.tempo,
        first_bar=settings.first_bar,
    )


def _out_of_range(settings: TrackerSettings, notes: Sequence[Note]) -> tuple[str, ...]:
    """What is to be said where there are no notes within the range of pitches."""
    low, high = settings.minimum_frequency, settings.maximum_frequency
    limits = [f"{word} {hertz:.0f} Hz" for word, hertz in (("from", low), ("to", high)) if hertz is not None]
    return (OUT_OF_RANGE.format(" ".join(limits)),) if limits and not notes else ()


def _without_beats(settings: BeatSettings, notes: Sequence[Note]) -> tuple[str, ...]:
    """What is to be said where none were found; nothing where there are no notes that could miss them."""
    if settings.first_bar is not None:
        return NO_BEAT, NO_BAR.format(settings.first_bar)
    return (NO_BEAT,) if notes else ()


def transcribe(
    source: Source,
    sample_rate: float | None = None,
    *,
    settings: TrackerSettings | None = None,
    part: Part | None = None,
    beats: BeatSettings | None = None,
    keep_posteriors: bool = False,
) -> Transcription:
    """Transcribe one recording with the shipped model.

    The model is loaded anew on every call; for many recordings keep a :class:`Transcriber`.
    Parameters (all but ``progress``), returns and errors as :meth:`Transcriber.transcribe`.
    """
    return Transcriber().transcribe(
        source, sample_rate, settings=settings, part=part, beats=beats, keep_posteriors=keep_posteriors
    )
