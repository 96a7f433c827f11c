"""The command line as a user meets it, as a process of its own: exit codes, messages, signals. And its parsers."""

from __future__ import annotations

import io
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import typing
import urllib.request
import wave
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import fakes
import mido
import numpy as np
import pretty_midi
import pytest
import soundfile
import typer.core
import typer.main
from conftest import Run, is_worker
from typer.testing import CliRunner

from basic_transcribe import __main__, __version__, batch, load_posteriors
from basic_transcribe import cli as commands
from basic_transcribe.batch import Recipe
from basic_transcribe.console import Report, clock
from basic_transcribe.errors import UsageError
from basic_transcribe.flags import frequency_of, recipe_of, seconds_of
from basic_transcribe.manifest import NAME, parse
from basic_transcribe.options import PRESET_NAMES
from basic_transcribe.outputs import WRITERS, OutputSettings
from basic_transcribe.pipeline import NO_BEAT
from basic_transcribe.presets import PRESETS
from basic_transcribe.shaping import ShapeSettings
from basic_transcribe.types import Beats, BeatSettings, MidiSettings, Note, TrackerSettings


def tone(path: Path, pitch: int = 69, seconds: float = 0.5) -> Path:
    """A decaying tone, 16 kHz mono wav."""
    times = np.arange(int(16000 * seconds)) / 16000
    samples = np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * times) * np.exp(-3 * times)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(os.fsdecode(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((samples * 20000).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hours of silence: small as flac, and at work for longer than any test waits."""
    path = tmp_path_factory.mktemp("endless") / "endless.flac"
    with soundfile.SoundFile(path, "w", 8000, 1, subtype="PCM_16") as file:
        for _ in range(18):
            file.write(np.zeros(8000 * 600, np.int16))
    return path


@contextmanager
def started(
    folder: Path, environment: dict[str, str], *arguments: str, stderr: BinaryIO | int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """The command line at work, in a process group of its own; whatever is left of it is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "basic_transcribe", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def lines(stream: bytes) -> list[str]:
    return stream.decode().splitlines()


# ---------------------------------------------------------------------------------------------------------- exit codes


def test_0_a_recording_becomes_a_midi_file(cli: Run, guitar: Path, tmp_path: Path) -> None:
    shutil.copy(guitar, tmp_path)
    first, again = cli("guitar.flac"), cli("guitar.flac")
    assert (first.returncode, first.stderr) == (0, b"")
    assert first.stdout.startswith(b"guitar.flac: ")
    assert len(pretty_midi.PrettyMIDI(str(tmp_path / "guitar.mid")).instruments[0].notes) > 0
    assert (again.returncode, again.stdout) == (0, b"guitar.flac: guitar.mid is up to date\n")


def test_1_one_input_fails_and_the_others_go_on(cli: Run, tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not a recording at all")
    result = cli("mistyped.wav", "empty.wav", "text.wav", "a.wav", "--jobs", "1")
    assert result.returncode == 1
    assert (tmp_path / "a.mid").exists()
    errors = lines(result.stderr)
    assert [e.split(":")[:2] for e in errors] == [
        ["error", " mistyped.wav"],
        ["error", " empty.wav"],
        ["error", " text.wav"],
    ]
    assert "empty" in errors[1]
    assert "1 done, 0 up to date, 3 failed" in lines(result.stdout)[-1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "INPUT"),
        (["a.wav", "--no-such-option"], "no-such-option"),
        (["a.wav", "--onset-threshold", "1.5"], "onset_threshold is 1.5"),
        (["a.wav", "--midi-tempo", "0"], "tempo is 0"),
        (["a.wav", "--program", "128"], "program is 128"),
        (["a.wav", "--minimum-frequency", "H2"], "--minimum-frequency is 'H2'"),
        (["a.wav", "--minimum-frequency", "C5", "--maximum-frequency", "C3"], "above maximum_frequency"),
        (["a.wav", "--jobs", "0"], "--jobs"),
        (["a.mid", "-o", "out", "--provider", "gpu"], "provider 'gpu' is unknown"),
        (["a.wav", "--quiet", "--verbose"], "contradicts"),
        (["."], "no audio found"),
        (["a.mid"], "replace an input"),
    ],
)
def test_2_usage(cli: Run, tmp_path: Path, arguments: list[str], reason: str) -> None:
    tone(tmp_path / "a.mid")
    before = (tmp_path / "a.mid").read_bytes()
    result = cli(*arguments)
    assert result.returncode == 2
    assert reason in result.stderr.decode()
    assert b"Traceback" not in result.stderr
    assert (tmp_path / "a.mid").read_bytes() == before


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_3_the_model_cannot_be_loaded(cli: Run, tmp_path: Path, jobs: str, content: bytes | None) -> None:
    tone(tmp_path / "a.wav")
    tone(tmp_path / "b.wav", 60)
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    result = cli("a.wav", "b.wav", "--model", "m.onnx", "--jobs", jobs)
    assert result.returncode == 3
    (error,) = lines(result.stderr)
    assert "m.onnx" in error
    assert not list(tmp_path.glob("*.mid"))


@pytest.mark.parametrize("output", ["a.wav", "a.wav/below", "/proc/basic_transcribe"])
def test_4_the_output_folder_cannot_be_made(cli: Run, tmp_path: Path, output: str) -> None:
    tone(tmp_path / "a.wav")
    tone(tmp_path / "b.wav", 60)
    result = cli("a.wav", "b.wav", "-o", output)
    assert (result.returncode, result.stdout) == (4, b"")
    (error,) = lines(result.stderr)
    assert output in error


def test_4_an_output_is_a_folder_or_its_name_too_long(cli: Run, tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    (tmp_path / "a.mid").mkdir()
    tone(tmp_path / ("b" * 252))
    tone(tmp_path / "c.wav")
    result = cli("a.wav", "b" * 252, "c.wav", "--jobs", "1")
    assert result.returncode == 4
    assert ["folder" in e or "bytes" in e for e in lines(result.stderr)] == [True, True]
    assert (tmp_path / "c.mid").is_file()


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 129), ("SIGINT", 130), ("SIGTERM", 143)])
def test_129_130_and_143_stopped_by_a_signal(
    cli: Run,
    tmp_path: Path,
    cli_environment: dict[str, str],
    endless: Path,
    name: str,
    code: int,
    jobs: str,
) -> None:
    tone(tmp_path / "a.wav")
    arguments = ["a.wav", str(endless), "-o", "out", "--jobs", jobs]
    with started(tmp_path, cli_environment, *arguments) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"a.wav: ")
        os.killpg(process.pid, signal.Signals[name])  # as a terminal does: the workers get it too
        out, err = process.communicate(timeout=60)
        assert process.returncode == code
    assert lines(err) == [f"stopped by {name}, 1 not done; run again to go on"]
    assert out.startswith(b"1 done, 0 up to date, 0 failed")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.mid"]
    assert cli("a.wav", "-o", "out").stdout == b"a.wav: out/a.mid is up to date\n"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGHUP")
def test_a_terminal_that_closes_may_say_so_twice(cli_environment: dict[str, str]) -> None:
    """By its shell and by the kernel; what is left to be done is done all the same."""
    code = """if True:
        import signal
        from basic_transcribe.running import Stop, signals
        signals.install()
        try:
            signal.raise_signal(signal.SIGHUP)
        except Stop as stop:
            print(stop.signum == signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        print("done")
    """
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=cli_environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"True\ndone\n", b"")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGHUP")
@pytest.mark.parametrize("arguments", [["in", "-o", "out"], ["batch", "in", "out"]], ids=["plain", "batch"])
def test_129_a_terminal_that_closes(
    arguments: list[str], endless: Path, tmp_path: Path, cli_environment: dict[str, str]
) -> None:
    """Neither the progress bars nor what is said of the end can be written any more."""
    import pty

    (tmp_path / "in").mkdir()
    shutil.copy(endless, tmp_path / "in")
    tone(tmp_path / "in/a.wav")
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        os.execve(
            sys.executable, [sys.executable, "-m", "basic_transcribe", *arguments, "--jobs", "2"], cli_environment
        )
    seen = b""
    while b"a.wav: " not in seen:
        seen += os.read(terminal, 1000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGHUP")
def test_a_terminal_that_closes_does_not_end_what_nohup_started(
    endless: Path, tmp_path: Path, cli_environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "basic_transcribe", "live", "--file", str(endless)]
    with subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command],
        cwd=tmp_path,
        env=cli_environment,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into Linux's /proc")
def test_a_terminal_that_closes_leaves_the_workers_to_the_run() -> None:
    worker = batch._start(Recipe(threads=1), ())
    worker.pipe.recv()  # it is ready
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    worker.process.terminate()
    worker.dismiss()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    assert ignored >> signal.SIGHUP - 1 & 1
    assert ignored >> signal.SIGINT - 1 & 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in Linux's /proc")
def test_1_a_worker_is_killed_twice(tmp_path: Path, cli_environment: dict[str, str], endless: Path) -> None:
    def worker(parent: int) -> int:
        """The worker that is left when the short recording is done."""
        while True:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            try:
                pids = [int(c) for c in children if is_worker(c)]
            except FileNotFoundError:  # one has just ended
                continue
            if len(pids) == 1:
                return pids[0]
            time.sleep(0.05)

    tone(tmp_path / "a.wav")
    with started(tmp_path, cli_environment, str(endless), "a.wav", "-o", "out", "--jobs", "2") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"a.wav: ")
        first = worker(process.pid)
        os.kill(first, signal.SIGKILL)
        while (second := worker(process.pid)) == first:
            time.sleep(0.05)
        os.kill(second, signal.SIGKILL)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1
    (error,) = lines(err)
    assert "killed by signal 9, 2 times" in error
    assert out.startswith(b"1 done, 0 up to date, 1 failed")


# ------------------------------------------------------------------------------------------------------------- outputs


def test_the_tree_is_mirrored_and_equal_names_are_told_apart(cli: Run, tmp_path: Path) -> None:
    tone(tmp_path / "in/sub/a.wav", 60)
    tone(tmp_path / "in/b.wav", 62)
    soundfile.write(tmp_path / "in/b.flac", np.zeros(8000), 16000)
    result = cli("in", "-o", "out", "--jobs", "1")
    assert result.returncode == 0, result.stderr
    made = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert made == ["b.flac.mid", "b.wav.mid", "sub/a.mid"]


def test_all_outputs_and_settings(cli: Run, guitar: Path, tmp_path: Path) -> None:
    shutil.copy(guitar, tmp_path / "a.flac")
    options = ["--csv", "--json", "--npz", "--midi-tempo", "90", "--program", "24", "--onset-threshold", "0.4"]
    options += ["--frame-threshold", "0.35", "--minimum-note-length", "60", "--multiple-pitch-bends"]
    options += ["--minimum-frequency", "E2", "--maximum-frequency", "1000", "--jobs", "1", "--threads", "1"]
    result = cli("a.flac", *options)
    assert result.returncode == 0, result.stderr
    settings = json.loads((tmp_path / "a.json").read_text())["settings"]
    assert settings["onset_threshold"] == 0.4
    assert settings["frame_threshold"] == 0.35
    assert settings["minimum_note_length"] == 60
    assert settings["minimum_frequency"] == pytest.approx(82.407, abs=1e-3)
    assert settings["maximum_frequency"] == 1000
    assert settings["pitch_bends"] is True
    assert (tmp_path / "a.csv").read_text().startswith("onset_s")
    assert load_posteriors(tmp_path / "a.npz").note.shape[0] > 100
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid"))
    assert midi.get_tempo_changes()[1][0] == pytest.approx(90, abs=0.01)
    assert {i.program for i in midi.instruments} == {24}


def test_no_pitch_bends(cli: Run, guitar: Path, tmp_path: Path) -> None:
    shutil.copy(guitar, tmp_path / "a.flac")
    assert cli("a.flac", "--no-pitch-bends").returncode == 0
    assert not any(i.pitch_bends for i in pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).instruments)


def notes_of(path: Path) -> list[tuple[float, float, int, int]]:
    """Onset, offset, pitch and velocity of all notes of a MIDI file, in an order that a tick does not change."""
    notes = [note for instrument in pretty_midi.PrettyMIDI(str(path)).instruments for note in instrument.notes]
    return [(n.start, n.end, n.pitch, n.velocity) for n in sorted(notes, key=lambda n: (n.pitch, n.start))]


@pytest.fixture(scope="module")
def made(guitar: Path, cli_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guitar, its MIDI file as the defaults make it, and its posteriors."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(guitar, folder / "guitar.flac")
    command = [sys.executable, "-m", "basic_transcribe", "guitar.flac", "--npz"]
    subprocess.run(command, cwd=folder, env=cli_environment, check=True, timeout=120)
    return folder


def test_posteriors_stand_in_for_the_recording(cli: Run, made: Path, tmp_path: Path) -> None:
    result = cli(made / "guitar.npz", "-o", "out")
    assert result.returncode == 0, result.stderr
    assert notes_of(tmp_path / "out/guitar.mid") == notes_of(made / "guitar.mid")
    fewer = cli(made / "guitar.npz", "-o", "fewer", "--onset-threshold", "0.9")
    assert fewer.returncode == 0
    assert len(notes_of(tmp_path / "fewer/guitar.mid")) < len(notes_of(made / "guitar.mid"))
    on_the_beat = cli(made / "guitar.npz", "-o", "beats", "--quantize", "1/8")
    assert on_the_beat.returncode == 0
    assert b" beats a minute" in on_the_beat.stdout
    for flags in (["--start", "1"], ["--sonify-mix"]):
        refused = cli(made / "guitar.npz", "-o", "out", "--overwrite", *flags)
        assert refused.returncode == 2
        assert b"the recording" in refused.stderr


def test_the_shape_of_notes(cli: Run, made: Path, tmp_path: Path) -> None:
    flags = ["--legato", "80", "--staccato", "500", "--polyphony", "3", "--velocity-range", "40-100"]
    flags += ["--scale", "E minor", "--quantize", "1/8", "--tempo", "120", "--pitch-bends", "none"]
    result = cli(made / "guitar.npz", "-o", ".", *flags)
    assert result.returncode == 0, result.stderr
    notes = notes_of(tmp_path / "guitar.mid")
    assert len(notes) > 20
    assert {pitch % 12 for _, _, pitch, _ in notes} <= {4, 6, 7, 9, 11, 0, 2}
    for onset, _, _, velocity in notes:
        assert 40 <= velocity <= 100
        assert onset * 4 == pytest.approx(round(onset * 4), abs=1e-2)  # an eighth lasts a quarter of a second
        assert sum(a <= onset < b for a, b, _, _ in notes) <= 3


def test_a_fixed_tempo_is_one_and_no_beat_that_was_found(cli: Run, made: Path, tmp_path: Path) -> None:
    result = cli(made / "guitar.npz", "-o", ".", "--tempo", "97", "--quantize", "1/16", "--json", "--jams")
    assert result.returncode == 0, result.stderr
    assert b"beats a minute" not in result.stdout
    file = mido.MidiFile(tmp_path / "guitar.mid")
    assert [message.tempo for message in file.tracks[0] if message.type == "set_tempo"] == [618_557]
    at, sixteenth = 0, file.ticks_per_beat // 4
    for message in file.tracks[1]:
        at += message.time
        assert not (message.type == "note_on" and message.velocity and at % sixteenth)
    assert json.loads((tmp_path / "guitar.json").read_text())["beats"] is None
    namespaces = {a["namespace"] for a in json.loads((tmp_path / "guitar.jams").read_text())["annotations"]}
    assert not namespaces & {"beat", "tempo"}


def test_one_line(cli: Run, made: Path, tmp_path: Path) -> None:
    assert cli(made / "guitar.npz", "-o", ".", "--monophonic").returncode == 0
    notes = sorted(notes_of(tmp_path / "guitar.mid"))
    assert len(notes) > 5
    assert all(before[1] <= after[0] + 1e-3 for before, after in itertools.pairwise(notes))
    assert cli(made / "guitar.npz", "-o", ".", "--no-monophonic", "--overwrite").returncode == 0
    assert notes_of(tmp_path / "guitar.mid") == notes_of(made / "guitar.mid")  # of a guitar, which is found out


def test_the_bars_follow_the_recording(cli: Run, made: Path, tmp_path: Path) -> None:
    result = cli(
        made / "guitar.flac", "-o", ".", "--tempo", "auto", "--time-signature", "3/4", "--json", "--key", "auto"
    )
    assert result.returncode == 0, result.stderr
    assert np.array(notes_of(tmp_path / "guitar.mid")) == pytest.approx(
        np.array(notes_of(made / "guitar.mid")), abs=2e-3
    )
    beats = json.loads((tmp_path / "guitar.json").read_text())["beats"]
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "guitar.mid"))
    written = midi.get_beats()
    assert b" beats a minute, " in result.stdout
    assert b"(confidence 0." in result.stdout
    heard = [beat for beat in beats["times"][1:] if beat < written[-1] + 2e-3]
    assert len(heard) > 8
    for beat in heard:
        assert np.abs(written - beat).min() < 2e-3
    assert (midi.time_signature_changes[-1].numerator, midi.time_signature_changes[-1].denominator) == (3, 4)
    assert midi.key_signature_changes


def test_a_bar_line_where_it_is_said_to_be(cli: Run, made: Path, tmp_path: Path) -> None:
    downbeats = set()
    for second in ("2", "2.6", "3.2", "3.8"):
        result = cli(made / "guitar.npz", "-o", ".", "--first-bar", second, "--json", "--overwrite")
        assert result.returncode == 0, result.stderr
        beats = json.loads((tmp_path / "guitar.json").read_text())["beats"]
        lines = np.array(beats["times"])[beats["downbeat"] :: 4]
        length = np.median(np.diff(beats["times"]))
        assert np.abs(lines - float(second)).min() <= 0.6 * length
        downbeats.add(beats["downbeat"])
    assert len(downbeats) > 1


def test_a_part_of_a_recording(cli: Run, made: Path, tmp_path: Path) -> None:
    assert cli(made / "guitar.flac", "-o", ".", "--start", "0:02", "--end", "6.5").returncode == 0
    whole = [(onset - 2, pitch) for onset, _, pitch, _ in notes_of(made / "guitar.mid") if 2.5 < onset < 6]
    part = [(onset, pitch) for onset, _, pitch, _ in notes_of(tmp_path / "guitar.mid")]
    assert max(onset for onset, _ in part) < 4.5
    found = sum(any(abs(a - b) < 0.05 and p == q for b, q in part) for a, p in whole)
    assert found > 0.9 * len(whole)


def test_a_channel_of_a_recording(cli: Run, tmp_path: Path) -> None:
    (low, rate), (high, _) = soundfile.read(tone(tmp_path / "l.wav", 60)), soundfile.read(tone(tmp_path / "r.wav", 67))
    soundfile.write(tmp_path / "a.wav", np.stack([low, high], axis=1), rate)
    for channel, pitches in (("left", {60}), ("2", {67}), ("mix", {60, 67})):
        assert cli("a.wav", "-o", channel, "--channel", channel).returncode == 0
        assert {pitch for _, _, pitch, _ in notes_of(tmp_path / channel / "a.mid")} == pitches
    absent = cli("a.wav", "--channel", "3")
    assert (absent.returncode, len(lines(absent.stderr))) == (1, 1)


def test_every_file_that_can_be_asked_for(cli: Run, made: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    wanted = ["--csv", "--json", "--jams", "--musicxml", "--npz", "--sonify", "--sonify-mix", "--plot", "png"]
    flags = ["--end", "3", "--pitch-bends", "mpe", "--mark-below", "0.7", *wanted]
    result = cli(made / "guitar.flac", "-o", "out", *flags)
    assert result.returncode == 0, result.stderr
    extensions = {path.name.removeprefix("guitar") for path in (tmp_path / "out").iterdir()}
    assert extensions == set(WRITERS) - {".svg"}
    for extension in (".sonified.wav", ".sonified-mix.wav"):
        assert soundfile.info(tmp_path / "out" / f"guitar{extension}").duration == pytest.approx(3, abs=0.5)
    assert (tmp_path / "out" / "guitar.png").read_bytes().startswith(b"\x89PNG")
    again = cli(made / "guitar.flac", "-o", "out", *flags)
    assert b"up to date" in again.stdout
    sounds = cli("out", "-o", "again")  # the sounds of an earlier run are no recordings
    assert (sounds.returncode, sounds.stderr.count(b"no audio found")) == (2, 1)


def test_pictures_need_nothing_of_what_matplotlib_is_set_to(
    cli: Run, tmp_path: Path, cli_environment: dict[str, str]
) -> None:
    """Such as by a notebook, in whose shell this runs, or in a container without a home."""
    pytest.importorskip("matplotlib")
    for name in ("a.wav", "b.wav"):
        tone(tmp_path / "in" / name)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "home").touch()  # not even root can make a folder in it
    (tmp_path / "broken").write_text("nonsense: 1\n")
    theirs = {
        "MPLBACKEND": "of_a_notebook",
        "MATPLOTLIBRC": str(tmp_path / "broken"),
        "MPLCONFIGDIR": str(tmp_path / "home" / "config"),
        "TMPDIR": str(tmp_path / "tmp"),
    }
    drawn = cli("batch", "in", "out", "--plot", "png", "--jobs", "2", env=cli_environment | theirs)
    assert (drawn.returncode, drawn.stderr) == (0, b"")
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    assert not list((tmp_path / "tmp").iterdir())


def test_live(cli: Run, guitar: Path, tmp_path: Path) -> None:
    result = cli("live", "--file", guitar, "--fast")
    assert result.returncode == 0, result.stderr
    told = [line.split() for line in lines(result.stdout)]
    assert all(len(words) == {"on": 4, "off": 3}[words[1]] for words in told)
    begun = [words for words in told if words[1] == "on"]
    assert len(begun) == len(told) / 2 > 20
    assert b"a note is known within" in result.stderr
    absent = cli("live", "--file", "none.wav")
    assert (absent.returncode, len(lines(absent.stderr))) == (1, 1)
    assert cli("live", "--fast").returncode == 2
    assert cli("live", "--file", "none.wav", "--device", "1").returncode == 2


def test_live_stops_when_told_to(endless: Path, tmp_path: Path, cli_environment: dict[str, str]) -> None:
    with started(tmp_path, cli_environment, "live", "--file", str(endless)) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--tempo", "fast"], "--tempo is 'fast'"),
        (["--start", "1:2:3:4"], "--start is '1:2:3:4'"),
        (["--start", "5", "--end", "4"], "must lie after start"),
        (["--channel", "middle"], "channel is 'middle'"),
        (["--channel", "0"], "channel is 0"),
        (["--quantize", "fifth"], "fifth"),
        (["--swing", "0.3"], "give --quantize"),
        (["--first-bar", "soon"], "--first-bar is 'soon'"),
        (["--tempo", "auto:"], "--tempo is 'auto:'"),
        (["--tempo", "3"], "tempo is 3; it must lie between 4 and 1000"),
        (["--tempo", "1000", "--time-signature", "12/8"], "tempo is 1000; it must lie between 2.667 and 666.7"),
        (
            ["--tempo", "", "--quantize", "1/8"],
            "an argument after --tempo is empty, perhaps a variable that is not set",
        ),
        (["--output-dir="], "--output-dir is empty"),
        (["--csv", ""], "is empty"),
        (["--start", f"{'9' * 400}:00"], "give seconds"),
        (["--channel", "9" * 5000], "channel is '9"),
        (["--velocity-range", "1-" + "9" * 5000], "give two velocities"),
        (["--velocity-range", "100-20"], "the softest first"),
        (["--scale-mode", "drop"], "give --scale"),
        (["--scale", "H dur"], "H dur"),
        (["--scale", "C major", "--scale-mode", "bend"], "bend"),
        (["--key", "M"], "M"),
        (["--time-signature", "3"], "3"),
        (["--velocity-range", "loud"], "--velocity-range is 'loud'"),
        (["--pitch-bends", "sideways"], "give none, plain, channels, mpe"),
        (["--pitch-bends", "mpe", "--no-pitch-bends"], "contradict"),
        (["--preset", "zither"], "no preset zither"),
        (["--plot", "pdf"], "give png or svg"),
        (["--soundfont", "x.sf2"], "give one of them"),
        (["--polyphony", "0"], "polyphony is 0"),
    ],
)
def test_2_settings_that_make_no_sense(cli: Run, tmp_path: Path, flags: list[str], reason: str) -> None:
    tone(tmp_path / "a.wav")
    result = cli("a.wav", *flags)
    assert result.returncode == 2
    (error,) = lines(result.stderr)
    assert error.startswith("error: ")
    assert reason in error
    assert not (tmp_path / "a.mid").exists()


def test_2_a_command_that_does_not_come_first(cli: Run, tmp_path: Path) -> None:
    tone(tmp_path / "songs/a.wav")
    result = cli("--preset", "guitar", "batch", "songs", "midi")
    assert result.returncode == 2
    assert lines(result.stderr) == ["error: batch is a command of its own and comes first: basic-transcribe batch ..."]
    assert not (tmp_path / "songs/a.mid").exists()


def test_the_lowest_and_highest_note_are_kept(cli: Run, tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    options = ["--onset-threshold", "0.01", "--frame-threshold", "0.01", "--minimum-note-length", "0", "--overwrite"]
    cli("a.wav", *options, "--minimum-frequency", "A4", "--maximum-frequency", "A4")
    pitches = {n.pitch for i in pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).instruments for n in i.notes}
    assert pitches == {69}


def test_overwrite(cli: Run, tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    (tmp_path / "a.mid").write_bytes(b"the work of hours")
    refused = cli("a.wav")
    assert refused.returncode == 1
    assert b"--overwrite" in refused.stderr
    assert (tmp_path / "a.mid").read_bytes() == b"the work of hours"
    assert cli("a.wav", "--overwrite").returncode == 0
    assert (tmp_path / "a.mid").read_bytes().startswith(b"MThd")


def test_standard_input(cli: Run, tmp_path: Path) -> None:
    sound = tone(tmp_path / "a.wav").read_bytes()
    result = cli("-", "-o", "out", input=sound)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"-: ")
    assert (tmp_path / "out" / "stdin.mid").exists()
    assert cli("-", "-o", "out", input=sound).stdout == b"-: out/stdin.mid is up to date\n"
    empty = cli("-", input=b"")
    assert empty.returncode == 1
    assert [e.startswith("error: -: empty") for e in lines(empty.stderr)] == [True]
    assert not (tmp_path / "stdin.mid").exists()


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take no bytes that are not text")
def test_any_name_will_do(cli: Run, tmp_path: Path) -> None:
    names = [b"new\nline.wav", "\N{GUITAR}.wav".encode(), b"-dash.wav", b"caf\xe9.wav", b"..wav"]
    for i, name in enumerate(names):
        tone(tmp_path / "in" / os.fsdecode(name), 60 + i)
    result = cli("in", "-o", "out", "--jobs", "1", env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)})
    assert result.returncode == 0, result.stderr
    made = {os.fsencode(p.name) for p in (tmp_path / "out").iterdir()}
    assert made == {n.removesuffix(b".wav") + b".mid" for n in names if n != b"..wav"}  # ..wav is hidden
    assert len(lines(result.stdout)) == len(names)
    assert b"in/new\\nline.wav: " in result.stdout
    assert b"in/caf\\udce9.wav: " in result.stdout
    explicit = cli("--", b"caf\xe9.wav", "-dash.wav", "-o", cwd=tmp_path / "in")
    assert b"error: -o: No such file" in explicit.stderr
    assert (tmp_path / "in" / "-dash.mid").exists()
    assert (tmp_path / "in" / os.fsdecode(b"caf\xe9.mid")).exists()


# --------------------------------------------------------------------------------------------------------------- batch


def test_batch_goes_on_where_it_was(cli: Run, tmp_path: Path) -> None:
    tone(tmp_path / "in/a.wav")
    tone(tmp_path / "in/sub/b.wav", 60)
    (tmp_path / "in/empty.wav").touch()
    arguments = ("batch", "in", "out", "--jobs", "1")
    foretold = cli(*arguments, "--dry-run", "--report", "page.html")
    assert foretold.returncode == 0
    assert lines(foretold.stdout)[0] == "in/a.wav: to out/a.mid (new)"
    assert lines(foretold.stdout)[-1] == "3 to do, 0 up to date, 0 failed"
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    first = cli(*arguments, "--report", "page.html")
    assert first.returncode == 1
    assert [line.split(":")[:2] for line in lines(first.stderr)] == [["error", " in/empty.wav"]]
    assert lines(first.stdout)[-2].startswith("1 failed: empty file; ")
    assert lines(first.stdout)[-1].startswith("2 done, 0 up to date, 1 failed: ")
    assert "in/sub/b.wav" in (tmp_path / "page.html").read_text() or "b.wav" in (tmp_path / "page.html").read_text()
    manifest = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    assert [(entry["output"], entry["status"]) for entry in manifest] == [
        ("a.mid", "done"),
        ("empty.mid", "failed"),
        ("sub/b.mid", "done"),
    ]
    again = cli(*arguments)
    assert again.returncode == 1
    assert lines(again.stdout)[-1].startswith("0 done, 2 up to date, 1 failed: ")
    assert "failed before: empty file" in lines(again.stderr)[0]
    tone(tmp_path / "in/empty.wav", 64)
    assert cli(*arguments, "--staccato", "300").returncode == 0
    assert b"3 up to date" in cli(*arguments, "--staccato", "300").stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["in"], "give a folder for the outputs"),
        (["in", "in/a.wav"], "the last path is the folder"),
        (["-", "out"], "standard input"),
        (["in", "out", "--shard", "2"], "--shard is '2'"),
        (["in", "out", "--shard", "3/2"], "shard is 3/2"),
        (["in", "out", "--watch", "--dry-run"], "contradicts"),
        (["in/a.wav", "out", "--watch"], "--watch needs"),
        (["in", "out", "--include", "b*"], "--include and --exclude"),
        (["list.jsonl", "out"], "leads out of"),
        (["in", "out", "--onset-threshold", "2"], "onset_threshold"),
        (["in", "out", "--output-dir", "x"], "output-dir"),
    ],
)
def test_2_usage_of_batch(cli: Run, tmp_path: Path, arguments: list[str], reason: str) -> None:
    tone(tmp_path / "in/a.wav")
    (tmp_path / "list.jsonl").write_text('{"input": "in/a.wav", "output": "../a.mid"}')
    result = cli("batch", *arguments)
    assert result.returncode == 2
    assert reason in result.stderr.decode()
    assert not list(tmp_path.rglob("*.mid"))


def test_4_batch_cannot_write(cli: Run, tmp_path: Path) -> None:
    tone(tmp_path / "in/a.wav")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/manifest.jsonl").write_text("my own list")
    for arguments in (("in", "out"), ("in", "in/a.wav/below"), ("in", "fresh", "--report", "nowhere/page.html")):
        result = cli("batch", *arguments)
        assert (result.returncode, len(lines(result.stderr))) == (4, 1)
        assert b"error: " in result.stderr
    assert (tmp_path / "out/manifest.jsonl").read_text() == "my own list"
    assert not list(tmp_path.rglob("*.mid"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_batch_watches_until_it_is_stopped(
    tmp_path: Path, cli_environment: dict[str, str], number: signal.Signals, code: int
) -> None:
    pytest.importorskip("watchfiles")
    (tmp_path / "in").mkdir()
    tone(tmp_path / "later.wav")
    arguments = ("batch", "in", "out", "--watch", "--jobs", "1", "--report", "page.html")
    with started(tmp_path, cli_environment, *arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == b"note: in: watched for new recordings; stop with Ctrl-C\n"
        os.rename(tmp_path / "later.wav", tmp_path / "in/later.wav")
        assert process.stdout.readline().startswith(b"in/later.wav: ")
        (tmp_path / "in/empty.wav").touch()
        assert process.stderr.readline().startswith(b"error: in/empty.wav: ")
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code
    assert lines(err) == [f"stopped by {number.name}"]
    assert lines(out)[-1].startswith("1 done, 0 up to date, 1 failed: ")
    assert "later" in (tmp_path / "page.html").read_text()


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such names")
def test_batch_knows_odd_names_again(cli: Run, tmp_path: Path) -> None:
    for number, name in enumerate((b"two\nlines.wav", b"C:drive.wav", b"back\\slash.wav", b"latin \xe9.wav")):
        tone(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path / "in"), name))), 60 + number)
    first, again = cli("batch", "in", "out", "--jobs", "1"), cli("batch", "in", "out", "--jobs", "1")
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert lines(first.stdout)[-1].startswith("4 done")
    assert lines(again.stdout)[-1].startswith("0 done, 4 up to date")


def test_batch_takes_all_options_of_the_plain_command() -> None:
    plain, batch = (set(typing.get_type_hints(c)) for c in (commands.command, commands.batch_command))
    assert plain - batch == {"inputs", "output_dir", "version"}
    assert batch - plain == {"paths", "include", "exclude", "shard", "retry_failed", "dry_run", "watch", "page"}


@pytest.mark.parametrize("name", ["batch", "evaluate", "live"])
def test_commands_are_found_by_name(cli: Run, name: str) -> None:
    shown = cli(name, "--help")
    assert shown.returncode == 0
    assert f"basic-transcribe {name}".encode() in shown.stdout


def test_windows_has_its_wildcards_replaced_in_inputs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.wav", "a.wav", "take 1.flac", "take [1].flac", "midi"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "WINDOWS", True)
    assert commands._globbed(["take [1].flac", "?.wav", "no*", "-"]) == ["take [1].flac", "a.wav", "b.wav", "no*", "-"]
    (tmp_path / "take [1].flac").unlink()
    assert commands._globbed(["take [1].flac", "* [1].flac"]) == ["take [1].flac", "* [1].flac"]

    used: list[object] = []
    monkeypatch.setattr(commands, "run", lambda inputs, folder, *_: used.append((inputs, folder)) or 0)
    monkeypatch.setattr(commands, "run_batch", lambda folders, *_: used.append((folders.inputs, folders.output)) or 0)
    for app, arguments in ((commands.app, ["*.wav", "-o", "m*"]), (commands.batch_app, ["*.wav", "out*"])):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert used == [(["a.wav", "b.wav"], Path("m*")), (("a.wav", "b.wav"), Path("out*"))]
    monkeypatch.setattr(commands, "WINDOWS", False)
    assert commands._globbed(["*.wav"]) == ["*.wav"]


def test_arguments_are_not_left_to_the_parser_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows it would replace wildcards and variables in all of them."""
    taken: list[object] = []
    monkeypatch.setattr(sys, "argv", ["basic-transcribe", "*.wav", "--debug"])
    monkeypatch.setattr(commands.signals, "install", lambda: None)
    monkeypatch.setattr(commands, "app", lambda *arguments, **_: taken.extend(arguments))
    commands.main()
    assert taken == [["*.wav", "--debug"]]


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps the folder in which a program runs")
def test_2_the_current_folder_is_gone(cli: Run, tmp_path: Path) -> None:
    recording = tone(tmp_path / "a.wav")
    for arguments in ((recording, "-o", "out"), ("batch", recording, "out"), ("evaluate", ".")):
        here = tmp_path / "here"
        here.mkdir()
        result = cli(*arguments, cwd=here, preexec_fn=here.rmdir)
        assert result.returncode == 2
        assert lines(result.stderr)[-1] == "error: the current folder is gone; change to one that is there"
        assert b"Traceback" not in result.stderr
    (tmp_path / "here").mkdir()
    whole = cli(recording, "-o", tmp_path / "out", cwd=tmp_path / "here", preexec_fn=(tmp_path / "here").rmdir)
    assert whole.returncode == 0  # which needs no other


def test_2_a_command_whose_extra_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(_name: str, _package: str | None) -> None:
        raise ModuleNotFoundError("No module named 'apache_beam'", name="apache_beam")

    monkeypatch.setattr(commands, "import_module", absent)
    with pytest.raises(SystemExit) as caught:
        commands._subcommand("beam")
    assert caught.value.code == 2
    assert capsys.readouterr().err == 'error: beam needs apache_beam: pip install "basic-transcribe[beam]"\n'


# ------------------------------------------------------------------------------------------------------------- streams


def test_quiet_says_nothing_but_failures(cli: Run, tmp_path: Path) -> None:
    tone(tmp_path / "in/a.wav")
    os.mkfifo(tmp_path / "in/pipe")
    result = cli("in", "gone.wav", "--quiet")
    assert result.stdout == b""
    assert [e.split(":")[:2] for e in lines(result.stderr)] == [["error", " gone.wav"]]
    assert b"note: in/pipe: a named pipe, skipped" in cli("in").stderr


@pytest.mark.parametrize(("threads", "said"), [(1, "1 thread each"), (3, "3 threads each")])
def test_threads_are_counted(threads: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Report(quiet=False, verbose=True, debug=False).settings(Recipe(threads=threads), 2)
    assert capsys.readouterr().err == f"2 at a time, {said}; settings: the defaults\n"


def test_all_that_is_chosen_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    output = OutputSettings(MidiSettings(program=24), key="auto")
    recipe = Recipe(
        shape=ShapeSettings(polyphony=2), output=output, beats=BeatSettings(tempo=92.5), extras=(".csv", ".json")
    )
    Report(quiet=False, verbose=True, debug=False).settings(recipe, 1)
    settings = "polyphony 2, program 24, key auto, beats, tempo 92.5, extras .csv .json"
    assert capsys.readouterr().err == f"1 at a time, 1 thread each; settings: {settings}\n"


def test_verbose_and_debug_say_more(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("not audio")
    assert b"1 at a time" in cli("a.wav", "--verbose").stderr
    assert b"Traceback" in cli("a.wav", "--debug").stderr


@pytest.fixture
def damaged(guitar: Path, tmp_path: Path) -> bytes:
    """An MP3 file of which the decoder prints something."""
    if "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile writes no MP3")
    samples, rate = soundfile.read(guitar)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="MP3")
    data = bytearray(buffer.getvalue())
    middle = len(data) // 2
    data[middle : middle + 600] = np.random.default_rng(0).bytes(600)
    return bytes(data)


def test_what_decoders_print_stays_out_of_standard_error(cli: Run, damaged: bytes, tmp_path: Path) -> None:
    for name in ("a.mp3", "b.mp3"):
        (tmp_path / name).write_bytes(damaged)
    for jobs in ("1", "2"):
        result = cli("a.mp3", "b.mp3", "--overwrite", "--jobs", jobs)
        assert result.returncode == 0, result.stderr
        assert [line for line in lines(result.stderr) if not line.startswith("warning: ")] == []
    assert b"error: gone.mp3: " in cli("gone.mp3").stderr
    assert b"MPEG" in cli("a.mp3", "--overwrite", "--debug", "--jobs", "1").stderr  # or the test would prove nothing


@pytest.mark.skipif(os.name == "nt", reason="there is no sh")
@pytest.mark.parametrize("jobs", [1, 2])
def test_what_decoders_print_goes_into_no_file_in_the_place_of_a_closed_stream(
    damaged: bytes, tmp_path: Path, cli_environment: dict[str, str], jobs: int
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.mp3", "b.mp3"):
        (tmp_path / "in" / name).write_bytes(damaged)
    command = f"'{sys.executable}' -m basic_transcribe batch in out --jobs {jobs} 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, env=cli_environment, check=False).returncode == 0
    told = [parse(line) for line in (tmp_path / "out" / NAME).read_bytes().splitlines()]
    assert [entry and entry.status for entry in told] == ["done", "done"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(
    "command", [["a.wav", "--overwrite"], ["batch", "a.wav", "out"], ["--version"], ["--help"], ["live", "--help"]]
)
def test_4_a_standard_output_without_room(tmp_path: Path, cli_environment: dict[str, str], command: list[str]) -> None:
    tone(tmp_path / "a.wav")
    with open("/dev/full", "wb") as full:
        run = [sys.executable, "-m", "basic_transcribe", *command]
        result = subprocess.run(run, cwd=tmp_path, env=cli_environment, stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 4
    (error,) = lines(result.stderr)
    assert error.startswith("error: standard output cannot be written: ")


def test_a_closed_standard_output_ends_it_quietly(cli: Run, tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    tone(tmp_path / "b.wav", 60)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        result = cli("a.wav", "b.wav", "--jobs", "1", stdout=closed, stderr=subprocess.PIPE, capture_output=False)
    assert (result.returncode, result.stderr) == (141, b"")
    assert (tmp_path / "a.mid").exists()
    assert not (tmp_path / "b.mid").exists()


@contextmanager
def unwritable(kind: str) -> Iterator[BinaryIO]:
    """A stream without room, or without a reader."""
    if kind == "a pipe":
        reader, writer = os.pipe()
        os.close(reader)
        with open(writer, "wb") as closed:
            yield closed
        return
    if not os.path.exists(kind):
        pytest.skip(f"no {kind}")
    with open(kind, "wb", buffering=0) as full:
        yield full


@pytest.mark.parametrize("kind", ["/dev/full", "a pipe"])
def test_4_what_cannot_be_said_on_standard_error_stops_nothing(cli: Run, tmp_path: Path, kind: str) -> None:
    tone(tmp_path / "in/b.wav")
    for name in ("a.wav", "c.wav"):
        (tmp_path / "in" / name).write_text("not audio")
    with unwritable(kind) as stream:
        result = cli("batch", "in", "out", stdout=subprocess.PIPE, stderr=stream, capture_output=False)
    assert result.returncode == 4
    assert lines(result.stdout)[-1].startswith("1 done, 0 up to date, 2 failed: ")
    assert (tmp_path / "out/b.mid").exists()


@pytest.mark.parametrize("kind", ["/dev/full", "a pipe"])
def test_web_answers_though_it_can_say_nothing(tmp_path: Path, cli_environment: dict[str, str], kind: str) -> None:
    with (
        unwritable(kind) as stream,
        started(tmp_path, cli_environment, "web", "--verbose", "--no-browser", "--port", "0", stderr=stream) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().decode().split()[0]
        for _ in range(2):
            with urllib.request.urlopen(url + "/api/health", timeout=60) as answer:
                assert answer.status == 200


def test_no_standard_streams_at_all(tmp_path: Path, cli_environment: dict[str, str]) -> None:
    tone(tmp_path / "a.wav")
    command = f"'{sys.executable}' -m basic_transcribe gone.wav a.wav >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, env=cli_environment, check=False).returncode == 1
    assert (tmp_path / "a.mid").exists()


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_progress_bars_on_a_terminal_only(
    cli: Run, tmp_path: Path, cli_environment: dict[str, str], quiet: list[str]
) -> None:
    pty = pytest.importorskip("pty")
    tone(tmp_path / "[red]a.wav")
    ours, theirs = pty.openpty()
    environment = cli_environment | {"TERM": "xterm", "COLUMNS": "100"}
    with open(theirs, "wb") as terminal:
        arguments = ["[red]a.wav", "gone.wav", *quiet]
        result = cli(*arguments, stdout=subprocess.PIPE, stderr=terminal, capture_output=False, env=environment)
    shown = b""
    with open(ours, "rb", buffering=0) as reader:
        while True:
            try:
                shown += reader.read(4096)
            except OSError:  # how Linux says that the other side is closed
                break
    assert result.returncode == 1
    assert b"\x1b" not in result.stdout
    assert (b"\x1b" in shown) is (not quiet)
    assert (b"[red]a.wav" in shown) is (not quiet)
    assert b"error: gone.wav" in shown


def test_version_and_help(cli: Run) -> None:
    assert cli("--version").stdout.decode() == f"basic-transcribe {__version__}\n"
    shown = cli("--help")
    assert shown.returncode == 0
    assert b"--onset-threshold" in shown.stdout


# ------------------------------------------------------------------------------------------------------------- parsers


@pytest.mark.parametrize(
    ("text", "hertz"),
    [
        ("A4", 440),
        ("a4", 440),
        ("E2", 82.407),
        ("F#3", 184.997),
        ("Bb4", 466.164),
        ("b4", 493.883),
        ("bb4", 466.164),
        ("C-1", 8.1758),
        ("B#3", 261.626),
        ("Cb4", 246.942),
        ("G♭2", 92.499),
        ("82.4", 82.4),
        ("1e3", 1000),
    ],
)
def test_frequencies(text: str, hertz: float) -> None:
    assert frequency_of("--minimum-frequency", text) == pytest.approx(hertz, rel=1e-5)


@pytest.mark.parametrize("text", ["", "H2", "E", "E22", "E##2", "nan", "inf", "440 Hz", "٤E"])
def test_not_frequencies(text: str) -> None:
    with pytest.raises(UsageError, match="--minimum-frequency"):
        frequency_of("--minimum-frequency", text)


def test_clock() -> None:
    assert [clock(s) for s in (0, 8.04, 59.96, 61, 3600, 36061.5)] == [
        "0:00.0",
        "0:08.0",
        "1:00.0",
        "1:01.0",
        "1:00:00.0",
        "10:01:01.5",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1:30", 90), ("0:00.5", 0.5), ("1:02:03.5", 3723.5), ("7.25", 7.25)]
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of("--start", text) == seconds


# ------------------------------------------------------------------------------------------------------------- recipes


def recipe(**flags: object) -> Recipe:
    return recipe_of(defaultdict(lambda: None, flags))


@pytest.mark.parametrize("flags", [{"quantize": "1/16"}, {"musicxml": True}])
def test_what_needs_beats_looks_for_them(flags: dict[str, object]) -> None:
    assert recipe(**flags).beats == BeatSettings()
    assert recipe(**flags, time_signature="6/8").beats == BeatSettings((6, 8))
    assert recipe(**flags, tempo="90").beats is None
    assert recipe(**flags, tempo="auto:90").beats == BeatSettings(tempo=90)
    assert recipe().beats is None


def test_a_bar_line_is_one_of_beats_that_are_looked_for() -> None:
    assert recipe(first_bar="1:02.5").beats == BeatSettings(first_bar=62.5)
    assert recipe(first_bar="2", tempo="auto:90", time_signature="3/4").beats == BeatSettings((3, 4), 90, 2)


def test_a_bar_line_of_a_fixed_tempo(cli: Run, made: Path, tmp_path: Path) -> None:
    assert recipe(first_bar="2", tempo="90").beats == BeatSettings(tempo=90, first_bar=2, fixed=True)
    flags = ("--tempo", "100", "--first-bar", "2.05", "--quantize", "1/16", "--json")
    result = cli(made / "guitar.npz", "-o", ".", *flags)
    assert result.returncode == 0, result.stderr
    assert b"beats a minute" not in result.stdout  # which was not heard
    heard = json.loads((tmp_path / "guitar.json").read_text())
    onsets = np.array([note["onset"] for note in heard["notes"] if note["onset"] > 0.25])
    assert np.abs((onsets - 2.05 + 0.075) % 0.15 - 0.075).max() < 1e-3
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "guitar.mid"))
    assert midi.get_tempo_changes()[1][-1] == pytest.approx(100)
    assert np.abs(midi.get_downbeats() - 2.05).min() < 1e-3
    late = cli(made / "guitar.npz", "-o", ".", "--tempo", "100", "--first-bar", "2:00", "--overwrite")
    assert late.returncode == 2
    assert b"a bar is to begin at 120 s" in late.stderr


@pytest.mark.parametrize(("signature", "quarters"), [("4/4", 60), ("6/8", 90), ("2/2", 120), ("3/8", 30)])
def test_a_tempo_counts_the_beats_of_its_metre(signature: str, quarters: float) -> None:
    """As --tempo auto does when it says how many there are."""
    assert recipe(tempo="60", time_signature=signature).output.midi.tempo == quarters
    assert recipe(time_signature=signature) == recipe(tempo="120", time_signature=signature)


@pytest.mark.parametrize(("signature", "quarters"), [("4/4", 1), ("6/8", 1.5)])
def test_a_tempo_that_beats_are_looked_for_near_is_that_of_a_file_without_them(signature: str, quarters: float) -> None:
    flags = {"tempo": "auto:90", "time_signature": signature, "quantize": "1/16", "first_bar": "1"}
    chosen = recipe(**flags)
    assert chosen.output.midi.tempo == 90 * quarters
    heard = fakes.transcription(TrackerSettings())
    without = batch.shaped(replace(heard, warnings=(NO_BEAT, "another")), chosen)
    assert without.warnings[:2] == ("no beat was found; the tempo is a fixed one, 90 beats a minute", "another")
    assert without.warnings[2].startswith("notes are not quantised")
    assert without.notes == heard.notes
    assert not batch.shaped(replace(heard, notes=(), warnings=()), chosen).warnings
    unknown = batch.shaped(replace(heard, warnings=(NO_BEAT,)), recipe(tempo="auto"))
    assert unknown.warnings == ("no beat was found; the tempo is a fixed one, 120 beats a minute",)
    with pytest.raises(UsageError, match=r"tempo is 1000; it must lie between 2\.667 and 666\.7"):
        recipe(tempo="auto:1000", time_signature="12/8")


def test_beats_that_nobody_heard_are_not_told() -> None:
    heard = replace(fakes.transcription(TrackerSettings()), notes=[Note(0.13, 0.6, 60, 80, 0.9)])
    for flags in ({"velocity_range": "20"}, {"legato": 80.0}, {"tempo": "97", "quantize": "1/16"}):
        shaped = batch.shaped(heard, recipe(**flags))
        assert shaped.notes != []
        assert shaped.beats is None
        assert "beats" not in batch._heard(shaped, recipe(**flags))
    assert shaped.notes[0].onset == pytest.approx(0.1546, abs=1e-4)


@pytest.mark.parametrize(("tempo", "told"), [(119.5, "119.5"), (120, "120"), (92.96, "93"), (61.04, "61")])
def test_the_tempo_that_is_told(tempo: float, told: str) -> None:
    heard = replace(fakes.transcription(TrackerSettings()), beats=Beats((0.0, 60 / tempo, 120 / tempo)))
    assert batch._heard(heard, recipe()) == f"{told} beats a minute"


def test_the_score_is_told_of_the_swing() -> None:
    assert recipe(quantize="1/8", swing=0.5, musicxml=True).output.swing == 0.5
    assert recipe(quantize="1/8").output.swing == 0


@pytest.mark.parametrize("mode", ["plain", "channels", "mpe", "none"])
def test_bends_that_are_asked_for_are_looked_for(mode: str) -> None:
    assert recipe(preset="piano").tracker.pitch_bends is False
    assert recipe(preset="piano", pitch_bends=mode).tracker.pitch_bends is (mode != "none")
    assert recipe(pitch_bends=mode).tracker.pitch_bends is (mode != "none")


def test_the_presets_of_the_help_are_those_there_are() -> None:
    assert tuple(sorted(PRESETS)) == PRESET_NAMES


@pytest.mark.parametrize("app", ["app", "batch_app", "evaluate_app", "live_app"])
def test_values_are_what_typer_itself_makes_of_them(app: str) -> None:
    """Without pydantic, which newer versions of typer would load to convert them."""
    command = typer.main.get_command(getattr(commands, app))
    context = command.make_context("test", [], resilient_parsing=True)
    if not hasattr(typer.core.TyperOption, "get_runtime_param"):
        pytest.skip("this typer does without pydantic")

    def outcome(convert: typing.Any, parameter: typing.Any, value: object) -> tuple[type, str]:
        try:
            converted = convert.coerce(value, param=parameter, ctx=context)
        except Exception as error:
            return type(error), str(error).removeprefix(f"{value!r}: ")  # typer's own does not say what is wrong
        return type(converted), repr(converted)  # NaN is not equal to itself

    texts = "|a b|7|-7|+7|007|0|1_0| 7|7.50|.5|5.|1e3|nan|inf|\u0667|1111111111111111".split("|")
    for parameter in command.get_params(context):
        several = parameter.nargs == -1 or getattr(parameter, "multiple", False)
        thorough = type(parameter).get_runtime_param(parameter)
        for value in [None, *(((), ("a",), ("a", "-1")) if several else texts)]:
            assert outcome(parameter.get_runtime_param(), parameter, value) == outcome(thorough, parameter, value)


def test_4_standard_error_may_be_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that a program which runs the command in its own process has put in its place."""
    monkeypatch.setattr(sys, "argv", ["basic-transcribe", str(tmp_path / "none.wav")])
    monkeypatch.setattr(commands.signals, "install", lambda: None)
    with redirect_stderr(io.StringIO()) as heard, pytest.raises(SystemExit) as ended:
        commands.main()
    assert ended.value.code == 1
    assert "none.wav" in heard.getvalue()


def test_a_frozen_program_lets_its_workers_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(multiprocessing, "freeze_support", lambda: begun.append("a worker"))
    monkeypatch.setattr(commands, "main", lambda: begun.append("the command"))
    __main__.main()
    assert begun == ["a worker", "the command"]


def test_pydantic_stays_out_of_it(tmp_path: Path) -> None:
    code = "import sys; from basic_transcribe.cli import main\ntry: main()\nfinally: print('pydantic' in sys.modules)"
    recording = tone(tmp_path / "a.wav")
    options = ["--output-dir", str(tmp_path / "out"), "--onset-threshold", "0.5", "--jobs", "1", "--csv"]
    command = [sys.executable, "-c", code, str(recording), *options]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.endswith("False\n")
