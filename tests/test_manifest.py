"""The manifest: what is read back, what a torn line costs, who may write to it, and where outputs may lie."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe import manifest
from basic_transcribe.errors import OutputError, UsageError
from basic_transcribe.manifest import NAME, Entries, Entry, Manifest

NAMES = st.text(st.characters(exclude_characters="\0"), min_size=1)  # surrogates too: bytes that are not text
COUNTS = st.integers(0, 2**62)
DIGESTS = st.dictionaries(st.sampled_from([".mid", ".csv", ".sonified.wav"]), st.text("0123456789abcdef"))
ENTRIES = st.builds(
    Entry,
    input=NAMES,
    output=st.none() | st.text("ab é\udce9./", min_size=1).map(lambda text: "x" + text.replace("..", "_")),
    status=st.sampled_from(["done", "skipped", "failed"]),
    size=st.none() | COUNTS,
    mtime_ns=st.none() | st.integers(-(2**62), 2**62),
    sha256=st.text(),
    fingerprint=st.text(),
    seconds=st.floats(0, 1e9),
    notes=COUNTS,
    message=st.text(),
    warnings=st.lists(st.text()).map(tuple),
    files=DIGESTS,
    older=DIGESTS,
    sizes=st.dictionaries(st.sampled_from([".mid", ".csv"]), COUNTS),
    version=st.text(),
    time=st.text(),
)
DONE = Entry("/in/a.wav", "a.mid", "done", 10, 20, "aa", "bb", 1.5, 3, files={".mid": "cc"})


@settings(deadline=None)
@given(ENTRIES)
def test_a_line_is_read_as_it_was_written(entry: Entry) -> None:
    line = manifest.to_line(entry)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    normal = entry.output and replace(entry, output=str(manifest.safe_output(entry.output)))
    assert manifest.parse(line) == (normal or entry)
    assert json.loads(line)["version"] == entry.version
    assert json.loads(line)["time"] == entry.time


@settings(deadline=None, max_examples=50)
@given(st.binary() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_other_lines_are_nothing(line: bytes) -> None:
    assert manifest.parse(line) is None


@pytest.mark.parametrize(
    "wrong",
    [
        *({"input": value} for value in (None, 1, "a\0b")),
        {"output": 3},
        {"status": "perhaps"},
        {"status": ["done"]},
        {"size": -1},
        {"size": True},
        {"seconds": -1},
        {"seconds": float("nan")},
        {"notes": 1.5},
        {"warnings": "ab"},
        {"warnings": [1]},
        {"files": {".mid": None}},
        {"older": []},
        {"sizes": {".mid": -1}},
        {"sizes": [1]},
        {"version": 1},
        {"time": None},
    ],
)
def test_a_value_of_another_kind_makes_it_another_line(wrong: dict[str, object]) -> None:
    line = json.loads(manifest.to_line(DONE)) | wrong
    assert manifest.parse(json.dumps(line).encode()) is None


def test_keys_of_later_versions_are_passed_over_and_missing_ones_have_defaults() -> None:
    line = b'{"input": "/a.wav", "output": "a.mid", "status": "done", "colour": "blue"}'
    assert manifest.parse(line) == Entry("/a.wav", "a.mid", "done")


@settings(deadline=None)
@given(st.text("ab./\\:\n\0é~ "))
def test_no_output_leads_out_of_its_folder(text: str) -> None:
    try:
        path = manifest.safe_output(text)
    except UsageError:
        return
    assert Path(os.path.normpath(Path("/out", path))).is_relative_to("/out")
    assert os.path.normpath(Path("/out", path)) != "/out"
    assert "\0" not in text


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("text", ["../a.mid", "/etc/a.mid", "a/../../b.mid"])
def test_outputs_elsewhere_are_refused(
    text: str, windows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "WINDOWS", windows)
    with pytest.raises(UsageError, match="leads out of the folder"):
        manifest.safe_output(text)
    (tmp_path / NAME).write_bytes(manifest.to_line(DONE) + manifest.to_line(replace(DONE, output=text)))
    with pytest.raises(UsageError, match="line 2: "):
        manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["a\0.mid", "", "."])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="leads out of the folder"):
        manifest.safe_output(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "C:a.mid",
            "x/C:a.mid",
            "x/C:/y/a.mid",
            "a.mid:b.mid",
            "..\\a.mid",
            "a\nb.mid",
            "a?.mid",
            "a<b|c>.mid",
            'a".mid',
        ),
        *(
            "a*.mid",
            "CON.mid",
            "x/nul.mid",
            "nul",
            "Com1.x.mid",
            "LPT³ .mid",
            "aux/a.mid",
            "x ./a.mid",
            "x /a.mid",
            "a.",
        ),
    ],
)
def test_what_is_no_name_on_windows_is_refused_there(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).write_bytes(manifest.to_line(DONE) + manifest.to_line(replace(DONE, output=text)))
    monkeypatch.setattr(manifest, "WINDOWS", False)
    assert str(manifest.safe_output(text)) == text
    assert [entry.output for entry in manifest.read(tmp_path)] == [text]
    monkeypatch.setattr(manifest, "WINDOWS", True)
    with pytest.raises(UsageError, match="no name that Windows allows; give another"):
        manifest.safe_output(text)
    assert list(manifest.read(tmp_path)) == [DONE]  # it may be of a run on another system


@pytest.mark.skipif(os.name == "nt", reason="Windows takes any characters")
@pytest.mark.parametrize("text", ["\ud83c.mid", "half \ud83c/a.mid"])
def test_what_the_names_of_files_cannot_be_written_with_is_refused(text: str, tmp_path: Path) -> None:
    """Half a surrogate pair, as a list from another program may have; or é, in a locale that lacks it."""
    with pytest.raises(UsageError, match="no name that this system allows; give another"):
        manifest.safe_output(text)
    (tmp_path / NAME).write_bytes(manifest.to_line(DONE) + manifest.to_line(replace(DONE, output=text)))
    assert list(manifest.read(tmp_path)) == [DONE]
    assert str(manifest.safe_output("latin \udce9.mid")) == "latin \udce9.mid"  # a byte that is no UTF-8


@pytest.mark.parametrize(
    "text", ["console.mid", "x/com10.mid", "a.b c/.a .mid", "communion/a+b,c;d=[e].mid", "é'♯.mid"]
)
def test_what_is_a_name_on_windows_is_taken_there(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "WINDOWS", True)
    assert str(manifest.safe_output(text)) == text


def test_the_last_entry_on_an_input_or_an_output_counts() -> None:
    other = Entry("/in/b.wav", "b.mid", "failed")
    moved = replace(DONE, input="/elsewhere/a.wav")
    entries = Entries([DONE, other, replace(DONE, notes=4), moved, replace(other, output=None)])
    assert list(entries) == [moved, replace(other, output=None)]
    assert entries.of_input("/in/a.wav") is None
    assert entries.of_output("a.mid") == moved
    assert entries.of_output("b.mid") is None


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert len(manifest.read(tmp_path / "nowhere")) == 0
    failed = replace(DONE, input="/in/caf\udce9.wav", output="caf\udce9.mid", status="failed", message="é\n")
    for entry in (DONE, failed):
        with Manifest(tmp_path) as book:
            book.append(entry, Entries())
    assert list(manifest.read(tmp_path)) == [DONE, failed]
    assert (tmp_path / NAME).read_bytes().isascii()


def test_who_told_it_and_when_is_no_news() -> None:
    assert replace(DONE, version="0.15.0", time="2026-01-31T12:00:00Z") == DONE
    assert replace(DONE, sizes={".mid": 3}) != DONE


def test_what_others_add_is_taken_in(tmp_path: Path) -> None:
    with Manifest(tmp_path) as book, Manifest(tmp_path) as other:
        book.append(DONE, Entries())
        entries = manifest.read(tmp_path)
        other.append(replace(DONE, notes=7), Entries())
        with (tmp_path / NAME).open("ab") as file:
            file.write(b'{"input":"torn')
        book.catch_up(entries)
        assert list(entries) == [replace(DONE, notes=7)]
        other.append(replace(DONE, notes=8), Entries())  # which removes the torn line
        book.catch_up(entries)
        assert list(entries) == [replace(DONE, notes=8)]
        assert entries.end == (tmp_path / NAME).stat().st_size
        (tmp_path / NAME).write_bytes(manifest.to_line(replace(DONE, notes=9)))  # begun anew
        book.catch_up(entries)
        assert list(entries) == [replace(DONE, notes=9)]


def test_what_another_file_says_is_taken_in_from_its_beginning(tmp_path: Path) -> None:
    told = [replace(DONE, input=f"/in/{name}.wav", output=f"{name}.mid") for name in "abcd"]
    with Manifest(tmp_path) as book:
        for entry in told[:2]:
            book.append(entry, Entries())
        entries = manifest.read(tmp_path)
        os.rename(tmp_path / NAME, tmp_path / "moved")
        news = [replace(entry, notes=9) for entry in reversed(told)]
        (tmp_path / NAME).write_bytes(b"".join(map(manifest.to_line, news)))  # already longer
        book.catch_up(entries)
        assert list(entries) == news
        os.rename(tmp_path / NAME, tmp_path / "moved again")
        (tmp_path / NAME).write_bytes(b"".join(map(manifest.to_line, told)))
        book.append(replace(told[0], notes=8), entries)
        assert list(entries) == [*told[1:], replace(told[0], notes=8)]


def test_an_entry_is_joined_and_told_once(tmp_path: Path) -> None:
    ours, theirs = (replace(DONE, files={".mid": "cc", extension: "dd"}) for extension in (".csv", ".json"))
    both = replace(DONE, files=ours.files | theirs.files)
    with Manifest(tmp_path) as book, Manifest(tmp_path) as other:
        entries, others = manifest.read(tmp_path), manifest.read(tmp_path)
        other.append(theirs, others)
        for _ in range(2):
            book.append(ours, entries)
            other.append(theirs, others)
        assert list(entries) == list(others) == [both]
    lines = (tmp_path / NAME).read_bytes().splitlines()
    assert [manifest.parse(line) for line in lines] == [theirs, both]


def test_an_entry_of_what_was_there_is_joined_with_what_a_run_has_told_that_made_it(tmp_path: Path) -> None:
    made = replace(DONE, warnings=("quiet",))
    older = {".mid": "ee", ".json": "ff"}
    found = replace(DONE, status="skipped", files={".csv": "dd"}, older=older, seconds=None, notes=None)
    with Manifest(tmp_path) as book:
        book.append(made, Entries())
        entries = Entries()
        book.append(found, entries)
    assert list(entries) == [replace(made, files=made.files | found.files, older={".json": "ff"})]
    assert entries.end == manifest.read(tmp_path).end == (tmp_path / NAME).stat().st_size  # none is read again


@pytest.mark.parametrize("other", [{"output": "b.mid"}, {"sha256": "ff"}, {"fingerprint": "ff"}, {"status": "failed"}])
def test_an_entry_of_other_outputs_or_of_a_failure_is_not_joined(other: dict[str, str], tmp_path: Path) -> None:
    ours = replace(DONE, files={".csv": "dd"}, **other)  # type: ignore[arg-type]
    with Manifest(tmp_path) as book:
        book.append(DONE, Entries())
        entries = Entries()
        book.append(ours, entries)
    assert ours in list(entries)


def test_an_entry_is_joined_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = WindowsLock(0, PermissionError())
    held = on_windows(lock, monkeypatch)
    seen = []
    join = manifest._joined
    monkeypatch.setattr(manifest, "_joined", lambda *entries: (seen.append(list(lock.held)), join(*entries))[1])
    with Manifest(tmp_path) as book:
        book.append(DONE, Entries())
    assert len(held) == 1
    assert seen == held


@settings(deadline=None)
@given(st.integers(0, 2 * len(manifest.to_line(DONE)) - 1))
def test_a_torn_line_costs_no_other(tmp_path_factory: pytest.TempPathFactory, kept: int) -> None:
    folder = tmp_path_factory.mktemp("torn")
    second = replace(DONE, input="/in/b.wav", output="b.mid")
    data = manifest.to_line(DONE) + manifest.to_line(second)
    (folder / NAME).write_bytes(data[:kept])
    whole = [DONE, second][: data[:kept].count(b"\n")]
    assert list(manifest.read(folder))[: len(whole)] == whole  # one that lacks nothing but its line feed is read too
    with Manifest(folder) as book:
        book.append(replace(second, notes=7), Entries())
    lines = (folder / NAME).read_bytes().splitlines()
    assert [manifest.parse(line) for line in lines] == [*whole, replace(second, notes=7)]


def test_a_very_long_torn_line_is_removed(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(manifest.to_line(DONE) + b'{"input":"' + b"x" * 10_000)
    with Manifest(tmp_path) as book:
        book.append(replace(DONE, notes=7), Entries())
    assert (tmp_path / NAME).read_bytes() == manifest.to_line(DONE) + manifest.to_line(replace(DONE, notes=7))


def _append_many(folder: Path, name: str) -> None:
    with Manifest(folder) as book:
        for i in range(50):
            book.append(replace(DONE, input=f"/{name}/{i}", output=f"{name}/{i}.mid", message=name * 400), Entries())


def test_several_processes_may_write_to_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(tmp_path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(manifest.read(tmp_path)) == len((tmp_path / NAME).read_bytes().splitlines()) == 100


class WindowsLock:
    """The module msvcrt, while another process has the lock for some tries."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self, tries: int, error: OSError) -> None:
        self.tries, self.error = tries, error
        self.held: list[int] = []  # bytes

    def locking(self, descriptor: int, mode: int, length: int) -> None:
        assert length == 1
        byte = os.lseek(descriptor, 0, os.SEEK_CUR)
        if mode == self.LK_UNLCK:
            self.held.remove(byte)
        elif self.tries:
            self.tries -= 1
            raise self.error
        else:
            self.held.append(byte)


def on_windows(lock: WindowsLock, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The bytes locked at each write."""
    held = []
    write = os.write

    def watched(descriptor: int, data: bytes) -> int:
        held.append(list(lock.held))
        return write(descriptor, data)

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", lock)
    monkeypatch.setattr(os, "write", watched)
    monkeypatch.setattr(manifest, "LOCK_PAUSE", 0)
    return held


def test_one_run_at_a_time_writes_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = WindowsLock(3, PermissionError(errno.EACCES, "Permission denied"))
    held = on_windows(lock, monkeypatch)
    with Manifest(tmp_path) as book:
        book.append(DONE, Entries())
        monkeypatch.setattr(os, "fsync", _full)
        with pytest.raises(OutputError):
            book.append(replace(DONE, notes=7), Entries())
    (byte,) = held[0]
    assert byte > 10**9  # what is locked cannot be read there
    assert held == [[byte], [byte]]
    assert (lock.tries, lock.held) == (0, [])
    assert (tmp_path / NAME).read_bytes() == manifest.to_line(DONE)


def test_where_windows_knows_no_locks_lines_are_written_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = WindowsLock(1, OSError(errno.EINVAL, "Invalid argument"))
    held = on_windows(lock, monkeypatch)
    with Manifest(tmp_path) as book:
        book.append(DONE, Entries())
    assert held == [[]]
    assert list(manifest.read(tmp_path)) == [DONE]


def test_a_full_disk_harms_no_earlier_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with Manifest(tmp_path) as book:
        book.append(DONE, Entries())
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:30]))
        with pytest.raises(OutputError, match="No space left"):
            book.append(replace(DONE, input="/in/b.wav"), Entries())
        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(os, "fsync", _full)
        with pytest.raises(OutputError, match="No space left"):
            book.append(replace(DONE, input="/in/b.wav"), Entries())
    assert (tmp_path / NAME).read_bytes() == manifest.to_line(DONE)


def _full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.skipif(os.name == "nt", reason="Windows neither moves nor removes what is open")
def test_a_manifest_that_is_moved_or_removed_is_begun_anew(tmp_path: Path) -> None:
    other, third = (replace(DONE, input=f"/in/{name}.wav", output=f"{name}.mid") for name in "bc")
    with Manifest(tmp_path) as book:
        book.append(DONE, Entries())
        os.rename(tmp_path / NAME, tmp_path / "moved")
        book.append(other, Entries())
        assert list(manifest.read(tmp_path)) == [other]
        (tmp_path / NAME).unlink()
        book.append(third, Entries())
        book.append(replace(third, notes=7), Entries())
    assert (tmp_path / NAME).read_bytes() == manifest.to_line(third) + manifest.to_line(replace(third, notes=7))
    assert (tmp_path / "moved").read_bytes() == manifest.to_line(DONE)


@pytest.mark.skipif(os.name == "nt", reason="Windows neither moves nor removes what is open")
def test_what_takes_the_place_of_a_manifest_is_left_alone(tmp_path: Path) -> None:
    with Manifest(tmp_path) as book:
        (tmp_path / NAME).unlink()
        (tmp_path / NAME).write_text("my own list")
        with pytest.raises(OutputError, match="not written by this program"):
            book.append(DONE, Entries())
        (tmp_path / NAME).unlink()
        book.append(DONE, Entries())
    assert list(manifest.read(tmp_path)) == [DONE]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "check access"), (errno.EROFS, "check access")],
)
def test_what_keeps_it_from_being_written_has_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match=f"cannot be written: {os.strerror(number)}; {remedy}, or choose another"):
        Manifest(tmp_path)


@pytest.mark.parametrize("content", [b"name,notes\n", b"[1, 2]", b'{"name": "a web page"}\n', None])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / NAME
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(OutputError, match="move it"):
        manifest.read(tmp_path)
    assert content is None or path.read_bytes() == content


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=NAME):
        Manifest(tmp_path / "nowhere")
