"""Catalogues: names of outputs found group by group, and lists of recordings."""

from __future__ import annotations

import json
import ntpath
import os
import unicodedata
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe import manifest
from basic_transcribe.engines import catalogue
from basic_transcribe.engines.catalogue import Found, Item, absolute, as_folder, assign, below, meet, parent, read_line
from basic_transcribe.errors import UsageError
from basic_transcribe.manifest import Entry
from basic_transcribe.plan import plan

NAMES = st.builds("{}{}{}".format, st.sampled_from(["", "x/", "X/"]), st.sampled_from("aAb"), st.sampled_from(
    [".wav", ".WAV", ".mp3", ".wav.mp3", ".wav.wav"]
))  # fmt: skip


def found(url: str, output: str | None = None) -> Found:
    return Found(url, url.rpartition("/")[2], output)


def named(recordings: list[Found], earlier: list[Entry]) -> tuple[list[Item], list[Entry], list[Entry]]:
    """What :func:`assign` makes of all, path by path and then group by group, as an engine does it."""
    groups: dict[str, list[tuple[Found | None, Entry | None]]] = {}
    for url in sorted({one.url for one in recordings} | {entry.input for entry in earlier}):
        found, known = [one for one in recordings if one.url == url], [entry for entry in earlier if entry.input == url]
        for group, one, entry in meet(found, known):
            groups.setdefault(group, []).append((one, entry))
    items, failed, others = [], [], []
    for pairs in groups.values():
        some = assign([one for one, _ in pairs if one], [entry for _, entry in pairs if entry])
        items, failed, others = items + some[0], failed + some[1], others + some[2]
    return items, failed, others


def names(recordings: list[Found], earlier: list[Entry]) -> dict[str, str]:
    """Names of all, none of which fails."""
    items, failed, _ = named(recordings, earlier)
    assert not failed
    return {item.found.relative: item.name for item in items}


@settings(max_examples=60, deadline=None)
@given(st.sets(NAMES, min_size=1, max_size=6))
def test_names_are_those_of_a_batch(files: set[str]) -> None:
    with TemporaryDirectory() as text:
        root, out = Path(text, "in"), Path(text, "out")
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(file)
        jobs = plan([str(root)], out).jobs
        expected = {
            job.source.relative_to(root).as_posix(): (job.folder / job.name).relative_to(out).as_posix() for job in jobs
        }
        assert names([Found(str(root / file), file) for file in sorted(files)], []) == expected


def test_what_has_a_name_keeps_it() -> None:
    earlier = [Entry("/in/a.wav", "a.mid", "done"), Entry("/elsewhere/b.wav", "b.mid", "done")]
    recordings = [found("/in/a.mp3"), found("/in/a.wav"), found("/in/b.mp3")]
    assert names(recordings, earlier) == {"a.wav": "a", "a.mp3": "a.mp3", "b.mp3": "b.mp3"}


def test_names_that_differ_by_unicode_form_differ_by_more() -> None:
    forms = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    recordings = [found(f"/in/{forms[0]}.wav"), found(f"/in/{forms[1]}.mp3")]
    assert set(names(recordings, []).values()) == {f"{forms[0]}.wav", f"{forms[1]}.mp3"}
    earlier = [Entry(one.url, f"{form}.mid", "done") for one, form in zip(recordings, forms, strict=True)]
    assert set(names(recordings, earlier).values()) == set(forms)  # what has a name keeps it


def test_a_name_of_another_group_is_kept_too() -> None:
    known = Entry("/in/a.wav", "song/x.mid", "done")
    assert named([found("/in/a.wav")], [known]) == ([Item(found("/in/a.wav"), "song/x", known)], [], [])
    assert names([found("/in/a.wav"), Found("/in/song/x.mp3", "song/x.mp3")], [known]) == {
        "a.wav": "song/x",
        "song/x.mp3": "song/x.mp3",
    }


def test_of_several_lines_on_a_recording_one_counts() -> None:
    """Such tables were written once."""
    failed = Entry("/in/a.wav", "a.mid", "failed")
    known, other = (Entry("/in/a.wav", output, "done") for output in ("x.mid", "y.mid"))
    for earlier in ([failed, known, other], [other, known, failed]):
        assert named([found("/in/a.wav")], earlier) == ([Item(found("/in/a.wav"), "x", known)], [], [])
        assert named([], earlier) == ([], [], [known])


def test_a_list_goes_before_what_is_known() -> None:
    """Whose name is given to another gets a new one, and a name that is left is nobody else's in this run."""
    earlier = [Entry("/in/a.wav", "song/x.mid", "done"), Entry("/in/b.wav", "b.mid", "done")]
    given = names([found("/in/a.wav"), found("/in/b.wav", "song/x.mid")], earlier)
    assert given["b.wav"] == "song/x"
    assert given["a.wav"].startswith("a.wav.")
    items, _, others = named([found("/in/a.wav", "y.mid"), Found("/in/song/x.mp3", "song/x.mp3")], earlier)
    assert {item.name: item.known for item in items} == {"y": None, "song/x.mp3": None}
    assert others == earlier[1:]


def test_what_is_known_of_another_output_is_not_of_this_one() -> None:
    """Or two recordings that change places would each be taken for what is done."""
    earlier = [Entry("/in/a.wav", "x.mid", "done"), Entry("/in/b.wav", "y.mid", "done")]
    items, _, others = named([found("/in/a.wav", "y.mid"), found("/in/b.wav", "x.mid")], earlier)
    assert {item.found.url: (item.name, item.known) for item in items} == {
        "/in/a.wav": ("y", None),
        "/in/b.wav": ("x", None),
    }
    assert not others


OUTPUTS = st.sampled_from(["a.mid", "A.mid", "a.wav.mid", "b.mid", "x/a.mid", "x/b.wav.mid"])


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.none() | OUTPUTS, max_size=8), st.dictionaries(NAMES, OUTPUTS, max_size=6))
def test_every_recording_is_told_of_once(listed: dict[str, str | None], outputs: dict[str, str]) -> None:
    """Whatever lists and earlier runs say, no two get one name, and what is given or known is kept if it is free."""
    earlier = [
        Entry(f"/in/{file}", output, "done")
        for i, (file, output) in enumerate(outputs.items())
        if output.casefold() not in [other.casefold() for other in list(outputs.values())[:i]]
    ]
    recordings = [Found(f"/in/{file}", file, output) for file, output in listed.items()]
    items, failed, others = named(recordings, earlier)
    entries = [(item.found.url, f"{item.name}.mid") for item in items] + [(e.input, e.output) for e in failed + others]
    given = {output.casefold() for output in listed.values() if output}
    left = [entry for entry in earlier if str(entry.output).casefold() not in given]
    urls = {one.url for one in recordings}
    assert Counter(url for url, _ in entries) == Counter(urls | {entry.input for entry in left})
    assert set(Counter(output.casefold() for _, output in entries if output).values()) <= {1}
    moved = {one.url for one in recordings if one.output}
    assert {(entry.input, entry.output) for entry in left if entry.input not in moved} <= set(entries)
    for item in items:
        assert item.found.output in (None, f"{item.name}.mid")


def test_what_is_known_goes_with_the_recording_and_the_rest_is_passed_on() -> None:
    known, other, replaced = (Entry(f"/in/{name}", f"{name[0]}.mid", "done") for name in ("a.wav", "b.wav", "c.wav"))
    items, failed, others = assign([found("/in/a.wav"), found("/new/x.wav", "c.mid")], [known, other, replaced])
    assert [(item.name, item.known) for item in items] == [("a", known), ("c", None)]
    assert (failed, others) == ([], [other])


def test_a_recording_listed_twice_is_one() -> None:
    items, failed, _ = assign([found("/in/a.wav"), found("/in/a.wav", "x.mid"), found("/in/a.wav")], [])
    assert [item.name for item in items] == ["x"]
    assert not failed


def test_two_recordings_with_one_output() -> None:
    items, failed, _ = assign([found("/in/a.wav", "X.mid"), found("/in/b.wav", "x.mid")], [])
    assert [item.found.url for item in items] == ["/in/a.wav"]
    assert [(e.input, e.status, e.message) for e in failed] == [
        ("/in/b.wav", "failed", "its output x.mid is that of /in/a.wav; give it another")
    ]


@pytest.mark.parametrize("relative", ["a/../../b.wav", "a//b.wav", "./b.wav"])
def test_names_of_objects_that_are_no_paths(relative: str) -> None:
    items, failed, _ = assign([Found(f"s3://songs/{relative}", relative)], [])
    assert not items
    assert "empty part, . or .." in failed[0].message


@pytest.mark.parametrize("relative", ["..\\..\\b.wav", "x/C:b.wav", "nul.wav"])
def test_names_of_objects_that_are_no_paths_on_windows(relative: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Found(f"s3://songs/{relative}", relative)
    monkeypatch.setattr(manifest, "WINDOWS", False)
    assert len(assign([one], [])[0]) == 1
    monkeypatch.setattr(manifest, "WINDOWS", True)
    items, failed, _ = assign([one], [])
    assert not items
    assert "Windows does not allow; rename" in failed[0].message


@pytest.mark.parametrize(
    ("line", "source", "url", "relative", "output"),
    [
        (b"a/b.wav\r\n", "/songs/list.txt", "/songs/a/b.wav", "a/b.wav", None),
        (b"../b.wav", "/songs/list.txt", "/b.wav", "b.wav", None),
        (b"/else/b.wav", "/songs/list.txt", "/else/b.wav", "else/b.wav", None),
        (b"a/b.wav", "gs://songs/new/list.txt", "gs://songs/new/a/b.wav", "a/b.wav", None),
        (b"s3://else/b.wav", "gs://songs/list.txt", "s3://else/b.wav", "else/b.wav", None),
        (b'{"input": "b.wav", "output": "x/y.mid"}', "/songs/l.jsonl", "/songs/b.wav", "b.wav", "x/y.mid"),
        (b'{"input": "b.wav"}', "/songs/L.JSONL", "/songs/b.wav", "b.wav", None),
        (b'\xef\xbb\xbf{"input": "b.wav"}', "/songs/l.jsonl", "/songs/b.wav", "b.wav", None),
        (b"\xef\xbb\xbfb.wav", "/songs/list.txt", "/songs/b.wav", "b.wav", None),
        (json.dumps({"input": "b\udcff.wav"}).encode(), "/songs/l.jsonl", "/songs/b\udcff.wav", "b\udcff.wav", None),
    ],
)
def test_lines_of_lists(line: bytes, source: str, url: str, relative: str, output: str | None) -> None:
    assert read_line(line, source, 1) == Found(url, relative, output)


def test_an_empty_line_is_none() -> None:
    assert read_line(b"\n", "/songs/list.txt", 1) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"b.wav", "not a recording"),
        (b'["b.wav"]', "not a recording"),
        (b'{"input": 3}', "not a recording"),
        (b'{"input": "b.wav", "output": "b.wav"}', "let it end with .mid"),
        (b'{"input": "b.wav", "output": "../b.mid"}', "leads out of the folder"),
        (b'{"input": "b.wav", "output": "/etc/b.mid"}', "leads out of the folder"),
        (b"[" * 100_000, "not a recording"),
    ],
)
def test_lines_that_are_refused(line: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=rf"^/l\.jsonl, line 7: .*{message}"):
        read_line(line, "/l.jsonl", 7)


def test_a_list_that_is_not_text() -> None:
    with pytest.raises(UsageError, match=r"line 1: not a recording; give lines such as songs/a\.wav, in UTF-8"):
        read_line(b"\xff.wav", "/list.txt", 1)


def test_paths() -> None:
    assert absolute("x/../a.wav") == os.path.abspath("a.wav")
    assert absolute("s3://b/a.wav") == "s3://b/a.wav"
    assert below("s3://b/x/a.wav", "s3://b/x/") == "a.wav"
    assert below("s3://b/y/a.wav", "s3://b/x/") == "b/y/a.wav"
    assert parent("s3://b/x/a.wav") == as_folder("s3://b/x") == as_folder("s3://b/x/") == "s3://b/x/"
    assert below("s3://b//a.wav", parent("s3://b/l.txt")) == "/a.wav"  # which is refused later


def test_paths_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "os", SimpleNamespace(path=ntpath, sep="\\"))
    assert parent(r"C:\songs\list.txt") == as_folder(r"C:\songs") == "C:\\songs\\"
    assert as_folder("C:\\") == "C:\\"
    assert below(r"C:\songs\sub\a.wav", as_folder(r"C:\songs")) == "sub/a.wav"
    assert below(r"D:\else\a.wav", as_folder(r"C:\songs")) == "else/a.wav"
    assert below(r"\\host\share\a.wav", as_folder(r"C:\songs")) == "a.wav"
    assert below("s3://b/x\\y.wav", "s3://b/") == "x\\y.wav"
    for line in (b"sub/a.wav", rb"sub\a.wav"):
        assert read_line(line, r"C:\songs\list.txt", 1) == Found(r"C:\songs\sub\a.wav", "sub/a.wav")
