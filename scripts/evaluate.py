"""Transcribe reference recordings with the package's own defaults and score the MIDI files it would write.

    python scripts/evaluate.py REF_ROOT [--peers PEERS.csv] [--per-file OUT.csv] [--out MIDI_DIR]

REF_ROOT/<set>/<name>.flac (or .wav, .ogg, .mp3) is transcribed and compared with REF_ROOT/<set>/<name>.csv, columns
``onset_s,offset_s,midi_pitch[,velocity]``. See ``scripts/README.md`` for the columns of the table.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import multiprocessing
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scoring

from basic_transcribe.midi import to_bytes, to_midi
from basic_transcribe.pipeline import Transcriber
from basic_transcribe.types import MidiSettings, TrackerSettings

SCORES = ("P", "R", "F50", "F100", "Foff", "Fbend", "Fframe", "Fvel", "rvel")
PEER_SCORES = ("F50", "Foff")
PEER_WIDTH = 24


@dataclass(frozen=True, slots=True)
class Result:
    """Scores of one recording; ``onset_errors`` in seconds, one per matched note."""

    recording: scoring.Recording
    scores: dict[str, float]
    onset_errors: scoring.Float
    n_ref: int
    n_est: int


@functools.cache
def transcriber(model: Path | None) -> Transcriber:
    """One per worker process, single-threaded: recordings run side by side."""
    return Transcriber(model, threads=1)


def evaluate(
    recording: scoring.Recording, *, model: Path | None, settings: TrackerSettings, out: Path | None
) -> Result:
    """Transcribe one recording, write its MIDI under ``out`` if given, and score it."""
    transcription = transcriber(model).transcribe(recording.audio, settings=settings)
    midi = to_bytes(to_midi(transcription.notes, MidiSettings(), title=recording.name).midi)
    if out is not None:
        path = out / recording.set_name / f"{recording.name}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(midi)
    est = scoring.load_midi(io.BytesIO(midi))
    ref = scoring.load_reference(recording.reference)
    scores = scoring.note_scores(ref, est) | scoring.velocity_scores(ref, est)
    scores["Fframe"] = scoring.frame_score(ref, est)
    return Result(recording, scores, scoring.onset_errors(ref, est), len(ref), len(est))


def load_peers(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Means over recordings, system -> set -> score, of a table with columns ``system,set,name,...,F50,...,Foff``."""
    rows: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            rows[row["system"]][row["set"]].append({k: float(row[k]) for k in PEER_SCORES})
    return {
        system: {s: {k: float(np.mean([v[k] for v in values])) for k in PEER_SCORES} for s, values in sets.items()}
        for system, sets in rows.items()
    }


def table(results: list[Result], peers: dict[str, dict[str, dict[str, float]]]) -> str:
    """One line a set (means over its recordings) and the mean over sets, each set counting once."""
    sets: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        sets[result.recording.set_name].append(result)
    header = f"{'set':15s} {'n':>3s} " + " ".join(f"{k:>6s}" for k in SCORES) + "  onset ms (sd)"
    lines = [header + "".join(f" | {system:>{PEER_WIDTH}s}" for system in peers)]
    for name, got in sets.items():
        means = [scoring.mean_of_sets({name: [r.scores[k] for r in got]}) for k in SCORES]
        errors = 1000 * np.concatenate([r.onset_errors for r in got])
        bias = f"{np.median(errors):+6.0f} ({errors.std():3.0f})" if len(errors) else ""
        lines.append(f"{name:15s} {len(got):3d} {columns(means)}  {bias:>13s}")
        lines[-1] += "".join(f" | {peer_columns([p[name]] if name in p else [])}" for p in peers.values())
    means = [scoring.mean_of_sets({s: [r.scores[k] for r in got] for s, got in sets.items()}) for k in SCORES]
    lines.append(f"{'MEAN OF SETS':15s} {len(results):3d} {columns(means)}  {'':13s}")
    lines[-1] += "".join(f" | {peer_columns([p[s] for s in sets if s in p])}" for p in peers.values())
    return "\n".join(lines)


def columns(values: list[float]) -> str:
    """Scores in the table's format, a dash where there is none."""
    return " ".join(f"{'-' if np.isnan(v) else f'{v:.3f}':>6s}" for v in values)


def peer_columns(sets: list[dict[str, float]]) -> str:
    """F50 and Foff of a peer, mean over ``sets``."""
    text = " / ".join(f"{np.mean([s[k] for s in sets]):.3f}" for k in PEER_SCORES) if sets else "-"
    return f"{text:>{PEER_WIDTH}s}"


def write_per_file(path: Path, label: str, results: list[Result]) -> None:
    """One row a recording; onset error is the median in milliseconds."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["system", "set", "name", *SCORES, "onset_ms", "n_ref", "n_est"])
        for r in results:
            error = f"{1000 * np.median(r.onset_errors):.1f}" if len(r.onset_errors) else ""
            values = ["" if np.isnan(r.scores[k]) else f"{r.scores[k]:.4f}" for k in SCORES]
            writer.writerow([label, r.recording.set_name, r.recording.name, *values, error, r.n_ref, r.n_est])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="REF_ROOT")
    parser.add_argument("--model", type=Path, help="ONNX file; the shipped one if omitted")
    parser.add_argument("--sets", type=lambda s: s.split(","), help="comma-separated; all if omitted")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write DIR/<set>/<name>.mid")
    parser.add_argument("--per-file", type=Path, metavar="CSV", help="also write one row a recording")
    parser.add_argument("--peers", type=Path, metavar="CSV", help="per-file scores of other systems to print beside")
    parser.add_argument("--onset-threshold", type=float, help="the model's own if omitted, as the next two")
    parser.add_argument("--frame-threshold", type=float)
    parser.add_argument("--minimum-note-length", type=float, metavar="MS")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    args = parser.parse_args()

    settings = TrackerSettings(args.onset_threshold, args.frame_threshold, args.minimum_note_length)
    work = functools.partial(evaluate, model=args.model, settings=settings, out=args.out)
    peers = load_peers(args.peers) if args.peers else {}
    model = transcriber(args.model).model  # here first, so that a bad one is reported once
    # Spawned, since ONNX Runtime's threads do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        results = pool.map(work, scoring.recordings(args.root, args.sets), chunksize=1)
    used = settings.resolved(model.defaults)
    print(f"{model.name}, sha256 {model.sha256[:12]}, onset threshold {used.onset_threshold}, ", end="")
    print(f"frame threshold {used.frame_threshold}, minimum note length {used.minimum_note_length} ms")
    print(table(results, peers))
    if args.per_file:
        write_per_file(args.per_file, model.name, results)


if __name__ == "__main__":
    main()
