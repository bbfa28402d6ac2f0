"""Decoded images of small splits, kept from one reading to the next: on a GPU reading them again and again costs more
than all else that an evaluation does."""

from collections.abc import Callable, Hashable, Iterator

import numpy as np

ROOM = 2**30  # bytes of a process's memory

Batch = dict[str, np.ndarray]


class KeptBatches:
    """Batches by key, up to `room` bytes in all; what came first stays."""

    def __init__(self, room: int = ROOM) -> None:
        self._kept: dict[Hashable, list[Batch]] = {}
        self._room = room

    def read(self, key: Hashable, read: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
        """The batches of `read()`, which is called only where those of this key are not kept. Nobody may change them.

        Half a reading is not kept.
        """
        if key in self._kept:
            yield from self._kept[key]
            return
        batches, size = [], 0
        for batch in read():
            size += sum(array.nbytes for array in batch.values())
            if size <= self._room:
                for array in batch.values():
                    array.setflags(write=False)
                batches.append(batch)
            else:  # from here on they only pass through
                batches.clear()
            yield batch
        if size <= self._room and key not in self._kept:
            self._kept[key] = batches
            self._room -= size
