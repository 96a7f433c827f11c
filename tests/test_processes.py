"""Signals, deaths, full disks and crowds, met by the command line at work on real recordings.

Nothing here waits for a time to pass: a recording of twelve hours keeps a worker busy until it is exchanged for a short
one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import GUITAR, is_worker

if not Path("/proc/self/task").exists():
    pytest.skip("finds processes in Linux's /proc", allow_module_level=True)

PATIENCE = 120  # seconds, after which a test has failed
LONG = "z.flac"
MANIFEST = "manifest.jsonl"
PROGRAM = (sys.executable, "-m", "basic_transcribe")
BATCH, PLAIN = ("batch", "in", "out"), ("in", "-o", "out")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve hours of silence."""
    path = tmp_path_factory.mktemp("endless") / "endless.flac"
    hour = np.zeros(1000 * 3600, np.int16)
    with soundfile.SoundFile(path, "w", 1000, 1, subtype="PCM_16") as file:
        for _ in range(12):
            file.write(hour)
    return path


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four real recordings of a second or two, two of them in a folder below."""
    folder = tmp_path_factory.mktemp("music")
    (folder / "sub").mkdir()
    shutil.copy(GUITAR.with_name("piano_c4.flac"), folder / "sub")
    shutil.copy(GUITAR.with_name("guitar_e4.flac"), folder / "sub")
    samples, rate = soundfile.read(GUITAR, dtype="int16")
    soundfile.write(folder / "a.wav", samples[: 2 * rate], rate)
    soundfile.write(folder / LONG, samples[2 * rate : 4 * rate], rate)
    return folder


@pytest.fixture(scope="module")
def undisturbed(
    music: Path, tmp_path_factory: pytest.TempPathFactory, cli_environment: dict[str, str]
) -> dict[str, bytes]:
    """The MIDI files of a run in peace, by their names."""
    out = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(
        [*PROGRAM, str(music), "-o", str(out), "--jobs", "1"],
        env=cli_environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found = midi_files(out)
    assert set(found) == {"a.mid", "z.mid", "sub/piano_c4.mid", "sub/guitar_e4.mid"}
    return found


def midi_files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.mid")}


def left_behind(out: Path) -> list[str]:
    """Files that are neither outputs nor the manifest."""
    files = (path for path in out.rglob("*") if path.is_file())
    return [path.name for path in files if path.suffix != ".mid" and path.name != MANIFEST]


def until(condition: Callable[[], object]) -> None:
    """Look until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Scene:
    """A folder of recordings, one of them endless, and runs on it."""

    folder: Path
    short: Path  # what the endless recording is exchanged for
    environment: dict[str, str]
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(self, *arguments: str, command: tuple[str, ...] = BATCH, **keywords: object) -> subprocess.Popen[str]:
        """The command line at work, in a process group of its own; what is left of that is killed at the end."""
        process = subprocess.Popen(
            [*PROGRAM, *command, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **keywords,  # type: ignore[call-overload]
        )
        self.stack.callback(process.communicate)
        self.stack.callback(_kill_group, process.pid)
        return process

    def start_until_busy(self, *arguments: str) -> tuple[subprocess.Popen[str], int]:
        """A run that has done all but the endless recording, and the worker that is at this one."""
        process = self.start("--jobs", "2", *arguments)
        assert process.stdout is not None
        for _ in range(3):
            assert ".mid" in process.stdout.readline()
        return process, worker(process.pid)

    def shorten(self) -> None:
        """Put the short recording in place of the endless one; who reads this goes on doing so."""
        shutil.copy(self.short, self.folder / "short")
        os.replace(self.folder / "short", self.folder / "in" / LONG)

    def run(self, *arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **keywords)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def manifest(self) -> dict[str, dict[str, Any]]:
        """The last line of each recording, by its name."""
        lines = (self.out / MANIFEST).read_text().splitlines()
        return {Path(entry["input"]).name: entry for entry in map(json.loads, lines)}

    def goes_on(self, undisturbed: dict[str, bytes]) -> None:
        """After a run that ended when all but the endless recording were done: that one alone is done by the next."""
        assert midi_files(self.out) == {name: data for name, data in undisturbed.items() if name != "z.mid"}
        self.shorten()
        again = self.run()
        assert (again.returncode, again.stderr) == (0, "")
        assert "1 done, 3 up to date, 0 failed" in again.stdout
        assert midi_files(self.out) == undisturbed
        assert {entry["status"] for entry in self.manifest().values()} <= {"done", "skipped"}
        assert len(self.manifest()) == 4


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def worker(parent: int, *, other_than: int = 0) -> int:
    """The one worker that a run has left."""
    found: list[int] = []

    def only_one() -> bool:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        try:
            found[:] = [int(c) for c in children if is_worker(c)]
        except (FileNotFoundError, ProcessLookupError):  # one has just ended
            return False
        return len(found) == 1 and found[0] != other_than

    until(only_one)
    return found[0]


@pytest.fixture
def scene(
    tmp_path: Path, music: Path, endless: Path, undisturbed: dict[str, bytes], cli_environment: dict[str, str]
) -> Iterator[Scene]:
    shutil.copytree(music, tmp_path / "in")
    shutil.copy(endless, tmp_path / "in" / LONG)
    (tmp_path / "temporary").mkdir()
    scene = Scene(tmp_path, music / LONG, cli_environment | {"TMPDIR": str(tmp_path / "temporary")})
    with scene.stack:
        yield scene


# ------------------------------------------------------------------------------------------------- rows 33 and 34


@pytest.mark.parametrize(
    ("number", "code", "send"),
    [(signal.SIGINT, 130, os.killpg), (signal.SIGTERM, 143, os.kill), (signal.SIGHUP, 129, os.killpg)],
    ids=["ctrl-c in a terminal", "a service manager", "a terminal that is closed"],
)
def test_a_stopped_run_is_gone_on_with(
    scene: Scene, undisturbed: dict[str, bytes], number: signal.Signals, code: int, send: Callable[[int, int], None]
) -> None:
    process, _ = scene.start_until_busy()
    send(process.pid, number)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert err == f"stopped by {number.name}, 1 not done; run again to go on\n"
    assert out.startswith("3 done, 0 up to date, 0 failed: ")
    until(lambda: group_is_gone(process.pid))
    assert not left_behind(scene.out)
    assert not list((scene.folder / "temporary").iterdir())
    scene.goes_on(undisturbed)


# --------------------------------------------------------------------------------------------------------- row 35


def test_a_recording_whose_worker_is_killed_is_tried_again(scene: Scene, undisturbed: dict[str, bytes]) -> None:
    process, first = scene.start_until_busy()
    scene.shorten()
    os.kill(first, signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert "4 done, 0 up to date, 0 failed" in out
    assert midi_files(scene.out) == undisturbed
    assert not left_behind(scene.out)


def test_a_recording_that_kills_its_workers_is_given_up(scene: Scene, undisturbed: dict[str, bytes]) -> None:
    process, first = scene.start_until_busy()
    os.kill(first, signal.SIGKILL)
    os.kill(worker(process.pid, other_than=first), signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    (error,) = err.splitlines()
    assert error.startswith(f"error: in/{LONG}: ")
    assert "killed by signal 9, 2 times" in error
    assert "3 done, 0 up to date, 1 failed" in out
    assert "killed by signal 9" in scene.manifest()[LONG]["message"]
    scene.goes_on(undisturbed)


def test_when_the_run_itself_is_killed_its_workers_end(scene: Scene, undisturbed: dict[str, bytes]) -> None:
    process, _ = scene.start_until_busy()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    until(lambda: group_is_gone(process.pid))
    scene.goes_on(undisturbed)


def test_what_a_power_cut_leaves_is_gone_on_with(scene: Scene, undisturbed: dict[str, bytes]) -> None:
    scene.shorten()
    assert scene.run("--jobs", "1").returncode == 0
    manifest = scene.out / MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:-20])  # of the last line, half reached the disk
    (scene.out / "z.mid").unlink()
    (scene.out / "a.mid").unlink()
    again = scene.run("--jobs", "1")
    assert (again.returncode, again.stderr) == (0, "")
    assert "2 done, 2 up to date, 0 failed" in again.stdout
    assert midi_files(scene.out) == undisturbed
    assert len(scene.manifest()) == 4


# --------------------------------------------------------------------------------------------------------- row 37


def test_two_runs_on_one_folder_tear_nothing(scene: Scene, undisturbed: dict[str, bytes]) -> None:
    scene.shorten()
    runs = [scene.start("--jobs", "2") for _ in range(2)]
    for run in runs:
        out, err = run.communicate(timeout=PATIENCE)
        assert (run.returncode, err) == (0, "")
        assert re.search(r"^\d done, \d up to date, 0 failed", out, re.MULTILINE)
    assert midi_files(scene.out) == undisturbed
    assert not left_behind(scene.out)


# --------------------------------------------------------------------------------------------------------- row 38


def test_a_reader_that_goes_away_ends_it_quietly(scene: Scene, undisturbed: dict[str, bytes]) -> None:
    process, busy = scene.start_until_busy()
    assert process.stdout is not None
    process.stdout.close()  # as head does when it has its line
    scene.shorten()
    os.kill(busy, signal.SIGKILL)  # the short recording is next, and with it the next line
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(PATIENCE)) == ("", 141)
    until(lambda: group_is_gone(process.pid))
    process.stdout = None
    again = scene.run()
    assert (again.returncode, again.stderr) == (0, "")
    assert midi_files(scene.out) == undisturbed


def test_workers_run_nothing_that_lies_in_the_current_folder(
    tmp_path: Path, music: Path, cli_environment: dict[str, str]
) -> None:
    for name in ("multiprocessing.py", "struct.py"):
        (tmp_path / name).write_text("open('run', 'w'); raise SystemExit(3)")
    command = tmp_path / "bin" / "command.py"  # as pip installs it, and with a thread, so that workers are not forked
    command.parent.mkdir()
    command.write_text(
        "import threading\n"
        "from basic_transcribe.__main__ import main\n"
        "if __name__ == '__main__':\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "    main()\n"
    )
    cli_environment.pop("PYTHONSAFEPATH", None)
    subprocess.run(
        [sys.executable, command, "batch", music, "out", "--jobs", "2"],
        cwd=tmp_path,
        env=cli_environment,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert not (tmp_path / "run").exists()


# --------------------------------------------------------------------------------------------------------- row 39

needs_mounts = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode != 0,
    reason="needs a mount namespace of its own",
)


def share(verbose: str) -> tuple[int, int]:
    """Recordings at a time and threads of each, as ``--verbose`` says."""
    found = re.search(r"^(\d+) at a time, (\d+) threads? each", verbose, re.MULTILINE)
    assert found is not None
    return int(found[1]), int(found[2])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], (1, 1)), (["--jobs", "2", "--threads", "3"], (2, 3))],
    ids=["all left to it", "told"],
)
def test_no_more_processors_are_used_than_it_may(
    scene: Scene, undisturbed: dict[str, bytes], arguments: list[str], expected: tuple[int, int]
) -> None:
    scene.shorten()
    one = min(os.sched_getaffinity(0))
    result = scene.run("--verbose", *arguments, preexec_fn=lambda: os.sched_setaffinity(0, {one}))
    assert result.returncode == 0
    assert share(result.stderr) == expected
    assert midi_files(scene.out) == undisturbed


@needs_mounts
def test_no_more_processors_are_used_than_the_container_grants(scene: Scene) -> None:
    scene.shorten()
    script = 'mount -t tmpfs none /sys/fs/cgroup && echo 50000 50000 >/sys/fs/cgroup/cpu.max && exec "$@"'
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *PROGRAM, *BATCH, "--verbose"],
        cwd=scene.folder,
        env=scene.environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    at_a_time, threads = share(result.stderr)
    assert (at_a_time, threads) == (1, 1)  # of however many the machine has


# --------------------------------------------------------------------------------------------------------- row 23


@needs_mounts
def test_a_full_disk_leaves_the_old_outputs(scene: Scene, undisturbed: dict[str, bytes]) -> None:
    scene.shorten()
    script = """
        mount -t tmpfs -o size=64k none out || exit 99
        "$@" >/dev/null || exit 98
        dd if=/dev/zero of=out/filler bs=4096 2>/dev/null
        "$@" --overwrite --tempo 90 --jobs 1
        code=$?
        rm out/filler
        cp -R out kept
        exit $code
    """
    scene.out.mkdir()
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *PROGRAM, *BATCH],
        cwd=scene.folder,
        env=scene.environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 4
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
    assert midi_files(scene.folder / "kept") == undisturbed
    assert not left_behind(scene.folder / "kept")


def test_a_file_size_limit_fails_what_is_larger(scene: Scene, undisturbed: dict[str, bytes]) -> None:
    import resource

    scene.shorten()
    limit = sorted(len(data) for data in undisturbed.values())[-2]  # one recording has a larger output than this
    result = scene.run(
        *("--jobs", "1"),
        command=PLAIN,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 4
    (error,) = result.stderr.splitlines()
    assert "File too large" in error
    assert "3 done, 0 up to date, 1 failed" in result.stdout
    kept = midi_files(scene.out)
    assert len(kept) == 3
    assert kept.items() <= undisturbed.items()
    assert not left_behind(scene.out)
    again = scene.run(command=PLAIN)
    assert (again.returncode, again.stderr) == (0, "")
    assert midi_files(scene.out) == undisturbed


# ----------------------------------------------------------------------------------------------------- rows 35 and 36


def test_a_small_soak(music: Path, tmp_path: Path, cli_environment: dict[str, str]) -> None:
    recordings = [str(path) for path in sorted(music.rglob("*.*")) if path.is_file()]
    soak = [sys.executable, str(GUITAR.parents[2] / "scripts" / "soak.py"), *recordings, "--work", str(tmp_path)]
    result = subprocess.run(
        [*soak, "--files", "24", "--broken", "0.2"], env=cli_environment, check=False, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert result.stdout.startswith("24 recordings, 5 of them broken\n")
    assert result.stdout.count("killed") >= 2  # three kills, in as many runs or fewer
    assert result.stdout.endswith("all as it must be\n")
