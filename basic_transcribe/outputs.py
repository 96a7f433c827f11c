"""A transcription into the contents of its files: which writer makes which, and what it needs beside the notes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError
from .types import Beats, Key, MidiSettings, Part, PitchBend

if TYPE_CHECKING:
    from .pipeline import Transcription
    from .types import Float32, Note

SONIFIED, MIXED = ".sonified.wav", ".sonified-mix.wav"
SOUND_RATE = 44_100  # Hz
PICTURE_RATE = 22_050  # Hz


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """How a transcription is written.

    Attributes
    ----------
    midi : MidiSettings
    key : str or None
        Key signature of the MIDI file and the score: ``auto``, or a key such as ``C minor``. None: none in the MIDI
        file, an estimated one in the score.
    division : Fraction or None
        Shortest note of a score, as a part of a whole note. None: sixteenths and triplets of eighths.
    swing : float
        How late every second step of the division is, which the score writes evenly.
    instrument : int or None
        General MIDI program of the instrument that a score is for. None: that of the MIDI file, unless it is 0, which
        says nothing.
    soundfont : Path or None
        SF2 file whose instruments play what is to be heard; a plain synthesiser if None.
    part : Part
        What of the recording was transcribed.
    """

    midi: MidiSettings = field(default_factory=MidiSettings)
    key: str | None = None
    division: Fraction | None = None
    swing: float = 0.0
    instrument: int | None = None
    soundfont: Path | None = None
    part: Part = field(default_factory=Part)

    def __post_init__(self) -> None:
        if self.key not in (None, "auto"):
            from .keys import parse_key

            parse_key(str(self.key))


def fixed_grid(duration: float, midi: MidiSettings) -> Beats:
    """The beats of a recording that keeps the tempo of the settings from its beginning to its end."""
    from .timing import fixed_beats, metre

    per_bar, quarters = metre(midi.time_signature or (4, 4))
    return fixed_beats(midi.tempo, duration, per_bar, quarters)


def check(wanted: Sequence[str], settings: OutputSettings) -> None:
    """Find out before any work is done whether what is wanted can be made here, and make ready for it.

    Raises
    ------
    UsageError
        If a library or program is missing.
    """
    if {".png", ".svg"} & set(wanted):
        from .picture import prepare

        prepare()
    if settings.soundfont is not None:
        from .sound import player_of

        player_of(settings.soundfont)


def render(
    transcription: Transcription, wanted: Sequence[str], source: Path, settings: OutputSettings, fingerprint: str
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Contents of the files wanted.

    Parameters
    ----------
    transcription : Transcription
    wanted : sequence of str
        Extensions, each one of :data:`WRITERS`.
    source : Path
        The recording, for its name, and for its sound where that is drawn or heard.
    settings : OutputSettings
    fingerprint : str
        For the MIDI file.

    Returns
    -------
    contents : dict
        By extension.
    warnings : tuple of str
        What could not be written as it was, or at all.
    """
    sheet = _Sheet(transcription, source, settings, fingerprint)
    contents = {extension: WRITERS[extension](sheet) for extension in wanted}
    return {extension: data for extension, data in contents.items() if data is not None}, tuple(sheet.warnings)


@dataclass
class _Sheet:
    """What writers take from, and remark on. What several need is made once."""

    transcription: Transcription
    source: Path
    settings: OutputSettings
    fingerprint: str
    warnings: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return self.source.stem

    @cached_property
    def key(self) -> Key | None:
        """As it was given, or else estimated."""
        from .keys import parse_key

        given = self.settings.key
        return self.transcription.key if given in (None, "auto") else parse_key(str(given))

    @property
    def grid(self) -> Beats:
        return self.transcription.beats or fixed_grid(self.transcription.duration, self.settings.midi)

    @cached_property
    def sound(self) -> Float32:
        """The notes as samples at SOUND_RATE, shape (samples,) or (samples, 2)."""
        from . import sound
        from .midi import to_midi

        t, font = self.transcription, self.settings.soundfont
        if font is None:
            return sound.synthesize(self._notes_in_tune(), t.duration, SOUND_RATE)
        settings = MidiSettings(program=self.settings.midi.program, bend_mode="channels")
        played = to_midi(self._notes_in_tune(), settings, tuning=t.tuning)
        return sound.synthesize_soundfont(played.data, font, SOUND_RATE)

    def _notes_in_tune(self) -> Iterator[Note]:
        """The notes; those for which no bend was looked for are bent by the tuning of the recording."""
        import numpy as np

        t = self.transcription
        tuning = np.array([t.tuning / 100], np.float32)
        for note in t.notes:
            bend = PitchBend(note.onset, 1.0, tuning) if t.tuning else None
            yield replace(note, bend=note.bend or bend)

    def audio(self, rate: int, seconds: float = math.inf) -> Float32 | None:
        """What was transcribed, mixed to mono, for so long at least; None if there are only posteriors."""
        import numpy as np

        from .audio import open_audio

        if is_posteriors(self.source):
            return None
        with open_audio(self.source, target_rate=rate, part=self.settings.part) as stream:
            blocks = [np.zeros(0, np.float32)]
            for block in stream:
                blocks.append(block)
                if stream.samples_read >= seconds * rate:
                    break
            return np.concatenate(blocks)


def is_posteriors(source: Path) -> bool:
    """Whether an input is what ``--npz`` wrote, not a recording."""
    return source.suffix.lower() == ".npz"


def _midi(sheet: _Sheet) -> bytes:
    from .midi import to_midi

    t, settings = sheet.transcription, sheet.settings
    result = to_midi(
        t.notes,
        settings.midi,
        title=sheet.title,
        fingerprint=sheet.fingerprint,
        beats=t.beats,
        key=sheet.key if settings.key else None,
        markers=t.markers,
        tuning=t.tuning,
    )
    sheet.warnings += result.warnings
    return result.data


def _csv(sheet: _Sheet) -> bytes:
    from .exports import notes_to_csv

    return notes_to_csv(sheet.transcription.notes).encode()


def _json(sheet: _Sheet) -> bytes:
    from .exports import notes_to_json

    return notes_to_json(sheet.transcription, sheet.settings.part, sheet.key).encode()


def _jams(sheet: _Sheet) -> bytes:
    from .exports import notes_to_jams

    return notes_to_jams(sheet.transcription, sheet.title, sheet.settings.part, sheet.key).encode()


def _npz(sheet: _Sheet) -> bytes | None:
    from .exports import posteriors_to_npz

    if sheet.transcription.posteriors is None:
        sheet.warnings.append("no audio, so no posteriors to write")
        return None
    return posteriors_to_npz(sheet.transcription.posteriors)


def _musicxml(sheet: _Sheet) -> bytes:
    from .musicxml import notes_to_musicxml

    settings = sheet.settings
    return notes_to_musicxml(
        sheet.transcription.notes,
        beats=sheet.grid,
        key=sheet.key,
        title=sheet.title,
        division=settings.division,
        swing=settings.swing,
        program=(settings.midi.program or None) if settings.instrument is None else settings.instrument,
    )


def _sonified(sheet: _Sheet) -> bytes:
    from .sound import to_wav

    return to_wav(sheet.sound, SOUND_RATE)


def _mixed(sheet: _Sheet) -> bytes:
    from .sound import mix, to_wav

    original = sheet.audio(SOUND_RATE)
    if original is None:
        raise UsageError("--sonify-mix needs the recording; give it instead of its posteriors")
    return to_wav(mix(original, sheet.sound, SOUND_RATE), SOUND_RATE)


def _picture(form: str) -> Callable[[_Sheet], bytes]:
    def draw(sheet: _Sheet) -> bytes:
        from . import picture

        t = sheet.transcription
        return picture.draw(
            t.notes,
            t.duration,
            audio=sheet.audio(PICTURE_RATE, picture.NEEDED),
            sample_rate=PICTURE_RATE,
            posteriors=t.posteriors,
            beats=t.beats,
            title=sheet.title,
            format=form,
        )

    return draw


WRITERS: dict[str, Callable[[_Sheet], bytes | None]] = {
    ".mid": _midi,
    ".csv": _csv,
    ".json": _json,
    ".jams": _jams,
    ".npz": _npz,
    ".musicxml": _musicxml,
    SONIFIED: _sonified,
    MIXED: _mixed,
    ".png": _picture("png"),
    ".svg": _picture("svg"),
}
"""What can be written, by extension."""

WITH_POSTERIORS = frozenset({".npz", ".png", ".svg"})
"""Extensions of files that need the model's posteriors."""
