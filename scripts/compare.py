"""Say by how much two models differ, recording by recording, and how sure that is.

    basic-transcribe evaluate DEV --model a.onnx --json a.json
    basic-transcribe evaluate DEV --model b.onnx --json b.json
    python scripts/compare.py a.json b.json

Prints the mean of b's scores minus a's, in thousandths, with its standard error over recordings, for each set and the
mean of sets. Of two folders all ``*.json`` of the same names are compared, as of the conditions of disturb.py; the
differences of a recording that is in several of them are averaged first.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from shared import errors_in_one_line

from basic_transcribe.errors import UsageError

SCORES = ("F50", "Foff", "Fbend", "Fframe")

Scores = dict[tuple[str, str, str], list[float]]
"""Of each file, set and recording."""


def load(path: Path) -> Scores:
    """Scores of an evaluation, or of a folder of them.

    Raises
    ------
    UsageError
        If there is none, or a file is not one.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{path}: no *.json; give what evaluate --json writes")
    scores = {}
    for file in files:
        try:
            for row in json.loads(file.read_text("utf-8"))["recordings"]:
                key = (file.name if path.is_dir() else "", row["set"], row["name"])
                scores[key] = [float(row[name]) for name in SCORES]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{file}: no evaluation; give what evaluate --json writes") from error
    return scores


def differences(a: Scores, b: Scores) -> dict[str, np.ndarray]:
    """By how much ``b`` is above ``a``, for each set; one row per recording, whatever the number of files it is in."""
    found: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for key in sorted(a.keys() & b.keys()):
        _, set_name, name = key
        found[set_name][name].append(np.subtract(b[key], a[key]))
    return {
        set_name: np.array([np.mean(rows, axis=0) for rows in recordings.values()])
        for set_name, recordings in found.items()
    }


def summary(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of the columns, and their standard errors; NaN of a single row."""
    deviation = rows.std(axis=0, ddof=1) if len(rows) > 1 else np.full(rows.shape[1], np.nan)
    return rows.mean(axis=0), deviation / np.sqrt(len(rows))


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="A.json|FOLDER")
    parser.add_argument("b", type=Path, metavar="B.json|FOLDER")
    args = parser.parse_args()
    a, b = load(args.a), load(args.b)
    found = differences(a, b)
    if not found:
        raise UsageError(f"{args.a}, {args.b}: no recording is in both; evaluate both models on the same recordings")
    if alone := len(a.keys() ^ b.keys()):
        print(f"{alone} left out, scored for one model only")

    def line(name: str, count: int, means: np.ndarray, errors: np.ndarray) -> None:
        cells = "".join(f"{1000 * m:+9.1f} ({1000 * e:4.1f})" for m, e in zip(means, errors, strict=True))
        print(f"{name:24} {count:5}{cells}")

    print(f"{'set':24} {'n':>5}{''.join(f'{name:>9}       ' for name in SCORES)}".rstrip())
    each = {name: summary(rows) for name, rows in found.items()}
    for name, (means, errors) in each.items():
        line(name, len(found[name]), means, errors)
    if len(each) > 1:
        means = np.mean([m for m, _ in each.values()], axis=0)
        errors = np.sqrt(np.sum([e**2 for _, e in each.values()], axis=0)) / len(each)
        line("MEAN OF SETS", sum(map(len, found.values())), means, errors)


if __name__ == "__main__":
    main()
