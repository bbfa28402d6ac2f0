"""The state of a run: everything that a step reads and writes, in one pytree."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key

from ncl_jax import models, online_probe, parallel
from ncl_jax.config import Config
from ncl_jax.errors import UserError
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
    """A fresh state, every array where it belongs on the mesh.

    It is made on the host: the same seed gives the same weights whatever the devices, and XLA compiles the draws, one
    for each parameter, several times sooner than for a GPU.
    """
    init = jax.jit(_init(config, method, optimizer, num_classes))
    with jax.default_device(parallel.host_device()):
        where = shardings(config, jax.eval_shape(init), mesh)
        fresh = init()
    if jax.process_count() > 1:  # processors of another kind may round otherwise
        drawn = multihost_utils.broadcast_one_to_all(dataclasses.replace(fresh, key=None))
        fresh = dataclasses.replace(drawn, key=fresh.key)
    return jax.jit(lambda tree: tree, out_shardings=where)(fresh)  # device_put refuses keys on devices of several hosts


def abstract(
    config: Config, method: Method, optimizer: optax.GradientTransformation, *, num_classes: int
) -> TrainState:
    """Shapes and dtypes of the state, without any array."""
    return jax.eval_shape(_init(config, method, optimizer, num_classes))


def shardings(config: Config, abstract: TrainState, mesh: Mesh) -> TrainState:
    """Where each array lies: whole on every device; with `optim.shard_state` parameters, optimiser, target split."""

    def lay(tree: Any, *, split: bool) -> Any:
        return jax.tree.map(lambda x: parallel.shares(mesh, x.shape if split else ()), tree)

    split = config.optim.shard_state
    return TrainState(
        step=lay(abstract.step, split=False),
        key=lay(abstract.key, split=False),
        params=lay(abstract.params, split=split),
        # Queue and batch statistics stay whole: every device reads all of them in every step.
        extra={name: lay(part, split=split and name == "target") for name, part in abstract.extra.items()},
        optimizer=lay(abstract.optimizer, split=split),
        probe=lay(abstract.probe, split=False),
    )


def _init(
    config: Config, method: Method, optimizer: optax.GradientTransformation, num_classes: int
) -> Callable[[], TrainState]:
    def init() -> TrainState:
        # Not the default generator: XLA takes a minute to compile its dozens of draws, one for each parameter.
        init_key = jax.random.key(config.seed, impl="rbg")
        run_key = jax.random.key(config.seed)
        size = config.data.image_size
        # Only shapes matter to the networks' initialisation.
        params, extra = method.init(init_key, jnp.zeros((2, size, size, 3)))
        for name, tree in (("params", params), ("extra['batch_stats']", extra.get("batch_stats", {}))):
            if "backbone" not in tree:
                raise UserError(
                    f"{type(config.method).__module__}: init gives no {name}['backbone'], by which a run is evaluated"
                )
        probe = None
        if num_classes > 1:  # of one class, as unlabelled images in a folder have, a probe says nothing
            probe = online_probe.init(models.encoder(config.model).feature_dim, num_classes)
        return TrainState(jnp.zeros((), jnp.int32), run_key, params, extra, optimizer.init(params), probe)

    return init
