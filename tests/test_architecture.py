"""The borders between the rooms, and what may be loaded when."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import basic_transcribe

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "basic_transcribe"

# What each room knows of: other rooms, and libraries beside the standard one. Imports for types only are free.
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    "__init__": (set(), set()),  # lazily, by name
    "__main__": ({"cli"}, set()),
    "errors": (set(), set()),
    "types": ({"errors", "tuning"}, {"numpy"}),
    "audio": ({"decoders", "errors", "loudness", "tuning", "types"}, {"numpy", "soxr"}),
    "loudness": (set(), {"numpy"}),
    "tuning": ({"loudness"}, {"numpy"}),
    "decoders": ({"damage", "errors", "types"}, {"av", "numpy", "soundfile"}),
    "damage": (set(), set()),
    "model": ({"errors", "onnxfile", "processors", "types"}, {"numpy", "onnxruntime"}),
    "onnxfile": (set(), set()),
    "processors": (set(), set()),
    "evidence": ({"errors", "types"}, {"numpy"}),
    "notes": ({"bends", "ends", "evidence", "types"}, {"numpy"}),
    "ends": ({"types"}, {"numpy"}),
    "tracking": ({"errors", "evidence", "monophonic", "notes", "types"}, {"numpy"}),
    "monophonic": ({"bends", "ends", "evidence", "types"}, {"numpy"}),
    "bends": ({"types"}, {"numpy"}),
    "timing": ({"errors", "types"}, {"librosa", "numba", "numpy", "scipy"}),
    "keys": ({"errors", "types"}, {"numpy"}),
    "shaping": ({"errors", "keys", "timing", "types"}, {"numpy"}),
    "midi": ({"errors", "timing", "types"}, {"mido", "numpy", "pretty_midi"}),
    "exports": ({"errors", "tuning", "types"}, {"numpy"}),
    "musicxml": ({"errors", "timing", "types"}, {"numpy", "pretty_midi"}),
    "sound": ({"errors", "evidence", "tuning", "types"}, {"mido", "numpy", "soundfile"}),
    "picture": ({"errors", "tuning", "types"}, {"matplotlib", "numpy"}),
    "notelist": ({"types"}, {"numpy"}),
    "pipeline": (
        {"audio", "errors", "keys", "midi", "model", "notelist", "shaping", "timing", "tracking", "tuning", "types"},
        {"numpy"},
    ),
    "streaming": ({"audio", "decoders", "errors", "model", "tracking", "tuning", "types"}, {"numpy"}),
    "live": ({"audio", "console", "errors", "keys", "streaming", "tuning", "types"}, {"mido", "numpy", "sounddevice"}),
    "presets": ({"errors", "shaping", "tuning", "types"}, set()),
    "outputs": (
        {"audio", "errors", "exports", "keys", "midi", "musicxml", "picture", "sound", "timing", "types"},
        {"numpy"},
    ),
    "manifest": ({"errors"}, set()),
    "plan": ({"audio", "errors", "manifest", "outputs"}, set()),
    "batch": (
        {
            *("", "errors", "exports", "manifest", "midi", "outputs", "pipeline", "plan", "processors", "shaping"),
            *("tuning", "types"),
        },
        set(),
    ),
    "watch": ({"errors", "plan"}, {"watchfiles"}),
    "report": ({"console", "errors", "keys"}, {"numpy"}),
    "folders": ({"batch", "errors", "exports", "manifest", "plan", "report", "watch"}, set()),
    "scoring": (
        {"audio", "errors", "exports", "midi", "tuning"},
        {"mido", "mir_eval", "numpy", "pretty_midi", "scipy"},
    ),
    "evaluate": ({"errors", "plan", "scoring", "types"}, {"numpy"}),
    "console": ({"errors", "plan"}, {"rich"}),
    "options": (set(), {"typer"}),
    "flags": ({"batch", "console", "errors", "keys", "outputs", "presets", "timing", "tuning", "types"}, set()),
    "running": (
        {
            *("batch", "console", "errors", "evaluate", "exports", "folders", "plan", "processors"),
            "scoring",
        },
        {"typer"},
    ),
    "cli": (
        {
            *("", "batch", "console", "errors", "flags", "folders", "live", "options", "outputs", "plan", "presets"),
            "running",
        },
        {"typer"},
    ),
    "catalogue": ({"errors", "manifest", "plan"}, set()),
    "transforms": ({"batch", "catalogue", "errors", "manifest", "plan", "running"}, {"apache_beam"}),
    "beam": (
        {"catalogue", "console", "errors", "flags", "options", "plan", "running", "transforms"},
        {"apache_beam", "typer"},
    ),
    "api": ({"", "batch", "console", "errors", "exports", "flags", "options", "outputs"}, {"typer"}),
    "server": ({"api"}, {"python_multipart"}),
    "web": (
        {"api", "console", "errors", "exports", "options", "pipeline", "processors", "running", "server"},
        {"typer"},
    ),
}
# The extra that each library belongs to, where it is no requirement.
EXTRAS = {
    "apache_beam": "beam",
    "av": "av",
    "matplotlib": "plot",
    "mir_eval": "evaluate",
    "sounddevice": "live",
    "watchfiles": "watch",
}
# What costs more than a blink to load, and is not needed to import the package or to print the help.
HEAVY = {
    *("apache_beam", "av", "librosa", "matplotlib", "mido", "mir_eval", "numba", "numpy"),
    *("onnxruntime", "pretty_midi", "rich", "rtmidi", "scipy", "sounddevice", "soundfile", "soxr", "watchfiles"),
}


# Engines lie in a folder of their own, whose __init__ is empty.
FILES = {path.stem: path for path in PACKAGE.glob("**/*.py") if path.parent == PACKAGE or path.stem != "__init__"}


def imports(path: Path) -> Iterator[tuple[str, str, bool]]:
    """(room or "", top-level library or "", whether at the top of the file) of each import that runs."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield "", alias.name.split(".")[0], id(node) in top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield "", (node.module or "").split(".")[0], id(node) in top
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield node.module.split(".")[0], "", id(node) in top
            else:  # from . import room
                for alias in node.names:
                    yield alias.name if alias.name in ROOMS else "", "", id(node) in top


def test_every_room_is_listed() -> None:
    assert set(FILES) == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_borders(room: str) -> None:
    rooms, libraries = ROOMS[room]
    found = list(imports(FILES[room]))
    third_party = {library for _, library, _ in found} - {""} - set(sys.stdlib_module_names)
    assert third_party == libraries
    assert {other for other, library, _ in found if not library} == rooms


def test_libraries_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        return {line.replace("-", "_") for r in requirements for line in re.findall(r"^[\w-]+", r)}

    used = set().union(*(libraries for _, libraries in ROOMS.values()))
    assert used - names(project["dependencies"]) == EXTRAS.keys() | {"numba"}  # which is librosa's
    optional = project["optional-dependencies"]
    assert {library for library, extra in EXTRAS.items() if library not in names(optional[extra])} == set()


@pytest.mark.parametrize("room", sorted(set(ROOMS) - {"transforms"}))  # which is loaded where it is used
def test_slow_libraries_are_loaded_where_they_are_used(room: str) -> None:
    at_the_top = {library for _, library, top in imports(FILES[room]) if top}
    assert not at_the_top & (HEAVY - {"numpy"} | {"torch"})


def test_nothing_that_windows_lacks_is_needed_to_begin() -> None:
    missing = {"curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
    files = [path for folder in ("basic_transcribe", "scripts", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert Path(__file__) in files
    needed = {path.name: {library for _, library, top in imports(path) if top} & missing for path in files}
    assert {name: libraries for name, libraries in needed.items() if libraries} == {}


def loaded_by(*arguments: str) -> set[str]:
    """Top-level modules that Python loads when run with these arguments."""
    command = [sys.executable, "-X", "importtime", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {line.split("|")[2].strip().split(".")[0] for line in result.stderr.splitlines() if line.count("|") == 2}


@pytest.mark.parametrize(
    "arguments", [("-c", "import basic_transcribe"), ("-m", "basic_transcribe", "--help")], ids=["import", "help"]
)
def test_import_and_help_load_nothing_slow(arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(*arguments)
    assert "basic_transcribe" in loaded
    assert not loaded & (HEAVY | {"torch"})


def test_transcribing_loads_neither_torch_nor_numba(guitar: Path) -> None:
    code = f"import basic_transcribe; basic_transcribe.transcribe({str(guitar)!r}).to_midi()"
    loaded = loaded_by("-c", code)
    assert {"onnxruntime", "pretty_midi"} <= loaded
    assert not loaded & {"torch", "librosa", "numba", "scripts"}


def test_public_names() -> None:
    for name in basic_transcribe.__all__:
        assert getattr(basic_transcribe, name) is not None
        assert name in dir(basic_transcribe)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        basic_transcribe.nothing  # noqa: B018


def test_names_for_typing_are_those_loaded_lazily() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    typed = {
        (node.module, alias.name) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }  # fmt: skip
    assert typed == {(room, name) for name, room in basic_transcribe._HOMES.items()}
    assert set(basic_transcribe._HOMES) | {"__version__"} == set(basic_transcribe.__all__)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = 'pip install -e ".[test]" && python -m pytest\n'
    assert command in (ROOT / "README.md").read_text()
    assert f"\n{command}" in (ROOT / ".ci" / "run").read_text()
