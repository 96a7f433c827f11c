"""The command ``web``: the page on a local server, or as a folder that any host can serve."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import complain, say
from .errors import ModelError, OutputError, UsageError, printable
from .options import RUN, Debug, ModelFile, Sectioned, Threads, new_app
from .running import exit_with

if TYPE_CHECKING:
    from .api import Limits
    from .pipeline import Transcriber
    from .server import Asset, Server

PAGE = Path(__file__).parent / "page"
MODEL = "model.onnx"
PORT = 8765
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
"""By extension: those the system knows may be wrong, and a browser runs no script or WebAssembly of another type."""
NOTE = """\
The page of basic_transcribe, with all it needs. Copy this folder to any host of static files, at the root of a site or
below a folder of it; nothing is loaded from elsewhere, and recordings stay in the browser.

The page is faster with several threads, which browsers allow only over https, and only if these headers come with every
file:

{headers}

The file _headers says so to the hosts that read it (Netlify, Cloudflare Pages and others). Without them the page works
with one thread. The microphone needs https too, or localhost.

A page opened from the disk (file://) cannot load its parts: it needs a server, if only "python -m http.server".
"""

web_app = new_app()


def page_assets(model: bytes) -> dict[str, Asset]:
    """Files of the page by their path, slashes in it, with the model as ``model.onnx``.

    Parameters
    ----------
    model : bytes
        Contents of an ONNX file.

    Raises
    ------
    OutputError
        If the page has not been built.
    """
    from .server import Asset

    assets = {MODEL: Asset(model, MEDIA_TYPES[".onnx"])}
    for path in sorted(path for path in PAGE.rglob("*") if path.is_file()):
        packed = path.suffix == ".gz"
        name = path.relative_to(PAGE).with_suffix("") if packed else path.relative_to(PAGE)
        assets[name.as_posix()] = Asset(path.read_bytes(), MEDIA_TYPES[name.suffix], packed)
    if "index.html" not in assets:
        raise OutputError(f"{PAGE}: there is no page here; build it with npm ci && npm run build in web/")
    return assets


def export_page(folder: Path, assets: Mapping[str, Asset], *, overwrite: bool = False) -> None:
    """Write the page as a folder that any host of static files can serve.

    Parameters
    ----------
    folder : Path
        Made if there is none.
    assets : mapping of str to Asset
        Files of the page by their path.
    overwrite : bool
        Whether the folder may have files already; those of the same names are replaced.

    Raises
    ------
    OutputError
        If the folder has files, or cannot be written.
    """
    from .exports import write_atomic
    from .server import HEADERS

    headers = [f"{name}: {value}" for name, value in HEADERS.items()]
    isolation = [f"    {line}" for line in headers if line.startswith("Cross-Origin")]
    contents = {
        **{name: asset.plain for name, asset in assets.items()},
        "_headers": "\n".join(["/*", *(f"  {line}" for line in headers), ""]).encode(),
        "README.txt": NOTE.format(headers="\n".join(isolation)).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not overwrite and any(folder.iterdir()):
            raise OutputError(f"{folder}: has files already; give another folder, or --overwrite")
        for name in contents:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}; give another folder") from error
    for name, content in contents.items():
        write_atomic(folder / name, content)


@web_app.command(cls=Sectioned)
def web_command(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen here; on any other than this, others may reach it.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, max=65535, help=f"Listen here; {PORT}, or a free one, if omitted."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Answer to this name too; may be repeated.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the page as a static site, and end.", file_okay=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that DIR has.")] = False,
    max_megabytes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Largest upload to the API.", rich_help_panel=RUN)
    ] = 1000,
    max_minutes: Annotated[
        float, typer.Option(metavar="N", min=0.01, help="Longest recording the API takes.", rich_help_panel=RUN)
    ] = 180,
    jobs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Recordings at a time in the API.", rich_help_panel=RUN)
    ] = 2,
    threads: Threads = None,
    model: ModelFile = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say a line for each request.", rich_help_panel=RUN)
    ] = False,
    debug: Debug = False,
) -> None:
    """Open the page: drop a recording, see and hear its notes, take the MIDI.

    All is done in the browser, and nothing leaves this computer. It is served on an address of this computer alone,
    until it is stopped (Ctrl-C), together with an API for scripts: POST /api/transcribe, described at
    /api/openapi.json. With --export the page becomes a folder that any host can serve.

    Exit code: as of basic-transcribe.
    """

    def run() -> int:
        from .api import Limits
        from .pipeline import Transcriber
        from .processors import available_cpus

        if overwrite and export is None:
            raise UsageError("--overwrite is for --export; give that too")
        transcriber = Transcriber(model, threads=threads or max(1, available_cpus() // jobs))
        assets = page_assets(_contents(transcriber))
        if export is not None:
            export_page(export, assets, overwrite=overwrite)
            say(f"{printable(export)}: the page, for any host of static files; its README.txt says how")
            return 0
        limits = Limits(max_megabytes * 1_000_000, 60 * max_minutes, jobs)
        with _server(host, port, allow_host or [], assets, transcriber, limits, verbose, debug) as server:
            say(f"{server.url} is ready; Ctrl-C ends it")
            if not no_browser:
                _open_browser(server.url)
            server.serve_forever()
        return 0

    exit_with(run, debug=debug)


def _contents(transcriber: Transcriber) -> bytes:
    path = transcriber.model.path
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"model {str(path)!r} cannot be read: {error.strerror}; check the path") from error


@contextmanager
def _server(
    host: str,
    port: int | None,
    names: list[str],
    assets: Mapping[str, Asset],
    transcriber: Transcriber,
    limits: Limits,
    verbose: bool,
    debug: bool,
) -> Iterator[Server]:
    """A server that listens, and what a careful person should know of it.

    Raises
    ------
    UsageError
        If it cannot listen there, or a name is none.
    """

    from .server import Server

    def listen(on: int) -> Server:
        return Server(
            host,
            on,
            assets,
            transcriber,
            limits,
            names=names,
            log=(lambda line: complain(printable(line))) if verbose or debug else None,
            remark=(lambda text: complain(text.rstrip())) if debug else None,
        )

    try:
        try:
            server = listen(PORT if port is None else port)
        except OSError as error:
            # EACCES is what Windows says of the ranges that it keeps for Hyper-V and the like.
            if error.errno not in (errno.EADDRINUSE, errno.EACCES) or port is not None:
                raise
            server = listen(0)
    except OSError as error:  # the lookup of a name fails with one too
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot listen on {host}, port {port or PORT}: {reason}; give other --host and --port"
        ) from error
    try:
        for name in names:
            if not server.allows(f"[{name}]" if ":" in name else name):
                raise UsageError(
                    f"--allow-host is {name!r}; give a name alone, without http:// and port, such as music.example"
                )
        if not ipaddress.ip_address(server.socket.getsockname()[0]).is_loopback:
            server.names |= {socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}
            complain(f"warning: on {host} everyone who can reach this computer can use the page and the API")
        yield server
    finally:
        server.stop()


def _open_browser(url: str) -> None:
    """Open a browser if there is a screen: one in the terminal would be in the way."""
    if sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys():
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
