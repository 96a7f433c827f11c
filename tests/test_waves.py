"""The synthesisers of the training set, and the test with those of LMMS: labels must say what sounds."""

from __future__ import annotations

import csv
import stat
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("torch")
pytest.importorskip("librosa")
pytest.importorskip("soundfile")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import electronic
import soundfile
import waves
from music import Event
from test_synth import RATE, check_label, labelled_pitch, sounding_pitch

LINE = [Event(0.3 + 0.6 * i, 0.9 + 0.6 * i, pitch, 90) for i, pitch in enumerate((60, 64, 62, 67, 60))]


def test_labels_say_what_sounds() -> None:
    errors = []
    for seed in range(40):
        sound, played = waves.electronic(LINE, 4.0, np.random.default_rng(seed))
        assert len(sound) == 4 * RATE
        assert np.abs(sound).max() == pytest.approx(0.3, abs=0.01)
        assert not sound[: int(0.29 * RATE)].any()
        assert [note.pitch for note in played] == [event.pitch for event in LINE]
        for note, event in zip(played, LINE, strict=True):
            check_label(note, 4.1)
            assert 0 <= note.onset - event.onset < waves.LATEST + 1e-6
            assert note.offset - event.offset < 0.041
            end = min(note.offset, note.onset + 0.4)
            if end - note.onset > 0.2:
                expected = labelled_pitch(note, note.onset + 0.1, end)
                errors.append(100 * abs(sounding_pitch(sound, note.onset + 0.1, end, expected) - expected))
    # Voices that beat and partials that move past each other disturb the measurement, hence not the largest.
    assert len(errors) > 150
    assert np.median(errors) < 4
    assert np.quantile(errors, 0.9) < 25


def test_the_same_seed_plays_the_same() -> None:
    sound, played = waves.electronic(LINE, 3.0, np.random.default_rng(3))
    again, _ = waves.electronic(LINE, 3.0, np.random.default_rng(3))
    np.testing.assert_array_equal(sound, again)
    assert len(played) == len(LINE)
    silence, none = waves.electronic([], 1.0, np.random.default_rng(0))
    assert (len(silence), none) == (RATE, [])
    assert not silence.any()


@pytest.mark.parametrize("seed", range(12))
def test_a_note_struck_again_lets_go_first(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes to die: else a label would tell of an onset that nobody can hear."""
    monkeypatch.setattr(waves, "effects", lambda x, _: x)  # an echo would sound in between
    line = [Event(0.2, 0.7, 57, 100), Event(0.7, 1.2, 57, 100)]
    patch = waves.patch(np.random.default_rng(seed), 0.5)
    assert patch.release <= 0.25
    assert patch.attack <= 0.2
    assert patch.glide <= 0.06
    sound, _ = waves.electronic(line, 1.5, np.random.default_rng(seed))

    def loud(begin: float, end: float) -> float:
        return float(np.sqrt(np.mean(sound[int(begin * RATE) : int(end * RATE)] ** 2)))

    assert loud(0.697, 0.6995) < 0.4 * max(loud(0.6, 0.66), loud(0.75, 0.85))


def test_a_filter_takes_what_lies_above_it() -> None:
    patch = waves.patch(np.random.default_rng(0), 1.0)
    low, high = waves.tables(patch, 220.0, np.array([300.0, 10_000.0]))[:, :-1]
    brightness = [np.abs(np.fft.rfft(wave))[8:].sum() / np.abs(np.fft.rfft(wave))[1] for wave in (low, high)]
    assert brightness[0] < 0.2 * brightness[1]
    assert not np.abs(np.fft.rfft(high))[int(waves.CEILING / 220) + 1 :].max() > 1e-2


@pytest.mark.parametrize("seed", range(30))
def test_a_sequence_keeps_its_range_and_its_step(seed: int) -> None:
    events = waves.sequence(8.0, 36, 60, np.random.default_rng(seed))
    assert len(events) > 5
    assert all(36 <= e.pitch <= 60 and e.onset < e.offset <= 8.0 for e in events)
    onsets = np.array([e.onset for e in events])
    steps = np.diff(onsets) / np.diff(onsets).min()
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)


PRESET = """<lmms-project><instrumenttracksettings><instrumenttrack fxch="3"><arpeggiator arp-enabled="{arp}"/>
<chordcreator chord-enabled="1" chord="{chord}"/></instrumenttrack></instrumenttracksettings></lmms-project>"""


def test_presets_that_play_notes_of_their_own_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.xpf"
    for packed in (False, True):
        for arp, chord, taken in ((0, 0, True), (1, 0, False), (0, 5, False)):
            data = PRESET.format(arp=arp, chord=chord).encode()
            path.write_bytes(len(data).to_bytes(4, "big") + zlib.compress(data) if packed else data)
            assert (electronic.preset(path) is not None) == taken
    path.write_text("<lmms-project/>")
    assert electronic.preset(path) is None


def sung(keys: list[electronic.Key], above: float, path: Path) -> None:
    """The keys as sines."""
    t = np.arange(8 * electronic.SAMPLE_RATE) / electronic.SAMPLE_RATE
    sound = np.zeros(len(t))
    for key in keys:
        begin, end = key.seconds
        f = 440 * 2 ** ((key.pitch + above - 69) / 12)
        sound += np.where((t >= begin) & (t < end), 0.3 * np.sin(2 * np.pi * f * (t - begin)), 0)
    soundfile.write(path, sound, electronic.SAMPLE_RATE)


def test_the_octave_is_heard(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    keys, path = electronic.melody(rng), tmp_path / "a.wav"
    for above, found in ((0, 0), (-12.2, -12), (12, 12), (7, None)):
        sung(keys, above, path)
        assert electronic.octave(path, keys) == found
    soundfile.write(path, rng.normal(0, 0.1, 8 * electronic.SAMPLE_RATE), electronic.SAMPLE_RATE)
    assert electronic.octave(path, keys) is None
    soundfile.write(path, np.zeros(8 * electronic.SAMPLE_RATE), electronic.SAMPLE_RATE)
    assert electronic.octave(path, keys) is None


def test_references_lie_where_a_preset_sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    presets, out = tmp_path / "presets" / "Organ", tmp_path / "out"
    presets.mkdir(parents=True)
    (presets / "An Octave.xpf").write_text(PRESET.format(arp=0, chord=0))
    (presets / "Arp.xpf").write_text(PRESET.format(arp=1, chord=0))
    keys: list[electronic.Key] = []

    def play(_: object, given: list[electronic.Key], path: Path) -> None:
        keys.extend(given)
        sung([key for key in given if key.seconds[0] < 7.2], 12, path)

    monkeypatch.setattr(electronic, "play", play)
    assert electronic.write((0, presets / "An Octave.xpf"), out=out, seed=1)
    assert not electronic.write((1, presets / "Arp.xpf"), out=out, seed=1)
    assert sorted(p.name for p in out.rglob("*.*")) == ["An_Octave.csv", "An_Octave.wav"]
    with (out / "Organ" / "An_Octave.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["midi_pitch"]) for row in rows] == [key.pitch + 12 for key in keys]
    assert [float(row["onset_s"]) for row in rows] == pytest.approx([key.onset / 96 for key in keys], abs=1e-4)
    line = electronic.melody(np.random.default_rng([1, 0]))
    assert all(a.offset <= b.onset for a, b in pairwise(line))


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_lmms_plays_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from basic_transcribe.errors import TranscribeError

    path = tmp_path / "a.xpf"
    path.write_text(PRESET.format(arp=0, chord=0))
    instrument = electronic.preset(path)
    assert instrument is not None
    program = tmp_path / "lmms"
    program.write_text('#!/bin/sh\nfor i; do case "$i" in *.mmp) cp "$i" seen.xml;; esac; done\nexit ${FAIL:-0}\n')
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    keys = [electronic.Key(24, 72, 69, 80)]
    electronic.play(instrument, keys, tmp_path / "a.wav")
    project = (tmp_path / "seen.xml").read_text()
    assert '<note pos="24" len="48" key="57" vol="80" pan="0"' in project
    assert not (tmp_path / "a.mmp").exists()
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(TranscribeError, match="lmms fails"):
        electronic.play(instrument, keys, tmp_path / "a.wav")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(TranscribeError, match="lmms is not there; install it"):
        electronic.play(instrument, keys, tmp_path / "a.wav")
