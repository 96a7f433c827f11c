"""Scores of many recordings: for each, for each set of them, and over all sets; as a table and as JSON."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from . import scoring
from .errors import TranscribeError, printable
from .plan import Job
from .scoring import Recording
from .types import TrackerSettings

JSON_FORMAT = "basic_transcribe.evaluation"
JSON_BEGINNING = f'{{\n "format": "{JSON_FORMAT}",\n'.encode()
"""Of all that :func:`to_json` returns."""
JSON_VERSION = 1
ESTIMATE_EXTENSIONS = (".mid", ".midi", ".csv")
ONSET_ERRORS = ("onset_ms", "onset_sd_ms")
NAME_WIDTH = 15


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of one recording.

    Attributes
    ----------
    recording : Recording
    values : dict of str to float
        Keys as :data:`scoring.SCORES`, and the median and standard deviation of ``onset_errors`` in milliseconds as
        :data:`ONSET_ERRORS`; nan where undefined.
    onset_errors : ndarray of float, shape (matched,)
        Estimated minus reference onset in seconds, of the notes matched within 100 ms.
    n_ref, n_est : int
        Numbers of notes.
    """

    recording: Recording
    values: dict[str, float]
    onset_errors: scoring.Float
    n_ref: int
    n_est: int


@dataclass(frozen=True, slots=True)
class Mean:
    """Means over the recordings of a set, or over several sets, each counting once.

    Attributes
    ----------
    name : str
    sets : tuple of str
        What the mean is over.
    count : int
        How many recordings they have.
    values : dict of str to float
        As of :class:`Score`, but the onset errors of a set are those of all its notes together.
    """

    name: str
    sets: tuple[str, ...]
    count: int
    values: dict[str, float]


def jobs(recordings: Sequence[Recording], folder: Path) -> list[Job]:
    """What to transcribe, each to ``folder/<set>/<name>.mid``."""
    paths = [(r.audio, folder / r.set_name / r.name) for r in recordings]
    return [Job(audio, path.parent, path.name, str(audio)) for audio, path in paths if audio is not None]


def given_estimate(recording: Recording, folder: Path) -> Path:
    """The file below ``folder`` that holds the estimated notes of a recording, in whatever Unicode form its name is.

    It has the name of the recording, or else that with its extension: ``a.mid`` or ``a.flac.mid``.

    Raises
    ------
    TranscribeError
        If there is none, or it is the reference.
    """
    stem = Path(recording.set_name, recording.name)
    stems = [stem] if recording.audio is None else [stem, stem.with_name(recording.audio.name)]
    endings = [ending for extension in ESTIMATE_EXTENSIONS for ending in (extension, extension.upper())]
    for one, ending in product(stems, endings):
        for path in (folder / form for form in _forms(one.with_name(one.name + ending))):
            if path.is_file():
                if path.samefile(recording.reference):
                    raise TranscribeError(f"{path}: this estimate is the reference itself; give another folder")
                return path
    raise TranscribeError(f"no estimate {folder / stem}{' nor '.join(ESTIMATE_EXTENSIONS)}; put one there")


def _forms(path: Path) -> Iterator[Path]:
    """A path as it is, and with names in the Unicode forms in which systems write them."""
    forms = ((part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD"))) for part in path.parts)
    return (Path(*parts) for parts in product(*map(dict.fromkeys, forms)))


def score(recording: Recording, estimate: Path) -> Score:
    """Compare the notes of a file with the reference.

    Raises
    ------
    TranscribeError
        If either cannot be read.
    """
    ref, est = scoring.load_reference(recording.reference), scoring.load_notes(estimate, estimated=True)
    errors = scoring.onset_errors(ref, est)
    return Score(recording, scoring.all_scores(ref, est) | _timing(errors), errors, len(ref), len(est))


def means(scores: Sequence[Score]) -> list[Mean]:
    """One for each set and, if there are several, one over them; the last is over everything."""
    sets: dict[str, list[Score]] = {}
    for one in scores:
        sets.setdefault(one.recording.set_name, []).append(one)
    rows = []
    for name, group in sets.items():
        values = {key: scoring.mean_of_sets({name: [s.values[key] for s in group]}) for key in scoring.SCORES}
        values |= _timing(np.concatenate([s.onset_errors for s in group]))
        rows.append(Mean(name if len(sets) > 1 else "MEAN", (name,), len(group), values))
    if len(sets) > 1:
        values = {k: scoring.mean_of_sets({r.name: [r.values[k]] for r in rows}) for k in rows[0].values}
        rows.append(Mean("MEAN OF SETS", tuple(sets), len(scores), values))
    return rows


def _timing(errors: scoring.Float) -> dict[str, float]:
    values = (1000 * np.median(errors), 1000 * np.std(errors)) if len(errors) else (np.nan, np.nan)
    return dict(zip(ONSET_ERRORS, map(float, values), strict=True))


# -------------------------------------------------------------------------------------------------------------- output


def setup(model: str, sha256: str, tracker: TrackerSettings) -> dict[str, Any]:
    """What the estimates were made with, for :func:`heading` and :func:`to_json`; defaults are to be filled in."""
    return {"model": model, "sha256": sha256, "settings": asdict(tracker)}


def heading(setup: Mapping[str, Any]) -> str:
    """The same as a line for people."""
    numbers = {k: v for k, v in setup["settings"].items() if v is not None and not isinstance(v, bool)}
    settings = [f"{key.replace('_', ' ')} {value}" for key, value in numbers.items()]
    return f"{setup['model']}, sha256 {setup['sha256'][:12]}, {', '.join(settings)}"


def recordings_table(scores: Sequence[Score]) -> list[str]:
    """A line for each recording, ``notes`` being those of the reference, below a line of names."""
    names = [Path(s.recording.set_name, s.recording.name).as_posix() for s in scores]
    rows = zip(names, (s.n_ref for s in scores), (s.values for s in scores), strict=True)
    return _table("recording", "notes", list(rows))


def means_table(rows: Sequence[Mean]) -> list[str]:
    """A line for each mean, ``n`` being its recordings, below a line of names."""
    return _table("set", "n", [(row.name, row.count, row.values) for row in rows])


def _table(title: str, unit: str, rows: Sequence[tuple[str, int, Mapping[str, float]]]) -> list[str]:
    names = [printable(name) for name, _, _ in rows]
    width = max(map(len, (NAME_WIDTH * " ", *names)))
    lines = [f"{title:{width}s} {unit:>5s} {' '.join(f'{k:>6s}' for k in scoring.SCORES)}  onset ms (sd)"]
    for name, (_, count, values) in zip(names, rows, strict=True):
        columns = " ".join(f"{'-' if np.isnan(values[k]) else f'{values[k]:.3f}':>6s}" for k in scoring.SCORES)
        bias, spread = (values[key] for key in ONSET_ERRORS)
        timing = "-" if np.isnan(bias) else f"{bias:+.0f} ({spread:3.0f})"
        lines.append(f"{name:{width}s} {count:5d} {columns}  {timing:>13s}")
    return lines


def to_json(
    scores: Sequence[Score], failures: Sequence[tuple[str, str]], *, source: Mapping[str, Any], reference: Path
) -> str:
    """Everything known of an evaluation, as a JSON object.

    Parameters
    ----------
    scores : sequence of Score
    failures : sequence of (str, str)
        What could not be scored, and why.
    source : mapping
        Where the estimates are from: :func:`setup`, or ``estimates``, their folder.
    reference : Path
        Folder of the references.

    Returns
    -------
    str
        ASCII only; null where a score is undefined.
    """
    rows = means(scores)
    content = {
        "format": JSON_FORMAT,
        "version": JSON_VERSION,
        "reference": str(reference),
        **source,
        "recordings": [
            {
                "set": s.recording.set_name,
                "name": s.recording.name,
                "n_ref": s.n_ref,
                "n_est": s.n_est,
                **_defined(s.values),
            }
            for s in scores
        ],
        "sets": {row.sets[0]: {"n": row.count, **_defined(row.values)} for row in rows if len(row.sets) == 1},
        "mean": _defined(rows[-1].values) if rows else None,
        "failures": [{"path": path, "reason": reason} for path, reason in failures],
    }
    return json.dumps(content, ensure_ascii=True, allow_nan=False, indent=1) + "\n"


def _defined(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: None if np.isnan(value) else round(value, 6) for key, value in values.items()}
