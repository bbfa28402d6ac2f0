"""The state of a run: everything that a step reads and writes, in one pytree."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key

from ncl_jax import online_probe, parallel
from ncl_jax.config import Config
from ncl_jax.methods import Method


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    step: Int[Array, ""]  # optimiser steps done
    key: Key[Array, ""]  # of the run; a step folds its number in, so it never changes
    params: Any  # what the optimiser moves
    extra: Any  # the method's other state: batch statistics, EMA target, queue
    optimizer: Any
    probe: Any  # online linear probe; None for data without labels


def create(
    config: Config, method: Method, optimizer: optax.GradientTransformation, *, num_classes: int, mesh: Mesh
) -> TrainState:
    """A fresh state, made under jit so that every array is born replicated on the mesh."""

    def init(key: Key[Array, ""]) -> TrainState:
        init_key, run_key = jax.random.split(key)
        size = config.data.image_size
        # Only shapes matter to the networks' initialisation; two images satisfy batch norm.
        params, extra = method.init(init_key, jnp.zeros((2, size, size, 3)))
        features = jax.eval_shape(_features_of(method, size), params, extra)
        probe = online_probe.init(features.shape[-1], num_classes) if num_classes else None
        return TrainState(jnp.zeros((), jnp.int32), run_key, params, extra, optimizer.init(params), probe)

    with jax.set_mesh(mesh):
        return jax.jit(init, out_shardings=parallel.replicated(mesh))(jax.random.key(config.seed))


def _features_of(method: Method, size: int):
    """Backbone features of a dummy batch, for their width alone; never run."""

    def features(params, extra):
        views = {
            "query": jnp.zeros((2, size, size, 3)),
            "key": jnp.zeros((2, size, size, 3)),
            "key_order": jnp.arange(2),
            "non_semantic": None,
            "alpha": jnp.zeros(0),
        }
        return method.loss(params, extra, views, jax.random.key(0))[1]["features"]

    return features
