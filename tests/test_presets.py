"""Settings for one instrument."""

from __future__ import annotations

import pytest

from basic_transcribe.errors import UsageError
from basic_transcribe.presets import PRESETS, Preset, preset

DEFAULTS = {"onset_threshold": 0.5, "split_threshold": 0.6, "frame_threshold": 0.3, "minimum_note_length": 40.0}
# The lowest and the highest note of each, as MIDI pitches.
RANGES = {"bass": (28, 67), "guitar": (40, 84), "harmonica": (48, 96), "violin": (55, 100), "voice": (40, 84)}


def test_no_name_changes_nothing() -> None:
    assert preset(None) == Preset()


def test_unknown() -> None:
    with pytest.raises(UsageError, match=r"no preset zither; choose from bass, guitar"):
        preset("zither")


@pytest.mark.parametrize("name", RANGES)
def test_the_instruments_notes_lie_within_its_range(name: str) -> None:
    low, high = (440 * 2 ** ((pitch - 69) / 12) for pitch in RANGES[name])
    tracker = preset(name).tracker.resolved(DEFAULTS)
    assert tracker.minimum_frequency is not None
    assert tracker.maximum_frequency is not None
    assert tracker.minimum_frequency < low < high < tracker.maximum_frequency


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_something(name: str) -> None:
    assert preset(name) != Preset()
