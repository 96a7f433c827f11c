"""How a recording is tuned: by how many cents its notes lie beside those of A = 440 Hz."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from .types import Float32

CONCERT_PITCH = 440.0  # Hz of the A above middle C, ISO 16
MOST_TUNING = 170.0  # cents; settings allow 400 to 480 Hz
LISTENED = 30  # seconds of sound that are enough to tell
MOST_LISTENED = 120  # seconds, with the silence before and between

_DECIMATION, _TAPS = 4, 32
_PIECE = 4096  # rows of a product, so few that BLAS does it at once: its threads would be in the way of the model's
_WINDOW, _HOP = 2048, 1024  # samples after decimation: 0.4 s at 5.5 kHz, so that neighbouring semitones are apart
_LOWEST, _HIGHEST = 60.0, 2000.0  # Hz
_SOFT, _SILENT = 0.05, 1e-3  # of the loudest peak of the frame, and of the recording: what is below is left out
_SPREAD = 5.0  # cents, standard deviation of what a peak says
_NEAR = 15  # cents around the likeliest tuning within which peaks agree with it
_AGREEMENT = 0.36  # share of them that is believed; 0.3 of what has no tuning does
_FEWEST = 10  # peaks that say anything
_LEAST = 12.0  # cents that the model does not mind


def cents_of(hertz: float) -> float:
    """Cents by which an A lies above 440 Hz."""
    return 1200 * math.log2(hertz / CONCERT_PITCH)


def ratio_of(cents: float) -> float:
    """Of two frequencies that lie so many cents apart."""
    return float(2 ** (cents / 1200))


def hertz_of(cents: float) -> float:
    """The A that lies so many cents above 440 Hz."""
    return CONCERT_PITCH * ratio_of(cents)


def estimate_tuning(audio: Float32, sample_rate: float) -> float:
    """By how much the notes of a recording lie above those of A = 440 Hz.

    Peaks of the spectrum are counted by where in their semitone they lie; the fullest place is the tuning.

    Parameters
    ----------
    audio : ndarray of float32, shape (samples,)
        Mono.
    sample_rate : float
        In Hz.

    Returns
    -------
    float
        Cents, -50 to 50. 0 if it is so little that it does not matter, or nothing that the peaks agree upon.
    """
    cents, weights = _peaks(_decimated(audio), sample_rate / _DECIMATION)
    if len(cents) < _FEWEST:
        return 0.0
    bins = np.arange(100)
    counts = np.bincount(np.floor(cents).astype(int) % 100, weights, 100)
    distance = np.minimum(bins, 100 - bins)
    blurred = np.fft.irfft(np.fft.rfft(counts) * np.fft.rfft(np.exp(-0.5 * (distance / _SPREAD) ** 2)), 100)
    best = int(blurred.argmax())
    left, top, right = blurred[best - 1], blurred[best], blurred[(best + 1) % 100]
    tuning = best + 0.5 + 0.5 * (left - right) / min(left - 2 * top + right, -1e-9)
    tuning = (tuning + 50) % 100 - 50
    agreeing = counts[np.abs((bins + 0.5 - tuning + 50) % 100 - 50) <= _NEAR].sum()
    believed = abs(tuning) >= _LEAST and agreeing >= _AGREEMENT * counts.sum()
    return float(tuning) if believed else 0.0


def _decimated(audio: Float32) -> Float32:
    """Every fourth sample, after a low pass (a sinc under a Hann window)."""
    t = np.arange(_TAPS) - (_TAPS - 1) / 2
    low_pass = np.sinc(t / _DECIMATION) * np.hanning(_TAPS + 2)[1:-1]
    taps = (low_pass / low_pass.sum()).astype(np.float32).reshape(-1, _DECIMATION)
    length = -(-len(audio) // _DECIMATION)
    rows = np.pad(audio, (0, -len(audio) % (_DECIMATION * _PIECE))).reshape(-1, _PIECE, _DECIMATION)
    products = (rows @ taps.T).reshape(-1, len(taps))
    out = np.zeros(max(0, length - len(taps) + 1), np.float32)
    for i in range(len(taps)):
        out += products[i : i + len(out), i]
    return out


def _peaks(audio: Float32, sample_rate: float) -> tuple[Float32, Float32]:
    """Cents of the spectrum's peaks above A = 440 Hz, and how much each of them counts."""
    padded = np.pad(audio, (0, max(0, _WINDOW - len(audio))))
    frames = sliding_window_view(padded, _WINDOW)[::_HOP] * np.hanning(_WINDOW).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(frames))[:, : int(_HIGHEST * _WINDOW / sample_rate) + 2].astype(np.float32)
    before, here, after = spectrum[:, :-2], spectrum[:, 1:-1], spectrum[:, 2:]
    loudest = here.max(axis=1, keepdims=True)
    peaks = (here > before) & (here >= after) & (here >= _SOFT * np.maximum(loudest, _SILENT / _SOFT * loudest.max()))
    peaks[:, : int(_LOWEST * _WINDOW / sample_rate)] = False
    # The logarithm of a Hann window's peak is close to a parabola.
    left, top, right = (np.log(np.maximum(part[peaks], 1e-20)) for part in (before, here, after))
    offset = 0.5 * (left - right) / np.minimum(left - 2 * top + right, -1e-6)
    frequency = (np.nonzero(peaks)[1] + 1 + offset) * sample_rate / _WINDOW
    return 1200 * np.log2(frequency / CONCERT_PITCH), np.sqrt(here[peaks])
