"""Catalogues: names of outputs found group by group, and lists of recordings."""

from __future__ import annotations

import json
import os
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe.engines.catalogue import Found, absolute, assign, below, group_of, read_line
from basic_transcribe.errors import UsageError
from basic_transcribe.manifest import Entry
from basic_transcribe.plan import plan

NAMES = st.builds("{}{}{}".format, st.sampled_from(["", "x/", "X/"]), st.sampled_from("aAb"), st.sampled_from(
    [".wav", ".WAV", ".mp3", ".wav.mp3", ".wav.wav"]
))  # fmt: skip


def found(url: str, output: str | None = None) -> Found:
    return Found(url, url.rpartition("/")[2], output)


def names(recordings: list[Found], earlier: list[Entry]) -> dict[str, str]:
    """Names of all, made group by group."""

    def key(one: Found | Entry) -> str:
        return group_of(one.relative if isinstance(one, Found) else one.output or one.input)

    result = {}
    for group, some in groupby(sorted(recordings, key=key), key):
        items, failed, _ = assign(some, [entry for entry in earlier if key(entry) == group])
        assert not failed
        result |= {item.found.relative: item.name for item in items}
    return result


@settings(max_examples=60, deadline=None)
@given(st.sets(NAMES, min_size=1, max_size=6))
def test_names_are_those_of_a_batch(files: set[str]) -> None:
    with TemporaryDirectory() as text:
        root, out = Path(text, "in"), Path(text, "out")
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(file)
        jobs = plan([str(root)], out, extensions={".wav", ".mp3"}).jobs
        expected = {
            job.source.relative_to(root).as_posix(): (job.folder / job.name).relative_to(out).as_posix() for job in jobs
        }
        assert names([Found(str(root / file), file) for file in sorted(files)], []) == expected


def test_what_has_a_name_keeps_it() -> None:
    earlier = [Entry("/in/a.wav", "a.mid", "done"), Entry("/elsewhere/b.wav", "b.mid", "done")]
    recordings = [found("/in/a.mp3"), found("/in/a.wav"), found("/in/b.mp3")]
    assert names(recordings, earlier) == {"a.wav": "a", "a.mp3": "a.mp3", "b.mp3": "b.mp3"}


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


@pytest.mark.parametrize(
    ("line", "source", "url", "relative", "output"),
    [
        (b"a/b.wav\r\n", "/songs/list.txt", "/songs/a/b.wav", "a/b.wav", None),
        (b"../b.wav", "/songs/list.txt", "/b.wav", "b.wav", None),
        (b"/else/b.wav", "/songs/list.txt", "/else/b.wav", "else/b.wav", None),
        (b"a/b.wav", "gs://songs/new/list.txt", "gs://songs/new/a/b.wav", "a/b.wav", None),
        (b"s3://else/b.wav", "gs://songs/list.txt", "s3://else/b.wav", "else/b.wav", None),
        (b'{"input": "b.wav", "output": "x/y.mid"}', "/songs/l.jsonl", "/songs/b.wav", "b.wav", "x/y.mid"),
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
