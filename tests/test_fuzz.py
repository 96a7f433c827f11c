"""Files damaged at random: read or refused in a line, never a crash, a traceback or no end.

``scripts/fuzz.py`` does the same for as long as it is let.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pretty_midi
import pytest
from conftest import ROOT, Run

sys.path.insert(0, str(ROOT / "scripts"))

import fuzz

CASES = {"onnx": 12, "npz": 150, "manifest": 60, "midi": 60}
AUDIO = [kind for kind in fuzz.kinds() if kind not in CASES]


def test_whole_files_are_read() -> None:
    assert {kind: fuzz.read(kind, fuzz.whole(kind)) for kind in fuzz.kinds()} == dict.fromkeys(fuzz.kinds(), "")


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot wait for pipes")
def test_damaged_files_are_read_or_refused() -> None:
    cases = [(kind, number) for kind in fuzz.kinds() for number in range(CASES.get(kind, 25))]
    outcomes = list(fuzz.run(cases))
    assert len(outcomes) == len(cases)
    assert [outcome for outcome in outcomes if outcome] == []


def test_the_command_line_survives_damaged_recordings(cli: Run, tmp_path: Path) -> None:
    names = []
    for kind in AUDIO:
        for number in (1000, 1001):
            names.append(f"{kind}-{number}.wav")
            (tmp_path / names[-1]).write_bytes(fuzz.damaged(kind, number))
    result = cli(".", "--jobs", "2", timeout=300)
    said = result.stderr.decode().splitlines()
    assert result.returncode == 1
    assert all(re.fullmatch(r"(error|warning): \S+\.wav: .*", line) for line in said), said
    failed = {line.split(": ")[1] for line in said if line.startswith("error")}
    made = {path.with_suffix(".wav").name for path in tmp_path.glob("*.mid")}
    assert failed | made == set(names)
    assert not failed & made
    assert made
    for name in made:
        pretty_midi.PrettyMIDI(str((tmp_path / name).with_suffix(".mid")))
    assert {path.suffix for path in tmp_path.iterdir()} == {".wav", ".mid"}


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_crashes_and_endless_loops_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "worker"
    behaviour = "case $number in 1) kill -9 $$;; 2) exec sleep 60;; esac"
    worker.write_text(f'#!/bin/sh\nwhile read kind number; do {behaviour}; echo "$kind"; done\n')
    worker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(worker))
    monkeypatch.setattr(fuzz, "LONGEST", 3.0)
    first, second, third, fourth = fuzz.run([("ok", 0), ("ok", 1), ("ok", 2), ("Error", 3)])
    assert first is None
    assert second == fuzz.Finding("ok", 1, "its process ended with code -9")
    assert third == fuzz.Finding("ok", 2, "no end within 3 s")
    assert fourth == fuzz.Finding("Error", 3, "Error")
