"""A catalogue of recordings: which they are and what their outputs are called, one small group at a time.

Pure functions. Nothing here needs all of the catalogue in one place, so an engine can spread it over machines.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from ..errors import UsageError
from ..manifest import Entry, is_possible, listed_output, system
from ..plan import folded, with_digest

LISTS = (".jsonl", ".txt")
_SCHEME = re.compile(r"[A-Za-z][-A-Za-z0-9+.]*://")


@dataclass(frozen=True, slots=True)
class Found:
    """One recording, before its outputs have a name.

    Attributes
    ----------
    url : str
        Absolute path, or URL of an object.
    relative : str
        What its outputs are called after: its path below what was searched, with slashes.
    output : str or None
        Path of its MIDI file, if a list says so.
    size, mtime_ns : int or None
        Of an object, if the listing said so.
    """

    url: str
    relative: str
    output: str | None = None
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One recording, and what its outputs are called.

    Attributes
    ----------
    found : Found
    name : str
        Path of the outputs below that of all outputs, to which ``.mid`` and the like are added.
    known : Entry or None
        What an earlier run says of it.
    """

    found: Found
    name: str
    known: Entry | None = None


def is_url(path: str) -> bool:
    """Whether it is an object of some store, not a path of this machine."""
    return _SCHEME.match(path) is not None


def absolute(path: str, folder: str = "") -> str:
    """A URL as it is, a path made absolute; relative ones lie below ``folder``, the current one if empty."""
    if is_url(path):
        return path
    if is_url(folder) and not path.startswith("/"):
        return folder.rstrip("/") + "/" + path
    return os.path.abspath(os.path.join("" if is_url(folder) else folder, path))


def below(url: str, root: str) -> str:
    """Path below a folder (:func:`as_folder`), with slashes; of what lies elsewhere all but the scheme or drive."""
    path = url if is_url(url) else url.replace(os.sep, "/")
    if url.startswith(root):
        return path[len(root) :]
    return (_SCHEME.sub("", path) if is_url(url) else os.path.splitdrive(path)[1]).lstrip("/")


def parent(url: str) -> str:
    """The folder of a path or URL, as :func:`as_folder` gives it."""
    return url.rpartition("/")[0] + "/" if is_url(url) else as_folder(os.path.dirname(url))


def as_folder(url: str) -> str:
    """A folder or prefix with a slash at its end, or what its system has instead."""
    return url.rstrip("/") + "/" if is_url(url) else os.path.join(url, "")


def read_line(line: bytes, source: str, number: int) -> Found | None:
    """The recording that a line of a list names; None if the line is empty.

    A ``.jsonl`` list has lines such as ``{"input": "a.wav", "output": "a.mid"}``, the output being optional and other
    keys meaning nothing; any other has a path or URL a line. Relative paths lie in the folder of the list. A byte order
    mark, which editors on Windows put before the first line, means nothing.

    Parameters
    ----------
    line : bytes
        With or without its end.
    source : str
        Absolute path or URL of the list.
    number : int
        Of the line, from 1, for messages.

    Raises
    ------
    UsageError
        If it is something else, or its output lies outside the folder of outputs.
    """
    where = f"{source}, line {number}"
    objects = source.lower().endswith(".jsonl")
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
        data = json.loads(text) if objects and text else {"input": text}
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not isinstance(data.get("input"), str) or "\0" in data["input"]:
        wanted = '{"input": "a.wav", "output": "a.mid"}' if objects else "songs/a.wav, in UTF-8"
        raise UsageError(f"{where}: not a recording; give lines such as {wanted}")
    if not data["input"]:
        return None
    output = listed_output(data, where)
    url = absolute(data["input"], parent(source))
    return Found(url, below(url, parent(source)), None if output is None else str(output))


def group_of(path: str) -> str:
    """A key that all have in common whose outputs could get the same name, by their paths below what was searched."""
    folder, name = posixpath.split(path)
    return folded(posixpath.join(folder, name.partition(".")[0]))


def meet(found: Iterable[Found], earlier: Iterable[Entry]) -> Iterator[tuple[str, Found | None, Entry | None]]:
    """What there is of one path or URL, for the groups that should know of it.

    Parameters
    ----------
    found : iterable of Found
        A list may name a recording several times; one with an output counts, if there is any.
    earlier : iterable of Entry
        Of an earlier run, in any order. Of several, one that did not fail counts.

    Yields
    ------
    group : str
        Where it gets a name, or where the name that it has is somebody's.
    one : Found or None
        The recording, if it gets its name there.
    known : Entry or None
        What an earlier run says of it; without an input where it only tells of a name that is being left.
    """
    one = min(found, key=_order, default=None)
    known = min(earlier, key=lambda entry: (entry.status == "failed", entry.output or ""), default=None)
    kept = known.output if known else None
    listed = one.output if one else None
    # What has no name is in nobody's way.
    yield group_of(listed or kept or (one.relative if one else "")), one, known
    if known and kept and listed and group_of(listed) != group_of(kept):
        yield group_of(kept), None, replace(known, input="")


def assign(found: Iterable[Found], earlier: Iterable[Entry]) -> tuple[list[Item], list[Entry], list[Entry]]:
    """Names for the outputs of one group (:func:`group_of`), all different, letter case and Unicode form aside.

    As in a batch: what has a name from an earlier run keeps it, unless a list gives that to another; ``sub/a.wav`` is
    called ``sub/a``, or ``sub/a.wav`` where that would be the name of several, or gets a digest of its path.

    Parameters
    ----------
    found : iterable of Found
    earlier : iterable of Entry
        Of earlier runs, older ones first; those without an input tell of a name only.

    Returns
    -------
    items : list of Item
        By name.
    failed : list of Entry
        What has no place.
    others : list of Entry
        The earlier entries on other inputs.
    """
    earlier = list(earlier)
    known = {entry.input: entry for entry in earlier if entry.input}
    once = {one.url: one for one in sorted(found, key=_order, reverse=True)}  # the first of an order counts
    recordings = sorted(once.values(), key=_order)
    failures: dict[str, str] = {}
    names: dict[Found, str] = {}
    owners: dict[str, str] = {}
    for one in recordings:
        if {"", ".", ".."} & set(one.relative.split("/")):
            failures[one.url] = "its path has an empty part, . or ..; move it"
        elif not is_possible(PurePosixPath(one.relative)):  # such as that of an object of a store
            failures[one.url] = f"its path has a part that {system()} does not allow; rename it"
        elif one.output is not None:
            _claim(one, one.output.removesuffix(".mid"), names, owners)
            if one not in names:
                owner = owners[one.output.removesuffix(".mid").casefold()]
                failures[one.url] = f"its output {one.output} is that of {owner}; give it another"
    for one in recordings:
        entry = known.get(one.url)
        if one.output is None and one.url not in failures and entry is not None and entry.output is not None:
            _claim(one, entry.output.removesuffix(".mid"), names, owners)
    listed = set(owners)
    for entry in earlier:
        if entry.output is not None:
            owners.setdefault(entry.output.removesuffix(".mid").casefold(), entry.input)
    free = [one for one in recordings if one not in names and one.url not in failures]
    # What lost the name for which it is here belongs to another group, whose names are not known here.
    names |= {one: _digest(one) for one in free if _is_stray(one, known.get(one.url))}
    names |= _choose([one for one in free if one not in names], owners)
    items = [Item(one, name, _known_as(name, known.get(one.url))) for one, name in names.items()]
    failed = [Entry(url, None, "failed", message=reason) for url, reason in sorted(failures.items())]
    others = [
        entry
        for url, entry in known.items()
        if url not in once and (entry.output or "").removesuffix(".mid").casefold() not in listed
    ]
    return sorted(items, key=lambda item: item.name), failed, others


def _order(one: Found) -> tuple[bool, str, str]:
    return one.output is None, one.output or "", one.url


def _claim(one: Found, name: str, names: dict[Found, str], owners: dict[str, str]) -> None:
    if owners.setdefault(name.casefold(), one.url) == one.url:
        names[one] = name


def _known_as(name: str, known: Entry | None) -> Entry | None:
    """What is known, if it is of this name: what lies under another may be somebody else's."""
    return known if known and known.output == f"{name}.mid" else None


def _is_stray(one: Found, known: Entry | None) -> bool:
    return known is not None and known.output is not None and group_of(known.output) != group_of(one.relative)


def _choose(free: list[Found], taken: Mapping[str, str]) -> dict[Found, str]:
    """Names for those that have none, none of them taken."""
    names = {one: str(PurePosixPath(one.relative).with_suffix("")) for one in free}
    for group in _clashes(names, taken):
        whole = {one: one.relative for one in group}
        names |= {one: _digest(one) for one in group} if _clashes(whole, taken) else whole
    for group in _clashes(names, taken):  # a new name may be one that another recording had all along
        names |= {one: _digest(one) for one in group}
    return names


def _clashes(names: Mapping[Found, str], taken: Mapping[str, str]) -> list[list[Found]]:
    groups: dict[str, list[Found]] = {}
    for one, name in names.items():
        groups.setdefault(folded(name), []).append(one)
    owned = set(map(folded, taken))
    return [group for key, group in groups.items() if len(group) > 1 or key in owned]


def _digest(one: Found) -> str:
    return with_digest(one.relative, one.url)
