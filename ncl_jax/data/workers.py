"""Threads that fill batches of arrays, a few batches ahead, where one bad record spoils nothing."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ncl_jax.data.pictures import BadImage

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
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fill(
    batches: Iterable[Sequence[Item]],
    function: Callable[[Item], Mapping[str, Any]],
    specs: Specs,
    *,
    size: int,
    threads: int | None = None,
) -> Iterator[Filled[Item]]:
    """`function` over the items of each batch (of at most `size`), in order.

    The row of an item for which it raises BadImage or OSError stays zero and is not filled. `threads`: one per core.
    """
    threads = threads or cores()
    with ThreadPoolExecutor(threads, "pictures") as pool:
        waiting: deque[tuple[Filled[Item], list[Future]]] = deque()
        for items in batches:
            waiting.append(_start(pool, items, function, specs, size, threads * SHARES))
            if len(waiting) > AHEAD:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())


def _start(pool, items, function, specs: Specs, size: int, shares: int):
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

    return batch, [pool.submit(share, range(first, len(items), shares)) for first in range(min(shares, len(items)))]


def _finished(batch: Filled, futures: list[Future]) -> Filled:
    for future in futures:
        future.result()
    return batch
