"""Records of ArrayRecord files, as TFDS prepares them with `--file_format=array_record`: any one by its index."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ncl_jax.data.prepared import import_tfds
from ncl_jax.errors import Unreadable, UserError


def reader(
    name: str, instructions: Sequence[Any], features: Any, keys: Mapping[str, str]
) -> Callable[[int], dict[str, Any]]:
    """A function from a record's index to its row (see `rows`), which threads may call. Needs no TensorFlow.

    `instructions` are TFDS's (file, skip, take); `keys` the features to read and the names they get, of which "image"
    stays encoded. Raises UserError where the files cannot be read, then or later.
    """
    tfds = import_tfds()
    try:
        from array_record.python.array_record_data_source import ArrayRecordDataSource
    except ImportError as error:
        raise UserError(f"dataset {name}: is stored as array_record; pip install array_record") from error
    source = ArrayRecordDataSource(list(instructions))
    wanted = tfds.features.FeaturesDict({key: features[key] for key in keys})  # (PartialDecoding needs TensorFlow)
    decoders = {key: tfds.decode.SkipDecoding() for key, known in keys.items() if known == "image"}

    def row(index: int) -> dict[str, Any]:
        try:
            serialised = source[index]
        except (ValueError, RuntimeError) as error:
            raise Unreadable(f"dataset {name}: record {index} cannot be read; prepare the dataset again") from error
        example = wanted.deserialize_example_np(serialised, decoders=decoders)
        values = {known: example[key] for key, known in keys.items()}
        return {"id": index, "label": -1} | {k: v if k == "image" else np.int32(v) for k, v in values.items()}

    return row
