"""The pipeline on Beam's embedded runner: real files, a store on loopback, faults on the way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import ROOT, Run

from basic_transcribe import manifest
from basic_transcribe.batch import Recipe
from basic_transcribe.console import clock
from basic_transcribe.errors import ModelError, OutputError, TranscribeError, UsageError
from basic_transcribe.plan import Choice
from basic_transcribe.types import TrackerSettings

beam = pytest.importorskip("apache_beam", reason="needs the extra beam")

from apache_beam.io.localfilesystem import LocalFileSystem  # noqa: E402

from basic_transcribe.engines import transforms  # noqa: E402
from basic_transcribe.engines.beam import Totals, _source, run  # noqa: E402
from basic_transcribe.engines.catalogue import Found, Item  # noqa: E402

RECIPE = Recipe(threads=1)
DATA = ROOT / "tests" / "data"


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Two short recordings of one name, one in a folder, one that is broken, and what is none."""
    folder = tmp_path / "songs"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(DATA / "guitar_e4.flac", folder / "a.flac")
    shutil.copy(DATA / "piano_c4.flac", folder / "a.oga.flac")
    shutil.copy(DATA / "piano_c4.flac", folder / "sub" / "b.flac")
    (folder / "broken.wav").write_text("no sound")
    (folder / "notes.txt").write_text("no recording")
    (folder / ".hidden.wav").write_text("no recording")
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection leads anywhere."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def outputs(folder: Path) -> dict[str, bytes]:
    tables = {"results.jsonl", "failed.jsonl", "manifest.jsonl"}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in tables
    }


def table(path: str | Path) -> dict[str, manifest.Entry]:
    return {entry.input: entry for entry in transforms.read_results(str(path))}


@pytest.mark.usefixtures("offline")
def test_it_does_what_a_batch_does(songs: Path, tmp_path: Path, cli: Run) -> None:
    out = tmp_path / "out"
    totals = run(str(songs), str(out), Recipe(threads=1, extras=(".csv",)))
    entries = table(out / "results.jsonl")
    done = [entry for entry in entries.values() if entry.status == "done"]
    assert totals == Totals(4, 3, 0, 1, sum(e.notes for e in done), sum(round(1000 * e.seconds) for e in done))
    assert totals.notes >= 3

    assert cli("batch", "songs", "expected", "--csv").returncode == 1
    assert outputs(out) == outputs(tmp_path / "expected")
    assert entries == {entry.input: entry for entry in manifest.read(tmp_path / "expected")}
    assert table(out / "failed.jsonl") == {str(songs / "broken.wav"): entries[str(songs / "broken.wav")]}
    assert "apache_beam.runners.portability.prism_runner" not in sys.modules  # it would be downloaded


def test_another_run_goes_on_from_there(songs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(str(songs), str(out), RECIPE)
    first, written = table(out / "results.jsonl"), {path: path.stat() for path in out.rglob("*.mid")}
    (out / "sub" / "b.mid").unlink()
    totals = run(str(songs), str(out), RECIPE)
    assert (totals.done, totals.skipped, totals.failures) == (1, 2, 1)
    assert table(out / "results.jsonl") == first | {
        str(songs / "broken.wav"): first[str(songs / "broken.wav")],
    }
    kept = [path for path in written if path.name != "b.mid"]
    assert [path.stat().st_mtime_ns for path in kept] == [written[path].st_mtime_ns for path in kept]

    # With one changed, other settings, and a part of them only: the rest of the table stays.
    shutil.copy(DATA / "guitar_e4.flac", songs / "broken.wav")
    other = Recipe(TrackerSettings(onset_threshold=0.9), threads=1)
    assert run(f"{songs}/*.wav", str(out), other).done == 1
    third = table(out / "results.jsonl")
    assert third.keys() == first.keys()
    assert [name for name in first if third[name] != first[name]] == [str(songs / "broken.wav")]
    assert outputs(out).keys() == {"a.mid", "a.oga.mid", "broken.mid", "sub/b.mid"}


def test_the_model_is_loaded_once_and_workers_need_not_have_its_file(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "mine.onnx"
    shutil.copy(ROOT / "models" / "basic_transcribe.onnx", model)
    load, loaded = Recipe.load, []

    def counted(recipe: Recipe) -> Any:
        if loaded:
            model.unlink(missing_ok=True)  # the machine that starts the pipeline has had its look
        loaded.append(recipe.model)
        return load(recipe)

    monkeypatch.setattr(Recipe, "load", counted)
    assert run(str(songs), str(tmp_path / "out"), Recipe(model=model, threads=1)).done == 3
    assert len(loaded) == 2
    assert loaded[0] == model
    assert not loaded[1].parent.exists()


def test_metrics(songs: Path, tmp_path: Path) -> None:
    source = transforms.Source(f"{songs}/**", f"{songs}/")
    pipeline = beam.Pipeline("FnApiRunner")
    transforms.build(pipeline, source, str(tmp_path / "out"), RECIPE)
    metrics = pipeline.run().metrics().query()
    assert {counter.key.metric.name for counter in metrics["counters"]} == set(transforms.COUNTERS) - {"skipped"}
    (times,) = metrics["distributions"]
    assert times.key.metric.name == "milliseconds_per_file"
    assert times.result.count == 3
    assert 0 < times.result.min <= times.result.max


def test_lists(songs: Path, tmp_path: Path) -> None:
    lines = [{"input": "sub/b.flac", "output": "x/y.mid"}, {"input": "gone.wav"}, {"input": "a.flac"}]
    (songs / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out"
    totals = run(str(songs / "list.jsonl"), str(out), RECIPE)
    assert (totals.done, totals.failures) == (2, 1)
    assert outputs(out).keys() == {"x/y.mid", "a.mid"}
    assert table(out / "failed.jsonl").keys() == {str(songs / "gone.wav")}

    (songs / "list.txt").write_text("sub/b.flac\n\na.flac\n")  # which says nothing of outputs
    totals = run(str(songs / "list.txt"), str(out), RECIPE)
    assert (totals.done, totals.skipped) == (0, 2)  # each keeps its output
    assert outputs(out).keys() == {"x/y.mid", "a.mid"}
    assert run(str(out / "results.jsonl"), str(out), RECIPE) == Totals(files=3, skipped=2, failures=1)


def test_what_is_named_need_not_look_like_a_recording(songs: Path) -> None:
    def found(source: Path) -> set[str]:
        return {one.relative for one in transforms.find(_source(str(source), Choice()))}

    song = (songs / "a.flac").rename(songs / "a.take2")
    assert found(song) == {"a.take2"}
    assert found(songs) == {"a.oga.flac", "broken.wav", "sub/b.flac"}


def test_a_list_and_then_its_folder(songs: Path, tmp_path: Path, cli: Run) -> None:
    """What a list gave an output elsewhere keeps it, as in a batch, and is told of in one line."""
    line = json.dumps({"input": "a.flac", "output": "song/x.mid"})
    (songs / "LIST.JSONL").write_bytes(b"\xef\xbb\xbf" + line.encode())
    out = tmp_path / "out"
    assert run(str(songs / "LIST.JSONL"), str(out), RECIPE).done == 1
    totals = run(str(songs), str(out), RECIPE)
    assert (totals.done, totals.skipped, totals.failures) == (2, 1, 1)
    inputs = [json.loads(line)["input"] for line in (out / "results.jsonl").read_text().splitlines()]
    assert sorted(inputs) == sorted(set(inputs))

    cli("batch", "songs/LIST.JSONL", "expected")
    cli("batch", "songs", "expected")
    assert outputs(out) == outputs(tmp_path / "expected")
    assert "song/x.mid" in outputs(out)


@pytest.mark.parametrize("output", ["../x.mid", "/x.mid", "a/../../x.mid"])
def test_lists_cannot_write_elsewhere(output: str, songs: Path, tmp_path: Path) -> None:
    (songs / "list.jsonl").write_text(json.dumps({"input": "a.flac", "output": output}) + "\n")
    with pytest.raises(UsageError, match=r"line 1: .* leads out of the folder"):
        run(str(songs / "list.jsonl"), str(tmp_path / "out"), RECIPE)
    assert not (tmp_path / "out").exists()


def test_results_cannot_write_elsewhere(songs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    entry = manifest.Entry(str(songs / "a.flac"), "a.mid", "done")
    line = manifest.to_line(entry).replace(b'"a.mid"', b'"../a.mid"')
    (out / "results.jsonl").write_bytes(b"no entry\n" + line)
    run(str(songs / "a.flac"), str(out), RECIPE)
    assert outputs(out).keys() == {"a.mid"}
    assert not (tmp_path / "a.mid").exists()


def test_what_cannot_be_started(songs: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    for source, message in (("none", "no recordings found"), ("none/*.wav", "no recordings found")):
        with pytest.raises(UsageError, match=message):
            run(str(songs / source), out, RECIPE)
    with pytest.raises(UsageError, match="no recordings among what was found"):
        run(str(songs), out, RECIPE, choice=Choice(exclude=("*",)))
    with pytest.raises(UsageError, match="no file system"):
        run("ftp://songs/a.wav", out, RECIPE)
    with pytest.raises(UsageError, match="--nonsense is no option of Apache Beam"):
        run(str(songs), out, RECIPE, options=["--nonsense=1"])
    with pytest.raises(UsageError, match="Unexpected pipeline runner: Nobody"):
        run(str(songs), out, RECIPE, runner="Nobody")
    with pytest.raises(ModelError):
        run(str(songs), out, Recipe(model=songs / "broken.wav"))
    with pytest.raises(OutputError):
        run(str(songs), str(songs / "broken.wav" / "out"), RECIPE)


def test_command(songs: Path, tmp_path: Path, cli: Run) -> None:
    done = cli("beam", "songs", "out", "--exclude", "a.*", "--csv", "--", "--direct_num_workers=1")
    assert done.returncode == 1
    seconds = soundfile.info(songs / "sub" / "b.flac").duration
    assert done.stdout.decode().startswith("1 done, 0 up to date, 1 failed: ")
    assert f" in {clock(seconds)} of audio; see " in done.stdout.decode()
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"error: {songs / 'broken.wav'}: not audio")
    assert outputs(tmp_path / "out").keys() == {"sub/b.mid", "sub/b.csv"}
    for arguments in (["--jobs", "2"], ["more"]):
        refused = cli("beam", "songs", "out", *arguments)
        assert refused.returncode == 2
        assert len(refused.stderr.splitlines()) == 1


def test_it_can_be_stopped(tmp_path: Path, cli_environment: dict[str, str]) -> None:
    (tmp_path / "songs").mkdir()
    for name in "abcd":
        soundfile.write(tmp_path / "songs" / f"{name}.flac", np.zeros(600 * 8000, np.int16), 8000)
    command = [sys.executable, "-m", "basic_transcribe", "beam", "songs", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, env=cli_environment, stderr=subprocess.PIPE)
    while process.poll() is None and not list(tmp_path.glob("out/*.mid")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143
    assert errors == b"stopped by SIGTERM; run again to go on\n"
    written = outputs(tmp_path / "out")
    assert 1 <= len(written) < 4
    assert not list(tmp_path.glob("out/beam-temp-*"))
    assert all(data.startswith(b"MThd") for data in written.values())


# -------------------------------------------------------------------------------------------------------------- stores


class Store(LocalFileSystem):
    """``test://``, a folder that does not replace files by renaming others, and whose objects misbehave by name."""

    root = Path()

    @classmethod
    def scheme(cls) -> str:
        return "test"

    def place(self, url: str) -> str:
        return str(self.root / url.removeprefix("test://"))

    def open(self, path: str, *arguments: Any, **keywords: Any) -> Any:
        if "restless" in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if "private" in path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return super().open(self.place(path), *arguments, **keywords)

    def create(self, path: str, *arguments: Any, **keywords: Any) -> Any:
        return super().create(self.place(path), *arguments, **keywords)

    def metadata(self, path: str) -> Any:
        return super().metadata(self.place(path))

    def exists(self, path: str) -> bool:
        return super().exists(self.place(path))

    def delete(self, paths: list[str]) -> None:
        super().delete([self.place(path) for path in paths])

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        assert not any(self.exists(name) for name in destination_file_names)
        super().rename([*map(self.place, source_file_names)], [*map(self.place, destination_file_names)])


@pytest.fixture
def visit(songs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[manifest.Entry, str]]:
    """Does one recording of the store, the last step alone."""
    monkeypatch.setattr(Store, "root", songs)

    def work(url: str, known: manifest.Entry | None = None, **settings: Any) -> tuple[manifest.Entry, str]:
        step = transforms.Transcribe("test://out", Recipe(threads=1, extras=(".csv",), **settings))
        step.setup()
        (result,) = step.process(Item(Found(url, Path(url).name), Path(url).stem, known))
        return result

    return work


Visit = Callable[..., tuple[manifest.Entry, str]]


def test_objects(visit: Visit, songs: Path, tmp_path: Path) -> None:
    entry, status = visit("test://a.flac")
    run(str(songs / "a.flac"), str(tmp_path / "expected"), Recipe(threads=1, extras=(".csv",)))
    assert status == "done"
    assert outputs(songs / "out") == outputs(tmp_path / "expected")
    expected = table(tmp_path / "expected" / "results.jsonl")[str(songs / "a.flac")]
    assert replace(entry, mtime_ns=None) == replace(expected, input="test://a.flac", mtime_ns=None)

    (songs / "out" / "a.csv").unlink()  # only what is missing is made
    written = (songs / "out" / "a.mid").stat()
    assert visit("test://a.flac", entry) == (entry, "done")
    assert (songs / "out" / "a.mid").stat().st_mtime_ns == written.st_mtime_ns
    assert outputs(songs / "out") == outputs(tmp_path / "expected")
    assert visit("test://a.flac", entry, overwrite=True) == (entry, "done")
    assert outputs(songs / "out") == outputs(tmp_path / "expected")


def test_outputs_have_the_times_of_their_objects(visit: Visit, songs: Path) -> None:
    visit("test://a.flac")
    csv, written = songs / "out" / "a.csv", (songs / "out" / "a.mid").stat().st_mtime
    csv.write_text("mine")
    for seconds, status in ((60, "skipped"), (-60, "failed")):  # older than the MIDI file: of another run
        os.utime(csv, (written + seconds, written + seconds))
        assert visit("test://a.flac")[1] == status  # the table was not written
    assert csv.read_text() == "mine"


def test_objects_that_have_not_changed_are_not_fetched(
    visit: Visit, songs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, failed = visit("test://a.flac")[0], visit("test://broken.wav")[0]
    assert failed.message.startswith("not audio")

    def fetch(*_: Any) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(transforms, "fetch", fetch)
        assert visit("test://a.flac", done) == (done, "skipped")
        assert visit("test://broken.wav", failed) == (failed, "failed")
    shutil.copy(DATA / "guitar_e4.flac", songs / "broken.wav")
    assert visit("test://broken.wav", failed)[1] == "done"


def test_what_is_in_the_way_stays(visit: Visit, songs: Path) -> None:
    (songs / "out").mkdir()
    (songs / "out" / "a.mid").write_text("mine")
    entry, status = visit("test://a.flac")
    assert status == "failed"
    assert entry.message.startswith("test://out/a.mid exists, made from another recording")
    assert outputs(songs / "out") == {"a.mid": b"mine"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("test://gone.wav", "no such object; check the path"),
        ("test://private.wav", "may not be read; check access"),
        (f"test://{'x' * 252}.wav", "the output's name would have 256 bytes, 255 are allowed; rename the recording"),
    ],
)
def test_objects_that_cannot_be_had(visit: Visit, songs: Path, url: str, message: str) -> None:
    (songs / "private.wav").touch()
    entry, status = visit(url)
    assert (entry.input, entry.status, status) == (url, "failed", "failed")
    assert entry.message.startswith(message)


def test_what_may_pass_is_left_to_the_engine(visit: Visit, songs: Path, tmp_path: Path) -> None:
    (songs / "restless.wav").touch()
    with pytest.raises(OSError, match="Input/output error"):
        visit("test://restless.wav")
    (songs / "list.txt").write_text("test://restless.wav\n")
    with pytest.raises(TranscribeError, match=r"the pipeline failed: .*Input/output error.*; what it has written"):
        run(str(songs / "list.txt"), str(tmp_path / "out"), RECIPE)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no answer")

    monkeypatch.setattr(transforms.FileSystems, "rename", fail)
    with pytest.raises(OSError, match="no answer"):
        transforms.publish(f"{tmp_path}/a.mid", b"MThd")
    assert not list(tmp_path.iterdir())


def test_files_that_are_none(songs: Path, tmp_path: Path) -> None:
    os.mkfifo(songs / "pipe.wav")
    with open(os.fsencode(songs / "sub") + b"/\xff.wav", "wb"):
        pass
    out = tmp_path / "out"
    assert run(f"{songs}/**.wav", str(out), RECIPE).failures == 3
    messages = {entry.input: entry.message for entry in table(out / "failed.jsonl").values()}
    assert messages[str(songs / "pipe.wav")] == "not a regular file; give a recording"
    assert "empty" in messages[str(songs / "sub" / "\udcff.wav")]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, list[str]]]:
    """A client of a stand-in for S3 on loopback, with an empty bucket, ``songs``; and the options that lead there."""
    boto3 = pytest.importorskip("boto3", reason="needs apache-beam[aws]")
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket="songs")
        yield client, [f"--s3_endpoint_url={endpoint}", "--s3_region_name=us-east-1"]
    finally:
        server.stop()


def test_s3(bucket: tuple[Any, list[str]], songs: Path, tmp_path: Path) -> None:
    client, options = bucket
    for path in (songs / "a.flac", songs / "sub" / "b.flac", songs / "broken.wav"):
        client.upload_file(str(path), "songs", f"in/{path.relative_to(songs)}")
    totals = run("s3://songs/in/", "s3://songs/out", RECIPE, options=options)
    assert (totals.done, totals.failures) == (2, 1)
    keys = {item["Key"] for item in client.list_objects_v2(Bucket="songs", Prefix="out/")["Contents"]}
    assert keys == {"out/a.mid", "out/sub/b.mid", "out/results.jsonl", "out/failed.jsonl"}
    run(str(songs), str(tmp_path / "expected"), RECIPE)
    for key in ("a.mid", "sub/b.mid"):
        data = client.get_object(Bucket="songs", Key=f"out/{key}")["Body"].read()
        assert data == (tmp_path / "expected" / key).read_bytes()
    assert run("s3://songs/in/**.flac", "s3://songs/out", RECIPE, options=options) == Totals(files=2, skipped=2)
    assert client.list_objects_v2(Bucket="songs", Prefix="out/failed")["KeyCount"] == 0  # none failed this time
    with pytest.raises(UsageError, match=r"^s3://songs/gone/.*: no recordings found"):
        run("s3://songs/gone/", "s3://songs/out", RECIPE, options=options)
    with pytest.raises(UsageError, match=r"^s3://else/"):
        run("s3://else/", "s3://songs/out", RECIPE, options=options)
