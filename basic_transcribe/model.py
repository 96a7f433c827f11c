"""The model: an ONNX file, its constants, and the streaming of audio through it.

Every constant (sample rate, hop, context, thresholds) is read from the file's metadata, key ``basic_transcribe``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ModelError
from .types import Float32, Posteriors

if TYPE_CHECKING:
    import onnxruntime

OUTPUTS = ("onset", "note", "offset", "contour", "level")
INTEGERS = (
    "sample_rate",
    "hop",
    "frames_multiple",
    "context_before",
    "context_after",
    "lowest_pitch",
    "pitches",
    "bins_per_semitone",
)
DEFAULTS = ("onset_threshold", "split_threshold", "frame_threshold", "onset_delay", "minimum_note_length")
MAX_MODEL_BYTES = 100_000_000
REMEDY = "use the model shipped with the package, or one written by scripts/export.py"


def default_model_path() -> Path:
    """Path of the shipped model: inside the installed package, or in ``models/`` of a source checkout."""
    package = Path(__file__).parent
    name = Path("models") / "basic_transcribe.onnx"
    installed = package / name
    return installed if installed.exists() else package.parent / name


class Model:
    """A model ready to run.

    Parameters
    ----------
    path : str or Path, optional
        ONNX file; the shipped one if omitted.
    threads : int, optional
        Threads of ONNX Runtime; its own choice if omitted.
    block_seconds : float
        Length of the blocks audio is processed in. Changes memory and speed, never the posteriors.

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
    """

    def __init__(
        self, path: str | Path | None = None, *, threads: int | None = None, block_seconds: float = 12.0
    ) -> None:
        self.path = Path(path) if path is not None else default_model_path()
        data = self._read(self.path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._session = self._load(self.path, data, threads)
        meta = self._metadata()
        self.name = f"{meta['name']} {meta['version']}"
        self.sample_rate: int = meta["sample_rate"]
        self.hop: int = meta["hop"]
        self.context: tuple[int, int] = meta["context_before"], meta["context_after"]
        self.lowest_pitch, self.pitches = meta["lowest_pitch"], meta["pitches"]
        self.bins_per_semitone = meta["bins_per_semitone"]
        self.defaults: dict[str, float] = meta["defaults"]
        self.frames_multiple: int = meta["frames_multiple"]
        self.block_frames = self._frames_of(block_seconds)
        self._check_signature()

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    @staticmethod
    def _read(path: Path) -> bytes:
        try:
            size = path.stat().st_size
            if size > MAX_MODEL_BYTES:
                raise ModelError(f"model {str(path)!r} has {size} bytes, over the limit of {MAX_MODEL_BYTES}; {REMEDY}")
            return path.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ModelError(f"model {str(path)!r} cannot be read: {reason}; {REMEDY}") from error

    @staticmethod
    def _load(path: Path, data: bytes, threads: int | None) -> onnxruntime.InferenceSession:
        import onnxruntime

        # The key under which ONNX names external files. ONNX Runtime would look for them in the current folder.
        if b"location" in data:
            raise ModelError(f"model {str(path)!r} refers to data in other files, which is not allowed; {REMEDY}")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # our own messages say it in one line
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise ModelError(f"model {str(path)!r} is not a usable ONNX file: {reason[:200]}; {REMEDY}") from error

    def _fail(self, what: str) -> ModelError:
        return ModelError(f"model {str(self.path)!r} is not a basic_transcribe model: {what}; {REMEDY}")

    def _metadata(self) -> dict[str, Any]:
        text = self._session.get_modelmeta().custom_metadata_map.get("basic_transcribe")
        if text is None:
            raise self._fail("its metadata has no key 'basic_transcribe'")
        try:
            meta = json.loads(text)
        except ValueError as error:
            raise self._fail("its metadata is not JSON") from error
        if not isinstance(meta, dict) or meta.get("format") != 1:
            raise self._fail("its metadata is not of format 1; a newer version of this package may read it")
        for key in INTEGERS:
            if type(meta.get(key)) is not int or not 0 < meta[key] <= 10_000_000:
                raise self._fail(f"metadata {key!r} is {meta.get(key)!r}, expected a positive integer")
        if meta["lowest_pitch"] + meta["pitches"] > 128:
            raise self._fail("its pitches go beyond MIDI note 127")
        if meta["context_before"] % meta["hop"] or meta["context_after"] % meta["hop"]:
            raise self._fail("its context is not a whole number of hops")
        defaults = meta.get("defaults")
        if not isinstance(defaults, dict) or not all(type(defaults.get(k)) in (int, float) for k in DEFAULTS):
            raise self._fail(f"metadata 'defaults' must give numbers for {', '.join(DEFAULTS)}")
        if not isinstance(meta.get("name"), str) or not isinstance(meta.get("version"), str):
            raise self._fail("metadata 'name' and 'version' must be text")
        return meta

    def _check_signature(self) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [i.name for i in inputs] != ["audio"] or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
            raise self._fail("expected one input 'audio' of float32, shape (1, samples)")
        widths = dict.fromkeys(OUTPUTS, self.pitches) | {"contour": self.pitches * self.bins_per_semitone}
        got = {o.name: o for o in outputs}
        for name, width in widths.items():
            if name not in got or got[name].type != "tensor(float)" or got[name].shape[2:] != [width]:
                raise self._fail(f"expected an output {name!r} of float32, shape (1, frames, {width})")

    def run(self, audio: Float32) -> Posteriors:
        """Posteriors of a block that carries its own context.

        Parameters
        ----------
        audio : ndarray of float32, shape (samples,)
            ``context[0]`` samples, ``hop * (frames - 1)`` samples, ``context[1]`` samples; ``frames`` a multiple of
            the model's step.
        """
        values = self._session.run(list(OUTPUTS), {"audio": audio[None]})
        arrays = {name: value[0] for name, value in zip(OUTPUTS, values, strict=True)}
        return Posteriors(**arrays, frame_rate=self.frame_rate, lowest_pitch=self.lowest_pitch)

    def feed(self, block_seconds: float | None = None) -> Feed:
        """A stream of audio through this model.

        Parameters
        ----------
        block_seconds : float, optional
            Length of its blocks; that of the model if omitted.
        """
        return Feed(self, self.block_frames if block_seconds is None else self._frames_of(block_seconds))

    def posteriors(self, blocks: Iterable[Float32]) -> Iterator[Posteriors]:
        """Posteriors of a whole recording.

        Parameters
        ----------
        blocks : iterable of ndarray of float32, shape (n,)
            Consecutive samples at ``sample_rate``, in pieces of any length.

        Yields
        ------
        Posteriors
            Consecutive frames, ``ceil(samples / hop)`` in all. Cutting the audio otherwise changes nothing: each
            block is run with all the context that the network can see.
        """
        feed = self.feed()
        for block in blocks:
            yield from feed.push(block)
        yield from feed.flush()

    def _frames_of(self, seconds: float) -> int:
        """The nearest number of frames that can be run at once."""
        return max(1, round(seconds * self.frame_rate / self.frames_multiple)) * self.frames_multiple


class Feed:
    """Mono audio pushed through a model; :meth:`Model.feed` makes it.

    Parameters
    ----------
    model : Model
    block_frames : int
        Frames run at once, a multiple of the model's step. Every run reads all of the context again: shorter blocks
        answer sooner and cost more.
    """

    def __init__(self, model: Model, block_frames: int) -> None:
        before, after = model.context
        self.block_frames = block_frames
        self._model = model
        self._step = block_frames * model.hop
        self._whole = before + self._step + after - model.hop
        self._buffer = np.zeros(self._whole + model.sample_rate, np.float32)
        self._filled = before  # silence before the recording is its first context
        self._samples = self._frames = 0  # taken and given so far

    @property
    def latency(self) -> int:
        """Samples between a frame's centre and the last one that must be pushed before it is given, at most."""
        return self._model.context[1] + self._step - self._model.hop

    def push(self, samples: Float32) -> Iterator[Posteriors]:
        """Take the next samples, shape (n,); yield the frames that are complete by them.

        They are computed as they are asked for: take all of them before the next push.
        """
        buffer = self._buffer
        self._samples += len(samples)
        while len(samples):
            take = min(len(samples), len(buffer) - self._filled)
            buffer[self._filled : self._filled + take] = samples[:take]
            self._filled, samples = self._filled + take, samples[take:]
            while self._filled >= self._whole:
                posteriors = self._model.run(buffer[: self._whole])
                self._frames += self.block_frames
                buffer[: self._filled - self._step] = buffer[self._step : self._filled]
                self._filled -= self._step
                yield posteriors

    def flush(self) -> Iterator[Posteriors]:
        """The recording is over: yield the remaining frames."""
        model, buffer = self._model, self._buffer
        before, after = model.context
        frames = -(-self._samples // model.hop)
        while self._frames < frames:
            # The last block is padded with silence to the next multiple of the model's step.
            left = frames - self._frames
            wanted = min(self.block_frames, -(-left // model.frames_multiple) * model.frames_multiple)
            length = before + (wanted - 1) * model.hop + after
            buffer[self._filled :] = 0
            posteriors = model.run(buffer[:length]).slice(0, left)
            self._frames += wanted
            buffer[: len(buffer) - self._step] = buffer[self._step :].copy()
            self._filled = max(0, self._filled - self._step)
            yield posteriors
