"""The network and the whole graph, audio to posteriors.

A harmonically stacked, fully convolutional net at 88 pitches and a quarter of the frame rate, which emits four frames
per step. Nothing is padded in time (``REACH`` frames of context on either side are consumed), so blocks of any length
agree. Tensors are (batch, channels, pitch, time): to look at other pitches is to copy whole rows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from frontend import BINS_PER_SEMITONE, FINE, HOP, N_PITCHES, FrontEnd
from torch import Tensor, nn

from basic_transcribe.errors import UsageError

REACH = 34  # frames consumed on either side
FRAMES_PER_STEP = 4
DB_RANGE = 75.0  # input: dB above (reference - DB_RANGE), divided by DB_RANGE
LEVEL_SCALE = 40.0  # the level head is linear in units of 40 dB below the reference

# Harmonics 1/2, 1 .. 7 as shifts in bins of either spectrogram.
FINE_SHIFTS = (-36, 0, 36, 57, 72, 84, 93, 101)
SHARP_SHIFTS = (-12, 0, 12, 19, 24, 28, 31, 34)
# Intervals, in semitones, at which harmonics of different notes meet.
INTERVALS = (0, 12, -12, 19, -19, 24, -24, 28, -28, 31, -31, 34, -34, 36, -36)


def conv(
    inputs: int, outputs: int, kernel: tuple[int, int], *, stride=(1, 1), dilation=1, groups=1, relu=True
) -> nn.Sequential:
    """Convolution with 'same' padding in pitch and without padding in time, batch norm, optional ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride=stride,
            dilation=(1, dilation),
            groups=groups,
            padding=((kernel[0] - 1) // 2, 0),
            bias=False,
        ),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def stack_shifts(x: Tensor, shifts: tuple[int, ...], bins: int) -> Tensor:
    """(batch, n, m, time) to (batch, n * shifts, bins, time): each channel shifted down by each of the shifts."""
    m = len(x[0, 0])
    if torch.onnx.is_in_onnx_export():  # one look-up of rows; in training its gradient would take long
        rows = torch.tensor(shifts)[:, None] + torch.arange(bins)
        rows = torch.where((rows >= 0) & (rows < m), rows, m).flatten().int()  # row m is silence
        y = F.pad(x, (0, 0, 0, 1)).index_select(2, rows)
    else:
        below, above = -min(shifts), max(0, max(shifts) + bins - m)
        x = F.pad(x, (0, 0, below, above))
        y = torch.cat([x[:, :, below + s : below + s + bins] for s in shifts], dim=2)
    return y.reshape(len(x), len(x[0]) * len(shifts), bins, -1)


class HarmonicBlock(nn.Module):
    """Looks at harmonically related pitches, then at the neighbourhood; both residual. Consumes `dilation` steps.

    The neighbourhood is a convolution in time followed by one in pitch: a third less work than one in both.
    """

    def __init__(self, channels: int, reduced: int, inner: int, dilation: int, shifts: tuple[int, ...]) -> None:
        super().__init__()
        self.dilation, self.shifts = dilation, shifts
        self.reduce = conv(channels, reduced, (1, 1))
        self.mix = conv(reduced * len(shifts), channels, (1, 1), relu=False)
        self.local = nn.Sequential(
            conv(channels, inner, (1, 3), dilation=dilation), conv(inner, channels, (3, 1), relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x + self.mix(stack_shifts(self.reduce(x), self.shifts, N_PITCHES)))
        return F.relu(x[..., self.dilation : -self.dilation] + self.local(x))


class Head(nn.Conv2d):
    """Features to logits: four frames of 88 onsets, notes, offsets and levels, and of 264 contour bins a step."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, (4 + BINS_PER_SEMITONE) * FRAMES_PER_STEP, (1, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        # As a product of matrices, which ONNX Runtime computes from 8 bits to floats. No shape is asked for: that would
        # keep it from doing so.
        batch, n, outputs = len(x), FRAMES_PER_STEP, self.out_channels
        y = F.linear(x.permute(0, 2, 3, 1).reshape(-1, self.in_channels), self.weight[:, :, 0, 0], self.bias)
        y = y.reshape(batch, N_PITCHES, -1, outputs).permute(0, 2, 3, 1)
        # channels -> (kind, frame within the step); then interleave the frames of a step
        y4 = y[:, :, : 4 * n].reshape(batch, -1, 4, n, N_PITCHES).transpose(1, 2)
        onset, note, offset, level = y4.reshape(batch, 4, -1, N_PITCHES).unbind(1)
        bins = y[:, :, 4 * n :].reshape(batch, -1, BINS_PER_SEMITONE, N_PITCHES).transpose(2, 3)
        contour = bins.reshape(batch, -1, N_PITCHES * BINS_PER_SEMITONE)
        return {"onset": onset, "note": note, "offset": offset, "contour": contour, "level": level}


class Network(nn.Module):
    """Spectrograms to logits."""

    def __init__(
        self,
        channels: int = 48,
        stems: tuple[int, int] = (16, 24),
        reduced: int = 8,
        inner: int = 48,
        dilations: tuple[int, ...] = (1, 2, 3),
        intervals: tuple[tuple[int, ...], ...] = (INTERVALS, INTERVALS, INTERVALS),
        every: int = FINE.every,
        bins: int = FINE.n_bins,
    ) -> None:
        """``intervals`` are those of each block; ``every`` and ``bins`` say what is used of the fine spectrogram."""
        super().__init__()
        self.config = {
            "channels": channels,
            "stems": list(stems),
            "reduced": reduced,
            "inner": inner,
            "dilations": list(dilations),
            "intervals": [list(shifts) for shifts in intervals],
            "every": every,
            "bins": bins,
        }
        self.every, self.bins = every, bins
        fine, sharp = stems
        self.fine_stem = conv(len(FINE_SHIFTS), fine, (5, 8 // every), stride=(3, FRAMES_PER_STEP // every))
        self.fine_stem[0].padding = (1, 0)  # 264 bins to 88 pitches, centred on each semitone's middle bin
        self.sharp_stem = conv(len(SHARP_SHIFTS), sharp, (3, 8), stride=(1, FRAMES_PER_STEP))
        self.join = conv(fine + sharp, channels, (3, 1))
        self.blocks = nn.ModuleList(
            HarmonicBlock(channels, reduced, inner, dilation, tuple(shifts))
            for dilation, shifts in zip(dilations, intervals, strict=True)
        )
        self.smooth = conv(channels, channels, (1, 5), groups=channels)
        self.point = conv(channels, channels, (1, 1), relu=False)
        self.head = Head(channels)
        if 2 + FRAMES_PER_STEP * (sum(dilations) + 2) != REACH:
            raise ValueError("these dilations do not add up to REACH")

    def forward(self, fine: Tensor, sharp: Tensor) -> dict[str, Tensor]:
        """Logits of a block.

        Parameters
        ----------
        fine : Tensor, shape (batch, (frames + 2 * REACH) / every, bins)
        sharp : Tensor, shape (batch, frames + 2 * REACH, 103)
            :func:`normalise`-d spectrograms; ``frames`` a multiple of FRAMES_PER_STEP.

        Returns
        -------
        dict of Tensor, shape (batch, frames, 88), contour (batch, frames, 264)
        """
        return self.head(self.features(fine, sharp))

    def features(self, fine: Tensor, sharp: Tensor) -> Tensor:
        """What the head sees, shape (batch, channels, 88, frames / 4)."""
        x = torch.cat(
            [
                look(self.fine_stem, fine, FINE_SHIFTS, N_PITCHES * BINS_PER_SEMITONE),
                look(self.sharp_stem, sharp, SHARP_SHIFTS, N_PITCHES),
            ],
            dim=1,
        )
        x = self.join(x)
        for block in self.blocks:
            x = block(x)
        return F.relu(x[..., 2:-2] + self.point(self.smooth(x)))


def look(stem: nn.Sequential, spectrogram: Tensor, shifts: tuple[int, ...], bins: int) -> Tensor:
    """A stem on the harmonics of ``bins`` bins, the frames of a step as channels, which is half as fast again."""
    first = stem[0]
    outputs, inputs, width, frames = first.weight.shape
    step = first.stride[1]
    weight = first.weight.reshape(outputs, inputs, width, frames // step, step).permute(0, 4, 1, 2, 3)
    weight = weight.reshape(outputs, -1, width, frames // step)
    x = spectrogram.reshape(len(spectrogram), -1, step, len(spectrogram[0, 0])).permute(0, 2, 3, 1)
    x = stack_shifts(x, shifts, bins)
    return stem[1:](F.conv2d(x, weight, first.bias, stride=(first.stride[0], 1), padding=first.padding))


def load_network(checkpoint: Path, weights: str = "ema") -> Network:
    """The network of a checkpoint, on the CPU, with its averaged weights, or with ``weights="network"`` the latest.

    Raises
    ------
    OSError
        If the file cannot be read.
    UsageError
        If it is no checkpoint.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network = Network(**state["config"])
        network.load_state_dict(current(state[weights], network))
    except OSError:
        raise
    except Exception as error:  # what torch raises of a file that is none is not said, and of many kinds
        raise UsageError(f"{checkpoint}: no checkpoint; give one that train.py or finetune.py wrote") from error
    return network


def current(weights: dict[str, Tensor], network: Network) -> dict[str, Tensor]:
    """Weights as ``network`` has them. Up to version 0.9.0 time came before pitch, and shifts before channels."""
    if weights["smooth.0.weight"].shape == network.smooth[0].weight.shape:
        return weights
    weights = {name: w.transpose(2, 3) if w.ndim == 4 else w for name, w in weights.items()}
    for i, block in enumerate(network.blocks):
        name = f"blocks.{i}.mix.0.weight"
        weights[name] = weights[name].unflatten(1, (len(block.shifts), -1)).transpose(1, 2).flatten(1, 2)
    return weights


def normalise(db: Tensor, reference: Tensor) -> Tensor:
    """dB spectrogram (..., bins) against the loudness reference (...), clipped to 0 .. 1.25."""
    return ((db - reference[..., None] + DB_RANGE) / DB_RANGE).clamp(0, 1.25)


class Graph(nn.Module):
    """Audio to posteriors: what is exported."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.front_end = FrontEnd(replace(FINE, n_bins=network.bins, every=network.every))
        self.network = network

    @property
    def context(self) -> tuple[int, int]:
        """Samples before the first frame's centre, and from the last frame's centre to the end."""
        before, after = self.front_end.context
        return before + REACH * HOP, after + REACH * HOP

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """From (1, samples) to onset, note, offset, contour (probabilities) and level (dB full scale)."""
        fine, sharp, reference = self.front_end(audio)
        out = self.network(normalise(fine, reference[:, :: self.network.every]), normalise(sharp, reference))
        level = (out["level"] - 1) * LEVEL_SCALE + reference[:, REACH:-REACH, None]
        return (*(torch.sigmoid(out[k]) for k in ("onset", "note", "offset", "contour")), level)
