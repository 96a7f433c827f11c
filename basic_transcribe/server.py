"""A small HTTP server for the page and the API, with limits on whatever a client may do.

Names in the Host header are checked, so that no other site's page can reach it through a name of its own (DNS
rebinding), and so is the Origin of uploads. An uploaded recording is kept in a temporary file without a name, which is
gone as soon as it is closed, however this process ends.

A recording takes one of the places for work when all of it is here, so that nobody holds one by sending slowly. There
are bounds for how many are on their way or wait, and for the bytes that all of them have on the disk.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import ipaddress
import json
import logging
import os
import re
import socket
import socketserver
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from . import api
from .api import Limits, Problem

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from .pipeline import Transcriber

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # what it says is in our answers

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:;"
    " media-src blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"
)
"""What the page may load: nothing from elsewhere. The page itself says so too, for hosts that send no headers."""
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers without which browsers give a page one thread only."""
HEADERS = {
    **ISOLATION,
    "Content-Security-Policy": f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Sent with every answer."""

CONNECTIONS = 64
UPLOADS = 32  # recordings on their way here, or waiting for their turn; the other connections are for the page
SMALL = 10_000_000  # bytes; a larger recording is not let come while all places for work are taken
PATIENCE = 30.0  # seconds for the head of a request, for an idle connection, and for each piece of an answer
GRACE, SLOWEST = 20.0, 20_000  # an upload may take so many seconds, and one more for so many bytes
TURN = 30.0  # seconds that a recording waits for others: for room on the disk, and for a place for work
LINGER = 2.0  # seconds in which the rest of a refused upload is thrown away
FAREWELL = 3.0  # seconds in which a server that stops gives its last answers
CHUNK = 1 << 16
RETRY_AFTER = 5  # seconds


@dataclass(frozen=True)
class Asset:
    """A file of the page.

    Attributes
    ----------
    stored : bytes
        Its contents, packed or not.
    media_type : str
    packed : bool
        Whether ``stored`` is gzip.
    """

    stored: bytes
    media_type: str
    packed: bool = False

    @cached_property
    def plain(self) -> bytes:
        """Its contents, unpacked."""
        return gzip.decompress(self.stored) if self.packed else self.stored

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.stored).hexdigest()[:32]


class Gone(Exception):
    """The client is not there any more."""


class _Reader(io.RawIOBase):
    """A connection read against a clock, so that nobody holds it by sending a byte now and then."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(PATIENCE)


class _Form:
    """Takes the part ``file`` out of a form as it comes in.

    Raises
    ------
    FormParserError
        If it is not a form, or not only this part: from all methods.
    """

    def __init__(self, boundary: bytes, write: Callable[[bytes], None]) -> None:
        self.filename = ""
        self._write = write
        self._parts = 0
        self._complete = False
        self._field, self._value, self._disposition = b"", b"", b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_headers,
                "on_part_data": lambda data, start, end: self._write(data[start:end]),
                "on_end": self._end,
            },
        )

    def push(self, data: bytes) -> None:
        """Take the next bytes."""
        self._parser.write(data)

    def finish(self) -> None:
        """All bytes have been taken."""
        if not self._complete:
            raise FormParserError("it is cut short")
        if not self._parts:
            raise FormParserError("it has no part")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise FormParserError("it has several parts")

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field, self._value = b"", b""

    def _on_headers(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or options.get(b"name") != b"file":
            raise FormParserError("its part is not called file")
        name = options.get(b"filename", b"").decode(errors="replace")
        self.filename = re.sub("%22|%0D|%0A", lambda escape: unquote(escape[0]), name)  # as browsers write them
        encoded = re.search(rb";\s*filename\*=utf-8'[^']*'([^;\s]+)", self._disposition, re.IGNORECASE)
        if encoded and not name:  # not for forms (RFC 7578), but some clients do it
            self.filename = unquote(encoded[1].decode("latin-1"))

    def _end(self) -> None:
        self._complete = True


@dataclass(eq=False)
class _Share:
    """Of the room on the disk: the bytes that a recording has there, and those that it waits to write."""

    stored: int = 0
    wanted: int = 0
    patience: float = field(default_factory=lambda: TURN)  # seconds for which it may wait for room


class Server(socketserver.ThreadingMixIn, HTTPServer):
    """The page and the API on one address. Each connection has a thread.

    Parameters
    ----------
    host : str
        Name or address to listen on.
    port : int
        0 takes any that is free.
    assets : mapping of str to Asset
        Files of the page by their path, without a slash before it; ``index.html`` is the page.
    transcriber : Transcriber
    limits : Limits
    names : collection of str
        Names beside ``host`` and ``localhost`` under which clients may reach it.
    log : callable, optional
        Called with a line for each request.
    remark : callable, optional
        Called with what went wrong here, not at a client's.

    Raises
    ------
    OSError
        If it cannot listen there.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would share the port with another server
    request_queue_size = 64

    def __init__(
        self,
        host: str,
        port: int,
        assets: Mapping[str, Asset],
        transcriber: Transcriber,
        limits: Limits,
        *,
        names: Collection[str] = (),
        log: Callable[[str], None] | None = None,
        remark: Callable[[str], None] | None = None,
    ) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        self.assets, self.transcriber, self.limits = assets, transcriber, limits
        self.names = {"localhost", host.lower(), *(name.lower().rstrip(".") for name in names)}
        self.log, self.remark = log, remark
        self.stopping = threading.Event()
        self._change = threading.Condition()  # of what follows
        self._requests = self._jobs = self._stored = 0  # being answered; recordings at work; bytes of all recordings
        self._uploads: list[_Share] = []  # of the recordings on their way, the oldest first
        self._queue: list[object] = []  # recordings that wait for a place for work
        self._connections = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__((str(address[0]), port), _Handler)

    @property
    def url(self) -> str:
        """Where a browser on this computer finds it."""
        host, port = self.socket.getsockname()[:2]
        if ipaddress.ip_address(host).is_unspecified:
            host = "127.0.0.1" if self.address_family == socket.AF_INET else "::1"
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks for the full name of this computer, in vain
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except Exception:  # no thread can be started, which would have given the place back
            self._connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if self.remark:
            self.remark(traceback.format_exc())

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request, until it has been answered."""
        with self._change:
            self._requests += 1
        try:
            yield
        finally:
            with self._change:
                self._requests -= 1
                self._change.notify_all()

    @contextmanager
    def storage(self) -> Iterator[_Share]:
        """Room on the disk for a recording, as much as :meth:`upload` gives it."""
        share = _Share()
        try:
            yield share
        finally:
            with self._change:
                self._stored -= share.stored
                if share in self._uploads:  # it has not got here
                    self._uploads.remove(share)
                self._change.notify_all()

    @contextmanager
    def upload(self, share: _Share, length: int, check: Callable[[], None]) -> Iterator[Callable[[int], None]]:
        """A place for a recording on its way here; gives what is to be told of its bytes before they are written.

        Together, recordings have no more than as many of the largest size as are transcribed at a time. Bytes count
        when they come, not when they are announced: who announces many and sends few holds nobody up. Where there is
        no room, the youngest is refused, and the others wait for what that frees: so the oldest always gets here.

        Parameters
        ----------
        share : _Share
            The recording's, of :meth:`storage`.
        length : int
            Bytes that are announced.
        check : callable
            Called now and then while waiting; what it raises ends that.

        Raises
        ------
        Problem
            If there is no place, or a large recording would come in vain since all places for work are taken; by what
            it gives, if there is no room: 503.
        """

        def fits() -> bool:
            older = self._uploads[: self._uploads.index(share)]
            wanted = share.wanted + sum(other.wanted for other in older)
            return self._stored + wanted <= self.limits.jobs * self.limits.max_bytes

        def take(size: int) -> None:
            begin = time.monotonic()
            with self._change:
                share.wanted = size
                while not fits():
                    if share is self._uploads[-1] or time.monotonic() - begin >= share.patience:
                        raise _later("there is no room for more recordings just now")
                    self._change.wait(0.1)
                    check()
                share.patience -= time.monotonic() - begin
                share.wanted = 0
                share.stored += size
                self._stored += size

        with self._change:
            if length > SMALL and self._jobs >= self.limits.jobs:
                raise self._busy()
            if len(self._uploads) + len(self._queue) >= UPLOADS:
                raise _later(f"{UPLOADS} recordings are on their way or wait already")
            self._uploads.append(share)
        yield take  # of one that fails, storage() ends this together with its bytes: nobody is to be refused for them
        with self._change:
            self._uploads.remove(share)
            self._change.notify_all()

    @contextmanager
    def job(self, check: Callable[[], None]) -> Iterator[None]:
        """One of the places for work, once there is one and those who asked before have theirs.

        Parameters
        ----------
        check : callable
            Called now and then while waiting; what it raises ends that.

        Raises
        ------
        Problem
            If all remain taken: 503.
        """
        deadline, turn = time.monotonic() + TURN, object()
        with self._change:
            self._queue.append(turn)
            try:
                check()
                while self._queue[0] is not turn or self._jobs >= self.limits.jobs:
                    if time.monotonic() >= deadline:
                        raise self._busy()
                    self._change.wait(0.1)
                    check()
                self._jobs += 1
            finally:
                self._queue.remove(turn)
                self._change.notify_all()
        try:
            yield
        finally:
            with self._change:
                self._jobs -= 1
                self._change.notify_all()

    def _busy(self) -> Problem:
        return _later(f"{self.limits.jobs} recordings are being transcribed already")

    def stop(self) -> None:
        """End the work that is going on, say so to those who wait for it, and close.

        Not while :meth:`serve_forever` runs in another thread.
        """
        self.stopping.set()
        self.server_close()
        with self._change:
            self._change.wait_for(lambda: not self._jobs, PATIENCE)
            self._change.wait_for(lambda: not self._requests, FAREWELL)

    def allows(self, authority: str) -> bool:
        """Whether a Host header, or the host of an Origin, can be of a client that means this server.

        An address always can: only names are rebound.
        """
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::[0-9]{0,5})?", authority, re.ASCII)
        if not match:
            return False
        name = match[1].lower().strip("[]").removesuffix(".")
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not ipaddress.ip_address(self.socket.getsockname()[0]).is_loopback


class _Handler(BaseHTTPRequestHandler):
    """One connection. Every answer has a length, or ends with the connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "basic_transcribe", ""
    timeout = PATIENCE
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._source = _Reader(self.connection)
        self.rfile = io.BufferedReader(self._source, CHUNK)
        self._unread = False  # whether there is, or may be, a body that has not been read
        self._begun = False  # whether an answer has been begun
        self._stream: str | None = None  # how its events are sent, if it consists of events

    def handle_one_request(self) -> None:
        self._source.deadline = time.monotonic() + PATIENCE
        self._unread, self._begun, self._stream = False, False, None
        super().handle_one_request()

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, Gone):
            return
        if self._unread:
            self._linger()

    def _linger(self) -> None:
        """Throw the rest of a body away for a while: the reset that closing causes would overtake the answer."""
        self._unread = False
        self._source.deadline = time.monotonic() + LINGER
        try:
            self.connection.shutdown(socket.SHUT_WR)
            while self.rfile.read1(CHUNK):
                pass
        except OSError:
            pass  # it is gone, or still sending

    def handle_expect_100(self) -> bool:
        return True  # said once it is known that the body will be read

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = do_GET

    def _answer(self) -> None:
        self._unread = self._has_body()
        with self.server.request():
            try:
                self._route()
            except Problem as problem:
                self._problem(problem)
            except (ConnectionError, TimeoutError, Gone):
                raise
            except Exception as error:  # whatever a damaged file sets off in a decoder must not leave a client waiting
                if self.server.remark:
                    self.server.remark(traceback.format_exc())
                self._problem(Problem(500, f"unexpected {type(error).__name__}; report it with the recording"))
            if self._unread:
                self._linger()

    def _route(self) -> None:
        self._check_sender()
        whole = re.fullmatch(r"https?://([^/?]*)(.*)", self.path, re.IGNORECASE)  # address, as proxies are sent it
        if whole:
            self._check_name(whole[1])
        elif not self.path.startswith("/"):
            raise Problem(400, "the address must begin with a slash")
        path, _, query = (whole[2] if whole else self.path).partition("?")
        path = unquote(path)
        if path == api.TRANSCRIBE:
            self._allow("POST")
            self._transcribe(query)
            return
        asset = self.server.assets.get(path.removeprefix("/") or "index.html")
        documents: dict[str, Callable[[], dict[str, Any]]] = {
            api.HEALTH: lambda: api.health(self.server.transcriber),
            api.DESCRIPTION: lambda: api.description(self.server.limits),
        }
        if path in documents:
            self._allow("GET", "HEAD")
            content = json.dumps(documents[path]()).encode()
            self._send(200, content, {"Content-Type": "application/json", "Cache-Control": "no-store"})
        elif asset:
            self._allow("GET", "HEAD")
            self._file(asset)
        else:
            raise Problem(404, "there is nothing at this address")

    def _allow(self, *methods: str) -> None:
        if self.command not in methods:
            allowed = ", ".join(methods)
            raise Problem(405, f"this address takes {allowed} only", {"Allow": allowed})

    def _check_sender(self) -> None:
        """Refuse what another site's page sends, under a name that it made lead here or under its own."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1:
            raise Problem(400, "the request needs one Host header")
        self._check_name(hosts[0])
        origin = self.headers.get("Origin")
        if origin is not None:
            site = re.fullmatch(r"https?://(.*)", origin)
            if not site or not self.server.allows(site[1]):
                raise Problem(403, "requests from the pages of other sites are refused")

    def _check_name(self, authority: str) -> None:
        if not self.server.allows(authority):
            raise Problem(403, "this server does not go by that name; use its address, or start it with --allow-host")

    # ------------------------------------------------------------------------------------------------------- page

    def _file(self, asset: Asset) -> None:
        packed = asset.packed and _takes_gzip(self.headers.get("Accept-Encoding", ""))
        tag = f'"{asset.digest}{"-gzip" if packed else ""}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if asset.packed:
            headers["Vary"] = "Accept-Encoding"
        known = re.findall(r'"[^"]*"|\*', self.headers.get("If-None-Match", ""))
        if tag in known or "*" in known:
            self._send(304, None, headers)
            return
        if packed:
            headers["Content-Encoding"] = "gzip"
        self._send(200, asset.stored if packed else asset.plain, headers | {"Content-Type": asset.media_type})

    # -------------------------------------------------------------------------------------------------------- API

    def _transcribe(self, query: str) -> None:
        order = api.read_order(query, ",".join(self.headers.get_all("Accept", [])))
        length = self._length()
        with self.server.storage() as share, _nameless_file() as file:
            with self.server.upload(share, length, self._check_wanted) as take:
                if self.request_version >= "HTTP/1.1" and self.headers.get("Expect", "").lower() == "100-continue":
                    self.send_response_only(HTTPStatus.CONTINUE)
                    super().end_headers()
                digest, filename = self._receive(file, length, take)
            order = replace(order, name=order.name or filename)
            with self.server.job(self._check_wanted):
                self._stream = order.stream
                answer = api.transcribe(
                    order, file, digest, self.server.transcriber, self.server.limits, self._progress
                )
        if self._stream:
            self._event("result", answer.event())
            return
        kind = api.FORMATS[order.format].media_types[0]
        warnings = {api.WARNINGS: answer.warnings_header()} if answer.warnings else {}
        headers = {
            **warnings,
            "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(answer.name, safe='')}",
            "Cache-Control": "no-store",
        }
        self._send(200, answer.content, headers)

    def _has_body(self) -> bool:
        nothing = "" if self.command == "POST" else "0"  # without a length, what follows may be a body in pieces
        return "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", nothing).strip() != "0"

    def _length(self) -> int:
        """Of the body.

        Raises
        ------
        Problem
            If it is not said, or is too much: 400, 411, 413.
        """
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or not lengths:
            raise Problem(411, "the length of the recording must be said in Content-Length; send it in one piece")
        if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,18}", lengths[0]):
            raise Problem(400, "Content-Length is not a number of bytes")
        length, limit = int(lengths[0]), self.server.limits.max_bytes
        if length > limit:
            raise Problem(413, f"{length} bytes are more than this server takes, {limit}; send MP3 or FLAC, or less")
        return length

    def _receive(self, file: BinaryIO, length: int, take: Callable[[int], None]) -> tuple[str, str]:
        """Store the recording; returns its sha256 and the name that a form gives it."""
        whole = hashlib.sha256()

        def write(data: bytes) -> None:
            take(len(data))
            whole.update(data)
            try:
                file.write(data)
            except OSError as error:
                raise Problem(507, f"the recording cannot be stored: {error.strerror}; send a smaller one") from error

        kind, options = parse_options_header(self.headers.get("Content-Type", ""))
        if kind != b"multipart/form-data":
            for chunk in self._body(length):
                write(chunk)
            return whole.hexdigest(), ""
        try:
            if not options.get(b"boundary"):
                raise FormParserError("its type names no boundary")
            form = _Form(options[b"boundary"], write)
            for chunk in self._body(length):
                form.push(chunk)
            form.finish()
        except FormParserError as error:
            raise Problem(
                400, f"the form cannot be read, {error}; send the recording as its only part, file"
            ) from error
        return whole.hexdigest(), form.filename

    def _body(self, length: int) -> Iterator[bytes]:
        begun = time.monotonic()
        received = 0
        while received < length:
            self._check_stopping()
            self._source.deadline = begun + GRACE + received / SLOWEST
            try:
                chunk = self.rfile.read1(min(CHUNK, length - received))
            except TimeoutError:
                raise Problem(408, f"after {received} of {length} bytes no more came in time; send it again") from None
            if not chunk:
                raise Gone
            received += len(chunk)
            self._unread = received < length
            came = time.monotonic()
            yield chunk
            begun += time.monotonic() - came  # a wait for room is not the client's fault

    def _check_stopping(self) -> None:
        if self.server.stopping.is_set():
            raise _later("the server is being stopped")

    def _check_wanted(self) -> None:
        self._check_stopping()
        if self._client_has_gone():
            raise Gone

    def _progress(self, seconds: float, total: float | None) -> None:
        self._check_wanted()
        if self._stream:
            self._event("progress", {"seconds": seconds, "total": total})

    def _client_has_gone(self) -> bool:
        self.connection.setblocking(False)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        finally:
            self.connection.settimeout(PATIENCE)

    def _event(self, event: str, content: dict[str, Any]) -> None:
        if not self._begun:
            self.close_connection = True  # which ends the answer, having no length
            self._head(200, {"Content-Type": str(self._stream), "Cache-Control": "no-store", "Connection": "close"})
        if self._stream == api.SSE:
            line = f"event: {event}\ndata: {json.dumps(content)}\n\n"
        else:
            line = json.dumps({"event": event, **content}) + "\n"
        self._write(line.encode())

    # ---------------------------------------------------------------------------------------------------- answers

    def _problem(self, problem: Problem) -> None:
        if self._begun:  # in the middle of a stream
            self._event("error", problem.document())
            return
        content = json.dumps(problem.document()).encode()
        headers = {"Content-Type": api.PROBLEM_TYPE, "Cache-Control": "no-store", **problem.headers}
        self._send(problem.status, content, headers)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself says of requests that it cannot read."""
        self.request_version = self.protocol_version  # or, taken for HTTP/0.9, it would get no status
        self._unread = True
        self._problem(Problem(code, message or HTTPStatus(code).phrase))

    def _send(self, status: int, content: bytes | None, headers: Mapping[str, str]) -> None:
        if self._unread:
            self.close_connection = True
        length = {} if content is None else {"Content-Length": str(len(content))}
        closing = {"Connection": "close"} if self.close_connection else {}
        self._head(status, {**headers, **length, **closing})
        if content is not None and self.command != "HEAD":
            self._write(content)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self._begun = True
        self.send_response(status)
        for name, value in {**HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        for start in range(0, len(view), CHUNK):  # a time limit for each piece, not for the whole
            self.wfile.write(view[start : start + CHUNK])

    def log_message(self, format: str, *arguments: Any) -> None:
        if self.server.log:
            self.server.log(f"{self.client_address[0]} {format % arguments}")


def _later(reason: str) -> Problem:
    return Problem(503, f"{reason}; try again later", {"Retry-After": str(RETRY_AFTER)})


def _nameless_file() -> BinaryIO:
    """Where a recording is kept.

    Raises
    ------
    Problem
        If there is no place for one: 507.
    """
    try:
        return tempfile.TemporaryFile(prefix="basic_transcribe-")
    except OSError as error:
        raise Problem(
            507, f"the recording cannot be stored: {error.strerror}; start the server with TMPDIR set to a folder"
        ) from error


def _takes_gzip(accepted: str) -> bool:
    wanted = {}
    for part in accepted.lower().split(","):
        coding, _, weight = part.partition(";")
        wanted[coding.strip()] = not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight)
    return wanted.get("gzip", wanted.get("*", False))
