"""Variable-Q front end as strided convolutions, so that it can live inside the ONNX graph.

Two spectrograms on one frame grid (hop 256 at 22,050 Hz, frame ``t`` centred on sample ``256 t``):

* ``fine``: 36 bins per octave, gamma 2 Hz, resolves a third of a semitone; its window is 0.4 s at A0. Only on
  every second frame.
* ``sharp``: 12 bins per octave, gamma 15 Hz, blurs low pitches but sees attacks: 0.06 s at A0.

Scheme: the signal is decimated by two per octave (Schörkhuber and Klapuri, "Constant-Q transform toolbox for
music processing", SMC 2010) and each octave's complex wavelets (``librosa.filters.wavelet``, variable Q after
Schörkhuber et al., AES 2014) are one strided convolution at that octave's rate.

Nothing is padded: the caller supplies ``context`` samples on either side, so a block of a long recording yields exactly
what the whole recording would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from scipy.signal import firwin
from torch import Tensor, nn

SAMPLE_RATE = 22050
HOP = 256
FRAME_RATE = SAMPLE_RATE / HOP
N_PITCHES = 88
LOWEST_PITCH = 21
BINS_PER_SEMITONE = 3
EPSILON = 1e-12  # power; -120 dB

# Loudness reference: mean square of the past, fading out over REF_PAST seconds, and a little of the future so that
# an attack after silence is measured against itself. Local and one-pass, so that a stream and a file agree.
REF_PAST, REF_DECAY, REF_FUTURE = 6.0, 2.0, 0.35
REF_FLOOR = 1e-5  # mean square; -50 dB: quieter recordings are left a little quiet


@dataclass(frozen=True)
class Spec:
    """A variable-Q transform: bins per octave, number of bins, lowest frequency (Hz), gamma (Hz), frames a column."""

    bins_per_octave: int
    n_bins: int
    fmin: float
    gamma: float
    every: int = 1

    @property
    def frequencies(self) -> np.ndarray:
        """Centre frequencies in Hz, shape (n_bins,)."""
        return self.fmin * 2 ** (np.arange(self.n_bins) / self.bins_per_octave)

    @property
    def alpha(self) -> float:
        """Relative bandwidth, as librosa defines it."""
        ratio = 2 ** (2 / self.bins_per_octave)
        return (ratio - 1) / (ratio + 1)


# The middle one of each semitone's three bins is centred on the pitch.
FINE = Spec(36, 309, 27.5 * 2 ** (-1 / 36), 2.0, every=2)
SHARP = Spec(12, 103, 27.5, 15.0)


class HalfBand(nn.Module):
    """Low-pass and decimate by two, without padding. Pass band to 0.24, stop band from 0.76 of Nyquist."""

    HALF = 11

    def __init__(self, at_once: int) -> None:
        """``at_once`` output samples are computed as channels of one convolution; 16 are three times as fast as one."""
        super().__init__()
        self.at_once = at_once
        taps = firwin(2 * self.HALF + 1, 0.5, window=("kaiser", 8.0))
        kernel = np.zeros((at_once, 1, len(taps) + 2 * (at_once - 1)), np.float32)
        for i in range(at_once):
            kernel[i, 0, 2 * i : 2 * i + len(taps)] = taps
        self.register_buffer("kernel", torch.from_numpy(kernel))

    def forward(self, x: Tensor) -> Tensor:
        """From shape (batch, 1, n) to (batch, 1, at least (n - 23) // 2 + 1); what is more has seen zeros beyond x."""
        y = F.conv1d(F.pad(x, (0, 2 * (self.at_once - 1))), self.kernel, stride=2 * self.at_once)
        return y.transpose(1, 2).reshape(x.shape[0], 1, -1)


def wavelet_shapes(frequencies: np.ndarray, spec: Spec, rate: float) -> tuple[Tensor, int]:
    """What :func:`wavelets` needs to know of each wavelet, as ``librosa.filters.wavelet`` places them.

    Returns
    -------
    shapes : Tensor of float64, shape (n, 5)
        First sample, length, sample of phase zero, radians per sample, amplitude (for a unit L1 norm).
    size : int
        Odd; the middle sample is the centre.
    """
    lengths, _ = librosa.filters.wavelet_lengths(
        freqs=frequencies, sr=rate, window="hann", filter_scale=1, gamma=spec.gamma, alpha=spec.alpha
    )
    size = int(np.ceil(lengths.max()))
    before, after = np.ceil(lengths / 2), np.floor(lengths / 2)
    length = before + after
    first = (size - length) // 2
    amplitude = 2 / length  # a Hann window's mean is a half
    shapes = np.stack([first, length, first + before, 2 * np.pi * frequencies / rate, amplitude], axis=1)
    return torch.from_numpy(shapes), size + 1 - size % 2


def wavelets(shapes: Tensor, size: int) -> Tensor:
    """Hann-windowed complex sinusoids, real then imaginary parts, shape (2 n, 1, size)."""
    first, length, zero, radians, amplitude = shapes[:, :, None].unbind(1)
    t = torch.arange(size, dtype=shapes.dtype, device=shapes.device)[None]
    inside = torch.minimum((t - first).clamp(min=0), length)
    window = amplitude * (0.5 - 0.5 * torch.cos(inside * (2 * np.pi) / length))
    phase = (t - zero) * radians
    return torch.cat([window * torch.cos(phase), window * torch.sin(phase)])[:, None]


class VariableQ(nn.Module):
    """Power spectrograms of several :class:`Spec` from one decimation chain.

    Parameters
    ----------
    specs : sequence of Spec
    context : int
        Samples before the first frame's centre in the input of :meth:`forward`; a multiple of the hop.
    """

    def __init__(self, specs: tuple[Spec, ...], context: int) -> None:
        super().__init__()
        self.specs, self.context = specs, context
        self.generate = False  # whether the wavelets are computed inside the graph, which makes its file small
        # levels[l] = (samples dropped before decimating into level l, index at level l of input time `context`)
        self.levels = [(0, context)]
        self.bands: list[list[tuple[int, str, int]]] = []  # per spec, low to high: (level, name, first sample)
        for index, spec in enumerate(specs):
            bands = []
            for octave, high in enumerate(range(spec.n_bins, 0, -spec.bins_per_octave)):
                frequencies = spec.frequencies[max(0, high - spec.bins_per_octave) : high]
                level = max(0, octave - 1)  # twice the critical rate, so that the half-band filter can be short
                while len(self.levels) <= level:
                    centre = self.levels[-1][1] - HalfBand.HALF
                    self.levels.append((centre % 2, centre // 2))
                shapes, size = wavelet_shapes(frequencies, spec, SAMPLE_RATE / 2**level)
                name = f"{index}_{octave}"
                self.register_buffer(f"shapes_{name}", shapes.float())
                self.register_buffer(f"kernel_{name}", wavelets(shapes, size).float(), persistent=False)
                first = self.levels[level][1] - size // 2
                if first < 0:
                    raise ValueError(f"context of {context} samples is too short for {frequencies[0]:.1f} Hz")
                bands.append((level, name, first))
            self.bands.append(bands[::-1])
        # Blocks begin at multiples of four hops. As long as that is a multiple of what is computed at once, a sample is
        # rounded alike in every block.
        at_once = (math.gcd(16, (4 * HOP >> level) // 2) for level in range(len(self.levels) - 1))
        self.half_bands = nn.ModuleList(HalfBand(n) for n in at_once)

    @staticmethod
    def required_context(specs: tuple[Spec, ...]) -> int:
        """Samples, a multiple of the hop, that the longest kernel and the decimation chain reach on either side."""
        lowest = [s.alpha * s.fmin + s.gamma for s in specs]
        octaves = max(-(-s.n_bins // s.bins_per_octave) for s in specs)
        chain = (HalfBand.HALF + 1) * 2 ** max(0, octaves - 2)
        return -(-int(np.ceil(SAMPLE_RATE / min(lowest) / 2) + chain + 2 * HOP) // HOP) * HOP

    def forward(self, audio: Tensor, frames: int) -> list[Tensor]:
        """Power of each bin.

        Parameters
        ----------
        audio : Tensor, shape (batch, 1, samples)
            Frame 0 is centred on sample ``context``; as many samples follow the last frame's centre.
        frames : int

        Returns
        -------
        list of Tensor, shape (batch, n_bins, ceil(frames / every))
            One per spec. A sine of amplitude A centred on a bin has power A**2 / 4.
        """
        signals = [audio]
        for (drop, _), half_band in zip(self.levels[1:], self.half_bands, strict=True):
            signals.append(half_band(signals[-1][..., drop:]))
        out = []
        for spec, bands in zip(self.specs, self.bands, strict=True):
            parts, columns = [], -(-frames // spec.every)
            for level, name, first in bands:
                kernel = getattr(self, f"kernel_{name}")
                if self.generate:
                    kernel = wavelets(getattr(self, f"shapes_{name}"), kernel.shape[-1])
                y = F.conv1d(signals[level][..., first:], kernel, stride=HOP * spec.every >> level)[..., :columns]
                real, imag = y.chunk(2, dim=1)
                parts.append(real * real + imag * imag)
            out.append(torch.cat(parts, dim=1))
        return out


def reference_kernel() -> np.ndarray:
    """Weights of past and future hops in the loudness reference, oldest first; they sum to one."""
    past = np.arange(round(REF_PAST * FRAME_RATE) + 1) / FRAME_RATE
    future = np.arange(1, round(REF_FUTURE * FRAME_RATE) + 1) / FRAME_RATE
    weights = np.concatenate(
        [(np.exp(-past / REF_DECAY) * (1 - past / (REF_PAST + 0.01)))[::-1], 1 - future / (REF_FUTURE + 0.01)]
    )
    return weights / weights.sum()


class Reference(nn.Module):
    """Local loudness in dB relative to full scale (mean square 1.0), one value a frame."""

    def __init__(self) -> None:
        super().__init__()
        kernel = reference_kernel()
        self.past = round(REF_PAST * FRAME_RATE)
        self.future = len(kernel) - 1 - self.past
        self.register_buffer("kernel", torch.tensor(kernel, dtype=torch.float32)[None, None])

    @property
    def context(self) -> tuple[int, int]:
        """Samples needed before the first frame's centre and after the last one's."""
        return self.past * HOP + HOP // 2, self.future * HOP + HOP // 2

    def forward(self, audio: Tensor) -> Tensor:
        """From shape (batch, 1, context + hop * (frames - 1)) to (batch, 1, frames)."""
        power = F.avg_pool1d(audio * audio, HOP, HOP)
        return 10 * torch.log10(F.conv1d(power, self.kernel) + REF_FLOOR)


class FrontEnd(nn.Module):
    """Audio to spectrograms in dB and the loudness reference.

    ``context`` = (samples before the first frame's centre, samples after the last frame's centre).
    """

    def __init__(self) -> None:
        super().__init__()
        specs = (FINE, SHARP)
        self.reference = Reference()
        self.vq_context = VariableQ.required_context(specs)
        self.variable_q = VariableQ(specs, self.vq_context)
        past, future = self.reference.context
        up = lambda n: -(-n // HOP) * HOP  # noqa: E731
        self.context = (max(self.vq_context, up(past)), max(self.vq_context, up(future)))

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spectrograms of a block with its context.

        Parameters
        ----------
        audio : Tensor, shape (batch, context[0] + hop * (frames - 1) + context[1])
            Samples, full scale 1.0.

        Returns
        -------
        fine : Tensor, shape (batch, ceil(frames / 2), 309)
            dB of ``|X|**2``, floor -120; of the frames 0, 2, 4 and so on.
        sharp : Tensor, shape (batch, frames, 103)
        reference : Tensor, shape (batch, frames)
            dB of the local mean square, floor -50.
        """
        before, after = self.context
        frames = (audio.shape[-1] - before - after) // HOP + 1
        x = audio[:, None]
        tail = audio.shape[-1] - (after - self.vq_context)
        fine, sharp = (
            10 * torch.log10(power + EPSILON).transpose(1, 2)
            for power in self.variable_q(x[..., before - self.vq_context : tail], frames)
        )
        past = self.reference.context[0]
        reference = self.reference(x[..., before - past :])[:, 0, :frames]
        return fine, sharp, reference

    def padded(self, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`forward` for a whole recording, silence before and after it; ceil(samples / hop) frames."""
        before, after = self.context
        frames = -(-audio.shape[-1] // HOP)
        return self(F.pad(audio, (before, after + (frames - 1) * HOP - audio.shape[-1])))
