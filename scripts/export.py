"""Write a trained checkpoint as the one ONNX file the package ships, and check it against PyTorch.

    python scripts/export.py CHECKPOINT models/basic_transcribe.onnx --version 0.22.0 --quantise RECORDINGS

Batch norms are folded, the EMA weights are used, constants go into the file's metadata (key ``basic_transcribe``), and
``MODEL.onnx.sha256`` is written beside it. Thresholds already in an existing file at that path are kept (see
``scripts/calibrate.py --write``). With ``--quantise``, the network computes in 8 bits; RECORDINGS, a folder of training
material (see ``render.py audio``), tells it the ranges. Without, it computes in float32.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import frontend
import numpy as np
import onnx
import onnxruntime
import torch
from compact import quantise, shorten
from google.protobuf.message import DecodeError
from network import FRAMES_PER_STEP, Graph, Network, load_network
from render import read_mono
from shared import errors_in_one_line
from torch.nn.utils import fusion

from basic_transcribe.errors import UsageError
from basic_transcribe.exports import write_atomic
from basic_transcribe.types import Posteriors

DEFAULTS = {
    "onset_threshold": 0.5,
    "split_threshold": 0.6,
    "frame_threshold": 0.3,
    "onset_delay": 0.0,
    "minimum_note_length": 50.0,
}


def fold_batch_norm(module: torch.nn.Module) -> None:
    """Merge every Conv2d + BatchNorm2d pair inside Sequentials, in place. The module must be in eval mode."""
    for child in module.modules():
        if isinstance(child, torch.nn.Sequential) and len(child) > 1 and isinstance(child[1], torch.nn.BatchNorm2d):
            child[0] = fusion.fuse_conv_bn_eval(child[0], child[1])
            child[1] = torch.nn.Identity()


def metadata(graph: Graph, version: str, defaults: dict[str, float]) -> dict[str, object]:
    """Everything the package needs to know about the model."""
    before, after = graph.context
    return {
        "format": 1,
        "name": "basic_transcribe",
        "version": version,
        "sample_rate": frontend.SAMPLE_RATE,
        "hop": frontend.HOP,
        "frames_multiple": FRAMES_PER_STEP,
        "context_before": before,
        "context_after": after,
        "lowest_pitch": frontend.LOWEST_PITCH,
        "pitches": frontend.N_PITCHES,
        "bins_per_semitone": frontend.BINS_PER_SEMITONE,
        "parameters": sum(p.numel() for p in graph.network.parameters()),
        "defaults": defaults,
    }


def export(
    network: Network,
    path: Path,
    version: str,
    recordings: list[Path] | None = None,
    *,
    defaults: dict[str, float] | None = None,
) -> None:
    """Compare the graph with PyTorch on noise and on a chord, and write it to ``path``; on failure nothing changes.

    Parameters
    ----------
    recordings : list of Path, optional
        Sound files on which ranges are measured for 8-bit arithmetic; float32 without.
    defaults : dict, optional
        Thresholds to store; those of the file that is replaced if omitted.

    Raises
    ------
    RuntimeError
        If ONNX Runtime and PyTorch disagree, or what they say is not finite.
    UsageError
        If there is another file at ``path``.
    """
    if defaults is None:
        defaults = stored_defaults(path)
    with tempfile.TemporaryDirectory() as folder:
        save(drafted(network, Path(folder, path.name), version, recordings, defaults), path)


def drafted(
    network: Network, path: Path, version: str, recordings: list[Path] | None, defaults: dict[str, float]
) -> onnx.ModelProto:
    """The model of :func:`export`, checked; a draft of it is left at ``path``."""
    graph = Graph(network).eval()
    graph.front_end.variable_q.generate = True
    meta = metadata(graph, version, defaults)
    fold_batch_norm(network)
    before, after = graph.context
    samples = before + after + 63 * frontend.HOP
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own ways
        torch.onnx.export(
            graph,
            (torch.zeros(1, samples),),
            str(path),
            input_names=["audio"],
            output_names=list(Posteriors.ARRAYS),
            dynamic_axes={"audio": {1: "samples"}, **{name: {1: "frames"} for name in Posteriors.ARRAYS}},
            opset_version=17,
            dynamo=False,
        )
    model = onnx.load(str(path))
    if recordings:
        model = quantise(model, calibration_blocks(recordings, before, after), "/network", "/network/head")
    shorten(model)
    model.producer_name, model.doc_string = "basic_transcribe", "audio (22,050 Hz mono) to note posteriors"
    for output in model.graph.output:  # the exporter leaves the widths symbolic
        width = frontend.N_PITCHES * frontend.BINS_PER_SEMITONE if output.name == "contour" else frontend.N_PITCHES
        dims = output.type.tensor_type.shape.dim
        dims[0].dim_value, dims[1].dim_param, dims[2].dim_value = 1, "frames", width
    onnx.helper.set_model_props(model, {"basic_transcribe": json.dumps(meta)})
    onnx.checker.check_model(model)
    path.write_bytes(serialised(model))
    check(graph, path, quantised=bool(recordings))
    return model


def calibration_blocks(recordings: list[Path], before: int, after: int) -> Iterator[np.ndarray]:
    """The first six seconds of each recording, with silence as context."""
    for path in recordings:
        mono = read_mono(path)
        block = np.zeros(before + after + 511 * frontend.HOP, np.float32)
        length = min(len(mono), len(block) - before)
        block[before : before + length] = mono[:length]
        yield block


def stored_defaults(path: Path) -> dict[str, float]:
    """Calibrated thresholds of the file that is being replaced, else the initial ones.

    Raises
    ------
    UsageError
        If that file is no model of this package.
    """
    if not path.exists():
        return DEFAULTS
    try:
        properties = {p.key: p.value for p in onnx.load(str(path)).metadata_props}
        stored = json.loads(properties["basic_transcribe"])["defaults"]
    except (DecodeError, LookupError, ValueError) as error:
        raise UsageError(f"{path}: exists, and is no model of this package; name another file") from error
    return {name: stored.get(name, value) for name, value in DEFAULTS.items()}


def serialised(model: onnx.ModelProto) -> bytes:
    """A model's file."""
    return bytes(model.SerializeToString(deterministic=True))


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the model and its checksum, each whole or not at all."""
    data = serialised(model)
    digest = hashlib.sha256(data).hexdigest()
    write_atomic(path, data)
    write_atomic(f"{path}.sha256", f"{digest}  {path.name}\n".encode())
    print(f"{path}: {len(data) / 1000:.0f} kB, sha256 {digest}")


def check(graph: Graph, path: Path, *, quantised: bool) -> None:
    """Compare ONNX Runtime with PyTorch on two inputs of other lengths than the traced one.

    Every value has to agree within 0.001; of a quantised model the mean deviation has to be below 0.02.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng, largest = np.random.default_rng(0), 0.0
    for frames in (40, 400):
        n = sum(graph.context) + (frames - 1) * frontend.HOP
        t = np.arange(n) / frontend.SAMPLE_RATE
        for audio in (rng.normal(0, 0.1, n), sum(0.2 * np.sin(2 * np.pi * f * t) for f in (220, 277.2, 329.6))):
            x = audio.astype(np.float32)[None]
            with torch.no_grad():
                expected = graph(torch.from_numpy(x))
            for name, a, b in zip(Posteriors.ARRAYS, expected, session.run(None, {"audio": x}), strict=True):
                deviation = np.abs(a.numpy() - b) / (1.0 if name != "level" else 40.0)
                agrees = deviation.mean() <= 0.02 if quantised else deviation.max() <= 1e-3  # NaN does not
                if a.shape != b.shape or a.shape[1] != frames or not agrees:
                    raise RuntimeError(
                        f"{name}: PyTorch {tuple(a.shape)} and ONNX {b.shape} differ by {deviation.max():.2g}, "
                        f"{deviation.mean():.2g} on average"
                    )
                largest = max(largest, float(deviation.max()))
    print(f"ONNX Runtime agrees with PyTorch; largest deviation {largest:.2g}")


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--weights", choices=("ema", "raw"), default="ema")
    parser.add_argument("--quantise", type=Path, metavar="RECORDINGS", help="folder of sound files")
    args = parser.parse_args()
    if not args.output.parent.is_dir():
        parser.error(f"{args.output.parent} is not a folder")
    recordings = None
    if args.quantise is not None:
        recordings = sorted(p for p in args.quantise.rglob("*") if p.suffix in (".flac", ".wav", ".ogg"))
        if not recordings:
            parser.error(f"no sound files (.flac, .wav, .ogg) under {args.quantise}")
    network = load_network(args.checkpoint, "ema" if args.weights == "ema" else "network")
    export(network.eval(), args.output, args.version, recordings)


if __name__ == "__main__":
    main()
