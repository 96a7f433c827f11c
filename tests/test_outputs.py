"""Which writer makes which file, and what each is given."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from basic_transcribe import outputs
from basic_transcribe.errors import UsageError
from basic_transcribe.midi import find_fingerprint
from basic_transcribe.outputs import OutputSettings
from basic_transcribe.pipeline import Transcription
from basic_transcribe.presets import preset
from basic_transcribe.types import Beats, Marker, MidiSettings, Note, Part, PitchBend, TrackerSettings

C_MAJOR = tuple(
    Note(0.5 * i, 0.5 * i + 0.45, pitch, 80, 0.9) for i, pitch in enumerate((60, 64, 67, 72, 67, 65, 62, 60))
)
SONG = Transcription(C_MAJOR, 4.0, TrackerSettings(), (), "fake 1")
FOUND = replace(SONG, beats=Beats(tuple(0.5 * i for i in range(9))), markers=(Marker(1.0, "? G4 0.41"),))


def midi_of(transcription: Transcription, settings: OutputSettings) -> mido.MidiFile:
    contents, _ = outputs.render(transcription, [".mid"], Path("song.wav"), settings, "1 mark")
    assert find_fingerprint(contents[".mid"]) == "1 mark"
    return mido.MidiFile(file=BytesIO(contents[".mid"]))


def metas(file: mido.MidiFile, kind: str) -> list[mido.MetaMessage]:
    return [message for track in file.tracks for message in track if message.type == kind]


@pytest.mark.parametrize(("key", "written"), [(None, []), ("auto", ["C"]), ("E minor", ["Em"])])
def test_the_key_signature_is_the_one_asked_for(key: str | None, written: list[str]) -> None:
    assert [m.key for m in metas(midi_of(SONG, OutputSettings(key=key)), "key_signature")] == written


def test_beats_and_markers_reach_the_midi_file() -> None:
    plain, found = midi_of(SONG, OutputSettings()), midi_of(FOUND, OutputSettings())
    assert not metas(plain, "marker")
    assert not metas(plain, "time_signature")
    assert [m.text for m in metas(found, "marker")] == ["? G4 0.41"]
    assert [(m.numerator, m.denominator) for m in metas(found, "time_signature")] == [(4, 4)]


def test_the_midi_file_is_called_after_the_recording() -> None:
    assert [m.name for m in metas(midi_of(SONG, OutputSettings()), "track_name")][-1:] == ["song"]


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="Q flat"):
        OutputSettings(key="Q flat")


def test_what_is_missing_is_said_before_any_work_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs.check([".mid", ".csv"], OutputSettings())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="needs matplotlib"):
        outputs.check([".mid", ".svg"], OutputSettings())
    with pytest.raises(UsageError, match=r"font\.sf2: cannot be read"):
        outputs.check([".mid"], OutputSettings(soundfont=tmp_path / "font.sf2"))


def test_the_grid_is_that_of_the_tempo_where_no_beats_were_found() -> None:
    grid = outputs.fixed_grid(4.0, MidiSettings(tempo=90, time_signature=(6, 8)))
    assert grid.time_signature == (6, 8)
    assert np.diff(grid.times) == pytest.approx(1.0)  # a dotted quarter at 90 quarters a minute
    score = outputs.render(SONG, [".musicxml"], Path("song.wav"), OutputSettings(), "")[0][".musicxml"]
    assert score.count(b"<measure ") == 2


def test_the_grid_keeps_the_tempo_of_the_midi_file() -> None:
    """In whole microseconds, so that notes moved to it stay on the ticks."""
    hour = outputs.fixed_grid(3600.0, MidiSettings(tempo=97))
    notes = tuple(Note(t, t + 0.3, 60, 80, 0.9) for t in hour.times[::100])
    midi = midi_of(replace(SONG, notes=notes), OutputSettings(MidiSettings(tempo=97)))
    assert [message.tempo for message in metas(midi, "set_tempo")] == [618_557]
    at, begins = 0, []
    for message in midi.tracks[1]:
        at += message.time
        if message.type == "note_on" and message.velocity:
            begins.append(at)
    assert begins == [480 * 100 * i for i in range(len(notes))]


def test_the_score_knows_the_swing() -> None:
    swung = replace(SONG, notes=tuple(Note(t, t + 0.1, 72, 80, 0.9) for i in range(8) for t in (i / 2, i / 2 + 0.375)))
    score = outputs.render(
        swung, [".musicxml"], Path("song.wav"), OutputSettings(division=Fraction(1, 8), swing=1.0), ""
    )[0][".musicxml"]
    assert score.count(b"<type>eighth</type>") == score.count(b"<note>") == 16


def test_the_score_takes_the_division() -> None:
    fine = OutputSettings(division=Fraction(1, 32))
    moved = replace(SONG, notes=(replace(C_MAJOR[0], onset=0.0625, offset=0.45), *C_MAJOR[1:]))
    coarse_score, fine_score = (
        outputs.render(moved, [".musicxml"], Path("song.wav"), settings, "")[0][".musicxml"]
        for settings in (OutputSettings(division=Fraction(1, 4)), fine)
    )
    assert b"32nd" in fine_score
    assert b"32nd" not in coarse_score


def test_the_score_has_triplets_unless_it_is_given_a_division() -> None:
    swing = replace(SONG, notes=tuple(Note(t, t + 0.2, 72, 80, 0.9) for i in range(8) for t in (i / 2, i / 2 + 1 / 3)))
    free, given = (
        outputs.render(swing, [".musicxml"], Path("song.wav"), settings, "")[0][".musicxml"]
        for settings in (OutputSettings(), OutputSettings(division=Fraction(1, 16)))
    )
    assert free.count(b'<tuplet type="start"') == 8
    assert b"<tuplet" not in given


def test_the_score_knows_the_program() -> None:
    guitar = outputs.render(SONG, [".musicxml"], Path("song.wav"), OutputSettings(preset("guitar").midi), "")[0]
    assert b"<midi-program>25</midi-program>" in guitar[".musicxml"]
    assert b"<clef-octave-change>-1<" in guitar[".musicxml"]


def test_json_holds_the_key_and_the_beats() -> None:
    content = json.loads(outputs.render(FOUND, [".json"], Path("song.wav"), OutputSettings(), "")[0][".json"])
    assert content["key"]["name"] == "C major"
    assert len(content["beats"]["times"]) == 9
    assert content["part"] == {"start": 0.0, "end": None, "channel": "mix"}


def test_a_given_key_and_part_are_told_everywhere() -> None:
    settings = OutputSettings(key="Ab minor", part=Part(2.0, 6.5, "left"))
    contents, _ = outputs.render(FOUND, [".mid", ".json", ".jams"], Path("song.wav"), settings, "")
    told = json.loads(contents[".json"])
    assert told["key"]["name"] == "Ab minor"
    jams = json.loads(contents[".jams"])
    keys = [a["data"] for a in jams["annotations"] if a["namespace"] == "key_mode"]
    assert [data["value"] for (data,) in keys] == ["Ab:minor"]
    assert told["part"] == jams["sandbox"]["part"] == {"start": 2.0, "end": 6.5, "channel": "left"}
    assert any(
        m.type == "key_signature" and m.key == "Abm" for m in mido.MidiFile(file=BytesIO(contents[".mid"])).tracks[0]
    )


def test_what_is_heard_beside_the_recording_is_the_part_that_was_transcribed(tmp_path: Path) -> None:
    rate = 22_050
    sound = np.concatenate([np.zeros(2 * rate), 0.5 * np.sin(2 * np.pi * 440 * np.arange(4 * rate) / rate)])
    soundfile.write(tmp_path / "song.wav", sound, rate)
    settings = OutputSettings(part=Part(start=2.0))
    contents, _ = outputs.render(SONG, [outputs.MIXED], tmp_path / "song.wav", settings, "")
    mixed, _ = soundfile.read(BytesIO(contents[outputs.MIXED]))
    assert mixed.shape[1] == 2
    first = mixed[: outputs.SOUND_RATE // 10, 0]
    assert np.sqrt(np.mean(first**2)) > 0.05


FONTS = [Path(f"/usr/share/sounds/sf2/{name}.sf2") for name in ("TimGM6mb", "FluidR3_GM", "default-GM")]
FONT = next((font for font in FONTS if font.exists()), None)
needs_fluidsynth = pytest.mark.skipif(
    not (FONT and shutil.which("fluidsynth")), reason="needs fluidsynth and a SoundFont"
)


@pytest.mark.parametrize("soundfont", [None, pytest.param(FONT, marks=needs_fluidsynth)])
@pytest.mark.parametrize("bent", [False, True])
def test_notes_are_heard_in_the_tuning_of_the_recording(bent: bool, soundfont: Path | None) -> None:
    """Whether bends were looked for or not. Measured against those in tune: fonts have a tuning of their own."""

    def heard(tuning: float) -> float:
        bend = PitchBend(0.5, 0.1, np.full(10, tuning / 100, np.float32)) if bent else None
        song = replace(SONG, notes=(Note(0.5, 1.5, 69, 80, 0.9, bend), Note(1.7, 3.0, 69, 80, 0.9)), tuning=tuning)
        settings = OutputSettings(soundfont=soundfont)
        contents, _ = outputs.render(song, [outputs.SONIFIED], Path("song.wav"), settings, "")
        samples, rate = soundfile.read(BytesIO(contents[outputs.SONIFIED]), always_2d=True)
        window = np.hanning(int(0.8 * rate))
        parts = [samples[int(start * rate) :][: len(window), 0] for start in (0.6, 1.8)]
        spectra = [np.abs(np.fft.rfft(part * window, 1 << 20)) for part in parts]
        low, high = (int(hertz * (1 << 20) / rate) for hertz in (400, 480))
        first, second = (1200 * np.log2(low + spectrum[low:high].argmax()) for spectrum in spectra)
        assert first == pytest.approx(second, abs=1)
        return float(first)

    assert heard(-38.0) - heard(0.0) == pytest.approx(-38, abs=1)


def test_a_picture_shows_the_recording_if_there_is_one(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    soundfile.write(tmp_path / "song.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 4 * 22_050), 22_050)
    shown, bare = (
        outputs.render(SONG, [".png"], tmp_path / name, OutputSettings(), "")[0][".png"]
        for name in ("song.wav", "song.npz")
    )
    assert len(shown) > 2 * len(bare)  # noise cannot be compressed


def test_without_posteriors_none_are_written() -> None:
    contents, warnings = outputs.render(SONG, [".npz", ".csv"], Path("song.wav"), OutputSettings(), "")
    assert list(contents) == [".csv"]
    assert len(warnings) == 1


def test_posteriors_have_no_sound_to_mix() -> None:
    with pytest.raises(UsageError, match="needs the recording"):
        outputs.render(SONG, [outputs.MIXED], Path("song.npz"), OutputSettings(), "")
