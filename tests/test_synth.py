"""What the training set is made of: labels must say what sounds."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")
pytest.importorskip("torch")  # synth.py takes its constants from frontend.py
pytest.importorskip("librosa")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import music
import synth
from music import Event

RATE = synth.SAMPLE_RATE
FRAME = synth.FRAME
EXAMPLES = settings(max_examples=80, deadline=None, derandomize=True, database=None)

events = st.lists(
    st.builds(
        lambda onset, length, pitch, velocity: Event(onset, onset + length, pitch, velocity),
        st.floats(0, 12),
        st.floats(0.001, 4),
        st.integers(60, 64),
        st.floats(1, 127),
    ),
    max_size=40,
)


@EXAMPLES
@given(events, st.floats(1, 10))
def test_tidy(unsorted: list[Event], length: float) -> None:
    tidied = music.tidy(unsorted, length)
    assert [e.onset for e in tidied] == sorted(e.onset for e in tidied)
    known = {(e.onset, e.pitch, e.velocity) for e in unsorted}
    last: dict[int, float] = {}
    for e in tidied:
        assert (e.onset, e.pitch, e.velocity) in known
        assert e.offset <= length
        assert e.offset - e.onset > 0.03
        assert e.onset >= last.get(e.pitch, 0.0)
        last[e.pitch] = e.offset
    assert music.tidy(tidied, length) == tidied


@EXAMPLES
@given(events)
def test_monophonic(unsorted: list[Event]) -> None:
    line = music.monophonic(unsorted)
    assert all(a.offset <= b.onset for a, b in pairwise(line))
    assert {(e.onset, e.pitch) for e in line} <= {(e.onset, e.pitch) for e in unsorted}


@EXAMPLES
@given(events, st.integers(30, 60), st.integers(13, 40), st.integers(0, 1000))
def test_fit_range(unsorted: list[Event], low: int, width: int, seed: int) -> None:
    fitted = music.fit_range(unsorted, low, low + width, np.random.default_rng(seed))
    assert len(fitted) == len(unsorted)
    assert all(low <= e.pitch <= low + width for e in fitted)


@pytest.mark.parametrize("seed", range(8))
def test_pattern(seed: int) -> None:
    made, again = (music.pattern(12.0, 40, 80, 3, np.random.default_rng(seed)) for _ in range(2))
    assert made == again
    assert made == music.tidy(made, 12.0)
    assert len(made) > 3
    assert all(40 <= e.pitch <= 80 and 1 <= e.velocity <= 127 for e in made)


# ---------------------------------------------------------------- sound and label


def sounding_pitch(sound: np.ndarray, start: float, stop: float, near: float) -> float:
    """Pitch of the fundamental between two times, from the phase's slope in a band around ``near``."""
    f = 440 * 2 ** ((near - 69) / 12)
    a, b = int(start * RATE), int(stop * RATE)
    t = np.arange(len(sound)) / RATE
    width = int(4 * RATE / f) | 1  # four periods: nulls on the other harmonics
    window = np.hanning(width + 2)[1:-1]
    base = np.convolve(sound * np.exp(-2j * np.pi * f * t), window / window.sum(), mode="same")
    turn = np.angle(base[a + 1 : b] * np.conj(base[a : b - 1]))
    weight = np.abs(base[a + 1 : b]) ** 2
    return near + 12 * np.log2(1 + float(np.sum(turn * weight) / np.sum(weight)) * RATE / (2 * np.pi) / f)


def labelled_pitch(note: synth.Played, start: float, stop: float) -> float:
    """Mean of the label's pitch between two times."""
    first, last = round((start - note.onset) / FRAME), round((stop - note.onset) / FRAME)
    return note.pitch + float(np.mean(note.bend[first : last + 1]))


def check_label(note: synth.Played, length: float) -> None:
    assert 0 <= note.onset < note.offset <= length + 1e-6
    assert len(note.bend) * FRAME >= note.offset - note.onset
    assert np.isfinite(note.bend).all()
    assert -120 < note.level <= 6


def fake_bank(folder: Path) -> synth.Bank:
    """A bank as prepare.py writes it: one decaying sine with two harmonics at A4 and one at A3, 2 s each."""
    samples, sounds = [], []
    for index, pitch in enumerate((57.0, 69.0)):
        t = np.arange(2 * RATE) / RATE
        f = 440 * 2 ** ((pitch - 69) / 12)
        sound = sum(np.sin(2 * np.pi * f * h * t) / h**2 for h in (1, 2, 3)) * np.exp(-1.5 * t) * 0.6
        sounds.append((sound * 32767).astype(np.int16))
        samples.append(
            {
                "pitch": pitch,
                "velocity": 90,
                "gain_db": 0.0,
                "start": index * len(t),
                "length": len(t),
                "attack": 0,
                "held": len(t),
            }
        )
    meta = {"id": "fake", "family": "piano", "kind": "decay", "programs": [0], "heldout": False, "release": 0.1}
    (folder / "fake.json").write_text(json.dumps(meta | {"samples": samples}))
    np.save(folder / "fake.npy", np.concatenate(sounds))
    return synth.Bank(folder / "fake.json")


@pytest.mark.parametrize("detune", [-0.3, 0.0, 0.2, 0.45])
def test_bank_labels_say_what_sounds(tmp_path: Path, detune: float) -> None:
    bank = fake_bank(tmp_path)
    line = [Event(0.2 + 0.8 * i, 0.9 + 0.8 * i, pitch, 80) for i, pitch in enumerate((57, 60, 66, 69, 71))]
    for expression in (0.0, 1.0):
        rng = np.random.default_rng(int(100 * detune) % 97)
        sound, played = synth.play_bank(bank, line, 5.0, rng, expression=expression, detune=detune)
        assert len(sound) == 5 * RATE
        assert len(played) == len(line)
        for note, event in zip(played, line, strict=True):
            check_label(note, 5.0)
            assert note.onset == event.onset
            if not expression:
                assert note.pitch == event.pitch
            start, stop = note.onset + 0.25, note.onset + 0.5
            alone, (only,) = synth.play_bank(
                bank, [event], 5.0, np.random.default_rng(3), expression=expression, detune=detune
            )
            expected = labelled_pitch(only, start, stop)
            assert 100 * abs(sounding_pitch(alone, start, stop, expected) - expected) < 10


def test_bank_levels_follow_velocity(tmp_path: Path) -> None:
    bank = fake_bank(tmp_path)
    levels = []
    for velocity in (20, 50, 80, 110):
        rng = np.random.default_rng(0)
        _, (note,) = synth.play_bank(bank, [Event(0.1, 1, 60, velocity)], 2.0, rng, expression=0, detune=0)
        levels.append(note.level)
    assert all(b > a + 2 for a, b in pairwise(levels))


@pytest.mark.parametrize(("family", "end"), [("piano", 0.5), ("guitar", 1.5)])
def test_a_pedalled_note_ends_with_its_key(tmp_path: Path, family: str, end: float) -> None:
    bank = fake_bank(tmp_path)
    bank.family = family
    event = Event(0.1, 1.5, 60, 90, released=0.5)
    sound, (note,) = synth.play_bank(bank, [event], 2.0, np.random.default_rng(0), expression=0, detune=0)
    assert note.offset == pytest.approx(end, abs=0.001)
    assert np.abs(sound[int(1.2 * RATE) : int(1.5 * RATE)]).max() > 0.1 * np.abs(sound).max()


@pytest.mark.parametrize("seed", range(20))
def test_keys_under_the_pedal(seed: int) -> None:
    played = music.pattern(10, 40, 90, 4, np.random.default_rng(seed))
    pedalled = music.pedalled(played, 10, np.random.default_rng(seed))
    released = {(e.onset, e.pitch): e.offset for e in played}
    assert all(e.released == released[e.onset, e.pitch] for e in pedalled)
    assert np.mean([e.offset > e.released + 0.05 for e in pedalled]) > 0.2
    broken = music.arpeggios(10, 40, 90, np.random.default_rng(seed))
    assert all(e.onset < e.released for e in broken)


def test_pieces_know_key_and_pedal(tmp_path: Path) -> None:
    midi = pretty_midi.PrettyMIDI()
    piano = pretty_midi.Instrument(0)
    piano.notes = [pretty_midi.Note(80, 60, 0.5, 1.0), pretty_midi.Note(80, 64, 3.0, 3.5)]
    piano.control_changes = [pretty_midi.ControlChange(64, v, t) for v, t in ((127, 0.75), (0, 2.0))]
    midi.instruments = [piano]
    midi.write(str(tmp_path / "pedal.mid"))
    notes = music.read_midi(tmp_path / "pedal.mid")
    assert notes[:, :3] == pytest.approx(np.array([[0.5, 2.0, 60], [3.0, 3.5, 64]]), abs=0.005)
    assert notes[:, 5] == pytest.approx([1.0, 3.5], abs=0.005)
    piece = music.Piece("openscore_lieder", notes)
    for seed in range(10):
        for e in music.excerpt(piece, 10.0, np.random.default_rng(seed)):
            assert e.released <= e.offset + 1e-6 or e.offset == 10.0


def test_sustain_loop_lengthens_without_a_click(tmp_path: Path) -> None:
    raw = np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE).astype(np.float32)
    long = synth.sustain_loop(raw, 4 * RATE, np.random.default_rng(0))
    assert len(long) >= 4 * RATE
    assert np.abs(np.diff(long)).max() < 2 * np.abs(np.diff(raw)).max()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["voice", "bow", "reed"])
def test_legato_labels_say_what_sounds(kind: str, seed: int) -> None:
    pitches = (60, 64, 62, 67, 60)
    line = [Event(0.3 + 0.6 * i, 0.9 + 0.6 * i, pitch, 90) for i, pitch in enumerate(pitches)]
    sound, played = synth.legato_line(line, 4.0, np.random.default_rng(seed), kind)
    again, _ = synth.legato_line(line, 4.0, np.random.default_rng(seed), kind)
    np.testing.assert_array_equal(sound, again)
    assert len(played) == len(line)
    assert np.abs(sound).max() <= 0.31
    errors = []
    for note in played:
        check_label(note, 4.0)
        for start in np.arange(note.onset + 0.2, note.onset + 0.4, 0.05):
            expected = labelled_pitch(note, start, start + 0.05)
            errors.append(100 * abs(sounding_pitch(sound, start, start + 0.05, expected) - expected))
    # Breath noise and moving formants disturb the measurement here and there, hence not the largest.
    assert np.median(errors) < 10


@pytest.mark.parametrize("kind", synth.MODES)
def test_struck_labels_say_what_sounds(kind: str) -> None:
    played_events = [Event(0.2, 0.9, 60, 90), Event(1.2, 1.9, 67, 60), Event(2.2, 3.0, 60, 40)]
    sound, played = synth.struck(played_events, 3.5, np.random.default_rng(5), kind)
    assert len(sound) == int(3.5 * RATE)
    assert [p.onset for p in played] == [0.2, 1.2, 2.2]
    assert played[0].offset <= played[2].onset
    assert played[0].level > played[1].level > played[2].level
    assert not sound[: int(0.2 * RATE)].any()
    for note in played:
        check_label(note, 3.5)
        near = labelled_pitch(note, note.onset + 0.02, note.onset + 0.1)
        assert abs(sounding_pitch(sound, note.onset + 0.02, note.onset + 0.12, near) - near) < 0.12


@pytest.mark.parametrize("seed", range(4))
def test_reeds_labels_say_what_sounds(seed: int) -> None:
    made = [Event(0.2, 1.2, 60, 90), Event(1.5, 2.5, 64, 60), Event(2.6, 3.4, 55, 90), Event(2.6, 3.4, 67, 80)]
    sound, played = synth.reeds(made, 3.5, np.random.default_rng(seed))
    assert [p.pitch for p in played] == [60, 64, 55, 67]
    for note, event in zip(played, made, strict=True):
        check_label(note, 3.5)
        assert abs(note.onset - event.onset) < 0.02
    for note in played[:2]:  # reeds that beat: the mean over a second
        near = labelled_pitch(note, note.onset + 0.2, note.onset + 0.9)
        assert abs(sounding_pitch(sound, note.onset + 0.2, note.onset + 0.9, near) - near) < 0.2


@pytest.mark.parametrize("seed", range(4))
def test_a_harp_plays_what_it_has(seed: int) -> None:
    made = music.harp(20.0, 60, np.random.default_rng(seed))
    holes = {60 + p for p in (*music.BLOW, *music.DRAW)}
    bent = {p - 1 for p in holes}
    assert len(made) > 10
    assert {e.pitch for e in made} <= holes | bent
    assert music.tidy(made, 20.0) == made


def test_an_equaliser_says_how_much_louder_notes_become() -> None:
    pytest.importorskip("soundfile")
    import render

    t = np.arange(2 * RATE) / RATE
    for pitch in (45, 57, 69, 81):
        tone = sum(np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * h * t) / h for h in range(1, 9))
        out, gains = render.equalise(tone.astype(np.float32), np.random.default_rng(pitch))
        assert 10 * np.log10(np.mean(out**2) / np.mean(tone**2)) == pytest.approx(gains[pitch], abs=0.3)


def tone(pitch: int, seconds: float, amplitude: float) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * t)).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_an_amplifier_makes_notes_as_loud_as_their_labels(seed: int) -> None:
    pytest.importorskip("soundfile")
    import render

    dry = np.concatenate([tone(45, 0.5, 0.02), tone(57, 0.5, 0.1), tone(69, 0.5, 0.9)])
    levels = [synth.level_of(part) for part in np.split(dry, 3)]
    played = [synth.Played(i / 2, (i + 1) / 2, 45 + 12 * i, level, np.zeros(50)) for i, level in enumerate(levels)]
    material = render.Material({}, {}, [], [np.ones(1, np.float32)], {})
    sound, played = render.drive((dry, played), np.random.default_rng(seed), material)
    for note, part, before in zip(played, np.split(sound, 3), levels, strict=True):
        assert note.level == pytest.approx(synth.level_of(part), abs=0.2)
        assert note.level > before - 0.2


def test_an_overdriven_recording_says_how_much_louder_it_became(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("soundfile")
    import render

    dry = np.concatenate([tone(69, 2.0, 0.1), np.ones(50, np.float32)])
    for seed in range(4):
        out, louder = render.overdriven(dry, np.random.default_rng(seed))
        assert np.abs(out).max() <= 1.0001
        assert synth.level_of(out) - synth.level_of(dry) == pytest.approx(louder, abs=1.5)
        assert louder > 1
    monkeypatch.setattr(render, "overdriven", lambda x, _: (x, 200.0))
    material = render.Material({}, {}, [np.ones(1, np.float32)], [], {})
    gains = [render.record(dry, material, np.random.default_rng(seed), 0.0)[1][69] for seed in range(80)]
    assert 1 <= sum(gain > 100 for gain in gains) < 20


def test_a_far_microphone_hears_late() -> None:
    """By up to 10 m, never early; a dry recording at once."""
    pytest.importorskip("soundfile")
    import render

    click = np.zeros(RATE, np.float32)
    click[RATE // 2] = 1.0
    room = np.exp(-np.arange(RATE) / 2000) * np.random.default_rng(0).normal(0, 1, RATE)
    material = render.Material({}, {}, [room / np.sqrt(np.sum(room**2))], [], {})
    delays = []
    for seed in range(40):
        sound, gains = render.record(click, material, np.random.default_rng(seed), 0.0)
        assert len(sound) == len(click)
        assert np.isfinite(gains).all()
        delays.append((int(np.argmax(np.abs(sound) > 0.9 * np.abs(sound).max())) - RATE // 2) / RATE)
    assert sum(abs(d) < 0.001 for d in delays) > 10
    assert max(delays) > 0.005
    assert min(delays) > -0.001


def test_nothing_to_play() -> None:
    sound, played = synth.legato_line([], 1.0, np.random.default_rng(0), "voice")
    assert (len(sound), played) == (RATE, [])
    assert not sound.any()


def test_settle_takes_the_nearest_semitone() -> None:
    note = synth.settle(0.0, 0.5, 60.0, -20.0, np.full(60, 0.8))
    assert note.pitch == 61
    np.testing.assert_allclose(note.bend, -0.2, atol=1e-6)


def test_the_same_seed_makes_the_same_clip(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    import render

    bank = fake_bank(tmp_path)
    room = np.zeros(100, np.float32)
    room[0] = 1
    material = render.Material({"piano": [bank]}, {}, [room], [room], {"hit": room})
    clips = []
    for _ in range(2):
        rng = np.random.default_rng(7)
        made = music.pattern(render.LENGTH, bank.low, bank.high, 3, rng)
        sound, played = synth.play_bank(bank, made, render.LENGTH, rng, expression=0.3, detune=0.0)
        clips.append((*render.record(sound, material, rng, 0.0), render.merge_unisons(played)))
    (first, gains, notes), (second, same_gains, same_notes) = clips
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(gains, same_gains)
    assert len(notes) == len(same_notes) > 0
    for a, b in zip(notes, same_notes, strict=True):
        assert (a.onset, a.offset, a.pitch, a.level) == (b.onset, b.offset, b.pitch, b.level)
    assert np.isfinite(first).all()
    assert np.abs(first).max() <= 1.01
