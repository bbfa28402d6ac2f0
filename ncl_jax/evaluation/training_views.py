"""Views of the test images as training makes them: random crops, colours and, on request, negatives."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from ncl_jax import negatives
from ncl_jax.config import Config
from ncl_jax.data import stream
from ncl_jax.step import make_views

_MOST = 256  # images at a time, on one device


def as_trained(config: Config, *, keep: tuple[str, ...] = ()) -> Config:
    """The config of one device's share of the analysis: the test split, in as large batch-norm groups as in training
    (up to 256 images, and no more than there are). `keep`: kinds of negatives to make. Raises UserError."""
    config = dataclasses.replace(
        config,
        negatives={kind: settings for kind, settings in config.negatives.items() if kind in keep},
        data=dataclasses.replace(config.data, train_split=config.data.test_split),
        optim=dataclasses.replace(config.optim, accumulate=1),
    )
    most = min(_MOST, stream.open_train(config).num_examples)
    each = config.batch // config.model.bn_groups
    groups = max(1, min(config.model.bn_groups, most // each))
    model = dataclasses.replace(config.model, bn_groups=groups)
    return dataclasses.replace(config, batch=min(groups * each, most), model=model)


def batches(encoder: Any, config: Config, *, images: int) -> Iterator[Mapping[str, Any]]:
    """Views as a method's `loss` takes them, of at least one batch and at most `images` or all images of the split.

    `config` is of `as_trained`; the `subject.Encoder` keeps the program. Every process makes all views, on its first
    device.
    """
    dataset = stream.open_train(config)
    source = stream.TrainStream(dataset, config, fields=negatives.needs(config.negatives), process=(0, 1))
    view = encoder.once(("views", repr(config)), lambda: jax.jit(functools.partial(make_views, config)))
    with contextlib.closing(source):
        for number in range(max(1, min(images, dataset.num_examples) // config.batch)):
            key = jax.random.fold_in(jax.random.key(config.seed), number)
            with jax.default_device(jax.local_devices()[0]):
                yield {**view(key, next(source)), "alpha": negatives.alphas(config.negatives)}
