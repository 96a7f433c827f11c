"""Transcribe reference recordings with the package's own defaults and score the MIDI files it would write.

    python scripts/evaluate.py REF_ROOT [--peers PEERS.csv] [--per-file OUT.csv] [--out MIDI_DIR]

What ``basic-transcribe evaluate REF_ROOT`` does, with other systems' scores beside its own. See ``scripts/README.md``
for the columns of the table.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from shared import at_least_one, errors_in_one_line, names

from basic_transcribe import batch, evaluate, plan, scoring
from basic_transcribe.errors import OutputError, TranscribeError, UsageError, printable, require
from basic_transcribe.midi import read_fingerprint
from basic_transcribe.types import TrackerSettings

PEER_SCORES = ("F50", "Foff")
PEER_WIDTH = 24

Peers = dict[str, dict[tuple[str, str], dict[str, float]]]


def transcribe_and_score(
    recordings: Sequence[scoring.Recording], recipe: batch.Recipe, folder: Path, processes: int
) -> list[evaluate.Score]:
    """Transcribe to MIDI files in a folder, and score these.

    Raises
    ------
    TranscribeError
        If a recording or its reference cannot be read, or an output would replace a file that is not ours.
    """
    jobs = evaluate.jobs(recordings, folder)
    check_replaced([job.output(".mid") for job in jobs], [recording.reference for recording in recordings])
    todo, failures = plan.check_outputs(jobs, (".mid",))
    for result in (*failures, *batch.run_jobs(todo, recipe, processes=processes)):
        if result.status == "failed":
            raise TranscribeError(f"{result.label}: {result.message}")
    return [evaluate.score(r, job.output(".mid")) for r, job in zip(recordings, todo, strict=True)]


def check_replaced(outputs: Sequence[Path], references: Sequence[Path]) -> None:
    """See whether all that outputs would replace are MIDI files of ours, and no references.

    Raises
    ------
    OutputError
        If not.
    """
    kept = {path.resolve() for path in references}
    for path in filter(Path.exists, outputs):
        if path.resolve() in kept:
            raise OutputError(f"{printable(path)}: this output would replace a reference; give --out another folder")
        if read_fingerprint(path) is None:
            raise OutputError(f"{printable(path)}: exists, and is not ours; give --out another folder")


def load_peers(path: Path) -> Peers:
    """Scores, system -> (set, name) -> score, of a table with columns ``system,set,name,...,F50,...,Foff``.

    Raises
    ------
    OSError
        If it cannot be read.
    UsageError
        If it is no such table.
    """
    peers: Peers = defaultdict(dict)
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                peers[row["system"]][row["set"], row["name"]] = {k: float(row[k]) for k in PEER_SCORES}
    except (KeyError, TypeError, ValueError) as error:
        columns = ", ".join(("system", "set", "name", *PEER_SCORES))
        raise UsageError(f"{printable(path)}: give a CSV file with the columns {columns}") from error
    return dict(peers)


def peer_columns(peers: Peers, recordings: Sequence[scoring.Recording], sets: Sequence[str]) -> str:
    """F50 and Foff of each peer, mean over ``sets`` of those of ``recordings`` in each; a dash if it lacks any."""
    wanted = {name: [(r.set_name, r.name) for r in recordings if r.set_name == name] for name in sets}
    text = ""
    for known in peers.values():
        means = "-"
        if all(key in known for keys in wanted.values() for key in keys):
            values = ({s: [known[key][k] for key in keys] for s, keys in wanted.items()} for k in PEER_SCORES)
            means = " / ".join(f"{scoring.mean_of_sets(v):.3f}" for v in values)
        text += f" | {means:>{PEER_WIDTH}s}"
    return text


def write_per_file(path: Path, label: str, scores: Sequence[evaluate.Score]) -> None:
    """One row a recording; onset error is the median in milliseconds."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["system", "set", "name", *scoring.SCORES, "onset_ms", "n_ref", "n_est"])
        for s in scores:
            error = "" if np.isnan(s.values["onset_ms"]) else f"{s.values['onset_ms']:.1f}"
            values = ["" if np.isnan(s.values[k]) else f"{s.values[k]:.4f}" for k in scoring.SCORES]
            writer.writerow([label, s.recording.set_name, s.recording.name, *values, error, s.n_ref, s.n_est])


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="REF_ROOT")
    parser.add_argument("--model", type=Path, help="ONNX file; the shipped one if omitted")
    parser.add_argument("--sets", type=names, help="comma-separated; all if omitted")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write DIR/<set>/<name>.mid")
    parser.add_argument("--per-file", type=Path, metavar="CSV", help="also write one row a recording")
    parser.add_argument("--peers", type=Path, metavar="CSV", help="per-file scores of other systems to print beside")
    parser.add_argument("--onset-threshold", type=float, help="the model's own if omitted, as the next two")
    parser.add_argument("--frame-threshold", type=float)
    parser.add_argument("--minimum-note-length", type=float, metavar="MS")
    parser.add_argument("--jobs", type=at_least_one, default=2, help="processes (default: %(default)s)")
    args = parser.parse_args()

    settings = TrackerSettings(
        onset_threshold=args.onset_threshold,
        frame_threshold=args.frame_threshold,
        minimum_note_length=args.minimum_note_length,
    )
    peers = load_peers(args.peers) if args.peers else {}
    recipe = batch.Recipe(settings, overwrite=True, model=args.model, threads=1)
    require("mir_eval", "evaluate", "scoring")
    model = recipe.load().model
    recordings = scoring.recordings(args.root, args.sets)
    with ExitStack() as stack:
        folder = args.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scores = transcribe_and_score(recordings, recipe, folder, args.jobs)
    print(evaluate.heading(evaluate.setup(model.name, model.sha256, settings.resolved(model.defaults))))
    means = evaluate.means(scores)
    header, *lines = evaluate.means_table(means)
    print(header + "".join(f" | {system:>{PEER_WIDTH}s}" for system in peers))
    for line, mean in zip(lines, means, strict=True):
        print(line + peer_columns(peers, recordings, mean.sets))
    if args.per_file:
        write_per_file(args.per_file, model.name, scores)


if __name__ == "__main__":  # workers import this module again
    main()
