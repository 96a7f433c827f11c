"""How well beats are found in recordings that were played to a click, beside librosa's beat tracker.

    python scripts/score_beats.py FOLDER [--click SECONDS] [--json FILE] [--except NAME...]

Recordings are named like those of GuitarSet, ``PLAYER_STYLE-BPM-KEY_comp``, and keep their tempo; ``--except`` leaves
out those that do not. Columns: the share of recordings whose tempo is right within 4 %, the same but for a factor of 2
or 3, and the F-measure of the beats (70 ms, ``mir_eval.beat``) against a grid of the named tempo in its best phase. If
``--click`` says when a click fell, ``phase`` is the share of recordings whose tempo is right and whose beats fall on
clicks, not between. The last column is the median distance of our beats from the nearest onset, of those within 40 ms,
in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from mir_eval.beat import f_measure
from numpy.typing import NDArray
from shared import errors_in_one_line

from basic_transcribe.audio import AUDIO_EXTENSIONS, open_audio
from basic_transcribe.errors import UsageError
from basic_transcribe.pipeline import Transcriber
from basic_transcribe.types import BeatSettings

TOLERANCE = 0.04
NEAR = 0.15  # of a beat
PHASES = 48


def named_tempo(name: str) -> float | None:
    """Beats per minute in a name."""
    match = re.search(r"-(\d{2,3})-", name)
    return float(match[1]) if match else None


def is_tempo(found: float, true: float, factors: tuple[float, ...] = (1,)) -> bool:
    return any(abs(found / true / factor - 1) < TOLERANCE for factor in factors)


def best_f_measure(beats: NDArray[Any], tempo: float, duration: float) -> float:
    """F against the grid of a tempo in its best phase."""
    length = 60 / tempo
    grids = (np.arange(phase, duration, length) for phase in length * np.arange(PHASES) / PHASES)
    return max(float(f_measure(grid, beats)) for grid in grids)


def on_click(beats: NDArray[Any], tempo: float, click: float) -> bool:
    """Whether beats fall on the clicks of a tempo, one of which is at ``click`` seconds."""
    places = (beats - click) * tempo / 60
    return bool(np.median(np.abs(places - np.round(places))) < NEAR)


def librosa_beats(path: Path, rate: int) -> tuple[float, NDArray[Any]]:
    import librosa

    with open_audio(path, target_rate=rate) as stream:
        samples = np.concatenate(list(stream))
    tempo, beats = librosa.beat.beat_track(y=samples, sr=rate, units="time")
    return float(np.atleast_1d(tempo)[0]), np.asarray(beats)


def score(path: Path, tempo: float, click: float | None, transcriber: Transcriber) -> dict[str, dict[str, float]]:
    """Of one recording: our beats', and librosa's."""
    transcription = transcriber.transcribe(path, beats=BeatSettings())
    ours = np.array(transcription.beats.times if transcription.beats else [])
    onsets = np.array([note.onset for note in transcription.notes])
    distance = [float(onsets[np.abs(onsets - t).argmin()] - t) for t in ours] if len(onsets) else []
    found = transcription.beats.tempo if transcription.beats else 0.0
    result = {}
    for who, (estimate, beats) in {
        "ours": (found, ours),
        "librosa": librosa_beats(path, transcriber.model.sample_rate),
    }.items():
        result[who] = {
            "tempo": estimate,
            "exact": float(is_tempo(estimate, tempo)),
            "octave": float(is_tempo(estimate, tempo, (1, 2, 1 / 2, 3, 1 / 3))),
            "F": best_f_measure(beats, tempo, transcription.duration),
        }
        if click is not None:
            result[who]["phase"] = float(is_tempo(estimate, tempo) and on_click(beats, tempo, click))
    result["ours"]["off_ms"] = 1000 * float(np.median([d for d in distance if abs(d) < 0.04] or [0.0]))
    return result


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--click", type=float, metavar="SECONDS", help="when a click fell, such as 0; -2 if as much was cut off since"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores of each recording")
    parser.add_argument("--except", nargs="*", default=[], metavar="NAME", dest="excepted", help="beginnings of names")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*beats are empty.*")
    transcriber = Transcriber(threads=1)
    scores = {}
    for path in sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in AUDIO_EXTENSIONS):
        tempo = named_tempo(path.stem)
        if tempo is not None and not path.stem.startswith(tuple(args.excepted)):
            scores[path.stem] = score(path, tempo, args.click, transcriber)
            print(path.stem, *(f"{who} {s['tempo']:.1f} F {s['F']:.2f}" for who, s in scores[path.stem].items()))
    if not scores:
        raise UsageError(f"{args.folder}: no recordings with a tempo in their names, such as 00_Rock1-130-A_comp.wav")
    for who in ("ours", "librosa"):
        names = ("exact", "octave", "F") if args.click is None else ("exact", "octave", "phase", "F")
        columns = {k: np.mean([s[who][k] for s in scores.values()]) for k in names}
        print(f"{who:8s} n {len(scores)}", *(f"{k} {v:.3f}" for k, v in columns.items()))
    print(f"off by {np.median([s['ours']['off_ms'] for s in scores.values()]):.1f} ms")
    if args.json:
        args.json.write_text(json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
