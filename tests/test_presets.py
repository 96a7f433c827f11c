"""Settings for one instrument."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from basic_transcribe.errors import UsageError
from basic_transcribe.flags import recipe_of
from basic_transcribe.outputs import render
from basic_transcribe.pipeline import Transcription
from basic_transcribe.presets import PRESETS, Preset, preset
from basic_transcribe.types import Note, TrackerSettings

DEFAULTS = {"onset_threshold": 0.5, "split_threshold": 0.6, "frame_threshold": 0.3, "minimum_note_length": 40.0}
# The lowest and the highest note of each, as MIDI pitches: guitars are tuned down, voices whistle.
RANGES = {"bass": (28, 67), "guitar": (34, 84), "harmonica": (48, 96), "violin": (55, 100), "voice": (40, 107)}


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


@pytest.mark.parametrize(
    ("flags", "instrument"),
    [({}, None), ({"preset": "piano"}, 0), ({"program": 0}, 0), ({"preset": "guitar", "program": 0}, 0)],
)
def test_a_piano_that_was_asked_for_is_told_from_no_instrument(flags: dict[str, object], instrument: int) -> None:
    assert recipe_of(defaultdict(lambda: None, flags)).output.instrument == instrument


@pytest.mark.parametrize(
    ("flags", "clefs"), [({}, 1), ({"preset": "piano"}, 2), ({"program": 46}, 2), ({"program": 73}, 1)]
)
def test_the_score_of_a_piano_has_two_staves(flags: dict[str, object], clefs: int) -> None:
    song = Transcription((Note(0.0, 1.0, 72, 80, 0.9),), 1.0, TrackerSettings(), (), "model")
    settings = recipe_of(defaultdict(lambda: None, flags)).output
    score = render(song, [".musicxml"], Path("song.wav"), settings, "")[0][".musicxml"]
    assert score.count(b"<clef ") == clefs


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_something(name: str) -> None:
    assert preset(name) != Preset()
