"""Endless, resumable batches of random crops. `stream` says in words what it promises."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# (TensorFlow's stubs know neither symbolic arguments, None as a bound, nor slices with an ellipsis.)

import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from ncl_jax.data import batches, decode, records
from ncl_jax.data.datasets import Dataset
from ncl_jax.errors import UserError

log = logging.getLogger(__name__)

FIELDS = ("source", "texture", "id")  # what `fields` may name besides the fixed ones
SHARE_AFTER = 100  # records seen before the share of bad ones is judged
RESERVE = 64  # records that may fill gaps where the others are not at hand
SMALL = 128  # pixels: images of one size up to this one are cropped a batch at a time
HELD = 2**28  # bytes of decoded small images that are kept, so that they are decoded once


class CropStream:
    """Endless iterator of this process's part of each global batch: numpy arrays, b = batch / process_count.

    A batch holds `query` and `key` uint8 `[b s s 3]` (random-resized crops; only `query` with `views=1`), `box` float32
    `[b 4]` (the query's y0, x0, y1, x1 in [0, 1] of the whole undistorted image), `label` int32 `[b]` (-1: none),
    `key_order` int32 `[b]` (`key[j]` belongs to example `key_order[j]` of the global batch), and of `fields` on request
    `source` uint8 `[b s s 3]` (the whole undistorted image, squeezed into the square: `box` names the same part of
    it), `texture` uint8 `[b k s s 3]` (the record of this id of each of `dataset.textures`, squeezed alike) and `id`
    int32 `[b]`.

    `position` after a batch is what resumes behind it. `skips` counts the times that a record did not decode, and
    `skipped` lists these records' names, each once.
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
        self._process, self._processes, self._local = index, count, batch // count
        self._fields, self._max_bad_share, self._buffer = tuple(fields), max_bad_share, shuffle_buffer
        self._key_block = batch // key_blocks if shuffle_keys else 0
        self._crop = {"views": views, "scale": crop_scale, "side": image_size, "source": "source" in fields}
        self._threads = threads or len(os.sched_getaffinity(0))
        self._step = self._start(position)

        # Either every record can be asked for by its id, or this process reads the range [low, high).
        total = dataset.num_examples
        self._whole = bool(dataset.paths) or total <= shuffle_buffer
        self._low = 0 if self._whole else total * index // count
        self._high = total if self._whole else total * (index + 1) // count
        self._lookup = records.lookup(dataset) if self._whole else None
        self._parse = None if self._whole else records.parse(dataset)
        self._reserve: dict[str, tf.Tensor] | None = None
        shape = dataset.image_shape
        self._small = shape is not None and max(*shape, image_size) <= SMALL
        self._held = self._decode_all() if shape and self._small and self._fits(shape) else None
        self._crop_one = decode.crop_function(**self._crop)
        self._iterator = iter(self._batches(self._step))

    def _start(self, position: Mapping[str, int] | None) -> int:
        if position is None:
            return 0
        epoch, offset = int(position["epoch"]), int(position["offset"])
        if epoch < 0 or offset % self.batch or not 0 <= offset <= self.steps_per_epoch * self.batch:
            raise UserError(
                f"position {dict(position)} is none of {self.dataset.name}[{self.dataset.split}] "
                f"with {self.dataset.num_examples} examples in batches of {self.batch}"
            )
        return epoch * self.steps_per_epoch + offset // self.batch

    @property
    def position(self) -> dict[str, int]:
        """Where the next batch starts: {"epoch", "offset"}, the offset in examples of the global epoch."""
        epoch, step = divmod(self._step, self.steps_per_epoch)
        return {"epoch": epoch, "offset": step * self.batch}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        epoch, step = divmod(self._step, self.steps_per_epoch)
        try:
            ids, result = next(self._iterator)
        except (tf.errors.OpError, StopIteration) as error:
            raise records.damaged(self.dataset, error) from error
        ids = ids.numpy()
        if len(ids) != self._local:
            raise records.damaged(self.dataset)
        arrays, filled = batches.place({key: value.numpy() for key, value in result.items()}, len(ids))
        self._seen += len(ids)
        for row in np.flatnonzero(~filled):
            self._skip(int(ids[row]))
            for key, value in self._stand_in(int(ids[row]), epoch).items():
                arrays[key][row] = value
        self._check_share()
        records.check_labels(self.dataset, ids, arrays["label"])
        self._step += 1
        return self._wire(arrays, epoch, step)

    def _wire(self, arrays: dict[str, np.ndarray], epoch: int, step: int) -> dict[str, np.ndarray]:
        first = self._process * self._local
        views = arrays["views"]
        batch = {"query": views[:, 0], "box": arrays["box"], "label": arrays["label"]}
        if self._crop["views"] > 1:
            order = np.arange(first, first + self._local, dtype=np.int32)
            if self._key_block:
                blocks = range(first, first + self._local, self._key_block)
                order = np.concatenate([b + self._permutation(epoch, step, b) for b in blocks]).astype(np.int32)
            batch["key"] = views[order - first, 1]
            batch["key_order"] = order
        if "source" in self._fields:
            batch["source"] = views[:, -1]
        if "texture" in self._fields:
            batch["texture"] = arrays["texture"]
        if "id" in self._fields:
            batch["id"] = arrays["id"].astype(np.int32)
        return {key: np.ascontiguousarray(value) for key, value in batch.items()}

    def _permutation(self, epoch: int, step: int, block: int) -> np.ndarray:
        draws = np.random.Philox(np.random.SeedSequence((self.seed, 1, epoch, step, block)))
        return np.argsort(draws.random_raw(self._key_block), kind="stable")

    def _epoch_seed(self, epoch: tf.Tensor) -> tf.Tensor:
        # Numbers far apart for neighbouring epochs: ids are mixed in by exclusive or.
        seed = tf.stack([tf.constant(self.seed, tf.int64), epoch])
        return tf.random.stateless_uniform([2], seed, None, None, tf.int64, alg="philox")

    def _record(self, row: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The parsed record that an undecoded row is or names."""
        if self._parse:
            return self._parse(row["id"], row["serialised"])
        assert self._lookup
        return self._lookup(row["id"])

    def _crops(self, record: Mapping[str, tf.Tensor], epoch: tf.Tensor) -> dict[str, tf.Tensor]:
        """One record to its crops."""
        views, box = self._crop_one(record["image"], self._epoch_seed(epoch), record["id"])
        return {"views": views, "box": box, "label": record["label"], "id": record["id"], **self._textures(record)}

    def _textures(self, record: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if "textures" not in record:
            return {}
        encoded = tf.unstack(record["textures"], len(self.dataset.textures))
        return {"texture": tf.stack([decode.squeezed(image, side=self._crop["side"]) for image in encoded])}

    def _decoded(self, record: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = tf.ensure_shape(decode.decode(record["image"]), (*(self.dataset.image_shape or ()), 3))
        return {"image": image, "label": record["label"], "id": record["id"], **self._textures(record)}

    def _fits(self, shape: tuple[int, int]) -> bool:
        pixels = shape[0] * shape[1] + len(self.dataset.textures) * self._crop["side"] ** 2
        return self._whole and self.dataset.num_examples * pixels * 3 <= HELD

    def _decode_all(self) -> dict[str, tf.Tensor]:
        """Every image of a small dataset, with `row` -1 for those that do not decode."""
        size = self.dataset.num_examples
        rows = {"id": tf.range(size, dtype=tf.int64)}
        good = batches.only_good(rows, lambda r: self._decoded(self._record(r)), size, self._threads)
        arrays, filled = batches.place({key: value.numpy() for key, value in good.items()}, size)
        return {**{k: tf.constant(v) for k, v in arrays.items()}, "row": tf.constant(np.where(filled, 0, -1), tf.int64)}

    def _batches(self, start: int) -> tf.data.Dataset:
        """Ids `[b]` of every batch from global step `start` on, and the crops of those that decode."""
        steps, local = self.steps_per_epoch, self._local
        first_epoch, first_step = divmod(start, steps)
        epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)

        def whole(epoch):
            seed, count = self._epoch_seed(epoch), self.dataset.num_examples
            draws = tf.random.stateless_uniform([count], seed, None, None, tf.int64, alg="philox")
            order = tf.cast(tf.argsort(draws, stable=True)[: steps * self.batch], tf.int64)
            mine = tf.reshape(order, [steps, self._processes, local])[:, self._process]
            return tf.data.Dataset.from_tensor_slices({"id": mine}).map(lambda rows: (epoch, rows))

        def ranged(epoch):
            part = records.shuffled(self.dataset, self._low, self._high, self._epoch_seed(epoch), self._buffer)
            part = part.take(steps * local).map(lambda id, serialised: {"id": id, "serialised": serialised})
            # A file that ends too early must not pass for the end of an epoch: `batch` then has the wrong length.
            return part.batch(local).map(lambda rows: (epoch, rows))

        def batch(epoch, rows):
            if not self._small:
                good = batches.only_good(rows, lambda r: self._crops(self._record(r), epoch), local, self._threads)
                return rows["id"], good
            if self._held:
                decoded = {key: tf.gather(column, rows["id"]) for key, column in self._held.items()}
                decoded["row"] = tf.where(decoded["row"] < 0, decoded["row"], tf.range(local, dtype=tf.int64))
            else:
                decoded = batches.only_good(rows, lambda r: self._decoded(self._record(r)), local, self._threads)
            images = decoded.pop("image")
            views, box = decode.crops_of_one_size(images, self._epoch_seed(epoch), decoded["id"], **self._crop)
            return rows["id"], {"views": views, "box": box, **decoded}

        order = epochs.flat_map(records.plain(whole if self._whole else ranged)).skip(first_step)
        return batches.pipeline(order, batch)

    def _skip(self, index: int) -> None:
        self.skips += 1
        self._last_bad = name = self.dataset.record_name(index)
        if name not in self.skipped:
            self.skipped.append(name)
            log.warning("skipped a record that does not decode: %s", name)

    def _check_share(self) -> None:
        share = self.skips / self._seen
        if self._seen >= SHARE_AFTER and share > self._max_bad_share:
            raise UserError(
                f"dataset {self.dataset.name}[{self.dataset.split}]: {share:.1%} of {self._seen} records do not "
                f"decode, more than config.data.max_bad_share = {self._max_bad_share}; the last: {self._last_bad}"
            )

    def _stand_in(self, index: int, epoch: int) -> dict[str, np.ndarray]:
        """Crops of another record, chosen by (seed, epoch, index), that decodes."""
        chance = np.random.Philox(np.random.SeedSequence((self.seed, 2, epoch, index)))
        for draw in chance.random_raw(100):
            record = self._at_hand(int(draw))
            try:
                return {key: value.numpy() for key, value in self._crops(record, tf.constant(epoch, tf.int64)).items()}
            except tf.errors.OpError:
                continue
        raise UserError(
            f"dataset {self.dataset.name}[{self.dataset.split}]: of 101 records none decodes; one is {self._last_bad}"
        )

    def _at_hand(self, draw: int) -> dict[str, tf.Tensor]:
        if self._lookup:
            return self._lookup(tf.constant(draw % self.dataset.num_examples, tf.int64))
        if self._reserve is None:
            high = min(self._low + RESERVE, self._high)
            self._reserve = records.read_all(self.dataset, self._low, high)
        return {key: value[draw % len(value)] for key, value in self._reserve.items()}
