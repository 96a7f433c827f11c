"""Scripts through their command lines: what they write, what they refuse, and in how many lines."""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import io
import json
import multiprocessing
import re
import shutil
import signal
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from conftest import GUITAR, ROOT

from basic_transcribe import Transcriber, scoring
from basic_transcribe.errors import AudioError, UsageError
from basic_transcribe.exports import notes_to_csv
from basic_transcribe.midi import read_fingerprint, to_midi
from basic_transcribe.model import Model, default_model_path
from basic_transcribe.types import Note, TrackerSettings

sys.path.insert(0, str(ROOT / "scripts"))

NEEDS = {
    "benchmark": (),
    "calibrate": ("onnx", "scipy"),
    "compare": (),
    "disturb": ("scipy",),
    "evaluate": ("mir_eval", "scipy"),
    "export": ("torch", "onnx", "scipy"),
    "heldout": ("torch", "scipy"),
    "lowest": (),
    "music": (),
    "plot": ("matplotlib",),
    "prepare": (),
    "render": ("torch", "scipy"),
    "score_beats": ("mir_eval",),
    "together": ("scipy",),
    "train": ("torch", "scipy"),
    "tune_presets": ("onnx", "scipy"),
}


def script(name: str) -> Any:
    """A script as a module; the test is skipped where a library that it needs is missing."""
    for library in NEEDS[name]:
        pytest.importorskip(library)
    return importlib.import_module(name)


Main = Callable[..., Any]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Main:
    """Runs a script in ``tmp_path``; returns what it exits with, None if it is done."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str | Path) -> Any:
        module = script(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        try:
            module.main()
        except SystemExit as end:
            return end.code
        return None

    return run


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given to a pool of processes is done here."""

    def run(work: Callable[[Any], Any], items: Iterable[Any], chunksize: int = 1) -> list[Any]:
        return [work(item) for item in items]

    @contextmanager
    def pool(*_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(map=run)

    get, here = multiprocessing.get_context, SimpleNamespace(Pool=pool)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: here if method == "spawn" else get(method))


def guitar(path: Path, start: float = 0.0, threshold: float | None = None) -> scoring.Recording:
    """Two seconds of a guitar, and what is found in them at some onset threshold as the reference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples, rate = soundfile.read(GUITAR, start=int(start * 16000), frames=32000)
    soundfile.write(path, samples, rate)
    settings = TrackerSettings(onset_threshold=threshold)
    notes = Transcriber(threads=1).transcribe(path, settings=settings).notes
    path.with_suffix(".csv").write_text(notes_to_csv(notes).replace("confidence", "was_confidence"))
    return scoring.Recording(path.parent.name, path.stem, path, path.with_suffix(".csv"))


# ---------------------------------------------------------------- one line


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("benchmark", "gone.wav", "gone.wav: No such file"),
        ("calibrate", "songs --work work", "broken/a.wav: "),
        ("calibrate", "songs --work work --sets gone", "songs/gone: "),
        ("disturb", "gone spoiled", "gone: "),
        ("disturb", "songs spoiled --conditions hall,storm", "no such condition: storm; give some of untouched"),
        ("evaluate", "songs --onset-threshold 7", "onset"),
        ("evaluate", "songs --peers gone.csv", "gone.csv: No such file"),
        ("evaluate", "songs --peers songs/broken/a.csv", "system, set, name, F50, Foff"),
        ("export", "gone.pt model.onnx --version 1", "gone.pt: No such file"),
        ("export", "songs/broken/a.wav model.onnx --version 1", "songs/broken/a.wav: no checkpoint"),
        ("heldout", "score songs", "a.bends.npz: No such file"),
        ("music", "songs library.npz", "songs: no pieces in pop909"),
        ("plot", "gone.wav -o a.png", "gone.wav: "),
        ("score_beats", "songs", "songs: no recordings with a tempo"),
        ("compare", "gone.json gone.json", "gone.json: No such file"),
        ("compare", "songs songs", "songs: no *.json"),
        ("compare", "songs/broken/a.wav gone.json", "songs/broken/a.wav: no evaluation"),
        ("together", "gone mixed", "gone: "),
        ("together", "songs mixed", "songs: --parts 2 takes as many sets, not 1; give fewer"),
        ("together", "songs mixed --parts 1", "songs/broken/a.wav: "),
        ("train", "songs --out run", "songs: no clips"),
        ("train", "songs --out run --resume", "run/last.pt: No such file"),
        ("train", "songs --out songs/broken/a.wav", "songs/broken/a.wav: File exists"),
        ("train", "songs --out run --init songs/broken/a.wav", "songs/broken/a.wav: no checkpoint"),
        ("tune_presets", "songs --work work --presets guitar", "songs/guitarset_p04"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    main: Main, tmp_path: Path, one_process: None, name: str, arguments: str, reason: str
) -> None:
    broken = tmp_path / "songs" / "broken"
    recording = guitar(broken / "a.wav")
    if name != "heldout":  # it reads the bends last
        recording.audio.write_bytes(b"RIFF and no more")
    message = main(name, *arguments.split())
    assert isinstance(message, str)
    assert message.startswith(f"{name}.py: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("calibrate", "songs --work work --jobs 0", "--jobs"),
        ("evaluate", "songs --jobs 0", "--jobs"),
        ("export", "gone.pt gone/model.onnx --version 1", "gone is not a folder"),
        ("prepare", "--data songs --out banks", "instruments is not a folder"),
        ("prepare", "--data songs --out banks --fonts timgm=gone.sf2", "'timgm=gone.sf2' is not NAME=PATH"),
        ("render", "synth --data . --out out", "--banks and --library"),
        ("render", "guitar --data . --out out", "guitarset"),
        ("train", "songs --out run --steps 0", "--steps"),
        ("train", "songs --out run --batch 0", "--batch"),
        ("train", "songs --out run --save-every 0", "--save-every"),
        ("tune_presets", "songs --work work --presets foo", "not foo"),
    ],
)
def test_usage(main: Main, capsys: pytest.CaptureFixture[str], name: str, arguments: str, reason: str) -> None:
    assert main(name, *arguments.split()) == 2
    assert reason in capsys.readouterr().err


# ---------------------------------------------------------------- evaluate


def test_evaluation(main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guitar(tmp_path / "ref" / "mine" / "a.wav")
    Path("peers.csv").write_text("system,set,name,F50,Foff\nother,mine,a,0.25,0.125\n")
    arguments = ("ref", "--sets", "mine/", "--jobs", "1", "--out", "out", "--per-file", "scores.csv")
    for _ in range(2):  # its own files may be replaced
        assert main("evaluate", *arguments, "--peers", "peers.csv") is None
    assert read_fingerprint(tmp_path / "out" / "mine" / "a.mid")
    with Path("scores.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["set"], row["name"], row["F50"], row["n_ref"]) == ("mine", "a", "1.0000", row["n_est"])
    mean = capsys.readouterr().out.splitlines()[-1]
    assert mean.startswith("MEAN")
    assert mean.endswith("0.250 / 0.125")


def test_references_are_not_overwritten(main: Main, tmp_path: Path) -> None:
    recording = guitar(tmp_path / "ref" / "mine" / "a.wav")
    reference = recording.reference.with_suffix(".mid")
    notes = scoring.load_notes(recording.reference)
    assert len(notes)
    transcription = Transcriber(threads=1).transcribe(recording.audio)
    reference.write_bytes(to_midi(transcription.notes).data)
    recording.reference.unlink()
    before = reference.read_bytes()
    message = main("evaluate", "ref", "--jobs", "1", "--out", "ref")
    assert "ref/mine/a.mid: this output would replace a reference" in message
    assert reference.read_bytes() == before


def test_peers_are_averaged_over_the_same_recordings() -> None:
    evaluate = script("evaluate")
    recordings = [scoring.Recording(*key.split("/"), Path("a.wav"), Path("a.csv")) for key in ("a/x", "a/y", "b/x")]
    f50 = {"a/x": 0.2, "a/y": 0.4, "a/left out": 0.9, "b/x": 0.5}
    scores = {tuple(key.split("/")): {"F50": value, "Foff": value / 2} for key, value in f50.items()}
    peers = {"whole": scores, "part": {key: value for key, value in scores.items() if key != ("a", "y")}}

    def columns(*sets: str) -> list[str]:
        return [cell.strip() for cell in evaluate.peer_columns(peers, recordings, sets).split("|")[1:]]

    assert columns("a") == ["0.300 / 0.150", "-"]
    assert columns("b") == ["0.500 / 0.250", "0.500 / 0.250"]
    assert columns("a", "b") == ["0.400 / 0.200", "-"]


def test_files_of_others_are_not_overwritten(main: Main, tmp_path: Path) -> None:
    guitar(tmp_path / "ref" / "mine" / "a.wav")
    other = tmp_path / "out" / "mine" / "a.mid"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"MThd")
    assert "out/mine/a.mid: exists, and is not ours" in main("evaluate", "ref", "--jobs", "1", "--out", "out")
    assert other.read_bytes() == b"MThd"


# ---------------------------------------------------------------- calibrate


def test_calibration(main: Main, tmp_path: Path, one_process: None) -> None:
    guitar(tmp_path / "ref" / "mine" / "a.wav", threshold=0.9)
    model = tmp_path / "model.onnx"
    shutil.copyfile(default_model_path(), model)
    before = Model(model, threads=1).defaults
    arguments = ("ref", "--work", "work", "--model", model, "--sets", "mine/", "--search", "onset_threshold")
    assert main("calibrate", *arguments, "--write") is None
    after, best = Model(model, threads=1).defaults, json.loads(Path("work/best.json").read_text())
    assert after == before | {"onset_threshold": best["defaults"]["onset_threshold"]}
    assert after["onset_threshold"] > before["onset_threshold"]
    assert best["f50"] == 1
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert Path("model.onnx.sha256").read_text() == f"{digest}  model.onnx\n"
    (posteriors,) = Path("work").rglob("*.npz")
    written = posteriors.stat().st_mtime_ns
    assert main("calibrate", *arguments) is None  # the network is the same
    assert [path.stat().st_mtime_ns for path in Path("work").rglob("*.npz")] == [written]


def test_posteriors_are_those_of_the_recording(tmp_path: Path) -> None:
    calibrate = script("calibrate")
    compute = partial(calibrate.compute, model=default_model_path(), folder=tmp_path / "work")
    first = calibrate.load(compute(guitar(tmp_path / "one" / "mine" / "a.wav")))[0].onset
    for root in ("two", "one"):  # of the same name below another root; replaced
        other = calibrate.load(compute(guitar(tmp_path / root / "mine" / "a.wav", start=3.0)))[0].onset
        assert np.abs(other - first).max() > 0.1
    (tmp_path / "one" / "mine" / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError):
        compute(scoring.recordings(tmp_path / "one")[0])


# ---------------------------------------------------------------- plot


@pytest.mark.parametrize("condition", ["untouched", "hall", "noise", "faint", "sharp", "tape", "lower-2", "higher-1"])
def test_spoiled_recordings_keep_their_references(tmp_path: Path, condition: str) -> None:
    recording = guitar(tmp_path / "songs" / "a.wav")
    script("disturb").spoil(recording, tmp_path, [condition], 1.5)
    spoiled = tmp_path / condition / "songs" / "a.flac"
    before, after = (scoring.load_reference(path) for path in (recording.reference, spoiled.with_suffix(".csv")))
    kept = before.intervals[:, 0] < 1.49
    assert 2 < kept.sum() < len(before)
    semitones = {"lower-2": -2, "higher-1": 1}.get(condition, 0)
    np.testing.assert_array_equal(after.pitch, before.pitch[kept] + semitones)
    times = after.intervals[:, 0] * 2 ** ((0.4 if condition == "sharp" else semitones) / 12)
    np.testing.assert_allclose(times, before.intervals[kept, 0], atol=0.02 if condition == "tape" else 1e-4)
    cents = 100 * (after.sounding - before.sounding[kept] - semitones)
    if condition == "tape":
        assert 10 < np.abs(cents).max() < 25.1
    else:
        np.testing.assert_allclose(cents, 40 if condition == "sharp" else 0, atol=0.1)
    found = scoring.from_notes(Transcriber(threads=1).transcribe(spoiled, settings=TrackerSettings(tuning=440)).notes)
    assert scoring.note_scores(after, found)["Fbend"] > (0.8 if condition == "untouched" else 0.3)


def test_two_models_compared(main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def evaluation(path: str, scores: dict[tuple[str, str], float]) -> None:
        names = script("compare").SCORES
        rows = [{"set": s, "name": n, **dict.fromkeys(names, value)} for (s, n), value in scores.items()]
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(json.dumps({"recordings": rows}), "utf-8")

    zeros = dict.fromkeys([("one", "a"), ("one", "b"), ("two", "c"), ("two", "d")], 0.5)
    evaluation("a/x.json", zeros)
    evaluation("a/y.json", {**zeros, ("two", "e"): 1.0})
    evaluation("b/x.json", {("one", "a"): 0.51, ("one", "b"): 0.53, ("two", "c"): 0.5, ("two", "d"): 0.5})
    evaluation("b/y.json", {("one", "a"): 0.51, ("one", "b"): 0.53, ("two", "c"): 0.48, ("two", "d"): 0.5})
    assert main("compare", "a/x.json", "b/x.json") is None
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["one", "2", "+20.0", "(10.0)"],
        ["two", "2", "+0.0", "("],
        ["MEAN", "OF", "SETS", "4"],
    ]
    assert lines[3].split()[4:6] == ["+10.0", "("]
    assert main("compare", "a", "b") is None  # two draws of each recording: no more recordings
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 left out, scored for one model only"
    assert lines[2].split()[:4] == ["one", "2", "+20.0", "(10.0)"]
    assert lines[3].split()[:4] == ["two", "2", "-5.0", "("]
    evaluation("c.json", {("three", "a"): 1.0})
    assert "no recording is in both" in main("compare", "a/x.json", "c.json")


def test_plot(main: Main, tmp_path: Path) -> None:
    recording = guitar(tmp_path / "a.wav")
    assert main("plot", recording.audio, "-o", "bare.png", "--start", "0.5", "--end", "1.5") is None
    assert main("plot", recording.audio, "-o", "ref.png", "--start", "0.5", "--ref", recording.reference) is None
    bare, ref = (importlib.import_module("matplotlib.image").imread(name) for name in ("bare.png", "ref.png"))
    orange = [np.abs(image[..., :3] - (1, 0.5, 0)).max(-1) < 0.1 for image in (bare, ref)]
    assert [bool(pixels.any()) for pixels in orange] == [False, True]
    assert main("plot", recording.audio, "-o", "late.png", "--start", "3") == 2
    assert not Path("late.png").exists()


# ---------------------------------------------------------------- export


@pytest.mark.parametrize("quantised", [False, True])
def test_what_is_not_finite_is_not_exported(monkeypatch: pytest.MonkeyPatch, quantised: bool) -> None:
    export = script("export")

    class Graph:
        context = 0, 0

        def __call__(self, audio: Any) -> list[Any]:
            return [export.torch.zeros(1, audio.shape[1] // export.frontend.HOP + 1, 88)] * 5

    def run(_: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.full_like(output.numpy(), np.nan) for output in Graph()(inputs["audio"])]

    monkeypatch.setattr(export.onnxruntime, "InferenceSession", lambda *_, **__: SimpleNamespace(run=run))
    with pytest.raises(RuntimeError, match="differ by nan"):
        export.check(Graph(), Path("draft.onnx"), quantised=quantised)


@pytest.mark.parametrize("when", ["export", "check"])
def test_a_failed_export_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    export, path = script("export"), tmp_path / "model.onnx"

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("so")

    def written(*arguments: Any, **__: object) -> None:
        Path(arguments[2]).write_bytes(default_model_path().read_bytes())
        if when == "export":
            failing()

    monkeypatch.setattr(export.torch.onnx, "export", written)
    monkeypatch.setattr(export, "check", failing)
    model = export.onnx.load(str(default_model_path()))
    model.producer_name = "the old one"
    export.save(model, path)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    network = export.load_network(ROOT / "scripts" / "checkpoints" / "small" / "0.9.0.pt").eval()
    with pytest.raises(RuntimeError, match="so"):
        export.export(network, path, "2.0")
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_thresholds_come_from_the_model_that_is_replaced(tmp_path: Path) -> None:
    export = script("export")
    assert export.stored_defaults(tmp_path / "gone.onnx") == export.DEFAULTS
    assert export.stored_defaults(default_model_path()) == Model(threads=1).defaults
    (tmp_path / "song.wav").write_bytes(b"RIFF")
    with pytest.raises(UsageError, match="no model of this package"):
        export.stored_defaults(tmp_path / "song.wav")


# ---------------------------------------------------------------- render, train


def test_material_that_is_missing_is_named(tmp_path: Path) -> None:
    render = script("render")
    for banks, reason in ((tmp_path, "no banks to train on"), (None, "has no irs/room")):
        with pytest.raises(UsageError, match=reason):
            render.load_material(banks, None, tmp_path, False)


def shard(path: Path, choices: str) -> None:
    """Two seconds of silence with a note."""
    render = script("render")
    note = render.Played(0.5, 1.0, 60, -20.0, np.zeros(60, np.float32))
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = np.zeros(2 * render.SAMPLE_RATE, np.float32), [note]
    render.write_shard(path, [clip], render.FrontEnd(), choices)


def test_a_half_written_shard_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = script("train")

    def killed(file: Any, **_: object) -> None:
        with file if hasattr(file, "write") else open(file, "wb") as half:
            half.write(b"PK")
        raise RuntimeError("killed")

    monkeypatch.setattr(np, "savez", killed)
    with pytest.raises(RuntimeError, match="killed"):
        shard(tmp_path / "synth_01_0000.npz", "")
    with pytest.raises(UsageError, match=r"no clips \(\*\.npz\)"):
        train.load_clips(tmp_path)


def test_shards_of_another_kind_are_not_taken_for_these(tmp_path: Path) -> None:
    render, path = script("render"), tmp_path / "synth_01_0000.npz"
    options = argparse.Namespace(kind="synth", scenario=None, heldout=False, guitar_shift=0.0, seed=1, out=tmp_path)
    assert not render.there_already(path, options)
    shard(path, render.choices(options))
    assert render.synth_shard((options, 0)) == "synth_01_0000.npz: there already"
    for name, value in (("heldout", True), ("scenario", "piano"), ("scenario", "any")):
        with pytest.raises(UsageError, match="is there already, rendered with no --scenario"):
            render.synth_shard((argparse.Namespace(**(vars(options) | {name: value})), 0))
    path.write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"synth_01_0000\.npz: damaged; delete it"):
        render.synth_shard((options, 0))


def test_fewer_recordings_than_shards(tmp_path: Path) -> None:
    render = script("render")
    (tmp_path / "irs" / "room").mkdir(parents=True)
    (tmp_path / "guitarset").mkdir()
    soundfile.write(tmp_path / "irs" / "room" / "a.flac", np.ones(100), 22050)
    soundfile.write(tmp_path / "guitarset" / "a.ogg", np.zeros(22050), 22050)
    (tmp_path / "guitarset" / "a.csv").write_text("onset_s,offset_s,midi_pitch\n0.2,0.5,60\n")
    options = argparse.Namespace(kind="guitar", data=tmp_path, guitar_shift=0.0, seed=1, out=tmp_path)
    assert render.guitar_shard((options, 0)) == "guitar_01_0_0.npz: 1 clips"
    assert render.guitar_shard((options, 1)) == "guitar_01_0_1.npz: no recordings for it"
    assert [path.name for path in tmp_path.glob("*.npz")] == ["guitar_01_0_0.npz"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK and no more", "no library"),
        (None, "no pieces of jsfakes, nottingham, openscore_lieder, openscore_quartets; let music.py"),
    ],
)
def test_a_library_that_is_damaged_or_not_whole_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    music, path = script("music"), tmp_path / "library.npz"
    if content is None:
        np.savez_compressed(path, **{"pop909/001": np.zeros((30, 6), np.float32)})
    else:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"library\.npz: {reason}"):
        music.load_library(path)


@pytest.mark.filterwarnings("error")
def test_pieces_that_cannot_be_read_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music, path = script("music"), tmp_path / "a.mid"
    data = to_midi([Note(0.0, 1.0, 60, 80, 1.0)]).data
    second = 22 + int.from_bytes(data[18:22], "big")
    path.write_bytes(
        data[:14] + data[second:] + data[14:second]
    )  # tempi in the second track, which pretty_midi warns of
    assert len(music._try_read(path)) == 1
    path.write_bytes(b"")
    assert len(music._try_read(path)) == 0
    assert capsys.readouterr().out == f"{path}: left out: EOFError \n"


def test_fonts_that_are_missing_are_named(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = script("prepare")
    fonts = {name: tmp_path / f"{name}.sf2" for name in ("here", "gone", "other")}
    for name in ("here", "other"):
        fonts[name].touch()
    monkeypatch.setattr(prepare, "DEBIAN_FONTS", {name: str(fonts[name]) for name in ("here", "gone")})
    (tmp_path / "instruments").mkdir()
    message = main("prepare", "--data", tmp_path, "--out", tmp_path / "banks")
    assert message.startswith(f"prepare.py: no SoundFont gone ({fonts['gone']}); install it")
    assert not (tmp_path / "banks").exists()
    given = prepare.parse_font(f"gone={fonts['other']}")
    assert prepare.chosen_fonts(dict([given])) == {"here": fonts["here"], "gone": fonts["other"]}
    assert prepare.chosen_fonts(dict([prepare.parse_font("gone=")])) == {"here": fonts["here"]}


def test_training_that_diverges_is_one_line(main: Main, tmp_path: Path) -> None:
    script("train")
    shard(tmp_path / "clips" / "synth_01_0000.npz", "")
    message = main("train", "clips", *"--out run --steps 20 --batch 1 --frames 40 --lr 1e38".split())
    assert re.fullmatch(r"train\.py: training diverged at step \d+; lower --lr", message)


def test_training_of_another_network_does_not_go_on(main: Main, tmp_path: Path) -> None:
    train, shrink = script("train"), importlib.import_module("shrink")
    shard(tmp_path / "clips" / "synth_01_0000.npz", "")
    Path("run").mkdir()
    train.State.begin(train.Network(**shrink.SMALL)).save(Path("run/last.pt"))
    message = main("train", "clips", "--out", "run", "--resume")
    assert message.startswith("train.py: run/last.pt: no training of this network; give the --init")


@pytest.mark.parametrize(("save_every", "saved"), [(2, "last.pt has step 2"), (4, "nothing was saved")])
def test_training_that_is_stopped_says_what_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every: int, saved: str
) -> None:
    train, checkpoint = script("train"), tmp_path / "last.pt"
    state = SimpleNamespace(step=0, save=Path.touch)

    def stopped(state: Any, *_: object) -> Iterator[dict[str, float]]:
        for state.step in (1, 2, 3):
            yield {}
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "take_steps", stopped)
    with pytest.raises(UsageError, match=rf"stopped after step 3; .*{saved}"):
        train.train(state, [], [], train.Options(), checkpoint, save_every)
    assert checkpoint.exists() is (save_every == 2)


def test_ctrl_c_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    shared = importlib.import_module("shared")
    with pytest.raises(SystemExit) as caught, shared.errors_in_one_line():
        raise KeyboardInterrupt
    assert str(caught.value).endswith(": stopped")
    with shared.workers(1) as pool, pytest.raises(BrokenProcessPool):
        pool.submit(signal.raise_signal, signal.SIGINT).result()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("synth", {"frames": 40}, ""),
        ("guitar", {"frames": 40, "real": 1.0}, ""),
        ("guitar", {"frames": 40}, "--real is 0.2"),
        ("synth", {"frames": 42}, "--frames is 42"),
        ("synth", {"frames": 432}, r"--frames is 432; .* up to 136"),
    ],
)
def test_crops_must_fit_into_the_clips(tmp_path: Path, name: str, options: dict[str, Any], reason: str) -> None:
    train = script("train")
    shard(tmp_path / f"{name}_01_0000.npz", "")
    clips, chosen = train.load_clips(tmp_path), train.Options(steps=3, batch=2, **options)
    if reason:
        with pytest.raises(UsageError, match=reason):
            train.check(*clips, chosen)
    else:
        train.check(*clips, chosen)
        assert len(list(train.batches(*clips, chosen, 0))) == 3


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    train = script("train")
    (tmp_path / "synth_01_0000.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UsageError, match=r"synth_01_0000\.npz: damaged"):
        train.load_clips(tmp_path)


# ---------------------------------------------------------------- benchmark


def test_what_is_timed_by_stages_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = script("benchmark")
    samples, rate = soundfile.read(GUITAR, dtype="float32")
    sharp = soxr.resample(samples, rate * 2 ** (30 / 1200), rate)
    soundfile.write(tmp_path / "a.wav", np.tile(sharp, 2), rate)  # long enough to tell its tuning
    found = []
    for serve in (benchmark.worker, benchmark.profiler):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
        serve(tmp_path / "a.wav", tmp_path, 1, None)
        found.append((tmp_path / "out.mid").read_bytes())
    assert found[0] == found[1]
    assert set(json.loads(capsys.readouterr().out.splitlines()[1])["stages"]) == set(benchmark.STAGES)


# ---------------------------------------------------------------- beats


@pytest.mark.parametrize(("shift", "right"), [(0.0, True), (0.05, True), (-0.05, True), (0.25, False), (0.15, False)])
def test_beats_between_the_clicks_are_not_on_them(shift: float, right: bool) -> None:
    score_beats = script("score_beats")
    beats = 0.5 * np.arange(20)
    assert score_beats.on_click(beats + shift, 120, 0) is right
    assert score_beats.on_click(beats + shift - 0.2, 120, -1.2) is right
    assert score_beats.best_f_measure(beats + shift, 120, 10) > 0.95


# ---------------------------------------------------------------- what pyproject.toml says


def test_lowest_versions(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {k: v for k, v in project["optional-dependencies"].items() if k != "dev"}
    lines = {line for group in (project["dependencies"], *extras.values()) for line in group if ">=" in line}
    main("lowest")
    printed = capsys.readouterr().out.splitlines()
    assert sorted(line.split("==")[0] for line in printed) == sorted(re.match(r"[\w-]+", line)[0] for line in lines)
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in printed)


def test_what_the_readme_names_is_in_the_source_distribution() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    named = set(re.findall(r"`([A-Z]+\.md)`", (ROOT / "README.md").read_text()))
    assert named
    assert {f"/{name}" for name in named} <= set(build["targets"]["sdist"]["include"])


def test_recordings_that_sound_together(main: Main, tmp_path: Path) -> None:
    parts = [guitar(tmp_path / "songs" / name / "a.wav", start) for name, start in (("one", 0.0), ("two", 3.0))]
    assert main("together", "songs", "out", "--clips", "1", "--seconds", "1.5") is None
    mixed = scoring.load_reference(Path("out/one+two/0.csv"))
    references = [scoring.load_reference(part.reference) for part in parts]
    expected = [
        (onset, pitch)
        for notes in references
        for onset, pitch in zip(notes.intervals[:, 0].round(4), notes.pitch, strict=True)
        if onset < 1.49
    ]
    assert sorted(expected) == sorted(zip(mixed.intervals[:, 0], mixed.pitch, strict=True))
    assert np.all(np.diff(mixed.intervals[:, 0]) >= 0)
    assert len(expected) > 8
    assert mixed.intervals.max() == 1.5
    samples, rate = soundfile.read("out/one+two/0.flac")
    assert (len(samples), rate) == (66150, 44100)
    for part in parts:  # both are equally loud, and neither has anything to do with the other
        alone, rate = soundfile.read(part.audio, frames=24000)
        alone = soxr.resample(alone, rate, 44100)
        share = samples @ alone / np.sqrt((alone @ alone) * (samples @ samples))
        assert share == pytest.approx(np.sqrt(0.5), abs=0.1)


def test_parts_are_drawn_from_a_seed(main: Main, tmp_path: Path) -> None:
    for name in ("one", "two"):
        for number in range(3):
            guitar(tmp_path / "songs" / name / f"{number}.wav", 1.0 * number)
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main("together", "songs", out, "--clips", "2", "--seed", seed) is None
    a, b, c = ([path.read_bytes() for path in sorted(Path(out).rglob("*.flac"))] for out in "abc")
    assert a == b
    assert a != c
    assert len(a) == 2
