"""Decoded images of small splits, kept from one reading to the next: on a GPU reading them again and again costs more
than all else that an evaluation does."""

import contextlib
import threading
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np

ROOM = 2**30  # bytes of a process's memory

Batch = dict[str, np.ndarray]


class KeptBatches:
    """Batches by key; what came first stays. `room`: how many bytes more are kept."""

    def __init__(self, room: int = ROOM) -> None:
        self._kept: dict[Hashable, list[Batch]] = {}
        self._ahead: dict[Hashable, Future[None]] = {}
        self.room = room

    def read(self, key: Hashable, read: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
        """The batches of `read()`, which is called only where those of this key are not kept. Nobody may change them.

        Half a reading is not kept.
        """
        if key in self._ahead:
            wait([self._ahead[key]])  # whatever went wrong goes wrong here again
        yield from self._read(key, read)

    @contextlib.contextmanager
    def reading(self, ahead: Mapping[Hashable, Callable[[], Iterator[Batch]]]) -> Iterator[None]:
        """Read these in the background, one after the other, while the block runs; who asks for one waits for it."""
        stop = threading.Event()

        def through(key: Hashable, read: Callable[[], Iterator[Batch]]) -> None:
            with contextlib.closing(self._read(key, read)) as batches:
                while not stop.is_set() and next(batches, None):
                    pass

        with ThreadPoolExecutor(1, "ahead") as pool:
            self._ahead = {key: pool.submit(through, key, read) for key, read in ahead.items()}
            try:
                yield
            finally:
                stop.set()
                self._ahead = {}

    def _read(self, key: Hashable, read: Callable[[], Iterator[Batch]]) -> Generator[Batch]:
        if key in self._kept:
            yield from self._kept[key]
            return
        batches, size = [], 0
        for batch in read():
            size += sum(array.nbytes for array in batch.values())
            if size <= self.room:
                for array in batch.values():
                    array.setflags(write=False)
                batches.append(batch)
            else:  # from here on they only pass through
                batches.clear()
            yield batch
        if size <= self.room and key not in self._kept:
            self._kept[key] = batches
            self.room -= size
