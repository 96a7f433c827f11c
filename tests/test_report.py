"""The page about many recordings: its contents, its links, its rolls, and its script in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe import report
from basic_transcribe.errors import printable
from basic_transcribe.manifest import Entry
from basic_transcribe.midi import to_midi
from basic_transcribe.types import Beats, MidiSettings, Note, PitchBend

NOTES = (Note(0.5, 1.0, 60, 80, 0.9), Note(1.0, 2.0, 60, 80, 0.9), Note(1.0, 3.0, 67, 80, 0.9))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Page(HTMLParser):
    """What a browser makes of it: the cells of each row, links, pictures, scripts and styles."""

    rows: list[list[str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    within: str = ""
    cell: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.within = tag
        for name, value in attributes:
            self.values.setdefault(name, []).append(value or "")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True

    def handle_endtag(self, tag: str) -> None:
        self.within = ""
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.texts[self.within] = self.texts.get(self.within, "") + data
        if self.cell:
            self.rows[-1][-1] += data


def parsed(*entries: Entry, root: Path = Path("nowhere"), folder: Path | None = None) -> Page:
    page = Page()
    page.feed(report.report_page(entries, root, folder))
    page.close()
    return page


def transcribed(root: Path, output: str, name: str = "", **settings: object) -> Entry:
    path = root / output
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_midi(NOTES).data)
    return Entry(name or f"/music/{output}.wav", output, "done", seconds=4.0, notes=3, **settings)  # type: ignore[arg-type]


def failed(name: str, message: str = "not audio; give a recording") -> Entry:
    return Entry(name, None, "failed", message=message)


def test_a_row_for_each_recording_and_totals(tmp_path: Path) -> None:
    page = parsed(
        transcribed(tmp_path, "sub/a.mid", warnings=("clipped",)),
        Entry("/music/b.wav", "b.mid", "skipped", seconds=3600.0, notes=1234),
        failed("/music/sub/c.wav"),
        root=tmp_path,
    )
    _, a, b, c = page.rows
    assert a == ["sub/a.mid.wavMIDI", "", "done", "0:04.0", "3", "0.75", "C4–G4", "clipped"]
    assert b == ["b.wav", "", "up to date", "1:00:00.0", "1234", "0.34", "", ""]
    assert c == ["sub/c.wav", "", "failed", "", "", "", "", "not audio; give a recording"]
    assert page.texts["b"] == "3" + "1:00:04.0" + "1,237"  # recordings, their length, their notes
    assert page.texts["button"].split() == "all done failed up to date with warnings".split()


def test_what_a_stopped_run_did_not_tell_is_seen_in_the_output(tmp_path: Path) -> None:
    transcribed(tmp_path, "a.mid")
    found = Entry("/music/a.wav", "a.mid", "skipped", seconds=None, notes=None)
    page = parsed(found, replace(found, input="/music/b.wav", seconds=0.0, notes=0), root=tmp_path)  # as 0.12 said it
    _, a, b = page.rows
    assert a[:7] == ["a.wavMIDI", "", "up to date", "unknown", "3", "", "C4–G4"]
    assert b[1:] == [*a[1:7], ""]
    assert "length and warnings are not known" in a[7]
    assert page.texts["b"] == "2" + "0:00.0" + "6"
    assert "of audio and 2 of unknown length" in page.texts[""]


def test_a_recording_without_sound_has_a_length(tmp_path: Path) -> None:
    """Also when it is up to date, and when its output is gone."""
    (tmp_path / "a.mid").write_bytes(to_midi([]).data)
    done = Entry("/music/a.wav", "a.mid", "done", seconds=0.0, notes=0)
    page = parsed(done, replace(done, status="skipped"), replace(done, output="gone.mid"), root=tmp_path)
    assert [row[3:6] for row in page.rows[1:]] == [["0:00.0", "0", ""]] * 3
    assert "unknown" not in page.texts[""]


def test_outputs_under_earlier_names_are_counted() -> None:
    entry = Entry("/music/a.wav", "a.mid", "done")
    text = report.report_page([entry], Path("nowhere"), renamed=2)
    assert "<b>2</b> outputs under earlier names of recordings, not shown" in text
    assert "earlier names" not in report.report_page([entry], Path("nowhere"))


def test_a_page_of_nothing() -> None:
    assert len(parsed().rows) == 1


def test_a_page_is_known_by_its_beginning() -> None:
    page = report.report_page([failed("/music/a.wav")], Path("nowhere")).encode()
    assert page.startswith(report.BEGINNING)
    assert report.BEGINNING == (  # of version 0.10, whose pages later ones are to know
        b'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        b"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; base-uri 'none';\n"
        b" form-action 'none'; style-src 'sha256-"
    )


def test_nothing_is_asked_of_the_network_and_nothing_else_runs(tmp_path: Path) -> None:
    page = parsed(transcribed(tmp_path, "a.mid"), root=tmp_path)
    policy = next(value for value in page.values["content"] if "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.texts[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert all(value.startswith("data:image/png;base64,") for value in page.values["src"])
    assert not {"style", "onclick", "onload"} & set(page.values)
    assert not re.search(r"https?:|url\(|@import", page.texts["style"] + page.texts["script"])


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())), st.text(), st.text(min_size=1))
def test_whatever_names_and_messages_hold_is_text(name: str, message: str, warning: str) -> None:
    entries = [failed(f"/x/{name}", message), Entry(f"/x/y/{name}", "a.mid", "done", warnings=(warning,))]
    page = parsed(*entries)
    plain = parsed(failed("/x/y", "z"), Entry("/x/y/z", "a.mid", "done", warnings=("z",)))
    report.report_page(entries, Path()).encode()  # as UTF-8, which lone surrogates are not
    assert page.tags == plain.tags
    assert page.rows[1][7].strip() == printable(message).strip()
    assert page.rows[2][7].strip() == printable(warning).strip()
    assert printable(name).strip() in page.rows[2][0]


@pytest.mark.parametrize(
    "name", ["sub/a b.mid", 'q"u<o>te&.mid', "javascript:alert(1).mid", "#?%41.mid", "é\udcff.mid"]
)
def test_links_lead_to_the_outputs(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.csv").touch()
    files = dict.fromkeys([".mid", ".csv", ".json", "/../outside.csv", "", "\0"], "")
    entry = transcribed(tmp_path, name, files=files)
    beside = name.removesuffix(".mid") + ".csv"
    (tmp_path / beside).touch()
    for folder, up in ((None, ""), (tmp_path / "x" / "y", "../../")):
        page = parsed(entry, root=tmp_path, folder=folder)
        assert [unquote_to_bytes(link) for link in page.values["href"]] == [
            os.fsencode(up + name),
            os.fsencode(up + beside),
        ]
        assert not re.search(r"[:?#]", "".join(page.values["href"]))


@pytest.mark.parametrize("output", ["../a.mid", "/etc/passwd", "gone.mid", "a\0.mid", "\ud800.mid", ".", None])
def test_nothing_outside_is_read_or_linked(tmp_path: Path, output: str | None) -> None:
    transcribed(tmp_path, "a.mid")
    (tmp_path / "out").mkdir()
    page = parsed(Entry("/x/a.wav", output, "done", seconds=4.0, notes=3), root=tmp_path / "out")
    assert "href" not in page.values
    assert page.rows[1][:5] == ["a.wav", "", "done", "0:04.0", "3"]


@pytest.mark.parametrize("data", [b"", b"not MIDI", b"MThd", b"MThd" + bytes(200), to_midi(NOTES).data[:-9]])
def test_an_output_that_is_damaged_is_said(tmp_path: Path, data: bytes) -> None:
    entry = transcribed(tmp_path, "a.mid")
    (tmp_path / "a.mid").write_bytes(data)
    assert parsed(entry, root=tmp_path).rows[1][7] == "the output cannot be read as MIDI"


notes = st.builds(
    lambda onset, length, pitch, bent: Note(
        onset, onset + length, pitch, 80, 0.9, PitchBend(onset, 0.05, np.linspace(0, 1, 20)) if bent else None
    ),
    st.floats(0, 60),
    st.floats(0.05, 5),
    st.integers(21, 108),
    st.booleans(),
)


@settings(deadline=None)
@given(
    st.lists(notes, min_size=1, max_size=30),
    st.sampled_from(["plain", "channels", "mpe"]),
    st.floats(30, 300),
    st.none() | st.lists(st.floats(0.3, 1.5), min_size=2, max_size=40).map(lambda d: Beats(tuple(np.cumsum(d)))),
)
def test_notes_are_read_as_pretty_midi_reads_them(
    tmp_path_factory: pytest.TempPathFactory, found: list[Note], mode: str, tempo: float, beats: Beats | None
) -> None:
    data = to_midi(found, MidiSettings(tempo=tempo, bend_mode=mode), beats=beats).data
    path = tmp_path_factory.getbasetemp() / "read.mid"
    path.write_bytes(data)
    midi = pretty_midi.PrettyMIDI(BytesIO(data), charset="utf-8")
    expected = sorted((n.start, n.end, n.pitch) for i in midi.instruments for n in i.notes)
    table = report._read(path)
    assert table is not None
    assert table[np.lexsort(table.T[::-1])] == pytest.approx(np.array(expected), abs=1e-9)


def decoded(picture: bytes) -> np.ndarray:
    """Levels of a PNG of two bits a pixel."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(picture):
        length, kind = struct.unpack_from(">I4s", picture, at)
        chunks[kind] = picture[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + chunks[kind]) == struct.unpack_from(">I", picture, at + 8 + length)[0]
        at += 12 + length
    width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [2, 3, 0, 0, 0]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return (lines[:, 1:, None] >> np.array([6, 4, 2, 0]) & 3).reshape(height, -1)[:, :width]


def test_a_roll_shows_when_notes_begin_and_end() -> None:
    levels = report._roll(np.array([[1.0, 2.0, 60], [2.0, 3.02, 60], [0.0, 4.0, 61], [3.99, 9.0, 62]]), 4.0, 40)
    assert decoded(report._png(levels)).tolist() == levels.tolist()
    assert len(levels) == report.ROWS
    top = int(np.flatnonzero(levels.any(axis=1))[0])
    drawn = ["".join(".-=#"[level] for level in row) for row in levels[top : top + 3]]
    assert drawn == [f"{'.' * 39}#", f"#{'=' * 39}", f"{'.' * 10}#{'=' * 9}#{'=' * 9}-{'.' * 9}"]
    assert not levels[top + 3 :].any()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3000), st.integers(0, 2**32 - 1), st.floats(0.01, 36_000))
def test_a_roll_stays_small(number: int, seed: int, seconds: float) -> None:
    rng = np.random.default_rng(seed)
    onset = rng.uniform(0, seconds, number)
    dense = np.stack([onset, onset + rng.exponential(1, number), rng.integers(0, 128, number)], axis=1)
    assert len(report._image(dense, seconds)) < 2200


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_rows_are_sorted_found_and_walked_through(tmp_path: Path) -> None:
    entries = [transcribed(tmp_path, f"{name}.mid") for name in ("take 10", "take 9", "solo")]
    entries.insert(1, failed("/music/broken take.wav", "empty file"))
    script = """{
      const names = () => [...document.querySelectorAll("tbody tr:not([hidden]) th")].map((th) => th.firstChild.data);
      const seen = [names()], head = document.querySelector("thead th"), find = document.querySelector("#find");
      for (const _ of "123") {
        head.firstChild.click();
        seen.push([head.getAttribute("aria-sort"), ...names()]);
      }
      document.querySelectorAll("thead th")[3].firstChild.click();
      seen.push(names());
      const key = (name) => document.activeElement.dispatchEvent(
        new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
      key("/");
      find.value = "TAKE file";
      find.dispatchEvent(new Event("input"));
      seen.push([names(), document.querySelector("#shown").textContent]);
      key("Escape");
      document.querySelector("[data-show=done]").click();
      seen.push(names());
      document.activeElement.blur();
      key("j"); key("ArrowDown"); key("ArrowDown"); key("k");
      seen.push(document.activeElement.closest("tr").querySelector("th").firstChild.data);
      document.body.dataset.seen = JSON.stringify(seen);
    }"""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = report.report_page(entries, tmp_path).replace("script-src", f"script-src 'sha256-{digest}'")
    (tmp_path / "report.html").write_text(page.replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-sync"
    command = [CHROMIUM, *(f"--{flag}" for flag in flags.split()), f"--user-data-dir={tmp_path / 'profile'}"]
    result = subprocess.run(
        [*command, "--disable-component-update", "--dump-dom", (tmp_path / "report.html").as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
    )
    dom = Page()
    dom.feed(result.stdout.decode())
    given, ascending, descending, none, by_length, taken, done, focused = json.loads(dom.values["data-seen"][0])
    ten, broken, nine, solo = "take 10.mid.wav", "broken take.wav", "take 9.mid.wav", "solo.mid.wav"
    assert given == [ten, broken, nine, solo]
    assert ascending == ["ascending", broken, solo, nine, ten]
    assert descending == ["descending", ten, nine, solo, broken]
    assert none == [None, *given]
    assert by_length == [ten, nine, solo, broken]
    assert taken == [[broken], "1 of 4 shown"]
    assert done == [ten, nine, solo]
    assert focused == nine
