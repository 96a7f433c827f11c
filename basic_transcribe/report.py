"""A page that shows what became of many recordings: a table with a small piano roll of each.

One file without anything beside it: it asks no network for anything, and its Content-Security-Policy says so. Where
scripts are off, it is a plain table.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from .console import clock
from .errors import printable
from .keys import pitch_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .manifest import Entry

COLUMNS = 240  # of a roll, each a pixel
ROWS = 28  # of a roll at least, each a semitone
TALL = 36  # rows; up to here a semitone is two pixels high
LARGEST = 1500  # bytes of a roll, before they are written as text; a larger one is drawn coarser
EMPTY, PARTLY, HELD, STRUCK = range(4)  # levels of a roll
COLOUR = bytes.fromhex("2f7fd6")
OPACITY = bytes((0, 110, 190, 255))  # of the levels
STATUS = {"done": "done", "skipped": "up to date", "failed": "failed"}


def report_page(entries: Sequence[Entry], root: Path, folder: Path | None = None, *, renamed: int = 0) -> str:
    """The page as HTML, to be written as UTF-8.

    Its notes are read from the MIDI files, as far as these are there.

    Parameters
    ----------
    entries : sequence of Entry
        One for each recording, in the order in which they are shown.
    root : Path
        Folder that the outputs of the entries are relative to.
    folder : Path, optional
        Folder of the page, from where it links to the outputs; ``root`` if omitted.
    renamed : int
        How many outputs, of recordings under earlier names, are not among them.
    """
    above = _common_folder(entry.input for entry in entries)
    link = _Links(root, folder or root)
    shown = [_row(entry, above, link) for entry in entries]
    rows, notes, lengths = zip(*shown, strict=True) if shown else ((), (), ())
    totals = _totals(entries, sum(notes), lengths, renamed)
    body = _BODY.format(totals=totals, choices=_choices(entries), above=_above(above), rows="\n".join(rows))
    return _PAGE.format(
        style=_STYLE, script=_SCRIPT, style_hash=_digest(_STYLE), script_hash=_digest(_SCRIPT), body=body
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(text: object) -> str:
    return html.escape(printable(text))


# --------------------------------------------------------------------------------------------------------------- totals


def _common_folder(inputs: Iterable[str]) -> str:
    """The folder that all inputs lie in, with a slash at its end; empty if there is none."""
    folders = {os.path.dirname(path) for path in inputs}
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # no inputs; some absolute, others not
        return ""
    return os.path.join(common, "") if common else ""


def _above(folder: str) -> str:
    return f'<p class="above">in {_text(folder)}</p>' if folder else ""


def _totals(entries: Sequence[Entry], notes: int, lengths: Sequence[float | None], renamed: int) -> str:
    unknown = sum(e.status != "failed" and seconds is None for e, seconds in zip(entries, lengths, strict=True))
    figures = [
        (f"{len(entries):,}", "recording" + "s" * (len(entries) != 1)),
        (clock(sum(filter(None, lengths))), "of audio" + f" and {unknown:,} of unknown length" * bool(unknown)),
        (f"{notes:,}", "note" + "s" * (notes != 1)),
    ]
    if renamed:
        figures.append((f"{renamed:,}", f"output{'s' * (renamed != 1)} under earlier names of recordings, not shown"))
    return "".join(f"<li><b>{figure}</b> {label}</li>" for figure, label in figures)


def _choices(entries: Sequence[Entry]) -> str:
    """Buttons that choose which rows are shown."""
    numbers = Counter(entry.status for entry in entries)
    choices = [("", "all", len(entries))]
    choices += [(status, STATUS.get(status, status), n) for status, n in sorted(numbers.items())]
    choices.append(("warned", "with warnings", sum(bool(entry.warnings) for entry in entries)))
    return "".join(
        f'<button type="button" data-show="{_text(value)}" aria-pressed="{"false" if value else "true"}">'
        f"{_text(label)} <span>{n:,}</span></button>"
        for value, label, n in choices
        if n or not value
    )


# ----------------------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class _Links:
    """Where outputs are, seen from here and from the page."""

    root: Path
    folder: Path

    def path(self, output: str) -> Path | None:
        """The output, if it is a file below the root."""
        within = PurePosixPath(output)
        if within.is_absolute() or ".." in within.parts:
            return None
        path = self.root / within
        try:
            return path if path.is_file() else None
        except ValueError:  # a null character, or a surrogate that stands for no byte
            return None

    def href(self, path: Path) -> str:
        """Percent-encoded bytes of the name, whatever its encoding."""
        try:
            relative = Path(os.path.relpath(path, self.folder))
        except ValueError:  # on another drive
            return path.absolute().as_uri()
        return quote(os.fsencode(relative.as_posix()))


def _row(entry: Entry, above: str, links: _Links) -> tuple[str, int, float | None]:
    """A row of the table, and the notes and the seconds it tells of; None if these are not known."""
    path = links.path(entry.output) if entry.output is not None and entry.status != "failed" else None
    found = None if path is None else _read(path)
    name = _text(entry.input.removeprefix(above))
    files = "" if path is None else _files(entry, path, links)
    remarks = [*((entry.message,) if entry.status == "failed" else ()), *entry.warnings]
    if path is not None and found is None:
        remarks.append("the output cannot be read as MIDI")
    kinds = _text(entry.status) + " warned" * bool(entry.warnings)
    failed = entry.status == "failed"
    seconds, notes = (None, 0) if failed else (entry.seconds, entry.notes or 0)
    if not failed and entry.seconds is None:
        remarks.append("its outputs were found there; its length and warnings are not known")
    roll = span = ""
    low = -1
    if found is not None and len(found):
        low, high = int(found[:, 2].min()), int(found[:, 2].max())
        seconds = seconds or None  # 0.12 said 0 of outputs that it found there
        roll = _image(found, max(seconds or 0.0, float(found[:, 1].max())))
        span = f"{pitch_name(low)}–{pitch_name(high)}" if high > low else pitch_name(low)
        notes = notes or len(found)  # an output of an earlier run that was stopped before it told
    length = '<td data-v="">unknown</td>' if seconds is None else f'<td data-v="{seconds:.2f}">{clock(seconds)}</td>'
    cells = (
        f'<th scope="row">{name}{files}</th>',
        f"<td>{roll}</td>",
        f"<td>{_text(STATUS.get(entry.status, entry.status))}</td>",
        "<td></td>" if failed else length,
        f"<td>{notes}</td>" if seconds is not None or notes or found is not None else "<td></td>",
        f"<td>{notes / seconds:.2f}</td>" if seconds else "<td></td>",
        f'<td data-v="{low}">{span}</td>' if span else "<td></td>",
        f"<td>{'<br>'.join(map(_text, remarks))}</td>",
    )
    return f'<tr class="{kinds}">{"".join(cells)}</tr>', notes, seconds


def _files(entry: Entry, path: Path, links: _Links) -> str:
    """Links to the MIDI file and the outputs beside it."""
    name = path.name.removesuffix(".mid")
    extensions = (e for e in sorted(entry.files) if e != ".mid" and re.fullmatch(r"[.\w-]+", e))
    beside = [(e, path.with_name(name + e)) for e in extensions]
    files = [("MIDI", path), *((e.removeprefix("."), file) for e, file in beside if file.is_file())]
    shown = (f'<a href="{html.escape(links.href(file))}">{_text(label)}</a>' for label, file in files)
    return f"<small>{' '.join(shown)}</small>"


# ----------------------------------------------------------------------------------------------------------------- MIDI


def _read(path: Path) -> NDArray[np.float64] | None:
    """Notes of a MIDI file, shape (notes, 3): onset and offset in seconds, pitch. None if it is not one.

    Thousands of files are read: pretty_midi, which agrees, takes ten times as long.
    """
    import numpy as np

    try:
        data = path.read_bytes()
        division = int.from_bytes(data[12:14], "big")
        if not data.startswith(b"MThd") or not 0 < division < 0x8000:
            return None
        notes: list[tuple[int, int, int]] = []
        tempi = {0: 500_000}
        begin = 8 + int.from_bytes(data[4:8], "big")
        while begin + 8 <= len(data):
            end = begin + 8 + int.from_bytes(data[begin + 4 : begin + 8], "big")
            if data[begin : begin + 4] == b"MTrk":
                _track(data[:end], begin + 8, notes, tempi)
            begin = end
    except (OSError, IndexError, OverflowError):  # it cannot be read; ends too early; lasts for ever
        return None
    last = max((tick for _, tick, _ in notes), default=0)
    ticks = np.array([*sorted(tempi), max(*tempi, last) + 1], float)
    lengths = np.diff(ticks) * [tempi[int(tick)] for tick in ticks[:-1]] / (1e6 * division)
    seconds = np.concatenate([[0.0], np.cumsum(lengths)])
    table = np.array(sorted(notes), float).reshape(-1, 3)
    table[:, :2] = np.interp(table[:, :2], ticks, seconds)
    return table


def _track(data: bytes, at: int, notes: list[tuple[int, int, int]], tempi: dict[int, int]) -> None:
    """Add the notes of a track, from ``at`` to the end of the data, as (begin, end, pitch) in ticks, and its tempi.

    Raises
    ------
    IndexError
        If the data end too early.
    """
    sounding: dict[tuple[int, int], list[int]] = {}
    tick = status = 0
    while at < len(data):
        wait, at = _number(data, at)
        tick += wait
        if data[at] >= 0x80:
            status = data[at]
            at += 1
        if status in (0xF0, 0xF7, 0xFF):  # messages that tell their length
            kind = data[at]
            length, at = _number(data, at + (status == 0xFF))
            if (status, kind, length) == (0xFF, 0x51, 3):
                tempi[tick] = int.from_bytes(data[at : at + 3], "big")
            at += length
            continue
        key = status & 0x0F, data[at]
        if status & 0xF0 == 0x90 and data[at + 1]:
            sounding.setdefault(key, []).append(tick)
        elif status & 0xE0 == 0x80:  # an end, or a beginning without velocity
            notes.extend((begin, tick, key[1]) for begin in sounding.pop(key, ()))
        at += 1 if status & 0xE0 == 0xC0 else 2


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length number, and where it ends."""
    value = 0
    while data[at] >= 0x80:
        value = value << 7 | data[at] & 0x7F
        at += 1
    return value << 7 | data[at], at + 1


# ----------------------------------------------------------------------------------------------------------------- roll


def _image(notes: NDArray[np.float64], seconds: float) -> str:
    """A small piano roll: time to the right, pitch upwards; darker where a note begins."""
    levels = _roll(notes, seconds, COLUMNS)
    picture = _png(levels)
    while len(picture) > LARGEST:
        levels = _roll(notes, seconds, levels.shape[1] // 2)
        picture = _png(levels)
    height = len(levels) * (2 if len(levels) <= TALL else 1)
    data = base64.b64encode(picture).decode()
    return f'<img src="data:image/png;base64,{data}" width={COLUMNS} height={height} alt="">'


def _roll(notes: NDArray[np.float64], seconds: float, columns: int) -> NDArray[np.uint8]:
    """Levels of each semitone, the highest first, and column; shape (rows, columns)."""
    import numpy as np

    low, high = int(notes[:, 2].min()), int(notes[:, 2].max())
    missing = max(0, ROWS - (high - low + 1))
    high = min(127, high + missing // 2)
    rows = max(ROWS, high - low + 1)
    row = (high - notes[:, 2]).astype(int)
    scale = columns / seconds if seconds > 0 else 0.0
    begin = np.clip((notes[:, 0] * scale).astype(int), 0, columns - 1)
    end = np.clip(notes[:, 1] * scale, begin, columns)
    levels = np.full((rows, columns), EMPTY, np.uint8)
    for r, b, e in zip(row, begin, end, strict=True):
        levels[r, b : int(e)] = HELD
        if e > int(e) and int(e) > b and levels[r, int(e)] == EMPTY:
            levels[r, int(e)] = PARTLY
    levels[row, begin] = STRUCK
    return levels


def _png(levels: NDArray[np.uint8]) -> bytes:
    """A PNG of two bits a pixel, transparent where nothing is: it suits a light page and a dark one."""
    import numpy as np

    rows, columns = levels.shape
    padded = np.pad(levels, ((0, 0), (0, -columns % 4)))
    packed = (padded.reshape(rows, -1, 4) << np.array([6, 4, 2, 0], np.uint8)).sum(axis=2).astype(np.uint8)
    unfiltered = np.pad(packed, ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 2, 3, 0, 0, 0)
    parts = (
        (b"IHDR", header),
        (b"PLTE", COLOUR * len(OPACITY)),
        (b"tRNS", OPACITY),
        (b"IDAT", zlib.compress(unfiltered, 9)),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# ----------------------------------------------------------------------------------------------------------------- page


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; base-uri 'none';
 form-action 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>Transcriptions</title>
<style>{style}</style>
</head>
<body>
{body}
<script>{script}</script>
</body>
</html>
"""
BEGINNING = _PAGE.partition("{")[0].encode()
"""Of every page, whichever version wrote it: what begins otherwise is none of ours."""

_BODY = """\
<header>
<h1>Transcriptions</h1>
{above}
<ul class="totals">{totals}</ul>
<div id="tools" hidden>
<input id="find" type="search" placeholder="Find in names and remarks ( / )" aria-label="Find in names and remarks">
<div id="choices" role="group" aria-label="Show">{choices}</div>
<span id="shown" role="status"></span>
</div>
</header>
<main>
<table>
<caption>Recordings and what became of them</caption>
<thead><tr><th scope="col">Recording</th><td>Piano roll</td><th scope="col">Status</th><th scope="col">Length</th>
<th scope="col">Notes</th><th scope="col">Notes/s</th><th scope="col">Range</th><th scope="col">Remarks</th></tr>
</thead>
<tbody>
{rows}
</tbody>
</table>
</main>
"""

_STYLE = """
:root {
  --ground: #fbfbfa; --raised: #fff; --line: #e2e2de; --ink: #1d1f21; --quiet: #62666b; --link: #1660ab;
  --bad: #b3261e; --badge: #eceef0; --hover: #f4f6f9; --roll: #f2f4f6; --chosen: #1d1f21; --on: #fff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #141618; --raised: #1b1e21; --line: #2d3135; --ink: #e6e7e8; --quiet: #9aa0a6; --link: #83b9f2;
    --bad: #ff8a80; --badge: #2a2e33; --hover: #20252b; --roll: #22262b; --chosen: #e6e7e8; --on: #141618;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
header, main { max-width: 90rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 1.75rem; }
h1 { margin: 0; font-size: 1.5rem; font-weight: 600; letter-spacing: -0.01em; }
.above { margin: 0.15rem 0 0; color: var(--quiet); overflow-wrap: anywhere; }
.totals { display: flex; flex-wrap: wrap; gap: 0.25rem 2rem; margin: 1rem 0; padding: 0; list-style: none;
  color: var(--quiet); }
.totals b { color: var(--ink); font-size: 1.25rem; font-weight: 600; font-variant-numeric: tabular-nums; }
#tools { display: flex; flex-wrap: wrap; align-items: center; gap: 0.6rem 1rem; padding-bottom: 1rem; }
#tools[hidden] { display: none; }
#find { width: 19rem; max-width: 100%; padding: 0.4rem 0.7rem; font: inherit; color: inherit; background: var(--raised);
  border: 1px solid var(--line); border-radius: 0.5rem; }
#choices { display: flex; flex-wrap: wrap; gap: 0.35rem; }
#choices button { padding: 0.3rem 0.75rem; font: inherit; color: inherit; background: var(--badge); border: 0;
  border-radius: 1rem; cursor: pointer; }
#choices button span { margin-left: 0.2em; color: var(--quiet); font-variant-numeric: tabular-nums; }
#choices button[aria-pressed="true"] { background: var(--chosen); color: var(--on); }
#choices button[aria-pressed="true"] span { color: inherit; }
#shown { color: var(--quiet); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { width: 100%; table-layout: fixed; border-collapse: collapse; background: var(--raised);
  border: 1px solid var(--line); }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
thead { position: sticky; top: 0; background: var(--raised); box-shadow: 0 1px var(--line); }
thead th, thead td { padding: 0.6rem 0.75rem; color: var(--quiet); font-size: 0.85rem; font-weight: 500;
  text-align: left; white-space: nowrap; }
thead button { padding: 0; font: inherit; color: inherit; background: none; border: 0; cursor: pointer; }
thead button::after { content: "\\2195"; margin-left: 0.3em; opacity: 0.35; }
[aria-sort] button { color: var(--ink); }
[aria-sort="ascending"] button::after { content: "\\2191"; opacity: 1; }
[aria-sort="descending"] button::after { content: "\\2193"; opacity: 1; }
tbody tr { border-top: 1px solid var(--line); }
tbody tr:hover, tbody tr:focus { background: var(--hover); }
tbody th, tbody td { padding: 0.45rem 0.75rem; text-align: left; font-weight: 400; vertical-align: middle; }
thead :nth-child(2) { width: 17rem; }
thead :nth-child(3), thead :nth-child(7) { width: 7rem; }
thead :nth-child(n+4):nth-child(-n+6) { width: 6rem; }
tbody th { overflow-wrap: anywhere; }
tbody small { display: block; font-size: 0.8rem; }
tbody small a { margin-right: 0.6em; }
tbody td:nth-child(2) { padding: 0.25rem 0.75rem; line-height: 0; }
th:nth-child(n+4):nth-child(-n+6), td:nth-child(n+4):nth-child(-n+6) { text-align: right;
  font-variant-numeric: tabular-nums; }
td:nth-child(7), td:nth-child(3) { white-space: nowrap; }
td:nth-child(8) { color: var(--quiet); font-size: 0.9rem; overflow-wrap: anywhere; }
.failed td:nth-child(3), .failed td:nth-child(8) { color: var(--bad); }
img { image-rendering: pixelated; background: var(--roll); border-radius: 3px; }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
main { padding-bottom: 3rem; }
@media (max-width: 76rem) {
  header, main { padding-left: 1rem; padding-right: 1rem; }
  table { background: none; border: 0; }
  thead { position: static; background: none; box-shadow: none; }
  table, thead, tbody { display: block; }
  thead tr { display: flex; flex-wrap: wrap; gap: 0 1rem; }
  thead th, thead td { padding: 0.3rem 0; }
  thead :nth-child(n) { width: auto; }
  thead td { display: none; }
  tbody tr { display: flex; flex-wrap: wrap; gap: 0 0.9rem; align-items: baseline; padding: 0.7rem 0.9rem;
    margin-bottom: 0.6rem; background: var(--raised); border: 1px solid var(--line); border-radius: 0.6rem; }
  tbody tr[hidden] { display: none; }
  tbody th, tbody td, tbody td:nth-child(2) { padding: 0; }
  tbody th, tbody td:nth-child(2), tbody td:nth-child(8) { flex: 0 0 100%; max-width: 100%; }
  tbody td:nth-child(2) { padding: 0.3rem 0; }
  img { width: 100%; }
  tbody td:empty { display: none; }
  tbody td:nth-child(5)::after { content: " notes"; color: var(--quiet); }
  tbody td:nth-child(6)::after { content: "/s"; color: var(--quiet); }
}
@media print {
  #tools, thead button::after { display: none; }
  thead { position: static; }
}
"""

_SCRIPT = """
"use strict";
const body = document.querySelector("tbody");
const rows = [...body.rows];
const find = document.getElementById("find");
const shown = document.getElementById("shown");
const choices = [...document.querySelectorAll("#choices button")];
const heads = [...document.querySelectorAll("thead th")];
const words = rows.map((row) => (row.cells[0].textContent + "\\n" + row.cells[7].textContent).toLowerCase());
const order = new Map(rows.map((row, i) => [row, i]));
const collator = new Intl.Collator(undefined, { numeric: true });

function filter() {
  const wanted = find.value.toLowerCase().split(/\\s+/);
  const choice = choices.find((button) => button.getAttribute("aria-pressed") === "true").dataset.show;
  let number = 0;
  rows.forEach((row, i) => {
    const visible = (!choice || row.classList.contains(choice)) && wanted.every((word) => words[i].includes(word));
    row.hidden = !visible;
    number += visible;
  });
  shown.textContent = number === rows.length ? "" : number + " of " + rows.length + " shown";
}

function value(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.v ?? cell.textContent;
  return column >= 3 && column <= 6 ? (text === "" ? null : Number(text)) : text;
}

function sort(head) {
  const column = head.cellIndex;
  const next = { none: "ascending", ascending: "descending" }[head.getAttribute("aria-sort") ?? "none"];
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  if (next) head.setAttribute("aria-sort", next);
  const sign = next === "descending" ? -1 : 1;
  const keyed = rows.map((row) => [next ? value(row, column) : null, row]);
  keyed.sort(([a, one], [b, other]) => {
    if (a === null || a === "" || b === null || b === "") {  // what is missing comes last, either way
      const late = (key) => key === null || key === "";
      return late(a) - late(b) || order.get(one) - order.get(other);
    }
    const difference = typeof a === "number" ? a - b : collator.compare(a, b);
    return sign * difference || order.get(one) - order.get(other);
  });
  const sorted = document.createDocumentFragment();
  keyed.forEach(([, row]) => sorted.append(row));
  body.append(sorted);
}

function step(by) {
  const visible = [...body.rows].filter((row) => !row.hidden);
  const now = visible.indexOf(document.activeElement.closest("tbody tr"));
  const next = visible[now < 0 ? (by > 0 ? 0 : visible.length - 1) : now + by];
  if (!next) return;
  const target = next.querySelector("a") ?? next;
  target.focus();
  target.scrollIntoView({ block: "nearest" });
}

heads.forEach((head) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = head.textContent;
  button.addEventListener("click", () => sort(head));
  head.replaceChildren(button);
});
rows.forEach((row) => { row.tabIndex = -1; });
find.addEventListener("input", filter);
choices.forEach((button) => button.addEventListener("click", () => {
  choices.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  filter();
}));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === find) {
    if (event.key === "Escape") { find.value = ""; filter(); find.blur(); }
    else if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); step(1); }
    return;
  }
  if (event.key === "/") { event.preventDefault(); find.focus(); find.select(); }
  else if (event.key === "ArrowDown" || event.key === "j") { event.preventDefault(); step(1); }
  else if (event.key === "ArrowUp" || event.key === "k") { event.preventDefault(); step(-1); }
});
document.getElementById("tools").hidden = false;
"""
