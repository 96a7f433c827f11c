"""A transcription to look at: notes over the spectrogram of their recording, in rows like the systems of a score."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import printable, require
from .tuning import midi_to_hz
from .types import Beats, Float32, Note, Posteriors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

LONGEST = 300.0  # seconds drawn at most: twenty rows, about as tall as image viewers take
ROW = 15.0  # seconds in a row at most
DPI = 110

# Inches.
WIDTH, LEFT, RIGHT, HEADER, FOOTER, GAP = 13.0, 0.5, 0.15, 0.68, 0.45, 0.34
ROW_HEIGHT, SMALLEST_SEMITONE = 3.0, 0.074  # rows are taller where a semitone would otherwise be smaller
NARROWEST = 24  # semitones shown at least
LONGEST_TITLE = 80  # characters beside the colour bar

BINS = 3  # of the spectrogram, in a semitone
SHARPNESS, LEAST_WIDTH = 0.012, 2.0  # standard deviation of a bin's window: fraction of its frequency, plus hertz
DYNAMICS = 58.0  # decibels from white to the darkest grey
MARGIN = 1.0  # seconds of sound analysed beyond a row's ends
NEEDED = LONGEST + MARGIN  # seconds of a recording, from its beginning, beyond which nothing changes a picture

BAR = 0.4  # half a bar's height, in semitones
INK, GREEN = "#1a1a1a", "#009e73"
SMALLEST_BEND = 0.15  # semitones; less is not drawn


def prepare() -> None:
    """Load matplotlib in a process that draws files and nothing else, before it starts others to do so.

    What is meant for windows and notebooks is left aside: the backend of a notebook that is not installed here, or a
    broken ``matplotlibrc``, would end it. Where matplotlib can keep no cache in the home folder, it makes a temporary
    one, and a warning: one for all processes, which goes with this one.

    Raises
    ------
    UsageError
        If matplotlib is not installed.
    """
    require("matplotlib", "plot", "drawing")
    os.environ["MPLBACKEND"], os.environ["MATPLOTLIBRC"] = "agg", os.devnull
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    matplotlib.get_cachedir()


def draw(notes: Sequence[Note], duration: float, *, format: str = "png", **shown: Any) -> bytes:
    """Draw notes as a PNG or SVG file; the other parameters are those of :func:`figure`.

    Parameters
    ----------
    format : str
        ``png`` or ``svg``. In the latter notes, lines and labels are vectors, the spectrogram is an embedded image.

    Returns
    -------
    bytes
        The same for the same input and version of matplotlib.

    Raises
    ------
    UsageError
        If matplotlib is not installed.
    """
    drawn = figure(notes, duration, **shown)
    file = BytesIO()
    metadata = {"Software": None} if format == "png" else {"Date": None, "Creator": None}
    with _own_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a title the font lacks characters for
        drawn.savefig(file, format=format, dpi=DPI, metadata=metadata)
    return file.getvalue()


@contextmanager
def _own_style() -> Iterator[None]:
    """The defaults of matplotlib, whatever style its user has set, and names in SVG that do not change."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "basic_transcribe"
        yield


def figure(
    notes: Sequence[Note],
    duration: float,
    *,
    audio: Float32 | None = None,
    sample_rate: float | None = None,
    posteriors: Posteriors | None = None,
    beats: Beats | None = None,
    title: str = "",
) -> Figure:
    """Draw notes as a matplotlib figure, one axes a row, the colour bar last.

    Notes are bars, their colour the velocity; where one bends by more than 15 cents, a line follows its sounding pitch.
    Rows have 15 seconds at most. Of recordings longer than 5 minutes the beginning is drawn, and the title says so.

    Parameters
    ----------
    notes : sequence of Note
        In any order.
    duration : float
        Length of the recording in seconds.
    audio : ndarray of float32, shape (samples,), optional
        The recording, for a spectrogram; its first :data:`NEEDED` seconds are enough.
    sample_rate : float, optional
        Rate of ``audio`` in Hz; needed with it.
    posteriors : Posteriors, optional
        Drawn faintly, to show what nearly was a note; the first :data:`NEEDED` seconds are enough.
    beats : Beats, optional
        Drawn as lines, the first of each bar stronger and numbered as in a score, whose bars begin with the notes.
    title : str
        Such as the name of the recording.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UsageError
        If matplotlib is not installed.
    """
    require("matplotlib", "plot", "drawing")
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure

    end = min(duration, LONGEST)
    notes = [note for note in notes if note.onset < end]
    low, high = _pitch_range(notes)
    rows_needed = int(np.ceil(end / ROW))
    seconds = float(np.ceil(end / rows_needed)) if rows_needed > 1 else max(end, 1.0)  # that fill the width
    starts = np.arange(0, max(end, 1e-9), seconds)
    height = max(ROW_HEIGHT, SMALLEST_SEMITONE * (high - low + 1))
    total = HEADER + len(starts) * (height + GAP) - GAP + FOOTER
    per_second = (WIDTH - LEFT - RIGHT) / seconds

    velocities = [note.velocity for note in notes] or [64]
    spare = max(0, 24 - (max(velocities) - min(velocities))) / 2
    norm = Normalize(max(1, min(velocities) - spare), min(127, max(velocities) + spare))
    colours = ListedColormap(colormaps["plasma"](np.linspace(0.0, 0.88, 256)))  # without what is too bright on white
    with _own_style():
        drawn = Figure(figsize=(WIDTH, total), facecolor="white")
        _header(drawn, total, notes, title, duration, audio is not None, posteriors is not None)
        rows = []
        for number, start in enumerate(starts):
            stop = min(start + seconds, max(end, start + 0.2 * seconds))
            bottom = total - HEADER - (number + 1) * height - number * GAP
            box = (LEFT / WIDTH, bottom / total, (stop - start) * per_second / WIDTH, height / total)
            axes = drawn.add_axes(box)
            axes.set(xlim=(start, stop), ylim=(low - 0.5, high + 0.5))
            _scale(axes, low, high)
            rows.append((axes, start, stop))
        if audio is not None and sample_rate:
            _draw_spectrogram(rows, audio, sample_rate, low, high)
        for axes, start, stop in rows:
            if posteriors is not None:
                _draw_posteriors(axes, posteriors, start, stop)
            if beats is not None:
                _draw_beats(axes, beats, _first_bar(notes, beats), start, stop)
            _draw_notes(axes, [n for n in notes if n.onset < stop and n.offset > start], colours, norm)
        rows[-1][0].set_xlabel("seconds", fontsize=8)
        _colour_bar(drawn, total, colours, norm)
    return drawn


def _pitch_range(notes: Sequence[Note]) -> tuple[int, int]:
    """Lowest and highest pitch to show: what sounds and a margin, at least two octaves."""
    if not notes:
        return 48, 72
    bends = [note.pitch + note.bend.semitones for note in notes if note.bend is not None]
    pitches = np.concatenate([[note.pitch for note in notes], *bends])
    low, high = float(pitches.min()) - 2, float(pitches.max()) + 3
    missing = max(0.0, NARROWEST - (high - low)) / 2
    return max(0, int(np.floor(low - missing))), min(127, int(np.ceil(high + missing)))


def _header(
    drawn: Figure, total: float, notes: Sequence[Note], title: str, duration: float, heard: bool, faint: bool
) -> None:
    """Title, and what the colours mean."""
    title = printable(title)
    title = title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 1] + "…"
    parts = ["1 note" if len(notes) == 1 else f"{len(notes)} notes"]
    if duration > LONGEST:
        parts.append(f"the first {LONGEST / 60:g} of {duration / 60:.1f} minutes")
    if heard:
        parts.append("grey: spectrogram of the recording")
    if faint:
        parts.append("green: posterior of notes")
    style: dict[str, Any] = {"ha": "left", "va": "top", "color": INK, "parse_math": False}
    drawn.text(LEFT / WIDTH, 1 - 0.14 / total, title, fontsize=12, weight="bold", **style)
    drawn.text(LEFT / WIDTH, 1 - 0.37 / total, ", ".join(parts), fontsize=8, **style)


def _colour_bar(drawn: Figure, total: float, colours: Colormap, norm: Normalize) -> None:
    """The scale of velocities, at the top right."""
    from matplotlib.cm import ScalarMappable

    axes = drawn.add_axes(((WIDTH - RIGHT - 2.4) / WIDTH, 1 - 0.3 / total, 2.4 / WIDTH, 0.11 / total))
    bar = drawn.colorbar(ScalarMappable(norm, colours), cax=axes, orientation="horizontal")
    bar.outline.set_linewidth(0.5)
    axes.tick_params(labelsize=7, length=2, pad=1.5)
    axes.text(-0.03, 0.5, "velocity", transform=axes.transAxes, fontsize=8, ha="right", va="center", color=INK)


def _scale(axes: Axes, low: int, high: int) -> None:
    """Names of the octaves, a line at each C, ticks at the seconds."""
    from matplotlib.ticker import MaxNLocator

    octaves = [pitch for pitch in range(low, high + 1) if pitch % 12 == 0]
    others = [pitch for pitch in range(low, high + 1) if pitch % 12 in (4, 7, 9)]
    axes.set_yticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves], fontsize=8)
    axes.set_yticks(others, ["EGA"[(4, 7, 9).index(pitch % 12)] for pitch in others], fontsize=5.5, minor=True)
    axes.tick_params(axis="both", which="both", length=2, width=0.5, color=INK, labelcolor=INK, pad=2)
    axes.tick_params(axis="y", which="minor", length=1, labelcolor="#666666")
    axes.tick_params(axis="x", labelsize=8)
    axes.hlines(octaves, *axes.get_xlim(), color=INK, linewidth=0.4, alpha=0.35, zorder=1.5)
    axes.xaxis.set_major_locator(MaxNLocator(15, integer=True))
    for side in axes.spines.values():
        side.set_linewidth(0.5)


def _image(axes: Axes, values: NDArray[Any], extent: tuple[float, float, float, float], **style: Any) -> None:
    """An array of shape (pitches, times, ...) under all lines, without changing the axes' limits."""
    limits = axes.axis()
    axes.imshow(values, origin="lower", aspect="auto", interpolation="nearest", extent=extent, zorder=1, **style)
    axes.axis(limits)


def _draw_spectrogram(
    rows: Sequence[tuple[Axes, float, float]], audio: Float32, sample_rate: float, low: int, high: int
) -> None:
    """The sound of each row, in decibels below the loudest of all."""
    columns = [round((stop - start) / (rows[0][2] - rows[0][1]) * WIDTH * DPI) for _, start, stop in rows]
    sounds = [
        spectrogram(audio, sample_rate, low, high, start, stop, count)
        for (_, start, stop), count in zip(rows, columns, strict=True)
    ]
    loudest = max(max(float(sound.max()) for sound in sounds), 1e-9)
    for (axes, start, stop), sound in zip(rows, sounds, strict=True):
        level = 20 * np.log10(np.maximum(sound / loudest, 1e-6))
        extent = (start, stop, low - 0.5, high + 0.5)
        _image(axes, level, extent, cmap="Greys", vmin=-DYNAMICS, vmax=DYNAMICS / 3)


def spectrogram(
    audio: Float32, sample_rate: float, low: int, high: int, start: float, stop: float, columns: int
) -> Float32:
    """Amplitudes of the frequencies of a range of pitches over a stretch of time.

    A constant-Q transform, widened in the bass, by windows in the frequency domain: Velasco, Holighaus, Dörfler and
    Grill, "Constructing an invertible constant-Q transform with nonstationary Gabor frames", DAFx 2011.

    Parameters
    ----------
    audio : ndarray of float32, shape (samples,)
        The recording.
    sample_rate : float
        Hz.
    low, high : int
        First and last MIDI pitch.
    start, stop : float
        In seconds; what lies outside the recording is silence.
    columns : int
        Number of equal steps from ``start`` to ``stop``; each has the maximum of its time.

    Returns
    -------
    ndarray of float32, shape (bins, columns)
        Three bins a semitone, the second centred on it.
    """
    first, last = round((start - MARGIN) * sample_rate), round((stop + MARGIN) * sample_rate)
    heard, before = audio[max(0, first) : last], max(0, -first)
    part = np.pad(heard, (before, last - first - before - len(heard)))
    spectrum = np.fft.rfft(part)
    seconds = len(part) / sample_rate  # the spectrum has so many samples a hertz

    pitches = low + (np.arange((high - low + 1) * BINS) - BINS // 2) / BINS
    frequencies = midi_to_hz(pitches)
    widths = SHARPNESS * frequencies + LEAST_WIDTH
    reach = np.ceil(3 * widths * seconds).astype(int)
    frames = 1 << int(max(2 * reach.max(), 2 * columns * seconds / (stop - start))).bit_length()
    edges = (np.linspace(MARGIN, seconds - MARGIN, columns, endpoint=False) / seconds * frames).astype(int)
    out = np.zeros((len(pitches), columns), np.float32)
    for row, (frequency, width, half) in enumerate(zip(frequencies, widths, reach, strict=True)):
        centre = round(frequency * seconds)
        index = np.arange(max(0, centre - half), min(len(spectrum), centre + half + 1))
        band = np.zeros(frames, np.complex64)
        window = np.exp(-0.5 * ((index / seconds - frequency) / width) ** 2)
        band[(index - centre) % frames] = spectrum[index] * window
        # Each column ends where the next begins; the last must not run on into the margin.
        amplitude = np.abs(np.fft.ifft(band))[: edges[-1] + max(1, edges[-1] - edges[-2])]
        out[row] = np.maximum.reduceat(amplitude, edges) * frames / len(part)
    return out


def _draw_posteriors(axes: Axes, posteriors: Posteriors, start: float, stop: float) -> None:
    """Posteriors of notes in faint green."""
    from matplotlib.colors import to_rgb

    rate = posteriors.frame_rate
    first = max(0, int(start * rate))
    shown = posteriors.note[first : int(np.ceil(stop * rate)) + 1].T
    if not shown.size:
        return
    colour = np.empty((*shown.shape, 4), np.float32)
    colour[..., :3] = to_rgb(GREEN)
    colour[..., 3] = 0.5 * np.clip(shown, 0, 1)
    left, bottom = (first - 0.5) / rate, posteriors.lowest_pitch - 0.5
    _image(axes, colour, (left, left + shown.shape[1] / rate, bottom, bottom + len(shown)))


def _first_bar(notes: Sequence[Note], beats: Beats) -> int:
    """Index of the beat with which bar 1 of a score begins: the first bar with a note that is no pick-up."""
    if not notes:
        return beats.downbeat
    sixteenths = 4 * beats.quarters  # in a beat
    place = float(np.interp(min(note.onset for note in notes), beats.times, np.arange(len(beats.times))))
    first = round((place - beats.downbeat) * sixteenths) / sixteenths
    bar, silence = divmod(first, beats.per_bar)
    pick_up = silence >= 0.5 and (first < 0 or 2 * silence >= beats.per_bar)
    return beats.downbeat + int(bar + pick_up) * beats.per_bar


def _draw_beats(axes: Axes, beats: Beats, first: int, start: float, stop: float) -> None:
    """Beats as thin lines, bars as stronger ones, with their numbers from the beat ``first`` on."""
    low, high = axes.get_ylim()
    for index, time in enumerate(beats.times):
        if not start <= time < stop:
            continue
        bar, beat = divmod(index - first, beats.per_bar)
        width, alpha = (0.4, 0.35) if beat else (1.0, 0.65)
        axes.vlines(time, low, high, color=INK, linewidth=width, alpha=alpha, zorder=1.6)
        if not beat and bar >= 0:
            axes.annotate(
                str(bar + 1), (time, high), (0, 1.5), textcoords="offset points", fontsize=7, color=INK, ha="center"
            )


def _draw_notes(axes: Axes, notes: Sequence[Note], colours: Colormap, norm: Normalize) -> None:
    """Bars, an edge around them to set them off, and lines at the sounding pitch where they bend."""
    from matplotlib.collections import LineCollection, PolyCollection

    bars = [
        [(n.onset, n.pitch - BAR), (n.offset, n.pitch - BAR), (n.offset, n.pitch + BAR), (n.onset, n.pitch + BAR)]
        for n in notes
    ]
    faces = colours(norm([n.velocity for n in notes]))
    axes.add_collection(PolyCollection(bars, facecolors=faces, edgecolors=INK, linewidths=0.5, zorder=2))
    curves = [
        np.column_stack([n.bend.times, n.pitch + n.bend.semitones])
        for n in notes
        if n.bend is not None and len(n.bend.semitones) and np.abs(n.bend.semitones).max() > SMALLEST_BEND
    ]
    axes.add_collection(LineCollection(curves, colors="white", linewidths=2.2, alpha=0.6, zorder=3))
    axes.add_collection(LineCollection(curves, colors=INK, linewidths=1.0, zorder=3.1))
