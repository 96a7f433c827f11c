"""Regenerate what tests/test_notes.py compares the note tracker with. Only when the tracker is meant to change.

    python scripts/make_goldens.py               # tests/golden/notes.json from the stored posteriors
    python scripts/make_goldens.py --posteriors  # and the posteriors too, from the shipped model

Look at the difference before committing it. The posteriors are those of the first seconds of tests/data/guitar.flac,
cropped to its pitches and rounded, so that the file is small; they need not be renewed with every model.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from basic_transcribe import exports
from basic_transcribe.pipeline import Transcriber
from basic_transcribe.tracking import track_notes
from basic_transcribe.types import Posteriors, TrackerSettings

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
SECONDS = 4.0
PITCHES = range(45, 81)
SETTINGS = TrackerSettings(
    onset_threshold=0.46,
    split_threshold=0.61,
    frame_threshold=0.3,
    onset_delay=0.0,
    minimum_note_length=35.0,
    monophonic=False,
)


def make_posteriors() -> Posteriors:
    """Posteriors of the guitar recording, cropped and rounded (probabilities to 1/64, levels to 1 dB)."""
    whole = Transcriber().transcribe(ROOT / "tests" / "data" / "guitar.flac", keep_posteriors=True).posteriors
    if whole is None:
        raise SystemExit("the recording is empty")
    p = whole.slice(0, round(SECONDS * whole.frame_rate))
    first, last = (k - p.lowest_pitch for k in (PITCHES.start, PITCHES.stop))
    cut = {"contour": slice(first * p.bins_per_semitone, last * p.bins_per_semitone)}
    step = {"level": 1.0}
    arrays = {}
    for name in Posteriors.ARRAYS:
        size = step.get(name, 1 / 64)
        arrays[name] = (np.round(getattr(p, name)[:, cut.get(name, slice(first, last))] / size) * size).astype(
            np.float32
        )
    return replace(p, **arrays, lowest_pitch=PITCHES.start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posteriors", action="store_true", help="renew the posteriors too")
    args = parser.parse_args()
    GOLDEN.mkdir(exist_ok=True)
    path = GOLDEN / "posteriors.npz"
    if args.posteriors:
        path.write_bytes(exports.posteriors_to_npz(make_posteriors()))
    posteriors = exports.load_posteriors(path)
    duration = len(posteriors) / posteriors.frame_rate
    notes = [
        {
            "onset": round(n.onset, 5),
            "offset": round(n.offset, 5),
            "pitch": n.pitch,
            "velocity": n.velocity,
            "confidence": round(n.confidence, 4),
            "mean_bend": None if n.bend is None else round(float(np.mean(n.bend.semitones)), 4),
        }
        for n in track_notes(posteriors, SETTINGS, duration)
    ]
    settings = {k: v for k, v in asdict(SETTINGS).items() if v is not None}
    content = {"settings": settings, "duration": duration, "notes": notes}
    (GOLDEN / "notes.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"{len(notes)} notes, {path.stat().st_size / 1000:.0f} kB of posteriors")


if __name__ == "__main__":
    main()
