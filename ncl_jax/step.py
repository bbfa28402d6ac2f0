"""One pretraining step, from the wire batch to the next state: pure, to be jitted once."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from ncl_jax import negatives, online_probe, optim, parallel
from ncl_jax.augment import views as views_lib
from ncl_jax.config import Config
from ncl_jax.methods import Method, contract, micro_batches
from ncl_jax.negatives import patch
from ncl_jax.state import TrainState

Batch = Mapping[str, Any]
Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]


def make_views(config: Config, key: Key[Array, ""], batch: Batch) -> dict[str, Any]:
    """Augment both crops of a wire batch and make the negatives: all that a method sees of the data."""
    query_key, key_key, negatives_key = jax.random.split(key, 3)
    count = len(batch["query"])
    query_recipe = views_lib.recipe(config.augment, view="query")
    query_keys = jax.random.split(query_key, count)
    views = {
        **batch,
        "query": views_lib.augment(query_keys, batch["query"], query_recipe),
        "key": views_lib.augment(
            jax.random.split(key_key, count), batch["key"], views_lib.recipe(config.augment, view="key")
        ),
        "query_keys": query_keys,
    }
    non_semantic = negatives.generate(negatives_key, views, config.negatives, query_recipe)
    if config.augment.seam_shift:  # after the negatives, which are made of whole views
        of_negatives = config.negatives.get("patch", patch.Settings()).patch_size
        sides = config.augment.seam_patch_size or of_negatives or patch.scaled_sides(config.data.image_size)
        for name, seam_key in zip(("query", "key"), jax.random.split(jax.random.fold_in(key, 3)), strict=True):
            views[name] = patch.with_seams(seam_key, views[name], patch_size=sides, shift=config.augment.seam_shift)
    return {
        "query": views["query"],
        "key": views["key"],
        "key_order": batch["key_order"],
        # A constant: the gradient through augmentation and synthesis means nothing.
        "non_semantic": jax.lax.stop_gradient(non_semantic) if non_semantic is not None else None,
    }


def make_step(config: Config, method: Method, optimizer: optax.GradientTransformation, *, steps_per_epoch: int) -> Step:
    """The step `(state, batch) -> (state, metrics)`; metrics are scalars that stay on the device."""
    rate = optim.schedule(config, steps_per_epoch)
    sharded = config.optim.shard_state
    warmup_steps = config.alpha_warmup_epochs * steps_per_epoch

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        views_key, method_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        views = make_views(config, views_key, batch)
        scale = jnp.minimum(state.step / warmup_steps, 1.0) if warmup_steps else 1.0
        views["alpha"] = negatives.alphas(config.negatives) * scale

        grad = micro_batches.value_and_grad(method, config.optim.accumulate)
        # Where each device keeps a share of the weights, they are gathered here, and all that is computed is as ever.
        params, extra = (state.params, state.extra) if not sharded else parallel.whole((state.params, state.extra))
        (loss, aux), grads = grad(params, extra, views, method_key)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": loss,
            **aux["metrics"],
            **contract.health(aux["embeddings"]),
            "learning_rate": rate(state.step),
        }
        probe = state.probe
        if probe is not None:
            probe, metrics["online_top1"] = online_probe.update(probe, aux["features"], batch["label"])
        new = TrainState(
            step=state.step + 1,
            key=state.key,
            params=params,
            extra=method.after_update(params, state.extra, aux, state.step),
            optimizer=optimizer_state,
            probe=probe,
        )
        return new, metrics

    return step


def compile_step(step: Step, mesh: Mesh, where: Any) -> Step:
    """The jitted step: state donated, batch split over the devices. `where`: of `state.shardings`."""
    whole, split = parallel.replicated(mesh), parallel.batch_sharding(mesh)
    return jax.jit(
        parallel.on_mesh(step, mesh), in_shardings=(where, split), out_shardings=(where, whole), donate_argnums=0
    )
