"""Whole folders: what the manifest says, what the next run does about it, and that no file of others is touched."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import fakes
import pytest

import basic_transcribe
from basic_transcribe import batch, exports, manifest, plan, watch
from basic_transcribe import folders as folders_module
from basic_transcribe.batch import Recipe
from basic_transcribe.console import Report
from basic_transcribe.errors import AudioError, ModelError, OutputError, TranscribeError, UsageError
from basic_transcribe.folders import Folders, preview, transcribe_folders
from basic_transcribe.manifest import NAME, Entry
from basic_transcribe.midi import read_fingerprint
from basic_transcribe.plan import Choice, Job, Result
from basic_transcribe.shaping import ShapeSettings

OTHER = fakes.recipe(shape=ShapeSettings(legato=50))
Statuses = dict[str, str]


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A folder of three recordings, in which to be."""
    for name in ("a.wav", "b.wav", "sub/c.mp3"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("music")
    return tmp_path


def report() -> Report:
    return Report(quiet=True, verbose=False, debug=False, batch=True)


def run(base: Path, recipe: Recipe | None = None, told: Report | None = None, **settings: object) -> Statuses:
    """What became of each recording, by its name."""
    told, recipe = told or report(), recipe or fakes.recipe()
    inputs = settings.pop("inputs", (str(base / "in"),))
    processes = settings.pop("processes", 1)
    folders = Folders(inputs, base / "out", **settings)  # type: ignore[arg-type]
    transcribe_folders(
        folders,
        recipe,
        lambda jobs: batch.run_jobs(jobs, recipe, processes=processes),  # type: ignore[arg-type]
        told,
        stopped=lambda: False,
    )
    return statuses(told.results)


def would(base: Path, recipe: Recipe | None = None) -> Statuses:
    told = report()
    preview(Folders((str(base / "in"),), base / "out"), recipe or fakes.recipe(), told)
    return statuses(told.results)


def statuses(results: list[Result]) -> Statuses:
    return {Path(result.label).name: result.status for result in results}


def entry(base: Path, name: str) -> Entry:
    found = manifest.read(base / "out").of_input(str(base / "in" / name))
    assert found is not None
    return found


def lines(base: Path) -> int:
    return len((base / "out" / NAME).read_bytes().splitlines())


def all_of(status: str) -> Statuses:
    return dict.fromkeys(("a.wav", "b.wav", "c.mp3"), status)


def state(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_arguments: object) -> None:
        raise AssertionError("a recording was read")

    monkeypatch.setattr(batch.hashlib, "file_digest", forbidden)


# --------------------------------------------------------------------------------------------------------- what is said


def test_the_manifest_has_a_line_for_each_recording(inside: Path) -> None:
    (inside / "in" / "b.wav").write_text("broken")
    told = report()
    assert run(inside, told=told) == all_of("done") | {"b.wav": "failed"}
    assert told.exit_code == 1
    assert lines(inside) == 3
    status = (inside / "in" / "sub" / "c.mp3").stat()
    good, bad = entry(inside, "sub/c.mp3"), entry(inside, "b.wav")
    assert (good.output, good.status, good.message) == ("sub/c.mid", "done", "")
    assert (good.size, good.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert (good.notes, good.seconds, good.warnings) == (2, 1.0, ("a warning",))
    assert good.sha256 == hashlib.sha256(b"music").hexdigest()
    written = inside / "out" / "sub" / "c.mid"
    assert good.files == {".mid": hashlib.sha256(written.read_bytes()).hexdigest()}
    assert read_fingerprint(written) == batch.fingerprint(good.sha256, good.fingerprint)
    assert (bad.output, bad.status, bad.message) == ("b.mid", "failed", "not audio; give a recording")


def test_what_has_no_place_is_told_of_and_the_others_are_done(inside: Path) -> None:
    (inside / "out" / "b.mid").mkdir(parents=True)
    told = report()
    assert run(inside, told=told, inputs=(str(inside / "in"), str(inside / "in/gone.wav"))) == all_of("done") | {
        "b.wav": "failed",
        "gone.wav": "failed",
    }
    assert told.exit_code == 4
    assert entry(inside, "b.wav").output is None
    assert "is a folder" in entry(inside, "b.wav").message
    assert lines(inside) == 3  # gone.wav may be a slip of the pen
    (inside / "out" / "b.mid").rmdir()
    (inside / "in" / "gone.wav").write_text("music")
    assert run(inside) == all_of("skipped") | {"b.wav": "done", "gone.wav": "done"}


def test_only_recordings_that_are_there_are_remembered(inside: Path) -> None:
    (inside / "empty").mkdir()
    told = report()
    run(inside, told=told, inputs=tuple(str(inside / name) for name in ("nope", "empty", "in", "in/nope.wav")))
    assert told.exit_code == 2
    assert len(told.results) == 6
    assert run(inside, choice=Choice(("zzz",))) == {"in": "failed"}
    assert {Path(e.input).name for e in manifest.read(inside / "out")} == {"a.wav", "b.wav", "c.mp3"}
    (inside / "empty" / "d.wav").write_text("music")
    assert run(inside, inputs=(str(inside / "empty"),)) == {"d.wav": "done"}


def test_the_page_tells_of_no_failure_of_what_is_gone(inside: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (inside / "in" / name).write_text("broken")
    run(inside)
    (inside / "in" / "a.wav").unlink()
    (inside / "in" / "sub" / "c.mp3").unlink()
    old = Entry(str(inside / "in" / "sub"), None, "failed", message="no audio found")  # as versions before 0.11 kept
    with manifest.Manifest(inside / "out") as book:
        book.append(old, manifest.Entries())
    run(inside, page=inside / "page.html")
    text = (inside / "page.html").read_text()
    assert [name in text for name in ("a.wav", "b.wav", "c.mp3", "no audio found")] == [False, True, True, False]
    assert lines(inside) == 4


def test_the_page_tells_of_a_recording_under_its_last_name(inside: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (inside / "in" / name).write_text(name)
    run(inside)
    os.rename(inside / "in" / "a.wav", inside / "in" / "new.wav")
    (inside / "in" / "b.wav").unlink()
    run(inside, page=inside / "page.html")
    text = (inside / "page.html").read_text()
    assert [name in text for name in ("a.wav", "b.wav", "new.wav", "c.mp3")] == [False, True, True, True]
    assert "<b>1</b> output under earlier names" in text
    assert len(manifest.read(inside / "out")) == 4


def test_the_manifest_says_which_version_told_it_and_when(inside: Path) -> None:
    run(inside)
    for told in manifest.read(inside / "out"):
        assert told.version == basic_transcribe.__version__
        assert datetime.fromisoformat(told.time).tzinfo is not None
        assert len(told.time) == len("2026-01-31T12:00:00Z")
    before = (inside / "out" / NAME).read_bytes()
    run(inside)
    assert (inside / "out" / NAME).read_bytes() == before


def test_a_failure_to_find_hides_nothing_that_is_known(inside: Path) -> None:
    run(inside)
    before = entry(inside, "a.wav")
    os.rename(inside / "in" / "a.wav", inside / "kept")
    assert run(inside, inputs=(str(inside / "in/a.wav"),)) == {"a.wav": "failed"}
    assert entry(inside, "a.wav") == before


def test_a_manifest_that_cannot_be_written_costs_no_output(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OutputError("manifest.jsonl: cannot be written: No space left on device")

    monkeypatch.setattr(manifest.Manifest, "append", full)
    told = report()
    assert run(inside, told=told) == all_of("done")
    assert told.exit_code == 4
    monkeypatch.undo()
    assert run(inside) == all_of("skipped")
    assert lines(inside) == 3


def test_a_page_is_written_even_if_something_failed(inside: Path) -> None:
    (inside / "in" / "b.wav").write_text("broken")
    run(inside, page=inside / "page.html")
    text = (inside / "page.html").read_text()
    assert text.lower().startswith("<!doctype html>")
    assert all(name in text for name in ("a.wav", "b.wav", "c.mp3", "not audio"))
    run(inside, page=inside / "page.html")  # which is one of ours


def test_a_page_replaces_nothing_but_a_page(inside: Path) -> None:
    (inside / "folder.html").mkdir()
    (inside / "list.jsonl").write_text(json.dumps({"input": "in/b.wav"}))
    refused = {
        "nowhere/page.html": "no such folder; create it",
        "folder.html": "a folder has this name",
        "in/b.wav": "would replace a file of another kind",
        "list.jsonl": "would replace a file of another kind",
        f"out/{NAME}": "would replace a file of another kind",
    }
    inputs = (str(inside / "in/a.wav"), str(inside / "list.jsonl"))
    for _ in range(2):
        before = {path: path.read_bytes() for path in inside.rglob("*") if path.is_file() and path.name != NAME}
        for page, reason in refused.items():
            with pytest.raises(OutputError, match=reason):
                run(inside, OTHER, inputs=inputs, page=inside / page)
        assert {p: p.read_bytes() for p in inside.rglob("*") if p.is_file() and p.name != NAME} == before
        run(inside)
    assert lines(inside) == 3
    told = report()
    run(inside, told=told, inputs=(str(inside / "in"),), page=inside / "out/new.csv")
    assert told.exit_code == 0


def test_a_page_does_not_replace_an_output_of_the_same_run(inside: Path) -> None:
    told = report()
    assert run(inside, told=told, page=inside / "out" / "a.mid") == all_of("done")
    assert told.exit_code == 4
    assert run(inside) == all_of("skipped")


# ---------------------------------------------------------------------------------------------------------------- rerun


def test_what_is_up_to_date_is_not_read_again(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(inside)
    unread(monkeypatch)
    assert run(inside) == all_of("skipped")
    assert lines(inside) == 3


def test_what_is_found_without_a_manifest_is_read_once(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = fakes.recipe(extras=(".csv",))
    run(inside, recipe)
    (inside / "out" / NAME).unlink()
    assert run(inside, recipe) == all_of("skipped")
    unread(monkeypatch)
    assert run(inside, recipe) == all_of("skipped")


def test_a_touched_recording_is_read_once_more_and_not_done(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(inside)
    os.utime(inside / "in" / "a.wav", ns=(1, 1))
    before = state(inside / "out" / "a.mid")
    assert run(inside) == all_of("skipped")
    assert state(inside / "out" / "a.mid") == before
    touched = entry(inside, "a.wav")
    assert (touched.status, touched.mtime_ns, touched.notes, touched.seconds) == ("skipped", 1, 2, 1.0)
    unread(monkeypatch)
    assert run(inside) == all_of("skipped")


def test_what_has_changed_is_done_again(inside: Path) -> None:
    run(inside)
    (inside / "in" / "a.wav").write_text("other music")
    (inside / "out" / "b.mid").unlink()
    assert run(inside) == all_of("done") | {"c.mp3": "skipped"}
    assert entry(inside, "a.wav").sha256 == hashlib.sha256(b"other music").hexdigest()
    assert run(inside, OTHER) == all_of("done")
    assert run(inside, OTHER) == all_of("skipped")


def test_recordings_that_have_moved_are_not_done_again(inside: Path) -> None:
    run(inside)
    os.rename(inside / "in", inside / "moved")
    assert run(inside, inputs=(str(inside / "moved"),)) == all_of("skipped")
    assert {Path(e.input).parent.name for e in manifest.read(inside / "out")} == {"moved", "sub"}
    assert len(manifest.read(inside / "out")) == 3


def test_a_folder_spelt_otherwise_is_up_to_date(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(inside)
    (inside / "link").symlink_to("in")
    unread(monkeypatch)
    for folder in ("link", "in"):
        assert run(inside, inputs=(str(inside / folder),)) == all_of("skipped")
        assert {Path(e.input).relative_to(inside).parts[0] for e in manifest.read(inside / "out")} == {folder}
    assert sorted(path.name for path in (inside / "out").rglob("*.mid")) == ["a.mid", "b.mid", "c.mid"]


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_links_to_a_recording_are_told_of_one_by_one(
    inside: Path, link: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "a.wav", "sub/0.wav", "sub/a.wav"
    for name in names[1:]:
        link(inside / "in" / "a.wav", inside / "in" / name)
    text = "".join(f'{{"input": "in/{name}", "output": "{name[:-4]}.mid"}}\n' for name in names)
    (inside / "list.jsonl").write_text(text)
    inputs = (str(inside / "list.jsonl"),)
    assert run(inside, inputs=inputs) == {"a.wav": "done", "0.wav": "done"}
    assert [entry(inside, name).output for name in names] == ["a.mid", "sub/0.mid", "sub/a.mid"]
    assert lines(inside) == 3
    (inside / "out" / "sub" / "a.mid").unlink()
    assert run(inside, inputs=inputs) == {"a.wav": "done", "0.wav": "skipped"}
    assert (inside / "out" / "sub" / "a.mid").exists()
    unread(monkeypatch)
    assert run(inside, inputs=inputs) == {"a.wav": "skipped", "0.wav": "skipped"}
    assert len(manifest.read(inside / "out")) == 3


def test_without_its_manifest_nothing_is_done_twice(inside: Path) -> None:
    run(inside)
    (inside / "out" / NAME).unlink()
    assert run(inside) == all_of("skipped")
    assert run(inside, OTHER) == all_of("done")  # they were found to be ours in between


def test_what_failed_is_tried_again_when_told_to_or_changed(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = inside / "in" / "b.wav"
    bad.write_text("broken")
    run(inside)
    told = report()
    with monkeypatch.context() as patched:
        unread(patched)
        assert run(inside, told=told) == all_of("skipped") | {"b.wav": "failed"}
    assert told.exit_code == 1
    assert told.results[1].message.startswith("failed before: not audio; ")
    assert "--retry-failed" in told.results[1].message
    assert lines(inside) == 3
    os.utime(bad, ns=(1, 1))
    assert run(inside)["b.wav"] == "failed"
    assert lines(inside) == 3
    monkeypatch.setattr(fakes.FakeTranscriber, "transcribe", _always_music)
    assert run(inside, replace(fakes.recipe(), retry_failed=True)) == all_of("skipped") | {"b.wav": "done"}
    bad.write_text("whole at last")
    assert run(inside) == all_of("skipped") | {"b.wav": "done"}


def _without_library() -> AudioError:
    error = AudioError("reading mov files needs a library")
    error.__cause__ = ImportError()
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied"), "cannot be read: Permission denied"),
        (MemoryError(), "out of memory"),
        (ModelError("model 'm.onnx' ran out of memory"), "model 'm.onnx' ran out of memory"),
        (_without_library(), "reading mov files needs a library"),
    ],
)
def test_what_may_pass_is_tried_again(
    inside: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def failing(*_arguments: object, **_settings: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(fakes.FakeTranscriber, "transcribe", failing)
        assert run(inside) == all_of("failed")
    assert entry(inside, "a.wav").message.startswith(message)
    assert run(inside) == all_of("done")


def _always_music(self: fakes.FakeTranscriber, source: Path, **settings: object) -> object:
    return fakes.transcription(settings["settings"])  # type: ignore[arg-type]


def test_a_full_disk_is_no_fault_of_the_recording(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _data: bytes) -> None:
        raise OutputError(f"{path}: cannot be written: No space left on device; free some space")

    told = report()
    with monkeypatch.context() as patched:
        patched.setattr(batch, "write_atomic", full)
        assert run(inside, told=told) == all_of("failed")
    assert told.exit_code == 4
    assert run(inside) == all_of("done")


def test_what_killed_its_workers_is_not_tried_again(inside: Path) -> None:
    (inside / "in" / "b.wav").write_text("kills")
    told = report()
    assert run(inside, told=told, processes=2) == all_of("done") | {"b.wav": "failed"}
    assert "signal 9" in entry(inside, "b.wav").message
    assert entry(inside, "b.wav").fingerprint == entry(inside, "a.wav").fingerprint
    assert run(inside, processes=2) == all_of("skipped") | {"b.wav": "failed"}


def meanwhile(monkeypatch: pytest.MonkeyPatch, inside: Path, recipe: Recipe) -> None:
    """Have another run do everything while the next recording is transcribed."""
    transcribe = fakes.FakeTranscriber.transcribe

    def disturbed(self: fakes.FakeTranscriber, source: Path, **settings: object) -> object:
        monkeypatch.undo()
        assert run(inside, recipe) == all_of("done")
        return transcribe(self, source, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(fakes.FakeTranscriber, "transcribe", disturbed)


def test_what_another_run_has_told_meanwhile_is_kept(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csv = fakes.recipe(extras=(".csv",))
    meanwhile(monkeypatch, inside, csv)
    assert run(inside, csv) == all_of("skipped") | {"a.wav": "done"}
    assert lines(inside) == 3
    told = manifest.read(inside / "out")
    assert {(one.status, one.seconds, one.notes, one.warnings) for one in told} == {("done", 1.0, 2, ("a warning",))}
    assert {tuple(one.files) for one in told} == {(".mid", ".csv")}
    assert run(inside, replace(OTHER, extras=(".csv",))) == all_of("done")


def test_what_runs_with_other_files_have_told_is_joined(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csv = fakes.recipe(extras=(".csv",))
    run(inside, OTHER)
    meanwhile(monkeypatch, inside, csv)
    run(inside, fakes.recipe(extras=(".json",)))
    assert {frozenset(one.files) for one in manifest.read(inside / "out")} == {frozenset((".mid", ".csv", ".json"))}
    assert run(inside, replace(OTHER, extras=(".csv", ".json"))) == all_of("done")


def test_what_a_lost_manifest_told_of_is_not_taken_for_ours(inside: Path) -> None:
    csv, table = fakes.recipe(extras=(".csv",)), inside / "out" / "b.csv"
    run(inside, csv)
    (inside / "out" / NAME).unlink()
    table.write_text("corrected by hand")
    for path in (table.with_suffix(".mid"), table):
        os.utime(path)  # as copies have it, and files of an archive
    assert run(inside, csv) == all_of("skipped")
    assert run(inside, replace(OTHER, extras=(".csv",)))["b.wav"] == "failed"
    assert table.read_text() == "corrected by hand"


def test_what_is_known_of_another_output_is_not_joined(inside: Path) -> None:
    listed, csv = inside / "list.jsonl", fakes.recipe(extras=(".csv",))
    for name, recipe in (("x", csv), ("y", fakes.recipe())):
        listed.write_text(json.dumps({"input": str(inside / "in" / "a.wav"), "output": f"{name}.mid"}))
        assert run(inside, recipe, inputs=(str(listed),)) == {"a.wav": "done"}
    told = entry(inside, "a.wav")
    assert (told.output, set(told.files), set(told.sizes)) == ("y.mid", {".mid"}, {".mid"})


# ------------------------------------------------------------------------------------------------------ files of others


@pytest.mark.parametrize("extension", [".mid", ".csv"])
def test_an_empty_output_is_made_again(inside: Path, extension: str) -> None:
    csv = fakes.recipe(extras=(".csv",))
    run(inside, csv)
    path = inside / "out" / f"a{extension}"
    made = path.read_bytes()
    for known in (True, False):
        path.write_bytes(b"")
        if not known:
            (inside / "out" / NAME).unlink()
            (inside / "out" / "a.csv").unlink()  # which would not be known to be ours
        assert run(inside, csv) == all_of("skipped") | {"a.wav": "done"}
        assert path.read_bytes() == made
    assert run(inside, csv) == all_of("skipped")


@pytest.mark.parametrize(("extension", "touched"), [(".mid", False), (".csv", False), (".csv", True)])
def test_an_output_of_another_size_is_told_of_and_kept(inside: Path, extension: str, touched: bool) -> None:
    csv = fakes.recipe(extras=(".csv",))
    run(inside, csv)
    path = inside / "out" / f"a{extension}"
    size = path.stat().st_size
    cut = path.read_bytes() + b"x" if extension == ".mid" else path.read_bytes()[:-10]
    path.write_bytes(cut)
    if touched:
        os.utime(inside / "in" / "a.wav", ns=(1, 1))
    for _ in range(2):
        told = report()
        assert run(inside, csv, told) == all_of("skipped")
        assert [result.warnings for result in told.results if result.warnings] == [
            (
                f"{path} has been changed since it was written ({size} bytes, now {len(cut)}), left alone; "
                "remove it to have it made again",
            )
        ]
        assert path.read_bytes() == cut
    path.unlink()
    told = report()
    assert run(inside, csv, told) == all_of("skipped") | {"a.wav": "done"}
    assert path.stat().st_size == size


def test_a_manifest_without_sizes_does(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(inside)
    book = inside / "out" / NAME
    old = [json.loads(line) for line in book.read_bytes().splitlines()]
    new = ("sizes", "version", "time")
    text = "".join(
        json.dumps({k: v for k, v in line.items() if k not in new}, separators=(",", ":")) + "\n" for line in old
    )
    book.write_text(text)
    unread(monkeypatch)
    told = report()
    assert run(inside, told=told) == all_of("skipped")
    assert not any(result.warnings for result in told.results)
    assert book.read_text() == text


@pytest.mark.parametrize("change", ["other music", None])
def test_an_output_that_was_edited_is_kept(inside: Path, change: str | None) -> None:
    run(inside)
    edited = (inside / "out" / "a.mid").read_bytes() + b"my corrections"
    (inside / "out" / "a.mid").write_bytes(edited)
    if change:
        (inside / "in" / "a.wav").write_text(change)
    recipe = fakes.recipe() if change else OTHER
    expected = all_of("skipped" if change else "done") | {"a.wav": "failed"}
    assert run(inside, recipe) == expected
    assert "--overwrite" in entry(inside, "a.wav").message
    assert (inside / "out" / "a.mid").read_bytes() == edited
    assert run(inside, replace(recipe, overwrite=True))["a.wav"] == "done"
    assert run(inside, recipe) == all_of("skipped")


def test_files_that_were_there_before_are_kept(inside: Path) -> None:
    (inside / "out").mkdir()
    (inside / "out" / "a.mid").write_bytes(b"the work of hours")
    (inside / "out" / "b.csv").write_text("my own labels")
    assert run(inside, fakes.recipe(extras=(".csv",))) == {"a.wav": "failed", "b.wav": "failed", "c.mp3": "done"}
    assert (inside / "out" / "a.mid").read_bytes() == b"the work of hours"
    assert (inside / "out" / "b.csv").read_text() == "my own labels"
    (inside / "out" / "a.mid").unlink()
    (inside / "out" / "b.csv").unlink()
    assert run(inside, fakes.recipe(extras=(".csv",))) == {"a.wav": "done", "b.wav": "done", "c.mp3": "skipped"}


def test_what_was_written_before_a_disk_was_full_is_still_ours(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(path: Path, data: bytes) -> None:
        if path.suffix == ".csv":
            raise OutputError(f"{path}: cannot be written: No space left on device; free some space")
        exports.write_atomic(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(batch, "write_atomic", fill)
        assert run(inside, fakes.recipe(extras=(".csv",))) == all_of("failed")
    assert len(list((inside / "out").rglob("*.mid"))) == 3
    assert run(inside, OTHER) == all_of("done")


def test_outputs_are_still_ours_after_failures_of_two_kinds(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    def full(jobs: Sequence[Job], *_: object, **__: object) -> tuple[list[Job], list[Result]]:
        return [], [Result(job.label, "failed", "there is no room", 4) for job in jobs]

    run(inside)
    for room, name, failure in ((batch, "_transcribe", exhausted), (plan, "check_outputs", full)):
        with monkeypatch.context() as patched:
            patched.setattr(room, name, failure)
            assert run(inside, OTHER) == all_of("failed")
    assert "there is no room" in entry(inside, "a.wav").message
    assert run(inside, OTHER) == all_of("done")


def test_outputs_of_an_earlier_run_do_not_pass_for_those_of_this_one(inside: Path) -> None:
    csv = (".csv",)
    run(inside, fakes.recipe(extras=csv))
    run(inside, OTHER)  # the CSV files remain as they are
    assert set(entry(inside, "a.wav").files) == {".mid"}
    assert set(entry(inside, "a.wav").older) == {".csv"}
    (inside / "out" / "b.csv").write_text("my own labels")
    made = {path: path.stat().st_mtime_ns for path in (inside / "out").rglob("*.mid")}
    assert run(inside, replace(OTHER, extras=csv)) == all_of("done") | {"b.wav": "failed"}
    assert {path: path.stat().st_mtime_ns for path in (inside / "out").rglob("*.mid")} == made
    assert set(entry(inside, "a.wav").files) == {".mid", ".csv"}
    assert not entry(inside, "a.wav").older
    assert (inside / "out" / "b.csv").read_text() == "my own labels"


@pytest.mark.parametrize("aged", [True, False])
def test_a_file_that_the_manifest_does_not_know_is_in_the_way(inside: Path, aged: bool) -> None:
    csv, labels = fakes.recipe(extras=(".csv",)), inside / "out" / "a.csv"
    labels.parent.mkdir()
    labels.write_text("my own labels")
    assert run(inside) == all_of("done")
    if aged:  # as it is, but clocks of file systems may be coarse
        os.utime(labels, ns=(1, 1))
    else:
        labels.write_text("my own labels")
    for _ in range(2):
        assert run(inside, csv)["a.wav"] == "failed"
        assert "--overwrite" in entry(inside, "a.wav").message
        assert labels.read_text() == "my own labels"
    labels.unlink()
    assert run(inside, csv) == all_of("skipped") | {"a.wav": "done"}
    assert run(inside, csv) == all_of("skipped")


def test_what_an_interrupted_run_did_not_tell_of_is_ours(inside: Path) -> None:
    csv, book = fakes.recipe(extras=(".csv",)), inside / "out" / NAME
    run(inside)
    before = book.read_bytes()
    run(inside, csv)
    made = {path: path.read_bytes() for path in (inside / "out").rglob("*.csv")}
    book.write_bytes(before)
    assert run(inside, csv) == all_of("done")
    assert {path: path.read_bytes() for path in (inside / "out").rglob("*.csv")} == made
    assert run(inside, csv) == all_of("skipped")
    book.unlink()
    for _ in range(2):
        assert run(inside, csv) == all_of("skipped")


def test_what_an_interrupted_run_put_in_the_place_of_older_outputs_is_ours(inside: Path) -> None:
    csv, book = fakes.recipe(extras=(".csv",)), inside / "out" / NAME
    shorter = replace(csv, shape=ShapeSettings(staccato=100))
    run(inside, csv)
    before = book.read_bytes()
    run(inside, shorter)
    book.write_bytes(before)
    for status in ("done", "skipped"):
        assert run(inside, shorter) == all_of(status)
        assert set(entry(inside, "a.wav").files) == {".mid", ".csv"}
        assert not entry(inside, "a.wav").older
    assert run(inside, csv) == all_of("done")


def test_a_manifest_of_others_is_kept(inside: Path) -> None:
    (inside / "out").mkdir()
    (inside / "out" / NAME).write_text('{"name": "a web page"}')
    with pytest.raises(OutputError, match="not written by this program"):
        run(inside)
    assert [path.name for path in (inside / "out").iterdir()] == [NAME]


def test_a_manifest_cannot_send_outputs_elsewhere(inside: Path) -> None:
    (inside / "out").mkdir()
    line = {"input": str(inside / "in" / "a.wav"), "output": "../a.mid", "status": "failed"}
    (inside / "out" / NAME).write_text(json.dumps(line, separators=(",", ":")) + "\n")
    with pytest.raises(UsageError, match=r"line 1: output '\.\./a\.mid' leads out"):
        run(inside)
    assert not list(inside.rglob("*.mid"))


# ----------------------------------------------------------------------------------------------------- lines and counts


@pytest.mark.parametrize("verbose", [False, True])
def test_what_is_up_to_date_is_counted_and_named_if_asked_for(
    inside: Path, capsys: pytest.CaptureFixture[str], verbose: bool
) -> None:
    run(inside)
    (inside / "in" / "b.wav").write_text("other music")
    told = Report(quiet=False, verbose=verbose, debug=False, batch=True)
    run(inside, told=told)
    told.summary()
    out = capsys.readouterr().out.splitlines()
    assert [line.endswith("is up to date") for line in out[:-1]] == ([True, False, True] if verbose else [False])
    assert out[-1].startswith("1 done, 2 up to date, 0 failed, 1 with warnings: ")


def test_failures_of_one_kind_are_counted_together(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (inside / "out" / "sub").mkdir(parents=True)
    for name in ("a.mid", "b.mid", "sub/c.mid"):
        (inside / "out" / name).write_text("the work of hours")
    for number in range(2):
        told = Report(quiet=False, verbose=False, debug=False, batch=True)
        run(inside, told=told)
        told.summary()
        out, err = capsys.readouterr()
        why = "NAME.mid exists, made from another recording, with other settings or by another version, or damaged"
        assert out.splitlines()[0] == f"3 failed: {why}; give --overwrite to replace it"
        assert err.count(f"{inside / 'out' / 'sub' / 'c.mid'} exists") == 1, number


# -------------------------------------------------------------------------------------------------------------- preview


def _changes(base: Path) -> None:
    run(base)
    (base / "in" / "a.wav").write_text("broken")
    run(base)
    (base / "in" / "b.wav").write_text("other music")
    (base / "in" / "new.wav").write_text("music")
    (base / "in" / "taken.wav").write_text("music")
    (base / "out" / "taken.mid").write_text("the work of hours")
    (base / "in" / "folder.wav").write_text("music")
    (base / "out" / "folder.mid").mkdir()


@pytest.mark.parametrize("scene", [lambda base: None, run, _changes], ids=["new", "done", "all kinds"])
def test_a_preview_writes_nothing_and_tells_the_truth(inside: Path, scene: Callable[[Path], object]) -> None:
    scene(inside)
    before = {path: state(path) for path in inside.rglob("*")}
    foretold = would(inside)
    assert {path: state(path) for path in inside.rglob("*")} == before
    assert foretold == run(inside)


def test_a_preview_says_why(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(inside)
    (inside / "in" / "a.wav").write_text("other music")
    (inside / "out" / "b.mid").unlink()
    (inside / "in" / "sub" / "d.wav").write_text("music")
    told = Report(quiet=False, verbose=False, debug=False, batch=True)
    preview(Folders((str(inside / "in"),), inside / "out"), fakes.recipe(), told)
    said = {
        line.split(": ")[0].rpartition("/")[2]: line.rpartition("(")[2] for line in capsys.readouterr().out.splitlines()
    }
    assert said["a.wav"] == "the recording has changed)"
    assert said["b.wav"] == "its MIDI file is missing)"
    assert said["d.wav"] == "new)"
    assert said["c.mp3"].endswith("sub/c.mid is up to date")


# -------------------------------------------------------------------------------------------------------------- folders


def test_globs_and_shards_leave_the_rest_for_another_time(inside: Path) -> None:
    assert run(inside, choice=Choice(("*.wav",), ("a*",))) == {"b.wav": "done"}
    done = [run(inside, choice=Choice(shard=(i, 2))) for i in (1, 2)]
    assert done[0] | done[1] == {"a.wav": "done", "b.wav": "skipped", "c.mp3": "done"}
    assert len(done[0]) + len(done[1]) == 3


def test_the_outputs_may_lie_among_the_recordings(inside: Path) -> None:
    os.rename(inside / "in", inside / "out")
    assert run(inside, inputs=(str(inside / "out"),)) == all_of("done")
    assert run(inside, inputs=(str(inside / "out"),)) == all_of("skipped")


def test_errors_that_concern_all_end_it(inside: Path) -> None:
    (inside / "out").write_text("a file")
    with pytest.raises(TranscribeError) as caught:
        run(inside)
    assert caught.value.exit_code == 4


def watched(monkeypatch: pytest.MonkeyPatch, arrivals: Callable[..., Iterator[list[tuple[Path, Path]]]]) -> None:
    """Have these be what arrives in watched folders."""
    monkeypatch.setattr(folders_module, "require", lambda *_: None)
    monkeypatch.setattr(watch, "arrivals", arrivals)


def test_what_arrives_is_done_once_and_again_when_it_changes(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, bad = inside / "in" / "sub" / "new.wav", inside / "in" / "bad.wav"

    def arrivals(folders: Sequence[Path], *_arguments: object) -> Iterator[list[tuple[Path, Path]]]:
        (root,) = folders
        yield []
        new.write_text("music")
        bad.write_text("broken")
        for _ in range(2):  # as systems do
            yield [(root, new), (root, bad), (root, root / "a.wav"), (root, root / "gone.wav")]
        bad.write_text("whole at last")
        yield [(root, bad)]

    watched(monkeypatch, arrivals)
    told = report()
    run(inside, told=told, watch=True)
    assert [(Path(result.label).name, result.status) for result in told.results] == [
        *((name, "done") for name in ("a.wav", "b.wav", "c.mp3")),
        *(("new.wav", "done"), ("bad.wav", "failed"), ("bad.wav", "done")),
    ]
    assert told.planned == len(told.results)
    assert lines(inside) == 6


def test_what_another_run_did_less_of_is_done(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def arrivals(folders: Sequence[Path], *_arguments: object) -> Iterator[list[tuple[Path, Path]]]:
        (root,) = folders
        yield []
        (root / "new.wav").write_text("music")
        run(inside)
        (root / "later.wav").write_text("music")
        for name in ("later.wav", "new.wav", "new.wav"):
            yield [(root, root / name)]

    watched(monkeypatch, arrivals)
    told = report()
    run(inside, fakes.recipe(extras=(".csv",)), told=told, watch=True)
    names = [Path(result.label).name for result in told.results]
    assert names == ["a.wav", "b.wav", "c.mp3", "later.wav", "new.wav"]
    assert (inside / "out" / "new.csv").exists()


def test_the_page_is_written_while_folders_are_watched(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, seen = inside / "page.html", []

    def arrivals(folders: Sequence[Path], *_arguments: object) -> Iterator[list[tuple[Path, Path]]]:
        (root,) = folders
        yield []
        seen.append(page.read_text())
        (root / "new.wav").write_text("music")
        yield [(root, root / "new.wav")]
        seen.append(page.read_text())
        yield [(root, root / "new.wav")]  # told of twice

    watched(monkeypatch, arrivals)
    monkeypatch.setattr(folders_module, "PAGE_PAUSE", 0)
    written = []
    write = folders_module._write_page
    monkeypatch.setattr(folders_module, "_write_page", lambda *arguments: (written.append(1), write(*arguments)))
    run(inside, watch=True, page=page)
    assert ["new.wav" in text for text in seen] == [False, True]
    assert len(written) == 3  # the last when it ends


def test_the_page_tells_what_another_run_has_done_meanwhile(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def arrivals(folders: Sequence[Path], *_arguments: object) -> Iterator[list[tuple[Path, Path]]]:
        (root,) = folders
        yield []
        (root / "new.wav").write_text("music")
        run(inside)

    watched(monkeypatch, arrivals)
    run(inside, watch=True, page=inside / "page.html")
    assert "new.wav" in (inside / "page.html").read_text()


def test_a_folder_that_takes_the_place_of_another_is_searched(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def arrivals(folders: Sequence[Path], *_arguments: object) -> Iterator[list[tuple[Path, Path]]]:
        (root,) = folders
        yield []
        (root / "new.wav").write_text("music")
        (root / "b.wav").write_text("other music")
        yield []

    watched(monkeypatch, arrivals)
    told = report()
    run(inside, fakes.recipe(overwrite=True), told=told, watch=True)
    names = [Path(result.label).name for result in told.results]
    assert names == ["a.wav", "b.wav", "c.mp3", "b.wav", "new.wav"]
    assert {result.status for result in told.results} == {"done"}
