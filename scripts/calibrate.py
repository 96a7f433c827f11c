"""Choose the note tracker's defaults on reference recordings, once for all instruments.

    python scripts/calibrate.py REF_ROOT --work work/calibrate [--model M] [--write]

The model runs over every recording once; its posteriors are kept under ``--work`` (float16, about 100 kB a second of
audio) and reused as long as the network is the same. The objective is the mean over sets of F50, each set counting
once, plus a small weight times Foff, which decides where F50 is flat. A coarse grid over the onset and frame
thresholds, then a search along each setting in turn with ever smaller steps.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import multiprocessing
import multiprocessing.pool
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from shared import QUIET, at_least_one, errors_in_one_line, names

from basic_transcribe import scoring
from basic_transcribe.audio import open_audio
from basic_transcribe.model import Model, default_model_path
from basic_transcribe.tracking import track_notes
from basic_transcribe.types import Posteriors, TrackerSettings

Point = dict[str, float]


class Range(NamedTuple):
    """Values a setting may take, and the first and last step of the search."""

    low: float
    high: float
    step: float
    finest: float


SEARCH = {
    "onset_threshold": Range(0.05, 0.95, 0.04, 0.01),
    "split_threshold": Range(0.05, 0.95, 0.04, 0.01),
    "frame_threshold": Range(0.05, 0.95, 0.04, 0.01),
    "minimum_note_length": Range(0.0, 200.0, 20.0, 5.0),
}
GRID = {"onset_threshold": np.arange(0.1, 0.95, 0.1), "frame_threshold": np.arange(0.1, 0.8, 0.2)}


class Score(NamedTuple):
    """Means over recordings of one set, or over sets."""

    f50: float
    foff: float


def network_digest(model: Path) -> str:
    """Digest of the graph alone, so that new thresholds in the metadata keep the posteriors valid."""
    return hashlib.sha256(onnx.load(str(model)).graph.SerializeToString(deterministic=True)).hexdigest()[:12]


@functools.cache
def loaded_model(path: Path) -> Model:
    """One per worker process."""
    return Model(path, threads=1)


def compute(recording: scoring.Recording, *, model: Path, folder: Path) -> Path:
    """Posteriors of one recording in an npz file, computed unless it exists for these bytes of the recording."""
    with recording.audio.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    path = folder / recording.set_name / f"{recording.name}.{digest}.tuned.npz"
    if not path.exists():
        net = loaded_model(model)
        with open_audio(recording.audio, target_rate=net.sample_rate, tuning=None, raises=True) as stream:
            posteriors = Posteriors.concatenate(list(net.posteriors(stream))).tuned(stream.tuning, stream.gain)
            duration = stream.samples_read / stream.rate
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(posteriors, name).astype(np.float16) for name in Posteriors.ARRAYS}
        partial = path.with_name(f"{path.stem}.partial.npz")
        np.savez(
            partial,
            **arrays,
            frame_rate=posteriors.frame_rate,
            lowest_pitch=posteriors.lowest_pitch,
            tuning=posteriors.tuning,
            duration=duration,
        )
        partial.replace(path)
    return path


def load(path: Path) -> tuple[Posteriors, float]:
    """Read what :func:`compute` wrote: posteriors, and the length of the recording in seconds."""
    with np.load(path) as data:
        arrays = {name: data[name].astype(np.float32) for name in Posteriors.ARRAYS}
        rate, lowest, tuning = (data[k].item() for k in ("frame_rate", "lowest_pitch", "tuning"))
        return Posteriors(**arrays, frame_rate=rate, lowest_pitch=lowest, tuning=tuning), data["duration"].item()


def score_points(item: tuple[scoring.Recording, Path], *, points: list[Point]) -> list[Score]:
    """F50 and Foff of one recording under each of ``points``."""
    recording, path = item
    (posteriors, duration), ref = load(path), scoring.load_reference(recording.reference)
    scores = []
    for point in points:
        est = scoring.from_notes(track_notes(posteriors, TrackerSettings(**point, pitch_bends=False), duration))
        matches = (scoring.count_matches(ref, est, offset_ratio=ratio) for ratio in (None, scoring.OFFSET_RATIO))
        scores.append(Score(*(scoring.f_measure(m, len(ref), len(est)) for m in matches)))
    return scores


class Objective:
    """Scores of settings over all recordings; every point is computed once.

    Attributes
    ----------
    sets : dict
        Point (as a sorted tuple of items) -> set -> :class:`Score`.
    """

    def __init__(self, items: list[tuple[scoring.Recording, Path]], pool: multiprocessing.pool.Pool, weight: float):
        self.items, self.pool, self.weight = items, pool, weight
        self.sets: dict[tuple[tuple[str, float], ...], dict[str, Score]] = {}

    def prepare(self, points: Iterable[Point]) -> None:
        """Score the points that are new, all of them in one pass over the recordings."""
        new = {key(p): p for p in points if key(p) not in self.sets}
        if not new:
            return
        work = functools.partial(score_points, points=list(new.values()))
        rows = self.pool.map(work, self.items, chunksize=1)
        for column, k in enumerate(new):
            by_set = defaultdict(list)
            for (recording, _), row in zip(self.items, rows, strict=True):
                by_set[recording.set_name].append(row[column])
            self.sets[k] = {s: Score(*np.mean(v, axis=0)) for s, v in by_set.items()}

    def mean(self, point: Point) -> Score:
        """Mean over sets."""
        return Score(*np.mean(list(self.sets[key(point)].values()), axis=0))

    def __call__(self, point: Point) -> float:
        """What is maximised."""
        mean = self.mean(point)
        return mean.f50 + self.weight * mean.foff

    def best(self, points: list[Point]) -> Point:
        """The best of ``points``, the first of equals."""
        self.prepare(points)
        best = max(points, key=self)
        self.report(best)
        return best

    def report(self, point: Point) -> None:
        mean = self.mean(point)
        settings = "  ".join(f"{k} {v:g}" for k, v in point.items())
        print(f"F50 {mean.f50:.4f}  Foff {mean.foff:.4f}  {settings}  ({len(self.sets)} points)", flush=True)


def key(point: Point) -> tuple[tuple[str, float], ...]:
    """Hashable form of a point, insensitive to rounding."""
    return tuple(sorted((k, round(v, 6)) for k, v in point.items()))


def search(objective: Objective, start: Point, names: list[str]) -> Point:
    """Grid over those of ``names`` in ``GRID``, then along each of ``names`` in turn with halving steps."""
    axes = {name: GRID[name] for name in names if name in GRID}
    grid = [start | dict(zip(axes, map(float, v), strict=True)) for v in itertools.product(*axes.values())]
    best = objective.best([start, *grid])
    steps = {name: SEARCH[name].step for name in names}
    while True:
        before = best
        for name, step in steps.items():
            low, high = SEARCH[name].low, SEARCH[name].high
            values = (round(min(high, max(low, best[name] + k * step)), 6) for k in (0, -2, -1, 1, 2))
            best = objective.best([best | {name: v} for v in values])
        if best == before:
            if all(step <= SEARCH[name].finest for name, step in steps.items()):
                return best
            steps = {name: max(step / 2, SEARCH[name].finest) for name, step in steps.items()}


def write_defaults(path: Path, point: Point) -> None:
    """Store the settings in the model's metadata, and renew its checksum."""
    from export import save  # brings torch, which only this needs

    model = onnx.load(str(path))
    properties = {p.key: p.value for p in model.metadata_props}
    meta = json.loads(properties["basic_transcribe"])
    meta["defaults"] |= point
    onnx.helper.set_model_props(model, properties | {"basic_transcribe": json.dumps(meta)})
    save(model, path)


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="REF_ROOT")
    parser.add_argument("--work", type=Path, required=True, help="folder for the posteriors")
    parser.add_argument("--model", type=Path, default=default_model_path(), help="default: the shipped one")
    parser.add_argument("--sets", type=names, help="comma-separated; all if omitted")
    parser.add_argument("--search", type=names, default=list(SEARCH), help=f"of {','.join(SEARCH)}")
    parser.add_argument("--offset-weight", type=float, default=0.1, help="weight of Foff (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, help="JSON; WORK/best.json if omitted")
    parser.add_argument("--write", action="store_true", help="store the result in the model file")
    parser.add_argument("--jobs", type=at_least_one, default=2, help="processes (default: %(default)s)")
    args = parser.parse_args()
    if unknown := set(args.search) - set(SEARCH):
        parser.error(f"--search knows {', '.join(SEARCH)}, not {', '.join(sorted(unknown))}")

    found = scoring.recordings(args.root, args.sets)
    defaults = Model(args.model, threads=1).defaults
    with multiprocessing.get_context("spawn").Pool(args.jobs, *QUIET) as pool:
        work = functools.partial(compute, model=args.model, folder=args.work / network_digest(args.model))
        items = list(zip(found, pool.map(work, found, chunksize=1), strict=True))
        objective = Objective(items, pool, args.offset_weight)
        fixed = {k: float(v) for k, v in defaults.items()}
        objective.best([fixed])
        best = search(objective, fixed, args.search)
    for name, score in objective.sets[key(best)].items():
        was = objective.sets[key(fixed)][name]
        print(f"{name:15s} F50 {was.f50:.3f} -> {score.f50:.3f}   Foff {was.foff:.3f} -> {score.foff:.3f}")
    mean = objective.mean(best)
    result = {"defaults": best, "f50": round(mean.f50, 4), "foff": round(mean.foff, 4), "model": str(args.model)}
    output = args.output or args.work / "best.json"
    output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["defaults"]))
    if args.write:
        write_defaults(args.model, best)


if __name__ == "__main__":
    main()
