"""The paper's linear probe on a frozen encoder: random crops and flips of the training images (section 4.1)."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Key, Num

from ncl_jax import models, parallel, progress
from ncl_jax.augment.views import normalize
from ncl_jax.config import Config
from ncl_jax.data import prefetch, stream
from ncl_jax.data.datasets import Dataset
from ncl_jax.evaluation import linear_probe


def fit(
    config: Config,
    model: models.ResNet,
    variables: Mapping[str, Any],
    dataset: Dataset,
    mesh: Mesh,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> linear_probe.Probe:
    """`linear_probe.fit_augmented` with what `config.evaluation` says of epochs, rate and batch.

    Where the devices or too few images make the batch another one, the rate changes in proportion. `say` takes lines
    for the user: that, and how far it is.
    """
    settings = config.evaluation
    source = training_crops(config, dataset, batch=settings.probe_batch, mesh=mesh)
    rate = settings.probe_learning_rate * source.batch / settings.probe_batch
    if source.batch != settings.probe_batch:
        say(f"the probe learns from batches of {source.batch}, not {settings.probe_batch}, at a rate of {rate:g}")

    @jax.jit
    def encode(variables: Mapping[str, Any], images: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.asarray(model.apply(variables, normalize(flip(key, images)), train=False))

    keys = (jax.random.fold_in(jax.random.key(config.seed), step) for step in itertools.count())
    steps = progress.Countdown("linear probe", settings.probe_epochs * source.steps_per_epoch, say, unit="steps")
    with prefetch.Prefetch(source, parallel.batch_sharding(mesh)) as batches:
        return linear_probe.fit_augmented(
            lambda images: encode(variables, images, next(keys)),
            progress.told((batch for batch, _ in batches), steps),
            num_classes=dataset.num_classes or 0,
            epochs=settings.probe_epochs,
            steps_per_epoch=source.steps_per_epoch,
            learning_rate=rate,
            drops=settings.probe_drops,
            seed=config.seed,
        )


def training_crops(config: Config, dataset: Dataset, *, batch: int, mesh: Mesh) -> stream.CropStream:
    """Batches of one crop an image, 8 to 100 % of its area, as supervised training takes them.

    `batch` is cut to what the dataset fills and the devices share evenly. Raises UserError where there are fewer images
    than devices.
    """
    return stream.CropStream(
        dataset,
        batch=max(mesh.size, min(batch, dataset.num_examples) // mesh.size * mesh.size),
        image_size=config.data.image_size,
        seed=config.seed,
        process=stream.jax_process(),
        crop_scale=(0.08, 1.0),
        views=1,
        shuffle_buffer=config.data.shuffle_buffer,
        max_bad_share=config.data.max_bad_share,
    )


def flip(key: Key[jax.Array, ""], images: Num[jax.Array, "b s s 3"]) -> Num[jax.Array, "b s s 3"]:
    """Each image mirrored or not, at random."""
    flips = jax.random.bernoulli(key, 0.5, (len(images),))[:, None, None, None]
    return jnp.where(flips, images[:, :, ::-1], images)
