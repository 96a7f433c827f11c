"""Reading audio. Broken files are made here, from whole ones; ``test_fuzz.py`` breaks them at random."""

from __future__ import annotations

import contextlib
import functools
import gc
import gzip
import io
import os
import re
import signal
import struct
import sys
import tempfile
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import chain, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe import audio, damage, decoders
from basic_transcribe.audio import AudioStream, open_audio, probe
from basic_transcribe.errors import AudioError, UsageError
from basic_transcribe.loudness import LOUD, MOST_GAIN
from basic_transcribe.types import CHANNELS, Float32, Part

pytestmark = pytest.mark.filterwarnings("error")  # nothing may warn through numpy

RATE = 44_100
TARGET = 22_050
needs_av = pytest.mark.skipif(find_spec("av") is None, reason="PyAV (extra av) is missing")


@functools.cache
def music(seconds: float = 4.0, rate: int = RATE) -> np.ndarray[Any, Any]:
    """A tone that glides, so that every moment is told from every other, over a little noise."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(1).standard_normal(len(t))
    return (0.3 * np.sin(2 * np.pi * (200 * t + 100 * t**2)) + 0.02 * noise).astype(np.float32)


@functools.cache
def encoded(kind: str, subtype: str | None = None, seconds: float = 4.0, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, music(seconds, rate), rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def wav(
    data: bytes,
    rate: int = RATE,
    channels: int = 1,
    bits: int = 16,
    data_size: int | None = None,
    riff: int | None = None,
) -> bytes:
    """A WAV file with whatever header."""
    width = channels * bits // 8
    fmt = struct.pack("<HHIIHH", 1, channels, rate, rate * width & 0xFFFFFFFF, width & 0xFFFF, bits)
    sizes = [struct.pack("<I", n) for n in (36 + len(data) if riff is None else riff, data_size or 0)]
    if data_size is None:
        sizes[1] = struct.pack("<I", len(data))
    return b"RIFF" + sizes[0] + b"WAVEfmt \x10\0\0\0" + fmt + b"data" + sizes[1] + data


def pcm(samples: np.ndarray[Any, Any]) -> bytes:
    return np.round(samples * 32767).astype("<i2").tobytes()


def damaged(data: bytes, size: int, at: float = 0.5, seed: int = 0) -> bytes:
    """The data with ``size`` random bytes at a fraction of its length."""
    start = int(len(data) * at)
    return data[:start] + np.random.default_rng(seed).bytes(size) + data[start + size :]


def without_length(mp3: bytes) -> bytes:
    tag = max(mp3[:256].find(b"Xing"), mp3[:256].find(b"Info"))
    assert tag > 0
    return mp3[:tag] + bytes(4) + mp3[tag + 4 :]


def read(
    source: Any, sample_rate: float | None = None, target_rate: int = RATE, part: Part | None = None
) -> tuple[Any, AudioStream]:
    """All samples, and the exhausted stream. Bytes are read as a file object."""
    source = io.BytesIO(source) if isinstance(source, bytes) else source
    with open_audio(source, sample_rate, target_rate=target_rate, part=part) as stream:
        blocks = list(stream)
    assert all(block.dtype == np.float32 and block.ndim == 1 and len(block) for block in blocks)
    assert stream.samples_read == sum(map(len, blocks))
    return np.concatenate([np.zeros(0, np.float32), *blocks]), stream


def warning(stream: AudioStream) -> str:
    """The only warning."""
    assert len(stream.warnings) == 1, stream.warnings
    return stream.warnings[0]


def delay(samples: Any, reference: Any) -> int:
    """By how many samples the first is later than the second."""
    size = 1 << (len(samples) + len(reference)).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.conj(np.fft.rfft(reference, size))
    return (int(np.argmax(np.fft.irfft(spectrum, size))) + size // 2) % size - size // 2


# --- whole files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "subtype", "tolerance"),
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_U8", 1e-2),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("AIFF", "PCM_16", 1e-4),
        ("AU", "PCM_16", 1e-4),
        ("CAF", "PCM_16", 1e-4),
        ("W64", "PCM_16", 1e-4),
        ("RF64", "PCM_16", 1e-4),
        ("FLAC", "PCM_16", 1e-4),
        ("OGG", "VORBIS", 0.1),
        ("MP3", None, 0.1),
    ],
)
def test_whole_file(kind: str, subtype: str | None, tolerance: float) -> None:
    samples, stream = read(encoded(kind, subtype))
    assert len(samples) == len(music())
    np.testing.assert_allclose(samples, music(), atol=tolerance)
    assert stream.warnings == []
    assert stream.duration == pytest.approx(4.0)


def test_opus() -> None:
    samples, stream = read(encoded("OGG", "OPUS", rate=48_000), target_rate=48_000)
    assert len(samples) == 4 * 48_000
    assert delay(samples, music(rate=48_000)) == 0
    assert stream.warnings == []


def test_stereo_is_averaged() -> None:
    left, right = music(), music()[::-1]
    samples, stream = read(np.stack([left, right], axis=1), RATE)
    np.testing.assert_allclose(samples, (left + right) / 2, atol=1e-7)
    assert stream.warnings == []


# --- resampling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1_000, 8_000, 16_000, 22_050, 44_100, 44_099.5, 48_000, 96_000, 768_000])
@pytest.mark.parametrize("frames", [1, 2, 1_000, 25_001])
def test_stream_equals_one_shot(rate: float, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "BLOCK_SECONDS", 777 / rate)
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, frames).astype(np.float32)
    samples, _ = read(noise, rate, TARGET)
    assert abs(len(samples) - round(frames * TARGET / rate)) <= 1
    expected = noise if rate == TARGET else soxr.resample(noise, rate, TARGET)
    np.testing.assert_array_equal(samples, expected)


def test_streams_do_not_hear_each_other() -> None:
    first, second, third = np.random.default_rng(3).uniform(-0.5, 0.5, (3, 40 * RATE)).astype(np.float32)
    expected = [soxr.resample(noise, RATE, TARGET) for noise in (first, second, third)]
    with open_audio(first, RATE, target_rate=TARGET) as a, open_audio(second, RATE, target_rate=TARGET) as b:
        pairs = list(zip(a, b, strict=True))
    for wanted, blocks in zip(expected[:2], zip(*pairs, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(blocks), wanted)
    with open_audio(first, RATE, target_rate=TARGET) as left_early:
        next(left_early)
    np.testing.assert_array_equal(read(third, RATE, TARGET)[0], expected[2])
    np.testing.assert_array_equal(read(third[: RATE // 2], RATE + 1, TARGET)[0],
                                  soxr.resample(third[: RATE // 2], RATE + 1, TARGET))  # fmt: skip


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_block_size_does_not_matter(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one_block, _ = read(encoded(kind), target_rate=TARGET)
    monkeypatch.setattr(decoders, "BLOCK_SECONDS", 0.1)
    many_blocks, _ = read(encoded(kind), target_rate=TARGET)
    np.testing.assert_array_equal(many_blocks, one_block)


def test_blocks_are_about_ten_seconds() -> None:
    with open_audio(np.zeros(45 * 8_000), 8_000, target_rate=TARGET) as stream:
        lengths = [len(block) / TARGET for block in stream]
    assert sum(lengths) == pytest.approx(45, abs=1e-4)
    assert max(lengths) < 11


class LongWav(io.RawIOBase):
    """A WAV file of any length that is nowhere: a header, then a sawtooth."""

    def __init__(self, seconds: int, bits: int = 8, tail: bytes = b"") -> None:
        size = seconds * 16_000 * bits // 8
        self._head = wav(b"", rate=16_000, bits=bits, data_size=size % 2**32, riff=(size + 36) % 2**32)
        self._size = size + len(self._head) + len(tail)
        self._tail = tail
        self._position = 0
        self.bytes_read = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, count: int = -1) -> bytes:
        count = min(count, self._size - self._position)
        head = self._head[self._position : self._position + count]
        data = head + bytes(range(64, 192)) * ((count - len(head)) // 128 + 1)
        self._position += count
        self.bytes_read += count
        ending = min(count, max(0, self._position - (self._size - len(self._tail))))
        return data[: count - ending] + self._tail[len(self._tail) - (self._size - self._position) - ending :][:ending]


def test_memory_does_not_grow() -> None:
    def peak(seconds: int) -> int:
        tracemalloc.start()
        try:
            with open_audio(LongWav(seconds), target_rate=TARGET) as stream:
                for _ in stream:
                    pass
            assert stream.samples_read == seconds * TARGET
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(30)  # imports
    assert peak(900) < 1.1 * peak(60)


# --- rows 1 to 7: little, no or bad audio -----------------------------------------------------------------------------


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(AudioError, match=r"a\.wav: empty file"):
        read(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="empty file"):
        read(b"")


@pytest.mark.parametrize(
    "text", [b"hello\n", b"These are words, not waves.\n" * 1000, b"#EXTM3U\n/etc/passwd\n", b"\0" * 5000]
)
def test_not_audio(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(text)
    with pytest.raises(AudioError, match=r"a\.wav: not audio"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU"])
def test_header_without_samples(kind: str) -> None:
    samples, stream = read(encoded(kind, seconds=0))
    assert len(samples) == 0
    assert warning(stream).startswith("no samples")


@pytest.mark.parametrize("rate", [16_000, 22_050, RATE])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_header_without_samples(rate: int, channels: int) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.repeat(music(1.0, rate)[:, None], channels, axis=1), rate, format="MP3")
    whole = buffer.getvalue()
    for end in (200, whole.find(whole[:2], 4), whole.find(whole[:2], 4) + 3):  # inside the header, after it
        for data in (whole[:end], tag(256) + whole[:end], whole[:end] + b"TAG" + bytes(125)):
            samples, stream = read(data)
            assert len(samples) == 0
            assert stream.info == audio.AudioInfo(rate, channels, None, "MP3")
            assert warning(stream).startswith("no samples")
    with pytest.raises(AudioError, match=r"^audio: damaged or cut short: nothing of it can be decoded; export"):
        read(without_length(whole)[:150])


def test_one_sample() -> None:
    samples, stream = read(wav(pcm(np.array([0.5]))))
    np.testing.assert_allclose(samples, [0.5], atol=1e-4)
    assert stream.warnings == []


@pytest.mark.parametrize(("value", "warnings"), [(0.0, ["silence: there is nothing to hear"]), (0.25, [])])
def test_silence_and_dc(value: float, warnings: list[str]) -> None:
    samples, stream = read(np.full((RATE, 2), value), RATE, TARGET)
    assert np.isfinite(samples).all()
    np.testing.assert_allclose(samples[2000:-2000], value, atol=1e-4)
    assert stream.warnings == warnings


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e7])
@pytest.mark.parametrize("channels", [1, 2])
def test_bad_sample_is_located(value: float, channels: int) -> None:
    samples = np.zeros((12 * RATE, channels), np.float32)
    samples[11 * RATE + 441, -1] = value
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype="FLOAT")
    for source, rate in ((buffer.getvalue(), None), (samples, RATE)):
        with pytest.raises(AudioError, match=rf"sample {11 * RATE + 441} \(11\.010 s\) is "):
            read(source, rate)


def test_double_beyond_single_precision_is_rejected() -> None:
    with pytest.raises(AudioError, match=r"sample 1 .* is inf"):
        read(np.array([0.0, 1e300, 0.0]), RATE)


@pytest.mark.parametrize("gain", [4.0, 100.0])
def test_clipping(gain: float) -> None:
    loud = gain * music()
    for samples in (np.clip(loud, -1, 1), np.clip(loud, -1.1, 1.1)):
        _, stream = read(samples, RATE)
        assert warning(stream).startswith("clipped: ")
    _, stream = read(wav(pcm(np.clip(loud, -1, 1))))
    assert warning(stream).startswith("clipped: ")


@pytest.mark.parametrize("gain", [4.0, 100.0])
def test_above_full_scale_nothing_is_cut_off(gain: float) -> None:
    loud = gain * music()
    samples, stream = read(loud, RATE)
    np.testing.assert_array_equal(samples, loud)
    share = np.mean(np.abs(loud) > 1)
    assert warning(stream).startswith(f"over full scale: {share:.1%} of the samples; nothing is cut off here")
    loud[np.abs(loud) > 1] *= np.random.default_rng(5).random(np.count_nonzero(np.abs(loud) > 1)) < 9e-4
    assert read(loud, RATE)[1].warnings == []  # a few peaks are no matter


@pytest.mark.parametrize("block", [0.01, 10])
@pytest.mark.parametrize(("peak", "level"), [(0.0099, 40), (0.0009, 61), (1.2e-5, 98), (-0.005, 46)])
def test_hardly_anything_to_hear(peak: float, level: int, block: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "BLOCK_SECONDS", block)
    quiet = np.float32(0.9 * peak) * np.ones((RATE, 2), np.float32)
    quiet[RATE // 5 : 3 * RATE // 10] = peak
    lost = "notes may be missing" if level > 60 else "velocities are low"
    said = f"very quiet: its loudest tenth of a second is {level} dB below full scale; {lost}, so raise its level"
    assert warning(read(quiet, RATE)[1]) == f"{said} when it is recorded"
    assert warning(read(quiet / 1000, RATE)[1]) == "silence: there is nothing to hear"


@pytest.mark.parametrize("block", [0.01, 0.77, 10.0])
def test_clicks_do_not_make_a_quiet_recording_loud(block: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "BLOCK_SECONDS", block)
    rng = np.random.default_rng(6)
    quiet = 0.005 * music() / np.abs(music()).max()
    said = warning(read(quiet, RATE)[1])
    assert said.startswith("very quiet: its loudest tenth of a second is 4")
    for start in rng.integers(0, len(quiet) - 100, 12):
        quiet[start : start + 50] += rng.uniform(-0.6, 0.6, 50)
    assert warning(read(quiet, RATE)[1])[:60] == said[:60]
    short = np.repeat(np.float32([0, 0.5, 0]), RATE // 20)
    assert read(short, RATE)[1].warnings == read(short[: RATE // 25 + RATE // 20], RATE)[1].warnings == []


def raised(samples: Float32, tuning: float | None = None) -> tuple[Float32, AudioStream]:
    with open_audio(samples, RATE, target_rate=RATE, tuning=tuning, raises=True) as stream:
        return np.concatenate(list(stream)), stream


@pytest.mark.parametrize("tuning", [None, 0.0])
@pytest.mark.parametrize("block", [0.7, 10.0])
def test_a_faint_recording_is_made_louder(block: float, tuning: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "BLOCK_SECONDS", block)
    loud = music(12.0) / np.abs(music()).max()
    samples, stream = raised(loud, tuning)
    assert stream.gain == 0.0
    np.testing.assert_array_equal(samples, loud)
    clicks = np.zeros_like(loud)
    clicks[np.random.default_rng(7).integers(0, len(loud), 30)] = 0.5
    gains = {}
    for softer in (0.02, 0.003):
        for added in (0 * loud, clicks):
            samples, stream = raised(softer * loud + added, tuning)
            gains[softer] = stream.gain
            assert 0.02 < stream.gain / 20 + np.log10(softer) - np.log10(LOUD) < 0.2  # it is of the peaks of a while
            np.testing.assert_allclose(samples, 10 ** (stream.gain / 20) * (softer * loud + added), rtol=1e-5)
    assert gains[0.003] - gains[0.02] == pytest.approx(20 * np.log10(0.02 / 0.003), abs=1e-3)
    assert raised(1e-5 * loud, tuning)[1].gain == raised(0 * loud, tuning)[1].gain == MOST_GAIN


def test_a_recording_that_begins_softly_is_not_made_louder() -> None:
    loud = music(40.0) / np.abs(music()).max()
    loud[: 20 * RATE] *= np.float32(0.001)
    assert raised(loud)[1].gain == raised(loud, 0.0)[1].gain == 0.0
    loud[: 38 * RATE] = 0.0  # of which nothing is heard
    assert raised(loud)[1].gain == raised(loud, 0.0)[1].gain == 0.0


def test_what_is_heard_decides_whether_it_is_quiet() -> None:
    """Only the part and the channel that are used, and of opposite channels the one that is used."""
    silence = "silence: there is nothing to hear"
    stereo = np.stack([music(), music()], axis=1)
    stereo[RATE : 2 * RATE] = 0
    assert read(stereo, RATE)[1].warnings == []
    assert warning(read(stereo, RATE, part=Part(1.0, 2.0))[1]) == silence
    assert warning(read(stereo, RATE, part=Part(channel="side"))[1]) == silence
    assert warning(read(stereo * [0, 1], RATE, part=Part(channel="left"))[1]) == silence
    assert warning(read(0.005 * stereo, RATE, part=Part(channel="mid"))[1]).startswith("very quiet: ")
    opposite = stereo * [1, -0.9]
    assert warning(read(opposite, RATE)[1]).startswith("opposite phase: ")
    assert [w.split(":")[0] for w in read(0.01 * opposite, RATE)[1].warnings] == ["opposite phase", "very quiet"]


@pytest.mark.parametrize("frequency", [55, 440, 4000])
def test_full_scale_is_not_clipping(frequency: float) -> None:
    _, stream = read(wav(pcm(np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE))))
    assert stream.warnings == []


# --- rows 8 to 13: cut and damaged files ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "W64", "RF64"])
def test_cut_pcm(kind: str) -> None:
    whole = encoded(kind)
    samples, stream = read(whole[: len(whole) // 2])
    assert len(samples) == pytest.approx(2 * RATE, abs=100)
    np.testing.assert_allclose(samples, music()[: len(samples)], atol=1e-4)
    assert warning(stream) == "cut short or damaged: its header promises 4.00 s, only 2.00 s could be read"


def test_cut_caf() -> None:
    with pytest.raises(AudioError, match="damaged"):
        read(encoded("CAF")[:200_000])


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "OGG", "MP3"])
def test_trailing_bytes_are_no_damage(kind: str) -> None:
    samples, stream = read(encoded(kind) + b"TAG" + bytes(125))
    assert len(samples) == 4 * RATE
    assert [w for w in stream.warnings if "Ogg" not in w] == []


def test_cut_mp3() -> None:
    whole = encoded("MP3")
    samples, stream = read(whole[: len(whole) // 2])
    assert 1.8 * RATE < len(samples) < 2.1 * RATE
    assert delay(samples, music()[: len(samples)]) == 0
    assert warning(stream).startswith("cut short or damaged: its header promises 4.00 s, only ")


def test_mp3_without_length() -> None:
    """libsndfile alone stops at a length it estimates: here after 58 % of the file."""
    untagged = without_length(encoded("MP3"))
    for data in (untagged, b"ID3\x03\0\0\0\0\x10\0" + bytes(2048) + untagged, untagged + b"TAG" + bytes(125)):
        samples, stream = read(data)
        assert len(samples) == pytest.approx(4 * RATE, abs=5000)
        assert 0 <= delay(samples, music()) < 3000
        assert stream.duration is None
        assert stream.warnings == []


def test_joined_mp3() -> None:
    whole = encoded("MP3", seconds=16.0)
    samples, stream = read(whole + whole)
    assert len(samples) == 16 * RATE
    assert warning(stream).startswith("not read after 16.00 s")
    assert read(whole + whole, part=Part(1.0, 2.0))[1].warnings == []


@pytest.mark.parametrize("rate", [RATE, 22_050])
def test_joined_ogg(rate: int) -> None:
    first, second = encoded("OGG", "VORBIS"), encoded("OGG", "VORBIS", seconds=2.0, rate=rate)
    assert first[14:18] != second[14:18]  # the numbers of the streams
    samples, stream = read(first + second)
    assert len(samples) == 4 * RATE
    assert warning(stream).startswith("not read after 4.00 s")
    assert read(first + second, part=Part(1.0, 2.0))[1].warnings == []


@pytest.mark.parametrize("gap", [b"", b"\0"])
@pytest.mark.parametrize(
    ("kind", "subtype", "frames"), [("WAV", "PCM_16", 30_000), ("WAV", "PCM_U8", 30_001), ("AIFF", "PCM_16", 30_000)]
)
def test_joined_wav_and_aiff(kind: str, subtype: str, frames: int, gap: bytes) -> None:
    first = encoded(kind, subtype, frames / RATE)
    for second in (encoded(kind, subtype), encoded(kind, subtype)[:10]):
        samples, stream = read(first + gap + second)
        np.testing.assert_array_equal(samples, read(first)[0])
        assert len(samples) == frames
        assert warning(stream).startswith("not read after 0.68 s")
        assert stream.duration == pytest.approx(frames / RATE)
        assert read(first + gap + second, part=Part(end=0.5))[1].warnings == []


def test_cut_flac() -> None:
    whole = encoded("FLAC")
    samples, stream = read(whole[: len(whole) // 2])
    assert 1.5 * RATE < len(samples) < 2.5 * RATE
    good = len(samples) - 8192  # the last frames before the damage may be lost
    np.testing.assert_allclose(samples[:good], music()[:good], atol=1e-4)
    first, second = stream.warnings
    assert first.startswith(f"damaged at {len(samples) / RATE:.2f} s")
    assert second.startswith("cut short or damaged: its header promises 4.00 s")


@pytest.mark.parametrize("places", [[0.5], [0.3, 0.6], [0.1, 0.1001, 0.9]])
@pytest.mark.parametrize("block", [0.05, 10.0])
def test_damaged_flac_is_read_on_after_silence(
    places: list[float], block: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "BLOCK_SECONDS", block)
    data = encoded("FLAC")
    for place in places:
        data = damaged(data, 20, place)
    samples, stream = read(data)
    assert len(samples) == 4 * RATE
    wrong = np.abs(samples - music()) > 1e-4
    assert not samples[wrong].any()
    assert wrong.sum() <= len(places) * 2 * 8192
    first, last = (np.flatnonzero(wrong)[[0, -1]] / RATE).tolist()
    assert warning(stream).startswith("damaged at ")
    said = [float(time) for time in re.findall(r"(\d+\.\d\d) s", warning(stream))]
    assert said[0] == pytest.approx(first, abs=0.01)
    assert first - 0.01 <= said[-1] <= last


def test_flac_damaged_everywhere() -> None:
    data = bytearray(encoded("FLAC", seconds=16.0))
    for position in range(1000, len(data), 300):
        data[position] ^= 1
    _, stream = read(bytes(data))
    assert stream.warnings[0].startswith("damaged at 0.00 s: ")


def test_streamed_flac_knows_no_length() -> None:
    whole = bytearray(encoded("FLAC"))
    fields = int.from_bytes(whole[18:26], "big")
    whole[18:26] = (fields >> 36 << 36).to_bytes(8, "big")
    samples, stream = read(bytes(whole))
    np.testing.assert_allclose(samples, music(), atol=1e-4)
    assert stream.duration is None
    assert stream.warnings == []


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", RATE), ("OPUS", 48_000)])
def test_cut_ogg(subtype: str, rate: int) -> None:
    whole = encoded("OGG", subtype, rate=rate)
    for cut in (len(whole) // 2, len(whole) - 10, whole.rfind(b"OggS")):  # inside a page, and between two
        samples, stream = read(whole[:cut], target_rate=rate)
        assert len(samples) > 0.25 * cut / len(whole) * 4 * rate
        assert delay(samples, music(rate=rate)[: len(samples)]) == 0
        assert warning(stream).startswith("cut short: the last page")


@pytest.mark.parametrize("size", [1, 500, 5000])
@pytest.mark.parametrize(
    ("kind", "subtype", "rate"), [("OGG", "VORBIS", RATE), ("OGG", "OPUS", 48_000), ("MP3", None, RATE)]
)
def test_damage_in_the_middle(kind: str, subtype: str | None, rate: int, size: int) -> None:
    samples, stream = read(damaged(encoded(kind, subtype, rate=rate), size), target_rate=rate)
    assert len(samples) > rate
    if kind == "MP3" and size == 1:  # it has no checksums
        assert stream.warnings == []
        return
    place = re.match(r"damaged at (\d\.\d\d) s.*: what could be decoded was used, notes after it", stream.warnings[0])
    assert place
    assert float(place[1]) == pytest.approx(1.5, abs=0.6)


def test_damage_of_an_mp3_without_length() -> None:
    whole = without_length(encoded("MP3"))
    _, stream = read(damaged(whole, 500))
    assert warning(stream).startswith("damaged at ")
    assert read(damaged(whole, 500), part=Part(0.0, 1.0))[1].warnings == []


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 0x7FFFF000])
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF])
def test_streamed_wav(size: int, riff: int) -> None:
    samples, stream = read(wav(pcm(music()), data_size=size, riff=riff))
    np.testing.assert_allclose(samples, music(), atol=1e-4)
    assert stream.warnings == []


def test_empty_data_chunk_before_another_chunk_is_no_stream() -> None:
    listed = b"LIST" + struct.pack("<I", 1000) + bytes(1000)
    samples, stream = read(wav(listed, data_size=0))
    assert len(samples) == 0
    assert warning(stream).startswith("no samples")


# --- tags, and headers as programs write them -------------------------------------------------------------------------


def tag(size: int, version: int = 3, footer: bool = False) -> bytes:
    """An ID3 tag, with a picture of nothing."""
    digits = bytes(size >> 7 * i & 127 for i in (3, 2, 1, 0))
    picture = b"APIC" + struct.pack(">I", size - 10) + bytes(size - 8)
    return b"ID3" + bytes([version, 0, 16 * footer]) + digits + picture + (b"3DI\4\0\x10" + digits) * footer


TAGS = {
    "tag": tag(256),
    "picture": tag(3_000_000),
    "footer": tag(256, 4, footer=True),
    "two": tag(256) + tag(100, 4),
}
ZEROS = {"zeros after a tag": tag(256) + bytes(5000), "zeros": bytes(3000)}  # before MPEG frames only


LISTED = b"LIST" + struct.pack("<I", 20_000) + bytes(20_000)


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("tail", [b"", LISTED])
def test_a_size_that_does_not_hold_more_than_4_gib(bits: int, tail: bytes) -> None:
    """As many recorders write it, modulo 4 GiB."""
    seconds = 11 * 2**30 // (2000 * bits)
    samples, stream = read(LongWav(seconds, bits, tail), target_rate=16_000, part=Part(seconds - 10))
    assert stream.info == audio.AudioInfo(16_000, 1, seconds, "WAV")
    assert len(samples) == 10 * 16_000
    assert stream.warnings == []


@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("tail", [b"", LISTED, tag(256)])
@pytest.mark.parametrize("declared", [None, 0])
def test_what_is_beyond_the_wrapped_size_is_read(
    kind: str, subtype: str, tail: bytes, declared: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "WRAP", 2**16)
    whole = encoded(kind, subtype)
    at = whole.find(b"data") + 4
    size = int.from_bytes(whole[at : at + 4], "little") % 2**16 if declared is None else declared
    data = whole[:4] + struct.pack("<I", 9) + whole[8:at] + struct.pack("<I", size) + whole[at + 4 :]
    samples, stream = read(tag(256) + data + (tail if size else b""))
    np.testing.assert_array_equal(samples, read(whole)[0])
    assert stream.warnings == []
    assert (stream.info.format, stream.duration) == ("WAV", 4.0)


@pytest.mark.parametrize("riff", [36 + RATE, None])
def test_a_size_that_is_too_small_is_said(riff: int | None) -> None:
    data = wav(pcm(music()), data_size=RATE, riff=riff)
    samples, stream = read(data)
    np.testing.assert_allclose(samples, music()[: RATE // 2], atol=1e-4)
    assert warning(stream).startswith(
        "not read after 0.50 s, where its header says that it ends, though 3.50 s of sound may follow; repair the"
    )
    assert read(data, part=Part(end=0.4))[1].warnings == []
    for after in (bytes(100_000), LISTED, b"\0" + LISTED, b"TAG" + bytes(60_000), tag(60_000), pcm(music(0.2))):
        assert read(wav(pcm(music()) + after, data_size=8 * RATE, riff=riff and 36 + 8 * RATE))[1].warnings == []


def test_a_size_of_8_bit_that_does_not_hold_more_than_4_gib_is_said() -> None:
    stream = open_audio(LongWav(300_000), target_rate=16_000)
    length = 300_000 - 2**32 / 16_000
    assert stream.duration == pytest.approx(length)
    stream.close()
    _, stream = read(LongWav(300_000), target_rate=16_000, part=Part(length - 1, length + 5))
    assert stream.warnings[0].startswith(f"not read after {length:.2f} s, where its header says that it ends, though ")


@pytest.mark.parametrize(
    ("kind", "before"),
    [
        *((kind, before) for kind in ("MP3", "bare MP3") for before in (TAGS | ZEROS)),
        *((kind, before) for kind in ("WAV", "FLAC") for before in TAGS),
    ],
)
def test_tags_before_the_sound(kind: str, before: str) -> None:
    data = without_length(encoded("MP3")) if kind == "bare MP3" else encoded(kind)
    samples, stream = read((TAGS | ZEROS)[before] + data)
    np.testing.assert_array_equal(samples, read(data)[0])
    assert stream.warnings == []


def test_nothing_but_tags() -> None:
    with pytest.raises(AudioError, match="holds a tag but no audio; record or copy it again"):
        read(tag(256))
    with pytest.raises(AudioError, match="not audio"):
        read(b"TAG" + bytes(125))
    with pytest.raises(AudioError, match="not audio"):
        read(b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(100))  # longer than the file


def chunks(*parts: tuple[bytes, bytes], form: bytes = b"WAVE") -> bytes:
    """A RIFF file of chunks, each an even number of bytes."""
    body = b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in parts)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + form + body


def test_chunks_of_wav() -> None:
    form = (b"fmt ", wav(b"")[20:36])
    data = (b"data", pcm(music()))
    for parts in (
        [(b"junk", b""), form, (b"LIST", b""), data],
        [form, (b"LIST", b"odd"), data, (b"id3 ", b"odd as well")],
        [(b"bext", bytes(100_000)), form, (b"fact", bytes(4)), data],
    ):
        samples, stream = read(chunks(*parts))
        np.testing.assert_allclose(samples, music(), atol=1e-4)
        assert stream.warnings == []
    for parts in ([data, form], [form], [data], [form, (b"data", b""), data]):
        with pytest.raises(AudioError, match=r"damaged.*; export it again"):
            read(chunks(*parts))


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_extensible_wav(bits: int) -> None:
    whole = np.round(music().astype(float) * 2**31).astype("<i4")  # 24 bits in 32, or all of them
    data = whole.tobytes() if bits != 16 else pcm(music())
    width = 2 if bits == 16 else 4
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, RATE * width, width, 8 * width, 22, bits, 4)
    samples, stream = read(
        chunks((b"fmt ", form + b"\1\0" + bytes.fromhex("000000001000800000aa00389b71")), (b"data", data))
    )
    np.testing.assert_allclose(samples, music(), atol=1e-4)
    assert stream.warnings == []


def test_bw64() -> None:
    samples, stream = read(encoded("RF64").replace(b"RF64", b"BW64", 1))
    np.testing.assert_allclose(samples, music(), atol=1e-4)
    assert stream.warnings == []


# --- time: every format begins where the wav does ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "subtype", "rate"),
    [("MP3", None, RATE), ("OGG", "VORBIS", RATE), ("OGG", "OPUS", 48_000), ("OGG", "OPUS", 24_000)],
)
def test_encoders_delays_are_taken_out(kind: str, subtype: str | None, rate: int) -> None:
    samples, _ = read(encoded(kind, subtype, rate=rate), target_rate=TARGET)
    expected, _ = read(encoded("WAV"), target_rate=TARGET)
    assert abs(delay(samples, expected)) < 0.003 * TARGET


# --- claims: memory is not made for what a header promises ------------------------------------------------------------


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A gigabyte more than what is already used."""
    if sys.platform != "linux":
        pytest.skip("limits memory as Linux does")
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def claiming(kind: str) -> bytes:
    """A file of a few seconds with a header that promises terabytes, or as much as it can."""

    def put(data: bytes, at: int, value: bytes) -> bytes:
        assert at >= 0
        return data[:at] + value + data[at + len(value) :]

    if kind == "WAV":
        return wav(pcm(music()), rate=768_000, channels=64, data_size=0xE0000000)
    data = encoded("FLAC" if kind == "picture in FLAC" else kind)
    if kind == "W64":
        return put(data, data.find(b"data\xf3\xac") + 16, struct.pack("<Q", 2**62))
    if kind == "RF64":
        return put(data, data.find(b"ds64") + 8, struct.pack("<QQQ", 2**62, 2**62 - 100, 2**60))
    if kind == "AIFF":
        return put(put(data, data.find(b"COMM") + 10, b"\xe0\0\0\0"), data.find(b"SSND") + 4, b"\xe0\0\0\0")
    if kind == "FLAC":
        return put(data, 21, bytes([data[21] | 0x0F]) + b"\xff\xff\xff\xff")
    if kind == "OGG":
        return put(data, data.find(b"\3vorbis") + 7, b"\xf0\xff\xff\x7f")
    if kind == "MP3":
        return put(data, max(data[:256].find(b"Xing"), data[:256].find(b"Info")) + 8, b"\x7f\xff\xff\xf0")
    return data[:4] + bytes([data[4] & 127]) + data[5:42] + b"\6\xff\xff\xff" + data[42:]


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("kind", ["WAV", "W64", "RF64", "AIFF", "FLAC", "picture in FLAC", "OGG", "MP3"])
def test_no_memory_for_claims(kind: str) -> None:
    try:
        samples, _ = read(claiming(kind))
    except AudioError as error:
        assert "damaged" in str(error)  # noqa: PT017
    else:
        assert len(samples) < 5 * RATE


# --- rows 14 to 16 and 19: formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0, 1, 999, 768_001, 2_000_000_000, 0xFFFFFFFF])
def test_bad_sample_rate(rate: int) -> None:
    with pytest.raises(AudioError, match="sample rate"):
        read(wav(bytes(2000), rate=rate))
    with pytest.raises(UsageError, match="sample rate"):
        read(np.zeros(2000), rate)


@pytest.mark.parametrize("channels", [65, 1024, 60_000])
def test_too_many_channels(channels: int) -> None:
    with pytest.raises(AudioError, match="channels"):
        read(wav(bytes(2 * 60_000), channels=channels))


def test_eight_channels_at_96_khz() -> None:
    channels = np.repeat(music(1.0, 96_000)[:, None], 8, axis=1)
    samples, stream = read(wav(pcm(channels), rate=96_000, channels=8), target_rate=96_000)
    np.testing.assert_allclose(samples, music(1.0, 96_000), atol=1e-4)
    assert stream.warnings == []


def test_low_sample_rate_warns() -> None:
    data = np.round(music(1.0, 8_000) * 127 + 128).astype(np.uint8).tobytes()
    samples, stream = read(wav(data, rate=8_000, bits=8), target_rate=TARGET)
    assert abs(len(samples) - TARGET) <= 1
    assert warning(stream) == "sample rate 8000 Hz: frequencies above 4000 Hz are missing"


def test_opposite_phase_falls_back_to_the_louder_channel() -> None:
    quiet_start = np.zeros((2 * RATE, 2), np.float32)
    stereo = np.concatenate([quiet_start, np.stack([-0.9 * music(), music()], axis=1)])
    samples, stream = read(stereo, RATE)
    np.testing.assert_array_equal(samples[2 * RATE :], music())
    assert "opposite phase" in warning(stream)
    assert "channel 2 was used" in warning(stream)


def test_opposite_phase_later_on_is_said() -> None:
    stereo = np.stack([music(11.0), -music(11.0)], axis=1)
    stereo[: 10 * RATE] *= [[0.01, 0]]
    samples, stream = read(stereo, RATE)
    assert warning(stream).startswith("opposite phase: for 1 s, first at 10 s, the channels cancel each other")
    np.testing.assert_allclose(samples[: 10 * RATE], stereo[: 10 * RATE, 0] / 2, atol=1e-7)
    np.testing.assert_array_equal(samples[10 * RATE :], stereo[10 * RATE :, 0])


@pytest.mark.parametrize("block", [0.01, 0.77, 10.0])
def test_the_louder_channel_is_used_only_where_they_cancel(block: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "BLOCK_SECONDS", block)
    left = music(12.3)
    right = 0.9 * left
    right[3 * RATE : 8 * RATE] *= -1
    expected = (left + right) / 2
    expected[3 * RATE : 8 * RATE] = left[3 * RATE : 8 * RATE]
    samples, stream = read(np.stack([left, right], axis=1), RATE)
    np.testing.assert_allclose(samples, expected, atol=1e-7)
    assert "for 5 s, first at 3 s, " in warning(stream)
    samples, stream = read(np.stack([left, right], axis=1), RATE, part=Part(2.0, 7.25))
    np.testing.assert_allclose(samples, expected[2 * RATE : round(7.25 * RATE)], atol=1e-7)
    assert "for 4.25 s, first at 3 s, " in warning(stream)  # a short rest is taken like what comes before it


def test_channels_near_the_limit_of_opposite_phase_do_not_go_to_and_fro() -> None:
    """Their middle is 17 and 19 dB below their side, second after second."""
    seconds = np.arange(10 * RATE) // RATE
    middle = 10 ** (np.where(seconds % 2, -17, -19) / 20)
    stereo = music(10.0)[:, None] * np.stack([middle + 1, middle - 1], axis=1) / 2
    samples, stream = read(stereo, RATE)
    assert "for 10 s, first at 0 s, " in warning(stream)
    np.testing.assert_allclose(samples, stereo[:, 0], atol=1e-7)


def test_opposite_phase_after_a_click() -> None:
    stereo = np.stack([music(5.0), -music(5.0)], axis=1)
    stereo[: RATE // 20] = 0.9
    samples, stream = read(stereo, RATE)
    np.testing.assert_array_equal(samples[RATE:], stereo[RATE:, 0])
    assert "for 4 s, first at 1 s, " in warning(stream)


def test_what_is_next_to_silent_is_not_said_to_cancel() -> None:
    for peak, said in ((0.5e-4, ["very quiet"]), (2e-4, ["opposite phase", "very quiet"])):
        stereo = peak / np.abs(music()).max() * np.stack([music(), -music()], axis=1)
        assert [w.split(":")[0] for w in read(stereo, RATE)[1].warnings] == said


def test_a_second_of_many_channels_is_not_held() -> None:
    frames = decoders.BLOCK_VALUES // 64
    assert len(audio.Mix(64, decoders.MAX_RATE).mono(np.zeros((frames, 64), np.float32))) == frames


def test_other_pairs_of_opposite_phase() -> None:
    channels = np.zeros((4 * RATE, 4))
    channels[: 2 * RATE, :2] = music()[: 2 * RATE, None] * [1, -1]
    channels[2 * RATE :, 2:] = music()[2 * RATE :, None] * [-0.9, 1]
    samples, stream = read(channels, RATE)
    np.testing.assert_array_equal(samples, music())
    assert "for 4 s, first at 0 s, " in warning(stream)
    assert "so only channel 1 or 4 was used there; " in warning(stream)


def test_a_few_samples_cancel_by_chance() -> None:
    stereo = np.stack([music(2.0), music(2.0)], axis=1)
    ending = np.concatenate([stereo, [[0.5, -0.5]] * 3])
    samples, stream = read(ending, RATE)
    np.testing.assert_array_equal(samples[-3:], [0, 0, 0])
    assert stream.warnings == []
    assert warning(read(ending[-3:], RATE)[1]).startswith("opposite phase: ")  # there is nothing else


@pytest.mark.parametrize("channels", [2, 8, 64])
def test_unrelated_channels_and_a_single_one_do_not_cancel(channels: int) -> None:
    noise = np.random.default_rng(4).uniform(-0.5, 0.5, (RATE, channels))
    _, stream = read(noise, RATE)
    assert stream.warnings == []
    noise[:, 1:] = 0
    samples, stream = read(noise, RATE)
    np.testing.assert_allclose(samples, noise[:, 0], atol=1e-7)
    assert stream.warnings == []


@pytest.mark.parametrize("block", [0.01, 0.77, 10.0])
@pytest.mark.parametrize(("channels", "used"), [(2, [0]), (2, [1]), (6, [2]), (6, [0, 1]), (24, [5])])
def test_silent_channels_do_not_make_the_others_softer(
    channels: int, used: list[int], block: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "BLOCK_SECONDS", block)
    several = 0.001 * np.random.default_rng(7).uniform(-1, 1, (round(2.6 * RATE), channels)).astype(np.float32)
    several[:, used] = music(2.6)[:, None]
    samples, stream = read(several, RATE)
    np.testing.assert_allclose(samples, several[:, used].mean(axis=1), atol=1e-6)
    assert stream.warnings == []


def test_channels_that_are_used_are_averaged_whatever_their_levels() -> None:
    """Bit for bit; also before anything is loud enough to tell."""
    stereo = np.stack([music(5.0), 0.02 * music(5.0)[::-1]], axis=1)
    stereo[: 2 * RATE] *= 1e-3
    stereo[3 * RATE :, 1] = 0
    samples, _ = read(stereo, RATE)
    np.testing.assert_array_equal(samples, stereo @ np.float32([0.5, 0.5]))


def test_a_channel_that_comes_later_gets_its_share_from_then_on() -> None:
    stereo = np.stack([music(6.0), music(6.0)[::-1]], axis=1)
    stereo[: round(2.5 * RATE), 1] = 0
    stereo[4 * RATE :, 0] = 0
    samples, stream = read(stereo, RATE)
    np.testing.assert_array_equal(samples[: 2 * RATE], stereo[: 2 * RATE, 0])
    faded = 2 * RATE + RATE // 50
    np.testing.assert_array_equal(samples[faded:], stereo[faded:].mean(axis=1))
    ramp = samples[2 * RATE : faded] / stereo[2 * RATE : faded, 0]
    np.testing.assert_allclose(ramp, np.linspace(1, 0.5, RATE // 50, endpoint=False), atol=1e-4)
    assert stream.warnings == []


def test_what_is_used_after_noise_soon_has_its_level() -> None:
    stereo = 1e-4 * np.random.default_rng(8).uniform(-1, 1, (5 * RATE, 2)).astype(np.float32)
    stereo[2 * RATE :, 0] = music(3.0)
    samples, _ = read(stereo, RATE)
    after = 2 * RATE + int(audio.FADE_SECONDS * RATE)
    assert (np.abs(samples[2 * RATE : after]) <= np.abs(stereo[2 * RATE : after, 0])).all()
    np.testing.assert_array_equal(samples[after:], stereo[after:, 0])


def test_a_soft_beginning_does_not_keep_a_silent_channel_in_the_mix() -> None:
    hiss = 3e-4 * np.random.default_rng(3).uniform(-1, 1, (8 * RATE, 2)).astype(np.float32)
    hiss[:, 0] += np.linspace(0, 1, 8 * RATE, dtype=np.float32) ** 3 * music(8.0)
    samples, _ = read(hiss, RATE)
    np.testing.assert_array_equal(samples[-RATE:], hiss[-RATE:, 0])


@pytest.mark.parametrize("size", [333, 20_000, 100_000])
def test_a_second_is_mixed_promptly_as_the_one_before_it_ought_to_have_been(size: int) -> None:
    stereo = np.stack([music(5.0), 0 * music(5.0)], axis=1)
    mix = audio.Mix(2, RATE)
    samples = np.concatenate([mix.prompt(stereo[i : i + size]) for i in range(0, len(stereo), size)])
    np.testing.assert_allclose(samples[:RATE], stereo[:RATE, 0] / 2)
    gain = np.linspace(0.5, 1, RATE, endpoint=False)
    np.testing.assert_allclose(samples[RATE : 2 * RATE], gain * stereo[RATE : 2 * RATE, 0], atol=1e-6)
    np.testing.assert_array_equal(samples[2 * RATE :], stereo[2 * RATE :, 0])


# --- rows 20, 22, 31, 32: names, permissions, changes, pipes ----------------------------------------------------------


@pytest.mark.parametrize("name", ["line\nbreak.wav", "\N{VIOLIN}.wav", "-rf.wav", " .wav", os.fsdecode(b"caf\xe9.wav")])
def test_troublesome_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        Path(name).write_bytes(encoded("WAV"))
    except (OSError, UnicodeError) as error:
        pytest.skip(f"the file system refuses the name: {error}")
    for source in (name, Path(name)):
        samples, stream = read(source)
        assert len(samples) == len(music())
        assert stream.warnings == []
    Path(name).write_bytes(b"text")
    with pytest.raises(AudioError) as caught:
        read(name)
    assert str(caught.value).isprintable()
    str(caught.value).encode()  # no surrogate is left that a terminal would choke on


def test_missing_file_folder_pipe_and_impossible_names(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: no such file; check the path$"):
        read(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="is a folder, not a recording; give"):
        read(tmp_path)
    with pytest.raises(AudioError, match=r"cannot be opened: .*; check the path$"):
        read("a\0b.wav")
    with pytest.raises(AudioError, match="cannot be opened"):
        read("x" * 300 + ".wav")
    (tmp_path / "file").touch()
    with pytest.raises(AudioError, match="cannot be opened"):
        read(tmp_path / "file" / "a.wav")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipe_and_device_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", Path(os.devnull)):
        with pytest.raises(AudioError, match="is a pipe or device, not a file; save its contents as a file"):
            read(path)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may read everything, so stop being root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no permissions of this kind here")
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    yield
    if root:
        os.seteuid(0)


def test_permission_denied(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encoded("WAV"))
    path.chmod(0)
    request.getfixturevalue("unprivileged")
    with pytest.raises(AudioError, match=r"a\.wav: permission denied"):
        read(path)


@pytest.mark.parametrize("part", [None, Part(1.0, 20.0, "left")])
@pytest.mark.parametrize("change", ["grow", "shrink", "touch"])
def test_change_while_reading(change: str, part: Part | None, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encoded("WAV", seconds=25.0))
    with open_audio(path, target_rate=TARGET, part=part) as stream:
        next(stream)
        if change == "touch":
            os.utime(path, ns=(1, 1))
        else:
            os.truncate(path, path.stat().st_size + (1000 if change == "grow" else -1000))
        with pytest.raises(AudioError, match="changed while it was read"):
            list(stream)


def pipe(data: bytes) -> io.BufferedReader:
    """The reading end of a pipe that holds the data (less than its capacity)."""
    reading, writing = os.pipe()
    with open(writing, "wb") as file:
        file.write(data)
    return open(reading, "rb")


def test_pipe() -> None:
    data = encoded("FLAC", seconds=0.5)
    assert len(data) < 65_536
    with pipe(data) as file:
        assert not file.seekable()
        samples, stream = read(file)
    np.testing.assert_allclose(samples, music(0.5), atol=1e-4)
    assert stream.warnings == []
    with pipe(b"") as file, pytest.raises(AudioError, match="empty file"):
        read(file)


def test_file_object_is_read_from_its_start_and_stays_open() -> None:
    file = io.BytesIO(encoded("WAV"))
    file.seek(1000)
    assert len(read(file)[0]) == len(music())
    assert not file.closed


class BadDisk(io.BytesIO):
    """Fails on every read beyond a position."""

    def read(self, count: int | None = -1, /) -> bytes:
        if self.tell() > 100_000:
            raise OSError(5, "Input/output error")
        return super().read(count)


class LostDisk(io.BytesIO):
    """Does not even know where it is."""

    def tell(self) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_disk_error_while_the_place_is_asked_for(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AudioError, match="cannot be read: Input/output error"):
        read(LostDisk(encoded(kind)))
    assert capfd.readouterr().err == ""


class Wordless(io.BytesIO):
    """Fails after a while, with an error that is not the system's, or has no words at all."""

    error: Exception = OSError("no answer\nfrom afar")
    good = 100_000
    seeks = True

    def seekable(self) -> bool:
        return self.seeks

    def read(self, count: int | None = -1, /) -> bytes:
        if self.tell() >= self.good:
            raise self.error
        return super().read(count)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("no answer\nfrom afar"), r"no answer\nfrom afar"),
        (OSError(), "OSError"),
        (EOFError("ended too soon"), "ended too soon"),
        (zlib.error("invalid block"), "invalid block"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
@pytest.mark.parametrize("seeks", [True, False])
@pytest.mark.parametrize("good", [0, 100_000])
def test_errors_of_file_objects(
    error: Exception, words: str, seeks: bool, good: int, capfd: pytest.CaptureFixture[str]
) -> None:
    file = Wordless(encoded("WAV"))
    file.error, file.seeks, file.good = error, seeks, good
    with pytest.raises(AudioError) as caught:
        read(file)
    assert str(caught.value) == f"audio: cannot be read: {words}"
    assert capfd.readouterr().err == ""


def test_error_of_the_disk_of_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", full)
    file = Wordless(encoded("WAV"))
    file.seeks = False
    with pytest.raises(AudioError, match=r"^audio: cannot be copied to a temporary file: No space left on device; set"):
        read(file)


@pytest.mark.parametrize("size", [30, 5_000, 100_000])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_packed_files_that_are_cut_or_damaged(kind: str, size: int) -> None:
    packed = gzip.compress(encoded(kind))
    np.testing.assert_array_equal(read(gzip.GzipFile(fileobj=io.BytesIO(packed)))[0], read(encoded(kind))[0])
    for bad in (packed[: min(size, len(packed) - 9)], damaged(packed, size, 0.1)):
        with pytest.raises(AudioError, match=r"^audio: cannot be read: [A-Z]"):
            read(gzip.GzipFile(fileobj=io.BytesIO(bad)))


@pytest.mark.parametrize("part", [None, Part(start=3.0)])
@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_disk_error(kind: str, part: Part | None) -> None:
    with pytest.raises(AudioError, match="cannot be read: Input/output error"):
        read(BadDisk(encoded(kind)), part=part)


class Interrupted(io.BytesIO):
    """Calls a function at the n-th call of a method."""

    method, count = "read", 0
    act: Callable[[], object]

    def _called(self, method: str) -> None:
        self.count -= method == self.method
        if not self.count and method == self.method:
            self.act()

    def read(self, count: int | None = -1, /) -> bytes:
        self._called("read")
        return super().read(count)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._called("seek")
        return super().seek(offset, whence)

    def tell(self) -> int:
        self._called("tell")
        return super().tell()


def raising(error: BaseException) -> Callable[..., None]:
    def function(*_: object) -> None:
        raise error

    return function


@pytest.fixture
def on_signal() -> Iterator[Callable[[BaseException], None]]:
    """Sets what is raised by the handler of a signal."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda error: signal.signal(signal.SIGINT, raising(error))
    signal.signal(signal.SIGINT, before)


def outcome(file: io.BytesIO) -> BaseException | None:
    """What reading raises; if nothing, all is read."""
    try:
        assert read(file)[1].warnings == []
    except BaseException as error:
        return error
    return None


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def container(av_encoded: Encode, kind: str) -> bytes:
    return av_encoded("mov", "pcm_s16le") if kind == "mov" else encoded(kind)


KINDS = ["WAV", "FLAC", "OGG", "MP3", pytest.param("mov", marks=needs_av)]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError("reset"), TimeoutError("late"), IndexError("none"), BaseException()]
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_object_or_a_signal_raises_comes_out_as_it_is(
    kind: str,
    error: BaseException,
    av_encoded: Encode,
    on_signal: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = container(av_encoded, kind)
    on_signal(error)
    raised = 0  # at the end it is not called as often
    for act, method, count in product((raising(error), interrupt), ("read", "seek", "tell"), (1, 2, 3, 5, 8, 13, 21)):
        file = Interrupted(data)
        file.act, file.method, file.count = act, method, count
        caught = outcome(file)
        assert caught is (error if file.count <= 0 else None)
        raised += caught is error
    assert raised > 20
    assert capsys.readouterr().err == ""
    assert len(read(data)[0]) == len(music())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeoutError("late")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["read", "seek", "tell"])
def test_a_signal_before_the_first_line_of_a_callback(
    method: str,
    kind: str,
    error: BaseException,
    av_encoded: Encode,
    on_signal: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = container(av_encoded, kind)
    on_signal(error)
    codes = {getattr(c, method).__code__ for c in (decoders._Callbacks, decoders._Reader)}
    for count in (1, 2, 3, 5, 8, 13):
        calls = iter(range(count))

        def profile(frame: Any, event: str, _: object, calls: Iterator[int] = calls) -> None:
            if event == "call" and frame.f_code in codes and next(calls, None) is None:
                sys.setprofile(None)
                interrupt()

        sys.setprofile(profile)
        caught = outcome(io.BytesIO(data))
        assert caught is (None if sys.getprofile() else error)
        sys.setprofile(None)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers")
@pytest.mark.parametrize("kind", KINDS)
def test_a_timer_never_cuts_a_recording_short(
    kind: str, av_encoded: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(container(av_encoded, kind))
    whole = read(path)[0]
    # As anywhere, it may strike while an object is deleted, or before a file that is open belongs to anyone.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    before = signal.signal(signal.SIGALRM, raising(TimeoutError("late")))
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        try:
            for wait in np.geomspace(1e-4, 1e-1, 20):
                samples = None
                with contextlib.suppress(TimeoutError):
                    try:
                        signal.setitimer(signal.ITIMER_REAL, wait)
                        samples = read(path)[0]
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                assert samples is None or np.array_equal(samples, whole)
        finally:
            signal.signal(signal.SIGALRM, before)
            gc.collect()  # files that it left open


def test_a_signal_while_it_is_closed_does_not_make_it_close_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    closing: list[soundfile.SoundFile] = []
    close = soundfile.SoundFile.close

    def interrupted(self: soundfile.SoundFile) -> None:
        if self not in closing:
            soundfile._snd.sf_close(self._file)  # as it does, before it marks itself as closed
            closing.append(self)
            raise KeyboardInterrupt
        assert self.closed
        close(self)

    with monkeypatch.context() as patched:
        patched.setattr(soundfile.SoundFile, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read(encoded("FLAC"))
    assert [sound.closed for sound in closing] == [True]
    closing.clear()  # deleted only now that it is closed as ever


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_object_raises_in_a_thread(kind: str, av_encoded: Encode) -> None:
    file, error = Interrupted(container(av_encoded, kind)), RuntimeError("reset")
    file.act, file.count = raising(error), 4
    with ThreadPoolExecutor() as pool, pytest.raises(RuntimeError) as caught:
        pool.submit(read, file).result()
    assert caught.value is error


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_others_reach_the_hook_that_was_there(
    kind: str, av_encoded: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unclean:
        def __del__(self) -> None:
            raise ZeroDivisionError

    others: list[type[BaseException]] = []

    def hook(unraisable: Any) -> None:
        others.append(unraisable.exc_type)

    monkeypatch.setattr(sys, "unraisablehook", hook)
    hooks = sys.unraisablehook, sys.excepthook
    file = Interrupted(container(av_encoded, kind))
    file.act, file.count = Unclean, 4
    assert read(file)[1].warnings == []
    assert others == [ZeroDivisionError]
    file.act, file.count = raising(RuntimeError()), 4
    with pytest.raises(RuntimeError):
        read(file)
    assert hooks == (sys.unraisablehook, sys.excepthook)


@pytest.mark.parametrize("number", [5, 110])
def test_disk_error_while_seeking(number: int) -> None:
    file = Interrupted(encoded("WAV"))
    file.act, file.method, file.count = raising(OSError(number, "no answer")), "seek", 8
    with pytest.raises(AudioError, match=r"^audio: cannot be read: no answer$"):
        read(file)


def test_path_is_closed(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("open files cannot be listed here")
    (tmp_path / "a.wav").write_bytes(encoded("WAV"))
    (tmp_path / "b.wav").write_bytes(b"text")
    before = len(os.listdir("/proc/self/fd"))
    with open_audio(tmp_path / "a.wav", target_rate=TARGET) as stream:
        next(stream)
    assert list(stream) == []
    probe(tmp_path / "a.wav")
    with pytest.raises(AudioError):
        probe(tmp_path / "b.wav")
    with pytest.raises(AudioError):
        open_audio(tmp_path / "a.wav", target_rate=TARGET, part=Part(channel=2))
    assert len(os.listdir("/proc/self/fd")) == before


# --- arrays and misuse ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", ">i2", "float16", "float32", "float64", ">f4"])
def test_array_types(dtype: str) -> None:
    kind = np.dtype(dtype).kind
    scale = 1 if kind == "f" else 2 ** (8 * np.dtype(dtype).itemsize - 1)
    values = np.array([-0.5, 0.0, 0.25, 0.5])
    samples, _ = read((values * scale + (128 if kind == "u" else 0)).astype(dtype), RATE)
    np.testing.assert_array_equal(samples, values)


def test_empty_array() -> None:
    for shape in ((0,), (0, 2)):
        samples, stream = read(np.zeros(shape), RATE)
        assert len(samples) == 0
        assert warning(stream).startswith("no samples")
        assert stream.duration == 0


@pytest.mark.parametrize(
    ("array", "rate", "message"),
    [
        (np.zeros(10), None, "needs its sample_rate"),
        (np.zeros(()), RATE, "shape"),
        (np.zeros((3, 3, 3)), RATE, "shape"),
        (np.zeros((6, 1000)), RATE, "transpose"),
        (np.zeros((10, 0)), RATE, "has no channels; give"),
        (np.zeros((100, 65)), RATE, "channels"),
        (np.zeros(10, np.int64), RATE, "convert it to float"),
        (np.zeros(10, np.complex128), RATE, "convert it to float"),
        (np.zeros(10, bool), RATE, "convert it to float"),
        (np.ma.masked_less(np.arange(-3.0, 3), 0), RATE, r"array has masked values.*; give array\.filled\(0\)"),
        (np.zeros(10), np.nan, "sample rate"),
        (np.zeros(10), "44100", "sample_rate is '44100'; give a number of Hz"),
        (np.zeros(10), [RATE, RATE], "give a number of Hz"),
    ],
)
def test_unusable_arrays(array: Any, rate: float | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(array, rate)


def test_misuse() -> None:
    with pytest.raises(UsageError, match="sample_rate belongs to an array"):
        read(encoded("WAV"), RATE)
    with pytest.raises(UsageError, match="binary mode"):
        read(io.StringIO("text"))
    with pytest.raises(UsageError, match="cannot read list"):
        read([0.0, 0.1])
    with pytest.raises(UsageError, match=r"cannot read bytes: .*io\.BytesIO"):
        open_audio(b"RIFF", target_rate=RATE)  # type: ignore[arg-type]
    closed = io.BytesIO(b"RIFF")
    closed.close()
    with pytest.raises(UsageError, match="the file object is closed; open it again"):
        read(closed)


class OnlyRead:
    """A file object that can be read from, and nothing else."""

    def __init__(self, data: bytes, kind: type = bytes) -> None:
        self._file, self._kind = io.BytesIO(data), kind

    def read(self, size: int) -> Any:
        return self._kind(self._file.read(size))


class UnsureOfSeeking(OnlyRead):
    """As a member of a tar file that is read as a stream, before Python 3.12."""

    def seekable(self) -> bool:
        return bool(self._file.nothing)  # type: ignore[attr-defined]


def test_file_object_that_cannot_say_whether_it_can_seek() -> None:
    np.testing.assert_array_equal(read(UnsureOfSeeking(encoded("FLAC")))[0], read(encoded("FLAC"))[0])


def test_file_object_that_can_only_be_read() -> None:
    np.testing.assert_array_equal(read(OnlyRead(encoded("FLAC")))[0], read(encoded("FLAC"))[0])
    with pytest.raises(UsageError, match=r"read\(\) gives bytearray; give a file object whose read\(\) gives bytes"):
        read(OnlyRead(encoded("FLAC"), bytearray))


@pytest.mark.parametrize("target", [RATE, 22050])
def test_kinds_of_arrays(target: int) -> None:
    expected = read(music(), RATE, target)[0]
    for array in (np.ma.masked_array(music()), music().view(np.matrix).T):
        np.testing.assert_array_equal(read(array, RATE, target)[0], expected)


def test_probe(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(encoded("FLAC"))
    info = probe(path)
    assert (info.sample_rate, info.channels, info.duration, info.format) == (RATE, 1, 4.0, "FLAC")


def test_extensions() -> None:
    assert not audio.AUDIO_EXTENSIONS & audio.AV_EXTENSIONS
    for extension in audio.AUDIO_EXTENSIONS | audio.AV_EXTENSIONS:
        assert extension == extension.lower()
        assert extension[0] == "."


# --- parts of a recording ---------------------------------------------------------------------------------------------

PART_FILES = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("AIFF", "PCM_24"), ("CAF", "ULAW"), ("FLAC", "PCM_16")]


@functools.cache
def stereo_and_file(kind: str, subtype: str) -> tuple[np.ndarray[Any, Any], bytes]:
    """Two channels that tell every moment and each other apart, as a file and as soundfile reads all of it."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([music(), 0.25 * music()[::-1]], axis=1), RATE, format=kind, subtype=subtype)
    return soundfile.read(io.BytesIO(buffer.getvalue()), dtype="float32")[0], buffer.getvalue()


def expected_mono(stereo: np.ndarray[Any, Any], channel: str | int) -> np.ndarray[Any, Any]:
    left, right = stereo.T
    mean, difference = (left + right) / 2, (left - right) / 2
    return {"mix": mean, "left": left, "right": right, "mid": mean, "side": difference, 1: left, 2: right}[channel]


@settings(deadline=None)
@given(
    file=st.sampled_from(PART_FILES),
    as_array=st.booleans(),
    first=st.integers(0, len(music()) - 1),
    length=st.integers(1, 2 * len(music())),
    channel=st.sampled_from([*CHANNELS[1:], 1, 2]),
    block=st.sampled_from([0.003, 0.1, 1.0, 10.0]),
)
def test_part_is_a_slice(
    file: tuple[str, str], as_array: bool, first: int, length: int, channel: str | int, block: float
) -> None:
    stereo, data = stereo_and_file(*file)
    part = Part(first / RATE, (first + length) / RATE, channel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoders, "BLOCK_SECONDS", block)
        samples, stream = read(stereo, RATE, part=part) if as_array else read(data, part=part)
    np.testing.assert_array_equal(samples, expected_mono(stereo, channel)[first : first + length])
    assert stream.duration == pytest.approx(len(samples) / RATE)
    beyond = (first + length) / RATE - len(stereo) / RATE
    assert len(stream.warnings) == (beyond >= 0.01) + (float(np.abs(samples).max()) < audio.QUIET)


LOSSY = [("OGG", "VORBIS", RATE), ("OGG", "OPUS", 48_000), ("MP3", None, RATE), ("WAV", "IMA_ADPCM", RATE)]


@pytest.mark.parametrize(("kind", "subtype", "rate"), LOSSY)
def test_part_of_a_lossy_file_is_a_slice_too(kind: str, subtype: str | None, rate: int) -> None:
    data = encoded(kind, subtype, rate=rate)
    whole, _ = read(data, target_rate=rate)
    for start, end in ((0.0, 0.5), (0.01, 0.02), (1.234, 3.5), (3.9, None)):
        samples, stream = read(data, target_rate=rate, part=Part(start, end))
        stop = None if end is None else round(end * rate)
        np.testing.assert_array_equal(samples, whole[round(start * rate) : stop])
        assert stream.warnings == []


def test_part_is_resampled_alone() -> None:
    samples, stream = read(encoded("WAV", "FLOAT"), target_rate=TARGET, part=Part(1.0, 2.5))
    np.testing.assert_array_equal(samples, soxr.resample(music()[RATE : RATE * 5 // 2], RATE, TARGET))
    assert stream.duration == 1.5
    assert probe(io.BytesIO(encoded("WAV"))).duration == stream.info.duration == 4.0


def test_part_shorter_than_a_sample_is_one_sample() -> None:
    samples, _ = read(music(), RATE, part=Part(1.0, 1.0 + 1e-9))
    np.testing.assert_array_equal(samples, music()[RATE : RATE + 1])


def test_only_the_part_is_read() -> None:
    seconds = 36_000
    for part in (Part(0.0, 2.0), Part(seconds / 2, seconds / 2 + 2), Part(seconds - 2.0), Part(seconds + 2.0)):
        file = LongWav(seconds)
        with open_audio(file, target_rate=16_000, part=part) as stream:
            if part.start < seconds:
                assert sum(map(len, stream)) == 2 * 16_000
            else:
                with pytest.raises(AudioError, match=r"lasts 36000 s, so nothing is left from 36002 s"):
                    next(stream)
        assert file.bytes_read < 300_000  # of 576,000,000


class Counted(io.BytesIO):
    """Counts the bytes read."""

    bytes_read = 0

    def read(self, count: int | None = -1, /) -> bytes:
        data = super().read(count)
        self.bytes_read += len(data)
        return data


@pytest.mark.parametrize(("kind", "part"), [("FLAC", Part(14.0)), ("FLAC", Part(0.0, 2.0)), ("MP3", Part(1.0, 2.0))])
def test_only_the_part_is_decoded(kind: str, part: Part) -> None:
    data = encoded(kind, seconds=16.0)
    whole, partly = Counted(data), Counted(data)
    read(whole)
    samples, _ = read(partly, part=part)
    assert len(samples) == RATE * ((part.end or 16) - part.start)
    assert partly.bytes_read < 0.5 * whole.bytes_read  # 64 KiB tell the format


@pytest.mark.parametrize("start", [4.0, 4.5, 1e300])
@pytest.mark.parametrize("kind", ["array", "WAV", "FLAC", "OGG", "MP3"])
def test_start_beyond_the_end(kind: str, start: float) -> None:
    source, rate = (music(), RATE) if kind == "array" else (encoded(kind), None)
    with pytest.raises(AudioError, match=re.escape(f": lasts 4 s, so nothing is left from {start:g} s on; ")):
        read(source, rate, part=Part(start))


def test_start_beyond_the_end_that_no_header_tells() -> None:
    streamed = wav(pcm(music()), data_size=0xFFFFFFFF, riff=0xFFFFFFFF)
    for data, length in ((streamed, r"4"), (without_length(encoded("MP3")), r"4\.\d+")):
        with pytest.raises(AudioError, match=rf"lasts {length} s, so nothing is left from 7\.5 s"):
            read(data, part=Part(7.5))


def test_end_beyond_the_end() -> None:
    for source, rate in ((music(), RATE), (encoded("FLAC"), None), (encoded("MP3"), None)):
        samples, stream = read(source, rate, part=Part(2.5, 20.0))
        assert len(samples) == 1.5 * RATE
        assert stream.duration == 1.5
        assert warning(stream) == "the recording ends at 4 s, before the end asked for, 20 s"
        assert read(source, rate, part=Part(2.5, 4.001))[1].warnings == []


def test_part_of_an_empty_recording() -> None:
    _, stream = read(np.zeros(0), RATE, part=Part(0.0, 1.0))
    assert warning(stream).startswith("no samples")
    with pytest.raises(AudioError, match="lasts 0 s"):
        read(np.zeros(0), RATE, part=Part(1.0))


def test_part_before_and_after_damage() -> None:
    data = damaged(encoded("FLAC"), 200)
    whole, stream = read(data)
    gap = float(re.findall(r"(\d\.\d\d) s", warning(stream))[0])
    for part in (Part(0.0, gap - 0.2), Part(gap + 0.5, 3.9)):
        samples, stream = read(data, part=part)
        np.testing.assert_allclose(samples, music()[round(part.start * RATE) :][: len(samples)], atol=1e-4)
        assert len(samples) == round(part.end * RATE) - round(part.start * RATE)  # type: ignore[operator]
        assert stream.warnings == []
    for part in (Part(1.0, 3.9), Part(gap + 0.01, 3.9)):
        samples, stream = read(data, part=part)
        np.testing.assert_array_equal(samples, whole[round(part.start * RATE) : round(3.9 * RATE)])
        assert warning(stream).startswith(f"damaged at {gap:.2f} s: ")


def test_part_before_and_after_the_cut() -> None:
    for kind in ("FLAC", "MP3", "OGG"):
        data = encoded(kind)[: len(encoded(kind)) // 2]
        samples, stream = read(data, part=Part(0.25, 0.5))
        np.testing.assert_array_equal(samples, read(data)[0][RATE // 4 : RATE // 2])
        assert stream.warnings == []
    with pytest.raises(AudioError, match=r"can be read up to [12]\.\d+ s, so nothing is left from 3\.5 s"):
        read(encoded("FLAC")[: len(encoded("FLAC")) // 2], part=Part(3.5))


def test_channels_of_a_mono_recording() -> None:
    for channel in ("mix", "left", "right", "mid", 1):
        samples, stream = read(encoded("WAV", "FLOAT"), part=Part(channel=channel))
        np.testing.assert_array_equal(samples, music())
        assert stream.warnings == []
    with pytest.raises(AudioError, match=r"^audio: is mono, so there is no side signal; use channel mix$"):
        read(encoded("WAV"), part=Part(channel="side"))
    with pytest.raises(AudioError, match=r"^audio: has 1 channel, so there is no channel 2; use channel 1$"):
        read(encoded("WAV"), part=Part(channel=2))


def test_channels_of_more_than_two() -> None:
    channels = np.random.default_rng(7).uniform(-0.5, 0.5, (1000, 3)).astype(np.float32)
    for channel in ("left", "right", "mid", "side"):
        samples, _ = read(channels, RATE, part=Part(channel=channel))
        np.testing.assert_array_equal(samples, expected_mono(channels[:, :2], channel))
    np.testing.assert_array_equal(read(channels, RATE, part=Part(channel=3))[0], channels[:, 2])
    np.testing.assert_allclose(read(channels, RATE, part=Part())[0], channels.mean(axis=1), atol=1e-7)
    with pytest.raises(AudioError, match=r"has 3 channels, so there is no channel 4; use channel 1 to 3$"):
        read(channels, RATE, part=Part(channel=4))


@pytest.mark.parametrize("channel", ["left", "right", "mid", "side", 2])
def test_a_chosen_channel_is_kept_whatever_the_phase(channel: str | int) -> None:
    stereo = np.stack([-0.9 * music(), music()], axis=1)
    samples, stream = read(stereo, RATE, part=Part(channel=channel))
    np.testing.assert_array_equal(samples, expected_mono(stereo, channel))
    assert stream.warnings == []


def test_only_what_is_used_is_checked() -> None:
    samples = np.stack([music(), music()], axis=1)
    samples[3 * RATE + 441, 1] = np.nan
    samples[:RATE] = 1.5
    for part in (Part(1.0, 3.0), Part(1.0, channel="left")):
        assert read(samples, RATE, part=part)[1].warnings == []
    for part in (Part(2.0), Part(2.0, channel="right"), Part(2.0, channel=2), Part(2.0, channel="side")):
        with pytest.raises(AudioError, match=rf"sample {3 * RATE + 441} \(3\.010 s\) is nan"):
            read(samples, RATE, part=part)
    assert warning(read(samples, RATE, part=Part(0.5, 2.0))[1]).startswith("clipped: 33.3%")


# --- containers that need PyAV ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [b"\0\0\0\x1cftypM4A ", b"\x1aE\xdf\xa3\x9fB\x86\x81", b"\xff\xf1P@5\xdf\xfc"])
def test_without_pyav_the_extra_is_named(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r'pip install "basic-transcribe\[av\]"') as caught:
        read(head + bytes(1000))
    assert isinstance(caught.value.__cause__, ImportError)  # by which folders know that it may pass


Encode = Callable[..., bytes]


def gains(channels: int) -> np.ndarray[Any, Any]:
    """By which the channels of a file differ."""
    return np.linspace(1, 0.5, channels)


@pytest.fixture(scope="module")
def av_encoded(tmp_path_factory: pytest.TempPathFactory) -> Encode:
    @functools.cache
    def encode(
        muxer: str,
        codec: str | None,
        rate: int = RATE,
        video: bool = False,
        faststart: bool = False,
        layout: str = "mono",
        late: float = 0.0,
    ) -> bytes:
        import av

        path = tmp_path_factory.mktemp("av") / "file"
        with av.open(path, "w", format=muxer, options={"movflags": "faststart"} if faststart else {}) as container:
            output: Any = container
            picture = output.add_stream("mpeg4", rate=10) if video else None
            sound = output.add_stream(codec, rate=rate, layout=layout) if codec else None
            if picture:
                picture.width = picture.height = 32
                frames = [av.VideoFrame(32, 32, "yuv420p") for _ in range(40)]
                for i, frame in enumerate(frames):
                    frame.pts = i
                    output.mux(picture.encode(frame))
                output.mux(picture.encode(None))
            if sound:
                sound.bit_rate = 96_000
                if not sound.codec_context.is_open:
                    sound.codec_context.open()  # tells the frame size
                channels = av.AudioLayout(layout).nb_channels
                interleaved = (music(rate=rate)[:, None] * gains(channels)).astype(np.float32).reshape(1, -1)
                whole = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
                whole.sample_rate = rate
                whole.pts = round(late * rate)
                fit = av.AudioResampler(sound.format, layout, rate, sound.frame_size or 1024)
                for frame in fit.resample(whole) + fit.resample(None):
                    output.mux(sound.encode(frame))
                output.mux(sound.encode(None))
        return path.read_bytes()

    return encode


AV_FILES = {
    "m4a": ("ipod", "aac", RATE),
    "alac": ("ipod", "alac", RATE),
    "mov": ("mov", "pcm_s16le", RATE),
    "aac": ("adts", "aac", RATE),
    "webm": ("webm", "libopus", 48_000),
    "wma": ("asf", "wmav2", RATE),
    "flv": ("flv", "aac", RATE),
    "ts": ("mpegts", "aac", RATE),
    "avi": ("avi", "pcm_s16le", RATE),
    "ac3": ("ac3", "ac3", RATE),
    "wv": ("wv", "wavpack", RATE),
    "mxf": ("mxf_opatom", "pcm_s16le", 48_000),
}


@needs_av
@pytest.mark.parametrize("name", AV_FILES)
def test_av_whole_file(name: str, av_encoded: Encode) -> None:
    muxer, codec, rate = AV_FILES[name]
    samples, stream = read(av_encoded(muxer, codec, rate), target_rate=rate)
    assert len(samples) == pytest.approx(4 * rate, abs=0.1 * rate)
    assert abs(delay(samples, music(rate=rate))) < 0.06 * rate
    assert stream.warnings == []


@needs_av
def test_transport_streams_of_cameras_have_longer_packets(av_encoded: Encode) -> None:
    data = av_encoded("mpegts", "aac")
    packets = (data[i : i + 188] for i in range(0, len(data), 188))
    samples, stream = read(b"".join(b"\0\1\2\3" + packet for packet in packets))
    np.testing.assert_array_equal(samples, read(data)[0])
    assert stream.warnings == []


@needs_av
def test_av_lossless_is_exact_whatever_the_block_size(av_encoded: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, _ = read(av_encoded("ipod", "alac"))
    np.testing.assert_allclose(samples[: 4 * RATE], music(), atol=1e-4)
    monkeypatch.setattr(decoders, "BLOCK_SECONDS", 0.1)
    np.testing.assert_array_equal(read(av_encoded("ipod", "alac"))[0], samples)


@needs_av
@pytest.mark.parametrize(
    ("muxer", "codec", "rate", "layout"),
    [
        ("ipod", "aac", RATE, "5.1"),
        ("ipod", "aac", RATE, "7.1"),
        ("ipod", "alac", RATE, "7.1(wide)"),
        ("matroska", "libopus", 48_000, "7.1"),
        ("matroska", "flac", RATE, "7.1"),
        ("wv", "wavpack", RATE, "7.1"),
        ("wv", "wavpack", RATE, "hexadecagonal"),
    ],
)
def test_av_many_channels(muxer: str, codec: str, rate: int, layout: str, av_encoded: Encode) -> None:
    """PyAV alone reads past the last of eight or more planes, and the interpreter crashes."""
    data = av_encoded(muxer, codec, rate, layout=layout)
    channels = probe(io.BytesIO(data)).channels
    assert channels == {"5.1": 6, "hexadecagonal": 16}.get(layout, 8)
    mean, stream = read(data, target_rate=rate)
    assert stream.warnings == []
    assert abs(delay(mean, music(rate=rate))) < 0.003 * rate
    if codec in ("alac", "flac", "wavpack"):
        for i, gain in enumerate(gains(channels), 1):
            samples, _ = read(data, target_rate=rate, part=Part(channel=i))
            tolerance = 5e-3 if codec == "wavpack" else 1e-4  # 8 bit
            np.testing.assert_allclose(samples[: 4 * rate], gain * music(rate=rate), atol=tolerance)


@needs_av
@pytest.mark.parametrize("layout", ["stereo", "7.1(wide)"])
def test_frames_of_another_layout_are_damage(layout: str, av_encoded: Encode) -> None:
    mono, other = av_encoded("adts", "aac"), av_encoded("adts", "aac", layout=layout)
    whole, _ = read(mono)
    samples, stream = read(mono + other + mono)
    assert len(samples) == pytest.approx(3 * len(whole), abs=2048)
    assert not samples[len(whole) : 2 * len(whole)].any()
    assert delay(samples[-len(whole) :], whole) == 0
    assert warning(stream) == (
        "damaged at 4.04 s: what could be decoded was used, silence is in the place of the 4.04 s that are missing"
    )


@needs_av
@pytest.mark.parametrize("name", ["m4a", "alac", "mov", "webm", "ts"])
def test_av_part_is_a_slice(name: str, av_encoded: Encode) -> None:
    muxer, codec, rate = AV_FILES[name]
    data = av_encoded(muxer, codec, rate)
    whole, _ = read(data, target_rate=rate)
    for start, end in ((0.0, 0.5), (1.234, 3.5), (3.9, None)):
        samples, stream = read(data, target_rate=rate, part=Part(start, end))
        np.testing.assert_array_equal(samples, whole[round(start * rate) : end and round(end * rate)])
        assert stream.warnings == []
    assert warning(read(data, target_rate=rate, part=Part(2.0, 9.0))[1]).startswith("the recording ends at ")
    with pytest.raises(AudioError, match=r"so nothing is left from 4\.5 s"):
        read(data, part=Part(4.5))


@needs_av
def test_av_reading_ends_with_the_part(av_encoded: Encode) -> None:
    file = Counted(av_encoded("mov", "pcm_s16le"))
    samples, _ = read(file, part=Part(0.5, 1.0))
    assert len(samples) == RATE // 2
    assert file.bytes_read < 0.6 * len(file.getvalue())


@needs_av
def test_sound_of_a_video(av_encoded: Encode, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(av_encoded("matroska", "aac", video=True))
    samples, stream = read(path)
    assert len(samples) == pytest.approx(4 * RATE, abs=4000)
    assert stream.warnings == []
    assert probe(path).format == "matroska"


@needs_av
@pytest.mark.parametrize(
    ("muxer", "codec", "rate", "video"),
    [
        ("ipod", "aac", RATE, False),
        ("ipod", "alac", RATE, False),
        ("mp4", "aac", 48_000, True),
        ("mp4", "libmp3lame", RATE, True),
        ("mov", "aac", RATE, True),
        ("matroska", "aac", RATE, False),
        ("matroska", "flac", RATE, True),
        ("webm", "libopus", 48_000, False),
    ],
)
def test_encoders_delays_are_taken_out_of_containers(
    muxer: str, codec: str, rate: int, video: bool, av_encoded: Encode
) -> None:
    samples, _ = read(av_encoded(muxer, codec, rate, video=video), target_rate=rate)
    assert abs(delay(samples, music(rate=rate))) < 0.003 * rate


@needs_av
@pytest.mark.parametrize(("muxer", "late"), [("mp4", 1.5), ("matroska", 1.5), ("mpegts", 1.5), ("mp4", 0.03)])
def test_sound_that_follows_its_pictures(muxer: str, late: float, av_encoded: Encode) -> None:
    data = av_encoded(muxer, "aac", video=True, late=late)
    samples, stream = read(data)
    assert delay(samples, music()) == pytest.approx(late * RATE if late > decoders.LEAST_GAP else 0, abs=0.08 * RATE)
    assert stream.warnings == []
    assert stream.duration == pytest.approx(len(samples) / RATE, abs=0.1)
    part, stream = read(data, part=Part(1.0, 3.0))
    np.testing.assert_array_equal(part, samples[RATE : 3 * RATE])
    assert stream.warnings == []


def cut_out(data: bytes, muxer: str, *lost: tuple[float, float], later: float = 0) -> bytes:
    """A file without the packets between these times, the others where they were; from 2 s on later by so much."""
    import av

    target = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(target, "w", format=muxer) as output:
        sound = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            if not any(start <= packet.pts * packet.time_base < end for start, end in lost):
                if packet.pts * packet.time_base >= 2:
                    packet.pts += round(later / packet.time_base)
                    packet.dts += round(later / packet.time_base)
                packet.stream = sound
                output.mux(packet)
    return target.getvalue()


@needs_av
@pytest.mark.parametrize("block", [0.1, 10.0])
@pytest.mark.parametrize("lost", [[(1.0, 2.5)], [(0.5, 1.0), (2.0, 2.2)]])
@pytest.mark.parametrize(("muxer", "codec", "rate"), [("webm", "libopus", 48_000), ("matroska", "flac", RATE)])
def test_av_missing_frames_are_silence(
    muxer: str, codec: str, rate: int, lost: Any, block: float, av_encoded: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "BLOCK_SECONDS", block)
    whole, _ = read(av_encoded(muxer, codec, rate), target_rate=rate)
    data = cut_out(av_encoded(muxer, codec, rate), muxer, *lost)
    samples, stream = read(data, target_rate=rate)
    assert len(samples) == pytest.approx(len(whole), abs=0.002 * rate)
    assert delay(samples[3 * rate :], whole[3 * rate :]) == pytest.approx(0, abs=0.002 * rate)
    for start, end in lost:
        assert not samples[round((start + 0.1) * rate) : round((end - 0.1) * rate)].any()
    places, after = r"damaged at (\S+) s(?: to (\S+) s)?: ", r"silence is in the place of the (\S+) s that are missing"
    said = re.fullmatch(places + "what could be decoded was used, " + after, warning(stream))
    assert said
    assert float(said[1]) == pytest.approx(lost[0][0], abs=0.1)
    assert float(said[2] or said[1]) == pytest.approx(lost[-1][0], abs=0.1)
    assert float(said[3]) == pytest.approx(sum(end - start for start, end in lost), abs=0.1 * len(lost))
    part, _ = read(data, target_rate=rate, part=Part(1.5, 3.5))
    np.testing.assert_array_equal(part, samples[round(1.5 * rate) : round(3.5 * rate)])
    assert read(data, target_rate=rate, part=Part(0.0, 0.4))[1].warnings == []


@needs_av
def test_av_packets_lost_one_by_one_move_nothing(av_encoded: Encode) -> None:
    whole, _ = read(av_encoded("webm", "libopus", 48_000), target_rate=48_000)
    lost = [(at, at + 0.02) for at in np.arange(0.11, 3.9, 0.2)]
    samples, stream = read(cut_out(av_encoded("webm", "libopus", 48_000), "webm", *lost), target_rate=48_000)
    assert len(samples) == pytest.approx(len(whole), abs=0.05 * 48_000)
    assert "silence is in the place of the 0.3" in warning(stream)


@needs_av
@pytest.mark.parametrize("muxer", ["matroska", "mpegts"])
def test_av_hours_that_are_missing_are_not_filled(muxer: str, av_encoded: Encode) -> None:
    """Neither by the timestamps nor by the length that follows from them; the next gap is filled again."""
    codec = {"matroska": "flac", "mpegts": "aac"}[muxer]
    data = av_encoded(muxer, codec, RATE)
    whole, _ = read(data, target_rate=RATE)
    samples, stream = read(cut_out(data, muxer, (3.0, 3.4), later=20_000), target_rate=RATE)
    assert len(samples) == pytest.approx(len(whole), abs=0.01 * RATE)
    assert "silence is in the place of the 0." in stream.warnings[0]
    assert stream.warnings[0].endswith("notes after it may be early")


@needs_av
@pytest.mark.parametrize(
    ("count", "shift"), [*((1, shift) for shift in (-1_900, -300, 300, 1_500)), (3, -300), (3, -1_900), (3, 20_000)]
)
def test_av_damaged_timestamps_move_nothing(count: int, shift: int, av_encoded: Encode) -> None:
    """One that stands alone, in milliseconds; several, where they lead back or out of the recording."""
    data = bytearray(av_encoded("webm", "libopus", 48_000))
    whole, _ = read(bytes(data), target_rate=48_000)
    blocks = [match.start(1) for match in re.finditer(rb"\xa3[\x40-\x4f].\x81(..)\x80", bytes(data), re.DOTALL)]
    assert len(blocks) == 200
    for at in blocks[100 : 100 + count]:
        time = int.from_bytes(data[at : at + 2], "big", signed=True)
        data[at : at + 2] = (time + shift).to_bytes(2, "big", signed=True)
    samples, stream = read(bytes(data), target_rate=48_000)
    np.testing.assert_array_equal(samples, whole)
    assert stream.warnings == []


@needs_av
def test_several_audio_streams(tmp_path: Path) -> None:
    import av

    path = tmp_path / "a.mkv"
    with av.open(path, "w") as container:
        sounds: list[Any] = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2)]
        for sound, gain in zip(sounds, (1.0, 0.5), strict=True):
            whole = np.round(gain * 32767 * music()[None]).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, 0
            container.mux(sound.encode(frame))
    samples, stream = read(path)
    np.testing.assert_allclose(samples, music(), atol=1e-4)
    assert warning(stream) == "has 2 audio streams; only number 1 was used"


@needs_av
def test_cover_picture_is_no_video(av_encoded: Encode, tmp_path: Path) -> None:
    """As music shops write it: a picture beside the sound."""
    import av

    path = tmp_path / "a.m4a"
    with av.open(io.BytesIO(av_encoded("ipod", "aac"))) as source, av.open(path, "w", format="mp4") as target:
        sound = target.add_stream_from_template(source.streams.audio[0])
        cover: Any = target.add_stream("mjpeg", rate=1, width=32, height=32, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic
        pictures = [*cover.encode(av.VideoFrame(32, 32, "yuvj420p")), *cover.encode(None)]
        for packet in pictures:
            target.mux(packet)
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = sound
                target.mux(packet)
    with av.open(path) as container:
        assert container.streams.video
    samples, stream = read(path)
    assert abs(delay(samples, music())) < 0.003 * RATE
    assert stream.warnings == []


@needs_av
def test_aac_after_a_tag(av_encoded: Encode) -> None:
    data = av_encoded("adts", "aac")
    np.testing.assert_array_equal(read(tag(256) + data)[0], read(data)[0])


@needs_av
def test_video_without_audio(av_encoded: Encode) -> None:
    with pytest.raises(AudioError, match="no audio stream"):
        read(av_encoded("mp4", None, video=True))


@needs_av
def test_cut_m4a(av_encoded: Encode) -> None:
    index_last = av_encoded("ipod", "aac")
    with pytest.raises(AudioError, match="damaged or cut short"):
        read(index_last[: len(index_last) // 2])
    index_first = av_encoded("ipod", "aac", faststart=True)
    samples, stream = read(index_first[: len(index_first) // 2])
    assert RATE < len(samples) < 2.2 * RATE
    assert delay(samples, music()[: len(samples)]) == 0
    assert any(w.startswith("cut short or damaged: its header promises 4.00 s") for w in stream.warnings)


@needs_av
@pytest.mark.parametrize("name", ["webm", "flv", "wv"])
def test_av_cut(name: str, av_encoded: Encode) -> None:
    muxer, codec, rate = AV_FILES[name]
    whole = av_encoded(muxer, codec, rate)
    samples, stream = read(whole[: len(whole) // 2], target_rate=rate)
    assert rate < len(samples) < 3 * rate
    assert any(w.startswith("cut short or damaged") for w in stream.warnings)


@needs_av
@pytest.mark.parametrize("name", ["m4a", "aac", "flv"])
def test_av_damage_in_the_middle(name: str, av_encoded: Encode) -> None:
    samples, stream = read(damaged(av_encoded(*AV_FILES[name]), 500))
    assert len(samples) > RATE
    assert any(w.startswith("damaged at ") for w in stream.warnings)


@needs_av
@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("atom", [b"stsz", b"stts", b"stco", b"stsc", b"dref", b"stsd"])
def test_no_memory_for_claims_of_m4a(atom: bytes, av_encoded: Encode) -> None:
    data = av_encoded("ipod", "aac")
    at = data.find(atom) + (12 if atom == b"stsz" else 8)  # the number of entries
    claim = data[:at] + b"\x7f\xff\xff\xf0" + data[at + 4 :]
    try:
        samples, _ = read(claim)
    except AudioError as error:
        assert "damaged" in str(error)  # noqa: PT017
    else:
        assert len(samples) < 5 * RATE


@needs_av
def test_unknown_codec(av_encoded: Encode) -> None:
    encrypted = av_encoded("ipod", "aac").replace(b"mp4a", b"drms").replace(b"esds", b"free")
    with pytest.raises(AudioError, match="unknown or encrypted codec"):
        read(encrypted)


class Unknown:
    """A packet that damage has given an unknown codec, as PyAV 19 has it."""

    def decode(self) -> None:
        raise ValueError("cannot decode unknown codec")


@needs_av
def test_a_packet_of_an_unknown_codec_is_damage(av_encoded: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    packets = decoders._Container._packets
    monkeypatch.setattr(decoders._Container, "_packets", lambda self: chain([Unknown()], packets(self)))
    samples, stream = read(av_encoded("ipod", "aac"))
    assert len(samples) > 3 * RATE
    assert warning(stream).startswith("damaged at 0.00 s: what could be decoded was used")


@needs_av
def test_av_disk_error(av_encoded: Encode) -> None:
    with pytest.raises(AudioError, match="cannot be read: Input/output error"):
        read(BadDisk(av_encoded("mov", "pcm_s16le", faststart=True)))


class Unmovable(io.BytesIO):
    """Refuses, as a disk does, to go where damaged headers point."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if offset and whence == 0:
            raise OSError(22, "Invalid argument")
        return super().seek(offset, whence)


@needs_av
@pytest.mark.parametrize("name", ["m4a", "avi", "wma", "webm", "flv"])
def test_av_says_nothing_of_bad_seeks_and_reads_the_next_file(
    name: str, av_encoded: Encode, capfd: pytest.CaptureFixture[str]
) -> None:
    data = av_encoded(*AV_FILES[name])
    for _ in range(2):
        with contextlib.suppress(AudioError):
            read(Unmovable(data))
    samples, stream = read(data)
    assert len(samples) > RATE
    assert not stream.warnings
    assert capfd.readouterr().err == ""


# --- structure of files -----------------------------------------------------------------------------------------------


def test_the_checksum_of_ogg_is_the_one_of_its_catalogue() -> None:
    """CRC-32 of the polynomial 04C11DB7, neither reflected nor inverted, of the usual nine digits."""
    assert damage._ogg_checksum(b"123456789") == 0x89A1897F
    assert damage._ogg_checksum(b"") == 0


def missing_before(
    times: Sequence[float | None], duration: float | None = None
) -> tuple[dict[int, float], decoders.Timestamps]:
    """Seconds missing before frames of 20 ms with these timestamps, by the number of the frame."""
    timestamps, gaps, position = decoders.Timestamps(duration), {}, 0.0
    for number, (time, following) in enumerate(pairwise([*times, None])):
        gap = timestamps.missing(time, 0.02, following, position)
        gaps |= {number: pytest.approx(gap)} if gap else {}
        position += gap + 0.02
    return gaps, timestamps


def steady(**later: float) -> list[float | None]:
    """Timestamps of 100 frames, later by so many seconds from some frames on."""
    times = 0.02 * np.arange(100)
    for frame, seconds in later.items():
        times[int(frame.removeprefix("from_")) :] += seconds
    return times.tolist()


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (steady(), {}),
        (steady(from_0=5), {}),
        (steady(from_10=1), {10: 1.0}),
        (steady(from_10=1, from_40=0.3), {10: 1.0, 40: 0.3}),
        (steady(from_10=0.04), {}),  # too little
        (steady(from_10=0.03, from_40=0.03), {40: 0.06}),  # but it adds up
        (steady(from_10=0.009, from_20=0.009, from_30=0.009, from_40=0.009, from_50=0.009, from_60=0.009), {}),
        (steady(from_10=9, from_11=-9), {}),  # a damaged one
        (steady(from_10=-9, from_11=9), {}),
        (steady(from_99=1), {}),  # nothing bears it out
        ([None] * 100, {}),
        ([*steady()[:50], *[None] * 50], {}),
        ([*steady()[:10], None, *steady(from_10=1)[11:]], {11: 1.0}),
    ],
)
def test_missing_frames_are_found_by_timestamps(times: list[float | None], expected: dict[int, float]) -> None:
    gaps, timestamps = missing_before(times)
    assert gaps == expected
    assert timestamps.filled == pytest.approx(sum(expected.values()))
    assert timestamps.astray == []


@pytest.mark.parametrize(
    ("ahead", "duration", "believed"), [(59, None, True), (61, None, False), (1.5, 3.2, True), (1.5, 1.6, False)]
)
def test_timestamps_that_go_too_far_ahead_are_not_believed(ahead: float, duration: float, believed: bool) -> None:
    gaps, timestamps = missing_before(steady(from_10=ahead), duration)
    assert gaps == ({10: ahead} if believed else {})
    assert timestamps.astray == ([] if believed else [pytest.approx((0.2, ahead))])
    # Where they come back, they were not astray.
    gaps, timestamps = missing_before(steady(from_10=ahead, from_60=-ahead), duration)
    assert timestamps.astray == []
    assert gaps == ({10: ahead} if believed else {})
