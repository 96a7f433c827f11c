"""The test of General MIDI's programs: what is asked of the synthesiser, and where the references lie."""

from __future__ import annotations

import csv
import stat
import sys
from pathlib import Path

import mido
import pytest

pytest.importorskip("scipy")
pytest.importorskip("torch")
pytest.importorskip("librosa")
pytest.importorskip("soundfile")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import electronic
import programs
from test_waves import sung

CONFIG = """dir /somewhere
drumset 0
 35 kick.pat
bank 0
 0 piano.pat amp=120
 73\tflute.pat
 120 noise.pat
 # 5 nothing.pat
bank 1
 4 other.pat
"""


def test_the_programs_of_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "a.cfg"
    path.write_text(CONFIG)
    assert programs.available(path) == [0, 73]
    path.write_text("dir /somewhere\n\nsoundfont a.sf2\n")
    assert programs.available(path) == list(range(112))


@pytest.mark.parametrize(("low", "high"), [(60, 71), (24, 67), (72, 108), (36, 96)])
def test_keys_are_moved_into_a_range_by_octaves(low: int, high: int) -> None:
    keys = [electronic.Key(0, 1, pitch, 80) for pitch in range(12, 116)]
    moved = programs.within(keys, low, high)
    assert all(low <= key.pitch <= high for key in moved)
    assert all((a.pitch - b.pitch) % 12 == 0 for a, b in zip(keys, moved, strict=True))
    assert all(a.pitch == b.pitch for a, b in zip(keys, moved, strict=True) if low <= a.pitch <= high)


def test_references_begin_with_the_sound_and_lie_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[electronic.Key] = []

    def play(program: int, given: list[electronic.Key], config: Path, path: Path) -> None:
        assert program in (16, 73)
        keys[:] = given
        sung([] if program == 73 else given, -12, path)

    monkeypatch.setattr(programs, "play", play)
    assert programs.write(16, out=tmp_path, config=tmp_path, seed=1)
    assert keys[0].onset == 0
    with (tmp_path / "organs" / "016.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["midi_pitch"]) for row in rows] == [key.pitch - 12 for key in keys]
    assert [float(row["onset_s"]) for row in rows] == pytest.approx([key.onset / 96 for key in keys], abs=1e-4)
    assert not programs.write(73, out=tmp_path, config=tmp_path, seed=1)
    assert not list((tmp_path / "pipes").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_timidity_plays_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from basic_transcribe.errors import TranscribeError

    program = tmp_path / "timidity"
    program.write_text('#!/bin/sh\nfor i; do case "$i" in *.mid) cp "$i" seen.midi;; esac; done\nexit ${FAIL:-0}\n')
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    keys = [electronic.Key(0, 48, 69, 80), electronic.Key(48, 96, 69, 60)]
    programs.play(40, keys, tmp_path / "a.cfg", tmp_path / "a.wav")
    score = mido.MidiFile(tmp_path / "seen.midi")
    time, events = 0.0, []
    for message in score:
        time += message.time
        if message.type == "note_on":
            events.append((round(time, 6), message.note, message.velocity))
    assert events == [(0.0, 69, 80), (0.5, 69, 0), (0.5, 69, 60), (1.0, 69, 0)]
    assert next(m for m in score if m.type == "program_change").program == 40
    monkeypatch.setenv("FAIL", "3")
    with pytest.raises(TranscribeError, match="timidity fails"):
        programs.play(40, keys, tmp_path / "a.cfg", tmp_path / "a.wav")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(TranscribeError, match="timidity is not there; install it"):
        programs.play(40, keys, tmp_path / "a.cfg", tmp_path / "a.wav")
    assert not (tmp_path / "a.mid").exists()
