"""How a recording is tuned: found from its peaks, given by its user, and what becomes of it on the way to MIDI."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from basic_transcribe import MidiSettings, StreamingTranscriber, TrackerSettings, Transcriber, Transcription
from basic_transcribe.audio import open_audio
from basic_transcribe.midi import MidiResult, to_midi
from basic_transcribe.pipeline import OTHER_TUNING
from basic_transcribe.tuning import LISTENED, MOST_LISTENED, TuningEstimator, cents_of, hertz_of
from basic_transcribe.types import Float32, Note, PitchBend

RATE = 22_050
GUITAR = Path(__file__).parent / "data" / "guitar.flac"


def estimate_tuning(audio: Float32, rate: float) -> float:
    estimator = TuningEstimator(rate)
    estimator.push(audio)
    return estimator.finish()


def chords(tuning: float, seconds: float = 4.0, rate: int = RATE) -> Float32:
    """Four triads with five partials a note."""
    t = np.arange(round(seconds * rate / 4)) / rate
    parts = []
    for root in (48, 53, 55, 60):
        notes = [440 * 2 ** ((root + step - 69 + tuning / 100) / 12) for step in (0, 4, 7)]
        partials = [np.sin(2 * np.pi * k * f * t + f) / k for f in notes for k in range(1, 6)]
        parts.append(np.sum(partials, axis=0) * np.exp(-t))
    return (0.1 * np.concatenate(parts)).astype(np.float32)


@pytest.mark.parametrize("cents", [-48, -30, -16, 16, 22, 41, 49])
@pytest.mark.parametrize("rate", [16_000, RATE])
def test_tuning_is_found(cents: float, rate: int) -> None:
    assert estimate_tuning(chords(cents, rate=rate), rate) == pytest.approx(cents, abs=1.5)


@pytest.mark.parametrize("level", [1e-3, 1e-6])
def test_tuning_is_found_however_soft_the_music(level: float) -> None:
    assert estimate_tuning(level * chords(30), RATE) == pytest.approx(estimate_tuning(chords(30), RATE), abs=0.01)


@pytest.mark.parametrize("cents", [-10, 0, 4, 10])
def test_what_the_model_does_not_mind_is_left_alone(cents: float) -> None:
    assert estimate_tuning(chords(cents), RATE) == 0.0


def test_what_has_no_tuning_is_left_alone() -> None:
    rng = np.random.default_rng(1)
    t = np.arange(8 * RATE) / RATE
    glide = np.sin(2 * np.pi * 220 * 4 / np.log(2) * 2 ** (t / 4))  # an octave in four seconds
    noise = rng.normal(size=len(t))
    for audio in (noise, glide, 0 * t, t[:0], t[:1], noise[:1000]):
        assert estimate_tuning(audio.astype(np.float32), RATE) == 0.0


def test_loud_parts_that_do_not_last_do_not_outvote_the_rest() -> None:
    audio = chords(30, 8.0)
    audio[: RATE // 4] += np.random.default_rng(2).normal(size=RATE // 4).astype(np.float32)
    assert estimate_tuning(audio, RATE) == pytest.approx(30, abs=1.5)


def test_music_with_digital_silence_in_it_is_listened_to() -> None:
    audio = chords(30, 8.0)
    t = np.arange(len(audio)) / RATE
    audio *= np.clip(5 * (0.7 - t % 1), 0, 1).astype(np.float32)
    assert estimate_tuning(audio, RATE) == pytest.approx(30, abs=1.5)


def test_what_decimation_folds_down_is_not_heard() -> None:
    audio = chords(30)
    whistle = np.sin(2 * np.pi * 4000 * np.arange(len(audio)) / RATE).astype(np.float32)
    assert estimate_tuning(audio + whistle, RATE) == pytest.approx(30, abs=1.5)


def struck(pitches: list[int], times: int) -> Float32:
    """Notes at 440 Hz that are struck so many times a second, each as often, as a sequencer plays them."""
    t = np.arange(8 * RATE) / RATE
    since = t % (1 / times)
    frequency = 440 * 2 ** ((np.array(pitches)[(t * times).astype(int) // 4 % len(pitches)] - 69) / 12)
    partials = [np.sin(2 * np.pi * k * frequency * since) / k for k in range(1, 7)]
    return (0.1 * np.sum(partials, axis=0) * np.exp(-6 * since)).astype(np.float32)


@pytest.mark.parametrize(("pitches", "times"), [([28], 6), ([28], 8), ([28, 33], 10), ([36, 40], 8), ([60], 8)])
def test_how_often_a_note_is_struck_is_no_tuning(pitches: list[int], times: int) -> None:
    assert estimate_tuning(struck(pitches, times), RATE) == 0.0


@pytest.mark.parametrize(("after", "found"), [(0, 0), (25, 25)])
def test_a_beginning_that_hardly_agrees_does_not_decide_the_tuning(after: float, found: float) -> None:
    scattered = [25 if i % 8 == 0 else 100 * i / 16 for i in range(16)]
    beginning = np.concatenate([chords(cents, 2.0) for cents in scattered])
    assert estimate_tuning(beginning, RATE) == pytest.approx(25, abs=3)
    whole = np.concatenate([beginning, np.tile(chords(after), 12)])
    assert estimate_tuning(whole, RATE) == pytest.approx(found, abs=1.5)


@pytest.mark.parametrize(("seconds", "found"), [(3, 30), (6, 0)])
def test_a_note_struck_evenly_hides_no_tuning_unless_it_goes_on_for_long(seconds: int, found: int) -> None:
    audio = np.concatenate([struck([60], 8)[: seconds * RATE], 0.03 * chords(30, 10.0)])
    assert estimate_tuning(audio, RATE) == pytest.approx(found, abs=1.5)


def test_what_sounds_for_a_moment_now_and_then_has_no_say() -> None:
    moments = np.zeros((8, 3 * RATE), np.float32)
    moments[:, RATE : RATE + RATE // 5] = chords(-20)[: RATE // 5]
    audio = np.concatenate([moments.ravel(), 0.03 * chords(30, 12.0)])
    assert estimate_tuning(audio, RATE) == pytest.approx(30, abs=1.5)


def mains(frequency: int, seconds: float) -> Float32:
    t = np.arange(round(seconds * RATE)) / RATE
    return np.sum([0.01 * np.sin(2 * np.pi * k * frequency * t) for k in range(1, 9)], axis=0).astype(np.float32)


@pytest.mark.parametrize("frequency", [50, 60])
def test_hum_between_syllables_is_no_tuning(frequency: int) -> None:
    t = np.arange(12 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(220 * 2 ** (0.5 * np.sin(2 * np.pi * 0.2 * t))) / RATE
    voice = 0.2 * (np.sin(phase) + 0.5 * np.sin(2 * phase)) * (t % 0.9 < 0.5)
    assert estimate_tuning((voice + mains(frequency, 12)).astype(np.float32), RATE) == 0.0


@pytest.mark.parametrize(("hertz", "cents"), [(450, 0), (540, 0), (500, 21.3), (600, 36.9)])
def test_hum_ends_with_its_ninth_multiple(hertz: float, cents: float) -> None:
    assert estimate_tuning(tone(4, hertz), RATE) == pytest.approx(cents, abs=1)


@pytest.mark.parametrize("cents", [-40, 0, 30])
def test_hum_does_not_hide_a_tuning(cents: float) -> None:
    for frequency in (50, 60):
        audio = chords(cents, 12.0) + mains(frequency, 12.0)
        assert estimate_tuning(audio, RATE) == pytest.approx(cents, abs=1.5)


def test_hertz_and_cents() -> None:
    assert cents_of(440) == 0
    assert cents_of(415.3) == pytest.approx(-100, abs=0.1)
    assert hertz_of(cents_of(442)) == pytest.approx(442)


# ------------------------------------------------------------------------------------------------------------- audio


def loudest_frequency(audio: Float32) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    return float(spectrum.argmax()) * RATE / len(audio)


@pytest.mark.parametrize("tuning", [-101.0, 0.0, 25.0, None])
@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_blocks_are_in_tune(tuning: float | None, rate: int) -> None:
    true = 25.0 if tuning is None else tuning
    t = np.arange(4 * rate) / rate
    tone = np.sin(2 * np.pi * hertz_of(true) * t).astype(np.float32)
    with open_audio(tone, rate, target_rate=RATE, tuning=tuning) as stream:
        assert stream.tuning == pytest.approx(true, abs=0.5)
        assert stream.rate == pytest.approx(RATE * 2 ** (true / 1200), rel=1e-3)
        audio = np.concatenate(list(stream))
        assert stream.samples_read == len(audio) == pytest.approx(4 * stream.rate, abs=2)
    assert loudest_frequency(audio) == pytest.approx(440, abs=0.5)


@pytest.mark.parametrize("cents", [0, 30])
def test_nothing_is_lost_where_listening_ends(cents: float) -> None:
    audio = np.tile(chords(cents), 9)
    assert len(audio) > (LISTENED + 1) * RATE
    with open_audio(audio, RATE, target_rate=RATE, tuning=None) as found:
        samples = np.concatenate(list(found))
    with open_audio(audio, RATE, target_rate=RATE, tuning=found.tuning) as given:
        np.testing.assert_array_equal(np.concatenate(list(given)), samples)


def led_in_by(lead: Float32, cents: float = 30) -> Float32:
    return np.concatenate([lead, chords(cents, 12.0)]).astype(np.float32)


def hiss(seconds: float, level: float) -> Float32:
    """White noise, its root mean square in dB."""
    noise = np.random.default_rng(4).normal(size=round(seconds * RATE))
    return (10 ** (level / 20) * noise).astype(np.float32)


def tone(seconds: float, hertz: float = 1000, level: float = -18) -> Float32:
    return (10 ** (level / 20) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


LEADS = {
    "nothing": np.zeros(0, np.float32),
    "silence": np.zeros(40 * RATE, np.float32),
    "as long as is listened": np.zeros(round((LISTENED + 0.5) * RATE), np.float32),
    "much silence": np.zeros((MOST_LISTENED + 5) * RATE, np.float32),
    "hiss": hiss(40, -70),
    "loud hiss": hiss(40, -30),
    "tone": np.concatenate([tone(30), hiss(5, -80)]),
    "tone in tune": tone(40, 440),
    "hum": hiss(40, -75) + tone(40, 100, -45) + tone(40, 150, -50),
    "tones": np.concatenate([tone(12, f) for f in (1000, 100, 10_000, 400)]),
}


@pytest.mark.parametrize("lead", LEADS)
def test_what_stands_at_the_head_of_a_tape_does_not_count(lead: str) -> None:
    audio = led_in_by(LEADS[lead])
    with open_audio(audio, RATE, target_rate=RATE, tuning=None) as stream:
        assert stream.tuning == pytest.approx(30, abs=2)
        assert sum(map(len, stream)) / stream.rate == pytest.approx(len(audio) / RATE, abs=1e-3)


def test_what_stands_still_under_music_does() -> None:
    assert estimate_tuning(tone(4, hertz_of(30)), RATE) == pytest.approx(30, abs=1)
    audio = np.tile(chords(30), 2) + tone(8, hertz_of(30 - 2400), -30)
    assert estimate_tuning(audio, RATE) == pytest.approx(30, abs=1.5)


@pytest.mark.parametrize("size", [1000, RATE, 70_001, 10**7])
def test_what_is_listened_to_does_not_depend_on_blocks(size: int) -> None:
    """Nor on what comes after it."""
    audio = np.concatenate([np.tile(chords(20), 2), np.zeros(9 * RATE, np.float32), np.tile(chords(20), 7)])
    after = chords(-40)
    estimator = TuningEstimator(RATE)
    for start in range(0, len(audio), size):
        estimator.push(audio[start : start + size])
    assert estimator.is_enough
    estimator.push(after)
    assert estimator.finish() == estimate_tuning(np.concatenate([audio, after]), RATE) == pytest.approx(20, abs=1.5)


def test_only_so_much_is_listened_to() -> None:
    audio = led_in_by(hiss(MOST_LISTENED + 1, -80))
    with open_audio(audio, RATE, target_rate=RATE, tuning=None) as stream:
        assert stream.tuning == 0.0
        assert sum(map(len, stream)) == len(audio)


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_silence_that_is_put_aside_takes_no_memory(rate: int) -> None:
    silence = np.broadcast_to(np.float32(0), (3600 * rate,))
    tracemalloc.start()
    try:
        with open_audio(silence, rate, target_rate=RATE, tuning=None) as stream:
            assert stream.tuning == 0.0
            assert sum(map(len, stream)) == 3600 * RATE
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------------------------------------------- transcription


@pytest.fixture(scope="module")
def guitar() -> tuple[Float32, int]:
    samples, rate = soundfile.read(GUITAR, dtype="float32")
    return samples, rate


def retuned(samples: Float32, rate: int, cents: float) -> Float32:
    """Played faster or slower."""
    return soxr.resample(samples, rate * 2 ** (cents / 1200), rate).astype(np.float32)


def names(found: Transcription, speed: float = 1.0) -> set[tuple[int, int]]:
    """Pitches, and onsets in twentieths of a second of the original."""
    return {(n.pitch, round(20 * n.onset * speed)) for n in found.notes}


@pytest.mark.parametrize("cents", [35, -45])
def test_a_stream_that_is_off_says_so(cents: float, guitar: tuple[Float32, int]) -> None:
    samples, rate = guitar
    sharp = retuned(np.tile(samples, 5), rate, cents)
    streaming = StreamingTranscriber(rate, block_seconds=5)
    streaming.push(sharp[: 20 * rate])
    assert streaming.found_tuning == 0.0
    streaming.push(sharp[20 * rate :])
    assert streaming.found_tuning == pytest.approx(cents + 8, abs=3)
    before = streaming.found_tuning
    streaming.flush()
    assert streaming.found_tuning == before
    told = StreamingTranscriber(rate, settings=TrackerSettings(tuning=440), block_seconds=5)
    told.push(sharp)
    told.flush()
    assert told.found_tuning == 0.0


@pytest.mark.parametrize("cents", [35, -45])
def test_a_recording_that_is_off_keeps_its_notes(cents: float, guitar: tuple[Float32, int]) -> None:
    samples, rate = guitar
    transcriber = Transcriber(threads=1)
    original = transcriber.transcribe(samples, rate)
    sharp = retuned(samples, rate, cents)
    found = transcriber.transcribe(sharp, rate)
    assert original.tuning == 0.0  # it is 8 cents sharp
    assert found.tuning == pytest.approx(cents + 8, abs=3)
    assert found.duration == pytest.approx(len(sharp) / rate, abs=1e-3)
    speed = 2 ** (cents / 1200)
    assert len(names(found, speed) & names(original)) >= 0.85 * len(original.notes)
    bends = [float(np.median(n.bend.semitones)) for n in found.notes if n.bend is not None]
    assert np.median(bends) == pytest.approx((cents + 8) / 100, abs=0.06)

    as_it_is = transcriber.transcribe(sharp, rate, settings=TrackerSettings(tuning=440))
    assert as_it_is.tuning == 0.0
    assert len(names(as_it_is, speed) & names(original)) < 0.8 * len(original.notes)


def test_a_tuning_that_is_given_is_used(guitar: tuple[Float32, int]) -> None:
    samples, rate = guitar
    low = retuned(samples, rate, -101)  # baroque pitch: every note is called a semitone higher than it sounds
    transcriber = Transcriber(threads=1)
    found = transcriber.transcribe(low, rate, settings=TrackerSettings(tuning=415))
    assert found.tuning == pytest.approx(-101.3, abs=0.1)
    original = transcriber.transcribe(samples, rate)
    assert len(names(found, 2 ** (-101 / 1200)) & names(original)) >= 0.85 * len(original.notes)


@pytest.mark.parametrize("tuning", [415.0, 449.0])
def test_streaming_takes_a_tuning_that_is_given(tuning: float, guitar: tuple[Float32, int]) -> None:
    samples, rate = guitar
    settings = TrackerSettings(tuning=tuning, monophonic=False)
    stream = StreamingTranscriber(rate, settings=settings, block_seconds=1.0)
    notes = [n for start in range(0, len(samples), 7000) for n in stream.push(samples[start : start + 7000])]
    notes = sorted(notes + stream.flush(), key=lambda n: (n.onset, n.pitch))
    whole = Transcriber(threads=1).transcribe(samples, rate, settings=settings)
    assert notes == list(whole.notes)
    assert stream.seconds == pytest.approx(whole.duration)


def test_posteriors_know_their_tuning(guitar: tuple[Float32, int]) -> None:
    samples, rate = guitar
    transcriber = Transcriber(threads=1)
    found = transcriber.transcribe(retuned(samples, rate, 35), rate, keep_posteriors=True)
    assert found.posteriors is not None
    again = transcriber.track(found.posteriors)
    assert list(again.notes) == list(found.notes)
    assert again.tuning == found.tuning
    assert not again.warnings
    other = transcriber.track(found.posteriors, TrackerSettings(tuning=440))
    assert other.notes == again.notes
    assert other.warnings == (OTHER_TUNING,)


# -------------------------------------------------------------------------------------------------------------- MIDI


def bent(onset: float, pitch: int, semitones: float) -> Note:
    return Note(onset, onset + 1, pitch, 80, 0.9, PitchBend(onset, 0.1, np.full(10, semitones, np.float32)))


def played(result: MidiResult) -> list[tuple[int, float]]:
    """Pitches that sound in the middle of each note."""
    found = []
    for instrument in result.midi.instruments:
        for note in instrument.notes:
            middle = (note.start + note.end) / 2
            before = [b.pitch for b in instrument.pitch_bends if b.time <= middle]
            found.append((note.pitch, round(note.pitch + (before[-1] if before else 0) * 2 / 8192, 2)))
    return sorted(found)


@pytest.mark.parametrize("mode", ["plain", "channels"])
def test_what_does_not_bend_sounds_in_tune_with_the_recording(mode: str) -> None:
    notes = [
        bent(0, 60, 0.3),
        bent(0, 64, 0.305),
        bent(0, 67, 0.295),
        bent(2, 62, 0.8),
        replace(bent(4, 65, 0), bend=None),
    ]
    result = to_midi(notes, MidiSettings(bend_mode=mode), tuning=30.0)
    assert played(result) == [(60, 60.3), (62, 62.8), (64, 64.3), (65, 65.3), (67, 67.3)]
    assert len(result.midi.instruments) == 1  # a chord in tune with the rest needs no channels of its own


def test_no_bends_no_tuning() -> None:
    notes = [replace(bent(0, 60, 0), bend=None)]
    assert to_midi(notes, tuning=30.0).data == to_midi(notes).data


def test_the_furthest_tuning_does_not_turn_round() -> None:
    result = to_midi([bent(0, 60, 2.0), replace(bent(4, 65, 0), bend=None)], tuning=200.0)
    assert played(result) == [(60, 62.0), (65, 67.0)]


def test_members_of_a_zone_bend_alone() -> None:
    notes = [bent(0, 60, 0.3), bent(0, 64, 0.3)]
    assert (
        to_midi(notes, MidiSettings(bend_mode="mpe"), tuning=30.0).data
        == to_midi(notes, MidiSettings(bend_mode="mpe")).data
    )
