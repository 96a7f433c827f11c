"""How loud a recording is: loud enough for the model, or by how much it must be raised."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .types import Float32

LOUD = 0.05  # of full scale, -26 dB: from there on it does not matter to the model how loud a recording is
MOST_GAIN = 40.0  # dB; what is softer still may be nothing but noise


class Loudness:
    """Of the loudest tenth of a second, the median of the peaks of its ten parts, which clicks do not raise.

    Parameters
    ----------
    rate : float
        Sample rate in Hz.
    """

    def __init__(self, rate: float) -> None:
        self._part = int(rate / 100)
        self._rest = np.zeros(0, np.float32)
        self._level = 0.0

    def push(self, block: Float32) -> None:
        """What comes next, of any length; it does not matter in which blocks it comes."""
        if self.is_enough:
            return
        samples = np.concatenate([self._rest, block])
        whole = len(samples) - len(samples) % (10 * self._part)
        if whole:
            peaks = np.abs(samples[:whole]).reshape(-1, 10, self._part).max(axis=2)
            self._level = max(self._level, float(np.median(peaks, axis=1).max()))
        self._rest = samples[whole:]

    @property
    def is_enough(self) -> bool:
        """Whether it is loud, so that more is not asked."""
        return self._level >= LOUD

    @property
    def level(self) -> float:
        """That so far, full scale 1.0, or the loudest sample of the last part of a tenth."""
        return max(self._level, float(np.abs(self._rest).max(initial=0.0)))

    @property
    def gain(self) -> float:
        """Decibels by which a recording that is so soft should be louder; 0 if it is loud, at most 40."""
        return min(max(0.0, -20 * math.log10(max(self.level, 1e-30) / LOUD)), MOST_GAIN)
