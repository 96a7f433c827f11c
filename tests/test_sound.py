"""What is heard: pitch, loudness and times of the notes, measured in the sound."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from basic_transcribe import sound
from basic_transcribe.errors import OutputError, UsageError
from basic_transcribe.midi import to_midi
from basic_transcribe.types import BEND_MODES, Float32, MidiSettings, Note, PitchBend

RATE = 22_050
STEP = 256 / 22_050
FONTS = [Path(f"/usr/share/sounds/sf2/{name}.sf2") for name in ("TimGM6mb", "FluidR3_GM", "default-GM")]
FONT = next((font for font in FONTS if font.exists()), None)

needs_fluidsynth = pytest.mark.skipif(
    not (FONT and shutil.which("fluidsynth")), reason="needs fluidsynth and a SoundFont"
)


def bending(onset: float, offset: float, pitch: int, semitones: NDArray[np.floating], velocity: int = 90) -> Note:
    """A note whose bend is stretched over its length."""
    step = (offset - onset) / len(semitones)
    return Note(onset, offset, pitch, velocity, 0.9, PitchBend(onset, step, np.asarray(semitones, np.float32)))


def measured_pitch(samples: Float32, rate: int, near: float, width: float = 1.5) -> float:
    """MIDI pitch of the strongest frequency within ``width`` semitones of ``near``: the peak of a parabola in dB."""
    size = 1 << 19
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    low, high = (int(440 * 2 ** ((near + side * width - 69) / 12) * size / rate) for side in (-1, 1))
    peak = low + int(spectrum[low:high].argmax())
    a, b, c = np.log(spectrum[peak - 1 : peak + 2])
    return 69 + 12 * np.log2((peak + (a - c) / (a - 2 * b + c) / 2) * rate / size / 440)


def power(samples: Float32) -> float:
    """In dB."""
    return 10 * float(np.log10(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize("pitch", [21, 40, 69, 88, 108])
@pytest.mark.parametrize("bend", [0.0, 0.37, -7.5])
def test_pitch_is_exact(pitch: int, bend: float) -> None:
    played = sound.synthesize([bending(0.2, 1.2, pitch, np.full(80, bend))], 1.5, RATE)
    part = played[int(0.3 * RATE) : int(1.1 * RATE)]
    assert measured_pitch(part, RATE, pitch + bend) == pytest.approx(pitch + bend, abs=0.05)


def test_pitch_follows_a_glide() -> None:
    """An octave in two seconds, heard in windows of 0.1 s; each note bends for itself."""
    glide = bending(0, 2, 60, np.linspace(0, 12, 172))
    played = sound.synthesize([glide, Note(0, 2, 50, 30, 0.9)], 2, RATE)
    for centre in np.arange(0.1, 1.9, 0.1):
        part = played[int((centre - 0.05) * RATE) : int((centre + 0.05) * RATE)]
        expected = 60 + np.interp(centre, glide.bend.times, glide.bend.semitones)  # type: ignore[union-attr]
        assert measured_pitch(part, RATE, expected) == pytest.approx(expected, abs=0.05)
    held = measured_pitch(played, RATE, 50)
    assert held == pytest.approx(50, abs=0.05)


@pytest.mark.parametrize("pitch", [33, 60, 96])
def test_twelve_velocities_are_six_decibels(pitch: int) -> None:
    played = sound.synthesize([Note(0, 1, pitch, 60, 0.9), Note(1, 2, pitch, 72, 0.9)], 2, RATE)
    assert power(played[RATE:]) - power(played[:RATE]) == pytest.approx(6, abs=0.05)


notes_anywhere = st.lists(
    st.builds(
        lambda onset, length, pitch, velocity, bend: bending(
            onset, onset + length, pitch, bend * np.sin(np.arange(20)), velocity
        ),
        st.floats(-0.5, 2.5),
        st.floats(1e-4, 3),
        st.integers(21, 108),
        st.integers(1, 127),
        st.floats(-12, 12),
    ),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(notes_anywhere)
def test_any_notes_fit_their_time_and_scale(notes: list[Note]) -> None:
    played = sound.synthesize(notes, 2, 16_000)
    assert played.dtype == np.float32
    assert played.shape == (32_000,)
    assert np.abs(played).max() == pytest.approx(sound.PEAK, abs=1e-4) or not played.any()
    times = np.arange(32_000) / 16_000
    audible = [(times >= n.onset - 1e-3) & (times < n.offset + 1e-3) for n in notes]
    assert not played[~np.any([np.zeros(32_000, bool), *audible], axis=0)].any()


def test_nothing_clicks() -> None:
    """What a step would put above the partials is 60 dB below the notes, also where they begin, end, and are cut."""
    notes = [Note(i * 0.1, i * 0.1 + 0.1, 45 + i % 3, 100, 0.9) for i in range(20)]
    played = sound.synthesize(notes, 2, 44_100)
    spectrum = np.square(np.abs(np.fft.rfft(played)))
    assert 10 * np.log10(spectrum[2 * 8000 :].sum() / spectrum.sum()) < -60


def test_a_long_note_is_the_same_as_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = [bending(0.01, 3.9, 57, np.sin(np.arange(300) / 3))]
    whole = sound.synthesize(notes, 4, RATE)
    monkeypatch.setattr(sound, "BLOCK", 777)
    np.testing.assert_allclose(sound.synthesize(notes, 4, RATE), whole, atol=2e-3)


def test_empty() -> None:
    assert not sound.synthesize([], 1, RATE).any()
    assert sound.synthesize([Note(0, 1, 60, 80, 0.9)], 0, RATE).shape == (0,)


def midi_with_bend(channel: int, bend: float, program: int = 73) -> bytes:
    """One second of A4 after half a second, bent by so many semitones on a channel whose range is 12 semitones."""
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
    for control, value in ((101, 0), (100, 0), (6, 12), (38, 0), (101, 127), (100, 127)):
        track.append(mido.Message("control_change", channel=channel, control=control, value=value))
    track.append(mido.Message("pitchwheel", channel=channel, pitch=round(bend / 12 * 8192)))
    track.append(mido.Message("note_on", channel=channel, note=69, velocity=90, time=480))
    track.append(mido.Message("note_off", channel=channel, note=69, time=960))
    file.tracks.append(track)
    data = BytesIO()
    file.save(file=data)
    return data.getvalue()


@needs_fluidsynth
@pytest.mark.parametrize("channel", [0, 9, 15])
def test_soundfont_follows_bends_on_every_channel(channel: int) -> None:
    """Also on the tenth, which is no drum here. Measured against the unbent note: fonts have a tuning of their own."""
    assert FONT
    pitches = []
    for bend in (0.0, 3.3):
        played = sound.synthesize_soundfont(midi_with_bend(channel, bend), FONT, RATE)
        assert played.dtype == np.float32
        assert played.shape[1] == 2
        assert not played[: int(0.45 * RATE)].any()
        assert np.abs(played).max() == pytest.approx(sound.PEAK, abs=1e-4)
        part = played[int(0.7 * RATE) : int(1.4 * RATE)].mean(axis=1)
        pitches.append(measured_pitch(part, RATE, 69 + bend))
    assert pitches[0] == pytest.approx(69, abs=0.15)
    assert pitches[1] - pitches[0] == pytest.approx(3.3, abs=0.02)


@needs_fluidsynth
@pytest.mark.parametrize("bend_mode", BEND_MODES)
def test_midi_files_sound_at_the_pitch_of_their_notes(bend_mode: str) -> None:
    """On a piano, which has no vibrato: within 15 cents all along a glide, whatever another voice does meanwhile."""
    assert FONT
    glide = bending(0.5, 2.5, 69, np.linspace(-1, 4, 172))
    other = [] if bend_mode == "plain" else [bending(0.5, 2.5, 76, np.full(172, -0.45))]
    midi = to_midi([glide, *other], MidiSettings(bend_mode=bend_mode))
    played = sound.synthesize_soundfont(midi.data, FONT, RATE).mean(axis=1)
    for centre in np.arange(0.8, 2.3, 0.1):
        part = played[int((centre - 0.05) * RATE) : int((centre + 0.05) * RATE)]
        expected = 69 + np.interp(centre, glide.bend.times, glide.bend.semitones)  # type: ignore[union-attr]
        assert measured_pitch(part, RATE, expected) == pytest.approx(expected, abs=0.15)
    for note in other:
        part = played[int(0.8 * RATE) : int(2.3 * RATE)]
        assert measured_pitch(part, RATE, note.pitch - 0.45) == pytest.approx(note.pitch - 0.45, abs=0.15)


@needs_fluidsynth
def test_soundfont_is_deterministic_and_without_notes_silent() -> None:
    assert FONT
    data = midi_with_bend(1, 1.0)
    first, second = (sound.synthesize_soundfont(data, FONT, RATE) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    file = mido.MidiFile()
    file.tracks.append(mido.MidiTrack())
    empty = BytesIO()
    file.save(file=empty)
    assert not sound.synthesize_soundfont(empty.getvalue(), FONT, RATE).any()


@needs_fluidsynth
def test_a_cut_soundfont_is_refused(tmp_path: Path) -> None:
    """Fluidsynth would go on with the system's own font."""
    assert FONT
    cut = tmp_path / "cut.sf2"
    with FONT.open("rb") as file:
        cut.write_bytes(file.read(100_000))
    with pytest.raises(UsageError, match=r"cut\.sf2: fluidsynth cannot read it"):
        sound.synthesize_soundfont(midi_with_bend(0, 0), cut, RATE)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"", "not a SoundFont"), (b"RIFF1234WAVEfmt ", "not a SoundFont")],
)
def test_what_is_no_soundfont_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    font = tmp_path / "font.sf2"
    if content is not None:
        font.write_bytes(content)
    with pytest.raises(UsageError, match=rf"font\.sf2: {message}"):
        sound.synthesize_soundfont(midi_with_bend(0, 0), font, RATE)


def test_fluidsynth_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    font = tmp_path / "font.sf2"
    font.write_bytes(b"RIFF1234sfbk")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="install it"):
        sound.synthesize_soundfont(midi_with_bend(0, 0), font, RATE)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0])
def test_mix_is_equally_loud_on_both_sides(channels: int, scale: float) -> None:
    """Though the recording rests; where the sides begin tells left from right."""
    seconds = np.arange(3 * 44_100) / 44_100
    recording = (scale * np.sin(2 * np.pi * 440 * seconds) * (seconds < 1)).astype(np.float32)
    notes = sound.synthesize([Note(1, 4, 50, 80, 0.9)], 4, 44_100)
    both = sound.mix(recording, notes if channels == 1 else np.stack([notes, notes], axis=1), 44_100)
    assert both.dtype == np.float32
    assert both.shape == (4 * 44_100, 2)
    left, right = both[:44_000, 0], both[44_200:, 1]
    assert power(left) == pytest.approx(power(right), abs=1.0)
    assert np.abs(both[45_000:, 0]).max() < 1e-3 * scale
    assert not both[:44_000, 1].any()
    assert np.abs(both).max() <= sound.PEAK * (1 + 1e-6)
    if scale < 0.5:
        assert np.abs(left[1000:-1000]).max() == pytest.approx(scale, rel=0.01)


def test_mix_with_silence() -> None:
    tone = sound.synthesize([Note(0, 1, 60, 80, 0.9)], 1, RATE)
    silence = np.zeros(RATE // 2, np.float32)
    np.testing.assert_allclose(sound.mix(tone, silence, RATE)[:, 0], tone, atol=1e-6)
    np.testing.assert_allclose(sound.mix(silence, tone, RATE)[:, 1], tone, atol=1e-6)
    assert sound.mix(silence[:0], silence[:0], RATE).shape == (0, 2)


@pytest.mark.parametrize("shape", [(1000,), (1000, 2), (0,), (0, 2)])
def test_wav_round_trip(shape: tuple[int, ...]) -> None:
    samples = np.random.default_rng(1).uniform(-1.2, 1.2, shape).astype(np.float32)
    data = sound.to_wav(samples, RATE)
    assert data == sound.to_wav(samples, RATE)
    read, rate = soundfile.read(BytesIO(data), dtype="float32")
    assert rate == RATE
    assert soundfile.info(BytesIO(data)).subtype == "PCM_16"
    np.testing.assert_allclose(read, np.clip(samples, -1, 1), atol=2**-15)


def test_wav_of_more_than_four_gigabytes_is_refused() -> None:
    samples = np.broadcast_to(np.float32(0), (2**30, 2))  # takes no memory
    with pytest.raises(OutputError, match=r"6\.8 hours.*take a part"):
        sound.to_wav(samples, 44_100)
