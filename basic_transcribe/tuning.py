"""How a recording is tuned: by how many cents its notes lie beside those of A = 440 Hz."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .loudness import Loudness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .types import Float32

CONCERT_PITCH = 440.0  # Hz of the A above middle C, ISO 16
MOST_TUNING = 170.0  # cents; settings allow 400 to 480 Hz
LISTENED = 30  # seconds of music that are enough to tell, unless hardly enough peaks agree
MOST_LISTENED = 120  # seconds, with what is before and between; digital silence is free

_DECIMATION, _TAPS = 4, 32
_PIECE = 4096  # rows of a product, so few that BLAS does it at once: its threads would be in the way of the model's
_WINDOW, _HOP = 2048, 1024  # samples after decimation: 0.4 s at 5.5 kHz, so that neighbouring semitones are apart
_LOWEST, _HIGHEST = 60.0, 2000.0  # Hz
_SOFT, _SILENT = 0.05, 1e-3  # of the loudest peak of the frame, and of the recording: what is below is left out
_MOST = 90  # peaks of a frame; noise has more
_STANDING = 27  # frames, 5 s: what stands still for longer counts no more
_HEARD = 1e-3 * _WINDOW / 4  # a partial 60 dB below full scale
_MAINS, _HUM = np.array([[50.0], [60.0]]), 0.4  # Hz, and around their first nine multiples; no note in tune lies there
_CLOSE = 26.0  # Hz between peaks that may be sidebands, of notes struck so many times a second
_MANY_CLOSE, _EVEN = 0.2, 0.25  # shares of the peaks that are close, and of these that are equally far apart
_COMBS = 0.25  # share of the pieces with sidebands from which on nothing is believed
_FRAMES, _SECONDS = 16, 3  # of a piece, which is taken at once
_OVERLAP = _DECIMATION * (_WINDOW - _HOP - 1) + _TAPS  # samples of the last of them that the next needs, too
_SPREAD = 5.0  # cents, standard deviation of what a peak says
_NEAR = 15  # cents around the likeliest tuning within which peaks agree with it
_AGREEMENT = 0.36  # share of them that is believed; 0.3 of what has no tuning does
_SURE = 0.46  # share that is believed at once; less only after MOST_LISTENED: what pieces begin with comes to 0.44
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


def midi_to_hz(pitch: Any) -> Any:
    """Hz of MIDI note numbers, fractional ones too, where A has 440 Hz; a number, or an array of any shape."""
    return CONCERT_PITCH * 2 ** ((pitch - 69) / 12)


class TuningEstimator:
    """Finds how a recording is tuned while it is read, and how much of it must be.

    Peaks of the spectrum are counted by where in their semitone they lie; the fullest place is the tuning. What may
    stand at the head of a tape has none: noise, whose peaks are many, and tones that stand still, such as those to
    line up by.

    Parameters
    ----------
    sample_rate : float
        In Hz.

    Attributes
    ----------
    is_enough : bool
        Whether more would not be listened to.
    loudness : Loudness
        Of what was listened to.
    """

    def __init__(self, sample_rate: float) -> None:
        self._rate = sample_rate / _DECIMATION
        self._rest = np.zeros(0, np.float32)  # of which no whole piece can be made yet
        self._pieces = self._sounding = self._combs = 0
        bins = min(int(_HIGHEST * _WINDOW / self._rate) + 2, _WINDOW // 2 + 1)
        self._age = np.zeros(bins, int)  # frames for which each has been a peak
        self._cents = [np.zeros(0)]  # of the peaks, above A = 440 Hz
        self._magnitudes = [np.zeros(0, np.float32)]
        self.is_enough = False
        self.loudness = Loudness(sample_rate)

    def push(self, audio: Float32) -> None:
        """What comes next, of any length; it does not matter in which blocks it comes."""
        self._rest = np.concatenate([self._rest, audio])
        size = _FRAMES * _HOP * _DECIMATION
        while not self.is_enough and len(self._rest) >= size + _OVERLAP:
            self._listen(_decimated(self._rest[: size + _OVERLAP]))
            self.is_enough = self._pieces >= MOST_LISTENED / _SECONDS or (
                self._sounding >= LISTENED / _SECONDS and not _AGREEMENT <= self._found()[1] < _SURE
            )
            self.loudness.push(self._rest[:size])
            self._rest = self._rest[size:]

    def finish(self) -> float:
        """Cents above A = 440 Hz, -50 to 50; 0 if it is so little that it does not matter, or no peaks agree."""
        if not self.is_enough:
            self._listen(_decimated(self._rest))
            self.loudness.push(self._rest)
        tuning, share = self._found()
        return tuning if share >= _AGREEMENT else 0.0

    def _found(self) -> tuple[float, float]:
        """The likeliest tuning, and the share of the peaks that agree on it; zeros if there is none that matters."""
        if self._combs > _COMBS * self._pieces:
            return 0.0, 0.0
        cents, magnitudes = np.concatenate(self._cents), np.concatenate(self._magnitudes)
        loud = magnitudes >= _SILENT * magnitudes.max(initial=0)
        return _agreed(cents[loud], np.sqrt(magnitudes[loud]))

    def _listen(self, audio: Float32) -> None:
        """Take the peaks of a piece, unless there is no music in it."""
        if len(audio) < _WINDOW or not audio.any():
            return
        frames = sliding_window_view(audio, _WINDOW)[::_HOP] * np.hanning(_WINDOW).astype(np.float32)
        spectrum = np.abs(np.fft.rfft(frames))[:, : len(self._age)].astype(np.float32)
        before, here, after = spectrum[:, :-2], spectrum[:, 1:-1], spectrum[:, 2:]
        loudest = here.max(axis=1, keepdims=True)
        peaks = (here > before) & (here >= after) & (here >= _SOFT * loudest)
        peaks[:, : int(_LOWEST * _WINDOW / self._rate)] = False
        new = self._moving(peaks) & (np.count_nonzero(peaks, axis=1, keepdims=True) <= _MOST)
        self._pieces += 1
        self._sounding += _are_music(new & (here >= _HEARD))
        if not _are_music(new):
            return
        # The logarithm of a Hann window's peak is close to a parabola.
        left, top, right = (np.log(np.maximum(part[new], 1e-20)) for part in (before, here, after))
        offset = 0.5 * (left - right) / np.minimum(left - 2 * top + right, -1e-6)
        rows, bins = np.nonzero(new)
        frequency = (bins + 1 + offset) * self._rate / _WINDOW
        if _is_comb(np.diff(frequency)[np.diff(rows) == 0]):
            self._combs += 1
            return
        hum = (np.abs(frequency - _MAINS * np.rint(frequency / _MAINS)) < _HUM) & (frequency < 9.5 * _MAINS)
        kept = ~hum.any(axis=0)
        self._cents.append(1200 * np.log2(frequency[kept] / CONCERT_PITCH))
        self._magnitudes.append(here[new][kept])

    def _moving(self, peaks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Those that do not stand still."""
        moving = np.empty_like(peaks)
        for frame, row in enumerate(peaks):
            before = np.maximum(np.maximum(self._age[:-2], self._age[1:-1]), self._age[2:])
            self._age[1:-1] = np.where(row, before + 1, 0)
            moving[frame] = row & (before < _STANDING)
        return moving


def _are_music(peaks: NDArray[np.bool_]) -> bool:
    """Whether a quarter of the frames of a piece have any of these peaks."""
    return bool(np.count_nonzero(peaks.any(axis=1)) >= len(peaks) / 4)


def _is_comb(apart: NDArray[np.float64]) -> bool:
    """Whether many neighbouring peaks are so many Hz apart, all the same: sidebands, which tell how often, not what.

    A note that is struck again and again at one rate, as sequencers do, has its partials split into them.
    """
    close = apart[apart < _CLOSE]
    if len(close) < max(4, _MANY_CLOSE * len(apart)):
        return False
    counts = np.bincount((2 * close).astype(int), minlength=2)
    return bool((counts[:-1] + counts[1:]).max() >= _EVEN * len(close))


def _agreed(cents: NDArray[np.float64], weights: Float32) -> tuple[float, float]:
    """The tuning on which most peaks agree, and their share; zeros if they are too few, or it does not matter."""
    if len(cents) < _FEWEST:
        return 0.0, 0.0
    bins = np.arange(100)
    counts = np.bincount(np.floor(cents).astype(int) % 100, weights, 100)
    distance = np.minimum(bins, 100 - bins)
    blurred = np.fft.irfft(np.fft.rfft(counts) * np.fft.rfft(np.exp(-0.5 * (distance / _SPREAD) ** 2)), 100)
    best = int(blurred.argmax())
    left, top, right = blurred[best - 1], blurred[best], blurred[(best + 1) % 100]
    tuning = best + 0.5 + 0.5 * (left - right) / min(left - 2 * top + right, -1e-9)
    tuning = (tuning + 50) % 100 - 50
    agreeing = counts[np.abs((bins + 0.5 - tuning + 50) % 100 - 50) <= _NEAR].sum()
    return (float(tuning), float(agreeing / counts.sum())) if abs(tuning) >= _LEAST else (0.0, 0.0)


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
