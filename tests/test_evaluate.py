"""Evaluation: finding and reading references, scores known in advance, the command's table, JSON and exit codes."""

from __future__ import annotations

import json
import math
import shutil
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Run
from fakes import transcription as fake_transcription

from basic_transcribe import evaluate, scoring
from basic_transcribe.cli import evaluate_app
from basic_transcribe.errors import TranscribeError
from basic_transcribe.exports import notes_to_csv, notes_to_jams
from basic_transcribe.midi import to_midi
from basic_transcribe.plan import plan
from basic_transcribe.types import Note, PitchBend, TrackerSettings

HEADER = "onset_s,offset_s,midi_pitch\n"
NOTES = tuple(Note(0.5 * i, 0.5 * i + 0.4, 60 + i, 60 + 3 * i, 0.9) for i in range(8))


@pytest.fixture
def mir_eval() -> None:
    pytest.importorskip("mir_eval")


def write(path: Path, notes: tuple[Note, ...] = NOTES, *, shift: float = 0.0, transpose: int = 0) -> Path:
    """A file of notes, by its extension, or an empty recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    moved = [Note(n.onset + shift, n.offset + shift, n.pitch + transpose, n.velocity, 1, n.bend) for n in notes]
    if path.suffix == ".mid":
        path.write_bytes(to_midi(moved).data)
    elif path.suffix == ".csv":
        path.write_text(HEADER + "".join(f"{n.onset:.3f},{n.offset:.3f},{n.pitch}\n" for n in moved))
    else:
        path.touch()
    return path


def scored(folder: Path, name: str, **changes: float) -> evaluate.Score:
    """Score of an estimate against the reference that it is a change of."""
    recording = scoring.Recording("set", name, folder / f"{name}.wav", write(folder / f"{name}.csv"))
    return evaluate.score(recording, write(folder / "estimates" / f"{name}.mid", **changes))  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "text",
    [
        "0.5,1.0,60.5,70\n2,3,61,80\n",
        "onset_s,offset_s,midi_pitch,velocity\n0.5,1.0,60.5,70\n2,3,61,80\n",
        "\ufeff Velocity , MIDI_pitch,comment,onset_s,offset_s\r\n70,60.5,x,0.5,1.0\r\n\r\n80,61,,2,3\r\n",
        "onset_s,offset_s,pitch,velocity,confidence,bend_cents\n0.5,1.0,60.5,70,0.9,0\n2,3,61,80,0.5,\n",
    ],
)
def test_csv(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.CSV").write_bytes(text.encode())
    notes = scoring.load_notes(tmp_path / "a.CSV")
    assert notes.intervals.tolist() == [[0.5, 1], [2, 3]]
    assert notes.pitch.tolist() == notes.sounding.tolist() == [60.5, 61]
    assert notes.velocity is not None
    assert notes.velocity.tolist() == [70, 80]


def test_csv_of_this_package(tmp_path: Path) -> None:
    bend = PitchBend(0.0, 0.01, np.full(40, 0.3, np.float32))
    (tmp_path / "a.csv").write_text(notes_to_csv([Note(0.25, 1.5, 64, 77, 0.5, bend), *NOTES]))
    notes = scoring.load_notes(tmp_path / "a.csv")
    assert (*notes.intervals[0], notes.pitch[0]) == (0.25, 1.5, 64)
    assert notes.sounding[:2] == pytest.approx([64.3, 60])
    assert notes.velocity is not None


def test_csv_without_velocities(tmp_path: Path) -> None:
    assert scoring.load_reference(write(tmp_path / "a.csv")).velocity is None
    assert scoring.load_notes(write(tmp_path / "a.csv", ())).velocity is None
    (tmp_path / "b.csv").write_text(notes_to_csv([]))
    assert scoring.load_notes(tmp_path / "b.csv").velocity is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no column onset_s"),
        ("system,set,F50\na,b,0.5\n", "no column onset_s"),
        ("0.5,1.0\n", "no column midi_pitch"),
        ("onset_s;offset_s;midi_pitch\n0;1;60\n", "with commas between"),
        ("0.5,1.0,60,70,0.9\n", "5 columns without a header"),
        (HEADER + "0,1,60\n0.5,,60\n", "line 3: offset_s is ''"),
        (HEADER + "0.5,1\n", "line 2: midi_pitch is ''"),
        (HEADER + "0.5,x,60\n", "line 2: offset_s is 'x'"),
        (HEADER + "1,1,60\n", "line 2: from 1 to 1 s"),
        (HEADER + "-1,1,60\n", "line 2: from -1"),
        (HEADER + "0,inf,60\n", "line 2: from 0 to inf"),
        (HEADER + "nan,1,60\n", "line 2: from nan"),
        (HEADER + "0,1,440\n", "line 2: pitch 440"),
        ("0,1,60,200\n", "line 1: velocity 200"),
        ("onset_s,offset_s,pitch,bend_cents\n0,1,60,nan\n", "line 2: pitch"),
        ("onset_s,offset_s,pitch,bend_cents\n0,1,60,up\n", "line 2: bend_cents is 'up'"),
        (b"\xff\xfe0,1,60\n".decode("latin-1"), "not a CSV file"),
        (HEADER, "no notes"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(TranscribeError) as caught:
        scoring.load_reference(tmp_path / "a.csv")
    assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def observation(time: float, duration: float, value: float) -> dict[str, object]:
    return {"time": time, "duration": duration, "value": value, "confidence": None}


def jams(path: Path, **data: object) -> Path:
    """A JAMS file with an annotation for each namespace; a digit at the end of its name is left out."""
    annotations = [{"namespace": k.rstrip("0123456789"), "data": v, "sandbox": {}} for k, v in data.items()]
    path.write_text(json.dumps({"annotations": annotations, "file_metadata": {"duration": 4}, "sandbox": {}}))
    return path


def test_jams(tmp_path: Path) -> None:
    one, two = [observation(0.5, 0.25, 60.1)], [observation(1, 0.5, 64), observation(2, 1, 67)]
    path = jams(tmp_path / "a.jams", note_midi1=one, beat=[observation(0, 0, 1)], note_midi2=two, pitch_midi=one)
    notes = scoring.load_notes(path)
    assert notes.intervals.tolist() == [[0.5, 0.75], [1, 1.5], [2, 3]]
    assert notes.pitch.tolist() == [60.1, 64, 67]
    assert notes.velocity is None


def test_older_jams(tmp_path: Path) -> None:
    columns = {"time": [0.5, 1], "duration": [0.25, 0.5], "value": [60.1, 64], "confidence": [None, None]}
    notes = scoring.load_notes(jams(tmp_path / "a.jams", pitch_midi=columns))
    assert notes.intervals.tolist() == [[0.5, 0.75], [1, 1.5]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a JAMS file"),
        ("[" * 100_000, "not a JAMS file"),
        ("[]", "not a JAMS file"),
        ('{"annotations": [{"namespace": "note_midi"}]}', "not a JAMS file"),
        ('{"annotations": [{"namespace": "note_midi", "data": [{"time": 0}]}]}', "not a JAMS file"),
        ('{"annotations": [{"namespace": "note_midi", "data": {"time": [0], "duration": [], "value": [1]}}]}', "JAMS"),
        ('{"annotations": [{"namespace": "note_midi", "data": [{"time": null, "duration": 1, "value": 6}]}]}', "JAMS"),
        ('{"annotations": [{"namespace": "note_midi", "data": [{"time": 0, "duration": 0, "value": 6}]}]}', "note 1"),
        ('{"annotations": [{"namespace": "beat", "data": []}]}', "no annotation with the namespace note_midi"),
        ('{"annotations": [{"namespace": "note_midi", "data": []}]}', "no notes"),
    ],
)
def test_bad_jams(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.jams").write_text(text)
    with pytest.raises(TranscribeError, match=reason):
        scoring.load_reference(tmp_path / "a.jams")


def test_bad_midi(tmp_path: Path) -> None:
    sound = write(tmp_path / "a.mid").read_bytes()
    for content in (
        b"",
        b"MThd",
        b"RIFF" + bytes(50),
        sound[:60],
        sound.replace(b"\xff\x51\x03", b"\xff\x59\x02\x62", 1),
    ):
        (tmp_path / "a.mid").write_bytes(content)
        with pytest.raises(TranscribeError, match=r"a\.mid: "):
            scoring.load_notes(tmp_path / "a.mid")
    with pytest.raises(TranscribeError, match="No such file"):
        scoring.load_notes(tmp_path / "gone.mid")


def test_find(tmp_path: Path) -> None:
    for name in ("one/a.wav", "one/a.mid", "one/a.csv", "two/deep/b.FLAC", "two/deep/b.csv", "c.mp3", "c.mid"):
        write(tmp_path / name)
    for name in ("one/bare.wav", "one/orphan.csv", ".hidden/d.wav", ".hidden/d.csv", "two/.e.csv", "est/f.csv"):
        write(tmp_path / name)
    (tmp_path / "one" / "table.csv").write_text("system,set\n")
    (tmp_path / "one" / "circle").symlink_to(tmp_path, target_is_directory=True)
    found = scoring.find(tmp_path, leave_out=tmp_path / "est")
    assert [(r.set_name, r.name, r.audio.name, r.reference.name) for r in found.recordings] == [
        (".", "c", "c.mp3", "c.mid"),
        ("one", "a", "a.wav", "a.csv"),
        ("two", "deep/b", "b.FLAC", "b.csv"),
    ]
    assert [(Path(path).name, reason.split(";")[0]) for path, reason in found.failures] == [
        ("orphan.csv", "no recording of this name beside it")
    ]
    assert [Path(path).name for path, _ in found.remarks] == ["table.csv", tmp_path.name]
    assert [r.name for r in scoring.find(tmp_path, ["two"]).recordings] == ["deep/b"]


def test_of_several_recordings_a_lossless_one_counts(tmp_path: Path) -> None:
    for name in ("a.mp3", "a.wav", "a.jams", "b.mp3", "b.aac", "b.csv"):
        write(tmp_path / name)
    found = scoring.find(tmp_path)
    assert [r.audio.name for r in found.recordings] == ["a.wav", "b.aac"]
    assert [(Path(path).name, text) for path, text in found.remarks] == [
        ("a.mp3", "left out, a.wav has the same reference"),
        ("b.mp3", "left out, b.aac has the same reference"),
    ]


def forms(text: str) -> tuple[str, str]:
    return unicodedata.normalize("NFD", text), unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("order", [1, -1])
def test_unicode_forms_of_names_do_not_count(tmp_path: Path, order: int) -> None:
    audio, notes = forms("Öé")[::order]
    write(tmp_path / "ref" / audio / f"{audio}.flac")
    write(tmp_path / "ref" / audio / f"{notes}.csv")
    found = scoring.find(tmp_path / "ref")
    assert (found.failures, found.remarks) == ([], [])
    (recording,) = found.recordings
    assert (recording.set_name, forms(recording.name)[1]) == (audio, "Öé")
    for i, name in enumerate((notes, audio)):
        path = write(tmp_path / f"est{i}" / notes / f"{name}.mid")
        assert evaluate.given_estimate(recording, tmp_path / f"est{i}").samefile(path)


def test_files_whose_names_differ_by_unicode_form_only_are_told_apart(tmp_path: Path) -> None:
    for form in forms("é"):
        write(tmp_path / f"{form}.wav")
        write(tmp_path / f"{form}.csv")
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("this disk takes them for the same")
    found = scoring.find(tmp_path)
    assert [(r.audio, r.reference) for r in found.recordings] == [
        (tmp_path / f"{form}.wav", tmp_path / f"{form}.csv") for form in forms("é")
    ]


def test_references_alone(tmp_path: Path) -> None:
    names = "one/a.wav", "one/a.csv", "one/a.mid", "one/b.jams", "one/c.csv", "one/c.mid", "d.mid", "bare.wav"
    for name in names:
        write(tmp_path / name)
    jams(tmp_path / "one" / "b.jams", note_midi=[observation(0, 1, 60)])
    own(tmp_path / "one" / "e.mid")
    (tmp_path / "table.csv").write_text("system,set\n")
    found = scoring.find(tmp_path, audio_needed=False)
    assert [(r.set_name, r.name, r.audio and r.audio.name, r.reference.name) for r in found.recordings] == [
        (".", "d", None, "d.mid"),
        ("one", "a", "a.wav", "a.csv"),
        ("one", "b", None, "b.jams"),
        ("one", "c", None, "c.csv"),
    ]
    assert found.failures == []
    assert [(Path(path).name, text.partition(",")[0]) for path, text in found.remarks] == [
        ("e.mid", "a transcription of basic-transcribe"),
        ("table.csv", "neither a reference nor a recording"),
        (tmp_path.name, "recordings without a reference"),
    ]


def own(path: Path) -> Path:
    """What the command line writes of a recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    transcription = fake_transcription(TrackerSettings())
    if path.suffix == ".csv":
        path.write_text(notes_to_csv(transcription.notes))
    elif path.suffix == ".jams":
        path.write_text(notes_to_jams(transcription))
    else:
        path.write_bytes(to_midi(transcription.notes, fingerprint="1 input=x settings=y").data)
    return path


@pytest.mark.parametrize(
    ("suffix", "mark", "correct"),
    [
        (".csv", "column confidence", (b",confidence", b",sure")),
        (
            ".jams",
            "annotation_tools",
            (b'"annotation_tools": "basic_transcribe, model fake 1"', b'"annotation_tools": ""'),
        ),
        (".mid", "text event basic_transcribe", (b"basic_transcribe:", b"basic-transcribe:")),
    ],
)
def test_transcriptions_are_no_references(tmp_path: Path, suffix: str, mark: str, correct: tuple[bytes, bytes]) -> None:
    audio, path = write(tmp_path / "ref" / "a.wav"), own(tmp_path / "ref" / f"a{suffix}")
    own(tmp_path / "ref" / f"gone{suffix}")  # its recording is
    found = scoring.find(tmp_path / "ref")
    assert (found.recordings, found.failures) == ([], [])
    assert [path for path, _ in found.remarks] == [str(audio), str(tmp_path / "ref" / f"gone{suffix}")]
    assert f"({path.name}) is beside it" in found.remarks[0][1]
    assert found.remarks[0][1].endswith(f"remove its {mark}")
    with pytest.raises(TranscribeError, match=r"ref: no recordings with references; .*a\.wav: only a transcription of"):
        scoring.recordings(tmp_path / "ref")
    content = path.read_bytes()
    assert content.count(correct[0]) >= 1
    path.write_bytes(content.replace(*correct))
    assert [r.reference for r in scoring.find(tmp_path / "ref").recordings] == [path]


def test_references_beside_transcriptions_count(tmp_path: Path) -> None:
    for name in ("a.wav", "a.mid"):
        write(tmp_path / name)
    own(tmp_path / "a.csv")
    found = scoring.find(tmp_path)
    assert [r.reference.name for r in found.recordings] == ["a.mid"]
    assert found.remarks == []


def test_estimates_may_have_any_case_and_notes_of_no_length(tmp_path: Path, mir_eval: None) -> None:
    recording = scoring.Recording("set", "a", tmp_path / "a.wav", write(tmp_path / "a.mid"))
    folder = tmp_path / "est" / "set"
    write(folder / "b.mid").rename(folder / "a.MID")
    assert evaluate.given_estimate(recording, tmp_path / "est").samefile(folder / "a.MID")
    (folder / "a.csv").write_text(HEADER + "0,0,60\n0.5,0.9,61\n")
    assert evaluate.score(recording, folder / "a.csv").values["P"] == 1
    (folder / "a.csv").write_text(HEADER + "1,0.5,60\n")
    with pytest.raises(TranscribeError, match=r"line 2: from 1 to 0\.5 s"):
        evaluate.score(recording, folder / "a.csv")


def test_given_estimates(tmp_path: Path) -> None:
    recording = scoring.Recording(
        "set", "x/a.b", tmp_path / "a.b.wav", write(tmp_path / "est" / "set" / "x" / "a.b.mid")
    )
    with pytest.raises(TranscribeError, match="the reference itself"):
        evaluate.given_estimate(recording, tmp_path / "est")
    recording.reference.rename(tmp_path / "a.b.mid")
    recording = scoring.Recording("set", "x/a.b", recording.audio, tmp_path / "a.b.mid")
    with pytest.raises(TranscribeError, match=r"no estimate .*x/a\.b\.mid nor \.midi nor \.csv"):
        evaluate.given_estimate(recording, tmp_path / "est")
    path = write(tmp_path / "est" / "set" / "x" / "a.b.csv")
    assert evaluate.given_estimate(recording, tmp_path / "est") == path


def test_estimates_may_have_the_name_that_batch_gives_one_of_several(tmp_path: Path) -> None:
    for name in ("ref/x.y/a.b.FLAC", "ref/x.y/a.b.wav", "ref/x.y/a.b.csv"):
        write(tmp_path / name)
    (recording,) = scoring.find(tmp_path / "ref").recordings
    planned = plan([str(tmp_path / "ref")], tmp_path / "est")
    paths = [write(job.output(".mid")) for job in planned.jobs]
    assert evaluate.given_estimate(recording, tmp_path / "est") == paths[0]
    exact = write(tmp_path / "est" / "x.y" / "a.b.csv")
    assert evaluate.given_estimate(recording, tmp_path / "est") == exact


# -------------------------------------------------------------------------------------------------------------- scores


def test_identical_notes_score_one(tmp_path: Path, mir_eval: None) -> None:
    recording = scoring.Recording("set", "a", tmp_path / "a.wav", write(tmp_path / "a.mid"))
    score = evaluate.score(recording, write(tmp_path / "estimates" / "a.mid"))
    assert score.values == pytest.approx(dict.fromkeys(scoring.SCORES, 1.0) | {"onset_ms": 0, "onset_sd_ms": 0})
    assert (score.n_ref, score.n_est) == (len(NOTES), len(NOTES))


@pytest.mark.parametrize(
    ("changes", "f50", "f100", "foff", "onset_ms"),
    [
        ({"shift": 0.04}, 1, 1, 1, 40),
        ({"shift": 0.09}, 0, 1, 0, 90),
        ({"transpose": 12}, 0, 0, 0, math.nan),
        ({"notes": NOTES[:4]}, 2 / 3, 2 / 3, 2 / 3, 0),
        ({"notes": ()}, 0, 0, 0, math.nan),
    ],
)
def test_known_scores(
    tmp_path: Path, mir_eval: None, changes: dict[str, float], f50: float, f100: float, foff: float, onset_ms: float
) -> None:
    values = scored(tmp_path, "a", **changes).values
    assert [values[k] for k in ("F50", "F100", "Foff", "Fbend")] == pytest.approx([f50, f100, foff, f50])
    assert values["onset_ms"] == pytest.approx(onset_ms, abs=1, nan_ok=True)
    assert math.isnan(values["rvel"])  # the reference has no velocities


def test_each_set_counts_once_in_the_mean(tmp_path: Path, mir_eval: None) -> None:
    good, late, octave = (
        scored(tmp_path, "good"),
        scored(tmp_path, "late", shift=0.09),
        scored(tmp_path, "octave", transpose=12),
    )
    other = evaluate.Score(
        scoring.Recording("other", "x", Path("x.wav"), Path("x.csv")),
        good.values | {"rvel": 0.5, "onset_ms": -10.0},
        np.array([-0.01]),
        1,
        1,
    )
    rows = evaluate.means([good, late, octave, other])
    assert [(row.name, row.count) for row in rows] == [("set", 3), ("other", 1), ("MEAN OF SETS", 4)]
    assert [row.values["F50"] for row in rows] == pytest.approx([1 / 3, 1, 2 / 3])
    assert [row.values["rvel"] for row in rows] == pytest.approx([math.nan, 0.5, 0.5], nan_ok=True)
    assert [row.values["onset_ms"] for row in rows] == pytest.approx([45, -10, 17.5], abs=1)
    assert [row.name for row in evaluate.means([good, late])] == ["MEAN"]


def test_tables_have_a_dash_where_there_is_no_score(tmp_path: Path, mir_eval: None) -> None:
    scores = [scored(tmp_path, "good"), scored(tmp_path, "octave\n", transpose=12)]
    header, first, second = evaluate.recordings_table(scores)
    assert len(header) == len(first) == len(second)
    assert first.split() == "set/good 8 1.000 1.000 1.000 1.000 1.000 1.000 1.000 - - +0 ( 0)".split()
    assert second.split() == [r"set/octave\n", "8", *["0.000"] * 7, "-", "-", "-"]
    assert evaluate.means_table(evaluate.means(scores))[1].split()[:5] == ["MEAN", "2", "0.500", "0.500", "0.500"]


def test_json(tmp_path: Path, mir_eval: None) -> None:
    source = evaluate.setup("net 1", "abc", TrackerSettings(onset_threshold=0.3))
    text = evaluate.to_json([scored(tmp_path, "a")], [("b.wav", "gone")], source=source, reference=tmp_path)
    content = json.loads(text)
    assert (content["format"], content["version"]) == ("basic_transcribe.evaluation", 1)
    assert (content["model"], content["settings"]["onset_threshold"]) == ("net 1", 0.3)
    (row,) = content["recordings"]
    assert (row["set"], row["name"], row["F50"], row["rvel"], row["n_ref"]) == ("set", "a", 1.0, None, 8)
    assert content["sets"]["set"]["F50"] == content["mean"]["F50"] == 1.0
    assert content["failures"] == [{"path": "b.wav", "reason": "gone"}]
    empty = json.loads(evaluate.to_json([], [], source={"estimates": "x"}, reference=tmp_path))
    assert (empty["estimates"], empty["mean"], empty["recordings"]) == ("x", None, [])


# ------------------------------------------------------------------------------------------------------------- command


def in_process(*arguments: str) -> int:
    """Exit code of the command in the current folder."""
    with pytest.raises(SystemExit) as caught:
        evaluate_app(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``ref/a.wav``, its reference, and an estimate in ``est``."""
    monkeypatch.chdir(tmp_path)
    for name in ("ref/a.wav", "ref/a.csv", "est/a.mid"):
        write(tmp_path / name)
    return tmp_path


def test_estimates_of_another_system(cli: Run, tmp_path: Path, mir_eval: None) -> None:
    for name in ("a", "b"):
        write(tmp_path / "ref" / name / "x.wav")
        write(tmp_path / "ref" / name / "x.csv")
    write(tmp_path / "est" / "a" / "x.mid", shift=0.02)
    write(tmp_path / "est" / "b" / "x.csv", transpose=12)
    result = cli("evaluate", "ref", "est", "--json", "scores.json")
    assert (result.returncode, result.stderr) == (0, b"")
    lines = [line.split() for line in result.stdout.decode().splitlines()]
    assert [line[0] for line in lines if line] == ["recording", "a/x", "b/x", "set", "a", "b", "MEAN", "2"]
    assert lines[-2][:7] == ["MEAN", "OF", "SETS", "2", "0.500", "0.500", "0.500"]
    assert json.loads((tmp_path / "scores.json").read_text())["mean"]["F50"] == 0.5


def test_estimates_need_no_recordings(here: Path, capsys: pytest.CaptureFixture[str], mir_eval: None) -> None:
    (here / "ref/a.wav").unlink()
    write(here / "ref/set/b.mid")
    write(here / "est/set/b.csv")
    assert in_process("ref", "est") == 0
    assert capsys.readouterr().out.endswith("2 scored, 0 failed\n")
    (here / "est/a.mid").unlink()
    assert in_process("ref", "est") == 1
    out, errors = capsys.readouterr()
    assert out.endswith("1 scored, 1 failed\n")
    assert errors == "error: ref/a.csv: no estimate est/a.mid nor .midi nor .csv; put one there\n"
    assert in_process("ref") == 2  # they are not to be transcribed
    assert "ref: no recordings with references" in capsys.readouterr().err
    (here / "empty").mkdir()
    assert in_process("empty", "est") == 2
    assert "empty: no references in this folder" in capsys.readouterr().err


def test_recordings_are_transcribed(cli: Run, tmp_path: Path, guitar: Path, mir_eval: None) -> None:
    shutil.copy(guitar, tmp_path / "guitar.flac")
    shutil.copy(ROOT / "tests" / "data" / "guitar.notes.csv", tmp_path / "guitar.csv")
    result = cli("evaluate", ".", "--no-per-file", "--json", "scores.json", "--onset-threshold", "0.45")
    assert (result.returncode, result.stderr) == (0, b"")
    heading, header, mean, total = result.stdout.decode().splitlines()
    assert "onset threshold 0.45" in heading
    assert (header.split()[0], mean.split()[0], total) == ("set", "MEAN", "1 scored, 0 failed")
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["mean"]["F50"] > 0.5
    assert content["settings"]["onset_threshold"] == 0.45
    assert {p.name for p in tmp_path.iterdir()} == {"guitar.flac", "guitar.csv", "scores.json"}


@pytest.mark.parametrize("given", [True, False])
def test_1_a_recording_fails_and_the_others_are_scored(
    cli: Run, tmp_path: Path, guitar: Path, mir_eval: None, given: bool
) -> None:
    shutil.copy(guitar, tmp_path / "good.flac")
    shutil.copy(ROOT / "tests" / "data" / "guitar.notes.csv", tmp_path / "good.csv")
    write(tmp_path / "lonely.csv")
    for name in ("unreadable", "empty"):  # a reference that is none, a recording that is none
        shutil.copy(guitar, tmp_path / f"{name}.flac")
        write(tmp_path / f"{name}.csv")
    (tmp_path / "unreadable.csv").write_text(HEADER + "0,1,x\n")
    (tmp_path / "empty.flac").write_bytes(b"")
    if given:
        write(tmp_path / "est" / "good.mid")
        write(tmp_path / "est" / "unreadable.mid")
    result = cli("evaluate", ".", *(["est"] if given else []), "--json", "scores.json", "--jobs", "1")
    assert result.returncode == 1
    errors = sorted(result.stderr.decode().splitlines())
    assert [e.split(":")[:2] for e in errors] == [
        ["error", f" {name}"] for name in ("empty.flac", "lonely.csv", "unreadable.flac")
    ]
    assert ("no estimate" if given else "empty") in errors[0]
    assert "unreadable.csv: line 2: midi_pitch is 'x'" in errors[2]
    assert result.stdout.endswith(b"1 scored, 3 failed\n")
    content = json.loads((tmp_path / "scores.json").read_text())
    assert sorted(f["path"] for f in content["failures"]) == ["empty.flac", "lonely.csv", "unreadable.flac"]
    assert [r["name"] for r in content["recordings"]] == ["good"]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ([], 2, "REF_DIR"),
        (["gone"], 2, "gone"),
        (["empty"], 2, "no recordings with references"),
        (["ref", "est", "--model", "m.onnx"], 2, "EST_DIR is scored as it is"),
        (["ref", "est", "--onset-threshold", "0.4"], 2, "EST_DIR is scored as it is"),
        (["ref", "--onset-threshold", "1.5"], 2, "onset_threshold is 1.5"),
        (["ref", "--model", "m.onnx"], 3, "m.onnx"),
        (["ref", "est", "--json", "gone/scores.json"], 4, "no such folder"),
        (["ref", "est", "--json", "empty"], 4, "a folder has this name"),
        (["ref", "est", "--json", "ref/a.csv"], 4, "ref/a.csv: would replace a file of another kind"),
    ],
)
def test_other_exit_codes(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    mir_eval: None,
    arguments: list[str],
    code: int,
    reason: str,
) -> None:
    (here / "empty").mkdir()
    before = (here / "ref/a.csv").read_bytes()
    assert in_process(*arguments) == code
    out, shown = capsys.readouterr()
    assert reason in shown
    assert "Traceback" not in shown
    assert "scored" not in out  # it is said before the work
    assert (here / "ref/a.csv").read_bytes() == before


def test_scores_of_an_earlier_run_are_replaced(here: Path, mir_eval: None) -> None:
    assert [in_process("ref", "est", "--json", "scores.json") for _ in range(2)] == [0, 0]
    assert (here / "scores.json").read_bytes().startswith(evaluate.JSON_BEGINNING)


def test_without_mir_eval(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mir_eval", None)
    assert in_process("ref", "est") == 2
    assert capsys.readouterr() == ("", 'error: scoring needs mir_eval: pip install "basic-transcribe[evaluate]"\n')


def test_quiet_says_failures_only(here: Path, capsys: pytest.CaptureFixture[str], mir_eval: None) -> None:
    for name in ("ref/bare.wav", "ref/b.wav", "ref/b.csv"):
        write(here / name)
    assert in_process("ref", "est", "--quiet") == 1
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("error: ref/b.wav: no estimate")
    assert errors.count("\n") == 1
