"""Time the whole path, recording to MIDI file, alone or in turn with a peer, and print Markdown tables.

    python scripts/benchmark.py FILE... [--threads 1,2] [--runs 5] [--profile]
    python scripts/benchmark.py --source FILE --lengths 30,180,600 --long 3600,36000 --batch 200 --start-up ...

``--source`` is looped to files of the given lengths. Per file and thread count, one process loads the model and
transcribes the file ``1 + runs`` times: *first* is its first run, imports and model loading included; *warm* the
median of the others; *peak* its largest resident memory. *command* is the median of the whole command line, start to
exit. The ratios are times over those of this package. ``--profile`` adds the milliseconds of each stage.

``--long`` times the command line once for each of these lengths, without the peer. ``--batch`` cuts so many recordings
of 8 to 12 s out of the loop and times ``basic-transcribe batch``, as often as the command line, medians; *busy* is the
processor time of all its processes over the time that all processors had. ``--start-up`` times the help, the import and
a file of 5 s.
``--write`` puts it all into a file. The package's byte code is compiled first, as pip does when it installs one.

A peer is timed run by run in turn with this package, so that both see the same machine:

``--peer "basic-pitch {output_dir} {input}"``
    A command line, timed start to exit.
``--peer-warm "python peer.py {input} {output_dir} {threads}"``
    A process that does one whole run for every line on standard input, and answers with one line of JSON,
    ``{"seconds": s, "notes": n}``.
``--peer-batch "basic-pitch {output_dir} {inputs}"``
    A command line for the folder of ``--batch``, whose files are ``{inputs}``.
"""

from __future__ import annotations

import argparse
import compileall
import datetime
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from shared import errors_in_one_line

# Nothing heavy at the top: it would count in the first run of the worker, and in the memory its processes inherit.

T = TypeVar("T")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PACKAGES = ("basic_transcribe", "onnxruntime", "numpy", "soundfile", "soxr", "pretty_midi")
SELF, PEER = "this package", "peer"
STAGES = ("audio", "model", "notes", "midi", "write")


def worker(source: Path, out: Path, threads: int, model: Path | None) -> None:
    """Serve the protocol of ``--peer-warm`` for this package."""
    started: float | None = time.perf_counter()  # imports and loading count in the first run
    from basic_transcribe.exports import write_atomic
    from basic_transcribe.midi import to_midi
    from basic_transcribe.pipeline import Transcriber

    transcriber = Transcriber(model, threads=threads)
    for _ in sys.stdin:
        begin = started or time.perf_counter()  # not earlier: between runs a peer has its turn
        started = None
        transcription = transcriber.transcribe(source)
        write_atomic(out / "out.mid", to_midi(transcription.notes, title=source.stem).data)
        print(json.dumps({"seconds": time.perf_counter() - begin, "notes": len(transcription.notes)}), flush=True)


def profiler(source: Path, out: Path, threads: int, model: Path | None) -> None:
    """As :func:`worker`, but answers with the seconds of each of ``STAGES`` as well."""
    from basic_transcribe.audio import open_audio
    from basic_transcribe.exports import write_atomic
    from basic_transcribe.midi import to_midi
    from basic_transcribe.model import Model
    from basic_transcribe.tracking import tracker_for
    from basic_transcribe.types import TrackerSettings

    net = Model(model, threads=threads)
    for _ in sys.stdin:
        clock = [time.perf_counter()]
        waited = [0.0]
        with open_audio(source, target_rate=net.sample_rate, tuning=None, raises=True) as stream:
            clock.append(time.perf_counter())
            tracker, notes, tracking = tracker_for(TrackerSettings().resolved(net.defaults)), [], 0.0
            for block in net.posteriors(timed(stream, waited)):
                begin = time.perf_counter()
                notes += tracker.push(block.tuned(stream.tuning, stream.gain))
                tracking += time.perf_counter() - begin
            begin = time.perf_counter()
            notes += tracker.flush(stream.samples_read / stream.rate)
            tracking += time.perf_counter() - begin
        clock.append(time.perf_counter())
        data = to_midi(notes, title=source.stem).data
        clock.append(time.perf_counter())
        write_atomic(out / "out.mid", data)
        clock.append(time.perf_counter())
        opening, streaming, midi, write = (b - a for a, b in itertools.pairwise(clock))
        seconds = opening + waited[0], streaming - waited[0] - tracking, tracking, midi, write
        stages = dict(zip(STAGES, seconds, strict=True))
        answer = {"seconds": clock[-1] - clock[0], "notes": len(notes), "stages": stages}
        print(json.dumps(answer), flush=True)


def timed(items: Iterable[T], waited: list[float]) -> Iterator[T]:
    """Pass ``items`` on, adding the time spent waiting for them to ``waited[0]``."""
    iterator = iter(items)
    while True:
        begin = time.perf_counter()
        item = next(iterator, None)
        waited[0] += time.perf_counter() - begin
        if item is None:
            return
        yield item


def environment(threads: int) -> dict[str, str]:
    """The environment of a timed process: numeric libraries limited to ``threads``."""
    return os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))


class Timed:
    """A process that serves runs on request; see ``--peer-warm``."""

    def __init__(self, command: list[str], threads: int) -> None:
        self.command, self.answers = command, list[dict[str, Any]]()
        self.log = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command, env=environment(threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )

    def run(self) -> None:
        """Ask for one run and wait for it."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
            self.answers.append(json.loads(line))
        except (BrokenPipeError, json.JSONDecodeError) as error:
            self.log.seek(0)
            raise SystemExit(f"{shlex.join(self.command)} failed:\n{self.log.read()[-2000:]}") from error

    def close(self) -> float:
        """End the process; its peak resident memory in megabytes."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.log.close()
        return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)

    @property
    def first(self) -> float:
        """Seconds of the first run."""
        return float(self.answers[0]["seconds"])

    @property
    def warm(self) -> float:
        """Median seconds of the other runs."""
        return statistics.median(float(a["seconds"]) for a in self.answers[1:])


def time_command(template: str, source: Path, threads: int) -> float:
    """Seconds from start to exit of a command, in a fresh output folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = fill(template, source, folder, threads)
        begin = time.perf_counter()
        done = subprocess.run(command, env=environment(threads), capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(f"{shlex.join(command)} exits with {done.returncode}:\n{done.stderr[-2000:]}")
        return seconds


def fill(template: str, source: Path, folder: str, threads: int) -> list[str]:
    """Words of a command; the placeholders are filled in after splitting, so paths may hold spaces."""
    return [w.format(input=source, output_dir=folder, threads=threads) for w in shlex.split(template)]


def measure(source: Path, threads: int, args: argparse.Namespace) -> list[dict[str, str]]:
    """Rows of the table: this package, and the peer if there is one."""
    model = ["--model", str(args.model)] if args.model else []
    own = [sys.executable, __file__, "--worker", "{input}", "{output_dir}", "--threads", "{threads}", *model]
    servers = {SELF: shlex.join(own)} | ({PEER: args.peer_warm} if args.peer_warm else {})
    own = [sys.executable, "-m", "basic_transcribe", "{input}", "-o", "{output_dir}", "--threads", "{threads}", *model]
    commands = {SELF: shlex.join(own)} | ({PEER: args.peer} if args.peer else {})

    with tempfile.TemporaryDirectory() as folder:
        processes = {who: Timed(fill(t, source, folder, threads), threads) for who, t in servers.items()}
        for _ in range(1 + args.runs):
            for process in processes.values():
                process.run()
        peaks = {who: process.close() for who, process in processes.items()}
    walls: dict[str, list[float]] = {who: [] for who in commands}
    for _ in range(args.command_runs):
        for who, template in commands.items():
            walls[who].append(time_command(template, source, threads))

    seconds = duration(source)
    warm = {who: process.warm for who, process in processes.items()}
    command = {who: statistics.median(times) for who, times in walls.items()}
    return [
        {
            "file": source.name,
            "audio s": f"{seconds:.0f}",
            "threads": str(threads),
            "system": who,
            "first s": f"{processes[who].first:.2f}" if who in processes else "",
            "warm s": f"{warm[who]:.3f}" if who in warm else "",
            "x real time": f"{seconds / warm[who]:.0f}" if who in warm else "",
            "warm ratio": f"{warm[who] / warm[SELF]:.2f}" if who in warm else "",
            "peak MB": f"{peaks[who]:.0f}" if who in peaks else "",
            "notes": str(processes[who].answers[-1]["notes"]) if who in processes else "",
            "command s": f"{command[who]:.2f}" if who in command else "",
            "command ratio": f"{command[who] / command[SELF]:.2f}" if who in command else "",
        }
        for who in dict.fromkeys([*servers, *commands])
    ]


def profile(source: Path, threads: int, args: argparse.Namespace) -> dict[str, str]:
    """One row of the table of stages: medians in milliseconds, warm."""
    model = ["--model", str(args.model)] if args.model else []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--profiler", str(source), folder, "--threads", str(threads), *model]
        process = Timed(command, threads)
        for _ in range(1 + args.runs):
            process.run()
        process.close()
    row = {"file": source.name, "threads": str(threads)}
    warm = process.answers[1:]
    for stage in STAGES:
        row[f"{stage} ms"] = f"{1000 * statistics.median(a['stages'][stage] for a in warm):.1f}"
    row["total ms"] = f"{1000 * process.warm:.1f}"
    return row


def duration(source: Path) -> float:
    """Length of a recording in seconds."""
    import soundfile

    return float(soundfile.info(source).duration)


def looped(source: Path, seconds: float, folder: Path) -> Path:
    """Write ``source``, repeated to ``seconds``, as 16-bit WAV."""
    import soundfile

    path = folder / f"{source.stem}_{seconds:g}s.wav"
    samples, rate = soundfile.read(source, dtype="int16", always_2d=True)
    missing = round(seconds * rate)
    with soundfile.SoundFile(path, "w", rate, samples.shape[1], "PCM_16") as file:
        while missing:
            file.write(samples[:missing])
            missing -= len(samples[:missing])
    return path


def usage(command: list[str]) -> tuple[float, float, float]:
    """Seconds from start to exit of a command, processor seconds of it and its children, and its own peak in MB."""
    with tempfile.TemporaryFile(mode="w+") as log:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{shlex.join(command)} exits with {process.returncode}:\n{log.read()[-2000:]}")
    peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return seconds, used.ru_utime + used.ru_stime, peak


def long_files(args: argparse.Namespace) -> list[dict[str, str]]:
    """Rows of the table of long files: the command line, once each."""
    rows = []
    for length in args.long:
        with tempfile.TemporaryDirectory() as folder:
            source = looped(args.source, length, Path(folder))
            for threads in args.threads:
                out = Path(folder, f"out{threads}")
                own = ["-m", "basic_transcribe", str(source), "-o", str(out), "--threads", str(threads)]
                seconds, _, peak = usage([sys.executable, *own])
                row = {"audio s": f"{length:g}", "threads": str(threads), "command s": f"{seconds:.1f}"}
                row |= {"ms per audio s": f"{1000 * seconds / length:.2f}", "peak MB": f"{peak:.0f}"}
                rows.append(row | {"MIDI kB": f"{(out / source.stem).with_suffix('.mid').stat().st_size / 1000:.0f}"})
    return rows


def batch(args: argparse.Namespace) -> list[dict[str, str]]:
    """Rows of the table of many short recordings."""
    import soundfile

    from basic_transcribe.processors import available_cpus

    cores = available_cpus()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder, "in")
        inputs.mkdir()
        long = looped(args.source, 13.0 * args.batch, Path(folder))
        with soundfile.SoundFile(long) as file:
            for i in range(args.batch):
                samples = file.read(file.samplerate * (8 + i % 5), dtype="int16")
                soundfile.write(inputs / f"{i:05d}.wav", samples, file.samplerate)
        long.unlink()
        files = sorted(inputs.iterdir())
        audio = sum(duration(path) for path in files)
        words = {SELF: [sys.executable, "-m", "basic_transcribe", "batch", str(inputs), "{output_dir}"]}
        if args.peer_batch:
            words[PEER] = shlex.split(args.peer_batch.replace("{inputs}", shlex.join(map(str, files))))
        times: dict[str, list[tuple[float, float]]] = {who: [] for who in words}
        for run, who in itertools.product(range(args.command_runs), words):
            out = Path(folder, f"{who} {run}")
            out.mkdir()
            times[who].append(usage([word.format(output_dir=out) for word in words[who]])[:2])
        for who, runs in times.items():
            seconds, used = map(statistics.median, zip(*runs, strict=True))
            row = {"system": who, "files": str(len(files)), "audio s": f"{audio:.0f}", "command s": f"{seconds:.1f}"}
            row |= {"files a minute": f"{60 * len(files) / seconds:.0f}", "x real time": f"{audio / seconds:.0f}"}
            rows.append(row | {"busy": f"{used / seconds / cores:.0%} of {cores} processors"})
    return rows


def start_up(args: argparse.Namespace) -> list[dict[str, str]]:
    """Rows of the table of what a user waits for: medians of the command line."""
    with tempfile.TemporaryDirectory() as folder:
        source = looped(args.source, 5.0, Path(folder))
        commands = {
            "import basic_transcribe": ["-c", "import basic_transcribe"],
            "basic-transcribe --help": ["-m", "basic_transcribe", "--help"],
            "basic-transcribe FILE of 5 s": ["-m", "basic_transcribe", str(source), "--overwrite"],
            "python alone": ["-c", ""],
        }
        times = {
            name: statistics.median(usage([sys.executable, *words])[0] for _ in range(2 * args.runs + 1))
            for name, words in commands.items()
        }
        return [{"": name, "command s": f"{seconds:.3f}"} for name, seconds in times.items()]


def markdown(rows: list[dict[str, str]]) -> str:
    """Rows as a Markdown table."""
    names = list(rows[0])
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *([row[n] for n in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """Processor, cores, load and versions, as Markdown."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} (not installed: from the source tree)")
    load = ", ".join(f"{v:.2f}" for v in os.getloadavg())
    today = datetime.date.today().isoformat()
    return f"{today}, {processor}, {os.cpu_count()} cores, load {load}; {platform.system()}; {', '.join(versions)}"


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE")
    parser.add_argument("--source", type=Path, metavar="FILE", help="recording to loop, with --lengths")
    parser.add_argument("--lengths", type=lambda s: [float(v) for v in s.split(",")], default=[], metavar="S,S")
    parser.add_argument("--threads", type=lambda s: [int(v) for v in s.split(",")], default=[1], metavar="N,N")
    parser.add_argument("--runs", type=int, default=5, help="warm runs, of which the median (default: %(default)s)")
    parser.add_argument("--command-runs", type=int, default=3, help="of the command line (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="ONNX file; the shipped one if omitted")
    parser.add_argument("--profile", action="store_true", help="also a table of milliseconds per stage")
    parser.add_argument("--peer", metavar="COMMAND", help="with {input} {output_dir} {threads}")
    parser.add_argument("--peer-warm", metavar="COMMAND", help="with {input} {output_dir} {threads}")
    parser.add_argument("--peer-batch", metavar="COMMAND", help="with {inputs} {output_dir}")
    parser.add_argument("--long", type=lambda s: [float(v) for v in s.split(",")], default=[], metavar="S,S")
    parser.add_argument("--batch", type=int, default=0, metavar="N", help="recordings")
    parser.add_argument("--start-up", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--profiler", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker or args.profiler:
        serve = worker if args.worker else profiler
        source, out = args.files
        serve(source, out, args.threads[0], args.model)
        return
    looping = args.lengths or args.long or args.batch or args.start_up
    if bool(args.source) != bool(looping) or not (args.files or looping):
        parser.error("give FILEs, or --source together with --lengths, --long, --batch or --start-up")
    for path in filter(None, (*args.files, args.source, args.model)):
        path.open("rb").close()
    if min(args.runs, args.command_runs, *args.threads) < 1:
        parser.error("--runs, --command-runs and --threads must be at least 1")

    spec = importlib.util.find_spec("basic_transcribe")
    if spec is None or spec.origin is None:
        parser.error("basic_transcribe is not installed")
    compileall.compile_dir(Path(spec.origin).parent, quiet=2)
    parts = [f"# Benchmarks\n\n    python scripts/benchmark.py {shlex.join(sys.argv[1:])}\n\n{machine()}"]
    parts.append("What each column means is said in `scripts/benchmark.py`.")
    with tempfile.TemporaryDirectory() as folder:
        sources = [*args.files, *(looped(args.source, s, Path(folder)) for s in args.lengths)]
        cases = [(source, threads) for source in sources for threads in args.threads]
        if cases:
            parts += ["## Files", markdown([row for case in cases for row in measure(*case, args)])]
        if cases and args.profile:
            parts += ["## Stages", markdown([profile(*case, args) for case in cases])]
    if args.long:
        parts += ["## Long files", markdown(long_files(args))]
    if args.batch:
        parts += ["## Many files", markdown(batch(args))]
    if args.start_up:
        parts += ["## Start", markdown(start_up(args))]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if args.write:
        args.write.write_text(text)


if __name__ == "__main__":
    main()
