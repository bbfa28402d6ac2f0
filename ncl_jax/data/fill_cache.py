"""A dataset's records onto the devices, once, before training: what `device_cache` keeps."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ncl_jax import progress
from ncl_jax.data import decoders, device_cache, rows, workers
from ncl_jax.data.datasets import Dataset
from ncl_jax.data.device_cache import Cache
from ncl_jax.errors import UserError

log = logging.getLogger(__name__)

TOGETHER = 256  # records decoded at a time; so far, at most, is a bad one from the one that takes its place


def side_of(dataset: Dataset, image_size: int) -> int:
    """The side in pixels to keep images at where none is chosen: their own if all are one square, else the views'."""
    shape = dataset.image_shape
    return shape[0] if shape and shape[0] == shape[1] else image_size


def fill(
    dataset: Dataset,
    *,
    side: int,
    mesh: Mesh,
    max_bad_share: float = 0.01,
    threads: int | None = None,
) -> Cache:
    """Every image, squeezed to a square of `side` pixels, on the devices; each process reads what its devices hold.

    A record that does not decode is named in the log, and the nearest that does takes its place. How far it is stands
    there every half a minute. Raises UserError for what does not fit, before anything is read; for more bad records
    than `max_bad_share`; and for damaged files.
    """
    device_cache.check_fits(dataset.num_examples, side, mesh)
    dataset = dataclasses.replace(dataset, textures=())
    reader = _Reader(dataset, side, threads)
    cache = device_cache.place(reader.part, reader.columns, count=dataset.num_examples, side=side, mesh=mesh)
    bad = reader.bad
    if jax.process_count() > 1:  # all of them know, and stop together
        bad = int(np.sum(multihost_utils.process_allgather(np.array(bad))))
    if bad > max_bad_share * dataset.num_examples:
        raise UserError(
            f"dataset {dataset.name}[{dataset.split}]: {bad} of {dataset.num_examples} records do not decode, "
            f"more than config.data.max_bad_share = {max_bad_share}; "
            f"the last: {reader.last_bad or 'of another process'}"
        )
    return cache


class _Reader:
    """Reads ranges of records; `columns` are labels and aspects of all that were read, by any process."""

    def __init__(self, dataset: Dataset, side: int, threads: int | None):
        self._dataset, self._side, self._threads = dataset, side, threads
        self._labels = np.zeros(dataset.num_examples, np.int32)
        self._aspects = np.zeros(dataset.num_examples, np.float32)
        what = f"reading {dataset.name}[{dataset.split}] onto the devices"
        self._countdown = progress.Countdown(what, dataset.num_examples // jax.process_count(), log.info)
        self.bad, self.last_bad = 0, ""

    def part(self, low: int, high: int) -> np.ndarray:
        """Images `low` to `high`, uint8; zeros behind the last one."""
        images = np.zeros((high - low, self._side, self._side, 3), np.uint8)
        end = min(high, self._dataset.num_examples)
        for start, arrays, filled in self._read(low, end):
            stop = start + len(filled)
            self._stand_in(start, arrays, filled)
            rows.check_labels(self._dataset, np.arange(start, stop), arrays["label"])
            images[start - low : stop - low] = arrays["image"]
            self._labels[start:stop], self._aspects[start:stop] = arrays["label"], arrays["aspect"]
            self._countdown.add(len(filled))
        return images

    def columns(self) -> tuple[np.ndarray, np.ndarray]:
        if jax.process_count() == 1:
            return self._labels, self._aspects
        # Each process has filled its own range of what was zero.
        return tuple(np.sum(multihost_utils.process_allgather(x), axis=0) for x in (self._labels, self._aspects))

    def _read(self, low: int, high: int) -> Iterator[tuple[int, dict[str, np.ndarray], np.ndarray]]:
        """(first index, arrays, which rows are filled) of a batch of records after the other."""
        specs: workers.Specs = {
            "image": ((self._side, self._side, 3), np.uint8),
            "aspect": ((), np.float32),
            "label": ((), np.int32),
        }
        batches = rows.in_order(self._dataset, low, high, TOGETHER) if low < high else ()
        start = low
        for batch in workers.fill(batches, self._picture, specs, size=TOGETHER, threads=self._threads):
            count = len(batch.items)
            yield start, {name: array[:count] for name, array in batch.arrays.items()}, batch.filled[:count]
            start += count

    def _picture(self, read: Callable[[], rows.Row]) -> dict[str, Any]:
        row = read()
        image, aspect = decoders.squeezed(row["image"], side=self._side)
        return {"image": image, "aspect": aspect, "label": row["label"]}

    def _stand_in(self, start: int, arrays: dict[str, np.ndarray], filled: np.ndarray) -> None:
        """Put the nearest good record where one does not decode: of the whole dataset, so that it is the same one
        however many devices share the records."""
        stop, count = start + len(filled), self._dataset.num_examples
        blocks = {0: (start, arrays, filled)}  # this batch and, where they are needed, the records on either side

        def at(index: int) -> dict[str, np.ndarray] | None:
            side = (index >= stop) - (index < start)
            if side not in blocks:
                bounds = (stop, min(stop + TOGETHER, count)) if side > 0 else (max(0, start - TOGETHER), start)
                (blocks[side],) = self._read(*bounds)
            first, columns, good = blocks[side]
            return {name: column[index - first] for name, column in columns.items()} if good[index - first] else None

        for row in np.flatnonzero(~filled).tolist():
            self.bad, self.last_bad = self.bad + 1, self._dataset.record_name(start + row)
            log.warning("left out a record that does not decode: %s", self.last_bad)
            near = (start + row + side * step for step in range(1, TOGETHER + 1) for side in (-1, 1))
            nearest = next(filter(None, (at(index) for index in near if 0 <= index < count)), None)
            if nearest is None:
                raise UserError(
                    f"dataset {self._dataset.name}[{self._dataset.split}]: within {TOGETHER} records of "
                    f"{self.last_bad} none decodes"
                )
            for name, value in nearest.items():
                arrays[name][row] = value
