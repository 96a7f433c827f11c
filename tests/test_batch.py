"""The plan, what is up to date, and workers that die."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from basic_transcribe import batch
from basic_transcribe.batch import Job, Result
from basic_transcribe.errors import ModelError, OutputError, UsageError
from basic_transcribe.midi import read_fingerprint
from basic_transcribe.outputs import OutputSettings
from basic_transcribe.shaping import ShapeSettings
from basic_transcribe.types import BeatSettings, MidiSettings, Part, TrackerSettings

EXTENSIONS = frozenset({".wav", ".mp3", ".flac"})


def make(folder: Path, *names: str, content: str = "music") -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content} {path}")
    return paths


def planned(*inputs: Path | str, output: Path | None = None, **keywords: object) -> batch.Plan:
    return batch.plan([str(i) for i in inputs], output, extensions=EXTENSIONS, **keywords)  # type: ignore[arg-type]


def outputs(plan: batch.Plan, base: Path) -> dict[str, str]:
    """Sources to MIDI files, both below ``base``."""
    return {str(j.source.relative_to(base)): str(j.output(".mid").relative_to(base)) for j in plan.jobs}


def job(path: Path, content: str = "music") -> Job:
    path.write_text(content)
    return Job(path, path.parent, path.stem, str(path))


def run(jobs: list[Job], recipe: batch.Recipe | None = None, **keywords: object) -> dict[str, Result]:
    results = batch.run_jobs(jobs, recipe or fakes.recipe(), **keywords)  # type: ignore[arg-type]
    return {Path(r.label).name: r for r in results}


# ---------------------------------------------------------------------------------------------------------------- plan


def test_outputs_lie_beside_their_recordings(tmp_path: Path) -> None:
    make(tmp_path, "x/a.wav", "x/deep/b.MP3", "c.flac", "x/readme.txt")
    plan = planned(tmp_path / "x", tmp_path / "c.flac")
    assert outputs(plan, tmp_path) == {"x/a.wav": "x/a.mid", "x/deep/b.MP3": "x/deep/b.mid", "c.flac": "c.mid"}
    assert not plan.failures
    assert not plan.remarks


def test_the_tree_of_a_folder_is_mirrored(tmp_path: Path) -> None:
    make(tmp_path, "in/a.wav", "in/one/a.wav", "in/two/a.wav")
    plan = planned(tmp_path / "in", output=tmp_path / "out")
    assert outputs(plan, tmp_path) == {
        "in/a.wav": "out/a.mid",
        "in/one/a.wav": "out/one/a.mid",
        "in/two/a.wav": "out/two/a.mid",
    }


def test_recordings_of_one_name_keep_their_extensions(tmp_path: Path) -> None:
    make(tmp_path, "a.wav", "a.mp3", "b.wav")
    assert outputs(planned(tmp_path), tmp_path) == {"a.wav": "a.wav.mid", "a.mp3": "a.mp3.mid", "b.wav": "b.mid"}


def test_names_that_differ_by_letter_case_differ_by_more(tmp_path: Path) -> None:
    for name in ("a.wav", "A.WAV", "straße.wav", "STRASSE.mp3"):
        (tmp_path / name).write_text(name)
    plan = planned(tmp_path)
    names = [str(j.output(".mid")).casefold() for j in plan.jobs]
    assert len(set(names)) == len(names) == len(list(tmp_path.iterdir()))


def test_one_name_in_several_folders_goes_below_their_names(tmp_path: Path) -> None:
    paths = make(tmp_path, "one/mix/a.wav", "two/mix/a.wav", "b.wav")
    plan = planned(*paths, output=tmp_path / "out")
    assert outputs(plan, tmp_path) == {
        "one/mix/a.wav": "out/one/mix/a.mid",
        "two/mix/a.wav": "out/two/mix/a.mid",
        "b.wav": "out/b.mid",
    }


def test_a_new_name_does_not_take_that_of_another(tmp_path: Path) -> None:
    make(tmp_path, "a.wav", "a.mp3", "a.wav.flac")
    names = [j.output(".mid").name for j in planned(tmp_path).jobs]
    assert len(set(names)) == 3


def test_names_do_not_depend_on_the_order_of_inputs(tmp_path: Path) -> None:
    paths = make(tmp_path, "x/a.wav", "x/a.mp3", "y/a.wav", "y/b.wav")
    there = outputs(planned(*paths, output=tmp_path / "out"), tmp_path)
    back = outputs(planned(*paths[::-1], output=tmp_path / "out"), tmp_path)
    assert there == back
    assert len(set(there.values())) == 4


def test_a_file_given_twice_is_done_once(tmp_path: Path) -> None:
    (path,) = make(tmp_path, "a.wav")
    os.link(path, tmp_path / "z.wav")
    plan = planned(path, path, tmp_path)
    assert [j.source for j in plan.jobs] == [path]
    assert str(tmp_path / "z.wav") in [label for label, _ in plan.remarks]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    make(tmp_path, "x/a.wav")
    (tmp_path / "x" / "back").symlink_to(tmp_path)
    (tmp_path / "x" / "self").symlink_to(tmp_path / "x" / "self")
    (tmp_path / "x" / "gone.wav").symlink_to(tmp_path / "nothing")
    plan = planned(tmp_path)
    assert [j.source.name for j in plan.jobs] == ["a.wav"]
    assert "x/gone.wav: No such file or directory, skipped" in [
        f"{Path(label).relative_to(tmp_path)}: {text}" for label, text in plan.remarks
    ]


def test_special_files_are_skipped_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    make(tmp_path, "a.wav")
    os.mkfifo("pipe.wav")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("door")
        plan = planned(tmp_path)
    assert [j.source.name for j in plan.jobs] == ["a.wav"]
    assert [(Path(label).name, text) for label, text in plan.remarks] == [
        ("door", "a socket, skipped"),
        ("pipe.wav", "a named pipe, skipped"),
    ]


def test_a_pipe_given_by_name_fails(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (failure,) = planned(tmp_path / "pipe.wav").failures
    assert failure.exit_code == 1
    assert "named pipe" in failure.message


def test_hidden_files_are_left_out_of_folders_only(tmp_path: Path) -> None:
    make(tmp_path, ".hidden.wav", ".git/a.wav", "a.wav")
    assert [j.source.name for j in planned(tmp_path).jobs] == ["a.wav"]
    assert [j.output(".mid").name for j in planned(tmp_path / ".hidden.wav").jobs] == [".hidden.mid"]


def test_an_empty_folder_is_a_usage_error_and_the_others_go_on(tmp_path: Path) -> None:
    make(tmp_path, "full/a.wav", "empty/readme.txt")
    plan = planned(tmp_path / "empty", tmp_path / "full")
    assert len(plan.jobs) == 1
    assert [(f.label, f.exit_code) for f in plan.failures] == [(str(tmp_path / "empty"), 2)]


def test_a_mistyped_path_fails_and_the_others_go_on(tmp_path: Path) -> None:
    (path,) = make(tmp_path, "a.wav")
    plan = planned(tmp_path / "b.wav", path, path / "c.wav")
    assert len(plan.jobs) == 1
    assert [f.exit_code for f in plan.failures] == [1, 1]
    assert "No such file" in plan.failures[0].message


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_an_output_never_replaces_an_input(tmp_path: Path, link: object) -> None:
    (song,) = make(tmp_path, "song.mid")
    with pytest.raises(UsageError, match="replace an input"):
        planned(song)
    (a,) = make(tmp_path, "a.wav")
    link(a, tmp_path / "a.csv")  # type: ignore[operator]
    with pytest.raises(UsageError, match="replace an input"):
        planned(a, extras=[".csv"])
    assert len(planned(a).jobs) == 1


def test_standard_input_is_done_once_and_has_a_name(tmp_path: Path) -> None:
    plan = planned("-", "-", output=tmp_path)
    assert [j.output(".mid") for j in plan.jobs] == [tmp_path / "stdin.mid"]


def test_names_with_dots_stay_in_their_folder(tmp_path: Path) -> None:
    make(tmp_path, "..wav", "v1.2.wav", "...wav")
    plan = planned(tmp_path / "..wav", tmp_path / "v1.2.wav", tmp_path / "...wav", output=tmp_path / "out")
    assert sorted(j.output(".mid").name for j in plan.jobs) == ["...mid", "..mid", "v1.2.mid"]
    assert {j.output(".mid").parent for j in plan.jobs} == {tmp_path / "out"}


def test_outputs_that_cannot_be_written_are_found_first(tmp_path: Path) -> None:
    good = job(tmp_path / "good.wav")
    taken = job(tmp_path / "taken.wav")
    (tmp_path / "taken.csv").mkdir()
    below_file = Job(good.source, good.source / "below", "good", "below.wav")
    long = Job(good.source, tmp_path, "é" * 126, "long.wav")
    writable, failures = batch.check_outputs([good, taken, below_file, long], (".mid", ".csv"))
    assert writable == [good]
    assert [Path(f.label).name for f in failures] == ["taken.wav", "below.wav", "long.wav"]
    assert {f.exit_code for f in failures} == {4}
    assert "256 bytes" in failures[2].message
    with pytest.raises(OutputError):
        batch.check_folder(good.source)


def test_a_folder_without_permission_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(**_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)  # the tests may run as root, whom nothing is forbidden
    _, (failure,) = batch.check_outputs([job(tmp_path / "a.wav")], [".mid"])
    assert failure.exit_code == 4
    assert failure.message.startswith(f"cannot write to {tmp_path}: Permission denied; ")


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    batch.check_folder(tmp_path / "a" / "b")
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "b"]


# ----------------------------------------------------------------------------------------------------------------- job


def test_a_rerun_skips_what_is_up_to_date(tmp_path: Path) -> None:
    a = job(tmp_path / "a.wav")
    first, again = run([a])["a.wav"], run([a])["a.wav"]
    assert (first.status, first.notes, first.seconds, first.warnings) == ("done", 2, 1.0, ("a warning",))
    assert (again.status, again.exit_code) == ("skipped", 0)


def test_equal_settings_are_equal_however_given(tmp_path: Path) -> None:
    a = job(tmp_path / "a.wav")
    run([a])
    same = fakes.recipe(
        tracker=TrackerSettings(onset_threshold=fakes.FakeTranscriber.model.defaults["onset_threshold"])
    )
    assert run([a], same)["a.wav"].status == "skipped"


@pytest.mark.parametrize(
    "changed",
    [
        fakes.recipe(tracker=TrackerSettings(onset_threshold=0.3)),
        fakes.recipe(shape=ShapeSettings(legato=50)),
        fakes.recipe(output=OutputSettings(MidiSettings(tempo=90))),
        fakes.recipe(output=OutputSettings(MidiSettings(bend_mode="mpe"))),
        fakes.recipe(output=OutputSettings(key="C minor")),
        fakes.recipe(output=OutputSettings(part=Part(channel="left"))),
        fakes.recipe(beats=BeatSettings((3, 4))),
        fakes.recipe(beats=BeatSettings((3, 4), 90)),
    ],
)
def test_other_settings_need_overwrite(tmp_path: Path, changed: batch.Recipe) -> None:
    a = job(tmp_path / "a.wav")
    run([a])
    before = (tmp_path / "a.mid").read_bytes()
    result = run([a], changed)["a.wav"]
    assert (result.status, result.exit_code) == ("failed", 1)
    assert "--overwrite" in result.message
    assert (tmp_path / "a.mid").read_bytes() == before
    forced = replace(changed, overwrite=True)
    assert run([a], forced)["a.wav"].status == "done"
    assert (tmp_path / "a.mid").read_bytes() != before
    assert run([a], changed)["a.wav"].status == "skipped"


def test_another_recording_needs_overwrite(tmp_path: Path) -> None:
    run([job(tmp_path / "a.wav")])
    before = read_fingerprint(tmp_path / "a.mid")
    assert run([job(tmp_path / "a.wav", "other music")])["a.wav"].exit_code == 1
    assert read_fingerprint(tmp_path / "a.mid") == before


def test_only_missing_outputs_are_added(tmp_path: Path) -> None:
    a = job(tmp_path / "a.wav")
    run([a])
    (tmp_path / "a.csv").write_text("my own labels")
    made = (tmp_path / "a.mid").stat().st_mtime_ns
    result = run([a], fakes.recipe(extras=(".csv", ".json")))["a.wav"]
    assert result.status == "done"
    assert (tmp_path / "a.csv").read_text() == "my own labels"
    assert (tmp_path / "a.mid").stat().st_mtime_ns == made
    assert (tmp_path / "a.json").exists()
    assert run([a], fakes.recipe(extras=(".csv", ".json")))["a.wav"].status == "skipped"


def test_files_of_others_need_overwrite(tmp_path: Path) -> None:
    a = job(tmp_path / "a.wav")
    (tmp_path / "a.csv").write_text("my own labels")
    result = run([a], fakes.recipe(extras=(".csv",)))["a.wav"]
    assert (result.status, result.exit_code) == ("failed", 1)
    assert not (tmp_path / "a.mid").exists()
    assert run([a], fakes.recipe(extras=(".csv",), overwrite=True))["a.wav"].status == "done"
    assert (tmp_path / "a.csv").read_text().startswith("onset_s")


def test_one_bad_recording_stops_no_other(tmp_path: Path) -> None:
    contents = {"a.wav": "music", "b.wav": "broken", "c.wav": "bug", "d.wav": "grows", "e.wav": "music"}
    jobs = [job(tmp_path / name, content) for name, content in contents.items()]
    jobs.insert(2, Job(tmp_path / "gone.wav", tmp_path, "gone", "gone.wav"))
    results = run(jobs)
    assert {n: r.status for n, r in results.items()} == {
        "a.wav": "done",
        "b.wav": "failed",
        "gone.wav": "failed",
        "c.wav": "failed",
        "d.wav": "failed",
        "e.wav": "done",
    }
    assert all(
        "\n" not in r.message and r.exit_code == bool(r.message and r.status == "failed") for r in results.values()
    )
    assert results["b.wav"].message == "not audio; give a recording"
    assert "ZeroDivisionError: division by zero" in results["c.wav"].message
    assert "Traceback" in results["c.wav"].details
    assert "changed while it was read" in results["d.wav"].message
    assert {p.name for p in tmp_path.iterdir()} == {*contents, "a.mid", "e.mid"}


def test_a_recording_without_permission_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(batch.hashlib, "file_digest", forbidden)
    result = run([job(tmp_path / "a.wav")])["a.wav"]
    assert (result.exit_code, result.message) == (1, "cannot be read: Permission denied; check access")


def test_a_failed_write_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    jobs = [job(tmp_path / "a.wav")]
    monkeypatch.setattr(os, "fsync", full)
    result = run(jobs)["a.wav"]
    assert (result.status, result.exit_code) == ("failed", 4)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


# ----------------------------------------------------------------------------------------------------------- processes


def test_a_killed_worker_loses_no_recording(tmp_path: Path) -> None:
    contents = {f"{i}.wav": "music" for i in range(4)} | {"once.wav": "kills once", "always.wav": "kills"}
    seen: list[tuple[str, float, float | None]] = []
    results = run(
        [job(tmp_path / name, content) for name, content in contents.items()],
        processes=2,
        progress=lambda j, seconds, total: seen.append((j.source.name, seconds, total)),
    )
    assert {n: r.status for n, r in results.items()} == dict.fromkeys(contents, "done") | {"always.wav": "failed"}
    assert results["always.wav"].exit_code == 1
    assert "signal 9, 2 times" in results["always.wav"].message
    assert ("0.wav", 0.5, 1.0) in seen
    assert not multiprocessing.active_children()


def test_closing_the_results_stops_the_workers(tmp_path: Path) -> None:
    jobs = [job(tmp_path / "a.wav"), job(tmp_path / "b.wav", "sleeps"), job(tmp_path / "c.wav", "sleeps")]
    results = batch.run_jobs(jobs, fakes.recipe(), processes=2)
    assert next(results).status == "done"
    assert multiprocessing.active_children()
    results.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_model_that_cannot_be_loaded_ends_it_all(tmp_path: Path, processes: int) -> None:
    jobs = [job(tmp_path / f"{i}.wav") for i in range(3)]
    with pytest.raises(ModelError, match=r"missing\.onnx"):
        run(jobs, fakes.recipe(model=Path("missing.onnx")), processes=processes)
    assert not list(tmp_path.glob("*.mid"))
    assert not multiprocessing.active_children()


def test_no_more_cpus_than_there_are() -> None:
    assert 1 <= batch.available_cpus() <= (os.cpu_count() or 1)
