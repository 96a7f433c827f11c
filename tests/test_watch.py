"""New recordings in a folder: told of when they are complete, however they get there."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe import watch
from basic_transcribe.errors import TranscribeError, UsageError, require
from basic_transcribe.watch import Settling


def write(path: Path, size: int, time: int) -> None:
    path.write_bytes(b"x" * size)
    os.utime(path, ns=(time, time))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 3), st.booleans()), max_size=20))
def test_a_recording_is_complete_when_nothing_has_changed_for_a_while(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[float, bool]]
) -> None:
    path = tmp_path_factory.mktemp("watched") / "a.wav"
    write(path, 1, 1)
    settling = Settling(1.0)
    settling.touch(path, 0.0)
    now = since = 0.0
    for i, (wait, grows) in enumerate(steps):
        now += wait
        if grows:
            write(path, 2 + i, 2 + i)
            since = now
        complete = now - since >= 1.0
        assert settling.take(now) == ([path] if complete else [])
        if complete:
            assert settling.take(now + 10) == []
            return


def test_what_is_gone_is_waited_for_no_more(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("b.wav", "a.wav", "gone.wav")]
    settling = Settling(1.0)
    for path in paths:
        write(path, 1, 1)
        settling.touch(path, 0.0)
    settling.touch(tmp_path / "never.wav", 0.0)
    paths[2].unlink()
    assert settling.take(0.5) == []
    for name in ("gone.wav", "never.wav"):
        write(tmp_path / name, 1, 1)
    assert settling.take(1.0) == [tmp_path / "a.wav", tmp_path / "b.wav"]
    assert settling.take(10.0) == []


def test_a_touch_begins_the_wait_anew(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 1, 1)
    settling = Settling(1.0)
    settling.touch(tmp_path / "a.wav", 0.0)
    settling.touch(tmp_path / "a.wav", 0.9)
    assert settling.take(1.5) == []
    assert settling.take(2.0) == [tmp_path / "a.wav"]


def arrivals(*folders: Path) -> Iterator[list[str]]:
    """Names of what arrives in each lot, the watch being ended with the test."""
    for lot in watch.arrivals(folders, lambda: False, settled=0.05):
        assert all(path.is_relative_to(folder) and folder in folders for folder, path in lot)
        yield [str(path.relative_to(folder)) for folder, path in lot]


def take(lots: Iterator[list[str]], number: int) -> list[str]:
    """The first so many that arrive."""
    found: list[str] = []
    while len(found) < number:
        found += next(lots)
    return found


def test_recordings_that_appear_are_told_of(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    watched, elsewhere = tmp_path / "watched", tmp_path / "elsewhere"
    (watched / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    write(watched / "old.wav", 1, 1)
    write(elsewhere / "moved.wav", 1, 1)
    (elsewhere / "tree" / "deep").mkdir(parents=True)
    write(elsewhere / "tree" / "deep" / "came with it.wav", 1, 1)
    lots = arrivals(watched)
    assert next(lots) == []
    for name in ("notes.txt", ".hidden.wav", "a.sonified.wav", "sub/new.wav"):
        write(watched / name, 1, 1)
    assert take(lots, 1) == ["sub/new.wav"]
    os.rename(elsewhere / "moved.wav", watched / "moved.wav")
    assert take(lots, 1) == ["moved.wav"]
    os.rename(elsewhere / "tree", watched / "tree")
    assert take(lots, 1) == ["tree/deep/came with it.wav"]
    write(watched / "old.wav", 2, 2)
    assert take(lots, 1) == ["old.wav"]
    (watched / "old.wav").unlink()
    write(watched / "last.wav", 1, 1)
    assert take(lots, 1) == ["last.wav"]


def test_folders_are_called_what_the_user_calls_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("watchfiles")
    monkeypatch.chdir(tmp_path)
    for name in ("real", "other"):
        Path(name).mkdir()
    Path("link").symlink_to("real")
    lots = arrivals(Path("link"), Path("other"))
    assert next(lots) == []
    write(Path("real/a.wav"), 1, 1)
    write(Path("other/b.wav"), 1, 1)
    assert sorted(take(lots, 2)) == ["a.wav", "b.wav"]


def remove(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def move(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.mkdir()


def link_elsewhere(folder: Path) -> None:
    other = folder.with_name("other")
    other.mkdir()
    folder.with_name("new").symlink_to(other)
    folder.with_name("new").replace(folder)


@pytest.mark.parametrize("exchange", [remove, move, link_elsewhere])
def test_a_folder_that_takes_the_place_of_another_is_watched(tmp_path: Path, exchange: Callable[[Path], None]) -> None:
    pytest.importorskip("watchfiles")
    folder = tmp_path / "watched"
    if exchange is link_elsewhere:
        (tmp_path / "first").mkdir()
        folder.symlink_to("first")
    else:
        (folder / "sub").mkdir(parents=True)
    lots = arrivals(folder)
    assert next(lots) == []
    write(folder / "old.wav", 1, 1)
    assert take(lots, 1) == ["old.wav"]
    exchange(folder)
    assert next(lots) == []  # so it is searched
    write(folder / "new.wav", 1, 1)
    assert take(lots, 1) == ["new.wav"]


@pytest.mark.skipif(sys.platform != "linux", reason="its file systems take no bytes that are not text")
def test_a_name_that_is_not_utf_8_does_not_end_it(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    lots = arrivals(tmp_path)
    assert next(lots) == []
    write(tmp_path / "latin \udce9.wav", 1, 1)
    assert next(lots) == []  # so it is searched
    assert next(lots) == []  # by a new watch, which misses nothing from here on
    write(tmp_path / "next.wav", 1, 1)
    assert take(lots, 1) == ["next.wav"]


@pytest.mark.skipif(sys.platform != "linux", reason="its file systems take no bytes that are not text")
def test_a_folder_whose_name_is_not_utf_8_cannot_be_watched(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    folder = tmp_path / "latin \udce9"
    folder.mkdir()
    with pytest.raises(TranscribeError, match=r"cannot be watched: .*; run batch without --watch"):
        next(arrivals(folder))


def test_a_folder_that_is_gone_ends_it(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    (tmp_path / "watched").mkdir()
    lots = arrivals(tmp_path / "watched")
    assert next(lots) == []
    (tmp_path / "watched").rmdir()
    with pytest.raises(TranscribeError, match="watched: gone while it was watched; start again when it is back"):
        next(lots)


def test_it_ends_when_told_to(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    assert list(watch.arrivals([tmp_path], lambda: True)) == []


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(UsageError, match=r'needs watchfiles: pip install "basic-transcribe\[watch\]"'):
        require("watchfiles", "watch", "--watch")
