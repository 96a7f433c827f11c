"""Settings for one instrument, for those who know what is playing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .errors import UsageError
from .shaping import ShapeSettings
from .tuning import midi_to_hz
from .types import MidiSettings, TrackerSettings


@dataclass(frozen=True, slots=True)
class Preset:
    """What suits an instrument. What is not said here is as without a preset."""

    tracker: TrackerSettings = field(default_factory=TrackerSettings)
    shape: ShapeSettings = field(default_factory=ShapeSettings)
    midi: MidiSettings = field(default_factory=MidiSettings)


def _within(low: int, high: int, **others: Any) -> TrackerSettings:
    """MIDI pitches ``low`` to ``high``, and other settings of the tracker."""
    return TrackerSettings(minimum_frequency=midi_to_hz(low - 0.5), maximum_frequency=midi_to_hz(high + 0.5), **others)


PRESETS = {
    "bass": Preset(_within(23, 67, monophonic=False), midi=MidiSettings(program=33, bend_mode="channels")),
    "guitar": Preset(_within(33, 88, monophonic=False), midi=MidiSettings(program=24, bend_mode="channels")),
    "harmonica": Preset(_within(48, 98, monophonic=False), midi=MidiSettings(program=22, bend_mode="channels")),
    "kalimba": Preset(
        _within(48, 96, onset_threshold=0.61, split_threshold=0.72, pitch_bends=False, monophonic=False),
        midi=MidiSettings(program=108),
    ),
    "piano": Preset(TrackerSettings(pitch_bends=False, monophonic=False)),
    "violin": Preset(_within(55, 103, monophonic=False), midi=MidiSettings(program=40, bend_mode="channels")),
    "voice": Preset(_within(36, 108, onset_threshold=0.66, monophonic=True), midi=MidiSettings(program=53)),
}
"""By name. ``scripts/tune_presets.py`` measures what they gain."""


def preset(name: str | None) -> Preset:
    """The settings for an instrument; neutral ones for None.

    Raises
    ------
    UsageError
        If there is none of this name.
    """
    if name is None:
        return Preset()
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name}; choose from {', '.join(PRESETS)}")
    return PRESETS[name]
