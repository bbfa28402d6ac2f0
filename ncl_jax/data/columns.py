"""One feature of all records of a prepared dataset, without its images: names of files, sequences of labels."""

from typing import Any

from ncl_jax.data.datasets import Dataset
from ncl_jax.data.prepared import import_tfds
from ncl_jax.errors import UserError


def read(dataset: Dataset, key: str) -> list[Any]:
    """The feature `key` of every record, in order: numbers, bytes, or an array for a sequence.

    Raises UserError where the dataset has no such feature. Image folders have none.
    """
    need(dataset, key)
    from ncl_jax.data.tf import tf

    tfds = import_tfds()
    features = tfds.decode.PartialDecoding({key: True}).extract_features(dataset.features)
    values = []
    for chunk in dataset.chunks:
        records = tf.data.TFRecordDataset(chunk.path).skip(chunk.skip).take(chunk.take)
        parsed = records.map(lambda record: features.deserialize_example(record)[key])
        values.extend(value.numpy() for value in parsed)
    return values


def need(dataset: Dataset, key: str) -> None:
    """UserError where the dataset has no feature `key`, or does not lie in TFRecord files."""
    whose = f"dataset {dataset.name}[{dataset.split}]"
    if dataset.reader:
        raise UserError(f"{whose}: stored as array_record; its feature {key} is read from tfrecord only")
    if dataset.features is None or key not in dataset.features:
        known = ", ".join(dataset.features) if dataset.features is not None else "image, label"
        raise UserError(f"{whose}: has no feature {key}; it has {known}")
