"""The instruments of General MIDI as a synthesiser plays them: each in a melody, in chords and as a bass.

    python scripts/programs.py OUT --config /etc/timidity/freepats.cfg [--seed 1] [--jobs 2]
    basic-transcribe evaluate OUT

Writes ``OUT/<family>/<program>.wav`` of 20 s, each with ``<program>.csv``, for the programs that ``--config`` has
sounds for. The program ``timidity`` plays them, without reverberation (on Debian: ``apt-get install timidity freepats
opl3-soundfont``). References are the keys, in the octave in which a program sounds, as ``electronic.octave`` hears it;
keys out of an instrument's range are moved by octaves. Left out are programs without a clear pitch, drums and noises.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import mido
import numpy as np
from electronic import SAMPLE_RATE, TICKS, Key, bass, chords, melody, referenced
from prepare import SKIPPED_PROGRAMS, program_range
from shared import at_least_one, errors_in_one_line, play_score, workers

from basic_transcribe.errors import TranscribeError

FAMILIES = ("pianos", "mallets", "organs", "guitars", "basses", "strings", "ensembles", "brass", "reeds", "pipes",
            "leads", "pads", "effects", "ethnic")  # fmt: skip
A_FAMILY = 8  # programs
PROGRAMS = A_FAMILY * len(FAMILIES)
OTHERS = 36, 96  # range of what prepare.py leaves out


def within(keys: list[Key], low: int, high: int) -> list[Key]:
    """The keys, moved by octaves into a range of at least an octave."""
    moved = []
    for key in keys:
        below, above = max(0, low - key.pitch), max(0, key.pitch - high)
        moved.append(replace(key, pitch=key.pitch + 12 * (-(-below // 12)) - 12 * (-(-above // 12))))
    return moved


def available(config: Path) -> list[int]:
    """The programs that a configuration of TiMidity has sounds of its own for: all, if it names a SoundFont."""
    programs: set[int] = set()
    bank = ""
    for line in config.read_text(errors="replace").splitlines():
        match line.split():
            case ["soundfont", *_]:
                return list(range(PROGRAMS))
            case ["bank" | "drumset" as kind, number, *_]:
                bank = f"{kind} {number}"
            case [number, _, *_] if number.isdigit() and bank == "bank 0":
                programs.add(int(number))
    return sorted(program for program in programs if program < PROGRAMS)


def play(program: int, keys: list[Key], config: Path, path: Path) -> None:
    """Have TiMidity write ``path``, which begins with the first key."""
    changes = [(key.onset, key.pitch, key.loudness) for key in keys]
    changes += [(key.offset, key.pitch, 0) for key in keys]
    track = mido.MidiTrack([mido.Message("program_change", program=program, time=0)])
    before = 0
    for tick, pitch, loudness in sorted(changes, key=lambda change: (change[0], change[2])):
        track.append(mido.Message("note_on", note=pitch, velocity=loudness, time=tick - before))
        before = tick
    midi = path.with_suffix(".mid")
    mido.MidiFile(ticks_per_beat=TICKS // 2, tracks=[track]).save(midi)  # 120 beats a minute
    dry = ["--reverb=d", "--chorus=d"]
    command = ["timidity", "-c", str(config), "-Ow", "-s", str(SAMPLE_RATE), *dry, "-o", str(path), str(midi)]
    play_score(command, midi, "check --config")


def write(program: int, *, out: Path, config: Path, seed: int) -> bool:
    """Sound and reference of a program; whether it is not left out."""
    rng = np.random.default_rng([seed, program])
    low, high = OTHERS if program in SKIPPED_PROGRAMS else program_range(program)[1:]
    tune = melody(rng)
    keys = within([*tune, *chords(rng), *bass(rng)], low, high)
    begin = keys[0].onset
    keys = [replace(key, onset=key.onset - begin, offset=key.offset - begin) for key in keys]
    sound = out / FAMILIES[program // A_FAMILY] / f"{program:03d}.wav"
    sound.parent.mkdir(parents=True, exist_ok=True)
    play(program, keys, config, sound)
    return referenced(sound, keys, keys[: len(tune)])


@errors_in_one_line()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--config", type=Path, required=True, help="of TiMidity, which names the sounds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=at_least_one, default=2)
    args = parser.parse_args()
    if not args.config.is_file():
        raise TranscribeError(f"{args.config}: not there; give a configuration of TiMidity")
    programs = available(args.config)
    with workers(args.jobs) as pool:
        written = sum(pool.map(partial(write, out=args.out, config=args.config, seed=args.seed), programs))
    if not written:
        raise TranscribeError(f"{args.config}: no program sounds; check the sounds that it names")
    print(f"{args.out}: {written} programs; {len(programs) - written} left out")


if __name__ == "__main__":
    main()
