"""Scores: equal to mir_eval's. MIDI: bends read as a synthesiser plays them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pretty_midi
import pytest

from basic_transcribe import scoring
from basic_transcribe.errors import TranscribeError

mir_eval = pytest.importorskip("mir_eval")


def random_notes(rng: np.random.Generator, count: int) -> scoring.Notes:
    """Notes crowded onto a 10 ms and quarter-tone grid, so that ties and exact tolerances happen."""
    onset = rng.integers(0, 200, count) / 100
    duration = rng.integers(1, 60, count) / 100
    pitch = rng.integers(240, 248, count) / 4
    return scoring.Notes(np.stack([onset, onset + duration], axis=1), pitch, pitch)


@pytest.mark.parametrize(("tolerance", "offset_ratio"), [(0.05, None), (0.1, None), (0.05, 0.2)])
@pytest.mark.parametrize("seed", range(20))
def test_matches_are_as_many_as_mir_eval_finds(seed: int, tolerance: float, offset_ratio: float | None) -> None:
    rng = np.random.default_rng(seed)
    ref, est = random_notes(rng, int(rng.integers(1, 60))), random_notes(rng, int(rng.integers(1, 60)))
    expected = mir_eval.transcription.match_notes(
        ref.intervals,
        scoring.midi_to_hz(ref.pitch),
        est.intervals,
        scoring.midi_to_hz(est.pitch),
        onset_tolerance=tolerance,
        offset_ratio=offset_ratio,
    )
    i, j = scoring.match(ref, est, tolerance, offset_ratio)
    assert len(i) == len(expected)
    assert len(set(i)) == len(set(j)) == len(i)
    assert scoring.f_measure(len(i), len(ref), len(est)) == pytest.approx(
        2 * len(expected) / (len(ref) + len(est)), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(10))
def test_scores_are_those_of_mir_eval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ref, est = random_notes(rng, int(rng.integers(1, 60))), random_notes(rng, int(rng.integers(1, 60)))
    est = replace(est, sounding=est.pitch + rng.integers(-2, 3, len(est)) / 4)

    def expected(pitch: np.ndarray, tolerance: float, offset_ratio: float | None) -> tuple[float, float, float]:
        notes = ref.intervals, scoring.midi_to_hz(ref.pitch), est.intervals, scoring.midi_to_hz(pitch)
        return mir_eval.transcription.precision_recall_f1_overlap(
            *notes, onset_tolerance=tolerance, offset_ratio=offset_ratio
        )[:3]

    p, r, f50 = expected(est.pitch, 0.05, None)
    scores = {"P": p, "R": r, "F50": f50}
    scores["F100"] = expected(est.pitch, 0.1, None)[2]
    scores["Foff"] = expected(est.pitch, 0.05, 0.2)[2]
    scores["Fbend"] = expected(est.sounding, 0.05, None)[2]
    assert scoring.note_scores(ref, est) == pytest.approx(scores, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_frames_are_those_of_mir_eval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ref, est = random_notes(rng, int(rng.integers(1, 30))), random_notes(rng, int(rng.integers(1, 30)))
    times = np.arange(400) / 100

    def frames(notes: scoring.Notes) -> list[np.ndarray]:
        sounding = [(notes.intervals[:, 0] <= t + 1e-6) & (t + 1e-6 < notes.intervals[:, 1]) for t in times]
        return [scoring.midi_to_hz(notes.pitch[s]) for s in sounding]

    precision, recall = mir_eval.multipitch.metrics(times, frames(ref), times, frames(est))[:2]
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert scoring.frame_score(ref, est) == pytest.approx(expected, abs=1e-12)


def test_bends_of_the_reference_count_too() -> None:
    pitch = np.array([60.0])
    ref = scoring.Notes(np.array([[0.0, 0.5]]), pitch, pitch + 0.8)
    assert scoring.note_scores(ref, ref)["Fbend"] == 1
    assert scoring.note_scores(ref, replace(ref, sounding=pitch))["Fbend"] == 0


def test_no_notes_score_zero() -> None:
    none = scoring.from_notes([])
    some = random_notes(np.random.default_rng(0), 5)
    assert scoring.count_matches(some, none) == scoring.count_matches(none, some) == 0
    assert set(scoring.note_scores(some, none).values()) == {0.0}
    assert scoring.frame_score(some, none) == scoring.frame_score(none, none) == 0.0


def test_a_transcription_equal_to_its_reference_scores_one() -> None:
    pitch = np.array([60.0, 64.0, 60.0])
    ref = scoring.Notes(np.array([[0.0, 0.5], [0.3, 1.0], [1.2, 1.9]]), pitch, pitch, np.array([50.0, 70.0, 90.0]))
    assert set(scoring.note_scores(ref, ref).values()) == {1.0}
    assert scoring.frame_score(ref, ref) == pytest.approx(1.0)
    assert scoring.velocity_scores(ref, ref) == pytest.approx({"Fvel": 1.0, "rvel": 1.0})


def test_onset_errors_are_estimate_minus_reference() -> None:
    pitch = np.array([60.0, 64.0])
    ref = scoring.Notes(np.array([[0.0, 0.5], [1.0, 1.5]]), pitch, pitch)
    late = scoring.Notes(ref.intervals + 0.07, pitch, pitch)
    assert scoring.onset_errors(ref, late) == pytest.approx([0.07, 0.07])


def test_sounding_pitch_is_the_mean_of_the_bend_in_its_range(tmp_path: Path) -> None:
    midi = pretty_midi.PrettyMIDI(resolution=960)
    instrument = pretty_midi.Instrument(0)
    # One after the other, since pretty_midi sorts simultaneous control changes by number.
    for step, (number, value) in enumerate(((101, 0), (100, 0), (6, 12), (38, 0))):
        instrument.control_changes.append(pretty_midi.ControlChange(number, value, step / 100))
    instrument.notes = [pretty_midi.Note(80, 60, 0.5, 1.5), pretty_midi.Note(80, 62, 2.0, 3.0)]
    # Half of the first note bent by a quarter of twelve semitones; straight again before the second.
    instrument.pitch_bends = [pretty_midi.PitchBend(2048, 1.0), pretty_midi.PitchBend(0, 1.5)]
    midi.instruments.append(instrument)
    midi.write(str(tmp_path / "bent.mid"))
    notes = scoring.load_midi(str(tmp_path / "bent.mid"))
    assert notes.pitch.tolist() == [60, 62]
    assert notes.sounding == pytest.approx([61.5, 62.0], abs=1e-3)


BEATS = 480  # ticks


def midi_file(path: Path, *tracks: list[tuple[int, mido.Message | mido.MetaMessage]]) -> Path:
    """A file of messages at ticks; half a second is a beat unless they say otherwise."""
    midi = mido.MidiFile(ticks_per_beat=BEATS)
    for events in tracks:
        since = np.diff([0, *(tick for tick, _ in events)]).tolist()
        midi.tracks.append(
            mido.MidiTrack(message.copy(time=time) for time, (_, message) in zip(since, events, strict=True))
        )
    midi.save(path)
    return path


def note(start: int, pitch: int = 60) -> list[tuple[int, mido.Message]]:
    """A note of a beat."""
    return [(start, mido.Message("note_on", note=pitch)), (start + BEATS, mido.Message("note_off", note=pitch))]


def controls(tick: int, *pairs: tuple[int, int]) -> list[tuple[int, mido.Message]]:
    return [(tick, mido.Message("control_change", control=control, value=value)) for control, value in pairs]


HALF_BENT = [(0, mido.Message("pitchwheel", pitch=4096))]
RPN_0, NRPN, NO_RPN = [(101, 0), (100, 0)], [(99, 1), (98, 8)], [(101, 127), (100, 127)]


@pytest.mark.parametrize(
    ("pairs", "semitones"),
    [
        ([*RPN_0, (6, 12)], 12),
        ([*RPN_0, (6, 1), (38, 50)], 1.5),
        ([*RPN_0, (6, 12), *NRPN, (6, 80), (38, 3)], 12),  # data of another parameter
        ([*RPN_0, (6, 12), *NO_RPN, (6, 80), (38, 3)], 12),
        ([*NRPN, (6, 80)], 2),
        ([(101, 0), (100, 6), (6, 15), *RPN_0, (6, 24)], 24),
    ],
)
def test_bend_range_is_that_of_registered_parameter_0(
    tmp_path: Path, pairs: list[tuple[int, int]], semitones: float
) -> None:
    path = midi_file(tmp_path / "a.mid", [*controls(0, *pairs), *HALF_BENT, *note(0)])
    assert scoring.load_midi(path).sounding == pytest.approx([60 + semitones / 2])


def test_bend_range_holds_until_the_next(tmp_path: Path) -> None:
    events = [*controls(0, *RPN_0, (6, 12)), *HALF_BENT, *note(0), *controls(2 * BEATS, (6, 4)), *note(2 * BEATS)]
    assert scoring.load_midi(midi_file(tmp_path / "a.mid", events)).sounding == pytest.approx([66, 62])


def test_what_no_note_number_can_say_is_refused_in_midi_as_in_csv(tmp_path: Path) -> None:
    events = [*controls(0, *RPN_0, (6, 96)), (0, mido.Message("pitchwheel", pitch=8191)), *note(0, 100)]
    with pytest.raises(TranscribeError, match=r"a\.mid: note at 0\.000 s: pitch 100, bent by 95\.98"):
        scoring.load_notes(midi_file(tmp_path / "a.mid", events))


def test_tempi_of_all_tracks_count(tmp_path: Path) -> None:
    slow, fast = (mido.MetaMessage("set_tempo", tempo=tempo) for tempo in (1_000_000, 250_000))
    tracks = [(0, slow)], [*note(0), *note(2 * BEATS)], [(BEATS, fast)]
    notes = scoring.load_midi(midi_file(tmp_path / "a.mid", *tracks))
    assert notes.intervals == pytest.approx(np.array([[0, 1], [1.25, 1.5]]))
    assert scoring.load_midi(midi_file(tmp_path / "b.mid", note(0), [(0, slow)])).intervals.tolist() == [[0, 1]]


def test_smpte_frames_are_not_taken_for_beats(tmp_path: Path) -> None:
    path = midi_file(tmp_path / "a.mid", note(0))
    data = path.read_bytes()
    path.write_bytes(data[:12] + b"\xe7\x28" + data[14:])
    with pytest.raises(TranscribeError, match=r"a\.mid: counts in SMPTE frames; export it with ticks"):
        scoring.load_notes(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.1,1_0,64\n", "line 1: offset_s is '1_0'; give a number"),
        ("0.1,1e7,64\n", "line 1: from 0.1 to 1e+07 s, beyond 1000000 s; give times in seconds"),
        (
            "onset_s,offset_s,midi_pitch,Pitch\n0,1,60,62\n",
            "the columns midi_pitch and pitch mean the same; leave out all but one",
        ),
    ],
)
def test_what_a_reference_could_mean_is_not_guessed(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(TranscribeError) as caught:
        scoring.load_notes(path)
    assert str(caught.value) == f"{path}: {reason}"


def test_recordings_need_audio_beside_the_reference(tmp_path: Path) -> None:
    with pytest.raises(TranscribeError, match="no recordings with references"):
        scoring.recordings(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.csv").write_text("onset_s,offset_s,midi_pitch\n")
    with pytest.raises(TranscribeError, match=r"a\.csv"):
        scoring.recordings(tmp_path)
    (tmp_path / "set" / "a.flac").touch()
    assert [(r.set_name, r.name) for r in scoring.recordings(tmp_path)] == [("set", "a")]
    (tmp_path / "other").mkdir()
    with pytest.raises(TranscribeError, match="other: no recordings"):
        scoring.recordings(tmp_path, ["set", "other"])
