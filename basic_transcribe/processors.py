"""How many processors there are to use, work shared out among them, and a process that does nothing else."""

from __future__ import annotations

import gc
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CGROUPS = Path("/sys/fs/cgroup")
KEPT_BYTES = 16 << 20  # freed memory that a process keeps for itself


def available_cpus() -> int:
    """Processors this process may use: its affinity, and the quotas of its control groups (Linux containers)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *(math.ceil(quota) for quota in _quotas())]))


def single_threaded() -> bool:
    """Whether this process is known to have one thread; those of libraries count."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:  # not Linux
        return False


def settle_in() -> None:
    """Arrange memory for transcribing, in a process that does nothing else: the command line and its workers.

    Notes come and go in great numbers, and nothing made for a recording refers to itself, so the collector of cycles
    need not look after so few. Large arrays come and go as well: by default glibc returns their memory and asks for it
    again, page by page, which takes a tenth of the time of short recordings.
    """
    gc.set_threshold(100_000)
    if sys.platform != "linux":
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc alone
    if mallopt is not None:
        mallopt(-1, KEPT_BYTES)  # M_TRIM_THRESHOLD of malloc.h
        mallopt(-3, KEPT_BYTES // 4)  # M_MMAP_THRESHOLD: of arrays as large as that each has memory of its own


def _quotas() -> Iterator[float]:
    """Processors that each control group of this process may use, where it has a limit."""
    try:
        lines = os.fsdecode(Path("/proc/self/cgroup").read_bytes()).splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):  # a limit holds for all groups below it
            if folder.is_relative_to(root):
                yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    """The limit of one group, of version 2 or 1."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((folder / name).read_text(encoding="utf-8") for name in names).split()
            if float(quota) > 0:
                yield float(quota) / float(period)
        except (OSError, ValueError, ZeroDivisionError):  # no such file; "max"
            continue


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Results of the items, in their order, found by so many threads.

    One of them is that of whoever takes the results: as long as the next is not there, it works on another. It alone
    takes items, at most ``threads`` and one more than have been given, so that none idles while results are taken.
    """
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        coming: deque[tuple[Item, Future[Result]]] = deque()

        alone = False

        def begun(item: Item) -> Future[Result]:
            nonlocal alone
            if not alone:
                try:
                    return pool.submit(work, item)
                except RuntimeError:  # no more threads can be started: Python ends, or there are too many
                    alone = True
            return _outcome(work, item)

        def help_out() -> bool:
            """Do the first that no other thread has begun; False if there is none."""
            for i, (item, future) in enumerate(coming):
                if future.cancel():
                    coming[i] = item, _outcome(work, item)
                    return True
            return False

        def first() -> Result:
            while not coming[0][1].done() and help_out():
                pass
            return coming.popleft()[1].result()

        try:
            for item in items:
                coming.append((item, begun(item)))
                if len(coming) > threads + 1:
                    yield first()
            while coming:
                yield first()
        finally:
            for _, future in coming:
                future.cancel()


def _outcome(work: Callable[[Item], Result], item: Item) -> Future[Result]:
    """What comes of the item, be it an error, as a thread would give it."""
    outcome: Future[Result] = Future()
    try:
        outcome.set_result(work(item))
    except Exception as error:
        outcome.set_exception(error)
    return outcome
