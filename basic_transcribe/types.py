"""What flows between the rooms: posteriors in, notes out. Plain frozen data, numpy only."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PitchBend:
    """Deviation of a note from its MIDI pitch, sampled on a uniform grid.

    Attributes
    ----------
    start : float
        Time of the first value, in seconds.
    step : float
        Distance between values, in seconds.
    semitones : ndarray of float32, shape (n,)
        Deviation from the note's pitch, in semitones.
    """

    start: float
    step: float
    semitones: Float32

    @property
    def times(self) -> NDArray[np.float64]:
        """Times of the values in seconds, shape (n,)."""
        return np.asarray(self.start + self.step * np.arange(len(self.semitones)), dtype=np.float64)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PitchBend):
            return NotImplemented
        return (self.start, self.step) == (other.start, other.step) and np.array_equal(self.semitones, other.semitones)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Note:
    """One transcribed note.

    Attributes
    ----------
    onset, offset : float
        Start and end in seconds; ``offset > onset``.
    pitch : int
        MIDI note number, 21 (A0) to 108 (C8).
    velocity : int
        1 to 127, follows loudness.
    confidence : float
        Peak onset posterior, or mean note posterior where no onset fired, 0 to 1.
    bend : PitchBend or None
        Deviation from ``pitch`` over the note.
    """

    onset: float
    offset: float
    pitch: int
    velocity: int
    confidence: float
    bend: PitchBend | None = None

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.offset - self.onset


@dataclass(frozen=True, slots=True)
class Posteriors:
    """Outputs of the model, frame by frame.

    Attributes
    ----------
    onset, note, offset : ndarray of float32, shape (frames, pitches)
        Probability that a note begins, sounds or ends in the frame.
    contour : ndarray of float32, shape (frames, pitches * bins_per_semitone)
        Probability that a partial-free fundamental sounds in the bin. The centre of semitone ``k``
        is bin ``k * bins_per_semitone + bins_per_semitone // 2``.
    level : ndarray of float32, shape (frames, pitches)
        Estimated loudness of a note that begins here, in dB relative to full scale.
    frame_rate : float
        Frames per second; frame ``i`` is centred on ``i / frame_rate`` seconds.
    lowest_pitch : int
        MIDI note number of the first pitch.
    """

    onset: Float32
    note: Float32
    offset: Float32
    contour: Float32
    level: Float32
    frame_rate: float
    lowest_pitch: int

    ARRAYS = ("onset", "note", "offset", "contour", "level")

    def __len__(self) -> int:
        return len(self.onset)

    @property
    def bins_per_semitone(self) -> int:
        """Contour bins per semitone."""
        return int(self.contour.shape[1] // self.note.shape[1])

    def slice(self, start: int, stop: int | None = None) -> Posteriors:
        """Frames ``start`` to ``stop`` (views, not copies)."""
        return self.with_arrays({name: getattr(self, name)[start:stop] for name in self.ARRAYS})

    def with_arrays(self, arrays: dict[str, Float32]) -> Posteriors:
        """The same constants with other values; ``arrays`` has all of :attr:`ARRAYS`."""
        return Posteriors(frame_rate=self.frame_rate, lowest_pitch=self.lowest_pitch, **arrays)

    @classmethod
    def concatenate(cls, parts: list[Posteriors]) -> Posteriors:
        """Join consecutive parts.

        Raises
        ------
        ValueError
            If ``parts`` is empty.
        """
        if not parts:
            raise ValueError("nothing to concatenate")
        return parts[0].with_arrays({n: np.concatenate([getattr(p, n) for p in parts]) for n in cls.ARRAYS})


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """How posteriors become notes. ``None`` means the model's own calibrated default.

    Attributes
    ----------
    onset_threshold : float or None
        Smallest evidence (mean of the onset's mass and of the note posterior after it) that starts a note, 0 to 1.
        Lower finds more notes.
    split_threshold : float or None
        Smallest mass of an onset that strikes a note again while its pitch still sounds, 0 to 1. Higher splits less.
    frame_threshold : float or None
        Note posterior below which a note is over, 0 to 1. Lower makes notes longer.
    onset_delay : float or None
        Milliseconds by which sounds begin later than this model's onset posteriors say.
    minimum_note_length : float or None
        Shortest note kept, in milliseconds.
    minimum_frequency, maximum_frequency : float or None
        Range of note pitches kept, in Hz (``None``: the model's whole range).
    pitch_bends : bool
        Whether to estimate pitch bends.
    """

    onset_threshold: float | None = None
    split_threshold: float | None = None
    frame_threshold: float | None = None
    onset_delay: float | None = None
    minimum_note_length: float | None = None
    minimum_frequency: float | None = None
    maximum_frequency: float | None = None
    pitch_bends: bool = True

    def __post_init__(self) -> None:
        for name in ("onset_threshold", "split_threshold", "frame_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise UsageError(f"{name} is {value}; it must lie between 0 and 1, both exclusive")
        if self.onset_delay is not None and not -100 <= self.onset_delay <= 100:
            raise UsageError(f"onset_delay is {self.onset_delay} ms; it must lie between -100 and 100")
        if self.minimum_note_length is not None and not 0 <= self.minimum_note_length <= 10_000:
            raise UsageError(f"minimum_note_length is {self.minimum_note_length} ms; it must lie between 0 and 10000")
        for name in ("minimum_frequency", "maximum_frequency"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 100_000:
                raise UsageError(f"{name} is {value} Hz; it must be positive")
        if (self.minimum_frequency or 0) > (self.maximum_frequency or np.inf):
            raise UsageError(
                f"minimum_frequency {self.minimum_frequency} Hz is above maximum_frequency {self.maximum_frequency} Hz"
            )

    def resolved(self, defaults: dict[str, Any]) -> TrackerSettings:
        """These settings, with every ``None`` that ``defaults`` names filled from it."""
        known = {f.name for f in fields(self)}
        return replace(self, **{k: v for k, v in defaults.items() if k in known and getattr(self, k) is None})


@dataclass(frozen=True, slots=True)
class MidiSettings:
    """How notes become a MIDI file.

    Attributes
    ----------
    tempo : float
        Tempo written to the file, in beats per minute, 4 to 1000. Note times in seconds do not depend on it.
    program : int
        General MIDI program, 0 to 127.
    multiple_pitch_bends : bool
        Give each bending voice a channel of its own. Otherwise all notes share one channel, and a bend is
        written only where no other note sounds.
    """

    tempo: float = 120.0
    program: int = 0
    multiple_pitch_bends: bool = False

    def __post_init__(self) -> None:
        if not 4 <= self.tempo <= 1000:
            raise UsageError(f"tempo is {self.tempo} beats per minute; it must lie between 4 and 1000")
        if not 0 <= self.program <= 127:
            raise UsageError(f"program is {self.program}; General MIDI programs are 0 to 127")
