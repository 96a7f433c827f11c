"""Notes and posteriors as CSV, JSON, JAMS and npz, and the one way every output reaches the disk."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import math
import os
import re
import secrets
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

import numpy as np

from .errors import OutputError, TranscribeError, printable
from .tuning import MOST_TUNING, hertz_of, midi_to_hz
from .types import Beats, Float32, Key, Marker, Note, Part, Posteriors, TrackerSettings, check_class, path_of, unfit

if TYPE_CHECKING:
    from .audio import BinaryFile, StrPath

CSV_HEADER = ("onset_s", "offset_s", "pitch", "velocity", "confidence", "bend_cents")
JSON_FORMAT = "basic_transcribe.notes"
JSON_VERSION = 4
JSON_SCHEMA = Path(__file__).parent / "schemas" / "notes-4.schema.json"
"""JSON Schema (draft 2020-12) of what :func:`notes_to_json` writes."""
JAMS_VERSION = "0.3.4"
WHOLE = Part()
MAX_NPZ_BYTES = 4 << 30  # uncompressed; posteriors of about five hours
LOCKED = (5, 32)  # Windows: ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION
LOCK_ATTEMPTS, LOCK_PAUSE = 11, 0.1  # to replace an output that another program has open; seconds between them

_SCALARS = ("frame_rate", "lowest_pitch", "tuning")
# What numpy.save writes for little-endian numbers in C order; anything else in a file is not ours and is not parsed.
_NPY_HEADER = re.compile(r"\{'descr': '(<[fi][248])', 'fortran_order': False, 'shape': \(([0-9, ]{0,60})\), \} *\n")

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "free some space, or raise the limit on file sizes",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "choose a folder, not a file, to write into",
}


class NotesOfARecording(Protocol):
    """What :func:`notes_to_json` and :func:`notes_to_jams` need of a transcription."""

    @property
    def notes(self) -> Sequence[Note]: ...
    @property
    def duration(self) -> float: ...
    @property
    def settings(self) -> TrackerSettings: ...
    @property
    def warnings(self) -> Sequence[str]: ...
    @property
    def model(self) -> str: ...
    @property
    def tuning(self) -> float: ...
    @property
    def beats(self) -> Beats | None: ...
    @property
    def key(self) -> Key | None: ...
    @property
    def markers(self) -> Sequence[Marker]: ...
    @property
    def line(self) -> bool: ...


def notes_to_csv(notes: Iterable[Note]) -> str:
    """One line per note.

    Columns: onset and offset in seconds, MIDI pitch, velocity, confidence, and the mean pitch bend in cents, empty
    where none was estimated. The bend over time is in the JSON only.

    Returns
    -------
    str
        With a header line, fields separated by commas, lines ended by a line feed.

    Raises
    ------
    UsageError
        If these are no notes.
    """
    if not isinstance(notes, Iterable):
        raise unfit("notes", notes, "notes, such as transcription.notes")
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for note in notes:
        bend = ""
        if note.bend is not None and len(note.bend.semitones):
            bend = f"{100 * float(np.mean(note.bend.semitones)):.1f}"
        times = (f"{note.onset:.6f}", f"{note.offset:.6f}")
        writer.writerow((*times, note.pitch, note.velocity, f"{note.confidence:.4f}", bend))
    return buffer.getvalue()


def notes_to_json(transcription: NotesOfARecording, part: Part = WHOLE, key: Key | None = None) -> str:
    """Everything known of the notes, as a JSON object.

    Parameters
    ----------
    transcription : Transcription
        Or anything with its notes, duration, settings, warnings, model, beats, key, markers, line and tuning.
    part : Part
        Which part of the recording it is.
    key : Key, optional
        If it is known; that of the transcription otherwise.

    Returns
    -------
    str
        ASCII only; times in seconds, bends in cents on a uniform grid. :data:`JSON_SCHEMA` describes it.

    Raises
    ------
    UsageError
        If an argument is of another kind.
    ValueError
        If a number is not finite, which JSON cannot express, or a pitch is no whole number.
    """
    _check_arguments(transcription, part, key)
    content = {
        "format": JSON_FORMAT,
        "version": JSON_VERSION,
        "duration": float(transcription.duration),
        "part": asdict(part),
        "model": transcription.model,
        "settings": asdict(transcription.settings),
        "line": transcription.line,
        "tuning": round(hertz_of(transcription.tuning), 3),
        "warnings": list(transcription.warnings),
        "beats": _json_beats(transcription.beats),
        "key": _json_key(key or transcription.key),
        "markers": [{"time": round(float(m.time), 6), "text": m.text} for m in transcription.markers],
        "notes": [_json_note(note) for note in transcription.notes],
    }
    return json.dumps(content, ensure_ascii=True, allow_nan=False) + "\n"


def _check_arguments(transcription: NotesOfARecording, part: Part, key: Key | None) -> None:
    if not hasattr(transcription, "notes"):
        raise unfit("transcription", transcription, "a Transcription, not its notes alone")
    check_class("part", part, Part, optional=False)
    check_class("key", key, Key)


def _json_beats(beats: Beats | None) -> dict[str, Any] | None:
    if beats is None:
        return None
    return {
        "times": [round(float(time), 6) for time in beats.times],
        "per_bar": int(beats.per_bar),
        "downbeat": int(beats.downbeat),
        "quarters": float(beats.quarters),
        "time_signature": list(beats.time_signature),
        "tempo": round(beats.tempo, 3),
    }


def _json_key(key: Key | None) -> dict[str, Any] | None:
    if key is None:
        return None
    return {
        "name": key.name,
        "tonic": int(key.tonic),
        "mode": key.mode,
        "confidence": round(float(key.confidence), 4),
    }


def _json_note(note: Note) -> dict[str, Any]:
    if note.pitch % 1:
        raise ValueError(f"a note's pitch is no whole number; its bend says what lies beside: {note}")
    bend = None
    if note.bend is not None:
        cents = np.round(100 * note.bend.semitones.astype(np.float64), 1).tolist()
        bend = {"start": round(float(note.bend.start), 6), "step": float(note.bend.step), "cents": cents}
    return {
        "onset": round(float(note.onset), 6),
        "offset": round(float(note.offset), 6),
        "pitch": int(note.pitch),
        "velocity": int(note.velocity),
        "confidence": round(float(note.confidence), 4),
        "bend": bend,
    }


def notes_to_jams(transcription: NotesOfARecording, title: str = "", part: Part = WHOLE, key: Key | None = None) -> str:
    """The notes as a JAMS file, the JSON of MIR research (Humphrey et al., ISMIR 2014; jams.readthedocs.io).

    Annotations: ``note_midi`` (the pitch with the mean of its bend, or else in the tuning of the recording),
    ``pitch_contour`` (the bends over time; ``index`` counts the notes), and where they are known ``beat`` (those within
    the recording; the value counts within the bar), ``tempo`` and ``key_mode``.

    Parameters
    ----------
    transcription : Transcription
        Or anything with its attributes, as in :func:`notes_to_json`.
    title : str
        Of the recording.
    part, key
        As in :func:`notes_to_json`; the part is kept in the sandbox.

    Returns
    -------
    str
        ASCII only.

    Raises
    ------
    UsageError
        If an argument is of another kind.
    ValueError
        If a number is not finite, which JSON cannot express.
    """
    _check_arguments(transcription, part, key)
    duration = round(float(transcription.duration), 6)
    notes, beats, key = transcription.notes, transcription.beats, key or transcription.key
    tuning = transcription.tuning
    confidence = [round(float(note.confidence), 4) for note in notes]
    pitched = zip(notes, confidence, strict=True)
    data = {"note_midi": [_observation(n.onset, n.offset, _sounding(n, tuning), c) for n, c in pitched]}
    contours = [_contour(i, note) for i, note in enumerate(notes) if note.bend is not None]
    if beats:
        within = [(i, time) for i, time in enumerate(beats.times) if 0 <= time <= duration]
        data["beat"] = [_observation(t, t, float((i - beats.downbeat) % beats.per_bar + 1)) for i, t in within]
        data["tempo"] = [_observation(0, duration, round(beats.tempo, 3), 1.0)]
    if key:
        name, mode = key.name.split()
        data["key_mode"] = [_observation(0, duration, f"{name}:{mode}", round(float(key.confidence), 4))]
    everything: dict[str, Any] = data | {
        "pitch_contour": {k: [x for contour in contours for x in contour[k]] for k in _observation(0, 0, None)}
    }
    content = {
        "annotations": [
            {
                "annotation_metadata": {
                    "annotation_tools": f"basic_transcribe, model {transcription.model}",
                    "data_source": "program",
                },
                "namespace": namespace,
                "data": everything[namespace],
                "sandbox": {},
                "time": 0.0,
                "duration": duration,
            }
            for namespace in sorted(everything)
        ],
        "file_metadata": {
            "title": title,
            "artist": "",
            "release": "",
            "duration": duration,
            "identifiers": {},
            "jams_version": JAMS_VERSION,
        },
        "sandbox": {"part": asdict(part)},
    }
    return json.dumps(content, ensure_ascii=True, allow_nan=False) + "\n"


def _observation(start: float, end: float, value: object, confidence: float | None = None) -> dict[str, Any]:
    length = max(round(float(end) - float(start), 6), 0.0)
    return {"time": round(float(start), 6), "duration": length, "value": value, "confidence": confidence}


def _sounding(note: Note, tuning: float) -> float:
    """Pitch with the mean of its bend, or with the tuning, as a fractional MIDI note number."""
    bend = tuning / 100 if note.bend is None or not len(note.bend.semitones) else float(np.mean(note.bend.semitones))
    return round(float(note.pitch) + bend, 4)


def _contour(index: int, note: Note) -> dict[str, list[Any]]:
    """The bend of a note as dense observations, a list for each of their properties."""
    if note.bend is None:
        raise ValueError("no bend")
    hertz = midi_to_hz(note.pitch + note.bend.semitones.astype(np.float64))
    return {
        "time": np.round(note.bend.times, 6).tolist(),
        "duration": [0.0] * len(hertz),
        "value": [{"index": index, "frequency": f, "voiced": True} for f in np.round(hertz, 3).tolist()],
        "confidence": [None] * len(hertz),
    }


def posteriors_to_npz(posteriors: Posteriors) -> bytes:
    """The model's outputs as a compressed npz file without pickles, for :func:`load_posteriors`.

    It holds the arrays ``onset``, ``note``, ``offset``, ``contour`` and ``level`` (frames first), and the scalars
    ``frame_rate``, ``lowest_pitch`` and ``tuning``.

    Raises
    ------
    UsageError
        If there are none, as in a transcription without ``keep_posteriors``.
    """
    check_class("posteriors", posteriors, Posteriors, optional=False)
    buffer = BytesIO()
    contents: dict[str, Any] = {n: np.ascontiguousarray(getattr(posteriors, n), "<f4") for n in Posteriors.ARRAYS}
    contents["frame_rate"] = np.float64(posteriors.frame_rate)
    contents["lowest_pitch"] = np.int64(posteriors.lowest_pitch)
    contents["tuning"] = np.float64(posteriors.tuning)
    np.savez_compressed(buffer, **contents)
    return buffer.getvalue()


def load_posteriors(source: StrPath | BinaryFile) -> Posteriors:
    """Read what :func:`posteriors_to_npz` wrote. Safe on files from strangers.

    Nothing is unpickled, and names, types, shapes and sizes are checked before any array is allocated.

    Parameters
    ----------
    source : path or binary file object
        A file object must be seekable.

    Returns
    -------
    Posteriors

    Raises
    ------
    TranscribeError
        If the file cannot be read, or holds no posteriors, or more than those of about five hours.
    UsageError
        If it is neither a path nor a file object.
    """
    path = None if hasattr(source, "read") else path_of("source", source, "a path or a binary file object")
    name = "npz" if path is None else printable(path)
    try:
        with contextlib.nullcontext(cast(BinaryIO, source)) if path is None else path.open("rb") as file:
            with zipfile.ZipFile(file) as members:
                _check_members(members)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {"tuning": np.float64(0), **{key: archive[key] for key in archive.files}}
        return _checked_posteriors(arrays)
    except OSError as error:
        raise TranscribeError(f"{name}: {error.strerror or error}; check the path") from error
    except (ValueError, KeyError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile) as error:
        # RuntimeError is zipfile's answer to encryption, and the base of its NotImplementedError for compression.
        reason = printable(error.args[0] if error.args else error)
        raise TranscribeError(f"{name}: not posteriors of this program ({reason}); write them anew") from error


def _check_members(archive: zipfile.ZipFile) -> None:
    """Refuse archives that numpy should not even open: other members, other types, sizes that do not fit.

    zipfile never unpacks more of a member than the size it declares, so that size is what bounds the memory.
    """
    expected = {f"{name}.npy" for name in (*Posteriors.ARRAYS, *_SCALARS)}
    members = archive.infolist()
    names = {member.filename for member in members}
    if len(members) != len(names) or names | {"tuning.npy"} != expected:  # those of 0.11.0 and before have no tuning
        raise ValueError("it must hold exactly the arrays " + ", ".join((*Posteriors.ARRAYS, *_SCALARS)))
    if sum(member.file_size for member in members) > MAX_NPZ_BYTES:
        raise ValueError(f"its arrays exceed {MAX_NPZ_BYTES} bytes")
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename} is compressed in an unusual way")
        with archive.open(member) as file:
            start = file.read(10)
            size = int.from_bytes(start[8:], "little")
            header = _NPY_HEADER.fullmatch(file.read(min(size, 1000)).decode("latin-1"))
        if start[:8] != b"\x93NUMPY\x01\x00" or header is None:
            raise ValueError(f"{member.filename} is not a plain array of numbers")
        shape = [int(n) for n in header[2].split(",") if n.strip()]
        if len(shape) > 2 or 10 + size + np.dtype(header[1]).itemsize * math.prod(shape) != member.file_size:
            raise ValueError(f"the shape of {member.filename} does not fit its size")


def _checked_posteriors(arrays: dict[str, Any]) -> Posteriors:
    """Posteriors, once their shapes agree and every number is finite."""
    for name in _SCALARS:
        if arrays[name].shape != ():
            raise ValueError(f"{name} is not a single number")
    frame_rate, lowest = float(arrays["frame_rate"]), float(arrays["lowest_pitch"])
    if not 1 <= frame_rate <= 10_000:
        raise ValueError(f"frame_rate is {frame_rate}")
    tuning = float(arrays["tuning"])
    if not abs(tuning) <= MOST_TUNING:
        raise ValueError(f"tuning is {tuning}")
    frames, pitches = arrays["note"].shape if arrays["note"].ndim == 2 else (0, 0)
    if not (pitches >= 1 and lowest >= 0 and lowest + pitches <= 128 and lowest.is_integer()):
        raise ValueError(f"note has the shape {arrays['note'].shape} from pitch {lowest:g} up")
    floats: dict[str, Float32] = {}
    for name in Posteriors.ARRAYS:
        array = arrays[name]
        if array.dtype.kind != "f":
            raise ValueError(f"{name} has the type {array.dtype}")
        width = array.shape[-1] if array.ndim else 0
        fits = width == pitches if name != "contour" else width >= pitches and width % pitches == 0
        if array.ndim != 2 or len(array) != frames or not fits:
            raise ValueError(f"{name} has the shape {array.shape}, note {arrays['note'].shape}")
        with np.errstate(over="ignore", under="ignore"):
            floats[name] = array.astype(np.float32, copy=False)
        if not np.isfinite(floats[name]).all():
            raise ValueError(f"{name} holds values that are not finite, or too large")
    return Posteriors(**floats, frame_rate=frame_rate, lowest_pitch=int(lowest), tuning=tuning)


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it.

    The bytes go to a temporary file in the same folder, to the disk, and only then to their name. On failure whatever
    had the name before keeps it; a power loss right afterwards may undo the renaming, and the next run does it again.

    Parameters
    ----------
    path : str or Path
        Where to; the folder must exist. A regular file there is replaced, anything else refused.
    data : bytes
        The contents.

    Raises
    ------
    OutputError
        If the file cannot be written: no space, no permission, no such folder, a name too long, a folder of that name.
    """
    path = Path(path)
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"  # short, whatever the length of the name it stands in for
    try:
        _refuse_special(path)
        try:
            # A plain exclusive open, for the permissions the user's umask gives; until it is whole, it stays private.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            with open(os.open(temporary, flags, 0o666), "wb") as file:
                final = os.fstat(file.fileno()).st_mode
                _set_mode(file, 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                _set_mode(file, stat.S_IMODE(final))
            _replace(temporary, path)
        finally:  # also when interrupted; once it has been renamed there is nothing left to remove
            with contextlib.suppress(OSError):
                temporary.unlink()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        number = error.errno if isinstance(error, OSError) else None
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        remedy = _REMEDIES.get(number or 0, "choose another output")
        raise OutputError(f"{printable(path)}: cannot be written: {reason}; {remedy}") from error


def _replace(temporary: Path, path: Path) -> None:
    """Give a file its name. Windows refuses as long as another program has the file of this name open: scanners and
    synchronisers soon let go of it.

    Raises
    ------
    OutputError
        If one does not.
    """
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            os.replace(temporary, path)
            return
        except OSError as error:
            if getattr(error, "winerror", None) not in LOCKED:
                raise
            if attempt == LOCK_ATTEMPTS:
                remedy = "close the program that has it open, or let it be written"
                raise OutputError(f"{printable(path)}: cannot be written: {error.strerror}; {remedy}") from error
        time.sleep(LOCK_PAUSE)


def _set_mode(file: BinaryIO, mode: int) -> None:
    """Set permissions, where there are any: USB sticks have none."""
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):
            os.fchmod(file.fileno(), mode)


def _refuse_special(path: Path) -> None:
    """Replacing a folder fails late and replacing a device succeeds: say so first."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.EEXIST, "a folder has this name" if stat.S_ISDIR(mode) else "it is not a regular file")
