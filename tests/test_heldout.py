"""The rendered test on unseen instruments: its material is fair, its scores are right where the answer is known."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")
pytest.importorskip("torch")  # synth.py takes its constants from frontend.py
pytest.importorskip("librosa")
pytest.importorskip("soundfile")
pytest.importorskip("mir_eval")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import heldout
import render
import synth
from music import Event, Piece

from basic_transcribe import scoring
from basic_transcribe.types import Note, PitchBend

RATE = synth.SAMPLE_RATE
LENGTH = 3.0

events = st.lists(
    st.builds(
        lambda onset, length, pitch: Event(onset, onset + length, pitch, 80.0),
        st.floats(0, 12),
        st.floats(0.05, 4),
        st.integers(30, 90),
    ),
    max_size=40,
).map(lambda unsorted: sorted(unsorted, key=lambda e: e.onset))


def fake_bank(
    folder: Path,
    name: str = "fake",
    *,
    family: str = "piano",
    program: int = 0,
    soft: float = -20.0,
    attack: float = 0.0,
    wobble: float = 0.0,
) -> synth.Bank:
    """A bank as prepare.py writes it: A2 to A4, soft and loud, with ``attack`` s to swell and ``wobble`` semitones."""
    samples, sounds = [], []
    t = np.arange(2 * RATE) / RATE
    bend = wobble * np.sin(2 * np.pi * t)
    envelope = np.exp(-t) * (np.clip(t / attack, 0, 1) if attack else 1)
    for pitch in (45.0, 57.0, 69.0):
        phase = 2 * np.pi * np.cumsum(440 * 2 ** ((pitch + bend - 69) / 12)) / RATE
        sound = sum(np.sin(h * phase) / h**2 for h in (1, 2, 3)) * envelope * 0.6
        for velocity, gain in ((40, soft), (100, 0.0)):
            place = {"start": len(sounds) * len(t), "length": len(t), "attack": 0, "held": len(t)}
            samples.append({"pitch": pitch, "velocity": velocity, "gain_db": gain, **place})
            sounds.append((sound * 32767).astype(np.int16))
    meta = {"id": name, "family": family, "kind": "decay", "programs": [program], "heldout": True, "release": 0.1}
    (folder / f"{name}.json").write_text(json.dumps(meta | {"samples": samples}))
    np.save(folder / f"{name}.npy", np.concatenate(sounds))
    return synth.Bank(folder / f"{name}.json")


def fake_material(folder: Path) -> render.Material:
    """Two instruments, and music of four parts that never ends."""
    banks = {f: [fake_bank(folder, f, family=f, program=i)] for i, f in enumerate(("piano", "guitar"))}
    rows = [
        (0.4 * i, 0.4 * i + 0.35, 48 + 5 * k + i % 7, 60 + 10 * k, k, 0.4 * i + 0.3)
        for i in range(200)
        for k in range(4)
    ]
    piece = Piece("fake", np.array(rows, np.float32))
    sources = {*heldout.MELODIES, *heldout.CHORDS, *(s for sources in heldout.SCORES.values() for s in sources)}
    room = np.zeros(100, np.float32)
    room[0] = 1
    hit = np.random.default_rng(0).normal(0, 1, 2000).astype(np.float32)
    return render.Material(
        banks, {s: [piece] for s in sorted(sources)}, [room], [room], {"hit": hit, "loop": hit}, LENGTH
    )


@pytest.fixture
def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of one solo, one duet with drums and one clip of each gesture."""
    monkeypatch.setattr(heldout, "SOLOS", {"piano": (("piano", 4),)})
    monkeypatch.setattr(heldout, "ENSEMBLES", {"duets_drums": 2})
    monkeypatch.setattr(heldout, "ENSEMBLE_CLIPS", 1)
    monkeypatch.setattr(heldout, "GESTURE_CLIPS", 1)
    heldout.render(fake_material(tmp_path), tmp_path / "set", 1)
    return tmp_path / "set"


# ---------------------------------------------------------------- material


def test_set(rendered: Path, tmp_path: Path) -> None:
    found = scoring.recordings(rendered)
    assert [r.set_name for r in found] == ["bends", "bends", "bends", "duets_drums", "piano"]
    assert sorted(r.name.split("_")[0] for r in found[:3]) == sorted(heldout.GESTURES)
    for recording in found:
        ref, (bends, swell) = scoring.load_reference(recording.reference), heldout.load_bends(recording)
        assert len(ref) == len(bends) == len(swell) >= 3
        assert ((swell >= 0) & (swell <= 0.03)).all()
        assert ref.velocity is not None
        assert np.all(np.diff(ref.intervals[:, 0]) >= 0)
        assert np.all((ref.pitch >= 21) & (ref.pitch <= 108))
        assert ref.intervals.max() <= LENGTH
        for (onset, offset), bend in zip(ref.intervals, bends, strict=True):
            assert len(bend) * synth.FRAME >= offset - onset - 1e-3
    digest = heldout.digest(rendered)
    for seed, same in ((1, True), (2, False)):
        heldout.render(fake_material(tmp_path), tmp_path / "again", seed)
        assert (heldout.digest(tmp_path / "again") == digest) is same
    path = next(rendered.rglob("*.bends.npz"))
    with np.load(path) as data:
        arrays = dict(data)
    np.savez(path, **(arrays | {"semitones": arrays["semitones"] + 0.1}))
    assert heldout.digest(rendered) != digest


def test_unfair_banks(tmp_path: Path) -> None:
    assert heldout.fair(fake_bank(tmp_path))
    assert not heldout.fair(fake_bank(tmp_path, program=84))
    slow = fake_bank(tmp_path, attack=0.6)
    assert heldout.rise(slow) == pytest.approx(0.083, abs=0.01)  # where t exp(-t) is a quarter of what it is at 0.5
    assert not heldout.fair(slow)


def test_only_steady_banks_bend(tmp_path: Path) -> None:
    assert heldout.unsteadiness(fake_bank(tmp_path)) < 2
    assert heldout.unsteadiness(fake_bank(tmp_path, wobble=0.3)) > 10


def test_velocity_is_left_out_where_it_does_not_sound(tmp_path: Path) -> None:
    m = fake_material(tmp_path)
    for soft, known in ((-20.0, True), (-1.0, False)):
        bank = fake_bank(tmp_path, soft=soft)
        assert heldout.dynamic(bank) is known
        rng = np.random.default_rng(0)
        audio, notes = heldout.mix([heldout.plainly(bank, heldout.music(m, bank, 4, rng), m, rng)], m, rng, drums=False)
        heldout.write_clip(tmp_path / "clips", "a", audio, notes)
        assert (scoring.load_reference(tmp_path / "clips" / "a.csv").velocity is not None) is known


@pytest.mark.parametrize("attack", [0.0, 0.1])
def test_a_note_begins_where_it_is_heard(tmp_path: Path, attack: float) -> None:
    m, bank = fake_material(tmp_path), fake_bank(tmp_path, attack=attack)
    bend = np.linspace(0, 0.4, 200)
    sound, (note,) = heldout.play(bank, [Event(0.5, 1.5, 57, 100)], [bend], m, np.random.default_rng(0))
    peak = np.abs(sound[: int(0.7 * RATE)]).max()
    assert note.onset == pytest.approx(np.argmax(np.abs(sound) > 0.2 * peak) / RATE, abs=0.01)
    assert note.bend[0] == pytest.approx(np.interp(note.onset - 0.5, synth.FRAME * np.arange(200), bend), abs=0.005)
    assert note.offset == pytest.approx(1.5)
    assert note.onset - note.swell == pytest.approx(0.5)


def test_choose_takes_each_program_before_any_twice(tmp_path: Path) -> None:
    banks = [fake_bank(tmp_path, f"{font}{program}", program=program) for font in "ab" for program in range(3)]
    for seed in range(5):
        chosen = heldout.choose(banks, 8, np.random.default_rng(seed))
        assert {b.programs[0] for b in chosen[:3]} == {0, 1, 2}
        assert len({b.id for b in chosen[:6]}) == 6
        assert len(chosen) == 8


@settings(max_examples=80, deadline=None)
@given(events, st.integers(1, 4))
def test_limit(line: list[Event], voices: int) -> None:
    limited = heldout.limit(line, voices)
    assert [(e.onset, e.pitch) for e in limited] == [(e.onset, e.pitch) for e in line]
    for e, original in zip(limited, line, strict=True):
        assert e.onset <= e.offset <= original.offset
        assert sum(o.onset <= e.onset < o.offset for o in limited) <= voices


@settings(max_examples=80, deadline=None)
@given(events, st.integers(20, 60), st.integers(11, 40))
def test_in_octaves_keeps_the_key(line: list[Event], low: int, width: int) -> None:
    moved = heldout.in_octaves(line, low, low + width)
    assert [e.onset for e in moved] == [e.onset for e in line]
    for e, original in zip(moved, line, strict=True):
        assert low <= e.pitch <= low + width
        assert (e.pitch - original.pitch) % 12 == 0


@settings(max_examples=80, deadline=None)
@given(events, st.integers(2, 4))
def test_deal(score: list[Event], players: int) -> None:
    parts = heldout.deal(score, players)
    assert len(parts) == players
    assert sorted((e for part in parts for e in part), key=repr) == sorted(score, key=repr)
    filled = [part for part in parts if part]
    for below, above in pairwise(filled):
        assert max(e.pitch for e in below) <= min(e.pitch for e in above)


def test_notes_that_nobody_can_hear_are_no_references(tmp_path: Path) -> None:
    m = fake_material(tmp_path)
    rng = np.random.default_rng(0)
    loud, quiet = (heldout.plainly(m.banks["piano"][0], [Event(0.5, 1.5, pitch, 100)], m, rng) for pitch in (60, 67))
    sound = quiet[0] * np.float32(10 ** (-50 / 20))
    part = loud[0] + sound, [*loud[1], *(replace(p, level=p.level - 50) for p in quiet[1])]
    _, notes = heldout.mix([part], m, np.random.default_rng(0), drums=False)
    assert [p.pitch for p in notes] == [60]


@pytest.mark.parametrize("seconds", [0.4, 1.5])
def test_reverberation(seconds: float) -> None:
    t = np.arange(2 * RATE) / RATE
    decay = np.random.default_rng(0).normal(0, 1, len(t)) * 10 ** (-3 * t / seconds)
    assert heldout.reverberation(decay) == pytest.approx(seconds, rel=0.1)


# ---------------------------------------------------------------- scores


def told(recording: scoring.Recording, late: float, sharp: float) -> list[Note]:
    """The reference as a transcription, ``late`` by seconds and ``sharp`` by semitones."""
    ref, (bends, _) = scoring.load_reference(recording.reference), heldout.load_bends(recording)
    velocity = ref.velocity if ref.velocity is not None else np.full(len(ref), 80)
    return [
        Note(a + late, b + late, int(p), int(v), 1.0, PitchBend(a, synth.FRAME, (bend + sharp).astype(np.float32)))
        for (a, b), p, v, bend in zip(ref.intervals, ref.pitch, velocity, bends, strict=True)
    ]


@pytest.mark.parametrize(("late", "sharp"), [(0.0, 0.0), (0.01, 0.2)])
def test_score_of_a_transcription_that_is_known(
    rendered: Path, monkeypatch: pytest.MonkeyPatch, late: float, sharp: float
) -> None:
    answers = {r.audio: told(r, late, sharp) for r in scoring.recordings(rendered)}

    class Oracle:
        model = SimpleNamespace(sha256="0" * 64)

        def __init__(self, model: Path | None, threads: int) -> None:
            pass

        def transcribe(self, source: Path) -> Any:
            return SimpleNamespace(notes=answers[source])

    monkeypatch.setattr(heldout, "Transcriber", Oracle)
    result = heldout.score(rendered, None, None)
    assert [r["F50"] for r in result["recordings"]] == [1.0, 1.0]
    assert result["recordings"][1]["rvel"] == pytest.approx(1.0)
    swells = {r.name: heldout.load_bends(r)[1] for r in scoring.recordings(rendered)}
    for row in result["recordings"]:
        np.testing.assert_allclose(row["onset_errors_ms"], 1000 * late, atol=1e-6)
        expected = sorted(1000 * (late + swells[row["name"]]))
        np.testing.assert_allclose(sorted(row["sound_errors_ms"]), expected, atol=1e-6)
    assert set(result["cents"]) == set(heldout.GESTURES)
    for errors in result["cents"].values():
        assert len(errors) > 100
        np.testing.assert_allclose(errors, 100 * sharp, atol=0.1)
    json.dumps(result)
    text = heldout.table(result)
    assert "piano             1  1.000  1.000  1.000" in text
    assert f"pitch, all      median error {100 * sharp:5.1f} cents, within 25: 1.000" in text


def test_contour_errors_leave_out_what_is_another_note() -> None:
    ref = scoring.Notes(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([60.0, 64.0]), np.array([60.0, 64.0]))
    bends = [np.full(90, 0.45), np.zeros(90)]
    written_above = Note(1.0, 1.5, 61, 80, 1.0, PitchBend(1.0, 0.01, np.full(60, -0.5, np.float32)))
    errors = heldout.contour_errors(ref, bends, [written_above, Note(3.0, 4.0, 65, 80, 1.0)])
    assert len(errors) == pytest.approx(0.5 / synth.FRAME, abs=1)
    np.testing.assert_allclose(errors, 5, atol=1e-3)
    assert len(heldout.contour_errors(ref, bends, [])) == 0
