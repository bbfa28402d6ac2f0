"""Batches of undecoded records to batches of pictures, where one bad record spoils nothing."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# (TensorFlow's stubs know neither symbolic arguments, None as a bound, nor slices with an ellipsis.)

from collections.abc import Callable
from typing import Any

import numpy as np

from ncl_jax.data.records import plain
from ncl_jax.data.tf import tf


def only_good(rows: Any, function: Callable[[Any], dict[str, tf.Tensor]], size: int, threads: int) -> dict:
    """`function` over the rows of a batch (of at most `size`), without those for which it raises.

    The k results come with their places `row` (int64) and are followed by one made of zeros whose row is -1, so that
    there is always one. TensorFlow can drop an element on error but cannot say which: hence a small dataset per batch,
    whose numbered survivors tell.
    """
    elements = tf.data.Dataset.from_tensor_slices(rows).enumerate()
    good = elements.map(
        lambda row, r: {**function(r), "row": row}, num_parallel_calls=threads, deterministic=True
    ).ignore_errors()
    end = {key: tf.zeros(spec.shape, spec.dtype) for key, spec in good.element_spec.items()}
    end["row"] = tf.constant(-1, tf.int64)
    return good.concatenate(tf.data.Dataset.from_tensors(end)).batch(size + 1).get_single_element()


def pipeline(batches: tf.data.Dataset, function: Callable) -> tf.data.Dataset:
    """`function` over batches of undecoded records, two at a time, one ahead."""
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    return batches.map(plain(function), num_parallel_calls=2, deterministic=True).prefetch(1).with_options(options)


def place(good: dict[str, np.ndarray], size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The results of `only_good` put into `size` rows, and which are filled, bool `[size]`; the rest is zero."""
    rows = good["row"]
    kept = rows >= 0
    rows = rows[kept]
    filled = np.zeros(size, bool)
    filled[rows] = True
    arrays = {}
    for key, value in good.items():
        if key == "row":
            continue
        if len(rows) == size:  # nothing is missing: no copy
            arrays[key] = value[:size]
        else:
            arrays[key] = np.zeros((size, *value.shape[1:]), value.dtype)
            arrays[key][rows] = value[: len(kept)][kept]
    return arrays, filled
