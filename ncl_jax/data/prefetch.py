"""Batches on the devices before the step asks for them. Needs no TensorFlow."""

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

_DEPTH = 2  # batches on the devices beside the one in use


class Source(Protocol):
    """An iterator of host batches that knows where it stands."""

    @property
    def position(self) -> dict[str, int]: ...

    def __next__(self) -> Mapping[str, np.ndarray]: ...

    def close(self) -> None: ...


class Prefetch:
    """Iterator of (global batch, position behind it), filled by a thread; a context manager that ends the thread and
    closes the source.

    Every array of a host batch is this process's part of a global array with `sharding` (its leading axis). An
    exception of the source is raised by the `next` that would have returned its batch, and by every later one.
    `waited` is the time in seconds that `next` has waited in all.
    """

    def __init__(self, source: Source, sharding: jax.sharding.Sharding):
        self._source, self._sharding = source, sharding
        self._queue: queue.Queue[tuple[Any, Any, BaseException | None]] = queue.Queue(_DEPTH)
        self._closed = threading.Event()
        self._error: BaseException | None = None
        self.waited = 0.0
        self._thread = threading.Thread(target=self._fill, name="prefetch", daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        error: BaseException | None = None
        while error is None and not self._closed.is_set():
            batch = position = None
            try:
                host = next(self._source)
                position = dict(self._source.position)
                batch = {key: self._put(value) for key, value in host.items()}
            except BaseException as caught:  # raised in the thread of the caller
                error = caught
            while not self._closed.is_set():
                try:
                    self._queue.put((batch, position, error), timeout=0.1)
                    break
                except queue.Full:
                    continue

    def _put(self, value: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(self._sharding, value)

    def __iter__(self) -> Iterator[tuple[dict[str, jax.Array], dict[str, int]]]:
        return self

    def __next__(self) -> tuple[dict[str, jax.Array], dict[str, int]]:
        if self._error is not None:
            raise self._error
        if self._closed.is_set():
            raise StopIteration
        start = time.perf_counter()
        batch, position, error = self._queue.get()
        self.waited += time.perf_counter() - start
        if error is not None:
            self._error = error
            raise error
        return batch, position

    def close(self) -> None:
        """End the thread, close the source and let go of the batches that wait; may be called twice."""
        self._closed.set()
        self._thread.join()
        self._source.close()
        while not self._queue.empty():
            self._queue.get_nowait()

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
