"""What the README shows runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_the_python_examples(tmp_path: Path, cli_environment: dict[str, str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 3
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", "\n".join(blocks)]
    result = subprocess.run(command, cwd=tmp_path, env=cli_environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "tidy.mid").stat().st_size > 500


@pytest.mark.parametrize(
    ("command", "number"), [("", 40), ("batch", 40), ("beam", 40), ("evaluate", 15), ("live", 15), ("web", 10)]
)
def test_the_options_of_the_help_are_in_the_readme(command: str, number: int, cli_environment: dict[str, str]) -> None:
    arguments = [sys.executable, "-m", "basic_transcribe", *command.split(), "--help"]
    text = subprocess.run(arguments, env=cli_environment, capture_output=True, text=True, check=True).stdout
    names = " ".join(re.findall(r"^  (-.*?)(?:  |$)", text, re.MULTILINE))
    options = set(re.findall(r"--[a-z-]+", names))
    assert len(options) > number
    assert options - set(re.findall(r"`(?:-\w`, `)?(--[a-z-]+)", (ROOT / "README.md").read_text())) == set()
