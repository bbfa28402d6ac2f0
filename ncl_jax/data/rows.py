"""Undecoded records of any dataset as Python objects: what `stream` and `fill_cache` turn into pictures.

A row is a dict: `id` (its index in the split), `image` (encoded bytes, or the pixels of a drawn picture), the label
under the name "label", every other integer feature, and `textures`: the image of the same id of each of the dataset's
textures. Only TFRecord files need TensorFlow.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from ncl_jax.data import memory
from ncl_jax.data.datasets import Dataset
from ncl_jax.errors import Unreadable, UserError

Row = dict[str, Any]
LOOKED_AT = 64  # labels that stand for those of a whole split


def lookup(dataset: Dataset) -> Callable[[int], Row]:
    """A function from an id to its row; threads may call it. What lies in TFRecord files is held in RAM."""
    own, textures = _lookup(dataset), [_lookup(texture) for texture in dataset.textures]

    def row(index: int) -> Row:
        found = own(index)
        return found | {"textures": [texture(index)["image"] for texture in textures]} if textures else found

    return row


def _lookup(dataset: Dataset) -> Callable[[int], Row]:
    if dataset.paths:
        paths, labels = dataset.paths, dataset.folder_labels
        assert labels is not None
        return lambda index: {"id": index, "image": Path(paths[index]).read_bytes(), "label": int(labels[index])}
    if dataset.reader:
        return dataset.reader
    from ncl_jax.data import records

    _need_room(dataset)
    columns = records.read_all(dataclasses.replace(dataset, textures=()))
    held = {key: column.numpy() for key, column in columns.items()}
    return lambda index: {key: column[index] for key, column in held.items()}


def _need_room(dataset: Dataset) -> None:
    """UserError where the records are more than half of the machine's memory, if that is known."""
    size = sum(os.path.getsize(path) for path in {chunk.path for chunk in dataset.chunks} if os.path.exists(path))
    room = memory.total() // 2
    if room and size > room:
        raise UserError(
            f"dataset {dataset.name}[{dataset.split}]: its {size / 2**30:.1f} GiB would be held in memory, of which "
            f"half is {room / 2**30:.1f} GiB; lower config.data.shuffle_buffer or, where these are the textures of an "
            "image folder, prepare the images as a TFDS dataset"
        )


def in_order(dataset: Dataset, low: int, high: int, size: int) -> Iterator[list[Callable[[], Row]]]:
    """Records `low` to `high` in batches of `size`, the last one shorter: functions that give their rows.

    Raises UserError for damaged files.
    """
    if dataset.chunks:
        from ncl_jax.data import records

        start = low
        for batch in records.rows(dataset, records.in_order(dataset, low, high), size):
            if [row["id"] for row in batch] != list(range(start, start + len(batch))):
                raise records.damaged(dataset)
            start += len(batch)
            yield [lambda row=row: row for row in batch]
        if start != high:
            raise records.damaged(dataset)
        return
    find = lookup(dataset)
    for start in range(low, high, size):
        yield [lambda index=index: find(index) for index in range(start, min(start + size, high))]


def shuffled(
    dataset: Dataset, low: int, high: int, seed: Int[np.ndarray, "2"], buffer: int, size: int, skip: int, take: int
) -> Iterator[list[Callable[[], Row]]]:
    """Batches `skip` to `take` of `size` records of `low` to `high` of TFRecord files, shuffled by `seed`, int64.

    What is skipped is read, not parsed. Raises UserError for damaged files, also where they end too early.
    """
    from ncl_jax.data import records

    order = records.shuffled(dataset, low, high, seed, buffer).take(take * size).skip(skip * size)
    parsed = order.map(records.plain(records.parse(dataset)), num_parallel_calls=2, deterministic=True)
    count = 0
    for batch in records.rows(dataset, parsed, size):
        count += len(batch)
        yield [lambda row=row: row for row in batch]
    if count != (take - skip) * size:
        raise records.damaged(dataset)


def first_labels(dataset: Dataset, most: int) -> Int[np.ndarray, " n"]:
    """The labels of the first `most` records, or of all where there are fewer."""
    count = min(most, dataset.num_examples)
    if dataset.folder_labels is not None:
        return dataset.folder_labels[:count]
    (batch,) = in_order(dataclasses.replace(dataset, textures=()), 0, count, count)
    return np.array([read()["label"] for read in batch])


def classes(dataset: Dataset) -> int:
    """How many classes the labels tell apart; 0 where there are none, as in STL-10's unlabelled split."""
    count = dataset.num_classes or 0
    return count if count and (first_labels(dataset, LOOKED_AT) >= 0).any() else 0


def check_labels(dataset: Dataset, ids: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> None:
    """UserError for a label that is none of the dataset's classes; -1 stands for an image without one."""
    if dataset.num_classes is None:
        return
    wrong = np.flatnonzero((labels < -1) | (labels >= dataset.num_classes))
    if len(wrong):
        name, label = dataset.record_name(int(ids[wrong[0]])), labels[wrong[0]]
        raise Unreadable(
            f"dataset {dataset.name}[{dataset.split}]: {name} has label {label}, of {dataset.num_classes} classes "
            f"(0 to {dataset.num_classes - 1}); prepare the dataset again"
        )
