"""Batches for training (endless, resumable to the bit) and for evaluation (in order, nothing dropped).

Training: an epoch is an order of the records that follows from (seed, epoch); batch t takes the next `batch` of them,
and each process its contiguous part. Crops follow from (seed, epoch, record id). So a position is {epoch, offset} and a
stream rebuilt there goes on with the same bits: nothing else is saved. A record that does not decode leaves a gap,
which another record fills, chosen by (seed, epoch, id): batches stay full, and positions equal on all processes. What
is left over at the end of an epoch, less than a batch, is dropped.

* A dataset of at most `shuffle_buffer` records, or of image files, is shuffled whole by every process: the global
  batches do not depend on the number of processes.
* A larger one is cut into one range of records per process; within it files are read in random order and pass a shuffle
  buffer. To resume, the records before the position are read again and skipped undecoded.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ncl_jax.augment.views import recipe
from ncl_jax.config import Config
from ncl_jax.data import decoders, rows, texture_datasets, workers
from ncl_jax.data.crop_stream import CropStream
from ncl_jax.data.datasets import Dataset, open_dataset
from ncl_jax.errors import UserError

__all__ = ["CropStream", "TrainStream", "eval_batches", "open_train"]

log = logging.getLogger(__name__)


def open_train(config: Config) -> Dataset:
    """The training split that `config` names, with the textures that its negatives read from a dataset."""
    dataset = open_dataset(config.data.name, config.data.train_split, data_dir=config.data.data_dir)
    stored = config.negatives.get("texture_dataset")
    if stored is None:
        return dataset
    return texture_datasets.pair(dataset, stored.names, count=stored.num, data_dir=config.data.data_dir)


class TrainStream(CropStream):
    """The `CropStream` of a pretraining run: both views as `config` asks for them.

    `process` is (index, count), of this JAX process by default. Key views are shuffled where `model.bn_groups` > 1.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        *,
        fields: Sequence[str] = (),
        position: Mapping[str, int] | None = None,
        process: tuple[int, int] | None = None,
    ):
        process = process or jax_process()
        super().__init__(
            dataset,
            batch=config.batch,
            image_size=config.data.image_size,
            seed=config.seed,
            process=process,
            position=position,
            crop_scale=recipe(config.augment).crop_scale,
            shuffle_keys=config.model.bn_groups > 1,
            # A key stays in its query's part of a batch that is computed in parts.
            key_blocks=math.lcm(process[1], config.optim.accumulate),
            fields=fields,
            shuffle_buffer=config.data.shuffle_buffer,
            max_bad_share=config.data.max_bad_share,
        )


def jax_process() -> tuple[int, int]:
    """Index and number of the JAX processes."""
    return jax.process_index(), jax.process_count()


def eval_batches(
    dataset: Dataset,
    *,
    batch: int,
    size: int,
    resize: int,
    process: tuple[int, int] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Every example once, in order: this process's part of each global batch, b = batch / process count.

    Yields `image` uint8 `[b size size 3]` (shorter side to `resize`, central crop; untouched where it has that size),
    `label` and every other class label (`shape`, `texture`) int32 `[b]`, `id` int32 `[b]`, and `mask` bool `[b]`:
    False pads the end, and stands for a record that does not decode (named in the log). A process has a contiguous
    range of the examples, and all have the same number of batches. `process` is (index, count), of this JAX process by
    default. Raises UserError for a batch that the processes cannot share evenly and for damaged files.
    """
    index, processes = process or jax_process()
    if batch % processes:
        raise UserError(f"batch of {batch}: cannot be shared evenly by {processes} processes")
    if resize < size:
        raise UserError(f"resize = {resize}: is below the crop of {size} pixels")
    return _eval_batches(dataset, batch // processes, size, resize, index, processes)


def _eval_batches(
    dataset: Dataset, local: int, size: int, resize: int, index: int, processes: int
) -> Iterator[dict[str, np.ndarray]]:
    count = dataset.num_examples
    low, high = count * index // processes, count * (index + 1) // processes
    integers = ("label", *dataset.extra_keys)

    def picture(read: Callable[[], rows.Row]) -> dict[str, Any]:
        row = read()
        image = decoders.centre_crop(row["image"], resize=resize, side=size)
        return {"image": image} | {key: row[key] for key in integers}

    specs: workers.Specs = {"image": ((size, size, 3), np.uint8)} | dict.fromkeys(integers, ((), np.int32))
    read = workers.fill(rows.in_order(dataset, low, high, local), picture, specs, size=local)
    for start in range(0, -(-count // processes), local):
        expected = np.arange(low + start, min(high, low + start + local))
        if len(expected):
            _, arrays, filled = next(read)
        else:  # another process has more examples
            arrays = {name: np.zeros((local, *shape), dtype) for name, (shape, dtype) in specs.items()}
            filled = np.zeros(local, bool)
        for row in np.flatnonzero(~filled[: len(expected)]):
            log.warning("left out a record that does not decode: %s", dataset.record_name(int(expected[row])))
        rows.check_labels(dataset, expected, arrays["label"][: len(expected)])
        arrays["id"] = np.pad(expected, (0, local - len(expected))).astype(np.int32)
        yield {**arrays, "mask": filled}
