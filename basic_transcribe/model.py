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
        self.context = meta["context_before"], meta["context_after"]
        self.lowest_pitch, self.pitches = meta["lowest_pitch"], meta["pitches"]
        self.bins_per_semitone = meta["bins_per_semitone"]
        self.defaults: dict[str, float] = meta["defaults"]
        self._multiple: int = meta["frames_multiple"]
        self.block_frames = max(1, round(block_seconds * self.frame_rate / self._multiple)) * self._multiple
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

    def posteriors(self, blocks: Iterable[Float32]) -> Iterator[Posteriors]:
        """Stream mono audio through the model.

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
        before, after = self.context
        step = self.block_frames * self.hop
        whole = before + step + after - self.hop
        buffer = np.zeros(whole + self.sample_rate, np.float32)
        filled, total, done = before, 0, 0  # silence before the recording is its first context
        for block in blocks:
            total += len(block)
            while len(block):
                take = min(len(block), len(buffer) - filled)
                buffer[filled : filled + take] = block[:take]
                filled, block = filled + take, block[take:]
                while filled >= whole:
                    yield self.run(buffer[:whole])
                    done += self.block_frames
                    buffer[: filled - step] = buffer[step:filled]
                    filled -= step
        frames = -(-total // self.hop)
        while done < frames:
            # The last block is padded with silence to the next multiple of the model's step.
            wanted = min(self.block_frames, -(-(frames - done) // self._multiple) * self._multiple)
            length = before + (wanted - 1) * self.hop + after
            buffer[filled:] = 0
            yield self.run(buffer[:length]).slice(0, frames - done)
            done += wanted
            buffer[: len(buffer) - step] = buffer[step:].copy()
            filled = max(0, filled - step)
