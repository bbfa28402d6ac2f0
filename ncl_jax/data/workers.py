"""Threads that fill batches of arrays, a few batches ahead, where one bad record spoils nothing."""

import contextlib
import functools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ncl_jax.data.pictures import BadImage

CGROUP = Path("/sys/fs/cgroup")  # what a container is given
# Microseconds of processor time, and in how many it has them: in one file or, by the kernel's older way, in two.
QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
MOST = 32  # threads: more would wait for Python's lock
AHEAD = 2  # batches under way beside the one that is waited for
SHARES = 2  # parts of a batch per thread: records differ in size

Item = TypeVar("Item")
Specs = Mapping[str, tuple[tuple[int, ...], type]]  # of a row's arrays: shape and dtype


class Filled(NamedTuple, Generic[Item]):
    """A batch: its items, an array per name with a row for each (at least `size` rows), and which rows are filled."""

    items: Sequence[Item]
    arrays: dict[str, np.ndarray]
    filled: np.ndarray


def cores() -> int:
    """Processor cores that this process may use: of the machine's, or of what a container has of them."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, _quota() or allowed)


@functools.cache
def _quota() -> int | None:
    """The cores' worth of time that a container's processes are given, rounded up; None: as much as there is."""
    for files in QUOTAS:
        try:
            time, period = (int(word) for file in files for word in (CGROUP / file).read_text().split())
        except (OSError, ValueError):  # not this way, or "max"
            continue
        if time > 0:  # -1: as much as there is
            return -(-time // period)
    return None


@contextlib.contextmanager
def pool(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads for what a generator makes; leaving it gives up what they have not begun and waits for nothing.

    A generator that nobody asks any more ends where the garbage collector comes by, which may be within the start of
    another thread: to wait for threads there is to wait for ever.
    """
    made = ThreadPoolExecutor(threads, name)
    try:
        yield made
    finally:
        made.shutdown(wait=False, cancel_futures=True)


def fill(
    batches: Iterable[Sequence[Item]],
    function: Callable[[Item], Mapping[str, Any]],
    specs: Specs,
    *,
    size: int,
    threads: int | None = None,
) -> Generator[Filled[Item], None, None]:
    """`function` over the items of each batch (of at most `size`), in order.

    The row of an item for which it raises BadImage or OSError stays zero and is not filled. `threads`: one per core, at
    the most MOST.
    """
    threads = threads or min(cores(), MOST)
    with pool(threads, "pictures") as readers:
        waiting: deque[tuple[Filled[Item], list[Future]]] = deque()
        for items in batches:
            waiting.append(_start(readers, items, function, specs, size, threads * SHARES))
            if len(waiting) > AHEAD:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())


def _start(readers, items, function, specs: Specs, size: int, shares: int):
    arrays = {name: np.zeros((size, *shape), dtype) for name, (shape, dtype) in specs.items()}
    batch = Filled(items, arrays, np.zeros(size, bool))

    def share(rows: range) -> None:
        for row in rows:
            try:
                made = function(items[row])
            except (BadImage, OSError):
                continue
            for name, array in arrays.items():
                array[row] = made[name]
            batch.filled[row] = True

    return batch, [readers.submit(share, range(first, len(items), shares)) for first in range(min(shares, len(items)))]


def _finished(batch: Filled, futures: list[Future]) -> Filled:
    for future in futures:
        future.result()
    return batch
