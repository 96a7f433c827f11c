"""Work shared out among processors, and how many there are."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from basic_transcribe import processors


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
def test_results_come_in_order(threads: int, count: int) -> None:
    assert list(processors.in_order(str, range(count), threads)) == [str(i) for i in range(count)]


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_files_of_the_system_are_read_in_one_encoding() -> None:
    code = "from basic_transcribe.processors import available_cpus; available_cpus()"
    strict = ("-X", "warn_default_encoding", "-W", "error::EncodingWarning")
    subprocess.run([sys.executable, *strict, "-c", code], cwd=Path(__file__).parent.parent, check=True)


@pytest.mark.parametrize("threads", [1, 3])
def test_items_are_taken_a_few_ahead_and_in_the_callers_thread(threads: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            assert threading.current_thread() is threading.main_thread()
            taken.append(i)
            yield i

    results = processors.in_order(lambda i: -i, items(), threads)
    assert list(islice(results, 10)) == [-i for i in range(10)]
    assert 10 <= len(taken) <= 10 + threads + 1


def test_items_are_at_work_side_by_side() -> None:
    """Each waits until another has begun."""
    barrier = threading.Barrier(2, timeout=30)
    assert len(list(processors.in_order(lambda _: barrier.wait(), range(6), 2))) == 6


@pytest.mark.parametrize("threads", [2, 3])
def test_the_callers_thread_works_too_and_no_more_than_are_asked_for(threads: int) -> None:
    barrier, workers = threading.Barrier(threads, timeout=30), set()

    def work(i: int) -> None:
        workers.add(threading.get_ident())
        if i < threads:
            barrier.wait()

    list(processors.in_order(work, range(100), threads))
    assert len(workers) == threads
    assert threading.get_ident() in workers


def test_a_failure_comes_after_the_results_before_it() -> None:
    held = threading.Event()

    def work(i: int) -> int:
        if i == 0:
            held.wait(30)  # while the caller's thread does the next, which fails
        elif i == 1:
            held.set()
            raise ValueError(i)
        return i

    results = processors.in_order(work, range(5), 2)
    assert next(results) == 0
    with pytest.raises(ValueError, match="1"):
        next(results)


def test_an_interruption_is_not_kept_for_later() -> None:
    held = threading.Event()

    def work(i: int) -> int:
        if threading.current_thread() is threading.main_thread():
            held.set()
            raise KeyboardInterrupt
        held.wait(30)
        return i

    with pytest.raises(KeyboardInterrupt):
        next(processors.in_order(work, range(5), 2))


def test_a_failure_comes_out_and_ends_the_work() -> None:
    begun: list[int] = []

    def work(i: int) -> int:
        begun.append(i)
        return 1 // (3 - i)

    results = processors.in_order(work, range(1000), 2)
    with pytest.raises(ZeroDivisionError):
        list(results)
    assert len(begun) < 10


@pytest.mark.parametrize(
    "last", ["threading.Thread(target=lambda: (main.join(), late())).start()", "atexit.register(late)"]
)
def test_work_is_done_when_python_starts_no_threads_any_more(last: str) -> None:
    code = f"""
import atexit, threading
from basic_transcribe.processors import in_order
main = threading.main_thread()
def late():
    print(list(in_order(lambda i: -i, range(9), 3)))
{last}
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True
    )
    assert result.stdout.strip() == str([-i for i in range(9)]), result.stderr


@pytest.mark.parametrize(
    ("group", "files", "limit"),
    [
        ("0::/", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/gone", {}, None),
        ("4:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}, 1),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("3:memory:/a", {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_quotas_of_containers_count(
    group: str, files: dict[str, str], limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: group.encode() if p == Path("/proc/self/cgroup") else read(p))
    monkeypatch.setattr(processors, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    assert processors.available_cpus() == (limit or 8)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in Linux's /proc")
def test_threads_are_counted() -> None:
    code = """
import threading
from basic_transcribe.processors import single_threaded
assert single_threaded()
over = threading.Event()
thread = threading.Thread(target=over.wait)
thread.start()
assert not single_threaded()
over.set()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc gives memory back, and is told not to")
def test_freed_memory_is_used_again() -> None:
    code = """
import gc, resource, sys
import numpy as np
from basic_transcribe import processors
if sys.argv[1] == "settled":
    processors.settle_in()
    assert gc.get_threshold()[0] > 10_000
for i in range(60):
    if i == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(250_000, np.float32) for _ in range(10)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    # As glibc begins: left to itself it may learn from the first arrays, and then there is nothing to compare with.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(128 << 10)}

    def faults(how: str) -> int:
        command = [sys.executable, "-c", code, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)

    assert faults("settled") < 500 < faults("plain")
