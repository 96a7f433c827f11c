"""What the presets gain on recordings of their instruments, and which thresholds would suit each best.

    python scripts/tune_presets.py REF_ROOT --work work/calibrate

For each preset with recordings: F50 and Foff without it, with it, with the best thresholds of a coarse grid around the
model's defaults, and, since those were chosen on the same recordings, with thresholds chosen on every other recording
and scored on the rest, both ways round. Posteriors are computed once and kept under ``--work``, as by calibrate.py.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
from calibrate import compute, load, network_digest
from shared import QUIET, at_least_one, errors_in_one_line, names

from basic_transcribe import scoring
from basic_transcribe.model import Model, default_model_path
from basic_transcribe.presets import PRESETS, Preset
from basic_transcribe.shaping import shape
from basic_transcribe.tracking import track_notes
from basic_transcribe.types import TrackerSettings

SETS = {
    "guitar": ("guitarset_p04",),
    "harmonica": ("harmonica_a",),
    "kalimba": ("kalimba",),
    "piano": ("maps_am", "omaps_a"),
    "violin": ("violin_dev",),
    "voice": ("ssvd_dev",),
}
STEPS = {
    "onset_threshold": (-0.16, -0.08, 0.0, 0.08, 0.16),
    "split_threshold": (-0.15, 0.0, 0.15),
    "frame_threshold": (-0.1, 0.0, 0.1),
    "minimum_note_length": (0.0, 40.0),
}


def scores(item: tuple[scoring.Recording, Path], *, settings: list[Preset]) -> np.ndarray:
    """F50 and Foff of one recording, shape (settings, 2)."""
    recording, path = item
    (posteriors, duration), ref = load(path), scoring.load_reference(recording.reference)
    rows = []
    for preset in settings:
        notes = track_notes(posteriors, replace(preset.tracker, pitch_bends=False), duration)
        est = scoring.from_notes(shape(notes, preset.shape).notes)
        matches = (scoring.count_matches(ref, est, offset_ratio=ratio) for ratio in (None, scoring.OFFSET_RATIO))
        rows.append([scoring.f_measure(m, len(ref), len(est)) for m in matches])
    return np.array(rows)


def mean_of_sets(values: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Means of (settings, recordings, 2) over recordings, each set counting once."""
    return np.mean([values[:, sets == name].mean(1) for name in np.unique(sets)], axis=0)


def best(values: np.ndarray, sets: np.ndarray) -> int:
    """Index of the settings with the highest mean; Foff decides where F50 is flat."""
    return int(np.argmax(mean_of_sets(values, sets) @ [1, 0.1]))


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="REF_ROOT")
    parser.add_argument("--work", type=Path, required=True, help="folder for the posteriors")
    parser.add_argument("--model", type=Path, default=default_model_path(), help="default: the shipped one")
    parser.add_argument("--presets", type=names, default=list(SETS), help="comma-separated")
    parser.add_argument("--jobs", type=at_least_one, default=2, help="processes (default: %(default)s)")
    args = parser.parse_args()
    if unknown := set(args.presets) - set(SETS):
        parser.error(f"--presets knows {', '.join(SETS)}, not {', '.join(sorted(unknown))}")
    defaults = Model(args.model, threads=1).defaults
    with multiprocessing.get_context("spawn").Pool(args.jobs, *QUIET) as pool:
        for name in args.presets:
            found = scoring.recordings(args.root, SETS[name])
            work = functools.partial(compute, model=args.model, folder=args.work / network_digest(args.model))
            items = list(zip(found, pool.map(work, found, chunksize=1), strict=True))
            preset = PRESETS[name]
            settings = [
                Preset(TrackerSettings().resolved(defaults)),
                replace(preset, tracker=preset.tracker.resolved(defaults)),
            ]
            for step in itertools.product(*STEPS.values()):
                moved = {k: min(max(defaults[k] + s, 0.05), 1000 if "length" in k else 0.95)
                         for k, s in zip(STEPS, step, strict=True)}  # fmt: skip
                settings.append(replace(preset, tracker=replace(preset.tracker, **moved).resolved(defaults)))
            rows = pool.map(functools.partial(scores, settings=settings), items, chunksize=1)
            values, sets = np.stack(rows, axis=1), np.array([r.set_name for r in found])
            half = np.arange(len(items)) % 2 == 1
            crossed = np.empty(values.shape[1:])
            for here, there in ((half, ~half), (~half, half)):
                crossed[there] = values[best(values[:, here], sets[here]), there]
            chosen = best(values, sets)
            means = mean_of_sets(values, sets)
            line = "   ".join(
                f"{what} {f50:.3f} / {foff:.3f}"
                for what, (f50, foff) in (
                    ("without", means[0]),
                    ("with", means[1]),
                    ("best", means[chosen]),
                    ("best, crossed", mean_of_sets(crossed[None], sets)[0]),
                )
            )
            tracker = settings[chosen].tracker
            print(f"{name:10s} {line}   " + " ".join(f"{k} {getattr(tracker, k):.2f}" for k in STEPS), flush=True)


if __name__ == "__main__":
    main()
