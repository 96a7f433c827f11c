"""Recordings to notes to MIDI.

>>> from basic_transcribe import transcribe
>>> transcription = transcribe("song.wav")  # doctest: +SKIP
>>> transcription.to_midi().write("song.mid")  # doctest: +SKIP

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.22.0"

if TYPE_CHECKING:
    from .errors import AudioError, ModelError, OutputError, TranscribeError, UsageError
    from .exports import load_posteriors, notes_to_csv, notes_to_jams, notes_to_json, posteriors_to_npz
    from .pipeline import Transcriber, Transcription, transcribe
    from .shaping import ShapeSettings
    from .streaming import StreamingTranscriber
    from .tracking import track_notes
    from .types import (
        Beats,
        BeatSettings,
        Key,
        Marker,
        MidiSettings,
        Note,
        Part,
        PitchBend,
        Posteriors,
        TrackerSettings,
    )

__all__ = [
    "AudioError",
    "BeatSettings",
    "Beats",
    "Key",
    "Marker",
    "MidiSettings",
    "ModelError",
    "Note",
    "OutputError",
    "Part",
    "PitchBend",
    "Posteriors",
    "ShapeSettings",
    "StreamingTranscriber",
    "TrackerSettings",
    "TranscribeError",
    "Transcriber",
    "Transcription",
    "UsageError",
    "__version__",
    "load_posteriors",
    "notes_to_csv",
    "notes_to_jams",
    "notes_to_json",
    "posteriors_to_npz",
    "track_notes",
    "transcribe",
]

_ROOMS = {
    "errors": ("AudioError", "ModelError", "OutputError", "TranscribeError", "UsageError"),
    "exports": ("load_posteriors", "notes_to_csv", "notes_to_jams", "notes_to_json", "posteriors_to_npz"),
    "tracking": ("track_notes",),
    "pipeline": ("Transcriber", "Transcription", "transcribe"),
    "shaping": ("ShapeSettings",),
    "streaming": ("StreamingTranscriber",),
    "types": (
        "BeatSettings",
        "Beats",
        "Key",
        "Marker",
        "MidiSettings",
        "Note",
        "Part",
        "PitchBend",
        "Posteriors",
        "TrackerSettings",
    ),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}


if not TYPE_CHECKING:  # which would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
