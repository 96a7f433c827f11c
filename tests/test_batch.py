"""What is up to date, what is done to a recording, and workers that die."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import signal
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import fakes
import pytest
import soundfile

import basic_transcribe
from basic_transcribe import batch, decoders
from basic_transcribe.audio import open_audio
from basic_transcribe.errors import ModelError, OutputError, TranscribeError
from basic_transcribe.manifest import parse, to_line
from basic_transcribe.midi import read_fingerprint
from basic_transcribe.outputs import OutputSettings
from basic_transcribe.pipeline import Transcription
from basic_transcribe.plan import Job, Result
from basic_transcribe.shaping import ShapeSettings
from basic_transcribe.types import Beats, BeatSettings, MidiSettings, Note, Part, TrackerSettings


def job(path: Path, content: str = "music") -> Job:
    path.write_text(content)
    return Job(path, path.parent, path.stem, str(path))


def edit(path: Path, old: bytes, new: bytes) -> bytes:
    """Edit an output by hand, a minute later; what it holds then."""
    before = path.stat().st_mtime_ns
    edited = path.read_bytes().replace(old, new)
    assert path.read_bytes() != edited
    path.write_bytes(edited)
    os.utime(path, ns=(before + 60 * 10**9,) * 2)
    return edited


def run(jobs: list[Job], recipe: batch.Recipe | None = None, **keywords: object) -> dict[str, Result]:
    results = batch.run_jobs(jobs, recipe or fakes.recipe(), **keywords)  # type: ignore[arg-type]
    return {Path(r.label).name: r for r in results}


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


def test_it_is_said_what_was_found_out() -> None:
    heard = fakes.transcription(TrackerSettings())
    voice = replace(heard, line=True, beats=Beats((0.0, 0.6, 1.2)))
    assert batch._heard(heard, fakes.recipe()) == ""
    assert batch._heard(voice, fakes.recipe()) == "a single line, 100 beats a minute"
    asked_for = replace(voice, settings=replace(voice.settings, monophonic=True))
    assert batch._heard(asked_for, fakes.recipe()) == "a single line, 100 beats a minute"


def test_notes_are_quantised_on_beats_or_a_tempo_but_on_nothing_else() -> None:
    heard = replace(fakes.transcription(TrackerSettings()), notes=[Note(1.13, 1.6, 60, 80, 0.9)])
    grid = ShapeSettings(quantize=Fraction(1, 4))
    without = batch.shaped(heard, fakes.recipe(shape=grid, beats=BeatSettings()))
    assert without.notes == heard.notes
    assert without.warnings[-1].startswith("notes are not quantised")
    fixed = batch.shaped(heard, fakes.recipe(shape=grid))
    assert [n.onset for n in fixed.notes] == [1.0]
    found = batch.shaped(replace(heard, beats=Beats((0.0, 0.6, 1.2))), fakes.recipe(shape=grid, beats=BeatSettings()))
    assert [n.onset for n in found.notes] == pytest.approx([1.2])
    assert fixed.warnings == found.warnings == heard.warnings


def test_the_fingerprint_tells_of_the_version_and_of_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(recipe: batch.Recipe) -> str:
        return batch.settings_fingerprint(recipe, recipe.load())

    before = found(fakes.recipe())
    assert found(fakes.recipe(threads=3, overwrite=True)) == before
    assert found(fakes.recipe(provider="cuda")) != before
    monkeypatch.setattr(basic_transcribe, "__version__", "0.0.0")
    assert found(fakes.recipe()) != before


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
        fakes.recipe(beats=BeatSettings((3, 4), 90, 1.5)),
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


def test_another_version_needs_overwrite_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = job(tmp_path / "a.wav")
    run([a])
    monkeypatch.setattr(basic_transcribe, "__version__", "0.0.0")
    assert "or by another version, or damaged; give --overwrite" in run([a])["a.wav"].message


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


def test_extras_of_other_settings_do_not_pass_for_those_of_these(tmp_path: Path) -> None:
    a, csv = job(tmp_path / "a.wav"), tmp_path / "a.csv"
    short = fakes.recipe(shape=ShapeSettings(staccato=100))
    run([a], fakes.recipe(extras=(".csv",)))
    old = csv.read_bytes()
    run([a], replace(short, overwrite=True))
    os.utime(csv, ns=(1, 1))  # as it is, but clocks of file systems may be coarse
    result = run([a], replace(short, extras=(".csv",)))["a.wav"]
    assert (result.status, result.exit_code) == ("failed", 1)
    assert f"{csv} exists already" in result.message
    assert "--overwrite" in result.message
    assert csv.read_bytes() == old
    assert run([a], replace(short, extras=(".csv",), overwrite=True))["a.wav"].status == "done"
    assert csv.read_bytes() != old
    assert run([a], replace(short, extras=(".csv",)))["a.wav"].status == "skipped"


def test_extras_of_these_settings_pass_whatever_their_times(tmp_path: Path) -> None:
    a, csv, recipe = job(tmp_path / "a.wav"), tmp_path / "a.csv", fakes.recipe(extras=(".csv",))
    run([a], recipe)
    made = csv.read_bytes()
    time = (tmp_path / "a.mid").stat().st_mtime_ns
    os.utime(csv, ns=(time, time))
    assert run([a], recipe)["a.wav"].status == "skipped"
    os.utime(csv, ns=(1, 1))  # a copy of the folder may have been made in any order
    assert [run([a], recipe)["a.wav"].status for _ in range(2)] == ["done", "skipped"]
    assert csv.read_bytes() == made


# What the table does not know of, since nothing was kept of it: another run without one, or that was killed.

CSV = fakes.recipe(extras=(".csv",))
STACCATO = fakes.recipe(shape=ShapeSettings(staccato=100))
SHORT = replace(CSV, shape=STACCATO.shape)


def test_a_midi_file_that_is_taken_over_is_ours(tmp_path: Path) -> None:
    a = job(tmp_path / "a.wav")
    run([a])
    taken = run([a])["a.wav"]
    assert taken.status == "skipped"
    assert taken.entry is not None
    assert set(taken.entry.files) == {".mid"}
    assert (taken.entry.seconds, taken.entry.notes) == (None, None)  # not those of a recording without any
    assert parse(to_line(taken.entry)) == taken.entry
    assert run([replace(a, known=taken.entry)], STACCATO)["a.wav"].status == "done"


@pytest.mark.parametrize("extension", [".mid", ".csv"])
def test_what_was_edited_is_not_taken_over(tmp_path: Path, extension: str) -> None:
    a, path = job(tmp_path / "a.wav"), tmp_path / f"a{extension}"
    known = run([a], CSV)["a.wav"].entry
    if extension == ".mid":  # by an editor that keeps the fingerprint
        edited = edit(path, b"\x3c\x50", b"\x3c\x51")
        os.utime(a.source, ns=(1, 1))  # so that the outputs are looked at
    else:
        edited = edit(path, b"80", b"81")
        known = None
    taken = run([replace(a, known=known)], CSV)["a.wav"]
    assert taken.status == "skipped"
    result = run([replace(a, known=taken.entry)], SHORT)["a.wav"]
    assert (result.status, path.read_bytes()) == ("failed", edited)
    assert f"{path} exists" in result.message


def test_a_midi_file_to_which_others_are_added_is_ours(tmp_path: Path) -> None:
    a = job(tmp_path / "a.wav")
    run([a])
    added = run([a], CSV)["a.wav"]
    assert added.status == "done"
    assert run([replace(a, known=added.entry)], SHORT)["a.wav"].status == "done"


def test_a_midi_file_to_which_others_cannot_be_added_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _data: bytes) -> None:
        raise OutputError(f"{path}: cannot be written: No space left on device; free some space")

    a = job(tmp_path / "a.wav")
    run([a])
    with monkeypatch.context() as patched:
        patched.setattr(batch, "write_atomic", full)
        failed = run([a], CSV)["a.wav"]
    assert failed.status == "failed"
    assert run([replace(a, known=failed.entry)], SHORT)["a.wav"].status == "done"


def test_a_midi_file_of_a_run_with_other_settings_that_was_killed_is_ours(tmp_path: Path) -> None:
    a = job(tmp_path / "a.wav")
    known = run([a])["a.wav"].entry
    assert run([replace(a, known=known)], STACCATO)["a.wav"].status == "done"  # of which nothing is kept
    taken = run([replace(a, known=known)], STACCATO)["a.wav"]
    assert taken.status == "skipped"
    assert taken.entry is not None
    assert not taken.entry.older
    assert run([replace(a, known=taken.entry)])["a.wav"].status == "done"


@pytest.mark.parametrize(
    ("content", "overwrite", "status"),
    [("other music", False, "failed"), ("other music", True, "done"), ("music", False, "done")],
)
def test_what_another_run_writes_meanwhile_is_in_the_way_unless_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, overwrite: bool, status: str
) -> None:
    (tmp_path / "else").mkdir()
    a = job(tmp_path / "a.wav")
    b = replace(job(tmp_path / "else" / "a.wav", content), folder=tmp_path)
    transcribe = fakes.FakeTranscriber.transcribe

    def disturbed(self: fakes.FakeTranscriber, source: Path, **settings: object) -> object:
        monkeypatch.undo()
        assert run([b])["a.wav"].status == "done"
        return transcribe(self, source, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(fakes.FakeTranscriber, "transcribe", disturbed)
    result = run([a], fakes.recipe(overwrite=overwrite))["a.wav"]
    assert result.status == status
    assert status == "done" or "perhaps by another run; give --overwrite" in result.message
    assert run([b])["a.wav"].status == ("failed" if overwrite else "skipped")


def test_a_recording_that_is_replaced_by_one_of_its_size_and_time_has_changed(tmp_path: Path) -> None:
    a = job(tmp_path / "a.wav")

    class Replacing(fakes.FakeTranscriber):
        def transcribe(self, source: Path, **keywords: Any) -> Transcription:
            before = source.stat()
            other = source.with_suffix(".new")
            other.write_text("MUSIC")
            os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
            other.replace(source)
            return super().transcribe(source, **keywords)

    result = batch.Task(a, fakes.recipe(), "").run(Replacing())  # type: ignore[arg-type]
    assert (result.status, result.message) == ("failed", "changed while it was read; run again when it is complete")
    assert not a.output(".mid").exists()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signals that can be held back")
def test_a_worker_is_not_ended_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def held_back() -> bool:
        return signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())

    seen = []
    monkeypatch.setattr(batch, "write_atomic", lambda path, data: seen.append(held_back()))
    assert run([job(tmp_path / "a.wav")], fakes.recipe(extras=(".csv",)))["a.wav"].status == "done"
    assert seen == [True, True]
    assert not held_back()


def test_what_libraries_lack_is_no_failure_of_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, for_good in ((ImportError, False), (RuntimeError, False), (ZeroDivisionError, True)):

        def fail(*_: object, kind: type[Exception] = error, **__: object) -> None:
            raise kind("no")

        monkeypatch.setattr(fakes.FakeTranscriber, "transcribe", fail)
        result = run([job(tmp_path / "a.wav")])["a.wav"]
        assert result.status == "failed"
        assert result.entry is not None
        assert bool(result.entry.fingerprint) is for_good


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
    assert results["gone.wav"].message == "cannot be read: No such file or directory; check the path"
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


@pytest.mark.parametrize(
    ("extension", "part"),
    [("wav", Part()), ("flac", Part(end=0.3)), ("ogg", Part(start=0.2)), ("mp3", Part()), ("m4a", Part())],
)
def test_nothing_of_a_recording_waits_for_the_collector_of_cycles(
    tmp_path: Path, guitar: Path, extension: str, part: Part
) -> None:
    """Workers have it collect rarely, see :func:`processors.settle_in`."""
    path = tmp_path / f"a.{extension}"
    samples, rate = soundfile.read(guitar, frames=16_000, dtype="float32")
    if extension == "m4a":
        av: Any = pytest.importorskip("av")
        with av.open(str(path), "w") as container:
            track = container.add_stream("alac", rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate = rate
            resampler = av.AudioResampler(track.format, "mono", rate, 4096)
            for piece in (*resampler.resample(frame), *resampler.resample(None)):
                container.mux(track.encode(piece))
            container.mux(track.encode(None))
    elif extension.upper() in soundfile.available_formats():
        soundfile.write(path, samples, rate)
    else:
        pytest.skip(f"this libsndfile writes no {extension}")
    kinds = (decoders.Decoded, decoders._Callbacks, decoders._Container, decoders._Sound, soundfile.SoundFile)

    def alive() -> int:
        return sum(isinstance(found, kinds) for found in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = alive()  # what other tests keep
        with open_audio(path, target_rate=16_000, part=part) as stream:
            assert sum(map(len, stream))
            assert alive() > before
        del stream
        assert alive() == before
    finally:
        gc.enable()


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


def test_many_deaths_lose_and_double_no_recording(tmp_path: Path) -> None:
    jobs = [job(tmp_path / f"{i}.wav", "kills once" if i % 8 == 3 else "music") for i in range(24)]
    results = list(batch.run_jobs(jobs, fakes.recipe(), processes=3))
    assert sorted(r.label for r in results) == sorted(j.label for j in jobs)
    assert {r.status for r in results} == {"done"}


def test_no_recording_waits_behind_one_that_takes_long(tmp_path: Path) -> None:
    jobs = [job(tmp_path / f"{i}.wav", "sleeps" if i == 0 else "music") for i in range(12)]
    results = batch.run_jobs(jobs, fakes.recipe(), processes=2)
    assert {Path(next(results).label).name for _ in range(11)} == {f"{i}.wav" for i in range(1, 12)}
    results.close()


def test_processes_are_kept_for_the_next_list(tmp_path: Path) -> None:
    pool = batch.Pool(fakes.recipe(), 2, keep=True)
    with closing(pool):
        seen = []
        for names in ("ab", "cde", ""):
            results = pool.run([job(tmp_path / f"{name}.wav") for name in names])
            assert sorted(Path(r.label).stem for r in results) == list(names)
            seen.append({process.pid for process in multiprocessing.active_children()})
        assert seen[0] == seen[1] == seen[2]
        assert len(seen[0]) == 2
        os.kill(min(seen[0]), signal.SIGKILL)
        assert [r.status for r in pool.run([job(tmp_path / f"{name}.wav") for name in "fghi"])] == ["done"] * 4
    assert not multiprocessing.active_children()


def allow(processes: int, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Have the system start so many processes; the list gets them."""
    start, started = batch._start, []

    def limited(*arguments: Any) -> object:
        if len(started) == processes:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(batch, "_start", limited)
    return started


@pytest.mark.parametrize("allowed", [1, 2])
def test_as_many_processes_work_as_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    started = allow(allowed, monkeypatch)
    results = run([job(tmp_path / f"{i}.wav") for i in range(6)], processes=4)
    assert [r.status for r in results.values()] == ["done"] * 6
    assert len(started) == allowed
    assert not multiprocessing.active_children()


def test_no_process_is_started_that_would_have_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = allow(3, monkeypatch)
    contents = {"near": "waits", "far": "waits long", "next": "music"}
    jobs = [job(tmp_path / f"{name}.wav", content) for name, content in contents.items()]

    def told(its: Job, _seconds: float, _total: float | None) -> None:
        if its.name == "near":  # its worker, nearly through with it, has got the next one by now
            (tmp_path / "far.go").touch()

    with closing(batch.run_jobs(jobs, fakes.recipe(), processes=2, progress=told)) as results:
        assert next(results).label.endswith("far.wav")
        (tmp_path / "near.go").touch()
        assert [Path(result.label).stem for result in results] == ["near", "next"]
    assert len(started) == 2


def test_without_processes_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(0, monkeypatch)
    remedy = "^no process can be started: Resource temporarily unavailable; try --jobs 1$"
    with pytest.raises(TranscribeError, match=remedy):
        run([job(tmp_path / f"{i}.wav") for i in range(2)], processes=2)


def test_it_is_said_if_none_can_take_the_place_of_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(1, monkeypatch)
    with pytest.raises(TranscribeError, match="try --jobs 1"):
        run([job(tmp_path / "a.wav", "kills"), job(tmp_path / "b.wav")], processes=2)


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
