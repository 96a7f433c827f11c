"""Damage recordings, models, posteriors, manifests and MIDI files at random: each must be read, or refused in one line.

    python scripts/fuzz.py [KIND...] --minutes 15 --out work/fuzz

A case is a kind of file and a number, from which its damage follows. Cases run in a process of their own, so that a
crash or an endless loop is seen too; what fails is written to ``--out`` and named, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import os
import selectors
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from basic_transcribe import manifest
from basic_transcribe.audio import open_audio
from basic_transcribe.errors import AudioError, ModelError, OutputError, TranscribeError, UsageError
from basic_transcribe.exports import load_posteriors, posteriors_to_npz
from basic_transcribe.midi import find_fingerprint, to_midi
from basic_transcribe.model import Model, default_model_path
from basic_transcribe.types import Note, Part, Posteriors

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 0.5
BATCH = 100  # cases of a kind in a row
LONGEST = 60.0  # seconds a case may take
MOST_CPU = 10.0  # seconds of processor
MOST_MEMORY = 400  # MB that a case may add
HEAD = 512  # bytes; headers deserve as much damage as all the rest
NASTY = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

# ------------------------------------------------------------------------------------------------------- whole files

SOUNDFILE = {
    "wav-16": ("WAV", "PCM_16", 44_100),
    "wav-24": ("WAV", "PCM_24", 44_100),
    "wav-float": ("WAV", "FLOAT", 44_100),
    "wav-8": ("WAV", "PCM_U8", 8_000),
    "wav-adpcm": ("WAV", "MS_ADPCM", 22_050),
    "wav-ima": ("WAV", "IMA_ADPCM", 22_050),
    "wav-gsm": ("WAV", "GSM610", 8_000),
    "wavex": ("WAVEX", "PCM_24", 96_000),
    "rf64": ("RF64", "PCM_16", 44_100),
    "w64": ("W64", "PCM_16", 44_100),
    "aiff": ("AIFF", "PCM_16", 44_100),
    "au": ("AU", "PCM_16", 44_100),
    "caf": ("CAF", "PCM_16", 44_100),
    "caf-alac": ("CAF", "ALAC_16", 44_100),
    "flac": ("FLAC", "PCM_16", 44_100),
    "vorbis": ("OGG", "VORBIS", 44_100),
    "opus": ("OGG", "OPUS", 48_000),
    "mp3": ("MP3", None, 44_100),
}
AV: dict[str, tuple[str, str, int]] = {
    "m4a": ("ipod", "aac", 44_100),
    "alac": ("ipod", "alac", 44_100),
    "mov": ("mov", "pcm_s16le", 44_100),
    "aac": ("adts", "aac", 44_100),
    "webm": ("webm", "libopus", 48_000),
    "mkv": ("matroska", "flac", 44_100),
    "wma": ("asf", "wmav2", 44_100),
    "flv": ("flv", "aac", 44_100),
    "ts": ("mpegts", "aac", 44_100),
    "avi": ("avi", "pcm_s16le", 44_100),
    "ac3": ("ac3", "ac3", 44_100),
    "wv": ("wv", "wavpack", 44_100),
    "m4a-7.1": ("ipod", "aac", 44_100),
    "wv-7.1": ("wv", "wavpack", 44_100),
}
OTHERS = ("mp3-bare", "onnx", "npz", "manifest", "midi")
REFUSED = {"onnx": ModelError, "manifest": (UsageError, OutputError), "npz": TranscribeError}
"""As what each kind may be refused; a MIDI file is not, and all others as recordings."""


def kinds() -> list[str]:
    """Those whose libraries are installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return [*SOUNDFILE, *OTHERS]
    return [*SOUNDFILE, *AV, *OTHERS]


@functools.cache
def whole(kind: str) -> bytes:
    """An undamaged file."""
    if kind in SOUNDFILE:
        form, subtype, rate = SOUNDFILE[kind]
        buffer = io.BytesIO()
        samples = _stereo(rate)[:, : 1 if subtype == "GSM610" else 2]
        soundfile.write(buffer, samples, rate, format=form, subtype=subtype)
        return buffer.getvalue()
    if kind in AV:
        return _av_file(*AV[kind], layout="7.1" if kind.endswith("-7.1") else "stereo")
    if kind == "mp3-bare":  # without its length
        data = whole("mp3")
        tag = max(data[:256].find(b"Xing"), data[:256].find(b"Info"))
        return b"ID3\x03\0\0\0\0\x02\0" + bytes(256) + data[:tag] + bytes(4) + data[tag + 4 :]
    if kind == "onnx":
        return default_model_path().read_bytes()
    if kind == "npz":
        rng = np.random.default_rng(0)
        widths = {"onset": 88, "note": 88, "offset": 88, "contour": 264, "level": 88}
        arrays = {name: rng.random((20, width), np.float32) for name, width in widths.items()}
        return posteriors_to_npz(Posteriors(**arrays, frame_rate=86.13, lowest_pitch=21))
    if kind == "manifest":
        entry = manifest.Entry(
            "/in/a.wav", "sub/a.mid", "done", 1000, 2000, 64 * "a", 64 * "b", 3.5, 7, files={".mid": "c"}
        )
        failed = manifest.Entry(
            "/in/b\udce9.wav", None, "failed", message="empty file; record it again", warnings=("w",)
        )
        return 2 * (manifest.to_line(entry) + manifest.to_line(failed))
    notes = [Note(0.1 * i, 0.1 * i + 0.5, 60 + i, 80, 0.9) for i in range(20)]
    return to_midi(notes, fingerprint="1 input=" + 64 * "a" + " settings=" + 64 * "b").data


def _stereo(rate: int) -> np.ndarray:
    t = np.arange(round(SECONDS * rate)) / rate
    noise = np.random.default_rng(1).standard_normal(len(t))
    left = 0.3 * np.sin(2 * np.pi * (200 * t + 400 * t**2)) + 0.02 * noise
    return np.stack([left, 0.5 * left[::-1]], axis=1).astype(np.float32)


def _av_file(muxer: str, codec: str, rate: int, layout: str) -> bytes:
    import av

    samples = np.tile(_stereo(rate), av.AudioLayout(layout).nb_channels // 2)
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=muxer) as container:
            output: Any = container
            sound = output.add_stream(codec, rate=rate, layout=layout)
            sound.bit_rate = 96_000
            if not sound.codec_context.is_open:
                sound.codec_context.open()  # tells the frame size
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            fit = av.AudioResampler(sound.format, layout, rate, sound.frame_size or 1024)
            for piece in fit.resample(frame) + fit.resample(None):
                output.mux(sound.encode(piece))
            output.mux(sound.encode(None))
        return Path(file.name).read_bytes()


# ------------------------------------------------------------------------------------------------------------ damage


def damaged(kind: str, number: int) -> bytes:
    """A file of this kind with one to four kinds of damage."""
    rng = np.random.default_rng([zlib.crc32(kind.encode()), number])
    data = bytearray(whole(kind))
    for _ in range(rng.integers(1, 5)):
        span = min(HEAD, len(data)) if rng.random() < 0.5 else len(data)
        DAMAGE[rng.integers(len(DAMAGE))](data, int(rng.integers(max(1, span))), rng)
    return bytes(data)


def _flip_bits(data: bytearray, at: int, rng: np.random.Generator) -> None:
    for i in at + rng.integers(0, 64, rng.integers(1, 6)):
        if i < len(data):
            data[i] ^= 1 << rng.integers(8)


def _overwrite(data: bytearray, at: int, rng: np.random.Generator) -> None:
    size = min(int(rng.integers(1, 64)), len(data) - at)
    data[at : at + size] = rng.bytes(size)


def _zero(data: bytearray, at: int, rng: np.random.Generator) -> None:
    size = min(int(rng.integers(1, 4096)), len(data) - at)
    data[at : at + size] = bytes(size)


def _cut(data: bytearray, at: int, rng: np.random.Generator) -> None:
    del data[at:]


def _drop(data: bytearray, at: int, rng: np.random.Generator) -> None:
    del data[at : at + int(rng.integers(1, 256))]


def _insert(data: bytearray, at: int, rng: np.random.Generator) -> None:
    data[at:at] = rng.bytes(int(rng.integers(1, 256)))


def _repeat(data: bytearray, at: int, rng: np.random.Generator) -> None:
    data[at:at] = data[at : at + int(rng.integers(1, 4096))]


def _number(data: bytearray, at: int, rng: np.random.Generator) -> None:
    width = int(rng.choice([1, 2, 4, 8]))
    value = int(NASTY[rng.integers(len(NASTY))]) % 256**width
    data[at : at + width] = value.to_bytes(width, "little" if rng.random() < 0.5 else "big")


DAMAGE: tuple[Callable[[bytearray, int, np.random.Generator], None], ...] = (
    *(_flip_bits, _overwrite, _zero, _cut),
    *(_drop, _insert, _repeat, _number),
)

# ----------------------------------------------------------------------------------------------------------- reading


def read(kind: str, data: bytes, number: int = 0) -> str:
    """Read a file as the program does; returns the refusal, or nothing. What else is raised is a finding."""
    try:
        if kind in ("onnx", "manifest"):
            _read_file(kind, data)
        elif kind == "npz":
            load_posteriors(io.BytesIO(data))
        elif kind == "midi":
            find_fingerprint(data)
        else:
            part = (None, None, Part(0.1, 0.3), Part(0.2, channel="left"))[number % 4]
            with open_audio(io.BytesIO(data), target_rate=22_050, part=part) as stream:
                for block in stream:
                    assert np.isfinite(block).all()
                assert all("\n" not in warning for warning in stream.warnings)
    except REFUSED.get(kind, AudioError) as error:
        message = str(error)
        if not message.isprintable():
            raise ValueError(f"a message of more than a line: {message!r}") from error
        return message
    return ""


def _read_file(kind: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx" if kind == "onnx" else manifest.NAME)
        path.write_bytes(data)
        if kind == "onnx":
            Model(path, threads=1)
            return
        for entry in manifest.read(path.parent):
            assert manifest.parse(manifest.to_line(entry)) == entry


# --------------------------------------------------------------------------------------------------------- processes


@dataclass(frozen=True, slots=True)
class Finding:
    """A case that ended otherwise than it may."""

    kind: str
    number: int
    reason: str


def run(cases: Sequence[tuple[str, int]]) -> Iterator[Finding | None]:
    """Do the cases in a process that is started anew where one kills it; yields one item a case."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    position = 0
    while position < len(cases):
        command = [sys.executable, str(Path(__file__).resolve()), "--work"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            with selectors.DefaultSelector() as selector:
                selector.register(worker.stdout, selectors.EVENT_READ)
                while position < len(cases):
                    kind, number = cases[position]
                    position += 1
                    try:
                        worker.stdin.write(f"{kind} {number}\n".encode())
                        worker.stdin.flush()
                        answer = worker.stdout.readline().decode() if selector.select(LONGEST) else None
                    except BrokenPipeError:
                        answer = ""
                    if answer is None:
                        worker.kill()
                        yield Finding(kind, number, f"no end within {LONGEST:g} s")
                        break
                    if not answer:
                        yield Finding(kind, number, f"its process ended with code {worker.wait()}")
                        break
                    yield None if answer == "ok\n" else Finding(kind, number, answer.strip())


def work(orders: BinaryIO) -> None:
    """A worker: cases in, one line for each out. What libraries print leads nowhere."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    with open(os.devnull, "wb") as nothing:
        for descriptor in (1, 2):
            os.dup2(nothing.fileno(), descriptor)
    for order in orders:
        kind, number = order.decode().split()
        data = damaged(kind, int(number))
        before, started = _memory(), time.process_time()
        try:
            read(kind, data, int(number))
            reason = "ok"
        except Exception as error:  # the very thing that is looked for
            place = error.__traceback__
            while place and place.tb_next:
                place = place.tb_next
            where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
            reason = " ".join(f"{type(error).__name__} at {where}: {error}".split())
        used, grown = time.process_time() - started, _memory() - before
        if reason == "ok" and used > MOST_CPU:
            reason = f"took {used:.0f} s"
        if reason == "ok" and grown > MOST_MEMORY:
            reason = f"took {grown:.0f} MB"
        answers.write(reason + "\n")


def _memory() -> float:
    """The most this process has used so far, in MB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="all if omitted: " + ", ".join(kinds()))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first case of each kind")
    parser.add_argument("--out", type=Path, default=Path("work/fuzz"))
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(sys.stdin.buffer)
        return
    unknown = sorted(set(args.kinds) - set(kinds()))
    if unknown:
        parser.error(f"no such kind: {', '.join(unknown)}")
    end = time.monotonic() + 60 * args.minutes
    done, findings = 0, 0
    for first in itertools.count(args.first, BATCH):
        cases = [(kind, number) for kind in args.kinds or kinds() for number in range(first, first + BATCH)]
        for finding in run(cases):
            done += 1
            if finding:
                findings += 1
                args.out.mkdir(parents=True, exist_ok=True)
                path = args.out / f"{finding.kind}-{finding.number}"
                path.write_bytes(damaged(finding.kind, finding.number))
                print(f"{path}: {finding.reason}", flush=True)
            if time.monotonic() > end:
                break
        if time.monotonic() > end:
            break
    print(f"{done} cases, {findings} findings")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
