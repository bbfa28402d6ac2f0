"""Fine-tuning: the whole network and a new classifier trained on labelled images."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from ncl_jax import models, parallel, progress
from ncl_jax.augment.views import normalize
from ncl_jax.config import Config
from ncl_jax.data import prefetch
from ncl_jax.data.datasets import Dataset
from ncl_jax.errors import UserError
from ncl_jax.evaluation import augmented_probe

Scores = Callable[[UInt8[Array, "b s s 3"]], Float[Array, "b c"]]


def fit(
    config: Config,
    model: models.ResNet,
    variables: Mapping[str, Any],
    dataset: Dataset,
    mesh: Mesh,
    *,
    epochs: int,
    learning_rate: float,
    batch: int,
    say: Callable[[str], None] = lambda line: None,
) -> Scores:
    """A jitted function from images to class scores, trained on random crops and flips of `dataset`.

    SGD with Nesterov momentum 0.9 from `learning_rate` (per 256 images) by a cosine to zero, no weight decay, batch
    norm over the whole batch; the classifier begins at zero. Raises UserError for fewer images than devices, and for a
    loss that is no longer finite. `say` takes lines for the user: how far it is.
    """
    source = augmented_probe.training_crops(config, dataset, batch=batch, mesh=mesh)
    total = epochs * source.steps_per_epoch
    rate = optax.cosine_decay_schedule(learning_rate * source.batch / 256, total)
    optimizer = optax.sgd(rate, momentum=0.9, nesterov=True)
    model = model.clone(bn_groups=1)
    classifier = {
        "kernel": jnp.zeros((model.feature_dim, dataset.num_classes or 0)),
        "bias": jnp.zeros(dataset.num_classes or 0),
    }
    params = {"backbone": variables["params"], "classifier": classifier}
    state = jax.device_put((params, variables["batch_stats"], optimizer.init(params)), parallel.replicated(mesh))

    def scores_of(classifier: Any, features: Float[Array, "b d"]) -> Float[Array, "b c"]:
        return features @ classifier["kernel"] + classifier["bias"][None]

    @jax.jit
    def step(state: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
        params, stats, optimizer_state = state

        def loss(params: Any) -> Any:
            inputs = normalize(augmented_probe.flip(key, images))
            features, changed = model.apply(
                {"params": params["backbone"], "batch_stats": stats}, inputs, train=True, mutable=["batch_stats"]
            )
            scores = scores_of(params["classifier"], features)
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, labels)), changed["batch_stats"]

        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return (optax.apply_updates(params, updates), stats, optimizer_state), value

    value = jnp.zeros(())
    keys = (jax.random.fold_in(jax.random.key(config.seed), number) for number in itertools.count())
    steps = progress.Countdown("fine-tuning", total, say, unit="steps")
    with prefetch.Prefetch(source, parallel.batch_sharding(mesh)) as batches:
        for (images, _), key in zip(progress.told(itertools.islice(batches, total), steps), keys, strict=False):
            state, value = step(state, images["query"], images["label"], key)
    if not jnp.isfinite(value):
        raise UserError(f"fine-tuning: the loss is {value}; lower learning_rate = {learning_rate}")

    @jax.jit
    def predict(state: Any, images: jax.Array) -> jax.Array:
        params, stats, _ = state
        variables = {"params": params["backbone"], "batch_stats": stats}
        return scores_of(params["classifier"], jnp.asarray(model.apply(variables, normalize(images), train=False)))

    return lambda images: predict(state, images)
