"""Transcription over HTTP, less the HTTP: what a request asks for, the work, and a description of both (OpenAPI)."""

from __future__ import annotations

import base64
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, get_args, get_type_hints
from urllib.parse import parse_qsl

import typer

from . import batch, outputs
from .console import clock
from .errors import TranscribeError, UsageError, printable
from .exports import JSON_SCHEMA
from .flags import recipe_of
from .options import MIDI, NOTES, PARTS, PRESET_NAMES, TIME, Options

if TYPE_CHECKING:
    from .batch import Recipe
    from .pipeline import Transcriber

TRANSCRIBE, DESCRIPTION, HEALTH = "/api/transcribe", "/api/openapi.json", "/api/health"
PROBLEM_TYPE = "application/problem+json"
WARNINGS = "Transcription-Warnings"
MOST_WARNINGS = 4000  # characters in this header; many clients and proxies take 8000 or so in all headers


@dataclass(frozen=True, slots=True)
class Format:
    """A form that the notes are given in: the extension of its files, and its media types, the first being sent."""

    extension: str
    media_types: tuple[str, ...]

    @property
    def is_text(self) -> bool:
        return self.extension != ".mid"


FORMATS = {
    "midi": Format(".mid", ("audio/midi", "audio/x-midi", "audio/mid")),
    "json": Format(".json", ("application/json",)),
    "csv": Format(".csv", ("text/csv",)),
    "musicxml": Format(".musicxml", ("application/vnd.recordare.musicxml+xml", "application/xml", "text/xml")),
}
STREAMS = (SSE := "text/event-stream", "application/x-ndjson")
_RANGE = re.compile(r"\s*([\w!#$&^.+*-]+/[\w!#$&^.+*-]+)\s*(?:;.*)?", re.ASCII)
_NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?")
_QUALITY = re.compile(r";\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*(?:;|$)", re.ASCII | re.IGNORECASE)

_SHORTHANDS = ("no_pitch_bends", "multiple_pitch_bends")
# What the settings may be, beside what their types say. The rest of what they must fulfil is said in an answer 422.
_CLOCK_TIME = {"pattern": r"^(([0-9]+:)?[0-9]+:)?[0-9]+(\.[0-9]*)?$"}
_FREQUENCY = {"examples": ["82.4", "E2", "Bb5"]}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "preset": {"enum": list(PRESET_NAMES)},
    "start": _CLOCK_TIME,
    "end": _CLOCK_TIME,
    "first_bar": _CLOCK_TIME,
    "channel": {"pattern": r"^(mix|left|right|mid|side|0*[1-9][0-9]*)$"},
    "onset_threshold": {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "split_threshold": {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "frame_threshold": {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "minimum_note_length": {"minimum": 0, "maximum": 10_000},
    "minimum_frequency": _FREQUENCY,
    "maximum_frequency": _FREQUENCY,
    "tuning": {"minimum": 400, "maximum": 480},
    "polyphony": {"minimum": 1},
    "legato": {"minimum": 0, "maximum": 10_000},
    "staccato": {"minimum": 10, "maximum": 60_000},
    "velocity_curve": {"minimum": 0.1, "maximum": 10},
    "velocity_range": {"pattern": r"^[0-9]+(-[0-9]*)?$"},
    "quantize": {"examples": ["1/16", "1/8T"]},
    "strength": {"minimum": 0, "maximum": 1},
    "swing": {"minimum": 0, "maximum": 1},
    "key": {"examples": ["auto", "Gb major", "F#m"]},
    "scale": {"examples": ["C minor", "D dorian"]},
    "scale_mode": {"enum": ["snap", "drop", "mark"]},
    "program": {"minimum": 0, "maximum": 127},
    "pitch_bends": {"enum": ["plain", "channels", "mpe", "none"]},
    "mark_below": {"minimum": 0, "maximum": 1},
}


class Problem(Exception):
    """An answer that is not what was asked for: a status, and one line that says why and what to do (RFC 9457)."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = HTTPStatus(status), detail, dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The problem details object."""
        return {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": printable(self.detail),
        }


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes on.

    Attributes
    ----------
    max_bytes : int
        Of a request's body.
    max_seconds : float
        How far into a recording is transcribed.
    jobs : int
        Recordings at a time.
    """

    max_bytes: int = 1_000_000_000
    max_seconds: float = 3 * 3600
    jobs: int = 2


@dataclass(frozen=True, slots=True)
class Order:
    """What a request asks for.

    Attributes
    ----------
    recipe : Recipe
    format : str
        Of :data:`FORMATS`.
    stream : str or None
        How progress is told before the result, one of :data:`STREAMS`; not at all if None.
    name : str
        What the recording is called; empty if that is not said.
    """

    recipe: Recipe
    format: str
    stream: str | None
    name: str


# --------------------------------------------------------------------------------------------------------------- order


@cache
def settings() -> Mapping[str, tuple[type, str]]:
    """Names of the settings, which are those of the command line, with their types and what they mean."""
    panels = (PARTS, NOTES, TIME, MIDI)
    found: dict[str, tuple[type, str]] = {}
    for name, hint in get_type_hints(Options, include_extras=True).items():
        options = [option for option in get_args(hint) if isinstance(option, typer.models.OptionInfo)]
        wanted = name == "preset" or (options and options[0].rich_help_panel in panels)
        if wanted and name not in _SHORTHANDS:
            kind = next(t for t in (bool, int, float, str) if t in (get_args(hint)[0], *get_args(get_args(hint)[0])))
            found[name] = kind, str(options[0].help)
    return found


def read_order(query: str, accept: str) -> Order:
    """What a request asks for in its query and its Accept header.

    Raises
    ------
    Problem
        If it cannot be had: 406, 422.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=100)
    except ValueError:
        raise Problem(422, "the query cannot be read; give settings as ?tempo=auto&polyphony=4") from None
    given = dict(pairs)
    if len(given) != len(pairs):
        raise Problem(422, "a setting is given twice; give it once")
    name, wanted = given.pop("name", ""), given.pop("format", None)
    if wanted is not None and wanted not in FORMATS:
        raise Problem(422, f"format is {wanted!r}; give {', '.join(FORMATS)}")
    known = settings()
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise Problem(422, f"there is no setting {unknown[0]!r}; {DESCRIPTION} lists them")
    values: dict[str, Any] = defaultdict(lambda: None)
    values |= {key: _value(key, known[key][0], text) for key, text in given.items()}
    chosen, stream = _negotiate(accept, wanted)
    values["musicxml"] = chosen == "musicxml"
    try:
        recipe = recipe_of(values)
    except UsageError as error:
        raise Problem(422, _as_settings(str(error))) from error
    return Order(recipe, chosen, stream, name)


def _value(name: str, kind: type, text: str) -> Any:
    """The value of a setting.

    Raises
    ------
    Problem
        If it is not of its kind.
    """
    if kind is bool:
        if text not in ("true", "false"):
            raise Problem(422, f"{name} is {text!r}; give true or false")
        return text == "true"
    if kind is int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise Problem(422, f"{name} is {text!r}; give a whole number")
        return int(text)
    if kind is float:
        if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
            raise Problem(422, f"{name} is {text!r}; give a number")
        return float(text)
    if not text:
        raise Problem(422, f"{name} is empty; give a value, or leave it out")
    return text


def _as_settings(message: str) -> str:
    """A message of the command line with settings in the place of its flags."""
    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda flag: flag[1].replace("-", "_"), message)


def _negotiate(accept: str, wanted: str | None) -> tuple[str, str | None]:
    """Format and stream that suit an Accept header best; a format that was asked for by name is always had.

    Raises
    ------
    Problem
        If there is nothing of the kind.
    """
    for media_range in _ranges(accept):
        if media_range in STREAMS:
            return wanted or "json", media_range
        for name, format_ in FORMATS.items():
            if wanted in (None, name) and any(_matches(media_range, kind) for kind in format_.media_types):
                return name, None
    if wanted:
        return wanted, None
    if not accept.strip():
        return "midi", None
    kinds = (*(f.media_types[0] for f in FORMATS.values()), *STREAMS)
    raise Problem(406, f"none of what is accepted can be given; accept one of {', '.join(kinds)}")


def _ranges(accept: str) -> list[str]:
    """Media ranges of an Accept header, the preferred ones first."""
    found = []
    for part in accept.split(","):
        media_range, quality = _RANGE.fullmatch(part), _QUALITY.search(part)
        weight = float(quality[1]) if quality else 1.0
        if media_range and weight:
            found.append((weight, media_range[1].lower()))
    return [media_range for _, media_range in sorted(found, key=lambda pair: -pair[0])]


def _matches(media_range: str, kind: str) -> bool:
    return media_range in ("*/*", kind, kind.split("/")[0] + "/*")


def plain_name(name: str) -> str:
    """A name given by a stranger, less folders, and fit for a title and a header."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in last if c.isprintable())[:200].strip(" .") or "recording"


# ---------------------------------------------------------------------------------------------------------------- work


@dataclass(frozen=True, slots=True)
class Answer:
    """The notes of a recording in the form that was asked for, and a name for a file of them."""

    content: bytes
    format: str
    name: str
    notes: int
    seconds: float
    warnings: tuple[str, ...]

    def warnings_header(self) -> str:
        """The warnings as a JSON list in ASCII: the first ones, as many as a header has room for."""
        kept = list(self.warnings)
        while len(text := json.dumps(kept)) > MOST_WARNINGS:
            del kept[-1]
        return text

    def event(self) -> dict[str, Any]:
        """All of it as one JSON object; MIDI in base64."""
        content: Any = (
            self.content.decode() if FORMATS[self.format].is_text else base64.b64encode(self.content).decode()
        )
        return {
            "format": self.format,
            "media_type": FORMATS[self.format].media_types[0],
            "name": self.name,
            "notes": self.notes,
            "seconds": round(self.seconds, 6),
            "warnings": list(self.warnings),
            "content": json.loads(content) if self.format == "json" else content,
        }


def transcribe(
    order: Order,
    file: BinaryIO,
    digest: str,
    transcriber: Transcriber,
    limits: Limits,
    progress: Callable[[float, float | None], None],
) -> Answer:
    """Transcribe one recording, with the bytes that the command line would write.

    Parameters
    ----------
    order : Order
    file : binary file object
        The recording.
    digest : str
        Its sha256.
    transcriber : Transcriber
    limits : Limits
    progress : callable
        Called with the seconds done, and the seconds in all if they are known. What it raises ends the work.

    Raises
    ------
    Problem
        If the recording cannot be transcribed, or is too long: 422.
    """
    recipe, name = order.recipe, plain_name(order.name)
    start = recipe.output.part.start

    def check(seconds: float, total: float | None) -> None:
        _check_length(start + max(seconds, total or 0), limits)
        progress(seconds, total)

    _check_length(start, limits)
    try:
        found = transcriber.transcribe(
            file, settings=recipe.tracker, part=recipe.output.part, beats=recipe.beats, progress=check
        )
        found = batch.shaped(found, recipe)
        extension = FORMATS[order.format].extension
        mark = batch.fingerprint(digest, batch.settings_fingerprint(recipe, transcriber))
        contents, warnings = outputs.render(found, (extension,), Path(name), recipe.output, mark)
    except TranscribeError as error:
        message = str(error).removeprefix(f"{printable(getattr(file, 'name', 'audio'))}: ")
        raise Problem(422, _as_settings(f"{name}: {message}")) from error
    return Answer(
        contents[extension],
        order.format,
        Path(name).stem + extension,
        len(found.notes),
        found.duration,
        (*found.warnings, *warnings),
    )


def _check_length(seconds: float, limits: Limits) -> None:
    if seconds > limits.max_seconds:
        raise Problem(
            422,
            f"the recording goes on to {clock(seconds)}, this server transcribes up to"
            f" {clock(limits.max_seconds)}; cut it, or give end",
        )


# --------------------------------------------------------------------------------------------------------- description


def health(transcriber: Transcriber) -> dict[str, Any]:
    """What the server is."""
    from . import __version__

    return {"status": "ok", "version": __version__, "model": transcriber.model.name}


def description(limits: Limits) -> dict[str, Any]:
    """The API as an OpenAPI 3.1 document."""
    from . import __version__

    notes = json.loads(JSON_SCHEMA.read_text(encoding="utf-8"))
    results = {
        kind: {"schema": {"$ref": "#/components/schemas/Notes"} if name == "json" else {"type": "string"}}
        for name, format_ in FORMATS.items()
        for kind in format_.media_types[:1]
    }
    streams: dict[str, Any] = {kind: {"schema": {"type": "string"}} for kind in STREAMS}
    upload = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"file": upload}, "required": ["file"]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "basic_transcribe",
            "version": __version__,
            "summary": "A recording in, its notes out.",
            "description": f"A body may have {limits.max_bytes} bytes, a recording {limits.max_seconds:g} seconds;"
            f" {limits.jobs} are transcribed at a time. Errors are problem details (RFC 9457).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            TRANSCRIBE: {
                "post": {
                    "operationId": "transcribe",
                    "summary": "Transcribe a recording.",
                    "description": "The settings are those of the command line. With `Accept: text/event-stream` or"
                    " `application/x-ndjson`, progress is told while the work goes on: events `progress` (`seconds`,"
                    " `total`), then `result` (`format`, `media_type`, `name`, `notes`, `seconds`, `warnings`,"
                    " `content`, with MIDI in base64) or `error` (a problem); as lines, an event is an object with"
                    " the key `event`. Closing the connection ends the work.",
                    "parameters": [_parameter(*item) for item in _parameters()],
                    "requestBody": {
                        "required": True,
                        "description": "The recording, as it is, or as the part `file` of a form.",
                        "content": {
                            "application/octet-stream": {"schema": upload},
                            "audio/*": {"schema": upload},
                            "multipart/form-data": {"schema": form},
                        },
                    },
                    "responses": {
                        "200": {
                            "description": "The notes.",
                            "headers": {
                                "Content-Disposition": {"schema": {"type": "string"}},
                                WARNINGS: {
                                    "schema": {"type": "string", "contentMediaType": "application/json"},
                                    "description": "What is doubtful about them, a list of strings, if anything is.",
                                },
                            },
                            "content": {**results, **streams},
                        },
                        **_problems(400, 403, 406, 408, 411, 413, 422, 500, 503, 507),
                    },
                }
            },
            HEALTH: {"get": _get("health", "Whether the server is there, and with which model.", _HEALTH)},
            DESCRIPTION: {"get": _get("description", "This description.", {"type": "object", "required": ["openapi"]})},
        },
        "components": {"schemas": {"Notes": notes, "Problem": _PROBLEM}},
    }


_HEALTH = {
    "type": "object",
    "properties": {"status": {"const": "ok"}, "version": {"type": "string"}, "model": {"type": "string"}},
    "required": ["status", "version", "model"],
}
_PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "One line: what is wrong, and what to do."},
    },
    "required": ["type", "title", "status", "detail"],
}
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string"}


def _parameters() -> list[tuple[str, dict[str, Any], str]]:
    own: list[tuple[str, dict[str, Any], str]] = [
        ("format", {"type": "string", "enum": list(FORMATS)}, "Form of the notes; as Accept says if omitted, or MIDI."),
        ("name", {"type": "string"}, "Name of the recording, for the title and the name of the result."),
    ]
    for name, (kind, help_) in settings().items():
        empty = {"minLength": 1} if kind is str else {}
        own.append((name, {"type": _KINDS[kind], **empty, **_SCHEMAS.get(name, {})}, help_))
    return own


def _parameter(name: str, schema: dict[str, Any], help_: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": help_}


def _get(name: str, summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    answer = {"description": summary, "content": {"application/json": {"schema": schema}}}
    return {"operationId": name, "summary": summary, "responses": {"200": answer, **_problems(400, 403)}}


def _problems(*statuses: int) -> dict[str, Any]:
    problem = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        str(status): {"description": HTTPStatus(status).phrase, "content": problem}
        | ({"headers": {"Retry-After": {"schema": {"type": "integer"}}}} if status == 503 else {})
        for status in statuses
    }
