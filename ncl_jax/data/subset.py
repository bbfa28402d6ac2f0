"""Some records of a dataset, as a dataset."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int

from ncl_jax.data.datasets import Chunk, Dataset
from ncl_jax.errors import UserError

MOST = 200_000  # records of TFRecord files out of which single ones are picked: all are read, and those picked held


def pick(dataset: Dataset, ids: Int[np.ndarray, " k"]) -> Dataset:
    """The records `ids` (rising) of `dataset`, numbered anew from 0.

    Raises UserError for a dataset of TFRecord files that is too large for that.
    """
    ids = np.asarray(ids)
    split = f"{dataset.split}, {len(ids)} records"
    if dataset.reader:
        read = dataset.reader

        def reader(index: int) -> dict[str, Any]:
            return read(int(ids[index])) | {"id": index}

        origin = _pieces(dataset.origin, ids)
        return dataclasses.replace(dataset, split=split, num_examples=len(ids), reader=reader, origin=origin)
    if dataset.paths:
        assert dataset.folder_labels is not None
        paths = tuple(dataset.paths[i] for i in ids)
        return dataclasses.replace(
            dataset, split=split, num_examples=len(ids), paths=paths, folder_labels=dataset.folder_labels[ids]
        )
    check(dataset)
    from ncl_jax.data import records

    # Held, since to find a record its file is read from the start.
    held = list(records.picked(dataclasses.replace(dataset, textures=()), ids))
    if len(held) != len(ids):
        raise records.damaged(dataset)

    def of_held(index: int) -> dict[str, Any]:
        return held[index] | {"id": index}

    origin = _pieces(dataset.chunks, ids)
    return dataclasses.replace(
        dataset, split=split, num_examples=len(ids), chunks=(), reader=of_held, origin=origin, textures=()
    )


def _pieces(of: tuple[Chunk, ...], ids: np.ndarray) -> tuple[Chunk, ...]:
    starts = np.array([chunk.start for chunk in of])
    chunks: list[Chunk] = []
    for number, index in enumerate(ids.tolist()):
        source = of[int(np.searchsorted(starts, index, side="right")) - 1]
        place = index - source.start + source.skip
        last = chunks[-1] if chunks else None
        if last and last.path == source.path and last.skip + last.take == place:
            chunks[-1] = dataclasses.replace(last, take=last.take + 1)
        else:
            chunks.append(Chunk(source.path, place, 1, number))
    return tuple(chunks)


def check(dataset: Dataset) -> None:
    """UserError where `pick` would take for ever."""
    if dataset.chunks and dataset.num_examples > MOST:
        raise UserError(
            f"dataset {dataset.name}[{dataset.split}]: too large for picking some of its records; name one that is "
            "smaller already, e.g. TFDS's imagenet2012_subset/1pct"
        )
