"""Every kind of trouble, numbered, through the command line: files are really broken, and nothing is lost.

Each row is a test here, or one of ``ELSEWHERE``. Whatever a command here does, it has to leave the recordings as they
were and no temporary file, and what it says on standard error are single lines: for a failure its path, what is wrong,
and what to do.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import os
import re
import stat
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
import pytest
import soundfile
import typer
from conftest import ROOT
from typer.testing import CliRunner

from basic_transcribe import cli as command_line
from basic_transcribe import sound
from basic_transcribe.audio import AudioStream
from basic_transcribe.errors import OutputError
from basic_transcribe.midi import to_midi
from basic_transcribe.model import Model, default_model_path
from basic_transcribe.pipeline import Transcriber
from basic_transcribe.types import Float32, Posteriors

pytestmark = pytest.mark.filterwarnings("error")  # nothing may warn through numpy

needs_av = pytest.mark.skipif(find_spec("av") is None, reason="PyAV (extra av) is missing")

ELSEWHERE = {
    **dict.fromkeys(range(33, 40), "test_processes.py"),
    46: "test_web.py",
    47: "test_midi.py: test_notes_without_length_are_dropped_and_said test_shorter_than_a_tick_is_lengthened",
    48: "test_midi.py: test_velocity_is_limited",
    49: "test_midi.py: test_overlapping_notes_of_one_pitch_are_cut",
    50: "test_midi.py: test_nonsense_is_refused test_bends_beyond_the_widest_range_are_limited_and_said"
    " test_impossible_beats_are_refused",
    51: "test_midi.py: test_voices_beyond_the_channels_play_unbent_and_are_said test_any_notes_make_a_valid_file"
    " test_bend_range_is_selected_before_the_first_bend_and_released test_members_are_shared_by_those_that_bend_least",
}
"""Rows shown by the tests of one room: file, and names of tests where only some of its tests are meant."""


def test_every_row_has_its_test() -> None:
    here = {int(number) for number in re.findall(r"^def test_row_(\d\d)_", Path(__file__).read_text(), re.MULTILINE)}
    assert sorted([*here, *ELSEWHERE]) == list(range(1, 52))
    for place in ELSEWHERE.values():
        name, _, tests = place.partition(": ")
        text = (Path(__file__).parent / name).read_text()
        assert all(f"def {test}(" in text for test in tests.split())


# ------------------------------------------------------------------------------------------------------------- to run

RATE = 22_050


@functools.cache
def music(seconds: float = 4.0, rate: int = RATE) -> Float32:
    """A plucked tone every half second, each higher than the one before; shape (samples,)."""
    t = np.arange(round(seconds * rate)) / rate
    sound = np.zeros(len(t))
    for i in range(int(2 * seconds)):
        since = np.maximum(t - 0.5 * i - 0.05, 0)
        f = 220 * 2 ** (2 * i / 12)
        sound += (since > 0) * np.exp(-6 * since) * sum(np.sin(2 * np.pi * f * h * since) / h for h in (1, 2, 3, 4))
    return (0.2 * sound).astype(np.float32)


def encoded(form: str = "WAV", subtype: str | None = None, samples: Any = None, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, music() if samples is None else samples, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def wav(samples: Any, rate: int = RATE, channels: int = 1, claimed: int | None = None) -> bytes:
    """A 16 bit WAV file whose header says what it is told to."""
    data = np.round(np.asarray(samples) * 32767).astype("<i2").tobytes()
    head = struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate & 0xFFFFFFFF, 2 * channels & 0xFFFF, 16)
    size = struct.pack("<I", len(data) if claimed is None else claimed)
    whole = struct.pack("<I", len(data) + 36 if claimed is None else claimed)
    return b"RIFF" + whole + b"WAVEfmt \x10\0\0\0" + head + b"data" + size + data


def av_file(muxer: str, codec: str | None, *, video: bool = False, options: dict[str, str] | None = None) -> bytes:
    """A file as FFmpeg writes it, with :func:`music` and pictures, or one of them."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        with av.open(path, "w", format=muxer, options=options or {}) as container:
            output: Any = container
            picture = output.add_stream("mpeg4", rate=10, width=32, height=32) if video else None
            sound = output.add_stream(codec, rate=44_100, layout="mono") if codec else None
            if picture:
                for i in range(40):
                    frame = av.VideoFrame(32, 32, "yuv420p")
                    frame.pts = i
                    output.mux(picture.encode(frame))
                output.mux(picture.encode(None))
            if sound:
                if not sound.codec_context.is_open:
                    sound.codec_context.open()  # tells the frame size
                whole = av.AudioFrame.from_ndarray(music(rate=44_100)[None], format="fltp", layout="mono")
                whole.sample_rate, whole.pts = 44_100, 0
                fit = av.AudioResampler(sound.format, "mono", 44_100, sound.frame_size or 1024)
                for piece in fit.resample(whole) + fit.resample(None):
                    output.mux(sound.encode(piece))
                output.mux(sound.encode(None))
        return path.read_bytes()


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and the lines it said."""

    code: int
    out: list[str]
    errors: list[str]
    warnings: list[str]
    notes: list[str]


Run = Callable[..., Outcome]


@pytest.fixture(scope="module", autouse=True)
def loaded_once() -> Iterator[None]:
    """The shipped model is the same for all."""
    load = functools.cache(Model._load)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "_load", staticmethod(load))
        yield


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in this process, and checks what holds for every command.

    It runs in the folder ``tmp_path``, whose files it must leave as they are, unless ``steady`` is false; MIDI files
    may be replaced by ``--overwrite``. ``app`` is another command than the plain one.
    """
    monkeypatch.chdir(tmp_path)
    private = tmp_path.parent / f"{tmp_path.name}-private"
    private.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(private))

    def execute(
        *arguments: str | Path, stdin: bytes | None = None, steady: bool = True, app: typer.Typer = command_line.app
    ) -> Outcome:
        before = contents(tmp_path)
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        said = result.stderr.splitlines()
        lines = {k: [line for line in said if line.startswith(f"{k}: ")] for k in ("error", "warning", "note")}
        assert len(said) == sum(map(len, lines.values())), said
        assert all(re.fullmatch(r"error: [^;]+; .+", line) for line in lines["error"]), said
        after = contents(tmp_path)
        made = {path for path in after if path not in before}
        assert not [path for path in made if path.name.startswith(".") or path.suffix == ".tmp"]
        assert not list(private.iterdir())
        kept = {p: c for p, c in before.items() if not ("--overwrite" in arguments and p.suffix == ".mid")}
        assert not steady or {path: after.get(path) for path in kept} == kept
        return Outcome(result.exit_code, result.stdout.splitlines(), lines["error"], lines["warning"], lines["note"])

    return execute


def contents(folder: Path) -> dict[Path, bytes]:
    """The files below a folder."""
    found = [p for p in folder.rglob("*") if p.is_file() and p.stat().st_mode & 0o400 and p.stat().st_size < 2**24]
    return {path: path.read_bytes() for path in found}


def midi_notes(path: str | Path) -> list[tuple[float, int]]:
    """Onset and pitch of the notes of a MIDI file, which any reader can read."""
    midi = pretty_midi.PrettyMIDI(str(path))
    return sorted((round(n.start, 3), n.pitch) for instrument in midi.instruments for n in instrument.notes)


def refused(run: Run, name: str, content: bytes, *words: str) -> None:
    """The file fails, with exit code 1 and a line that says why; the next one is done all the same."""
    Path(name).write_bytes(content)
    Path("good.wav").write_bytes(encoded())
    result = run(name, "good.wav", "--jobs", "1", "--overwrite")
    (error,) = result.errors
    assert result.code == 1
    assert error.startswith(f"error: {name}: ")
    assert all(word in error for word in words), error
    assert not Path(name).with_suffix(".mid").exists()
    assert all_heard(midi_notes("good.mid"))


def transcribed(run: Run, name: str, content: bytes, *warnings: str) -> list[tuple[float, int]]:
    """The file is done, with exactly the warnings that contain these words, in this order; its notes."""
    Path(name).write_bytes(content)
    result = run(name, "--overwrite")
    assert (result.code, result.errors) == (0, [])
    assert len(result.warnings) == len(warnings), result.warnings
    assert all(words in line for words, line in zip(warnings, result.warnings, strict=True)), result.warnings
    assert all(line.startswith(f"warning: {name}: ") for line in result.warnings)
    return midi_notes(Path(name).with_suffix(".mid"))


def all_heard(notes: list[tuple[float, int]], end: float = 4.0, *, silence: float = 4.0) -> bool:
    """Whether each tone of :func:`music` is there that begins before ``end``, and no note from ``silence`` on."""
    tones = [(0.5 * i + 0.05, 57 + 2 * i) for i in range(8) if 0.5 * i + 0.05 < end]
    there = all(any(abs(onset - time) < 0.03 and p == pitch for onset, p in notes) for time, pitch in tones)
    return there and all(onset < silence for onset, _ in notes)


# -------------------------------------------------------------------------------------------------------- input audio


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.m4a"])
def test_row_01_zero_bytes(run: Run, name: str) -> None:
    refused(run, name, b"", "empty file")


@pytest.mark.parametrize("text", [b"hello\n", b"#EXTM3U\n/etc/passwd\n", b'FILE "a.wav" WAVE\n  TRACK 01 AUDIO\n'])
def test_row_02_text_named_wav(run: Run, text: bytes) -> None:
    refused(run, "a.wav", text, "not audio")


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU"])
def test_row_03_header_without_samples(run: Run, form: str) -> None:
    assert transcribed(run, "a.wav", encoded(form, samples=np.zeros(0)), "no samples") == []


def test_row_03_mp3_header_without_samples(run: Run) -> None:
    whole = encoded("MP3")
    assert transcribed(run, "a.mp3", whole[: whole.find(whole[:2], 4)], "no samples") == []


@pytest.mark.parametrize("samples", [1, 100, 255])
def test_row_04_less_than_a_frame(run: Run, samples: int) -> None:
    assert transcribed(run, "a.wav", encoded(samples=np.full(samples, 0.5))) == []


@pytest.mark.parametrize(("value", "warnings"), [(0.0, ["silence: there is nothing to hear"]), (0.25, [])])
def test_row_05_silence_and_dc(run: Run, value: float, warnings: list[str]) -> None:
    assert transcribed(run, "a.wav", encoded(samples=np.full((2 * RATE, 2), value)), *warnings) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_row_06_nan_and_inf(run: Run, value: float) -> None:
    samples = music().copy()
    samples[3 * RATE] = value
    refused(run, "a.wav", encoded(subtype="FLOAT", samples=samples), f"sample {3 * RATE} (3.000 s) is {value}")


def test_row_07_clipped(run: Run) -> None:
    assert all_heard(transcribed(run, "a.wav", wav(np.clip(4 * music(), -1, 1)), "clipped: "))


def test_row_07_above_full_scale(run: Run) -> None:
    assert all_heard(transcribed(run, "a.wav", encoded(subtype="FLOAT", samples=4 * music()), "over full scale: "))


def test_row_07_very_quiet(run: Run) -> None:
    assert all_heard(transcribed(run, "a.wav", encoded(subtype="FLOAT", samples=0.01 * music()), "very quiet: "))


def test_row_08_truncated_wav(run: Run) -> None:
    data = encoded()
    notes = transcribed(run, "a.wav", data[: len(data) * 3 // 4], "its header promises 4.00 s, only 3.00 s")
    assert all_heard(notes, 2.8, silence=3.0)


def test_row_09_truncated_mp3(run: Run) -> None:
    data = encoded("MP3")
    notes = transcribed(run, "a.mp3", data[: len(data) * 3 // 4], "its header promises 4.00 s, only 3.0")
    assert all_heard(notes, 2.8, silence=3.1)


def test_row_10_truncated_flac(run: Run) -> None:
    data = encoded("FLAC", samples=music() + np.random.default_rng(0).normal(0, 1e-4, len(music())))
    notes = transcribed(run, "a.flac", data[: len(data) * 3 // 4], "damaged at ", "cut short or damaged: its header")
    assert all_heard(notes, 2.4, silence=3.1)


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", 44_100), ("OPUS", 48_000)])
def test_row_11_truncated_ogg_and_opus(run: Run, subtype: str, rate: int) -> None:
    data = encoded("OGG", subtype, music(rate=rate), rate)
    notes = transcribed(run, "a.ogg", data[: len(data) * 3 // 4], "cut short: the last page")
    assert all_heard(notes, 1.4, silence=3.1)


@needs_av
def test_row_11_truncated_m4a(run: Run) -> None:
    data = av_file("ipod", "aac")
    refused(run, "a.m4a", data[: len(data) // 2], "damaged or cut short")
    data = av_file("ipod", "aac", options={"movflags": "faststart"})
    Path("b.m4a").write_bytes(data[: len(data) * 3 // 4])
    result = run("b.m4a")
    assert result.code == 0
    assert "its header promises 4.00 s" in result.warnings[-1]
    assert all_heard(midi_notes("b.mid"), 2.4, silence=3.1)


@pytest.mark.parametrize(("name", "form"), [("a.flac", "FLAC"), ("a.mp3", "MP3"), ("a.ogg", "OGG")])
def test_row_12_damage_in_the_middle(run: Run, name: str, form: str) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, len(music()))  # or some bytes would hold nothing
    data = bytearray(encoded(form, samples=music() + noise))
    middle = len(data) * 5 // 8
    data[middle : middle + 1000] = np.random.default_rng(1).bytes(1000)
    Path(name).write_bytes(data)
    result = run(name)
    assert result.code == 0
    place = re.fullmatch(rf"warning: {name}: damaged at (\d\.\d\d) s( to .*)?: what could be .*", result.warnings[0])
    assert place
    assert 1.0 < float(place[1]) < 2.7
    notes = midi_notes("a.mid")
    assert all_heard(notes, float(place[1]) - 0.2)
    assert any(pitch == 71 and abs(onset - 3.55) < 0.03 for onset, pitch in notes) is (form == "FLAC")


@needs_av
def test_row_12_frames_missing_in_the_middle(run: Run) -> None:
    """Where the container tells the time of each frame, no note after the damage is early."""
    data = bytearray(av_file("matroska", "aac", options={"cluster_time_limit": "500"}))
    middle = len(data) // 2
    data[middle : middle + 1000] = np.random.default_rng(1).bytes(1000)
    notes = transcribed(run, "a.mka", bytes(data), "silence is in the place of the 0.")
    heard = [any(abs(onset - 0.5 * i - 0.05) < 0.03 and p == 57 + 2 * i for onset, p in notes) for i in range(8)]
    assert heard[:3] == [True] * 3
    assert heard[-3:] == [True] * 3
    assert not all(heard)


@pytest.mark.parametrize("claimed", [0xFFFFFFFF, 0x7FFFFFFF, 0])
def test_row_13_streamed_wav(run: Run, claimed: int) -> None:
    assert all_heard(transcribed(run, "a.wav", wav(music(), claimed=claimed)))


@pytest.mark.parametrize("rate", [0, 100, 768_001, 2_000_000_000])
def test_row_14_impossible_sample_rate(run: Run, rate: int) -> None:
    refused(run, "a.wav", wav(music(), rate=rate), "sample rate")


def test_row_15_sixty_thousand_channels(run: Run) -> None:
    refused(run, "a.wav", wav(music(), channels=60_000), "channels; ")


def test_row_16_unusual_formats(run: Run) -> None:
    eight = np.repeat(music(rate=96_000)[:, None], 8, axis=1)
    assert all_heard(transcribed(run, "a.wav", encoded("WAVEX", "PCM_24", eight, 96_000)))
    narrow = encoded(subtype="PCM_U8", samples=music(rate=8_000), rate=8_000)
    assert len(transcribed(run, "a.wav", narrow, "frequencies above 4000 Hz are missing")) >= 4


@needs_av
def test_row_17_video_without_audio(run: Run) -> None:
    refused(run, "a.mp4", av_file("mp4", None, video=True), "no audio stream")


def test_row_18_ten_hours(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is asked for is decoded; and memory does not grow with what is read.

    That is measured with a model that hears nothing, and from four minutes to twenty; ``scripts/benchmark.py`` measures
    ten hours with the real one.
    """
    hours = 10
    size = hours * 3600 * 8000
    form = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
    tail = np.round(music(10.0, 8000) * 127 + 128).astype(np.uint8).tobytes()
    with open("long.wav", "wb") as file:  # zeros that no disk holds
        file.write(b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt \x10\0\0\0" + form)
        file.write(b"data" + struct.pack("<I", size))
        file.seek(44 + size - len(tail))
        file.write(tail)
    result = run("long.wav", "--start", "9:59:50")
    assert result.code == 0
    assert len(midi_notes("long.mid")) >= 10

    model = Model(threads=1)
    nothing = np.zeros((10_000, 88), np.float32)

    def silent(audio: Float32) -> Posteriors:
        frames = 1 + (len(audio) - sum(model.context)) // model.hop
        rows = nothing[:frames]
        return Posteriors(rows, rows, rows, np.repeat(rows, 3, axis=1), rows, model.frame_rate, model.lowest_pitch)

    transcriber = Transcriber(threads=1)
    monkeypatch.setattr(transcriber.model, "run", silent)

    def peak(seconds: int) -> int:
        told: list[tuple[float, float | None]] = []
        os.truncate("long.wav", 44 + seconds * 8000)
        tracemalloc.start()
        found = transcriber.transcribe("long.wav", progress=lambda done, total: told.append((done, total)))
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.duration == pytest.approx(seconds, abs=1e-3)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert told[-1][0] == pytest.approx(seconds, abs=1.0)
        return memory

    assert peak(1200) < 1.1 * peak(240)


def test_row_19_opposite_phase(run: Run) -> None:
    stereo = np.stack([music(), -music()], axis=1)
    assert all_heard(transcribed(run, "a.wav", encoded(samples=stereo), "opposite phase"))
    stereo[: 2 * RATE, 1] *= -1
    words = "opposite phase: for 2 s, first at 2 s, the channels cancel each other"
    assert all_heard(transcribed(run, "a.wav", encoded(samples=stereo), words))


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take no bytes that are not text")
@pytest.mark.parametrize(
    "name", ["new\nline", "\N{GUITAR}", "-dash", "trailing space ", "a: b?", "nul", os.fsdecode(b"caf\xe9")]
)
def test_row_20_troublesome_names(run: Run, name: str, cli_environment: dict[str, str]) -> None:
    Path(f"{name}.wav").write_bytes(encoded())
    if name == os.fsdecode(b"caf\xe9"):  # a runner within this process cannot be given bytes
        command = [sys.executable, "-m", "basic_transcribe", os.fsencode(f"{name}.wav"), "--json"]
        done = subprocess.run(command, env=cli_environment, capture_output=True, check=False, timeout=120)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"caf\\udce9.wav: " in done.stdout
    else:
        result = run("--json", "--", f"{name}.wav")
        assert (result.code, len(result.out)) == (0, 1)
        assert all(not unicodedata.category(c).startswith("C") for c in result.out[0])
    assert all_heard(midi_notes(f"{name}.mid"))
    assert json.loads(Path(f"{name}.json").read_bytes().decode("ascii"))["notes"]


@pytest.fixture
def no_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_arguments: object, **_keywords: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Model, "__init__", loaded)


@pytest.mark.usefixtures("no_inference")
def test_row_21_outputs_that_cannot_be(run: Run, tmp_path: Path, unprivileged: Callable[[Path], None]) -> None:
    name = "n" * 252
    Path(name).write_bytes(encoded())
    Path("a.wav").write_bytes(encoded())
    Path("a.mid").mkdir()
    for source, words in ((name, "256 bytes, 255 are allowed; rename"), ("a.wav", "is a folder; move it")):
        result = run(source)
        assert (result.code, len(result.errors)) == (4, 1)
        assert words in result.errors[0]
    Path("locked").mkdir(mode=0o555)
    unprivileged(tmp_path)
    result = run("a.wav", "-o", "locked")
    assert (result.code, len(result.errors)) == (4, 1)
    assert "locked: Permission denied; choose another folder" in result.errors[0]


@pytest.fixture
def unprivileged() -> Iterator[Callable[[Path], None]]:
    """Root may do everything, so this stops being root, with a folder of its own."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no permissions of this kind here")
    root = os.geteuid() == 0
    opened: list[tuple[Path, int]] = []

    def change(folder: Path) -> None:
        if not root:
            return
        for path in (*folder.parents, folder, folder.with_name(f"{folder.name}-private")):
            mode = path.stat().st_mode
            if mode & 0o055 != 0o055:
                opened.append((path, mode))
                path.chmod(mode | 0o055)
        for path in (folder, folder.with_name(f"{folder.name}-private")):
            os.chown(path, 65_534, -1)
        os.seteuid(65_534)

    yield change
    if root:
        os.seteuid(0)
        for path, mode in opened:
            path.chmod(mode)


def test_row_22_unreadable_input(
    run: Run, tmp_path: Path, unprivileged: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = default_model_path().read_bytes()  # which another user might not be able to reach
    monkeypatch.setattr(Model, "_read", staticmethod(lambda path: data))
    for name in ("a.wav", "b.wav", "warm.wav"):
        Path(name).write_bytes(encoded())
    run("warm.wav")  # all that is imported on the way
    Path("a.wav").chmod(0)
    unprivileged(tmp_path)
    result = run("a.wav", "b.wav", "--jobs", "1")
    assert (result.code, len(result.errors)) == (1, 1)
    assert result.errors[0].startswith("error: a.wav: ")
    assert "ermission denied; " in result.errors[0]
    assert all_heard(midi_notes("b.mid"))


@pytest.mark.parametrize("full", ["limit", "tmpfs"])
@pytest.mark.skipif(sys.platform != "linux", reason="needs limits and disks as Linux has them")
def test_row_23_disk_full(tmp_path: Path, cli_environment: dict[str, str], full: str) -> None:
    import resource

    recording, disk = tmp_path / "a.wav", tmp_path / "disk"
    recording.write_bytes(encoded())
    disk.mkdir()
    mounted = (
        full == "tmpfs"
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
        ).returncode
    )
    if full == "tmpfs" and not mounted:
        pytest.skip("no disk of a given size can be made here")
    try:
        old = b"MThd the work of another day"
        (disk / "a.mid").write_bytes(old)
        if mounted:
            with open(disk / "ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(4096))
        command = [sys.executable, "-m", "basic_transcribe", "a.wav", "-o", "disk", "--csv", "--overwrite"]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=cli_environment | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            preexec_fn=None if mounted else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256)),
        )
        assert done.returncode == 4, done.stderr
        assert re.fullmatch(r"error: a\.wav: .*disk.*: cannot be written: .+; free some space.*\n", done.stderr)
        assert {p.name for p in disk.iterdir()} == {"a.mid"} | ({"ballast"} if mounted else set())
        assert (disk / "a.mid").read_bytes() == old
        assert recording.read_bytes() == encoded()
    finally:
        if mounted:
            subprocess.run(["umount", disk], check=True)


def test_row_24_output_exists(run: Run) -> None:
    Path("a.wav").write_bytes(encoded())
    assert run("a.wav").code == 0
    assert "up to date" in run("a.wav").out[0]
    for other in (["--program", "5"], ["--onset-threshold", "0.9"]):
        result = run("a.wav", *other)
        assert (result.code, len(result.errors)) == (1, 1)
        assert "--overwrite" in result.errors[0]
    Path("a.wav").write_bytes(encoded(samples=music()[::-1]))
    assert run("a.wav").code == 1
    assert run("a.wav", "--overwrite").code == 0


@pytest.mark.usefixtures("no_inference")
def test_row_25_output_would_replace_an_input(run: Run) -> None:
    Path("a.mid").write_bytes(encoded())
    result = run("a.mid", "--overwrite")
    assert (result.code, len(result.errors)) == (2, 1)
    assert "would replace an input; choose another folder" in result.errors[0]
    assert Path("a.mid").read_bytes() == encoded()


@pytest.mark.parametrize(
    ("other", "made"), [("a.flac", {"a.wav.mid", "a.flac.mid"}), ("a.wav.flac", {"a.mid", "a.wav.mid"})]
)
def test_row_26_equal_stems(run: Run, other: str, made: set[str]) -> None:
    Path("a.wav").write_bytes(encoded())
    Path(other).write_bytes(encoded("FLAC", samples=music()[::-1]))
    assert run(".", "--jobs", "1").code == 0
    assert {p.name for p in Path().glob("*.mid")} == made


def test_row_27_names_that_differ_by_letter_case(run: Run) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
    Path("one/A.wav").write_bytes(encoded())
    Path("two/a.wav").write_bytes(encoded(samples=music()[::-1]))
    assert run("one/A.wav", "two/a.wav", "-o", "out", "--jobs", "1").code == 0
    assert len({str(p.relative_to("out")).casefold() for p in Path("out").rglob("*.mid")}) == 2


def test_row_28_the_tree_is_mirrored(run: Run) -> None:
    for name in ("in/a.wav", "in/x/a.wav", "in/x/y/a.wav", "in/x/list.m3u", "in/x/a.cue", "in/x/Thumbs.db"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(encoded() if name.endswith(".wav") else b"a.wav\n/etc/passwd\n")
    assert run("in", "-o", "out", "--jobs", "1").code == 0
    assert {str(p) for p in Path("out").rglob("*.mid")} == {"out/a.mid", "out/x/a.mid", "out/x/y/a.mid"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_row_29_links_and_special_files(run: Run) -> None:
    Path("in/deep").mkdir(parents=True)
    Path("in/a.wav").write_bytes(encoded())
    Path("in/loop").symlink_to("../in")
    Path("in/deep/up").symlink_to("..")
    Path("in/self.wav").symlink_to("self.wav")
    Path("in/again.wav").symlink_to("a.wav")
    Path("in/gone.wav").symlink_to("nowhere.wav")
    Path("in/null.wav").symlink_to(os.devnull)
    os.mkfifo("in/pipe.wav")
    result = run("in", "-o", "out", "--jobs", "1")
    assert (result.code, result.errors) == (0, [])
    assert [p.name for p in Path("out").rglob("*.mid")] == ["a.mid"]
    said = {"pipe": "a named pipe", "null": "a device", "gone": "No such file", "again": "done once"}
    for name, reason in said.items():
        assert any(name in line and reason in line for line in result.notes), result.notes


@pytest.mark.usefixtures("no_inference")
def test_row_30_empty_folder(run: Run) -> None:
    Path("in/deeper").mkdir(parents=True)
    result = run("in")
    assert (result.code, len(result.errors)) == (2, 1)
    assert "no audio found" in result.errors[0]


@pytest.mark.parametrize("change", ["grows", "shrinks", "is replaced"])
def test_row_31_input_changes_while_it_is_read(run: Run, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    Path("a.wav").write_bytes(encoded())
    Path("b.wav").write_bytes(encoded())
    going_on = AudioStream.__next__

    def changing(stream: AudioStream) -> Float32:
        path = Path("a.wav")
        if path.stat().st_mtime_ns == before:
            if change == "is replaced":
                Path("new").write_bytes(encoded(samples=music()[::-1]))
                os.replace("new", path)
            else:
                os.truncate(path, path.stat().st_size + (1000 if change == "grows" else -1000))
        return going_on(stream)

    before = Path("a.wav").stat().st_mtime_ns
    monkeypatch.setattr(AudioStream, "__next__", changing)
    result = run("a.wav", "b.wav", "--jobs", "1", steady=False)
    assert (result.code, len(result.errors)) == (1, 1)
    assert result.errors[0].startswith("error: a.wav: changed while it was read; run again")
    assert [p.name for p in Path().glob("*.mid")] == ["b.mid"]
    monkeypatch.undo()


def test_no_place_for_temporary_files(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("set").mkdir()
    Path("set/a.wav").write_bytes(encoded())
    Path("set/a.csv").write_text("onset_s,offset_s,midi_pitch\n0,1,60\n")
    sound_font = Path("a.sf2")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    monkeypatch.setattr(sound, "player_of", lambda _: "fluidsynth")
    with pytest.raises(OutputError, match="no temporary folder can be made"):
        sound.synthesize_soundfont(to_midi([]).data, sound_font, RATE)
    piped = run("-", stdin=encoded())
    pytest.importorskip("mir_eval")
    scored = run("set", app=command_line.evaluate_app)
    for result in (piped, scored):
        assert (result.code, len(result.errors)) == (4, 1)
        assert result.errors[0].startswith("error: no temporary folder can be made: No such file or directory; set ")


def test_no_place_for_what_libraries_compile(tmp_path: Path, cli_environment: dict[str, str]) -> None:
    """A user without a home, and a folder of the package that only others may write to."""
    code = """
import os
try:
    import pwd
except ImportError:  # Windows
    pass
else:
    pwd.getpwuid = {}.__getitem__
from basic_transcribe.timing import OnsetEnvelope
import numba
OnsetEnvelope(22_050)
assert ("XDG_CACHE_HOME" in os.environ, numba.config.CACHE_DIR) == (False, "")
"""
    homes = {"HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE", "NUMBA_CACHE_DIR"}
    environment = {name: value for name, value in cli_environment.items() if name not in homes}
    environment |= {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_row_32_empty_standard_input(run: Run) -> None:
    result = run("-", stdin=b"")
    assert (result.code, len(result.errors)) == (1, 1)
    assert result.errors[0].startswith("error: -: empty file; ")


# ------------------------------------------------------------------------------------------------ model and data files


def refused_model(run: Run, content: bytes, *words: str) -> None:
    """The model is refused before anything is made, with exit code 3."""
    Path("a.wav").write_bytes(encoded())
    Path("m.onnx").write_bytes(content)
    result = run("a.wav", "--model", "m.onnx")
    (error,) = result.errors
    assert result.code == 3
    assert error.startswith("error: model 'm.onnx' ")
    assert error.endswith("; use the model shipped with the package, or one written by scripts/export.py")
    assert all(word in error for word in words), error
    assert not Path("a.mid").exists()


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 140_000])
@pytest.mark.parametrize("random", [False, True])
def test_row_40_truncated_random_or_empty_onnx(run: Run, size: int, random: bool) -> None:
    whole = default_model_path().read_bytes()
    refused_model(run, np.random.default_rng(size).bytes(size) if random else whole[:size])


def renamed(old: bytes, new: bytes) -> bytes:
    """The shipped model with a name in it replaced by one as long."""
    data = default_model_path().read_bytes()
    assert len(old) == len(new)
    assert old in data
    return data.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\x05audio", b"\x05radio", "'audio' of float32, shape (1, samples)"),
        (b"\x07contour", b"\x07kontour", "an output 'contour' of float32, shape (1, frames, 264)"),
        (b'"pitches": 88', b'"pitches": 87', "shape (1, frames, 87)"),
        (b'"hop": 256', b'"hop": 257', "its context is not a whole number of hops"),
        (b'"hop": 256', b'"hop": 128', "it does not run"),
        (
            b'"context_before": 141312',
            b'"context_before": 142336',
            "it makes 36 frames of 'onset', (1, 36, 88) where (1, 32, 88) is due",
        ),
        (b"basic_transcribe\x12", b"other_transcribe\x12", "no key 'basic_transcribe'"),
        (b'"format": 1', b'"f\xffrmat": 1', "its metadata is not JSON"),
    ],
)
def test_row_41_wrong_names_shapes_or_metadata(run: Run, old: bytes, new: bytes, words: str) -> None:
    refused_model(run, renamed(old, new), words)


def test_row_42_onnx_with_external_data(run: Run) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(default_model_path().read_bytes())
    tensor = next(t for t in model.graph.initializer if len(t.raw_data) > 1000)
    Path("weights.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, "weights.bin", 0, len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    refused_model(run, model.SerializeToString(), "refers to data in other files")


def test_row_43_onnx_over_the_size_cap(run: Run) -> None:
    Path("m.onnx").write_bytes(b"")
    os.truncate("m.onnx", 20_000_000_000)  # zeros that no disk holds
    Path("a.wav").write_bytes(encoded())
    result = run("a.wav", "--model", "m.onnx")
    assert result.code == 3
    assert "over the limit of 100000000 bytes; " in result.errors[0]


@pytest.mark.usefixtures("no_inference")
@pytest.mark.parametrize("output", ["../a.mid", "sub/../../a.mid", "/tmp/a.mid"])
@pytest.mark.parametrize("place", ["list.jsonl", "out/manifest.jsonl"])
def test_row_44_manifest_that_leads_out(run: Run, output: str, place: str) -> None:
    Path("a.wav").write_bytes(encoded())
    Path("out").mkdir()
    line = {"input": os.path.abspath("a.wav"), "output": output, "status": "done"}
    Path(place).write_text(json.dumps(line) + "\n")
    before = contents(Path())
    result = run("list.jsonl" if place == "list.jsonl" else "a.wav", "out", app=command_line.batch_app)
    assert (result.code, len(result.errors)) == (2, 1)
    assert place in result.errors[0]
    assert contents(Path()) == before


def test_row_45_hostile_npz(run: Run) -> None:
    Path("a.wav").write_bytes(encoded())
    assert run("a.wav", "--npz").code == 0
    with np.load("a.npz") as archive:
        good = dict(archive)
    hostile = {
        "object.npz": {**good, "note": np.array([{}], object)},
        "missing.npz": {name: good[name] for name in good if name != "level"},
        "shapes.npz": {**good, "note": good["note"][:, :80]},
        "infinite.npz": {**good, "onset": np.full_like(good["onset"], np.inf)},
        "rate.npz": {**good, "frame_rate": np.float64(0)},
    }
    for name, arrays in hostile.items():
        np.savez(name, allow_pickle=True, **arrays)
    Path("text.npz").write_text("not an archive")
    Path("cut.npz").write_bytes(Path("a.npz").read_bytes()[:1000])
    bad = [*hostile, "text.npz", "cut.npz"]
    result = run(*bad, "a.npz", "-o", "out", "--jobs", "1")
    assert result.code == 1
    assert [line.split(": ")[1] for line in result.errors] == bad
    assert all("not posteriors of this program" in line for line in result.errors)
    assert [p.name for p in Path("out").glob("*.mid")] == ["a.mid"]


# -------------------------------------------------------------------------------------------------------------- safety


def test_nothing_is_unpickled() -> None:
    """Neither here nor in the scripts; what goes between this program's own processes is its own."""
    for path in sorted([*ROOT.glob("basic_transcribe/**/*.py"), *ROOT.glob("scripts/*.py")]):
        tree = ast.parse(path.read_text())
        for found in ast.walk(tree):
            if isinstance(found, ast.Import | ast.ImportFrom):
                names = {getattr(found, "module", None) or "", *(alias.name for alias in found.names)}
                assert not names & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}, path
            if isinstance(found, ast.Call):
                said = {keyword.arg: ast.unparse(keyword.value) for keyword in found.keywords}
                assert said.get("allow_pickle", "False") == "False", path
                if ast.unparse(found.func) == "torch.load":
                    assert said.get("weights_only") == "True", path


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_standard_input_is_kept_private(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    going_on = Transcriber.transcribe

    def looked_at(self: Transcriber, source: Path, **keywords: Any) -> Any:
        modes.append(stat.S_IMODE(source.parent.stat().st_mode))
        return going_on(self, source, **keywords)

    monkeypatch.setattr(Transcriber, "transcribe", looked_at)
    assert run("-", stdin=encoded()).code == 0
    assert modes == [0o700]
    assert all_heard(midi_notes("stdin.mid"))


# --------------------------------------------------------------------------------------- the same music, other formats


@pytest.mark.parametrize("form", ["MP3", "VORBIS", "OPUS", "FLAC", pytest.param("m4a", marks=needs_av)])
def test_onsets_are_the_same_in_every_format(form: str, run: Run) -> None:
    rate = 48_000 if form == "OPUS" else 44_100
    sound = music(rate=rate)
    ogg = form in ("VORBIS", "OPUS")
    Path("a.wav").write_bytes(encoded(samples=sound, rate=rate))
    data = (
        av_file("ipod", "aac") if form == "m4a" else encoded("OGG" if ogg else form, form if ogg else None, sound, rate)
    )
    Path(f"b.{form}").write_bytes(data)
    assert run("a.wav", f"b.{form}", "--jobs", "1").code == 0
    played = [(0.5 * i + 0.05, 57 + 2 * i) for i in range(8)]
    first, second = (
        [
            min((onset for onset, p in notes if p == pitch), key=lambda onset, time=time: abs(onset - time))
            for time, pitch in played
        ]
        for notes in (midi_notes("a.mid"), midi_notes("b.mid"))
    )
    assert np.abs(np.subtract(first, second)).max() < 0.0035  # both are rounded to a millisecond
