"""Variable-Q front end as strided convolutions, so that it can live inside the ONNX graph.

Two spectrograms on one frame grid (hop 256 at 22,050 Hz, frame ``t`` centred on sample ``256 t``):

* ``fine``: 36 bins per octave, gamma 2 Hz, resolves a third of a semitone; its window is 0.4 s at A0. Only on
  every second frame; a network may look at fewer bins and frames.
* ``sharp``: 12 bins per octave, gamma 15 Hz, blurs low pitches but sees attacks: 0.06 s at A0.

Scheme: the signal is decimated by two again and again (Schörkhuber and Klapuri, "Constant-Q transform toolbox for
music processing", SMC 2010) and the complex wavelets (``librosa.filters.wavelet``, variable Q after Schörkhuber et
al., AES 2014) of the bins that a rate still passes are one strided convolution at that rate.

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
DEEPEST = 7  # decimations by two
EPSILON = 1e-12  # power; -120 dB

# Loudness reference: mean square of the past, fading out over REF_PAST seconds, and a little of the future so that
# an attack after silence is measured against itself. Local and one-pass, so that a stream and a file agree.
REF_PAST, REF_DECAY, REF_FUTURE = 6.0, 1.0, 0.35
REF_FLOOR = 1e-5  # mean square; -50 dB: quieter recordings are left a little quiet


@dataclass(frozen=True)
class Spec:
    """A variable-Q transform: bins per octave, number of bins, lowest frequency (Hz), gamma (Hz), frames a column.

    ``passing`` is the part of the Nyquist frequency up to which a bin may lie where it is computed: the more, the fewer
    samples to multiply.
    """

    bins_per_octave: int
    n_bins: int
    fmin: float
    gamma: float
    every: int = 1
    passing: float = 0.46

    @property
    def frequencies(self) -> np.ndarray:
        """Centre frequencies in Hz, shape (n_bins,)."""
        return self.fmin * 2 ** (np.arange(self.n_bins) / self.bins_per_octave)

    @property
    def alpha(self) -> float:
        """Relative bandwidth, as librosa defines it."""
        ratio = 2 ** (2 / self.bins_per_octave)
        return (ratio - 1) / (ratio + 1)

    def level(self, index: int) -> int:
        """How often the signal is decimated by two for a bin."""
        passes = math.floor(math.log2(self.passing * SAMPLE_RATE / 2 / self.frequencies[index]))
        return min(DEEPEST, max(0, passes))


# The middle one of each semitone's three bins is centred on the pitch.
FINE = Spec(36, 309, 27.5 * 2 ** (-1 / 36), 2.0, every=2, passing=0.78)
SHARP = Spec(12, 103, 27.5, 15.0)


class HalfBand(nn.Module):
    """Low-pass and decimate by two, without padding. Pass band to 0.38, stop band from 0.62 of Nyquist."""

    HALF = 16

    def __init__(self, at_once: int) -> None:
        """``at_once`` output samples are one row of a product of matrices."""
        super().__init__()
        self.row = 2 * at_once
        taps = firwin(2 * self.HALF + 1, 0.5, window=("kaiser", 6.0))
        rows = -(-(len(taps) + self.row - 2) // self.row)
        kernels = np.zeros((rows * self.row, at_once), np.float32)
        for i in range(at_once):
            kernels[2 * i : 2 * i + len(taps), i] = taps
        self.register_buffer("kernels", torch.from_numpy(kernels.reshape(rows, self.row, at_once)))

    def forward(self, x: Tensor) -> Tensor:
        """From shape (batch, n), whole rows, to (batch, n // 2); the last ones have seen zeros beyond x."""
        x = x.reshape(len(x), -1, self.row)
        y = x @ self.kernels[0]
        for i, kernel in enumerate(self.kernels[1:], 1):
            y = y + F.pad(x[:, i:] @ kernel, (0, 0, 0, i))
        return y.reshape(len(x), -1)


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
        Samples before the first frame's centre in the input of :meth:`forward`, at least.
    """

    def __init__(self, specs: tuple[Spec, ...], context: int) -> None:
        super().__init__()
        self.specs = specs
        self.generate = False  # whether the wavelets are computed inside the graph, which makes its file small
        # At level l, decimated l times, the centre of frame 0 is sample centres[l]: a whole one at all levels.
        depth = max(spec.level(0) for spec in specs)
        first = -(-(context + HalfBand.HALF) >> depth << depth)
        self.centres = [(first >> level) - HalfBand.HALF for level in range(depth + 1)]
        self.bands: list[list[tuple[int, str, int]]] = []  # per spec, low to high: (level, name, first sample)
        for index, spec in enumerate(specs):
            levels = [spec.level(i) for i in range(spec.n_bins)]
            bands = []
            for level in sorted(set(levels), reverse=True):
                shapes, size = wavelet_shapes(spec.frequencies[np.equal(levels, level)], spec, SAMPLE_RATE / 2**level)
                name = f"{index}_{level}"
                self.register_buffer(f"shapes_{name}", shapes.float())
                self.register_buffer(f"kernel_{name}", wavelets(shapes, size).float(), persistent=False)
                start = self.centres[level] - size // 2
                if start < 0:
                    raise ValueError(f"context of {context} samples is too short for level {level}")
                bands.append((level, name, start))
            self.bands.append(bands)
        # Blocks begin at multiples of four hops. As long as that is a multiple of what is computed at once, a sample is
        # rounded alike in every block.
        at_once = (math.gcd(16, (4 * HOP >> level) // 2) for level in range(depth))
        self.half_bands = nn.ModuleList(HalfBand(n) for n in at_once)

    @staticmethod
    def required_context(specs: tuple[Spec, ...]) -> int:
        """Samples, a multiple of the hop, that the longest kernel and the decimation chain reach on either side."""
        lowest = [s.alpha * s.fmin + s.gamma for s in specs]
        chain = (HalfBand.HALF + 1) << max(s.level(0) for s in specs)
        return -(-int(np.ceil(SAMPLE_RATE / min(lowest) / 2) + chain + 2 * HOP) // HOP) * HOP

    @property
    def row(self) -> int:
        """What the number of samples in :meth:`forward` has to be a multiple of."""
        return max(band.row << level for level, band in enumerate(self.half_bands))

    def forward(self, audio: Tensor, frames: int) -> list[Tensor]:
        """Power of each bin.

        Parameters
        ----------
        audio : Tensor, shape (batch, samples)
            Frame 0 is centred on sample ``centres[0]``; as many samples follow the last frame's centre.
        frames : int

        Returns
        -------
        list of Tensor, shape (batch, n_bins, ceil(frames / every))
            One per spec. A sine of amplitude A centred on a bin has power A**2 / 4.
        """
        signals = [audio]
        for half_band in self.half_bands:
            signals.append(half_band(signals[-1]))
        out = []
        for spec, bands in zip(self.specs, self.bands, strict=True):
            real, imag, columns = [], [], -(-frames // spec.every)
            for level, name, first in bands:
                kernel = getattr(self, f"kernel_{name}")
                if self.generate:
                    kernel = wavelets(getattr(self, f"shapes_{name}"), kernel.shape[-1])
                n = len(kernel) // 2
                y = F.conv1d(signals[level][:, None, first:], kernel, stride=HOP * spec.every >> level)
                real.append(y[:, :n, :columns])
                imag.append(y[:, n:, :columns])
            re, im = torch.cat(real, dim=1), torch.cat(imag, dim=1)
            out.append(re * re + im * im)
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
        """From shape (batch, n hops), the first of them half a hop before the context, to (batch, at least frames)."""
        halves = audio.reshape(len(audio), -1, HOP // 2).square().sum(2)
        power = halves[:, 1:-1].reshape(len(audio), 1, -1, 2).sum(3) / HOP
        return 10 * torch.log10(F.conv1d(power, self.kernel)[:, 0] + REF_FLOOR)


class FrontEnd(nn.Module):
    """Audio to spectrograms in dB and the loudness reference.

    ``context`` = (samples before the first frame's centre, samples after the last frame's centre).
    """

    def __init__(self, fine: Spec = FINE) -> None:
        super().__init__()
        specs = (fine, SHARP)
        self.reference = Reference()
        needed = VariableQ.required_context(specs)
        self.variable_q = VariableQ(specs, needed)
        past, future = self.reference.context
        up = lambda n: -(-n // HOP) * HOP  # noqa: E731
        self.context = (max(needed, up(past)), max(needed, up(future)))

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
        start = before - self.variable_q.centres[0]
        samples = (audio.shape[-1] - start) // self.variable_q.row * self.variable_q.row
        block = audio[:, start : start + samples]
        fine, sharp = (
            (torch.log(power + EPSILON) * (10 / math.log(10))).transpose(1, 2)
            for power in self.variable_q(block, frames)
        )
        return fine, sharp, self.reference(audio)[:, :frames]

    def padded(self, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`forward` for a whole recording, silence before and after it; ceil(samples / hop) frames."""
        before, after = self.context
        frames = -(-audio.shape[-1] // HOP)
        return self(F.pad(audio, (before, after + (frames - 1) * HOP - audio.shape[-1])))
