"""Reference notes, and how well estimated ones agree with them.

Conventions: times in seconds, pitches in (possibly fractional) MIDI note numbers, tolerances as in
``mir_eval.transcription``: 50 cents, onsets within 50 ms, offsets within the larger of 50 ms and 20 % of the
reference note. The figures are mir_eval's, found without its dense note-by-note matrices and without matching each
frame anew, so that hours of music can be scored.
"""

from __future__ import annotations

import csv
import json
import os
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .audio import AUDIO_EXTENSIONS, AV_EXTENSIONS
from .errors import TranscribeError, printable
from .exports import CSV_HEADER
from .midi import read_fingerprint
from .tuning import midi_to_hz

if TYPE_CHECKING:
    import mido
    import pretty_midi

    from .types import Note

Float = NDArray[np.float64]

CSV_COLUMNS = ("onset_s", "offset_s", "midi_pitch", "velocity")  # the last may be missing
JAMS_NAMESPACES = ("note_midi", "pitch_midi")
REFERENCE_EXTENSIONS = (".csv", ".jams", ".mid", ".midi")
"""Lower case; of several references beside a recording the first in this order counts."""
LOSSLESS = frozenset(".aif .aifc .aiff .ape .au .bwf .caf .flac .rf64 .snd .tta .w64 .wav .wave .wv".split())
"""Of several recordings of one name, one with such an extension counts."""
SCORES = ("P", "R", "F50", "F100", "Foff", "Fbend", "Fframe", "Fvel", "rvel")
"""Keys of :func:`all_scores`."""
LATEST = 1e6  # seconds; a note beyond is damage
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
    """A reference and its recording.

    Attributes
    ----------
    set_name : str
        The folder directly below the root in which it lies, ``.`` if it lies in the root itself.
    name : str
        Path below that folder without extension, parts joined by ``/``.
    audio : Path or None
        None if nothing but the reference is there, and needed.
    reference : Path
    """

    set_name: str
    name: str
    audio: Path | None
    reference: Path

    @property
    def label(self) -> str:
        """What messages call it."""
        return str(self.audio or self.reference)


class Found(NamedTuple):
    """What :func:`find` finds: recordings, sorted; failures and remarks as (path, text)."""

    recordings: list[Recording]
    failures: list[tuple[str, str]]
    remarks: list[tuple[str, str]]


# --------------------------------------------------------------------------------------------------------------- files


def find(
    root: Path, sets: Sequence[str] | None = None, *, leave_out: Path | None = None, audio_needed: bool = True
) -> Found:
    """All recordings below a folder that have a reference of the same name beside them.

    What this package wrote is no reference. Other files without a partner are remarks. Hidden files and folders are not
    looked at.

    Parameters
    ----------
    root : Path
    sets : sequence of str, optional
        Look into these folders of ``root`` only.
    leave_out : Path, optional
        A folder below ``root`` not to look into.
    audio_needed : bool
        A reference without a recording is a failure; otherwise it is found, too.
    """
    files: dict[Path, dict[str, Path]] = {}  # path without extension -> extension, lower case -> path
    found = Found([], [], [])
    seen = {os.path.realpath(folder) for folder in (root, leave_out) if folder}  # links may lead in circles

    def unreadable(error: OSError) -> None:
        found.failures.append((str(error.filename), f"{error.strerror}; check the path and the access"))

    def enter(folder: str) -> bool:
        real = os.path.realpath(folder)
        entered = real not in seen and not os.path.basename(folder).startswith(".")
        seen.add(real)
        return entered

    for start in [root] if sets is None else [root / name for name in sets]:
        for here, folders, names in os.walk(start, onerror=unreadable, followlinks=True):
            folders[:] = [f for f in sorted(folders) if enter(os.path.join(here, f))]
            for path in (Path(here, name) for name in names if not name.startswith(".")):
                files.setdefault(path.with_suffix(""), {})[path.suffix.lower()] = path
    without = 0
    _join_forms(files)
    for stem, paths in sorted(files.items()):
        notes = {paths[e]: _mark(paths[e]) for e in REFERENCE_EXTENSIONS if e in paths}
        reference = next((path for path, mark in notes.items() if not mark), None)
        audible = [e for e in paths if e in AUDIO_EXTENSIONS | AV_EXTENSIONS]
        rivals = [paths[e] for e in sorted(audible, key=lambda e: (e not in LOSSLESS, e))]
        audio = rivals[0] if rivals else None
        alone = reference is not None and not audio and _holds_notes(reference)
        if reference and (audio or (alone and not audio_needed)):
            parts = stem.relative_to(root).parts
            set_name = parts[0] if len(parts) > 1 else "."
            found.recordings.append(Recording(set_name, "/".join(parts[1:] or parts), audio, reference))
            text = f"left out, {rivals[0].name} has the same reference" if rivals else ""
            found.remarks.extend((str(other), text) for other in rivals[1:])
        elif alone:
            found.failures.append((str(reference), "no recording of this name beside it; put it there"))
        elif reference:
            found.remarks.append((str(reference), "neither a reference nor a recording, left out"))
        elif notes:
            path, mark = next(iter(notes.items()))
            ours = "a transcription of basic-transcribe"
            reason = f"only {ours} ({path.name}) is beside it" if audio else ours
            text = f"{reason}, no reference: left out; if you corrected it, remove its {mark}"
            found.remarks.append((str(audio or path), text))
        without += bool(audio and not notes)
    if without:
        found.remarks.append((str(root), f"recordings without a reference, left out: {without}"))
    return found


def _join_forms(files: dict[Path, dict[str, Path]]) -> None:
    """Make one of names in a folder that differ only in their Unicode form, unless there are two files of one kind."""
    forms: dict[Path, Path] = {}
    for stem in sorted(files):
        first = forms.setdefault(stem.with_name(unicodedata.normalize("NFC", stem.name)), stem)
        if first != stem and files[first].keys().isdisjoint(files[stem]):
            files[first] |= files.pop(stem)


def _mark(path: Path) -> str:
    """What says that this package wrote a file of notes; "" if nothing does."""
    try:
        match path.suffix.lower():
            case ".csv":
                with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
                    return "column confidence" if next(csv.reader(file), []) == list(CSV_HEADER) else ""
            case ".jams":
                ours = re.search(rb'"annotation_tools"\s*:\s*"basic_transcribe', path.read_bytes())
                return "annotation_tools" if ours else ""
    except (OSError, csv.Error):  # whoever reads the notes says so
        return ""
    return "text event basic_transcribe" if read_fingerprint(path) else ""


def _holds_notes(path: Path) -> bool:
    try:
        load_notes(path)
    except TranscribeError:
        return False
    return True


def find_some(root: Path, sets: Sequence[str] | None = None) -> Found:
    """As :func:`find`, where nothing may fail or be missing.

    Raises
    ------
    TranscribeError
        If it reports a failure, or finds nothing in the folder or in one of the ``sets``.
    """
    found = find(root, sets)
    for path, reason in found.failures:
        raise TranscribeError(f"{printable(path)}: {reason}")
    folders = {recording.set_name for recording in found.recordings}
    if not folders or not folders.issuperset(sets or ()):
        empty = printable(root.joinpath(*sorted(set(sets or ()) - folders)[:1]))
        why = "".join(f" ({printable(path)}: {remark})" for path, remark in found.remarks[:1])
        raise TranscribeError(f"{empty}: no recordings with references; check the path{why}")
    return found


def recordings(root: Path, sets: Sequence[str] | None = None) -> list[Recording]:
    """The recordings that :func:`find_some` finds; it raises the same."""
    return find_some(root, sets).recordings


def load_reference(path: Path) -> Notes:
    """As :func:`load_notes`, but no notes are an error too: nothing could be found of them."""
    notes = load_notes(path)
    if not len(notes):
        raise TranscribeError(f"{printable(path)}: no notes in this reference; give one that has some")
    return notes


def load_notes(path: Path, *, estimated: bool = False) -> Notes:
    """Read notes from CSV, JAMS or MIDI, told apart by the extension.

    CSV has one note a line: onset and offset in seconds, MIDI pitch and, if known, velocity. A header line may name
    them ``onset_s``, ``offset_s``, ``midi_pitch`` or ``pitch``, and ``velocity`` in any order, and ``bend_cents``, the
    mean pitch bend; other columns are ignored. Of JAMS, all annotations with the namespace ``note_midi`` are read, or
    ``pitch_midi`` if there are none. MIDI: see :func:`load_midi`.

    Parameters
    ----------
    path : Path
    estimated : bool
        Accept notes of a CSV that last no time, as those of a MIDI file may; they are lengthened a little.

    Raises
    ------
    TranscribeError
        If the file cannot be read, or a note is impossible: a time below 0, no length, pitch or velocity beyond 127.
    """
    try:
        match path.suffix.lower():
            case ".csv":
                return _load_csv(path, SHORTEST if estimated else 0.0)
            case ".jams":
                return _load_jams(path)
        return load_midi(path)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}; check the file"
    except ValueError as error:
        reason = str(error)
    raise TranscribeError(f"{printable(path)}: {printable(reason)}")


def _load_csv(path: Path, shortest: float) -> Notes:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(f"line {reader.line_num}", row) for row in reader if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"not a CSV file ({error}); export it again") from error
    first = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    if first and _is_number(first[0]):
        if len(first) > len(CSV_COLUMNS):
            raise ValueError(f"{len(first)} columns without a header line; add one with {', '.join(CSV_COLUMNS)}")
        names = list(CSV_COLUMNS[: len(first)])
    else:
        names, lines = ["midi_pitch" if name == "pitch" else name for name in first], lines[1:]
        for known in (*CSV_COLUMNS, "bend_cents"):
            same = [column for column, name in zip(first, names, strict=True) if name == known]
            if len(same) > 1:
                raise ValueError(f"the columns {' and '.join(same)} mean the same; leave out all but one")
    if missing := [name for name in CSV_COLUMNS[:3] if name not in names]:
        raise ValueError(f"no column {' nor '.join(missing)}; give {', '.join(CSV_COLUMNS)}, with commas between")
    wanted = [*(name for name in CSV_COLUMNS if name in names), "bend_cents"]
    rows = []
    for place, row in lines:
        cells = {"bend_cents": "0"} | {n: cell.strip() for n, cell in zip(names, row, strict=False) if cell.strip()}
        for name in wanted:
            if not _is_number(cells.get(name, "")):
                raise ValueError(f"{place}: {name} is {cells.get(name, '')!r}; give a number")
        onset, offset, pitch, *velocity, bend = (float(cells[name]) for name in wanted)
        offset += shortest * (onset == offset)
        rows.append(_Row(place, onset, offset, pitch, velocity[0] if velocity else None, bend / 100))
    notes = _checked(rows)
    return notes if "velocity" in names else replace(notes, velocity=None)  # also where there are no notes


def _load_jams(path: Path) -> Notes:
    try:
        annotations = json.loads(path.read_bytes())["annotations"]
        data = {n: [a["data"] for a in annotations if a["namespace"] == n] for n in JAMS_NAMESPACES}
        namespace = next((n for n in JAMS_NAMESPACES if data[n]), "")
        rows: list[_Row] = []
        for part in data.get(namespace, []):
            # Observations one by one, or, as older files have it, a list for each of their properties.
            columns = (
                part if isinstance(part, dict) else {k: [o[k] for o in part] for k in ("time", "duration", "value")}
            )
            for time, duration, value in zip(columns["time"], columns["duration"], columns["value"], strict=True):
                place = f"{namespace} note {len(rows) + 1}"
                rows.append(_Row(place, float(time), float(time) + float(duration), float(value)))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"not a JAMS file ({type(error).__name__}: {error}); export it again") from error
    if not namespace:
        raise ValueError(f"no annotation with the namespace {' or '.join(JAMS_NAMESPACES)}; give notes, not contours")
    return _checked(rows)


class _Row(NamedTuple):
    """One note of a file, and where it stands there."""

    place: str
    onset: float
    offset: float
    pitch: float
    velocity: float | None = None
    bend: float = 0.0  # semitones


def _checked(rows: Sequence[_Row]) -> Notes:
    for row in rows:
        span = f"from {row.onset:g} to {row.offset:g} s"
        if not 0 <= row.onset < row.offset:
            raise ValueError(f"{row.place}: {span}; a note lasts, and begins at 0 or later")
        if row.offset > LATEST:
            raise ValueError(f"{row.place}: {span}, beyond {LATEST:.0f} s; give times in seconds")
        if not 0 <= row.pitch <= 127 or not 0 <= row.pitch + row.bend <= 127:
            bent = f", bent by {row.bend:g} semitones" if row.bend else ""
            raise ValueError(f"{row.place}: pitch {row.pitch:g}{bent}; give a MIDI note number, 0 to 127")
        if row.velocity is not None and not 0 <= row.velocity <= 127:
            raise ValueError(f"{row.place}: velocity {row.velocity:g}; give one of 0 to 127")
    table = np.array([(r.onset, r.offset, r.pitch, r.pitch + r.bend) for r in rows], float).reshape(-1, 4)
    velocity = np.array([r.velocity for r in rows if r.velocity is not None], float)
    return Notes(table[:, :2], table[:, 2], table[:, 3], velocity if len(velocity) == len(rows) else None)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python allows between digits


def load_midi(path: Path) -> Notes:
    """Read the notes of a MIDI file as a synthesiser would play them; drums are ignored.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no MIDI file, counts in SMPTE frames, or a note is impossible.
    """
    rows: list[_Row] = []
    for instrument in (i for i in _parsed(path).instruments if not i.is_drum and i.notes):
        start = np.array([n.start for n in instrument.notes])
        end = np.array([n.end for n in instrument.notes])
        bends = mean_bends(instrument, start, end).tolist()
        for n, bend in zip(instrument.notes, bends, strict=True):
            end_s = max(n.end, n.start + SHORTEST)
            rows.append(_Row(f"note at {n.start:.3f} s", n.start, end_s, n.pitch, n.velocity, bend))
    return _checked(sorted(rows, key=lambda row: row[1:]))


def _parsed(path: Path) -> pretty_midi.PrettyMIDI:
    import mido
    import pretty_midi

    try:
        midi = mido.MidiFile(path)
        frames = midi.ticks_per_beat < 0
        # pretty_midi takes tempi from the first track alone, but some programs write them elsewhere.
        if any(message.type == "set_tempo" for track in midi.tracks[1:] for message in track):
            midi.tracks.insert(0, _tempi(midi.tracks))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = None if frames else pretty_midi.PrettyMIDI(mido_object=midi)
    except (EOFError, ValueError, LookupError, ArithmeticError, mido.KeySignatureError) as error:
        raise ValueError(f"damaged MIDI file ({type(error).__name__} {error}); export it again") from error
    if parsed is None:
        raise ValueError("counts in SMPTE frames; export it with ticks per quarter note")
    return parsed


def _tempi(tracks: list[mido.MidiTrack]) -> mido.MidiTrack:
    """A track of the tempo changes of all tracks."""
    import mido

    found, ticks = mido.MidiTrack(), 0
    for message in mido.merge_tracks(tracks):
        ticks += message.time
        if message.type == "set_tempo":
            found.append(message.copy(time=ticks))
            ticks = 0
    return found


def from_notes(notes: Sequence[Note]) -> Notes:
    """Columns of transcribed notes, without a MIDI file in between."""
    table = np.array([(n.onset, n.offset, n.pitch, n.velocity) for n in notes], float).reshape(-1, 4)
    sounding = table[:, 2] + [0.0 if n.bend is None else float(np.mean(n.bend.semitones)) for n in notes]
    table[:, 1] = np.maximum(table[:, 1], table[:, 0] + SHORTEST)
    return Notes(table[:, :2], table[:, 2], sounding, table[:, 3])


def bend_ranges(instrument: pretty_midi.Instrument) -> tuple[Float, Float]:
    """Pitch-bend range in semitones as a step function of time: 2 until RPN 0 sets another.

    Returns
    -------
    time, semitones : ndarray of float, shape (changes + 1,)
        From when on it holds; the first always did.
    """
    time, semitones = [-np.inf], [2.0]
    selected, registered = {}, False
    for change in sorted(instrument.control_changes, key=lambda c: c.time):
        if 98 <= change.number <= 101:
            selected[change.number] = change.value
            registered = change.number >= 100  # else data are those of a non-registered parameter
        elif change.number in (6, 38) and registered and selected.get(101) == selected.get(100) == 0:
            time.append(change.time)
            # Controller 6 has semitones; cents may follow in 38.
            semitones.append(change.value if change.number == 6 else semitones[-1] // 1 + change.value / 100)
    return np.array(time), np.array(semitones, float)


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
    bent_at, bent = np.array([-np.inf, *(b.time for b in bends)]), np.array([0, *(b.pitch for b in bends)]) / 8192
    ranged_at, semitones = bend_ranges(instrument)
    time = np.unique(np.concatenate([bent_at[1:], ranged_at[1:]]))
    value = _held(bent_at, bent, time) * _held(ranged_at, semitones, time)
    area = np.concatenate([[0.0], np.cumsum(value[:-1] * np.diff(time))])  # integral up to each change

    def integral(t: Float) -> Float:
        i = np.searchsorted(time, t, side="right") - 1
        return np.where(i >= 0, area[i] + value[i] * (t - time[i]), 0.0)

    return np.asarray((integral(end) - integral(start)) / np.maximum(end - start, 1e-6))


def _held(time: Float, value: Float, at: Float) -> Float:
    """A step function of time, sampled; each value holds until the next."""
    return np.asarray(value[np.searchsorted(time, at, side="right") - 1])


# -------------------------------------------------------------------------------------------------------------- scores


def all_scores(ref: Notes, est: Notes) -> dict[str, float]:
    """All scores but the onset errors, nan where undefined. The keys are :data:`SCORES`, in that order."""
    scores = note_scores(ref, est) | velocity_scores(ref, est) | {"Fframe": frame_score(ref, est)}
    return {key: float(scores[key]) for key in SCORES}


def note_scores(ref: Notes, est: Notes) -> dict[str, float]:
    """P, R and F50 at 50 ms, F100 at 100 ms, Foff with offsets, Fbend on the sounding pitch.

    As ``mir_eval.transcription.precision_recall_f1_overlap`` defines them: 0 without notes on one side.
    """
    if not len(est) or not len(ref):
        return dict.fromkeys(("P", "R", "F50", "F100", "Foff", "Fbend"), 0.0)

    def f(ref: Notes, est: Notes, tolerance: float = 0.05, offset_ratio: float | None = None) -> float:
        return f_measure(count_matches(ref, est, tolerance, offset_ratio), len(ref), len(est))

    matches = count_matches(ref, est)
    return {
        "P": matches / len(est),
        "R": matches / len(ref),
        "F50": f_measure(matches, len(ref), len(est)),
        "F100": f(ref, est, 0.1),
        "Foff": f(ref, est, offset_ratio=OFFSET_RATIO),
        "Fbend": f(replace(ref, pitch=ref.sounding), replace(est, pitch=est.sounding)),
    }


def velocity_scores(ref: Notes, est: Notes) -> dict[str, float]:
    """F50 with velocity (``mir_eval.transcription_velocity``) and Pearson's r of the velocities of matched notes.

    Both are nan without velocities, r also where it is undefined: fewer than three notes, or one velocity.
    """
    if ref.velocity is None or est.velocity is None:
        return {"Fvel": np.nan, "rvel": np.nan}
    if not len(est) or not len(ref):
        return {"Fvel": 0.0, "rvel": np.nan}
    from mir_eval.transcription_velocity import precision_recall_f1_overlap

    fvel = precision_recall_f1_overlap(
        ref.intervals,
        midi_to_hz(ref.pitch),
        ref.velocity,
        est.intervals,
        midi_to_hz(est.pitch),
        est.velocity,
        offset_ratio=None,
    )[2]
    i, j = match(ref, est)
    a, b = ref.velocity[i], est.velocity[j]
    defined = len(a) > 2 and a.std() > 0 and b.std() > 0
    return {"Fvel": fvel, "rvel": float(np.corrcoef(a, b)[0, 1]) if defined else np.nan}


def frame_score(ref: Notes, est: Notes) -> float:
    """F-measure of ``mir_eval.multipitch`` at 10 ms, over all frames of the longer of the two.

    Only frames in which something begins or ends are matched; each counts for those that follow until the next.
    """
    from mir_eval.multipitch import compute_num_true_positives

    edges = [np.ceil(np.round(notes.intervals / FRAME_STEP, 6)).astype(int) for notes in (ref, est)]
    changes = np.unique(np.concatenate(edges))
    length = np.diff(changes, append=changes[-1:])
    frames = [
        _sounding(notes, np.searchsorted(changes, e), len(changes)) for notes, e in zip((ref, est), edges, strict=True)
    ]
    hits = float(length @ compute_num_true_positives(*frames))
    sizes = (float(length @ [len(frame) for frame in side]) for side in frames)
    return f_measure(hits, *sizes)


def _sounding(notes: Notes, spans: NDArray[np.intp], count: int) -> list[Float]:
    """Pitches that sound in each of ``count`` frames, where each note has a span of them: first, and first no more."""
    frames: list[list[float]] = [[] for _ in range(count)]
    pitches = 69 + 12 * np.log2(midi_to_hz(notes.pitch) / 440)  # rounded as mir_eval does, for quarter tones
    for (first, last), pitch in zip(spans, pitches, strict=True):
        for frame in frames[first:last]:
            frame.append(pitch)
    return [np.array(frame) for frame in frames]


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
    cents = 1200 * np.abs(np.log2(midi_to_hz(ref.pitch))[i] - np.log2(midi_to_hz(est.pitch))[j])
    admissible = (cents <= CENTS) & near(0, onset_tolerance)
    if offset_ratio is not None:
        duration = np.diff(ref.intervals[i], axis=1)[:, 0]
        admissible &= near(1, np.maximum(offset_ratio * duration, MIN_OFFSET_TOLERANCE))
    i, j = i[admissible], j[admissible]
    if not len(i):
        return i, j
    places = i.astype(np.int32), j.astype(np.int32)  # SciPy before 1.15 matches no others
    graph = csr_array((np.ones(len(i), np.int8), places), shape=(len(ref), len(est)))
    matched = maximum_bipartite_matching(graph, perm_type="column")
    hit = np.flatnonzero(matched >= 0)
    return hit, matched[hit]


def count_matches(ref: Notes, est: Notes, onset_tolerance: float = 0.05, offset_ratio: float | None = None) -> int:
    """Number of matched notes; see :func:`match`."""
    return len(match(ref, est, onset_tolerance, offset_ratio)[0])


def f_measure(matches: float, n_ref: float, n_est: float) -> float:
    """F-measure of ``matches`` between ``n_ref`` and ``n_est`` notes; 0 where mir_eval says 0."""
    return 2 * matches / (n_ref + n_est) if matches else 0.0


def mean_of_sets(values: dict[str, Sequence[float]]) -> float:
    """Mean over sets of the means over their recordings; nan is left out, and so is a set of nothing else."""
    means = [np.nanmean(v) for v in values.values() if not np.all(np.isnan(v))]
    return float(np.mean(means)) if means else np.nan
