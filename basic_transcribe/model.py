"""The model: an ONNX file, its constants, and the streaming of audio through it.

Every constant (sample rate, hop, context, thresholds) is read from the file's metadata, key ``basic_transcribe``.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import onnxfile
from .errors import ModelError, UsageError, printable
from .processors import available_cpus, in_order
from .types import Float32, Posteriors, TrackerSettings, path_of

if TYPE_CHECKING:
    import onnxruntime

# From 1.29 on, ONNX Runtime keeps an identifier of the machine and reports what it does, unless it is told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
INTEGERS = {  # and the largest that makes sense
    "sample_rate": 192_000,
    "hop": 65_536,
    "frames_multiple": 1024,
    "context_before": 10_000_000,
    "context_after": 10_000_000,
    "lowest_pitch": 127,
    "pitches": 128,
    "bins_per_semitone": 100,
}
DEFAULTS = ("onset_threshold", "split_threshold", "frame_threshold", "onset_delay", "minimum_note_length")
MAX_MODEL_BYTES = 100_000_000
MAX_TENSOR_BYTES = 2 << 30  # of all models of a process, while they run
MOST_RUNS = 64  # of all models of a process at a time: one takes some 14 MB
AT_ONCE = 1.5  # blocks: a recording of up to that length is not cut, since each cut costs its context
REMEDY = "use the model shipped with the package, or one written by scripts/export.py"
REINSTALL = "install the package anew: it needs its data, and cannot run from within a zip"
LESS = "use fewer threads, or transcribe fewer recordings at a time"

_runs = threading.Semaphore(MOST_RUNS)


def _renew_runs() -> None:
    """After a fork: what other threads were running is not there, and would never end."""
    global _runs
    _runs = threading.Semaphore(MOST_RUNS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_runs)


def default_model_path() -> Path:
    """Path of the shipped model: inside the installed package, or in ``models/`` of a source checkout."""
    package = Path(__file__).parent
    name = Path("models") / "basic_transcribe.onnx"
    installed = package / name
    return installed if installed.exists() else package.parent / name


@cache
def _limit_memory() -> None:
    """Give all sessions that ask for it one common arena of limited size: a model may ask for any amount."""
    import onnxruntime as ort

    kind = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    defaults = dict.fromkeys(("arena_extend_strategy", "initial_chunk_size_bytes", "max_dead_bytes_per_chunk"), -1)
    try:
        ort.create_and_register_allocator(kind, ort.OrtArenaCfg({"max_mem": MAX_TENSOR_BYTES, **defaults}))
    except RuntimeError as error:
        if "already been registered" not in str(error):
            raise
        # Before 1.23 the one that the program around us has made stays, and is used.


def _providers(name: str) -> list[str]:
    """What to give ONNX Runtime; the processor does what the one asked for cannot.

    Raises
    ------
    UsageError
        If there is no such thing, or this build of ONNX Runtime does not have it.
    """
    import onnxruntime

    if not isinstance(name, str) or name not in PROVIDERS:
        raise UsageError(f"provider {printable(name)!r} is unknown; it must be one of {', '.join(PROVIDERS)}")
    there = onnxruntime.get_available_providers()
    if PROVIDERS[name] not in there:
        raise _no_provider(name, f"this ONNX Runtime has only {', '.join(there)}")
    return list(dict.fromkeys([PROVIDERS[name], PROVIDERS["cpu"]]))


def _no_provider(name: str, reason: str) -> UsageError:
    return UsageError(f"provider {name!r} is not available: {reason}; install the build that has it, or use cpu")


def _of_runtime(error: Exception) -> bool:
    """Whether ONNX Runtime raised it, whose exceptions share no base class, and not the handler of a signal."""
    return type(error).__module__.split(".")[0] in ("builtins", "onnxruntime") and not isinstance(error, OSError)


def _reason(error: Exception) -> str:
    """The first line of what ONNX Runtime says."""
    return printable((str(error).strip().splitlines() or ["no reason given"])[0][:200])


class Model:
    """A model ready to run.

    Parameters
    ----------
    path : str or Path, optional
        ONNX file; the shipped one if omitted.
    threads : int, optional
        Blocks run at a time, each in a thread; one per processor if omitted.
    block_seconds : float
        Length of the blocks audio is processed in. Changes memory and speed. The posteriors stay the same, but for the
        rounding of blocks of 32 frames (0.4 s) or fewer, which ONNX Runtime computes in another way. The last block of
        a recording may be one.
    provider : str
        What ONNX Runtime computes with: one of :data:`PROVIDERS`. All but ``cpu`` need another build of ONNX Runtime,
        and may round otherwise.

    Attributes
    ----------
    name : str
        Name and version.
    sha256 : str
        Digest of the file.
    sample_rate, hop : int
        Of the audio it takes, in Hz and samples.
    defaults : dict of str to float
        Calibrated :class:`~basic_transcribe.types.TrackerSettings`.

    Raises
    ------
    ModelError
        If the file cannot be loaded, or is not a model of this kind.
    UsageError
        If the provider is not there, or the path is none.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        threads: int | None = None,
        block_seconds: float = 8.0,
        provider: str = "cpu",
    ) -> None:
        self.path = path_of("model", path) if path is not None else default_model_path()
        self.threads = threads or available_cpus()
        data = self._read(self.path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._session = self._load(self.path, data, provider)
        meta = self._metadata()
        self.name = f"{meta['name']} {meta['version']}"
        self.sample_rate: int = meta["sample_rate"]
        self.hop: int = meta["hop"]
        self.context: tuple[int, int] = meta["context_before"], meta["context_after"]
        self.lowest_pitch, self.pitches = meta["lowest_pitch"], meta["pitches"]
        self.bins_per_semitone = meta["bins_per_semitone"]
        self.defaults: dict[str, float] = meta["defaults"]
        self.frames_multiple: int = meta["frames_multiple"]
        self._widths = dict.fromkeys(Posteriors.ARRAYS, self.pitches)
        self._widths["contour"] *= self.bins_per_semitone
        self.block_frames = self.frames_of(block_seconds)
        self._check_signature()
        given = None if path is None else self.path.absolute()
        self._again = partial(type(self), given, threads=threads, block_seconds=block_seconds, provider=provider)

    def __reduce__(self) -> tuple[Callable[[], Model], tuple[()]]:
        return self._again, ()  # what ONNX Runtime has loaded can neither be copied nor sent to other processes

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    @staticmethod
    def _read(path: Path) -> bytes:
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe might never end
                raise ModelError(f"model {str(path)!r} cannot be read: it is no file; {REMEDY}")
            with path.open("rb") as file:
                data = file.read(min(status.st_size, MAX_MODEL_BYTES) + 1)  # room is made for all that is asked for
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            remedy = REINSTALL if path == default_model_path() else REMEDY
            raise ModelError(f"model {str(path)!r} cannot be read: {reason}; {remedy}") from error
        if len(data) > MAX_MODEL_BYTES:
            raise ModelError(f"model {str(path)!r} is over the limit of {MAX_MODEL_BYTES} bytes; {REMEDY}")
        return data

    @staticmethod
    def _load(path: Path, data: bytes, provider: str) -> onnxruntime.InferenceSession:
        try:
            import onnxruntime
        except ImportError as error:  # so it says, too, where there is no memory for it
            raise ModelError(
                f"ONNX Runtime cannot be loaded: {_reason(error)}; install onnxruntime again, or allow more memory"
            ) from error
        providers = _providers(provider)

        if path != default_model_path():  # which is as trusted as this code
            try:
                onnxfile.check(data)
            except ValueError as error:
                raise ModelError(f"model {str(path)!r} {error}; {REMEDY}") from error
        _limit_memory()
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.load_model_format", "ONNX")  # the one looked at, if it could be two
        options.log_severity_level = 4  # our own messages say it in one line
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # blocks side by side share out better
        try:
            session = onnxruntime.InferenceSession(data, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelError(f"model {str(path)!r} is not a usable ONNX file: {_reason(error)}; {REMEDY}") from error
        if session.get_providers()[0] != providers[0]:  # ONNX Runtime itself would go on without a word
            raise _no_provider(provider, "it cannot be started here")
        return session

    def _fail(self, what: str) -> ModelError:
        return ModelError(f"model {str(self.path)!r} is not a basic_transcribe model: {what}; {REMEDY}")

    def _metadata(self) -> dict[str, Any]:
        try:  # what is not UTF-8 is a ValueError, too
            text = self._session.get_modelmeta().custom_metadata_map.get("basic_transcribe")
            meta = None if text is None else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._fail("its metadata is not JSON") from error
        if text is None:
            raise self._fail("its metadata has no key 'basic_transcribe'")
        if not isinstance(meta, dict) or meta.get("format") != 1:
            raise self._fail("its metadata is not of format 1; a newer version of this package may read it")
        for key, largest in INTEGERS.items():
            if type(meta.get(key)) is not int or not 0 < meta[key] <= largest:
                raise self._fail(f"metadata {key!r} must be an integer from 1 to {largest}")
        if meta["lowest_pitch"] + meta["pitches"] > 128:
            raise self._fail("its pitches go beyond MIDI note 127")
        if meta["context_before"] % meta["hop"] or meta["context_after"] % meta["hop"]:
            raise self._fail("its context is not a whole number of hops")
        defaults = meta.get("defaults")
        if not isinstance(defaults, dict) or not all(type(defaults.get(k)) in (int, float) for k in DEFAULTS):
            raise self._fail(f"metadata 'defaults' must give numbers for {', '.join(DEFAULTS)}")
        try:
            TrackerSettings(**{key: defaults[key] for key in DEFAULTS})
        except UsageError as error:
            raise self._fail(f"of its metadata 'defaults' {error}") from error
        for key in ("name", "version"):
            text = meta.get(key)
            if not (isinstance(text, str) and text.isprintable() and len(text) <= 100):
                raise self._fail(f"metadata {key!r} must be a short text")
        meta["defaults"] = {key: defaults[key] for key in DEFAULTS}  # all that was looked at
        return meta

    def _check_signature(self) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [i.name for i in inputs] != ["audio"] or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
            raise self._fail("expected one input 'audio' of float32, shape (1, samples)")
        got = {o.name: o for o in outputs}
        for name, width in self._widths.items():
            if name not in got or got[name].type != "tensor(float)" or got[name].shape[2:] != [width]:
                raise self._fail(f"expected an output {name!r} of float32, shape (1, frames, {width})")
        if self.path != default_model_path():  # what the file declares need not be what it does: run it on silence
            before, after = self.context
            self.run(np.zeros(before + (8 * self.frames_multiple - 1) * self.hop + after, np.float32))

    def run(self, audio: Float32) -> Posteriors:
        """Posteriors of a block that carries its own context.

        Parameters
        ----------
        audio : ndarray of float32, shape (samples,)
            ``context[0]`` samples, ``hop * (frames - 1)`` samples, ``context[1]`` samples; ``frames`` a multiple of
            the model's step.

        Raises
        ------
        ModelError
            If the model cannot, for want of memory say, or gives other than finite posteriors of these frames.
        """
        try:
            with _runs:
                values = self._session.run(list(self._widths), {"audio": audio[None]})
        except Exception as error:
            if not _of_runtime(error):
                raise
            if isinstance(error, MemoryError) or "alloc" in str(error).lower():
                remedy = LESS + f"; {REMEDY}" * (self.path != default_model_path())
                raise ModelError(f"model {str(self.path)!r} ran out of memory; {remedy}") from error
            raise self._fail(f"it does not run: {_reason(error)}") from error
        frames = 1 + (len(audio) - sum(self.context)) // self.hop
        for (name, width), value in zip(self._widths.items(), values, strict=True):
            due = 1, frames, width
            if value.shape != due:
                made = value.shape[1] if value.ndim > 1 else 0
                raise self._fail(f"it makes {made} frames of {name!r}, {value.shape} where {due} is due")
            if not np.isfinite(value).all():
                raise self._fail(f"it makes values of {name!r} that are not finite")
        # Copies: ONNX Runtime's own arrays would go on to take the memory that all runs share.
        arrays = {name: value[0].copy() for name, value in zip(self._widths, values, strict=True)}
        return Posteriors(**arrays, frame_rate=self.frame_rate, lowest_pitch=self.lowest_pitch)

    def posteriors(self, blocks: Iterable[Float32]) -> Generator[Posteriors, None, None]:
        """Posteriors of a whole recording.

        Parameters
        ----------
        blocks : iterable of ndarray of float32, shape (n,)
            Consecutive samples at ``sample_rate``, in pieces of any length.

        Yields
        ------
        Posteriors
            Consecutive frames, ``ceil(samples / hop)`` in all. Cutting the audio otherwise changes nothing but
            the rounding of short blocks (see ``block_seconds``): each is run with all the context that the network can
            see.
        """
        cutter = Cutter(self, self.block_frames, int(AT_ONCE * self.block_frames))
        yield from in_order(self.run_window, _windows(cutter, blocks), self.threads)

    def run_window(self, window: Window) -> Posteriors:
        """The frames of a window that belong to the recording."""
        return self.run(window.audio).slice(0, window.frames)

    def frames_of(self, seconds: float) -> int:
        """The nearest number of frames that can be run at once."""
        return max(1, round(seconds * self.frame_rate / self.frames_multiple)) * self.frames_multiple


@dataclass(frozen=True, slots=True)
class Window:
    """A block of audio with its context, and how many of its frames belong to the recording."""

    audio: Float32
    frames: int


class Cutter:
    """Cuts mono audio into windows for :meth:`Model.run`.

    Parameters
    ----------
    model : Model
    block_frames : int
        Frames of a window, a multiple of the model's step. The context of each is computed again: shorter ones answer
        sooner and cost more.
    at_once : int
        Frames up to which a recording is one window. None is given before it is known to be longer.
    """

    def __init__(self, model: Model, block_frames: int, at_once: int = 0) -> None:
        self._context, self._hop, self._multiple = model.context, model.hop, model.frames_multiple
        before, after = model.context
        self._block_frames = block_frames
        self._at_once = max(at_once // self._multiple * self._multiple, block_frames)
        self._step = block_frames * model.hop
        self._whole = before + self._step + after - model.hop
        self._awaited = self._whole + (self._at_once - block_frames) * model.hop  # of samples, for the first window
        self._buffer = np.zeros(self._awaited + model.sample_rate, np.float32)
        self._filled = before  # silence before the recording is its first context
        self._samples = self._frames = 0  # taken and given so far

    @property
    def latency(self) -> int:
        """Samples between a frame's centre and the last one that must be pushed before its window is given, at most."""
        return self._context[1] + self._step - self._hop

    def push(self, samples: Float32) -> Iterator[Window]:
        """Take the next samples, shape (n,); yield the windows that are complete by them.

        They are cut as they are asked for: take all of them before the next push.
        """
        buffer = self._buffer
        self._samples += len(samples)
        while len(samples):
            take = min(len(samples), len(buffer) - self._filled)
            buffer[self._filled : self._filled + take] = samples[:take]
            self._filled, samples = self._filled + take, samples[take:]
            while self._filled >= self._awaited:
                self._awaited = self._whole
                window = Window(buffer[: self._whole].copy(), self._block_frames)
                self._frames += self._block_frames
                buffer[: self._filled - self._step] = buffer[self._step : self._filled]
                self._filled -= self._step
                yield window

    def flush(self) -> Iterator[Window]:
        """The recording is over: yield the remaining windows."""
        buffer = self._buffer
        before, after = self._context
        frames = -(-self._samples // self._hop)
        while self._frames < frames:
            # The last one is padded with silence to the next multiple of the model's step.
            left = frames - self._frames
            most = self._block_frames if self._frames or left > self._at_once else self._at_once
            wanted = min(most, -(-left // self._multiple) * self._multiple)
            length = before + (wanted - 1) * self._hop + after
            buffer[self._filled :] = 0
            window = Window(buffer[:length].copy(), min(left, wanted))
            self._frames += wanted
            if self._frames < frames:
                buffer[: len(buffer) - self._step] = buffer[self._step :].copy()
                self._filled = max(0, self._filled - self._step)
            yield window


def _windows(cutter: Cutter, blocks: Iterable[Float32]) -> Iterator[Window]:
    for block in blocks:
        yield from cutter.push(block)
    yield from cutter.flush()
