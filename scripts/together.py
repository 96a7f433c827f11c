"""Have recordings of different sets sound together, to measure what transcribers make of real ensembles.

    python scripts/together.py REF_ROOT OUT [--parts 2] [--clips 2] [--seconds 25] [--seed 1]
    basic-transcribe evaluate OUT

Writes ``OUT/<a>+<b>/<number>.flac`` for every choice of ``--parts`` sets of REF_ROOT: a recording drawn from each, all
equally loud (RMS), from their beginnings to the end of the shortest. The reference beside it has the notes of all.
What plays together was not played together: keys, tempi and tunings differ, which no ensemble's do; the sounds, rooms
and references are real.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
from disturb import RATE, Array, played_until, read, rms, write
from shared import at_least_one, errors_in_one_line

from basic_transcribe import scoring
from basic_transcribe.errors import UsageError

LOUDNESS = 0.07  # RMS of each part, full scale 1.0; files that would clip are softer


def mix(parts: list[tuple[Array, scoring.Notes]]) -> tuple[Array, scoring.Notes]:
    """Recordings and their notes as one. Velocities, which mean something else in each, are left out."""
    samples = min(len(x) for x, _ in parts)
    heard = [played_until(notes, samples / RATE) for _, notes in parts]
    pitch, sounding = (np.concatenate([getattr(notes, name) for notes in heard]) for name in ("pitch", "sounding"))
    intervals = np.concatenate([notes.intervals for notes in heard])
    order = np.lexsort((pitch, intervals[:, 0]))
    x = np.sum([part[:samples] * (LOUDNESS / rms(part[:samples])) for part, _ in parts], axis=0)
    return x, scoring.Notes(intervals[order], pitch[order], sounding[order])


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="REF_ROOT")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--parts", type=at_least_one, default=2, help="in each clip (default: %(default)s)")
    parser.add_argument("--clips", type=at_least_one, default=2, help="of each choice of sets (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=25.0, help="of each clip at most (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    sets = defaultdict(list)
    for recording in scoring.recordings(args.root):
        sets[recording.set_name].append(recording)
    choices = list(combinations(sorted(sets), args.parts))
    if not choices:
        raise UsageError(f"{args.root}: --parts {args.parts} takes as many sets, not {len(sets)}; give fewer")
    rng = np.random.default_rng(args.seed)
    for choice in choices:
        for number in range(args.clips):
            drawn = [sets[name][rng.integers(len(sets[name]))] for name in choice]
            parts = [(read(r.audio, args.seconds), scoring.load_reference(r.reference)) for r in drawn]
            write(args.out / "+".join(choice) / f"{number}.flac", *mix(parts))
    print(f"{args.out}: {len(choices) * args.clips} clips of {args.parts} recordings each")


if __name__ == "__main__":
    main()
