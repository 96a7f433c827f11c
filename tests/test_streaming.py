"""Chunks in, notes out: the same notes as of the whole recording, at the time that is promised, in flat memory."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe.errors import AudioError, ModelError, UsageError
from basic_transcribe.model import Model, Window
from basic_transcribe.pipeline import Transcriber
from basic_transcribe.streaming import StreamingTranscriber
from basic_transcribe.types import Float32, Note, Posteriors, TrackerSettings

GUITAR, RATE = soundfile.read(Path(__file__).parent / "data" / "guitar.flac", dtype="float32")
SHORT = GUITAR[: 3 * RATE]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(threads=1)


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(threads=1)


def chunks(audio: Float32, sizes: Sequence[int]) -> Iterator[Float32]:
    """The audio cut at these sizes in turn."""
    start = turn = 0
    while start < len(audio):
        yield audio[start : start + sizes[turn % len(sizes)]]
        start, turn = start + sizes[turn % len(sizes)], turn + 1


def stream(audio: Float32, sizes: Sequence[int], model: Model, rate: float = RATE, **keywords: object) -> list[Note]:
    """All notes, sorted."""
    streaming = StreamingTranscriber(rate, model, **keywords)  # type: ignore[arg-type]
    notes = [note for chunk in chunks(audio, sizes) for note in streaming.push(chunk)] + streaming.flush()
    return sorted(notes, key=lambda n: (n.onset, n.pitch))


def assert_same(notes: Sequence[Note], others: Sequence[Note]) -> None:
    """Equal but for the rounding of a model that is run on blocks of another length: its sums are of 8 bits."""
    assert [n.pitch for n in notes] == [n.pitch for n in others]
    for name, tolerance in (("onset", 1e-3), ("offset", 0.04), ("velocity", 1), ("confidence", 0.01)):
        np.testing.assert_allclose(
            [getattr(n, name) for n in notes], [getattr(n, name) for n in others], rtol=0, atol=tolerance
        )
    for note, other in zip(notes, others, strict=True):
        assert (note.bend is None) == (other.bend is None)
        if note.bend and other.bend:
            shorter = min(len(note.bend.semitones), len(other.bend.semitones))
            difference = note.bend.semitones[:shorter] - other.bend.semitones[:shorter]
            assert np.median(np.abs(difference)) < 0.01


def shared(notes: Sequence[Note], others: Sequence[Note]) -> float:
    """Part of the notes that are among the others: a sum rounded otherwise decides one of them now and then."""
    same = [any(n.pitch == o.pitch and abs(n.onset - o.onset) < 1e-3 for o in others) for n in notes]
    return sum(same) / len(same)


@pytest.fixture(scope="module")
def whole(model: Model) -> list[Note]:
    """Of the short recording in one chunk."""
    return stream(SHORT, [len(SHORT)], model)


# ---------------------------------------------------------------- the same notes


@pytest.mark.parametrize("monophonic", [False, True])
@pytest.mark.parametrize("rate", [RATE, 22050, 44100])
def test_the_notes_are_those_of_the_recording(
    rate: int, monophonic: bool, model: Model, transcriber: Transcriber
) -> None:
    audio = soxr.resample(GUITAR, RATE, rate).astype(np.float32)
    chosen = TrackerSettings(monophonic=monophonic)
    expected = transcriber.transcribe(audio, rate, settings=chosen).notes
    assert len(expected) > 5
    notes = stream(audio, [4096], model, rate, settings=chosen)
    assert min(shared(notes, expected), shared(expected, notes)) >= 0.9


@pytest.mark.parametrize("sizes", [[1], [100], [4096]])
def test_chunks_of_any_size(sizes: list[int], model: Model, whole: list[Note]) -> None:
    assert whole
    assert stream(SHORT, sizes, model) == whole


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(0, 30_000), min_size=1).filter(any))
def test_chunks_of_random_sizes(sizes: list[int], model: Model, whole: list[Note]) -> None:
    assert stream(SHORT, sizes, model) == whole


def test_blocks_of_any_length(model: Model) -> None:
    long = stream(SHORT, [1000], model, block_seconds=20.0)
    assert_same(stream(SHORT, [1000], model, block_seconds=1.0), long)
    for seconds in (0.02, 0.5):
        notes = stream(SHORT, [1000], model, block_seconds=seconds)
        assert min(shared(notes, long), shared(long, notes)) >= 0.9


def test_channels_are_mixed_to_their_mean(model: Model, whole: list[Note]) -> None:
    assert stream(np.stack([1.75 * SHORT, 0.25 * SHORT], axis=1), [4096], model) == whole
    assert stream(SHORT[:, None].astype(np.float64), [4096], model) == whole  # type: ignore[arg-type]


def test_opposite_phase_is_heard_from_the_second_after_on(model: Model, whole: list[Note]) -> None:
    opposite = np.stack([SHORT, -0.9 * SHORT], axis=1)
    streaming = StreamingTranscriber(RATE, model)
    assert streaming.push(opposite[:RATE]) == []
    assert streaming.warnings == ()
    for chunk in chunks(opposite[RATE:], [100]):
        streaming.push(chunk)
    (warning,) = streaming.warnings
    assert warning.startswith("opposite phase: for 2 s, first at 1 s, the channels cancel each other")
    heard = stream(opposite, [100], model)
    expected = [note for note in whole if note.onset > 1.5]
    assert len(expected) > 5
    # The level that others are measured against is another one at first.
    found = [any(n.pitch == h.pitch and abs(n.onset - h.onset) < 0.02 for h in heard) for n in expected]
    assert sum(found) >= 0.9 * len(expected)
    for sizes in ([1000], [7, 30_000]):
        assert stream(opposite, sizes, model) == heard


def test_opposite_phase_that_ends(model: Model) -> None:
    audio = np.concatenate([np.stack([SHORT, -SHORT], axis=1), np.stack([SHORT, SHORT], axis=1)])
    streaming = StreamingTranscriber(RATE, model)
    for chunk in chunks(audio, [1000]):
        streaming.push(chunk)
    # The second to the fourth second; that the fourth is not of opposite phase is known at its end.
    assert streaming.warnings[0].startswith("opposite phase: for 3 s, first at 1 s,")


def test_the_number_of_channels_is_that_of_the_first_chunk(model: Model, whole: list[Note]) -> None:
    streaming = StreamingTranscriber(RATE, model)
    planar = np.stack([SHORT[:441], SHORT[:441]])
    for wrong, words in (
        (planar, r"more channels than samples; give its transpose, chunk\.T"),
        (planar[:, :32], "give its transpose"),
        (planar[:1], "give its transpose"),
        (np.zeros((100, 65)), "65 channels; 1 to 64"),
    ):
        with pytest.raises(UsageError, match=words):
            streaming.push(wrong)
    four = np.stack([SHORT] * 4, axis=1)
    notes = streaming.push(four[:0]) + streaming.push(four[:1000])
    for other in (SHORT[1000:2000], four[1000:2000, :2], np.zeros((100, 70))):
        with pytest.raises(UsageError, match=r"4 channels before; give \(samples, 4\)"):
            streaming.push(other)
    notes += streaming.push(four[1000:1002]) + streaming.push(np.zeros(0)) + streaming.push(four[1002:])
    notes += streaming.flush()  # a chunk of two frames is no transpose now
    assert sorted(notes, key=lambda n: (n.onset, n.pitch)) == whole


@pytest.mark.parametrize("samples", [0, 1, 1000])
def test_hardly_any_sound(samples: int, model: Model) -> None:
    assert stream(np.zeros(samples, np.float32), [max(1, samples)], model) == []


# ---------------------------------------------------------------- in time


@pytest.mark.parametrize(
    ("rate", "block", "monophonic"),
    [(RATE, 0.046, False), (22050, 0.2, False), (48000, 0.02, False), (22050, 0.2, True)],
)
def test_notes_have_begun_within_the_latency(rate: int, block: float, monophonic: bool, model: Model) -> None:
    audio = soxr.resample(GUITAR[: 6 * RATE], RATE, rate).astype(np.float32)
    streaming = StreamingTranscriber(rate, model, settings=TrackerSettings(monophonic=monophonic), block_seconds=block)
    known: dict[tuple[int, float], float] = {}  # by pitch and onset, after how many seconds of sound
    held, kept = set(), set()
    size = rate // 1000
    for number, chunk in enumerate(chunks(audio, [size]), 1):
        finished, sounding = streaming.push(chunk), streaming.sounding
        for n in (*finished, *sounding):
            known.setdefault((n.pitch, n.onset), number * size / rate)
        assert all(n.offset > n.onset for n in sounding)
        assert streaming.seconds <= number * size / rate
        held |= {(n.pitch, n.onset) for n in sounding}
        kept |= {(n.pitch, n.onset) for n in finished}
    delays = [time - onset for (_, onset), time in known.items()]
    assert len(delays) > 5
    assert max(delays) <= streaming.latency + size / rate
    assert max(delays) > 0.8 * streaming.latency  # it does not promise too little
    assert monophonic or len(kept & held) > 0.9 * len(kept)  # a few are over before they are known
    assert all(n.bend is None for n in streaming.sounding)
    assert {(n.pitch, n.onset) for n in streaming.sounding} <= {(n.pitch, n.onset) for n in streaming.flush()}
    assert streaming.sounding == []


def test_what_the_latency_is_made_of(model: Model) -> None:
    latency = StreamingTranscriber(model.sample_rate, model).latency
    assert latency == StreamingTranscriber(model.sample_rate, model).latency
    assert StreamingTranscriber(model.sample_rate, model, block_seconds=1.0).latency == pytest.approx(
        latency + 84 * model.hop / model.sample_rate  # blocks of 88 frames, not 4
    )
    assert latency < StreamingTranscriber(44100, model).latency < latency + 0.1
    later = TrackerSettings(onset_delay=model.defaults["onset_delay"] - 50)
    assert StreamingTranscriber(model.sample_rate, model, settings=later).latency == pytest.approx(latency + 0.05)


# ---------------------------------------------------------------- in flat memory


def held(thing: object) -> tuple[int, int]:
    """How many objects, and bytes of arrays, can be reached from an object, code and models left out."""
    size, found, left = 0, set(), [thing]
    while left:
        other = left.pop()
        if id(other) in found or isinstance(other, (type, Model, ModuleType, FunctionType)):
            continue
        found.add(id(other))
        if isinstance(other, np.ndarray):
            size += other.nbytes if other.base is None else 0
            left.append(other.base)
        left += gc.get_referents(other)
    return len(found), size


@pytest.mark.parametrize("monophonic", [False, True])
def test_memory_does_not_grow(monophonic: bool, model: Model) -> None:
    streaming = StreamingTranscriber(RATE, model, settings=TrackerSettings(monophonic=monophonic), block_seconds=0.1)
    most = []
    for _ in range(5):
        seen = []
        for chunk in chunks(GUITAR, [4096]):
            streaming.push(chunk)
            seen.append(held(streaming))
        most.append(np.max(seen, axis=0))
    assert (most[-1] <= 1.5 * most[1]).all()  # a number kept for each block makes it four times


# ---------------------------------------------------------------- mistakes


def test_bad_samples_are_refused_and_forgotten(model: Model, whole: list[Note]) -> None:
    for channels in (1, 2):
        audio = np.stack([SHORT] * channels, axis=1)
        streaming = StreamingTranscriber(RATE, model)
        notes = streaming.push(audio[:1000])
        for value in (np.nan, np.inf, 2e6):
            bad = audio[:10].copy()
            bad[3, -1] = value
            with pytest.raises(AudioError, match="sample 1003 of the stream"):
                streaming.push(bad if channels > 1 else bad[:, 0])
        notes += streaming.push(audio[1000:]) + streaming.flush()
        assert sorted(notes, key=lambda n: (n.onset, n.pitch)) == whole


@pytest.mark.filterwarnings("error")  # nothing may warn through numpy
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble])
def test_bad_samples_of_any_type_are_refused(kind: type, model: Model, whole: list[Note]) -> None:
    streaming = StreamingTranscriber(RATE, model)
    for value in (np.nan, np.inf, -np.inf, float(np.finfo(kind).max)) if kind is not np.float16 else (np.nan, np.inf):
        with pytest.raises(AudioError, match="sample 1 of the stream"):
            streaming.push(np.array([0, value, 0], kind))
    notes = streaming.push(SHORT) + streaming.flush()
    assert sorted(notes, key=lambda n: (n.onset, n.pitch)) == whole


@pytest.mark.parametrize(
    "samples", [np.zeros(9, np.int64), np.zeros(()), np.zeros((3, 2, 1)), np.zeros((5, 0)), np.zeros(4, complex)]
)
def test_what_is_no_audio_is_refused(samples: Float32, model: Model) -> None:
    with pytest.raises(UsageError, match=r"must be|convert"):
        StreamingTranscriber(RATE, model).push(samples)


@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_chunks_of_integers_are_scaled_as_sound_files_are(kind: type, model: Model) -> None:
    integers = (SHORT * np.iinfo(kind).max).astype(kind)
    expected = Transcriber(threads=1).transcribe(integers, RATE).notes
    streaming = StreamingTranscriber(RATE, model, block_seconds=2.0)
    notes = streaming.push(integers[:7001]) + streaming.push(integers[7001:]) + streaming.flush()
    assert shared(notes, expected) == 1.0


def test_nothing_follows_a_flush(model: Model) -> None:
    streaming = StreamingTranscriber(RATE, model)
    streaming.flush()
    for again in (streaming.flush, lambda: streaming.push(SHORT)):
        with pytest.raises(UsageError, match="make a new"):
            again()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ModelError("m: no memory; use less")])
def test_nothing_follows_a_chunk_that_was_broken_off(error: Any, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    streaming, runs = StreamingTranscriber(RATE, model, block_seconds=0.5), 0

    def run(window: Window) -> Posteriors:
        nonlocal runs
        runs += 1
        if runs == 2:
            raise error
        return Model.run(model, window.audio).slice(0, window.frames)

    monkeypatch.setattr(model, "run_window", run)
    with pytest.raises((KeyboardInterrupt, ModelError)):
        streaming.push(SHORT)
    for again in (streaming.flush, lambda: streaming.push(SHORT)):
        with pytest.raises(UsageError, match="part of its sound is lost; make a new StreamingTranscriber"):
            again()


def test_masked_values_are_refused_and_forgotten(model: Model, whole: list[Note]) -> None:
    streaming = StreamingTranscriber(RATE, model)
    with pytest.raises(UsageError, match=r"chunk has masked values.*; give chunk\.filled\(0\)"):
        streaming.push(np.ma.masked_less(SHORT, 0))
    notes = streaming.push(SHORT) + streaming.flush()
    assert sorted(notes, key=lambda n: (n.onset, n.pitch)) == whole


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, *(partial(pickle.dumps, protocol=p) for p in range(6))])
def test_a_stream_cannot_be_copied(copied: Callable[[object], object], model: Model) -> None:
    with pytest.raises(TypeError, match="StreamingTranscriber cannot be copied"):
        copied(StreamingTranscriber(RATE, model))


def test_what_is_like_an_array_is_taken(model: Model, whole: list[Note]) -> None:
    for audio in (SHORT.tolist(), np.ma.masked_array(SHORT), SHORT.view(np.matrix).T):
        streaming = StreamingTranscriber(RATE, model)
        notes = streaming.push(audio) + streaming.flush()  # type: ignore[arg-type]
        assert sorted(notes, key=lambda n: (n.onset, n.pitch)) == whole
    with pytest.raises(UsageError, match="convert it"):
        StreamingTranscriber(RATE, model).push(b"samples")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sample_rate": 0}, "sample rate 0 Hz"),
        ({"sample_rate": "44100"}, "sample_rate is '44100'; give a number of Hz"),
        ({"block_seconds": np.nan}, "block_seconds is nan s; it must be positive, and at most 60"),
        ({"block_seconds": 1e9}, "at most 60"),
        ({"block_seconds": -1}, "must be positive"),
        ({"block_seconds": "1"}, "give a number of seconds"),
        ({"model": Transcriber}, r"model is <class .*; give a path, or the \.model of a Transcriber"),
        ({"model": b"m.onnx"}, "model is b'm.onnx'; give a path"),
        ({"settings": {"onset_threshold": 0.4}}, r"settings is .*; give TrackerSettings\(\.\.\.\) or None"),
    ],
)
def test_impossible_arguments(arguments: dict[str, Any], words: str, model: Model) -> None:
    with pytest.raises(UsageError, match=words):
        StreamingTranscriber(**({"sample_rate": RATE, "model": model} | arguments))


def test_numbers_that_become_0_are_no_errors(model: Model) -> None:
    with np.errstate(all="raise"):
        assert stream(SHORT.astype(np.float64) * 1e-300, [4096], model) == []  # type: ignore[arg-type]


def test_numbers_of_any_kind(model: Model) -> None:
    assert StreamingTranscriber(Fraction(RATE), model, block_seconds=Decimal("0.5")).latency == (  # type: ignore[arg-type]
        StreamingTranscriber(RATE, model, block_seconds=0.5).latency
    )


def test_the_model_may_be_a_file(model: Model) -> None:
    assert StreamingTranscriber(RATE, model.path).model.sha256 == model.sha256
    assert StreamingTranscriber(RATE).model.sha256 == model.sha256
    assert StreamingTranscriber(RATE, model).settings == TrackerSettings().resolved(model.defaults)
