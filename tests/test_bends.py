"""The bend of a note, from contours whose pitch is known."""

from __future__ import annotations

import numpy as np
import pytest

from basic_transcribe import bends
from basic_transcribe.types import Float32

BINS = 3  # a semitone
CENTRE = 40


def contour(deviations: Float32, *, width: float = 0.8, bins: int = 90) -> Float32:
    """One row a frame: a Gaussian bump so many semitones away from CENTRE, as the model is taught to draw."""
    at = CENTRE + BINS * np.asarray(deviations, dtype=np.float32)[:, None]
    return np.exp(-0.5 * ((np.arange(bins) - at) / width) ** 2).astype(np.float32)


def measured(rows: Float32) -> Float32:
    """The bend in semitones."""
    result = bends.curves([bends.window(rows, CENTRE)], BINS)[0]
    assert result is not None
    return result


@pytest.mark.parametrize("cents", [-90, -50, -33, -17, 0, 5, 25, 49, 80])
def test_a_steady_deviation_is_measured_within_three_cents(cents: int) -> None:
    result = measured(contour(np.full(30, cents / 100)))
    assert result.shape == (30,)
    np.testing.assert_allclose(100 * result, cents, atol=3)


def test_a_vibrato_keeps_its_rate_and_depth() -> None:
    rate = 86.13
    t = np.arange(120) / rate
    truth = 0.4 * np.sin(2 * np.pi * 5.5 * t)
    result = measured(contour(truth))
    assert np.corrcoef(result, truth)[0, 1] > 0.99
    assert np.ptp(result) == pytest.approx(0.8, abs=0.08)
    np.testing.assert_allclose(result, truth, atol=0.08)


def test_a_slide_of_a_semitone_is_followed() -> None:
    truth = np.clip(np.linspace(-0.5, 1.5, 100), 0, 1)
    np.testing.assert_allclose(measured(contour(truth)), truth, atol=0.06)


def test_gaps_are_bridged_between_what_is_known() -> None:
    rows = contour(np.linspace(0, 0.5, 60))
    rows[20:35] = 0
    np.testing.assert_allclose(measured(rows), np.linspace(0, 0.5, 60), atol=0.04)


def test_gaps_at_the_ends_take_the_nearest_known_value() -> None:
    rows = contour(np.full(40, 0.3))
    rows[:10] = rows[-10:] = 0
    np.testing.assert_allclose(measured(rows), 0.3, atol=0.03)


def test_one_stray_frame_does_not_show() -> None:
    rows = contour(np.zeros(30))
    rows[15] = contour(np.array([0.9], np.float32))[0]
    np.testing.assert_allclose(measured(rows), 0, atol=0.03)


def test_a_far_stronger_neighbour_does_not_pull_a_clear_note() -> None:
    rows = np.maximum(contour(np.zeros(30)), contour(np.full(30, 5.0)))
    np.testing.assert_allclose(measured(rows), 0, atol=0.03)


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 50])
def test_an_empty_contour_says_nothing(frames: int) -> None:
    assert bends.curves([bends.window(np.zeros((frames, 90), np.float32), CENTRE)], BINS) == [None]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6])
def test_short_notes_have_one_value_a_frame(frames: int) -> None:
    result = measured(contour(np.full(frames, 0.2)))
    assert result.shape == (frames,)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, 0.2, atol=0.03)


@pytest.mark.parametrize("centre", [0, 1, 2, 86, 88, 89])
def test_the_edges_of_the_range_are_no_special_case(centre: int) -> None:
    rows = np.exp(-0.5 * ((np.arange(90) - centre) / 0.8) ** 2).astype(np.float32)[None].repeat(10, axis=0)
    result = bends.curves([bends.window(rows, centre)], BINS)[0]
    assert result is not None
    # At the very edge half of the bump is missing, which pulls its centroid inwards.
    assert np.all(np.abs(result) < 0.25)


def test_a_note_that_dies_beside_a_sounding_one_keeps_its_pitch() -> None:
    rows = contour(np.zeros(40))
    rows[20:] *= np.linspace(1, 0, 20, dtype=np.float32)[:, None]
    rows = np.maximum(rows, contour(np.ones(40)))  # a semitone above, all the time
    np.testing.assert_allclose(measured(rows), 0, atol=0.3)
    np.testing.assert_allclose(measured(rows)[:30], 0, atol=0.05)


def test_the_window_is_zero_beyond_the_edges() -> None:
    rows = np.random.default_rng(0).random((5, 90)).astype(np.float32)
    for centre in (0, 3, 40, 89):
        cut = bends.window(rows, centre)
        assert cut.shape == (5, 2 * bends.REACH + 1)
        np.testing.assert_array_equal(cut[:, bends.REACH], rows[:, centre])
        assert np.count_nonzero(cut[0]) == min(89, centre + bends.REACH) - max(0, centre - bends.REACH) + 1


def wandering(rng: np.random.Generator) -> Float32:
    """A note's window in which pitches stay, wander, jump, meet others and stop."""
    frames = int(rng.integers(1, 60))
    rows = np.zeros((frames, 90), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        path = np.cumsum(rng.normal(0, rng.choice([0.02, 0.2, 0.6]), frames)) / BINS + rng.choice([0, 0.3, 1, -1.3])
        loud = rng.random() * (rng.random((frames, 1)) > rng.choice([0, 0.2]))
        rows = np.maximum(rows, (loud * contour(path)).astype(np.float32))
    return bends.window(rows, CENTRE)


def test_notes_near_their_pitch_are_followed_at_once_as_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    windows = [wandering(rng) for _ in range(1000)]
    at_once = bends.curves(windows, BINS)
    monkeypatch.setattr(bends, "MIDDLE", -1)  # no frame is sure
    for one, other in zip(at_once, bends.curves(windows, BINS), strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(curve is None for curve in at_once)
    assert np.ptp(np.concatenate([curve for curve in at_once if curve is not None])) > 3
