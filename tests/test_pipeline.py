"""From recordings to notes: the whole path, with the shipped model."""

from __future__ import annotations

import csv
import io
import pickle
from collections.abc import Sequence
from copy import copy as shallow_copy_of
from copy import deepcopy as copy_of
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import soundfile
import soxr

from basic_transcribe.errors import UsageError
from basic_transcribe.model import Model
from basic_transcribe.pipeline import Transcriber, Transcription, transcribe
from basic_transcribe.shaping import ShapeSettings
from basic_transcribe.tracking import track_notes
from basic_transcribe.types import Beats, BeatSettings, Float32, Marker, Note, TrackerSettings

RATE = 22050


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(threads=1)


@pytest.fixture(scope="module")
def result(transcriber: Transcriber, guitar: Path) -> Transcription:
    return transcriber.transcribe(guitar, keep_posteriors=True)


@pytest.fixture(scope="module")
def sample(guitar: Path) -> dict[str, Float32]:
    """Single recorded notes by name, RATE Hz."""
    return {name: read(guitar.parent / f"{name}.flac")[0] for name in ("piano_c4", "guitar_e4")}


SAMPLES = {"piano_c4": 60, "guitar_e4": 64}


def read(path: Path) -> tuple[Float32, int]:
    audio, rate = soundfile.read(str(path), dtype="float32")
    return audio, rate


def matches(estimated: Sequence[Note], reference: Sequence[tuple[float, int]], tolerance: float = 0.05) -> int:
    """Notes paired one to one, greedily by onset; pitches equal, onsets within ``tolerance``."""
    free = sorted(((n.onset, n.pitch) for n in estimated), key=lambda k: k[0])
    count = 0
    for onset, pitch in sorted(reference):
        for k in free:
            if k[1] == pitch and abs(k[0] - onset) <= tolerance:
                free.remove(k)
                count += 1
                break
    return count


def f_measure(estimated: Sequence[Note], reference: Sequence[tuple[float, int]]) -> float:
    return 2 * matches(estimated, reference) / max(1, len(estimated) + len(reference))


def agreement(a: Transcription, b: Transcription) -> float:
    return f_measure(a.notes, [(n.onset, n.pitch) for n in b.notes])


# ---------------------------------------------------------------- sources


def test_the_result_is_well_formed(result: Transcription, transcriber: Transcriber) -> None:
    assert result.duration == pytest.approx(8.0, abs=0.01)
    assert result.model == transcriber.model.name
    assert list(result.notes) == sorted(result.notes, key=lambda n: (n.onset, n.pitch))
    assert None not in (result.settings.onset_threshold, result.settings.frame_threshold)
    assert result.posteriors is not None
    assert len(result.posteriors) == -(-round(result.duration * RATE) // 256)
    assert all(0 <= n.onset < n.offset <= result.duration for n in result.notes)
    midi = result.to_midi()
    assert sum(len(i.notes) for i in midi.instruments) == len(result.notes)


def test_without_bends_the_piano_roll_of_pretty_midi_has_a_row_for_each_note(
    transcriber: Transcriber, result: Transcription
) -> None:
    def rows(transcription: Transcription) -> set[int]:
        return set(np.flatnonzero(transcription.to_midi().get_piano_roll(100).any(axis=1)).tolist())

    straight = transcriber.track(result.posteriors, TrackerSettings(pitch_bends=False))  # type: ignore[arg-type]
    assert rows(straight) == {note.pitch for note in result.notes} < rows(result)


def test_notes_of_the_guitar(result: Transcription, guitar: Path) -> None:
    with (guitar.parent / "guitar.notes.csv").open(newline="") as file:
        reference = [(float(row["onset_s"]), round(float(row["midi_pitch"]))) for row in csv.DictReader(file)]
    assert f_measure(result.notes, reference) >= 0.6


def test_every_kind_of_source_agrees(result: Transcription, transcriber: Transcriber, guitar: Path) -> None:
    audio, rate = read(guitar)
    assert transcriber.transcribe(io.BytesIO(guitar.read_bytes())).notes == result.notes
    assert transcriber.transcribe(str(guitar)).notes == result.notes
    for array in (audio, audio.astype(np.float64), np.stack([audio, audio], axis=1)):
        other = transcriber.transcribe(array, rate)
        assert other.posteriors is None
        assert other.duration == pytest.approx(result.duration)
        assert agreement(other, result) > 0.97


def test_one_channel_of_two_is_the_same_but_quieter(
    result: Transcription, transcriber: Transcriber, guitar: Path
) -> None:
    audio, rate = read(guitar)
    other = transcriber.transcribe(np.stack([audio, np.zeros_like(audio)], axis=1), rate)
    assert agreement(other, result) > 0.9


@pytest.mark.parametrize("other_rate", [22050, 44100])
def test_other_rates_agree(result: Transcription, transcriber: Transcriber, guitar: Path, other_rate: int) -> None:
    audio, rate = read(guitar)
    other = transcriber.transcribe(soxr.resample(audio, rate, other_rate), other_rate)
    assert agreement(other, result) > 0.9


def test_the_function_does_what_the_class_does(sample: dict[str, Float32]) -> None:
    audio = sample["piano_c4"]
    assert transcribe(audio, RATE).notes == Transcriber().transcribe(audio, RATE).notes


@pytest.mark.parametrize("samples", [1, 100, 300])
def test_the_shortest_recordings(transcriber: Transcriber, samples: int) -> None:
    short = transcriber.transcribe(np.full(samples, 0.1, np.float32), RATE)
    assert short.duration == pytest.approx(samples / RATE)
    assert all(n.offset <= short.duration for n in short.notes)


def test_progress_rises_to_the_end(transcriber: Transcriber, sample: dict[str, Float32]) -> None:
    seen: list[tuple[float, float | None]] = []
    done = transcriber.transcribe(sample["piano_c4"], RATE, progress=lambda at, of: seen.append((at, of)))
    at = [a for a, _ in seen]
    assert seen
    assert at == sorted(at)
    assert at[-1] <= done.duration


# ---------------------------------------------------------------- posteriors kept


def test_kept_posteriors_give_the_notes_again(
    result: Transcription, transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise AssertionError("the model was run again")

    monkeypatch.setattr(Model, "run", run)
    assert result.posteriors is not None
    assert tuple(track_notes(result.posteriors, result.settings, result.duration)) == result.notes
    again = transcriber.track(result.posteriors, TrackerSettings(monophonic=True))
    assert again.line
    assert again.notes == track_notes(result.posteriors, again.settings, again.duration)
    defaults = transcriber.model.defaults
    strict = TrackerSettings(onset_threshold=0.9, frame_threshold=0.5, minimum_note_length=200).resolved(defaults)
    loose = TrackerSettings(onset_threshold=0.1).resolved(defaults)
    few, many = (len(track_notes(result.posteriors, s, result.duration)) for s in (strict, loose))
    assert few < len(result.notes) < many


def hum(pitches: Sequence[float], seconds: float = 0.6) -> Float32:
    """A voice, of a kind: harmonics, vibrato, glides from note to note."""
    t = np.arange(int(RATE * seconds * len(pitches))) / RATE
    pitch = np.repeat(pitches, int(RATE * seconds)) + 0.2 * np.sin(2 * np.pi * 5.5 * t)
    pitch = np.convolve(np.pad(pitch, 441, mode="edge"), np.ones(883) / 883, "valid")
    phase = 2 * np.pi * np.cumsum(440 * 2 ** ((pitch - 69) / 12)) / RATE
    envelope = np.minimum(1, np.minimum((t % seconds) / 0.05, (seconds - t % seconds) / 0.08))
    return np.asarray(0.1 * envelope * sum(np.sin(k * phase) / k for k in range(1, 9)), np.float32)


@pytest.mark.parametrize(("astray", "tuning", "line"), [(0.0, 440, False), (0.35, 440, True), (0.4, None, False)])
def test_a_voice_alone_is_followed_as_a_line(
    astray: float, tuning: float | None, line: bool, transcriber: Transcriber
) -> None:
    melody = [57, 59, 60, 62, 64, 62, 60, 59, 57, 55] * 2
    audio = hum([pitch + astray for pitch in melody])
    found = transcriber.transcribe(audio, RATE, settings=TrackerSettings(tuning=tuning))
    told = transcriber.transcribe(audio, RATE, settings=TrackerSettings(tuning=tuning, monophonic=line))
    assert [n.pitch for n in found.notes] == melody
    assert found.notes == told.notes
    assert found.line is told.line is line


@pytest.mark.parametrize("lowest", [36, 43, 60])
@pytest.mark.parametrize("shape", ["sine", "square"])
def test_waves_of_synthesisers_are_one_note_each(shape: str, lowest: int, transcriber: Transcriber) -> None:
    """Sub-basses, which have no overtones, and squares, whose third partial is the loudest that an octave has not."""
    line = [lowest + step for step in (0, 3, 5, 7, 0)]
    t, partials = np.arange(int(0.7 * RATE)) / RATE, range(1, 40, 2) if shape == "square" else (1,)
    tones = [np.zeros(RATE // 4)]
    for pitch in line:
        f = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(np.sin(2 * np.pi * f * h * t) / h for h in partials if f * h < RATE / 2.2)
        tones += [0.3 * tone * np.minimum(1, np.minimum(t / 0.005, (0.7 - t) / 0.01)), np.zeros(RATE // 10)]
    found = transcriber.transcribe(np.concatenate(tones).astype(np.float32), RATE)
    assert [n.pitch for n in found.notes] == line
    assert [n.onset for n in found.notes] == pytest.approx([0.25 + 0.8 * i for i in range(5)], abs=0.05)


def test_settings_reach_the_tracker(transcriber: Transcriber, result: Transcription, guitar: Path) -> None:
    settings = TrackerSettings(maximum_frequency=262, pitch_bends=False)
    low = transcriber.transcribe(guitar, settings=settings)
    expected = [(n.onset, n.pitch, n.velocity) for n in result.notes if n.pitch <= 60]
    assert [(n.onset, n.pitch, n.velocity) for n in low.notes] == expected
    assert all(n.bend is None for n in low.notes)


def test_the_grid_that_notes_are_moved_to_is_that_of_the_midi_file(
    transcriber: Transcriber, result: Transcription, guitar: Path
) -> None:
    click = Beats(tuple(0.6 * i for i in range(15)))
    for found in (result, transcriber.transcribe(guitar, beats=BeatSettings())):
        assert found.beats != click
        tidy = found.shaped(ShapeSettings(quantize=Fraction(1, 16)), beats=click)
        assert tidy.beats == click
        midi = mido.MidiFile(file=io.BytesIO(tidy.to_midi_bytes()))
        sixteenth, at, off, notes = midi.ticks_per_beat // 4, 0, 0, 0
        for message in mido.merge_tracks(midi.tracks):
            at += message.time
            if message.type == "note_on" and message.velocity:
                notes += 1
                off += min(at % sixteenth, -at % sixteenth) > 2
        assert notes > 40
        assert off == 0
    again = found.shaped(ShapeSettings(quantize=Fraction(1, 8)))
    assert again.beats is found.beats


def test_it_is_said_that_notes_became_one(result: Transcription) -> None:
    click = Beats(tuple(0.6 * i for i in range(15)))
    coarse = result.shaped(ShapeSettings(quantize=Fraction(1, 1)), click)
    lost = len(result.notes) - len(coarse.notes)
    assert lost > 5
    assert coarse.warnings[:-1] == result.warnings
    assert coarse.warnings[-1].startswith(f"{lost} of {len(result.notes)} notes came to the same place of the grid")
    fine = result.shaped(ShapeSettings(quantize=Fraction(1, 64)), click)
    assert (len(fine.notes), fine.warnings) == (len(result.notes), result.warnings)


def test_it_is_said_that_a_grid_made_chords_of_a_melody(result: Transcription) -> None:
    click = Beats(tuple(0.5 * i for i in range(15)))
    melody = replace(result, notes=tuple(Note(i / 4, i / 4 + 0.2, 60 + i, 80, 0.9) for i in range(20)))
    said = "10 of 20 notes came to the same place of the grid as others played before them; give a finer grid"
    assert melody.shaped(ShapeSettings(quantize=Fraction(1, 4)), click).warnings[-1].startswith(said)
    assert melody.shaped(ShapeSettings(quantize=Fraction(1, 8)), click).warnings == result.warnings


def test_a_bar_that_was_asked_for_is_missed_where_there_is_no_beat(transcriber: Transcriber) -> None:
    found = transcriber.transcribe(np.zeros(4 * RATE, np.float32), RATE, beats=BeatSettings(first_bar=1.25))
    assert found.beats is None
    assert found.warnings[-2].startswith("no beat was found")
    assert found.warnings[-1].startswith("no bar begins at 1.25 s")
    other = transcriber.transcribe(np.zeros(4 * RATE, np.float32), RATE, beats=BeatSettings())
    assert other.warnings == found.warnings[:-2]  # nor are there notes that could miss it
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE)
    alone = transcriber.transcribe(tone.astype(np.float32), RATE, beats=BeatSettings())
    assert alone.notes
    assert alone.warnings == found.warnings[-2:-1]


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda t, r: t.transcribe("a.wav", settings={}), r"settings is \{\}; give TrackerSettings\(\.\.\.\) or None"),
        (lambda t, r: t.transcribe("a.wav", part=(0, 1)), r"part is \(0, 1\); give Part\("),
        (lambda t, r: t.transcribe("a.wav", beats=True), r"beats is True; give BeatSettings\("),
        (lambda t, r: t.track(r.posteriors, beats=(4, 4)), "give BeatSettings"),
        (lambda t, r: t.track(r), "posteriors is .*; give Posteriors"),
        (lambda t, r: t.track(r.posteriors, ShapeSettings()), "settings is .*; give TrackerSettings"),
        (lambda t, r: r.to_midi("out.mid"), "settings is 'out.mid'; give MidiSettings"),
        (lambda t, r: r.shaped({"quantize": 1}), r"settings is \{'quantize': 1\}; give ShapeSettings\(\.\.\.\)$"),
        (lambda t, r: r.shaped(ShapeSettings(), [0, 1, 2]), "beats is .*; give Beats"),
        (lambda t, r: t.transcribe("a.wav", progress=5), "progress is 5; give a function of two arguments, or None"),
        (lambda t, r: Transcriber(5), "model is 5; give a path"),
        (lambda t, r: Transcriber(threads=-1), "threads is -1; at least one must work"),
        (lambda t, r: Transcriber(threads=2.5), "threads is 2.5; give a whole number"),
    ],
)
def test_arguments_of_another_kind(use: Any, words: str, transcriber: Transcriber, result: Transcription) -> None:
    with pytest.raises(UsageError, match=words):
        use(transcriber, result)


def test_numbers_that_become_0_are_no_errors(transcriber: Transcriber, result: Transcription, guitar: Path) -> None:
    with np.errstate(all="raise"):
        found = transcriber.transcribe(guitar, beats=BeatSettings())
        assert found.posteriors is None
        assert found.notes == result.notes
        assert result.posteriors is not None
        assert transcriber.track(result.posteriors, beats=BeatSettings()).beats is not None


def test_results_of_one_recording_are_equal(transcriber: Transcriber, result: Transcription, guitar: Path) -> None:
    assert transcriber.transcribe(guitar, keep_posteriors=True) == result
    assert transcriber.transcribe(guitar) != result
    for unhashable in (result, result.shaped(ShapeSettings())):
        with pytest.raises(TypeError, match="unhashable type: 'Transcription'"):
            hash(unhashable)


def test_markers_are_those_of_the_notes_there_are(result: Transcription) -> None:
    doubt, note = ShapeSettings(mark_below=0.9), Marker(1.0, "my own")
    once = result.shaped(doubt)
    assert len(once.markers) > 5
    assert once.shaped(doubt).markers == once.markers
    assert replace(once, markers=(note, *once.markers)).shaped(ShapeSettings()).markers == tuple(
        sorted((note, *once.markers), key=lambda m: m.time)
    )
    fewer = once.shaped(ShapeSettings(scale="D dorian", scale_mode="drop"))
    assert 0 < len(fewer.notes) < len(result.notes)
    assert fewer.markers == fewer.shaped(doubt).markers != once.markers
    moved = once.shaped(ShapeSettings(quantize=Fraction(1, 4)), Beats((0.05, 0.6, 1.15)))
    assert {marker.time for marker in moved.markers} <= {note.onset for note in moved.notes}
    off = once.shaped(ShapeSettings(scale="D dorian", scale_mode="mark"))
    assert set(once.markers) < set(off.markers)
    assert {m.text[0] for m in off.shaped(ShapeSettings(scale="D dorian")).markers} <= {"?"}


def test_short_descriptions(transcriber: Transcriber, result: Transcription) -> None:
    name = transcriber.model.name
    assert repr(result.shaped(ShapeSettings())) == f"<Transcription of 8.00 s: {len(result.notes)} notes by {name}>"
    assert repr(transcriber) == f"<Transcriber: {name}, 1 threads>"


def test_a_transcriber_can_be_sent_to_another_process(transcriber: Transcriber, sample: dict[str, Float32]) -> None:
    audio = sample["piano_c4"]
    for copy in (pickle.loads(pickle.dumps(transcriber)), copy_of(transcriber)):
        assert copy.model.threads == 1
        assert copy.transcribe(audio, RATE).notes == transcriber.transcribe(audio, RATE).notes


class Named(Transcriber):
    def __init__(self, name: str) -> None:
        super().__init__(threads=1)
        self.name = name


def test_a_copy_is_of_the_same_class() -> None:
    named = Named("a")
    for copy in (shallow_copy_of(named), copy_of(named), *(pickle.loads(pickle.dumps(named, p)) for p in range(6))):
        assert type(copy) is Named
        assert copy.name == "a"
        assert copy.model.threads == 1


# ---------------------------------------------------------------- velocity, held notes, repeated notes

LEVELS = [-30, -24, -18, -12, -6]  # dB


def first_of(notes: Sequence[Note], pitch: int, onset: float) -> Note:
    near = [n for n in notes if n.pitch == pitch and abs(n.onset - onset) < 0.1]
    assert near, f"no note of pitch {pitch} at {onset:.2f} s among {[(round(n.onset, 2), n.pitch) for n in notes]}"
    return near[0]


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("order", [LEVELS, LEVELS[::-1]], ids=["rising", "falling"])
def test_velocity_follows_loudness_within_a_recording(
    transcriber: Transcriber, sample: dict[str, Float32], name: str, order: list[int]
) -> None:
    gap = np.zeros(RATE // 2, np.float32)
    step = (len(sample[name]) + len(gap)) / RATE
    x = np.concatenate([gap, *(part for db in order for part in (sample[name] * np.float32(10 ** (db / 20)), gap))])
    notes = transcriber.transcribe(x, RATE).notes
    found = {db: first_of(notes, SAMPLES[name], 0.5 + i * step).velocity for i, db in enumerate(order)}
    velocities = [found[db] for db in LEVELS]
    assert all(a <= b for a, b in pairwise(velocities)), velocities
    assert len(set(velocities)) >= len(LEVELS) - 1, velocities


@pytest.mark.parametrize("name", SAMPLES)
def test_velocity_follows_loudness_across_recordings(
    transcriber: Transcriber, sample: dict[str, Float32], name: str
) -> None:
    velocities = []
    for db in LEVELS:
        x = np.concatenate([np.zeros(RATE // 2, np.float32), sample[name] * np.float32(10 ** (db / 20))])
        velocities.append(first_of(transcriber.transcribe(x, RATE).notes, SAMPLES[name], 0.5).velocity)
    assert all(a < b for a, b in pairwise(velocities)), velocities


@pytest.mark.parametrize("tuning", [None, 440.0])
def test_a_faint_recording_has_the_notes_of_a_loud_one(
    tuning: float | None, transcriber: Transcriber, result: Transcription, guitar: Path
) -> None:
    settings = TrackerSettings(tuning=tuning)
    audio, rate = read(guitar)
    for decibels in (-40, -60):
        faint = transcriber.transcribe(audio * np.float32(10 ** (decibels / 20)), rate, settings=settings)
        assert agreement(faint, result) > 0.95
        loud, soft = (np.median([note.velocity for note in found.notes]) for found in (result, faint))
        assert abs(soft - max(1, loud + 2 * decibels)) < 2


@pytest.mark.parametrize("pitch", [45, 57, 69, 76])
def test_a_held_note_is_one_note(transcriber: Transcriber, pitch: int) -> None:
    t = np.arange(20 * RATE) / RATE
    f = 440 * 2 ** ((pitch - 69) / 12)
    tone = sum(0.6**h * np.sin(2 * np.pi * f * h * t + h) for h in range(1, 9))
    x = 0.2 * tone * np.clip(t / 0.03, 0, 1) * np.clip((20 - t) / 0.03, 0, 1)
    x = np.concatenate([np.zeros(RATE), x, np.zeros(RATE // 2)]).astype(np.float32)
    line = [n for n in transcriber.transcribe(x, RATE).notes if n.pitch == pitch]
    assert len(line) == 1, [(round(n.onset, 2), round(n.offset, 2)) for n in line]
    assert line[0].onset == pytest.approx(1.0, abs=0.1)
    assert line[0].offset == pytest.approx(21.0, abs=0.3)


@pytest.mark.parametrize("name", SAMPLES)
def test_sixteenths_at_120_are_all_found(transcriber: Transcriber, sample: dict[str, Float32], name: str) -> None:
    step, count = 0.125, 64
    rng = np.random.default_rng(0)
    t = np.arange(len(sample[name])) / RATE
    damped = sample[name] * np.exp(-np.maximum(t - step, 0) / 0.03)  # the next stroke stops the string
    x = np.zeros(10 * RATE, np.float32)
    onsets = [0.5 + step * i for i in range(count)]
    for onset in onsets:
        start = round(onset * RATE)
        x[start : start + len(damped)] += (damped * rng.uniform(0.7, 1)).astype(np.float32)[: len(x) - start]
    notes = transcriber.transcribe(x, RATE).notes
    line = [n for n in notes if n.pitch == SAMPLES[name]]
    found = matches(line, [(onset, SAMPLES[name]) for onset in onsets])
    assert found >= 0.95 * count, f"{found} of {count}, {len(line)} notes of the pitch"
    assert len(line) - found <= 3
    assert len(notes) - found <= 0.15 * count, sorted(n.pitch for n in notes)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"minimum_frequency": 3000}, "no notes from 3000 Hz,"),
        ({"maximum_frequency": 40}, "no notes to 40 Hz,"),
        ({"minimum_frequency": 2000, "maximum_frequency": 3000}, "no notes from 2000 Hz to 3000 Hz,"),
    ],
)
def test_where_nothing_is_within_the_range_that_is_said(
    limits: dict[str, float], words: str, transcriber: Transcriber, guitar: Path
) -> None:
    settings = TrackerSettings(**limits)
    found = transcriber.transcribe(guitar, settings=settings, keep_posteriors=True)
    assert not found.notes
    assert [warning.startswith(words) for warning in found.warnings] == [True]
    assert transcriber.track(found.posteriors, settings).warnings == found.warnings
    whole = transcriber.transcribe(guitar, settings=TrackerSettings(maximum_frequency=3000))
    assert (bool(whole.notes), whole.warnings) == (True, ())
