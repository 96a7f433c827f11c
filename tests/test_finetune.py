"""Fine-tuning on a user's own recordings: what is cut, what is held out, and what comes of it."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import finetune
import pretty_midi
import soundfile
import torch
import train
from finetune import Take

from basic_transcribe import scoring
from basic_transcribe.errors import TranscribeError, UsageError
from basic_transcribe.model import Model, default_model_path
from basic_transcribe.scoring import Notes

RATE = finetune.SAMPLE_RATE


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The order of sums, and with it every digit, depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tone(
    onsets: np.ndarray, pitches: np.ndarray, seconds: float, partials: Sequence[float] = (1, 2, 3, 4)
) -> np.ndarray:
    """Decaying tones of four partials, one for each onset, each 0.4 s long."""
    audio = np.zeros(int(seconds * RATE), np.float32)
    t = np.arange(int(0.4 * RATE)) / RATE
    for onset, pitch in zip(onsets, pitches, strict=True):
        f = 440 * 2 ** ((pitch - 69) / 12)
        sound = (
            sum(np.sin(2 * np.pi * f * h * t) / k for k, h in enumerate(partials, 1))
            * np.exp(-5 * t)
            * np.minimum(1, t * 500)
        )
        start = int(onset * RATE)
        piece = audio[start : start + len(t)]
        piece += 0.2 * sound[: len(piece)].astype(np.float32)
    return audio


def take(seed: int, seconds: float = 14.0, name: str | None = None) -> Take:
    """A melody with exact labels."""
    rng = np.random.default_rng(seed)
    onsets = np.arange(0.3, seconds - 0.5, 0.5) + rng.uniform(-0.04, 0.04, len(np.arange(0.3, seconds - 0.5, 0.5)))
    pitches = rng.integers(55, 80, len(onsets)).astype(float)
    notes = Notes(np.column_stack([onsets, onsets + 0.4]), pitches, pitches)
    return Take(name or f"take{seed}", tone(onsets, pitches, seconds), notes)


def write(folder: Path, take: Take, suffix: str) -> None:
    """Audio and labels as a user has them."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{take.name}.wav", take.audio, RATE)
    rows = [(a, b, int(p)) for (a, b), p in zip(take.notes.intervals.tolist(), take.notes.pitch, strict=True)]
    path = folder / f"{take.name}{suffix}"
    if suffix == ".csv":
        path.write_text("onset_s,offset_s,pitch\n" + "".join(f"{a},{b},{p}\n" for a, b, p in rows))
        return
    midi = pretty_midi.PrettyMIDI(resolution=960)
    midi.instruments.append(pretty_midi.Instrument(0))
    midi.instruments[0].notes = [pretty_midi.Note(80, p, a, b) for a, b, p in rows]
    midi.write(str(path))


def attack(audio: np.ndarray, near: float) -> float:
    """When the sound sets in, within 0.1 s of ``near``, by its loudest rise."""
    first = int((near - 0.1) * RATE)
    window = np.abs(audio[first : first + int(0.2 * RATE)])
    energy = np.convolve(window**2, np.ones(64), mode="valid")
    return near - 0.1 + (int(np.argmax(energy > 0.05 * energy.max())) + 64) / RATE


# ---------------------------------------------------------------- recordings and labels


@pytest.mark.parametrize("suffix", [".mid", ".csv"])
def test_recordings_come_with_their_notes(tmp_path: Path, suffix: str) -> None:
    expected = take(1, 3)
    write(tmp_path / "sub", expected, suffix)
    (recording,) = scoring.recordings(tmp_path)
    read = finetune.read_take(recording)
    assert read.name == f"sub/{expected.name}"
    np.testing.assert_allclose(read.audio, expected.audio, atol=1e-4)
    np.testing.assert_allclose(read.notes.intervals, expected.notes.intervals, atol=1e-3)
    np.testing.assert_array_equal(read.notes.sounding, expected.notes.pitch)


@pytest.mark.parametrize("cents", [-30, 30])
def test_recordings_are_in_tune_as_the_model_hears_them(tmp_path: Path, guitar: Path, cents: int) -> None:
    samples, rate = soundfile.read(guitar)
    ratio, seconds = 2 ** (cents / 1200), 2 * len(samples) / rate
    soundfile.write(tmp_path / "a.wav", np.tile(samples, 2), round(rate * ratio))
    (tmp_path / "a.csv").write_text(f"onset_s,offset_s,pitch\n{0.5 * seconds / ratio},{seconds / ratio},60\n")
    read = finetune.read_take(*scoring.recordings(tmp_path))
    assert read.duration == pytest.approx(seconds, rel=0.007)  # the guitar is 9 cents sharp already
    np.testing.assert_allclose(read.notes.intervals / read.duration, [[0.5, 1.0]], atol=1e-3)
    np.testing.assert_array_equal(read.notes.sounding, [60])


def test_notes_of_another_recording_are_refused(tmp_path: Path) -> None:
    write(tmp_path, take(1, 8), ".mid")
    soundfile.write(tmp_path / "take1.wav", np.zeros(RATE), RATE)
    with pytest.raises(UsageError, match=r"lasts 1\.0 s"):
        finetune.read_take(*scoring.recordings(tmp_path))


def test_a_recording_without_samples_is_refused(tmp_path: Path) -> None:
    write(tmp_path, take(1, 3), ".mid")
    soundfile.write(tmp_path / "take1.wav", np.zeros(0), RATE)
    with pytest.raises(UsageError, match="no samples"):
        finetune.read_take(*scoring.recordings(tmp_path))


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_held_out_recordings_are_not_trained_on(count: int, share: float) -> None:
    takes = [Take(str(i), np.zeros(10, np.float32), take(1, 3).notes) for i in range(count)]
    training, heldout = finetune.split(takes, share, 3, {})
    assert training
    assert heldout
    assert not {t.name for t in training} & {t.name for t in heldout}
    assert sorted([*training, *heldout], key=lambda t: int(t.name)) == takes
    again = finetune.split(takes[::-1], share, 3, {})
    assert {t.name for t in again[1]} == {t.name for t in heldout}


@pytest.mark.parametrize(("songs", "count"), [(0, 0), (1, 1), (2, 1), (5, 2)])
def test_recordings_without_notes_are_not_held_out(songs: int, count: int) -> None:
    """They teach what is no note, but have no score."""
    notes = take(1, 3.0).notes
    bare = [Take(f"bare{i}", np.zeros(10, np.float32), finetune.since(notes, 99)) for i in range(5)]
    takes = [Take(f"song{i}", np.zeros(3 * RATE, np.float32), notes) for i in range(songs)]
    training, heldout = finetune.split([*bare, *takes], 0.4, 0, {})
    assert all(len(t.notes) for t in heldout)
    assert len(heldout) == count
    assert {t.name for t in bare} <= {t.name for t in training}


@pytest.mark.parametrize("seed", range(5))
def test_what_a_checkpoint_was_trained_on_is_held_out_last(seed: int) -> None:
    takes = [Take(str(i), np.zeros(10, np.float32), take(1, 3).notes) for i in range(10)]
    training, heldout = finetune.split(takes, 0.2, 0, {})
    trained = {t.name: t.duration for t in training}
    assert finetune.split(takes, 0.2, seed, trained)[1] == heldout
    more = [*takes, *(replace(t, name=f"new{t.name}") for t in takes)]
    assert not {t.name for t in finetune.split(more, 0.2, seed, trained)[1]} & trained.keys()
    assert len(finetune.split(takes, 0.4, seed, trained)[1]) == 4


def test_a_single_recording_is_cut_in_time() -> None:
    whole = take(1, 10.0)
    (head,), (tail,) = finetune.split([whole], 0.2, 0, {})
    assert head.duration == pytest.approx(tail.begin) == pytest.approx(8)
    np.testing.assert_array_equal(head.audio, whole.audio[: 8 * RATE])
    assert head.notes.intervals.max() <= 8 + 1e-4
    scored = finetune.since(tail.notes, tail.begin)
    assert scored.intervals[:, 0].min() >= tail.begin
    assert len(head.notes) + len(scored) == len(whole.notes)


# ---------------------------------------------------------------- clips


@pytest.mark.parametrize("semitones", [-3.07, 0.0, 2.05])
def test_labels_follow_the_speed(semitones: float) -> None:
    original = take(4)
    played = finetune.at_speed(original, semitones)
    assert played.duration == pytest.approx(original.duration / 2 ** (semitones / 12), abs=0.01)
    np.testing.assert_allclose(played.notes.pitch, original.notes.pitch + semitones)
    for onset in played.notes.intervals[:, 0]:
        assert attack(played.audio, onset) == pytest.approx(onset, abs=0.004)
    first, last = (int(t * RATE) for t in played.notes.intervals[3])
    spectrum = np.abs(np.fft.rfft(played.audio[first:last] * np.hanning(last - first), 1 << 17))
    frequency = np.argmax(spectrum) * RATE / (1 << 17)
    assert 69 + 12 * np.log2(frequency / 440) == pytest.approx(played.notes.pitch[3], abs=0.1)


def test_clips_hold_every_note_once() -> None:
    original = take(5, 40.0)
    clips = list(finetune.cut(original, begin=0.0))
    assert len(clips) == 3  # the last 4 s are too little for a clip
    onsets = []
    for index, (audio, notes) in enumerate(clips):
        assert len(audio) == finetune.CLIP
        assert notes.intervals[:, 1].max() <= finetune.render.LENGTH
        onsets += [o + index * finetune.render.LENGTH for o in notes.intervals[:, 0] if o >= 0]
        for onset in notes.intervals[(notes.intervals[:, 0] > 0.1) & (notes.intervals[:, 0] < 11.8), 0]:
            assert attack(audio, onset) == pytest.approx(onset, abs=0.004)
    expected = original.notes.intervals[:, 0]
    np.testing.assert_allclose(onsets, expected[expected < 36], atol=1e-6)


def test_a_short_recording_is_one_clip() -> None:
    ((audio, notes),) = finetune.cut(take(6, 2.0), begin=0.0)
    assert len(audio) == finetune.CLIP
    assert not audio[2 * RATE :].any()
    assert len(notes) == len(take(6, 2.0).notes)


@pytest.mark.parametrize("late", [-0.2, 0.0, 0.11])
def test_labels_that_lag_are_found_out(late: float) -> None:
    original = take(7, 6.0)
    moved = finetune.replace(original, notes=finetune.moved(original.notes, late))
    assert finetune.lag([finetune.agreement(moved, Model(threads=1))]) == pytest.approx(late, abs=0.015)


def test_no_lag_is_found_where_the_network_hears_nothing() -> None:
    original = take(7, 6.0)
    bell = tone(original.notes.intervals[:, 0], original.notes.pitch, 6.0, (1.5, 2.76, 5.4, 8.9))
    heard = finetune.agreement(finetune.replace(original, audio=bell), Model(threads=1))
    assert finetune.lag([heard]) is None


# ---------------------------------------------------------------- the whole way


def options(folder: Path, out: Path, *more: str) -> argparse.Namespace:
    """What the command line gives by default, for a run of seconds."""
    short = ("--steps", "8", "--passes", "2", "--lr", "1e-3")
    return finetune.parse_arguments([str(folder), "--out", str(out), *short, *more])


def loss(checkpoint: Path, clips: list[train.Clip]) -> float:
    """Of the averaged weights, on crops that no training step has met."""
    network = finetune.load_network(checkpoint).eval()
    batch = next(train.batches([], clips, train.Options(steps=10**6, batch=8, frames=200, real=1.0), first=10**5))
    with torch.no_grad():
        parts = train.losses(network(*train.inputs(batch, network)), batch)
    return float(sum(train.WEIGHTS[k] * v for k, v in parts.items()))


def test_from_a_folder_to_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finetune, "BATCH", 2)
    folder, out = tmp_path / "songs", tmp_path / "run"
    for seed, suffix in ((1, ".mid"), (2, ".csv"), (3, ".mid")):
        write(folder, take(seed), suffix)
    kept = tmp_path / "kept"
    finetune.write_clips([take(8)], kept, 1, 0, Model(threads=1), finetune.material(None))
    finetune.finetune(options(folder, out, "--keep", str(kept), "--keep-share", "0.2"))

    printed = capsys.readouterr().out
    assert "held-out" in printed
    assert "MEAN" in printed
    trained = torch.load(out / "last.pt", weights_only=True)["trained"]
    assert trained.keys() < {"take1", "take2", "take3"}
    assert list(trained.values()) == pytest.approx([14, 14])
    clips, _ = train.load_clips(out / "clips")
    assert len(clips) >= 4
    for clip in clips:
        onset = clip.notes[:, 1]
        assert np.isfinite(clip.notes[onset > 0.1, 4]).all()  # loudness is filled in
    assert loss(out / "last.pt", clips) < loss(finetune.newest_checkpoint(), clips)

    model, shipped = Model(out / "model.onnx", threads=1), Model(threads=1)
    assert model.defaults == shipped.defaults
    assert model.name == f"{shipped.name}+run"
    posteriors = finetune.posteriors(model, take(9, 2.0).audio)
    frames = -(-2 * RATE // model.hop)
    assert posteriors.onset.shape == posteriors.note.shape == posteriors.level.shape == (frames, 88)
    assert posteriors.contour.shape == (frames, 264)
    assert np.isfinite(posteriors.level).all()
    before = finetune.posteriors(shipped, take(9, 2.0).audio)
    assert np.abs(posteriors.onset - before.onset).max() > 1e-3

    statistics = [
        {k: v for k, v in finetune.load_network(path).state_dict().items() if "running" in k}
        for path in (finetune.newest_checkpoint(), out / "last.pt")
    ]
    for name, value in statistics[0].items():
        torch.testing.assert_close(statistics[1][name], value, rtol=1e-5, atol=1e-6)


def test_measuring_the_speed_changes_nothing(tmp_path: Path) -> None:
    finetune.write_clips([take(1)], tmp_path, 1, 0, Model(threads=1), finetune.material(None))
    clips, _ = train.load_clips(tmp_path)
    network = finetune.load_network(finetune.newest_checkpoint())
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    assert finetune.steps_in(0.1, network, clips, [], train.Options(batch=1, frames=40, real=1.0)) >= 1
    for name, value in network.state_dict().items():
        assert torch.equal(value, weights[name])


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TranscribeError, match=f"{tmp_path.name}: no recordings"):
        finetune.finetune(options(tmp_path, tmp_path / "run"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--shift", "nan"),
        ("--shift", "12"),
        ("--shift", "-0.51"),
        ("--shift", "late"),
        ("--minutes", "nan"),
        ("--minutes", "inf"),
        ("--lr", "nan"),
    ],
)
def test_what_makes_no_sense_is_refused(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        finetune.parse_arguments(["songs", "--out", "run", option, value])
    assert option in capsys.readouterr().err


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is exported, and training stops at once."""

    def interrupted(*_: object) -> None:
        raise RuntimeError("stopped")

    monkeypatch.setattr(
        finetune, "write_model", lambda network, path, name: shutil.copyfile(default_model_path(), path)
    )
    monkeypatch.setattr(train, "train", interrupted)


def test_an_earlier_run_is_not_taken_for_one_that_was_stopped(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "songs", tmp_path / "run"
    for seed, where in ((1, "one"), (2, "two")):
        write(folder / where, take(seed, 3.0, name="take"), ".csv")
    soundfile.write(folder / "bare.wav", np.zeros(RATE), RATE)
    out.mkdir()
    (out / "model.onnx").write_text("old")
    with pytest.raises(RuntimeError, match="stopped"):
        finetune.finetune(options(folder, out))
    assert (out / "model.onnx").read_text() == "old"
    printed = capsys.readouterr().out
    assert f"{out / 'model.onnx'} is an earlier run's until this one is done" in printed
    assert "recordings without a reference, left out: 1" in printed
    assert "one/take" in printed
    assert "two/take" in printed


@pytest.mark.parametrize("option", ["--keep", "--data", "--checkpoint"])
def test_a_wrong_path_costs_nothing(tmp_path: Path, quick: None, option: str) -> None:
    folder, out = tmp_path / "songs", tmp_path / "run"
    for seed in (1, 2):
        write(folder, take(seed, 3.0), ".csv")
    out.mkdir()
    for name in ("before.onnx", "last.pt", "model.onnx", "model.onnx.sha256"):
        (out / name).write_text("old")
    with pytest.raises((UsageError, FileNotFoundError), match="gone"):
        finetune.finetune(options(folder, out, option, str(tmp_path / "gone")))
    assert {path.name: path.read_text() for path in out.iterdir()} == dict.fromkeys(
        ("before.onnx", "last.pt", "model.onnx", "model.onnx.sha256"), "old"
    )


def test_held_out_recordings_that_were_trained_on_are_named(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2):
        write(tmp_path / "songs", take(seed, 3.0), ".csv")
    for trained in ({"take1": 3.0}, {"take1": 3.0, "take2": 3.0}):
        state = train.State.begin(finetune.load_network(finetune.newest_checkpoint()))
        state.trained = trained
        state.save(tmp_path / "start.pt")
        with pytest.raises(RuntimeError, match="stopped"):
            finetune.finetune(options(tmp_path / "songs", tmp_path / "run", "--checkpoint", str(tmp_path / "start.pt")))
        assert ("start.pt was trained on take" in capsys.readouterr().out) is (len(trained) == 2)


def test_an_export_that_fails_leaves_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(finetune.export.torch.onnx, "export", failing)
    with pytest.raises(RuntimeError):
        finetune.write_model(finetune.load_network(finetune.newest_checkpoint()), tmp_path / "model.onnx", "run")
    assert not [*tmp_path.iterdir()]


def test_recordings_whose_labels_lag_unlike_the_others_are_named(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, late in enumerate((0.1, 0.1, 0.1, 0.3, -0.2)):
        original = take(seed, 6.0)
        write(tmp_path / "songs", replace(original, notes=finetune.moved(original.notes, late)), ".csv")
    with pytest.raises(RuntimeError, match="stopped"):
        finetune.finetune(options(tmp_path / "songs", tmp_path / "run"))
    printed = capsys.readouterr().out
    named = re.findall(r"^(\w+): labels lag the sound by (-?\d+) ms, unlike", printed, re.MULTILINE)
    assert {name: int(lag) for name, lag in named} == pytest.approx({"take3": 300, "take4": -200}, abs=15)


def test_notes_moved_out_of_the_recordings_are_missed(tmp_path: Path, quick: None) -> None:
    early = Notes(np.array([[0.05, 0.4]]), np.array([60.0]), np.array([60.0]))
    for name in ("a", "b"):
        write(tmp_path / "songs", Take(name, take(1, 3.0).audio, early), ".csv")
    with pytest.raises(UsageError, match="no notes to train on"):
        finetune.finetune(options(tmp_path / "songs", tmp_path / "run", "--shift", "0.5"))


def test_the_verdict_is_plain() -> None:
    good, bad = {"F50": 0.8, "Foff": 0.4}, {"F50": 0.7, "Foff": 0.3}
    assert finetune.verdict(good, bad, Path("m.onnx")).startswith("WORSE")
    assert "WORSE" in finetune.verdict(good, good | {"Foff": 0.3}, Path("m.onnx"))
    assert finetune.verdict(bad, good, Path("m.onnx")).startswith("No worse")
    with pytest.raises(UsageError, match="labels do not fit"):
        finetune.verdict(bad | {"F50": 0.0}, bad | {"F50": 0.0}, Path("m.onnx"))
