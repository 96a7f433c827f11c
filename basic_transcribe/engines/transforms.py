"""The pipeline of Apache Beam: list, name, transcribe, write. What is here runs on the workers of an engine.

Objects are reached through Beam's own file systems, which its own writing step uses anyway: one set of pipeline options
says how, on the machine that starts the pipeline and on the workers alike.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from ..batch import Recipe, Task, settings_fingerprint
from ..errors import OutputError, UsageError
from ..manifest import Entry, parse, to_line
from ..plan import Choice, Job, Result, check_outputs, is_recording
from ..running import signals
from .catalogue import Found, Item, assign, below, is_url, meet, parent, read_line

if TYPE_CHECKING:
    from ..pipeline import Transcriber

RESULTS, FAILED = "results", "failed"  # .jsonl, beside the outputs
NAMESPACE = "basic_transcribe"  # of the metrics
COUNTERS = ("files", "done", "skipped", "failures", "notes", "audio_milliseconds")
DISTRIBUTION = "milliseconds_per_file"
GONE = "no such object; check the path"
WHOLE_OBJECTS = ("azfs://", "gs://", "s3://")  # an object is there when all of it is; to rename it is to copy it


@dataclass(frozen=True)
class Source:
    """Where the recordings are.

    Attributes
    ----------
    url : str
        A pattern of paths, or a list of them (:func:`.catalogue.read_line`).
    root : str
        The folder whose tree is mirrored, with a slash at its end.
    is_list : bool
    anything : bool
        Whether all that matches is taken for a recording, whatever it is called.
    choice : Choice
    """

    url: str
    root: str
    is_list: bool = False
    anything: bool = False
    choice: Choice = field(default_factory=Choice)


# ------------------------------------------------------------------------------------------------------------- objects


def open_object(url: str) -> BinaryIO:
    """An object, or a file, to be read."""
    file: BinaryIO = FileSystems.open(url, compression_type=CompressionTypes.UNCOMPRESSED)
    return file


def fetch(url: str, path: Path) -> None:
    """Copy an object to a new file."""
    with open_object(url) as source, path.open("xb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def publish(url: str, data: bytes) -> None:
    """Write an object so that nobody ever sees half of it."""
    at_once = url.startswith(WHOLE_OBJECTS)
    written = url if at_once else f"{parent(url)}.{secrets.token_hex(8)}.tmp"
    try:
        with FileSystems.create(written, compression_type=CompressionTypes.UNCOMPRESSED) as target:
            target.write(data)
        if not at_once:
            if FileSystems.exists(url):  # not every file system replaces what has the name
                FileSystems.delete([url])
            FileSystems.rename([written], [url])
    except BaseException:
        if not at_once:
            with suppress(Exception):  # there may be none
                FileSystems.delete([written])
        raise


def size_and_time(metadata: FileMetadata) -> tuple[int, int]:
    """Bytes of an object, and when it was written, in nanoseconds."""
    return metadata.size_in_bytes, round(metadata.last_updated_in_seconds * 1e9)


def innermost(error: Exception) -> Exception:
    """What an error of Beam's file systems stands for."""
    while isinstance(error, BeamIOError) and error.exception_details:
        error = next(iter(error.exception_details.values()))
    return error


def lasting(error: Exception) -> str | None:
    """What is wrong, if trying again would not help: the object is not there, or not ours to read."""
    error = innermost(error)
    number, code = getattr(error, "errno", None), getattr(error, "code", None)  # of the system; of HTTP
    if number == errno.ENOENT or code in (404, 410):
        return GONE
    if number in (errno.EACCES, errno.EPERM) or code in (401, 403):
        return "may not be read; check access"
    if number == errno.ENAMETOOLONG or isinstance(error, UnicodeError):
        return "its name cannot be that of a file; rename it"
    return None


# --------------------------------------------------------------------------------------------------------------- steps


def find(source: Source) -> Iterator[Found]:
    """The recordings of a source.

    Raises
    ------
    UsageError
        If it is meant to be a list, and is none.
    """
    if source.is_list:
        with open_object(source.url) as lines:
            for number, line in enumerate(lines, 1):
                found = read_line(line, source.url, number)
                if found is not None and source.choice.matches(found.relative):
                    yield found
        return
    for metadata in FileSystems.match([source.url])[0].metadata_list:
        relative = below(metadata.path, source.root)
        audible = source.anything or is_recording(Path(relative))
        if audible and source.choice.matches(relative):
            yield Found(metadata.path, relative, None, *size_and_time(metadata))


def read_results(url: str) -> Iterator[Entry]:
    """What an earlier run has written. Lines that are not ours are passed over."""
    with open_object(url) as lines:
        for line in lines:
            try:
                entry = parse(line)
            except UsageError:  # it would lead out of the folder
                continue
            if entry is not None:
                yield entry


def by_path(one: Found | Entry) -> tuple[bytes, Found | Entry]:
    """With the path or URL of the recording."""
    return _key(one.url if isinstance(one, Found) else one.input), one


def by_group(same: tuple[bytes, dict[str, Iterable[Any]]]) -> Iterator[tuple[bytes, tuple[Found | None, Entry | None]]]:
    """What has the same path, with what all have in common that could get the same name."""
    for group, one, known in meet(same[1]["found"], same[1]["earlier"]):
        yield _key(group), (one, known)


def _key(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # names of files, and JSON, may be made of anything


class Name(beam.DoFn):  # type: ignore[misc]  # Beam's types are not used: they are half there
    """Gives the recordings of a group their names.

    Yields :class:`Item`; entries tagged ``failed``, on those that can have none, and ``others``, on what earlier runs
    have done beside them.
    """

    def process(self, group: tuple[bytes, Iterable[tuple[Found | None, Entry | None]]]) -> Iterator[Any]:
        pairs = list(group[1])
        items, failed, others = assign([one for one, _ in pairs if one], [known for _, known in pairs if known])
        yield from items
        for tag, entries in (("failed", failed), ("others", others)):
            for entry in entries:
                yield beam.pvalue.TaggedOutput(tag, entry)
        _count(files=len(failed), failures=len(failed))


class Transcribe(beam.DoFn):  # type: ignore[misc]
    """Transcribes each :class:`Item`, writes its outputs, and yields (entry, status).

    What is wrong with a recording is said by its entry. What the clients of the stores raise is raised where trying
    again may help: that is the engine's to do.

    Parameters
    ----------
    out : str
        Folder or prefix of all outputs.
    recipe : Recipe
    model : bytes or None
        Contents of the recipe's model, if it has one, so that workers need not have the file.
    """

    def __init__(self, out: str, recipe: Recipe, model: bytes | None = None) -> None:
        self._out, self._recipe, self._model = out, recipe, model
        self._shared = Shared()

    def setup(self) -> None:
        """Load the model, once in each process."""
        self._transcriber: Transcriber = self._shared.acquire(self._load)
        self._settings = settings_fingerprint(self._recipe, self._transcriber)

    def _load(self) -> Transcriber:
        if self._model is None:
            return self._recipe.load()
        with tempfile.TemporaryDirectory(prefix="basic_transcribe-") as folder:
            path = Path(folder, "model.onnx")
            path.write_bytes(self._model)
            return replace(self._recipe, model=path).load()

    def process(self, item: Item) -> Iterator[tuple[Entry, str]]:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="basic_transcribe-") as folder:
            visit = _Visit(item, self._out, self._recipe, self._settings, Path(folder))
            entry, status = visit.run(self._transcriber)
        _count(files=1, **{"failures" if status == "failed" else status: 1})
        if status == "done":
            _count(notes=entry.notes or 0, audio_milliseconds=round(1000 * (entry.seconds or 0)))
            Metrics.distribution(NAMESPACE, DISTRIBUTION).update(round(1000 * (time.monotonic() - started)))
        yield entry, status


def _count(**amounts: int) -> None:
    for name, amount in amounts.items():
        Metrics.counter(NAMESPACE, name).inc(amount)


class _Visit:
    """A recording's time on a worker: what is far away is brought here, what was made for far away is taken there."""

    def __init__(self, item: Item, out: str, recipe: Recipe, settings: str, private: Path) -> None:
        self._item, self._recipe, self._settings = item, recipe, settings
        self._url = item.found.url
        self._target = f"{out.rstrip('/')}/{item.name}"
        self._from_afar, self._to_afar = is_url(self._url), is_url(out)
        source = private / "in" / PurePosixPath(self._url).name if self._from_afar else Path(self._url)
        folder = private / "out" if self._to_afar else Path(self._target).parent
        # To the task, the copy is the recording.
        known = item.known and replace(item.known, input=str(source))
        self._job = Job(source, folder, PurePosixPath(self._target).name, self._url, known)

    def run(self, transcriber: Transcriber) -> tuple[Entry, str]:
        """The entry, and whether it is done, skipped or failed this time."""
        result = self._bring() or self._transcribe(transcriber)
        entry = result.entry or Entry(self._url, None, "failed", message=result.message)
        message = entry.message.replace(str(self._job.source), self._url)
        message = message.replace(str(self._job.output("")), self._target)
        return replace(entry, input=self._url, output=f"{self._item.name}.mid", message=message), result.status

    def _bring(self) -> Result | None:
        """A result if there is nothing to do, or nothing can be done."""
        job = self._job
        _, unfit = check_outputs([job], self._recipe.extensions)
        if unfit:
            return unfit[0]
        if not self._from_afar:
            strange = job.source.exists() and not job.source.is_file()
            return self._failed("not a regular file; give a recording") if strange else None
        try:
            size, written = self._size_and_time()
            if job.known is not None and self._settled(job.known, size, written):
                return Result(self._url, "failed" if job.known.status == "failed" else "skipped", "", entry=job.known)
            job.source.parent.mkdir()
            fetch(self._url, job.source)
        except Exception as error:  # the clients of the stores share no base class
            reason = lasting(error)
            if reason is None and isinstance(error, BeamIOError) and not FileSystems.exists(self._url):
                reason = GONE  # not every file system says so
            if reason is None:
                raise
            return self._failed(reason)
        os.utime(job.source, ns=(written, written))
        return None

    def _failed(self, message: str) -> Result:
        return Result(self._url, "failed", message, 1)

    def _size_and_time(self) -> tuple[int, int]:
        found = self._item.found
        if found.size is not None and found.mtime_ns is not None:
            return found.size, found.mtime_ns
        return size_and_time(FileSystems.get_filesystem(self._url).metadata(self._url))

    def _settled(self, known: Entry, size: int, written: int) -> bool:
        """Whether what is known is the answer, so that the object need not be read."""
        if (known.size, known.mtime_ns, known.fingerprint) != (size, written, self._settings):
            return False
        if known.status == "failed":
            return not self._recipe.retry_failed
        exists = FileSystems.exists
        return not self._recipe.overwrite and all(exists(self._target + e) for e in self._recipe.extensions)

    def _transcribe(self, transcriber: Transcriber) -> Result:
        job, extensions = self._job, self._recipe.extensions
        there = self._fetch_outputs() if self._to_afar else {}
        with signals.held_back():  # where Beam works in the process of the command
            result = Task(job, self._recipe, self._settings).run(transcriber, lambda *_: signals.check())
        if self._to_afar:
            if result.exit_code == OutputError.exit_code:
                raise OutputError(f"{self._url}: {result.message}")  # this worker's disk, not the recording
            for extension in extensions:
                path = job.output(extension)
                if path.exists() and path.stat().st_ino != there.get(extension):
                    publish(self._target + extension, path.read_bytes())
        return result

    def _fetch_outputs(self) -> dict[str, int]:
        """Bring the outputs that exist, with their times; their inodes, since what the task writes has others."""
        inodes = {}
        for extension in () if self._recipe.overwrite else self._recipe.extensions:
            path = self._job.output(extension)
            if FileSystems.exists(self._target + extension):
                fetch(self._target + extension, path)
                _, written = size_and_time(FileSystems.get_filesystem(self._target).metadata(self._target + extension))
                os.utime(path, ns=(written, written))
                inodes[extension] = path.stat().st_ino
        return inodes


# ------------------------------------------------------------------------------------------------------------ pipeline


def build(
    pipeline: beam.Pipeline,
    source: Source,
    out: str,
    recipe: Recipe,
    *,
    model: bytes | None = None,
    again: bool = False,
) -> None:
    """Put all steps into a pipeline.

    Parameters
    ----------
    pipeline : Pipeline
    source : Source
    out : str
        Folder or prefix of all outputs: an absolute path or a URL.
    recipe : Recipe
    model : bytes or None
        Contents of the recipe's model, if it has one.
    again : bool
        There are results of an earlier run.
    """
    results = f"{out.rstrip('/')}/{RESULTS}"
    found = (
        pipeline | "Source" >> beam.Create([source]) | "Find" >> beam.FlatMap(find) | "Key found" >> beam.Map(by_path)
    )
    earlier = (
        pipeline
        | "Earlier results" >> beam.Create([f"{results}.jsonl"] if again else [])
        | "Read results" >> beam.FlatMap(read_results)
        | "Key results" >> beam.Map(by_path)
    )
    named = (
        {"found": found, "earlier": earlier}
        | "Meet" >> beam.CoGroupByKey()
        | "Key pairs" >> beam.FlatMap(by_group)
        | "Group" >> beam.GroupByKey()
        | "Name" >> beam.ParDo(Name()).with_outputs("failed", "others", main="items")
    )
    done = named["items"] | beam.Reshuffle() | "Transcribe" >> beam.ParDo(Transcribe(out, recipe, model))
    entries = done | "Entry" >> beam.Map(lambda pair: pair[0])
    failed = done | "Failed" >> beam.Filter(lambda pair: pair[1] == "failed") | beam.Map(lambda pair: pair[0])
    _write((entries, named["failed"], named["others"]), "Results", results)
    _write((failed, named["failed"]), "Dead letters", f"{out.rstrip('/')}/{FAILED}")


def _write(entries: tuple[beam.PCollection[Entry], ...], name: str, prefix: str) -> None:
    """One file of lines, or none: of several, a later run could leave some of this one standing."""
    table = beam.io.WriteToText(
        prefix, ".jsonl", num_shards=1, shard_name_template="", coder=BytesCoder(), skip_if_empty=True
    )
    _ = (
        entries
        | f"{name}: together" >> beam.Flatten()
        | f"{name}: lines" >> beam.Map(lambda entry: to_line(entry).rstrip(b"\n"))
        | name >> table
    )
