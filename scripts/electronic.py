"""Electronic instruments: the presets of LMMS, which training never heard, in a melody, in chords and as a bass.

    python scripts/electronic.py OUT [--presets /usr/share/lmms/presets] [--seed 1] [--jobs 2]
    basic-transcribe evaluate OUT

Writes ``OUT/<instrument>/<preset>.wav`` of 22 s, each with ``<preset>.csv``. The program ``lmms`` plays them (on
Debian: ``apt-get install lmms``). References are the keys, in the octave in which a preset sounds: the pitch of what
sounds in the melody is found by YIN (de Cheveigné and Kawahara, JASA 111, 2002). Left out are presets that play
arpeggios or chords of their own, and those with which fewer than three of five notes of the melody sound in one octave:
noises, drums, and some whose partials mislead YIN.
"""

from __future__ import annotations

import argparse
import copy
import os
import xml.etree.ElementTree as ET
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import librosa
import numpy as np
from shared import at_least_one, errors_in_one_line, play_score, workers, write_reference

from basic_transcribe.errors import TranscribeError

SAMPLE_RATE, HOP = 44_100, 512
TICKS = 96  # a second, at 120 beats a minute
LMMS_BELOW_MIDI = 12  # its key 57 is A4
BARS = 11
LEFT_OUT = ("AudioFileProcessor", "Kicker")  # recorded sounds, and drums
SCALE = (0, 2, 4, 5, 7, 9, 11)
CLEAR = 0.6  # share of the melody's notes that must sound in one octave
PROJECT = """<lmms-project type="song" version="1.0" creator="LMMS" creatorversion="1.2.0">
<head timesig_numerator="4" timesig_denominator="4" bpm="120" masterpitch="0" mastervol="100"/>
<song><trackcontainer type="song"/><fxmixer><fxchannel num="0" muted="0" volume="1" name="Master" soloed="0">
<fxchain numofeffects="0" enabled="0"/></fxchannel></fxmixer><timeline lp0pos="0" lp1pos="192" lpstate="0"/>
<controllers/></song></lmms-project>"""


@dataclass
class Key:
    """A key that is held: ticks, MIDI pitch and loudness in percent."""

    onset: int
    offset: int
    pitch: int
    loudness: int

    @property
    def seconds(self) -> tuple[float, float]:
        """Onset and offset."""
        return self.onset / TICKS, self.offset / TICKS


def melody(rng: np.random.Generator) -> list[Key]:
    """Seven seconds of single notes around C5."""
    keys, time, degree = [], 24, int(rng.integers(7, 11))
    while time < 7 * TICKS:
        length = int(rng.choice([12, 24, 24, 24, 48, 48, 72]))
        degree = int(np.clip(degree + rng.choice([-3, -2, -1, -1, 0, 1, 1, 2, 4]), 5, 16))
        pitch = 60 + 12 * (degree // 7) + SCALE[degree % 7]
        keys.append(Key(time, time + length, pitch, int(rng.choice([60, 80, 100]))))
        time += length + int(rng.choice([0, 0, 0, 12]))
    return keys


def chords(rng: np.random.Generator) -> list[Key]:
    """Four chords of four notes, from the eighth second on."""
    keys = []
    for time in range(8 * TICKS, 14 * TICKS, 144):
        root, length = int(rng.choice([0, 5, 7, 9])), int(rng.choice([96, 120, 144]))
        third = root + (3 if root == 9 else 4)
        keys += [Key(time, time + length, 60 + step, 90) for step in (root - 12, root, third, root + 7)]
    return keys


def bass(rng: np.random.Generator) -> list[Key]:
    """Five seconds of low notes, from the fifteenth second on."""
    keys, time, degree = [], 15 * TICKS, 0
    while time < 20 * TICKS:
        length = int(rng.choice([24, 24, 48]))
        degree = int(np.clip(degree + rng.choice([-4, -2, -1, 0, 0, 1, 2, 3]), 0, 9))
        keys.append(Key(time, time + length, 36 + 12 * (degree // 7) + SCALE[degree % 7], 100))
        time += length
    return keys


def preset(path: Path) -> ET.Element | None:
    """The track that a preset holds, in plain or compressed XML; None if it holds none, or plays notes of its own."""
    data = path.read_bytes()
    if not data.lstrip().startswith(b"<"):
        data = zlib.decompress(data[4:])
    track = ET.fromstring(data).find(".//instrumenttrack")
    if track is None or track.find("arpeggiator[@arp-enabled='1']") is not None:
        return None
    stacked = track.find("chordcreator[@chord-enabled='1']")
    return None if stacked is not None and stacked.get("chord") != "0" else track


def play(instrument: ET.Element, keys: list[Key], path: Path) -> None:
    """Have LMMS write ``path``."""
    project = ET.fromstring(PROJECT)
    instrument = copy.deepcopy(instrument)
    instrument.set("fxch", "0")
    container = project.find("song/trackcontainer")
    assert container is not None
    track = ET.SubElement(container, "track", type="0", muted="0", solo="0", name="preset")
    track.append(instrument)
    pattern = ET.SubElement(track, "pattern", type="1", pos="0", len=str(192 * BARS), steps="16", muted="0", name="")
    for key in keys:
        ET.SubElement(pattern, "note", pos=str(key.onset), len=str(key.offset - key.onset),
                      key=str(key.pitch - LMMS_BELOW_MIDI), vol=str(key.loudness), pan="0")  # fmt: skip
    score = path.with_suffix(".mmp")
    score.write_text(f'<?xml version="1.0"?>\n<!DOCTYPE lmms-project>\n{ET.tostring(project, "unicode")}')
    as_root = ["--allowroot"] if os.name == "posix" and os.geteuid() == 0 else []
    command = ["lmms", *as_root, "render", str(score), "-f", "wav", "-s", str(SAMPLE_RATE), "-o", str(path)]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    play_score(command, score, "leave the preset out", environment)


def octave(path: Path, keys: list[Key]) -> int | None:
    """By how many semitones, a multiple of 12, a melody sounds above its keys; None if that is not clear."""
    audio, rate = librosa.load(path, sr=SAMPLE_RATE, duration=7.5)
    if not np.any(audio):
        return None
    midi = librosa.hz_to_midi(librosa.yin(audio, fmin=30, fmax=4000, sr=rate, frame_length=4096, hop_length=HOP))
    off = []
    for key in keys:
        begin, end = (round(second * rate / HOP) for second in key.seconds)
        off.append(float(np.median(midi[begin + 2 : end])) - key.pitch)
    octaves = [12 * round(o / 12) for o in off]
    above = max(octaves, key=octaves.count)
    return above if np.mean(np.abs(np.array(off) - above) < 0.7) >= CLEAR else None


def referenced(sound: Path, keys: list[Key], tune: list[Key]) -> bool:
    """Whether a sound begins with a tune in a clear octave: then its reference is written, else it is deleted."""
    above = octave(sound, tune)
    if above is None:
        sound.unlink()
        return False
    write_reference(sound.with_suffix(".csv"), ((*key.seconds, key.pitch + above, key.loudness) for key in keys))
    return True


def write(job: tuple[int, Path], *, out: Path, seed: int) -> bool:
    """Sound and reference of one preset; whether it is not left out."""
    number, path = job
    instrument = preset(path)
    if instrument is None:
        return False
    rng = np.random.default_rng([seed, number])
    tune = melody(rng)
    keys = [*tune, *chords(rng), *bass(rng)]
    sound = out / path.parent.name / f"{path.stem.replace(' ', '_')}.wav"
    sound.parent.mkdir(parents=True, exist_ok=True)
    play(instrument, keys, sound)
    return referenced(sound, keys, tune)


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--presets", type=Path, default=Path("/usr/share/lmms/presets"), help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=at_least_one, default=2)
    args = parser.parse_args()
    paths = sorted(p for p in args.presets.glob("*/*.xpf") if p.parent.name not in LEFT_OUT)
    if not paths:
        raise TranscribeError(f"{args.presets}: no presets of LMMS; install it, or say where they are")
    with workers(args.jobs) as pool:
        written = sum(pool.map(partial(write, out=args.out, seed=args.seed), enumerate(paths)))
    print(f"{args.out}: {written} presets; {len(paths) - written} left out")


if __name__ == "__main__":
    main()
