"""Write a trained checkpoint as the one ONNX file the package ships, and check it against PyTorch.

    python scripts/export.py CHECKPOINT models/basic_transcribe.onnx --version 0.1.0

Batch norms are folded, the EMA weights are used, constants go into the file's metadata (key ``basic_transcribe``), and
``MODEL.onnx.sha256`` is written beside it. Thresholds already in an existing file at that path are kept (see
``scripts/calibrate.py --write``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import frontend
import numpy as np
import onnx
import onnxruntime
import torch
from network import FRAMES_PER_STEP, Graph, Network
from torch.nn.utils import fusion

OUTPUTS = ("onset", "note", "offset", "contour", "level")
DEFAULTS = {"onset_threshold": 0.35, "frame_threshold": 0.25, "minimum_note_length": 50.0}


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


def export(network: Network, path: Path, version: str) -> None:
    """Write the graph to ``path`` and compare it with PyTorch on noise and on a chord.

    Raises
    ------
    RuntimeError
        If ONNX Runtime and PyTorch disagree.
    """
    graph = Graph(network).eval()
    meta = metadata(graph, version, stored_defaults(path))
    fold_batch_norm(network)
    before, after = graph.context
    samples = before + after + 63 * frontend.HOP
    torch.onnx.export(
        graph,
        (torch.zeros(1, samples),),
        str(path),
        input_names=["audio"],
        output_names=list(OUTPUTS),
        dynamic_axes={"audio": {1: "samples"}, **{name: {1: "frames"} for name in OUTPUTS}},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(path))
    model.producer_name, model.doc_string = "basic_transcribe", "audio (22,050 Hz mono) to note posteriors"
    for output in model.graph.output:  # the exporter leaves the widths symbolic
        width = frontend.N_PITCHES * frontend.BINS_PER_SEMITONE if output.name == "contour" else frontend.N_PITCHES
        dims = output.type.tensor_type.shape.dim
        dims[0].dim_value, dims[1].dim_param, dims[2].dim_value = 1, "frames", width
    onnx.helper.set_model_props(model, {"basic_transcribe": json.dumps(meta)})
    onnx.checker.check_model(model)
    save(model, path)
    check(graph, path)


def stored_defaults(path: Path) -> dict[str, float]:
    """Calibrated thresholds of the file that is being replaced, else the initial ones."""
    if not path.exists():
        return DEFAULTS
    properties = {p.key: p.value for p in onnx.load(str(path)).metadata_props}
    return json.loads(properties["basic_transcribe"])["defaults"]


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the model and its checksum."""
    data = model.SerializeToString(deterministic=True)
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    Path(f"{path}.sha256").write_text(f"{digest}  {path.name}\n")
    print(f"{path}: {len(data) / 1000:.0f} kB, sha256 {digest}")


def check(graph: Graph, path: Path, tolerance: float = 1e-3) -> None:
    """Compare ONNX Runtime with PyTorch on two inputs of other lengths than the traced one."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for frames in (40, 400):
        n = sum(graph.context) + (frames - 1) * frontend.HOP
        t = np.arange(n) / frontend.SAMPLE_RATE
        for audio in (rng.normal(0, 0.1, n), sum(0.2 * np.sin(2 * np.pi * f * t) for f in (220, 277.2, 329.6))):
            x = audio.astype(np.float32)[None]
            with torch.no_grad():
                expected = graph(torch.from_numpy(x))
            for name, a, b in zip(OUTPUTS, expected, session.run(None, {"audio": x}), strict=True):
                worst = float(np.abs(a.numpy() - b).max()) / (1.0 if name != "level" else 40.0)
                if a.shape != b.shape or a.shape[1] != frames or worst > tolerance:
                    raise RuntimeError(f"{name}: PyTorch {tuple(a.shape)} and ONNX {b.shape} differ by {worst:.2g}")
    print(f"ONNX Runtime agrees with PyTorch within {tolerance}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--weights", choices=("ema", "raw"), default="ema")
    args = parser.parse_args()
    state = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    network = Network(**{**state["config"], "dilations": tuple(state["config"]["dilations"])})
    network.load_state_dict(state["ema"] if args.weights == "ema" else state["network"])
    export(network.eval(), args.output, args.version)


if __name__ == "__main__":
    main()
