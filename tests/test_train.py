"""Training a smaller network after a larger one, and averaging several of one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import average  # noqa: E402
import frontend  # noqa: E402
import network  # noqa: E402
import shrink  # noqa: E402
import train  # noqa: E402
from render import encode  # noqa: E402

LARGE = Path(network.__file__).parent / "checkpoints" / "0.7.0.pt"
FRAMES = 48


@cache
def spectrograms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    audio, rate = soundfile.read(Path(__file__).parent / "data" / "guitar.flac", dtype="float32")
    sound = torch.from_numpy(soxr.resample(audio, rate, frontend.SAMPLE_RATE))[None]
    with torch.no_grad():
        fine, sharp, reference = (x[0].numpy() for x in frontend.FrontEnd().padded(sound))
    return encode(fine), encode(sharp), reference


def clip(seed: int) -> train.Clip:
    """Two seconds of a guitar, with three notes that it does not play."""
    rng = np.random.default_rng(seed)
    frames = 2 * FRAMES + 2 * network.REACH
    onsets = np.sort(rng.uniform(0.2, 1.5, 3))
    notes = [[0, onset, onset + 0.3, rng.integers(50, 80), -20.0, 26 * i, 26] for i, onset in enumerate(onsets)]
    fine, sharp, reference = spectrograms()
    start = 100 * seed
    return train.Clip(
        fine[start // 2 : (start + frames) // 2],
        sharp[start : start + frames],
        reference[start : start + frames],
        np.array(notes),
        np.zeros(78, np.float16),
    )


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    options = train.Options(batch=2, frames=FRAMES, real=0)
    return next(train.batches([clip(i) for i in range(4)], [], options, 0))


def outputs(net: network.Network, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return net.eval()(*train.inputs(batch, net))


def test_shrinking_to_the_same_shape_changes_nothing(batch: dict[str, torch.Tensor]) -> None:
    large = network.load_network(LARGE)
    same = network.Network(**large.config)
    shrink.shrink(large, same)
    expected = outputs(large, batch)
    for name, value in outputs(same, batch).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)


def test_a_shrunken_network_still_hears_much_the_same(batch: dict[str, torch.Tensor]) -> None:
    large = network.load_network(LARGE)
    small, fresh = (network.Network(**shrink.SMALL) for _ in range(2))
    shrink.shrink(large, small)
    expected = outputs(large, batch)["note"].ravel().numpy()
    after, before = (np.corrcoef(expected, outputs(net, batch)["note"].ravel().numpy())[0, 1] for net in (small, fresh))
    assert after > max(0.5, before + 0.3)


def test_what_is_missing_cannot_be_taken_over() -> None:
    with pytest.raises(ValueError, match="block 0 of the larger network does not look at all of the intervals"):
        shrink.shrink(network.Network(), network.Network(intervals=((7, -7), (12, -12), (12, -12))))


def test_targets_move_half_way_to_the_teacher(batch: dict[str, torch.Tensor]) -> None:
    teacher = network.load_network(LARGE).eval()
    posteriors, labels = outputs(teacher, batch), {k: v.clone() for k, v in batch.items()}
    with torch.no_grad():
        features = teacher.features(*train.inputs(batch, teacher))
    assert float(train.follow(teacher, batch, features)) == 0
    for name in ("onset", "note", "offset", "contour"):
        torch.testing.assert_close(batch[name], (labels[name] + torch.sigmoid(posteriors[name])) / 2)
    assert torch.equal(batch["level"].isnan(), labels["level"].isnan())
    assert float(train.follow(teacher, batch, features + features.std(dim=(0, 2, 3), keepdim=True))) > 0.5


def test_a_few_steps_bring_it_nearer_to_its_teacher(batch: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    large, small = network.load_network(LARGE).eval(), network.Network(**shrink.SMALL)
    shrink.shrink(large, small)

    def distance() -> float:
        with torch.no_grad():
            features = small.eval().features(*train.inputs(batch, small))
        return float(train.follow(large, dict(batch), features))

    before, clips = distance(), [clip(i) for i in range(4)]
    options = train.Options(steps=25, batch=2, frames=FRAMES, real=0, warm_up=1, teacher=large)
    for step in train.take_steps(train.State.begin(small), clips, [], options):
        assert step["features"] > 0
    assert distance() < 0.8 * before
    alone = train.take_steps(train.State.begin(small), clips, [], replace(options, teacher=None))
    assert "features" not in next(alone)


@pytest.mark.parametrize("first", [0, 20])
def test_losses_are_means_over_the_steps_since_the_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], first: int
) -> None:
    """Also where ``--resume`` goes on from a step between two lines."""
    state = train.State.begin(network.Network())
    state.step = first

    def steps(state: train.State, *_: object) -> Iterator[dict[str, float]]:
        for state.step in range(first + 1, 101):
            yield {"onset": 0.5}

    monkeypatch.setattr(train, "take_steps", steps)
    train.train(state, [], [], train.Options(steps=100), tmp_path / "last.pt", 1000)
    assert capsys.readouterr().out.count("'onset': 0.5,") == 2


def test_no_more_batches_are_made_than_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made, cut = [], train.crop
    monkeypatch.setattr(train, "crop", lambda *arguments: made.append(1) or cut(*arguments))
    assert len(list(train.batches([clip(1)], [], train.Options(steps=5, batch=1, frames=FRAMES, real=0), 3))) == 2
    assert len(made) == 2


def test_an_average_has_a_share_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {}
    for name in ("a", "b"):
        one = network.Network(channels=16, stems=(4, 4), reduced=2, inner=16)
        state = train.State.begin(one)
        state.ema = {k: v + torch.rand(v.shape) if v.is_floating_point() else v for k, v in state.ema.items()}
        state.save(tmp_path / f"{name}.pt")
        weights[name] = state.ema
    train.State.begin(network.Network(channels=32, stems=(4, 4), reduced=2, inner=16)).save(tmp_path / "other.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["average.py", "mean.pt", "a.pt=3", "b.pt=1"])
    average.main()
    mean = network.load_network(Path("mean.pt")).state_dict()
    for key, value in mean.items():
        expected = 0.75 * weights["a"][key] + 0.25 * weights["b"][key]
        torch.testing.assert_close(value, expected.to(value.dtype), atol=1e-5, rtol=1e-5)
    for argument, message in (
        ("other.pt=1", "other.pt: its network is another than that of a.pt"),
        ("none.pt=1", "none.pt: No such file"),
    ):
        monkeypatch.setattr(sys, "argv", ["average.py", "no.pt", "a.pt=1", argument])
        with pytest.raises(SystemExit, match=message):
            average.main()
    for argument in ("b.pt", "b.pt=0", "b.pt=inf", "b.pt=x"):
        monkeypatch.setattr(sys, "argv", ["average.py", "no.pt", "a.pt=1", argument])
        with pytest.raises(SystemExit, match="2"):
            average.main()
    assert not Path("no.pt").exists()


def test_crops_sound_together() -> None:
    """As the sum of their signals does, but where these meet by chance; levels are each note's own."""
    audio, rate = soundfile.read(Path(__file__).parent / "data" / "guitar.flac", dtype="float32")
    sound = torch.from_numpy(soxr.resample(audio, rate, frontend.SAMPLE_RATE))
    front_end, parts = frontend.FrontEnd(), [sound[:80_000], 0.5 * sound[80_000:160_000]]

    def spectra(sound: torch.Tensor) -> dict[str, np.ndarray]:
        with torch.no_grad():
            fine, sharp, reference = (x[0].numpy() for x in front_end.padded(sound[None]))
        return {"fine": fine, "sharp": sharp, "reference": reference}

    labels = [train.targets(clip(seed), network.REACH, FRAMES, 0) for seed in range(2)]
    a, b = ({**spectra(part), **label} for part, label in zip(parts, labels, strict=True))
    mixed = train.together(a, b, np.random.default_rng(0))
    gain = a["reference"].mean() - b["reference"].mean()
    gain += np.random.default_rng(0).uniform(-train.BALANCE, train.BALANCE)
    for name, value in spectra(parts[0] + parts[1] * float(10 ** (gain / 20))).items():
        error = (mixed[name] - value)[value > value.max() - 40]
        assert np.median(np.abs(error)) < 1  # both halves play the same strings
        assert abs(error.mean()) < 0.5
    for name in ("onset", "note", "contour"):
        np.testing.assert_array_equal(mixed[name], np.maximum(a[name], b[name]))
    np.testing.assert_array_equal(np.isfinite(mixed["level"]), np.isfinite(a["level"]) | np.isfinite(b["level"]))
    only = np.isfinite(b["level"]) & ~np.isfinite(a["level"])
    assert only.any()
    np.testing.assert_allclose(mixed["level"][only], b["level"][only] + gain, rtol=1e-5)


@pytest.mark.parametrize("second", [0.2, 0.06])
def test_of_two_notes_of_a_pitch_the_earlier_ends_where_the_later_begins(second: float) -> None:
    spectra, _, reference = spectrograms()
    whole = {"fine": spectra[:FRAMES] * 1.0, "sharp": spectra[:FRAMES] * 1.0, "reference": reference[:FRAMES]}
    crops = []
    for onset, offset in ((0.05, 0.3), (second, 0.5)):
        notes = np.array([[0, onset, offset, 60, -20.0, 0, 1]])
        crops.append({**whole, **train.targets(replace(clip(0), notes=notes), 0, FRAMES, 0)})
    for a, b in (crops, crops[::-1]):
        column = train.together(a, b, np.random.default_rng(0))["offset"][:, 60 - frontend.LOWEST_PITCH]
        ends = np.flatnonzero(column > 0.4) / frontend.FRAME_RATE
        assert ends.max() == pytest.approx(0.5, abs=0.03)
        assert not np.any((ends > 0.25) & (ends < 0.45))
        if second > 0.1:
            assert ends.min() == pytest.approx(second, abs=0.03)
        else:  # one note
            assert ends.min() > 0.45


def test_a_share_of_the_crops_has_another_added(monkeypatch: pytest.MonkeyPatch) -> None:
    made, cut = [], train.crop
    monkeypatch.setattr(train, "crop", lambda *arguments: made.append(1) or cut(*arguments))
    options = train.Options(steps=20, batch=2, frames=FRAMES, real=0, mix=0.5)
    batches = list(train.batches([clip(i) for i in range(4)], [], options, 0))
    assert 45 < len(made) < 75
    assert all(torch.isfinite(batch[name]).all() for batch in batches for name in ("fine", "sharp", "reference"))
    assert all(batch["level"][torch.isfinite(batch["level"])].abs().max() < 3 for batch in batches)
