"""Train the network on rendered clips.

    python scripts/train.py CLIPS --out RUN --steps 10000 [--init CHECKPOINT] [--teacher CHECKPOINT] [--resume]

``CLIPS`` holds the shards written by render.py. Runs on CUDA when there is one, else on the CPU with bfloat16.
``RUN/last.pt`` is written every ``--save-every`` steps and holds all that ``--resume`` needs; ``config``, ``network``
and ``ema`` in it are what export.py reads. The batches of a run depend on the seed and the step alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from frontend import BINS_PER_SEMITONE, FINE, FRAME_RATE, LOWEST_PITCH, N_PITCHES
from network import LEVEL_SCALE, REACH, Network, load_network, normalise
from render import DB_FLOOR, DB_STEP
from shared import at_least_one, errors_in_one_line
from torch import Tensor

from basic_transcribe.errors import UsageError

WEIGHTS = {"onset": 4.0, "note": 1.0, "offset": 1.0, "contour": 0.25, "level": 3.0, "features": 1.0}
TEACHER_SHARE = 0.5  # of a teacher's posteriors in the targets
MAX_SHIFT = 4  # semitones
DB = np.float32(10 / np.log(10))  # dB in a factor of e of power
BALANCE = 9.0  # dB by which one of two crops that sound together may be louder


@dataclass(frozen=True)
class Clip:
    """One rendered clip: encoded spectrograms, loudness reference, notes and their bends."""

    fine: np.ndarray
    sharp: np.ndarray
    reference: np.ndarray
    notes: np.ndarray
    bends: np.ndarray


@dataclass(frozen=True)
class Options:
    """How to train: steps in all, crops a batch, frames a crop, peak learning rate, share of real recordings.

    Crops have a multiple of four frames; to a share ``mix`` of them another is added. The learning rate rises for
    ``warm_up`` steps. With ``freeze_statistics`` the batch norms keep the means and variances they have. A ``teacher``
    is a network to learn from as well.
    """

    steps: int = 10000
    batch: int = 12
    frames: int = 432
    lr: float = 3e-3
    real: float = 0.2
    seed: int = 0
    warm_up: int = 200
    freeze_statistics: bool = False
    teacher: Network | None = None
    mix: float = 0.0


@dataclass
class State:
    """What training changes, and a checkpoint holds: weights, their moving average, the optimizer, steps done.

    ``trained`` has the names of recordings that finetune.py trained on, and how many seconds of each.
    """

    network: Network
    ema: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0
    trained: dict[str, float] = field(default_factory=dict)

    @classmethod
    def begin(cls, network: Network) -> State:
        """A first step from these weights."""
        ema = {k: v.clone().float() for k, v in network.state_dict().items()}
        return cls(network, ema, torch.optim.AdamW(network.parameters(), weight_decay=1e-3))

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        OSError
            If the file cannot be read.
        UsageError
            If it is no checkpoint of such a network.
        """
        try:
            state = torch.load(path, map_location=next(self.network.parameters()).device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema, self.step, self.trained = state["ema"], state["step"], state.get("trained", {})
        except OSError:
            raise
        except Exception as error:  # what torch raises is not said, and of many kinds
            raise UsageError(f"{path}: no training of this network; give the --init that it began with") from error

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        temporary = path.with_suffix(".tmp")
        torch.save({"config": self.network.config, "network": self.network.state_dict(), "ema": self.ema,
                    "step": self.step, "optimizer": self.optimizer.state_dict(), "trained": self.trained},
                   temporary)  # fmt: skip
        temporary.rename(path)


def load_clips(folder: Path) -> tuple[list[Clip], list[Clip]]:
    """Clips of synthetic and of real recordings.

    Raises
    ------
    UsageError
        If there are none, or a file of them is damaged.
    """
    synthetic: list[Clip] = []
    real: list[Clip] = []
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path) as shard:
                data = {k: shard[k] for k in shard.files}
        except (BadZipFile, EOFError, ValueError) as error:
            raise UsageError(f"{path}: damaged; delete it, and render it again") from error
        target = real if path.name.startswith("guitar") else synthetic
        notes = data["notes"]
        for i in range(len(data["fine"])):
            mine = notes[notes[:, 0] == i]
            target.append(Clip(data["fine"][i], data["sharp"][i], data["reference"][i], mine, data["bends"]))
    if not synthetic and not real:
        raise UsageError(f"{folder}: no clips (*.npz); give a folder that render.py wrote")
    return synthetic, real


def check(synthetic: list[Clip], real: list[Clip], options: Options) -> None:
    """See whether crops can be cut from these clips.

    Raises
    ------
    UsageError
        If not.
    """
    if not synthetic and options.real < 1:
        raise UsageError(f"--real is {options.real:g}, but all clips are real; render synthetic ones, or give --real 1")
    longest = min(len(clip.sharp) for clip in (*synthetic, *real)) - REACH - 1
    if options.frames % 4 or not 0 < options.frames <= longest:
        raise UsageError(f"--frames is {options.frames}; these clips take multiples of 4 up to {longest // 4 * 4}")


def targets(clip: Clip, start: int, width: int, shift: int) -> dict[str, np.ndarray]:
    """Labels of frames ``start`` to ``start + width``, transposed by ``shift`` semitones.

    Onsets and offsets are triangles of +-2 frames around the exact time, so that the peak's shape carries the sub-frame
    position; the contour is a Gaussian of 0.8 bins; the level is NaN except at onsets.
    """
    out = {k: np.zeros((width, N_PITCHES), np.float32) for k in ("onset", "note", "offset")}
    contour = np.zeros((width, N_PITCHES * BINS_PER_SEMITONE), np.float32)
    level = np.full((width, N_PITCHES), np.nan, np.float32)
    first, last = start / FRAME_RATE - 0.1, (start + width) / FRAME_RATE + 0.1
    for _, onset, offset, pitch, db, position, count in clip.notes:
        k = int(pitch) - LOWEST_PITCH + shift
        if onset > last or offset < first or not 0 <= k < N_PITCHES:
            continue
        a, b = onset * FRAME_RATE - start, offset * FRAME_RATE - start
        i, j = max(0, round(a)), min(width, max(round(b), round(a) + 1))
        if i < j:
            out["note"][i:j, k] = 1
            bend = clip.bends[int(position) : int(position + count)].astype(np.float32)
            index = np.clip(np.arange(i, j) - round(a), 0, len(bend) - 1)
            centre = (k + bend[index]) * BINS_PER_SEMITONE + BINS_PER_SEMITONE // 2
            low = np.floor(centre).astype(int)
            rows = np.arange(i, j)
            for step in (-1, 0, 1, 2):
                column = low + step
                ok = (column >= 0) & (column < contour.shape[1])
                weight = np.exp(-0.5 * ((column - centre) / 0.8) ** 2)
                contour[rows[ok], column[ok]] = np.maximum(contour[rows[ok], column[ok]], weight[ok])
        for name, at in (("onset", a), ("offset", b)):
            for t in range(max(0, int(np.floor(at)) - 1), min(width, int(np.floor(at)) + 3)):
                value = max(0.0, 1 - abs(t - at) / 2)
                out[name][t, k] = max(out[name][t, k], value)
                if name == "onset" and value > 0.4:
                    level[t, k] = db
    return {**out, "contour": contour, "level": level}


def crop(clip: Clip, width: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """An augmented crop: network inputs with their context, and labels; levels in dB."""
    every = FINE.every
    start = int(rng.integers(0, len(clip.sharp) - width - REACH)) // every * every
    if rng.random() < 0.1:
        start = 0
    left = max(0, REACH - start)
    window = slice(start + left - REACH, start + width + REACH)
    half = slice(window.start // every, window.stop // every)
    fine = np.pad(clip.fine[half], ((left // every, 0), (0, 0))).astype(np.float32) * DB_STEP + DB_FLOOR
    sharp = np.pad(clip.sharp[window], ((left, 0), (0, 0))).astype(np.float32) * DB_STEP + DB_FLOOR
    reference = np.pad(clip.reference[window].astype(np.float32), (left, 0), mode="edge")
    shift = int(rng.integers(-MAX_SHIFT, MAX_SHIFT + 1)) if rng.random() < 0.7 else 0
    if shift:
        fine, sharp = transpose(fine, shift * BINS_PER_SEMITONE), transpose(sharp, shift)
    timbre = np.zeros(N_PITCHES, np.float32)
    if rng.random() < 0.5:  # a smooth change of timbre, the same for both spectrograms
        points = np.cumsum(rng.normal(0, 2.5, 8))
        curve = np.interp(np.linspace(0, 7, fine.shape[1]), np.arange(8), points - points.mean()).astype(np.float32)
        fine = fine + curve
        sharp = sharp + curve[1::3]
        timbre = gain_of_notes(curve)
    if rng.random() < 0.3:  # a noise floor
        floor = float(reference.max()) - rng.uniform(25, 70)
        fine, sharp = (np.logaddexp(x / DB, floor / DB) * DB for x in (fine, sharp))
    reference = reference + float(rng.normal(0, 3))
    out = targets(clip, start, width, shift)
    out["level"] += timbre
    return {**out, "fine": fine, "sharp": sharp, "reference": reference}


def together(a: dict[str, np.ndarray], b: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Two crops that sound at the same time, about equally loud: powers add, and notes of one pitch are merged.

    As in render.merge_unisons, of two such notes the earlier ends where the later begins, which ends last; notes that
    begin within three frames of each other are one.
    """
    gain = np.float32(a["reference"].mean() - b["reference"].mean() + rng.uniform(-BALANCE, BALANCE))
    mixed = {name: np.logaddexp(a[name] / DB, (b[name] + gain) / DB) * DB for name in ("fine", "sharp", "reference")}
    mixed |= {name: np.maximum(a[name], b[name]) for name in ("onset", "note", "contour")}
    ends = [x["offset"] * (1 - y["note"]) for x, y in ((a, b), (b, a))]
    earlier = [np.pad(x["note"], ((3, 0), (0, 0)), mode="edge")[:-3] for x in (a, b)]
    again = [a["onset"] * b["note"] * earlier[1], b["onset"] * a["note"] * earlier[0]]
    return {**mixed, "offset": np.maximum.reduce([*ends, *again]), "level": np.fmax(a["level"], b["level"] + gain)}


def relative(crop: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A crop with its levels as the network tells them, relative to the loudness reference."""
    width = len(crop["level"])
    level = (crop["level"] - crop["reference"][REACH : REACH + width, None] + LEVEL_SCALE) / LEVEL_SCALE
    return {**crop, "level": level}


def gain_of_notes(curve: np.ndarray) -> np.ndarray:
    """By how many dB a change of timbre in dB, shape (309,), changes notes of each pitch, as in render.equalise."""
    harmonics = np.arange(1, 9)
    first = np.arange(N_PITCHES)[:, None] * BINS_PER_SEMITONE + BINS_PER_SEMITONE // 2
    bins = np.round(first + 12 * BINS_PER_SEMITONE * np.log2(harmonics)).astype(int)
    weights = np.where(bins < len(curve), harmonics**-2.0, 0)
    power = 10 ** (curve[np.minimum(bins, len(curve) - 1)] / 10)
    return (10 * np.log10((power * weights).sum(1) / weights.sum(1))).astype(np.float32)


def transpose(x: np.ndarray, bins: int) -> np.ndarray:
    """Shift a spectrogram up by ``bins``; the gap is filled with the floor."""
    y = np.full_like(x, DB_FLOOR)
    if bins > 0:
        y[:, bins:] = x[:, :-bins]
    else:
        y[:, :bins] = x[:, -bins:]
    return y


def batches(synthetic: list[Clip], real: list[Clip], options: Options, first: int) -> Iterator[dict[str, Tensor]]:
    """Batches from step ``first`` on, prepared one ahead in a thread."""

    def make(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([options.seed, step])

        def one() -> dict[str, np.ndarray]:
            pool = real if real and rng.random() < options.real else synthetic
            return crop(pool[int(rng.integers(len(pool)))], options.frames, rng)

        crops = []
        for _ in range(options.batch):
            mixed = options.mix > 0 and rng.random() < options.mix
            crops.append(relative(together(one(), one(), rng) if mixed else one()))
        return {k: torch.from_numpy(np.stack([c[k] for c in crops])).float() for k in crops[0]}

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(make, first)
        for step in range(first, options.steps):
            ready = future.result()
            if step + 1 < options.steps:
                future = pool.submit(make, step + 1)
            yield ready


def inputs(batch: dict[str, Tensor], network: Network) -> tuple[Tensor, Tensor]:
    """What a network takes of a batch."""
    fine, reference = batch["fine"][:, :: network.every // FINE.every, : network.bins], batch["reference"]
    return normalise(fine, reference[:, :: network.every]), normalise(batch["sharp"], reference)


def follow(teacher: Network, batch: dict[str, Tensor], features: Tensor) -> Tensor:
    """Mix a teacher's posteriors into the targets of a batch, in place; return how far its features are from ours.

    The first after Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (2015), the second after
    Romero et al., "FitNets: hints for thin deep nets" (ICLR 2015); mean square, in variances of each channel.
    """
    with torch.no_grad():
        theirs = teacher.features(*inputs(batch, teacher))
        posteriors = teacher.head(theirs)
    for name in ("onset", "note", "offset", "contour"):
        batch[name] = batch[name].lerp(torch.sigmoid(posteriors[name].float()), TEACHER_SHARE)
    variance = theirs.float().var(dim=(0, 2, 3), keepdim=True) + 1e-3
    return ((features.float() - theirs.float()).square() / variance).mean()


def losses(out: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Binary cross-entropies summed over pitches; L1 of the level at onsets."""
    result = {}
    for name in ("onset", "note", "offset", "contour"):
        bce = F.binary_cross_entropy_with_logits(out[name].float(), batch[name])
        result[name] = bce * batch[name].shape[-1]
    known = torch.isfinite(batch["level"])
    error = (out["level"].float() - torch.nan_to_num(batch["level"])).abs() * known
    result["level"] = error.sum() / known.sum().clamp(min=1)
    return result


def learning_rate(step: int, options: Options) -> float:
    """Linear warm-up, then a cosine to one percent."""
    warm = min(1.0, (step + 1) / options.warm_up)
    return float(options.lr * warm * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * step / options.steps))))


def best_device() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def take_steps(state: State, synthetic: list[Clip], real: list[Clip], options: Options) -> Iterator[dict[str, float]]:
    """Train from ``state.step`` to ``options.steps``, changing ``state``; yields the losses of each step.

    Raises
    ------
    UsageError
        If a loss is not finite.
    """
    network, optimizer = state.network, state.optimizer
    device = next(network.parameters()).device
    network.train()
    if options.freeze_statistics:
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    for batch in batches(synthetic, real, options, state.step):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(state.step, options)
        batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
        with torch.autocast(device.type, dtype=torch.bfloat16):
            features = network.features(*inputs(batch, network))
            out = network.head(features)
            parts = {"features": follow(options.teacher, batch, features)} if options.teacher is not None else {}
        parts |= losses(out, batch)
        loss = sum(WEIGHTS[k] * v for k, v in parts.items())
        if not torch.isfinite(loss):
            raise UsageError(f"training diverged at step {state.step + 1}; lower --lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        decay = min(0.998, (1 + state.step) / (10 + state.step))
        with torch.no_grad():
            for k, v in network.state_dict().items():
                state.ema[k].mul_(decay).add_(v.float(), alpha=1 - decay)
        state.step += 1
        yield {k: v.item() for k, v in parts.items()}


def train(
    state: State, synthetic: list[Clip], real: list[Clip], options: Options, checkpoint: Path, save_every: int = 500
) -> None:
    """Train from ``state.step`` to ``options.steps``, print the losses, and write ``checkpoint`` now and then.

    Raises
    ------
    UsageError
        If a loss is not finite, or Ctrl-C stops it.
    """
    began, first, shown, running = time.time(), state.step, state.step, dict.fromkeys(WEIGHTS, 0.0)
    saved = "nothing was saved"
    try:
        for parts in take_steps(state, synthetic, real, options):
            for k, v in parts.items():
                running[k] += v
            if state.step % 50 == 0:
                seconds = time.time() - began
                speed = (state.step - first) * options.batch * options.frames / FRAME_RATE / seconds
                means = {k: round(v / (state.step - shown), 4) for k, v in running.items()}
                print(state.step, f"{seconds:.0f} s", means, f"{speed:.0f}x", flush=True)
                shown, running = state.step, dict.fromkeys(WEIGHTS, 0.0)
            if state.step % save_every == 0 or state.step == options.steps:
                state.save(checkpoint)
                saved = f"{checkpoint} has step {state.step}"
    except KeyboardInterrupt:
        raise UsageError(f"stopped after step {state.step}; {saved}") from None


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=at_least_one, default=Options.steps)
    parser.add_argument("--batch", type=at_least_one, default=Options.batch)
    parser.add_argument("--frames", type=int, default=Options.frames, help="frames of a crop, a multiple of 4")
    parser.add_argument("--lr", type=float, default=Options.lr)
    parser.add_argument("--real", type=float, default=Options.real, help="share of real recordings in a batch")
    parser.add_argument("--mix", type=float, default=Options.mix, help="share of crops to which another is added")
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--save-every", type=at_least_one, default=500)
    parser.add_argument("--resume", action="store_true", help="go on where RUN/last.pt ends")
    parser.add_argument("--init", type=Path, help="start from the EMA weights of this checkpoint")
    parser.add_argument("--teacher", type=Path, help="learn from the posteriors and features of this checkpoint too")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "last.pt"
    device = best_device()
    teacher = None
    if args.teacher is not None:
        teacher = load_network(args.teacher).eval().to(device)
    options = Options(args.steps, args.batch, args.frames, args.lr, args.real, args.seed, teacher=teacher, mix=args.mix)

    torch.manual_seed(options.seed)
    network = Network() if args.init is None else load_network(args.init)
    network = network.to(device)
    state = State.begin(network)
    if args.resume:
        state.restore(checkpoint)
    synthetic, real = load_clips(args.clips)
    check(synthetic, real, options)
    print(f"{len(synthetic)} synthetic and {len(real)} real clips; {sum(p.numel() for p in network.parameters())} "
          f"parameters on {device}", flush=True)  # fmt: skip
    train(state, synthetic, real, options, checkpoint, args.save_every)


if __name__ == "__main__":
    main()
