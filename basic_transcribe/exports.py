"""Notes and posteriors as CSV, JSON and npz, and the one way every output reaches the disk."""

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
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from .errors import OutputError, TranscribeError, printable
from .types import Note, Posteriors, TrackerSettings

CSV_HEADER = ("onset_s", "offset_s", "pitch", "velocity", "confidence", "bend_cents")
JSON_FORMAT = "basic_transcribe.notes"
JSON_VERSION = 1
MAX_NPZ_BYTES = 4 << 30  # uncompressed; posteriors of about five hours

_SCALARS = ("frame_rate", "lowest_pitch")
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
    """What :func:`notes_to_json` needs of a transcription."""

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


def notes_to_csv(notes: Iterable[Note]) -> str:
    """One line per note.

    Columns: onset and offset in seconds, MIDI pitch, velocity, confidence, and the mean pitch bend in cents, empty
    where none was estimated. The bend over time is in the JSON only.

    Returns
    -------
    str
        With a header line, fields separated by commas, lines ended by a line feed.
    """
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


def notes_to_json(transcription: NotesOfARecording) -> str:
    """Everything known of the notes, as a JSON object.

    Parameters
    ----------
    transcription : Transcription
        Or anything with its notes, duration, settings, warnings and model.

    Returns
    -------
    str
        ASCII only; times in seconds, bends in cents on a uniform grid.

    Raises
    ------
    ValueError
        If a number is not finite, which JSON cannot express.
    """
    content = {
        "format": JSON_FORMAT,
        "version": JSON_VERSION,
        "duration": float(transcription.duration),
        "model": transcription.model,
        "settings": asdict(transcription.settings),
        "warnings": list(transcription.warnings),
        "notes": [_json_note(note) for note in transcription.notes],
    }
    return json.dumps(content, ensure_ascii=True, allow_nan=False) + "\n"


def _json_note(note: Note) -> dict[str, Any]:
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


def posteriors_to_npz(posteriors: Posteriors) -> bytes:
    """The model's outputs as a compressed npz file without pickles, for :func:`load_posteriors`.

    It holds the arrays ``onset``, ``note``, ``offset``, ``contour`` and ``level`` (frames first), and the scalars
    ``frame_rate`` and ``lowest_pitch``.
    """
    buffer = BytesIO()
    arrays = {name: np.ascontiguousarray(getattr(posteriors, name), dtype="<f4") for name in Posteriors.ARRAYS}
    scalars = {"frame_rate": np.float64(posteriors.frame_rate), "lowest_pitch": np.int64(posteriors.lowest_pitch)}
    np.savez_compressed(buffer, allow_pickle=False, **arrays, **scalars)
    return buffer.getvalue()


def load_posteriors(source: str | Path | BinaryIO, *, max_bytes: int = MAX_NPZ_BYTES) -> Posteriors:
    """Read what :func:`posteriors_to_npz` wrote. Safe on files from strangers.

    Nothing is unpickled, and names, types, shapes and sizes are checked before any array is allocated.

    Parameters
    ----------
    source : path or binary file object
        A file object must be seekable.
    max_bytes : int
        Largest size of the unpacked arrays.

    Returns
    -------
    Posteriors

    Raises
    ------
    TranscribeError
        If the file cannot be read, or holds no posteriors.
    """
    name = printable(source) if isinstance(source, str | Path) else "npz"
    try:
        with open(source, "rb") if isinstance(source, str | Path) else contextlib.nullcontext(source) as file:
            with zipfile.ZipFile(file) as members:
                _check_members(members, max_bytes)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in (*Posteriors.ARRAYS, *_SCALARS)}
        return _checked_posteriors(arrays)
    except OSError as error:
        raise TranscribeError(f"{name}: {error.strerror or error}; check the path") from error
    except (ValueError, KeyError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile) as error:
        # RuntimeError is zipfile's answer to encryption, and the base of its NotImplementedError for compression.
        reason = printable(error.args[0] if error.args else error)
        raise TranscribeError(f"{name}: not posteriors of this program ({reason}); write them anew") from error


def _check_members(archive: zipfile.ZipFile, max_bytes: int) -> None:
    """Refuse archives that numpy should not even open: other members, other types, sizes that do not fit.

    zipfile never unpacks more of a member than the size it declares, so that size is what bounds the memory.
    """
    expected = {f"{name}.npy" for name in (*Posteriors.ARRAYS, *_SCALARS)}
    members = archive.infolist()
    if len(members) != len(expected) or {member.filename for member in members} != expected:
        raise ValueError("it must hold exactly the arrays " + ", ".join((*Posteriors.ARRAYS, *_SCALARS)))
    if sum(member.file_size for member in members) > max_bytes:
        raise ValueError(f"its arrays exceed {max_bytes} bytes")
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
    if not 0 < frame_rate <= 10_000:
        raise ValueError(f"frame_rate is {frame_rate}")
    frames, pitches = arrays["note"].shape if arrays["note"].ndim == 2 else (0, 0)
    if not (pitches >= 1 and lowest >= 0 and lowest + pitches <= 128 and lowest.is_integer()):
        raise ValueError(f"note has the shape {arrays['note'].shape} from pitch {lowest:g} up")
    for name in Posteriors.ARRAYS:
        array = arrays[name]
        if array.dtype.kind != "f":
            raise ValueError(f"{name} has the type {array.dtype}")
        width = array.shape[-1] if array.ndim else 0
        fits = width == pitches if name != "contour" else width >= pitches and width % pitches == 0
        if array.ndim != 2 or len(array) != frames or not fits:
            raise ValueError(f"{name} has the shape {array.shape}, note {arrays['note'].shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
    floats = {name: arrays[name].astype(np.float32, copy=False) for name in Posteriors.ARRAYS}
    return Posteriors(**floats, frame_rate=frame_rate, lowest_pitch=int(lowest))


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it.

    The bytes go to a temporary file in the same folder, to the disk, and only then to their name. On failure whatever
    had the name before keeps it.

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
            # A plain exclusive open, for the permissions the user's umask gives; tempfile would keep the file private.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            with open(os.open(temporary, flags, 0o666), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:  # also when interrupted; once it has been renamed there is nothing left to remove
            with contextlib.suppress(OSError):
                temporary.unlink()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        number = error.errno if isinstance(error, OSError) else None
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        remedy = _REMEDIES.get(number or 0, "choose another output")
        raise OutputError(f"{printable(path)}: cannot be written: {reason}; {remedy}") from error
    _sync_folder(path.parent)


def _refuse_special(path: Path) -> None:
    """Replacing a folder fails late and replacing a device succeeds: say so first."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.EEXIST, "a folder has this name" if stat.S_ISDIR(mode) else "it is not a regular file")


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power loss, on systems whose folders can be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
