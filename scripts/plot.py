"""Draw a transcription over its recording: spectrogram, posteriors and contour with bends, as a PNG.

    python scripts/plot.py AUDIO -o OUT.png [--ref REFERENCE.csv] [--start S] [--end S] [--model M]

Blue bars and lines are transcribed notes (darker: louder) and their bends; orange outlines the reference.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from shared import errors_in_one_line

from basic_transcribe import picture, scoring
from basic_transcribe.audio import open_audio
from basic_transcribe.keys import pitch_name
from basic_transcribe.pipeline import Transcriber, Transcription
from basic_transcribe.types import Note, Posteriors

Array = NDArray[np.floating]

NOTE_COLOUR, REFERENCE_COLOUR, ONSET_COLOUR = "#0a6cff", "#ff8000", "#e0003c"
HOP = 256  # samples
DYNAMIC_RANGE = 70.0  # dB
INCHES_PER_SECOND, MIN_WIDTH, MAX_WIDTH = 1.2, 10.0, 40.0


def spectrogram(samples: Array, rate: int, low: int, high: int) -> tuple[Array, float]:
    """Constant-Q magnitudes in dB below the maximum, from note ``low`` to ``high``, and the frame rate.

    Returns
    -------
    ndarray of float, shape (bins, frames); float
    """
    columns = max(1, len(samples) // HOP)
    amplitude = picture.spectrogram(samples, rate, low, high, 0.0, columns * HOP / rate, columns)
    level = 20 * np.log10(np.maximum(amplitude, 1e-12))
    return np.maximum(level - level.max(), -DYNAMIC_RANGE), rate / HOP


def image(axes: Axes, values: Array, rate: float, start: float, low: int, per_semitone: int, **style: Any) -> None:
    """Show an array of shape (bins, frames, ...): the first frame centred on ``start``, note ``low`` at the bottom."""
    bins, frames = values.shape[:2]
    left = start - 0.5 / rate
    extent = (left, left + frames / rate, low - 0.5, low - 0.5 + bins / per_semitone)
    axes.imshow(values, origin="lower", aspect="auto", interpolation="nearest", extent=extent, **style)


def draw_notes(axes: Axes, notes: list[Note]) -> None:
    """Transcribed notes as bars, louder ones more opaque, with their attack as a stroke."""
    for note in notes:
        alpha = 0.15 + 0.5 * note.velocity / 127
        axes.add_patch(
            Rectangle((note.onset, note.pitch - 0.35), note.duration, 0.7, color=NOTE_COLOUR, alpha=alpha, lw=0)
        )
    attacks = [[(n.onset, n.pitch - 0.45), (n.onset, n.pitch + 0.45)] for n in notes]
    axes.add_collection(LineCollection(attacks, colors=NOTE_COLOUR, linewidths=1.5))


def draw_reference(axes: Axes, reference: scoring.Notes) -> None:
    """Reference notes as outlines at their sounding pitch."""
    boxes = [
        Rectangle((on, pitch - 0.45), off - on, 0.9)
        for (on, off), pitch in zip(reference.intervals, reference.pitch, strict=True)
    ]
    axes.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=REFERENCE_COLOUR, linewidth=1.1))


def draw_bends(axes: Axes, notes: list[Note]) -> None:
    """Pitch over time where a bend was estimated, a level line elsewhere."""
    lines = []
    for note in notes:
        if note.bend is None:
            lines.append([(note.onset, note.pitch), (note.offset, note.pitch)])
        else:
            lines.append(list(zip(note.bend.times, note.pitch + note.bend.semitones, strict=True)))
    axes.add_collection(LineCollection(lines, colors=NOTE_COLOUR, linewidths=1.6))


def pitch_range(notes: list[Note], reference: scoring.Notes | None) -> tuple[int, int]:
    """Lowest and highest pitch to show: what sounds and a margin, at least two octaves."""
    pitches = [float(n.pitch) for n in notes] + ([] if reference is None else reference.pitch.tolist())
    low, high = (min(pitches), max(pitches)) if pitches else (48.0, 72.0)
    missing = max(0, 24 - (high - low)) / 2
    return int(max(21, low - missing - 3)), int(min(108, high + missing + 8))


def label_axes(axes: Axes, low: int, high: int, title: str) -> None:
    """Note names on C, E and G (or C alone over wide ranges), a title, and limits."""
    classes = (0, 4, 7) if high - low < 48 else (0,)
    ticks = [p for p in range(low, high + 1) if p % 12 in classes]
    axes.set_yticks(ticks, [pitch_name(p) for p in ticks])
    axes.set_ylim(low - 0.5, high + 0.5)
    axes.set_ylabel("pitch")
    axes.set_title(title, loc="left", fontsize=10)


def figure(
    samples: Array,
    rate: int,
    transcription: Transcription,
    reference: scoring.Notes | None,
    start: float,
    end: float,
    title: str,
) -> Figure:
    """The three panels, ``start`` to ``end`` seconds."""
    notes = [n for n in transcription.notes if n.offset > start and n.onset < end]
    if reference is not None:
        keep = (reference.intervals[:, 1] > start) & (reference.intervals[:, 0] < end)
        reference = scoring.Notes(reference.intervals[keep], reference.pitch[keep], reference.sounding[keep])
    low, high = pitch_range(notes, reference)
    width = float(np.clip(INCHES_PER_SECOND * (end - start), MIN_WIDTH, MAX_WIDTH))
    fig, panels = plt.subplots(3, 1, sharex=True, figsize=(width, 12), layout="constrained")

    a, b = int(start * rate), int(end * rate)
    level, frame_rate = spectrogram(samples[a:b], rate, low, high)
    image(panels[0], level, frame_rate, a / rate, low, picture.BINS, cmap="Greys")
    label_axes(panels[0], low, high, "constant-Q spectrogram (70 dB), notes")

    posteriors = transcription.posteriors
    if posteriors is not None:
        first, last = int(start * posteriors.frame_rate), int(np.ceil(end * posteriors.frame_rate)) + 1
        shown = posteriors.slice(first, last)
        draw_posteriors(panels[1], panels[2], shown, first / posteriors.frame_rate)
    label_axes(panels[1], low, high, "note posterior (grey) and onset posterior (red)")
    label_axes(panels[2], low, high, "contour posterior, notes with their pitch bends")
    draw_notes(panels[0], notes)
    draw_bends(panels[2], notes)
    if reference is not None:
        for axes in panels:
            draw_reference(axes, reference)
    for axes in panels:
        axes.grid(axis="y", color="black", alpha=0.12, lw=0.5)
    panels[0].set_xlim(start, end)
    panels[2].set_xlabel("seconds")
    legend = "blue: transcribed" + ("" if reference is None else ", orange: reference")
    fig.suptitle(f"{title}   ({legend}; onset threshold {transcription.settings.onset_threshold:g})", fontsize=11)
    return fig


def draw_posteriors(notes: Axes, contour: Axes, shown: Posteriors, start: float) -> None:
    """Note and onset posteriors on one axes, the contour on another."""
    rate, low = shown.frame_rate, shown.lowest_pitch
    image(notes, shown.note.T, rate, start, low, 1, cmap="Greys", vmin=0, vmax=1.2)
    onset = np.zeros((*shown.onset.T.shape, 4))
    onset[..., :3] = matplotlib.colors.to_rgb(ONSET_COLOUR)
    spread = np.pad(shown.onset.T, ((0, 0), (1, 1)))  # three frames wide: one is hardly visible
    onset[..., 3] = np.clip(np.maximum(np.maximum(spread[:, :-2], spread[:, 1:-1]), spread[:, 2:]), 0, 1)
    image(notes, onset, rate, start, low, 1)
    image(contour, shown.contour.T, rate, start, low, shown.bins_per_semitone, cmap="Greys", vmin=0, vmax=1.2)


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PNG")
    parser.add_argument("--ref", type=Path, metavar="CSV", help="reference notes: onset_s,offset_s,midi_pitch")
    parser.add_argument("--start", type=float, default=0.0, help="seconds (default: %(default)s)")
    parser.add_argument("--end", type=float, help="seconds; 20 s after the start if omitted")
    parser.add_argument("--model", type=Path, help="ONNX file; the shipped one if omitted")
    args = parser.parse_args()

    transcriber = Transcriber(args.model)
    transcription = transcriber.transcribe(args.audio, keep_posteriors=True)
    rate = transcriber.model.sample_rate
    with open_audio(args.audio, target_rate=rate) as stream:
        samples = np.concatenate(list(stream))
    end = min(args.end if args.end is not None else args.start + 20, transcription.duration)
    if not 0 <= args.start < end:
        parser.error(f"nothing to draw between {args.start} s and {end:.2f} s")
    reference = scoring.load_reference(args.ref) if args.ref else None
    fig = figure(samples, rate, transcription, reference, args.start, end, args.audio.name)
    fig.savefig(args.output, dpi=110)


if __name__ == "__main__":
    main()
