"""A run of this package against a checkpoint of PyTorch's MoCo, so that either can go on with the other's run.

The pieces of a `TrainState` come and go as plain trees: this module knows no method and no state.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from ncl_jax.convert.network import Network
from ncl_jax.convert.writers import bare_network
from ncl_jax.errors import UserError

Tree = Any


def from_run(
    params: Mapping[str, Tree],
    extra: Mapping[str, Tree],
    optimizer: Tree = None,
    *,
    stem: str | None = None,
    ema: float | None = None,
    epoch: int | None = None,
    test_size: tuple[int, int] | None = None,
    sgd: Mapping[str, float] | None = None,
) -> Network:
    """A `Network` of a run's `params` (name -> params of `backbone` and heads) and `extra` (`batch_stats`, and of
    MoCo `target`, `queue`, `pointer`).

    `optimizer` is the optax state of SGD with momentum (leave it out for another optimiser), `sgd` its settings by
    PyTorch's names. With `ema`, the momentum of the key encoder, the target is taken back by the one update that this
    package does at the end of a step and MoCo at the start of the next.
    """
    params, extra = jax.tree.map(np.asarray, (dict(params), dict(extra)))
    online = {name: _variables(params[name], extra["batch_stats"].get(name, {})) for name in params}
    network = bare_network(online.pop("backbone"), stem=stem)
    target = None
    if "target" in extra:
        old = extra["target"]
        weights = old["params"]
        if ema:
            unaverage = partial(_unaverage, ema=ema)
            weights = {name: jax.tree.map(unaverage, weights[name], params[name]) for name in weights}
        target = {name: _variables(weights[name], old["batch_stats"].get(name, {})) for name in weights}
    trace = optax.tree_utils.tree_get(optimizer, "trace") if optimizer is not None else None
    return dataclasses.replace(
        network,
        heads=online,
        target=target,
        queue=extra.get("queue"),
        pointer=int(extra.get("pointer", 0)),
        momentum=jax.tree.map(np.asarray, trace),
        sgd=dict(sgd or {}),
        epoch=epoch,
        test_size=test_size,
    )


def to_run(
    network: Network,
    params: Mapping[str, Tree],
    extra: Mapping[str, Tree],
    optimizer: Tree = None,
    *,
    step: int = 0,
    ema: float | None = None,
) -> tuple[Tree, Tree, Tree]:
    """The run's (params, extra, optimizer) with everything that `network` has in its place.

    Of the trees given, taken from a fresh state of the config that is to go on, only what the network lacks is kept;
    a network without a target starts with its online weights there. `optimizer` is the optax state of SGD with
    momentum, its schedule set to `step`. `ema`: see `from_run`; here the pending update is done.

    Raises UserError that names the first tensor whose shape is not the config's.
    """
    online = {"backbone": network.variables, **network.heads}
    new_params, stats = dict(params), dict(extra["batch_stats"])
    for name in params:
        if name in online:
            new_params[name] = _fit(online[name]["params"], params[name], name)
            stats[name] = _fit(online[name].get("batch_stats", {}), stats.get(name, {}), name)
    new_extra = {**extra, "batch_stats": stats}
    if "target" in extra:
        given = network.target if network.target is not None else online
        old = extra["target"]
        weights, target_stats = dict(old["params"]), dict(old["batch_stats"])
        for name in weights:
            source = given.get(name, online.get(name))
            if source is not None:
                weights[name] = _fit(source["params"], weights[name], f"target.{name}")
                target_stats[name] = _fit(source.get("batch_stats", {}), target_stats.get(name, {}), f"target.{name}")
        if ema is not None and network.target is not None:
            share = np.float32(1 - ema)
            weights = {
                name: jax.tree.map(lambda t, p: t + share * (p - t), weights[name], new_params[name])
                for name in weights
            }
        new_extra["target"] = {**old, "params": weights, "batch_stats": target_stats}
    if "queue" in extra and network.queue is not None:
        new_extra["queue"] = _fit(network.queue, extra["queue"], "queue")
        new_extra["pointer"] = np.asarray(network.pointer, np.int32)
    if optimizer is not None:
        trace = optax.tree_utils.tree_get(optimizer, "trace")
        if network.momentum is not None and trace is not None:
            given = {**trace, **{k: v for k, v in network.momentum.items() if k in trace}}
            optimizer = optax.tree_utils.tree_set(optimizer, trace=_fit(given, trace, "momentum"))
        if optax.tree_utils.tree_get(optimizer, "count") is not None:
            optimizer = optax.tree_utils.tree_set(optimizer, count=np.asarray(step, np.int32))
    return new_params, new_extra, optimizer


def _variables(params: Tree, stats: Tree) -> dict[str, Tree]:
    return {"params": params, "batch_stats": stats}


def _unaverage(target: np.ndarray, online: np.ndarray, ema: float) -> np.ndarray:
    """The target before its last update towards `online`, in float64 so that only the last bit can differ."""
    return ((target.astype(np.float64) - (1 - ema) * online) / ema).astype(np.float32)


def _fit(new: Tree, old: Tree, path: str) -> Tree:
    """`new`, once it is found to have the structure and shapes of `old`."""
    if isinstance(old, Mapping):
        if not isinstance(new, Mapping) or set(new) != set(old):
            found = sorted(new) if isinstance(new, Mapping) else "an array"
            raise UserError(f"{path}: the checkpoint has {found}, the config expects {sorted(old)}")
        return {key: _fit(new[key], old[key], f"{path}.{key}") for key in old}
    if np.shape(new) != np.shape(old):
        raise UserError(f"{path}: the checkpoint has shape {np.shape(new)}, the config expects {np.shape(old)}")
    return new
