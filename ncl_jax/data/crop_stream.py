"""Endless, resumable batches of random crops. `stream` says in words what it promises."""

import dataclasses
import functools
import itertools
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncl_jax.data import decoders, pictures, rows, workers
from ncl_jax.data import position as position_lib
from ncl_jax.data.datasets import Dataset
from ncl_jax.data.pictures import BadImage
from ncl_jax.errors import Unreadable, UserError

log = logging.getLogger(__name__)

FIELDS = ("source", "texture", "id")  # what `fields` may name besides the fixed ones
SHARE_AFTER = 100  # records seen before the share of bad ones is judged
BEYOND_CHANCE = 4  # standard deviations that their number may be above it in the first epoch
STAND_IN_TRIES = 100  # records tried in the place of a bad one; of few records the same ones more than once
RESERVE = 64  # records that may fill gaps where the others are not at hand
HELD = 2**28  # bytes of decoded images of one size that are kept, so that they are decoded once
# What the random numbers of a seed are drawn for: different purposes, different numbers.
KEY_ORDER, STAND_IN, ORDER, CROPS = 1, 2, 3, 4


class _Item(NamedTuple):
    """A record of a batch: its id (-1: not known before it is read), how to read it, and its batch's epoch."""

    id: int
    read: Any
    epoch: int


class CropStream:
    """Endless iterator of this process's part of each global batch: numpy arrays, b = batch / process_count.

    A batch holds `query` and `key` uint8 `[b s s 3]` (random-resized crops; only `query` with `views=1`), `box` float32
    `[b 4]` (the query's y0, x0, y1, x1 in [0, 1] of the whole undistorted image), `label` int32 `[b]` (-1: none),
    `key_order` int32 `[b]` (`key[j]` belongs to example `key_order[j]` of the global batch), and of `fields` on request
    `source` uint8 `[b s s 3]` (the whole undistorted image, squeezed into the square: `box` names the same part of
    it), `texture` uint8 `[b k s s 3]` (the record of this id of each of `dataset.textures`, squeezed alike) and `id`
    int32 `[b]`.

    `position` after a batch is what resumes behind it. `skips` counts the times that a record did not decode, or a
    texture of it, and `skipped` lists the names of what did not, each once. `close` it in the end.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch: int,
        image_size: int,
        seed: int,
        process: tuple[int, int] = (0, 1),
        position: Mapping[str, int] | None = None,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        views: int = 2,
        shuffle_keys: bool = False,
        key_blocks: int | None = None,
        fields: Sequence[str] = (),
        shuffle_buffer: int = 16384,
        max_bad_share: float = 0.01,
        threads: int | None = None,
    ):
        """`batch` is global; `process` is (index, count). `threads` decode at a time; default: one per core.

        `shuffle_keys` permutes the key views within each of `key_blocks` equal parts of the global batch (default: one
        per process), by (seed, epoch, step). Raises UserError for a batch that the dataset does not fill or that cannot
        be shared evenly, for an unknown field, and for a position that is none of this dataset and batch.
        """
        dataset.need_batch(batch)
        index, count = process
        key_blocks = key_blocks or count
        if batch % count or batch % key_blocks or key_blocks % count:
            raise UserError(
                f"batch of {batch}: cannot be shared evenly by {count} processes and {key_blocks} key blocks"
            )
        for field in fields:
            if field not in FIELDS:
                raise UserError(f"field {field!r} of the stream: unknown; one of {', '.join(FIELDS)}")
        if "texture" not in fields:
            dataset = dataclasses.replace(dataset, textures=())
        elif not dataset.textures:
            raise UserError(f"dataset {dataset.name}[{dataset.split}]: no texture dataset is paired with it")
        self.dataset, self.batch, self.seed = dataset, batch, seed
        self.steps_per_epoch = dataset.num_examples // batch
        self.skips, self.skipped = 0, []
        self._seen, self._last_bad = 0, ""
        self._damaged: dict[int, str] = {}  # by a record's id: its texture or file that does not decode
        self._process, self._processes, self._local = index, count, batch // count
        self._fields, self._max_bad_share, self._buffer = tuple(fields), max_bad_share, shuffle_buffer
        self._key_block = batch // key_blocks if shuffle_keys else 0
        self._views, self._pictures = views, ("query", "key")[:views] + ("source",) * ("source" in fields)
        self._crop_key = -1, 0  # an epoch and the key of its crops
        self._crop: dict[str, Any] = {"scale": crop_scale, "side": image_size, "source": "source" in fields}
        self._threads = threads
        self._step = position_lib.step_at(
            position,
            batch=batch,
            steps_per_epoch=self.steps_per_epoch,
            data=f"{dataset.name}[{dataset.split}] with {dataset.num_examples} examples",
        )

        # Either every record can be asked for by its id, or this process reads the range [low, high).
        total = dataset.num_examples
        self._whole = not dataset.chunks or total <= shuffle_buffer
        self._low = 0 if self._whole else total * index // count
        self._high = total if self._whole else total * (index + 1) // count
        self._find = rows.lookup(dataset) if self._whole else None
        self._reserve: list[rows.Row] = []
        if dataset.image_shape and self._find and self._fits(dataset.image_shape):
            self._find = self._decode_all(self._find)
        self._iterator = workers.fill(
            self._items(self._step), self._crops, self._specs(), size=self._local, threads=self._threads
        )

    @property
    def position(self) -> dict[str, int]:
        """Where the next batch starts (see `ncl_jax.data.position`)."""
        return position_lib.of_step(self._step, batch=self.batch, steps_per_epoch=self.steps_per_epoch)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def close(self) -> None:
        """Let go of threads and records, which else wait for the garbage collector. Not while `next` is at work."""
        self._iterator.close()
        self._find, self._reserve = None, []

    def __next__(self) -> dict[str, np.ndarray]:
        epoch, step = divmod(self._step, self.steps_per_epoch)
        items, arrays, filled = next(self._iterator)
        self._seen += self._local
        for row in np.flatnonzero(~filled).tolist():
            index = self._id(items[row])
            self._skip(index)
            for key, value in self._stand_in(index, epoch).items():
                arrays[key][row] = value
        self._check_share()
        rows.check_labels(self.dataset, arrays["id"], arrays["label"])
        self._step += 1
        return self._wire(arrays, epoch, step)

    def _wire(self, arrays: dict[str, np.ndarray], epoch: int, step: int) -> dict[str, np.ndarray]:
        first = self._process * self._local
        batch = {key: arrays[key] for key in ("query", "box", "label")}
        if self._views > 1:
            order, key = np.arange(first, first + self._local, dtype=np.int32), arrays["key"]
            if self._key_block:
                blocks = range(first, first + self._local, self._key_block)
                order = np.concatenate([b + self._permutation(epoch, step, b) for b in blocks]).astype(np.int32)
                key = key[order - first]
            batch |= {"key": key, "key_order": order}
        return batch | {field: arrays[field] for field in self._fields}

    def _permutation(self, epoch: int, step: int, block: int) -> np.ndarray:
        return np.argsort(self._numbers(KEY_ORDER, epoch, step, block).random_raw(self._key_block), kind="stable")

    def _numbers(self, purpose: int, *of: int) -> np.random.Philox:
        return np.random.Philox(np.random.SeedSequence((self.seed, purpose, *of)))

    def _epoch_key(self, epoch: int) -> int:
        known, key = self._crop_key  # one tuple: threads may be in two epochs, and never see half of one
        if known != epoch:
            key = int(self._numbers(CROPS, epoch).random_raw())
            self._crop_key = epoch, key
        return key

    def _specs(self) -> workers.Specs:
        side = self._crop["side"]
        specs: dict[str, tuple[tuple[int, ...], type]] = dict.fromkeys(self._pictures, ((side, side, 3), np.uint8))
        specs |= {"box": ((4,), np.float32), "label": ((), np.int32), "id": ((), np.int32)}
        if self.dataset.textures:
            specs["texture"] = ((len(self.dataset.textures), side, side, 3), np.uint8)
        return specs

    def _crops(self, item: _Item) -> dict[str, Any]:
        """One record to its crops."""
        try:
            row = item.read()
        except OSError as error:
            if error.filename:  # the image, or a texture of it
                self._damaged[item.id] = os.fspath(error.filename)
            raise
        key, id = self._epoch_key(item.epoch), int(row["id"])
        draws = [pictures.Uniform(key, id * self._views + view) for view in range(self._views)]
        views, box = decoders.crops(row["image"], draws, **self._crop)
        made = {"box": box, "label": row["label"], "id": id} | dict(zip(self._pictures, views, strict=True))
        if self.dataset.textures:
            made["texture"] = np.stack([self._texture(number, row) for number in range(len(self.dataset.textures))])
        return made

    def _texture(self, number: int, row: rows.Row) -> np.ndarray:
        try:
            return decoders.squeezed(row["textures"][number], side=self._crop["side"])[0]
        except BadImage:
            self._damaged[int(row["id"])] = self.dataset.textures[number].record_name(int(row["id"]))
            raise

    def _fits(self, shape: tuple[int, int]) -> bool:
        return self.dataset.num_examples * shape[0] * shape[1] * 3 <= HELD

    def _decode_all(self, find: Any) -> Any:
        """The lookup of a small dataset whose images are decoded once; those that do not decode stay as they are."""
        height, width = self.dataset.image_shape or (0, 0)
        size = self.dataset.num_examples

        others: list[rows.Row] = [{}] * size

        def decoded(index: int) -> dict[str, Any]:
            row = find(index)
            others[index] = {key: value for key, value in row.items() if key != "image"}
            return {"image": decoders.decode(row["image"])}

        specs = {"image": ((height, width, 3), np.uint8)}
        (held,) = workers.fill([range(size)], decoded, specs, size=size, threads=self._threads)
        images, filled = held.arrays["image"], held.filled
        return lambda index: others[index] | {"image": images[index]} if filled[index] else find(index)

    def _items(self, start: int) -> Iterator[list[_Item]]:
        """The records of every batch from global step `start` on."""
        epoch, first = divmod(start, self.steps_per_epoch)
        return self._whole_epochs(epoch, first) if self._whole else self._ranged_epochs(epoch, first)

    def _whole_epochs(self, epoch: int, first: int) -> Iterator[list[_Item]]:
        find = self._find
        assert find is not None
        while True:
            order = np.argsort(self._numbers(ORDER, epoch).random_raw(self.dataset.num_examples), kind="stable")
            for step in range(first, self.steps_per_epoch):
                low = step * self.batch + self._process * self._local
                ids = order[low : low + self._local].tolist()
                yield [_Item(index, functools.partial(find, index), epoch) for index in ids]
            epoch, first = epoch + 1, 0

    def _ranged_epochs(self, epoch: int, first: int) -> Iterator[list[_Item]]:
        """An epoch is begun while the one before still has what its own shuffle buffer holds: nothing comes out of a
        buffer before it is full, and of many processes each may hold most of its records in it."""
        lead = -(-self._buffer // self._local)
        part, begun = self._ranged_epoch(epoch, first), []
        with workers.pool(1, "next epoch") as reader:
            while True:
                following, coming = self._ranged_epoch(epoch + 1, 0), None
                for step, items in enumerate(itertools.chain(begun, part), first):
                    if coming is None and step >= self.steps_per_epoch - lead:
                        coming = reader.submit(list, itertools.islice(following, 1))
                    yield items
                assert coming is not None  # the last step is among those
                part, begun, epoch, first = following, coming.result(), epoch + 1, 0

    def _ranged_epoch(self, epoch: int, first: int) -> Iterator[list[_Item]]:
        seed = self._numbers(ORDER, epoch).random_raw(2).astype(np.int64)
        part = rows.shuffled(
            self.dataset,
            self._low,
            self._high,
            seed,
            buffer=self._buffer,
            size=self._local,
            skip=first,
            take=self.steps_per_epoch,
        )
        for batch in part:
            yield [_Item(-1, read, epoch) for read in batch]

    @staticmethod
    def _id(item: _Item) -> int:
        return item.id if item.id >= 0 else int(item.read()["id"])

    def _skip(self, index: int) -> None:
        self.skips += 1
        self._last_bad = name = self._damaged.get(index) or self.dataset.record_name(index)
        if name not in self.skipped:
            self.skipped.append(name)
            log.warning("skipped a record that does not decode: %s", name)

    def _check_share(self) -> None:
        allowed = self._max_bad_share * self._seen
        if self._seen < self.steps_per_epoch * self._local:
            allowed += BEYOND_CHANCE * math.sqrt(allowed)
        if self._seen >= SHARE_AFTER and self.skips > allowed:
            raise Unreadable(
                f"dataset {self.dataset.name}[{self.dataset.split}]: {self.skips} of {self._seen} records do not "
                f"decode, more than config.data.max_bad_share = {self._max_bad_share}; the last: {self._last_bad}"
            )

    def _stand_in(self, index: int, epoch: int) -> dict[str, Any]:
        """Crops of another record, chosen by (seed, epoch, index), that decodes."""
        for draw in self._numbers(STAND_IN, epoch, index).random_raw(STAND_IN_TRIES).tolist():
            try:
                return self._crops(_Item(-1, lambda draw=draw: self._at_hand(draw), epoch))
            except (BadImage, OSError):
                continue
        raise Unreadable(
            f"dataset {self.dataset.name}[{self.dataset.split}]: {self._last_bad} does not decode, nor does any of "
            f"{STAND_IN_TRIES} records drawn in its place"
        )

    def _at_hand(self, draw: int) -> rows.Row:
        if self._find:
            return self._find(draw % self.dataset.num_examples)
        if not self._reserve:
            high = min(self._low + RESERVE, self._high)
            (batch,) = rows.in_order(self.dataset, self._low, high, high - self._low)
            self._reserve = [read() for read in batch]
        return self._reserve[draw % len(self._reserve)]
