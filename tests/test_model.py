"""The shipped model and its streaming; files that are no model of ours."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from basic_transcribe import model as model_room
from basic_transcribe.errors import ModelError, UsageError
from basic_transcribe.model import Cutter, Model, default_model_path
from basic_transcribe.tracking import track_notes
from basic_transcribe.types import Float32, Posteriors, TrackerSettings


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(threads=1)


@pytest.fixture(scope="module")
def music() -> Float32:
    """Sixteen seconds of chords with attacks, and some noise."""
    rng = np.random.default_rng(1)
    n = 16 * 22050 + 123
    t = np.arange(n) / 22050
    x = rng.normal(0, 0.002, n)
    for start in np.arange(0.2, 15.5, 0.6):
        s = np.maximum(t - start, 0)
        for pitch in rng.choice(np.arange(45, 80), 3, replace=False):
            f = 440 * 2 ** ((pitch - 69) / 12)
            x += 0.08 * sum(np.sin(2 * np.pi * f * h * s) / h for h in range(1, 6)) * np.exp(-3 * s) * (s > 0)
    return x.astype(np.float32)


def pieces(audio: Float32, size: int) -> Iterator[Float32]:
    for start in range(0, len(audio), size):
        yield audio[start : start + size]


def whole(model: Model, audio: Float32, size: int = 22050) -> Posteriors:
    return Posteriors.concatenate(list(model.posteriors(pieces(audio, size))))


# ---------------------------------------------------------------- the shipped model


def test_attributes(model: Model) -> None:
    assert model.sample_rate == 22050
    assert model.hop == 256
    assert model.frame_rate == pytest.approx(86.13, abs=0.01)
    assert (model.lowest_pitch, model.pitches, model.bins_per_semitone) == (21, 88, 3)
    assert model.name.startswith("basic_transcribe ")
    assert all(part % model.hop == 0 for part in model.context)
    settings = TrackerSettings().resolved(model.defaults)  # checks their ranges
    assert None not in (settings.onset_threshold, settings.frame_threshold, settings.minimum_note_length)


def test_checksum_beside_the_model_matches(model: Model) -> None:
    path = default_model_path()
    digest, name = Path(f"{path}.sha256").read_text().split()
    assert name == path.name
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256


def test_blocks_of_any_length_give_the_same_posteriors(model: Model, music: Float32) -> None:
    reference = whole(Model(threads=1, block_seconds=60), music)
    assert len(reference) == -(-len(music) // model.hop)
    assert reference.note.max() > 0.5  # something to compare
    for seconds in (1.0, 7.0):
        other = whole(Model(threads=1, block_seconds=seconds), music, size=40_001)
        for name in Posteriors.ARRAYS:
            tolerance = 1e-2 if name == "level" else 1e-4
            np.testing.assert_allclose(getattr(other, name), getattr(reference, name), rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [1, 255, 10_000])
def test_how_the_audio_arrives_changes_nothing(model: Model, music: Float32, size: int) -> None:
    audio = music[:12_345]
    a, b = whole(model, audio, size), whole(model, audio, len(audio))
    for name in Posteriors.ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("samples", [0, 1, 255, 256, 257, 511, 513, 5121])
def test_number_of_frames(samples: int, model: Model) -> None:
    audio = np.full(samples, 0.1, np.float32)
    parts = list(model.posteriors(pieces(audio, 1000)))
    assert sum(len(p) for p in parts) == -(-samples // model.hop)
    for p in parts:
        assert p.note.shape == p.onset.shape == p.offset.shape == p.level.shape == (len(p), 88)
        assert p.contour.shape == (len(p), 264)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(1, [1]), (87, [87]), (88, [88]), (89, [89]), (131, [131]), (132, [132]), (133, [88, 45]), (168, [88, 80]),
     (176, [88, 88]), (177, [88, 88, 1]), (220, [88, 88, 44]), (264, [88, 88, 88])],
)  # fmt: skip
@pytest.mark.parametrize("size", [1000, 10**6])
def test_frames_of_each_block(frames: int, expected: list[int], size: int) -> None:
    short = Model(threads=1, block_seconds=88 * 256 / 22050)  # up to 132 frames are run at once
    parts = list(short.posteriors(pieces(np.zeros(frames * 256 - 100, np.float32), size)))
    assert [len(p) for p in parts] == expected


@pytest.mark.parametrize("frames", [4, 5, 8, 12])
def test_tiny_blocks(frames: int) -> None:
    tiny = Model(threads=1, block_seconds=0.0)
    assert tiny.block_frames == 4
    assert sum(len(p) for p in tiny.posteriors([np.zeros(frames * 256, np.float32)])) == frames


def test_feeds_of_one_model_do_not_meet(model: Model, music: Float32) -> None:
    audio = music[: 3 * 22050]
    cutters = [Cutter(model, model.frames_of(0.5)) for _ in range(2)]
    got: list[list[Posteriors]] = [[], []]
    for piece in pieces(audio, 7000):
        got[0] += map(model.run_window, cutters[0].push(piece))
        got[1] += map(model.run_window, cutters[1].push(-piece[::-1]))
    got = [parts + list(map(model.run_window, c.flush())) for parts, c in zip(got, cutters, strict=True)]
    alone = whole(Model(threads=1, block_seconds=0.5), audio)
    for name in Posteriors.ARRAYS:
        np.testing.assert_array_equal(getattr(Posteriors.concatenate(got[0]), name), getattr(alone, name))
    assert len(Posteriors.concatenate(got[1])) == len(alone)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.5])
def test_a_frame_is_given_within_the_latency(seconds: float, model: Model) -> None:
    frames = model.frames_of(seconds)
    cutter = Cutter(model, frames)
    waited = []  # samples from the centre of each frame until it is given
    for hops in range(1, 2 + (cutter.latency + 2 * frames * model.hop) // model.hop):
        for block in map(model.run_window, cutter.push(np.zeros(model.hop, np.float32))):
            waited += [hops * model.hop - frame * model.hop for frame in range(len(waited), len(waited) + len(block))]
    assert len(waited) >= 2 * frames
    assert model.context[1] <= min(waited) <= max(waited) == cutter.latency


def test_silence(model: Model) -> None:
    p = whole(model, np.zeros(3 * 22050, np.float32))
    for name in ("onset", "note", "offset", "contour"):
        values = getattr(p, name)
        assert np.isfinite(values).all()
        assert values.min() >= 0
    assert max(p.onset.max(), p.note.max(), p.contour.max()) < 0.2
    assert track_notes(p, TrackerSettings().resolved(model.defaults)) == []


# ---------------------------------------------------------------- no model of ours


def refused(path: Path, *words: str) -> None:
    """Loading ``path`` fails with one line that names it."""
    with pytest.raises(ModelError) as caught:
        Model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    for word in words:
        assert word in message


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "cannot be read")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, "cannot be read")


def test_null_character_in_the_path() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        Model("a\0b")


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
def test_empty_and_random_files(tmp_path: Path, size: int) -> None:
    path = tmp_path / "random.onnx"
    path.write_bytes(np.random.default_rng(size).bytes(size))
    refused(path)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, part: float) -> None:
    data = default_model_path().read_bytes()
    path = tmp_path / "truncated.onnx"
    path.write_bytes(data[: int(len(data) * part)])
    refused(path)


def test_size_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_room, "MAX_MODEL_BYTES", 100)
    path = tmp_path / "large.onnx"
    path.write_bytes(bytes(101))
    refused(path, "over the limit")


def test_no_room_is_made_for_more_than_the_file() -> None:
    tracemalloc.start()
    try:
        Model._read(default_model_path())
        assert tracemalloc.get_traced_memory()[1] < 2 * default_model_path().stat().st_size + 100_000
    finally:
        tracemalloc.stop()


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot be loaded: .*; install onnxruntime again"):
        Model()


META: dict[str, Any] = {
    "format": 1,
    "name": "basic_transcribe",
    "version": "test",
    "sample_rate": 22050,
    "hop": 256,
    "frames_multiple": 1,
    "context_before": 256,
    "context_after": 256,
    "lowest_pitch": 21,
    "pitches": 88,
    "bins_per_semitone": 3,
    "defaults": dict(zip(model_room.DEFAULTS, (0.5, 0.6, 0.3, 5, 50), strict=True)),
}
WIDTHS = {"onset": 88, "note": 88, "offset": 88, "contour": 264, "level": 88}


def tiny(path: Path, meta: str | None, *, source: str = "audio", widths: dict[str, int] = WIDTHS) -> Any:
    """Write a graph of our signature that does nothing useful; returns it."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes, constants = [], []
    for name, width in widths.items():
        constants.append(onnx.numpy_helper.from_array(np.zeros((1, 8, width), np.float32), f"{name}_zeros"))
        nodes.append(helper.make_node("Identity", [f"{name}_zeros"], [name]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(source, kinds.FLOAT, [1, "samples"])],
        [helper.make_tensor_value_info(name, kinds.FLOAT, [1, 8, width]) for name, width in widths.items()],
        constants,
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if meta is not None:
        helper.set_model_props(built, {"basic_transcribe": meta})
    path.write_bytes(built.SerializeToString())
    return built


def test_the_tiny_model_itself_is_accepted(tmp_path: Path) -> None:
    tiny(tmp_path / "tiny.onnx", json.dumps(META))
    assert Model(tmp_path / "tiny.onnx").name == "basic_transcribe test"


def test_missing_metadata(tmp_path: Path) -> None:
    tiny(tmp_path / "tiny.onnx", None)
    refused(tmp_path / "tiny.onnx", "metadata has no key")


def without(key: str) -> str:
    return json.dumps({k: v for k, v in META.items() if k != key})


def changed(**values: Any) -> str:
    return json.dumps(META | values)


@pytest.mark.parametrize(
    "meta",
    [
        "",
        "{",
        "[]",
        "1",
        *(without(key) for key in META),
        *(changed(**{key: 0}) for key in ("sample_rate", "hop", "pitches", "frames_multiple", "bins_per_semitone")),
        changed(format=2),
        changed(sample_rate="22050"),
        changed(hop=2.5),
        changed(hop=True),
        changed(hop=-256),
        changed(pitches=10**9),
        changed(lowest_pitch=100),
        changed(context_before=100),
        changed(defaults=[]),
        changed(defaults={"onset_threshold": 0.5}),
        changed(defaults=META["defaults"] | {"frame_threshold": "low"}),
        changed(name=1),
        changed(pitches=80),  # not what the outputs have
        changed(bins_per_semitone=5),
    ],
)
def test_bad_metadata(tmp_path: Path, meta: str) -> None:
    tiny(tmp_path / "tiny.onnx", meta)
    refused(tmp_path / "tiny.onnx")


def test_wrong_input(tmp_path: Path) -> None:
    tiny(tmp_path / "tiny.onnx", json.dumps(META), source="x")
    refused(tmp_path / "tiny.onnx", "'audio'")


@pytest.mark.parametrize("name", WIDTHS)
def test_missing_and_misshapen_outputs(tmp_path: Path, name: str) -> None:
    tiny(tmp_path / "tiny.onnx", json.dumps(META), widths={k: v for k, v in WIDTHS.items() if k != name})
    refused(tmp_path / "tiny.onnx", repr(name))
    tiny(tmp_path / "tiny.onnx", json.dumps(META), widths=WIDTHS | {name: 7})
    refused(tmp_path / "tiny.onnx", repr(name))


def test_the_shipped_model_names_what_may_be_fused() -> None:
    """ONNX Runtime before 1.22 names what it makes of slices after the first of them: two of a name are an error."""
    onnx = pytest.importorskip("onnx")
    names = [n.name for n in onnx.load(str(default_model_path())).graph.node if n.op_type in ("Slice", "Gather")]
    assert all(names)
    assert len(set(names)) == len(names) > 10


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/hostname"])
def test_external_data_is_not_followed(tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "inner"
    folder.mkdir()
    built = tiny(folder / "tiny.onnx", json.dumps(META))
    tensor = built.graph.initializer[0]
    data = tensor.raw_data
    for place in (folder, tmp_path):
        (place / "weights.bin").write_bytes(data)
    onnx.external_data_helper.set_external_data(tensor, location, offset=0, length=len(data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    (folder / "tiny.onnx").write_bytes(built.SerializeToString())
    monkeypatch.chdir(folder)  # a path relative to here must not be followed either
    refused(folder / "tiny.onnx")


def test_a_provider_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="unknown; it must be one of cpu, cuda"):
        Model(provider="gpu")
    with pytest.raises(UsageError, match=r"provider \"\['cpu'\]\" is unknown"):
        Model(provider=["cpu"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"'directml' is not available: this ONNX Runtime has only .*CPUExecution"):
        Model(provider="directml")
    # One that the build has but the machine has not is passed over by ONNX Runtime in silence.
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    with pytest.warns(UserWarning, match="CUDA"), pytest.raises(UsageError, match="'cuda' is not available: it cannot"):
        Model(provider="cuda")


def test_a_program_around_us_may_have_limited_memory_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def registered(*_: object) -> None:
        raise RuntimeError("An allocator for this device has already been registered for sharing.")

    def broken(*_: object) -> None:
        raise RuntimeError("out of order")

    limit_memory = model_room._limit_memory.__wrapped__  # which does it once only
    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", registered)
    limit_memory()
    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", broken)
    with pytest.raises(RuntimeError, match="out of order"):
        limit_memory()


class Session:
    """Stands for ONNX Runtime's, and fails."""

    def __init__(self, failure: Callable[[], None]) -> None:
        self._failure = failure

    def run(self, *_: object) -> None:
        self._failure()
        raise RuntimeError("done")


def test_runs_at_a_time_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    model, runs = Model(threads=1), threading.Semaphore(1)
    monkeypatch.setattr(model_room, "_runs", runs)
    left: list[bool] = []
    model._session = Session(lambda: left.append(runs.acquire(blocking=False)))  # type: ignore[assignment]
    with pytest.raises(ModelError, match="it does not run: done"):
        model.run(np.zeros(10, np.float32))
    assert left == [False]
    assert runs.acquire(blocking=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_runs_of_other_threads_do_not_count_after_a_fork() -> None:
    code = """
import os, signal
from basic_transcribe import model
while model._runs.acquire(blocking=False):
    pass
child = os.fork()
if not child:
    os._exit(0 if model._runs.acquire(blocking=False) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True)


def test_too_little_memory_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = [
        RuntimeError(
            "bfc_arena.cc:360 AllocateRawInternal: Available memory of 1 is smaller than requested bytes of 2"
        ),
        RuntimeError("bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 9"),
        MemoryError("std::bad_alloc"),
    ]
    model = Model(threads=1)
    for reason in reasons:
        monkeypatch.setattr(model, "_session", Session(partial(throw, reason)))
        with pytest.raises(
            ModelError, match=r"onnx' ran out of memory; use fewer threads, or transcribe fewer [a-z ]+$"
        ):
            model.run(np.zeros(10, np.float32))


def test_posteriors_that_are_kept_take_none_of_the_memory_for_runs(model: Model) -> None:
    posteriors = model.run(np.zeros(sum(model.context) + 7 * model.hop, np.float32))
    for name in Posteriors.ARRAYS:
        assert getattr(posteriors, name).flags.owndata


def throw(error: Exception) -> None:
    raise error


def test_what_the_handler_of_a_signal_raises_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class LateError(Exception):
        pass

    model = Model(threads=1)
    for error in (LateError, TimeoutError):
        monkeypatch.setattr(model, "_session", Session(partial(throw, error())))
        with pytest.raises(error):
            model.run(np.zeros(10, np.float32))


def test_a_copy_is_loaded_anew_from_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(default_model_path().read_bytes())
    monkeypatch.chdir(tmp_path)
    model = Model("m.onnx", threads=3, block_seconds=1.0)
    monkeypatch.chdir("/")
    pickled = [pickle.loads(pickle.dumps(model, protocol)) for protocol in range(6)]
    for other in (*pickled, copy.copy(model), copy.deepcopy(model)):
        assert other._session is not model._session
        assert (other.sha256, other.threads, other.block_frames) == (model.sha256, 3, model.block_frames)


@pytest.mark.parametrize("path", [5, b"m.onnx", ["m.onnx"]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(UsageError, match=r"model is .*; give a path"):
        Model(path)


def test_nothing_is_reported_to_anyone() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
