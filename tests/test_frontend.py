"""The front end against librosa, and the network's export. Needs what training needs."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from basic_transcribe.model import Model
from basic_transcribe.types import Posteriors

torch = pytest.importorskip("torch")
librosa = pytest.importorskip("librosa")
pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import frontend  # noqa: E402
import network  # noqa: E402

RATE, HOP = frontend.SAMPLE_RATE, frontend.HOP
SPECS = {"fine": frontend.FINE, "sharp": frontend.SHARP}
SECONDS = 1.5


@cache
def front_end() -> frontend.FrontEnd:
    return frontend.FrontEnd().eval()


def spectrograms(audio: np.ndarray) -> dict[str, np.ndarray]:
    """Both spectrograms of a whole recording, in dB, shape (columns, bins)."""
    with torch.no_grad():
        fine, sharp, _ = front_end().padded(torch.from_numpy(audio.astype(np.float32))[None])
    return {"fine": fine[0].numpy(), "sharp": sharp[0].numpy()}


@cache
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, int(SECONDS * RATE)).astype(np.float32)


@cache
def tones() -> np.ndarray:
    t = np.arange(int(SECONDS * RATE)) / RATE
    return sum(0.1 * np.sin(2 * np.pi * f * t) for f in (98.0, 261.6, 659.3, 1174.7, 2793.8)).astype(np.float32)


def wavelets(spec: frontend.Spec) -> tuple[np.ndarray, np.ndarray]:
    """librosa's kernels at the full rate, and their lengths."""
    alpha = np.full(spec.n_bins, spec.alpha)
    given = {"freqs": spec.frequencies, "sr": RATE, "window": "hann", "filter_scale": 1, "gamma": spec.gamma}
    kernels, _ = librosa.filters.wavelet(**given, norm=1, pad_fft=False, alpha=alpha)
    lengths, _ = librosa.filters.wavelet_lengths(**given, alpha=alpha)
    return kernels, lengths


def loud(reference: np.ndarray, within: float) -> np.ndarray:
    """Where the reference, in dB, is within so many dB of its loudest value."""
    return reference > reference.max() - within


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("signal", [noise, tones])
def test_agrees_with_the_definition(name: str, signal) -> None:  # type: ignore[no-untyped-def]
    """Every bin within 7 % of the largest amplitude of a full-rate correlation with its wavelet; mostly 0.3 dB.

    What remains is rounding of lengths and centres to the samples of the decimated signals.
    """
    audio, spec = signal(), SPECS[name]
    kernels, _ = wavelets(spec)
    half = kernels.shape[1] // 2
    padded = np.pad(audio, (half, half + HOP))
    frames = -(-len(audio) // HOP)
    n = 1 << (len(padded) + kernels.shape[1]).bit_length()
    transformed = np.fft.fft(padded, n)
    centres = np.arange(0, frames, spec.every) * HOP
    expected = np.empty((len(centres), spec.n_bins))
    for k, kernel in enumerate(kernels):
        # The same convention as convolution: sample n // 2 of the kernel lies on the frame's centre.
        response = np.fft.ifft(transformed * np.conj(np.fft.fft(np.conj(kernel), n)))
        expected[:, k] = np.abs(response[centres]) ** 2
    db = 10 * np.log10(expected + frontend.EPSILON)
    got = spectrograms(audio)[name]
    assert got.shape == db.shape
    amplitude, reference = 10 ** (got / 20), 10 ** (db / 20)
    assert np.abs(amplitude - reference).max() < 0.07 * reference.max()
    assert np.median(np.abs(got - db)[loud(db, 20)]) < 0.3


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("signal", [noise, tones])
def test_agrees_with_librosa(name: str, signal) -> None:  # type: ignore[no-untyped-def]
    """librosa.vqt resamples recursively and cuts its basis in frequency, so 95 % within 1.8 dB above 80 Hz."""
    audio, spec = signal(), SPECS[name]
    _, lengths = wavelets(spec)
    transform = librosa.vqt(
        audio,
        sr=RATE,
        hop_length=HOP * spec.every,
        fmin=spec.fmin,
        n_bins=spec.n_bins,
        bins_per_octave=spec.bins_per_octave,
        gamma=spec.gamma,
        scale=True,
        pad_mode="constant",
        res_type="soxr_hq",
    )
    db = 10 * np.log10((np.abs(transform) / np.sqrt(lengths)[:, None]) ** 2 + frontend.EPSILON).T
    got = spectrograms(audio)[name]
    frames = min(len(got), len(db))
    inner = slice(25 // spec.every, frames - 25 // spec.every)  # beyond the reach of the edges
    high = spec.frequencies > 80
    a, b = got[inner][:, high], db[inner][:, high]
    difference = np.abs(a - b)[loud(b, 20)]
    assert difference.size > 500
    assert np.median(difference) < 0.4
    assert np.quantile(difference, 0.95) < 1.8


@pytest.mark.parametrize("pitch", [28, 40, 57, 69, 81, 93, 105])
def test_a_sine_on_a_bin_is_six_db_below_full_scale(pitch: int) -> None:
    f = 440 * 2 ** ((pitch - 69) / 12)
    both = spectrograms(np.sin(2 * np.pi * f * np.arange(int(SECONDS * RATE)) / RATE))
    for name, column in (("fine", 3 * (pitch - 21) + 1), ("sharp", pitch - 21)):
        middle = both[name][50 // SPECS[name].every : 80 // SPECS[name].every]
        np.testing.assert_allclose(middle[:, column], 10 * np.log10(0.25), atol=0.1)
        assert np.all(np.argmax(middle, axis=1) == column)


def test_frames_are_centred_on_multiples_of_the_hop() -> None:
    audio = np.zeros(2 * RATE, np.float32)
    audio[HOP * 80] = 1
    sharp = spectrograms(audio)["sharp"]
    for column in (60, 75, 84):
        power = 10 ** (sharp[:, column] / 10)
        assert np.sum(power * np.arange(len(power))) / power.sum() == pytest.approx(80, abs=0.1)


@pytest.mark.parametrize("samples", [1, 255, 256, 257, 10_000])
def test_number_of_frames(samples: int) -> None:
    with torch.no_grad():
        outputs = front_end().padded(torch.ones(1, samples))
    frames = -(-samples // HOP)
    assert [x.shape[1] for x in outputs] == [-(-frames // 2), frames, frames]


def test_blocks_equal_the_whole() -> None:
    before, after = front_end().context
    frames = 120
    audio = torch.from_numpy(np.random.default_rng(2).normal(0, 0.1, (1, before + (frames - 1) * HOP + after)))
    audio = audio.float()
    with torch.no_grad():
        whole = front_end()(audio)
        for start, count in ((0, 30), (30, 41), (70, 50)):
            block = front_end()(audio[:, start * HOP : start * HOP + before + (count - 1) * HOP + after])
            for a, b, every in zip(block, whole, (2, 1, 1), strict=True):
                part = slice(start // every, -(-(start + count) // every))
                torch.testing.assert_close(a, b[:, part], rtol=0, atol=0.01)


def test_the_reference_follows_loudness() -> None:
    """Of steady noise the reference is its mean square; it looks back, and a little ahead."""
    x = np.random.default_rng(3).normal(0, 0.1, 10 * RATE).astype(np.float32)
    with torch.no_grad():
        _, _, reference = front_end().padded(torch.from_numpy(x)[None])
    assert float(reference[0, -60:-40].mean()) == pytest.approx(-20, abs=0.3)
    assert frontend.reference_kernel().sum() == pytest.approx(1)
    assert np.all(frontend.reference_kernel() >= 0)


# ---------------------------------------------------------------- network


@cache
def random_network() -> network.Network:
    """Random weights and statistics, so that every layer matters."""
    generator = torch.Generator().manual_seed(0)
    net = network.Network().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                fan = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * fan**-0.5)
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return net


def inputs(frames: int) -> tuple[object, object]:
    generator = torch.Generator().manual_seed(frames)
    total, net = frames + 2 * network.REACH, random_network()
    fine = torch.rand(1, total // net.every, net.bins, generator=generator)
    return fine, torch.rand(1, total, 103, generator=generator)


@pytest.mark.parametrize("frames", [4, 40, 88])
def test_network_shapes(frames: int) -> None:
    with torch.no_grad():
        out = random_network()(*inputs(frames))
    for name, width in {"onset": 88, "note": 88, "offset": 88, "contour": 264, "level": 88}.items():
        assert tuple(out[name].shape) == (1, frames, width)


def test_network_blocks_equal_the_whole() -> None:
    fine, sharp = inputs(80)
    net = random_network()
    with torch.no_grad():
        whole = net(fine, sharp)
        for start, count in ((0, 20), (20, 36), (56, 24)):
            end = start + count + 2 * network.REACH
            out = net(fine[:, start // net.every : end // net.every], sharp[:, start:end])
            for name, value in out.items():
                torch.testing.assert_close(value, whole[name][:, start : start + count], rtol=1e-3, atol=1e-3)


def test_checkpoints_of_older_versions_are_read(tmp_path: Path) -> None:
    """Until 0.9.0 kernels were (time, pitch), and what a block mixes came shift by shift, not channel by channel."""
    net = random_network()
    older = net.state_dict()
    for i, block in enumerate(net.blocks):
        name = f"blocks.{i}.mix.0.weight"
        older[name] = older[name].unflatten(1, (-1, len(block.shifts))).transpose(1, 2).flatten(1, 2)
    older = {name: w.transpose(2, 3) if w.ndim == 4 else w for name, w in older.items()}
    assert older["smooth.0.weight"].shape[2:] == (5, 1)
    torch.save({"config": net.config, "ema": older, "network": net.state_dict()}, tmp_path / "older.pt")
    for weights in ("ema", "network"):
        read = network.load_network(tmp_path / "older.pt", weights).state_dict()
        assert all(torch.equal(read[name], w) for name, w in net.state_dict().items())


def test_stacked_shifts_are_those_channels_shifted() -> None:
    x = torch.rand(2, 3, 20, 5)
    y = network.stack_shifts(x, (-2, 0, 4), 18)
    assert y.shape == (2, 9, 18, 5)
    for channel in range(3):
        assert torch.equal(y[:, 3 * channel, 2:], x[:, channel, :16])  # down by -2: what was lower
        assert not y[:, 3 * channel, :2].any()
        assert torch.equal(y[:, 3 * channel + 1], x[:, channel, :18])
        assert torch.equal(y[:, 3 * channel + 2, :16], x[:, channel, 4:])
        assert not y[:, 3 * channel + 2, 16:].any()


def test_a_network_may_use_a_part_of_what_clips_hold() -> None:
    """A smaller one has fewer columns and bins of the fine spectrogram, and sees the same there."""
    net = network.load_network(Path(network.__file__).parent / "checkpoints" / "small" / "0.9.0.pt").eval()
    assert sum(p.numel() for p in net.parameters()) == 54_764
    graph = network.Graph(net)
    audio = torch.from_numpy(noise())[None].float()
    with torch.no_grad():
        few, all_ = graph.front_end.padded(audio)[0], front_end().padded(audio)[0]
    torch.testing.assert_close(few, all_[:, :: net.every // frontend.FINE.every, : net.bins], rtol=0, atol=1e-2)
    with torch.no_grad():
        out = graph(torch.zeros(1, sum(graph.context) + 11 * HOP))
    assert [tuple(x.shape) for x in out] == [(1, 12, 88), (1, 12, 88), (1, 12, 88), (1, 12, 264), (1, 12, 88)]


def test_normalise_is_clipped() -> None:
    db = torch.tensor([[-200.0, -75.0, 0.0, 100.0]])
    assert network.normalise(db, torch.tensor([0.0])).tolist() == [[0, 0, 1, 1.25]]


def test_an_exported_network_agrees_with_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    import export

    path = tmp_path / "random.onnx"
    net = network.Network().eval()
    net.load_state_dict(random_network().state_dict())
    export.export(net, path, "0.0.0")  # compares with PyTorch itself, and raises
    assert path.stat().st_size < 400_000
    model = Model(path, threads=1)
    assert model.name == "basic_transcribe 0.0.0"
    assert model.defaults == export.DEFAULTS
    graph = network.Graph(random_network()).eval()
    assert model.context == graph.context
    audio = np.random.default_rng(5).normal(0, 0.1, sum(model.context) + 11 * HOP).astype(np.float32)
    got = model.run(audio)
    with torch.no_grad():
        expected = graph(torch.from_numpy(audio)[None])
    for name, value in zip(Posteriors.ARRAYS, expected, strict=True):
        scale = 40 if name == "level" else 1
        np.testing.assert_allclose(getattr(got, name) / scale, value[0].numpy() / scale, atol=1e-3)


def test_a_network_exported_in_8_bits_is_close_to_itself_and_small(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    import export

    checkpoint = Path(export.__file__).parent / "checkpoints" / "0.7.0.pt"
    recording = Path(__file__).parent / "data" / "guitar.flac"
    path = tmp_path / "int8.onnx"
    export.export(network.load_network(checkpoint).eval(), path, "0.0.0", [recording])
    assert path.stat().st_size < 200_000
    model = Model(path, threads=1)
    audio, rate = soundfile.read(recording, dtype="float32")
    block = np.zeros(sum(model.context) + 343 * HOP, np.float32)
    block[model.context[0] :][: 300 * HOP] = soxr.resample(audio, rate, RATE)[: 300 * HOP]
    got = model.run(block)
    with torch.no_grad():
        outputs = network.Graph(network.load_network(checkpoint)).eval()(torch.from_numpy(block)[None])
    expected = dict(zip(Posteriors.ARRAYS, outputs, strict=True))
    for name in ("onset", "note", "offset", "contour"):
        a, b = expected[name][0].numpy(), getattr(got, name)
        assert np.abs(a - b).mean() < 0.005
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.98
