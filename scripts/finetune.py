"""Fine-tune the network on recordings of your own instrument, and compare it with what it was.

    python scripts/finetune.py FOLDER --out RUN [--minutes 10 | --steps N] [--data DATA] [--keep CLIPS]

``FOLDER`` holds recordings, in sub-folders too, each with its notes beside it under the same name: MIDI, CSV or JAMS as
``basic_transcribe.scoring.load_notes`` reads them. Some recordings are held out. The others are cut into clips of 12 s,
several times over: as they are, then at other speeds, with their labels following, and with other equalisation, level
and noise. ``RUN/model.onnx`` is the result, ``RUN/last.pt`` its checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import export
import numpy as np
import onnx
import render
import soxr
import torch
import train
from frontend import FRAME_RATE, LOWEST_PITCH, SAMPLE_RATE, FrontEnd
from network import Network, load_network
from shared import errors_in_one_line
from synth import Played

from basic_transcribe import bends, scoring
from basic_transcribe.audio import open_audio
from basic_transcribe.errors import UsageError, printable
from basic_transcribe.model import Model, default_model_path
from basic_transcribe.pipeline import Transcriber
from basic_transcribe.scoring import Notes
from basic_transcribe.tuning import ratio_of
from basic_transcribe.types import Posteriors

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
CLIP = int(render.LENGTH * SAMPLE_RATE)  # samples
LONGEST_SHIFT = 0.5  # s, that labels may be early or late
SHIFTS = np.arange(-LONGEST_SHIFT, LONGEST_SHIFT + 1e-9, 0.002)
APART = 0.05  # s, the tolerance of the scores: a recording whose labels lag by so much more or less is named
# Onset posterior a note. With labels that fit, recordings have from .09 (a violin) to .6 (a guitar), with those of
# other recordings at most .03; an instrument that the network does not hear has .01.
LEAST_AGREEMENT = 0.05
BATCH = 6  # crops; half of what train.py takes, for twice as many steps in the same time
SCORES = ("P", "R", "F50", "Foff")


@dataclass(frozen=True, eq=False)
class Take:
    """A recording and its notes.

    ``audio`` is mono at SAMPLE_RATE, shape (samples,); only what begins at ``begin`` seconds or later is scored.
    """

    name: str
    audio: np.ndarray
    notes: Notes
    begin: float = 0.0

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.audio) / SAMPLE_RATE


# ---------------------------------------------------------------- recordings and labels


def read_take(recording: scoring.Recording) -> Take:
    """A recording as the model hears it when it transcribes, in tune by its speed and not faint, and its notes.

    Raises
    ------
    TranscribeError
        If either cannot be read, or the notes go on after the recording's end.
    """
    notes = scoring.load_notes(recording.reference)
    name = Path(recording.set_name, recording.name).as_posix()
    with open_audio(recording.audio, target_rate=SAMPLE_RATE, tuning=None, raises=True) as stream:
        audio = np.concatenate([np.zeros(0, np.float32), *stream])
        notes = replace(notes, intervals=notes.intervals * ratio_of(stream.tuning))
    take = Take(name, audio, notes)
    if not len(take.audio):
        raise UsageError(f"{printable(recording.audio)}: has no samples; leave it out")
    last = float(notes.intervals[:, 0].max(initial=0))
    if last > take.duration + LONGEST_SHIFT:
        raise UsageError(
            f"{printable(recording.reference)}: has a note at {last:.1f} s, but {recording.audio.name} lasts "
            f"{take.duration:.1f} s; give the notes of this recording"
        )
    return take


def moved(notes: Notes, seconds: float, last: float = np.inf) -> Notes:
    """Notes ``seconds`` later, as far as they sound between 0 and ``last``; onsets may be before 0."""
    intervals = notes.intervals + seconds
    kept = (intervals[:, 1] > 0) & (intervals[:, 0] < last)
    return Notes(np.minimum(intervals[kept], last), notes.pitch[kept], notes.sounding[kept])


def since(notes: Notes, begin: float) -> Notes:
    """Notes that begin at ``begin`` seconds or later; what begins before 0 begins at 0."""
    intervals = np.maximum(notes.intervals, 0)
    kept = intervals[:, 0] >= begin
    return Notes(intervals[kept], notes.pitch[kept], notes.sounding[kept])


def split(takes: list[Take], share: float, seed: int, trained: Mapping[str, float]) -> tuple[list[Take], list[Take]]:
    """Recordings to train on and recordings held out, at least one of each; a single one is cut in time.

    Held out are first of all those that the checkpoint was not ``trained`` on, in an order that depends on their names
    and the seed alone, so that the same ones tend to be held out when others are added. Of a single one the held-out
    part comes with what precedes it, since the network hears some seconds back; only notes from the cut on are scored.
    Recordings without notes are for training alone, since they score 0 whatever is found.
    """
    bare, takes = ([t for t in takes if bool(len(t.notes)) is there] for there in (False, True))
    if not takes:
        return bare, []
    if len(takes) == 1:
        (take,) = takes
        samples = int(len(take.audio) * (1 - share))
        seconds = samples / SAMPLE_RATE
        head = replace(take, audio=take.audio[:samples], notes=moved(take.notes, 0, last=seconds))
        return [head, *bare], [replace(take, begin=seconds)]
    count = min(max(1, round(share * len(takes))), len(takes) - 1)

    def order(name: str) -> tuple[bool, bytes]:
        return name in trained, hashlib.sha256(f"{seed} {name}".encode()).digest()

    chosen = set(sorted((t.name for t in takes), key=order)[:count])
    return [*(t for t in takes if t.name not in chosen), *bare], [t for t in takes if t.name in chosen]


def agreement(take: Take, model: Model) -> tuple[np.ndarray, int]:
    """Onset posteriors where the labels would be if they lay SHIFTS behind the sound, summed; and how many they are."""
    onset = np.concatenate([p.onset for p in model.posteriors([take.audio])])  # all kinds take 760 MB an hour
    pitch = np.round(take.notes.sounding).astype(int) - LOWEST_PITCH
    known = (pitch >= 0) & (pitch < onset.shape[1])
    frame = (take.notes.intervals[known, :1] - SHIFTS) * FRAME_RATE
    low = np.clip(np.floor(frame), 0, len(onset) - 2).astype(int)
    part, k = np.clip(frame - low, 0, 1), pitch[known][:, None]
    return (onset[low, k] * (1 - part) + onset[low + 1, k] * part).sum(0), len(k)


def lag(agreements: Sequence[tuple[np.ndarray, int]]) -> float | None:
    """Seconds that the labels lie behind the sound, within LONGEST_SHIFT: where the onset posterior agrees best.

    0 if it is less than a frame, which could be the model's own bias; None if it agrees nowhere.
    """
    heard, count = (sum(part) for part in zip(*agreements, strict=True))
    if heard.max() < LEAST_AGREEMENT * max(count, 1):
        return None
    best = float(SHIFTS[np.argmax(heard)])
    return best if abs(best) >= 1 / FRAME_RATE else 0.0


def posteriors(model: Model, audio: np.ndarray) -> Posteriors:
    """What a model says of a whole recording."""
    return Posteriors.concatenate(list(model.posteriors([audio.astype(np.float32)])))


# ---------------------------------------------------------------- clips


def at_speed(take: Take, semitones: float) -> Take:
    """A recording played faster or slower, so that it sounds ``semitones`` higher; its notes follow."""
    if not semitones:
        return take
    speed = 2 ** (semitones / 12)
    audio = soxr.resample(take.audio, SAMPLE_RATE * speed, SAMPLE_RATE).astype(np.float32)
    notes = take.notes
    notes = Notes(notes.intervals / speed, notes.pitch + semitones, notes.sounding + semitones)
    return replace(take, audio=audio, notes=notes)


def cut(take: Take, begin: float) -> Iterator[tuple[np.ndarray, Notes]]:
    """Consecutive clips from ``begin`` seconds on; the last is filled with silence, or left out if mostly that."""
    first = int(begin * SAMPLE_RATE)
    for start in range(first, max(first + 1, len(take.audio) - CLIP // 2), CLIP):
        piece = take.audio[start : start + CLIP]
        yield np.pad(piece, (0, CLIP - len(piece))), moved(take.notes, -start / SAMPLE_RATE, len(piece) / SAMPLE_RATE)


def played(audio: np.ndarray, notes: Notes, model: Model) -> list[Played]:
    """Labels of a clip, as render.write_shard takes them.

    Loudness and the course of the pitch, which the user's labels do not give, are what ``model`` hears: so they stay
    what they were, while onsets, offsets and pitches are learnt.
    """
    heard = posteriors(model, audio)
    out = []
    for (onset, offset), pitch in zip(notes.intervals.tolist(), notes.sounding.tolist(), strict=True):
        number = round(pitch)
        k = number - LOWEST_PITCH
        begin = round(onset * FRAME_RATE)
        first = max(begin, 0)
        last = max(round(offset * FRAME_RATE), first + 1)
        if not 0 <= k < heard.note.shape[1] or first >= len(heard):
            continue
        centre = k * heard.bins_per_semitone + heard.bins_per_semitone // 2
        [bend] = bends.curves([bends.window(heard.contour[first:last], centre)], heard.bins_per_semitone)
        if bend is None:
            bend = np.full(last - first, pitch - number, np.float32)
        bend = np.pad(bend, (first - begin, 3), mode="edge")  # labels are read from the onset on
        level = float(heard.level[begin, k]) if begin >= 0 else np.nan
        out.append(Played(onset, offset, number, level, bend))
    return sorted(out, key=lambda p: (p.onset, p.pitch))


def material(data: Path | None) -> render.Material:
    """Rooms and drums of ``data``; without it only the rooms that render.record makes up."""
    if data is None:
        return render.Material({}, {}, [np.ones(1, np.float32)], [], {})
    return render.load_material(None, None, data, False)


def write_clips(takes: list[Take], folder: Path, passes: int, seed: int, model: Model, rooms: render.Material) -> int:
    """Shards of all passes over ``takes``; returns the number of clips. Shards of an earlier run are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("own_*.npz"):
        old.unlink()
    front_end, count = FrontEnd(), 0
    for index, take in enumerate(takes):
        for which in range(passes):
            rng = np.random.default_rng([seed, index, which])
            semitones = float(rng.integers(-3, 4) + rng.normal(0, 0.08)) if which else 0.0
            fast = at_speed(take, semitones)
            latest = max(0.0, min(fast.duration - render.LENGTH, render.LENGTH / 2))
            begin = float(rng.uniform(0, latest)) if which else 0.0
            clips = []
            for audio, notes in cut(fast, begin):
                if which:
                    audio, _ = render.record(audio, rooms, rng, 0.05 if rooms.drums else 0.0)
                clips.append((audio, played(audio, notes, model)))
            render.write_shard(folder / f"own_{index:04d}_{which}.npz", clips, front_end)
            count += len(clips)
    return count


# ---------------------------------------------------------------- training, export, scores


def newest_checkpoint() -> Path:
    """The checkpoint of the latest version."""
    return max(CHECKPOINTS.glob("*.pt"), key=lambda p: [int(n) for n in re.findall(r"\d+", p.stem)])


def write_model(network: Network, path: Path, name: str) -> None:
    """Export a network with the thresholds and the version of the shipped model, ``name`` added to the latter."""
    shipped = default_model_path()
    properties = {p.key: p.value for p in onnx.load(str(shipped)).metadata_props}
    version = json.loads(properties["basic_transcribe"])["version"]
    network = copy.deepcopy(network).eval()
    export.export(network, path, f"{version}+{name}", defaults=export.stored_defaults(shipped))


def steps_in(
    minutes: float, network: Network, own: list[train.Clip], kept: list[train.Clip], options: train.Options
) -> int:
    """Steps that this machine does in so many minutes, measured on a few."""
    state = train.State.begin(copy.deepcopy(network))
    steps = train.take_steps(state, kept, own, replace(options, steps=8))
    next(steps)  # the first waits for its batch and for libraries to warm up
    began = time.perf_counter()
    done = sum(1 for _ in islice(steps, 5))
    return max(1, round(60 * minutes * done / (time.perf_counter() - began)))


def score(model: Path, takes: list[Take]) -> list[dict[str, float]]:
    """Scores of a model on each recording, with its stored thresholds."""
    transcriber = Transcriber(model)
    out = []
    for take in takes:
        estimated = scoring.from_notes(transcriber.transcribe(take.audio, SAMPLE_RATE).notes)
        out.append(scoring.note_scores(since(take.notes, take.begin), since(estimated, take.begin)))
    return out


def table(takes: list[Take], before: list[dict[str, float]], after: list[dict[str, float]]) -> str:
    """A line for each held-out recording, before on the left and after on the right, and the means."""

    def line(name: str, notes: int, *scores: dict[str, float]) -> str:
        return f"{name[-28:]:28s} {notes:5d}" + "".join(
            " |" + "".join(f" {values[k]:6.3f}" for k in SCORES) for values in scores
        )

    heads = "".join(f" | {text:27s}" for text in ("before", "after"))
    lines = [f"{'held out':28s} {'':5s}{heads}", f"{'':28s} notes" + 2 * (" |" + "".join(f" {k:>6s}" for k in SCORES))]
    counts = [len(since(t.notes, t.begin)) for t in takes]
    lines += [line(t.name, n, b, a) for t, n, b, a in zip(takes, counts, before, after, strict=True)]
    return "\n".join([*lines, line("MEAN", sum(counts), means(before), means(after))])


def means(scores: list[dict[str, float]]) -> dict[str, float]:
    """Means over recordings."""
    return {k: float(np.mean([s[k] for s in scores])) for k in SCORES}


def verdict(before: dict[str, float], after: dict[str, float], model: Path) -> str:
    """Whether fine-tuning helped, in a line.

    Raises
    ------
    UsageError
        If no note was found, before or after.
    """
    if not max(before["F50"], after["F50"]):
        raise UsageError(
            "F50 is 0 before and after: the labels do not fit the recordings, or training was far too short; "
            "check them, and --shift"
        )
    change = ", ".join(f"{k} {before[k]:.3f} -> {after[k]:.3f}" for k in ("F50", "Foff"))
    if after["F50"] < before["F50"]:
        return f"WORSE on the held-out recordings ({change}): do not use it; check --shift, or give more recordings"
    if after["Foff"] < before["Foff"]:
        return f"Onsets no worse, but note ends WORSE on the held-out recordings ({change}): {model}"
    return f"No worse on the held-out recordings ({change}): basic-transcribe RECORDING --model {model}"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Flags, checked; of the command line if none are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=10.0, help="of training, about (default: %(default)s)")
    length.add_argument("--steps", type=int, help="of training, instead of minutes")
    parser.add_argument("--checkpoint", type=Path, help="start here (default: the newest in scripts/checkpoints)")
    parser.add_argument("--holdout", type=float, default=0.2, help="share of the recordings (default: %(default)s)")
    parser.add_argument("--shift", default="auto", metavar="auto|SECONDS", help="how much the labels lag the sound")
    parser.add_argument("--data", type=Path, help="as for render.py: recorded rooms and drums to augment with")
    parser.add_argument("--keep", type=Path, metavar="CLIPS", help="clips of render.py to mix in, against forgetting")
    parser.add_argument("--keep-share", type=float, default=0.5, help="of them in a batch (default: %(default)s)")
    parser.add_argument("--passes", type=int, default=6, help="of cutting clips (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=5e-4, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if not (0 < args.holdout < 1 and 0 < args.keep_share < 1):
        parser.error("--holdout and --keep-share lie between 0 and 1, both exclusive")
    enough = args.passes >= 1 and (args.steps is None or args.steps >= 1)
    if not (enough and 0 < args.minutes < math.inf and 0 < args.lr < math.inf):
        parser.error("--minutes, --steps, --passes and --lr must be positive")
    if args.shift != "auto":
        try:
            args.shift = float(args.shift)
        except ValueError:
            args.shift = math.nan
        if not abs(args.shift) <= LONGEST_SHIFT:
            parser.error(f"--shift takes seconds, from {-LONGEST_SHIFT} to {LONGEST_SHIFT}, or auto")
    return args


def check_notes(training: list[Take], heldout: list[Take], folder: Path) -> None:
    """See whether there are notes on both sides.

    Raises
    ------
    UsageError
        If not.
    """
    if not all(sum(len(since(t.notes, t.begin)) for t in part) for part in (training, heldout)):
        raise UsageError(f"{folder}: no notes to train on, or none held out; add recordings or change --holdout")


def finetune(args: argparse.Namespace) -> None:
    """The whole way, from a folder to a model and its scores.

    Raises
    ------
    TranscribeError
        If something cannot be read, or there is too little of it.
    """
    start = args.checkpoint or newest_checkpoint()
    network = load_network(start)
    trained: dict[str, float] = torch.load(start, map_location="cpu", weights_only=True).get("trained", {})
    rooms = material(args.data)
    kept = [clip for pool in train.load_clips(args.keep) for clip in pool] if args.keep else []
    found = scoring.find_some(args.folder)
    takes = [read_take(recording) for recording in found.recordings]
    for path, remark in found.remarks:
        print(f"{printable(path)}: {remark}")
    training, heldout = split(takes, args.holdout, args.seed, trained)
    check_notes(training, heldout, args.folder)
    for title, part in (("training", training), ("held out", heldout)):
        print(f"{title}: {sum(t.duration - t.begin for t in part):.0f} s, {', '.join(t.name for t in part)}")
    if known := [t.name for t in heldout if trained.get(t.name, 0.0) > t.begin]:
        print(f"{start} was trained on {', '.join(known)}: scores of these say too much")

    args.out.mkdir(parents=True, exist_ok=True)
    before, after, checkpoint = (args.out / name for name in ("before.onnx", "model.onnx", "last.pt"))
    write_model(network, before, "before")
    model = Model(before)
    shift = args.shift
    if shift == "auto":
        heard = [agreement(take, model) for take in (*training, *heldout)]
        shift = lag(heard[: len(training)])
        for take, part in zip((*training, *heldout), heard, strict=True):
            own = lag([part])
            if own is not None and abs(own - (shift or 0.0)) > APART:
                print(
                    f"{take.name}: labels lag the sound by {1000 * own:.0f} ms, unlike all together; "
                    "move them, or leave it out"
                )
    if shift is None:
        print(
            f"labels not moved: the network hears hardly any of their notes within {LONGEST_SHIFT} s of where they are"
        )
    elif shift:
        print(f"labels lag the sound by {1000 * shift:.0f} ms: moved")
        training, heldout = (
            [replace(t, notes=moved(t.notes, -shift, t.duration)) for t in part] for part in (training, heldout)
        )
        check_notes(training, heldout, args.folder)

    work = args.out / "clips"
    count = write_clips(training, work, args.passes, args.seed, model, rooms)
    own, _ = train.load_clips(work)

    torch.manual_seed(args.seed)
    network.to(train.best_device())
    # A batch of one instrument in one room would drag the batch norms' running statistics away from what the weights
    # were trained with, and a few hundred steps are too few to settle them again: they stay, only the weights move.
    options = train.Options(
        batch=BATCH,
        real=1 - args.keep_share if kept else 1.0,
        lr=args.lr,
        seed=args.seed,
        warm_up=50,
        freeze_statistics=True,
    )
    steps = args.steps or steps_in(args.minutes, network, own, kept, options)
    if after.exists():
        print(f"{after} is an earlier run's until this one is done")
    print(f"{count} clips of your recordings, {len(kept)} others; {steps} steps", flush=True)
    state = train.State.begin(network)
    state.trained = trained | {t.name: max(t.duration, trained.get(t.name, 0.0)) for t in training}
    train.train(state, kept, own, replace(options, steps=steps), checkpoint)
    write_model(load_network(checkpoint), after, re.sub(r"[^0-9A-Za-z]+", "-", args.out.resolve().name))

    scores = [score(path, heldout) for path in (before, after)]
    print(table(heldout, *scores))
    print(verdict(*map(means, scores), after))


@errors_in_one_line()
def main() -> None:
    finetune(parse_arguments())


if __name__ == "__main__":
    main()
