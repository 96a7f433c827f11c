"""Scores of a transcription against reference notes, for ``evaluate.py``, ``calibrate.py`` and training.

Conventions: times in seconds, pitches in (possibly fractional) MIDI note numbers, tolerances as in
``mir_eval.transcription``: 50 cents, onsets within 50 ms, offsets within the larger of 50 ms and 20 % of the
reference note.

``note_scores`` calls mir_eval. ``count_matches`` finds the same number of matches without its dense note-by-note
matrices, for searches over settings and for long recordings.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pretty_midi

    from basic_transcribe.types import Note

Float = NDArray[np.float64]

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")
CENTS = 50.0
MIN_OFFSET_TOLERANCE = 0.05
OFFSET_RATIO = 0.2
SHORTEST = 0.001  # estimated notes are made at least this long, since mir_eval refuses empty intervals
FRAME_STEP = 0.01
DECIMALS = 4  # mir_eval rounds time differences so that exactly 50 ms still matches


@dataclass(frozen=True, slots=True, eq=False)
class Notes:
    """Reference or estimated notes as columns.

    Attributes
    ----------
    intervals : ndarray of float, shape (n, 2)
        Onsets and offsets in seconds.
    pitch : ndarray of float, shape (n,)
        MIDI note numbers; fractional only in references.
    sounding : ndarray of float, shape (n,)
        ``pitch`` plus the mean pitch bend over the note.
    velocity : ndarray of float, shape (n,), or None
        1 to 127.
    """

    intervals: Float
    pitch: Float
    sounding: Float
    velocity: Float | None = None

    def __len__(self) -> int:
        return len(self.pitch)


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording of an evaluation set: its audio and its reference."""

    set_name: str
    name: str
    audio: Path
    reference: Path


def recordings(root: Path, sets: Sequence[str] | None = None) -> list[Recording]:
    """All ``root/<set>/<name>.csv`` with the audio file of the same stem, sorted.

    Raises
    ------
    FileNotFoundError
        If a set has no references, or a reference has no audio.
    """
    found = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir()) if sets is None else [root / s for s in sets]:
        references = sorted(folder.glob("*.csv"))
        if not references and sets is not None:
            raise FileNotFoundError(f"no references (*.csv) in {folder}")
        for reference in references:
            stem = reference.name.removesuffix(".csv")
            audio = [p for s in AUDIO_SUFFIXES if (p := folder / (stem + s)).exists()]
            if not audio:
                raise FileNotFoundError(f"{reference} has no recording beside it ({', '.join(AUDIO_SUFFIXES)})")
            found.append(Recording(folder.name, stem, audio[0], reference))
    if not found:
        raise FileNotFoundError(f"no folder with references (*.csv) in {root}")
    return found


def load_reference(path: Path) -> Notes:
    """Read ``onset_s,offset_s,midi_pitch[,velocity]`` with a header line."""
    table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    velocity = table[:, 3] if table.shape[1] > 3 else None
    return Notes(table[:, :2], table[:, 2], table[:, 2], velocity)


def load_midi(source: str | BinaryIO) -> Notes:
    """Read the notes of a MIDI file as a synthesiser would play them; drums are ignored."""
    import pretty_midi

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        midi = pretty_midi.PrettyMIDI(source)
    rows: list[tuple[float, ...]] = []
    for instrument in (i for i in midi.instruments if not i.is_drum and i.notes):
        start = np.array([n.start for n in instrument.notes])
        end = np.array([n.end for n in instrument.notes])
        pitch = np.array([n.pitch for n in instrument.notes], float)
        velocity = np.array([n.velocity for n in instrument.notes], float)
        rows += zip(start, end, pitch, pitch + mean_bends(instrument, start, end), velocity, strict=True)
    table = np.array(sorted(rows), float).reshape(-1, 5)
    table[:, 1] = np.maximum(table[:, 1], table[:, 0] + SHORTEST)
    return Notes(table[:, :2], table[:, 2], table[:, 3], table[:, 4])


def from_notes(notes: Sequence[Note]) -> Notes:
    """Columns of transcribed notes, without a MIDI file in between."""
    table = np.array([(n.onset, n.offset, n.pitch, n.velocity) for n in notes], float).reshape(-1, 4)
    sounding = table[:, 2] + [0.0 if n.bend is None else float(np.mean(n.bend.semitones)) for n in notes]
    table[:, 1] = np.maximum(table[:, 1], table[:, 0] + SHORTEST)
    return Notes(table[:, :2], table[:, 2], sounding, table[:, 3])


def bend_range(instrument: pretty_midi.Instrument) -> float:
    """Pitch-bend range in semitones: the last value of RPN 0, or 2."""
    semitones, latest = 2.0, {}
    for change in sorted(instrument.control_changes, key=lambda c: c.time):
        latest[change.number] = change.value
        if change.number == 6 and latest.get(101) == 0 and latest.get(100) == 0:
            semitones = float(change.value)
    return semitones


def mean_bends(instrument: pretty_midi.Instrument, start: Float, end: Float) -> Float:
    """Mean pitch bend of an instrument in semitones over each interval; the bend is a step function of time.

    Parameters
    ----------
    instrument : pretty_midi.Instrument
        Its bends and, for their range, its control changes.
    start, end : ndarray of float, shape (n,)
        Seconds.
    """
    bends = sorted(instrument.pitch_bends, key=lambda b: b.time)
    if not bends:
        return np.zeros(len(start))
    time = np.array([b.time for b in bends])
    value = np.array([b.pitch for b in bends]) / 8192 * bend_range(instrument)
    area = np.concatenate([[0.0], np.cumsum(value[:-1] * np.diff(time))])  # integral up to each change

    def integral(t: Float) -> Float:
        i = np.searchsorted(time, t, side="right") - 1
        return np.where(i >= 0, area[i] + value[i] * (t - time[i]), 0.0)

    return np.asarray((integral(end) - integral(start)) / np.maximum(end - start, 1e-6))


def hertz(pitch: Float) -> Float:
    """Frequencies of MIDI note numbers."""
    return 440.0 * 2 ** ((pitch - 69) / 12)


def note_scores(ref: Notes, est: Notes) -> dict[str, float]:
    """P, R and F50 at 50 ms, F100 at 100 ms, Foff with offsets, Fbend on the sounding pitch; mir_eval's definitions."""
    from mir_eval.transcription import precision_recall_f1_overlap

    if not len(est) or not len(ref):
        return dict.fromkeys(("P", "R", "F50", "F100", "Foff", "Fbend"), 0.0)

    def prf(pitch: Float, tolerance: float, offset_ratio: float | None) -> tuple[float, float, float]:
        notes = ref.intervals, hertz(ref.pitch), est.intervals, hertz(pitch)
        p, r, f, _ = precision_recall_f1_overlap(*notes, onset_tolerance=tolerance, offset_ratio=offset_ratio)
        return p, r, f

    p, r, f50 = prf(est.pitch, 0.05, None)
    return {
        "P": p,
        "R": r,
        "F50": f50,
        "F100": prf(est.pitch, 0.1, None)[2],
        "Foff": prf(est.pitch, 0.05, OFFSET_RATIO)[2],
        "Fbend": prf(est.sounding, 0.05, None)[2],
    }


def velocity_scores(ref: Notes, est: Notes) -> dict[str, float]:
    """F50 with velocity (``mir_eval.transcription_velocity``) and Pearson's r of the velocities of matched notes.

    Both are nan without reference velocities, r also where it is undefined: fewer than three notes, or one velocity.
    """
    if ref.velocity is None or est.velocity is None:
        return {"Fvel": np.nan, "rvel": np.nan}
    if not len(est) or not len(ref):
        return {"Fvel": 0.0, "rvel": np.nan}
    from mir_eval.transcription_velocity import precision_recall_f1_overlap

    fvel = precision_recall_f1_overlap(
        ref.intervals,
        hertz(ref.pitch),
        ref.velocity,
        est.intervals,
        hertz(est.pitch),
        est.velocity,
        offset_ratio=None,
    )[2]
    i, j = match(ref, est)
    a, b = ref.velocity[i], est.velocity[j]
    defined = len(a) > 2 and a.std() > 0 and b.std() > 0
    return {"Fvel": fvel, "rvel": float(np.corrcoef(a, b)[0, 1]) if defined else np.nan}


def piano_roll_frames(notes: Notes, count: int) -> list[Float]:
    """Frequencies in Hz that sound at each of ``count`` times, ``FRAME_STEP`` apart from 0."""
    frames: list[list[float]] = [[] for _ in range(count)]
    edges = np.ceil(np.round(notes.intervals / FRAME_STEP, 6)).astype(int)  # first frame at or after
    for (first, last), frequency in zip(edges, hertz(notes.pitch), strict=True):
        for frame in frames[first:last]:
            frame.append(frequency)
    return [np.array(frame) for frame in frames]


def frame_score(ref: Notes, est: Notes) -> float:
    """F-measure of ``mir_eval.multipitch`` at 10 ms, over all frames of the longer of the two."""
    from mir_eval.multipitch import metrics

    ends = [n.intervals.max() for n in (ref, est) if len(n)]
    count = int(max(ends, default=0.0) / FRAME_STEP) + 1
    times = np.arange(count) * FRAME_STEP
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mir_eval warns of silence
        precision, recall = metrics(times, piano_roll_frames(ref, count), times, piano_roll_frames(est, count))[:2]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def onset_errors(ref: Notes, est: Notes, tolerance: float = 0.1) -> Float:
    """Estimated minus reference onset of matched notes in seconds; a wide tolerance, so that a bias shows."""
    i, j = match(ref, est, tolerance)
    return np.asarray(est.intervals[j, 0] - ref.intervals[i, 0])


def match(
    ref: Notes, est: Notes, onset_tolerance: float = 0.05, offset_ratio: float | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """A largest set of one-to-one matches by onset, pitch and, with ``offset_ratio``, offset.

    Hopcroft and Karp's algorithm on the sparse graph of admissible pairs. As many matches as ``mir_eval`` finds; which
    of several largest sets is arbitrary there and here.

    Returns
    -------
    i, j : ndarray of int, shape (matches,)
        Indices into ``ref`` and ``est``.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    order = np.argsort(est.intervals[:, 0], kind="stable")
    onset = est.intervals[order, 0]
    margin = onset_tolerance + 10.0**-DECIMALS  # the exact comparison follows
    first = np.searchsorted(onset, ref.intervals[:, 0] - margin)
    last = np.searchsorted(onset, ref.intervals[:, 0] + margin, side="right")
    i = np.repeat(np.arange(len(ref)), last - first)
    j = order[np.arange(len(i)) - np.repeat(np.cumsum(last - first) - last, last - first)]

    def near(column: int, tolerance: float | Float) -> NDArray[np.bool_]:
        distance = np.abs(ref.intervals[i, column] - est.intervals[j, column])
        return np.asarray(np.around(distance, DECIMALS) <= tolerance)

    # In Hz and back, as mir_eval does: exactly 50 cents falls on either side of the limit by rounding.
    cents = 1200 * np.abs(np.log2(hertz(ref.pitch))[i] - np.log2(hertz(est.pitch))[j])
    admissible = (cents <= CENTS) & near(0, onset_tolerance)
    if offset_ratio is not None:
        duration = np.diff(ref.intervals[i], axis=1)[:, 0]
        admissible &= near(1, np.maximum(offset_ratio * duration, MIN_OFFSET_TOLERANCE))
    i, j = i[admissible], j[admissible]
    if not len(i):
        return i, j
    graph = csr_array((np.ones(len(i), np.int8), (i, j)), shape=(len(ref), len(est)))
    matched = maximum_bipartite_matching(graph, perm_type="column")
    hit = np.flatnonzero(matched >= 0)
    return hit, matched[hit]


def count_matches(ref: Notes, est: Notes, onset_tolerance: float = 0.05, offset_ratio: float | None = None) -> int:
    """Number of matched notes; see :func:`match`."""
    return len(match(ref, est, onset_tolerance, offset_ratio)[0])


def f_measure(matches: int, n_ref: int, n_est: int) -> float:
    """F-measure of ``matches`` between ``n_ref`` and ``n_est`` notes; 0 where mir_eval says 0."""
    return 2 * matches / (n_ref + n_est) if matches else 0.0


def mean_of_sets(values: dict[str, Sequence[float]]) -> float:
    """Mean over sets of the means over their recordings; nan is left out, and so is a set of nothing else."""
    means = [np.nanmean(v) for v in values.values() if not np.all(np.isnan(v))]
    return float(np.mean(means)) if means else np.nan
