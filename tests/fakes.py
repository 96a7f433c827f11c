"""A transcriber without model or audio, for the tests of what surrounds them. Workers import it by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from basic_transcribe.batch import Recipe
from basic_transcribe.errors import AudioError, ModelError
from basic_transcribe.pipeline import Transcription
from basic_transcribe.types import BeatSettings, Note, Part, TrackerSettings

NOTES = (Note(0.1, 0.6, 60, 80, 0.9), Note(0.5, 1.0, 67, 70, 0.8))


class FakeTranscriber:
    """Does what the recording's contents say: fail, die, or give notes."""

    model = SimpleNamespace(name="fake 1", sha256="0" * 64, defaults={"onset_threshold": 0.5})

    def transcribe(
        self,
        source: Path,
        *,
        settings: TrackerSettings,
        part: Part,
        beats: BeatSettings | None = None,
        keep_posteriors: bool = False,
        progress: Callable[[float, float | None], None] | None = None,
    ) -> Transcription:
        content = source.read_text()
        if progress:
            progress(0.5, 3600.0 if content in ("sleeps", "waits long") else 1.0)
        if content == "broken":
            raise AudioError(f"{source}: not audio; give a recording")
        if content == "bug":
            raise ZeroDivisionError("division\nby zero")
        if content == "grows":
            source.write_text("grows and grows")
        if content == "kills once":
            mark = source.with_suffix(".killed")
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if content == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        if content == "sleeps":
            time.sleep(600)
        while content.startswith("waits") and not source.with_suffix(".go").exists():
            time.sleep(0.01)
        return transcription(settings)


def transcription(settings: TrackerSettings) -> Transcription:
    """What the fake gives."""
    model = FakeTranscriber.model
    return Transcription(NOTES, 1.0, settings.resolved(model.defaults), ("a warning",), model.name)


class FakeRecipe(Recipe):
    """Loads the fake, unless the model is called ``missing.onnx``."""

    def load(self) -> FakeTranscriber:  # type: ignore[override]
        if self.model == Path("missing.onnx"):
            raise ModelError("missing.onnx: no such file; give another --model")
        return FakeTranscriber()


def recipe(**settings: object) -> FakeRecipe:
    """A recipe with the fake transcriber."""
    return FakeRecipe(**settings)  # type: ignore[arg-type]
