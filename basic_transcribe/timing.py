"""When the beats fall, and notes moved onto them.

Beats are found in two steps. A hidden Markov model, a bar pointer without the bar (Whiteley, Cemgil and Godsill, 2006),
follows tempo and phase: each of its states is a place within a beat of some length, each onset is evidence for the
places where music of this metre has its onsets, and the Viterbi path is the beat. Then a smooth curve is laid through
the onsets nearest to the beats, so that they fall on what was played, not on frames.
"""

from __future__ import annotations

import math
import os
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import UsageError, temporary_folder
from .types import LONGEST_QUARTER, Beats, Float32, Note, check_tempo

Float64 = NDArray[np.float64]

# ---- the envelope
WINDOW, HOP = 1024, 256  # samples
CHUNK = 256  # frames transformed at once; a fixed number, so that rounding cannot depend on the blocks
MELS, LOWEST, HIGHEST = 64, 30.0, 10_000.0  # bands; Hz
FLOOR = 1e-7  # power of a band, relative to full scale, below which a change is not heard

# ---- the model of beats. Chosen on GuitarSet players 00 to 03, checked on player 04.
SLOWEST, FASTEST, USUAL = 45.0, 220.0, 120.0  # quarter notes per minute
OCTAVES = 0.8  # standard deviation of the tempo around the usual one
PRIOR = 2.0  # how much a second of unusual tempo counts
STEPS = 1.03  # ratio of neighbouring tempi
INERTIA = 100.0  # cost of changing the tempo by a factor of e from one beat to the next
SWITCH = 8.0  # cost of changing the feel
HINT_OCTAVES = 0.2  # the same around a tempo that is told
LONGEST_NEAR_HINT = 12.0  # seconds a quarter note, near a hint: though it drifts, a MIDI file must be able to hold it
SPREAD = 0.02  # seconds by which onsets scatter around their places
ANYWHERE = 0.1  # share of onsets that follow no beat
CHORD = 0.035  # seconds within which onsets are one event
NEIGHBOURS = 8  # events to either side with which one is compared
NOISE = 1.5  # standard deviations by which the envelope must stand out
AUDIO_WEIGHT, EVENT_WEIGHT, ACCENT_WEIGHT = 0.2, 0.5, 2.0
FEWEST = 4  # events

# ---- beats or off-beats: weights beside what explains the onsets, fitted to GuitarSet players 00 to 03
LOUDER = 0.6  # of a step of velocity
LONGER, FARTHEST = 8.0, 1.0  # of an octave of length, up to so many
LOWER, DEEPEST = 1.5, 12.0  # of a semitone, up to so many, if all that begins is chords

Shares = dict[float, float]

# Share of onsets at each twelfth of a beat: of all onsets, and of accented ones (low or long notes).
STRAIGHT: tuple[Shares, Shares] = (
    {0: 0.45, 6: 0.30, 3: 0.08, 9: 0.10, 4: 0.02, 8: 0.02},
    {0: 0.60, 6: 0.20, 3: 0.03, 9: 0.07},
)
SWUNG: tuple[Shares, Shares] = ({0: 0.45, 7.6: 0.34, 6: 0.06, 4: 0.03}, {0: 0.60, 7.6: 0.22, 6: 0.03})
SHORT: tuple[Shares, Shares] = ({0: 0.75, 6: 0.15, 3: 0.02, 9: 0.02}, {0: 0.85, 6: 0.08})  # beats below a quarter
COMPOUND: tuple[Shares, Shares] = ({0: 0.40, 4: 0.24, 8: 0.25, 2: 0.03, 6: 0.04, 10: 0.04}, {0: 0.60, 4: 0.15, 8: 0.18})

# ---- constant tempo
BAND = 0.04  # tempi this far to both sides of one, as a share of it, are searched with its shapes
STEPS_OF_BAND = 1000  # at most
BINS = 64  # of a beat
# Bins of the spectrum are a third of a cycle in all of the recording, so that partials of the beat may be off by a
# sixth of one at its end, as players are. From 2 to 4 find more beats of GuitarSet than more do.
BINS_OF_CYCLE = 3
DRIFT = 0.7  # what a beat that may drift must explain more than one that may not
SHARE = 0.3  # of what beats that may drift explain, beats that may not must explain so much

# ---- the curve through the onsets
NEAR = 0.06  # seconds, or NEAR_SHARE of a beat: an onset this near belongs to the beat
NEAR_SHARE = 0.15
SCATTER = 0.010  # seconds, of onsets around the curve
LOOSE = 0.040  # seconds, of the model's beats around the curve
FLEXIBILITY = 0.01  # change of a beat's length to the next, as a share of it

# ---- bars
TRIPLE = (3 / 2, 2, 3)  # how much faster the beats of bars of three may be than those that were found
BARS = 3.0  # what bars of three explain counts for beside what their beats do
EARLY = 0.15  # of a beat: what begins so much before it, is of it
LONG_ENOUGH = 4.0  # beats, from which on a note's length says no more
# Logarithms of odds, fitted to scores whose bars are known and to GuitarSet's players 00, 01 and 03.
CHANGE, LONG = 0.3, 0.25  # harmony changes more, or notes are longer, than on other beats, by a standard error
BEGINS, UPBEAT = 2.0, 0.8  # the first note is on the beat, or less than one before it; one beat before it

# ---- what comes before the first beat
LEAD_IN_ERROR = 0.1  # logarithm of the ratio of tempi, from which on it is counted in finer parts of a beat
FINEST_BAR = 16  # denominator; some programs take no time signatures of thirty-seconds
BEGIN_PARTS = 32  # the first of so many parts of it has the usual tempo

# ---- notes on a grid
ORNAMENT = 0.1  # seconds within which what follows may be of the same chord, played in turn, or the main note


class OnsetEnvelope:
    """How much begins in each frame of a recording: log-mel spectral flux, in constant memory but for the result.

    Parameters
    ----------
    sample_rate : float
        Of the blocks, in Hz.
    """

    def __init__(self, sample_rate: float) -> None:
        self._frame_rate = sample_rate / HOP
        mel = _mel_bands(sample_rate)
        window = np.hanning(WINDOW + 1)[:-1]
        self._mel = np.asarray(mel.T / (window.sum() / 2) ** 2, np.float32)
        self._window = window.astype(np.float32)
        self._samples = 0
        self._buffer = np.zeros(WINDOW // 2, np.float32)  # frame 0 is centred on the first sample
        self._last: Float32 | None = None
        self._flux: list[Float32] = []

    def push(self, block: Float32) -> None:
        """Take the next mono samples, shape (samples,), any number of them."""
        self._samples += len(block)
        self._buffer = np.concatenate([self._buffer, block])
        while len(self._buffer) >= (CHUNK - 1) * HOP + WINDOW:
            self._transform()

    def finish(self) -> tuple[Float32, float]:
        """The envelope of all samples.

        Returns
        -------
        envelope : ndarray of float32, shape (frames,)
            Mean rise of the bands' levels in bel, not negative; frame ``i`` tells of ``i / frame_rate`` seconds.
        frame_rate : float
            Frames per second.
        """
        frames = -(-self._samples // HOP)
        while len(self._flux) * CHUNK < frames:
            missing = (CHUNK - 1) * HOP + WINDOW - len(self._buffer)
            self._buffer = np.pad(self._buffer, (0, max(0, missing)))
            self._transform()
        # The window sees an attack before its centre does, so that the rise comes a frame early.
        envelope = np.concatenate([np.zeros(1, np.float32), *self._flux])[:frames]
        return envelope, self._frame_rate

    def _transform(self) -> None:
        frames = np.lib.stride_tricks.sliding_window_view(self._buffer, WINDOW)[: CHUNK * HOP : HOP]
        spectrum = np.abs(np.fft.rfft(frames * self._window)).astype(np.float32)
        level = np.log10(spectrum * spectrum @ self._mel + np.float32(FLOOR))
        before = level[:1] if self._last is None else self._last
        rise = np.diff(level, axis=0, prepend=before)
        self._flux.append(np.maximum(rise, 0).mean(axis=1))
        self._last = level[-1:]
        self._buffer = self._buffer[CHUNK * HOP :]


_loading = threading.Lock()


def _mel_bands(sample_rate: float) -> Float32:
    """Weights of the spectrum's bins in the bands, shape (bands, bins), each of which reaches 1 between its bins."""
    with _loading, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what joblib does without
        try:
            return _librosa_bands(sample_rate)
        except (OSError, RuntimeError):  # librosa does not load where it cannot keep what it compiles
            with _compiling_elsewhere():
                return _librosa_bands(sample_rate)


def _librosa_bands(sample_rate: float) -> Float32:
    import librosa

    ends: Any = {"fmin": LOWEST, "fmax": min(HIGHEST, sample_rate / 2)}
    # For any other norm than its own, librosa has many a function compiled that is not needed here.
    bands = librosa.filters.mel(sr=sample_rate, n_fft=WINDOW, n_mels=MELS, norm="slaney", dtype=np.float64, **ends)
    edges = librosa.mel_frequencies(MELS + 2, **ends)
    return np.asarray(bands * ((edges[2:] - edges[:-2]) / 2)[:, np.newaxis], np.float32)


@contextmanager
def _compiling_elsewhere() -> Iterator[None]:
    """What Numba compiles is kept in a folder that is gone afterwards, not in that of its source or in the home."""
    import numba

    config: Any = numba.config
    cache, home = config.CACHE_DIR, os.environ.get("XDG_CACHE_HOME")
    with temporary_folder() as folder:
        config.CACHE_DIR = os.environ["XDG_CACHE_HOME"] = str(folder)
        try:
            yield
        finally:
            config.CACHE_DIR = cache
            del os.environ["XDG_CACHE_HOME"]
            if home is not None:
                os.environ["XDG_CACHE_HOME"] = home


# ---------------------------------------------------------------- beats


@dataclass(frozen=True, slots=True)
class _Events:
    """Onsets, those of a chord as one; none if few.

    Their times, sizes (1 for a single note), accents (0 to 1), and how much louder, longer and lower they are than
    their neighbours, in steps of velocity, octaves of length and semitones.
    """

    times: Float64
    sizes: Float64
    accents: Float64
    louder: Float64
    longer: Float64
    lower: Float64


def estimate_beats(
    envelope: Float32,
    frame_rate: float,
    notes: Iterable[Note],
    *,
    per_bar: int = 4,
    quarters: float = 1.0,
    tempo_hint: float | None = None,
    first_bar: float | None = None,
) -> Beats | None:
    """Find the beats of a recording.

    The tempo may drift. Beats cover the recording: the first falls less than a beat after its begin, the last not
    before its end. Bars begin where the harmony changes and long notes begin.

    Parameters
    ----------
    envelope : ndarray of float32, shape (frames,)
        From :class:`OnsetEnvelope`; its length is the recording's. Zeros are allowed: the notes then decide alone.
    frame_rate : float
        Frames per second.
    notes : iterable of Note
        In any order.
    per_bar : int
        Beats in a bar. If three, the bars help to find the beats.
    quarters : float
        Length of a beat in quarter notes.
    tempo_hint : float, optional
        About how many beats per minute are expected, within some 10 %; settles between a tempo, its half and its
        double.
    first_bar : float, optional
        Seconds at which a bar begins, the first one or any other. If half a beat (a third of a dotted one) is nearer
        to it than a beat, the beats are moved there.

    Returns
    -------
    Beats or None
        None if fewer than four events (notes or chords) begin, or, unless there is a hint, if the best beats explain
        their times worse than none. Some beats fit almost any times, so music without a beat mostly gets some too.

    Raises
    ------
    UsageError
        If ``first_bar`` lies after the end.
    """
    notes = sorted(notes, key=lambda n: (n.onset, n.pitch))
    events = _events(notes)
    if not len(events.times):
        return None
    duration = max(len(envelope) / frame_rate, float(events.times[-1]))
    if first_bar is not None:
        _check_first_bar(first_bar, duration)
    search = _search(envelope, frame_rate, events, quarters)
    times = _times(search if tempo_hint is None else search.near(tempo_hint), events, duration)
    if times is None:
        return None
    if per_bar == 3 and tempo_hint is None and not _compound(quarters):
        times = _in_threes(search, times, notes, events, duration)
    if not _compound(quarters):
        times = _on_the_beat(search, times, events, duration)
    if first_bar is None:
        downbeat = _downbeat(times, notes, per_bar)
    else:
        times, downbeat = _with_bar(times, first_bar, duration, 3 if _compound(quarters) else 2)
        downbeat %= per_bar
    return Beats(tuple(times.tolist()), per_bar, downbeat, quarters)


def _check_first_bar(first_bar: float, duration: float) -> None:
    if first_bar > duration:
        raise UsageError(f"a bar is to begin at {first_bar:g} s, but all ends at {duration:.2f} s; say another moment")


def _times(search: _Search, events: _Events, duration: float) -> Float64 | None:
    """Beats in seconds, None if none are found."""
    rough = _follow(search)
    best = _best(search, rough) if len(rough) >= 2 else None
    if best is None:
        return None
    beats, steady = best
    return _cover(_refine(beats / search.rate, events, steady), duration)


def _in_threes(search: _Search, times: Float64, notes: Sequence[Note], events: _Events, duration: float) -> Float64:
    """Of these beats and faster ones those which, with bars of three, explain the recording best.

    Onsets alone often take the dotted quarters, half bars or bars of a fast waltz for its beats.
    """
    tempo = float(60 / np.median(np.diff(times)))
    faster = [
        _times(search.near(tempo * ratio), events, duration) for ratio in TRIPLE if tempo * ratio <= search.fastest
    ]

    def score(times: Float64) -> float:
        beats = times * search.rate
        prior = len(search.streams) * float(search.prior(np.median(np.diff(beats))))
        return _explained(search, beats) + prior + BARS * _explained_by_bars(times, notes, events, 3)

    return max([times, *(x for x in faster if x is not None)], key=score)


def _on_the_beat(search: _Search, times: Float64, events: _Events, duration: float) -> Float64:
    """These beats or those between them, whichever explain better where things begin, and what is loud, long or low.

    Where they begin alone takes the off-beats of syncopated music for its beats. The rest must not have a say before,
    since it does not tell the tempo.
    """
    chords = float(np.mean(events.sizes > 1))  # a melody alone has no bass
    accents = LOUDER * events.louder + LONGER * events.longer + LOWER * chords * events.lower
    accents -= accents.mean()  # so that they tell nothing where all is on the beat

    def score(times: Float64) -> float:
        on_beat = np.abs(times[_nearest(events.times, times)] - events.times) < EARLY * np.median(np.diff(times))
        return _explained(search, times * search.rate) + float(accents[on_beat].sum())

    return max(times, _moved(times, 0.5, duration), key=score)


def _moved(times: Float64, part: float, duration: float) -> Float64:
    """Beats that fall a part of a beat before these, or after them."""
    count = np.arange(len(times), dtype=np.float64)
    return _cover(_along(count - 1 + part, count, times), duration)


def _events(notes: Sequence[Note]) -> _Events:
    groups: list[list[Note]] = []
    for note in notes:
        if groups and note.onset - groups[-1][0].onset < CHORD:
            groups[-1].append(note)
        else:
            groups.append([note])
    if len(groups) < FEWEST:
        return _Events(*np.zeros((6, 0)))
    times = np.array([np.mean([n.onset for n in group]) for group in groups])
    sizes = np.array([len(group) for group in groups]) ** 0.3
    low = np.array([min(n.pitch for n in group) for group in groups], float)
    gaps = np.log2(np.append(np.diff(times), 1.0))
    # An accent is low or long by comparison with its neighbours.
    lower = _local_median(low) - low
    accents = 0.5 * np.clip((lower - 2) / 6, 0, 1) + 0.5 * np.clip(gaps - _local_median(gaps), 0, 1)
    loudness = np.array([max(n.velocity for n in group) for group in groups], float)
    lengths = np.log2([max(n.duration for n in group) for group in groups])
    return _Events(
        times,
        sizes,
        accents,
        loudness - _local_median(loudness),
        np.clip(lengths - _local_median(lengths), -FARTHEST, FARTHEST),
        np.clip(lower, -DEEPEST, DEEPEST),
    )


def _local_median(x: Float64) -> Float64:
    """Median of each value and its neighbours to both sides."""
    padded = np.pad(x, NEIGHBOURS, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    return np.asarray(np.nanmedian(windows, axis=1), np.float64)


@dataclass(frozen=True, slots=True)
class _Search:
    """What is known of a recording and its metre before its beats are.

    Attributes
    ----------
    streams : ndarray of float32, shape (frames, 2)
        Weights of what begins in each frame: all of it, and its accents.
    rate : float
        Frames per second.
    feels : sequence of pairs
        Where music has its onsets and accents within a beat; one or more ways.
    slowest, fastest, usual : float
        Beats per minute.
    quarters : float
        Length of a beat in quarter notes.
    octaves : float
        Width of the prior of tempi.
    hinted : bool
        Whether somebody told the tempo, so that there must be one.
    """

    streams: Float32
    rate: float
    feels: Sequence[tuple[Shares, Shares]]
    slowest: float
    fastest: float
    usual: float
    quarters: float
    octaves: float = OCTAVES
    hinted: bool = False

    def near(self, tempo: float) -> _Search:
        """The same around a tempo that is told."""
        slowest = max(tempo / 1.4, 60 / (LONGEST_NEAR_HINT * self.quarters))
        fastest = 1.4 * max(tempo, slowest)
        return replace(self, slowest=slowest, fastest=fastest, usual=tempo, octaves=HINT_OCTAVES, hinted=True)

    def prior(self, length: ArrayLike) -> Float64:
        """Logarithm of the prior of a beat of so many frames, per frame."""
        octaves = np.log2(60 * self.rate / np.asarray(length) / self.usual)
        return np.asarray(-PRIOR / self.rate / 2 * (octaves / self.octaves) ** 2, np.float64)


def _search(envelope: Float32, frame_rate: float, events: _Events, quarters: float) -> _Search:
    rate = frame_rate / 2
    frames = int(max(len(envelope) / 2, events.times[-1] * rate)) + 2
    streams = np.zeros((frames, 2), np.float32)
    streams[:, 0] = AUDIO_WEIGHT * _normalised(envelope, frame_rate, frames)
    streams[:, 0] += EVENT_WEIGHT * _spread(events.times * rate, events.sizes, frames)
    streams[:, 1] = ACCENT_WEIGHT * _spread(events.times * rate, events.sizes * events.accents, frames)
    feels: tuple[tuple[Shares, Shares], ...] = (STRAIGHT, SWUNG)
    scale = quarters**-0.5  # longer beats are slower, but not by as much
    if _compound(quarters):
        feels = (COMPOUND,)
    elif quarters < 1:
        feels, scale = (SHORT,), quarters**-0.75
    return _Search(streams, rate, feels, SLOWEST * scale, FASTEST * scale, USUAL * scale, quarters)


def _compound(quarters: float) -> bool:
    """Whether a beat is a dotted note."""
    return math.frexp(quarters)[0] == 0.75


def _follow(search: _Search) -> Float64:
    """Beats of any tempo, to the nearest frame, in frames."""
    lengths = _lengths(60 * search.rate / search.fastest, 60 * search.rate / search.slowest)
    return _viterbi(search.streams, lengths, search.prior(lengths), search.feels, SPREAD * search.rate)


def _best(search: _Search, beats: Float64) -> tuple[Float64, bool] | None:
    """``beats``, or beats of constant tempo if these explain the recording about as well, both in frames.

    Returns
    -------
    tuple or None
        The beats, and whether they are of constant tempo; None if these are no better than none, unless somebody
        told the tempo.
    """
    total = len(search.streams)
    usual = float(np.median(np.diff(beats)))
    drifting = _explained(search, beats)
    enough = max(drifting - DRIFT * len(beats), SHARE * drifting)
    best = least = enough + total * float(search.prior(usual))
    length = None
    # All tempi are tried, since among few onsets the Viterbi path has any length near the usual one.
    spectra = np.fft.rfft(search.streams, BINS_OF_CYCLE * total, axis=0)
    shortest, longest = (60 * search.rate / tempo for tempo in (search.fastest, search.slowest))
    bands = math.ceil(math.log(longest / shortest) / (2 * BAND))
    for centre in shortest * (longest / shortest) ** ((np.arange(bands) + 0.5) / bands):
        lengths = centre * np.exp(np.arange(-BAND, BAND, max(1 / total, 2 * BAND / STEPS_OF_BAND)))
        scores = _fit_constant(_shapes(search, centre), spectra, BINS_OF_CYCLE * total, lengths)
        scores += total * search.prior(lengths)
        i = int(scores.argmax())
        if scores[i] > best:
            best, length = scores[i], float(lengths[i])
    if length is not None:
        frames = np.flatnonzero(search.streams.any(axis=1))
        fit = _fit(_shapes(search, length), frames / length, search.streams[frames])
        if fit.max() + total * search.prior(length) > least:  # without the leeway of the spectrum
            first = fit.argmax() / BINS * length
            return np.arange(first, max(total, first + 1.5 * length), length), True  # at least two
    return (beats, False) if drifting > 0 or search.hinted else None


def _explained(search: _Search, beats: Float64) -> float:
    """How well beats, in frames, explain where things begin."""
    frames = np.flatnonzero(search.streams.any(axis=1))
    shapes = _shapes(search, float(np.median(np.diff(beats))))
    return float(_fit(shapes, _passed(beats, frames), search.streams[frames])[0])


def _passed(beats: Float64, time: NDArray[Any]) -> Float64:
    """Beats passed since the first one, linear between beats and beyond the ends."""
    return _along(time, beats, np.arange(len(beats), dtype=float))


def _shapes(search: _Search, length: float) -> NDArray[np.complex128]:
    """Spectra of the evidence over a beat of such a length, shape (feels, streams, frequencies)."""
    spread = SPREAD * search.rate * BINS / length
    evidence = np.array([[_evidence(BINS, shares, spread) for shares in feel] for feel in search.feels])
    return np.conj(np.fft.rfft(evidence))


def _fit(shapes: NDArray[np.complex128], passed: Float64, weights: Float32) -> Float64:
    """How well beats explain weights at places between them, for each of BINS phases they may have."""
    bins = np.round(passed * BINS).astype(np.intp) % BINS
    spectra = np.fft.rfft([np.bincount(bins, column, BINS) for column in weights.T])
    return np.asarray(np.fft.irfft((spectra * shapes).sum(axis=1), BINS).max(axis=0), np.float64)


def _fit_constant(
    shapes: NDArray[np.complex128], spectra: NDArray[np.complexfloating], size: int, lengths: Float64
) -> Float64:
    """How well beats of each of these lengths explain weights, in their best phase.

    ``spectra`` are transforms of ``size`` frames; a partial of the beat is in their bin nearest to it.
    """
    bins = np.round(np.arange(BINS // 2 + 1) * size / lengths[:, np.newaxis]).astype(np.intp) % size
    mirrored = bins >= len(spectra)
    values = spectra[np.where(mirrored, size - bins, bins)]
    values = np.where(mirrored[..., np.newaxis], values.conj(), values)
    fits = [np.fft.irfft((values * shape.T).sum(axis=2), BINS).max(axis=1) for shape in shapes]
    return np.asarray(np.max(fits, axis=0), np.float64)


def _lengths(shortest: float, longest: float) -> NDArray[np.intp]:
    """Lengths of beats in frames, not much closer than :data:`STEPS`."""
    lengths = [max(2, round(shortest))]
    for length in range(lengths[0] + 1, max(lengths[0] + 1, round(longest)) + 1):
        if length >= lengths[-1] * STEPS:
            lengths.append(length)
    return np.array(lengths, np.intp)


def _normalised(envelope: Float32, frame_rate: float, frames: int) -> Float64:
    """What stands out of the envelope, at half its rate, scaled by its size over some seconds around."""
    x, seconds = envelope.astype(np.float64), round(8 * frame_rate)
    x -= _mean_around(x, round(frame_rate))
    x = np.maximum(x - NOISE * np.sqrt(_mean_around(x * x, seconds)), 0)
    size = np.sqrt(_mean_around(x * x, seconds)) + 0.1 * np.sqrt(np.sum(x * x) / max(1, len(x)))
    x = np.pad(np.divide(x, size, out=np.zeros_like(x), where=size > 0), (1, 2))
    smooth = (x[:-2] + 2 * x[1:-1] + x[2:])[::2] / 2
    return np.pad(smooth, (0, max(0, frames - len(smooth))))[:frames]


def _mean_around(x: Float64, width: int) -> Float64:
    """Mean over ``width`` values around each, fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(x)])
    low = np.maximum(np.arange(len(x)) - width // 2, 0)
    high = np.minimum(low + width, len(x))
    return np.asarray((total[high] - total[low]) / (high - low), np.float64)


def _spread(positions: Float64, weights: Float64, frames: int) -> Float64:
    """Weights at fractional frames, shared between neighbours."""
    whole = positions.astype(np.intp)
    part = positions - whole
    x = np.bincount(whole, weights * (1 - part), frames + 1) + np.bincount(whole + 1, weights * part, frames + 1)
    return np.asarray(x[:frames], np.float64)


def _evidence(length: int, shares: Shares, spread: float) -> Float64:
    """What an onset says for each place of a beat: logarithm of the density of onsets there over the mean."""
    places = np.arange(length)
    density = np.zeros(length)
    for twelfth, share in shares.items():
        for beat in (-1, 0, 1):
            density += share * np.exp(-0.5 * ((places - (twelfth / 12 + beat) * length) / spread) ** 2)
    return np.asarray(np.log(ANYWHERE + (1 - ANYWHERE) * density / density.mean()), np.float64)


def _viterbi(
    streams: Float32,
    lengths: NDArray[np.intp],
    prior: Float64,
    feels: Sequence[tuple[Shares, Shares]],
    spread: float,
) -> Float64:
    """Frames of the beats on the most probable path."""
    feel = np.repeat(np.arange(len(feels)), len(lengths))
    lengths, prior = np.tile(lengths, len(feels)), np.tile(prior, len(feels))
    evidence = np.stack(
        [
            np.concatenate(
                [_evidence(n, feels[f][s], spread) for n, f in zip(lengths.tolist(), feel.tolist(), strict=True)]
            )
            for s in range(streams.shape[1])
        ]
    ).astype(np.float32)
    bias = np.repeat(prior, lengths).astype(np.float32)
    change = -INERTIA * np.abs(np.log(lengths[:, None] / lengths)) - SWITCH * (feel[:, None] != feel)
    change -= np.log(np.exp(change).sum(axis=0))  # into a row, from a column
    change = change.astype(np.float32)

    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    last = first + lengths - 1
    score = np.repeat(-np.log(lengths), lengths).astype(np.float32)
    shifted = np.empty_like(score)
    rows = np.arange(len(lengths))
    came_from = np.zeros((len(streams), len(lengths)), np.uint8 if len(lengths) <= 256 else np.uint16)
    for t, weights in enumerate(streams):
        if t:
            candidates = change + score[last]
            came_from[t] = best = candidates.argmax(axis=1)
            shifted[1:] = score[:-1]
            shifted[first] = candidates[rows, best]
            shifted -= shifted.max()
            score, shifted = shifted, score
        score += bias + weights @ evidence
    state = int(score.argmax())
    which = int(np.searchsorted(first, state, side="right")) - 1
    t = len(streams) - 1 - (state - int(first[which]))
    beats = []
    while t >= 0:
        beats.append(t)
        which = int(came_from[t, which])
        t -= int(lengths[which])
    return np.array(beats[::-1], np.float64)


def _refine(beats: Float64, events: _Events, steady: bool) -> Float64:
    """A smooth curve, or a straight line if steady, through the onsets nearest to the beats."""
    from scipy.linalg import solveh_banded

    count = len(beats)
    length = np.gradient(beats)
    curve = beats
    for _ in range(3):
        nearest = events.times[_nearest(curve, events.times)]
        distance = nearest - curve
        reach = np.minimum(NEAR, NEAR_SHARE * length)
        # Tukey's weights: the farther from the curve, the less an onset pulls.
        pull = np.where(np.abs(distance) < reach, (1 - (distance / reach) ** 2) ** 2, 0.0) / SCATTER**2
        hold = np.full(count, 1 / LOOSE**2)
        target = pull * nearest + hold * beats
        if steady:
            line = np.polynomial.Polynomial.fit(np.arange(count), target / (pull + hold), 1, w=np.sqrt(pull + hold))
            curve = line(np.arange(count))
            continue
        bands = np.zeros((3, count))
        bands[2] = pull + hold
        bend = 1 / (FLEXIBILITY * np.median(length)) ** 2
        if count >= 3:  # squares of second differences, as upper bands
            bands[2, :-2] += bend
            bands[2, 1:-1] += 4 * bend
            bands[2, 2:] += bend
            bands[1, 1:-1] -= 2 * bend
            bands[1, 2:] -= 2 * bend
            bands[0, 2:] += bend
        curve = solveh_banded(bands, target)
    return np.asarray(curve, np.float64)


def _nearest(times: Float64, among: Float64) -> NDArray[np.intp]:
    """For each time the number of the nearest of others."""
    right = np.clip(np.searchsorted(among, times), 1, len(among) - 1)
    return np.asarray(np.where(times - among[right - 1] <= among[right] - times, right - 1, right), np.intp)


def _cover(beats: Float64, duration: float) -> Float64:
    """Beats from less than a beat after zero to the end or later; one that came just too early is at zero."""
    before, after = beats[1] - beats[0], beats[-1] - beats[-2]
    beats = np.maximum(beats[beats > -EARLY * before], 0.0)
    head = np.maximum(beats[0] - before * np.arange(int(beats[0] / before + EARLY), 0, -1), 0.0)
    missing = max(2 - len(beats), int(np.ceil((duration - beats[-1]) / after)), 0)
    return np.concatenate([head, beats, beats[-1] + after * np.arange(1, missing + 1)])


def _with_bar(times: Float64, moment: float, duration: float, parts: int) -> tuple[Float64, int]:
    """Beats one of which begins a bar at a moment, and which; if a part of a beat is nearer to it, all move there.

    Onsets alone do not always tell beats from what lies between them.
    """
    part = round(float(_passed(times, np.array(moment))) * parts) % parts / parts
    if part:
        times = _moved(times, part, duration)
    return times, round(float(_passed(times, np.array(moment))))


def _downbeat(times: Float64, notes: Sequence[Note], per_bar: int) -> int:
    """Which of the first beats begins a bar.

    Bars begin where the harmony changes, over two beats or from one to the next, and where notes begin that last. Music
    begins with a bar or with an upbeat to one.
    """
    if per_bar == 1 or len(times) < 2 * per_bar:
        return 0
    evidence = CHANGE * (2 * _standard(_changes(times, notes, 2)) + _standard(_changes(times, notes, 1))) / 3
    evidence += LONG * _standard(_longest(times, notes))
    places = np.arange(len(times)) % per_bar
    odds = math.sqrt(len(times)) * np.bincount(places, evidence) / np.bincount(places)
    begin = float(_passed(times, np.array(notes[0].onset))) + EARLY
    first = math.floor(begin)
    if begin - first < 2 * EARLY:  # on the beat
        odds[first % per_bar] += BEGINS
        odds[(first + 1) % per_bar] += UPBEAT
    else:
        odds[(first + 1) % per_bar] += BEGINS
    return int(odds.argmax())


def _explained_by_bars(times: Float64, notes: Sequence[Note], events: _Events, per_bar: int) -> float:
    """How much likelier harmony and accents are if they depend on the place in the bar; a logarithm."""
    scores = _standard(_standard(_changes(times, notes, 2)) + _standard(_accents(times, events)))
    places = [scores[i::per_bar] for i in range(min(per_bar, len(scores)))]
    share = sum(len(x) * x.mean() ** 2 for x in places) / len(scores)
    return -len(scores) / 2 * math.log(max(1 - share, 0.05))  # of few beats everything is explained


def _edges(times: Float64) -> Float64:
    """When what belongs to each beat begins, and when it ends after the last."""
    lengths = np.gradient(times)
    return np.append(times, times[-1] + lengths[-1]) - EARLY * np.append(lengths, lengths[-1])


def _changes(times: Float64, notes: Sequence[Note], width: int) -> Float64:
    """How much the harmony of so many beats from each on differs from that of as many before, 0 to 1."""
    edges = _edges(times)
    # Seconds of each pitch class in each beat, empty beats at the ends.
    harmony = np.zeros((len(times) + 2 * width, 12))
    for note in notes:
        first, last = np.searchsorted(edges, [note.onset, note.offset])
        first, last = max(0, first - 1), min(last, len(times))
        harmony[first + width : last + width, note.pitch % 12] += np.diff(
            edges[first : last + 1].clip(note.onset, note.offset)
        )
    sums = sum(harmony[i : len(harmony) - width + 1 + i] for i in range(width))
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    change = 1 - (sums[: len(times)] * sums[width : width + len(times)]).sum(axis=1)
    change[0] = change[1:].mean()  # where nothing was before
    return np.asarray(change, np.float64)


def _longest(times: Float64, notes: Sequence[Note]) -> Float64:
    """Length in beats of the longest note that begins with each beat, at most LONG_ENOUGH."""
    lengths, edges = np.gradient(times), _edges(times)
    longest = np.zeros(len(times))
    for note in notes:
        beat = int(np.searchsorted(edges, note.onset, side="right")) - 1
        if 0 <= beat < len(times) and note.onset - times[beat] < EARLY * lengths[beat]:
            longest[beat] = max(longest[beat], min(note.duration / lengths[beat], LONG_ENOUGH))
    return longest


def _accents(times: Float64, events: _Events) -> Float64:
    """The accent of what begins with each beat."""
    nearest = _nearest(times, events.times)
    near = np.abs(events.times[nearest] - times) < EARLY * np.gradient(times)
    return np.where(near, events.accents[nearest], 0.0)


def _standard(x: Float64) -> Float64:
    return np.asarray((x - x.mean()) / max(float(x.std()), 1e-9), np.float64)


def fixed_beats(
    tempo: float, duration: float, per_bar: int = 4, quarters: float = 1.0, first_bar: float = 0.0
) -> Beats:
    """Beats of a fixed tempo, from the first of a recording to its end or later.

    Parameters
    ----------
    tempo : float
        Quarter notes per minute, 4 to 1000.
    duration : float
        Length of the recording in seconds.
    per_bar : int
        Beats in a bar.
    quarters : float
        Length of a beat in quarter notes.
    first_bar : float
        Seconds at which a bar begins, the first one or any other.

    Raises
    ------
    UsageError
        If the tempo or the metre is impossible, or ``first_bar`` lies after the end.
    """
    check_tempo(tempo)
    _check_first_bar(first_bar, duration)
    length = round(6e7 / tempo) / 1e6 * quarters  # as a MIDI file has it, in whole microseconds
    before = int(first_bar / length)  # beats
    first = max(0.0, first_bar - before * length)  # rounding must not put it before the recording
    count = max(2, int(np.ceil((duration - first) / length)) + 1)
    return Beats(tuple((first + length * np.arange(count)).tolist()), per_bar, before % per_bar, quarters)


# ---------------------------------------------------------------- places between beats


def beat_position(beats: Beats, time: ArrayLike) -> Float64:
    """Beats passed since the first one, linear between beats and beyond the ends.

    Parameters
    ----------
    beats : Beats
    time : array_like
        Seconds, any shape.

    Returns
    -------
    ndarray of float64
        Of the same shape; :func:`beat_time` is the inverse.
    """
    times, time = np.asarray(beats.times), np.asarray(time, np.float64)
    return _passed(times, time)


def beat_time(beats: Beats, position: ArrayLike) -> Float64:
    """Seconds at which so many beats have passed since the first one; the inverse of :func:`beat_position`."""
    times, position = np.asarray(beats.times), np.asarray(position, np.float64)
    return _along(position, np.arange(len(times), dtype=float), times)


def lead_in(beats: Beats) -> Fraction:
    """Beats that a MIDI file counts before the first one, so that it can begin with the recording.

    In the largest fraction of a beat that keeps their tempo near that of the others. If there are none, the first beat
    begins with the recording.
    """
    passed = beats.times[0] * beats.tempo / 60
    beat = Fraction(beats.quarters) / 4
    finer = (3, 6, 12) if beat.numerator == 3 else (2, 4, 8)
    fractions = [1, *(parts for parts in finer if (beat / parts).denominator <= FINEST_BAR)]
    # A first beat that begins with the recording lasts longer by what has passed before it.
    begins = passed * (1 + passed) < 1 / fractions[-1] and beats.times[1] <= LONGEST_QUARTER * beats.quarters
    if begins or not passed:
        return Fraction(0)

    def error(lead: Fraction) -> float:
        return abs(math.log(lead / passed))

    leads = [Fraction(max(1, round(passed * parts)), parts) for parts in fractions]
    return next((lead for lead in leads if error(lead) <= LEAD_IN_ERROR), min(leads, key=error))


def file_axis(beats: Beats) -> tuple[Float64, Float64]:
    """Seconds from the beginning, and the beats since the first one that a MIDI file has counted by then.

    Those of its beginning and of each beat; it counts evenly between them, and beyond the last.
    """
    lead = float(lead_in(beats))
    times = np.array([0.0, *(beats.times if lead else beats.times[1:])])
    places = np.arange(len(times), dtype=float)
    return times, np.append(-lead, places[:-1]) if lead else places


def _along(x: NDArray[Any], known: NDArray[Any], values: Float64) -> Float64:
    """Values at places between known ones, linear between those and beyond the ends."""
    i = np.clip(np.searchsorted(known, x, side="right") - 1, 0, len(known) - 2)
    slope = (values[i + 1] - values[i]) / (known[i + 1] - known[i])
    return np.asarray(values[i] + (x - known[i]) * slope, np.float64)


class _Grid:
    """Points that divide a recording evenly in its MIDI file, every second one late; point 0 is the first downbeat.

    Parameters
    ----------
    beats : Beats
    step : float
        Distance of points, in beats.
    late : float
        Delay of the odd points, in steps.
    """

    def __init__(self, beats: Beats, step: float, late: float) -> None:
        self.step, self.late = step, late
        self._downbeat = beats.downbeat
        self._times, self._places = file_axis(beats)
        self._first, self._second = beats.times[:2]
        part = (self._places[1] - self._places[0]) / BEGIN_PARTS  # where the file goes on from its first tempo
        self._times = np.insert(self._times, 1, min(60 / beats.tempo * part, self._times[1] / 2))
        self._places = np.insert(self._places, 1, self._places[0] + part)

    def place(self, time: Float64) -> Float64:
        """Beats played from the first downbeat to each time; before the first beat, those that the file counts."""
        counted = self.counted(time)
        if self._places[0] < 0:
            return counted
        # The file begins with the first beat, though it was played a little later.
        played = np.maximum((time - self._first) / (self._second - self._first), 0.0) - self._downbeat
        return np.where(time < self._second, played, counted)

    def counted(self, time: Float64) -> Float64:
        """Beats that the file counts from the first downbeat to each time."""
        return _along(time, self._times, self._places) - self._downbeat

    def nearest(self, time: Float64) -> NDArray[np.int64]:
        """Number of the point nearest to where each time was played; none lies before 0."""
        steps = self.place(time) / self.step
        point = np.floor(steps).astype(np.int64)
        # The nearest is one of four: of the even steps, and of the odd ones that come late.
        candidates = np.stack([point - 1, point, point + 1, point + 2])
        places = candidates + self.late * (candidates % 2)
        distance = np.where(self.time(candidates) < 0, np.inf, np.abs(places - steps))
        return np.asarray(np.take_along_axis(candidates, distance.argmin(axis=0)[None], axis=0)[0], np.int64)

    def time(self, point: NDArray[np.int64]) -> Float64:
        """Seconds of each point."""
        places = self._downbeat + (point + self.late * (point % 2)) * self.step
        times = _along(places, self._places, self._times)
        return np.where(np.abs(times) < 1e-9, 0.0, times)  # rounding must not put the first point before the file


def quantize(
    notes: Iterable[Note],
    beats: Beats,
    division: Fraction,
    strength: float = 1.0,
    swing: float = 0.0,
) -> tuple[Note, ...]:
    """Move notes towards the nearest points of a grid that divides the beats as a MIDI file counts them.

    Notes of several pitches that are struck within 35 ms, and not half a step of the grid apart, move to the same
    point: the one nearest to their mean. Notes of one pitch that arrive at the same point become one, as long as the
    longest and as loud as the loudest. No note of a pitch overlaps the next. Bends move with their notes, and end with
    them. Ends move to the grid too, at least one point after the onset; a shorter note keeps its length.

    Parameters
    ----------
    notes : iterable of Note
        In any order.
    beats : Beats
        The grid is laid between them as :func:`file_axis` counts, its first point on the first downbeat.
    division : Fraction
        Distance of the grid's points, as a share of a whole note: ``Fraction(1, 16)``; of eighth triplets
        ``Fraction(1, 12)``.
    strength : float
        How much of the way to the grid a note moves: 0, it stays as it was; 1, it lies on the grid.
    swing : float
        Every second point comes late, so that long : short is ``1 + 2 * swing`` : 1. At 0 they are even, at 0.5 it is
        the 2 : 1 of triplets, at 1 a dotted note and a half as long one (3 : 1).

    Returns
    -------
    tuple of Note
        Sorted by onset, then pitch.
    """
    notes = sorted(notes, key=lambda n: (n.onset, n.pitch))
    if not strength or not notes:
        return tuple(notes)
    grid = _Grid(beats, float(4 * division) / beats.quarters, swing / (1 + swing))
    begin, end = np.array([n.onset for n in notes]), np.array([n.offset for n in notes])
    point = grid.nearest(_together(notes, begin, grid))
    onset = _towards(begin, grid.time(point), strength)
    offset = np.where(onset == begin, end, onset + (end - begin))
    long = end - begin >= grid.time(point + 1) - grid.time(point) - 1e-9
    offset = np.where(long, _towards(end, grid.time(np.maximum(grid.nearest(end), point + 1)), strength), offset)
    moved = [
        replace(n, onset=a, offset=b, bend=replace(n.bend, start=n.bend.start + (a - n.onset)) if n.bend else None)
        for n, a, b in zip(notes, onset.tolist(), offset.tolist(), strict=True)
    ]
    cut = [replace(n, bend=n.bend.until(n.offset)) if n.bend else n for n in _in_lines(moved)]
    return tuple(sorted(cut, key=lambda n: (n.onset, n.pitch)))


def gathered(notes: Iterable[Note], beats: Beats, division: Fraction, swing: float = 0.0) -> int:
    """How many notes a grid puts where notes of other pitches are, though they were played after them.

    Not those that may be of one chord or ornament, since they follow within a tenth of a second. Parameters as of
    :func:`quantize`.
    """
    notes = sorted(notes, key=lambda n: (n.onset, n.pitch))
    grid = _Grid(beats, float(4 * division) / beats.quarters, swing / (1 + swing))
    struck = _together(notes, np.array([n.onset for n in notes]), grid) if notes else np.zeros(0)
    count, at, last, later = 0, None, 0.0, False
    there: set[int] = set()  # pitches
    for note, time, point in zip(notes, struck.tolist(), grid.nearest(struck).tolist(), strict=True):
        if point != at:
            at, later, there = point, False, set()
        elif time != last:
            later = time - last > ORNAMENT
        count += later and note.pitch not in there
        there.add(note.pitch)
        last = time
    return count


def _together(notes: Sequence[Note], onsets: Float64, grid: _Grid) -> Float64:
    """For each note, in order, the mean onset of those it is struck with."""
    places = grid.place(onsets).tolist()
    apart = grid.step * (1 - grid.late) / 2  # half of the least distance of two points
    firsts: list[int] = []
    pitches: set[int] = set()
    for i, note in enumerate(notes):
        chord = firsts and note.onset < notes[firsts[-1]].onset + CHORD and places[i] < places[firsts[-1]] + apart
        if not chord or note.pitch in pitches:
            firsts.append(i)
            pitches = set()
        pitches.add(note.pitch)
    sizes = np.diff([*firsts, len(notes)])
    return np.repeat(np.add.reduceat(onsets, firsts) / sizes, sizes)


def _towards(start: Float64, goal: Float64, strength: float) -> Float64:
    return goal if strength == 1 else start + strength * (goal - start)


def _in_lines(notes: Sequence[Note]) -> list[Note]:
    """Notes in order of onset, those of a pitch that begin together joined, and cut where the next begins."""
    lines: dict[int, list[Note]] = {}
    for note in notes:
        line = lines.setdefault(note.pitch, [])
        if line and note.onset <= line[-1].onset:
            last = line.pop()
            louder, confidence = max(last.velocity, note.velocity), max(last.confidence, note.confidence)
            note = replace(last, offset=max(last.offset, note.offset), velocity=louder, confidence=confidence)
        elif line and line[-1].offset > note.onset:
            line.append(replace(line.pop(), offset=note.onset))
        line.append(note)
    return [note for line in lines.values() for note in line]


# ---------------------------------------------------------------- words


def parse_division(text: str) -> Fraction:
    """Read ``1/16`` or, for triplets, ``1/8T`` as a share of a whole note.

    Raises
    ------
    UsageError
        If it is neither.
    """
    match = re.fullmatch(r"1/(1|2|4|8|16|32|64)([tT]?)", text.strip())
    if not match:
        raise UsageError(f"{text!r} is no note value; give one such as 1/8, 1/16, or 1/8T for triplets")
    return Fraction(1, int(match[1])) * (Fraction(2, 3) if match[2] else 1)


def parse_time_signature(text: str) -> tuple[int, int]:
    """Read ``6/8`` as numerator and denominator.

    Raises
    ------
    UsageError
        If it is no time signature.
    """
    match = re.fullmatch(r"(\d{1,2})/(1|2|4|8|16|32)", text.strip())
    if not match or not 1 <= int(match[1]) <= 64:
        raise UsageError(f"{text!r} is no time signature; give one such as 4/4 or 6/8")
    return int(match[1]), int(match[2])


def metre(time_signature: tuple[int, int]) -> tuple[int, float]:
    """Beats in a bar, and quarter notes in a beat.

    The beat of 6/8, 9/8 and 12/8 (and of sixteenths and so on alike) is three eighths; otherwise it is the denominator.
    """
    numerator, denominator = time_signature
    if denominator >= 8 and numerator > 3 and numerator % 3 == 0:
        return numerator // 3, 12 / denominator
    return numerator, 4 / denominator
