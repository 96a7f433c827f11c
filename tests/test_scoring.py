"""The scoring of ``scripts/``: equal to mir_eval, and bends read as a synthesiser plays them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

mir_eval = pytest.importorskip("mir_eval.transcription")
pytest.importorskip("scipy")
pretty_midi = pytest.importorskip("pretty_midi")

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import scoring  # noqa: E402


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
    expected = mir_eval.match_notes(
        ref.intervals,
        scoring.hertz(ref.pitch),
        est.intervals,
        scoring.hertz(est.pitch),
        onset_tolerance=tolerance,
        offset_ratio=offset_ratio,
    )
    i, j = scoring.match(ref, est, tolerance, offset_ratio)
    assert len(i) == len(expected)
    assert len(set(i)) == len(set(j)) == len(i)
    assert scoring.f_measure(len(i), len(ref), len(est)) == pytest.approx(
        2 * len(expected) / (len(ref) + len(est)), abs=1e-12
    )


def test_no_notes_score_zero() -> None:
    none = scoring.from_notes([])
    some = random_notes(np.random.default_rng(0), 5)
    assert scoring.count_matches(some, none) == scoring.count_matches(none, some) == 0
    assert set(scoring.note_scores(some, none).values()) == {0.0}
    assert scoring.frame_score(some, none) == 0.0


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


def test_recordings_need_audio_beside_the_reference(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.csv").write_text("onset_s,offset_s,midi_pitch\n")
    with pytest.raises(FileNotFoundError, match=r"a\.csv"):
        scoring.recordings(tmp_path)
    (tmp_path / "set" / "a.flac").touch()
    assert [(r.set_name, r.name) for r in scoring.recordings(tmp_path)] == [("set", "a")]
