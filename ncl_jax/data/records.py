"""Undecoded records of a dataset as tf.data elements, in order or shuffled, whole or one process's part.

A record is a dict of scalars: `id` (int64, its index in the split), `image` (the encoded bytes), and every integer
feature as int32, the label under the name "label". Where a dataset of TFRecord files has textures, `textures` `[k]`
holds the encoded image of the same id of each.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# (TensorFlow's stubs know neither symbolic arguments, None as a bound, nor slices with an ellipsis.)

import bisect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ncl_jax.data.datasets import Chunk, Dataset
from ncl_jax.data.prepared import import_tfds
from ncl_jax.data.tf import tf
from ncl_jax.errors import Unreadable, first_line

# AutoGraph has nothing to rewrite here, and where it fails it prints the whole environment.
plain = tf.autograph.experimental.do_not_convert
INTERLEAVED = 16  # files read at a time where a dataset is too large to be shuffled whole


def read_all(dataset: Dataset) -> dict[str, tf.Tensor]:
    """Every record, as one tensor per key."""
    try:
        columns = in_order(dataset, 0, dataset.num_examples).batch(dataset.num_examples).get_single_element()
    except tf.errors.OpError as error:
        raise damaged(dataset, error) from error
    if len(columns["id"]) != dataset.num_examples:
        raise damaged(dataset)
    return columns


def rows(dataset: Dataset, elements: tf.data.Dataset, size: int) -> Iterator[list[dict[str, Any]]]:
    """Batches of records as dicts of NumPy scalars, one ahead. Raises Unreadable for damaged files."""
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    batches = elements.batch(size).prefetch(1).with_options(options)
    try:
        for columns in batches.as_numpy_iterator():
            yield [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    except tf.errors.OpError as error:
        raise damaged(dataset, error) from error


def damaged(dataset: Dataset, error: Exception | None = None) -> Unreadable:
    """The error for files that cannot be read to their end, with the first of them."""
    for chunk in itertools.chain(dataset.chunks, *(texture.chunks for texture in dataset.textures)):
        try:
            count = sum(1 for _ in tf.data.TFRecordDataset(chunk.path).take(chunk.skip + chunk.take))
        except tf.errors.OpError:
            count = -1
        if count < chunk.skip + chunk.take:
            return Unreadable(f"dataset {dataset.name}: {chunk.path} is damaged; prepare the dataset again")
    return Unreadable(f"dataset {dataset.name}: cannot be read: {first_line(error) if error else 'too short'}")


def in_order(dataset: Dataset, low: int, high: int) -> tf.data.Dataset:
    """Records `low` to `high` of TFRecord files in the order of their ids."""
    if low == high:
        return in_order(dataset, 0, 1).take(0)
    return _serialised(dataset, low, high).map(plain(parse(dataset)))


def picked(dataset: Dataset, ids: np.ndarray) -> Iterator[dict[str, Any]]:
    """The records `ids` (rising) of TFRecord files, each of which is read once. Raises Unreadable for damaged files."""
    wanted = np.zeros(dataset.num_examples, bool)
    wanted[ids] = True
    between = _serialised(dataset, int(ids[0]), int(ids[-1]) + 1)
    chosen = between.filter(plain(lambda id, _: tf.gather(tf.constant(wanted), id)))
    for batch in rows(dataset, chosen.map(plain(parse(dataset))), 64):
        yield from batch


def _serialised(dataset: Dataset, low: int, high: int) -> tf.data.Dataset:
    """(id, serialised records: one of each dataset) of TFRecord files."""
    files = tf.data.Dataset.from_tensor_slices(_columns(_parts(dataset, low, high)))
    return files.flat_map(plain(_read))


def shuffled(dataset: Dataset, low: int, high: int, seed: tf.Tensor | np.ndarray, buffer: int) -> tf.data.Dataset:
    """Records `low` to `high` of TFRecord files: files in random order, several at a time, then a shuffle buffer.

    The order is a function of `seed` (int64 `[2]`, may be symbolic). Parsing is left to the reader (`parse`): what
    the buffer holds and a resumed stream skips over is the serialised record.
    """
    columns = _columns(_parts(dataset, low, high))
    count = len(columns[0])
    order = tf.argsort(tf.random.stateless_uniform([count], seed, None, None, tf.int64, alg="philox"), stable=True)
    files = tf.data.Dataset.from_tensor_slices(tuple(tf.gather(column, order) for column in columns))
    records = files.interleave(
        plain(_read), cycle_length=INTERLEAVED, block_length=16, num_parallel_calls=4, deterministic=True
    )
    return records.shuffle(buffer, seed=seed[0], reshuffle_each_iteration=False)


def _parts(dataset: Dataset, low: int, high: int) -> list[list[Chunk]]:
    """Records `low` to `high` in pieces that lie in one file: of the dataset and of each of its stored textures."""
    stored = [dataset.chunks, *(texture.chunks for texture in dataset.textures if texture.chunks)]
    bounds = sorted({low, high, *(c.start for chunks in stored for c in chunks if low < c.start < high)})
    return [[_piece(chunks, *part) for chunks in stored] for part in itertools.pairwise(bounds)]


def _piece(chunks: tuple[Chunk, ...], first: int, last: int) -> Chunk:
    chunk = chunks[bisect.bisect_right(chunks, first, key=lambda c: c.start) - 1]
    return Chunk(chunk.path, chunk.skip + first - chunk.start, last - first, first)


def _columns(pieces: list[list[Chunk]]) -> tuple[np.ndarray, ...]:
    """Paths and int64 skips, a column per dataset; int64 take and start."""
    paths = np.array([[chunk.path for chunk in row] for row in pieces], object)
    skips = np.array([[chunk.skip for chunk in row] for row in pieces], np.int64)
    numbers = np.array([(row[0].take, row[0].start) for row in pieces], np.int64)
    return paths, skips, *numbers.T


def _read(paths: tf.Tensor, skips: tf.Tensor, take: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
    """(id, serialised records: one of each dataset)."""
    # (Not tf.unstack: TensorFlow's optimiser of datasets crashes on an operation with several results.)
    files = [tf.data.TFRecordDataset(paths[n]).skip(skips[n]).take(take) for n in range(paths.shape[0])]
    return tf.data.Dataset.zip(tuple(files)).enumerate(start)


def parse(dataset: Dataset) -> Callable[[tf.Tensor, tuple[tf.Tensor, ...]], dict[str, tf.Tensor]]:
    """A graph function from an id and what is serialised under it, by the dataset and its stored textures."""
    own = _fields(dataset)
    textures = [_fields(texture) if texture.chunks else _by_id(texture) for texture in dataset.textures]

    def record(id: tf.Tensor, serialised: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        stored = iter(serialised[1:])
        found = [
            read(next(stored) if texture.chunks else id)["image"]
            for texture, read in zip(dataset.textures, textures, strict=True)
        ]
        return {"id": id, **own(serialised[0]), **({"textures": tf.stack(found)} if found else {})}

    return record


def _by_id(dataset: Dataset) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """A graph function from an id to the image under it, of what does not lie in TFRecord files."""
    if dataset.reader is None:
        names = tf.constant(dataset.paths)
        return lambda id: {"image": tf.io.read_file(tf.gather(names, id))}
    read = dataset.reader

    def record(id: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.numpy_function(lambda index: read(int(index))["image"], [id], tf.string)
        return {"image": tf.ensure_shape(image, ())}

    return record


def _fields(dataset: Dataset) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """A graph function from a serialised record to its image bytes and integers."""
    tfds = import_tfds()
    keys = [key for key in (dataset.image_key, dataset.label_key, *dataset.extra_keys) if key]
    decoders: Any = {dataset.image_key: tfds.decode.SkipDecoding()}
    features = tfds.decode.PartialDecoding(dict.fromkeys(keys, True)).extract_features(dataset.features)

    def record(serialised: tf.Tensor) -> dict[str, tf.Tensor]:
        example = features.deserialize_example(serialised, decoders=decoders)
        label = example[dataset.label_key] if dataset.label_key else -1
        integers = {key: tf.cast(example[key], tf.int32) for key in dataset.extra_keys}
        return {"image": example[dataset.image_key], "label": tf.cast(label, tf.int32), **integers}

    return record
