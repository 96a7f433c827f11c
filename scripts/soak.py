"""Transcribe thousands of short recordings, some of them broken, while processes are killed, and compare with peace.

    python scripts/soak.py RECORDING... --work DIR [--files 2000] [--broken 0.02] [--kills 3] [--seed 1] [--jobs N]

``DIR/in`` gets excerpts of 1 to 3 s of the recordings, in several formats, in folders of a hundred; the given share of
them is broken, in ways that cannot be mended. ``basic-transcribe batch`` transcribes them once in peace, to
``DIR/calm``, and once more, to ``DIR/out``, while at random moments a worker or the run itself is killed with SIGKILL.
A run that was killed is started again, until one comes to its end; one that is done before all are killed is started
again too, with every other output taken away. One more must then find nothing to do. Then

- every good recording must have the same MIDI bytes in both folders, and every broken one none;
- the manifest must say of every broken one why it failed, and of every good one that it is done;
- a line on standard error must have said the same;
- no more may have been done than there is, and nothing temporary be left, but for what the killed had in hand.

The same seed makes the same recordings and plans the same kills. Exit code 0 if all of it holds, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from shared import at_least_one

from basic_transcribe.errors import printable

FORMATS = (
    (".wav", "WAV", "PCM_16"),
    (".wav", "WAV", "FLOAT"),
    (".flac", "FLAC", "PCM_16"),
    (".ogg", "OGG", "VORBIS"),
    (".mp3", "MP3", "MPEG_LAYER_III"),
    (".aiff", "AIFF", "PCM_24"),
)
NAMES = ("take {}", "übung-{}", "録音 {}", "it's #{} & more", "{}")
BATCH = 100  # recordings in a folder
HALTS = (0.0, 0.02)  # seconds between a result and the kill that follows it
PATIENCE = 60.0  # seconds a process may take to end
TRIES = 20  # runs that come to their end before the last is killed

Kill = tuple[int, str, float]  # after how many results, what, ``worker`` or ``run``, and how many seconds later


# ----------------------------------------------------------------------------------------------------------- recordings


def _emptied(_data: bytes, _rng: np.random.Generator) -> bytes:
    return b""


def _cut(data: bytes, _rng: np.random.Generator) -> bytes:
    return data[:10]


def _text(_data: bytes, _rng: np.random.Generator) -> bytes:
    return b"<!doctype html><title>404 Not Found</title>\n" * 40


def _noise(data: bytes, rng: np.random.Generator) -> bytes:
    return b"\1" + rng.bytes(len(data))


BREAKS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (_emptied, _cut, _text, _noise)


def make(folder: Path, recordings: Sequence[Path], files: int, broken: float, rng: np.random.Generator) -> set[Path]:
    """Write the recordings; returns the broken ones, relative to the folder."""
    bad = {int(i) for i in rng.choice(files, round(files * broken), replace=False)}
    found: set[Path] = set()
    for i in range(files):
        extension, form, subtype = FORMATS[rng.integers(len(FORMATS))]
        name = NAMES[rng.integers(len(NAMES))].format(i)
        path = folder / f"{i // BATCH:03}" / (name + extension)
        path.parent.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(recordings[rng.integers(len(recordings))]) as source:
            frames = min(source.frames, int(rng.uniform(1, 3) * source.samplerate))
            source.seek(int(rng.integers(source.frames - frames + 1)))
            samples = source.read(frames, always_2d=True)[:, 0]
            soundfile.write(path, samples, source.samplerate, subtype, format=form)
        if i in bad:
            path.write_bytes(BREAKS[len(found) % len(BREAKS)](path.read_bytes(), rng))
            found.add(path.relative_to(folder))
    return found


# ----------------------------------------------------------------------------------------------------------------- runs


@dataclass
class Run:
    """A run of ``basic-transcribe batch``, and what it said."""

    title: str
    killed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    exit_code: int = 0
    done: int = 0
    skipped: int = 0
    removed: int = 0  # outputs taken away after it
    errors: list[str] = field(default_factory=list)


def run(title: str, work: Path, out: str, jobs: int, kills: Sequence[Kill] = ()) -> Run:
    """Run the command to its end.

    Parameters
    ----------
    title : str
    work : Path
        Folder with ``in``.
    out : str
        Name of the folder for the outputs, in ``work``.
    jobs : int
    kills : sequence of Kill, optional
        In their order. One for which there is no worker yet waits for the next line, and may come too late.
    """
    command = [sys.executable, "-m", "basic_transcribe", "batch", "in", out, "--jobs", str(jobs)]
    result, waiting = Run(title), list(kills)
    begin = time.monotonic()
    with (work / f"{out}.stderr").open("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command,
            cwd=work,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                result.done += bool(re.search(r": \d+ notes? in ", line)) and ".mid" in line
                summary = re.match(r"\d+ done, (\d+) up to date, ", line)
                result.skipped = int(summary[1]) if summary else result.skipped
                while waiting and waiting[0][0] <= result.done:
                    _, target, halt = waiting[0]
                    time.sleep(halt)
                    if not _kill(process.pid, target):
                        break
                    result.killed.append(target)
                    del waiting[0]
            result.exit_code = process.wait(PATIENCE)
            if "run" in result.killed and result.exit_code != -signal.SIGKILL:  # it had just ended
                result.killed.remove("run")
            _wait_for_group(process.pid)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        errors.seek(0)
        result.errors = [line.rstrip("\n") for line in errors]
    result.seconds = time.monotonic() - begin
    return result


def _kill(parent: int, target: str) -> bool:
    """SIGKILL to the run, or to one of its workers, the oldest that there is. Tells whether there was one."""
    if target == "run":
        os.kill(parent, signal.SIGKILL)
        return True
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()  # empty once it has ended
            if command and b"resource_tracker" not in command:
                os.kill(int(child), signal.SIGKILL)
                return True
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return False


def _wait_for_group(group: int) -> None:
    """Workers notice by themselves that their run has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise SystemExit(f"workers of a run that ended are still there after {PATIENCE:.0f} s")


def schedule(good: int, kills: int, rng: np.random.Generator) -> list[Kill]:
    """What is killed, the moments as numbers of recordings done in all."""
    latest = max(kills, round(0.8 * good))  # towards the end there may be no worker left
    moments = sorted(int(m) + 1 for m in rng.choice(latest, kills, replace=False))
    targets = ["worker" if i % 2 else "run" for i in range(kills)]
    rng.shuffle(targets)
    return [(moment, target, float(rng.uniform(*HALTS))) for moment, target in zip(moments, targets, strict=True)]


def disturbed(work: Path, jobs: int, kills: Sequence[Kill]) -> Iterator[Run]:
    """Runs, the last of which has come to its end, with all the kills behind it, or the ``TRIES`` used up."""
    left, done, ended = list(kills), 0, 0
    while True:
        targets = [target for _, target, _ in left]
        now = left[: targets.index("run") + 1] if "run" in targets else left  # what comes after is for the next run
        result = run("disturbed", work, "out", jobs, [(max(1, m - done), target, halt) for m, target, halt in now])
        if result.killed:
            result.title = f"{' and '.join(result.killed)} killed"
        left = left[len(result.killed) :]
        if result.exit_code != -signal.SIGKILL:
            ended += 1
            if not left or ended == TRIES:
                yield result
                return
            left = [(0, target, 0.0) for _, target, _ in left]  # what came too late comes at once now
            for path in sorted((work / "out").rglob("*.mid"))[::2]:
                path.unlink()
                result.removed += 1
        done += result.done - result.removed
        yield result


# ---------------------------------------------------------------------------------------------------------------- check


def midi_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.mid")}


def faults(
    work: Path, files: int, broken: set[Path], runs: Sequence[Run], again: Run, kills: int, jobs: int
) -> Iterator[str]:
    """What is not as it must be."""
    killed = [target for run in runs for target in run.killed]
    if len(killed) != kills:
        yield f"{len(killed)} processes were killed, not {kills}: take more --files"
    calm, out = midi_files(work / "calm"), midi_files(work / "out")
    if len(calm) != files - len(broken):
        yield f"{len(calm)} MIDI files of a run in peace, of {files - len(broken)} good recordings"
    for name in sorted(calm.keys() | out.keys()):
        if calm.get(name) != out.get(name):
            kind = "is missing" if name not in out else "should not be there" if name not in calm else "differs"
            yield f"{name} {kind}"
    said = [line for run in runs for line in run.errors]
    entries = {}
    for number, line in enumerate((work / "out" / "manifest.jsonl").read_text("ascii").splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            yield f"line {number} of the manifest is torn"
        else:
            entries[Path(entry["input"]).relative_to((work / "in").absolute())] = entry
    if len(entries) != files:
        yield f"{len(entries)} recordings in the manifest, of {files}"
    for path, entry in entries.items():
        if entry["status"] == "failed" if path not in broken else entry["status"] != "failed" or not entry["message"]:
            yield f"{path}: the manifest says {entry['status']}, {entry['message']!r}"
    for path in broken:
        start = f"error: {printable(Path('in') / path)}: "
        if not any(line.startswith(start) for line in said):
            yield f"{path}: no line says why it failed"
    unexpected = [line for line in said if not line.startswith(("error: ", "warning: "))]
    yield from (f"unexpected on standard error: {line}" for line in unexpected)
    # Whoever is killed may have written an output and not have told of it; then it is found to be up to date.
    done, untold = sum(run.done - run.removed for run in runs), kills * jobs
    if not len(calm) - untold <= done <= len(calm) + untold:
        yield f"{done} recordings were done, of {len(calm)}"
    if again.done or again.skipped != len(calm):
        yield f"one more run did {again.done}, and found {again.skipped} of {len(calm)} up to date"
    left = sum(path.suffix == ".tmp" for path in (work / "out").rglob("*"))
    if left > untold:
        yield f"{left} temporary files are left"


def table(runs: Sequence[Run]) -> str:
    rows = [("", "exit", "seconds", "done", "up to date", "failed", "files/s")]
    for r in runs:
        failed = sum(line.startswith("error: ") for line in r.errors)
        numbers = (r.exit_code, f"{r.seconds:.1f}", r.done, r.skipped, failed, f"{r.done / r.seconds:.1f}")
        rows.append((r.title, *map(str, numbers)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", type=Path, metavar="RECORDING")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="is emptied first")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--broken", type=float, default=0.02, help="share of the files")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=at_least_one, default=2)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    for name in ("in", "calm", "out"):
        shutil.rmtree(work / name, ignore_errors=True)
    rng = np.random.default_rng(arguments.seed)
    broken = make(work / "in", arguments.recordings, arguments.files, arguments.broken, rng)
    print(f"{arguments.files} recordings, {len(broken)} of them broken", flush=True)
    calm = run("in peace", work, "calm", arguments.jobs)
    kills = schedule(arguments.files - len(broken), arguments.kills, rng)
    runs = list(disturbed(work, arguments.jobs, kills))
    again = run("once more", work, "out", arguments.jobs)
    print(table([calm, *runs, again]))
    found = list(faults(work, arguments.files, broken, runs, again, arguments.kills, arguments.jobs))
    for fault in found:
        print(f"fault: {fault}")
    print("all as it must be" if not found else f"{len(found)} faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
