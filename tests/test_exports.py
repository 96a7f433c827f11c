"""CSV, JSON, JAMS and npz: round trips, hostile files, and writing that never leaves half a file."""

from __future__ import annotations

import copy
import csv
import errno
import json
import os
import pickle
import re
import stat
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe import exports
from basic_transcribe.errors import OutputError, TranscribeError, UsageError
from basic_transcribe.exports import (
    JSON_SCHEMA,
    load_posteriors,
    notes_to_csv,
    notes_to_jams,
    notes_to_json,
    posteriors_to_npz,
    write_atomic,
)
from basic_transcribe.scoring import from_notes, load_notes
from basic_transcribe.types import Beats, Key, Marker, Note, PitchBend, Posteriors, TrackerSettings

NOTES = (
    Note(0.1234567, 0.5, 60, 80, 0.98765, PitchBend(0.1234567, 0.0116, np.array([0.1, 0.3], np.float32))),
    Note(1, 2, 61, 1, 1.0, None),
)


@dataclass
class Recording:
    """The least a transcription must have."""

    notes: tuple[Note, ...] = NOTES
    duration: float = 3.5
    settings: TrackerSettings = field(default_factory=lambda: TrackerSettings(onset_threshold=0.4))
    warnings: tuple[str, ...] = ()
    model: str = "model 1"
    beats: Beats | None = None
    key: Key | None = None
    markers: tuple[Marker, ...] = ()
    line: bool = False
    tuning: float = 0.0


EVERYTHING = Recording(
    warnings=("clipped",),
    beats=Beats((0.25, 0.75, 1.25, 1.75, 2.25), per_bar=3, downbeat=1),
    key=Key(6, "minor", 0.75),
    markers=(Marker(1, "doubtful"),),
)


def posteriors(frames: int = 7, pitches: int = 88, bins: int = 3) -> Posteriors:
    rng = np.random.default_rng(0)

    def array(width: int) -> Any:
        return rng.random((frames, width), dtype=np.float32)

    return Posteriors(
        array(pitches), array(pitches), array(pitches), array(pitches * bins), -60 * array(pitches), 86.13, 21
    )


# ------------------------------------------------------------------------------------------------------------ CSV, JSON


def test_csv() -> None:
    rows = list(csv.reader(StringIO(notes_to_csv(NOTES))))
    assert rows == [
        ["onset_s", "offset_s", "pitch", "velocity", "confidence", "bend_cents"],
        ["0.123457", "0.500000", "60", "80", "0.9877", "20.0"],
        ["1.000000", "2.000000", "61", "1", "1.0000", ""],
    ]
    assert notes_to_csv([]) == "onset_s,offset_s,pitch,velocity,confidence,bend_cents\n"


def test_json() -> None:
    read = json.loads(notes_to_json(Recording()))
    assert (read["format"], read["version"], read["duration"], read["model"]) == (
        "basic_transcribe.notes",
        4,
        3.5,
        "model 1",
    )
    assert read["part"] == {"start": 0.0, "end": None, "channel": "mix"}
    assert read["line"] is False
    assert read["settings"]["onset_threshold"] == 0.4
    assert read["settings"]["minimum_frequency"] is None
    assert read["notes"] == [
        {
            "onset": 0.123457,
            "offset": 0.5,
            "pitch": 60,
            "velocity": 80,
            "confidence": 0.9877,
            "bend": {"start": 0.123457, "step": 0.0116, "cents": [10.0, 30.0]},
        },
        {"onset": 1.0, "offset": 2.0, "pitch": 61, "velocity": 1, "confidence": 1.0, "bend": None},
    ]
    assert (read["beats"], read["key"], read["markers"]) == (None, None, [])


def test_json_beats_key_and_markers() -> None:
    read = json.loads(notes_to_json(EVERYTHING))
    assert read["beats"] == {
        "times": [0.25, 0.75, 1.25, 1.75, 2.25],
        "per_bar": 3,
        "downbeat": 1,
        "quarters": 1.0,
        "time_signature": [3, 4],
        "tempo": 120.0,
    }
    assert read["key"] == {"name": "F# minor", "tonic": 6, "mode": "minor", "confidence": 0.75}
    assert read["markers"] == [{"time": 1.0, "text": "doubtful"}]


def test_json_takes_numpy_numbers() -> None:
    note = Note(np.float32(0.5), np.float64(1), np.int64(60), np.int32(3), np.float32(0.25))  # type: ignore[arg-type]
    (read,) = json.loads(notes_to_json(Recording(notes=(note,), duration=np.float64(2))))["notes"]
    assert (read["onset"], read["pitch"], read["confidence"]) == (0.5, 60, 0.25)


def test_json_is_ascii_whatever_the_names() -> None:
    text = notes_to_json(Recording(warnings=("caf\u00e9\n\udcff.wav: \U0001f3b9",)))
    assert text.isascii()
    assert text.count("\n") == 1
    assert json.loads(text)["warnings"] == ["caf\u00e9\n\udcff.wav: \U0001f3b9"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_json_refuses_what_it_cannot_express(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        notes_to_json(Recording(notes=(replace(NOTES[0], confidence=value),)))


def test_json_refuses_pitches_between_the_semitones() -> None:
    assert (
        json.loads(notes_to_json(Recording(notes=(replace(NOTES[0], pitch=np.float64(60)),))))["notes"][0]["pitch"]
        == 60
    )
    with pytest.raises(ValueError, match="whole number"):
        notes_to_json(Recording(notes=(replace(NOTES[0], pitch=60.7),)))


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: notes_to_csv(Recording()), r"notes is Recording\(.*; give notes, such as transcription\.notes"),  # type: ignore[arg-type]
        (lambda: notes_to_json(NOTES), r"transcription is \(Note.*; give a Transcription, not its notes alone"),  # type: ignore[arg-type]
        (lambda: notes_to_json(Recording(), None), r"part is None; give Part\("),  # type: ignore[arg-type]
        (lambda: notes_to_json(Recording(), key="C"), r"key is 'C'; give Key\(\.\.\.\) or None"),  # type: ignore[arg-type]
        (lambda: notes_to_jams(list(NOTES)), "give a Transcription"),  # type: ignore[arg-type]
    ],
)
def test_arguments_of_another_kind(use: Callable[[], str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        use()


numbers = st.floats(0, 1000)
fractions = st.floats(0, 1)
bends = st.builds(
    PitchBend,
    numbers,
    st.floats(1e-4, 1),
    st.lists(st.floats(-12, 12, width=32)).map(lambda x: np.array(x, np.float32)),
)
some_notes = st.builds(
    lambda onset, length, *rest: Note(onset, onset + length, *rest),
    *(numbers, st.floats(0.01, 100), st.integers(21, 108), st.integers(1, 127), fractions, st.none() | bends),
)
some_beats = st.builds(
    lambda start, gaps, per_bar: Beats(tuple(np.cumsum([start, *gaps]).tolist()), per_bar, per_bar - 1),
    *(numbers, st.lists(st.floats(0.02, 10), min_size=1, max_size=9), st.integers(1, 64)),
)
some_recordings = st.builds(
    Recording,
    notes=st.lists(some_notes, max_size=5).map(tuple),
    duration=numbers,
    warnings=st.lists(st.text()).map(tuple),
    beats=st.none() | some_beats,
    key=st.none() | st.builds(Key, st.integers(0, 11), st.sampled_from(["major", "minor"]), fractions, st.booleans()),
    markers=st.lists(st.builds(Marker, numbers, st.text())).map(tuple),
)


@pytest.fixture(scope="module")
def schema() -> Any:
    """Says whether a JSON document of ours is what it should be."""
    jsonschema = pytest.importorskip("jsonschema")
    content = json.loads(JSON_SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


@given(some_recordings)
@settings(max_examples=50, deadline=None)
def test_json_keeps_to_its_schema(schema: Any, recording: Recording) -> None:
    read = json.loads(notes_to_json(recording))
    schema.validate(read)
    assert [note["pitch"] for note in read["notes"]] == [note.pitch for note in recording.notes]


BROKEN: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "another version": (("version",), 1),
    "a negative duration": (("duration",), -1),
    "no duration": (("duration",), None),
    "no notes": (("notes",), None),
    "more than we know of": (("more",), 1),
    "nested settings": (("settings", "more"), []),
    "one beat": (("beats", "times"), [1.0]),
    "bars of nothing": (("beats", "per_bar"), 0),
    "half a signature": (("beats", "time_signature"), [3]),
    "beats with more": (("beats", "more"), 1),
    "a key without a name": (("key", "name"), ""),
    "a pitch class too high": (("key", "tonic"), 12),
    "an ancient mode": (("key", "mode"), "dorian"),
    "a marker without a time": (("markers", 0, "time"), None),
    "a pitch between keys": (("notes", 0, "pitch"), 60.5),
    "a pitch too high": (("notes", 0, "pitch"), 128),
    "a silent note": (("notes", 0, "velocity"), 0),
    "too much confidence": (("notes", 0, "confidence"), 1.1),
    "a bend of text": (("notes", 0, "bend", "cents", 0), "1"),
    "a bend that stands still": (("notes", 0, "bend", "step"), 0),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_schema_refuses(schema: Any, case: str) -> None:
    good = json.loads(notes_to_json(EVERYTHING))
    assert schema.is_valid(good)
    broken = copy.deepcopy(good)
    (*path, last), value = BROKEN[case]
    part = broken
    for step in path:
        part = part[step]
    part[last] = value
    assert not schema.is_valid(broken)


def test_the_schema_wants_everything(schema: Any) -> None:
    good = json.loads(notes_to_json(EVERYTHING))
    for part in (good, good["beats"], good["key"], good["markers"][0], good["notes"][0], good["notes"][0]["bend"]):
        for name in list(part):
            value = part.pop(name)
            assert not schema.is_valid(good), name
            part[name] = value


# ----------------------------------------------------------------------------------------------------------------- JAMS


def annotations(recording: Recording) -> dict[str, Any]:
    return {a["namespace"]: a["data"] for a in json.loads(notes_to_jams(recording, "song"))["annotations"]}


def test_jams() -> None:
    read = json.loads(notes_to_jams(EVERYTHING, "song"))
    assert (read["file_metadata"]["title"], read["file_metadata"]["duration"]) == ("song", 3.5)
    data = annotations(EVERYTHING)
    assert set(data) == {"note_midi", "pitch_contour", "beat", "tempo", "key_mode"}
    assert data["note_midi"] == [
        {"time": 0.123457, "duration": 0.376543, "value": 60.2, "confidence": 0.9877},
        {"time": 1.0, "duration": 1.0, "value": 61.0, "confidence": 1.0},
    ]
    assert [beat["value"] for beat in data["beat"]] == [3, 1, 2, 3, 1]
    assert [beat["time"] for beat in data["beat"]] == [0.25, 0.75, 1.25, 1.75, 2.25]
    assert data["tempo"] == [{"time": 0.0, "duration": 3.5, "value": 120.0, "confidence": 1.0}]
    assert data["key_mode"] == [{"time": 0.0, "duration": 3.5, "value": "F#:minor", "confidence": 0.75}]
    contour = data["pitch_contour"]
    assert contour["time"] == [0.123457, 0.135057]
    assert [value["index"] for value in contour["value"]] == [0, 0]
    frequencies = [value["frequency"] for value in contour["value"]]
    np.testing.assert_allclose(69 + 12 * np.log2(np.array(frequencies) / 440), [60.1, 60.3], atol=1e-4)


def test_notes_without_bends_are_in_tune_with_the_recording_in_jams() -> None:
    notes = annotations(replace(EVERYTHING, tuning=-38.0))["note_midi"]
    assert [note["value"] for note in notes] == [60.2, 60.62]  # the bend of the first counts from 440 Hz


def test_jams_has_the_beats_within_the_recording() -> None:
    beats = annotations(replace(EVERYTHING, duration=2.0))["beat"]  # the MIDI file needs the one after the end
    assert [(beat["time"], beat["value"]) for beat in beats] == [(0.25, 3), (0.75, 1), (1.25, 2), (1.75, 3)]


def test_jams_takes_the_numbers_of_numpy() -> None:
    notes = [replace(note, confidence=np.float32(0.5)) for note in EVERYTHING.notes]
    assert [note["confidence"] for note in annotations(replace(EVERYTHING, notes=notes))["note_midi"]] == [0.5, 0.5]


def test_jams_leaves_out_what_is_not_known() -> None:
    assert set(annotations(Recording())) == {"note_midi", "pitch_contour"}
    assert annotations(Recording(notes=()))["note_midi"] == []


@given(some_recordings)
@settings(max_examples=50, deadline=None)
def test_jams_is_read_back(tmp_path_factory: pytest.TempPathFactory, recording: Recording) -> None:
    path = tmp_path_factory.getbasetemp() / "read_back.jams"
    path.write_text(notes_to_jams(recording, "song"))
    read, expected = load_notes(path), from_notes([note_with_mean(note) for note in recording.notes])
    np.testing.assert_allclose(read.intervals, expected.intervals, atol=2e-6)
    np.testing.assert_allclose(read.pitch, expected.sounding, atol=1e-4)


def note_with_mean(note: Note) -> Note:
    """Without an empty bend, which has no mean."""
    return note if note.bend is None or len(note.bend.semitones) else replace(note, bend=None)


def test_the_jams_library_reads_it(tmp_path: Path) -> None:
    jams = pytest.importorskip("jams")
    path = tmp_path / "a.jams"
    path.write_text(notes_to_jams(EVERYTHING, "song"))
    read = jams.load(str(path), strict=True)
    assert read.validate()
    (notes,) = read.annotations["note_midi"]
    assert [(round(o.time, 6), o.value) for o in notes.data] == [(0.123457, 60.2), (1.0, 61.0)]
    (contour,) = read.annotations["pitch_contour"]
    assert [o.value["index"] for o in contour.data] == [0, 0]
    assert [o.value for o in read.annotations["key_mode"][0].data] == ["F#:minor"]


def test_jams_is_ascii_and_refuses_what_json_cannot_express() -> None:
    text = notes_to_jams(EVERYTHING, "caf\u00e9 \U0001f3b9")
    assert text.isascii()
    assert json.loads(text)["file_metadata"]["title"] == "caf\u00e9 \U0001f3b9"
    with pytest.raises(ValueError, match="JSON"):
        notes_to_jams(Recording(notes=(replace(NOTES[1], offset=np.inf),)))


# ------------------------------------------------------------------------------------------------------------------ npz


def npz(**changes: Any) -> BytesIO:
    """A file of posteriors, with members changed (an array), replaced by bytes, or left out (None)."""
    buffer = BytesIO()
    content = dict(np.load(BytesIO(posteriors_to_npz(posteriors())))) | changes
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in content.items():
            if value is None:
                continue
            member = BytesIO()
            if isinstance(value, bytes):
                member.write(value)
            else:
                np.save(member, value, allow_pickle=True)
            archive.writestr(name + ".npy", member.getvalue())
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("frames", [0, 1, 50])
def test_npz_round_trip(tmp_path: Path, frames: int) -> None:
    original = posteriors(frames)
    (tmp_path / "p.npz").write_bytes(posteriors_to_npz(original))
    (entry,) = os.scandir(tmp_path)
    for source in (tmp_path / "p.npz", str(tmp_path / "p.npz"), entry, BytesIO(posteriors_to_npz(original))):
        read = load_posteriors(source)
        for name in Posteriors.ARRAYS:
            np.testing.assert_array_equal(getattr(read, name), getattr(original, name))
            assert getattr(read, name).dtype == np.float32
        assert (read.frame_rate, read.lowest_pitch, read.bins_per_semitone) == (86.13, 21, 3)


def test_npz_keeps_the_tuning() -> None:
    sharp = replace(posteriors(), tuning=31.5)
    assert load_posteriors(BytesIO(posteriors_to_npz(sharp))).tuning == 31.5
    assert load_posteriors(npz(tuning=None)).tuning == 0.0  # as those of 0.11.0 and before
    with pytest.raises(TranscribeError, match="tuning is 300"):
        load_posteriors(npz(tuning=np.float64(300)))


def test_posteriors_that_were_not_kept_are_refused() -> None:
    with pytest.raises(UsageError, match="posteriors"):
        posteriors_to_npz(None)  # type: ignore[arg-type]


def test_json_gives_the_tuning_in_hertz() -> None:
    assert json.loads(notes_to_json(Recording()))["tuning"] == 440
    assert json.loads(notes_to_json(replace(Recording(), tuning=39.0)))["tuning"] == pytest.approx(450, abs=0.1)


def test_npz_needs_no_pickle_and_is_reproducible() -> None:
    data = posteriors_to_npz(posteriors())
    with np.load(BytesIO(data), allow_pickle=False) as archive:
        assert set(archive.files) == {*Posteriors.ARRAYS, "frame_rate", "lowest_pitch", "tuning"}
    assert data == posteriors_to_npz(posteriors())


def test_unchanged_helper_makes_a_valid_file() -> None:
    assert len(load_posteriors(npz())) == 7


@pytest.mark.parametrize("source", [None, 5, b"p.npz", ["p.npz"]])
def test_what_is_neither_a_path_nor_a_file_is_refused(source: Any) -> None:
    with pytest.raises(UsageError, match=r"source is .*; give a path or a binary file object"):
        load_posteriors(source)


class Trap:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


GOOD = posteriors()
HEADER = b"\x93NUMPY\x01\x00"


def npy(header: bytes, data: bytes = b"") -> bytes:
    return HEADER + len(header).to_bytes(2, "little") + header + data


HOSTILE: dict[str, dict[str, Any]] = {
    "an object array": {"onset": np.array([Trap()], object)},
    "a bare pickle": {"onset": pickle.dumps(Trap())},
    "an array missing": {"onset": None},
    "an array too many": {"extra": np.zeros(3)},
    "text": {"onset": np.array(["a"])},
    "whole numbers": {"onset": np.zeros((7, 88), np.int32)},
    "complex numbers": {"onset": np.zeros((7, 88), np.complex64)},
    "records": {"onset": np.zeros(7, [("a", "<f4")])},
    "big-endian": {"onset": np.zeros((7, 88), ">f4")},
    "fewer frames": {"onset": GOOD.onset[1:]},
    "fewer pitches": {"onset": GOOD.onset[:, 1:]},
    "one dimension": {"note": GOOD.note[0]},
    "three dimensions": {"onset": GOOD.onset[None]},
    "no pitches": {name: np.zeros((7, 0), np.float32) for name in Posteriors.ARRAYS},
    "a ragged contour": {"contour": GOOD.contour[:, 1:]},
    "NaN": {"level": np.full((7, 88), np.nan, np.float32)},
    "infinity": {"note": np.full((7, 88), np.inf, np.float32)},
    "a number that float32 cannot hold": {"level": np.full((7, 88), -1e300)},
    "no frame rate": {"frame_rate": np.float64(0)},
    "minutes for each frame": {"frame_rate": np.float64(0.01)},
    "an endless frame rate": {"frame_rate": np.float64(np.inf)},
    "frame rates": {"frame_rate": np.array([80.0, 80.0])},
    "pitches beyond 127": {"lowest_pitch": np.int64(60)},
    "pitches below 0": {"lowest_pitch": np.int64(-1)},
    "half a pitch": {"lowest_pitch": np.float64(20.5)},
    "no header": {"onset": b""},
    "a header cut short": {"onset": HEADER + b"\xff\xff{"},
    "nested brackets": {"onset": npy(b"(" * 60_000)},
    "many minus signs": {"onset": npy(b"-" * 60_000 + b"1")},
    "more shape than data": {
        "onset": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 88), }\n", b"\0" * 64)
    },
    "no shape": {"onset": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': ( 1 1,), }\n", b"\0" * 44)},
    "no tuple": {"onset": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (11), }\n", b"\0" * 44)},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_npz(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = npz(**HOSTILE[case])
    Path("p.npz").write_bytes(file.getvalue())
    with pytest.raises(TranscribeError, match="not posteriors") as caught:
        load_posteriors("p.npz")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("p.npz: ")
    assert os.listdir() == ["p.npz"]


def test_npz_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = BytesIO(posteriors_to_npz(posteriors(frames=500)))
    assert len(load_posteriors(buffer)) == 500
    monkeypatch.setattr("basic_transcribe.exports.MAX_NPZ_BYTES", 1_000_000)
    with pytest.raises(TranscribeError, match="exceed 1000000 bytes"):
        load_posteriors(buffer)


def test_npz_of_unusual_compression_is_refused() -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(npz()) as good, zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        for member in good.namelist():
            archive.writestr(member, good.read(member))
    with pytest.raises(TranscribeError, match="unusual"):
        load_posteriors(buffer)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip", pickle.dumps(Trap()), b"\x93NUMPY\x01\x00"])
def test_not_an_npz(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TranscribeError, match="not posteriors"):
        load_posteriors(BytesIO(data))
    assert os.listdir() == []


def test_npz_that_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.npz", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(TranscribeError, match="check the path"):
            load_posteriors(path)


def test_npz_with_a_name_twice_or_encrypted() -> None:
    twice = npz()
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("onset.npy", npy(b"other"))
    encrypted = bytearray(npz().getvalue())
    for signature, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        for found in re.finditer(signature, bytes(encrypted)):
            encrypted[found.start() + flags] |= 1
    for data in (twice.getvalue(), bytes(encrypted)):
        with pytest.raises(TranscribeError, match="not posteriors of this program"):
            load_posteriors(BytesIO(data))


# --------------------------------------------------------------------------------------------------------- write_atomic


def test_write_and_replace(tmp_path: Path) -> None:
    path = tmp_path / "out.mid"
    write_atomic(path, b"one")
    write_atomic(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["out.mid"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_permissions_follow_the_umask_once_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.fsync

    def modes_before(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        whole(descriptor)

    modes: list[int] = []
    monkeypatch.setattr(os, "fsync", modes_before)
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "out.mid", b"x")
    finally:
        os.umask(before)
    assert modes[0] == 0o600
    assert stat.S_IMODE((tmp_path / "out.mid").stat().st_mode) == 0o640


def test_awkward_names(tmp_path: Path) -> None:
    for name in ("-o.mid", "a\nb.mid", "\U0001f3b9.mid", "x" * 250 + ".mid"):
        write_atomic(tmp_path / name, name.encode())
        assert (tmp_path / name).read_bytes() == name.encode()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "out.mid"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OutputError, match="No space left on device; free some space") as caught:
        write_atomic(path, b"new")
    assert str(caught.value).startswith(str(path))
    assert caught.value.exit_code == 4
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.mid"]


@pytest.mark.skipif(sys.platform != "linux", reason="uses a limit on file sizes")
def test_a_write_that_stops_half_way(tmp_path: Path) -> None:
    import resource

    (tmp_path / "out.mid").write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match="free some space"):
            write_atomic(tmp_path / "out.mid", bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "out.mid").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.mid"]


def test_an_output_that_another_program_has_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows says it; a scanner lets go of a file soon, a player does not."""
    path = tmp_path / "out.mid"
    path.write_bytes(b"old")
    whole, left = os.replace, 3

    def replace(source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            error = PermissionError(errno.EACCES, "Access is denied")
            error.winerror = 5  # type: ignore[attr-defined]
            raise error
        whole(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(exports, "LOCK_PAUSE", 0)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    left = 1000
    with pytest.raises(OutputError, match="Access is denied; close the program that has it open"):
        write_atomic(path, b"newer")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out.mid"]


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "out.mid", b"x")
    assert os.listdir(tmp_path) == []


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    for name, reason in {
        "folder": "a folder has this name; choose another output",
        "missing/out.mid": "create the folder first",
        "file/out.mid": "not a file, to write into",
        "x" * 256: "choose a shorter name",
        "a\0b": "null",
    }.items():
        with pytest.raises(OutputError, match=reason) as caught:
            write_atomic(tmp_path / name, b"x")
        assert str(caught.value).isprintable()
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="not a regular file"):
        write_atomic(tmp_path / "pipe", b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:  # simulated, since root may write anywhere
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OutputError, match="choose a folder you may write to"):
        write_atomic(tmp_path / "out.mid", b"x")


def test_messages_are_one_printable_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_atomic(tmp_path / "missing\n\udcff" / "out.mid", b"x")
    assert str(caught.value).isprintable()
    assert r"missing\n\udcff" in str(caught.value)
