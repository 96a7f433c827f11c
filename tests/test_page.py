"""The built page: whole, light, in the wheel; and in a real browser, with the notes that Python finds."""

from __future__ import annotations

import csv
import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
import soundfile
from conftest import ROOT

from basic_transcribe import web
from basic_transcribe.api import Limits
from basic_transcribe.model import default_model_path
from basic_transcribe.pipeline import Transcriber
from basic_transcribe.server import CONTENT_SECURITY_POLICY, Server

PAGE = ROOT / "basic_transcribe" / "page"
WEB = ROOT / "web"
MOST_BYTES = 5_000_000
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def missing_for_the_browser() -> str | None:
    """Why the page cannot be tried in a browser here."""
    if shutil.which("node") is None:
        return "needs node"
    if not (WEB / "node_modules" / "playwright-core").exists():
        return "needs npm ci in web/"
    return None if CHROMIUM else "needs chromium"


def test_the_page_is_whole() -> None:
    assets = web.page_assets(default_model_path().read_bytes())
    assert {"index.html", "main.js", "worker.js", "style.css", "model.onnx", "LICENSES.txt"} <= assets.keys()
    index = assets["index.html"].plain.decode()
    wanted = re.findall(r'(?:src|href)="([^"]+)"', index)
    assert {url for url in wanted if not url.startswith(("data:", "#"))} <= assets.keys()  # relative, and there
    assert f'http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}"' in " ".join(index.split())
    for asset in assets.values():
        if asset.media_type == "application/wasm":
            assert asset.packed
            assert asset.plain.startswith(b"\0asm")


def test_the_page_is_light() -> None:
    assets = web.page_assets(default_model_path().read_bytes())
    weights = {name: len(a.stored if a.packed else gzip.compress(a.stored)) for name, a in assets.items()}
    assert sum(weights.values()) < MOST_BYTES, weights


def test_the_page_names_no_other_host() -> None:
    """Beside addresses of licences and documents in messages, which nothing loads."""
    for path in (PAGE / "index.html", PAGE / "style.css"):
        assert not re.search(r"(?:https?:)?//(?!www\.w3\.org/)[\w.-]+\.\w", path.read_text(encoding="utf-8")), path


def test_the_page_is_in_the_wheel(tmp_path: Path) -> None:
    pytest.importorskip("build", reason="needs build, of the extra dev")
    pytest.importorskip("hatchling", reason="needs hatchling")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        for path in (path for path in PAGE.rglob("*") if path.is_file()):
            assert wheel.read(path.relative_to(ROOT).as_posix()) == path.read_bytes()


def test_what_node_installs_is_in_no_sdist(tmp_path: Path) -> None:
    pytest.importorskip("build", reason="needs build, of the extra dev")
    pytest.importorskip("hatchling", reason="needs hatchling")
    project = tmp_path / "project"
    package = ("LICENSE", "README.md", "basic_transcribe/__init__.py", "basic_transcribe/page/LICENSES.txt")
    for name in (*package, "pyproject.toml", ".gitignore", "web/.gitignore", "web/package.json"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    installed = project / "web" / "node_modules" / "library" / "index.js"
    installed.parent.mkdir(parents=True)
    installed.touch()
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(project)]
    subprocess.run(command, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        names = sdist.getnames()
    assert any(name.endswith("/web/package.json") for name in names)
    assert [name for name in names if "node_modules" in name] == []


def test_the_licences_of_the_page_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    licences = (PAGE / "LICENSES.txt").read_text(encoding="utf-8")
    assert set(project["license"].split(" AND ")) == set(re.findall(r"^\S.*\): ([\w.-]+)", licences, re.MULTILINE))
    assert "basic_transcribe/page/LICENSES.txt" in project["license-files"]


# ------------------------------------------------------------------------------------------------------------- browser


@contextmanager
def at_work(server: Server | ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    """A host of static files that knows nothing of this page."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


Notes = list[tuple[int, float, float]]  # pitch, onset, offset; sorted


def read_notes(path: Path) -> Notes:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sorted((int(row["pitch"]), float(row["onset_s"]), float(row["offset_s"])) for row in rows)


def read_midi(path: Path) -> Notes:
    parts = pretty_midi.PrettyMIDI(str(path)).instruments
    return sorted((note.pitch, note.start, note.end) for part in parts for note in part.notes)


def assert_same(notes: Notes, expected: Notes, tolerance: float) -> None:
    assert [pitch for pitch, *_ in notes] == [pitch for pitch, *_ in expected]
    np.testing.assert_allclose(notes, expected, rtol=0, atol=tolerance)


def shared(notes: Notes, others: Notes, tolerance: float) -> float:
    """Part of the notes that are among the others too: same pitch, onset and offset within the tolerance in seconds."""
    near = [any(n[0] == o[0] and np.abs(np.subtract(n, o)).max() <= tolerance for o in others) for n in notes]
    return float(np.mean(near))


@pytest.mark.skipif(missing_for_the_browser() is not None, reason=str(missing_for_the_browser()))
def test_in_a_browser(guitar: Path, tmp_path: Path) -> None:
    transcriber = Transcriber(threads=1)
    assets = web.page_assets(default_model_path().read_bytes())
    out, site, long = tmp_path / "out", tmp_path / "host" / "music" / "tool", tmp_path / "long.wav"
    out.mkdir()
    web.export_page(site, assets)
    noise = np.random.default_rng(0).normal(0, 0.1, 22050 * 30)
    soundfile.write(long, np.tile(noise, 20), 22050)
    server = Server("127.0.0.1", 0, assets, transcriber, Limits())
    static = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "host")))
    with at_work(server), at_work(static):
        variables = {
            "PAGE": server.url,
            "SITE": f"http://127.0.0.1:{static.server_address[1]}/music/tool/",
            "RECORDING": str(guitar),
            "LONG": str(long),
            "OUT": str(out),
            "CHROMIUM": str(CHROMIUM),
        }
        done = subprocess.run(
            ["node", "--test", "--test-reporter=spec", "e2e/page.test.mjs"],
            cwd=WEB,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stdout + done.stderr

    found = sorted((note.pitch, note.onset, note.offset) for note in transcriber.transcribe(guitar).notes)
    taken = read_notes(out / "page.csv")
    # WebAssembly rounds 8-bit sums otherwise, which decides a note at the threshold now and then.
    frame = 1 / transcriber.model.frame_rate + 1e-5
    assert min(shared(taken, found, frame), shared(found, taken, frame)) > 0.85
    assert_same(read_midi(out / "page.mid"), taken, tolerance=0.003)
    assert len(set(taken) - set(read_notes(out / "grid.csv"))) > len(taken) / 2
    assert len(read_midi(out / "deleted.mid")) == len(taken) - 1
