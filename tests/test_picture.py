"""What is seen: notes, bends, sound and beats, found in the pixels where the transform of the axes puts them."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from basic_transcribe import picture
from basic_transcribe.errors import UsageError
from basic_transcribe.musicxml import notes_to_musicxml
from basic_transcribe.types import Beats, Note, PitchBend, Posteriors

matplotlib = pytest.importorskip("matplotlib", reason="needs the extra plot")

ROOT = Path(__file__).resolve().parent.parent
RATE = 22_050
SVG = "{http://www.w3.org/2000/svg}"


def pixels(data: bytes) -> NDArray[np.floating]:
    """A PNG, shape (rows, columns, 3), the bottom row first, values 0 to 1."""
    from matplotlib.image import imread

    return np.asarray(imread(BytesIO(data), format="png"))[::-1, :, :3]


def at(image: NDArray[np.floating], axes: Any, time: float, pitch: float) -> NDArray[np.floating]:
    """Colour at a time and pitch of a row."""
    x, y = axes.transData.transform((time, pitch)) * picture.DPI / axes.figure.dpi
    return image[int(y), int(x)]


def darkest(image: NDArray[np.floating], axes: Any, time: float, pitch: float) -> float:
    """The darkest of the pixels around: lines are thin."""
    x, y = (round(v) for v in axes.transData.transform((time, pitch)) * picture.DPI / axes.figure.dpi)
    return float(image[y - 2 : y + 2, x - 2 : x + 2].max(axis=2).min())


def tone(pitch: float, onset: float, offset: float, duration: float, rate: float = RATE) -> NDArray[np.float32]:
    """A sine of amplitude 0.5."""
    times = np.arange(round(duration * rate)) / rate
    inside = (times >= onset) & (times < offset)
    return (0.5 * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * times) * inside).astype(np.float32)


def posteriors_of(pitch: int, onset: float, offset: float, duration: float) -> Posteriors:
    """Certain of one note."""
    rate = RATE / 256
    frames = int(duration * rate)
    arrays = {name: np.zeros((frames, 88), np.float32) for name in Posteriors.ARRAYS}
    arrays["contour"] = np.zeros((frames, 264), np.float32)
    arrays["note"][int(onset * rate) : int(offset * rate), pitch - 21] = 1
    return Posteriors(**arrays, frame_rate=rate, lowest_pitch=21)


@pytest.mark.parametrize(("onset", "row", "pitch"), [(1.0, 0, 21), (12.0, 1, 60), (29.0, 2, 108)])
def test_a_note_is_where_it_sounds(onset: float, row: int, pitch: int) -> None:
    """In three rows of eleven seconds, in the colour that the colour bar gives its velocity."""
    notes = [Note(onset, onset + 1, pitch, 100, 0.9), Note(5, 5.5, pitch + 7, 40, 0.9)]
    drawn = picture.figure(notes, 32)
    *rows, bar = drawn.axes
    assert len(rows) == 3
    assert bar.get_xlim() == (40, 100)
    axes = rows[row]
    image = pixels(picture.draw(notes, 32))
    loudest = matplotlib.colormaps["plasma"](0.88)[:3]
    for time in (onset + 0.05, onset + 0.95):
        np.testing.assert_allclose(at(image, axes, time, pitch + 0.15), loudest, atol=0.02)
    for seconds, semitones in ((-0.1, 0), (1.1, 0), (0.5, 1), (0.5, -1)):
        assert at(image, axes, onset + seconds, pitch + semitones + 0.15).min() > 0.6


def test_a_note_across_rows_is_in_both() -> None:
    notes = [Note(9, 13, 60, 80, 0.9)]
    image = pixels(picture.draw(notes, 32))
    first, second, *_ = picture.figure(notes, 32).axes
    assert first.get_xlim() == (0, 11)
    assert at(image, first, 10.5, 60.2).min() < 0.7
    assert at(image, second, 11.5, 60.2).min() < 0.7
    assert at(image, second, 13.5, 60.2).min() == 1


@pytest.mark.parametrize("semitones", [-4.0, 0.6, 3.0])
def test_bends_are_at_their_sounding_pitch(semitones: float) -> None:
    bent = Note(2, 4, 60, 100, 0.9, PitchBend(2, 0.01, np.full(200, semitones, np.float32)))
    notes = [bent, Note(0, 1, 52, 80, 0.9), Note(0, 1, 68, 80, 0.9)]
    image, axes = pixels(picture.draw(notes, 6)), picture.figure(notes, 6).axes[0]
    assert darkest(image, axes, 3, 60 + semitones) < 0.35
    assert darkest(image, axes, 5, 60 + semitones) == 1


def test_posteriors_are_green_and_faint_beside_a_spectrogram_in_grey() -> None:
    sound = tone(64, 1, 2, 4)
    posteriors = posteriors_of(67, 1, 2, 4)
    image = pixels(picture.draw([], 4, audio=sound, sample_rate=RATE, posteriors=posteriors))
    axes = picture.figure([], 4).axes[0]
    red, green, blue = at(image, axes, 1.5, 67)
    assert green > blue > red
    assert at(image, axes, 2.5, 67).min() > 0.95
    grey = at(image, axes, 1.5, 64)
    assert np.ptp(grey) < 0.02
    assert grey.max() < 0.6
    assert at(image, axes, 2.5, 64).min() > 0.95


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("pitch", [21, 33, 60, 81, 100])
def test_spectrogram_of_a_tone(pitch: int, rate: int) -> None:
    """At its pitch, with half its amplitude, from its onset to its offset; silence beyond the recording."""
    sound = tone(pitch, 1.5, 2.5, 3, rate)
    levels = picture.spectrogram(sound, rate, 21, 108, 1.0, 4.0, 300)
    assert levels.shape == (264, 300)
    assert levels[:, 100].argmax() == (pitch - 21) * 3 + 1
    assert levels[:, 100].max() == pytest.approx(0.25, rel=0.02)
    found = np.flatnonzero(levels[(pitch - 21) * 3 + 1] > 0.125)
    assert (found[0] / 100, (found[-1] + 1) / 100) == pytest.approx((0.5, 1.5), abs=0.021)
    assert levels[:, 220:].max() < 1e-3


def test_spectrogram_rows_join() -> None:
    """The same, but for the margins' rounding, wherever a row begins."""
    sound = tone(57, 0, 6, 6) + tone(64, 2.2, 4.4, 6)
    whole = picture.spectrogram(sound, RATE, 48, 72, 0, 6, 600)
    halves = [picture.spectrogram(sound, RATE, 48, 72, start, start + 3, 300) for start in (0, 3)]
    np.testing.assert_allclose(np.concatenate(halves, axis=1), whole, atol=0.02)


@pytest.mark.parametrize(
    ("first", "downbeat", "per_bar"),
    [
        (0, 0, 4),
        (9, 0, 4),
        (8.97, 0, 4),
        (11, 0, 4),
        (10.9, 1, 4),
        (6, 0, 4),
        (5, 0, 4),
        (0, 2, 3),
        (0.5, 1, 3),
        (3.1, 1, 3),
    ],
)
def test_bars_have_the_numbers_of_the_score(first: float, downbeat: int, per_bar: int) -> None:
    beats = Beats(tuple(0.5 * np.arange(40)), per_bar, downbeat)
    later = downbeat + per_bar * 6
    notes = [Note(place / 2, place / 2 + 0.4, pitch, 80, 0.9) for place, pitch in ((first, 60), (later, 62))]
    root = ElementTree.fromstring(notes_to_musicxml(notes, beats=beats))
    (number,) = (m.get("number") for m in root.iter("measure") if "D" in [step.text for step in m.iter("step")])
    axes = picture.figure(notes, 15, beats=beats).axes[0]
    assert {text.xy[0]: text.get_text() for text in axes.texts}[later / 2] == number
    assert min(int(text.get_text()) for text in axes.texts) == 1


def test_beats_and_bars() -> None:
    beats = Beats(tuple(np.arange(0.5, 6, 0.5)), per_bar=4, downbeat=1)
    image = pixels(picture.draw([], 6, beats=beats))
    axes = picture.figure([], 6, beats=beats).axes[0]
    assert {text.get_text(): text.xy[0] for text in axes.texts} == {"1": 1.0, "2": 3.0, "3": 5.0}
    lightness = [darkest(image, axes, time, 61.5) for time in (3.0, 1.5, 0.75)]
    assert lightness[0] < lightness[1] - 0.1 < lightness[2] - 0.2
    assert lightness[2] == 1


@pytest.mark.parametrize("duration", [0.0, 0.01, 1.0, 15.0, 15.01])
def test_nothing_to_draw(duration: float) -> None:
    image = pixels(picture.draw([], duration, audio=np.zeros(0, np.float32), sample_rate=RATE))
    assert image.shape[1] == round(picture.WIDTH * picture.DPI)
    *rows, _ = picture.figure([], duration).axes
    assert rows[-1].get_xlim()[1] >= duration
    assert [label.get_text() for label in rows[0].get_yticklabels()] == ["C3", "C4", "C5"]


def test_very_long_recordings_are_cut_and_the_picture_says_so() -> None:
    notes = [Note(i, i + 0.5, 21 + i % 88, 1 + i % 127, 0.9) for i in range(3600)]
    drawn = picture.figure(notes, 3600, title="symphony")
    texts = [text.get_text() for text in drawn.texts]
    assert texts == ["symphony", "300 notes, the first 5 of 60.0 minutes"]
    assert len(drawn.axes) == 21
    assert drawn.axes[-2].get_xlim() == (285, 300)
    assert max(drawn.get_size_inches()) * picture.DPI < 2**14


def test_what_is_needed_of_a_long_recording() -> None:
    """Not one more sample or frame than is said: readers need not keep the rest."""
    rate, duration = 2000, picture.LONGEST + 5
    posteriors = posteriors_of(60, 290, 303, duration)
    whole = {"audio": tone(60, 299, 303, duration, rate), "posteriors": posteriors}
    enough = {
        "audio": whole["audio"][: round(picture.NEEDED * rate)],
        "posteriors": posteriors.slice(0, round(picture.NEEDED * posteriors.frame_rate)),
    }
    less = {"audio": enough["audio"][: -rate // 2], "posteriors": enough["posteriors"].slice(0, -200)}
    drawn = []
    for shown in (whole, enough, less):
        *_, last, _ = picture.figure([], duration, sample_rate=rate, **shown).axes
        drawn.append([np.asarray(image.get_array()) for image in last.images])
    for image, same, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(image, same)
        assert not np.array_equal(image, other)


@pytest.mark.parametrize("format", ["png", "svg"])
def test_the_same_bytes_whatever_the_users_style(format: str) -> None:
    arguments: dict[str, Any] = {
        "audio": tone(64, 1, 2, 4),
        "sample_rate": RATE,
        "posteriors": posteriors_of(64, 1, 2, 4),
        "beats": Beats((0.0, 1.0, 2.0)),
        "title": "a $x_1$ <b> & -- \u97f3 \n\udcff",
        "format": format,
    }
    notes = [Note(1, 2, 64, 80, 0.9, PitchBend(1, 0.1, np.linspace(0, 1, 10, dtype=np.float32)))]
    data = picture.draw(notes, 4, **arguments)
    with matplotlib.rc_context({"axes.facecolor": "black", "lines.linewidth": 9, "savefig.bbox": "tight"}):
        before = dict(matplotlib.rcParams)
        assert picture.draw(notes, 4, **arguments) == data
        assert dict(matplotlib.rcParams) == before


def test_svg_has_notes_as_vectors_and_the_spectrogram_as_one_image() -> None:
    notes = [Note(1, 2, 64, 40, 0.9), Note(1, 2, 60, 100, 0.9)]
    svg = picture.draw(notes, 4, audio=tone(64, 1, 2, 4), sample_rate=RATE, format="svg")
    tree = ElementTree.fromstring(svg)
    axes = next(group for group in tree.iter(f"{SVG}g") if group.get("id") == "axes_1")
    assert len(list(axes.iter(f"{SVG}image"))) == 1
    fills = "".join(path.get("style", "") for path in axes.iter(f"{SVG}path")) + "".join(
        use.get("style", "") for use in axes.iter(f"{SVG}use")
    )
    for position in (0.0, 0.88):
        assert matplotlib.colors.to_hex(matplotlib.colormaps["plasma"](position)) in fills
    assert b"<dc:date>" not in svg


def test_wrong_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r'pip install "basic-transcribe\[plot\]"'):
        picture.draw([], 1)


def test_drawing_leaves_pyplot_alone() -> None:
    code = (
        "import sys; from basic_transcribe.picture import draw; draw([], 1); print('matplotlib.pyplot' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
