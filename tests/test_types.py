"""Settings: what is refused, and that plain Python values are kept of what NumPy gives."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from basic_transcribe.errors import UsageError
from basic_transcribe.shaping import ShapeSettings
from basic_transcribe.types import (
    Beats,
    BeatSettings,
    Key,
    MidiSettings,
    Note,
    Part,
    PitchBend,
    Posteriors,
    TrackerSettings,
)


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (TrackerSettings, {"monophonic": "no"}, "monophonic is 'no'; give True or False"),
        (TrackerSettings, {"pitch_bends": None}, "pitch_bends is None; give True or False"),
        (TrackerSettings, {"onset_threshold": "0.5"}, "onset_threshold is '0.5'; give a number"),
        (TrackerSettings, {"onset_threshold": np.array([0.5, 0.4])}, "onset_threshold is array("),
        (TrackerSettings, {"minimum_frequency": "E2"}, "minimum_frequency is 'E2'; give a number of Hz"),
        (Part, {"start": "1:30"}, "start is '1:30'; give a number of seconds"),
        (Part, {"start": None}, "start is None; give a number of seconds"),
        (Part, {"start": 10**400}, "start is 1000"),
        (Part, {"channel": "1"}, "channel is '1'; give mix, left, right, mid, side or a number from 1"),
        (Part, {"channel": 1.0}, "channel is 1.0; give mix"),
        (Part, {"channel": np.array([1, 2])}, "channel is array"),
        (Part, {"channel": True}, "channel is True; give mix"),
        (BeatSettings, {"time_signature": "4/4"}, "time_signature is '4/4'; give two whole numbers, such as (4, 4)"),
        (BeatSettings, {"time_signature": "44"}, "time_signature is '44'; give two whole numbers"),
        (BeatSettings, {"time_signature": 4}, "time_signature is 4; give two"),
        (BeatSettings, {"time_signature": (4, 4, 4)}, "time_signature is (4, 4, 4); give two"),
        (BeatSettings, {"time_signature": (4.5, 4)}, "time_signature is 4.5; give two"),
        (BeatSettings, {"time_signature": None}, "time_signature is None; give two"),
        (BeatSettings, {"tempo": "120"}, "tempo is '120'; give a number of beats per minute"),
        (BeatSettings, {"first_bar": -1.0}, "first_bar is -1.0 s; give a moment of the recording"),
        (BeatSettings, {"first_bar": float("nan")}, "first_bar is nan"),
        (BeatSettings, {"fixed": True}, "beats cannot be fixed without a tempo"),
        (MidiSettings, {"program": 1.5}, "program is 1.5; give a whole number"),
        (MidiSettings, {"program": True}, "program is True; give a whole number"),
        (MidiSettings, {"bend_mode": None}, "bend_mode is None; it must be plain, channels, mpe"),
        (
            ShapeSettings,
            {"quantize": "1/16"},
            "quantize is '1/16'; give a part of a whole note, such as Fraction(",
        ),
        (ShapeSettings, {"quantize": (1, 16)}, "quantize is (1, 16); give a part"),
        (ShapeSettings, {"quantize": np.nan}, "quantize is nan; give a part"),
        (ShapeSettings, {"quantize": 1e-9}, "quantize is 0; give a part"),
        (ShapeSettings, {"polyphony": 2.5}, "polyphony is 2.5; give a whole number"),
        (ShapeSettings, {"polyphony": np.nan}, "polyphony is nan; give a whole number"),
        (
            ShapeSettings,
            {"velocity_range": (1, 2, 3)},
            "velocity_range is (1, 2, 3); give two whole numbers",
        ),
        (ShapeSettings, {"velocity_range": 80}, "velocity_range is 80; give two"),
        (ShapeSettings, {"legato": None}, "legato is None; give a number of milliseconds"),
        (ShapeSettings, {"scale": 5}, "scale is 5; give text"),
        (ShapeSettings, {"scale_mode": ["snap"]}, "scale_mode is ['snap']; it must be snap"),
        (Beats, {"times": 5}, "times is 5; give numbers"),
        (Beats, {"times": "abc"}, "times is 'a'; give a number"),
        (Beats, {"times": [[0, 1], [2, 3]]}, "times is [0, 1]; give a number"),
        (Beats, {"times": [0, "1", 2]}, "times is '1'; give a number"),
        (Beats, {"times": (0, 1, 2), "per_bar": 2.5}, "per_bar is 2.5; give a whole number"),
        (
            Beats,
            {"times": (0, 100)},
            "beats up to 100 s are 100 to 100 s per quarter note apart; give 0.01 to 16, up to",
        ),
        (Beats, {"times": (0, 1, 1.001)}, "beats up to 1.001 s are 0.001 to 1 s per quarter note apart"),
        (Beats, {"times": (0, 5e-324)}, "beats up to"),
        (Beats, {"times": (0, 30), "quarters": 1.5}, "beats up to 30 s are 20 to 20 s"),
        (Beats, {"times": (4e5, 4e5 + 1)}, "beats up to 400001 s are 1 to 1 s per quarter note apart"),
        (Key, {"tonic": 13, "mode": "major"}, "key is 13 major; give 0 (C) to 11 (B), and major or minor"),
        (Key, {"tonic": 0, "mode": "dorian"}, "key is 0 dorian"),
        (Key, {"tonic": "C", "mode": "major"}, "tonic is 'C'; give a whole number"),
    ],
)
def test_values_of_another_kind(settings: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(**values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "values", "plain"),
    [
        (TrackerSettings, {"onset_threshold": np.float32(0.5)}, {"onset_threshold": 0.5}),
        (TrackerSettings, {"minimum_frequency": np.int64(80)}, {"minimum_frequency": 80.0}),
        (TrackerSettings, {"monophonic": np.bool_(True)}, {"monophonic": True}),
        (Part, {"start": np.float32(1), "channel": np.int64(2)}, {"start": 1.0, "channel": 2}),
        (BeatSettings, {"time_signature": [np.int64(3), 4]}, {"time_signature": (3, 4)}),
        (MidiSettings, {"tempo": np.float32(90), "program": np.int16(5)}, {"tempo": 90.0, "program": 5}),
        (ShapeSettings, {"polyphony": np.int64(2)}, {"polyphony": 2}),
        (ShapeSettings, {"velocity_range": np.array([40, 100])}, {"velocity_range": (40, 100)}),
        (Beats, {"times": np.arange(3)}, {"times": (0.0, 1.0, 2.0)}),
        (Key, {"tonic": np.int64(3), "mode": "minor"}, {"tonic": 3, "mode": "minor"}),
    ],
)
def test_values_of_numpy_become_plain_ones(settings: Any, values: dict[str, Any], plain: dict[str, Any]) -> None:
    given, expected = settings(**values), settings(**plain)
    assert given == expected
    assert hash(given) == hash(expected)
    assert json.dumps(asdict(given)) == json.dumps(asdict(expected))


def test_a_grid_given_as_a_float() -> None:
    for given in (1 / 12, np.float32(1 / 12), np.float64(1 / 12)):
        assert ShapeSettings(quantize=given).quantize == Fraction(1, 12)  # type: ignore[arg-type]
    assert ShapeSettings(quantize=Decimal("0.0625")).quantize == Fraction(1, 16)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Named(TrackerSettings):
    labels: tuple[str, ...] = ()


def test_a_subclass_may_have_fields_of_its_own() -> None:
    named = Named(onset_threshold=np.float32(0.5), labels=("x",))  # type: ignore[arg-type]
    assert (type(named.onset_threshold), named.labels) == (float, ("x",))


def test_posteriors_are_equal_by_value() -> None:
    def posteriors(value: float = 0.5, rate: float = 86.0) -> Posteriors:
        note = np.full((3, 2), value, np.float32)
        return Posteriors(note, note, note, np.zeros((3, 6), np.float32), note, rate, 21)

    assert posteriors() == posteriors()
    assert hash(posteriors()) == hash(posteriors())
    for other in (posteriors(0.6), posteriors(rate=87.0), posteriors().slice(0, 2), posteriors().tuned(20.0), None):
        assert posteriors() != other


def test_notes_that_bend_can_be_members_of_sets() -> None:
    def note(semitones: float) -> Note:
        return Note(0.0, 1.0, 60, 80, 0.9, PitchBend(0.0, 0.1, np.array([semitones, 0], np.float32)))

    assert len({note(0.0), note(-0.0), note(0.5)}) == 2
