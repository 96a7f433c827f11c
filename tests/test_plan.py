"""What is found, what its outputs are called, and what cannot be written."""

from __future__ import annotations

import json
import ntpath
import os
import socket
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_transcribe import plan
from basic_transcribe.errors import OutputError, UsageError
from basic_transcribe.manifest import Entries, Entry
from basic_transcribe.plan import Choice, Job, Plan


def make(folder: Path, *names: str, content: str = "music") -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content} {path}")
    return paths


def planned(*inputs: Path | str, output: Path | None = None, **keywords: object) -> Plan:
    return plan.plan([str(i) for i in inputs], output, **keywords)  # type: ignore[arg-type]


def outputs(planned: Plan, base: Path) -> dict[str, str]:
    """Sources to MIDI files, both below ``base``."""
    return {str(j.source.relative_to(base)): str(j.output(".mid").relative_to(base)) for j in planned.jobs}


def job(path: Path) -> Job:
    path.write_text("music")
    return Job(path, path.parent, path.stem, str(path))


# -------------------------------------------------------------------------------------------------------------- search


def test_outputs_lie_beside_their_recordings(tmp_path: Path) -> None:
    make(tmp_path, "x/a.wav", "x/deep/b.MP3", "c.flac", "x/readme.txt")
    found = planned(tmp_path / "x", tmp_path / "c.flac")
    assert outputs(found, tmp_path) == {"x/a.wav": "x/a.mid", "x/deep/b.MP3": "x/deep/b.mid", "c.flac": "c.mid"}
    assert not found.failures
    assert not found.remarks


def test_a_reason_has_no_paths_of_outputs() -> None:
    message = "is a.mid a.mid.mid or x/a.sonified.wav? give another"
    assert Job(Path("a.wav"), Path("x"), "a", "").reason(message) == message.replace("x/a.", "NAME.")
    assert Job(Path("a.wav"), Path(), "a", "").reason("a.mid exists; a name") == "NAME.mid exists; a name"


@pytest.mark.parametrize("extension", [".mp2", ".mpa", ".mts", ".3g2"])
def test_more_kinds_of_recordings_are_found(tmp_path: Path, extension: str) -> None:
    make(tmp_path, f"a{extension}")
    assert len(planned(tmp_path).jobs) == 1


def test_files_of_other_kinds_are_counted_in_one_remark(tmp_path: Path) -> None:
    beside = ("a.csv", "a.jams", "a.MID", "b.midi", "a.png", "list.jsonl", "page.html", "a.sonified.wav", ".x.jpg")
    make(tmp_path, "x/a.wav", "x/1.jpg", "x/2.JPG", "x/label", "y/b.wav", "y/3.pdf", *(f"x/{name}" for name in beside))
    found = planned(tmp_path / "x", tmp_path / "y", tmp_path / "x" / "1.jpg")
    assert found.remarks == (("left alone", "4 files of other kinds (.jpg 2, without extension 1, .pdf 1)"),)
    make(tmp_path, *(f"z/a.x{i}" for i in range(12)), "z/a.wav")
    ((_, text),) = planned(tmp_path / "z").remarks
    assert text.startswith("12 files of other kinds (.x")
    assert text.endswith(" 1, ...)")
    assert text.count(".x") == 10


def test_what_this_program_makes_heard_is_no_recording(tmp_path: Path) -> None:
    files = make(tmp_path, "a.wav", "a.sonified.wav", "a.sonified-mix.wav", "sub/b.sonified.wav", "sonified.wav")
    expected = {"a.wav": "out/a.mid", "sonified.wav": "out/sonified.mid"}
    assert outputs(planned(tmp_path, output=tmp_path / "out"), tmp_path) == expected
    later = plan.plan_files([(tmp_path, path) for path in files], tmp_path / "out", entries=Entries())
    assert outputs(later, tmp_path) == expected
    assert len(planned(*files, output=tmp_path / "out").jobs) == len(files)  # unless it is asked for


def test_the_tree_of_a_folder_is_mirrored(tmp_path: Path) -> None:
    make(tmp_path, "in/a.wav", "in/one/a.wav", "in/two/a.wav")
    found = planned(tmp_path / "in", output=tmp_path / "out")
    assert outputs(found, tmp_path) == {
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
    found = planned(tmp_path)
    names = [str(j.output(".mid")).casefold() for j in found.jobs]
    assert len(set(names)) == len(names) == len(list(tmp_path.iterdir()))


def test_names_that_differ_by_unicode_form_differ_by_more(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    make(tmp_path, f"{forms[0]}.wav", f"{forms[1]}.mp3")
    names = [unicodedata.normalize("NFC", job.output(".mid").name) for job in planned(tmp_path).jobs]
    assert sorted(names) == ["é.mp3.mid", "é.wav.mid"]


def test_one_name_in_several_folders_goes_below_their_names(tmp_path: Path) -> None:
    paths = make(tmp_path, "one/mix/a.wav", "two/mix/a.wav", "b.wav")
    found = planned(*paths, output=tmp_path / "out")
    assert outputs(found, tmp_path) == {
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
    (path,) = make(tmp_path, "x/a.wav")
    (tmp_path / "link").symlink_to("x")
    others = [
        path,
        tmp_path / "x",
        tmp_path / "link" / "a.wav",
        tmp_path / "x" / ".." / "x" / "a.wav",
        tmp_path / "link",
    ]
    found = planned(path, *others)
    assert [j.source for j in found.jobs] == [path]
    assert [text for _, text in found.remarks] == [
        *[f"the same as {path}, done once"] * 4,
        f"the same as {tmp_path / 'x'}, done once",
    ]


@pytest.mark.parametrize("other", ["A.WAV", unicodedata.normalize("NFD", "ä.wav")])
def test_a_name_that_the_disk_takes_for_the_same_is_done_once(tmp_path: Path, other: str) -> None:
    """A link stands in for a disk to which letter case or Unicode form mean nothing."""
    (path,) = make(tmp_path, unicodedata.normalize("NFC", other).lower())
    if not (tmp_path / other).exists():
        os.link(path, tmp_path / other)
    assert [j.source for j in planned(path, tmp_path / other).jobs] == [path]


@pytest.mark.parametrize("link", [os.link, lambda old, new: new.symlink_to(old)])
def test_links_to_a_recording_are_done_once(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    (path,) = make(tmp_path, "in/a.flac")
    for name in ("in/b.flac", "z.flac"):
        link(path, tmp_path / name)
    found = planned(tmp_path / "in", tmp_path / "z.flac")
    assert [j.source for j in found.jobs] == [path]
    assert [(Path(label).name, text) for label, text in found.remarks] == [
        ("b.flac", f"the same as {path}, done once"),
        ("z.flac", f"the same as {path}, done once"),
    ]


@pytest.mark.parametrize("link", [os.link, lambda old, new: new.symlink_to(old)])
def test_a_list_may_give_links_to_a_recording_outputs(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    (path,) = make(tmp_path, "train/a.flac")
    for name in ("test/a.flac", "test/b.flac", "none.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        link(path, tmp_path / name)
    names = ("train/a", "test/a", "test/b")
    items = [{"input": f"{name}.flac", "output": f"{name}.mid"} for name in names]
    list_path = listed(tmp_path, *items, {"input": "none.flac"}, items[0])
    expected = {f"{name}.flac": f"out/{name}.mid" for name in names}
    out = tmp_path / "out"
    found = planned(list_path, output=out, entries=Entries())
    assert outputs(found, tmp_path) == expected
    assert [Path(label).name for label, _ in found.remarks] == ["none.flac"]
    # One after the other, too: what is known of one is not of another, though they have one name.
    known = [entry(job.source, job.output(".mid").relative_to(out).as_posix()) for job in found.jobs]
    for i in range(len(known) + 1):
        later = planned(list_path, output=out, entries=Entries(known[:i]))
        assert outputs(later, tmp_path) == expected
        assert [job.known for job in later.jobs] == [*known[:i], *[None] * (len(known) - i)]


class Unnumbered:
    """What the system says of a file on a disk that numbers none."""

    st_ino = 0

    def __init__(self, status: os.stat_result) -> None:
        self._status = status

    def __getattr__(self, name: str) -> object:
        return getattr(self._status, name)


def test_files_without_numbers_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **keywords: Unnumbered(status(path, **keywords)))
    make(tmp_path, "in/a.wav", "in/b.wav", "in/sub/c.wav")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    found = planned(tmp_path / "in", tmp_path / "link", tmp_path / "link/a.wav", output=tmp_path / "out")
    assert [job.source.name for job in found.jobs] == ["a.wav", "b.wav", "c.wav"]
    assert [(Path(label).name, text) for label, text in found.remarks] == [
        ("link", f"the same as {tmp_path / 'in'}, done once"),
        ("a.wav", f"the same as {tmp_path / 'in/a.wav'}, done once"),
    ]
    (song,) = make(tmp_path, "song.mid")
    with pytest.raises(UsageError, match="replace an input"):
        planned(song)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    make(tmp_path, "x/a.wav")
    (tmp_path / "x" / "back").symlink_to(tmp_path)
    (tmp_path / "x" / "self").symlink_to(tmp_path / "x" / "self")
    (tmp_path / "x" / "gone.wav").symlink_to(tmp_path / "nothing")
    found = planned(tmp_path)
    assert [j.source.name for j in found.jobs] == ["a.wav"]
    assert (str(tmp_path / "x" / "back"), f"the same as {tmp_path}, done once") in found.remarks
    assert "x/gone.wav: No such file or directory, skipped" in [
        f"{Path(label).relative_to(tmp_path)}: {text}" for label, text in found.remarks
    ]


def test_special_files_are_skipped_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    make(tmp_path, "a.wav")
    os.mkfifo("pipe.wav")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("door")
        found = planned(tmp_path)
    assert [j.source.name for j in found.jobs] == ["a.wav"]
    assert [(Path(label).name, text) for label, text in found.remarks] == [
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
    found = planned(tmp_path / "empty", tmp_path / "full")
    assert len(found.jobs) == 1
    assert [(f.label, f.exit_code) for f in found.failures] == [(str(tmp_path / "empty"), 2)]


def test_a_mistyped_path_fails_and_the_others_go_on(tmp_path: Path) -> None:
    (path,) = make(tmp_path, "a.wav")
    found = planned(tmp_path / "b.wav", path, path / "c.wav")
    assert len(found.jobs) == 1
    assert [f.exit_code for f in found.failures] == [1, 1]
    assert "No such file" in found.failures[0].message


def test_outputs_that_are_there_already_are_no_inputs(tmp_path: Path) -> None:
    path, _ = make(tmp_path, "a.wav", "a.mid")
    assert [job.source for job in planned(path).jobs] == [path]


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
    found = planned("-", "-", output=tmp_path)
    assert [j.output(".mid") for j in found.jobs] == [tmp_path / "stdin.mid"]


def test_names_with_dots_stay_in_their_folder(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("..wav", "v1.2.wav", "...wav")]
    make(tmp_path, *(path.name for path in paths))
    found = planned(*paths, output=tmp_path / "out")
    # From Python 3.14 on, dots alone are no stem.
    assert {j.output(".mid").name for j in found.jobs} == {path.stem + ".mid" for path in paths}
    assert {j.output(".mid").parent for j in found.jobs} == {tmp_path / "out"}


def test_outputs_that_cannot_be_written_are_found_first(tmp_path: Path) -> None:
    good = job(tmp_path / "good.wav")
    taken = job(tmp_path / "taken.wav")
    (tmp_path / "taken.csv").mkdir()
    below_file = Job(good.source, good.source / "below", "good", "below.wav")
    long = Job(good.source, tmp_path, "é" * 126, "long.wav")
    writable, failures = plan.check_outputs([good, taken, below_file, long], (".mid", ".csv"))
    assert writable == [good]
    assert [Path(f.label).name for f in failures] == ["taken.wav", "below.wav", "long.wav"]
    assert {f.exit_code for f in failures} == {4}
    assert "256 bytes" in failures[2].message
    with pytest.raises(OutputError):
        plan.check_folder(good.source)


def test_an_output_may_not_be_the_folder_of_others(tmp_path: Path) -> None:
    first = job(tmp_path / "a.wav")
    below = Job(first.source, tmp_path / "a.mid", "b", "b.wav")
    writable, (failure,) = plan.check_outputs([first, below], (".mid",))
    assert writable == [below]
    assert (failure.label, failure.exit_code) == (first.label, 4)
    assert "is a folder; move it" in failure.message


def test_on_windows_names_may_have_255_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pathconf", raising=False)
    source = tmp_path / "a.wav"
    jobs = [Job(source, tmp_path, name, name) for name in ("日" * 251, "日" * 252, "\N{GRINNING FACE}" * 126)]
    writable, failures = plan.check_outputs(jobs, [".mid"])
    assert writable == jobs[:1]
    assert ["256 characters, 255 are allowed" in failure.message for failure in failures] == [True, True]


def test_a_folder_without_permission_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(**_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)  # the tests may run as root, whom nothing is forbidden
    _, (failure,) = plan.check_outputs([job(tmp_path / "a.wav")], [".mid"])
    assert failure.exit_code == 4
    assert failure.message.startswith(f"cannot write to {tmp_path}: Permission denied; ")


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    plan.check_folder(tmp_path / "a" / "b")
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "b"]


def test_a_dry_look_at_the_outputs_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = job(tmp_path / "good.wav")
    there, below_file = (Job(good.source, p, "a", str(p)) for p in (tmp_path / "new" / "one", good.source / "below"))
    before = sorted(tmp_path.rglob("*"))
    writable, failures = plan.check_outputs([good, there, below_file], [".mid"], make=False)
    assert writable == [good, there]
    assert [(f.label, f.exit_code) for f in failures] == [(below_file.label, 4)]
    monkeypatch.setattr(os, "access", lambda _path, mode: not mode & os.W_OK)  # the tests may run as root
    with pytest.raises(OutputError, match="Permission denied"):
        plan.check_folder(tmp_path / "new", make=False)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_about_many_replaces_only_its_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (old, song, empty) = (tmp_path / name for name in ("old.html", "song.flac", "empty"))
    old.write_bytes(b"<page> of yesterday")
    song.write_bytes(b"fLaC")
    empty.touch()
    for path in (tmp_path / "new.html", old):
        plan.check_file(path, b"<page>")
    os.mkfifo(tmp_path / "pipe")
    refused = {
        song: "would replace a file of another kind; choose",
        empty: "would replace a file of another kind; choose",
        tmp_path: "a folder has this name; choose",
        tmp_path / "pipe": "it is not a regular file; choose",
        tmp_path / "nowhere" / "new.html": "no such folder; create it",
        song / "new.html": "no such folder; create it",
    }
    for path, reason in refused.items():
        with pytest.raises(OutputError) as caught:
            plan.check_file(path, b"<page>")
        assert str(caught.value).startswith(f"{path}: ")
        assert reason in str(caught.value)

    def forbidden(**_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)  # the tests may run as root, whom nothing is forbidden
    with pytest.raises(OutputError, match=r"new\.html: cannot write to .*: Permission denied; choose"):
        plan.check_file(tmp_path / "new.html", b"<page>")


# -------------------------------------------------------------------------------------------------------------- choice


@pytest.mark.parametrize(
    ("include", "exclude", "left"),
    [
        ((), (), {"a.wav", "x/b.wav", "x/y/c.flac"}),
        (("*.wav",), (), {"a.wav", "x/b.wav"}),
        (("x/*",), ("*/y/*",), {"x/b.wav"}),
        (("a.*", "*.flac"), (), {"a.wav", "x/y/c.flac"}),
        ((), ("x/*",), {"a.wav"}),
        (("[ab].wav",), (), {"a.wav"}),
    ],
)
def test_globs_match_the_path_below_the_folder(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], left: set[str]
) -> None:
    make(tmp_path, "a.wav", "x/b.wav", "x/y/c.flac")
    found = planned(tmp_path, choice=Choice(include, exclude))
    assert set(outputs(found, tmp_path)) == left
    assert [text for _, text in found.remarks] == (
        [f"{3 - len(left)} of 3 recordings left out by --include and --exclude"] if len(left) < 3 else []
    )


def test_globs_that_match_nothing_are_said(tmp_path: Path) -> None:
    """As with quotes that a shell passes on."""
    make(tmp_path, "a.wav", "drums/b.wav")
    given = Choice(("*.wav", "*.mp3"), ("'drums/*'", "drums/b.wav"))
    found = planned(tmp_path, choice=given)
    assert set(outputs(found, tmp_path)) == {"a.wav"}
    assert [remark for remark in found.remarks if remark[1] == "matches no recording"] == [
        ("--include *.mp3", "matches no recording"),
        ("--exclude 'drums/*'", "matches no recording"),
    ]


def test_globs_may_have_backslashes_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Choice(("x\\*",))
    monkeypatch.setattr(os, "sep", "/")
    assert not given.matches("x/a.wav")
    monkeypatch.setattr(os, "sep", "\\")
    assert given.matches("x/a.wav")


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_unicode_forms_of_paths_do_not_count(forms: tuple[str, str]) -> None:
    path, glob = (unicodedata.normalize(form, "Café/Ä.wav") for form in forms)
    assert Choice((glob.replace("Ä", "?"), "x")).matches(path)
    assert not Choice((), (glob,)).matches(path)
    assert [i for i in range(1, 100) if Choice(shard=(i, 99)).in_shard(path)] == [
        i for i in range(1, 100) if Choice(shard=(i, 99)).in_shard(glob)
    ]


def test_a_folder_of_which_nothing_is_left_is_a_usage_error(tmp_path: Path) -> None:
    make(tmp_path, "a.wav")
    (failure,) = planned(tmp_path, choice=Choice(("b*",))).failures
    assert failure.exit_code == 2
    assert "--include" in failure.message


@settings(deadline=None)
@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)), st.integers(1, 9))
def test_each_recording_is_in_one_shard_whatever_the_others_are(paths: set[str], n: int) -> None:
    shards = [Choice(shard=(i, n)) for i in range(1, n + 1)]
    assert all(sum(shard.in_shard(path) for shard in shards) == 1 for path in paths)
    assert Choice(shard=(1, 1)).in_shard("anything")


def test_shards_are_those_of_every_machine_and_version() -> None:
    paths = ("a.wav", "b/c.flac", "d.mp3", "é.wav", "e/f/g.ogg")
    assert [path for path in paths if Choice(shard=(1, 2)).in_shard(path)] == ["a.wav", "é.wav"]


def test_shards_share_names_and_work(tmp_path: Path) -> None:
    make(tmp_path, *(f"{folder}/{i}.{kind}" for folder in "ab" for i in range(8) for kind in ("wav", "mp3")))
    whole = outputs(planned(tmp_path, output=tmp_path / "out"), tmp_path)
    parts = [
        outputs(planned(tmp_path, output=tmp_path / "out", choice=Choice(shard=(i, 3))), tmp_path) for i in (1, 2, 3)
    ]
    assert {k: v for part in parts for k, v in part.items()} == whole
    assert sum(map(len, parts)) == len(whole)
    assert all(parts)


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_shards_that_there_are_not(shard: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="shard is"):
        Choice(shard=shard)


# ------------------------------------------------------------------------------------------------------------ manifest


def entry(source: Path, output: str) -> Entry:
    return Entry(str(source), output, "done")


def test_recordings_keep_the_outputs_they_have(tmp_path: Path) -> None:
    a, _ = make(tmp_path, "in/a.wav", "in/a.mp3")
    known = entry(a, "a.mid")
    found = planned(tmp_path / "in", output=tmp_path / "out", entries=Entries([known]))
    assert outputs(found, tmp_path) == {"in/a.wav": "out/a.mid", "in/a.mp3": "out/a.mp3.mid"}
    assert {job.source.name: job.known for job in found.jobs} == {"a.wav": known, "a.mp3": None}


def test_a_folder_spelt_otherwise_has_the_same_recordings(tmp_path: Path) -> None:
    a, b, _ = make(tmp_path, "in/a.wav", "in/sub/b.wav", "in/a.mp3")
    (tmp_path / "link").symlink_to("in")
    entries = Entries([entry(a, "a.mid"), entry(b, "b2.mid")])  # names that nobody would choose now
    found = planned(tmp_path / "link", output=tmp_path / "out", entries=entries)
    assert outputs(found, tmp_path) == {
        "link/a.wav": "out/a.mid",
        "link/sub/b.wav": "out/b2.mid",
        "link/a.mp3": "out/a.mp3.mid",
    }
    known = {str(job.source.relative_to(tmp_path)): job.known for job in found.jobs}
    assert known == {
        "link/a.wav": entry(tmp_path / "link/a.wav", "a.mid"),  # so that it need not be read to be up to date
        "link/sub/b.wav": entry(tmp_path / "link/sub/b.wav", "b2.mid"),
        "link/a.mp3": None,
    }


def test_other_recordings_of_the_same_name_get_other_outputs(tmp_path: Path) -> None:
    a, _ = make(tmp_path, "in/a.wav", "other/a.wav")
    found = planned(tmp_path / "other", output=tmp_path / "out", entries=Entries([entry(a, "a.mid")]))
    assert outputs(found, tmp_path) == {"other/a.wav": "out/a.wav.mid"}
    both = Entries([entry(a, "a.mid"), entry(tmp_path / "link/a.wav", "a.wav.mid")])  # as versions before 0.13 did
    (tmp_path / "link").symlink_to("in")
    for folder, output in (("in", "a.mid"), ("link", "a.wav.mid")):
        (job,) = planned(tmp_path / folder, output=tmp_path / "out", entries=both).jobs
        assert job.output(".mid") == tmp_path / "out" / output


def test_outputs_that_differ_by_unicode_form_are_kept_and_not_given_to_others(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    sources = make(tmp_path, f"one/{forms[0]}.wav", f"two/{forms[1]}.wav", f"three/{forms[1]}.mp3")
    entries = Entries([entry(s, f"{form}.mid") for s, form in zip(sources[:2], forms, strict=True)])
    found = planned(*(s.parent for s in sources), output=tmp_path / "out", entries=entries)
    names = [job.output(".mid").name for job in found.jobs]
    assert names == [f"{forms[0]}.mid", f"{forms[1]}.mid", f"{forms[1]}.mp3.mid"]
    sources[1].unlink()  # the other's is not free
    found = planned(sources[2], output=tmp_path / "out", entries=entries)
    assert [job.output(".mid").name for job in found.jobs] == [f"{forms[1]}.mp3.mid"]


def test_an_output_is_free_when_its_recording_is_gone(tmp_path: Path) -> None:
    make(tmp_path, "in/a.mp3")
    gone = entry(tmp_path / "in/a.wav", "a.mid")
    (job,) = planned(tmp_path / "in", output=tmp_path / "out", entries=Entries([gone])).jobs
    assert job.output(".mid") == tmp_path / "out/a.mid"
    assert job.known == gone  # the file there is one of ours


def test_files_that_come_later_take_no_name_of_others(tmp_path: Path) -> None:
    a, b, _ = make(tmp_path, "in/a.wav", "in/sub/a.mp3", "in/.hidden/c.wav")
    (later,) = make(tmp_path, "in/a.flac")
    root = tmp_path / "in"
    files = [(root, path) for path in (later, b, root / "gone.wav", root / ".hidden/c.wav", root)]
    found = plan.plan_files(files, tmp_path / "out", entries=Entries([entry(a, "a.mid")]))
    assert outputs(found, tmp_path) == {"in/a.flac": "out/a.flac.mid", "in/sub/a.mp3": "out/sub/a.mid"}
    assert not found.failures


def listed(folder: Path, *lines: object) -> Path:
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_list_names_recordings_and_their_outputs(tmp_path: Path) -> None:
    a, b = make(tmp_path, "in/a.wav", "b.mp3")
    path = listed(
        tmp_path, {"input": "in/a.wav", "output": "x/y.mid", "more": 1}, {"input": str(b)}, {"input": "c.wav"}
    )
    found = planned(path, output=tmp_path / "out", entries=Entries())
    assert outputs(found, tmp_path) == {"in/a.wav": "out/x/y.mid", "b.mp3": "out/b.mid"}
    assert [(f.label, f.exit_code) for f in found.failures] == [(str(tmp_path / "c.wav"), 1)]
    assert (
        planned(path, output=tmp_path / "out").jobs[0].source == path
    )  # without a manifest it is an input like others
    assert a.exists()


def test_a_folder_has_no_output_of_a_list(tmp_path: Path) -> None:
    make(tmp_path, "in/a.wav", "b.wav", "other/c.wav")
    lines = {"input": "in", "output": "fold.mid"}, {"input": "b.wav", "output": "x.mid"}, {"input": "other"}
    found = planned(listed(tmp_path, *lines), output=tmp_path / "out", entries=Entries())
    assert outputs(found, tmp_path) == {"b.wav": "out/x.mid", "other/c.wav": "out/c.mid"}
    (failure,) = found.failures
    assert (failure.label, failure.exit_code) == (str(tmp_path / "in"), 2)
    assert failure.message == "is a folder, which cannot have the output fold.mid; leave it out"


def test_the_last_line_on_an_input_counts_even_if_it_has_no_place(tmp_path: Path) -> None:
    path = listed(tmp_path, {"input": "gone.wav", "output": "a.mid"}, {"input": "gone.wav", "output": None})
    assert plan.read_list(path, []) == []


def test_of_a_list_globs_and_shards_take_paths_as_it_has_them(tmp_path: Path) -> None:
    names = [f"{folder}{i}/audio.wav" for folder in ("piano", "voice") for i in range(20)]
    make(tmp_path, *names)
    path = listed(tmp_path, *({"input": f"./{name}", "output": f"{i}.mid"} for i, name in enumerate(names)))

    def chosen(choice: Choice) -> set[str]:
        return set(outputs(planned(path, output=tmp_path / "out", entries=Entries(), choice=choice), tmp_path))

    assert chosen(Choice(("piano*/*",), ("*5/*",))) == {n for n in names[:20] if "5/" not in n}
    parts = [chosen(Choice(shard=(i, 3))) for i in (1, 2, 3)]
    assert parts == [{name for name in names if Choice(shard=(i, 3)).in_shard(name)} for i in (1, 2, 3)]
    assert all(parts)


def test_a_list_has_the_last_word_on_names(tmp_path: Path) -> None:
    a, b = make(tmp_path, "a.wav", "b.wav")
    path = listed(tmp_path, {"input": "b.wav", "output": "a.mid"}, {"input": "a.wav"})
    found = planned(path, output=tmp_path / "out", entries=Entries([entry(a, "a.mid"), entry(b, "b.mid")]))
    assert {job.source: job.output(".mid").name for job in found.jobs} == {b: "a.mid", a: "a.wav.mid"}


def test_one_output_for_two_recordings_of_a_list_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "a.wav", "b.wav")
    path = listed(tmp_path, {"input": "a.wav", "output": "X.mid"}, {"input": "b.wav", "output": "x.mid"})
    found = planned(path, output=tmp_path / "out", entries=Entries())
    assert len(found.jobs) == 1
    assert [(Path(f.label).name, f.exit_code) for f in found.failures] == [("b.wav", 2)]


@pytest.mark.parametrize(
    "line", ["no json", [], {"output": "a.mid"}, {"input": 3}, *({"input": "a.wav", "output": o} for o in (1, "a.wav"))]
)
def test_a_list_of_something_else_is_refused(tmp_path: Path, line: object) -> None:
    make(tmp_path, "a.wav")
    with pytest.raises(UsageError, match="line 2: "):
        planned(listed(tmp_path, {"input": "a.wav"}, line), output=tmp_path / "out", entries=Entries())


def test_an_output_that_a_list_takes_back_is_said(tmp_path: Path) -> None:
    (a,) = make(tmp_path, "a.wav")
    path = listed(tmp_path, *({"input": str(a), "output": name} for name in ("x.mid", "x.mid", "y.mid")))
    found = planned(path, output=tmp_path / "out", entries=Entries())
    assert outputs(found, tmp_path) == {"a.wav": "out/y.mid"}
    assert found.remarks == ((str(a), f"x.mid left out: {path}, line 3 gives it the output y.mid"),)


def test_the_last_output_that_a_list_gives_counts_however_the_input_is_written(tmp_path: Path) -> None:
    a, b, c = make(tmp_path, "in/a.wav", "in/b.wav", "in/c.wav")
    (tmp_path / "link").symlink_to("in")
    path = listed(
        tmp_path,
        *({"input": text, "output": "old.mid"} for text in (str(a), "in/c.wav")),
        {"input": str(b)},
        *({"input": text, "output": name} for text, name in (("in/../in/a.wav", "x.mid"), ("link/b.wav", "y.mid"))),
        *({"input": text} for text in (str(a), "in/../in/b.wav")),
        {"input": str(c), "output": None},
        {"input": "a\0/b.wav"},
    )
    found = planned(path, output=tmp_path / "out", entries=Entries())
    made = {job.source.name: job.output(".mid").relative_to(tmp_path).as_posix() for job in found.jobs}
    assert made == {"a.wav": "out/x.mid", "b.wav": "out/y.mid", "c.wav": "out/c.mid"}
    assert len(found.failures) == 1
    assert [text for _, text in found.remarks] == [f"old.mid left out: {path}, line 4 gives it the output x.mid"]


def test_a_manifest_is_a_list_of_what_it_says_last(tmp_path: Path) -> None:
    a, b = make(tmp_path, "a.wav", "b.wav")
    (tmp_path / "folder").mkdir()
    lines = [
        {"input": str(a), "output": "old.mid"},
        {"input": str(b), "output": None},
        {"input": str(tmp_path / "mistyped"), "output": None},
        {"input": str(tmp_path / "folder"), "output": None},
        {"input": str(a), "output": "x/a.mid"},
    ]
    path = listed(tmp_path, *({**line, "status": "done"} for line in lines))
    path.write_text(path.read_text().replace("\n", "\n\n \n"))
    found = planned(path, output=tmp_path / "out", entries=Entries())
    assert outputs(found, tmp_path) == {"a.wav": "out/x/a.mid", "b.wav": "out/b.mid"}
    assert (found.failures, found.remarks) == ((), ())


def test_a_line_of_a_list_without_a_name_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "a.wav")
    with pytest.raises(UsageError, match=r"list\.jsonl, line 2: the input is empty; give "):
        planned(listed(tmp_path, {"input": "a.wav"}, {"input": ""}), output=tmp_path / "out", entries=Entries())


@pytest.mark.parametrize("output", ["../a.mid", "/tmp/a.mid", "x/../../a.mid", "link/a.mid", "link/x/a.mid"])
def test_no_list_writes_outside_the_folder_of_outputs(tmp_path: Path, output: str) -> None:
    make(tmp_path, "a.wav")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    path = listed(tmp_path, {"input": "a.wav", "output": output})
    with pytest.raises(UsageError, match="leads out of"):
        planned(path, output=tmp_path / "out", entries=Entries())
    assert not list(tmp_path.rglob("*.mid"))


def test_no_list_writes_to_another_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.wav")
    path = listed(tmp_path, {"input": "a.wav", "output": "junction/a.mid"})
    with monkeypatch.context() as patched:
        patched.setattr(os.path, "commonpath", ntpath.commonpath)
        patched.setattr(os.path, "realpath", lambda p, **_: "D:\\" if Path(p).name == "junction" else "C:\\out")
        with pytest.raises(UsageError, match="leads out of"):
            planned(path, output=tmp_path / "out", entries=Entries())
