"""The local server: the page's files, the API against the command line, every limit, and clients that mean ill."""

from __future__ import annotations

import base64
import errno
import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import jsonschema
import pytest
from conftest import Run
from fakes import NOTES
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from basic_transcribe import server as http_server
from basic_transcribe import web
from basic_transcribe.api import (
    DESCRIPTION,
    FORMATS,
    HEALTH,
    TRANSCRIBE,
    WARNINGS,
    Answer,
    Limits,
    Problem,
    description,
    settings,
)
from basic_transcribe.cli import app as command_line
from basic_transcribe.errors import AudioError, OutputError, UsageError
from basic_transcribe.model import default_model_path
from basic_transcribe.pipeline import Transcriber, Transcription
from basic_transcribe.server import HEADERS, Asset, FormParserError, Server, _Form, _Handler

ASSETS = {
    "index.html": Asset(b"<!doctype html><title>page</title>", "text/html; charset=utf-8"),
    "parts/runtime.wasm": Asset(gzip.compress(b"\0asm" * 100), "application/wasm", packed=True),
    "model.onnx": Asset(b"a model", "application/octet-stream"),
}
PROBLEM_KEYS = {"type", "title", "status", "detail"}


class Fake:
    """A transcriber that takes as long as a test wants."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(name="fake 1", sha256="0" * 64, defaults={})
        self.release, self.entered, self.left = threading.Event(), threading.Event(), threading.Event()
        self.files: list[BinaryIO] = []
        self.contents: list[bytes] = []
        self.total: float | None = 1.0

    def transcribe(self, source: BinaryIO, *, settings: Any, part: Any, beats: Any, progress: Any) -> Transcription:
        self.files.append(source)
        source.seek(0)
        content = source.read()
        self.contents.append(content)
        try:
            if content.startswith(b"broken"):
                raise AudioError(f"{source.name}: not audio; give a recording")
            if content.startswith(b"bug"):
                raise ZeroDivisionError("division by zero")
            if content.startswith(b"wait"):
                self.entered.set()
                while not self.release.wait(0.01):
                    progress(0.5, self.total)
            progress(1.0, self.total)
            return Transcription(NOTES, 1.0, settings, ("a warning",), self.model.name)
        finally:
            self.left.set()


@contextmanager
def serving(transcriber: Any, limits: Limits | None = None, **keywords: Any) -> Iterator[Server]:
    """A server at work in a thread."""
    server = Server("127.0.0.1", 0, ASSETS, transcriber, limits or Limits(), **{"remark": print, **keywords})
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.stop()


@pytest.fixture
def fake() -> Iterator[Fake]:
    transcriber = Fake()
    yield transcriber
    transcriber.release.set()


@pytest.fixture
def server(fake: Fake) -> Iterator[Server]:
    with serving(fake) as running:
        yield running


@pytest.fixture(scope="module")
def real() -> Iterator[Server]:
    """With the shipped model."""
    with serving(Transcriber(threads=1)) as running:
        yield running


class Reply:
    """An answer, read to its end."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers = response.status, response.headers
        self.content = response.read()

    def json(self) -> Any:
        return json.loads(self.content)

    def problem(self, status: int) -> str:
        """The line of a problem with this status."""
        assert self.status == status, self.content
        assert self.headers["Content-Type"] == "application/problem+json"
        document = self.json()
        assert document.keys() == PROBLEM_KEYS
        assert document["status"] == status
        assert "\n" not in document["detail"]
        return str(document["detail"])


def ask(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=120)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return Reply(connection.getresponse())
    finally:
        connection.close()


def post(server: Server, body: bytes, query: str = "", **headers: str) -> Reply:
    return ask(server, "POST", TRANSCRIBE + query, body, **headers)


@contextmanager
def dialled(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(server.server_address[:2], timeout=120) as connection:
        yield connection


def until(true: Callable[[], object]) -> None:
    """Wait for what happens in another thread."""
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def raw(server: Server, request: bytes) -> bytes:
    """All that the server answers to these bytes until it hangs up."""
    with dialled(server) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def head(server: Server, *lines: str) -> bytes:
    return "\r\n".join([f"POST {TRANSCRIBE} HTTP/1.1", f"Host: {server.url[7:-1]}", *lines, "", ""]).encode()


def form(content: bytes, name: str = "file", filename: str = "guitar.flac") -> tuple[bytes, dict[str, str]]:
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
    body = f"--edge\r\n{disposition}\r\nContent-Type: audio/flac\r\n\r\n".encode() + content + b"\r\n--edge--\r\n"
    return body, {"Content_Type": "multipart/form-data; boundary=edge"}


# ---------------------------------------------------------------------------------------------------------------- page


@pytest.mark.parametrize("path", ["/", "/parts/runtime.wasm", "/missing", HEALTH, TRANSCRIBE])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_every_answer_keeps_the_page_apart_from_others(server: Server, method: str, path: str) -> None:
    reply = ask(server, method, path)
    assert {name: reply.headers[name] for name in HEADERS} == HEADERS
    assert (method == "HEAD") == (reply.content == b"")
    assert int(reply.headers["Content-Length"]) > 0
    if path == "/missing":
        assert reply.status == 404
    elif path == TRANSCRIBE or method == "PUT":
        assert reply.status == 405
        assert reply.headers["Allow"] == ("POST" if path == TRANSCRIBE else "GET, HEAD")
    else:
        assert reply.status == 200


def test_files_of_the_page(server: Server) -> None:
    for path, asset in ASSETS.items():
        for accepted, encoding in (
            ("gzip, br", "gzip"),
            ("identity", None),
            ("gzip;q=0", None),
            ("gzip;q=0, *", None),
            ("*", "gzip"),
        ):
            reply = ask(server, "GET", f"/{path}", Accept_Encoding=accepted)
            assert reply.headers["Content-Type"] == asset.media_type
            assert reply.headers["Content-Encoding"] == (encoding if asset.packed else None)
            packed = reply.headers["Content-Encoding"] == "gzip"
            assert (gzip.decompress(reply.content) if packed else reply.content) == asset.plain
            tag = reply.headers["ETag"]
            again = ask(server, "GET", f"/{path}", Accept_Encoding=accepted, If_None_Match=f'"other", W/{tag}')
            assert (again.status, again.content, again.headers["ETag"]) == (304, b"", tag)
            assert ask(server, "GET", f"/{path}", Accept_Encoding=accepted, If_None_Match='"other"').status == 200


@pytest.mark.parametrize(
    "target",
    [
        *("/../server.py", "/..%2f..%2fetc/passwd", "/parts/../../etc/passwd", "//etc/passwd", "/%2e%2e/index.html"),
        *("/parts\\..\\index.html", "/index.html%00.txt", "/parts/", "/parts", "/" + "a" * 30_000, "/%ff%fe"),
    ],
)
def test_nothing_but_the_page_can_be_read(server: Server, target: str) -> None:
    answer = raw(server, f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"root:" not in answer


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((name, 200) for name in ("127.0.0.1", "127.0.0.1:1", "localhost:80", "LOCALHOST.", "[::1]:8765", "studio:1")),
        *((name, 403) for name in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1")),
        *((name, 403) for name in ("", "evil@localhost", "localhost@evil", "[::1", "127.0.0.1:80:80", "0x7f.1", "a b")),
    ],
)
def test_names_that_others_made_lead_here_are_refused(fake: Fake, host: str, status: int) -> None:
    with serving(fake, names=["Studio"]) as server:
        answer = raw(server, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        origin = post(server, b"x", Origin=f"http://{host}").status if host.isprintable() else status
        assert origin == status
        if " " not in host:  # the whole address in the request's first line, as proxies are sent it
            head = f"GET HTTP://{host}?query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            assert raw(server, head.encode()).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_whole_address_leads_where_its_path_does(server: Server) -> None:
    reply = ask(server, "POST", f"{server.url[:-1]}{TRANSCRIBE}?format=csv", b"x")
    assert reply.content == post(server, b"x", "?format=csv").content


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/7.0\r\nHost: localhost\r\n\r\n", 505),
        (b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_requests_that_cannot_be_read(server: Server, request_: bytes, status: int) -> None:
    header, _, body = raw(server, request_).partition(b"\r\n\r\n")
    assert header.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"application/problem+json" in header
    assert json.loads(body).keys() == PROBLEM_KEYS


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "file://", "http://localhost.evil.example:8765"])
def test_pages_of_other_sites_cannot_use_the_api(server: Server, fake: Fake, origin: str) -> None:
    assert "other sites" in post(server, b"x", Origin=origin).problem(403)
    assert fake.files == []


# ----------------------------------------------------------------------------------------------------------------- API


@pytest.mark.parametrize(
    ("flags", "query"),
    [
        ([], ""),
        (
            "--preset guitar --tempo auto --quantize 1/16 --scale Em --pitch-bends mpe --start 0:02".split(),
            "preset=guitar&tempo=auto&quantize=1/16&scale=Em&pitch_bends=mpe&start=0:02",
        ),
    ],
    ids=["defaults", "shaped"],
)
def test_the_bytes_are_those_of_the_command_line(
    real: Server, cli: Run, guitar: Path, tmp_path: Path, flags: list[str], query: str
) -> None:
    for folder, wanted in ("score", ["--musicxml"]), ("notes", ["--csv", "--json"]):  # a score looks for beats
        done = cli(guitar, "-o", tmp_path / folder, *wanted, *flags)
        assert done.returncode == 0, done.stderr
    recording = guitar.read_bytes()
    for name, format_ in FORMATS.items():
        folder = "score" if name == "musicxml" else "notes"
        expected = (tmp_path / folder / f"guitar{format_.extension}").read_bytes()
        body, headers = form(recording)
        reply = post(real, body, f"?format={name}&{query}".rstrip("&"), **headers)
        assert reply.content == expected
        assert reply.headers["Content-Type"].split(";")[0] == format_.media_types[0]
        assert reply.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''guitar{format_.extension}"
    as_it_is = post(real, recording, f"?name=guitar.flac&{query}".rstrip("&"))
    assert as_it_is.content == (tmp_path / "notes/guitar.mid").read_bytes()


def test_several_at_a_time_give_the_same_notes(real: Server, guitar: Path) -> None:
    recording = guitar.read_bytes()
    expected = post(real, recording).content
    replies: list[bytes] = []
    threads = [threading.Thread(target=lambda: replies.append(post(real, recording).content)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [expected, expected]


def events(reply: Reply) -> list[tuple[str, dict[str, Any]]]:
    if reply.headers["Content-Type"] == "application/x-ndjson":
        found = [json.loads(line) for line in reply.content.splitlines()]
        return [(event.pop("event"), event) for event in found]
    blocks = reply.content.decode().removesuffix("\n\n").split("\n\n")
    pairs = [block.split("\n") for block in blocks]
    return [(event.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for event, data in pairs]


@pytest.mark.parametrize("kind", ["text/event-stream", "application/x-ndjson"])
def test_progress_is_told_before_the_result(server: Server, kind: str) -> None:
    expected = post(server, b"x", "?name=a/b\\song.wav&format=json")
    reply = post(server, b"x", "?name=song.wav", Accept=kind)
    assert reply.status == 200
    (first, progress), (last, result) = events(reply)
    assert (first, progress) == ("progress", {"seconds": 1.0, "total": 1.0})
    assert last == "result"
    assert result["content"] == expected.json()
    assert result | {"content": None} == {
        "format": "json",
        "media_type": "application/json",
        "name": "song.json",
        "notes": len(NOTES),
        "seconds": 1.0,
        "warnings": ["a warning"],
        "content": None,
    }
    midi = events(post(server, b"x", "?format=midi", Accept=kind))[-1][1]
    assert base64.b64decode(midi["content"]) == post(server, b"x").content


def test_warnings_are_in_a_header(server: Server) -> None:
    for name in FORMATS:
        assert json.loads(post(server, b"x", f"?format={name}").headers[WARNINGS]) == ["a warning"]


@given(st.lists(st.text(max_size=2000), max_size=10))
def test_warnings_fit_into_a_header(warnings: list[str]) -> None:
    text = Answer(b"", "midi", "a.mid", 0, 0.0, tuple(warnings)).warnings_header()
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= 4000
    kept = json.loads(text)
    assert kept == warnings[: len(kept)]
    assert kept == warnings or len(json.dumps(warnings[: len(kept) + 1])) > 4000


def test_an_error_in_a_stream(server: Server, fake: Fake) -> None:
    # Before anything has been sent it is an answer like any other; later the last event.
    assert post(server, b"broken", Accept="text/event-stream").problem(422)
    with dialled(server) as connection:
        connection.sendall(head(server, "Accept: application/x-ndjson", "Content-Length: 4") + b"wait")
        file = connection.makefile("rb")
        while not file.readline().startswith(b'{"event": "progress"'):
            pass
        server.stopping.set()
        lines = file.read().splitlines()
    last = json.loads(lines[-1])
    assert (last["event"], last["status"]) == ("error", 503)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "audio/midi"),
        ("*/*", "audio/midi"),
        ("text/html, application/json;q=0.9, */*;q=0.1", "application/json"),
        ("audio/*;q=0.2, text/csv", "text/csv"),
        ("application/json;q=0, */*", "audio/midi"),
        ("application/xml", "application/vnd.recordare.musicxml+xml"),
    ],
)
def test_accept(server: Server, accept: str, kind: str) -> None:
    assert post(server, b"x", Accept=accept).headers["Content-Type"].split(";")[0] == kind


def test_nothing_acceptable(server: Server) -> None:
    for accept in ("image/png", "audio/midi;q=0", "nonsense"):
        assert "text/event-stream" in post(server, b"x", Accept=accept).problem(406)
    assert post(server, b"x", "?format=csv", Accept="image/png").headers["Content-Type"].startswith("text/csv")


def test_messages_are_those_of_the_command_line(
    real: Server, tmp_path: Path, guitar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.wav").touch()
    Path("text.wav").write_text("Dear diary")
    shutil.copy(guitar, "guitar.flac")
    for name, flags, query in (
        ("empty.wav", [], ""),
        ("text.wav", [], ""),
        ("guitar.flac", ["--channel", "7"], "&channel=7"),
        ("guitar.flac", ["--start", "99"], "&start=99"),
        ("guitar.flac", ["--tempo", "fast"], "&tempo=fast"),
        ("guitar.flac", ["--minimum-frequency", "H9"], "&minimum_frequency=H9"),
        ("guitar.flac", ["--strength", "0.5"], "&strength=0.5"),
        ("guitar.flac", ["--scale", "C sad"], "&scale=C+sad"),
    ):
        result = CliRunner().invoke(command_line, [name, "--jobs", "1", *flags])
        said = result.stderr.splitlines()[-1].removeprefix("error: ")
        detail = post(real, Path(name).read_bytes(), f"?name={name}{query}").problem(422)
        assert detail.replace("_", "-") == said.replace("--", "").replace("_", "-")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?nothing=1", "there is no setting 'nothing'"),
        ("?model=/etc/passwd", "there is no setting 'model'"),
        ("?soundfont=/etc/passwd", "there is no setting 'soundfont'"),
        ("?tempo=90&tempo=91", "given twice"),
        ("?format=wav", "format is 'wav'"),
        ("?polyphony=two", "polyphony is 'two'; give a whole number"),
        ("?polyphony=" + "9" * 5000, "give a whole number"),
        ("?legato=nan", "legato is 'nan'; give a number"),
        ("?legato=1e999", "give a number"),
        ("?monophonic=yes", "give true or false"),
        ("?scale=", "scale is empty"),
        ("?tempo", "the query cannot be read"),
        ("?program=128", "General MIDI programs"),
    ],
)
def test_settings_that_are_wrong(server: Server, fake: Fake, query: str, said: str) -> None:
    assert said in post(server, b"x", query).problem(422)
    assert fake.files == []


def test_a_defect_is_an_answer_too(fake: Fake) -> None:
    remarks: list[str] = []
    with serving(fake, remark=remarks.append) as server:
        assert post(server, b"bug").problem(500) == "unexpected ZeroDivisionError; report it with the recording"
        assert "Traceback" in remarks[0]
        assert post(server, b"x").status == 200


@given(name=st.text(min_size=1, max_size=30).map(lambda text: text * 10))
def test_names_are_harmless(name: str) -> None:
    from basic_transcribe.api import plain_name

    plain = plain_name(name)
    assert 0 < len(plain) <= 200
    assert plain.isprintable()
    assert not {"/", "\\"} & set(plain)
    assert plain not in (".", "..")


# -------------------------------------------------------------------------------------------------------------- limits


def test_size(fake: Fake) -> None:
    with serving(fake, Limits(max_bytes=1000)) as server:
        assert post(server, bytes(1000)).status == 200
        assert "1001 bytes" in post(server, bytes(1001)).problem(413)
        # Nothing of it need be sent to be told so.
        answer = raw(server, head(server, "Content-Length: 99999999999", "Expect: 100-continue"))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"Connection: close" in answer
        assert len(fake.files) == 1


def test_clients_of_http_1_0_are_not_asked_to_go_on(server: Server) -> None:
    """They would take it for the answer (RFC 9110, 10.1.1)."""
    request = head(server, "Content-Length: 1", "Expect: 100-continue") + b"x"
    with dialled(server) as connection:
        connection.sendall(request.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_permission_to_send_is_given(server: Server) -> None:
    with dialled(server) as connection:
        connection.sendall(head(server, "Content-Length: 1", "Expect: 100-continue", "Connection: close"))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"x")
        assert b"".join(iter(lambda: connection.recv(65536), b"")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 411),
        (["Transfer-Encoding: chunked"], 411),
        (["Transfer-Encoding: chunked", "Content-Length: 1"], 411),
        *(([f"Content-Length: {length}"], 400) for length in ("-1", "+1", "1_0", "0x1", "1, 1", "", "9" * 5000)),
        (["Content-Length: 1", "Content-Length: 2"], 400),
    ],
)
def test_lengths_that_are_none(server: Server, fake: Fake, lines: list[str], status: int) -> None:
    answer = raw(server, head(server, *lines) + b"1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.count(b"HTTP/1.1 ") == 1  # what follows is not taken for another request
    assert fake.files == []


def test_duration(real: Server, fake: Fake, guitar: Path) -> None:
    with serving(real.transcriber, Limits(max_seconds=6)) as server:
        detail = post(server, guitar.read_bytes(), "?name=guitar.flac").problem(422)
        assert detail == "the recording goes on to 0:08.0, this server transcribes up to 0:06.0; cut it, or give end"
        assert post(server, guitar.read_bytes(), "?end=2").status == 200
        assert "0:07.0" in post(server, guitar.read_bytes(), "?start=7").problem(422)
    fake.total = None  # a header that does not say
    with serving(fake, Limits(max_seconds=0.9)) as server:
        assert "0:01.0" in post(server, b"x").problem(422)


def test_how_many_at_a_time(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    monkeypatch.setattr(http_server, "SMALL", 4)
    with serving(fake, Limits(jobs=1)) as server, dialled(server) as first:
        first.sendall(head(server, "Content-Length: 4", "Connection: close") + b"wait")
        assert fake.entered.wait(120)
        refused = post(server, b"large")  # at once, not when all of it is here
        assert "already" in refused.problem(503)
        assert int(refused.headers["Retry-After"]) > 0
        assert ask(server, "GET", "/").status == 200
        fake.release.set()
        assert first.recv(15) == b"HTTP/1.1 200 OK"
        while first.recv(65536):  # to its end: then it is the next one's turn
            pass
        assert post(server, b"large").status == 200


def test_small_recordings_wait_for_their_turn(fake: Fake) -> None:
    with serving(fake, Limits(jobs=1)) as server, dialled(server) as first:
        first.sendall(head(server, "Content-Length: 4") + b"wait")
        assert fake.entered.wait(120)
        replies: list[Reply] = []
        threads = []
        for i in range(3):
            threads.append(threading.Thread(target=lambda body=b"small%d" % i: replies.append(post(server, body))))
            threads[-1].start()
            until(lambda: len(server._queue) == len(threads))
        fake.release.set()
        for thread in threads:
            thread.join()
        assert [reply.status for reply in replies] == [200] * 3
        assert fake.contents == [b"wait", b"small0", b"small1", b"small2"]


@contextmanager
def uploading(server: Server, length: int, begun: bytes) -> Iterator[socket.socket]:
    """A connection on which a recording is on its way, the beginning of it there already."""
    with dialled(server) as connection:
        stored = server._stored
        connection.sendall(head(server, f"Content-Length: {length}", "Connection: close") + begun)
        until(lambda: server._stored == stored + len(begun))
        yield connection


def test_slow_uploads_keep_nobody_waiting(server: Server) -> None:
    with uploading(server, 1000, b"slow"), uploading(server, 1000, b"slow") as second:
        assert post(server, b"x").status == 200
        second.sendall(b"x" * 996)
        assert second.recv(15) == b"HTTP/1.1 200 OK"


def test_how_many_on_their_way(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setattr(http_server, "UPLOADS", 1)
    with uploading(server, 100, b"slow"):
        refused = post(server, b"x")
        assert "1 recordings are on their way or wait already" in refused.problem(503)
        assert int(refused.headers["Retry-After"]) > 0
        assert ask(server, "GET", "/").status == 200
    until(lambda: not server._uploads)
    assert post(server, b"x").status == 200


def test_how_many_wait(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    monkeypatch.setattr(http_server, "UPLOADS", 1)
    with serving(fake, Limits(jobs=1)) as server, dialled(server) as first, dialled(server) as second:
        first.sendall(head(server, "Content-Length: 4") + b"wait")
        assert fake.entered.wait(120)
        second.sendall(head(server, "Content-Length: 1") + b"x")
        until(lambda: server._queue)
        assert "1 recordings are on their way or wait already" in post(server, b"x").problem(503)
        fake.release.set()
        assert second.recv(15) == b"HTTP/1.1 200 OK"


def test_how_much_is_kept_at_a_time(fake: Fake) -> None:
    """No more than as many recordings of the largest size as are transcribed at a time; what is said counts nothing."""
    with serving(fake, Limits(max_bytes=1000, jobs=2)) as server:
        with uploading(server, 1000, b"x"), uploading(server, 1000, b"x"), uploading(server, 1000, b"x" * 997):
            assert post(server, b"x" * 1000).status == 200
            with uploading(server, 1000, b"x" * 2):
                refused = post(server, b"x" * 1000)
                assert "no room" in refused.problem(503)
                assert int(refused.headers["Retry-After"]) > 0
                assert server._stored == 1001
        until(lambda: not server._stored)
        assert post(server, b"x" * 1000).status == 200


def test_the_youngest_makes_room_for_the_others(fake: Fake) -> None:
    with (
        serving(fake, Limits(max_bytes=1000, jobs=2)) as server,
        uploading(server, 900, b"a" * 700) as first,
        uploading(server, 900, b"b" * 700) as second,
        uploading(server, 900, b"c" * 600) as third,
    ):
        first.sendall(b"x" * 200)
        second.sendall(b"x" * 200)
        until(lambda: [share.wanted for share in server._uploads] == [200, 200, 0])
        third.sendall(b"x")
        assert third.recv(12) == b"HTTP/1.1 503"
        assert first.recv(15) == second.recv(15) == b"HTTP/1.1 200 OK"


def test_recordings_sent_at_the_same_time_do_not_refuse_each_other(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    monkeypatch.setattr(http_server, "CHUNK", 1000)
    with serving(fake, Limits(max_bytes=1_000_000, jobs=2)) as server:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(post(server, bytes(900_000)).status)) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses.count(200) >= 2
        assert set(statuses) <= {200, 503}
        until(lambda: not server._stored)


def test_a_wait_for_room_ends(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    """Someone who holds room and sends no more cannot keep those before him waiting for ever."""
    monkeypatch.setattr(http_server, "TURN", 0.2)
    with (
        serving(fake, Limits(max_bytes=1000, jobs=1)) as server,
        uploading(server, 1000, b"x" * 500) as first,
        uploading(server, 1000, b"x" * 500),
    ):
        first.sendall(b"x")
        assert first.recv(12) == b"HTTP/1.1 503"


def test_a_wait_for_room_is_not_the_sender_s(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    monkeypatch.setattr(http_server, "GRACE", 1.0)
    with serving(fake, Limits(max_bytes=1000, jobs=1)) as server, uploading(server, 700, b"x" * 500) as first:
        with uploading(server, 1000, b"x" * 500) as second:
            first.sendall(b"x" * 100)
            assert second.recv(12) == b"HTTP/1.1 408"  # so the first, which came before it, has no time left either
        first.sendall(b"x" * 100)
        assert first.recv(15) == b"HTTP/1.1 200 OK"


def test_what_is_here_waits_for_its_turn(fake: Fake) -> None:
    with serving(fake, Limits(jobs=1)) as server, uploading(server, 2, b"x") as second, dialled(server) as first:
        first.sendall(head(server, "Content-Length: 4") + b"wait")
        assert fake.entered.wait(120)
        second.sendall(b"x")
        until(lambda: not server._uploads)
        assert len(fake.files) == 1
        fake.release.set()
        assert second.recv(15) == b"HTTP/1.1 200 OK"


def test_what_is_here_does_not_wait_for_long(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    monkeypatch.setattr(http_server, "TURN", 0.2)
    with serving(fake, Limits(jobs=1)) as server, uploading(server, 2, b"x") as second, dialled(server) as first:
        first.sendall(head(server, "Content-Length: 4") + b"wait")
        assert fake.entered.wait(120)
        second.sendall(b"x")
        assert second.recv(12) == b"HTTP/1.1 503"


def test_hanging_up_while_waiting(fake: Fake) -> None:
    with serving(fake, Limits(jobs=1)) as server, dialled(server) as first:
        with uploading(server, 2, b"x") as second:
            first.sendall(head(server, "Content-Length: 4") + b"wait")
            assert fake.entered.wait(120)
            second.sendall(b"x")
            until(lambda: not server._uploads)
        until(lambda: server._stored == 4)  # those of the first
        assert len(fake.files) == 1


def test_too_many_connections(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS", 2)
    with serving(fake) as server:
        with dialled(server), dialled(server), dialled(server) as third:
            assert third.recv(1) == b""
        while not ask_or_none(server):  # once the others have hung up
            pass


def test_a_connection_without_a_thread_takes_no_place(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    def exhausted(*_arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(http_server, "CONNECTIONS", 1)
    said: list[str] = []
    with serving(fake, remark=said.append) as server:
        with monkeypatch.context() as patched:
            patched.setattr(socketserver.ThreadingMixIn, "process_request", exhausted)
            assert ask_or_none(server) is None
        assert "can't start new thread" in said[0]
        assert ask(server, "GET", "/").status == 200


def ask_or_none(server: Server) -> Reply | None:
    try:
        return ask(server, "GET", "/")
    except ConnectionError:
        return None


def test_slow_uploads_are_given_up(monkeypatch: pytest.MonkeyPatch, server: Server, fake: Fake) -> None:
    monkeypatch.setattr(http_server, "GRACE", 0.2)
    with dialled(server) as connection:
        connection.sendall(head(server, "Content-Length: 100") + b"begun")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"after 5 of 100 bytes" in answer
    assert fake.files == []


def test_slow_heads_are_given_up(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    monkeypatch.setattr(http_server, "PATIENCE", 0.2)
    with serving(fake) as server, dialled(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert connection.recv(65536) == b""


@pytest.mark.parametrize("accept", ["audio/midi", "text/event-stream"])
def test_hanging_up_ends_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server, fake: Fake, accept: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with dialled(server) as connection:
        connection.sendall(head(server, f"Accept: {accept}", "Content-Length: 4") + b"wait")
        assert fake.entered.wait(120)
        if os.name == "posix":
            assert list(tmp_path.iterdir()) == []  # the upload has no name, not even for a while
    assert fake.left.wait(120)
    until(lambda: not server._jobs + len(server._uploads) + server._stored)
    assert fake.files[0].closed
    assert list(tmp_path.iterdir()) == []


def test_hanging_up_in_the_middle_of_an_upload(server: Server, fake: Fake) -> None:
    with dialled(server) as connection:
        connection.sendall(head(server, "Content-Length: 100") + b"begun")
    assert post(server, b"x").status == 200
    until(lambda: not server._jobs + len(server._uploads) + server._stored)
    assert len(fake.files) == 1


def test_stopping_ends_the_work(fake: Fake) -> None:
    with serving(fake) as server:
        connection = socket.create_connection(server.server_address[:2], timeout=120)
        connection.sendall(head(server, "Content-Length: 4") + b"wait")
        assert fake.entered.wait(120)
    with connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 503 ")
    assert fake.files[0].closed


def test_stopping_waits_for_the_last_answers(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    """The process ends after it, and with that all that has not been said."""
    said: list[int] = []

    def slow(handler: _Handler, problem: Problem) -> None:
        time.sleep(0.3)
        answer(handler, problem)
        said.append(problem.status)

    answer = _Handler._problem
    monkeypatch.setattr(_Handler, "_problem", slow)
    with serving(fake, Limits(jobs=1)) as server, dialled(server) as first, dialled(server) as second:
        first.sendall(head(server, "Content-Length: 4") + b"wait")
        assert fake.entered.wait(120)
        second.sendall(head(server, "Content-Length: 1") + b"x")
        until(lambda: server._queue)
        server.shutdown()
        server.stop()
        assert said == [503, 503]


def test_stopping_refuses_what_is_on_its_way(server: Server) -> None:
    with uploading(server, 100, b"x") as connection:
        server.stopping.set()
        connection.sendall(b"x")
        assert connection.recv(12) == b"HTTP/1.1 503"


def test_stopping_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    monkeypatch.setattr(http_server, "FAREWELL", 0.1)
    with serving(fake) as server, uploading(server, 100, b"x"):
        server.shutdown()
        server.stop()
        assert server._requests == 1


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    assert "No space left" in post(server, b"x").problem(507)


def test_nowhere_to_store_a_recording(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert "set to a folder" in post(server, b"x").problem(507)


def test_a_connection_serves_several_requests(server: Server) -> None:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=120)
    for _ in range(2):
        connection.request("GET", "/")
        assert Reply(connection.getresponse()).status == 200
        sock = connection.sock
        connection.request("POST", TRANSCRIBE, b"broken")
        Reply(connection.getresponse()).problem(422)
        connection.request("POST", TRANSCRIBE, b"x")
        assert Reply(connection.getresponse()).status == 200
        assert connection.sock is sock
    connection.close()


# --------------------------------------------------------------------------------------------------------------- forms


@given(content=st.binary(max_size=300), cuts=st.lists(st.integers(0, 500), max_size=5))
def test_a_form_gives_its_file_however_it_comes_in(content: bytes, cuts: list[int]) -> None:
    body, _ = form(content.replace(b"--edge", b""), filename="Lied für Elise.wav")
    got = bytearray()
    parser = _Form(b"edge", got.extend)
    edges = [0, *sorted(cuts), len(body)]
    for start, end in pairwise(edges):
        parser.push(body[start:end])
    parser.finish()
    assert bytes(got) == content.replace(b"--edge", b"")
    assert parser.filename == "Lied für Elise.wav"


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        ('filename="b%22q%0D%0A.flac"', 'b"q\r\n.flac'),  # as browsers write quotes and line ends
        ('filename="100%25 %2f.flac"', "100%25 %2f.flac"),  # but nothing else
        ("filename*=UTF-8''b%C3%BC%22.flac", 'bü".flac'),
        ("filename=\"a.flac\"; filename*=utf-8'de'b%C3%BC.flac", "a.flac"),
        ("filename*=UTF-16''b.flac", ""),
    ],
)
def test_names_in_forms(parameter: str, name: str) -> None:
    parser = _Form(b"edge", lambda _: None)
    parser.push(f'--edge\r\nContent-Disposition: form-data; name="file"; {parameter}\r\n\r\nx\r\n--edge--\r\n'.encode())
    parser.finish()
    assert parser.filename == name


@given(st.data())
def test_a_damaged_form_is_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(form(b"content")[0])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    got = bytearray()
    try:
        parser = _Form(b"edge", got.extend)
        parser.push(bytes(body))
        parser.finish()
    except FormParserError:
        return
    assert len(got) <= len(body)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (form(b"x")[0], "multipart/form-data"),
        (form(b"x")[0], "multipart/form-data; boundary="),
        (form(b"x")[0], "multipart/form-data; boundary=other"),
        (form(b"x")[0].replace(b"edge", b"e" * 1000), "multipart/form-data; boundary=" + "e" * 1000),
        (form(b"x", filename="a" * 1_000_000)[0], "multipart/form-data; boundary=edge"),
        (form(b"x")[0][:-10], "multipart/form-data; boundary=edge"),
        (form(b"x", name="recording")[0], "multipart/form-data; boundary=edge"),
        (b"--edge\r\n\r\nx\r\n--edge--\r\n", "multipart/form-data; boundary=edge"),
        (b"--edge--\r\n", "multipart/form-data; boundary=edge"),
        (b"", "multipart/form-data; boundary=edge"),
        (form(b"x")[0].replace(b"--edge--", b"--edge") + form(b"y")[0][8:], "multipart/form-data; boundary=edge"),
        (b"--edge\r\nX: " + b"a" * 100_000 + b"\r\n\r\nx\r\n--edge--\r\n", "multipart/form-data; boundary=edge"),
    ],
)
def test_forms_that_are_none(server: Server, fake: Fake, body: bytes, kind: str) -> None:
    assert "form" in post(server, body, Content_Type=kind).problem(400)
    assert fake.files == []


# --------------------------------------------------------------------------------------------------------- description


def test_the_description_tells_all_settings(server: Server) -> None:
    document = ask(server, "GET", DESCRIPTION).json()
    assert document == description(server.limits)
    parameters = document["paths"][TRANSCRIBE]["post"]["parameters"]
    assert {p["name"] for p in parameters} == {"name", "format", *settings()}
    assert {"preset", "tempo", "polyphony", "pitch_bends", "end", "onset_threshold"} <= settings().keys()
    assert not {"model", "soundfont", "output_dir", "threads", "jobs", "csv"} & settings().keys()
    for parameter in parameters:
        jsonschema.Draft202012Validator.check_schema(parameter["schema"])
    reply = post(server, b"x", "?format=json")
    assert WARNINGS in reply.headers
    assert WARNINGS in document["paths"][TRANSCRIBE]["post"]["responses"]["200"]["headers"]
    notes = reply.json()
    jsonschema.validate(notes, document["components"]["schemas"]["Notes"])
    assert ask(server, "GET", HEALTH).json()["model"] == "fake 1"


# -------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of few files."""
    folder = tmp_path / "page"
    (folder / "parts").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "parts" / "runtime.wasm.gz").write_bytes(gzip.compress(b"\0asm"))
    monkeypatch.setattr(web, "PAGE", folder)
    return folder


def test_export(page: Path, tmp_path: Path) -> None:
    site = tmp_path / "some" / "site"
    web.export_page(site, web.page_assets(b"a model"))
    files = {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    assert files.pop("_headers").decode().splitlines() == ["/*", *(f"  {k}: {v}" for k, v in HEADERS.items())]
    assert b"Cross-Origin-Embedder-Policy: require-corp" in files.pop("README.txt")
    assert files == {"index.html": b"<!doctype html>", "parts/runtime.wasm": b"\0asm", "model.onnx": b"a model"}
    (page / "index.html").write_text("<!doctype html>new")
    with pytest.raises(OutputError, match="has files already; give another folder, or --overwrite"):
        web.export_page(site, web.page_assets(b"a model"))
    web.export_page(site, web.page_assets(b"a model"), overwrite=True)
    assert (site / "index.html").read_text() == "<!doctype html>new"


def test_export_by_the_command(page: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(web.web_app, ["--export", str(tmp_path / "site")])
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "site" / "model.onnx").read_bytes() == default_model_path().read_bytes()


def test_no_page(page: Path) -> None:
    (page / "index.html").unlink()
    with pytest.raises(OutputError, match="npm run build"):
        web.page_assets(b"")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--overwrite"], 2, "--overwrite is for --export"),
        (["--host", "192.0.2.1"], 2, "cannot listen on 192.0.2.1"),
        (["--host", "no such host"], 2, "cannot listen on no such host"),
        (["--model", "missing.onnx"], 3, "missing.onnx"),
        (["--export", "/dev/null/site"], 4, "/dev/null/site: cannot be written"),
        (["--port", "99999"], 2, "--port"),
    ],
)
def test_what_the_command_refuses(page: Path, arguments: list[str], code: int, said: str) -> None:
    result = CliRunner().invoke(web.web_app, ["--no-browser", *arguments])
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


def test_a_port_that_is_taken(page: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(web.web_app, ["--no-browser", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 2
    assert "in use" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGTERM"])
def test_signals_end_it(cli_environment: dict[str, str], name: str) -> None:
    number = signal.Signals[name]
    command = [sys.executable, "-m", "basic_transcribe", "web", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli_environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("http://127.0.0.1:")
        host, port = line.split("/")[2].split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=120)
        connection.request("GET", HEALTH)
        assert Reply(connection.getresponse()).status == 200  # and the connection stays open
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (128 + number, b"", b"")


def test_the_address_of_a_server_that_listens_everywhere(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    with web._server("0.0.0.0", 0, [], ASSETS, fake, Limits(), False, False) as server:  # type: ignore[arg-type]
        assert server.url.startswith("http://127.0.0.1:")
        assert server.allows("192.0.2.1")
        assert server.allows(socket.gethostname())
        assert not server.allows("evil.example")
    assert "everyone who can reach this computer" in capsys.readouterr().err


def test_names_that_are_allowed(fake: Fake) -> None:
    names = ["Music.example.", "box", "2001:DB8::1"]
    with web._server("127.0.0.1", 0, names, ASSETS, fake, Limits(), False, False) as server:  # type: ignore[arg-type]
        for host in ("music.example:9106", "BOX", "[2001:db8::1]:80"):
            assert server.allows(host)
        assert not server.allows("[2001:db8::2]:80")


@pytest.mark.parametrize(
    "name", ["http://music.example/", "box.example:9106", "[2001:db8::1]", "*.example", "müsik.example", ""]
)
def test_names_that_no_request_has(fake: Fake, name: str) -> None:
    with pytest.raises(UsageError) as refused:
        web._server("127.0.0.1", 0, [name], ASSETS, fake, Limits(), False, False).__enter__()  # type: ignore[arg-type]
    assert str(refused.value).startswith(f"--allow-host is {name!r}; give a name alone")


def test_another_port_where_the_usual_one_is_taken(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(web, "PORT", taken.getsockname()[1])
        with web._server("127.0.0.1", None, [], ASSETS, fake, Limits(), False, False) as server:  # type: ignore[arg-type]
            assert server.server_address[1] not in (0, web.PORT)


def test_another_port_where_the_usual_one_is_kept(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    """As by Windows for virtual machines."""
    bind = socketserver.TCPServer.server_bind

    def refuse(server: socketserver.TCPServer) -> None:
        if server.server_address[1] == web.PORT:
            raise PermissionError(errno.EACCES, "An attempt was made to access a socket in a forbidden way")
        bind(server)

    monkeypatch.setattr(socketserver.TCPServer, "server_bind", refuse)
    with web._server("127.0.0.1", None, [], ASSETS, fake, Limits(), False, False) as server:  # type: ignore[arg-type]
        assert server.server_address[1] not in (0, web.PORT)
    with pytest.raises(UsageError, match="forbidden way; give other"):
        web._server("127.0.0.1", web.PORT, [], ASSETS, fake, Limits(), False, False).__enter__()  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------- fuzz


def test_fuzz() -> None:
    """Requests made from the description, right ones and wrong ones: every answer is as the description says."""
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis, of the extra dev")
    from hypothesis import HealthCheck, Phase, seed
    from hypothesis import settings as examples

    # What a scale or a tempo may be no schema says in full, so a right one may be refused too: 422.
    from schemathesis.specs.openapi.checks import positive_data_acceptance as excluded

    statuses: Counter[int] = Counter()
    with serving(Fake()) as server:
        schema = schemathesis.openapi.from_dict(description(server.limits))
        schema.config.update(base_url=server.url)

        for operation in (result.ok() for result in schema.get_all_operations()):
            for mode in schemathesis.GenerationMode if operation.method == "post" else ["positive"]:

                @seed(1)
                @examples(
                    max_examples=50, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
                )
                @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
                def conforms(case: Any) -> None:
                    statuses[case.call_and_validate(excluded_checks=[excluded]).status_code] += 1

                conforms()
    assert {200, 400, 422} <= statuses.keys()
    assert 500 not in statuses
